//! A command as it is printed, and read back as the same.

use std::fmt;
use std::time::Duration;

use super::{ChannelAct, Command, Which};
use crate::domain::intent::silence::Consent;

/// The canonical form: what is printed is read back as the same command.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb().name())?;
        match self {
            Self::Help { about } => about.map_or(Ok(()), |verb| write!(f, " {}", verb.name())),
            Self::Status | Self::Silences => Ok(()),
            Self::Incidents { which: Which::Open } => Ok(()),
            Self::Incidents { which: Which::Mine } => f.write_str(" mine"),
            Self::Diagnose { service, namespace, since } => {
                write!(f, " {service}")?;
                option(f, "ns", namespace.as_deref())?;
                option(f, "since", since.map(written).as_deref())
            }
            Self::Explain { what } => write!(f, " {what}"),
            Self::Runbook { words } => write!(f, " {words}"),
            Self::Risk { service, image } => {
                write!(f, " {service}")?;
                option(f, "image", image.as_deref())
            }
            Self::OnCall { service } => service.as_ref().map_or(Ok(()), |service| write!(f, " {service}")),
            Self::Audit { incident } => incident.as_ref().map_or(Ok(()), |incident| write!(f, " {incident}")),
            Self::Silence { matchers, span, because, consent } => {
                write!(f, " {matchers} for {} because {because}", written(*span))?;
                match consent {
                    Consent::Ask => Ok(()),
                    Consent::Confirmed => f.write_str(", confirmed"),
                }
            }
            Self::Unsilence { id } | Self::Forget { id } => write!(f, " {id}"),
            Self::Remember { text, service } => {
                write!(f, " {text}")?;
                option(f, "service", service.as_deref())
            }
            Self::Pause { scope, because } => write!(f, " {scope} {because}"),
            Self::Resume { scope } => write!(f, " {scope}"),
            Self::Merge { from, into, because } => write!(f, " {from} into {into} because {because}"),
            Self::Split { from, subjects, because } => match subjects.as_slice() {
                // A comma says that the blanks within are part of the name.
                [one] if one.contains(char::is_whitespace) => write!(f, " {from} {one}, because {because}"),
                more => write!(f, " {from} {} because {because}", more.join(", ")),
            },
            Self::Noise { incident, because } | Self::Close { incident, because } => {
                write!(f, " {incident} because {because}")
            }
            Self::Take { incident } => write!(f, " {incident}"),
            Self::HandOver { incident, to, because } => {
                write!(f, " {incident} to {to}")?;
                because.as_ref().map_or(Ok(()), |because| write!(f, " because {because}"))
            }
            Self::Channel { incident, act } => match act {
                ChannelAct::Open => write!(f, " {incident} open"),
                ChannelAct::Invite { people } => write!(f, " {incident} invite {}", people.join(" ")),
                ChannelAct::Archive => write!(f, " {incident} archive"),
            },
            Self::FollowUp { incident, text } => write!(f, " {incident} {text}"),
            Self::Approve { card } => write!(f, " {card}"),
            Self::Reject { card, because } => write!(f, " {card} because {because}"),
            Self::Ask { card, question } => write!(f, " {card} {question}"),
            Self::Act { asked } | Self::Autonomy { asked } if asked.is_empty() => Ok(()),
            Self::Act { asked } | Self::Autonomy { asked } => write!(f, " {asked}"),
        }
    }
}

fn option(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&str>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={value}"))
}

/// `90m`, `2h`: in the largest unit that divides it.
fn written(span: Duration) -> String {
    let seconds = span.as_secs();
    let unit = [(86_400, 'd'), (3600, 'h'), (60, 'm')].into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    match unit {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}
