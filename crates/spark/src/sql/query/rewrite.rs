//! Rewrites one expression: names become exact, Spark's own constructs become what DataFusion plans.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::planner::ContextProvider;
use sqlparser::ast::{
    self, AccessExpr, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query, Spanned, UnaryOperator, Value, VisitMut,
    VisitorMut, WindowFrame, WindowType,
};

use super::forms::{
    ONLY_OURS, count_rows, grouping_bits, is_all, options_text, ordered_within, quantified, sample, spread_structures,
    typed_literal,
};
use super::interval::{AnsiInterval, units_of, with_texts};
use super::json_path;
use super::named;
use super::plan::{Ctes, Planner};
use super::provider::{CASE, CAST, IMPLIED_CAST, INTERVAL, LITERAL, OPERAND_CAST, RLIKE, TRY_CAST};
use super::scope::{Scope, ident, text};
use super::subqueries::of_structures;
use super::{rows, window_calls};
use crate::error::{Error, Result};
use crate::functions::schema_of;
use crate::sql::data_types::arrow_type;
use crate::sql::dialect::SHIFT_RIGHT_UNSIGNED;

/// What an expression may refer to.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    /// Innermost first.
    pub(super) scopes: &'a [&'a Scope],
    /// Aliases of the select list, by lower-case name.
    pub(super) aliases: &'a HashMap<String, Expr>,
    pub(super) ctes: &'a Ctes,
}

/// Rewrites `expr` in place.
pub(super) fn expression(planner: &Planner<'_>, expr: &mut Expr, names: Names<'_>) -> Result<()> {
    if let Some(scope) = names.scopes.first() {
        named::expand_stars(expr, scope)?;
    }
    let mut rewriter = Rewriter { planner, names, depth: 0, lambdas: Vec::new(), frames: Vec::new() };
    match expr.visit(&mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Rewriter<'a, 'b> {
    planner: &'a Planner<'b>,
    names: Names<'a>,
    /// How many subqueries deep: those are rewritten on their own.
    depth: usize,
    lambdas: Vec<Vec<String>>,
    frames: Vec<Option<WindowFrame>>,
}

impl VisitorMut for Rewriter<'_, '_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if self.depth == 0 {
            flow(self.planner.rewrite_query(query, self.names.ctes, self.names.scopes).map(drop))?;
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if self.depth == 0 { flow(self.before(expr)) } else { ControlFlow::Continue(()) }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if self.depth == 0 { flow(self.after(expr)) } else { ControlFlow::Continue(()) }
    }
}

fn flow(result: Result<()>) -> ControlFlow<Box<Error>> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(Box::new(error)),
    }
}

fn null() -> Box<Expr> {
    Box::new(Expr::value(Value::Null))
}

pub(super) fn number(digits: &str, suffix: &str) -> Expr {
    let op = BinaryOperator::Custom(format!("{LITERAL}{suffix}"));
    Expr::BinaryOp { left: Box::new(text(digits)), op, right: null() }
}

/// A cast of a number as an operand of a calculation: beside a decimal it has the digits of its type, not its own.
fn operand(expr: &mut Expr) {
    let inner = match expr {
        Expr::Nested(inner) => return operand(inner),
        other => other,
    };
    if let Expr::BinaryOp { left, op: BinaryOperator::Custom(op), .. } = inner
        && let Some(data_type) = op.strip_prefix(CAST)
        && matches!(left.as_ref(), Expr::BinaryOp { op: BinaryOperator::Custom(op), .. } if op.starts_with(LITERAL))
    {
        *op = format!("{OPERAND_CAST}{data_type}");
    }
}

fn length(interval: AnsiInterval) -> Expr {
    let (kind, digits) = interval.text();
    let op = BinaryOperator::Custom(format!("{INTERVAL}{kind}"));
    Expr::BinaryOp { left: Box::new(text(&digits)), op, right: null() }
}

/// `expr` cast to `data_type` as the elements of an array are.
pub(super) fn implied_cast(expr: Expr, data_type: &arrow::datatypes::DataType) -> Expr {
    let op = BinaryOperator::Custom(format!("{IMPLIED_CAST}{}", crate::types::type_name(data_type)));
    Expr::BinaryOp { left: Box::new(expr), op, right: null() }
}

