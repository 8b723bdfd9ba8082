//! How strongly time, topology, pattern and causal order speak for a join; and in what words.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::alert::{Alert, Severity};
use super::super::time::{Timestamp, spoken};
use super::{Correlator, places};

/// What each of the four says, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Voices {
    pub time: f64,
    pub topology: f64,
    pub pattern: f64,
    pub order: f64,
}

impl Voices {
    pub(super) fn same() -> Self {
        Self { time: 1.0, topology: 1.0, ..Self::default() }
    }

    /// Independent reasons add up as chances do (noisy or); being far in time weakens all of them.
    pub fn total(&self) -> f64 {
        self.time * (1.0 - (1.0 - self.topology) * (1.0 - self.pattern) * (1.0 - self.order))
    }
}

/// The nearest relation between the alert's subject and the incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The very alert is a member.
    Again,
    /// The subject is part of it.
    Same,
    /// The subject needs something that is part of it.
    Needs,
    /// Something unexplained in it needs the subject.
    NeededBy,
    /// Both need something that says nothing itself.
    CommonNeed,
    /// Needs it through something that says nothing.
    NeedsThroughSilent,
    /// A queue that warns, and who writes to it or reads it is part of the incident.
    InTheWakeOf,
    /// They share a place that few share.
    Place(&'static str),
    /// It has followed before.
    Follows,
}

/// Why an alert is part of an incident; `Display` says it to people.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    pub link: Link,
    pub subject: Option<Arc<str>>,
    pub other: Option<Arc<str>>,
    pub apart: Duration,
    pub voices: Voices,
}

impl Why {
    pub(super) fn again() -> Self {
        Self { link: Link::Again, subject: None, other: None, apart: Duration::ZERO, voices: Voices::same() }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject.as_deref().unwrap_or("its subject");
        let other = self.other.as_deref().unwrap_or("a member");
        match self.link {
            Link::Again => return f.write_str("the same alert is already part of this incident"),
            Link::Same => {
                return write!(f, "about {subject}, which is part of the incident, {} apart", spoken(self.apart));
            }
            Link::Needs => write!(f, "{subject} needs {other}, which is part of the incident")?,
            Link::NeededBy => write!(f, "{other}, which nothing explained yet, needs {subject}")?,
            Link::CommonNeed => {
                write!(f, "{subject} and {other} need the same thing, and most of what needs it alerts")?
            }
            Link::NeedsThroughSilent => write!(f, "{subject} needs {other} through something that is silent")?,
            Link::InTheWakeOf => write!(f, "{other}, which uses the queue {subject}, is part of the incident")?,
            Link::Place(label) => write!(f, "{subject} and {other} share a {label}")?,
            Link::Follows => write!(f, "{subject} has followed {other} before")?,
        }
        let Voices { time, topology, pattern, order } = self.voices;
        write!(
            f,
            "; {} apart (time {time:.2}, topology {topology:.2}, pattern {pattern:.2}, order {order:.2}: together {:.2})",
            spoken(self.apart),
            self.voices.total()
        )
    }
}

/// Within this time a fault has usually reached who needs it.
const SOON: Duration = Duration::from_secs(5 * 60);
/// A hidden common cause shows itself in all of its callers at about the same time.
const TOGETHER: Duration = Duration::from_secs(3 * 60);
const MIN_CALLERS: usize = 3;

impl Correlator {
    pub(super) fn why(&self, link: Link, node: u32, other: Option<u32>, at: Timestamp, voices: Voices) -> Why {
        let heard = self.graph.at(other.unwrap_or(node));
        let apart = if at > heard.last_at { at.since(heard.last_at) } else { heard.first_at.since(at) };
        Why {
            link,
            subject: Some(self.graph.at(node).subject.clone()),
            other: other.map(|other| self.graph.at(other).subject.clone()),
            apart,
            voices,
        }
    }

    /// 1 within a few minutes, falling to a half at the end of the window.
    fn time_voice(&self, other: u32, at: Timestamp) -> f64 {
        let heard = self.graph.at(other);
        let apart = if at < heard.first_at { heard.first_at.since(at) } else { at.since(heard.last_at) };
        if apart <= SOON {
            return 1.0;
        }
        let window = self.rules.window.as_secs_f64().max(1.0);
        1.0 - 0.5 * ((apart.as_secs_f64() - SOON.as_secs_f64()) / window).clamp(0.0, 1.0)
    }

