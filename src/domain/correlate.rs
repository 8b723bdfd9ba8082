//! Admitted alert + open incidents + topology -> join, open or wait, with the reason.
//!
//! One fault is one story: errors and waiting travel from what is called to who calls it. An alert
//! therefore joins the incident of something that its subject needs, or takes the place of a root
//! that needs its subject; two incidents with one explanation become one. Services that merely have
//! a caller in common do not belong together: that is how independent faults look from above.
//!
//! Invariants: a fingerprint is in at most one open incident (P2); the cost of an alert does not
//! grow with the number of open incidents or of alerts seen.

mod graph;
mod order;
mod places;
#[cfg(test)]
mod tests;
mod voices;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::alert::{Alert, Fingerprint, Severity};
use super::id::IncidentId;
use super::time::{Timestamp, spoken};
use super::topology::Topology;
use graph::{Graph, Node};
use order::Order;
use places::Places;

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
            window: Duration::from_secs(15 * 60),
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
        because: String,
        gathers: Vec<Fingerprint>,
    },
    /// Kept for the case that an incident opens near it.
    Wait {
        because: String,
    },
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
    pub cluster: &'a str,
    pub subject: &'a str,
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
    /// People already decide about it or it is acted on: it is not pulled from under them.
    pinned: bool,
}

#[derive(Debug, Clone)]
struct Waiting {
    fingerprint: Fingerprint,
    node: u32,
    name: Arc<str>,
    at: Timestamp,
}

pub struct Correlator {
    rules: Rules,
    graph: Graph,
    places: Places,
    order: Order,
    open: FxHashMap<u32, Open>,
    keys: FxHashMap<IncidentId, u32>,
    /// Merged incident -> where it went.
    redirect: FxHashMap<u32, u32>,
    member: FxHashMap<Fingerprint, u32>,
    waiting: VecDeque<Waiting>,
    merges: Vec<Merge>,
    next_key: u32,
}

/// Warnings that wait; the oldest give way.
const MAX_WAITING: usize = 10_000;
/// Warnings that belong together come close together.
const COMPANY: Duration = Duration::from_secs(300);
/// Warnings of this many names about one subject are company enough.
const NAMES_OPEN: usize = 3;
/// Instances of one subject that warn together are company enough.
const INSTANCES_OPEN: usize = 6;

