//! What people ask in words, as far as it can be told without a model.
//!
//! Invariant: words never decide; whoever asks for a decision is told how one is made.

use std::time::Duration;

use super::time::parse_span;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What changed, within the last so long.
    Changed {
        within: Option<Duration>,
        service: Option<String>,
    },
    /// Why this is held to be the cause, or why that is not.
    Why {
        about: Option<String>,
    },
    /// Who decided on plans, and when.
    Decided,
    /// A measured signal.
    Show {
        signal: String,
        service: Option<String>,
    },
    Logs,
    Alerts,
    Runbook,
    Status,
    /// Who has it, or would be called.
    OnCall,
    /// Who needs whom.
    Neighbours {
        service: Option<String>,
    },
    LookAgain,
    Investigate {
        service: String,
    },
    /// It asks to do something: that is for buttons and commands.
    Act,
}

/// What may be named.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Service, and whether it is a database.
    pub services: Vec<(String, bool)>,
    /// As the configuration calls what is measured.
    pub signals: Vec<String>,
}

/// What people say for what is measured: any of the words, for a signal whose name holds one of the others.
const SAID: [(&[&str], &[&str]); 11] = [
    (&["p99", "p95", "latency", "slow", "duration", "response"], &["latency", "p99", "duration", "seconds"]),
    (&["error", "errors", "5xx", "failures", "failing"], &["error", "fail"]),
    (&["traffic", "requests", "rps", "load", "throughput"], &["request", "rps", "throughput"]),
    (&["memory", "ram", "rss", "heap"], &["memory", "rss", "heap"]),
    (&["cpu"], &["cpu"]),
    (&["restarts", "restarting", "crashes"], &["restart"]),
    (&["connections", "pool"], &["pool", "connection"]),
    (&["queue", "backlog"], &["queue", "backlog"]),
    (&["lag"], &["lag"]),
    (&["disk", "volume", "space"], &["volume", "filesystem", "disk"]),
    (&["replicas"], &["replica"]),
];

/// `None`: no question of the fixed set.
pub fn read(text: &str, names: &Names) -> Option<Question> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|char: char| !(char.is_alphanumeric() || "-_.".contains(char)))
        .filter(|word| !word.is_empty())
        .collect();
    let has = |word: &str| words.contains(&word);
    let says = |phrase: &str| lower.contains(phrase);
    let any = |of: &[&str]| of.iter().any(|word| has(word));
    let service = || service(&words, names);
    if asks_to_act(&words) {
        return Some(Question::Act);
    }
    if says("look again") || says("investigate again") || says("try again") {
        return Some(Question::LookAgain);
    }
    if any(&["investigate", "diagnose"])
        && let Some(service) = service()
    {
        return Some(Question::Investigate { service });
    }
    if says("who approved")
        || says("who decided")
        || says("who rejected")
        || (has("who") && any(&["approved", "rejected"]))
    {
        return Some(Question::Decided);
    }
    if says("on call") || says("on-call") || has("oncall") || says("who has it") || says("who owns") {
        return Some(Question::OnCall);
    }
    if any(&["changed", "changes", "deployed", "deploy", "deploys", "deployments", "rollout", "rollouts", "released"]) {
        return Some(Question::Changed { within: span(&words), service: service() });
    }
    let show = || signal(&words, names).map(|signal| Question::Show { signal, service: service() });
    // Whoever asks why, or for the logs, names the signal only by the way.
    let is_order = first_word(&words).is_some_and(|word| ["show", "graph", "plot"].contains(&word));
    if is_order && let Some(question) = show() {
        return Some(question);
    }
    if any(&["why", "cause", "caused", "causes", "causing", "because", "reason", "reasons"]) {
        return Some(Question::Why { about: service() });
    }
    if any(&["log", "logs"]) {
        return Some(Question::Logs);
    }
    if any(&["show", "graph", "plot", "how", "what", "whats", "is"])
        && let Some(question) = show()
    {
        return Some(question);
    }
    if any(&["alerts", "alert", "firing", "symptoms"]) {
        return Some(Question::Alerts);
    }
    if has("runbook") || says("how do i") || says("what should") {
        return Some(Question::Runbook);
    }
    if any(&["depends", "needs", "dependencies", "upstream", "downstream", "calls", "blast"]) {
        return Some(Question::Neighbours { service: service() });
    }
    if any(&["status", "state", "fixed", "resolved", "better", "over"])
        || says("how is")
        || says("what is going on")
        || says("what's up")
    {
        return Some(Question::Status);
    }
    None
}

/// An order rather than a question: a verb of ours at the beginning.
fn asks_to_act(words: &[&str]) -> bool {
    const ORDERS: [&str; 13] = [
        "approve", "reject", "deny", "rollback", "roll", "restart", "scale", "execute", "run", "delete", "drain",
        "silence", "pause",
    ];
    first_word(words).is_some_and(|word| ORDERS.contains(&word))
}