    /// The incident that the alert belongs to most, if it belongs to one.
    pub(super) fn best(&mut self, node: u32, alert: &Alert) -> Option<(u32, Why)> {
        let at = alert.starts_at;
        // (incident, link, the other subject, topology, pattern, order)
        let mut heard: Vec<(u32, Link, u32, f64, f64, f64)> = vec![];
        let (callees, callers) = (self.graph.at(node).callees.clone(), self.graph.at(node).callers.clone());
        for callee in callees.iter() {
            match self.active(*callee, at) {
                // What merely warns may be ill or well; it takes another reason beside it.
                Some(key) => {
                    let (link, strength) = match self.graph.at(*callee).critical {
                        true => (Link::Needs, 0.9),
                        false if self.other_root_needs(*callee, node, key, at) => (Link::CommonNeed, 0.7),
                        false => (Link::Needs, 0.45),
                    };
                    heard.push((key, link, *callee, strength, 0.0, 0.0));
                }
                None => self.through_silent(node, *callee, at, &mut heard),
            }
        }
        for caller in callers.iter() {
            // A warning explains nothing: half of all warnings are about nothing.
            if alert.severity() == Severity::Critical
                && let Some(key) = self.active(*caller, at)
                && self.open.get(&key).is_some_and(|open| open.roots.contains(caller))
            {
                heard.push((key, Link::NeededBy, *caller, 0.85, 0.0, 0.0));
            }
        }
        for (other, label) in self.places.shared(alert, node) {
            if let Some(key) = self.active(other, at) {
                heard.push((key, Link::Place(label), other, 0.0, places::weight(label), 0.0));
            }
        }
        for other in self.order.recent(at).collect::<Vec<_>>() {
            if self.graph.at(other).cluster == self.graph.at(node).cluster
                && let Some((share, _)) = self.order.share(other, node)
                && let Some(key) = self.active(other, at)
            {
                heard.push((key, Link::Follows, other, 0.0, 0.0, 0.8 * share));
            }
        }
        // What several relations say about one incident adds up; the nearest one is named.
        let mut best: Option<(f64, u32, u32, Link, Voices)> = None;
        for (key, link, other, ..) in &heard {
            let mut voices = Voices { time: self.time_voice(*other, at), ..Voices::default() };
            for (same, _, _, topology, pattern, order) in &heard {
                if same == key {
                    voices.topology = voices.topology.max(*topology);
                    voices.pattern = voices.pattern.max(*pattern);
                    voices.order = voices.order.max(*order);
                }
            }
            let total = voices.total();
            if best.as_ref().is_none_or(|(most, ..)| total > *most + 1e-9) {
                best = Some((total, *key, *other, *link, voices));
            }
        }
        let (total, key, other, link, voices) = best?;
        (total >= self.rules.join_from).then(|| (key, self.why(link, node, Some(other), at, voices)))
    }

    /// Whether a root of the incident, other than `node`, needs `callee`, and fell ill at about the same time.
    fn other_root_needs(&self, callee: u32, node: u32, key: u32, at: Timestamp) -> bool {
        let callers = &self.graph.at(callee).callers;
        self.open.get(&key).is_some_and(|open| {
            open.roots.iter().any(|root| {
                *root != node
                    && callers.contains(root)
                    && self.graph.at(*root).critical
                    && self.graph.at(*root).first_at.abs_diff(at) <= TOGETHER
            })
        })
    }

    /// `node` needs `silent`, about which nothing is heard: what lies behind it, and who else needs it.
    fn through_silent(
        &mut self,
        node: u32,
        silent: u32,
        at: Timestamp,
        heard: &mut Vec<(u32, Link, u32, f64, f64, f64)>,
    ) {
        if self.rules.reach < 2 {
            return;
        }
        self.graph.charted(silent);
        let beyond = self.graph.at(silent);
        if beyond.host {
            return;
        }
        for far in beyond.callees.iter() {
            if let Some(key) = self.active(*far, at) {
                // By itself too little: independent faults lie two steps apart in most estates.
                heard.push((key, Link::NeedsThroughSilent, *far, 0.3, 0.0, 0.0));
            }
        }
        let callers = &beyond.callers;
        if callers.len() < MIN_CALLERS {
            return;
        }
        let roots = callers.iter().filter(|caller| **caller != node).filter_map(|caller| {
            let key = self.active(*caller, at)?;
            let root = self.open.get(&key).is_some_and(|open| open.roots.contains(caller));
            let together = self.graph.at(*caller).first_at.abs_diff(at) <= TOGETHER;
            (root && together).then_some((key, *caller))
        });
        let roots: Vec<(u32, u32)> = roots.collect();
        if (roots.len() + 1) * 5 >= callers.len() * 3 && roots.len() + 1 >= MIN_CALLERS {
            heard.extend(roots.iter().map(|(key, caller)| (*key, Link::CommonNeed, *caller, 0.6, 0.0, 0.0)));
        }
    }
}
