//! The card that asks people for a plan, and what becomes of it.

use super::{button, field};
use crate::domain::action::Undo;
use crate::domain::card::{Block, Button, ButtonAction, ButtonStyle, Card, Span, Tone};
use crate::domain::incident::{Left, Outcome, PlanRecord};
use crate::domain::time::Timestamp;

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
        let mut spans = vec![Span::plain(format!("{} of {}", record.approved_by.len(), plan.approvals_needed))];
        spans.extend(people(&record.approved_by, ": "));
        fields.push(field("Approvals", spans));
    }
    if let Some(by) = &plan.requester {
        // The text says it, because the rule surprises: who asked does not count (S6).
        let spans = vec![Span::Person { id: by.clone() }, Span::plain(", whose own approval does not count")];
        fields.push(field("Asked for by", spans));
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
        | Outcome::NotUndone { .. }
        | Outcome::Recurred
        | Outcome::Overruled { .. } => {
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
        Outcome::Failed { left: Left::Nothing, .. } => "Failed",
        Outcome::Failed { left: Left::Part, .. } => "Partly done",
        Outcome::Failed { left: Left::Unknown, .. } => "Perhaps done",
        Outcome::Verified => "Verified",
        Outcome::NotVerified => "Did not help",
        Outcome::Undone => "Undone",
        Outcome::NotUndone { .. } => "Did not help, not undone",
        Outcome::Recurred => "Came back",
        Outcome::Overruled { .. } => "Overruled",
    }
}

fn approval_tone(outcome: &Outcome) -> Tone {
    match outcome {
        Outcome::Proposed
        | Outcome::Failed { .. }
        | Outcome::NotVerified
        | Outcome::NotUndone { .. }
        | Outcome::Recurred
        | Outcome::Overruled { .. } => Tone::Alarm,
        Outcome::Approved | Outcome::Started | Outcome::Written => Tone::Working,
        Outcome::Verified => Tone::Good,
        Outcome::Rejected | Outcome::Expired | Outcome::Voided { .. } | Outcome::Undone => Tone::Neutral,
    }
}

/// Who, when and with what result; the digest stands in the context line.
fn decision(record: &PlanRecord) -> Vec<Span> {
    let mut spans = vec![];
    match (&record.rejected_by, &record.outcome) {
        (Some((by, reason)), _) => {
            spans.push(Span::plain("Rejected by "));
            spans.push(Span::Person { id: by.clone() });
            spans.extend(at(record.decided_at));
            if let Some(reason) = reason {
                spans.push(Span::plain(": "));
                spans.push(Span::quoted(reason.clone()));
            }
            spans.push(Span::plain(". Nothing was changed."));
            return spans;
        }
        (None, Outcome::Expired) => {
            spans.push(Span::plain("Nobody decided in time"));
            spans.extend(at(record.decided_at));
            spans.push(Span::plain("; it was handed to people and nothing was changed."));
            spans.extend(people(&record.approved_by, " Votes until then: "));
            return spans;
        }
        (None, Outcome::Voided { because }) => {
            spans.push(Span::plain("Void"));
            spans.extend(at(record.decided_at));
            spans.push(Span::plain(": "));
            spans.push(Span::quoted(because.clone()));
            spans.push(Span::plain(". Nothing was changed."));
            spans.extend(people(&record.approved_by, " It had been approved by "));
            return spans;
        }
        (None, _) if record.approved_by.is_empty() => spans.push(Span::plain("Ran without people, as policy allows")),
        (None, _) => spans.extend(people(&record.approved_by, "Approved by ")),
    }
    spans.extend(at(record.decided_at));
    spans.push(Span::plain(". "));
    let told = at(record.told_at);
    match &record.outcome {
        Outcome::Failed { because, left } => {
            spans.push(Span::plain(match left {
                Left::Nothing => "The execution failed",
                Left::Part => "Only a part of it was carried out, and that part is still there",
                Left::Unknown => "Whether it was carried out is not known",
            }));
            spans.extend(told);
            spans.push(Span::plain(": "));
            spans.push(Span::quoted(because.clone()));
            spans.push(Span::plain("."));
        }
        Outcome::Started => spans.push(Span::plain("It is being written to the cluster.")),
        Outcome::Written => {
            spans.push(Span::plain("Written to the cluster"));
            spans.extend(told);
            spans.push(Span::plain("; its effect is being verified."));
        }
        Outcome::Verified => {
            spans.push(Span::plain("The effect is verified from telemetry"));
            spans.extend(told);
            spans.push(Span::plain("."));
        }
        Outcome::NotVerified => {
            spans.push(Span::plain("The effect could not be verified"));
            spans.extend(told);
            spans.push(Span::plain("."));
        }
        Outcome::Undone => {
            spans.push(Span::plain("It did not help and was undone"));
            spans.extend(told);
            spans.push(Span::plain("."));
        }
        Outcome::NotUndone { because } => {
            spans.push(Span::plain("It did not help and was not undone"));
            spans.extend(told);
            spans.push(Span::plain(": "));
            spans.push(Span::quoted(because.clone()));
            spans.push(Span::plain("."));
        }
        Outcome::Recurred => {
            spans.push(Span::plain("It seemed to help, and the alert came back within the hour"));
            spans.extend(told);
            spans.push(Span::plain("."));
        }
        Outcome::Overruled { because } => {
            spans.push(Span::plain("What it wrote was changed by somebody else before its effect was verified"));
            spans.extend(told);
            spans.push(Span::plain(": "));
            spans.push(Span::quoted(because.clone()));
            spans.push(Span::plain(". Nothing was undone."));
        }
        Outcome::Approved => spans.push(Span::plain("It runs next.")),
        Outcome::Proposed | Outcome::Rejected | Outcome::Expired | Outcome::Voided { .. } => {}
    }
    spans
}

fn at(instant: Option<Timestamp>) -> Vec<Span> {
    instant.map(|at| vec![Span::plain(", "), Span::Date { at }]).unwrap_or_default()
}

/// Names after `word`, or nothing at all.
fn people(ids: &[String], word: &str) -> Vec<Span> {
    let mut spans = vec![];
    for (at, id) in ids.iter().enumerate() {
        spans.push(Span::plain(if at == 0 { word } else { ", " }));
        spans.push(Span::Person { id: id.clone() });
    }
    spans
}
