//! Random values: a stream per call that a seed determines, as in a Spark task of the same seed.
//!
//! A stream goes on from batch to batch; a plan in one partition gives the rows that Spark gives in one partition.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
    lit,
};
use parking_lot::Mutex;

use super::form::{Env, Form, form};
use super::poisson::Poisson;
use crate::cast::{CastMode, spark_cast};
use crate::coercion::binary_op;
use crate::error::{Error, Result};
use crate::types::{canonical, sql_type_name};

pub(super) const FORMS: &[Form] = &[
    form(&["rand", "random"], (0, 1), |args, _| Ok(seeded("rand", args, Draw::Uniform))).volatile(),
    form(&["randn"], (0, 1), |args, _| Ok(seeded("randn", args, Draw::Normal))).volatile(),
    form(&["uuid"], (0, 1), |args, _| Ok(seeded("uuid", args, Draw::Uuid))).volatile(),
    form(&["randstr"], (1, 2), |args, _| Ok(seeded("randstr", args, Draw::Letters))).volatile(),
    form(&["shuffle"], (1, 2), |args, env| match args.first().map(|list| env.type_of(list)).transpose()? {
        Some(DataType::List(_)) => Ok(seeded("shuffle", args, Draw::Order)),
        other => Err(Error::user(format!(
            "`shuffle` takes an array, not {}",
            sql_type_name(&other.unwrap_or(DataType::Null))
        ))
        .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
    })
    .volatile(),
    form(&["uniform"], (2, 3), uniform).volatile(),
];

/// `uniform(min, max[, seed])`: of the wider type of the two.
fn uniform(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let constant = |expr: &Expr| matches!(expr, Expr::Literal(..) | Expr::Negative(_));
    if !args.iter().all(constant) {
        return Err(Error::user("the arguments of `uniform` must be constants")
            .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
    }
    let mut args = args.into_iter();
    let bounds = env.common(args.by_ref().take(2).collect())?;
    let Some(to) = bounds.first().map(|bound| env.type_of(bound)).transpose()? else {
        return Err(Error::internal("`uniform` without bounds"));
    };
    let mut bounds = bounds.into_iter().map(|bound| env.cast(bound, &DataType::Float64));
    let (Some(least), Some(most)) = (bounds.next().transpose()?, bounds.next().transpose()?) else {
        return Err(Error::internal("`uniform` without bounds"));
    };
    let op = |a, op, b| binary_op(a, op, b, env.schema, env.conf);
    let share = seeded("rand", args.collect(), Draw::Uniform);
    let width = op(most, Operator::Minus, least.clone())?;
    let value = op(least, Operator::Plus, op(width, Operator::Multiply, share)?)?;
    spark_cast(value, &DataType::Float64, &to, CastMode::Lenient, env.conf)
}

/// How often each row is drawn with replacement, if that is `mean` times on average.
///
/// # Errors
/// `Unsupported` for means that Spark draws numbers for in another way.
pub(crate) fn times_drawn(mean: f64, seed: i64) -> Result<Expr> {
    if mean >= Poisson::MAX_MEAN {
        return Err(Error::unsupported(format!("a sample that has every row {mean} times on average"))
            .with_help(format!("The fraction must be below {}.", Poisson::MAX_MEAN)));
    }
    Ok(seeded("times_drawn", vec![lit(mean), lit(seed)], Draw::Times))
}

fn seeded(name: &'static str, args: Vec<Expr>, draw: Draw) -> Expr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let function = Seeded {
        name,
        draw,
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        signature: Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::UserDefined], Volatility::Volatile),
        stream: Mutex::new(None),
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(function)), args))
}

/// What is drawn from the stream for each row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Draw {
    /// From 0 to 1, without 1.
    Uniform,
    /// Of mean 0 and deviation 1.
    Normal,
    Uuid,
    /// A text of letters and digits; its length is the first argument.
    Letters,
    /// The elements of the first argument in another order.
    Order,
    /// How often a row is drawn with replacement; how often on average is the first argument.
    Times,
}

impl Draw {
    /// Where the seed stands among the arguments.
    fn seed_position(self) -> usize {
        usize::from(matches!(self, Self::Letters | Self::Order | Self::Times))
    }
}

#[derive(Debug)]
enum Stream {
    XorShift(XorShift),
    Mersenne(Box<Mersenne>),
    Poisson(Poisson),
}

struct Seeded {
    name: &'static str,
    draw: Draw,
    /// Tells one call from another: two calls never share a stream.
    id: u64,
    signature: Signature,
    stream: Mutex<Option<Stream>>,
}

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seeded({})", self.name)
    }
}