/// A call of `name` with positional arguments.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// `CAST(expr AS data_type)`, or with [`TRY_CAST`] the forgiving one.
pub(super) fn cast(mark: &str, expr: Expr, data_type: &DataType) -> Result<Expr> {
    let arrow = arrow_type(data_type)?;
    let name = match units_of(data_type) {
        Some((_, units)) => format!("interval {}", units.name(&arrow)),
        None => crate::types::type_name(&arrow),
    };
    let op = BinaryOperator::Custom(format!("{mark}{name}"));
    Ok(Expr::BinaryOp { left: Box::new(expr), op, right: null() })
}

impl Rewriter<'_, '_> {
    /// What must be seen before the parts are rewritten.
    fn before(&mut self, expr: &mut Expr) -> Result<()> {
        let replaced = match expr {
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match inner.as_ref() {
                Expr::Interval(interval) => AnsiInterval::read(interval).map(|ansi| length(ansi.negated())),
                Expr::Value(ast::ValueWithSpan { value: Value::Number(digits, long), .. }) => {
                    Some(number(&format!("-{digits}"), if *long { "L" } else { "" }))
                }
                Expr::Identifier(name) => suffixed(name).map(|(digits, suffix)| number(&format!("-{digits}"), suffix)),
                _ => None,
            },
            Expr::CompoundFieldAccess { root, access_chain } => {
                fields(root, access_chain);
                None
            }
            Expr::JsonAccess { value, path } => {
                let path = json_path::text(path);
                Some(call("semi_structured_extract", vec![std::mem::replace(value.as_mut(), *null()), text(&path)]))
            }
            Expr::Interval(interval) if let Some(ansi) = AnsiInterval::read(interval) => Some(length(ansi)),
            Expr::Interval(interval) => {
                if let Expr::Value(ast::ValueWithSpan { value, .. }) = interval.value.as_mut()
                    && let Value::Number(digits, _) = value
                {
                    *value = Value::SingleQuotedString(std::mem::take(digits));
                }
                None
            }
            Expr::InList { expr: value, list, .. } => {
                rows::tuple(value);
                list.iter_mut().for_each(rows::tuple);
                None
            }
            Expr::BinaryOp { left, op, right } => {
                rows::compared(left, op, right);
                None
            }
            Expr::InSubquery { expr: value, .. } => {
                if let Expr::Tuple(values) = value.as_mut() {
                    // Not a structure yet: the subquery decides of which names.
                    **value = Expr::Array(ast::Array { elem: std::mem::take(values), named: false });
                }
                None
            }
            Expr::Tuple(values) => Some(rows::row(std::mem::take(values))),
            Expr::Struct { values, fields } if fields.is_empty() => Some(rows::structure(std::mem::take(values))),
            Expr::Like { negated, any: true, expr, pattern, .. } => quantified(*negated, false, false, expr, pattern),
            Expr::ILike { negated, any: true, expr, pattern, .. } => quantified(*negated, true, false, expr, pattern),
            Expr::Like { negated, expr, pattern, .. } if is_all(pattern) => {
                quantified(*negated, false, true, expr, pattern)
            }
            Expr::ILike { negated, expr, pattern, .. } if is_all(pattern) => {
                quantified(*negated, true, true, expr, pattern)
            }
            Expr::Lambda(lambda) => {
                self.lambdas.push(lambda.params.iter().map(|param| param.name.value.clone()).collect());
                None
            }
            Expr::Function(function) => {
                self.function_before(function)?;
                return Ok(());
            }
            _ => None,
        };
        if let Some(replaced) = replaced {
            if let Expr::Function(_) = replaced {
                // `after` takes a frame for every function, and must not take that of the call around this one.
                self.frames.push(None);
            }
            *expr = replaced;
        }
        Ok(())
    }

