//! `midwatch eval agent` from outside: scenarios through the whole product.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Ended, midwatch, one_night_at_a_time, run_within};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("evals/scenarios").join(name)
}

fn eval(folder: &Path) -> Ended {
    let mut command = midwatch();
    command.args(["eval", "agent", "--reasoner", "none", "--json", "--scenarios"]).arg(folder);
    run_within(command, Duration::from_secs(120))
}

#[track_caller]
fn lives(name: &str) -> Value {
    let _night = one_night_at_a_time();
    let report = eval(&folder(name)).expect(0).report();
    assert_eq!(report["scenarios"], 1, "{report:#}");
    report["cases"][0]["runs"][0].clone()
}

#[test]
fn a_bad_release_is_found_beside_an_innocent_one() {
    let run = lives("exceptions-after-release");
    assert_eq!((&run["passed"], &run["action_right"]), (&Value::Bool(true), &Value::Bool(true)), "{run:#}");
    assert_eq!(run["forbidden"], serde_json::json!([]));
}

#[test]
fn a_lost_host_is_one_incident_and_no_release_is_taken_back_for_it() {
    let run = lives("host-gone-after-releases");
    assert_eq!((&run["passed"], &run["forbidden"]), (&Value::Bool(true), &serde_json::json!([])), "{run:#}");
    assert_eq!(run["said"].as_array().map(Vec::len), Some(1), "{run:#}");
}

#[test]
fn where_nothing_is_wrong_nothing_is_done() {
    let run = lives("nothing-is-wrong");
    assert_eq!((&run["passed"], &run["unneeded"]), (&Value::Bool(true), &serde_json::json!([])), "{run:#}");
}

#[test]
fn what_no_tool_shows_is_not_known() {
    let run = lives("seen-from-outside");
    assert_eq!(run["passed"], true, "{run:#}");
    assert!(run["said"][0].as_str().is_some_and(|said| said.contains("not known")), "{run:#}");
}

/// The same world, asked for something else: the score must follow the product, not the folder.
#[test]
fn a_wrong_expectation_fails() {
    let _night = one_night_at_a_time();
    let copy = tempfile::tempdir().unwrap();
    let one = copy.path().join("copied");
    std::fs::create_dir(&one).unwrap();
    std::fs::copy(folder("certificate-over").join("world.yaml"), one.join("world.yaml")).unwrap();
    let other = "title: x\nheld_out: true\nexpect:\n  causes: [{service: orders, kind: disk_full}]\n";
    std::fs::write(one.join("scenario.yaml"), other).unwrap();
    let report = eval(copy.path()).expect(0).report();
    assert_eq!((&report["pass_rate"], &report["held_out"]["scenarios"]), (&Value::from(0.0), &Value::from(1)));
    let wrong = report["cases"][0]["runs"][0]["wrong"].to_string();
    assert!(wrong.contains("not found: disk_full on orders") && wrong.contains("wrongly blamed: payments"), "{wrong}");
}

#[test]
fn a_bad_scenario_names_file_and_line() {
    let copy = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(copy.path().join(name), text).unwrap();
    write("scenario.yaml", "title: x\nheld_out: true\nexpect:\n  causes: [{service: a, kind: gremlins}]\n");
    write("world.yaml", "services:\n  a: {role: gateway}\n");
    let ended = eval(copy.path()).expect(2);
    assert!(ended.stderr.contains("scenario.yaml: line 3: expect.causes: no kind `gremlins`"), "{}", ended.stderr);
    write("scenario.yaml", "title: x\nheld_out: true\nexpect: {answer: nothing}\n");
    write("world.yaml", "services:\n  a: {role: gateway}\nfaults:\n  - {kind: bad_image, service: b}\n");
    let ended = eval(copy.path()).expect(2);
    assert!(ended.stderr.contains("world.yaml: line 4: faults[0]: there is no service `b`"), "{}", ended.stderr);
}
