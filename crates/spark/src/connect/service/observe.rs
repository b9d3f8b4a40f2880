//! `DataFrame.observe`: named aggregates over a part of a query, sent beside its rows.

use datafusion::common::ScalarValue;

use super::operation::Operation;
use super::{Session, relation_of};
use crate::connect::host::AnalysisContext;
use crate::connect::literal;
use crate::connect::proto::execute_plan_response::ObservedMetrics;
use crate::connect::proto::relation::RelType;
use crate::connect::proto::{self, Relation, aggregate::GroupType};
use crate::error::Result;

impl Session {
    /// Sends the metrics of every observation in a relation that has been run.
    ///
    /// They are computed by a query of their own over the observed part.
    pub(super) async fn observe(
        &self,
        operation: &Operation,
        relation: &Relation,
        analysis: Option<&AnalysisContext>,
    ) -> Result<()> {
        let mut observations = Vec::new();
        collect(relation, &mut observations);
        let mut all = Vec::with_capacity(observations.len());
        for (observation, plan_id) in observations {
            let aggregate = relation_of(RelType::Aggregate(Box::new(proto::Aggregate {
                input: observation.input.clone(),
                group_type: GroupType::Groupby as i32,
                aggregate_expressions: observation.metrics.clone(),
                ..proto::Aggregate::default()
            })));
            let rows = self.rows_for(&aggregate, analysis).await?;
            let mut metrics = ObservedMetrics { name: observation.name.clone(), plan_id, ..ObservedMetrics::default() };
            for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
                metrics.keys.push(field.name().clone());
                metrics.values.push(literal::message(&ScalarValue::try_from_array(column, 0)?)?);
            }
            all.push(metrics);
        }
        if !all.is_empty() {
            operation.push_observed(all).await;
        }
        Ok(())
    }
}

/// The observations in a relation, outermost first.
fn collect<'a>(relation: &'a Relation, found: &mut Vec<(&'a proto::CollectMetrics, i64)>) {
    if let Some(RelType::CollectMetrics(observation)) = &relation.rel_type {
        let plan_id = relation.common.as_ref().and_then(|common| common.plan_id).unwrap_or_default();
        found.push((observation, plan_id));
    }
    for input in inputs(relation) {
        collect(input, found);
    }
}

/// The inputs of the relations that keep or change the rows of one or two others.
fn inputs(relation: &Relation) -> Vec<&Relation> {
    let all: [Option<&Box<Relation>>; 2] = match &relation.rel_type {
        Some(RelType::CollectMetrics(m)) => [m.input.as_ref(), None],
        Some(RelType::Project(m)) => [m.input.as_ref(), None],
        Some(RelType::Filter(m)) => [m.input.as_ref(), None],
        Some(RelType::Sort(m)) => [m.input.as_ref(), None],
        Some(RelType::Limit(m)) => [m.input.as_ref(), None],
        Some(RelType::Offset(m)) => [m.input.as_ref(), None],
        Some(RelType::Aggregate(m)) => [m.input.as_ref(), None],
        Some(RelType::Deduplicate(m)) => [m.input.as_ref(), None],
        Some(RelType::Drop(m)) => [m.input.as_ref(), None],
        Some(RelType::Hint(m)) => [m.input.as_ref(), None],
        Some(RelType::Repartition(m)) => [m.input.as_ref(), None],
        Some(RelType::SubqueryAlias(m)) => [m.input.as_ref(), None],
        Some(RelType::ToDf(m)) => [m.input.as_ref(), None],
        Some(RelType::WithColumns(m)) => [m.input.as_ref(), None],
        Some(RelType::WithColumnsRenamed(m)) => [m.input.as_ref(), None],
        Some(RelType::WithRelations(m)) => [m.root.as_ref(), None],
        Some(RelType::Join(m)) => [m.left.as_ref(), m.right.as_ref()],
        Some(RelType::SetOp(m)) => [m.left_input.as_ref(), m.right_input.as_ref()],
        _ => [None, None],
    };
    all.into_iter().flatten().map(AsRef::as_ref).collect()
}
