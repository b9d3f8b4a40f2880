//! Rows of a query as text: a table, CSV or JSON, with values written as Spark writes them.

mod csv;
mod json;
mod table;
mod value;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use deltaworks_spark::Result;

use crate::args::RowFormat;

/// All rows in `format`, ending with a line break.
pub(crate) fn render(schema: &Schema, batches: &[RecordBatch], format: RowFormat) -> Result<String> {
    match format {
        RowFormat::Table => table::render(schema, batches),
        RowFormat::Csv => csv::render(schema, batches),
        RowFormat::Json => json::render(batches),
    }
}

pub(crate) use table::text_table;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int32Builder,
        Int64Array, ListArray, MapBuilder, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{DataType, Field, Fields, Int32Type};

    use deltaworks_spark::variant::VariantColumn;

    use super::*;

    fn variants() -> ArrayRef {
        let mut column = VariantColumn::default();
        assert!(column.push_json(r#"{"a": [1.50, "x", null]}"#));
        assert!(column.push_json("\"y\""));
        column.finish()
    }

    fn batch() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
        let parts: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec!["x", "y"]))];
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("k");
        map.values().append_value(1);
        map.append(true).unwrap();
        map.append(true).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("name", Arc::new(StringArray::from(vec![Some("größe, \"q\""), Some("")]))),
            ("ok", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            (
                "price",
                Arc::new(Decimal128Array::from(vec![Some(1250), Some(-5)]).with_precision_and_scale(10, 2).unwrap()),
            ),
            ("ratio", Arc::new(Float64Array::from(vec![1.0, 1.5e10]))),
            ("day", Arc::new(Date32Array::from(vec![Some(20454), None]))),
            (
                "at",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(1_767_225_600_000_000), Some(1_767_225_600_120_000)])
                        .with_timezone("UTC"),
                ),
            ),
            ("list", Arc::new(list)),
            ("struct", Arc::new(StructArray::new(fields, parts, None))),
            ("map", Arc::new(map.finish())),
            ("variant", variants()),
            ("bytes", Arc::new(BinaryArray::from(vec![Some(b"ab".as_slice()), None]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    #[test]
    fn rows_are_written_as_spark_writes_them() {
        let batch = batch();
        for (name, format) in [("table", RowFormat::Table), ("csv", RowFormat::Csv), ("json", RowFormat::Json)] {
            let text = render(&batch.schema(), std::slice::from_ref(&batch), format).unwrap();
            insta::assert_snapshot!(format!("rows_{name}"), text);
        }
    }

    #[test]
    fn no_rows_still_have_a_header() {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        assert_eq!(render(&schema, &[], RowFormat::Table).unwrap(), "+---+\n|id |\n+---+\n+---+\n");
        assert_eq!(render(&schema, &[], RowFormat::Csv).unwrap(), "id\n");
        assert_eq!(render(&schema, &[], RowFormat::Json).unwrap(), "");
    }
}
