//! A whole night of the built program in Slack: alerts through Kafka, a person's clicks in the
//! emulator, and the session as it was recorded.

use std::process::Stdio;
use std::time::{Duration, Instant};

use midwatch::domain::card::ButtonAction;
use serde_json::Value;

use super::emulator::{CHANNEL, Emulator, WORKSPACE};
use crate::harness::{Running, midwatch, one_night_at_a_time};

/// The newest message that has a button of this kind.
async fn with_button(emulator: &Emulator, action: ButtonAction, what: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let messages = emulator.messages().await;
        let found = messages.iter().rev().find(|message| {
            let blocks = message["blocks"].as_array().into_iter().flatten();
            let mut elements = blocks.flat_map(|block| block["elements"].as_array().into_iter().flatten());
            elements.any(|element| element["action_id"] == action.as_str())
        });
        if let Some(found) = found {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "no {what} in Slack: {messages:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_night_is_told_approved_and_resolved_in_slack() {
    let _night = one_night_at_a_time();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(night());
}

async fn night() {
    let _alone = WORKSPACE.lock().await;
    let Some(emulator) = Emulator::fresh().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("midwatch.toml");
    let text = format!(
        "[slack]\nbot_token = \"xoxb-test-midwatch\"\napp_token = \"xapp-test-midwatch\"\nchannel = \"{CHANNEL}\"\n\
         api_base = \"{}/api/\"\nteam_id = \"T01WATCH\"\n[policy]\napprovers = [\"T01WATCH/U01ANN\"]\n",
        emulator.base
    );
    std::fs::write(&config, text).unwrap();
    let mut command = midwatch();
    command.args(["demo", "--headless", "--json", "--seed", "1", "--config"]).arg(&config);
    let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());

    let card = with_button(&emulator, ButtonAction::Approve, "approval card").await;
    let story = with_button(&emulator, ButtonAction::ThumbsUp, "diagnosis").await;
    let root = card["thread_ts"].as_str().expect("the card lies in a thread").to_owned();
    assert_eq!(story["thread_ts"], root.as_str());
    emulator.press(story["ts"].as_str().unwrap(), "U02BEN", ButtonAction::ThumbsUp).await;
    // Who is not named by policy.approvers cannot approve.
    emulator.press(card["ts"].as_str().unwrap(), "U02BEN", ButtonAction::Approve).await;
    emulator.press(card["ts"].as_str().unwrap(), "U01ANN", ButtonAction::Approve).await;

    let mut said = String::new();
    let mut stdout = child.0.stdout.take().unwrap();
    let reader = tokio::task::spawn_blocking(move || {
        std::io::Read::read_to_string(&mut stdout, &mut said).unwrap();
        said
    });
    let said = tokio::time::timeout(Duration::from_secs(240), reader).await.expect("the night ends").unwrap();
    assert!(child.0.wait().unwrap().success(), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    let action = &report["incidents"][0]["actions"][0];
    assert_eq!(action["approved_by"], serde_json::json!(["T01WATCH/U01ANN"]), "{report:#}");
    assert_eq!(action["verified"], true, "{report:#}");

    let messages = emulator.messages().await;
    let told = messages.iter().find(|message| message["ts"] == root.as_str()).unwrap();
    assert!(told["text"].as_str().unwrap().contains("Resolved"), "the root message is edited: {told:#}");
    assert!(!told.to_string().contains("xoxb-"));
    let log = emulator.read("log").await;
    let whispers = log["log"].to_string();
    assert!(whispers.contains("kept with the incident as feedback"), "the thumb is answered");
    pictures(&log, &root);
    record(&log);
}

/// Signals and topology lie in the thread, with words for those who cannot see them.
fn pictures(log: &Value, root: &str) {
    let calls = |method: &str| -> Vec<String> {
        let all = log["log"].as_array().unwrap().iter();
        all.filter(|entry| entry["summary"].as_str().is_some_and(|said| said.contains(method)))
            .map(Value::to_string)
            .collect()
    };
    let asked = calls("files.getUploadURLExternal").join("\n");
    for words in ["signals.png", "topology.png", "Graph of the signals", "Dependency graph; cause"] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    let shown = calls("files.completeUploadExternal");
    assert!(shown.len() >= 2 && shown.iter().all(|call| call.contains(root)), "{shown:?}");
}

/// The session as the emulator saw it, without tokens.
fn record(log: &Value) {
    if std::env::var("MIDWATCH_RECORD").as_deref() != Ok("1") {
        return;
    }
    let mut text = String::from(
        "# Recorded by tests/it/slack/night.rs: the built program, seed 1, against local-slack 0.1.8; tokens redacted.\n",
    );
    for entry in log["log"].as_array().unwrap() {
        let word = |name: &str| entry[name].as_str().unwrap_or_default();
        text.push_str(&format!("\n## {} {} {}\n", word("direction"), word("kind"), word("summary")));
        text.push_str(&serde_json::to_string_pretty(&entry["detail"]).unwrap());
        text.push('\n');
    }
    for secret in ["xoxb-test-midwatch", "xapp-test-midwatch", "test-signing-secret", "verification-token"] {
        text = text.replace(secret, "[redacted]");
    }
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/slack-session.txt"), text).unwrap();
}
