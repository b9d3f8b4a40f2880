//! What the queries of a flow read: datasets of the pipeline, tables in its storage, files.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use deltaworks_lake::feed;
use deltaworks_spark::diagnostic::{Diagnostic, SourceLocation};
use deltaworks_spark::relation::{
    ObjectName, ReadOptions, RelationRequest, RelationResolver, TimeTravel, UnresolvedRelation,
};
use deltaworks_spark::sql_function::SqlFunction;
use deltaworks_spark::streaming::{StreamSource, StreamingTable};
use deltaworks_spark::{Error, Result};
use parking_lot::Mutex;
use url::Url;

use super::dataset::{self, DatasetOpener, DatasetStream, DatasetTable};
use super::pending::is_pending;
use super::resolve::{ResolvedDataset, Resolver, Trail};
use super::suggest::nearest;
use crate::definitions::{Flow, OutputKind};
use crate::name::{DatasetName, Namespace};
use crate::update::target::is_private;
use crate::views;

/// Resolves the reads of one flow.
pub struct FlowRelations<'a> {
    pub(super) resolver: &'a Resolver<'a>,
    pub(super) namespace: &'a Namespace,
    /// Whose inferred schemas are kept; `None` for queries that are not flows.
    pub(super) flow: Option<&'a Flow>,
    /// The outputs being resolved, for finding cycles.
    pub(super) trail: Trail,
    /// The datasets named so far, views included.
    pub(super) references: Mutex<Vec<DatasetName>>,
    /// The first dataset named whose query is not known yet.
    pub(super) pending: Mutex<Option<DatasetName>>,
    /// How many stored views this is the query of, one standing on the other.
    pub(super) depth: usize,
}

impl<'a> FlowRelations<'a> {
    /// The relations of `flow`.
    pub(super) fn of_flow(resolver: &'a Resolver<'a>, flow: &'a Flow, trail: Trail) -> Self {
        Self {
            resolver,
            namespace: &flow.namespace,
            flow: Some(flow),
            trail,
            references: Mutex::new(Vec::new()),
            pending: Mutex::default(),
            depth: 0,
        }
    }

    async fn table(
        &self,
        name: &ObjectName,
        options: &ReadOptions,
        time_travel: Option<&TimeTravel>,
        streaming: bool,
    ) -> Result<LogicalPlan> {
        if let [format, path] = name.0.as_slice()
            && is_path_format(format)
            && time_travel.is_none()
        {
            return self.source(Some(format), std::slice::from_ref(path), None, options, (streaming, None)).await;
        }
        let qualified = DatasetName::resolve(name, self.namespace)?;
        let found = self.resolver.dataset(&qualified, &self.trail).await;
        if found.as_ref().is_err_and(is_pending) {
            self.pending.lock().get_or_insert(qualified.clone());
        }
        match found? {
            Some(dataset) => {
                self.references.lock().push(dataset.name.clone());
                self.pipeline_dataset(&dataset, options, time_travel, streaming)
            }
            None => self.stored_table(name, qualified, options, time_travel, streaming).await,
        }
    }

    fn pipeline_dataset(
        &self,
        dataset: &ResolvedDataset,
        options: &ReadOptions,
        time_travel: Option<&TimeTravel>,
        streaming: bool,
    ) -> Result<LogicalPlan> {
        let name = &dataset.name;
        self.check_reader(dataset)?;
        match dataset.kind {
            OutputKind::Sink => Err(Error::user(format!("sink `{}` cannot be read", name.name))
                .with_help("A sink is only written; read the dataset that feeds it.")),
            kind if kind.is_view() => {
                let plan = dataset.instance()?;
                match (streaming, deltaworks_spark::streaming::is_streaming(&plan)) {
                    (true, false) => Err(not_a_stream(&name.name, "is a view over a batch query")),
                    _ => Ok(plan),
                }
            }
            OutputKind::StreamingTable | OutputKind::Table if streaming => {
                let environment = Arc::clone(&self.resolver.environment);
                let schema = match deltaworks_sources::streams_changes(options, &environment.source_context(None))? {
                    true if dataset.records_changes() => feed::feed_schema(&dataset.schema),
                    true => return Err(feed::not_recorded(&name.name)),
                    false => Arc::clone(&dataset.schema),
                };
                dataset::streaming_scan(DatasetStream {
                    name: name.clone(),
                    schema,
                    opener: Arc::new(TableOpener {
                        environment,
                        location: dataset.location.clone().ok_or_else(|| Error::internal("a view has no table"))?,
                        options: options.clone(),
                    }),
                })
            }
            _ if streaming => {
                Err(not_a_stream(&name.name, "is a materialized view, whose rows may be rewritten by every update"))
            }
            _ if deltaworks_sources::reads_changes(options)? => Err(Error::unsupported(format!(
                "a batch read of the changes of `{}`, a dataset of the pipeline,",
                name.name
            ))
            .with_help("Read its changes as a stream.")),
            _ => dataset::batch_scan(DatasetTable {
                name: name.clone(),
                schema: Arc::clone(&dataset.schema),
                time_travel: time_travel.cloned(),
            }),
        }
    }

