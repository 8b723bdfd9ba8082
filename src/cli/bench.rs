//! What people feel, measured from outside: this program starts itself and looks at the child.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::BenchArgs;
use crate::config::Config;

mod engine;
mod memory;
mod stream;

/// What, measured, unit, at most.
type Row = (&'static str, f64, &'static str, Option<f64>);

const PATIENCE: Duration = Duration::from_secs(900);

pub async fn run(config: &Config, args: BenchArgs) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("where this program lies is not known")?;
    let mut rows: Vec<Row> = vec![];
    let build = if cfg!(debug_assertions) { "dev" } else { "release" };
    if let (true, Some(brokers)) = (args.only_stream, &args.kafka) {
        print(build, &stream::measure(&program, brokers, args.alerts).await?, args.json, &[])?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.only_engine {
        print(build, &engine::measure(), args.json, &[])?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.only_memory {
        let choice = args.embedder.choice(config)?;
        let embedder = tokio::task::spawn_blocking(move || choice.open()).await??;
        let unpacked = tempfile::tempdir()?;
        let mut config = config.clone();
        config.store.data_dir = unpacked.path().to_owned();
        let runbooks = crate::app::runbook_folder(&config);
        print(build, &memory::measure(&runbooks, args.chunks, embedder).await?, args.json, &[])?;
        return Ok(ExitCode::SUCCESS);
    }
    let start = start_of_serve(&program).await?;
    rows.push(("serve: start to ready", start.ready_ms, "ms", Some(1_000.0)));
    rows.push(("serve: resident after the start, with embedder and runbooks", start.resident_mib, "MiB", Some(200.0)));
    let night = demo(&program, &["--seed", "1"]).await?;
    rows.push(("night of 847 alerts: the whole demo", night.wall_ms, "ms", Some(20_000.0)));
    let first = timing(&night.report, "first_message");
    rows.push(("night of 847 alerts: incident to first message", first, "ms", Some(2_000.0)));
    rows.push(("night of 847 alerts: incident to diagnosis", timing(&night.report, "diagnosis"), "ms", None));
    let storm = args.storm.to_string();
    let large = demo(&program, &["--seed", "1", "--storm", &storm]).await?;
    let of_storm = |name: &str| large.report[name].as_f64().unwrap_or(f64::NAN);
    rows.push(("storm: alerts", of_storm("alerts_received"), "", None));
    rows.push(("storm: whole demo", large.wall_ms, "ms", None));
    rows.push(("storm: Kafka to judged and on disk", of_storm("alerts_per_second"), "alerts/s", None));
    rows.push(("storm: highest resident memory, simulated estate included", of_storm("resident_mib"), "MiB", None));
    rows.extend(engine::measure());
    if let Some(brokers) = &args.kafka {
        rows.extend(stream::measure(&program, brokers, args.alerts).await?);
    }
    print(build, &rows, args.json, &[night.exit, large.exit])?;
    let whole = night.exit == Some(0) && large.exit == Some(0);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn print(build: &str, rows: &[Row], as_json: bool, resolved: &[Option<i32>]) -> anyhow::Result<()> {
    if as_json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(what, got, unit, asked)| json!({"what": what, "got": got, "unit": unit, "at_most": asked}))
            .collect();
        let document = json!({"build": build, "measured": rows, "resolved": resolved});
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!("{build} build");
    for (what, got, unit, asked) in rows {
        let asked = asked.map_or_else(String::new, |asked| format!("(at most {asked})"));
        println!("{what:<66} {got:>10.0} {unit} {asked}");
    }
    Ok(())
}

fn timing(report: &Value, name: &str) -> f64 {
    report["timings_ms"][name].as_f64().unwrap_or(f64::NAN)
}

struct Started {
    ready_ms: f64,
    resident_mib: f64,
}

async fn start_of_serve(program: &Path) -> anyhow::Result<Started> {
    let folder = tempfile::tempdir()?;
    // A port that was free a moment ago; who takes it in between makes the start fail loudly.
    let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = folder.path().join("midwatch.toml");
    let data: PathBuf = folder.path().join("data");
    let text = format!("[server]\nlisten = \"{listen}\"\n[console]\nenabled = false\n[store]\ndata_dir = {data:?}\n");
    std::fs::write(&config, text)?;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let began = Instant::now();
    let mut child = serve(program, &config)?;
    loop {
        let answer = http.get(format!("http://{listen}/readyz")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            break;
        }
        anyhow::ensure!(child.try_wait()?.is_none(), "`serve` ended before it was ready");
        anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "`serve` is not ready within a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ready_ms = began.elapsed().as_secs_f64() * 1000.0;
    // The runbooks are indexed behind the open door; afterwards memory is what it stays.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let resident_mib = resident_mib(&child).unwrap_or(f64::NAN);
    child.kill().await?;
    Ok(Started { ready_ms, resident_mib })
}

/// `serve` as a process of its own, which ends with its handle.
fn serve(program: &Path, config: &Path) -> std::io::Result<Child> {
    Command::new(program)
        .args(["serve", "--config"])
        .arg(config)
        .env_remove("MIDWATCH_MODEL")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

fn resident_mib(child: &Child) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()?)).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

struct Told {
    report: Value,
    wall_ms: f64,
    exit: Option<i32>,
}

async fn demo(program: &Path, words: &[&str]) -> anyhow::Result<Told> {
    let began = Instant::now();
    let child = Command::new(program)
        .args(["demo", "--headless", "--approve", "--json"])
        .args(words)
        .env_remove("MIDWATCH_MODEL")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, child).await.context("the demo does not end")??;
    let report =
        serde_json::from_slice(&output.stdout).with_context(|| format!("`demo {}` gave no report", words.join(" ")))?;
    Ok(Told { report, wall_ms: began.elapsed().as_secs_f64() * 1000.0, exit: output.status.code() })
}
