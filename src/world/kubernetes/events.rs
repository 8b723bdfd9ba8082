//! Events, counted up while they repeat and forgotten an hour after they were last seen.

use serde_json::{Value, json};

use super::kinds::EVENTS;
use super::{KubeState, number, set, stamp, text, unstamp};

const KEPT_MILLIS: i64 = 3_600_000;

/// What happened to an object, as a component of the cluster reports it.
pub(super) struct Happening<'a> {
    pub object: &'a Value,
    pub warning: bool,
    pub reason: &'a str,
    pub message: String,
    pub component: &'a str,
    /// The node the component runs on, if it is a node's.
    pub host: &'a str,
}

impl KubeState {
    pub(super) fn event(&mut self, it: Happening<'_>, at: i64) {
        let object = it.object;
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        let namespace = match text(object, "/metadata/namespace") {
            "" => "default",
            namespace => namespace,
        };
        let same = format!("{kind}/{namespace}/{name}/{}/{}/{}", text(object, "/metadata/uid"), it.reason, it.message);
        let hash: String = self.digest(&same).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let event_name = format!("{name}.{hash}");
        if let Some(known) = self.get(EVENTS, namespace, &event_name) {
            let mut known = known.clone();
            let count = number(&known, "/count") + 1;
            set(&mut known, &["count"], json!(count));
            set(&mut known, &["lastTimestamp"], json!(stamp(at)));
            self.put(EVENTS, known, at);
            return;
        }
        let mut source = json!({"component": it.component});
        if !it.host.is_empty() {
            set(&mut source, &["host"], json!(it.host));
        }
        let mut involved = json!({"kind": kind, "name": name, "uid": text(object, "/metadata/uid"),
            "apiVersion": text(object, "/apiVersion"), "resourceVersion": text(object, "/metadata/resourceVersion")});
        if !text(object, "/metadata/namespace").is_empty() {
            set(&mut involved, &["namespace"], json!(namespace));
        }
        let event = json!({
            "metadata": {"namespace": namespace, "name": event_name}, "involvedObject": involved,
            "type": if it.warning { "Warning" } else { "Normal" }, "reason": it.reason, "message": it.message,
            "source": source, "count": 1, "firstTimestamp": stamp(at), "lastTimestamp": stamp(at),
            "eventTime": null, "reportingComponent": it.component, "reportingInstance": it.host
        });
        self.put(EVENTS, event, at);
    }

    pub(super) fn forget_events(&mut self, now: i64) {
        if let Some(events) = self.objects.get_mut(EVENTS.plural) {
            events.retain(|_, event| unstamp(text(event, "/lastTimestamp")) >= now - KEPT_MILLIS);
        }
    }
}
