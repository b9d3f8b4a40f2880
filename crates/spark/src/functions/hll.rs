//! HyperLogLog sketches: built, joined, and asked for the number of distinct values, in Apache DataSketches' binary form.
//!
//! Spark stores sketches in the form that can be updated, of which there is a slot for every value to come; the library
//! writes the compact form. [`updatable`] makes the one of the other.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;
use datasketches::hash::value::raw_bytes;
use datasketches::hll::{HllSketch, HllType, HllUnion};

use super::udf::{BINARY, Call, Function, LONG, check_arity, function};
use crate::error::{Error, Result};
use crate::types::{canonical, sql_type_name};

pub(super) const FUNCTIONS: &[Function] =
    &[function(&["hll_sketch_estimate"], (1, 1), LONG, estimate), function(&["hll_union"], (2, 3), BINARY, union)];

/// The aggregates for DataFusion's registry.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let all = [HllAggregate { name: SKETCH }, HllAggregate { name: UNION }];
    all.into_iter().map(|aggregate| Arc::new(AggregateUDF::new_from_impl(aggregate))).collect()
}

const SKETCH: &str = "hll_sketch_agg";
const UNION: &str = "hll_union_agg";
/// The logarithm of the number of registers if none is given.
const LG_K: i32 = 12;
/// The bytes before the slots of a sketch that is a list, and of one that is a set.
const LIST_HEADER: usize = 8;
const SET_HEADER: usize = 12;
/// The flag of the compact form.
const COMPACT: u8 = 8;

fn mismatch(name: &str, found: &DataType) -> Error {
    Error::user(format!("`{name}` cannot take {}", sql_type_name(found)))
        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
}

fn new_sketch(name: &str, lg_k: i32) -> Result<HllSketch> {
    let invalid = || {
        Error::data(format!("`{name}` takes a `lgConfigK` from 4 to 21, not {lg_k}")).with_condition("HLL_INVALID_LG_K")
    };
    let lg_k = u8::try_from(lg_k).map_err(|_| invalid())?;
    HllSketch::new(lg_k, HllType::Hll8).map_err(|_| invalid())
}

fn read(name: &str, bytes: &[u8]) -> Result<HllSketch> {
    HllSketch::deserialize(bytes).map_err(|_| {
        Error::data(format!("`{name}` was given bytes that are no HLL sketch"))
            .with_condition("HLL_INVALID_INPUT_SKETCH_BUFFER")
            .with_help("Sketches are made by `hll_sketch_agg`.")
    })
}

/// The sketch in the form that can be updated.
fn updatable(sketch: &HllSketch) -> Vec<u8> {
    let compact = sketch.serialize();
    let (header, slots) = match compact.first() {
        Some(2) => (LIST_HEADER, 8),
        Some(3) => (SET_HEADER, 1_usize << compact[4]),
        // Registers have one form only.
        _ => return compact,
    };
    let mut out = compact[..header].to_vec();
    out[5] &= !COMPACT;
    out.resize(header + 4 * slots, 0);
    let coupons = compact[header..].chunks_exact(4);
    for (at, coupon) in coupons.enumerate() {
        let place = match header {
            LIST_HEADER => at,
            _ => free_slot(&out[header..], coupon, slots),
        };
        out[header + 4 * place..header + 4 * place + 4].copy_from_slice(coupon);
    }
    out
}

/// Where a value has its place in the hash table of a set.
fn free_slot(table: &[u8], coupon: &[u8], slots: usize) -> usize {
    let key = coupon.iter().rev().fold(0_usize, |key, byte| (key << 8) | usize::from(*byte));
    let stride = ((key & 0x03ff_ffff) >> slots.trailing_zeros()) | 1;
    let mut at = key & (slots - 1);
    while table[4 * at..4 * at + 4] != [0; 4] {
        at = (at + stride) & (slots - 1);
    }
    at
}

fn estimate(call: &Call<'_>) -> Result<ArrayRef> {
    const NAME: &str = "hll_sketch_estimate";
    let sketches = bytes(call, 0, NAME)?;
    let sketches = sketches.as_binary::<i32>().iter();
    let rounded = |sketch: &[u8]| Ok::<_, Error>(read(NAME, sketch)?.estimate().round() as i64);
    let estimates = sketches.map(|sketch| sketch.map(rounded).transpose()).collect::<Result<Int64Array>>()?;
    Ok(Arc::new(estimates))
}

