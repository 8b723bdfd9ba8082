//! Ranked candidates for the cause, from cheap and explainable signals, no model needed.
//!
//! Four questions are asked of every node: what is wrong with itself (not with what it calls)?
//! How much of the rest does it explain? Was it early? What changed on it just before?
//! Each answer is a claim with evidence; the score is their weighted sum.

mod conclude;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::anomaly::Baseline;
use super::change::Change;
use super::diagnosis::Claim;
use super::id::EvidenceId;
use super::time::{Timestamp, spoken};
use super::topology::{NodeKind, Topology};

pub use conclude::{conclude, focus};
pub use reading::{Gauge, read};

/// A candidate with what speaks for and against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Node of the topology.
    pub node: String,
    /// Higher is more likely; comparable within one ranking only.
    pub score: f64,
    /// The change that fits, by id.
    pub change: Option<String>,
    pub supports: Vec<Claim>,
    pub contradicts: Vec<Claim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignalClass {
    /// What callers suffer: may be inherited from a dependency.
    Symptom,
    /// What the node itself runs out of.
    Resource,
    /// State of the node's own pods, hosts, certificates.
    Health,
    /// How much is asked of it.
    Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Worse {
    #[default]
    Higher,
    Lower,
}

/// One signal of one node, against its own baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub node: String,
    pub signal: String,
    pub class: SignalClass,
    pub unit: String,
    pub baseline: Baseline,
    /// The worst value since the onset (or the last one when there is none).
    pub worst: f64,
    /// Robust deviations beyond the baseline band, positive is worse; 0 when usual.
    pub deviation: f64,
    /// Event time at which it left the band to stay out.
    pub onset: Option<Timestamp>,
    pub evidence: Option<EvidenceId>,
}

/// One signal of one call edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeReading {
    pub client: String,
    pub server: String,
    pub signal: String,
    pub worst: f64,
    pub usual: f64,
    pub deviation: f64,
    pub onset: Option<Timestamp>,
    pub evidence: Option<EvidenceId>,
}

/// A fact that names its own cause: an event of the cluster or a telling log template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sign {
    pub node: String,
    pub kind: SignKind,
    pub text: String,
    pub at: Option<Timestamp>,
    pub evidence: Option<EvidenceId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignKind {
    OutOfMemory,
    CrashLoop,
    ImagePull,
    HostDown,
    CertificateExpired,
    DiskFull,
    ConnectionsExhausted,
    /// Its pods may not be made: the quota of its namespace is used up.
    QuotaExceeded,
    /// It follows another database and is behind.
    ReplicaBehind,
    /// One message comes back again and again.
    PoisonMessage,
    /// It answers lookups of names, and cannot.
    NamesUnanswered,
    /// Its lookups of names fail.
    NameLookup,
    /// Connections on the way to others break.
    ConnectionsBreak,
    /// What others sign seems to come from another time.
    ClockOff,
    /// The node's own code or configuration complains, naming no dependency.
    OwnError,
    /// The node complains about something that it calls.
    DependencyError,
}

impl SignKind {
    /// Whether such a sign points at the node that shows it.
    fn weight(self) -> f64 {
        match self {
            Self::CertificateExpired
            | Self::DiskFull
            | Self::HostDown
            | Self::ImagePull
            | Self::QuotaExceeded
            | Self::NamesUnanswered => 1.6,
            Self::ReplicaBehind | Self::PoisonMessage => 1.2,
            Self::OutOfMemory | Self::CrashLoop => 1.0,
            Self::OwnError => 0.5,
            Self::ConnectionsExhausted | Self::ClockOff => 0.2,
            Self::DependencyError | Self::NameLookup | Self::ConnectionsBreak => -0.3,
        }
    }
}

/// Everything that was observed.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub topology: Topology,
    pub readings: Vec<Reading>,
    pub edges: Vec<EdgeReading>,
    pub signs: Vec<Sign>,
    pub changes: Vec<Change>,
    /// Evidence that holds the list of changes.
    pub changes_evidence: Option<EvidenceId>,
    /// Event time of the first alert about a node, and how many.
    pub alerts: BTreeMap<String, (Timestamp, usize)>,
    pub alerts_evidence: Option<EvidenceId>,
    pub topology_evidence: Option<EvidenceId>,
    /// When the incident's first alert fired.
    pub since: Timestamp,
}

