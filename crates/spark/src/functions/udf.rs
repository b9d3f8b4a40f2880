//! What all our scalar functions have in common: one row of a table each, evaluated over arrays.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use chrono_tz::Tz;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use indexmap::IndexMap;

use crate::cast::{CastMode, cast_array};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::session::conf_ref;

/// One call of a function: its arguments and the session's settings.
pub(crate) struct Call<'a> {
    name: &'static str,
    args: &'a [ColumnarValue],
    rows: usize,
    conf: Cow<'a, SparkConf>,
    result: &'a DataType,
}

impl Call<'_> {
    /// The name of the function.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// How many rows the result has.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// How many arguments there are.
    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    /// The session's time zone.
    pub(crate) fn tz(&self) -> Tz {
        self.conf.time_zone
    }

    /// Whether the session is in ANSI mode.
    pub(crate) fn ansi(&self) -> bool {
        self.conf.ansi
    }

    /// Whether of equal keys of a map the last one counts.
    pub(crate) fn last_key_wins(&self) -> bool {
        self.conf.last_map_key_wins()
    }

    /// What a cast of the session does with values it cannot convert.
    pub(crate) fn mode(&self) -> CastMode {
        CastMode::of(self.conf.ansi)
    }

    /// The type the result must have.
    pub(crate) fn result(&self) -> &DataType {
        self.result
    }

    /// An argument as an array, one value per row.
    pub(crate) fn array(&self, i: usize) -> Result<ArrayRef> {
        match self.args.get(i) {
            Some(arg) => Ok(arg.to_array(self.rows)?),
            None => Err(Error::internal(format!("`{}` has no argument {i}", self.name))),
        }
    }

    /// An argument cast to `to`. A constant is cast once.
    pub(crate) fn cast(&self, i: usize, to: &DataType) -> Result<ArrayRef> {
        match self.args.get(i) {
            Some(ColumnarValue::Scalar(value)) => {
                let one = cast_array(&value.to_array()?, to, self.mode(), self.tz())?;
                Ok(ScalarValue::try_from_array(&one, 0)?.to_array_of_size(self.rows)?)
            }
            _ => cast_array(&self.array(i)?, to, self.mode(), self.tz()),
        }
    }

    /// An argument as text.
    pub(crate) fn text(&self, i: usize) -> Result<StringArray> {
        Ok(self.cast(i, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    /// A constant argument.
    pub(crate) fn constant(&self, i: usize) -> Option<&ScalarValue> {
        match self.args.get(i)? {
            ColumnarValue::Scalar(value) => Some(value),
            ColumnarValue::Array(_) => None,
        }
    }

    /// A constant text argument: `None` if it is not constant, `Some(None)` if NULL.
    pub(crate) fn constant_text(&self, i: usize) -> Option<Option<String>> {
        match self.args.get(i)? {
            ColumnarValue::Scalar(value) => Some(value.try_as_str().flatten().map(str::to_owned)),
            ColumnarValue::Array(_) => None,
        }
    }
}

/// How a function's result type follows from its arguments.
#[derive(Clone, Copy)]
pub(crate) enum Returns {
    /// Always the same.
    Type(fn() -> DataType),
    /// From the argument types.
    Types(fn(&[DataType]) -> Result<DataType>),
    /// From the argument types and constant values.
    Values(fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>),
}

pub(crate) const TEXT: Returns = Returns::Type(|| DataType::Utf8);
pub(crate) const BOOLEAN: Returns = Returns::Type(|| DataType::Boolean);
pub(crate) const INT: Returns = Returns::Type(|| DataType::Int32);
pub(crate) const LONG: Returns = Returns::Type(|| DataType::Int64);
pub(crate) const DOUBLE: Returns = Returns::Type(|| DataType::Float64);
pub(crate) const DATE: Returns = Returns::Type(|| DataType::Date32);
pub(crate) const BINARY: Returns = Returns::Type(|| DataType::Binary);
pub(crate) const TIMESTAMP: Returns = Returns::Type(crate::types::timestamp);

/// A scalar function.
#[derive(Clone, Copy)]
pub(crate) struct Function {
    /// Its name and its other names.
    pub(crate) names: &'static [&'static str],
    /// The least and the greatest number of arguments.
    pub(crate) arity: (usize, usize),
    /// Its result type.
    pub(crate) returns: Returns,
    /// What it does.
    pub(crate) eval: fn(&Call<'_>) -> Result<ArrayRef>,
    /// Whether the same arguments give the same result.
    pub(crate) volatility: Volatility,
    /// The argument that `eval` takes as a constant: a pattern that is compiled once for all rows that have it.
    pub(crate) compiled: Option<usize>,
}

/// As many arguments as one likes.
pub(crate) const ANY: usize = usize::MAX;

impl Function {
    /// The function with a pattern as argument `i`.
    pub(crate) const fn compiles(self, i: usize) -> Self {
        Self { compiled: Some(i), ..self }
    }
}

/// A deterministic function.
pub(crate) const fn function(
    names: &'static [&'static str],
    arity: (usize, usize),
    returns: Returns,
    eval: fn(&Call<'_>) -> Result<ArrayRef>,
) -> Function {
    Function { names, arity, returns, eval, volatility: Volatility::Immutable, compiled: None }
}

/// A function whose result may differ from row to row.
pub(crate) const fn volatile(
    names: &'static [&'static str],
    arity: (usize, usize),
    returns: Returns,
    eval: fn(&Call<'_>) -> Result<ArrayRef>,
) -> Function {
    Function { names, arity, returns, eval, volatility: Volatility::Volatile, compiled: None }
}

impl Function {
    /// A call of the function.
    pub(crate) fn call(self, args: Vec<Expr>) -> Expr {
        Expr::ScalarFunction(datafusion::logical_expr::expr::ScalarFunction::new_udf(self.udf(), args))
    }

    /// The function for DataFusion's registry.
    pub(crate) fn udf(self) -> Arc<ScalarUDF> {
        let aliases = self.names.iter().skip(1).map(|name| (*name).to_owned()).collect();
        // A signature that is checked by code alone admits no call without arguments.
        let signature = match self.arity {
            (0, 1..) => Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::UserDefined], self.volatility),
            _ => Signature::user_defined(self.volatility),
        };
        Arc::new(ScalarUDF::new_from_impl(SparkFunction { function: self, aliases, signature }))
    }
}

