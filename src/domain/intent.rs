//! Human intent over alerts: what people have said, ahead or at the moment, about which alerts need
//! nobody now.
//!
//! Invariants: the verdict depends on the alert, the instant and what was observed, and on no
//! clock; each muted alert carries its reason; a muted alert is observed all the same, because what
//! is silenced still inhibits.

use serde::{Deserialize, Serialize};

use super::alert::{Alert, Fingerprint};
use super::time::Timestamp;

pub mod alertmanager;
pub mod cover;
mod index;
pub mod inhibit;
pub mod interval;
pub mod matcher;
pub mod silence;
#[cfg(test)]
mod tests;
pub mod window;

use alertmanager::{Alertmanager, Destination};
use inhibit::{Inhibitions, Limits};
use silence::{SilenceId, Silences};
use window::Windows;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "muted", rename_all = "snake_case")]
pub enum Muted {
    /// A person silenced it.
    Silenced { id: SilenceId, by: String, comment: String, until: Timestamp },
    /// Planned work, or a time at which its routes are muted. No `until`: the end is more than
    /// eight days away.
    Window { name: String, until: Option<Timestamp> },
    /// A source alert explains it; `because` says which and on what both agree.
    Inhibited { by: Fingerprint, rule: String, because: String },
    /// A time outside the one at which its routes are active.
    Inactive { interval: String },
}

impl Muted {
    /// The counter's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Silenced { .. } => "silenced",
            Self::Window { .. } => "window",
            Self::Inhibited { .. } => "inhibited",
            Self::Inactive { .. } => "inactive",
        }
    }

    pub fn explain(&self) -> String {
        match self {
            Self::Silenced { id, by, comment, until } => {
                format!("silenced by {by} until {until}: {comment} (silence {id})")
            }
            Self::Window { name, until: Some(until) } => format!("inside the window {name} until {until}"),
            Self::Window { name, until: None } => format!("inside the window {name}"),
            Self::Inhibited { rule, because, .. } => format!("inhibited: {because} (rule {rule})"),
            Self::Inactive { interval } => format!("outside the active time {interval} of its route"),
        }
    }
}

/// Everything that people have said.
#[derive(Debug, Clone, Default)]
pub struct Intent {
    pub silences: Silences,
    windows: Windows,
    inhibitions: Inhibitions,
    alertmanager: Alertmanager,
    routes_by_time: bool,
}

impl Intent {
    /// The file's inhibition rules, intervals and routes take part; an empty file is the default.
    pub fn new(silences: Silences, windows: Windows, alertmanager: Alertmanager, limits: Limits) -> Self {
        let inhibitions = Inhibitions::new(alertmanager.inhibit_rules.clone(), limits);
        let routes_by_time = alertmanager.routes_by_time();
        Self { silences, windows, inhibitions, alertmanager, routes_by_time }
    }

    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    pub fn inhibitions(&self) -> &Inhibitions {
        &self.inhibitions
    }

    pub fn alertmanager(&self) -> &Alertmanager {
        &self.alertmanager
    }

    /// Why the alert needs nobody at the instant, if so. The most deliberate reason is named when
    /// several hold: a person's silence, then planned work, then inhibition, then the time of day.
    /// Looks at labels, not at the status: whether a resolve is told is the caller's choice.
    pub fn judge(&self, alert: &Alert, at: Timestamp) -> Option<Muted> {
        if let Some(silence) = self.silences.mutes(alert, at) {
            return Some(Muted::Silenced {
                id: silence.id.clone(),
                by: silence.created_by.clone(),
                comment: silence.comment.clone(),
                until: silence.ends_at,
            });
        }
        if let Some(window) = self.windows.mutes(alert, at) {
            return Some(Muted::Window { name: window.name.clone(), until: window.schedule.until(at) });
        }
        if let Some(inhibition) = self.inhibitions.inhibited_by(alert, at) {
            let (by, rule) = (inhibition.by, inhibition.rule.name());
            return Some(Muted::Inhibited { by, rule, because: inhibition.reason() });
        }
        self.muted_by_routes(alert, at)
    }

    /// Whose alert it is: its own word, else that of its route.
    pub fn team_of<'a>(&'a self, alert: &'a Alert) -> Option<&'a str> {
        alert.team().or_else(|| self.alertmanager.route(&alert.labels).owner())
    }

    /// Feeds the inhibition rules; call it for every alert, whatever the verdict.
    pub fn observe(&mut self, alert: &Alert, at: Timestamp) {
        self.inhibitions.observe(alert, at);
    }

    /// An alert is muted by time when all the routes that it takes are; the first says why.
    fn muted_by_routes(&self, alert: &Alert, at: Timestamp) -> Option<Muted> {
        if !self.routes_by_time {
            return None;
        }
        let routed = self.alertmanager.route(&alert.labels);
        let mut reasons = routed.destinations.iter().map(|destination| self.muted_by_route(destination, at));
        let first = reasons.next()??;
        reasons.all(|reason| reason.is_some()).then_some(first)
    }

    fn muted_by_route(&self, destination: &Destination, at: Timestamp) -> Option<Muted> {
        let interval = |name: &String| self.alertmanager.interval(name);
        let muting = destination.mute_intervals.iter().filter_map(interval).find(|interval| interval.contains(at));
        if let Some(interval) = muting {
            return Some(Muted::Window { name: interval.name.clone(), until: interval.until(at) });
        }
        let mut active = destination.active_intervals.iter().filter_map(interval);
        if active.clone().any(|interval| interval.contains(at)) {
            return None;
        }
        active.next().map(|interval| Muted::Inactive { interval: interval.name.clone() })
    }
}
