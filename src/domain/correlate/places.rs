//! Where alerts come from, by labels: a disk, a host or a tenant that several subjects share.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::{FxHashMap, FxHasher};

use super::super::alert::Reading;
use super::super::time::Timestamp;
use super::few::Few;

/// The label, if its value names one place; a namespace is one where nobody knows who calls whom.
/// Environments, regions, teams and the like hold everything. A `match`, because every label of every
/// alert is asked.
fn place_label(label: &str) -> Option<&'static str> {
    Some(match label {
        "namespace" => "namespace",
        "instance" => "instance",
        "host" => "host",
        "hostname" => "hostname",
        "node" => "node",
        "nodename" => "nodename",
        "kubernetes_node" => "kubernetes_node",
        "pod" => "pod",
        "vm" => "vm",
        "device" => "device",
        "disk" => "disk",
        "volume" => "volume",
        "persistentvolumeclaim" => "persistentvolumeclaim",
        "database" => "database",
        "db" => "db",
        "datname" => "datname",
        "queue" => "queue",
        "topic" => "topic",
        "rack" => "rack",
        "switch" => "switch",
        "tenant" => "tenant",
        "customer" => "customer",
        "host_name" => "host_name",
        "server" => "server",
        _ => return None,
    })
}

/// Not a label: what names of one team's services begin with, as in `orders-api` and `orders-worker`.
pub(super) const FAMILY: &str = "family of names";
/// A value that more subjects than this have had is no place.
const MAX_SUBJECTS: usize = 12;
const MAX_PLACES: usize = 200_000;

#[derive(Debug)]
struct Place {
    subjects: Few,
    last_at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Places {
    known: FxHashMap<u64, Place>,
}

fn key(scope: u32, name: &str, value: &str) -> u64 {
    let mut hasher = FxHasher::default();
    // A port does not make another place.
    let value = match name {
        "instance" => value.rsplit_once(':').map_or(value, |(host, _)| host),
        _ => value,
    };
    (scope, value).hash(&mut hasher);
    hasher.finish()
}

/// The first word of a name that has others; numbered ones are not a family.
pub(super) fn family(subject: &str) -> Option<&str> {
    let (first, rest) = subject.split_once(['-', '_'])?;
    let named = rest.bytes().filter(u8::is_ascii_alphabetic).count() >= 2;
    (first.len() >= 3 && named).then_some(first)
}

fn places_of<'a>(alert: &'a Reading<'_>) -> impl Iterator<Item = (&'static str, &'a str)> {
    let family = family(alert.about()).map(|family| (FAMILY, family));
    let labels = alert.labels.iter().filter(|(_, value)| !value.is_empty());
    let labels = labels.filter_map(|(name, value)| Some((place_label(name)?, value.as_str())));
    labels.chain(family)
}

/// Tenants of one machine are neighbours by chance; users of one volume or queue are not.
pub(super) fn weight(label: &str) -> f64 {
    match label {
        "device"
        | "disk"
        | "volume"
        | "persistentvolumeclaim"
        | "database"
        | "db"
        | "datname"
        | "queue"
        | "topic"
        | "tenant"
        | "customer"
        | "pod"
        | "switch" => 0.7,
        _ => 0.1,
    }
}

impl Places {
    pub fn note(&mut self, alert: &Reading<'_>, scope: u32, node: u32, at: Timestamp) {
        if self.known.len() > MAX_PLACES {
            let mut ages: Vec<Timestamp> = self.known.values().map(|place| place.last_at).collect();
            ages.sort_unstable();
            let cut = ages[ages.len() / 2];
            self.known.retain(|_, place| place.last_at > cut);
        }
        for (name, value) in places_of(alert) {
            let entry = self.known.entry(key(scope, name, value));
            let place = entry.or_insert(Place { subjects: Few::None, last_at: at });
            place.last_at = place.last_at.max(at);
            if place.subjects.len() <= MAX_SUBJECTS && !place.subjects.contains(&node) {
                place.subjects.push(node);
            }
        }
    }

    /// The only subject that was ever heard of at the alert's address or machine.
    pub fn only(&self, alert: &Reading<'_>, scope: u32) -> Option<u32> {
        let machines =
            ["instance", "pod", "host", "node"].into_iter().filter_map(|name| Some((name, alert.label(name)?)));
        let mut places = machines.filter_map(|(name, value)| self.known.get(&key(scope, name, value)));
        places.find_map(|place| match &*place.subjects {
            [only] => Some(*only),
            _ => None,
        })
    }

    /// Other subjects that share a place with the alert, and the label that says so.
    pub fn shared(&self, alert: &Reading<'_>, scope: u32, node: u32) -> Vec<(u32, &'static str)> {
        let mut shared = vec![];
        for (name, value) in places_of(alert) {
            let Some(place) = self.known.get(&key(scope, name, value)) else { continue };
            if place.subjects.len() <= MAX_SUBJECTS {
                shared.extend(place.subjects.iter().filter(|other| **other != node).map(|other| (*other, name)));
            }
        }
        shared
    }
}
