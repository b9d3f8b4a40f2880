//! `histogram_numeric`: bins of unequal width, the nearest two joined whenever there are too many.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;

use crate::cast::{CastMode, cast_array};
use crate::error::{Error, Result};
use crate::types::{array, canonical};

/// An array of the places of bins, of the values' type, and their heights.
pub(super) fn histogram_type(types: &[DataType]) -> DataType {
    let place = types.first().map_or(DataType::Float64, canonical);
    array(DataType::Struct(fields(place)))
}

fn fields(place: DataType) -> Fields {
    Fields::from(vec![Field::new("x", place, true), Field::new("y", DataType::Float64, true)])
}

#[derive(Debug, Clone, Copy)]
struct Bin {
    place: f64,
    height: f64,
}

pub(super) fn histogram(
    columns: &[ArrayRef],
    constants: &[Option<ScalarValue>],
    result: &DataType,
) -> Result<ScalarValue> {
    let most =
        match constants.first().and_then(Option::as_ref).map(|count| count.cast_to(&DataType::Int64)).transpose()? {
            Some(ScalarValue::Int64(Some(most @ 1..))) => most as usize,
            _ => {
                return Err(Error::user("the number of bins of `histogram_numeric` must be a constant of at least 1")
                    .with_condition("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE"));
            }
        };
    let place = canonical(columns[0].data_type());
    let doubles = match &place {
        DataType::Date32 => cast(&cast(&columns[0], &DataType::Int32)?, &DataType::Float64)?,
        DataType::Timestamp(..) => cast(&cast(&columns[0], &DataType::Int64)?, &DataType::Float64)?,
        numeric if numeric.is_numeric() => cast(&columns[0], &DataType::Float64)?,
        other => {
            return Err(Error::user(format!("`histogram_numeric` cannot take {}", crate::types::sql_type_name(other)))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
        }
    };
    let mut bins: Vec<Bin> = Vec::new();
    let mut ties = Ties::new();
    for value in doubles.as_primitive::<Float64Type>().iter().flatten() {
        match bins.binary_search_by(|bin| bin.place.total_cmp(&value)) {
            Ok(at) => bins[at].height += 1.0,
            Err(at) => bins.insert(at, Bin { place: value, height: 1.0 }),
        }
        if bins.len() > most {
            join_nearest(&mut bins, &mut ties);
        }
    }
    if bins.is_empty() {
        return Ok(ScalarValue::try_from(result)?);
    }
    let places: ArrayRef = Arc::new(bins.iter().map(|bin| Some(bin.place)).collect::<Float64Array>());
    let places = match &place {
        DataType::Date32 => cast(&cast(&places, &DataType::Int32)?, &place)?,
        DataType::Timestamp(..) => cast(&cast(&places, &DataType::Int64)?, &place)?,
        _ => cast_array(&places, &place, CastMode::Lenient, chrono_tz::UTC)?,
    };
    let heights: ArrayRef = Arc::new(bins.iter().map(|bin| Some(bin.height)).collect::<Float64Array>());
    let bins = StructArray::try_new(fields(place), vec![places, heights], None)?;
    Ok(SingleRowListArrayBuilder::new(Arc::new(bins)).build_list_scalar())
}

/// Joins the two bins that lie nearest to each other where their weighted mean is.
fn join_nearest(bins: &mut Vec<Bin>, ties: &mut Ties) {
    let (mut nearest, mut at, mut equal) = (f64::INFINITY, 0, 1.0);
    for (i, pair) in bins.windows(2).enumerate() {
        let distance = pair[1].place - pair[0].place;
        if i == 0 || distance < nearest {
            (nearest, at, equal) = (distance, i, 1.0);
        } else if distance == nearest {
            equal += 1.0;
            if ties.double() <= 1.0 / equal {
                at = i;
            }
        }
    }
    let (left, right) = (bins[at], bins.remove(at + 1));
    let height = left.height + right.height;
    // In this order, because the last bits decide later ties.
    let place = left.place * (left.height / height) + right.place / height * right.height;
    bins[at] = Bin { place, height };
}

/// Java's `Random` of the seed that Spark takes to break ties.
struct Ties(u64);

impl Ties {
    const FACTOR: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;

    fn new() -> Self {
        Self((31_183 ^ Self::FACTOR) & Self::MASK)
    }

    fn bits(&mut self, count: u32) -> u64 {
        self.0 = self.0.wrapping_mul(Self::FACTOR).wrapping_add(0xB) & Self::MASK;
        self.0 >> (48 - count)
    }

    fn double(&mut self) -> f64 {
        let bits = (self.bits(26) << 27) + self.bits(27);
        bits as f64 / (1_u64 << 53) as f64
    }
}
