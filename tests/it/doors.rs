//! Who may speak at the doors of a watch: programs and our own page, not the pages of strangers.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Running, alert, free_address, group, midwatch};

const ACT: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// `midwatch serve` without a token, with its chat page.
struct Doors {
    api: String,
    console: String,
    http: reqwest::Client,
    _child: Running,
    _folder: tempfile::TempDir,
}

impl Doors {
    async fn open(console_keys: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (api, console) = (free_address(), free_address());
        let words = format!(
            "[server]\nlisten = \"{api}\"\n[console]\nlisten = \"{console}\"\n{console_keys}\n[store]\ndata_dir = {:?}\n",
            folder.path().join("data")
        );
        let config = folder.path().join("midwatch.toml");
        std::fs::write(&config, words).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = midwatch();
        command.arg("serve").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log);
        let child = Running(command.spawn().unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let doors = Self { api, console, http, _child: child, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(60);
        while doors.get(&doors.api, "/readyz", "127.0.0.1").await.0 != 200 {
            assert!(Instant::now() < deadline, "not ready");
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        doors
    }

    async fn get(&self, door: &str, path: &str, host: &str) -> (u16, String) {
        let request = self.http.get(format!("http://{door}{path}")).header("host", host);
        match request.send().await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    }

    async fn post(&self, door: &str, path: &str, headers: &[(&str, &str)], body: String) -> (u16, Value) {
        let mut request = self.http.post(format!("http://{door}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

fn everything() -> String {
    json!({
        "matchers": [{"name": "alertname", "value": ".*", "isRegex": true, "isEqual": true}],
        "endsAt": (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339(),
        "createdBy": "a page", "comment": "hush", "confirmed": true,
    })
    .to_string()
}

#[tokio::test]
async fn a_page_can_neither_silence_nor_forge_nor_order() {
    let doors = Doors::open("").await;
    let (api, plain) = (doors.api.as_str(), ("content-type", "text/plain"));
    let origin = ("origin", "https://evil.example");
    for (path, body) in [
        ("/api/v1/silences", everything()),
        ("/webhooks/x", group(&[alert("Down", "forged")])),
        ("/webhooks/changes", json!({"service": "cart", "what": "x"}).to_string()),
        ("/api/v2/alerts", json!([alert("Down", "forged")]).to_string()),
        ("/api/v1/ops", json!({"text": "pause all because I may"}).to_string()),
    ] {
        let (status, said) = doors.post(api, path, &[plain, origin], body.clone()).await;
        assert_eq!(status, 403, "{path}: {said}");
        assert!(said["remedy"].as_str().unwrap().contains("server.webhook_token"), "{path}: {said}");
        let (status, said) = doors.post(api, path, &[plain, ("sec-fetch-site", "cross-site")], body.clone()).await;
        assert_eq!(status, 403, "{path}: {said}");
        // After DNS rebinding the page is of the same origin, under its own name.
        let json = ("content-type", "application/json");
        let (status, said) = doors.post(api, path, &[json, ("host", "evil.example")], body).await;
        assert_eq!(status, 421, "{path}: {said}");
        assert!(said["remedy"].as_str().unwrap().contains("console.hosts"), "{path}: {said}");
    }
    assert_eq!(doors.get(api, "/api/v1/silences", "127.0.0.1").await, (200, "[]".into()));
    assert_eq!(doors.get(api, "/api/v1/silences", "evil.example").await.0, 421);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(doors.get(api, path, "midwatch.monitoring.svc").await.0, 200, "{path}");
    }
    let (_, metrics) = doors.get(api, "/metrics", "127.0.0.1").await;
    assert!(metrics.contains("midwatch_paused 0"), "{metrics}");
}

#[tokio::test]
async fn a_program_still_may() {
    let doors = Doors::open("").await;
    let api = doors.api.as_str();
    let (status, said) = doors.post(api, "/api/v1/silences", &[("content-type", "text/plain")], everything()).await;
    assert_eq!(status, 415, "{said}");
    let json = ("content-type", "application/json; charset=utf-8");
    let (status, said) = doors.post(api, "/api/v1/silences", &[json], everything()).await;
    assert_eq!(status, 200, "{said}");
    // Senders of alerts say all sorts of things about their bodies.
    let plain = ("content-type", "text/plain; charset=UTF-8");
    let (status, said) = doors.post(api, "/webhooks/sns", &[plain], group(&[alert("Down", "pay")])).await;
    assert_eq!(status, 202, "{said}");
}

#[tokio::test]
async fn the_chat_page_works_behind_a_proxy() {
    let keys = "public_url = \"https://watch.example\"\nhosts = [\"ops.internal\"]";
    let doors = Doors::open(keys).await;
    let page = doors.console.as_str();
    for host in ["watch.example", "ops.internal:7717", "127.0.0.1"] {
        assert_eq!(doors.get(page, "/api/channels", host).await.0, 200, "{host}");
    }
    assert_eq!(doors.get(page, "/api/channels", "evil.example").await.0, 421);
    let act = json!({"kind": "command", "channel": "ops", "text": "help"}).to_string();
    let (json, name) = (("content-type", "application/json"), ("x-midwatch-act", ACT));
    for (host, origin, expected) in [
        ("watch.example", "https://watch.example", 202),
        // The proxy asks by the address that it was given.
        ("127.0.0.1", "https://watch.example", 202),
        ("127.0.0.1", "https://evil.example", 403),
        ("127.0.0.1", "http://127.0.0.1:1", 403),
    ] {
        let headers = [json, name, ("host", host), ("origin", origin)];
        let (status, said) = doors.post(page, "/api/act", &headers, act.clone()).await;
        assert_eq!(status, expected, "{host} {origin}: {said}");
    }
    // The API is asked by the same names.
    assert_eq!(doors.get(&doors.api, "/api/v1/incidents", "watch.example").await.0, 200);
}
