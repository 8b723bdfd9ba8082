//! What is known of an alert's family (its name) and of its series (its name about one subject), and
//! the row of numbers that the forest reads.
//!
//! Invariants: nothing is allocated for an alert of a series that is known; all memory is bounded,
//! and what has been silent for longest is forgotten first. Keys are 64-bit hashes: among 200,000
//! series two share one with a probability of 1e-9, and then share their baselines.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHasher};

use super::verdict::Facts;
use super::window::Window;
use crate::domain::alert::Reading;
use crate::domain::series::{Detector, Distances, Reason};
use crate::domain::time::Timestamp;

pub(super) const WIDTH: usize = 17;
pub(super) type Row = [f64; WIDTH];

pub(super) const RATE_WINDOW: Duration = Duration::from_secs(300);
const MAX_SERIES: usize = 200_000;
const MAX_NAMES: usize = 20_000;
const MAX_SERVICES: usize = 50_000;
/// A detector keeps a month of one series: 32 KiB.
const MAX_DETECTORS: usize = 1_024;
/// A forest is 300 KiB, its window of rows 136 KiB.
const MAX_FORESTS: usize = 48;
const FAMILY_ROWS: usize = 1_024;
const ALL_ROWS: usize = 4_096;
/// Firings of a name before it gets rows of its own.
const FAMILY_FROM: u64 = 32;
/// A family that was silent for so long gives its forest to another.
const FAMILY_IDLE: Duration = Duration::from_secs(3 * 3_600);
/// Values before a series gets a detector.
const EARLY: usize = 3;
/// Longer than this is as rare as anything.
const LONG_AGO: Duration = Duration::from_secs(48 * 3_600);

/// Where an alert belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    name: u64,
    series: u64,
}

impl Place {
    pub(super) fn of(alert: &Reading<'_>) -> Self {
        let subject = alert.subject().unwrap_or_default();
        Self { name: hash(alert.name()), series: hash((alert.cluster(), alert.namespace(), subject)) }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Alerts within about `RATE_WINDOW`, decaying instead of sliding: two numbers whatever the rate.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    level: f64,
    at: Timestamp,
}

impl Rate {
    fn count(&mut self, at: Timestamp) -> f64 {
        let elapsed = at.since(self.at);
        if !elapsed.is_zero() {
            self.level *= (-elapsed.as_secs_f64() / RATE_WINDOW.as_secs_f64()).exp();
            self.at = at;
        }
        self.level += 1.0;
        self.level
    }
}

#[derive(Debug, Default)]
struct Name {
    rate: Rate,
    firings: u64,
    window: Option<Window>,
}

#[derive(Debug, Default)]
struct Series {
    firings: u32,
    last_start: Timestamp,
    /// Fingerprints that fire now: how many pods or instances are affected.
    firing: u32,
    /// Mean of ln(1 + minutes) of its firings, the newest weighing a quarter.
    duration: Option<f64>,
    early: [(i64, f64); EARLY],
    values: usize,
    detector: Option<Box<Detector>>,
}

#[derive(Debug)]
pub(super) struct Past {
    names: FxHashMap<u64, Name>,
    series: FxHashMap<Place, Series>,
    services: FxHashMap<u64, Rate>,
    all: Window,
    rate: Rate,
    firings: u64,
    detectors: usize,
    forests: usize,
}

impl Past {
    pub(super) fn new() -> Self {
        Self {
            names: FxHashMap::default(),
            series: FxHashMap::default(),
            services: FxHashMap::default(),
            all: Window::new(ALL_ROWS),
            rate: Rate::default(),
            firings: 0,
            detectors: 0,
            forests: 0,
        }
    }

    /// Rows that the forest of all alerts was taught.
    pub(super) fn rows(&self) -> usize {
        self.all.len()
    }

