//! Evidence before the write: what the action would wipe is kept first (S18).

use std::fmt::Write as _;
use std::time::Duration;

use super::hands::{Hands, patiently};
use crate::domain::action::{Action, EvidenceWanted, Target};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::id::IncidentId;
use crate::domain::incident::IncidentEvent;
use crate::domain::plan::Plan;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::observe::{Dossier, Exhibit};
use crate::ports::{Cluster, ClusterError, PodLogs, Window, crash};

const PODS: usize = 5;
const LINES: i64 = 200;
const EVENTS: usize = 60;
const METRICS_WINDOW: Duration = Duration::from_secs(3600);
const METRICS_STEP: Duration = Duration::from_secs(60);

/// Refuses when the target itself cannot be kept: then nothing is written.
pub(super) async fn preserve(desk: &Desk, id: &IncidentId, plan: &Plan, hands: &Hands) -> Result<(), FlowError> {
    let wanted = plan.action.kind().evidence();
    let (of_cluster, metrics, dump) =
        tokio::join!(of_cluster(plan, hands, wanted), metrics(desk, plan, wanted), dump(plan, hands, wanted));
    let of_cluster = of_cluster.map_err(FlowError::Refused)?;
    let incident = desk.store.incident(id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    let mut dossier = Dossier::new(&incident);
    let event_now = desk.clock.event_now();
    let target = plan.action.target();
    let before = plan.action.verb().replace('_', " ");
    let parts = [
        (
            EvidenceKind::Kubernetes,
            "manifest, logs and events before the action",
            "the target, its logs and events",
            of_cluster,
        ),
        (EvidenceKind::Metric, "numbers before the action", "the numbers that success is judged by", metrics),
        (EvidenceKind::Outside, "dump before the action", "the dump", dump),
    ];
    for (kind, query, what, body) in parts.into_iter().filter(|(_, _, _, body)| !body.is_empty()) {
        let exhibit = Exhibit {
            kind,
            source: "before the action",
            query,
            summary: format!("{what} of {target}, kept before {before}"),
            body,
            series: vec![],
            taint: Taint::UserWritable,
        };
        dossier.add(exhibit, event_now);
    }
    crash::point("preserve.gathered");
    desk.change(id, |change| {
        for evidence in &dossier.evidence {
            change.record(IncidentEvent::EvidenceStored {
                evidence: evidence.id.clone(),
                digest: evidence.digest.clone(),
                summary: evidence.summary.clone(),
            })?;
            change.batch.evidence.push(evidence.clone());
        }
        Ok(())
    })
    .await?;
    crash::point("preserve.stored");
    Ok(())
}

async fn of_cluster(plan: &Plan, hands: &Hands, wanted: &[EvidenceWanted]) -> Result<String, String> {
    let target = plan.action.target();
    if matches!(plan.action, Action::CallHook { .. }) {
        return Ok(format!("== declaration\n{}\n", plan.diff));
    }
    let cluster = hands.cluster().map_err(|error| error.to_string())?;
    let (manifest, logs, events) = tokio::join!(
        patiently(|| cluster.manifest(target)),
        async {
            match wanted.contains(&EvidenceWanted::Logs) {
                true => logs(cluster, &plan.action, wanted.contains(&EvidenceWanted::PreviousLogs)).await,
                false => String::new(),
            }
        },
        events(cluster, target)
    );
    let manifest = manifest.map_err(|error| format!("the evidence could not be kept: {error}"))?;
    Ok(format!("== {target}\n{manifest}\n{logs}{events}"))
}

async fn logs(cluster: &dyn Cluster, action: &Action, with_previous: bool) -> String {
    let target = action.target();
    let mut body = String::new();
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let pods = match patiently(|| cluster.pods(namespace)).await {
        Ok(pods) => pods,
        Err(error) => return format!("== pods could not be read: {error}\n"),
    };
    let concerned = pods.iter().filter(|pod| match action {
        Action::Drain { pods, .. } => {
            pods.iter().any(|other| other.namespace == pod.namespace && other.name == pod.name)
        }
        _ => pod.name == target.name || pod.name.starts_with(&format!("{}-", target.name)),
    });
    for pod in concerned.take(PODS) {
        for which in [PodLogs::Current, PodLogs::Previous] {
            if which == PodLogs::Previous && (pod.restarts == 0 || !with_previous) {
                continue;
            }
            let said = match patiently(|| cluster.pod_logs(&pod.namespace, &pod.name, which, LINES)).await {
                Ok(logs) => logs,
                Err(error) => format!("(could not be read: {error})"),
            };
            let _ = writeln!(body, "== {} {which:?}\n{said}", pod.name);
        }
    }
    body
}

async fn events(cluster: &dyn Cluster, target: &Target) -> String {
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let mut body = "== events\n".to_owned();
    match patiently(|| cluster.events(namespace)).await {
        Ok(events) => {
            for event in events.iter().filter(|event| event.object.starts_with(&target.name)).take(EVENTS) {
                let _ = writeln!(body, "{} {} {}: {}", event.last_at, event.reason, event.object, event.message);
            }
        }
        Err(error) => {
            let _ = writeln!(body, "(could not be read: {error})");
        }
    }
    body
}

async fn metrics(desk: &Desk, plan: &Plan, wanted: &[EvidenceWanted]) -> String {
    let Some(signals) = desk.signals.as_ref().filter(|_| wanted.contains(&EvidenceWanted::Metrics)) else {
        return String::new();
    };
    let end = desk.clock.event_now();
    let window = Window { start: end - METRICS_WINDOW, end, step: METRICS_STEP };
    let mut body = String::new();
    for check in &plan.checks {
        let _ = writeln!(body, "== {} {}: {}", check.service, check.signal, check.query);
        match signals.range(&check.query, window).await {
            Ok(series) => {
                for one in series.iter().filter(|one| one.label(&check.label) == Some(check.service.as_str())) {
                    for (at, value) in &one.points {
                        let _ = writeln!(body, "{at} {value}");
                    }
                }
            }
            Err(error) => {
                let _ = writeln!(body, "(could not be read: {error})");
            }
        }
    }
    body
}

async fn dump(plan: &Plan, hands: &Hands, wanted: &[EvidenceWanted]) -> String {
    let Some(hooks) = hands.hooks.as_deref().filter(|_| wanted.contains(&EvidenceWanted::Dump)) else {
        return String::new();
    };
    let dumped = hands.term.write(hooks.dump(&plan.service)).await;
    match dumped.unwrap_or_else(|lost| Some(Err(ClusterError::Unavailable(lost.to_string())))) {
        None => String::new(),
        Some(Ok(dump)) => format!("== dump of {}\n{dump}\n", plan.service),
        // Said, and no reason to leave people without the remedy.
        Some(Err(error)) => format!("== the dump of {} failed: {error}\n", plan.service),
    }
}
