//! The composition root: configuration to parts, parts to tasks, and their end in order.

mod assets;
mod drive;
mod instruments;
mod pages;
mod patience;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::adapters::embedder::EmbedderChoice;
use crate::adapters::hooks::DeclaredHooks;
use crate::adapters::kafka::changes::{ChangeConsumer, ChangeSink};
use crate::adapters::kafka::{AlertConsumer, AlertSink};
use crate::adapters::kubernetes::{Access, Bearer, KubernetesCluster, Server};
use crate::adapters::openai::OpenAiModel;
use crate::adapters::signals::{Endpoint, SignalsClient};
use crate::adapters::slack::{self, SlackChat, SlackConfig};
use crate::adapters::slack_people::SlackPeople;
use crate::adapters::{elsewhere, rota};
use crate::api::{self, DeskChanges, DeskInbox};
use crate::config::{BackendAccess, Config, Kubernetes, ModelConfig, Secret};
use crate::console::{Console, Settings};
use crate::domain::topology::Topology;
use crate::flow::authority::Authority;
use crate::flow::desk::ChatSeat;
use crate::flow::lead::{self, Term};
use crate::flow::{self, Desk};
use crate::memory::{Memory, MemoryConfig, Tenant};
use crate::ports::{Channels, Clock, Cluster, Directory, Hooks, Model, Signals};
use crate::prompt::Prompts;
use crate::store::Store;

pub use assets::runbook_folder;
use drive::{drivers, keep_driving};
pub use instruments::{own as own_tools, toolbox, traces};
use pages::{ConsoleMessages, DeskArtist, DeskPages};

/// A running watch.
pub struct App {
    pub desk: Arc<Desk>,
    /// Where the console answers, when it does.
    pub console_url: Option<String>,
    pub api_url: String,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    console: Option<Arc<Console>>,
    sockets: Option<slack::SlackSockets>,
}