    /// A firing has begun: its row against the past, which it then belongs to.
    pub(super) fn begin(&mut self, place: Place, value: Option<f64>, event_at: Timestamp) -> (Row, Facts) {
        self.make_room();
        let near = self.rate.count(event_at);
        self.firings += 1;
        let name = self.names.entry(place.name).or_default();
        let of_name = name.rate.count(event_at);
        name.firings += 1;
        let rarity = ((self.firings + 1) as f64 / name.firings as f64).ln();
        let of_service = self.services.entry(place.series).or_default().count(event_at);

        let series = self.series.entry(place).or_default();
        let (distances, reason, grown) = series.read(value, event_at);
        self.detectors += usize::from(grown);
        let gap = if series.firings == 0 { LONG_AGO } else { event_at.since(series.last_start).min(LONG_AGO) };
        let facts = Facts { seen_before: series.firings, value: reason, near, window: RATE_WINDOW };
        let (hour, weekend) = calendar(event_at);
        // What is not known is NaN: to the forest it counts as the median.
        let known = |distance: Option<f64>| distance.unwrap_or(f64::NAN);
        let row = [
            known(distances.usual),
            known(distances.yesterday),
            known(distances.last_week),
            known(distances.recent),
            known(distances.fence),
            distances.drift,
            f64::from(series.firings).ln_1p(),
            minutes(gap).ln_1p(),
            near.ln_1p(),
            of_name.ln_1p(),
            of_service.ln_1p(),
            rarity,
            f64::from(series.firing).ln_1p(),
            known(series.duration),
            hour.sin(),
            hour.cos(),
            weekend,
        ];
        series.firings = series.firings.saturating_add(1);
        series.firing = series.firing.saturating_add(1);
        series.last_start = series.last_start.max(event_at);
        (row, facts)
    }

    /// A firing has ended.
    pub(super) fn end(&mut self, place: Place, lasted: Duration) {
        if let Some(series) = self.series.get_mut(&place) {
            series.firing = series.firing.saturating_sub(1);
            let newest = minutes(lasted).ln_1p();
            series.duration = Some(series.duration.map_or(newest, |mean| mean + (newest - mean) / 4.0));
        }
    }

    /// A firing goes on at another value: the row that it was judged by, with that value against its
    /// baselines. It teaches nothing; `None` while there are none.
    pub(super) fn moved(&self, place: Place, row: &Row, value: f64, event_at: Timestamp) -> Option<(Row, Facts)> {
        let series = self.series.get(&place)?;
        let mut detector = series.detector.clone()?;
        let verdict = detector.observe(event_at.millis().div_euclid(1_000), &[value]);
        let mut row = *row;
        let known = |distance: Option<f64>| distance.unwrap_or(f64::NAN);
        let Distances { usual, yesterday, last_week, recent, fence, drift } = verdict.distances;
        row[..6].copy_from_slice(&[
            known(usual),
            known(yesterday),
            known(last_week),
            known(recent),
            known(fence),
            drift,
        ]);
        let (seen_before, near) = (series.firings.saturating_sub(1), self.rate.level);
        Some((row, Facts { seen_before, value: verdict.reason, near, window: RATE_WINDOW }))
    }

    /// How long its firings last, when any has ended.
    pub(super) fn usual_length(&self, place: Place) -> Option<Duration> {
        let minutes = self.series.get(&place)?.duration?.exp_m1();
        Some(Duration::from_secs_f64(minutes * 60.0))
    }

    /// By the forest of its family, or by that of all alerts until the family has one.
    pub(super) fn score(&self, place: Place, row: &Row) -> Option<f64> {
        let own = self.names.get(&place.name).and_then(|name| name.window.as_ref()?.score(row));
        own.or_else(|| self.all.score(row))
    }

    pub(super) fn learn(&mut self, place: Place, row: &Row, event_at: Timestamp, wanted: usize, seed: u64) {
        self.all.learn(row, event_at, wanted, seed);
        let Some(name) = self.names.get_mut(&place.name) else { return };
        if name.window.is_none() && name.firings >= FAMILY_FROM && self.forests < MAX_FORESTS {
            name.window = Some(Window::new(FAMILY_ROWS));
            self.forests += 1;
        }
        if let Some(window) = &mut name.window {
            window.learn(row, event_at, wanted, seed);
        } else if name.firings.is_multiple_of(FAMILY_FROM) && self.forests >= MAX_FORESTS {
            self.free_a_forest(event_at);
        }
    }

