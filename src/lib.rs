//! midwatch stands the on-call watch.

pub mod adapters;
pub mod config;
pub mod console;
pub mod domain;
pub mod memory;
pub mod ports;
pub mod prompt;
pub mod store;
pub mod tools;
pub mod world;
