//! How strongly time, topology, pattern and causal order speak for a join; and in what words.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::alert::{Reading, Severity};
use super::super::time::{Timestamp, spoken};
use super::{Correlator, cluster_of, names, places};

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
    /// The same service in another cluster is part of it.
    Elsewhere,
    /// The same alert is about others of the cluster at the same time.
    Crowd,
    /// Names are not resolved in its cluster.
    Resolution,
    /// They share a place that few share.
    Place(&'static str),
    /// It has followed before.
    Follows,
    /// People have put them together before.
    Taught,
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
            Link::Elsewhere => write!(f, "{subject} is ill in {other}, too, and part of the incident there")?,
            Link::Crowd => {
                write!(f, "the same alert is about {subject}, {other} and others of the cluster within a minute")?
            }
            Link::Resolution => write!(
                f,
                "alerts about {other} say that names are not resolved in the cluster, and {subject} needs that"
            )?,
            Link::Place(label) => write!(f, "{subject} and {other} share a {label}")?,
            Link::Follows => write!(f, "{subject} has followed {other} before")?,
            Link::Taught => write!(f, "people have put {subject} and {other} into one incident before")?,
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

/// One reason for one incident.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    key: u32,
    link: Link,
    other: u32,
    time: f64,
    topology: f64,
    pattern: f64,
    order: f64,
}

impl Said {
    pub(super) fn pattern(key: u32, link: Link, other: u32, pattern: f64, time: f64) -> Self {
        Self { key, link, other, time, topology: 0.0, pattern, order: 0.0 }
    }

    pub(super) fn topology(key: u32, link: Link, other: u32, topology: f64, time: f64) -> Self {
        Self { key, link, other, time, topology, pattern: 0.0, order: 0.0 }
    }

    fn strength(&self) -> f64 {
        self.time * self.topology.max(self.pattern).max(self.order)
    }
}

/// How much it counts that an alert names whom it blames.
pub(super) const BLAMED: f64 = 0.97;
/// An effect may be noticed this long before its cause is.
const BEFORE: Duration = Duration::from_secs(4 * 60);
/// The usual time from one service to the next.
const NEAR: Duration = Duration::from_secs(100);
/// Within this time a fault has usually reached who needs it.
pub(super) const SOON: Duration = Duration::from_secs(5 * 60);
/// A hidden common cause shows itself in all of its callers at about the same time.
const TOGETHER: Duration = Duration::from_secs(3 * 60);
const MIN_CALLERS: usize = 3;
/// Neighbours in a namespace that fall ill within this time do so together.
const AT_ONCE: Duration = Duration::from_secs(60);
/// How much the learned order of kinds counts: it knows the kinds, not these two services.
const KINDS: f64 = 0.4;
/// How much something counts that warns in several ways.
const WARNS_IN_SEVERAL_WAYS: f64 = 0.8;
/// How much a machine counts for what runs on it while it is there: it works hard, or it only warns;
const STRAINED: f64 = 0.45;
const WARNS: f64 = 0.4;
/// and where the alert itself says that it ran there. Enough by itself, in time.
const RUNS_ON_STRAINED: f64 = 0.7;
const RUNS_ON: f64 = 0.52;
/// How much of a callee's voice counts for an alert that says that its subject is broken in itself.
const OWN_TROUBLE: f64 = 0.5;

impl Correlator {
    pub(super) fn why(&self, link: Link, node: u32, other: Option<u32>, at: Timestamp, voices: Voices) -> Why {
        let heard = self.graph.at(other.unwrap_or(node));
        let apart = if at > heard.last_at { at.since(heard.last_at) } else { heard.first_at.since(at) };
        let named = |other: u32| match link {
            Link::Elsewhere => cluster_of(self.graph.scope_of(other)).into(),
            _ => self.graph.at(other).subject.clone(),
        };
        Why { link, subject: Some(self.graph.at(node).subject.clone()), other: other.map(named), apart, voices }
    }

    /// How well the alert's onset fits that of `other`: 1 within a few minutes, falling to a tenth at the
    /// end of the window. What fell ill long ago explains new trouble less than what has just done so.
    pub(super) fn time_voice(&self, other: u32, at: Timestamp) -> f64 {
        self.fit(self.graph.at(other).first_at.abs_diff(at))
    }

