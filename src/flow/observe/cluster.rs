//! What pods, hosts and events say.

use std::collections::BTreeSet;
use std::time::Duration;

use super::sign::owner_of;
use super::{Dossier, Exhibit};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::incident::Incident;
use crate::domain::root_cause::{Picture, Sign, SignKind};
use crate::domain::time::Timestamp;
use crate::ports::{Cluster, ClusterError, ClusterEvent, NodeState, PodState};

/// What the cluster shows.
#[derive(Default)]
pub(super) struct Looked {
    pods: Vec<PodState>,
    nodes: Vec<NodeState>,
    events: Vec<ClusterEvent>,
    /// What was asked for and not answered, with the reason.
    unread: Vec<(&'static str, ClusterError)>,
}

impl Looked {
    pub(super) async fn at(cluster: &dyn Cluster) -> Self {
        let (pods, nodes, events) = futures::join!(cluster.pods(None), cluster.nodes(), cluster.events(None));
        let mut looked = Self::default();
        looked.pods = looked.answered("the pods", pods);
        looked.nodes = looked.answered("the nodes", nodes);
        looked.events = looked.answered("the events", events);
        looked
    }

    fn answered<T>(&mut self, what: &'static str, answer: Result<Vec<T>, ClusterError>) -> Vec<T> {
        answer.unwrap_or_else(|error| {
            self.unread.push((what, error));
            vec![]
        })
    }
}

/// How a container once ended stays with its pod for weeks; a pod that has failed stays until it is cleaned up.
fn is_over(pod: &PodState, horizon: Timestamp) -> bool {
    let rests = pod.ready || matches!(pod.phase.as_str(), "Failed" | "Succeeded");
    rests && pod.ended_at.is_some_and(|at| at < horizon)
}

pub(super) fn cluster_signs(
    Looked { pods, nodes, events, unread }: Looked,
    incident: &Incident,
    event_now: Timestamp,
    dossier: &mut Dossier,
    picture: &mut Picture,
) {
    for (what, error) in unread {
        dossier.unread(EvidenceKind::Kubernetes, "kubernetes", what, &error);
    }
    let horizon = incident.since - Duration::from_secs(45 * 60);
    let mut signs: Vec<(String, SignKind, String, Option<Timestamp>)> = vec![];
    for node in nodes.iter().filter(|node| !node.ready) {
        let text = format!("host not ready: {}", node.troubles.join(", "));
        signs.push((node.name.clone(), SignKind::HostDown, text, None));
    }
    let hosts_down: BTreeSet<&str> = nodes.iter().filter(|node| !node.ready).map(|node| node.name.as_str()).collect();
    for pod in &pods {
        let on_dead_host = pod.node.as_deref().is_some_and(|node| hosts_down.contains(node));
        // How it waits and how it ended may stand together: `CrashLoopBackOff, last OOMKilled`.
        let reason = pod.reason.as_deref().unwrap_or_default();
        let kind = if reason.contains("OOMKilled") {
            SignKind::OutOfMemory
        } else if reason.contains("ImagePullBackOff") || reason.contains("ErrImagePull") {
            SignKind::ImagePull
        } else if !on_dead_host && (reason.contains("CrashLoopBackOff") || reason == "Error") {
            SignKind::CrashLoop
        } else {
            continue;
        };
        if is_over(pod, horizon) {
            continue;
        }
        let text = format!("pod {} {reason}, {} restarts", pod.name, pod.restarts);
        // One that has not come up since is in trouble now, and says nothing of when the trouble began.
        signs.push((pod.service.clone(), kind, text, pod.ended_at.filter(|at| *at >= horizon)));
    }
    let pod_service = |object: &str| pods.iter().find(|pod| pod.name == object).map(|pod| pod.service.clone());
    let mut lines = vec![];
    for event in events.iter().filter(|event| event.warning && event.last_at >= horizon) {
        lines.push(format!(
            "{} {} {}/{}: {} (x{})",
            event.last_at, event.reason, event.kind, event.object, event.message, event.count
        ));
        if event.message.contains("exceeded quota") {
            let owner = owner_of(&event.kind, &event.object);
            signs.push((owner, SignKind::QuotaExceeded, event.message.clone(), Some(event.last_at)));
        }
        let oom = event.reason.contains("OOM") || event.message.contains("OOMKilled");
        if oom && let Some(service) = pod_service(&event.object) {
            signs.push((
                service,
                SignKind::OutOfMemory,
                format!("event {} on {}", event.reason, event.object),
                Some(event.last_at),
            ));
        }
    }
    if signs.is_empty() && lines.is_empty() {
        return;
    }
    let mut body: Vec<String> = signs.iter().map(|(node, _, text, _)| format!("{node}: {text}")).collect();
    body.extend(lines.into_iter().take(60));
    let summary = signs
        .first()
        .map_or_else(|| format!("{} warning events", body.len()), |(node, _, text, _)| format!("{node}: {text}"));
    let evidence = dossier.add(
        Exhibit {
            kind: EvidenceKind::Kubernetes,
            source: "kubernetes",
            query: "pods, nodes, warning events",
            summary,
            body: body.join("\n"),
            series: vec![],
            taint: Taint::Observed,
        },
        event_now,
    );
    picture.signs.extend(signs.into_iter().map(|(node, kind, text, at)| Sign {
        node,
        kind,
        text,
        at,
        evidence: Some(evidence.clone()),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IncidentId;

    const SINCE: Timestamp = Timestamp::from_secs(1_000_000);

    fn pod(service: &str, phase: &str, ready: bool, reason: &str, minutes_ago: Option<u64>) -> PodState {
        PodState {
            namespace: "shop".into(),
            name: format!("{service}-0"),
            service: service.into(),
            node: None,
            phase: phase.into(),
            ready,
            restarts: 3,
            reason: Some(reason.into()),
            ended_at: minutes_ago.map(|minutes| SINCE - Duration::from_secs(minutes * 60)),
            started_at: None,
        }
    }

    #[test]
    fn a_crash_of_last_week_is_no_sign_of_today() {
        const A_WEEK: u64 = 7 * 24 * 60;
        let pods = vec![
            pod("well-since", "Running", true, "OOMKilled", Some(A_WEEK)),
            pod("nightly-job", "Failed", false, "Error", Some(A_WEEK)),
            pod("killed-lately", "Running", true, "OOMKilled", Some(5)),
            pod("failed-lately", "Failed", false, "Error", Some(5)),
            pod("never-came-up", "Running", false, "Error", Some(A_WEEK)),
            pod("crashes", "Running", false, "CrashLoopBackOff, last Error", None),
        ];
        let mut incident = Incident::blank(IncidentId::numbered(1));
        incident.since = SINCE;
        let (mut dossier, mut picture) = (Dossier::new(&incident), Picture::default());
        cluster_signs(Looked { pods, ..Looked::default() }, &incident, SINCE, &mut dossier, &mut picture);
        let told: Vec<_> = (picture.signs.iter())
            .map(|sign| format!("{} {:?} {}", sign.node, sign.kind, sign.at.map_or(0, |at| SINCE.since(at).as_secs())))
            .collect();
        expect_test::expect![[r#"
            killed-lately OutOfMemory 300
            failed-lately CrashLoop 300
            never-came-up CrashLoop 0
            crashes CrashLoop 0"#]]
        .assert_eq(&told.join("\n"));
    }
}
