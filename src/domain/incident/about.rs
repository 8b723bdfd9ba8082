//! What an event is about, and whose word it is.

use super::IncidentEvent;
use crate::domain::id::PlanId;

impl IncidentEvent {
    /// The plan that it is about.
    pub fn plan(&self) -> Option<&PlanId> {
        use IncidentEvent as E;
        match self {
            E::PlanProposed { plan, .. } => Some(&plan.id),
            E::Voted { plan, .. }
            | E::PlanApproved { plan, .. }
            | E::PlanRejected { plan, .. }
            | E::PlanExpired { plan }
            | E::PlanReminded { plan, .. }
            | E::PlanVoided { plan, .. }
            | E::ExecutionStarted { plan, .. }
            | E::ExecutionWrote { plan, .. }
            | E::ExecutionFailed { plan, .. }
            | E::VerificationPassed { plan, .. }
            | E::VerificationFailed { plan, .. }
            | E::Overruled { plan, .. }
            | E::Compensated { plan, .. }
            | E::Recurred { plan, .. } => Some(plan),
            E::Opened { .. }
            | E::AlertsJoined { .. }
            | E::AlertsResolved { .. }
            | E::SeverityChanged { .. }
            | E::Retitled { .. }
            | E::Merged { .. }
            | E::Absorbed { .. }
            | E::SplitOff { .. }
            | E::CameFrom { .. }
            | E::NotAnIncident { .. }
            | E::Acknowledged { .. }
            | E::HandedTo { .. }
            | E::Accepted { .. }
            | E::NotAccepted { .. }
            | E::Called { .. }
            | E::InvestigationStarted { .. }
            | E::EvidenceStored { .. }
            | E::Recalled { .. }
            | E::Ranked { .. }
            | E::Reasoned { .. }
            | E::Diagnosed { .. }
            | E::PlanRefused { .. }
            | E::HandedOver { .. }
            | E::Resolved { .. }
            | E::PostMortemWritten { .. }
            | E::Feedback { .. }
            | E::Noted { .. } => None,
        }
    }

    /// What somebody, or the watch, decided; the rest is what was seen and thought.
    pub fn is_decision(&self) -> bool {
        use IncidentEvent as E;
        match self {
            E::AlertsJoined { .. }
            | E::AlertsResolved { .. }
            | E::Retitled { .. }
            | E::EvidenceStored { .. }
            | E::Recalled { .. }
            | E::Ranked { .. }
            | E::Reasoned { .. } => false,
            E::Opened { .. }
            | E::SeverityChanged { .. }
            | E::Merged { .. }
            | E::Absorbed { .. }
            | E::SplitOff { .. }
            | E::CameFrom { .. }
            | E::NotAnIncident { .. }
            | E::Acknowledged { .. }
            | E::HandedTo { .. }
            | E::Accepted { .. }
            | E::NotAccepted { .. }
            | E::Called { .. }
            | E::InvestigationStarted { .. }
            | E::Diagnosed { .. }
            | E::PlanProposed { .. }
            | E::PlanRefused { .. }
            | E::Voted { .. }
            | E::PlanApproved { .. }
            | E::PlanRejected { .. }
            | E::PlanExpired { .. }
            | E::PlanReminded { .. }
            | E::PlanVoided { .. }
            | E::ExecutionStarted { .. }
            | E::ExecutionWrote { .. }
            | E::ExecutionFailed { .. }
            | E::VerificationPassed { .. }
            | E::VerificationFailed { .. }
            | E::Overruled { .. }
            | E::Compensated { .. }
            | E::Recurred { .. }
            | E::HandedOver { .. }
            | E::Resolved { .. }
            | E::PostMortemWritten { .. }
            | E::Feedback { .. }
            | E::Noted { .. } => true,
        }
    }

    /// Whose word about the incident it is; `None` also of what says itself who has it.
    pub(super) fn said_by(&self) -> Option<&str> {
        use IncidentEvent as E;
        match self {
            E::SplitOff { by, .. }
            | E::NotAnIncident { by, .. }
            | E::Voted { by, .. }
            | E::PlanRejected { by, .. }
            | E::Feedback { by, .. }
            | E::Noted { by, .. } => Some(by),
            E::Resolved { by, .. } => by.as_deref(),
            // They have asked for it.
            E::PlanProposed { plan, .. } => plan.requester.as_deref(),
            E::Acknowledged { .. } | E::HandedTo { .. } | E::Accepted { .. } | E::NotAccepted { .. } => None,
            // Of another incident, which they had before.
            E::CameFrom { .. } | E::Merged { .. } | E::Absorbed { .. } => None,
            E::Opened { .. }
            | E::AlertsJoined { .. }
            | E::AlertsResolved { .. }
            | E::SeverityChanged { .. }
            | E::Retitled { .. }
            | E::Called { .. }
            | E::InvestigationStarted { .. }
            | E::EvidenceStored { .. }
            | E::Recalled { .. }
            | E::Ranked { .. }
            | E::Reasoned { .. }
            | E::Diagnosed { .. }
            | E::PlanRefused { .. }
            | E::PlanApproved { .. }
            | E::PlanExpired { .. }
            | E::PlanReminded { .. }
            | E::PlanVoided { .. }
            | E::ExecutionStarted { .. }
            | E::ExecutionWrote { .. }
            | E::ExecutionFailed { .. }
            | E::VerificationPassed { .. }
            | E::VerificationFailed { .. }
            | E::Overruled { .. }
            | E::Compensated { .. }
            | E::Recurred { .. }
            | E::HandedOver { .. }
            | E::PostMortemWritten { .. } => None,
        }
    }
}
