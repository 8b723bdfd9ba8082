//! A night on the simulated estate: the harness plays estate, clock and, headless, the person.
//!
//! The watch under test is the same `App` that production runs, over the same wires. The harness
//! alone asks the estate for the truth, after the run.

mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use serde_json::Value;

use self::report::{main_incident, print_summary};
use super::{DemoArgs, wait_for_signal};
use crate::app::App;
use crate::config::{Config, Kafka, Kubernetes, Secret, Signals, TracesConfig};
use crate::domain::id::{PersonId, PlanId};
use crate::domain::incident::{Incident, Outcome, State};
use crate::domain::plan::Plan;
use crate::domain::time::Timestamp;
use crate::ports::{FromPeople, Person, Place};
use crate::store::FunnelCount;
use crate::store::{Scope, Store};
use crate::world::{Estate, NightOptions};

pub async fn run(config: Config, args: DemoArgs) -> anyhow::Result<ExitCode> {
    let night = Night::begin(config, args).await?;
    let outcome = night.live().await;
    night.end(outcome).await
}

struct Night {
    args: DemoArgs,
    estate: Arc<Estate>,
    app: App,
    producer: FutureProducer,
    /// Dies with the harness; nothing of it outlives the demo.
    _broker: Option<MockCluster<'static, DefaultProducerContext>>,
    _temporary: Option<tempfile::TempDir>,
    data_dir: PathBuf,
    started: Instant,
    ready_ms: u64,
    topic: String,
    /// Notifications given to Kafka so far.
    sent: AtomicU64,
}

#[derive(Default)]
struct Lived {
    learned: usize,
    before: Vec<FunnelCount>,
    before_incidents: usize,
    sent: usize,
    /// From the first alert of the storm until the last one is judged and stored.
    storm_ms: u64,
}

/// Partitions of the embedded topic; keys keep one alert's notifications in order.
const PARTITIONS: i32 = 4;
/// The embedded broker keeps about 5 MB per partition and drops the oldest: no more alerts than
/// this are sent ahead of the watch.
const AHEAD: u64 = 6_000;
/// How far the watch may be behind what was sent before the night waits for it.
const BEHIND: Duration = Duration::from_secs(1);

impl Night {
    async fn begin(mut config: Config, args: DemoArgs) -> anyhow::Result<Self> {
        let started = Instant::now();
        let topic = "alerts".to_owned();
        let (broker, brokers) = match &args.kafka {
            Some(brokers) => (None, brokers.clone()),
            None => {
                let broker = MockCluster::new(1).context("the embedded Kafka cannot start")?;
                let brokers = broker.bootstrap_servers();
                broker.create_topic(&topic, PARTITIONS, 1)?;
                broker.create_topic("alerts.dead-letter", 1, 1)?;
                (Some(broker), brokers)
            }
        };
        // On a shared broker each night has its own topic and group.
        let topic = match &args.kafka {
            Some(_) => format!("midwatch-demo-{}-{}", args.seed, std::process::id()),
            None => topic,
        };
        if args.kafka.is_some() {
            create_topic(&brokers, &topic).await?;
        }
        let (temporary, data_dir) = match &args.data_dir {
            Some(folder) => (None, folder.clone()),
            None => {
                let folder = tempfile::Builder::new().prefix("midwatch-demo-").tempdir()?;
                let path = folder.path().to_owned();
                (Some(folder), path)
            }
        };
        config.store.data_dir.clone_from(&data_dir);
        config.store.url.clone_from(&args.postgres);
        let after = lived_until(&config).await?;
        let options = NightOptions { seed: args.seed, storm: args.storm as usize, quiet_days: 7, after };
        say(&args, "the estate lives through seven quiet days ...");
        let estate = Arc::new(Estate::serve(options).await?);
        config.memory.qdrant_url = args.qdrant.clone().or(config.memory.qdrant_url);
        config.kafka = Some(Kafka {
            brokers: brokers.clone(),
            topic: topic.clone(),
            dead_letter_topic: "alerts.dead-letter".into(),
            changes_topic: None,
            group: format!("midwatch-demo-{}", std::process::id()),
            properties: config.kafka.map(|kafka| kafka.properties).unwrap_or_default(),
        });
        config.signals = Some(Signals::of(estate.prometheus_url(), Some(estate.loki_url())));
        config.traces = Some(TracesConfig::jaeger(estate.jaeger_url()));
        config.kubernetes = Some(Kubernetes {
            cluster: Some(estate.cluster()),
            url: Some(estate.kubernetes_url().to_owned()),
            token: Secret::new("demo-read"),
            write_token: Secret::new("demo-write"),
            ..Kubernetes::default()
        });
        config.console.enabled = true;
        config.console.listen = if args.headless { "127.0.0.1:0".into() } else { args.listen.clone() };
        config.server.listen = "127.0.0.1:0".into();
        config.policy.approvers.push("local/you".into());
        let app = App::start(config, Arc::new(estate.clock().clone())).await?;
        let ready_ms = started.elapsed().as_millis() as u64;
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("linger.ms", "5")
            .set("message.timeout.ms", "30000")
            .create()?;
        Ok(Self {
            args,
            estate,
            app,
            producer,
            _broker: broker,
            _temporary: temporary,
            data_dir,
            started,
            ready_ms,
            topic,
            sent: AtomicU64::new(0),
        })
    }

