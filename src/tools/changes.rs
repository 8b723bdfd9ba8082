//! What was rolled out, read from the rollout history of every Deployment.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;

use crate::domain::change::{Change, compare_templates};
use crate::domain::time::Timestamp;
use crate::ports::{Cluster, ClusterError, Revision, Workload};

/// Kind to the API server: a few hundred workloads take a second or two.
const PARALLEL: usize = 8;

/// All changes since then, oldest first. A workload whose history cannot be read is left out and
/// said in the log: the others are worth having.
pub async fn changes_of(cluster: &Arc<dyn Cluster>, since: Timestamp) -> Result<Vec<Change>, ClusterError> {
    let workloads = cluster.workloads().await?;
    let deployments = workloads.into_iter().filter(|workload| workload.kind == "Deployment");
    let histories: Vec<_> = futures::stream::iter(deployments)
        .map(|workload| async move {
            let revisions = cluster.revisions(&workload.namespace, &workload.name).await;
            (workload, revisions)
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await;
    let mut changes = vec![];
    for (workload, revisions) in histories {
        match revisions {
            Ok(revisions) => changes.extend(changes_in(&workload, &revisions)),
            Err(ClusterError::NotFound(_)) => {}
            Err(error) => {
                tracing::warn!(namespace = workload.namespace, workload = workload.name, %error, "no rollout history");
            }
        }
    }
    changes.retain(|change| change.at >= since);
    tell_apart(&mut changes);
    changes.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    Ok(changes)
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
            current: workload.revision == Some(revision.number),
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
