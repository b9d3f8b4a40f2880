//! Conditions that the database can check in our place, as its SQL.
//!
//! A condition is *exact* if the database keeps just the rows that we would keep, and else may keep more: then we check
//! again. A condition that could lose a row of ours is not sent. What is sent is compared in columns whose type says that
//! the database compares as we do ([`Compare`]).

use arrow::datatypes::DataType;
use chrono::Datelike;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use crate::column::{Column, Compare};
use crate::decimal;
use crate::dialect::Dialect;
use crate::time;

/// More values than this are no condition, but a table.
const MOST_VALUES: usize = 1000;

/// Days and moments outside of these years are compared here: infinities, and calendars' ends, are not.
const YEARS: std::ops::RangeInclusive<i32> = 1583..=9998;

/// A condition in the database's SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) sql: String,
    pub(crate) exact: bool,
}

/// A condition as the database's SQL; `None` if only we can check it.
pub(crate) fn compile(expr: &Expr, columns: &[Column], dialect: Dialect) -> Option<Pushed> {
    Compiler { columns, dialect }.condition(expr)
}

struct Compiler<'a> {
    columns: &'a [Column],
    dialect: Dialect,
}

impl Compiler<'_> {
    fn condition(&self, expr: &Expr) -> Option<Pushed> {
        match expr {
            Expr::BinaryExpr(binary) => self.binary(binary),
            Expr::Not(inner) => {
                let inner = self.condition(inner)?;
                // The opposite of too many rows is too few.
                inner.exact.then(|| Pushed { sql: format!("NOT ({})", inner.sql), exact: true })
            }
            Expr::IsNull(inner) => self.nullness(inner, "IS NULL"),
            Expr::IsNotNull(inner) => self.nullness(inner, "IS NOT NULL"),
            Expr::InList(list) if list.list.len() <= MOST_VALUES && !list.list.is_empty() => {
                let column = self.column(&list.expr)?;
                let exact = column.compare != Compare::Text;
                if list.negated && !exact {
                    return None;
                }
                let values = list.list.iter().map(|value| self.literal(value, column)).collect::<Option<Vec<_>>>()?;
                let operator = if list.negated { "NOT IN" } else { "IN" };
                Some(Pushed { sql: format!("{} {operator} ({})", self.name(column), values.join(", ")), exact })
            }
            Expr::Between(between) if !between.negated => {
                let column = self.ordered(&between.expr)?;
                let (low, high) = (self.literal(&between.low, column)?, self.literal(&between.high, column)?);
                let name = self.name(column);
                Some(Pushed { sql: format!("{name} >= {low} AND {name} <= {high}"), exact: true })
            }
            Expr::Column(_) => {
                let column = self.column(expr).filter(|column| column.compare == Compare::Bool)?;
                Some(Pushed { sql: self.name(column), exact: true })
            }
            _ => None,
        }
    }

    fn binary(&self, binary: &BinaryExpr) -> Option<Pushed> {
        let both = || (self.condition(&binary.left), self.condition(&binary.right));
        match binary.op {
            Operator::And => match both() {
                (Some(left), Some(right)) => Some(Pushed {
                    sql: format!("({}) AND ({})", left.sql, right.sql),
                    exact: left.exact && right.exact,
                }),
                (Some(one), None) | (None, Some(one)) => Some(Pushed { exact: false, ..one }),
                (None, None) => None,
            },
            Operator::Or => {
                let (left, right) = both();
                let (left, right) = (left?, right?);
                let exact = left.exact && right.exact;
                Some(Pushed { sql: format!("({}) OR ({})", left.sql, right.sql), exact })
            }
            op => match self.column(&binary.left) {
                Some(column) => self.comparison(column, op, &binary.right),
                None => self.comparison(self.column(&binary.right)?, op.swap()?, &binary.left),
            },
        }
    }

    fn comparison(&self, column: &Column, op: Operator, value: &Expr) -> Option<Pushed> {
        let is_text = column.compare == Compare::Text;
        let operator = match op {
            Operator::Eq => "=",
            // Collations order texts, and may call different ones equal.
            _ if is_text => return None,
            Operator::NotEq => "<>",
            Operator::Lt => "<",
            Operator::LtEq => "<=",
            Operator::Gt => ">",
            Operator::GtEq => ">=",
            _ => return None,
        };
        let sql = format!("{} {operator} {}", self.name(column), self.literal(value, column)?);
        Some(Pushed { sql, exact: !is_text })
    }

    fn nullness(&self, inner: &Expr, test: &str) -> Option<Pushed> {
        let Expr::Column(column) = inner else { return None };
        let column = self.columns.iter().find(|known| known.name == column.name)?;
        // A value that cannot be read is an error, not NULL; so NULL is NULL whatever the type.
        Some(Pushed { sql: format!("{} {test}", self.name(column)), exact: true })
    }

    fn name(&self, column: &Column) -> String {
        self.dialect.quote(&column.name)
    }

    fn column(&self, expr: &Expr) -> Option<&Column> {
        let Expr::Column(column) = expr else { return None };
        self.columns.iter().find(|known| known.name == column.name && known.compare != Compare::Nothing)
    }

    fn ordered(&self, expr: &Expr) -> Option<&Column> {
        self.column(expr).filter(|column| column.compare != Compare::Text)
    }

    fn literal(&self, expr: &Expr, column: &Column) -> Option<String> {
        let Expr::Literal(value, _) = expr else { return None };
        match (column.compare, value) {
            (Compare::Number, value) => number(value, &column.natural),
            (Compare::Bool, ScalarValue::Boolean(Some(value))) => {
                Some(if *value { "TRUE" } else { "FALSE" }.to_owned())
            }
            (Compare::Text, ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text))) => {
                self.dialect.text(text)
            }
            (Compare::Date, ScalarValue::Date32(Some(days))) => {
                let day = time::day(*days).filter(|day| YEARS.contains(&day.year()))?;
                Some(format!("DATE '{}'", time::day_text(day)))
            }
            (Compare::Instant, ScalarValue::TimestampMicrosecond(Some(micros), Some(_))) => match self.dialect {
                Dialect::Postgres => self.moment(*micros, "TIMESTAMP WITH TIME ZONE", "+00"),
                _ => self.moment(*micros, "TIMESTAMP", ""),
            },
            (Compare::Clock, ScalarValue::TimestampMicrosecond(Some(micros), None)) => {
                self.moment(*micros, "TIMESTAMP", "")
            }
            _ => None,
        }
    }

    fn moment(&self, micros: i64, data_type: &str, zone: &str) -> Option<String> {
        let moment = time::clock(micros).filter(|moment| YEARS.contains(&moment.year()))?;
        Some(format!("{data_type} '{}'", time::moment_text(moment, zone)))
    }
}

