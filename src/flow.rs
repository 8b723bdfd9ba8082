//! The async drivers, named like the arrows of the architecture: each reads what is due, asks the
//! domain, and writes the decision with its effects in one batch. They run where `lead` says so.

pub mod act;
pub mod anchor;
pub mod approve;
mod assess;
pub mod authority;
mod back;
pub mod command;
pub mod deliver;
pub mod desk;
pub mod discover;
mod draft;
pub mod earn;
pub mod elsewhere;
pub mod escalate;
pub mod execute;
pub mod gate;
pub mod intake;
pub mod investigate;
pub mod keep;
pub mod label;
pub mod lead;
pub mod learn;
pub mod listen;
pub mod live;
pub mod neighbours;
pub mod observe;
pub mod outgrown;
mod reach;
pub mod reason;
pub mod regroup;
pub mod remember;
pub mod report;
pub mod respond;
pub mod retain;
pub mod route;
pub mod silence;
pub mod timeline;

pub use desk::{Desk, FlowError};
