//! The words of the event log: causes, states and types.

use super::text_enum::text_enum;

text_enum! {
    /// Why an update runs.
    #[derive(Default)]
    pub enum UpdateCause {
        /// Somebody asked for it.
        #[default]
        UserAction = "USER_ACTION",
        /// A program asked for it.
        ApiCall = "API_CALL",
        /// A job asked for it.
        JobTask = "JOB_TASK",
        /// The update before it failed.
        RetryOnFailure = "RETRY_ON_FAILURE",
        /// A source's schema changed.
        SchemaChange = "SCHEMA_CHANGE",
        /// The service was upgraded.
        ServiceUpgrade = "SERVICE_UPGRADE",
        /// The machines were maintained.
        InfrastructureMaintenance = "INFRASTRUCTURE_MAINTENANCE",
    }
}

text_enum! {
    /// The states of an update, in order; the last three are final.
    pub enum UpdateState {
        /// Waits for another update.
        Queued = "QUEUED",
        /// Was accepted.
        Created = "CREATED",
        /// Waits for machines.
        WaitingForResources = "WAITING_FOR_RESOURCES",
        /// Evaluates the sources and builds the graph.
        Initializing = "INITIALIZING",
        /// Clears what is fully refreshed.
        Resetting = "RESETTING",
        /// Creates and alters tables.
        SettingUpTables = "SETTING_UP_TABLES",
        /// Runs flows.
        Running = "RUNNING",
        /// Ends its flows.
        Stopping = "STOPPING",
        /// Every flow did its work.
        Completed = "COMPLETED",
        /// A definition is wrong or a flow failed.
        Failed = "FAILED",
        /// Was stopped on request.
        Canceled = "CANCELED",
    }
}

impl UpdateState {
    /// Whether no other state follows.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

text_enum! {
    /// The states of a flow.
    pub enum FlowStatus {
        /// Waits for its inputs or for a free place.
        Queued = "QUEUED",
        /// Its batch is being planned.
        Planning = "PLANNING",
        /// Is about to run.
        Starting = "STARTING",
        /// Runs; with numbers: wrote a batch.
        Running = "RUNNING",
        /// Did its work.
        Completed = "COMPLETED",
        /// Failed for good, or for this attempt.
        Failed = "FAILED",
        /// An input failed.
        Skipped = "SKIPPED",
        /// Was stopped on request.
        Stopped = "STOPPED",
        /// Runs continuously and has nothing to read.
        Idle = "IDLE",
        /// Was not selected for this update.
        Excluded = "EXCLUDED",
    }
}

impl FlowStatus {
    /// Whether no other state follows in a triggered update (apart from a retry after `Failed`).
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Stopped | Self::Excluded)
    }
}

text_enum! {
    /// What a dataset is.
    pub enum DatasetType {
        /// Recomputed from its query.
        MaterializedView = "MATERIALIZED_VIEW",
        /// Appended to by flows.
        StreamingTable = "STREAMING_TABLE",
        /// A query with a name.
        View = "VIEW",
    }
}

text_enum! {
    /// How a flow writes.
    pub enum FlowType {
        /// Rewrites the table.
        Complete = "COMPLETE",
        /// Appends rows.
        Append = "APPEND",
        /// Applies a change feed (AUTO CDC).
        Change = "CHANGE",
        /// Applies the difference of snapshots.
        SnapshotChange = "SNAPSHOT_CHANGE",
        /// Refreshes a materialized view.
        MaterializedView = "MATERIALIZED_VIEW",
        /// Writes nothing: a view.
        View = "VIEW",
    }
}

text_enum! {
    /// The language of a definition.
    pub enum Language {
        /// SQL.
        Sql = "SQL",
        /// Python.
        Python = "PYTHON",
    }
}

text_enum! {
    /// Long operations that are not flows.
    pub enum OperationType {
        /// Lists new files.
        AutoLoaderListing = "AUTO_LOADER_LISTING",
        /// Lists all files again.
        AutoLoaderBackfill = "AUTO_LOADER_BACKFILL",
        /// Fetches from a connector.
        ConnectorFetch = "CONNECTOR_FETCH",
        /// Takes a snapshot of a source table.
        CdcSnapshot = "CDC_SNAPSHOT",
    }
}

text_enum! {
    /// The states of an operation or a hook.
    pub enum OperationStatus {
        /// Began.
        Started = "STARTED",
        /// Goes on.
        InProgress = "IN_PROGRESS",
        /// Ended well.
        Completed = "COMPLETED",
        /// Was stopped on request.
        Canceled = "CANCELED",
        /// Failed.
        Failed = "FAILED",
    }
}
