//! Calls people about grave incidents that nobody has taken, step by step along the path of the service.
//!
//! Invariants: each step is taken once and is in the log; a schedule that cannot be read is asked again
//! until the next step is due, and then passed over, said so; whoever cannot be mentioned was not called. To whom
//! it was handed has it only when they accept it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{error, warn};

use super::deliver::Effect;
use super::desk::{Decision, Desk, FlowError};
use super::route;
use crate::domain::card::{Block, Card, Span, plain};
use crate::domain::escalation::{self, Path, Step};
use crate::domain::id::{IncidentId, PersonId};
use crate::domain::incident::{Incident, IncidentEvent};
use crate::domain::narrative;
use crate::domain::plan::Plan;
use crate::domain::route::Facts;
use crate::domain::time::{Timestamp, spoken};
use crate::ports::OnCall;
use crate::store::Scope;

/// Somebody who is called: as the chat knows them, or by name only, which reaches nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    Known(PersonId),
    /// The chat does not know them.
    Named(String),
    /// Whether it does could not be found out just now.
    Unsure(String),
}

impl Called {
    pub fn span(&self) -> Span {
        match self {
            Self::Known(id) => Span::Person { id: id.to_string() },
            Self::Named(name) | Self::Unsure(name) => Span::quoted(name.clone()),
        }
    }

    pub fn id_or_name(&self) -> String {
        match self {
            Self::Known(id) => id.to_string(),
            Self::Named(name) | Self::Unsure(name) => name.clone(),
        }
    }

