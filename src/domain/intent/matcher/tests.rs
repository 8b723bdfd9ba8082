use proptest::prelude::*;

use super::super::tests::{labels, matchers};
use super::*;

/// What is read, in canonical text, or why not.
fn check(text: &str, expected: &str) {
    let found = match Matchers::parse(text) {
        Ok(matchers) => matchers.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected, "of {text:?}");
}

fn accepts(pattern: &str, value: &str) -> bool {
    Matcher::new("a", Op::Regex, pattern).unwrap().accepts(value)
}

#[test]
fn both_syntaxes_are_read() {
    check(r#"{foo="bar", baz=~"a|b"}"#, r#"{baz=~"a|b",foo="bar"}"#);
    check("foo=bar", r#"{foo="bar"}"#);
    check(" foo = bar , dings != bums, ", r#"{dings!="bums",foo="bar"}"#);
    check("statuscode=~\"5..\"", r#"{statuscode=~"5.."}"#);
    check(r#"{"with space"="x", "a\tb"!~"\u00e9\xf0\x9f\x99\x82\101"}"#, "{\"a\tb\"!~\"é🙂A\",\"with space\"=\"x\"}");
    check("Προμηθεύς=~[a-zA-Z]+", r#"{Προμηθεύς=~"[a-zA-Z]+"}"#);
    check("{\n  alertname = \"Watchdog\",\n}", r#"{alertname="Watchdog"}"#);
    check("{}", "{}");
    check("", "{}");
}

#[test]
fn the_classic_reading_is_the_fallback_and_wins_a_disagreement() {
    check("foo=", r#"{foo=""}"#);
    check("foo=bar baz", r#"{foo="bar baz"}"#);
    check(r#"foo=~\d+"#, r#"{foo=~"\\d+"}"#);
    check(r#"{foo="bar""#, r#"{foo="bar"}"#);
    check(r#"{quote="She said: \"Hi, ladies!\""}"#, r#"{quote="She said: \"Hi, ladies!\""}"#);
    // To the UTF-8 reader these escapes spell an emoji; to the classic one they are text.
    check(r#"qux="\xf0\x9f\x99\x82""#, r#"{qux="\\xf0\\x9f\\x99\\x82"}"#);
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    check(
        r#"{foo="bar" baz="x"}"#,
        "at character 12: expected a comma or the closing brace, found 'b'; put the text in double quotes",
    );
    check("foo", "at character 4: expected an operator, found the end; use one of = != =~ !~");
    check(r#""a b"="x"#, "at character 7: this double quote is never closed; close it with \"");
    check(r#""a b"="\q""#, "at character 8: an escape that is not known; write a backslash as \\\\");
    check(r#""a b"="\x4""#, "at character 8: an escape with wrong digits; write a backslash as \\\\");
    check(
        r#"{"a b"="x"} c"#,
        "at character 13: expected the end, found 'c'; write matchers as {service=\"pay\", severity=~\"warning|critical\"}",
    );
    check(r#"{"a b"="x""#, "at character 11: expected the closing brace, found the end; add } or remove {");
    check(r#""a b"="x"}"#, "at character 11: } closes nothing; add { at the start or remove }");
    check(r#"""=x"#, "at character 4: the label name is empty; name a label, such as service=\"pay\"");
    check(
        r#"foo=~"a(""#,
        "at character 6: the regular expression \"a(\" does not parse: unclosed group; \
         give RE2 syntax; escape a literal character with a backslash",
    );
}

#[test]
fn what_is_large_is_refused() {
    check(
        r#"foo=~"\\pL{900}{9}""#,
        "at character 6: the regular expression \"\\\\pL{900}{9}\" compiles to more than 524288 bytes; \
         lower its repetition counts",
    );
    assert!(Matcher::new("a", Op::Regex, &"a".repeat(5_000)).unwrap_err().problem.contains("the limit is 4096"));
    assert!(Matchers::parse(&"a".repeat(20_000)).unwrap_err().problem.contains("the limit is 16384"));
    let many: Vec<String> = (0..70).map(|number| format!("a{number}=b")).collect();
    assert!(Matchers::parse(&many.join(",")).unwrap_err().problem.contains("the limit is 64"));
}

#[test]
fn a_missing_label_equals_the_empty_string_and_expressions_are_anchored() {
    let matches = |text: &str| Matchers::parse(text).unwrap().matches(&Labels::from([("a".into(), "web-1".into())]));
    assert!(matches("b="));
    assert!(matches("b!=x"));
    assert!(matches(r#"b=~"x|""#));
    assert!(matches(r#"b!~"x.*""#));
    assert!(matches(r#"a=~"web-.*""#));
    assert!(!matches(r#"a=~"web""#));
    assert!(!matches(r#"a=~"eb-1""#));
    assert!(!matches(r#"b=~".+""#));
    assert!(matches(r#"a=~"w|web-1""#));
    assert!(!matches(r#"a!~"^(web-1|x)$""#));
}

#[test]
fn expressions_mean_what_re2_means() {
    // ASCII classes.
    assert!(accepts(r"\d+", "12") && !accepts(r"\d+", "١٢"));
    assert!(accepts(r"[\w.]+", "a_b.c") && !accepts(r"\w+", "é"));
    assert!(accepts(r"[^\s]+x", "ax") && accepts(r"a\bc*|a\b", "a"));
    // Literal text, braces, brackets and dashes.
    assert!(accepts(r"\Qa.b\E.", "a.bc") && !accepts(r"\Qa.b\E.", "axbc"));
    assert!(accepts("x{y}.", "x{y}z") && accepts("x{2}.", "xxz"));
    assert!(accepts("[[a]+x", "[ax") && accepts("[]a]+x", "]ax") && accepts("[[:alpha:]&&b]+x", "c&x"));
    assert!(accepts("[+--]+x", "+,-x") && accepts("[-a]+x", "-ax") && accepts("[a-]+x", "a-x"));
    assert!(accepts(r"\<a\>.", "<a>b"));
    assert!(accepts(r"\x{41}\pL.", "Aéz"));
    assert!(accepts("(?i)web.", "WEBx"));
    // The text may close our own group, as in Go.
    assert!(accepts("a)|(?:b.", "a") && accepts("a)|(?:b.", "bx"));
    // A prefix must not reject what matches.
    assert!(accepts("ab*c.", "acx") && accepts("ab?.", "ax") && accepts("ab+.", "abx") && accepts("ab{0,1}.", "ax"));
    assert!(accepts("^web-[0-9]+|db$", "db") && accepts("web-(a|b).", "web-ax"));
}

#[test]
fn serde_speaks_the_api_and_reads_text() {
    let matchers = Matchers::parse(r#"a="1", b!~"x.*""#).unwrap();
    let json = serde_json::to_value(&matchers).unwrap();
    assert_eq!(
        json,
        serde_json::json!([
            {"name": "a", "value": "1", "isRegex": false, "isEqual": true},
            {"name": "b", "value": "x.*", "isRegex": true, "isEqual": false},
        ])
    );
    assert_eq!(serde_json::from_value::<Matchers>(json).unwrap(), matchers);
    let old = serde_json::json!([{"name": "a", "value": "1"}, {"name": "b", "value": "x.*", "isRegex": true, "isEqual": false}]);
    assert_eq!(serde_json::from_value::<Matchers>(old).unwrap(), matchers);
    assert_eq!(serde_json::from_value::<Matchers>("{a=1,b!~\"x.*\"}".into()).unwrap(), matchers);
    let list = serde_json::json!(["a=1", "b!~\"x.*\""]);
    assert_eq!(serde_json::from_value::<Matchers>(list).unwrap(), matchers);
}

proptest! {
    #[test]
    fn what_is_printed_parses_back(
        name in "[a-zA-Z_:][a-zA-Z0-9_:]{0,8}|\\PC{1,8}|[\\s\\S]{1,6}",
        value in "[\\s\\S]{0,12}|[a-z\\\\\",{} \n]{0,12}",
        op in prop::sample::select(vec![Op::Equal, Op::NotEqual, Op::Regex, Op::NotRegex]),
        other in matchers(),
    ) {
        // Some random texts are no expressions; those are refused before there is anything to print.
        if let Ok(matcher) = Matcher::new(&name, op, &value) {
            let all = Matchers::new(vec![matcher]).unwrap().and(other).unwrap();
            prop_assert_eq!(Matchers::parse(&all.to_string()).unwrap(), all);
        }
    }

    #[test]
    fn parsing_never_panics(text in "[\\s\\S]{0,40}|[a-z={}~!\"\\\\, ux0-9]{0,40}") {
        let _ = Matchers::parse(&text);
    }

    #[test]
    fn expressions_never_panic_and_shortcuts_agree(
        text in "[ab|().*?+{}\\[\\]^$\\\\dQE,0-9&:-]{0,16}",
        value in "[ab.|01(){}-]{0,6}",
    ) {
        // A text that closes our own group means something else when it is repeated.
        let whole = regex::Regex::new(&text).is_ok();
        if let (true, Ok(fast)) = (whole, Matcher::new("x", Op::Regex, &text)) {
            // A group that may not be taken hides literals and prefixes from the shortcuts.
            if let Ok(slow) = Matcher::new("x", Op::Regex, &format!("(?:{text})|(?:{text})")) {
                prop_assert_eq!(fast.accepts(&value), slow.accepts(&value), "{}", text);
            }
        }
    }

    #[test]
    fn the_order_of_evaluation_changes_nothing(matchers in matchers(), labels in labels()) {
        let plain = matchers.iter().all(|matcher| matcher.matches(&labels));
        prop_assert_eq!(matchers.matches(&labels), plain);
    }
}
