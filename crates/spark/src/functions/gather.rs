//! Aggregates that need all values of a group: percentiles, `mode`, `max_by`, the moments of a distribution.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;

use super::form::Env;
use super::udf::check_arity;
use crate::error::{Error, Result};
use crate::types::{array, canonical};

/// Makes the result of the gathered columns and the constant arguments.
type Finish = fn(&[ArrayRef], &[Option<ScalarValue>], &DataType) -> Result<ScalarValue>;

/// Picks the row to keep of a batch of argument columns.
type Keep = fn(&[ArrayRef]) -> Result<Option<usize>>;

/// An aggregate over gathered values.
#[derive(Clone, Copy)]
struct Gathered {
    names: &'static [&'static str],
    arity: (usize, usize),
    /// How many arguments are columns; the others are constants.
    columns: usize,
    /// Whether the columns are cast to doubles.
    doubles: bool,
    returns: fn(&[DataType]) -> DataType,
    /// The row that is enough to go on with, if one is.
    keep: Option<Keep>,
    finish: Finish,
}

const GATHERED: &[Gathered] = &[
    of_doubles(&["percentile"], (2, 3), |types| per_rank(types, DataType::Float64), percentile),
    of_doubles(
        &["median"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| Ok(ScalarValue::Float64(interpolated(&sorted_doubles(&columns[0]), 0.5))),
    ),
    of_doubles(
        &["skewness"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| {
            Ok(ScalarValue::Float64(moments(&columns[0]).map(|[n, m2, m3, _]| n.sqrt() * m3 / m2.powf(1.5))))
        },
    ),
    of_doubles(
        &["kurtosis"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| Ok(ScalarValue::Float64(moments(&columns[0]).map(|[n, m2, _, m4]| n * m4 / (m2 * m2) - 3.0))),
    ),
    of_doubles(
        &["product"],
        (1, 1),
        |_| DataType::Float64,
        |columns, _, _| {
            let values = columns[0].as_primitive::<Float64Type>();
            Ok(ScalarValue::Float64(values.iter().flatten().reduce(|product, value| product * value)))
        },
    ),
    Gathered {
        names: &["listagg", "string_agg"],
        arity: (1, 2),
        columns: 1,
        doubles: false,
        returns: |types| types.first().map_or(DataType::Utf8, joined_type),
        keep: None,
        finish: joined,
    },
    Gathered {
        names: &["percentile_approx", "approx_percentile"],
        arity: (2, 3),
        columns: 1,
        doubles: false,
        returns: |types| per_rank(types, types.first().map_or(DataType::Null, canonical)),
        keep: None,
        finish: percentile_approx,
    },
    Gathered {
        names: &["mode"],
        arity: (1, 2),
        columns: 1,
        doubles: false,
        returns: |types| types.first().map_or(DataType::Null, canonical),
        keep: None,
        finish: mode,
    },
    by_other(&["max_by"], |columns| best(columns, true)),
    by_other(&["min_by"], |columns| best(columns, false)),
];

const fn of_doubles(
    names: &'static [&'static str],
    arity: (usize, usize),
    returns: fn(&[DataType]) -> DataType,
    finish: Finish,
) -> Gathered {
    Gathered { names, arity, columns: 1, doubles: true, returns, keep: None, finish }
}

/// The value of the row whose other value is best.
const fn by_other(names: &'static [&'static str], keep: fn(&[ArrayRef]) -> Result<Option<usize>>) -> Gathered {
    Gathered {
        names,
        arity: (2, 2),
        columns: 2,
        doubles: false,
        returns: |types| types.first().map_or(DataType::Null, canonical),
        keep: Some(keep),
        finish: |columns, _, result| match columns[0].len() {
            0 => Ok(ScalarValue::try_from(result)?),
            _ => Ok(ScalarValue::try_from_array(&columns[0], 0)?),
        },
    }
}

/// The aggregates for DataFusion's registry.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    GATHERED.iter().map(|gathered| udaf(*gathered)).collect()
}

fn udaf(gathered: Gathered) -> Arc<AggregateUDF> {
    let aliases = gathered.names.iter().skip(1).map(|name| (*name).to_owned()).collect();
    Arc::new(AggregateUDF::new_from_impl(GatheredFunction { gathered, aliases }))
}

