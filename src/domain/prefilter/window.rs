//! A sliding window of rows and the forest that is fitted on it.
//!
//! Invariants: a storm cannot fill the window, because each minute of event time teaches a few rows
//! only; a forest is fitted at most once in `REFRESH`, and once in a share of its rows, so that judging
//! does not wait for it.

use std::time::Duration;

use super::past::{Row, WIDTH};
use crate::domain::anomaly::{IsolationForest, Matrix};
use crate::domain::time::Timestamp;

/// Rows that one minute may teach.
const PER_MINUTE: u32 = 32;
const REFRESH: Duration = Duration::from_secs(600);
/// One row in so many must be new: less hardly changes a forest, and past alerts may be told faster than
/// they once came.
const RENEWED: usize = 32;

#[derive(Debug)]
pub(super) struct Window {
    rows: Vec<Row>,
    /// Rows that are kept; the oldest is overwritten.
    capacity: usize,
    next: usize,
    /// The minute of the newest row, and how many rows it has taught.
    minute: (i64, u32),
    fresh: usize,
    fitted_at: Timestamp,
    forest: Option<IsolationForest>,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            rows: vec![],
            capacity,
            next: 0,
            minute: (i64::MIN, 0),
            fresh: 0,
            fitted_at: Timestamp::default(),
            forest: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// `None` before `learn` has seen enough rows.
    pub(super) fn score(&self, row: &Row) -> Option<f64> {
        Some(self.forest.as_ref()?.score(row))
    }

    /// `wanted` rows make the first forest.
    pub(super) fn learn(&mut self, row: &Row, event_at: Timestamp, wanted: usize, seed: u64) {
        let minute = event_at.millis().div_euclid(60_000);
        if minute != self.minute.0 {
            self.minute = (minute, 0);
        }
        if self.minute.1 >= PER_MINUTE {
            return;
        }
        self.minute.1 += 1;
        if self.rows.len() < self.capacity {
            self.rows.push(*row);
        } else {
            self.rows[self.next] = *row;
            self.next = (self.next + 1) % self.capacity;
        }
        self.fresh += 1;
        let enough = self.fresh >= (self.rows.len() / RENEWED).max(16);
        let due = self.forest.is_none() || (event_at.since(self.fitted_at) >= REFRESH && enough);
        if due && self.rows.len() >= wanted.clamp(2, self.capacity) {
            let rows = Matrix::new(self.rows.as_flattened(), WIDTH);
            self.forest = rows.and_then(|rows| IsolationForest::fit_matrix(rows, seed));
            self.fitted_at = event_at;
            self.fresh = 0;
        }
    }
}
