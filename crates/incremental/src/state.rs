//! State of operators over streams: what a plan needs, and how it is plugged in.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ExprSchema as _, NullEquality, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Extension, Join, JoinType, LogicalPlan, LogicalPlanBuilder, cast, ident, lit,
};
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::operators::Deduplicate;
use deltaworks_spark::python::{GroupsWithState, Moment, TransformWithState, Variable, Variables};
use deltaworks_spark::streaming::is_streaming;

use crate::aggregate::{self, EXPIRES, Emission, GroupState, emission, expires_type};
use crate::collect::CollectKeys;
use crate::digest::{DigestKey, has_digest, is_digested, key_digest};
use crate::event_time::{event_time, event_time_column};
use crate::grouping_sets;
use crate::join;
pub use crate::new_rows::NewRows;
use crate::processor;
use crate::user_state;
use crate::watermark::{InTime, LateRows, Watermarks};

/// What kind of operator keeps state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorKind {
    /// The keys seen so far.
    Deduplicate,
    /// The groups so far.
    Aggregate,
    /// The rows of one side of a join so far.
    JoinSide,
    /// What a function of the user's remembers of each group.
    UserState,
    /// What a stateful processor of the user's keeps in variables and timers.
    Processor,
}

/// An operator of a plan that keeps state between batches.
#[derive(Debug, Clone, PartialEq)]
pub struct StatefulOperator {
    /// Its place among the stateful operators of the plan.
    pub index: usize,
    /// What it is.
    pub kind: OperatorKind,
    /// What must stay the same for the state to stay valid.
    pub fingerprint: String,
    /// Whether rows of its state are of no use any more once the watermark has passed their [`EXPIRES`] time.
    pub expires: bool,
    /// Whether the clock alone, without new rows, has it give out rows.
    pub times_out: bool,
    /// The rows of its state; those of groups are known only when they are planned.
    state_schema: SchemaRef,
}

impl StatefulOperator {
    pub(crate) fn new(
        index: usize,
        kind: OperatorKind,
        fingerprint: String,
        expires: bool,
        state_schema: SchemaRef,
    ) -> Self {
        Self { index, kind, fingerprint, expires, times_out: false, state_schema }
    }

    /// The same, waiting for the clock if `times_out`.
    pub(crate) fn timing_out(self, times_out: bool) -> Self {
        Self { times_out, ..self }
    }

    /// The state for one batch, with what earlier batches kept. Whatever digests that has were made with `key`.
    pub fn state(
        &self,
        prior: Option<Arc<dyn TableProvider>>,
        watermarks: Watermarks,
        key: DigestKey,
    ) -> OperatorState {
        OperatorState {
            prior,
            key,
            new_rows: NewRows::new(Arc::clone(&self.state_schema)),
            groups: GroupState::default(),
            watermarks,
            late_rows: LateRows::default(),
            batch: 0,
            moment: Moment::default(),
            variables: Variables::default(),
        }
    }

    /// Whether a watermark alone, without new rows, has it give out rows or forget keys.
    pub fn waits_for_watermark(&self) -> bool {
        self.expires
    }

    /// Fails if state with the fingerprint `stored` is not state of this operator.
    ///
    /// # Errors
    /// `STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA` (`User`).
    pub fn check_compatible(&self, stored: &str) -> Result<()> {
        if stored == self.fingerprint {
            return Ok(());
        }
        Err(Error::user(format!(
            "the query's stateful operator {} was `{stored}` when its state was written, and is `{}` now",
            self.index + 1,
            self.fingerprint
        ))
        .with_condition("STREAMING_STATEFUL_OPERATOR_NOT_MATCH_IN_STATE_METADATA")
        .with_help("Refresh the table fully, or change the query back."))
    }
}

/// The state of one operator in one batch.
#[derive(Debug, Clone)]
pub struct OperatorState {
    /// The state of all earlier batches; `None` if there is none.
    pub prior: Option<Arc<dyn TableProvider>>,
    /// With what its digests are made.
    pub key: DigestKey,
    /// Takes the keys that this batch adds to the state.
    pub new_rows: NewRows,
    /// Takes the groups that this batch adds to the state.
    pub groups: GroupState,
    /// The watermarks of the batch.
    pub watermarks: Watermarks,
    /// Counts the rows that the operator left out because they came too late.
    pub late_rows: LateRows,
    /// The number of the batch.
    pub batch: i64,
    /// When the batch runs.
    pub moment: Moment,
    /// The variables of a stateful processor.
    pub variables: Variables,
}

