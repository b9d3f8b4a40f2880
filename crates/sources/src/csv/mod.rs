//! CSV files: lines of fields, or records over several lines (`multiLine`).

mod decoder;
mod fields;
mod infer;

use std::sync::Arc;

use arrow::datatypes::{Fields, Schema};
use async_trait::async_trait;
use deltaworks_spark::{Error, Result};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use crate::format::blocks::{Blocks, TextLayout};
use crate::format::records::decode_stream;
use crate::format::{Decoded, FileTask, Format, Inference, ParseMode, ReadRequest};
use crate::listing::FileEntry;
use crate::options::Options;
use crate::text::{TextParser, supports};
use decoder::CsvDecoder;
use fields::{Cells, Syntax};

/// CSV with its options.
#[derive(Clone, Debug)]
pub(crate) struct CsvFormat {
    layout: TextLayout,
    mode: ParseMode,
    corrupt: String,
    syntax: Syntax,
    parser: TextParser,
    header: bool,
    skip_rows: u64,
    /// Columns are found by the names in the header, not by their position.
    by_name: bool,
    null_value: String,
    empty_value: String,
}

impl CsvFormat {
    pub(crate) fn parse(options: &Options<'_>, parser: TextParser, by_name: bool, assume_header: bool) -> Result<Self> {
        let multi_line = options.flag("multiLine", false)?;
        let header = options.flag("header", assume_header)?;
        let enforced = options.flag("enforceSchema", true)?;
        Ok(Self {
            layout: TextLayout::parse(options, multi_line)?,
            mode: ParseMode::parse(options)?,
            corrupt: options.get("columnNameOfCorruptRecord").unwrap_or("_corrupt_record").to_owned(),
            syntax: Syntax::parse(options, multi_line)?,
            parser,
            header,
            skip_rows: options.count("skipRows")?.unwrap_or(0),
            by_name: header && (by_name || !enforced),
            null_value: options.get("nullValue").unwrap_or_default().to_owned(),
            empty_value: options.get("emptyValue").unwrap_or_default().to_owned(),
        })
    }

    /// The names of a file's columns: from its header, or `_c0`, `_c1` and so on. `None` if it is empty.
    async fn column_names(&self, file: &FileEntry) -> Result<Option<Vec<String>>> {
        let head = FileTask { file: Arc::new(file.clone()), start: 0, end: file.size };
        let mut blocks = Blocks::open(head, &self.layout);
        let mut skip = self.skip_rows;
        while let Some(block) = blocks.next().await? {
            let mut at = 0;
            let mut cells = Cells::default();
            while self.syntax.next_record(&block, &mut at, self.layout.separator.as_deref(), &mut cells).is_some() {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if !cells.is_blank() {
                    return Ok(Some(self.names_of(&cells)));
                }
            }
        }
        Ok(None)
    }

    /// The cells of a header as names. Those that differ in case only, or not at all, get their positions, as in Spark.
    fn names_of(&self, cells: &Cells) -> Vec<String> {
        let texts: Vec<&str> = (0..cells.len()).map(|index| cells.text(index)).collect();
        let name = |(index, text): (usize, &&str)| {
            let shared = texts.iter().filter(|other| other.eq_ignore_ascii_case(text)).count() > 1;
            match *text {
                text if !self.header || text.is_empty() => format!("_c{index}"),
                text if shared => format!("{text}{index}"),
                text => text.to_owned(),
            }
        };
        texts.iter().enumerate().map(name).collect()
    }
}

#[async_trait]
impl Format for CsvFormat {
    fn splittable(&self, file: &FileEntry) -> bool {
        // Rows to skip are counted from the start of the file; a header may be found from anywhere.
        self.layout.splittable(file) && self.skip_rows == 0
    }

    fn read(&self, task: FileTask, request: Arc<ReadRequest>) -> BoxStream<'static, Result<Decoded>> {
        let format = self.clone();
        futures::stream::once(async move {
            let names = if format.by_name { format.column_names(&task.file).await? } else { None };
            let decoder = CsvDecoder::new(&format, &task.file.url, request, names)?;
            Ok::<_, Error>(decode_stream(task, &format.layout, decoder))
        })
        .try_flatten()
        .boxed()
    }

    async fn infer(&self, files: &[FileEntry], inference: Inference) -> Result<Schema> {
        infer::infer(self, files, inference).await
    }

    fn check_schema(&self, fields: &Fields) -> Result<()> {
        match fields.iter().find(|field| !supports(field.data_type())) {
            Some(field) => Err(Error::user(format!(
                "column `{}` has type {}, which CSV cannot hold",
                field.name(),
                deltaworks_spark::types::sql_type_name(field.data_type())
            ))
            .with_condition("UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE")),
            None => Ok(()),
        }
    }

    fn corrupt_column(&self) -> Option<&str> {
        Some(&self.corrupt)
    }
}
