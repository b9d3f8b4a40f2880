//! A DataFusion session with Spark's functions, coercion rules and settings.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_spark::planner::SparkFunctionPlanner;

use crate::coercion::SparkSemantics;
use crate::conf::SparkConf;
use crate::error::Result;
use crate::functions;
use crate::grand_total::NoTotalOfNothing;
use crate::ordered::OrderedAggregates;
use crate::python::OrderedGroups;
use crate::windows::SharedWindowFunctions;

/// What a session is built from.
#[derive(Clone)]
pub struct SessionOptions {
    /// Spark's settings.
    pub conf: SparkConf,
    /// How many partitions a query is run in.
    pub target_partitions: usize,
    /// Memory pool, disk manager, object stores.
    pub runtime: Arc<RuntimeEnv>,
    /// Planners of the operators that plans may hold besides DataFusion's own.
    pub extension_planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
}

/// A session whose plans have Spark's semantics.
///
/// # Errors
/// If a setting is refused by DataFusion.
pub fn session_context(options: SessionOptions) -> Result<SessionContext> {
    let config = session_config(&options);
    let rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(NoTotalOfNothing),
        Arc::new(SparkSemantics),
        Arc::new(OrderedAggregates),
        Arc::new(OrderedGroups),
        Arc::new(TypeCoercion::new()),
        Arc::new(SharedWindowFunctions),
    ];
    let mut extensions = options.extension_planners;
    extensions.push(Arc::new(crate::python::PythonPlanner));
    extensions.push(Arc::new(crate::recursion::RecursionPlanner));
    extensions.push(Arc::new(crate::kept::KeptPlanner));
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(options.runtime)
        .with_default_features()
        .with_analyzer_rules(rules)
        .with_optimizer_rules(crate::optimizer::optimizer_rules())
        .with_physical_optimizer_rules(crate::optimizer::physical_optimizer_rules())
        .with_query_planner(Arc::new(Planner { extensions }));
    // The first planner that has an answer wins.
    let planners = builder.expr_planners().get_or_insert_with(Vec::new);
    planners.insert(0, Arc::new(SparkFunctionPlanner));
    planners.insert(0, Arc::new(functions::FunctionPlanner));
    let mut state = builder.build();
    datafusion_spark::register_all(&mut state)?;
    functions::register(&mut state, &options.conf)?;
    Ok(SessionContext::new_with_state(state))
}

/// The same session, but for joins: they sort their inputs, which spill to disk, and keep none of them in memory.
pub fn with_sorted_joins(session: &SessionContext) -> SessionContext {
    let state = session.state();
    let mut config = state.config().clone();
    config.options_mut().optimizer.prefer_hash_join = false;
    // One partition alone is never sorted.
    let partitions = config.target_partitions().max(2);
    let builder = SessionStateBuilder::new_from_existing(state).with_config(config.with_target_partitions(partitions));
    SessionContext::new_with_state(builder.build())
}

/// Whether a session is one of [`with_sorted_joins`].
pub fn sorts_joins(session: &SessionContext) -> bool {
    !session.state().config_options().optimizer.prefer_hash_join
}

fn session_config(options: &SessionOptions) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(options.target_partitions.max(1));
    let settings = config.options_mut();
    settings.sql_parser.enable_ident_normalization = false;
    settings.sql_parser.collect_spans = true;
    settings.sql_parser.parse_float_as_decimal = true;
    settings.sql_parser.map_string_types_to_utf8view = false;
    // Spark sorts NULLs first in ascending and last in descending order.
    settings.sql_parser.default_null_ordering = "nulls_min".to_owned();
    settings.execution.time_zone = Some(options.conf.time_zone.name().to_owned());
    settings.execution.enable_ansi_mode = options.conf.ansi;
    // The defaults, 0.8 of 100,000 rows, give up on half a million keys that each have twenty rows in any order.
    settings.execution.skip_partial_aggregation_probe_rows_threshold = 200_000;
    settings.execution.skip_partial_aggregation_probe_ratio_threshold = 0.95;
    // It takes a field of a column that a projection has replaced for a field of the column it replaced.
    settings.optimizer.enable_leaf_expression_pushdown = false;
    // Filters leave out row groups. That the decoder leaves out rows, too, costs more than it saves for most queries, most of all where
    // joins ask it to look each row up in what they have collected.
    settings.execution.parquet.pushdown_filters = false;
    settings.execution.parquet.schema_force_view_types = false;
    settings.execution.parquet.coerce_int96 = Some("us".to_owned());
    settings.execution.listing_table_ignore_subdirectory = false;
    if let MemoryLimit::Finite(bytes) = options.runtime.memory_pool.memory_limit() {
        // Each sort sets this much aside from the beginning: several must be possible side by side.
        let reserved = bytes / 16 / options.target_partitions.max(1);
        settings.execution.sort_spill_reservation_bytes = reserved.min(settings.execution.sort_spill_reservation_bytes);
    }
    settings.extensions.insert(SparkSettings(options.conf.clone()));
    config
}

/// Spark's settings as DataFusion carries them.
#[derive(Debug, Clone)]
struct SparkSettings(SparkConf);

impl ConfigExtension for SparkSettings {
    const PREFIX: &'static str = "spark";
}

impl ExtensionOptions for SparkSettings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> DataFusionResult<()> {
        self.0.set(&format!("spark.{key}"), value).map_err(DataFusionError::from)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |(key, value): (&String, &String)| ConfigEntry {
            key: key.clone(),
            value: Some(value.clone()),
            description: "a setting of Spark SQL",
        };
        self.0.all.iter().map(entry).collect()
    }
}

/// Where a session's Spark settings are found.
pub trait HasConf {
    /// DataFusion's settings.
    fn config_options(&self) -> &ConfigOptions;
}

impl HasConf for ConfigOptions {
    fn config_options(&self) -> &ConfigOptions {
        self
    }
}

impl HasConf for SessionState {
    fn config_options(&self) -> &ConfigOptions {
        SessionState::config_options(self)
    }
}

/// Spark's settings of a session; the defaults of a pipeline if it is not a Spark session.
pub fn conf_of(session: &(impl HasConf + ?Sized)) -> SparkConf {
    conf_ref(session.config_options()).cloned().unwrap_or_else(SparkConf::pipeline_defaults)
}

/// Spark's settings without a copy, if the session is one of ours.
pub(crate) fn conf_ref(options: &ConfigOptions) -> Option<&SparkConf> {
    options.extensions.get::<SparkSettings>().map(|settings| &settings.0)
}

struct Planner {
    extensions: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Planner({} extensions)", self.extensions.len())
    }
}

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(self.extensions.clone());
        planner.create_physical_plan(plan, session).await
    }
}