/// Deviations at which a signal counts as anomalous.
pub const ANOMALOUS: f64 = 1.0;
/// A change can show its effect this late: leaks are slow.
pub const CHANGE_BEFORE: Duration = Duration::from_secs(50 * 60);
/// Clocks and sampling differ: an onset may seem to precede its cause by this much.
pub const SKEW: Duration = Duration::from_secs(120);

impl Picture {
    pub fn of_node<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Reading> + 'a {
        self.readings.iter().filter(move |reading| reading.node == node)
    }

    pub fn signal(&self, node: &str, signal: &str) -> Option<&Reading> {
        self.readings.iter().find(|reading| reading.node == node && reading.signal == signal)
    }

    /// What is wrong with the node itself: resources and health, worst first.
    fn own<'a>(&'a self, node: &'a str) -> Vec<&'a Reading> {
        let mut own: Vec<&Reading> = self
            .of_node(node)
            .filter(|reading| matches!(reading.class, SignalClass::Resource | SignalClass::Health))
            .filter(|reading| reading.deviation >= ANOMALOUS)
            .collect();
        own.sort_by(|one, other| other.deviation.total_cmp(&one.deviation));
        own
    }

    fn symptoms<'a>(&'a self, node: &'a str) -> Vec<&'a Reading> {
        self.of_node(node)
            .filter(|reading| reading.class == SignalClass::Symptom && reading.deviation >= ANOMALOUS)
            .collect()
    }

    /// How its callers find it.
    fn seen_by_callers<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a EdgeReading> + 'a {
        self.edges.iter().filter(move |edge| edge.server == node && edge.deviation >= ANOMALOUS)
    }

    /// How it finds what it calls.
    fn sees_failing<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a EdgeReading> + 'a {
        self.edges.iter().filter(move |edge| edge.client == node && edge.deviation >= ANOMALOUS)
    }

    /// When the node first showed anything, by whatever signal.
    pub fn onset(&self, node: &str) -> Option<Timestamp> {
        self.of_node(node)
            .filter(|reading| reading.deviation >= ANOMALOUS && reading.class != SignalClass::Load)
            .filter_map(|reading| reading.onset)
            .chain(self.seen_by_callers(node).filter_map(|edge| edge.onset))
            .chain(self.signs.iter().filter(|sign| sign.node == node).filter_map(|sign| sign.at))
            .min()
    }

    /// Nodes with anything wrong.
    fn anomalous(&self) -> BTreeSet<&str> {
        self.readings
            .iter()
            .filter(|reading| reading.deviation >= ANOMALOUS && reading.class != SignalClass::Load)
            .map(|reading| reading.node.as_str())
            .chain(self.edges.iter().filter(|edge| edge.deviation >= ANOMALOUS).map(|edge| edge.server.as_str()))
            .chain(self.signs.iter().filter(|sign| sign.kind.weight() > 0.0).map(|sign| sign.node.as_str()))
            .collect()
    }

    /// What a fault of `node` can explain: its dependents, and through a shared dependency that it
    /// overloads (connections, volume) that dependency and its other clients.
    pub fn explains(&self, node: &str) -> BTreeSet<String> {
        let mut reached: BTreeSet<String> = self.topology.blast_radius(node).into_iter().collect();
        let early = self.own(node).iter().filter_map(|reading| reading.onset).min();
        if let Some(early) = early {
            for shared in self.topology.callees(node) {
                let kind = self.topology.kind(shared);
                let later = self.onset(shared).is_some_and(|onset| onset + SKEW >= early);
                if later && matches!(kind, Some(NodeKind::Database | NodeKind::Queue)) {
                    reached.insert(shared.to_owned());
                    reached.extend(self.topology.blast_radius(shared));
                }
            }
        }
        reached.remove(node);
        reached
    }

    /// The latest change of the node that is early enough to be the cause.
    fn fitting_change(&self, node: &str) -> Option<(&Change, Duration)> {
        let onset = self.onset(node).unwrap_or(self.since);
        self.changes
            .iter()
            .filter(|change| change.service == node && change.current)
            .filter(|change| change.at <= onset + SKEW && onset.since(change.at) <= CHANGE_BEFORE)
            .max_by_key(|change| change.at)
            .map(|change| (change, onset.since(change.at)))
    }
}

/// All nodes with anything wrong, most likely cause first.
pub fn rank(picture: &Picture) -> Vec<Candidate> {
    let anomalous = picture.anomalous();
    let first_onset = anomalous.iter().filter_map(|node| picture.onset(node)).min();
    let mut candidates: Vec<Candidate> =
        anomalous.iter().map(|node| weigh(picture, node, &anomalous, first_onset)).collect();
    candidates.sort_by(|one, other| other.score.total_cmp(&one.score).then_with(|| one.node.cmp(&other.node)));
    candidates
}