    pub(super) fn fit(&self, apart: Duration) -> f64 {
        let apart = apart.as_secs_f64();
        let (near, soon, window) = (NEAR.as_secs_f64(), SOON.as_secs_f64(), self.rules.window.as_secs_f64());
        // Between two that may explain it, the one that fell ill just before does.
        let early = 0.1 * ((apart - near) / (soon - near)).clamp(0.0, 1.0);
        let late = 0.8 * ((apart - soon) / window.max(1.0)).clamp(0.0, 1.0);
        1.0 - early - late
    }

    /// The incident that the alert belongs to most, if it belongs to one. `named` is whom it names.
    pub(super) fn best(&mut self, node: u32, alert: &Reading<'_>, cause: bool, named: &[u32]) -> Option<(u32, Why)> {
        let mut heard = std::mem::take(&mut self.heard);
        heard.clear();
        self.listen(node, alert, cause, named, &mut heard);
        // What several relations say about one incident adds up; the nearest one is named.
        let mut best: Option<(f64, Reverse<(Timestamp, u32)>, &Said, Voices)> = None;
        for said in &heard {
            let mut voices = Voices::default();
            for same in heard.iter().filter(|same| same.key == said.key) {
                voices.topology = voices.topology.max(same.topology * same.time);
                voices.pattern = voices.pattern.max(same.pattern * same.time);
                voices.order = voices.order.max(same.order * same.time);
                voices.time = voices.time.max(same.time);
            }
            voices.topology /= voices.time.max(1e-9);
            voices.pattern /= voices.time.max(1e-9);
            voices.order /= voices.time.max(1e-9);
            let total = voices.total();
            let since = self.open.get(&said.key).map_or(Timestamp::default(), |open| open.opened_at);
            let rank = (total, Reverse((since, said.key)));
            let better = best.as_ref().is_none_or(|(most, age, one, _)| {
                total > most + 1e-9
                    || (total - most).abs() <= 1e-9
                        && (rank.1 > *age || said.key == one.key && said.strength() > one.strength())
            });
            if better {
                best = Some((total, rank.1, said, voices));
            }
        }
        let chosen = best.filter(|(total, ..)| *total >= self.rules.join_from);
        let chosen = chosen.map(|(_, _, said, voices)| {
            (said.key, self.why(said.link, node, Some(said.other), alert.starts_at, voices))
        });
        self.heard = heard;
        chosen
    }

