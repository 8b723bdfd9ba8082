//! The pure heart: no I/O, no clock, no randomness. Time and ids arrive as arguments.

pub mod alert;
pub mod card;
pub mod id;
pub mod time;
