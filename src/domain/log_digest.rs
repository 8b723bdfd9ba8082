//! What the log of one service says about an incident, as one piece of evidence.
//!
//! Invariants: new templates come first, then rates, then the errors by type and place, those that
//! were not there before first; what is told is bounded; texts are claims of whoever wrote the log.

use super::log_event::{ErrorEvent, events};
use super::log_template::novelty::{Excerpt, Finding, Line, Novelty, compare};

/// Findings and errors that are told.
const MAX_FINDINGS: usize = 20;
const MAX_ERRORS: usize = 10;
/// Errors that are told apart.
const MAX_KINDS: usize = 256;

#[derive(Clone, PartialEq, Debug)]
pub struct Digest {
    pub findings: Vec<Finding>,
    pub errors: Vec<Errors>,
}

/// Errors of one type, place and message.
#[derive(Clone, PartialEq, Debug)]
pub struct Errors {
    pub event: ErrorEvent,
    pub count: usize,
    /// How many of them the baseline has.
    pub before: usize,
}

/// `None` if the log says nothing that it did not say before.
pub fn digest(service: &str, baseline: Excerpt<'_>, window: Excerpt<'_>) -> Option<Digest> {
    let findings = compare(baseline, window);
    let before = errors_of(service, baseline.lines);
    let mut errors = errors_of(service, window.lines);
    for error in &mut errors {
        error.before = before.iter().find(|one| one.event == error.event).map_or(0, |one| one.count);
    }
    errors.sort_by_key(|error| (error.before > 0, std::cmp::Reverse(error.count)));
    let news = !findings.is_empty() || errors.iter().any(|error| error.before == 0);
    news.then_some(Digest { findings, errors })
}

/// By type, place and message, in the order in which they came up.
fn errors_of(service: &str, lines: &[Line<'_>]) -> Vec<Errors> {
    let mut lines = lines.to_vec();
    if lines.first().zip(lines.last()).is_some_and(|(first, last)| first.at > last.at) {
        // Newest first: lines of one instant are turned as well.
        lines.reverse();
    }
    lines.sort_by_key(|line| line.at);
    let mut errors: Vec<Errors> = vec![];
    for event in events(service, lines.iter().map(|line| line.text)) {
        match errors.iter().position(|errors| errors.event == event) {
            Some(at) => errors[at].count += 1,
            // A log of ever new errors: the rest is in the templates.
            None if errors.len() >= MAX_KINDS => {}
            None => errors.push(Errors { event, count: 1, before: 0 }),
        }
    }
    errors
}

impl Digest {
    /// `cart: 2 new templates, 1 more often; TypeError at cart.js:10 in pay: Cannot read <*>`
    pub fn summary(&self, service: &str) -> String {
        let words = [
            (Novelty::New, "new template"),
            (Novelty::MoreOften, "more often"),
            (Novelty::LessOften, "less often"),
            (Novelty::Vanished, "vanished"),
        ];
        let mut counts: Vec<String> = vec![];
        for (novelty, word) in words {
            let count = self.findings.iter().filter(|finding| finding.novelty == novelty).count();
            let plural = if novelty == Novelty::New && count > 1 { "s" } else { "" };
            if count > 0 {
                counts.push(format!("{count} {word}{plural}"));
            }
        }
        if counts.is_empty() {
            counts.push("nothing new".to_owned());
        }
        let most = match (self.errors.first(), self.findings.first()) {
            (Some(error), _) => format!("; {}", error.event),
            (None, Some(finding)) => format!("; {}", finding.template),
            (None, None) => String::new(),
        };
        format!("{service}: {}{most}", counts.join(", "))
    }

    pub fn body(&self) -> String {
        let mut lines: Vec<String> = vec![];
        for finding in self.findings.iter().take(MAX_FINDINGS) {
            lines.push(format!(
                "x{} since {} {}",
                finding.now.max(finding.before),
                finding.first_at.clock_time(),
                finding.template
            ));
            lines.push(format!("    {}", finding.reason));
            lines.push(format!("    e.g. {}", finding.example.trim_end()));
        }
        if self.findings.len() > MAX_FINDINGS {
            lines.push(format!("[{} less surprising]", self.findings.len() - MAX_FINDINGS));
        }
        if !self.errors.is_empty() {
            lines.push("errors by type and place:".to_owned());
        }
        for Errors { event, count, before } in self.errors.iter().take(MAX_ERRORS) {
            lines.push(format!("x{count} (before: {before}) {event}"));
        }
        if self.errors.len() > MAX_ERRORS {
            lines.push(format!("[{} rarer errors]", self.errors.len() - MAX_ERRORS));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn lines<'a>(lines: &[(i64, &'a str)]) -> Vec<Line<'a>> {
        lines.iter().map(|(at, text)| Line { at: Timestamp::from_secs(*at), text }).collect()
    }

    fn excerpt<'a>(from: i64, to: i64, lines: &'a [Line<'a>]) -> Excerpt<'a> {
        Excerpt { from: Timestamp::from_secs(from), to: Timestamp::from_secs(to), lines }
    }

    #[test]
    fn new_templates_and_errors_that_were_not_there_come_first() {
        let before = lines(&[(10, "level=error msg=\"slow query 12\""), (20, "level=error msg=\"slow query 13\"")]);
        // Newest first, as the backend answers.
        let now = lines(&[
            (3700, "\tat com.shop.Pool.take(Pool.java:88)"),
            (3700, "java.sql.SQLTimeoutException: no connection within 3000 ms"),
            (3650, "level=error msg=\"slow query 14\""),
            (3640, "level=error msg=\"slow query 15\""),
        ]);
        let digest = digest("cart", excerpt(0, 3600, &before), excerpt(3600, 4800, &now)).unwrap();
        assert_eq!(
            digest.summary("cart"),
            "cart: 2 new templates; java.sql.SQLTimeoutException at Pool.java:88 in com.shop.Pool.take: no connection \
             within <*> ms"
        );
        let body = digest.body();
        assert!(body.starts_with("x1 since 01:01:40 "), "{body}");
        assert!(body.contains("new: 1 line in 20 min, none in the 60 min before"), "{body}");
        assert!(
            body.ends_with(
                "x1 (before: 0) java.sql.SQLTimeoutException at Pool.java:88 in com.shop.Pool.take: no connection \
                 within <*> ms\nx2 (before: 2) error: slow query <*>"
            ),
            "{body}"
        );
    }

    #[test]
    fn a_log_as_usual_is_no_evidence() {
        let before = lines(&[(10, "served 1"), (20, "ERROR slow query 2")]);
        let now = lines(&[(3700, "served 3"), (3800, "ERROR slow query 3")]);
        assert_eq!(digest("cart", excerpt(0, 3600, &before), excerpt(3600, 4800, &now)), None);
    }
}
