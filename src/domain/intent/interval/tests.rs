use proptest::prelude::*;

use super::super::tests::instant;
use super::*;

fn read(yaml: &str) -> Result<TimeInterval, String> {
    serde_yaml_ng::from_str(yaml).map_err(|error| error.to_string())
}

/// The instants that are inside.
fn check(yaml: &str, inside: &[&str], outside: &[&str]) {
    let interval = read(yaml).unwrap();
    for text in inside {
        assert!(interval.contains(instant(text)), "{yaml} should hold {text}");
    }
    for text in outside {
        assert!(!interval.contains(instant(text)), "{yaml} should not hold {text}");
    }
    let written = serde_yaml_ng::to_string(&interval).unwrap();
    assert_eq!(read(&written).as_ref(), Ok(&interval), "written as {written}");
}

#[test]
fn times_hold_their_first_minute_and_not_their_last() {
    check(
        "times: [{start_time: 09:00, end_time: '17:00'}, {start_time: '23:30', end_time: '24:00'}]",
        &["2026-11-21T09:00:00Z", "2026-11-21T16:59:59.999Z", "2026-11-21T23:59:59.999Z"],
        &["2026-11-21T08:59:59.999Z", "2026-11-21T17:00:00Z", "2026-11-22T00:00:00Z"],
    );
}

#[test]
fn days_months_and_years_hold_both_ends() {
    check(
        "weekdays: ['monday:wednesday', Saturday]",
        &["2026-11-16T00:00:00Z", "2026-11-18T23:59:00Z", "2026-11-21T12:00:00Z"],
        &["2026-11-15T12:00:00Z", "2026-11-19T00:00:00Z", "2026-11-20T12:00:00Z"],
    );
    check(
        "months: ['1:3', 'may:August', 12]",
        &["2026-01-01T00:00:00Z", "2026-03-31T23:59:00Z", "2026-08-31T00:00:00Z", "2026-12-01T00:00:00Z"],
        &["2026-04-01T00:00:00Z", "2026-09-01T00:00:00Z"],
    );
    check(
        "years: ['2020:2022', 2030]",
        &["2020-01-01T00:00:00Z", "2022-12-31T23:59:00Z", "2030-06-01T00:00:00Z"],
        &["2019-12-31T23:59:00Z", "2023-01-01T00:00:00Z"],
    );
}

#[test]
fn days_of_the_month_count_from_either_end_and_are_clamped() {
    check(
        "days_of_month: ['1:5', '-3:-1']",
        &["2026-02-01T00:00:00Z", "2026-02-05T23:00:00Z", "2026-02-26T00:00:00Z", "2028-02-29T00:00:00Z"],
        &["2026-02-06T00:00:00Z", "2026-02-25T23:59:00Z", "2028-02-26T00:00:00Z"],
    );
    check("days_of_month: ['29:31']", &["2026-03-29T00:00:00Z"], &["2026-02-28T00:00:00Z", "2026-03-28T23:59:00Z"]);
    check("days_of_month: ['10:-10']", &["2026-02-10T00:00:00Z", "2026-02-19T00:00:00Z"], &["2026-02-20T00:00:00Z"]);
    check("days_of_month: [-1]", &["2026-12-31T00:00:00Z", "2026-04-30T00:00:00Z"], &["2026-12-30T00:00:00Z"]);
    check("days_of_month: ['-31:-30']", &["2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z"], &["2026-02-01T00:00:00Z"]);
    // The month whose clocks go forward keeps its last day.
    check(
        "{days_of_month: ['-1'], location: Europe/Berlin}",
        &["2026-03-30T22:00:00Z", "2026-03-31T21:59:00Z"],
        &["2026-03-30T21:59:00Z", "2026-03-31T22:00:00Z"],
    );
}

#[test]
fn fields_are_tested_in_the_zone_and_all_must_hold() {
    check(
        "{times: [{start_time: '09:00', end_time: '17:00'}], weekdays: ['monday:friday'], location: Australia/Sydney}",
        &["2026-11-22T22:00:00Z", "2026-06-14T23:00:00Z"],
        &["2026-11-22T21:59:00Z", "2026-06-14T22:00:00Z", "2026-11-20T22:00:00Z"],
    );
    check("{}", &["2026-11-22T22:00:00Z"], &[]);
    check("location: ''", &["2026-11-22T22:00:00Z"], &[]);
}

