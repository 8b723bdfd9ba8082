//! `midwatch replay`: a change of rules, tried on what has happened.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::eval::digest;
use crate::adapters::kafka::history::read_topic;
use crate::config::Config;
use crate::domain::prefilter::AnomalyMode;
use crate::domain::topology::Topology;
use crate::eval::triage::Shapes;
use crate::eval::{replay, triage};
use crate::ports::{Clock as _, SystemClock};
use crate::store::{Thawed, is_cold, thaw};

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// JSON lines in time order, one alert (or one webhook body, or whatever the first configuration maps) a
    /// line; a cold file of retention, or the folder of them, compressed as they are; or the name of a topic, which is read from its beginning to
    /// its end at the brokers of the first configuration.
    #[arg(long, value_name = "FILE|FOLDER|TOPIC")]
    from: PathBuf,
    /// `{"nodes": [...], "edges": [{"from": caller, "to": callee}]}`
    #[arg(long, value_name = "FILE")]
    topology: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

fn setting(config: &Config) -> anyhow::Result<replay::Setting> {
    Ok((config.triage_rules()?, digest(config)))
}

/// `configs` holds two: what is in use, and what is wanted.
pub fn run(
    args: &ReplayArgs,
    configs: &[PathBuf],
    environment: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<ExitCode> {
    let [a, b] = configs else {
        anyhow::bail!(
            "replay compares two configurations: give --config twice (what is in use, what is wanted), not {} times",
            configs.len()
        );
    };
    let load = |path: &PathBuf| Config::load(Some(path.as_path()), environment);
    let (in_use, wanted) = (load(a)?, load(b)?);
    let cases = history(&args.from, &in_use)?;
    anyhow::ensure!(!cases.is_empty(), "{}: no alert in it to replay", args.from.display());
    for (config, path) in [(&in_use, a), (&wanted, b)] {
        if let Some(line) = without_labels(config) {
            eprintln!("{}: {line}", path.display());
        }
    }
    let topology = Arc::new(match &args.topology {
        Some(path) => triage::load_topology(path)?,
        None => Topology::default(),
    });
    let report = replay::compare(&cases, &topology, setting(&in_use)?, setting(&wanted)?);
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

/// A replay has no labels: they lie in the store of a watch that may be running, and tell of what people said
/// later than what is replayed.
fn without_labels(config: &Config) -> Option<&'static str> {
    match config.triage_rules().ok()?.prefilter.anomaly_mode {
        AnomalyMode::Calibrated => Some(
            "anomaly_mode = \"calibrated\" is replayed as \"shadow\": a replay reads no labels of people, so nothing \
             is suppressed by its score",
        ),
        AnomalyMode::Fixed | AnomalyMode::Shadow => None,
    }
}

/// What happened: from a file of that name, cold files as retention has written them, else from a topic.
fn history(from: &Path, in_use: &Config) -> anyhow::Result<Vec<triage::Case>> {
    if is_cold(from) {
        let Thawed { messages, bare, cut } = thaw(from).with_context(|| from.display().to_string())?;
        for file in cut {
            eprintln!("{} ends in the middle: what comes after is not replayed", file.display());
        }
        if bare > 0 {
            eprintln!("{bare} alerts were kept without their labels and are left out; the payloads- files have all");
        }
        let payloads = messages.iter().map(|message| (message.received_at, message.payload.as_slice()));
        let (cases, unreadable) = replay::from_messages(payloads, &in_use.mappings()?);
        if unreadable > 0 {
            eprintln!("{unreadable} of {} messages hold no alert and are left out", messages.len());
        }
        return Ok(cases);
    }
    if from.exists() {
        let read_at = SystemClock.wall_now();
        return Ok(triage::load(from, Shapes::Any { mappings: &in_use.mappings()?, read_at })?);
    }
    let Some(kafka) = &in_use.kafka else {
        anyhow::bail!(
            "there is no file {}, and the first configuration names no [kafka] brokers where a topic of that name could be",
            from.display()
        );
    };
    let told = read_topic(kafka, &from.to_string_lossy())?;
    let wall_now = SystemClock.wall_now();
    let messages = told.iter().map(|message| (message.at.unwrap_or(wall_now), message.payload.as_slice()));
    let (cases, unreadable) = replay::from_messages(messages, &in_use.mappings()?);
    if unreadable > 0 {
        eprintln!("{unreadable} of {} messages hold no alert and are left out", told.len());
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_needs_labels_is_said_to_be_replayed_without() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("midwatch.toml");
        for (mode, expected) in [("calibrated", true), ("shadow", false), ("fixed", false)] {
            std::fs::write(&path, format!("[prefilter]\nanomaly_mode = \"{mode}\"\n")).expect("written");
            let config = Config::load(Some(&path), &|_| None).expect("a configuration");
            assert_eq!(without_labels(&config).is_some(), expected, "{mode}");
        }
    }
}