/// The arguments of a call of one of these, cast as it needs them; others unchanged.
pub(super) fn cast(udaf: &AggregateUDF, args: Vec<Expr>, env: Env<'_>) -> Result<Vec<Expr>> {
    let Some(function) = udaf.inner().downcast_ref::<GatheredFunction>() else { return Ok(args) };
    let Gathered { columns, doubles, .. } = function.gathered;
    let cast = |(i, arg): (usize, Expr)| {
        let plain = env.type_of(&arg)?;
        let to = match &plain {
            _ if i < columns && doubles => DataType::Float64,
            // Ranks are doubles, however they are written.
            DataType::List(_) if i >= columns => array(DataType::Float64),
            DataType::Decimal128(..) if i >= columns => DataType::Float64,
            _ => plain,
        };
        env.cast(arg, &to)
    };
    args.into_iter().enumerate().map(cast).collect()
}

struct GatheredFunction {
    gathered: Gathered,
    aliases: Vec<String>,
}

impl std::fmt::Debug for GatheredFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gathered({})", self.gathered.names[0])
    }
}

/// A name has one aggregate: there is nothing else to compare.
impl PartialEq for GatheredFunction {
    fn eq(&self, other: &Self) -> bool {
        self.gathered.names == other.gathered.names
    }
}

impl Eq for GatheredFunction {}

impl Hash for GatheredFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.gathered.names.hash(state);
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

impl AggregateUDFImpl for GatheredFunction {
    fn name(&self) -> &str {
        self.gathered.names[0]
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.name(), self.gathered.arity, types.len())?;
        Ok(types.to_vec())
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok((self.gathered.returns)(types))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let name = self.name();
        let distinct = args.is_distinct && self.gathered.keep.is_none();
        if distinct && self.gathered.columns > 1 {
            return Err(Error::unsupported(format!("`{name}` with DISTINCT")).into());
        }
        let constant = |expr: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| {
            expr.downcast_ref::<Literal>().map(|literal| literal.value().clone())
        };
        Ok(Box::new(GatherAccumulator {
            gathered: self.gathered,
            distinct,
            columns: args
                .expr_fields
                .iter()
                .take(self.gathered.columns)
                .map(|f| (f.data_type().clone(), vec![]))
                .collect(),
            constants: args.exprs.iter().skip(self.gathered.columns).map(constant).collect(),
            result: args.return_field.data_type().clone(),
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let state = |(i, field): (usize, &FieldRef)| {
            let name = format_state_name(args.name, &format!("values{i}"));
            Arc::new(Field::new(name, array(field.data_type().clone()), true))
        };
        Ok(args.input_fields.iter().take(self.gathered.columns).enumerate().map(state).collect())
    }
}

#[derive(Debug)]
struct GatherAccumulator {
    gathered: Gathered,
    /// Whether equal values count once.
    distinct: bool,
    columns: Vec<(DataType, Vec<ArrayRef>)>,
    constants: Vec<Option<ScalarValue>>,
    result: DataType,
}

impl std::fmt::Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.names[0])
    }
}

impl GatherAccumulator {
    /// Each column in one piece.
    fn whole(&self) -> Result<Vec<ArrayRef>> {
        let whole = |(data_type, parts): &(DataType, Vec<ArrayRef>)| {
            if parts.is_empty() {
                return Ok(arrow::array::new_empty_array(data_type));
            }
            Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
        };
        self.columns.iter().map(whole).collect()
    }

    fn add(&mut self, values: &[ArrayRef]) -> Result<()> {
        for ((_, parts), values) in self.columns.iter_mut().zip(values) {
            parts.push(Arc::clone(values));
        }
        let Some(keep) = self.gathered.keep else { return Ok(()) };
        let whole = self.whole()?;
        let kept = UInt32Array::from(keep(&whole)?.map(|row| row as u32).into_iter().collect::<Vec<_>>());
        for ((_, parts), column) in self.columns.iter_mut().zip(&whole) {
            *parts = vec![take(column, &kept, None)?];
        }
        Ok(())
    }
}