impl OperatorState {
    /// The state for the batch of this number that runs at this time, in milliseconds since the epoch.
    pub fn at(self, batch: i64, processing_ms: i64) -> Self {
        Self { batch, moment: Moment { processing_ms, watermark_ms: None }, ..self }
    }

    /// The state of a processor that has declared these variables.
    pub fn with_variables(self, declared: BTreeMap<String, Variable>) -> Self {
        Self { variables: Variables::new(declared), ..self }
    }

    /// Waits until the operator has seen all of its input, which may be later than the end of its output.
    ///
    /// # Errors
    /// Those of the operator's input.
    pub async fn finished(&self) -> Result<()> {
        self.new_rows.completion().finished().await?;
        Ok(self.groups.completion().finished().await?)
    }
}

/// The operators of a plan that need state, in an order that [`bind_state`] keeps to.
///
/// The plan's streaming reads must still be in place: only operators over them keep state.
///
/// # Errors
/// `User` if a key has a type that cannot be kept.
pub fn stateful_operators(plan: &LogicalPlan) -> Result<Vec<StatefulOperator>> {
    let mut operators = Vec::new();
    rewrite(plan.clone(), &mut |index, operator| {
        match operator {
            Operator::Deduplicate(deduplicate) => operators.push(describe(index, deduplicate)?),
            Operator::Aggregate(aggregate, emission, _) => operators.push(StatefulOperator::new(
                index,
                OperatorKind::Aggregate,
                aggregate::fingerprint(aggregate)?,
                *emission != Emission::Complete,
                Arc::new(Schema::empty()),
            )),
            Operator::Join(join) => operators.extend(join::describe(index, join)?),
            Operator::UserState(groups) => operators.push(user_state::describe(index, groups)?),
            Operator::Processor(node) => operators.push(processor::describe(index, node)),
        }
        Ok(None)
    })?;
    Ok(operators)
}

/// Plugs `states` into the stateful operators of `plan`, in the order of [`stateful_operators`].
///
/// # Errors
/// `Internal` if there are not as many states as operators.
pub fn bind_state(plan: LogicalPlan, states: &[OperatorState]) -> Result<LogicalPlan> {
    let mut bound = 0;
    let plan = rewrite(plan, &mut |index, operator| {
        let state =
            |index: usize| states.get(index).ok_or_else(|| Error::internal("fewer states than stateful operators"));
        bound += operator.states();
        Ok(Some(match operator {
            Operator::Deduplicate(deduplicate) => bind(index, deduplicate, state(index)?)?,
            Operator::Aggregate(aggregate, emission, outputs) => {
                let bound = aggregate::bind(index, aggregate, emission.clone(), state(index)?)?;
                match outputs {
                    Some(outputs) => LogicalPlanBuilder::from(bound).project(outputs.clone())?.build()?,
                    None => bound,
                }
            }
            Operator::Join(join) => join::bind(index, join, [state(index)?, state(index + 1)?])?,
            Operator::UserState(groups) => user_state::bind(index, groups, state(index)?)?,
            Operator::Processor(node) => processor::bind(index, node, state(index)?)?,
        }))
    })?;
    if bound != states.len() {
        return Err(Error::internal(format!("{} states for {bound} stateful operators", states.len())));
    }
    Ok(plan)
}

/// A logical operator that keeps state over a stream.
enum Operator {
    Deduplicate(Deduplicate),
    /// If it is by grouping sets, with what its columns are made of.
    Aggregate(Aggregate, Emission, Option<Vec<Expr>>),
    Join(Box<Join>),
    UserState(GroupsWithState),
    Processor(TransformWithState),
}

impl Operator {
    /// How many states it has.
    fn states(&self) -> usize {
        match self {
            Self::Deduplicate(_) | Self::Aggregate(..) | Self::UserState(_) | Self::Processor(_) => 1,
            Self::Join(_) => 2,
        }
    }
}

type Replace<'a> = dyn FnMut(usize, &Operator) -> Result<Option<LogicalPlan>> + 'a;

