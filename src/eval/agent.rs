//! Scenarios with a known cause: does the watch find it, prove it, propose the right thing?
//!
//! What is scored is what the product recorded of itself (diagnosis, evidence, plans). The world's
//! faults are read by its physics only; the right answers stand in `scenario.yaml` and nowhere else.

mod report;
mod scenario;
mod scoring;

pub use report::{Case, Report};
pub use scenario::{Answer, Expect, ExpectedCause, RulesWord, Scenario, load};
pub use scoring::{Observed, ObservedIncident, Score, score};
