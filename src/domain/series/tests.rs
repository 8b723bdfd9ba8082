use proptest::prelude::*;

use super::*;
use crate::domain::anomaly::SplitMix;

const STEP: i64 = 300;
const DAYS: i64 = 15;

/// A daily wave around 100 with some noise.
fn wave(at: i64, random: &mut SplitMix) -> f64 {
    let angle = (at % 86_400) as f64 / 86_400.0 * std::f64::consts::TAU;
    100.0 + 40.0 * angle.sin() + 4.0 * (random.unit() + random.unit() - 1.0)
}

/// Two weeks of the wave, then one day of it as `change` makes it.
fn last_day(change: impl Fn(i64, f64) -> f64) -> Vec<Verdict> {
    let (mut detector, mut random) = (Detector::new(1), SplitMix::new(5));
    let begin = (DAYS - 1) * 86_400;
    for at in (0..begin).step_by(STEP as usize) {
        detector.learn(at, &[wave(at, &mut random)]);
    }
    (begin..begin + 86_400)
        .step_by(STEP as usize)
        .map(|at| detector.observe(at, &[change(at - begin, wave(at, &mut random))]))
        .collect()
}

fn flagged(verdicts: &[Verdict]) -> Vec<usize> {
    verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_flagged()).map(|(at, _)| at).collect()
}

fn shape(verdict: &Verdict) -> Option<Shape> {
    verdict.reason.as_ref().map(|reason| reason.shape)
}

#[test]
fn a_usual_day_is_quiet() {
    assert_eq!(flagged(&last_day(|_, value| value)), Vec::<usize>::new());
}

#[test]
fn a_value_is_measured_against_each_baseline() {
    let night = |at: i64| at == 18 * 3_600;
    // At six in the evening the wave is lowest; the value is that of six in the morning.
    let verdicts = last_day(|at, value| if night(at) { 140.0 } else { value });
    let it = verdicts[(18 * 3_600 / STEP) as usize].distances;
    for distance in [it.usual, it.yesterday, it.last_week, it.recent, it.fence] {
        assert!(distance.is_some_and(|distance| distance > 5.0), "{it:?}");
    }
    let morning = verdicts[(6 * 3_600 / STEP) as usize].distances;
    assert!(morning.usual.is_some_and(|distance| distance.abs() < 2.0), "{morning:?}");
}

#[test]
fn a_spike_is_a_point() {
    let verdicts = last_day(|at, value| if at == 40 * STEP { value * 8.0 } else { value });
    assert_eq!(flagged(&verdicts), [40]);
    let reason = verdicts[40].reason.clone().expect("a reason");
    assert_eq!((reason.shape, reason.column), (Shape::Point, 0));
    assert!(reason.spreads > 5.0 && reason.high < reason.value, "{reason}");
}

#[test]
fn the_night_s_load_at_noon_is_contextual() {
    // The wave is highest at six in the morning; from there it stays up.
    let verdicts = last_day(|at, value| if at >= 6 * 3_600 { 140.0 + value / 100.0 } else { value });
    let first = flagged(&verdicts).first().copied().expect("flagged");
    assert!((72..200).contains(&first), "{first}");
    assert_eq!(shape(&verdicts[130]), Some(Shape::Contextual), "{:?}", verdicts[130]);
}

#[test]
fn a_slow_leak_is_found_though_no_row_is_far_from_the_row_before() {
    let verdicts = last_day(|at, value| value + 60.0 * at as f64 / 86_400.0);
    let first = flagged(&verdicts).first().copied().expect("flagged");
    assert!(first > 60, "{first}");
    assert!(verdicts[280].score < verdicts[100].score);
}

#[test]
fn a_leak_over_days_is_found_though_every_day_is_like_the_day_before() {
    let (mut detector, mut random) = (Detector::new(1), SplitMix::new(5));
    let mut scores = vec![];
    for at in (0..24 * 86_400).step_by(STEP as usize) {
        let leak = 9.0 * (at - 14 * 86_400).max(0) as f64 / 86_400.0;
        scores.push(detector.observe(at, &[wave(at, &mut random) + leak]));
    }
    let day = |day: usize| scores[day * 288..(day + 1) * 288].iter().map(|it| it.score).sum::<f64>() / 288.0;
    assert!(day(22) < 1.8 * day(13), "{} after {}", day(22), day(13));
    let drifts = scores[22 * 288..23 * 288].iter().filter(|it| shape(it) == Some(Shape::Collective)).count();
    assert!(drifts > 140, "{drifts}");
}

#[test]
fn nothing_is_said_before_something_is_known() {
    let mut detector = Detector::new(2);
    let nothing = Verdict { score: 0.0, reason: None, distances: Distances::default() };
    assert_eq!(detector.observe(0, &[1.0, 2.0]), nothing);
    assert_eq!(detector.observe(300, &[f64::NAN, f64::INFINITY]), nothing);
}

