//! What one column was like: a month of it in slots, and the baselines read from there.
//!
//! A slot keeps one raw value, the last of its five minutes. A mean would be smoother than the values
//! that are compared with it and make every one of them look wild.

mod recent;

use recent::Recent;

/// Seconds a slot stands for.
pub(super) const SLOT: i64 = 300;
const DAY: i64 = 86_400 / SLOT;
const WEEK: i64 = 7 * DAY;
/// Slots kept: four weeks, 32 KiB a column.
const KEPT: i64 = 4 * WEEK;
/// Slots that there is room for at first: most series of alerts are short.
const FEW: i64 = 16;
/// Slots to either side that count as the same time of day, at least: half an hour.
const AROUND: i64 = 6;
/// Fewer values than these make no baseline.
const ENOUGH: usize = 4;
/// Of single values a few more are wanted: their spread is taken for what one day differs from the next.
const MINUTES_ENOUGH: f64 = 6.0;
/// Weight, in values, of the time of day when this weekday's is shrunk towards it: half once three
/// weeks of five-minute values are known.
const SHRINK_TO_DAYS: f64 = 39.0;
/// Share of the median that a spread has at least: less does not matter, however steady the series.
const FLOOR: f64 = 0.05;
/// Weight, in values, of the recent level when the time of day is shrunk towards it.
const SHRINK_TO_RECENT: f64 = 6.0;
/// Median absolute deviation to standard deviation, for normal data (1 / Φ⁻¹(3/4)).
const MAD_TO_SIGMA: f64 = 1.4826;
/// Distance from the tenth to the ninetieth percentile in standard deviations, for normal data.
const DECILES_TO_SIGMA: f64 = 1.0 / 2.5631;

/// What is normal: a level and a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Baseline {
    median: f64,
    spread: f64,
    quartiles: (f64, f64),
    /// How many values it rests on.
    values: f64,
}

impl Baseline {
    /// `None` for too few values. Sorts them.
    fn of(values: &mut [f32]) -> Option<Self> {
        if values.len() < ENOUGH {
            return None;
        }
        values.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| f64::from(values[((values.len() - 1) as f64 * share).round() as usize]);
        let (median, deciles) = (at(0.5), at(0.9) - at(0.1));
        let mad = half_width(values, median);
        // Half of the decile range: a series that mostly stands still has no median deviation, but
        // what it does in a tenth of the time is no news either.
        let spread = (mad * MAD_TO_SIGMA).max(deciles * DECILES_TO_SIGMA / 2.0);
        Some(Self {
            median,
            spread: spread.max(FLOOR * median.abs()),
            quartiles: (at(0.25), at(0.75)),
            values: values.len() as f64,
        })
    }

    /// Signed distance of a value from the median, in spreads; infinite from a series that was always
    /// 0 to anything else.
    pub(super) fn deviation(&self, value: f64) -> f64 {
        (value - self.median) / self.spread.max(f64::MIN_POSITIVE)
    }

    /// Signed distance to the nearer quartile in interquartile ranges, 0 between them. A range is as
    /// wide as the floor of the spread at least, so that a series that stood still has one.
    pub(super) fn outside_quartiles(&self, value: f64) -> f64 {
        let (low, high) = self.quartiles;
        let outside = (value - high).max(0.0) + (value - low).min(0.0);
        if outside == 0.0 { 0.0 } else { outside / (high - low).max(FLOOR * self.median.abs()).max(f64::MIN_POSITIVE) }
    }

    /// Three spreads to either side.
    pub(super) fn expected(&self) -> (f64, f64) {
        (self.median - 3.0 * self.spread, self.median + 3.0 * self.spread)
    }

    /// The fewer values it rests on, the more it leans on the wider baseline (Efron and Morris 1975).
    fn shrunk_to(self, wider: Option<Self>, wider_weight: f64) -> Self {
        let Some(wider) = wider else { return self };
        let own = self.values / (self.values + wider_weight);
        let blend = |a: f64, b: f64| own * a + (1.0 - own) * b;
        Self { median: blend(self.median, wider.median), spread: blend(self.spread, wider.spread), ..self }
    }
}

