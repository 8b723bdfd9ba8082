//! A watch with its chat page, whose person may approve.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::harness::{Running, alert, free_address, midwatch};

pub struct Talking {
    pub folder: tempfile::TempDir,
    child: Option<Running>,
    pub api: String,
    console: String,
    pub http: reqwest::Client,
    said: Cell<usize>,
    environment: Vec<(String, String)>,
}

impl Talking {
    pub async fn start(more: &str) -> Self {
        Self::with_approvers("[\"local/you\"]", more).await
    }

    pub async fn with_environment(more: &str, environment: &[(&str, &str)]) -> Self {
        Self::beginning("[\"local/you\"]", more, environment).await
    }

    pub async fn with_approvers(approvers: &str, more: &str) -> Self {
        Self::beginning(approvers, more, &[]).await
    }

    async fn beginning(approvers: &str, more: &str, environment: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (api, console) = (free_address(), free_address());
        let text = format!(
            "[server]\nlisten = \"{api}\"\n[console]\nlisten = \"{console}\"\n[store]\ndata_dir = {:?}\n\
             [policy]\napprovers = {approvers}\n{more}",
            folder.path().join("data")
        );
        std::fs::write(folder.path().join("midwatch.toml"), text).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut talking = Self { folder, child: None, api, console, http, said: Cell::new(0), environment };
        talking.again().await;
        talking
    }

    /// Starts it (again) on the same folder, after kill -9.
    pub async fn again(&mut self) {
        self.child = None;
        let mut command = midwatch();
        command.envs(self.environment.clone());
        command.arg("serve").arg("--config").arg(self.folder.path().join("midwatch.toml"));
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(Running(command.spawn().unwrap()));
        self.until("readiness", async || self.get("/readyz").await.contains("ready").then_some(())).await;
    }

