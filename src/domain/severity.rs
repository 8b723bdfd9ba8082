//! How bad an incident is: SEV1 to SEV4, with the reason.
//!
//! What users feel counts most, then how far the failure reaches; an environment that is not
//! production, and a past in which such incidents went away by themselves, lower it.

mod past;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Severity};
use super::correlate::names::words;
use super::correlate::{environment, is_cause, is_machine_down};
use super::incident::{AlertGroup, Sev};
use super::topology::{NodeKind, Topology};

pub use past::{Ending, Past};

/// One kind of alert of the incident, as far as severity is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symptom {
    pub name: String,
    pub subject: String,
    pub severity: Severity,
    pub said: Said,
    /// How many alerts of this name there are about the subject: its instances.
    pub instances: usize,
}

/// What an alert's labels say of its weight. Kept with the incident, which does not keep labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// What its name or labels say of users.
    pub users: Users,
    pub production: bool,
    /// About data on its way, which no user waits for at that moment.
    pub pipeline: bool,
}

impl Default for Said {
    fn default() -> Self {
        Self { users: Users::Unsaid, production: true, pipeline: false }
    }
}

impl Said {
    pub fn by(alert: &Alert) -> Self {
        // A service may well say which pipeline has deployed it.
        let about = alert.about();
        let pipeline = PIPELINES.iter().any(|name| alert.label(name) == Some(about));
        Self { users: users(alert), production: environment(alert).is_none(), pipeline }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Users {
    #[default]
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
    /// `subject` is whom correlation took the alert to be about.
    pub fn about(alert: &Alert, subject: &str) -> Self {
        let (name, subject) = (alert.name().to_owned(), subject.to_owned());
        Self { name, subject, severity: alert.severity(), said: Said::by(alert), instances: 1 }
    }

    /// Of alerts whose labels are no longer at hand: their name still says whether a promise is broken.
    pub fn named(name: &str, subject: &str, severity: Severity) -> Self {
        let users = if is_promise(name) { Users::Promised } else { Users::Unsaid };
        let said = Said { users, ..Said::default() };
        Self { name: name.to_owned(), subject: subject.to_owned(), severity, said, instances: 1 }
    }

    /// Of alerts of one name and subject, as the incident keeps them.
    pub fn of_group(group: &AlertGroup) -> Self {
        let named = Self::named(&group.name, &group.subject, group.severity);
        let said = Said { users: named.said.users.max(group.said.users), ..group.said };
        Self { said, instances: group.count.max(1), ..named }
    }

    fn has_word(&self, list: &[&str]) -> bool {
        has_word(&self.name, list)
    }
}

/// A name of nothing but such words stands before everything: all users pass through it.
const ROUTERS: [&str; 14] = [
    "gateway",
    "edge",
    "ingress",
    "router",
    "proxy",
    "haproxy",
    "balancer",
    "load",
    "api",
    "public",
    "nginx",
    "controller",
    "envoy",
    "traefik",
];
/// Names of what users have on their screens.
const FRONTS: [&str; 11] =
    ["frontend", "front", "web", "ui", "bff", "storefront", "portal", "mobile", "website", "webapp", "gateway"];
/// What the users of nearly any business cannot do without.
const CORE: [&str; 14] = [
    "login", "signin", "auth", "identity", "sso", "checkout", "cart", "payment", "pay", "order", "booking", "playback",
    "stream", "account",
];
/// Names of what works through a backlog: users wait for none of it.
const BACKGROUND: [&str; 14] = [
    "worker",
    "consumer",
    "processor",
    "projector",
    "dispatcher",
    "indexer",
    "importer",
    "scheduler",
    "job",
    "cron",
    "batch",
    "nightly",
    "export",
    "reconcile",
];
/// Among those, what runs at its time and can run again.
const BATCH: [&str; 8] = ["job", "cron", "batch", "nightly", "export", "reconcile", "backup", "report"];
/// Labels of what moves data from one place to another.
const PIPELINES: [&str; 6] = ["dag_id", "dag", "pipeline", "pipeline_name", "dataset", "workflow"];
/// Names of alerts about a whole journey of a user.
const JOURNEYS: [&str; 7] = ["synthetic", "probe", "blackbox", "journey", "endpoint", "canary", "uptime"];

/// Whether the name, or the words that it is made of, has one of these.
fn has_word(name: &str, list: &[&str]) -> bool {
    words(name).any(|word| list.iter().any(|one| word.eq_ignore_ascii_case(one) || is_plural(word, one)))
}

/// Whether the name says no more than that everything passes through it.
fn is_router(name: &str) -> bool {
    let mut said = words(name).filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic())).peekable();
    said.peek().is_some() && said.all(|word| ROUTERS.iter().any(|one| word.eq_ignore_ascii_case(one)))
}

