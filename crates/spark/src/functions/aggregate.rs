//! Aggregates: which of DataFusion's stand for Spark's, under which names, with which casts.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::functions_aggregate as df;
use datafusion::functions_window::nth_value::{first_value_udwf, last_value_udwf};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, WindowFunction};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Case, Expr, ExprSchemable, Signature, Volatility,
    WindowFunctionDefinition, lit,
};

use super::correlation::{self, Statistic};
use super::form::Env;
use super::udf::check_arity;
use super::{
    average, bitmap, distinct, float_extreme, frame, gather, grouping, hll, shift, sliding, sum, variant, vector,
};
use crate::conf::SparkConf;
use crate::error::{Error, Result};

/// Puts the aggregates under Spark's names.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let named = |udaf: Arc<AggregateUDF>, names: &'static [&'static str]| {
        Arc::new(udaf.as_ref().clone().with_aliases(names.iter().copied()))
    };
    registry.register_udaf(named(df::bool_and_or::bool_and_udaf(), &["every", "bool_and"]))?;
    registry.register_udaf(named(df::bool_and_or::bool_or_udaf(), &["some", "any", "bool_or"]))?;
    // DataFusion's own of that name keeps NULLs.
    registry.register_udaf(named(registry.udaf("collect_list")?, &["array_agg"]))?;
    for rewritten in REWRITTEN {
        let aliases = rewritten.names.iter().skip(1).map(|name| (*name).to_owned()).collect();
        registry.register_udaf(Arc::new(AggregateUDF::new_from_impl(Renamed { rewritten: *rewritten, aliases })))?;
    }
    for udaf in gather::aggregates()
        .into_iter()
        .chain(bitmap::aggregates())
        .chain(hll::aggregates())
        .chain(variant::aggregates())
        .chain(vector::aggregates())
        .chain([grouping::aggregate()])
    {
        registry.register_udaf(udaf)?;
    }
    Ok(())
}

/// An aggregate that is a call of another one.
#[derive(Clone, Copy)]
struct Rewritten {
    names: &'static [&'static str],
    arity: (usize, usize),
    /// What the arguments must be.
    wants: Wants,
    other: fn() -> Arc<AggregateUDF>,
    rule: Rule,
}

#[derive(Clone, Copy, PartialEq)]
enum Wants {
    Anything,
    /// Numbers; text is a double.
    Numbers,
    Doubles,
}

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Same,
    /// The argument is a condition; rows where it is true are counted.
    CountTrue,
    /// A second argument says whether NULLs are passed over.
    IgnoreNulls,
    /// Distinct values are counted. The count is exact, which an approximation may be; a second argument,
    /// the allowed error, does not matter then.
    CountDistinct,
}

const fn numbers(names: &'static [&'static str], other: fn() -> Arc<AggregateUDF>) -> Rewritten {
    Rewritten { names, arity: (1, 1), wants: Wants::Numbers, other, rule: Rule::Same }
}

const fn pairs(names: &'static [&'static str], other: fn() -> Arc<AggregateUDF>) -> Rewritten {
    Rewritten { names, arity: (2, 2), wants: Wants::Doubles, other, rule: Rule::Same }
}

const fn doubles(names: &'static [&'static str], other: fn() -> Arc<AggregateUDF>) -> Rewritten {
    Rewritten { names, arity: (1, 1), wants: Wants::Doubles, other, rule: Rule::Same }
}

const fn edge(names: &'static [&'static str], other: fn() -> Arc<AggregateUDF>) -> Rewritten {
    Rewritten { names, arity: (1, 2), wants: Wants::Anything, other, rule: Rule::IgnoreNulls }
}