/// Behind the courtesies.
fn first_word<'a>(words: &[&'a str]) -> Option<&'a str> {
    const POLITE: [&str; 7] = ["please", "can", "could", "you", "now", "just", "go"];
    words.iter().copied().find(|word| !POLITE.contains(word))
}

/// The longest known name in the text; "the database" is the one database that is known.
fn service(words: &[&str], names: &Names) -> Option<String> {
    let known = |word: &str| names.services.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    let trimmed = words.iter().map(|word| word.trim_matches(['.', '-']));
    let found = trimmed.filter_map(known).max_by_key(|(name, _)| name.len());
    if let Some((name, _)) = found {
        return Some(name.clone());
    }
    if !words.iter().any(|word| matches!(*word, "database" | "db" | "postgres" | "mysql")) {
        return None;
    }
    let mut databases = names.services.iter().filter(|(_, database)| *database);
    match (databases.next(), databases.next()) {
        (Some((name, _)), None) => Some(name.clone()),
        _ => None,
    }
}

fn signal(words: &[&str], names: &Names) -> Option<String> {
    let exact = names.signals.iter().find(|name| words.contains(&name.as_str()));
    let said = || {
        SAID.iter()
            .filter(|(said, _)| said.iter().any(|word| words.contains(word)))
            .find_map(|(_, meant)| names.signals.iter().find(|name| meant.iter().any(|part| name.contains(part))))
    };
    exact.or_else(said).cloned()
}

/// `last hour`, `last 30 minutes`, `since 2h`, `2 days`.
fn span(words: &[&str]) -> Option<Duration> {
    let unit = |word: &str| {
        Some(match word.trim_end_matches('s') {
            "minute" | "min" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            "week" => 7 * 86_400,
            _ => return None,
        })
    };
    for (at, word) in words.iter().enumerate() {
        if let Some(span) = parse_span(word) {
            return Some(span);
        }
        if *word == "today" {
            return Some(Duration::from_secs(86_400));
        }
        let Some(seconds) = unit(word) else { continue };
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        return match before.map(|word| (word.parse::<u64>(), *word)) {
            Some((Ok(number), _)) if number > 0 => Some(Duration::from_secs(number.saturating_mul(seconds))),
            Some((Err(_), "last" | "past" | "the" | "an" | "a" | "this")) => Some(Duration::from_secs(seconds)),
            _ => continue,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Question>) {
        let names = Names {
            services: vec![("payments".into(), false), ("payments-db".into(), true), ("web".into(), false)],
            signals: vec!["errors".into(), "latency_p99".into(), "memory".into(), "db_connections".into()],
        };
        assert_eq!(read(text, &names), expected, "{text}");
    }

    #[test]
    fn questions_as_people_ask_them() {
        use Question::*;
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        let named = |name: &str| Some(name.to_owned());
        check("what changed in the last hour?", Some(Changed { within: hours(1), service: None }));
        check(
            "What changed in payments in the past 2 hours",
            Some(Changed { within: hours(2), service: named("payments") }),
        );
        check("any deploys since 90m?", Some(Changed { within: Some(Duration::from_secs(5400)), service: None }));
        check("what changed?", Some(Changed { within: None, service: None }));
        check("why not the database?", Some(Why { about: named("payments-db") }));
        check("why payments?", Some(Why { about: named("payments") }));
        check("Why?", Some(Why { about: None }));
        check("show me p99 for payments", Some(Show { signal: "latency_p99".into(), service: named("payments") }));
        check("what are the errors of web", Some(Show { signal: "errors".into(), service: named("web") }));
        check("why is payments failing?", Some(Why { about: named("payments") }));
        check("why is memory so high?", Some(Why { about: None }));
        check("what caused the errors?", Some(Why { about: None }));
        check("what is the root cause of the latency of web?", Some(Why { about: named("web") }));
        check("which error is in the logs of web?", Some(Logs));
        check("what errors are in the logs?", Some(Logs));
        check("show errors and why", Some(Show { signal: "errors".into(), service: None }));
        check("can you plot errors in the logs", Some(Show { signal: "errors".into(), service: None }));
        check("is web slow?", Some(Show { signal: "latency_p99".into(), service: named("web") }));
        check("who approved this?", Some(Decided));
        check("who is on call?", Some(OnCall));
        check("what is in the logs?", Some(Logs));
        check("which runbook?", Some(Runbook));
        check("what needs payments-db?", Some(Neighbours { service: named("payments-db") }));
        check("is it fixed?", Some(Status));
        check("look again", Some(LookAgain));
        check("please investigate web", Some(Investigate { service: "web".into() }));
        check("which pods sit on node 7?", None);
    }

    #[test]
    fn words_decide_nothing() {
        for order in [
            "approve the plan",
            "please approve it now",
            "Roll back payments!",
            "can you restart web?",
            "scale web to 9",
        ] {
            check(order, Some(Question::Act));
        }
    }
}
