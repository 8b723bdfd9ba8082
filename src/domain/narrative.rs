//! The story in chat: cards from the fold of an incident, and from nothing else.

mod approval;
mod gravity;
mod home;

use super::card::{Block, Button, ButtonAction, ButtonStyle, Card, Field, Span, Tone};
use super::diagnosis::{Claim, Remedy, Verdict};
use super::incident::{Incident, State};
use super::time::Timestamp;

pub use approval::approval;
pub use gravity::{by_gravity, graver, headline, title};
pub use home::{Home, home};

/// The message in the channel; edited in place as the incident goes on.
pub fn root(incident: &Incident) -> Card {
    let state = state_words(&incident.state);
    let header = format!("[{}] {}: {state}", incident.severity.as_str(), incident.title);
    let fields = vec![
        field("Service", services(incident)),
        field("Environment", clusters(incident)),
        field("Since", vec![Span::Date { at: incident.since }]),
        field("Alerts", vec![Span::plain(alerts(incident))]),
        field("Owner", owner(incident)),
        field("State", vec![Span::plain(state)]),
    ];
    let mut blocks = vec![
        Block::Header { text: header.clone(), tone: tone(incident) },
        Block::Fields { fields },
        Block::Text { spans: best_hypothesis(incident) },
    ];
    if let Some(spans) = gravity::what_is_broken(incident) {
        blocks.push(Block::Text { spans });
    }
    blocks.push(Block::Text {
        spans: vec![Span::plain(format!("{}: {}", incident.severity.as_str(), incident.severity_because))],
    });
    if let Some(spans) = ending(&incident.state) {
        blocks.push(Block::Text { spans });
    }
    if !incident.recalled.is_empty() {
        let past = &incident.recalled[0];
        blocks.push(Block::Text {
            spans: vec![
                Span::bold("Seen before: "),
                Span::code(past.incident.clone()),
                Span::plain(" "),
                Span::quoted(past.title.clone()),
                Span::plain(format!(" ({})", past.because)),
            ],
        });
    }
    if let Some((by, because)) = &incident.noise {
        blocks.push(Block::Text {
            spans: vec![
                Span::bold("Not an incident, says "),
                Span::Person { id: by.clone() },
                Span::plain(": "),
                Span::quoted(because.clone()),
            ],
        });
    }
    if !incident.state.is_over() {
        let mut buttons = vec![];
        if !incident.is_taken() {
            buttons.push(button(ButtonAction::Acknowledge, "Acknowledge", incident.id.as_str(), ButtonStyle::Primary));
        }
        buttons.push(button(ButtonAction::Silence, "Silence…", incident.id.as_str(), ButtonStyle::Default));
        buttons.push(button(ButtonAction::Runbook, "Runbook", incident.id.as_str(), ButtonStyle::Default));
        buttons.push(button(ButtonAction::Dashboard, "Dashboard", incident.id.as_str(), ButtonStyle::Default));
        if incident.state.is_regroupable() {
            buttons.push(button(ButtonAction::Merge, "Merge…", incident.id.as_str(), ButtonStyle::Default));
            if incident.subjects().len() > 1 {
                buttons.push(button(ButtonAction::Split, "Split…", incident.id.as_str(), ButtonStyle::Default));
            }
        }
        if incident.noise.is_none() {
            let label = "Not an incident…";
            buttons.push(button(ButtonAction::NotAnIncident, label, incident.id.as_str(), ButtonStyle::Default));
        }
        blocks.push(Block::Actions { buttons });
    }
    blocks.push(Block::Context {
        spans: vec![
            Span::plain(format!("{}, v{}, reasoner: ", incident.id, incident.version)),
            Span::plain(reasoner(incident)),
            Span::plain(" "),
            Span::Link { text: "timeline and evidence".into(), path: format!("/incident/{}", incident.id) },
        ],
    });
    let first = gravity::broken_first(incident).map_or_else(String::new, |first| format!("; {first}"));
    Card { fallback: format!("{header} ({}{first})", alerts(incident)), blocks }
}

