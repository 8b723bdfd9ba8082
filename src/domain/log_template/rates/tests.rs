use proptest::prelude::*;

use super::{MAX_SERVICES, News, Rates};
use crate::domain::log_template::novelty::Novelty;
use crate::domain::time::Timestamp;

/// `per_minute` lines of each text in each minute of `minutes`.
fn feed(rates: &mut Rates, minutes: std::ops::Range<i64>, texts: &[(&str, i64)]) -> Vec<News> {
    let mut news = vec![];
    for minute in minutes {
        for (text, per_minute) in texts {
            for at in 0..*per_minute {
                let at = Timestamp::from_millis(minute * 60_000 + at * 60_000 / per_minute);
                news.extend(rates.observe("shop", at, text));
            }
        }
    }
    news
}

fn told(news: &[News]) -> Vec<(Novelty, &str)> {
    news.iter().map(|one| (one.novelty, one.template.as_str())).collect()
}

#[test]
fn a_new_template_and_a_risen_rate_are_told_once_a_minute() {
    let mut rates = Rates::new();
    let usual = [("served request 5", 20), ("retry of order 7", 2)];
    assert_eq!(feed(&mut rates, 0..60, &usual), []);
    let news = feed(&mut rates, 60..61, &[("served request 6", 20), ("retry of order 9", 60), ("disk full", 3)]);
    assert_eq!(told(&news), [(Novelty::MoreOften, "retry of order <*>"), (Novelty::New, "disk full")]);
    assert!((news[0].usual - 2.0).abs() < 0.1, "{news:?}");
    assert_eq!(feed(&mut rates, 61..62, &usual), []);
}

#[test]
fn nothing_is_news_before_a_service_is_known() {
    let mut rates = Rates::new();
    assert_eq!(feed(&mut rates, 0..5, &[("served request 5", 40)]), []);
    assert_eq!(feed(&mut rates, 5..6, &[("disk full", 3)]), []);
}

#[test]
fn bursts_are_usual_for_what_comes_in_bursts() {
    let mut rates = Rates::new();
    for hour in 0..6 {
        feed(&mut rates, hour * 30..hour * 30 + 1, &[("flush done", 60)]);
        feed(&mut rates, hour * 30 + 1..hour * 30 + 30, &[("served request 5", 20)]);
    }
    assert_eq!(feed(&mut rates, 180..181, &[("flush done", 60)]), []);
    let mut steady = Rates::new();
    feed(&mut steady, 0..180, &[("flush done", 2), ("served request 5", 20)]);
    assert_eq!(told(&feed(&mut steady, 180..181, &[("flush done", 60)])), [(Novelty::MoreOften, "flush done")]);
}

#[test]
fn what_should_have_come_again_has_vanished() {
    let mut rates = Rates::new();
    feed(&mut rates, 0..60, &[("heartbeat sent", 4), ("served request 5", 20)]);
    feed(&mut rates, 60..64, &[("served request 5", 20)]);
    let minute = |minute: i64| Timestamp::from_millis(minute * 60_000);
    let gone = rates.vanished("shop", minute(64));
    assert_eq!(told(&gone), [(Novelty::Vanished, "heartbeat sent")]);
    assert_eq!((gone[0].count, gone[0].usual.round()), (4, 4.0));
    assert_eq!(rates.vanished("shop", minute(61)), []);
    assert_eq!(rates.vanished("unknown", minute(64)), []);
}

#[test]
fn the_service_that_was_silent_longest_is_forgotten() {
    let mut rates = Rates::new();
    for number in 0..MAX_SERVICES as i64 + 10 {
        rates.observe(&format!("service-{number}"), Timestamp::from_millis(number * 60_000), "up");
        assert!(rates.services.len() <= MAX_SERVICES);
    }
    assert!(!rates.services.contains_key("service-0") && rates.services.contains_key("service-73"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_lines_in_any_order_give_the_same_news_twice(
        lines in prop::collection::vec((-1_000_i64..10_000_000, "[a-c] [a-z]{0,3} [0-9]?"), 0..400),
    ) {
        let run = || {
            let mut rates = Rates::new();
            let news: Vec<_> = lines.iter().filter_map(|(at, line)| rates.observe("shop", Timestamp::from_millis(*at), line)).collect();
            (news, rates.vanished("shop", Timestamp::from_millis(20_000_000)))
        };
        let (news, gone) = run();
        prop_assert!(news.iter().chain(&gone).all(|one| one.usual.is_finite() && one.usual >= 0.0));
        prop_assert_eq!((news, gone), run());
    }
}
