//! From a diagnosis to one concrete, bounded, undoable action.

mod blast;

use serde::{Deserialize, Serialize};

use super::action::{Action, RiskTier, Target, Undo};
use super::id::{Digest, EvidenceId, PlanId};
use super::policy::Sought;
use super::time::Timestamp;
pub use blast::{Autoscaler, BlastRadius, Budget, Extent, Quota, Surroundings, is_felt_by_people};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub id: PlanId,
    /// Whose trouble it is to mend; empty in plans from before it was kept.
    #[serde(default)]
    pub service: String,
    pub action: Action,
    pub tier: RiskTier,
    pub because: String,
    pub blast: BlastRadius,
    /// What the API server says the action changes.
    pub diff: String,
    pub undo: Undo,
    pub checks: Vec<SuccessCheck>,
    pub evidence: Vec<EvidenceId>,
    /// What an approval binds (S4).
    pub digest: Digest,
    /// Wall time.
    pub expires_at: Timestamp,
    pub approvals_needed: usize,
    /// Who asked; nobody for a plan of the agent. Never counts as an approver.
    pub requester: Option<String>,
}

impl Plan {
    /// What its approvals are wanted for.
    pub fn sought(&self) -> Sought<'_> {
        Sought { tier: self.tier, approvals: self.approvals_needed, requester: self.requester.as_deref() }
    }
}

#[cfg(test)]
impl Plan {
    /// As most tests want one: the first of INC-1, that nobody asked for.
    pub fn first(action: Action) -> Self {
        Self {
            id: super::id::IncidentId::numbered(1).plan(1),
            service: action.target().name.clone(),
            tier: action.tier(),
            because: String::new(),
            blast: BlastRadius::of("", &action, &Surroundings::default(), &Default::default()),
            diff: String::new(),
            undo: action.undo(),
            checks: vec![],
            evidence: vec![],
            digest: Digest::genesis(),
            expires_at: Timestamp::default(),
            approvals_needed: 1,
            requester: None,
            action,
        }
    }
}

/// A number that must come back for the remediation to count as a success.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuccessCheck {
    pub service: String,
    pub signal: String,
    pub query: String,
    /// The label of the query's answer that names the service.
    pub label: String,
    /// At or below (or at or above) which it is well again.
    pub bound: f64,
    pub direction: Direction,
    pub unit: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    AtMost,
    AtLeast,
}

impl SuccessCheck {
    pub fn passes(&self, value: f64) -> bool {
        match self.direction {
            Direction::AtMost => value <= self.bound,
            Direction::AtLeast => value >= self.bound,
        }
    }
}

/// What an approval of the plan means, and nothing else: the object by uid, the touched fields
/// before and after, what else it changes, and the policy that judged it. Not the resource version and not the whole
/// object: an autoscaler that changes replicas must not void a rollback card (S4).
pub fn digest(
    action: &Action,
    extent: Option<&Extent>,
    before: &serde_json::Value,
    after: &serde_json::Value,
    undo: &Undo,
    policy_version: &str,
) -> Digest {
    #[derive(Serialize)]
    struct Bound<'a> {
        action: &'a Action,
        // Plans from before it was kept have the digest that they had.
        #[serde(skip_serializing_if = "Option::is_none")]
        extent: Option<&'a Extent>,
        before: String,
        after: String,
        undo: &'a Undo,
        policy: &'a str,
    }
    Digest::of_json(&Bound {
        action,
        extent,
        before: canonical(before),
        after: canonical(after),
        undo,
        policy: policy_version,
    })
}

/// JSON with sorted keys, whatever order the server answered in.
pub fn canonical(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

/// How many replicas relieve a saturation: enough for the observed load with a fifth to spare,
/// within the caps of a low-risk scale-up.
pub fn scaled_replicas(current: i32, load_ratio: f64) -> i32 {
    let wanted = (f64::from(current) * load_ratio.max(1.0) * 1.2).ceil() as i32;
    wanted.clamp(
        current + 1,
        (current * super::action::SCALE_FACTOR_CAP).min(super::action::SCALE_REPLICAS_CAP).max(current + 1),
    )
}

pub fn target(cluster: &str, namespace: &str, kind: &str, name: &str, uid: &str) -> Target {
    Target {
        cluster: cluster.into(),
        namespace: namespace.into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_approval_binds_what_else_is_changed() {
        let action = Action::Restart { target: target("c", "shop", "Deployment", "web", "1") };
        let undo = action.undo();
        let of = |extent: Option<&Extent>| digest(&action, extent, &json!({"a": 1}), &json!({"a": 2}), &undo, "v1");
        let shop = Extent { namespaces: ["shop".to_owned()].into(), ..Extent::default() };
        let more = Extent { services: ["web".to_owned()].into(), ..shop.clone() };
        let without = of(None);
        assert!(without != of(Some(&shop)) && of(Some(&shop)) != of(Some(&more)));
        // Stored plans of older versions keep the digest that was approved.
        let (action, undo) = (serde_json::to_string(&action).unwrap(), serde_json::to_string(&undo).unwrap());
        let before = r#""before":"{\"a\":1}","after":"{\"a\":2}""#;
        let stored = format!(r#"{{"action":{action},{before},"undo":{undo},"policy":"v1"}}"#);
        assert_eq!(without, Digest::of(stored.as_bytes()));
    }
}
