//! The kill switch, for everything, one namespace or one service (S13).
//!
//! Invariant: whoever stops what nothing here is called has stopped everything, and is told so.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use crate::domain::action::Action;
use crate::domain::card::{Card, Tone};
use crate::domain::command::{Scope, nearest};
use crate::domain::incident::Incident;
use crate::domain::narrative::note;
use crate::domain::plan::Extent;
use crate::flow::desk::{Desk, FlowError};
use crate::ports::Person;
use crate::store::{AuditEntry, Batch, Scope as Of};

/// The setting that stops all; the narrower ones stand below it.
pub const EVERYTHING: &str = "paused";
const BELOW: &str = "paused/";

/// The settings of which none may hold when the action is begun. What it changes counts, wherever the object
/// stands that it writes.
pub fn names_for(action: &Action, service: Option<&str>, extent: Option<&Extent>) -> Vec<String> {
    let target = action.target();
    let mut namespaces = action.namespaces();
    let mut services = BTreeSet::from([target.name.as_str()]);
    services.extend(service);
    if let Some(extent) = extent {
        namespaces.extend(extent.namespaces.iter().map(String::as_str));
        services.extend(extent.services.iter().map(String::as_str));
    }
    let namespaces = namespaces.into_iter().map(|name| name_of(&Scope::Namespace(name.to_owned())));
    let services = services.into_iter().map(|name| name_of(&Scope::Service(name.to_owned())));
    std::iter::once(EVERYTHING.to_owned()).chain(namespaces).chain(services).collect()
}

pub(super) fn name_of(scope: &Scope) -> String {
    match scope {
        Scope::All => EVERYTHING.to_owned(),
        Scope::Namespace(_) | Scope::Service(_) => format!("{BELOW}{scope}"),
    }
}

/// `ns=shop` of a setting's name.
pub fn shown(name: &str) -> &str {
    name.strip_prefix(BELOW).unwrap_or("all")
}

/// The reason that a setting holds; `None`: it is not paused. What cannot be read is a pause.
pub fn reason(value: &str) -> Option<String> {
    match serde_json::from_str::<Option<String>>(value) {
        Ok(reason) => reason,
        Err(_) => Some(value.to_owned()),
    }
}

/// All pauses that hold, each with its scope and reason.
pub async fn holding(desk: &Desk) -> Result<Vec<(String, String)>, FlowError> {
    let settings = desk.store.settings_under(EVERYTHING).await?;
    let of = |(name, value): (String, String)| Some((shown(&name).to_owned(), reason(&value)?));
    Ok(settings.into_iter().filter_map(of).collect())
}

/// How long the cluster is asked for its names; nothing is stopped meanwhile.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// What a pause can be for.
#[derive(Debug, Default)]
struct Names {
    services: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

/// A scope that nothing has.
#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    asked: Scope,
    nearest: Option<Scope>,
}

impl Names {
    /// Without a look outside.
    async fn at_hand(desk: &Desk) -> Self {
        let mut names = Self::default();
        names.services.extend(desk.topology().await.nodes().map(|(name, _)| name.to_owned()));
        for hook in desk.hooks.iter().flat_map(|hooks| hooks.declared()) {
            names.services.extend([hook.name, hook.service]);
        }
        for job in &desk.config.remediation.job {
            names.services.extend([job.name.clone(), job.cron_job.clone()]);
            names.namespaces.insert(job.namespace.clone());
        }
        names.namespaces.extend(desk.policy.namespaces.iter().filter(|name| *name != "*").cloned());
        // What cannot be read names nothing: then all is stopped.
        for incident in desk.store.incidents(Of::NotOver).await.unwrap_or_default() {
            names.add_incident(&incident);
        }
        names
    }

