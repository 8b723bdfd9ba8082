//! What must be true of a history, whatever happened on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use midwatch::world::kubernetes::KubeState;

use super::chat::Chat;
use super::run::{SERVICE, Scenario, column, stored};
use crate::harness::{run, text};

pub async fn check(
    violations: &mut Vec<String>,
    scenario: Scenario,
    was_killed: bool,
    cluster: &Arc<Mutex<KubeState>>,
    chat: &Chat,
    data: &Path,
) {
    let mut broken = |what: String| violations.push(what);
    // P1, P2: what was acknowledged is there, once.
    let incidents = stored(data).await;
    if incidents.len() != 1 {
        broken(format!("{} incidents of one alert", incidents.len()));
    }
    let Some(incident) = incidents.first() else { return };
    let fired: usize = incident["alerts"]
        .as_object()
        .map_or(0, |groups| groups.values().filter_map(|group| group["count"].as_u64()).sum::<u64>() as usize);
    if fired != 1 || !incident["title"].to_string().contains(SERVICE) {
        broken(format!("the alert counts {fired} times: {}", incident["title"]));
    }
    if !column(data, "SELECT source FROM inbox WHERE done_at IS NULL").await.is_empty() {
        broken("something in the inbox was never judged".into());
    }

    // P5, P6: at most one write for the action and one for its undo, none without an approval.
    let writes: Vec<_> = cluster.lock().unwrap().writes().into_iter().filter(|write| write.status < 300).collect();
    let scaled =
        |to: i64| writes.iter().filter(|write| write.body.pointer("/spec/replicas") == Some(&to.into())).count();
    let restarted = writes.iter().filter(|write| write.body.to_string().contains("restartedAt")).count();
    let plans = incident["plans"].as_array().cloned().unwrap_or_default();
    let outcome = plans.last().and_then(|plan| plan["outcome"]["outcome"].as_str()).unwrap_or("none").to_owned();
    let counts = (scaled(4), scaled(2), restarted, writes.len());
    let allowed = match scenario {
        // Verified too late it is taken back, once; that it ended so is said below.
        Scenario::Helps => {
            counts.0 <= 1 && counts.1 <= usize::from(outcome == "undone") && counts.3 == counts.0 + counts.1
        }
        Scenario::DoesNotHelp => counts.0 <= 1 && counts.1 <= counts.0 && counts.3 == counts.0 + counts.1,
        Scenario::Restarts => counts.2 <= 1 && counts.3 == counts.2,
        Scenario::Rejected | Scenario::Expires | Scenario::Paused => counts.3 == 0,
    };
    if !allowed {
        broken(format!("writes {counts:?} with the outcome {outcome}"));
    }
    let told = match outcome.as_str() {
        "verified" => counts.3 == 1,
        "undone" => counts.0 == 1 && counts.1 == 1,
        "failed" => counts.3 == 0,
        _ => counts.3 == 0,
    };
    if !told {
        broken(format!("the log says {outcome}, the cluster saw {counts:?}"));
    }
    // P7: it comes to an end that fits.
    let state = incident["state"]["state"].as_str().unwrap_or_default();
    let expected: &[&str] = match scenario {
        Scenario::Helps | Scenario::Restarts => &["verified"],
        Scenario::DoesNotHelp => &["undone"],
        Scenario::Rejected => &["rejected"],
        Scenario::Expires => &["expired"],
        Scenario::Paused => &["voided"],
    };
    // A kill between claim and write leaves a plan that is certainly not written and not repeated.
    let given_up = was_killed && outcome == "failed";
    if !(expected.contains(&outcome.as_str()) || given_up) || !["resolved", "handed_over"].contains(&state) {
        broken(format!("{scenario:?} ended as {outcome}, {state}"));
    }
    let executions = column(data, "SELECT plan FROM execution").await;
    if executions.len() > 2 {
        broken(format!("executions {executions:?}"));
    }

    // P4: one message for each thing, and none that still asks for what is decided.
    let messages = chat.lock().unwrap().messages.clone();
    let mut by_key: BTreeMap<&str, usize> = BTreeMap::new();
    for message in messages.iter().filter(|message| !message.key.is_empty()) {
        *by_key.entry(message.key.as_str()).or_insert(0) += 1;
    }
    for (key, count) in by_key.iter().filter(|(_, count)| **count > 1) {
        broken(format!("{count} messages for {key}"));
    }
    for message in messages.iter().filter(|message| message.key.contains("/plan/")) {
        if message.content["blocks"].to_string().contains("\"approve") {
            broken(format!("the card {} still asks", message.key));
        }
    }
    if !by_key.keys().any(|key| key.ends_with("/root@slack")) {
        broken(format!("no root message: {by_key:?}"));
    }

    // P10: the chain is whole.
    let verified = run(["audit", "verify", "--data-dir", text(data)]);
    if !verified.stdout.starts_with("audit ok") {
        broken(format!("{} {}", verified.stdout, verified.stderr));
    }
}