impl Correlator {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            graph: Graph::default(),
            places: Places::default(),
            order: Order::default(),
            open: FxHashMap::default(),
            keys: FxHashMap::default(),
            redirect: FxHashMap::default(),
            member: FxHashMap::default(),
            waiting: VecDeque::new(),
            merges: vec![],
            next_key: 0,
        }
    }

    /// Where the alert belongs. The caller names a new incident with `opened` and `joined`.
    pub fn place(&mut self, alert: &Alert, topology: &Arc<Topology>) -> Placement {
        let at = alert.starts_at;
        if let Some(key) = self.member.get(&alert.fingerprint).map(|key| self.resolve(*key))
            && let Some(open) = self.open.get_mut(&key)
        {
            open.last_at = open.last_at.max(at);
            return Placement::Join { incident: open.id.clone(), why: Why::again() };
        }
        let node = self.graph.node(alert.cluster(), alert.subject().unwrap_or("unknown"), topology);
        if let Some(key) = self.active(node, at).filter(|key| self.stays(*key, node, alert)) {
            let why = self.why(Link::Same, node, None, at, Voices::same());
            return self.join(key, node, alert, why);
        }
        match self.best(node, alert) {
            Some((key, why)) => self.join(key, node, alert, why),
            None => self.without_incident(node, alert),
        }
    }

    /// Whether another alert about a member belongs where the member is. A subject that was only
    /// swept in by a warning is looked at afresh when it turns critical.
    fn stays(&self, key: u32, node: u32, alert: &Alert) -> bool {
        let known = self.graph.at(node);
        alert.severity() < Severity::Critical
            || known.critical
            || self.open.get(&key).is_some_and(|open| open.nodes.first() == Some(&node))
    }

    fn join(&mut self, key: u32, node: u32, alert: &Alert, why: Why) -> Placement {
        self.admit(key, node, alert.fingerprint, alert.starts_at, alert.severity() == Severity::Critical);
        self.places.note(alert, node, alert.starts_at);
        let mut key = key;
        // A warning explains nothing: half of all warnings are about nothing.
        if alert.severity() == Severity::Critical {
            key = self.explain_callers(key, node, alert.starts_at);
        }
        if why.link == Link::CommonNeed {
            key = self.merge_common(key, node, alert.starts_at);
        }
        match self.open.get(&key) {
            Some(open) => Placement::Join { incident: open.id.clone(), why },
            // Not reached: `admit` was given an open incident.
            None => Placement::Wait { because: "its incident has just been closed".into() },
        }
    }

    fn without_incident(&mut self, node: u32, alert: &Alert) -> Placement {
        let at = alert.starts_at;
        self.expire_waiting(at);
        let near: Vec<Waiting> = self.waiting_near(node, at).into_iter().cloned().collect();
        let near: Vec<Waiting> = near.into_iter().filter(|one| at.abs_diff(one.at) <= COMPANY).collect();
        let soon = near.iter();
        let subject = self.graph.at(node).subject.clone();
        if alert.severity() == Severity::Critical {
            self.places.note(alert, node, at);
            let because =
                format!("a critical alert about {subject}; nothing that it needs or that needs it alerts yet");
            return Placement::Open { because, gathers: near.iter().map(|one| one.fingerprint).collect() };
        }
        let mut subjects: Vec<u32> = soon.clone().map(|one| one.node).chain([node]).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let here = soon.filter(|one| one.node == node);
        let mut names: Vec<&str> = here.clone().map(|one| &*one.name).chain([alert.name()]).collect();
        names.sort_unstable();
        names.dedup();
        let company = match (subjects.len(), names.len(), here.count() + 1) {
            (subjects, _, _) if subjects >= self.rules.warnings_open => {
                Some(format!("{subjects} related subjects warn"))
            }
            (_, names, _) if names >= NAMES_OPEN => Some(format!("{names} different warnings about {subject}")),
            (_, _, instances) if instances >= INSTANCES_OPEN => Some(format!("{instances} warnings about {subject}")),
            _ => None,
        };
        if company.is_some()
            && let Some((key, caller)) = self.downstream(node, at)
        {
            let voices = Voices { time: 1.0, topology: 0.6, ..Voices::default() };
            let why = self.why(Link::InTheWakeOf, node, Some(caller), at, voices);
            return self.join(key, node, alert, why);
        }
        if let Some(company) = company {
            let because = format!("{company} within {}", spoken(COMPANY));
            let gathers = near.iter().map(|one| one.fingerprint).collect();
            self.places.note(alert, node, at);
            return Placement::Open { because, gathers };
        }
        let waits = self.waiting.iter().any(|one| one.fingerprint == alert.fingerprint);
        if !waits {
            self.waiting.push_back(Waiting { fingerprint: alert.fingerprint, node, name: alert.name().into(), at });
            self.graph.at_mut(node).waiting += 1;
        }
        if self.waiting.len() > MAX_WAITING {
            self.drop_oldest_waiting();
        }
        Placement::Wait { because: format!("a warning about {subject} by itself: waits for company") }
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
            pinned: false,
        };
        self.open.insert(key, open);
    }

    /// A member that `place` did not join by itself: what opened the incident, what it gathered, and
    /// everything known after a restart.
    pub fn joined(&mut self, incident: &IncidentId, heard: Heard<'_>, topology: &Arc<Topology>) {
        let Some(key) = self.keys.get(incident).map(|key| self.resolve(*key)) else { return };
        let node = self.graph.node(heard.cluster, heard.subject, topology);
        self.forget_waiting(heard.fingerprint);
        self.admit(key, node, heard.fingerprint, heard.at, heard.critical);
        if heard.critical {
            self.explain_callers(key, node, heard.at);
        }
    }

    /// Warnings that have waited so long that company no longer matters. They wait no more; whether
    /// they still fire is for the caller to know.
    pub fn overdue(&mut self, event_now: Timestamp) -> Vec<Fingerprint> {
        let due = |one: &Waiting| event_now.since(one.at) >= self.rules.persists;
        self.waiting.iter().filter(|one| due(one)).map(|one| one.fingerprint).collect()
    }

    /// The incident that a waiting alert would belong to now: its subject's, or that of who calls it.
    pub fn home(&self, fingerprint: Fingerprint) -> Option<IncidentId> {
        let found = self.waiting.iter().find(|one| one.fingerprint == fingerprint)?;
        let at = self.graph.at(found.node).last_at.max(found.at);
        let key = self.active(found.node, at).or_else(|| self.downstream(found.node, at).map(|(key, _)| key))?;
        self.open.get(&key).map(|open| open.id.clone())
    }

    /// An open incident of a caller that is critical, for a queue: it fills because those who empty it
    /// fail. Other warnings below an incident may be faults of their own.
    fn downstream(&self, node: u32, at: Timestamp) -> Option<(u32, u32)> {
        if !self.graph.at(node).queue {
            return None;
        }
        let callers = self.graph.at(node).callers.iter();
        callers
            .filter(|caller| self.graph.at(**caller).critical)
            .find_map(|caller| Some((self.active(*caller, at)?, *caller)))
    }

    pub fn is_overdue(&self, event_now: Timestamp) -> bool {
        self.waiting.front().is_some_and(|one| event_now.since(one.at) >= self.rules.persists)
    }

    /// The firing ended before it found company.
    pub fn ended(&mut self, fingerprint: Fingerprint) {
        self.forget_waiting(fingerprint);
    }

    /// Name, subject and start of a waiting alert, which the caller needs when it gathers it.
    pub fn waiting(&self, fingerprint: Fingerprint) -> Option<(Arc<str>, Arc<str>, Timestamp)> {
        let found = self.waiting.iter().find(|one| one.fingerprint == fingerprint)?;
        Some((found.name.clone(), self.graph.at(found.node).subject.clone(), found.at))
    }

    /// The cluster that a waiting alert is about.
    pub fn cluster_of_waiting(&self, fingerprint: Fingerprint) -> Option<Arc<str>> {
        let found = self.waiting.iter().find(|one| one.fingerprint == fingerprint)?;
        Some(self.graph.at(found.node).cluster.clone())
    }

    pub fn incident_of(&self, fingerprint: Fingerprint) -> Option<&IncidentId> {
        let key = self.resolve(*self.member.get(&fingerprint)?);
        self.open.get(&key).map(|open| &open.id)
    }

    /// The incident is over: the next firing of its alerts is judged anew.
    pub fn closed(&mut self, incident: &IncidentId) {
        let Some(key) = self.keys.remove(incident) else { return };
        let Some(open) = self.open.remove(&key) else { return };
        for fingerprint in open.members {
            self.member.remove(&fingerprint);
        }
        for node in open.nodes {
            self.graph.at_mut(node).incident = None;
        }
        for gone in open.absorbed {
            self.redirect.remove(&gone);
        }
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
        let apart = if at > heard { at.since(heard) } else { known.first_at.since(at) };
        (apart <= self.rules.window).then_some(key)
    }

    fn admit(&mut self, key: u32, node: u32, fingerprint: Fingerprint, at: Timestamp, critical: bool) {
        let explained = self.active_callee_in(node, key, at);
        let Some(open) = self.open.get_mut(&key) else { return };
        open.last_at = open.last_at.max(at);
        if self.member.insert(fingerprint, key).is_none() {
            open.members.push(fingerprint);
        }
        let known = self.graph.at_mut(node);
        if known.incident.is_some_and(|old| old == key) {
            known.first_at = known.first_at.min(at);
            known.last_at = known.last_at.max(at);
            known.critical |= critical;
            return;
        }
        (known.incident, known.first_at, known.last_at, known.critical) = (Some(key), at, at, critical);
        open.nodes.push(node);
        if !explained {
            open.roots.push(node);
        }
        self.order.activated(node, at);
    }

    fn active_callee_in(&self, node: u32, key: u32, at: Timestamp) -> bool {
        self.graph.at(node).callees.iter().any(|callee| self.active(*callee, at) == Some(key))
    }

    /// `node` explains the roots that need it: they are roots no longer, and an incident all of
    /// whose roots it explains is the same incident.
    fn explain_callers(&mut self, key: u32, node: u32, at: Timestamp) -> u32 {
        let callers = self.graph.at(node).callers.clone();
        let mut touched: Vec<u32> = callers.iter().filter_map(|caller| self.active(*caller, at)).collect();
        touched.sort_unstable();
        touched.dedup();
        for other in touched {
            let Some(open) = self.open.get_mut(&other) else { continue };
            let explained = |root: &u32| *root != node && callers.contains(root);
            let all = open.roots.iter().all(explained);
            if other == key {
                // Itself stays, if nothing below it alerts.
                open.roots.retain(|root| !explained(root));
            } else if all && !open.roots.is_empty() {
                let root = open.roots.first().map(|root| self.graph.at(*root).subject.clone());
                let because =
                    format!("{} explains {}, which needs it", self.graph.at(node).subject, root.unwrap_or_default());
                let older = self.older(key, other);
                let younger = if older == key { other } else { key };
                self.merge(younger, older, because);
                let key = self.resolve(key);
                if let Some(open) = self.open.get_mut(&key) {
                    open.roots.retain(|root| !(*root != node && callers.contains(root)));
                }
            }
        }
        self.resolve(key)
    }

    /// What hides behind several roots has come to light: they are one story.
    fn merge_common(&mut self, key: u32, node: u32, at: Timestamp) -> u32 {
        let silent: Vec<u32> = self.graph.at(node).callees.iter().copied().collect();
        let mut key = key;
        for silent in silent {
            if self.active(silent, at).is_some() {
                continue;
            }
            let callers = self.graph.at(silent).callers.clone();
            let mut others: Vec<u32> = callers.iter().filter_map(|caller| self.active(*caller, at)).collect();
            others.sort_unstable();
            others.dedup();
            others.retain(|other| {
                *other != key
                    && self.open.get(other).is_some_and(|open| open.roots.iter().all(|root| callers.contains(root)))
            });
            for other in others {
                let because = format!("all of it needs {}, which says nothing itself", self.graph.at(silent).subject);
                let older = self.older(key, other);
                self.merge(if older == key { other } else { key }, older, because);
                key = self.resolve(key);
            }
        }
        key
    }

    fn older(&self, one: u32, other: u32) -> u32 {
        let age = |key: u32| self.open.get(&key).map(|open| (open.opened_at, key));
        if age(one) <= age(other) { one } else { other }
    }

    fn merge(&mut self, from: u32, into: u32, because: String) {
        let pinned = |key: u32| self.open.get(&key).is_none_or(|open| open.pinned);
        let (from, into) = match (pinned(from), pinned(into)) {
            (true, true) => return,
            (true, false) => (into, from),
            (false, _) => (from, into),
        };
        let Some(gone) = self.open.remove(&from) else { return };
        let Some(open) = self.open.get_mut(&into) else {
            self.open.insert(from, gone);
            return;
        };
        for node in &gone.nodes {
            self.graph.at_mut(*node).incident = Some(into);
        }
        open.last_at = open.last_at.max(gone.last_at);
        open.nodes.extend(gone.nodes);
        open.roots.extend(gone.roots);
        open.members.extend(gone.members);
        open.absorbed.push(from);
        open.absorbed.extend(gone.absorbed);
        self.redirect.insert(from, into);
        self.keys.remove(&gone.id);
        self.merges.push(Merge { from: gone.id, into: open.id.clone(), because });
    }

    fn expire_waiting(&mut self, at: Timestamp) {
        while self.waiting.front().is_some_and(|one| at.since(one.at) > self.rules.window) {
            self.drop_oldest_waiting();
        }
    }

    fn drop_oldest_waiting(&mut self) {
        if let Some(gone) = self.waiting.pop_front() {
            let node: &mut Node = self.graph.at_mut(gone.node);
            node.waiting = node.waiting.saturating_sub(1);
        }
    }

    fn forget_waiting(&mut self, fingerprint: Fingerprint) {
        if let Some(at) = self.waiting.iter().position(|one| one.fingerprint == fingerprint)
            && let Some(gone) = self.waiting.remove(at)
        {
            let node = self.graph.at_mut(gone.node);
            node.waiting = node.waiting.saturating_sub(1);
        }
    }

    /// Waiting warnings about the node, what it needs and what needs it.
    fn waiting_near(&self, node: u32, at: Timestamp) -> Vec<&Waiting> {
        let known = self.graph.at(node);
        let near = |other: u32| other == node || known.callers.contains(&other) || known.callees.contains(&other);
        let some = |other: &u32| self.graph.at(*other).waiting > 0;
        // Most alerts have no warning near them, and the list need not be walked to know it.
        if known.waiting == 0 && !known.callers.iter().chain(known.callees.iter()).any(some) {
            return vec![];
        }
        self.waiting.iter().filter(|one| near(one.node) && at.abs_diff(one.at) <= self.rules.window).collect()
    }
}
