//! Who is called about an incident, step by step, until somebody takes it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::incident::{Incident, Sev};
use super::intent::matcher::Matchers;
use super::route::Facts;
use super::time::Timestamp;

/// One step: a person, or whoever a schedule names at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Step {
    /// `TEAM/USER`
    Person(String),
    /// `pagerduty:PABC123`
    PagerDuty(String),
    /// `opsgenie:Payments`
    Opsgenie(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no step: write TEAM/USER, pagerduty:<schedule id> or opsgenie:<schedule name>")]
pub struct NoStep(String);

impl FromStr for Step {
    type Err = NoStep;

    fn from_str(text: &str) -> Result<Self, NoStep> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("pagerduty", schedule)) if !schedule.is_empty() => Ok(Self::PagerDuty(schedule.to_owned())),
            Some(("opsgenie", schedule)) if !schedule.is_empty() => Ok(Self::Opsgenie(schedule.to_owned())),
            None if text.split('/').filter(|part| !part.is_empty()).count() == 2 => Ok(Self::Person(text.to_owned())),
            _ => Err(NoStep(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Step {
    type Error = NoStep;
    fn try_from(text: String) -> Result<Self, NoStep> {
        text.parse()
    }
}

impl From<Step> for String {
    fn from(step: Step) -> Self {
        step.to_string()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(person) => f.write_str(person),
            Self::PagerDuty(schedule) => write!(f, "pagerduty:{schedule}"),
            Self::Opsgenie(schedule) => write!(f, "opsgenie:{schedule}"),
        }
    }
}

/// The way of one team or service.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// As for routes; left out: everything that no earlier path is for.
    #[serde(default)]
    pub matchers: Option<Matchers>,
    /// Lighter incidents call nobody.
    #[serde(default = "sev_two")]
    pub from: Sev,
    /// How long each step has before the next is called.
    #[serde(default = "five_minutes")]
    pub every_seconds: u64,
    pub steps: Vec<Step>,
}

fn sev_two() -> Sev {
    Sev::Two
}

fn five_minutes() -> u64 {
    300
}

/// The first path that fits.
pub fn path<'a>(paths: &'a [Path], facts: &Facts) -> Option<&'a Path> {
    paths.iter().find(|path| path.matchers.as_ref().is_none_or(|matchers| facts.fit(matchers)))
}

