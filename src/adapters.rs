//! Touch the outside world on behalf of the ports.

pub mod command;
mod database_health;
mod declared;
pub mod egress;
pub mod elsewhere;
pub mod embedder;
pub mod hooks;
pub mod kafka;
pub mod kubernetes;
pub mod loki;
pub mod mcp;
pub mod mysql_health;
pub mod openai;
pub mod paint;
pub mod probe;
pub mod prometheus;
pub mod request;
pub mod rota;
pub mod signals;
pub mod slack;
pub mod slack_people;
pub mod sql_health;
pub mod traces;
