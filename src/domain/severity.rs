//! How bad an incident is: SEV1 to SEV4, with the reason.
//!
//! What users feel counts most, then how far the failure reaches; an environment that is not
//! production, and a past in which such incidents went away by themselves, lower it.

use std::collections::BTreeSet;

use super::alert::{Alert, Severity};
use super::correlate::environment;
use super::incident::Sev;
use super::topology::{NodeKind, Topology};

/// One kind of alert of the incident, as far as severity is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symptom {
    pub subject: String,
    pub severity: Severity,
    /// What its name or labels say of users.
    pub users: Users,
    pub production: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Users {
    Unsaid,
    /// It burns a budget that was promised to somebody.
    Promised,
    /// Its author says that users feel it.
    Feel,
}

/// How earlier incidents of this kind ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    pub ended_by_itself: u32,
    pub acted_on: u32,
}

impl Symptom {
    pub fn of(alert: &Alert) -> Self {
        Self {
            subject: alert.about().to_owned(),
            severity: alert.severity(),
            users: users(alert),
            production: environment(alert).is_none(),
        }
    }

    /// Of alerts whose labels are no longer at hand: their name still says whether a promise is broken.
    pub fn named(name: &str, subject: &str, severity: Severity) -> Self {
        let users = if is_promise(name) { Users::Promised } else { Users::Unsaid };
        Self { subject: subject.to_owned(), severity, users, production: true }
    }
}

fn is_promise(name: &str) -> bool {
    // Written so: `Slow` is no objective.
    if name.contains("SLO") || name.contains("SLA") {
        return true;
    }
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    plain.contains("errorbudget") || plain.contains("burnrate")
}

fn users(alert: &Alert) -> Users {
    let yes =
        |name: &str| alert.label(name).is_some_and(|value| !["false", "no", "none", "0", "internal"].contains(&value));
    let tier = ["tier", "criticality"].iter().find_map(|name| alert.label(name));
    let first_tier = tier.is_some_and(|tier| ["0", "1", "tier0", "tier1", "tier-0", "tier-1"].contains(&tier));
    if ["user_facing", "customer_impact", "customer_facing", "external"].iter().any(|name| yes(name)) || first_tier {
        return Users::Feel;
    }
    if is_promise(alert.name()) || alert.label("slo").is_some() || alert.label("sla").is_some() {
        Users::Promised
    } else {
        Users::Unsaid
    }
}

/// Fewer doors than this share in trouble are a part of users, not most of them.
const MOST_DOORS: f64 = 0.5;
/// From this share of the estate on, an incident is one of everybody.
const WIDE: f64 = 0.4;
/// Incidents of a kind that are known before its past speaks.
const MIN_HISTORY: u32 = 5;

/// The severity of an incident with these symptoms, and why.
pub fn assess(symptoms: &[Symptom], topology: &Topology, history: History) -> (Sev, String) {
    let critical = |one: &&Symptom| one.severity == Severity::Critical;
    let ill: BTreeSet<&str> = symptoms.iter().filter(critical).map(|one| one.subject.as_str()).collect();
    let all: BTreeSet<&str> = symptoms.iter().map(|one| one.subject.as_str()).collect();
    if !symptoms.is_empty() && symptoms.iter().all(|one| !one.production) {
        return (Sev::Four, format!("{} affected, none of it in production", services(all.len())));
    }
    let feel = symptoms.iter().filter(critical).map(|one| one.users).max().unwrap_or(Users::Unsaid);
    if ill.is_empty() {
        let (sev, said) = match symptoms.iter().map(|one| one.users).max() {
            Some(Users::Feel) => (Sev::Three, ", but users feel them"),
            Some(Users::Promised) => (Sev::Three, ", one of them about a promise to users"),
            Some(Users::Unsaid) | None if all.len() > 1 => (Sev::Three, ""),
            Some(Users::Unsaid) | None => (Sev::Four, ""),
        };
        return settle(sev, format!("warnings only, about {}{said}", services(all.len())), history);
    }
    let is_door = |name: &str| {
        topology.kind(name) == Some(NodeKind::Service)
            && topology.dependents(name).next().is_none()
            && topology.callees(name).next().is_some()
    };
    let doors = topology.nodes().filter(|(name, _)| is_door(name)).count();
    let ill_doors: Vec<&str> = ill.iter().copied().filter(|name| is_door(name)).collect();
    let known = topology.nodes().filter(|(_, kind)| *kind != NodeKind::Host).count();
    let share = ill.len() as f64 / known.max(1) as f64;
    let of_doors = ill_doors.len() as f64 / doors.max(1) as f64;
    let many = services(ill.len());
    let (sev, reason) = match ill_doors.first() {
        Some(door) if of_doors >= MOST_DOORS && ill.len() >= 3 => {
            let count = ill_doors.len();
            (Sev::One, format!("{many} critical, among them {count} of {doors} that users reach directly ({door})"))
        }
        Some(door) => (Sev::Two, format!("{many} critical, among them {door}, which users reach directly")),
        None if feel == Users::Feel && ill.len() >= 3 => {
            (Sev::One, format!("{many} critical, and an alert says that users feel it"))
        }
        None if feel == Users::Feel => (Sev::Two, format!("{many} critical, and an alert says that users feel it")),
        None if known >= 5 && share >= WIDE => {
            (Sev::One, format!("{many} critical, {:.0} % of the estate", share * 100.0))
        }
        None if ill.len() >= 6 => (Sev::Two, format!("{many} critical")),
        None if feel == Users::Promised => (Sev::Two, format!("{many} critical, and a budget of users burns")),
        None if ill.len() >= 2 => (Sev::Three, format!("{many} critical, none of them one that users reach directly")),
        None => (Sev::Three, format!("only {} is critical", ill.first().copied().unwrap_or("one service"))),
    };
    settle(sev, reason, history)
}

