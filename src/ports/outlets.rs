//! Other systems that hear of incidents, and channels that a chat can make.

use std::time::Duration;

use async_trait::async_trait;

use super::ChatError;
use crate::domain::id::PersonId;
use crate::domain::notice::Notice;

/// A system that is told of incidents and answers nothing back.
#[async_trait]
pub trait Outlet: Send + Sync + 'static {
    /// Names its queue; unique among all.
    fn name(&self) -> &str;
    /// Whether this is for it.
    fn wants(&self, notice: &Notice) -> bool;
    /// Each is emptied by itself: what one waits for holds up no other.
    fn queues(&self) -> &'static [Queue] {
        &[Queue::Main]
    }
    /// One of `queues`.
    fn queue(&self, _notice: &Notice) -> Queue {
        Queue::Main
    }
    /// Whether it takes tasks for later.
    fn tracks(&self) -> bool {
        false
    }
    /// `key` names the delivery for receivers that can tell a second one; gives what the thing is called
    /// there, when it has a name that people use.
    async fn send(&self, key: &str, notice: &Notice, attempt: Attempt) -> Result<Option<String>, OutletError>;
    /// One line for `midwatch check`; tells nobody anything.
    async fn check(&self) -> Result<String, OutletError>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    Main,
    /// What is told over another of its doors, after what it is about.
    Notes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    First,
    /// An earlier one may have arrived: look before it is made twice.
    Again,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutletError {
    #[error("asked to wait {0:?}")]
    Later(Duration),
    #[error("{0}")]
    Unavailable(String),
    /// Perhaps it arrived.
    #[error("result unknown: {0}")]
    Unknown(String),
    /// Will never work as it is.
    #[error("refused: {0}")]
    Refused(String),
}

/// Channels for one incident each.
#[async_trait]
pub trait Channels: Send + Sync + 'static {
    /// Makes it, or finds the one of that name; gives what the chat calls it.
    async fn open(&self, name: &str) -> Result<String, ChatError>;
    async fn invite(&self, channel: &str, people: &[PersonId]) -> Result<(), ChatError>;
    async fn archive(&self, channel: &str) -> Result<(), ChatError>;
}
