//! Which files of a table can hold given keys: by the statistics in the log, without opening one.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::Column;
use datafusion::physical_optimizer::pruning::PruningStatistics;
use deltaworks_spark::error::Result;

use crate::changes::DataFile;
use crate::error::from_delta;
use crate::properties::COLUMN_MAPPING;
use crate::schema::index_of;
use crate::table::Table;

/// Statistics keep milliseconds of timestamps; what was cut off may be as much as this.
const CUT_OFF_US: i64 = 999;

impl Table {
    /// The files whose statistics say that no value of `column`, a timestamp, is NULL or later than `until_us`.
    ///
    /// # Errors
    /// `Data` if the log cannot be read.
    pub fn files_until(&self, column: &str, until_us: i64) -> Result<Vec<DataFile>> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        let name = column;
        let column = Column::from_name(name);
        let Some(greatest) = log.max_values(&column) else { return Ok(Vec::new()) };
        let greatest = later(&cast(&greatest, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?);
        let greatest = greatest.as_primitive::<TimestampMicrosecondType>();
        // The log gives no counts of NULLs as an array.
        let nulls: Vec<Option<u64>> =
            log.iter().map(|file| null_count(file.stats().as_deref().unwrap_or_default(), name)).collect();
        let files = self.files_in_log_order()?;
        if greatest.len() != files.len() || nulls.len() != files.len() {
            return Ok(Vec::new());
        }
        let over =
            |file: &usize| greatest.is_valid(*file) && greatest.value(*file) <= until_us && nulls[*file] == Some(0);
        Ok(files.into_iter().enumerate().filter(|(file, _)| over(file)).map(|(_, file)| file).collect())
    }

    /// In how many rows of each of `files` a column is NULL; `None` where statistics do not tell.
    ///
    /// # Errors
    /// `Data` if the log cannot be read.
    pub fn null_counts(&self, column: &str, files: &[DataFile]) -> Result<Vec<Option<u64>>> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        let wanted: HashMap<&str, usize> = files.iter().map(|file| file.path.as_str()).zip(0..).collect();
        let mut counts = vec![None; files.len()];
        for file in log.iter() {
            if let Some(position) = wanted.get(file.path().as_ref()) {
                counts[*position] = null_count(file.stats().as_deref().unwrap_or_default(), column);
            }
        }
        Ok(counts)
    }

    /// The columns that are NULL in no row, as the statistics of all files say.
    ///
    /// # Errors
    /// `Data` if the log cannot be read.
    pub(crate) fn columns_without_null(&self) -> Result<BTreeSet<String>> {
        let state = self.state()?;
        if state.metadata().configuration().get(COLUMN_MAPPING).is_some_and(|mode| mode != "none") {
            // Files then have other names for columns than the table.
            return Ok(BTreeSet::new());
        }
        let log = state.snapshot().try_log_data().map_err(from_delta)?;
        let mut full: BTreeSet<String> = self.schema().fields().iter().map(|field| field.name().clone()).collect();
        for file in log.iter() {
            let counts: Option<serde_json::Value> = file.stats().and_then(|stats| serde_json::from_str(&stats).ok());
            let count = |column: &String| counts.as_ref()?.get("nullCount")?.get(column)?.as_u64();
            full.retain(|column| count(column) == Some(0));
            if full.is_empty() {
                break;
            }
        }
        Ok(full)
    }

    /// The files whose statistics do not rule out that they hold a row with one of `keys`: columns of the table,
    /// one row per key, no NULLs. In the order of the log.
    ///
    /// # Errors
    /// `Data` if the log cannot be read.
    pub fn files_with_keys(&self, keys: &RecordBatch) -> Result<Vec<DataFile>> {
        let log = self.state()?.snapshot().try_log_data().map_err(from_delta)?;
        let mut possible = vec![true; log.num_files()];
        for (field, values) in keys.schema().fields().iter().zip(keys.columns()) {
            let Some(index) = index_of(self.schema().fields(), field.name()) else { continue };
            let column = Column::from_name(self.schema().field(index).name());
            let bounds = (log.min_values(&column), log.max_values(&column));
            if let (Some(least), Some(greatest)) = bounds
                && let Some(ranges) = Ranges::new(values, &least, &greatest)?
                && ranges.len() == possible.len()
            {
                for (file, possible) in possible.iter_mut().enumerate() {
                    *possible = *possible && ranges.hold_a_value(file);
                }
            }
        }
        let files = self.files_in_log_order()?;
        Ok(files.into_iter().zip(possible).filter_map(|(file, possible)| possible.then_some(file)).collect())
    }
}

/// How many values of `column` are NULL, as the statistics of a file say.
fn null_count(stats: &str, column: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(stats).ok()?.get("nullCount")?.get(column)?.as_u64()
}

/// Sorted values, and the least and greatest value of each file, in bytes that compare as the values do.
struct Ranges {
    values: Rows,
    bounds: Vec<Option<(Vec<u8>, Vec<u8>)>>,
}

impl Ranges {
    /// `None` for types whose statistics tell nothing.
    fn new(values: &ArrayRef, least: &ArrayRef, greatest: &ArrayRef) -> Result<Option<Self>> {
        let data_type = values.data_type();
        if !is_ordered(data_type) {
            return Ok(None);
        }
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let order = arrow::compute::sort_to_indices(values, None, None)?;
        let values = converter.convert_columns(&[take(values, &order, None)?])?;
        let (least, greatest) = (cast(least, data_type)?, later(&cast(greatest, data_type)?));
        let known: Vec<bool> = (0..least.len()).map(|file| least.is_valid(file) && greatest.is_valid(file)).collect();
        let (least, greatest) = (converter.convert_columns(&[least])?, converter.convert_columns(&[greatest])?);
        let bounds = known
            .into_iter()
            .enumerate()
            .map(|(file, known)| {
                known.then(|| (least.row(file).as_ref().to_vec(), greatest.row(file).as_ref().to_vec()))
            })
            .collect();
        Ok(Some(Self { values, bounds }))
    }

    fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Whether a value lies within the bounds of `file`, or they are not known.
    fn hold_a_value(&self, file: usize) -> bool {
        let Some((least, greatest)) = &self.bounds[file] else { return true };
        let (mut low, mut high) = (0, self.values.num_rows());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.values.row(middle).as_ref() < least.as_slice() {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low < self.values.num_rows() && self.values.row(low).as_ref() <= greatest.as_slice()
    }
}

/// Floating point is left out: what NaN does to statistics differs between writers.
fn is_ordered(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Utf8
                | DataType::Date32
                | DataType::Decimal128(..)
                | DataType::Timestamp(TimeUnit::Microsecond, _)
        )
}

fn later(greatest: &ArrayRef) -> ArrayRef {
    match greatest.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let times = greatest.as_primitive::<TimestampMicrosecondType>();
            let later: PrimitiveArray<TimestampMicrosecondType> = times.unary(|time| time.saturating_add(CUT_OFF_US));
            std::sync::Arc::new(later.with_timezone_opt(zone.clone()))
        }
        _ => std::sync::Arc::clone(greatest),
    }
}
