//! Requests that a service answers, under the names that common instrumentation gives them.

/// One way of counting requests; a service that is counted in several is read from the first.
struct Served {
    count: &'static str,
    /// Buckets of how long they took, and how many seconds one of their units has.
    buckets: (&'static str, &'static str),
    /// What else selects the side that answers, so that no request counts twice.
    side: &'static str,
    /// Labels that tell how a request ended: one of them is there.
    outcome: &'static [&'static str],
    failed: &'static str,
    /// Label that names the service; the scrape's own `service` would name the collector or the proxy.
    name: Option<&'static str>,
}

const SERVED: [Served; 7] = [
    // Client libraries of Prometheus and frameworks around them: each has another word for the status.
    Served {
        count: "http_requests_total",
        buckets: ("http_request_duration_seconds_bucket", ""),
        side: "",
        outcome: &["code", "status", "status_code", "http_status_code", "http_response_status_code"],
        failed: "5..|5xx",
        name: None,
    },
    // OpenTelemetry's semantic conventions since 1.23, and before.
    Served {
        count: "http_server_request_duration_seconds_count",
        buckets: ("http_server_request_duration_seconds_bucket", ""),
        side: "",
        outcome: &["http_response_status_code", "http_status_code"],
        failed: "5..|5xx",
        name: Some("service_name"),
    },
    Served {
        count: "http_server_duration_milliseconds_count",
        buckets: ("http_server_duration_milliseconds_bucket", " * 0.001"),
        side: "",
        outcome: &["http_status_code"],
        failed: "5..|5xx",
        name: Some("service_name"),
    },
    // Micrometer.
    Served {
        count: "http_server_requests_seconds_count",
        buckets: ("http_server_requests_seconds_bucket", ""),
        side: "",
        outcome: &["status"],
        failed: "5..|5xx",
        name: None,
    },
    Served {
        count: "istio_requests_total",
        buckets: ("istio_request_duration_milliseconds_bucket", " * 0.001"),
        side: "reporter!=\"source\"",
        outcome: &["response_code"],
        failed: "5..|5xx",
        name: Some("destination_service_name"),
    },
    // Spans counted by the collector, and by Tempo.
    Served {
        count: "traces_span_metrics_calls_total",
        buckets: ("traces_span_metrics_duration_milliseconds_bucket", " * 0.001"),
        side: "span_kind=\"SPAN_KIND_SERVER\"",
        outcome: &["status_code"],
        failed: "STATUS_CODE_ERROR",
        name: Some("service_name"),
    },
    Served {
        count: "traces_spanmetrics_calls_total",
        buckets: ("traces_spanmetrics_latency_bucket", ""),
        side: "span_kind=\"SPAN_KIND_SERVER\"",
        outcome: &["status_code"],
        failed: "STATUS_CODE_ERROR",
        name: None,
    },
];

impl Served {
    fn rate(&self, metric: &str, matcher: &str) -> String {
        let matchers: Vec<_> = [self.side, matcher].into_iter().filter(|one| !one.is_empty()).collect();
        let matchers = if matchers.is_empty() { String::new() } else { format!("{{{}}}", matchers.join(",")) };
        format!("rate({metric}{matchers}[2m])")
    }

    fn sum(&self, by: &str, rates: &str) -> String {
        match self.name {
            Some(name) => {
                format!("sum by ({by}) (label_replace({rates}, \"service\", \"$1\", \"{name}\", \"(.+)\"))")
            }
            None => format!("sum by ({by}) ({rates})"),
        }
    }

    fn requests(&self) -> String {
        self.sum("service", &self.rate(self.count, ""))
    }

    /// Where nothing failed the answer is 0, but only where a failure would be seen: a counter without
    /// any of these labels says nothing of errors.
    fn errors(&self) -> String {
        let ended = |how: &str| {
            let rates: Vec<_> =
                self.outcome.iter().map(|label| self.rate(self.count, &format!("{label}{how}"))).collect();
            self.sum("service", &rates.join(" or "))
        };
        let all = ended("!=\"\"");
        format!("({} or {all} * 0) / {all}", ended(&format!("=~\"{}\"", self.failed)))
    }

    fn latency(&self) -> String {
        let (buckets, seconds) = self.buckets;
        format!("histogram_quantile(0.99, {}){seconds}", self.sum("service, le", &self.rate(buckets, "")))
    }
}

fn any(of: impl Fn(&Served) -> String) -> String {
    SERVED.iter().map(of).collect::<Vec<_>>().join(" or ")
}

pub(super) fn errors() -> String {
    any(Served::errors)
}

pub(super) fn latency_p99() -> String {
    let summary = "max by (service) (http_request_duration_seconds{quantile=\"0.99\"})";
    format!("{summary} or {}", any(Served::latency))
}

pub(super) fn requests() -> String {
    any(Served::requests)
}
