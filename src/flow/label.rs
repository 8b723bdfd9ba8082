//! Labels: what people say, or show by what they do, of incidents and of suppressed alerts. They are
//! what the prefilter's threshold is calibrated on, and what its misses are measured by.

use tracing::warn;

use super::assess::close_when_over;
use super::deliver::Effect;
use super::desk::{Decision, Desk, FlowError};
use crate::domain::alert::Alert;
use crate::domain::anomaly::{Audit, AuditEstimate, AuditRules, AuditSoFar, Calibration, Labelled, Seen, Setting};
use crate::domain::card::{Card, Tone};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, State};
use crate::domain::narrative::{Answer, note};
use crate::domain::prefilter::{Prefilter, Rules, Suppression};
use crate::ports::Person;
use crate::store::{AskedRow, AuditEntry, Batch, LabelKind, LabelRow, NewEffect, NewLabel};

/// Flapping and other rules that no threshold on scores can change.
const ELSEWHERE: &str = "elsewhere";

/// The incident was real: somebody did something about it, or said so.
pub fn real(change: &mut Decision<'_>, by: &str, because: &str) {
    let label = of_incident(change.incident(), true, by, because);
    change.batch.taught.labels.push(label);
}

pub(super) fn of_incident(incident: &Incident, real: bool, by: &str, because: &str) -> NewLabel {
    let scored = incident.score();
    NewLabel {
        key: incident.id.to_string(),
        kind: LabelKind::Incident,
        score: scored.map(|scored| scored.score),
        seen: if scored.is_some_and(|scored| scored.openly) { "openly" } else { "admitted" },
        share: None,
        real,
        person: by.to_owned(),
        because: because.to_owned(),
    }
}

/// `/ops noise INC-7 because ...`, or the button: nobody had to wake up for it.
pub async fn noise(desk: &Desk, by: &Person, id: &IncidentId, because: &str) -> Result<Card, FlowError> {
    let person = by.id.as_str();
    let event_now = desk.clock.event_now();
    let (incident, ()) = desk
        .change(id, |change| {
            change.record(IncidentEvent::NotAnIncident { by: person.to_owned(), because: because.to_owned() })?;
            // They may have ended while it was in people's hands: nothing else would close it.
            if matches!(change.incident().state, State::HandedOver { .. }) {
                close_when_over(change, event_now)?;
            }
            let label = of_incident(change.incident(), false, person, because);
            change.batch.taught.labels.push(label);
            change.tell("root", &Effect::Root);
            Ok(())
        })
        .await?;
    let counts = match incident.score() {
        Some(scored) => format!("the prefilter learns from it (score {:.2})", scored.score),
        None => "the prefilter could not score it yet, so it learns nothing from it".to_owned(),
    };
    Ok(note(
        &format!("Kept: {id} was not an incident ({because}); {counts}. It closes when its alerts have ended."),
        Tone::Neutral,
    ))
}

/// A person's answer to the question whether an alert was rightly muted.
pub async fn answer(desk: &Desk, by: &Person, key: &str, answer: Answer) -> Result<Card, FlowError> {
    desk.must_have_authority(by, "say whether an alert was rightly muted").await?;
    let asked = desk
        .store
        .asked(key)
        .await?
        .ok_or_else(|| FlowError::Refused("this question is not one of mine; answer the newest card".into()))?;
    let person = by.id.as_str();
    let label = NewLabel {
        key: asked.key.clone(),
        kind: LabelKind::Alert,
        score: asked.score,
        seen: if asked.reason == "not_anomalous" { "audited" } else { ELSEWHERE },
        share: Some(asked.share),
        real: answer == Answer::ShouldHaveWoken,
        person: person.to_owned(),
        because: answer.words().to_owned(),
    };
    let mut batch = Batch {
        effects: vec![question(&asked.key)],
        audit: vec![AuditEntry {
            kind: "audit.answered".into(),
            subject: asked.key.clone(),
            body: serde_json::json!({"by": person, "said": answer.words(), "alert": asked.name}),
        }],
        ..Batch::default()
    };
    batch.taught.labels.push(label);
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    desk.bells.outbox.notify_one();
    Ok(note(&format!("Thank you; it is kept: {}. It counts in the measured miss rate.", answer.words()), Tone::Neutral))
}

