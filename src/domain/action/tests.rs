use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn target(kind: &str) -> Target {
    let namespace = if kind == "Node" { "" } else { "shop" };
    let [cluster, namespace, kind, name, uid] = ["c", namespace, kind, "it", "u"].map(str::to_owned);
    Target { cluster, namespace, kind, name, uid }
}

/// One of each.
pub(crate) fn catalogue() -> Vec<Action> {
    let data = |value: &str| BTreeMap::from([("flag".to_owned(), value.to_owned())]);
    let deployment = || target("Deployment");
    vec![
        Action::Restart { target: deployment() },
        Action::Scale { target: deployment(), from: 2, to: 4 },
        Action::RollBack { target: deployment(), from_revision: 3, to_revision: 2 },
        Action::SetBounds {
            target: target("HorizontalPodAutoscaler"),
            from: Bounds { min: 2, max: 4 },
            to: Bounds { min: 3, max: 8 },
        },
        Action::PauseRollout { target: deployment() },
        Action::ResumeRollout { target: deployment() },
        Action::EvictPod { target: target("Pod"), owner: "ReplicaSet".into(), owner_name: "it-5d4f".into() },
        Action::Cordon { target: target("Node") },
        Action::Uncordon { target: target("Node") },
        Action::Drain { target: target("Node"), pods: vec![target("Pod")], was_cordoned: false },
        Action::DeleteJob { target: target("Job") },
        Action::SuspendCronJob { target: target("CronJob") },
        Action::ResumeCronJob { target: target("CronJob") },
        Action::RestoreConfig { target: target("ConfigMap"), from: data("on"), to: data("off") },
        Action::SuspendSync { target: target("Application"), automated: Some("{}".into()) },
        Action::ResumeSync { target: target("Kustomization"), automated: None },
        Action::RollBackRelease { target: target("Application"), from: "7".into(), to: "6".into() },
        Action::RunJob {
            target: target("CronJob"),
            job: "midwatch-inc-1-p1".into(),
            declared: "clean-disk".into(),
            tier: RiskTier::Medium,
        },
        Action::CallHook { target: target("Hook"), tier: RiskTier::Low, undo: None },
    ]
}

#[test]
fn every_kind_has_its_contract_and_its_own_name() {
    let kinds: BTreeSet<ActionKind> = catalogue().iter().map(Action::kind).collect();
    assert_eq!(kinds, ActionKind::ALL.into_iter().collect(), "the catalogue of the tests is whole");
    let names: BTreeSet<&str> = ActionKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), ActionKind::ALL.len());
    for action in catalogue() {
        let kind = action.kind();
        assert_eq!(ActionKind::parse(&kind.as_str().replace('_', "-")), Some(kind));
        assert!(!kind.precheck().is_empty() && !kind.success().is_empty());
        assert!(kind.evidence().contains(&EvidenceWanted::Manifest), "{kind:?}: what it was is kept first");
        assert_eq!(kind.rights().is_empty(), kind == ActionKind::CallHook, "{kind:?}");
        let text = serde_json::to_value(&action).unwrap();
        assert_eq!(text["action"], kind.as_str());
        assert_eq!(serde_json::from_value::<Action>(text).unwrap(), action);
    }
}

#[test]
fn an_undo_of_an_undo_is_the_action_or_there_is_an_honest_none() {
    for action in catalogue() {
        match action.undo() {
            Undo::None(why) => assert!(why.split(' ').count() > 3, "{action}: {why}"),
            Undo::By(back) => {
                assert_eq!(back.target(), action.target(), "{action}");
                let Undo::By(again) = back.undo() else { panic!("{back} cannot be undone") };
                // A drain cannot fetch its pods back: its undo is undone by a cordon.
                let expected = match &action {
                    Action::Drain { target, .. } => Action::Cordon { target: target.clone() },
                    other => other.clone(),
                };
                assert_eq!(*again, expected);
            }
        }
    }
}

#[test]
fn a_node_that_was_cordoned_before_its_drain_stays_so() {
    let drain = |was_cordoned| Action::Drain { target: target("Node"), pods: vec![target("Pod")], was_cordoned };
    assert!(matches!(drain(true).undo(), Undo::None(why) if why.contains("was cordoned before")));
    assert_eq!(drain(false).undo(), Undo::By(Box::new(Action::Uncordon { target: target("Node") })));
    // Of a version that did not keep it; and its digest stays what it was.
    let text = serde_json::to_string(&drain(false)).unwrap();
    assert!(!text.contains("was_cordoned"), "{text}");
    assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), drain(false));
}

#[test]
fn nothing_of_the_catalogue_reads_secrets_or_enters_pods() {
    for right in ActionKind::ALL.iter().flat_map(|kind| kind.rights()) {
        let forbidden = ["secrets", "pods/exec", "pods/attach", "serviceaccounts", "*"];
        assert!(!forbidden.contains(&right.resource), "{right:?}");
        let verbs = ["get", "list", "patch", "create", "delete"];
        assert!(verbs.contains(&right.verb) && right.group != "rbac.authorization.k8s.io", "{right:?}");
        assert!(right.verb != "delete" || right.resource == "jobs", "{right:?}: evict rather than delete");
    }
}

proptest! {
    #[test]
    fn whatever_takes_capacity_or_state_is_never_low(from in 1..40i32, to in 0..200i32, more in 0..200i32) {
        let scale = Action::Scale { target: target("Deployment"), from, to };
        prop_assert_eq!(scale.tier() == RiskTier::Low, to > from && to <= from * 3 && to <= 20.max(from));
        let bounds = Action::SetBounds {
            target: target("HorizontalPodAutoscaler"),
            from: Bounds { min: from, max: from + 5 },
            to: Bounds { min: to, max: more },
        };
        prop_assert!(bounds.tier() != RiskTier::Low || (to >= from && more >= from + 5));
        for kind in [Action::Restart { target: target("StatefulSet") }, Action::Scale { target: target("StatefulSet"), from, to }] {
            prop_assert_eq!(kind.tier(), RiskTier::High);
        }
        prop_assert_eq!(Action::Restart { target: target("DaemonSet") }.tier(), RiskTier::Medium);
    }
}
