//! A read of files, resolved: format, options, columns, and how its schema may grow.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::{Error, Result};
use uuid::Uuid;

use crate::bad_records::{self, BadRecords};
use crate::context::{Location, SourceContext};
use crate::errors::{cannot_infer, new_fields_refused};
use crate::format::{FileFormat, Format, Inference, PassedOver, unknown_format};
use crate::known_options::validate_cloud_files;
use crate::listing::{Depth, FileEntry, list_files};
use crate::options::{EvolutionMode, FileOptions, Options};
use crate::scan::{Columns, Evolution, HIDDEN_KEY, ScanSpec};
use crate::schema::evolution::{Widen, evolve, one_spelling, storable_widening_for_some, without_void};
use crate::schema::hints::reached_into;
use crate::schema::partition::partition_columns;
use crate::schema::store::{HintedSchema, SchemaStore, StoredSchema};
use crate::schema::structured::infer_structured;
use crate::text::TextParser;

/// Inference looks at so many files and bytes, unless settings say otherwise.
const SAMPLE_FILES: usize = 1000;
const SAMPLE_BYTES: u64 = 50 << 30;

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// `spark.read.json`, `spark.readStream.format("json")`
    Plain,
    /// `format("cloudFiles")`, `cloud_files()`
    CloudFiles,
    /// `read_files()`
    ReadFiles,
}

/// What the user asked for.
#[derive(Clone, Debug)]
pub(crate) struct FileRead<'a> {
    pub(crate) reader: Reader,
    pub(crate) format: Option<FileFormat>,
    pub(crate) paths: &'a [String],
    pub(crate) schema: Option<SchemaRef>,
    pub(crate) options: &'a ReadOptions,
    pub(crate) streaming: bool,
}

/// A resolved read of files.
#[derive(Clone, Debug)]
pub(crate) struct FileRelation {
    pub(crate) name: &'static str,
    pub(crate) reader: Reader,
    pub(crate) spec: Arc<ScanSpec>,
    pub(crate) options: FileOptions,
    pub(crate) paths: Vec<String>,
    pub(crate) context: SourceContext,
    growth: Option<Arc<Growth>>,
    /// The folder for what cannot be read.
    bad_records: Option<Location>,
    /// Files listed for inference.
    listed: Option<Vec<FileEntry>>,
}

/// How a schema grows.
#[derive(Clone, Debug)]
struct Growth {
    mode: EvolutionMode,
    store: Option<SchemaStore>,
    number: u64,
    /// The newest stored schema.
    stored: StoredSchema,
    /// Its data columns under the hints.
    known: Schema,
    hints: Option<String>,
    inference: Inference,
    format: Arc<dyn Format>,
}

impl FileRelation {
    /// Resolves a read: parses its options, and finds its schema if the user gave none.
    pub(crate) async fn resolve(read: FileRead<'_>, context: &SourceContext) -> Result<Self> {
        let auto_loader = read.reader != Reader::Plain;
        if auto_loader {
            validate_cloud_files(read.options)?;
        }
        if read.paths.is_empty() {
            return Err(Error::user("no path to read files from").with_help("Give a path to `load`."));
        }
        let options = Options::new(read.options, auto_loader);
        let file_options = FileOptions::parse(&options, read.reader, context.conf.time_zone)?;
        if let Some(clean) = file_options.clean_source.as_ref().filter(|_| read.streaming) {
            clean.check(context, read.paths)?;
        }
        let mut resolver = Resolver { read: &read, options, file_options, context, listed: None };
        let format = resolver.format().await?;
        let parser = TextParser::from_options(&options, context.conf.time_zone)?;
        let built = format.build(&options, parser.clone(), auto_loader, read.schema.is_none())?;
        resolver.finish(format, built, parser).await
    }

    /// The files there are now.
    pub(crate) async fn list(&self) -> Result<Vec<FileEntry>> {
        list_files(&self.context, &self.paths, &self.options, depth(self.reader)).await
    }

    /// The files listed while the schema was inferred, or else now.
    pub(crate) async fn list_once(&mut self) -> Result<Vec<FileEntry>> {
        match self.listed.take() {
            Some(listed) => Ok(listed),
            None => self.list().await,
        }
    }

    /// Where a read that begins at `began_us` puts what cannot be read.
    pub(crate) fn bad_records(&self, began_us: i64) -> Option<Arc<BadRecords>> {
        Some(Arc::new(BadRecords::new(self.bad_records.as_ref()?, began_us)))
    }

