//! Name resolution: everything in a cluster needs it, and no topology says so.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::super::time::Timestamp;
use super::voices::{Link, SOON, Said, Voices, Why};
use super::waiting::Waiting;
use super::{COMPANY, Correlator};

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
    /// The resolver; or the one that complained when so many had.
    ill: Option<u32>,
    complaints: VecDeque<(u32, Timestamp)>,
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
        let ill = self.resolvers.known.get(&scope).and_then(|heard| heard.ill);
        let is_heard = ill.is_some_and(|ill| self.active(ill, at).is_some());
        let heard = self.resolvers.known.entry(scope).or_default();
        if resolves {
            heard.ill = Some(node);
            return;
        }
        while heard.complaints.len() >= MAX_COMPLAINTS
            || heard.complaints.front().is_some_and(|(_, then)| at.since(*then) > COMPANY)
        {
            heard.complaints.pop_front();
        }
        if !heard.complaints.iter().any(|(one, _)| *one == node) {
            heard.complaints.push_back((node, at));
        }
        if heard.complaints.len() >= COMPLAINTS && !is_heard {
            heard.ill = Some(node);
        }
    }

    /// How many complain, where the node does and they are many, and which of their warnings wait.
    pub(super) fn complaints(&self, node: u32) -> Option<(usize, Vec<Waiting>)> {
        let heard = self.resolvers.known.get(&self.graph.at(node).scope).filter(|_| self.complains(node))?;
        if heard.complaints.len() < COMPLAINTS {
            return None;
        }
        let others = heard.complaints.iter().filter(|(one, _)| *one != node && self.complains(*one));
        let waiting = others.flat_map(|(one, _)| self.waiting.about(*one)).cloned().collect();
        Some((heard.complaints.len(), waiting))
    }

    /// The incident in which name resolution fails where the node is, and whoever says so.
    fn unresolved(&self, node: u32, at: Timestamp) -> Option<(u32, u32)> {
        let ill = self.resolvers.known.get(&self.graph.at(node).scope)?.ill?;
        if ill == node || self.graph.at(ill).first_at.abs_diff(at) > SOON {
            return None;
        }
        Some((self.active(ill, at)?, ill))
    }

    /// Who complains about it belongs to it.
    pub(super) fn hear_resolver(&self, node: u32, at: Timestamp, heard: &mut Vec<Said>) {
        if self.complains(node)
            && let Some((key, ill)) = self.unresolved(node, at)
        {
            heard.push(Said::topology(key, Link::Resolution, ill, COMPLAINS, 1.0));
        }
    }

    /// What would be an incident of its own has that as its explanation.
    pub(super) fn for_want_of_names(&self, node: u32, at: Timestamp) -> Option<(u32, Why)> {
        let (key, ill) = self.unresolved(node, at).filter(|(_, ill)| self.lesson(node, *ill) >= 0.0)?;
        let voices = Voices { time: 1.0, topology: EVERYBODY_NEEDS, ..Voices::default() };
        Some((key, self.why(Link::Resolution, node, Some(ill), at, voices)))
    }

    /// What fell ill just before name resolution was heard of did so because of it.
    pub(super) fn explain_everybody(&mut self, key: u32, node: u32, at: Timestamp) -> u32 {
        let scope = self.graph.at(node).scope;
        if self.resolvers.known.get(&scope).and_then(|heard| heard.ill) != Some(node) {
            return key;
        }
        let mut key = key;
        let recent: Vec<u32> = self.order.recent(at).collect();
        for other in recent.into_iter().filter_map(|one| self.active(one, at)).collect::<Vec<u32>>() {
            let suffers = |root: &u32| {
                let root = self.graph.at(*root);
                root.scope == scope && root.first_at.abs_diff(at) <= BEFORE && !root.cause
            };
            let other = self.resolve(other);
            if other != key && self.open.get(&other).is_some_and(|open| open.roots.iter().all(suffers)) {
                let who = &self.graph.at(node).subject;
                let because = format!("name resolution fails, as {who} says, and all of it needs that");
                let older = self.older(key, other);
                self.merge(if older == key { other } else { key }, older, because);
                key = self.resolve(key);
            }
        }
        key
    }
}
