//! Whole nights through `midwatch demo`, judged by the estate's own truth.

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::harness::{night, one_night_at_a_time, run, text};

/// The incident of the night: the one with the most alerts.
pub fn main_incident(report: &Value) -> &Value {
    let incidents = report["incidents"].as_array().unwrap();
    incidents.iter().max_by_key(|incident| incident["alerts"].as_u64()).unwrap_or_else(|| panic!("{report:#}"))
}

/// What the README promises of the night with seed 1, whatever the parts underneath.
pub fn is_the_night_of_the_readme(report: &Value) {
    let main = main_incident(report);
    assert_eq!(report["alerts_received"], 847, "{report:#}");
    let resolved = report["incidents"].as_array().unwrap().iter().filter(|one| one["state"] == "resolved").count();
    assert_eq!((resolved, &main["state"]), (1, &json!("resolved")), "{report:#}");
    assert_eq!(main["root_cause"]["service"], "session", "{report:#}");
    assert_eq!(main["root_cause"]["change"], "session revision 3", "{report:#}");
    for key in ["service", "change"] {
        assert_eq!(main["root_cause"][key], report["truth"][key], "{report:#}");
    }
    let action = &main["actions"][0];
    assert_eq!((&action["action"], &action["tier"]), (&json!("roll_back"), &json!("medium")), "{report:#}");
    assert_eq!((&action["outcome"], &action["verified"]), (&json!("verified"), &json!(true)), "{report:#}");
    assert_eq!(action["approved_by"], json!(["local/you"]), "{report:#}");
    assert_eq!(report["wrote_elsewhere"], json!([]), "{report:#}");
    assert_eq!((&report["cured"], &report["correct"]), (&json!(true), &json!(true)), "{report:#}");
}

fn is_left_alone(report: &Value) {
    assert_eq!(report["writes"], json!([]), "{report:#}");
    let main = main_incident(report);
    assert_eq!(main["state"], "handed_over", "{report:#}");
    assert!(main["handed_over"].as_str().is_some_and(|why| !why.is_empty()), "{report:#}");
}

/// Changes one letter of one audit body, as someone with the file in hand could.
async fn tamper(database: &str) -> i64 {
    let mut store = SqliteConnection::connect(&format!("sqlite://{database}")).await.unwrap();
    let (seq, body): (i64, String) =
        sqlx::query_as("SELECT seq, body FROM audit WHERE length(body) > 4 LIMIT 1 OFFSET 2")
            .fetch_one(&mut store)
            .await
            .unwrap();
    let at = body.find(|letter: char| letter.is_ascii_alphabetic()).unwrap();
    let other = if body.as_bytes()[at] == b'x' { "y" } else { "x" };
    let mut altered = body;
    altered.replace_range(at..=at, other);
    sqlx::query("UPDATE audit SET body = $1 WHERE seq = $2").bind(altered).bind(seq).execute(&mut store).await.unwrap();
    store.close().await.unwrap();
    seq
}

/// Each claim of the first incident's diagnosis with the first line that is named as its place.
async fn places_of_claims(database: &str) -> Vec<(String, String)> {
    let mut store = SqliteConnection::connect(&format!("sqlite://{database}")).await.unwrap();
    let body: String =
        sqlx::query_scalar("SELECT body FROM incident ORDER BY number LIMIT 1").fetch_one(&mut store).await.unwrap();
    let incident: Value = serde_json::from_str(&body).unwrap();
    let diagnosis = &incident["diagnosis"];
    let mut places = vec![];
    for proof in diagnosis["proofs"].as_array().unwrap() {
        let claim = &diagnosis["claims"][proof["claim"].as_u64().unwrap() as usize]["text"];
        let evidence: String = sqlx::query_scalar("SELECT body FROM evidence WHERE id = $1")
            .bind(proof["evidence"].as_str().unwrap())
            .fetch_one(&mut store)
            .await
            .unwrap();
        let evidence: Value = serde_json::from_str(&evidence).unwrap();
        let line = evidence["body"].as_str().unwrap().lines().nth(proof["from_line"].as_u64().unwrap() as usize - 1);
        places.push((claim.as_str().unwrap().to_owned(), line.unwrap().to_owned()));
    }
    store.close().await.unwrap();
    places
}

#[test]
fn a_night_is_cured_remembered_and_audited() {
    let _alone = one_night_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("state");
    let words = ["--approve", "--seed", "1", "--data-dir", text(&data)];

    let first = night(&words).expect(0).report();
    is_the_night_of_the_readme(&first);
    assert_eq!(first["model"], "none");
    let spoke = first["timings_ms"]["first_message"].as_u64().expect("a message was posted");
    assert!(spoke < 2_000, "the first message took {spoke} ms: {first:#}");
    assert_eq!(first["recalled_incidents"], json!([]), "nothing to remember yet: {first:#}");

    let second = night(&words).expect(0).report();
    let recalled = second["recalled_incidents"].as_array().unwrap();
    assert!(recalled.contains(&main_incident(&first)["id"]), "{second:#}");

    let verify = ["audit", "verify", "--data-dir", text(&data)];
    let good = run(verify).expect(0);
    assert!(good.stdout.starts_with("audit ok: "), "{}", good.stdout);

    let database = data.join("midwatch.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let places = runtime.block_on(places_of_claims(text(&database)));
    assert!(places.len() >= 2, "claims of the diagnosis name lines of their evidence: {places:?}");
    for (claim, line) in &places {
        assert!(claim.split(' ').any(|word| word.len() >= 4 && line.contains(word)), "{claim:?} is not in {line:?}");
    }
    let seq = runtime.block_on(tamper(text(&database)));
    let bad = run(verify).expect(1);
    assert!(bad.stdout.starts_with(&format!("audit BROKEN: audit row {seq} was altered")), "{}", bad.stdout);
}

#[test]
fn a_denied_plan_changes_nothing() {
    let _alone = one_night_at_a_time();
    let report = night(&["--deny", "--seed", "1"]).expect(3).report();
    is_left_alone(&report);
    let action = &main_incident(&report)["actions"][0];
    assert_eq!((&action["outcome"], &action["verified"]), (&json!("rejected"), &json!(false)), "{report:#}");
    assert_eq!(report["cured"], false, "{report:#}");
}

#[test]
fn a_night_without_a_change_is_handed_to_people() {
    let _alone = one_night_at_a_time();
    let report = night(&["--approve", "--seed", "4"]).expect(3).report();
    is_left_alone(&report);
    assert_eq!(report["truth"]["change"], Value::Null, "seed 4 draws another night now: {report:#}");
    assert_eq!(main_incident(&report)["root_cause"]["change"], Value::Null, "{report:#}");
}

#[test]
fn audit_of_nothing_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(["audit", "verify", "--data-dir", text(folder.path())]).expect(2);
    assert!(ended.stderr.contains("midwatch.db does not exist"), "{}", ended.stderr);
}
