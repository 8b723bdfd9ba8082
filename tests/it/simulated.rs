//! The watch in a world whose clock stands still until it is turned: the real flow and store, the real
//! adapter before the simulated API server, and people, monitoring, chat and cluster that misbehave by
//! a seed. The process "dies" anywhere between two steps and is started again on the same store.
//!
//! `MIDWATCH_SEEDS=1..1001` plays a thousand, which takes a quarter of an hour on two cores; without it
//! fewer are played. A seed that once failed is in `KNOWN`.

mod around;
mod night;
mod truth;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seeds that found something: a plan that outlived a clock turned back, undos that were told and not
/// written, a sign of work after its answer.
const KNOWN: [u64; 6] = [2, 4, 7, 10, 13, 28];

/// How many are played when nobody says otherwise.
const PLAYED: u64 = 60;

fn seeds() -> Vec<u64> {
    let wanted = std::env::var("MIDWATCH_SEEDS").unwrap_or_default();
    let (from, to) = wanted.split_once("..").unwrap_or(("1", ""));
    let number = |text: &str, otherwise| text.parse().unwrap_or(otherwise);
    let (from, to) = (number(from, 1), number(to, PLAYED + 1));
    let known = KNOWN.iter().copied().filter(|seed| wanted.is_empty() && !(from..to).contains(seed));
    known.chain(from..to).collect()
}

#[test]
fn nights_with_faults_keep_every_promise() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // It takes a core for itself, as a night of the built program does.
    let _alone = crate::harness::one_night_at_a_time();
    let seeds = seeds();
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let sums: Mutex<night::Sums> = Mutex::default();
    let broken: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        // Other tests run beside it, unless somebody asked for many.
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..if seeds.len() > 500 { cores } else { cores.div_ceil(2) } {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    let (violations, sum) = night::play(*seed);
                    sums.lock().unwrap().add(&sum);
                    let mut broken = broken.lock().unwrap();
                    broken.extend(violations.into_iter().map(|what| format!("seed {seed}: {what}")));
                }
            });
        }
    });
    let (sums, broken) = (sums.into_inner().unwrap(), broken.into_inner().unwrap());
    println!("{} seeds in {:.0} s: {sums:?}; {} violations", seeds.len(), began.elapsed().as_secs_f64(), broken.len());
    assert!(broken.is_empty(), "{} violations:\n{}", broken.len(), broken.join("\n"));
    if seeds.len() >= 50 {
        assert!(sums.writes > 20 && sums.undone > 1 && sums.crashes > 50 && sums.faults > 200, "too tame: {sums:?}");
    }
}

#[test]
fn a_deadline_that_passed_while_nobody_looked_is_no_verdict() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _alone = crate::harness::one_night_at_a_time();
    let (outcome, facts) = night::away_after_the_write();
    assert_eq!(outcome, midwatch::domain::incident::Outcome::Verified, "{facts}");
}

#[test]
fn what_runs_by_itself_outlasts_a_status_writer() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _alone = crate::harness::one_night_at_a_time();
    for conflicts in [0, 3] {
        let (outcome, writes, facts) = night::restarted_by_itself(conflicts);
        let wanted = (midwatch::domain::incident::Outcome::Verified, 1);
        assert_eq!((outcome, writes), wanted, "{conflicts} conflicts: {facts}");
    }
}
