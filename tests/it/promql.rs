//! The simulated estate's PromQL beside a real Prometheus that holds the same samples.
//!
//! The subset is what `src/world/promql` names: all selectors, operators and aggregations, and the
//! functions listed below. Questions are drawn from a grammar over the metrics that are there, so that
//! they are not those which the product asks. They are asked at times between samples, because the
//! ends of ranges became half open with Prometheus 3 (as in the estate) and Debian's is older.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use midwatch::domain::signal_scope::SignalScope;
use midwatch::world::{Estate, NightOptions};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::harness::{Running, free_address};

const HOUR: i64 = 3600;
const QUESTIONS: usize = 600;
const OVER_TIME: [&str; 10] = ["avg", "sum", "min", "max", "count", "last", "present", "stddev", "stdvar", "quantile"];
const OF_COUNTERS: [&str; 4] = ["rate", "increase", "irate", "resets"];
const OF_GAUGES: [&str; 4] = ["delta", "idelta", "deriv", "changes"];
const OF_NUMBERS: [&str; 9] = ["abs", "ceil", "floor", "sqrt", "ln", "exp", "log2", "log10", "sgn"];
const AGGREGATES: [&str; 9] = ["sum", "avg", "min", "max", "count", "stddev", "stdvar", "group", "quantile"];
/// Not `%`: it turns the last bit of a sum, which depends on the order of adding, into whole numbers.
const ARITHMETIC: [&str; 5] = ["+", "-", "*", "/", "^"];
const COMPARE: [&str; 6] = ["==", "!=", ">", "<", ">=", "<="];

/// Series of one name with their samples (seconds, value as Prometheus writes it).
type Samples = BTreeMap<String, Vec<(BTreeMap<String, String>, Vec<(f64, String)>)>>;

