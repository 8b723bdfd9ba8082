//! What can go wrong on a night, and what cures it. Only the estate's physics read this.

use std::collections::BTreeMap;

use super::estate::{Estate, Role};
use super::kubernetes::PodView;
use super::random::Random;

/// One thing that goes wrong at one place from one instant on.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub kind: Kind,
    /// Index of a node; of a host for what befalls hosts (see `Kind::is_of_host`).
    pub at: usize,
    /// Milliseconds of event time.
    pub onset: i64,
    /// When it ends by itself.
    pub until: Option<i64>,
    /// The rollout that brings it: whoever runs the older revision is well. `None`: it comes by itself.
    pub carrier: Option<Carrier>,
}

/// What a rollout changes. A pod carries it when it runs with all of these values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Carrier {
    pub image: Option<String>,
    pub config: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
    /// Of the name of the ConfigMap that comes with it.
    pub suffix: String,
    /// MiB.
    pub memory: Option<i64>,
    pub cause: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Shares of the memory limit and of the connection pool that are lost each minute.
    Leak {
        memory: f64,
        connections: f64,
    },
    /// Connections that are left in the pool to the database.
    SmallPool {
        size: f64,
    },
    /// A dependency's address that does not exist.
    WrongHost {
        callee: usize,
    },
    /// A share of the requests ends in an unhandled exception.
    Exceptions {
        share: f64,
        words: Words,
    },
    /// What a replica bears, as a share of what it should.
    Slow {
        capacity: f64,
    },
    /// The memory limit, in percent of what it was.
    MemoryLimit {
        percent: i64,
    },
    /// More people; `at` is the only place that was not planned for them.
    Surge {
        factor: f64,
        short: Short,
    },
    /// Worker threads that never come back, all of them within that many minutes.
    Wedged {
        minutes: f64,
    },
    /// A statement that takes that many times as long as before.
    SlowStatement {
        factor: f64,
    },
    /// A volume that is full after that many minutes.
    VolumeFills {
        minutes: f64,
    },
    CertificateExpired,
    HostLost,
    /// Of somebody else's service: share of failing calls, seconds on top.
    Outage {
        errors: f64,
        seconds: f64,
    },
    /// The container ends right after its start.
    CrashLoop,
    ImagePull,
    /// Of the name server: the share of lookups that fails.
    NamesFail {
        share: f64,
    },
    /// Of a queue: messages come in that many times as fast.
    Flood {
        factor: f64,
    },
    /// Of a worker: one message that fails at each delivery and takes that share of its work.
    PoisonMessage {
        share: f64,
    },
    /// Of a workload that takes the processors of the host it runs on: how much slower its neighbours get.
    NoisyNeighbour {
        slowdown: f64,
    },
    /// Between `at` and another node: share of lost requests, seconds on top.
    Link {
        to: usize,
        loss: f64,
        seconds: f64,
    },
    /// So many pods are lost, and a quota does not let others take their place.
    Quota {
        lost: usize,
    },
    /// Seconds by which a host's clock is off.
    ClockSkew {
        seconds: f64,
    },
    /// Seconds that a replica falls behind each minute.
    ReplicaLag {
        per_minute: f64,
    },
    /// A share of the requests fails and nothing says why.
    UnseenErrors {
        share: f64,
    },
    /// Every service takes so many seconds longer and nothing says why.
    UnseenSlowdown {
        seconds: f64,
    },
    /// People take a host out of service, as announced.
    Maintenance,
}

/// What an exception says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    Code,
    Configuration,
    Flag,
}

/// What runs short when more people come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    Pool,
    Cpu,
    /// Everything was planned for such a day.
    Nothing,
}

impl Carrier {
    pub fn is_in(&self, pod: &PodView) -> bool {
        let has = |wanted: &BTreeMap<String, String>, found: &BTreeMap<String, String>| {
            wanted.iter().all(|(key, value)| found.get(key) == Some(value))
        };
        self.image.as_ref().is_none_or(|image| *image == pod.image)
            && has(&self.config, &pod.config)
            && has(&self.env, &pod.env)
            && self.memory.is_none_or(|memory| pod.mem_limit == format!("{memory}Mi"))
    }
}

