//! Who an alert is about, and whom else it names: a failing callee, a host, a topic.
//!
//! People write into alerts what fails ("errors calling ledger: connection refused"), so that the
//! topology of an estate that has none on file is learned from its own alerts.

use std::borrow::Cow;

use super::super::alert::{Alert, DEFAULT_CLUSTER, Reading, Severity, is_in_cluster, is_machine};
use super::graph::Graph;
use super::names;

/// Separates the cluster from an environment that is not production.
pub(super) const BETWEEN: char = '\u{1f}';
/// Before the name of a region where the cluster is not said.
const REGION: char = '\u{1e}';
const NOT_PRODUCTION: [&str; 12] =
    ["staging", "stage", "stg", "dev", "development", "test", "testing", "qa", "uat", "sandbox", "preprod", "preview"];
/// Whether the value of the label is a thing that subjects need, and that has alerts of its own.
/// A `match`, because every label of every alert is asked.
fn is_thing(label: &str) -> bool {
    is_machine(label) || is_dependency(label) || matches!(label, "topic" | "queue" | "database" | "target" | "broker")
}

/// Whether the label says what the subject needs.
pub(super) fn is_dependency(label: &str) -> bool {
    matches!(
        label,
        "upstream"
            | "upstream_service"
            | "destination"
            | "destination_service"
            | "dependency"
            | "peer"
            | "peer_service"
            | "backend"
    )
}

/// Names that one alert is read for at most.
const MOST: usize = 8;
/// Texts are read so far: what matters is said first.
const READ: usize = 400;
/// Beyond so many subjects, names that nobody has heard of are no longer noted.
const MAX_NODES: usize = 200_000;

/// The environment where it is not production: equal names in staging are other services.
pub fn environment(alert: &Alert) -> Option<&'static str> {
    environment_said(alert.environment(), alert.namespace())
}

fn environment_said(said: Option<&str>, namespace: Option<&str>) -> Option<&'static str> {
    match said {
        Some(said) => known(said),
        None => namespace.and_then(environment_of),
    }
}

/// The same, of a namespace: by its last word, else by its first.
pub fn environment_of(namespace: &str) -> Option<&'static str> {
    // By bytes: each alert is asked, and searching for letters costs several times as much.
    let is_cut = |byte: u8| matches!(byte, b'-' | b'_' | b'.');
    let Some(last) = namespace.bytes().rposition(is_cut) else { return known(namespace) };
    let first = namespace.bytes().position(is_cut).unwrap_or(last);
    known(&namespace[last + 1..]).or_else(|| known(&namespace[..first]))
}

fn known(environment: &str) -> Option<&'static str> {
    NOT_PRODUCTION.iter().find(|name| environment.eq_ignore_ascii_case(name)).copied()
}

/// Cluster and environment: names mean the same within one scope only. The region stands for a cluster that
/// is not said.
pub fn scope<'a>(alert: &Reading<'a>) -> Cow<'a, str> {
    let environment = environment_said(alert.environment(), alert.namespace());
    match (alert.says_cluster(), alert.region(), environment) {
        (true, ..) | (_, None, _) => scope_of(alert.cluster(), environment),
        (false, Some(region), None) => Cow::Owned(format!("{REGION}{region}")),
        (false, Some(region), Some(environment)) => Cow::Owned(format!("{REGION}{region}{BETWEEN}{environment}")),
    }
}

fn scope_of<'a>(cluster: &'a str, environment: Option<&'static str>) -> Cow<'a, str> {
    match environment {
        None => Cow::Borrowed(cluster),
        Some(environment) => Cow::Owned(format!("{cluster}{BETWEEN}{environment}")),
    }
}

/// The cluster of a scope.
pub fn cluster_of(scope: &str) -> &str {
    match region_of(scope) {
        Some(_) => DEFAULT_CLUSTER,
        None => scope.split(BETWEEN).next().unwrap_or(scope),
    }
}

