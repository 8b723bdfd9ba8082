//! Touch the outside world on behalf of the ports.

pub mod slack;
