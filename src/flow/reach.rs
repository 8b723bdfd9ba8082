//! Which incidents lie in the cluster that is configured. What is read there says nothing of another cluster,
//! and what has a name there is another object elsewhere.

use std::collections::BTreeSet;

use super::desk::Desk;
use crate::domain::alert::DEFAULT_CLUSTER;
use crate::domain::incident::Incident;
use crate::domain::signal_scope::SignalScope;

/// Why nothing can be done about the incident through the cluster that is configured.
pub fn beyond(desk: &Desk, incident: &Incident) -> Option<String> {
    let here = here(desk)?;
    (!is_of(here, &incident.cluster)).then(|| refusal(here, incident))
}

/// Why what the configured cluster shows is not about the incident. One of several clusters is looked at where
/// any of its alerts came from there.
pub fn out_of_sight(desk: &Desk, incident: &Incident) -> Option<String> {
    let here = here(desk)?;
    (!is_in_sight(here, &incident.clusters())).then(|| refusal(here, incident))
}

/// A look around that belongs to no alerts is one at the cluster that is watched.
fn is_in_sight(here: &str, clusters: &[&str]) -> bool {
    clusters.iter().any(|cluster| cluster.is_empty() || is_of(here, cluster))
}

/// One name for the cluster that is watched, whichever of its names an alert or a record uses.
pub fn name_of(desk: &Desk, cluster: &str) -> String {
    let watched = desk.config.kubernetes.as_ref().map(|kubernetes| kubernetes.cluster.as_deref());
    one_name(watched, cluster).to_owned()
}

/// `watched`: the name of the cluster that is configured, if it has one.
fn one_name<'a>(watched: Option<Option<&'a str>>, cluster: &'a str) -> &'a str {
    match watched {
        Some(Some(here)) if is_of(here, cluster) => here,
        // Whatever the alerts name, this one is written to.
        Some(None) => DEFAULT_CLUSTER,
        Some(Some(_)) | None => cluster,
    }
}

/// Of what metrics and logs are asked about the incident: of all clusters that its alerts came from.
pub fn scope(desk: &Desk, incident: &Incident) -> SignalScope {
    let clusters = said(here(desk), &incident.clusters());
    desk.config.signals.as_ref().map(|signals| signals.scope(&clusters)).unwrap_or_default()
}

/// None, where it is not known of its own. A look around that belongs to no alerts is at the cluster that is watched.
fn said<'a>(here: Option<&'a str>, clusters: &[&'a str]) -> BTreeSet<&'a str> {
    let name = |cluster: &&'a str| match *cluster {
        "" | DEFAULT_CLUSTER => here,
        cluster => Some(cluster),
    };
    match clusters.first().and_then(name) {
        Some(_) => clusters.iter().filter_map(name).collect(),
        None => BTreeSet::new(),
    }
}

fn here(desk: &Desk) -> Option<&str> {
    desk.config.kubernetes.as_ref()?.cluster.as_deref()
}

/// Alerts that name no cluster come from the one that is watched.
fn is_of(here: &str, cluster: &str) -> bool {
    cluster == here || cluster == DEFAULT_CLUSTER
}

fn refusal(here: &str, incident: &Incident) -> String {
    format!("{} is in the cluster {}; this watch reaches only {here}", incident.id, incident.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IncidentId;

    #[test]
    fn the_watched_cluster_has_one_name() {
        let eu = Some(Some("eu-1"));
        assert_eq!(
            [one_name(eu, "eu-1"), one_name(eu, DEFAULT_CLUSTER), one_name(eu, "us-1")],
            ["eu-1", "eu-1", "us-1"]
        );
        assert_eq!([one_name(Some(None), "eu-1"), one_name(None, "eu-1")], [DEFAULT_CLUSTER, "eu-1"]);
    }

    #[test]
    fn signals_are_asked_of_the_clusters_that_are_said() {
        assert_eq!(said(None, &["eu-1"]), ["eu-1"].into());
        assert_eq!(said(Some("eu-1"), &[DEFAULT_CLUSTER, "us-1"]), ["eu-1", "us-1"].into());
        assert_eq!(said(None, &["eu-1", DEFAULT_CLUSTER, "us-1"]), ["eu-1", "us-1"].into());
        assert_eq!(said(Some("eu-1"), &[""]), ["eu-1"].into());
        let nowhere = [said(None, &[DEFAULT_CLUSTER, "us-1"]), said(None, &[""])];
        assert_eq!(nowhere, [BTreeSet::new(), BTreeSet::new()]);
    }

    #[test]
    fn what_belongs_to_no_alerts_looks_at_what_is_watched() {
        let blank = Incident::blank(IncidentId::numbered(0));
        assert!(is_in_sight("eu-1", &blank.clusters()));
        assert!(is_in_sight("eu-1", &["us-1", "eu-1"]) && !is_in_sight("eu-1", &["us-1"]));
    }

    #[test]
    fn another_cluster_is_out_of_reach_and_one_that_is_not_named_is_not() {
        assert!(is_of("eu-1", "eu-1") && is_of("eu-1", DEFAULT_CLUSTER));
        assert!(!is_of("eu-1", "us-1") && !is_of("eu-1", "eu-10"));
        let mut incident = Incident::blank(IncidentId::numbered(3));
        incident.cluster = "us-1".into();
        assert_eq!(refusal("eu-1", &incident), "INC-3 is in the cluster us-1; this watch reaches only eu-1");
    }
}