/// The diagnosis in the thread, with its marks and what was ruled out.
pub fn diagnosis(incident: &Incident) -> Card {
    let Some(diagnosis) = &incident.diagnosis else {
        return note("The investigation goes on.", Tone::Working);
    };
    let headline = match (&diagnosis.verdict, &diagnosis.service) {
        (Verdict::Inconclusive, Some(lead)) => format!("I don't know the cause; the strongest lead is {lead}"),
        (Verdict::Inconclusive, None) => "I don't know the cause".to_owned(),
        (verdict, Some(service)) => {
            format!("Cause {}: {service} ({:.0} % confidence)", verdict.word(), diagnosis.confidence * 100.0)
        }
        (_, None) => "Nothing is to blame".to_owned(),
    };
    let mut blocks = vec![
        Block::Header { text: headline.clone(), tone: Tone::Working },
        Block::Text { spans: vec![Span::quoted(diagnosis.mechanism.clone())] },
    ];
    match &diagnosis.change {
        Some(change) => blocks.push(Block::Text {
            spans: vec![Span::plain("The change to blame: "), Span::code(change.clone()), Span::plain(".")],
        }),
        None if diagnosis.verdict != Verdict::Inconclusive => {
            blocks.push(Block::Text { spans: vec![Span::plain("No change is to blame.")] })
        }
        None => {}
    }
    if !diagnosis.claims.is_empty() {
        blocks.push(Block::Text { spans: vec![Span::bold("What speaks for it")] });
        blocks.push(Block::List { items: diagnosis.claims.iter().map(claim).collect() });
    }
    if !diagnosis.ruled_out.is_empty() {
        blocks.push(Block::Text { spans: vec![Span::bold("Ruled out")] });
        blocks.push(Block::List { items: diagnosis.ruled_out.iter().map(claim).collect() });
    }
    if let Some(otherwise) = &diagnosis.otherwise {
        let spans = vec![Span::bold("Read differently by "), Span::quoted(otherwise.clone())];
        blocks.push(Block::Text { spans });
    }
    if let Some(past) = incident.recalled.first() {
        blocks.push(Block::Text {
            spans: vec![
                Span::bold("I remember: "),
                Span::code(past.incident.clone()),
                Span::plain(", "),
                Span::quoted(past.title.clone()),
                Span::plain(format!(". {}", past.because)),
            ],
        });
    }
    // Where nothing was seen, empty pictures would say that all was looked at and is well.
    if !(incident.candidates.is_empty() && diagnosis.claims.is_empty()) {
        blocks.extend(pictures(incident));
    }
    let mut context = vec![Span::plain(match incident.reasoner.as_deref() {
        None | Some("none") => {
            // Not which sources there are: of those that are not configured nothing was read.
            "no model configured: reasoned by fixed rules from what could be read".to_owned()
        }
        // The diagnosis knows who reached it: a model that was asked may have said nothing that holds.
        Some(_) if diagnosis.reasoner.starts_with("none") => {
            format!("reasoned without a model: {}", diagnosis.reasoner)
        }
        Some(model) => format!(
            "reasoned with {model}; numbers, times and names were checked against the evidence, the sentences were not"
        ),
    })];
    if let Some(runbook) = incident.runbooks.first() {
        context.push(Span::plain("; runbook: "));
        context.push(Span::plain(runbook.clone()));
    }
    if let Some(votes) = votes(incident) {
        context.push(Span::plain(votes));
    }
    blocks.push(Block::Context { spans: context });
    blocks.push(Block::Actions {
        buttons: vec![
            button(ButtonAction::ThumbsUp, "👍 helpful", incident.id.as_str(), ButtonStyle::Default),
            button(ButtonAction::ThumbsDown, "👎 wrong", incident.id.as_str(), ButtonStyle::Default),
        ],
    });
    Card { fallback: headline, blocks }
}

