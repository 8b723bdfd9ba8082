//! Rules tried from outside, and what leaves the store and comes back.

use std::sync::{Arc, Mutex};

use midwatch::domain::id::Digest;
use midwatch::store::{audit_link, event_link};
use midwatch::world::kubernetes::{Granted, KubeState, router};
use serde_json::Value;

use crate::harness::{Watch, alert, group, run, serve, text};

#[test]
fn policy_cases_of_the_user_are_tried_and_a_wrong_one_fails_with_the_rule_that_decided() {
    let folder = tempfile::tempdir().unwrap();
    let (cases, rules, config) =
        (folder.path().join("cases.toml"), folder.path().join("own.cedar"), folder.path().join("m.toml"));
    std::fs::write(
        &cases,
        "[[case]]\nname = \"shop by day\"\naction = \"restart\"\nnamespace = \"shop\"\nobject = \"web\"\n\
         at = \"2026-11-26T12:00:00Z\"\nexpect = \"one_person\"\n\
         [[case]]\nname = \"shop by night\"\naction = \"restart\"\nnamespace = \"shop\"\nobject = \"web\"\n\
         at = \"2026-11-26T02:00:00Z\"\nexpect = \"unattended\"\n\
         [[case]]\nname = \"payments\"\naction = \"roll_back\"\nnamespace = \"pay\"\nobject = \"ledger\"\n\
         expect = \"refused\"\nby = \"hands-off-payments\"\n",
    )
    .unwrap();
    std::fs::write(
        &rules,
        "@id(\"all\") permit (principal, action in Midwatch::Action::\"catalogue\", resource);\n\
         @id(\"by-day-with-people\") @because(\"people are awake\")\n\
         forbid (principal, action, resource) when { context.hour >= 8 && context.approvals < 1 };\n\
         @id(\"hands-off-payments\") forbid (principal, action, resource) when { resource.namespace == \"pay\" };\n",
    )
    .unwrap();
    let with = |low: &str| format!("[policy]\nlow = \"{low}\"\nfile = {rules:?}\n");
    std::fs::write(&config, with("automatic")).unwrap();
    let words = ["policy", "test", text(&cases), "--config", text(&config)];
    let good = run(words).expect(0);
    assert!(good.stdout.contains("3 cases, 0 failed"), "{}", good.stdout);
    assert!(good.stdout.contains("policy by-day-with-people: people are awake"), "{}", good.stdout);
    std::fs::write(&config, with("approve")).unwrap();
    let bad = run(words).expect(1);
    assert!(
        bad.stdout.contains("FAIL shop by night: one person (policy automatic-only-where-it-says-so"),
        "{}",
        bad.stdout
    );
    std::fs::write(&rules, "@id(\"a\") permit (principal, action, resource) when { context.teir == \"low\" };")
        .unwrap();
    let wrong = run(words).expect(2);
    assert!(wrong.stderr.contains("policy.file") && wrong.stderr.contains("do not fit the schema"), "{}", wrong.stderr);
}

/// An auditor's own arithmetic, over the exported file alone.
fn rebuild(export: &str) -> (usize, String) {
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let number = |value: &Value, name: &str| value[name].as_i64().unwrap();
    let mut head = Digest::genesis();
    for row in lines.iter().filter(|line| line["type"] == "audit") {
        assert_eq!(word(row, "prev"), head.as_str());
        head = audit_link(
            &head,
            number(row, "seq"),
            number(row, "at"),
            &word(row, "kind"),
            &word(row, "subject"),
            &word(row, "body"),
        );
        assert_eq!(word(row, "hash"), head.as_str());
    }
    assert_eq!(word(&lines[0], "hash"), head.as_str(), "the head is that of the last row");
    let (mut incident, mut previous, mut events) = (String::new(), Digest::genesis(), 0);
    for row in lines.iter().filter(|line| line["type"] == "event") {
        if word(row, "incident") != incident {
            (incident, previous) = (word(row, "incident"), Digest::genesis());
        }
        previous = event_link(
            &previous,
            &incident,
            number(row, "seq"),
            &word(row, "kind"),
            number(row, "at"),
            &word(row, "body"),
        );
        assert_eq!(word(row, "hash"), previous.as_str());
        events += 1;
    }
    for row in lines.iter().filter(|line| line["type"] == "evidence") {
        let evidence: Value = serde_json::from_str(&word(row, "body")).unwrap();
        assert_eq!(Digest::of(word(&evidence, "body").as_bytes()).as_str(), word(row, "digest"));
    }
    (events, incident)
}

