//! Functions over VARIANT.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use parquet_variant::Variant;

use super::conditional::exactly;
use super::form::{Form, form};
use super::json::GET_JSON_OBJECT;
use super::udf::{Call, Function, Returns, check_arity, function};
use crate::error::{Error, Result};
use crate::types::{array, canonical, is_variant, parse_data_type, sql_type_name, variant};
use crate::variant::{
    Encoded, Malformed, Path, Shape, VariantColumn, can_build, can_extract, from_array, parse, to_array, values,
};

const PARSED: Returns = Returns::Types(|types| match canonical(&types[0]) {
    DataType::Utf8 | DataType::Null => Ok(variant()),
    other => Err(unexpected("parse_json", "a STRING", &other)),
});

const GOT: Returns = Returns::Values(|types, constants| {
    of_variant("variant_get", types, DataType::Null)?;
    wanted(constants)
});

pub(super) const FUNCTIONS: &[Function] = &[
    function(&["parse_json"], (1, 1), PARSED, |call| parsed(call, false)),
    function(&["try_parse_json"], (1, 1), PARSED, |call| parsed(call, true)),
    VARIANT_GET,
    function(&["try_variant_get"], (2, 3), GOT, |call| got(call, "try_variant_get", true)),
    function(
        &["is_variant_null"],
        (1, 1),
        Returns::Types(|types| of_variant("is_variant_null", types, DataType::Boolean)),
        |call| {
            let is_null = |variant: &Option<Variant<'_, '_>>| matches!(variant, Some(Variant::Null));
            let variants = variants(call)?;
            Ok(Arc::new(values(&variants)?.iter().map(is_null).map(Some).collect::<BooleanArray>()))
        },
    ),
    function(
        &["is_valid_variant"],
        (1, 1),
        Returns::Types(|types| of_variant("is_valid_variant", types, DataType::Boolean)),
        |call| {
            let variants = variants(call)?;
            let is_valid = |row: usize| variants.is_valid(row).then(|| values(&variants.slice(row, 1)).is_ok());
            Ok(Arc::new((0..variants.len()).map(is_valid).collect::<BooleanArray>()))
        },
    ),
    function(
        &["schema_of_variant"],
        (1, 1),
        Returns::Types(|types| of_variant("schema_of_variant", types, DataType::Utf8)),
        |call| {
            let shape = |variant: &Option<Variant<'_, '_>>| Some(Shape::of(variant.as_ref()?).to_string());
            let variants = variants(call)?;
            Ok(Arc::new(values(&variants)?.iter().map(shape).collect::<StringArray>()))
        },
    ),
    function(
        &["to_variant_object"],
        (1, 1),
        Returns::Types(|types| {
            let from = canonical(&types[0]);
            if from.is_nested() && can_build(&from, true) {
                return Ok(variant());
            }
            Err(Error::user(format!("`to_variant_object` cannot cast {} to VARIANT", sql_type_name(&from)))
                .with_condition("DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION")
                .with_help("Give it a STRUCT, an ARRAY, or a MAP whose keys are text."))
        }),
        |call| {
            let from = canonical(call.array(0)?.data_type());
            from_array(&call.cast(0, &from)?)
        },
    ),
    // What `variant_explode` makes rows of.
    function(
        &["variant_explode"],
        (1, 1),
        Returns::Types(|types| of_variant("variant_explode", types, array(DataType::Struct(entry())))),
        entries,
    ),
];

/// `value:path`: of a VARIANT what is there, of text what `get_json_object` finds in it.
pub(super) const FORMS: &[Form] = &[form(&["semi_structured_extract"], (2, 2), |args, env| {
    let [value, path] = exactly(args)?;
    let is_text = !is_variant(&env.type_of(&value)?);
    Ok(if is_text { GET_JSON_OBJECT } else { VARIANT_GET }.call(vec![value, path]))
})];

const VARIANT_GET: Function = function(&["variant_get"], (2, 3), GOT, |call| got(call, "variant_get", false));

/// The result type, if the first argument is a VARIANT.
fn of_variant(function: &str, types: &[DataType], result: DataType) -> Result<DataType> {
    match &types[0] {
        given if is_variant(given) || given == &DataType::Null => Ok(result),
        other => Err(unexpected(function, "a VARIANT", other)),
    }
}

fn unexpected(function: &str, wanted: &str, given: &DataType) -> Error {
    Error::user(format!("the first argument of `{function}` must be {wanted}, not {}", sql_type_name(given)))
        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
}

fn variants(call: &Call<'_>) -> Result<ArrayRef> {
    call.cast(0, &variant())
}

fn parsed(call: &Call<'_>, lenient: bool) -> Result<ArrayRef> {
    let mut column = VariantColumn::default();
    for text in &call.text(0)? {
        let parsed = match text.map(parse) {
            Some(Err(why)) if !lenient => return Err(malformed(text.unwrap_or_default(), why)),
            Some(parsed) => parsed.ok(),
            None => None,
        };
        column.push(parsed.as_ref());
    }
    Ok(column.finish())
}