    fn add_incident(&mut self, incident: &Incident) {
        self.services.extend(incident.subjects().into_iter().map(str::to_owned));
        self.services.extend(incident.candidates.iter().map(|one| one.node.clone()));
        for record in &incident.plans {
            let target = record.plan.action.target();
            self.services.extend([record.plan.service.clone(), target.name.clone()]);
            self.namespaces.insert(target.namespace.clone());
        }
    }

    async fn add_workloads(&mut self, desk: &Desk) {
        let Some(cluster) = &desk.cluster else { return };
        for workload in timeout(ASKED_FOR, cluster.workloads()).await.into_iter().flatten().flatten() {
            self.services.extend([workload.name, workload.service]);
            self.namespaces.insert(workload.namespace);
        }
    }

    /// The scope as it is written here.
    fn known(&self, scope: &Scope) -> Result<Scope, Unknown> {
        let (names, name) = match scope {
            Scope::All => return Ok(Scope::All),
            Scope::Namespace(name) => (&self.namespaces, name),
            Scope::Service(name) => (&self.services, name),
        };
        let of = |name: &str| match scope {
            Scope::All => Scope::All,
            Scope::Namespace(_) => Scope::Namespace(name.to_owned()),
            Scope::Service(_) => Scope::Service(name.to_owned()),
        };
        if names.contains(name) {
            return Ok(scope.clone());
        }
        if let Some(known) = names.iter().find(|known| known.eq_ignore_ascii_case(name)) {
            return Ok(of(known));
        }
        let near = nearest(name, names.iter().map(String::as_str).filter(|known| !known.is_empty()));
        Err(Unknown { asked: scope.clone(), nearest: near.map(of) })
    }
}

impl Unknown {
    /// Why all is stopped, and how that is narrowed.
    fn words(&self, because: &str) -> String {
        let Self { asked, nearest } = self;
        let asked_for = match asked {
            Scope::Namespace(name) => format!("namespace {name:?}"),
            Scope::Service(name) => format!("service {name:?}"),
            Scope::All => "such thing".to_owned(),
        };
        match nearest {
            Some(near) => format!(
                "I know no {asked_for}, so everything is stopped. The nearest that I know is {near}; to stop only \
                 that: /ops resume, then /ops pause {near} {because}"
            ),
            None => format!("I know no {asked_for}, so everything is stopped. /ops resume ends that"),
        }
    }
}

/// Stops it: what nothing here is called stops everything.
pub(super) async fn stop(desk: &Desk, by: &Person, scope: &Scope, because: &str) -> Result<Card, FlowError> {
    let mut names = Names::at_hand(desk).await;
    if names.known(scope).is_err() {
        names.add_workloads(desk).await;
    }
    match names.known(scope) {
        Ok(scope) => set(desk, by, &scope, Some(because)).await,
        Err(unknown) => {
            let reason = format!("{because} (asked for as {})", unknown.asked);
            let card = set(desk, by, &Scope::All, Some(&reason)).await?;
            Ok(card.and(note(&format!("{}.", unknown.words(because)), Tone::Alarm)))
        }
    }
}

