//! What the watch said against what it should have said.

use std::collections::BTreeSet;

use serde::Serialize;

use super::scenario::{Answer, Budget, Expect, ExpectedCause, words_of};
use crate::domain::diagnosis::{Diagnosis, Verdict};
use crate::domain::evidence::EvidenceKind;

/// What the product recorded in one run.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub incidents: Vec<ObservedIncident>,
    pub tool_calls: u64,
    pub tokens: u64,
    /// Wall time from the first alert to the end of the last investigation.
    pub seconds: f64,
}

#[derive(Debug, Clone)]
pub struct ObservedIncident {
    pub id: String,
    pub state: String,
    pub diagnosis: Option<Diagnosis>,
    /// `VERB SERVICE` of each plan that was proposed, with the verbs of `scenario.yaml`.
    pub proposed: Vec<String>,
    /// The ranking, best first, with scores.
    pub leads: Vec<(String, f64)>,
    /// Kinds of the evidence that the diagnosis cites.
    pub cited: BTreeSet<EvidenceKind>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// Everything that was asked: the right answer, proved, within the budget, nothing forbidden.
    pub passed: bool,
    /// The right cause, or the right abstention.
    pub cause_right: bool,
    /// Of the expected causes, how many services were named, whatever was said about them.
    pub services_right: usize,
    pub causes: usize,
    pub evidence_right: bool,
    /// `None` where no typed action cures.
    pub action_right: Option<bool>,
    pub forbidden: Vec<String>,
    /// Proposed, and neither asked for nor forbidden.
    pub unneeded: Vec<String>,
    pub ruled_out_right: usize,
    pub to_rule_out: usize,
    pub within_budget: bool,
    pub tool_calls: u64,
    pub tokens: u64,
    /// Where a price was given.
    pub cost: Option<f64>,
    pub seconds: f64,
    /// For people: what was said, by incident.
    pub said: Vec<String>,
    /// For people: the first candidates of each incident.
    pub leads: Vec<Vec<(String, f64)>>,
    /// For people: what was wrong.
    pub wrong: Vec<String>,
}

/// `price`: of a million tokens.
pub fn score(expect: &Expect, budget: Budget, observed: &Observed, price: Option<f64>) -> Score {
    let mut wrong = vec![];
    let named: Vec<&Diagnosis> = (observed.incidents.iter())
        .filter_map(|incident| incident.diagnosis.as_ref())
        .filter(|diagnosis| diagnosis.verdict != Verdict::Inconclusive)
        .collect();
    let proposed: Vec<&String> = observed.incidents.iter().flat_map(|incident| &incident.proposed).collect();
    let cause_right = is_right(expect, observed, &named, &proposed, &mut wrong);
    let services_right =
        (expect.causes.iter()).filter(|cause| named.iter().any(|diagnosis| names(cause, diagnosis))).count();
    let cited: BTreeSet<EvidenceKind> = observed.incidents.iter().flat_map(|incident| incident.cited.clone()).collect();
    let missing: Vec<&EvidenceKind> = expect.evidence.iter().filter(|kind| !cited.contains(kind)).collect();
    if !missing.is_empty() {
        wrong.push(format!("not cited: {missing:?}"));
    }
    let action_right =
        (!expect.remedies.is_empty()).then(|| expect.remedies.iter().all(|remedy| proposed.contains(&remedy)));
    if action_right == Some(false) {
        wrong.push(format!("not proposed: {}", expect.remedies.join(", ")));
    }
    let (forbidden, unneeded): (Vec<String>, Vec<String>) = (proposed.iter())
        .filter(|action| !expect.remedies.contains(action))
        .map(|action| (*action).clone())
        .partition(|action| expect.forbidden.iter().any(|rule| forbids(rule, action)));
    wrong.extend(forbidden.iter().map(|action| format!("forbidden: {action}")));
    let ruled_out: Vec<&str> = (observed.incidents.iter())
        .filter_map(|incident| incident.diagnosis.as_ref())
        .flat_map(|diagnosis| diagnosis.ruled_out.iter().map(|claim| claim.text.as_str()))
        .collect();
    let ruled_out_right =
        expect.rules_out.iter().filter(|name| ruled_out.iter().any(|text| text.contains(name.as_str()))).count();
    let within_budget = observed.tool_calls <= budget.tool_calls
        && observed.tokens <= budget.tokens
        && observed.seconds <= budget.seconds as f64;
    if !within_budget {
        wrong.push("over budget".into());
    }
    Score {
        passed: cause_right && missing.is_empty() && forbidden.is_empty() && within_budget,
        cause_right,
        services_right,
        causes: expect.causes.len(),
        evidence_right: missing.is_empty(),
        action_right,
        forbidden,
        unneeded,
        ruled_out_right,
        to_rule_out: expect.rules_out.len(),
        within_budget,
        tool_calls: observed.tool_calls,
        tokens: observed.tokens,
        cost: price.map(|price| observed.tokens as f64 * price / 1e6),
        seconds: observed.seconds,
        said: observed.incidents.iter().map(said).collect(),
        leads: observed.incidents.iter().map(|incident| incident.leads.clone()).collect(),
        wrong,
    }
}

