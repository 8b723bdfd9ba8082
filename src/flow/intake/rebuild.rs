//! What the fold remembers, read from the ledger when a process begins to lead.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::super::desk::{Desk, FlowError};
use super::super::label;
use super::super::regroup::lesson_of;
use super::{WAITS_AGAIN, Watchkeeper};
use crate::domain::alert::{Fingerprint, Reading, Severity};
use crate::domain::correlate;
use crate::domain::id::IncidentId;
use crate::domain::stands::Stands;
use crate::domain::time::Timestamp;
use crate::domain::triage::{HeldAs, Triage};
use crate::store::{Heard, Scope, Standing};

/// What was muted for longer is told when its sender speaks again.
const MUTED_AGAIN: Duration = Duration::from_secs(5 * 24 * 3600);

impl Watchkeeper {
    pub(super) async fn rebuild(desk: &Desk) -> Result<Self, FlowError> {
        let rules = desk.rules.clone();
        let audit = label::audit_so_far(desk, rules.prefilter.audit).await?;
        let triage = Triage::new(rules, desk.store.next_incident_number().await?);
        let (silences, firing, quiet) = (String::new(), HashMap::new(), HashMap::new());
        let (over_firing, ended) = (HashMap::new(), VecDeque::new());
        let (over, stands) = (desk.store.over_revision(), Stands::default());
        let mut keeper = Self { triage, silences, firing, over_firing, ended, quiet, stands, audit, labels: 0, over };
        keeper.read_labels(desk).await?;
        for lesson in desk.store.lessons().await?.iter().filter_map(lesson_of) {
            keeper.triage.correlator.taught(&lesson);
        }
        let (topology, event_now) = (desk.topology().await, desk.clock.event_now());
        let lately = desk.store.heard_lately(40_000).await?;
        let members = desk.store.open_members().await?;
        let members: Vec<_> = members.into_iter().map(|member| (member.alert(), member)).collect();
        // Which clusters there are, and where, before anything is placed by that.
        for alert in lately.iter().map(|heard| &heard.alert).chain(members.iter().filter_map(|one| one.0.as_ref())) {
            keeper.triage.correlator.heard_of(alert);
        }
        for Heard { alert, standing } in lately {
            let fingerprint = alert.fingerprint;
            let alert_at = match standing {
                // Its firing is not among those that are read.
                Standing::Ended { .. } if !keeper.triage.prefilter.is_firing(fingerprint) => continue,
                // What ended, ended: the next firing is news.
                Standing::Ended { at } => at,
                // It had to fire for longer, and that it does not any more is known.
                Standing::HeldBack { over: true } => continue,
                Standing::Waits { over: false } if event_now.since(alert.starts_at) < WAITS_AGAIN => {
                    keeper.triage.correlator.waits_again(&alert, &topology);
                    alert.starts_at
                }
                Standing::HeldBack { over: false }
                | Standing::Waits { .. }
                | Standing::Muted { .. }
                | Standing::Unsteady { .. }
                | Standing::Usual { .. }
                | Standing::Judged => alert.starts_at,
            };
            // The past teaches the prefilter again; its verdicts of then are in the ledger.
            keeper.triage.prefilter.judge(&Reading::of(&alert), alert_at);
            keeper.triage.told(fingerprint);
            match standing {
                Standing::Ended { .. } => keeper.stands.forget(fingerprint),
                _ => keeper.stands.hear_again(&alert, event_now),
            }
            let age = event_now.since(alert.starts_at);
            match standing {
                Standing::Muted { over: false } if age < MUTED_AGAIN => {
                    keeper.triage.held_again(&alert, HeldAs::Muted, event_now);
                }
                Standing::Unsteady { over: false } if age < WAITS_AGAIN => {
                    keeper.triage.held_again(&alert, HeldAs::Unsteady, event_now);
                }
                Standing::Usual { over: false } if age < WAITS_AGAIN => {
                    keeper.triage.held_again(&alert, HeldAs::Usual, event_now);
                }
                _ => {}
            }
            // What is muted, or below the floor, inhibits all the same.
            let is_over = matches!(standing, Standing::Ended { .. });
            if is_over || event_now.since(alert.starts_at) < WAITS_AGAIN {
                keeper.triage.intent.observe(&alert, alert_at);
            }
        }
        let mut clusters: HashMap<IncidentId, String> = HashMap::new();
        let open = desk.store.incidents(Scope::NotOver).await?;
        for incident in &open {
            keeper.triage.correlator.opened(&incident.id, incident.since);
            clusters.insert(incident.id.clone(), incident.cluster.clone());
        }
        for incident in &open {
            if let Some(from) = &incident.split_from {
                keeper.triage.correlator.keep_apart(from, &incident.id);
            }
        }
        // Nothing is pulled from under people while it is read.
        keeper.read_pins(desk).await?;
        let mut newest: HashMap<String, i64> = HashMap::new();
        for (_, member) in &members {
            let known = newest.entry(member.fingerprint.clone()).or_default();
            *known = (*known).max(member.newest());
        }
        for (alert, member) in members {
            let Some(fingerprint) = Fingerprint::parse(&member.fingerprint) else { continue };
            // It has fired again in another incident since.
            if newest.get(&member.fingerprint).is_some_and(|newest| *newest > member.newest()) {
                continue;
            }
            let incident = IncidentId::new(member.incident.clone());
            let cluster = clusters.get(&incident).map_or("default", String::as_str);
            // Where it was heard of when it joined: another environment is another estate.
            let scope = alert.as_ref().map_or(cluster.into(), |alert| correlate::scope(&Reading::of(alert)));
            let at = Timestamp::from_millis(member.starts_at);
            let (subject, name) = (&member.subject, &member.name);
            let critical = alert.as_ref().is_none_or(|alert| Reading::of(alert).severity() == Severity::Critical);
            let heard = correlate::Heard { fingerprint, cluster: &scope, subject, name, at, critical };
            keeper.triage.correlator.joined(&incident, heard, &topology);
            // Who has ended is part of it, and its end does not count twice.
            if !member.fires()
                && let Some(ended_at) = member.ended_at
            {
                let ago = desk.clock.wall_now().since(Timestamp::from_millis(ended_at));
                keeper.triage.correlator.ended_at(fingerprint, event_now - ago);
            }
            if member.fires() {
                if let Some(alert) = &alert {
                    keeper.stands.hear_again(alert, event_now);
                    keeper.triage.intent.observe(alert, event_now);
                }
                keeper.firing.insert(fingerprint, (member.name, member.subject));
            }
        }
        keeper.outlived(desk).await?;
        Ok(keeper)
    }
}