impl Accumulator for GatherAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let count = self.columns.len();
        Ok(self.add(&values[..count.min(values.len())])?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let rows = states.first().map_or(0, |state| state.len());
        for row in 0..rows {
            let lists = states.iter().map(|state| state.as_list::<i32>());
            let values: Vec<_> = lists.filter(|list| list.is_valid(row)).map(|list| list.value(row)).collect();
            if values.len() == states.len() {
                self.add(&values)?;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let list = |column: ArrayRef| SingleRowListArrayBuilder::new(column).build_list_scalar();
        Ok(self.whole()?.into_iter().map(list).collect())
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let mut whole = self.whole()?;
        if self.distinct {
            whole = vec![first_of_equals(&whole[0])?];
        }
        (self.gathered.finish)(&whole, &self.constants, &self.result).map_err(DataFusionError::from)
    }

    fn size(&self) -> usize {
        let parts = self.columns.iter().flat_map(|(_, parts)| parts);
        size_of_val(self) + parts.map(|part| part.get_array_memory_size()).sum::<usize>()
    }
}

/// One result, or one for every rank of an array.
fn per_rank(types: &[DataType], one: DataType) -> DataType {
    match types.get(1).map(canonical) {
        Some(DataType::List(_)) => array(one),
        _ => one,
    }
}

fn ranks(constants: &[Option<ScalarValue>]) -> Result<(Vec<f64>, bool)> {
    let invalid = || {
        Error::user("the ranks of a percentile must be constants from 0 to 1")
            .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE")
    };
    let given = constants.first().and_then(Option::as_ref).ok_or_else(invalid)?;
    let (values, several) = match given {
        ScalarValue::List(list) => (list.value(0), true),
        one => (one.to_array()?, false),
    };
    let values = arrow::compute::cast(&values, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    if values.null_count() > 0 || values.values().iter().any(|rank| !(0.0..=1.0).contains(rank)) {
        return Err(invalid());
    }
    Ok((values.values().to_vec(), several))
}

fn sorted_doubles(column: &ArrayRef) -> Vec<f64> {
    let mut values: Vec<f64> = column.as_primitive::<Float64Type>().iter().flatten().collect();
    values.sort_by(f64::total_cmp);
    values
}

fn interpolated(sorted: &[f64], rank: f64) -> Option<f64> {
    let at = rank * (sorted.len().checked_sub(1)?) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    let high_share = at - at.floor();
    Some(if low == high { low } else { low * (1.0 - high_share) + high * high_share })
}

fn percentile(columns: &[ArrayRef], constants: &[Option<ScalarValue>], result: &DataType) -> Result<ScalarValue> {
    if constants.len() > 1 {
        return Err(Error::unsupported("`percentile` with frequencies"));
    }
    let (ranks, several) = ranks(constants)?;
    let sorted = sorted_doubles(&columns[0]);
    let values: Float64Array = ranks.iter().map(|rank| interpolated(&sorted, *rank)).collect();
    collected(Arc::new(values), several, sorted.is_empty(), result)
}

fn collected(values: ArrayRef, several: bool, empty: bool, result: &DataType) -> Result<ScalarValue> {
    match (several, empty) {
        (_, true) => Ok(ScalarValue::try_from(result)?),
        (true, _) => Ok(SingleRowListArrayBuilder::new(values).build_list_scalar()),
        (false, _) => Ok(ScalarValue::try_from_array(&values, 0)?),
    }
}

fn rows(column: &ArrayRef) -> Result<Rows> {
    let converter = RowConverter::new(vec![SortField::new(column.data_type().clone())])?;
    Ok(converter.convert_columns(std::slice::from_ref(column))?)
}

/// Every value once, where it comes first.
fn first_of_equals(column: &ArrayRef) -> Result<ArrayRef> {
    let keys = rows(column)?;
    let mut seen = std::collections::HashSet::new();
    let kept: UInt32Array = (0..column.len()).filter(|row| seen.insert(keys.row(*row))).map(|row| row as u32).collect();
    Ok(take(column, &kept, None)?)
}

/// The least value that so large a share of all is not above. Exact, which an approximation may be.
fn percentile_approx(
    columns: &[ArrayRef],
    constants: &[Option<ScalarValue>],
    result: &DataType,
) -> Result<ScalarValue> {
    let (ranks, several) = ranks(constants)?;
    let (column, keys) = (&columns[0], rows(&columns[0])?);
    let mut order: Vec<u32> = (0..column.len() as u32).filter(|row| column.is_valid(*row as usize)).collect();
    order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    if order.is_empty() {
        return Ok(ScalarValue::try_from(result)?);
    }
    let at = |rank: &f64| order[((rank * order.len() as f64).ceil() as usize).saturating_sub(1)];
    let picked = UInt32Array::from(ranks.iter().map(at).collect::<Vec<_>>());
    collected(take(column, &picked, None)?, several, false, result)
}

fn joined_type(of: &DataType) -> DataType {
    if canonical(of) == DataType::Binary { DataType::Binary } else { DataType::Utf8 }
}

/// The values one after the other, with a separator between them; NULL if there are none.
fn joined(columns: &[ArrayRef], constants: &[Option<ScalarValue>], result: &DataType) -> Result<ScalarValue> {
    let bytes = arrow::compute::cast(&arrow::compute::cast(&columns[0], result)?, &DataType::Binary)?;
    let values: Vec<&[u8]> = bytes.as_binary::<i32>().iter().flatten().collect();
    if values.is_empty() {
        return Ok(ScalarValue::try_from(result)?);
    }
    let separator = match constants.first() {
        None => Vec::new(),
        Some(Some(ScalarValue::Binary(separator))) => separator.clone().unwrap_or_default(),
        Some(Some(separator)) if separator.is_null() => Vec::new(),
        Some(Some(separator)) => separator.try_as_str().flatten().unwrap_or_default().as_bytes().to_vec(),
        Some(None) => {
            return Err(Error::user("the separator of `listagg` must be a constant")
                .with_condition("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT"));
        }
    };
    let all = values.join(separator.as_slice());
    Ok(match result {
        DataType::Binary => ScalarValue::Binary(Some(all)),
        _ => ScalarValue::Utf8(Some(String::from_utf8_lossy(&all).into_owned())),
    })
}

/// The value that is there most often; of several the first, or the least if the second argument is true.
fn mode(columns: &[ArrayRef], constants: &[Option<ScalarValue>], result: &DataType) -> Result<ScalarValue> {
    let least = matches!(constants.first(), Some(Some(ScalarValue::Boolean(Some(true)))));
    let (column, keys) = (&columns[0], rows(&columns[0])?);
    let mut counts: HashMap<_, (usize, usize)> = HashMap::new();
    for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
        counts.entry(keys.row(row)).or_insert((0, row)).0 += 1;
    }
    let most = counts.into_values().max_by(|(a, first), (b, second)| {
        let order = if least { keys.row(*first).cmp(&keys.row(*second)) } else { first.cmp(second) };
        a.cmp(b).then(order.reverse())
    });
    match most {
        Some((_, row)) => Ok(ScalarValue::try_from_array(column, row)?),
        None => Ok(ScalarValue::try_from(result)?),
    }
}

/// The row whose second value is the greatest or the least; of several the last, as in Spark.
fn best(columns: &[ArrayRef], greatest: bool) -> Result<Option<usize>> {
    let keys = rows(&columns[1])?;
    let valid = (0..columns[1].len()).filter(|row| columns[1].is_valid(*row));
    Ok(match greatest {
        true => valid.max_by(|a, b| keys.row(*a).cmp(&keys.row(*b))),
        false => valid.min_by(|a, b| keys.row(*a).cmp(&keys.row(*b)).then(b.cmp(a))),
    })
}

/// The count and the sums of the second to fourth powers of the distances from the mean, taken in one value after
/// the other by Spark's formula for parts, so that the last digits are the same.
fn moments(column: &ArrayRef) -> Option<[f64; 4]> {
    let (mut n, mut mean, mut m2, mut m3, mut m4) = (0.0_f64, 0.0, 0.0, 0.0, 0.0);
    for value in column.as_primitive::<Float64Type>().iter().flatten() {
        let before = n;
        n += 1.0;
        let delta: f64 = value - mean;
        let share = delta / n;
        mean += share;
        m4 += share * share * share * delta * before * (before * before - before + 1.0) + 6.0 * share * share * m2
            - 4.0 * share * m3;
        m3 += share * share * delta * before * (before - 1.0) - 3.0 * share * m2;
        m2 += delta * share * before;
    }
    // Values that are all alike have no shape.
    (m2 > 0.0).then_some([n, m2, m3, m4])
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check;

    #[tokio::test]
    async fn values() {
        for (aggregate, expected) in [
            ("percentile(x, 0.5)", "5.0"),
            ("percentile(x, array(0.25, 0.5))", "[0.0, 5.0]"),
            ("median(x)", "5.0"),
            ("percentile_approx(x, 0.5)", "0"),
            ("percentile_approx(x, array(0.5, 1.0), 100)", "[0, 10]"),
            ("approx_percentile(s, 0.6)", "b"),
            ("mode(s)", "a"),
            ("mode(x, true)", "0"),
            ("product(x + 1)", "121.0"),
            ("listagg(s, ',')", "a,a,z,b,c"),
            ("listagg(DISTINCT s)", "azbc"),
            ("percentile(DISTINCT x, 0.5)", "5.0"),
            ("max_by(s, x)", "c"),
            ("min_by(s, x)", "b"),
            ("skewness(x)", "0.0"),
            ("kurtosis(x)", "-2.0"),
        ] {
            let sql = format!(
                "(SELECT {aggregate} FROM (VALUES (0, 'a'), (10, 'a'), (NULL, 'z'), (0, 'b'), (10, 'c')) t(x, s))"
            );
            check(&sql, Ok(expected), Ok(expected)).await;
        }
    }

    #[tokio::test]
    async fn nothing_gives_null() {
        for aggregate in ["percentile(x, 0.5)", "percentile_approx(x, 0.5)", "mode(x)", "max_by(x, x)", "median(x)"] {
            let sql = format!("(SELECT {aggregate} FROM (VALUES (1)) t(x) WHERE x > 1)");
            check(&sql, Ok("NULL"), Ok("NULL")).await;
        }
    }
}