impl Kind {
    /// Whether `Fault::at` counts hosts.
    pub fn is_of_host(&self) -> bool {
        matches!(self, Self::HostLost | Self::ClockSkew { .. } | Self::Maintenance)
    }

    /// Whether it sits in the processes that run at its onset, so that new ones are free of it.
    pub fn is_in_processes(&self) -> bool {
        matches!(self, Self::Leak { .. } | Self::Wedged { .. })
    }

    /// Whether a typed action exists that ends it; with a carrier going back always does.
    fn cure(&self) -> Option<&'static str> {
        match self {
            Self::Surge { short: Short::Pool | Short::Cpu, .. } | Self::Flood { .. } => Some("scale"),
            Self::Leak { .. } | Self::Wedged { .. } => Some("restart"),
            Self::Surge { short: Short::Nothing, .. }
            | Self::SmallPool { .. }
            | Self::WrongHost { .. }
            | Self::Exceptions { .. }
            | Self::Slow { .. }
            | Self::MemoryLimit { .. }
            | Self::SlowStatement { .. }
            | Self::VolumeFills { .. }
            | Self::CertificateExpired
            | Self::HostLost
            | Self::Outage { .. }
            | Self::CrashLoop
            | Self::ImagePull
            | Self::NamesFail { .. }
            | Self::PoisonMessage { .. }
            | Self::NoisyNeighbour { .. }
            | Self::Link { .. }
            | Self::Quota { .. }
            | Self::ClockSkew { .. }
            | Self::ReplicaLag { .. }
            | Self::UnseenErrors { .. }
            | Self::UnseenSlowdown { .. }
            | Self::Maintenance => None,
        }
    }
}

/// Every change of the night was approved in the same words: the guilty one must not read like it.
pub const APPROVED: &str = "approved 15:42 by release board, run by pipeline";
/// Between the tags of the harmless releases; the physics know it, a reader cannot.
const FAULTY_TAG: &str = "2.41.7";

impl Fault {
    pub fn is_active(&self, at: i64) -> bool {
        at >= self.onset && self.until.is_none_or(|until| at < until)
    }

    pub fn culprit(&self, estate: &Estate) -> String {
        if self.kind.is_of_host() { estate.hosts[self.at].clone() } else { estate.nodes[self.at].name.clone() }
    }

    pub fn cure(&self, estate: &Estate) -> String {
        let name = match self.kind {
            // It is the consumers that must be more.
            Kind::Flood { .. } => estate.consumer_of(self.at).map(|at| estate.nodes[at].name.clone()),
            _ => None,
        };
        let name = name.unwrap_or_else(|| self.culprit(estate));
        match (&self.carrier, self.kind.cure()) {
            (Some(_), _) => format!("rollback {name}"),
            (None, Some(verb)) => format!("{verb} {name}"),
            (None, None) => "hand over".into(),
        }
    }

    /// The fault of a seed, without its onset.
    pub fn draw(seed: u64, estate: &Estate, random: &mut Random) -> Self {
        let (kind, at) = draw_kind(seed, estate, random);
        let carrier = carrier_of(&kind, estate, at);
        Self { kind, at, onset: 0, until: None, carrier }
    }
}

/// The rollout that brings a fault of this kind on a drawn night.
fn carrier_of(kind: &Kind, estate: &Estate, at: usize) -> Option<Carrier> {
    if kind.is_of_host() {
        return None;
    }
    let node = &estate.nodes[at];
    let name = &node.name;
    let config = |key: &str, value: &str, cause: String| Carrier {
        config: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        suffix: "9d2b".into(),
        cause,
        ..Carrier::default()
    };
    let (rollout, tidy, clean, sized) = (
        format!("{name} configuration rollout ({APPROVED})"),
        format!("{name}: tidy connection settings ({APPROVED})"),
        format!("{name}: endpoints clean-up ({APPROVED})"),
        format!("{name}: right-sizing ({APPROVED})"),
    );
    match kind {
        // What leaks connections too came with a configuration; the other leak is of age.
        Kind::Leak { connections, .. } if *connections > 0.0 => Some(config("cache.entry_ttl", "never", rollout)),
        Kind::SmallPool { size } => Some(config("db.pool.max", &size.to_string(), tidy)),
        Kind::WrongHost { .. } => Some(config("upstream.host", "svc.internal.old", clean)),
        Kind::MemoryLimit { percent } => {
            Some(Carrier { memory: Some(node.memory_mib * percent / 100), cause: sized, ..Carrier::default() })
        }
        Kind::Exceptions { .. } | Kind::Slow { .. } => Some(Carrier {
            image: Some(format!("registry.example/{name}:{FAULTY_TAG}")),
            cause: format!("release {name} {FAULTY_TAG} ({APPROVED})"),
            ..Carrier::default()
        }),
        _ => None,
    }
}

