use proptest::prelude::*;

use super::*;
use crate::domain::plan::{Extent, target};

const AN_HOUR: i64 = 3_600_000;

fn policy(mode: Autonomy) -> Policy {
    let rules = Rules::compile(None).unwrap();
    Policy { low: mode, medium: mode, high: mode, ..Policy::with_rules(rules) }
}

fn calm() -> Facts {
    Facts::calm(Stage::Propose, "web", BlastRadius::default(), Timestamp::from_millis(AN_HOUR))
}

fn word(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Refused { policies, .. } => format!("refused by {}", policies.join(", ")),
        Ruling::NeedsApproval { approvals, because } => format!("needs {approvals}: {because}"),
        Ruling::Unattended { because } => format!("unattended: {because}"),
    }
}

#[track_caller]
fn check(policy: &Policy, action: &Action, facts: &Facts, expected: &str) {
    assert_eq!(word(&policy.rule(action, facts)), expected, "{action}");
}

fn restart(namespace: &str, kind: &str) -> Action {
    Action::Restart { target: target("c", namespace, kind, "web", "1") }
}

#[test]
fn high_risk_always_needs_people() {
    let everything = policy(Autonomy::Automatic);
    let web = target("c", "prod", "Deployment", "web", "1");
    let low = restart("prod", "Deployment");
    check(&everything, &low, &calm(), "unattended: policy catalogue: actions of the catalogue are allowed");
    let roll_back = Action::RollBack { target: web.clone(), from_revision: 2, to_revision: 1 };
    let medium = "needs 1: policy medium-risk-needs-a-person: medium risk needs one person";
    check(&everything, &roll_back, &calm(), medium);
    let high = "needs 2: policy high-risk-needs-two-people: high risk needs two people";
    check(&everything, &Action::Scale { target: web, from: 4, to: 1 }, &calm(), high);
    check(&everything, &restart("prod", "StatefulSet"), &calm(), high);
    let system = restart("kube-system", "Deployment");
    check(&everything, &system, &calm(), "refused by protected-namespaces");
    let nowhere = Policy { namespaces: vec![], ..everything.clone() };
    check(&nowhere, &low, &calm(), "refused by namespaces");
    let suggest = policy(Autonomy::Suggest);
    check(&suggest, &low, &calm(), "refused by suggest-only");
    let cordon = Action::Cordon { target: target("c", "", "Node", "n1", "n") };
    let elsewhere = Policy { namespaces: vec!["shop".into()], ..everything };
    check(&elsewhere, &cordon, &calm(), "refused by namespaces");
}

#[test]
fn a_drain_is_judged_by_the_namespaces_of_its_pods() {
    let drain = |namespaces: &[&str]| {
        let pods = namespaces.iter().map(|namespace| target("c", namespace, "Pod", "one", "p"));
        Action::Drain { target: target("c", "", "Node", "n1", "n"), pods: pods.collect(), was_cordoned: false }
    };
    let everywhere = policy(Autonomy::Approve);
    let two = "needs 2: policy high-risk-needs-two-people: high risk needs two people";
    check(&everywhere, &drain(&["shop", "stage"]), &calm(), two);
    check(&everywhere, &drain(&["shop", "kube-system"]), &calm(), "refused by protected-namespaces");
    let because = everywhere.rule(&drain(&["shop", "kube-system"]), &calm()).because().to_owned();
    assert!(because.ends_with(" (it changes things in kube-system)"), "{because}");
    let shop = Policy { namespaces: vec!["shop".into(), String::new()], ..everywhere };
    check(&shop, &drain(&["shop"]), &calm(), two);
    check(&shop, &drain(&["shop", "stage"]), &calm(), "refused by namespaces");
    // What is asked before each eviction.
    assert_eq!(shop.out_of_bounds(["shop"]), None);
    assert_eq!(shop.out_of_bounds(["stage"]).unwrap(), "policy.namespaces does not name \"stage\"");
    assert_eq!(shop.out_of_bounds(["kube-system"]).unwrap(), "policy.protected_namespaces names kube-system");
    // Rules of the user's own see all of them.
    let own = "@id(\"all\") permit(principal, action, resource);\n\
               @id(\"pay\") forbid(principal, action, resource) when { resource.namespaces.contains(\"pay\") };";
    let own = Policy { rules: Rules::compile(Some(own)).unwrap(), ..policy(Autonomy::Approve) };
    check(&own, &drain(&["shop", "pay"]), &calm(), "refused by pay");
}

