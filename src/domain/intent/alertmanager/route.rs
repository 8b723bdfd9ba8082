//! The routing tree: which receivers an alert reaches, and when they listen.
//!
//! Inheritance is Alertmanager's: receiver, grouping and timing pass from parent to child unless
//! the child says otherwise; `mute_time_intervals` and `active_time_intervals` do not pass.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use serde::Deserialize;

use super::super::super::alert::Labels;
use super::super::inhibit::side;
use super::super::matcher::{Matchers, Op};
use super::BadFile;

/// Deeper trees are no one's intent, and recursion must end.
const MAX_DEPTH: usize = 32;
const ROOT: &str = "route";

#[derive(Debug, Clone)]
pub(super) struct Route {
    matchers: Matchers,
    /// Alertmanager's `continue`: siblings after this one are tried too.
    continues: bool,
    destination: Destination,
    children: Vec<Route>,
}

/// One node of the tree as an alert meets it, inherited settings included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Where the node is in the file, such as `route.routes[0].routes[2]`.
    pub path: String,
    pub receiver: String,
    pub group_by: GroupBy,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    pub mute_intervals: Vec<String>,
    pub active_intervals: Vec<String>,
    /// From `team="..."` or `owner="..."` among the matchers on the way to the node.
    pub owner: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// `...`: every label, so that nothing is grouped.
    All,
    /// Names of labels; none puts all alerts of the route into one group.
    Labels(Vec<String>),
}

/// Where one alert goes: several places when routes say `continue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed<'a> {
    pub destinations: Vec<&'a Destination>,
}

impl<'a> Routed<'a> {
    /// Each once, in the order of the tree.
    pub fn receivers(&self) -> Vec<&'a str> {
        let mut seen = HashSet::new();
        let names = self.destinations.iter().map(|destination| destination.receiver.as_str());
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// Of the first destination: an incident is grouped one way.
    pub fn group_by(&self) -> Option<&'a GroupBy> {
        self.destinations.first().map(|destination| &destination.group_by)
    }

    pub fn mute_intervals(&self) -> Vec<&'a str> {
        self.destinations.iter().flat_map(|to| &to.mute_intervals).map(String::as_str).collect()
    }

    pub fn active_intervals(&self) -> Vec<&'a str> {
        self.destinations.iter().flat_map(|to| &to.active_intervals).map(String::as_str).collect()
    }

    /// Whose alert it is: the team that a matcher on the way names, else the receiver's name. The root's
    /// receiver has what is nobody's.
    pub fn owner(&self) -> Option<&'a str> {
        let named = self.destinations.iter().find_map(|destination| destination.owner.as_deref());
        let first = self.destinations.first().filter(|destination| destination.path != ROOT);
        named.or_else(|| first.map(|destination| destination.receiver.as_str()))
    }
}

#[derive(Deserialize)]
pub(super) struct WrittenRoute {
    receiver: Option<String>,
    #[serde(default)]
    group_by: Vec<String>,
    #[serde(default)]
    r#match: BTreeMap<String, String>,
    #[serde(default)]
    match_re: BTreeMap<String, String>,
    #[serde(default)]
    matchers: Vec<String>,
    #[serde(default)]
    r#continue: bool,
    group_wait: Option<String>,
    group_interval: Option<String>,
    repeat_interval: Option<String>,
    #[serde(default)]
    mute_time_intervals: Vec<String>,
    #[serde(default)]
    active_time_intervals: Vec<String>,
    #[serde(default)]
    routes: Vec<WrittenRoute>,
}

/// The keys that a route may have.
pub(super) const KEYS: &[&str] = &[
    "receiver",
    "group_by",
    "match",
    "match_re",
    "matchers",
    "continue",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "mute_time_intervals",
    "active_time_intervals",
    "routes",
];

impl Route {
    /// How many there are, this one included.
    pub(super) fn all(&self) -> usize {
        1 + self.children.iter().map(Self::all).sum::<usize>()
    }

    pub(super) fn receivers(&self) -> BTreeSet<&str> {
        let own = std::iter::once(self.destination.receiver.as_str());
        own.chain(self.children.iter().flat_map(Self::receivers)).collect()
    }