struct Weighing {
    score: f64,
    supports: Vec<Claim>,
    contradicts: Vec<Claim>,
}

impl Weighing {
    fn support(&mut self, weight: f64, text: String, evidence: impl IntoIterator<Item = EvidenceId>) {
        self.score += weight;
        self.supports.push(Claim { text, evidence: evidence.into_iter().collect() });
    }
    fn contradict(&mut self, weight: f64, text: String, evidence: impl IntoIterator<Item = EvidenceId>) {
        self.score -= weight;
        self.contradicts.push(Claim { text, evidence: evidence.into_iter().collect() });
    }
}

fn weigh(picture: &Picture, node: &str, anomalous: &BTreeSet<&str>, first_onset: Option<Timestamp>) -> Candidate {
    let mut w = Weighing { score: 0.0, supports: vec![], contradicts: vec![] };
    let own = picture.own(node);
    let onset = picture.onset(node);

    for (at, reading) in own.iter().take(3).enumerate() {
        // The strongest counts in full, the others confirm.
        let weight = squash(reading.deviation) * saturation_weight(reading) / (1 << at) as f64;
        w.support(weight, say(reading), reading.evidence.clone());
    }

    let mut kinds = BTreeSet::new();
    for sign in picture.signs.iter().filter(|sign| sign.node == node) {
        if !kinds.insert(sign.kind) {
            continue;
        }
        match sign.kind {
            SignKind::DependencyError | SignKind::NameLookup | SignKind::ConnectionsBreak => w.contradict(
                -sign.kind.weight(),
                format!("{node} complains about what it calls: {}", sign.text),
                sign.evidence.clone(),
            ),
            _ => w.support(sign.kind.weight(), format!("{node}: {}", sign.text), sign.evidence.clone()),
        }
    }

    let explained = picture.explains(node);
    let others: Vec<&&str> = anomalous.iter().filter(|other| **other != node).collect();
    if !others.is_empty() {
        let covered = others.iter().filter(|other| explained.contains(**other as &str)).count();
        let share = covered as f64 / others.len() as f64;
        let text = format!("a fault of {node} explains {covered} of {} other affected nodes", others.len());
        if share > 0.0 {
            w.support(share * 1.2, text, picture.topology_evidence.clone());
        } else {
            w.contradict(0.3, text, picture.topology_evidence.clone());
        }
    }

    if let (Some(onset), Some(first)) = (onset, first_onset) {
        let late = onset.since(first);
        let weight = (-late.as_secs_f64() / 240.0).exp() * 0.8;
        if late <= Duration::from_secs(60) {
            w.support(
                weight,
                format!("{node} was among the first to leave its usual band, at {}", onset.clock_time()),
                vec![],
            );
        } else {
            w.score += weight;
            w.contradicts.push(Claim {
                text: format!("{node} followed {} after the first anomaly", spoken(late)),
                evidence: vec![],
            });
        }
    }

    blame_dependencies(picture, node, &own, onset, &mut w);

    let seen = picture.seen_by_callers(node).map(|edge| edge.deviation).fold(0.0, f64::max);
    let silent = picture.of_node(node).next().is_none();
    if silent && seen > 0.0 {
        // An external service, or one without telemetry: its callers are the only witnesses.
        let worst = picture.seen_by_callers(node).max_by(|one, other| one.deviation.total_cmp(&other.deviation));
        if let Some(edge) = worst {
            w.support(squash(seen) * 1.3, say_edge(edge), edge.evidence.clone());
        }
    } else if !picture.symptoms(node).is_empty() && picture.sees_failing(node).next().is_none() {
        let worst = picture.symptoms(node).into_iter().max_by(|one, other| one.deviation.total_cmp(&other.deviation));
        if let Some(reading) = worst {
            w.support(
                0.8,
                format!("{}, while everything it calls answers as usual", say(reading)),
                reading.evidence.clone(),
            );
        }
    }

    let change = picture.fitting_change(node);
    if let Some((change, gap)) = change {
        let weight = 1.2 * (-gap.as_secs_f64() / 1500.0).exp();
        let what: Vec<&str> = change.touched.iter().map(|touched| touched.what.as_str()).collect();
        let text = format!("{} changed {} {} before {node}'s first anomaly", change.id, list(&what), spoken(gap));
        // A change of a node that shows nothing of its own is a coincidence until proven otherwise.
        let weight = if own.is_empty() && picture.sees_failing(node).next().is_some() { weight * 0.3 } else { weight };
        w.support(weight, text, picture.changes_evidence.clone());
    }

    Candidate {
        node: node.to_owned(),
        score: w.score,
        change: change.map(|(change, _)| change.id.clone()),
        supports: w.supports,
        contradicts: w.contradicts,
    }
}