    /// All that speaks for one incident or another.
    fn listen(&mut self, node: u32, alert: &Reading<'_>, cause: bool, named: &[u32], heard: &mut Vec<Said>) {
        let at = alert.starts_at;
        let critical = alert.severity() == Severity::Critical;
        let mut silent: Vec<u32> = vec![];
        for callee in self.graph.callees(node) {
            // What merely warns may be ill or well; it takes another reason beside it.
            let Some(key) = self.active(callee, at) else {
                silent.push(callee);
                continue;
            };
            let known = self.graph.at(callee);
            let (link, mut strength) = match known.critical {
                // Most that runs on a machine that works hard runs well.
                true if known.host && !known.gone => (Link::Needs, STRAINED),
                false if known.host => (Link::Needs, WARNS),
                true => (Link::Needs, 0.9),
                false if known.is_ill() => (Link::Needs, WARNS_IN_SEVERAL_WAYS),
                // It warns because something below it is critical: the same story passes through it.
                false if self.carries(callee, key) => (Link::Needs, 0.7),
                // What begins where it is noticed explains more than another warning does.
                false if self.graph.at(callee).cause => (Link::Needs, 0.7),
                false if self.other_root_needs(callee, node, key, at) => (Link::CommonNeed, 0.7),
                false => (Link::Needs, 0.45),
            };
            let names_it = named.contains(&callee);
            if names_it && known.host {
                // Where it runs is named always, and blamed for nothing by that.
                strength = strength.max(if known.critical { RUNS_ON_STRAINED } else { RUNS_ON });
            } else if names_it {
                strength = if self.graph.at(callee).critical { BLAMED } else { 0.8 };
            } else if cause && self.has_cause(key) && !self.graph.at(callee).host {
                // Two that are broken in themselves are two faults. What only suffers below may suffer from
                // this: callers exhaust what they need.
                strength *= OWN_TROUBLE;
            }
            let said = Said::topology(key, link, callee, strength, self.time_voice(callee, at));
            // By name nobody needs to have fallen ill just now.
            heard.push(if names_it && !known.host { Said { time: said.time.max(0.95), ..said } } else { said });
        }
        for callee in silent {
            self.through_silent(node, callee, at, named.contains(&callee), heard);
        }
        // A warning explains nothing: half of all warnings are about nothing.
        if critical || cause {
            for caller in self.graph.callers(node) {
                if let Some(key) = self.active(caller, at)
                    && self.open.get(&key).is_some_and(|open| open.roots.contains(&caller))
                    && self.could_cause(at, caller)
                {
                    let mut strength = if self.graph.at(caller).critical { 0.85 } else { 0.45 };
                    if self.graph.at(node).host
                        && !names::is_gone(alert.name())
                        && !names::is_machine_down(alert.name())
                    {
                        strength = STRAINED;
                    }
                    // What is broken in itself explains it already: two such are two faults.
                    if cause && self.has_cause(key) {
                        strength *= OWN_TROUBLE;
                    }
                    heard.push(Said::topology(key, Link::NeededBy, caller, strength, self.time_voice(caller, at)));
                }
            }
        }
        for (other, label) in self.places.shared(alert, self.graph.at(node).scope, node) {
            let Some(key) = self.active(other, at) else { continue };
            let pattern = match label {
                "namespace" | places::FAMILY => self.kinship(node, other, label, alert, cause),
                _ => places::weight(label),
            };
            if pattern > 0.0 {
                let said = Said::topology(key, Link::Place(label), other, 0.0, self.time_voice(other, at));
                heard.push(Said { pattern, ..said });
            }
        }
        self.hear_twins(node, alert, cause, heard);
        self.hear_crowd(node, at, heard);
        self.hear_resolver(node, at, heard);
        let taught = !self.lessons.is_empty();
        for other in self.order.recent(at).filter(|_| taught || self.order.has_followed(node)) {
            if self.graph.at(other).scope == self.graph.at(node).scope
                && let Some(key) = self.active(other, at)
            {
                let said = Said::topology(key, Link::Follows, other, 0.0, self.time_voice(other, at));
                if let Some((share, _)) = self.order.share(other, node) {
                    heard.push(Said { order: 0.8 * share, ..said });
                }
                let lesson = self.lesson(node, other);
                if lesson > 0.0 {
                    heard.push(Said { pattern: lesson, link: Link::Taught, ..said });
                }
            }
        }
        // Between neighbours the kinds of the two alerts speak, too, whoever they are about.
        for said in heard.iter_mut().filter(|said| said.topology > 0.0) {
            let other = self.graph.at(said.other);
            if other.first_at <= at {
                said.order = said.order.max(KINDS * self.order.leads(&other.name, alert.name()));
            }
        }
        if taught {
            heard.retain(|said| self.lesson(node, said.other) >= 0.0);
        }
    }

    /// What a namespace or a family of names says. Where calls are known, they say more; what is broken
    /// in itself is not so because of its relatives.
    fn kinship(&self, node: u32, other: u32, label: &str, alert: &Reading<'_>, cause: bool) -> f64 {
        let (one, relative) = (self.graph.at(node), self.graph.at(other));
        let apart = relative.first_at.abs_diff(alert.starts_at);
        if one.charted || cause || one.scope != relative.scope || !relative.critical || apart > SOON {
            return 0.0;
        }
        let namesakes = places::family(&one.subject).is_some_and(|own| places::family(&relative.subject) == Some(own));
        match (label == places::FAMILY, namesakes) {
            (true, _) if alert.namespace().is_some() => 0.0,
            (true, _) => 0.55,
            (false, true) => 0.6,
            (false, false) if apart <= AT_ONCE => 0.55,
            // Not enough by itself.
            (false, false) => 0.45,
        }
    }

    /// Whether all three belong to one application, by their names.
    fn are_relatives(&self, one: u32, other: u32, between: u32) -> bool {
        let family = |node: u32| places::family(&self.graph.at(node).subject);
        family(one).is_some() && family(one) == family(other) && family(one) == family(between)
    }

    /// Whether something in the incident is broken in itself.
    fn has_cause(&self, key: u32) -> bool {
        self.open.get(&key).is_some_and(|open| open.roots.iter().any(|root| self.graph.at(*root).cause))
    }

