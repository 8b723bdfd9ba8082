//! Subjects by number, with their neighbours: strings are compared once per alert.

use std::borrow::Cow;
use std::hash::Hasher as _;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::super::alert::is_in_cluster;
use super::super::time::Timestamp;
use super::super::topology::{NodeKind, Topology};
use super::NAMES_OPEN;
use super::book::{Book, hash};
use super::few::Few;
use super::names::{Kind, is_resolver};
use super::pages::Pages;
use super::scopes::{Found, Scopes};
use super::subject::{is_address, stems};

#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Cluster and environment, by number.
    pub scope: u32,
    pub subject: Arc<str>,
    pub host: bool,
    /// The machine is gone, as its alerts in `incident` say.
    pub gone: bool,
    /// No label of its alerts names it.
    pub nameless: bool,
    /// Whether an alert has ever been about it.
    pub speaks: bool,
    pub queue: bool,
    /// Something that is no machine: by the topology, or because its alerts name it as a service.
    pub serves: bool,
    /// It resolves names for others, by its own name.
    pub resolves: bool,
    /// Whether the topology knows it.
    pub charted: bool,
    /// Whose alerts named it as failing, beyond the topology.
    named_by: Few,
    /// `None`: nothing else. So it is for most, which are machines that an alert names.
    around: Option<Box<Neighbours>>,
    /// The name of the newest alert about it.
    pub name: Arc<str>,
    /// What that name says.
    pub kind: Kind,
    pub incident: Option<u32>,
    /// First and newest alert within `incident`.
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// Whether a critical alert about it is part of `incident`.
    pub critical: bool,
    /// Whether an alert in `incident` says that it is broken in itself.
    pub cause: bool,
    /// Numbers of the first names of alerts about it in `incident`; 0 is none. As many as make an incident.
    pub kinds: [u32; NAMES_OPEN],
}

#[derive(Debug, Clone, Default)]
struct Neighbours {
    callees: Vec<u32>,
    callers: Vec<u32>,
    /// What its alerts named as failing, beyond the topology.
    names: Few,
    /// Those of its charted callees that its alerts have named.
    blamed: Few,
}

static NOBODY: Neighbours = Neighbours { callees: vec![], callers: vec![], names: Few::None, blamed: Few::None };

impl Node {
    /// A critical alert says so, or warnings of several kinds do.
    pub fn is_ill(&self) -> bool {
        self.critical || self.kinds.iter().all(|kind| *kind != 0)
    }

    /// An alert of this kind about it is part of its incident.
    pub fn hear(&mut self, kind: u32) {
        if !self.kinds.contains(&kind)
            && let Some(free) = self.kinds.iter_mut().find(|one| **one == 0)
        {
            *free = kind;
        }
    }

    fn around(&self) -> &Neighbours {
        self.around.as_deref().unwrap_or(&NOBODY)
    }

    fn around_mut(&mut self) -> &mut Neighbours {
        self.around.get_or_insert_default()
    }
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Pages<Node>,
    subjects: Book,
    scopes: Scopes,
    /// Instances that spoke before the service that they are instances of was known, by scope and its name.
    orphans: FxHashMap<(u32, String), Vec<u32>>,
    topology: Arc<Topology>,
    /// Charted names by how they are spelled; `None` where two differ in that only.
    spellings: FxHashMap<u64, Option<Arc<str>>>,
    /// Charted names by what they begin with, before the word that says what kind of thing they are.
    beginnings: FxHashMap<u64, Option<Arc<str>>>,
    /// Hashes of all names here and in the topology: most words of a text are none of them.
    names: FxHashSet<u64>,
}

/// Instances of services not heard of that are remembered.
const MAX_ORPHANS: usize = 20_000;

/// What alerts about one subject name; more is no list of needs but a text about everything.
const MAX_NAMED: usize = 16;
const MAX_NAMED_BY: usize = 256;

/// Machines, charts and code write one name in several ways: `pay-api`, `pay_api`, `PayApi`.
fn spelling(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    for byte in name.bytes().filter(u8::is_ascii_alphanumeric) {
        hasher.write_u8(byte.to_ascii_lowercase());
    }
    hasher.finish()
}

/// Words for kinds of services, which people leave out: `shop.example.com` is what `shop-web` serves.
const KINDS: [&str; 11] =
    ["bff", "web", "api", "ui", "frontend", "gateway", "svc", "service", "app", "server", "backend"];

fn beginning(name: &str) -> Option<&str> {
    let (beginning, kind) = name.rsplit_once(['-', '_'])?;
    (beginning.len() >= 3 && KINDS.iter().any(|word| kind.eq_ignore_ascii_case(word))).then_some(beginning)
}

impl Graph {
    pub fn at(&self, node: u32) -> &Node {
        self.nodes.at(node)
    }

    pub fn at_mut(&mut self, node: u32) -> &mut Node {
        self.nodes.at_mut(node)
    }

    /// The node of a subject. A topology that has changed is charted anew.
    pub fn node(&mut self, cluster: &str, subject: &str, topology: &Arc<Topology>) -> u32 {
        self.read(topology);
        let scope = self.scope(cluster, subject);
        self.node_in(scope, subject)
    }

