//! What planning needs at hand, and the dispatch over the kinds of relations.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::artifacts::Artifacts;
use super::correlated::{Waiting, may_be_correlated};
use super::dropped::passes_along;
use super::expression::required;
use super::faces;
use super::proto::{self, Relation, relation::RelType};
use super::scope::{Names, Scope};
use crate::conf::SparkConf;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::relation::{ObjectName, RelationRequest, RelationResolver, UnresolvedRelation};
use crate::sql_function::SqlFunction;
use crate::streaming::is_streaming;

/// Plans the relations of one request.
#[derive(Clone)]
pub(super) struct Planner<'a> {
    pub ctx: &'a SessionContext,
    pub state: Arc<SessionState>,
    pub resolver: &'a dyn RelationResolver,
    pub artifacts: &'a Artifacts,
    pub conf: SparkConf,
    pub names: Arc<Names>,
    /// The relations that subquery expressions refer to by plan id.
    pub subqueries: HashMap<i64, LogicalPlan>,
    /// Those that need the columns of the query around them.
    pub waiting: Waiting,
    /// The query around the one being planned.
    pub outer: Option<Arc<Scope>>,
    /// Whether projections pass along what they leave out, for the filter or sort above them.
    pub keeps_dropped: bool,
}

impl<'a> Planner<'a> {
    /// A planner over a session.
    pub fn new(ctx: &'a SessionContext, resolver: &'a dyn RelationResolver, artifacts: &'a Artifacts) -> Self {
        Self {
            ctx,
            state: Arc::new(ctx.state()),
            resolver,
            artifacts,
            conf: faces::conf_of(ctx),
            names: Arc::new(Names::default()),
            subqueries: HashMap::new(),
            waiting: Waiting::default(),
            outer: None,
            keeps_dropped: false,
        }
    }

    fn with<'b>(
        &self,
        resolver: &'b dyn RelationResolver,
        subqueries: HashMap<i64, LogicalPlan>,
        waiting: Waiting,
    ) -> Planner<'b>
    where
        'a: 'b,
    {
        Planner {
            ctx: self.ctx,
            state: Arc::clone(&self.state),
            resolver,
            artifacts: self.artifacts,
            conf: self.conf.clone(),
            names: Arc::clone(&self.names),
            subqueries,
            waiting,
            outer: self.outer.clone(),
            keeps_dropped: false,
        }
    }

    /// The scope of a relation: its plan and the names of its columns.
    pub fn scope<'b>(&'b self, relation: &'b Relation) -> BoxFuture<'b, Result<Scope>> {
        async move {
            let kind = relation.rel_type.as_ref().ok_or_else(|| Error::internal("a relation without a kind"))?;
            let common = relation.common.as_ref();
            let narrow;
            let planner = match self.keeps_dropped && !passes_along(kind) {
                true => {
                    narrow = Planner { keeps_dropped: false, ..self.clone() };
                    &narrow
                }
                false => self,
            };
            let scope = planner.dispatch(kind).await.map_err(|error| match common.and_then(origin) {
                Some(origin) => error.at_origin(&origin),
                None => error,
            })?;
            // With columns that were dropped it is another DataFrame than the one whose rows are kept.
            let kept = self.artifacts.persisted().rows(relation).filter(|_| !planner.keeps_dropped);
            let scope = match kept {
                Some(rows) if !is_streaming(&scope.plan) => {
                    let plan = Kept::plan(scope.plan.clone(), rows);
                    scope.with_plan(plan)
                }
                _ => scope,
            };
            Ok(scope.with_plan_id(common.and_then(|common| common.plan_id)))
        }
        .boxed()
    }

    /// The scope of a relation's input.
    pub async fn input(&self, input: &Option<Box<Relation>>) -> Result<Scope> {
        self.scope(required(input.as_deref())?).await
    }

    async fn dispatch(&self, kind: &RelType) -> Result<Scope> {
        match kind {
            RelType::Read(read) => self.read(read).await,
            RelType::LocalRelation(local) => self.local_relation(local),
            RelType::CachedLocalRelation(cached) => {
                self.cached_local_relation(std::slice::from_ref(&cached.hash), None)
            }
            RelType::ChunkedCachedLocalRelation(cached) => {
                self.cached_local_relation(&cached.data_hashes, cached.schema_hash.as_deref())
            }
            RelType::CachedRemoteRelation(cached) => self.checkpoint(&cached.relation_id),
            RelType::Parse(parse) => self.parse(parse).await,
            RelType::Range(range) => self.range(range),
            RelType::Sql(sql) => self.sql(sql).await,
            RelType::Project(project) => self.project(project).await,
            RelType::Filter(filter) => self.filter(filter).await,
            RelType::Sort(sort) => self.sort(sort).await,
            RelType::Limit(limit) => self.limit(&limit.input, 0, Some(limit.limit)).await,
            RelType::Offset(offset) => self.limit(&offset.input, offset.offset, None).await,
            RelType::Sample(sample) => self.sample(sample).await,
            RelType::Deduplicate(deduplicate) => self.deduplicate(deduplicate).await,
            RelType::SubqueryAlias(alias) => self.subquery_alias(alias).await,
            RelType::Repartition(repartition) => self.repartition(repartition).await,
            RelType::RepartitionByExpression(repartition) => self.repartition_by_expression(repartition).await,
            RelType::ToDf(to_df) => self.to_df(to_df).await,
            RelType::WithColumns(with) => self.with_columns(with).await,
            RelType::WithColumnsRenamed(renamed) => self.with_columns_renamed(renamed).await,
            RelType::Drop(drop) => self.drop_columns(drop).await,
            RelType::Hint(hint) => self.input(&hint.input).await,
            RelType::CollectMetrics(metrics) => self.input(&metrics.input).await,
            RelType::WithWatermark(watermark) => self.with_watermark(watermark).await,
            RelType::ToSchema(to_schema) => self.to_schema(to_schema).await,
            RelType::Unpivot(unpivot) => self.unpivot(unpivot).await,
            RelType::Join(join) => self.join(join).await,
            RelType::SetOp(set) => self.set_operation(set).await,
            RelType::Aggregate(aggregate) => self.aggregate(aggregate).await,
            RelType::FillNa(fill) => self.fill_na(fill).await,
            RelType::DropNa(drop) => self.drop_na(drop).await,
            RelType::Replace(replace) => self.replace(replace).await,
            RelType::WithRelations(with) => self.with_relations(with).await,
            RelType::Describe(describe) => self.describe(describe).await,
            RelType::Summary(summary) => self.summary(summary).await,
            RelType::Cov(cov) => self.pair_statistic(&cov.input, ("covar_samp", "cov"), [&cov.col1, &cov.col2]).await,
            RelType::Corr(corr) => self.corr(corr).await,
            RelType::Crosstab(crosstab) => self.crosstab(crosstab).await,
            RelType::ApproxQuantile(quantile) => self.approx_quantile(quantile).await,
            RelType::FreqItems(items) => self.freq_items(items).await,
            RelType::SampleBy(sample) => self.sample_by(sample).await,
            RelType::Transpose(transpose) => self.transpose(transpose).await,
            RelType::UnresolvedTableValuedFunction(function) => self.table_function(function),
            RelType::LateralJoin(join) => self.lateral_join(join).await,
            RelType::AsOfJoin(join) => self.as_of_join(join).await,
            RelType::NearestByJoin(join) => self.nearest_by_join(join).await,
            RelType::MapPartitions(map) => self.map_partitions(map).await,
            RelType::GroupMap(map) => self.group_map(map).await,
            RelType::CoGroupMap(map) => self.co_group_map(map).await,
            RelType::ApplyInPandasWithState(apply) => self.apply_in_pandas_with_state(apply).await,
            RelType::CommonInlineUserDefinedTableFunction(call) => self.python_table_function(call).await,
            other => Err(Error::unsupported(format!("`{}`", unsupported_name(other)))),
        }
    }

    /// A root with relations beside it: views that its SQL names, or subqueries of its expressions.
    async fn with_relations(&self, with: &proto::WithRelations) -> Result<Scope> {
        let mut views = HashMap::new();
        let mut subqueries = self.subqueries.clone();
        let mut waiting = self.waiting.as_ref().clone();
        for reference in &with.references {
            let plan_id = reference.common.as_ref().and_then(|common| common.plan_id);
            let plan = match (self.scope(reference).await.and_then(Scope::finish), plan_id) {
                (Err(error), Some(plan_id)) if may_be_correlated(&error) => {
                    waiting.insert(plan_id, reference.clone());
                    continue;
                }
                (plan, _) => plan?,
            };
            if let Some(RelType::SubqueryAlias(alias)) = &reference.rel_type {
                let name: Vec<_> =
                    alias.qualifier.iter().chain([&alias.alias]).map(|part| part.to_lowercase()).collect();
                views.insert(name, plan.clone());
            }
            if let Some(plan_id) = plan_id {
                subqueries.insert(plan_id, plan);
            }
        }
        let resolver = Views { views, outer: self.resolver };
        let inner = self.with(&resolver, subqueries, Arc::new(waiting));
        inner.scope(required(with.root.as_deref())?).await
    }
}

