//! Admitted alert + open incidents + topology -> join, open or wait, with the reason.
//!
//! One fault is one story: errors and waiting travel from what is called to who calls it. An alert
//! therefore joins the incident of something that its subject needs, or takes the place of a root
//! that needs its subject; two incidents with one explanation become one. Services that merely have
//! a caller in common do not belong together: that is how independent faults look from above.
//!
//! Invariants: a fingerprint is in at most one open incident (P2); the cost of an alert does not
//! grow with the number of open incidents or of alerts seen.

mod because;
mod book;
#[cfg(test)]
mod click_tests;
mod clicks;
mod crowd;
mod elsewhere;
mod few;
mod graph;
mod lasting;
mod lessons;
mod machine;
mod mention;
mod merging;
pub(in crate::domain) mod names;
mod opening;
mod order;
mod pages;
#[cfg(test)]
mod place_tests;
mod places;
mod resolver;
mod scopes;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod stranger_tests;
mod subject;
#[cfg(test)]
mod tests;
mod voices;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::alert::{Alert, Fingerprint, Reading, Severity};
use super::id::IncidentId;
use super::severity::Said;
use super::time::Timestamp;
use super::topology::Topology;
use graph::Graph;
use lessons::Lessons;
use machine::Falls;
use names::Names;
use order::Order;
use places::Places;
use resolver::Resolvers;
use waiting::{Waiting, WaitingRoom};

pub use because::{Because, Company};
pub use lessons::{Kind, Lesson};
pub use mention::{cluster_of, environment, environment_of, scope};
pub use names::{is_cause, is_machine_down};
pub use voices::{Link, Voices, Why};

#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Alerts further apart in event time than this are not the same story.
    pub window: Duration,
    /// Steps in the dependency graph that are looked at: beyond 1, through nodes that are silent.
    pub reach: usize,
    /// Warnings about this many related subjects within the window open an incident without a critical one.
    pub warnings_open: usize,
    /// The strength, 0 to 1, from which an alert joins.
    pub join_from: f64,
    /// A warning that still fires after this time is an incident of its own.
    pub persists: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10 * 60),
            reach: 2,
            warnings_open: 4,
            join_from: 0.5,
            persists: Duration::from_secs(600),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Placement {
    Join {
        incident: IncidentId,
        why: Why,
    },
    /// A new incident; `gathers` are waiting alerts that belong to it.
    Open {
        because: Because,
        gathers: Vec<Fingerprint>,
    },
    /// Kept for the case that an incident opens near it.
    Wait {
        because: Because,
    },
}

/// A warning that waits for company.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    pub name: Arc<str>,
    pub subject: Arc<str>,
    pub at: Timestamp,
    pub said: Said,
    pub namespaces: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    pub from: IncidentId,
    pub into: IncidentId,
    pub because: String,
}

/// A member that was placed by somebody else.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    pub fingerprint: Fingerprint,
    /// Cluster and environment, as `scope` says it of an alert; the cluster alone means production.
    pub cluster: &'a str,
    pub subject: &'a str,
    pub name: &'a str,
    pub at: Timestamp,
    pub critical: bool,
}

/// What correlation needs to know of an open incident.
#[derive(Debug)]
struct Open {
    id: IncidentId,
    opened_at: Timestamp,
    last_at: Timestamp,
    nodes: Vec<u32>,
    /// Subjects that nothing alerting below them explains.
    roots: Vec<u32>,
    members: Vec<Fingerprint>,
    /// Keys of incidents that were merged into it.
    absorbed: Vec<u32>,
    /// Their names.
    aliases: Vec<IncidentId>,
    /// Keys of incidents that people have split from it.
    apart: Vec<u32>,
    /// People already decide about it or it is acted on: it is not pulled from under them.
    pinned: bool,
}

/// What an alert says of its subject.
#[derive(Debug, Clone, Copy)]
struct Weight {
    critical: bool,
    /// Broken in itself, by the alert's name.
    cause: bool,
}

/// How much it counts that the subject is a member, against another incident that explains new trouble.
const SAME: f64 = 0.8;
/// A subject without news for so long may have new trouble for another reason.
const QUIET: Duration = Duration::from_secs(120);