/// Anybody may stop it; starting it again needs authority, which the caller has asked for.
pub(super) async fn set(desk: &Desk, by: &Person, scope: &Scope, because: Option<&str>) -> Result<Card, FlowError> {
    let held_before = holding(desk).await?;
    let value = because.map(|because| format!("{because} ({})", by.name));
    let mut names = vec![name_of(scope)];
    if because.is_none() && *scope == Scope::All {
        // Whoever resumes all means all.
        names.extend(desk.store.settings_under(BELOW).await?.into_iter().map(|(name, _)| name));
    }
    let value = serde_json::to_string(&value).unwrap_or_default();
    let batch = Batch {
        settings: names.into_iter().map(|name| (name, value.clone())).collect(),
        audit: vec![AuditEntry {
            kind: if because.is_some() { "paused".into() } else { "resumed".into() },
            subject: by.id.to_string(),
            body: serde_json::json!({"scope": scope.to_string(), "reason": because}),
        }],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    let place = match scope {
        Scope::All => String::new(),
        Scope::Namespace(_) | Scope::Service(_) => format!(" for {scope}"),
    };
    Ok(match because {
        Some(because) => note(&format!("PAUSED{place}: nothing will be executed. Reason: {because}"), Tone::Alarm),
        None => resumed(scope, &place, &held_before, &holding(desk).await?),
    })
}

/// A wider pause may hold on, and what was not paused was not resumed.
fn resumed(scope: &Scope, place: &str, before: &[(String, String)], now: &[(String, String)]) -> Card {
    let name = name_of(scope);
    let still = |(held, because): &(String, String)| format!("{held} ({because})");
    let wider = now.iter().find(|(held, _)| held == shown(EVERYTHING));
    let was_held = match scope {
        Scope::All => !before.is_empty(),
        Scope::Namespace(_) | Scope::Service(_) => before.iter().any(|(held, _)| held == shown(&name)),
    };
    match (wider, was_held) {
        (Some(wider), true) => {
            note(&format!("Resumed{place}, but still PAUSED: {}. /ops resume ends that.", still(wider)), Tone::Alarm)
        }
        (Some(wider), false) => note(
            &format!(
                "{} was not paused by itself; still PAUSED: {}. /ops resume ends that.",
                shown(&name),
                still(wider)
            ),
            Tone::Alarm,
        ),
        (None, true) if now.is_empty() => {
            note(&format!("Resumed{place}: approved plans are executed again."), Tone::Good)
        }
        (None, true) => {
            let others: Vec<String> = now.iter().map(still).collect();
            note(&format!("Resumed{place}. Still paused: {}.", others.join(", ")), Tone::Good)
        }
        (None, false) => match scope {
            Scope::All => note("Nothing was paused: approved plans are executed.", Tone::Neutral),
            Scope::Namespace(_) | Scope::Service(_) => note(&format!("{scope} was not paused."), Tone::Neutral),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::target;

    #[test]
    fn a_pause_holds_for_what_is_changed_and_not_only_for_the_object() {
        let release = Action::RollBackRelease {
            target: target("c", "argocd", "Application", "estate", "a"),
            from: "2".into(),
            to: "1".into(),
        };
        let one = |name: &str| [name.to_owned()].into();
        let extent = Extent { namespaces: one("shop"), services: one("checkout") };
        let names = names_for(&release, Some("estate"), Some(&extent));
        assert_eq!(
            names,
            ["paused", "paused/ns=argocd", "paused/ns=shop", "paused/service=checkout", "paused/service=estate"]
        );
        // Of a plan from before it was kept.
        assert_eq!(
            names_for(&release, Some("shop"), None),
            ["paused", "paused/ns=argocd", "paused/service=estate", "paused/service=shop"]
        );
    }

    #[test]
    fn what_nothing_is_called_is_no_scope_and_the_nearest_is_named() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let names = Names { services: owned(&["payments", "payments-db"]), namespaces: owned(&["shop"]) };
        let service = |name: &str| Scope::Service(name.into());
        assert_eq!(names.known(&service("payments-db")), Ok(service("payments-db")));
        assert_eq!(names.known(&service("Payments-DB")), Ok(service("payments-db")), "as it is written here");
        assert_eq!(names.known(&Scope::All), Ok(Scope::All));
        let unknown = names.known(&service("paymnets-db")).unwrap_err();
        assert_eq!(unknown.nearest, Some(service("payments-db")));
        let words = unknown.words("stop the failover");
        assert!(words.contains("I know no service \"paymnets-db\", so everything is stopped"), "{words}");
        assert!(words.ends_with("/ops pause service=payments-db stop the failover"), "{words}");
        // A service is no namespace.
        let unknown = names.known(&Scope::Namespace("payments".into())).unwrap_err();
        assert_eq!(unknown.nearest, None);
        assert!(unknown.words("x").contains("so everything is stopped"));
    }
}
