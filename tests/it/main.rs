//! Black-box tests through the built program and real wires.

mod catalogue;
mod crash;
mod door;
mod fake_qdrant;
mod funnel;
mod harness;
mod labels;
mod learning;
mod memory;
mod model;
mod noise;
mod real;
mod regroup;
mod retrieval;
mod rooms;
mod rootcause;
mod scenarios;
mod silences;
mod slack;
mod talking;
mod tools;
mod watch;
mod wrong;
