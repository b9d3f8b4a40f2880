//! Evaluates SQL expressions in a session of ours and compares the value as text.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlanBuilder;

use crate::cast::{CastMode, cast_array};
use crate::conf::SparkConf;
use crate::diagnostic::SourceLocation;
use crate::error::Result;
use crate::session::{SessionOptions, session_context};

/// The first value of the first column as text.
pub(crate) async fn evaluate(sql: &str, ansi: bool, zone: &str) -> Result<String> {
    let mut conf = SparkConf::pipeline_defaults();
    conf.ansi = ansi;
    conf.set("spark.sql.session.timeZone", zone)?;
    let tz = conf.time_zone;
    let options = SessionOptions {
        conf,
        target_partitions: 1,
        runtime: Arc::new(RuntimeEnv::default()),
        extension_planners: Vec::new(),
    };
    let context = session_context(options)?;
    let batches = context.sql(&format!("SELECT {sql}")).await?.collect().await?;
    let text = cast_array(batches[0].column(0), &DataType::Utf8, CastMode::Lenient, tz)?;
    Ok(if text.is_null(0) { "NULL".to_owned() } else { text.as_string::<i32>().value(0).to_owned() })
}

/// As [`check_all`], for expressions that only our own SQL reads, such as those with lambdas.
pub(crate) async fn check_spark(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        let value = evaluate_spark(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(&value, expected, "{sql}");
    }
}

async fn evaluate_spark(sql: &str) -> Result<String> {
    let options = SessionOptions {
        conf: SparkConf::pipeline_defaults(),
        target_partitions: 1,
        runtime: Arc::new(RuntimeEnv::default()),
        extension_planners: Vec::new(),
    };
    let context = session_context(options)?;
    let location = SourceLocation::new("<test>", 1, 1);
    let schema = DFSchema::empty();
    let expr = crate::sql::plan_expression(&context, sql, &schema, &location)?;
    let plan = LogicalPlanBuilder::empty(true).project([expr])?.build()?;
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    let text = cast_array(batches[0].column(0), &DataType::Utf8, CastMode::Lenient, chrono_tz::UTC)?;
    Ok(if text.is_null(0) { "NULL".to_owned() } else { text.as_string::<i32>().value(0).to_owned() })
}

/// Compares without and with ANSI mode; `Err` is a condition name.
pub(crate) async fn check(sql: &str, lenient: Result<&str, &str>, ansi: Result<&str, &str>) {
    for (mode, expected) in [(false, lenient), (true, ansi)] {
        match (evaluate(sql, mode, "UTC").await, expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected, "{sql}, ansi={mode}"),
            (Err(error), Err(condition)) => assert_eq!(error.condition(), Some(condition), "{sql}: {error}"),
            (got, expected) => panic!("{sql}, ansi={mode}: expected {expected:?}, got {got:?}"),
        }
    }
}

/// The same value in both modes.
pub(crate) async fn check_all(cases: &[(&str, &str)]) {
    for (sql, value) in cases {
        check(sql, Ok(value), Ok(value)).await;
    }
}