/// A node whose dependency failed first is a victim; a dependency that a client overran is one too.
fn blame_dependencies(picture: &Picture, node: &str, own: &[&Reading], onset: Option<Timestamp>, w: &mut Weighing) {
    let own_onset = own.iter().filter_map(|reading| reading.onset).min();
    let failing: Vec<&EdgeReading> = picture.sees_failing(node).collect();
    let blamed = failing
        .iter()
        .filter(|edge| match (own_onset, picture.onset(&edge.server)) {
            // Own trouble that clearly came first is not inherited.
            (Some(mine), Some(theirs)) => mine + Duration::from_secs(60) > theirs,
            _ => true,
        })
        .max_by(|one, other| one.deviation.total_cmp(&other.deviation));
    if let Some(edge) = blamed {
        w.contradict(
            1.4 * squash(edge.deviation),
            format!("its own calls fail: {}", say_edge(edge)),
            edge.evidence.clone(),
        );
    }
    let kind = picture.topology.kind(node);
    if !matches!(kind, Some(NodeKind::Database | NodeKind::Queue)) {
        return;
    }
    let overrun = picture
        .topology
        .dependents(node)
        .filter_map(|client| {
            let theirs =
                picture.own(client).into_iter().filter(|reading| reading.signal != "threads").collect::<Vec<_>>();
            let first = theirs.iter().filter_map(|reading| reading.onset).min()?;
            let strongest = theirs.first()?;
            let before = onset.is_none_or(|mine| first + Duration::from_secs(45) < mine);
            // A client that was changed and runs out of something other than connections is the
            // likelier source, even where both leave their bands in the same minutes.
            let changed = picture.fitting_change(client).is_some()
                && theirs.iter().any(|reading| {
                    reading.signal != "pool"
                        && onset.is_none_or(|mine| reading.onset.is_some_and(|at| at <= mine + SKEW))
                });
            (before || changed).then_some((client, first, strongest.deviation))
        })
        .min_by_key(|(_, first, _)| *first);
    if let Some((client, first, deviation)) = overrun {
        w.contradict(
            1.2 * squash(deviation),
            format!("its client {client} was in trouble before it, at {}", first.clock_time()),
            vec![],
        );
    }
}

fn squash(deviation: f64) -> f64 {
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

pub fn say(reading: &Reading) -> String {
    let at = reading.onset.map_or_else(String::new, |onset| format!(" since {}", onset.clock_time()));
    format!(
        "{} {} is {} (usual {}){at}",
        reading.node,
        reading.signal.replace('_', " "),
        amount(reading.worst, &reading.unit),
        amount(reading.baseline.median, &reading.unit)
    )
}

fn say_edge(edge: &EdgeReading) -> String {
    let unit = if edge.signal.ends_with("seconds") { "s" } else { "ratio" };
    format!(
        "{} to {}: {} {} (usual {})",
        edge.client,
        edge.server,
        edge.signal.replace('_', " "),
        amount(edge.worst, unit),
        amount(edge.usual, unit)
    )
}

/// `93 %`, `1.82 s`, `4.1 k`
pub fn amount(value: f64, unit: &str) -> String {
    match unit {
        "ratio" | "full" | "failing" | "not ready" => format!("{:.1} %", value * 100.0),
        _ if unit.starts_with("of ") => format!("{:.0} % {unit}", value * 100.0),
        "s left" => format!("{:.1} days left", value / 86_400.0),
        "s" if value.abs() < 1.0 => format!("{:.0} ms", value * 1000.0),
        _ if value.abs() >= 10_000.0 => format!("{:.1} k {unit}", value / 1000.0).trim_end().to_owned(),
        _ => format!("{value:.2} {unit}").trim_end().to_owned(),
    }
}

fn list(words: &[&str]) -> String {
    let unique: BTreeSet<&str> = words.iter().copied().collect();
    if unique.is_empty() { "something".into() } else { unique.into_iter().collect::<Vec<_>>().join(" and ") }
}
