//! Runs flows along the graph: each as soon as all flows it waits for are done, several at a time.

use std::collections::{HashMap, HashSet};
use std::future::Future;

use datafusion::common::runtime::JoinSet;
use deltaworks_spark::{Error, Result};

use crate::name::DatasetName;

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowOutcome {
    /// Everything there was has been processed.
    Completed,
    /// It failed; what it had committed stays.
    Failed,
    /// It was not started, because a flow it waits for failed or was skipped.
    Skipped,
    /// It was stopped on request.
    Stopped,
    /// It runs again in the same update: the schema of its source has grown, or of one below it.
    Postponed,
}

/// A flow and the flows that must be done before it starts.
#[derive(Debug, Clone)]
pub struct Node {
    /// The flow.
    pub flow: DatasetName,
    /// What it waits for.
    pub waits_for: HashSet<DatasetName>,
}

/// Runs every node with `run`, at most `limit` at a time; `skip` is told of flows that are not started. `outcomes`
/// are those of earlier rounds; they are part of the result.
///
/// # Errors
/// `Internal` if the task of a flow dies, or the nodes wait for each other.
pub async fn run_all<R, F, S>(
    nodes: Vec<Node>,
    mut outcomes: HashMap<DatasetName, FlowOutcome>,
    limit: usize,
    run: R,
    skip: S,
) -> Result<HashMap<DatasetName, FlowOutcome>>
where
    R: Fn(DatasetName) -> F,
    F: Future<Output = FlowOutcome> + Send + 'static,
    S: Fn(&DatasetName),
{
    let mut waiting = nodes;
    let mut running: JoinSet<(DatasetName, FlowOutcome)> = JoinSet::new();
    loop {
        skip_downstream_of_failures(&mut waiting, &mut outcomes, &skip);
        let mut still_waiting = Vec::with_capacity(waiting.len());
        for node in waiting {
            let ready = node.waits_for.iter().all(|input| outcomes.contains_key(input));
            if ready && running.len() < limit.max(1) {
                let future = run(node.flow.clone());
                running.spawn(async move { (node.flow, future.await) });
            } else {
                still_waiting.push(node);
            }
        }
        waiting = still_waiting;
        match running.join_next().await {
            Some(Ok((flow, outcome))) => {
                outcomes.insert(flow, outcome);
            }
            Some(Err(died)) => return Err(Error::internal(format!("the task of a flow died: {died}"))),
            None if waiting.is_empty() => return Ok(outcomes),
            None => {
                let names: Vec<_> = waiting.iter().map(|node| node.flow.name.as_str()).collect();
                return Err(Error::internal(format!("flows wait for each other: {}", names.join(", "))));
            }
        }
    }
}

/// Moves flows that cannot run any more to the outcomes, transitively.
fn skip_downstream_of_failures(
    waiting: &mut Vec<Node>,
    outcomes: &mut HashMap<DatasetName, FlowOutcome>,
    skip: &impl Fn(&DatasetName),
) {
    loop {
        let blocked = waiting.iter().position(|node| {
            node.waits_for
                .iter()
                .any(|input| outcomes.get(input).is_some_and(|outcome| *outcome != FlowOutcome::Completed))
        });
        let Some(position) = blocked else { return };
        let node = waiting.remove(position);
        let of_inputs = || node.waits_for.iter().filter_map(|input| outcomes.get(input));
        let outcome = if of_inputs().all(|outcome| matches!(outcome, FlowOutcome::Completed | FlowOutcome::Postponed)) {
            FlowOutcome::Postponed
        } else {
            skip(&node.flow);
            FlowOutcome::Skipped
        };
        outcomes.insert(node.flow, outcome);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    fn name(name: &str) -> DatasetName {
        DatasetName { catalog: "c".into(), schema: "s".into(), name: name.into() }
    }

    fn node(flow: &str, waits_for: &[&str]) -> Node {
        Node { flow: name(flow), waits_for: waits_for.iter().map(|input| name(input)).collect() }
    }

    async fn check(nodes: Vec<Node>, failing: &'static str) -> (Vec<String>, HashMap<DatasetName, FlowOutcome>) {
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&order);
        let run = move |flow: DatasetName| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().push(flow.name.clone());
                if flow.name == failing { FlowOutcome::Failed } else { FlowOutcome::Completed }
            }
        };
        let outcomes = run_all(nodes, HashMap::new(), 2, run, |_| {}).await.unwrap();
        let order = order.lock().clone();
        (order, outcomes)
    }

    #[tokio::test]
    async fn flows_run_after_what_they_wait_for() {
        let nodes =
            vec![node("gold", &["silver", "dim"]), node("silver", &["bronze"]), node("bronze", &[]), node("dim", &[])];
        let (order, outcomes) = check(nodes, "").await;
        let at = |flow: &str| order.iter().position(|seen| seen == flow).unwrap();
        assert!(at("bronze") < at("silver") && at("silver") < at("gold") && at("dim") < at("gold"));
        assert!(outcomes.values().all(|outcome| *outcome == FlowOutcome::Completed));
    }

    #[tokio::test]
    async fn a_failure_skips_everything_downstream_and_nothing_else() {
        let nodes =
            vec![node("bronze", &[]), node("silver", &["bronze"]), node("gold", &["silver"]), node("other", &[])];
        let (order, outcomes) = check(nodes, "bronze").await;
        assert!(!order.contains(&"silver".to_owned()) && !order.contains(&"gold".to_owned()));
        assert_eq!(outcomes[&name("gold")], FlowOutcome::Skipped);
        assert_eq!(outcomes[&name("other")], FlowOutcome::Completed);
    }
}