/// Visits the stateful operators bottom-up. `SELECT DISTINCT` is deduplication over all columns.
fn rewrite(plan: LogicalPlan, replace: &mut Replace<'_>) -> Result<LogicalPlan> {
    let mut index = 0;
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let Some(operator) = operator(&node)? else { return Ok(Transformed::no(node)) };
        let replaced = replace(index, &operator)?;
        index += operator.states();
        Ok(replaced.map_or_else(|| Transformed::no(node), Transformed::yes))
    })?;
    Ok(rewritten.data)
}

fn operator(node: &LogicalPlan) -> Result<Option<Operator>> {
    if let Some(deduplicate) = as_deduplicate(node) {
        return Ok(is_streaming(&deduplicate.input).then_some(Operator::Deduplicate(deduplicate)));
    }
    if let Some(groups) = user_state::as_streaming_groups(node) {
        return Ok(Some(Operator::UserState(groups)));
    }
    if let Some(node) = processor::as_processor(node).filter(|node| is_streaming(&node.input)) {
        return Ok(Some(Operator::Processor(node.clone())));
    }
    match node {
        LogicalPlan::Aggregate(aggregate) if is_streaming(&aggregate.input) => {
            let (aggregate, outputs) = match grouping_sets::expanded(aggregate)? {
                Some((of_rows, outputs)) => (of_rows, Some(outputs)),
                None => (aggregate.clone(), None),
            };
            let emission =
                emission(&aggregate).ok_or_else(|| Error::internal("an aggregation whose groups are never final"))?;
            Ok(Some(Operator::Aggregate(aggregate, emission, outputs)))
        }
        LogicalPlan::Join(join) if join::is_of_streams(join) => Ok(Some(Operator::Join(Box::new(join.clone())))),
        _ => Ok(None),
    }
}

pub(crate) fn as_deduplicate(node: &LogicalPlan) -> Option<Deduplicate> {
    match node {
        LogicalPlan::Extension(Extension { node }) => node.as_any().downcast_ref::<Deduplicate>().cloned(),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            Some(Deduplicate { input: Arc::clone(input), keys: input.schema().columns(), within_watermark: false })
        }
        _ => None,
    }
}

fn describe(index: usize, deduplicate: &Deduplicate) -> Result<StatefulOperator> {
    let key_schema = key_schema(deduplicate)?;
    let keys: Vec<_> =
        key_schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    if let Some(map) = key_schema.fields().iter().find(|field| !has_digest(field.data_type())) {
        return Err(Error::user(format!("rows cannot be compared by `{}`, which holds a map", map.name()))
            .with_condition("UNSUPPORTED_FEATURE.SET_OPERATION_ON_MAP_TYPE")
            .with_help("Compare by other columns: dropDuplicates takes a list of them."));
    }
    // How keys are remembered is part of the fingerprint: state of one kind must not be read as the other.
    let (state_schema, how) = match is_digested(key_schema.fields().iter().map(|field| field.data_type())) {
        true => (Arc::new(Schema::new(vec![Field::new("digest", DataType::Binary, true)])), " by keyed digest"),
        false => (Arc::clone(&key_schema), ""),
    };
    let expiry = expiry(deduplicate);
    let (key_schema, until) = match (&expiry, deduplicate.within_watermark) {
        (None, _) => (state_schema, ""),
        (Some(_), within) => {
            let mut fields = state_schema.fields().to_vec();
            fields.push(Arc::new(Field::new(EXPIRES, expires_type(), true)));
            (Arc::new(Schema::new(fields)), if within { " within watermark" } else { " until watermark" })
        }
    };
    Ok(StatefulOperator::new(
        index,
        OperatorKind::Deduplicate,
        format!("deduplicate({}){how}{until}", keys.join(", ")),
        expiry.is_some(),
        key_schema,
    ))
}

/// When a key needs not be remembered any more: `plus_us` after the event time in `column`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Expiry {
    pub column: Column,
    pub plus_us: i64,
}

pub(crate) fn expiry(deduplicate: &Deduplicate) -> Option<Expiry> {
    if deduplicate.within_watermark {
        let (column, time) = event_time_column(&deduplicate.input)?;
        return Some(Expiry { column, plus_us: time.delay_us });
    }
    let is_time = |key: &&Column| event_time(&Expr::Column((*key).clone()), &deduplicate.input).is_some();
    Some(Expiry { column: deduplicate.keys.iter().find(is_time)?.clone(), plus_us: 0 })
}

