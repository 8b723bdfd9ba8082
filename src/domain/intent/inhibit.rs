//! Inhibition: while a source alert fires, its consequences need nobody.
//!
//! Semantics are those of Alertmanager's `inhibit_rules`: source and target agree on the labels in
//! `equal`, a missing label being equal to an empty one; an alert that matches both sides of a rule
//! is not inhibited by alerts that do so too, itself among them; silenced and inhibited alerts
//! still inhibit.
//!
//! Invariants: a source ends by its resolve, by its announced end or by staleness, whichever comes
//! first; no more than a bounded number of sources is kept, the soonest to end being dropped first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::super::alert::{Alert, Fingerprint, Labels, Status};
use super::super::time::Timestamp;
use super::index::Index;
pub use rule::{BadRule, InhibitRule};
pub(super) use rule::{KEYS, Written, side};

mod rule;
#[cfg(test)]
mod tests;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A firing alert that is not sent again for so long is taken for resolved.
    pub stale_after: Duration,
    pub max_sources: usize,
}

impl Default for Limits {
    /// Alertmanager repeats a firing alert every four hours (`repeat_interval`) and looks at its
    /// groups every five minutes; one hour more forgives a late repeat. At about 1 kB each, the
    /// sources take some 100 MB at most.
    fn default() -> Self {
        Self { stale_after: Duration::from_secs(5 * 3600), max_sources: 100_000 }
    }
}

/// The rules and which of their sources fire.
#[derive(Debug, Clone, Default)]
pub struct Inhibitions {
    rules: Vec<InhibitRule>,
    limits: Limits,
    by_source: Index,
    by_target: Index,
    /// Firing sources of each rule, by the values of its `equal` labels.
    firing: Vec<HashMap<EqualValues, Sources>>,
    known: HashMap<Fingerprint, Known>,
    /// All of `known`, the soonest to end first.
    ends: BTreeSet<(Timestamp, Fingerprint)>,
}

/// Values joined with a byte that UTF-8 never holds.
type EqualValues = Vec<u8>;

/// Sources of one rule that agree on `equal`, ordered by when they end.
#[derive(Debug, Clone, Default)]
struct Sources {
    /// Match the source side only, and so inhibit every target.
    one_sided: BTreeSet<Candidate>,
    /// Match the target side too, and inhibit only what does not match the source side.
    two_sided: BTreeSet<Candidate>,
}

/// The last of a set ends last; of equal ends, the smallest fingerprint is preferred.
type Candidate = (Timestamp, Reverse<Fingerprint>);

#[derive(Debug, Clone)]
struct Known {
    name: String,
    starts_at: Timestamp,
    live_until: Timestamp,
    places: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    rule: usize,
    key: EqualValues,
    sides: Sides,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    Source,
    Both,
}

/// Why an alert is inhibited.
#[derive(Debug, Clone, Copy)]
pub struct Inhibition<'a> {
    pub by: Fingerprint,
    /// The source's `alertname`.
    pub by_name: &'a str,
    pub rule: &'a InhibitRule,
}

impl Inhibition<'_> {
    pub fn reason(&self) -> String {
        let equal = self.rule.equal();
        let agree = if equal.is_empty() { String::new() } else { format!(" with the same {}", equal.join(", ")) };
        format!("{} ({}) fires{agree}", self.by_name, self.by)
    }
}

impl Inhibitions {
    pub fn new(rules: Vec<InhibitRule>, limits: Limits) -> Self {
        Self {
            by_source: Index::of(rules.iter().map(InhibitRule::source)),
            by_target: Index::of(rules.iter().map(InhibitRule::target)),
            firing: vec![HashMap::new(); rules.len()],
            rules,
            limits,
            known: HashMap::new(),
            ends: BTreeSet::new(),
        }
    }

    pub fn rules(&self) -> &[InhibitRule] {
        &self.rules
    }

    /// Sources that are kept, the stale ones that are not yet dropped included.
    pub fn sources(&self) -> usize {
        self.known.len()
    }

    /// Learns that an alert fires or has resolved, whether or not anything mutes it.
    pub fn observe(&mut self, alert: &Alert, at: Timestamp) {
        if self.rules.is_empty() {
            return;
        }
        self.drop_ended(at);
        let known = self.known.get(&alert.fingerprint);
        // A late delivery of an earlier firing says nothing of the present one.
        if known.is_some_and(|known| alert.starts_at < known.starts_at) {
            return;
        }
        match alert.status {
            Status::Resolved => self.forget(alert.fingerprint),
            Status::Firing => self.fire(alert, at),
        }
    }