#[test]
fn a_missing_value_is_not_judged() {
    let (mut detector, mut random) = (Detector::new(2), SplitMix::new(1));
    for at in (0..3 * 86_400).step_by(STEP as usize) {
        let value = wave(at, &mut random);
        detector.observe(at, &[value, f64::NAN]);
    }
    let verdict = detector.observe(3 * 86_400, &[900.0, f64::NAN]);
    assert_eq!(verdict.reason.map(|reason| reason.column), Some(0));
}

/// Rows of 50 to 51, `step` seconds apart, ten of them at 500: whether each of those is worse than any other.
fn stand_out(step: i64, odd: impl Fn(i64) -> bool) -> bool {
    let (mut detector, mut random) = (Detector::new(1), SplitMix::new(3));
    let (mut worst, mut mildest) = (0.0_f64, -1.0_f64);
    for row in 0..1_000 {
        let value = if odd(row) { 500.0 } else { 50.0 + random.unit() };
        let score = detector.observe(row * step, &[value]).score;
        if odd(row) {
            mildest = mildest.max(score);
        } else {
            worst = worst.min(score);
        }
    }
    mildest < worst
}

#[test]
fn rows_that_follow_fast_are_compared_with_the_rows_before() {
    // A second apart, or rows that are counted.
    for step in [1, 5, 60, 300] {
        assert!(stand_out(step, |row| row >= 100 && row % 90 == 0), "{step}: one by one");
        assert!(stand_out(step, |row| (600..610).contains(&row)), "{step}: together");
    }
}

#[test]
fn a_season_of_fast_rows_is_still_one_of_days() {
    let (mut detector, mut random) = (Detector::new(1), SplitMix::new(5));
    for at in (0..3 * 86_400).step_by(60) {
        detector.learn(at, &[wave(at, &mut random)]);
    }
    let verdict = detector.observe(3 * 86_400, &[wave(0, &mut random)]);
    let Distances { usual, yesterday, last_week, .. } = verdict.distances;
    assert!(usual.is_some_and(|it| it.abs() < 2.0) && yesterday.is_some_and(|it| it.abs() < 2.0), "{verdict:?}");
    assert_eq!(last_week, None);
}

fn rows() -> impl Strategy<Value = Vec<(i64, f64)>> {
    prop::collection::vec((0i64..40_000, -1e12f64..1e12), 1..120)
}

/// Turns steps into instants.
fn observe(rows: &[(i64, f64)]) -> Vec<Verdict> {
    let mut detector = Detector::new(2);
    let mut at = 0;
    rows.iter()
        .map(|(step, value)| {
            at += step;
            detector.observe(at, &[*value, value.abs().sqrt()])
        })
        .collect()
}

proptest! {
    #[test]
    fn a_verdict_does_not_depend_on_later_rows(rows in rows(), kept in 0usize..120) {
        let kept = kept.min(rows.len());
        let (whole, part) = (observe(&rows), observe(&rows[..kept]));
        prop_assert_eq!(&whole[..kept], &part[..]);
    }

    #[test]
    fn scores_are_in_range(rows in rows()) {
        for verdict in observe(&rows) {
            prop_assert!((-1.0..=0.0).contains(&verdict.score), "{verdict:?}");
        }
    }
}

#[test]
fn a_job_that_runs_at_each_full_hour_is_usual_then_and_wild_at_another_time() {
    let mut random = SplitMix::new(7);
    let mut detector = Detector::new(1);
    let mut value = |minute: i64| {
        let peak = if minute % 60 == 0 { 80.0 } else { 0.0 };
        10.0 + peak + random.unit()
    };
    for minute in (0..14 * 1_440).step_by(5) {
        detector.learn(minute * 60, &[value(minute)]);
    }
    let day = 14 * 1_440;
    let flagged =
        (day..day + 1_440).step_by(5).filter(|minute| detector.observe(minute * 60, &[value(*minute)]).is_flagged());
    assert_eq!(flagged.count(), 0);
    let day = day + 1_440;
    for minute in (day..day + 125).step_by(5) {
        detector.observe(minute * 60, &[value(minute)]);
    }
    // The same height five minutes after the hour.
    let wild = detector.observe((day + 125) * 60, &[90.0]);
    assert!(wild.is_flagged(), "{wild:?}");
}

#[test]
fn a_value_that_is_missing_within_what_lasts_is_not_taken_for_usual() {
    let mut detector = Detector::new(1);
    for step in 0..2_016_i64 {
        detector.learn(step * 300, &[10.0 + (step % 7) as f64]);
    }
    let at = |step: i64| (2_016 + step) * 300;
    for step in 0..24 {
        detector.observe(at(step), &[90.0]);
    }
    let missing = detector.observe(at(24), &[f64::NAN]);
    assert!(missing.score < -0.4 && missing.reason.is_none(), "{missing:?}");
}
