use super::super::tests::{alert, instant, set};
use super::*;

fn window(name: &str, matchers: &str, schedule: Schedule) -> Window {
    Window { name: name.into(), matchers: set(matchers), schedule, kind: Kind::Maintenance }
}

fn once(start: &str, end: &str) -> Schedule {
    Schedule::Once { start: instant(start), end: instant(end) }
}

fn weekly(text: &str) -> Schedule {
    Schedule::Weekly(text.parse().unwrap())
}

fn check(schedule: &Schedule, inside: &[&str], outside: &[&str]) {
    for text in inside {
        assert!(schedule.contains(instant(text)), "{schedule:?} should hold {text}");
    }
    for text in outside {
        assert!(!schedule.contains(instant(text)), "{schedule:?} should not hold {text}");
    }
}

#[test]
fn a_single_window_holds_its_start_and_not_its_end() {
    let schedule = once("2026-11-21T02:00:00Z", "2026-11-21T04:00:00Z");
    check(
        &schedule,
        &["2026-11-21T02:00:00Z", "2026-11-21T03:59:59.999Z"],
        &["2026-11-21T01:59:59.999Z", "2026-11-21T04:00:00Z"],
    );
    assert_eq!(schedule.until(instant("2026-11-21T02:00:00Z")), Some(instant("2026-11-21T04:00:00Z")));
}

#[test]
fn a_weekly_window_follows_its_zone_and_may_run_over_midnight() {
    check(
        &weekly("sat,sun 02:00-06:00 Europe/Berlin"),
        &["2026-11-21T01:00:00Z", "2026-11-22T04:59:00Z", "2026-07-18T00:00:00Z"],
        &["2026-11-21T00:59:00Z", "2026-11-21T05:00:00Z", "2026-11-20T01:00:00Z", "2026-07-18T04:00:00Z"],
    );
    let nights = weekly("fri-sun 22:00-04:00");
    check(
        &nights,
        &["2026-11-20T22:00:00Z", "2026-11-21T03:59:00Z", "2026-11-22T23:00:00Z", "2026-11-23T03:59:00Z"],
        &["2026-11-20T03:00:00Z", "2026-11-21T04:00:00Z", "2026-11-23T04:00:00Z", "2026-11-23T22:00:00Z"],
    );
    assert_eq!(nights.until(instant("2026-11-20T23:00:00Z")), Some(instant("2026-11-21T04:00:00Z")));
    check(
        &weekly("Saturday-Mon 23:00-00:00"),
        &["2026-11-22T23:59:00Z"],
        &["2026-11-22T00:00:00Z", "2026-11-24T23:00:00Z"],
    );
}

#[test]
fn a_weekly_window_that_cannot_be_read_shows_the_shape() {
    for text in ["", "sat", "sat 02:00", "caturday 02:00-03:00", "sat 02:00-03:00 UTC now"] {
        let fault = text.parse::<Weekly>().unwrap_err().to_string();
        assert!(fault.contains("as in `sat,sun 02:00-06:00 Europe/Berlin`"), "{text}: {fault}");
    }
    assert!("sat 2:00-03:00".parse::<Weekly>().unwrap_err().to_string().contains("the time \"2:00\""));
    assert!("sat 02:00-03:00 Mars/Olympus".parse::<Weekly>().unwrap_err().to_string().contains("IANA"));
}

#[test]
fn the_first_window_that_covers_the_alert_is_named() {
    let day = || once("2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z");
    let all = vec![
        window("past", "service=pay", once("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z")),
        window("pattern", "service=~\"pa.+\",severity!=critical", day()),
        window("exact", "service=pay", day()),
    ];
    let windows = Windows::new(all).unwrap();
    let named = |labels: &str| {
        windows.mutes(&alert(labels), instant("2026-11-21T12:00:00Z")).map(|window| window.name.as_str())
    };
    assert_eq!(named("service=pay"), Some("pattern"));
    assert_eq!(named("service=pay,severity=critical"), Some("exact"));
    assert_eq!(named("service=cart"), None);
}

#[test]
fn windows_without_sense_are_refused() {
    let day = || once("2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z");
    let fault = |windows: Vec<Window>, expected: &str| {
        let found = Windows::new(windows).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    };
    fault(vec![window(" ", "a=b", day())], "window 1 has no name");
    fault(vec![window("w", "a=b", day()), window("w", "a=c", day())], "two windows are called \"w\"");
    fault(vec![window("w", "a!=b", day())], "covers every alert");
    fault(vec![window("w", "a=b", once("2026-11-21T00:00:00Z", "2026-11-21T00:00:00Z"))], "let it end after its start");
    fault(vec![window("w", "a=b", Schedule::Recurring(vec![]))], "recurs at no time");
    assert!(Windows::new(vec![window("w", "alertname=~\".+\"", day())]).is_ok());
}

#[test]
fn a_window_is_read_as_people_write_it() {
    let yaml = r#"
- name: nights
  matchers: '{service="pay", env=~"prod|stage"}'
  kind: maintenance
  schedule: !weekly sat,sun 02:00-06:00 Europe/Berlin
- name: month end
  matchers: [service=books]
  kind: change
  schedule: !recurring
  - days_of_month: ['-1']
"#;
    let windows: Vec<Window> = serde_yaml_ng::from_str(yaml).unwrap();
    assert_eq!(windows[0].matchers, set("service=pay,env=~\"prod|stage\""));
    assert_eq!(windows[1].kind.as_str(), "change");
    let json = serde_json::to_string(&windows).unwrap();
    assert!(json.contains(r#""schedule":{"weekly":"sat,sun 02:00-06:00 Europe/Berlin"}"#), "{json}");
    assert_eq!(serde_json::from_str::<Vec<Window>>(&json).unwrap(), windows);
}

#[test]
fn what_is_rolled_out_should_stay_up_and_what_is_worked_on_need_not() {
    let at = instant("2026-11-21T02:30:00Z");
    let all = once("2026-11-21T02:00:00Z", "2026-11-21T04:00:00Z");
    let mutes = |kind, severity: &str| {
        let window = Window { kind, ..window("release", r#"service="pay""#, all.clone()) };
        let alert = alert(&format!("alertname=Down,service=pay,severity={severity}"));
        Windows::new(vec![window]).unwrap().mutes(&alert, at).is_some()
    };
    assert!(mutes(Kind::Maintenance, "critical") && mutes(Kind::Maintenance, "warning"));
    assert!(!mutes(Kind::Change, "critical") && mutes(Kind::Change, "warning"));
}
