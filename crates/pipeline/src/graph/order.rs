//! The order of flows: inputs before those that read them.

use indexmap::IndexMap;

use super::ResolvedFlow;
use crate::name::DatasetName;

/// Sorts flows so that every flow comes after all flows that write what it reads; otherwise the order of
/// definition is kept. Resolution has refused cycles already.
pub fn topological(mut flows: IndexMap<DatasetName, ResolvedFlow>) -> IndexMap<DatasetName, ResolvedFlow> {
    let mut sorted = IndexMap::with_capacity(flows.len());
    while !flows.is_empty() {
        let ready: Vec<DatasetName> = flows
            .iter()
            .filter(|(_, flow)| {
                !flow.reads.iter().any(|read| {
                    flows.values().any(|other| other.flow.target == read.name && other.flow.target != flow.flow.target)
                })
            })
            .map(|(name, _)| name.clone())
            .collect();
        if ready.is_empty() {
            // Unreachable for resolved graphs; rather an odd order than a loop without end.
            sorted.extend(std::mem::take(&mut flows));
        }
        for name in ready {
            if let Some((name, flow)) = flows.shift_remove_entry(&name) {
                sorted.insert(name, flow);
            }
        }
    }
    sorted
}
