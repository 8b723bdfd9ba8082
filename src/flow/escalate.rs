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
use crate::domain::narrative;
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
    // Most are taken, light or not due: what they are about need not be read.
    if !desk.config.escalation.iter().any(|path| path.due(incident, wall_now).is_some()) {
        return Ok(());
    }
    let facts = route::facts(desk, incident).await?;
    let Some(path) = escalation::path(&desk.config.escalation, &facts) else { return Ok(()) };
    let Some((number, step)) = path.due(incident, wall_now) else { return Ok(()) };
    let (who, because) = match resolve(desk, step).await {
        Ok(who) if who.is_empty() => (vec![], format!("{step} names nobody now")),
        Ok(who) => (who, format!("nobody has taken it; step {} of {}", number + 1, path.steps.len())),
        Err(why) => {
            let given_up = path.due_at(incident) + Duration::from_secs(path.every_seconds);
            if wall_now < given_up {
                warn!(incident = %incident.id, %step, why, "asked again");
                return Ok(());
            }
            (vec![], format!("{step} could not be asked: {why}"))
        }
    };
    let failed = who.is_empty().then_some(because.as_str());
    let card = page(incident, &who, failed, &what_next(desk, path, number, &who));
    desk.change(&incident.id, |change| {
        // Taken while the schedule was read: nobody is called any more.
        if change.incident().owner.is_some() {
            return Ok(());
        }
        change.record(IncidentEvent::Called {
            step: number,
            who: who.iter().map(Called::id_or_name).collect(),
            because: because.clone(),
        })?;
        // What calls people is not held for a digest or for the morning.
        change.tell("root", &Effect::Root);
        change.tell(&format!("note/called/{number}"), &Effect::Note { card: card.clone() });
        Ok(())
    })
    .await?;
    Ok(())
}

/// What somebody who was asleep reads on a phone: what is broken and since when, what to press, who is next.
/// `failed`: why this step called nobody.
fn page(incident: &Incident, who: &[Called], failed: Option<&str>, next: &str) -> Card {
    let id = &incident.id;
    let (before, what) = (format!("{} {id} ", incident.severity.as_str()), narrative::headline(incident));
    let failed = failed.map_or_else(String::new, |why| format!("{why}. "));
    let after = format!(". {failed}Nobody has it; press Acknowledge or write /ops take {id}. {next}");
    let fallback = format!("{before}{what}{after}");
    let mut spans = vec![];
    for one in who {
        spans.push(one.span());
        spans.push(Span::plain(" "));
    }
    spans.extend([Span::plain(before), Span::quoted(what), Span::plain(after)]);
    Card { fallback, blocks: vec![Block::Text { spans }] }
}

fn what_next(desk: &Desk, path: &Path, number: usize, who: &[Called]) -> String {
    let place = format!("(step {} of {})", number + 1, path.steps.len());
    match path.steps.get(number + 1) {
        None => format!("Nobody else is called after this {place}."),
        // Where nobody was reached the next is as due as this one was.
        Some(next) if who.is_empty() => format!("Next, at once: {} {place}.", in_words(desk, next)),
        Some(next) => {
            let wait = crate::domain::time::spoken(Duration::from_secs(path.every_seconds));
            format!("In {wait} {} is called {place}.", in_words(desk, next))
        }
    }
}

/// By name only: who is called later is not woken by being named now.
fn in_words(desk: &Desk, step: &Step) -> String {
    match step {
        Step::Person(id) => {
            let known = desk.config.people.iter().find(|person| &person.id == id);
            let short = || id.rsplit('/').next().unwrap_or(id);
            format!("@{}", known.map_or_else(short, |person| person.name.as_str()))
        }
        Step::PagerDuty(_) | Step::Opsgenie(_) => format!("whoever {step} names"),
    }
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

/// The path of a service in words, as of now; where no service is named, all paths and what each is for.
pub async fn told(desk: &Desk, service: Option<&str>) -> Vec<Vec<Span>> {
    let paths = &desk.config.escalation;
    let shown: Vec<&Path> = match service {
        Some(_) => escalation::path(paths, &Facts::of_service(service)).into_iter().collect(),
        None => paths.iter().collect(),
    };
    let mut lines = vec![];
    for path in shown {
        let whose = match &path.matchers {
            _ if service.is_some() => None,
            Some(matchers) => Some(format!("{matchers} ")),
            None => (paths.len() > 1).then(|| "all else ".to_owned()),
        };
        for (number, step) in path.steps.iter().enumerate() {
            let whose = whose.iter().map(|whose| Span::plain(whose.clone()));
            lines.push(whose.chain(line(desk, path, number, step).await).collect());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IncidentId;
    use crate::domain::incident::Sev;

    #[test]
    fn a_page_says_what_is_broken_and_what_to_press() {
        let mut incident = Incident::blank(IncidentId::numbered(2));
        (incident.severity, incident.title) = (Sev::Three, "inventory-db: PostgresDown".into());
        let who = [Called::Named("ada".into())];
        let card = page(&incident, &who, None, "In 2 min @bob is called (step 1 of 2).");
        let expected = "SEV3 INC-2 inventory-db: PostgresDown. Nobody has it; press Acknowledge or write \
                        /ops take INC-2. In 2 min @bob is called (step 1 of 2).";
        assert_eq!(card.fallback, expected);
        assert_eq!(card.plain_text(), format!("ada {expected}"));
        let card = page(&incident, &[], Some("pagerduty:P1 names nobody now"), "Next, at once: @bob (step 1 of 2).");
        assert!(card.fallback.contains("PostgresDown. pagerduty:P1 names nobody now. Nobody has it"), "{card:?}");
    }
}
