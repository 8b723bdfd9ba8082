//! What may be done, and who decides.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use crate::domain::policy::{Autonomy, BadRules, Freeze, Policy, Rules};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    pub low: Autonomy,
    pub medium: Autonomy,
    pub high: Autonomy,
    pub namespaces: Vec<String>,
    pub protected_namespaces: Vec<String>,
    /// `TEAM/USER` as Slack names them, or `local/you` for the console.
    pub approvers: Vec<String>,
    /// `TEAM/GROUP`, user groups of the chat whose members may approve, too.
    pub groups: Vec<String>,
    pub approval_seconds: u64,
    /// Cedar rules in place of the default ones; the core stays in force.
    pub file: Option<PathBuf>,
    /// Times in which nothing is changed without need.
    pub freeze: Vec<Freeze>,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            low: Autonomy::Approve,
            medium: Autonomy::Approve,
            high: Autonomy::Approve,
            namespaces: vec!["*".into()],
            protected_namespaces: vec!["kube-system".into(), "kube-public".into(), "kube-node-lease".into()],
            approvers: vec![],
            groups: vec![],
            approval_seconds: 300,
            file: None,
            freeze: vec![],
        }
    }
}

impl PolicyConfig {
    /// Reads and compiles the rules, too.
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        let name = |path: &PathBuf| path.display().to_string();
        let wrong = |reason: String| ConfigError::Value {
            key: "policy.file",
            reason,
            remedy: "`midwatch policy show` prints rules that work, and their schema.",
        };
        let own = match &self.file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Some(text.map_err(|error| wrong(format!("{}: {error}", name(path))))?)
            }
        };
        let rules = Rules::compile(own.as_deref())
            .map_err(|bad: BadRules| wrong(format!("{}: {bad}", self.file.as_ref().map_or_else(String::new, name))))?;
        Ok(Policy {
            low: self.low,
            medium: self.medium,
            high: self.high,
            namespaces: self.namespaces.clone(),
            protected_namespaces: self.protected_namespaces.clone(),
            approvers: self.approvers.clone(),
            groups: self.groups.clone(),
            freeze: self.freeze.clone(),
            rules,
        })
    }
}