impl PartialEq for Seeded {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Seeded {}

impl Hash for Seeded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl ScalarUDFImpl for Seeded {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(match self.draw {
            Draw::Uniform | Draw::Normal => DataType::Float64,
            Draw::Uuid | Draw::Letters => DataType::Utf8,
            Draw::Times => DataType::Int64,
            Draw::Order => types.first().map_or(DataType::Null, canonical),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let rows = args.number_rows;
        let seed = match args.args.get(self.draw.seed_position()) {
            Some(ColumnarValue::Scalar(seed)) => Some(seed.clone()),
            Some(ColumnarValue::Array(seeds)) if !seeds.is_empty() => Some(ScalarValue::try_from_array(seeds, 0)?),
            _ => None,
        };
        let mut stream = self.stream.lock();
        let stream = match stream.as_mut() {
            Some(stream) => stream,
            None => stream.insert(self.start(seed, args.args.first())?),
        };
        let result = self.draw(stream, &args.args, rows).map_err(DataFusionError::from)?;
        Ok(ColumnarValue::Array(result))
    }
}

impl Seeded {
    /// The stream of a seed, or of any seed if none is given; that of NULL is that of 0.
    fn start(&self, seed: Option<ScalarValue>, first: Option<&ColumnarValue>) -> DataFusionResult<Stream> {
        let seed = match seed {
            None => uuid::Uuid::new_v4().as_u64_pair().0 as i64,
            Some(seed) => match seed.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(Some(seed)) => seed,
                _ => 0,
            },
        };
        Ok(match self.draw {
            Draw::Uuid | Draw::Order => Stream::Mersenne(Box::new(Mersenne::new(seed))),
            Draw::Times => match first {
                Some(ColumnarValue::Scalar(ScalarValue::Float64(Some(mean)))) => {
                    Stream::Poisson(Poisson::new(*mean, seed))
                }
                _ => return Err(DataFusionError::Internal(format!("`{}` without a mean", self.name))),
            },
            _ => Stream::XorShift(XorShift::new(seed)),
        })
    }

    fn draw(&self, stream: &mut Stream, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
        let first = || match args.first() {
            Some(value) => Ok(value.to_array(rows)?),
            None => Err(Error::internal(format!("`{}` without argument", self.name))),
        };
        Ok(match (self.draw, stream) {
            (Draw::Uniform, Stream::XorShift(stream)) => {
                Arc::new(Float64Array::from_iter_values((0..rows).map(|_| stream.double())))
            }
            (Draw::Normal, Stream::XorShift(stream)) => {
                Arc::new(Float64Array::from_iter_values((0..rows).map(|_| stream.normal())))
            }
            (Draw::Letters, Stream::XorShift(stream)) => {
                let lengths = arrow::compute::cast(&first()?, &DataType::Int64)?;
                let lengths = lengths.as_primitive::<Int64Type>();
                if let Some(length) = lengths.iter().flatten().find(|length| *length < 0) {
                    return Err(Error::user(format!("the length {length} of `randstr` is negative"))
                        .with_condition("INVALID_PARAMETER_VALUE.LENGTH"));
                }
                Arc::new(
                    lengths.iter().map(|length| length.map(|length| stream.letters(length))).collect::<StringArray>(),
                )
            }
            (Draw::Uuid, Stream::Mersenne(stream)) => {
                Arc::new((0..rows).map(|_| Some(stream.uuid().to_string())).collect::<StringArray>())
            }
            (Draw::Order, Stream::Mersenne(stream)) => shuffled(&first()?, stream)?,
            (Draw::Times, Stream::Poisson(stream)) => {
                Arc::new(Int64Array::from_iter_values((0..rows).map(|_| stream.count())))
            }
            _ => return Err(Error::internal(format!("`{}` draws from the wrong stream", self.name))),
        })
    }
}

fn shuffled(lists: &ArrayRef, stream: &mut Mersenne) -> Result<ArrayRef> {
    let lists = arrow::compute::cast(lists, &canonical(lists.data_type()))?;
    let lists = lists.as_list::<i32>();
    let mut order = Vec::with_capacity(lists.values().len());
    let mut lengths = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let length = if lists.is_valid(row) { lists.value_length(row) as usize } else { 0 };
        let start = lists.value_offsets()[row] as u32;
        order.extend(stream.order(length).into_iter().map(|at| start + at));
        lengths.push(length);
    }
    let values = take(lists.values(), &UInt32Array::from(order), None)?;
    let DataType::List(field) = lists.data_type() else { return Err(Error::internal("a list that is none")) };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(arrow::array::ListArray::try_new(Arc::clone(field), offsets, values, lists.nulls().cloned())?))
}

/// Marsaglia's generator on 64 bits, seeded by a hash of the seed.
#[derive(Debug)]
pub(crate) struct XorShift {
    state: u64,
    /// Normal values come in pairs.
    second: Option<f64>,
}

impl XorShift {
    /// The stream of a seed.
    pub(crate) fn new(seed: i64) -> Self {
        let bytes = seed.to_be_bytes();
        let low = murmur3(&bytes, 0x3c07_4a61);
        let high = murmur3(&bytes, low);
        Self { state: u64::from(high) << 32 | u64::from(low), second: None }
    }

    fn bits(&mut self, count: u32) -> u64 {
        self.state ^= self.state << 21;
        self.state ^= self.state >> 35;
        self.state ^= self.state << 4;
        self.state & ((1 << count) - 1)
    }

