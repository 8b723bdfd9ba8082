//! How strongly each node shows something, on one scale from 0 to about 2.

use std::collections::{BTreeMap, BTreeSet};

use super::metric::{Family, Meaning};
use super::{EdgeReading, Picture, Reading, SignKind, SignalClass};

/// What every node shows, and what it could have inherited from what it needs.
pub(super) struct Strengths<'a> {
    of: BTreeMap<&'a str, Strength>,
    /// Edges of calls were measured: what they show is better than what can be inferred.
    edges: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strength {
    /// Of its resources and its health, the strongest in full, the others as confirmation.
    pub(super) own: f64,
    /// Of what its callers suffer from it.
    pub(super) symptom: f64,
    /// Of what it suffers as a client.
    pub(super) outward: f64,
    /// Of anything at all, also what only its callers or its logs say; at most 1.
    pub(super) any: f64,
    /// The strongest `any` of all that it needs.
    below: f64,
}

impl Strength {
    /// 0 for nothing, 1 from a clear anomaly on: chance should not be weighed like a fact.
    pub(super) fn clear(self) -> f64 {
        clear(self.any)
    }
}

/// How clear a strength is: 1 from that of three thresholds on.
pub(super) fn clear(strength: f64) -> f64 {
    (strength / squash(3.0)).min(1.0)
}

/// A complaint about latency makes errors elsewhere half as telling, and the other way round.
const OTHER_COMPLAINT: f64 = 0.5;
/// What moves quite otherwise than the complaint is a quarter as telling.
const OTHER_COURSE: f64 = 0.25;

impl<'a> Strengths<'a> {
    pub(super) fn of(picture: &'a Picture) -> Self {
        let mut readings: BTreeMap<&str, Vec<&Reading>> = BTreeMap::new();
        for reading in &picture.readings {
            readings.entry(&reading.node).or_default().push(reading);
        }
        let mut of: BTreeMap<&str, Strength> =
            picture.topology.nodes().map(|(name, _)| (name, Strength::default())).collect();
        for (node, readings) in &readings {
            of.insert(node, measured(picture, readings));
        }
        for edge in &picture.edges {
            let seen = of.entry(&edge.server).or_default();
            seen.any = seen.any.max(strength_of_edge(edge));
        }
        for sign in picture.signs.iter().filter(|sign| sign.kind != SignKind::DependencyError) {
            of.entry(&sign.node).or_default().any = 1.0;
        }
        let below: Vec<(&str, f64)> = of
            .keys()
            .map(|node| {
                let needs = picture.topology.needs(node);
                (*node, needs.iter().filter_map(|other| of.get(other.as_str())).map(|at| at.any).fold(0.0, f64::max))
            })
            .collect();
        for (node, below) in below {
            of.entry(node).or_default().below = below;
        }
        Self { of, edges: !picture.edges.is_empty() }
    }

    pub(super) fn at(&self, node: &str) -> Strength {
        self.of.get(node).copied().unwrap_or_default()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.of.keys().copied()
    }

    /// How much of the symptom of `node` can come from what it calls.
    pub(super) fn inherited(&self, picture: &Picture, node: &str) -> f64 {
        let shown = self.at(node);
        if self.edges {
            return if picture.sees_failing(node).next().is_some() { shown.symptom } else { 0.0 };
        }
        let calls = picture.topology.callees(node).next().is_some();
        let outward = if calls { shown.outward } else { 0.0 };
        shown.below.max(outward).min(shown.symptom)
    }

    /// How strongly the callers of `node` suffer from what they call without any of it showing why:
    /// the network before a node, or what nobody measures in it. A mean over its callers, each of
    /// which suspects all that it calls.
    pub(super) fn suspected(&self, picture: &Picture, node: &str) -> f64 {
        let callers: Vec<f64> = picture
            .topology
            .dependents(node)
            .map(|caller| {
                let shown = picture.topology.callees(caller).map(|callee| self.at(callee).any).fold(0.0, f64::max);
                (self.at(caller).outward - shown).max(0.0)
            })
            .collect();
        if callers.is_empty() { 0.0 } else { callers.iter().sum::<f64>() / callers.len() as f64 }
    }

