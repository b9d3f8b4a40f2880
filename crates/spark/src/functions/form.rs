//! Functions that stand for an expression of another form: `nvl(a, b)`, `array(1, 'x')`, `trim(5)`.
//!
//! The registry holds a function of their name, so that any planner finds it and learns its type; the
//! analyzer puts the expression in its place before anything is run.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Column, DFSchema, Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};

use super::udf::{ANY, check_arity};
use crate::cast::{CastMode, spark_cast};
use crate::coercion::cast_to_common;
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::types::canonical;

/// What an expansion knows besides the arguments.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a> {
    pub(crate) schema: &'a DFSchema,
    pub(crate) conf: &'a SparkConf,
    /// Only the type is asked for: arguments that are no plain constants are columns.
    pub(crate) typing: bool,
}

impl Env<'_> {
    /// The type of an expression as Spark has it.
    pub(crate) fn type_of(&self, expr: &Expr) -> Result<DataType> {
        Ok(canonical(&expr.get_type(self.schema)?))
    }

    /// An implicit cast.
    pub(crate) fn cast(&self, expr: Expr, to: &DataType) -> Result<Expr> {
        let from = expr.get_type(self.schema)?;
        if &from == to {
            return Ok(expr);
        }
        spark_cast(expr, &from, to, CastMode::of(self.conf.ansi), self.conf)
    }

    /// All expressions with the type they meet at.
    pub(crate) fn common(&self, exprs: Vec<Expr>) -> Result<Vec<Expr>> {
        cast_to_common(exprs, self.schema, self.conf)
    }
}

/// What an argument of a wrapped function must be.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Want {
    Text,
    Int,
    Long,
    Double,
    /// Bytes; text is its UTF-8.
    Binary,
    /// As it is.
    Any,
}

impl Want {
    fn data_type(self) -> Option<DataType> {
        Some(match self {
            Self::Text => DataType::Utf8,
            Self::Int => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Binary => DataType::Binary,
            Self::Any => return None,
        })
    }
}

/// How a form is written out.
#[derive(Clone, Copy)]
pub(crate) enum Expand {
    /// By code.
    By(fn(Vec<Expr>, Env<'_>) -> Result<Expr>),
    /// As a call of another function with its arguments cast (the last kind is for all that follow),
    /// and the result cast back.
    Wraps(fn() -> Arc<ScalarUDF>, &'static [Want], Option<fn() -> DataType>),
    /// Not at all: what it is and what to do instead.
    Unsupported(&'static str),
}

/// A function that stands for an expression.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) names: &'static [&'static str],
    pub(crate) arity: (usize, usize),
    pub(crate) expand: Expand,
    /// Whether two evaluations give two values.
    pub(crate) volatile: bool,
}

/// A form that is written out by code.
pub(crate) const fn form(
    names: &'static [&'static str],
    arity: (usize, usize),
    expand: fn(Vec<Expr>, Env<'_>) -> Result<Expr>,
) -> Form {
    Form { names, arity, expand: Expand::By(expand), volatile: false }
}

/// A function of DataFusion with Spark's implicit casts.
pub(crate) const fn wraps(
    names: &'static [&'static str],
    udf: fn() -> Arc<ScalarUDF>,
    wants: &'static [Want],
    result: Option<fn() -> DataType>,
) -> Form {
    Form { names, arity: (0, ANY), expand: Expand::Wraps(udf, wants, result), volatile: false }
}

/// A function that is known but cannot be run.
pub(crate) const fn unsupported(names: &'static [&'static str], help: &'static str) -> Form {
    Form { names, arity: (0, ANY), expand: Expand::Unsupported(help), volatile: false }
}

impl Form {
    /// The form as one whose value differs each time it is evaluated.
    pub(crate) const fn volatile(self) -> Self {
        Self { volatile: true, ..self }
    }

    /// The expression it stands for.
    pub(crate) fn expand(&self, args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
        check_arity(self.names[0], self.arity, args.len())?;
        match self.expand {
            Expand::By(expand) => expand(args, env),
            Expand::Wraps(udf, wants, result) => {
                let cast = |(i, arg): (usize, Expr)| match wants.get(i).or(wants.last()).and_then(|w| w.data_type()) {
                    Some(to) => env.cast(arg, &to),
                    None => Ok(arg),
                };
                let args = args.into_iter().enumerate().map(cast).collect::<Result<_>>()?;
                let call = Expr::ScalarFunction(ScalarFunction::new_udf(udf(), args));
                let to = match result {
                    Some(result) => result(),
                    None => env.type_of(&call)?,
                };
                env.cast(call, &to)
            }
            Expand::Unsupported(help) => {
                let error = Error::unsupported(format!("the function `{}`", self.names[0]));
                Err(if help.is_empty() { error } else { error.with_help(help) })
            }
        }
    }

    /// The function for DataFusion's registry.
    pub(crate) fn udf(self, conf: &Arc<SparkConf>) -> Arc<ScalarUDF> {
        let aliases = self.names.iter().skip(1).map(|name| (*name).to_owned()).collect();
        Arc::new(ScalarUDF::new_from_impl(FormFunction { form: self, aliases, conf: Arc::clone(conf) }))
    }
}

/// The expression a call stands for; any other call unchanged.
pub(crate) fn expand(function: ScalarFunction, schema: &DFSchema, conf: &SparkConf) -> Result<Expr> {
    match function.func.inner().downcast_ref::<FormFunction>() {
        Some(form) => form.form.expand(function.args, Env { schema, conf, typing: false }),
        None => Ok(Expr::ScalarFunction(function)),
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));
static VOLATILE: LazyLock<Signature> = LazyLock::new(|| {
    let types = vec![TypeSignature::Nullary, TypeSignature::UserDefined];
    Signature::one_of(types, Volatility::Volatile)
});

struct FormFunction {
    form: Form,
    aliases: Vec<String>,
    conf: Arc<SparkConf>,
}

impl std::fmt::Debug for FormFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Form({})", self.form.names[0])
    }
}

/// A name has one form: there is nothing else to compare.
impl PartialEq for FormFunction {
    fn eq(&self, other: &Self) -> bool {
        self.form.names == other.form.names
    }
}

impl Eq for FormFunction {}

impl Hash for FormFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.form.names.hash(state);
    }
}

impl ScalarUDFImpl for FormFunction {
    fn name(&self) -> &str {
        self.form.names[0]
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        if self.form.volatile { &VOLATILE } else { &SIGNATURE }
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.form.names[0], self.form.arity, types.len())?;
        Ok(types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Err(DataFusionError::Internal(format!("the type of `{}` depends on its arguments", self.name())))
    }

    /// Writes the form out over columns of the arguments' types, and takes the type of that.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let name = |i: usize| format!("argument {i}");
        let columns = args.arg_fields.iter().enumerate();
        let fields = columns.map(|(i, field)| (None, Arc::new(field.as_ref().clone().with_name(name(i))))).collect();
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        let placeholder = |(i, value): (usize, &Option<&ScalarValue>)| match value {
            Some(value) => Expr::Literal((*value).clone(), None),
            None => Expr::Column(Column::from_name(name(i))),
        };
        let placeholders = args.scalar_arguments.iter().enumerate().map(placeholder).collect();
        let expr = self.form.expand(placeholders, Env { schema: &schema, conf: &self.conf, typing: true })?;
        let (_, field) = expr.to_field(&schema)?;
        Ok(Arc::new(field.as_ref().clone().with_name(self.name())))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Err(DataFusionError::Internal(format!("`{}` was not replaced by what it stands for", self.name())))
    }
}