    pub fn node_in(&mut self, scope: u32, subject: &str) -> u32 {
        let number = match self.known(scope, subject) {
            Some(known) => known,
            None => self.meet(scope, subject),
        };
        self.charted(number);
        number
    }

    pub fn read(&mut self, topology: &Arc<Topology>) {
        if Arc::ptr_eq(&self.topology, topology) {
            return;
        }
        // Edges are seen again with every look, and who depends on whom stays.
        let same = topology.has_shape_of(&self.topology);
        self.topology = topology.clone();
        if same {
            return;
        }
        self.spellings.clear();
        self.beginnings.clear();
        for (name, _) in topology.nodes() {
            self.names.insert(hash(name));
            // Two names that differ in spelling only are two.
            self.spellings.entry(spelling(name)).and_modify(|known| *known = None).or_insert(Some(name.into()));
            if let Some(beginning) = beginning(name) {
                let known = self.beginnings.entry(spelling(beginning));
                known.and_modify(|known| *known = None).or_insert(Some(name.into()));
            }
        }
        for number in 0..self.nodes.len() {
            self.chart(number as u32);
        }
    }

    pub fn scope(&mut self, cluster: &str, subject: &str) -> u32 {
        match self.scopes.find(cluster) {
            Found::One(number) => number,
            Found::Several(first, others) => {
                let speaks = |scope: &u32| {
                    let known = self.subjects.find(*scope, subject);
                    known.is_some_and(|number| self.nodes.at(number).speaks)
                };
                let mut heard = others.iter().copied().filter(speaks);
                match (heard.next(), heard.next()) {
                    (Some(only), None) => only,
                    _ => first,
                }
            }
        }
    }

    /// The scope's alerts name this region, too.
    pub fn teach(&mut self, scope: u32, region: &str) {
        self.scopes.teach(scope, region);
    }

    /// The service of the same name in other clusters of the environment.
    ///
    /// Machines and addresses are named alike in many places and have nothing to do with each other, and what
    /// no label names is not one thing.
    pub fn twins(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let Node { scope, subject, host, nameless, .. } = self.at(node);
        let siblings = match self.scopes.siblings(*scope) {
            [_] => &[],
            _ if *host || *nameless || is_address(subject) => &[],
            siblings => siblings,
        };
        let elsewhere = siblings.iter().filter(move |other| **other != *scope);
        elsewhere.filter_map(|other| self.known(*other, subject))
    }

    /// Cluster and environment of the node's scope, as `super::scope` says it.
    pub fn scope_of(&self, node: u32) -> &Arc<str> {
        self.scopes.name(self.at(node).scope)
    }

    /// Its name for alerts that name no cluster, where they are part of it.
    pub fn scope_unsaid(&self, node: u32) -> Option<String> {
        self.scopes.name_unsaid(self.at(node).scope)
    }

    /// A subject that is not known by this name: it may be by another way to write it.
    fn meet(&mut self, scope: u32, subject: &str) -> u32 {
        if self.is_charted(subject) {
            return self.intern(scope, subject);
        }
        if let Some(name) = self.recognise(scope, subject).map(Cow::into_owned) {
            let number = self.intern(scope, &name);
            self.subjects.add(scope, subject.into(), number);
            self.names.insert(hash(subject));
            return number;
        }
        let base = stems(subject).find(|stem| stem.len() < subject.len());
        let number = self.intern(scope, subject);
        if let Some(instances) = self.orphans.remove(&(scope, subject.to_owned())) {
            for instance in instances {
                self.named(number, instance);
            }
        }
        if let Some(base) = base
            && self.orphans.len() < MAX_ORPHANS
        {
            self.orphans.entry((scope, base.to_owned())).or_default().push(number);
        }
        number
    }

    /// A subject or a neighbour of one that is known already.
    pub fn known(&self, scope: u32, subject: &str) -> Option<u32> {
        self.subjects.find(scope, subject)
    }

