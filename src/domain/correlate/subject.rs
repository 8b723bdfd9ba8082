//! Whom an alert is about, where no label says it in a name that is known: senders other than a cluster's
//! own metrics put the service into a label of their own (`project`, `TargetGroup`, `check`), into the
//! name of a machine or into the text.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::alert::{Alert, Reading};
use super::super::topology::Topology;
use super::graph::Graph;
use super::mention::{beginning, is_dependency, short};
use super::{Correlator, mention};

/// Labels that say where, how or for whom; their values may be names of services, but not of the subject.
fn is_circumstance(label: &str) -> bool {
    matches!(
        label,
        "severity"
            | "priority"
            | "level"
            | "env"
            | "environment"
            | "cluster"
            | "region"
            | "zone"
            | "team"
            | "owner"
            | "source"
            | "state"
            | "status"
            | "alertname"
            | "namespace"
            | "prometheus"
            | "monitor"
            | "client"
            | "caller"
            | "source_service"
            | "source_workload"
    )
}

/// What people put before the names of what is in production.
const BEFORE: [&str; 4] = ["prod", "prd", "production", "live"];
/// Texts are read so far: whom it is about is said first.
const READ: usize = 160;

/// Whether the end of a name numbers one of several: a digit, or no vowels as in generated names.
fn is_number(part: &str) -> bool {
    part.bytes().any(|byte| byte.is_ascii_digit())
        || part.len() >= 4 && part.bytes().all(|byte| byte.is_ascii_lowercase() && !b"aeiou".contains(&byte))
}

/// `pay`, `pay-api` of `pay-api-7c9f-x2x1.prod.example.com`: the name without its domain and without what
/// numbers it, longest first.
pub(super) fn stems(name: &str) -> impl Iterator<Item = &str> {
    let host = if is_address(name) { "" } else { name.split('.').next().unwrap_or(name) };
    let digits = host.trim_end_matches(|byte: char| byte.is_ascii_digit());
    let mut rest = Some(host);
    let cut = std::iter::from_fn(move || {
        let (before, last) = rest?.rsplit_once(['-', '_'])?;
        rest = is_number(last).then_some(before);
        rest
    });
    [name, host, digits].into_iter().chain(cut).filter(|stem| stem.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

pub(super) fn is_address(name: &str) -> bool {
    name.parse::<core::net::IpAddr>().is_ok()
}

/// Whether a word in it says that it is about another environment, where equal names are other services.
fn is_elsewhere(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| mention::environment_of(word).is_some())
}

fn after_environment(name: &str) -> Option<&str> {
    let (first, rest) = name.split_once(['-', '_', '.', '/'])?;
    BEFORE.iter().any(|before| first.eq_ignore_ascii_case(before)).then_some(rest)
}

impl Graph {
    /// The known name that `value` is another way to write of.
    pub(super) fn recognise(&self, scope: u32, value: &str) -> Option<Cow<'_, str>> {
        if is_elsewhere(value) {
            return self.spelled(scope, value);
        }
        let bare = after_environment(value);
        [Some(value), bare].into_iter().flatten().flat_map(stems).find_map(|stem| self.spelled(scope, stem))
    }
}

impl Correlator {
    pub(super) fn node_of(&mut self, alert: &Reading<'_>, topology: &Arc<Topology>) -> u32 {
        self.graph.read(topology);
        let scope = self.graph.scope(&mention::scope(alert), alert.about());
        self.learn(alert, scope);
        if alert.is_named() {
            return self.graph.node_in(scope, alert.about());
        }
        let subject = self.recognised(alert, scope).into_owned();
        self.graph.node_in(scope, &subject)
    }

    /// In which region a cluster is.
    fn learn(&mut self, alert: &Reading<'_>, scope: u32) {
        if let Some(region) = alert.region().filter(|_| alert.says_cluster()) {
            self.graph.teach(scope, region);
        }
    }

    /// After a restart: which clusters there are, and in which regions, before any member is placed.
    pub fn heard_of(&mut self, alert: &Alert) {
        let alert = Reading::of(alert);
        let scope = self.graph.scope(&mention::scope(&alert), alert.about());
        self.learn(&alert, scope);
    }

    /// Scope and subject of an alert, in the names that are used for them here.
    pub fn whereabouts(&mut self, alert: &Reading<'_>, topology: &Arc<Topology>) -> (Arc<str>, Arc<str>) {
        let node = self.node_of(alert, topology);
        (self.graph.scope_of(node).clone(), self.graph.at(node).subject.clone())
    }

    /// The cluster of a member, though the alert itself names none.
    pub fn cluster(&self, alert: &Alert) -> String {
        let scope = self.member.get(&alert.fingerprint).map(|place| self.graph.scope_of(place.node));
        scope.map_or_else(|| alert.cluster(), |scope| mention::cluster_of(scope)).to_owned()
    }

