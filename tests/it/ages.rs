//! Stores of every age, opened by today's program: what was in them is there and readable, the chain is
//! whole, and the work goes on.
//!
//! The documents are written as the first program that worked wrote them (the commit "Wire the watch and
//! run a simulated night from the command line"); each later migration adds the rows of its tables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use midwatch::domain::change::announced::read;
use midwatch::domain::id::Digest;
use midwatch::domain::time::Timestamp;
use midwatch::store::{audit_link, event_link, pack};
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::harness::{Running, alert, free_address, group, midwatch, real, run, text};
use crate::real::fresh_database;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    fn migrations(self) -> PathBuf {
        let name = if self == Self::Sqlite { "sqlite" } else { "postgres" };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations").join(name)
    }

    fn bytes(self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if self == Self::Sqlite { format!("x'{hex}'") } else { format!("'\\x{hex}'::bytea") }
    }
}

/// Files of the migrations, oldest first.
fn files(dialect: Dialect) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dialect.migrations()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn number(file: &Path) -> u32 {
    file.file_name().unwrap().to_str().unwrap()[..4].parse().unwrap()
}

/// Every prefix, and what stood on branches that were merged later: announced changes without endings,
/// endings without announced changes.
fn ages(dialect: Dialect) -> Vec<Vec<PathBuf>> {
    let all = files(dialect);
    let mut ages: Vec<Vec<PathBuf>> = (1..=all.len()).map(|count| all[..count].to_vec()).collect();
    let branch =
        |skipped: u32| all.iter().filter(|file| number(file) <= 6 && number(file) != skipped).cloned().collect();
    ages.push(branch(5));
    ages
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn wall() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn at(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis).unwrap().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The waiting plan as its button names it.
const CARD: &str = "INC-2.P1.0a1b2c3d4e5f";
const EVIDENCE: &str = "Down about pay is critical";

/// Incidents with their events, as then.
fn incidents(now: i64) -> Vec<(Value, Vec<Value>)> {
    let joined = |name: &str| {
        json!({"fingerprint": "00000000000000aa", "name": "Down", "subject": name, "severity": "critical",
               "starts_at": at(now - 60_000), "because": "critical", "again": false})
    };
    let opened = |name: &str| {
        json!({"event": "opened", "cluster": "default", "team": "default", "title": format!("{name}: Down"),
               "severity": "SEV2", "because": "it is critical", "event_at": at(now - 60_000)})
    };
    let incident = |id: &str, name: &str, state: Value, resolved: usize| {
        json!({
            "id": id, "cluster": "default", "team": "default", "title": format!("{name}: Down"), "severity": "SEV2",
            "severity_because": "it is critical", "state": state, "since": at(now - 60_000),
            "opened_at": at(now - 50_000), "updated_at": at(now - 40_000),
            "alerts": {format!("Down {name}"): {"name": "Down", "subject": name, "severity": "critical", "count": 1,
                       "resolved": resolved, "first_at": at(now - 60_000), "last_at": at(now - 60_000)}},
            "evidence": [], "candidates": [], "recalled": [], "runbooks": [], "diagnosis": null, "plans": [],
            "owner": null, "helpful": {}, "post_mortem": null, "resolved_at": null, "reasoner": "none",
        })
    };
    let mut over = incident("INC-1", "cart", json!({"state": "resolved", "because": "all alerts have ended"}), 1);
    over["post_mortem"] = json!("# What happened\ncart was down");
    over["resolved_at"] = json!(at(now - 45_000));
    let past = vec![
        opened("cart"),
        json!({"event": "alerts_joined", "alerts": [joined("cart")]}),
        json!({"event": "alerts_resolved", "event_at": at(now - 45_000),
               "alerts": [{"fingerprint": "00000000000000aa", "name": "Down", "subject": "cart"}]}),
        json!({"event": "resolved", "because": "all alerts have ended", "event_at": at(now - 45_000)}),
        json!({"event": "post_mortem_written", "document": "# What happened\ncart was down",
               "digest": Digest::of(b"# What happened\ncart was down").as_str()}),
    ];
    let claim = json!({"text": "pay waits for connections", "evidence": ["INC-2.E1"]});
    let diagnosis = json!({
        "service": "pay", "change": null, "mechanism": "too many connections", "verdict": "LIKELY", "confidence": 0.7,
        "claims": [claim], "ruled_out": [], "remedy": {"remedy": "restart", "service": "pay"}, "reasoner": "none",
    });
    let target =
        json!({"cluster": "default", "namespace": "shop", "kind": "Deployment", "name": "pay", "uid": "uid-1"});
    let plan = json!({
        "id": "INC-2.P1", "action": {"action": "restart", "target": target}, "tier": "low",
        "because": "pay holds on to connections",
        "blast": {"pods": 2, "dependents": ["web"], "user_facing": true, "text": "2 pods; web needs it"},
        "diff": "+restartedAt", "undo": {"none": "a restart cannot be undone"},
        "checks": [{"service": "pay", "signal": "latency", "query": "p99", "label": "app", "bound": 1.0,
                    "direction": "at_most", "unit": "s"}],
        "evidence": ["INC-2.E1"], "digest": format!("{}{}", CARD.rsplit('.').next().unwrap(), "0".repeat(52)),
        "expires_at": at(now + 280_000), "approvals_needed": 1, "requester": null,
    });
    let candidate = json!({"node": "pay", "score": 1.5, "change": null, "supports": [claim], "contradicts": []});
    let mut open = incident("INC-2", "pay", json!({"state": "awaiting", "plan": "INC-2.P1"}), 0);
    open["evidence"] = json!(["INC-2.E1"]);
    open["candidates"] = json!([candidate]);
    open["diagnosis"] = diagnosis.clone();
    open["plans"] = json!([{"plan": plan, "ruling": "one person", "approved_by": [], "rejected_by": null,
                            "outcome": {"outcome": "proposed"}, "facts": []}]);
    let story = vec![
        opened("pay"),
        json!({"event": "alerts_joined", "alerts": [joined("pay")]}),
        json!({"event": "investigation_started", "reasoner": "none", "because": "settled"}),
        json!({"event": "evidence_stored", "evidence": "INC-2.E1", "digest": Digest::of(EVIDENCE.as_bytes()).as_str(),
               "summary": "1 alert"}),
        json!({"event": "ranked", "candidates": [candidate]}),
        json!({"event": "reasoned", "step": {"number": 1, "thought": "look at pay", "tool": "logs", "arguments": "{}",
               "evidence": "INC-2.E1", "ms": 12, "tokens": 300}}),
        json!({"event": "diagnosed", "diagnosis": diagnosis}),
        json!({"event": "plan_proposed", "plan": plan, "ruling": "one person"}),
    ];
    vec![(over, past), (open, story)]
}

/// An SQL script that fills every table of a store of these migrations.
fn rows(dialect: Dialect, migrations: &BTreeSet<u32>) -> String {
    let now = wall();
    let mut sql: Vec<String> = vec![];
    let (mut seq, mut head) = (0, Digest::genesis());
    for (mut incident, events) in incidents(now) {
        let id = incident["id"].as_str().unwrap().to_owned();
        let mut last = Digest::genesis();
        for (offset, event) in events.iter().enumerate() {
            let (number, kind, body) = (offset as i64 + 1, event["event"].as_str().unwrap(), event.to_string());
            let link = event_link(&last, &id, number, kind, now, &body);
            sql.push(format!(
                "INSERT INTO incident_event(incident,seq,kind,at,body,prev,hash) VALUES('{id}',{number},'{kind}',{now},{},'{}','{}')",
                quoted(&body), last.as_str(), link.as_str()
            ));
            seq += 1;
            let (kind, subject) = (format!("incident.{kind}"), format!("{id}#{number}"));
            let hash = audit_link(&head, seq, now, &kind, &subject, link.as_str());
            sql.push(format!(
                "INSERT INTO audit(seq,at,kind,subject,body,prev,hash) VALUES({seq},{now},'{kind}','{subject}','{}','{}','{}')",
                link.as_str(), head.as_str(), hash.as_str()
            ));
            (last, head) = (link, hash);
        }
        incident["version"] = json!(events.len());
        incident["head"] = json!(last.as_str());
        let over = incident["state"]["state"] == "resolved";
        let (state, is_over) = if over { ("resolved", "TRUE") } else { ("awaiting_approval", "FALSE") };
        sql.push(format!(
            "INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body) \
             VALUES('{id}',{},'default','default','{state}',{is_over},{},{now},{})",
            &id[4..],
            events.len(),
            quoted(&incident.to_string())
        ));
        let name = incident["title"].as_str().unwrap().split(':').next().unwrap().to_owned();
        sql.push(format!(
            "INSERT INTO alert(inbox_id,cluster,team,fingerprint,name,subject,severity,status,starts_at,verdict,reason,\
             explanation,incident,labels,judged_at) VALUES(1,'default','default','00000000000000aa','Down','{name}',\
             'critical','firing',{now},'admit','opened','it is critical','{id}',{},{now})",
            quoted(&json!({"alertname": "Down", "service": name, "severity": "critical"}).to_string())
        ));
    }
    sql.push(format!("UPDATE audit_head SET seq={seq}, hash='{}' WHERE one=1", head.as_str()));
    let evidence = json!({
        "id": "INC-2.E1", "incident": "INC-2", "kind": "alert", "source": "ledger", "query": "alerts of INC-2",
        "summary": "1 alert", "body": EVIDENCE, "series": [], "digest": Digest::of(EVIDENCE.as_bytes()).as_str(),
        "observed_at": at(now), "taint": "user_writable",
    });
    let message = json!({
        "channel": "ops", "ts": "1700000000.000100", "thread": null, "key": "INC-2/root", "author": {"kind": "watch"},
        "only_for": null, "card": {"fallback": "pay: Down", "blocks": []}, "revision": 7, "posted_at": at(now),
        "edited_at": null,
    });
    // One batch of Kafka that nobody had judged yet, as payloads were kept then: two messages, one body.
    let batch = format!("[{},{}]", alert("Waiting", "one"), group(&[alert("Waiting", "two")]));
    sql.extend([
        format!("INSERT INTO inbox(source,kind,dedupe,body,received_at,done_at) VALUES('kafka','alerts','kafka:done','[]',{now},{now})"),
        format!("INSERT INTO inbox(source,kind,dedupe,body,received_at) VALUES('kafka','alerts','kafka:open',{},{now})", quoted(&batch)),
        format!("INSERT INTO evidence(id,incident,digest,at,body) VALUES('INC-2.E1','INC-2','{}',{now},{})",
                Digest::of(EVIDENCE.as_bytes()).as_str(), quoted(&evidence.to_string())),
        format!("INSERT INTO outbox(key,incident,body,state,attempts,not_before,created_at) VALUES('INC-2/plan/INC-2.P1','INC-2',{},'due',0,0,{now})",
                quoted(&json!({"effect": "approval", "plan": "INC-2.P1"}).to_string())),
        format!("INSERT INTO posted(key,chat,channel,ts,incident,at,card) VALUES('INC-2/root@console','console','ops','1700000000.000100','INC-2',{now},'pay: Down')"),
        format!("INSERT INTO vote(plan,person,decision,at) VALUES('INC-9.P1','local/you','approve',{now})"),
        format!("INSERT INTO execution(plan,incident,stage,digest,before,started_at,updated_at,deadline) VALUES('INC-9.P1','INC-9','claimed','00','null',{now},{now},{now})"),
        format!("INSERT INTO message(channel,ts,body) VALUES('ops','1700000000.000100',{})", quoted(&message.to_string())),
        format!("INSERT INTO setting(name,value,at) VALUES('paused','null',{now})"),
    ]);
    let announced =
        read(&json!({"service": "pay", "id": "d1", "to": "done", "at": now}), None, Timestamp::from_millis(now));
    let announced = serde_json::to_value(&announced.unwrap()[0].change).unwrap();
    let packed = pack(&[alert("Waiting", "three").to_string()]).unwrap();
    let later = [
        (
            2,
            format!(
                "INSERT INTO inbox(source,kind,body,received_at,packed,frames) VALUES('webhook','alerts','',{now},{},1)",
                dialect.bytes(&packed)
            ),
        ),
        (
            2,
            format!(
                "INSERT INTO alert_repeat(first_inbox,last_inbox,reason,alerts,judged_at,packed) VALUES(1,1,'duplicate',3,{now},{})",
                dialect.bytes(&[0, 0, 0, 0, 0, 0, 0, 0xaa, 0, 0, 0, 3])
            ),
        ),
        (
            2,
            format!(
                "INSERT INTO funnel(hour,verdict,reason,count) VALUES({},'suppress','duplicate',3)",
                now / 3_600_000
            ),
        ),
        (
            3,
            format!(
                "INSERT INTO lesson(kind,cluster,a,b,person,because,at) VALUES('apart','default',{0},{0},'local/you','two faults',{now})",
                quoted("{\"subject\":\"pay\",\"name\":\"Down\"}")
            ),
        ),
        (
            3,
            format!(
                "INSERT INTO label(key,kind,score,seen,real,person,because,at) VALUES('INC-1','incident',0.7,'admitted',TRUE,'local/you','it was real',{now})"
            ),
        ),
        (3, format!("INSERT INTO regroup(body,asked_at,done_at,outcome) VALUES('{{}}',{now},{now},'Done.')")),
        (
            3,
            format!(
                "INSERT INTO asked(key,fingerprint,name,subject,reason,explanation,share,starts_at,at) VALUES('A1','00000000000000ab','Odd','pay','not_anomalous','as ever',0.1,{now},{now})"
            ),
        ),
        (
            5,
            format!(
                "INSERT INTO announced(key,service,at,body) VALUES('d1','pay',{now},{})",
                quoted(&announced.to_string())
            ),
        ),
        (
            6,
            format!(
                "INSERT INTO ending(incident,cluster,name,subject,by_itself,at) VALUES('INC-1','default','Down','cart',TRUE,{now})"
            ),
        ),
    ];
    let done = migrations.contains(&4).then(|| "UPDATE incident SET remembered=TRUE WHERE id='INC-1'".to_owned());
    sql.extend(later.into_iter().filter(|(since, _)| migrations.contains(since)).map(|(_, sql)| sql));
    sql.extend(done);
    sql.join(";\n") + ";"
}

/// Makes a store of that age, with its rows.
async fn store_of(dialect: Dialect, age: &[PathBuf], url: &str) {
    let folder = tempfile::tempdir().unwrap();
    for file in age {
        std::fs::copy(file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    let migrator = Migrator::new(folder.path()).await.unwrap();
    let script = rows(dialect, &age.iter().map(|file| number(file)).collect());
    match dialect {
        Dialect::Sqlite => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(url).create_if_missing(true);
            let mut store: SqliteConnection = sqlx::ConnectOptions::connect(&options).await.unwrap();
            migrator.run(&mut store).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut store).await.unwrap();
            let empty: Vec<String> = sqlx::query_scalar(
                "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE '\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite%'",
            )
            .fetch_all(&mut store)
            .await
            .unwrap();
            for table in empty {
                let sql = format!("SELECT count(*) FROM {table}");
                let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut store).await.unwrap();
                assert!(count > 0, "{table} has no row at this age");
            }
            store.close().await.unwrap();
        }
        Dialect::Postgres => {
            let mut store = PgConnection::connect(url).await.unwrap();
            migrator.run(&mut store).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut store).await.unwrap();
            store.close().await.unwrap();
        }
    }
}

