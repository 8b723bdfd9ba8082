//! What votes and outcomes teach the memory.
//!
//! Invariants: a vote is kept with what was asked when it was given, the symptoms of its incident;
//! votes of people whom the policy does not name count for nothing; the log holds every vote, so
//! that those which came before the post-mortem are not lost.

use tracing::info;

use super::desk::Desk;
use super::remember::symptoms;
use crate::domain::action::{Action, ActionKind};
use crate::domain::id::PersonId;
use crate::domain::incident::{Incident, Outcome};
use crate::domain::runbook::RunbookAction;
use crate::memory::{Kind, Memory, MemoryError, Query, Tenant, Trust, Vote};

/// One person's thumb under the diagnosis of an incident: it speaks of the incident's own
/// post-mortem, and of the past incidents that were recalled for it and had the cause that it names.
pub async fn thumb(desk: &Desk, incident: &Incident, person: &str, helpful: bool) {
    let Some(memory) = &desk.memory else { return };
    if let Err(failure) = cast(desk, memory, incident, person, helpful).await {
        info!(incident = %incident.id, error = %failure, "the vote is in the log; memory does not weigh it");
    }
}

/// Once the post-mortem is there: the thumbs that came before it, and what the outcome says about
/// the guidance that was recalled.
pub async fn outcome(desk: &Desk, memory: &Memory, incident: &Incident) -> Result<(), MemoryError> {
    for (person, helpful) in &incident.helpful {
        cast(desk, memory, incident, person, *helpful).await?;
    }
    let Some((action, helped)) = incident.plans.iter().rev().find_map(|record| {
        let helped = match record.outcome {
            Outcome::Verified if !record.has_helped() => return None,
            Outcome::Verified => true,
            Outcome::NotVerified | Outcome::Undone | Outcome::NotUndone { .. } | Outcome::Recurred => false,
            Outcome::Proposed
            | Outcome::Approved
            | Outcome::Rejected
            | Outcome::Expired
            | Outcome::Voided { .. }
            | Outcome::Started
            | Outcome::Written
            | Outcome::Failed { .. }
            | Outcome::Overruled { .. } => return None,
        };
        Some((&record.plan.action, helped))
    }) else {
        return Ok(());
    };
    let vote = Vote {
        by: format!("outcome of {}", incident.id),
        occasion: incident.id.to_string(),
        asked: symptoms(incident),
        helpful: helped,
        at: desk.clock.wall_now(),
        trust: Trust::Verified,
    };
    // Only what advised this very action is proved or refuted by it.
    for (owner, doc) in recalled(memory, incident, advice(action)).await? {
        memory.vote(&owner, &doc, vote.clone()).await?;
    }
    Ok(())
}

/// The verb by which documents advise an action.
pub fn advice(action: &Action) -> &'static str {
    match action.kind() {
        ActionKind::Restart => RunbookAction::Restart.as_str(),
        ActionKind::Scale | ActionKind::SetBounds => RunbookAction::Scale.as_str(),
        ActionKind::RollBack | ActionKind::RollBackRelease | ActionKind::RestoreConfig => {
            RunbookAction::Rollback.as_str()
        }
        other => other.as_str(),
    }
}

async fn cast(
    desk: &Desk,
    memory: &Memory,
    incident: &Incident,
    person: &str,
    helpful: bool,
) -> Result<(), MemoryError> {
    let tenant = tenant(incident);
    let known = desk.authority_of(&PersonId::new(person)).await.is_ok();
    let vote = Vote {
        by: person.to_owned(),
        occasion: incident.id.to_string(),
        asked: symptoms(incident),
        helpful,
        at: desk.clock.wall_now(),
        trust: if known { Trust::Verified } else { Trust::Quarantined },
    };
    memory.vote(&tenant, &format!("post-mortem/{}", incident.id), vote.clone()).await?;
    let Some(cause) = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.clone()) else {
        return Ok(());
    };
    for past in &incident.recalled {
        // One that spoke for another cause neither misled nor helped.
        let doc = format!("post-mortem/{}", past.incident);
        let chunks = memory.document(&tenant, &doc).await?;
        if chunks.first().and_then(|chunk| chunk.service.as_ref()) == Some(&cause) {
            memory.vote(&tenant, &doc, vote.clone()).await?;
        }
    }
    Ok(())
}

/// Whether somebody whom the policy names says that the diagnosis is wrong.
pub async fn is_disputed(desk: &Desk, incident: &Incident) -> bool {
    for person in incident.helpful.iter().filter(|(_, helpful)| !**helpful).map(|(person, _)| person) {
        if desk.authority_of(&PersonId::new(person)).await.is_ok() {
            return true;
        }
    }
    false
}

/// What was recalled for the incident and advises the verb.
async fn recalled(memory: &Memory, incident: &Incident, verb: &str) -> Result<Vec<(Tenant, String)>, MemoryError> {
    let tenant = tenant(incident);
    let mut advised = Vec::new();
    for past in &incident.recalled {
        let doc = format!("post-mortem/{}", past.incident);
        let chunks = memory.document(&tenant, &doc).await?;
        if chunks.first().is_some_and(|chunk| chunk.advises.iter().any(|advised| advised == verb)) {
            advised.push((tenant.clone(), doc));
        }
    }
    let query = Query { text: symptoms(incident), kinds: vec![Kind::Runbook], tenant, limit: 8, ..Query::default() };
    for found in memory.recall_documents(query).await? {
        let shown = incident.runbooks.contains(&found.chunk.title);
        if shown && found.chunk.advises.iter().any(|advised| advised == verb) {
            advised.push((found.chunk.tenant, found.chunk.doc));
        }
    }
    Ok(advised)
}

fn tenant(incident: &Incident) -> Tenant {
    Tenant::new(incident.cluster.clone(), incident.team.clone())
}
