//! The story in chat: cards from the fold of an incident, and from nothing else.

use super::action::Undo;
use super::card::{Block, Button, ButtonAction, ButtonStyle, Card, Field, Span, Tone};
use super::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use super::incident::{Incident, Outcome, PlanRecord, State};
use super::time::Timestamp;

/// The message in the channel; edited in place as the incident goes on.
pub fn root(incident: &Incident) -> Card {
    let state = state_words(&incident.state);
    let header = format!("[{}] {}: {state}", incident.severity.as_str(), incident.title);
    let mut fields = vec![
        field("Since", vec![Span::Date { at: incident.since }]),
        field("Alerts", vec![Span::plain(alerts(incident))]),
        field("State", vec![Span::plain(state)]),
        field("Owner", vec![owner(incident)]),
        field("Cluster", vec![Span::quoted(incident.cluster.clone())]),
    ];
    if let Some(diagnosis) = &incident.diagnosis {
        fields.push(field("Cause", cause(diagnosis)));
    } else if let Some(first) = incident.candidates.first() {
        fields.push(field("Strongest lead", vec![Span::code(first.node.clone())]));
    }
    let mut blocks = vec![
        Block::Header { text: header.clone(), tone: tone(incident) },
        Block::Fields { fields },
        Block::Text {
            spans: vec![Span::plain(format!("{}: {}", incident.severity.as_str(), incident.severity_because))],
        },
    ];
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
        if incident.owner.is_none() {
            buttons.push(button(ButtonAction::Acknowledge, "Acknowledge", incident.id.as_str(), ButtonStyle::Primary));
        }
        buttons.push(button(ButtonAction::Runbook, "Runbook", incident.id.as_str(), ButtonStyle::Default));
        buttons.push(button(ButtonAction::Dashboard, "Open incident", incident.id.as_str(), ButtonStyle::Default));
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
    Card { fallback: format!("{header} ({})", alerts(incident)), blocks }
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
    blocks.push(Block::Picture {
        title: "What left its usual band".into(),
        alt: format!("Graph of the signals that deviate around {}", incident.since.hour_minute()),
        path: format!("/picture/{}/signals.svg", incident.id),
    });
    blocks.push(Block::Picture {
        title: "Blast radius".into(),
        alt: format!("Dependency graph; cause: {}", diagnosis.service.as_deref().unwrap_or("not known")),
        path: format!("/picture/{}/topology.svg", incident.id),
    });
    let mut context = vec![Span::plain(match incident.reasoner.as_deref() {
        None | Some("none") => {
            "no model configured: reasoned from topology, onset order, changes and runbooks".to_owned()
        }
        // The diagnosis knows who reached it: a model that was asked may have said nothing that holds.
        Some(_) if diagnosis.reasoner.starts_with("none") => {
            format!("reasoned without a model: {}", diagnosis.reasoner)
        }
        Some(model) => format!("reasoned with {model}; only claims that the evidence carries are shown"),
    })];
    if let Some(runbook) = incident.runbooks.first() {
        context.push(Span::plain("; runbook: "));
        context.push(Span::plain(runbook.clone()));
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

/// The approval card, and after the decision the same message without its buttons.
pub fn approval(record: &PlanRecord) -> Card {
    let plan = &record.plan;
    let headline = format!("{}: {}", approval_word(record), plan.action);
    let mut fields = vec![
        field("Target", vec![Span::code(plan.action.target().to_string())]),
        field("uid", vec![Span::code(plan.action.target().uid.clone())]),
        field("Risk", vec![Span::bold(plan.tier.to_string())]),
        field("Blast radius", vec![Span::plain(plan.blast.text.clone())]),
        field(
            "Undo",
            vec![Span::plain(match &plan.undo {
                Undo::By(action) => format!("{action} (by itself when the verification fails)"),
                Undo::None(why) => format!("none: {why}"),
            })],
        ),
        field(
            "Success",
            vec![Span::plain(match plan.checks.len() {
                0 => "the rollout completes and no critical alert is left".to_owned(),
                count => format!(
                    "the rollout completes and {count} signals are back in their usual band ({})",
                    plan.checks
                        .iter()
                        .take(3)
                        .map(|check| format!("{} {}", check.service, check.signal.replace('_', " ")))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            })],
        ),
    ];
    if record.outcome == Outcome::Proposed {
        fields.push(field("Expires", vec![Span::Date { at: plan.expires_at }]));
    }
    if plan.approvals_needed > 1 {
        let votes =
            record.approved_by.iter().map(|person| format!("@{}", short(person))).collect::<Vec<_>>().join(", ");
        let votes = format!("{} of {}: {votes}", record.approved_by.len(), plan.approvals_needed);
        fields.push(field("Approvals", vec![Span::plain(votes)]));
    }
    let mut blocks = vec![
        Block::Header { text: headline.clone(), tone: approval_tone(&record.outcome) },
        Block::Text { spans: vec![Span::plain(format!("{}; {}", plan.because, record.ruling))] },
        Block::Fields { fields },
        Block::Code { text: plan.diff.clone() },
    ];
    if !plan.evidence.is_empty() {
        let mut spans = vec![Span::plain("Evidence ")];
        spans.extend(plan.evidence.iter().map(|id| Span::Evidence { id: id.to_string() }));
        blocks.push(Block::Text { spans });
    }
    match &record.outcome {
        Outcome::Proposed => {
            let value = format!("{}.{}", plan.id, plan.digest.short());
            blocks.push(Block::Actions {
                buttons: vec![
                    Button {
                        confirm: Some(format!("{}? {}.", plan.action, plan.blast.text)),
                        ..button(ButtonAction::Approve, "Approve", &value, ButtonStyle::Primary)
                    },
                    button(ButtonAction::Reject, "Reject...", &value, ButtonStyle::Danger),
                    button(ButtonAction::AskMore, "Ask more", &value, ButtonStyle::Default),
                ],
            });
        }
        Outcome::Approved
        | Outcome::Rejected
        | Outcome::Expired
        | Outcome::Voided { .. }
        | Outcome::Started
        | Outcome::Written
        | Outcome::Failed { .. }
        | Outcome::Verified
        | Outcome::NotVerified
        | Outcome::Undone
        | Outcome::Recurred => {
            blocks.push(Block::Text { spans: decision(record) });
            if !record.facts.is_empty() {
                blocks.push(Block::List {
                    items: record.facts.iter().map(|fact| vec![Span::plain(fact.clone())]).collect(),
                });
            }
        }
    }
    blocks.push(Block::Context { spans: vec![Span::plain(format!("{}, digest {}", plan.id, plan.digest.short()))] });
    Card { fallback: headline, blocks }
}

fn approval_word(record: &PlanRecord) -> &'static str {
    match record.outcome {
        Outcome::Proposed => "Approve?",
        Outcome::Approved => "Approved",
        Outcome::Rejected => "Rejected",
        Outcome::Expired => "Expired",
        Outcome::Voided { .. } => "Void",
        Outcome::Started => "Running",
        Outcome::Written => "Done, verifying",
        Outcome::Failed { .. } => "Failed",
        Outcome::Verified => "Verified",
        Outcome::NotVerified => "Did not help",
        Outcome::Undone => "Undone",
        Outcome::Recurred => "Came back",
    }
}

fn approval_tone(outcome: &Outcome) -> Tone {
    match outcome {
        Outcome::Proposed | Outcome::Failed { .. } | Outcome::NotVerified | Outcome::Recurred => Tone::Alarm,
        Outcome::Approved | Outcome::Started | Outcome::Written => Tone::Working,
        Outcome::Verified => Tone::Good,
        Outcome::Rejected | Outcome::Expired | Outcome::Voided { .. } | Outcome::Undone => Tone::Neutral,
    }
}

fn decision(record: &PlanRecord) -> Vec<Span> {
    let mut spans = vec![];
    if let Some((by, reason)) = &record.rejected_by {
        spans.push(Span::plain("Rejected by "));
        spans.push(Span::Person { id: by.clone() });
        if let Some(reason) = reason {
            spans.push(Span::plain(": "));
            spans.push(Span::quoted(reason.clone()));
        }
        return spans;
    }
    if record.approved_by.is_empty() {
        spans.push(Span::plain("Nobody's approval was used. "));
    } else {
        spans.push(Span::plain("Approved by "));
        for by in &record.approved_by {
            spans.push(Span::Person { id: by.clone() });
            spans.push(Span::plain(" "));
        }
    }
    spans.push(Span::plain(match &record.outcome {
        Outcome::Expired => "The time for an approval ran out; it was handed to people.".to_owned(),
        Outcome::Voided { because } => format!("Void: {because}"),
        Outcome::Failed { because } => format!("The execution failed: {because}"),
        Outcome::NotVerified => "The effect could not be verified.".to_owned(),
        Outcome::Undone => "It did not help and was undone.".to_owned(),
        Outcome::Recurred => "It seemed to help, and the alert came back within the hour.".to_owned(),
        Outcome::Verified => "The effect is verified from telemetry.".to_owned(),
        Outcome::Proposed | Outcome::Approved | Outcome::Rejected | Outcome::Started | Outcome::Written => {
            String::new()
        }
    }));
    spans
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

fn cause(diagnosis: &Diagnosis) -> Vec<Span> {
    match &diagnosis.service {
        Some(service) => vec![Span::code(service.clone()), Span::plain(format!(" ({})", diagnosis.verdict.word()))],
        None => vec![Span::plain("not known")],
    }
}

fn alerts(incident: &Incident) -> String {
    format!("{} about {} subjects, {} firing", incident.alert_count(), incident.subjects().len(), incident.firing())
}

fn owner(incident: &Incident) -> Span {
    incident.owner.as_ref().map_or_else(|| Span::plain("nobody yet"), |id| Span::Person { id: id.clone() })
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

fn short(person: &str) -> &str {
    person.rsplit('/').next().unwrap_or(person)
}

fn field(label: &str, value: Vec<Span>) -> Field {
    Field { label: label.into(), value }
}

fn button(action: ButtonAction, label: &str, value: &str, style: ButtonStyle) -> Button {
    Button { action, label: label.into(), value: value.into(), style, confirm: None }
}