impl App {
    /// Opens everything that the configuration names and starts the watch.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        make_folder(&config)?;
        let store = Store::open(&config.store_address()).await?;
        Self::start_on(store, config, clock).await
    }

    /// As `start`; a store that is away is waited for.
    pub async fn start_patiently(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        make_folder(&config)?;
        let store = patience::open_store(&config).await?;
        Self::start_on(store, config, clock).await
    }

    async fn start_on(store: Store, config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let store = Arc::new(store);
        let (shelving, shelved) = watch::channel(false);
        let memory = open_memory(&config, shelving).await;
        let signals = signals(&config)?;
        let cluster = cluster(&config).await?;
        let traces = traces(&config)?;
        let tools = toolbox(&config).await?;
        let (model, small_model) = (model(&config)?, small_model(&config)?);
        let prompts = Prompts::load(config.prompts.dir.as_deref())?;
        let mut chats = vec![];
        let console = match config.console.enabled {
            true => {
                let messages = Arc::new(ConsoleMessages { store: store.clone() });
                let settings = Settings { hosts: config.console.names(), ..Settings::default() };
                let instance = format!("{:016x}", rand::random::<u64>());
                let console = Console::new(settings.clone(), instance, messages, clock.clone()).await?;
                let channel = settings.channels.first().cloned().unwrap_or_else(|| "ops".into());
                chats.push(ChatSeat { chat: console.clone(), channel, channels: Some(console.clone()) });
                Some(console)
            }
            false => None,
        };
        let slack_chat = slack_chat(&config)?;
        let people = slack_people(&config)?;
        if let (Some(chat), Some(slack)) = (&slack_chat, &config.slack) {
            use crate::ports::Chat as _;
            match chat.check().await {
                Ok(who) => info!(who, "slack"),
                // Late is better than never: the outbox keeps what is to be said.
                Err(failure) => warn!(error = %failure, "slack does not answer yet"),
            }
            let channels = people.clone().map(|people| -> Arc<dyn Channels> { people });
            chats.push(ChatSeat { chat: Arc::new(chat.clone()), channel: slack.channel.clone(), channels });
        }
        let policy = config.policy.policy()?;
        let hooks = DeclaredHooks::of(&config.remediation).map(|hooks| Arc::new(hooks) as Arc<dyn Hooks>);
        let desk = Arc::new(Desk {
            store,
            started_at: clock.wall_now(),
            clock,
            policy: Arc::new(policy),
            authority: Arc::new(Authority::new(people.map(|people| -> Arc<dyn Directory> { people }))),
            signals,
            cluster,
            hooks,
            traces,
            tools: Arc::new(tools),
            model,
            small_model,
            breaker: Arc::default(),
            memory,
            shelved,
            prompts: Arc::new(prompts),
            chats: Arc::new(chats),
            artist: Arc::default(),
            routing: config.routing.routing(),
            outlets: elsewhere::outlets(&config).map_err(anyhow::Error::msg)?,
            rotas: rota::rotas(&config).map_err(anyhow::Error::msg)?,
            topology: Arc::new(RwLock::new(Arc::new(Topology::default()))),
            bells: Arc::default(),
            gate: Arc::default(),
            counters: Arc::default(),
            neighbours: Arc::default(),
            stop: stopped,
            leads: Arc::default(),
            term: Term::default(),
            silencing: Arc::default(),
            noting: Arc::default(),
            past: tokio::sync::Mutex::default(),
            ear: Arc::default(),
            mappings: config.mappings()?,
            rules: config.triage_rules()?,
            config: Arc::new(config),
        });
        // Set once, here; a second one cannot come.
        let _ = desk.artist.set(Arc::new(DeskArtist(Arc::downgrade(&desk))));
        let mut app = Self {
            desk,
            console_url: None,
            api_url: String::new(),
            tasks: JoinSet::new(),
            stop,
            console,
            sockets: None,
        };
        app.discover().await;
        app.spawn_flows().await;
        app.serve_doors(slack_chat).await?;
        app.spawn_kafka()?;
        Ok(app)
    }

    /// Who depends on whom is read before the first alert and refreshed every minute.
    async fn discover(&mut self) {
        let desk = self.desk.clone();
        refresh_topology(&desk).await;
        self.tasks.spawn(async move {
            while !desk.stopping() {
                desk.wait(&tokio::sync::Notify::new(), Duration::from_secs(60)).await;
                if !desk.stopping() {
                    refresh_topology(&desk).await;
                }
            }
        });
    }

    /// The gate of what comes in, and the contest for everything else; returns when it is known who leads.
    async fn spawn_flows(&mut self) {
        self.tasks.spawn(keep_driving("gate", self.desk.clone(), flow::gate::run));
        let (looked, known) = tokio::sync::oneshot::channel();
        self.tasks.spawn(lead::run(self.desk.clone(), drivers, looked));
        if timeout(FIRST_LOOK, known).await.is_err() {
            warn!("who leads is not known yet");
        }
    }

    async fn serve_doors(&mut self, slack_chat: Option<SlackChat>) -> anyhow::Result<()> {
        let config = &self.desk.config;
        let mut router = api::router(self.desk.clone());
        if let (Some(chat), Some(slack)) = (slack_chat, &config.slack) {
            let inbox = Arc::new(DeskInbox { desk: self.desk.clone(), chat: "slack".into() });
            let intake = slack::Intake::new(chat.clone(), inbox);
            if slack.app_token.reveal().is_some() {
                self.sockets = Some(slack::connect(&chat, intake.clone()).await?);
            }
            let secrets: Vec<String> =
                slack.signing_secrets.iter().filter_map(Secret::reveal).map(str::to_owned).collect();
            if !secrets.is_empty() {
                router = router.merge(slack::events::router(intake, secrets, self.desk.clock.clone()));
            }
        }
        self.api_url = format!("http://{}", self.serve("server.listen", &config.server.listen.clone(), router).await?);
        if let Some(console) = self.console.clone() {
            let inbox = Arc::new(DeskInbox { desk: self.desk.clone(), chat: "console".into() });
            let pages = Arc::new(DeskPages { desk: self.desk.clone() });
            let router = crate::console::router(console, inbox, pages);
            let listen = self.desk.config.console.listen.clone();
            self.console_url = Some(format!("http://{}", self.serve("console.listen", &listen, router).await?));
        }
        Ok(())
    }

    async fn serve(&mut self, key: &str, listen: &str, router: axum::Router) -> anyhow::Result<std::net::SocketAddr> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("{key}: cannot listen on {listen}; is another midwatch running? Choose another port")
        })?;
        let address = listener.local_addr()?;
        let mut stop = self.stop.subscribe();
        self.tasks.spawn(async move {
            let ended = async move {
                let _ = stop.changed().await;
            };
            if let Err(failure) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
                error!(error = %failure, "a server ended");
            }
        });
        Ok(address)
    }

    fn spawn_kafka(&mut self) -> anyhow::Result<()> {
        let Some(kafka) = &self.desk.config.kafka else { return Ok(()) };
        let consumer = AlertConsumer::connect(kafka, self.desk.mappings.clone()).with_context(|| {
            "kafka: librdkafka refuses these settings; TLS and SCRAM need a build with --features kafka-tls (key: kafka.properties)"
        })?;
        let sink: Arc<dyn AlertSink> = Arc::new(DeskInbox { desk: self.desk.clone(), chat: "kafka".into() });
        let stop = self.stop.subscribe();
        self.tasks.spawn(consumer.run(sink, stop));
        if let Some(topic) = &kafka.changes_topic {
            let consumer = ChangeConsumer::connect(kafka, topic).context("kafka (key: kafka.changes_topic)")?;
            let sink: Arc<dyn ChangeSink> = Arc::new(DeskChanges(self.desk.clone()));
            self.tasks.spawn(consumer.run(sink, self.stop.subscribe()));
        }
        Ok(())
    }

    /// Doors first, then drivers, then the store: what was accepted is durable, what was decided too.
    pub async fn shutdown(mut self) {
        if let Some(console) = &self.console {
            console.close();
        }
        if let Some(sockets) = self.sockets.take()
            && timeout(CLOSING, sockets.shutdown()).await.is_err()
        {
            warn!("the connection to Slack did not end in time");
        }
        // No receiver left means that everything has ended by itself.
        let _ = self.stop.send(true);
        let drained = timeout(Duration::from_secs(8), async { while self.tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            warn!("some tasks did not end in time; what they did not finish is done after the next start");
            self.tasks.abort_all();
        }
        // What is committed is durable already; a store that hangs gives nothing back.
        if timeout(CLOSING, self.desk.store.close()).await.is_err() {
            warn!("the store did not close in time");
        }
    }
}