fn pictures(incident: &Incident) -> [Block; 2] {
    let signals = Block::Picture {
        title: "What left its usual band".into(),
        alt: signals_alt(incident),
        path: format!("/picture/{}/signals.svg", incident.id),
    };
    let topology = Block::Picture {
        title: "Blast radius".into(),
        alt: topology_alt(incident, &[]),
        path: format!("/picture/{}/topology.svg", incident.id),
    };
    [signals, topology]
}

/// The picture of the signals in words, for those who cannot see it.
pub fn signals_alt(incident: &Incident) -> String {
    format!("Graph of the signals that deviate around {}", incident.since.hour_minute())
}

/// The picture of the topology in words; `affected` are the services coloured as such.
pub fn topology_alt(incident: &Incident, affected: &[&str]) -> String {
    let cause = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.as_deref()).unwrap_or("not known");
    match affected {
        [] => format!("Dependency graph; cause: {cause}"),
        some => format!("Dependency graph; cause: {cause}; affected: {}", some.join(", ")),
    }
}

/// An alert that the watch kept from people, and that they are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muted<'a> {
    /// What the buttons carry.
    pub key: &'a str,
    pub name: &'a str,
    pub subject: &'a str,
    pub explanation: &'a str,
    pub starts_at: Timestamp,
    /// Who has answered, and whether it should have woken people.
    pub answer: Option<(&'a str, Answer)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    RightlyMuted,
    ShouldHaveWoken,
}

impl Answer {
    pub fn words(self) -> &'static str {
        match self {
            Self::RightlyMuted => "rightly muted",
            Self::ShouldHaveWoken => "it should have woken us",
        }
    }
}

/// The question about one of the suppressed alerts, and after an answer the same message with it.
pub fn muted(muted: &Muted<'_>) -> Card {
    let headline = "Was this rightly muted?";
    let mut blocks = vec![
        Block::Text {
            spans: vec![
                Span::bold(headline),
                Span::plain(" "),
                Span::quoted(muted.name),
                Span::plain(" about "),
                Span::code(muted.subject),
                Span::plain(" at "),
                Span::Date { at: muted.starts_at },
            ],
        },
        Block::Text { spans: vec![Span::plain("It was kept from you because it "), Span::quoted(muted.explanation)] },
    ];
    if let Some((by, answer)) = muted.answer {
        blocks.push(Block::Text {
            spans: vec![Span::Person { id: by.to_owned() }, Span::plain(format!(" says: {}.", answer.words()))],
        });
    }
    let buttons = vec![
        button(ButtonAction::RightlyMuted, "Rightly muted", muted.key, ButtonStyle::Default),
        button(ButtonAction::ShouldHaveWoken, "Should have woken us", muted.key, ButtonStyle::Default),
    ];
    blocks.push(Block::Actions { buttons });
    let context = "A random sample of what is muted: your answers measure how often the watch is wrong.";
    blocks.push(Block::Context { spans: vec![Span::plain(context)] });
    Card { fallback: format!("{headline} {} about {}", muted.name, muted.subject), blocks }
}

/// One line in the thread.
pub fn note(text: &str, tone: Tone) -> Card {
    let spans = match tone {
        Tone::Good | Tone::Alarm => vec![Span::bold(text)],
        Tone::Working | Tone::Neutral => vec![Span::plain(text)],
    };
    Card { fallback: text.to_owned(), blocks: vec![Block::Text { spans }] }
}

/// An answer to a person, with lines of its own.
pub fn answer(headline: &str, lines: Vec<Vec<Span>>) -> Card {
    let mut blocks = vec![Block::Text { spans: vec![Span::bold(headline)] }];
    if !lines.is_empty() {
        blocks.push(Block::List { items: lines });
    }
    Card { fallback: headline.to_owned(), blocks }
}

fn claim(claim: &Claim) -> Vec<Span> {
    let mut spans = vec![Span::quoted(claim.text.clone())];
    for id in &claim.evidence {
        spans.push(Span::plain(" "));
        spans.push(Span::Evidence { id: id.to_string() });
    }
    spans
}