fn malformed(text: &str, why: Malformed) -> Error {
    let help = "Use `try_parse_json` to get NULL instead.";
    match why {
        Malformed::Syntax => Error::data(format!("`{text}` is not JSON"))
            .with_condition("MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION"),
        Malformed::DuplicateKey(key) => {
            Error::data(format!("an object has the key `{key}` twice, which VARIANT cannot"))
                .with_condition("VARIANT_DUPLICATE_KEY")
        }
        Malformed::TooLarge => {
            Error::data("a VARIANT of more than 128 MiB cannot be built").with_condition("VARIANT_SIZE_LIMIT")
        }
    }
    .with_help(help)
}

/// The type that `variant_get` is to give.
fn wanted(constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some(given) = constants.get(2) else { return Ok(variant()) };
    let text = given.and_then(|given| given.try_as_str().flatten()).ok_or_else(|| {
        Error::user("the type that `variant_get` is to give must be a constant text")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT")
    })?;
    let wanted = parse_data_type(text)?;
    if can_extract(&wanted) {
        return Ok(wanted);
    }
    Err(Error::user(format!("a VARIANT cannot be cast to {}", sql_type_name(&wanted)))
        .with_condition("DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION"))
}

fn got(call: &Call<'_>, function: &str, lenient: bool) -> Result<ArrayRef> {
    let (variants, paths) = (variants(call)?, call.text(1)?);
    let variants = values(&variants)?;
    let mut last: Option<(&str, Path)> = None;
    let mut found = Vec::with_capacity(variants.len());
    for (variant, path) in variants.iter().zip(&paths) {
        let (Some(variant), Some(text)) = (variant, path) else {
            found.push(None);
            continue;
        };
        let path = match last.take() {
            Some((known, path)) if known == text => path,
            _ => Path::parse(text, function)?,
        };
        found.push(path.follow(variant));
        last = Some((text, path));
    }
    to_array(&found, call.result(), lenient, call.tz())
}

/// One of the rows that a variant explodes to.
fn entry() -> Fields {
    Fields::from(vec![
        Field::new("pos", DataType::Int32, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", variant(), false),
    ])
}

/// The elements of a list with their positions, the fields of an object with their names, nothing of anything else.
fn entries(call: &Call<'_>) -> Result<ArrayRef> {
    let variants = variants(call)?;
    let (mut positions, mut keys, mut column, mut lengths) =
        (Vec::new(), Vec::new(), VariantColumn::default(), Vec::new());
    for variant in values(&variants)? {
        let before = keys.len();
        match variant {
            Some(Variant::List(list)) => {
                for value in list.iter() {
                    keys.push(None);
                    column.push(Some(&Encoded::of(&value)?));
                }
            }
            Some(Variant::Object(object)) => {
                for (name, value) in object.iter() {
                    keys.push(Some(name.to_owned()));
                    column.push(Some(&Encoded::of(&value)?));
                }
            }
            _ => {}
        }
        positions.extend((0..).take(keys.len() - before));
        lengths.push(keys.len() - before);
    }
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(positions)), Arc::new(StringArray::from(keys)), column.finish()];
    let rows = StructArray::try_new(entry(), columns, None)?;
    let item = Arc::new(Field::new_list_field(rows.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(rows), None)?))
}

/// The aggregates for DataFusion's registry.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    vec![Arc::new(AggregateUDF::new_from_impl(SchemaOfVariants))]
}

/// `schema_of_variant_agg`: the type that holds all variants of a group.
#[derive(Debug, PartialEq, Eq)]
struct SchemaOfVariants;

impl Hash for SchemaOfVariants {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

impl AggregateUDFImpl for SchemaOfVariants {
    fn name(&self) -> &'static str {
        "schema_of_variant_agg"
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.name(), (1, 1), types.len())?;
        Ok(vec![of_variant(self.name(), types, variant())?])
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(Shapes(Shape::default())))
    }
}

/// The shape of the variants so far; as a state its JSON.
#[derive(Debug)]
struct Shapes(Shape);

impl Shapes {
    fn add(&mut self, shape: Shape) {
        self.0 = std::mem::take(&mut self.0).merge(shape);
    }
}

impl Accumulator for Shapes {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> DataFusionResult<()> {
        for variant in values(&columns[0])?.iter().flatten() {
            self.add(Shape::of(variant));
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        for state in states[0].as_string::<i32>().iter().flatten() {
            self.add(serde_json::from_str(state).map_err(|error| Error::internal(error.to_string()))?);
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let text = serde_json::to_string(&self.0).map_err(|error| Error::internal(error.to_string()))?;
        Ok(vec![text.into()])
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        Ok(self.0.to_string().into())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
