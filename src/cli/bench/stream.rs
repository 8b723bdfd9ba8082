//! From Kafka to judged and on disk: a topic that is full, and a watch that starts beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::json;

use super::{Row, resident_mib, serve};

const INSTANCES: usize = 20_000;
const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(600);

/// One alert a message, as a rule's evaluation sends it again and again.
fn message(number: usize, started: &str) -> String {
    let instance = number % INSTANCES;
    let service = instance / 10;
    json!({
        "status": "firing",
        "labels": {
            "alertname": "HighErrorRate", "cluster": "bench", "namespace": "shop", "severity": "warning",
            "service": format!("svc-{service}"), "instance": format!("10.0.{}.{}:8080", instance / 250, instance % 250),
        },
        "annotations": {"summary": format!("errors above 5 percent on svc-{service}")},
        "startsAt": started,
    })
    .to_string()
}

async fn fill(brokers: &str, topic: &str, alerts: usize) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    for made in admin.create_topics(&[new], &AdminOptions::new()).await? {
        made.map_err(|(name, code)| anyhow::anyhow!("the topic {name} cannot be made: {code}"))?;
    }
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "20").create()?;
    let started = chrono::Utc::now().to_rfc3339();
    let topic = topic.to_owned();
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        for number in 0..alerts {
            let payload = message(number, &started);
            let key = (number % INSTANCES).to_string();
            let mut record = BaseRecord::to(&topic).key(&key).payload(&payload);
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                        std::thread::sleep(Duration::from_millis(5));
                        record = again;
                    }
                    Err((failure, _)) => return Err(failure.into()),
                }
            }
        }
        Ok(producer.flush(Duration::from_secs(60))?)
    })
    .await?
}

pub async fn measure(program: &Path, brokers: &str, alerts: usize) -> anyhow::Result<Vec<Row>> {
    let topic = format!("midwatch-bench-{}", std::process::id());
    fill(brokers, &topic, alerts).await.with_context(|| format!("filling {topic} at {brokers}"))?;
    let folder = tempfile::tempdir()?;
    let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = folder.path().join("midwatch.toml");
    let data = folder.path().join("data");
    let text = format!(
        "[server]\nlisten = \"{listen}\"\n[console]\nenabled = false\n[store]\ndata_dir = {data:?}\n\
         [kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\ngroup = \"{topic}\"\n"
    );
    std::fs::write(&config, text)?;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let mut child = serve(program, &config)?;
    let began = Instant::now();
    let mut first: Option<(Instant, f64)> = None;
    let mut highest: f64 = 0.0;
    let (at, judged) = loop {
        anyhow::ensure!(child.try_wait()?.is_none(), "`serve` ended before the topic was read");
        anyhow::ensure!(began.elapsed() < PATIENCE, "the topic is not read within {} s", PATIENCE.as_secs());
        highest = highest.max(resident_mib(&child).unwrap_or_default());
        let text = match http.get(format!("http://{listen}/metrics")).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        // Counted in the transaction that stores the judgement.
        let judged: f64 = text
            .lines()
            .filter(|line| line.starts_with("midwatch_alerts_judged{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        if judged > 0.0 && first.is_none() {
            first = Some((Instant::now(), judged));
        }
        if judged >= alerts as f64 {
            break (Instant::now(), judged);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    child.kill().await?;
    let (since, already) = first.unwrap_or((began, 0.0));
    let rate = (judged - already) / at.duration_since(since).as_secs_f64().max(1e-3);
    Ok(vec![
        ("stream: alerts in the topic, one a message", alerts as f64, "", None),
        ("stream: Kafka to inbox, ledger and incident on disk", rate, "alerts/s", None),
        ("stream: highest resident memory", highest, "MiB", None),
    ])
}