    /// What a scan of `files` does about new fields.
    pub(crate) fn evolution(&self, files: &[FileEntry]) -> Option<Arc<dyn Evolution>> {
        let growth = Arc::clone(self.growth.as_ref()?);
        Some(Arc::new(SliceEvolution {
            growth,
            case_sensitive: self.options.case_sensitive,
            files: files.to_vec(),
            done: tokio::sync::Mutex::new(false),
        }))
    }
}

fn depth(reader: Reader) -> Depth {
    if reader == Reader::Plain { Depth::Partitions } else { Depth::All }
}

struct Resolver<'a> {
    read: &'a FileRead<'a>,
    options: Options<'a>,
    file_options: FileOptions,
    context: &'a SourceContext,
    listed: Option<Vec<FileEntry>>,
}

impl Resolver<'_> {
    async fn format(&mut self) -> Result<FileFormat> {
        if let Some(format) = self.read.format {
            return Ok(format);
        }
        if let Some(name) = self.options.get("format") {
            return FileFormat::from_name(name).ok_or_else(|| unknown_format(name));
        }
        if self.read.reader == Reader::CloudFiles {
            return Err(Error::user("option `cloudFiles.format` is required")
                .with_condition("CF_MISSING_REQUIRED_OPTION")
                .with_help("Set it to json, csv, parquet, text, binaryFile or avro."));
        }
        let files = self.listing().await?;
        let mut formats: Vec<_> = files.iter().filter_map(|file| FileFormat::detect(file.name())).collect();
        formats.dedup();
        match formats.as_slice() {
            [format] => Ok(*format),
            _ => Err(Error::user("the format of the files cannot be told from their names")
                .with_condition("CF_FORMAT_INFERENCE_FAILED")
                .with_help("Say it with option `format`.")),
        }
    }

    async fn listing(&mut self) -> Result<&[FileEntry]> {
        if self.listed.is_none() {
            let depth = depth(self.read.reader);
            self.listed = Some(list_files(self.context, self.read.paths, &self.file_options, depth).await?);
        }
        Ok(self.listed.as_deref().unwrap_or_default())
    }

    fn typed(&self, format: FileFormat) -> Result<bool> {
        let infer_schema = self.options.bool("inferSchema")?;
        Ok(match (self.read.reader, format) {
            (_, FileFormat::Parquet | FileFormat::Avro) | (Reader::Plain, FileFormat::Json) => true,
            (Reader::Plain, _) => infer_schema.unwrap_or(false),
            (Reader::CloudFiles, _) => self.options.flag("inferColumnTypes", false)?,
            (Reader::ReadFiles, _) => self.options.bool("inferColumnTypes")?.or(infer_schema).unwrap_or(true),
        })
    }

    fn mode(&self) -> Result<EvolutionMode> {
        let given = self.read.schema.is_some();
        match self.file_options.evolution {
            Some(EvolutionMode::AddNewColumns | EvolutionMode::AddNewColumnsWithTypeWidening) if given => {
                Err(Error::user("schema evolution mode `addNewColumns` is not possible with a schema")
                    .with_condition("CF_ADD_NEW_NOT_SUPPORTED")
                    .with_help("Leave the schema out and give types by `schemaHints`, or use mode `rescue` or `none`."))
            }
            Some(mode) => Ok(mode),
            None if given || self.read.reader == Reader::Plain => Ok(EvolutionMode::None),
            None => Ok(EvolutionMode::AddNewColumns),
        }
    }

    fn store(&self, format: FileFormat) -> Result<Option<SchemaStore>> {
        if let Some(path) = &self.file_options.schema_location {
            return Ok(Some(SchemaStore::new(&self.context.locate(path)?)));
        }
        let Some(root) = &self.context.schema_store else { return Ok(None) };
        let identity = format!("{} {}", format.name(), self.read.paths.join(" "));
        let mut location = self.context.locate_url(root)?;
        let folder = Uuid::new_v5(&Uuid::NAMESPACE_URL, identity.as_bytes());
        location.key = format!("{}/{folder}", location.key);
        Ok(Some(SchemaStore::new(&location)))
    }

    async fn finish(mut self, format: FileFormat, built: Arc<dyn Format>, parser: TextParser) -> Result<FileRelation> {
        let mode = self.mode()?;
        let typed = self.typed(format)?;
        let auto_loader = self.read.reader != Reader::Plain;
        let setting = |name: &str| {
            let key = format!("spark.databricks.cloudFiles.schemaInference.sampleSize.{name}");
            self.context.conf.get(&key)?.parse::<u64>().ok()
        };
        let bad_records = self.file_options.bad_records.as_deref();
        let bad_records =
            bad_records.map(|path| bad_records::locate(path, self.context, self.read.paths)).transpose()?;
        let passed_over = PassedOver {
            corrupt: self.file_options.ignore_corrupt || bad_records.is_some(),
            missing: self.file_options.ignore_missing || bad_records.is_some(),
        };
        let max_bytes = setting("numBytes").unwrap_or(SAMPLE_BYTES);
        let inference = Inference { typed, all_files: auto_loader, max_bytes, passed_over };
        let sample_files = setting("numFiles").map_or(SAMPLE_FILES, |count| count as usize);
        let mut growth = None;
        let evolves = self.read.streaming && auto_loader;
        let stored = match (&self.read.schema, built.fixed_schema()) {
            (Some(schema), _) => self.given(schema, typed, &parser).await?,
            (None, Some(fixed)) => StoredSchema::new(fixed, self.partition(typed, &parser).await?),
            (None, None) => {
                let store = if evolves { self.store(format)? } else { None };
                let (number, stored) = match &store {
                    Some(store) => store.latest().await?.map_or((0, None), |(number, stored)| (number, Some(stored))),
                    None => (0, None),
                };
                let stored = match stored {
                    Some(stored) => stored,
                    None => {
                        let inferred = self.infer(format, built.as_ref(), inference, sample_files, &parser).await?;
                        if let Some(store) = &store
                            && self.context.store_schemas
                        {
                            store.put(number, &inferred).await?;
                        }
                        inferred
                    }
                };
                let hints = self.file_options.hints.clone();
                let known = stored.under(hints.as_deref())?;
                let format = Arc::clone(&built);
                let (stored, data) = (stored.clone(), StoredSchema { data: known.clone(), ..stored });
                growth = Some(Growth { mode, store, number, stored, known, hints, inference, format });
                data
            }
        };
        let rescued = self.rescued_column(&stored.data, mode, built.as_ref());
        let columns = Columns::new(&stored.data.fields, &stored.partition, rescued.as_deref(), built.corrupt_column());
        built.check_schema(&columns.data)?;
        if mode == EvolutionMode::FailOnNewColumns && growth.is_none() {
            growth = Some(Growth {
                mode,
                store: None,
                number: 0,
                known: stored.data.clone(),
                stored,
                hints: None,
                inference,
                format: Arc::clone(&built),
            });
        }
        let growth =
            growth.filter(|growth| evolves && !matches!(growth.mode, EvolutionMode::None | EvolutionMode::Rescue));
        let spec = ScanSpec {
            format: built,
            columns,
            case_sensitive: self.file_options.case_sensitive,
            passed_over,
            null_mismatches: auto_loader,
            parser,
        };
        Ok(FileRelation {
            name: if auto_loader { "cloudFiles" } else { format.name() },
            reader: self.read.reader,
            spec: Arc::new(spec),
            options: self.file_options,
            paths: self.read.paths.to_vec(),
            context: self.context.clone(),
            growth: growth.map(Arc::new),
            bad_records,
            listed: self.listed,
        })
    }

    async fn given(&mut self, schema: &Schema, typed: bool, parser: &TextParser) -> Result<StoredSchema> {
        let visible = schema.fields.iter().filter(|field| !field.metadata().contains_key(HIDDEN_KEY));
        let data = Schema::new(visible.map(|field| nullable(field)).collect::<Fields>());
        Ok(StoredSchema::new(data, self.partition(typed, parser).await?))
    }

    async fn partition(&mut self, typed: bool, parser: &TextParser) -> Result<Vec<Field>> {
        let only = self.file_options.partition_columns.clone();
        let typed = typed || self.read.reader == Reader::Plain;
        let files = self.listing().await?;
        Ok(partition_columns(files, only.as_deref(), typed, parser))
    }

    async fn infer(
        &mut self,
        format: FileFormat,
        built: &dyn Format,
        inference: Inference,
        sample_files: usize,
        parser: &TextParser,
    ) -> Result<StoredSchema> {
        let plain_stream = self.read.reader == Reader::Plain && self.read.streaming;
        let allowed = self.context.conf.get("spark.sql.streaming.schemaInference").is_some_and(|value| value == "true");
        if plain_stream && !allowed {
            return Err(Error::user(format!("a stream of {} files needs a schema", format.name()))
                .with_condition("STREAMING_SCHEMA_REQUIRED")
                .with_help("Give it by `.schema(...)`, or read with format `cloudFiles`, which infers schemas."));
        }
        let paths = self.read.paths;
        let auto_loader = self.read.reader != Reader::Plain;
        let hints = self.file_options.hints.clone();
        let case_sensitive = self.file_options.case_sensitive;
        let files = self.listing().await?;
        let sample = &files[..files.len().min(sample_files)];
        if sample.is_empty() {
            return Err(cannot_infer(format.name(), paths, auto_loader));
        }
        let hinted = hints.as_deref().map(reached_into).transpose()?.unwrap_or_default();
        let is_hinted = |name: &str| hinted.iter().any(|hinted| hinted.eq_ignore_ascii_case(name));
        let data = infer_structured(built, sample, inference, &is_hinted).await?;
        let data = one_spelling(&data, case_sensitive);
        if data.fields.is_empty() {
            return Err(cannot_infer(format.name(), paths, auto_loader));
        }
        let partition = self.partition(inference.typed, parser).await?;
        Ok(StoredSchema::new(without_void(data), partition))
    }

    fn rescued_column(&self, data: &Schema, mode: EvolutionMode, format: &dyn Format) -> Option<String> {
        if let Some(name) = &self.file_options.rescued_column {
            return Some(name.clone());
        }
        let inferred =
            self.read.reader != Reader::Plain && self.read.schema.is_none() && format.fixed_schema().is_none();
        let rescues = inferred && mode != EvolutionMode::None || mode == EvolutionMode::Rescue;
        let taken =
            data.fields.iter().any(|field| field.name() == "_rescued_data" && field.data_type() != &DataType::Utf8);
        (rescues && !taken).then(|| "_rescued_data".to_owned())
    }
}

