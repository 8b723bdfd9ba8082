//! End to end over Socket Mode against the Slack emulator (`tests/slack-emulator.yaml` says how it
//! is started). The emulator sends every envelope to all sockets: each act must be kept once.

use std::time::Duration;

use midwatch::adapters::slack::{Intake, SlackChat, SlackConfig, connect};
use midwatch::domain::card::ButtonAction;
use midwatch::domain::id::PersonId;
use midwatch::ports::{Chat, FromPeople, MessageRef, Place};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Kept, approval_card, root_card, thumbs_card};

pub const CHANNEL: &str = "C01INC";

pub struct Emulator {
    pub base: String,
    http: reqwest::Client,
}

/// There is one workspace: who uses it resets it first.
pub static WORKSPACE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Emulator {
    /// `None` after saying so, where its address is not given.
    pub async fn fresh() -> Option<Self> {
        let Ok(base) = std::env::var("MIDWATCH_TEST_SLACK") else {
            eprintln!("SKIPPED: MIDWATCH_TEST_SLACK is not set (see tests/slack-emulator.yaml)");
            return None;
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let emulator = Self { base: base.trim_end_matches('/').to_string(), http: reqwest::Client::new() };
        emulator.control("reset", json!({})).await;
        Some(emulator)
    }

    pub async fn messages(&self) -> Vec<Value> {
        self.read(&format!("messages/{CHANNEL}")).await["messages"].as_array().unwrap().clone()
    }

    pub async fn control(&self, path: &str, body: Value) -> Value {
        let response = self.http.post(format!("{}/_control/{path}", self.base)).json(&body).send().await.unwrap();
        response.json().await.unwrap()
    }

    pub async fn read(&self, path: &str) -> Value {
        self.http.get(format!("{}/_control/{path}", self.base)).send().await.unwrap().json().await.unwrap()
    }

    /// The button as it lies in the posted message, so that block id and value are the real ones.
    async fn click(&self, message: &MessageRef, user: &str, action: ButtonAction) {
        self.press(&message.ts, user, action).await;
    }

    pub async fn press(&self, ts: &str, user: &str, action: ButtonAction) {
        let messages = self.messages().await;
        let posted = messages.iter().find(|message| message["ts"] == ts).unwrap();
        let blocks = posted["blocks"].as_array().unwrap().clone();
        let button = blocks
            .iter()
            .filter(|block| block["type"] == "actions")
            .flat_map(|block| block["elements"].as_array().unwrap().iter().map(move |element| (block, element)))
            .find(|(_, element)| element["action_id"] == action.as_str());
        let (block, element) = button.unwrap();
        let mut pressed = element.clone();
        pressed["block_id"] = block["block_id"].clone();
        let body = json!({"channel": CHANNEL, "messageTs": ts, "user": user, "action": pressed});
        assert_eq!(self.control("interact", body).await["ok"], true);
    }

    async fn submit_dialog(&self, user: &str, reason: &str) {
        let input = json!({"reason": {"reason": {"type": "plain_text_input", "value": reason}}});
        self.page(json!({"t": "view_submit", "user": user, "values": input})).await;
    }

    pub async fn open_home(&self, user: &str) {
        self.page(json!({"t": "open_home", "user": user, "appId": "A01WATCH"})).await;
    }

    /// Dialogs and homes are reached through the emulator's own page only, which speaks WebSocket.
    async fn page(&self, what: Value) {
        let address = self.base.trim_start_matches("http://");
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let hello = format!(
            "GET /ui HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 101"));
        let text = what.to_string();
        // One masked text frame with a zero mask and the length in two bytes (RFC 6455, 5.2), which
        // spaces make long enough.
        let text = format!("{text:<126}");
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend((text.len() as u16).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        stream.write_all(&frame).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..100 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited 10 s for: {what}");
}

#[tokio::test]
async fn the_adapter_in_the_emulator() {
    let _alone = WORKSPACE.lock().await;
    let Some(emulator) = Emulator::fresh().await else { return };
    let mut config = SlackConfig::new("xoxb-test-midwatch", CHANNEL);
    config.app_token = Some("xapp-test-midwatch".into());
    config.api_base = Some(format!("{}/api/", emulator.base));
    config.team_id = Some("T01WATCH".into());
    config.console_base = Some("http://console.test:8080".into());
    let chat = SlackChat::new(config).unwrap();
    assert!(chat.check().await.unwrap().contains("T01WATCH"));
    let inbox = Kept::default();
    let sockets = connect(&chat, Intake::new(chat.clone(), inbox.shared())).await.unwrap();

    // Until both sockets are there, which are opened some seconds apart.
    until("both sockets", async || {
        let log = emulator.read("log").await;
        let opened = log["log"].to_string().matches("apps.connections.open").count();
        opened >= 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    let root = chat.post(CHANNEL, None, "INC-214/root", &root_card("Investigating")).await.unwrap();
    let reply = chat.post(CHANNEL, Some(&root), "INC-214/story/1", &thumbs_card()).await.unwrap();
    let card = chat.post(CHANNEL, Some(&root), "INC-214/P1", &approval_card()).await.unwrap();
    assert_eq!(chat.find("#incidents", None, "INC-214/root").await.unwrap(), std::slice::from_ref(&root));
    assert_eq!(chat.find(CHANNEL, None, "INC-214/root").await.unwrap(), std::slice::from_ref(&root));
    assert_eq!(chat.find(CHANNEL, Some(&root), "INC-214/P1").await.unwrap(), std::slice::from_ref(&card));
    assert_eq!(chat.find(CHANNEL, Some(&root), "INC-214/P2").await.unwrap(), []);

    emulator.click(&card, "U01ANN", ButtonAction::Approve).await;
    until("the approval", async || inbox.deliveries() >= 2).await;
    let acts = inbox.acts();
    assert_eq!(acts.len(), 1, "kept once though delivered to both sockets: {acts:?}");
    let FromPeople::Click { place, by, action, value, reason } = &acts[0] else { panic!("{acts:?}") };
    assert_eq!((by.id.as_str(), *action, reason), ("T01WATCH/U01ANN", ButtonAction::Approve, &None));
    assert_eq!(value, "INC-214.P1.9f86d081884c");
    assert_eq!((&place.thread, &place.message), (&Some(root.clone()), &Some(card.clone())));

    chat.edit(&root, &root_card("Mitigated")).await.unwrap();
    let messages = emulator.read(&format!("messages/{CHANNEL}")).await;
    assert!(messages.to_string().contains("payments 5xx: Mitigated"));

    emulator.click(&reply, "U02BEN", ButtonAction::ThumbsUp).await;
    until("the thumb up", async || inbox.acts().len() == 2).await;

    emulator.click(&reply, "U02BEN", ButtonAction::ThumbsDown).await;
    until("one dialog", async || emulator.read("log").await["log"].to_string().contains("views.open")).await;
    assert_eq!(inbox.acts().len(), 2, "the click waits for its reason");
    emulator.submit_dialog("U02BEN", "it was the network <!channel>, look at the error rate of the gateway").await;
    until("the reason", async || inbox.acts().len() == 3).await;
    let acts = inbox.acts();
    let FromPeople::Click { place, by, action, reason, .. } = &acts[2] else { panic!("{acts:?}") };
    assert_eq!((by.id.as_str(), *action), ("T01WATCH/U02BEN", ButtonAction::ThumbsDown));
    assert!(reason.as_deref().is_some_and(|words| words.contains("it was the network")));
    assert_eq!((&place.thread, &place.message), (&Some(root.clone()), &Some(reply.clone())));

    let command = json!({"channel": CHANNEL, "user": "U01ANN", "command": "/ops", "text": "diagnose payments"});
    emulator.control("command", command).await;
    until("the command", async || inbox.acts().len() == 4).await;
    assert!(matches!(&inbox.acts()[3], FromPeople::Command { text, .. } if text == "diagnose payments"));

    let mention =
        json!({"channel": CHANNEL, "user": "U01ANN", "text": "<@U0WATCH> what changed?", "thread_ts": root.ts});
    emulator.control("message", mention).await;
    until("the mention", async || inbox.acts().len() == 5).await;
    let acts = inbox.acts();
    assert!(
        matches!(&acts[4], FromPeople::Mention { text, place, .. } if text == "what changed?" && place.thread == Some(root.clone())),
        "{acts:?}"
    );

    let place = Place { channel: CHANNEL.into(), thread: Some(root.clone()), message: None, command: None };
    chat.whisper(&place, &PersonId::new("T01WATCH/U01ANN"), &thumbs_card()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(inbox.acts().len(), 5, "nothing came twice, and nothing of our own came back");
    let log = emulator.read("log").await;
    assert_eq!(log["log"].to_string().matches("\"views.open\"").count(), 1, "one dialog for two deliveries");
    sockets.shutdown().await;
}
