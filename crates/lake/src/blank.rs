//! Empty text in partition columns.
//!
//! In Delta's log the empty string stands for NULL as the value of a partition column, whatever its type. What is
//! written here never has it in text columns; tables that others have written may.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Scalar, StringArray};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, case, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use deltaworks_spark::error::Result;

use crate::error::from_delta;
use crate::schema::index_of;
use crate::table::Table;

/// The positions of the partition columns that hold text.
pub(crate) fn text_partitions(schema: &Schema, partition_columns: &[String]) -> Vec<usize> {
    let positions = partition_columns.iter().filter_map(|name| index_of(schema.fields(), name));
    positions.filter(|index| schema.field(*index).data_type() == &DataType::Utf8).collect()
}

/// A text column with NULL for empty texts.
///
/// # Errors
/// `Internal` if the column does not hold text.
pub(crate) fn as_null(column: &ArrayRef) -> Result<ArrayRef> {
    if column.is_empty() {
        return Ok(Arc::clone(column));
    }
    let blank = eq(column, &Scalar::new(StringArray::from(vec![""])))?;
    Ok(if blank.true_count() == 0 { Arc::clone(column) } else { nullif(column, &blank)? })
}

impl Table {
    /// The partition columns of text that may be NULL.
    pub(crate) fn text_partitions(&self) -> Result<Vec<String>> {
        let columns = self.definition()?.partition_columns;
        let schema = self.schema();
        let positions = text_partitions(schema, &columns).into_iter();
        let nullable = positions.map(|index| schema.field(index)).filter(|field| field.is_nullable());
        Ok(nullable.map(|field| field.name().clone()).collect())
    }

    /// Those of them for which the log of this version has an empty text.
    pub(crate) fn blank_partitions(&self) -> Result<Vec<String>> {
        let mut columns = self.text_partitions()?;
        if columns.is_empty() {
            return Ok(columns);
        }
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        let values: Vec<_> = log.iter().map(|file| file.partition_values_map()).collect();
        columns.retain(|column| {
            values.iter().any(|of_file| matches!(of_file.get(column), Some(Some(text)) if text.is_empty()))
        });
        Ok(columns)
    }
}

/// The rows of `plan` with NULL for empty texts in `columns`, as far as it has them.
pub(crate) fn nulled(plan: Arc<dyn ExecutionPlan>, columns: &[String]) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    if !schema.fields().iter().any(|field| columns.contains(field.name())) {
        return Ok(plan);
    }
    let expressions = schema.fields().iter().enumerate().map(|(index, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        if !columns.contains(field.name()) {
            return Ok((column, field.name().clone()));
        }
        let blank = Arc::new(BinaryExpr::new(Arc::clone(&column), Operator::Eq, lit("")));
        let null = lit(ScalarValue::try_from(field.data_type())?);
        Ok((case(None, vec![(blank as _, null)], Some(column))?, field.name().clone()))
    });
    let expressions = expressions.collect::<DataFusionResult<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(expressions, plan)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::prelude::{SessionContext, col, lit};

    use crate::test_support::{Folder, people, people_schema, rows, write};
    use crate::{Commit, Lake, Table, TableDefinition};

    async fn by_name(folder: &Folder, rows: &[(i64, &str)]) -> Table {
        let mut definition = TableDefinition::new(people_schema());
        definition.partition_columns = vec!["name".to_owned()];
        let mut table = Lake::default().create(&folder.url("t"), &definition).await.unwrap();
        Commit::append(write(&table, people(rows)).await).commit(&mut table).await.unwrap();
        table
    }

    async fn ids(table: &Table, condition: datafusion::prelude::Expr) -> usize {
        let frame = SessionContext::new().read_table(table.provider().unwrap()).unwrap();
        frame.filter(condition).unwrap().count().await.unwrap()
    }

    #[tokio::test]
    async fn an_empty_text_is_written_as_null() {
        let folder = Folder::new();
        let table = by_name(&folder, &[(1, ""), (2, "a"), (3, " ")]).await;
        assert!(table.blank_partitions().unwrap().is_empty());
        assert_eq!(ids(&table, col("name").is_null()).await, 1);
        assert_eq!(ids(&table, col("name").eq(lit(" "))).await, 1);
    }

    #[tokio::test]
    async fn an_empty_text_that_others_wrote_is_null() {
        let folder = Folder::new();
        let table = by_name(&folder, &[(1, "x"), (2, "a")]).await;
        let log = crate::location::to_path(table.location()).unwrap().join("_delta_log/00000000000000000001.json");
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::write(&log, text.replace(r#""partitionValues":{"name":"x"}"#, r#""partitionValues":{"name":""}"#))
            .unwrap();
        let table = Lake::default().open(&folder.url("t"), None).await.unwrap().unwrap();
        assert_eq!(table.blank_partitions().unwrap(), ["name"]);
        assert_eq!(rows(table.provider().unwrap()).await, ["1|", "2|a"]);
        assert_eq!(ids(&table, col("name").is_null()).await, 1);
        assert_eq!(ids(&table, col("name").eq(lit(""))).await, 0);
        assert_eq!(ids(&table, col("name").eq(lit("a"))).await, 1);
        let files = table.provider_for_files(&table.files().unwrap()).await.unwrap();
        assert_eq!(rows(files).await, ["1|", "2|a"]);
        let with_file = table.provider_with_file_column(&table.files().unwrap()).unwrap();
        let named = SessionContext::new().read_table(with_file).unwrap().filter(col("name").is_not_null()).unwrap();
        assert_eq!(named.count().await.unwrap(), 1);
    }
}
