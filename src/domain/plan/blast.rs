//! What an action reaches, before anybody presses the button.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::action::{Action, Bounds};
use crate::domain::topology::{NodeKind, Topology};

/// What stands around a target, as the cluster says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Of the workload that the target is or belongs to.
    pub replicas: i32,
    pub ready: i32,
    /// Pods that its own strategy lets go at once while they are replaced.
    pub max_unavailable: i32,
    /// PodDisruptionBudgets over its pods.
    pub budgets: Vec<Budget>,
    /// ResourceQuotas of the namespace that count pods.
    pub quotas: Vec<Quota>,
    pub autoscaler: Option<Autoscaler>,
    pub extent: Option<Extent>,
    /// What could not be read, and which right is missing.
    pub unknown: Vec<String>,
}

/// Everything that an action changes, not only the object that it writes: an Application of Argo CD stands in
/// one namespace and changes another one, an autoscaler sets the replicas of a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extent {
    /// The object's own among them, where it has one.
    pub namespaces: BTreeSet<String>,
    /// As metrics and alerts name them; only those that the cluster's objects tell.
    pub services: BTreeSet<String>,
}

impl Extent {
    /// Whether all of the other one was known.
    pub fn covers(&self, other: &Self) -> bool {
        other.namespaces.is_subset(&self.namespaces) && other.services.is_subset(&self.services)
    }

