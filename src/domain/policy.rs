//! Whether an action may run, by whom it must be approved, and why. Default deny; forbid wins.
//!
//! The rules are Cedar's: a core that is always in force, and the user's own or the default ones.
//! Rust gathers the facts; the rules decide; every refusal names the rule that refused.

mod cases;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::action::{Action, RiskTier};
use super::intent::window::Schedule;
use super::plan::BlastRadius;
use super::time::Timestamp;
pub use cases::{BadCases, Case, CaseResult, Expected, read_cases};
pub use rules::{BadRules, CORE, DEFAULT, Rules, SCHEMA};

#[derive(Debug, Clone)]
pub struct Policy {
    pub low: Autonomy,
    pub medium: Autonomy,
    pub high: Autonomy,
    /// Writes are allowed in these namespaces only; empty allows none. `*` allows all, and nodes.
    pub namespaces: Vec<String>,
    /// Namespaces that are never written to, whatever else is said.
    pub protected_namespaces: Vec<String>,
    /// People who may approve: `team/user`.
    pub approvers: Vec<String>,
    /// User groups of the chat whose members may approve: `team/group`.
    pub groups: Vec<String>,
    pub freeze: Vec<Freeze>,
    pub rules: Rules,
}

/// The three modes of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autonomy {
    /// Says what it would do; nobody can make it do it.
    Suggest,
    /// Waits for people.
    Approve,
    /// Runs by itself.
    Automatic,
}

impl Autonomy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suggest => "suggest",
            Self::Approve => "approve",
            Self::Automatic => "automatic",
        }
    }

    /// The next one up, where there is one.
    pub fn above(self) -> Option<Self> {
        match self {
            Self::Suggest => Some(Self::Approve),
            Self::Approve => Some(Self::Automatic),
            Self::Automatic => None,
        }
    }
}

/// The chat page, which asks nobody who they are.
pub const ANYBODY: &str = "local/you";

/// What an approval is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    pub tier: RiskTier,
    pub approvals: usize,
    /// Who asked for the plan; nobody for one of the watch itself.
    pub requester: Option<&'a str>,
}

/// A time in which nothing is changed without need, such as the days before Christmas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    pub name: String,
    pub schedule: Schedule,
}

/// Whether it is proposed now, or executed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Propose,
    Execute,
}

/// What the rules are told beside the action itself.
#[derive(Debug, Clone)]
pub struct Facts {
    pub stage: Stage,
    /// Who asked; `None`: the watch itself.
    pub requester: Option<String>,
    pub service: String,
    /// Empty: not known.
    pub environment: String,
    /// In place of the configured mode of the tier, when service and action have earned another one.
    pub earned: Option<Autonomy>,
    pub paused: bool,
    pub wall_now: Timestamp,
    pub blast: BlastRadius,
    pub breaker_open: bool,
    pub neighbour_busy: bool,
    pub unattended_last_hour: usize,
    /// The diagnosis behind it is confirmed by two kinds of evidence, one of which users cannot write.
    pub proven: bool,
}

