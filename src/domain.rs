//! The pure heart: no I/O, no clock, no randomness. Time and ids arrive as arguments.

pub mod action;
pub mod alert;
pub mod anomaly;
pub mod card;
pub mod change;
pub mod correlate;
pub mod diagnosis;
pub mod evidence;
pub mod id;
pub mod incident;
pub mod intake;
pub mod intent;
pub mod investigation;
pub mod judge;
pub mod log_template;
pub mod narrative;
pub mod plan;
pub mod policy;
pub mod prefilter;
pub mod redact;
pub mod root_cause;
pub mod runbook;
pub mod series;
pub mod time;
pub mod topology;
pub mod triage;