#[tokio::test]
async fn an_auditor_rebuilds_it_from_the_export_and_a_backup_comes_back_whole() {
    let mut watch = Watch::start("").await;
    watch.post(group(&[alert("Down", "kept")])).await;
    let incident = watch.incident("kept").await;
    let data = watch.folder.path().join("data");
    let folder = tempfile::tempdir().unwrap();
    let (export, backup) = (folder.path().join("audit.jsonl"), folder.path().join("backup.db"));
    let config = folder.path().join("m.toml");
    std::fs::write(&config, format!("[store]\ndata_dir = {data:?}\n")).unwrap();
    // While the watch runs.
    run(["backup", text(&backup), "--config", text(&config)]).expect(0);
    let again = run(["backup", text(&backup), "--config", text(&config)]).expect(2);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    run(["audit", "export", text(&export), "--data-dir", text(&data)]).expect(0);
    let (events, id) = rebuild(&std::fs::read_to_string(&export).unwrap());
    assert!(events >= 2 && incident["id"] == id.as_str(), "{events} events of {id}");

    let refused = run(["restore", text(&backup), "--config", text(&config)]).expect(2);
    assert!(refused.stderr.contains("move all of them to another folder"), "{}", refused.stderr);
    watch.kill();
    // What a killed watch leaves beside its store would be played into the copy.
    let (store, alone) = (data.join("midwatch.db"), folder.path().join("alone.db"));
    std::fs::rename(&store, &alone).unwrap();
    let refused = run(["restore", text(&backup), "--config", text(&config)]).expect(2);
    assert!(refused.stderr.contains("midwatch.db-wal") && !store.exists(), "{}", refused.stderr);
    std::fs::rename(&alone, &store).unwrap();
    std::fs::rename(&data, folder.path().join("lost")).unwrap();
    let restored = run(["restore", text(&backup), "--config", text(&config)]).expect(0);
    assert!(restored.stdout.contains("of 1 incidents"), "{}", restored.stdout);
    watch.again().await;
    assert_eq!(watch.incident("kept").await["id"], id.as_str());
    // What was altered in the copy is not brought back.
    watch.kill();
    std::fs::rename(&data, folder.path().join("lost-too")).unwrap();
    let altered = folder.path().join("altered.db");
    std::fs::copy(&backup, &altered).unwrap();
    alter(&altered).await;
    let bad = run(["restore", text(&altered), "--config", text(&config)]).expect(2);
    assert!(bad.stderr.contains("was altered") && !data.join("midwatch.db").exists(), "{}", bad.stderr);
}