async fn ask(http: &reqwest::Client, base: &str, path: &str, parameters: &[(&str, String)]) -> Value {
    let answer = http.get(format!("{base}{path}")).query(parameters).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

fn labels_of(metric: &Value) -> BTreeMap<String, String> {
    metric.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// The last three hours of a few series of each metric.
async fn samples(http: &reqwest::Client, base: &str, at: i64) -> Samples {
    let names = ask(http, base, "/api/v1/label/__name__/values", &[]).await;
    let mut all = Samples::new();
    for name in names["data"].as_array().unwrap() {
        let name = name.as_str().unwrap().to_owned();
        let parameters = [("query", format!("{name}[3h]")), ("time", at.to_string())];
        let answer = ask(http, base, "/api/v1/query", &parameters).await;
        for series in answer["data"]["result"].as_array().unwrap() {
            let mut labels = labels_of(&series["metric"]);
            labels.remove("__name__");
            let points = series["values"].as_array().unwrap().iter();
            let points = points.map(|point| (point[0].as_f64().unwrap(), point[1].as_str().unwrap().to_owned()));
            all.entry(name.clone()).or_default().push((labels, points.collect()));
        }
    }
    all
}

fn open_metrics(samples: &Samples) -> String {
    let mut text = String::new();
    for (name, series) in samples {
        for (labels, points) in series {
            let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let labels: Vec<String> =
                labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
            for (at, value) in points {
                writeln!(text, "{name}{{{}}} {value} {at}", labels.join(",")).unwrap();
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

struct Grammar<'a> {
    random: StdRng,
    samples: &'a Samples,
    counters: Vec<&'a str>,
    gauges: Vec<&'a str>,
}

impl<'a> Grammar<'a> {
    fn new(samples: &'a Samples, seed: u64) -> Self {
        let (counters, gauges) = samples
            .keys()
            .map(String::as_str)
            .partition(|name| name.ends_with("_total") || name.ends_with("_bucket") || name.ends_with("_count"));
        Self { random: StdRng::seed_from_u64(seed), samples, counters, gauges }
    }

    fn one<'b>(&mut self, of: &[&'b str]) -> &'b str {
        of.choose(&mut self.random).copied().unwrap()
    }

    fn name(&mut self, counter: bool) -> &'a str {
        let of = if counter { &self.counters } else { &self.gauges };
        of.choose(&mut self.random).copied().unwrap()
    }

    /// A label that series of the name have, with a value.
    fn label(&mut self, name: &str) -> Option<(String, String)> {
        let series = self.samples[name].choose(&mut self.random)?;
        let all: Vec<_> = series.0.iter().collect();
        all.choose(&mut self.random).map(|(key, value)| ((*key).clone(), (*value).clone()))
    }

    fn selector(&mut self, name: &str) -> String {
        let Some((key, value)) = self.label(name) else { return name.to_owned() };
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let start: String = value.chars().take(2).collect();
        match self.random.random_range(0..6) {
            0 | 1 => name.to_owned(),
            2 => format!("{name}{{{key}=\"{}\"}}", quoted(&value)),
            3 => format!("{name}{{{key}!=\"{}\"}}", quoted(&value)),
            4 => format!("{name}{{{key}=~\"{}.*\"}}", quoted(&regex::escape(&start))),
            _ => format!("{name}{{{key}!~\"{}.*|nothing\"}}", quoted(&regex::escape(&start))),
        }
    }

    fn shifted(&mut self, selector: String) -> String {
        match self.random.random_range(0..5) {
            0 => format!("{selector} offset 13m"),
            _ => selector,
        }
    }

    /// A function of a range.
    fn over_time(&mut self) -> String {
        let counter = self.random.random_bool(0.6);
        let name = self.name(counter);
        let selector = self.selector(name);
        let range = self.one(&["5m", "10m", "1h", "17m"]);
        let selector = self.shifted(format!("{selector}[{range}]"));
        match self.random.random_range(0..3) {
            0 if counter => format!("{}({selector})", self.one(&OF_COUNTERS)),
            0 => match self.random.random_bool(0.2) {
                true => format!("predict_linear({selector}, 3600)"),
                false => format!("{}({selector})", self.one(&OF_GAUGES)),
            },
            1 if counter => format!("rate({selector})"),
            _ => match self.one(&OVER_TIME) {
                "quantile" => format!("quantile_over_time(0.9, {selector})"),
                other => format!("{other}_over_time({selector})"),
            },
        }
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.random_bool(0.5) {
                true => self.over_time(),
                false => {
                    let name = self.name(false);
                    let selector = self.selector(name);
                    self.shifted(selector)
                }
            };
        }
        match self.random.random_range(0..12) {
            0 | 1 => self.over_time(),
            2..=4 => self.aggregate(depth),
            5 => format!("{}({})", self.one(&OF_NUMBERS), self.vector(depth - 1)),
            6 => format!("({}) {} {}", self.vector(depth - 1), self.one(&ARITHMETIC), self.number()),
            7 => {
                let bool = if self.random.random_bool(0.5) { "bool " } else { "" };
                format!("({}) {} {bool}{}", self.vector(depth - 1), self.one(&COMPARE), self.number())
            }
            8 => {
                let name = self.name(false);
                let (one, other) = (self.selector(name), self.selector(name));
                format!("{one} {} {other}", self.one(&["and", "or", "unless", "+", "-", "/", "> bool"]))
            }
            9 => {
                // Both sides aggregated alike, so that they match one to one.
                let name = self.name(false);
                let label = self.label(name).map_or_else(|| "job".to_owned(), |(key, _)| key);
                let operator = self.one(&ARITHMETIC);
                format!("sum by ({label}) ({name}) {operator} on ({label}) avg by ({label}) ({name})")
            }
            10 => {
                let name = self.name(true);
                format!("max_over_time(rate({}[9m] offset 17s)[30m:3m])", self.selector(name))
            }
            _ => match self.random.random_range(0..5) {
                0 => format!("clamp({}, 0, 5)", self.vector(depth - 1)),
                1 => format!("round({}, 0.5)", self.vector(depth - 1)),
                2 => format!("clamp_min({}, 1)", self.vector(depth - 1)),
                3 => format!("absent({})", self.vector(depth - 1)),
                // Of one series: the deviation of NaN, which several give, was 0 until 2.5x.
                _ => format!("vector(scalar(sum({})))", self.vector(depth - 1)),
            },
        }
    }

    fn number(&mut self) -> String {
        self.one(&["0", "1", "2.5", "100", "1e6", "0.01"]).to_owned()
    }

    fn aggregate(&mut self, depth: usize) -> String {
        let name = self.name(false);
        let label = self.label(name).map_or_else(|| "job".to_owned(), |(key, _)| key);
        let inner = self.vector(depth - 1);
        let grouping = match self.random.random_range(0..3) {
            0 => String::new(),
            1 => format!("by ({label}) "),
            _ => format!("without ({label}) "),
        };
        match self.random.random_range(0..8) {
            // Rounded, because here the last bit of a number is a label.
            0 => format!("count_values {grouping}(\"value\", round({inner}))"),
            _ => match self.one(&AGGREGATES) {
                "quantile" => format!("quantile {grouping}(0.75, {inner})"),
                other => format!("{other} {grouping}({inner})"),
            },
        }
    }
}