    /// The forest of the family that was silent for longest, if that is long.
    fn free_a_forest(&mut self, event_at: Timestamp) {
        let with_forest = self.names.values_mut().filter(|name| name.window.is_some());
        if let Some(idlest) = with_forest.min_by_key(|name| name.rate.at)
            && event_at.since(idlest.rate.at) >= FAMILY_IDLE
        {
            idlest.window = None;
            self.forests -= 1;
        }
    }

    /// Forgets the half that was silent for longest of whatever has grown too large.
    fn make_room(&mut self) {
        if self.detectors > MAX_DETECTORS {
            let ages = self.series.values().filter(|series| series.detector.is_some()).map(|it| it.last_start);
            let cut = middle(ages.collect());
            for series in self.series.values_mut().filter(|series| series.last_start <= cut) {
                // It begins again with its next values.
                series.detector = None;
                series.values = 0;
            }
            self.detectors = self.series.values().filter(|series| series.detector.is_some()).count();
        }
        if self.series.len() > MAX_SERIES {
            let cut = middle(self.series.values().map(|series| series.last_start).collect());
            self.series.retain(|_, series| series.last_start > cut);
            self.detectors = self.series.values().filter(|series| series.detector.is_some()).count();
        }
        if self.names.len() > MAX_NAMES {
            let cut = middle(self.names.values().map(|name| name.rate.at).collect());
            self.names.retain(|_, name| name.rate.at > cut);
            self.forests = self.names.values().filter(|name| name.window.is_some()).count();
        }
        if self.services.len() > MAX_SERVICES {
            let cut = middle(self.services.values().map(|rate| rate.at).collect());
            self.services.retain(|_, rate| rate.at > cut);
        }
    }
}

impl Series {
    /// The value against the series' baselines; and whether it got a detector now.
    fn read(&mut self, value: Option<f64>, event_at: Timestamp) -> (Distances, Option<Reason>, bool) {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return (Distances::default(), None, false);
        };
        let at = event_at.millis().div_euclid(1_000);
        if self.values < EARLY {
            self.early[self.values] = (at, value);
            self.values += 1;
            return (Distances::default(), None, false);
        }
        let grown = self.detector.is_none();
        let early = self.early;
        let detector = self.detector.get_or_insert_with(|| {
            let mut detector = Box::new(Detector::new(1));
            for (at, value) in early {
                detector.learn(at, &[value]);
            }
            detector
        });
        let verdict = detector.observe(at, &[value]);
        (verdict.distances, verdict.reason, grown)
    }
}

fn middle(mut ages: Vec<Timestamp>) -> Timestamp {
    let half = ages.len() / 2;
    if ages.is_empty() { Timestamp::default() } else { *ages.select_nth_unstable(half).1 }
}

fn minutes(span: Duration) -> f64 {
    span.as_secs_f64() / 60.0
}

