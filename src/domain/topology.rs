//! Who depends on whom, and what an action or a failure reaches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    nodes: BTreeMap<String, NodeKind>,
    /// caller -> callees, service -> hosts
    depends_on: BTreeMap<String, BTreeMap<String, EdgeKind>>,
    dependents: BTreeMap<String, BTreeSet<String>>,
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

impl Topology {
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
