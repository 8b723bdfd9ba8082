//! What is unusual: an Isolation Forest over rows, robust baselines over values.
//!
//! Invariants: the same rows and seed give the same forest; a score depends on the row and the
//! forest alone, so that scoring one row and scoring a batch agree to the last bit.

mod audit;
mod baseline;
mod binomial;
mod calibration;
mod forest;
mod grow;
mod matrix;
mod random;

pub use audit::{Audit, AuditEstimate, AuditRules, AuditSoFar};
pub use baseline::{Baseline, quantile};
pub use binomial::upper_limit;
pub use calibration::{Bound, Calibration, Labelled, Seen, Setting};
pub use forest::{IsolationForest, SUBSAMPLE, TREES};
pub use matrix::Matrix;
pub use random::SplitMix;
