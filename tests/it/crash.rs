//! The built program, killed with SIGKILL at every crash point, started again, and held against a
//! reference model: no lost alert, no double write, no write while paused, no orphaned card.
//!
//! The whole campaign: `MIDWATCH_CRASH_SEEDS=20 cargo test --test it crash::campaign -- --ignored --nocapture`;
//! most of a run is waiting, so `MIDWATCH_CRASH_AT_ONCE=6` shortens it on two cores.

#[path = "crash/chat.rs"]
pub mod chat;
#[path = "crash/model.rs"]
mod model;
#[path = "crash/run.rs"]
pub mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
pub use run::stored;
use run::{Outcome, Scenario, run};

/// A point that is not passed in a scenario is no point of it.
async fn points(scenario: Scenario) -> BTreeMap<String, usize> {
    let outcome = run(scenario, None, 0).await;
    assert!(outcome.violations.is_empty(), "{scenario:?} without a crash: {:#?}\n{}", outcome.violations, outcome.log);
    let mut passed = BTreeMap::new();
    for point in &outcome.passed {
        *passed.entry(point.clone()).or_insert(0) += 1;
    }
    passed
}

struct Job {
    scenario: Scenario,
    point: String,
    time: usize,
    seed: u64,
}

async fn all(jobs: Vec<Job>, at_once: usize) -> Vec<(String, Outcome)> {
    use futures::stream::{self, StreamExt as _};
    stream::iter(jobs)
        .map(|job| async move {
            let at = format!("{}:{}", job.point, job.time);
            let mut outcome = run(job.scenario, Some(&at), job.seed).await;
            let name = format!("{:?} {at} seed {}", job.scenario, job.seed);
            // A machine that is too busy to verify in time ends as one where nothing helped. What was
            // written twice, or lost, was written twice or lost: that is never tried again.
            // Nor is another test's that took its port before it was started.
            let taken = outcome.log.contains("Address already in use");
            let late = |one: &String| {
                one.starts_with("it does not come to an end")
                    || one.contains(" ended as ")
                    || (taken && one.starts_with("it ended by itself"))
            };
            if !outcome.violations.is_empty() && outcome.violations.iter().all(late) {
                eprintln!("{name}: once more, for {:?}", outcome.violations);
                outcome = run(job.scenario, Some(&at), job.seed).await;
            }
            // Hours of silence would say nothing.
            eprintln!("{name}: killed {}, violations {:?}", outcome.was_killed, outcome.violations);
            (name, outcome)
        })
        .buffer_unordered(at_once)
        .collect()
        .await
}

fn judge(ended: &[(String, Outcome)], began: Instant, points: usize) {
    let killed = ended.iter().filter(|(_, outcome)| outcome.was_killed).count();
    let broken: Vec<String> = ended
        .iter()
        .filter(|(_, outcome)| !outcome.violations.is_empty())
        .map(|(at, outcome)| format!("{at}: {:#?}\n{}", outcome.violations, outcome.log))
        .collect();
    let longest = ended.iter().map(|(_, outcome)| outcome.ready_again_ms).max().unwrap_or(0);
    eprintln!(
        "crash points: {points}; runs: {}; killed: {killed}; violations: {}; longest restart to ready: {longest} ms; {:.0} s",
        ended.len(),
        broken.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    // A time that is not reached again (a poll, a retry) leaves the process alive; a first time never does.
    assert!(killed * 10 >= ended.len() * 7, "only {killed} of {} runs were killed", ended.len());
}

/// Each point once, in the first scenario that passes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_once() {
    let began = Instant::now();
    let mut jobs: Vec<Job> = vec![];
    let mut known: BTreeSet<String> = BTreeSet::new();
    for scenario in Scenario::ALL {
        for point in points(scenario).await.into_keys() {
            if known.insert(point.clone()) {
                jobs.push(Job { scenario, point, time: 1, seed: 0 });
            }
        }
    }
    let points = known.len();
    assert!(points >= 60, "{points} crash points: {known:?}");
    let ended = all(jobs, 2).await;
    judge(&ended, began, points);
    let alive: Vec<&String> = ended.iter().filter(|(_, outcome)| !outcome.was_killed).map(|(at, _)| at).collect();
    assert!(alive.is_empty(), "a first passage always kills, but not {alive:?}");
}

/// Every point by so many seeds. A seed draws one of the passages of all scenarios, none twice before all
/// were drawn, and how late everybody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes most of an hour; the command stands at the head of this file"]
async fn campaign() {
    let began = Instant::now();
    let number =
        |name: &str, otherwise| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let seeds = number("MIDWATCH_CRASH_SEEDS", 20);
    let mut passages: BTreeMap<String, Vec<(Scenario, usize)>> = BTreeMap::new();
    for scenario in Scenario::ALL {
        for (point, times) in points(scenario).await {
            passages.entry(point).or_default().extend((1..=times).map(|time| (scenario, time)));
        }
    }
    // A release build has no crash points.
    assert!(passages.len() >= 60, "{} crash points: {:?}", passages.len(), passages.keys());
    let mut jobs: Vec<Job> = vec![];
    for (at, (point, passages)) in passages.iter_mut().enumerate() {
        passages.shuffle(&mut StdRng::seed_from_u64(at as u64));
        // The one that nothing has to repeat for comes first: it kills for certain.
        passages.sort_by_key(|(_, time)| *time != 1);
        let drawn = passages.iter().cycle().take(seeds);
        jobs.extend(drawn.zip(1..).map(|((scenario, time), seed)| Job {
            scenario: *scenario,
            point: point.clone(),
            time: *time,
            seed,
        }));
    }
    let ended = all(jobs, number("MIDWATCH_CRASH_AT_ONCE", 3)).await;
    judge(&ended, began, passages.len());
}
