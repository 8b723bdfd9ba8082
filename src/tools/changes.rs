//! What was rolled out, read from the rollout history of every workload.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::change::{Change, Unread, compare_templates};
use crate::domain::time::Timestamp;
use crate::ports::{Cluster, ClusterError, Revision, Workload};

#[derive(Debug, Default)]
pub struct Rollouts {
    /// Oldest first.
    pub changes: Vec<Change>,
    /// What is not among them for want of an answer.
    pub unread: Vec<Unread>,
}

/// All changes since then, as far as the histories can be read: the others are worth having.
pub async fn changes_of(cluster: &dyn Cluster, since: Timestamp) -> Rollouts {
    let workloads = match cluster.workloads().await {
        Ok(workloads) => workloads,
        Err(error) => {
            return Rollouts {
                changes: vec![],
                unread: vec![Unread::of_all("the workloads and their rollouts", &error)],
            };
        }
    };
    let histories = cluster.histories(&workloads).await;
    gathered(&workloads, histories, since)
}

/// Histories in the order of the workloads.
pub(super) fn gathered(
    workloads: &[Workload],
    histories: Vec<Result<Vec<Revision>, ClusterError>>,
    since: Timestamp,
) -> Rollouts {
    let mut namesakes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for workload in workloads {
        *namesakes.entry((&workload.namespace, &workload.name)).or_default() += 1;
    }
    let mut changes = vec![];
    let mut unread: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
    for (workload, history) in workloads.iter().zip(histories) {
        match history {
            Ok(revisions) => {
                let mut own = changes_in(workload, &revisions);
                // Of another kind, in the same namespace: the id must still name one change.
                if namesakes.get(&(workload.namespace.as_str(), workload.name.as_str())).is_some_and(|many| *many > 1) {
                    let kind = workload.kind.to_lowercase();
                    own.iter_mut().for_each(|change| change.id = format!("{kind}/{}", change.id));
                }
                changes.extend(own);
            }
            // It went away in between.
            Err(ClusterError::NotFound(_)) => {}
            Err(error) => {
                let alike = unread.entry((&workload.namespace, error.to_string())).or_default();
                alike.insert(workload.service.clone());
            }
        }
    }
    changes.retain(|change| change.at >= since);
    tell_apart(&mut changes);
    changes.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    let unread = unread.into_iter().map(|((namespace, why), services)| Unread {
        what: format!("the rollout histories of {namespace}"),
        why,
        services: Some(services),
    });
    Rollouts { changes, unread: unread.collect() }
}

pub(super) fn changes_in(workload: &Workload, revisions: &[Revision]) -> Vec<Change> {
    let mut changes = vec![];
    let mut previous: Option<&Revision> = None;
    for revision in revisions {
        // A rollback reuses an older set under the next number, and nothing says when: it was not
        // before the revision that it replaced.
        let reused = previous.filter(|previous| previous.created_at > revision.created_at);
        changes.push(Change {
            id: format!("{} revision {}", workload.name, revision.number),
            namespace: workload.namespace.clone(),
            service: workload.service.clone(),
            workload: workload.name.clone(),
            at: reused.map_or(revision.created_at, |previous| previous.created_at),
            from_revision: previous.map(|previous| previous.number),
            to_revision: revision.number,
            touched: previous.map(|before| compare_templates(&before.template, &revision.template)).unwrap_or_default(),
            cause: match reused {
                Some(_) => Some("an earlier template was put back, at this time or later".to_owned()),
                None => revision.cause.clone(),
            },
            current: workload.runs(revision, revisions),
            put_back: reused.is_some(),
        });
        previous = Some(revision);
    }
    changes
}

/// Workloads of one name in two namespaces: the id must still name one change.
fn tell_apart(changes: &mut [Change]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for change in changes.iter() {
        *count.entry(change.id.clone()).or_default() += 1;
    }
    for change in changes.iter_mut().filter(|change| count.get(&change.id).is_some_and(|count| *count > 1)) {
        change.id = format!("{}/{}", change.namespace, change.id);
    }
}
