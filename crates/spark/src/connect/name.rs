//! The names Spark gives to columns that the user has not named: `sum(x)`, `(a + 1)`, `CAST(x AS INT)`.
//!
//! They are read off the message, because a planned expression no longer knows how it was written.

use std::fmt::Write as _;

use super::proto::Expression;
use super::proto::expression::{
    self, Cast, ExprType, Literal, SortOrder, UnresolvedFunction, Window, cast, literal::LiteralType, sort_order,
    window::window_frame,
};
use super::{literal, scope, types};
use crate::cast::format::intervals_to_text;
use crate::connect::faces;
use crate::naming::call_name;
use crate::types::IntervalUnits;

/// The name of a column, if it is not given by an alias.
pub(super) fn of(expr: &Expression) -> String {
    match &expr.expr_type {
        Some(kind) => of_kind(kind),
        None => String::new(),
    }
}

/// The name as an output column: a cast of a column keeps the column's name, a field has its own.
pub(super) fn of_output(expr: &Expression) -> String {
    match &expr.expr_type {
        Some(ExprType::UnresolvedAttribute(attribute)) => last_part(&attribute.unparsed_identifier),
        Some(ExprType::Cast(cast)) => match cast.expr.as_deref().and_then(|inner| inner.expr_type.as_ref()) {
            Some(ExprType::UnresolvedAttribute(attribute)) => last_part(&attribute.unparsed_identifier),
            Some(ExprType::Alias(alias)) => alias.name.join(", "),
            _ => of(expr),
        },
        _ => of(expr),
    }
}

fn last_part(identifier: &str) -> String {
    scope::split_identifier(identifier).ok().and_then(|mut parts| parts.pop()).unwrap_or_else(|| identifier.to_owned())
}

fn of_kind(kind: &ExprType) -> String {
    match kind {
        ExprType::Literal(value) => of_literal(value),
        ExprType::UnresolvedAttribute(attribute) => scope::split_identifier(&attribute.unparsed_identifier)
            .map_or_else(|_| attribute.unparsed_identifier.clone(), |parts| parts.join(".")),
        ExprType::UnresolvedFunction(function) => of_function(function),
        ExprType::CallFunction(call) => call_name(&call.function_name, &shown(&call.arguments), false),
        ExprType::ExpressionString(text) => text.expression.clone(),
        ExprType::UnresolvedStar(star) => star.unparsed_target.clone().unwrap_or_else(|| "*".to_owned()),
        ExprType::Alias(alias) => {
            format!("{} AS {}", alias.expr.as_deref().map(of).unwrap_or_default(), alias.name.join(", "))
        }
        ExprType::Cast(cast) => of_cast(cast),
        ExprType::UnresolvedRegex(regex) => regex.col_name.clone(),
        ExprType::SortOrder(order) => of_order(order),
        ExprType::Window(window) => of_window(window),
        ExprType::UnresolvedExtractValue(extract) => of_extract(extract),
        ExprType::UpdateFields(update) => format!(
            "update_fields({}, {})",
            update.struct_expression.as_deref().map(of).unwrap_or_default(),
            update.field_name
        ),
        ExprType::LambdaFunction(lambda) => {
            let arguments: Vec<_> = lambda.arguments.iter().map(|argument| argument.name_parts.join(".")).collect();
            format!(
                "lambdafunction({}, {})",
                lambda.function.as_deref().map(of).unwrap_or_default(),
                arguments.join(", ")
            )
        }
        ExprType::UnresolvedNamedLambdaVariable(variable) => {
            format!("namedlambdavariable({})", variable.name_parts.join("."))
        }
        ExprType::CommonInlineUserDefinedFunction(function) => {
            format!("{}({})", function.function_name, list(&function.arguments))
        }
        ExprType::NamedArgumentExpression(argument) => {
            format!("{} => {}", argument.key, argument.value.as_deref().map(of).unwrap_or_default())
        }
        ExprType::SubqueryExpression(_) => "scalarsubquery()".to_owned(),
        ExprType::MergeAction(_)
        | ExprType::TypedAggregateExpression(_)
        | ExprType::DirectShufflePartitionId(_)
        | ExprType::Extension(_) => String::new(),
    }
}

fn shown(arguments: &[Expression]) -> Vec<String> {
    arguments.iter().map(of).collect()
}

fn list(arguments: &[Expression]) -> String {
    arguments.iter().map(of).collect::<Vec<_>>().join(", ")
}

