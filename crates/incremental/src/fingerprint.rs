//! What must stay the same of an expression for stored state to stay valid, as text.
//!
//! Names that planners make up differ from one planning to the next, and with every column that a query gains:
//! only what the user wrote counts.

use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;

/// The expression over `input` without qualifiers and without the numbers of made-up names. Of several columns of one
/// name the second is called `name:2`, and so on: the tables that they come from may be named otherwise, but not change
/// places.
pub(crate) fn of_expr(expr: &Expr, input: &DFSchema) -> String {
    let stripped = expr.clone().transform(|part| match part {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(of_column(&column, input))))),
        other => Ok(Transformed::no(other)),
    });
    stripped.map_or_else(|_| expr.to_string(), |stripped| stripped.data.schema_name().to_string())
}

fn of_column(column: &Column, input: &DFSchema) -> String {
    let name = of_name(&column.name);
    let place = input.maybe_index_of_column(column).unwrap_or_default();
    let before = input.fields().iter().take(place).filter(|other| of_name(other.name()).eq_ignore_ascii_case(name));
    match before.count() {
        0 => name.to_owned(),
        before => format!("{name}:{}", before + 1),
    }
}

/// `amount#12` as `amount`.
pub(crate) fn of_name(name: &str) -> &str {
    match name.rsplit_once('#') {
        Some((base, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => base,
        _ => name,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn tables_have_places_but_no_names() {
        let of = |name: &str| {
            let fields = vec![Field::new("id", DataType::Int64, true), Field::new("v#7", DataType::Int64, true)];
            DFSchema::try_from_qualified_schema(name, &Schema::new(fields)).unwrap()
        };
        let (ab, xy) = (of("a").join(&of("b")).unwrap(), of("x").join(&of("y")).unwrap());
        let sum = |table: &str| Expr::Column(Column::new(Some(table), "v#7")) + lit(1);
        assert_eq!(of_expr(&sum("a"), &ab), "v + Int32(1)");
        assert_eq!(of_expr(&sum("b"), &ab), "v:2 + Int32(1)");
        assert_eq!(of_expr(&sum("y"), &xy), of_expr(&sum("b"), &ab));
        assert_eq!(of_expr(&col("a.id"), &ab), "id");
    }
}
