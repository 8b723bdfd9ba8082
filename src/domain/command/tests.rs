use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: Expect) {
    let said = match parse(text) {
        Ok(command) => command.to_string(),
        Err(Wrong { why, did_you_mean, example }) => {
            format!("{why} | {} | {example}", did_you_mean.unwrap_or_else(|| "-".into()))
        }
    };
    expected.assert_eq(&said);
}

#[test]
fn commands_as_people_write_them() {
    check("", expect!["help"]);
    check("/ops STATUS ", expect!["status"]);
    check("diagnose checkout since=90m ns=shop", expect!["diagnose checkout ns=shop since=90m"]);
    check("silence service=pay 2h load test", expect![[r#"silence {service="pay"} for 2h because load test"#]]);
    check(
        "silence service=\"pay 2h\", cluster=~\"a|b\" for 1d because it's 3h late, confirmed",
        expect![[r#"silence {cluster=~"a|b",service="pay 2h"} for 1d because it's 3h late, confirmed"#]],
    );
    check("mute service=“pay” 30m drill", expect![[r#"silence {service="pay"} for 30m because drill"#]]);
    check("silence", expect!["silences"]);
    check("merge inc-2 into 1 because one database", expect!["merge INC-2 into INC-1 because one database"]);
    check("split INC-1 checkout cart because own bug", expect!["split INC-1 cart, checkout because own bug"]);
    check("split INC-1 rack 7, because power", expect!["split INC-1 rack 7, because power"]);
    check("handover 3 @ada", expect!["handover INC-3 to @ada"]);
    check("channel INC-3", expect!["channel INC-3 open"]);
    check("channel INC-3 invite @a <@U1>", expect!["channel INC-3 invite @a <@U1>"]);
    check("pause ns=shop the big push", expect!["pause ns=shop the big push"]);
    check("pause the big push", expect!["pause all the big push"]);
    check("remember cart is slow at night service=cart", expect!["remember cart is slow at night service=cart"]);
    check("reject INC-1.P1.abc because no", expect!["reject INC-1.P1.abc because no"]);
    check("oncall", expect!["oncall"]);
    check("close 7 because mended by hand", expect!["close INC-7 because mended by hand"]);
    check("resolve INC-7 it was the cable", expect!["close INC-7 because it was the cable"]);
}

#[test]
fn what_is_wrong_is_answered_with_what_is_right() {
    check(
        "diagnoze checkout",
        expect![[r#"I don't know the command "diagnoze" | diagnose checkout | diagnose checkout"#]],
    );
    check(
        "diagnose checkout sinse=30m",
        expect!["diagnose has no option sinse= | diagnose checkout since=30m | diagnose checkout"],
    );
    check("diagnose", expect!["diagnose needs a service | - | diagnose checkout"]);
    check("diagnose a b", expect!["diagnose takes a service, and 2 were given | - | diagnose checkout"]);
    check(
        "diagnose a since=soon",
        expect![[r#""soon" is not a time; write for example 30m, 2h or 1d | - | diagnose checkout"#]],
    );
    check("incidents mien", expect![[r#"incidents are open or mine, not "mien" | incidents mine | incidents"#]]);
    check("xyzzy now", expect![[r#"I don't know the command "xyzzy" | - | help"#]]);
    check(
        "silence service=pay 3d because x",
        expect![[
            r#"a silence lasts 24 h at most; plan a window in the configuration | - | silence service="checkout" 2h load test"#
        ]],
    );
    check(
        "silence service=pay 2h",
        expect![[r#"a silence needs a reason | - | silence service="checkout" 2h load test"#]],
    );
    check(
        "silence service=pay because x",
        expect![[
            r#"a silence needs a time of at most 24h, such as 30m or 2h, behind its matchers | - | silence service="checkout" 2h load test"#
        ]],
    );
    check(
        "merge INC-2 into INC-2 because x",
        expect!["INC-2 cannot go into itself | - | merge INC-2 into INC-1 because one database"],
    );
    check(
        "merge INC-2 into INC-1",
        expect!["a merge needs a reason: because .. | - | merge INC-2 into INC-1 because one database"],
    );
    for text in ["resolve INC-7", "close INC-7 because"] {
        check(text, expect!["to close an incident needs a reason | - | close INC-7 because mended by hand"]);
    }
    check("close because x", expect![[r#""because" names no incident | - | close INC-7 because mended by hand"#]]);
    check("resume some of it", expect![[r#"resume takes all, ns=.. or service=.., not "some of it" | - | resume"#]]);
}

#[test]
fn what_other_tools_call_it_leads_to_nothing_grave() {
    check("ack INC-2", expect!["take INC-2"]);
    check("claim inc-2", expect!["take INC-2"]);
    for word in ["done", "resolved"] {
        let Err(wrong) = parse(&format!("{word} INC-2")) else { panic!("{word}") };
        assert!(wrong.did_you_mean.is_none() && wrong.why.contains("closes when its alerts end"), "{word}: {wrong:?}");
        assert_eq!(wrong.example, "close INC-7 because mended by hand");
    }
    // One slip is a slip.
    check("resum", expect!["I don't know the command \"resum\" | resume | resume"]);
    check("revoke INC-2", expect!["I don't know the command \"revoke\" | - | help"]);
    check("pause because the bug", expect!["pause all the bug"]);
    check("pause because because the bug", expect!["pause all the bug"]);
}

#[test]
fn whoever_stops_it_is_never_asked_for_more() {
    check("pause", expect!["pause all no reason given"]);
    check("pause because because", expect!["pause all no reason given"]);
    check("stop", expect!["pause all no reason given"]);
    check("HALT!", expect!["pause all no reason given"]);
    check("pause everything", expect!["pause all no reason given"]);
    check("pause ns=shop", expect!["pause ns=shop no reason given"]);
    check("resume everything please", expect!["resume all"]);
    check("unpause ns=shop", expect!["resume ns=shop"]);
    check("pause service=\"payments-db\" stop the failover", expect!["pause service=payments-db stop the failover"]);
    check("pause `service=“payments-db”` stop", expect!["pause service=payments-db stop"]);
    check("pause Service='pay db', stop", expect![[r#"pause service="pay db" stop"#]]);
    check("pause service=\"a\"b stop", expect![[r#"pause all service="a"b stop"#]]);
    check("pause service=\"a stop", expect![[r#"pause all service="a stop"#]]);
    check("pause Service='pay db' stop", expect![[r#"pause service="pay db" stop"#]]);
    check("pause service=<http://api.shop.io|api.shop.io> stop", expect!["pause service=api.shop.io stop"]);
    check("resume service=\"payments-db\".", expect!["resume service=payments-db"]);
    // A scope that cannot be read stops everything.
    check("pause service=\"\" payments-db", expect![[r#"pause all service="" payments-db"#]]);
    check("pause svc=payments-db now", expect!["pause all svc=payments-db now"]);
    check("resume service=", expect!["service= has nothing behind it | - | resume"]);
}

#[test]
fn what_people_type_at_night_is_read_as_they_mean_it() {
    check("ack `INC-1`", expect!["take INC-1"]);
    check("ack INC-1.", expect!["take INC-1"]);
    check("explain INC-1 . ?", expect!["explain INC-1"]);
    check("please ack INC-1, thanks!", expect!["take INC-1"]);
    check("silence `service=\"x\"` 1h drill", expect![[r#"silence {service="x"} for 1h because drill"#]]);
    check("silence service=‘x’ 1h it’s a drill", expect![[r#"silence {service="x"} for 1h because it's a drill"#]]);
    check(
        "silence instance=<http://mailer.shop|mailer.shop> 1h drill",
        expect![[r#"silence {instance="mailer.shop"} for 1h because drill"#]],
    );
    check("snooze service=x 30m drill", expect![[r#"silence {service="x"} for 30m because drill"#]]);
    check("diagnose <http://mailer.shop|mailer.shop>", expect!["diagnose mailer.shop"]);
    check("handover INC-1 to <@U123|ada>", expect!["handover INC-1 to <@U123>"]);
    check(
        "please approve INC-1.P1.abc",
        expect![
            "what decides on plans is written as it is, with nothing before it | - | approve INC-1.P1.0a1b2c3d4e5f"
        ],
    );
}

#[test]
fn a_name_with_a_number_is_no_incident() {
    for text in ["take sev1", "ack web-1", "noise kafka1 because x", "handover us1 to bob", "audit node1"] {
        let Err(wrong) = parse(text) else { panic!("{text}") };
        assert!(wrong.why.contains("names no incident"), "{text}: {wrong:?}");
    }
    assert!(parse("silence db1 2h maintenance").is_err());
    check("take #7", expect!["take INC-7"]);
}

#[test]
fn the_opposite_of_what_was_meant_is_not_offered() {
    for text in ["unack INC-1", "release INC-1", "mine", "snoizes INC-1 30m", "takeover INC-1", "nosy INC-1 x"] {
        let Err(wrong) = parse(text) else { panic!("{text}") };
        let offered = wrong.did_you_mean.as_deref().and_then(|better| better.split(' ').next()).and_then(Verb::named);
        assert!(!matches!(offered, Some(Verb::Take | Verb::Noise | Verb::Silence)), "{text}: {wrong:?}");
    }
    check(
        "unack INC-1",
        expect![
            "an incident that was taken is not given back: somebody else takes it, or it is handed over | - | handover INC-1 to @ada because my shift ends"
        ],
    );
}

#[test]
fn a_silence_is_read_as_amtool_writes_it_and_consent_has_its_comma() {
    check(
        "silence service=checkout instance=web-1 2h load test",
        expect![[r#"silence {instance="web-1",service="checkout"} for 2h because load test"#]],
    );
    check(
        "silence service=~\".*\" 2h until the failover is confirmed",
        expect![[r#"silence {service=~".*"} for 2h because until the failover is confirmed"#]],
    );
    let consent = |text: &str| match parse(text) {
        Ok(Command::Silence { consent, .. }) => consent,
        other => panic!("{other:?}"),
    };
    assert_eq!(consent("silence a=\"b\" 2h until it is confirmed"), Consent::Ask);
    assert_eq!(consent("silence a=\"b\" 2h until then, confirmed"), Consent::Confirmed);
}

#[test]
fn every_example_of_the_help_is_understood_and_has_its_verb() {
    for verb in Verb::ALL {
        let spec = verb.spec();
        assert!(!spec.examples.is_empty() && !spec.about.is_empty(), "{verb:?}");
        for example in spec.examples {
            assert_eq!(parse(example).map(|command| command.verb()), Ok(verb), "{example}");
        }
        for name in spec.names {
            assert_eq!(Verb::named(&name.to_uppercase()), Some(verb));
        }
    }
}

#[test]
fn hints_go_on_from_what_is_typed() {
    let known = Known {
        services: vec!["cart".into(), "checkout".into()],
        namespaces: vec!["shop".into()],
        incidents: vec![("INC-1".into(), "cart is slow".into())],
        cards: vec![("INC-1.P1.abc".into(), "roll back cart".into())],
        ..Known::default()
    };
    let check = |text: &str, expected: &[&str]| {
        let found: Vec<String> = hints(text, &known).into_iter().map(|hint| hint.text).collect();
        assert_eq!(found, expected, "{text:?}");
    };
    check("dia", &["diagnose "]);
    check("DIA", &["diagnose "]);
    check("dignose", &["diagnose "]);
    check("diagnose ", &["diagnose cart ", "diagnose checkout ", "diagnose ns=", "diagnose since="]);
    check("diagnose ch", &["diagnose checkout "]);
    check("diagnose cart ns=", &["diagnose cart ns=shop "]);
    check("diagnose cart ns=shop ", &["diagnose cart ns=shop since="]);
    check("audit ", &["audit INC-1 "]);
    check("approve ", &["approve INC-1.P1.abc "]);
    check("incidents m", &["incidents mine "]);
    check("merge INC-2 ", &["merge INC-2 into "]);
    check("nonsense ", &[]);
    assert_eq!(hints("", &known).len(), Verb::ALL.len());
}

/// Words that tempt the parser.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[ -~]{1,6}".prop_map(|text| text.replace(char::is_whitespace, "_")),
        prop::sample::select(vec![
            "because",
            "for",
            "to",
            "into",
            "all",
            "confirmed",
            "2h",
            "30m",
            "ns=a",
            "service=b",
            "INC-1",
            "7",
            "open",
            "mine",
            "invite",
            "archive",
            "{a=\"b\"}",
            "a=\"b c\"",
            "a=~\"x|y\",",
            "image=x",
            "since=5m",
            "“q”",
            ",",
            "é\u{a0}ü",
            "<@U1>",
            "INC-1.P1.0a1b2c3d4e5f",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_printed_is_read_back(
        verb in prop::sample::select(Verb::ALL.to_vec()),
        words in prop::collection::vec(word(), 0..9),
        blank in prop::sample::select(vec![" ", "  ", "\t", "\n"]),
    ) {
        let text = format!("{} {}", verb.name(), words.join(blank));
        if let Ok(command) = parse(&text) {
            let printed = command.to_string();
            prop_assert_eq!(parse(&printed), Ok(command), "{:?} was printed as {:?}", text, printed);
        }
    }

    #[test]
    fn nothing_typed_makes_it_fall(text in "\\PC{0,60}") {
        let _ = hints(&text, &Known::default());
        if let Ok(command) = parse(&text) {
            prop_assert_eq!(parse(&command.to_string()), Ok(command));
        }
    }

    #[test]
    fn what_was_meant_is_understood(text in "[a-z]{2,9}( [a-z=]{1,9}){0,4}") {
        if let Err(Wrong { did_you_mean, example, .. }) = parse(&text) {
            prop_assert!(parse(&example).is_ok());
            if let Some(better) = did_you_mean {
                // A bare verb may still lack its words, and the example shows them.
                prop_assert!(parse(&better).is_ok() || Verb::named(&better).is_some(), "{better}");
            }
        }
    }
}