    async fn live(&self) -> anyhow::Result<Lived> {
        let desk = &self.app.desk;
        let mut lived = Lived { before_incidents: desk.store.incidents(Scope::All).await?.len(), ..Lived::default() };
        let quiet = self.estate.quiet_alerts();
        lived.learned = quiet.iter().filter(|alert| alert["status"] == "firing").count();
        say(&self.args, &format!("{} notifications of the quiet days teach what is normal ...", quiet.len()));
        let already = desk.store.funnel().await?;
        self.send(quiet).await?;
        self.settled(&already, quiet.len()).await?;
        lived.before = desk.store.funnel().await?;
        self.until_the_storm(&mut lived).await?;
        if let Some(url) = self.app.console_url.as_ref().filter(|_| !self.args.headless) {
            eprintln!("\n  It is 02:17. Open {url}\n");
        }
        self.storm(&mut lived).await?;
        Ok(lived)
    }

    /// The night in fast motion until its first critical alert.
    async fn until_the_storm(&self, lived: &mut Lived) -> anyhow::Result<()> {
        let clock = self.estate.clock();
        for _ in 0..240 {
            clock.jump_to(clock.event_now() + Duration::from_secs(15));
            let estate = self.estate.clone();
            tokio::task::spawn_blocking(move || estate.advance()).await?;
            if self.estate.storm_began() {
                crate::app::refresh_topology(&self.app.desk).await;
                clock.set_speed(self.args.speed);
                self.estate.run();
                return Ok(());
            }
            lived.sent += self.send_due().await?;
            // Else minutes of the night pass before its first alerts are read.
            self.all_judged().await?;
        }
        anyhow::bail!(
            "the night of seed {} has no critical alert within an hour: {:?}",
            self.args.seed,
            self.estate.truth()
        )
    }

