//! What the signals that are asked by default make of the labels that real exporters write.

use midwatch::config::Signals;
use midwatch::world::promql::{Answer, SeriesStore, instant};

const NOW: i64 = 20 * 60_000;

/// Counters by what they grow a minute.
fn counters(counters: &[(&str, &[(&str, &str)], f64)]) -> SeriesStore {
    let mut store = SeriesStore::new();
    for (name, labels, growth) in counters {
        for minute in 0..=20_i64 {
            store.append(name, labels, minute * 60_000, minute as f64 * growth);
        }
    }
    store
}

fn gauges(gauges: &[(&str, &[(&str, &str)], f64)]) -> SeriesStore {
    let mut store = SeriesStore::new();
    for (name, labels, value) in gauges {
        store.append(name, labels, NOW, *value);
    }
    store
}

#[track_caller]
fn check(store: &SeriesStore, signal: &str, expected: &[(&str, f64)]) {
    let queries = Signals::of("http://prometheus", None).query;
    let query = &queries.iter().find(|query| query.name == signal).unwrap().promql;
    let Answer::Vector(rows) = instant(store, query, NOW, NOW).unwrap() else { panic!("{signal}: no vector") };
    let mut told: Vec<(String, f64)> = rows
        .iter()
        .map(|(labels, (_, value))| {
            (labels.get("service").cloned().unwrap_or_default(), (value * 1000.0).round() / 1000.0)
        })
        .collect();
    told.sort_by(|one, other| one.0.cmp(&other.0));
    let told: Vec<(&str, f64)> = told.iter().map(|(service, value)| (service.as_str(), *value)).collect();
    assert_eq!(told, expected, "{signal}");
}

#[test]
fn a_failing_service_is_seen_whatever_its_library_calls_the_status() {
    const SERVER: (&str, &str) = ("span_kind", "SPAN_KIND_SERVER");
    let store = counters(&[
        ("http_requests_total", &[("service", "fastapi"), ("status", "5xx")], 90.0),
        ("http_requests_total", &[("service", "fastapi"), ("status", "2xx")], 10.0),
        ("http_requests_total", &[("service", "calm"), ("code", "200")], 10.0),
        // Nothing tells whether a request failed, so nothing is said.
        ("http_requests_total", &[("service", "silent")], 10.0),
        // Two of the labels on one series: it counts once.
        ("http_requests_total", &[("service", "twice"), ("code", "200"), ("status", "success")], 10.0),
        ("http_requests_total", &[("service", "twice"), ("code", "503"), ("status", "error")], 30.0),
        (
            "http_server_request_duration_seconds_count",
            &[("service", "collector"), ("service_name", "otel"), ("http_response_status_code", "500")],
            10.0,
        ),
        (
            "http_server_request_duration_seconds_count",
            &[("service", "collector"), ("service_name", "otel"), ("http_response_status_code", "200")],
            30.0,
        ),
        ("http_server_requests_seconds_count", &[("service", "spring"), ("status", "500")], 10.0),
        (
            "istio_requests_total",
            &[("reporter", "destination"), ("destination_service_name", "mesh"), ("response_code", "503")],
            10.0,
        ),
        (
            "istio_requests_total",
            &[("reporter", "source"), ("destination_service_name", "mesh"), ("response_code", "200")],
            10.0,
        ),
        (
            "traces_span_metrics_calls_total",
            &[SERVER, ("service_name", "traced"), ("status_code", "STATUS_CODE_ERROR")],
            10.0,
        ),
        ("traces_spanmetrics_calls_total", &[SERVER, ("service", "tempo"), ("status_code", "STATUS_CODE_UNSET")], 10.0),
    ]);
    check(
        &store,
        "errors",
        &[
            ("calm", 0.0),
            ("fastapi", 0.9),
            ("mesh", 1.0),
            ("otel", 0.25),
            ("spring", 1.0),
            ("tempo", 0.0),
            ("traced", 1.0),
            ("twice", 0.75),
        ],
    );
}

#[test]
fn a_latency_is_read_from_a_histogram_in_seconds() {
    let bucket = |name, label, service, le, growth| (name, [(label, service), ("le", le)], growth);
    let rows = [
        bucket("http_request_duration_seconds_bucket", "service", "own", "0.1", 0.0),
        bucket("http_request_duration_seconds_bucket", "service", "own", "0.2", 10.0),
        bucket("http_request_duration_seconds_bucket", "service", "own", "+Inf", 10.0),
        bucket("istio_request_duration_milliseconds_bucket", "destination_service_name", "mesh", "100", 0.0),
        bucket("istio_request_duration_milliseconds_bucket", "destination_service_name", "mesh", "200", 10.0),
        bucket("istio_request_duration_milliseconds_bucket", "destination_service_name", "mesh", "+Inf", 10.0),
    ];
    let rows: Vec<(&str, &[(&str, &str)], f64)> =
        rows.iter().map(|(name, labels, growth)| (*name, labels.as_slice(), *growth)).collect();
    check(&counters(&rows), "latency_p99", &[("mesh", 0.199), ("own", 0.199)]);
}

#[test]
fn a_share_is_read_though_its_two_sides_carry_other_labels() {
    let of_pool = [("service_name", "shop"), ("instance", "a"), ("pool_name", "orders")];
    let used = [of_pool[0], of_pool[1], of_pool[2], ("state", "used")];
    let idle = [of_pool[0], of_pool[1], of_pool[2], ("state", "idle")];
    let store = gauges(&[
        ("db_client_connections_usage", &used, 9.0),
        ("db_client_connections_usage", &idle, 1.0),
        ("db_client_connections_max", &of_pool, 10.0),
        ("hikaricp_connections_active", &[("service", "java"), ("pool", "h")], 3.0),
        ("hikaricp_connections_max", &[("service", "java"), ("pool", "h")], 10.0),
    ]);
    check(&store, "pool", &[("java", 0.3), ("shop", 0.9)]);
    let of = |database| [("service", "orders-db"), ("instance", "x"), ("datname", database), ("state", "active")];
    let store = gauges(&[
        ("pg_stat_activity_count", &of("orders"), 60.0),
        ("pg_stat_activity_count", &of("postgres"), 30.0),
        ("pg_settings_max_connections", &[("service", "orders-db"), ("instance", "x"), ("server", "x:5432")], 100.0),
        ("mysql_global_status_threads_connected", &[("service", "mysql"), ("instance", "y")], 75.0),
        ("mysql_global_variables_max_connections", &[("service", "mysql"), ("instance", "y")], 150.0),
    ]);
    check(&store, "db_connections", &[("mysql", 0.5), ("orders-db", 0.9)]);
}
