//! Readings in words.

use std::collections::BTreeSet;

use super::{EdgeReading, Reading};

pub fn say(reading: &Reading) -> String {
    let at = reading.onset.map_or_else(String::new, |onset| format!(" since {}", onset.clock_time()));
    format!(
        "{} {} is {} (usual {}){at}",
        reading.node,
        reading.signal.replace('_', " "),
        amount(reading.worst, &reading.unit),
        amount(reading.baseline.median, &reading.unit)
    )
}

pub(super) fn say_edge(edge: &EdgeReading) -> String {
    let unit = if edge.signal.ends_with("seconds") { "s" } else { "ratio" };
    format!(
        "{} to {}: {} {} (usual {})",
        edge.client,
        edge.server,
        edge.signal.replace('_', " "),
        amount(edge.worst, unit),
        amount(edge.usual, unit)
    )
}

/// `93 %`, `1.82 s`, `4.1 k`
pub fn amount(value: f64, unit: &str) -> String {
    match unit {
        "ratio" | "full" | "failing" | "not ready" => format!("{:.1} %", value * 100.0),
        _ if unit.starts_with("of ") => format!("{:.0} % {unit}", value * 100.0),
        "s left" => format!("{:.1} days left", value / 86_400.0),
        "s" if value.abs() < 1.0 => format!("{:.0} ms", value * 1000.0),
        _ if value.abs() >= 10_000.0 => format!("{:.1} k {unit}", value / 1000.0).trim_end().to_owned(),
        _ if value != 0.0 && value.abs() < 0.1 => format!("{value:.5} {unit}").trim_end().to_owned(),
        _ => format!("{value:.2} {unit}").trim_end().to_owned(),
    }
}

pub(super) fn list(words: &[&str]) -> String {
    let unique: BTreeSet<&str> = words.iter().copied().collect();
    if unique.is_empty() { "something".into() } else { unique.into_iter().collect::<Vec<_>>().join(" and ") }
}
