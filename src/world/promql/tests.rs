use super::*;

const NOW: i64 = 3_600_000;

/// An hour of samples a minute apart, and one sample from the future.
fn world() -> SeriesStore {
    let mut store = SeriesStore::new();
    let requests =
        [("a", "200", 60.0, i64::MAX), ("a", "500", 6.0, i64::MAX), ("b", "200", 120.0, 58), ("b", "500", 12.0, 58)];
    for (service, code, step, reset) in requests {
        let id = store.series("http_requests_total", &[("service", service), ("code", code)]);
        for minute in 0..=60_i64 {
            let grown = if minute < reset { minute } else { minute - reset };
            store.push(id, minute * 60_000, grown as f64 * step);
        }
        store.push(id, NOW + 60_000, 1e9);
    }
    for (service, team, value) in [("a", "red", 2.0), ("b", "blue", -3.5)] {
        for minute in 0..=60_i64 {
            store.append("temp", &[("service", service)], minute * 60_000, value + minute as f64);
            store.append("owner", &[("service", service), ("team", team)], minute * 60_000, 1.0);
        }
    }
    for (le, count) in [("0.1", 50.0), ("0.5", 90.0), ("1", 100.0), ("+Inf", 100.0)] {
        store.append("lat_bucket", &[("le", le)], NOW, count);
    }
    store.append("gone", &[], NOW - LOOKBACK, 1.0);
    store.append("almost_gone", &[], NOW - LOOKBACK + 1000, 1.0);
    store.append("hole", &[], NOW, f64::NAN);
    store
}

fn show(result: Result<Answer>) -> String {
    let name = |labels: &Labels| {
        let metric = labels.get(NAME).map_or("", String::as_str);
        let rest: Vec<String> = labels.iter().filter(|(k, _)| *k != NAME).map(|(k, v)| format!("{k}={v}")).collect();
        format!("{metric}{{{}}}", rest.join(","))
    };
    // Nine digits are enough to tell right from wrong, and hide the last bit's noise.
    let value = |v: f64| number((v * 1e9).round() / 1e9);
    match result {
        Ok(Answer::Scalar((_, v))) => value(v),
        Ok(Answer::Text(_, s)) => s,
        Ok(Answer::Vector(rows)) => {
            let rows: Vec<_> = rows.iter().map(|(l, (_, v))| format!("{} {}", name(l), value(*v))).collect();
            rows.join("; ")
        }
        Ok(Answer::Matrix(rows)) => {
            let row = |(l, points): &(Labels, Vec<Point>)| {
                let points: Vec<_> = points.iter().map(|(t, v)| format!("{}@{}", value(*v), t / 1000)).collect();
                format!("{} {}", name(l), points.join(" "))
            };
            rows.iter().map(row).collect::<Vec<_>>().join("; ")
        }
        Err(PromError::BadData(e)) => format!("bad_data: {e}"),
        Err(PromError::Execution(e)) => format!("execution: {e}"),
    }
}