/// Median distance of sorted values to their median: two fingers move out from it until they hold
/// half of the values.
fn half_width(sorted: &[f32], median: f64) -> f64 {
    let wanted = sorted.len().div_ceil(2);
    let middle = sorted.partition_point(|value| f64::from(*value) < median);
    let (mut below, mut above, mut distance) = (middle, middle, 0.0);
    while above - below < wanted {
        let left = if below > 0 { median - f64::from(sorted[below - 1]) } else { f64::INFINITY };
        let right = if above < sorted.len() { f64::from(sorted[above]) - median } else { f64::INFINITY };
        if left < right {
            below -= 1;
            distance = left;
        } else {
            above += 1;
            distance = right;
        }
    }
    distance
}

/// All that a value is compared with; what is not known yet is absent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Baselines {
    pub(super) usual: Option<Baseline>,
    pub(super) minute: Option<Baseline>,
    pub(super) yesterday: Option<Baseline>,
    pub(super) last_week: Option<Baseline>,
    pub(super) recent: Option<Baseline>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// The value of slot `s` at `s` modulo the length; NaN for none. Empty until the first value, and as
    /// long as what it spans, up to `KEPT`: a series of a few values must not cost a month.
    slots: Vec<f32>,
    /// The slot of the first value.
    first: i64,
    /// The newest slot.
    head: i64,
    recent: Recent,
    scratch: Vec<f32>,
    /// Seasons change from slot to slot, not from row to row.
    seasons: Option<(i64, Seasons)>,
    /// Of the slot and the recent slot.
    cached: Option<((i64, i64), Baselines)>,
}

/// The same time on other days, as it was.
#[derive(Debug, Clone, Copy)]
struct Seasons {
    days: Option<Baseline>,
    weekdays: Option<Baseline>,
    /// The same five minutes of the last days, nothing around them: what a job does at each full hour.
    minute: Option<Baseline>,
    yesterday: Option<Baseline>,
    last_week: Option<Baseline>,
}

impl History {
    /// Time does not run backwards; a row that is late counts as of now.
    pub(super) fn push(&mut self, at: i64, value: f64) {
        self.recent.push(at, value);
        let slot = at.div_euclid(SLOT);
        if self.slots.is_empty() {
            self.slots = vec![f32::NAN; FEW as usize];
            (self.first, self.head) = (slot, slot);
        }
        if slot > self.head {
            self.make_room(slot);
            for skipped in (self.head + 1).max(slot - self.room() + 1)..=slot {
                let at = self.index(skipped);
                self.slots[at] = f32::NAN;
            }
            self.head = slot;
        }
        if value.is_finite() {
            let at = self.index(self.head);
            self.slots[at] = value as f32;
        }
    }

    /// What is known about `at` before its own slot began. `step` is the distance of rows in seconds:
    /// rows that are far apart need a wider idea of the same time.
    pub(super) fn baselines(&mut self, at: i64, step: f64) -> Baselines {
        let slot = at.div_euclid(SLOT);
        let slots = (slot, self.recent.slot(at));
        if let Some((cached, baselines)) = self.cached
            && cached == slots
        {
            return baselines;
        }
        let Seasons { days, weekdays, minute, yesterday, last_week } = self.seasons(slot, step);
        self.scratch.clear();
        self.scratch.extend(self.recent.before(at));
        let recent = Baseline::of(&mut self.scratch);
        let days = days.map(|it| it.shrunk_to(recent, SHRINK_TO_RECENT));
        let usual = weekdays.map(|it| it.shrunk_to(days, SHRINK_TO_DAYS)).or(days);
        let baselines = Baselines { usual, minute, yesterday, last_week, recent };
        self.cached = Some((slots, baselines));
        baselines
    }

