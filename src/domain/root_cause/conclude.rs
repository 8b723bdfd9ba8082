//! From a ranking to a diagnosis and the remedy that fits its mechanism.

mod known;
#[cfg(test)]
mod tests;

use super::say::list;
use super::{ANOMALOUS, Candidate, Picture, Reading, SignKind, SignalClass, amount, say};
use crate::domain::change::Change;
use crate::domain::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use crate::domain::topology::NodeKind;

/// Below this the first candidate does not stand out enough to be named as the cause.
pub const NAMED: f64 = 0.35;

/// What the ranking supports: a cause with its remedy, or the honest absence of one.
pub fn conclude(picture: &Picture, ranking: &[Candidate]) -> Diagnosis {
    let Some(first) = ranking.first() else {
        return unknown(&nothing_odd(picture), vec![]);
    };
    let confidence = confidence(picture, ranking);
    let mechanism = mechanism(picture, first);
    let change = mechanism.blames_change.then(|| first.change.clone()).flatten();
    let verdict = verdict(first, confidence);
    let why = match (elsewhere_too(picture, &first.node), verdict) {
        (Some(others), _) => Some(format!(
            "{} and others ({}) got worse in the same minute, and nothing seen explains them all",
            first.node,
            others.join(", ")
        )),
        (None, Verdict::Inconclusive) => Some(format!("no candidate stands out; the strongest lead is {}", first.node)),
        // Where it begins is a lead; how it broke is the cause.
        (None, _) => (!mechanism.known).then(|| mechanism.text.clone()),
    };
    if let Some(why) = why {
        let mut diagnosis = unknown(&why, first.supports.clone());
        diagnosis.confidence = confidence.min(NAMED);
        diagnosis.service = Some(first.node.clone());
        diagnosis.change = change;
        return diagnosis;
    }
    let ruled_out = ranking
        .iter()
        .skip(1)
        .take(4)
        .filter(|other| !other.contradicts.is_empty())
        .map(|other| Claim {
            text: format!("{}: {}", other.node, other.contradicts[0].text),
            evidence: other.contradicts[0].evidence.clone(),
        })
        .chain(innocent_changes(picture, &first.node, change.as_deref()))
        .collect();
    Diagnosis {
        service: Some(first.node.clone()),
        change,
        mechanism: mechanism.text,
        verdict,
        confidence,
        claims: first.supports.iter().chain(&mechanism.claims).cloned().collect(),
        ruled_out,
        remedy: mechanism.remedy,
        reasoner: "none".into(),
        dropped: vec![],
        needs: None,
        proofs: vec![],
        otherwise: None,
    }
}

/// That nothing deviates is said only of what was measured: "all is normal" must not be read where nobody
/// looked.
fn nothing_odd(picture: &Picture) -> String {
    if is_measured(picture) {
        return "nothing that is measured deviates from its baseline; the alerts stand alone".to_owned();
    }
    let also = if picture.changes.is_empty() { "" } else { " and the list of changes" };
    format!("nothing is measured here: [signals] is not configured, or could not be read. I only have the alerts{also}")
}

/// Edges are kept only where they deviate.
fn is_measured(picture: &Picture) -> bool {
    !picture.readings.is_empty() || !picture.edges.is_empty()
}

/// At least two other places that got worse when `node` did, though none of their own calls fail and
/// `node` cannot reach them: what makes them all worse is not among the candidates. A node with
/// trouble of its own is a cause whatever else happens.
fn elsewhere_too<'a>(picture: &'a Picture, node: &str) -> Option<Vec<&'a str>> {
    const SAME_MINUTE: std::time::Duration = std::time::Duration::from_secs(90);
    let telling = picture.signs.iter().any(|sign| sign.node == node && sign.kind.weight() > 0.0);
    // Busier threads are what slowness looks like from inside; running out of them is not.
    let has_room = |reading: &&Reading| reading.unit.starts_with("of ") && reading.worst < SATURATED;
    if telling || !picture.own(node).iter().all(has_room) || picture.symptoms(node).is_empty() {
        return None;
    }
    let onset = picture.onset(node)?;
    let explained = picture.explains(node);
    let others: Vec<&str> = picture
        .topology
        .nodes()
        .map(|(name, _)| name)
        .filter(|other| *other != node && !explained.contains(*other))
        .filter(|other| !picture.symptoms(other).is_empty() && picture.sees_failing(other).next().is_none())
        .filter(|other| picture.onset(other).is_some_and(|theirs| theirs.abs_diff(onset) <= SAME_MINUTE))
        .collect();
    (others.len() >= 2).then_some(others)
}