fn said(incident: &ObservedIncident) -> String {
    let proposed = if incident.proposed.is_empty() { "no action".to_owned() } else { incident.proposed.join(", ") };
    match &incident.diagnosis {
        None => format!("{} {}: no diagnosis; {proposed}", incident.id, incident.state),
        Some(found) => format!(
            "{} {}: {} {} ({:.2}): {}; {proposed}",
            incident.id,
            incident.state,
            found.verdict.word(),
            found.service.as_deref().unwrap_or("-"),
            found.confidence,
            found.mechanism
        ),
    }
}

fn is_right(
    expect: &Expect,
    observed: &Observed,
    named: &[&Diagnosis],
    proposed: &[&String],
    wrong: &mut Vec<String>,
) -> bool {
    let before = wrong.len();
    let allowed = |diagnosis: &Diagnosis| expect.causes.iter().any(|cause| is_cause(cause, diagnosis));
    match expect.answer {
        Answer::Cause => {
            for cause in &expect.causes {
                if !named.iter().any(|diagnosis| is_cause(cause, diagnosis)) {
                    let services: Vec<&str> = cause.service.iter().collect();
                    wrong.push(format!("not found: {} on {}", cause.kind, services.join(" or ")));
                }
            }
            for diagnosis in named {
                // The same cause in other words, seen from a second incident, is no false accusation.
                if !expect.causes.iter().any(|cause| names(cause, diagnosis)) {
                    wrong.push(format!("wrongly blamed: {}", diagnosis.service.as_deref().unwrap_or("nobody")));
                }
            }
        }
        Answer::Unknown => {
            if observed.incidents.is_empty() {
                wrong.push("the symptom was not taken up".into());
            }
            wrong.extend(named.iter().map(|diagnosis| {
                format!("claims to know: {}", diagnosis.service.as_deref().unwrap_or(&diagnosis.mechanism))
            }));
        }
        Answer::Nothing => {
            wrong.extend(proposed.iter().map(|action| format!("acts where nothing is to be mended: {action}")));
            wrong.extend(named.iter().filter(|diagnosis| !allowed(diagnosis)).map(|diagnosis| {
                format!("blames {} where nothing is broken", diagnosis.service.as_deref().unwrap_or("somebody"))
            }));
        }
    }
    wrong.len() == before
}

fn names(cause: &ExpectedCause, diagnosis: &Diagnosis) -> bool {
    diagnosis.service.as_deref().is_some_and(|service| cause.service.iter().any(|name| name == service))
}

