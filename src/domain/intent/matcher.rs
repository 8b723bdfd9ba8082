//! Matchers over labels, with Alertmanager's semantics and both of its syntaxes.
//!
//! Invariants: a missing label equals the empty string; a regular expression is anchored on both
//! ends and compiled once; what is printed parses back to the same matchers.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::alert::Labels;

mod classic;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;

use pattern::Pattern;

/// Bounds of what a person or a file may give; longer text is refused before it is compiled.
pub const MAX_TEXT: usize = 16_384;
pub const MAX_MATCHERS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl Op {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// One condition on one label, such as `service=~"pay|cart"`.
#[derive(Clone)]
pub struct Matcher {
    name: String,
    op: Op,
    value: String,
    test: Test,
}

#[derive(Clone)]
enum Test {
    Literal,
    Pattern(Pattern),
}

impl Matcher {
    pub fn new(name: &str, op: Op, value: &str) -> Result<Self, BadMatcher> {
        if name.is_empty() {
            return Err(BadMatcher::new("the label name is empty", "name a label, such as service=\"pay\""));
        }
        let test = match op {
            Op::Equal | Op::NotEqual => Test::Literal,
            Op::Regex | Op::NotRegex => Test::Pattern(Pattern::compile(value)?),
        };
        Ok(Self { name: name.into(), op, value: value.into(), test })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn op(&self) -> Op {
        self.op
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.accepts(labels.get(&self.name).map_or("", String::as_str))
    }

    /// `value` is the label's value, empty when the label is missing.
    pub fn accepts(&self, value: &str) -> bool {
        let holds = match &self.test {
            Test::Literal => self.value == value,
            Test::Pattern(pattern) => pattern.accepts(value),
        };
        match self.op {
            Op::Equal | Op::Regex => holds,
            Op::NotEqual | Op::NotRegex => !holds,
        }
    }

    /// The values, none of them empty, of which the label must have one. `None` when they cannot be
    /// listed or when the label may be missing.
    pub(super) fn exact_values(&self) -> Option<Vec<&str>> {
        let values = match (self.op, &self.test) {
            (Op::Equal, _) => vec![self.value.as_str()],
            (Op::Regex, Test::Pattern(pattern)) => pattern.one_of()?.iter().map(String::as_str).collect(),
            (Op::Regex, Test::Literal) | (Op::NotEqual | Op::NotRegex, _) => return None,
        };
        (!values.iter().any(|value| value.is_empty())).then_some(values)
    }

    /// What every value that a regular expression accepts starts with; empty when nothing is known.
    pub(super) fn literal_start(&self) -> &str {
        match &self.test {
            Test::Pattern(pattern) => pattern.prefix(),
            Test::Literal => "",
        }
    }

    /// Rough price of a test that fails, cheapest first.
    fn cost(&self) -> u8 {
        match (self.op, &self.test) {
            (Op::Equal, _) => 0,
            (Op::NotEqual, _) => 1,
            (Op::Regex | Op::NotRegex, Test::Pattern(pattern)) if pattern.one_of().is_some() => 2,
            (Op::Regex | Op::NotRegex, _) => 3,
        }
    }

    /// Alertmanager's order of matchers: name, value, operator.
    fn key(&self) -> (&str, &str, Op) {
        (&self.name, &self.value, self.op)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Matcher {}

impl PartialOrd for Matcher {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Matcher {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An unquoted name stays readable for tools that know only the classic syntax.
        if self.name.contains(parse::is_reserved) {
            write!(f, "{}{}{}", Quoted(&self.name), self.op.as_str(), Quoted(&self.value))
        } else {
            write!(f, "{}{}{}", self.name, self.op.as_str(), Quoted(&self.value))
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The three escapes that the classic and the UTF-8 syntax read alike.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Conditions that must all hold; in canonical order and without repeats. Empty matches everything.
#[derive(Clone, Default)]
pub struct Matchers {
    all: Vec<Matcher>,
    /// Positions in `all`, the cheapest test first: most alerts fail on an equality.
    by_cost: Vec<usize>,
}

impl Matchers {
    pub fn new(mut all: Vec<Matcher>) -> Result<Self, BadMatcher> {
        all.sort();
        all.dedup();
        if all.len() > MAX_MATCHERS {
            return Err(BadMatcher::new(
                format!("{} matchers, the limit is {MAX_MATCHERS}", all.len()),
                "join values of one label with =~ \"a|b\"",
            ));
        }
        let mut by_cost: Vec<usize> = (0..all.len()).collect();
        by_cost.sort_by_key(|at| all[*at].cost());
        Ok(Self { all, by_cost })
    }

    /// Reads `{foo="bar", baz=~"a|b"}` or `foo=bar` as Alertmanager 0.27 and later does by default
    /// (fallback mode): as UTF-8 matchers, else as classic ones; the classic reading wins where
    /// both succeed and differ.
    pub fn parse(text: &str) -> Result<Self, BadMatcher> {
        if text.len() > MAX_TEXT {
            return Err(BadMatcher::new(
                format!("{} bytes of matchers, the limit is {MAX_TEXT}", text.len()),
                "shorten the values or split the list",
            ));
        }
        match (parse::utf8(text), classic::parse(text)) {
            (Ok(_), Ok(classic)) => Self::new(classic),
            (Ok(utf8), Err(_)) => Self::new(utf8),
            (Err(_), Ok(classic)) => Self::new(classic),
            // Only the UTF-8 reader knows where it stopped.
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Reads a list whose entries each hold one or more matchers, as in a configuration file.
    pub fn parse_list<T: AsRef<str>>(lines: &[T]) -> Result<Self, BadMatcher> {
        let mut all = vec![];
        for line in lines {
            all.extend(Self::parse(line.as_ref())?.all);
        }
        Self::new(all)
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.by_cost.iter().all(|at| self.all[*at].matches(labels))
    }

    /// Whether an alert without any label would match, and with it every alert that lacks these
    /// labels: Alertmanager refuses such a silence.
    pub fn match_the_empty(&self) -> bool {
        self.all.iter().all(|matcher| matcher.accepts(""))
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Matcher> {
        self.all.iter()
    }

    /// Both conditions together.
    pub fn and(mut self, other: Self) -> Result<Self, BadMatcher> {
        self.all.extend(other.all);
        Self::new(self.all)
    }
}

impl PartialEq for Matchers {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Matchers {}

impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, matcher) in self.all.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{matcher}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The shape of a matcher in Alertmanager's API v2.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiMatcher {
    name: String,
    value: String,
    #[serde(default)]
    is_regex: bool,
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

impl Serialize for Matchers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.all.iter().map(|matcher| ApiMatcher {
            name: matcher.name.clone(),
            value: matcher.value.clone(),
            is_regex: matches!(matcher.op, Op::Regex | Op::NotRegex),
            is_equal: matches!(matcher.op, Op::Equal | Op::Regex),
        }))
    }
}

/// Accepts the API's list of objects, a list of texts, or one text.
impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Shape {
            Text(String),
            Texts(Vec<String>),
            Api(Vec<ApiMatcher>),
        }
        match Shape::deserialize(deserializer)? {
            Shape::Text(text) => Self::parse(&text),
            Shape::Texts(lines) => Self::parse_list(&lines),
            Shape::Api(matchers) => matchers
                .into_iter()
                .map(|matcher| {
                    let op = match (matcher.is_regex, matcher.is_equal) {
                        (false, true) => Op::Equal,
                        (false, false) => Op::NotEqual,
                        (true, true) => Op::Regex,
                        (true, false) => Op::NotRegex,
                    };
                    Matcher::new(&matcher.name, op, &matcher.value)
                })
                .collect::<Result<Vec<_>, _>>()
                .and_then(Self::new),
        }
        .map_err(serde::de::Error::custom)
    }
}

/// Why text is not a list of matchers; the sender can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}; {remedy}", place(*at))]
pub struct BadMatcher {
    /// Characters from the start of the text, from 1; `None` when the fault has no one place.
    pub at: Option<usize>,
    pub problem: String,
    pub remedy: &'static str,
}

impl BadMatcher {
    fn new(problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { at: None, problem: problem.into(), remedy }
    }

    fn at(mut self, character: usize) -> Self {
        self.at = Some(character);
        self
    }
}

fn place(at: Option<usize>) -> String {
    at.map(|at| format!("at character {at}: ")).unwrap_or_default()
}