/// Names that mean a plan already made; all others are asked of the outer resolver.
struct Views<'a> {
    views: HashMap<Vec<String>, LogicalPlan>,
    outer: &'a dyn RelationResolver,
}

#[async_trait]
impl RelationResolver for Views<'_> {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        if let UnresolvedRelation::Table { name, .. } = &request.relation
            && let Some(plan) = self.views.get(&name.0.iter().map(|part| part.to_lowercase()).collect::<Vec<_>>())
        {
            return Ok(plan.clone());
        }
        self.outer.resolve(request).await
    }

    async fn function(&self, name: &ObjectName) -> Result<Option<Arc<SqlFunction>>> {
        self.outer.function(name).await
    }
}

/// What the user called to get a relation of a kind that cannot be planned.
/// Where the client's user wrote a relation, as far as the client tells: the innermost of its `file:line` lines.
fn origin(common: &proto::RelationCommon) -> Option<SourceLocation> {
    let Some(proto::origin::Function::PythonOrigin(origin)) = &common.origin.as_ref()?.function else { return None };
    let (file, line) = origin.call_site.lines().next()?.rsplit_once(':')?;
    Some(SourceLocation::new(file, line.parse().ok()?, 0))
}

fn unsupported_name(kind: &RelType) -> &'static str {
    match kind {
        RelType::Tail(_) => "DataFrame.tail inside another relation",
        RelType::Catalog(_) => "a call of spark.catalog inside another relation",
        RelType::CommonInlineUserDefinedDataSource(_) => "a Python data source",
        RelType::MlRelation(_) => "pyspark.ml",
        RelType::RelationChanges(_) => "reading the changes of a table",
        RelType::ShowString(_) | RelType::HtmlString(_) => "DataFrame.show inside another relation",
        _ => "this kind of relation",
    }
}