fn nullable(field: &Field) -> Arc<Field> {
    Arc::new(field.clone().with_nullable(true))
}

/// Grows the stored schema by the files of one slice, once for all its partitions.
#[derive(Debug)]
struct SliceEvolution {
    growth: Arc<Growth>,
    case_sensitive: bool,
    files: Vec<FileEntry>,
    done: tokio::sync::Mutex<bool>,
}

#[async_trait]
impl Evolution for SliceEvolution {
    fn reports_nested(&self) -> bool {
        !self.growth.stored.settled
    }

    fn widens(&self) -> bool {
        self.growth.mode == EvolutionMode::AddNewColumnsWithTypeWidening
    }

    async fn evolve(&self, error: Error) -> Error {
        if self.growth.mode == EvolutionMode::FailOnNewColumns {
            return new_fields_refused(&error);
        }
        let mut done = self.done.lock().await;
        if !*done {
            if let Err(failed) = self.store().await {
                return failed;
            }
            *done = true;
        }
        error
    }
}

impl SliceEvolution {
    /// Stores the schema grown by the files. What they hold beside it, in nested fields of types that do not go
    /// together, is rescued from then on.
    async fn store(&self) -> Result<()> {
        let Growth { store: Some(store), stored, known, .. } = self.growth.as_ref() else { return Ok(()) };
        let is_structured = |name: &str| known.field_with_name(name).is_ok_and(|field| field.data_type().is_nested());
        let Growth { format, inference, hints, .. } = self.growth.as_ref();
        let observed = infer_structured(format.as_ref(), &self.files, *inference, &is_structured).await?;
        let observed = one_spelling(&without_void(observed), self.case_sensitive);
        let excluded = |name: &str| stored.partition.iter().any(|field| field.name().eq_ignore_ascii_case(name));
        let widen = self.widens().then_some(storable_widening_for_some as Widen);
        let grow = |schema: &Schema| evolve(schema, &observed, widen, &excluded);
        let grown = grow(known);
        let settled = grown == *known;
        if settled && stored.settled {
            return Err(Error::internal("new fields were reported, but the inferred schema does not have them"));
        }
        let schema = StoredSchema {
            data: grow(&stored.data),
            partition: stored.partition.clone(),
            hinted: hints.clone().map(|hints| HintedSchema { hints, data: grown }),
            settled,
        };
        store.put(self.growth.number + 1, &schema).await
    }
}
