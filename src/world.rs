//! A simulated estate behind the real HTTP APIs of Kubernetes, Prometheus, Loki and Jaeger.
//!
//! Invariant: the truth of a night stays here. The watch sees metrics, logs, events and objects,
//! as real systems would show them; `Truth` is for the harness after the run.

mod clock;
mod description;
mod estate;
mod fault;
mod jaeger;
pub mod kubernetes;
mod loki;
pub mod prometheus;
pub mod promql;
mod random;
mod rules;
mod serve;
mod sim;

pub use clock::SimClock;
pub use description::{DescriptionError, World, span};
pub use serve::{Estate, NightOptions, Truth, WorldRules};