/// The ranking as one incident sees it: a candidate that explains few of the nodes that its alerts
/// are about is the cause of another incident.
pub fn focus(picture: &Picture, mut ranking: Vec<Candidate>) -> Vec<Candidate> {
    let alerted: Vec<&String> = picture.alerts.keys().collect();
    if alerted.len() < 2 {
        return ranking;
    }
    for candidate in &mut ranking {
        let explained = picture.explains(&candidate.node);
        let covered = alerted.iter().filter(|node| ***node == candidate.node || explained.contains(**node)).count();
        let share = covered as f64 / alerted.len() as f64;
        if share < 0.5 {
            candidate.score -= 3.0 * (0.5 - share);
            candidate.contradicts.push(Claim {
                text: format!("it explains {covered} of the {} nodes that this incident is about", alerted.len()),
                evidence: picture.alerts_evidence.iter().cloned().collect(),
            });
        }
    }
    ranking.sort_by(|one, other| other.score.total_cmp(&one.score).then_with(|| one.node.cmp(&other.node)));
    ranking
}

fn unknown(why: &str, claims: Vec<Claim>) -> Diagnosis {
    Diagnosis {
        service: None,
        change: None,
        mechanism: why.to_owned(),
        verdict: Verdict::Inconclusive,
        confidence: 0.0,
        claims,
        ruled_out: vec![],
        remedy: Remedy::HandOver { why: "the cause is not known".into() },
        reasoner: "none".into(),
        dropped: vec![],
        needs: None,
        proofs: vec![],
        otherwise: None,
    }
}

/// From the margin to the next candidate that is no consequence of the first, and the strength of
/// the first. A victim that scores high does not make its cause less certain.
pub fn confidence(picture: &Picture, ranking: &[Candidate]) -> f64 {
    let (first, score) = (&ranking[0], ranking[0].score);
    if score <= 0.0 {
        return 0.0;
    }
    let consequences = picture.explains(&first.node);
    // Load comes from the callers: they see it before what it overruns.
    let overrun = picture.signal(&first.node, "requests").is_some_and(|load| load.deviation >= ANOMALOUS)
        && !picture.own(&first.node).is_empty();
    let earlier = |node: &str| match (picture.onset(node), picture.onset(&first.node)) {
        _ if overrun => false,
        (Some(theirs), Some(ours)) => theirs + std::time::Duration::from_secs(30) < ours,
        _ => false,
    };
    let rival = ranking
        .iter()
        .skip(1)
        .find(|other| !consequences.contains(&other.node) || earlier(&other.node))
        .map_or(0.0, |other| other.score.max(0.0));
    let margin = (score - rival) / score;
    let strength = 1.0 - (-score / 2.0).exp();
    (0.4 + 0.6 * (margin * 2.0).clamp(0.0, 1.0)) * strength
}

fn verdict(first: &Candidate, confidence: f64) -> Verdict {
    let cited = first.supports.iter().filter(|claim| !claim.evidence.is_empty()).count();
    if confidence >= 0.7 && cited >= 3 {
        Verdict::Confirmed
    } else if confidence >= NAMED && cited >= 1 {
        Verdict::Likely
    } else {
        Verdict::Inconclusive
    }
}

struct Mechanism {
    text: String,
    /// What gave it away beyond what speaks for the candidate anyway.
    claims: Vec<Claim>,
    blames_change: bool,
    remedy: Remedy,
    /// Whether it says how the thing broke; else only where.
    known: bool,
}

