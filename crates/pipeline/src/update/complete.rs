//! Flows into materialized views: recomputed from the latest snapshots, replaced in one commit, or left
//! alone if nothing they depend on has changed.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::prelude::SessionContext;
use deltaworks_spark::Result;
use deltaworks_spark::streaming::Backlog;

use super::batch::{Batch, Effect};
use super::checkpoint::{ComputedFrom, Progress};
use super::flow::{FlowRun, Snapshot, bind};
use super::report::{self, Recompute};
use super::target;
use crate::event::FlowStatus;
use crate::graph::dataset::other_reads;

/// Brings a materialized view up to date.
///
/// # Errors
/// Those of a batch; the view is as it was.
pub async fn run(run: &FlowRun) -> Result<()> {
    let mut table = run.open_target().await?;
    let checkpoint = run.checkpoint(&table).await?;
    let committed = checkpoint.committed(&table).await?;
    let plan = run.plan().await?;
    let snapshots = run.snapshots(&plan).await?;
    let computed_from = computed_from(run, &plan, &snapshots)?;
    let reason = why(run, &plan, committed.as_ref(), &computed_from)?;
    if reason == Recompute::NothingChanged {
        // A view that is looked at again and again says so once.
        if !run.status.is(FlowStatus::Idle) {
            report::planned(&run.emitter, &reason);
        }
        return Ok(());
    }
    run.status.tell(FlowStatus::Running);
    report::planned(&run.emitter, &reason);
    let ctx = run.session()?;
    let number = committed.map_or(0, |progress| progress.batch + 1);
    let batch = Batch {
        ctx: &ctx,
        plan: bind(plan, &snapshots)?,
        checkpoint: &checkpoint,
        effect: Effect::Replace(Box::new(target::definition(run.output()?, &run.environment.pipeline_id))),
        cancel: &run.cancel,
    };
    let progress = Progress { computed_from: Some(computed_from), ..Progress::new(number) };
    let outcome = batch.run(&mut table, async || Ok(progress)).await?;
    report::batch(&run.emitter, number, &outcome, Backlog::default());
    Ok(())
}

/// What the result of a batch query depends on, as it is now.
pub fn computed_from(run: &FlowRun, plan: &LogicalPlan, snapshots: &[Snapshot]) -> Result<ComputedFrom> {
    let flow = run.flow()?;
    let definition = target::definition(run.output()?, &run.environment.pipeline_id);
    let others = other_reads(plan)?;
    Ok(ComputedFrom {
        definition: fingerprint(plan, &definition, &flow.conf.all),
        inputs: versions(snapshots),
        others: others.map(|states| states.iter().map(|state| hash(state)).collect()),
    })
}

fn why(run: &FlowRun, plan: &LogicalPlan, committed: Option<&Progress>, now: &ComputedFrom) -> Result<Recompute> {
    if run.force {
        return Ok(Recompute::FullRefresh);
    }
    let Some(before) = committed.and_then(|progress| progress.computed_from.as_ref()) else {
        return Ok(Recompute::FirstTime);
    };
    if before.definition != now.definition {
        return Ok(Recompute::DefinitionChanged);
    }
    if !is_deterministic(plan, &run.session()?)? {
        return Ok(Recompute::NotDeterministic);
    }
    if now.others.is_none() {
        return Ok(Recompute::InputNotInDelta);
    }
    if before.inputs != now.inputs || before.others != now.others {
        return Ok(Recompute::InputChanged);
    }
    Ok(Recompute::NothingChanged)
}

/// The query and everything of the definition and settings that could change the stored result.
fn fingerprint(
    plan: &LogicalPlan,
    definition: &deltaworks_lake::TableDefinition,
    conf: &BTreeMap<String, String>,
) -> String {
    let text = format!("{}\n{:?}\n{definition:?}\n{conf:?}", plan.display_indent_schema(), plan.schema());
    hash(&text)
}

pub(super) fn hash(text: &str) -> String {
    format!("{:032x}", stable_hash(text.as_bytes()))
}

/// FNV-1a with 128 bits: the same on every machine and in every version, unlike the standard library's.
fn stable_hash(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

fn versions(snapshots: &[Snapshot]) -> BTreeMap<String, super::checkpoint::InputVersion> {
    snapshots.iter().map(|snapshot| (snapshot.name.to_string().to_lowercase(), snapshot.version.clone())).collect()
}

/// Whether the query gives the same result each time. Some functions show only after analysis what they stand
/// for: `current_timestamp()` is a cast of `now()`.
pub fn is_deterministic(plan: &LogicalPlan, ctx: &SessionContext) -> Result<bool> {
    let state = ctx.state();
    let analysed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    let mut deterministic = true;
    analysed.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    deterministic = false;
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(deterministic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_hash_is_fixed_forever() {
        assert_eq!(stable_hash(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(stable_hash(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
