//! The StatefulSet controller: ordered pods, one at a time, with ControllerRevisions for its history.

use serde_json::{Value, json};

use super::build::{self, CAUSE, SET_HASH};
use super::controller::canonical;
use super::events::Happening;
use super::kinds::{CLAIMS, PODS, REVISIONS, STATEFUL_SETS};
use super::{KubeState, Name, annotation, number, set, text};

impl KubeState {
    pub(super) fn reconcile_stateful_set(&mut self, key: &Name, now: i64) {
        let Some(object) = self.get(STATEFUL_SETS, &key.0, &key.1).cloned() else { return };
        let newest = self.current_revision(&object, now);
        let update = text(&newest, "/metadata/name").to_owned();
        let mut template = object.pointer("/spec/template").cloned().unwrap_or_default();
        set(&mut template, &["metadata", "labels", SET_HASH], json!(update));
        let wanted = number(&object, "/spec/replicas").max(0);
        self.place_pods(key, &object, &template, wanted, &update, now);
        self.write_stateful_status(key, &update, now);
    }

    /// The ControllerRevision of the template as it is; an old equal one is brought to the front.
    pub(super) fn current_revision(&mut self, object: &Value, now: i64) -> Value {
        let revisions = self.revisions_of(object);
        let newest = revisions.iter().map(|it| number(it, "/revision")).max().unwrap_or(0);
        let template = object.pointer("/spec/template").cloned().unwrap_or_default();
        let mut patch = template.clone();
        set(&mut patch, &["$patch"], json!("replace"));
        let found = revisions.into_iter().find(|it| it.pointer("/data/spec/template") == Some(&patch));
        if let Some(mut found) = found {
            if number(&found, "/revision") < newest {
                set(&mut found, &["revision"], json!(newest + 1));
                set(&mut found, &["metadata", "annotations", CAUSE], json!(annotation(object, CAUSE)));
            }
            return self.put(REVISIONS, found, now);
        }
        let name = text(object, "/metadata/name");
        let hash = self.suffix(&format!("{name}/{}", canonical(&template)), 10);
        let fresh = json!({
            "metadata": {"namespace": text(object, "/metadata/namespace"), "name": format!("{name}-{hash}"),
                "labels": template.pointer("/metadata/labels"), "annotations": {CAUSE: annotation(object, CAUSE)},
                "ownerReferences": build::owner(object, "apps/v1", text(object, "/kind"))},
            "data": {"spec": {"template": patch}}, "revision": newest + 1
        });
        self.put(REVISIONS, fresh, now)
    }

    pub(super) fn revisions_of(&self, object: &Value) -> Vec<Value> {
        let uid = text(object, "/metadata/uid");
        let owned = |it: &&Value| text(it, "/metadata/ownerReferences/0/uid") == uid;
        let mut revisions: Vec<Value> = self.list(REVISIONS).filter(owned).cloned().collect();
        revisions.sort_by_key(|it| number(it, "/revision"));
        revisions
    }

    fn place_pods(&mut self, key: &Name, object: &Value, template: &Value, wanted: i64, update: &str, now: i64) {
        let pod_key = |ordinal: i64| (key.0.clone(), format!("{}-{ordinal}", key.1));
        // In order, and the next only when the one before it is ready.
        for ordinal in 0..wanted {
            let at = pod_key(ordinal);
            match self.runs.get(&at) {
                None => {
                    self.claim_for(object, &at.1, now);
                    self.create_pod(object, "StatefulSet", Some((&at.1, template)), now);
                    let message = format!("create Pod {} in StatefulSet {} successful", at.1, key.1);
                    self.stateful_event(object, "SuccessfulCreate", message, now);
                    return;
                }
                Some(run) if !run.ready || run.deleting.is_some() => return,
                Some(_) => {}
            }
        }
        let mut last = wanted;
        while self.runs.contains_key(&pod_key(last)) {
            last += 1;
        }
        if last > wanted {
            self.delete_from_set(object, &pod_key(last - 1), now);
            return;
        }
        let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
        for ordinal in (partition.max(0)..wanted).rev() {
            let at = pod_key(ordinal);
            let hash = format!("/metadata/labels/{SET_HASH}");
            let old = self.get(PODS, &at.0, &at.1).is_some_and(|pod| text(pod, &hash) != update);
            if old && text(object, "/spec/updateStrategy/type") != "OnDelete" {
                self.delete_from_set(object, &at, now);
                return;
            }
        }
    }

    fn delete_from_set(&mut self, object: &Value, at: &Name, now: i64) {
        if self.runs.get(at).is_some_and(|run| run.deleting.is_none()) {
            self.end_pod(at, "Killing", now);
            let message = format!("delete Pod {} in StatefulSet {} successful", at.1, text(object, "/metadata/name"));
            self.stateful_event(object, "SuccessfulDelete", message, now);
        }
    }

    fn claim_for(&mut self, object: &Value, pod: &str, now: i64) {
        let size = text(object, "/spec/volumeClaimTemplates/0/spec/resources/requests/storage").to_owned();
        let (namespace, app) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
        let name = format!("data-{pod}");
        if !size.is_empty() && self.get(CLAIMS, namespace, &name).is_none() {
            self.put(CLAIMS, build::claim(namespace, &name, app, &size), now);
        }
    }

    fn stateful_event(&mut self, object: &Value, reason: &str, message: String, now: i64) {
        let component = "statefulset-controller";
        self.event(Happening { object, warning: false, reason, message, component, host: "" }, now);
    }

    fn write_stateful_status(&mut self, key: &Name, update: &str, now: i64) {
        let Some(mut object) = self.get(STATEFUL_SETS, &key.0, &key.1).cloned() else { return };
        let counts = self.counts(&key.0, &key.1, 0, now);
        let uid = text(&object, "/metadata/uid");
        let hash = format!("/metadata/labels/{SET_HASH}");
        let updated = (self.list(PODS))
            .filter(|it| text(it, "/metadata/ownerReferences/0/uid") == uid && text(it, &hash) == update)
            .filter(|it| it.pointer("/metadata/deletionTimestamp").is_none())
            .count();
        let wanted = number(&object, "/spec/replicas");
        let complete = i64::try_from(updated).is_ok_and(|it| it == wanted) && counts.ready == wanted;
        let current = match text(&object, "/status/currentRevision") {
            known if !known.is_empty() && !complete => known.to_owned(),
            _ => update.to_owned(),
        };
        let status = json!({
            "observedGeneration": number(&object, "/metadata/generation"), "replicas": counts.pods,
            "readyReplicas": counts.ready, "availableReplicas": counts.available, "updatedReplicas": updated,
            "currentReplicas": if complete { counts.pods } else { counts.pods - i64::try_from(updated).unwrap_or(0) },
            "currentRevision": current, "updateRevision": update, "collisionCount": 0
        });
        set(&mut object, &["status"], status);
        self.put(STATEFUL_SETS, object, now);
    }
}
