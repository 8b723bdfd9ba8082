//! Clusters with their environments, by number: names mean the same within one scope only.
//!
//! Not every sender says its cluster: metrics of a cluster do, the probe beside it and the cloud's own
//! alarms do not. While the alerts of an environment name one cluster only, one that names none is about
//! that; among several it is about the one where its subject has been heard of.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::alert::DEFAULT_CLUSTER;
use super::mention::{BETWEEN, is_unsaid, region_of};

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
    /// Clusters, and regions as long as nothing says which clusters those are.
    named: Vec<u32>,
    /// Whether a cluster has been named.
    clustered: bool,
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
        let number = match self.numbers.get(name) {
            Some(known) => *known,
            None => self.meet(name),
        };
        let region = region_of(name);
        if region.is_none() && !is_unsaid(name) {
            return Found::One(number);
        }
        let Some(known) = self.environments.get(environment(name)) else { return Found::One(number) };
        let taught = region.and_then(|region| known.regions.iter().find(|(name, _)| **name == *region));
        match (taught.map(|(_, clusters)| &**clusters), region) {
            (Some([only]), _) => Found::One(*only),
            (Some(clusters @ [first, ..]), _) => Found::Several(*first, clusters),
            (_, Some(_)) if !known.clustered => Found::One(number),
            _ if (2..=SEARCHED).contains(&known.named.len()) => Found::Several(number, &known.named),
            _ => Found::One(number),
        }
    }

    /// An alert of the scope has named its region, too: whoever names nothing but that is there.
    pub fn teach(&mut self, number: u32, region: &str) {
        let name = &self.names[number as usize];
        if is_unsaid(name) || region_of(name).is_some() {
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
        let (unsaid, region) = (is_unsaid(name), region_of(name).is_some());
        let only = match &*known.named {
            [only] => Some(*only),
            _ => None,
        };
        let number = match (unsaid || region && known.clustered, known.unsaid, only) {
            // What named no cluster so far is about this one.
            (false, Some(unsaid), None) if known.named.is_empty() => {
                self.names[unsaid as usize] = name.into();
                unsaid
            }
            // So far only a region was named.
            (false, _, Some(only)) if !region && !known.clustered => {
                self.names[only as usize] = name.into();
                only
            }
            (true, None, Some(only)) => only,
            (true, Some(unsaid), _) => unsaid,
            _ => {
                self.names.push(name.into());
                self.names.len() as u32 - 1
            }
        };
        if unsaid || region && known.clustered {
            known.unsaid = Some(number);
        } else if known.named.len() <= SEARCHED && !known.named.contains(&number) {
            known.named.push(number);
        }
        known.clustered |= !unsaid && !region;
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
        let (eu, us) = (number(&mut scopes, "eu"), number(&mut scopes, "us"));
        scopes.teach(eu, "europe");
        scopes.teach(us, "america");
        assert_eq!(number(&mut scopes, "\u{1e}europe"), eu);
        assert_eq!(number(&mut scopes, "\u{1e}america"), us);
        let elsewhere = number(&mut scopes, "\u{1e}asia");
        assert!(matches!(scopes.find("\u{1e}asia"), Found::Several(first, [_, _]) if first == elsewhere));
        let second = number(&mut scopes, "eu-2");
        scopes.teach(second, "europe");
        assert!(
            matches!(scopes.find("\u{1e}europe"), Found::Several(first, [_, other]) if first == eu && *other == second)
        );
    }

    #[test]
    fn where_nobody_names_clusters_regions_take_their_place() {
        let mut scopes = Scopes::default();
        let (europe, america) = (number(&mut scopes, "\u{1e}europe"), number(&mut scopes, "\u{1e}america"));
        assert_ne!(europe, america);
        assert_eq!(scopes.siblings(europe), [europe, america]);
        assert!(matches!(scopes.find("default"), Found::Several(first, [_, _]) if first != europe && first != america));
        let mut scopes = Scopes::default();
        let (unsaid, europe) = (number(&mut scopes, "default"), number(&mut scopes, "\u{1e}europe"));
        assert_eq!(unsaid, europe);
        assert_eq!(number(&mut scopes, "eu"), europe, "the only region is that of the only cluster");
        assert_eq!(&**scopes.name(europe), "eu");
    }
}
