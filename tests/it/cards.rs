//! Every state of every card: as plain text and as Slack blocks, kept as golden files, judged by
//! Slack's own Python SDK, and held to Slack's limits. `UPDATE_EXPECT=1` writes the files anew.

#[path = "cards/states.rs"]
mod states;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use expect_test::expect_file;
use midwatch::adapters::slack::{Renderer, blocks, form_blocks, home_blocks};
use midwatch::domain::card::Card;
use serde_json::{Value, json};
use states::{HOSTILE, asking, homes, messages};

const CONSOLE: &str = "https://watch.example/mw";

/// What Slack would get.
struct Shown {
    name: String,
    surface: &'static str,
    card: Option<Card>,
    text: String,
    blocks: Vec<Value>,
}

fn all() -> Vec<Shown> {
    let renderer = Renderer::new(Some(CONSOLE), Some("T1"));
    let mut all = vec![];
    for (name, card) in messages() {
        let rendered = blocks(&renderer, &card, name);
        let (text, blocks) = (rendered.text, rendered.blocks);
        all.push(Shown { name: name.into(), surface: "message", card: Some(card), text, blocks });
    }
    for (name, card) in homes() {
        let blocks = home_blocks(&renderer, &card);
        all.push(Shown { name: name.into(), surface: "home", card: Some(card), text: String::new(), blocks });
    }
    for action in asking() {
        let form = action.form().unwrap();
        let name = format!("form-{}", action.as_str());
        all.push(Shown { name, surface: "modal", card: None, text: form.title.into(), blocks: form_blocks(form) });
    }
    all
}

#[test]
fn each_state_looks_as_it_did() {
    let all = all();
    let names: BTreeSet<&str> = all.iter().map(|shown| shown.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "each state has its own name");
    for shown in &all {
        let plain = shown.card.as_ref().map_or(String::new(), Card::plain_text);
        let blocks = serde_json::to_string_pretty(&shown.blocks).unwrap();
        // What breaks addresses and mentions is invisible; here it should be seen.
        let golden = format!("{}\n\n{plain}\n\n{blocks}\n", shown.text).replace('\u{2060}', "[U+2060]");
        // Of what is long only the measures are kept: nobody reads them.
        let golden = match golden.len() > 20_000 {
            true => format!("{} blocks, {} bytes, digest {}\n", shown.blocks.len(), golden.len(), digest(&golden)),
            false => golden,
        };
        expect_file![format!("../golden/cards/{}.txt", shown.name)].assert_eq(&golden);
    }
    println!("{} states", all.len());
    assert!(all.len() >= 30);
}

fn digest(text: &str) -> String {
    midwatch::domain::id::Digest::of(text.as_bytes()).short().to_owned()
}

