//! Subjects by number, with their neighbours: strings are compared once per alert.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::time::Timestamp;
use super::super::topology::{NodeKind, Topology};

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub cluster: Arc<str>,
    pub subject: Arc<str>,
    pub host: bool,
    pub queue: bool,
    /// Whether the topology knows it.
    pub charted: bool,
    pub callees: Arc<[u32]>,
    pub callers: Arc<[u32]>,
    pub incident: Option<u32>,
    /// First and newest alert within `incident`.
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// Whether a critical alert about it is part of `incident`.
    pub critical: bool,
    /// Warnings about it that wait.
    pub waiting: u32,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    numbers: FxHashMap<Arc<str>, FxHashMap<Arc<str>, u32>>,
    topology: Arc<Topology>,
}

impl Graph {
    pub fn at(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub fn at_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    /// The node of a subject. A topology that has changed is charted anew.
    pub fn node(&mut self, cluster: &str, subject: &str, topology: &Arc<Topology>) -> u32 {
        if !Arc::ptr_eq(&self.topology, topology) {
            let same = *self.topology == **topology;
            self.topology = topology.clone();
            if !same {
                for number in 0..self.nodes.len() {
                    self.chart(number as u32);
                }
            }
        }
        let known = self.numbers.get(cluster).and_then(|subjects| subjects.get(subject)).copied();
        let number = known.unwrap_or_else(|| self.intern(cluster, subject));
        self.charted(number);
        number
    }

    fn intern(&mut self, cluster: &str, subject: &str) -> u32 {
        if let Some(number) = self.numbers.get(cluster).and_then(|subjects| subjects.get(subject)) {
            return *number;
        }
        let number = self.nodes.len() as u32;
        let cluster: Arc<str> = match self.numbers.get_key_value(cluster) {
            Some((known, _)) => known.clone(),
            None => cluster.into(),
        };
        let subject: Arc<str> = subject.into();
        self.nodes.push(Node {
            cluster: cluster.clone(),
            subject: subject.clone(),
            host: false,
            queue: false,
            charted: false,
            callees: Arc::new([]),
            callers: Arc::new([]),
            incident: None,
            first_at: Timestamp::default(),
            last_at: Timestamp::default(),
            critical: false,
            waiting: 0,
        });
        self.numbers.entry(cluster).or_default().insert(subject, number);
        number
    }

    fn chart(&mut self, number: u32) {
        let topology = self.topology.clone();
        let (cluster, subject) = (self.at(number).cluster.clone(), self.at(number).subject.clone());
        let callees: Vec<u32> = topology.dependencies(&subject).map(|name| self.intern(&cluster, name)).collect();
        let callers: Vec<u32> = topology.dependents(&subject).map(|name| self.intern(&cluster, name)).collect();
        let node = self.at_mut(number);
        node.charted = topology.contains(&subject);
        node.queue = topology.kind(&subject) == Some(NodeKind::Queue);
        node.host = topology.kind(&subject) == Some(NodeKind::Host);
        node.callees = callees.into();
        node.callers = callers.into();
    }

    /// A neighbour is met as a name first; its own neighbours are looked up when they matter.
    pub fn charted(&mut self, number: u32) {
        let node = self.at(number);
        if !node.charted && self.topology.contains(&node.subject) {
            self.chart(number);
        }
    }
}
