//! What is kept of a resolved incident, and what comes back when the next one looks like it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::desk::{Desk, FlowError};
use crate::domain::id::Digest;
use crate::domain::incident::{Incident, IncidentEvent, PastIncident};
use crate::domain::narrative::remedy_words;
use crate::domain::time::spoken;
use crate::memory::{Chunk, Kind, Query, Tenant, Trust};
use crate::prompt;

/// Where memory was away, it is left alone for so long, and twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What became of a post-mortem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Written,
    /// Memory is away, for this one and for all others.
    Later,
}

/// Writes the post-mortem of every incident that has been resolved and has none.
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    let never = Notify::new();
    let mut times_away = 0;
    while !desk.stopping() {
        match write_all(&desk).await? {
            Kept::Written => {
                times_away = 0;
                desk.wait(&desk.bells.incidents, Duration::from_millis(1000)).await;
            }
            // Not by the bell: another incident does not bring memory back.
            Kept::Later => {
                times_away += 1;
                desk.wait(&never, pause_after(times_away)).await;
            }
        }
    }
    Ok(())
}

async fn write_all(desk: &Desk) -> Result<Kept, FlowError> {
    for incident in desk.store.to_remember().await? {
        match write(desk, &incident).await {
            Ok(Kept::Written) => {}
            Ok(Kept::Later) => return Ok(Kept::Later),
            Err(failure) => error!(incident = %incident.id, error = %failure, "the post-mortem waits"),
        }
    }
    Ok(Kept::Written)
}