    async fn storm(&self, lived: &mut Lived) -> anyhow::Result<()> {
        let began = Instant::now();
        let limit = Duration::from_secs(if self.args.headless { 240 } else { 24 * 3600 });
        let answers = self.args.approve || self.args.deny;
        let mut answered: BTreeSet<PlanId> = BTreeSet::new();
        let mut pace = self.args.speed;
        let mut kept_up = Instant::now();
        let clock = self.estate.clock();
        let signal = wait_for_signal();
        tokio::pin!(signal);
        loop {
            lived.sent += self.send_due().await?;
            let sent = self.estate.storm_is_over();
            let drained = sent && self.drained(lived).await?;
            if lived.storm_ms == 0 && drained {
                lived.storm_ms = began.elapsed().as_millis() as u64;
            }
            let incidents = self.night_incidents(lived).await?;
            let waiting: Vec<Plan> = incidents.iter().filter_map(waiting_plan).cloned().collect();
            if self.judges_all() {
                kept_up = Instant::now();
            }
            // While a person thinks, the night passes at the pace of the person's own clock; a machine that is
            // slower than it is waited for too, or minutes would lie between an alert and its reading.
            let person = !waiting.is_empty() && !answers && sent;
            let wanted = match person || kept_up.elapsed() > BEHIND {
                true => 1.0,
                // Nobody watches the estate recover.
                false if !answered.is_empty() => self.args.speed * 2.0,
                false => self.args.speed,
            };
            if wanted != pace {
                clock.set_speed(wanted);
                pace = wanted;
            }
            // Every card is answered, also one that should not have been: what is wrong shall show.
            for plan in waiting.iter().filter(|_| answers && sent) {
                if answered.insert(plan.id.clone()) {
                    self.click(plan).await?;
                }
            }
            let told = !incidents.is_empty() && incidents.iter().all(is_told);
            if (self.args.headless && drained && told) || began.elapsed() > limit {
                return self.delivered().await;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(15)) => {}
                result = &mut signal => {
                    result?;
                    return Ok(());
                }
            }
        }
    }

    async fn night_incidents(&self, lived: &Lived) -> anyhow::Result<Vec<Incident>> {
        let all = self.app.desk.store.incidents(Scope::All).await?;
        Ok(all
            .into_iter()
            .skip(lived.before_incidents)
            .filter(|incident| !matches!(incident.state, State::Merged { .. }))
            .collect())
    }

    /// Presses the button of the card, as the person at the console would.
    async fn click(&self, plan: &Plan) -> anyhow::Result<()> {
        use crate::domain::card::ButtonAction;
        let inbox = crate::api::DeskInbox { desk: self.app.desk.clone(), chat: "console".into() };
        let place = Place { channel: "ops".into(), thread: None, message: None, command: None };
        let by = Person { id: PersonId::new("local/you"), name: "you".into() };
        let (action, reason) = match self.args.approve {
            true => (ButtonAction::Approve, None),
            false => (ButtonAction::Reject, Some("denied by --deny".to_owned())),
        };
        let value = format!("{}.{}", plan.id, plan.digest.short());
        let act = FromPeople::Click { place, by, action, value, reason };
        crate::ports::Inbox::accept(&inbox, &format!("demo-{}", plan.id), act).await?;
        Ok(())
    }

    async fn send_due(&self) -> anyhow::Result<usize> {
        let due = self.estate.due_alerts();
        let firing = due.iter().filter(|alert| alert["status"] == "firing").count();
        self.send(&due).await?;
        Ok(firing)
    }

    async fn send(&self, alerts: &[Value]) -> anyhow::Result<()> {
        for chunk in alerts.chunks(2_000) {
            // The embedded broker forgets what is too far ahead of its consumer.
            while self.sent.load(Ordering::Relaxed)
                > self.app.desk.counters.alerts_received.load(Ordering::Relaxed) + AHEAD
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let mut sent = vec![];
            for alert in chunk {
                let key = alert["fingerprint"].as_str().unwrap_or_default();
                let payload = alert.to_string();
                let record = FutureRecord::to(&self.topic).key(key).payload(&payload);
                sent.push(self.producer.send_result(record).map_err(|(failure, _)| failure)?);
            }
            for delivery in sent {
                delivery.await?.map_err(|(failure, _)| failure)?;
            }
        }
        Ok(())
    }

    fn judges_all(&self) -> bool {
        self.app.desk.counters.alerts_received.load(Ordering::Relaxed) >= self.sent.load(Ordering::Relaxed)
    }

    async fn all_judged(&self) -> anyhow::Result<()> {
        let patience = Instant::now() + Duration::from_secs(60);
        while !self.judges_all() {
            anyhow::ensure!(Instant::now() < patience, "what was sent through Kafka is not judged within a minute");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Waits until `count` alerts beyond `already` have been judged.
    async fn settled(&self, already: &[FunnelCount], count: usize) -> anyhow::Result<()> {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let judged: i64 = self.judged(already).await?.iter().map(|count| count.count).sum();
            if judged >= count as i64 {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < patience,
                "only {judged} of {count} alerts came through Kafka within a minute"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What has been judged since then, by verdict and reason.
    async fn judged(&self, before: &[FunnelCount]) -> anyhow::Result<Vec<FunnelCount>> {
        let mut counts = self.app.desk.store.funnel().await?;
        for count in &mut counts {
            let then = before.iter().find(|then| then.verdict == count.verdict && then.reason == count.reason);
            count.count -= then.map_or(0, |then| then.count);
        }
        Ok(counts.into_iter().filter(|count| count.count > 0).collect())
    }

    /// Everything that was sent has been judged.
    async fn drained(&self, lived: &Lived) -> anyhow::Result<bool> {
        let counts = self.judged(&lived.before).await?;
        let judged: i64 = counts.iter().filter(|count| count.verdict != "resolve").map(|count| count.count).sum();
        Ok(judged >= lived.sent as i64)
    }

    async fn delivered(&self) -> anyhow::Result<()> {
        let patience = Instant::now() + Duration::from_secs(8);
        while self.app.desk.store.outbox_depth().await? > 0 && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn end(self, outcome: anyhow::Result<Lived>) -> anyhow::Result<ExitCode> {
        let lived = match outcome {
            Ok(lived) => lived,
            Err(failure) => {
                self.app.shutdown().await;
                return Err(failure);
            }
        };
        let incidents = self.night_incidents(&lived).await?;
        let report = self.report(&lived, &incidents).await?;
        let cured = main_incident(&incidents).is_some_and(|main| {
            matches!(main.state, State::Resolved { .. })
                && main.plans.iter().any(|plan| plan.outcome == Outcome::Verified)
        });
        if self.args.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print_summary(&report);
        }
        let data_dir = self.data_dir.clone();
        let kept = self.args.data_dir.is_some();
        self.app.shutdown().await;
        self.estate.stop();
        if kept && !self.args.json {
            eprintln!("state: {}", data_dir.display());
        }
        Ok(if cured { ExitCode::SUCCESS } else { ExitCode::from(3) })
    }
}

fn waiting_plan(incident: &Incident) -> Option<&Plan> {
    match &incident.state {
        State::Awaiting { plan } => incident.plan(plan).map(|record| &record.plan),
        _ => None,
    }
}

/// Nothing more will happen to it without a person.
fn is_told(incident: &Incident) -> bool {
    match &incident.state {
        State::Resolved { .. } => incident.post_mortem.is_some(),
        State::HandedOver { .. } => true,
        State::Open
        | State::Investigating
        | State::Diagnosed
        | State::Awaiting { .. }
        | State::Executing { .. }
        | State::Verifying { .. }
        | State::Merged { .. } => false,
    }
}

/// Time only moves on: a second night in one store comes weeks after the first.
async fn lived_until(config: &Config) -> anyhow::Result<Option<Timestamp>> {
    std::fs::create_dir_all(&config.store.data_dir)
        .with_context(|| format!("--data-dir {} cannot be created", config.store.data_dir.display()))?;
    let store = Store::open(&config.store_address()).await?;
    let last = store.last_alert_start().await?;
    store.close().await;
    Ok(last)
}

async fn create_topic(brokers: &str, topic: &str) -> anyhow::Result<()> {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<rdkafka::client::DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topics = [
        NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)),
        NewTopic::new("alerts.dead-letter", 1, TopicReplication::Fixed(1)),
    ];
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
    let results = admin.create_topics(&topics, &options).await.with_context(|| format!("--kafka {brokers}"))?;
    for result in results {
        match result {
            Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => anyhow::bail!("topic {name} cannot be created: {code}"),
        }
    }
    Ok(())
}

fn say(args: &DemoArgs, line: &str) {
    if !args.json {
        eprintln!("{line}");
    }
}
