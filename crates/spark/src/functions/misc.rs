//! Who and where: identity of session and rows, checks that fail, unsupported ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, new_null_array};
use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion_spark::function::datetime::make_interval;

use super::conditional::exactly;
use super::form::{Env, Form, Want, form, unsupported, wraps};
use super::options::text;
use super::udf::{Call, Function, LONG, Returns, volatile};
use crate::error::{Error, Result};
use crate::types::field_type_name;

/// Years, months, weeks, days, hours, minutes, seconds.
const PARTS: &[Want] = &[Want::Int, Want::Int, Want::Int, Want::Int, Want::Int, Want::Int, Want::Double];

const ROW_METADATA: &str = "Use the column `_metadata.file_path`.";

pub(super) const FORMS: &[Form] = &[
    form(&["typeof"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        let (_, field) = value.to_field(env.schema)?;
        let data_type = crate::types::canonical(field.data_type());
        Ok(lit(field_type_name(&field.as_ref().clone().with_data_type(data_type))))
    }),
    form(&["version"], (0, 0), |_, _| Ok(lit(concat!("4.2.0 deltaworks ", env!("CARGO_PKG_VERSION"))))),
    form(&["current_user", "session_user", "user"], (0, 0), |_, _| Ok(lit(user()))),
    form(&["current_catalog"], (0, 0), |_, env| {
        Ok(lit(env.conf.all.get("spark.sql.defaultCatalog").cloned().unwrap_or("spark_catalog".to_owned())))
    }),
    form(&["current_database", "current_schema"], (0, 0), |_, env| {
        Ok(lit(env
            .conf
            .all
            .get("spark.sql.catalog.spark_catalog.defaultDatabase")
            .cloned()
            .unwrap_or("default".to_owned())))
    }),
    // All rows are in the one partition of this process.
    form(&["spark_partition_id"], (0, 0), |_, _| Ok(lit(0_i32))),
    wraps(&["try_make_interval"], make_interval, PARTS, None),
    // All texts are compared by their bytes.
    form(&["collation"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        match env.type_of(&value)? {
            DataType::Utf8 => Ok(lit("SYSTEM.BUILTIN.UTF8_BINARY")),
            other => Err(Error::user(format!("{} has no collation", crate::types::sql_type_name(&other)))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
        }
    }),
    form(&["collate"], (2, 2), collate),
    form(&["current_timezone"], (0, 0), |_, env| Ok(lit(env.conf.time_zone.name()))),
    form(&["input_file_name"], (0, 0), |_, env| file_path(env)),
    unsupported(&["input_file_block_start", "input_file_block_length"], ROW_METADATA),
    unsupported(&["secret", "try_secret"], "Read the environment in Python."),
    unsupported(&["is_member", "is_account_group_member"], "There are no groups outside of a workspace."),
    unsupported(&["ai_classify"], "Call a model in a Python UDF."),
    unsupported(&["ai_query", "ai_extract", "ai_summarize", "ai_translate", "ai_gen"], "Call a model in a Python UDF."),
];

pub(super) const FUNCTIONS: &[Function] = &[
    volatile(&["raise_error"], (1, 2), Returns::Type(|| DataType::Null), |c| {
        if c.rows() == 0 {
            return Ok(new_null_array(&DataType::Null, 0));
        }
        let message = c.text(c.len() - 1)?;
        let message = if message.is_null(0) { "" } else { message.value(0) };
        Err(Error::data(message).with_condition("USER_RAISED_EXCEPTION"))
    }),
    volatile(&["assert_true"], (1, 2), Returns::Type(|| DataType::Null), assert_true),
    volatile(&["monotonically_increasing_id"], (0, 0), LONG, increasing_id),
];

/// A text as it is: it is compared by its bytes anyway.
fn collate(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let [value, collation] = exactly(args)?;
    let found = env.type_of(&value)?;
    if !matches!(found, DataType::Utf8 | DataType::Null) {
        return Err(Error::user(format!("{} has no collation", crate::types::sql_type_name(&found)))
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
    }
    let Some(name) = text(&collation) else {
        return Err(Error::user("the collation of `collate` must be a constant text")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
    };
    let plain = name.rsplit('.').next().unwrap_or(name);
    if plain.eq_ignore_ascii_case("UTF8_BINARY") {
        return env.cast(value, &DataType::Utf8);
    }
    Err(Error::unsupported(format!("the collation `{name}`"))
        .with_help("Texts are compared by their bytes (UTF8_BINARY); compare lower(x) to ignore case."))
}

/// The file that a row was read from, where the rows come straight from files.
fn file_path(env: Env<'_>) -> Result<Expr> {
    if env.typing {
        return Ok(lit(""));
    }
    let found = env.schema.iter().find(|(_, field)| field.name() == "_metadata");
    match found.map(|(table, field)| (Column::new(table.cloned(), "_metadata"), field.data_type())) {
        Some((column, DataType::Struct(fields))) if fields.find("file_path").is_some() => {
            Ok(datafusion::functions::core::expr_fn::get_field(Expr::Column(column), "file_path"))
        }
        _ => Err(Error::unsupported("`input_file_name` of rows that do not come straight from files")
            .with_help("Select the column `_metadata.file_path` where the files are read.")),
    }
}

fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("USERNAME")).unwrap_or_else(|_| "unknown".to_owned())
}

fn assert_true(call: &Call<'_>) -> Result<ArrayRef> {
    let holds = call.cast(0, &DataType::Boolean)?;
    let failed = (0..call.rows()).find(|row| holds.is_null(*row) || !holds.as_boolean().value(*row));
    let Some(row) = failed else { return Ok(new_null_array(&DataType::Null, call.rows())) };
    let message = match call.len() {
        2 => call.text(1)?.value(row).to_owned(),
        _ => "an asserted condition is not true".to_owned(),
    };
    Err(Error::data(message).with_condition("USER_RAISED_EXCEPTION"))
}

/// Unique and increasing within a partition, as Spark's; nothing else of the value is promised.
fn increasing_id(call: &Call<'_>) -> Result<ArrayRef> {
    static NEXT: AtomicI64 = AtomicI64::new(0);
    let rows = call.rows() as i64;
    let first = NEXT.fetch_add(rows, Ordering::Relaxed);
    Ok(Arc::new(Int64Array::from_iter_values(first..first + rows)))
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("typeof(1.5)", "decimal(2,1)"),
            ("typeof(array('a'))", "array<string>"),
            ("current_database()", "default"),
            ("current_timezone()", "UTC"),
            ("collate('x', 'UTF8_BINARY')", "x"),
            ("assert_true(1 < 2)", "NULL"),
            ("monotonically_increasing_id() >= 0", "true"),
        ])
        .await;
    }

    #[tokio::test]
    async fn failures() {
        let raised = Err("USER_RAISED_EXCEPTION");
        check("raise_error('boom')", raised, raised).await;
        check("assert_true(1 > 2)", raised, raised).await;
    }
}
