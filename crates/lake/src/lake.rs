//! The stores that tables lie in, and the way to a table.

use std::fmt;
use std::sync::Arc;

use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use deltalake::logstore::{LogStoreRef, StorageConfig, logstore_with};
use deltaworks_spark::error::{Error, Result};
use deltaworks_spark::relation::TimeTravel;
use url::Url;

use crate::definition::TableDefinition;
use crate::error::from_delta;
use crate::state::StateTable;
use crate::table::Table;

/// Opens and creates tables in the object stores it was given. Tables remember it.
#[derive(Clone)]
pub struct Lake {
    stores: Arc<dyn ObjectStoreRegistry>,
}

impl Lake {
    /// Tables in `stores`, which are asked by URL.
    pub fn new(stores: Arc<dyn ObjectStoreRegistry>) -> Self {
        Self { stores }
    }

    /// The stores.
    pub fn stores(&self) -> &Arc<dyn ObjectStoreRegistry> {
        &self.stores
    }

    /// Opens the table at `location`, or returns `None` if there is none.
    ///
    /// # Errors
    /// `User` if the table has no such version or was not there at that time; `Unsupported` for a
    /// store that is not among the lake's; `Data` if the log cannot be read.
    pub async fn open(&self, location: &Url, at: Option<TimeTravel>) -> Result<Option<Table>> {
        Table::open(self, location, at).await
    }

    /// Creates an empty table at `location`, parent folders included.
    ///
    /// # Errors
    /// `DELTA_PATH_EXISTS` (`User`) if there is one already; `Unsupported` for types Delta does not have.
    pub async fn create(&self, location: &Url, definition: &TableDefinition) -> Result<Table> {
        Table::create(self, location, definition).await
    }

    /// The state table at `location`, which need not be there yet.
    pub async fn state_table(&self, location: &Url) -> Result<StateTable> {
        StateTable::open(self, location).await
    }

    pub(crate) fn log_store(&self, location: &Url) -> Result<LogStoreRef> {
        let store = self.stores.get_store(location).map_err(|error| {
            Error::unsupported(format!("a table in a store of scheme `{}`", location.scheme()))
                .with_source(error)
                .with_help("Use a path on the local file system.")
        })?;
        let config = StorageConfig::parse_options(Vec::<(String, String)>::new()).map_err(from_delta)?;
        logstore_with(store, location, config).map_err(from_delta)
    }
}

/// The local file system.
impl Default for Lake {
    fn default() -> Self {
        Self::new(Arc::new(DefaultObjectStoreRegistry::new()))
    }
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lake")
    }
}
