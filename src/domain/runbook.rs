//! Curated guidance: Markdown with a YAML front matter.
//!
//! A runbook that is not understood is refused with the file, the line, the key and the remedy;
//! half a runbook is worse than none at three in the morning.

use std::fmt;

use chrono::NaiveDate;
use serde_yaml_ng::{Mapping, Value};

use crate::domain::action::RiskTier;
use crate::domain::time::Timestamp;

/// A chunk below this many words is joined with its neighbour: too little to be found by.
const CHUNK_WORDS_MIN: usize = 40;
/// A section beyond this many words is cut between paragraphs.
const CHUNK_WORDS_MAX: usize = 250;

const KEYS: [&str; 8] = ["title", "area", "alerts", "symptoms", "actions", "risk", "owner", "reviewed"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runbook {
    /// Path relative to the folder of runbooks, e.g. `queue/consumer-lag.md`.
    pub file: String,
    pub title: String,
    pub area: String,
    /// Names of alerts that this runbook is the answer to.
    pub alerts: Vec<String>,
    pub symptoms: Vec<String>,
    pub actions: Vec<RunbookAction>,
    pub risk: RiskTier,
    pub owner: String,
    /// Midnight UTC of the day of the last review.
    pub reviewed: Timestamp,
    pub body: String,
}

/// What a runbook may advise: the verbs of the action catalogue, or nothing to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunbookAction {
    Rollback,
    Restart,
    Scale,
    None,
}

/// A piece of Markdown under one heading, small enough to be quoted whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Headings that were joined are separated by ` / `; empty for text before the first heading.
    pub heading: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {key}: {problem}; {remedy}")]
pub struct BadRunbook {
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The key of the front matter, or the part of the file (`front matter`, `body`).
    pub key: String,
    pub problem: String,
    pub remedy: String,
}

impl Runbook {
    /// `file` is the path relative to the folder of runbooks; it names the runbook from then on.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadRunbook> {
        let source = Source::split(file, text)?;
        let keys = source.keys()?;
        source.refuse_unknown(&keys)?;
        let runbook = Self {
            file: file.to_owned(),
            title: source.text(&keys, "title")?,
            area: source.text(&keys, "area")?,
            alerts: source.list(&keys, "alerts")?,
            symptoms: source.list(&keys, "symptoms")?,
            actions: source
                .list(&keys, "actions")?
                .iter()
                .map(|word| source.action(word))
                .collect::<Result<Vec<_>, _>>()?,
            risk: source.risk(&keys)?,
            owner: source.text(&keys, "owner")?,
            reviewed: source.reviewed(&keys)?,
            body: source.body.trim().to_owned(),
        };
        if source.body.trim().is_empty() {
            return Err(source.bad(
                source.body_line,
                "body",
                "nothing follows the front matter".into(),
                "write what to look at and what to do, under ## headings".into(),
            ));
        }
        Ok(runbook)
    }

    /// What every chunk of it is about: prefixed to a chunk before it is indexed, so that
    /// "## Fix" is found by the symptoms that only the front matter names.
    pub fn about(&self) -> String {
        format!("{}. Symptoms: {}. Alerts: {}.", self.title, self.symptoms.join("; "), self.alerts.join(", "))
    }

    pub fn chunks(&self) -> Vec<Section> {
        sections(&self.body)
    }
}

impl RunbookAction {
    pub const ALL: [Self; 4] = [Self::Rollback, Self::Restart, Self::Scale, Self::None];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Restart => "restart",
            Self::Scale => "scale",
            Self::None => "none",
        }
    }
}

impl fmt::Display for RunbookAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Cuts Markdown at its `##` headings into pieces of about 40 to 250 words, and what is longer at
/// its `###` headings. A code block is never cut, so one with more words stays whole.
pub fn sections(markdown: &str) -> Vec<Section> {
    fit(by_heading(markdown, "## "), by_deeper_heading)
}

/// Joins what is too short; what is too long is for `cut_long` to cut.
fn fit(sections: Vec<Section>, cut_long: fn(&Section, usize) -> Vec<Section>) -> Vec<Section> {
    let mut cut: Vec<Section> = Vec::new();
    for section in sections {
        let words = count_words(&section.text);
        match cut.last_mut() {
            Some(last)
                if (words < CHUNK_WORDS_MIN || count_words(&last.text) < CHUNK_WORDS_MIN)
                    && words + count_words(&last.text) <= CHUNK_WORDS_MAX =>
            {
                last.heading = match (last.heading.is_empty(), section.heading.is_empty()) {
                    (true, _) => section.heading,
                    (_, true) => std::mem::take(&mut last.heading),
                    _ => format!("{} / {}", last.heading, section.heading),
                };
                last.text = format!("{}\n\n{}", last.text, section.text);
            }
            _ if words > CHUNK_WORDS_MAX => cut.extend(cut_long(&section, words)),
            _ => cut.push(section),
        }
    }
    cut
}

