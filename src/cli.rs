//! The command line: words to configuration to what is asked.

mod bench;
mod check;
mod demo;
mod eval;
mod keep;
mod ops;
mod policy;
mod replay;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::config::Config;
use crate::ports::SystemClock;
use crate::telemetry::{self, LogForm};

/// Stands the on-call watch: alerts in, incidents, causes, approved remediation, the story in chat.
#[derive(Debug, Parser)]
#[command(name = "midwatch", version, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file (TOML); `replay` takes two.
    #[arg(long, global = true, env = "MIDWATCH_CONFIG", value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Logs as JSON lines on stderr.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stand the watch with the configured systems.
    Serve,
    /// A simulated night on embedded parts: no keys, no servers.
    Demo(DemoArgs),
    /// Validate configuration, runbooks and prompts, and reach every configured system.
    Check(check::CheckArgs),
    /// Measure start, memory, a night and a large storm, each in a process of its own.
    Bench(BenchArgs),
    /// Measure a part of the product on data of your own.
    Eval {
        #[command(subcommand)]
        suite: eval::Suite,
    },
    /// Run two configurations over the same history and say what would differ.
    Replay(replay::ReplayArgs),
    /// Order and ask what chat can, of the running watch: `midwatch ops help`.
    Ops(ops::OpsArgs),
    /// The chain of decisions.
    Audit {
        #[command(subcommand)]
        what: keep::AuditCommand,
    },
    /// The rules that decide what may be done.
    Policy {
        #[command(subcommand)]
        what: policy::PolicyCommand,
    },
    /// Copy the embedded store to a file, while the watch runs.
    Backup {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a backup in the place of the embedded store; refuses while one is there.
    Restore {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Move alerts beyond store.hot_days to a compressed file now; the watch does it daily.
    Retire,
}

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// How many alerts the large storm has.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub storm: u64,
    /// Brokers of a real Kafka, for the stream from there to the disk.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// How many alerts that stream has.
    #[arg(long, default_value_t = 1_000_000)]
    pub alerts: usize,
    /// Only that stream.
    #[arg(long, requires = "kafka")]
    pub only_stream: bool,
    /// Only the triage engine.
    #[arg(long, conflicts_with = "only_stream")]
    pub only_engine: bool,
    /// Only the memory, filled with many chunks.
    #[arg(long, conflicts_with_all = ["only_stream", "only_engine"])]
    pub only_memory: bool,
    /// How many chunks that memory has.
    #[arg(long, default_value_t = 100_000)]
    pub chunks: usize,
    #[command(flatten)]
    pub embedder: eval::retrieval::EmbedderArgs,
    /// One JSON document instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Without a page; ends when the night is over.
    #[arg(long)]
    pub headless: bool,
    /// Answer the approval card with yes.
    #[arg(long, conflicts_with = "deny")]
    pub approve: bool,
    /// Answer the approval card with no.
    #[arg(long)]
    pub deny: bool,
    /// One JSON document on stdout at the end.
    #[arg(long)]
    pub json: bool,
    /// Which night: 1 is the one of the README, every other number draws another.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many alerts the night has.
    #[arg(long, default_value_t = 847, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub storm: u64,
    /// Where its state lives; a fresh temporary folder without it.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Brokers of a real Kafka instead of the embedded one.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
    /// A real PostgreSQL instead of SQLite (`postgres://...`).
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// A real Qdrant (gRPC) instead of the embedded one.
    #[arg(long, value_name = "URL")]
    pub qdrant: Option<String>,
    /// Where the page is served.
    #[arg(long, default_value = "127.0.0.1:7717")]
    pub listen: String,
    /// Event seconds per second during the storm.
    #[arg(long, default_value_t = 60.0)]
    pub speed: f64,
}

/// A task holds what it waits for within itself, and a build that is not optimised keeps all of it on the stack, more
/// than once. Only what is used of it takes memory.
const STACK: usize = 8 << 20;

