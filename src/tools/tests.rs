//! The tool box over an estate of one service, faked behind the ports.

use serde_json::json;

use super::*;
use crate::domain::action::Action;
use crate::domain::topology::{EdgeKind, NodeKind};
use crate::ports::{Applied, ClusterEvent, DryRun, LogLine, NodeState, PodLogs, PodState, Revision, Window, Workload};

const NOW: Timestamp = Timestamp::from_secs(100_000);

struct Estate;

#[async_trait]
impl Signals for Estate {
    async fn instant(&self, _query: &str, at: Timestamp) -> Result<Vec<Series>, SignalError> {
        let labels = |pod: &str| [("pod".to_owned(), pod.to_owned())].into();
        Ok((0..30)
            .map(|pod| Series { labels: labels(&format!("cart-{pod}")), points: vec![(at, f64::from(pod))] })
            .collect())
    }

    async fn range(&self, query: &str, window: Window) -> Result<Vec<Series>, SignalError> {
        if query == "broken_metric" {
            return Err(SignalError::Unavailable("prometheus timed out".to_owned()));
        }
        let value = |at: Timestamp| if at >= NOW - Duration::from_secs(600) { 0.37 } else { 0.01 };
        let steps = window.end.since(window.start).as_secs() / window.step.as_secs();
        let points = (0..=steps).map(|step| window.start + window.step * step as u32).map(|at| (at, value(at)));
        Ok(vec![Series { labels: [("service".to_owned(), "cart".to_owned())].into(), points: points.collect() }])
    }

    async fn logs(
        &self,
        query: &str,
        start: Timestamp,
        _end: Timestamp,
        limit: usize,
    ) -> Result<Vec<LogLine>, SignalError> {
        let line = |at: usize| format!("order {at} failed, token=abcdef123456 \u{202E} for {query}");
        Ok((0..limit).map(|at| LogLine { at: start, labels: Default::default(), line: line(at) }).collect())
    }

    async fn check(&self) -> Result<String, SignalError> {
        Ok(String::new())
    }
}

fn workload(namespace: &str) -> Workload {
    Workload {
        namespace: namespace.into(),
        name: "cart".into(),
        kind: "Deployment".into(),
        uid: "u".into(),
        service: "cart".into(),
        replicas: 2,
        ready: 1,
        updated: 2,
        rolled_out: true,
        revision: Some(8),
        labels: Default::default(),
    }
}

fn revision(number: i64, at: u64, size: &str) -> Revision {
    Revision {
        number,
        created_at: NOW - Duration::from_secs(at),
        replica_set: format!("cart-{number}"),
        cause: Some("release".into()),
        template: json!({"spec": {"containers": [{"name": "cart", "env": [{"name": "POOL", "value": size}]}]}}),
    }
}

#[async_trait]
impl Cluster for Estate {
    async fn workloads(&self) -> Result<Vec<Workload>, ClusterError> {
        Ok(vec![workload("prod"), workload("stage"), workload("gone")])
    }
    async fn pods(&self, _namespace: Option<&str>) -> Result<Vec<PodState>, ClusterError> {
        Err(ClusterError::Forbidden("pods is forbidden: needs verb list".to_owned()))
    }
    async fn nodes(&self) -> Result<Vec<NodeState>, ClusterError> {
        Ok(vec![])
    }
    async fn events(&self, _namespace: Option<&str>) -> Result<Vec<ClusterEvent>, ClusterError> {
        std::future::pending().await
    }
    async fn revisions(&self, namespace: &str, _workload: &str) -> Result<Vec<Revision>, ClusterError> {
        match namespace {
            // Revision 6 was put back as 8: its set is older than that of 7.
            "prod" => Ok(vec![revision(5, 90_000, "10"), revision(7, 600, "2"), revision(8, 80_000, "20")]),
            "stage" => Ok(vec![revision(7, 300, "2")]),
            _ => Err(ClusterError::Forbidden("no".to_owned())),
        }
    }
    async fn pod_logs(&self, _: &str, _: &str, _: PodLogs, lines: i64) -> Result<String, ClusterError> {
        Ok("panicked at AKIAIOSFODNN7EXAMPLE\n".repeat(lines as usize))
    }
    async fn dry_run(&self, _: &Action) -> Result<DryRun, ClusterError> {
        Err(ClusterError::Forbidden("tools never write".to_owned()))
    }
    async fn apply(&self, _: &Action, _: &str) -> Result<Applied, ClusterError> {
        Err(ClusterError::Forbidden("tools never write".to_owned()))
    }
    async fn check(&self) -> Result<String, ClusterError> {
        Ok(String::new())
    }
}

async fn context() -> ToolContext {
    let cluster: Arc<dyn Cluster> = Arc::new(Estate);
    let mut topology = Topology::default();
    topology.add_node("db", NodeKind::Database);
    topology.add_edge("web", "cart", EdgeKind::Calls);
    topology.add_edge("cart", "db", EdgeKind::Calls);
    let measure = |name: &str, promql: &str| Measure {
        name: name.into(),
        promql: promql.into(),
        label: "service".into(),
        unit: "ratio".into(),
    };
    let recall: Recall = Arc::new(|query: RecallQuery| {
        Box::pin(async move {
            let found = Recalled {
                doc: "pool.md".into(),
                title: "Pools".into(),
                heading: "Exhausted".into(),
                text: format!("about {}", query.text),
                score: 0.9,
            };
            Ok(if query.kind == RecallKind::Runbook { vec![found] } else { vec![] })
        })
    });
    ToolContext {
        changes: Arc::new(changes_of(&cluster, NOW - Duration::from_secs(3_600)).await.unwrap()),
        signals: Some(Arc::new(Estate)),
        cluster: Some(cluster),
        topology: Arc::new(topology),
        measures: Arc::new(vec![measure("errors", "e"), measure("broken", "broken_metric")]),
        log_label: "app".into(),
        recall: Some(recall),
        event_now: NOW,
        incident: IncidentId::numbered(1),
    }
}

