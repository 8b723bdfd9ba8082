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
            Some((label, value, subject)) => (label, around(value, subject)),
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
            let mut values = about.iter().map(|alert| alert.label(place));
            if let Some(Some(first)) = values.next()
                && values.all(|value| value == Some(first))
            {
                all.push(Matcher::new(place, Op::Equal, first)?);
            }
        }
        Matchers::new(all)
    };
    by_label.into_iter().map(cover).collect()
}

/// Of a value that says more than the subject: the next pod or port of the same is meant, too.
fn around(value: &str, subject: &str) -> String {
    let Some((before, after)) = value.split_once(subject) else { return literal(value) };
    let named = literal(subject);
    let letter = |next: Option<char>| next.is_some_and(char::is_alphanumeric);
    match (before.is_empty(), after.is_empty()) {
        _ if letter(before.chars().next_back()) || letter(after.chars().next()) => literal(value),
        (true, true) => named,
        (true, false) => format!("{named}[^a-zA-Z0-9].*"),
        (false, true) => format!(".*[^a-zA-Z0-9]{named}"),
        (false, false) => format!(".*[^a-zA-Z0-9]{named}[^a-zA-Z0-9].*"),
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
    fn each_label_that_names_a_subject_is_covered_where_it_was() {
        let alerts = [
            alert(&[("alertname", "Down"), ("service", "pay"), ("cluster", "eu")]),
            alert(&[("alertname", "Slow"), ("service", "cart.v2"), ("cluster", "eu"), ("namespace", "shop")]),
            alert(&[("alertname", "Crash"), ("pod", "web-7c9f8d6b5-x2x4z"), ("namespace", "shop")]),
            alert(&[("alertname", "DiskFull"), ("instance", "db-1:9100")]),
            alert(&[("alertname", "Watchdog")]),
        ];
        let matchers = covering(&alerts).unwrap();
        let written: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        assert_eq!(
            written,
            [
                r#"{alertname=~"Watchdog"}"#,
                r#"{instance=~"db-1[^a-zA-Z0-9].*"}"#,
                r#"{namespace="shop",pod=~"web[^a-zA-Z0-9].*"}"#,
                r#"{cluster="eu",service=~"cart\\.v2|pay"}"#,
            ]
        );
        for alert in &alerts {
            assert!(matchers.iter().any(|one| one.matches(&alert.labels)), "{:?}", alert.labels);
        }
        let next = alert(&[("alertname", "Crash"), ("pod", "web-99fd7c5b4-abcde"), ("namespace", "shop")]);
        assert!(matchers.iter().any(|one| one.matches(&next.labels)));
        let other = alert(&[("alertname", "Crash"), ("pod", "website-7c9f8d6b5-x2x4z"), ("namespace", "shop")]);
        assert!(!matchers.iter().any(|one| one.matches(&other.labels)));
    }
}
