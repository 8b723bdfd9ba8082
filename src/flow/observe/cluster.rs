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

/// Of whom, what it is a sign of, in words, and since when.
type Told = (String, SignKind, String, Option<Timestamp>);

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
    let mut signs: Vec<Told> = vec![];
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
    if let Some((node, _, text, _)) = signs.first() {
        let body: Vec<String> = signs.iter().map(|(node, _, text, _)| format!("{node}: {text}")).collect();
        let exhibit = exhibit("pods, nodes", format!("{node}: {text}"), &body, Taint::Observed);
        note(exhibit, signs, event_now, dossier, picture);
    }
    event_signs(&events, &pods, horizon, event_now, dossier, picture);
}

/// Components of the cluster write events, and so may whoever has the right to create them; what a probe prints
/// stands in them as well. So the events are evidence of their own kind, never what users cannot write (S2).
fn event_signs(
    events: &[ClusterEvent],
    pods: &[PodState],
    horizon: Timestamp,
    event_now: Timestamp,
    dossier: &mut Dossier,
    picture: &mut Picture,
) {
    let warnings: Vec<&ClusterEvent> =
        events.iter().filter(|event| event.warning && event.last_at >= horizon).collect();
    if warnings.is_empty() {
        return;
    }
    let signs: Vec<Told> = warnings.iter().filter_map(|event| told_by(event, pods)).collect();
    let mut body: Vec<String> = signs.iter().map(|(node, _, text, _)| format!("{node}: {text}")).collect();
    body.extend(warnings.iter().take(60).map(|event| {
        format!(
            "{} {} {}/{}: {} (x{})",
            event.last_at, event.reason, event.kind, event.object, event.message, event.count
        )
    }));
    let summary = signs
        .first()
        .map_or_else(|| format!("{} warning events", warnings.len()), |(node, _, text, _)| format!("{node}: {text}"));
    let exhibit = exhibit("warning events", summary, &body, Taint::UserWritable);
    note(exhibit, signs, event_now, dossier, picture);
}

/// What an event is a sign of: by the reason that a component gives, not by words in a message. Whoever may create
/// events can also forge their component, which is why this is not enough for S2.
fn told_by(event: &ClusterEvent, pods: &[PodState]) -> Option<Told> {
    let is_controller = event.component.ends_with("-controller");
    if is_controller && event.reason == "FailedCreate" && event.message.contains("exceeded quota") {
        let owner = owner_of(&event.kind, &event.object);
        return Some((owner, SignKind::QuotaExceeded, event.message.clone(), Some(event.last_at)));
    }
    let is_of_node = matches!(event.component.as_str(), "kubelet" | "kernel-monitor");
    if (is_of_node || is_controller) && event.reason.contains("OOM") {
        let pod = pods.iter().find(|pod| pod.name == event.object)?;
        let text = format!("event {} on {}", event.reason, event.object);
        return Some((pod.service.clone(), SignKind::OutOfMemory, text, Some(event.last_at)));
    }
    None
}

fn exhibit(query: &'static str, summary: String, body: &[String], taint: Taint) -> Exhibit<'static> {
    let (kind, source, body) = (EvidenceKind::Kubernetes, "kubernetes", body.join("\n"));
    Exhibit { kind, source, query, summary, body, series: vec![], taint }
}

fn note(exhibit: Exhibit<'_>, signs: Vec<Told>, event_now: Timestamp, dossier: &mut Dossier, picture: &mut Picture) {
    let evidence = dossier.add(exhibit, event_now);
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

    fn event(component: &str, reason: &str, object: &str, message: &str) -> ClusterEvent {
        ClusterEvent {
            namespace: "shop".into(),
            object: object.into(),
            kind: if object.ends_with("-0") { "Pod".into() } else { "ReplicaSet".into() },
            reason: reason.into(),
            message: message.into(),
            component: component.into(),
            count: 1,
            last_at: SINCE,
            warning: true,
        }
    }

    /// An exec probe prints what it likes, and a message is anybody's.
    #[test]
    fn words_in_an_event_are_no_sign_and_its_text_is_not_ours() {
        let events = vec![
            event("kubelet", "Unhealthy", "cart-0", "Readiness probe failed: OOMKilled, exceeded quota"),
            event("somebody", "OOMKilling", "cart-0", "Memory cgroup out of memory"),
            event("", "FailedCreate", "cart-5d4f", "exceeded quota: compute"),
            event("kubelet", "OOMKilling", "cart-0", "Memory cgroup out of memory"),
            event("replicaset-controller", "FailedCreate", "cart-5d4f", "pods is forbidden: exceeded quota: compute"),
        ];
        let pods = vec![pod("cart", "Running", true, "", None), pod("killed", "Running", false, "OOMKilled", Some(5))];
        let mut incident = Incident::blank(IncidentId::numbered(1));
        incident.since = SINCE;
        let (mut dossier, mut picture) = (Dossier::new(&incident), Picture::default());
        cluster_signs(Looked { pods, events, ..Looked::default() }, &incident, SINCE, &mut dossier, &mut picture);
        let of = |id| dossier.evidence.iter().find(|one| Some(&one.id) == id).unwrap();
        let told: Vec<_> = (picture.signs.iter())
            .map(|sign| {
                let evidence = of(sign.evidence.as_ref());
                format!("{} {:?}: {} ({}, {:?})", sign.node, sign.kind, sign.text, evidence.query, evidence.taint)
            })
            .collect();
        expect_test::expect![[r#"
            killed OutOfMemory: pod killed-0 OOMKilled, 3 restarts (pods, nodes, Observed)
            cart OutOfMemory: event OOMKilling on cart-0 (warning events, UserWritable)
            cart QuotaExceeded: pods is forbidden: exceeded quota: compute (warning events, UserWritable)"#]]
        .assert_eq(&told.join("\n"));
        assert!(of(picture.signs[1].evidence.as_ref()).body.contains("Readiness probe failed"));
    }
}
