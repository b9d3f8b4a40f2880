//! Digests that stand for keys: 16 bytes a row, however wide the key is.
//!
//! What is remembered of a key for ever should be small. A digest is SipHash-2-4 of 128 bits: that two of ten billion
//! keys share one has a probability of 2 in 10^19, and nobody who does not know the key of the state can make up rows
//! that do.

use std::fmt;
use std::hash::Hasher as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    GenericListArray, StringArray, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

/// Bytes of a digest.
pub(crate) const DIGEST_BYTES: i32 = 16;
/// Keys up to this size are remembered as they are.
const SMALL_KEY_BYTES: usize = DIGEST_BYTES as usize;

/// Whether keys of these types are better remembered by their digests: they are wide, of any length, or hold
/// floating-point numbers, of which Spark takes -0.0 and 0.0 for equal.
pub(crate) fn is_digested<'a>(types: impl IntoIterator<Item = &'a DataType>) -> bool {
    let width = |data_type: &DataType| match data_type {
        DataType::Boolean => Some(1),
        DataType::Float32 | DataType::Float64 => None,
        other => other.primitive_width(),
    };
    let total = types.into_iter().map(width).try_fold(0, |sum, width| Some(sum + width?));
    total.is_none_or(|bytes: usize| bytes > SMALL_KEY_BYTES)
}

/// Whether every value of the type has a digest; a map's entries have no order.
pub(crate) fn has_digest(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| has_digest(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) => has_digest(item.data_type()),
        DataType::Dictionary(_, values) => has_digest(values),
        DataType::Null | DataType::Boolean | DataType::FixedSizeBinary(_) => true,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        other => other.primitive_width().is_some(),
    }
}

/// With what the digests of one state are made: chosen at random when the state begins, kept as long as the state.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DigestKey([u8; 16]);

impl DigestKey {
    /// The key of these random bytes.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    fn digest(self, value: &[u8]) -> [u8; DIGEST_BYTES as usize] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(value);
        hasher.finish128().as_bytes()
    }
}

/// Whoever reads plans or logs need not know the key.
impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

/// `key_digest(column, …)`: `FixedSizeBinary(16)`, never NULL.
pub(crate) fn key_digest(key: DigestKey) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(KeyDigest { key, signature: Signature::variadic_any(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct KeyDigest {
    key: DigestKey,
    signature: Signature,
}

impl ScalarUDFImpl for KeyDigest {
    fn name(&self) -> &'static str {
        "key_digest"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(DIGEST_BYTES))
    }

    /// NULLs have digests, too: without a field that says so, sets of digests would have to provide for NULL.
    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::FixedSizeBinary(DIGEST_BYTES), false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(Arc::new(digests(&columns, rows, self.key)?)))
    }
}

/// One digest per row of `columns`.
pub(crate) fn digests(columns: &[ArrayRef], rows: usize, digest_key: DigestKey) -> Result<FixedSizeBinaryArray> {
    let columns = columns.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
    let mut digests = FixedSizeBinaryBuilder::with_capacity(rows, DIGEST_BYTES);
    let mut key = Vec::new();
    for row in 0..rows {
        key.clear();
        for column in &columns {
            column.put(row, &mut key);
        }
        digests.append_value(digest_key.digest(&key))?;
    }
    Ok(digests.finish())
}

/// The values of a column, ready to be written one after the other so that different keys give different bytes.
enum Values {
    /// Nothing but NULLs.
    Null,
    Boolean(BooleanArray),
    Text(StringArray),
    Bytes(BinaryArray),
    Float32(Vec<f32>, Option<NullBuffer>),
    Float64(Vec<f64>, Option<NullBuffer>),
    /// Values of the same width, one behind the other.
    Fixed {
        values: arrow::buffer::Buffer,
        width: usize,
        nulls: Option<NullBuffer>,
    },
    Struct {
        fields: Vec<Values>,
        nulls: Option<NullBuffer>,
    },
    List {
        items: Box<Values>,
        ends: Vec<usize>,
        nulls: Option<NullBuffer>,
    },
}

