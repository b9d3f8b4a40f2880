//! The schema of CSV files: columns by header, types wide enough for all cells.

use arrow::datatypes::{DataType, Field, Schema};
use deltaworks_spark::Result;
use indexmap::IndexMap;

use super::CsvFormat;
use super::fields::Cells;
use crate::format::blocks::Blocks;
use crate::format::{FileTask, Inference};
use crate::listing::FileEntry;
use crate::schema::evolution::widest;

pub(super) async fn infer(format: &CsvFormat, files: &[FileEntry], inference: Inference) -> Result<Schema> {
    let mut types: IndexMap<String, DataType> = IndexMap::new();
    let mut bytes = 0;
    for file in files {
        let Some(names) = format.column_names(file).await? else { continue };
        for name in &names {
            types.entry(name.clone()).or_insert(DataType::Null);
        }
        if inference.typed {
            bytes += observe(format, file, &names, inference.max_bytes - bytes, &mut types).await?;
        }
        if (!inference.typed && !inference.all_files) || bytes >= inference.max_bytes {
            break;
        }
    }
    let fields = types
        .into_iter()
        .map(|(name, data_type)| Field::new(name, if inference.typed { data_type } else { DataType::Utf8 }, true));
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// Widens `types` by the cells of a file; gives the number of bytes read.
async fn observe(
    format: &CsvFormat,
    file: &FileEntry,
    names: &[String],
    max_bytes: u64,
    types: &mut IndexMap<String, DataType>,
) -> Result<u64> {
    let task = FileTask { file: file.clone().into(), start: 0, end: file.size };
    let mut blocks = Blocks::open(task, &format.layout);
    let mut skip = format.skip_rows;
    let mut header = format.header;
    let mut bytes = 0;
    let mut cells = Cells::default();
    while let Some(block) = blocks.next().await? {
        bytes += block.len() as u64;
        let mut at = 0;
        while format.syntax.next_record(&block, &mut at, format.layout.separator.as_deref(), &mut cells).is_some() {
            if skip > 0 {
                skip -= 1;
            } else if cells.is_blank() {
                continue;
            } else if !std::mem::take(&mut header) {
                for (index, name) in names.iter().enumerate().take(cells.len()) {
                    let text = cells.text(index);
                    if let Some(known) = types.get_mut(name)
                        && *known != DataType::Utf8
                        && text != format.null_value
                    {
                        *known = widest(known, &format.parser.infer(text, true));
                    }
                }
            }
        }
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(bytes)
}