    fn is_reached(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let (mut schedules, nobody) = (Schedules::default(), tokio::sync::Notify::new());
    while !desk.stopping() {
        if !desk.config.escalation.is_empty() {
            schedules.gather();
            for incident in desk.store.incidents(Scope::NotOver).await? {
                if let Err(failure) = step(&desk, &mut schedules, &incident).await {
                    error!(incident = %incident.id, error = %failure, "nobody could be called");
                }
            }
        }
        tokio::select! {
            () = desk.wait(&nobody, Duration::from_secs(1)) => {}
            () = schedules.answered() => {}
        }
    }
    Ok(())
}

async fn step(desk: &Arc<Desk>, schedules: &mut Schedules, incident: &Incident) -> Result<(), FlowError> {
    let wall_now = desk.clock.wall_now();
    // Most are taken, light or not due: what they are about need not be read.
    let is_due = |path: &Path| path.due(incident, wall_now).is_some() || path.is_forsaken(incident, wall_now);
    if !desk.config.escalation.iter().any(is_due) {
        return Ok(());
    }
    let facts = route::facts(desk, incident).await?;
    let Some(path) = escalation::path(&desk.config.escalation, &facts) else { return Ok(()) };
    if path.is_forsaken(incident, wall_now) {
        return call_back(desk, incident).await;
    }
    let Some((number, step)) = path.due(incident, wall_now) else { return Ok(()) };
    let ask = |step: Step| {
        let desk = desk.clone();
        async move { resolve(&desk, &step).await }
    };
    let Some(answer) = schedules.who(step, ask) else { return Ok(()) };
    let has_next = path.step_from(incident, number + 1).is_some();
    let (who, because) = match answer {
        Ok(who) if who.is_empty() => (vec![], format!("{step} names nobody now")),
        Ok(who) if !who.iter().any(Called::is_reached) => {
            let asked_for = schedules.asked_for(&incident.id, step);
            let patience = if has_next { LOOKED_UP_FOR } else { Duration::from_secs(path.every_seconds) };
            if who.iter().any(|one| matches!(one, Called::Unsure(_))) && asked_for < patience {
                warn!(incident = %incident.id, %step, "who it is in the chat is looked up again");
                return Ok(());
            }
            (vec![], format!("{step} names {}, whom the chat does not know", names(&who)))
        }
        Ok(mut who) => {
            who.retain(|one| !incident.called_elsewhere(&path.name(), &one.id_or_name()));
            match who.iter().any(Called::is_reached) {
                true => (who, format!("{}; step {} of {}", untaken(incident), number + 1, path.steps.len())),
                false => (vec![], format!("whoever {step} names was called already")),
            }
        }
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
    let card = page(incident, &who, failed, &what_next(desk, path, incident, number, &who), wall_now);
    desk.change(&incident.id, |change| {
        // Taken while the schedule was read: nobody is called any more.
        if change.incident().is_taken() {
            return Ok(());
        }
        change.record(IncidentEvent::Called {
            step: number,
            who: who.iter().filter(|one| one.is_reached()).map(Called::id_or_name).collect(),
            because: because.clone(),
            path: Some(path.name()),
        })?;
        // What calls people is not held for a digest or for the morning.
        change.tell("root", &Effect::Root);
        // A message of its own, whatever path it is on: an edit wakes nobody.
        let key = format!("note/called/{}", change.incident().version);
        change.tell(&key, &Effect::Note { card: card.clone() });
        Ok(())
    })
    .await?;
    Ok(())
}

fn untaken(incident: &Incident) -> String {
    match &incident.owner {
        None => "nobody has taken it".to_owned(),
        Some(owner) => format!("{owner} has not accepted it"),
    }
}

/// Nobody is left to call: whoever handed it over is told that nobody has it.
async fn call_back(desk: &Desk, incident: &Incident) -> Result<(), FlowError> {
    let (Some(to), Some(handed)) = (&incident.owner, &incident.handed) else { return Ok(()) };
    let id = &incident.id;
    let text = format!(
        "{} has not accepted {id}, which you handed over, and everybody was called before: nobody has it, and \
         the calls begin again. Press Acknowledge, write /ops take {id}, or hand it to somebody who is there.",
        name_of(desk, to)
    );
    let card = note_to(&[Called::Known(PersonId::new(handed.by.clone()))], &text);
    desk.change(id, |change| {
        // Accepted, handed on, or over, meanwhile.
        if change.incident().handed.as_ref() != Some(handed) || change.incident().state.is_over() {
            return Ok(());
        }
        change.record(IncidentEvent::NotAccepted { to: to.clone(), by: handed.by.clone() })?;
        let key = format!("note/not-accepted/{}", change.incident().version);
        change.tell(&key, &Effect::Note { card: card.clone() });
        Ok(())
    })
    .await?;
    Ok(())
}

fn names(who: &[Called]) -> String {
    who.iter().map(Called::id_or_name).collect::<Vec<_>>().join(", ")
}

/// How long a directory that does not answer is asked again before the next is called.
const LOOKED_UP_FOR: Duration = Duration::from_secs(10);
/// How long an answer of a schedule, or that there is none, serves all incidents.
const SERVES: Duration = Duration::from_secs(5);

type Answer = Result<Vec<Called>, String>;

/// What schedules have answered lately. They are asked beside the calls, each once for all incidents: one that
/// hangs delays nobody but those who wait for it.
#[derive(Default)]
struct Schedules {
    answers: HashMap<String, (Instant, Answer)>,
    asking: JoinSet<(String, Answer)>,
    asked: HashSet<String>,
    /// Since when a step waits for whom it names.
    waiting: HashMap<(IncidentId, String), Instant>,
}

impl Schedules {
    /// `None`: it is being asked.
    fn who<F>(&mut self, step: &Step, ask: impl FnOnce(Step) -> F) -> Option<Answer>
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        if let Step::Person(person) = step {
            return Some(Ok(vec![Called::Known(PersonId::new(person.clone()))]));
        }
        let name = step.to_string();
        if let Some((_, answer)) = self.answers.get(&name) {
            return Some(answer.clone());
        }
        if self.asked.insert(name.clone()) {
            let answer = ask(step.clone());
            self.asking.spawn(async move { (name, answer.await) });
        }
        None
    }

    /// For how long this step has named nobody whom the chat knows.
    fn asked_for(&mut self, incident: &IncidentId, step: &Step) -> Duration {
        const FORGOTTEN: Duration = Duration::from_secs(3_600);
        self.waiting.retain(|_, since| since.elapsed() < FORGOTTEN);
        self.waiting.entry((incident.clone(), step.to_string())).or_insert_with(Instant::now).elapsed()
    }

    /// Takes what was answered meanwhile, and forgets what is old.
    fn gather(&mut self) {
        self.answers.retain(|_, (at, _)| at.elapsed() < SERVES);
        while let Some(answered) = self.asking.try_join_next() {
            self.keep(answered);
        }
    }

    /// Ends with the next answer; never, when nothing is asked.
    async fn answered(&mut self) {
        match self.asking.join_next().await {
            Some(answered) => self.keep(answered),
            None => std::future::pending().await,
        }
    }

    fn keep(&mut self, answered: Result<(String, Answer), JoinError>) {
        match answered {
            Ok((name, answer)) => {
                self.asked.remove(&name);
                self.answers.insert(name, (Instant::now(), answer));
            }
            // Which it was is not known any more: all may be asked again.
            Err(failure) => {
                error!(error = %failure, "the question to a schedule ended unheard");
                self.asked.clear();
            }
        }
    }
}

/// What somebody who was asleep reads on a phone: what is broken and since when, what to press, who is next.
/// `failed`: why this step called nobody.
fn page(incident: &Incident, who: &[Called], failed: Option<&str>, next: &str, wall_now: Timestamp) -> Card {
    let id = &incident.id;
    let (before, what) = (format!("{} {id} ", incident.severity.as_str()), narrative::headline(incident));
    let failed = failed.map_or_else(String::new, |why| format!("{why}. "));
    let whose = whose(incident, wall_now);
    let after = format!("; press Acknowledge or write /ops take {id}. {next}");
    let fallback = format!("{before}{what}. {failed}{}{after}", plain(&whose));
    let mut spans = mentions(who);
    // Names and errors are of other systems.
    let quoted = if failed.is_empty() { what } else { format!("{what}. {failed}") };
    spans.extend([Span::plain(before), Span::quoted(quoted)]);
    if failed.is_empty() {
        spans.push(Span::plain(". "));
    }
    spans.extend(whose);
    spans.push(Span::plain(after));
    Card { fallback, blocks: vec![Block::Text { spans }] }
}

/// To whom it was handed may wake up by being named here.
fn whose(incident: &Incident, wall_now: Timestamp) -> Vec<Span> {
    match (&incident.owner, &incident.handed) {
        (Some(owner), Some(handed)) => vec![
            Span::plain("It was handed to "),
            Span::Person { id: owner.clone() },
            Span::plain(format!(" {} ago, who has not accepted it", spoken(wall_now.since(handed.at)))),
        ],
        (Some(_) | None, _) => vec![Span::plain("Nobody has it")],
    }
}

fn what_next(desk: &Desk, path: &Path, incident: &Incident, number: usize, who: &[Called]) -> String {
    let place = format!("(step {} of {})", number + 1, path.steps.len());
    match path.step_from(incident, number + 1).map(|(_, step)| step) {
        None => format!("Nobody else is called after this {place}."),
        // Where nobody was reached the next is as due as this one was.
        Some(next) if who.is_empty() => format!("Next, at once: {} {place}.", in_words(desk, next)),
        Some(next) => {
            let wait = spoken(Duration::from_secs(path.every_seconds));
            format!("In {wait} {} is called {place}.", in_words(desk, next))
        }
    }
}

/// By name only: who is called later is not woken by being named now.
fn in_words(desk: &Desk, step: &Step) -> String {
    match step {
        Step::Person(id) => name_of(desk, id),
        Step::PagerDuty(_) | Step::Opsgenie(_) => format!("whoever {step} names"),
    }
}

fn name_of(desk: &Desk, id: &str) -> String {
    let known = desk.config.people.iter().find(|person| person.id == id);
    let short = || id.rsplit('/').next().unwrap_or(id);
    format!("@{}", known.map_or_else(short, |person| person.name.as_str()))
}

/// What happens when whoever it was just handed to does not accept it; `None`: nobody is called for it.
pub async fn unless_accepted(desk: &Desk, incident: &Incident) -> Option<String> {
    let path = path_of(desk, incident).await.filter(|path| incident.severity >= path.from)?;
    let wait = spoken(Duration::from_secs(path.every_seconds));
    Some(match path.next_step(incident) {
        Some(_) => format!("if they have not in {wait}, calls go on"),
        None => format!("if they have not in {wait}, you are told, and the calls begin again"),
    })
}

/// Who is to decide now: the owner, else whoever the path named last, or would name first.
pub async fn who_has_it(desk: &Desk, incident: &Incident) -> Vec<Called> {
    asked(desk, incident, |_| true).await
}

/// As `who_has_it`; of what is too light to call anybody only the owner.
pub async fn who_is_asked(desk: &Desk, incident: &Incident) -> Vec<Called> {
    asked(desk, incident, |path| incident.severity >= path.from).await
}

async fn asked(desk: &Desk, incident: &Incident, counts: impl Fn(&Path) -> bool + Send) -> Vec<Called> {
    let mut who: Vec<Called> = incident.owner.iter().map(|owner| Called::Known(PersonId::new(owner.clone()))).collect();
    if asks_the_path(incident)
        && let Some(path) = path_of(desk, incident).await.filter(|path| counts(path))
    {
        let called = last_called(desk, incident, path).await;
        who.extend(called.into_iter().filter(|one| Some(&one.id_or_name()) != incident.owner.as_ref()));
    }
    who
}

/// Whether whoever was called last is to decide, too.
fn asks_the_path(incident: &Incident) -> bool {
    match (&incident.owner, &incident.handed) {
        (None, _) => true,
        (Some(_), None) => false,
        // It was not accepted, and calls have gone on since.
        (Some(_), Some(handed)) => incident.called_at.is_some_and(|at| at > handed.at),
    }
}

async fn path_of<'a>(desk: &'a Desk, incident: &Incident) -> Option<&'a Path> {
    if desk.config.escalation.is_empty() {
        return None;
    }
    match route::facts(desk, incident).await {
        Ok(facts) => escalation::path(&desk.config.escalation, &facts),
        Err(failure) => {
            warn!(incident = %incident.id, error = %failure, "who is on call is not known");
            None
        }
    }
}