impl Values {
    fn of(array: &ArrayRef) -> Result<Self> {
        let nulls = array.logical_nulls();
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Binary => Self::Bytes(array.as_binary::<i32>().clone()),
            DataType::LargeUtf8 | DataType::Utf8View => Self::of(&arrow::compute::cast(array, &DataType::Utf8)?)?,
            DataType::LargeBinary | DataType::BinaryView => Self::of(&arrow::compute::cast(array, &DataType::Binary)?)?,
            DataType::Dictionary(_, values) => Self::of(&arrow::compute::cast(array, values)?)?,
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>().values().to_vec(), nulls),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>().values().to_vec(), nulls),
            DataType::Struct(_) => Self::of_struct(array.as_struct(), nulls)?,
            DataType::List(_) => Self::of_list(array.as_list::<i32>(), nulls)?,
            DataType::LargeList(_) => Self::of_list(array.as_list::<i64>(), nulls)?,
            DataType::FixedSizeBinary(width) => {
                let array = array.as_fixed_size_binary();
                let width = usize::try_from(*width).unwrap_or_default();
                Self::Fixed { values: array.value_data().to_vec().into(), width, nulls }
            }
            other => match other.primitive_width() {
                Some(width) => {
                    let data = array.to_data();
                    let values = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                    Self::Fixed { values, width, nulls }
                }
                None => return exec_err!("values of type {other} cannot be compared"),
            },
        })
    }

    fn of_struct(array: &StructArray, nulls: Option<NullBuffer>) -> Result<Self> {
        Ok(Self::Struct { fields: array.columns().iter().map(Self::of).collect::<Result<_>>()?, nulls })
    }

    fn of_list<O: arrow::array::OffsetSizeTrait>(
        array: &GenericListArray<O>,
        nulls: Option<NullBuffer>,
    ) -> Result<Self> {
        let ends = array.value_offsets().iter().map(|offset| offset.as_usize()).collect();
        Ok(Self::List { items: Box::new(Self::of(array.values())?), ends, nulls })
    }

    /// Writes the value of `row`: a byte that says whether it is NULL, then lengths before what has one.
    fn put(&self, row: usize, key: &mut Vec<u8>) {
        if self.is_null(row) {
            key.push(0);
            return;
        }
        key.push(1);
        match self {
            Self::Null => {}
            Self::Boolean(values) => key.push(u8::from(values.value(row))),
            Self::Text(values) => put_bytes(values.value(row).as_bytes(), key),
            Self::Bytes(values) => put_bytes(values.value(row), key),
            // Adding 0.0 turns -0.0 into 0.0.
            Self::Float32(values, _) if values[row].is_nan() => key.extend(f32::NAN.to_bits().to_le_bytes()),
            Self::Float32(values, _) => key.extend((values[row] + 0.0).to_bits().to_le_bytes()),
            Self::Float64(values, _) if values[row].is_nan() => key.extend(f64::NAN.to_bits().to_le_bytes()),
            Self::Float64(values, _) => key.extend((values[row] + 0.0).to_bits().to_le_bytes()),
            Self::Fixed { values, width, .. } => key.extend_from_slice(&values[row * width..(row + 1) * width]),
            Self::Struct { fields, .. } => fields.iter().for_each(|field| field.put(row, key)),
            Self::List { items, ends, .. } => {
                key.extend(((ends[row + 1] - ends[row]) as u64).to_le_bytes());
                (ends[row]..ends[row + 1]).for_each(|item| items.put(item, key));
            }
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(values) => values.is_null(row),
            Self::Text(values) => values.is_null(row),
            Self::Bytes(values) => values.is_null(row),
            Self::Float32(_, nulls)
            | Self::Float64(_, nulls)
            | Self::Fixed { nulls, .. }
            | Self::Struct { nulls, .. }
            | Self::List { nulls, .. } => nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)),
        }
    }
}