/// The scope as if the region had not been named.
pub(super) fn without_region(scope: &str) -> Cow<'_, str> {
    match region_of(scope) {
        Some(_) => Cow::Owned(format!("{DEFAULT_CLUSTER}{}", scope.find(BETWEEN).map_or("", |at| &scope[at..]))),
        None => Cow::Borrowed(scope),
    }
}

/// The region of a scope that names no cluster.
pub(super) fn region_of(scope: &str) -> Option<&str> {
    scope.strip_prefix(REGION).map(|region| region.split(BETWEEN).next().unwrap_or(region))
}

/// Whether the scope is that of alerts that name no cluster.
pub(super) fn is_unsaid(scope: &str) -> bool {
    region_of(scope).is_some()
        || scope.strip_prefix(DEFAULT_CLUSTER).is_some_and(|rest| rest.is_empty() || rest.starts_with(BETWEEN))
}

/// A name as people give them to services and machines, rather than a word of a sentence.
fn is_name(word: &str) -> bool {
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    (4..=63).contains(&word.len())
        && letters >= 3
        && word.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && word.bytes().skip(1).any(|byte| byte == b'-' || byte == b'_')
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

pub(super) fn short(word: &str) -> &str {
    let word = word.trim_matches(['.', '-', '_']);
    if is_in_cluster(word) { word.split('.').next().unwrap_or(word) } else { word }
}

/// So many bytes of it at most, and no half letter.
pub(super) fn beginning(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// Notes whom the alert about `node` names, and returns them.
pub(super) fn read(graph: &mut Graph, alert: &Reading<'_>, node: u32, into: &mut Vec<u32>) {
    into.clear();
    let scope = graph.at(node).scope;
    for (name, value) in &alert.labels {
        if is_thing(name) {
            let value = short(value.split_once(':').map_or(value, |(host, _)| host));
            let itself = value == &*graph.at(node).subject;
            // What is known to serve as something may have a machine of its own.
            if itself && is_machine(name) && names::is_of_machine(alert.name()) && !graph.at(node).serves {
                graph.at_mut(node).host = true;
            }
            if !itself && !value.is_empty() && graph.len() < MAX_NODES {
                let thing = graph.intern(scope, value);
                note(thing, node, into);
                if is_machine(name) && !graph.at(thing).serves {
                    graph.at_mut(thing).host = true;
                }
            }
        }
    }
    // A warning without a cause in it is read too: which callee is slow is said in warnings first.
    let severe = alert.severity() >= Severity::Warning;
    for text in alert.annotations.iter().filter(|(name, _)| severe && !name.contains("url")).map(|(_, text)| text) {
        let text = beginning(text, READ);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
            let word = short(word);
            if into.len() >= MOST || word.len() < 3 || !(graph.has_heard(word) || is_name(word)) {
                continue;
            }
            let subject = &*graph.at(node).subject;
            if word == subject || own_instance(word, subject) {
                continue;
            }
            let known = graph.known(scope, word).filter(|other| graph.at(*other).speaks);
            let other = match known {
                Some(other) => other,
                None if graph.is_charted(word) || is_name(word) && graph.len() < MAX_NODES => graph.intern(scope, word),
                None => continue,
            };
            note(other, node, into);
        }
    }
    for other in into.iter() {
        graph.named(node, *other);
    }
}

/// `pay-7c9f-x2x1` and `pay-01` are instances of `pay`.
fn own_instance(word: &str, subject: &str) -> bool {
    word.strip_prefix(subject)
        .is_some_and(|rest| rest.starts_with(['-', '_', '.']) && rest.bytes().any(|byte| byte.is_ascii_digit()))
}

fn note(other: u32, node: u32, into: &mut Vec<u32>) {
    if other != node && into.len() < MOST && !into.contains(&other) {
        into.push(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, most: usize, expected: &str) {
        assert_eq!(beginning(text, most), expected);
    }

    #[test]
    fn a_text_is_read_to_its_bound_whatever_letter_stands_there() {
        check("pay is down", 3, "pay");
        check("pay", 400, "pay");
        check("Störung", 3, "St");
        check("Störung", 4, "Stö");
        check("🔥 pay", 2, "");
    }
}