    pub fn stop(&mut self) {
        self.child = None;
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub async fn get(&self, path: &str) -> String {
        match self.http.get(format!("http://{}{path}", self.api)).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub async fn json(&self, path: &str) -> Value {
        let text = self.get(path).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}\n{text}"))
    }

    /// What the chat page is told.
    pub async fn page(&self, path: &str) -> String {
        self.http.get(format!("http://{}{path}", self.console)).send().await.unwrap().text().await.unwrap()
    }

    pub async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        // It ends when it is so; the builds and tests beside it may take the cores for a while.
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("no {what}; incidents {}\n{log}", self.get("/api/v1/incidents").await);
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    async fn act(&self, body: Value) {
        self.said.set(self.said.get() + 1);
        let request = self.http.post(format!("http://{}/api/act", self.console));
        let request = request.header("content-type", "application/json");
        let request = request.header("origin", format!("http://{}", self.console));
        let request = request.header("x-midwatch-act", uuid(self.said.get()));
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status();
        assert_eq!(status, 202, "{}", answer.text().await.unwrap());
    }

    pub async fn ops(&self, text: &str) {
        self.act(json!({"kind": "command", "channel": "ops", "thread": null, "text": text})).await;
    }

    /// Says it in the channel and waits for nothing.
    pub async fn mention(&self, text: &str) {
        self.act(json!({"kind": "mention", "channel": "ops", "thread": null, "text": text})).await;
    }

    /// A command over the API, by whoever has the token.
    pub async fn order(&self, token: &str, text: &str) -> (u16, Value) {
        let request = self.http.post(format!("http://{}/api/v1/ops", self.api)).json(&json!({"text": text}));
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// The same, which must be carried out; gives the answer as text.
    pub async fn ordered(&self, token: &str, text: &str) -> String {
        let (status, said) = self.order(token, text).await;
        assert_eq!(status, 200, "{text}: {said}");
        said["text"].as_str().unwrap().to_owned()
    }

    /// The same, which must be refused; gives the reason.
    pub async fn refused(&self, token: &str, text: &str) -> String {
        let (status, said) = self.order(token, text).await;
        assert_eq!(status, 403, "{text}: {said}");
        said["error"].as_str().unwrap().to_owned()
    }

    /// Says it in a channel, or in the thread of a message, and gives the answer as text once it is there.
    pub async fn says(&self, channel: &str, thread: Option<&str>, text: &str, wanted: &str) -> String {
        self.act(json!({"kind": "mention", "channel": channel, "thread": thread, "text": text})).await;
        self.until(&format!("an answer with {wanted:?} to {text}"), async || {
            let page: Value =
                serde_json::from_str(&self.page(&format!("/api/messages?channel={channel}")).await).ok()?;
            let mine = page["messages"].as_array()?.iter().rfind(|message| message["card"]["fallback"] == text);
            let root = match thread {
                Some(thread) => thread.to_owned(),
                None => mine?["ts"].as_str()?.to_owned(),
            };
            let replies = self.replies(channel, &root).await;
            let whispers = page["messages"].as_array()?.iter().filter(|message| message["whisper"] == true);
            let mut said = replies.into_iter().chain(whispers.map(|message| message["card"].to_string()));
            said.rfind(|said| said.contains(wanted))
        })
        .await
    }

    /// The cards below a message, as text.
    pub async fn replies(&self, channel: &str, ts: &str) -> Vec<String> {
        let thread = self.page(&format!("/api/thread?channel={channel}&ts={ts}")).await;
        let thread: Value = serde_json::from_str(&thread).unwrap_or_default();
        let replies = thread["replies"].as_array().cloned().unwrap_or_default();
        replies.iter().map(|reply| reply["card"].to_string()).collect()
    }

    /// Roots of one channel as text, oldest first.
    pub async fn told(&self, channel: &str) -> Vec<String> {
        let page = self.page(&format!("/api/messages?channel={channel}")).await;
        let page: Value = serde_json::from_str(&page).unwrap_or_default();
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| message["card"].to_string()).collect()
    }

    /// The ts of the incident's root message in a channel.
    pub async fn root(&self, channel: &str, id: &str) -> String {
        self.until(&format!("the root of {id} in {channel}"), async || {
            let page = self.page(&format!("/api/messages?channel={channel}")).await;
            let page: Value = serde_json::from_str(&page).ok()?;
            let context = format!("{id}, v");
            let root = page["messages"].as_array()?.iter().find(|one| one["card"].to_string().contains(&context));
            Some(root?["ts"].as_str()?.to_owned())
        })
        .await
    }

    /// A card below the incident's root message that tells of `wanted`.
    pub async fn in_thread(&self, id: &str, wanted: &str) -> String {
        let root = self.root("ops", id).await;
        self.until(&format!("{wanted:?} in the thread of {id}"), async || {
            self.replies("ops", &root).await.into_iter().rfind(|card| card.contains(wanted))
        })
        .await
    }

    /// Presses a button of a message.
    pub async fn press(&self, message: &str, action: &str, value: &str, reason: Option<&str>) {
        let body = json!({
            "kind": "click", "channel": "ops", "message": message, "action": action, "value": value, "reason": reason,
        });
        self.act(body).await;
    }

    /// Roots of the channel `ops`, oldest first.
    pub async fn messages(&self) -> Vec<Value> {
        let page: Value = serde_json::from_str(&self.page("/api/messages?channel=ops").await).unwrap();
        page["messages"].as_array().unwrap().clone()
    }

    /// The message with a button of that action and value; gives its ts.
    pub async fn with_button(&self, action: &str, value: &str) -> String {
        self.until(&format!("a button {action} of {value}"), async || {
            self.messages().await.into_iter().find_map(|message| {
                let has = message["card"]["blocks"].as_array()?.iter().any(|block| {
                    let buttons = block["buttons"].as_array().cloned().unwrap_or_default();
                    let carries = |button: &Value| button["value"].as_str().is_some_and(|one| one.contains(value));
                    buttons.iter().any(|button| button["action"] == action && carries(button))
                });
                has.then(|| message["ts"].as_str().unwrap().to_owned())
            })
        })
        .await
    }

    /// Says it and gives the answer as text.
    pub async fn asks(&self, text: &str) -> String {
        self.ops(text).await;
        let spoken = format!("/ops {text}");
        self.until(&format!("an answer to {text}"), async || {
            let messages = self.messages().await;
            let mine = messages.iter().rfind(|message| message["card"]["fallback"] == spoken.as_str())?;
            let ts = mine["ts"].as_str()?;
            let thread = self.page(&format!("/api/thread?channel=ops&ts={ts}")).await;
            let thread: Value = serde_json::from_str(&thread).ok()?;
            let replies = thread["replies"].as_array()?.iter();
            let said: Vec<String> = replies.map(|reply| reply["card"].to_string()).collect();
            let whispers = messages
                .iter()
                .filter(|message| message["whisper"] == true && message["ts"].as_str().is_some_and(|other| other > ts));
            let said: Vec<String> = said.into_iter().chain(whispers.map(|one| one["card"].to_string())).collect();
            (!said.is_empty()).then(|| said.join("\n"))
        })
        .await
    }

    pub async fn send(&self, alerts: &[Value]) {
        let request = self.http.post(format!("http://{}/webhooks/alertmanager", self.api));
        let body = json!(alerts).to_string();
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }

    pub async fn fire(&self, service: &str) {
        self.send(&[alert("Down", service)]).await;
    }

    pub async fn incidents(&self) -> Vec<Value> {
        self.json("/api/v1/incidents").await["incidents"].as_array().unwrap().clone()
    }

    pub async fn incident(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("{id} as it is wanted"), async || {
            self.incidents().await.into_iter().find(|incident| incident["id"] == id && wanted(incident))
        })
        .await
    }

    /// Rows of the stopped watch's database, each as one JSON text.
    pub async fn rows(&mut self, sql: &'static str) -> Vec<String> {
        self.stop();
        let path = self.data().join("midwatch.db");
        let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut store).await.unwrap();
        store.close().await.unwrap();
        rows
    }
}

/// The page names each act; a name counts once, also over a restart.
fn uuid(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}