impl Mechanism {
    /// No typed action mends it.
    fn handed_over(text: String, why: &str) -> Self {
        Self {
            text,
            claims: vec![],
            blames_change: false,
            remedy: Remedy::HandOver { why: why.to_owned() },
            known: true,
        }
    }

    fn mended_by(remedy: Remedy, text: String) -> Self {
        Self { text, claims: vec![], blames_change: false, remedy, known: true }
    }
}

/// How it broke decides what mends it. The order is from what names itself to what must be inferred.
fn mechanism(picture: &Picture, candidate: &Candidate) -> Mechanism {
    let node = candidate.node.as_str();
    let has = |kind: SignKind| picture.signs.iter().any(|sign| sign.node == node && sign.kind == kind);
    let bad = |signal: &str| picture.signal(node, signal).filter(|reading| reading.deviation >= ANOMALOUS);
    match picture.topology.kind(node) {
        Some(NodeKind::Host) => return known::of_host(picture, node),
        Some(NodeKind::External) => {
            return Mechanism::handed_over(
                format!("{node}, which is not ours, does not answer as usual"),
                "the provider must mend it; watch its status page, consider a fallback",
            );
        }
        Some(NodeKind::Database | NodeKind::Queue | NodeKind::Service) | None => {}
    }
    if has(SignKind::CertificateExpired) || bad("certificate").is_some() {
        return Mechanism::handed_over(
            format!("the certificate of {node} has expired"),
            "renew the certificate; no typed action does that",
        );
    }
    if has(SignKind::DiskFull) || bad("volume").is_some_and(|reading| reading.worst >= 0.9) {
        return Mechanism::handed_over(
            format!("the volume of {node} is full"),
            "free or grow the volume; data is at stake, so people decide",
        );
    }
    if let Some(mechanism) = known::by_itself(picture, node) {
        return mechanism;
    }
    if let Some(change) =
        candidate.change.as_deref().and_then(|id| picture.changes.iter().find(|change| change.id == id))
    {
        return by_change(picture, node, change);
    }
    if let Some(mechanism) = known::broken_way(picture, node) {
        return mechanism;
    }
    if picture.topology.kind(node) == Some(NodeKind::Database) {
        let what = bad("db_statement").map_or_else(|| "it is overloaded".to_owned(), say);
        return Mechanism::handed_over(
            format!("database {node}: {what}, and {}", unchanged(picture, node)),
            "statements, plans and locks need a database person; no typed action touches a database",
        );
    }
    without_change(picture, node)
}

fn by_change(picture: &Picture, node: &str, change: &Change) -> Mechanism {
    let what: Vec<&str> = change.touched.iter().map(|touched| touched.what.as_str()).collect();
    // What the node itself runs out of says more than what its callers suffer.
    let rank = |reading: &Reading| match reading.class {
        SignalClass::Resource if reading.worst >= 0.8 && reading.unit.starts_with("of ") => 2,
        SignalClass::Resource | SignalClass::Health => 1,
        SignalClass::Symptom | SignalClass::Load | SignalClass::Outward => 0,
    };
    let mut effects: Vec<&Reading> = picture
        .of_node(node)
        .filter(|reading| reading.deviation >= ANOMALOUS && reading.class != SignalClass::Load)
        .collect();
    effects.sort_by(|one, other| rank(other).cmp(&rank(one)).then(other.deviation.total_cmp(&one.deviation)));
    let pull = picture.signs.iter().find(|sign| sign.node == node && sign.kind == SignKind::ImagePull);
    let effect = match (effects.as_slice(), pull) {
        (_, Some(sign)) => format!("the image cannot be pulled: {}", sign.text),
        ([], None) => "it fails".to_owned(),
        (some, None) => some.iter().take(2).map(|reading| say(reading)).collect::<Vec<_>>().join(", "),
    };
    let remedy = match change.from_revision {
        Some(_) => Remedy::RollBack { service: node.to_owned() },
        None => Remedy::HandOver { why: format!("{} has no earlier revision to go back to", change.id) },
    };
    let text = format!("{} ({}): {effect}", change.id, list(&what));
    Mechanism { blames_change: true, ..Mechanism::mended_by(remedy, text) }
}

