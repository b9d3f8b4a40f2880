//! The dataflow graph as text, DOT and Mermaid.

use std::collections::HashMap;
use std::fmt::Write as _;

use itertools::Itertools as _;

use crate::args::GraphFormat;
use crate::engine::{DatasetSummary, GraphSummary};

/// The graph in `format`, ending with a line break.
pub(crate) fn render(graph: &GraphSummary, format: GraphFormat) -> String {
    match format {
        GraphFormat::Text => text(graph),
        GraphFormat::Dot => dot(graph),
        GraphFormat::Mermaid => mermaid(graph),
    }
}

fn text(graph: &GraphSummary) -> String {
    let mut out = String::new();
    for dataset in &graph.datasets {
        let _ = writeln!(out, "{} ({})", dataset.name, dataset.kind);
        if let Some(comment) = &dataset.comment {
            let _ = writeln!(out, "    {}", comment.lines().next().unwrap_or_default());
        }
        for flow in &dataset.flows {
            let via = if flow.name == dataset.name { String::new() } else { format!(" by flow {}", flow.name) };
            if flow.inputs.is_empty() {
                let _ = writeln!(out, "  <- nothing of the pipeline{via}");
            }
            for input in flow.inputs.iter().unique() {
                let _ = writeln!(out, "  <- {input}{via}");
            }
        }
        if let Some(location) = &dataset.location {
            let _ = writeln!(out, "  at {location}");
        }
    }
    out
}

/// Nodes of the drawing: every dataset, then every input that is none.
struct Nodes<'a> {
    ids: HashMap<&'a str, usize>,
    outside: Vec<&'a str>,
}

impl<'a> Nodes<'a> {
    fn new(graph: &'a GraphSummary) -> Self {
        let mut ids: HashMap<&str, usize> =
            graph.datasets.iter().enumerate().map(|(id, dataset)| (dataset.name.as_str(), id)).collect();
        let mut outside = Vec::new();
        for (_, input) in edges(graph) {
            if !ids.contains_key(input) {
                ids.insert(input, graph.datasets.len() + outside.len());
                outside.push(input);
            }
        }
        Self { ids, outside }
    }

    fn id(&self, name: &str) -> String {
        format!("n{}", self.ids.get(name).copied().unwrap_or_default())
    }
}

/// Outputs with what they read, each pair once.
fn edges(graph: &GraphSummary) -> impl Iterator<Item = (&DatasetSummary, &str)> {
    graph.datasets.iter().flat_map(|dataset| {
        let inputs = dataset.flows.iter().flat_map(|flow| &flow.inputs).map(String::as_str).unique();
        inputs.map(move |input| (dataset, input))
    })
}

fn dot(graph: &GraphSummary) -> String {
    let nodes = Nodes::new(graph);
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = "digraph pipeline {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for dataset in &graph.datasets {
        let style =
            if dataset.kind.contains("view") && dataset.kind.contains("temporary") { " style=dashed" } else { "" };
        let _ = writeln!(
            out,
            "  {} [label=\"{}\\n{}\"{style}];",
            nodes.id(&dataset.name),
            escaped(&dataset.name),
            escaped(&dataset.kind)
        );
    }
    for name in &nodes.outside {
        let _ = writeln!(out, "  {} [label=\"{}\" shape=cylinder];", nodes.id(name), escaped(name));
    }
    for (dataset, input) in edges(graph) {
        let _ = writeln!(out, "  {} -> {};", nodes.id(input), nodes.id(&dataset.name));
    }
    out.push_str("}\n");
    out
}

fn mermaid(graph: &GraphSummary) -> String {
    let nodes = Nodes::new(graph);
    let escaped = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let mut out = "flowchart LR\n".to_owned();
    for dataset in &graph.datasets {
        let label = format!("{}<br/>{}", escaped(&dataset.name), escaped(&dataset.kind));
        let _ = writeln!(out, "  {}[\"{label}\"]", nodes.id(&dataset.name));
    }
    for name in &nodes.outside {
        let _ = writeln!(out, "  {}[(\"{}\")]", nodes.id(name), escaped(name));
    }
    for (dataset, input) in edges(graph) {
        let _ = writeln!(out, "  {} --> {}", nodes.id(input), nodes.id(&dataset.name));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::FlowSummary;

    fn dataset(name: &str, kind: &str, flows: &[(&str, &[&str])]) -> DatasetSummary {
        let flows = flows
            .iter()
            .map(|(name, inputs)| FlowSummary {
                name: (*name).to_owned(),
                inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            })
            .collect();
        DatasetSummary { name: name.to_owned(), kind: kind.to_owned(), comment: None, flows, location: None }
    }

    fn example() -> GraphSummary {
        let mut gold = dataset("gold", "materialized view", &[("gold", &["silver", "silver"])]);
        gold.comment = Some("Sales by \"day\"\nand more".to_owned());
        gold.location = Some("/lake/gold".to_owned());
        GraphSummary {
            datasets: vec![
                dataset("numbers", "temporary view", &[("numbers", &[])]),
                dataset("silver", "streaming table", &[("eu", &["/in/\"eu\"", "numbers"]), ("us", &["numbers"])]),
                gold,
            ],
        }
    }

    #[test]
    fn graph_is_drawn_in_every_format() {
        insta::assert_snapshot!("graph_text", render(&example(), GraphFormat::Text));
        insta::assert_snapshot!("graph_dot", render(&example(), GraphFormat::Dot));
        insta::assert_snapshot!("graph_mermaid", render(&example(), GraphFormat::Mermaid));
    }
}
