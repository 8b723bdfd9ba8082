//! Why an alert opens an incident or waits for company; put into words only when somebody reads it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::time::spoken;

#[derive(Debug, Clone, PartialEq)]
pub enum Because {
    /// Critical, and nothing around its subject alerts.
    Critical {
        subject: Arc<str>,
    },
    /// It was taken for one that suffers from others, and has a cause of its own.
    BrokenInItself {
        subject: Arc<str>,
    },
    /// Warnings that came together.
    Company {
        company: Company,
        within: Duration,
    },
    /// A warning by itself.
    ByItself {
        subject: Arc<str>,
    },
    JustClosed,
}

/// What makes warnings into an incident.
#[derive(Debug, Clone, PartialEq)]
pub enum Company {
    Subjects(usize),
    Names(usize, Arc<str>),
    Warnings(usize, Arc<str>),
    /// Subjects of one cluster that cannot resolve names.
    Unresolved(usize),
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Critical { subject } => {
                write!(f, "a critical alert about {subject}; nothing that it needs or that needs it alerts yet")
            }
            Self::BrokenInItself { subject } => {
                write!(f, "{subject} is broken in itself; it seemed to suffer from others only")
            }
            Self::Company { company, within } => write!(f, "{company} within {}", spoken(*within)),
            Self::ByItself { subject } => write!(f, "a warning about {subject} by itself: waits for company"),
            Self::JustClosed => f.write_str("its incident has just been closed"),
        }
    }
}

impl fmt::Display for Company {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subjects(subjects) => write!(f, "{subjects} related subjects warn"),
            Self::Names(names, subject) => write!(f, "{names} different warnings about {subject}"),
            Self::Unresolved(subjects) => write!(f, "{subjects} subjects of the cluster cannot resolve names"),
            Self::Warnings(warnings, subject) => write!(f, "{warnings} warnings about {subject}"),
        }
    }
}