async fn run(name: &str, arguments: Value) -> ToolOutput {
    let call = ToolCall { id: "c".into(), name: name.into(), arguments };
    ToolBox::default().run(&call, &context().await).await
}

#[tokio::test]
async fn changes_are_gathered_from_all_workloads_and_told_apart() {
    let changes = context().await.changes.clone();
    let told: Vec<_> = changes
        .iter()
        .map(|change| {
            let touched = change.touched.iter().map(|one| one.detail.as_str()).collect::<Vec<_>>().join("; ");
            format!("{} current={} {touched}", change.id, change.current)
        })
        .collect();
    expect_test::expect![[r#"
        cart revision 8 current=true spec/containers/cart/env/POOL/value: 2 -> 20
        prod/cart revision 7 current=false spec/containers/cart/env/POOL/value: 10 -> 2
        stage/cart revision 7 current=false "#]]
    .assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn metrics_answer_as_digests_with_their_onset() {
    let output = run("golden_signals", json!({"service": "cart"})).await;
    expect_test::expect!["1 signals of cart, 02:46 to 03:46; 1 could not be read"]
        .assert_eq(output.text.lines().next().unwrap());
    assert!(output.text.contains("errors (ratio) first=0.01 min=0.01 max=0.37"), "{}", output.text);
    assert!(output.text.contains("last=0.37 differs since 03:36:"), "{}", output.text);
    let output = run("metrics_range", json!({"query": "e", "minutes": 30})).await;
    let draft = output.evidence.unwrap();
    assert_eq!((draft.kind, draft.taint, draft.series.len()), (EvidenceKind::Metric, Taint::Observed, 1));
    assert!(draft.series[0].points.len() <= 500);
    let output = run("metrics_now", json!({"query": "e"})).await;
    assert!(output.text.contains("{pod=cart-29} = 29") && output.text.contains("[10 more series"), "{}", output.text);
    assert_eq!(output.evidence.unwrap().series.len(), MAX_SERIES);
}

#[tokio::test]
async fn refusals_are_sentences_that_the_model_can_act_on() {
    let told = |output: ToolOutput| {
        assert!(output.evidence.is_none());
        output.text
    };
    let everything = told(run("metrics_now", json!({"query": "{__name__=~\".+\"}"})).await);
    assert!(everything.contains("every selector needs one metric name"));
    assert!(told(run("metrics_range", json!({"query": "up", "minutes": 999})).await).contains("1 to 360"));
    assert!(told(run("metrics_range", json!({"q": "up"})).await).contains("unknown field `q`"));
    assert!(told(run("golden_signals", json!({"service": "billing"})).await).contains("nothing observed is called"));
    assert!(told(run("logs", json!({"query": "{app=~\".+\"}"})).await).contains("at least one equality"));
    assert!(told(run("kube_objects", json!({})).await).contains("needs verb list"));
    assert!(told(run("shell", json!({})).await).contains("no tool"));
}

#[tokio::test]
async fn what_comes_back_is_grouped_fenced_clean_and_bounded() {
    let output = run("logs", json!({"service": "cart", "contains": "failed"})).await;
    assert!(output.text.contains("200 x order <*> failed"), "{}", output.text);
    assert!(!output.text.contains("abcdef123456") && !output.text.contains('\u{202E}'));
    assert_eq!(output.text.matches("</data ").count(), 1);
    let output = run("kube_pod_logs", json!({"namespace": "p", "pod": "x", "previous": true, "lines": 200})).await;
    assert!(output.text.contains("[cut: 4000 of"), "{}", output.text);
    assert!(output.text.chars().count() < MAX_TEXT + 300 && !output.text.contains("AKIA"));
    assert!(output.evidence.unwrap().body.lines().count() == 200, "the whole answer is kept");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_costs_ten_seconds() {
    let output = run("kube_events", json!({})).await;
    assert_eq!(output, ToolOutput { text: "no answer: no answer within 10 s: ask for less".into(), evidence: None });
}

#[tokio::test]
async fn changes_topology_and_memory_answer_from_what_is_known() {
    let changes = run("list_changes", json!({"service": "cart"})).await.text;
    assert!(changes.starts_with("3 changes of cart in 6 h; newest: stage/cart revision 7"), "{changes}");
    assert!(changes.contains("environment: spec/containers/cart/env/POOL/value: 10 -> 2"), "{changes}");
    let topology = run("topology", json!({"node": "db"})).await.text;
    assert!(topology.contains("breaks with it, nearest first: cart, web"), "{topology}");
    assert!(run("search_runbooks", json!({"query": "pool"})).await.text.contains("Pools / Exhausted"));
    assert!(run("search_past_incidents", json!({"query": "pool"})).await.text.contains("no past incidents fit"));
}

#[test]
fn every_tool_has_a_schema_of_its_own() {
    let schemas = ToolBox::default().schemas();
    let names: std::collections::BTreeSet<_> = schemas.iter().map(|schema| schema.name.as_str()).collect();
    assert_eq!(names.len(), schemas.len());
    assert!(schemas.iter().all(|schema| schema.parameters["additionalProperties"] == false));
}
