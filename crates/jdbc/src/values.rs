//! Values that are written, taken out of Arrow's arrays.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::SendableRecordBatchStream;
use deltaworks_spark::types::{canonical, is_variant, sql_type_name};
use deltaworks_spark::{Error, Result};
use futures::StreamExt;

use crate::decimal;
use crate::dialect::Dialect;
use crate::scan::JdbcTable;
use crate::url::Target;

/// A value.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float32(f32),
    Float64(f64),
    Decimal(String),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970, UTC.
    Instant(i64),
    /// Microseconds since 1970 on a clock without a zone.
    Clock(i64),
    List(ArrayRef),
}

/// The value in a row.
pub(crate) fn value(array: &dyn Array, row: usize) -> Result<Value<'_>> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Value::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Value::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Value::Float32(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Value::Float64(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, scale) => {
            Value::Decimal(decimal::text(array.as_primitive::<Decimal128Type>().value(row), *scale))
        }
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row)),
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row)),
        DataType::Date32 => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            if zone.is_some() { Value::Instant(micros) } else { Value::Clock(micros) }
        }
        DataType::List(_) => Value::List(array.as_list::<i32>().value(row)),
        other => return Err(unwritable("", other)),
    })
}

/// The rows that are written.
pub(crate) struct Outgoing {
    frame: DataFrame,
    pub(crate) columns: Vec<OutColumn>,
}

/// A column that is written.
#[derive(Clone, Debug)]
pub(crate) struct OutColumn {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    pub(crate) nullable: bool,
}

impl Outgoing {
    /// The rows of a query, which is not run yet.
    ///
    /// # Errors
    /// `Unsupported` for types that the database has no counterpart of.
    pub(crate) fn new(frame: DataFrame, dialect: Dialect) -> Result<Self> {
        let mut columns = Vec::new();
        for field in frame.schema().fields() {
            let data_type = canonical(field.data_type());
            check(field.name(), &data_type, dialect)?;
            columns.push(OutColumn { name: field.name().clone(), data_type, nullable: field.is_nullable() });
        }
        match columns.is_empty() {
            true => Err(Error::user("a DataFrame without columns cannot be written to a table")),
            false => Ok(Self { frame, columns }),
        }
    }

    /// Whether the query reads a table of the same database under the same name.
    ///
    /// # Errors
    /// None of its own.
    pub(crate) fn reads(&self, target: &Target, table: &str) -> Result<bool> {
        let mut found = false;
        self.frame.logical_plan().apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = source_as_provider(&scan.source)?;
                let any: &dyn std::any::Any = provider.as_ref();
                found |= any.downcast_ref::<JdbcTable>().is_some_and(|read| read.is_of(target, table));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    }

    /// Runs the query.
    pub(crate) async fn run(self) -> Result<Running> {
        let types = self.columns.into_iter().map(|column| column.data_type).collect();
        Ok(Running { stream: self.frame.execute_stream().await?, types })
    }
}

/// Rows as they come.
pub(crate) struct Running {
    stream: SendableRecordBatchStream,
    types: Vec<DataType>,
}

impl Running {
    /// The next rows, in the types that [`value`] takes.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.stream.next().await else { return Ok(None) };
        let batch = batch?;
        let mut fields = Vec::new();
        let mut arrays = Vec::new();
        for ((field, array), data_type) in batch.schema().fields().iter().zip(batch.columns()).zip(&self.types) {
            arrays.push(if array.data_type() == data_type { array.clone() } else { cast(array, data_type)? });
            fields.push(field.as_ref().clone().with_data_type(data_type.clone()));
        }
        let schema: SchemaRef = arrow::datatypes::Schema::new(fields).into();
        Ok(Some(RecordBatch::try_new(schema, arrays)?))
    }
}

/// Fails if a column cannot be written.
fn check(name: &str, data_type: &DataType, dialect: Dialect) -> Result<()> {
    let is_writable = match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, _) => true,
        DataType::List(element) => {
            let is_nested = matches!(element.data_type(), DataType::List(_));
            dialect == Dialect::Postgres && !is_nested && check(name, element.data_type(), dialect).is_ok()
        }
        _ => false,
    };
    if is_writable && !is_variant(data_type) { Ok(()) } else { Err(unwritable(name, data_type)) }
}

fn unwritable(name: &str, data_type: &DataType) -> Error {
    Error::unsupported(format!("writing column `{name}` of type {} to a database", sql_type_name(data_type)))
        .with_help("Turn it into text: `to_json(column)` or `CAST(column AS STRING)`.")
}