    /// What goes beyond the object and its service, for people; `None`: nothing does.
    fn beyond(&self, service: &str, action: &Action) -> Option<String> {
        let target = action.target();
        let few = |what: &str, names: Vec<&String>| {
            let shown: Vec<&str> = names.iter().take(6).map(|name| name.as_str()).collect();
            let more = if names.len() > shown.len() { ", ..." } else { "" };
            (!shown.is_empty()).then(|| format!("{what} {}{more}", shown.join(", ")))
        };
        let parts: Vec<String> = [
            few("in", self.namespaces.iter().filter(|name| **name != target.namespace).collect()),
            few("of", self.services.iter().filter(|name| *name != service && **name != target.name).collect()),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| format!("changes things {}", parts.join(" and ")))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub name: String,
    /// `status.disruptionsAllowed`
    pub allowed: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub name: String,
    pub used: i32,
    pub hard: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoscaler {
    pub name: String,
    pub bounds: Bounds,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlastRadius {
    /// Replaced, added, removed or evicted.
    pub pods: i32,
    /// Of the service's pods, those that may be unavailable at once.
    #[serde(default)]
    pub share_percent: u32,
    /// Dependents by the topology, nearest first.
    pub dependents: Vec<String>,
    /// Something that people call directly is among target and dependents.
    pub user_facing: bool,
    #[serde(default)]
    pub budgets: Vec<Budget>,
    #[serde(default)]
    pub quotas: Vec<Quota>,
    #[serde(default)]
    pub autoscaler: Option<Autoscaler>,
    /// `None`: of a plan from before it was kept, or of a hook; then the object is what it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent: Option<Extent>,
    /// A budget or a quota has no room for it.
    #[serde(default)]
    pub breaks_budget: bool,
    pub text: String,
}

impl BlastRadius {
    pub fn of(service: &str, action: &Action, around: &Surroundings, topology: &Topology) -> Self {
        let dependents: Vec<String> = topology
            .blast_radius(service)
            .into_iter()
            .filter(|name| topology.kind(name) != Some(NodeKind::Host))
            .collect();
        let user_facing = is_felt_by_people(service, &dependents, topology);
        let reach = Reach::of(action, around);
        let room = around.budgets.iter().map(|budget| budget.allowed).min();
        let over_budget = reach.lost > 0 && room.is_some_and(|room| room < reach.lost);
        let over_quota = around.quotas.iter().any(|quota| quota.used + reach.added > quota.hard && reach.added > 0);
        let share_percent = match around.replicas {
            0 => 0,
            replicas => (f64::from(reach.lost.min(replicas)) / f64::from(replicas) * 100.0).ceil() as u32,
        };
        let mut text = vec![reach.how.clone()];
        text.extend(around.extent.as_ref().and_then(|extent| extent.beyond(service, action)));
        if reach.lost > 0 && around.replicas > 0 {
            text.push(format!("at most {} of {} unavailable at once ({share_percent} %)", reach.lost, around.replicas));
        }
        text.extend(
            around.budgets.iter().map(|budget| format!("budget {} allows {} to go", budget.name, budget.allowed)),
        );
        text.extend(
            around.quotas.iter().map(|quota| format!("quota {}: {} of {} pods", quota.name, quota.used, quota.hard)),
        );
        text.extend(around.autoscaler.iter().map(|one| format!("{} scales it from {}", one.name, one.bounds)));
        text.push(match dependents.len() {
            0 => "nothing depends on it".to_owned(),
            count => format!(
                "{count} dependents ({}{})",
                dependents.iter().take(4).cloned().collect::<Vec<_>>().join(", "),
                if count > 4 { ", ..." } else { "" }
            ),
        });
        text.push(if user_facing { "user-facing" } else { "not user-facing" }.to_owned());
        text.extend(around.unknown.iter().map(|what| format!("not known: {what}")));
        Self {
            pods: reach.pods,
            share_percent,
            dependents,
            user_facing,
            budgets: around.budgets.clone(),
            quotas: around.quotas.clone(),
            autoscaler: around.autoscaler.clone(),
            extent: around.extent.clone(),
            // What could not be read is not taken for room: nothing runs unattended on it.
            breaks_budget: over_budget || over_quota || !around.unknown.is_empty(),
            text: text.join("; "),
        }
    }
}

/// Something that people call directly is among the service and its dependents.
pub fn is_felt_by_people(service: &str, dependents: &[String], topology: &Topology) -> bool {
    std::iter::once(service)
        .chain(dependents.iter().map(String::as_str))
        .any(|name| topology.dependents(name).next().is_none())
}

struct Reach {
    /// Touched in any way.
    pods: i32,
    /// Unavailable at once.
    lost: i32,
    /// More than now, for a while or for good.
    added: i32,
    how: String,
}

impl Reach {
    fn of(action: &Action, around: &Surroundings) -> Self {
        let none = |how: &str| Self { pods: 0, lost: 0, added: 0, how: how.to_owned() };
        match action {
            Action::Restart { .. } | Action::RollBack { .. } | Action::ResumeRollout { .. } => Self {
                pods: around.replicas,
                lost: around.max_unavailable,
                added: 0,
                how: format!("replaces {} pods one after the other", around.replicas),
            },
            Action::Scale { from, to, .. } if to > from => {
                Self { pods: to - from, lost: 0, added: to - from, how: format!("adds {} pods to {from}", to - from) }
            }
            Action::Scale { from, to, .. } => Self {
                pods: from - to,
                lost: from - to,
                added: 0,
                how: format!("removes {} of {from} pods", from - to),
            },
            Action::SetBounds { to, .. } => {
                let (more, fewer) = ((to.min - around.replicas).max(0), (around.replicas - to.max).max(0));
                let how = match (more, fewer) {
                    (0, 0) => format!("lets it have {to} pods; it has {}", around.replicas),
                    (more, 0) => format!("adds {more} pods to {}", around.replicas),
                    (_, fewer) => format!("removes {fewer} of {} pods", around.replicas),
                };
                Self { pods: more + fewer, lost: fewer, added: more, how }
            }
            Action::PauseRollout { .. } => none("stops the rollout where it is; no pod changes"),
            Action::EvictPod { .. } => {
                Self { pods: 1, lost: 1, added: 0, how: "evicts 1 pod; its controller makes another one".to_owned() }
            }
            Action::Cordon { .. } => none("the node takes no further pods; those on it stay"),
            Action::Uncordon { .. } => none("the node takes pods again"),
            Action::Drain { pods, .. } => {
                let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
                let lost = count.min(1);
                Self { pods: count, lost, added: 0, how: format!("evicts {count} pods one after the other") }
            }
            Action::DeleteJob { .. } => none("the job and its pods go"),
            Action::SuspendCronJob { .. } => none("no further jobs are started; those that run stay"),
            Action::ResumeCronJob { .. } => none("jobs are started again by its schedule"),
            Action::RestoreConfig { .. } => none("pods see the data when they read it next; none is replaced"),
            Action::SuspendSync { .. } => none("changes are not applied any more until it is resumed"),
            Action::ResumeSync { .. } => none("what has changed meanwhile is applied"),
            Action::RollBackRelease { .. } => none("the controller applies everything that the release holds"),
            Action::RunJob { .. } => Self { pods: 1, lost: 0, added: 1, how: "runs one job".to_owned() },
            Action::CallHook { .. } => none("calls a declared address; what that reaches, its declaration knows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::target;
    use crate::domain::topology::EdgeKind;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_card_says_what_is_changed_beside_the_object() {
        let application = Action::RollBackRelease {
            target: target("c", "argocd", "Application", "shop", "a"),
            from: "4".into(),
            to: "3".into(),
        };
        let extent = Extent { namespaces: names(&["argocd", "shop"]), services: names(&["cart", "shop", "web"]) };
        let around = Surroundings { extent: Some(extent.clone()), ..Surroundings::default() };
        let blast = BlastRadius::of("shop", &application, &around, &Topology::default());
        assert!(blast.text.contains("; changes things in shop and of cart, web; "), "{}", blast.text);
        assert_eq!(blast.extent.as_ref(), Some(&extent));
        let own = Extent { namespaces: names(&["argocd"]), services: names(&["shop"]) };
        assert_eq!(own.beyond("shop", &application), None);
        assert!(extent.covers(&own) && !own.covers(&extent));
        // Plans of older versions say nothing of it.
        let mut old = serde_json::to_value(&blast).unwrap();
        old.as_object_mut().unwrap().remove("extent");
        assert_eq!(serde_json::from_value::<BlastRadius>(old).unwrap().extent, None);
    }

    fn check(action: &Action, around: &Surroundings, expected: &str) {
        let mut topology = Topology::default();
        topology.add_edge("front", "shop", EdgeKind::Calls);
        topology.add_edge("shop", "web", EdgeKind::Calls);
        let blast = BlastRadius::of("web", action, around, &topology);
        assert_eq!(blast.dependents, ["shop", "front"]);
        let text = blast.text.replace("; 2 dependents (shop, front); user-facing", "");
        assert_eq!(format!("{text} | {} {} {}", blast.pods, blast.share_percent, blast.breaks_budget), expected);
    }

    #[test]
    fn everything_that_is_reached_is_said() {
        let web = || target("c", "shop", "Deployment", "web", "1");
        let around = Surroundings {
            replicas: 8,
            ready: 8,
            max_unavailable: 2,
            budgets: vec![Budget { name: "web-pdb".into(), allowed: 1 }],
            quotas: vec![Quota { name: "pods".into(), used: 9, hard: 10 }],
            ..Surroundings::default()
        };
        let stands = "budget web-pdb allows 1 to go; quota pods: 9 of 10 pods";
        let restart = format!(
            "replaces 8 pods one after the other; at most 2 of 8 unavailable at once (25 %); {stands} | 8 25 true"
        );
        check(&Action::Restart { target: web() }, &around, &restart);
        let up = Action::Scale { target: web(), from: 8, to: 10 };
        check(&up, &around, &format!("adds 2 pods to 8; {stands} | 2 0 true"));
        let one = Action::Scale { target: web(), from: 8, to: 9 };
        check(&one, &around, &format!("adds 1 pods to 8; {stands} | 1 0 false"));
        let down = Action::Scale { target: web(), from: 8, to: 3 };
        let said = "removes 5 of 8 pods; at most 5 of 8 unavailable at once (63 %)";
        check(&down, &Surroundings { replicas: 8, ..Surroundings::default() }, &format!("{said} | 5 63 false"));
        let evict = Action::EvictPod {
            target: target("c", "shop", "Pod", "web-1", "p"),
            owner: "ReplicaSet".into(),
            owner_name: "web".into(),
        };
        let tight = Surroundings { budgets: vec![Budget { name: "b".into(), allowed: 0 }], ..around.clone() };
        let said = "evicts 1 pod; its controller makes another one; at most 1 of 8 unavailable at once (13 %); \
                    budget b allows 0 to go; quota pods: 9 of 10 pods | 1 13 true";
        check(&evict, &tight, said);
        let bounds = Action::SetBounds {
            target: target("c", "shop", "HorizontalPodAutoscaler", "web", "h"),
            from: Bounds { min: 2, max: 8 },
            to: Bounds { min: 2, max: 12 },
        };
        let scaled = Surroundings {
            autoscaler: Some(Autoscaler { name: "web".into(), bounds: Bounds { min: 2, max: 8 } }),
            unknown: vec!["resourcequotas needs verb list".into()],
            ..Surroundings { replicas: 8, ..Surroundings::default() }
        };
        let blast = BlastRadius::of("web", &bounds, &scaled, &Topology::default());
        assert_eq!(
            blast.text,
            "lets it have 2 to 12 pods; it has 8; web scales it from 2 to 8; nothing depends on it; user-facing; \
             not known: resourcequotas needs verb list"
        );
    }
}
