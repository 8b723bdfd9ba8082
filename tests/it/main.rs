//! Black-box tests through the built program and real wires.

mod fake_qdrant;
mod memory;
