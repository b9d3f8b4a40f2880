//! Bitmaps of one bucket, 32,768 bits: built from positions, joined and intersected.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::udf::check_arity;
use crate::error::{Error, Result};
use crate::types::{canonical, sql_type_name};

const BYTES: usize = 4096;

/// The aggregates for DataFusion's registry.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let all = [
        BitmapAggregate { name: "bitmap_construct_agg", combine: Combine::Positions },
        BitmapAggregate { name: "bitmap_or_agg", combine: Combine::Or },
        BitmapAggregate { name: "bitmap_and_agg", combine: Combine::And },
    ];
    all.into_iter().map(|aggregate| Arc::new(AggregateUDF::new_from_impl(aggregate))).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Combine {
    /// Values are positions of bits.
    Positions,
    Or,
    /// Of no bitmaps at all, every bit is set.
    And,
}

#[derive(Debug)]
struct BitmapAggregate {
    name: &'static str,
    combine: Combine,
}

impl PartialEq for BitmapAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for BitmapAggregate {}

impl Hash for BitmapAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

impl AggregateUDFImpl for BitmapAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        check_arity(self.name, (1, 1), types.len())?;
        let fits = |data_type: &DataType| match self.combine {
            Combine::Positions => data_type.is_integer(),
            Combine::Or | Combine::And => *data_type == DataType::Binary,
        };
        match types.iter().map(canonical).find(|t| !fits(t) && *t != DataType::Null) {
            Some(other) => Err(Error::user(format!("`{}` cannot take {}", self.name, sql_type_name(&other)))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
                .into()),
            None if self.combine == Combine::Positions => Ok(vec![DataType::Int64]),
            None => Ok(vec![DataType::Binary]),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Binary)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        let start = if self.combine == Combine::And { 0xff } else { 0 };
        Ok(Box::new(Bitmap { combine: self.combine, bits: vec![start; BYTES] }))
    }
}

#[derive(Debug)]
struct Bitmap {
    combine: Combine,
    bits: Vec<u8>,
}

impl Bitmap {
    fn set(&mut self, position: i64) -> Result<()> {
        let byte = usize::try_from(position / 8).ok().and_then(|byte| self.bits.get_mut(byte));
        match byte {
            Some(byte) if position >= 0 => {
                *byte |= 1 << (position % 8);
                Ok(())
            }
            _ => Err(Error::data(format!("a bitmap has no bit {position}"))
                .with_condition("INVALID_BITMAP_POSITION")
                .with_help("Use `bitmap_bit_position` for the position of a value.")),
        }
    }

    fn merge(&mut self, bitmaps: &ArrayRef) -> Result<()> {
        let bitmaps = cast(bitmaps, &DataType::Binary)?;
        for bitmap in bitmaps.as_binary::<i32>().iter().flatten() {
            for (i, bits) in self.bits.iter_mut().enumerate() {
                // A short bitmap has no bits beyond its end.
                let other = bitmap.get(i).copied().unwrap_or(0);
                *bits = if self.combine == Combine::And { *bits & other } else { *bits | other };
            }
        }
        Ok(())
    }
}

impl Accumulator for Bitmap {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let Some(values) = values.first() else { return Ok(()) };
        if self.combine == Combine::Positions {
            let positions = cast(values, &DataType::Int64)?;
            for position in positions.as_primitive::<Int64Type>().iter().flatten() {
                self.set(position)?;
            }
            return Ok(());
        }
        Ok(self.merge(values)?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        Ok(states.first().map_or(Ok(()), |states| self.merge(states))?)
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.bits.clone())))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bits.capacity()
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{check, check_all};

    fn over(aggregate: &str, values: &str) -> String {
        format!("(SELECT substring(hex({aggregate}), 1, 6) FROM (VALUES {values}) t(x))")
    }

    #[tokio::test]
    async fn values() {
        check_all(&[
            (&over("bitmap_construct_agg(bitmap_bit_position(x))", "(1), (2), (3), (NULL)"), "070000"),
            (&over("bitmap_or_agg(unhex(x))", "('10'), ('20'), ('40')"), "700000"),
            (&over("bitmap_and_agg(unhex(x))", "('F0'), ('70'), ('30')"), "300000"),
        ])
        .await;
        let outside = Err("INVALID_BITMAP_POSITION");
        check(&over("bitmap_construct_agg(x)", "(40000)"), outside, outside).await;
    }
}
