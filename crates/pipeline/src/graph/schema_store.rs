//! Where the schemas that Auto Loader infers are kept: with the checkpoint of the flow, so that a full refresh
//! forgets them. A location that the user chose (`cloudFiles.schemaLocation`) is the user's and stays as it is.

use std::collections::HashSet;

use deltaworks_spark::{Kind, Result, sql};
use parking_lot::Mutex;
use url::Url;

use super::Environment;
use crate::name::{DatasetName, Namespace};
use crate::update::UpdateRequest;
use crate::update::checkpoint::current_generation;

/// What an update clears. The flows into it infer their schemas anew, for the generation that begins with it.
#[derive(Debug, Default)]
pub struct Resets {
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
        Self { all: request.full_refresh_all, names: names.collect(), ..Self::default() }
    }

    /// The table of `target` is empty now, and its new generation has begun.
    pub fn done(&self, target: &DatasetName) {
        self.done.lock().insert(target.clone());
    }

    fn is_ahead(&self, target: &DatasetName, protected: bool) -> bool {
        ((self.all && !protected) || self.names.contains(target)) && !self.done.lock().contains(target)
    }
}

/// The folder of the schemas that `flow` infers. `protected`: a full refresh of everything leaves the target alone.
///
/// # Errors
/// `Unavailable` if the storage does not answer.
pub async fn schema_store(
    environment: &Environment,
    flow: &DatasetName,
    target: &DatasetName,
    protected: bool,
) -> Result<Url> {
    let stored = match environment.lake.open(&environment.storage.find_table(target)?, None).await {
        // A damaged table is no problem of the definitions: it is reported when the update opens it to write.
        Err(error) if error.kind() == Kind::Data => None,
        opened => opened?,
    };
    let resets = &environment.resets;
    let generation = match &stored {
        Some(table) => current_generation(table, &environment.pipeline_id).await?,
        None => 0,
    };
    // A table that does not exist yet is created, not cleared: its first generation is 0.
    let ahead = stored.is_some() && resets.is_ahead(target, protected);
    let folder = environment.storage.schemas(flow, target, generation + i64::from(ahead))?;
    if ahead && resets.begun.lock().insert(flow.clone()) {
        // Schemas of a full refresh that did not come to its table are as old as that attempt.
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    crate::storage::directory_url(&folder)
}
