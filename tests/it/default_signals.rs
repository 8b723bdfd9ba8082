//! What the signals that are asked by default make of the labels that real exporters write.

use midwatch::config::Signals;
use midwatch::domain::signal_scope::SignalScope;
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

/// Whatever the built-in queries join, divide and rename.
#[test]
fn of_two_clusters_in_one_prometheus_each_is_measured_as_if_it_were_alone() {
    let server = ("span_kind", "SPAN_KIND_SERVER");
    let call = [("client", "web"), ("server", "pay")];
    let pod = [("namespace", "shop"), ("pod", "pay-7c9f5d8b6d-x2x4q"), ("container", "pay")];
    let on = [("instance", "10.0.0.1:9100"), ("job", "node-exporter")];
    let of = |labels: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]| [labels, more].concat();
    // Name, labels, what it grows by a minute in eu and in us.
    let series = [
        ("http_requests_total", vec![("service", "pay"), ("code", "200")], 90.0, 10.0),
        ("http_requests_total", vec![("service", "pay"), ("code", "503")], 10.0, 90.0),
        ("http_request_duration_seconds_bucket", vec![("service", "pay"), ("le", "0.1")], 50.0, 1.0),
        ("http_request_duration_seconds_bucket", vec![("service", "pay"), ("le", "1")], 100.0, 60.0),
        ("http_request_duration_seconds_bucket", vec![("service", "pay"), ("le", "+Inf")], 100.0, 100.0),
        (
            "traces_spanmetrics_calls_total",
            vec![server, ("service", "card"), ("status_code", "STATUS_CODE_ERROR")],
            1.0,
            9.0,
        ),
        ("traces_service_graph_request_total", call.to_vec(), 100.0, 50.0),
        ("traces_service_graph_request_failed_total", call.to_vec(), 1.0, 40.0),
        ("container_memory_working_set_bytes", pod.to_vec(), 1e7, 9e7),
        ("container_cpu_usage_seconds_total", pod.to_vec(), 6.0, 54.0),
        ("kube_pod_container_resource_limits", of(&pod, &[("resource", "memory")]), 1e8, 1e8),
        ("kube_pod_container_resource_limits", of(&pod, &[("resource", "cpu")]), 1.0, 1.0),
        ("kube_pod_container_status_restarts_total", pod.to_vec(), 0.0, 1.0),
        ("kube_deployment_spec_replicas", vec![("namespace", "shop"), ("deployment", "pay")], 3.0, 3.0),
        ("kube_deployment_status_replicas_available", vec![("namespace", "shop"), ("deployment", "pay")], 3.0, 1.0),
        ("node_uname_info", of(&on, &[("nodename", "worker-1")]), 0.05, 0.05),
        ("node_cpu_seconds_total", of(&on, &[("cpu", "0"), ("mode", "idle")]), 50.0, 5.0),
        ("node_cpu_seconds_total", of(&on, &[("cpu", "0"), ("mode", "user")]), 10.0, 55.0),
        ("node_filesystem_avail_bytes", of(&on, &[("mountpoint", "/")]), 4e9, 1e8),
        ("node_filesystem_size_bytes", of(&on, &[("mountpoint", "/")]), 5e9, 5e9),
    ];
    let (mut both, mut alone) = (SeriesStore::new(), SeriesStore::new());
    for (name, labels, in_eu, in_us) in &series {
        for minute in 0..=20_i64 {
            let (at, grown) = (minute * 60_000, minute as f64);
            alone.append(name, labels, at, grown * in_eu);
            both.append(name, &of(labels, &[("cluster", "eu")]), at, grown * in_eu);
            both.append(name, &of(labels, &[("cluster", "us")]), at, grown * in_us);
        }
    }
    let signals = Signals::of("http://prometheus", None);
    let eu = SignalScope::of(Some("cluster"), None, &["eu"].into());
    let answer = |store: &SeriesStore, query: &str| {
        let Answer::Vector(rows) = instant(store, query, NOW, NOW).unwrap() else { panic!("{query}: no vector") };
        let mut rows: Vec<String> = rows.iter().map(|(labels, (_, value))| format!("{labels:?} {value:.6}")).collect();
        rows.sort_unstable();
        rows
    };
    let queries = signals.query.iter().map(|query| (&query.name, &query.promql));
    let edges = signals.edges.iter().map(|edge| (&edge.name, &edge.promql));
    let mut differ = 0;
    for (name, query) in queries.chain(edges) {
        let scoped = answer(&both, &eu.promql(query).unwrap());
        assert_eq!(scoped, answer(&alone, query), "{name}");
        differ += usize::from(
            !scoped.is_empty() && instant(&both, query, NOW, NOW).is_ok() && scoped != answer(&both, query),
        );
    }
    assert!(differ >= 6, "asked of both at once, {differ} signals say something else");
}