    /// A view that is published can be read by others only if they can see what it reads.
    fn check_reader(&self, read: &ResolvedDataset) -> Result<()> {
        let Some(reader) = self.flow.and_then(|flow| self.resolver.published_view(&flow.target)) else { return Ok(()) };
        let (view, name) = (&reader.name.name, &read.name.name);
        if read.kind == OutputKind::TemporaryView {
            return Err(Error::user(format!("view `{view}` is published, but reads the temporary view `{name}`"))
                .with_condition("INVALID_TEMP_OBJ_REFERENCE")
                .with_help(format!("Declare `{view}` as a TEMPORARY VIEW, or `{name}` without TEMPORARY.")));
        }
        if read.is_private() {
            self.resolver.warn(
                Diagnostic::warning(format!(
                    "view `{view}` is published, but can be read by this pipeline only: `{name}` is private"
                ))
                .with_help(format!("Leave PRIVATE out of `{name}`, or declare `{view}` as a TEMPORARY VIEW."))
                .at(reader.location.clone()),
            );
        }
        Ok(())
    }

    /// A view or a table that is stored but not defined by the pipeline (any more).
    async fn stored_table(
        &self,
        written: &ObjectName,
        name: DatasetName,
        options: &ReadOptions,
        time_travel: Option<&TimeTravel>,
        streaming: bool,
    ) -> Result<LogicalPlan> {
        let environment = &self.resolver.environment;
        if let Some(view) = views::read(&environment.storage, &name)?
            && !self.resolver.has_retired(&view)
        {
            return match (streaming, time_travel) {
                (true, _) => Err(not_a_stream(&name.name, "is a view over a batch query")),
                (_, Some(_)) => Err(Error::user(format!("view `{written}` has no versions to read"))
                    .with_condition("UNSUPPORTED_FEATURE.TIME_TRAVEL")
                    .with_help("Read a version of the table that the view reads.")),
                _ => self.stored_view(&view).await,
            };
        }
        let is_event_log = environment.event_log.as_ref() == Some(&name);
        let location =
            if is_event_log { environment.storage.event_log()? } else { environment.storage.find_table(&name)? };
        let Some(table) = environment.lake.open(&location, time_travel.cloned()).await? else {
            return if is_event_log { self.event_log().await } else { Err(self.not_found(written)) };
        };
        if is_private(&table.definition()?) {
            return Err(Error::user(format!(
                "The table or view `{written}` is private to the pipeline that defines it"
            ))
            .with_condition("TABLE_OR_VIEW_NOT_FOUND")
            .with_help("Read a dataset that the pipeline publishes, or leave out PRIVATE (private=True)."));
        }
        if streaming {
            let source = delta_stream(&location, options, &self.resolver.environment).await?;
            return dataset::scan(name.name.clone(), Arc::new(StreamingTable::new(source)));
        }
        let context = environment.source_context(None);
        dataset::scan(name.name.clone(), deltaworks_sources::delta_rows(&table, options, &context).await?)
    }

    fn not_found(&self, written: &ObjectName) -> Error {
        let shown = written.to_string();
        // `dlt.read` adds the virtual schema; its user never wrote it.
        let shown = shown.strip_prefix("LIVE.").unwrap_or(&shown);
        let error = Error::user(format!("The table or view `{shown}` cannot be found"))
            .with_condition("TABLE_OR_VIEW_NOT_FOUND");
        let last = written.0.last().map(String::as_str).unwrap_or_default();
        let mut names = self.resolver.dataset_names();
        names.extend(self.resolver.environment.storage.own_tables());
        match nearest(last, names.iter().map(String::as_str)) {
            Some(near) => error.with_help(format!("Did you mean `{near}`?")),
            None => error.with_help("Check the name; datasets of the pipeline and tables in its storage can be read."),
        }
    }