/// How long others may take to let a connection go at the end: whoever ends a process waits for 30 seconds at most.
const CLOSING: Duration = Duration::from_secs(3);

/// A store that does not answer must not keep the doors closed.
const FIRST_LOOK: Duration = Duration::from_secs(5);

fn make_folder(config: &Config) -> anyhow::Result<()> {
    let folder = &config.store.data_dir;
    std::fs::create_dir_all(folder).with_context(|| format!("store.data_dir {} cannot be created", folder.display()))
}

pub async fn refresh_topology(desk: &Desk) {
    let earlier = desk.topology().await;
    let (signals, traces, cluster) = (desk.signals.as_ref(), desk.traces.as_ref(), desk.cluster.as_ref());
    let topology = flow::discover::topology(signals, traces, cluster, &earlier, desk.clock.event_now()).await;
    if !topology.is_empty() {
        *desk.topology.write().await = Arc::new(topology);
    }
}

/// The watch goes on without memory, and says so.
async fn open_memory(config: &Config, shelving: watch::Sender<bool>) -> Option<Arc<Memory>> {
    let choice = match (&config.embedder.onnx_runtime, &config.embedder.model_dir) {
        (Some(onnx_runtime), Some(model_dir)) => {
            EmbedderChoice::Fastembed { onnx_runtime: onnx_runtime.clone(), model_dir: model_dir.clone() }
        }
        _ => EmbedderChoice::Static,
    };
    let place = match &config.memory.qdrant_url {
        Some(url) => MemoryConfig::Server {
            url: url.clone(),
            api_key: config.memory.api_key.reveal().map(str::to_owned),
            collection: config.memory.collection.clone().unwrap_or_else(|| "midwatch".into()),
        },
        None => MemoryConfig::Edge { dir: config.store.data_dir.join("memory") },
    };
    let embedder = match tokio::task::spawn_blocking(move || choice.open()).await {
        Ok(Ok(embedder)) => embedder,
        Ok(Err(failure)) => {
            error!(error = %failure, "no embedder: the watch stands without memory");
            return None;
        }
        Err(_) => return None,
    };
    let memory = match Memory::open(&place, embedder).await {
        Ok(memory) => Arc::new(memory),
        Err(failure) => {
            error!(error = %failure, "the watch stands without memory");
            return None;
        }
    };
    let folder = runbook_folder(config);
    let shelf = memory.clone();
    tokio::spawn(async move {
        match shelf.load_runbooks(&folder, &Tenant::everyone()).await {
            Ok(loaded) => {
                for bad in &loaded.bad {
                    warn!(reason = %bad, "a runbook was left out");
                }
                info!(indexed = loaded.indexed, unchanged = loaded.unchanged, "runbooks");
            }
            Err(failure) => warn!(error = %failure, "runbooks could not be loaded"),
        }
        // Also where it failed: nobody is to wait for what does not come.
        let _ = shelving.send(true);
    });
    Some(memory)
}

