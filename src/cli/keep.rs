//! `midwatch audit`, `backup`, `restore`, `retire`: what leaves the store, and what comes back.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Subcommand;

use crate::config::Config;
use crate::ports::{Clock as _, SystemClock};
use crate::store::{AuditEntry, Batch, Retention, Store, restore};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Recompute the chain; names the first row that does not fit.
    Verify {
        /// Where the state lives (SQLite); default: what the configuration says.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// What the chat was told: that row must have this hash still. Can be given again and again.
        #[arg(long, value_name = "ROW:HASH")]
        anchor: Vec<Anchor>,
    },
    /// Write the chain, the incidents' events and the evidence, one JSON document a line.
    Export {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Measure how many entries are verified in a second, on a chain made for it.
    Bench {
        #[arg(long, default_value_t = 300_000)]
        entries: usize,
    },
}

pub async fn audit(mut config: Config, command: AuditCommand) -> anyhow::Result<ExitCode> {
    let mut at = |data_dir: Option<PathBuf>| {
        if let Some(data_dir) = data_dir {
            config.store.url = None;
            config.store.data_dir = data_dir;
        }
        config.clone()
    };
    match command {
        AuditCommand::Verify { data_dir, anchor } => verify(&at(data_dir), &anchor).await,
        AuditCommand::Export { file, data_dir } => {
            let store = open(&at(data_dir)).await?;
            let out = std::fs::File::create_new(&file).with_context(|| file.display().to_string())?;
            let mut out = std::io::BufWriter::new(out);
            let exported = store.export_audit(&mut out).await?;
            out.flush()?;
            println!(
                "{}: {} audit rows, {} events, {} pieces of evidence",
                file.display(),
                exported.audit_rows,
                exported.events,
                exported.evidence
            );
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::Bench { entries } => bench(entries).await,
    }
}

async fn open(config: &Config) -> anyhow::Result<Store> {
    let address = config.store_address();
    if config.store.url.is_none() && !PathBuf::from(&address).exists() {
        anyhow::bail!("{address} does not exist; give the folder that `--data-dir` named when the watch ran");
    }
    Ok(Store::open(&address).await?)
}

/// A row of the audit and the hash that it had.
#[derive(Debug, Clone)]
pub struct Anchor {
    row: i64,
    hash: String,
}

impl FromStr for Anchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no anchor; give it as the chat has it, such as 1234:0a1b2c...");
        let (row, hash) = text.split_once(':').ok_or_else(wrong)?;
        let row = row.trim().parse().map_err(|_| wrong())?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Self { row, hash: hash.to_ascii_lowercase() }).ok_or_else(wrong)
    }
}

async fn verify(config: &Config, anchors: &[Anchor]) -> anyhow::Result<ExitCode> {
    let store = open(config).await?;
    let report = store.verify_audit().await?;
    for Anchor { row, hash } in anchors {
        let now = store.audit_hash(*row).await?;
        if now.as_deref() != Some(hash.as_str()) {
            let now = now.map_or_else(|| "is not there".into(), |now| format!("has the hash {now}"));
            println!("audit BROKEN: audit row {row} {now}, and was told with {hash}: the chain has been written anew");
            return Ok(ExitCode::from(1));
        }
    }
    Ok(match &report.fault {
        None => {
            println!(
                "audit ok: {} rows, {} events of {} incidents, head {}",
                report.rows, report.events, report.incidents, report.head
            );
            ExitCode::SUCCESS
        }
        Some(fault) => {
            println!("audit BROKEN: {} {}", fault.row, fault.what);
            ExitCode::from(1)
        }
    })
}

async fn bench(entries: usize) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(&folder.path().join("midwatch.db").display().to_string()).await?;
    let now = SystemClock.wall_now();
    for from in (0..entries).step_by(5_000) {
        let audit = (from..(from + 5_000).min(entries)).map(|number| AuditEntry {
            kind: "bench".into(),
            subject: format!("entry {number}"),
            body: serde_json::json!({"number": number, "because": "as long as the reason of a decision usually is, in words"}),
        });
        store.commit(Batch { audit: audit.collect(), ..Batch::default() }, now).await?;
    }
    let began = Instant::now();
    let report = store.verify_audit().await?;
    let took = began.elapsed();
    anyhow::ensure!(report.fault.is_none() && report.rows == entries as i64, "the chain of the bench does not verify");
    let rate = entries as f64 / took.as_secs_f64();
    println!("{entries} entries verified in {:.2} s: {rate:.0} entries/s", took.as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

pub async fn backup(config: &Config, into: &std::path::Path) -> anyhow::Result<ExitCode> {
    let bytes = open(config).await?.backup(into).await?;
    println!("{}: {bytes} bytes; `midwatch restore` checks its audit chain before it uses it", into.display());
    Ok(ExitCode::SUCCESS)
}

pub async fn bring_back(config: &Config, from: &std::path::Path) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(config.store.url.is_none(), "store.url names a PostgreSQL: restore it with pg_restore");
    let report = restore(from, &config.store.data_dir).await?;
    println!(
        "restored to {}: {} audit rows, {} events of {} incidents, head {}",
        config.store.data_dir.display(),
        report.rows,
        report.events,
        report.incidents,
        report.head
    );
    Ok(ExitCode::SUCCESS)
}

pub async fn retire(config: &Config) -> anyhow::Result<ExitCode> {
    let store = open(config).await?;
    let hot = Duration::from_secs(config.store.hot_days * 24 * 3600);
    let folder = config.store.data_dir.join("cold");
    let retired = store.retire(Retention { hot }, &folder, SystemClock.wall_now()).await?;
    let file = retired.file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
    println!("{} alerts to {file}; {} payloads removed", retired.alerts, retired.payloads);
    Ok(ExitCode::SUCCESS)
}
