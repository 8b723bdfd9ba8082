//! What a metric measures, told by its name alone.
//!
//! Names differ between exporters, the words in them hardly do. A name that says nothing is still
//! measured: it counts as a resource that may go wrong in either direction.

use super::SignalClass;

/// Metrics of one family measure the same thing by different statistics (p90 and p99, cores and
/// percent): they confirm each other, they are not independent witnesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Latency,
    Errors,
    Processor,
    Memory,
    Storage,
    /// Pools, queues, threads, connections: what runs full.
    Saturation,
    Restarts,
    /// How much is asked of it, and what follows from that: packets, system calls.
    Load,
    Unknown,
}

/// Which way is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
    Either,
}

/// Whose experience a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Of the node itself, or of those who call it.
    Own,
    /// Of the node as a client of others.
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    pub family: Family,
    pub side: Side,
    pub worse: Direction,
    /// The name promises a total that only grows: its rate says something, its level does not.
    pub counter: bool,
}

impl Meaning {
    pub fn of(name: &str) -> Self {
        let words = words(name);
        let says = |stems: &[&str]| words.iter().any(|word| stems.iter().any(|stem| is(word, stem)));
        let side = match says(&["client", "outbound", "upstream", "egress", "outgoing", "downstream"]) {
            true => Side::Client,
            false => Side::Own,
        };
        let (family, worse) = family(&says);
        let counter = says(&["total", "count", "sum", "counter"]);
        Self { family, side, worse, counter }
    }

    pub fn class(self) -> SignalClass {
        match (self.family, self.side) {
            (Family::Latency | Family::Errors, Side::Client) => SignalClass::Outward,
            (Family::Latency | Family::Errors, Side::Own) => SignalClass::Symptom,
            (Family::Processor | Family::Memory | Family::Storage | Family::Saturation | Family::Unknown, _) => {
                SignalClass::Resource
            }
            (Family::Restarts, _) => SignalClass::Health,
            (Family::Load, _) => SignalClass::Load,
        }
    }
}

/// From what names itself to what is only a unit: `cpu_throttled_seconds` is no latency, and
/// `request_duration_seconds` no load.
fn family(says: &dyn Fn(&[&str]) -> bool) -> (Family, Direction) {
    let left = says(&["free", "avail", "available", "remaining", "idle"]);
    let fuller = if left { Direction::Down } else { Direction::Up };
    if says(&["restart*", "oom*", "crash*", "evict*", "killed"]) || says(&["start"]) && says(&["time"]) {
        (Family::Restarts, Direction::Up)
    } else if says(&["up", "uptime", "ready", "healthy", "alive", "replica*"])
        && !says(&["unavailable", "missing", "lag"])
    {
        (Family::Restarts, Direction::Down)
    } else if says(&["cpu*", "processor*", "loadavg", "load1", "load5", "load15", "throttl*"]) {
        (Family::Processor, fuller)
    } else if says(&["mem", "memory*", "memusage*", "heap*", "rss", "swap*", "gc", "oldgen"]) {
        (Family::Memory, fuller)
    } else if says(&["disk*", "fs", "filesystem*", "iops", "iowait", "inode*", "volume*", "storage"]) {
        (Family::Storage, fuller)
    } else if says(&["success*", "availab*", "apdex"]) {
        (Family::Errors, Direction::Down)
    } else if says(&ERRORS) {
        (Family::Errors, Direction::Up)
    } else if says(&SATURATION) {
        (Family::Saturation, fuller)
    } else if says(&["network*", "net", "bytes", "packets", "receive*", "transmit*", "syscall*", "rx", "tx"]) {
        (Family::Load, Direction::Either)
    } else if says(&["latency*", "duration*", "delay*", "elapsed", "rt", "rtt", "responsetime", "ttfb", "wait*"])
        || says(&["response*"]) && says(&["time*", "avg", "mean", "max", "seconds", "ms"])
        || says(&["p50", "p75", "p90", "p95", "p99", "quantile"])
    {
        (Family::Latency, Direction::Up)
    } else if says(&LOAD) {
        (Family::Load, Direction::Either)
    } else if says(&["seconds", "millis*", "ms", "time"]) {
        (Family::Latency, Direction::Up)
    } else {
        (Family::Unknown, Direction::Either)
    }
}

const ERRORS: [&str; 16] = [
    "error*",
    "err",
    "errs",
    "fail*",
    "exception*",
    "5xx",
    "4xx",
    "timeout*",
    "drop*",
    "loss",
    "lost",
    "retrans*",
    "reject*",
    "refused",
    "abort*",
    "unavailable",
];
const SATURATION: [&str; 14] = [
    "queue*",
    "pool*",
    "thread*",
    "connection*",
    "conn",
    "conns",
    "socket*",
    "backlog",
    "lag",
    "pending",
    "fd",
    "fds",
    "utilization",
    "saturation",
];
const LOAD: [&str; 14] = [
    "request*",
    "req",
    "reqs",
    "workload",
    "load",
    "ops",
    "rps",
    "qps",
    "tps",
    "throughput",
    "call*",
    "traffic",
    "count",
    "2xx",
];

/// `stem*` stands for all words that begin so.
fn is(word: &str, stem: &str) -> bool {
    match stem.strip_suffix('*') {
        Some(stem) => word.starts_with(stem),
        None => word == stem,
    }
}

/// `PodServerLatencyP90(s)` and `pod_server_latency_p90` have the same words, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        let begins = letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if begins || !letter.is_ascii_alphanumeric() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (letter.is_ascii_alphanumeric(), words.last_mut()) {
            word.push(letter.to_ascii_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: &str) {
        let meaning = Meaning::of(name);
        assert_eq!(format!("{:?} {:?} {:?}", meaning.family, meaning.side, meaning.worse), expected, "{name}");
    }

    #[test]
    fn names_of_common_exporters_are_understood() {
        check("PodServerLatencyP90(s)", "Latency Own Up");
        check("pod_client_latency_p90", "Latency Client Up");
        check("http_server_request_duration_seconds", "Latency Own Up");
        check("latency-50", "Latency Own Up");
        check("p99", "Latency Own Up");
        check("PodSuccessRate(%)", "Errors Own Down");
        check("availability", "Errors Own Down");
        check("http_requests_5xx", "Errors Own Up");
        check("error", "Errors Own Up");
        check("grpc_client_timeouts", "Errors Client Up");
        check("container_cpu_cfs_throttled_seconds_total", "Processor Own Up");
        check("CpuUsageRate(%)", "Processor Own Up");
        check("node_load1", "Processor Own Up");
        check("container_memory_working_set_bytes", "Memory Own Up");
        check("mem", "Memory Own Up");
        check("diskio", "Storage Own Up");
        check("node_filesystem_avail_bytes", "Storage Own Down");
        check("hikaricp_connections_pending", "Saturation Own Up");
        check("kafka_consumer_lag", "Saturation Own Up");
        check("kube_pod_container_status_restarts_total", "Restarts Own Up");
        check("up", "Restarts Own Down");
        check("process_start_time_seconds", "Restarts Own Up");
        check("process_uptime_seconds", "Restarts Own Down");
        check("node_memory_MemAvailable_bytes", "Memory Own Down");
        check("memcached_request_errors", "Errors Own Up");
        check("cpu_idle", "Processor Own Down");
        check("NetworkReceiveBytes", "Load Own Either");
        check("PodWorkload(Ops)", "Load Own Either");
        check("http_requests_total", "Load Own Either");
        check("load", "Load Own Either");
        check("flux_capacity", "Unknown Own Either");
    }
}
