//! What joins no incident: it opens one, or waits for company.

use std::time::Duration;

use super::super::alert::{Reading, Severity};
use super::super::time::Timestamp;
use super::because::{Because, Company};
use super::voices::{Link, Voices};
use super::waiting::Waiting;
use super::{COMPANY, Correlator, NAMES_OPEN, Placement};

/// Instances of one subject that warn together are company enough.
const INSTANCES_OPEN: usize = 6;

impl Correlator {
    pub(super) fn without_incident(&mut self, node: u32, alert: &Reading<'_>, cause: bool) -> Placement {
        let at = alert.starts_at;
        let mut near: Vec<Waiting> = self.waiting_near(node, at, COMPANY);
        // It may wait itself since it fired before: nobody is company for itself.
        near.retain(|one| one.fingerprint != alert.fingerprint);
        let soon = near.iter();
        let subject = self.graph.at(node).subject.clone();
        let known = self.graph.at(node);
        // It seemed to suffer from others only.
        let suffers = known.critical && at.abs_diff(known.last_at) <= COMPANY && self.active(node, at).is_some();
        let proven = cause && suffers;
        if alert.severity() == Severity::Critical
            && let Some((key, why)) = self.for_want_of_names(node, at)
        {
            return self.join(key, node, alert, cause, why);
        }
        if alert.severity() == Severity::Critical || proven {
            self.places.note(alert, self.graph.at(node).scope, node, at);
            let because = match proven {
                true => Because::BrokenInItself { subject },
                false => Because::Critical { subject },
            };
            return Placement::Open { because, gathers: near.iter().map(|one| one.fingerprint).collect() };
        }
        let mut subjects: Vec<&str> =
            soon.clone().map(|one| one.node).chain([node]).map(|one| &*self.graph.at(one).subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let here = soon.filter(|one| one.node == node);
        let mut names: Vec<&str> = here.clone().map(|one| &*one.name).chain([alert.name()]).collect();
        names.sort_unstable();
        names.dedup();
        let company = match (subjects.len(), names.len(), here.count() + 1) {
            (subjects, _, _) if subjects >= self.rules.warnings_open => Some(Company::Subjects(subjects)),
            (_, names, _) if names >= NAMES_OPEN => Some(Company::Names(names, subject.clone())),
            (_, _, instances) if instances >= INSTANCES_OPEN => Some(Company::Warnings(instances, subject.clone())),
            _ => None,
        };
        if company.is_some()
            && let Some((key, caller)) = self.downstream(node, at)
        {
            let voices = Voices { time: 1.0, topology: 0.6, ..Voices::default() };
            let why = self.why(Link::InTheWakeOf, node, Some(caller), at, voices);
            return self.join(key, node, alert, cause, why);
        }
        if company.is_some()
            && let Some((key, why)) = self.for_want_of_names(node, at)
        {
            return self.join(key, node, alert, cause, why);
        }
        let company = company.or_else(|| {
            let (subjects, waiting) = self.complaints(node, at)?;
            near.extend(waiting);
            near.sort_by_key(|one| (one.at, one.fingerprint));
            near.dedup_by_key(|one| one.fingerprint);
            Some(Company::Unresolved(subjects))
        });
        if let Some(company) = company {
            let because = Because::Company { company, within: COMPANY };
            let gathers = near.iter().map(|one| one.fingerprint).collect();
            self.places.note(alert, self.graph.at(node).scope, node, at);
            return Placement::Open { because, gathers };
        }
        self.wait(alert, node);
        Placement::Wait { because: Because::ByItself { subject } }
    }

    /// Waiting warnings about the node, what it needs and what needs it.
    fn waiting_near(&self, node: u32, at: Timestamp, within: Duration) -> Vec<Waiting> {
        // Most alerts have no warning near them, and the neighbours need not be walked to know it.
        if self.waiting.is_empty() {
            return vec![];
        }
        let around = std::iter::once(node).chain(self.graph.callees(node)).chain(self.graph.callers(node));
        let around = around.chain(self.graph.twins(node));
        let mut near: Vec<Waiting> = around.flat_map(|one| self.waiting.about(one)).cloned().collect();
        near.retain(|one| at.abs_diff(one.at) <= within);
        near.sort_by_key(|one| (one.at, one.fingerprint));
        near.dedup_by_key(|one| one.fingerprint);
        near
    }
}
