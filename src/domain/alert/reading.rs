//! An alert whose labels are looked up once, however many layers of the funnel ask for them.

use std::cell::OnceCell;
use std::ops::Deref;

use super::{Alert, Severity};

/// Reads as the alert itself. What is looked up in its labels is looked up when it is first asked for,
/// and then known: repeats, which are most of what arrives, ask for nothing.
#[derive(Debug)]
pub struct Reading<'a> {
    alert: &'a Alert,
    said: OnceCell<Said<'a>>,
}

#[derive(Debug)]
struct Said<'a> {
    name: &'a str,
    subject: Option<&'a str>,
    cluster: &'a str,
    namespace: Option<&'a str>,
    severity: Severity,
}

impl<'a> Reading<'a> {
    pub fn of(alert: &'a Alert) -> Self {
        Self { alert, said: OnceCell::new() }
    }

    fn said(&self) -> &Said<'a> {
        let alert = self.alert;
        self.said.get_or_init(|| Said {
            name: alert.name(),
            subject: alert.subject(),
            cluster: alert.cluster(),
            namespace: alert.namespace(),
            severity: alert.severity(),
        })
    }

    pub fn name(&self) -> &'a str {
        self.said().name
    }

    pub fn subject(&self) -> Option<&'a str> {
        self.said().subject
    }

    pub fn about(&self) -> &'a str {
        self.subject().unwrap_or_else(|| self.name())
    }

    pub fn cluster(&self) -> &'a str {
        self.said().cluster
    }

    pub fn namespace(&self) -> Option<&'a str> {
        self.said().namespace
    }

    pub fn severity(&self) -> Severity {
        self.said().severity
    }
}

impl Deref for Reading<'_> {
    type Target = Alert;

    fn deref(&self) -> &Alert {
        self.alert
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::{Fingerprint, Labels, Status};
    use crate::domain::time::Timestamp;

    #[test]
    fn it_says_what_the_alert_says() {
        let none = Labels::new();
        let some = [("alertname", "Slow"), ("pod", "pay-0"), ("cluster", "eu"), ("namespace", "shop"), ("level", "p1")];
        let some: Labels = some.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        for labels in [none, some] {
            let alert = Alert {
                fingerprint: Fingerprint::of(&labels),
                status: Status::Firing,
                labels,
                annotations: Labels::new(),
                starts_at: Timestamp::default(),
                ends_at: None,
                value: None,
            };
            let read = Reading::of(&alert);
            assert_eq!((read.name(), read.about(), read.subject()), (alert.name(), alert.about(), alert.subject()));
            assert_eq!((read.cluster(), read.namespace()), (alert.cluster(), alert.namespace()));
            assert_eq!((read.severity(), read.fingerprint), (alert.severity(), alert.fingerprint));
        }
    }
}
