//! What a write does before it casts: the fields of structs go where the table has them, by name.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result as DataFusionResult, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::cast_expr;
use crate::error::{Error, Result};

/// `expr` of type `from` as a value for a column of type `to`: structs by name, then a cast.
///
/// # Errors
/// `INCOMPATIBLE_DATA_FOR_TABLE.EXTRA_STRUCT_FIELDS` (`User`) if a struct has a field that the column lacks.
pub fn assign_expr(expr: Expr, from: &DataType, to: &DataType) -> Result<Expr> {
    if from == to {
        return Ok(expr);
    }
    let arranged = arranged(from, to)?;
    let expr = if &arranged == from {
        expr
    } else {
        let udf = ScalarUDF::new_from_impl(FieldsByName { to: arranged.clone() });
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), vec![expr]))
    };
    Ok(if &arranged == to { expr } else { cast_expr(expr, to.clone()) })
}

/// `from` with the fields of its structs in the order of `to`; those it lacks have their type there.
fn arranged(from: &DataType, to: &DataType) -> Result<DataType> {
    Ok(match (from, to) {
        (DataType::Struct(from), DataType::Struct(to)) => {
            if let Some(extra) = from.iter().find(|field| find(to, field.name()).is_none()) {
                return Err(Error::user(format!("the column has no field `{}`, which the value has", extra.name()))
                    .with_condition("INCOMPATIBLE_DATA_FOR_TABLE.EXTRA_STRUCT_FIELDS")
                    .with_help("Leave the field out, or declare it."));
            }
            let field = |to: &FieldRef| match find(from, to.name()) {
                Some((_, from)) => same(from, to.name(), arranged(from.data_type(), to.data_type())?),
                None => Ok(Arc::new(to.as_ref().clone().with_nullable(true))),
            };
            DataType::Struct(to.iter().map(field).collect::<Result<Fields>>()?)
        }
        (DataType::List(from), DataType::List(to)) => {
            DataType::List(same(from, from.name(), arranged(from.data_type(), to.data_type())?)?)
        }
        (DataType::Map(from, sorted), DataType::Map(to, _)) => {
            let (DataType::Struct(entries), DataType::Struct(wanted)) = (from.data_type(), to.data_type()) else {
                return Err(Error::internal("the entries of a map are not a struct"));
            };
            let entries = entries
                .iter()
                .zip(wanted)
                .map(|(from, to)| same(from, from.name(), arranged(from.data_type(), to.data_type())?))
                .collect::<Result<Fields>>()?;
            DataType::Map(same(from, from.name(), DataType::Struct(entries))?, *sorted)
        }
        _ => from.clone(),
    })
}

/// `field` under this name, with another type.
fn same(field: &Field, name: &str, data_type: DataType) -> Result<FieldRef> {
    Ok(Arc::new(field.clone().with_name(name).with_data_type(data_type)))
}

fn find<'a>(fields: &'a Fields, name: &str) -> Option<(usize, &'a FieldRef)> {
    fields.iter().enumerate().find(|(_, field)| field.name().eq_ignore_ascii_case(name))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FieldsByName {
    to: DataType,
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(1, Volatility::Immutable));

impl ScalarUDFImpl for FieldsByName {
    fn name(&self) -> &'static str {
        "fields_by_name"
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let Some(value) = args.args.first() else { return exec_err!("fields_by_name takes one value") };
        Ok(ColumnarValue::Array(arrange(&value.to_array(args.number_rows)?, &self.to)?))
    }
}

fn arrange(array: &ArrayRef, to: &DataType) -> DataFusionResult<ArrayRef> {
    Ok(match (array.data_type(), to) {
        (from, _) if from == to => Arc::clone(array),
        (DataType::Struct(from), DataType::Struct(fields)) => {
            let array = array.as_struct();
            let column = |field: &FieldRef| match find(from, field.name()) {
                Some((index, _)) => arrange(array.column(index), field.data_type()),
                None => Ok(new_null_array(field.data_type(), array.len())),
            };
            let columns = fields.iter().map(column).collect::<DataFusionResult<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = arrange(list.values(), item.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())?)
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return exec_err!("the entries of a map are not a struct");
            };
            let columns = map
                .entries()
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| arrange(column, field.data_type()))
                .collect::<DataFusionResult<Vec<_>>>()?;
            let values = StructArray::try_new(fields.clone(), columns, None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, values, nulls, *sorted)?)
        }
        (from, _) => return exec_err!("a value of type {from} cannot be arranged as {to}"),
    })
}