    /// What a set of nodes shows of what all but `node` show.
    pub(super) fn share(&self, node: &str, of: &BTreeSet<String>) -> f64 {
        let all: f64 = self.others(node).map(|(_, any)| any).sum();
        let theirs: f64 = self.others(node).filter(|(other, _)| of.contains(*other)).map(|(_, any)| any).sum();
        if all > 0.0 { theirs / all } else { 0.0 }
    }

    /// The strongest of all but `node`.
    pub(super) fn strongest_other(&self, node: &str) -> f64 {
        self.others(node).map(|(_, any)| any).fold(0.0, f64::max)
    }

    fn others(&self, node: &str) -> impl Iterator<Item = (&'a str, f64)> + '_ {
        let node = node.to_owned();
        self.of.iter().filter(move |(other, _)| **other != node).map(|(other, strength)| (*other, strength.any))
    }
}

fn measured(picture: &Picture, readings: &[&Reading]) -> Strength {
    let of_class = |class: SignalClass| {
        readings.iter().filter(move |reading| reading.class == class).map(|reading| focus(picture, reading))
    };
    let mut own: Vec<f64> = readings.iter().filter(|reading| is_own(reading)).map(|reading| weight(reading)).collect();
    own.sort_by(|one, other| other.total_cmp(one));
    let own = own.iter().take(3).enumerate().map(|(at, weight)| weight / confirmations(at)).sum();
    let symptom = of_class(SignalClass::Symptom).fold(0.0, f64::max);
    let outward = of_class(SignalClass::Outward).fold(0.0, f64::max);
    Strength { own, symptom, outward, any: symptom.max(own).min(1.0), below: 0.0 }
}

fn focus(picture: &Picture, reading: &Reading) -> f64 {
    let about = picture.complaint.as_ref().and_then(|complaint| complaint.signal.as_deref()).map(Meaning::of);
    let other = about.is_some_and(|about| {
        matches!(about.family, Family::Latency | Family::Errors) && Meaning::of(&reading.signal).family != about.family
    });
    strength(reading) * if other { OTHER_COMPLAINT } else { 1.0 }
}

/// The strongest counts in full, the others confirm.
pub(super) fn confirmations(at: usize) -> f64 {
    (1 << at) as f64
}

pub(super) fn is_own(reading: &Reading) -> bool {
    match reading.class {
        SignalClass::Resource | SignalClass::Health => true,
        SignalClass::Symptom | SignalClass::Load | SignalClass::Outward => false,
    }
}

/// What the reading of a resource or of health weighs.
pub(super) fn weight(reading: &Reading) -> f64 {
    strength(reading) * saturation_weight(reading)
}

/// 0 to 1. Below the threshold of an anomaly it fades instead of vanishing: several faint signs at
/// one node are better than none.
pub(super) fn strength(reading: &Reading) -> f64 {
    let alike = reading.alike.map_or(1.0, |alike| OTHER_COURSE + (1.0 - OTHER_COURSE) * alike);
    squash(reading.deviation) * reading.deviation.clamp(0.0, 1.0) * alike
}

pub(super) fn strength_of_edge(edge: &EdgeReading) -> f64 {
    squash(edge.deviation)
}

pub(super) fn squash(deviation: f64) -> f64 {
    1.0 - (-deviation.max(0.0) / 3.0).exp()
}

/// A pool at 98 % says more than one that went from 10 % to 30 %.
fn saturation_weight(reading: &Reading) -> f64 {
    let of_capacity = reading.unit.starts_with("of ") || reading.unit == "full";
    match (reading.class, of_capacity) {
        (SignalClass::Health, _) => 1.2,
        (_, true) if reading.worst >= 0.9 => 1.3,
        (_, true) if reading.worst < 0.6 => 0.6,
        _ => 1.0,
    }
}
