//! How often people would be told: grave incidents at once, light ones together, as routing does it in one
//! channel at any hour.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::domain::alert::{Alert, Fingerprint};
use crate::domain::id::IncidentId;
use crate::domain::incident::Sev;
use crate::domain::route::NAMED;
use crate::domain::severity::{self, History, Symptom};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage::Gathered;

/// What is as light as this, or lighter, is told in one message every so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub lightest: Sev,
    pub every: Duration,
}

/// What is known of one incident, as far as severity is concerned.
#[derive(Debug, Default)]
pub struct Symptoms {
    seen: HashSet<Fingerprint>,
    known: Vec<Symptom>,
}

impl Symptoms {
    pub fn add(&mut self, fingerprint: Fingerprint, symptom: Symptom) {
        if !self.seen.insert(fingerprint) {
            return;
        }
        let same = |one: &&mut Symptom| Symptom { instances: 1, ..(**one).clone() } == symptom;
        match self.known.iter_mut().find(same) {
            Some(same) => same.instances += 1,
            None => self.known.push(symptom),
        }
    }

    fn take(&mut self, other: Self) {
        self.seen.extend(other.seen);
        self.known.extend(other.known);
    }

    pub fn assess(&self, topology: &Topology) -> (Sev, String) {
        severity::assess(&self.known, topology, History::default())
    }
}

/// Whom people have heard of, and how many messages that took.
pub struct Telling<'a> {
    digest: Option<Digest>,
    topology: &'a Topology,
    /// When the next digest is due.
    next: Option<Timestamp>,
    /// Told in no message of their own so far.
    light: BTreeMap<IncidentId, Symptoms>,
    /// Those of them that no digest has named.
    unnamed: BTreeSet<IncidentId>,
    pub told: BTreeSet<IncidentId>,
    pub messages: usize,
}

impl<'a> Telling<'a> {
    pub fn new(digest: Option<Digest>, topology: &'a Topology) -> Self {
        Self {
            digest,
            topology,
            next: None,
            light: BTreeMap::new(),
            unnamed: BTreeSet::new(),
            told: BTreeSet::new(),
            messages: 0,
        }
    }

    /// Every so long since the first look.
    pub fn look(&mut self, now: Timestamp) {
        let Some(digest) = self.digest else { return };
        let mut next = self.next.unwrap_or(now + digest.every);
        while next <= now {
            self.name();
            next = next + digest.every;
        }
        self.next = Some(next);
    }

    /// The digest after the last alert.
    pub fn end(&mut self) {
        self.name();
    }

    fn name(&mut self) {
        self.messages += self.unnamed.len().div_ceil(NAMED);
        self.told.append(&mut self.unnamed);
    }

    pub fn opened(&mut self, id: &IncidentId) {
        self.light.insert(id.clone(), Symptoms::default());
        self.unnamed.insert(id.clone());
    }

    pub fn heard(&mut self, id: &IncidentId, alert: &Alert, subject: &str) {
        if let Some(symptoms) = self.light.get_mut(id) {
            symptoms.add(alert.fingerprint, Symptom::about(alert, subject));
        }
    }

    pub fn gathered(&mut self, id: &IncidentId, gathered: &Gathered) {
        if let Some(symptoms) = self.light.get_mut(id) {
            let Gathered { fingerprint, name, subject, severity, said, .. } = gathered.clone();
            symptoms.add(fingerprint, Symptom { name, subject, severity, said, instances: 1 });
        }
    }

    pub fn merged(&mut self, from: &IncidentId, into: &IncidentId) {
        self.unnamed.remove(from);
        // Whoever has heard of the one is sent to the other.
        if self.told.contains(from) {
            self.told.insert(into.clone());
        }
        if let Some(symptoms) = self.light.remove(from)
            && let Some(known) = self.light.get_mut(into)
        {
            known.take(symptoms);
            self.weigh(into);
        }
    }

    /// After what it has heard: a message of its own as soon as it is grave enough.
    pub fn weigh(&mut self, id: &IncidentId) {
        let Some(symptoms) = self.light.get(id) else { return };
        let light = self.digest.is_some_and(|digest| symptoms.assess(self.topology).0 <= digest.lightest);
        if !light {
            self.light.remove(id);
            self.unnamed.remove(id);
            self.told.insert(id.clone());
            self.messages += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::{Labels, Severity};
    use crate::domain::severity::Said;

    fn about(severity: Severity, service: &str) -> Gathered {
        let labels: Labels = [("service".to_owned(), service.to_owned())].into();
        Gathered {
            fingerprint: Fingerprint::of(&labels),
            name: "HighErrorRate".into(),
            subject: service.into(),
            severity,
            starts_at: Timestamp::from_secs(0),
            said: Said::default(),
            namespaces: Default::default(),
        }
    }

    #[test]
    fn light_ones_share_a_message_and_grave_ones_have_their_own() {
        let topology = Topology::default();
        let hour = Duration::from_secs(3600);
        let mut telling = Telling::new(Some(Digest { lightest: Sev::Four, every: hour }), &topology);
        let hear = |telling: &mut Telling<'_>, number: i64, severity: Severity, service: &str| {
            let id = IncidentId::numbered(number);
            if !telling.light.contains_key(&id) && !telling.told.contains(&id) {
                telling.opened(&id);
            }
            telling.gathered(&id, &about(severity, service));
            telling.weigh(&id);
        };
        telling.look(Timestamp::from_secs(0));
        hear(&mut telling, 1, Severity::Warning, "a");
        hear(&mut telling, 2, Severity::Warning, "b");
        assert_eq!((telling.messages, telling.told.len()), (0, 0));
        hear(&mut telling, 3, Severity::Critical, "c");
        assert_eq!((telling.messages, telling.told.len()), (1, 1));
        telling.look(Timestamp::from_secs(3599));
        assert_eq!(telling.messages, 1);
        telling.look(Timestamp::from_secs(3600));
        assert_eq!((telling.messages, telling.told.len()), (2, 3));
        // Named in a digest, then graver: people hear of it once more.
        hear(&mut telling, 1, Severity::Critical, "a again");
        assert_eq!((telling.messages, telling.told.len()), (3, 3));
        // One that went into another before the digest is not told.
        hear(&mut telling, 4, Severity::Warning, "d");
        telling.merged(&IncidentId::numbered(4), &IncidentId::numbered(3));
        telling.look(Timestamp::from_secs(3 * 3600));
        assert_eq!((telling.messages, telling.told.len()), (3, 3));
        hear(&mut telling, 5, Severity::Warning, "e");
        telling.end();
        assert_eq!((telling.messages, telling.told.len()), (4, 4));
        (100..=100 + NAMED as i64).for_each(|number| hear(&mut telling, number, Severity::Warning, "f"));
        telling.end();
        assert_eq!((telling.messages, telling.told.len()), (6, 5 + NAMED), "one message cannot name them all");
    }

    #[test]
    fn without_a_digest_each_is_told_at_once() {
        let topology = Topology::default();
        let mut telling = Telling::new(None, &topology);
        let id = IncidentId::numbered(1);
        telling.look(Timestamp::from_secs(0));
        telling.opened(&id);
        telling.gathered(&id, &about(Severity::Warning, "a"));
        telling.weigh(&id);
        telling.end();
        assert_eq!((telling.messages, telling.told.len()), (1, 1));
    }
}