fn pause_after(times_away: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times_away.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

async fn write(desk: &Desk, incident: &Incident) -> Result<Kept, FlowError> {
    let document = render(desk, incident).await?;
    let tenant = Tenant::new(incident.cluster.clone(), incident.team.clone());
    let wall_now = desk.clock.wall_now();
    desk.term.sure().await.map_err(|lost| FlowError::Outside(lost.to_string()))?;
    if let Some(memory) = &desk.memory {
        // What was verified by telemetry may be believed, unless people say that the cause is another; the
        // rest waits for a person.
        let verified = incident.plans.iter().any(|record| record.outcome == crate::domain::incident::Outcome::Verified)
            && !super::learn::is_disputed(desk, incident).await;
        let mut alerts: Vec<String> = incident.alerts.values().map(|group| group.name.clone()).collect();
        alerts.sort();
        alerts.dedup();
        let cause = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.clone());
        let advises: Vec<String> = incident
            .plans
            .iter()
            .filter(|record| record.outcome == crate::domain::incident::Outcome::Verified)
            .map(|record| super::learn::advice(&record.plan.action).to_owned())
            .collect();
        let chunks = crate::domain::runbook::sections(&document)
            .into_iter()
            .map(|section| Chunk {
                kind: Kind::PostMortem,
                doc: format!("post-mortem/{}", incident.id),
                title: incident.title.clone(),
                heading: section.heading,
                about: symptoms(incident),
                text: section.text,
                alerts: alerts.clone(),
                advises: advises.clone(),
                tenant: tenant.clone(),
                service: cause.clone(),
                incident: Some(incident.id.clone()),
                author: "midwatch".into(),
                trust: if verified { Trust::Verified } else { Trust::Quarantined },
                votes: 0,
                at: wall_now,
            })
            .collect();
        let kept = match memory.remember(chunks).await {
            Ok(()) => super::learn::outcome(desk, memory, incident).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = kept {
            if failure.is_passing() {
                warn!(incident = %incident.id, error = %failure, "memory is unavailable; tried again later");
                return Ok(Kept::Later);
            }
            error!(incident = %incident.id, error = %failure, "the post-mortem is kept in the log only");
        }
    }
    desk.change(&incident.id, |change| {
        change.record(IncidentEvent::PostMortemWritten {
            document: document.clone(),
            digest: Digest::of(document.as_bytes()),
        })?;
        Ok(())
    })
    .await?;
    info!(incident = %incident.id, "post-mortem written");
    Ok(Kept::Written)
}

/// How the incident showed itself: what the next one is compared with.
pub fn symptoms(incident: &Incident) -> String {
    let mut kinds: Vec<(usize, String)> = incident
        .alerts
        .values()
        .map(|group| (group.count, format!("{} about {}", group.name, group.subject)))
        .collect();
    kinds.sort_by(|one, other| other.cmp(one));
    let kinds: Vec<String> = kinds.into_iter().take(12).map(|(_, text)| text).collect();
    format!("{}. {}", incident.title, kinds.join("; "))
}

/// How long an incident waits for the runbooks of a process that has just started.
const SHELVING: Duration = Duration::from_secs(5);

/// Past incidents and runbooks that resemble this one; `None` when memory does not answer.
pub async fn recall(
    desk: &Desk,
    incident: &Incident,
    cause: Option<&str>,
) -> Option<(Vec<PastIncident>, Vec<crate::memory::Recalled>)> {
    let memory = desk.memory.as_ref()?;
    let mut shelved = desk.shelved.clone();
    if tokio::time::timeout(SHELVING, shelved.wait_for(|done| *done)).await.is_err() {
        warn!(incident = %incident.id, "not all runbooks are read yet; going on with those that are");
    }
    let mut alerts: Vec<String> = incident.alerts.values().map(|group| group.name.clone()).collect();
    alerts.sort();
    alerts.dedup();
    let query = |kinds: Vec<Kind>, limit| Query {
        text: symptoms(incident),
        service: cause.map(str::to_owned),
        alerts: alerts.clone(),
        kinds,
        tenant: Tenant::new(incident.cluster.clone(), incident.team.clone()),
        limit,
    };
    let (past, runbooks) = futures::join!(
        memory.similar_incidents(query(vec![Kind::PostMortem], 3)),
        memory.recall(query(vec![Kind::Runbook], 4))
    );
    match (past, runbooks) {
        (Ok(past), Ok(runbooks)) => {
            let mut seen = std::collections::BTreeSet::new();
            let past = past
                .into_iter()
                .filter(|one| one.chunk.incident.as_ref() != Some(&incident.id))
                .filter(|one| seen.insert(one.chunk.doc.clone()))
                .map(|one| PastIncident {
                    incident: one.chunk.incident.as_ref().map_or_else(|| one.chunk.doc.clone(), ToString::to_string),
                    title: one.chunk.title.clone(),
                    score: f64::from(one.relevance),
                    because: format!("{:.0} % alike; {}", one.relevance * 100.0, one.why),
                })
                .collect();
            Some((past, runbooks))
        }
        (Err(failure), _) | (_, Err(failure)) => {
            warn!(incident = %incident.id, error = %failure, "diagnosing without memory");
            None
        }
    }
}

async fn render(desk: &Desk, incident: &Incident) -> Result<String, FlowError> {
    let events = desk.store.events(&incident.id).await?;
    let evidence = desk.store.evidence_of(&incident.id).await?;
    let timeline = events
        .iter()
        .filter_map(|row| {
            let event: IncidentEvent = serde_json::from_str(&row.body).ok()?;
            let text = super::timeline::tell_event(&event)?;
            Some(prompt::PostMortemMoment { at: crate::domain::time::Timestamp::from_millis(row.at).to_string(), text })
        })
        .collect();
    let people = events
        .iter()
        .filter_map(|row| match serde_json::from_str(&row.body).ok()? {
            IncidentEvent::Feedback { by, helpful: false, reason } => {
                Some(reason.map_or_else(|| format!("{by}: wrong"), |reason| format!("{by}: wrong, {reason}")))
            }
            _ => None,
        })
        .collect();
    let diagnosis = incident.diagnosis.as_ref();
    let view = prompt::PostMortemView {
        id: incident.id.to_string(),
        title: incident.title.clone(),
        severity: incident.severity.as_str().into(),
        severity_because: incident.severity_because.clone(),
        cluster: incident.cluster.clone(),
        since: incident.since.to_string(),
        lasted: incident.resolved_at.map_or_else(String::new, |end| spoken(end.since(incident.since))),
        symptoms: symptoms(incident),
        cause: diagnosis.and_then(|diagnosis| diagnosis.service.clone()).unwrap_or_else(|| "not known".into()),
        change: diagnosis.and_then(|diagnosis| diagnosis.change.clone()),
        mechanism: diagnosis.map(|diagnosis| diagnosis.mechanism.clone()).unwrap_or_default(),
        confidence: incident.confidence_word().into(),
        claims: diagnosis.map(|one| one.claims.iter().map(prompt::ClaimView::of).collect()).unwrap_or_default(),
        ruled_out: diagnosis.map(|one| one.ruled_out.iter().map(prompt::ClaimView::of).collect()).unwrap_or_default(),
        people,
        remedy: diagnosis.map(|one| remedy_words(&one.remedy)).unwrap_or_default(),
        actions: incident
            .plans
            .iter()
            .map(|record| prompt::ActionView {
                action: record.plan.action.to_string(),
                outcome: record.outcome.word().into(),
                approved_by: record.approved_by.join(", "),
                facts: record.facts.clone(),
            })
            .collect(),
        evidence: evidence
            .iter()
            .map(|one| prompt::EvidenceView {
                mark: one.id.mark().to_owned(),
                source: one.source.clone(),
                summary: one.summary.clone(),
                seen: None,
            })
            .collect(),
        timeline,
    };
    desk.prompts.post_mortem(&view).map_err(|error| FlowError::Outside(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_stays_away_is_asked_less_and_less_often() {
        let seconds: Vec<u64> = [1, 2, 3, 6, 7, 40, u32::MAX].map(|times| pause_after(times).as_secs()).to_vec();
        assert_eq!(seconds, [5, 10, 20, 160, 300, 300, 300]);
    }
}