#[test]
fn no_golden_file_is_left_from_a_state_that_is_gone() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cards");
    let names: BTreeSet<String> = all().into_iter().map(|shown| format!("{}.txt", shown.name)).collect();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = files.filter(|file| !names.contains(file)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// One Python for all of them.
const JUDGE: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
import blockkit_oracle
for name, surface, blocks in json.load(sys.stdin):
    for complaint in blockkit_oracle.complaints(surface, blocks):
        print(f'{name}: {complaint}')
";

fn complaints(cases: &[(String, &str, Vec<Value>)]) -> Option<String> {
    let has_sdk = Command::new("python3").args(["-c", "import slack_sdk"]).stderr(Stdio::null()).status();
    if !has_sdk.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: python3 with slack_sdk==3.47.0 is absent (pip install slack_sdk==3.47.0)");
        return None;
    }
    let mut python = Command::new("python3");
    python.args(["-c", JUDGE, concat!(env!("CARGO_MANIFEST_DIR"), "/tests")]).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(json!(cases).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the oracle itself failed");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn slacks_own_sdk_takes_every_state() {
    let mut cases: Vec<(String, &str, Vec<Value>)> =
        all().into_iter().map(|shown| (shown.name, shown.surface, shown.blocks)).collect();
    let judged = cases.len();
    // The oracle must be able to say no.
    cases.push((
        "broken".into(),
        "message",
        vec![json!({"type": "header", "text": {"type": "plain_text", "text": "x".repeat(151)}})],
    ));
    let Some(complaints) = complaints(&cases) else { return };
    let about: Vec<&str> = complaints.lines().filter(|line| !line.starts_with("broken")).collect();
    assert!(complaints.contains("broken"), "the oracle refuses nothing");
    assert!(about.is_empty(), "{}", about.join("\n"));
    println!("{judged} states judged by slack_sdk");
}

/// Texts that Slack reads as markup.
fn mrkdwn(node: &Value, into: &mut Vec<String>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| mrkdwn(item, into)),
        Value::Object(map) if map.get("type") == Some(&json!("mrkdwn")) => {
            into.push(map["text"].as_str().unwrap().to_owned())
        }
        Value::Object(map) => map.values().for_each(|value| mrkdwn(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Addresses and mentions that Slack would act on.
fn live(node: &Value, into: &mut Vec<String>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| live(item, into)),
        Value::Object(map) => {
            for name in ["url", "image_url", "user_id", "usergroup_id", "channel_id", "range"] {
                into.extend(map.get(name).map(|value| format!("{name}={}", value.as_str().unwrap_or_default())));
            }
            map.values().for_each(|value| live(value, into));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn nothing_foreign_is_markup_a_mention_or_a_link() {
    for shown in all() {
        let name = &shown.name;
        let mut texts = vec![shown.text.clone()];
        mrkdwn(&Value::Array(shown.blocks.clone()), &mut texts);
        for text in &texts {
            for (start, _) in text.match_indices('<') {
                let rest = &text[start..];
                let ours = ["<!date^", "<@U7ANN>", "<@U8BEN>", "<https://watch.example/mw/"];
                assert!(ours.iter().any(|ours| rest.starts_with(ours)), "{name}: {rest}");
            }
            for word in ["www.evil", "https://evil", "@everyone", "\u{202e}", "\u{2066}", "\u{7}", "\u{200b}"] {
                assert!(!text.contains(word), "{name}: {word:?} in {text}");
            }
        }
        let mut acting = vec![];
        live(&Value::Array(shown.blocks.clone()), &mut acting);
        for one in acting {
            let ours = ["url=https://watch.example/mw/", "user_id=U7ANN", "user_id=U8BEN"];
            assert!(ours.iter().any(|ours| one.starts_with(ours)), "{name}: {one}");
        }
        let whole = json!(shown.blocks).to_string();
        assert!(!whole.contains('\u{202e}') && !whole.contains("\\u0007"), "{name}: hidden characters");
    }
}

#[test]
fn the_words_of_others_are_still_there_to_read() {
    let all = all();
    let hostile = all.iter().find(|shown| shown.name == "nasty-hostile-root").unwrap();
    let told = json!(hostile.blocks).to_string();
    assert!(HOSTILE.contains("evil.test") && told.contains("evil.test") && told.contains("rm -rf"), "{told}");
    let arabic = all.iter().find(|shown| shown.name == "nasty-rtl-root").unwrap();
    assert!(json!(arabic.blocks).to_string().contains("خدمة الدفع غير متاحة"));
}

#[test]
fn slacks_limits_hold() {
    let units = |text: &str| text.chars().map(char::len_utf16).sum::<usize>();
    for shown in all() {
        let name = &shown.name;
        let most = if shown.surface == "message" { 50 } else { 100 };
        assert!(shown.blocks.len() <= most, "{name}: {} blocks", shown.blocks.len());
        assert!(units(&shown.text) <= 3000, "{name}: the fallback");
        assert!(shown.surface != "message" || !shown.text.trim().is_empty(), "{name}: no fallback");
        for block in &shown.blocks {
            let kind = block["type"].as_str().unwrap();
            let at_most = |what: &str, value: &Value, most: usize| {
                let length = units(value.as_str().unwrap_or_default());
                assert!(length <= most, "{name}: {what} has {length}");
            };
            at_most("block_id", &block["block_id"], 255);
            match kind {
                "header" => at_most("header", &block["text"]["text"], 150),
                "section" => {
                    let fields = block["fields"].as_array().unwrap();
                    assert!((1..=10).contains(&fields.len()), "{name}");
                    fields.iter().for_each(|field| at_most("field", &field["text"], 2000));
                }
                "context" => assert!((1..=10).contains(&block["elements"].as_array().unwrap().len()), "{name}"),
                "actions" => {
                    let buttons = block["elements"].as_array().unwrap();
                    assert!((1..=25).contains(&buttons.len()), "{name}");
                    for button in buttons {
                        at_most("label", &button["text"]["text"], 75);
                        at_most("value", &button["value"], 2000);
                        at_most("confirm", &button["confirm"]["text"]["text"], 300);
                    }
                }
                _ => {}
            }
        }
        // Undecided cards keep their buttons however long the rest is.
        if name.ends_with("-approval") || name == "approval-medium" {
            assert!(json!(shown.blocks).to_string().contains("\"approve\""), "{name}");
        }
    }
}

#[test]
fn an_approval_button_carries_the_plan_and_its_digest_and_nothing_else() {
    for (name, card) in messages() {
        let told = serde_json::to_value(&card).unwrap();
        let blocks = told["blocks"].as_array().unwrap();
        for button in blocks.iter().flat_map(|block| block["buttons"].as_array().into_iter().flatten()) {
            if ["approve", "reject", "ask_more"].contains(&button["action"].as_str().unwrap()) {
                let value = button["value"].as_str().unwrap();
                let (plan, digest) = value.rsplit_once('.').unwrap();
                assert!(plan.starts_with("INC-214.P") && digest.len() == 12, "{name}: {value}");
            }
        }
    }
}
