//! Touch the outside world on behalf of the ports.

//KUBE
pub mod loki;
pub mod openai;
pub mod prometheus;
pub mod signals;