fn of_literal(value: &Literal) -> String {
    match &value.literal_type {
        None | Some(LiteralType::Null(_)) => "NULL".to_owned(),
        Some(LiteralType::String(text)) => text.clone(),
        Some(LiteralType::Boolean(value)) => value.to_string(),
        Some(LiteralType::Binary(bytes)) => {
            format!("X'{}'", bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
        }
        Some(LiteralType::Double(value)) => double_text(*value),
        Some(LiteralType::Float(value)) => double_text(f64::from(*value)),
        Some(LiteralType::Date(_)) => format!("DATE '{}'", scalar_text(value)),
        Some(LiteralType::Timestamp(_)) => {
            format!("TIMESTAMP '{}'", scalar_text(value).replace('T', " ").trim_end_matches('Z'))
        }
        Some(LiteralType::DayTimeInterval(_) | LiteralType::YearMonthInterval(_)) => interval_text(value),
        Some(LiteralType::TimestampNtz(_)) => format!("TIMESTAMP_NTZ '{}'", scalar_text(value).replace('T', " ")),
        Some(_) => scalar_text(value),
    }
}

/// `INTERVAL '0 01:00:00' DAY TO SECOND`: Python's intervals have all units.
fn interval_text(value: &Literal) -> String {
    let array = literal::scalar(value).ok().and_then(|scalar| scalar.to_array().ok());
    let units = array.as_ref().and_then(|array| IntervalUnits::of_literal(array.data_type(), None));
    match (array, units) {
        (Some(array), Some(units)) => intervals_to_text(&array, units).value(0).to_owned(),
        _ => scalar_text(value),
    }
}

/// Java's text of a double: always with a fraction.
fn double_text(value: f64) -> String {
    if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e7 {
        format!("{value:.1}")
    } else {
        value.to_string()
    }
}

fn scalar_text(value: &Literal) -> String {
    let Ok(scalar) = literal::scalar(value) else { return "?".to_owned() };
    scalar
        .to_array()
        .ok()
        .and_then(|array| arrow::util::display::array_value_to_string(&array, 0).ok())
        .unwrap_or_else(|| scalar.to_string())
}

fn of_function(function: &UnresolvedFunction) -> String {
    let name = function.function_name.as_str();
    let arguments = &function.arguments;
    match (name.to_ascii_lowercase().as_str(), arguments.as_slice()) {
        ("not" | "!", [inner]) => format!("(NOT {})", of(inner)),
        ("~", [inner]) => format!("~{}", of(inner)),
        ("==", [left, right]) => format!("({} = {})", of(left), of(right)),
        (
            "<" | "<=" | ">" | ">=" | "<=>" | "!=" | "+" | "-" | "*" | "/" | "%" | "&" | "|" | "^" | "div",
            [left, right],
        ) => {
            format!("({} {name} {})", of(left), of(right))
        }
        ("and" | "or", [left, right]) => format!("({} {} {})", of(left), name.to_ascii_uppercase(), of(right)),
        ("in", [value, list_of @ ..]) => format!("({} IN ({}))", of(value), list(list_of)),
        ("like" | "rlike" | "ilike", [value, pattern]) if name != "rlike" => {
            format!("{} {} {}", of(value), name.to_ascii_uppercase(), of(pattern))
        }
        ("when", _) => of_case(arguments),
        ("count", [one]) if is_star(one) => "count(1)".to_owned(),
        (window @ ("window" | "session_window"), _) if arguments.len() > 1 => window.to_owned(),
        _ => call_name(name, &shown(arguments), function.is_distinct),
    }
}

/// `*`, as a star or as the text of an expression.
pub(super) fn is_star(expr: &Expression) -> bool {
    match &expr.expr_type {
        Some(ExprType::UnresolvedStar(star)) => star.unparsed_target.is_none(),
        Some(ExprType::ExpressionString(text)) => text.expression.trim() == "*",
        _ => false,
    }
}

fn of_case(arguments: &[Expression]) -> String {
    let mut text = "CASE".to_owned();
    let (pairs, rest) = arguments.as_chunks::<2>();
    for [condition, value] in pairs {
        let _ = write!(text, " WHEN {} THEN {}", of(condition), of(value));
    }
    if let [value] = rest {
        let _ = write!(text, " ELSE {}", of(value));
    }
    text.push_str(" END");
    text
}

fn of_cast(cast: &Cast) -> String {
    let inner = cast.expr.as_deref().map(of).unwrap_or_default();
    let data_type = match &cast.cast_to_type {
        Some(cast::CastToType::TypeStr(text)) => {
            faces::parse_type(text).map_or_else(|_| text.to_uppercase(), |t| faces::type_name(&t))
        }
        Some(cast::CastToType::Type(data_type)) => {
            types::to_arrow(data_type).map_or_else(|_| String::new(), |t| faces::type_name(&t))
        }
        None => String::new(),
    };
    let function = if cast.eval_mode() == cast::EvalMode::Try { "TRY_CAST" } else { "CAST" };
    format!("{function}({inner} AS {})", data_type.to_uppercase())
}

fn of_order(order: &SortOrder) -> String {
    let child = order.child.as_deref().map(of).unwrap_or_default();
    let descending = order.direction() == sort_order::SortDirection::Descending;
    let nulls_last = match order.null_ordering() {
        sort_order::NullOrdering::SortNullsUnspecified => descending,
        ordering => ordering == sort_order::NullOrdering::SortNullsLast,
    };
    format!("{child} {} NULLS {}", if descending { "DESC" } else { "ASC" }, if nulls_last { "LAST" } else { "FIRST" })
}

fn of_window(window: &Window) -> String {
    let mut clauses = Vec::new();
    if !window.partition_spec.is_empty() {
        clauses.push(format!("PARTITION BY {}", list(&window.partition_spec)));
    }
    if !window.order_spec.is_empty() {
        let orders: Vec<_> = window.order_spec.iter().map(of_order).collect();
        clauses.push(format!("ORDER BY {}", orders.join(", ")));
    }
    clauses.push(of_frame(window));
    let function = window.window_function.as_deref().map(of).unwrap_or_default();
    format!("{function} OVER ({})", clauses.join(" "))
}

fn of_frame(window: &Window) -> String {
    use window_frame::FrameType;
    let Some(frame) = &window.frame_spec else {
        let (unit, upper) = match (is_ranking(window), window.order_spec.is_empty()) {
            (true, _) => ("ROWS", "CURRENT ROW"),
            (false, true) => ("ROWS", "UNBOUNDED FOLLOWING"),
            (false, false) => ("RANGE", "CURRENT ROW"),
        };
        return format!("{unit} BETWEEN UNBOUNDED PRECEDING AND {upper}");
    };
    let unit = if frame.frame_type() == FrameType::Range { "RANGE" } else { "ROWS" };
    let lower = frame.lower.as_deref().map(|bound| of_bound(bound, "PRECEDING")).unwrap_or_default();
    let upper = frame.upper.as_deref().map(|bound| of_bound(bound, "FOLLOWING")).unwrap_or_default();
    format!("{unit} BETWEEN {lower} AND {upper}")
}

fn is_ranking(window: &Window) -> bool {
    matches!(
        window.window_function.as_deref().and_then(|function| function.expr_type.as_ref()),
        Some(ExprType::UnresolvedFunction(function)) if matches!(
            function.function_name.to_ascii_lowercase().as_str(),
            "row_number" | "rank" | "dense_rank" | "percent_rank" | "ntile"
        )
    )
}

fn of_bound(bound: &window_frame::FrameBoundary, unbounded: &str) -> String {
    use window_frame::frame_boundary::Boundary;
    match &bound.boundary {
        Some(Boundary::CurrentRow(_)) | None => "CURRENT ROW".to_owned(),
        Some(Boundary::Unbounded(_)) => format!("UNBOUNDED {unbounded}"),
        Some(Boundary::Value(value)) => {
            let text = of(value);
            match text.strip_prefix('-') {
                Some(_) => format!("{text} FOLLOWING"),
                None => format!("{text} FOLLOWING"),
            }
        }
    }
}

fn of_extract(extract: &expression::UnresolvedExtractValue) -> String {
    let child = extract.child.as_deref().map(of).unwrap_or_default();
    let key = extract.extraction.as_deref();
    match key.and_then(|key| key.expr_type.as_ref()) {
        Some(ExprType::Literal(value)) if matches!(value.literal_type, Some(LiteralType::String(_))) => {
            format!("{child}.{}", of_literal(value))
        }
        _ => format!("{child}[{}]", key.map(of).unwrap_or_default()),
    }
}