/// Each piece carries the path of its headings.
fn by_deeper_heading(section: &Section, words: usize) -> Vec<Section> {
    let parts = by_heading(&section.text, "### ");
    if parts.len() < 2 {
        return by_paragraphs(section, words);
    }
    let mut pieces = fit(parts, by_paragraphs);
    for piece in &mut pieces {
        piece.heading = match (section.heading.is_empty(), piece.heading.is_empty()) {
            (true, _) => std::mem::take(&mut piece.heading),
            (_, true) => section.heading.clone(),
            _ => format!("{} / {}", section.heading, piece.heading),
        };
    }
    pieces
}

fn by_heading(markdown: &str, mark: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut heading = String::new();
    let mut lines: Vec<&str> = Vec::new();
    let mut fence = Fence::default();
    for line in markdown.lines() {
        // Deeper headings stay inside their section; a title line (`# `) says nothing new.
        match line.strip_prefix(mark).filter(|_| !fence.open) {
            Some(next) => {
                push_section(&mut sections, &heading, &lines);
                heading = next.trim().trim_end_matches('#').trim_end().to_owned();
                lines.clear();
            }
            None => lines.push(line),
        }
        fence.read(line);
    }
    push_section(&mut sections, &heading, &lines);
    sections
}

fn push_section(sections: &mut Vec<Section>, heading: &str, lines: &[&str]) {
    let text = lines.join("\n").trim().to_owned();
    if !text.is_empty() {
        sections.push(Section { heading: heading.to_owned(), text });
    }
}

/// Cuts a long section between paragraphs into parts of about the same length.
fn by_paragraphs(section: &Section, words: usize) -> Vec<Section> {
    let wanted = words / words.div_ceil(CHUNK_WORDS_MAX);
    let mut parts: Vec<String> = Vec::new();
    for paragraph in paragraphs(&section.text) {
        match parts.last_mut() {
            Some(part) if count_words(part) + count_words(&paragraph) / 2 <= wanted => {
                part.push_str("\n\n");
                part.push_str(&paragraph);
            }
            _ => parts.push(paragraph),
        }
    }
    parts.into_iter().map(|text| Section { heading: section.heading.clone(), text }).collect()
}

fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    let mut fence = Fence::default();
    for line in text.lines() {
        if line.trim().is_empty() && !fence.open {
            if !lines.is_empty() {
                paragraphs.push(lines.join("\n"));
                lines.clear();
            }
        } else {
            lines.push(line);
        }
        fence.read(line);
    }
    if !lines.is_empty() {
        paragraphs.push(lines.join("\n"));
    }
    paragraphs
}

/// Whether the reader stands inside a fenced code block.
#[derive(Default)]
struct Fence {
    open: bool,
}

impl Fence {
    fn read(&mut self, line: &str) {
        let line = line.trim_start();
        if line.starts_with("```") || line.starts_with("~~~") {
            self.open = !self.open;
        }
    }
}

fn count_words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The two halves of a file, with their places.
struct Source<'a> {
    file: &'a str,
    front: String,
    body: String,
    body_line: usize,
}

impl<'a> Source<'a> {
    fn split(file: &'a str, text: &str) -> Result<Self, BadRunbook> {
        let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
        let mut source = Self { file, front: String::new(), body: String::new(), body_line: 1 };
        if lines.first().map(|line| line.trim_end()) != Some("---") {
            return Err(source.bad(
                1,
                "front matter",
                "the file does not begin with ---".into(),
                format!("begin it with --- and the keys {}", KEYS.join(", ")),
            ));
        }
        let Some(end) = lines.iter().skip(1).position(|line| line.trim_end() == "---").map(|at| at + 1) else {
            return Err(source.bad(
                1,
                "front matter",
                "the closing --- is missing".into(),
                "add a line with --- after the last key".into(),
            ));
        };
        source.front = lines.get(1..end).unwrap_or_default().join("\n");
        source.body = lines.get(end + 1..).unwrap_or_default().join("\n");
        source.body_line = end + 2;
        Ok(source)
    }

    fn bad(&self, line: usize, key: &str, problem: String, remedy: String) -> BadRunbook {
        BadRunbook { file: self.file.to_owned(), line, key: key.to_owned(), problem, remedy }
    }