    fn seasons(&mut self, slot: i64, step: f64) -> Seasons {
        if let Some((cached, seasons)) = self.seasons
            && cached == slot
        {
            return seasons;
        }
        let around = AROUND.max((step / SLOT as f64).ceil() as i64).min(DAY / 8);
        let seasons = Seasons {
            days: self.season(slot, DAY, 7, around),
            weekdays: self.season(slot, WEEK, 3, around),
            minute: self.season(slot, DAY, 7, 0).filter(|it| it.values >= MINUTES_ENOUGH),
            yesterday: self.season(slot, DAY, 1, 2 * around),
            last_week: self.season(slot, WEEK, 1, 2 * around),
        };
        self.seasons = Some((slot, seasons));
        seasons
    }

    /// Around the same time, one to `times` periods ago.
    fn season(&mut self, slot: i64, period: i64, times: i64, around: i64) -> Option<Baseline> {
        if self.slots.is_empty() {
            return None;
        }
        self.scratch.clear();
        for time in 1..=times {
            let middle = slot - time * period;
            let from = (middle - around).max(self.head - self.room() + 1);
            for slot in from..=(middle + around).min(self.head) {
                let value = self.slots[self.index(slot)];
                if value.is_finite() {
                    self.scratch.push(value);
                }
            }
        }
        Baseline::of(&mut self.scratch)
    }

    fn room(&self) -> i64 {
        self.slots.len() as i64
    }

    fn index(&self, slot: i64) -> usize {
        slot.rem_euclid(self.room()) as usize
    }

    /// Makes the ring long enough for all from the first slot to this one, or for the newest `KEPT`.
    fn make_room(&mut self, slot: i64) {
        let (room, span) = (self.room(), slot - self.first + 1);
        if span <= room || room == KEPT {
            return;
        }
        let wider = span.max(2 * room).min(KEPT);
        let mut slots = vec![f32::NAN; wider as usize];
        for known in self.first.max(self.head - room + 1)..=self.head {
            slots[known.rem_euclid(wider) as usize] = self.slots[self.index(known)];
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_median_and_deviation() {
        let baseline = Baseline::of(&mut [1.0, 9.0, 5.0, 4.0, 6.0]).expect("five values");
        assert_eq!(baseline.median, 5.0);
        // The MAD is 1; the deciles are the ends: 8 wide.
        assert!((baseline.spread - 4.0 / 2.5631).abs() < 1e-9, "{baseline:?}");
        assert_eq!(Baseline::of(&mut [1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn between_the_quartiles_is_no_distance() {
        let baseline = Baseline::of(&mut [1.0, 2.0, 3.0, 4.0, 5.0]).expect("five values");
        for (value, expected) in [(2.0, 0.0), (4.0, 0.0), (7.0, 1.5), (-1.0, -1.5)] {
            assert_eq!(baseline.outside_quartiles(value), expected, "{value}");
        }
        let still = Baseline::of(&mut [10.0; 5]).expect("five values");
        assert_eq!(still.outside_quartiles(11.0), 2.0);
    }

    #[test]
    fn half_of_the_values_lie_within_the_half_width() {
        assert_eq!(half_width(&[1.0, 4.0, 5.0, 6.0, 9.0], 5.0), 1.0);
        assert_eq!(half_width(&[0.0; 9], 0.0), 0.0);
        assert_eq!(half_width(&[0.0, 0.0, 0.0, 8.0, 9.0], 0.0), 0.0);
    }

    #[test]
    fn what_is_four_weeks_old_is_forgotten_and_a_gap_is_not_filled() {
        let mut history = History::default();
        for slot in 0..2 * DAY {
            history.push(slot * SLOT, 7.0);
        }
        let next = 2 * DAY * SLOT;
        assert!(history.baselines(next, 300.0).yesterday.is_some());
        history.push(next + 3 * 86_400, 8.0);
        assert!(history.baselines(next + 3 * 86_400 + SLOT, 300.0).yesterday.is_none());
        history.push(next + 40 * 86_400, 9.0);
        assert_eq!(history.slots.len(), KEPT as usize);
        assert_eq!(history.slots.iter().filter(|value| value.is_finite()).count(), 1);
    }
}
