//! How incidents of a kind have ended so far: what [`super::assess`] lowers a severity by.
//!
//! A kind is the first alert of an incident: its name and what it is about, in one cluster.

use std::collections::HashMap;
use std::time::Duration;

use super::super::incident::{AlertGroup, Incident, Outcome, State};
use super::History;

/// What was over so soon has passed by itself, if nobody took it and nothing was executed. Later than
/// that somebody may have cured it out of our sight.
const SOON: Duration = Duration::from_secs(15 * 60);

/// How one incident ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub cluster: String,
    pub name: String,
    pub subject: String,
    pub by_itself: bool,
}

/// All endings, counted by kind.
#[derive(Debug, Clone, Default)]
pub struct Past {
    kinds: HashMap<(String, String, String), History>,
}

impl Ending {
    /// `None`: it has not ended, or became part of another one.
    pub fn of(incident: &Incident) -> Option<Self> {
        let State::Resolved { by, .. } = &incident.state else { return None };
        let first = opening(incident)?;
        let lasted = incident.resolved_at?.since(incident.since);
        let acted = incident.plans.iter().any(|record| was_begun(&record.outcome));
        let by_itself = !acted && by.is_none() && incident.owner.is_none() && lasted <= SOON;
        let (name, subject) = (first.name.clone(), first.subject.clone());
        Some(Self { cluster: incident.cluster.clone(), name, subject, by_itself })
    }
}

impl Past {
    pub fn of(&self, incident: &Incident) -> History {
        let Some(first) = opening(incident) else { return History::default() };
        let kind = (incident.cluster.clone(), first.name.clone(), first.subject.clone());
        self.kinds.get(&kind).copied().unwrap_or_default()
    }

    /// So many incidents of one kind ended in one way.
    pub fn count(&mut self, ending: Ending, times: u32) {
        let known = self.kinds.entry((ending.cluster, ending.name, ending.subject)).or_default();
        match ending.by_itself {
            true => known.ended_by_itself += times,
            false => known.acted_on += times,
        }
    }
}

fn opening(incident: &Incident) -> Option<&AlertGroup> {
    incident.alerts.values().min_by_key(|group| (group.first_at, &group.name, &group.subject))
}

fn was_begun(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Proposed | Outcome::Approved | Outcome::Rejected | Outcome::Expired | Outcome::Voided { .. } => false,
        Outcome::Started
        | Outcome::Written
        | Outcome::Failed { .. }
        | Outcome::Verified
        | Outcome::NotVerified
        | Outcome::Undone
        | Outcome::NotUndone { .. }
        | Outcome::Recurred
        | Outcome::Overruled { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::id::IncidentId;
    use super::super::super::time::Timestamp;
    use super::*;
    use crate::domain::alert::Severity;

    fn ended(after: Duration) -> Incident {
        let mut incident = Incident::blank(IncidentId::numbered(1));
        let group = |name: &str, at: Timestamp| AlertGroup {
            count: 1,
            resolved: 1,
            ..AlertGroup::new(name, "pay", Severity::Critical, at)
        };
        let since = Timestamp::from_secs(1_795_000_000);
        incident.since = since;
        incident.alerts.insert("a".into(), group("Later", since + Duration::from_secs(5)));
        incident.alerts.insert("b".into(), group("First", since));
        incident.resolved_at = Some(since + after);
        incident.state = State::Resolved { because: "all its alerts have ended".into(), by: None };
        incident
    }

    #[test]
    fn what_nobody_touched_and_was_soon_over_ended_by_itself() {
        let quick = Ending::of(&ended(Duration::from_secs(300))).unwrap();
        assert_eq!((quick.name.as_str(), quick.by_itself), ("First", true));
        assert!(!Ending::of(&ended(Duration::from_secs(3600))).unwrap().by_itself, "somebody may have cured it");
        let mut taken = ended(Duration::from_secs(300));
        taken.owner = Some("U1".into());
        assert!(!Ending::of(&taken).unwrap().by_itself);
        let mut closed = ended(Duration::from_secs(300));
        closed.state = State::Resolved { because: "mended by hand".into(), by: Some("U1".into()) };
        assert!(!Ending::of(&closed).unwrap().by_itself, "somebody has closed it");
        let mut open = ended(Duration::from_secs(300));
        open.state = State::Open;
        assert_eq!(Ending::of(&open), None);
    }

    #[test]
    fn a_past_speaks_of_its_own_kind_only() {
        let mut past = Past::default();
        past.count(Ending::of(&ended(Duration::from_secs(60))).unwrap(), 9);
        let mut other = ended(Duration::from_secs(60));
        assert_eq!(past.of(&other).ended_by_itself, 9);
        other.cluster = "elsewhere".into();
        assert_eq!(past.of(&other), History::default());
    }
}