/// The hour as an angle, and 1 at the weekend.
fn calendar(at: Timestamp) -> (f64, f64) {
    let seconds = at.millis().div_euclid(1_000);
    let angle = seconds.rem_euclid(86_400) as f64 / 86_400.0 * std::f64::consts::TAU;
    // 1970-01-01 was a Thursday; 0 is Monday here.
    let weekday = (seconds.div_euclid(86_400) + 3).rem_euclid(7);
    (angle, if weekday >= 5 { 1.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::{Alert, Labels};

    fn alert(name: &str, service: &str) -> Alert {
        let labels = Labels::from([("alertname".into(), name.into()), ("service".into(), service.into())]);
        Alert::firing(labels, Timestamp::default())
    }

    fn place(name: &str, service: &str) -> Place {
        Place::of(&Reading::of(&alert(name, service)))
    }

    #[test]
    fn the_same_value_is_usual_at_noon_and_not_at_two_in_the_night() {
        let (mut past, at) = (Past::new(), place("SlowAnswers", "pay"));
        let hour = |day: i64, hour: i64| Timestamp::from_secs(day * 86_400 + hour * 3_600);
        for day in 0..14 {
            for clock in 0..24 {
                let busy = (8..20).contains(&clock);
                past.begin(at, Some(if busy { 0.200 } else { 0.020 } + 0.001 * (clock % 3) as f64), hour(day, clock));
            }
        }
        let (night, said) = past.begin(at, Some(0.200), hour(14, 2));
        let (noon, _) = past.begin(at, Some(0.200), hour(14, 14));
        assert!(night[0] > 5.0 && night[1] > 5.0, "{night:?}");
        assert!(noon[0].abs() < 2.0, "{noon:?}");
        assert!(said.to_string().starts_with("seen 336 times before, value 0.2 is "), "{said}");
    }

    #[test]
    fn rates_pods_and_durations_are_columns() {
        let (mut past, at, other) = (Past::new(), place("A", "pay"), place("A", "cart"));
        let (first, _) = past.begin(at, None, Timestamp::from_secs(1_000));
        assert!(first[13].is_nan() && first[0].is_nan());
        past.begin(at, None, Timestamp::from_secs(1_000));
        past.end(at, Duration::from_secs(600));
        let (third, _) = past.begin(other, None, Timestamp::from_secs(1_000));
        let (fourth, _) = past.begin(at, None, Timestamp::from_secs(1_000));
        // All, by name and by service.
        assert_eq!([third[8], third[9], third[10]], [3.0_f64.ln_1p(), 3.0_f64.ln_1p(), 1.0_f64.ln_1p()]);
        // One pod fires still; one firing of ten minutes is known.
        assert_eq!((fourth[12], fourth[13]), (1.0_f64.ln_1p(), 10.0_f64.ln_1p()));
        let (later, _) = past.begin(at, None, Timestamp::from_secs(1_000 + 3_000));
        assert!(later[8] < 1.01_f64.ln_1p(), "{later:?}");
    }

    #[test]
    fn memory_is_bounded_by_constants_and_what_is_newest_stays() {
        let mut past = Past::new();
        let services = MAX_SERIES + 1_000;
        for number in 0..services {
            past.begin(
                Place { name: number as u64 % 50_000, series: number as u64 },
                Some(1.0),
                Timestamp::from_secs(number as i64),
            );
        }
        assert!(past.series.len() <= MAX_SERIES + 1);
        assert!(past.names.len() <= MAX_NAMES + 1 && past.services.len() <= MAX_SERVICES + 1);
        let newest = Place { name: (services as u64 - 1) % 50_000, series: services as u64 - 1 };
        assert_eq!(past.series.get(&newest).map(|series| series.firings), Some(1));
    }

    #[test]
    fn detectors_and_forests_are_bounded() {
        let mut past = Past::new();
        for round in 0..40_i64 {
            for number in 0..100_u64 {
                let (place, at) =
                    (Place { name: number, series: 0 }, Timestamp::from_secs(round * 60 + number as i64 / 2));
                let (row, _) = past.begin(place, Some(1.0), at);
                past.learn(place, &row, at, 20, 1);
            }
        }
        let held = past.names.values().filter(|name| name.window.is_some()).count();
        assert_eq!((held, past.forests), (MAX_FORESTS, MAX_FORESTS));
        for number in 0..2_000_u64 {
            for step in 0..5 {
                let at = Timestamp::from_secs(100_000 + number as i64 * 10 + step);
                past.begin(Place { name: 7, series: 1 + number }, Some(1.0), at);
            }
        }
        let held = past.series.values().filter(|series| series.detector.is_some()).count();
        assert!(held <= MAX_DETECTORS + 1 && held == past.detectors, "{held} {}", past.detectors);
    }

    #[test]
    fn a_family_is_scored_by_its_own_forest_once_it_has_one() {
        let mut past = Past::new();
        let (busy, rare) = (place("Busy", "pay"), place("Rare", "pay"));
        for minute in 0..400 {
            let at = Timestamp::from_secs(minute * 60);
            let (row, _) = past.begin(busy, None, at);
            past.learn(busy, &row, at, 100, 1);
        }
        let at = Timestamp::from_secs(400 * 60);
        let (row, _) = past.begin(rare, None, at);
        assert_eq!(past.score(rare, &row), past.all.score(&row));
        let own = past.names[&busy.name].window.as_ref().and_then(|window| window.score(&row));
        assert!(own.is_some() && past.score(busy, &row) == own);
    }
}