/// Where a fingerprint is.
#[derive(Debug, Clone, Copy)]
struct Place {
    key: u32,
    node: u32,
    /// When it ended, if it does not fire.
    over: Option<Timestamp>,
}

/// What was quiet for so long and fires again is judged anew, though its incident is still open: that may be for
/// another alert whose end was lost, and nobody would hear of it.
const NEWS_AGAIN: Duration = Duration::from_secs(6 * 3600);

pub struct Correlator {
    rules: Rules,
    graph: Graph,
    names: Names,
    places: Places,
    order: Order,
    falls: Falls,
    crowds: crowd::Crowds,
    resolvers: Resolvers,
    open: FxHashMap<u32, Open>,
    keys: FxHashMap<IncidentId, u32>,
    /// Merged incident -> where it went.
    redirect: FxHashMap<u32, u32>,
    member: FxHashMap<Fingerprint, Place>,
    lessons: Lessons,
    waiting: WaitingRoom,
    /// Reused between alerts.
    named: Vec<u32>,
    heard: Vec<voices::Said>,
    merges: Vec<Merge>,
    /// Scope and name of what comes about over days -> the newest incident of it.
    chores: FxHashMap<(u32, Arc<str>), u32>,
    next_key: u32,
}

/// Warnings that belong together come close together.
const COMPANY: Duration = Duration::from_secs(300);
/// Clocks of senders differ by so much.
const CLOCKS: Duration = Duration::from_secs(300);
/// Warnings of this many names about one subject are company enough.
const NAMES_OPEN: usize = 3;

