//! Why a materialized view was refreshed the way it was.

use serde::{Deserialize, Serialize};

use super::text_enum::text_enum;

text_enum! {
    /// A way to refresh a materialized view.
    pub enum MaintenanceType {
        /// All of it, from all of its inputs.
        CompleteRecompute = "MAINTENANCE_TYPE_COMPLETE_RECOMPUTE",
        /// Not at all: nothing has changed.
        NoOp = "MAINTENANCE_TYPE_NO_OP",
        /// The partitions whose inputs changed.
        PartitionOverwrite = "MAINTENANCE_TYPE_PARTITION_OVERWRITE",
        /// The rows that changed.
        RowBased = "MAINTENANCE_TYPE_ROW_BASED",
        /// New rows only.
        AppendOnly = "MAINTENANCE_TYPE_APPEND_ONLY",
        /// The groups that changed, from their former result.
        GroupAggregate = "MAINTENANCE_TYPE_GROUP_AGGREGATE",
        /// The groups that changed, computed anew.
        GenericAggregate = "MAINTENANCE_TYPE_GENERIC_AGGREGATE",
        /// The window partitions that changed.
        WindowFunction = "MAINTENANCE_TYPE_WINDOW_FUNCTION",
    }
}

impl MaintenanceType {
    /// The word without its prefix: `ROW_BASED`.
    pub fn short(self) -> &'static str {
        self.as_str().trim_start_matches("MAINTENANCE_TYPE_")
    }
}

text_enum! {
    /// What stands against an incremental refresh.
    pub enum IssueType {
        /// The source has no change feed.
        CdfUnavailable = "CDF_UNAVAILABLE",
        /// The source's Delta protocol changed.
        DeltaProtocolChanged = "DELTA_PROTOCOL_CHANGED",
        /// The source's columns changed.
        DataSchemaChanged = "DATA_SCHEMA_CHANGED",
        /// The source's partitioning changed.
        PartitionSchemaChanged = "PARTITION_SCHEMA_CHANGED",
        /// The source is not a Delta table.
        InputNotInDelta = "INPUT_NOT_IN_DELTA",
        /// A data file of the source is gone.
        DataFileMissing = "DATA_FILE_MISSING",
        /// The query gives another result each time.
        PlanNotDeterministic = "PLAN_NOT_DETERMINISTIC",
        /// The query has no incremental form.
        PlanNotIncrementalizable = "PLAN_NOT_INCREMENTALIZABLE",
        /// The stored plan was written by another version.
        SerializationVersionChanged = "SERIALIZATION_VERSION_CHANGED",
        /// The query changed.
        QueryFingerprintChanged = "QUERY_FINGERPRINT_CHANGED",
        /// A setting that changes results changed.
        ConfigurationChanged = "CONFIGURATION_CHANGED",
        /// There is no earlier result.
        ChangeSetMissing = "CHANGE_SET_MISSING",
        /// The view has expectations.
        ExpectationsNotSupported = "EXPECTATIONS_NOT_SUPPORTED",
        /// The change has too many files.
        TooManyFileActions = "TOO_MANY_FILE_ACTIONS",
        /// A full refresh is cheaper.
        IncrementalPlanRejectedByCostModel = "INCREMENTAL_PLAN_REJECTED_BY_COST_MODEL",
        /// The source does not track rows.
        RowTrackingNotEnabled = "ROW_TRACKING_NOT_ENABLED",
        /// Too many partitions changed.
        TooManyPartitionsChanged = "TOO_MANY_PARTITIONS_CHANGED",
        /// The view has a map column.
        MapTypeNotSupported = "MAP_TYPE_NOT_SUPPORTED",
        /// The session's time zone changed.
        TimeZoneChanged = "TIME_ZONE_CHANGED",
        /// The view's own table was changed by somebody else.
        DataHasChanged = "DATA_HAS_CHANGED",
        /// The time of the last refresh is not known.
        PriorTimestampMissing = "PRIOR_TIMESTAMP_MISSING",
    }
}

/// One thing that stands against an incremental refresh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncrementalizationIssue {
    /// What it is.
    pub issue_type: IssueType,
    /// Whether it rules the technique out, or only makes it dear.
    pub prevent_incrementalization: bool,
    /// The source table it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_name: Option<String>,
    /// The operator it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_name: Option<String>,
    /// The expression it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression_name: Option<String>,
    /// More about plans without an incremental form: `AGGREGATE_WITH_DISTINCT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_not_incrementalizable_sub_type: Option<String>,
    /// More about plans that give another result each time: `TIME_FUNCTION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_not_deterministic_sub_type: Option<String>,
    /// Why it is too dear: `CHANGESET_SIZE_THRESHOLD_EXCEEDED`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_model_rejection_subtype: Option<String>,
}

impl IncrementalizationIssue {
    /// An issue that rules incremental refresh out.
    pub fn preventing(issue_type: IssueType) -> Self {
        Self {
            issue_type,
            prevent_incrementalization: true,
            table_name: None,
            operator_name: None,
            expression_name: None,
            plan_not_incrementalizable_sub_type: None,
            plan_not_deterministic_sub_type: None,
            cost_model_rejection_subtype: None,
        }
    }
}

/// One way to refresh that was considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Technique {
    /// The way.
    pub maintenance_type: MaintenanceType,
    /// Whether it was taken.
    #[serde(default)]
    pub is_chosen: bool,
    /// Whether it could have been taken.
    #[serde(default)]
    pub is_applicable: bool,
    /// What it was estimated to cost, in units that compare only within one event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What stands against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incrementalization_issues: Vec<IncrementalizationIssue>,
}

impl Technique {
    /// The technique that was taken.
    pub fn chosen(maintenance_type: MaintenanceType) -> Self {
        Self {
            maintenance_type,
            is_chosen: true,
            is_applicable: true,
            cost: None,
            incrementalization_issues: Vec::new(),
        }
    }
}

/// Which ways to refresh were considered, and which was taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanningInformation {
    /// The techniques considered.
    pub technique_information: Vec<Technique>,
}

impl PlanningInformation {
    /// The technique that was taken.
    pub fn chosen(&self) -> Option<MaintenanceType> {
        self.technique_information.iter().find(|technique| technique.is_chosen).map(|found| found.maintenance_type)
    }
}