    /// Whom a member or a waiting alert is about: a service in the topology's name for it, though the alert
    /// names a machine only. Of what the topology does not know, the alert's own word counts.
    pub fn about(&self, alert: &Alert) -> String {
        let reading = Reading::of(alert);
        let waits = || self.waiting.get(alert.fingerprint).map(|waiting| waiting.node);
        let node = || self.member.get(&alert.fingerprint).map(|place| place.node).or_else(waits);
        let own = reading.subject().filter(|own| !is_address(own));
        match node().filter(|_| !reading.is_named()).map(|node| self.graph.at(node)) {
            Some(node) if node.charted || own.is_none() => node.subject.to_string(),
            _ => alert.about().to_owned(),
        }
    }

    /// The subject in the words of the topology, else of other alerts, else of the alert itself; for an alert
    /// that does not name a service.
    fn recognised<'a>(&'a self, alert: &'a Reading<'_>, scope: u32) -> Cow<'a, str> {
        let said = alert.about();
        let speaks = || self.graph.known(scope, said).is_some_and(|number| self.graph.at(number).speaks);
        if alert.subject().is_some() && speaks() {
            return said.into();
        }
        if alert.subject().is_some()
            && let Some(known) = self.graph.recognise(scope, said)
        {
            return known;
        }
        if let Some(door) = alert.subject().and_then(|site| self.graph.serves_site(site)) {
            return door.into();
        }
        let labels = alert.labels.iter().filter(|(label, _)| !is_circumstance(label) && !is_dependency(label));
        let known = labels.flat_map(|(_, value)| value.split(['/', ':', ','])).find_map(|value| {
            let charted = |known: &Cow<'_, str>| !self.graph.is_host(known);
            self.graph.recognise(scope, value).filter(charted)
        });
        if known.is_some() {
            return known.unwrap_or_default();
        }
        // A machine has a name of its own; an address or nothing at all is no name.
        if alert.subject().is_some() && !is_address(said) {
            return said.into();
        }
        let only = self.places.only(alert, scope).map(|node| self.graph.at(node).subject.to_string());
        let spoken = || self.spoken_of(alert, scope);
        only.or_else(spoken).map_or(said.into(), Cow::Owned)
    }

    /// The first known name in what the alert says, other than what it blames.
    fn spoken_of(&self, alert: &Reading<'_>, scope: u32) -> Option<String> {
        let blamed: Vec<&str> =
            alert.labels.iter().filter(|(label, _)| is_dependency(label)).map(|(_, value)| value.as_str()).collect();
        let texts = ["summary", "title", "message", "description"];
        let texts = texts.iter().filter_map(|name| alert.annotations.get(*name)).map(String::as_str);
        let texts = texts.filter(|text| !is_elsewhere(text));
        let words = texts.flat_map(|text| {
            let text = beginning(text, READ);
            text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).map(short)
        });
        let known = words.filter(|word| word.len() >= 3 && !blamed.contains(word)).find_map(|word| {
            let charted = |known: &Cow<'_, str>| !self.graph.is_host(known);
            self.graph.spelled(scope, word).filter(charted)
        });
        known.map(Cow::into_owned).or_else(|| self.within_name(alert.name(), scope))
    }

    /// `search-api` of `prod-search-api-UnHealthyHostCount`.
    fn within_name(&self, name: &str, scope: u32) -> Option<String> {
        if is_elsewhere(name) {
            return None;
        }
        let cuts: Vec<usize> = name.match_indices(['-', '_', '.', ' ']).map(|(at, _)| at).collect();
        let starts = std::iter::once(0).chain(cuts.iter().map(|at| at + 1));
        let mut runs: Vec<&str> = starts
            .flat_map(|start| cuts.iter().copied().chain([name.len()]).map(move |end| (start, end)))
            .filter(|(start, end)| end > start && end - start >= 3)
            .map(|(start, end)| &name[start..end])
            .take(MOST_RUNS)
            .collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.len()));
        runs.into_iter().find_map(|run| self.graph.spelled(scope, run)).map(Cow::into_owned)
    }
}

/// Parts of a name that are looked up at most.
const MOST_RUNS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_numbers_a_name_is_not_part_of_it() {
        let all = |name| stems(name).collect::<Vec<_>>();
        assert!(all("routing-svc-bb8czcg8w-6zcvx.hopin.local").contains(&"routing-svc"));
        assert!(all("pay-api-40f3e49e-b494").contains(&"pay-api"));
        assert!(all("pay02").contains(&"pay"));
        assert!(!all("pay-api").contains(&"pay"));
        assert!(all("10.3.4.5").is_empty());
    }

    #[test]
    fn an_environment_before_a_name_is_not_part_of_it() {
        assert_eq!(after_environment("prod-media-redis"), Some("media-redis"));
        assert_eq!(after_environment("product-info"), None);
    }
}
