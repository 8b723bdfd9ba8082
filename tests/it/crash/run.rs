//! One life of the watch: people and cluster around it, a kill at one point, a start after it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use midwatch::world::kubernetes::{DeploymentSpec, KubeState, PodHealth, router};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::chat::{self, Chat};
use super::model;
use crate::harness::{Running, free_address, midwatch, serve};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Scaled up, verified, resolved.
    Helps,
    /// The new pods never get ready: undone, handed to people.
    DoesNotHelp,
    /// Restarted: the mark in the template tells what was written.
    Restarts,
    Rejected,
    /// Nobody answers.
    Expires,
    /// The kill switch is thrown before the approval.
    Paused,
}

impl Scenario {
    pub const ALL: [Self; 6] =
        [Self::Helps, Self::DoesNotHelp, Self::Restarts, Self::Rejected, Self::Expires, Self::Paused];

    fn asks(self) -> &'static str {
        match self {
            Self::Restarts => "restart shop/web",
            _ => "scale shop/web 4",
        }
    }
}

pub struct Outcome {
    pub was_killed: bool,
    pub violations: Vec<String>,
    pub passed: Vec<String>,
    pub ready_again_ms: u128,
    pub log: String,
}

pub const SERVICE: &str = "web";
const PATIENCE: Duration = Duration::from_secs(90);

struct Life {
    scenario: Scenario,
    folder: tempfile::TempDir,
    api: String,
    console: String,
    http: reqwest::Client,
    child: Option<Running>,
    kill_at: Option<String>,
    was_killed: bool,
    ready_again_ms: u128,
    acts: usize,
    violations: Vec<String>,
}

/// The seed draws how late each request arrives and each answer comes back; 0: at once.
pub async fn run(scenario: Scenario, kill_at: Option<&str>, seed: u64) -> Outcome {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let state = Arc::new(Mutex::new(cluster()));
    let kube = serve(late(router(state.clone(), Arc::new(wall)), seed)).await;
    let ticking = tick(state.clone(), scenario);
    let (chat, slack) = chat::router();
    let slack = serve(late(slack, seed)).await;
    let folder = tempfile::tempdir().unwrap();
    let (api, console) = (free_address(), free_address());
    let expiry = if scenario == Scenario::Expires { 3 } else { 300 };
    let text = format!(
        "[server]\nlisten = \"{api}\"\n[console]\nlisten = \"{console}\"\n[store]\ndata_dir = {:?}\n\
         [kubernetes]\ncluster = \"default\"\nurl = \"{kube}\"\ntoken = \"r\"\nwrite_token = \"w\"\n\
         [slack]\nbot_token = \"xoxb-1\"\nsigning_secrets = [\"{}\"]\napi_base = \"{slack}/api\"\nteam_id = \"T1\"\nchannel = \"C1\"\n\
         [policy]\napprovers = [\"local/you\", \"T1/U1\", \"T1/U2\"]\napproval_seconds = {expiry}\n\
         [investigation]\nsettle_seconds = 0\nverify_seconds = 12\n[remediation]\nlook_seconds = 0.2\n",
        folder.path().join("data"),
        chat::SECRET,
    );
    std::fs::write(folder.path().join("midwatch.toml"), text).unwrap();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let mut life = Life {
        scenario,
        folder,
        api,
        console,
        http,
        child: None,
        kill_at: kill_at.map(str::to_owned),
        was_killed: false,
        ready_again_ms: 0,
        acts: 0,
        violations: vec![],
    };
    life.start();
    let ended = tokio::time::timeout(PATIENCE, life.live()).await;
    if ended.is_err() {
        let found = life.incidents().await.iter().map(summary).collect::<Vec<_>>();
        life.violations.push(format!("it does not come to an end: {found:?}"));
    } else {
        life.settle(&chat).await;
    }
    life.child = None;
    ticking.abort();
    let (was_killed, data) = (life.was_killed, life.data());
    model::check(&mut life.violations, scenario, was_killed, &state, &chat, &data).await;
    let read = |name: &str| std::fs::read_to_string(life.folder.path().join(name)).unwrap_or_default();
    Outcome {
        was_killed: life.was_killed,
        violations: life.violations,
        passed: read("passed").lines().map(str::to_owned).collect(),
        ready_again_ms: life.ready_again_ms,
        log: read("log"),
    }
}

pub fn cluster() -> KubeState {
    let now = wall();
    let mut state = KubeState::new(7);
    state.add_node("node-1", 32, now - 900_000);
    let web = DeploymentSpec {
        namespace: "shop".into(),
        name: SERVICE.into(),
        replicas: 2,
        image: "registry/web:1".into(),
        cpu_limit: "100m".into(),
        mem_limit: "64Mi".into(),
        ..DeploymentSpec::default()
    };
    state.add_deployment(&web, now - 900_000);
    state.step(now - 600_000, &mut |_| PodHealth::Ready);
    state.step(now, &mut |_| PodHealth::Ready);
    state
}

