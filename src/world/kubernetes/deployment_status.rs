//! What a Deployment says of itself.

use serde_json::{Value, json};

use super::controller::Counts;
use super::kinds::DEPLOYMENTS;
use super::{KubeState, Name, number, set, stamp, text, unstamp};

impl KubeState {
    pub(super) fn write_deployment_status(&mut self, key: &Name, current: &str, minimum: i64, now: i64) {
        let Some(mut deployment) = self.get(DEPLOYMENTS, &key.0, &key.1).cloned() else { return };
        let mut all = Counts::default();
        for set in self.sets_of(&deployment) {
            let counts = self.counts(&key.0, text(&set, "/metadata/name"), minimum, now);
            all.pods += counts.pods;
            all.ready += counts.ready;
            all.available += counts.available;
        }
        let updated = self.counts(&key.0, current, minimum, now).pods;
        let desired = number(&deployment, "/spec/replicas");
        let (_, allowed) = super::controller::allowances(&deployment, desired);
        let old = deployment.get("status").cloned().unwrap_or_default();
        let conditions = vec![
            available(&old, all.available >= desired - allowed, now),
            self.progressing(&deployment, &old, current, updated, all, now),
        ];
        let mut status = json!({
            "observedGeneration": number(&deployment, "/metadata/generation"), "replicas": all.pods,
            "updatedReplicas": updated, "readyReplicas": all.ready, "availableReplicas": all.available,
            "conditions": conditions
        });
        if all.pods.max(desired) > all.available {
            set(&mut status, &["unavailableReplicas"], json!(all.pods.max(desired) - all.available));
        }
        set(&mut deployment, &["status"], status);
        self.put(DEPLOYMENTS, deployment, now);
    }

    fn progressing(
        &self,
        deployment: &Value,
        old: &Value,
        current: &str,
        updated: i64,
        all: Counts,
        now: i64,
    ) -> Value {
        let desired = number(deployment, "/spec/replicas");
        let known = condition(old, "Progressing");
        let reason = known.map_or("", |it| text(it, "/reason"));
        let complete = updated == desired && all.pods == desired && all.available >= desired;
        let settled = updated == desired && all.pods == desired && number(old, "/updatedReplicas") == updated;
        let moved = updated > number(old, "/updatedReplicas")
            || all.ready > number(old, "/readyReplicas")
            || all.available > number(old, "/availableReplicas")
            || (all.pods - updated) < number(old, "/replicas") - number(old, "/updatedReplicas");
        let deadline =
            deployment.pointer("/spec/progressDeadlineSeconds").and_then(Value::as_i64).unwrap_or(600) * 1000;
        let fresh = |status: bool, reason: &str, message: String| {
            let status = if status { "True" } else { "False" };
            let same = known.filter(|it| text(it, "/status") == status);
            let since = same.map_or_else(|| stamp(now), |it| text(it, "/lastTransitionTime").to_owned());
            json!({"type": "Progressing", "status": status, "reason": reason, "message": message,
                   "lastUpdateTime": stamp(now), "lastTransitionTime": since})
        };
        let successful = format!("ReplicaSet \"{current}\" has successfully progressed.");
        match known {
            Some(known)
                if reason == "NewReplicaSetAvailable"
                    && (settled || complete)
                    && text(known, "/message") == successful =>
            {
                known.clone()
            }
            _ if complete => fresh(true, "NewReplicaSetAvailable", successful),
            Some(known) if !moved && reason != "NewReplicaSetAvailable" => {
                let late = now - unstamp(text(known, "/lastUpdateTime")) > deadline;
                if late && reason != "ProgressDeadlineExceeded" {
                    let message = format!("ReplicaSet \"{current}\" has timed out progressing.");
                    fresh(false, "ProgressDeadlineExceeded", message)
                } else {
                    known.clone()
                }
            }
            _ => fresh(true, "ReplicaSetUpdated", format!("ReplicaSet \"{current}\" is progressing.")),
        }
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status.get("conditions")?.as_array()?.iter().find(|it| text(it, "/type") == kind)
}

fn available(old: &Value, holds: bool, now: i64) -> Value {
    let status = if holds { "True" } else { "False" };
    match condition(old, "Available") {
        Some(known) if text(known, "/status") == status => known.clone(),
        _ => {
            let (reason, message) = if holds {
                ("MinimumReplicasAvailable", "Deployment has minimum availability.")
            } else {
                ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
            };
            json!({"type": "Available", "status": status, "reason": reason, "message": message,
                   "lastUpdateTime": stamp(now), "lastTransitionTime": stamp(now)})
        }
    }
}
