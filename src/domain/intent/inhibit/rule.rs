//! One inhibition rule and how a configuration writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::matcher::{BadMatcher, Matcher, Matchers, Op};

/// Read from the keys of an entry of Alertmanager's `inhibit_rules`, the deprecated ones included.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct InhibitRule {
    name: Option<String>,
    source: Matchers,
    target: Matchers,
    equal: Vec<String>,
}

impl InhibitRule {
    /// `equal` are names of labels.
    pub fn new(
        name: impl Into<String>,
        source: Matchers,
        target: Matchers,
        equal: Vec<String>,
    ) -> Result<Self, BadRule> {
        Self::checked(Some(name.into()), source, target, equal)
    }

    /// The given name, else what the rule says.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("{} inhibits {}", self.source, self.target))
    }

    /// A name for a rule that has none, such as its path in the file.
    pub fn or_named(mut self, name: impl FnOnce() -> String) -> Self {
        self.name.get_or_insert_with(name);
        self
    }

    pub fn source(&self) -> &Matchers {
        &self.source
    }

    pub fn target(&self) -> &Matchers {
        &self.target
    }

    pub fn equal(&self) -> &[String] {
        &self.equal
    }

    fn checked(
        name: Option<String>,
        source: Matchers,
        target: Matchers,
        mut equal: Vec<String>,
    ) -> Result<Self, BadRule> {
        if equal.iter().any(String::is_empty) {
            return Err(BadRule::EmptyEqual);
        }
        equal.sort();
        equal.dedup();
        Ok(Self { name: name.filter(|name| !name.is_empty()), source, target, equal })
    }
}

/// Unknown keys are left to whoever reads the file as a whole.
#[derive(Deserialize)]
pub(in super::super) struct Written {
    name: Option<String>,
    #[serde(default)]
    source_match: BTreeMap<String, String>,
    #[serde(default)]
    source_match_re: BTreeMap<String, String>,
    #[serde(default)]
    source_matchers: Vec<String>,
    #[serde(default)]
    target_match: BTreeMap<String, String>,
    #[serde(default)]
    target_match_re: BTreeMap<String, String>,
    #[serde(default)]
    target_matchers: Vec<String>,
    #[serde(default)]
    equal: Vec<String>,
}

/// The keys that a rule may have.
pub(in super::super) const KEYS: &[&str] = &[
    "name",
    "source_match",
    "source_match_re",
    "source_matchers",
    "target_match",
    "target_match_re",
    "target_matchers",
    "equal",
];

impl TryFrom<Written> for InhibitRule {
    type Error = BadRule;

    fn try_from(written: Written) -> Result<Self, BadRule> {
        let source =
            side(&written.source_match, &written.source_match_re, &written.source_matchers).map_err(BadRule::Source)?;
        let target =
            side(&written.target_match, &written.target_match_re, &written.target_matchers).map_err(BadRule::Target)?;
        Self::checked(written.name, source, target, written.equal)
    }
}

/// The deprecated maps and the list of matchers, which must all hold.
pub(in super::super) fn side(
    equal: &BTreeMap<String, String>,
    regex: &BTreeMap<String, String>,
    matchers: &[String],
) -> Result<Matchers, BadMatcher> {
    let equal = equal.iter().map(|(name, value)| Matcher::new(name, Op::Equal, value));
    let regex = regex.iter().map(|(name, value)| Matcher::new(name, Op::Regex, value));
    Matchers::new(equal.chain(regex).collect::<Result<_, _>>()?)?.and(Matchers::parse_list(matchers)?)
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    #[error("source matchers: {0}")]
    Source(#[source] BadMatcher),
    #[error("target matchers: {0}")]
    Target(#[source] BadMatcher),
    #[error("`equal` has an empty name; give names of labels")]
    EmptyEqual,
}
