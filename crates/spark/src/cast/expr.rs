//! CAST in plans: DataFusion's own where it means the same, our function where it does not.

use std::sync::{Arc, LazyLock};

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use chrono_tz::Tz;
use datafusion::common::{ExprSchema, Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TryCast, Volatility,
};

use super::{CastMode, can_cast, cannot_cast, cast_array};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::types::{IntervalUnits, canonical, sql_type_name};

/// `CAST(expr AS to)`; the session's analyzer gives it the meaning its settings ask for.
pub fn cast_expr(expr: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), to))
}

/// `TRY_CAST(expr AS to)`.
pub fn try_cast_expr(expr: Expr, to: DataType) -> Expr {
    Expr::TryCast(TryCast::new(Box::new(expr), to))
}

/// A cast from a known type with Spark's meaning, as DataFusion's cast if that agrees.
///
/// # Errors
/// `DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION` (`User`) if there is no such cast.
pub fn spark_cast(expr: Expr, from: &DataType, to: &DataType, mode: CastMode, conf: &SparkConf) -> Result<Expr> {
    if from == to {
        return Ok(expr);
    }
    if let (Expr::Literal(ScalarValue::Null, metadata), Ok(null)) = (&expr, ScalarValue::try_from(to)) {
        return Ok(Expr::Literal(null, metadata.clone()));
    }
    if !can_cast(from, to) {
        return Err(cannot_cast(from, to));
    }
    if mode == CastMode::Ansi && from.is_integer() && canonical(to) == DataType::Binary {
        return Err(Error::user(format!("cannot cast {} to BINARY in ANSI mode", sql_type_name(from)))
            .with_condition("DATATYPE_MISMATCH.CAST_WITH_CONF_SUGGESTION")
            .with_help("Write the bytes of the number with `hex`, or set spark.sql.ansi.enabled to false."));
    }
    if agrees_with_arrow(from, to) {
        return Ok(cast_expr(expr, to.clone()));
    }
    Ok(SparkCast::new(to.clone(), mode, conf.time_zone).call(expr))
}

/// A cast that the user wrote. Until analysis it is our function whatever the types are: DataFusion calls its own cast
/// by the name of what is cast, so that `sum(x)` and `sum(CAST(x AS BIGINT))` could not stand side by side.
///
/// # Errors
/// As [`spark_cast`].
pub(crate) fn written_cast(
    expr: Expr,
    from: &DataType,
    to: &DataType,
    mode: CastMode,
    conf: &SparkConf,
) -> Result<Expr> {
    match spark_cast(expr, from, to, mode, conf)? {
        Expr::Cast(cast) => Ok(SparkCast::new(to.clone(), mode, conf.time_zone).call(*cast.expr)),
        other => Ok(other),
    }
}

/// A cast that the user wrote, to ANSI intervals of these units.
///
/// # Errors
/// As [`spark_cast`].
pub(crate) fn written_interval_cast(
    expr: Expr,
    from: &DataType,
    (to, units): (&DataType, IntervalUnits),
    mode: CastMode,
    conf: &SparkConf,
) -> Result<Expr> {
    if let (Expr::Literal(ScalarValue::Null, _), Ok(null)) = (&expr, ScalarValue::try_from(to)) {
        return Ok(Expr::Literal(null, Some(units.metadata())));
    }
    if !can_cast(from, to) {
        return Err(cannot_cast(from, to));
    }
    Ok(SparkCast { units: Some(units), ..SparkCast::new(to.clone(), mode, conf.time_zone) }.call(expr))
}

/// An integer literal that stands in a cast to its own type. As an operand beside a decimal it has the digits of the type,
/// where a literal has those that are written.
pub(crate) fn kept_cast(expr: Expr, from: &DataType, to: &DataType, mode: CastMode, conf: &SparkConf) -> Option<Expr> {
    let is_number = matches!(expr, Expr::Literal(..)) && from.is_integer() && from == to;
    is_number.then(|| SparkCast::new(to.clone(), mode, conf.time_zone).call(expr))
}

/// Our function as DataFusion's cast where that means the same, so that the optimizer can see through it.
pub(crate) fn analyzed_cast(function: ScalarFunction, schema: &dyn ExprSchema) -> Result<Expr> {
    if let Some(cast) = function.func.inner().downcast_ref::<SparkCast>()
        && let [arg] = function.args.as_slice()
        && cast.units.is_none()
        && agrees_with_arrow(&arg.get_type(schema)?, &cast.to)
    {
        return Ok(cast_expr(arg.clone(), cast.to.clone()));
    }
    Ok(Expr::ScalarFunction(function))
}

