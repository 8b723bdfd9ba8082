//! Who depends on whom, and what an action or a failure reaches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    nodes: BTreeMap<String, NodeKind>,
    /// caller -> callees, service -> hosts
    depends_on: BTreeMap<String, BTreeMap<String, EdgeKind>>,
    dependents: BTreeMap<String, BTreeSet<String>>,
    /// Like `depends_on`: who has seen the edge, and when last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sightings: BTreeMap<String, BTreeMap<String, BTreeMap<EdgeSource, Timestamp>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    Service,
    Database,
    Queue,
    Host,
    External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    Calls,
    RunsOn,
}

/// How an edge is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeSource {
    /// OpenTelemetry's service graph, as metrics.
    ServiceGraph,
    /// Dependencies that a trace store has counted.
    Traces,
    Cluster,
    /// A policy of the cluster gives leave to call.
    NetworkPolicy,
}

impl EdgeSource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceGraph => "service graph",
            Self::Traces => "traces",
            Self::Cluster => "cluster",
            Self::NetworkPolicy => "network policy",
        }
    }
}

impl Topology {
    /// An edge that was seen, not only told: it keeps by whom, and when last.
    pub fn observe(&mut self, from: &str, to: &str, kind: EdgeKind, source: EdgeSource, event_at: Timestamp) {
        self.add_edge(from, to, kind);
        if from == to {
            return;
        }
        let seen = self.sightings.entry(from.to_owned()).or_default().entry(to.to_owned()).or_default();
        let last = seen.entry(source).or_insert(event_at);
        *last = event_at.max(*last);
    }

