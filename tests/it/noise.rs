//! The doors for what people run, and what people have said ahead, through the built program.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Watch, alert};

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
equal = ["namespace"]
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
fn a_replay_says_what_a_rule_would_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (alerts, now, wanted) = (path("alerts.jsonl"), path("now.toml"), path("wanted.toml"));
    let lines: Vec<String> =
        ["checkout", "payments"].iter().map(|service| alert("Down", service).to_string()).collect();
    std::fs::write(&alerts, lines.join("\n")).unwrap();
    std::fs::write(&now, "").unwrap();
    let window = "[[intent.window]]\nname = \"w\"\nmatchers = ['service=\"payments\"']\nkind = \"change\"\n\
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

/// A watch with its chat page, whose person may approve.
struct Talking {
    _folder: tempfile::TempDir,
    _child: crate::harness::Running,
    api: String,
    console: String,
    http: reqwest::Client,
    said: std::cell::Cell<usize>,
}

impl Talking {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (api, console) = (crate::harness::free_address(), crate::harness::free_address());
        let config = folder.path().join("midwatch.toml");
        let text = format!(
            "[server]\nlisten = \"{api}\"\n[console]\nlisten = \"{console}\"\n[store]\ndata_dir = {:?}\n\
             [policy]\napprovers = [\"local/you\"]\n",
            folder.path().join("data")
        );
        std::fs::write(&config, text).unwrap();
        let mut command = crate::harness::midwatch();
        command.arg("serve").arg("--config").arg(&config);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let child = crate::harness::Running(command.spawn().unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let said = std::cell::Cell::new(0);
        let talking = Self { _folder: folder, _child: child, api, console, http, said };
        talking.until("readiness", async || talking.get("/readyz").await.contains("ready").then_some(())).await;
        talking
    }

    async fn get(&self, path: &str) -> String {
        match self.http.get(format!("http://{}{path}", self.api)).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(std::time::Instant::now() < deadline, "no {what}");
            tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        }
    }

    async fn ops(&self, text: &str) {
        self.said.set(self.said.get() + 1);
        let request = self.http.post(format!("http://{}/api/act", self.console));
        let request = request.header("content-type", "application/json");
        let request = request.header("origin", format!("http://{}", self.console));
        let request = request.header("x-midwatch-act", format!("00000000-0000-4000-8000-{:012}", self.said.get()));
        let body = json!({"kind": "command", "channel": "ops", "thread": null, "text": text});
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status();
        assert_eq!(status, 202, "{}", answer.text().await.unwrap());
    }

    async fn fire(&self, service: &str) {
        let request = self.http.post(format!("http://{}/webhooks/alertmanager", self.api));
        let body = json!([alert("Down", service)]).to_string();
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }
}

#[tokio::test]
async fn a_silence_from_chat_mutes_until_it_is_ended() {
    let talking = Talking::start().await;
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
