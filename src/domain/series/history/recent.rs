//! The newest values of a column, one for each of its own steps.
//!
//! Five minutes suit a series that is read every five minutes. One that is read every second, or whose
//! timestamps count its rows, would have a past of a few values after a thousand rows.

use std::collections::VecDeque;

use super::SLOT;

/// What is recent, in seconds.
const RECENT: i64 = 2 * 3_600;
/// Values kept, though rows that follow faster than one a minute cover less time: enough that a dozen odd rows
/// are still odd, few enough to be sorted for every row.
const MOST: i64 = 120;
/// Steps that say how fast a series is. Later ones change nothing, so that memory and work stay bounded.
const FIRST_STEPS: usize = 16;
/// A step up to this, in seconds, is faster than slots: a little jitter of five minutes is not.
const FAST: i64 = SLOT / 2;

#[derive(Debug, Clone)]
pub(super) struct Recent {
    /// Seconds a value stands for.
    width: i64,
    /// Of values that are over.
    values: VecDeque<f32>,
    /// Of the slot that is not over; NaN for none.
    newest: f32,
    last_at: Option<i64>,
    /// Sorted, in seconds.
    steps: Vec<i64>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { width: SLOT, values: VecDeque::new(), newest: f32::NAN, last_at: None, steps: Vec::new() }
    }
}

impl Recent {
    /// Time does not run backwards; a row that is late counts as of now.
    pub(super) fn push(&mut self, at: i64, value: f64) {
        let last = self.last_at.unwrap_or(at);
        self.pace(at.saturating_sub(last));
        if self.slot(at) > self.slot(last) {
            if self.newest.is_finite() {
                self.values.push_back(self.newest);
                while self.values.len() as i64 > MOST.min(RECENT / self.width) {
                    self.values.pop_front();
                }
            }
            self.newest = f32::NAN;
        }
        if value.is_finite() {
            self.newest = value as f32;
        }
        self.last_at = Some(at.max(last));
    }

    pub(super) fn slot(&self, at: i64) -> i64 {
        at.div_euclid(self.width)
    }

    /// What was over when the slot of `at` began.
    pub(super) fn before(&self, at: i64) -> impl Iterator<Item = f32> {
        let over = self.last_at.is_some_and(|last| self.slot(at) > self.slot(last)) && self.newest.is_finite();
        self.values.iter().copied().chain(over.then_some(self.newest))
    }

    /// Rows of the same instant say nothing of the step.
    fn pace(&mut self, step: i64) {
        if step <= 0 || self.steps.len() == FIRST_STEPS {
            return;
        }
        let place = self.steps.partition_point(|known| *known < step);
        self.steps.insert(place, step);
        let median = self.steps[self.steps.len() / 2];
        self.width = if median <= FAST { median } else { SLOT };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many values are known, and the newest of them, after rows that are so far apart; the first has
    /// the value 0.
    fn check(steps: &[i64], expected: (usize, f32)) {
        let (mut recent, mut at) = (Recent::default(), 0);
        recent.push(at, 0.0);
        for (row, step) in steps.iter().enumerate() {
            at += step;
            recent.push(at, (row + 1) as f64);
        }
        let next = at + recent.width;
        let known: Vec<f32> = recent.before(next).collect();
        assert_eq!((known.len(), known.last().copied().unwrap_or(f32::NAN)), expected, "{steps:?}");
    }

    #[test]
    fn a_slot_is_as_wide_as_the_step_and_five_minutes_at_most() {
        check(&[1; 9], (10, 9.0));
        check(&[1; 300], (121, 300.0));
        check(&[60; 300], (121, 300.0));
        check(&[100; 300], (73, 300.0));
        check(&[300; 300], (25, 300.0));
        check(&[60; 5], (6, 5.0));
        check(&[300; 5], (6, 5.0));
        check(&[3_600; 5], (6, 5.0));
        // Several rows a second: the last of each.
        check(&[0, 0, 1, 0, 0, 1, 0, 0, 1], (4, 9.0));
        // A gap or a hasty row does not change what is usual.
        check(&[300, 300, 20, 280, 300, 300], (6, 6.0));
        check(&[1, 1, 1, 900, 1, 1], (7, 6.0));
    }

    #[test]
    fn the_slot_that_goes_on_is_not_past() {
        let mut recent = Recent::default();
        (0..4).for_each(|row| recent.push(row * 60, row as f64));
        assert_eq!(recent.before(200).collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
        assert_eq!(recent.before(240).collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0]);
        recent.push(240, f64::NAN);
        assert_eq!(recent.before(300).collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0]);
    }
}