pub fn wall() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// What is far away answers late, and not always as late as before.
fn late(app: Router, seed: u64) -> Router {
    if seed == 0 {
        return app;
    }
    let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    app.layer(axum::middleware::from_fn(move |request: Request, next: Next| {
        let random = random.clone();
        async move {
            let wait = || Duration::from_millis(random.lock().unwrap().random_range(0..40));
            tokio::time::sleep(wait()).await;
            let answer = next.run(request).await;
            tokio::time::sleep(wait()).await;
            answer
        }
    }))
}

/// The cluster lives fast: a minute in a second, so that pods start while the test waits.
pub fn tick(state: Arc<Mutex<KubeState>>, scenario: Scenario) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let begun = wall();
        let mut at = begun;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            at += 6_000;
            let mut health = |pod: &midwatch::world::kubernetes::PodView| match scenario {
                Scenario::DoesNotHelp if pod.started_at > begun => PodHealth::NotReady("not yet".into()),
                _ => PodHealth::Ready,
            };
            state.lock().unwrap().step(at, &mut health);
        }
    })
}

fn summary(incident: &Value) -> String {
    format!("{} {} {}", incident["id"], incident["state"], incident["plans"])
}

impl Life {
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = midwatch();
        command.arg("serve").arg("--config").arg(self.folder.path().join("midwatch.toml"));
        command.stdout(Stdio::null()).stderr(log);
        match &self.kill_at {
            Some(at) if !self.was_killed => {
                command.env("MIDWATCH_CRASH_AT", at);
            }
            Some(_) => {}
            None => {
                command.env("MIDWATCH_CRASH_LOG", self.folder.path().join("passed"));
            }
        }
        self.child = Some(Running(command.spawn().unwrap()));
    }

    /// Starts it again when it was killed, and waits until it is ready.
    async fn keep_alive(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.0.try_wait().unwrap());
        let Some(status) = ended else { return };
        use std::os::unix::process::ExitStatusExt as _;
        if status.signal() != Some(9) {
            self.violations.push(format!("it ended by itself: {status}"));
        }
        self.was_killed = true;
        let began = Instant::now();
        self.start();
        while began.elapsed() < Duration::from_secs(30) {
            if self.get("/readyz").await.is_some_and(|text| text.contains("ready")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.ready_again_ms = began.elapsed().as_millis();
    }

    async fn get(&self, path: &str) -> Option<String> {
        let answer = self.http.get(format!("http://{}{path}", self.api)).send().await.ok()?;
        answer.text().await.ok()
    }

    async fn post(&self, path: &str, body: &Value) -> bool {
        let request = self.http.post(format!("http://{}{path}", self.api)).header("content-type", "application/json");
        request.body(body.to_string()).send().await.is_ok_and(|answer| answer.status() == 202)
    }

    async fn incidents(&self) -> Vec<Value> {
        stored(&self.data()).await
    }

    async fn alert(&self, status: &str, since: &str) -> bool {
        let ends = if status == "resolved" { chrono::Utc::now().to_rfc3339() } else { "0001-01-01T00:00:00Z".into() };
        let labels = json!({"alertname": "Down", "service": SERVICE, "namespace": "shop", "severity": "critical"});
        self.post(
            "/webhooks/alertmanager",
            &json!([{"status": status, "labels": labels, "startsAt": since, "endsAt": ends}]),
        )
        .await
    }

    /// `/ops ...` from Slack, as U1, who asks.
    async fn says(&mut self, text: &str) -> bool {
        self.says_as("U1", text).await
    }

    /// As U2: the page is nobody whom the plan's requester could be told from.
    async fn approves(&mut self, value: &str) -> bool {
        self.says_as("U2", &format!("approve {value}")).await
    }

    async fn says_as(&mut self, who: &str, text: &str) -> bool {
        self.acts += 1;
        let form = |fields: &[(&str, &str)]| {
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
        };
        let trigger = format!("1.{}", self.acts);
        let body = form(&[
            ("team_id", "T1"),
            ("channel_id", "C1"),
            ("user_id", who),
            ("command", "/ops"),
            ("text", text),
            ("response_url", "https://hooks.slack.com/x"),
            ("trigger_id", &trigger),
        ]);
        let now = chrono::Utc::now().timestamp().to_string();
        let request = self.http.post(format!("http://{}/slack/command", self.api));
        let request = request.header("x-slack-request-timestamp", &now);
        let request = request.header("x-slack-signature", chat::sign(&now, &body));
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
    }

    /// A button, pressed in the console by `local/you`.
    async fn presses(&mut self, action: &str, value: &str) -> bool {
        self.acts += 1;
        let page = self.http.get(format!("http://{}/api/messages?channel=ops", self.console)).send().await;
        let Ok(page) = page else { return false };
        let page: Value = serde_json::from_str(&page.text().await.unwrap_or_default()).unwrap_or_default();
        let Some(message) = page["messages"].as_array().and_then(|all| all.first()).map(|first| first["ts"].clone())
        else {
            return false;
        };
        let reason = (action == "reject").then_some("not now");
        let body = json!({"kind": "click", "channel": "ops", "message": message, "action": action, "value": value, "reason": reason});
        let request = self.http.post(format!("http://{}/api/act", self.console));
        let request =
            request.header("content-type", "application/json").header("origin", format!("http://{}", self.console));
        let request = request.header("x-midwatch-act", format!("00000000-0000-4000-8000-{:012}", self.acts));
        request.body(body.to_string()).send().await.is_ok_and(|answer| answer.status() == 202)
    }

    /// People and monitoring, who try again until they see that it came through.
    async fn live(&mut self) {
        let since = chrono::Utc::now().to_rfc3339();
        let (mut told, mut ended) = (false, false);
        let mut next_act = Instant::now();
        loop {
            self.keep_alive().await;
            tokio::time::sleep(Duration::from_millis(60)).await;
            if !told {
                told = self.alert("firing", &since).await;
                continue;
            }
            let incidents = self.incidents().await;
            let Some(incident) = incidents.first() else { continue };
            let id = incident["id"].as_str().unwrap_or_default().to_owned();
            let plan = incident["plans"].as_array().and_then(|plans| plans.last()).cloned();
            let state = incident["state"]["state"].as_str().unwrap_or_default().to_owned();
            let patient = Instant::now() >= next_act;
            let Some(plan) = plan else {
                if state == "handed_over" && patient {
                    self.says(&format!("act {id} {}", self.scenario.asks())).await;
                    next_act = Instant::now() + Duration::from_secs(3);
                }
                continue;
            };
            let outcome = plan["outcome"]["outcome"].as_str().unwrap_or_default();
            let value = format!("{id}.P1.{}", &plan["plan"]["digest"].as_str().unwrap_or("0000000000000")[..12]);
            match (self.scenario, outcome) {
                (Scenario::Expires, "proposed") => {}
                (Scenario::Rejected, "proposed") if patient => {
                    self.presses("reject", &value).await;
                    next_act = Instant::now() + Duration::from_secs(3);
                }
                (Scenario::Paused, "proposed") if patient => {
                    // The approval follows only when the switch is certainly thrown.
                    match paused(&self.data()).await {
                        true => self.approves(&value).await,
                        false => self.says("pause for the test").await,
                    };
                    next_act = Instant::now() + Duration::from_secs(2);
                }
                (_, "proposed") if patient => {
                    self.approves(&value).await;
                    next_act = Instant::now() + Duration::from_secs(3);
                }
                (Scenario::Helps | Scenario::Restarts, "written") if !ended => {
                    ended = self.alert("resolved", &since).await
                }
                (Scenario::DoesNotHelp, "written" | "not_verified") => {}
                (_, "proposed" | "approved" | "started" | "written" | "not_verified") => {}
                _ if matches!(state.as_str(), "resolved" | "handed_over") => return,
                _ => {}
            }
        }
    }

    /// Everything that was decided has been told.
    async fn settle(&mut self, chat: &Chat) {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            self.keep_alive().await;
            let due = due(&self.data()).await;
            if due == 0 && !chat.lock().unwrap().messages.is_empty() {
                return;
            }
            if Instant::now() > patience {
                self.violations.push(format!("{due} messages are still due after 30 s"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn open(data: &Path) -> Option<SqliteConnection> {
    let path = data.join("midwatch.db");
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(5));
    sqlx::ConnectOptions::connect(&options).await.ok()
}

pub async fn column(data: &Path, sql: &'static str) -> Vec<String> {
    // A store that cannot be read is not an empty one.
    let mut last = String::from("it cannot be opened");
    for _ in 0..200 {
        if let Some(mut store) = open(data).await {
            let rows: Result<Vec<String>, _> = sqlx::query_scalar(sql).fetch_all(&mut store).await;
            let _ = store.close().await;
            match rows {
                Ok(rows) => return rows,
                Err(error) => last = error.to_string(),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{sql}: {last}");
}

pub async fn stored(data: &Path) -> Vec<Value> {
    let rows = column(data, "SELECT body FROM incident ORDER BY number").await;
    rows.iter().filter_map(|body| serde_json::from_str(body).ok()).collect()
}

async fn due(data: &Path) -> usize {
    column(data, "SELECT key FROM outbox WHERE state='due'").await.len()
}

pub async fn paused(data: &Path) -> bool {
    column(data, "SELECT value FROM setting WHERE name='paused' AND value<>'null'").await.len() == 1
}