    fn function_before(&mut self, function: &mut Function) -> Result<()> {
        let frame = match &mut function.over {
            Some(WindowType::WindowSpec(spec)) => {
                spread_structures(&mut spec.order_by);
                spec.window_frame.take().map(with_texts)
            }
            _ => None,
        };
        self.frames.push(frame);
        let name = function.name.to_string().to_ascii_lowercase();
        if let FunctionArguments::List(list) = &mut function.args
            && matches!(
                name.as_str(),
                "timestampdiff" | "timestampadd" | "datediff" | "dateadd" | "date_diff" | "date_add"
            )
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(unit)), _, _] = list.args.as_mut_slice()
            && let Expr::Identifier(word) = unit
        {
            *unit = text(&word.value);
        }
        Ok(())
    }

    /// What is done once the parts are rewritten.
    fn after(&mut self, expr: &mut Expr) -> Result<()> {
        let place = self.planner.place(expr.span().start);
        let replaced = match expr {
            Expr::Identifier(name) => Some(self.name(std::slice::from_ref(name))?),
            Expr::CompoundIdentifier(parts) => Some(self.name(parts)?),
            Expr::Value(ast::ValueWithSpan { value: Value::Number(digits, long), .. }) => {
                Some(number(digits, if *long { "L" } else { "" }))
            }
            // The functions take what is cut off first.
            Expr::Trim { trim_where, trim_what: Some(what), expr: value, trim_characters: None } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    Some(ast::TrimWhereField::Both) | None => "trim",
                };
                Some(call(name, vec![what.as_ref().clone(), value.as_ref().clone()]))
            }
            Expr::RLike { negated, expr: value, pattern, .. } => {
                let (left, right) = (std::mem::replace(value, null()), std::mem::replace(pattern, null()));
                let op = BinaryOperator::Custom(RLIKE.to_owned());
                Some(not(*negated, Expr::BinaryOp { left, op, right }))
            }
            // What differs each time it is evaluated is left for coercion, which evaluates it once.
            Expr::Between { expr: value, negated, low, high } if !self.planner.is_volatile(value) => {
                let value = std::mem::replace(value, null());
                let (low, high) = (std::mem::replace(low, null()), std::mem::replace(high, null()));
                let above = Expr::BinaryOp { left: value.clone(), op: BinaryOperator::GtEq, right: low };
                let below = Expr::BinaryOp { left: value, op: BinaryOperator::LtEq, right: high };
                let both = Expr::BinaryOp { left: Box::new(above), op: BinaryOperator::And, right: Box::new(below) };
                Some(not(*negated, Expr::Nested(Box::new(both))))
            }
            Expr::Cast { kind, expr: value, data_type, array: false, format: None } => {
                let forgiving = matches!(kind, CastKind::TryCast | CastKind::SafeCast);
                let value = std::mem::replace(value.as_mut(), *null());
                let mark = if forgiving { TRY_CAST } else { CAST };
                Some(cast(mark, value, data_type).map_err(|error| error.at(place))?)
            }
            // Of arrays and bytes, too.
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                let (left, right) =
                    (std::mem::replace(left.as_mut(), *null()), std::mem::replace(right.as_mut(), *null()));
                Some(call("concat", vec![left, right]))
            }
            Expr::BinaryOp {
                left,
                op:
                    BinaryOperator::Plus
                    | BinaryOperator::Minus
                    | BinaryOperator::Multiply
                    | BinaryOperator::Divide
                    | BinaryOperator::Modulo
                    | BinaryOperator::MyIntegerDivide,
                right,
            } => {
                operand(left);
                operand(right);
                None
            }
            Expr::Case { .. } => {
                let (case, op) = (std::mem::replace(expr, *null()), BinaryOperator::Custom(CASE.to_owned()));
                Some(Expr::BinaryOp { left: Box::new(case), op, right: null() })
            }
            Expr::Extract { field, expr: value, .. } => {
                let source = std::mem::replace(value.as_mut(), *null());
                Some(call("date_part", vec![text(&field.to_string()), source]))
            }
            // DataFusion's planner knows no minus of a duration.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: value } => {
                Some(call("negative", vec![std::mem::replace(value.as_mut(), *null())]))
            }
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: value } => {
                Some(call("bitwise_not", vec![std::mem::replace(value.as_mut(), *null())]))
            }
            Expr::BinaryOp { left, op: BinaryOperator::Custom(op), right } if op == SHIFT_RIGHT_UNSIGNED => {
                let (left, right) =
                    (std::mem::replace(left.as_mut(), *null()), std::mem::replace(right.as_mut(), *null()));
                Some(call("shiftrightunsigned", vec![left, right]))
            }
            Expr::UnaryOp { op: op @ UnaryOperator::BangNot, .. } => {
                *op = UnaryOperator::Not;
                None
            }
            Expr::Lambda(_) => {
                self.lambdas.pop();
                None
            }
            Expr::Function(function) => {
                if let (Some(frame), Some(WindowType::WindowSpec(spec))) =
                    (self.frames.pop().flatten(), &mut function.over)
                {
                    spec.window_frame = Some(frame);
                }
                self.function_after(function).map_err(|error| error.at(place))?
            }
            Expr::InSubquery { expr: value, subquery, .. } => {
                if let Expr::Array(ast::Array { elem: values, .. }) = value.as_ref() {
                    (**value, **subquery) = of_structures(self.planner, values, subquery);
                }
                None
            }
            Expr::TypedString(typed) => {
                typed_literal(typed, self.planner.time_zone()).map_err(|error| error.at(place))?;
                None
            }
            Expr::Collate { expr: value, collation } => {
                Some(call("collate", vec![value.as_ref().clone(), text(&collation.to_string())]))
            }
            Expr::Prior(_) | Expr::MatchAgainst { .. } => {
                return Err(Error::unsupported(format!("`{expr}`")).at(place));
            }
            _ => None,
        };
        if let Some(replaced) = replaced {
            *expr = replaced;
        }
        Ok(())
    }

    fn name(&self, parts: &[Ident]) -> Result<Expr> {
        let place = || self.planner.place(parts[0].span.start);
        if let Some(param) =
            self.lambdas.iter().rev().flatten().find(|param| param.eq_ignore_ascii_case(&parts[0].value))
        {
            let root = Expr::Identifier(ident(param));
            let access_chain: Vec<AccessExpr> =
                parts[1..].iter().map(|field| AccessExpr::Dot(text(&field.value))).collect();
            return Ok(match access_chain.is_empty() {
                true => root,
                false => Expr::CompoundFieldAccess { root: Box::new(root), access_chain },
            });
        }
        for scope in self.names.scopes {
            if let Some(found) = scope.resolve(parts).map_err(|error| error.at(place()))? {
                return Ok(found);
            }
        }
        if let [name, fields @ ..] = parts
            && !fields.is_empty()
            && let Some(aliased) = self.names.aliases.get(&name.value.to_lowercase())
        {
            let access_chain = fields.iter().map(|field| AccessExpr::Dot(text(&field.value))).collect();
            return Ok(Expr::CompoundFieldAccess { root: Box::new(aliased.clone()), access_chain });
        }
        if let Some(value) = self.planner.parameter(parts).map_err(|error| error.at(place()))? {
            return Ok(value);
        }
        if let [name] = parts {
            if let Some((digits, suffix)) = suffixed(name) {
                return Ok(number(digits, suffix));
            }
            if let Some(aliased) = self.names.aliases.get(&name.value.to_lowercase()) {
                return Ok(aliased.clone());
            }
            let lower = name.value.to_ascii_lowercase();
            if name.quote_style.is_none()
                && matches!(lower.as_str(), "current_timestamp" | "current_date" | "current_user" | "user")
            {
                return Ok(call(&lower, Vec::new()));
            }
        }
        Err(self.planner.unresolved(parts, self.names.scopes).at(place()))
    }

    fn function_after(&self, function: &mut Function) -> Result<Option<Expr>> {
        if let Some(user) = self.planner.user_function(&function.name) {
            if !self.lambdas.is_empty() {
                return Err(Error::unsupported(format!("function `{}` within a lambda", user.title()))
                    .with_condition("UNSUPPORTED_FEATURE.LAMBDA_FUNCTION_WITH_SQL_UDF"));
            }
            return self.planner.value_of_call(&user, function).map(Some);
        }
        let name = match function.name.0.as_slice() {
            [part] => part.as_ident().map(|ident| ident.value.to_ascii_lowercase()).unwrap_or_default(),
            _ => return Err(self.planner.unknown_function(&function.name.to_string())),
        };
        window_calls::check(function, &name)?;
        if matches!(name.as_str(), "from_json" | "from_csv" | "from_xml")
            && let FunctionArguments::List(list) = &mut function.args
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(schema))) = list.args.get_mut(1)
            && let Some((function, sample)) = sample(schema)
        {
            // The schema must be known when the call is planned.
            *schema = text(&schema_of(&function, sample, self.planner.time_zone())?);
        }
        if matches!(name.as_str(), "from_avro" | "schema_of_avro" | "from_protobuf" | "to_protobuf")
            && let FunctionArguments::List(list) = &mut function.args
        {
            for arg in &mut list.args {
                if let FunctionArg::Unnamed(FunctionArgExpr::Expr(given)) = arg
                    && let Some(json) = options_text(given)
                {
                    *given = text(&json);
                }
            }
        }
        if name == "count" {
            count_rows(function);
        }
        if name == "grouping" {
            let bit = Expr::Function(function.clone());
            return cast(CAST, bit, &DataType::TinyInt(None)).map(Some);
        }
        if name == "grouping_id"
            && let Some(bits) = grouping_bits(function)
        {
            return Ok(Some(bits));
        }
        if let Some(ordered) = ordered_within(function, &name) {
            return Ok(Some(ordered));
        }
        if ONLY_OURS.contains(&name.as_str()) {
            return Err(self.planner.unknown_function(&name));
        }
        let name = match name.as_str() {
            // DataFusion takes two arrays for keys and values, and refuses an empty map.
            "map" => "make_map".to_owned(),
            "array_sort" if has_lambda(function) => "array_sort_by".to_owned(),
            _ => name,
        };
        if name == "make_map" || self.planner.provider.has_function(&name) {
            function.name = ObjectName::from(vec![Ident::new(name)]);
            return Ok(None);
        }
        if let Some(data_type) = cast_function(&name)
            && let FunctionArguments::List(list) = &mut function.args
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))] = list.args.as_mut_slice()
        {
            return cast(CAST, std::mem::replace(arg, *null()), &data_type).map(Some);
        }
        Err(self.planner.unknown_function(&name))
    }
}

