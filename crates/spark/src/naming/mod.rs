//! The names Spark gives to columns without an alias: `count(1)`, `(a + b)`, `CAST(x AS INT)`.

mod call;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::{Expr, Operator};

use crate::cast::format::{write_date, write_timestamp};
use crate::cast::{CastMode, SparkCast};
use crate::coercion::{display_operator, is_operator};
use crate::types::sql_type_name;

pub(crate) use call::call_name;

/// The name of the column an expression makes if it is given none.
pub fn column_name(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => alias.name.clone(),
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(binary) => {
            format!("({} {} {})", column_name(&binary.left), operator(binary.op), column_name(&binary.right))
        }
        Expr::Cast(cast) => format!("CAST({} AS {})", column_name(&cast.expr), sql_type_name(cast.field.data_type())),
        Expr::TryCast(cast) => {
            format!("TRY_CAST({} AS {})", column_name(&cast.expr), sql_type_name(cast.field.data_type()))
        }
        Expr::Not(inner) => format!("(NOT {})", column_name(inner)),
        Expr::Negative(inner) => format!("(- {})", column_name(inner)),
        Expr::IsNull(inner) => format!("({} IS NULL)", column_name(inner)),
        Expr::IsNotNull(inner) => format!("({} IS NOT NULL)", column_name(inner)),
        Expr::IsTrue(inner) => format!("({} IS TRUE)", column_name(inner)),
        Expr::IsFalse(inner) => format!("({} IS FALSE)", column_name(inner)),
        Expr::Like(like) => {
            let not = if like.negated { "NOT " } else { "" };
            let word = if like.case_insensitive { "ilike" } else { "LIKE" };
            format!("{} {not}{word} {}", column_name(&like.expr), column_name(&like.pattern))
        }
        Expr::InList(list) => {
            let word = if list.negated { "NOT IN" } else { "IN" };
            format!("({} {word} ({}))", column_name(&list.expr), names(&list.list))
        }
        Expr::Between(between) => {
            let not = if between.negated { "NOT " } else { "" };
            let name = column_name(&between.expr);
            format!("({name} {not}BETWEEN {} AND {})", column_name(&between.low), column_name(&between.high))
        }
        Expr::Case(case) => {
            let mut text = "CASE".to_owned();
            if let Some(base) = &case.expr {
                text.push_str(&format!(" {}", column_name(base)));
            }
            for (when, then) in &case.when_then_expr {
                text.push_str(&format!(" WHEN {} THEN {}", column_name(when), column_name(then)));
            }
            if let Some(otherwise) = &case.else_expr {
                text.push_str(&format!(" ELSE {}", column_name(otherwise)));
            }
            text + " END"
        }
        Expr::ScalarFunction(function) => scalar(function),
        Expr::AggregateFunction(function) => aggregate(function),
        Expr::WindowFunction(function) => window(function),
        other => other.schema_name().to_string(),
    }
}

fn names(exprs: &[Expr]) -> String {
    exprs.iter().map(column_name).collect::<Vec<_>>().join(", ")
}

fn operator(op: Operator) -> String {
    match op {
        Operator::NotEq => "!=".to_owned(),
        Operator::IsNotDistinctFrom => "<=>".to_owned(),
        other => other.to_string(),
    }
}

fn literal(value: &ScalarValue) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = match value {
        _ if value.is_null() => return "NULL".to_owned(),
        ScalarValue::Date32(Some(days)) => {
            text.push_str("DATE '");
            write_date(&mut text, i64::from(*days)).map(|()| text.push('\''))
        }
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => {
            text.push_str(if zone.is_some() { "TIMESTAMP '" } else { "TIMESTAMP_NTZ '" });
            write_timestamp(&mut text, *micros).map(|()| text.push('\''))
        }
        ScalarValue::Utf8(Some(value)) | ScalarValue::LargeUtf8(Some(value)) | ScalarValue::Utf8View(Some(value)) => {
            return value.clone();
        }
        other => {
            let shown = other.to_array().ok().and_then(|array| {
                let text = crate::cast::cast_array(
                    &array,
                    &arrow::datatypes::DataType::Utf8,
                    CastMode::Lenient,
                    chrono_tz::UTC,
                );
                text.ok().map(|text| arrow::array::AsArray::as_string::<i32>(&text).value(0).to_owned())
            });
            return shown.unwrap_or_else(|| other.to_string());
        }
    };
    text
}