struct SparkFunction {
    function: Function,
    aliases: Vec<String>,
    signature: Signature,
}

impl std::fmt::Debug for SparkFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SparkFunction({})", self.name())
    }
}

/// A name has one function: there is nothing else to compare.
impl PartialEq for SparkFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function.names == other.function.names
    }
}

impl Eq for SparkFunction {}

impl Hash for SparkFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.names.hash(state);
    }
}

impl SparkFunction {
    fn result_type(&self, types: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
        check_arity(self.function.names[0], self.function.arity, types.len())?;
        match self.function.returns {
            Returns::Type(data_type) => Ok(data_type()),
            Returns::Types(from) => from(types),
            Returns::Values(from) => from(types, values),
        }
    }
}

impl ScalarUDFImpl for SparkFunction {
    fn name(&self) -> &str {
        self.function.names[0]
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let args: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(format!("{}({})", self.name(), args.join(", ")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.function.names[0], self.function.arity, types.len())?;
        Ok(types.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.result_type(types, &vec![None; types.len()])?)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let result = self.result_type(&types, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.name(), result, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let constant = self.function.volatility != Volatility::Volatile
            && args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let conf = match conf_ref(&args.config_options) {
            Some(conf) => Cow::Borrowed(conf),
            None => Cow::Owned(SparkConf::pipeline_defaults()),
        };
        let call = Call {
            name: self.function.names[0],
            args: &args.args,
            rows: if constant { 1 } else { args.number_rows },
            conf,
            result: args.return_field.data_type(),
        };
        let result = match self.function.compiled.filter(|i| matches!(args.args.get(*i), Some(ColumnarValue::Array(_))))
        {
            Some(i) => each_value(&call, i, self.function.eval),
            None => (self.function.eval)(&call),
        };
        let result = result.map_err(DataFusionError::from)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// Evaluates a call once per value of argument `i`, over the rows that have it.
fn each_value(call: &Call<'_>, i: usize, eval: fn(&Call<'_>) -> Result<ArrayRef>) -> Result<ArrayRef> {
    let values = call.text(i)?;
    let mut rows_of: IndexMap<Option<&str>, Vec<u32>> = IndexMap::new();
    for (row, value) in values.iter().enumerate() {
        rows_of.entry(value).or_default().push(row as u32);
    }
    let mut parts = Vec::with_capacity(rows_of.len());
    let mut origin = vec![(0, 0); call.rows()];
    for (part, (value, rows)) in rows_of.into_iter().enumerate() {
        for (position, row) in rows.iter().enumerate() {
            origin[*row as usize] = (part, position);
        }
        let count = rows.len();
        let rows = UInt32Array::from(rows);
        let mut args = Vec::with_capacity(call.args.len());
        for (position, arg) in call.args.iter().enumerate() {
            args.push(match arg {
                _ if position == i => ColumnarValue::Scalar(ScalarValue::Utf8(value.map(str::to_owned))),
                ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
                ColumnarValue::Array(array) => ColumnarValue::Array(take(array, &rows, None)?),
            });
        }
        let conf = Cow::Borrowed(call.conf.as_ref());
        parts.push(eval(&Call { name: call.name, args: &args, rows: count, conf, result: call.result })?);
    }
    if parts.is_empty() {
        return Ok(arrow::array::new_empty_array(call.result));
    }
    Ok(interleave(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &origin)?)
}

/// The error of a call with too few or too many arguments.
pub(crate) fn check_arity(name: &str, (least, most): (usize, usize), count: usize) -> Result<()> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let expected = match (least, most) {
        (least, ANY) => format!("at least {least}"),
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    };
    Err(Error::user(format!("`{name}` takes {expected} arguments, but got {count}"))
        .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"))
}

/// A text for every row from one text.
pub(crate) fn map_text(call: &Call<'_>, f: impl Fn(&str) -> Option<Cow<'_, str>>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    let mut builder = arrow::array::StringBuilder::with_capacity(text.len(), text.value_data().len());
    for value in &text {
        builder.append_option(value.and_then(&f));
    }
    Ok(Arc::new(builder.finish()))
}
