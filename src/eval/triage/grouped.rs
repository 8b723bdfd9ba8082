//! What a stock Alertmanager would send: a model of it, not a run of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Case;
use super::timeline::Happening;
use crate::domain::alert::{Fingerprint, Status};
use crate::domain::time::Timestamp;

/// Its documented defaults.
const GROUP_WAIT: Duration = Duration::from_secs(30);
const GROUP_INTERVAL: Duration = Duration::from_secs(5 * 60);
const REPEAT_INTERVAL: Duration = Duration::from_secs(3 * 3600);

#[derive(Debug, Default)]
struct Group {
    firing: HashSet<Fingerprint>,
    fresh: bool,
    due: Option<Timestamp>,
    told: Option<Timestamp>,
    sent: usize,
}

impl Group {
    fn flush(&mut self, now: Timestamp) {
        while let Some(due) = self.due.filter(|due| *due <= now) {
            let again = self.told.is_none_or(|told| due.since(told) >= REPEAT_INTERVAL);
            if !self.firing.is_empty() && (self.fresh || again) {
                self.sent += 1;
                self.told = Some(due);
            }
            self.fresh = false;
            self.due = (!self.firing.is_empty()).then_some(due + GROUP_INTERVAL);
        }
    }
}

/// Its notifications by its documented rules in event time, up to the first wait after the last alert: one
/// group for each combination of `group_by`; resolved notifications are not counted.
pub fn alertmanager(cases: &[Case], timeline: &[(Timestamp, Happening)], group_by: &[&str]) -> usize {
    let until = cases.last().map_or(Timestamp::default(), |case| case.at) + GROUP_WAIT;
    let mut groups: HashMap<Vec<String>, Group> = HashMap::new();
    for (at, happening) in timeline.iter().take_while(|(at, _)| *at <= until) {
        let (case, status) = match happening {
            Happening::Arrives(number) => (&cases[*number], cases[*number].alert.status),
            Happening::Ends(number) => (&cases[*number], Status::Resolved),
        };
        let key = group_by.iter().map(|name| case.alert.label(name).unwrap_or_default().to_owned()).collect();
        let group = groups.entry(key).or_default();
        group.flush(*at);
        match status {
            Status::Firing => {
                group.fresh |= group.firing.insert(case.alert.fingerprint);
                group.due.get_or_insert(*at + GROUP_WAIT);
            }
            Status::Resolved => {
                group.firing.remove(&case.alert.fingerprint);
            }
        }
    }
    groups.values_mut().for_each(|group| group.flush(until));
    groups.values().map(|group| group.sent).sum()
}
