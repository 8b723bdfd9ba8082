use super::*;
use crate::domain::alert::{Fingerprint, Labels, Severity};
use crate::domain::plan::Plan;

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

fn joined(subject: &str, score: f64) -> JoinedAlert {
    JoinedAlert {
        fingerprint: Fingerprint::of(&Labels::from([("service".into(), subject.into())])),
        name: "Down".into(),
        subject: subject.into(),
        severity: Severity::Critical,
        starts_at: at(60),
        because: "it is near".into(),
        again: false,
        still: false,
        said: Default::default(),
        score: Some(Scored { score, openly: true }),
        elsewhere: Default::default(),
        namespaces: Default::default(),
    }
}

/// INC-n about these subjects.
fn incident(number: i64, alerts: &[(&str, f64)]) -> Incident {
    let mut incident = Incident::blank(IncidentId::numbered(number));
    let opened = IncidentEvent::Opened {
        cluster: "default".into(),
        team: "default".into(),
        title: "t".into(),
        severity: Sev::Two,
        because: "b".into(),
        event_at: at(60),
    };
    incident.apply(&opened, at(61)).expect("it opens");
    let alerts = alerts.iter().map(|(subject, score)| joined(subject, *score)).collect();
    incident.apply(&IncidentEvent::AlertsJoined { alerts }, at(61)).expect("they join");
    incident
}

fn split_off(subjects: &[&str]) -> IncidentEvent {
    IncidentEvent::SplitOff {
        into: IncidentId::numbered(9),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        by: "t/ada".into(),
        because: "its own bug".into(),
    }
}

#[test]
fn a_split_moves_groups_with_their_ends_and_scores() {
    let mut stays = incident(1, &[("pay", -0.4), ("search", -0.7)]);
    let ended =
        ResolvedAlert { fingerprint: joined("search", 0.0).fingerprint, name: "Down".into(), subject: "search".into() };
    stays.apply(&IncidentEvent::AlertsResolved { alerts: vec![ended], event_at: at(70) }, at(70)).expect("it ends");
    let groups: Vec<AlertGroup> = stays.alerts.values().filter(|group| group.subject == "search").cloned().collect();
    stays.apply(&split_off(&["search"]), at(80)).expect("search leaves");
    let mut leaves = Incident::blank(IncidentId::numbered(9));
    let opened = IncidentEvent::Opened {
        cluster: "default".into(),
        team: "default".into(),
        title: "t".into(),
        severity: Sev::Two,
        because: "b".into(),
        event_at: at(80),
    };
    leaves.apply(&opened, at(80)).expect("it opens");
    let came = IncidentEvent::CameFrom { from: stays.id.clone(), groups, by: "t/ada".into(), because: "b".into() };
    leaves.apply(&came, at(80)).expect("search comes");

    let seen = |incident: &Incident| (incident.alert_count(), incident.firing(), incident.score().map(|one| one.score));
    assert_eq!((seen(&stays), seen(&leaves)), ((1, 1, Some(-0.4)), (1, 0, Some(-0.7))));
    assert_eq!((leaves.since, leaves.split_from), (at(60), Some(stays.id)));
}

#[test]
fn a_split_leaves_something_behind() {
    let mut incident = incident(1, &[("pay", -0.4), ("search", -0.7)]);
    let refused = incident.apply(&split_off(&["pay", "search"]), at(80));
    assert_eq!(
        refused.expect_err("nothing would stay").to_string(),
        "split_off is not possible while the incident is open"
    );
}

#[test]
fn what_was_handed_over_may_merge_and_what_is_over_may_not() {
    let (mut from, mut into) = (incident(2, &[("search", -0.7)]), incident(1, &[("pay", -0.4)]));
    from.apply(&IncidentEvent::HandedOver { because: "b".into() }, at(70)).expect("people take it");
    let merged = IncidentEvent::Merged { into: into.id.clone(), because: "one database".into() };
    from.apply(&merged, at(80)).expect("people merge it");
    let groups: Vec<AlertGroup> = from.alerts.values().cloned().collect();
    let absorbed = IncidentEvent::Absorbed { from: from.id.clone(), because: "one database".into(), groups };
    into.apply(&absorbed, at(80)).expect("it is taken in");
    assert_eq!((into.alert_count(), into.score().map(|one| one.score)), (2, Some(-0.7)));
    assert!(from.apply(&merged, at(90)).is_err());
    into.apply(&IncidentEvent::Resolved { because: "b".into(), event_at: at(90), by: None }, at(90))
        .expect("it is over");
    assert!(into.apply(&absorbed, at(95)).is_err());
}

