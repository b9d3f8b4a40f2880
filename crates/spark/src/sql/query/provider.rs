//! What DataFusion's SQL planner asks of us: tables by internal name, functions, our expression planner.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::{DFSchema, DataFusionError, Result as DataFusionResult, ScalarValue, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::functions_nested::map_extract::map_extract;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr, TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, GetFieldAccess, HigherOrderUDF, LogicalPlan, Operator, ScalarUDF, TableSource,
    WindowUDF, lit,
};
use sqlparser::ast::BinaryOperator;

use super::super::data_types::SparkTypes;
use super::interval::planned as planned_interval;
use crate::cast::{CastMode, kept_cast, spark_cast, written_cast, written_interval_cast};
use crate::coercion::{binary_op, resolve};
use crate::conf::SparkConf;
use crate::error::Error;
use crate::functions::{ARRAY_ITEM, java_pattern};
use crate::session::conf_of;
use crate::types::{IntervalUnits, is_variant, sql_type_name};

/// Marks `'text' <op> NULL` as a numeric literal; what follows is its suffix.
pub(super) const LITERAL: &str = "spark literal ";
/// Marks `'number first last' <op> NULL` as an interval; its kind follows.
pub(super) const INTERVAL: &str = "spark interval ";
/// Marks `expr <op> NULL` as cast without a word in the text; the type follows.
pub(super) const IMPLIED_CAST: &str = "spark implied cast ";
/// Marks `expr <op> NULL` as cast by a word in the text; the type follows.
pub(super) const CAST: &str = "spark cast ";
/// The same for one of an integer type that is an operand of a calculation.
pub(super) const OPERAND_CAST: &str = "spark operand cast ";
/// The same for `TRY_CAST`.
pub(super) const TRY_CAST: &str = "spark try cast ";
/// Marks `CASE … END <op> NULL`, whose branches meet at one type: DataFusion takes that of the first for the type of all.
pub(super) const CASE: &str = "spark case";
/// Marks `RLIKE`.
pub(super) const RLIKE: &str = "spark rlike";

/// The tables of one query and the session's functions.
pub(super) struct Provider<'a> {
    state: &'a SessionState,
    tables: RwLock<HashMap<String, Arc<dyn TableSource>>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl<'a> Provider<'a> {
    pub(super) fn new(state: &'a SessionState) -> Self {
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(SparkExprPlanner { conf: conf_of(state) })];
        planners.extend(state.expr_planners().iter().cloned());
        Self { state, tables: RwLock::default(), planners }
    }

    pub(super) fn state(&self) -> &SessionState {
        self.state
    }

    /// Makes `plan` known as table `name`.
    pub(super) fn add(&self, name: &str, plan: LogicalPlan) {
        let view = provider_as_source(Arc::new(ViewTable::new(plan, None)));
        if let Ok(mut tables) = self.tables.write() {
            tables.insert(name.to_owned(), view);
        }
    }

    /// Whether the session has a function of that name (in lower case).
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.state.scalar_functions().contains_key(name)
            || self.state.aggregate_functions().contains_key(name)
            || self.state.window_functions().contains_key(name)
            || self.state.higher_order_functions().contains_key(name)
            || name == "map"
    }

    pub(super) fn function_names(&self) -> Vec<String> {
        let mut names = self.udf_names();
        names.extend(self.udaf_names());
        names.extend(self.udwf_names());
        names.extend(self.higher_order_function_names());
        names
    }
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        let tables = self.tables.read().ok();
        let found = tables.and_then(|tables| tables.get(name.table()).cloned());
        found.ok_or_else(|| DataFusionError::Plan(format!("table `{name}` not found")))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DataFusionResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SparkTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// Plans operators and field access as Spark means them.
#[derive(Debug)]
struct SparkExprPlanner {
    conf: SparkConf,
}

