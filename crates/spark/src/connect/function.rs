//! Function calls: Spark's operators, and everything else by name from the session's functions.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{
    AggregateFunction, HigherOrderFunction, Lambda, LambdaVariable, NullTreatment, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::{
    Case, Expr, ExprSchemable, HigherOrderUDF, LambdaParametersProgress, Like, Operator, SortExpr, ValueOrLambda,
    WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, lit, when,
};

use super::expression::{Expressions, kind, required};
use super::proto::Expression;
use super::proto::expression::{ExprType, LambdaFunction, UnresolvedFunction, Window, window::window_frame};
use super::{faces, name};
use crate::error::{Error, Result};
use crate::functions::over_window;

impl Expressions<'_> {
    /// A call as the client wrote it.
    pub(super) fn function(&self, function: &UnresolvedFunction) -> Result<Expr> {
        self.call(&function.function_name, &function.arguments, function.is_distinct)
    }

    /// A call of the function or operator `name`.
    pub(super) fn call(&self, name: &str, arguments: &[Expression], distinct: bool) -> Result<Expr> {
        if let Some(expr) = self.operator(name, arguments)? {
            return Ok(expr);
        }
        if let Some(expr) = self.sql_function(name, arguments)? {
            return Ok(expr);
        }
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "count" => return self.count(arguments, distinct),
            "struct" => return self.structure(arguments),
            "in" => return self.in_list(arguments),
            "unwrap_udt" => {
                let [value] = self.exactly::<1>(name, arguments)?;
                return Ok(value);
            }
            // The position of a row in the whole relation, from 0.
            "distributed_sequence_id" => {
                let number = datafusion::functions_window::expr_fn::row_number();
                return Ok(faces::plain_cast(number, &DataType::Int64) - lit(1_i64));
            }
            "when" => return self.case(arguments),
            "arrays_zip" => {
                let name = |(i, argument): (usize, &Expression)| match &argument.expr_type {
                    Some(ExprType::UnresolvedAttribute(_) | ExprType::UnresolvedExtractValue(_)) => {
                        name::of_output(argument).rsplit('.').next().map(str::to_owned).unwrap_or_default()
                    }
                    Some(ExprType::Alias(alias)) => alias.name.join("."),
                    _ => i.to_string(),
                };
                let names = arguments.iter().enumerate().map(name).collect();
                return Ok(crate::functions::arrays_zip(names, self.arguments(arguments)?));
            }
            "expr" | "outer" => {}
            _ => {}
        }
        if arguments.iter().any(|argument| matches!(argument.expr_type, Some(ExprType::LambdaFunction(_)))) {
            return self.higher_order(&lower, arguments);
        }
        let arguments = self.arguments(arguments)?;
        self.registered(name, arguments, distinct)
    }

    fn arguments(&self, arguments: &[Expression]) -> Result<Vec<Expr>> {
        Ok(self.plan_all(arguments)?.into_iter().map(Expr::unalias).collect())
    }

    fn registered(&self, name: &str, arguments: Vec<Expr>, distinct: bool) -> Result<Expr> {
        if crate::functions::kind(name, self.planner.state.as_ref()) == Some(crate::functions::Kind::Window) {
            return Err(Error::user(format!("the window function `{name}` needs an `OVER` clause"))
                .with_condition("WINDOW_FUNCTION_WITHOUT_OVER_CLAUSE"));
        }
        faces::call(self.planner, name, arguments, distinct, self.scope.schema())
    }

    /// The operators that Spark Connect sends as functions.
    fn operator(&self, name: &str, arguments: &[Expression]) -> Result<Option<Expr>> {
        let unary = |expr: fn(Expr) -> Expr| -> Result<Option<Expr>> {
            let [argument] = self.exactly::<1>(name, arguments)?;
            Ok(Some(expr(argument)))
        };
        if let Some(operator) = binary_operator(name)
            && arguments.len() == 2
        {
            let [left, right] = self.exactly::<2>(name, arguments)?;
            return self.binary(left, operator, right).map(Some);
        }
        match name {
            "not" | "!" => unary(|expr| Expr::Not(Box::new(expr))),
            "isNull" => unary(Expr::is_null),
            "isNotNull" => unary(Expr::is_not_null),
            "isNaN" => self.renamed("isnan", arguments),
            "negative" => unary(|expr| Expr::Negative(Box::new(expr))),
            "+" if arguments.len() == 1 => unary(|expr| expr),
            "-" if arguments.len() == 1 => unary(|expr| Expr::Negative(Box::new(expr))),
            "~" => self.renamed("bitwise_not", arguments),
            "startsWith" => self.renamed("startswith", arguments),
            "endsWith" => self.renamed("endswith", arguments),
            "like" | "ilike" => self.like(name, arguments).map(Some),
            _ => Ok(None),
        }
    }

    fn renamed(&self, function: &str, arguments: &[Expression]) -> Result<Option<Expr>> {
        let arguments = self.arguments(arguments)?;
        self.registered(function, arguments, false).map(Some)
    }

    fn exactly<const N: usize>(&self, name: &str, arguments: &[Expression]) -> Result<[Expr; N]> {
        let planned = self.arguments(arguments)?;
        <[Expr; N]>::try_from(planned).map_err(|planned| {
            Error::user(format!("`{name}` takes {N} arguments, got {}", planned.len()))
                .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION")
        })
    }

    fn like(&self, name: &str, arguments: &[Expression]) -> Result<Expr> {
        let (arguments, escape) = match arguments {
            [value, pattern, escape] => ([value.clone(), pattern.clone()], self.escape(escape)?),
            [value, pattern] => ([value.clone(), pattern.clone()], '\\'),
            _ => return Err(Error::user(format!("`{name}` takes two or three arguments"))),
        };
        let [value, pattern] = self.exactly::<2>(name, &arguments)?;
        let pattern = crate::functions::like_pattern(pattern, Some(escape))?;
        let text = |expr: Expr| {
            faces::cast(expr, &DataType::Utf8, faces::CastMode::Legacy, self.scope.schema(), &self.planner.conf)
        };
        Ok(Expr::Like(Like::new(false, Box::new(text(value)?), Box::new(pattern), Some('\\'), name == "ilike")))
    }

    fn escape(&self, expr: &Expression) -> Result<char> {
        match self.plan(expr)? {
            Expr::Literal(ScalarValue::Utf8(Some(text)), _) if text.chars().count() == 1 => {
                Ok(text.chars().next().unwrap_or('\\'))
            }
            _ => Err(Error::user("the escape character must be a string of one character")
                .with_condition("INVALID_ESCAPE_CHAR")),
        }
    }

    /// `count(*)`, `count(x)`, `count(DISTINCT a, b)`: rows with a NULL in any of several arguments do not count.
    fn count(&self, arguments: &[Expression], distinct: bool) -> Result<Expr> {
        let star =
            |expr: &Expression| matches!(expr.expr_type, Some(ExprType::UnresolvedStar(_))) || name::is_star(expr);
        let planned = match arguments {
            [one] if star(one) && !distinct => vec![lit(1_i64)],
            [one] if star(one) => self.scope.visible().map(super::scope::ScopeColumn::expr).collect(),
            _ => self.arguments(arguments)?,
        };
        let counted = match planned.as_slice() {
            [] => lit(1_i64),
            [one] => one.clone(),
            several => {
                let complete =
                    several.iter().cloned().map(Expr::is_not_null).reduce(Expr::and).unwrap_or_else(|| lit(true));
                let value = if distinct {
                    let mut parts = Vec::new();
                    for (i, part) in several.iter().enumerate() {
                        parts.extend([lit(format!("c{i}")), part.clone()]);
                    }
                    faces::scalar_function(self.planner, "named_struct", parts)?
                } else {
                    lit(1_i64)
                };
                when(complete, value).end()?
            }
        };
        faces::call(self.planner, "count", vec![counted], distinct, self.scope.schema())
    }

    /// `struct(a, b AS c, 1)`: the fields are named by the columns, else `col1`, `col2`, ...
    fn structure(&self, arguments: &[Expression]) -> Result<Expr> {
        let mut parts = Vec::with_capacity(arguments.len() * 2);
        let mut position = 0;
        for argument in arguments {
            match kind(argument)? {
                ExprType::UnresolvedStar(_) | ExprType::UnresolvedRegex(_) => {
                    for output in self.outputs(std::slice::from_ref(argument))? {
                        position += 1;
                        parts.extend([lit(output.name), output.expr]);
                    }
                }
                shape => {
                    position += 1;
                    let field = match shape {
                        ExprType::Alias(alias) => alias.name.join("."),
                        ExprType::UnresolvedAttribute(_) => name::of_output(argument),
                        ExprType::UnresolvedExtractValue(_) => {
                            name::of(argument).rsplit('.').next().map(str::to_owned).unwrap_or_default()
                        }
                        _ => format!("col{position}"),
                    };
                    parts.extend([lit(field), self.plan(argument)?.unalias()]);
                }
            }
        }
        faces::scalar_function(self.planner, "named_struct", parts)
    }

    fn in_list(&self, arguments: &[Expression]) -> Result<Expr> {
        let Some((value, list)) = arguments.split_first() else {
            return Err(Error::user("`in` takes at least one argument"));
        };
        let value = self.plan(value)?.unalias();
        let list = self.arguments(list)?;
        if list.is_empty() {
            return Ok(lit(false));
        }
        faces::in_list(value, list, self.scope.schema(), &self.planner.conf)
    }

    fn case(&self, arguments: &[Expression]) -> Result<Expr> {
        let (pairs, rest) = arguments.as_chunks::<2>();
        let mut branches = Vec::with_capacity(pairs.len());
        for [condition, value] in pairs {
            branches.push((Box::new(self.condition(condition)?), Box::new(self.plan(value)?.unalias())));
        }
        let otherwise = match rest {
            [value] => Some(Box::new(self.plan(value)?.unalias())),
            _ => None,
        };
        faces::case(Case::new(None, branches, otherwise), self.scope.schema(), &self.planner.conf)
    }

    /// `transform(xs, x -> ..)`, `filter`, `exists`: a function over the elements of an array.
    fn higher_order(&self, name: &str, arguments: &[Expression]) -> Result<Expr> {
        let function = self.higher_order_function(name)?;
        let fields = arguments
            .iter()
            .map(|argument| match &argument.expr_type {
                Some(ExprType::LambdaFunction(_)) => Ok(ValueOrLambda::Lambda(None)),
                _ => Ok(ValueOrLambda::Value(self.plan(argument)?.unalias().to_field(self.scope.schema())?.1)),
            })
            .collect::<Result<Vec<_>>>()?;
        let LambdaParametersProgress::Complete(parameters) = function.lambda_parameters(0, &fields)? else {
            return Err(Error::unsupported(format!("function `{name}` with a lambda")));
        };
        let mut parameters = parameters.into_iter();
        let planned = arguments
            .iter()
            .map(|argument| match &argument.expr_type {
                Some(ExprType::LambdaFunction(lambda)) => {
                    self.lambda(lambda, parameters.next().unwrap_or_default(), name)
                }
                _ => Ok(self.plan(argument)?.unalias()),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Expr::HigherOrderFunction(HigherOrderFunction::new(function, planned)))
    }

    fn higher_order_function(&self, name: &str) -> Result<Arc<HigherOrderUDF>> {
        let functions = self.planner.state.higher_order_functions();
        let found = functions.get(name);
        found.cloned().ok_or_else(|| Error::unsupported(format!("function `{name}` with a lambda")))
    }

    fn lambda(&self, lambda: &LambdaFunction, fields: Vec<arrow::datatypes::FieldRef>, name: &str) -> Result<Expr> {
        let names: Vec<_> = lambda.arguments.iter().map(|argument| argument.name_parts.join(".")).collect();
        if names.len() > fields.len() {
            return Err(Error::unsupported(format!("a lambda with {} arguments for function `{name}`", names.len())));
        }
        let mut variables = self.variables.clone();
        for (name, field) in names.iter().zip(fields) {
            let field = Arc::new(field.as_ref().clone().with_name(name));
            variables.push((name.clone(), LambdaVariable::new(name.clone(), Some(field))));
        }
        let inner = Expressions { planner: self.planner, scope: self.scope, variables };
        let body = inner.plan(required(lambda.function.as_deref())?)?.unalias();
        Ok(Expr::Lambda(Lambda::new(names, body)))
    }

    /// `function OVER (PARTITION BY .. ORDER BY .. frame)`.
    pub(super) fn window(&self, window: &Window) -> Result<Expr> {
        let call = required(window.window_function.as_deref())?;
        let WindowCall { definition, mut arguments, distinct, mut null_treatment } = self.window_function(call)?;
        if definition.name() == "nth_value"
            && let [_, _, Expr::Literal(ScalarValue::Boolean(Some(ignore)), _)] = arguments.as_slice()
        {
            null_treatment = ignore.then_some(NullTreatment::IgnoreNulls);
            arguments.truncate(2);
        }
        let partition_by = self.arguments(&window.partition_spec)?;
        let order_by = window.order_spec.iter().map(|order| self.sort(order)).collect::<Result<Vec<_>>>()?;
        let ranking = matches!(definition, WindowFunctionDefinition::WindowUDF(_));
        let window_frame = match &window.frame_spec {
            Some(frame) => self.frame(frame, &order_by)?,
            None if ranking || !order_by.is_empty() => WindowFrame::new((!order_by.is_empty()).then_some(false)),
            None => WindowFrame::new(None),
        };
        Ok(Expr::WindowFunction(Box::new(WindowFunction {
            fun: definition,
            params: WindowFunctionParams {
                args: arguments,
                partition_by,
                order_by,
                window_frame,
                filter: None,
                null_treatment,
                distinct,
            },
        })))
    }

    fn window_function(&self, call: &Expression) -> Result<WindowCall> {
        if let Some((aggregate, arguments)) = self.user_window(call)? {
            return Ok(WindowCall::new(WindowFunctionDefinition::AggregateUDF(aggregate), arguments));
        }
        let name = match kind(call)? {
            ExprType::UnresolvedFunction(function) => function.function_name.as_str(),
            ExprType::CallFunction(function) => function.function_name.as_str(),
            _ => "",
        };
        if let Ok(function) = self.planner.state.udwf(&name.to_ascii_lowercase()) {
            let arguments = match kind(call)? {
                ExprType::UnresolvedFunction(function) => &function.arguments,
                ExprType::CallFunction(function) => &function.arguments,
                _ => return Err(Error::internal("a window function that is no call")),
            };
            return Ok(WindowCall::new(WindowFunctionDefinition::WindowUDF(function), self.arguments(arguments)?));
        }
        match self.plan(call)?.unalias() {
            Expr::AggregateFunction(AggregateFunction { func, params }) => Ok(WindowCall {
                definition: over_window(func),
                arguments: params.args,
                distinct: params.distinct,
                null_treatment: params.null_treatment,
            }),
            Expr::WindowFunction(_) => Err(Error::user("a window function inside another")),
            _ => Err(Error::user(format!("`{}` cannot be used with `OVER`", name::of(call)))
                .with_condition("UNSUPPORTED_EXPR_FOR_WINDOW")),
        }
    }

    fn frame(
        &self,
        frame: &super::proto::expression::window::WindowFrame,
        order_by: &[SortExpr],
    ) -> Result<WindowFrame> {
        let units = match frame.frame_type() {
            window_frame::FrameType::Range => WindowFrameUnits::Range,
            _ => WindowFrameUnits::Rows,
        };
        let lower = self.bound(required(frame.lower.as_deref())?, true, units)?;
        let upper = self.bound(required(frame.upper.as_deref())?, false, units)?;
        if let ([order], true) = (order_by, is_distance(&lower) || is_distance(&upper)) {
            let data_type = order.expr.get_type(self.scope.schema())?;
            if units == WindowFrameUnits::Range && !data_type.is_numeric() {
                return Err(Error::user(format!(
                    "the frame of a window ordered by {} cannot be bounded by a number",
                    faces::type_name(&data_type)
                ))
                .with_condition("DATATYPE_MISMATCH.RANGE_FRAME_INVALID_TYPE")
                .with_help("Order by a number, such as `unix_timestamp(time)`."));
            }
        }
        Ok(WindowFrame::new_bounds(units, lower, upper))
    }

    /// A bound of a frame: the client sends offsets with their sign, negative is preceding.
    fn bound(
        &self,
        bound: &window_frame::FrameBoundary,
        lower: bool,
        units: WindowFrameUnits,
    ) -> Result<WindowFrameBound> {
        use window_frame::frame_boundary::Boundary;
        match &bound.boundary {
            None | Some(Boundary::CurrentRow(_)) => Ok(WindowFrameBound::CurrentRow),
            Some(Boundary::Unbounded(_)) if lower => Ok(WindowFrameBound::Preceding(ScalarValue::Null)),
            Some(Boundary::Unbounded(_)) => Ok(WindowFrameBound::Following(ScalarValue::Null)),
            Some(Boundary::Value(value)) => {
                let Expr::Literal(value, _) = self.plan(value)? else {
                    return Err(Error::unsupported("a frame bound that is not a literal"));
                };
                let offset = value.cast_to(&DataType::Int64)?;
                let ScalarValue::Int64(Some(offset)) = offset else {
                    return Err(Error::user("a frame bound is NULL"));
                };
                let size = match units {
                    WindowFrameUnits::Rows => ScalarValue::UInt64(Some(offset.unsigned_abs())),
                    // Text, as in SQL, takes on the type of what the window is ordered by.
                    _ => ScalarValue::Utf8(Some(offset.unsigned_abs().to_string())),
                };
                Ok(match offset {
                    0 => WindowFrameBound::CurrentRow,
                    ..0 => WindowFrameBound::Preceding(size),
                    1.. => WindowFrameBound::Following(size),
                })
            }
        }
    }
}

