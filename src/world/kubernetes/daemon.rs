//! The DaemonSet controller, as far as its object shows: history and status. It makes no pods; every node that
//! is ready counts as one that runs the newest template, at once.

use serde_json::json;

use super::kinds::{DAEMON_SETS, NODES};
use super::{KubeState, number, set, text};

impl KubeState {
    pub(super) fn reconcile_daemon_sets(&mut self, now: i64) {
        let wanted = self.list(NODES).count();
        let ready = self.list(NODES).filter(|node| self.is_node_ready(text(node, "/metadata/name"))).count();
        let objects: Vec<_> = self.list(DAEMON_SETS).cloned().collect();
        for mut object in objects {
            self.current_revision(&object, now);
            let status = json!({
                "observedGeneration": number(&object, "/metadata/generation"), "desiredNumberScheduled": wanted,
                "currentNumberScheduled": wanted, "updatedNumberScheduled": wanted, "numberReady": ready,
                "numberAvailable": ready, "numberUnavailable": wanted - ready, "numberMisscheduled": 0
            });
            set(&mut object, &["status"], status);
            self.put(DAEMON_SETS, object, now);
        }
    }
}