impl Planner<'_> {
    /// Whether an expression differs each time it is evaluated.
    pub(super) fn is_volatile(&self, expr: &Expr) -> bool {
        let volatile = |function: &Function| {
            let meta = self.provider.get_function_meta(&function.name.to_string());
            meta.is_some_and(|udf| udf.signature().volatility == Volatility::Volatile)
        };
        let found = ast::visit_expressions(expr, |expr| match expr {
            Expr::Function(function) if volatile(function) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        found.is_break()
    }
}

fn has_lambda(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let lambda = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Lambda(_))));
    list.args.iter().any(lambda)
}

fn not(negated: bool, expr: Expr) -> Expr {
    match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(expr))) },
        false => Expr::Nested(Box::new(expr)),
    }
}

/// `1S`, `2Y`, `1.5D`, `3BD` are read as names; as numbers they are digits and a suffix.
pub(super) fn suffixed(name: &Ident) -> Option<(&str, &str)> {
    let text = name.value.as_str();
    if name.quote_style.is_some() || !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let known = ["BD", "L", "S", "Y", "D", "F"].into_iter().find_map(|known| {
        let (digits, suffix) = text.split_at_checked(text.len().checked_sub(known.len())?)?;
        suffix.eq_ignore_ascii_case(known).then_some((digits, suffix))
    });
    known.filter(|(digits, suffix)| {
        let exponent = digits.contains(['e', 'E']);
        digits.parse::<f64>().is_ok() && (!exponent || matches!(*suffix, "D" | "d" | "F" | "f"))
    })
}