impl Facts {
    /// Nothing speaks against it.
    pub fn calm(stage: Stage, service: &str, blast: BlastRadius, wall_now: Timestamp) -> Self {
        Self {
            stage,
            requester: None,
            service: service.to_owned(),
            environment: String::new(),
            earned: None,
            paused: false,
            wall_now,
            blast,
            breaker_open: false,
            neighbour_busy: false,
            unattended_last_hour: 0,
            proven: true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ruling", rename_all = "snake_case")]
pub enum Ruling {
    /// `policies`: the rules that refused; empty when none permits it.
    Refused {
        because: String,
        policies: Vec<String>,
    },
    NeedsApproval {
        approvals: usize,
        because: String,
    },
    Unattended {
        because: String,
    },
}

impl Ruling {
    pub fn because(&self) -> &str {
        match self {
            Self::Refused { because, .. } | Self::NeedsApproval { because, .. } | Self::Unattended { because } => {
                because
            }
        }
    }
}

/// Every namespace in which it changes something.
fn reached<'a>(action: &'a Action, blast: &'a BlastRadius) -> BTreeSet<&'a str> {
    let extent = blast.extent.iter().flat_map(|extent| extent.namespaces.iter().map(String::as_str));
    action.namespaces().into_iter().chain(extent).collect()
}

/// More approvers than this are never asked for.
const MOST_APPROVALS: usize = 2;

impl Policy {
    /// With the built-in rules; everything waits for people.
    pub fn with_rules(rules: Rules) -> Self {
        Self {
            low: Autonomy::Approve,
            medium: Autonomy::Approve,
            high: Autonomy::Approve,
            namespaces: vec!["*".into()],
            protected_namespaces: vec!["kube-system".into(), "kube-public".into(), "kube-node-lease".into()],
            approvers: vec![],
            groups: vec![],
            freeze: vec![],
            rules,
        }
    }

    /// The least that is asked for: nobody, one person, two people, or it is refused.
    pub fn rule(&self, action: &Action, facts: &Facts) -> Ruling {
        let mut because = String::new();
        for approvals in 0..=MOST_APPROVALS {
            match self.ask(action, facts, approvals) {
                rules::Answer::Allowed(by) if approvals == 0 => {
                    return Ruling::Unattended { because: self.rules.explain(&by) };
                }
                rules::Answer::Allowed(_) => return Ruling::NeedsApproval { approvals, because },
                rules::Answer::Denied(by) => {
                    because = self.rules.explain(&by);
                    if approvals == MOST_APPROVALS {
                        return self.refused(action, facts, by);
                    }
                }
            }
        }
        // The loop has returned at the last number of approvals.
        Ruling::Refused { because, policies: vec![] }
    }

    /// Of what lies elsewhere than the object itself people are told where.
    fn refused(&self, action: &Action, facts: &Facts, by: Vec<String>) -> Ruling {
        let mut because = self.rules.explain(&by);
        let own = action.target().namespace.as_str();
        let beyond: Vec<String> =
            reached(action, &facts.blast).into_iter().filter(|name| *name != own).map(str::to_owned).collect();
        let closed = |name: &&String| self.out_of_bounds([name.as_str()]).is_some();
        let closed: Vec<&str> = beyond.iter().filter(closed).map(String::as_str).collect();
        if !closed.is_empty() && by.iter().any(|id| id == "protected-namespaces" || id == "namespaces") {
            because.push_str(&format!(" (it changes things in {})", closed.join(", ")));
        }
        Ruling::Refused { because, policies: by }
    }

    /// Why nothing that lies in one of these namespaces may be written, whatever else the rules say. The core
    /// says the same; this asks without its other facts.
    pub fn out_of_bounds<'a>(&self, namespaces: impl IntoIterator<Item = &'a str>) -> Option<String> {
        namespaces.into_iter().find_map(|namespace| {
            if self.protects(namespace) {
                return Some(format!("policy.protected_namespaces names {namespace}"));
            }
            (!self.allows(namespace)).then(|| format!("policy.namespaces does not name {namespace:?}"))
        })
    }

    fn protects(&self, namespace: &str) -> bool {
        self.protected_namespaces.iter().any(|protected| protected == namespace)
    }

    /// A node or a hook belongs to no namespace: `*` or the empty name allows it.
    fn allows(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|allowed| allowed == "*" || allowed == namespace)
    }

    fn ask(&self, action: &Action, facts: &Facts, approvals: usize) -> rules::Answer {
        use rules::Attribute::{Flag, Text, Texts};
        let target = action.target();
        let namespaces = reached(action, &facts.blast);
        let (tier, at) = (action.tier(), facts.wall_now.to_datetime());
        let frozen = self.freeze.iter().any(|freeze| freeze.schedule.contains(facts.wall_now));
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let context = json!({
            "approvals": count(approvals),
            "stage": match facts.stage { Stage::Propose => "propose", Stage::Execute => "execute" },
            "mode": self.mode(tier, facts.earned).as_str(),
            "tier": tier.as_str(),
            "paused": facts.paused,
            "frozen": frozen,
            "hour": at.format("%H").to_string().parse::<i64>().unwrap_or_default(),
            "weekday": at.format("%a").to_string().to_lowercase(),
            "pods": i64::from(facts.blast.pods),
            "share_percent": i64::from(facts.blast.share_percent),
            "dependents": count(facts.blast.dependents.len()),
            "user_facing": facts.blast.user_facing,
            "breaks_budget": facts.blast.breaks_budget,
            "breaker_open": facts.breaker_open,
            "neighbour_busy": facts.neighbour_busy,
            "unattended_last_hour": count(facts.unattended_last_hour),
            "proven": facts.proven,
        });
        // What it changes may stand elsewhere than the object that it is done to.
        let in_scope = namespaces.iter().all(|namespace| self.allows(namespace));
        let protected = namespaces.iter().any(|namespace| self.protects(namespace));
        let extent = facts.blast.extent.iter().flat_map(|extent| extent.services.iter().cloned());
        let services = extent.chain((!facts.service.is_empty()).then(|| facts.service.clone())).collect();
        let name = format!("{}/{target}", target.cluster);
        self.rules.ask(&rules::Question {
            principal: match &facts.requester {
                Some(person) => ("Person", person),
                None => ("Agent", "midwatch"),
            },
            action: action.verb(),
            resource: &name,
            attributes: vec![
                ("cluster", Text(target.cluster.clone())),
                ("namespace", Text(target.namespace.clone())),
                ("namespaces", Texts(namespaces.iter().map(|name| (*name).to_owned()).collect())),
                ("kind", Text(target.kind.clone())),
                ("name", Text(target.name.clone())),
                ("service", Text(facts.service.clone())),
                ("services", Texts(services)),
                ("environment", Text(facts.environment.clone())),
                ("in_scope", Flag(in_scope)),
                ("protected", Flag(protected)),
            ],
            context,
        })
    }

    /// The mode that holds: what was earned goes before what is configured, in both directions, but for
    /// "suggest". Whoever writes that wants nothing done, whatever was earned before.
    pub fn mode(&self, tier: RiskTier, earned: Option<Autonomy>) -> Autonomy {
        match self.configured(tier) {
            Autonomy::Suggest => Autonomy::Suggest,
            configured @ (Autonomy::Approve | Autonomy::Automatic) => earned.unwrap_or(configured),
        }
    }

    pub fn configured(&self, tier: RiskTier) -> Autonomy {
        match tier {
            RiskTier::Low => self.low,
            RiskTier::Medium => self.medium,
            RiskTier::High => self.high,
        }
    }

    /// Whether the list names the person; members of `groups` are looked up elsewhere.
    pub fn names(&self, person: &str) -> bool {
        self.approvers.iter().any(|approver| approver == person)
    }

    /// Whether people who are known by name and the chat page, which anybody may be, can approve side by side.
    pub fn mixes_in_anybody(&self) -> bool {
        self.names(ANYBODY) && (!self.groups.is_empty() || self.approvers.iter().any(|one| one != ANYBODY))
    }

    /// Why an approval by somebody who may approve does not count (S6): at the chat page sits anybody, also one
    /// of the others. Where nobody else may approve, it is all there is.
    pub fn uncounted(&self, approver: &str, sought: &Sought<'_>) -> Option<&'static str> {
        if !self.mixes_in_anybody() {
            return None;
        }
        if approver != ANYBODY {
            let by_anybody = sought.requester == Some(ANYBODY);
            return by_anybody.then_some(
                "it was asked for on the chat page, which asks nobody who they are, so whoever approves may have \
                 asked; ask for it from the chat or with a token of [[people]]",
            );
        }
        let alone = sought.requester.is_none() && sought.approvals < 2 && sought.tier != RiskTier::High;
        (!alone).then_some(
            "the chat page asks nobody who they are, so its approval counts neither as one of two, nor for high \
             risk, nor beside whoever asked; approve from the chat or with a token of [[people]]",
        )
    }

    /// Changes whenever a rule does, so that an old approval does not outlive the policy it was
    /// given under.
    pub fn version(&self) -> String {
        let parts = (
            [self.low, self.medium, self.high],
            &self.namespaces,
            &self.protected_namespaces,
            &self.approvers,
            &self.groups,
            &self.freeze,
            self.rules.text(),
        );
        super::id::Digest::of_json(&parts).short().to_owned()
    }
}
