//! Problems that DataFusion's planner tells in its own words, in Spark's.

use crate::error::Error;

/// The problem behind a planner's message, if it is one that Spark has a name for.
pub(crate) fn plan_problem(message: &str) -> Option<Error> {
    not_grouped(message)
        .or_else(|| set_operation(message))
        .or_else(|| not_a_condition(message))
        .or_else(|| function_arguments(message))
        .or_else(|| nested_aggregate(message))
        .or_else(|| uneven_values(message))
}

fn not_grouped(message: &str) -> Option<Error> {
    let (before, _) = message.split_once("\" must appear in the GROUP BY clause")?;
    let column = before.rsplit_once("column \"")?.1;
    let column = column.rsplit('.').next().unwrap_or(column);
    Some(
        Error::user(format!("column `{column}` is neither grouped nor aggregated"))
            .with_condition("MISSING_AGGREGATION")
            .with_help(format!(
                "Add it to GROUP BY, aggregate it, or take any value of the group: any_value({column})."
            )),
    )
}

fn set_operation(message: &str) -> Option<Error> {
    let (before, _) = message.split_once(" queries have different number of columns")?;
    let operation = before.rsplit(' ').next()?;
    Some(
        Error::user(format!("the two sides of {operation} have different numbers of columns"))
            .with_condition("NUM_COLUMNS_MISMATCH")
            .with_help("Select as many columns on each side; they are matched by position."),
    )
}

fn not_a_condition(message: &str) -> Option<Error> {
    let (_, found) = message.split_once("Cannot create filter with non-boolean predicate '")?;
    let expression = found.rsplit_once("' returning ")?.0;
    Some(
        Error::user(format!("`{expression}` is a value, not a condition"))
            .with_condition("DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN")
            .with_help("Write a comparison, such as `amount > 0`."),
    )
}

fn nested_aggregate(message: &str) -> Option<Error> {
    let (_, found) = message.split_once("Aggregate function calls cannot be nested: '")?;
    let inner = found.split_once("' is nested inside ")?.0;
    Some(
        Error::user(format!("the aggregate `{inner}` stands within another aggregate"))
            .with_condition("NESTED_AGGREGATE_FUNCTION")
            .with_help("Aggregate in a subquery first."),
    )
}

fn uneven_values(message: &str) -> Option<Error> {
    let (_, found) = message.split_once("Inconsistent data length across values list: got ")?;
    let (got, rest) = found.split_once(" values in row ")?;
    let (row, expected) = rest.split_once(" but expected ")?;
    let row = row.parse::<usize>().ok()? + 1;
    Some(
        Error::user(format!("row {row} of VALUES has {got} values, but the first has {expected}"))
            .with_condition("INVALID_INLINE_TABLE.NUM_COLUMNS_MISMATCH"),
    )
}

/// What a function of ours said about its arguments, inside what DataFusion says about functions.
fn function_arguments(message: &str) -> Option<Error> {
    let (_, ours) = message.split_once("user-defined coercion failed with: External error: [")?;
    let (condition, rest) = ours.split_once("] ")?;
    let (problem, _) = rest.split_once(". No function matches").unwrap_or((rest, ""));
    Some(Error::user(problem).with_condition(condition))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn planner_messages_become_spark_conditions() {
        let cases = [
            (
                "Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column \"c.name\" \
                 must appear in the GROUP BY clause or must be part of an aggregate function",
                "MISSING_AGGREGATION",
                "column `name` is neither grouped nor aggregated",
            ),
            (
                "Error during planning: UNION queries have different number of columns",
                "NUM_COLUMNS_MISMATCH",
                "the two sides of UNION have different numbers of columns",
            ),
            (
                "Cannot create filter with non-boolean predicate 'array(id)' returning List(Int32)",
                "DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN",
                "`array(id)` is a value, not a condition",
            ),
            (
                "Function 'upper' user-defined coercion failed with: External error: [WRONG_NUM_ARGS.WITHOUT_SUGGESTION] `upper` \
                 takes 1 argument. No function matches the given name",
                "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
                "`upper` takes 1 argument",
            ),
        ];
        let more = [
            (
                "Error during planning: Aggregate function calls cannot be nested: 'sum(t.a)' is nested inside 'sum(sum(t.a))'",
                "NESTED_AGGREGATE_FUNCTION",
                "the aggregate `sum(t.a)` stands within another aggregate",
            ),
            (
                "Error during planning: Inconsistent data length across values list: got 2 values in row 1 but expected 1",
                "INVALID_INLINE_TABLE.NUM_COLUMNS_MISMATCH",
                "row 2 of VALUES has 2 values, but the first has 1",
            ),
        ];
        for (message, condition, expected) in cases.into_iter().chain(more) {
            let problem = plan_problem(message).unwrap();
            assert_eq!((problem.condition(), problem.message()), (Some(condition), expected));
        }
        assert!(plan_problem("something else").is_none());
    }
}
