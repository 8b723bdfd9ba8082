//! What of a model's conclusion holds. Code decides, from the evidence alone.
//!
//! Invariants: a claim survives only with stored evidence in which its numbers and names occur;
//! an unknown service or change makes the whole diagnosis inconclusive; an empty answer carries nothing
//! and rules nothing out; a remedy that does not fit the cause becomes a hand-over to a person.

use std::collections::BTreeSet;

use super::change::Change;
use super::diagnosis::{Claim, Diagnosis, Dropped, Proof, Remedy, Verdict};
use super::evidence::{Evidence, EvidenceKind, Taint};
use super::investigation::{Cited, Conclusion, Finding, ProposedRemedy};
use super::root_cause::Candidate;

mod grounding;
mod quantity;
mod weigh;

pub use grounding::mentions;
pub use weigh::weigh;

/// A model never makes us as sure as a verified recovery does.
const CONFIRMED_CAP: f64 = 0.95;
const LIKELY_CAP: f64 = 0.75;
const INCONCLUSIVE_CAP: f64 = 0.3;

pub fn judge(
    conclusion: &Conclusion,
    known_services: &BTreeSet<String>,
    changes: &[Change],
    evidence: &[Evidence],
    reasoner: &str,
) -> Diagnosis {
    match conclusion {
        Conclusion::Found(finding) => judge_finding(finding, known_services, changes, evidence, reasoner),
        Conclusion::Partial { why, .. } => Diagnosis {
            service: None,
            change: None,
            mechanism: "not known".to_owned(),
            verdict: Verdict::Inconclusive,
            confidence: 0.0,
            claims: vec![],
            ruled_out: vec![],
            remedy: Remedy::HandOver { why: format!("the investigation ended early: {why}") },
            reasoner: reasoner.to_owned(),
            dropped: vec![],
            needs: None,
            proofs: vec![],
            otherwise: None,
        },
    }
}

/// Keeps the claims whose evidence exists and says what they say.
pub fn sift(claims: &[Cited], evidence: &[Evidence], known: &BTreeSet<String>) -> (Vec<Claim>, Vec<Dropped>) {
    let (mut kept, mut dropped) = (vec![], vec![]);
    for claim in claims {
        let cited = cited_by(claim, evidence);
        let objection = match cited.as_slice() {
            [] => Some("cites no evidence that is stored".to_owned()),
            cited => {
                let quote = claim.quote.as_deref().map(str::trim).filter(|quote| !quote.is_empty());
                let misquoted = quote.filter(|quote| !grounding::is_quoted(quote, cited));
                let misquoted = misquoted.map(|quote| format!("the words {quote:?} do not stand in what it cites"));
                misquoted.or_else(|| grounding::objection(&claim.text, cited, known))
            }
        };
        match objection {
            None => kept.push(Claim {
                text: claim.text.trim().to_owned(),
                evidence: cited.iter().map(|item| item.id.clone()).collect(),
            }),
            Some(why) => dropped.push(Dropped { text: claim.text.clone(), why }),
        }
    }
    (kept, dropped)
}

/// Whether all that is cited are empty answers, or such ones and the list of alerts: a wrong name is answered with
/// nothing, too, so that nobody has looked.
pub fn rests_on_nothing(claim: &Claim, evidence: &[Evidence]) -> bool {
    let cited: Vec<&Evidence> = evidence.iter().filter(|item| claim.evidence.contains(&item.id)).collect();
    let shows = |item: &&Evidence| item.found && item.kind != EvidenceKind::Alert;
    cited.iter().any(|item| !item.found) && !cited.iter().any(shows)
}

/// What of a conclusion is kept, and what not, with the reason.
fn keep(claims: &[Cited], evidence: &[Evidence], known: &BTreeSet<String>) -> (Vec<Claim>, Vec<Dropped>) {
    let (kept, mut dropped) = sift(claims, evidence, known);
    let (empty, kept): (Vec<Claim>, Vec<Claim>) = kept.into_iter().partition(|claim| rests_on_nothing(claim, evidence));
    let why = "cites an empty answer, which shows nothing";
    dropped.extend(empty.into_iter().map(|claim| Dropped { text: claim.text, why: why.to_owned() }));
    (kept, dropped)
}

