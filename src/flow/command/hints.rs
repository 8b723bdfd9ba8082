//! What exists, for whoever types a command.

use std::collections::BTreeSet;

use super::notes;
use crate::domain::command::{Hint, Known, hints as of};
use crate::domain::incident::Outcome;
use crate::domain::intent::silence::State;
use crate::domain::topology::NodeKind;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::silence;
use crate::store::Scope;

/// Names of one kind that are looked through at most.
const MOST: usize = 2_000;

/// How `text` can go on.
pub async fn hints(desk: &Desk, text: &str) -> Result<Vec<Hint>, FlowError> {
    Ok(of(text, &known(desk).await?))
}

async fn known(desk: &Desk) -> Result<Known, FlowError> {
    let topology = desk.topology().await;
    let open = desk.store.incidents(Scope::NotOver).await?;
    let services: BTreeSet<&str> = topology
        .nodes()
        .filter(|(_, kind)| *kind != NodeKind::Host)
        .map(|(name, _)| name)
        .chain(open.iter().flat_map(|incident| incident.subjects()))
        .collect();
    let namespaces: BTreeSet<&str> =
        desk.policy.namespaces.iter().map(String::as_str).filter(|name| *name != "*").collect();
    let cards = open.iter().flat_map(|incident| &incident.plans).filter(|record| record.outcome == Outcome::Proposed);
    let cards = cards.map(|record| {
        let plan = &record.plan;
        (format!("{}.{}", plan.id, plan.digest.short()), plan.action.to_string())
    });
    let event_now = desk.clock.event_now();
    let people: BTreeSet<&str> = desk
        .config
        .people
        .iter()
        .map(|person| person.id.as_str())
        .chain(desk.policy.approvers.iter().map(String::as_str))
        .collect();
    let owned = |names: BTreeSet<&str>| names.into_iter().take(MOST).map(str::to_owned).collect();
    Ok(Known {
        services: owned(services),
        namespaces: owned(namespaces),
        cards: cards.collect(),
        silences: silence::all(desk)
            .await?
            .list()
            .filter(|silence| silence.state(event_now) != State::Expired)
            .map(|silence| silence.id.to_string())
            .collect(),
        notes: notes::all(desk).await?.into_iter().rev().take(MOST).map(|note| note.id).collect(),
        people: owned(people),
        incidents: open.iter().rev().map(|incident| (incident.id.to_string(), incident.title.clone())).collect(),
    })
}
