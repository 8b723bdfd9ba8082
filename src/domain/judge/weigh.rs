//! The model's word against that of the fixed rules.
//!
//! Invariants: a diagnosis of the rules gives way only to one that is at least as strong; a plan of theirs only to
//! one that evidence other than the alerts carries; where the two differ in the cause, people read both.

use super::{mentions, support};
use crate::domain::diagnosis::{Claim, Diagnosis, Remedy};
use crate::domain::evidence::Evidence;

/// `judged`: what of the model's conclusion holds; `baseline`: what the rules say.
pub fn weigh(judged: Diagnosis, baseline: Diagnosis, evidence: &[Evidence]) -> Diagnosis {
    let (ours, theirs) = (baseline.verdict.strength(), judged.verdict.strength());
    if ours == 0 {
        return judged;
    }
    let agree = judged.service == baseline.service && judged.change == baseline.change;
    match (agree, theirs >= ours) {
        (true, true) if is_plan(&baseline.remedy) => Diagnosis { remedy: baseline.remedy, ..judged },
        (true, true) => judged,
        (true, false) => told_better(judged, baseline),
        (false, true) if !is_plan(&baseline.remedy) || contradicts(&judged, &baseline, evidence) => {
            Diagnosis { otherwise: Some(told(&baseline)), ..judged }
        }
        (false, _) => Diagnosis {
            otherwise: Some(told(&judged)),
            reasoner: format!("none ({} says otherwise and proves no more)", judged.reasoner),
            dropped: judged.dropped,
            needs: judged.needs,
            ..baseline
        },
    }
}

fn is_plan(remedy: &Remedy) -> bool {
    match remedy {
        Remedy::RollBack { .. } | Remedy::Restart { .. } | Remedy::ScaleUp { .. } => true,
        Remedy::HandOver { .. } => false,
    }
}

/// The same cause: in the model's words, as sure as the rules are, and mended as they say.
fn told_better(judged: Diagnosis, baseline: Diagnosis) -> Diagnosis {
    let both = |ours: Vec<Claim>, theirs: Vec<Claim>| {
        let new: Vec<Claim> = ours.into_iter().filter(|claim| !theirs.contains(claim)).collect();
        theirs.into_iter().chain(new).collect()
    };
    Diagnosis {
        verdict: baseline.verdict,
        confidence: baseline.confidence,
        claims: both(baseline.claims, judged.claims),
        ruled_out: both(baseline.ruled_out, judged.ruled_out),
        remedy: baseline.remedy,
        ..judged
    }
}

/// Whether evidence speaks against what the rules blame: for another service or change, or of this very change.
fn contradicts(judged: &Diagnosis, baseline: &Diagnosis, evidence: &[Evidence]) -> bool {
    let spoken_of = |change: &str| judged.claims.iter().chain(&judged.ruled_out).any(|one| mentions(&one.text, change));
    let another = match (&judged.change, &baseline.change) {
        _ if judged.service != baseline.service => true,
        (None, Some(blamed)) => spoken_of(blamed),
        (judged, blamed) => judged != blamed,
    };
    another && support(&judged.claims, evidence).says_why()
}