/// One line with a word on how sure it is.
fn best_hypothesis(incident: &Incident) -> Vec<Span> {
    let lead = |word: &str, node: &str| vec![Span::bold(word), Span::plain(" "), Span::code(node)];
    let Some(diagnosis) = &incident.diagnosis else {
        return match incident.candidates.first() {
            Some(first) => lead("Strongest lead so far:", &first.node),
            None => vec![Span::plain("No lead yet.")],
        };
    };
    let mut spans = match (&diagnosis.verdict, &diagnosis.service) {
        (Verdict::Inconclusive, Some(node)) => lead("Cause not known; strongest lead:", node),
        (Verdict::Inconclusive, None) => vec![Span::bold("Cause not known.")],
        (verdict, Some(node)) => lead(&format!("Cause, {}:", verdict.word()), node),
        (_, None) => vec![Span::bold("Nothing is to blame.")],
    };
    if diagnosis.verdict != Verdict::Inconclusive && !diagnosis.mechanism.is_empty() {
        spans.push(Span::plain(", "));
        spans.push(Span::quoted(diagnosis.mechanism.clone()));
    }
    spans
}

fn clusters(incident: &Incident) -> Vec<Span> {
    let clusters = incident.clusters();
    let quoted = |(at, name): (usize, &&str)| {
        let before = (at > 0).then(|| Span::plain(", "));
        before.into_iter().chain([Span::quoted((*name).to_owned())])
    };
    clusters.iter().enumerate().flat_map(quoted).collect()
}

/// Whose alerts these are; a storm has more than a phone shows.
fn services(incident: &Incident) -> Vec<Span> {
    const SHOWN: usize = 4;
    let subjects = incident.subjects();
    let mut spans = vec![];
    for (at, subject) in subjects.iter().take(SHOWN).enumerate() {
        if at > 0 {
            spans.push(Span::plain(", "));
        }
        spans.push(Span::code(*subject));
    }
    if subjects.len() > SHOWN {
        spans.push(Span::plain(format!(" and {} more", subjects.len() - SHOWN)));
    }
    spans
}

/// Why nothing more is done here, once that is so.
fn ending(state: &State) -> Option<Vec<Span>> {
    let told = |word: &str, because: &str| Some(vec![Span::bold(word), Span::plain(" "), Span::quoted(because)]);
    match state {
        State::HandedOver { because } => told("Handed to people:", because),
        State::Resolved { because, by: Some(by) } => Some(vec![
            Span::bold("Closed by "),
            Span::Person { id: by.clone() },
            Span::plain(": "),
            Span::quoted(because.clone()),
        ]),
        State::Resolved { because, by: None } => told("Resolved:", because),
        State::Merged { into } => Some(vec![
            Span::bold("Went into"),
            Span::plain(" "),
            Span::Link { text: into.to_string(), path: format!("/incident/{into}") },
        ]),
        State::Open | State::Investigating | State::Diagnosed => None,
        State::Awaiting { .. } | State::Executing { .. } | State::Verifying { .. } => None,
    }
}

/// How people judged the diagnosis, one vote each.
fn votes(incident: &Incident) -> Option<String> {
    let up = incident.helpful.values().filter(|helpful| **helpful).count();
    let down = incident.helpful.len() - up;
    (up + down > 0).then(|| format!("; votes: {up} helpful, {down} wrong"))
}

fn alerts(incident: &Incident) -> String {
    format!("{} about {} subjects, {} firing", incident.alert_count(), incident.subjects().len(), incident.firing())
}

/// Who has it; and that they have not accepted it, where that is so.
pub fn owner(incident: &Incident) -> Vec<Span> {
    let Some(id) = &incident.owner else { return vec![Span::plain("nobody yet")] };
    let person = Span::Person { id: id.clone() };
    match incident.handed {
        None => vec![person],
        Some(_) => vec![Span::plain("handed to "), person, Span::plain(", who has not accepted it yet")],
    }
}

fn reasoner(incident: &Incident) -> String {
    match incident.reasoner.as_deref() {
        None => "not yet".into(),
        Some("none") => "no model configured".into(),
        Some(model) => model.to_owned(),
    }
}

