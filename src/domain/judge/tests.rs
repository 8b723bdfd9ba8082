use proptest::prelude::*;

use super::*;
use crate::domain::id::{Digest, IncidentId};
use crate::domain::time::Timestamp;

fn evidence(number: usize, kind: EvidenceKind, taint: Taint, body: &str) -> Evidence {
    let incident = IncidentId::numbered(1);
    Evidence {
        id: incident.evidence(number),
        incident,
        kind,
        source: "test".into(),
        query: String::new(),
        summary: String::new(),
        body: body.into(),
        series: vec![],
        digest: Digest::of(body.as_bytes()),
        observed_at: Timestamp::from_secs(1),
        taint,
        found: true,
    }
}

fn estate() -> Vec<Evidence> {
    vec![
        evidence(1, EvidenceKind::Metric, Taint::Observed, "cart error ratio max=0.37 onset=02:17"),
        evidence(2, EvidenceKind::Log, Taint::UserWritable, "cart: pool exhausted, 20 connections"),
        evidence(3, EvidenceKind::Runbook, Taint::UserWritable, "when cart fails, look at its pool"),
    ]
}

fn change(current: bool) -> Change {
    Change {
        id: "cart revision 7".into(),
        namespace: "prod".into(),
        service: "cart".into(),
        workload: "cart".into(),
        at: Timestamp::from_secs(1),
        from_revision: Some(6),
        to_revision: 7,
        touched: vec![],
        cause: None,
        current,
        put_back: false,
    }
}

fn cited(text: &str, marks: &[&str]) -> Cited {
    Cited { text: text.into(), evidence: marks.iter().map(|mark| mark.to_string()).collect(), quote: None }
}

fn finding(claims: Vec<Cited>) -> Finding {
    Finding {
        service: Some("cart".into()),
        change: None,
        mechanism: "pool exhausted".into(),
        remedy: ProposedRemedy::Restart,
        claims,
        ruled_out: vec![],
        confidence: 1.0,
        needs: None,
    }
}

fn two_kinds() -> Vec<Cited> {
    vec![cited("cart fails 37 % of requests", &["E1"]), cited("its 20 connections are taken", &["E2"])]
}

fn check(finding: Finding, changes: &[Change], expected: expect_test::Expect) {
    let known = ["cart", "web"].map(str::to_owned).into();
    let diagnosis = judge(&Conclusion::Found(finding), &known, changes, &estate(), "m");
    let Diagnosis { verdict, service, change, claims, remedy, confidence, .. } = diagnosis;
    expected
        .assert_eq(&format!("{verdict:?} {service:?} {change:?} {} claims, {confidence:.2}, {remedy:?}", claims.len()));
}