async fn last_called(desk: &Desk, incident: &Incident, path: &Path) -> Vec<Called> {
    let last = incident.steps_on(&path.name()).saturating_sub(1);
    let Some(step) = path.steps.get(last).or(path.steps.first()) else { return vec![] };
    resolve(desk, step).await.unwrap_or_else(|why| {
        warn!(%step, why, "who is on call is not known");
        vec![]
    })
}

/// Them, as a card begins that is for them.
pub fn mentions(who: &[Called]) -> Vec<Span> {
    who.iter().flat_map(|one| [one.span(), Span::plain(" ")]).collect()
}

/// A note that is for them.
pub fn note_to(who: &[Called], text: &str) -> Card {
    let mut spans = mentions(who);
    spans.push(Span::bold(text));
    Card { fallback: text.to_owned(), blocks: vec![Block::Text { spans }] }
}

/// Below the card of a plan that waits for people; whoever has asked for it knows. Nothing where nobody has
/// the incident.
pub fn ask_for_decision(change: &mut Decision<'_>, plan: &Plan, who: &[Called]) {
    let asks = |one: &&Called| plan.requester.as_deref() != Some(one.id_or_name().as_str());
    let who: Vec<Called> = who.iter().filter(asks).cloned().collect();
    if !who.is_empty() {
        let card = note_to(&who, &format!("{} waits for a decision: {}.", plan.id, plan.action));
        change.tell(&format!("note/{}/asked", plan.id), &Effect::Note { card });
    }
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
    let Some(directory) = desk.authority.directory() else { return Called::Named(one.name) };
    match directory.by_email(email).await {
        Ok(found) => found.map_or(Called::Named(one.name), Called::Known),
        Err(failure) => {
            warn!(%failure, "somebody on call is known by name only");
            Called::Unsure(one.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::{Handed, Sev};

    #[test]
    fn a_page_says_what_is_broken_and_what_to_press() {
        let mut incident = Incident::blank(IncidentId::numbered(2));
        (incident.severity, incident.title) = (Sev::Three, "inventory-db: PostgresDown".into());
        let who = [Called::Named("ada".into())];
        let wall_now = Timestamp::from_secs(1_000);
        let card = page(&incident, &who, None, "In 2 min @bob is called (step 1 of 2).", wall_now);
        let expected = "SEV3 INC-2 inventory-db: PostgresDown. Nobody has it; press Acknowledge or write \
                        /ops take INC-2. In 2 min @bob is called (step 1 of 2).";
        assert_eq!(card.fallback, expected);
        assert_eq!(card.plain_text(), format!("ada {expected}"));
        let next = "Next, at once: @bob (step 1 of 2).";
        let card = page(&incident, &[], Some("pagerduty:P1 names nobody now"), next, wall_now);
        assert!(card.fallback.contains("PostgresDown. pagerduty:P1 names nobody now. Nobody has it"), "{card:?}");
        incident.owner = Some("t/bob".into());
        incident.handed = Some(Handed { by: "t/ada".into(), at: Timestamp::from_secs(700) });
        let card = page(&incident, &who, None, "Nobody else is called after this (step 2 of 2).", wall_now);
        let expected = "PostgresDown. It was handed to @bob 5 min ago, who has not accepted it; press Acknowledge or \
                        write /ops take INC-2. Nobody else";
        assert!(card.fallback.contains(expected) && card.plain_text().contains(expected), "{card:?}");
    }

    #[test]
    fn whoever_was_called_since_a_hand_over_that_is_not_accepted_decides_too() {
        let at = Timestamp::from_secs;
        let mut incident = Incident::blank(IncidentId::numbered(2));
        assert!(asks_the_path(&incident));
        incident.called_at = Some(at(100));
        incident.owner = Some("t/bob".into());
        assert!(!asks_the_path(&incident));
        incident.handed = Some(Handed { by: "t/ada".into(), at: at(200) });
        assert!(!asks_the_path(&incident), "they were asleep, and it was handed on for that");
        incident.called_at = Some(at(300));
        assert!(asks_the_path(&incident));
    }

    #[tokio::test]
    async fn a_schedule_that_hangs_delays_nobody_and_is_asked_once() {
        let mut schedules = Schedules::default();
        let slow: Step = "pagerduty:SLOW".parse().unwrap();
        assert_eq!(schedules.who(&slow, |_| std::future::pending()), None);
        let again = schedules.who(&slow, |_| async { panic!("it is being asked") });
        assert_eq!(again, None);
        let ada = Called::Known(PersonId::new("t/ada".to_owned()));
        let person = schedules.who(&"t/ada".parse().unwrap(), |_| async { panic!("a person is not asked for") });
        assert_eq!(person, Some(Ok(vec![ada])));
        let quick: Step = "opsgenie:Quick".parse().unwrap();
        assert_eq!(schedules.who(&quick, |_| async { Err("503".to_owned()) }), None);
        schedules.answered().await;
        for _ in 0..2 {
            let known = schedules.who(&quick, |_| async { panic!("its failure serves for a while") });
            assert_eq!(known, Some(Err("503".to_owned())));
        }
    }
}
