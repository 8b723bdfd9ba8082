//! Silences that people set while the watch runs: from chat, listed by the API.

use std::time::Duration;

use super::desk::{Desk, FlowError};
use crate::domain::alert::Labels;
use crate::domain::card::{Card, Span, Tone};
use crate::domain::intent::matcher::Matchers;
use crate::domain::intent::silence::{Consent, Reach, Silence, SilenceId, Silences, State};
use crate::domain::narrative::{answer, note};
use crate::domain::time::spoken;
use crate::ports::Person;
use crate::store::{AuditEntry, Batch};

/// The setting that holds them all, as a JSON array in the shape of Alertmanager's API v2.
pub const SILENCES: &str = "silences";

const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// A silence over more than half of what fires is a way to sleep through an incident.
const MAX_SHARE: f64 = 0.5;
const LATELY: i64 = 2_000;
const USAGE: &str = "silence service=\"checkout\" for 2h because load test";

pub async fn all(desk: &Desk) -> Result<Silences, FlowError> {
    let stored = desk.store.setting(SILENCES).await?.unwrap_or_else(|| "[]".into());
    let known: Vec<Silence> = serde_json::from_str(&stored)
        .map_err(|failure| FlowError::Refused(format!("the stored silences cannot be read: {failure}")))?;
    Ok(Silences::restore(known))
}

pub async fn create(desk: &Desk, by: &Person, text: &str) -> Result<Card, FlowError> {
    may(desk, by)?;
    let asked = match parse(text) {
        Ok(asked) => asked,
        Err(why) => {
            let example = vec![vec![Span::plain("Example: "), Span::code(format!("/ops {USAGE}"))]];
            return Ok(answer(&why, example));
        }
    };
    let event_now = desk.clock.event_now();
    let mut silences = all(desk).await?;
    let number = silences.list().count() + 1;
    let silence = Silence {
        id: SilenceId::new(format!("S{number}")),
        matchers: asked.matchers.clone(),
        starts_at: event_now,
        ends_at: event_now + asked.span,
        created_by: by.name.clone(),
        comment: asked.reason.clone(),
        updated_at: event_now,
    };
    let firing: Vec<Labels> = desk.store.recent_firing(LATELY).await?.into_iter().map(|alert| alert.labels).collect();
    let matched = firing.iter().filter(|labels| asked.matchers.matches(labels)).count();
    let reach = Reach { firing: &firing, max_share: MAX_SHARE };
    let consent = if asked.confirmed { Consent::Confirmed } else { Consent::Ask };
    match silences.create(silence, reach, consent, event_now) {
        Ok(_) => {}
        Err(refused) => {
            let more =
                if refused.can_be_confirmed() { " To confirm, end the command with the word `confirmed`." } else { "" };
            return Ok(note(&format!("Not silenced: {refused}.{more}"), Tone::Alarm));
        }
    }
    let id = format!("S{number}");
    keep(desk, &silences, "silence.created", by, &format!("{id} {} {}", asked.matchers, asked.reason)).await?;
    let text = format!(
        "Silence {id}: {} is muted for {} ({}). {matched} alerts heard lately match it. It ends by itself, or with /ops unsilence {id}.",
        asked.matchers,
        spoken(asked.span),
        asked.reason
    );
    Ok(note(&text, Tone::Good))
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
    may(desk, by)?;
    let mut silences = all(desk).await?;
    let id = SilenceId::new(id.trim());
    match silences.expire(&id, desk.clock.event_now()) {
        Ok(_) => {}
        Err(why) => return Ok(note(&format!("{why}."), Tone::Neutral)),
    }
    keep(desk, &silences, "silence.expired", by, id.as_str()).await?;
    Ok(note(&format!("Silence {id} has ended; what still fires speaks again."), Tone::Good))
}

/// What is muted is lost to everybody: the same people as for approvals.
fn may(desk: &Desk, by: &Person) -> Result<(), FlowError> {
    match desk.policy.may_approve(by.id.as_str()) {
        true => Ok(()),
        false => Err(FlowError::Refused("silences are set by people whom policy.approvers names".into())),
    }
}

async fn keep(desk: &Desk, silences: &Silences, kind: &str, by: &Person, what: &str) -> Result<(), FlowError> {
    let value = serde_json::to_string(&silences.list().collect::<Vec<_>>()).unwrap_or_default();
    let batch = Batch {
        settings: vec![(SILENCES.into(), value)],
        audit: vec![AuditEntry {
            kind: kind.into(),
            subject: by.id.to_string(),
            body: serde_json::json!({"silence": what}),
        }],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    Ok(())
}

struct Asked {
    matchers: Matchers,
    span: Duration,
    reason: String,
    confirmed: bool,
}

fn parse(text: &str) -> Result<Asked, String> {
    let (head, reason) = text.split_once(" because ").ok_or("a silence needs a reason: ... because <reason>")?;
    let (matchers, span) = head.rsplit_once(" for ").ok_or("a silence needs a time: ... for 2h because ...")?;
    let (reason, confirmed) = match reason.trim().strip_suffix("confirmed") {
        Some(reason) => (reason.trim().trim_end_matches(','), true),
        None => (reason.trim(), false),
    };
    let matchers = Matchers::parse(matchers.trim()).map_err(|bad| bad.to_string())?;
    Ok(Asked { matchers, span: span_of(span.trim())?, reason: reason.to_owned(), confirmed })
}

/// `90m`, `2h`, `1d`
fn span_of(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write for example 30m, 2h or 1d");
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).ok_or_else(wrong)?);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit.trim() {
        "m" | "min" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        _ => return Err(wrong()),
    };
    match seconds.map(Duration::from_secs) {
        Some(span) if span > LONGEST => {
            Err("a silence lasts 30 days at most; plan a window in the configuration".into())
        }
        Some(span) if span.is_zero() => Err(wrong()),
        Some(span) => Ok(span),
        None => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_in_words() {
        let asked = parse("service=\"pay\", cluster=~\"a|b\" for 2h because load test").unwrap();
        assert_eq!((asked.span.as_secs(), asked.reason.as_str(), asked.confirmed), (7200, "load test", false));
        assert!(parse("service=pay for 1d because tests, confirmed").unwrap().confirmed);
        for (wrong, said) in [
            ("service=pay for 2h", "reason"),
            ("service=pay because x", "time"),
            ("service=pay for ages because x", "not a time"),
            ("service=pay for 90d because x", "30 days"),
        ] {
            let why = parse(wrong).err().unwrap();
            assert!(why.contains(said), "{why}");
        }
    }
}
