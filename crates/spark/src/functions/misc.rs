//! Who and where: identity of session and rows, checks that fail, random values, unsupported ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, new_null_array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::lit;

use super::conditional::exactly;
use super::form::{Form, form, unsupported};
use super::udf::{Call, DOUBLE, Function, LONG, Returns, TEXT, volatile};
use crate::error::{Error, Result};
use crate::types::type_name;

const ROW_METADATA: &str = "Use the column `_metadata.file_path`.";

pub(super) const FORMS: &[Form] = &[
    form(&["typeof"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        Ok(lit(type_name(&env.type_of(&value)?)))
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
    form(&["current_timezone"], (0, 0), |_, env| Ok(lit(env.conf.time_zone.name()))),
    unsupported(&["input_file_name"], ROW_METADATA),
    unsupported(&["input_file_block_start", "input_file_block_length"], ROW_METADATA),
    unsupported(&["session_window"], "Group by `date_trunc` of the time instead."),
    unsupported(&["secret", "try_secret"], "Read the environment in Python."),
    unsupported(&["is_member", "is_account_group_member"], "There are no groups outside of a workspace."),
    unsupported(&["ai_classify"], "Call a model in a Python UDF."),
    unsupported(&["ai_query", "ai_extract", "ai_summarize", "ai_translate", "ai_gen"], "Call a model in a Python UDF."),
    unsupported(&["from_csv", "to_csv", "schema_of_csv"], "Use `split`."),
    unsupported(&["from_xml", "to_xml", "schema_of_xml", "xpath"], ""),
    unsupported(&["parse_json", "try_parse_json", "variant_get", "try_variant_get"], "Use `from_json`."),
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
    volatile(&["uuid"], (0, 1), TEXT, |c| {
        Ok(Arc::new((0..c.rows()).map(|_| Some(uuid::Uuid::new_v4().to_string())).collect::<StringArray>()))
    }),
    volatile(&["rand", "random"], (0, 1), DOUBLE, |c| {
        let mut random = Random::new(c)?;
        Ok(Arc::new((0..c.rows()).map(|_| Some(random.double())).collect::<Float64Array>()))
    }),
    volatile(&["randn"], (0, 1), DOUBLE, |c| {
        let mut random = Random::new(c)?;
        Ok(Arc::new((0..c.rows()).map(|_| Some(random.normal())).collect::<Float64Array>()))
    }),
];

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

/// The `XORShift` generator Spark uses, seeded once per batch.
struct Random(u64);

impl Random {
    fn new(call: &Call<'_>) -> Result<Self> {
        let seed = match call.len() {
            0 => None,
            _ => call.cast(0, &DataType::Int64)?.as_primitive::<Int64Type>().iter().next().flatten(),
        };
        let seed = seed.map_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0, |seed| seed as u64);
        // A seed of few bits must not make the first values alike.
        let mixed = (seed ^ (seed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ 0x9e37_79b9_7f4a_7c15;
        Ok(Self(mixed | 1))
    }

    fn bits(&mut self, count: u32) -> u64 {
        self.0 ^= self.0 << 21;
        self.0 ^= self.0 >> 35;
        self.0 ^= self.0 << 4;
        self.0 & ((1 << count) - 1)
    }

    fn double(&mut self) -> f64 {
        let bits = (self.bits(26) << 27) + self.bits(27);
        bits as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.double().max(f64::MIN_POSITIVE), self.double());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
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
            ("assert_true(1 < 2)", "NULL"),
            ("length(uuid())", "36"),
            ("rand(7) = rand(7)", "true"),
            ("rand(7) BETWEEN 0 AND 1", "true"),
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
