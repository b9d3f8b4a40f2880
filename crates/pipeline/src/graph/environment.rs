//! What resolving and running a pipeline needs to know of it.

use std::sync::Arc;

use deltaworks_lake::Lake;
use deltaworks_sources::SourceContext;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::python::PythonWorkers;
use deltaworks_spark::relation::ObjectName;
use deltaworks_spark::sql::Parameters;
use deltaworks_spark::sql_function::SqlFunction;
use deltaworks_spark::{Error, Result};
use url::Url;

use super::schema_store::Resets;
use crate::definitions::{Definitions, Output};
use crate::event::{Clock, IdGenerator, Redactor};
use crate::functions;
use crate::locations::own_location;
use crate::name::{DatasetName, Namespace};
use crate::session::{Console, Sessions};
use crate::spec::PathMappings;
use crate::storage::Storage;

/// What resolution needs to know of the pipeline.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The pipeline's id.
    pub pipeline_id: String,
    /// What unqualified names mean.
    pub namespace: Namespace,
    /// The pipeline's settings.
    pub conf: SparkConf,
    /// Makes planning sessions.
    pub sessions: Sessions,
    /// Where tables lie.
    pub storage: Storage,
    /// The way to them.
    pub lake: Lake,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids of updates and events.
    pub ids: Arc<dyn IdGenerator>,
    /// Runs the users' functions in Python.
    pub python: Arc<PythonWorkers>,
    /// How paths in source files become paths of this machine.
    pub path_mappings: Arc<PathMappings>,
    /// What `:name` stands for in queries.
    pub parameters: Arc<Parameters>,
    /// The name under which the event log can be read as a table, if the settings publish it.
    pub event_log: Option<DatasetName>,
    /// Keeps the secrets that source files were given out of events and problems.
    pub redactor: Redactor,
    /// Whether updates run until they are stopped.
    pub continuous: bool,
    /// What the update clears; nothing outside an update.
    pub resets: Arc<Resets>,
    /// Where sinks of format `console` are shown.
    pub console: Console,
}

impl Environment {
    /// Where the table of `output` lies.
    ///
    /// # Errors
    /// `User` if the place that the output names for itself cannot be used.
    pub fn table_location(&self, output: &Output) -> Result<Url> {
        match own_location(output, &self.path_mappings)? {
            Some(location) => Ok(location),
            None => self.storage.table(&output.name),
        }
    }

    /// The function in SQL that is stored under a name, as it is written in `namespace`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn function(&self, name: &ObjectName, namespace: &Namespace) -> Result<Option<Arc<SqlFunction>>> {
        match DatasetName::resolve(name, namespace) {
            Ok(name) => Ok(functions::read(&self.storage, &name)?.map(Arc::new)),
            // No function has such a name.
            Err(_) => Ok(None),
        }
    }

    /// The dataset that our own host calls `shown`.
    ///
    /// # Errors
    /// `Internal` if there is none.
    pub fn named(&self, shown: &str, definitions: &Definitions) -> Result<DatasetName> {
        let mut names = definitions.outputs.iter().map(|output| &output.name);
        let found = names.find(|name| name.display_in(&self.namespace) == shown);
        found.cloned().ok_or_else(|| Error::internal(format!("the pipeline has no dataset `{shown}`")))
    }

    /// What sources need to know.
    pub fn source_context(&self, schema_store: Option<Url>) -> SourceContext {
        let mappings = Arc::clone(&self.path_mappings);
        let clock = Arc::clone(&self.clock);
        SourceContext {
            path_mapper: Arc::new(move |path: &str| mappings.map(path)),
            schema_store,
            store_schemas: self.resets.stores_schemas(),
            clock: Arc::new(move || clock.now()),
            stores: Arc::clone(self.lake.stores()),
            ..SourceContext::new(self.conf.clone())
        }
    }
}
