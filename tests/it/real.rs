//! Against real neighbours, where their variables name them; `.ci/run` starts them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::harness::{Running, Watch, alert, free_address, midwatch, night, one_night_at_a_time, real, run_within};
use crate::watch::is_the_night_of_the_readme;

/// A database of our own on the server.
pub async fn fresh_database(server: &str, what: &str) -> String {
    let name = format!("midwatch_{what}_{}", std::process::id());
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut url = url::Url::parse(server).unwrap();
    url.set_path(&name);
    url.into()
}

#[test]
fn the_night_is_the_same_on_real_kafka_and_postgres() {
    let (kafka, postgres) = (real("MIDWATCH_TEST_KAFKA"), real("MIDWATCH_TEST_POSTGRES"));
    if kafka.is_none() && postgres.is_none() {
        return;
    }
    let _alone = one_night_at_a_time();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let postgres = postgres.map(|server| runtime.block_on(fresh_database(&server, "night")));
    let mut words = vec!["--approve", "--seed", "1"];
    if let Some(brokers) = &kafka {
        words.extend(["--kafka", brokers]);
    }
    if let Some(url) = &postgres {
        words.extend(["--postgres", url]);
    }
    let report = night(&words).expect(0).report();
    is_the_night_of_the_readme(&report);
    if postgres.is_some() {
        assert!(report["store"].as_str().unwrap().to_lowercase().contains("postgres"), "{}", report["store"]);
    }
}

/// The demo as a person runs it; returns when it has said where its page is.
fn interactive_demo(listen: &str) -> Running {
    let mut command = midwatch();
    command.args(["demo", "--seed", "1", "--listen", listen]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().unwrap());
    let stderr = child.0.stderr.take().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        // Reads on to the end, so that the demo never waits for a reader.
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = tell.send(line);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut said = String::new();
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains("Open http") => return child,
            Ok(line) => said = format!("{said}{line}\n"),
            Err(_) => panic!("the demo names no page:\n{said}"),
        }
    }
}

async fn until_someone_is_asked(listen: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = http.get(format!("http://{listen}/api/status")).send().await.unwrap().text().await.unwrap();
        let status: Value = serde_json::from_str(&answer).unwrap();
        if status["pending_approvals"].as_u64().is_some_and(|count| count > 0) {
            return;
        }
        assert!(Instant::now() < deadline, "nobody is asked: {answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Walks through the console of a night of its own.
fn walk(chromium: &str, more: &[&str]) {
    let listen = free_address();
    let _demo = interactive_demo(&listen);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(until_someone_is_asked(&listen));
    let pictures = tempfile::tempdir().unwrap();
    let mut walk = Command::new("node");
    walk.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console.mjs"))
        .arg(format!("http://{listen}"))
        .arg(pictures.path())
        .arg("--strict")
        .args(more)
        .env("CHROMIUM", chromium)
        .stdin(Stdio::null());
    let ended = run_within(walk, Duration::from_secs(600)).expect(0);
    print!("{}", ended.stdout);
}

#[test]
fn a_person_walks_through_the_console() {
    let Some(chromium) = real("MIDWATCH_TEST_CHROMIUM") else { return };
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("skipped: no node");
        return;
    }
    let _alone = one_night_at_a_time();
    walk(&chromium, &[]);
    walk(&chromium, &["--reject"]);
}

#[tokio::test]
async fn alertmanager_speaks_to_the_webhook() {
    let (Some(alertmanager), Some(listen)) = (real("MIDWATCH_TEST_ALERTMANAGER"), real("MIDWATCH_TEST_WEBHOOK")) else {
        return;
    };
    let token = std::env::var("MIDWATCH_TEST_WEBHOOK_TOKEN").unwrap_or_default();
    let watch = Watch::listening(&listen, &token, "").await;
    let mut fired = alert(&format!("RealAlertmanager{}", std::process::id()), "from-alertmanager");
    for key in ["status", "endsAt"] {
        fired.as_object_mut().unwrap().remove(key);
    }
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!([fired]).to_string();
    let request = http.post(format!("{alertmanager}/api/v2/alerts")).header("content-type", "application/json");
    let answer = request.body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    assert_eq!(watch.incident("from-alertmanager").await["alerts"], 1);
}