pub fn signals(config: &Config) -> anyhow::Result<Option<Arc<dyn Signals>>> {
    let Some(signals) = &config.signals else { return Ok(None) };
    let endpoint = |key: &str, url: &str, access: &BackendAccess| {
        Endpoint::new(url, access, &signals.bearer_token).map_err(|why| anyhow::anyhow!("signals.{key}: {why}"))
    };
    let prometheus = endpoint("prometheus", &signals.prometheus_url, &signals.prometheus)?;
    let loki = signals.loki_url.as_deref().map(|url| endpoint("loki", url, &signals.loki)).transpose()?;
    let client = SignalsClient::new(Some(prometheus), loki)?;
    Ok(Some(Arc::new(client)))
}

pub async fn cluster(config: &Config) -> anyhow::Result<Option<Arc<dyn Cluster>>> {
    let Some(kubernetes) = &config.kubernetes else { return Ok(None) };
    let (reader, writer) = access(kubernetes);
    let cluster = KubernetesCluster::connect(&reader, writer.as_ref()).await.context("kubernetes")?;
    Ok(Some(Arc::new(cluster)))
}

/// Contexts and tokens as the configuration allows them: none of them is ignored.
fn access(kubernetes: &Kubernetes) -> (Access, Option<Access>) {
    let in_context = |context: &String| {
        let path = std::env::var("KUBECONFIG").ok().unwrap_or_else(|| {
            let home = std::env::var("HOME").unwrap_or_default();
            PathBuf::from(home).join(".kube/config").display().to_string()
        });
        Server::Kubeconfig { path, context: Some(context.clone()) }
    };
    let server = match (&kubernetes.url, &kubernetes.context) {
        (Some(url), _) => Server::Url { url: url.clone(), ca_file: kubernetes.ca_file.clone() },
        (None, Some(context)) => in_context(context),
        (None, None) => Server::Inferred,
    };
    let writer =
        match (&kubernetes.write_context, bearer(&kubernetes.write_token, kubernetes.write_token_file.as_ref())) {
            (Some(context), _) => Some(Access { server: in_context(context), identity: Bearer::Own }),
            // Whoever reads must not write by chance.
            (None, Bearer::Own) => None,
            (None, identity) => Some(Access { server: server.clone(), identity }),
        };
    let identity = bearer(&kubernetes.token, kubernetes.token_file.as_ref());
    (Access { server, identity }, writer)
}