impl Correlator {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            graph: Graph::default(),
            names: Names::default(),
            places: Places::default(),
            order: Order::default(),
            falls: Falls::default(),
            crowds: crowd::Crowds::default(),
            resolvers: Resolvers::default(),
            open: FxHashMap::default(),
            keys: FxHashMap::default(),
            redirect: FxHashMap::default(),
            member: FxHashMap::default(),
            lessons: Lessons::default(),
            waiting: WaitingRoom::default(),
            named: vec![],
            heard: vec![],
            merges: vec![],
            chores: FxHashMap::default(),
            next_key: 0,
        }
    }

    /// Where the alert belongs. The caller names a new incident with `opened` and `joined`.
    pub fn place(&mut self, alert: &Reading<'_>, topology: &Arc<Topology>) -> Placement {
        if let Some(place) = self.member.get(&alert.fingerprint).copied()
            && let key = self.resolve(place.key)
            && let Some(open) = self.open.get_mut(&key)
        {
            let is_news = place.over.is_some_and(|over| alert.starts_at.since(over) >= NEWS_AGAIN);
            if !is_news {
                self.member.insert(alert.fingerprint, Place { over: None, ..place });
                // What fires again is no news, and keeps the incident open to nothing new.
                return Placement::Join { incident: open.id.clone(), why: Why::again() };
            }
            open.members.retain(|one| *one != alert.fingerprint);
            self.member.remove(&alert.fingerprint);
        }
        let node = self.node_of(alert, topology);
        let known = self.graph.at_mut(node);
        known.speaks = true;
        known.nameless = alert.subject().is_none();
        if !known.serves && alert.is_named() && !names::is_of_machine(alert.name()) {
            (known.serves, known.host) = (true, false);
        }
        if &*known.name != alert.name() {
            (known.name, known.kind) = self.names.read(alert.name());
        }
        let cause = known.kind.cause;
        let mut named = std::mem::take(&mut self.named);
        mention::read(&mut self.graph, alert, node, &mut named);
        self.note_resolver(node, alert.severity() == Severity::Critical, alert.starts_at);
        let placement = self.place_node(node, alert, cause, &named);
        self.named = named;
        let known = self.graph.at(node);
        self.crowds.note(known.scope, known.kind.number, node, alert.starts_at);
        placement
    }

    fn place_node(&mut self, node: u32, alert: &Reading<'_>, cause: bool, named: &[u32]) -> Placement {
        let at = alert.starts_at;
        if let Some((key, why)) = self.blames(node, at, named) {
            return self.join_apart(key, node, alert, why);
        }
        if let Some((key, why)) = self.another(node, alert, cause, named) {
            return self.join(key, node, alert, cause, why);
        }
        if let Some(key) = self.active(node, at).filter(|key| self.stays(*key, node, alert, cause)) {
            let why = self.why(Link::Same, node, None, at, Voices::same());
            return self.join(key, node, alert, cause, why);
        }
        if let Some((key, why)) = self.best(node, alert, cause, named) {
            return self.join(key, node, alert, cause, why);
        }
        // Nothing newer explains it, and what it suffers from lasts.
        if !cause
            && let Some(key) = self.active(node, at)
            && let Some(callee) = self.suffers_from(node, key, at)
        {
            let why = self.why(Link::Needs, node, Some(callee), at, Voices::same());
            return self.join(key, node, alert, cause, why);
        }
        self.without_incident(node, alert, cause)
    }

    /// The incident of whom the alert blames, where its subject is part of another: it suffers from both.
    fn blames(&self, node: u32, at: Timestamp, named: &[u32]) -> Option<(u32, Why)> {
        let own = self.active(node, at)?;
        let blamed = named.iter().copied().filter(|other| !self.graph.at(*other).host);
        let mut ill = blamed.filter_map(|other| Some((self.active(other, at)?, other)));
        let (key, other) = ill.find(|(_, other)| self.graph.callees(node).any(|callee| callee == *other))?;
        let voices = Voices { time: 1.0, topology: voices::BLAMED, ..Voices::default() };
        (key != own).then(|| (key, self.why(Link::Needs, node, Some(other), at, voices)))
    }

    /// The incident that explains new trouble with a member of another better than its own does, which was
    /// quiet about it for a while.
    fn another(&mut self, node: u32, alert: &Reading<'_>, cause: bool, named: &[u32]) -> Option<(u32, Why)> {
        let (at, quiet_since) = (alert.starts_at, self.graph.at(node).last_at);
        if at.since(quiet_since) <= QUIET {
            return None;
        }
        let own = self.active(node, at)?;
        let still = SAME * self.fit(at.abs_diff(quiet_since));
        self.best(node, alert, cause, named).filter(|(key, why)| *key != own && why.voices.total() > still)
    }

    /// Takes the alert in and leaves its subject where it is.
    fn join_apart(&mut self, key: u32, node: u32, alert: &Reading<'_>, why: Why) -> Placement {
        let Some(open) = self.open.get_mut(&key) else {
            return Placement::Wait { because: Because::JustClosed };
        };
        self.waiting.remove(alert.fingerprint);
        open.last_at = open.last_at.max(alert.starts_at);
        if self.member.insert(alert.fingerprint, Place { key, node, over: None }).is_none() {
            open.members.push(alert.fingerprint);
        }
        Placement::Join { incident: open.id.clone(), why }
    }

    /// Whether another alert about a member belongs where the member is. A subject that was only
    /// swept in by a warning is looked at afresh when it turns critical; and so is one that seemed to
    /// suffer from others and proves to be broken in itself.
    fn stays(&self, key: u32, node: u32, alert: &Reading<'_>, cause: bool) -> bool {
        let known = self.graph.at(node);
        // Who suffers from others works hard for a while, with retries and queues.
        let suffers = known.critical && alert.starts_at.abs_diff(known.first_at) <= voices::SOON;
        let strains = suffers && alert.severity() < Severity::Critical && names::is_strain(alert.name());
        if cause && !strains && !known.cause && !self.open.get(&key).is_some_and(|open| open.roots.contains(&node)) {
            return false;
        }
        alert.severity() < Severity::Critical
            || known.critical
            || self.open.get(&key).is_some_and(|open| open.nodes.first() == Some(&node))
    }

    fn join(&mut self, key: u32, node: u32, alert: &Reading<'_>, cause: bool, why: Why) -> Placement {
        let critical = alert.severity() == Severity::Critical;
        let before = (self.graph.at(node).critical, self.graph.at(node).gone);
        self.admit(key, node, alert.fingerprint, alert.starts_at, Weight { critical, cause });
        self.places.note(alert, self.graph.at(node).scope, node, alert.starts_at);
        // What was critical here before has explained already whom it explains.
        let again = why.link == Link::Same && before == (true, self.graph.at(node).gone);
        let news = critical && !again;
        let mut key = key;
        // A warning explains nothing: half of all warnings are about nothing.
        if news {
            key = self.explain_callers(key, node, alert.starts_at);
            key = self.explain_everybody(key, node, alert.starts_at);
        }
        if why.link == Link::CommonNeed {
            key = self.merge_common(key, node, alert.starts_at);
        }
        if why.link != Link::Same {
            key = self.merge_twins(key, node, alert.starts_at);
        }
        match self.open.get(&key) {
            Some(open) => Placement::Join { incident: open.id.clone(), why },
            // Not reached: `admit` was given an open incident.
            None => Placement::Wait { because: Because::JustClosed },
        }
    }

    /// Names an incident, also after a restart.
    pub fn opened(&mut self, incident: &IncidentId, at: Timestamp) {
        if self.keys.contains_key(incident) {
            return;
        }
        let key = self.next_key;
        self.next_key += 1;
        self.keys.insert(incident.clone(), key);
        let open = Open {
            id: incident.clone(),
            opened_at: at,
            last_at: at,
            nodes: vec![],
            roots: vec![],
            members: vec![],
            absorbed: vec![],
            aliases: vec![],
            apart: vec![],
            pinned: false,
        };
        self.open.insert(key, open);
    }

    /// A member that `place` did not join by itself: what opened the incident, what it gathered, and
    /// everything known after a restart.
    pub fn joined(&mut self, incident: &IncidentId, heard: Heard<'_>, topology: &Arc<Topology>) {
        let Some(key) = self.keys.get(incident).map(|key| self.resolve(*key)) else { return };
        let node = self.graph.node(heard.cluster, heard.subject, topology);
        self.waiting.remove(heard.fingerprint);
        let known = self.graph.at_mut(node);
        if &*known.name != heard.name {
            (known.name, known.kind) = self.names.read(heard.name);
            known.speaks = true;
        }
        let cause = known.kind.cause;
        self.note_resolver(node, heard.critical, heard.at);
        self.admit(key, node, heard.fingerprint, heard.at, Weight { critical: heard.critical, cause });
        if heard.critical {
            self.explain_callers(key, node, heard.at);
        }
    }

    /// The firing ended before it found company.
    pub fn ended(&mut self, fingerprint: Fingerprint) {
        self.waiting.remove(fingerprint);
    }

    /// The firing ended, wherever it belongs.
    pub fn ended_at(&mut self, fingerprint: Fingerprint, at: Timestamp) {
        self.ended(fingerprint);
        if let Some(place) = self.member.get_mut(&fingerprint) {
            place.over = Some(at);
        }
    }

    /// What the caller needs to know of a waiting alert when it gathers it.
    pub fn waiting(&self, fingerprint: Fingerprint) -> Option<Patient> {
        let Waiting { node, name, at, said, namespaces, .. } = self.waiting.get(fingerprint)?;
        let (name, subject) = (name.clone(), self.graph.at(*node).subject.clone());
        Some(Patient { name, subject, at: *at, said: *said, namespaces: namespaces.clone() })
    }

    /// After a restart: it waited, and nothing has become of it.
    pub fn waits_again(&mut self, alert: &Alert, topology: &Arc<Topology>) {
        let alert = Reading::of(alert);
        let node = self.node_of(&alert, topology);
        self.wait(&alert, node);
    }

    fn wait(&mut self, alert: &Reading<'_>, node: u32) {
        let Alert { fingerprint, starts_at: at, .. } = **alert;
        let (name, said, namespaces) = (alert.name().into(), Said::by(alert), alert.namespaces());
        self.waiting.add(Waiting { fingerprint, node, name, at, said, namespaces });
    }

    pub fn cluster_of_waiting(&self, fingerprint: Fingerprint) -> Option<Arc<str>> {
        let found = self.waiting.get(fingerprint)?;
        Some(self.graph.scope_of(found.node).clone())
    }

    pub fn incident_of(&self, fingerprint: Fingerprint) -> Option<&IncidentId> {
        let key = self.resolve(self.member.get(&fingerprint)?.key);
        self.open.get(&key).map(|open| &open.id)
    }

    /// The incident is over: the next firing of its alerts is judged anew. Gives those that it had.
    pub fn closed(&mut self, incident: &IncidentId) -> Vec<Fingerprint> {
        let Some(key) = self.keys.remove(incident) else { return vec![] };
        let Some(open) = self.open.remove(&key) else { return vec![] };
        for fingerprint in &open.members {
            self.member.remove(fingerprint);
        }
        for node in open.nodes {
            // It may have become part of another since.
            if self.graph.at(node).incident.is_some_and(|now| self.resolve(now) == key) {
                self.graph.at_mut(node).incident = None;
            }
        }
        for gone in open.absorbed {
            self.redirect.remove(&gone);
        }
        for gone in open.aliases {
            self.keys.remove(&gone);
        }
        open.members
    }

    /// Those that it takes for open and that are not among these.
    pub fn over(&self, open: &HashSet<IncidentId>) -> Vec<IncidentId> {
        self.open.values().map(|known| &known.id).filter(|id| !open.contains(*id)).cloned().collect()
    }

    /// It may take others in, but stays itself from now on.
    pub fn pin(&mut self, incident: &IncidentId) {
        if let Some(open) = self.keys.get(incident).and_then(|key| self.open.get_mut(key)) {
            open.pinned = true;
        }
    }

    /// Incidents that have become one since the last call. The younger went into the older.
    pub fn merges(&mut self) -> Vec<Merge> {
        std::mem::take(&mut self.merges)
    }

    /// How many incidents are open and how many warnings wait.
    pub fn load(&self) -> (usize, usize) {
        (self.open.len(), self.waiting.len())
    }

    fn resolve(&self, key: u32) -> u32 {
        let mut key = key;
        while let Some(next) = self.redirect.get(&key) {
            key = *next;
        }
        key
    }

    /// The open incident that the node is part of, if it was heard of within the window.
    fn active(&self, node: u32, at: Timestamp) -> Option<u32> {
        let known = self.graph.at(node);
        let key = self.resolve(known.incident?);
        let open = self.open.get(&key)?;
        let heard = known.last_at.max(open.last_at);
        // What comes later with an earlier time has been told by another clock.
        let (apart, within) = match at > heard {
            true => (at.since(heard), self.rules.window),
            false => (known.first_at.since(at), self.rules.window + CLOCKS),
        };
        (apart <= within).then_some(key)
    }

    fn admit(&mut self, key: u32, node: u32, fingerprint: Fingerprint, at: Timestamp, weight: Weight) {
        let Weight { critical, cause } = weight;
        let known = self.graph.at(node);
        // Most are services, and their names need not be read for it.
        let gone = !known.serves && (names::is_machine_down(&known.name) || known.host && names::is_gone(&known.name));
        self.waiting.remove(fingerprint);
        let news = self.graph.at(node).incident != Some(key);
        let explained = news && self.active_callee_in(node, key, at);
        // Who is part of an open incident stays there (P2).
        let known = self.member.get(&fingerprint).map(|place| self.resolve(place.key));
        let elsewhere = known.filter(|known| self.open.contains_key(known));
        if elsewhere.is_some_and(|elsewhere| elsewhere != key) {
            return;
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        open.last_at = open.last_at.max(at);
        if elsewhere.is_none() {
            self.member.insert(fingerprint, Place { key, node, over: None });
            open.members.push(fingerprint);
        }
        let known = self.graph.at_mut(node);
        if known.incident.is_some_and(|old| old == key) {
            // Who only warned for a while and turns critical falls ill now.
            let falls = critical && !known.critical && at.since(known.first_at) > voices::SOON;
            known.first_at = if falls { at } else { known.first_at.min(at) };
            known.last_at = known.last_at.max(at);
            known.critical |= critical;
            known.hear(known.kind.number);
            known.cause |= cause;
            known.gone |= gone;
            return;
        }
        (known.incident, known.first_at, known.last_at, known.critical) = (Some(key), at, at, critical);
        (known.cause, known.gone) = (cause, gone);
        known.kinds = [known.kind.number, 0, 0];
        open.nodes.push(node);
        if !explained || cause {
            open.roots.push(node);
        }
        self.order.activated(node, at);
        // What has a neighbour in the incident teaches which kinds of alerts lead which.
        let known = self.graph.at(node);
        let neighbours = self.graph.callees(node).chain(self.graph.callers(node)).map(|one| self.graph.at(one));
        let related = neighbours.filter(|other| other.incident == Some(key)).map(|other| (&other.name, other.first_at));
        self.order.began(&known.name, at, related);
    }
}
