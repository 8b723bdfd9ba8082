//! From raw series of arbitrary metrics to readings, one for each node and family of metrics.
//!
//! The product asks for signals that it knows; here nothing is known but names and numbers. What a
//! metric means comes from its name, what is usual from the time before the incident and from the
//! other nodes that have the same metric. The order of nodes, metrics and rows changes nothing, nor
//! does the unit of a metric.

use std::collections::{BTreeMap, BTreeSet};

use super::level::{Floor, Level, UNUSUAL, excursion};
use super::metric::{Direction, Family, Meaning, Side};
use super::{Complaint, Reading, SignalClass};
use crate::domain::anomaly::{Baseline, quantile};
use crate::domain::time::Timestamp;

/// One metric of one node over time, in any order; several values of one instant (replicas) are
/// averaged, values that are no numbers are gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    pub node: String,
    pub metric: String,
    pub points: Vec<(Timestamp, f64)>,
}

/// Both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Span {
    fn contains(self, at: Timestamp) -> bool {
        self.start <= at && at <= self.end
    }
}

/// Where no node's past ever moved, one hundredth of the largest movement of that metric is a step.
const STEP: f64 = 0.01;
/// Beyond this a deviation says nothing more.
const MOST: f64 = 40.0;
/// Fewer common instants say nothing about whether two series move together.
const COMMON: usize = 6;
/// A node that always reported and falls silent is as unusual as this many thresholds.
const SILENCE: f64 = 3.0;

/// Deviations are in units of three robust standard deviations, so that one is an anomaly.
pub fn survey(tracks: &[Track], baseline: Span, window: Span, complaint: Option<&Complaint>) -> Vec<Reading> {
    let series: Vec<Series<'_>> = tracks.iter().filter_map(|track| Series::of(track, baseline, window)).collect();
    let floors = floors(&series);
    let mut families: BTreeMap<(&str, Family, Side), Vec<Found<'_>>> = BTreeMap::new();
    for one in &series {
        let floor = floors.get(one.metric).copied().unwrap_or_default();
        if let Some(found) = Found::of(one, floor) {
            let key = (one.node, one.meaning.family, one.meaning.side);
            families.entry(key).or_default().push(found);
        }
    }
    let agreed: Vec<Found<'_>> = families.into_values().filter_map(agreed).collect();
    let suffered = complaint.and_then(|complaint| suffered(complaint, &agreed));
    let mut readings: Vec<Reading> =
        agreed.iter().map(|found| found.reading(suffered.as_ref().and_then(|theirs| theirs.alike(found)))).collect();
    readings.extend(fallen_silent(&series, window));
    readings
}

/// A track cut to the two spans, in order of time.
struct Series<'a> {
    node: &'a str,
    metric: &'a str,
    meaning: Meaning,
    past: Vec<(Timestamp, f64)>,
    window: Vec<(Timestamp, f64)>,
}

impl<'a> Series<'a> {
    fn of(track: &'a Track, baseline: Span, window: Span) -> Option<Self> {
        let meaning = Meaning::of(&track.metric);
        let mut points = in_order(&track.points);
        if meaning.counter && only_grows(&points) {
            points = rates(&points);
        }
        let cut = |span: Span| points.iter().copied().filter(|(at, _)| span.contains(*at)).collect::<Vec<_>>();
        let (past, window) = (cut(baseline), cut(window));
        let empty = past.is_empty() && window.is_empty();
        (!empty).then_some(Self { node: &track.node, metric: &track.metric, meaning, past, window })
    }
}

/// By time; values of one instant become their mean.
fn in_order(points: &[(Timestamp, f64)]) -> Vec<(Timestamp, f64)> {
    let mut points: Vec<(Timestamp, f64)> = points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    points.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    points
        .chunk_by(|one, other| one.0 == other.0)
        .map(|same| (same[0].0, same.iter().map(|(_, value)| value).sum::<f64>() / same.len() as f64))
        .collect()
}

/// A counter: it grows, and what falls was a restart from near zero.
fn only_grows(points: &[(Timestamp, f64)]) -> bool {
    let steps = || points.windows(2).map(|pair| (pair[0].1, pair[1].1));
    let grown = steps().filter(|(before, after)| after > before).count();
    points.len() >= 6
        && grown * 2 >= points.len()
        && steps().all(|(before, after)| after >= before || after < before / 2.0)
}

