//! `midwatch eval retrieval` through the built program.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const DOCS: [(&str, &str); 5] = [
    (
        "queue/lag.md",
        "---\ntitle: Consumer lag\ntags: [kafka]\n---\n\n## Confirm\n\nThe offset of the consumer group stands behind the end of the partition.\n",
    ),
    ("disk.md", "# Filesystem is full\n\n## Fix\n\nFind the directory that grew and rotate the logs.\n"),
    ("crash.md", "# Container in CrashLoopBackOff\n\nLook at the exit code and at the previous logs.\n"),
    ("cert.md", "# Certificate expired\n\nRenew it and reload the proxy.\n"),
    ("dns.md", "# CoreDNS answers SERVFAIL\n\nCheck the upstream resolver.\n"),
];

const QUESTIONS: &str = r#"{"id": "q1", "text": "pods keep dying", "relevant": ["crash.md"]}

{"id": "q2", "text": "kafka consumers cannot keep up", "relevant": ["./queue/lag.md"]}
{"text": "no space left on device", "relevant": ["disk.md", "cert.md"]}
"#;

fn write(dir: &Path, questions: &str) {
    for (name, text) in DOCS {
        let path = dir.join("docs").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::write(dir.join("questions.jsonl"), questions).unwrap();
}

fn eval(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_midwatch"))
        .args(["eval", "retrieval", "--docs", "docs", "--queries", "questions.jsonl"])
        .args(more)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn refused(questions: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), questions);
    let output = eval(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn questions_in_peoples_words_are_measured_beside_plain_bm25() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), QUESTIONS);
    let output = eval(dir.path(), &["--json", "--explain"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in ["r1", "r5", "mrr"] {
        assert_eq!(report[field], 1.0, "{report:#}");
    }
    // "pods keep dying" shares no word with the document that answers it.
    assert!(report["bm25_r1"].as_f64().unwrap() < 0.67, "{report:#}");
    for field in ["p50_ms", "p99_ms", "index_s"] {
        assert!(report[field].as_f64().unwrap() > 0.0, "{report:#}");
    }
    assert_eq!((&report["asked"], &report["documents"]), (&3.into(), &5.into()));
    let first = &report["queries"][0];
    assert_eq!((&first["id"], &first["place"], &first["bm25_place"]), (&"q1".into(), &1.into(), &Value::Null));
    assert!(first["why"].as_str().unwrap().contains("speaks of crash"), "{first:#}");
    assert_eq!(report["queries"][2]["id"], "4", "a question without an id has its line");

    let output = eval(dir.path(), &["--json"]);
    let flat: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(flat.as_object().unwrap().values().all(|value| !value.is_array()), "{flat:#}");
}

#[test]
fn a_bad_file_names_itself_the_line_and_the_reason() {
    let said = refused("{\"text\": \"a\", \"relevant\": [\"disk.md\"]}\n{\"text\": \"b\"}\n");
    assert!(said.contains("questions.jsonl: line 2: missing field `relevant`"), "{said}");
    let said = refused("{\"text\": \"a\", \"relevant\": [\"disc.md\"]}\n");
    assert!(said.contains("questions.jsonl: line 1: relevant: disc.md is not a document in docs"), "{said}");
    let said = refused("\n{\"text\": \" \", \"relevant\": [\"disk.md\"]}\n");
    assert!(said.contains("line 2: `text` is empty"), "{said}");
    assert!(refused("").contains("questions.jsonl: no questions"));
}

#[test]
fn fastembed_without_its_files_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), QUESTIONS);
    let output = eval(dir.path(), &["--embedder", "fastembed"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("--onnx-runtime"));
}
