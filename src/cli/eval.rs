//! `midwatch eval`: a table for people, `--json` one document.

mod agent;
pub mod retrieval;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::config::Config;
use crate::domain::topology::Topology;
use crate::domain::triage::Rules;
use crate::eval::telling::Digest;
use crate::eval::triage::{self, Case, Shapes};
use crate::eval::{anomaly, logs, rootcause, series, storm};

#[derive(Debug, Subcommand)]
pub enum Suite {
    /// Isolation Forest on tables of numbers (`*.csv`, last column `label`).
    Anomaly(AnomalyArgs),
    /// Streaming scores of time series (`*.csv`: timestamp, values, label; optional `NAME.train.csv`).
    Series(DataArgs),
    /// Log templates (`*_structured.csv`).
    Logs(DataArgs),
    /// Alerts with known incidents: what is joined, told and lost.
    Triage(TriageArgs),
    /// Questions about Markdown documents: how often the memory finds the right one.
    Retrieval(retrieval::RetrievalArgs),
    /// Storms that this program draws: many faults at once.
    Storms(StormArgs),
    /// Incidents with a known cause: metrics, calls and changes, one folder each.
    Rootcause(CasesArgs),
    /// Scenarios with a known cause, lived through by the whole watch.
    Agent(agent::AgentArgs),
}