/// One step down when nearly all of its kind have gone away by themselves. SEV1 stays: what many users
/// feel is looked at even if it may pass.
fn settle(sev: Sev, reason: String, history: History) -> (Sev, String) {
    let times = history.ended_by_itself + history.acted_on;
    if times < MIN_HISTORY || history.ended_by_itself * 10 < times * 9 {
        return (sev, reason);
    }
    let lower = match sev {
        Sev::One => return (sev, reason),
        Sev::Two => Sev::Three,
        Sev::Three | Sev::Four => Sev::Four,
    };
    (lower, format!("{reason}; {} of {times} such incidents ended by themselves", history.ended_by_itself))
}

fn services(count: usize) -> String {
    if count == 1 { "1 service".into() } else { format!("{count} services") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::topology::EdgeKind;

    fn chart() -> Topology {
        let mut topology = Topology::default();
        for (from, to) in [("web", "cart"), ("app", "cart"), ("cart", "ledger"), ("ledger", "db"), ("jobs", "db")] {
            topology.add_edge(from, to, EdgeKind::Calls);
        }
        topology
    }

    fn ill(subject: &str) -> Symptom {
        Symptom { subject: subject.into(), severity: Severity::Critical, users: Users::Unsaid, production: true }
    }

    fn check(symptoms: &[Symptom], history: History, expected: &str) {
        let (sev, reason) = assess(symptoms, &chart(), history);
        assert_eq!(format!("{}: {reason}", sev.as_str()), expected);
    }

    #[test]
    fn doors_make_it_worse() {
        check(&[ill("ledger")], History::default(), "SEV3: only ledger is critical");
        check(
            &[ill("ledger"), ill("web")],
            History::default(),
            "SEV2: 2 services critical, among them web, which users reach directly",
        );
        check(
            &[ill("ledger"), ill("web"), ill("app")],
            History::default(),
            "SEV1: 3 services critical, among them 2 of 3 that users reach directly (app)",
        );
    }

    #[test]
    fn staging_and_a_harmless_past_make_it_less() {
        let staged = Symptom { production: false, ..ill("web") };
        check(&[staged], History::default(), "SEV4: 1 service affected, none of it in production");
        check(
            &[ill("ledger")],
            History { ended_by_itself: 9, acted_on: 1 },
            "SEV4: only ledger is critical; 9 of 10 such incidents ended by themselves",
        );
        check(&[ill("ledger")], History { ended_by_itself: 4, acted_on: 0 }, "SEV3: only ledger is critical");
    }

    #[test]
    fn warnings_alone_wake_nobody() {
        let warns = Symptom { severity: Severity::Warning, ..ill("ledger") };
        check(&[warns.clone()], History::default(), "SEV4: warnings only, about 1 service");
        let promised = Symptom { users: Users::Promised, ..warns };
        check(
            &[promised],
            History::default(),
            "SEV3: warnings only, about 1 service, one of them about a promise to users",
        );
    }
}
