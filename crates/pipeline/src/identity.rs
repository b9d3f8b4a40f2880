//! Identity columns: `id BIGINT GENERATED ALWAYS AS IDENTITY`, numbers that a streaming table gives to its rows.
//!
//! As a feature of the Delta table they would lock out writers that do not know it, the one we write with among them. So they are the
//! pipeline's business, as defaults are: a query that lacks the column gets one of [`numbers`], which every batch binds to a counter
//! of its own. How many numbers a column has given out is an application transaction of the target, in the same commit as the rows:
//! those of a batch that never landed are given out again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::Expr;
use deltaworks_incremental::{OutputMode, output_mode};
use deltaworks_lake::Table;
use deltaworks_spark::types::{IDENTITY_EXPLICIT_KEY, IDENTITY_START_KEY, IDENTITY_STEP_KEY, type_name};
use deltaworks_spark::{Error, Result};

use crate::definitions::{Output, OutputKind};
use crate::update::checkpoint::current_generation;

/// What a column says of its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    column: String,
    start: i64,
    step: i64,
    /// `ALWAYS`: no query gives the column.
    pub always: bool,
}

impl Identity {
    /// That of a column, if it is an identity column.
    pub fn of(field: &Field) -> Option<Self> {
        let number = |key: &str| field.metadata().get(key).map(|text| text.parse().unwrap_or(1));
        Some(Self {
            column: field.name().clone(),
            start: number(IDENTITY_START_KEY)?,
            step: number(IDENTITY_STEP_KEY).unwrap_or(1),
            always: field.metadata().get(IDENTITY_EXPLICIT_KEY).is_none_or(|explicit| explicit != "true"),
        })
    }

    /// The number of the row that comes `index` rows after the first.
    fn number(&self, index: i64) -> Option<i64> {
        self.step.checked_mul(index)?.checked_add(self.start)
    }

    /// The application id whose transaction version is how many numbers the column has given out in a generation of its table.
    fn app_id(&self, pipeline_id: &str, generation: i64) -> String {
        format!("{pipeline_id}/identity/{}/{generation}", self.column.to_lowercase())
    }
}

/// Refuses identity columns where there can be none.
///
/// # Errors
/// `User`, or `Unsupported` for targets of AUTO CDC.
pub fn check(output: &Output, kind: OutputKind, is_merged: bool) -> Result<()> {
    for field in output.schema.iter().flat_map(|schema| schema.fields()) {
        let Some(identity) = Identity::of(field) else { continue };
        let (column, table) = (&identity.column, &output.name.name);
        if kind != OutputKind::StreamingTable {
            return Err(Error::user(format!(
                "column `{column}` of {} `{table}` is an identity column, which only streaming tables can have",
                kind.noun()
            ))
            .with_condition("UNSUPPORTED_FEATURE.TABLE_OPERATION")
            .with_help("Number the rows in the query: row_number() OVER (ORDER BY …), or use uuid()."));
        }
        if is_merged {
            return Err(Error::unsupported(format!("an identity column (`{column}`) in a target of AUTO CDC"))
                .with_help("Let the events bring a key, or number the rows in a table that reads the target."));
        }
        if *field.data_type() != DataType::Int64 {
            return Err(Error::user(format!(
                "identity column `{column}` of `{table}` has type {}, and must be BIGINT",
                type_name(field.data_type())
            ))
            .with_condition("DELTA_IDENTITY_COLUMNS_UNSUPPORTED_DATA_TYPE"));
        }
        if identity.step == 0 {
            return Err(Error::user(format!("identity column `{column}` of `{table}` is incremented by 0"))
                .with_condition("DELTA_IDENTITY_COLUMNS_ILLEGAL_STEP")
                .with_help("Give INCREMENT BY another number, or leave it out: 1."));
        }
        if output.partition_columns.iter().any(|partition| partition.eq_ignore_ascii_case(column)) {
            return Err(Error::user(format!("`{table}` cannot be partitioned by its identity column `{column}`"))
                .with_condition("DELTA_IDENTITY_COLUMNS_PARTITION_NOT_SUPPORTED")
                .with_help("Partition by a column with few values, or cluster the table."));
        }
    }
    Ok(())
}

/// Refuses numbers for rows that every batch replaces.
///
/// # Errors
/// `STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION` (`Unsupported`)
pub fn check_mode(plan: &LogicalPlan) -> Result<()> {
    if output_mode(plan) == OutputMode::Append || !has_numbers(plan)? {
        return Ok(());
    }
    Err(Error::unsupported(
        "an identity column beside an aggregation without a watermark, whose rows every batch replaces",
    )
    .with_condition("STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION")
    .with_help("The columns of GROUP BY are a key already."))
}

/// The numbers of a column, in a plan that a [`Numbering`] binds before it runs.
pub fn numbers(identity: Identity) -> Expr {
    call(Numbers { identity, given_out: None })
}

fn call(numbers: Numbers) -> Expr {
    ScalarUDF::new_from_impl(numbers).call(Vec::new())
}

/// Whether the plan gives out numbers.
///
/// # Errors
/// Those of walking through it.
pub fn has_numbers(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    replaced(plan.clone(), &mut |numbers| {
        found = true;
        numbers.clone()
    })?;
    Ok(found)
}

/// The numbers that one batch gives out.
pub struct Numbering {
    counters: Vec<Counter>,
}

/// How many numbers a column has given out.
struct Counter {
    app_id: String,
    /// Before the batch.
    before: i64,
    now: Arc<AtomicI64>,
}