impl SparkExprPlanner {
    fn cast(&self, expr: Expr, to: &str, mode: CastMode, schema: &DFSchema) -> DataFusionResult<Expr> {
        let from = expr.get_type(schema)?;
        let data_type = crate::types::parse_data_type(to)?;
        Ok(match IntervalUnits::of_name(to) {
            Some(units) => written_interval_cast(expr, &from, (&data_type, units), mode, &self.conf)?,
            None => written_cast(expr, &from, &data_type, mode, &self.conf)?,
        })
    }
}

impl ExprPlanner for SparkExprPlanner {
    fn plan_binary_op(
        &self,
        mut raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawBinaryExpr>> {
        let planned = match &raw.op {
            BinaryOperator::Custom(name) if name == CASE => {
                return Ok(PlannerResult::Planned(resolve(raw.left, schema, &self.conf)?));
            }
            BinaryOperator::Custom(name) if name.starts_with(LITERAL) => {
                return literal(&raw.left, &name[LITERAL.len()..]).map(PlannerResult::Planned);
            }
            BinaryOperator::Custom(name) if name.starts_with(INTERVAL) => {
                let interval = match &raw.left {
                    Expr::Literal(value, _) => {
                        value.try_as_str().flatten().and_then(|text| planned_interval(&name[INTERVAL.len()..], text))
                    }
                    _ => None,
                };
                let missing = || DataFusionError::Internal("an interval that is none".to_owned());
                return interval.map(PlannerResult::Planned).ok_or_else(missing);
            }
            BinaryOperator::Custom(name) if name.starts_with(IMPLIED_CAST) => {
                let from = raw.left.get_type(schema)?;
                let to = crate::types::parse_data_type(&name[IMPLIED_CAST.len()..])?;
                let cast = spark_cast(raw.left, &from, &to, CastMode::of(self.conf.ansi), &self.conf)?;
                return Ok(PlannerResult::Planned(cast));
            }
            BinaryOperator::Custom(name) if name.starts_with(CAST) => {
                let mode = CastMode::of(self.conf.ansi);
                return self.cast(raw.left, &name[CAST.len()..], mode, schema).map(PlannerResult::Planned);
            }
            BinaryOperator::Custom(name) if name.starts_with(OPERAND_CAST) => {
                let (from, mode) = (raw.left.get_type(schema)?, CastMode::of(self.conf.ansi));
                let to = crate::types::parse_data_type(&name[OPERAND_CAST.len()..])?;
                let kept = kept_cast(raw.left.clone(), &from, &to, mode, &self.conf);
                return Ok(PlannerResult::Planned(match kept {
                    Some(kept) => kept,
                    None => written_cast(raw.left, &from, &to, mode, &self.conf)?,
                }));
            }
            BinaryOperator::Custom(name) if name.starts_with(TRY_CAST) => {
                let mode = CastMode::Try;
                return self.cast(raw.left, &name[TRY_CAST.len()..], mode, schema).map(PlannerResult::Planned);
            }
            BinaryOperator::Custom(name) if name == RLIKE => {
                if let Expr::Literal(value, _) = &mut raw.right
                    && let Some(pattern) = value.try_as_str().flatten()
                {
                    *value = ScalarValue::Utf8(Some(java_pattern(pattern)));
                }
                Operator::RegexMatch
            }
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => Operator::Divide,
            BinaryOperator::Modulo => Operator::Modulo,
            BinaryOperator::MyIntegerDivide => Operator::IntegerDivide,
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::GtEq => Operator::GtEq,
            BinaryOperator::Spaceship => Operator::IsNotDistinctFrom,
            BinaryOperator::And => Operator::And,
            BinaryOperator::Or => Operator::Or,
            BinaryOperator::StringConcat => Operator::StringConcat,
            BinaryOperator::BitwiseAnd => Operator::BitwiseAnd,
            BinaryOperator::BitwiseOr => Operator::BitwiseOr,
            BinaryOperator::BitwiseXor => Operator::BitwiseXor,
            _ => return Ok(PlannerResult::Original(raw)),
        };
        Ok(PlannerResult::Planned(binary_op(raw.left, planned, raw.right, schema, &self.conf)?))
    }

    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> DataFusionResult<PlannerResult<RawFieldAccessExpr>> {
        let data_type = raw.expr.get_type(schema)?;
        let planned = match (&data_type, &raw.field_access) {
            (variant, _) if is_variant(variant) => return Err(no_fields(&raw.expr, variant).into()),
            (DataType::Struct(fields), GetFieldAccess::NamedStructField { name }) => {
                let name = name.try_as_str().flatten().unwrap_or_default().to_owned();
                let exact = fields.iter().find(|field| field.name().eq_ignore_ascii_case(&name));
                let Some(field) = exact else {
                    return Err(Error::user(format!("no such struct field `{name}`"))
                        .with_condition("FIELD_NOT_FOUND")
                        .into());
                };
                raw.expr.clone().field(field.name().as_str())
            }
            (DataType::Map(..), GetFieldAccess::NamedStructField { name }) => {
                array_element(map_extract(raw.expr.clone(), Expr::Literal(name.clone(), None)), lit(1_i64))
            }
            (DataType::Map(..), GetFieldAccess::ListIndex { key }) => {
                array_element(map_extract(raw.expr.clone(), key.as_ref().clone()), lit(1_i64))
            }
            (DataType::List(_) | DataType::LargeList(_), GetFieldAccess::ListIndex { key }) => {
                ARRAY_ITEM.call(vec![raw.expr.clone(), key.as_ref().clone()])
            }
            _ => return Ok(PlannerResult::Original(raw)),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

fn no_fields(expr: &Expr, data_type: &DataType) -> Error {
    let (shown, data_type) = (expr.schema_name(), sql_type_name(data_type));
    Error::user(format!("cannot extract a value from `{shown}`: it is a {data_type}, not a STRUCT, an ARRAY or a MAP"))
        .with_condition("INVALID_EXTRACT_BASE_FIELD_TYPE")
        .with_help("Use `:`, as in `v:name` or `v:list[0]`, or `variant_get`.")
}

/// A number as written, as Spark types it.
fn literal(text: &Expr, suffix: &str) -> DataFusionResult<Expr> {
    let Expr::Literal(value, _) = text else {
        return Err(DataFusionError::Internal(format!("not a literal: {text}")));
    };
    let text = value.try_as_str().flatten().unwrap_or_default().to_owned();
    let out_of_range = || {
        DataFusionError::from(
            Error::user(format!("`{text}` is out of range of its type"))
                .with_condition("INVALID_NUMERIC_LITERAL_RANGE"),
        )
    };
    let parsed = match suffix.to_ascii_uppercase().as_str() {
        "L" => text.parse().ok().map(|v| ScalarValue::Int64(Some(v))),
        "S" => text.parse().ok().map(|v| ScalarValue::Int16(Some(v))),
        "Y" => text.parse().ok().map(|v| ScalarValue::Int8(Some(v))),
        "D" => double(&text),
        "F" => text.parse().ok().filter(|v: &f32| v.is_finite()).map(|v| ScalarValue::Float32(Some(v))),
        "BD" => decimal(&text),
        _ if text.contains(['e', 'E']) => double(&text),
        _ if text.contains('.') => decimal(&text),
        _ => text
            .parse::<i32>()
            .ok()
            .map(|v| ScalarValue::Int32(Some(v)))
            .or_else(|| text.parse::<i64>().ok().map(|v| ScalarValue::Int64(Some(v))))
            .or_else(|| decimal(&text)),
    };
    parsed.map(|value| Expr::Literal(value, None)).ok_or_else(out_of_range)
}

/// A double; one that is too large is none.
fn double(text: &str) -> Option<ScalarValue> {
    text.parse().ok().filter(|v: &f64| v.is_finite()).map(|v| ScalarValue::Float64(Some(v)))
}

/// The decimal with just the digits written.
fn decimal(text: &str) -> Option<ScalarValue> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let precision = (whole.len() + fraction.len()).max(1);
    let unscaled: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let value = if negative { -unscaled } else { unscaled };
    (precision <= 38).then_some(ScalarValue::Decimal128(
        Some(value),
        precision.max(fraction.len()) as u8,
        fraction.len() as i8,
    ))
}
