//! What comes in from outside: webhook, Kafka, configuration. Nothing accepted is lost; nothing
//! refused goes without a reason and a remedy.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::Headers as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaRespErr;
use serde_json::{Value, json};

use crate::harness::{TOKEN, Watch, alert, free_address, group, run, text};

#[tokio::test]
async fn an_alert_through_the_webhook_becomes_an_incident() {
    let watch = Watch::start("").await;
    let (status, said) = watch.post(group(&[alert("HighErrorRate", "checkout")])).await;
    assert_eq!((status, said.as_str()), (202, r#"{"status":"accepted"}"#));
    let incident = watch.incident("checkout").await;
    assert_eq!(incident["alerts"], 1, "{incident}");
    assert!(incident["id"].is_string() && incident["state"].is_string(), "{incident}");

    // The other two shapes.
    assert_eq!(watch.post(alert("DiskFull", "ledger").to_string()).await.0, 202);
    assert_eq!(watch.post(json!([alert("QueueStuck", "mailer")]).to_string()).await.0, 202);
    watch.incident("ledger").await;
    watch.incident("mailer").await;
}

/// P1: after the 202 the alert outlives the process.
/// Prometheus sends to Alertmanager's API: an array of alerts that fire until they are sent no more.
#[tokio::test]
async fn prometheus_may_send_as_to_alertmanager() {
    let watch = Watch::start("").await;
    let mut firing = alert("HighErrorRate", "straight-from-prometheus");
    firing.as_object_mut().unwrap().remove("status");
    firing["endsAt"] = json!((chrono::Utc::now() + chrono::Duration::minutes(4)).to_rfc3339());
    let body = json!([firing]).to_string();
    let (status, text) = watch.post_to("/api/v2/alerts", &format!("Bearer {TOKEN}"), body.clone()).await;
    assert_eq!(status, 200, "{text}");
    watch.incident("straight-from-prometheus").await;
    assert_eq!(watch.post_to("/api/v2/alerts", "Bearer wrong", body).await.0, 401);
}

/// Many senders at once share a flush to the disk; each of them is kept.
#[tokio::test]
async fn what_many_send_at_once_is_kept_for_each_and_survives_kill_9() {
    let mut watch = Watch::start("").await;
    let bodies: Vec<String> = (0..200).map(|n| group(&[alert("Down", &format!("crowd-{n:03}"))])).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| watch.post(body.clone()))).await;
    watch.kill();
    assert!(answers.iter().all(|(status, _)| *status == 202), "{answers:?}");
    watch.again().await;
    // Two hundred that fall ill at once are few stories, the first few before and after the restart by themselves;
    // and none of them is missing.
    let told = async || {
        let incidents = watch.incidents().await;
        let alerts: u64 = incidents.iter().filter_map(|incident| incident["alerts"].as_u64()).sum();
        (alerts == 200 && incidents.len() <= 20).then_some(())
    };
    watch.eventually("each alert in an incident", told).await;
}