    /// From 0 to 1, without 1.
    pub(crate) fn double(&mut self) -> f64 {
        let bits = (self.bits(26) << 27) + self.bits(27);
        bits as f64 / (1_u64 << 53) as f64
    }

    /// By Marsaglia's polar method.
    fn normal(&mut self) -> f64 {
        if let Some(second) = self.second.take() {
            return second;
        }
        loop {
            let (x, y) = (2.0 * self.double() - 1.0, 2.0 * self.double() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * super::exponential::log(square) / square).sqrt();
                self.second = Some(y * factor);
                return x * factor;
            }
        }
    }

    fn letters(&mut self, length: i64) -> String {
        const POOL: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        (0..length).map(|_| char::from(POOL[(self.bits(32) as u32 as i32 % 62).unsigned_abs() as usize])).collect()
    }
}

/// Murmur3 of whole words.
fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    let (words, _) = bytes.as_chunks::<4>();
    let hash = words.iter().fold(seed, |hash, word| super::encoding::mix(hash, u32::from_le_bytes(*word)));
    super::encoding::finish(hash, bytes.len() as u32)
}

/// MT19937.
#[derive(Debug)]
struct Mersenne {
    state: [u32; Self::SIZE],
    at: usize,
}

impl Mersenne {
    const SIZE: usize = 624;

    /// Seeded by the two halves of a number.
    fn new(seed: i64) -> Self {
        let key = [(seed as u64 >> 32) as u32, seed as u32];
        let mut state = [19_650_218_u32; Self::SIZE];
        for i in 1..Self::SIZE {
            state[i] = 1_812_433_253_u32.wrapping_mul(state[i - 1] ^ (state[i - 1] >> 30)).wrapping_add(i as u32);
        }
        let mut i = 1;
        let mut step = |state: &mut [u32; Self::SIZE], factor: u32, add: &dyn Fn(usize) -> u32| {
            let mixed = (state[i - 1] ^ (state[i - 1] >> 30)).wrapping_mul(factor);
            state[i] = (state[i] ^ mixed).wrapping_add(add(i));
            i += 1;
            if i == Self::SIZE {
                state[0] = state[Self::SIZE - 1];
                i = 1;
            }
        };
        for k in 0..Self::SIZE {
            step(&mut state, 1_664_525, &|_| key[k % 2].wrapping_add((k % 2) as u32));
        }
        for _ in 1..Self::SIZE {
            step(&mut state, 1_566_083_941, &|i| (i as u32).wrapping_neg());
        }
        state[0] = 0x8000_0000;
        Self { state, at: Self::SIZE }
    }

    fn word(&mut self) -> u32 {
        if self.at == Self::SIZE {
            for i in 0..Self::SIZE {
                let bits = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % Self::SIZE] & 0x7fff_ffff);
                let odd = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % Self::SIZE] ^ (bits >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn long(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u32) -> u32 {
        if bound.is_power_of_two() {
            return ((u64::from(bound) * u64::from(self.word() >> 1)) >> 31) as u32;
        }
        loop {
            let bits = self.word() >> 1;
            let value = bits % bound;
            if bits - value <= (i32::MAX as u32) - (bound - 1) {
                return value;
            }
        }
    }

    fn uuid(&mut self) -> uuid::Uuid {
        let high = self.long() & 0xffff_ffff_ffff_0fff | 0x4000;
        let low = (self.long() | 0x8000_0000_0000_0000) & 0xbfff_ffff_ffff_ffff;
        uuid::Uuid::from_u64_pair(high, low)
    }

    /// The positions of so many elements in random order.
    fn order(&mut self, length: usize) -> Vec<u32> {
        let mut order = Vec::with_capacity(length);
        for i in 0..length as u32 {
            let at = self.below(i + 1);
            order.push(i);
            if at != i {
                order.swap(at as usize, i as usize);
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    /// The values that Apache Spark gives for these seeds in the first partition.
    #[tokio::test]
    async fn streams_are_sparks() {
        check_all(&[
            ("round(rand(42), 12)", "0.619189370225"),
            ("round(randn(42), 12)", "2.384479054241"),
            ("uniform(5, 105, 3)", "30"),
            ("typeof(uniform(5, 105L, 3))", "bigint"),
            ("randstr(16, 3)", "nurJIpH4cmmMnsCG"),
            ("uuid(123)", "4c99192d-23d6-4d88-b814-a634398120f0"),
            ("shuffle(array(1, 20, 3, 5), 123)", "[5, 1, 20, 3]"),
            ("length(uuid())", "36"),
            ("rand(7) = rand(7)", "true"),
            ("rand() BETWEEN 0 AND 1", "true"),
        ])
        .await;
        let negative = Err("INVALID_PARAMETER_VALUE.LENGTH");
        check("randstr(-1, 0)", negative, negative).await;
    }

    #[tokio::test]
    async fn streams_go_on_from_row_to_row() {
        check_all(&[
            ("(SELECT count(DISTINCT rand(1)) FROM range(20000))", "20000"),
            ("(SELECT array_join(collect_list(CAST(uniform(5, 105, 3) AS STRING)), ' ') FROM range(4))", "30 71 99 77"),
        ])
        .await;
    }
}