/// Runs each query at `NOW`, or over `(start, end, step)` seconds, and compares what it shows.
#[track_caller]
fn check(cases: &[(&str, Option<(i64, i64, i64)>, &str)]) {
    let store = world();
    let mut wrong = Vec::new();
    for (query, grid, expected) in cases {
        let got = show(match grid {
            None => instant(&store, query, NOW, NOW),
            Some((start, end, step)) => range(&store, query, start * 1000, end * 1000, step * 1000, NOW),
        });
        let holds = if expected.ends_with('…') {
            got.starts_with(expected.trim_end_matches('…'))
        } else {
            got == *expected
        };
        if !holds {
            wrong.push(format!("{query}\n  want {expected}\n  got  {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn selectors() {
    check(&[
        ("temp", None, "temp{service=a} 62; temp{service=b} 56.5"),
        ("temp{service!=\"a\"}", None, "temp{service=b} 56.5"),
        ("temp{service=~\"a|c\"}", None, "temp{service=a} 62"),
        ("temp{service!~\"a.*\",team=\"\"}", None, "temp{service=b} 56.5"),
        ("{__name__=~\"te.p\",service=\"a\"}", None, "temp{service=a} 62"),
        ("temp{service=\"a\"} offset 10m", None, "temp{service=a} 52"),
        ("temp{service=\"a\"} @ 600", None, "temp{service=a} 12"),
        ("temp{service=\"a\"} @ start()", Some((0, 120, 60)), "temp{service=a} 2@0 2@60 2@120"),
        ("gone", None, ""),
        ("almost_gone", None, "almost_gone{} 1"),
        ("nope", None, ""),
        ("temp{service=\"a\"}[2m]", None, "temp{service=a} 61@3540 62@3600"),
        ("temp{service=\"a\"}", Some((3540, 3720, 60)), "temp{service=a} 61@3540 62@3600"),
        ("temp", Some((3660, 3720, 60)), ""),
        ("\"text\"", None, "text"),
    ]);
}

#[test]
fn range_functions() {
    check(&[
        ("rate(http_requests_total{service=\"a\"}[5m])", None, "{code=200,service=a} 1; {code=500,service=a} 0.1"),
        ("increase(http_requests_total{service=\"a\",code=\"200\"}[5m])", None, "{code=200,service=a} 300"),
        // 56, 57, reset to 0, 1, 2 minutes' worth: three minutes of growth in four.
        ("rate(http_requests_total{service=\"b\",code=\"200\"}[5m])", None, "{code=200,service=b} 1.5"),
        ("resets(http_requests_total{service=\"b\",code=\"200\"}[5m])", None, "{code=200,service=b} 1"),
        ("irate(http_requests_total{service=\"b\",code=\"200\"}[5m])", None, "{code=200,service=b} 2"),
        ("rate(http_requests_total{code=\"200\"}[1m])", None, ""),
        ("delta(temp{service=\"a\"}[5m])", None, "{service=a} 5"),
        ("idelta(temp{service=\"a\"}[5m])", None, "{service=a} 1"),
        ("deriv(temp{service=\"a\"}[5m]) * 60", None, "{service=a} 1"),
        ("predict_linear(temp{service=\"a\"}[5m], 120)", None, "{service=a} 64"),
        ("changes(temp{service=\"a\"}[5m])", None, "{service=a} 4"),
        ("avg_over_time(temp{service=\"a\"}[5m])", None, "{service=a} 60"),
        ("min_over_time(temp{service=\"a\"}[5m])", None, "{service=a} 58"),
        ("max_over_time(temp{service=\"a\"}[5m])", None, "{service=a} 62"),
        ("sum_over_time(temp{service=\"a\"}[5m])", None, "{service=a} 300"),
        ("count_over_time(temp{service=\"a\"}[5m])", None, "{service=a} 5"),
        ("last_over_time(temp{service=\"a\"}[5m])", None, "temp{service=a} 62"),
        ("stddev_over_time(temp{service=\"a\"}[5m])", None, "{service=a} 1.414213562"),
        ("quantile_over_time(0.5, temp{service=\"a\"}[5m])", None, "{service=a} 60"),
        ("present_over_time(temp{service=\"a\"}[5m])", None, "{service=a} 1"),
        ("absent_over_time(temp{service=\"z\"}[5m])", None, "{service=z} 1"),
        ("absent_over_time(temp[5m])", None, ""),
        ("max_over_time(temp{service=\"a\"}[5m:1m])", None, "{service=a} 62"),
        (
            "max_over_time(rate(http_requests_total{code=\"500\"}[5m])[10m:])",
            None,
            "{code=500,service=a} 0.1; {code=500,service=b} 0.2",
        ),
        ("sum_over_time(vector(1)[10m:1m])", Some((600, 720, 60)), "{} 10@600 10@660 10@720"),
        ("rate({__name__=~\"temp|owner\",service=\"a\"}[5m] offset 1m)", None, "{service=a} 0.0166…"),
        ("rate({__name__=~\"temp|owner\"}[5m])", None, "{service=a} 0.0166…"),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("abs(-temp{service=\"a\"})", None, "{service=a} 62"),
        ("ceil(temp{service=\"b\"})", None, "{service=b} 57"),
        ("floor(temp{service=\"b\"})", None, "{service=b} 56"),
        ("round(temp{service=\"b\"})", None, "{service=b} 57"),
        ("round(temp{service=\"b\"}, 10)", None, "{service=b} 60"),
        ("clamp(temp, 57, 60)", None, "{service=a} 60; {service=b} 57"),
        ("clamp(temp, 60, 57)", None, ""),
        ("clamp_min(temp, 60)", None, "{service=a} 62; {service=b} 60"),
        ("clamp_max(temp, 60)", None, "{service=a} 60; {service=b} 56.5"),
        ("sqrt(vector(16))", None, "{} 4"),
        ("ln(exp(vector(2)))", None, "{} 2"),
        ("log2(vector(8))", None, "{} 3"),
        ("log10(vector(0))", None, "{} -Inf"),
        ("scalar(temp{service=\"a\"})", None, "62"),
        ("scalar(temp)", None, "NaN"),
        ("time()", None, "3600"),
        ("timestamp(almost_gone)", None, "{} 3301"),
        ("timestamp(almost_gone + 0)", None, "{} 3600"),
        ("sort(temp)", None, "temp{service=b} 56.5; temp{service=a} 62"),
        ("sort_desc(temp)", None, "temp{service=a} 62; temp{service=b} 56.5"),
        ("absent(temp)", None, ""),
        ("absent(temp{service=\"z\",team=~\"x\"})", None, "{service=z} 1"),
        (
            "label_replace(temp{service=\"a\"}, \"s\", \"$1-x\", \"service\", \"(.*)\")",
            None,
            "temp{s=a-x,service=a} 62",
        ),
        (
            "label_join(owner{service=\"a\"}, \"j\", \"/\", \"service\", \"team\")",
            None,
            "owner{j=a/red,service=a,team=red} 1",
        ),
        ("histogram_quantile(0.9, lat_bucket)", None, "{} 0.5"),
        ("histogram_quantile(0.7, lat_bucket)", None, "{} 0.3"),
        ("histogram_quantile(1, lat_bucket)", None, "{} 1"),
    ]);
}

#[test]
fn aggregations() {
    check(&[
        ("sum(temp)", None, "{} 118.5"),
        ("avg(temp)", None, "{} 59.25"),
        ("min(temp)", None, "{} 56.5"),
        ("max(temp)", None, "{} 62"),
        ("max(hole or temp)", None, "{} 62"),
        ("count(http_requests_total)", None, "{} 4"),
        ("group(temp)", None, "{} 1"),
        ("stddev(temp)", None, "{} 2.75"),
        ("quantile(0.5, temp)", None, "{} 59.25"),
        ("sum by (service)(rate(http_requests_total{service=\"a\"}[5m]))", None, "{service=a} 1.1"),
        ("count without (code)(http_requests_total)", None, "{service=a} 2; {service=b} 2"),
        ("topk(1, temp)", None, "temp{service=a} 62"),
        ("topk(5, temp)", None, "temp{service=a} 62; temp{service=b} 56.5"),
        ("bottomk(5, temp)", None, "temp{service=b} 56.5; temp{service=a} 62"),
        (
            "topk by (service)(1, http_requests_total{service=\"a\"})",
            None,
            "http_requests_total{code=200,service=a} 3600",
        ),
        ("count_values(\"v\", owner)", None, "{v=1} 2"),
        ("sum(nope)", None, ""),
        (
            "count(-{__name__=~\"almost_gone|hole\"})",
            None,
            "execution: vector cannot contain metrics with the same labelset",
        ),
    ]);
}

#[test]
fn binary_operators() {
    check(&[
        ("2 + 3 * 2 ^ 2 % 5", None, "4"),
        ("1 > bool 2", None, "0"),
        ("temp * 2", None, "{service=a} 124; {service=b} 113"),
        ("100 - temp", None, "{service=a} 38; {service=b} 43.5"),
        ("temp > 60", None, "temp{service=a} 62"),
        ("60 < temp", None, "temp{service=a} 62"),
        ("temp > bool 60", None, "{service=a} 1; {service=b} 0"),
        ("temp - temp", None, "{service=a} 0; {service=b} 0"),
        ("temp == temp", None, "temp{service=a} 62; temp{service=b} 56.5"),
        ("temp / on (service) owner", None, "{service=a} 62; {service=b} 56.5"),
        ("temp * ignoring (team) owner", None, "{service=a} 62; {service=b} 56.5"),
        (
            "sum by (service, code)(http_requests_total{code=\"500\"}) * on (service) group_left (team) owner",
            None,
            "{code=500,service=a,team=red} 360; {code=500,service=b,team=blue} 24",
        ),
        (
            "owner * on (service) group_right (team) http_requests_total{code=\"500\"}",
            None,
            "{code=500,service=a,team=red} 360; {code=500,service=b,team=blue} 24",
        ),
        (
            "http_requests_total{code=\"500\"} / ignoring (code) http_requests_total{code=\"200\"}",
            None,
            "{service=a} 0.1; {service=b} 0.1",
        ),
        ("temp and temp > 60", None, "temp{service=a} 62"),
        ("temp unless temp > 60", None, "temp{service=b} 56.5"),
        ("temp{service=\"a\"} or temp", None, "temp{service=a} 62; temp{service=b} 56.5"),
        ("temp or on () vector(1)", None, "temp{service=a} 62; temp{service=b} 56.5"),
        ("nope or vector(0)", None, "{} 0"),
        (
            "temp > 61 or temp < 57",
            Some((3540, 3600, 60)),
            "temp{service=a} 62@3600; temp{service=b} 55.5@3540 56.5@3600",
        ),
        (
            "temp * on (service) http_requests_total",
            None,
            "execution: found duplicate series for the match group {service=…",
        ),
        ("http_requests_total * on (service) temp", None, "execution: multiple matches for labels: many-to-one…"),
        ("1 / 0", None, "+Inf"),
        ("0 / 0", None, "NaN"),
    ]);
}

#[test]
fn refusals() {
    let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
    let long = "1+".repeat(4000) + "1";
    check(&[
        ("", None, "bad_data: invalid parameter \"query\": …"),
        ("sum(", None, "bad_data: invalid parameter \"query\": parse error: …"),
        ("temp{", None, "bad_data: invalid parameter \"query\": parse error: …"),
        ("nosuch(temp)", None, "bad_data: invalid parameter \"query\": parse error: …"),
        ("rate(temp)", None, "bad_data: invalid parameter \"query\": parse error: expected type matrix…"),
        ("{a=~\".*\"}", None, "bad_data: invalid parameter \"query\": parse error: vector selector must contain…"),
        ("holt_winters(temp[5m], 0.5, 0.5)", None, "bad_data: …"),
        ("hour()", None, "bad_data: invalid parameter \"query\": unsupported function \"hour\""),
        (&deep, None, "bad_data: invalid parameter \"query\": expression is nested too deeply"),
        (&long, None, "bad_data: invalid parameter \"query\": expression is nested too deeply"),
        ("max_over_time(temp[100y:1ms])", None, "execution: query processing would load too many samples…"),
        (
            "temp[5m]",
            Some((0, 60, 60)),
            "bad_data: invalid parameter \"query\": invalid expression type \"range vector\"…",
        ),
        ("temp", Some((0, 11_001, 1)), "bad_data: exceeded maximum resolution of 11,000 points…"),
        ("temp", Some((60, 0, 1)), "bad_data: invalid parameter \"end\"…"),
        ("temp", Some((0, 60, 0)), "bad_data: invalid parameter \"step\"…"),
    ]);
}

#[test]
fn numbers_are_written_as_prometheus_does() {
    let cases = [
        (0.0, "0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (1e-7, "1e-07"),
        (1.5e21, "1.5e+21"),
        (1e20, "100000000000000000000"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
    ];
    for (value, expected) in cases {
        assert_eq!(number(value), expected);
    }
}

#[test]
fn late_samples_find_their_place() {
    let mut store = SeriesStore::new();
    for (at, value) in [(60_000, 2.0), (0, 1.0), (120_000, 3.0), (60_000, 9.0)] {
        store.append("m", &[("empty", "")], at, value);
    }
    assert_eq!(show(instant(&store, "m[3m]", 120_000, 120_000)), "m{} 1@0 9@60 3@120");
    assert_eq!(store.label_names().into_iter().collect::<Vec<_>>(), [NAME]);
    assert_eq!(store.label_values(NAME).into_iter().collect::<Vec<_>>(), ["m"]);
}

#[test]
fn a_week_over_a_hundred_series_is_quick() {
    let mut store = SeriesStore::new();
    const WEEK: i64 = 7 * 24 * 3600;
    for i in 0..100 {
        let (service, pod) = (format!("s{}", i % 10), format!("p{i}"));
        let id = store.series("http_requests_total", &[("service", &service), ("pod", &pod)]);
        for minute in 0..WEEK / 60 {
            store.push(id, minute * 60_000, minute as f64);
        }
    }
    let began = std::time::Instant::now();
    let query = "sum by (service)(rate(http_requests_total[5m]))";
    let answer = range(&store, query, 0, WEEK * 1000, 900_000, WEEK * 1000).unwrap();
    let took = began.elapsed();
    let Answer::Matrix(rows) = answer else { panic!("not a matrix") };
    assert_eq!(rows.len(), 10);
    eprintln!("a week took {took:?}");
    // 100 ms is the aim; a busy machine gets some slack.
    assert!(took.as_millis() < 400, "{took:?}");
}