/// More than usual is not yet short of: below this share of a capacity there is room.
const SATURATED: f64 = 0.6;

fn without_change(picture: &Picture, node: &str) -> Mechanism {
    if let Some(mechanism) = known::overrun_consumer(picture, node) {
        return mechanism;
    }
    let saturated: Vec<&Reading> = picture
        .of_node(node)
        .filter(|reading| reading.class == SignalClass::Resource && reading.deviation >= ANOMALOUS)
        .filter(|reading| reading.unit.starts_with("of ") && reading.worst >= SATURATED)
        .collect();
    let load = picture.signal(node, "requests").filter(|reading| reading.deviation >= ANOMALOUS);
    if let (Some(load), Some(resource)) = (load, saturated.first()) {
        let text = format!(
            "{node} is saturated by load: {} against a usual {}, {}",
            amount(load.worst, &load.unit),
            amount(load.baseline.median, &load.unit),
            say(resource)
        );
        return match picture.signal(node, "autoscaler").filter(|scaler| scaler.worst >= 1.0) {
            Some(_) => Mechanism::handed_over(
                format!("{text}; its autoscaler (HPA) is at its limit"),
                "the autoscaler would take back a scaling; raise its maximum",
            ),
            None => Mechanism::mended_by(Remedy::ScaleUp { service: node.to_owned() }, text),
        };
    }
    if let Some(resource) = saturated.first() {
        if picture.may_have_changed(node) {
            return Mechanism::handed_over(
                format!(
                    "{node} is wedged or leaking without more load, and {}: {}",
                    unchanged(picture, node),
                    say(resource)
                ),
                "a restart does not mend a change, and whether there was one is not known",
            );
        }
        let text = format!("{node} is wedged or leaking without a change and without more load: {}", say(resource));
        return Mechanism::mended_by(Remedy::Restart { service: node.to_owned() }, text);
    }
    if picture.signs.iter().any(|sign| sign.node == node && sign.kind == SignKind::CrashLoop) {
        return Mechanism::handed_over(
            format!("the containers of {node} crash again and again, and {}", unchanged(picture, node)),
            "what they need at their start is missing or broken; no typed action brings it back",
        );
    }
    Mechanism {
        known: false,
        ..Mechanism::handed_over(
            format!("{node} fails, but neither a change nor a resource of its own explains it"),
            "the mechanism is not known, so no action is proposed",
        )
    }
}

/// Said of a node of which no change is to blame.
fn unchanged(picture: &Picture, node: &str) -> &'static str {
    match picture.may_have_changed(node) {
        true => "whether it was changed could not be read",
        false => "nothing was changed",
    }
}

/// Recent changes that are not blamed, and why not.
fn innocent_changes<'a>(
    picture: &'a Picture,
    node: &'a str,
    blamed: Option<&'a str>,
) -> impl Iterator<Item = Claim> + 'a {
    picture
        .changes
        .iter()
        .filter(move |change| Some(change.id.as_str()) != blamed)
        .filter(|change| picture.since.abs_diff(change.at) <= std::time::Duration::from_secs(6 * 3600))
        .take(4)
        .map(move |change| {
            let why = match picture.onset(&change.service) {
                _ if change.put_back => "put an earlier template back".to_owned(),
                _ if change.service == node => "came too early or too late to fit the onset".to_owned(),
                None if picture.of_node(&change.service).next().is_none() => {
                    format!("nothing is measured of {}, and nothing else shows trouble of it", change.service)
                }
                None => format!("{} shows nothing unusual", change.service),
                Some(onset) if onset < change.at => {
                    format!("{} was in trouble before it, since {}", change.service, onset.clock_time())
                }
                Some(_) => format!("what {} shows is explained by {node}", change.service),
            };
            Claim {
                text: format!("{} at {}: {why}", change.id, change.at.hour_minute()),
                evidence: picture.changes_evidence.iter().cloned().collect(),
            }
        })
}