/// Growth a second since the value before, at the later instant; a restart counts from zero.
fn rates(points: &[(Timestamp, f64)]) -> Vec<(Timestamp, f64)> {
    points
        .windows(2)
        .map(|pair| {
            let grown = if pair[1].1 >= pair[0].1 { pair[1].1 - pair[0].1 } else { pair[1].1 };
            (pair[1].0, grown / pair[1].0.since(pair[0].0).as_secs_f64().max(1e-3))
        })
        .collect()
}

fn values(points: &[(Timestamp, f64)]) -> Vec<f64> {
    points.iter().map(|(_, value)| *value).collect()
}

/// What spread is usual for each metric, over all nodes that have it.
fn floors<'a>(series: &[Series<'a>]) -> BTreeMap<&'a str, Floor> {
    let mut peers: BTreeMap<&str, (Vec<f64>, f64)> = BTreeMap::new();
    for one in series {
        let Some(level) = Level::before(&values(&one.past), Floor::default()) else { continue };
        let entry = peers.entry(one.metric).or_default();
        entry.0.push(level.spread);
        let moved = one.window.iter().map(|(_, value)| (value - level.median).abs());
        entry.1 = moved.fold(entry.1, f64::max);
    }
    peers
        .into_iter()
        .map(|(metric, (mut spreads, moved))| {
            spreads.sort_by(f64::total_cmp);
            (metric, Floor { usual: quantile(&spreads, 0.5), step: STEP * moved })
        })
        .collect()
}

/// What one series shows.
struct Found<'a> {
    series: &'a Series<'a>,
    level: Level,
    floor: Floor,
    deviations: f64,
    value: f64,
    onset: Option<Timestamp>,
}

impl<'a> Found<'a> {
    fn of(series: &'a Series<'a>, floor: Floor) -> Option<Self> {
        let level = match Level::before(&values(&series.past), floor) {
            Some(level) => level,
            // Errors that nobody counted before did not occur before.
            None if series.meaning.family == Family::Errors && series.meaning.worse == Direction::Up => {
                let most = series.window.iter().map(|(_, value)| value.abs()).fold(0.0, f64::max);
                Level { median: 0.0, spread: STEP * most, values: 0 }
            }
            None => return None,
        };
        let found = excursion(level, floor, &series.window, series.meaning.worse)?;
        Some(Self { series, level, floor, deviations: found.deviations, value: found.value, onset: found.onset })
    }

    fn deviation(&self) -> f64 {
        (self.deviations / UNUSUAL).clamp(0.0, MOST)
    }

    fn reading(&self, alike: Option<f64>) -> Reading {
        let past = Baseline::of(self.series.past.iter().map(|(_, value)| *value));
        let level = self.level;
        Reading {
            node: self.series.node.to_owned(),
            signal: self.series.metric.to_owned(),
            class: self.series.meaning.class(),
            unit: String::new(),
            baseline: Baseline {
                median: level.median,
                spread: level.spread,
                low: past.map_or(level.median, |past| past.low),
                high: past.map_or(level.median, |past| past.high),
                samples: self.series.past.len(),
            },
            worst: self.value,
            deviation: self.deviation(),
            onset: self.onset.filter(|_| self.deviations >= UNUSUAL),
            alike,
            evidence: None,
        }
    }

    /// Robust deviations over both spans, dampened: one wild value must not decide alone.
    fn course(&self) -> impl Iterator<Item = (Timestamp, f64)> + '_ {
        let scale = self.level.scale(self.floor);
        let dampened = move |value: f64| {
            let deviation = if scale > 0.0 { (value - self.level.median) / scale } else { 0.0 };
            match self.series.meaning.worse {
                Direction::Up => deviation.signum() * deviation.abs().ln_1p(),
                Direction::Down => -deviation.signum() * deviation.abs().ln_1p(),
                Direction::Either => deviation.abs().ln_1p(),
            }
        };
        self.series.past.iter().chain(&self.series.window).map(move |(at, value)| (*at, dampened(*value)))
    }
}

