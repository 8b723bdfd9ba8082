//! Firings whose sender stands for them until an instant only: it repeats them before that, and one that
//! it does not repeat has ended, as its rule may have gone away without a word.
//!
//! Prometheus says with each alert that it posts how long that counts, four of its intervals.
//! <https://prometheus.io/docs/alerting/latest/clients/>

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::alert::{Alert, Fingerprint, Status};
use super::time::{Timestamp, spoken};

#[derive(Debug, Default)]
pub struct Stands {
    known: FxHashMap<Fingerprint, Box<Stand>>,
    /// When a sender was last heard: it has dropped an alert only if it goes on speaking of others.
    heard: FxHashMap<String, Timestamp>,
    /// Nothing lapses before it.
    next: Option<Timestamp>,
}

#[derive(Debug)]
struct Stand {
    alert: Alert,
    until: Timestamp,
}

/// A firing that has ended without a word.
#[derive(Debug, Clone, PartialEq)]
pub struct Lapsed {
    pub end: Alert,
    pub because: String,
}

/// Beyond it the others fire until their sender ends them.
const MAX_STANDS: usize = 50_000;
const MAX_SENDERS: usize = 1_000;
/// A sender that is away says nothing of what it watches. Its alerts end when it stays away for so long.
const AWAY: Duration = Duration::from_secs(3600);
/// While a sender is away it is looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// What it is given to repeat after our own absence: at least as long as it gave itself.
const GRACE: (Duration, Duration) = (Duration::from_secs(5 * 60), Duration::from_secs(3600));

impl Stands {
    pub fn hear(&mut self, alert: &Alert, event_now: Timestamp) {
        let fires = alert.status == Status::Firing;
        let Some(until) = alert.stands_until.filter(|_| fires) else {
            // It ended, or another sender tells of it, who says when it ends.
            if !self.known.is_empty() {
                self.known.remove(&alert.fingerprint);
            }
            return;
        };
        if self.heard.len() >= MAX_SENDERS {
            self.heard.clear();
        }
        self.heard.insert(sender(alert), event_now);
        self.stand(alert, until);
    }

    /// After a restart: it fired when it was last written down.
    pub fn hear_again(&mut self, alert: &Alert, event_now: Timestamp) {
        if let Some(until) = alert.stands_until {
            let span = until.since(alert.starts_at).clamp(GRACE.0, GRACE.1);
            self.stand(alert, until.max(event_now + span));
        }
    }

    pub fn forget(&mut self, fingerprint: Fingerprint) {
        self.known.remove(&fingerprint);
    }

    fn stand(&mut self, alert: &Alert, until: Timestamp) {
        // Copies overtake each other.
        if let Some(stand) = self.known.get_mut(&alert.fingerprint) {
            stand.until = stand.until.max(until);
            return;
        }
        if self.known.len() >= MAX_STANDS {
            return;
        }
        self.known.insert(alert.fingerprint, Box::new(Stand { alert: alert.clone(), until }));
        self.next = Some(self.next.map_or(until, |next| next.min(until)));
    }

    pub fn is_due(&self, event_now: Timestamp) -> bool {
        self.next.is_some_and(|next| next <= event_now)
    }

    /// Those that have ended by now, as ends that nobody sent, the oldest first.
    pub fn lapsed(&mut self, event_now: Timestamp) -> Vec<Lapsed> {
        if !self.is_due(event_now) {
            return vec![];
        }
        let mut lapsed = vec![];
        let heard = &self.heard;
        let mut next: Option<Timestamp> = None;
        self.known.retain(|_, stand| {
            let Stand { alert, until } = stand.as_ref();
            let because = (*until <= event_now).then(|| because(heard.get(&sender(alert)).copied(), *until, event_now));
            if let Some(Some(because)) = because {
                let end =
                    Alert { status: Status::Resolved, ends_at: Some(*until), stands_until: None, ..alert.clone() };
                lapsed.push(Lapsed { end, because });
                return false;
            }
            let look = (*until).max(event_now + LOOK_EVERY);
            next = Some(next.map_or(look, |next| next.min(look)));
            true
        });
        self.next = next;
        lapsed.sort_by_key(|lapsed| (lapsed.end.ends_at, lapsed.end.fingerprint));
        lapsed
    }
}

