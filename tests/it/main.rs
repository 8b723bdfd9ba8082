//! Black-box tests through the built program and real wires.

mod door;
mod fake_qdrant;
mod harness;
mod memory;
mod noise;
mod real;
mod rooms;
mod slack;
mod watch;
mod wrong;