/// How far the audit of the suppressed has come today, as JSON.
const AUDIT: &str = "audit_so_far";

/// The audit as it was before a restart.
pub(super) async fn audit_so_far(desk: &Desk, rules: AuditRules) -> Result<Audit, FlowError> {
    let stored = desk.store.setting(AUDIT).await?;
    let so_far = stored.map(|stored| serde_json::from_str::<AuditSoFar>(&stored)).transpose();
    let so_far = so_far.unwrap_or_else(|unreadable| {
        warn!(error = %unreadable, "the audit of what is suppressed begins its day again");
        None
    });
    Ok(Audit::resume(rules, so_far.unwrap_or_default()))
}

/// A few of the suppressed are shown to people, who say whether that was right.
pub(super) fn ask(audit: &mut Audit, prefilter: &Prefilter, alert: &Alert, reason: &Suppression, batch: &mut Batch) {
    if !reason.is_audited() {
        return;
    }
    if audit.draws(alert.fingerprint, alert.starts_at) {
        let key = format!("{}@{}", alert.fingerprint, alert.starts_at.millis());
        batch.effects.push(question(&key));
        batch.taught.asked.push(AskedRow {
            key,
            fingerprint: alert.fingerprint.to_string(),
            name: alert.name().into(),
            subject: alert.about().into(),
            reason: reason.name().into(),
            explanation: reason.explain(),
            score: prefilter.scored(alert.fingerprint).map(|scored| scored.score),
            share: audit.share(),
            starts_at: alert.starts_at.millis(),
        });
    }
    let so_far = serde_json::to_string(&audit.so_far()).unwrap_or_default();
    batch.settings = vec![(AUDIT.into(), so_far)];
}

/// The card that asks about a suppressed alert; rendered when it is delivered.
fn question(key: &str) -> NewEffect {
    NewEffect {
        key: format!("asked/{key}"),
        incident: None,
        body: serde_json::to_string(&Effect::Asked { key: key.to_owned() }).unwrap_or_default(),
    }
}

/// What the labels allow now.
pub async fn setting(desk: &Desk, rules: &Rules) -> Result<Setting, FlowError> {
    let mut calibration = Calibration::new(rules.bound);
    desk.store.labels().await?.iter().filter_map(labelled).for_each(|label| calibration.learn(label));
    Ok(calibration.setting())
}

/// What people's answers say of all that is suppressed.
pub async fn estimate(desk: &Desk, rules: &Rules) -> Result<AuditEstimate, FlowError> {
    let (shown, answered, missed) = desk.store.audit_answers().await?;
    Ok(AuditEstimate::of(shown, answered, missed, rules.bound.confidence))
}

/// The estimate as a line for people.
pub fn in_words(estimate: &AuditEstimate) -> String {
    let AuditEstimate { shown, answered, missed, rate, upper } = *estimate;
    match (shown, answered) {
        (0, _) => "audit: no muted alert has been shown to people yet".into(),
        (_, 0) => format!("audit: people were asked about {shown} muted alerts and have not answered yet"),
        _ => format!(
            "audit: of {shown} muted alerts that people were asked about they answered {answered}; {missed} should \
             have woken them: {:.1} % missed, {:.1} % at most",
            rate * 100.0,
            upper * 100.0
        ),
    }
}

/// `None` for what says nothing about scores.
fn labelled(row: &LabelRow) -> Option<Labelled> {
    let seen = match (row.seen.as_str(), row.share) {
        ("openly", _) => Seen::Openly,
        ("admitted", _) => Seen::Admitted,
        ("audited", Some(share)) => Seen::Audited { share },
        (ELSEWHERE, _) => return None,
        (other, _) => {
            warn!(label = row.key, seen = other, "a label of another version is left out");
            return None;
        }
    };
    Some(Labelled { key: row.key.clone(), score: row.score?, real: row.real, seen })
}