fn judge_finding(
    finding: &Finding,
    known_services: &BTreeSet<String>,
    changes: &[Change],
    evidence: &[Evidence],
    reasoner: &str,
) -> Diagnosis {
    let (claims, dropped) = keep(&finding.claims, evidence, known_services);
    let (ruled_out, mistaken) = keep(&finding.ruled_out, evidence, known_services);
    let blamed = blame(finding, known_services, changes);
    let (service, change, verdict, objection) = match blamed {
        Ok((service, change)) if !speaks_of(&service, change, &claims, evidence) => {
            let why = format!("no claim that holds speaks of {service}");
            (Some(service), change, Verdict::Inconclusive, Some(why))
        }
        Ok((service, change)) => (Some(service), change, verdict(&claims, evidence), None),
        Err(why) => (None, None, Verdict::Inconclusive, Some(why)),
    };
    let share = claims.len() as f64 / (claims.len() + dropped.len()).max(1) as f64;
    let cap = match verdict {
        Verdict::Confirmed => CONFIRMED_CAP,
        Verdict::Likely => LIKELY_CAP,
        Verdict::Inconclusive => INCONCLUSIVE_CAP,
    };
    let remedy = match (&service, verdict, objection) {
        (Some(_), Verdict::Likely, None) if !support(&claims, evidence).says_why() => Remedy::HandOver {
            why: "only the alerts speak for it: they say that something is wrong, not what mends it".to_owned(),
        },
        (Some(service), Verdict::Confirmed | Verdict::Likely, None) => fit(finding.remedy, service, change),
        (_, _, Some(why)) => Remedy::HandOver { why },
        (_, _, None) => Remedy::HandOver { why: "the evidence does not show the cause".to_owned() },
    };
    Diagnosis {
        // A name that nothing supports must not look like a finding.
        service: service.filter(|_| verdict != Verdict::Inconclusive),
        change: change.filter(|_| verdict != Verdict::Inconclusive).map(|change| change.id.clone()),
        mechanism: finding.mechanism.trim().chars().take(300).collect(),
        verdict,
        // Percents are what people read; more digits would say more than is known.
        confidence: ((finding.confidence * share).clamp(0.0, cap) * 100.0).round() / 100.0,
        claims,
        ruled_out,
        remedy,
        reasoner: reasoner.to_owned(),
        dropped: dropped.into_iter().chain(mistaken).collect(),
        needs: finding.needs.as_deref().map(|needs| needs.trim().chars().take(300).collect()),
        proofs: vec![],
        otherwise: None,
    }
}

/// Where in its evidence each claim stands, as far as a place can be named.
pub fn proofs(claims: &[Claim], evidence: &[Evidence]) -> Vec<Proof> {
    let mut found = vec![];
    for (claim, said) in claims.iter().enumerate() {
        for item in evidence.iter().filter(|item| said.evidence.contains(&item.id)) {
            if let Some((from_line, to_line)) = grounding::lines(&said.text, item) {
                found.push(Proof { claim, evidence: item.id.clone(), from_line, to_line });
            }
        }
    }
    found
}

/// The service and the change that are blamed, if both exist.
fn blame<'a>(
    finding: &Finding,
    known_services: &BTreeSet<String>,
    changes: &'a [Change],
) -> Result<(String, Option<&'a Change>), String> {
    let change = match &finding.change {
        None => None,
        Some(id) => {
            let found = changes.iter().find(|change| change.id.eq_ignore_ascii_case(id.trim()));
            Some(found.ok_or_else(|| format!("the model blames {id:?}, which is no change that was observed"))?)
        }
    };
    let named = finding.service.as_deref().or(change.map(|change| change.service.as_str()));
    let named = named.ok_or_else(|| "the model names no component".to_owned())?;
    let service = known_services.iter().find(|known| known.eq_ignore_ascii_case(named));
    let service = service.ok_or_else(|| format!("the model blames {named:?}, which nothing observed knows"))?;
    Ok((service.clone(), change))
}

fn speaks_of(service: &str, change: Option<&Change>, claims: &[Claim], evidence: &[Evidence]) -> bool {
    let change_service = change.map(|change| change.service.as_str());
    claims.iter().any(|claim| {
        // An empty answer names only what was asked for.
        let cited = evidence.iter().filter(|item| item.found && claim.evidence.contains(&item.id)).collect::<Vec<_>>();
        [Some(service), change_service]
            .into_iter()
            .flatten()
            .any(|name| grounding::mentions(&claim.text, name) || grounding::names_in_evidence(&cited, name))
    })
}