struct Opened {
    api: String,
    console: String,
    config: PathBuf,
    folder: tempfile::TempDir,
    http: reqwest::Client,
    child: Option<Running>,
}

impl Opened {
    async fn get(&self, url: &str) -> String {
        match self.http.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "no {what}\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn incidents(&self) -> Vec<Value> {
        let text = self.get(&format!("http://{}/api/v1/incidents", self.api)).await;
        let all: Value = serde_json::from_str(&text).unwrap_or_default();
        all["incidents"].as_array().cloned().unwrap_or_default()
    }
}

/// Today's program on a store of that age.
async fn opens(dialect: Dialect, age: &[PathBuf], server: &str) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let numbers: Vec<u32> = age.iter().map(|file| number(file)).collect();
    let name = format!("{dialect:?} {numbers:?}");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let url = match dialect {
        Dialect::Sqlite => data.join("midwatch.db").display().to_string(),
        Dialect::Postgres => {
            let what: Vec<String> = numbers.iter().map(u32::to_string).collect();
            fresh_database(server, &format!("age_{}", what.join("_"))).await
        }
    };
    store_of(dialect, age, &url).await;
    let (api, console) = (free_address(), free_address());
    let config = folder.path().join("midwatch.toml");
    let store = if dialect == Dialect::Postgres { format!("url = {url:?}\n") } else { String::new() };
    let words = format!(
        "[server]\nlisten = \"{api}\"\n[console]\nlisten = \"{console}\"\n[store]\ndata_dir = {data:?}\n{store}\
         [policy]\napprovers = [\"local/ada\"]\n[[people]]\nid = \"local/ada\"\nname = \"ada\"\ntoken = \"ada\"\n\
         [investigation]\nsettle_seconds = 0\n"
    );
    std::fs::write(&config, words).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = midwatch();
    command.arg("serve").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log);
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let child = Some(Running(command.spawn().unwrap()));
    let mut opened = Opened { api, console, config, folder, http, child };
    // What was there is readable.
    let found = opened
        .until(&format!("incidents of {name}"), async || Some(opened.incidents().await).filter(|all| all.len() >= 2))
        .await;
    assert_eq!((&found[0]["id"], &found[0]["state"]), (&json!("INC-1"), &json!("resolved")), "{name}");
    assert_eq!((&found[1]["id"], &found[1]["service"]), (&json!("INC-2"), &json!("pay")), "{name}");
    let page = opened.get(&format!("http://{}/api/messages?channel=ops", opened.console)).await;
    assert!(page.contains("1700000000.000100"), "{name}: {page}");
    // What waited to be judged is judged: two of an old batch, and one of a packed row where there is one.
    let waiting = if numbers.contains(&2) { 3 } else { 2 };
    opened
        .until(&format!("{waiting} judged alerts of {name}"), async || {
            let all = opened.incidents().await;
            (all.iter().filter(|one| one["title"].to_string().contains("Waiting")).count() == waiting).then_some(())
        })
        .await;
    // The old plan can be decided on.
    let request = opened.http.post(format!("http://{}/api/v1/ops", opened.api)).bearer_auth("ada");
    let answer = request.json(&json!({"text": format!("reject {CARD} because it is old")})).send().await.unwrap();
    let (status, said) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{name}: {said}");
    // Its card, which was due, was told and is edited.
    opened
        .until(&format!("the card of {name}"), async || {
            let page =
                opened.get(&format!("http://{}/api/thread?channel=ops&ts=1700000000.000100", opened.console)).await;
            page.contains("it is old").then_some(())
        })
        .await;
    // And new work goes on.
    let request =
        opened.http.post(format!("http://{}/webhooks/x", opened.api)).header("content-type", "application/json");
    assert_eq!(request.body(group(&[alert("Fresh", "four")])).send().await.unwrap().status(), 202, "{name}");
    opened
        .until(&format!("new work of {name}"), async || {
            opened.incidents().await.iter().any(|one| one["title"].to_string().contains("Fresh")).then_some(())
        })
        .await;
    opened.child = None;
    let path = opened.config.clone();
    let verified =
        tokio::task::spawn_blocking(move || run(["audit", "verify", "--config", text(&path)])).await.unwrap();
    assert!(verified.stdout.starts_with("audit ok"), "{name}: {}{}", verified.stdout, verified.stderr);
    if dialect == Dialect::Postgres {
        let mut server = PgConnection::connect(server).await.unwrap();
        let name = url.rsplit('/').next().unwrap();
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server).await.unwrap();
    }
    eprintln!("{name}: opened, readable, works");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_of_any_age_is_opened_and_worked_on() {
    for age in ages(Dialect::Sqlite) {
        opens(Dialect::Sqlite, &age, "").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_of_any_age_is_opened_and_worked_on() {
    let Some(server) = real("MIDWATCH_TEST_POSTGRES") else { return };
    for age in ages(Dialect::Postgres) {
        opens(Dialect::Postgres, &age, &server).await;
    }
}