impl Path {
    /// Tells it from the others, also after a restart with other paths around it.
    pub fn name(&self) -> String {
        self.matchers.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string)
    }

    /// When the next step may be taken. Counted from the last call: an incident that became grave late
    /// does not call everybody at once. The first step of a path that fits only now waits for no other path.
    /// Whoever it was handed to has as long as a step to accept it.
    pub fn due_at(&self, incident: &Incident) -> Timestamp {
        let accepted_by = incident.handed.as_ref().map(|handed| handed.at + Duration::from_secs(self.every_seconds));
        self.called_until(incident).max(accepted_by.unwrap_or_default())
    }

    /// When the last call has had its time.
    fn called_until(&self, incident: &Incident) -> Timestamp {
        match incident.called_at {
            Some(last) if incident.steps_on(&self.name()) > 0 => last + Duration::from_secs(self.every_seconds),
            Some(_) | None => incident.opened_at,
        }
    }

    /// The step of that number, or the next one that calls somebody whom no other path has called.
    pub fn step_from<'a>(&'a self, incident: &Incident, number: usize) -> Option<(usize, &'a Step)> {
        let name = self.name();
        self.steps.iter().enumerate().skip(number).find(|(_, step)| match step {
            Step::Person(person) => !incident.called_elsewhere(&name, person),
            // Whom they name is known only when they are asked.
            Step::PagerDuty(_) | Step::Opsgenie(_) => true,
        })
    }

    /// The step that is due now, when nobody has taken the incident: the first at once, each next one
    /// when the one before has had its time.
    pub fn due(&self, incident: &Incident, wall_now: Timestamp) -> Option<(usize, &Step)> {
        if !self.is_time(incident, wall_now) {
            return None;
        }
        self.next_step(incident)
    }

    /// Whether whoever it was handed to has not accepted it in time, and nobody is left to call instead.
    pub fn is_forsaken(&self, incident: &Incident, wall_now: Timestamp) -> bool {
        incident.handed.is_some() && self.is_time(incident, wall_now) && self.next_step(incident).is_none()
    }

    /// The one that is taken next, if any is left.
    pub fn next_step(&self, incident: &Incident) -> Option<(usize, &Step)> {
        self.step_from(incident, incident.steps_on(&self.name()))
    }

    /// Whether nobody has it that it is for, and the last call has had its time.
    fn is_time(&self, incident: &Incident, wall_now: Timestamp) -> bool {
        if incident.is_taken() || incident.state.is_over() || incident.severity < self.from {
            return false;
        }
        // The clock was set back since the hand-over: that says nothing, and each call would be due at once.
        let is_ahead = incident.handed.as_ref().is_some_and(|handed| handed.at > wall_now);
        let due_at = if is_ahead { self.called_until(incident) } else { self.due_at(incident) };
        // A call that lies further ahead than a step takes is of a clock that has been set back since: rather
        // too early than an hour late.
        let set_back = due_at.since(wall_now) > Duration::from_secs(2 * self.every_seconds);
        wall_now >= due_at || set_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IncidentId;
    use crate::domain::incident::Handed;

    #[test]
    fn steps_as_they_are_written() {
        for text in ["T024/U1", "pagerduty:PABC123", "opsgenie:Payments team"] {
            assert_eq!(text.parse::<Step>().unwrap().to_string(), text);
        }
        for text in ["ada", "pagerduty:", "phone:123", "a/b/c", "/x", ""] {
            assert!(text.parse::<Step>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_step_after_the_other_until_somebody_takes_it() {
        let text = "from = \"SEV2\"\nevery_seconds = 60\nsteps = [\"t/a\", \"t/b\"]";
        let path: Path = toml_like(text);
        let mut incident = Incident::blank(IncidentId::numbered(1));
        incident.opened_at = Timestamp::from_secs(1_000);
        incident.severity = Sev::Two;
        let at = |seconds: i64| Timestamp::from_secs(1_000 + seconds);
        assert_eq!(path.due(&incident, at(0)).map(|(number, _)| number), Some(0));
        (incident.called, incident.called_at) = (1, Some(at(0)));
        assert_eq!(path.due(&incident, at(59)), None);
        assert_eq!(path.due(&incident, at(60)).map(|(number, _)| number), Some(1));
        (incident.called, incident.called_at) = (1, Some(at(500)));
        assert_eq!(path.due(&incident, at(510)), None, "the last call counts, not the opening");
        assert_eq!(path.due(&incident, at(499)), None, "clocks differ a little");
        assert!(path.due(&incident, at(500 - 3_600)).is_some(), "the clock has been set back by an hour");
        incident.called = 2;
        assert_eq!(path.due(&incident, at(9_999)), None);
        incident.called = 1;
        incident.owner = Some("t/a".into());
        assert_eq!(path.due(&incident, at(9_999)), None);
        incident.owner = None;
        incident.severity = Sev::Three;
        assert_eq!(path.due(&incident, at(9_999)), None);
    }

    #[test]
    fn a_hand_over_that_nobody_accepts_stops_no_call_for_longer_than_a_step() {
        let path = toml_like("every_seconds = 60\nsteps = [\"t/ada\", \"t/bob\"]");
        let at = |seconds: i64| Timestamp::from_secs(1_000 + seconds);
        let mut incident = Incident::blank(IncidentId::numbered(1));
        (incident.opened_at, incident.severity) = (at(0), Sev::One);
        incident.owner = Some("t/cleo".into());
        assert_eq!(path.due(&incident, at(9_999)), None, "what older versions have handed over is accepted");
        let handed = |seconds: i64| Some(Handed { by: "t/ada".into(), at: at(seconds) });
        let number = |incident: &Incident, seconds: i64| path.due(incident, at(seconds)).map(|(number, _)| number);
        incident.handed = handed(10);
        assert_eq!((number(&incident, 69), number(&incident, 70)), (None, Some(0)), "nobody was called before");
        (incident.called, incident.called_at, incident.handed) = (1, Some(at(0)), handed(50));
        assert_eq!((number(&incident, 109), number(&incident, 110)), (None, Some(1)));
        assert!(!path.is_forsaken(&incident, at(110)), "somebody is left");
        // The next one has been called since, and has the time of a step, too.
        (incident.called, incident.called_at) = (2, Some(at(110)));
        assert_eq!(number(&incident, 9_999), None);
        assert!(!path.is_forsaken(&incident, at(169)) && path.is_forsaken(&incident, at(170)));
        // The clock is set back by an hour, and the last call is of the new time.
        let mut set_back = incident.clone();
        (set_back.handed, set_back.called, set_back.called_at) = (handed(3_600), 1, Some(at(110)));
        assert_eq!((number(&set_back, 111), number(&set_back, 170)), (None, Some(1)));
        let mut light = incident.clone();
        light.severity = Sev::Four;
        assert!(!path.is_forsaken(&light, at(9_999)), "it calls nobody");
        incident.handed = None;
        assert!(!path.is_forsaken(&incident, at(9_999)), "it is accepted");
        (incident.called, incident.owner) = (1, None);
        assert_eq!(number(&incident, 9_999), Some(1), "it is nobody's again");
    }

    #[test]
    fn a_path_that_fits_only_now_begins_at_its_start_and_calls_nobody_twice() {
        let rest = toml_like("every_seconds = 60\nsteps = [\"t/ada\", \"t/bob\"]");
        let database = "matchers = 'service=\"payments-db\"'\nevery_seconds = 60\n";
        let database = toml_like(&format!("{database}steps = [\"t/cleo\", \"t/ada\", \"t/dan\"]"));
        let mut incident = Incident::blank(IncidentId::numbered(1));
        (incident.opened_at, incident.severity) = (Timestamp::from_secs(1_000), Sev::One);
        let at = |seconds: i64| Timestamp::from_secs(1_000 + seconds);
        let mut call = |path: &Path, seconds: i64| {
            let (number, step) = path.due(&incident, at(seconds))?;
            let walked = incident.walked.entry(path.name()).or_default();
            walked.steps = number + 1;
            walked.who.insert(step.to_string());
            (incident.called, incident.called_at) = (number + 1, Some(at(seconds)));
            Some(step.to_string())
        };
        assert_eq!(call(&rest, 0).as_deref(), Some("t/ada"));
        assert_eq!(call(&database, 1).as_deref(), Some("t/cleo"), "not its second step, and at once");
        assert_eq!(call(&database, 60), None);
        assert_eq!(call(&database, 61).as_deref(), Some("t/dan"), "ada was called already");
        assert_eq!(call(&database, 999), None);
        assert_eq!(call(&rest, 999).as_deref(), Some("t/bob"), "back on the first, where it was left");
    }

    #[test]
    fn what_an_older_version_has_called_is_not_called_again() {
        let path = toml_like("every_seconds = 60\nsteps = [\"t/ada\", \"t/bob\"]");
        let mut incident = Incident::blank(IncidentId::numbered(1));
        (incident.severity, incident.called, incident.called_at) = (Sev::One, 1, Some(Timestamp::from_secs(1_000)));
        assert_eq!(path.due(&incident, Timestamp::from_secs(1_060)).map(|(number, _)| number), Some(1));
    }

    fn toml_like(text: &str) -> Path {
        toml::from_str(text).unwrap()
    }
}