fn scalar(function: &datafusion::logical_expr::expr::ScalarFunction) -> String {
    let udf = function.func.inner();
    if let Some(cast) = udf.downcast_ref::<SparkCast>() {
        // An implied cast is not part of the name.
        return match function.args.first() {
            Some(arg) if cast.cuts_text() => column_name(arg),
            Some(arg) => format!("{}({} AS {})", cast.keyword(), column_name(arg), sql_type_name(cast.to())),
            None => cast.keyword().to_owned(),
        };
    }
    if let ([left, right], true) = (function.args.as_slice(), is_operator(&function.func)) {
        return format!("({} {} {})", column_name(left), display_operator(&function.func), column_name(right));
    }
    if udf.name() == "get_field"
        && let [base, Expr::Literal(ScalarValue::Utf8(Some(field)), _)] = function.args.as_slice()
    {
        return format!("{}.{field}", column_name(base));
    }
    call_name(function.func.name(), &function.args.iter().map(column_name).collect::<Vec<_>>(), false)
}

fn aggregate(function: &AggregateFunction) -> String {
    let params = &function.params;
    let args: Vec<_> = params.args.iter().map(column_name).collect();
    let mut name = call_name(function.func.name(), &args, params.distinct);
    if let Some(filter) = &params.filter {
        name.push_str(&format!(" FILTER (WHERE {})", column_name(filter)));
    }
    if params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        name.push_str(" ignore nulls");
    }
    name
}

fn window(function: &WindowFunction) -> String {
    let name = match &function.fun {
        WindowFunctionDefinition::AggregateUDF(udf) => udf.name().to_owned(),
        WindowFunctionDefinition::WindowUDF(udf) => udf.name().to_owned(),
    };
    let params = &function.params;
    let mut parts = Vec::new();
    if !params.partition_by.is_empty() {
        parts.push(format!("PARTITION BY {}", names(&params.partition_by)));
    }
    if !params.order_by.is_empty() {
        let keys: Vec<_> = params
            .order_by
            .iter()
            .map(|sort| {
                let direction = if sort.asc { "ASC" } else { "DESC" };
                let nulls = if sort.nulls_first { "FIRST" } else { "LAST" };
                format!("{} {direction} NULLS {nulls}", column_name(&sort.expr))
            })
            .collect();
        parts.push(format!("ORDER BY {}", keys.join(", ")));
    }
    parts.push(params.window_frame.to_string());
    format!("{name}({}) OVER ({})", names(&params.args), parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::cast_expr;
    use arrow::datatypes::DataType;
    use datafusion::prelude::{col, lit};

    #[test]
    fn names_are_sparks() {
        for (expr, expected) in [
            (col("a") + lit(1), "(a + 1)"),
            (cast_expr(col("x"), DataType::Int32), "CAST(x AS INT)"),
            (col("a").eq(lit("x")), "(a = x)"),
            (col("a").is_null(), "(a IS NULL)"),
            (lit(1.5), "1.5"),
            (lit(ScalarValue::Null), "NULL"),
            (datafusion::functions_aggregate::expr_fn::sum(col("x")), "sum(x)"),
            (datafusion::functions_aggregate::expr_fn::count(lit(1)), "count(1)"),
            (datafusion::functions_aggregate::expr_fn::count_distinct(col("x")), "count(DISTINCT x)"),
        ] {
            assert_eq!(column_name(&expr), expected);
        }
    }
}
