//! Physical expressions stay where they are planned while there are lambdas among them.
//!
//! A lambda's variable is, in a physical plan, a column behind those of the input, known by its number. Where DataFusion moves an
//! expression to another input it numbers the columns anew, but not the variables: over an input with more columns, a variable would
//! be read from one of these.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::LambdaExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::Rule;

/// The rules that move expressions.
const MOVING: [&str; 3] = ["ProjectionPushdown", "FilterPushdown", "eager_aggregation"];

/// The rule, which leaves plans with lambdas as they are if it moves expressions.
pub(super) fn guarded(rule: Rule) -> Rule {
    if MOVING.iter().any(|name| rule.name().starts_with(name)) { Arc::new(UnlessLambdas(rule)) } else { rule }
}

#[derive(Debug)]
struct UnlessLambdas(Rule);

impl PhysicalOptimizerRule for UnlessLambdas {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.exists(|node| has_lambda(node.as_ref()))? { Ok(plan) } else { self.0.optimize(plan, config) }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

fn has_lambda(node: &dyn ExecutionPlan) -> Result<bool> {
    let mut found = false;
    node.apply_expressions(&mut |expr| {
        found |= expr.exists(|part| Ok(part.downcast_ref::<LambdaExpr>().is_some()))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
