//! What an incident is worth: severity and title from what is affected, and its end when that is over.

use super::desk::{Decision, FlowError};
use crate::domain::incident::{IncidentEvent, State};
use crate::domain::severity::{self, Past, Symptom};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::store::Draft;

/// Severity from what is affected, with the reason; it only rises while alerts come in.
pub(super) fn reassess(
    draft: &mut Draft,
    topology: &Topology,
    past: &Past,
    wall_now: Timestamp,
) -> Result<(), FlowError> {
    let groups = draft.incident.alerts.values();
    let symptoms: Vec<Symptom> = groups.map(Symptom::of_group).collect();
    let (sev, because) = severity::assess(&symptoms, topology, past.of(&draft.incident));
    // The severity that it is opened with is a guess from one alert.
    if sev > draft.incident.severity || (draft.is_new() && sev != draft.incident.severity) {
        draft.record(IncidentEvent::SeverityChanged { to: sev, because }, wall_now)?;
    }
    let subjects = draft.incident.subjects();
    if subjects.len() > 1 {
        let mut names: Vec<(&str, usize)> = subjects
            .iter()
            .map(|name| {
                let count = draft.incident.alerts.values().filter(|g| g.subject == *name).map(|g| g.count).sum();
                (*name, count)
            })
            .collect();
        names.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        let title = format!(
            "{} and {} more affected",
            names.iter().take(2).map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            names.len().saturating_sub(2)
        );
        let title = if names.len() == 2 { title.replace(" and 0 more affected", " affected") } else { title };
        if draft.incident.diagnosis.is_none() && title != draft.incident.title {
            draft.record(IncidentEvent::Retitled { title }, wall_now)?;
        }
    }
    Ok(())
}

/// An incident that nobody acts on closes when its alerts have ended.
pub(super) fn close_when_quiet(draft: &mut Draft, wall_now: Timestamp, event_now: Timestamp) -> Result<(), FlowError> {
    // An open one is looked at first: what ended by itself within a minute will be back.
    let idle = matches!(draft.incident.state, State::HandedOver { .. });
    if idle && draft.incident.firing() == 0 {
        let because = "all its alerts have ended".to_owned();
        draft.record(IncidentEvent::Resolved { because, event_at: event_now }, wall_now)?;
    }
    Ok(())
}

/// An incident whose alerts have ended while people were to decide is over with their decision: no later
/// alert would close it.
pub(super) fn close_when_over(change: &mut Decision<'_>, event_now: Timestamp) -> Result<(), FlowError> {
    if change.incident().firing() == 0 {
        let because = "all its alerts had ended before anybody had to act".to_owned();
        change.record(IncidentEvent::Resolved { because, event_at: event_now })?;
    }
    Ok(())
}