#[test]
fn what_is_changed_elsewhere_is_judged_there() {
    let release = Action::RollBackRelease {
        target: target("c", "argocd", "Application", "shop", "a"),
        from: "2".into(),
        to: "1".into(),
    };
    let reaching = |namespace: &str| {
        let extent = Extent { namespaces: [namespace.to_owned()].into(), services: ["checkout".to_owned()].into() };
        Facts { blast: BlastRadius { extent: Some(extent), ..BlastRadius::default() }, ..calm() }
    };
    let argo = Policy { namespaces: vec!["argocd".into()], ..policy(Autonomy::Approve) };
    let medium = "needs 1: policy automatic-only-where-it-says-so: the mode is not \"automatic\"; \
                  policy medium-risk-needs-a-person: medium risk needs one person";
    check(&argo, &release, &reaching("argocd"), medium);
    check(&argo, &release, &reaching("shop"), "refused by namespaces");
    // A plan from before this was kept.
    check(&argo, &release, &calm(), medium);
    let both = Policy { namespaces: vec!["argocd".into(), "shop".into()], ..argo };
    check(&both, &release, &reaching("shop"), medium);
    check(&policy(Autonomy::Approve), &release, &reaching("kube-system"), "refused by protected-namespaces");
    let own = "@id(\"all\") permit(principal, action, resource);\n\
               @id(\"till\") forbid(principal, action, resource) when { resource.services.contains(\"checkout\") };";
    let own = Policy { rules: Rules::compile(Some(own)).unwrap(), ..policy(Autonomy::Approve) };
    check(&own, &release, &reaching("shop"), "refused by till");
}

#[test]
fn what_speaks_against_it_sends_it_to_people() {
    let automatic = policy(Autonomy::Automatic);
    let low = restart("prod", "Deployment");
    for (facts, rule) in [
        (Facts { breaker_open: true, ..calm() }, "breaker"),
        (Facts { neighbour_busy: true, ..calm() }, "one-remediation-per-neighbourhood"),
        (Facts { unattended_last_hour: 3, ..calm() }, "three-unattended-an-hour"),
        (Facts { requester: Some("T/U".into()), ..calm() }, "a-request-is-no-approval"),
        (Facts { paused: true, ..calm() }, "kill-switch"),
        (Facts { proven: false, ..calm() }, "two-sources-to-act-alone"),
        (Facts { blast: BlastRadius { share_percent: 26, ..BlastRadius::default() }, ..calm() }, "quarter-of-the-pods"),
        (Facts { blast: BlastRadius { breaks_budget: true, ..BlastRadius::default() }, ..calm() }, "budgets"),
        (Facts { earned: Some(Autonomy::Approve), ..calm() }, "automatic-only-where-it-says-so"),
    ] {
        let ruling = automatic.rule(&low, &facts);
        let Ruling::NeedsApproval { approvals: 1, because } = &ruling else { panic!("{rule}: {ruling:?}") };
        assert!(because.starts_with(&format!("policy {rule}: ")), "{because}");
    }
    let paused = Facts { paused: true, stage: Stage::Execute, ..calm() };
    check(&automatic, &low, &paused, "refused by kill-switch");
    let earned = Facts { earned: Some(Autonomy::Automatic), ..calm() };
    assert!(matches!(policy(Autonomy::Approve).rule(&low, &earned), Ruling::Unattended { .. }));
    check(&policy(Autonomy::Suggest), &low, &earned, "refused by suggest-only");
    // Whatever was earned, the risk is what it is.
    let roll_back =
        Action::RollBack { target: target("c", "prod", "Deployment", "web", "1"), from_revision: 2, to_revision: 1 };
    assert!(matches!(automatic.rule(&roll_back, &earned), Ruling::NeedsApproval { approvals: 1, .. }));
}