    /// The name that is charted, or that alerts are about, and that `name` is a way to write.
    pub fn spelled(&self, scope: u32, name: &str) -> Option<Cow<'_, str>> {
        let speaks = |name: &str| self.known(scope, name).is_some_and(|number| self.at(number).speaks);
        if self.is_charted(name) || speaks(name) {
            let number = self.known(scope, name);
            return Some(number.map_or_else(|| name.to_owned().into(), |number| (&*self.at(number).subject).into()));
        }
        if let Some(known) = self.spellings.get(&spelling(name)) {
            return known.as_deref().map(Cow::Borrowed);
        }
        [name.replace('_', "-"), name.replace('-', "_")].into_iter().find(|name| speaks(name)).map(Cow::Owned)
    }

    /// What serves `shop.example.com`: the only charted name that begins with `shop` and goes on to say what
    /// kind of thing it is.
    pub fn serves_site(&self, site: &str) -> Option<&str> {
        let (name, domain) = site.split_once('.')?;
        let is_site = domain.contains('.') && !is_address(site) && !is_in_cluster(site);
        self.beginnings.get(&spelling(name)).filter(|_| is_site)?.as_deref()
    }

    pub fn is_host(&self, name: &str) -> bool {
        self.topology.kind(name) == Some(NodeKind::Host)
    }

    /// False when the word is no subject of any cluster and not in the topology.
    pub fn has_heard(&self, word: &str) -> bool {
        self.names.contains(&hash(word))
    }

    /// Whether the topology has the name, in whatever cluster.
    pub fn is_charted(&self, subject: &str) -> bool {
        self.topology.contains(subject)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What the node needs: by the topology, and by what its alerts have named.
    pub fn callees(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let node = self.at(node);
        node.around().callees.iter().chain(&*node.around().names).copied()
    }

    /// Who needs the node.
    pub fn callers(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let node = self.at(node);
        node.around().callers.iter().chain(&*node.named_by).copied()
    }

    /// Whether an alert about `node` has named `other` as failing.
    pub fn names(&self, node: u32, other: u32) -> bool {
        let known = self.at(node).around();
        known.names.contains(&other) || known.blamed.contains(&other)
    }

    /// An alert about `node` named `other` as what fails. The topology's word on the direction counts more.
    pub fn named(&mut self, node: u32, other: u32) {
        let named_it = self.at(node).named_by.contains(&other);
        let known = self.at(node).around();
        if known.callees.contains(&other) && !known.blamed.contains(&other) && known.blamed.len() < MAX_NAMED {
            self.at_mut(node).around_mut().blamed.push(other);
            return;
        }
        if node == other || known.callees.contains(&other) || known.callers.contains(&other) {
            return;
        }
        if known.names.contains(&other) || named_it {
            return;
        }
        let (names, named_by) = (known.names.len(), self.at(other).named_by.len());
        if names < MAX_NAMED && named_by < MAX_NAMED_BY {
            self.at_mut(node).around_mut().names.push(other);
            self.at_mut(other).named_by.push(node);
        }
    }

    pub fn intern(&mut self, scope: u32, subject: &str) -> u32 {
        if let Some(known) = self.known(scope, subject) {
            return known;
        }
        self.names.insert(hash(subject));
        let subject: Arc<str> = subject.into();
        let number = self.nodes.push(Node {
            scope,
            subject: subject.clone(),
            host: false,
            gone: false,
            nameless: false,
            speaks: false,
            queue: false,
            serves: false,
            resolves: is_resolver(&subject),
            charted: false,
            named_by: Few::None,
            around: None,
            name: Arc::default(),
            kind: Kind::default(),
            incident: None,
            first_at: Timestamp::default(),
            last_at: Timestamp::default(),
            critical: false,
            cause: false,
            kinds: [0; NAMES_OPEN],
        });
        self.subjects.add(scope, subject, number);
        number
    }

    fn chart(&mut self, number: u32) {
        let topology = self.topology.clone();
        let (scope, subject) = (self.at(number).scope, self.at(number).subject.clone());
        let callees: Vec<u32> = topology.dependencies(&subject).map(|name| self.intern(scope, name)).collect();
        let callers: Vec<u32> = topology.dependents(&subject).map(|name| self.intern(scope, name)).collect();
        let (kind, node) = (topology.kind(&subject), self.at_mut(number));
        node.charted = kind.is_some();
        node.queue = kind == Some(NodeKind::Queue);
        node.serves |= matches!(kind, Some(NodeKind::Database | NodeKind::Queue | NodeKind::External));
        node.host = kind == Some(NodeKind::Host) || node.host && !node.serves;
        if !callees.is_empty() || !callers.is_empty() || node.around.is_some() {
            let around = node.around_mut();
            (around.callees, around.callers) = (callees, callers);
        }
    }

    /// A neighbour is met as a name first; its own neighbours are looked up when they matter.
    pub fn charted(&mut self, number: u32) {
        let node = self.at(number);
        if !node.charted && self.topology.contains(&node.subject) {
            self.chart(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::topology::{EdgeKind, EdgeSource};
    use super::*;

    fn seen(edges: &[(&str, &str)], minute: i64) -> Arc<Topology> {
        let (mut topology, at) = (Topology::default(), Timestamp::from_secs(minute * 60));
        for (from, to) in edges {
            topology.observe(from, to, EdgeKind::Calls, EdgeSource::ServiceGraph, at);
        }
        Arc::new(topology)
    }

    #[test]
    fn who_was_met_is_charted_anew_only_when_the_shape_has_changed() {
        let mut graph = Graph::default();
        let web = graph.node("eu", "web", &seen(&[("web", "cart")], 1));
        let callees = |graph: &Graph| -> Vec<String> {
            graph.callees(web).map(|node| graph.at(node).subject.to_string()).collect()
        };
        assert_eq!(callees(&graph), ["cart"]);
        // Charting anew would put it right again.
        graph.at_mut(web).charted = false;
        graph.read(&seen(&[("web", "cart")], 2));
        assert!(!graph.at(web).charted);
        graph.read(&seen(&[("web", "cart"), ("web", "bank")], 3));
        assert!(graph.at(web).charted);
        assert_eq!(callees(&graph), ["bank", "cart"]);
    }
}
