//! Matchers for a silence over all that an incident is about.

use std::collections::{BTreeMap, BTreeSet};

use super::super::alert::Alert;
use super::matcher::{BadMatcher, Matcher, Matchers, Op};

/// Labels that tell one estate from another; a silence in one of them leaves the others alone.
const PLACES: [&str; 2] = ["cluster", "namespace"];

/// One set of matchers for each label by which these alerts say what they are about.
pub fn covering(alerts: &[Alert]) -> Result<Vec<Matchers>, BadMatcher> {
    let mut by_label: BTreeMap<&str, (BTreeSet<String>, Vec<&Alert>)> = BTreeMap::new();
    for alert in alerts {
        let (label, pattern) = match alert.subject_label() {
            Some((label, value, subject)) => (label, around(label, value, subject)),
            None => ("alertname", literal(alert.name())),
        };
        let (patterns, about) = by_label.entry(label).or_default();
        patterns.insert(pattern);
        about.push(alert);
    }
    let cover = |(label, (patterns, about)): (&str, (BTreeSet<String>, Vec<&Alert>))| {
        let pattern: Vec<String> = patterns.into_iter().collect();
        let mut all = vec![Matcher::new(label, Op::Regex, &pattern.join("|"))?];
        for place in PLACES.into_iter().filter(|place| *place != label) {
            let values: Option<BTreeSet<&str>> = about.iter().map(|alert| alert.label(place)).collect();
            let values: Vec<&str> = values.into_iter().flatten().collect();
            match values.as_slice() {
                [] => {}
                [one] => all.push(Matcher::new(place, Op::Equal, one)?),
                several => {
                    let pattern: Vec<String> = several.iter().map(|value| literal(value)).collect();
                    all.push(Matcher::new(place, Op::Regex, &pattern.join("|"))?);
                }
            }
        }
        Matchers::new(all)
    };
    by_label.into_iter().map(cover).collect()
}

/// Of a value that says more than the subject: the next pod, or another port or path, of the same is meant,
/// too; what only begins alike is not.
fn around(label: &str, value: &str, subject: &str) -> String {
    let Some(behind) = value.strip_prefix(subject) else { return literal(value) };
    let named = literal(subject);
    match behind.chars().next() {
        None => named,
        // `<deployment>-<hash>-<5 letters>`, `<set>-<5 letters>`, `<stateful set>-<number>`.
        Some('-') if label == "pod" => format!("{named}(-[a-z0-9]{{6,10}})?-([a-z0-9]{{5}}|[0-9]{{1,4}})"),
        Some(':' | '/' | '.') => format!("{named}[:/.].*"),
        Some(_) => literal(value),
    }
}

/// As people would write it: outside of brackets a hyphen is one.
fn literal(text: &str) -> String {
    regex::escape(text).replace(r"\-", "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Labels;
    use crate::domain::time::Timestamp;

    fn alert(labels: &[(&str, &str)]) -> Alert {
        let labels: Labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Alert::firing(labels, Timestamp::from_secs(0))
    }

    #[test]
    fn several_are_measured_together() {
        use crate::domain::intent::silence::{Reach, Refused};
        let services = (0..8).map(|_| alert(&[("alertname", "Down"), ("service", "pay")]));
        let machines = (0..8).map(|_| alert(&[("alertname", "Down"), ("instance", "db-1:9100")]));
        let others = (0..4).map(|number: u32| alert(&[("alertname", "Down"), ("service", &format!("s{number}"))]));
        let of_incident: Vec<Alert> = services.chain(machines).collect();
        let firing: Vec<Labels> = of_incident.iter().cloned().chain(others).map(|alert| alert.labels).collect();
        let reach = Reach { firing: &firing, max_share: 0.5 };
        let matchers = covering(&of_incident).unwrap();
        assert!(matchers.iter().all(|one| reach.allows(std::slice::from_ref(one)).is_ok()));
        assert!(matches!(reach.allows(&matchers), Err(Refused::TooBroad { matched: 16, firing: 20, .. })));
    }

    #[test]
    fn each_label_that_names_a_subject_is_covered_where_it_was() {
        let alerts = [
            alert(&[("alertname", "Down"), ("service", "pay"), ("cluster", "eu")]),
            alert(&[("alertname", "Slow"), ("service", "cart.v2"), ("cluster", "eu"), ("namespace", "shop")]),
            alert(&[("alertname", "Crash"), ("pod", "web-7c9f8d6b5-x2x4z"), ("namespace", "shop")]),
            alert(&[("alertname", "Crash"), ("pod", "web-7c9f8d6b5-abcde"), ("namespace", "stage")]),
            alert(&[("alertname", "DiskFull"), ("instance", "db-1:9100")]),
            alert(&[("alertname", "Watchdog")]),
        ];
        let matchers = covering(&alerts).unwrap();
        let written: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        assert_eq!(
            written,
            [
                r#"{alertname=~"Watchdog"}"#,
                r#"{instance=~"db-1[:/.].*"}"#,
                r#"{namespace=~"shop|stage",pod=~"web(-[a-z0-9]{6,10})?-([a-z0-9]{5}|[0-9]{1,4})"}"#,
                r#"{cluster="eu",service=~"cart\\.v2|pay"}"#,
            ]
        );
        for alert in &alerts {
            assert!(matchers.iter().any(|one| one.matches(&alert.labels)), "{:?}", alert.labels);
        }
        let next = alert(&[("alertname", "Crash"), ("pod", "web-99fd7c5b4-abcde"), ("namespace", "shop")]);
        assert!(matchers.iter().any(|one| one.matches(&next.labels)));
        for pod in ["website-7c9f8d6b5-x2x4z", "web-admin-5d4f66bb-abc12", "web-db-0"] {
            let other = alert(&[("alertname", "Crash"), ("pod", pod), ("namespace", "shop")]);
            assert!(!matchers.iter().any(|one| one.matches(&other.labels)), "{pod}");
        }
    }
}