/// The key columns by name, numbered where a name comes twice; types without their in-memory variants.
fn key_schema(deduplicate: &Deduplicate) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = Vec::new();
    for key in &deduplicate.keys {
        let field = deduplicate.input.schema().field_from_column(key)?;
        let taken = fields.iter().filter(|other| other.name().eq_ignore_ascii_case(&key.name)).count();
        let name = if taken == 0 { key.name.clone() } else { format!("{}#{taken}", key.name) };
        fields.push(Field::new(name, stored_type(field.data_type()), true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => stored_type(values),
        other => other.clone(),
    }
}

/// `first rows of this batch`, without those whose key is in the state, and their keys handed out.
///
/// The anti join keeps the batch's rows in memory and streams the state past them (or the other way
/// round where the state is the smaller one), so that a large state costs time but no memory.
fn bind(index: usize, deduplicate: &Deduplicate, state: &OperatorState) -> Result<LogicalPlan> {
    let schema = deduplicate.input.schema();
    let types = deduplicate.keys.iter().map(|key| schema.data_type(key)).collect::<DataFusionResult<Vec<_>>>()?;
    let expires = expiry(deduplicate);
    let mut deduplicate = deduplicate.clone();
    if let Some(expires) = &expires {
        let input = deduplicate.input.as_ref().clone();
        deduplicate.input = Arc::new(InTime::over(input, &expires.column, state.watermarks, &state.late_rows));
    }
    if !is_digested(types) {
        return bind_keys(index, deduplicate, expires, state);
    }
    let columns: Vec<_> = deduplicate.input.schema().columns().into_iter().map(Expr::Column).collect();
    let digest = format!("__digest_{index}");
    let of_keys =
        key_digest(state.key).call(deduplicate.keys.iter().cloned().map(Expr::Column).collect()).alias(&digest);
    let input = LogicalPlanBuilder::new_from_arc(Arc::clone(&deduplicate.input))
        .project(columns.iter().cloned().chain([of_keys]))?
        .build()?;
    let by_digest = Deduplicate { input: Arc::new(input), keys: vec![Column::from_name(digest)], ..deduplicate };
    Ok(LogicalPlanBuilder::from(bind_keys(index, by_digest, expires, state)?).project(columns)?.build()?)
}

fn bind_keys(
    index: usize,
    deduplicate: Deduplicate,
    expires: Option<Expiry>,
    state: &OperatorState,
) -> Result<LogicalPlan> {
    let keys = deduplicate.keys.clone();
    let first_rows = deduplicate.into_plan();
    let late_us = expires.as_ref().and(state.watermarks.late_us);
    let input = match &state.prior {
        Some(prior) => unseen(index, first_rows, &keys, prior, late_us)?,
        None => first_rows,
    };
    let collect = CollectKeys { input: Arc::new(input), keys, expires, new_rows: state.new_rows.clone() };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(collect) }))
}

fn unseen(
    index: usize,
    first_rows: LogicalPlan,
    keys: &[Column],
    prior: &Arc<dyn TableProvider>,
    late_us: Option<i64>,
) -> Result<LogicalPlan> {
    let name = format!("__state_{index}");
    let columns = prior.schema();
    let as_in_query = keys
        .iter()
        .zip(columns.fields())
        .enumerate()
        .map(|(place, (key, field))| {
            let data_type = first_rows.schema().field_from_column(key)?.data_type().clone();
            // Arrow has no cast from the views that readers give to digests.
            let stored = cast(ident(field.name()), stored_type(field.data_type()));
            Ok(cast(stored, data_type).alias(format!("key_{place}")))
        })
        .collect::<DataFusionResult<Vec<_>>>()?;
    let mut seen = LogicalPlanBuilder::scan(name.as_str(), provider_as_source(Arc::clone(prior)), None)?;
    if let Some(late_us) = late_us {
        let watermark = ScalarValue::TimestampMicrosecond(Some(late_us), Some("UTC".into()));
        seen = seen.filter(ident(EXPIRES).is_null().or(ident(EXPIRES).gt(lit(watermark))))?;
    }
    let seen = seen.project(as_in_query)?.alias(name.as_str())?.build()?;
    let seen_keys: Vec<_> =
        (0..keys.len()).map(|place| Column::new(Some(name.as_str()), format!("key_{place}"))).collect();
    Ok(LogicalPlanBuilder::from(first_rows)
        .join_detailed(seen, JoinType::LeftAnti, (keys.to_vec(), seen_keys), None, NullEquality::NullEqualsNull)?
        .build()?)
}