/// Memory and, with a database, connections.
const CONFIG_LEAK: Kind = Kind::Leak { memory: 0.036, connections: 0.075 };

fn surge(at: usize, short: Short, random: &mut Random) -> (Kind, usize) {
    (Kind::Surge { factor: random.between(2.4, 2.9), short }, at)
}

fn draw_kind(seed: u64, estate: &Estate, random: &mut Random) -> (Kind, usize) {
    if seed == 1 {
        return (CONFIG_LEAK, estate.find("session").unwrap_or(0));
    }
    let by_role = |role: Role| -> Vec<usize> {
        estate.nodes.iter().enumerate().filter(|(_, node)| node.role == role).map(|(at, _)| at).collect()
    };
    let calls_role =
        |at: usize, role: Role| estate.nodes[at].calls.iter().any(|call| estate.nodes[call.to].role == role);
    // Nobody is woken by a service that hardly anybody calls.
    let rates = estate.mean_rates();
    let mut services = by_role(Role::Service);
    services.retain(|at| rates[*at] > estate.traffic * 0.06);
    if services.is_empty() {
        services = by_role(Role::Service);
    }
    let with_db: Vec<usize> = services.iter().copied().filter(|at| calls_role(*at, Role::Database)).collect();
    let with_callee: Vec<usize> = services.iter().copied().filter(|at| calls_role(*at, Role::Service)).collect();
    let (databases, externals) = (by_role(Role::Database), by_role(Role::External));
    let changes = !seed.is_multiple_of(4) && random.chance(0.65);
    let any = |random: &mut Random, list: &[usize]| {
        if list.is_empty() { *random.pick(&services) } else { *random.pick(list) }
    };
    if changes {
        return match random.below(6) {
            0 => (CONFIG_LEAK, any(random, &with_db)),
            1 if !with_db.is_empty() => (Kind::SmallPool { size: 2.0 }, any(random, &with_db)),
            2 if !with_callee.is_empty() => {
                let at = any(random, &with_callee);
                let callee = estate.nodes[at].calls.iter().find(|call| estate.nodes[call.to].role == Role::Service);
                (Kind::WrongHost { callee: callee.map_or(0, |call| call.to) }, at)
            }
            3 => (Kind::Slow { capacity: 0.1 }, any(random, &services)),
            4 => (Kind::MemoryLimit { percent: 35 }, any(random, &services)),
            _ => (Kind::Exceptions { share: 0.42, words: Words::Code }, any(random, &services)),
        };
    }
    match random.below(9) {
        0 if !with_db.is_empty() => surge(any(random, &with_db), Short::Pool, random),
        1 => surge(any(random, &services), Short::Cpu, random),
        2 => (Kind::Wedged { minutes: 9.0 }, any(random, &services)),
        3 => (Kind::Leak { memory: 0.022, connections: 0.0 }, any(random, &services)),
        4 => (Kind::SlowStatement { factor: 60.0 }, any(random, &databases)),
        5 => (Kind::VolumeFills { minutes: 14.0 }, any(random, &databases)),
        6 => (Kind::CertificateExpired, any(random, &services)),
        7 => (Kind::HostLost, random.below(estate.hosts.len())),
        _ => (Kind::Outage { errors: 0.62, seconds: 1.4 }, any(random, &externals)),
    }
}
