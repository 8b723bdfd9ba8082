//! The doors for what people run, and what people have said ahead, through the built program.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Watch, alert};
use crate::talking::Talking;

fn fixtures() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/intake");
    let mut found: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn every_known_sender_is_understood() {
    let watch = Watch::start("").await;
    let mut sent = 0;
    for (name, body) in fixtures() {
        // The mapping is a user's own; without it the door says what it looked for.
        if name.contains("mapping") || name.contains("zabbix") || name.contains("binary") {
            continue;
        }
        let (status, text) = watch.post(body).await;
        assert_eq!(status, 202, "{name}: {text}");
        sent += 1;
    }
    assert!(sent >= 16, "only {sent} fixtures");
    let judged = watch
        .eventually("alerts of all senders", async || {
            let judged = watch.metric("midwatch_alerts_received_total").await;
            (judged >= 16.0).then_some(judged)
        })
        .await;
    assert!(judged >= 16.0);
}

#[tokio::test]
async fn an_unknown_shape_names_what_was_looked_for() {
    let watch = Watch::start("").await;
    let (status, text) = watch.post(json!({"subject": "printer on fire", "body": "help"}).to_string()).await;
    assert_eq!(status, 400, "{text}");
    for word in ["no known format", "labels", "Alertmanager"] {
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "{word}: {text}");
    }
}

#[tokio::test]
async fn a_mapping_of_the_users_own_is_a_door() {
    let mapping = r#"
[[intake.mapping]]
name = "printer"
when = { "/source" = { equals = "printer" } }
labels = { alertname = "/trouble", service = "printer-{/room}", severity = "/weight" }
"#;
    let watch = Watch::start(mapping).await;
    let body = json!({"source": "printer", "trouble": "OnFire", "room": "b12", "weight": "critical"});
    let (status, text) = watch.post(body.to_string()).await;
    assert_eq!(status, 202, "{text}");
    watch.incident("printer-b12").await;
}

#[tokio::test]
async fn a_window_mutes_with_its_reason_and_only_what_it_names() {
    let window = r#"
[[intent.window]]
name = "long maintenance"
matchers = ['service="quiet-one"']
kind = "maintenance"
schedule = { once = { start = "2020-01-01T00:00:00Z", end = "2199-01-01T00:00:00Z" } }
"#;
    let watch = Watch::start(window).await;
    for service in ["quiet-one", "loud-one"] {
        let (status, text) = watch.post(json!([alert("Down", service)]).to_string()).await;
        assert_eq!(status, 202, "{text}");
    }
    watch.incident("loud-one").await;
    let (_, metrics) = watch.get("/metrics").await;
    let muted = metrics.lines().any(|line| line.contains("window") && line.ends_with(" 1"));
    assert!(muted, "{metrics}");
    let incidents: Vec<Value> = watch.incidents().await;
    assert!(!incidents.iter().any(|incident| incident.to_string().contains("quiet-one")), "{incidents:?}");
}

#[tokio::test]
async fn a_source_alert_inhibits_its_targets() {
    let rule = r#"
[[intent.inhibit]]
source_matchers = ['alertname="SiteDown"']
target_matchers = ['alertname="Slow"']
equal = ["severity"]
"#;
    let watch = Watch::start(rule).await;
    let (status, _) = watch.post(json!([alert("SiteDown", "edge")]).to_string()).await;
    assert_eq!(status, 202);
    watch.incident("edge").await;
    let (status, _) = watch.post(json!([alert("Slow", "behind")]).to_string()).await;
    assert_eq!(status, 202);
    watch
        .eventually("an inhibited alert", async || {
            let (_, metrics) = watch.get("/metrics").await;
            metrics.lines().any(|line| line.contains("inhibited") && line.ends_with(" 1")).then_some(())
        })
        .await;
    assert!(!watch.incidents().await.iter().any(|incident| incident.to_string().contains("behind")));
}

#[tokio::test]
async fn a_wrong_rule_stops_the_start_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("midwatch.toml");
    std::fs::write(
        &config,
        "[[intent.window]]\nname = \"w\"\nmatchers = ['service=~\"(\"']\nkind = \"change\"\nschedule = { weekly = \"sun 02:00-04:00\" }\n",
    )
    .unwrap();
    let ended = crate::harness::run(["check", "--config", config.to_str().unwrap()]);
    assert_ne!(ended.code, Some(0));
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("midwatch.toml:3") || said.contains("matchers"), "{said}");
}

#[test]
fn triage_is_measured_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("storms");
    crate::harness::run(["eval", "storms", "--seeds", "2", "--out", out.to_str().unwrap()]).expect(0);
    let (alerts, chart) = (out.join("2.alerts.jsonl"), out.join("2.topology.json"));
    let words = ["eval", "triage", "--alerts", alerts.to_str().unwrap(), "--topology", chart.to_str().unwrap()];
    let report = crate::harness::run(words.iter().chain(&["--json", "--explain"])).expect(0).report();
    assert_eq!(report["truth_recall"], 1.0, "{report}");
    assert!(report["purity"].as_f64().unwrap() > 0.8, "{report}");
    let verdicts = report["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), report["alerts"].as_u64().unwrap() as usize);
    assert!(verdicts.iter().all(|verdict| !verdict["reason"].as_str().unwrap().is_empty()));

    std::fs::write(&alerts, "{\"labels\": {\"alertname\": \"a\"}, \"startsAt\": \"yesterday\"}\n").unwrap();
    let ended = crate::harness::run(["eval", "triage", "--alerts", alerts.to_str().unwrap()]).expect(2);
    assert!(ended.stderr.contains("line 1"), "{}", ended.stderr);
}

