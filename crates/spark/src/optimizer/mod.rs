//! The rules that improve plans: DataFusion's, and what ours add to them.

mod counted_rows;
mod eager_aggregation;
mod harmless;
mod join_sides;
mod lambdas;
mod never_null;
mod text_views;

use std::sync::Arc;

use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use counted_rows::CountedRows;
use eager_aggregation::EagerAggregation;
use join_sides::JoinSides;
use text_views::ReadTextViews;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// The rules for logical plans, in the order in which they run.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    rules.insert(0, Arc::new(CountedRows));
    rules.push(Arc::new(ReadTextViews));
    rules
}

/// The rules for physical plans, in the order in which they run.
pub(crate) fn physical_optimizer_rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in PhysicalOptimizer::new().rules {
        let chooses_sides = rule.name() == "join_selection";
        rules.push(if chooses_sides { Arc::new(JoinSides::default()) } else { lambdas::guarded(rule) });
        // It needs to know which input of a join is kept in memory; distribution is not enforced yet.
        if chooses_sides {
            rules.push(lambdas::guarded(Arc::new(EagerAggregation)));
        }
    }
    rules
}
