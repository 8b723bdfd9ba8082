//! An alert whose labels are looked up once, however many layers of the funnel ask for them.

use std::cell::OnceCell;
use std::ops::Deref;

use super::{Alert, DEFAULT_CLUSTER, Severity, UNNAMED};

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
    subject: Option<(&'a str, bool)>,
    cluster: Option<&'a str>,
    region: Option<&'a str>,
    namespace: Option<&'a str>,
    environment: Option<&'a str>,
    severity: Severity,
}

impl<'a> Said<'a> {
    /// In one pass over the labels, but for the subject: one name of many says it, the first of them mostly.
    fn by(alert: &'a Alert) -> Self {
        let (mut name, mut cluster, mut region, mut namespace) = (None, None, None, None);
        let (mut environment, mut env) = (None, None);
        let (mut severity, mut priority, mut level) = (None, None, None);
        for (label, value) in alert.labels.iter().filter(|(_, value)| !value.is_empty()) {
            let slot = match label.as_str() {
                "alertname" => &mut name,
                "cluster" => &mut cluster,
                "region" => &mut region,
                "namespace" => &mut namespace,
                "environment" => &mut environment,
                "env" => &mut env,
                "severity" => &mut severity,
                "priority" => &mut priority,
                "level" => &mut level,
                _ => continue,
            };
            *slot = Some(value.as_str());
        }
        Self {
            name: name.unwrap_or(UNNAMED),
            subject: alert.subject_by(),
            cluster,
            region,
            namespace,
            environment: environment.or(env),
            severity: Severity::said([severity, priority, level]),
        }
    }
}

impl<'a> Reading<'a> {
    pub fn of(alert: &'a Alert) -> Self {
        Self { alert, said: OnceCell::new() }
    }

    fn said(&self) -> &Said<'a> {
        self.said.get_or_init(|| Said::by(self.alert))
    }

    pub fn name(&self) -> &'a str {
        self.said().name
    }

    pub fn subject(&self) -> Option<&'a str> {
        self.said().subject.map(|(subject, _)| subject)
    }

    /// Whether the subject is said in a label that people name services in.
    pub fn is_named(&self) -> bool {
        self.said().subject.is_some_and(|(_, named)| named)
    }

    pub fn about(&self) -> &'a str {
        self.subject().unwrap_or_else(|| self.name())
    }

    pub fn cluster(&self) -> &'a str {
        self.said().cluster.unwrap_or(DEFAULT_CLUSTER)
    }

    pub fn says_cluster(&self) -> bool {
        self.said().cluster.is_some()
    }

    pub fn region(&self) -> Option<&'a str> {
        self.said().region
    }

    pub fn namespace(&self) -> Option<&'a str> {
        self.said().namespace
    }

    pub fn environment(&self) -> Option<&'a str> {
        self.said().environment
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
    use crate::domain::alert::Labels;
    use crate::domain::time::Timestamp;

    #[test]
    fn it_says_what_the_alert_says() {
        let none = Labels::new();
        let some = [("alertname", "Slow"), ("pod", "pay-0"), ("cluster", "eu"), ("namespace", "shop"), ("level", "p1")];
        let other = [("severity", "odd"), ("priority", "low"), ("level", "p1"), ("env", "qa"), ("environment", "")];
        let of = |pairs: [(&str, &str); 5]| pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for labels in [none, of(some), of(other)] {
            let alert = Alert::firing(labels, Timestamp::default());
            let read = Reading::of(&alert);
            assert_eq!((read.name(), read.about(), read.subject()), (alert.name(), alert.about(), alert.subject()));
            assert_eq!((read.cluster(), read.namespace()), (alert.cluster(), alert.namespace()));
            assert_eq!(read.environment(), alert.environment());
            assert_eq!((read.severity(), read.fingerprint), (alert.severity(), alert.fingerprint));
        }
    }
}
