//! The built program from outside: started, watched with deadlines, ended by its id.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub const TOKEN: &str = "test-webhook-token";
/// Long enough for a busy machine; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(40);
/// The headless demo gives its own night 240 s.
pub const NIGHT: Duration = Duration::from_secs(300);

/// Nights are heavy and are timed: one at a time.
pub fn one_night_at_a_time() -> MutexGuard<'static, ()> {
    static NIGHTS: Mutex<()> = Mutex::new(());
    NIGHTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The neighbour's address, or `None` after saying which part stands in.
pub fn real(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        eprintln!("skipped: {variable} not set, ran on embedded parts");
    }
    value
}

/// A free port below those that the kernel gives to whoever connects somewhere: one of those may be taken
/// between here and the start of the program. No two tests of this process get the same.
pub fn free_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", 12_000 + offset % 20_000);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Whatever stands around the watch, on a port of its own; gives its URL.
pub async fn serve(app: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// Without what a developer's environment would lay over the configuration.
pub fn midwatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_midwatch"));
    for name in ["MIDWATCH_CONFIG", "MIDWATCH_MODEL", "MIDWATCH_STORE_URL", "MIDWATCH_LISTEN"] {
        command.env_remove(name);
    }
    for name in ["OPENAI_BASE_URL", "OPENAI_API_KEY", "RUST_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
    #[track_caller]
    pub fn report(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.stdout, self.stderr))
    }
}

/// Runs to its end, or kills it after `limit`.
pub fn run_within(mut command: Command, limit: Duration) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut child = Running(
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().expect("it starts"),
    );
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let ended = Ended { code: status.and_then(|status| status.code()), stdout: read(&out), stderr: read(&err) };
    assert!(status.is_some(), "still runs after {limit:?}\n{}\n{}", ended.stdout, ended.stderr);
    ended
}

pub fn run<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Ended {
    let mut command = midwatch();
    command.args(words);
    run_within(command, PATIENCE)
}

pub fn night(words: &[&str]) -> Ended {
    let mut command = midwatch();
    command.args(["demo", "--headless", "--json"]).args(words);
    run_within(command, NIGHT)
}

/// A process of ours; it ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `midwatch serve` with its folder.
pub struct Watch {
    pub url: String,
    pub folder: TempDir,
    config: PathBuf,
    http: reqwest::Client,
    child: Option<Running>,
}

impl Watch {
    pub async fn start(more: &str) -> Self {
        Self::listening(&free_address(), TOKEN, more).await
    }

    pub async fn listening(listen: &str, token: &str, more: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("midwatch.toml");
        let text = format!(
            "[server]\nlisten = \"{listen}\"\nwebhook_token = \"{token}\"\n\n[console]\nenabled = false\n\n\
             [store]\ndata_dir = {:?}\n\n{more}",
            folder.path().join("data")
        );
        std::fs::write(&config, text).unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let mut watch = Self { url: format!("http://{listen}"), folder, config, http, child: None };
        watch.again().await;
        watch
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts it (again) on the same folder.
    pub async fn again(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = midwatch();
        command.arg("serve").arg("--config").arg(&self.config).stdout(Stdio::null()).stderr(log);
        self.child = Some(Running(command.spawn().unwrap()));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(answer) = self.http.get(format!("{}/readyz", self.url)).send().await
                && answer.status() == 200
            {
                return;
            }
            let ended = self.child.as_mut().unwrap().0.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "not ready ({ended:?})\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child = None;
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        self.post_as(&format!("Bearer {TOKEN}"), body).await
    }

    pub async fn post_as(&self, who: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        self.post_to("/webhooks/alertmanager", who, body).await
    }

    pub async fn post_to(&self, path: &str, who: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.header("authorization", who).header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn incidents(&self) -> Vec<Value> {
        let (status, text) = self.get("/api/v1/incidents").await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["incidents"].as_array().unwrap().clone()
    }

    /// The first incident whose title or service tells of `word`.
    pub async fn incident(&self, word: &str) -> Value {
        self.eventually(&format!("an incident of {word}"), async || {
            self.incidents().await.into_iter().find(|incident| incident.to_string().contains(word))
        })
        .await
    }

    /// Value of one line of /metrics, 0 when it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Asks until there is an answer.
    pub async fn eventually<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            if Instant::now() > deadline {
                panic!("no {what} in {PATIENCE:?}; incidents {:?}\n{}", self.incidents().await, self.said());
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
}

/// A critical alert that fires now. Each service lives by itself: relatives that fall ill together are one
/// incident where nobody knows who calls whom.
pub fn alert(name: &str, service: &str) -> Value {
    json!({
        "status": "firing",
        "labels": {"alertname": name, "service": service, "namespace": format!("of-{service}"), "severity": "critical"},
        "annotations": {"summary": format!("{name} of {service}")},
        "startsAt": chrono::Utc::now().to_rfc3339(),
        "endsAt": "0001-01-01T00:00:00Z",
    })
}

/// An Alertmanager webhook body, version 4.
pub fn group(alerts: &[Value]) -> String {
    json!({
        "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "midwatch", "groupLabels": {},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager", "alerts": alerts,
    })
    .to_string()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