fn put_bytes(bytes: &[u8], key: &mut Vec<u8>) {
    key.extend((bytes.len() as u64).to_le_bytes());
    key.extend_from_slice(bytes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::HashSet;

    use arrow::array::{Decimal128Array, Float64Array, Int64Array, Int64Builder, ListBuilder, StringViewArray};
    use arrow::datatypes::{Field, Fields};

    use super::*;
    use crate::DIGEST_KEY;

    fn column(values: impl Array + 'static) -> ArrayRef {
        Arc::new(values)
    }

    /// Which rows have the same digest, as the first row of each.
    fn classes(columns: &[ArrayRef]) -> Vec<usize> {
        let digests = digests(columns, columns[0].len(), DIGEST_KEY).unwrap();
        (0..digests.len())
            .map(|row| (0..=row).find(|first| digests.value(*first) == digests.value(row)).unwrap())
            .collect()
    }

    #[test]
    fn small_keys_of_whole_numbers_stay_as_they_are() {
        assert!(!is_digested(&[DataType::Int64, DataType::Date32]));
        assert!(!is_digested(&[DataType::Decimal128(38, 2)]));
        assert!(is_digested(&[DataType::Int64, DataType::Int64, DataType::Boolean]));
        assert!(is_digested(&[DataType::Utf8]));
        assert!(is_digested(&[DataType::Float64]));
    }

    /// The vector of SipHash's authors for 15 bytes: stored digests must stay what they are.
    #[test]
    fn digests_are_siphash() {
        let key = DigestKey(std::array::from_fn(|byte| byte as u8));
        let value: Vec<u8> = (0..15).collect();
        let expected = [0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11, 0x7e, 0x08, 0xec, 0x0f, 0x97, 0xcf, 0xc3, 0xd9];
        assert_eq!(key.digest(&value), expected);
        assert_ne!(DigestKey([0; 16]).digest(&value), expected);
    }

    #[test]
    fn lengths_and_nulls_are_part_of_the_key() {
        let left = column(StringArray::from(vec![Some("ab"), Some("a"), None, Some(""), Some("ab")]));
        let right = column(StringArray::from(vec![Some("c"), Some("bc"), Some(""), None, Some("c")]));
        assert_eq!(classes(&[left, right]), [0, 1, 2, 3, 0]);
    }

    #[test]
    fn floating_point_numbers_are_equal_as_spark_has_it() {
        let nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let values = Float64Array::from(vec![Some(0.0), Some(-0.0), Some(f64::NAN), Some(nan), Some(1.0), None]);
        assert_eq!(classes(&[column(values)]), [0, 0, 2, 2, 4, 5]);
    }

    #[test]
    fn slices_and_representations_do_not_matter() {
        let long = column(Int64Array::from(vec![Some(9), Some(1), None, Some(1)])).slice(1, 3);
        assert_eq!(classes(&[Arc::clone(&long)]), [0, 1, 0]);
        let decimals = column(Decimal128Array::from(vec![1, 2, 1])).slice(1, 2);
        assert_eq!(classes(&[decimals]), [0, 1]);
        let (text, view) = (StringArray::from(vec!["a", "b"]), StringViewArray::from(vec!["a", "b"]));
        assert_eq!(digests(&[column(text)], 2, DIGEST_KEY).unwrap(), digests(&[column(view)], 2, DIGEST_KEY).unwrap());
    }

    #[test]
    fn nested_values_are_compared_by_what_they_hold() {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for list in [Some(vec![1, 2]), Some(vec![1]), Some(vec![]), None, Some(vec![1, 2])] {
            lists.append_option(list.map(|items| items.into_iter().map(Some)));
        }
        let lists = column(lists.finish());
        assert_eq!(classes(&[Arc::clone(&lists)]), [0, 1, 2, 3, 0]);
        assert_eq!(classes(&[lists.slice(1, 4)]), [0, 1, 2, 3]);
        let fields = Fields::from(vec![Field::new("l", lists.data_type().clone(), true)]);
        let nulls = NullBuffer::from(vec![true, true, true, true, false]);
        assert_eq!(classes(&[column(StructArray::new(fields, vec![lists], Some(nulls)))]), [0, 1, 2, 3, 4]);
        let entries = Field::new("entries", DataType::Struct(Fields::empty()), false);
        assert!(!has_digest(&DataType::Map(Arc::new(entries), false)));
    }

    #[test]
    fn many_keys_have_as_many_digests() {
        let keys = column(StringArray::from_iter_values((0..100_000).map(|i| format!("order-{i}"))));
        let digests = digests(&[keys], 100_000, DIGEST_KEY).unwrap();
        assert_eq!(digests.iter().flatten().collect::<HashSet<_>>().len(), 100_000);
    }
}