    pub(super) fn root(
        written: WrittenRoute,
        receivers: Option<&HashSet<String>>,
        intervals: &HashSet<String>,
    ) -> Result<Self, BadFile> {
        let fault = |problem: &str, remedy| fault("route", problem, remedy);
        if written.receiver.as_deref().unwrap_or_default().is_empty() {
            return Err(fault("the root has no `receiver`", "name the receiver of what no route matches"));
        }
        if !(written.r#match.is_empty() && written.match_re.is_empty() && written.matchers.is_empty()) {
            return Err(fault("the root has matchers", "move them to a route under `routes`"));
        }
        if written.r#continue {
            return Err(fault("the root has `continue`", "remove it"));
        }
        if !(written.mute_time_intervals.is_empty() && written.active_time_intervals.is_empty()) {
            return Err(fault("the root has time intervals", "move them to a route under `routes`"));
        }
        // Alertmanager's defaults (`DefaultRouteOpts`).
        let defaults = Destination {
            path: ROOT.into(),
            receiver: String::new(),
            group_by: GroupBy::Labels(vec![]),
            group_wait: Duration::from_secs(30),
            group_interval: Duration::from_secs(5 * 60),
            repeat_interval: Duration::from_secs(4 * 3600),
            mute_intervals: vec![],
            active_intervals: vec![],
            owner: None,
        };
        Self::build(written, defaults, &Known { receivers, intervals }, 0)
    }

    /// Depth first, left to right; a node stands for what none of its children takes.
    pub(super) fn collect<'a>(&'a self, labels: &Labels, into: &mut Vec<&'a Destination>) -> bool {
        if !self.matchers.matches(labels) {
            return false;
        }
        let before = into.len();
        for child in &self.children {
            if child.collect(labels, into) && !child.continues {
                break;
            }
        }
        if into.len() == before {
            into.push(&self.destination);
        }
        true
    }

    pub(super) fn has_times(&self) -> bool {
        !(self.destination.mute_intervals.is_empty() && self.destination.active_intervals.is_empty())
            || self.children.iter().any(Self::has_times)
    }

    /// `inherited` carries the parent's settings and this node's path.
    fn build(written: WrittenRoute, inherited: Destination, known: &Known<'_>, depth: usize) -> Result<Self, BadFile> {
        let path = inherited.path.clone();
        if depth >= MAX_DEPTH {
            return Err(fault(&path, "routes are nested too deeply", "flatten the tree"));
        }
        let matchers = side(&written.r#match, &written.match_re, &written.matchers)
            .map_err(|error| fault(&path, &error.to_string(), "mend the matcher"))?;
        let group_by = group_by(written.group_by, &path)?;
        let wait = |text: Option<String>, key, parent| match text {
            Some(text) => duration(&text).ok_or_else(|| {
                fault(&format!("{path}.{key}"), &format!("{text:?} is no duration"), "write it as 5m or 1h30m")
            }),
            None => Ok(parent),
        };
        let destination = Destination {
            receiver: written.receiver.filter(|name| !name.is_empty()).unwrap_or(inherited.receiver),
            group_by: group_by.unwrap_or(inherited.group_by),
            group_wait: wait(written.group_wait, "group_wait", inherited.group_wait)?,
            group_interval: wait(written.group_interval, "group_interval", inherited.group_interval)?,
            repeat_interval: wait(written.repeat_interval, "repeat_interval", inherited.repeat_interval)?,
            mute_intervals: written.mute_time_intervals,
            active_intervals: written.active_time_intervals,
            owner: owner(&matchers).or(inherited.owner),
            path,
        };
        known.check(&destination)?;
        let mut children = vec![];
        for (at, child) in written.routes.into_iter().enumerate() {
            let path = format!("{}.routes[{at}]", destination.path);
            children.push(Self::build(child, Destination { path, ..destination.clone() }, known, depth + 1)?);
        }
        Ok(Self { matchers, continues: written.r#continue, destination, children })
    }
}

/// Names that the file defines.
struct Known<'a> {
    receivers: Option<&'a HashSet<String>>,
    intervals: &'a HashSet<String>,
}

impl Known<'_> {
    fn check(&self, destination: &Destination) -> Result<(), BadFile> {
        if self.receivers.is_some_and(|names| !names.contains(&destination.receiver)) {
            let problem = format!("receiver {:?} is not defined", destination.receiver);
            return Err(fault(&destination.path, &problem, "add it under `receivers`"));
        }
        let mut named = destination.mute_intervals.iter().chain(&destination.active_intervals);
        if let Some(name) = named.find(|name| !self.intervals.contains(*name)) {
            let problem = format!("time interval {name:?} is not defined");
            return Err(fault(&destination.path, &problem, "add it under `time_intervals`"));
        }
        if destination.group_interval.is_zero() || destination.repeat_interval.is_zero() {
            let problem = "`group_interval` or `repeat_interval` is zero";
            return Err(fault(&destination.path, problem, "give a time such as 5m"));
        }
        Ok(())
    }
}

/// `None` inherits; an empty list does too, as in Alertmanager.
fn group_by(written: Vec<String>, path: &str) -> Result<Option<GroupBy>, BadFile> {
    let path = format!("{path}.group_by");
    let all = written.iter().any(|name| name == "...");
    match (all, written.len()) {
        (_, 0) => return Ok(None),
        (true, 1) => return Ok(Some(GroupBy::All)),
        (true, _) => return Err(fault(&path, "`...` stands beside labels", "keep one or the other")),
        (false, _) => {}
    }
    let mut seen = HashSet::new();
    match written.iter().find(|name| name.is_empty() || !seen.insert(name.as_str())) {
        Some(name) => Err(fault(&path, &format!("label {name:?} is empty or repeated"), "name each label once")),
        None => Ok(Some(GroupBy::Labels(written))),
    }
}

fn owner(matchers: &Matchers) -> Option<String> {
    ["team", "owner"].iter().find_map(|label| {
        let names = |matcher: &&super::super::matcher::Matcher| matcher.op() == Op::Equal && matcher.name() == *label;
        matchers.iter().find(names).map(|matcher| matcher.value().to_owned())
    })
}

/// Prometheus durations: units from years to milliseconds, each at most once and in that order.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut next, mut millis) = (text, 0, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, unit) = rest.split_at(digits);
        let letters = unit.find(|letter: char| letter.is_ascii_digit()).unwrap_or(unit.len());
        let at = UNITS.iter().position(|(name, _)| *name == &unit[..letters]).filter(|at| *at >= next)?;
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(UNITS[at].1)?)?;
        next = at + 1;
        rest = &unit[letters..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

fn fault(path: &str, problem: &str, remedy: &'static str) -> BadFile {
    BadFile::Route { path: path.into(), problem: problem.into(), remedy }
}