/// The answer as comparable rows; errors by their kind only, their texts differ between versions.
fn rows(answer: &Value) -> Result<Vec<(String, Vec<(f64, f64)>)>, String> {
    if answer["status"] != "success" {
        return Err(answer["errorType"].as_str().unwrap_or("no error type").to_owned());
    }
    let point = |point: &Value| {
        let value = point[1].as_str().unwrap();
        let value = match value {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            other => other.parse().unwrap(),
        };
        (point[0].as_f64().unwrap(), value)
    };
    let result = &answer["data"]["result"];
    if answer["data"]["resultType"] == "scalar" {
        return Ok(vec![("scalar".to_owned(), vec![point(result)])]);
    }
    let mut rows: Vec<_> = result
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let points = match row["values"].as_array() {
                Some(values) => values.iter().map(point).collect(),
                None => vec![point(&row["value"])],
            };
            (format!("{:?}", labels_of(&row["metric"])), points)
        })
        .collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(rows)
}

/// Sums are added up in another order, and differences of large numbers keep their rounding.
fn near(one: f64, other: f64) -> bool {
    (one.is_nan() && other.is_nan())
        || one == other
        || (one - other).abs() <= 1e-7 * one.abs().max(other.abs()).max(1.0)
}

fn alike(ours: &Value, theirs: &Value) -> bool {
    match (rows(ours), rows(theirs)) {
        (Ok(ours), Ok(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(&theirs).all(|((label, points), (other, values))| {
                    let same = |(one, other): (&(f64, f64), &(f64, f64))| one.0 == other.0 && near(one.1, other.1);
                    label == other && points.len() == values.len() && points.iter().zip(values).all(same)
                })
        }
        (Err(ours), Err(theirs)) => ours == theirs,
        _ => false,
    }
}

fn is_installed() -> bool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let there =
        |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_installed = there("prometheus").is_ok() && there("promtool").is_ok();
    if !is_installed {
        eprintln!("skipped: prometheus and promtool are not installed");
    }
    is_installed
}

