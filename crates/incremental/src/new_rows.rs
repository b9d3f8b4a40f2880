//! What a batch adds to a state.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::TaskContext;
use parking_lot::Mutex;

use crate::completion::Completion;
use crate::digest_set::DigestSet;
use crate::spool::{Spool, Spooled};
use crate::watermark::Times;

/// What rows that are collected are called where memory is short.
const CONSUMER: &str = "rows to be remembered";

/// Collects rows while a plan runs. Clones share what is collected.
#[derive(Clone)]
pub struct NewRows {
    schema: SchemaRef,
    rows: Arc<Mutex<Spool>>,
    completion: Completion,
}

impl NewRows {
    /// An empty collector of rows of `schema`.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, rows: Arc::default(), completion: Completion::default() }
    }

    pub(crate) fn completion(&self) -> Completion {
        self.completion.clone()
    }

    /// The rows' columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Takes out what has been collected.
    pub fn take(&self) -> Spooled {
        self.rows.lock().take()
    }

    /// Takes keys that are all new. They become rows here, in the task that found them, while others are still at it.
    pub(crate) fn push_digests(&self, digests: DigestSet, context: &TaskContext) -> DataFusionResult<()> {
        for digests in digests.into_arrays() {
            let rows = self.batch(vec![digests?])?;
            self.rows.lock().push(CONSUMER, rows, context)?;
        }
        Ok(())
    }

    /// Takes the columns at `indices`, and when their rows expire if they do.
    pub(crate) fn push(
        &self,
        columns: &[ArrayRef],
        indices: &[usize],
        expires: Option<&Times>,
        context: &TaskContext,
    ) -> DataFusionResult<()> {
        let mut taken: Vec<ArrayRef> = indices.iter().map(|index| Arc::clone(&columns[*index])).collect();
        if let Some(expires) = expires {
            taken.push(Arc::new(expires.clone().with_timezone("UTC")));
        }
        let rows = self.batch(taken)?;
        self.rows.lock().push(CONSUMER, rows, context)
    }

    /// Rows of the state, from columns of types that can be cast to its own.
    fn batch(&self, columns: Vec<ArrayRef>) -> DataFusionResult<RecordBatch> {
        let columns = columns
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| arrow::compute::cast(column, field.data_type()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rows, &other.rows)
    }
}

impl fmt::Debug for NewRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRows").field("schema", &self.schema).finish_non_exhaustive()
    }
}
