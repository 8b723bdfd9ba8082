use proptest::prelude::*;

use super::{Excerpt, Finding, Line, MAX_EXAMPLE, MAX_FINDINGS, Novelty, compare};
use crate::domain::time::Timestamp;

/// The baseline is minutes 0 to 60, the window minutes 60 to 80.
fn news(before: &[(i64, &str)], now: &[(i64, &str)]) -> Vec<Finding> {
    let lines = |lines: &[(i64, &'static str)]| -> Vec<Line<'static>> {
        lines.iter().map(|(secs, text)| Line { at: Timestamp::from_secs(*secs), text }).collect()
    };
    // The texts of the tests live as long as the tests.
    let leak = |lines: &[(i64, &str)]| -> Vec<(i64, &'static str)> {
        lines.iter().map(|(at, text)| (*at, &*Box::leak((*text).to_owned().into_boxed_str()))).collect()
    };
    let (before, now) = (lines(&leak(before)), lines(&leak(now)));
    let excerpt = |from, to, lines| Excerpt { from: Timestamp::from_secs(from), to: Timestamp::from_secs(to), lines };
    compare(excerpt(0, 3600, &before), excerpt(3600, 4800, &now))
}

fn check(before: &[(i64, &str)], now: &[(i64, &str)], expected: &[&str]) {
    let told: Vec<String> = news(before, now).iter().map(|one| format!("{} | {}", one.reason, one.template)).collect();
    assert_eq!(told, expected);
}

/// `count` times `text`, at even distances.
fn steady(text: &'static str, from: i64, to: i64, count: i64) -> Vec<(i64, &'static str)> {
    (0..count).map(|at| (from + (to - from) * at / count, text)).collect()
}

#[test]
fn new_templates_come_first_then_rates_then_what_vanished() {
    let before = [
        steady("served request 12 in 4 ms", 0, 3600, 600),
        steady("retry of order 7", 0, 3600, 30),
        steady("heartbeat sent", 0, 3600, 120),
        steady("cache refreshed with 9 keys", 0, 3600, 120),
    ];
    let now = [
        steady("served request 13 in 5 ms", 3600, 4800, 210),
        steady("retry of order 8", 3600, 4800, 100),
        steady("cache refreshed with 9 keys", 3600, 4800, 4),
        vec![(3700, "no connection to db-3 within 3000 ms"), (3800, "no connection to db-4 within 3000 ms")],
    ];
    check(
        &before.concat(),
        &now.concat(),
        &[
            "new: 2 lines in 20 min, none in the 60 min before | no connection to <*> within <*> ms",
            "10.0 times as often: 100 lines in 20 min, 30 in the 60 min before | retry of order <*>",
            "10.0 times as rare: 4 lines in 20 min, 120 in the 60 min before | cache refreshed with <*> keys",
            "vanished: none in 20 min, 120 lines in the 60 min before | heartbeat sent",
        ],
    );
    let first = &news(&before.concat(), &now.concat())[0];
    assert_eq!((first.novelty, first.first_at), (Novelty::New, Timestamp::from_secs(3700)));
    assert_eq!(first.example, "no connection to db-3 within 3000 ms");
}

#[test]
fn small_numbers_and_small_factors_are_no_news() {
    // Four lines instead of one: below the floor; 1.6 times as often: below the factor.
    let before = [steady("slow query", 0, 3600, 3), steady("served", 0, 3600, 3000)].concat();
    let now = [steady("slow query", 3600, 4800, 4), steady("served", 3600, 4800, 1600)].concat();
    check(&before, &now, &[]);
    // Two in the hour are not missed for twenty minutes.
    check(
        &[steady("served", 0, 3600, 300), steady("compacted", 0, 3600, 2)].concat(),
        &steady("served", 3600, 4800, 100),
        &[],
    );
}

#[test]
fn bursts_are_expected_of_what_comes_in_bursts() {
    let steady_before = steady("flush done", 0, 3600, 120);
    let burst = |from: i64| steady("flush done", from, from + 30, 60);
    let now = steady("flush done", 3600, 4800, 110);
    assert_eq!(news(&steady_before, &now).len(), 1);
    // As many lines, in two bursts: a third burst is the usual thing.
    assert_eq!(news(&[burst(600), burst(2400)].concat(), &now), []);
}

#[test]
fn an_empty_baseline_makes_all_new_but_an_unread_one_is_not_said_to_be_empty() {
    let now = steady("no connection", 3600, 4800, 10);
    check(&[], &now, &["new: 10 lines in 20 min, none in the 60 min before | no connection"]);
    let lines: Vec<Line<'_>> = now.iter().map(|(at, text)| Line { at: Timestamp::from_secs(*at), text }).collect();
    let [from, to] = [3600, 4800].map(Timestamp::from_secs);
    let found = compare(Excerpt { from, to: from, lines: &[] }, Excerpt { from, to, lines: &lines });
    assert_eq!(found[0].reason, "10 in 20 min; what was before is not known");
}

#[test]
fn names_of_many_users_are_one_template() {
    let before =
        [steady("session opened for user root", 0, 3600, 10), steady("session opened for user www", 0, 3600, 10)];
    check(&before.concat(), &[(3700, "session opened for user backup")], &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn findings_are_bounded_and_agree_with_the_lines(
        before in prop::collection::vec((0_i64..3600, "[a-d]{1,3} [a-d]{1,2} [0-9]"), 0..200),
        now in prop::collection::vec((3600_i64..4800, "[a-f]{1,3} [a-f]{1,2} [0-9]"), 0..200),
    ) {
        let refs = |lines: &[(i64, String)]| -> Vec<Line<'static>> {
            lines.iter().map(|(at, text)| Line { at: Timestamp::from_secs(*at), text: Box::leak(text.clone().into_boxed_str()) }).collect()
        };
        let (before, now) = (refs(&before), refs(&now));
        let excerpt = |from, to, lines| Excerpt { from: Timestamp::from_secs(from), to: Timestamp::from_secs(to), lines };
        let found = compare(excerpt(0, 3600, &before), excerpt(3600, 4800, &now));
        prop_assert!(found.len() <= MAX_FINDINGS);
        prop_assert!(found.windows(2).all(|pair| pair[0].novelty <= pair[1].novelty));
        for one in &found {
            prop_assert!(one.score.is_finite() && one.score >= 0.0);
            prop_assert!(one.example.len() <= MAX_EXAMPLE);
            prop_assert!(one.before <= before.len() && one.now <= now.len());
            match one.novelty {
                Novelty::New => prop_assert!(one.before == 0 && one.now > 0),
                Novelty::Vanished => prop_assert!(one.before > 0 && one.now == 0),
                Novelty::MoreOften => prop_assert!(one.now * 3 >= one.before * 2),
                Novelty::LessOften => prop_assert!(one.now > 0 && one.now * 3 * 2 <= one.before),
            }
        }
        // The order in which lines arrive in a window does not matter to the kinds of findings' counts.
        let again = compare(excerpt(0, 3600, &before), excerpt(3600, 4800, &now));
        prop_assert_eq!(found, again);
    }

    #[test]
    fn the_same_rate_is_seldom_news(seed in 0_u64..1_000) {
        // Poisson-like arrivals from a fixed generator: 120 lines an hour before and after.
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |from: i64, to: i64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            from + (state % (to - from) as u64) as i64
        };
        let before: Vec<(i64, &str)> = (0..120).map(|_| (next(0, 3600), "tick")).collect();
        let now: Vec<(i64, &str)> = (0..40).map(|_| (next(3600, 4800), "tick")).collect();
        prop_assert_eq!(news(&before, &now), vec![]);
    }
}