#[test]
fn senders_that_name_neither_cluster_nor_service_tell_one_story() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (alerts, chart) = (path("alerts.jsonl"), path("topology.json"));
    let topology = json!({"nodes": ["door", "pay-api", "orders_db"], "edges": [
        {"from": "door", "to": "pay-api"}, {"from": "pay-api", "to": "orders_db"},
    ]});
    let storm = [
        json!({"cluster": "eu", "alertname": "MySQLDown", "job": "mysql", "instance": "orders-db-01.example.com:9104"}),
        json!({"alertname": "ConnectionError", "project": "pay-api", "env": "production"}),
        json!({"alertname": "prod-pay-api-UnHealthyHostCount", "TargetGroup": "targetgroup/pay-api/46242"}),
        json!({"cluster": "eu", "alertname": "PodNotReady", "pod": "pay-api-7d9f8b6c5d-x2x1q", "namespace": "shop"}),
        json!({"alertname": "JourneyFailed", "check": "door"}),
    ];
    let line = |(second, labels): (usize, &serde_json::Value)| {
        let mut labels = labels.clone();
        labels["severity"] = json!("critical");
        let at = format!("2026-11-01T02:17:{:02}Z", 10 * second);
        json!({"labels": labels, "startsAt": at, "truth": "one"}).to_string()
    };
    std::fs::write(&chart, topology.to_string()).unwrap();
    std::fs::write(&alerts, storm.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let words = ["eval", "triage", "--alerts", &alerts, "--topology", &chart, "--json", "--explain"];
    let report = crate::harness::run(words).expect(0).report();
    assert_eq!((&report["incidents"], &report["notifications"]), (&json!(1), &json!(1)), "{report:#}");
    let verdicts = report["verdicts"].as_array().unwrap();
    let subjects: Vec<&str> = verdicts.iter().map(|verdict| verdict["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["orders_db", "pay-api", "pay-api", "pay-api", "door"], "{report:#}");
    let rated = &report["severities"][0];
    assert_eq!(rated["severity"], "SEV1", "{report:#}");
    assert!(rated["reason"].as_str().unwrap().contains("critical"), "{report:#}");
}

#[test]
fn a_replay_says_what_a_rule_would_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (alerts, now, wanted) = (path("alerts.jsonl"), path("now.toml"), path("wanted.toml"));
    let lines: Vec<String> =
        ["checkout", "payments"].iter().map(|service| alert("Down", service).to_string()).collect();
    std::fs::write(&alerts, lines.join("\n")).unwrap();
    std::fs::write(&now, "").unwrap();
    let window = "[[intent.window]]\nname = \"w\"\nmatchers = ['service=\"payments\"']\nkind = \"maintenance\"\n\
                  schedule = { once = { start = \"2020-01-01T00:00:00Z\", end = \"2199-01-01T00:00:00Z\" } }\n";
    std::fs::write(&wanted, window).unwrap();
    let words = ["replay", "--from", &alerts, "--config", &now, "--config", &wanted, "--json"];
    let report = crate::harness::run(words).expect(0).report();
    assert_eq!((&report["a"]["notifications"], &report["b"]["notifications"]), (&json!(2), &json!(1)), "{report:#}");
    assert_eq!(report["changed"][0]["to"], "suppress window", "{report:#}");
    assert_eq!(report["only_a"][0]["subjects"], json!(["payments"]), "{report:#}");
    let same = ["replay", "--from", &alerts, "--config", &now, "--config", &now];
    assert!(crate::harness::run(same).expect(0).stdout.contains("nothing differs"));
}

#[tokio::test]
async fn a_silence_from_chat_mutes_until_it_is_ended() {
    let talking = Talking::start("").await;
    talking.ops("silence service=\"noisy\" for 2h because load test").await;
    let stored = talking
        .until("a silence", async || {
            let stored = talking.get("/api/v1/silences").await;
            stored.contains("load test").then_some(stored)
        })
        .await;
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored[0]["id"], "S1", "{stored}");
    talking.fire("noisy").await;
    talking
        .until("a silenced alert", async || {
            talking
                .get("/metrics")
                .await
                .lines()
                .any(|line| line.contains("silenced") && line.ends_with(" 1"))
                .then_some(())
        })
        .await;
    assert!(!talking.get("/api/v1/incidents").await.contains("noisy"));

    // It ends, and what still fires speaks again.
    talking.ops("unsilence S1").await;
    talking
        .until("an incident", async || {
            talking.fire("noisy").await;
            talking.get("/api/v1/incidents").await.contains("noisy").then_some(())
        })
        .await;

    // One that would mute everything is not taken unless it is confirmed.
    talking.ops("silence service=~\".*\" for 1h because quiet please").await;
    talking.ops("silence service=\"other\" for 1h because after it").await;
    talking
        .until("the one after it", async || talking.get("/api/v1/silences").await.contains("after it").then_some(()))
        .await;
    assert!(!talking.get("/api/v1/silences").await.contains("quiet please"));
}