/// Why it has ended, if it has.
fn because(heard: Option<Timestamp>, until: Timestamp, event_now: Timestamp) -> Option<String> {
    let stood = format!("its sender stood for it until {} and has not repeated it", until.clock_time());
    if heard.is_some_and(|at| at > until) {
        return Some(format!("{stood}, while it goes on to speak of others"));
    }
    let away = event_now.since(until);
    (away >= AWAY).then(|| {
        format!(
            "{stood}; nothing else was heard of that sender for {} either: nobody knows whether it is over",
            spoken(away)
        )
    })
}

/// Several may post here: they differ in their external labels.
fn sender(alert: &Alert) -> String {
    format!("{}\u{1f}{}", alert.cluster(), alert.label("prometheus").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Labels;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    fn posted(name: &str, prometheus: &str, now: i64) -> Alert {
        let labels = [("alertname", name), ("prometheus", prometheus)];
        let labels: Labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Alert { stands_until: Some(at(now + 240)), ..Alert::firing(labels, at(0)) }
    }

    fn names(lapsed: &[Lapsed]) -> Vec<&str> {
        lapsed.iter().map(|lapsed| lapsed.end.name()).collect()
    }

    #[test]
    fn what_its_sender_drops_has_ended_while_that_speaks_of_others() {
        let mut stands = Stands::default();
        for minute in 0..10 {
            let now = minute * 60;
            stands.hear(&posted("Watchdog", "a", now), at(now));
            if minute < 3 {
                stands.hear(&posted("Down", "a", now), at(now));
            }
            let lapsed = stands.lapsed(at(now + 1));
            // It was last posted at 120 s, for 240 s; the other was heard behind that at 420 s.
            let wanted: &[&str] = if minute == 7 { &["Down"] } else { &[] };
            assert_eq!(names(&lapsed), wanted, "{now}");
            for Lapsed { end, because } in lapsed {
                assert_eq!((end.status, end.ends_at, end.stands_until), (Status::Resolved, Some(at(360)), None));
                assert!(because.ends_with("has not repeated it, while it goes on to speak of others"), "{because}");
            }
        }
    }

    #[test]
    fn a_sender_that_is_away_says_nothing_for_an_hour() {
        let mut stands = Stands::default();
        stands.hear(&posted("Down", "a", 0), at(0));
        for now in (240..240 + 3600).step_by(15) {
            // Another sender is none of its business.
            stands.hear(&posted("Watchdog", "b", now), at(now));
            assert_eq!(stands.lapsed(at(now)), vec![], "{now}");
        }
        let lapsed = stands.lapsed(at(240 + 3600));
        assert_eq!(names(&lapsed), ["Down"]);
        assert!(lapsed[0].because.contains("for 1 h either: nobody knows whether it is over"), "{}", lapsed[0].because);
    }

    #[test]
    fn what_ends_or_is_told_by_others_does_not_lapse() {
        let mut stands = Stands::default();
        for name in ["Ended", "Elsewhere"] {
            stands.hear(&posted(name, "a", 0), at(0));
        }
        stands.hear(&Alert { status: Status::Resolved, ..posted("Ended", "a", 60) }, at(60));
        stands.hear(&Alert { stands_until: None, ..posted("Elsewhere", "a", 60) }, at(60));
        assert_eq!(stands.lapsed(at(100_000)), vec![]);
        assert!(!stands.is_due(at(200_000)));
    }

    #[test]
    fn after_a_restart_a_sender_has_as_long_as_it_gave_itself() {
        let mut stands = Stands::default();
        // Written down days ago, when it began: it has been repeated since.
        stands.hear_again(&posted("Down", "a", 0), at(500_000));
        stands.hear(&posted("Watchdog", "a", 500_299), at(500_299));
        assert_eq!(stands.lapsed(at(500_299)), vec![]);
        stands.hear(&posted("Watchdog", "a", 500_301), at(500_301));
        assert_eq!(names(&stands.lapsed(at(500_301))), ["Down"]);
    }
}
