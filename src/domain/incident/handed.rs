//! Whether whoever an incident was handed to has accepted it.
//!
//! Invariant: until they have, nobody has it as far as calls go.

use serde::{Deserialize, Serialize};

use super::{Incident, IncidentEvent};
use crate::domain::time::Timestamp;

/// A hand-over that is not accepted yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Who handed it over.
    pub by: String,
    /// Wall time.
    pub at: Timestamp,
}

impl Incident {
    /// Whether somebody has it who has said so: nobody else is called.
    pub fn is_taken(&self) -> bool {
        self.owner.is_some() && self.handed.is_none()
    }

    /// Whether they have to say yes when it is handed to them: not to what is theirs, or what they give themselves.
    pub fn must_accept(&self, to: &str, by: &str) -> bool {
        let is_theirs = self.is_taken() && self.owner.as_deref() == Some(to);
        to != by && !is_theirs
    }

    /// Who accepts it by this word of theirs, besides by saying just that.
    pub fn accepted_by(&self, event: &IncidentEvent) -> Option<String> {
        let by = event.said_by()?;
        (self.handed.is_some() && self.owner.as_deref() == Some(by)).then(|| by.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Action;
    use crate::domain::id::IncidentId;
    use crate::domain::incident::{Decision, Sev};
    use crate::domain::plan::{Plan, target};

    const ADA: &str = "t/ada";
    const BOB: &str = "t/bob";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(second)
    }

    fn handing(to: &str, by: &str, to_accept: bool) -> IncidentEvent {
        IncidentEvent::HandedTo { to: to.into(), by: by.into(), because: None, to_accept }
    }

    /// An incident that Ada has handed to Bob.
    fn handed() -> Incident {
        let mut incident = Incident::blank(IncidentId::numbered(1));
        let opened = IncidentEvent::Opened {
            cluster: "default".into(),
            team: "default".into(),
            title: "t".into(),
            severity: Sev::One,
            because: "b".into(),
            event_at: at(60),
        };
        incident.apply(&opened, at(60)).expect("it opens");
        incident.apply(&handing(BOB, ADA, true), at(100)).expect("ada hands it over");
        incident
    }

    #[test]
    fn what_was_handed_over_is_taken_when_it_is_accepted() {
        let incident = handed();
        assert_eq!((incident.owner.as_deref(), incident.is_taken()), (Some(BOB), false));
        assert_eq!(incident.handed, Some(Handed { by: ADA.into(), at: at(100) }));
        for (event, owner) in [
            (IncidentEvent::Acknowledged { by: BOB.into() }, BOB),
            (IncidentEvent::Acknowledged { by: "t/cleo".into() }, "t/cleo"),
            (IncidentEvent::Accepted { by: BOB.into() }, BOB),
            (handing("t/cleo", "t/cleo", false), "t/cleo"),
        ] {
            let mut incident = incident.clone();
            incident.apply(&event, at(110)).expect("it is taken");
            assert_eq!((incident.owner.as_deref(), incident.is_taken()), (Some(owner), true), "{event:?}");
        }
        let mut on = incident.clone();
        on.apply(&handing("t/cleo", BOB, true), at(120)).expect("bob hands it on");
        assert_eq!((on.is_taken(), on.handed), (false, Some(Handed { by: BOB.into(), at: at(120) })));
        let mut over = incident.clone();
        let closed = IncidentEvent::Resolved { because: "b".into(), event_at: at(120), by: Some(ADA.into()) };
        over.apply(&closed, at(120)).expect("ada closes it");
        assert_eq!(over.handed, None, "nobody is asked any more");
        assert!(over.apply(&IncidentEvent::Accepted { by: BOB.into() }, at(130)).is_err());
        let mut forsaken = incident;
        (forsaken.called, forsaken.called_at) = (2, Some(at(90)));
        let given_back = IncidentEvent::NotAccepted { to: BOB.into(), by: ADA.into() };
        forsaken.apply(&given_back, at(400)).expect("nobody is left");
        assert_eq!((&forsaken.owner, &forsaken.handed), (&None, &None));
        assert_eq!((forsaken.called, forsaken.called_at), (0, Some(at(90))), "the path begins again");
        assert!(forsaken.apply(&given_back, at(401)).is_err(), "once");
        assert!(forsaken.apply(&IncidentEvent::Accepted { by: BOB.into() }, at(402)).is_err(), "it is not theirs");
    }

    #[test]
    fn a_word_of_whoever_it_was_handed_to_accepts_it_and_nobody_elses() {
        let incident = handed();
        let plan = incident.id.plan(1);
        let action = Action::Restart { target: target("default", "shop", "Deployment", "pay", "u1") };
        let asked = Plan { requester: Some(BOB.into()), ..Plan::first(action) };
        let words = |by: &str| {
            let (by, because) = (by.to_owned(), "b".to_owned());
            let vote = |decision| IncidentEvent::Voted { plan: plan.clone(), by: by.clone(), decision, reason: None };
            [
                vote(Decision::Approve),
                vote(Decision::Reject),
                IncidentEvent::NotAnIncident { by: by.clone(), because: because.clone() },
                IncidentEvent::Resolved { because: because.clone(), event_at: at(200), by: Some(by.clone()) },
                IncidentEvent::Feedback { by: by.clone(), helpful: true, reason: None },
                IncidentEvent::Noted { by, text: because },
            ]
        };
        for word in words(BOB) {
            assert_eq!(incident.accepted_by(&word).as_deref(), Some(BOB), "{word:?}");
        }
        for word in words(ADA) {
            assert_eq!(incident.accepted_by(&word), None, "{word:?}");
        }
        let proposed = IncidentEvent::PlanProposed { plan: Box::new(asked), ruling: "r".into() };
        assert_eq!(incident.accepted_by(&proposed).as_deref(), Some(BOB));
        assert_eq!(incident.accepted_by(&handing("t/cleo", BOB, true)), None, "who passes it on does not take it");
        let mut taken = incident;
        taken.handed = None;
        assert_eq!(taken.accepted_by(&words(BOB)[0]), None, "once");
    }

    #[test]
    fn what_older_versions_have_handed_over_counts_as_accepted() {
        let old = r#"{"event":"handed_to","to":"t/bob","by":"t/ada","because":null}"#;
        let read: IncidentEvent = serde_json::from_str(old).expect("the shape of before");
        assert_eq!(serde_json::to_string(&read).expect("it is written"), old, "its digest stays");
        let mut incident = handed();
        incident.apply(&read, at(130)).expect("it is replayed");
        assert!(incident.is_taken());
        let stored = serde_json::to_value(&incident).expect("it is written");
        assert!(stored.get("handed").is_none(), "{stored}");
        let before: Incident = serde_json::from_value(stored).expect("an incident of before");
        assert!(before.is_taken());
    }

    #[test]
    fn nobody_has_to_accept_what_they_have_or_give_themselves() {
        let mut incident = handed();
        assert!(incident.must_accept(BOB, ADA) && incident.must_accept("t/cleo", BOB));
        assert!(!incident.must_accept(ADA, ADA));
        incident.handed = None;
        assert!(!incident.must_accept(BOB, ADA), "it is his already");
    }
}
