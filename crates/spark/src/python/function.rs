//! A Python function of rows as one of the engine's functions.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bytes::Bytes;
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::PythonWorkers;
use super::worker::{Input, PythonCall, Task};
use crate::conf::SparkConf;
use crate::error::{Error, Result};
use crate::session::conf_ref;
use crate::types::{canonical, schema_to_json};

/// PySpark's numbers of the kinds of functions: of rows, pickled; of rows, by Arrow; of pandas series; of Arrow
/// arrays; and the last two over iterators.
const BATCHED: i32 = 100;
const ARROW_BATCHED: i32 = 101;
const PANDAS: i32 = 200;
const PANDAS_ITERATOR: i32 = 204;
const ARROW: i32 = 250;
const ARROW_ITERATOR: i32 = 251;

/// How an argument is passed: by position, or by name.
type Argument = Option<String>;

/// A function that gives one value per row.
#[derive(Debug, Clone)]
pub(crate) struct PythonFunction {
    name: String,
    /// The name as the user wrote it.
    title: String,
    eval_type: i32,
    command: Bytes,
    python_version: String,
    output: DataType,
    arguments: Vec<Argument>,
    signature: Signature,
    workers: Arc<PythonWorkers>,
}

impl PythonFunction {
    /// The function of a client.
    ///
    /// # Errors
    /// `Unsupported` for kinds that do not give one value per row.
    pub(crate) fn new(
        name: &str,
        udf: &crate::connect::proto::PythonUdf,
        output: DataType,
        deterministic: bool,
        workers: Arc<PythonWorkers>,
    ) -> Result<Self> {
        let eval_type = match udf.eval_type {
            // Rows travel as Arrow batches, whichever way the user asked for.
            BATCHED | ARROW_BATCHED => ARROW_BATCHED,
            known @ (PANDAS | PANDAS_ITERATOR | ARROW | ARROW_ITERATOR) => known,
            other => {
                return Err(Error::unsupported(format!("the Python function `{name}`, an aggregate (kind {other}),"))
                    .with_help("Use a function of rows, of pandas series or of Arrow arrays."));
            }
        };
        let volatility = if deterministic { Volatility::Stable } else { Volatility::Volatile };
        Ok(Self {
            name: name.to_owned(),
            title: name.to_owned(),
            eval_type,
            command: Bytes::copy_from_slice(&udf.command),
            python_version: udf.python_ver.clone(),
            output,
            arguments: Vec::new(),
            signature: Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], volatility),
            workers,
        })
    }

    /// The function under another name.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The name as the user wrote it, which columns are named by.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// The function called with these arguments; without them all are passed by position.
    pub(crate) fn with_arguments(self, arguments: Vec<Argument>) -> Self {
        Self { arguments, ..self }
    }

    fn task(&self, schema: &Schema, count: usize, conf: &SparkConf) -> Task {
        let arguments = (0..count).map(|i| (i as i32, self.arguments.get(i).cloned().flatten())).collect();
        Task {
            eval_type: self.eval_type,
            python_version: self.python_version.clone(),
            conf: settings(conf),
            eval_conf: vec![("input_type".to_owned(), schema_to_json(schema))],
            call: PythonCall::Function { command: self.command.clone(), arguments },
        }
    }

    fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize, conf: &SparkConf) -> Result<ArrayRef> {
        if rows == 0 {
            return Ok(new_empty_array(&self.output));
        }
        let count = columns.len();
        let plain = columns.iter().map(|column| Ok(cast(column, &canonical(column.data_type()))?));
        let plain: Vec<ArrayRef> = plain.collect::<Result<_>>()?;
        let fields: Vec<_> = plain
            .iter()
            .enumerate()
            .map(|(i, column)| Field::new(format!("_{i}"), column.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), plain, &options)?;
        let task = self.task(&schema, count, conf);
        let results = self
            .workers
            .with_worker(|worker| worker.run(&task, &Input::Batches(std::slice::from_ref(&batch))))
            .map_err(|error| error.context(format!("in the Python function `{}`", self.name)))?;
        let columns: Vec<&ArrayRef> = results.iter().filter_map(|batch| batch.columns().first()).collect();
        let given: usize = columns.iter().map(|column| column.len()).sum();
        if given != rows {
            return Err(Error::user(format!(
                "the Python function `{}` gave {given} values for {rows} rows",
                self.name
            ))
            .with_condition("SCHEMA_MISMATCH_FOR_PANDAS_UDF"));
        }
        let whole = concat(&columns.iter().map(|column| column.as_ref()).collect::<Vec<_>>())?;
        Ok(if *whole.data_type() == self.output { whole } else { cast(&whole, &self.output)? })
    }
}

/// The settings that a worker knows.
pub(super) fn settings(conf: &SparkConf) -> Vec<(String, String)> {
    let known = |key: &str| key.starts_with("spark.sql.execution.") || key.starts_with("spark.sql.legacy.execution.");
    let settings = conf.all.iter().filter(|(key, _)| known(key)).map(|(key, value)| (key.clone(), value.clone()));
    settings.chain([("spark.sql.session.timeZone".to_owned(), conf.time_zone.name().to_owned())]).collect()
}

/// Waits for Python without keeping other tasks from running.
pub(super) fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    let several = tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(wait) } else { wait() }
}

/// Two functions are the same if they are the same code, called in the same way.
impl PartialEq for PythonFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.eval_type == other.eval_type
            && self.command == other.command
            && self.output == other.output
            && self.arguments == other.arguments
    }
}

impl Eq for PythonFunction {}

impl Hash for PythonFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.eval_type, &self.command, &self.arguments).hash(state);
    }
}

impl ScalarUDFImpl for PythonFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.output.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DataFusionResult<Vec<_>>>()?;
        let defaults = SparkConf::pipeline_defaults();
        let conf = conf_ref(&args.config_options).unwrap_or(&defaults);
        let result = blocking(|| self.evaluate(columns, rows, conf).map_err(DataFusionError::from));
        Ok(ColumnarValue::Array(result?))
    }
}