/// What a third of the metrics of one family reach, the third strongest at most. A family of
/// hundreds always has one that is far out by chance.
fn agreed(mut found: Vec<Found<'_>>) -> Option<Found<'_>> {
    found.sort_by(|one, other| {
        other.deviations.total_cmp(&one.deviations).then_with(|| one.series.metric.cmp(other.series.metric))
    });
    let at = (found.len() / 3).min(2);
    found.into_iter().nth(at)
}

/// What the symptom's node suffers, over time.
struct Suffered(BTreeMap<i64, (f64, u32)>, f64);

fn suffered(complaint: &Complaint, agreed: &[Found<'_>]) -> Option<Suffered> {
    let wanted = complaint.signal.as_deref().map(Meaning::of);
    let theirs = agreed
        .iter()
        .filter(|found| found.series.node == complaint.node && found.deviations >= UNUSUAL)
        .filter(|found| match wanted {
            Some(wanted) => found.series.meaning.family == wanted.family && found.series.meaning.side == wanted.side,
            None => found.series.meaning.class() == SignalClass::Symptom,
        })
        .max_by(|one, other| one.deviations.total_cmp(&other.deviations))?;
    let course: Vec<(Timestamp, f64)> = theirs.course().collect();
    let mut steps: Vec<f64> = course.windows(2).map(|pair| pair[1].0.since(pair[0].0).as_secs_f64()).collect();
    steps.sort_by(f64::total_cmp);
    let step = if steps.is_empty() { return None } else { quantile(&steps, 0.5).max(1e-3) };
    Some(Suffered(in_steps(course.into_iter(), step), step))
}

/// Sum and number of values in each step of time; nodes are not scraped at the same instants.
fn in_steps(course: impl Iterator<Item = (Timestamp, f64)>, step: f64) -> BTreeMap<i64, (f64, u32)> {
    let mut steps: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
    for (at, value) in course {
        let entry = steps.entry((at.secs_f64() / step).floor() as i64).or_default();
        *entry = (entry.0 + value, entry.1 + 1);
    }
    steps
}

impl Suffered {
    /// Pearson's correlation over common steps of time, 0 where they move apart.
    fn alike(&self, found: &Found<'_>) -> Option<f64> {
        let theirs = in_steps(found.course(), self.1);
        let pairs: Vec<(f64, f64)> = theirs
            .iter()
            .filter_map(|(at, (sum, count))| {
                let (ours, times) = self.0.get(at)?;
                Some((ours / f64::from(*times), sum / f64::from(*count)))
            })
            .collect();
        if pairs.len() < COMMON {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for (one, other) in &pairs {
            xx += (one - x) * (one - x);
            yy += (other - y) * (other - y);
            xy += (one - x) * (other - y);
        }
        if xx <= 0.0 || yy <= 0.0 { Some(0.0) } else { Some((xy / (xx * yy).sqrt()).max(0.0)) }
    }
}

/// Nodes of which everything was measured all the time and nothing is any more.
fn fallen_silent<'a>(series: &'a [Series<'a>], window: Span) -> impl Iterator<Item = Reading> + 'a {
    let speaks: BTreeSet<&str> = series.iter().filter(|one| !one.window.is_empty()).map(|one| one.node).collect();
    let mut spoke: BTreeMap<&str, usize> = BTreeMap::new();
    for one in series {
        let most = spoke.entry(one.node).or_default();
        *most = (*most).max(one.past.len());
    }
    let usual = spoke.values().copied().max().unwrap_or(0);
    let heard = !speaks.is_empty();
    spoke
        .into_iter()
        .filter(move |(node, past)| heard && !speaks.contains(node) && *past >= 3 && past * 5 >= usual * 4)
        .map(move |(node, past)| Reading {
            node: node.to_owned(),
            signal: "telemetry".into(),
            class: SignalClass::Health,
            unit: "values".into(),
            baseline: Baseline { median: past as f64, spread: 0.0, low: past as f64, high: past as f64, samples: past },
            worst: 0.0,
            deviation: SILENCE,
            onset: Some(window.start),
            alike: None,
            evidence: None,
        })
}
