//! midwatch stands the on-call watch.
//!
//! Code map, in reading order: `domain` decides and does nothing else; `ports` says what the outside
//! is to us; `store` and `memory` keep; `tools` look; `flow` drives alerts to incidents, diagnoses,
//! plans, executions and post-mortems; `adapters` touch the world; `console` and `api` are the doors;
//! `world` is the simulated estate of the demo and of the scenarios; `app` wires.
//!
//! Invariants are stated at the top of each room's page.

pub mod domain;

pub mod ports;

pub mod config;
pub mod memory;
pub mod prompt;
pub mod store;

pub mod tools;

pub mod flow;

pub mod adapters;
pub mod api;
pub mod console;
pub mod eval;
pub mod telemetry;
pub mod world;

pub mod app;
pub mod cli;
