//! A write against controllers that write the status of the same object at the same time.
//!
//! Invariant: it is tried again only when it was certainly not written and what was approved is still
//! what is there (S4); an unknown result ends it.

use std::time::Duration;

use super::hands::Hands;
use crate::domain::action::Action;
use crate::ports::{Applied, ClusterError, DryRun};

/// A workload whose pods come and go is written many times a second.
const TRIES: u32 = 25;
/// Before the second try, then longer by as much each time.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(150);

pub(super) async fn apply(
    hands: &Hands,
    action: &Action,
    version: &str,
    mark: &str,
    is_as_approved: impl Fn(&DryRun) -> bool,
) -> Result<Applied, ClusterError> {
    let mut version = version.to_owned();
    let mut tries = 1;
    loop {
        match hands.apply(action, &version, mark).await {
            Err(ClusterError::Conflict(_)) if tries < TRIES => {}
            // It never arrived. What comes before the next try waits until the cluster is back.
            Err(ClusterError::Unavailable(_)) if tries < TRIES => {}
            ended => return ended,
        }
        tokio::time::sleep((PAUSE * tries).min(LONGEST)).await;
        tries += 1;
        let fresh = hands.rehearse(action).await?;
        if !is_as_approved(&fresh) {
            return Err(ClusterError::Conflict("what was approved has changed meanwhile".into()));
        }
        version = fresh.resource_version;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::domain::action::{Right, Target};
    use crate::domain::plan::Surroundings;
    use crate::flow::lead::Term;
    use crate::ports::{
        Cluster, ClusterEvent, Grant, Identity, NodeState, PodLogs, PodState, Revision, Settled, Took, Wish, Workload,
    };

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
        async fn prepare(&self, wish: &Wish) -> Result<Action, ClusterError> {
            Err(ClusterError::NotFound(wish.name.clone()))
        }
        async fn took_effect(&self, _: &Action, _: &str) -> Result<Took, ClusterError> {
            Ok(Took::No)
        }
        async fn settled(&self, _: &Action) -> Result<Settled, ClusterError> {
            Ok(Settled { done: true, fact: String::new() })
        }
        async fn surroundings(&self, _: &Action) -> Result<Surroundings, ClusterError> {
            Ok(Surroundings::default())
        }
        async fn manifest(&self, _: &Target) -> Result<String, ClusterError> {
            Ok(String::new())
        }
        async fn config_data(&self, _: &str, _: &str) -> Result<BTreeMap<String, String>, ClusterError> {
            Ok(BTreeMap::new())
        }
        async fn grants(&self, _: Identity, _: &[String], _: &[Right]) -> Result<Vec<Grant>, ClusterError> {
            Ok(vec![])
        }
        async fn apply(&self, _: &Action, version: &str, _: &str) -> Result<Applied, ClusterError> {
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
        let cluster = Arc::new(Contested { others, changes_spec, writes: AtomicU32::new(0) });
        let hands = Hands { cluster: Some(cluster.clone()), hooks: None, term: Term::endless() };
        let [cluster_name, namespace, kind, name, uid] = ["c", "shop", "Deployment", "pay", "u"].map(str::to_owned);
        let target = Target { cluster: cluster_name, namespace, kind, name, uid };
        let ended = apply(&hands, &Action::Restart { target }, "0", "P", |now| now.before == json!("old")).await;
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