/// The service, whether it was changed, and the kind by its words.
fn is_cause(cause: &ExpectedCause, diagnosis: &Diagnosis) -> bool {
    let text = diagnosis.mechanism.to_lowercase();
    let says = match cause.says.as_slice() {
        [] => words_of(&cause.kind).unwrap_or_default().iter().any(|word| text.contains(word)),
        words => words.iter().any(|word| text.contains(&word.to_lowercase())),
    };
    names(cause, diagnosis) && diagnosis.change.is_some() == cause.change && says
}

fn forbids(rule: &str, action: &str) -> bool {
    if rule == "any" {
        return true;
    }
    let (Some((rule_verb, rule_service)), Some((verb, service))) = (rule.split_once(' '), action.split_once(' '))
    else {
        return false;
    };
    (rule_verb == "*" || rule_verb == verb) && (rule_service == "*" || rule_service == service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnosis::Remedy;

    fn expect(yaml: &str) -> Expect {
        serde_yaml_ng::from_str(yaml).expect("an expectation")
    }

    fn found(service: &str, change: Option<&str>, mechanism: &str, proposed: &[&str]) -> Observed {
        let diagnosis = Diagnosis {
            service: Some(service.into()),
            change: change.map(str::to_owned),
            mechanism: mechanism.into(),
            verdict: Verdict::Likely,
            confidence: 0.6,
            remedy: Remedy::HandOver { why: String::new() },
            ..Diagnosis::blank()
        };
        let incident = ObservedIncident {
            id: "INC-1".into(),
            state: "handed_over".into(),
            diagnosis: Some(diagnosis),
            proposed: proposed.iter().map(|it| (*it).to_owned()).collect(),
            leads: vec![],
            cited: BTreeSet::from([EvidenceKind::Metric]),
        };
        Observed { incidents: vec![incident], ..Observed::default() }
    }

    #[track_caller]
    fn check(yaml: &str, observed: &Observed, passed: bool, wrong: &str) {
        let score = score(&expect(yaml), Budget::default(), observed, None);
        assert_eq!((score.passed, score.wrong.join("; ").as_str()), (passed, wrong));
    }

    const LEAK: &str = "causes: [{service: cart, kind: memory_leak, change: true}]\nremedies: [rollback cart]";

    #[test]
    fn the_cause_is_service_change_and_kind() {
        let change = Some("cart revision 3");
        check(LEAK, &found("cart", change, "memory is 93 %", &["rollback cart"]), true, "");
        let miss = "not found: memory_leak on cart";
        check(LEAK, &found("cart", None, "memory is 93 %", &["rollback cart"]), false, miss);
        check(LEAK, &found("cart", change, "errors are 9 %", &["rollback cart"]), false, miss);
        let wrong = "not found: memory_leak on cart; wrongly blamed: web; not proposed: rollback cart";
        check(LEAK, &found("web", None, "memory", &[]), false, wrong);
    }

    #[test]
    fn who_does_not_know_says_so() {
        let mut observed = found("cart", None, "no candidate stands out", &[]);
        check("answer: unknown", &observed, false, "claims to know: cart");
        observed.incidents[0].diagnosis.as_mut().expect("there").verdict = Verdict::Inconclusive;
        check("answer: unknown", &observed, true, "");
        check("answer: unknown", &Observed::default(), false, "the symptom was not taken up");
        check("answer: nothing", &Observed::default(), true, "");
    }

    #[test]
    fn forbidden_is_what_a_rule_names() {
        let yaml = "answer: nothing\nforbidden: ['restart *']";
        let observed = found("cart", None, "x", &["restart cart"]);
        let score = score(&expect(yaml), Budget::default(), &observed, None);
        assert_eq!(score.forbidden, ["restart cart"]);
        assert!(!forbids("scale *", "restart cart") && forbids("* cart", "restart cart") && forbids("any", "scale x"));
    }

    #[test]
    fn required_evidence_must_be_cited() {
        let yaml = "causes: [{service: cart, kind: memory_leak}]\nevidence: [metric, log]";
        check(yaml, &found("cart", None, "memory", &[]), false, "not cited: [Log]");
    }
}
