//! Incidents that people merge and split by click, and the lessons in their clicks.

use std::sync::Arc;

use super::super::alert::Fingerprint;
use super::super::id::IncidentId;
use super::lessons::{Kind, Lesson};
use super::{Correlator, Open};

/// Pairs of subjects that one click teaches at most: the roots of a large incident, not all it reached.
const MAX_LESSONS: usize = 16;

impl Correlator {
    /// A click, also of the past; it speaks in later joins.
    pub fn taught(&mut self, lesson: &Lesson) {
        self.lessons.learn(lesson);
    }

    /// A person says that two incidents are one. All of `from` is part of `into` afterwards, pinned or
    /// not: the person decides. The lessons are learned already; the caller keeps them for later.
    /// `None` when one of the two is not open, or both are the same.
    pub fn merge_by_person(&mut self, from: &IncidentId, into: &IncidentId) -> Option<Vec<Lesson>> {
        let (from, into) = (self.key_of(from)?, self.key_of(into)?);
        if from == into {
            return None;
        }
        let lessons = self.lessons_between(&self.leading(from), &self.leading(into), |a, b| Lesson::Together { a, b });
        self.unite(from, into);
        lessons.iter().for_each(|lesson| self.lessons.learn(lesson));
        Some(lessons)
    }

    /// Both were found to have one cause. What was reasoned is no lesson: it would teach itself. `None`
    /// when one of them is not open here, they are one already, or a person has split them.
    pub fn merge_by_cause(&mut self, from: &IncidentId, into: &IncidentId) -> Option<()> {
        let (from, into) = (self.key_of(from)?, self.key_of(into)?);
        let split = |one: u32, other: u32| {
            self.open.get(&one).is_some_and(|open| open.apart.iter().any(|key| self.resolve(*key) == other))
        };
        if split(from, into) || split(into, from) {
            return None;
        }
        self.unite(from, into).map(|_| ())
    }

    /// A person says that these alerts are another incident, which gets the name `new`. Subjects all of
    /// whose alerts move go along; the two are not merged again by themselves. `None` when nothing would
    /// move, nothing would stay, or `new` is open already.
    pub fn split_by_person(
        &mut self,
        incident: &IncidentId,
        fingerprints: &[Fingerprint],
        new: &IncidentId,
    ) -> Option<Vec<Lesson>> {
        let key = self.key_of(incident)?;
        if self.keys.contains_key(new) {
            return None;
        }
        let mut moves: Vec<Fingerprint> = fingerprints.to_vec();
        moves.sort_unstable();
        moves.dedup();
        moves.retain(|one| self.member.get(one).is_some_and(|place| self.resolve(place.key) == key));
        let open = self.open.get(&key)?;
        if moves.is_empty() || moves.len() == open.members.len() {
            return None;
        }
        let (opened_at, stays) = (open.opened_at, |one: &Fingerprint| moves.binary_search(one).is_err());
        let kept: Vec<u32> = self.nodes_of(open.members.iter().filter(|one| stays(one)));
        let mut gone: Vec<u32> = self.nodes_of(moves.iter());
        gone.retain(|node| !kept.contains(node));
        let lessons = self.lessons_between(&gone, &kept, |a, b| Lesson::Apart { a, b });

        self.opened(new, opened_at);
        let other = self.key_of(new)?;
        let open = self.open.get_mut(&key)?;
        open.members.retain(stays);
        open.nodes.retain(|node| !gone.contains(node));
        let (mut roots, rest): (Vec<u32>, Vec<u32>) = open.roots.iter().partition(|node| gone.contains(node));
        open.roots = if rest.is_empty() { open.nodes.iter().copied().take(1).collect() } else { rest };
        open.apart.push(other);
        if roots.is_empty() {
            roots = gone.iter().copied().take(1).collect();
        }
        for node in &gone {
            self.graph.at_mut(*node).incident = Some(other);
        }
        for one in &moves {
            if let Some(place) = self.member.get_mut(one) {
                place.key = other;
            }
        }
        let last_at = gone.iter().map(|node| self.graph.at(*node).last_at).max().unwrap_or(opened_at);
        let split = self.open.get_mut(&other)?;
        (split.nodes, split.roots, split.members) = (gone, roots, moves);
        split.last_at = split.last_at.max(last_at);
        split.apart.push(key);
        lessons.iter().for_each(|lesson| self.lessons.learn(lesson));
        Some(lessons)
    }

    /// People have split them before a restart: they are not merged again by themselves.
    pub fn keep_apart(&mut self, one: &IncidentId, other: &IncidentId) {
        let (Some(one), Some(other)) = (self.key_of(one), self.key_of(other)) else { return };
        for (key, apart) in [(one, other), (other, one)] {
            if let Some(open) = self.open.get_mut(&key).filter(|open| !open.apart.contains(&apart)) {
                open.apart.push(apart);
            }
        }
    }

    fn key_of(&self, incident: &IncidentId) -> Option<u32> {
        self.keys.get(incident).map(|key| self.resolve(*key)).filter(|key| self.open.contains_key(key))
    }

    /// The subjects that explain an incident, else those that it began with.
    fn leading(&self, key: u32) -> Vec<u32> {
        let of = |open: &Open| if open.roots.is_empty() { open.nodes.clone() } else { open.roots.clone() };
        self.open.get(&key).map(of).unwrap_or_default()
    }

    fn nodes_of<'a>(&self, fingerprints: impl Iterator<Item = &'a Fingerprint>) -> Vec<u32> {
        let mut nodes: Vec<u32> = fingerprints.filter_map(|one| self.member.get(one)).map(|place| place.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn lessons_between(&self, ones: &[u32], others: &[u32], lesson: impl Fn(Kind, Kind) -> Lesson) -> Vec<Lesson> {
        let kind = |node: u32| {
            let (cluster, node) = (self.graph.scope_of(node), self.graph.at(node));
            let text = |text: &Arc<str>| text.to_string();
            Kind { cluster: text(cluster), subject: text(&node.subject), name: text(&node.name) }
        };
        let pairs = ones.iter().flat_map(|one| others.iter().map(move |other| (*one, *other)));
        pairs.filter(|(one, other)| one != other).take(MAX_LESSONS).map(|(a, b)| lesson(kind(a), kind(b))).collect()
    }
}
