//! Whether an action may run, by whom it must be approved, and why. Default deny; forbid wins.

use serde::{Deserialize, Serialize};

use super::action::{Action, RiskTier};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub low: Autonomy,
    pub medium: Autonomy,
    pub high: Autonomy,
    /// Writes are allowed in these namespaces only; empty allows none.
    pub namespaces: Vec<String>,
    /// Namespaces that are never written to, whatever else is said.
    pub protected_namespaces: Vec<String>,
    /// People who may approve: `team/user`.
    pub approvers: Vec<String>,
    /// User groups of the chat whose members may approve: `team/group`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// The three modes of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autonomy {
    /// Says what it would do; nobody can make it do it.
    Suggest,
    /// Waits for people.
    Approve,
    /// Runs by itself.
    Automatic,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            low: Autonomy::Approve,
            medium: Autonomy::Approve,
            high: Autonomy::Approve,
            namespaces: vec!["*".into()],
            protected_namespaces: vec!["kube-system".into(), "kube-public".into(), "kube-node-lease".into()],
            approvers: vec![],
            groups: vec![],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ruling", rename_all = "snake_case")]
pub enum Ruling {
    Refused { because: String },
    NeedsApproval { approvals: usize, because: String },
    Unattended { because: String },
}

impl Policy {
    pub fn rule(&self, action: &Action) -> Ruling {
        let namespace = &action.target().namespace;
        if self.protected_namespaces.iter().any(|protected| protected == namespace) {
            return Ruling::Refused { because: format!("policy.protected_namespaces names {namespace}") };
        }
        if !self.namespaces.iter().any(|allowed| allowed == "*" || allowed == namespace) {
            return Ruling::Refused { because: format!("policy.namespaces does not name {namespace}") };
        }
        let tier = action.tier();
        let (autonomy, key) = match tier {
            RiskTier::Low => (self.low, "policy.low"),
            RiskTier::Medium => (self.medium, "policy.medium"),
            RiskTier::High => (self.high, "policy.high"),
        };
        match (autonomy, tier) {
            (Autonomy::Suggest, _) => {
                Ruling::Refused { because: format!("{key} is \"suggest\": people do it by hand") }
            }
            (Autonomy::Automatic, RiskTier::Low) => {
                Ruling::Unattended { because: format!("{key} is \"automatic\" and the risk is low") }
            }
            // Medium and high always wait for people in this version, whatever the file says.
            (Autonomy::Approve | Autonomy::Automatic, RiskTier::High) => {
                Ruling::NeedsApproval { approvals: 2, because: "high risk needs two people".into() }
            }
            (Autonomy::Approve | Autonomy::Automatic, RiskTier::Low | RiskTier::Medium) => {
                Ruling::NeedsApproval { approvals: 1, because: format!("{tier} risk needs one person") }
            }
        }
    }

    /// Whether the list names the person; members of `groups` are looked up elsewhere.
    pub fn names(&self, person: &str) -> bool {
        self.approvers.iter().any(|approver| approver == person)
    }

    /// Changes whenever a rule does, so that an old approval does not outlive the policy it was
    /// given under.
    pub fn version(&self) -> String {
        super::id::Digest::of_json(self).short().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::target;

    fn check(policy: &Policy, action: &Action, expected: &str) {
        let ruling = match policy.rule(action) {
            Ruling::Refused { because } => format!("refused: {because}"),
            Ruling::NeedsApproval { approvals, .. } => format!("needs {approvals}"),
            Ruling::Unattended { .. } => "unattended".into(),
        };
        assert_eq!(ruling, expected, "{action}");
    }

    #[test]
    fn high_risk_always_needs_people() {
        let everything = Policy {
            low: Autonomy::Automatic,
            medium: Autonomy::Automatic,
            high: Autonomy::Automatic,
            ..Policy::default()
        };
        let web = target("c", "prod", "Deployment", "web", "1");
        let db = target("c", "prod", "StatefulSet", "db", "2");
        let system = target("c", "kube-system", "Deployment", "coredns", "3");
        check(&everything, &Action::Restart { target: web.clone() }, "unattended");
        check(&everything, &Action::RollBack { target: web.clone(), from_revision: 2, to_revision: 1 }, "needs 1");
        check(&everything, &Action::Scale { target: web.clone(), from: 4, to: 1 }, "needs 2");
        check(&everything, &Action::Restart { target: db }, "needs 2");
        let refused = "refused: policy.protected_namespaces names kube-system";
        check(&everything, &Action::Restart { target: system }, refused);
        let nowhere = Policy { namespaces: vec![], ..everything };
        check(&nowhere, &Action::Restart { target: web }, "refused: policy.namespaces does not name prod");
    }
}