#[test]
fn a_freeze_asks_for_two() {
    let schedule = Schedule::Once { start: Timestamp::from_millis(0), end: Timestamp::from_millis(2 * AN_HOUR) };
    let freeze = Freeze { name: "Christmas".into(), schedule };
    let frozen = Policy { freeze: vec![freeze], ..policy(Autonomy::Automatic) };
    let low = restart("prod", "Deployment");
    assert!(matches!(frozen.rule(&low, &calm()), Ruling::NeedsApproval { approvals: 2, .. }));
    let later = Facts { wall_now: Timestamp::from_millis(3 * AN_HOUR), ..calm() };
    assert!(matches!(frozen.rule(&low, &later), Ruling::Unattended { .. }));
}

#[test]
fn rules_of_the_user_are_checked_when_they_are_loaded() {
    let broken = |text: &str| Rules::compile(Some(text)).unwrap_err().to_string();
    assert!(broken("permit(principal, action, resource)").contains("cannot be read"));
    assert!(broken("permit(principal, action, resource);").contains("@id"));
    assert!(broken("@id(\"kill-switch\") permit(principal, action, resource);").contains("named kill-switch"));
    let typo = "@id(\"a\") permit(principal, action, resource) when { context.teir == \"low\" };";
    assert!(broken(typo).contains("do not fit the schema"), "{}", broken(typo));
    let wrong = "@id(\"a\") permit(principal, action, resource) when { context.hour == \"2\" };";
    assert!(broken(wrong).contains("do not fit the schema"));
}

/// The core cannot be switched off by rules of the user's own.
#[test]
fn a_permit_for_everything_leaves_the_core_in_force() {
    let rules = Rules::compile(Some("@id(\"all\") permit(principal, action, resource);")).unwrap();
    let open = Policy { rules, ..policy(Autonomy::Automatic) };
    check(&open, &restart("kube-system", "Deployment"), &calm(), "refused by protected-namespaces");
    let paused = Facts { paused: true, stage: Stage::Execute, ..calm() };
    check(&open, &restart("prod", "Deployment"), &paused, "refused by kill-switch");
    assert!(matches!(open.rule(&restart("prod", "StatefulSet"), &calm()), Ruling::NeedsApproval { approvals: 2, .. }));
    let none = Rules::compile(Some("@id(\"no\") forbid(principal, action, resource);")).unwrap();
    let shut = Policy { rules: none, ..policy(Autonomy::Automatic) };
    check(&shut, &restart("prod", "Deployment"), &calm(), "refused by no");
    let silent = Rules::compile(Some("")).unwrap();
    let ruling = Policy { rules: silent, ..policy(Autonomy::Automatic) }.rule(&restart("prod", "Deployment"), &calm());
    assert_eq!(ruling.because(), "no policy permits it");
}

/// Cedar skips a rule whose evaluation errs. For a forbid that would widen access.
#[test]
fn a_forbid_that_cannot_be_evaluated_refuses() {
    let own = "@id(\"all\") permit(principal, action, resource);\n\
               @id(\"overflow\") forbid(principal, action, resource) when { context.pods * 9223372036854775807 > 5 };";
    let policy = Policy { rules: Rules::compile(Some(own)).unwrap(), ..policy(Autonomy::Automatic) };
    let facts = Facts { blast: BlastRadius { pods: 3, ..BlastRadius::default() }, ..calm() };
    check(&policy, &restart("prod", "Deployment"), &facts, "refused by overflow");
}

#[test]
fn cases_say_what_they_expect_and_by_which_rule() {
    let text = "[[case]]\nname = \"night\"\naction = \"restart\"\nnamespace = \"shop\"\nobject = \"web\"\n\
                expect = \"one_person\"\n[[case]]\nname = \"system\"\naction = \"cordon\"\nnamespace = \"kube-system\"\n\
                object = \"dns\"\nexpect = \"refused\"\nby = \"protected-namespaces\"\n[[case]]\nname = \"wrong\"\n\
                action = \"drain\"\nobject = \"n1\"\nexpect = \"unattended\"\n";
    let cases = read_cases(text).unwrap();
    let policy = policy(Autonomy::Approve);
    let results: Vec<CaseResult> = cases.iter().map(|case| case.try_on(&policy, Timestamp::default())).collect();
    assert_eq!(results.iter().map(|result| result.holds).collect::<Vec<_>>(), [true, true, false], "{results:?}");
    assert!(results[2].said.contains("high-risk-needs-two-people"), "{results:?}");
    assert!(matches!(read_cases("[[case]]\nnam = 1"), Err(BadCases::Syntax(_))));
    assert_eq!(read_cases(""), Err(BadCases::None));
}

