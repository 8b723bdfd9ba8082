//! What an incident is worth: severity and title from what is affected, and its end when that is over.

use std::collections::BTreeSet;

use super::desk::FlowError;
use crate::domain::alert::Severity;
use crate::domain::incident::{IncidentEvent, Sev, State};
use crate::domain::time::Timestamp;
use crate::domain::topology::{NodeKind, Topology};
use crate::store::Draft;

/// Severity from what is affected, with the reason; it only rises while alerts come in.
pub(super) fn reassess(draft: &mut Draft, topology: &Topology, wall_now: Timestamp) -> Result<(), FlowError> {
    let critical: BTreeSet<&str> = draft
        .incident
        .alerts
        .values()
        .filter(|group| group.severity == Severity::Critical)
        .map(|group| group.subject.as_str())
        .collect();
    let entry = critical.iter().find(|subject| {
        topology.contains(subject)
            && topology.dependents(subject).next().is_none()
            && topology.kind(subject) == Some(NodeKind::Service)
    });
    let (sev, because) = match (critical.len(), entry) {
        (0, _) => (Sev::Three, "warnings only".to_owned()),
        (count, Some(entry)) if count >= 3 => {
            (Sev::One, format!("{count} services critical, among them {entry}, which users reach directly"))
        }
        (count, _) if count >= 6 => (Sev::One, format!("{count} services critical")),
        (1, _) => (Sev::Two, format!("{} is critical", critical.iter().next().copied().unwrap_or("one service"))),
        (count, _) => (Sev::Two, format!("{count} services critical")),
    };
    if sev > draft.incident.severity {
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
