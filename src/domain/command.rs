//! What people order in words: one grammar for Slack, the console, the command line and the API.
//!
//! Invariants: what is printed is read back as the same command; every example of the help is
//! understood; what is not understood is answered with the nearest command that is, and an example.

mod hint;
mod parse;
#[cfg(test)]
mod tests;
mod typed;
mod written;

use std::fmt;
use std::time::Duration;

use super::id::IncidentId;
use super::intent::matcher::Matchers;
use super::intent::silence::Consent;

pub use hint::{Hint, Known, hints};
pub use parse::{Wrong, nearest, parse};
pub use typed::{closes_this, plain, takes_this};

/// A silence by command ends within a day; what is planned for longer is a window of the configuration.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(24 * 3600);

/// Of a pause: whoever must stop something at once need not say why.
pub const NO_REASON: &str = "no reason given";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Help {
        about: Option<Verb>,
    },
    Status,
    Incidents {
        which: Which,
    },
    Diagnose {
        service: String,
        namespace: Option<String>,
        since: Option<Duration>,
    },
    /// An incident, a plan, or an alert by name or fingerprint.
    Explain {
        what: String,
    },
    Runbook {
        words: String,
    },
    Risk {
        service: String,
        image: Option<String>,
    },
    OnCall {
        service: Option<String>,
    },
    /// The whole chain, or the story of one incident with its links.
    Audit {
        incident: Option<IncidentId>,
    },
    Silences,
    Silence {
        matchers: Matchers,
        span: Duration,
        because: String,
        consent: Consent,
    },
    Unsilence {
        id: String,
    },
    Remember {
        text: String,
        service: Option<String>,
    },
    Forget {
        id: String,
    },
    Pause {
        scope: Scope,
        because: String,
    },
    Resume {
        scope: Scope,
    },
    Merge {
        from: IncidentId,
        into: IncidentId,
        because: String,
    },
    Split {
        from: IncidentId,
        /// Sorted, each once.
        subjects: Vec<String>,
        because: String,
    },
    Noise {
        incident: IncidentId,
        because: String,
    },
    /// Ends it in the person's name.
    Close {
        incident: IncidentId,
        because: String,
    },
    Take {
        incident: IncidentId,
    },
    HandOver {
        incident: IncidentId,
        /// As it was written: `@name`, `<@U1>` or `TEAM/USER`.
        to: String,
        because: Option<String>,
    },
    Channel {
        incident: IncidentId,
        act: ChannelAct,
    },
    FollowUp {
        incident: IncidentId,
        text: String,
    },
    /// `card`: plan and digest as the card names them, `INC-1.P1.0a1b2c3d4e5f`.
    Approve {
        card: String,
    },
    Reject {
        card: String,
        because: String,
    },
    Ask {
        card: String,
        question: String,
    },
    /// Incident, action, object and value; empty: the list of what can be asked for.
    Act {
        asked: String,
    },
    /// Empty: what was earned; `promote` or `demote`, a service and an action.
    Autonomy {
        asked: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Open,
    /// Owned by, handed to or decided on by who asks.
    Mine,
}

/// What a pause stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    Namespace(String),
    Service(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelAct {
    Open,
    Invite { people: Vec<String> },
    Archive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Diagnose,
    Explain,
    Silence,
    Silences,
    Unsilence,
    Audit,
    Incidents,
    Runbook,
    Remember,
    Forget,
    Pause,
    Resume,
    Status,
    Risk,
    OnCall,
    Merge,
    Split,
    Noise,
    Close,
    Take,
    HandOver,
    Channel,
    FollowUp,
    Approve,
    Reject,
    Ask,
    Act,
    Autonomy,
    Help,
}

/// What stands at one place of a command, for hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Service,
    Incident,
    /// An incident, a plan, or an alert.
    Anything,
    Matchers,
    Silence,
    Note,
    Card,
    Person,
    Verb,
    Word(&'static [&'static str]),
    Text,
}

