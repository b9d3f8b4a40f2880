//! Config: the session's settings, and the ones that the stock client itself reads.

use tonic::Status;

use super::{ConnectService, Session};
use crate::connect::proto::{self, KeyValue, config_request::operation::OpType};
use crate::error::{Error, Result};

/// What the stock client asks for: how it encodes local data, infers schemas and shows errors.
const CLIENT_DEFAULTS: &[(&str, &str)] = &[
    ("spark.sql.timestampType", "TIMESTAMP_LTZ"),
    ("spark.sql.session.localRelationCacheThreshold", "1048576"),
    ("spark.sql.session.localRelationSizeLimit", "3221225472"),
    ("spark.sql.session.localRelationChunkSizeRows", "10000"),
    ("spark.sql.session.localRelationChunkSizeBytes", "16777216"),
    ("spark.sql.session.localRelationBatchOfChunksSizeBytes", "1073741824"),
    ("spark.sql.execution.pandas.convertToArrowArraySafely", "false"),
    ("spark.sql.execution.pandas.inferPandasDictAsMap", "false"),
    ("spark.sql.execution.pandas.structHandlingMode", "legacy"),
    ("spark.sql.pyspark.inferNestedDictAsStruct.enabled", "false"),
    ("spark.sql.pyspark.legacy.inferArrayTypeFromFirstElement.enabled", "false"),
    ("spark.sql.pyspark.legacy.inferMapTypeFromFirstPair.enabled", "false"),
    ("spark.sql.execution.arrow.useLargeVarTypes", "false"),
    ("spark.sql.execution.arrow.pyspark.enabled", "true"),
    ("spark.sql.execution.arrow.pyspark.selfDestruct.enabled", "false"),
    ("spark.sql.execution.pythonUDF.arrow.enabled", "false"),
    ("spark.sql.execution.arrow.maxRecordsPerBatch", "10000"),
    ("spark.sql.connect.serverStacktrace.enabled", "false"),
    ("spark.sql.pyspark.jvmStacktrace.enabled", "false"),
    ("spark.sql.pyspark.plotting.max_rows", "1000"),
    ("spark.sql.repl.eagerEval.enabled", "false"),
    ("spark.sql.repl.eagerEval.maxNumRows", "20"),
    ("spark.sql.repl.eagerEval.truncate", "20"),
    ("spark.sql.binaryOutputStyle", "UTF8"),
    ("spark.connect.session.planCompression.threshold", "10485760"),
    ("spark.connect.session.planCompression.defaultAlgorithm", "ZSTD"),
    ("spark.sql.warehouse.dir", "spark-warehouse"),
    ("spark.sql.shuffle.partitions", "200"),
    ("spark.sql.sources.default", "parquet"),
    ("spark.sql.sources.partitionOverwriteMode", "STATIC"),
    ("spark.sql.mapKeyDedupPolicy", "EXCEPTION"),
    ("spark.sql.execution.pythonUDTF.arrow.enabled", "true"),
];

impl ConnectService {
    pub async fn config(&self, request: proto::ConfigRequest) -> Result<proto::ConfigResponse, Status> {
        let session = self.session_of(&request).await?;
        let pairs = match request.operation.and_then(|operation| operation.op_type) {
            Some(operation) => session.config(operation),
            None => Err(Error::internal("a request for settings without an operation")),
        };
        Ok(proto::ConfigResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            pairs: pairs.map_err(|error| session.errors.status(&error))?,
            warnings: Vec::new(),
        })
    }
}

impl Session {
    fn config(&self, operation: OpType) -> Result<Vec<KeyValue>> {
        let pair = |key: String, value: Option<String>| KeyValue { key, value };
        Ok(match operation {
            OpType::Set(set) => {
                for KeyValue { key, value } in &set.pairs {
                    let value = value.as_deref().unwrap_or_default();
                    let result = self.host.set_conf(key, value);
                    if !set.silent() {
                        result?;
                    }
                }
                Vec::new()
            }
            OpType::Get(get) => get
                .keys
                .into_iter()
                .map(|key| match self.setting(&key) {
                    Some(value) => Ok(pair(key, Some(value))),
                    None => Err(Error::user(format!("setting `{key}` does not exist"))
                        .with_condition("SQL_CONF_NOT_FOUND")
                        .with_help("Add it to the configuration of the pipeline, or read it with a default.")),
                })
                .collect::<Result<_>>()?,
            OpType::GetWithDefault(get) => get
                .pairs
                .into_iter()
                .map(|KeyValue { key, value }| {
                    // A default of the client's comes before ours.
                    let set = self.host.conf().all.get(&key).cloned();
                    pair(key.clone(), set.or(value).or_else(|| self.setting(&key)))
                })
                .collect(),
            OpType::GetOption(get) => get.keys.into_iter().map(|key| pair(key.clone(), self.setting(&key))).collect(),
            OpType::GetAll(get) => {
                let prefix = get.prefix.unwrap_or_default();
                let all = self.host.conf().all;
                all.into_iter()
                    .filter_map(|(key, value)| Some(pair(key.strip_prefix(&prefix)?.to_owned(), Some(value))))
                    .collect()
            }
            OpType::Unset(unset) => {
                for key in &unset.keys {
                    self.host.unset_conf(key)?;
                }
                Vec::new()
            }
            OpType::IsModifiable(keys) => keys.keys.into_iter().map(|key| pair(key, Some("true".to_owned()))).collect(),
        })
    }

    pub(super) fn setting(&self, key: &str) -> Option<String> {
        self.host
            .conf()
            .get(key)
            .or_else(|| CLIENT_DEFAULTS.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned()))
    }
}