/// Field names in a chain are names, not columns.
fn fields(root: &mut Expr, chain: &mut Vec<AccessExpr>) {
    match root {
        Expr::Nested(inner) if matches!(inner.as_ref(), Expr::CompoundIdentifier(_) | Expr::Identifier(_)) => {
            *root = inner.as_ref().clone();
        }
        _ => whole_name(root, chain),
    }
    for access in chain {
        if let AccessExpr::Dot(field) = access
            && let Expr::Identifier(name) = field
        {
            *field = text(&name.value);
        }
    }
}

/// Moves the first names of a chain to the one before it: in `t.tags[0]` a name is meant as in `t.tags`.
pub(super) fn whole_name(root: &mut Expr, chain: &mut Vec<AccessExpr>) {
    let Expr::Identifier(first) = root else { return };
    let mut parts = vec![first.clone()];
    while let Some(AccessExpr::Dot(Expr::Identifier(name))) = chain.first() {
        parts.push(name.clone());
        chain.remove(0);
    }
    if parts.len() > 1 {
        *root = Expr::CompoundIdentifier(parts);
    }
}

/// The functions that are casts: `bigint(x)`.
pub(super) fn cast_function(name: &str) -> Option<DataType> {
    Some(match name {
        "boolean" => DataType::Boolean,
        "tinyint" => DataType::TinyInt(None),
        "smallint" => DataType::SmallInt(None),
        "int" => DataType::Int(None),
        "bigint" => DataType::BigInt(None),
        "float" => DataType::Float(ast::ExactNumberInfo::None),
        "double" => DataType::Double(ast::ExactNumberInfo::None),
        "decimal" => DataType::Decimal(ast::ExactNumberInfo::None),
        "string" => DataType::String(None),
        "binary" => DataType::Binary(None),
        "date" => DataType::Date,
        "timestamp" => DataType::Timestamp(None, ast::TimezoneInfo::None),
        _ => return None,
    })
}
