//! How often each service writes each template, kept online.
//!
//! [`Rates::observe`] takes lines as they arrive and says when one is news: a template that the
//! service never wrote, or one that it writes far more often than it used to. Rates are
//! exponentially weighted moments of the counts of whole minutes; minutes before the first line count
//! as empty, so that a template is not expected to go on as it began. What counts as far is
//! Chernoff's bound of the Poisson tail, P(X >= c) <= exp(c - m - c ln(c / m)), over the dispersion
//! as in [`super::novelty`].
//!
//! Invariants: memory is bounded by services and templates, not by lines; lines that arrive late
//! count in the current minute; the same lines give the same news.

use std::collections::{BTreeMap, HashMap};

use super::novelty::{FACTOR, FLOOR, Novelty};
use super::{ByHash, Miner, TemplateId};
use crate::domain::time::Timestamp;

/// Services whose lines are counted; beyond it the one that was silent longest is forgotten.
const MAX_SERVICES: usize = 64;
/// Length of a count; milliseconds.
const MINUTE: i64 = 60_000;
/// Weight of the newest minute: half of what is known is older than about half an hour.
const WEIGHT: f64 = 1.0 / 45.0;
/// Nothing is news of a service before it has been heard for so long, minutes, with so many lines.
const WARM_MINUTES: i64 = 15;
const WARM_LINES: u64 = 100;
/// Chance that a steady rate is told in one minute, in nats: e^-14, about one in a million.
const BAR: f64 = 14.0;
/// Why a line is news.
#[derive(Clone, PartialEq, Debug)]
pub struct News {
    pub novelty: Novelty,
    pub template: String,
    /// Lines in this minute; of a vanished template the minutes of silence.
    pub count: u32,
    /// Lines a minute before.
    pub usual: f64,
}

/// The rates of all services.
#[derive(Default)]
pub struct Rates {
    services: BTreeMap<String, Stream>,
}

/// What is known of one service.
struct Stream {
    miner: Miner,
    rates: HashMap<u32, Rate, ByHash>,
    first: i64,
    /// The current minute.
    minute: i64,
    lines: u64,
}

/// Moments of the counts of the minutes from `since` up to `known`, exclusively.
#[derive(Clone, Copy, Debug)]
struct Rate {
    mean: f64,
    square: f64,
    since: i64,
    known: i64,
    /// Lines in the minute `known`.
    count: u32,
    /// Told in the minute `known`.
    told: bool,
    /// The last minute with a line.
    seen: i64,
}

impl Rates {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `line`; `Some` if it is news. A rate is told once a minute.
    pub fn observe(&mut self, service: &str, at: Timestamp, line: &str) -> Option<News> {
        let minute = at.millis().div_euclid(MINUTE);
        if !self.services.contains_key(service) {
            if self.services.len() >= MAX_SERVICES {
                let silent = self.services.iter().min_by_key(|(_, stream)| stream.minute).map(|(name, _)| name.clone());
                silent.and_then(|name| self.services.remove(&name));
            }
            self.services.insert(service.to_owned(), Stream::new(minute));
        }
        self.services.get_mut(service)?.observe(minute, line)
    }

    /// As [`Self::vanished`], of all services.
    pub fn all_vanished(&self, at: Timestamp) -> Vec<(String, News)> {
        let minute = at.millis().div_euclid(MINUTE);
        let of_each = |(service, stream): (&String, &Stream)| {
            stream.vanished(minute).into_iter().map(|news| (service.clone(), news)).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of_each).collect()
    }

    /// Templates of `service` that should have been seen again by now, the surest first.
    pub fn vanished(&self, service: &str, at: Timestamp) -> Vec<News> {
        let minute = at.millis().div_euclid(MINUTE);
        self.services.get(service).map(|stream| stream.vanished(minute)).unwrap_or_default()
    }
}

impl Stream {
    fn new(minute: i64) -> Self {
        Self { miner: Miner::new(), rates: HashMap::default(), first: minute, minute, lines: 0 }
    }