    /// The first rule, in the order of the configuration, under which a source inhibits the alert;
    /// of its sources, the one that would end last.
    pub fn inhibited_by(&self, alert: &Alert, at: Timestamp) -> Option<Inhibition<'_>> {
        if self.known.is_empty() {
            return None;
        }
        let mut first: Option<(usize, Fingerprint)> = None;
        self.by_target.candidates(&alert.labels, |slot| {
            let slot = slot as usize;
            if first.is_none_or(|(known, _)| slot < known)
                && let Some(source) = self.source_under(slot, &alert.labels, at)
            {
                first = Some((slot, source));
            }
        });
        let (slot, by) = first?;
        Some(Inhibition { by, by_name: &self.known.get(&by)?.name, rule: &self.rules[slot] })
    }

    fn source_under(&self, slot: usize, labels: &Labels, at: Timestamp) -> Option<Fingerprint> {
        let rule = &self.rules[slot];
        // Most rules have no source most of the time.
        if self.firing[slot].is_empty() || !rule.target().matches(labels) {
            return None;
        }
        let sources = self.firing[slot].get(&equal_values(rule, labels))?;
        let mut best = sources.one_sided.last();
        if !sources.two_sided.is_empty() && !rule.source().matches(labels) {
            best = best.max(sources.two_sided.last());
        }
        best.filter(|(live_until, _)| at < *live_until).map(|(_, source)| source.0)
    }

    fn fire(&mut self, alert: &Alert, at: Timestamp) {
        let stale_at = at + self.limits.stale_after;
        let live_until = alert.ends_at.map_or(stale_at, |ends_at| ends_at.min(stale_at));
        if live_until <= at {
            self.forget(alert.fingerprint);
            return;
        }
        if let Some(mut known) = self.known.remove(&alert.fingerprint) {
            self.unfile(alert.fingerprint, &known);
            known.starts_at = alert.starts_at;
            known.live_until = live_until;
            self.file(alert.fingerprint, known);
            return;
        }
        let mut places = vec![];
        self.by_source.candidates(&alert.labels, |slot| {
            let slot = slot as usize;
            let rule = &self.rules[slot];
            if rule.source().matches(&alert.labels) {
                let sides = if rule.target().matches(&alert.labels) { Sides::Both } else { Sides::Source };
                places.push(Place { rule: slot, key: equal_values(rule, &alert.labels), sides });
            }
        });
        if !places.is_empty() {
            let name = alert.name().to_owned();
            self.file(alert.fingerprint, Known { name, starts_at: alert.starts_at, live_until, places });
            if self.known.len() > self.limits.max_sources
                && let Some((_, soonest)) = self.ends.first().copied()
            {
                self.forget(soonest);
            }
        }
    }

    fn drop_ended(&mut self, at: Timestamp) {
        while let Some((_, source)) = self.ends.first().copied().filter(|(live_until, _)| *live_until <= at) {
            self.forget(source);
        }
    }

    fn forget(&mut self, source: Fingerprint) {
        if let Some(known) = self.known.remove(&source) {
            self.unfile(source, &known);
        }
    }

    fn file(&mut self, source: Fingerprint, known: Known) {
        for place in &known.places {
            let sources = self.firing[place.rule].entry(place.key.clone()).or_default();
            sources.side(place.sides).insert((known.live_until, Reverse(source)));
        }
        self.ends.insert((known.live_until, source));
        self.known.insert(source, known);
    }

    fn unfile(&mut self, source: Fingerprint, known: &Known) {
        for place in &known.places {
            let firing = &mut self.firing[place.rule];
            if let Some(sources) = firing.get_mut(&place.key) {
                sources.side(place.sides).remove(&(known.live_until, Reverse(source)));
                if sources.one_sided.is_empty() && sources.two_sided.is_empty() {
                    firing.remove(&place.key);
                }
            }
        }
        self.ends.remove(&(known.live_until, source));
    }
}

impl Sources {
    fn side(&mut self, sides: Sides) -> &mut BTreeSet<Candidate> {
        match sides {
            Sides::Source => &mut self.one_sided,
            Sides::Both => &mut self.two_sided,
        }
    }
}

fn equal_values(rule: &InhibitRule, labels: &Labels) -> EqualValues {
    let mut key = vec![];
    for name in rule.equal() {
        key.extend(labels.get(name).map_or("", String::as_str).bytes());
        key.push(0xff);
    }
    key
}
