//! The pure heart: no I/O, no clock, no randomness. Time and ids arrive as arguments.

pub mod action;
pub mod alert;
pub mod card;
pub mod change;
pub mod diagnosis;
pub mod evidence;
pub mod id;
pub mod investigation;
pub mod judge;
pub mod redact;
pub mod root_cause;
pub mod time;
pub mod topology;
