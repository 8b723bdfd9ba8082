//! The user's own policy cases: what is asked, and what must come of it (`midwatch policy test`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Autonomy, Facts, Policy, Ruling, Stage};
use crate::domain::action::{Action, ActionKind, Bounds, RiskTier, Target};
use crate::domain::plan::{BlastRadius, Extent};
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub action: ActionKind,
    #[serde(default)]
    pub cluster: String,
    #[serde(default)]
    pub namespace: String,
    /// Left out: what the action usually works on.
    #[serde(default)]
    pub kind: Option<String>,
    pub object: String,
    #[serde(default)]
    pub service: Option<String>,
    /// In which it changes something, beside its own.
    #[serde(default)]
    pub namespaces: BTreeSet<String>,
    /// Whose pods it changes, beside its own.
    #[serde(default)]
    pub services: BTreeSet<String>,
    #[serde(default)]
    pub environment: String,
    /// Of scale and set_bounds: replicas (the upper bound) before and after.
    #[serde(default = "two")]
    pub from: i32,
    #[serde(default = "four")]
    pub to: i32,
    /// Of run_job and call_hook, as their declaration says.
    #[serde(default = "medium")]
    pub tier: RiskTier,
    #[serde(default)]
    pub requester: Option<String>,
    /// What service and action have earned.
    #[serde(default)]
    pub earned: Option<Autonomy>,
    #[serde(default)]
    pub at: Option<Timestamp>,
    #[serde(default)]
    pub paused: bool,
    #[serde(default)]
    pub executing: bool,
    #[serde(default)]
    pub share_percent: u32,
    #[serde(default)]
    pub pods: i32,
    #[serde(default)]
    pub dependents: usize,
    #[serde(default)]
    pub user_facing: bool,
    #[serde(default)]
    pub breaks_budget: bool,
    #[serde(default)]
    pub breaker_open: bool,
    #[serde(default)]
    pub neighbour_busy: bool,
    #[serde(default)]
    pub unattended_last_hour: usize,
    /// Left out: the diagnosis behind it is proven.
    #[serde(default = "yes")]
    pub proven: bool,
    pub expect: Expected,
    /// Of a refusal: one of the rules that refuse.
    #[serde(default)]
    pub by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Unattended,
    OnePerson,
    TwoPeople,
    Refused,
}

fn yes() -> bool {
    true
}

fn two() -> i32 {
    2
}

fn four() -> i32 {
    4
}