/// Runs what was asked. Errors that a person can mend end with 2, a night that was not cured with 3, a second
/// signal with 130.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // One crypto provider for everything; a second installation is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = match &cli.command {
        Command::Demo(_) => "warn,qdrant_edge=error,kube_client=off",
        Command::Serve => "info,qdrant_edge=error",
        Command::Check(_)
        | Command::Bench(_)
        | Command::Eval { .. }
        | Command::Replay(_)
        | Command::Ops(_)
        | Command::Audit { .. }
        | Command::Policy { .. }
        | Command::Backup { .. }
        | Command::Restore { .. }
        | Command::Retire => "error",
    };
    let form = if cli.log_json { LogForm::Json } else { LogForm::Text };
    let runtime = match tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK).enable_all().build() {
        Ok(runtime) => runtime,
        Err(failure) => return complain(&anyhow::anyhow!("the runtime cannot start: {failure}")),
    };
    let exported = match telemetry::init(form, filter, runtime.handle()) {
        Ok(exported) => exported,
        Err(failure) => return complain(&failure),
    };
    let outcome = runtime.block_on(dispatch(cli));
    if let Err(failure) = &outcome
        && failure.is::<AtOnce>()
    {
        eprintln!("midwatch: {failure}");
        // Its end would wait for those who take the spans.
        std::mem::forget(exported);
        runtime.shutdown_background();
        return ExitCode::from(130);
    }
    drop(exported);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome.unwrap_or_else(|failure| complain(&failure))
}

fn complain(failure: &anyhow::Error) -> ExitCode {
    eprintln!("midwatch: {failure:#}");
    ExitCode::from(2)
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let environment = |name: &str| std::env::var(name).ok();
    let Cli { config: configs, command, .. } = cli;
    let config = || match configs.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.as_path())),
        more => Err(anyhow::anyhow!("--config is given {} times; only `replay` compares two", more.len())),
    };
    match command {
        Command::Demo(args) => {
            let config = Config::load(config()?, &environment)?;
            demo::run(config, args).await
        }
        Command::Serve => serve(Config::load(config()?, &environment)?).await,
        Command::Eval { suite } => {
            let config = Config::load(config()?, &environment)?;
            eval::run(config, suite).await
        }
        Command::Replay(args) => replay::run(&args, &configs, &environment),
        Command::Bench(args) => bench::run(&Config::load(config()?, &environment)?, args).await,
        Command::Check(args) if args.kubernetes => check::rights(&Config::load(config()?, &environment)?).await,
        Command::Check(args) => check::run(config()?, &environment, &args).await,
        Command::Ops(args) => ops::run(&Config::load(config()?, &environment)?, args).await,
        Command::Audit { what } => keep::audit(Config::load(config()?, &environment)?, what).await,
        Command::Policy { what } => policy::run(&Config::load(config()?, &environment)?, &what),
        Command::Backup { file } => keep::backup(&Config::load(config()?, &environment)?, &file).await,
        Command::Restore { file } => keep::bring_back(&Config::load(config()?, &environment)?, &file).await,
        Command::Retire => keep::retire(&Config::load(config()?, &environment)?).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    // Before anything else: the first process of a container is ended by no signal that it does not listen to.
    let mut signals = Signals::listen()?;
    let app = tokio::select! {
        app = App::start_patiently(config, Arc::new(SystemClock)) => app?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(
        api = app.api_url,
        console = app.console_url.as_deref().unwrap_or("off"),
        "midwatch stands the watch"
    );
    signals.next().await;
    tracing::info!("ending in order; a second signal ends at once");
    tokio::select! {
        () = app.shutdown() => Ok(ExitCode::SUCCESS),
        () = signals.next() => Err(AtOnce.into()),
    }
}

/// Nobody is waited for: what was acknowledged is durable, and the rest is done after the next start.
#[derive(Debug, thiserror::Error)]
#[error("ended at once by a second signal")]
struct AtOnce;

/// What asks for the end: SIGTERM, or Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn wait_for_signal() -> anyhow::Result<()> {
    Signals::listen()?.next().await;
    Ok(())
}
