//! Aggregates that need all values of a group: percentiles, `mode`, `max_by`, the moments of a distribution.

mod choice;
mod histogram;
mod percentile;
mod shape;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{SortOptions, concat, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility, lit};
use datafusion::physical_expr::expressions::Literal;

use super::form::Env;
use super::udf::check_arity;
use crate::error::{Error, Result};
use crate::types::array;

/// Makes the result of the gathered columns and the constant arguments.
type Finish = fn(&[ArrayRef], &[Option<ScalarValue>], &DataType) -> Result<ScalarValue>;

/// Picks the rows to keep of the columns so far.
type Keep = fn(&[ArrayRef], &[Option<ScalarValue>]) -> Result<Vec<usize>>;

/// An aggregate over gathered values.
#[derive(Clone, Copy)]
struct Gathered {
    names: &'static [&'static str],
    arity: (usize, usize),
    /// Which arguments are columns, ascending; the others are constants.
    columns: &'static [usize],
    /// Whether the columns are cast to doubles.
    doubles: bool,
    returns: fn(&[DataType]) -> DataType,
    /// The rows that are enough to go on with, if not all are needed.
    keep: Option<Keep>,
    finish: Finish,
}

const GATHERED: &[&[Gathered]] = &[percentile::AGGREGATES, shape::AGGREGATES, choice::AGGREGATES];

const fn of_doubles(
    names: &'static [&'static str],
    arity: (usize, usize),
    returns: fn(&[DataType]) -> DataType,
    finish: Finish,
) -> Gathered {
    Gathered { names, arity, columns: &[0], doubles: true, returns, keep: None, finish }
}

/// An aggregate of one column that is not cast.
const fn of_any(
    names: &'static [&'static str],
    arity: (usize, usize),
    returns: fn(&[DataType]) -> DataType,
    finish: Finish,
) -> Gathered {
    Gathered { names, arity, columns: &[0], doubles: false, returns, keep: None, finish }
}

/// The aggregates for DataFusion's registry.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    GATHERED.iter().copied().flatten().map(|gathered| udaf(*gathered)).collect()
}

/// `collect_list` of rows in a given order.
pub(crate) fn ordered_collect_list() -> Arc<AggregateUDF> {
    udaf(choice::COLLECT_LIST)
}

/// What takes the place of `max` or `min` for values of `data_type`, if they have values inside.
pub(super) fn extreme(aggregate: &AggregateUDF, data_type: &DataType) -> Option<Arc<AggregateUDF>> {
    if !data_type.is_nested() || is_gathered(aggregate) {
        return None;
    }
    choice::EXTREMES.iter().find(|extreme| extreme.names[0] == aggregate.name()).map(|extreme| udaf(*extreme))
}

/// Whether the aggregate is one of these.
pub(super) fn is_gathered(aggregate: &AggregateUDF) -> bool {
    aggregate.inner().is::<GatheredFunction>()
}

fn udaf(gathered: Gathered) -> Arc<AggregateUDF> {
    let aliases = gathered.names.iter().skip(1).map(|name| (*name).to_owned()).collect();
    Arc::new(AggregateUDF::new_from_impl(GatheredFunction { gathered, aliases }))
}