fn union(call: &Call<'_>) -> Result<ArrayRef> {
    const NAME: &str = "hll_union";
    let (left, right) = (bytes(call, 0, NAME)?, bytes(call, 1, NAME)?);
    let allow_different = if call.len() > 2 { Some(call.cast(2, &DataType::Boolean)?) } else { None };
    let mut builder = BinaryBuilder::new();
    for row in 0..call.rows() {
        let allowed = match &allow_different {
            Some(allowed) if allowed.is_null(row) => None,
            Some(allowed) => Some(allowed.as_boolean().value(row)),
            None => Some(false),
        };
        let Some(allowed) = allowed.filter(|_| left.is_valid(row) && right.is_valid(row)) else {
            builder.append_null();
            continue;
        };
        let [left, right] = [&left, &right].map(|side| read(NAME, side.as_binary::<i32>().value(row)));
        let (left, right) = (left?, right?);
        let (one, other) = (left.lg_config_k(), right.lg_config_k());
        if one != other && !allowed {
            return Err(different(NAME, one, other));
        }
        let mut all = Union::with_lg_k(one.min(other))?;
        all.add(NAME, &left, true)?;
        all.add(NAME, &right, true)?;
        builder.append_value(all.bytes()?);
    }
    Ok(Arc::new(builder.finish()))
}

fn bytes(call: &Call<'_>, i: usize, name: &str) -> Result<ArrayRef> {
    let array = call.array(i)?;
    match canonical(array.data_type()) {
        DataType::Binary | DataType::Null => Ok(cast(&array, &DataType::Binary)?),
        other => Err(mismatch(name, &other)),
    }
}

/// Sketches put together, in as many registers as the first one has: fewer if one that is full has fewer.
#[derive(Debug, Default)]
struct Union(Option<HllUnion>);

impl Union {
    fn with_lg_k(lg_k: u8) -> Result<Self> {
        Ok(Self(Some(HllUnion::new(lg_k).map_err(|error| Error::internal(error.to_string()))?)))
    }

    fn add(&mut self, name: &str, sketch: &HllSketch, allow_different: bool) -> Result<()> {
        if self.0.is_none() {
            *self = Self::with_lg_k(sketch.lg_config_k())?;
        }
        let Some(union) = &mut self.0 else { return Ok(()) };
        let (before, lg_k) = (union.lg_config_k(), sketch.lg_config_k());
        if before != lg_k && !allow_different {
            return Err(different(name, before, lg_k));
        }
        union.update(sketch);
        Ok(())
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        Ok(updatable(&match &self.0 {
            Some(union) => union.to_sketch(HllType::Hll8),
            None => new_sketch(UNION, LG_K)?,
        }))
    }
}

fn different(name: &str, one: u8, other: u8) -> Error {
    Error::data(format!("`{name}` joins sketches whose `lgConfigK` is {one} and {other}"))
        .with_condition("HLL_UNION_DIFFERENT_LG_K")
        .with_help("Give true for `allowDifferentLgConfigK`.")
}

#[derive(Debug)]
struct HllAggregate {
    name: &'static str,
}

impl PartialEq for HllAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for HllAggregate {}

impl Hash for HllAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

impl AggregateUDFImpl for HllAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.name, (1, 2), types.len())?;
        let value = match (canonical(&types[0]), self.name) {
            (DataType::Null, UNION) => DataType::Binary,
            (DataType::Null, _) => DataType::Int32,
            (fits @ (DataType::Int32 | DataType::Int64 | DataType::Utf8), SKETCH) => fits,
            (DataType::Binary, _) => DataType::Binary,
            (other, name) => return Err(mismatch(name, &other).into()),
        };
        let option = if self.name == SKETCH { DataType::Int32 } else { DataType::Boolean };
        let fits = |found: &DataType| *found == DataType::Null || (found.is_integer() == option.is_integer());
        match types.get(1).map(canonical) {
            None => Ok(vec![value]),
            Some(found) if fits(&found) => Ok(vec![value, option]),
            Some(found) => Err(mismatch(self.name, &found).into()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Binary)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let option = match args.exprs.get(1) {
            None => None,
            Some(expr) => match expr.downcast_ref::<Literal>() {
                Some(literal) => Some(literal.value().clone()),
                None => {
                    return Err(Error::user(format!("the second argument of `{}` must be a constant", self.name))
                        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
                        .into());
                }
            },
        };
        if self.name == UNION {
            let allow_different = matches!(option, Some(ScalarValue::Boolean(Some(true))));
            return Ok(Box::new(Joined { all: Union::default(), allow_different }));
        }
        let lg_k = match option {
            Some(ScalarValue::Int32(Some(lg_k))) => lg_k,
            Some(_) => 0,
            None => LG_K,
        };
        Ok(Box::new(Built { sketch: new_sketch(SKETCH, lg_k)? }))
    }
}