fn is_plural(word: &str, of: &str) -> bool {
    word.len() == of.len() + 1
        && word.ends_with('s')
        && word.get(..of.len()).is_some_and(|one| one.eq_ignore_ascii_case(of))
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
/// Fewer doors than this share are few users.
const SOME_DOORS: f64 = 0.2;
/// From this share of the estate on, an incident is one of everybody.
const WIDE: f64 = 0.4;
/// Where no door is known: so many critical services are a substantial part.
const MANY: usize = 5;
/// A machine that is gone with no more than this many critical services on it: others carry on.
const TENANTS: usize = 3;
/// Incidents of a kind that are known before its past speaks.
const MIN_HISTORY: u32 = 5;

/// The severity of an incident with these symptoms, and why.
pub fn assess(symptoms: &[Symptom], topology: &Topology, history: History) -> (Sev, String) {
    let critical = |one: &&Symptom| one.severity == Severity::Critical;
    let ill: BTreeSet<&str> = symptoms.iter().filter(critical).map(|one| one.subject.as_str()).collect();
    let all: BTreeSet<&str> = symptoms.iter().map(|one| one.subject.as_str()).collect();
    if !symptoms.is_empty() && symptoms.iter().all(|one| !one.said.production) {
        return (Sev::Four, format!("{} affected, none of it in production", services(all.len())));
    }
    let concerned = if ill.is_empty() { &all } else { &ill };
    if !concerned.is_empty() && concerned.iter().all(|name| has_word(name, &BATCH)) {
        return settle(Sev::Four, format!("{} affected, of the kind that can run again", services(all.len())), history);
    }
    let feel = symptoms.iter().filter(critical).map(|one| one.said.users).max().unwrap_or(Users::Unsaid);
    if ill.is_empty() {
        let names: BTreeSet<&str> = symptoms.iter().map(|one| one.name.as_str()).collect();
        let instances: usize = symptoms.iter().map(|one| one.instances).sum();
        let (sev, said) = match symptoms.iter().map(|one| one.said.users).max() {
            Some(Users::Feel) => (Sev::Three, ", but users feel them"),
            Some(Users::Promised) => (Sev::Three, ", one of them about a promise to users"),
            Some(Users::Unsaid) | None if all.len() > 1 => (Sev::Three, ""),
            Some(Users::Unsaid) | None if names.len() > 1 => (Sev::Three, ", of more than one kind"),
            Some(Users::Unsaid) | None if instances > 1 => (Sev::Three, ", more than one instance of it"),
            Some(Users::Unsaid) | None => (Sev::Four, ""),
        };
        return settle(sev, format!("warnings only, about {}{said}", services(all.len())), history);
    }
    let (sev, reason) = weigh(symptoms, &ill, feel, topology);
    let gone = symptoms.iter().filter(critical).find(|one| is_machine_down(&one.name));
    // Others carry on, unless users meet those that suffer.
    if let Some(gone) = gone
        && ill.len() <= TENANTS + 1
        && feel != Users::Feel
        && sev <= Sev::Three
    {
        let because = format!("the machine {} is gone, few services suffer and others carry on", gone.subject);
        return settle(Sev::Four, because, history);
    }
    settle(sev, reason, history)
}

/// By what users meet: how many of the doors are ill, and whether a whole journey fails.
fn weigh(symptoms: &[Symptom], ill: &BTreeSet<&str>, feel: Users, topology: &Topology) -> (Sev, String) {
    let many = services(ill.len());
    // A door that only warns is ill too where the warning is of what users notice.
    let suffers = |one: &&Symptom| one.severity == Severity::Critical || !is_cause(&one.name);
    let suffering: BTreeSet<&str> = symptoms.iter().filter(suffers).map(|one| one.subject.as_str()).collect();
    let mut doors: BTreeSet<&str> =
        topology.nodes().map(|(name, _)| name).filter(|name| is_door(name, topology)).collect();
    // Whoever looks at a report waits for none of it at that moment.
    for one in symptoms.iter().filter(|one| one.said.pipeline) {
        doors.remove(one.subject.as_str());
    }
    // Where names say which doors are for users, those count, by their share. Where none does, every
    // door may be one, and one that suffers is taken seriously.
    let told = doors.iter().any(|name| has_word(name, &FRONTS));
    if told {
        doors.retain(|name| has_word(name, &FRONTS));
    }
    let ill_doors: Vec<&str> = suffering.iter().copied().filter(|name| doors.contains(name)).collect();
    let of_doors = ill_doors.len() as f64 / doors.len().max(1) as f64;
    let known = topology.nodes().filter(|(_, kind)| *kind != NodeKind::Host).count();
    let share = ill.len() as f64 / known.max(1) as f64;
    // What stands before everything and has nothing ill behind it fails for everybody.
    let everybody = ill.iter().copied().find(|name| {
        is_router(name) && !topology.callees(name).any(|callee| suffering.contains(callee)) && ill.len() == 1
    });
    let journey = symptoms.iter().find(|one| {
        let core = has_word(&one.subject, &FRONTS) && has_word(&one.subject, &CORE);
        one.severity == Severity::Critical && (core || is_router(&one.subject)) && one.has_word(&JOURNEYS)
    });
    if let Some(router) = everybody {
        return (Sev::One, format!("{router} is critical, and everything comes through it"));
    }
    if let Some(journey) = journey {
        let (name, subject) = (&journey.name, &journey.subject);
        return (Sev::One, format!("{many} critical, and what users do fails as a whole ({name} of {subject})"));
    }
    match ill_doors.first() {
        // One of two is most of them by count only.
        Some(door) if of_doors >= MOST_DOORS && (!told || ill_doors.len() > 1) => {
            let count = ill_doors.len();
            (
                Sev::One,
                format!("{many} critical, and {count} of {} that users reach directly suffer ({door})", doors.len()),
            )
        }
        Some(door) if of_doors >= SOME_DOORS || !told => {
            (Sev::Two, format!("{many} critical, and {door} suffers, which users reach directly"))
        }
        _ if feel == Users::Feel && ill.len() >= 3 => {
            (Sev::One, format!("{many} critical, and an alert says that users feel it"))
        }
        _ if feel == Users::Feel => (Sev::Two, format!("{many} critical, and an alert says that users feel it")),
        _ if known >= 5 && share >= WIDE => {
            (Sev::One, format!("{many} critical, {:.0} % of the estate", share * 100.0))
        }
        _ if doors.is_empty() && ill.len() >= MANY => (Sev::Two, format!("{many} critical")),
        Some(door) => {
            (Sev::Three, format!("{many} critical; of {} that users reach directly only {door} suffers", doors.len()))
        }
        None if ill.len() >= 2 => (Sev::Three, format!("{many} critical, none of them one that users reach directly")),
        None => (Sev::Three, format!("only {} is critical", ill.first().copied().unwrap_or("one service"))),
    }
}

/// A service that calls others and is called by nobody but what stands before everything.
fn is_door(name: &str, topology: &Topology) -> bool {
    topology.kind(name) == Some(NodeKind::Service)
        && !is_router(name)
        && !has_word(name, &BACKGROUND)
        && topology.dependents(name).all(is_router)
        && topology.callees(name).next().is_some()
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
    use crate::domain::time::Timestamp;
    use crate::domain::topology::EdgeKind;

    fn chart() -> Topology {
        let mut topology = Topology::default();
        for door in ["web", "mobile", "shop-ui"] {
            topology.add_edge(door, "cart", EdgeKind::Calls);
        }
        for (from, to) in [("cart", "ledger"), ("ledger", "db"), ("jobs", "db")] {
            topology.add_edge(from, to, EdgeKind::Calls);
        }
        topology
    }

    fn ill(subject: &str) -> Symptom {
        Symptom::named("HighErrorRate", subject, Severity::Critical)
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
            "SEV2: 2 services critical, and web suffers, which users reach directly",
        );
        check(
            &[ill("ledger"), ill("web"), ill("mobile")],
            History::default(),
            "SEV1: 3 services critical, and 2 of 3 that users reach directly suffer (mobile)",
        );
    }

    #[test]
    fn one_door_of_many_is_few_users() {
        let mut topology = Topology::default();
        for number in 0..8 {
            let front = format!("shop{number}-web");
            topology.add_edge("edge-gateway", &front, EdgeKind::Calls);
            topology.add_edge(&front, "db", EdgeKind::Calls);
        }
        let sev = |names: &[&str]| {
            let symptoms: Vec<Symptom> = names.iter().map(|name| ill(name)).collect();
            assess(&symptoms, &topology, History::default()).0
        };
        assert_eq!(sev(&["shop1-web"]), Sev::Three);
        assert_eq!(sev(&["shop1-web", "shop2-web"]), Sev::Two);
        assert_eq!(sev(&["edge-gateway"]), Sev::One);
        // It only passes on what one of those behind it does.
        assert_eq!(sev(&["edge-gateway", "shop1-web"]), Sev::Three);
    }

    #[test]
    fn a_journey_that_fails_is_the_worst_and_a_batch_the_least() {
        let journey = Symptom::named("SyntheticCheckFailed", "playback-web", Severity::Critical);
        assert_eq!(assess(&[journey], &Topology::default(), History::default()).0, Sev::One);
        let batch = Symptom::named("BatchFailed", "invoice-export", Severity::Critical);
        assert_eq!(assess(&[batch], &Topology::default(), History::default()).0, Sev::Four);
        let machine = Symptom::named("HostDown", "rack4-07", Severity::Critical);
        assert_eq!(assess(&[machine], &Topology::default(), History::default()).0, Sev::Four);
    }

    #[test]
    fn a_report_that_nobody_waits_for_is_no_door() {
        let mut topology = Topology::default();
        topology.add_edge("report", "mart", EdgeKind::Calls);
        let of = |pipeline| {
            let said = Said { pipeline, ..Said::default() };
            ["report", "mart"].map(|name| Symptom { said, ..ill(name) })
        };
        let says = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Said::by(&Alert::firing(labels, Timestamp::from_secs(0))).pipeline
        };
        assert!(says(&[("dag_id", "report")]) && !says(&[("service", "web"), ("pipeline", "deploy-web")]));
        assert_eq!(assess(&of(true), &topology, History::default()).0, Sev::Three);
        assert_eq!(assess(&of(false), &topology, History::default()).0, Sev::One);
    }

    #[test]
    fn staging_and_a_harmless_past_make_it_less() {
        let staged = Symptom { said: Said { production: false, ..Said::default() }, ..ill("web") };
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
        check(std::slice::from_ref(&warns), History::default(), "SEV4: warnings only, about 1 service");
        let promised = Symptom { said: Said { users: Users::Promised, ..Said::default() }, ..warns };
        check(
            &[promised],
            History::default(),
            "SEV3: warnings only, about 1 service, one of them about a promise to users",
        );
    }
}
