//! What can go wrong on a night, and what cures it. Only the estate's physics read this.

use super::estate::{Estate, Role};
use super::random::Random;

#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// A configuration value that leaks memory and, with a database, connections.
    ConfigLeak {
        at: usize,
    },
    /// A pool that was made too small by configuration.
    PoolTooSmall {
        at: usize,
    },
    /// A dependency's address that does not exist.
    WrongHost {
        at: usize,
        callee: usize,
    },
    BadImage {
        at: usize,
    },
    SlowImage {
        at: usize,
    },
    MemoryLimitLowered {
        at: usize,
    },
    /// More people than `at` has connections for.
    TrafficPool {
        at: usize,
        factor: f64,
    },
    TrafficCpu {
        at: usize,
        factor: f64,
    },
    Wedged {
        at: usize,
    },
    AgedLeak {
        at: usize,
    },
    SlowQuery {
        at: usize,
    },
    VolumeFull {
        at: usize,
    },
    CertificateExpired {
        at: usize,
    },
    HostLost {
        host: usize,
    },
    ExternalBroken {
        at: usize,
    },
}

impl Fault {
    pub fn draw(seed: u64, estate: &Estate, random: &mut Random) -> Self {
        if seed == 1 {
            return Self::ConfigLeak { at: estate.find("session").unwrap_or(0) };
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
                0 => Self::ConfigLeak { at: any(random, &with_db) },
                1 if !with_db.is_empty() => Self::PoolTooSmall { at: any(random, &with_db) },
                2 if !with_callee.is_empty() => {
                    let at = any(random, &with_callee);
                    let callee = estate.nodes[at].calls.iter().find(|call| estate.nodes[call.to].role == Role::Service);
                    Self::WrongHost { at, callee: callee.map_or(0, |call| call.to) }
                }
                3 => Self::SlowImage { at: any(random, &services) },
                4 => Self::MemoryLimitLowered { at: any(random, &services) },
                _ => Self::BadImage { at: any(random, &services) },
            };
        }
        match random.below(9) {
            0 if !with_db.is_empty() => {
                Self::TrafficPool { at: any(random, &with_db), factor: random.between(2.4, 2.9) }
            }
            1 => Self::TrafficCpu { at: any(random, &services), factor: random.between(2.4, 2.9) },
            2 => Self::Wedged { at: any(random, &services) },
            3 => Self::AgedLeak { at: any(random, &services) },
            4 => Self::SlowQuery { at: any(random, &databases) },
            5 => Self::VolumeFull { at: any(random, &databases) },
            6 => Self::CertificateExpired { at: any(random, &services) },
            7 => Self::HostLost { host: random.below(estate.hosts.len()) },
            _ => Self::ExternalBroken { at: any(random, &externals) },
        }
    }

    /// The service of the change that starts it.
    pub fn changed(&self) -> Option<usize> {
        match self {
            Self::ConfigLeak { at }
            | Self::PoolTooSmall { at }
            | Self::WrongHost { at, .. }
            | Self::BadImage { at }
            | Self::SlowImage { at }
            | Self::MemoryLimitLowered { at } => Some(*at),
            Self::TrafficPool { .. }
            | Self::TrafficCpu { .. }
            | Self::Wedged { .. }
            | Self::AgedLeak { .. }
            | Self::SlowQuery { .. }
            | Self::VolumeFull { .. }
            | Self::CertificateExpired { .. }
            | Self::HostLost { .. }
            | Self::ExternalBroken { .. } => None,
        }
    }

    pub fn culprit(&self, estate: &Estate) -> String {
        match self {
            Self::HostLost { host } => estate.hosts[*host].clone(),
            Self::ConfigLeak { at }
            | Self::PoolTooSmall { at }
            | Self::WrongHost { at, .. }
            | Self::BadImage { at }
            | Self::SlowImage { at }
            | Self::MemoryLimitLowered { at }
            | Self::TrafficPool { at, .. }
            | Self::TrafficCpu { at, .. }
            | Self::Wedged { at }
            | Self::AgedLeak { at }
            | Self::SlowQuery { at }
            | Self::VolumeFull { at }
            | Self::CertificateExpired { at }
            | Self::ExternalBroken { at } => estate.nodes[*at].name.clone(),
        }
    }

    pub fn cure(&self, estate: &Estate) -> String {
        let name = self.culprit(estate);
        match self {
            Self::ConfigLeak { .. }
            | Self::PoolTooSmall { .. }
            | Self::WrongHost { .. }
            | Self::BadImage { .. }
            | Self::SlowImage { .. }
            | Self::MemoryLimitLowered { .. } => format!("rollback {name}"),
            Self::TrafficPool { .. } | Self::TrafficCpu { .. } => format!("scale {name}"),
            Self::Wedged { .. } | Self::AgedLeak { .. } => format!("restart {name}"),
            Self::SlowQuery { .. }
            | Self::VolumeFull { .. }
            | Self::CertificateExpired { .. }
            | Self::HostLost { .. }
            | Self::ExternalBroken { .. } => "hand over".into(),
        }
    }
}
