//! What a ranking must beat: answers that need no thought.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::case::Case;

/// Orders of services, best first, without ties.
pub(super) struct Plain {
    pub(super) largest_deviation: Vec<String>,
    pub(super) deepest_anomalous: Vec<String>,
}

/// A deviation from here on is anomalous, in standard deviations.
const ANOMALOUS: f64 = 3.0;

pub(super) fn answers(case: &Case) -> Plain {
    let deviations = deviations(case);
    let mut by_deviation: Vec<(&str, f64)> = deviations.iter().map(|(name, most)| (*name, *most)).collect();
    by_deviation.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
    let depths = depths(case);
    let mut by_depth = by_deviation.clone();
    // A stable sort: at one depth the larger deviation stays first.
    by_depth.sort_by_key(|(name, deviation)| {
        let depth = if *deviation >= ANOMALOUS { depths.get(name).copied() } else { None };
        std::cmp::Reverse(depth.map_or(0, |depth| depth + 1))
    });
    let names = |order: Vec<(&str, f64)>| order.into_iter().map(|(name, _)| name.to_owned()).collect();
    Plain { largest_deviation: names(by_deviation), deepest_anomalous: names(by_depth) }
}

/// The largest distance of any value of the window from the mean of the baseline, in standard
/// deviations, over all metrics of each service, whichever way.
fn deviations(case: &Case) -> BTreeMap<&str, f64> {
    let mut most: BTreeMap<&str, f64> = case.services().into_iter().map(|name| (name, 0.0)).collect();
    for track in &case.tracks {
        let within =
            |start, end| track.points.iter().filter(move |(at, value)| start <= *at && *at <= end && value.is_finite());
        let past: Vec<f64> = within(case.baseline.start, case.baseline.end).map(|(_, value)| *value).collect();
        if past.is_empty() {
            continue;
        }
        let mean = past.iter().sum::<f64>() / past.len() as f64;
        let variance = past.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / past.len() as f64;
        let scale = variance.sqrt().max(1e-3 * mean.abs()).max(1e-9);
        for (_, value) in within(case.window.start, case.window.end) {
            let entry = most.entry(&track.node).or_default();
            *entry = entry.max((value - mean).abs() / scale);
        }
    }
    most
}

/// Calls away from the complaint.
fn depths(case: &Case) -> BTreeMap<&str, usize> {
    let start = case.complaint.node.as_str();
    let mut depths = BTreeMap::from([(start, 0)]);
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let depth = depths.get(node).copied().unwrap_or(0);
        for next in case.topology.dependencies(node).collect::<BTreeSet<_>>() {
            if !depths.contains_key(next) {
                depths.insert(next, depth + 1);
                queue.push_back(next);
            }
        }
    }
    depths
}