/// A real Prometheus that holds these samples, and its address.
async fn with(samples: &Samples, http: &reqwest::Client) -> (Running, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("samples"), folder.path().join("data"));
    std::fs::write(&file, open_metrics(samples)).unwrap();
    let mut import = Command::new("promtool");
    import.args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"]).arg(&file).arg(&data);
    let imported = import.output().unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    std::fs::write(folder.path().join("prometheus.yml"), "scrape_configs: []\n").unwrap();
    let address = free_address();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", data.display())).arg("--storage.tsdb.retention.time=100y");
    command.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    let real = format!("http://{address}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !http.get(format!("{real}/-/ready")).send().await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(Instant::now() < deadline, "Prometheus does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (running, real, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_estate_answers_as_a_real_prometheus_with_the_same_samples() {
    if !is_installed() {
        return;
    }
    let options = NightOptions { seed: 7, storm: 100, quiet_days: 1, after: None };
    let estate = Estate::serve(options).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = estate.prometheus_url().to_owned();
    let now = ask(&http, &base, "/api/v1/query", &[("query", "time()".to_owned())]).await;
    let now = now["data"]["result"][0].as_f64().unwrap() as i64;
    let samples = samples(&http, &base, now).await;
    assert!(samples.len() > 20, "{} metrics", samples.len());

    let (_real, real, _folder) = with(&samples, &http).await;

    let asked: Vec<String> =
        midwatch::config::Signals::of(&real, None).query.into_iter().map(|query| query.promql).collect();
    let mut grammar = Grammar::new(&samples, 11);
    let (mut answered, mut refused, mut different) = (0, 0, vec![]);
    for number in 0..QUESTIONS {
        // What the product itself asks comes first.
        let query = asked.get(number).cloned().unwrap_or_else(|| grammar.vector(3));
        // Between the samples, which stand on whole minutes.
        let at = now - HOUR / 2 + 17;
        let (path, parameters) = match number % 3 {
            0 => {
                let (start, end) = ((at - HOUR / 2).to_string(), at.to_string());
                let step = if number % 2 == 0 { "60" } else { "120" }.to_owned();
                ("/api/v1/query_range", vec![("query", query.clone()), ("start", start), ("end", end), ("step", step)])
            }
            _ => ("/api/v1/query", vec![("query", query.clone()), ("time", at.to_string())]),
        };
        let (ours, theirs) = futures::join!(ask(&http, &base, path, &parameters), ask(&http, &real, path, &parameters));
        match rows(&theirs) {
            Ok(rows) => answered += usize::from(!rows.is_empty()),
            Err(_) => refused += 1,
        }
        if !alike(&ours, &theirs) {
            let cut = |value: &Value| value.to_string().chars().take(600).collect::<String>();
            different.push(format!("{path} {query}\n  ours   {}\n  theirs {}", cut(&ours), cut(&theirs)));
        }
    }
    println!("{QUESTIONS} questions, {answered} with an answer, {refused} refused by both, {} differ", different.len());
    assert!(answered > QUESTIONS / 2, "{answered} questions have an answer");
    assert!(different.is_empty(), "{} of {QUESTIONS} differ\n{}", different.len(), different.join("\n"));
}

/// As kube-prometheus-stack labels what it scrapes: `service` is the Service of who has measured.
fn as_an_operator_labels(now: i64) -> Samples {
    let mut samples = Samples::new();
    let mut add = |name: &str, labels: &[(&str, &str)], of: &dyn Fn(i64) -> f64| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let points = (0..=60).map(|minute| ((now - 3600 + minute * 60) as f64, of(minute).to_string())).collect();
        samples.entry(name.to_owned()).or_default().push((labels, points));
    };
    let kubelet = ("service", "mon-kube-prometheus-stack-kubelet");
    let state = ("service", "mon-kube-state-metrics");
    let pods = [
        ("checkout-7c9f5d8b6d-x2x4q", "checkout", 0.9),
        ("checkout-7c9f5d8b6d-zzq7p", "checkout", 0.2),
        ("orders-db-0", "postgres", 0.5),
        ("log-agent-b4kxz", "agent", 0.1),
    ];
    for (pod, container, share) in pods {
        let of = [("namespace", "shop"), ("pod", pod), ("container", container)];
        let with = |more: &[(&'static str, &'static str)]| [&of[..], more].concat();
        add("container_memory_working_set_bytes", &with(&[kubelet, ("instance", "10.0.0.1:10250")]), &|_| share * 1e9);
        // The whole pod's, which has no limit of its own.
        let whole = [("namespace", "shop"), ("pod", pod), ("container", ""), kubelet];
        add("container_memory_working_set_bytes", &whole, &|_| 5e9);
        add("container_cpu_usage_seconds_total", &with(&[kubelet]), &|minute| minute as f64 * 60.0 * share);
        // Two of them beside each other say the same.
        for instance in ["10.0.0.8:8080", "10.0.0.9:8080"] {
            let limit = |resource| with(&[state, ("instance", instance), ("resource", resource)]);
            add("kube_pod_container_resource_limits", &limit("memory"), &|_| 1e9);
            add("kube_pod_container_resource_limits", &limit("cpu"), &|_| 2.0);
        }
        let restarts = with(&[state]);
        add("kube_pod_container_status_restarts_total", &restarts, &|minute| (minute / 10) as f64 * share);
    }
    for (metric, replicas) in
        [("kube_deployment_spec_replicas", 3.0), ("kube_deployment_status_replicas_available", 1.0)]
    {
        add(metric, &[("namespace", "shop"), ("deployment", "checkout"), state], &|_| replicas);
    }
    for (metric, bytes) in [("kubelet_volume_stats_available_bytes", 1e9), ("kubelet_volume_stats_capacity_bytes", 4e9)]
    {
        let claim = ("persistentvolumeclaim", "data-orders-db-0");
        add(metric, &[("namespace", "shop"), claim, kubelet], &|_| bytes);
    }
    for (metric, replicas) in [
        ("kube_horizontalpodautoscaler_status_current_replicas", 8.0),
        ("kube_horizontalpodautoscaler_spec_max_replicas", 10.0),
    ] {
        add(metric, &[("namespace", "shop"), ("horizontalpodautoscaler", "checkout"), state], &|_| replicas);
    }
    let exporter =
        [("instance", "10.0.0.1:9100"), ("job", "node-exporter"), ("service", "mon-prometheus-node-exporter")];
    let on = |more: &[(&'static str, &'static str)]| [&exporter[..], more].concat();
    add("node_uname_info", &on(&[("nodename", "worker-1")]), &|_| 1.0);
    add("node_cpu_seconds_total", &on(&[("cpu", "0"), ("mode", "idle")]), &|minute| minute as f64 * 15.0);
    add("node_cpu_seconds_total", &on(&[("cpu", "0"), ("mode", "user")]), &|minute| minute as f64 * 45.0);
    add("node_timex_offset_seconds", &on(&[]), &|_| -0.25);
    add("node_filesystem_avail_bytes", &on(&[("mountpoint", "/")]), &|_| 1e9);
    add("node_filesystem_size_bytes", &on(&[("mountpoint", "/")]), &|_| 5e9);
    // What somebody has relabelled with its own service stays with it.
    let own = [("namespace", "shop"), ("pod", "cart-7c9f5d8b6d-x2x4q"), ("container", "cart"), ("service", "basket")];
    add("container_memory_working_set_bytes", &own, &|_| 3e8);
    let limit = [&own[..3], &[state, ("resource", "memory")]].concat();
    add("kube_pod_container_resource_limits", &limit, &|_| 1e9);
    // A plain scrape of the kubelet names no service at all.
    let plain = [("namespace", "shop"), ("pod", "search-7c9f5d8b6d-x2x4q"), ("container", "search")];
    add("container_memory_working_set_bytes", &plain, &|_| 4e8);
    add("kube_pod_container_resource_limits", &[&plain[..], &[state, ("resource", "memory")]].concat(), &|_| 1e9);
    samples
}

#[tokio::test]
async fn the_default_signals_are_of_services_also_where_labels_name_who_has_measured() {
    if !is_installed() {
        return;
    }
    let now = 1_795_140_000;
    let found = measured(&as_an_operator_labels(now), &SignalScope::default(), now).await;
    expect_test::expect![[r#"
        autoscaler checkout 0.80
        clock worker-1 0.25
        cpu checkout 0.45
        cpu log-agent 0.05
        cpu orders-db 0.25
        filesystem worker-1 0.80
        host_cpu worker-1 0.75
        memory basket 0.30
        memory checkout 0.90
        memory log-agent 0.10
        memory orders-db 0.50
        memory search 0.40
        replicas_missing checkout 2.00
        restarts checkout 1.10
        restarts log-agent 0.10
        restarts orders-db 0.50
        volume orders-db 0.75"#]]
    .assert_eq(&found.join("\n"));
}

#[tokio::test]
async fn a_real_prometheus_of_two_clusters_measures_the_one_that_is_asked_about() {
    if !is_installed() {
        return;
    }
    let now = 1_795_140_000;
    let alone = as_an_operator_labels(now);
    let mut both = Samples::new();
    for (name, series) in &alone {
        for (cluster, factor) in [("e\"u", 1.0), ("us", 0.5)] {
            let of = series.iter().map(|(labels, points)| {
                let mut labels = labels.clone();
                labels.insert("cluster".to_owned(), cluster.to_owned());
                let lower = |value: &String| (value.parse::<f64>().unwrap() * factor).to_string();
                (labels, points.iter().map(|(at, value)| (*at, lower(value))).collect::<Vec<_>>())
            });
            both.entry(name.clone()).or_default().extend(of);
        }
    }
    let eu = SignalScope::of(Some("cluster"), None, &["e\"u"].into());
    assert_eq!(measured(&both, &eu, now).await, measured(&alone, &SignalScope::default(), now).await);
    // Of several, by a pattern.
    let most = SignalScope::of(Some("cluster"), None, &["e\"u", "asia"].into());
    assert_eq!(measured(&both, &most, now).await, measured(&both, &eu, now).await);
}

/// What a real Prometheus of these samples answers to the built-in queries.
async fn measured(samples: &Samples, scope: &SignalScope, now: i64) -> Vec<String> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (_running, real, _folder) = with(samples, &http).await;
    let signals = midwatch::config::Signals::of(&real, None);
    let mut found = vec![];
    for query in &signals.query {
        let asked = scope.promql(&query.promql).unwrap();
        let answer = ask(&http, &real, "/api/v1/query", &[("query", asked), ("time", now.to_string())]).await;
        assert_eq!(answer["status"], "success", "{}: {answer}", query.name);
        for row in answer["data"]["result"].as_array().unwrap() {
            let of = row["metric"][&query.label].as_str().unwrap_or("nobody");
            let value: f64 = row["value"][1].as_str().unwrap().parse().unwrap();
            found.push(format!("{} {of} {value:.2}", query.name));
        }
    }
    found.sort_unstable();
    found
}
