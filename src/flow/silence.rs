//! Silences that people set while the watch runs: from chat, listed by the API.

use std::time::Duration;

use super::desk::{Desk, FlowError};
use crate::domain::alert::{Alert, Labels};
use crate::domain::card::{Card, Span, Tone};
use crate::domain::id::IncidentId;
use crate::domain::intent::cover::covering;
use crate::domain::intent::matcher::{Matcher, Matchers, Op};
use crate::domain::intent::silence::{CannotExpire, Consent, Reach, Refused, Silence, SilenceId, Silences, State};
use crate::domain::narrative::{answer, note};
use crate::domain::time::{Timestamp, spoken};
use crate::ports::Person;
use crate::store::{AuditEntry, Batch, Member, StoreError};

/// The setting that holds them all, as a JSON array in the shape of Alertmanager's API v2.
pub const SILENCES: &str = "silences";

/// By the API; a command's silence ends sooner.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// A silence over more than half of what fires is a way to sleep through an incident.
const MAX_SHARE: f64 = 0.5;
const LATELY: i64 = 2_000;
/// How a command ends that has seen how far it reaches.
const CONFIRMED: &str = ", confirmed";

pub async fn all(desk: &Desk) -> Result<Silences, FlowError> {
    Ok(stored(desk).await?.1)
}

/// As they are stored, and as they are read.
async fn stored(desk: &Desk) -> Result<(Option<String>, Silences), FlowError> {
    let stored = desk.store.setting(SILENCES).await?;
    let known: Vec<Silence> = serde_json::from_str(stored.as_deref().unwrap_or("[]"))
        .map_err(|failure| FlowError::Refused(format!("the stored silences cannot be read: {failure}")))?;
    Ok((stored, Silences::restore(known)))
}

/// People may silence at the doors of several processes in the same moment: then it is read again.
const TRIES: usize = 8;

/// The words of an incident's button: without matchers, about all that the incident is about; one
/// silence for each label that says it.
pub async fn of_incident(desk: &Desk, id: &IncidentId, words: String) -> Result<Vec<String>, FlowError> {
    if !words.starts_with("for ") {
        return Ok(vec![words]);
    }
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let alerts: Vec<Alert> = desk.store.admitted_to(id).await?.iter().filter_map(Member::alert).collect();
    let matchers = if alerts.is_empty() {
        // People have opened it: what they named is a service as far as anybody knows.
        let subjects: Vec<String> = incident.subjects().into_iter().map(regex::escape).collect();
        Matcher::new("service", Op::Regex, &subjects.join("|"))
            .and_then(|one| Matchers::new(vec![one]))
            .map(|it| vec![it])
    } else {
        covering(&alerts)
    };
    let matchers = matchers.map_err(|failure| FlowError::Refused(failure.to_string()))?;
    // Each is measured by itself when it is taken; several may be too much together.
    if matchers.len() > 1 && !words.trim_end().ends_with(CONFIRMED) {
        let firing: Vec<Labels> = desk.store.firing_now(LATELY).await?;
        let reach = Reach { firing: &firing, max_share: MAX_SHARE };
        reach.allows(&matchers).map_err(|why| FlowError::Refused(format!("{why}, with `{CONFIRMED}` at the end")))?;
    }
    Ok(matchers.iter().map(|matchers| format!("{matchers} {words}")).collect())
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
            let more = if refused.can_be_confirmed() { " To confirm, end the command with `, confirmed`." } else { "" };
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

/// Alertmanager's `--data.retention`.
const RETENTION: Duration = Duration::from_secs(5 * 24 * 3600);

/// The number that was given last; the newest of all stays until there is a newer one.
fn highest(silences: &Silences) -> u64 {
    let numbers = silences.list().filter_map(|one| one.id.as_str().strip_prefix('S')?.parse().ok());
    numbers.max().unwrap_or(0)
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
    let Wanted { matchers, starts_at, ends_at, created_by, comment, consent } = wanted;
    let firing: Vec<Labels> = desk.store.firing_now(LATELY).await?;
    let matched = firing.iter().filter(|labels| matchers.matches(labels)).count();
    let reach = Reach { firing: &firing, max_share: MAX_SHARE };
    for _ in 0..TRIES {
        let (before, mut silences) = stored(desk).await?;
        let id = SilenceId::new(format!("S{}", 1 + highest(&silences)));
        // As Alertmanager forgets them; the audit trail keeps who made them.
        silences.forget_expired(event_now - RETENTION);
        let silence = Silence {
            id: id.clone(),
            matchers: matchers.clone(),
            starts_at,
            ends_at,
            created_by: created_by.clone(),
            comment: comment.clone(),
            updated_at: event_now,
        };
        if let Err(refused) = silences.create(silence, reach, consent, event_now) {
            return Ok(Err(refused));
        }
        let what = format!("{id} {matchers} {comment}");
        if keep(desk, before, &silences, "silence.created", by, &what).await? == Kept::Yes {
            return Ok(Ok(Taken { id, matchers, comment, matched }));
        }
    }
    Err(FlowError::Store(StoreError::Stale(SILENCES.into())))
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
    let id = SilenceId::new(id.trim());
    for _ in 0..TRIES {
        let (before, mut silences) = stored(desk).await?;
        if let Err(why) = silences.expire(&id, desk.clock.event_now()) {
            return Ok(Err(why));
        }
        if keep(desk, before, &silences, "silence.expired", by, id.as_str()).await? == Kept::Yes {
            return Ok(Ok(id));
        }
    }
    Err(FlowError::Store(StoreError::Stale(SILENCES.into())))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    /// Somebody else was faster.
    No,
}

async fn keep(
    desk: &Desk,
    before: Option<String>,
    silences: &Silences,
    kind: &str,
    by: &str,
    what: &str,
) -> Result<Kept, FlowError> {
    let value = serde_json::to_string(&silences.list().collect::<Vec<_>>()).unwrap_or_default();
    let batch = Batch {
        settings: vec![(SILENCES.into(), value)],
        unless_changed: vec![(SILENCES.into(), before)],
        audit: vec![AuditEntry { kind: kind.into(), subject: by.into(), body: serde_json::json!({"silence": what}) }],
        ..Batch::default()
    };
    match desk.store.commit(batch, desk.clock.wall_now()).await {
        Ok(_) => Ok(Kept::Yes),
        Err(StoreError::Stale(_)) => Ok(Kept::No),
        Err(failure) => Err(failure.into()),
    }
}
