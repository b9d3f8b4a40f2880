//! Finds implicit casts of text to integers, which make `'0.5' > 0` false without a word.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::Span;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::cast::SparkCast;
use crate::diagnostic::SourceLocation;
use crate::naming::column_name;
use crate::types::{quote, sql_type_name};

/// Text that is compared with an integer and cut at its point by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LenientCast {
    /// The text expression.
    pub expression: String,
    /// Its type.
    pub from: String,
    /// The type it is cast to.
    pub to: String,
    /// What to write instead.
    pub suggestion: String,
    position: Option<Span>,
    origin: Option<SourceLocation>,
}

impl LenientCast {
    /// Says where the query's text starts, which a plan does not know.
    #[must_use]
    pub fn located_in(mut self, origin: SourceLocation) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Where the text expression stands, if its columns know and [`LenientCast::located_in`] was told.
    pub fn location(&self) -> Option<SourceLocation> {
        let (start, origin) = (self.position?.start, self.origin.as_ref()?);
        let number = |value: u64| u32::try_from(value).unwrap_or(0);
        let (line, column) = (number(start.line), number(start.column));
        let first = origin.line.max(1);
        let column = if line == 1 { origin.column.max(1) - 1 + column } else { column };
        Some(SourceLocation::new(origin.file.clone(), first - 1 + line, column))
    }

    /// What to write instead, as a sentence.
    pub fn help(&self) -> String {
        format!("Write {} to compare numbers.", self.suggestion)
    }
}

impl fmt::Display for LenientCast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is {} and is implicitly cast to {}, which drops the digits after the point",
            self.expression, self.from, self.to
        )
    }
}

/// The implicit casts of a plan that can change the meaning of its values.
pub fn lenient_casts(plan: &LogicalPlan) -> Vec<LenientCast> {
    let mut found = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            collect(expr, &mut found);
            Ok(TreeNodeRecursion::Continue)
        })
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    found
}

/// As [`lenient_casts`], of one expression.
pub fn lenient_casts_of(expr: &Expr) -> Vec<LenientCast> {
    let mut found = Vec::new();
    collect(expr, &mut found);
    found
}

fn collect(expr: &Expr, found: &mut Vec<LenientCast>) {
    let walked = expr.apply(|expr| {
        if let Some(lenient) = lenient_cast(expr)
            && !found.contains(&lenient)
        {
            found.push(lenient);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
}

fn lenient_cast(expr: &Expr) -> Option<LenientCast> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let cast = function.func.inner().downcast_ref::<SparkCast>().filter(|cast| cast.cuts_text())?;
    let argument = function.args.first()?;
    let expression = column_name(argument);
    Some(LenientCast {
        from: sql_type_name(&DataType::Utf8),
        to: sql_type_name(cast.to()),
        suggestion: suggestion(argument),
        expression,
        position: first_span(argument),
        origin: None,
    })
}

/// SQL that compares the number in a text: the number itself, where the text is one that is written out.
fn suggestion(argument: &Expr) -> String {
    match argument {
        Expr::Literal(value, _) => match value.try_as_str().flatten() {
            Some(text) if text.trim().parse::<f64>().is_ok() => text.trim().to_owned(),
            Some(text) => format!("CAST('{}' AS DOUBLE)", text.replace('\'', "\\'")),
            None => "CAST(… AS DOUBLE)".to_owned(),
        },
        Expr::Column(column) => format!("CAST({} AS DOUBLE)", quote(&column.name)),
        // Names of expressions show texts without their quotes.
        other if other.exists(|part| Ok(matches!(part, Expr::Literal(..)))).unwrap_or(true) => {
            "CAST(… AS DOUBLE)".to_owned()
        }
        other => format!("CAST({} AS DOUBLE)", column_name(other)),
    }
}

/// The position of the first column that has one.
fn first_span(expr: &Expr) -> Option<Span> {
    let mut found = None;
    let walked = expr.apply(|expr| {
        if let Expr::Column(column) = expr {
            found = column.spans.first();
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_sql() {
        use datafusion::prelude::{col, lit};
        assert_eq!(suggestion(&lit("0.5")), "0.5");
        assert_eq!(suggestion(&lit("it's")), "CAST('it\\'s' AS DOUBLE)");
        assert_eq!(suggestion(&col("amount")), "CAST(amount AS DOUBLE)");
        assert_eq!(suggestion(&col("`my amount`")), "CAST(`my amount` AS DOUBLE)");
    }

    #[test]
    fn a_cast_says_what_it_does_and_what_to_write() {
        let cast = LenientCast {
            expression: "amount".to_owned(),
            from: "STRING".to_owned(),
            to: "INT".to_owned(),
            suggestion: "CAST(amount AS DOUBLE)".to_owned(),
            position: None,
            origin: None,
        };
        assert!(cast.to_string().starts_with("`amount` is STRING and is implicitly cast to INT"));
        assert_eq!(cast.help(), "Write CAST(amount AS DOUBLE) to compare numbers.");
        assert_eq!(cast.location(), None);
    }
}