    /// Whether the node is part of the incident because of something ill that it needs.
    fn carries(&self, node: u32, key: u32) -> bool {
        self.graph.callees(node).any(|callee| self.is_ill_in(callee, key))
    }

    /// The service that it needs and that was ill in the incident until lately. What ran on a machine that is
    /// gone runs elsewhere by now.
    pub(super) fn suffers_from(&self, node: u32, key: u32, at: Timestamp) -> Option<u32> {
        let lately = |callee: &u32| at.abs_diff(self.graph.at(*callee).last_at) <= self.rules.window;
        let services = self.graph.callees(node).filter(|callee| !self.graph.at(*callee).host);
        services.filter(lately).find(|callee| self.is_ill_in(*callee, key))
    }

    fn is_ill_in(&self, node: u32, key: u32) -> bool {
        let known = self.graph.at(node);
        known.is_ill() && known.incident.is_some_and(|one| self.resolve(one) == key)
    }

    pub(super) fn lesson(&self, node: u32, other: u32) -> f64 {
        if self.lessons.is_empty() {
            return 0.0;
        }
        let (one, other) = (self.graph.at(node), self.graph.at(other));
        let say = |scope: &str| self.lessons.say(scope, &one.subject, &other.subject);
        let said = say(self.graph.scope_of(node));
        // Taught when nobody had named the cluster yet.
        if said == 0.0 { self.graph.scope_unsaid(node).map_or(0.0, |scope| say(&scope)) } else { said }
    }

    /// Whether what fell ill at `at` may be why `caller` is ill: effects do not come long before causes
    /// are noticed.
    pub(super) fn could_cause(&self, at: Timestamp, caller: u32) -> bool {
        at.since(self.graph.at(caller).first_at) <= BEFORE
    }

    /// Whether a root of the incident, other than `node`, needs `callee`, and fell ill at about the same time.
    fn other_root_needs(&self, callee: u32, node: u32, key: u32, at: Timestamp) -> bool {
        self.open.get(&key).is_some_and(|open| {
            open.roots.iter().any(|root| {
                *root != node
                    && self.graph.at(*root).is_ill()
                    && self.graph.at(*root).first_at.abs_diff(at) <= TOGETHER
                    && self.graph.callers(callee).any(|caller| caller == *root)
            })
        })
    }

    /// `node` needs `silent`, about which nothing is heard: what lies behind it, and who else needs it.
    fn through_silent(&mut self, node: u32, silent: u32, at: Timestamp, named: bool, heard: &mut Vec<Said>) {
        if self.rules.reach < 2 {
            return;
        }
        self.graph.charted(silent);
        if self.graph.at(silent).host {
            return;
        }
        for far in self.graph.callees(silent) {
            if let Some(key) = self.active(far, at) {
                // By itself too little: independent faults lie two steps apart in most estates, but seldom
                // within one application.
                let strength = match self.graph.at(far).critical {
                    true if named => 0.7,
                    true if self.are_relatives(node, far, silent)
                        && self.graph.at(far).first_at.abs_diff(at) <= TOGETHER =>
                    {
                        0.55
                    }
                    _ => 0.3,
                };
                heard.push(Said::topology(key, Link::NeedsThroughSilent, far, strength, self.time_voice(far, at)));
            }
        }
        let mut callers = 0;
        let mut roots: Vec<(u32, u32)> = vec![];
        for caller in self.graph.callers(silent) {
            callers += 1;
            if caller != node
                && let Some(key) = self.active(caller, at)
                && self.graph.at(caller).first_at.abs_diff(at) <= if named { SOON } else { TOGETHER }
                && (named || self.open.get(&key).is_some_and(|open| open.roots.contains(&caller)))
            {
                // Who has named it too blames the same.
                let blames = self.graph.names(caller, silent);
                if named && blames || (!named && self.open.get(&key).is_some_and(|open| open.roots.contains(&caller))) {
                    roots.push((key, caller));
                }
            }
        }
        let most = (roots.len() + 1) * 5 >= callers * 3 && roots.len() + 1 >= MIN_CALLERS && callers >= MIN_CALLERS;
        if named || most {
            let strength = if named { 0.85 } else { 0.6 };
            heard.extend(roots.iter().map(|(key, caller)| {
                Said::topology(*key, Link::CommonNeed, *caller, strength, self.time_voice(*caller, at))
            }));
        }
    }
}