#[test]
fn who_takes_it_takes_back_that_it_is_noise() {
    let mut incident = incident(1, &[("pay", -0.4)]);
    let noise = IncidentEvent::NotAnIncident { by: "t/ada".into(), because: "a test".into() };
    incident.apply(&noise, at(70)).expect("a word is welcome");
    assert_eq!(incident.noise, Some(("t/ada".into(), "a test".into())));
    incident.apply(&IncidentEvent::Acknowledged { by: "t/bob".into() }, at(80)).expect("bob takes it");
    assert_eq!(incident.noise, None);
}

#[test]
fn a_person_closes_what_no_plan_is_carried_out_for() {
    let plan = IncidentId::numbered(1).plan(1);
    let closed = |by: Option<&str>| IncidentEvent::Resolved {
        because: "mended by hand".into(),
        event_at: at(90),
        by: by.map(str::to_owned),
    };
    let of = |state: State| Incident { state, ..incident(1, &[("pay", -0.4)]) };
    for state in [
        State::Open,
        State::Investigating,
        State::Diagnosed,
        State::Awaiting { plan: plan.clone() },
        State::HandedOver { because: "b".into() },
    ] {
        let mut incident = of(state.clone());
        incident.apply(&closed(Some("t/ada")), at(91)).unwrap_or_else(|refused| panic!("{state:?}: {refused}"));
        let ended = State::Resolved { because: "mended by hand".into(), by: Some("t/ada".into()) };
        assert_eq!((incident.state, incident.resolved_at), (ended, Some(at(90))));
    }
    for state in [State::Executing { plan: plan.clone() }, State::Verifying { plan }] {
        assert!(of(state.clone()).apply(&closed(Some("t/ada")), at(91)).is_err(), "{state:?}");
        assert!(of(state.clone()).apply(&closed(None), at(91)).is_ok(), "its plan ends it: {state:?}");
    }
    let over = State::Resolved { because: "b".into(), by: None };
    assert!(of(over).apply(&closed(Some("t/ada")), at(91)).is_err());
}

#[test]
fn an_old_log_is_read_as_before() {
    let old = r#"{"event":"absorbed","from":"INC-2","because":"one needs the other"}"#;
    let read: IncidentEvent = serde_json::from_str(old).expect("the shape of before");
    assert_eq!(read.kind(), "absorbed");
    let stored = serde_json::to_value(incident(1, &[("pay", -0.4)])).expect("it is written");
    let mut before = stored.as_object().expect("an object").clone();
    for key in ["split_from", "noise"] {
        before.remove(key);
    }
    let read: Incident = serde_json::from_value(before.into()).expect("an incident of before");
    assert_eq!(read.alert_count(), 1);
}

#[test]
fn the_clusters_of_all_its_alerts_are_named_its_own_first() {
    let mut incident = incident(1, &[("pay", -0.6)]);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let there = JoinedAlert { elsewhere: names(&["us"]), ..joined("pay", -0.5) };
    let here = JoinedAlert { elsewhere: names(&["default"]), ..joined("pay", -0.5) };
    incident.apply(&IncidentEvent::AlertsJoined { alerts: vec![there, here] }, at(62)).expect("they join");
    assert_eq!(incident.clusters(), ["default", "us"]);
    // What another takes in comes from here, too.
    let mut other = self::incident(2, &[("pay", -0.6)]);
    other.cluster = "eu".into();
    let absorbed =
        IncidentEvent::Absorbed { from: incident.id.clone(), because: "one".into(), groups: incident.carried() };
    other.apply(&absorbed, at(63)).expect("it takes it in");
    assert_eq!(other.clusters(), ["eu", "default", "us"]);
}

