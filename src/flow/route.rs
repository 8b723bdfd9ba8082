//! Where an incident is told, and its digest: decided by the domain, from what the store knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::deliver::Effect;
use super::desk::{ChatSeat, Desk, FlowError};
use crate::domain::card::{Block, Card, Field, Span, Tone};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, State};
use crate::domain::narrative::state_words;
use crate::domain::route::{Facts, NAMED, Telling};
use crate::domain::time::Timestamp;
use crate::store::{Batch, NewEffect, StoreError};

/// Alerts whose labels say where an incident belongs.
const ASKED: i64 = 8;
/// The setting that remembers until when incidents were told in a digest, in milliseconds.
const LAST: &str = "digest/last";
/// What was opened later is told in the next digest.
const SETTLED: Duration = Duration::from_secs(10);

pub async fn facts(desk: &Desk, incident: &Incident) -> Result<Facts, StoreError> {
    Ok(Facts::of(incident, &desk.store.labels_of(&incident.id, ASKED).await?))
}

/// The channel of an incident in one chat.
pub async fn channel(desk: &Desk, seat: &ChatSeat, incident: &Incident) -> Result<String, StoreError> {
    if desk.routing.routes.is_empty() {
        return Ok(seat.channel.clone());
    }
    let facts = facts(desk, incident).await?;
    Ok(match desk.routing.channel(&facts) {
        Some(channel) => seat.channel_named(channel).to_owned(),
        None => seat.channel.clone(),
    })
}

/// Tells the light ones together, every so many minutes.
pub async fn run_digest(desk: Arc<Desk>) -> Result<(), FlowError> {
    while !desk.stopping() {
        if desk.routing.digest.is_some() {
            digest(&desk).await?;
        }
        desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn digest(desk: &Desk) -> Result<(), FlowError> {
    let wall_now = desk.clock.wall_now();
    let stored = desk.store.setting(LAST).await?.and_then(|text| text.parse().ok());
    // A clock that was ahead for a while would hold back every digest until it is that late.
    let last = stored.map(Timestamp::from_millis).filter(|last| *last <= wall_now);
    let every = Duration::from_secs(desk.config.routing.digest_minutes.saturating_mul(60));
    // The time of an opening is taken before it is written: what was opened just now comes next time.
    let until = wall_now - SETTLED;
    if last.is_some_and(|last| until < last + every) {
        return Ok(());
    }
    let mut batch = Batch { settings: vec![(LAST.into(), until.millis().to_string())], ..Batch::default() };
    if let Some(last) = last {
        for (channel, incidents) in light(desk, last, until, wall_now).await? {
            info!(channel, incidents = incidents.len(), "told in a digest");
            for (part, incidents) in incidents.chunks(NAMED).enumerate() {
                let (channel, incidents) = (channel.clone(), incidents.to_vec());
                batch.effects.push(NewEffect {
                    key: format!("digest/{}/{part}/{channel}", wall_now.millis()),
                    incident: None,
                    body: serde_json::to_string(&Effect::Digest { channel, incidents }).unwrap_or_default(),
                });
            }
        }
    }
    desk.store.commit(batch, wall_now).await?;
    desk.bells.outbox.notify_one();
    Ok(())
}

/// What was opened since then and is told in a digest only, by channel; an empty one is each chat's own.
async fn light(
    desk: &Desk,
    last: Timestamp,
    until: Timestamp,
    wall_now: Timestamp,
) -> Result<BTreeMap<String, Vec<IncidentId>>, FlowError> {
    let mut by_channel: BTreeMap<String, Vec<IncidentId>> = BTreeMap::new();
    for incident in desk.store.opened_between(last, until).await? {
        // What has gone into another is told with that one.
        let merged = matches!(incident.state, State::Merged { .. });
        if merged || desk.routing.telling(&incident, wall_now) != Telling::Digest {
            continue;
        }
        let channel = desk.routing.channel(&facts(desk, &incident).await?).unwrap_or_default().to_owned();
        by_channel.entry(channel).or_default().push(incident.id);
    }
    Ok(by_channel)
}

/// Rendered when it is delivered, so that what has ended meanwhile is told so.
pub async fn digest_card(desk: &Desk, incidents: &[IncidentId]) -> Result<Card, StoreError> {
    let mut items = vec![];
    let mut open = 0;
    for id in incidents {
        let Some(incident) = desk.store.incident(id).await? else { continue };
        open += usize::from(!incident.state.is_over());
        items.push(vec![
            Span::Link { text: id.to_string(), path: format!("/incident/{id}") },
            Span::plain(format!(" {} ", incident.severity.as_str())),
            Span::quoted(incident.title.clone()),
            Span::plain(format!(": {}, {}", state_words(&incident.state), many(incident.alert_count(), "alert"))),
        ]);
    }
    let headline = format!("{} since the last digest", many(incidents.len(), "light incident"));
    let mut blocks = vec![
        Block::Header { text: headline.clone(), tone: Tone::Neutral },
        Block::Fields {
            fields: vec![Field { label: "Still open".into(), value: vec![Span::plain(open.to_string())] }],
        },
        Block::List { items },
    ];
    if let Some(first) = incidents.first() {
        let how =
            format!("Light ones are told together (`routing.digest`); /ops handover {first} to @name brings one here");
        blocks.push(Block::Context { spans: vec![Span::plain(how)] });
    }
    Ok(Card { fallback: headline, blocks })
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
