//! Who people are and who is called, as systems of others know it.

use async_trait::async_trait;

use crate::domain::id::PersonId;

/// The chat's directory of people.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Members of a user group; `group` as the configuration names it, `TEAM/GROUP`.
    async fn members(&self, group: &str) -> Result<Vec<PersonId>, DirectoryError>;
    async fn standing(&self, person: &PersonId) -> Result<Standing, DirectoryError>;
    /// Whom the chat knows by this address.
    async fn by_email(&self, email: &str) -> Result<Option<PersonId>, DirectoryError>;
}

/// What an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Member,
    Guest,
    Bot,
    Deleted,
    /// Of another workspace or team.
    Stranger,
}

impl Standing {
    pub fn word(self) -> &'static str {
        match self {
            Self::Member => "a member",
            Self::Guest => "a guest",
            Self::Bot => "a bot",
            Self::Deleted => "deactivated",
            Self::Stranger => "of another team",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the directory does not answer: {0}")]
pub struct DirectoryError(pub String);

/// A schedule of people on call.
#[async_trait]
pub trait Rota: Send + Sync + 'static {
    fn name(&self) -> &str;
    /// Who is on call now, by that schedule; the first is called first.
    async fn now(&self, schedule: &str) -> Result<Vec<OnCall>, RotaError>;
    async fn check(&self) -> Result<String, RotaError>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnCall {
    pub name: String,
    pub email: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RotaError(pub String);
