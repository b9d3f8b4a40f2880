//! Aggregates: which of DataFusion's stand for Spark's, under which names.

use std::sync::Arc;

use datafusion::execution::FunctionRegistry;
use datafusion::functions_aggregate as df;
use datafusion::logical_expr::AggregateUDF;

use crate::error::Result;

/// Puts DataFusion's aggregates under Spark's names.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let named = |udaf: Arc<AggregateUDF>, names: &'static [&'static str]| {
        Arc::new(udaf.as_ref().clone().with_aliases(names.iter().copied()))
    };
    // The average of datafusion-spark knows doubles only; this one has Spark's types for decimals too.
    registry.register_udaf(named(df::average::avg_udaf(), &["mean"]))?;
    registry.register_udaf(named(df::first_last::first_value_udaf(), &["first", "any_value"]))?;
    registry.register_udaf(named(df::first_last::last_value_udaf(), &["last"]))?;
    registry.register_udaf(named(df::stddev::stddev_udaf(), &["stddev_samp", "std"]))?;
    registry.register_udaf(named(df::variance::var_samp_udaf(), &["variance", "var_samp", "var_sample"]))?;
    registry.register_udaf(named(df::approx_distinct::approx_distinct_udaf(), &["approx_count_distinct"]))?;
    registry.register_udaf(named(df::bool_and_or::bool_and_udaf(), &["every", "bool_and"]))?;
    registry.register_udaf(named(df::bool_and_or::bool_or_udaf(), &["some", "any", "bool_or"]))?;
    Ok(())
}
