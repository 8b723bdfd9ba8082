//! Where an incident is told, and when: at once, after quiet hours, or in a digest.
//!
//! Invariant: what asks people to decide, and what is grave enough, is never kept back.

use serde::{Deserialize, Serialize};

use super::alert::Labels;
use super::correlate::environment_of;
use super::incident::{Incident, Sev, State};
use super::intent::matcher::Matchers;
use super::intent::window::Schedule;
use super::time::Timestamp;

const PRODUCTION: &str = "production";

/// Incidents that one digest names; more are a second message.
pub const NAMED: usize = 40;

/// What is known of an incident's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub severity: Sev,
    /// One for each service, with `team`, `service`, `severity`, `environment`, `namespace` and `cluster`.
    labels: Vec<Labels>,
}

impl Facts {
    /// `seen`: labels of some of its alerts, for what the incident itself does not keep.
    pub fn of(incident: &Incident, seen: &[Labels]) -> Self {
        let first =
            |names: &[&str]| seen.iter().find_map(|labels| names.iter().find_map(|name| labels.get(*name))).cloned();
        let mut shared = Labels::new();
        let namespace = first(&["namespace"]);
        // As the correlator sees it: what names no other environment is production.
        let environment = first(&["environment", "env"])
            .unwrap_or_else(|| namespace.as_deref().and_then(environment_of).unwrap_or(PRODUCTION).to_owned());
        let team = Some(incident.team.clone()).filter(|team| !team.is_empty()).or_else(|| first(&["team"]));
        let known = [
            ("team", team),
            ("severity", Some(incident.severity.as_str().to_owned())),
            ("environment", Some(environment)),
            ("namespace", namespace),
            ("cluster", Some(incident.cluster.clone())),
        ];
        for (name, value) in known {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                shared.insert(name.into(), value);
            }
        }
        let cause = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.as_deref());
        let labels = cause
            .into_iter()
            .chain(incident.subjects())
            .map(|service| {
                let mut labels = shared.clone();
                labels.insert("service".into(), service.to_owned());
                labels
            })
            .collect::<Vec<_>>();
        Self { severity: incident.severity, labels: if labels.is_empty() { vec![shared] } else { labels } }
    }

    /// Of a service without an incident, as if it were grave.
    pub fn of_service(service: Option<&str>) -> Self {
        let mut labels = Labels::new();
        labels.insert("severity".into(), Sev::One.as_str().to_owned());
        if let Some(service) = service {
            labels.insert("service".into(), service.to_owned());
        }
        Self { severity: Sev::One, labels: vec![labels] }
    }

    /// Whether one of its services is meant.
    pub fn fit(&self, matchers: &Matchers) -> bool {
        self.labels.iter().any(|labels| matchers.matches(labels))
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Over `team`, `service`, `severity` (SEV1 to SEV4), `environment`, `namespace`, `cluster`.
    pub matchers: Matchers,
    pub channel: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    pub schedule: Schedule,
    /// What is as grave as this, or graver, is told at any time.
    #[serde(default = "sev_two")]
    pub except: Sev,
}

fn sev_two() -> Sev {
    Sev::Two
}

/// Where and when. The first route that fits counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routing {
    pub routes: Vec<Route>,
    pub quiet: Vec<Quiet>,
    /// What is as light as this, or lighter, is told in a digest.
    pub digest: Option<Sev>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "telling", rename_all = "snake_case")]
pub enum Telling {
    Now,
    /// Quiet hours: not before then.
    After {
        at: Timestamp,
    },
    Digest,
}

impl Routing {
    /// The channel, where the configuration names one for it.
    pub fn channel(&self, facts: &Facts) -> Option<&str> {
        self.routes.iter().find(|route| facts.fit(&route.matchers)).map(|route| route.channel.as_str())
    }

    /// When the first message about the incident is due; `told`: people have seen it already.
    pub fn telling(&self, incident: &Incident, wall_now: Timestamp) -> Telling {
        // Somebody is asked to decide, was called, or has taken it: all of them need the message.
        let waits_for_people =
            matches!(incident.state, State::Awaiting { .. }) || incident.owner.is_some() || incident.called > 0;
        if waits_for_people {
            return Telling::Now;
        }
        if self.digest.is_some_and(|lightest| incident.severity <= lightest) {
            return Telling::Digest;
        }
        let quiet =
            self.quiet.iter().find(|quiet| incident.severity < quiet.except && quiet.schedule.contains(wall_now));
        match quiet.and_then(|quiet| quiet.schedule.until(wall_now)) {
            Some(at) => Telling::After { at },
            None => Telling::Now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IncidentId;

    fn incident(severity: Sev) -> Incident {
        let mut incident = Incident::blank(IncidentId::numbered(1));
        incident.severity = severity;
        incident.team = "payments".into();
        incident
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_first_route_that_fits_counts() {
        let route = |matchers: &str, channel: &str| Route {
            matchers: Matchers::parse(matchers).unwrap(),
            channel: channel.into(),
        };
        let routing = Routing {
            routes: vec![
                route("environment=\"staging\"", "#staging"),
                route("team=\"payments\", severity=~\"SEV1|SEV2\"", "#pay-urgent"),
                route("team=\"payments\"", "#pay"),
            ],
            ..Routing::default()
        };
        let check = |severity, env: &str, expected| {
            let facts = Facts::of(&incident(severity), &[labels(&[("env", env)])]);
            assert_eq!(routing.channel(&facts), expected);
        };
        check(Sev::One, "production", Some("#pay-urgent"));
        check(Sev::Three, "production", Some("#pay"));
        check(Sev::One, "staging", Some("#staging"));
        let by_name = Facts::of(&incident(Sev::One), &[labels(&[("namespace", "pay-staging")])]);
        assert_eq!(routing.channel(&by_name), Some("#staging"));
        let mut other = incident(Sev::One);
        other.team = "search".into();
        assert_eq!(routing.channel(&Facts::of(&other, &[])), None);
    }

    #[test]
    fn light_ones_wait_and_what_asks_for_people_does_not() {
        let quiet = Quiet { schedule: Schedule::Weekly("mon-sun 22:00-06:00 UTC".parse().unwrap()), except: Sev::Two };
        let routing = Routing { quiet: vec![quiet], digest: Some(Sev::Four), ..Routing::default() };
        let night = Timestamp::parse("2026-11-21T23:30:00Z").unwrap();
        let day = Timestamp::parse("2026-11-21T12:00:00Z").unwrap();
        let morning = Timestamp::parse("2026-11-22T06:00:00Z").unwrap();
        assert_eq!(routing.telling(&incident(Sev::Two), night), Telling::Now);
        assert_eq!(routing.telling(&incident(Sev::Three), night), Telling::After { at: morning });
        assert_eq!(routing.telling(&incident(Sev::Three), day), Telling::Now);
        assert_eq!(routing.telling(&incident(Sev::Four), day), Telling::Digest);
        let mut asked = incident(Sev::Four);
        asked.owner = Some("local/ada".into());
        assert_eq!(routing.telling(&asked, night), Telling::Now);
    }
}