#[test]
fn two_kinds_of_evidence_confirm_and_one_makes_likely() {
    let expected = expect_test::expect![[r#"Confirmed Some("cart") None 2 claims, 0.95, Restart { service: "cart" }"#]];
    check(finding(two_kinds()), &[], expected);
    let expected = expect_test::expect![[r#"Likely Some("cart") None 1 claims, 0.75, Restart { service: "cart" }"#]];
    check(finding(vec![cited("cart fails 37 %", &["[e1]"])]), &[], expected);
    // A runbook proves nothing about today.
    let expected = expect_test::expect![[
        r#"Inconclusive None None 1 claims, 0.30, HandOver { why: "the evidence does not show the cause" }"#
    ]];
    check(finding(vec![cited("cart has a pool", &["E3"])]), &[], expected);
}

#[test]
fn claims_without_support_are_dropped() {
    let mut claims = two_kinds();
    claims.push(cited("web is down", &["E1"]));
    claims.push(cited("cart fails 99 %", &["E1"]));
    claims.push(cited("cart is doomed", &["E9"]));
    let expected = expect_test::expect![[r#"Confirmed Some("cart") None 2 claims, 0.40, Restart { service: "cart" }"#]];
    check(finding(claims.clone()), &[], expected);
    let known = ["cart", "web"].map(str::to_owned).into();
    let (_, dropped) = sift(&claims, &estate(), &known);
    let why: Vec<_> = dropped.iter().map(|dropped| dropped.why.as_str()).collect();
    expect_test::expect![[r#"
        "web" does not occur in the evidence that is cited
        99 does not occur in the evidence that is cited
        cites no evidence that is stored"#]]
    .assert_eq(&why.join("\n"));
}

#[test]
fn what_nobody_observed_cannot_be_blamed() {
    let unknown = Finding { service: Some("billing".into()), ..finding(two_kinds()) };
    check(
        unknown,
        &[],
        expect_test::expect![[
            r#"Inconclusive None None 2 claims, 0.30, HandOver { why: "the model blames \"billing\", which nothing observed knows" }"#
        ]],
    );
    let invented = Finding { change: Some("cart revision 9".into()), ..finding(two_kinds()) };
    check(
        invented,
        &[change(true)],
        expect_test::expect![[
            r#"Inconclusive None None 2 claims, 0.30, HandOver { why: "the model blames \"cart revision 9\", which is no change that was observed" }"#
        ]],
    );
    let elsewhere = Finding { service: Some("web".into()), ..finding(two_kinds()) };
    check(
        elsewhere,
        &[],
        expect_test::expect![[
            r#"Inconclusive None None 2 claims, 0.30, HandOver { why: "no claim that holds speaks of web" }"#
        ]],
    );
}

#[test]
fn a_remedy_must_fit_the_cause() {
    let blamed = |remedy| Finding { change: Some("cart revision 7".into()), remedy, ..finding(two_kinds()) };
    check(
        blamed(ProposedRemedy::RollBack),
        &[change(true)],
        expect_test::expect![[
            r#"Confirmed Some("cart") Some("cart revision 7") 2 claims, 0.95, RollBack { service: "cart" }"#
        ]],
    );
    check(
        blamed(ProposedRemedy::RollBack),
        &[change(false)],
        expect_test::expect![[
            r#"Confirmed Some("cart") Some("cart revision 7") 2 claims, 0.95, HandOver { why: "the change that is blamed does not run any more" }"#
        ]],
    );
    check(
        blamed(ProposedRemedy::Restart),
        &[change(true)],
        expect_test::expect![[
            r#"Confirmed Some("cart") Some("cart revision 7") 2 claims, 0.95, HandOver { why: "a restart does not mend a change that is still in place" }"#
        ]],
    );
    // Somebody has rolled back already: the way back from there leads to what was bad.
    check(
        blamed(ProposedRemedy::RollBack),
        &[Change { put_back: true, ..change(true) }],
        expect_test::expect![[
            r#"Confirmed Some("cart") Some("cart revision 7") 2 claims, 0.95, HandOver { why: "the change that is blamed put an earlier template back" }"#
        ]],
    );
    let no_change = Finding { remedy: ProposedRemedy::RollBack, ..finding(two_kinds()) };
    check(
        no_change,
        &[change(true)],
        expect_test::expect![[
            r#"Confirmed Some("cart") None 2 claims, 0.95, HandOver { why: "a rollback was proposed, but no change is to blame" }"#
        ]],
    );
}

proptest! {
    /// Whatever a model writes, what survives is grounded, and nothing is proposed without proof.
    #[test]
    fn nothing_ungrounded_survives(
        texts in proptest::collection::vec(("[a-z0-9 %:.`_-]{0,40}", 0_usize..6), 0..6),
        service in proptest::option::of(prop_oneof![Just("cart".to_owned()), "[a-z]{1,6}"]),
        remedy in prop_oneof![Just(ProposedRemedy::RollBack), Just(ProposedRemedy::Restart), Just(ProposedRemedy::ScaleUp)],
        confidence in 0.0..1.0_f64,
    ) {
        let claims = texts.iter().map(|(text, mark)| cited(text, &[&format!("E{mark}")])).collect();
        let finding = Finding { service, remedy, confidence, ..finding(claims) };
        let known: BTreeSet<String> = ["cart".to_owned()].into();
        let diagnosis = judge(&Conclusion::Found(finding), &known, &[change(true)], &estate(), "m");
        prop_assert!(diagnosis.claims.iter().all(|claim| !claim.evidence.is_empty()));
        prop_assert!((0.0..=0.95).contains(&diagnosis.confidence));
        if diagnosis.claims.is_empty() || diagnosis.service.is_none() {
            prop_assert_eq!(diagnosis.verdict, Verdict::Inconclusive);
        }
        if diagnosis.verdict == Verdict::Inconclusive {
            prop_assert!(matches!(diagnosis.remedy, Remedy::HandOver { .. }), "{:?}", diagnosis.remedy);
        }
    }
}

#[test]
fn a_quote_must_stand_where_it_is_said_to() {
    let quoting = |quote: &str| Cited { quote: Some(quote.into()), ..cited("its 20 connections are taken", &["E2"]) };
    let known = ["cart", "web"].map(str::to_owned).into();
    let (kept, _) = sift(&[quoting("Pool  exhausted,\n20 connections")], &estate(), &known);
    assert_eq!(kept.len(), 1, "spaces and case are no difference");
    let (_, dropped) = sift(&[quoting("pool drained, 20 connections")], &estate(), &known);
    expect_test::expect![[r#"the words "pool drained, 20 connections" do not stand in what it cites"#]]
        .assert_eq(&dropped[0].why);
}

#[test]
fn a_claim_says_in_which_lines_it_stands() {
    let body = "02:10 web ratio 0.01\n02:17 cart ratio 0.37\n02:18 cart ratio 0.36\n02:30 mail ratio 0.02";
    let evidence = [evidence(1, EvidenceKind::Metric, Taint::Observed, body)];
    let claim = |text: &str| Claim { text: text.into(), evidence: vec![evidence[0].id.clone()] };
    let claims = [claim("cart fails 37 % since 02:17"), claim("it is so")];
    let found: Vec<_> =
        proofs(&claims, &evidence).into_iter().map(|proof| (proof.claim, proof.from_line, proof.to_line)).collect();
    assert_eq!(found, [(0, 2, 2)], "what stands in no one place has none");
}

#[test]
fn what_was_not_kept_is_kept_with_its_reason() {
    let mut claims = two_kinds();
    claims.push(cited("cart fails 99 %", &["E1"]));
    let finding = Finding { needs: Some("traces".into()), ..finding(claims) };
    let known = ["cart", "web"].map(str::to_owned).into();
    let diagnosis = judge(&Conclusion::Found(finding), &known, &[], &estate(), "m");
    assert_eq!(diagnosis.dropped.len(), 1);
    assert_eq!(diagnosis.needs.as_deref(), Some("traces"));
}

#[test]
fn what_only_users_could_have_written_is_no_proof_to_act_on_alone() {
    let known = ["cart", "web"].map(str::to_owned).into();
    let judged = |claims: Vec<Cited>| judge(&Conclusion::Found(finding(claims)), &known, &[], &estate(), "m");
    let is_proven = |diagnosis: &Diagnosis| is_proven(diagnosis, &[suspect("cart", "E1")], &estate());
    let proven = judged(two_kinds());
    assert!(is_proven(&proven));
    // One source, written by whoever can make the service log a line: it may be proposed, not more.
    let hostile = judged(vec![cited("its 20 connections are taken", &["E2"])]);
    assert_eq!(hostile.remedy, Remedy::Restart { service: "cart".into() });
    assert!(!is_proven(&hostile));
    // One source that was observed is one source.
    assert!(!is_proven(&judged(vec![cited("cart fails 37 %", &["E1"]), cited("cart fails", &["E1"])])));
    // Whatever the verdict says.
    assert!(!is_proven(&Diagnosis { verdict: Verdict::Confirmed, ..hostile }));
}

fn suspect(node: &str, mark: &str) -> Candidate {
    let evidence = vec![IncidentId::numbered(1).evidence(mark[1..].parse().unwrap())];
    let supports = vec![Claim { text: "it deviates".into(), evidence }];
    Candidate { node: node.into(), score: 1.0, change: None, supports, contradicts: vec![] }
}

#[test]
fn what_our_own_ranking_does_not_see_is_not_acted_on_alone() {
    let known = ["cart", "web"].map(str::to_owned).into();
    let proven = judge(&Conclusion::Found(finding(two_kinds())), &known, &[], &estate(), "m");
    for (ranking, evidence, expected) in [
        (vec![suspect("web", "E1"), suspect("cart", "E1")], estate(), true),
        // Nothing that was observed speaks against it: only another service, or what users write.
        (vec![suspect("web", "E1")], estate(), false),
        (vec![suspect("cart", "E2")], estate(), false),
        (vec![suspect("cart", "E1")], vec![], false),
    ] {
        assert_eq!(is_proven(&proven, &ranking, &evidence), expected, "{ranking:?}");
    }
}

/// The alerts, a metric that does not exist and logs that nobody wrote.
fn silence() -> Vec<Evidence> {
    let empty = |number, kind, taint, body| Evidence { found: false, ..evidence(number, kind, taint, body) };
    vec![
        evidence(1, EvidenceKind::Alert, Taint::UserWritable, "cart HighErrorRate x3"),
        empty(2, EvidenceKind::Metric, Taint::Observed, "no data: wrong name or labels, or nothing was measured"),
        empty(3, EvidenceKind::Log, Taint::UserWritable, "no line matches, 02:00 to 03:00"),
    ]
}

#[test]
fn empty_answers_confirm_nothing_and_rule_nothing_out() {
    let known = ["cart", "web"].map(str::to_owned).into();
    let claims = vec![
        cited("cart alerts", &["E1"]),
        cited("no trouble of the database was measured", &["E2", "E1"]),
        cited("nobody logs any error", &["E3"]),
    ];
    let ruled_out = vec![cited("the database is healthy", &["E2"])];
    let judged = |claims, evidence: &[Evidence]| {
        judge(
            &Conclusion::Found(Finding { ruled_out: ruled_out.clone(), ..finding(claims) }),
            &known,
            &[],
            evidence,
            "m",
        )
    };
    let diagnosis = judged(claims.clone(), &silence());
    let kept: Vec<&str> = diagnosis.claims.iter().map(|claim| claim.text.as_str()).collect();
    assert_eq!((kept, diagnosis.verdict), (vec!["cart alerts"], Verdict::Likely));
    assert!(diagnosis.ruled_out.is_empty(), "{:?}", diagnosis.ruled_out);
    expect_test::expect![[r#"
        HandOver {
            why: "only the alerts speak for it: they say that something is wrong, not what mends it",
        }
    "#]]
    .assert_debug_eq(&diagnosis.remedy);
    let why: Vec<&str> = diagnosis.dropped.iter().map(|dropped| dropped.why.as_str()).collect();
    assert_eq!(why, ["cites an empty answer, which shows nothing"; 3]);
    // A series with values says so, and counts.
    let mut measured = silence();
    measured[1] = evidence(2, EvidenceKind::Metric, Taint::Observed, "accounts-db errors last=0 steady");
    let diagnosis = judged(claims, &measured);
    assert_eq!((diagnosis.verdict, diagnosis.ruled_out.len()), (Verdict::Confirmed, 1));
}

#[test]
fn what_was_kept_before_empty_answers_were_told_apart_counts_as_found() {
    let mut kept = serde_json::to_value(&estate()[0]).unwrap();
    kept.as_object_mut().unwrap().remove("found");
    assert!(serde_json::from_value::<Evidence>(kept).unwrap().found);
}
