//! Silences that people set while the watch runs: from chat, listed by the API.

use std::time::Duration;

use super::desk::{Desk, FlowError};
use crate::domain::alert::Labels;
use crate::domain::card::{Card, Span, Tone};
use crate::domain::intent::matcher::Matchers;
use crate::domain::intent::silence::{CannotExpire, Consent, Reach, Refused, Silence, SilenceId, Silences, State};
use crate::domain::narrative::{answer, note};
use crate::domain::time::{Timestamp, spoken};
use crate::ports::Person;
use crate::store::{AuditEntry, Batch};

/// The setting that holds them all, as a JSON array in the shape of Alertmanager's API v2.
pub const SILENCES: &str = "silences";

/// By the API; a command's silence ends sooner.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// A silence over more than half of what fires is a way to sleep through an incident.
const MAX_SHARE: f64 = 0.5;
const LATELY: i64 = 2_000;

pub async fn all(desk: &Desk) -> Result<Silences, FlowError> {
    let stored = desk.store.setting(SILENCES).await?.unwrap_or_else(|| "[]".into());
    let known: Vec<Silence> = serde_json::from_str(&stored)
        .map_err(|failure| FlowError::Refused(format!("the stored silences cannot be read: {failure}")))?;
    Ok(Silences::restore(known))
}

/// By command: the grammar has seen to it that it ends within a day and has a reason.
pub async fn create(
    desk: &Desk,
    by: &Person,
    matchers: Matchers,
    span: Duration,
    because: String,
    consent: Consent,
) -> Result<Card, FlowError> {
    desk.must_have_authority(by, "silence alerts").await?;
    let event_now = desk.clock.event_now();
    let wanted = Wanted {
        matchers,
        starts_at: event_now,
        ends_at: event_now + span,
        created_by: by.name.clone(),
        comment: because,
        consent,
    };
    let silence = match take(desk, by.id.as_str(), wanted).await? {
        Ok(taken) => taken,
        Err(refused) => {
            let more =
                if refused.can_be_confirmed() { " To confirm, end the command with the word `confirmed`." } else { "" };
            return Ok(note(&format!("Not silenced: {refused}.{more}"), Tone::Alarm));
        }
    };
    let Taken { id, matchers, comment, matched } = silence;
    let text = format!(
        "Silence {id}: {matchers} is muted for {} ({comment}). {matched} alerts heard lately match it. It ends by \
         itself, or with /ops unsilence {id}.",
        spoken(span)
    );
    Ok(note(&text, Tone::Good))
}

/// A silence that somebody asks for.
pub struct Wanted {
    pub matchers: Matchers,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
    pub consent: Consent,
}

pub struct Taken {
    pub id: SilenceId,
    pub matchers: Matchers,
    pub comment: String,
    /// Alerts heard lately that it matches.
    pub matched: usize,
}

/// Takes the silence, or refuses it with the reason; `by` is for the audit trail.
pub async fn take(desk: &Desk, by: &str, wanted: Wanted) -> Result<Result<Taken, Refused>, FlowError> {
    let event_now = desk.clock.event_now();
    let _alone = desk.silencing.lock().await;
    let mut silences = all(desk).await?;
    let id = SilenceId::new(format!("S{}", silences.list().count() + 1));
    let Wanted { matchers, starts_at, ends_at, created_by, comment, consent } = wanted;
    let silence = Silence {
        id: id.clone(),
        matchers: matchers.clone(),
        starts_at,
        ends_at,
        created_by,
        comment: comment.clone(),
        updated_at: event_now,
    };
    let firing: Vec<Labels> =
        desk.store.heard_lately(LATELY).await?.into_iter().map(|heard| heard.alert.labels).collect();
    let matched = firing.iter().filter(|labels| matchers.matches(labels)).count();
    let reach = Reach { firing: &firing, max_share: MAX_SHARE };
    if let Err(refused) = silences.create(silence, reach, consent, event_now) {
        return Ok(Err(refused));
    }
    keep(desk, &silences, "silence.created", by, &format!("{id} {matchers} {comment}")).await?;
    Ok(Ok(Taken { id, matchers, comment, matched }))
}

pub async fn list(desk: &Desk) -> Result<Card, FlowError> {
    let event_now = desk.clock.event_now();
    let silences = all(desk).await?;
    let lines: Vec<Vec<Span>> = silences
        .list()
        .filter(|silence| silence.state(event_now) != State::Expired)
        .map(|silence| {
            vec![
                Span::code(silence.id.to_string()),
                Span::plain(format!(
                    " {} until {} by {}: {}",
                    silence.matchers,
                    silence.ends_at.hour_minute(),
                    silence.created_by,
                    silence.comment
                )),
            ]
        })
        .collect();
    Ok(match lines.is_empty() {
        true => note("Nothing is silenced.", Tone::Neutral),
        false => answer("Silenced now:", lines),
    })
}

pub async fn expire(desk: &Desk, by: &Person, id: &str) -> Result<Card, FlowError> {
    desk.must_have_authority(by, "end silences").await?;
    match end(desk, by.id.as_str(), id).await? {
        Ok(id) => Ok(note(&format!("Silence {id} has ended; what still fires speaks again."), Tone::Good)),
        Err(why) => Ok(note(&format!("{why}."), Tone::Neutral)),
    }
}

/// Ends a silence now; `by` is for the audit trail.
pub async fn end(desk: &Desk, by: &str, id: &str) -> Result<Result<SilenceId, CannotExpire>, FlowError> {
    let _alone = desk.silencing.lock().await;
    let mut silences = all(desk).await?;
    let id = SilenceId::new(id.trim());
    if let Err(why) = silences.expire(&id, desk.clock.event_now()) {
        return Ok(Err(why));
    }
    keep(desk, &silences, "silence.expired", by, id.as_str()).await?;
    Ok(Ok(id))
}

async fn keep(desk: &Desk, silences: &Silences, kind: &str, by: &str, what: &str) -> Result<(), FlowError> {
    let value = serde_json::to_string(&silences.list().collect::<Vec<_>>()).unwrap_or_default();
    let batch = Batch {
        settings: vec![(SILENCES.into(), value)],
        audit: vec![AuditEntry { kind: kind.into(), subject: by.into(), body: serde_json::json!({"silence": what}) }],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    Ok(())
}