#[derive(Debug, Args)]
pub struct DataArgs {
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct AnomalyArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Of the forest.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Args)]
pub struct CasesArgs {
    /// Folders with `case.json`, `metrics.csv` and perhaps `topology.json` and `changes.json`.
    #[arg(long, value_name = "DIR")]
    cases: PathBuf,
    /// Each candidate with what speaks for and against it.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct TriageArgs {
    /// JSON lines in time order, each an alert with `truth`.
    #[arg(long, value_name = "FILE")]
    alerts: PathBuf,
    /// `{"nodes": [...], "edges": [{"from": caller, "to": callee}]}`
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Each alert's verdict with its reason.
    #[arg(long)]
    explain: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct StormArgs {
    /// Seeds, as `2..60:2` (from, to, step) or a list `1,3,5`.
    #[arg(long, default_value = "2..60:2")]
    seeds: String,
    /// Writes alerts and topology of each storm there instead of measuring.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Without the topology.
    #[arg(long)]
    blind: bool,
    #[arg(long)]
    json: bool,
}

pub async fn run(config: Config, suite: Suite) -> anyhow::Result<ExitCode> {
    let rules = config.triage_rules()?;
    match suite {
        Suite::Anomaly(args) => table(&anomaly::run(&args.data.data, args.seed)?, args.data.json),
        Suite::Series(args) => table(&series::run(&args.data)?, args.json),
        Suite::Logs(args) => table(&logs::run(&args.data)?, args.json),
        Suite::Triage(args) => {
            let cases = triage::load(&args.alerts, Shapes::Alertmanager)?;
            let topology = Arc::new(match &args.topology {
                Some(path) => triage::load_topology(path)?,
                None => Topology::default(),
            });
            let run = triage::run(&cases, &topology, rules, digest(&config));
            let mut report = triage::report(&cases, &run);
            if args.explain {
                report.explain(run);
            }
            print(&report, args.json)
        }
        Suite::Retrieval(args) => retrieval::run(&config, args).await,
        Suite::Storms(args) => storms(&rules, digest(&config), &args),
        Suite::Rootcause(args) => table(&rootcause::run(&args.cases)?, args.json),
        Suite::Agent(args) => agent::run(config, args).await,
    }
}

/// How the configuration tells of light incidents.
pub fn digest(config: &Config) -> Option<Digest> {
    let every = Duration::from_secs(config.routing.digest_minutes.saturating_mul(60));
    config.routing.digest.map(|lightest| Digest { lightest, every })
}

fn storms(rules: &Rules, digest: Option<Digest>, args: &StormArgs) -> anyhow::Result<ExitCode> {
    let mut rows = vec![];
    for seed in seeds(&args.seeds)? {
        let storm = storm::draw(seed);
        if let Some(folder) = &args.out {
            std::fs::create_dir_all(folder)?;
            let lines: Vec<String> = storm.alerts.iter().map(ToString::to_string).collect();
            std::fs::write(folder.join(format!("{seed}.alerts.jsonl")), lines.join("\n") + "\n")?;
            std::fs::write(folder.join(format!("{seed}.topology.json")), storm.topology.to_string())?;
            continue;
        }
        let folder = tempfile::tempdir()?;
        let (alerts, chart) = (folder.path().join("alerts.jsonl"), folder.path().join("topology.json"));
        let lines: Vec<String> = storm.alerts.iter().map(ToString::to_string).collect();
        std::fs::write(&alerts, lines.join("\n"))?;
        std::fs::write(&chart, storm.topology.to_string())?;
        let cases: Vec<Case> = triage::load(&alerts, Shapes::Alertmanager)?;
        let topology = Arc::new(if args.blind { Topology::default() } else { triage::load_topology(&chart)? });
        let run = triage::run(&cases, &topology, rules.clone(), digest);
        rows.push((seed, storm.faults, triage::report(&cases, &run)));
    }
    let mean = |of: &dyn Fn(&triage::Report) -> Option<f64>| {
        let known: Vec<f64> = rows.iter().filter_map(|(_, _, report)| of(report)).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let total = json!({
        "storms": rows.len(),
        "truth_recall": mean(&|report| report.truth_recall),
        "truth_recall_strict": mean(&|report| report.truth_recall_strict),
        "purity": mean(&|report| report.purity),
        "ari": mean(&|report| report.ari),
        "notifications": rows.iter().map(|(_, _, report)| report.notifications).sum::<usize>(),
        "alertmanager_coarse_notifications": rows.iter().map(|(_, _, report)| report.alertmanager_coarse_notifications).sum::<usize>(),
        "alertmanager_notifications": rows.iter().map(|(_, _, report)| report.alertmanager_notifications).sum::<usize>(),
        "alerts": rows.iter().map(|(_, _, report)| report.alerts).sum::<usize>(),
    });
    if args.json {
        let cases: Vec<_> = rows
            .iter()
            .map(|(seed, faults, report)| json!({"seed": seed, "faults": faults, "report": report}))
            .collect();
        println!("{}", json!({"mean": total, "cases": cases}));
    } else if args.out.is_none() {
        println!("seed faults alerts incidents told  am-told recall strict purity   ari");
        for (seed, faults, report) in &rows {
            println!(
                "{seed:>4} {faults:>6} {:>6} {:>9} {:>4} {:>8} {:>6} {:>6} {:>6} {:>5}",
                report.alerts,
                report.incidents,
                report.notifications,
                report.alertmanager_notifications,
                share(report.truth_recall, 2),
                share(report.truth_recall_strict, 2),
                share(report.purity, 3),
                share(report.ari, 2)
            );
        }
        println!("{total:#}");
    }
    Ok(ExitCode::SUCCESS)
}

fn share(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn seeds(text: &str) -> anyhow::Result<Vec<u64>> {
    let wrong = || anyhow::anyhow!("--seeds {text}: write `from..to`, `from..to:step` or `1,2,3`");
    if let Some((from, rest)) = text.split_once("..") {
        let (to, step) = rest.split_once(':').unwrap_or((rest, "1"));
        let (from, to): (u64, u64) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
        let step: usize = step.parse().map_err(|_| wrong())?;
        anyhow::ensure!(step > 0, wrong());
        anyhow::ensure!(
            from < to,
            "--seeds {text}: no seed lies from {from} to before {to}; write the smaller one first"
        );
        return Ok((from..to).step_by(step).collect());
    }
    text.split(',').map(|seed| seed.trim().parse().map_err(|_| wrong())).collect()
}

fn table<T: Serialize + std::fmt::Display>(report: &T, as_json: bool) -> anyhow::Result<ExitCode> {
    match as_json {
        true => println!("{}", serde_json::to_string_pretty(report)?),
        false => println!("{report}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn print<T: Serialize>(report: &T, as_json: bool) -> anyhow::Result<ExitCode> {
    let value = serde_json::to_value(report)?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Array(rows) => rows.iter().for_each(|row| println!("{row}")),
            serde_json::Value::Null => println!("{name:<28} -"),
            value => println!("{name:<28} {value}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_or_a_list_and_never_none() {
        let check = |text: &str, expected: &[u64]| assert_eq!(seeds(text).expect("seeds"), expected, "{text}");
        check("2..7:2", &[2, 4, 6]);
        check("2..4", &[2, 3]);
        check("1, 5", &[1, 5]);
        for text in ["5..2", "5..5", "", "2..", "2..9:0", "a"] {
            let error = seeds(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("--seeds {text}: ")), "{error}");
        }
    }

    #[test]
    fn a_share_of_nothing_is_a_dash() {
        assert_eq!([share(Some(0.5), 2), share(None, 2)], ["0.50", "-"]);
    }
}
