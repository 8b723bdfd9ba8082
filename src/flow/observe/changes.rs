//! What was rolled out, and what other systems have announced.
//!
//! Invariant: that nothing was changed is said only where everything was read.

use std::time::Duration;

use tracing::warn;

use super::{Dossier, Exhibit};
use crate::domain::action::Action;
use crate::domain::change::announced::merge;
use crate::domain::change::{Change, Unread};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::incident::Outcome;
use crate::domain::root_cause::Picture;
use crate::domain::time::Timestamp;
use crate::flow::desk::{Desk, FlowError};
use crate::ports::Cluster;
use crate::tools::{Rollouts, changes_of};

pub(super) const COUNT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Rollouts of the cluster and what other systems have announced since then; `None`: nothing is known of
/// them, because nobody could be asked or the store could not be read.
pub async fn recent_changes(desk: &Desk, since: Timestamp) -> Option<Vec<Change>> {
    let Known { found, unread } = Known::of(desk, desk.cluster.as_deref(), since).await;
    for Unread { what, why, .. } in unread {
        warn!(what, why, "changes could not be read");
    }
    found
}

#[derive(Default)]
pub(super) struct Known {
    found: Option<Vec<Change>>,
    unread: Vec<Unread>,
}

impl Known {
    pub(super) async fn of(desk: &Desk, cluster: Option<&dyn Cluster>, since: Timestamp) -> Self {
        let unknown =
            |what: &str, why: &dyn std::fmt::Display| Self { found: None, unread: vec![Unread::of_all(what, &why)] };
        let announced = match desk.store.announced_since(since).await {
            Ok(announced) => announced,
            Err(error) => return unknown("what was announced", &error),
        };
        let (asked, Rollouts { changes, unread }) = match cluster {
            None => (false, Rollouts::default()),
            Some(cluster) => (true, changes_of(cluster, since).await),
        };
        let nobody_told = !asked || unread.iter().any(|unread| unread.services.is_none());
        if nobody_told && announced.is_empty() {
            return Self { found: None, unread };
        }
        // Without them a remedy of ours would stand there as a change to blame.
        let own = match own_rollbacks(desk, desk.clock.event_now()).await {
            Ok(own) => own,
            Err(error) => return unknown("our own rollbacks", &error),
        };
        let rollouts = changes.into_iter().filter(|change| !own.iter().any(|one| one.made(change)));
        Self { found: Some(merge(rollouts.collect(), announced)), unread }
    }

    pub(super) fn note(self, event_now: Timestamp, dossier: &mut Dossier, picture: &mut Picture) {
        for Unread { what, why, .. } in &self.unread {
            dossier.unread(EvidenceKind::Change, "changes", what, why);
        }
        picture.unread_changes.extend(self.unread);
        let Some(changes) = self.found else { return };
        // Newest first: of a long list the beginning is read.
        let body: Vec<String> = changes
            .iter()
            .rev()
            .map(|change| {
                format!(
                    "{} {} ({}): {}",
                    change.at,
                    change.id,
                    change.cause.as_deref().unwrap_or("no change-cause given"),
                    change.touched.iter().map(|touched| touched.detail.as_str()).collect::<Vec<_>>().join("; ")
                )
            })
            .collect();
        let latest = changes.iter().max_by_key(|change| change.at);
        let summary = match (latest, picture.unread_changes.is_empty()) {
            (None, true) => "no change in the last 24 hours".to_owned(),
            (None, false) => "no change in the last 24 hours among those that could be read".to_owned(),
            (Some(latest), _) => {
                format!("{} changes in the last 24 hours, the latest: {}", changes.len(), latest.id)
            }
        };
        let exhibit = Exhibit {
            kind: EvidenceKind::Change,
            source: "changes",
            query: "rollout history of all workloads and announced changes, 24 h",
            summary,
            body: body.join("\n"),
            series: vec![],
            taint: Taint::UserWritable,
        };
        let evidence = match changes.is_empty() {
            true => dossier.add_empty(exhibit, event_now),
            false => dossier.add(exhibit, event_now),
        };
        picture.changes_evidence = Some(evidence);
        picture.changes = changes;
    }
}

