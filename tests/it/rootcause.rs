//! `eval rootcause` on small cases made here, through the built program.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Ended, run};

/// Ten minutes as usual, then five in which `store` is slow and hot and `shop` suffers from it.
fn write_case(folder: &Path, rfc3339: bool) {
    std::fs::create_dir_all(folder).unwrap();
    let instant = |second: i64| match rfc3339 {
        true => json!(format!("2026-03-01T02:{:02}:{:02}Z", second / 60, second % 60)),
        false => json!(1_772_330_400 + second),
    };
    let case = json!({
        "id": folder.file_name().unwrap().to_str().unwrap(),
        "symptom": {"service": "shop", "metric": "latency_p95"},
        "baseline": {"start": instant(0), "end": instant(599)},
        "window": {"start": instant(600), "end": instant(900)},
        "truth": {"service": "store"},
    });
    std::fs::write(folder.join("case.json"), case.to_string()).unwrap();
    let mut rows = String::from("timestamp,service,metric,value\n");
    for step in 0..30 {
        let ill = step >= 20;
        let at = instant(step * 30);
        let at = at.as_str().map_or_else(|| at.to_string(), str::to_owned);
        let wiggle = (step % 3) as f64 / 100.0;
        for (service, metric, usual, worse) in [
            ("shop", "latency_p95", 0.3, 0.9),
            ("cart", "latency_p95", 0.1, 0.1),
            ("store", "latency_p95", 0.1, 0.7),
            ("shop", "cpu", 20.0, 20.0),
            ("cart", "cpu", 10.0, 10.0),
            ("store", "cpu", 15.0, 95.0),
        ] {
            let value = (1.0 + wiggle) * if ill { worse } else { usual };
            rows.push_str(&format!("{at},{service},{metric},{value}\n"));
        }
        rows.push_str(&format!("{at},cart,memory,NaN\n{at},cart,disk,\n"));
    }
    std::fs::write(folder.join("metrics.csv"), rows).unwrap();
    let chart = json!({
        "nodes": ["shop", "cart", "store"],
        "edges": [{"from": "shop", "to": "cart"}, {"from": "shop", "to": "store"}],
    });
    std::fs::write(folder.join("topology.json"), chart.to_string()).unwrap();
}

fn eval(folder: &Path, more: &[&str]) -> Ended {
    let mut words = vec!["eval", "rootcause", "--cases", folder.to_str().unwrap()];
    words.extend(more);
    run(words)
}

#[test]
fn a_cause_is_found_with_and_without_a_topology_and_the_ranking_says_why() {
    let folder = tempfile::tempdir().unwrap();
    write_case(&folder.path().join("epoch"), false);
    write_case(&folder.path().join("written"), true);
    write_case(&folder.path().join("alone"), false);
    std::fs::remove_file(folder.path().join("alone/topology.json")).unwrap();
    let changes = json!([{"id": "store revision 9", "service": "store", "timestamp": 1_772_330_990, "kind": "image"}]);
    std::fs::write(folder.path().join("epoch/changes.json"), changes.to_string()).unwrap();

    let report: Value = eval(folder.path(), &["--json"]).expect(0).report();
    assert_eq!((&report["top1"], &report["top3"], &report["empty"]), (&json!(1.0), &json!(1.0), &json!(0.0)));
    assert_eq!(report["baselines"]["constant"]["top1"], 1.0);
    assert!(report["ms_per_case"].as_f64().unwrap() > 0.0);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(
        cases.iter().map(|case| case["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["alone", "epoch", "written"]
    );
    for case in cases {
        let first = &case["ranking"][0];
        assert_eq!(first["service"], "store", "{case}");
        assert!(first["supports"].to_string().contains("store cpu is"), "{first}");
        let confidence = case["confidence"].as_f64().unwrap();
        assert!((0.35..=1.0).contains(&confidence), "{confidence}");
    }
    assert_eq!(cases[1]["ranking"][0]["change"], "store revision 9");
    assert_eq!(cases[2]["ranking"][0]["change"], Value::Null);

    let table = eval(folder.path(), &[]).expect(0).stdout;
    for word in ["largest deviation", "deepest anomalous", "constant answer", "confidence", "ms a case"] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn a_bad_file_names_itself_the_line_and_the_reason() {
    let check = |file: &str, text: &str, expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let case = folder.path().join("one");
        write_case(&case, false);
        std::fs::write(case.join(file), text).unwrap();
        let ended = eval(folder.path(), &[]).expect(2);
        assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
    };
    check(
        "metrics.csv",
        "timestamp,service,metric,value\n1772330400,shop,cpu,1\n1772330430,shop,cpu,much\n",
        "metrics.csv: line 3: value `much` is not a number",
    );
    check(
        "metrics.csv",
        "timestamp,service,metric,value\nyesterday,shop,cpu,1\n",
        "metrics.csv: line 2: timestamp `yesterday` is neither RFC 3339 nor epoch seconds",
    );
    check("metrics.csv", "timestamp,metric,value\n", "metrics.csv: line 1: no column `service`");
    check("metrics.csv", "timestamp,service,metric,value\n1,shop,cpu\n", "metrics.csv: line 2");
    check("case.json", "{\n\"id\": 1,\n}", "case.json: line 3");
    check("case.json", "{\"id\": \"one\"}", "case.json: line 1: missing field `symptom`");
    check("topology.json", "{", "topology.json");
    check("changes.json", "[{\"service\": \"store\"}]", "changes.json: change 1: no `timestamp`");
    let empty = tempfile::tempdir().unwrap();
    let ended = eval(empty.path(), &[]).expect(2);
    assert!(ended.stderr.contains("no folder with a case.json"), "{}", ended.stderr);
}