    /// By whom and when last; empty when the edge was only told.
    pub fn sightings(&self, from: &str, to: &str) -> impl Iterator<Item = (EdgeSource, Timestamp)> + '_ {
        let seen = self.sightings.get(from).and_then(|callees| callees.get(to));
        seen.into_iter().flatten().map(|(source, at)| (*source, *at))
    }

    /// Whether anybody has counted calls, so that more is known than what objects of the cluster say.
    pub fn counted_calls(&self) -> bool {
        let counts = |source: &EdgeSource| matches!(source, EdgeSource::ServiceGraph | EdgeSource::Traces);
        self.sightings.values().flat_map(BTreeMap::values).any(|seen| seen.keys().any(counts))
    }

    pub fn last_seen(&self, from: &str, to: &str) -> Option<Timestamp> {
        self.sightings(from, to).map(|(_, at)| at).max()
    }

    /// Calls that were seen earlier, at most `keep` ago, stay known: who is down calls nobody, and a
    /// source that is away knows nothing. Where a service runs is known now or not at all.
    pub fn remember(&mut self, earlier: &Self, event_now: Timestamp, keep: Duration) {
        for (from, to, kind) in earlier.edges().filter(|(_, _, kind)| *kind == EdgeKind::Calls) {
            let known: Vec<_> = [from, to].into_iter().filter(|name| !self.contains(name)).collect();
            for (source, at) in earlier.sightings(from, to).filter(|(_, at)| event_now.since(*at) <= keep) {
                self.observe(from, to, kind, source, at);
            }
            for name in known.into_iter().filter(|name| self.contains(name)).collect::<Vec<_>>() {
                if let Some(kind) = earlier.kind(name) {
                    self.add_node(name, kind);
                }
            }
        }
    }

    /// Whether both have the same nodes and edges, whenever and by whomever those were seen.
    pub fn has_shape_of(&self, other: &Self) -> bool {
        // Who depends on a node follows from what the others depend on.
        self.nodes == other.nodes && self.depends_on == other.depends_on
    }

    pub fn add_node(&mut self, name: &str, kind: NodeKind) {
        self.nodes.insert(name.to_owned(), kind);
    }

    pub fn add_edge(&mut self, from: &str, to: &str, kind: EdgeKind) {
        if from == to {
            return;
        }
        for name in [from, to] {
            self.nodes.entry(name.to_owned()).or_insert(NodeKind::Service);
        }
        self.depends_on.entry(from.to_owned()).or_default().insert(to.to_owned(), kind);
        self.dependents.entry(to.to_owned()).or_default().insert(from.to_owned());
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    pub fn kind(&self, name: &str) -> Option<NodeKind> {
        self.nodes.get(name).copied()
    }

    pub fn nodes(&self) -> impl Iterator<Item = (&str, NodeKind)> {
        self.nodes.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    pub fn edges(&self) -> impl Iterator<Item = (&str, &str, EdgeKind)> {
        self.depends_on
            .iter()
            .flat_map(|(from, callees)| callees.iter().map(move |(to, kind)| (from.as_str(), to.as_str(), *kind)))
    }

    pub fn dependencies(&self, name: &str) -> impl Iterator<Item = &str> {
        self.depends_on.get(name).into_iter().flat_map(|callees| callees.keys().map(String::as_str))
    }

    /// Called services only, not the hosts below.
    pub fn callees(&self, name: &str) -> impl Iterator<Item = &str> {
        self.depends_on
            .get(name)
            .into_iter()
            .flat_map(|callees| callees.iter().filter(|(_, kind)| **kind == EdgeKind::Calls).map(|(to, _)| to.as_str()))
    }

    pub fn dependents(&self, name: &str) -> impl Iterator<Item = &str> {
        self.dependents.get(name).into_iter().flat_map(|callers| callers.iter().map(String::as_str))
    }

    /// Everything that breaks when `name` breaks, nearest first, without itself.
    pub fn blast_radius(&self, name: &str) -> Vec<String> {
        self.walk(name, |node| self.dependents(node).map(str::to_owned).collect())
    }

    /// Everything that `name` needs, nearest first, without itself.
    pub fn needs(&self, name: &str) -> Vec<String> {
        self.walk(name, |node| self.dependencies(node).map(str::to_owned).collect())
    }

    /// Whether a fault of `cause` can reach `effect` along dependencies; how many steps.
    pub fn reach(&self, cause: &str, effect: &str) -> Option<usize> {
        self.distance_by(cause, effect, |node| self.dependents(node).map(str::to_owned).collect())
    }

    /// Steps between two nodes in either direction through calls. Hosts do not connect their
    /// tenants: a cluster of three nodes would make every service a neighbour of every other.
    pub fn distance(&self, one: &str, other: &str) -> Option<usize> {
        self.distance_by(one, other, |node| {
            let host = self.kind(node) == Some(NodeKind::Host) && node != one && node != other;
            if host {
                return vec![];
            }
            self.dependencies(node).chain(self.dependents(node)).map(str::to_owned).collect()
        })
    }

    fn walk(&self, start: &str, next: impl Fn(&str) -> Vec<String>) -> Vec<String> {
        let mut seen = BTreeSet::from([start.to_owned()]);
        let mut queue = VecDeque::from([start.to_owned()]);
        let mut reached = vec![];
        while let Some(node) = queue.pop_front() {
            for neighbour in next(&node) {
                if seen.insert(neighbour.clone()) {
                    reached.push(neighbour.clone());
                    queue.push_back(neighbour);
                }
            }
        }
        reached
    }

    fn distance_by(&self, from: &str, to: &str, next: impl Fn(&str) -> Vec<String>) -> Option<usize> {
        if from == to {
            return Some(0);
        }
        let mut seen = BTreeSet::from([from.to_owned()]);
        let mut queue = VecDeque::from([(from.to_owned(), 0)]);
        while let Some((node, steps)) = queue.pop_front() {
            for neighbour in next(&node) {
                if neighbour == to {
                    return Some(steps + 1);
                }
                if seen.insert(neighbour.clone()) {
                    queue.push_back((neighbour, steps + 1));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_secs(minute * 60)
    }

    #[test]
    fn a_call_that_was_seen_lately_stays_known_with_its_age() {
        let mut earlier = Topology::default();
        earlier.observe("web", "cart", EdgeKind::Calls, EdgeSource::ServiceGraph, at(100));
        earlier.observe("cart", "db", EdgeKind::Calls, EdgeSource::Traces, at(10));
        earlier.observe("cart", "node-1", EdgeKind::RunsOn, EdgeSource::Cluster, at(100));
        earlier.add_node("cart", NodeKind::Service);
        earlier.add_node("db", NodeKind::Database);
        let mut now = Topology::default();
        now.observe("cart", "bank", EdgeKind::Calls, EdgeSource::Traces, at(130));
        now.remember(&earlier, at(130), Duration::from_secs(3600));
        let edges: Vec<_> = now.edges().map(|(from, to, _)| format!("{from} {to}")).collect();
        assert_eq!(edges, ["cart bank", "web cart"], "what was last seen two hours ago is gone, and so is the host");
        assert_eq!(now.last_seen("web", "cart"), Some(at(100)));
        assert!(!now.contains("db"));
        now.remember(&earlier, at(130), Duration::from_secs(7200));
        assert_eq!((now.kind("db"), now.last_seen("cart", "db")), (Some(NodeKind::Database), Some(at(10))));
    }

    #[test]
    fn a_shape_is_nodes_and_edges_and_not_when_they_were_seen() {
        let seen = |minute| {
            let mut topology = Topology::default();
            topology.observe("web", "cart", EdgeKind::Calls, EdgeSource::Traces, at(minute));
            topology
        };
        let before = seen(5);
        assert!(seen(6).has_shape_of(&before) && seen(6) != before);
        let mut other = seen(5);
        other.add_node("cart", NodeKind::Database);
        assert!(!other.has_shape_of(&before), "another kind");
        let mut other = seen(5);
        other.add_edge("web", "cart", EdgeKind::RunsOn);
        assert!(!other.has_shape_of(&before), "another kind of edge");
        let mut other = seen(5);
        other.add_edge("web", "bank", EdgeKind::Calls);
        assert!(!other.has_shape_of(&before) && !before.has_shape_of(&other));
    }

    #[test]
    fn each_source_says_when_it_saw_an_edge_last() {
        let mut topology = Topology::default();
        for (source, minute) in [(EdgeSource::Traces, 5), (EdgeSource::ServiceGraph, 9), (EdgeSource::Traces, 3)] {
            topology.observe("a", "b", EdgeKind::Calls, source, at(minute));
        }
        let seen: Vec<_> = topology.sightings("a", "b").collect();
        assert_eq!(seen, [(EdgeSource::ServiceGraph, at(9)), (EdgeSource::Traces, at(5))]);
        let read: Topology = serde_json::from_str(&serde_json::to_string(&topology).unwrap()).unwrap();
        assert_eq!(read, topology);
    }
}