fn medium() -> RiskTier {
    RiskTier::Medium
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    pub name: String,
    /// What came of it, in words.
    pub said: String,
    pub holds: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCases {
    #[error("{0}")]
    Syntax(String),
    #[error("no [[case]] is in it")]
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Case>,
}

/// Reads `[[case]]` tables.
pub fn read_cases(text: &str) -> Result<Vec<Case>, BadCases> {
    let file: File = toml::from_str(text).map_err(|error| BadCases::Syntax(error.to_string()))?;
    if file.case.is_empty() { Err(BadCases::None) } else { Ok(file.case) }
}

impl Case {
    pub fn try_on(&self, policy: &Policy, wall_now: Timestamp) -> CaseResult {
        let blast = BlastRadius {
            pods: self.pods,
            share_percent: self.share_percent,
            dependents: (0..self.dependents).map(|number| format!("dependent-{number}")).collect(),
            user_facing: self.user_facing,
            breaks_budget: self.breaks_budget,
            extent: Some(Extent { namespaces: self.namespaces.clone(), services: self.services.clone() }),
            ..BlastRadius::default()
        };
        let stage = if self.executing { Stage::Execute } else { Stage::Propose };
        let service = self.service.as_deref().unwrap_or(&self.object);
        let facts = Facts {
            requester: self.requester.clone(),
            environment: self.environment.clone(),
            earned: self.earned,
            paused: self.paused,
            breaker_open: self.breaker_open,
            neighbour_busy: self.neighbour_busy,
            unattended_last_hour: self.unattended_last_hour,
            proven: self.proven,
            ..Facts::calm(stage, service, blast, self.at.unwrap_or(wall_now))
        };
        let ruling = policy.rule(&self.asked(), &facts);
        let found = match &ruling {
            Ruling::Unattended { .. } => Expected::Unattended,
            Ruling::NeedsApproval { approvals: 1, .. } => Expected::OnePerson,
            Ruling::NeedsApproval { .. } => Expected::TwoPeople,
            Ruling::Refused { .. } => Expected::Refused,
        };
        let named = match (&self.by, &ruling) {
            (None, _) => true,
            (Some(by), Ruling::Refused { policies, .. }) => policies.contains(by),
            (Some(_), _) => false,
        };
        let word = match found {
            Expected::Unattended => "unattended",
            Expected::OnePerson => "one person",
            Expected::TwoPeople => "two people",
            Expected::Refused => "refused",
        };
        CaseResult {
            name: self.name.clone(),
            said: format!("{word} ({})", ruling.because()),
            holds: found == self.expect && named,
        }
    }

    fn asked(&self) -> Action {
        let target = Target {
            cluster: self.cluster.clone(),
            namespace: self.namespace.clone(),
            kind: self.kind.clone().unwrap_or_else(|| usual_kind(self.action).to_owned()),
            name: self.object.clone(),
            uid: "of-the-case".into(),
        };
        let bounds = |max: i32| Bounds { min: self.from.min(max), max };
        let data = || BTreeMap::from([("key".to_owned(), "value".to_owned())]);
        match self.action {
            ActionKind::Restart => Action::Restart { target },
            ActionKind::Scale => Action::Scale { target, from: self.from, to: self.to },
            ActionKind::RollBack => Action::RollBack { target, from_revision: 2, to_revision: 1 },
            ActionKind::SetBounds => Action::SetBounds { target, from: bounds(self.from), to: bounds(self.to) },
            ActionKind::PauseRollout => Action::PauseRollout { target },
            ActionKind::ResumeRollout => Action::ResumeRollout { target },
            ActionKind::EvictPod => {
                Action::EvictPod { target, owner: "ReplicaSet".into(), owner_name: "it-5d4f".into() }
            }
            ActionKind::Cordon => Action::Cordon { target },
            ActionKind::Uncordon => Action::Uncordon { target },
            ActionKind::Drain => Action::Drain { target, pods: vec![], was_cordoned: false },
            ActionKind::DeleteJob => Action::DeleteJob { target },
            ActionKind::SuspendCronJob => Action::SuspendCronJob { target },
            ActionKind::ResumeCronJob => Action::ResumeCronJob { target },
            ActionKind::RestoreConfig => Action::RestoreConfig { target, from: data(), to: BTreeMap::new() },
            ActionKind::SuspendSync => Action::SuspendSync { target, automated: None },
            ActionKind::ResumeSync => Action::ResumeSync { target, automated: None },
            ActionKind::RollBackRelease => Action::RollBackRelease { target, from: "2".into(), to: "1".into() },
            ActionKind::RunJob => {
                Action::RunJob { target, job: "of-the-case".into(), declared: self.object.clone(), tier: self.tier }
            }
            ActionKind::CallHook => Action::CallHook { target, tier: self.tier, undo: None },
        }
    }
}

fn usual_kind(action: ActionKind) -> &'static str {
    match action {
        ActionKind::Restart
        | ActionKind::Scale
        | ActionKind::RollBack
        | ActionKind::PauseRollout
        | ActionKind::ResumeRollout => "Deployment",
        ActionKind::SetBounds => "HorizontalPodAutoscaler",
        ActionKind::EvictPod => "Pod",
        ActionKind::Cordon | ActionKind::Uncordon | ActionKind::Drain => "Node",
        ActionKind::DeleteJob => "Job",
        ActionKind::SuspendCronJob | ActionKind::ResumeCronJob | ActionKind::RunJob => "CronJob",
        ActionKind::RestoreConfig => "ConfigMap",
        ActionKind::SuspendSync | ActionKind::ResumeSync | ActionKind::RollBackRelease => "Application",
        ActionKind::CallHook => "Hook",
    }
}
