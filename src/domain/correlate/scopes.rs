//! Clusters with their environments, by number: names mean the same within one scope only.
//!
//! Not every sender says its cluster: metrics of a cluster do, the probe beside it and the cloud's own
//! alarms do not. While the alerts of an environment name one cluster only, one that names none is about
//! that; among several it is about the one in the region that it names, as far as other alerts have said which
//! that is, else about the one where its subject has been heard of.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::alert::DEFAULT_CLUSTER;
use super::mention::{BETWEEN, is_unsaid, region_of, without_region};

#[derive(Debug, Default)]
pub(super) struct Scopes {
    names: Vec<Arc<str>>,
    numbers: FxHashMap<Arc<str>, u32>,
    environments: FxHashMap<Box<str>, Environment>,
}

/// The scopes of one environment.
#[derive(Debug, Default)]
struct Environment {
    /// Where alerts without a cluster are.
    unsaid: Option<u32>,
    named: Vec<u32>,
    /// Regions, with the clusters that have been heard of in each.
    regions: Vec<(Box<str>, Vec<u32>)>,
}

/// Among more clusters than this nobody searches for the subject of an alert that names none.
const SEARCHED: usize = 16;
const MAX_REGIONS: usize = 64;

/// Where an alert's subject is looked for.
pub(super) enum Found<'a> {
    One(u32),
    /// Its cluster is not said and there are several; the first is where it is when none of them knows it.
    Several(u32, &'a [u32]),
}

impl Scopes {
    pub fn find(&mut self, name: &str) -> Found<'_> {
        match self.taught(name).map(|clusters| (clusters.len(), clusters.first())) {
            Some((1, Some(only))) => return Found::One(*only),
            Some((_, Some(first))) => return Found::Several(*first, self.taught(name).unwrap_or_default()),
            _ => {}
        }
        let name = &*without_region(name);
        let number = match self.numbers.get(name) {
            Some(known) => *known,
            None => self.meet(name),
        };
        if !is_unsaid(name) {
            return Found::One(number);
        }
        match self.environments.get(environment(name)) {
            Some(known) if (2..=SEARCHED).contains(&known.named.len()) => Found::Several(number, &known.named),
            _ => Found::One(number),
        }
    }

    /// The clusters of the region that stands for a cluster.
    fn taught(&self, name: &str) -> Option<&[u32]> {
        let region = region_of(name)?;
        let known = self.environments.get(environment(name))?;
        known.regions.iter().find(|(name, _)| **name == *region).map(|(_, clusters)| &**clusters)
    }

    /// An alert of the scope has named its region, too: whoever names nothing but that is there.
    pub fn teach(&mut self, number: u32, region: &str) {
        let name = &self.names[number as usize];
        if is_unsaid(name) {
            return;
        }
        let Some(known) = self.environments.get_mut(environment(name)) else { return };
        let room = known.regions.len() < MAX_REGIONS;
        match known.regions.iter_mut().find(|(name, _)| **name == *region) {
            Some((_, clusters)) if clusters.contains(&number) || clusters.len() >= SEARCHED => {}
            Some((_, clusters)) => clusters.push(number),
            None if room => known.regions.push((region.into(), vec![number])),
            None => {}
        }
    }

    /// The scopes of the same environment, where equal names mean the same service in another place.
    pub fn siblings(&self, number: u32) -> &[u32] {
        let known = self.environments.get(environment(&self.names[number as usize]));
        known.map_or(&[], |known| if known.named.len() <= SEARCHED { &known.named } else { &[] })
    }

    fn meet(&mut self, name: &str) -> u32 {
        let known = self.environments.entry(environment(name).into()).or_default();
        let number = match (is_unsaid(name), known.unsaid, &*known.named) {
            // What named no cluster so far is about this one.
            (false, Some(unsaid), []) => {
                self.names[unsaid as usize] = name.into();
                unsaid
            }
            (true, None, [only]) => *only,
            _ => {
                self.names.push(name.into());
                self.names.len() as u32 - 1
            }
        };
        if is_unsaid(name) {
            known.unsaid = Some(number);
        } else if known.named.len() <= SEARCHED {
            known.named.push(number);
        }
        self.numbers.insert(name.into(), number);
        number
    }

    /// Cluster and environment, as `super::scope` says it.
    pub fn name(&self, number: u32) -> &Arc<str> {
        &self.names[number as usize]
    }

    /// The name that alerts without a cluster give the scope, if they are part of it.
    pub fn name_unsaid(&self, number: u32) -> Option<String> {
        let environment = environment(self.name(number));
        let unsaid = self.environments.get(environment).and_then(|known| known.unsaid);
        (unsaid == Some(number)).then(|| format!("{DEFAULT_CLUSTER}{environment}"))
    }
}

fn environment(scope: &str) -> &str {
    scope.find(BETWEEN).map_or("", |at| &scope[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(scopes: &mut Scopes, name: &str) -> u32 {
        match scopes.find(name) {
            Found::One(number) | Found::Several(number, _) => number,
        }
    }

    #[test]
    fn who_names_no_cluster_is_in_the_only_one() {
        let mut scopes = Scopes::default();
        let unsaid = number(&mut scopes, "default");
        assert_eq!(number(&mut scopes, "eu"), unsaid);
        assert_eq!((&**scopes.name(unsaid), scopes.name_unsaid(unsaid).as_deref()), ("eu", Some("default")));
        assert_ne!(number(&mut scopes, "us"), unsaid);
        assert!(matches!(scopes.find("default"), Found::Several(first, [_, _]) if first == unsaid));
        let staging = number(&mut scopes, "default\u{1f}staging");
        assert_ne!(staging, unsaid);
        assert_eq!(number(&mut scopes, "eu\u{1f}staging"), staging);
    }

    #[test]
    fn the_order_does_not_matter() {
        let mut scopes = Scopes::default();
        let eu = number(&mut scopes, "eu");
        assert_eq!(number(&mut scopes, "default"), eu);
    }

    #[test]
    fn among_several_it_stays_by_itself() {
        let mut scopes = Scopes::default();
        let (eu, us) = (number(&mut scopes, "eu"), number(&mut scopes, "us"));
        let unsaid = number(&mut scopes, "default");
        assert!(unsaid != eu && unsaid != us);
        assert!(matches!(scopes.find("default"), Found::Several(..)));
    }

    #[test]
    fn a_region_leads_to_its_cluster() {
        let mut scopes = Scopes::default();
        // Nobody has said where it is: as if it had not been named.
        let unsaid = number(&mut scopes, "\u{1e}europe");
        assert_eq!(number(&mut scopes, "default"), unsaid);
        let (eu, us) = (number(&mut scopes, "eu"), number(&mut scopes, "us"));
        assert_eq!(eu, unsaid);
        scopes.teach(eu, "europe");
        scopes.teach(us, "america");
        assert_eq!(number(&mut scopes, "\u{1e}europe"), eu);
        assert_eq!(number(&mut scopes, "\u{1e}america"), us);
        assert!(matches!(scopes.find("\u{1e}asia"), Found::Several(_, [_, _])));
        let second = number(&mut scopes, "eu-2");
        scopes.teach(second, "europe");
        let found = scopes.find("\u{1e}europe");
        assert!(matches!(found, Found::Several(first, [_, other]) if first == eu && *other == second));
        // Another environment has been taught nothing.
        assert_ne!(number(&mut scopes, "\u{1e}america\u{1f}staging"), us);
        assert_eq!(scopes.siblings(eu), [eu, us, second]);
    }
}
