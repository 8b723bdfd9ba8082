//! What a person sees who opens the watch itself: what waits, what is open, and whether it may act.

use super::{field, owner, state_words};
use crate::domain::action::RiskTier;
use crate::domain::card::{Block, Card, Span, Tone};
use crate::domain::incident::{Incident, Outcome, State};
use crate::domain::policy::{Autonomy, Policy};
use crate::domain::time::Timestamp;

/// Everything that the home shows, read at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Home<'a> {
    /// Incidents that are not over, newest first.
    pub open: &'a [Incident],
    /// Why nothing is executed, when that is so.
    pub paused: Option<&'a str>,
    pub policy: &'a Policy,
    /// Services that the topology knows; each is ruled by the tiers of `policy`.
    pub services: usize,
    /// Row and hash of the newest link of the audit chain.
    pub audit_head: (i64, &'a str),
    pub wall_now: Timestamp,
}

/// More than a screen of either nobody reads, and a home has 100 blocks at most.
const MOST_SHOWN: usize = 20;

pub fn home(home: &Home<'_>) -> Card {
    let waiting: Vec<_> = home.open.iter().filter_map(|incident| Some((incident, pending(incident)?))).collect();
    let (headline, tone) = match (home.paused, waiting.len()) {
        (Some(_), _) => ("The watch is paused: nothing is executed".to_owned(), Tone::Alarm),
        (None, 0) if home.open.is_empty() => ("The watch stands; nothing is open".to_owned(), Tone::Good),
        (None, 0) => (format!("{} open, nothing waits for people", incidents(home.open.len())), Tone::Working),
        (None, 1) => ("1 approval waits".to_owned(), Tone::Alarm),
        (None, count) => (format!("{count} approvals wait"), Tone::Alarm),
    };
    let mut blocks = vec![Block::Header { text: headline.clone(), tone }];
    if let Some(why) = home.paused {
        blocks.push(Block::Text { spans: vec![Span::bold("Paused: "), Span::quoted(why)] });
    }
    blocks.push(Block::Text { spans: vec![Span::bold("Waiting for approval")] });
    blocks.push(list(
        waiting.len(),
        waiting.iter().map(|(incident, record)| {
            let plan = &record.plan;
            vec![
                link(incident),
                Span::plain(" "),
                Span::code(plan.action.to_string()),
                Span::plain(format!(
                    ", {} risk, {} of {} approvals, until ",
                    plan.tier,
                    record.approved_by.len(),
                    plan.approvals_needed
                )),
                Span::Date { at: plan.expires_at },
            ]
        }),
    ));
    blocks.push(Block::Text { spans: vec![Span::bold("Open incidents")] });
    blocks.push(list(
        home.open.len(),
        home.open.iter().map(|incident| {
            let mut line = vec![
                link(incident),
                Span::plain(format!(" {} ", incident.severity.as_str())),
                Span::quoted(incident.title.clone()),
                Span::plain(format!(": {}; owner: ", state_words(&incident.state))),
            ];
            line.extend(owner(incident));
            line
        }),
    ));
    blocks.push(Block::Divider);
    blocks.push(Block::Text { spans: vec![Span::bold("What may run by itself")] });
    blocks.push(Block::Fields { fields: autonomy(home.policy, home.services) });
    let (row, hash) = home.audit_head;
    blocks.push(Block::Context {
        spans: vec![
            Span::plain(format!("audit chain: row {row}, head ")),
            Span::code(hash.get(..12).unwrap_or(hash)),
            Span::plain("; as of "),
            Span::Date { at: home.wall_now },
            Span::plain(" "),
            Span::Link { text: "the watch".into(), path: "/watch".into() },
        ],
    });
    Card { fallback: headline, blocks }
}

fn pending(incident: &Incident) -> Option<&crate::domain::incident::PlanRecord> {
    let State::Awaiting { plan } = &incident.state else { return None };
    incident.plan(plan).filter(|record| record.outcome == Outcome::Proposed)
}

fn list(count: usize, items: impl Iterator<Item = Vec<Span>>) -> Block {
    let mut items: Vec<_> = items.take(MOST_SHOWN).collect();
    if items.is_empty() {
        items.push(vec![Span::plain("nothing")]);
    }
    if count > MOST_SHOWN {
        items.push(vec![Span::plain(format!("and {} more: /ops incidents", count - MOST_SHOWN))]);
    }
    Block::List { items }
}

fn link(incident: &Incident) -> Span {
    Span::Link { text: incident.id.to_string(), path: format!("/incident/{}", incident.id) }
}

fn incidents(count: usize) -> String {
    if count == 1 { "1 incident".to_owned() } else { format!("{count} incidents") }
}

fn autonomy(policy: &Policy, services: usize) -> Vec<crate::domain::card::Field> {
    let words = |tier: RiskTier, autonomy: Autonomy| match (autonomy, tier) {
        (Autonomy::Suggest, _) => "only suggested; people do it by hand",
        (Autonomy::Automatic, RiskTier::Low) => "runs by itself",
        (Autonomy::Approve, RiskTier::Low) | (Autonomy::Approve | Autonomy::Automatic, RiskTier::Medium) => {
            "after one approval"
        }
        (Autonomy::Approve | Autonomy::Automatic, RiskTier::High) => "after two approvals",
    };
    let tiers = [
        ("Low risk", RiskTier::Low, policy.low),
        ("Medium risk", RiskTier::Medium, policy.medium),
        ("High risk", RiskTier::High, policy.high),
    ];
    let mut fields: Vec<_> =
        tiers.iter().map(|(label, tier, autonomy)| field(label, vec![Span::plain(words(*tier, *autonomy))])).collect();
    let names = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    fields.push(field("In namespaces", vec![Span::quoted(names(&policy.namespaces))]));
    fields.push(field("Never in", vec![Span::quoted(names(&policy.protected_namespaces))]));
    fields.push(field("Services known", vec![Span::plain(services.to_string())]));
    fields
}
