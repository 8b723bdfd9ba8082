//! What must not reach a model, a chat, memory or a log: secrets, and characters that lie to the eye.
//!
//! Patterns are those of credentials in the wild; each keeps its name in the replacement, so that a
//! reader knows what was there.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::id::Digest;

struct Rule {
    pattern: &'static str,
    /// Group 1, when there is one, is kept: the key or scheme before the secret.
    mark: &'static str,
}

/// Order matters: whole blocks before the lines in them, specific forms before `key=value`.
const RULES: &[Rule] = &[
    Rule {
        pattern: r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
        mark: "private key",
    },
    Rule { pattern: r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", mark: "JWT" },
    Rule { pattern: r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}", mark: "Slack token" },
    Rule { pattern: r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}", mark: "Slack webhook" },
    Rule { pattern: r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b", mark: "AWS key id" },
    Rule { pattern: r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,}", mark: "GitHub token" },
    Rule { pattern: r"\bglpat-[A-Za-z0-9_-]{20,}", mark: "GitLab token" },
    Rule { pattern: r"\bAIza[A-Za-z0-9_-]{35}", mark: "Google key" },
    Rule { pattern: r"\b(?:sk|rk|pk)[-_](?:[a-z]+[-_])*[A-Za-z0-9_-]{20,}", mark: "API key" },
    Rule { pattern: r"\bnpm_[A-Za-z0-9]{36}", mark: "npm token" },
    Rule { pattern: r"\b([a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s@]+(?:@)", mark: "password@" },
    Rule {
        pattern: r"(?i)\b((?:authorization|proxy-authorization)\W{1,4}(?:bearer|basic|token)?\s*)[A-Za-z0-9._~+/=-]{6,}",
        mark: "credential",
    },
    Rule { pattern: r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{12,}", mark: "bearer token" },
    // A changed variable (`DB_PASSWORD/value: old -> new`), and one in a manifest or its diff.
    Rule {
        pattern: r"(?i)((?:password|passwd|secret|token|api_?key|credential|private_?key)[a-z0-9_]*/value: )[^\n]+",
        mark: "secret",
    },
    Rule {
        pattern: r"(?i)(name: [a-z0-9_.-]*(?:password|passwd|secret|token|api_?key|credential|private_?key)[a-z0-9_.-]*\s*\n[ +-]*value: )[^\n]+",
        mark: "secret",
    },
    Rule {
        pattern: r#"(?i)((?:[a-z0-9]+[_.-])*(?:password|passwd|passphrase|pwd|secret|secret[_-]?key|secret[_-]?access[_-]?key|api[_-]?key|access[_-]?token|auth[_-]?token|refresh[_-]?token|client[_-]?secret|private[_-]?key|credentials?|token)["']?\s*(?:=|:|=>)\s*["']?)[^\s"',;&}\[\]]{4,}"#,
        mark: "secret",
    },
];

static COMPILED: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    // A pattern that does not compile is a bug that the tests find (all are used there).
    RULES.iter().filter_map(|rule| Some((Regex::new(rule.pattern).ok()?, rule.mark))).collect()
});

/// Text that may be shown and stored.
pub fn redact(text: &str) -> String {
    let mut text = strip(text);
    for (pattern, mark) in COMPILED.iter() {
        let replaced = pattern.replace_all(&text, |found: &Captures<'_>| {
            let kept = found.get(1).map_or("", |kept| kept.as_str());
            match mark.strip_suffix('@') {
                Some(mark) => format!("{kept}[{mark} redacted]@"),
                None => format!("{kept}[{mark} redacted]"),
            }
        });
        if let std::borrow::Cow::Owned(changed) = replaced {
            text = changed;
        }
    }
    text
}

/// The same with every string in it; keys stay as they are.
pub fn redact_json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = redact(text),
        Value::Array(all) => all.iter_mut().for_each(redact_json),
        Value::Object(map) => map.values_mut().for_each(redact_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Drops control characters, terminal escapes, and characters that reorder or hide text; line ends
/// and tabs stay.
pub fn strip(text: &str) -> String {
    static ESCAPES: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("\x1b(?:\\[[0-9;?]*[ -/]*[@-~]|[@-Z\\\\-_])").ok());
    let text = match ESCAPES.as_ref() {
        Some(escapes) => escapes.replace_all(text, ""),
        None => text.into(),
    };
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || is_invisible(*c))).collect()
}

/// Puts text of the estate between marks that it cannot contain, for they carry its digest.
pub fn fence(text: &str, source: &str) -> String {
    let digest = Digest::of(text.as_bytes());
    let mark = digest.short();
    format!("<data {mark} from {source}>\n{}\n</data {mark}>", text.trim_end())
}

/// Bidirectional controls (CVE-2021-42574), zero-width characters, and the tag block in which
/// instructions can be written that only a model reads.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: expect_test::Expect) {
        expected.assert_eq(&redact(text));
    }

    #[test]
    fn every_rule_compiles() {
        assert_eq!(COMPILED.len(), RULES.len());
    }

    #[test]
    fn secrets_are_replaced_and_their_names_kept() {
        check(
            "Authorization: Bearer abc.def-123456",
            expect_test::expect!["Authorization: Bearer [credential redacted]"],
        );
        check("key AKIAIOSFODNN7EXAMPLE used", expect_test::expect!["key [AWS key id redacted] used"]);
        check("DB_PASSWORD=hunter22 retry=3", expect_test::expect!["DB_PASSWORD=[secret redacted] retry=3"]);
        check(
            r#"{"api_key": "s3cr3t!!", "n": 1}"#,
            expect_test::expect![[r#"{"api_key": "[secret redacted]", "n": 1}"#]],
        );
        check(
            "aws_secret_access_key = wJalrXUtnFEMI",
            expect_test::expect!["aws_secret_access_key = [secret redacted]"],
        );
        check(
            "postgres://app:p4ss:w/rd@db:5432/cart failed",
            expect_test::expect!["postgres://app:[password redacted]@db:5432/cart failed"],
        );
        check(
            "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl and xoxb-1234567890-abcdef",
            expect_test::expect!["got [JWT redacted] and [Slack token redacted]"],
        );
        check(
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb",
            expect_test::expect![[r#"
                a
                [private key redacted]
                b"#]],
        );
        check("env/DB_PASSWORD/value: old1 -> new1", expect_test::expect!["env/DB_PASSWORD/value: [secret redacted]"]);
        check(
            "+  - name: API_TOKEN\n+    value: abc\n   - name: POOL\n     value: '2'",
            expect_test::expect![[r#"
                +  - name: API_TOKEN
                +    value: [secret redacted]
                   - name: POOL
                     value: '2'"#]],
        );
        check("sk-proj-abcdefghijklmnopqrstuvwx", expect_test::expect!["[API key redacted]"]);
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        let text = "GET https://cart:8080/pay 500 in 350ms, token bucket empty, pool 20/20 (sk-1)\n\tat Cart.pay";
        assert_eq!(redact(text), text);
    }

    #[test]
    fn what_lies_to_the_eye_is_dropped() {
        check(
            "a\u{202E}b\u{200B}c\x1b[31md\x07\r\n\te\u{E0041}",
            expect_test::expect![[r#"
            abcd
            	e"#]],
        );
    }

    #[test]
    fn redaction_is_stable() {
        let once = redact("password: hunter22, Bearer abcdefghijklmnop");
        assert_eq!(redact(&once), once);
    }
}