    async fn source(
        &self,
        format: Option<&str>,
        paths: &[String],
        schema: Option<SchemaRef>,
        options: &ReadOptions,
        (streaming, location): (bool, Option<&SourceLocation>),
    ) -> Result<LogicalPlan> {
        let schema_store = match self.flow {
            Some(flow) if streaming => self.resolver.schema_store(flow).await?,
            _ => None,
        };
        let context = self.resolver.environment.source_context(schema_store);
        self.warn_of_misspelt(format, options, location);
        let (declared, options) = declared_schema(options)?;
        let schema = schema.or(declared);
        let options = &options;
        if streaming {
            let source = deltaworks_sources::stream_relation(format, paths, schema, options, &context).await?;
            let name = format.unwrap_or("files").to_owned();
            return dataset::scan(name, Arc::new(StreamingTable::new(source)));
        }
        deltaworks_sources::batch_relation(format, paths, schema, options, &context).await
    }

    /// An option that no reader knows has no effect; one that looks like a known one is meant to have it.
    fn warn_of_misspelt(&self, format: Option<&str>, options: &ReadOptions, location: Option<&SourceLocation>) {
        for key in deltaworks_sources::unknown_options(format, options) {
            let bare = deltaworks_sources::bare_option(key);
            let Some(near) = nearest(bare, deltaworks_sources::known_options(format)) else { continue };
            let mut warning = Diagnostic::warning(format!("option `{key}` is not known and has no effect"))
                .with_condition("UNKNOWN_READER_OPTION")
                .with_help(format!("Did you mean `{near}`?"));
            if let Some(location) = location {
                warning = warning.at(location.clone());
            }
            self.resolver.warn(warning);
        }
    }

    async fn event_log(&self) -> Result<LogicalPlan> {
        let location = self.resolver.environment.storage.event_log()?;
        let log: Arc<dyn TableProvider> = match self.resolver.environment.lake.open(&location, None).await? {
            Some(table) => table.provider()?,
            // The first update of a pipeline begins with an empty log.
            None if self.flow.is_some() => {
                Arc::new(EmptyTable::new(deltaworks_lake::schema::to_delta(&crate::event::schema())?))
            }
            None => {
                return Err(
                    Error::user("there is no event log yet").with_help("Run the pipeline once: `deltaworks run`.")
                );
            }
        };
        dataset::scan("event_log".to_owned(), log)
    }
}

#[async_trait]
impl RelationResolver for FlowRelations<'_> {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        let resolved = match &request.relation {
            UnresolvedRelation::Table { name, options, time_travel } => {
                self.table(name, options, time_travel.as_ref(), request.streaming).await
            }
            UnresolvedRelation::Source { format, paths, schema, options } => {
                let place = (request.streaming, request.location.as_ref());
                self.source(format.as_deref(), paths, schema.clone(), options, place).await
            }
            UnresolvedRelation::EventLog { pipeline_id, .. } => match pipeline_id {
                Some(id) if *id != self.resolver.environment.pipeline_id => {
                    Err(Error::unsupported(format!("the event log of another pipeline (`{id}`)"))
                        .with_help(format!("The id of this pipeline is `{}`.", self.resolver.environment.pipeline_id)))
                }
                _ => self.event_log().await,
            },
        };
        resolved.map_err(|error| match &request.location {
            Some(location) => error.at(location.clone()),
            None => error,
        })
    }

    async fn function(&self, name: &ObjectName) -> Result<Option<Arc<SqlFunction>>> {
        self.resolver.environment.function(name, self.namespace)
    }
}

/// Opens datasets of the pipeline as streams, when their tables exist.
#[derive(Debug)]
struct TableOpener {
    environment: Arc<super::Environment>,
    location: Url,
    options: ReadOptions,
}

#[async_trait]
impl DatasetOpener for TableOpener {
    async fn source(&self) -> Result<Arc<dyn StreamSource>> {
        delta_stream(&self.location, &self.options, &self.environment).await
    }
}

async fn delta_stream(
    location: &Url,
    options: &ReadOptions,
    environment: &super::Environment,
) -> Result<Arc<dyn StreamSource>> {
    deltaworks_sources::delta_stream(location, options, &environment.source_context(None)).await
}

/// `read_files(…, schema => 'id INT')` gives the schema among the options.
fn declared_schema(options: &ReadOptions) -> Result<(Option<SchemaRef>, ReadOptions)> {
    let schema = options.get("schema").map(deltaworks_spark::types::parse_schema).transpose()?.map(Arc::new);
    let others = options.iter().filter(|(key, _)| !key.eq_ignore_ascii_case("schema")).collect();
    Ok((schema, others))
}

fn not_a_stream(name: &str, why: &str) -> Error {
    Error::user(format!("`{name}` cannot be read as a stream: it {why}"))
        .with_condition("INVALID_FLOW_QUERY_TYPE.STREAMING_READ_OF_BATCH_DATASET")
        .with_help("Read it without STREAM (dlt.read instead of dlt.read_stream).")
}

fn is_path_format(format: &str) -> bool {
    ["delta", "parquet", "json", "csv", "text", "avro", "binaryfile"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(format))
}