impl Numbering {
    /// Has the identity columns of `plan` go on where `table` is. Until the batch is committed no other may do so.
    ///
    /// # Errors
    /// If the log of `table` cannot be read.
    pub async fn bind(plan: LogicalPlan, table: &Table, pipeline_id: &str) -> Result<(LogicalPlan, Self)> {
        let generation = current_generation(table, pipeline_id).await?;
        let mut columns = Vec::new();
        replaced(plan.clone(), &mut |numbers| {
            columns.push(numbers.identity.clone());
            numbers.clone()
        })?;
        let mut counters = Vec::new();
        for identity in columns {
            let app_id = identity.app_id(pipeline_id, generation);
            let before = table.transaction_version(&app_id).await?.unwrap_or(0);
            counters.push(Counter { app_id, before, now: Arc::new(AtomicI64::new(before)) });
        }
        let mut of_columns = counters.iter();
        let plan = replaced(plan, &mut |numbers| Numbers {
            identity: numbers.identity.clone(),
            given_out: of_columns.next().map(|counter| Arc::clone(&counter.now)),
        })?;
        Ok((plan, Self { counters }))
    }

    /// The transactions that the batch's commit needs: of every column that gave out numbers, how many.
    pub fn transactions(self) -> impl Iterator<Item = (String, i64)> {
        let counted = self
            .counters
            .into_iter()
            .map(|counter| (counter.app_id, counter.before, counter.now.load(Ordering::Acquire)));
        counted.filter(|(_, before, now)| before < now).map(|(app_id, _, now)| (app_id, now))
    }
}

/// The plan with others in the place of its numbers, which are visited in a fixed order.
fn replaced(plan: LogicalPlan, replace: &mut impl FnMut(&Numbers) -> Numbers) -> Result<LogicalPlan> {
    let changed = plan.transform_up(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|part| {
                let known = match &part {
                    Expr::ScalarFunction(ScalarFunction { func, .. }) => func.inner().downcast_ref::<Numbers>(),
                    _ => None,
                };
                Ok(match known {
                    Some(numbers) => Transformed::yes(call(replace(numbers))),
                    None => Transformed::no(part),
                })
            })
        })
    })?;
    Ok(changed.data)
}

/// Gives each row the next number.
#[derive(Debug, Clone)]
struct Numbers {
    identity: Identity,
    /// How many have been given out, by all partitions of a batch; `None` in a plan that is not run.
    given_out: Option<Arc<AtomicI64>>,
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        let counter = |numbers: &Self| numbers.given_out.as_ref().map(Arc::as_ptr);
        self.identity == other.identity && counter(self) == counter(other)
    }
}

impl Eq for Numbers {}

impl Hash for Numbers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
    }
}

impl ScalarUDFImpl for Numbers {
    fn name(&self) -> &str {
        "identity"
    }

    fn signature(&self) -> &Signature {
        static SIGNATURE: std::sync::LazyLock<Signature> =
            std::sync::LazyLock::new(|| Signature::nullary(Volatility::Volatile));
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let counter = self.given_out.as_ref().ok_or_else(|| {
            DataFusionError::Internal(format!("identity column `{}` has no numbers", self.identity.column))
        })?;
        let rows = i64::try_from(args.number_rows).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let first = counter.fetch_add(rows, Ordering::AcqRel);
        let numbers: Option<Vec<i64>> =
            (first..first.saturating_add(rows)).map(|row| self.identity.number(row)).collect();
        let numbers = numbers.ok_or_else(|| {
            let error = Error::data(format!("identity column `{}` has run out of numbers", self.identity.column))
                .with_condition("ARITHMETIC_OVERFLOW")
                .with_help("Refresh the table fully: it begins with START WITH again.");
            DataFusionError::External(Box::new(error))
        })?;
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from(numbers))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use arrow::array::{AsArray, Int32Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use datafusion::datasource::MemTable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    fn identity(start: i64, step: i64) -> Identity {
        let metadata = HashMap::from([
            (IDENTITY_START_KEY.to_owned(), start.to_string()),
            (IDENTITY_STEP_KEY.to_owned(), step.to_string()),
        ]);
        Identity::of(&Field::new("id", DataType::Int64, true).with_metadata(metadata)).unwrap()
    }

    /// The numbers that a batch gives to a hundred rows in each of four partitions after `before` others, in order.
    async fn given_out(identity: Identity, before: i64) -> DataFusionResult<Vec<i64>> {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4));
        let rows = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from_iter(0..100)) as _)])?;
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]; 4])?;
        let plan =
            context.read_table(Arc::new(table))?.select([numbers(identity).alias("id")])?.into_unoptimized_plan();
        let counter = Arc::new(AtomicI64::new(before));
        let plan = replaced(plan, &mut |numbers| Numbers {
            identity: numbers.identity.clone(),
            given_out: Some(Arc::clone(&counter)),
        })
        .unwrap();
        let batches = context.execute_logical_plan(plan).await?.collect().await?;
        let columns = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
        let mut numbers: Vec<i64> = columns.flat_map(|column| column.iter().copied()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    #[tokio::test]
    async fn partitions_share_the_numbers() {
        assert_eq!(given_out(identity(1, 1), 0).await.unwrap(), (1..=400).collect::<Vec<_>>());
        assert_eq!(given_out(identity(5, 3), 10).await.unwrap(), (35..).step_by(3).take(400).collect::<Vec<_>>());
        assert_eq!(given_out(identity(0, -1), 0).await.unwrap(), (-399..=0).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn numbers_that_do_not_fit_are_an_error() {
        let error = given_out(identity(i64::MAX - 300, 1), 0).await.unwrap_err();
        assert!(error.to_string().contains("identity column `id` has run out of numbers"), "{error}");
    }
}