async fn alter(path: &std::path::Path) {
    use sqlx::Connection as _;
    let mut store = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("UPDATE audit SET subject = subject || 'x' WHERE seq = 1").execute(&mut store).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_held_beside_those_that_are_needed() {
    let mut state = KubeState::new(1);
    let grant = |group: &str, resource: &str, verb: &str| Granted {
        group: group.into(),
        resource: resource.into(),
        verb: verb.into(),
        namespace: String::new(),
    };
    state.grant("reader", vec![grant("", "pods", "list"), grant("", "secrets", "get")]);
    state.grant("writer", vec![grant("apps", "deployments", "get"), grant("apps", "deployments", "patch")]);
    let app = router(Arc::new(Mutex::new(state)), Arc::new(|| 0));
    let url = serve(app).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("m.toml");
    let words = format!(
        "[kubernetes]\nurl = \"{url}\"\ntoken = \"reader\"\nwrite_token = \"writer\"\n[policy]\nnamespaces = [\"shop\"]\n"
    );
    std::fs::write(&config, words).unwrap();
    let path = text(&config).to_owned();
    let checked =
        tokio::task::spawn_blocking(move || run(["check", "--kubernetes", "--config", &path])).await.unwrap().expect(1);
    for expected in [
        "FAIL  reader: lacks",
        "list nodes",
        "FAIL  reader: has too much: get secrets",
        "ok    restart: possible",
        "--    roll_back: not possible, lacks list replicasets.apps in shop",
        "--    cordon: not granted at all",
        "ok    executor: has none of",
    ] {
        assert!(checked.stdout.contains(expected), "{expected}\n{}", checked.stdout);
    }
}

/// Makes everything that was judged so many days older, and its incidents over.
async fn age(data: &std::path::Path, days: i64) {
    use sqlx::Connection as _;
    let mut store =
        sqlx::SqliteConnection::connect(&format!("sqlite://{}", data.join("midwatch.db").display())).await.unwrap();
    let by = days * 86_400_000;
    for sql in ["UPDATE alert SET judged_at=judged_at-$1", "UPDATE inbox SET done_at=done_at-$1"] {
        sqlx::query(sql).bind(by).execute(&mut store).await.unwrap();
    }
    sqlx::query("UPDATE incident SET is_over=TRUE").execute(&mut store).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_replay_reads_what_retention_has_written_as_it_is() {
    let mut watch = Watch::start("").await;
    let services = ["checkout", "payments", "search"];
    let alerts: Vec<Value> = services.iter().map(|service| alert("Down", service)).collect();
    // Each twice: the second is a repeat, which leaves no row of its own in the ledger.
    for _ in 0..2 {
        assert_eq!(watch.post(group(&alerts)).await.0, 202);
    }
    watch.incident("search").await;
    watch.eventually("judgement", async || (watch.metric("midwatch_inbox_open").await == 0.0).then_some(())).await;
    watch.kill();
    let data = watch.folder.path().join("data");
    age(&data, 20).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (now, wanted, plain) = (path("now.toml"), path("wanted.toml"), path("alerts.jsonl"));
    std::fs::write(&now, format!("[store]\ndata_dir = {data:?}\n")).unwrap();
    let window = "[[intent.window]]\nname = \"w\"\nmatchers = ['service=\"payments\"']\nkind = \"change\"\n\
                  schedule = { once = { start = \"2020-01-01T00:00:00Z\", end = \"2199-01-01T00:00:00Z\" } }\n";
    std::fs::write(&wanted, window).unwrap();
    std::fs::write(&plain, alerts.iter().chain(&alerts).map(|alert| format!("{alert}\n")).collect::<String>()).unwrap();
    let said = run(["retire", "--config", text(&now)]).expect(0).stdout;
    assert!(said.contains("2 payloads removed"), "{said}");
    let again = run(["retire", "--config", text(&now)]).expect(0).stdout;
    assert!(again.contains("0 payloads removed"), "{again}");

    let replay = |from: &std::path::Path| {
        let words = ["replay", "--from", text(from), "--config", text(&now), "--config", text(&wanted), "--json"];
        run(words).expect(0).report()
    };
    let (cold, expected) = (data.join("cold"), replay(&plain));
    assert_eq!(expected["alerts"], 6);
    assert_eq!(expected["a"]["suppressed"]["duplicate"], 3, "{expected:#}");
    assert_eq!(replay(&cold), expected, "a folder is read as what came in");
    let file = |beginning: &str| {
        let mut files = std::fs::read_dir(&cold).unwrap().map(|file| file.unwrap().path());
        files.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(beginning)).unwrap()
    };
    assert_eq!(replay(&file("payloads-")), expected);
    // The ledger has each alert once.
    let ledger = replay(&file("alerts-"));
    assert_eq!((&ledger["alerts"], &ledger["a"]["incidents"]), (&serde_json::json!(3), &expected["a"]["incidents"]));
    // A file that a crash cut short is read as far as it goes; what is no cold file is named.
    let whole = std::fs::read(file("payloads-")).unwrap();
    let cut = path("cut.zst");
    std::fs::write(&cut, &whole[..whole.len() - 3]).unwrap();
    let words = ["replay", "--from", text(&cut), "--config", text(&now), "--config", text(&wanted), "--json"];
    let halved = run(words).expect(0);
    assert!(halved.stderr.contains("cut.zst ends in the middle"), "{}", halved.stderr);
    assert_eq!(halved.report(), expected);
    // Written before a crash, not removed, and so written once more by the next retention.
    let twice = cold.join("payloads-21990101T000000Z.jsonl.zst");
    std::fs::copy(file("payloads-"), &twice).unwrap();
    assert_eq!(replay(&cold), expected, "what stands in two files came in once");
    std::fs::write(&cut, zstd::bulk::compress(b"{\"other\": 1}\n", 1).unwrap()).unwrap();
    let words = ["replay", "--from", text(&cut), "--config", text(&now), "--config", text(&wanted)];
    let refused = run(words).expect(2);
    assert!(refused.stderr.contains("line 1: this is no line of a cold file"), "{}", refused.stderr);
}
