//! Fields that are never NULL within structs that may be: below a NULL the reader of Parquet gives some value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use deltaworks_spark::null_structs;
use deltaworks_spark::types::is_variant;

/// The columns that are not what they seem below a NULL.
pub(crate) fn unreliable(schema: &Schema) -> impl Iterator<Item = &FieldRef> {
    schema.fields().iter().filter(|field| is_unreliable(field))
}

fn is_unreliable(field: &Field) -> bool {
    match field.data_type() {
        // Nobody takes a field out of a variant.
        data_type if is_variant(data_type) => false,
        DataType::Struct(fields) => {
            (field.is_nullable() && fields.iter().any(|field| !field.is_nullable()))
                || fields.iter().any(|field| is_unreliable(field))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => is_unreliable(item),
        _ => false,
    }
}

/// The rows of `plan` with NULL for the fields of structs that are NULL.
pub(crate) fn in_order(plan: Arc<dyn ExecutionPlan>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    if unreliable(&schema).next().is_none() {
        return Ok(plan);
    }
    let function =
        Arc::new(ScalarUDF::new_from_impl(NullFields { signature: Signature::any(1, Volatility::Immutable) }));
    let expressions = schema.fields().iter().enumerate().map(|(index, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        if !is_unreliable(field) {
            return Ok((column, field.name().clone()));
        }
        let options = Arc::new(ConfigOptions::default());
        let ordered = ScalarFunctionExpr::try_new(Arc::clone(&function), vec![column], &schema, options)?;
        Ok((Arc::new(ordered) as _, field.name().clone()))
    });
    let expressions = expressions.collect::<DataFusionResult<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(expressions, plan)?))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NullFields {
    signature: Signature,
}

impl ScalarUDFImpl for NullFields {
    fn name(&self) -> &'static str {
        "null_fields"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let column = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(null_structs::in_order(&column)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StructArray};
    use arrow::datatypes::{Fields, Int64Type, SchemaRef};
    use datafusion::functions::core::expr_ext::FieldAccessor as _;
    use datafusion::prelude::{SessionContext, ident};

    use super::*;
    use crate::test_support::{Folder, write};
    use crate::{Commit, Lake, TableDefinition};

    #[tokio::test]
    async fn fields_of_null_structs_are_null() {
        let fields = Fields::from(vec![Field::new("a", DataType::Int64, false)]);
        let point = Field::new("s", DataType::Struct(fields.clone()), true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), point]));
        let numbers = |numbers: [i64; 3]| -> ArrayRef { Arc::new(Int64Array::from(numbers.to_vec())) };
        let points = StructArray::new(fields, vec![numbers([5, 0, 6])], Some(vec![true, false, true].into()));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![numbers([1, 2, 3]), Arc::new(points)]).unwrap();
        let folder = Folder::new();
        let mut table = Lake::default().create(&folder.url("t"), &TableDefinition::new(schema)).await.unwrap();
        Commit::append(write(&table, rows).await).commit(&mut table).await.unwrap();

        let frame = SessionContext::new().read_table(table.provider().unwrap()).unwrap();
        let field = || ident("s").field("a");
        let missing = frame.clone().filter(field().is_null()).unwrap().count().await.unwrap();
        assert_eq!(missing, 1);
        let found = frame.select(vec![field().alias("a")]).unwrap().collect().await.unwrap();
        let found: Vec<_> = found.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter()).collect();
        assert_eq!(found, [Some(5), None, Some(6)]);
    }
}