pub fn state_words(state: &State) -> &'static str {
    match state {
        State::Open => "Open",
        State::Investigating => "Investigating",
        State::Diagnosed => "Diagnosed",
        State::Awaiting { .. } => "Waiting for approval",
        State::Executing { .. } => "Remediation runs",
        State::Verifying { .. } => "Verifying",
        State::HandedOver { .. } => "Handed to people",
        State::Resolved { .. } => "Resolved",
        State::Merged { .. } => "Merged",
    }
}

fn tone(incident: &Incident) -> Tone {
    match incident.state {
        State::Resolved { .. } => Tone::Good,
        State::Merged { .. } => Tone::Neutral,
        State::Executing { .. } | State::Verifying { .. } => Tone::Working,
        State::Open | State::Investigating | State::Diagnosed | State::Awaiting { .. } | State::HandedOver { .. } => {
            Tone::Alarm
        }
    }
}

pub fn remedy_words(remedy: &Remedy) -> String {
    match remedy {
        Remedy::RollBack { service } => format!("roll {service} back"),
        Remedy::Restart { service } => format!("restart {service}"),
        Remedy::ScaleUp { service } => format!("scale {service} up"),
        Remedy::HandOver { why } => format!("a person must act: {why}"),
    }
}

pub fn when(at: Timestamp) -> Span {
    Span::Date { at }
}

fn field(label: &str, value: Vec<Span>) -> Field {
    Field { label: label.into(), value }
}

fn button(action: ButtonAction, label: &str, value: &str, style: ButtonStyle) -> Button {
    Button { action, label: label.into(), value: value.into(), style, confirm: None }
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::Diagnosis;
    use super::*;
    use crate::domain::id::IncidentId;
    use crate::domain::incident::Handed;

    #[test]
    fn who_has_not_accepted_it_yet_is_said_and_may_still_take_it() {
        let mut incident = Incident::blank(IncidentId::numbered(1));
        incident.owner = Some("t/bob".into());
        let taken = root(&incident).plain_text();
        assert!(taken.contains("Owner: @bob\n") && !taken.contains("[Acknowledge]"), "{taken}");
        incident.handed = Some(Handed { by: "t/ada".into(), at: Timestamp::default() });
        let handed = root(&incident).plain_text();
        assert!(handed.contains("Owner: handed to @bob, who has not accepted it yet\n"), "{handed}");
        assert!(handed.contains("[Acknowledge]"), "{handed}");
    }

    #[test]
    fn who_has_closed_it_is_said_with_the_reason() {
        let mut incident = Incident::blank(IncidentId::numbered(1));
        incident.state = State::Resolved { because: "mended by hand".into(), by: Some("t/ada".into()) };
        let closed = root(&incident).plain_text();
        assert!(closed.contains("\nClosed by @ada: mended by hand\n"), "{closed}");
        let before: State = serde_json::from_str(r#"{"state":"resolved","because":"it is over"}"#).expect("of before");
        assert_eq!(before, State::Resolved { because: "it is over".into(), by: None });
    }

    #[test]
    fn where_model_and_rules_differ_people_read_both() {
        let mut incident = Incident::blank(IncidentId::numbered(1));
        let otherwise = "gpt: session, no change to blame (likely, 75 %): it is wedged";
        incident.diagnosis = Some(Diagnosis {
            service: Some("session".into()),
            change: Some("session revision 3".into()),
            mechanism: "its pool grew".into(),
            verdict: Verdict::Confirmed,
            confidence: 0.88,
            remedy: Remedy::RollBack { service: "session".into() },
            reasoner: "none (gpt says otherwise and proves no more)".into(),
            otherwise: Some(otherwise.into()),
            ..Diagnosis::blank()
        });
        let spans = vec![Span::bold("Read differently by "), Span::quoted(otherwise)];
        assert!(diagnosis(&incident).blocks.contains(&Block::Text { spans }));
    }
}