#[test]
fn the_page_that_anybody_may_be_is_no_second_person() {
    let with = |approvers: &[&str], groups: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Policy { approvers: list(approvers), groups: list(groups), ..policy(Autonomy::Approve) }
    };
    let sought = |tier, approvals, requester| Sought { tier, approvals, requester };
    let (medium, high) = (RiskTier::Medium, RiskTier::High);
    let alone = sought(medium, 1, None);
    for mixed in [with(&["T/ANN", ANYBODY], &[]), with(&[ANYBODY], &["T/GROUP"])] {
        assert_eq!(mixed.uncounted(ANYBODY, &alone), None, "one person, and nobody asked");
        for more in [sought(medium, 2, None), sought(high, 1, None), sought(medium, 1, Some("T/ANN"))] {
            assert!(mixed.uncounted(ANYBODY, &more).is_some(), "{more:?}");
            assert_eq!(mixed.uncounted("T/BEN", &more), None, "{more:?}");
        }
        // Whoever asked there may be any of the others.
        assert!(mixed.uncounted("T/ANN", &sought(medium, 1, Some(ANYBODY))).is_some());
    }
    // Where nobody else may approve, and where the page may not, things are as they were.
    for plain in [with(&[ANYBODY], &[]), with(&["T/ANN", "T/BEN"], &[])] {
        assert!(!plain.mixes_in_anybody());
        assert_eq!(plain.uncounted(ANYBODY, &sought(high, 2, Some("T/ANN"))), None);
        assert_eq!(plain.uncounted("T/ANN", &sought(medium, 1, Some(ANYBODY))), None);
    }
}

/// Wider is more.
fn width(ruling: &Ruling) -> usize {
    match ruling {
        Ruling::Refused { .. } => 0,
        Ruling::NeedsApproval { approvals, .. } => 3 - approvals,
        Ruling::Unattended { .. } => 3,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_permit_less_never_widens_access(
        picks in (0..6usize, 0..3usize, 0..4usize),
        flags in prop::array::uniform6(any::<bool>()),
        share in 0..101u32,
        pods in 0..50i32,
        hour in 0..24i64,
        unattended in 0..5usize,
    ) {
        let own = "@id(\"night\") permit(principal, action in Midwatch::Action::\"rollout\", resource) when { context.hour < 6 };\n\
                   @id(\"small\") permit(principal, action, resource) when { context.pods < 10 };\n\
                   @id(\"errs\") permit(principal, action, resource) when { context.pods * 9223372036854775807 > 5 };\n\
                   @id(\"people\") permit(principal is Midwatch::Person, action, resource) when { context.approvals > 0 };\n\
                   @id(\"shop\") permit(principal, action, resource) when { resource.namespace == \"shop\" };\n\
                   @id(\"big\") forbid(principal, action, resource) when { context.share_percent > 80 };";
        let rules = Rules::compile(Some(own)).unwrap();
        let mode = [Autonomy::Suggest, Autonomy::Approve, Autonomy::Automatic][picks.1];
        let whole = Policy { rules: rules.clone(), ..policy(mode) };
        let actions = crate::domain::action::tests::catalogue();
        let action = &actions[(picks.0 * 4 + picks.2) % actions.len()];
        let facts = Facts {
            stage: if flags[0] { Stage::Execute } else { Stage::Propose },
            requester: flags[1].then(|| "T/U".to_owned()),
            paused: flags[2] && flags[3],
            breaker_open: flags[3] && flags[4],
            neighbour_busy: flags[4] && flags[5],
            unattended_last_hour: unattended,
            blast: BlastRadius { pods, share_percent: share, user_facing: flags[5], ..BlastRadius::default() },
            wall_now: Timestamp::from_millis(hour * AN_HOUR),
            ..calm()
        };
        let before = whole.rule(action, &facts);
        for permit in rules.permits() {
            let fewer = Policy { rules: rules.without(&permit), ..whole.clone() };
            let after = fewer.rule(action, &facts);
            prop_assert!(width(&after) <= width(&before), "without {permit}: {before:?} became {after:?}");
        }
    }
}