    fn observe(&mut self, minute: i64, line: &str) -> Option<News> {
        if minute > self.minute {
            self.minute = minute;
            self.settle();
        }
        let id = self.miner.learn(line);
        self.lines += 1;
        let warm = self.minute - self.first >= WARM_MINUTES && self.lines > WARM_LINES;
        let (minute, first) = (self.minute, self.first);
        let novelty = match self.rates.get_mut(&id.0) {
            None => {
                self.rates.insert(id.0, Rate::new(first, minute));
                warm.then_some((Novelty::New, 1, 0.0))
            }
            Some(rate) => {
                *rate = rate.at(minute);
                rate.count = rate.count.saturating_add(1);
                rate.seen = minute;
                let high = warm && !rate.told && rate.is_high();
                rate.told |= high;
                high.then(|| (Novelty::MoreOften, rate.count, rate.usual()))
            }
        };
        let (novelty, count, usual) = novelty?;
        Some(News { novelty, template: self.miner.template(id)?, count, usual })
    }

    /// Once a minute: rates of merged templates are added up, those of forgotten ones dropped.
    fn settle(&mut self) {
        let mut settled: HashMap<u32, Rate, ByHash> = HashMap::default();
        let mut all: Vec<(u32, Rate)> = self.rates.drain().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        for (id, rate) in all {
            let into = self.miner.resolve(TemplateId(id));
            let rate = rate.at(self.minute);
            if !self.miner.knows(into) {
                continue;
            }
            settled
                .entry(into.0)
                .and_modify(|sum| {
                    // As if they came independently.
                    sum.square += rate.square + 2.0 * sum.mean * rate.mean;
                    sum.mean += rate.mean;
                    sum.seen = sum.seen.max(rate.seen);
                })
                .or_insert(rate);
        }
        self.rates = settled;
    }

    fn vanished(&self, minute: i64) -> Vec<News> {
        let mut gone: Vec<(f64, News)> = vec![];
        for (id, rate) in &self.rates {
            let silent = (minute - rate.seen - 1).max(0);
            let before = rate.at(minute).before(silent);
            let missed = before.usual() * silent as f64;
            let sure = missed / before.dispersion();
            if sure >= BAR
                && missed >= FLOOR as f64
                && let Some(template) = self.miner.template(TemplateId(*id))
            {
                let count = u32::try_from(silent).unwrap_or(u32::MAX);
                let usual = before.usual();
                gone.push((sure, News { novelty: Novelty::Vanished, template, count, usual }));
            }
        }
        gone.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.template.cmp(&other.1.template)));
        gone.into_iter().map(|(_, news)| news).collect()
    }
}

impl Rate {
    /// Of a template that is seen for the first time.
    fn new(since: i64, minute: i64) -> Self {
        Self { mean: 0.0, square: 0.0, since, known: minute, count: 1, told: true, seen: minute }
    }

    /// With the minutes before `minute` among what is known.
    fn at(mut self, minute: i64) -> Self {
        let passed = minute - self.known;
        if passed <= 0 {
            return self;
        }
        let count = f64::from(self.count);
        let empty = power(passed - 1);
        self.mean = (self.mean * (1.0 - WEIGHT) + WEIGHT * count) * empty;
        self.square = (self.square * (1.0 - WEIGHT) + WEIGHT * count * count) * empty;
        (self.known, self.count, self.told) = (minute, 0, false);
        self
    }

    /// As it was before the last `silent` minutes, all of them empty: those only shrink the moments, and
    /// a silence must not pass for the unsteadiness that would excuse it.
    fn before(mut self, silent: i64) -> Self {
        let left = power(silent);
        (self.mean, self.square, self.known) = (self.mean / left, self.square / left, self.known - silent);
        self
    }

    /// The share of the weights that minutes of this service have; the rest is from before it was heard.
    fn weight(&self) -> f64 {
        (1.0 - power(self.known - self.since)).max(WEIGHT)
    }

    /// Lines a minute.
    fn usual(&self) -> f64 {
        self.mean / self.weight()
    }

    /// Variance over mean; 1 for a Poisson process.
    fn dispersion(&self) -> f64 {
        let mean = self.usual();
        if mean <= 0.0 { 1.0 } else { ((self.square / self.weight() - mean * mean) / mean).max(1.0) }
    }

    fn is_high(&self) -> bool {
        let (count, usual) = (f64::from(self.count), self.usual());
        let enough = self.count as usize >= FLOOR && count >= FACTOR * usual && usual > 0.0;
        enough && count * (count / usual).ln() - (count - usual) >= BAR * self.dispersion()
    }
}

/// What is left of a moment after so many empty minutes.
fn power(minutes: i64) -> f64 {
    (1.0 - WEIGHT).powi(i32::try_from(minutes.max(0)).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests;