const REWRITTEN: &[Rewritten] = &[
    numbers(&["sum"], df::sum::sum_udaf),
    numbers(&["avg", "mean", "try_avg"], average::average_udaf),
    numbers(&["try_sum"], datafusion_spark::function::aggregate::try_sum),
    doubles(&["stddev", "stddev_samp", "std"], df::stddev::stddev_udaf),
    doubles(&["stddev_pop"], df::stddev::stddev_pop_udaf),
    doubles(&["variance", "var_samp", "var_sample"], df::variance::var_samp_udaf),
    doubles(&["var_pop"], df::variance::var_pop_udaf),
    pairs(&["corr"], || correlation::udaf(Statistic::Correlation, false)),
    pairs(&["covar_samp"], || correlation::udaf(Statistic::SampleCovariance, false)),
    pairs(&["covar_pop"], || correlation::udaf(Statistic::PopulationCovariance, false)),
    // DataFusion's has no sign. Rows with a NULL do not count.
    pairs(&["regr_count"], df::count::count_udaf),
    edge(&["first", "first_value", "any_value"], df::first_last::first_value_udaf),
    edge(&["last", "last_value"], df::first_last::last_value_udaf),
    Rewritten {
        names: &["count_if"],
        arity: (1, 1),
        wants: Wants::Anything,
        other: df::count::count_udaf,
        rule: Rule::CountTrue,
    },
    Rewritten {
        names: &["approx_count_distinct"],
        arity: (1, 2),
        wants: Wants::Anything,
        other: df::count::count_udaf,
        rule: Rule::CountDistinct,
    },
];

impl Rewritten {
    /// The other aggregate as a session with these settings runs it.
    fn aggregate(&self, conf: &SparkConf) -> Arc<AggregateUDF> {
        match self.names[0] {
            "sum" => sum::sum_udaf(conf.ansi),
            "corr" => correlation::udaf(Statistic::Correlation, conf.ansi),
            _ => (self.other)(),
        }
    }

    /// The arguments of the other aggregate, and whether it passes over NULLs.
    fn arguments(&self, mut args: Vec<Expr>, env: Env<'_>) -> Result<(Vec<Expr>, bool)> {
        check_arity(self.names[0], self.arity, args.len())?;
        let mut ignore_nulls = false;
        match self.rule {
            Rule::Same => {}
            Rule::CountDistinct => args.truncate(1),
            Rule::IgnoreNulls if args.len() == 2 => {
                ignore_nulls = match args.pop() {
                    Some(Expr::Literal(ScalarValue::Boolean(Some(ignore)), _)) => ignore,
                    _ => {
                        return Err(Error::user(format!(
                            "the second argument of `{}` must be TRUE or FALSE",
                            self.names[0]
                        ))
                        .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
                    }
                };
            }
            Rule::IgnoreNulls => {}
            Rule::CountTrue => {
                let condition = args.pop().unwrap_or_else(|| lit(false));
                let one = Case::new(None, vec![(Box::new(condition), Box::new(lit(1_i64)))], None);
                args = vec![crate::coercion::resolve(Expr::Case(one), env.schema, env.conf)?];
            }
        }
        let cast = |arg: Expr| {
            let from = env.type_of(&arg)?;
            match self.wants {
                Wants::Doubles => env.cast(arg, &DataType::Float64),
                Wants::Numbers if matches!(from, DataType::Utf8 | DataType::Null) => env.cast(arg, &DataType::Float64),
                Wants::Numbers if from.is_integer() && arg.get_type(env.schema)? != from => env.cast(arg, &from),
                Wants::Numbers
                    if !from.is_numeric() && !matches!(from, DataType::Duration(_) | DataType::Interval(_)) =>
                {
                    let (name, found) = (self.names[0], crate::types::sql_type_name(&from));
                    Err(Error::user(format!("`{name}` takes numbers and intervals, and its argument is {found}"))
                        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"))
                }
                _ => Ok(arg),
            }
        };
        Ok((args.into_iter().map(cast).collect::<Result<_>>()?, ignore_nulls))
    }
}

/// The name of an aggregate that is rewritten before anything is run.
struct Renamed {
    rewritten: Rewritten,
    aliases: Vec<String>,
}

impl std::fmt::Debug for Renamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Renamed({})", self.rewritten.names[0])
    }
}

/// A name has one aggregate: there is nothing else to compare.
impl PartialEq for Renamed {
    fn eq(&self, other: &Self) -> bool {
        self.rewritten.names == other.rewritten.names
    }
}

impl Eq for Renamed {}

impl Hash for Renamed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rewritten.names.hash(state);
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