/// How a command is written.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub verb: Verb,
    /// The first is the one that is printed.
    pub names: &'static [&'static str],
    pub form: &'static str,
    pub about: &'static str,
    pub slots: &'static [Slot],
    /// With their equals sign.
    pub options: &'static [&'static str],
    pub examples: &'static [&'static str],
}

impl Verb {
    pub const ALL: [Self; 29] = [
        Self::Diagnose,
        Self::Explain,
        Self::Silence,
        Self::Silences,
        Self::Unsilence,
        Self::Audit,
        Self::Incidents,
        Self::Runbook,
        Self::Remember,
        Self::Forget,
        Self::Pause,
        Self::Resume,
        Self::Status,
        Self::Risk,
        Self::OnCall,
        Self::Merge,
        Self::Split,
        Self::Noise,
        Self::Close,
        Self::Take,
        Self::HandOver,
        Self::Channel,
        Self::FollowUp,
        Self::Approve,
        Self::Reject,
        Self::Ask,
        Self::Act,
        Self::Autonomy,
        Self::Help,
    ];

    pub fn name(self) -> &'static str {
        self.spec().names[0]
    }

    /// Reads any of its names, in any case.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.spec().names.iter().any(|name| name.eq_ignore_ascii_case(word)))
    }

    /// Whether it orders something; the others only look.
    pub fn instructs(self) -> bool {
        match self {
            Self::Silence
            | Self::Unsilence
            | Self::Remember
            | Self::Forget
            | Self::Pause
            | Self::Resume
            | Self::Merge
            | Self::Split
            | Self::Noise
            | Self::Close
            | Self::Take
            | Self::HandOver
            | Self::Channel
            | Self::FollowUp
            | Self::Approve
            | Self::Reject
            | Self::Ask
            | Self::Act
            | Self::Autonomy => true,
            Self::Diagnose
            | Self::Explain
            | Self::Silences
            | Self::Audit
            | Self::Incidents
            | Self::Runbook
            | Self::Status
            | Self::Risk
            | Self::OnCall
            | Self::Help => false,
        }
    }

    pub fn spec(self) -> Spec {
        use Slot::{Anything, Card, Incident, Note, Person, Service, Text, Word};
        let spec = |names, form, about, slots, options, examples| Spec {
            verb: self,
            names,
            form,
            about,
            slots,
            options,
            examples,
        };
        match self {
            Self::Diagnose => spec(
                &["diagnose"],
                "<service> [ns=..] [since=30m]",
                "looks at a service now, and investigates it when you may ask for that",
                &[Service],
                &["ns=", "since="],
                &["diagnose checkout", "diagnose checkout ns=shop since=30m"],
            ),
            Self::Explain => spec(
                &["explain"],
                "<INC-1 | INC-1.P1 | alert or its fingerprint>",
                "why it was joined, muted, ranked, proposed or refused",
                &[Anything],
                &[],
                &["explain INC-1", "explain INC-1.P1", "explain HighErrorRate"],
            ),
            Self::Silence => spec(
                &["silence", "mute", "snooze"],
                "<matchers> <at most 24h> <reason>",
                "mutes alerts for a while; one that would mute nearly all wants `, confirmed` at its end",
                &[Slot::Matchers, Word(&["30m", "2h", "8h", "24h"]), Text],
                &[],
                &[
                    "silence service=\"checkout\" 2h load test",
                    "silence team=\"pay\", severity!=\"critical\" for 30m because a drill",
                ],
            ),
            Self::Silences => spec(&["silences"], "", "what is muted now, and until when", &[], &[], &["silences"]),
            Self::Unsilence => {
                spec(&["unsilence", "unmute"], "<id>", "ends a silence", &[Slot::Silence], &[], &["unsilence S1"])
            }
            Self::Audit => spec(
                &["audit"],
                "[INC-1]",
                "verifies the chain of decisions; with an incident, tells who decided what in it",
                &[Incident],
                &[],
                &["audit", "audit INC-1"],
            ),
            Self::Incidents => spec(
                &["incidents"],
                "[open|mine]",
                "the open ones, or those that you own, were handed or decided on",
                &[Word(&["open", "mine"])],
                &[],
                &["incidents", "incidents mine"],
            ),
            Self::Runbook => spec(
                &["runbook", "runbooks"],
                "<query>",
                "the best runbook and notes for these words",
                &[Text],
                &[],
                &["runbook connection pool exhausted"],
            ),
            Self::Remember => spec(
                &["remember", "note"],
                "<text> [service=..]",
                "keeps a note with your name, unverified until an outcome confirms it",
                &[Text],
                &["service="],
                &["remember the nightly import makes cart slow until 03:00 service=cart"],
            ),
            Self::Forget => spec(
                &["forget"],
                "<id>",
                "purges a note, or the post-mortem of an incident, from memory",
                &[Note],
                &[],
                &["forget N1", "forget INC-1"],
            ),
            Self::Pause => spec(
                &["pause", "stop", "halt"],
                "[all|ns=..|service=..] [reason]",
                "nothing is executed there until resume; a name that nothing has stops everything",
                &[Word(&["all"]), Text],
                &["ns=", "service="],
                &["pause config push in progress", "pause ns=shop migration", "pause service=checkout load test"],
            ),
            Self::Resume => spec(
                &["resume", "unpause"],
                "[all|ns=..|service=..]",
                "executions are possible again",
                &[Word(&["all"])],
                &["ns=", "service="],
                &["resume", "resume ns=shop"],
            ),
            Self::Status => spec(
                &["status"],
                "",
                "open incidents, the noise funnel, what the prefilter may suppress, model, pauses",
                &[],
                &[],
                &["status"],
            ),
            Self::Risk => spec(
                &["risk"],
                "<service> [image=..]",
                "what touching a service now would put at stake",
                &[Service],
                &["image="],
                &["risk checkout", "risk checkout image=registry/checkout:1.4"],
            ),
            Self::OnCall => spec(
                &["oncall", "on-call"],
                "[service]",
                "who is called, step by step",
                &[Service],
                &[],
                &["oncall", "oncall checkout"],
            ),
            Self::Merge => spec(
                &["merge"],
                "<INC-2> into <INC-1> because <reason>",
                "the two are one incident",
                &[Incident, Word(&["into"]), Incident, Word(&["because"]), Text],
                &[],
                &["merge INC-2 into INC-1 because one database"],
            ),
            Self::Split => spec(
                &["split"],
                "<INC-1> <services or hosts> because <reason>",
                "their alerts become an incident of their own",
                &[Incident, Service],
                &[],
                &["split INC-1 checkout because its own bug", "split INC-1 rack 7, cart because power"],
            ),
            Self::Noise => spec(
                &["noise"],
                "<INC-7> because <reason>",
                "nobody had to wake up for it",
                &[Incident, Word(&["because"]), Text],
                &[],
                &["noise INC-7 because a load test"],
            ),
            Self::Close => spec(
                &["close", "resolve"],
                "<INC-7> because <reason>",
                "ends it in your name; a plan that waits is void, and what fires on is told",
                &[Incident, Word(&["because"]), Text],
                &[],
                &["close INC-7 because mended by hand"],
            ),
            Self::Take => spec(
                &["take", "ack", "acknowledge", "claim"],
                "<INC-1>",
                "you have it from now on, and nobody else is called",
                &[Incident],
                &[],
                &["take INC-1"],
            ),
            Self::HandOver => spec(
                &["handover", "hand-over", "assign"],
                "<INC-1> to <person> [because <reason>]",
                "somebody else owns the incident once they accept it (Acknowledge, take, a vote, a follow-up, ...); until then calls go on",
                &[Incident, Word(&["to"]), Person, Word(&["because"]), Text],
                &[],
                &["handover INC-1 to @ada because my shift ends", "handover INC-1 to T024BE7LD/U012AB3CD"],
            ),
            Self::Channel => spec(
                &["channel"],
                "<INC-1> [open | invite <people> | archive]",
                "a channel for one big incident",
                &[Incident, Word(&["open", "invite", "archive"]), Person],
                &[],
                &["channel INC-1", "channel INC-1 invite @ada @grace", "channel INC-1 archive"],
            ),
            Self::FollowUp => spec(
                &["followup", "follow-up"],
                "<INC-1> <text>",
                "keeps a task for later, in the tracker where one is configured",
                &[Incident, Text],
                &[],
                &["followup INC-1 give the pool a limit"],
            ),
            Self::Approve => spec(
                &["approve"],
                "<plan.digest>",
                "your approval of exactly that plan",
                &[Card],
                &[],
                &["approve INC-1.P1.0a1b2c3d4e5f"],
            ),
            Self::Reject => spec(
                &["reject", "deny"],
                "<plan.digest> because <reason>",
                "nothing is changed, and the reason is read",
                &[Card, Word(&["because"]), Text],
                &[],
                &["reject INC-1.P1.0a1b2c3d4e5f because the migration still runs"],
            ),
            Self::Ask => spec(
                &["ask"],
                "<plan.digest> <question>",
                "sends the investigation back with a question",
                &[Card, Text],
                &[],
                &["ask INC-1.P1.0a1b2c3d4e5f was it slow before the rollout?"],
            ),
            Self::Act => spec(
                &["act"],
                "[<INC-1> <action> <namespace/name> [value]]",
                "asks for an action of the catalogue or a declared one; alone, lists them with their conditions",
                &[Incident, Text],
                &[],
                &["act", "act INC-1 restart shop/checkout", "act INC-1 set-bounds shop/checkout 3..12"],
            ),
            Self::Autonomy => spec(
                &["autonomy"],
                "[promote|demote <service> <action>]",
                "what may run by itself and what it has earned; an approver promotes, a failure takes it back",
                &[Word(&["promote", "demote"]), Service, Text],
                &[],
                &["autonomy", "autonomy promote checkout restart", "autonomy demote checkout restart"],
            ),
            Self::Help => spec(
                &["help", "?"],
                "[command]",
                "this list, or one command with examples",
                &[Slot::Verb],
                &[],
                &["help", "help silence"],
            ),
        }
    }
}

