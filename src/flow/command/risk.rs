//! What touching a service now would put at stake: the facts, gathered.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::pause;
use crate::domain::card::{Card, Span};
use crate::domain::command::{Scope as Paused, Wrong, nearest};
use crate::domain::incident::{Incident, Outcome};
use crate::domain::narrative::answer;
use crate::domain::plan::is_felt_by_people;
use crate::domain::risk::{Facts, Image, assess};
use crate::domain::topology::NodeKind;
use crate::flow::desk::{Desk, FlowError};
use crate::ports::{Cluster, Workload};
use crate::store::Scope;
use crate::tools::changes_of;

const A_DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn risk(desk: &Desk, service: &str, image: Option<&str>) -> Result<Card, FlowError> {
    let topology = desk.topology().await;
    let workload = match &desk.cluster {
        Some(cluster) => workload_of(cluster.as_ref(), service).await,
        None => None,
    };
    if workload.is_none() && !topology.contains(service) && !topology.is_empty() {
        let better = nearest(service, topology.nodes().map(|(name, _)| name));
        return Ok(super::say_what_is_right(&Wrong {
            why: format!("I don't know a service {service:?}"),
            did_you_mean: better.map(|better| format!("risk {better}")),
            example: format!("risk {}", better.unwrap_or("checkout")),
        }));
    }
    let dependents: Vec<String> =
        topology.blast_radius(service).into_iter().filter(|name| topology.kind(name) != Some(NodeKind::Host)).collect();
    let near: BTreeSet<String> =
        dependents.iter().cloned().chain(topology.callees(service).map(str::to_owned)).collect();
    let open = desk.store.incidents(Scope::NotOver).await?;
    let about = |incident: &&Incident| incident.subjects().contains(service);
    let names = |found: Vec<&Incident>| found.iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
    let own: Vec<&Incident> = open.iter().filter(about).collect();
    let beside: Vec<&Incident> = open
        .iter()
        .filter(|incident| !about(incident) && incident.subjects().iter().any(|subject| near.contains(*subject)))
        .collect();
    let plans = open.iter().flat_map(|incident| &incident.plans).filter(|record| {
        let target = &record.plan.action.target().name;
        let is_open = matches!(
            record.outcome,
            Outcome::Proposed | Outcome::Approved | Outcome::Started | Outcome::Written | Outcome::NotVerified
        );
        is_open && (target == service || workload.as_ref().is_some_and(|workload| *target == workload.name))
    });
    let event_now = desk.clock.event_now();
    let mut changes = desk.store.announced_since(event_now - A_DAY).await?;
    if let Some(cluster) = &desk.cluster {
        changes.extend(changes_of(cluster.as_ref(), event_now - A_DAY).await.changes);
    }
    changes.retain(|change| change.service == service);
    changes.sort_by_key(|change| std::cmp::Reverse(change.at));
    let mut scopes = vec![pause::EVERYTHING.to_owned(), pause::name_of(&Paused::Service(service.to_owned()))];
    scopes.extend(workload.as_ref().map(|workload| pause::name_of(&Paused::Namespace(workload.namespace.clone()))));
    let facts = Facts {
        stateful: workload.as_ref().map(|workload| workload.kind == "StatefulSet"),
        replicas: workload.as_ref().map_or(0, |workload| workload.replicas),
        ready: workload.as_ref().map_or(0, |workload| workload.ready),
        rolling_out: workload.as_ref().is_some_and(|workload| !workload.rolled_out),
        dependents: dependents.len(),
        user_facing: topology.contains(service) && is_felt_by_people(service, &dependents, &topology),
        plans: plans.map(|record| record.plan.id.to_string()).collect(),
        changes: changes.len(),
        paused: desk.paused_by(&scopes).await,
        image: match (image, &desk.cluster, &workload) {
            (Some(image), Some(cluster), Some(workload)) => image_of(cluster.as_ref(), workload, image).await,
            _ => None,
        },
        own_incidents: names(own),
        near_incidents: names(beside),
    };
    let (tier, reasons) = assess(&facts);
    let mut lines: Vec<Vec<Span>> = reasons.into_iter().map(|reason| vec![Span::plain(reason)]).collect();
    if !dependents.is_empty() {
        let few = dependents.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        lines.push(vec![Span::plain("blast radius: "), Span::quoted(few)]);
    }
    for change in changes.iter().take(3) {
        lines.push(super::tell_change(change, event_now));
    }
    if let Some(image) = image.filter(|_| facts.image.is_none()) {
        lines.push(vec![Span::plain("nothing can be said of the image "), Span::code(image.to_owned())]);
    }
    Ok(answer(&format!("Touching {service} now: {tier} risk"), lines))
}

async fn workload_of(cluster: &dyn Cluster, service: &str) -> Option<Workload> {
    let workloads = cluster.workloads().await.ok()?;
    let of_name = workloads.iter().position(|workload| workload.name == service);
    let found = of_name.or_else(|| workloads.iter().position(|workload| workload.service == service))?;
    workloads.into_iter().nth(found)
}

async fn image_of(cluster: &dyn Cluster, workload: &Workload, image: &str) -> Option<Image> {
    let revisions = cluster.revisions(&workload.kind, &workload.namespace, &workload.name).await.ok()?;
    let has = |template: &Value| images(template).any(|known| known == image);
    let found = revisions.iter().rev().find(|revision| has(&revision.template));
    Some(match found {
        None => Image::New,
        Some(revision) if workload.runs(revision, &revisions) => Image::Runs,
        Some(revision) => Image::RanBefore { revision: revision.number },
    })
}

/// Of a pod template.
fn images(template: &Value) -> impl Iterator<Item = &str> {
    let containers = ["containers", "initContainers"].into_iter();
    let containers = containers.filter_map(|kind| template.pointer(&format!("/spec/{kind}"))?.as_array());
    containers.flatten().filter_map(|container| container["image"].as_str())
}