impl AggregateUDFImpl for Renamed {
    fn name(&self) -> &str {
        self.rewritten.names[0]
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.name(), self.rewritten.arity, types.len())?;
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Err(DataFusionError::Internal(format!("the type of `{}` depends on its arguments", self.name())))
    }

    /// The type of the other aggregate over columns of these types.
    fn return_field(&self, fields: &[FieldRef]) -> DataFusionResult<FieldRef> {
        let name = |i: usize| format!("argument {i}");
        let columns = fields.iter().enumerate();
        let renamed = columns.map(|(i, field)| (None, Arc::new(field.as_ref().clone().with_name(name(i))))).collect();
        let schema = DFSchema::new_with_metadata(renamed, Default::default())?;
        let args = (0..fields.len()).map(|i| match (self.rewritten.rule, i) {
            (Rule::IgnoreNulls, 1) => lit(true),
            _ => Expr::Column(datafusion::common::Column::from_name(name(i))),
        });
        let conf = SparkConf::pipeline_defaults();
        let (args, _) = self.rewritten.arguments(args.collect(), Env { schema: &schema, conf: &conf, typing: true })?;
        let call = AggregateFunction::new_udf((self.rewritten.other)(), args, false, None, Vec::new(), None);
        let (_, field) = Expr::AggregateFunction(call).to_field(&schema)?;
        Ok(Arc::new(field.as_ref().clone().with_name(self.name())))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Err(self.not_replaced())
    }

    fn state_fields(&self, _: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        Err(self.not_replaced())
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.rewritten.rule == Rule::IgnoreNulls
    }

    fn default_value(&self, data_type: &DataType) -> DataFusionResult<ScalarValue> {
        (self.rewritten.other)().default_value(data_type)
    }
}

impl Renamed {
    fn not_replaced(&self) -> DataFusionError {
        DataFusionError::Internal(format!("`{}` was not replaced by the aggregate it stands for", self.name()))
    }
}

fn extreme(aggregate: &Arc<AggregateUDF>, args: &[Expr], env: Env<'_>) -> Result<Option<Arc<AggregateUDF>>> {
    let Some(value) = args.first() else { return Ok(None) };
    let data_type = env.type_of(value)?;
    Ok(gather::extreme(aggregate, &data_type).or_else(|| float_extreme::extreme(aggregate, &data_type)))
}

fn treatment(given: Option<NullTreatment>, ignore: bool) -> Option<NullTreatment> {
    if ignore { Some(NullTreatment::IgnoreNulls) } else { given }
}

/// An aggregate call as the one it stands for, its arguments cast.
pub(crate) fn resolve_aggregate(
    function: AggregateFunction,
    schema: &DFSchema,
    conf: &SparkConf,
) -> Result<AggregateFunction> {
    let mut function = replaced(function, schema, conf)?;
    if function.params.distinct && function.params.order_by.is_empty() {
        function.func = distinct::over_distinct(&function.func, function.params.args.len());
    }
    Ok(function)
}

fn replaced(mut function: AggregateFunction, schema: &DFSchema, conf: &SparkConf) -> Result<AggregateFunction> {
    let env = Env { schema, conf, typing: false };
    let Some(renamed) = function.func.inner().downcast_ref::<Renamed>() else {
        if let Some(extreme) = extreme(&function.func, &function.params.args, env)? {
            function.func = extreme;
        }
        function.params.args = gather::cast(&function.func, function.params.args, env)?;
        return Ok(function);
    };
    let rewritten = renamed.rewritten;
    let (args, ignore) = rewritten.arguments(function.params.args, env)?;
    function.params.args = args;
    function.params.null_treatment = treatment(function.params.null_treatment, ignore);
    function.params.distinct |= rewritten.rule == Rule::CountDistinct;
    function.func = rewritten.aggregate(conf);
    Ok(function)
}

