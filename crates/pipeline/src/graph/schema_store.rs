//! Where the schemas that Auto Loader infers are kept: with the checkpoint of the flow, so that a full refresh
//! forgets them. A location that the user chose (`cloudFiles.schemaLocation`) is the user's and stays as it is.

use std::collections::HashSet;

use deltaworks_lake::Table;
use deltaworks_spark::{Kind, Result, sql};
use parking_lot::Mutex;
use url::Url;

use super::Environment;
use crate::name::{DatasetName, Namespace};
use crate::update::UpdateRequest;
use crate::update::checkpoint::{current_generation, flow_app_id};

/// What an update clears. The flows into it infer their schemas anew, for the generation that begins with it.
#[derive(Debug, Default)]
pub struct Resets {
    /// Whether there is an update at all; analysis alone stores nothing.
    updating: bool,
    all: bool,
    names: HashSet<DatasetName>,
    begun: Mutex<HashSet<DatasetName>>,
    done: Mutex<HashSet<DatasetName>>,
}

impl Resets {
    /// What `request` asks for; names that are not valid are reported where the selection is made.
    pub fn of(request: &UpdateRequest, namespace: &Namespace) -> Self {
        let names = request.full_refresh.iter().filter_map(|written| {
            let name = sql::parse_name(written).ok()?;
            DatasetName::resolve(&name, namespace).ok()
        });
        Self { updating: true, all: request.full_refresh_all, names: names.collect(), ..Self::default() }
    }

    /// Whether what is inferred is stored.
    pub(super) fn stores_schemas(&self) -> bool {
        self.updating
    }

    /// The table of `target` is empty now, and its new generation has begun.
    pub fn done(&self, target: &DatasetName) {
        self.done.lock().insert(target.clone());
    }

    fn is_ahead(&self, target: &DatasetName, protected: bool) -> bool {
        ((self.all && !protected) || self.names.contains(target)) && !self.done.lock().contains(target)
    }
}

/// The folder of the schemas that `flow` infers; `None` if there are none that count, and none are to be stored.
/// `protected`: a full refresh of everything leaves the target alone.
///
/// Schemas count from the first batch of the flow on, in whose rows they are. Before it, they are as old as the
/// attempt that inferred them, perhaps from files that were why it failed.
///
/// # Errors
/// `Unavailable` if the storage does not answer.
pub async fn schema_store(
    environment: &Environment,
    flow: &DatasetName,
    target: &DatasetName,
    protected: bool,
) -> Result<Option<Url>> {
    let resets = &environment.resets;
    let (generation, counts) = match environment.lake.open(&environment.storage.find_table(target)?, None).await {
        Ok(Some(table)) => {
            let generation = current_generation(&table, &environment.pipeline_id).await?;
            match resets.is_ahead(target, protected) {
                true => (generation + 1, false),
                false => (generation, has_batches(environment, flow, &table, generation).await?),
            }
        }
        // A table that does not exist yet is created, not cleared: its first generation is 0.
        Ok(None) => (0, false),
        // A damaged table is no problem of the definitions: it is reported when the update opens it to write.
        Err(error) if error.kind() == Kind::Data => (0, true),
        Err(error) => return Err(error),
    };
    let folder = environment.storage.schemas(flow, target, generation)?;
    if !counts {
        if !resets.updating {
            return Ok(None);
        }
        if resets.begun.lock().insert(flow.clone()) {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    crate::storage::directory_url(&folder).map(Some)
}

async fn has_batches(environment: &Environment, flow: &DatasetName, table: &Table, generation: i64) -> Result<bool> {
    let app_id = flow_app_id(&environment.pipeline_id, flow, generation);
    Ok(table.transaction_version(&app_id).await?.is_some())
}
