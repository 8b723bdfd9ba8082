//! midwatch stands the on-call watch.

pub mod domain;
pub mod memory;
pub mod ports;
pub mod world;