    fn keys(&self) -> Result<Mapping, BadRunbook> {
        let readable = "write one `key: value` a line; put text that holds `: ` in quotes";
        match serde_yaml_ng::from_str::<Value>(&self.front) {
            Ok(Value::Mapping(keys)) => Ok(keys),
            Ok(_) => {
                Err(self.bad(2, "front matter", "it holds no keys".into(), format!("add the keys {}", KEYS.join(", "))))
            }
            Err(error) => {
                let line = error.location().map_or(2, |place| place.line() + 1);
                Err(self.bad(line, "front matter", format!("not readable as YAML: {error}"), readable.into()))
            }
        }
    }

    fn refuse_unknown(&self, keys: &Mapping) -> Result<(), BadRunbook> {
        for key in keys.keys() {
            let name = key.as_str().unwrap_or("?");
            if !KEYS.contains(&name) {
                return Err(self.bad(
                    self.line_of(name),
                    name,
                    "unknown key".into(),
                    format!("remove it or use one of {}", KEYS.join(", ")),
                ));
            }
        }
        Ok(())
    }

    fn required<'k>(&self, keys: &'k Mapping, name: &str) -> Result<&'k Value, BadRunbook> {
        keys.get(name)
            .ok_or_else(|| self.bad(2, name, "missing key".into(), format!("add `{name}:` between the two --- lines")))
    }

    fn text(&self, keys: &Mapping, name: &str) -> Result<String, BadRunbook> {
        match self.required(keys, name)?.as_str().map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(self.bad(
                self.line_of(name),
                name,
                "not a text".into(),
                format!("write `{name}: some words`, in quotes when YAML reads it as something else"),
            )),
        }
    }

    fn list(&self, keys: &Mapping, name: &str) -> Result<Vec<String>, BadRunbook> {
        let texts = match self.required(keys, name)? {
            Value::Sequence(items) => {
                items.iter().map(|item| item.as_str().map(|text| text.trim().to_owned())).collect()
            }
            _ => None,
        };
        texts.filter(|texts: &Vec<String>| texts.iter().all(|text| !text.is_empty())).ok_or_else(|| {
            self.bad(
                self.line_of(name),
                name,
                "not a list of texts".into(),
                format!("write `{name}: [one, two]`; an item with a colon or a comma needs quotes"),
            )
        })
    }

    fn action(&self, word: &str) -> Result<RunbookAction, BadRunbook> {
        RunbookAction::ALL.into_iter().find(|action| action.as_str() == word).ok_or_else(|| {
            let all = RunbookAction::ALL.map(RunbookAction::as_str).join(", ");
            self.bad(
                self.line_of("actions"),
                "actions",
                format!("{word:?} is not an action"),
                format!("use {all}; what needs hands belongs into the text, with actions: [none]"),
            )
        })
    }

    fn risk(&self, keys: &Mapping) -> Result<RiskTier, BadRunbook> {
        let word = self.text(keys, "risk")?;
        [RiskTier::Low, RiskTier::Medium, RiskTier::High].into_iter().find(|tier| tier.to_string() == word).ok_or_else(
            || {
                self.bad(
                    self.line_of("risk"),
                    "risk",
                    format!("{word:?} is not a risk"),
                    "use low, medium or high".into(),
                )
            },
        )
    }

    fn reviewed(&self, keys: &Mapping) -> Result<Timestamp, BadRunbook> {
        let day = self.text(keys, "reviewed")?;
        NaiveDate::parse_from_str(&day, "%Y-%m-%d")
            .ok()
            .and_then(|day| day.and_hms_opt(0, 0, 0))
            .map(|midnight| Timestamp::from_secs(midnight.and_utc().timestamp()))
            .ok_or_else(|| {
                self.bad(
                    self.line_of("reviewed"),
                    "reviewed",
                    format!("{day:?} is not a day"),
                    "write the day of the last review as YYYY-MM-DD".into(),
                )
            })
    }

    /// The line of a top-level key in the file; the first of the front matter when YAML wrote the
    /// key in a form that is not found by its text.
    fn line_of(&self, key: &str) -> usize {
        self.front
            .lines()
            .position(|line| line.trim_start_matches(['"', '\'']).starts_with(key))
            .map_or(2, |index| index + 2)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const GOOD: &str = "---\ntitle: Consumer lag\narea: queue\nalerts: [KafkaLag, \"Lag: high\"]\nsymptoms: [lag grows]\nactions: [scale, restart]\nrisk: low\nowner: platform\nreviewed: 2026-11-01\n---\n\n## Confirm\n\nLook at the lag.\n";

    fn check(text: &str, expected: Expect) {
        let found = match Runbook::parse("queue/lag.md", text) {
            Ok(runbook) => format!("{} {:?} {:?} {}", runbook.about(), runbook.actions, runbook.risk, runbook.reviewed),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn a_good_runbook_is_read() {
        check(
            GOOD,
            expect![
                "Consumer lag. Symptoms: lag grows. Alerts: KafkaLag, Lag: high. [Scale, Restart] Low 2026-11-01T00:00:00.000Z"
            ],
        );
    }

    #[test]
    fn windows_line_ends_do_not_matter() {
        assert!(Runbook::parse("a.md", &GOOD.replace('\n', "\r\n")).is_ok());
    }

    #[test]
    fn a_bad_runbook_names_file_line_key_and_remedy() {
        check(
            "# Lag",
            expect![
                "queue/lag.md:1: front matter: the file does not begin with ---; begin it with --- and the keys title, area, alerts, symptoms, actions, risk, owner, reviewed"
            ],
        );
        check(
            &GOOD.replace("---\n\n##", "\n##"),
            expect!["queue/lag.md:1: front matter: the closing --- is missing; add a line with --- after the last key"],
        );
        check(
            &GOOD.replace("owner:", "owned_by:"),
            expect![
                "queue/lag.md:8: owned_by: unknown key; remove it or use one of title, area, alerts, symptoms, actions, risk, owner, reviewed"
            ],
        );
        check(
            &GOOD.replace("owner: platform\n", ""),
            expect!["queue/lag.md:2: owner: missing key; add `owner:` between the two --- lines"],
        );
        check(
            &GOOD.replace("scale, restart", "reboot"),
            expect![[
                r#"queue/lag.md:6: actions: "reboot" is not an action; use rollback, restart, scale, none; what needs hands belongs into the text, with actions: [none]"#
            ]],
        );
        check(
            &GOOD.replace("risk: low", "risk: tiny"),
            expect![[r#"queue/lag.md:7: risk: "tiny" is not a risk; use low, medium or high"#]],
        );
        check(
            &GOOD.replace("[lag grows]", "lag grows"),
            expect![
                "queue/lag.md:5: symptoms: not a list of texts; write `symptoms: [one, two]`; an item with a colon or a comma needs quotes"
            ],
        );
        check(
            &GOOD.replace("2026-11-01", "2026-13-01"),
            expect![[
                r#"queue/lag.md:9: reviewed: "2026-13-01" is not a day; write the day of the last review as YYYY-MM-DD"#
            ]],
        );
        check(
            &GOOD.replace("## Confirm\n\nLook at the lag.\n", ""),
            expect![
                "queue/lag.md:11: body: nothing follows the front matter; write what to look at and what to do, under ## headings"
            ],
        );
    }

    #[test]
    fn unreadable_yaml_names_its_line() {
        let error = Runbook::parse("a.md", &GOOD.replace("[lag grows]", "[lag grows")).unwrap_err();
        assert!((5..=7).contains(&error.line), "{error}");
    }

    fn words(count: usize) -> String {
        vec!["word"; count].join(" ")
    }

    fn shape(markdown: &str) -> Vec<(String, usize)> {
        sections(markdown).into_iter().map(|s| (s.heading, count_words(&s.text))).collect()
    }

    #[test]
    fn sections_follow_the_headings() {
        let markdown = format!("{}\n\n## A\n{}\n\n## B\n{}", words(60), words(100), words(120));
        assert_eq!(shape(&markdown), [("".into(), 60), ("A".into(), 100), ("B".into(), 120)]);
    }

    #[test]
    fn short_sections_join_and_long_ones_are_cut_between_paragraphs() {
        let long = [words(90), words(90), words(90), words(90)].join("\n\n");
        let markdown = format!("## A\n{}\n## B\n{}\n## C\n{long}", words(10), words(50));
        assert_eq!(shape(&markdown), [("A / B".into(), 60), ("C".into(), 180), ("C".into(), 180)]);
    }

    #[test]
    fn a_long_section_is_cut_at_its_deeper_headings_and_says_where_it_stands() {
        let markdown = format!("## A\n{}\n### B\n{}\n### C\n{}", words(50), words(150), words(200));
        assert_eq!(shape(&markdown), [("A".into(), 50), ("A / B".into(), 150), ("A / C".into(), 200)]);
        let short = format!("## A\n{}\n### B\n{}", words(50), words(60));
        assert_eq!(shape(&short), [("A".into(), 112)], "a short one stays whole");
    }

    #[test]
    fn code_blocks_stay_whole() {
        let code = format!("```sh\n## not a heading\n\n{}\n```", words(300));
        assert_eq!(sections(&format!("## A\n\n{code}")).len(), 1);
    }
}
