use std::fs;
use std::path::PathBuf;

use super::{Groups, normalised, run};

fn check(truth: &[&str], found: &[u32], expected: Groups) {
    assert_eq!(Groups::of(truth, found), expected);
}

#[test]
fn a_group_counts_only_if_all_its_lines_are_right() {
    // a = {0, 1}, b = {2, 3, 4}, c = {5}; b is split: 3 of 6 lines, 2 of 3 and of 4 groups.
    let split = Groups { truth: 3, found: 4, right: 2, lines_right: 3 };
    assert!((split.f1() - 4.0 / 7.0).abs() < 1e-12);
    check(&["a", "a", "b", "b", "b", "c"], &[1, 1, 2, 2, 3, 4], split);
    // b and c are one: a alone is right.
    check(
        &["a", "a", "b", "b", "b", "c"],
        &[1, 1, 2, 2, 2, 2],
        Groups { truth: 3, found: 2, right: 1, lines_right: 2 },
    );
    // One line strays from a to c: both are wrong, b is right.
    check(
        &["a", "a", "b", "b", "b", "c"],
        &[1, 4, 2, 2, 2, 4],
        Groups { truth: 3, found: 3, right: 1, lines_right: 3 },
    );
    check(&["a", "b"], &[7, 3], Groups { truth: 2, found: 2, right: 2, lines_right: 2 });
}

#[test]
fn labels_may_cut_one_value_in_several() {
    assert_eq!(normalised("from <*>:<*> to  <*>"), "from <*> to <*>");
    assert_eq!(normalised("sizes <*>, <*> <*>."), "sizes <*>");
    assert_eq!(normalised("<*> of <*>"), "<*> of <*>");
    assert_eq!(normalised("a b"), "a b");
    assert_ne!(normalised("a=<*>"), normalised("a <*>"));
}

/// A folder of its own under the folder for temporary files.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("eval-logs-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in files {
        fs::write(folder.join(file), text).unwrap();
    }
    folder
}

#[test]
fn a_labelled_file_is_scored() {
    let text = "LineId,Level,Content,EventId,EventTemplate\n\
                1,I,job 17 is done,E1,job <*> is done\n\
                2,I,job 18 is done,E1,job <*> is done\n\
                3,W,\"disk full, 2 left\",E2,\"disk full, <*> left\"\n\
                4,W,bye now,E3,other words\n";
    let data = folder("scored", &[("a_structured.csv", text), ("notes.txt", "not read")]);
    let report = run(&data).unwrap();
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(report.files.len(), 1);
    let file = &report.files[0];
    assert_eq!((file.name.as_str(), file.lines, file.templates, file.found), ("a", 4, 3, 3));
    assert_eq!((file.scores.ga, file.scores.fga, file.scores.pa), (1.0, 1.0, 0.75));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["files"][0]["name"], "a");
    assert_eq!(json["mean"]["ga"], 1.0);
    assert!(json["mean"]["lines_per_s"].as_f64().unwrap() > 0.0);
    assert!(report.to_string().lines().count() == 3);
}

#[test]
fn what_cannot_be_read_is_named() {
    let refused = |name: &str, file: &str, text: &str, expected: &str| {
        let data = folder(name, &[(file, text)]);
        let error = run(&data).unwrap_err().to_string();
        fs::remove_dir_all(&data).unwrap();
        assert!(error.ends_with(expected), "{error}");
    };
    refused(
        "column",
        "b_structured.csv",
        "LineId,Content,EventId\n1,x,E1\n",
        "b_structured.csv: line 1: no column EventTemplate",
    );
    refused(
        "event",
        "b_structured.csv",
        "LineId,Content,EventId,EventTemplate\n1,x,E1,x\n2,x,,x\n",
        "b_structured.csv: line 3: EventId is empty",
    );
    refused("empty", "b_structured.csv", "LineId,Content,EventId,EventTemplate\n", "b_structured.csv: no lines");
    refused("none", "b.csv", "", "no *_structured.csv in this folder");
    let data = folder("short", &[("b_structured.csv", "LineId,Content,EventId,EventTemplate\n1,x,E1,x\n2,x\n")]);
    let error = run(&data).unwrap_err();
    fs::remove_dir_all(&data).unwrap();
    assert_eq!(error.line, Some(3), "{error}");
}