/// Whether something may be done about it without a person (S2): it is confirmed, by two kinds of evidence,
/// one of which users cannot write. Such a one must speak in our own ranking, too: what a model asks for may
/// be observed and still say nothing of the service, such as that nothing is measured of it.
pub fn is_proven(diagnosis: &Diagnosis, ranking: &[Candidate], evidence: &[Evidence]) -> bool {
    let Support { kinds, observed, .. } = support(&diagnosis.claims, evidence);
    let suspected = ranking.iter().any(|one| {
        diagnosis.service.as_deref() == Some(one.node.as_str()) && support(&one.supports, evidence).observed
    });
    diagnosis.verdict == Verdict::Confirmed && kinds.len() >= 2 && observed && suspected
}

/// Two claims from two kinds of evidence, one of which users cannot write (S2).
fn verdict(claims: &[Claim], evidence: &[Evidence]) -> Verdict {
    let Support { claims, kinds, observed } = support(claims, evidence);
    match (claims, kinds.len(), observed) {
        (2.., 2.., true) => Verdict::Confirmed,
        (1.., _, _) => Verdict::Likely,
        (0, _, _) => Verdict::Inconclusive,
    }
}

/// What claims stand on.
struct Support {
    /// Those that a proof carries.
    claims: usize,
    kinds: BTreeSet<EvidenceKind>,
    /// One of the proofs cannot be written by users.
    observed: bool,
}

impl Support {
    /// Alerts say that something is wrong, not what it is.
    fn says_why(&self) -> bool {
        self.kinds.iter().any(|kind| *kind != EvidenceKind::Alert)
    }
}

fn support(claims: &[Claim], evidence: &[Evidence]) -> Support {
    let mut support = Support { claims: 0, kinds: BTreeSet::new(), observed: false };
    for claim in claims {
        let proves = |item: &&Evidence| item.found && is_proof(item.kind) && claim.evidence.contains(&item.id);
        let proofs: Vec<_> = evidence.iter().filter(proves).collect();
        support.claims += usize::from(!proofs.is_empty());
        support.kinds.extend(proofs.iter().map(|item| item.kind));
        support.observed |= proofs.iter().any(|item| item.taint == Taint::Observed);
    }
    support
}

/// Runbooks and past incidents tell where to look; they prove nothing about today.
fn is_proof(kind: EvidenceKind) -> bool {
    match kind {
        EvidenceKind::Metric | EvidenceKind::Log | EvidenceKind::Kubernetes => true,
        EvidenceKind::Change | EvidenceKind::Alert | EvidenceKind::Trace => true,
        EvidenceKind::Database | EvidenceKind::Probe | EvidenceKind::Outside => true,
        EvidenceKind::Topology | EvidenceKind::Runbook | EvidenceKind::PastIncident => false,
    }
}

fn fit(proposed: ProposedRemedy, service: &str, change: Option<&Change>) -> Remedy {
    let hand_over = |why: &str| Remedy::HandOver { why: why.to_owned() };
    let current = change.is_some_and(|change| change.current);
    match proposed {
        ProposedRemedy::RollBack => match change {
            None => hand_over("a rollback was proposed, but no change is to blame"),
            Some(change) if !change.current => hand_over("the change that is blamed does not run any more"),
            // It left something behind, which would come back.
            Some(change) if change.put_back => hand_over("the change that is blamed put an earlier template back"),
            Some(change) if change.from_revision.is_none() => hand_over("there is no earlier revision to go back to"),
            Some(change) => Remedy::RollBack { service: change.service.clone() },
        },
        ProposedRemedy::Restart if current => hand_over("a restart does not mend a change that is still in place"),
        ProposedRemedy::ScaleUp if current => hand_over("more replicas do not mend a change that is still in place"),
        ProposedRemedy::Restart => Remedy::Restart { service: service.to_owned() },
        ProposedRemedy::ScaleUp => Remedy::ScaleUp { service: service.to_owned() },
        ProposedRemedy::None => hand_over("no action of the catalogue mends this"),
    }
}

fn cited_by<'a>(claim: &Cited, evidence: &'a [Evidence]) -> Vec<&'a Evidence> {
    let wanted: BTreeSet<String> =
        claim.evidence.iter().map(|mark| mark.trim().trim_matches(['[', ']', '(', ')']).to_ascii_uppercase()).collect();
    let cites = |item: &&Evidence| wanted.contains(item.id.mark()) || wanted.contains(item.id.as_str());
    evidence.iter().filter(cites).collect()
}

#[cfg(test)]
mod tests;
