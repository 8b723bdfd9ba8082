//! A write against controllers that write the status of the same object at the same time.
//!
//! Invariant: it is tried again only when it was certainly not written and what was approved is still
//! what is there (S4); an unknown result ends it.

use std::time::Duration;

use crate::domain::action::Action;
use crate::ports::{Applied, Cluster, ClusterError, DryRun};

/// A workload whose pods come and go is written many times a second.
const TRIES: u32 = 25;
/// Before the second try, then longer by as much each time.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(150);

pub(super) async fn apply(
    cluster: &dyn Cluster,
    action: &Action,
    version: &str,
    is_as_approved: impl Fn(&DryRun) -> bool,
) -> Result<Applied, ClusterError> {
    let mut version = version.to_owned();
    let mut tries = 1;
    loop {
        match cluster.apply(action, &version).await {
            Err(ClusterError::Conflict(_)) if tries < TRIES => {}
            ended => return ended,
        }
        tokio::time::sleep((PAUSE * tries).min(LONGEST)).await;
        tries += 1;
        let fresh = cluster.dry_run(action).await?;
        if !is_as_approved(&fresh) {
            return Err(ClusterError::Conflict("what was approved has changed meanwhile".into()));
        }
        version = fresh.resource_version;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::domain::action::Target;
    use crate::ports::{ClusterEvent, NodeState, PodLogs, PodState, Revision, Workload};

    /// An API server whose object somebody else writes so many times, each just before our write.
    struct Contested {
        others: u32,
        changes_spec: bool,
        writes: AtomicU32,
    }

    #[async_trait]
    impl Cluster for Contested {
        async fn workloads(&self) -> Result<Vec<Workload>, ClusterError> {
            Ok(vec![])
        }
        async fn pods(&self, _: Option<&str>) -> Result<Vec<PodState>, ClusterError> {
            Ok(vec![])
        }
        async fn nodes(&self) -> Result<Vec<NodeState>, ClusterError> {
            Ok(vec![])
        }
        async fn events(&self, _: Option<&str>) -> Result<Vec<ClusterEvent>, ClusterError> {
            Ok(vec![])
        }
        async fn revisions(&self, _: &str, _: &str) -> Result<Vec<Revision>, ClusterError> {
            Ok(vec![])
        }
        async fn pod_logs(&self, _: &str, _: &str, _: PodLogs, _: i64) -> Result<String, ClusterError> {
            Ok(String::new())
        }
        async fn dry_run(&self, _: &Action) -> Result<DryRun, ClusterError> {
            let version = self.writes.load(Ordering::SeqCst).min(self.others);
            let before = if self.changes_spec { json!("another image") } else { json!("old") };
            let resource_version = version.to_string();
            Ok(DryRun { uid: "u".into(), resource_version, diff: String::new(), before, after: json!("new") })
        }
        async fn apply(&self, _: &Action, version: &str) -> Result<Applied, ClusterError> {
            let tried = self.writes.fetch_add(1, Ordering::SeqCst);
            match tried < self.others || version != self.others.to_string() {
                true => Err(ClusterError::Conflict("the object has been modified".into())),
                false => Ok(Applied { resource_version: "next".into(), generation: 2 }),
            }
        }
        async fn check(&self) -> Result<String, ClusterError> {
            Ok(String::new())
        }
    }

    async fn write(others: u32, changes_spec: bool) -> (Result<Applied, ClusterError>, u32) {
        let cluster = Contested { others, changes_spec, writes: AtomicU32::new(0) };
        let [cluster_name, namespace, kind, name, uid] = ["c", "shop", "Deployment", "pay", "u"].map(str::to_owned);
        let target = Target { cluster: cluster_name, namespace, kind, name, uid };
        let ended = apply(&cluster, &Action::Restart { target }, "0", |now| now.before == json!("old")).await;
        (ended, cluster.writes.load(Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_writer_is_outlasted_and_a_change_of_what_was_approved_is_not() {
        assert!(matches!(write(0, false).await, (Ok(_), 1)));
        assert!(matches!(write(7, false).await, (Ok(_), 8)));
        let (ended, writes) = write(7, true).await;
        assert_eq!(ended.unwrap_err(), ClusterError::Conflict("what was approved has changed meanwhile".into()));
        assert_eq!(writes, 1);
        let (ended, writes) = write(1_000, false).await;
        assert!(matches!(ended, Err(ClusterError::Conflict(_))));
        assert_eq!(writes, TRIES, "it ends");
    }
}