/// The cast of text to an integer that a comparison implies; remembered as such, so that one can warn of it.
pub(crate) fn implied_text_cast(expr: Expr, to: &DataType, conf: &SparkConf) -> Expr {
    SparkCast { cuts_text: true, ..SparkCast::new(to.clone(), CastMode::of(conf.ansi), conf.time_zone) }.call(expr)
}

/// Whether the cast loses nothing, and so can neither fail nor depend on a setting.
pub(crate) fn is_upcast(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let rank = |t: &DataType| match t {
        T::Int8 => 1,
        T::Int16 => 2,
        T::Int32 => 3,
        T::Int64 => 4,
        _ => 0,
    };
    match (from, to) {
        (T::Null, _) => true,
        (a, b) if rank(a) > 0 && rank(b) > 0 => rank(a) <= rank(b),
        (a, T::Float32 | T::Float64) if rank(a) > 0 => true,
        (T::Float32, T::Float64) => true,
        (T::Decimal128(p, s), T::Decimal128(q, r)) => {
            r >= s && i16::from(*q) - i16::from(*r) >= i16::from(*p) - i16::from(*s)
        }
        (a, T::Decimal128(p, s)) if rank(a) > 0 => i16::from(*p) - i16::from(*s) >= [0, 3, 5, 10, 19][rank(a)],
        (T::Decimal128(..), T::Float64) => true,
        _ => false,
    }
}

/// Whether Arrow's kernel gives the same result for every value.
pub(crate) fn agrees_with_arrow(from: &DataType, to: &DataType) -> bool {
    // Arrow divides doubles: with more digits, those are not the ones next to the decimals any more.
    let is_rounded = matches!((from, to), (DataType::Decimal128(precision, _), DataType::Float64) if *precision > 15);
    canonical(from) == canonical(to) && !from.is_nested() && !matches!(from, DataType::Timestamp(..))
        || is_upcast(from, to) && !is_rounded
}

/// The function that stands for a cast whose meaning is Spark's alone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SparkCast {
    to: DataType,
    mode: CastMode,
    tz: Tz,
    /// Put in by a comparison of text with an integer, which cuts the text at its point.
    cuts_text: bool,
    /// Of a type of ANSI intervals.
    units: Option<IntervalUnits>,
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::any(1, Volatility::Immutable));

impl SparkCast {
    pub(crate) fn new(to: DataType, mode: CastMode, tz: Tz) -> Self {
        Self { to, mode, tz, cuts_text: false, units: None }
    }

    fn call(self, expr: Expr) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(self)), vec![expr]))
    }

    /// The type it casts to.
    pub(crate) fn to(&self) -> &DataType {
        &self.to
    }

    /// Whether a comparison of text with an integer put it in.
    pub(crate) fn cuts_text(&self) -> bool {
        self.cuts_text
    }

    /// The word for it in SQL.
    pub(crate) fn keyword(&self) -> &'static str {
        if self.mode == CastMode::Try { "TRY_CAST" } else { "CAST" }
    }

    /// `from` are the units of intervals that are cast.
    fn apply(&self, array: &ArrayRef, from: Option<IntervalUnits>) -> DataFusionResult<ArrayRef> {
        let by_units = super::interval::by_units(array, from, &self.to, self.units, self.mode, self.tz);
        by_units.unwrap_or_else(|| cast_array(array, &self.to, self.mode, self.tz)).map_err(DataFusionError::from)
    }

    fn type_name(&self) -> String {
        match self.units {
            Some(units) => format!("INTERVAL {}", units.name(&self.to).to_ascii_uppercase()),
            None => sql_type_name(&self.to),
        }
    }
}

impl ScalarUDFImpl for SparkCast {
    fn name(&self) -> &str {
        "spark_cast"
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let args: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(format!("{}({} AS {})", self.keyword(), args.join(", "), self.type_name()))
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        // Any value but a lossless one may become NULL.
        let nullable = args
            .arg_fields
            .first()
            .is_none_or(|f| f.is_nullable() || (self.mode != CastMode::Ansi && !is_upcast(f.data_type(), &self.to)));
        let to_text = self.to == DataType::Utf8 && args.arg_fields.iter().all(|f| !f.is_nullable());
        let field = Field::new(self.name(), self.to.clone(), nullable && !to_text);
        Ok(Arc::new(match self.units {
            Some(units) => units.on(field),
            None => field,
        }))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let units = args.arg_fields.first().and_then(|field| IntervalUnits::of_field(field));
        match args.args.first() {
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(self.apply(array, units)?)),
            Some(ColumnarValue::Scalar(value)) => {
                let array = self.apply(&value.to_array()?, units)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
            None => Err(DataFusionError::Internal("a cast without argument".to_owned())),
        }
    }
}
