//! From definitions to a graph: each output is resolved once, its inputs first, all problems collected.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use deltaworks_lake::feed;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::connect::artifacts::Artifacts;
use deltaworks_spark::diagnostic::{Diagnostic, Severity, SourceLocation};
use deltaworks_spark::python::NamedFunction;
use deltaworks_spark::sql_function::SqlFunctions;
use deltaworks_spark::streaming::is_streaming;
use deltaworks_spark::{Error, Result, connect, sql};
use futures::FutureExt;
use futures::future::BoxFuture;
use indexmap::IndexMap;
use parking_lot::Mutex;
use url::Url;

use super::checks::{
    WITHOUT_FLOW, check_flows, check_trigger_intervals, duplicate, final_kind, shared_locations, table_properties,
    unknown_target,
};
use super::environment::Environment;
use super::pending::{self, is_pending, waiting_on};
use super::relations::FlowRelations;
use super::schema_store::schema_store;
use super::{
    Graph, PendingFlow, PendingOutput, ResolvedFlow, ResolvedOutput, changes, dataset, grouping, guard, lints, order,
    rules, schema, sinks, snapshots, streams,
};
use crate::definitions::cdc::ChangeSource;
use crate::definitions::{Definitions, Flow, FlowQuery, Output, OutputKind};
use crate::expectation::aggregate::Scope;
use crate::identity;
use crate::name::DatasetName;
use crate::update::selection::is_protected;
use crate::views::StoredView;

/// Resolves everything that `definitions` declare.
///
/// The graph holds what could be resolved; the diagnostics say what could not, all of it. A flow that
/// cannot be resolved only because its input cannot is not reported: the cause is.
pub async fn resolve(definitions: &Definitions, environment: &Arc<Environment>) -> (Graph, Vec<Diagnostic>) {
    let mut diagnostics = definitions.diagnostics.clone();
    let resolver = Resolver::new(definitions, Arc::clone(environment), &mut diagnostics);
    for output in resolver.outputs.values() {
        // The outcome is in the resolver's memory; the error was recorded where it arose.
        let _outcome = resolver.dataset(&output.name, &Trail::default()).await;
    }
    diagnostics.extend(resolver.diagnostics.lock().drain(..));
    if definitions.outputs.iter().all(|output| output.kind == OutputKind::TemporaryView) && diagnostics.is_empty() {
        diagnostics.push(
            Diagnostic::error("the pipeline defines no table, materialized view or sink")
                .with_condition("RUN_EMPTY_PIPELINE")
                .with_help("Define a dataset: CREATE OR REFRESH MATERIALIZED VIEW … or @dlt.table."),
        );
    }
    let graph = resolver.into_graph(definitions);
    diagnostics.extend(shared_locations(&graph, environment));
    diagnostics.extend(pending::cycles(&graph));
    diagnostics.sort_by_key(|diagnostic| {
        diagnostic.location.as_ref().map(|location| (location.file.clone(), location.line, location.column))
    });
    diagnostics.dedup();
    (graph, diagnostics)
}

/// The outputs being resolved, outermost first.
#[derive(Debug, Clone, Default)]
pub(super) struct Trail(Vec<DatasetName>);

impl Trail {
    fn enter(&self, name: &DatasetName) -> Self {
        let mut trail = self.0.clone();
        trail.push(name.clone());
        Self(trail)
    }

    /// The cycle that reading `name` would close, as `a -> b -> a`.
    fn cycle(&self, name: &DatasetName) -> Option<String> {
        let start = self.0.iter().position(|open| open == name)?;
        let path: Vec<&str> = self.0[start..].iter().chain([name]).map(|name| name.name.as_str()).collect();
        Some(path.join(" -> "))
    }
}

/// A dataset as those who read it see it.
pub(super) struct ResolvedDataset {
    pub(super) name: DatasetName,
    pub(super) kind: OutputKind,
    pub(super) schema: SchemaRef,
    /// Where it is stored; `None` for views.
    pub(super) location: Option<Url>,
    output: Output,
    pub(super) flows: Vec<ResolvedFlow>,
    changes: Option<super::Changes>,
    ctx: datafusion::prelude::SessionContext,
}

impl ResolvedDataset {
    /// Whether only its pipeline can read it.
    pub(super) fn is_private(&self) -> bool {
        self.output.private
    }

