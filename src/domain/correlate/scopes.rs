//! Clusters with their environments, by number: names mean the same within one scope only.
//!
//! Not every sender says its cluster: metrics of a cluster do, the probe beside it and the cloud's own
//! alarms do not. While the alerts of an environment name one cluster only, one that names none is about
//! that; among several it is about the one where its subject has been heard of.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::alert::DEFAULT_CLUSTER;
use super::mention::{cluster_of, is_unsaid};

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
}

/// Among more clusters than this nobody searches for the subject of an alert that names none.
const SEARCHED: usize = 16;

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
        if !is_unsaid(name) {
            return Found::One(number);
        }
        match self.environments.get(environment(name)) {
            Some(known) if (2..=SEARCHED).contains(&known.named.len()) => Found::Several(number, &known.named),
            _ => Found::One(number),
        }
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
    &scope[cluster_of(scope).len()..]
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
}
