//! `corr`, `covar_pop` and `covar_samp`, taken in one pair after the other by Spark's formulas, so that the last digits are the same.
//! DataFusion's correlation of groups adds up squares, which leaves little of numbers that are large and close to each other.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::coercion::division_by_zero;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Statistic {
    /// `corr`
    Correlation,
    /// `covar_pop`
    PopulationCovariance,
    /// `covar_samp`
    SampleCovariance,
}

/// The aggregate.
pub(super) fn udaf(statistic: Statistic, ansi: bool) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(OfPairs { statistic, ansi }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfPairs {
    statistic: Statistic,
    ansi: bool,
}

static SIGNATURE: LazyLock<Signature> =
    LazyLock::new(|| Signature::exact(vec![DataType::Float64, DataType::Float64], Volatility::Immutable));

impl AggregateUDFImpl for OfPairs {
    fn name(&self) -> &str {
        match self.statistic {
            Statistic::Correlation => "corr",
            Statistic::PopulationCovariance => "covar_pop",
            Statistic::SampleCovariance => "covar_samp",
        }
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |part: &&str| Arc::new(Field::new(format_state_name(args.name, part), DataType::Float64, true));
        Ok(["n", "x_mean", "y_mean", "xy", "xx", "yy"].iter().map(field).collect())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Pairs { statistic: self.statistic, ansi: self.ansi, moments: Moments::default() }))
    }
}

/// The count, the means, and the sums of products of the distances from the means.
#[derive(Debug, Default, Clone, Copy)]
struct Moments {
    n: f64,
    x_mean: f64,
    y_mean: f64,
    xy: f64,
    xx: f64,
    yy: f64,
}

impl Moments {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        let (dx, dy) = (x - self.x_mean, y - self.y_mean);
        self.x_mean += dx / self.n;
        self.y_mean += dy / self.n;
        self.xy += dx * (y - self.y_mean);
        self.xx += dx * (x - self.x_mean);
        self.yy += dy * (y - self.y_mean);
    }

    fn merge(&mut self, other: &Self) {
        let n = self.n + other.n;
        if other.n == 0.0 {
            return;
        }
        let (dx, dy) = (other.x_mean - self.x_mean, other.y_mean - self.y_mean);
        let (x_share, y_share) = (dx / n, dy / n);
        self.xy += other.xy + dx * y_share * self.n * other.n;
        self.xx += other.xx + dx * x_share * self.n * other.n;
        self.yy += other.yy + dy * y_share * self.n * other.n;
        self.x_mean += x_share * other.n;
        self.y_mean += y_share * other.n;
        self.n = n;
    }
}

#[derive(Debug)]
struct Pairs {
    statistic: Statistic,
    ansi: bool,
    moments: Moments,
}

impl Accumulator for Pairs {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let column = |at: usize| values[at].as_primitive::<Float64Type>();
        for pair in column(0).iter().zip(column(1)) {
            if let (Some(x), Some(y)) = pair {
                self.moments.add(x, y);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |state| state.len());
        for row in 0..rows {
            let part = |at: usize| states[at].as_primitive::<Float64Type>().value(row);
            let [n, x_mean, y_mean, xy, xx, yy] = [0, 1, 2, 3, 4, 5].map(part);
            self.moments.merge(&Moments { n, x_mean, y_mean, xy, xx, yy });
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Moments { n, x_mean, y_mean, xy, xx, yy } = self.moments;
        Ok([n, x_mean, y_mean, xy, xx, yy].map(|part| ScalarValue::Float64(Some(part))).to_vec())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Moments { n, xy, xx, yy, .. } = self.moments;
        let value = match self.statistic {
            _ if n == 0.0 => None,
            Statistic::PopulationCovariance => Some(xy / n),
            _ if n == 1.0 => None,
            Statistic::SampleCovariance => Some(xy / (n - 1.0)),
            Statistic::Correlation => match (xx * yy).sqrt() {
                0.0 if self.ansi => return Err(division_by_zero().into()),
                0.0 => None,
                spread => Some(xy / spread),
            },
        };
        Ok(ScalarValue::Float64(value))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
