//! The weighing: each answer about a node is a claim with a weight, the score is their sum.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::say::{list, say, say_edge};
use super::strength::{Strengths, clear, squash};
use super::{Candidate, EdgeReading, Picture, Reading, SKEW, SignKind, Witness};
use crate::domain::diagnosis::Claim;
use crate::domain::id::EvidenceId;
use crate::domain::time::{Timestamp, spoken};
use crate::domain::topology::NodeKind;

/// All nodes with anything wrong, most likely cause first. Where one node complains, also those
/// that show nothing follow: the cause may be one that nobody measures.
pub fn rank(picture: &Picture) -> Vec<Candidate> {
    let strengths = Strengths::of(picture);
    let anomalous = picture.anomalous();
    let onsets: BTreeMap<&str, Timestamp> =
        anomalous.iter().filter_map(|node| Some((*node, picture.onset(node)?))).collect();
    // A cause does not come after its effect: where one node complains, all that was odd before it
    // is equally early, also what has been odd for long.
    let first_onset = match &picture.complaint {
        Some(complaint) => onsets.get(complaint.node.as_str()).copied(),
        None => onsets.values().min().copied(),
    };
    let mut considered = anomalous.clone();
    if let Some(complaint) = &picture.complaint {
        considered.extend(strengths.nodes());
        considered.insert(&complaint.node);
    }
    let mut candidates: Vec<Candidate> =
        considered.iter().map(|node| weigh(picture, &strengths, node, &anomalous, first_onset)).collect();
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

/// What weighs less than this is not worth a sentence.
const WORTH_SAYING: f64 = 0.05;

fn weigh(
    picture: &Picture,
    strengths: &Strengths<'_>,
    node: &str,
    anomalous: &BTreeSet<&str>,
    first_onset: Option<Timestamp>,
) -> Candidate {
    let mut w = Weighing { score: 0.0, supports: vec![], contradicts: vec![] };
    let own = picture.own(node);
    let onset = picture.onset(node);
    let shown = strengths.at(node);

    w.score += shown.own;
    for reading in own.iter().take(3) {
        w.support(0.0, say(reading), reading.evidence.clone());
    }
    weigh_signs(picture, node, &mut w);
    weigh_traces(picture, node, &mut w);

    let others = anomalous.iter().filter(|other| **other != node).count();
    if others > 0 {
        let explained = picture.explains(node);
        let covered = anomalous.iter().filter(|other| **other != node && explained.contains(**other)).count();
        let share = strengths.share(node, &explained) * clear(strengths.strongest_other(node));
        let text = format!("a fault of {node} explains {covered} of {others} other affected nodes");
        if covered > 0 {
            w.support(share * EXPLAINS * shown.clear(), text, picture.topology_evidence.clone());
        } else if picture.complaint.as_ref().is_none_or(|complaint| complaint.node != node) {
            let weight = EXPLAINS_NOTHING * clear(strengths.strongest_other(node));
            w.contradict(weight, text, picture.topology_evidence.clone());
        }
    }

    if let (Some(onset), Some(first)) = (onset, first_onset) {
        let late = onset.since(first);
        let weight = (-late.as_secs_f64() / 240.0).exp() * EARLY * shown.clear();
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
    weigh_symptoms(picture, strengths, node, &mut w);

    let fallen = weigh_fallen_host(picture, node, &mut w);
    let change = picture.fitting_change(node);
    if let Some((change, gap)) = change {
        let weight = CHANGED * (-gap.as_secs_f64() / 1500.0).exp() * if fallen { CHANGED_ON_FALLEN } else { 1.0 };
        let what: Vec<&str> = change.touched.iter().map(|touched| touched.what.as_str()).collect();
        let text = format!("{} changed {} {} before {node}'s first anomaly", change.id, list(&what), spoken(gap));
        // A change of a node that shows nothing of its own is a coincidence until proven otherwise.
        let victim = own.is_empty() && picture.sees_failing(node).next().is_some();
        let weight = if victim || !anomalous.contains(node) { weight * 0.3 } else { weight };
        w.support(weight, text, picture.changes_evidence.clone());
    }
    weigh_complaint(picture, node, &mut w);

    Candidate {
        node: node.to_owned(),
        score: w.score,
        change: change.map(|(change, _)| change.id.clone()),
        supports: w.supports,
        contradicts: w.contradicts,
    }
}

/// Weight of explaining all that others show.
const EXPLAINS: f64 = 1.2;
const EXPLAINS_NOTHING: f64 = 0.3;
/// Weight of a change just before.
const CHANGED: f64 = 1.2;
/// What stood on a host that is lost is in trouble without having been changed.
const CHANGED_ON_FALLEN: f64 = 0.4;
const FALLEN: f64 = 1.2;
/// Weight of what it needs having stood there.
const FALLEN_BELOW: f64 = 0.6;
/// Weight of all traced requests' going wrong in the node, and of their going wrong further down.
const TRACED: f64 = 0.8;
const PASSED_ON: f64 = 0.3;
/// Weight of having been the first.
const EARLY: f64 = 0.8;
/// Weight of a symptom that nothing below explains.
const ALONE: f64 = 0.8;
/// The cause is most often where the complaint is, when nothing else is known.
const AT_COMPLAINT: f64 = 0.2;

fn weigh_signs(picture: &Picture, node: &str, w: &mut Weighing) {
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
}

/// Whether the node, or what it needs, stands on a host that is lost: reason enough for its trouble.
fn weigh_fallen_host(picture: &Picture, node: &str, w: &mut Weighing) -> bool {
    let lost = picture.signs.iter().filter(|sign| sign.kind == SignKind::HostDown && sign.node != node);
    let reached = |host: &str| {
        let direct = picture.topology.dependencies(node).any(|other| other == host);
        (direct || picture.topology.blast_radius(host).iter().any(|other| other == node)).then_some(direct)
    };
    let found = lost.filter_map(|sign| Some((reached(&sign.node)?, sign))).max_by_key(|(direct, _)| *direct);
    let Some((direct, sign)) = found else { return false };
    let (weight, what) = match direct {
        true => (FALLEN, "it"),
        false => (FALLEN_BELOW, "something that it needs"),
    };
    w.contradict(weight, format!("{what} stands on {}, which is lost", sign.node), sign.evidence.clone());
    true
}

/// Where requests were followed step by step: whether they go wrong in the node or only through it.
fn weigh_traces(picture: &Picture, node: &str, w: &mut Weighing) {
    let Some(Witness { blame, evidence }) = picture.witnesses.iter().find(|one| one.blame.node == node) else { return };
    let (share, passed) = (blame.share(), blame.passed());
    if share * TRACED >= WORTH_SAYING {
        let text = match blame.begins > 0 {
            true => format!("{} of {} failing requests begin to fail in {node}", blame.begins, blame.failing),
            false => format!(
                "{node} adds {} ms of the {} ms that a request takes longer than usual",
                blame.added_us / 1000,
                blame.added_in_all_us / 1000
            ),
        };
        w.support(share * TRACED, text, evidence.clone());
    } else if passed * PASSED_ON >= WORTH_SAYING {
        let text = format!("in {} of {} failing requests {node} only passes on an error", blame.passes, blame.failing);
        w.contradict(passed * PASSED_ON, text, evidence.clone());
    }
}

/// What callers suffer from it, as far as it does not come from below.
fn weigh_symptoms(picture: &Picture, strengths: &Strengths<'_>, node: &str, w: &mut Weighing) {
    let seen = picture.seen_by_callers(node).map(|edge| edge.deviation).fold(0.0, f64::max);
    let silent = picture.of_node(node).next().is_none();
    if silent && seen > 0.0 {
        // An external service, or one without telemetry: its callers are the only witnesses.
        let worst = picture.seen_by_callers(node).max_by(|one, other| one.deviation.total_cmp(&other.deviation));
        if let Some(edge) = worst {
            w.support(squash(seen) * 1.3, say_edge(edge), edge.evidence.clone());
        }
        return;
    }
    let shown = strengths.at(node);
    let inherited = strengths.inherited(picture, node);
    let weight = ALONE * clear(shown.symptom) * (1.0 - inherited / shown.symptom.max(f64::MIN_POSITIVE));
    let worst = picture.symptoms(node).into_iter().max_by(|one, other| one.deviation.total_cmp(&other.deviation));
    match worst {
        Some(reading) if weight >= WORTH_SAYING => {
            let but = match inherited < shown.symptom / 10.0 {
                true => "while everything it calls answers as usual",
                false => "more than what it calls explains",
            };
            w.support(weight, format!("{}, {but}", say(reading)), reading.evidence.clone());
        }
        // Where calls were measured, the failing call has been held against it already.
        Some(reading) if inherited > 0.0 && picture.edges.is_empty() => {
            w.contradict(-weight, format!("{}, and so does what it calls", say(reading)), reading.evidence.clone());
        }
        _ => w.score += weight,
    }
    let suspected = strengths.suspected(picture, node);
    if suspected >= WORTH_SAYING {
        let text = format!("callers of {node} wait for what they call, and nothing that they call shows why");
        w.support(suspected, text, picture.topology_evidence.clone());
    } else {
        w.score += suspected;
    }
}

/// A cause must be able to reach the place where people suffer.
fn weigh_complaint(picture: &Picture, node: &str, w: &mut Weighing) {
    let Some(complaint) = &picture.complaint else { return };
    if complaint.node == node {
        w.support(AT_COMPLAINT, format!("{node} is where the complaint is"), vec![]);
    } else if picture.topology.contains(&complaint.node) && picture.topology.reach(node, &complaint.node).is_none() {
        let text = format!("{} does not depend on {node}", complaint.node);
        w.contradict(w.score.max(0.0) / 2.0, text, picture.topology_evidence.clone());
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
            let why = match before {
                true => format!("its client {client} was in trouble before it, at {}", first.clock_time()),
                false => {
                    format!("its client {client} was changed and is in trouble itself, since {}", first.clock_time())
                }
            };
            (before || changed).then_some((first, strongest.deviation, why))
        })
        .min_by_key(|(first, ..)| *first);
    if let Some((_, deviation, why)) = overrun {
        w.contradict(1.2 * squash(deviation), why, vec![]);
    }
}