impl Command {
    pub fn verb(&self) -> Verb {
        match self {
            Self::Help { .. } => Verb::Help,
            Self::Status => Verb::Status,
            Self::Incidents { .. } => Verb::Incidents,
            Self::Diagnose { .. } => Verb::Diagnose,
            Self::Explain { .. } => Verb::Explain,
            Self::Runbook { .. } => Verb::Runbook,
            Self::Risk { .. } => Verb::Risk,
            Self::OnCall { .. } => Verb::OnCall,
            Self::Audit { .. } => Verb::Audit,
            Self::Silences => Verb::Silences,
            Self::Silence { .. } => Verb::Silence,
            Self::Unsilence { .. } => Verb::Unsilence,
            Self::Remember { .. } => Verb::Remember,
            Self::Forget { .. } => Verb::Forget,
            Self::Pause { .. } => Verb::Pause,
            Self::Resume { .. } => Verb::Resume,
            Self::Merge { .. } => Verb::Merge,
            Self::Split { .. } => Verb::Split,
            Self::Noise { .. } => Verb::Noise,
            Self::Close { .. } => Verb::Close,
            Self::Take { .. } => Verb::Take,
            Self::HandOver { .. } => Verb::HandOver,
            Self::Channel { .. } => Verb::Channel,
            Self::FollowUp { .. } => Verb::FollowUp,
            Self::Approve { .. } => Verb::Approve,
            Self::Reject { .. } => Verb::Reject,
            Self::Ask { .. } => Verb::Ask,
            Self::Act { .. } => Verb::Act,
            Self::Autonomy { .. } => Verb::Autonomy,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, name) = match self {
            Self::All => return f.write_str("all"),
            Self::Namespace(name) => ("ns", name),
            Self::Service(name) => ("service", name),
        };
        // A name with blanks in it stands between quotes.
        match (name.contains(char::is_whitespace), name.contains('"')) {
            (false, _) => write!(f, "{key}={name}"),
            (true, false) => write!(f, "{key}=\"{name}\""),
            (true, true) => write!(f, "{key}='{name}'"),
        }
    }
}