#[test]
fn a_step_that_called_nobody_costs_no_time() {
    let mut incident = incident(1, &[("pay", 0.1)]);
    let called = |step: usize, who: &[&str]| IncidentEvent::Called {
        step,
        who: who.iter().map(|&one| one.to_owned()).collect(),
        because: "nobody has taken it".into(),
        path: None,
    };
    incident.apply(&called(0, &[]), at(100)).expect("it is called");
    assert_eq!((incident.called, incident.called_at), (1, None));
    incident.apply(&called(1, &["t/ada"]), at(101)).expect("it is called");
    incident.apply(&called(2, &[]), at(400)).expect("it is called");
    assert_eq!((incident.called, incident.called_at), (3, Some(at(101))));
}

#[test]
fn what_nobody_knew_is_looked_at_again_when_it_is_another_picture_and_not_for_ever() {
    let joins = |subjects: &[&str]| IncidentEvent::AlertsJoined {
        alerts: subjects.iter().map(|subject| joined(subject, -0.5)).collect(),
    };
    let started = IncidentEvent::InvestigationStarted { reasoner: "none".into(), because: "b".into() };
    let ends = |incident: &mut Incident, verdict| {
        let diagnosis = Diagnosis { verdict, ..Diagnosis::blank() };
        incident.apply(&IncidentEvent::Diagnosed { diagnosis }, at(70)).expect("it is diagnosed");
        incident.apply(&IncidentEvent::HandedOver { because: "b".into() }, at(70)).expect("people take it");
    };
    let mut one = incident(1, &[("pay", -0.4), ("search", -0.7)]);
    one.apply(&started, at(65)).expect("it is looked at");
    // What comes while it is looked at may not have been seen.
    one.apply(&joins(&["a", "b"]), at(66)).expect("they join");
    ends(&mut one, Verdict::Inconclusive);
    assert_eq!(one.outgrown(), None, "two more are the same picture");
    one.apply(&joins(&["c"]), at(80)).expect("it joins");
    let why = "its cause was not found when 2 services were affected, and 5 are now";
    assert_eq!(one.outgrown().as_deref(), Some(why));
    let mut known = one.clone();
    for _ in 0..3 {
        one.apply(&started, at(90)).expect("it is looked at");
        ends(&mut one, Verdict::Inconclusive);
        assert_eq!(one.outgrown(), None);
        let graver = IncidentEvent::SeverityChanged { to: Sev::One, because: "b".into() };
        one.apply(&graver, at(95)).expect("it gets graver");
        if one.looked.is_some_and(|looked| looked.times == 2) {
            assert_eq!(one.outgrown().as_deref(), Some("it was SEV2 when its cause was not found, and is SEV1 now"));
        }
    }
    one.apply(&joins(&["d", "e", "f", "g", "h"]), at(99)).expect("they join");
    assert_eq!(one.outgrown(), None, "four looks are enough");
    known.apply(&started, at(90)).expect("it is looked at");
    ends(&mut known, Verdict::Likely);
    known.apply(&joins(&["d", "e", "f", "g", "h"]), at(99)).expect("they join");
    assert_eq!(known.outgrown(), None, "its cause is known");
}

#[test]
fn where_a_service_is_its_own_alerts_say_and_else_all_of_them() {
    let mut incident = incident(1, &[("pay", -0.6)]);
    let said = |subject: &str, spaces: &[&str]| JoinedAlert {
        namespaces: spaces.iter().map(|name| (*name).to_owned()).collect(),
        ..joined(subject, -0.5)
    };
    let alerts = vec![said("web", &["prod"]), said("pay", &["pay", "monitoring"]), said("front", &[])];
    incident.apply(&IncidentEvent::AlertsJoined { alerts }, at(62)).expect("they join");
    let of = |service: &str| incident.namespaces_of(service).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        [of("web"), of("pay"), of("front"), of("db")].map(|text| text.replace("monitoring ", "")),
        ["prod", "pay", "pay prod", "pay prod"]
    );
    // What was stored before they were kept.
    let mut old = serde_json::to_value(said("web", &["prod"])).unwrap();
    old.as_object_mut().unwrap().remove("namespaces");
    assert!(serde_json::from_value::<JoinedAlert>(old).unwrap().namespaces.is_empty());
}