/// The arguments of a call of one of these, cast as it needs them; others unchanged.
pub(super) fn cast(udaf: &AggregateUDF, args: Vec<Expr>, env: Env<'_>) -> Result<Vec<Expr>> {
    let Some(function) = udaf.inner().downcast_ref::<GatheredFunction>() else { return Ok(args) };
    let Gathered { names, columns, doubles, .. } = function.gathered;
    let mut args = args;
    if names == choice::LISTAGG && args.len() == 1 {
        // Of one argument DataFusion would make DISTINCT a grouping, and the order of the values be lost.
        args.push(lit(ScalarValue::Null));
    }
    let cast = |(i, arg): (usize, Expr)| {
        let plain = env.type_of(&arg)?;
        let to = match &plain {
            _ if i == 0 && doubles => DataType::Float64,
            // Ranks are doubles, however they are written.
            DataType::List(_) if !columns.contains(&i) => array(DataType::Float64),
            DataType::Decimal128(..) if !columns.contains(&i) => DataType::Float64,
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
        Ok(Box::new(self.gathering(args, false)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(self.gathering(args, true)?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DataFusionResult<Vec<FieldRef>> {
        let state = |at: &usize| {
            let name = format_state_name(args.name, &format!("values{at}"));
            Some(Arc::new(Field::new(name, array(args.input_fields.get(*at)?.data_type().clone()), true)))
        };
        let key = |(i, field): (usize, &FieldRef)| {
            let name = format_state_name(args.name, &format!("key{i}"));
            Arc::new(Field::new(name, array(field.data_type().clone()), true))
        };
        let keys = args.ordering_fields.iter().enumerate().map(key);
        Ok(self.gathered.columns.iter().filter_map(state).chain(keys).collect())
    }
}

impl GatheredFunction {
    fn gathering(&self, args: AccumulatorArgs, sliding: bool) -> DataFusionResult<GatherAccumulator> {
        let name = self.gathered.names[0];
        let distinct = args.is_distinct && self.gathered.keep.is_none();
        let order: Vec<SortOptions> = args.order_bys.iter().map(|key| key.options).collect();
        let positions: Vec<usize> =
            self.gathered.columns.iter().copied().filter(|at| *at < args.expr_fields.len()).collect();
        if distinct && positions.len() > 1 {
            return Err(Error::unsupported(format!("`{name}` with DISTINCT")).into());
        }
        // The values of the sort keys follow the arguments.
        let keys = args.order_bys.iter().map(|key| key.expr.data_type(args.schema));
        let keys = keys.collect::<DataFusionResult<Vec<_>>>()?;
        let width = args.expr_fields.len();
        let constant = |expr: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| {
            expr.downcast_ref::<Literal>().map(|literal| literal.value().clone())
        };
        Ok(GatherAccumulator {
            gathered: self.gathered,
            distinct,
            sliding,
            columns: positions
                .iter()
                .map(|at| args.expr_fields[*at].data_type().clone())
                .chain(keys)
                .map(|data_type| (data_type, vec![]))
                .collect(),
            order,
            constants: (0..args.exprs.len())
                .filter(|at| !positions.contains(at))
                .map(|at| constant(&args.exprs[at]))
                .collect(),
            positions: positions.iter().copied().chain(width..width + args.order_bys.len()).collect(),
            result: args.return_field.data_type().clone(),
        })
    }
}

#[derive(Debug)]
struct GatherAccumulator {
    gathered: Gathered,
    /// Whether equal values count once.
    distinct: bool,
    /// Whether rows leave again, the first ones first: then none may be given up before.
    sliding: bool,
    columns: Vec<(DataType, Vec<ArrayRef>)>,
    /// Where the columns stand among the arguments.
    positions: Vec<usize>,
    /// How the last columns, which are no arguments but sort keys, order the rows.
    order: Vec<SortOptions>,
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

    /// The arguments' columns in the order of the sort keys, if there are any.
    fn sorted(&self, mut columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        if self.order.is_empty() {
            return Ok(columns);
        }
        let keys = columns.split_off(columns.len() - self.order.len());
        let field =
            |(key, options): (&ArrayRef, &SortOptions)| SortField::new_with_options(key.data_type().clone(), *options);
        let converter = RowConverter::new(keys.iter().zip(&self.order).map(field).collect())?;
        let keys = converter.convert_columns(&keys)?;
        let mut rows: Vec<u32> = (0..keys.num_rows() as u32).collect();
        rows.sort_by_key(|row| keys.row(*row as usize));
        let rows = UInt32Array::from(rows);
        columns.iter().map(|column| Ok(take(column, &rows, None)?)).collect()
    }

    fn add(&mut self, values: &[ArrayRef]) -> Result<()> {
        for ((_, parts), values) in self.columns.iter_mut().zip(values) {
            parts.push(Arc::clone(values));
        }
        if self.gathered.keep.is_some() && !self.sliding {
            let kept = self.kept(self.whole()?)?;
            for ((_, parts), column) in self.columns.iter_mut().zip(kept) {
                *parts = vec![column];
            }
        }
        Ok(())
    }

    /// Of the rows those that are enough to go on with.
    fn kept(&self, whole: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        let Some(keep) = self.gathered.keep else { return Ok(whole) };
        let kept = keep(&whole, &self.constants)?;
        let kept = UInt32Array::from(kept.into_iter().map(|row| row as u32).collect::<Vec<_>>());
        whole.iter().map(|column| Ok(take(column, &kept, None)?)).collect()
    }
}

impl Accumulator for GatherAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let columns: Vec<ArrayRef> = self.positions.iter().filter_map(|at| values.get(*at).cloned()).collect();
        Ok(self.add(&columns)?)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let gone = values.first().map_or(0, |values| values.len());
        let whole = self.whole()?;
        for ((_, parts), column) in self.columns.iter_mut().zip(whole) {
            let gone = gone.min(column.len());
            *parts = vec![column.slice(gone, column.len() - gone)];
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        self.sliding
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
        if self.sliding {
            whole = self.kept(whole)?;
        }
        let mut whole = self.sorted(whole)?;
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

#[cfg(test)]
mod tests {
    use crate::functions::testing::check;

    #[tokio::test]
    async fn values() {
        for (aggregate, expected) in [
            ("percentile(x, 0.5)", "5.0"),
            ("percentile(x, array(0.25, 0.5))", "[0.0, 5.0]"),
            ("percentile_disc(x, 0.5)", "0.0"),
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
            ("percentile(x, 0.5, 1)", "5.0"),
            ("percentile(x, array(0.0, 0.5), CASE WHEN s = 'a' THEN 5 ELSE 1 END)", "[0.0, 5.0]"),
            ("percentile(x, 0.5, x)", "10.0"),
            ("histogram_numeric(x, 2)", "[{0, 2.0}, {10, 2.0}]"),
            ("histogram_numeric(x, 1)", "[{5, 4.0}]"),
            ("max_by(s, x)", "c"),
            ("max_by(s, x, 2)", "[a, c]"),
            ("min_by(s, x, 9)", "[a, b, a, c]"),
            ("typeof(max_by(x, s, 1))", "array<bigint>"),
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
        for aggregate in [
            "percentile(x, 0.5)",
            "percentile_approx(x, 0.5)",
            "mode(x)",
            "max_by(x, x)",
            "max_by(x, x, 2)",
            "median(x)",
            "histogram_numeric(x, 2)",
        ] {
            let sql = format!("(SELECT {aggregate} FROM (VALUES (1)) t(x) WHERE x > 1)");
            check(&sql, Ok("NULL"), Ok("NULL")).await;
        }
    }
}