/// A number of a column's type. One of another type has been made comparable in ways of our own.
fn number(value: &ScalarValue, data_type: &DataType) -> Option<String> {
    if value.data_type() != *data_type {
        return None;
    }
    match value {
        ScalarValue::Int8(Some(value)) => Some(value.to_string()),
        ScalarValue::Int16(Some(value)) => Some(value.to_string()),
        ScalarValue::Int32(Some(value)) => Some(value.to_string()),
        ScalarValue::Int64(Some(value)) => Some(value.to_string()),
        // An exponent makes it a floating-point number to MySQL.
        ScalarValue::Float64(Some(value)) if value.is_finite() => Some(format!("{value:e}")),
        ScalarValue::Decimal128(Some(value), _, scale) => Some(decimal::text(*value, *scale)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::prelude::{Expr, col, lit};
    use deltaworks_spark::types::{timestamp, timestamp_ntz};

    use super::*;

    fn columns() -> Vec<Column> {
        vec![
            Column::new("id", DataType::Int64, Compare::Number),
            Column::new("price", DataType::Decimal128(10, 2), Compare::Number),
            Column::new("x", DataType::Float64, Compare::Number),
            Column::new("name", DataType::Utf8, Compare::Text),
            Column::new("uuid", DataType::Utf8, Compare::Nothing),
            Column::new("ok", DataType::Boolean, Compare::Bool),
            Column::new("day", DataType::Date32, Compare::Date),
            Column::new("at", timestamp(), Compare::Instant),
            Column::new("clock", timestamp_ntz(), Compare::Clock),
        ]
    }

    fn compiled(expr: &Expr, dialect: Dialect) -> String {
        match compile(expr, &columns(), dialect) {
            Some(Pushed { sql, exact }) => format!("{}{sql}", if exact { "" } else { "~ " }),
            None => "none".to_owned(),
        }
    }

    #[track_caller]
    fn check(expr: &Expr, expected: &str) {
        assert_eq!(compiled(expr, Dialect::Postgres), expected, "{expr}");
    }

    fn decimal(value: i128) -> Expr {
        lit(ScalarValue::Decimal128(Some(value), 10, 2))
    }

    fn at(zone: Option<&str>) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(Some(1_700_000_000_000_001), zone.map(Into::into)))
    }

    #[test]
    fn comparisons_that_mean_the_same_are_sent() {
        check(&col("id").gt(lit(5_i64)), r#""id" > 5"#);
        check(&lit(5_i64).gt(col("id")), r#""id" < 5"#);
        check(&col("price").lt_eq(decimal(-5)), r#""price" <= -0.05"#);
        check(&col("x").eq(lit(0.1)), r#""x" = 1e-1"#);
        check(&col("id").is_null().or(col("id").not_eq(lit(1_i64))), r#"("id" IS NULL) OR ("id" <> 1)"#);
        check(&col("id").in_list(vec![lit(1_i64), lit(2_i64)], true), r#""id" NOT IN (1, 2)"#);
        check(&col("id").between(lit(1_i64), lit(2_i64)), r#""id" >= 1 AND "id" <= 2"#);
        check(&!col("ok"), r#"NOT ("ok")"#);
        check(&col("day").gt_eq(lit(ScalarValue::Date32(Some(19_753)))), r#""day" >= DATE '2024-01-31'"#);
        let moment = "'2023-11-14 22:13:20.000001+00'";
        check(&col("at").lt(at(Some("UTC"))), &format!(r#""at" < TIMESTAMP WITH TIME ZONE {moment}"#));
        let moment = "'2023-11-14 22:13:20.000001'";
        check(&col("clock").lt(at(None)), &format!(r#""clock" < TIMESTAMP {moment}"#));
        let expr = col("at").lt(at(Some("UTC")));
        assert_eq!(compiled(&expr, Dialect::MySql), format!("`at` < TIMESTAMP {moment}"));
    }

    #[test]
    fn texts_are_sent_where_too_many_rows_do_no_harm() {
        check(&col("name").eq(lit("it's")), r#"~ "name" = 'it''s'"#);
        check(&col("name").in_list(vec![lit("a"), lit("b")], false), r#"~ "name" IN ('a', 'b')"#);
        check(&col("name").is_not_null(), r#""name" IS NOT NULL"#);
        check(&col("name").not_eq(lit("a")), "none");
        check(&col("name").lt(lit("a")), "none");
        check(&!col("name").eq(lit("a")), "none");
        check(&col("name").in_list(vec![lit("a")], true), "none");
        check(&col("name").eq(lit(r"\")), "none");
        check(&col("uuid").eq(lit("a")), "none");
        check(&col("uuid").is_null(), r#""uuid" IS NULL"#);
    }

    #[test]
    fn what_only_we_can_check_is_not_sent() {
        check(&col("id").gt(lit(5_i32)), "none");
        check(&col("x").eq(lit(f64::NAN)), "none");
        check(&(col("id") + lit(1_i64)).gt(lit(5_i64)), "none");
        check(&col("day").lt(lit(ScalarValue::Date32(Some(i32::MAX / 4000)))), r#""day" < DATE '3439-11-26'"#);
        check(&col("day").lt(lit(ScalarValue::Date32(Some(3_000_000)))), "none");
        check(&col("id").gt(lit(5_i64)).and(col("uuid").eq(lit("a"))), r#"~ "id" > 5"#);
        check(&col("id").gt(lit(5_i64)).or(col("uuid").eq(lit("a"))), "none");
    }
}
