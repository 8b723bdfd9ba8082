//! Measures each part of the product on data in published formats; anyone can run it on their own.
//!
//! No suite knows a data set by name. `anomaly` and `triage` measure what runs in the watch; the
//! detector of `series` and the miner of `logs` are measured here first and are not wired into it yet.

pub mod agent;
pub mod agreement;
pub mod anomaly;
mod instant;
pub mod logs;
pub mod replay;
pub mod retrieval;
pub mod rootcause;
pub mod score;
pub mod series;
pub mod storm;
mod table;
pub mod telling;
pub mod triage;

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with the data that was given. The person who gave it acts.
#[derive(Debug)]
pub struct EvalError {
    pub path: PathBuf,
    /// Counted from 1, where one line is to blame.
    pub line: Option<u64>,
    pub reason: String,
}

impl EvalError {
    pub fn file(path: &Path, reason: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), line: None, reason: reason.to_string() }
    }

    pub fn line(path: &Path, line: u64, reason: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), line: Some(line), reason: reason.to_string() }
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}: line {line}: {}", self.path.display(), self.reason),
            None => write!(f, "{}: {}", self.path.display(), self.reason),
        }
    }
}

impl std::error::Error for EvalError {}

pub fn read(path: &Path) -> Result<String, EvalError> {
    std::fs::read_to_string(path).map_err(|failure| EvalError::file(path, failure))
}