/// A rollback that we carried out. What it made is a remedy, not a change to blame.
struct OwnRollback {
    namespace: String,
    workload: String,
    from_revision: i64,
    undone: bool,
}

impl OwnRollback {
    /// The controller gives what it goes back to the next free number, and the undo the one after it.
    fn made(&self, change: &Change) -> bool {
        let last = self.from_revision + if self.undone { 2 } else { 1 };
        change.namespace == self.namespace
            && change.workload == self.workload
            && (self.from_revision + 1..=last).contains(&change.to_revision)
    }
}

async fn own_rollbacks(desk: &Desk, event_now: Timestamp) -> Result<Vec<OwnRollback>, FlowError> {
    let day = Duration::from_secs(24 * 3600);
    // The one clock may run ahead of the other.
    let incidents = desk.store.acted_on(desk.clock.wall_now() - 2 * day).await?;
    let lately = incidents.into_iter().filter(|incident| event_now.since(incident.since) < day);
    let done = lately.flat_map(|incident| incident.plans).filter(|record| {
        // Only what was certainly written: another's change must not hide behind an attempt of ours.
        matches!(
            record.outcome,
            Outcome::Written
                | Outcome::Verified
                | Outcome::NotVerified
                | Outcome::Undone
                | Outcome::NotUndone { .. }
                | Outcome::Recurred
                | Outcome::Overruled { .. }
        )
    });
    let rollbacks = done.filter_map(|record| match record.plan.action {
        Action::RollBack { target, from_revision, .. } => Some(OwnRollback {
            namespace: target.namespace,
            workload: target.name,
            from_revision,
            undone: record.outcome == Outcome::Undone,
        }),
        _ => None,
    });
    Ok(rollbacks.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IncidentId;

    #[track_caller]
    fn check(known: Known, expected: &[&str]) {
        let mut dossier = Dossier::behind(&IncidentId::numbered(1), 0);
        let mut picture = Picture::default();
        known.note(Timestamp::from_secs(9), &mut dossier, &mut picture);
        dossier.note_unread(Timestamp::from_secs(9));
        let told: Vec<&str> = dossier.evidence.iter().map(|evidence| evidence.summary.as_str()).collect();
        assert_eq!(told, expected);
        assert_eq!(picture.changes_evidence.is_some(), told.len() > picture.unread_changes.len().min(1));
    }

    #[test]
    fn that_nothing_was_changed_is_said_only_where_all_was_read() {
        let forbidden = || vec![Unread::of_all("the rollout histories of shop", &"forbidden")];
        check(Known { found: Some(vec![]), unread: vec![] }, &["no change in the last 24 hours"]);
        let told = "the rollout histories of shop could not be read: forbidden";
        check(Known { found: None, unread: forbidden() }, &[told]);
        check(
            Known { found: Some(vec![]), unread: forbidden() },
            &["no change in the last 24 hours among those that could be read", told],
        );
    }

    #[test]
    fn the_newest_change_is_told_first() {
        let change = |number: i64| Change {
            id: format!("cart revision {number}"),
            namespace: "prod".into(),
            service: "cart".into(),
            workload: "cart".into(),
            at: Timestamp::from_secs(number),
            from_revision: None,
            to_revision: number,
            touched: vec![],
            cause: None,
            current: true,
            put_back: false,
        };
        let mut dossier = Dossier::behind(&IncidentId::numbered(1), 0);
        let mut picture = Picture::default();
        let known = Known { found: Some(merge(vec![change(2), change(1)], vec![change(3)])), unread: vec![] };
        known.note(Timestamp::from_secs(9), &mut dossier, &mut picture);
        let told: Vec<&str> = dossier.evidence[0].body.lines().filter_map(|line| line.split(' ').nth(3)).collect();
        assert_eq!(told, ["3", "2", "1"]);
    }
}
