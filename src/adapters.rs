//! Touch the outside world on behalf of the ports.

pub mod embedder;
pub mod kubernetes;
pub mod loki;
pub mod openai;
pub mod prometheus;
pub mod signals;
