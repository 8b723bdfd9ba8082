//! Calls people about grave incidents that nobody has taken, step by step along the path of the service.
//!
//! Invariants: each step is taken once and is in the log; a schedule that cannot be read is asked again
//! until the next step is due, and then passed over, said so.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use super::deliver::Effect;
use super::desk::{Desk, FlowError};
use super::route;
use crate::domain::card::{Block, Card, Span};
use crate::domain::escalation::{self, Path, Step};
use crate::domain::id::PersonId;
use crate::domain::incident::{Incident, IncidentEvent};
use crate::domain::route::Facts;
use crate::ports::OnCall;
use crate::store::Scope;

/// Somebody who is called: as the chat knows them, or by name only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    Known(PersonId),
    Named(String),
}

impl Called {
    pub fn span(&self) -> Span {
        match self {
            Self::Known(id) => Span::Person { id: id.to_string() },
            Self::Named(name) => Span::quoted(name.clone()),
        }
    }

    pub fn id_or_name(&self) -> String {
        match self {
            Self::Known(id) => id.to_string(),
            Self::Named(name) => name.clone(),
        }
    }
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    while !desk.stopping() {
        if !desk.config.escalation.is_empty() {
            for incident in desk.store.incidents(Scope::NotOver).await? {
                if let Err(failure) = step(&desk, &incident).await {
                    error!(incident = %incident.id, error = %failure, "nobody could be called");
                }
            }
        }
        desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn step(desk: &Desk, incident: &Incident) -> Result<(), FlowError> {
    let wall_now = desk.clock.wall_now();
    if incident.owner.is_some() {
        return Ok(());
    }
    let facts = route::facts(desk, incident).await?;
    let Some(path) = escalation::path(&desk.config.escalation, &facts) else { return Ok(()) };
    let Some((number, step)) = path.due(incident, wall_now) else { return Ok(()) };
    let (who, because) = match resolve(desk, step).await {
        Ok(who) if who.is_empty() => (vec![], format!("{step} names nobody now")),
        Ok(who) => (who, format!("nobody has taken it; step {} of {}", number + 1, path.steps.len())),
        Err(why) => {
            let next = incident.opened_at + Duration::from_secs(path.every_seconds.saturating_mul(number as u64 + 1));
            if wall_now < next {
                warn!(incident = %incident.id, %step, why, "asked again");
                return Ok(());
            }
            (vec![], format!("{step} could not be asked: {why}"))
        }
    };
    let mut spans = vec![];
    for one in &who {
        spans.push(one.span());
        spans.push(Span::plain(" "));
    }
    spans.push(Span::plain(because.clone()));
    let card = Card { fallback: because.clone(), blocks: vec![Block::Text { spans }] };
    desk.change(&incident.id, |change| {
        change.record(IncidentEvent::Called {
            step: number,
            who: who.iter().map(Called::id_or_name).collect(),
            because: because.clone(),
        })?;
        change.tell(&format!("note/called/{number}"), &Effect::Note { card: card.clone() });
        Ok(())
    })
    .await?;
    Ok(())
}

/// Who is to decide now: the owner, else whoever the path named last, or would name first.
pub async fn who_has_it(desk: &Desk, incident: &Incident) -> Vec<Called> {
    if let Some(owner) = &incident.owner {
        return vec![Called::Known(PersonId::new(owner.clone()))];
    }
    let facts = match route::facts(desk, incident).await {
        Ok(facts) => facts,
        Err(failure) => {
            warn!(incident = %incident.id, error = %failure, "who is on call is not known");
            return vec![];
        }
    };
    let Some(path) = escalation::path(&desk.config.escalation, &facts) else { return vec![] };
    let Some(step) = path.steps.get(incident.called.saturating_sub(1)).or(path.steps.first()) else { return vec![] };
    resolve(desk, step).await.unwrap_or_else(|why| {
        warn!(%step, why, "who is on call is not known");
        vec![]
    })
}

/// The path of a service in words, as of now.
pub async fn told(desk: &Desk, service: Option<&str>) -> Vec<Vec<Span>> {
    let facts = Facts::of_service(service);
    let Some(path) = escalation::path(&desk.config.escalation, &facts) else { return vec![] };
    let mut lines = vec![];
    for (number, step) in path.steps.iter().enumerate() {
        lines.push(line(desk, path, number, step).await);
    }
    lines
}

async fn line(desk: &Desk, path: &Path, number: usize, step: &Step) -> Vec<Span> {
    let after = path.every_seconds.saturating_mul(number as u64);
    let when = match number {
        0 => "at once".to_owned(),
        _ => format!("after {}", crate::domain::time::spoken(Duration::from_secs(after))),
    };
    let mut spans = vec![Span::plain(format!("{when} ({} and graver): ", path.from.as_str()))];
    match resolve(desk, step).await {
        Ok(who) if who.is_empty() => spans.push(Span::plain(format!("{step} names nobody now"))),
        Ok(who) => {
            for one in who {
                spans.push(one.span());
                spans.push(Span::plain(" "));
            }
        }
        Err(why) => spans.push(Span::plain(format!("{step} cannot be asked: {why}"))),
    }
    spans
}

async fn resolve(desk: &Desk, step: &Step) -> Result<Vec<Called>, String> {
    let (rota, schedule) = match step {
        Step::Person(person) => return Ok(vec![Called::Known(PersonId::new(person.clone()))]),
        Step::PagerDuty(schedule) => ("pagerduty", schedule),
        Step::Opsgenie(schedule) => ("opsgenie", schedule),
    };
    let rota = desk.rotas.iter().find(|known| known.name() == rota);
    let rota = rota.ok_or_else(|| format!("{step} needs its section in [oncall]"))?;
    let found = rota.now(schedule).await.map_err(|failure| failure.to_string())?;
    let mut who = vec![];
    for one in found {
        who.push(known(desk, one).await);
    }
    Ok(who)
}

/// As the chat knows them: by the configuration's list, else by the directory.
async fn known(desk: &Desk, one: OnCall) -> Called {
    let Some(email) = &one.email else { return Called::Named(one.name) };
    let listed = desk
        .config
        .people
        .iter()
        .find(|person| person.email.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(email)));
    if let Some(person) = listed {
        return Called::Known(PersonId::new(person.id.clone()));
    }
    let found = match desk.authority.directory() {
        Some(directory) => directory.by_email(email).await.unwrap_or_else(|failure| {
            warn!(%failure, "somebody on call is called by name only");
            None
        }),
        None => None,
    };
    found.map_or(Called::Named(one.name), Called::Known)
}
