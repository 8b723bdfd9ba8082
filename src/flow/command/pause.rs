//! The kill switch, for everything, one namespace or one service (S13).

use std::collections::BTreeSet;

use crate::domain::action::Action;
use crate::domain::card::{Card, Tone};
use crate::domain::command::Scope;
use crate::domain::narrative::note;
use crate::domain::plan::Extent;
use crate::flow::desk::{Desk, FlowError};
use crate::ports::Person;
use crate::store::{AuditEntry, Batch};

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
}
