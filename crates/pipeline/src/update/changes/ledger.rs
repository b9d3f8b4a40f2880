//! What is remembered of the events of a target beyond its rows.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::lit;
use datafusion::prelude::SessionContext;
use deltaworks_incremental::cdc::{Operation, SEQUENCE};
use deltaworks_lake::{PreparedVersion, Replacement, StateTable, Table};
use deltaworks_spark::{Error, Result};

use super::held::Held;
use super::rewrite::Rewrite;
use super::{MergeInto, operation_column};
use crate::definitions::cdc::ScdType;
use crate::storage::directory_url;
use crate::update::checkpoint::current_generation;

/// The property of a ledger that names the column of its target which holds sequences.
const SEQUENCE_PROPERTY: &str = "deltaworks.sequenceColumn";

/// The ledger of a target, at the version that the target says.
pub struct Ledger {
    state: StateTable,
    app_id: String,
    version: Option<u64>,
    /// At `version`.
    pub table: Option<Table>,
    /// The column of the target that holds the sequence of each key that this has no row of. As when the ledger began: an
    /// older one has rows of all keys.
    pub sequence: Option<String>,
}

/// A ledger whose files are written.
pub struct PendingLedger {
    app_id: String,
    version: PreparedVersion,
}

impl Ledger {
    /// The ledger as `table` says.
    pub async fn open(into: &MergeInto, table: &Table) -> Result<Self> {
        let generation = current_generation(table, &into.pipeline_id).await?;
        let app_id = format!("{}/{}/changes/{generation}", into.pipeline_id, into.target.to_string().to_lowercase());
        let mut state = into.lake.state_table(&directory_url(&into.ledgers.join(generation.to_string()))?).await?;
        let sequence = match state.latest_version() {
            Some(_) => state.property(SEQUENCE_PROPERTY)?,
            None => into.changes.sequence_stored.clone().filter(|_| into.changes.scd_type == ScdType::One),
        };
        if let Some(column) = &sequence {
            state = state.created_with(SEQUENCE_PROPERTY, column.clone());
        }
        let version = table.transaction_version(&app_id).await?.and_then(|version| u64::try_from(version).ok());
        let table = match version {
            Some(version) => Some(state.open_at(version).await?),
            None => None,
        };
        Ok(Self { state, app_id, version, table, sequence })
    }

    /// The sequence of the latest truncation, as an array of one value.
    pub async fn truncated(&self, ctx: &SessionContext) -> Result<Option<ArrayRef>> {
        let Some(table) = &self.table else { return Ok(None) };
        let truncation = operation_column().eq(lit(Operation::Truncate.code()));
        let rows = ctx.read_table(table.provider()?)?.filter(truncation)?.collect().await?;
        let row = rows.iter().find(|rows| rows.num_rows() > 0);
        row.map(|rows| {
            let column = rows.column_by_name(SEQUENCE).ok_or_else(|| Error::internal("the ledger has no sequence"))?;
            Ok(column.slice(0, 1))
        })
        .transpose()
    }

    /// Every row.
    pub async fn rows(&self, ctx: &SessionContext, held: &Held, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        let provider = crate::update::conform::to_schema(table.provider()?, schema)?;
        held.collect(ctx, ctx.read_table(provider)?.create_physical_plan().await?).await
    }

    /// Writes the files of `rewrite`; `None` if nothing changes.
    pub async fn write(mut self, rewrite: Rewrite, ctx: &SessionContext) -> Result<Option<PendingLedger>> {
        // Which column holds sequences has to be known from the first row on.
        let begins = self.version.is_none() && self.sequence.is_some();
        if rewrite.is_empty() && !begins {
            return Ok(None);
        }
        let rows = rewrite.streams(self.table.as_ref(), ctx).await?;
        let Rewrite { replaced, schema, .. } = rewrite;
        let version = self.state.prepare(self.version, Replacement { replaced, rows, schema }).await?;
        Ok(Some(PendingLedger { app_id: self.app_id, version }))
    }
}

impl PendingLedger {
    /// Commits the ledger on behalf of a flow's batch; gives the transaction that the target's commit must have.
    pub async fn commit(self, flow: &str, batch: i64) -> Result<(String, i64)> {
        let version = self.version.commit(flow, batch).await?;
        let version = i64::try_from(version).map_err(|_| Error::internal("the ledger has too many versions"))?;
        Ok((self.app_id, version))
    }
}
