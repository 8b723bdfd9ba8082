//! Notes of people for the memory: with their author, unverified until an outcome confirms them (S16).

use serde::{Deserialize, Serialize};

use crate::domain::card::{Card, Tone};
use crate::domain::id::IncidentId;
use crate::domain::narrative::note;
use crate::domain::redact::redact;
use crate::domain::time::Timestamp;
use crate::flow::desk::{Desk, FlowError};
use crate::memory::{Chunk, Kind, MemoryError, Tenant, Trust};
use crate::ports::Person;
use crate::store::{AuditEntry, Batch};

/// The setting that lists them, so that they can be named and forgotten.
const NOTES: &str = "notes";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub id: String,
    pub author: String,
    pub service: Option<String>,
    pub text: String,
    pub at: Timestamp,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Shelf {
    /// Never used twice, also after one was forgotten.
    next: u64,
    notes: Vec<Note>,
    /// As it was read: another process may change it meanwhile.
    #[serde(skip)]
    stored: Option<String>,
}

pub(super) async fn all(desk: &Desk) -> Result<Vec<Note>, FlowError> {
    Ok(shelf(desk).await?.notes)
}

async fn shelf(desk: &Desk) -> Result<Shelf, FlowError> {
    let Some(stored) = desk.store.setting(NOTES).await? else { return Ok(Shelf::default()) };
    let shelf: Shelf = serde_json::from_str(&stored)
        .map_err(|failure| FlowError::Outside(format!("the list of notes cannot be read: {failure}")))?;
    Ok(Shelf { stored: Some(stored), ..shelf })
}

pub(super) async fn remember(desk: &Desk, by: &Person, text: &str, service: Option<String>) -> Result<Card, FlowError> {
    let Some(memory) = &desk.memory else {
        return Err(FlowError::Refused("no memory is open, so nothing can be remembered".into()));
    };
    // Notes are read, changed and written as one value.
    let _alone = desk.noting.lock().await;
    let mut shelf = shelf(desk).await?;
    shelf.next += 1;
    let wall_now = desk.clock.wall_now();
    let note_of = Note {
        id: format!("N{}", shelf.next),
        author: by.id.to_string(),
        service,
        // S10: whatever somebody pastes, no secret is kept.
        text: redact(text),
        at: wall_now,
    };
    memory.remember(vec![chunk(&note_of, by)]).await.map_err(away)?;
    let id = note_of.id.clone();
    let body = serde_json::json!({"note": id, "service": note_of.service, "by": by.id});
    shelf.notes.push(note_of);
    keep(desk, &shelf, "note.remembered", by, body).await?;
    let text = format!("Remembered as {id}, unverified: it is shown as your words. /ops forget {id} takes it back.");
    Ok(note(&text, Tone::Good))
}

fn chunk(of: &Note, by: &Person) -> Chunk {
    Chunk {
        kind: Kind::Note,
        doc: doc(&of.id),
        title: format!("Note {}", of.id),
        heading: of.service.clone().unwrap_or_else(|| "note".into()),
        about: of.service.clone().unwrap_or_default(),
        text: of.text.clone(),
        alerts: vec![],
        advises: vec![],
        tenant: Tenant::everyone(),
        service: of.service.clone(),
        incident: None,
        author: format!("{} ({})", by.name, by.id),
        trust: Trust::Quarantined,
        votes: 0,
        at: of.at,
    }
}

fn doc(id: &str) -> String {
    format!("note/{id}")
}

fn away(failure: MemoryError) -> FlowError {
    FlowError::Refused(format!("memory does not take it now: {failure}"))
}

/// Purges it with everything that was kept of it.
pub(super) async fn forget(desk: &Desk, by: &Person, id: &str) -> Result<Card, FlowError> {
    let Some(memory) = &desk.memory else {
        return Err(FlowError::Refused("no memory is open".into()));
    };
    let _alone = desk.noting.lock().await;
    let mut shelf = shelf(desk).await?;
    if let Some(at) = shelf.notes.iter().position(|known| known.id.eq_ignore_ascii_case(id)) {
        let gone = shelf.notes.remove(at);
        memory.forget(&Tenant::everyone(), &doc(&gone.id)).await.map_err(away)?;
        keep(desk, &shelf, "note.forgotten", by, serde_json::json!({"note": gone.id, "by": by.id})).await?;
        return Ok(note(&format!("Forgotten: {}.", gone.id), Tone::Good));
    }
    let incident = match IncidentId::with_prefix(id) {
        Some(incident) => desk.store.incident(&incident).await?,
        None => None,
    };
    let Some(incident) = incident else {
        let known: Vec<&str> = shelf.notes.iter().rev().take(6).map(|known| known.id.as_str()).collect();
        let known =
            if known.is_empty() { "there are no notes".into() } else { format!("notes are {}", known.join(", ")) };
        return Err(FlowError::Refused(format!("{id:?} is neither a note nor an incident; {known}")));
    };
    let tenant = Tenant::new(incident.cluster.clone(), incident.team.clone());
    memory.forget(&tenant, &format!("post-mortem/{}", incident.id)).await.map_err(away)?;
    keep(desk, &shelf, "note.forgotten", by, serde_json::json!({"post_mortem": incident.id, "by": by.id})).await?;
    let text = format!("Forgotten: the post-mortem of {} is no longer recalled; its log stays.", incident.id);
    Ok(note(&text, Tone::Good))
}

async fn keep(desk: &Desk, shelf: &Shelf, kind: &str, by: &Person, body: serde_json::Value) -> Result<(), FlowError> {
    let batch = Batch {
        settings: vec![(NOTES.into(), serde_json::to_string(shelf).unwrap_or_default())],
        unless_changed: vec![(NOTES.into(), shelf.stored.clone())],
        audit: vec![AuditEntry { kind: kind.into(), subject: by.id.to_string(), body }],
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    Ok(())
}