    /// Whether its table records which rows commits change.
    pub(super) fn records_changes(&self) -> bool {
        self.output.properties.get(feed::ENABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The plan of a view for one reader, with expectation counters of its own.
    pub(super) fn instance(&self) -> Result<LogicalPlan> {
        let [flow] = self.flows.as_slice() else {
            return Err(Error::internal(format!("view `{}` has not exactly one query", self.name)));
        };
        guard_view(flow.plan.clone(), &self.output, &self.ctx)
    }
}

type Outcome = std::result::Result<Arc<ResolvedDataset>, Unresolved>;

/// Why there is no plan for an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unresolved {
    /// A problem, which has been reported.
    Failed,
    /// It needs other datasets to be up to date first.
    Pending,
}

/// Resolves outputs on demand and remembers the outcome.
pub(super) struct Resolver<'a> {
    pub(super) environment: Arc<Environment>,
    outputs: IndexMap<DatasetName, &'a Output>,
    flows: HashMap<DatasetName, Vec<&'a Flow>>,
    /// The user's functions in Python that SQL knows by name.
    functions: &'a [NamedFunction],
    /// The pipeline's functions in SQL.
    sql_functions: SqlFunctions,
    /// Outputs without a flow because of a problem that has been reported.
    failed: &'a [DatasetName],
    /// Datasets whose definition could not be read, which has been reported.
    broken: &'a [DatasetName],
    resolved: Mutex<HashMap<DatasetName, Outcome>>,
    pending: Mutex<IndexMap<DatasetName, PendingOutput>>,
    diagnostics: Mutex<Vec<Diagnostic>>,
}

impl<'a> Resolver<'a> {
    /// Indexes the definitions and reports duplicates and flows without a target.
    pub(super) fn new(
        definitions: &'a Definitions,
        environment: Arc<Environment>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut outputs: IndexMap<DatasetName, &Output> = IndexMap::new();
        for output in &definitions.outputs {
            if let Some(first) = outputs.get(&output.name) {
                diagnostics.push(duplicate("dataset", "OUTPUT", &output.name, &first.location, &output.location));
            } else {
                outputs.insert(output.name.clone(), output);
            }
        }
        let mut names: HashMap<&DatasetName, &Flow> = HashMap::new();
        let mut flows: HashMap<DatasetName, Vec<&Flow>> = HashMap::new();
        for flow in &definitions.flows {
            if let Some(first) = names.insert(&flow.name, flow) {
                // Two definitions of one dataset have been reported as such.
                if first.name != first.target || flow.name != flow.target {
                    diagnostics.push(duplicate("flow", "FLOW", &flow.name, &first.location, &flow.location));
                }
                continue;
            }
            if !outputs.contains_key(&flow.target) {
                if definitions.broken.contains(&flow.target) {
                    continue;
                }
                diagnostics.push(unknown_target(flow, outputs.keys()));
                continue;
            }
            flows.entry(flow.target.clone()).or_default().push(flow);
        }
        Self {
            environment,
            outputs,
            flows,
            functions: &definitions.functions,
            sql_functions: definitions.sql_functions.clone(),
            failed: &definitions.failed,
            broken: &definitions.broken,
            resolved: Mutex::default(),
            pending: Mutex::default(),
            diagnostics: Mutex::default(),
        }
    }

    /// Where `flow` keeps the schemas it infers.
    pub(super) async fn schema_store(&self, flow: &Flow) -> Result<Option<Url>> {
        let protected = self.outputs.get(&flow.target).is_some_and(|output| is_protected(output));
        schema_store(&self.environment, &flow.name, &flow.target, protected).await
    }

    /// The names of the pipeline's datasets, as people write them.
    pub(super) fn dataset_names(&self) -> Vec<String> {
        self.outputs.keys().map(|name| name.display_in(&self.environment.namespace)).collect()
    }