#[test]
fn what_failed_before_it_was_told_apart_has_left_nothing() {
    let old = serde_json::json!({"event": "execution_failed", "plan": "INC-1.P1", "because": "b"});
    let read: IncidentEvent = serde_json::from_value(old.clone()).expect("it is read");
    let IncidentEvent::ExecutionFailed { left, .. } = read else { panic!("{read:?}") };
    assert_eq!(left, Left::Nothing);
    assert_eq!(serde_json::to_value(&read).expect("it is written"), old, "its digest in the chain stays");
    let outcome: Outcome =
        serde_json::from_value(serde_json::json!({"outcome": "failed", "because": "b"})).expect("read");
    assert_eq!(outcome, Outcome::Failed { because: "b".into(), left: Left::Nothing });
}

#[test]
fn an_execution_is_named_by_what_was_drawn_for_it_and_an_older_one_by_its_plan() {
    use crate::domain::action::Action;
    use crate::domain::plan::target;

    let restart = Plan::first(Action::Restart { target: target("c", "shop", "Deployment", "web", "u") });
    let begun = |more: serde_json::Value| {
        let mut incident = incident(1, &[("web", -0.4)]);
        let mut started = serde_json::json!({"event": "execution_started", "plan": restart.id, "intent": "restart"});
        started.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let approved =
            IncidentEvent::PlanApproved { plan: restart.id.clone(), by: vec![], digest: restart.digest.clone() };
        let events = [
            IncidentEvent::HandedOver { because: "b".into() },
            IncidentEvent::PlanProposed { plan: Box::new(restart.clone()), ruling: "r".into() },
            approved,
            serde_json::from_value(started).expect("an event"),
        ];
        events.iter().for_each(|event| incident.apply(event, at(70)).expect("it happens"));
        incident.plans.remove(0)
    };
    assert_eq!(begun(serde_json::json!({})).mark(), "INC-1.P1");
    assert_eq!(begun(serde_json::json!({"mark": "INC-1.P1-8f2c"})).mark(), "INC-1.P1-8f2c");
}

#[test]
fn a_second_diagnosis_is_told_as_a_message_of_its_own() {
    let mut one = incident(1, &[("pay", -0.4)]);
    assert_eq!(one.diagnosis_key(), "diagnosis");
    for key in ["diagnosis", "diagnosis/2", "diagnosis/3"] {
        let started = IncidentEvent::InvestigationStarted { reasoner: "none".into(), because: "b".into() };
        one.apply(&started, at(65)).expect("it is looked at");
        let diagnosis = Diagnosis::blank();
        one.apply(&IncidentEvent::Diagnosed { diagnosis }, at(70)).expect("it is diagnosed");
        assert_eq!(one.diagnosis_key(), key);
    }
    // As an older version has stored it: the one that is there was the first.
    one.diagnosed = 0;
    assert_eq!(one.diagnosis_key(), "diagnosis");
}

#[test]
fn each_path_is_walked_by_itself() {
    let mut one = incident(1, &[("pay", -0.4)]);
    let called = |path: Option<&str>, step: usize, who: &str| IncidentEvent::Called {
        step,
        who: vec![who.to_owned()],
        because: "nobody has taken it".into(),
        path: path.map(str::to_owned),
    };
    one.apply(&called(None, 0, "t/old"), at(100)).expect("an older version has called");
    assert_eq!(one.steps_on("a"), 1, "on which path is not known");
    one.apply(&called(Some("a"), 1, "t/ada"), at(101)).expect("its second step");
    assert!(one.apply(&called(Some("a"), 1, "t/ada"), at(101)).is_err(), "each step is taken once");
    assert_eq!((one.steps_on("a"), one.steps_on("b")), (2, 0));
    assert!(one.called_elsewhere("b", "t/ada") && !one.called_elsewhere("a", "t/ada"));
    one.apply(&called(Some("b"), 0, "t/bob"), at(102)).expect("another path begins at its start");
    assert_eq!((one.steps_on("a"), one.steps_on("b")), (2, 1));
}
