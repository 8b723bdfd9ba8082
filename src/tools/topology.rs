//! Who depends on whom around a component.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Draft, TellModel, Tool, ToolContext, arguments, schema};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::time::Timestamp;
use crate::domain::topology::{NodeKind, Topology};
use crate::ports::ToolSchema;

const MAX_NAMES: usize = 40;
/// The topology is read every minute; an edge of before was not seen this time.
const FRESH: Duration = Duration::from_secs(180);

pub struct Neighbours;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    node: Option<String>,
}

#[async_trait]
impl Tool for Neighbours {
    fn schema(&self) -> ToolSchema {
        schema(
            "topology",
            "What a component needs (and how that is known), what needs it, where it runs, and everything that \
             breaks when it breaks. \
             Without a node: all names. A fault travels from what is needed to what needs it.",
            json!({"node": {"type": "string"}}),
            &[],
        )
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let Arguments { node } = arguments(value)?;
        let topology = &context.topology;
        let (query, summary, body) = match node {
            None => {
                let all: Vec<_> = topology.nodes().map(|(name, kind)| format!("{name} ({})", word(kind))).collect();
                ("topology".to_owned(), format!("{} components", all.len()), all.join("\n"))
            }
            Some(node) => {
                let kind = topology.kind(&node).ok_or_else(|| {
                    TellModel(format!("nothing is called {node:?}; call this tool without a node to see all names"))
                })?;
                let radius = topology.blast_radius(&node);
                let body = format!(
                    "{node} is a {}\nneeds directly: {}\nneeds in all, nearest first: {}\nneeded directly by: {}\n\
                     breaks with it, nearest first: {}",
                    word(kind),
                    edges(topology, &node, context.event_now),
                    names(topology.needs(&node).iter().map(String::as_str)),
                    names(topology.dependents(&node)),
                    names(radius.iter().map(String::as_str)),
                );
                (format!("topology of {node}"), format!("{} components break with {node}", radius.len()), body)
            }
        };
        let (kind, source, taint) = (EvidenceKind::Topology, "topology", Taint::Observed);
        Ok(Draft { kind, source, query, summary, body, shown: None, series: vec![], taint, found: true })
    }
}

fn word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Service => "service",
        NodeKind::Database => "database",
        NodeKind::Queue => "queue",
        NodeKind::Host => "host",
        NodeKind::External => "external system",
    }
}

/// What is needed, by whom it was seen, and when it was not seen lately.
fn edges(topology: &Topology, node: &str, event_now: Timestamp) -> String {
    let told: Vec<String> = topology
        .dependencies(node)
        .map(|needed| {
            let sources: Vec<_> = topology.sightings(node, needed).map(|(source, _)| source.as_str()).collect();
            let age = topology.last_seen(node, needed).map(|at| event_now.since(at)).filter(|age| *age > FRESH);
            let age = age.map(|age| format!(", last seen {} minutes ago", age.as_secs() / 60)).unwrap_or_default();
            if sources.is_empty() { needed.to_owned() } else { format!("{needed} ({}{age})", sources.join(", ")) }
        })
        .collect();
    names(told.iter().map(String::as_str))
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = all.collect();
    let shown = all.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => "nothing".to_owned(),
        total if total > MAX_NAMES => format!("{shown} and {} more", total - MAX_NAMES),
        _ => shown,
    }
}
