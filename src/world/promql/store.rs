//! Series in memory: whole seconds and values in columns, found by metric name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use promql_parser::label::{MatchOp, Matcher, Matchers};

/// A series' labels, `__name__` among them. Shared, because every answer repeats them.
pub type Labels = Arc<BTreeMap<String, String>>;
/// The label that carries the metric's name.
pub const NAME: &str = "__name__";

/// A handle that skips the look-up by labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesId(usize);

/// One series; its samples stay in time order with one value per second.
#[derive(Debug, Clone)]
pub struct StoredSeries {
    pub labels: Labels,
    times: Vec<u32>,
    values: Vec<f64>,
}

impl StoredSeries {
    /// Samples in `(after, until]`, as milliseconds and values.
    pub fn between(&self, after: i64, until: i64) -> impl Iterator<Item = (i64, f64)> + '_ {
        let from = self.times.partition_point(|t| millis(*t) <= after);
        let to = self.times.partition_point(|t| millis(*t) <= until).max(from);
        self.times[from..to].iter().map(|t| millis(*t)).zip(self.values[from..to].iter().copied())
    }

    /// The last sample at or before `at`.
    pub fn at(&self, at: i64) -> Option<(i64, f64)> {
        let i = self.times.partition_point(|t| millis(*t) <= at).checked_sub(1)?;
        Some((millis(*self.times.get(i)?), *self.values.get(i)?))
    }

    /// How many samples are held.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether the series was named but never got a sample.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    fn seen(&self, from: i64, to: i64) -> bool {
        self.at(to).is_some_and(|(t, _)| t >= from)
    }

    fn matches(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|m| m.is_match(self.labels.get(&m.name).map_or("", String::as_str)))
    }
}

fn millis(seconds: u32) -> i64 {
    i64::from(seconds) * 1000
}

/// All series of one made-up world.
#[derive(Debug, Default)]
pub struct SeriesStore {
    series: Vec<StoredSeries>,
    by_name: BTreeMap<String, Vec<usize>>,
    by_labels: HashMap<Labels, usize>,
}

impl SeriesStore {
    pub fn new() -> Self {
        Self::default()
    }

    /// The handle of the series with this name and labels, made when it is new.
    pub fn series(&mut self, name: &str, labels: &[(&str, &str)]) -> SeriesId {
        let mut map: BTreeMap<String, String> =
            labels.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        map.insert(NAME.to_owned(), name.to_owned());
        let labels = Arc::new(map);
        if let Some(i) = self.by_labels.get(&labels) {
            return SeriesId(*i);
        }
        let i = self.series.len();
        self.series.push(StoredSeries { labels: labels.clone(), times: Vec::new(), values: Vec::new() });
        self.by_name.entry(name.to_owned()).or_default().push(i);
        self.by_labels.insert(labels, i);
        SeriesId(i)
    }

    /// Adds a sample. A late one is put in its place; one for a second already held replaces it.
    /// Times outside 1970 to 2106 go to the nearer end.
    pub fn push(&mut self, id: SeriesId, at: i64, value: f64) {
        let Some(series) = self.series.get_mut(id.0) else { return };
        let at = u32::try_from(at.div_euclid(1000).max(0)).unwrap_or(u32::MAX);
        if series.times.last().is_none_or(|last| *last < at) {
            series.times.push(at);
            series.values.push(value);
            return;
        }
        match series.times.binary_search(&at) {
            Ok(i) => series.values[i] = value,
            Err(i) => {
                series.times.insert(i, at);
                series.values.insert(i, value);
            }
        }
    }

    /// `series` and `push` in one.
    pub fn append(&mut self, name: &str, labels: &[(&str, &str)], at: i64, value: f64) {
        let id = self.series(name, labels);
        self.push(id, at, value);
    }

    /// The series a selector names.
    pub fn select(&self, name: Option<&str>, matchers: &Matchers) -> Vec<&StoredSeries> {
        let named = name.or_else(|| {
            let equal = |m: &&Matcher| m.name == NAME && matches!(m.op, MatchOp::Equal);
            matchers.matchers.iter().find(equal).map(|m| m.value.as_str())
        });
        let wanted = |s: &&StoredSeries| {
            s.matches(&matchers.matchers)
                && (matchers.or_matchers.is_empty() || matchers.or_matchers.iter().any(|group| s.matches(group)))
        };
        match named {
            Some(name) => self
                .by_name
                .get(name)
                .into_iter()
                .flatten()
                .filter_map(|i| self.series.get(*i))
                .filter(wanted)
                .collect(),
            None => self.series.iter().filter(wanted).collect(),
        }
    }

    /// Every series with a sample in `[from, to]`.
    pub fn seen(&self, from: i64, to: i64) -> Vec<&StoredSeries> {
        self.series.iter().filter(|s| s.seen(from, to)).collect()
    }

    /// As `select`, but only series with a sample in `[from, to]`.
    pub fn select_seen(&self, name: Option<&str>, matchers: &Matchers, from: i64, to: i64) -> Vec<&StoredSeries> {
        let mut found = self.select(name, matchers);
        found.retain(|s| s.seen(from, to));
        found
    }

    /// Every label name in use.
    pub fn label_names(&self) -> BTreeSet<String> {
        self.series.iter().flat_map(|s| s.labels.keys().cloned()).collect()
    }

    /// Every value of one label.
    pub fn label_values(&self, label: &str) -> BTreeSet<String> {
        self.series.iter().filter_map(|s| s.labels.get(label).cloned()).collect()
    }
}
