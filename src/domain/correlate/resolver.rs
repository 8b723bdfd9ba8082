//! Name resolution: everything in a cluster needs it, and no topology says so.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::time::Timestamp;
use super::voices::{Link, SOON, Said, Voices, Why};
use super::waiting::Waiting;
use super::{COMPANY, Correlator, names};

/// How much it counts that everything needs it. What a service is known to need counts more.
const EVERYBODY_NEEDS: f64 = 0.6;
/// How much it counts where the alert says so itself.
const COMPLAINS: f64 = 0.9;
/// What fell ill no longer before the resolver was noticed did so because of it.
const BEFORE: Duration = Duration::from_secs(100);
/// So many that complain do not each have a reason of their own.
const COMPLAINTS: usize = 4;
const MAX_COMPLAINTS: usize = 64;
const MAX_SCOPES: usize = 10_000;

/// What is heard of name resolution in one scope.
#[derive(Debug, Default)]
struct Heard {
    /// The resolver, or the one that complained when so many had; and when it was said.
    ill: Option<(u32, Timestamp)>,
    complaints: VecDeque<(u32, Timestamp)>,
}

impl Heard {
    fn complaining(&self, at: Timestamp) -> impl Iterator<Item = u32> + '_ {
        self.complaints.iter().filter(move |(_, then)| then.abs_diff(at) <= COMPANY).map(|(one, _)| *one)
    }
}

/// By scope.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    known: FxHashMap<u32, Heard>,
}

impl Correlator {
    /// Whether the newest alert about it says that it cannot resolve names.
    pub(super) fn complains(&self, node: u32) -> bool {
        let known = self.graph.at(node);
        known.kind.of_dns && !known.resolves
    }

    /// Takes notice of the newest alert about the node, if it is about name resolution.
    pub(super) fn note_resolver(&mut self, node: u32, critical: bool, at: Timestamp) {
        let (resolves, complains) = (self.graph.at(node).resolves && critical, self.complains(node));
        let scope = self.graph.at(node).scope;
        if !resolves && !complains
            || self.resolvers.known.len() >= MAX_SCOPES && !self.resolvers.known.contains_key(&scope)
        {
            return;
        }
        let is_heard = self.unresolved(node).is_some_and(|(ill, _)| self.active(ill, at).is_some());
        let heard = self.resolvers.known.entry(scope).or_default();
        if resolves {
            heard.ill = Some((node, at));
            return;
        }
        while heard.complaints.len() >= MAX_COMPLAINTS
            || heard.complaints.front().is_some_and(|(_, then)| at.since(*then) > COMPANY)
        {
            heard.complaints.pop_front();
        }
        match heard.complaints.iter_mut().find(|(one, _)| *one == node) {
            Some((_, last)) => *last = at.max(*last),
            None => heard.complaints.push_back((node, at)),
        }
        if !is_heard && heard.complaining(at).count() >= COMPLAINTS {
            heard.ill = Some((node, at));
        }
    }

    /// How many complain, where the node does and they are many, and which of their warnings about it wait.
    pub(super) fn complaints(&self, node: u32, at: Timestamp) -> Option<(usize, Vec<Waiting>)> {
        let heard = self.resolvers.known.get(&self.graph.at(node).scope).filter(|_| self.complains(node))?;
        let count = heard.complaining(at).count();
        if count < COMPLAINTS {
            return None;
        }
        let others = heard.complaining(at).filter(|one| *one != node);
        let waiting = others.flat_map(|one| self.waiting.about(one)).filter(|one| names::is_of_dns(&one.name));
        Some((count, waiting.filter(|one| one.at.abs_diff(at) <= COMPANY).cloned().collect()))
    }

    /// Who has said last that names are not resolved where the node is, and when.
    fn unresolved(&self, node: u32) -> Option<(u32, Timestamp)> {
        self.resolvers.known.get(&self.graph.at(node).scope)?.ill.filter(|(ill, _)| *ill != node)
    }

    /// Who complains about it belongs to it, as long as it goes on.
    pub(super) fn hear_resolver(&self, node: u32, at: Timestamp, heard: &mut Vec<Said>) {
        if self.complains(node)
            && let Some((ill, _)) = self.unresolved(node)
            && let Some(key) = self.active(ill, at)
        {
            heard.push(Said::topology(key, Link::Resolution, ill, COMPLAINS, 1.0));
        }
    }

    /// The incident that a waiting complaint belongs to by now.
    pub(super) fn resolution_of(&self, found: &Waiting) -> Option<u32> {
        let (ill, _) = self.unresolved(found.node).filter(|_| names::is_of_dns(&found.name))?;
        self.active(ill, self.graph.at(ill).last_at.max(found.at))
    }

    /// What would be an incident of its own has that as its explanation, if it was said just before.
    pub(super) fn for_want_of_names(&self, node: u32, at: Timestamp) -> Option<(u32, Why)> {
        let (ill, said) = self.unresolved(node)?;
        let known = self.graph.at(node);
        // What is broken in itself or not there has another reason.
        let another = known.kind.cause || names::is_gone(&known.name);
        if another || said.since(at) > BEFORE || at.since(said) > SOON || self.lesson(node, ill) < 0.0 {
            return None;
        }
        let voices = Voices { time: 1.0, topology: EVERYBODY_NEEDS, ..Voices::default() };
        Some((self.active(ill, at)?, self.why(Link::Resolution, node, Some(ill), at, voices)))
    }

    /// What fell ill just before name resolution was heard of did so because of it.
    pub(super) fn explain_everybody(&mut self, key: u32, node: u32, at: Timestamp) -> u32 {
        let scope = self.graph.at(node).scope;
        if self.resolvers.known.get(&scope).and_then(|heard| heard.ill) != Some((node, at)) {
            return key;
        }
        let mut key = key;
        let recent: Vec<u32> = self.order.recent(at).collect();
        for other in recent.into_iter().filter_map(|one| self.active(one, at)).collect::<Vec<u32>>() {
            let suffers = |root: &u32| {
                let known = self.graph.at(*root);
                let in_time = known.scope == scope && known.first_at.abs_diff(at) <= BEFORE;
                in_time && !known.cause && self.lesson(*root, node) >= 0.0
            };
            let all = |roots: &[u32]| !roots.is_empty() && roots.iter().all(suffers);
            let other = self.resolve(other);
            if other != key && self.open.get(&other).is_some_and(|open| all(&open.roots)) {
                let who = &self.graph.at(node).subject;
                let because = format!(
                    "alerts about {who} say that names are not resolved in the cluster, and all of it needs that"
                );
                let older = self.older(key, other);
                self.merge(if older == key { other } else { key }, older, because);
                key = self.resolve(key);
            }
        }
        key
    }
}