#[tokio::test]
async fn what_was_accepted_survives_kill_9() {
    let mut watch = Watch::start("").await;
    for round in 0..4 {
        let service = format!("survivor-{round}");
        let (status, said) = watch.post(group(&[alert("HighErrorRate", &service)])).await;
        watch.kill();
        assert_eq!(status, 202, "{said}");
        watch.again().await;
        watch.incident(&service).await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_reason_and_remedy() {
    let watch = Watch::start("").await;
    let unnamed = json!({"status": "firing", "labels": {"severity": "critical"}}).to_string();
    let mut long = alert("HighErrorRate", "checkout");
    long["labels"]["query"] = json!("q".repeat(3_000_000));
    let mut longer = alert("HighErrorRate", "checkout");
    longer["labels"]["query"] = json!("q".repeat(5_000_000));
    let cases: [(&str, Vec<u8>, u16, &[&str]); 9] = [
        ("malformed", b"{\"alerts\": [".to_vec(), 400, &["not JSON", "line 1"]),
        ("empty", vec![], 400, &["not JSON"]),
        ("not UTF-8", vec![b'"', 0xff, 0xfe, b'"'], 400, &["UTF-8"]),
        ("a number", b"42".to_vec(), 400, &["a number", "JSON object"]),
        ("unknown shape", b"{\"events\": []}".to_vec(), 400, &["no known format", "events", "Alertmanager"]),
        ("no alert", group(&[]).into_bytes(), 400, &["no alert"]),
        ("no alertname", unnamed.into_bytes(), 400, &["alertname", "missing"]),
        ("a label of 3 MB", group(&[long]).into_bytes(), 400, &["`query`", "3000000", "2048", "annotation"]),
        ("a body of 5 MB", group(&[longer]).into_bytes(), 413, &["limit"]),
    ];
    for (name, body, expected, words) in cases {
        let (status, said) = watch.post(body).await;
        assert_eq!(status, expected, "{name}: {said}");
        for word in words {
            assert!(said.contains(word), "{name}: {said}\n does not say {word:?}");
        }
        assert!(said.len() < 2_000, "{name}: the answer repeats the body");
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{name}: not the usual shape: {said}"));
        for key in ["error", "remedy"] {
            assert!(said[key].as_str().is_some_and(|text| text.len() > 5), "{name}: no {key}: {said}");
        }
    }
    assert_eq!(watch.incidents().await, Vec::<Value>::new());

    // It still listens.
    watch.post(group(&[alert("HighErrorRate", "after-all-that")])).await;
    watch.incident("after-all-that").await;
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let watch = Watch::start("").await;
    for who in ["Bearer wrong", "Bearer ", "", "Basic dGVzdA==", crate::harness::TOKEN] {
        let (status, said) = watch.post_as(who, group(&[alert("HighErrorRate", "checkout")])).await;
        assert_eq!(status, 401, "{who:?}: {said}");
        assert!(said.contains("bearer token") && said.contains("server.webhook_token"), "{who:?}: {said}");
    }
    // Amazon SNS sends the password of its URL only when it is asked for it.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http.post(format!("{}/webhooks/sns", watch.url)).body("{}").send().await.unwrap();
    assert_eq!(asked.headers()["www-authenticate"], r#"Basic realm="midwatch""#);
    assert_eq!(watch.incidents().await, Vec::<Value>::new());
    assert_eq!(watch.get("/webhooks/alertmanager").await.0, 405);
}

#[tokio::test]
async fn a_bad_alert_does_not_take_its_group_along() {
    let watch = Watch::start("").await;
    let bad = json!({"status": "firing", "labels": {"severity": "critical"}, "startsAt": "yesterday"});
    let (status, said) = watch.post(group(&[bad, alert("HighErrorRate", "checkout")])).await;
    assert_eq!(status, 202, "{said}");
    assert_eq!(watch.incident("checkout").await["alerts"], 1);
    watch
        .eventually("refused alert in the metrics", async || {
            (watch.metric("midwatch_alerts_refused_total").await == 1.0).then_some(())
        })
        .await;
}

#[tokio::test]
async fn the_same_alert_fifty_times_is_one() {
    let watch = Watch::start("").await;
    let body = group(&[alert("HighErrorRate", "checkout")]);
    for _ in 0..50 {
        assert_eq!(watch.post(body.clone()).await.0, 202);
    }
    watch
        .eventually("judgement of all fifty", async || {
            (watch.metric("midwatch_alerts_received_total").await == 50.0).then_some(())
        })
        .await;
    let incidents = watch.incidents().await;
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0]["alerts"], 1, "{incidents:?}");
}

#[tokio::test]
async fn health_and_metrics_are_there() {
    let watch = Watch::start("").await;
    assert_eq!(watch.get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(watch.get("/readyz").await, (200, "ready, leads\n".into()));
    watch.post("nonsense").await;
    let (status, text) = watch.get("/metrics").await;
    assert_eq!(status, 200);
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(comment.starts_with("HELP midwatch_") || comment.starts_with("TYPE midwatch_"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let family = name.split('{').next().unwrap();
            assert!(text.contains(&format!("# TYPE {family} ")) && value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert_eq!(watch.metric("midwatch_payloads_refused_total").await, 1.0);
    assert_eq!(watch.metric("midwatch_paused").await, 0.0);
}

#[test]
fn a_typo_in_the_configuration_is_found_by_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("typo.toml");
    std::fs::write(&config, "[server]\nlisten = \"127.0.0.1:1\"\n\n[kafka]\nbroker = \"localhost:9092\"\n").unwrap();
    let ended = run(["serve", "--config", text(&config)]).expect(2);
    assert!(ended.stderr.contains("typo.toml:5:") && ended.stderr.contains("`broker`"), "{}", ended.stderr);
    assert!(ended.stderr.contains("brokers"), "it names the right key: {}", ended.stderr);

    let ended = run(["serve", "--config", text(&folder.path().join("nowhere.toml"))]).expect(2);
    assert!(ended.stderr.contains("nowhere.toml") && ended.stderr.contains("--config"), "{}", ended.stderr);
}

#[test]
fn check_names_what_is_well_and_the_key_of_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("check.toml");
    let text_of = |more: &str| format!("[store]\ndata_dir = {:?}\n\n{more}", folder.path().join("data"));
    std::fs::write(&config, text_of("")).unwrap();
    let good = run(["check", "--config", text(&config)]).expect(0);
    for what in ["configuration", "prompts", "runbooks", "store"] {
        assert!(good.stdout.contains(&format!("ok    {what}: ")), "{what}\n{}", good.stdout);
    }
    assert!(!good.stdout.contains("FAIL"), "{}", good.stdout);

    let nobody = free_address();
    std::fs::write(&config, text_of(&format!("[signals]\nprometheus_url = \"http://{nobody}\"\n"))).unwrap();
    let bad = run(["check", "--config", text(&config)]).expect(1);
    let line = bad.stdout.lines().find(|line| line.starts_with("FAIL")).unwrap_or_else(|| panic!("{}", bad.stdout));
    assert!(line.contains("signals.prometheus_url") && line.contains(&nobody), "{line}");
    assert!(bad.stdout.contains("ok    store: "), "{}", bad.stdout);
}

#[tokio::test]
async fn check_reaches_a_real_prometheus() {
    let Some(url) = crate::harness::real("MIDWATCH_TEST_PROMETHEUS") else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("check.toml");
    let data = folder.path().join("data");
    std::fs::write(&config, format!("[store]\ndata_dir = {data:?}\n\n[signals]\nprometheus_url = \"{url}\"\n"))
        .unwrap();
    let ended = run(["check", "--config", text(&config)]).expect(0);
    assert!(ended.stdout.contains("ok    signals: "), "{}", ended.stdout);
}

/// The next message of the topic with its `midwatch-reason`.
async fn next_dead_letter(brokers: &str, topic: &str) -> (Vec<u8>, String) {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-reader"))
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut stream = consumer.stream();
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let next =
            tokio::time::timeout(left, stream.next()).await.expect("a message on the dead-letter topic").unwrap();
        // Until the group has met, errors come and go.
        let Ok(message) = next else { continue };
        let headers = message.headers().expect("headers");
        let reason = headers.iter().find(|header| header.key == "midwatch-reason").expect("midwatch-reason");
        let reason = String::from_utf8(reason.value.unwrap().to_vec()).unwrap();
        return (message.payload().unwrap_or_default().to_vec(), reason);
    }
}

#[tokio::test]
async fn poison_on_kafka_is_set_aside_and_the_rest_goes_on() {
    let (mock, brokers) = match crate::harness::real("MIDWATCH_TEST_KAFKA") {
        Some(brokers) => (None, brokers),
        None => {
            let mock = MockCluster::new(1).unwrap();
            let brokers = mock.bootstrap_servers();
            (Some(mock), brokers)
        }
    };
    let topic = format!("alerts-{}", std::process::id());
    let dead = format!("{topic}.dead");
    match &mock {
        Some(mock) => [&topic, &dead].iter().for_each(|name| mock.create_topic(name, 1, 1).unwrap()),
        None => {
            let admin: AdminClient<DefaultClientContext> =
                ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
            let topics = [&topic, &dead].map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(1)));
            for made in admin.create_topics(&topics, &AdminOptions::new()).await.unwrap() {
                made.unwrap();
            }
        }
    }
    // A broker that answers late is sent it once more, and what is read back below is counted.
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &brokers).set("enable.idempotence", "true");
    let producer: FutureProducer = client.create().unwrap();
    let send = async |payload: &str| {
        let record = FutureRecord::to(&topic).key("k").payload(payload);
        producer.send(record, Duration::from_secs(20)).await.unwrap();
    };
    send(&group(&[alert("HighErrorRate", "before-poison")])).await;
    send("{ this is not JSON").await;
    send(&alert("HighErrorRate", "after-poison").to_string()).await;

    let kafka = format!(
        "[kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\ndead_letter_topic = \"{dead}\"\ngroup = \"{topic}\"\n"
    );
    let watch = Watch::start(&kafka).await;
    watch.incident("before-poison").await;
    watch.incident("after-poison").await;
    let (payload, reason) = next_dead_letter(&brokers, &dead).await;
    assert_eq!(payload, b"{ this is not JSON");
    assert!(reason.contains("not JSON"), "{reason}");

    // The same topic as a history: what would a higher floor have changed?
    let config = |name: &str, more: &str| {
        let path = watch.folder.path().join(name);
        std::fs::write(&path, format!("{kafka}{more}")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (now, wanted) = (config("now.toml", ""), config("wanted.toml", "[correlation]\nwindow_seconds = 60\n"));
    let words =
        ["replay", "--from", topic.as_str(), "--config", &now, "--config", &wanted, "--json"].map(str::to_owned);
    let ended = tokio::task::spawn_blocking(move || crate::harness::run(words)).await.unwrap().expect(0);
    assert_eq!((&ended.report()["alerts"], &ended.report()["a"]["notifications"]), (&json!(2), &json!(2)));
    assert!(ended.stderr.contains("1 of 3 messages hold no alert"), "{}", ended.stderr);
    let unknown = ["replay", "--from", "no-such-topic", "--config", &now, "--config", &now].map(str::to_owned);
    let ended = tokio::task::spawn_blocking(move || crate::harness::run(unknown)).await.unwrap().expect(2);
    assert!(ended.stderr.contains("no-such-topic"), "{}", ended.stderr);
}

/// A dead-letter topic that takes nothing costs people a look into the audit, and never an alert.
#[tokio::test]
async fn poison_that_the_dead_letter_topic_refuses_stops_nobody() {
    use sqlx::Connection as _;
    let mock = MockCluster::new(1).unwrap();
    let brokers = mock.bootstrap_servers();
    let (topic, dead) = ("alerts", "alerts.closed");
    for name in [topic, dead] {
        mock.create_topic(name, 1, 1).unwrap();
    }
    mock.topic_error(dead, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let send = async |payload: &str| {
        let record = FutureRecord::to(topic).key("k").payload(payload);
        producer.send(record, Duration::from_secs(20)).await.unwrap();
    };
    send("{ this is not JSON").await;
    send(&group(&[alert("HighErrorRate", "beside-poison")])).await;

    let kafka = format!("[kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\ndead_letter_topic = \"{dead}\"\n");
    let mut watch = Watch::start(&kafka).await;
    watch.incident("beside-poison").await;
    // What comes behind shows that the batch with the poison was ended.
    send(&alert("HighErrorRate", "behind-poison").to_string()).await;
    watch.incident("behind-poison").await;
    watch.kill();

    let path = watch.folder.path().join("data/midwatch.db");
    let mut store = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let kept: Vec<String> = sqlx::query_scalar("SELECT body FROM audit WHERE kind='alert.dead_letter'")
        .fetch_all(&mut store)
        .await
        .unwrap();
    store.close().await.unwrap();
    let kept: Vec<Value> = kept.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((&kept[0]["bytes"], &kept[0]["head"]), (&json!(18), &json!("{ this is not JSON")));
    assert!(kept[0]["not_sent"].as_str().unwrap().contains(dead), "{kept:?}");
}

#[tokio::test]
async fn check_says_which_topic_is_missing_or_closed() {
    let mock = MockCluster::new(1).unwrap();
    let brokers = mock.bootstrap_servers();
    mock.create_topic("alerts.closed", 1, 1).unwrap();
    mock.create_topic("changes", 3, 1).unwrap();
    mock.topic_error("alerts.closed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("check.toml");
    let text_of = format!(
        "[store]\ndata_dir = {:?}\n\n[kafka]\nbrokers = \"{brokers}\"\ntopic = \"alrets\"\n\
         dead_letter_topic = \"alerts.closed\"\nchanges_topic = \"changes\"\n",
        folder.path().join("data")
    );
    std::fs::write(&config, text_of).unwrap();
    let words = ["check", "--config", text(&config)].map(str::to_owned);
    let ended = tokio::task::spawn_blocking(move || run(words)).await.unwrap().expect(1);
    for line in [
        "FAIL  kafka: there is no topic alrets: create it, or name another one (key: kafka.topic)",
        "FAIL  kafka: topic alerts.closed is not for us: grant Describe and Write on it (key: kafka.dead_letter_topic)",
        "ok    kafka: 1 brokers, topic changes with 3 partitions",
    ] {
        assert!(ended.stdout.contains(line), "{line}\n{}", ended.stdout);
    }
}