#[test]
fn faults_name_what_and_how_to_mend_it() {
    let fault = |yaml: &str, expected: &str| {
        let found = read(yaml).unwrap_err();
        assert!(found.contains(expected), "{yaml}: {found}");
    };
    fault("times: [{start_time: '9:00', end_time: '17:00'}]", "the time \"9:00\" cannot be read; write HH:MM");
    fault("times: [{start_time: '24:01', end_time: '17:00'}]", "the time \"24:01\"");
    fault("times: [{start_time: '22:00', end_time: '04:00'}]", "split a range over midnight into two");
    fault("times: [{start_time: '22:00'}]", "end_time");
    fault("weekdays: [mon]", "the weekday \"mon\" cannot be read; give a full English name");
    fault("weekdays: ['friday:monday']", "the week begins on sunday");
    fault("days_of_month: [0]", "the day of the month \"0\"");
    fault("days_of_month: ['-3:3']", "the range \"-3:3\"");
    fault("days_of_month: ['-1:-3']", "the range \"-1:-3\"");
    fault("months: [13]", "the month \"13\"");
    fault("years: ['2022:2020']", "the range \"2022:2020\"");
    fault("location: Local", "the location \"Local\" cannot be read; name a zone of the IANA database");
    fault("weekdays: []", "an empty list; name a range or remove the key");
    fault("times: []", "an empty list; name a range or remove the key");
    fault("weekday: [monday]", "unknown field `weekday`");
}

#[test]
fn the_end_follows_the_clock_through_its_shifts() {
    let end = |yaml: &str, at: &str| until(&[read(yaml).unwrap()], instant(at)).map(|end| end.to_string());
    let night = "{times: [{start_time: '01:00', end_time: '02:30'}], location: Europe/Berlin}";
    // An ordinary night; 29 March, when 02:00 is 03:00; 25 October, when 02:00 to 03:00 comes twice.
    assert_eq!(end(night, "2026-03-28T00:10:20Z").as_deref(), Some("2026-03-28T01:30:00.000Z"));
    assert_eq!(end(night, "2026-03-29T00:10:20Z").as_deref(), Some("2026-03-29T01:00:00.000Z"));
    assert_eq!(end(night, "2026-10-24T23:10:00Z").as_deref(), Some("2026-10-25T00:30:00.000Z"));
    assert_eq!(end(night, "2026-10-25T01:10:00Z").as_deref(), Some("2026-10-25T01:30:00.000Z"));
    assert_eq!(end("weekdays: [saturday, sunday]", "2026-11-21T12:00:00Z"), Some("2026-11-23T00:00:00.000Z".into()));
    assert_eq!(end("{}", "2026-11-21T12:00:00Z"), None);
    let halves =
        ["times: [{start_time: '00:00', end_time: '12:00'}]", "times: [{start_time: '12:00', end_time: '18:00'}]"];
    let halves = halves.map(|half| read(half).unwrap());
    assert_eq!(until(&halves, instant("2026-11-21T06:00:00Z")), Some(instant("2026-11-21T18:00:00Z")));
}

fn interval() -> impl Strategy<Value = TimeInterval> {
    let times = prop::option::of((0_u32..23, 1_u32..4).prop_map(|(hour, half_hours)| {
        vec![TimeRange::new(hour * 60 + 30, (hour * 60 + 30 + half_hours * 30).min(1440)).unwrap()]
    }));
    let days = prop::option::of((0_u8..7, 0_u8..7).prop_map(|(one, other)| {
        let day = |number: u8| WeekdayRange::single(Weekday::try_from(number).unwrap());
        Ranges(vec![day(one), day(other)])
    }));
    let zone = prop::sample::select(vec![
        None,
        Some(Tz::Europe__Berlin),
        Some(Tz::Australia__Lord_Howe),
        Some(Tz::Asia__Kathmandu),
    ]);
    (times, days, zone).prop_map(|(times, weekdays, location)| TimeInterval {
        times,
        weekdays,
        location,
        ..TimeInterval::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_end_is_the_first_minute_outside(
        intervals in prop::collection::vec(interval(), 1..3),
        // Days around the shifts of the clocks, north and south.
        start in prop::sample::select(vec!["2026-03-27T00:00:00Z", "2026-10-23T00:00:00Z", "2026-04-03T00:00:00Z", "2026-10-02T00:00:00Z"]),
        minutes in 0_u32..4320,
    ) {
        let at = instant(start) + MINUTE * minutes;
        let week = (0..8 * 24 * 60).map(|later| at + MINUTE * later);
        let walked = week.into_iter().find(|at| !contains(&intervals, *at));
        prop_assert_eq!(until(&intervals, at), walked);
    }
}