    /// The view of that name, if it is one that others can read.
    pub(super) fn published_view(&self, name: &DatasetName) -> Option<&'a Output> {
        self.outputs.get(name).copied().filter(|output| output.kind == OutputKind::PersistedView)
    }

    /// Whether the pipeline has published `view` and does not define it any more: the next update removes it.
    pub(super) fn has_retired(&self, view: &StoredView) -> bool {
        !self.outputs.is_empty() && view.pipeline_id.as_ref() == Some(&self.environment.pipeline_id)
    }

    /// The dataset of that name; `None` if the pipeline defines none.
    ///
    /// # Errors
    /// If it cannot be resolved. The cause has been reported.
    pub(super) fn dataset<'b>(
        &'b self,
        name: &'b DatasetName,
        trail: &'b Trail,
    ) -> BoxFuture<'b, Result<Option<Arc<ResolvedDataset>>>> {
        async move {
            let Some(output) = self.outputs.get(name) else {
                return if self.broken.contains(name) { Err(upstream_failed(name)) } else { Ok(None) };
            };
            if let Some(cycle) = trail.cycle(name) {
                return Err(Error::user(format!("the pipeline has a cycle: {cycle}"))
                    .with_condition("PIPELINE_GRAPH_CYCLE")
                    .with_help("A dataset cannot read itself, directly or through others."));
            }
            let known = self.resolved.lock().get(name).cloned();
            let outcome = match known {
                Some(outcome) => outcome,
                None => {
                    let outcome = self.resolve_output(output, &trail.enter(name)).await;
                    self.resolved.lock().insert(name.clone(), outcome.clone());
                    outcome
                }
            };
            match outcome {
                Ok(dataset) => Ok(Some(dataset)),
                Err(Unresolved::Failed) => Err(upstream_failed(name)),
                Err(Unresolved::Pending) => Err(waiting_on(name)),
            }
        }
        .boxed()
    }

    async fn resolve_output(&self, output: &'a Output, trail: &Trail) -> Outcome {
        let declared = self.flows.get(&output.name).map(Vec::as_slice).unwrap_or_default();
        let mut flows = Vec::with_capacity(declared.len());
        let mut waiting = Vec::new();
        let mut failed = false;
        for flow in declared {
            if flow.query.is_deferred() {
                waiting.push(PendingFlow { flow: (*flow).clone(), waits_for: flow.query.waits_for().cloned() });
                continue;
            }
            let relations = FlowRelations::of_flow(self, flow, trail.clone());
            let resolved = self.resolve_flow(flow, &relations).await;
            match (resolved, relations.pending.into_inner()) {
                (Ok(resolved), _) => flows.push(resolved),
                (Err(error), Some(waits_for)) if is_pending(&error) => {
                    waiting.push(PendingFlow { flow: (*flow).clone(), waits_for: Some(waits_for) });
                }
                (Err(error), _) => {
                    failed = true;
                    self.report(error, &flow.location);
                }
            }
        }
        if failed || (flows.is_empty() && self.failed.contains(&output.name)) {
            return Err(Unresolved::Failed);
        }
        if !waiting.is_empty() {
            let pending = PendingOutput { output: output.clone(), flows: waiting };
            self.pending.lock().insert(output.name.clone(), pending);
            return Err(Unresolved::Pending);
        }
        self.assemble(output, flows).map(Arc::new).map_err(|error| {
            self.report(error, &output.location);
            Unresolved::Failed
        })
    }

    async fn resolve_flow(&self, flow: &'a Flow, relations: &FlowRelations<'_>) -> Result<ResolvedFlow> {
        let conf = self.flow_conf(flow)?;
        let ctx = self.session(&conf)?;
        let mut changes = None;
        let plan = match &flow.query {
            FlowQuery::Sql(query) => sql::plan_query(&ctx, query, relations).await?,
            FlowQuery::Relation(relation) => {
                let artifacts = Artifacts::with_python(Some(Arc::clone(&self.environment.python)));
                connect::plan::plan_relation_with(&ctx, relation, relations, &artifacts).await?
            }
            FlowQuery::AutoCdc(cdc) => {
                let target = self.outputs.get(&flow.target).copied();
                let (source, version) = match &cdc.source {
                    ChangeSource::Function(function) => {
                        let (source, version) =
                            snapshots::source(&ctx, cdc, function, target, relations, &self.environment).await?;
                        (source, Some(version))
                    }
                    _ => (changes::source(&ctx, cdc, flow.once, relations).await?, None),
                };
                let (plan, how) = changes::plan(&ctx, cdc, source, version)?;
                changes = Some(how);
                plan
            }
            FlowQuery::Deferred { waits_for } => return Err(waiting_on(waits_for)),
        };
        grouping::check(&plan, &flow.query)?;
        let mut plan = schema::selected(plan)?;
        if let Some(output) = self.outputs.get(&flow.target).filter(|output| output.name == flow.name) {
            plan = schema::labelled(plan, output)?;
        }
        let streaming = is_streaming(&plan);
        if streaming {
            streams::check(&plan, &flow.query)?;
        }
        let mut references = std::mem::take(&mut *relations.references.lock());
        references.dedup();
        let reads = dataset::dataset_reads(&plan)?;
        Ok(ResolvedFlow { flow: flow.clone(), plan, changes, streaming, reads, references, conf })
    }

    fn flow_conf(&self, flow: &Flow) -> Result<SparkConf> {
        let mut conf = self.environment.conf.clone();
        for (key, value) in &flow.conf {
            conf.set(key, value)?;
        }
        Ok(conf)
    }

    /// Checks that the flows fit the output, and puts expectations and the table's columns around them.
    fn assemble(&self, output: &'a Output, mut flows: Vec<ResolvedFlow>) -> Result<ResolvedDataset> {
        let kind = final_kind(output, &flows)?;
        check_flows(output, kind, &flows)?;
        schema::check_defaults(output, kind)?;
        let location = self.location(output, kind)?;
        let ctx = self.session(&self.environment.conf)?;
        let changes = changes::of_output(output, &flows)?;
        identity::check(output, kind, changes.is_some())?;
        let queries: Vec<SchemaRef> = flows
            .iter()
            .map(|flow| match &changes {
                Some(changes) => changes::columns(&flow.plan, changes),
                None => query_schema(&flow.plan),
            })
            .collect();
        // Views, and sinks that are no tables, take the rows of each flow as they are.
        let as_they_are = kind.is_view() || sinks::is_handed_rows(output);
        let schema = if as_they_are {
            queries.first().cloned().unwrap_or_else(|| Arc::new(Schema::empty()))
        } else {
            let places: Vec<&SourceLocation> = flows.iter().map(|flow| &flow.flow.location).collect();
            let schema = schema::of_output(output, &queries, &places)?;
            rules::check_table(output, &schema, &ctx)?;
            schema
        };
        if as_they_are {
            // Expectations of a view are put around its query for each reader; here they are only checked.
            for flow in &flows {
                guard_view(flow.plan.clone(), output, &ctx)?;
            }
        } else {
            let dataset = output.name.display_in(&self.environment.namespace);
            for flow in &mut flows {
                if let Some(changes) = &changes {
                    flow.plan = changes::events(flow, output, changes, &schema, &dataset, &ctx)
                        .map_err(|error| error.at(flow.flow.location.clone()))?;
                    continue;
                }
                let (guarded, on_all_rows) = guard::guard_rows(flow.plan.clone(), output, &dataset, &ctx, None)?;
                let rows =
                    schema::conform(guarded, &schema, &ctx).map_err(|error| error.at(flow.flow.location.clone()))?;
                identity::check_mode(&rows).map_err(|error| error.at(flow.flow.location.clone()))?;
                flow.plan = guard::guard_dataset(rows, &on_all_rows, &dataset, Scope::Stored, &ctx)?;
            }
        }
        for flow in &flows {
            analyse(&flow.plan, &ctx).map_err(|error| error.at(flow.flow.location.clone()))?;
        }
        self.lint(&flows);
        let schema = schema::stored(&schema);
        let mut output = output.clone();
        check_trigger_intervals(&output, &flows, &self.environment)?;
        if !kind.is_view() {
            let (properties, ignored) = table_properties(&output)?;
            output.properties = properties;
            self.diagnostics.lock().extend(ignored);
        }
        Ok(ResolvedDataset { name: output.name.clone(), kind, schema, location, output, flows, changes, ctx })
    }

    /// A session with the pipeline's own functions.
    fn session(&self, conf: &SparkConf) -> Result<SessionContext> {
        let ctx = self.environment.sessions.context(conf)?;
        self.functions.iter().for_each(|function| function.register(&ctx));
        Ok(self.sql_functions.clone().in_session(&ctx))
    }

    fn location(&self, output: &Output, kind: OutputKind) -> Result<Option<Url>> {
        if kind.is_view() {
            return Ok(None);
        }
        if kind == OutputKind::Sink {
            return sinks::location(output, &self.environment).map(Some);
        }
        self.environment.table_location(output).map(Some)
    }

    /// Warnings that do not stop the update.
    fn lint(&self, flows: &[ResolvedFlow]) {
        self.diagnostics.lock().extend(flows.iter().filter_map(changes::lint));
        for flow in flows {
            let streams = flow.reads.iter().filter(|read| read.streaming && !read.changes);
            let resolved = self.resolved.lock();
            let changed = streams.filter(|read| {
                resolved
                    .get(&read.name)
                    .is_some_and(|outcome| outcome.as_ref().is_ok_and(|read| read.changes.is_some()))
            });
            self.diagnostics.lock().extend(changed.map(|read| changes::streamed(flow, &read.name)));
        }
        self.diagnostics.lock().extend(flows.iter().flat_map(lints::lenient_casts));
    }

    pub(super) fn warn(&self, warning: Diagnostic) {
        self.diagnostics.lock().push(warning);
    }

    fn report(&self, error: Error, location: &SourceLocation) {
        if error.condition() == Some(UPSTREAM_FAILED) {
            return;
        }
        let mut diagnostics = self.diagnostics.lock();
        if error.diagnostics().is_empty() {
            diagnostics.push(error.at(location.clone()).to_diagnostic());
        } else {
            diagnostics.extend(error.diagnostics().iter().cloned());
        }
    }

    /// What stands behind the failure of an upstream dataset: one that is not fully defined yet, or its first problem.
    pub(super) fn cause(&self, error: Error) -> Error {
        if error.condition() != Some(UPSTREAM_FAILED) {
            return error;
        }
        let diagnostics = self.diagnostics.lock();
        if let Some(missing) = self.outputs.keys().find(|name| !self.flows.contains_key(*name))
            && diagnostics.iter().any(|problem| problem.condition.as_deref() == Some(WITHOUT_FLOW))
        {
            return connect::host::dataset_not_ready(&missing.name);
        }
        match diagnostics.first() {
            Some(problem) => Error::user(problem.message.clone()).context(error.message().to_owned()),
            None => error,
        }
    }

    /// The first problem found.
    pub(super) fn first_problem(&self) -> Option<Diagnostic> {
        self.diagnostics.lock().iter().find(|problem| problem.severity == Severity::Error).cloned()
    }

    fn into_graph(self, definitions: &Definitions) -> Graph {
        let mut resolved = self.resolved.into_inner();
        let mut outputs = IndexMap::new();
        let mut flows = IndexMap::new();
        for output in &definitions.outputs {
            let Some(Ok(dataset)) = resolved.remove(&output.name) else { continue };
            let names = dataset.flows.iter().map(|flow| flow.flow.name.clone()).collect();
            outputs.insert(
                output.name.clone(),
                ResolvedOutput {
                    output: output.clone(),
                    kind: dataset.kind,
                    schema: Arc::clone(&dataset.schema),
                    location: dataset.location.clone(),
                    flows: names,
                    changes: dataset.changes.clone(),
                    merging: Arc::default(),
                },
            );
            for flow in &dataset.flows {
                flows.insert(flow.flow.name.clone(), flow.clone());
            }
        }
        let pending = self.pending.into_inner();
        Graph { outputs, flows: order::topological(flows), pending }
    }
}

/// The condition of errors whose cause has been reported for another dataset.
pub(super) const UPSTREAM_FAILED: &str = "DELTAWORKS_UPSTREAM_NOT_RESOLVED";

fn upstream_failed(name: &DatasetName) -> Error {
    Error::user(format!("dataset `{}` could not be resolved", name.name)).with_condition(UPSTREAM_FAILED)
}

/// The query of a view with its expectations, for one reader.
fn guard_view(plan: LogicalPlan, output: &Output, ctx: &datafusion::prelude::SessionContext) -> Result<LogicalPlan> {
    let name = &output.name.name;
    let (rows, on_all_rows) = guard::guard_rows(plan, output, name, ctx, None)?;
    guard::guard_dataset(rows, &on_all_rows, name, Scope::Passing, ctx)
}

fn query_schema(plan: &LogicalPlan) -> SchemaRef {
    Arc::new(plan.schema().as_arrow().clone())
}

/// Finds what only the analysis of a whole plan tells, such as a UNION of types that do not meet.
fn analyse(plan: &LogicalPlan, ctx: &SessionContext) -> Result<()> {
    let state = ctx.state();
    state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    Ok(())
}