fn bearer(token: &Secret, file: Option<&PathBuf>) -> Bearer {
    match (token.reveal(), file) {
        (Some(token), _) => Bearer::Token(token.to_owned()),
        (None, Some(file)) => Bearer::File(file.clone()),
        (None, None) => Bearer::Own,
    }
}

pub fn model(config: &Config) -> anyhow::Result<Option<Arc<dyn Model>>> {
    config.model.as_ref().map(|model| named_model(model, &model.name)).transpose()
}

/// The smaller one that sorts incidents for the team.
fn small_model(config: &Config) -> anyhow::Result<Option<Arc<dyn Model>>> {
    let small = config.model.as_ref().and_then(|model| Some((model, model.triage.as_ref()?)));
    small.map(|(model, small)| named_model(model, &small.name)).transpose()
}

fn named_model(model: &ModelConfig, name: &str) -> anyhow::Result<Arc<dyn Model>> {
    let base = model.base_url.as_deref().unwrap_or("https://api.openai.com/v1");
    let attempt = Duration::from_secs(model.reply_seconds.max(1));
    Ok(Arc::new(OpenAiModel::new(
        base,
        model.api_key.reveal().unwrap_or("none"),
        name,
        attempt,
        model.reply_tokens_field,
    )?))
}

/// Slack's directory and channels, beside its messages.
pub fn slack_people(config: &Config) -> anyhow::Result<Option<Arc<SlackPeople>>> {
    let Some(slack) = &config.slack else { return Ok(None) };
    let api = slack.api_base.as_deref().unwrap_or(SlackConfig::DEFAULT_API_BASE);
    let people = SlackPeople::new(api, slack.bot_token.reveal().unwrap_or_default(), slack.team_id.clone());
    Ok(Some(Arc::new(people.map_err(anyhow::Error::msg)?)))
}

pub fn slack_chat(config: &Config) -> anyhow::Result<Option<SlackChat>> {
    let Some(slack) = &config.slack else { return Ok(None) };
    let reveal = |secret: &Secret| secret.reveal().map(str::to_owned);
    let mut settings = SlackConfig::new(slack.bot_token.reveal().unwrap_or_default(), &slack.channel);
    settings.app_token = reveal(&slack.app_token);
    settings.signing_secrets = slack.signing_secrets.iter().filter_map(reveal).collect();
    settings.api_base.clone_from(&slack.api_base);
    settings.team_id.clone_from(&slack.team_id);
    settings.console_base = Some(config.console_url());
    settings.posts_per_second = slack.posts_per_second;
    Ok(Some(SlackChat::new(settings)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, reads: &str, writes: Option<&str>) {
        let (reader, writer) = access(&toml::from_str(text).unwrap());
        let told = |access: &Access| format!("{:?} {:?}", access.server, access.identity);
        assert_eq!((told(&reader).as_str(), writer.as_ref().map(told).as_deref()), (reads, writes), "{text}");
    }

    #[test]
    fn the_cluster_is_reached_as_it_was_configured() {
        check("", "Inferred Own", None);
        // Server and CA of the kubeconfig or the pod, as somebody else.
        check("token = \"r\"\nwrite_token = \"w\"", "Inferred Token(redacted)", Some("Inferred Token(redacted)"));
        check("write_token_file = \"/w\"", "Inferred Own", Some("Inferred File(/w)"));
        let url = r#"Url { url: "https://k", ca_file: Some("/ca.crt") }"#;
        check(
            "url = \"https://k\"\nca_file = \"/ca.crt\"\ntoken_file = \"/r\"\nwrite_token = \"w\"",
            &format!("{url} File(/r)"),
            Some(&format!("{url} Token(redacted)")),
        );
    }
}