/// `the fixed rules: session, session revision 3 (confirmed, 88 %): connections are used up`
fn told(diagnosis: &Diagnosis) -> String {
    let who = if diagnosis.reasoner.starts_with("none") { "the fixed rules" } else { diagnosis.reasoner.as_str() };
    let service = diagnosis.service.as_deref().unwrap_or("nothing is to blame");
    let change = diagnosis.change.as_deref().unwrap_or("no change to blame");
    let (word, sure) = (diagnosis.verdict.word(), diagnosis.confidence * 100.0);
    format!("{who}: {service}, {change} ({word}, {sure:.0} %): {}", diagnosis.mechanism)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnosis::Verdict;
    use crate::domain::evidence::{EvidenceKind, Taint};
    use crate::domain::id::{Digest, IncidentId};
    use crate::domain::time::Timestamp;

    fn evidence() -> Vec<Evidence> {
        let incident = IncidentId::numbered(1);
        let one = |number, kind| Evidence {
            id: incident.evidence(number),
            incident: incident.clone(),
            kind,
            source: "test".into(),
            query: String::new(),
            summary: String::new(),
            body: "session".into(),
            series: vec![],
            digest: Digest::of(b"session"),
            observed_at: Timestamp::from_secs(1),
            taint: Taint::Observed,
            found: true,
        };
        vec![one(1, EvidenceKind::Alert), one(2, EvidenceKind::Metric)]
    }

    fn claim(text: &str, number: usize) -> Claim {
        Claim { text: text.into(), evidence: vec![IncidentId::numbered(1).evidence(number)] }
    }

    fn of_rules(verdict: Verdict) -> Diagnosis {
        Diagnosis {
            service: Some("session".into()),
            change: Some("session revision 3".into()),
            mechanism: "its pool grew".into(),
            verdict,
            confidence: 0.88,
            claims: vec![claim("connections are used up", 2)],
            ruled_out: vec![],
            remedy: Remedy::RollBack { service: "session".into() },
            reasoner: "none".into(),
            dropped: vec![],
            needs: None,
            proofs: vec![],
            otherwise: None,
        }
    }

    fn of_model(verdict: Verdict, claims: Vec<Claim>) -> Diagnosis {
        Diagnosis {
            change: None,
            mechanism: "it is wedged".into(),
            confidence: 0.75,
            claims,
            remedy: Remedy::HandOver { why: "no action mends this".into() },
            reasoner: "gpt".into(),
            ..of_rules(verdict)
        }
    }

    fn check(judged: Diagnosis, ours: Verdict, expected: expect_test::Expect) {
        let Diagnosis { verdict, confidence, change, mechanism, remedy, reasoner, otherwise, .. } =
            weigh(judged, of_rules(ours), &evidence());
        expected.assert_eq(&format!(
            "{verdict:?} {confidence} {change:?} {mechanism}\n{remedy:?}\n{reasoner}\n{otherwise:?}"
        ));
    }

    #[test]
    fn the_list_of_alerts_takes_no_plan_away() {
        let on_alerts = vec![claim("session alerts", 1)];
        check(
            of_model(Verdict::Likely, on_alerts.clone()),
            Verdict::Confirmed,
            expect_test::expect![[r#"
                Confirmed 0.88 Some("session revision 3") its pool grew
                RollBack { service: "session" }
                none (gpt says otherwise and proves no more)
                Some("gpt: session, no change to blame (likely, 75 %): it is wedged")"#]],
        );
        // As sure as the rules are, but about another service: the alerts prove no cause.
        let other = Diagnosis { service: Some("pay".into()), ..of_model(Verdict::Likely, on_alerts) };
        let kept = weigh(other, of_rules(Verdict::Likely), &evidence());
        assert_eq!(kept.remedy, of_rules(Verdict::Likely).remedy);
    }

    #[test]
    fn what_is_proved_against_a_plan_replaces_it_and_both_are_told() {
        let proved = vec![claim("session revision 3 came after the first symptom", 2)];
        check(
            of_model(Verdict::Confirmed, proved.clone()),
            Verdict::Confirmed,
            expect_test::expect![[r#"
                Confirmed 0.75 None it is wedged
                HandOver { why: "no action mends this" }
                gpt
                Some("the fixed rules: session, session revision 3 (confirmed, 88 %): its pool grew")"#]],
        );
        // Nothing is said of the change: it is not cleared.
        let silent = weigh(
            of_model(Verdict::Confirmed, vec![claim("session is slow", 2)]),
            of_rules(Verdict::Confirmed),
            &evidence(),
        );
        assert_eq!(silent.remedy, of_rules(Verdict::Likely).remedy);
        // The weaker word does not count against the stronger.
        let weaker = weigh(of_model(Verdict::Likely, proved), of_rules(Verdict::Confirmed), &evidence());
        assert_eq!(weaker.remedy, of_rules(Verdict::Likely).remedy);
    }

    #[test]
    fn who_agrees_tells_it_and_the_rules_keep_how_sure_it_is_and_the_plan() {
        let change = Some("session revision 3".to_owned());
        let agreed = Diagnosis { change, ..of_model(Verdict::Likely, vec![claim("session was changed", 2)]) };
        let told = weigh(agreed.clone(), of_rules(Verdict::Confirmed), &evidence());
        let claims: Vec<&str> = told.claims.iter().map(|claim| claim.text.as_str()).collect();
        assert_eq!(claims, ["session was changed", "connections are used up"]);
        assert!(told.otherwise.is_none());
        check(
            agreed,
            Verdict::Confirmed,
            expect_test::expect![[r#"
                Confirmed 0.88 Some("session revision 3") it is wedged
                RollBack { service: "session" }
                gpt
                None"#]],
        );
    }

    #[test]
    fn where_the_rules_know_nothing_the_model_is_heard() {
        let judged = of_model(Verdict::Likely, vec![claim("session alerts", 1)]);
        assert_eq!(weigh(judged.clone(), of_rules(Verdict::Inconclusive), &evidence()), judged);
    }
}