/// A sketch of values.
#[derive(Debug)]
struct Built {
    sketch: HllSketch,
}

impl Accumulator for Built {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let Some(values) = values.first() else { return Ok(()) };
        match canonical(values.data_type()) {
            // Numbers are counted as 64 bits.
            DataType::Int32 => {
                for value in cast(values, &DataType::Int32)?.as_primitive::<Int32Type>().iter().flatten() {
                    self.sketch.update(i64::from(value));
                }
            }
            DataType::Int64 => {
                for value in cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().iter().flatten() {
                    self.sketch.update(value);
                }
            }
            // What is empty does not count.
            _ => {
                for value in cast(values, &DataType::Binary)?.as_binary::<i32>().iter().flatten() {
                    if !value.is_empty() {
                        self.sketch.update(raw_bytes::from_slice(value));
                    }
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let Some(states) = states.first() else { return Ok(()) };
        let mut all = Union::default();
        all.add(SKETCH, &self.sketch, false)?;
        for state in cast(states, &DataType::Binary)?.as_binary::<i32>().iter().flatten() {
            all.add(SKETCH, &read(SKETCH, state)?, false)?;
        }
        if let Some(union) = all.0 {
            self.sketch = union.to_sketch(HllType::Hll8);
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.sketch.serialize()))])
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        Ok(ScalarValue::Binary(Some(updatable(&self.sketch))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sketch.estimated_size()
    }
}

/// Sketches put together.
#[derive(Debug)]
struct Joined {
    all: Union,
    allow_different: bool,
}

impl Accumulator for Joined {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let Some(values) = values.first() else { return Ok(()) };
        for sketch in cast(values, &DataType::Binary)?.as_binary::<i32>().iter().flatten() {
            self.all.add(UNION, &read(UNION, sketch)?, self.allow_different)?;
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        self.update_batch(states)
    }

    /// NULL if there was no sketch: one without values would decide the number of registers.
    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(self.all.0.as_ref().map(|_| self.all.bytes()).transpose()?)])
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.all.bytes()?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.all.0.as_ref().map_or(0, HllUnion::estimated_size)
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    fn over(expression: &str, values: &str) -> String {
        format!("(SELECT {expression} FROM (VALUES {values}) t(x))")
    }

    const TWO: &str = "0201070C030002082F823B040AFF8004000000000000000000000000000000000000000000000000";
    const NONE: &str = "0201070C030400080000000000000000000000000000000000000000000000000000000000000000";

    /// The bytes are those that Spark 4.2 writes.
    #[tokio::test]
    async fn sketches_are_sparks() {
        check_all(&[
            (&over("hex(hll_sketch_agg(x))", "('a'), ('b'), (''), (NULL)"), TWO),
            (&over("hex(hll_sketch_agg(x))", "(CAST(NULL AS INT))"), NONE),
            (&over("hex(hll_union_agg(x))", "(CAST(NULL AS BYTEA))"), NONE),
            (&over("hll_sketch_estimate(hll_sketch_agg(x))", "(1), (1), (2)"), "2"),
            (&over("hll_sketch_estimate(hll_union(hll_sketch_agg(x), hll_sketch_agg(x + 1)))", "(1), (2)"), "3"),
            (&over("hll_sketch_estimate(hll_union(hll_sketch_agg(x, 10), hll_sketch_agg(x + 1), true))", "(1)"), "2"),
        ])
        .await;
    }

    #[tokio::test]
    async fn what_is_no_sketch_is_refused() {
        let cases = [
            (over("hll_sketch_agg(x)", "(1.5)"), "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
            (over("hll_sketch_agg(x, 3)", "(1)"), "HLL_INVALID_LG_K"),
            (over("hll_sketch_estimate(x)", "(X'00')"), "HLL_INVALID_INPUT_SKETCH_BUFFER"),
            (over("hll_union(hll_sketch_agg(x, 10), hll_sketch_agg(x))", "(1)"), "HLL_UNION_DIFFERENT_LG_K"),
        ];
        for (query, condition) in &cases {
            check(query, Err(condition), Err(condition)).await;
        }
    }
}