/// A function as it is called over a window.
struct WindowCall {
    definition: WindowFunctionDefinition,
    arguments: Vec<Expr>,
    distinct: bool,
    null_treatment: Option<NullTreatment>,
}

impl WindowCall {
    fn new(definition: WindowFunctionDefinition, arguments: Vec<Expr>) -> Self {
        Self { definition, arguments, distinct: false, null_treatment: None }
    }
}

/// Whether a bound is so many rows, or so much of a value, away.
fn is_distance(bound: &WindowFrameBound) -> bool {
    match bound {
        WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance) => !distance.is_null(),
        WindowFrameBound::CurrentRow => false,
    }
}

fn binary_operator(name: &str) -> Option<Operator> {
    Some(match name {
        "==" | "=" => Operator::Eq,
        "!=" | "<>" => Operator::NotEq,
        "<=>" => Operator::IsNotDistinctFrom,
        "<" => Operator::Lt,
        "<=" => Operator::LtEq,
        ">" => Operator::Gt,
        ">=" => Operator::GtEq,
        "+" => Operator::Plus,
        "-" => Operator::Minus,
        "*" => Operator::Multiply,
        "/" => Operator::Divide,
        "%" => Operator::Modulo,
        "and" => Operator::And,
        "or" => Operator::Or,
        "&" => Operator::BitwiseAnd,
        "|" => Operator::BitwiseOr,
        "^" => Operator::BitwiseXor,
        _ => return None,
    })
}
