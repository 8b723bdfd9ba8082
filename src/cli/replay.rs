//! `midwatch replay`: a change of rules, tried on what has happened.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::config::Config;
use crate::domain::topology::Topology;
use crate::eval::{replay, triage};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// JSON lines in time order, one alert (or one webhook body) a line.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// `{"nodes": [...], "edges": [{"from": caller, "to": callee}]}`
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    /// Given twice: what is in use, and what is wanted.
    #[arg(long = "with", value_name = "CONFIG", num_args = 1, required = true)]
    configs: Vec<PathBuf>,
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ReplayArgs, environment: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<ExitCode> {
    let [a, b] = args.configs.as_slice() else {
        anyhow::bail!("replay compares two configurations: give --with twice, not {} times", args.configs.len());
    };
    let rules =
        |path: &PathBuf| -> anyhow::Result<_> { Ok(Config::load(Some(path.as_path()), environment)?.triage_rules()?) };
    let cases = triage::load(&args.from)?;
    let topology = Arc::new(match &args.topology {
        Some(path) => triage::load_topology(path)?,
        None => Topology::default(),
    });
    let report = replay::compare(&cases, &topology, rules(a)?, rules(b)?);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} alerts", report.alerts);
    for (name, path, totals) in [("A", a, &report.a), ("B", b, &report.b)] {
        println!("{name} {}: {} incidents, {} notifications", path.display(), totals.incidents, totals.notifications);
        for (reason, count) in &totals.suppressed {
            println!("    suppressed {reason:<24} {count}");
        }
    }
    for changed in &report.changed {
        println!("{} alerts: {} in A, {} in B", changed.alerts, changed.from, changed.to);
        for example in &changed.examples {
            println!(
                "    line {} {} {}: {} | {}",
                example.line, example.alertname, example.subject, example.a, example.b
            );
        }
    }
    for (name, told) in [("A", &report.only_a), ("B", &report.only_b)] {
        for incident in told {
            let subjects: Vec<&str> = incident.subjects.iter().map(String::as_str).collect();
            println!(
                "only {name} tells of {} ({} alerts): {}",
                incident.incident,
                incident.alerts,
                subjects.join(", ")
            );
        }
    }
    if report.changed.is_empty() {
        println!("nothing differs");
    }
    Ok(ExitCode::SUCCESS)
}
