//! Slack, against code that nobody here wrote: the SDK's signature verifier, the SDK's Block Kit
//! models and an emulator. What is absent is said on standard error and skipped.

#[path = "slack/emulator.rs"]
mod emulator;
#[path = "slack/faults.rs"]
mod faults;
#[path = "slack/night.rs"]
mod night;
#[path = "slack/proxy.rs"]
mod proxy;
#[path = "slack/storm.rs"]
mod storm;
#[path = "slack/support.rs"]
mod support;
#[path = "slack/waiting.rs"]
mod waiting;

use std::process::{Command, Stdio};

use crate::harness::serve;
use hmac::{Hmac, Mac};
use midwatch::adapters::slack::events::{self, NotSigned, verify};
use midwatch::adapters::slack::{Intake, Renderer, SlackChat, SlackConfig, blocks};
use midwatch::domain::time::Timestamp;
use midwatch::ports::{Chat, ChatError, FromPeople, SystemClock};
use serde_json::{Value, json};
use sha2::Sha256;
use support::{Kept, golden_cards};

const NOW: i64 = 1_800_000_000;

pub fn sign(secret: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    format!("v0={}", mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[test]
fn signatures_are_judged_as_the_sdk_judges_them() {
    let body = r#"{"type":"url_verification","challenge":"ä"}"#;
    let secrets = ["new-secret".to_string(), "old-secret".to_string()];
    let at = |offset: i64| (NOW + offset).to_string();
    let good = Ok(());
    let table: Vec<(&str, String, String, Result<(), NotSigned>)> = vec![
        ("good", at(0), sign("new-secret", &at(0), body), good),
        ("rotated secret", at(0), sign("old-secret", &at(0), body), good),
        ("300 s old", at(-300), sign("new-secret", &at(-300), body), good),
        ("301 s old", at(-301), sign("new-secret", &at(-301), body), Err(NotSigned::OutsideWindow)),
        ("from the future", at(301), sign("new-secret", &at(301), body), Err(NotSigned::OutsideWindow)),
        ("other body", at(0), sign("new-secret", &at(0), "{}"), Err(NotSigned::Mismatch)),
        ("unknown secret", at(0), sign("other", &at(0), body), Err(NotSigned::Mismatch)),
        ("not a number", "soon".into(), sign("new-secret", "soon", body), Err(NotSigned::NoTimestamp)),
        ("signed number", format!("+{NOW}"), sign("new-secret", &format!("+{NOW}"), body), Err(NotSigned::NoTimestamp)),
        ("no signature", at(0), String::new(), Err(NotSigned::NoSignature)),
        ("cut signature", at(0), sign("new-secret", &at(0), body)[..40].into(), Err(NotSigned::NoSignature)),
        ("not hex", at(0), format!("v0={}", "+1".repeat(32)), Err(NotSigned::NoSignature)),
    ];
    for (name, timestamp, signature, expected) in &table {
        let now = Timestamp::from_secs(NOW);
        let judged = verify(&secrets, Some(timestamp), Some(signature), body.as_bytes(), now);
        assert_eq!(judged, *expected, "{name}");
    }
    assert_eq!(verify(&[], Some("1"), None, b"", Timestamp::from_secs(1)), Err(NotSigned::NoSecret));

    let cases: Vec<Value> = table
        .iter()
        .filter(|(name, ..)| *name != "signed number") // Python's int() takes a plus sign; we do not.
        .map(|(_, timestamp, signature, _)| json!([timestamp, signature]))
        .collect();
    let program = format!(
        "import json, sys\nfrom slack_sdk.signature import SignatureVerifier, Clock\nclass Fixed(Clock):\n  def now(self): return {NOW}\nbody, secrets, cases = json.load(sys.stdin)\ndef judge(timestamp, signature):\n  try: return any(SignatureVerifier(s, clock=Fixed()).is_valid(body, timestamp, signature) for s in secrets)\n  except ValueError: return False\nprint(json.dumps([judge(*case) for case in cases]))"
    );
    let Some(answer) = python(&["-c", &program], &json!([body, secrets, cases]).to_string()) else {
        return;
    };
    let theirs: Vec<bool> = serde_json::from_str(&answer.1).unwrap();
    let ours: Vec<bool> = table.iter().filter(|(name, ..)| *name != "signed number").map(|row| row.3.is_ok()).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn every_golden_card_passes_the_block_kit_oracle() {
    let renderer = Renderer::new(Some("https://console.example"), Some("T1"));
    for (name, card) in golden_cards() {
        let rendered = blocks(&renderer, &card, name);
        let json = Value::Array(rendered.blocks);
        let typed: Vec<slack_morphism::prelude::SlackBlock> = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), json, "{name}: the library sends what was rendered");
        let json = json.to_string();
        let oracle = format!("{}/tests/blockkit_oracle.py", env!("CARGO_MANIFEST_DIR"));
        let Some((accepted, complaints)) = python(&[&oracle, "message"], &json) else {
            return;
        };
        assert!(accepted, "{name}: {complaints}");
        for markup in ["<!channel", "<!here", "<@U0EVIL", "<https://evil", "\"url\":\"https://evil"] {
            let mrkdwn = mrkdwn_of(&serde_json::from_str(&json).unwrap());
            assert!(!mrkdwn.contains(markup) && !rendered.text.contains(markup), "{name}: {markup}");
        }
    }
}

/// All text that Slack would read as markup, and every address.
fn mrkdwn_of(node: &Value) -> String {
    match node {
        Value::Array(items) => items.iter().map(mrkdwn_of).collect(),
        Value::Object(map) if map.get("type") == Some(&json!("mrkdwn")) => map["text"].as_str().unwrap().to_string(),
        Value::Object(map) => {
            let url = map.get("url").map(|url| format!("\"url\":{url}")).unwrap_or_default();
            url + &map.values().map(mrkdwn_of).collect::<String>()
        }
        _ => String::new(),
    }
}

/// Exit and output of Python with slack_sdk, or `None` with a word on why not.
fn python(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let has_sdk = Command::new("python3").args(["-c", "import slack_sdk"]).stderr(Stdio::null()).status();
    if !has_sdk.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: python3 with slack_sdk==3.47.0 is absent (pip install slack_sdk==3.47.0)");
        return None;
    }
    let mut child =
        Command::new("python3").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[tokio::test]
async fn http_delivers_once_and_says_why_it_refuses() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let inbox = Kept::default();
    let chat = SlackChat::new(SlackConfig::new("xoxb-x", "C1")).unwrap();
    let intake = Intake::new(chat, inbox.shared());
    let router = events::router(intake, vec!["secret".into()], std::sync::Arc::new(SystemClock));
    let base = serve(router).await;
    let now = chrono::Utc::now().timestamp().to_string();
    let send = async |path: &str, body: String, secret: &str| {
        let request = reqwest::Client::new()
            .post(format!("{base}{path}"))
            .header("x-slack-request-timestamp", &now)
            .header("x-slack-signature", sign(secret, &now, &body))
            .body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.headers().contains_key("retry-after"), response.text().await.unwrap())
    };

    let challenge = json!({"type": "url_verification", "challenge": "c", "token": "t"}).to_string();
    assert_eq!(send("/slack/events", challenge.clone(), "secret").await, (200, false, r#"{"challenge":"c"}"#.into()));
    let (status, _, reason) = send("/slack/events", challenge, "wrong").await;
    assert_eq!((status, reason.as_str()), (401, r#"{"error":"the signature does not match the body"}"#));

    let mention =
        json!({"type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": "Ev9", "event_time": 1,
        "event": {"type": "app_mention", "user": "U1", "text": "<@UB> hello", "ts": "1.1", "channel": "C1"}})
        .to_string();
    for _ in 0..3 {
        assert_eq!(send("/slack/events", mention.clone(), "secret").await.0, 200);
    }
    let command = "team_id=T1&channel_id=C1&user_id=U1&command=%2Fops&text=diagnose+checkout&response_url=https%3A%2F%2Fhooks.slack.com%2Fx&trigger_id=1.2";
    assert_eq!(send("/slack/command", command.into(), "secret").await.0, 200);
    let kept = inbox.acts();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(matches!(&kept[0], FromPeople::Mention { text, .. } if text == "hello"));
    assert!(matches!(&kept[1], FromPeople::Command { text, .. } if text == "diagnose checkout"));

    inbox.refuse();
    let (status, retry_after, _) = send("/slack/events", mention.replace("Ev9", "Ev10"), "secret").await;
    assert_eq!((status, retry_after), (503, true));
}

#[tokio::test]
async fn a_command_is_answered_where_the_bot_may_not_post() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answers: std::sync::Arc<std::sync::Mutex<Vec<Value>>> = std::sync::Arc::default();
    let heard = answers.clone();
    let take = axum::routing::post(move |axum::Json(body): axum::Json<Value>| {
        heard.lock().unwrap().push(body);
        async { "ok" }
    });
    let slack = serve(axum::Router::new().route("/answers/secret", take)).await;
    let mut config = SlackConfig::new("xoxb-x", "C1");
    config.api_base = Some(format!("{slack}/api"));
    let (inbox, chat) = (Kept::default(), SlackChat::new(config).unwrap());
    let intake = Intake::new(chat.clone(), inbox.shared());
    let base = serve(events::router(intake, vec!["secret".into()], std::sync::Arc::new(SystemClock))).await;
    let now = chrono::Utc::now().timestamp().to_string();
    for (trigger, way_back) in [("1.1", format!("{slack}/answers/secret")), ("1.2", format!("{base}/answers/secret"))] {
        let body: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("team_id", "T1"), ("channel_id", "C9"), ("user_id", "U1"), ("command", "/ops")])
            .extend_pairs([("text", "status"), ("response_url", way_back.as_str()), ("trigger_id", trigger)])
            .finish();
        let request = reqwest::Client::new()
            .post(format!("{base}/slack/command"))
            .header("x-slack-request-timestamp", &now)
            .header("x-slack-signature", sign("secret", &now, &body))
            .body(body);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let acts = inbox.acts();
    let places = acts.iter().map(|act| match act {
        FromPeople::Command { place, .. } => place,
        other => panic!("{other:?}"),
    });
    let places: Vec<_> = places.collect();
    assert!(!format!("{acts:?}").contains("answers/secret"), "the address is kept nowhere: {acts:?}");
    let card = midwatch::domain::narrative::note("0 open incidents", midwatch::domain::card::Tone::Neutral);
    for _ in 0..5 {
        chat.answer_privately(places[0], &card).await.unwrap();
    }
    let said = answers.lock().unwrap()[0].clone();
    assert_eq!(said["response_type"], "ephemeral");
    assert!(said["text"].as_str().unwrap().contains("0 open incidents") && said["blocks"].is_array(), "{said}");
    let used_up = chat.answer_privately(places[0], &card).await;
    assert!(matches!(used_up, Err(ChatError::Refused(_))), "{used_up:?}");
    let elsewhere = chat.answer_privately(places[1], &card).await;
    assert!(matches!(elsewhere, Err(ChatError::Refused(_))), "no other host is called: {elsewhere:?}");
    assert_eq!(answers.lock().unwrap().len(), 5);
}