/// As [`resolve_aggregate`], for a call over a window.
pub(crate) fn resolve_window(
    mut function: WindowFunction,
    schema: &DFSchema,
    conf: &SparkConf,
) -> Result<WindowFunction> {
    let env = Env { schema, conf, typing: false };
    frame::bound_by_days(&mut function.params, env)?;
    shift::default_by_row(&mut function, env)?;
    let WindowFunctionDefinition::AggregateUDF(udaf) = &function.fun else { return Ok(function) };
    let mut aggregate = Arc::clone(udaf);
    if let Some(renamed) = udaf.inner().downcast_ref::<Renamed>() {
        let rewritten = renamed.rewritten;
        let (args, ignore) = rewritten.arguments(function.params.args, env)?;
        function.params.args = args;
        function.params.null_treatment = treatment(function.params.null_treatment, ignore);
        function.params.distinct |= rewritten.rule == Rule::CountDistinct;
        aggregate = rewritten.aggregate(conf);
    } else {
        function.params.args = gather::cast(udaf, function.params.args, env)?;
        if let Some(extreme) = extreme(udaf, &function.params.args, env)? {
            aggregate = extreme;
        }
    }
    // A function of windows sees all rows: where some are left out, it has to be the aggregate.
    function.fun = match over_window(Arc::clone(&aggregate)) {
        WindowFunctionDefinition::WindowUDF(udwf) if function.params.filter.is_none() => {
            WindowFunctionDefinition::WindowUDF(udwf)
        }
        _ if function.params.window_frame.is_ever_expanding() => WindowFunctionDefinition::AggregateUDF(aggregate),
        _ => WindowFunctionDefinition::AggregateUDF(sliding::over_sliding_frame(&aggregate)),
    };
    Ok(function)
}

/// An aggregate as it is called over a window. The first and the last value are functions of windows of their own: as
/// aggregates they know neither every frame nor NULLs to ignore.
pub(crate) fn over_window(aggregate: Arc<AggregateUDF>) -> WindowFunctionDefinition {
    match aggregate.name() {
        "first_value" => WindowFunctionDefinition::WindowUDF(first_value_udwf()),
        "last_value" => WindowFunctionDefinition::WindowUDF(last_value_udwf()),
        _ => WindowFunctionDefinition::AggregateUDF(aggregate),
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    /// An aggregate over three rows: x is 1, 2, NULL; s is the text of it.
    fn over_rows(aggregate: &str) -> String {
        format!("(SELECT {aggregate} FROM (VALUES (1, '1', true), (2, '2', false), (NULL, NULL, NULL)) t(x, s, b))")
    }

    #[tokio::test]
    async fn values() {
        let cases = [
            ("sum(x)", "3"),
            ("sum(s)", "3.0"),
            ("sum(CAST(x AS DECIMAL(10,2)))", "3.00"),
            ("avg(x)", "1.5"),
            ("avg(s)", "1.5"),
            ("avg(CAST(x AS DECIMAL(10,2)))", "1.500000"),
            ("mean(x)", "1.5"),
            ("try_sum(x)", "3"),
            ("try_avg(x)", "1.5"),
            ("count_if(x > 1)", "1"),
            ("count_if(b)", "1"),
            ("count(*)", "3"),
            ("count(x)", "2"),
            ("first(x)", "1"),
            ("last(x, true)", "2"),
            ("last_value(x, true)", "2"),
            ("any_value(x)", "1"),
            ("bool_and(b)", "false"),
            ("every(b)", "false"),
            ("some(b)", "true"),
            ("any(b)", "true"),
            ("stddev_pop(x)", "0.5"),
            ("var_pop(s)", "0.25"),
            ("variance(x)", "0.5"),
            ("round(std(x), 4)", "0.7071"),
            ("corr(x, x)", "1.0"),
            ("covar_pop(x, x)", "0.25"),
            ("approx_count_distinct(x)", "2"),
            ("approx_count_distinct(x, 0.05)", "2"),
            ("max(s)", "2"),
            ("max(if(x IS NULL, double('5'), if(x = 1, double('NaN'), x)))", "NaN"),
            ("collect_list(x)", "[1, 2]"),
            ("sort_array(collect_set(s))", "[1, 2]"),
            ("typeof(sum(CAST(x AS INT)))", "bigint"),
            ("typeof(count(x))", "bigint"),
            ("typeof(approx_count_distinct(x))", "bigint"),
        ];
        for (aggregate, expected) in cases {
            check(&over_rows(aggregate), Ok(expected), Ok(expected)).await;
        }
    }

    #[tokio::test]
    async fn over_windows() {
        check_all(&[
            ("first(1) OVER (ORDER BY 1)", "1"),
            ("last(1, true) OVER (ORDER BY 1)", "1"),
            ("sum('2') OVER (ORDER BY 1)", "2.0"),
            ("count_if(true) OVER (ORDER BY 1)", "1"),
        ])
        .await;
    }
}
