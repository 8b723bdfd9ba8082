//! Faults as they are written down, and what each kind takes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::estate::{Estate, Role};
use super::super::fault::{Carrier, Fault, Kind, Short, Words};
use super::super::sim::MINUTE;
use super::{Span, What, find, is_deployment};

#[derive(Debug, Deserialize)]
pub(in super::super) struct FaultEntry {
    kind: String,
    service: Option<String>,
    host: Option<String>,
    /// The other end, of what lies between two.
    to: Option<String>,
    #[serde(default = "soon")]
    at: Span,
    until: Option<Span>,
    /// The rollout that brings it.
    change: Option<What>,
    /// What runs short, of a surge.
    short_of: Option<ShortWord>,
    /// The numbers of its kind.
    #[serde(flatten)]
    numbers: BTreeMap<String, f64>,
}

fn soon() -> Span {
    Span(3 * MINUTE)
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ShortWord {
    Pool,
    Cpu,
    Nothing,
}

/// Where a fault of a kind may sit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    /// A gateway, service or worker.
    Service,
    Worker,
    Database,
    Replica,
    Queue,
    NameServer,
    External,
    Host,
    /// Everywhere.
    Estate,
}

/// Whether a rollout brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    Never,
    IfWritten,
    /// With a change of its own if none is written.
    Always,
}

struct Form {
    kind: &'static str,
    on: On,
    carried: Carried,
    /// Whether it names another end with `to`.
    two_ended: bool,
    numbers: &'static [(&'static str, f64)],
}

const fn form(kind: &'static str, on: On, carried: Carried, numbers: &'static [(&'static str, f64)]) -> Form {
    Form { kind, on, carried, two_ended: false, numbers }
}

const FORMS: [Form; 28] = [
    form("memory_leak", On::Service, Carried::IfWritten, &[("per_minute", 0.03)]),
    form("connection_leak", On::Service, Carried::Always, &[("per_minute", 0.075), ("memory", 0.036)]),
    form("connection_pool", On::Service, Carried::Always, &[("size", 2.0)]),
    form("bad_config", On::Service, Carried::Always, &[("errors", 0.4)]),
    Form { two_ended: true, ..form("wrong_address", On::Service, Carried::Always, &[]) },
    form("bad_image", On::Service, Carried::Always, &[("errors", 0.42)]),
    form("slow_release", On::Service, Carried::Always, &[("capacity", 0.1)]),
    form("bad_feature_flag", On::Service, Carried::Always, &[("errors", 0.4)]),
    form("image_pull", On::Service, Carried::Always, &[]),
    form("crash_loop", On::Service, Carried::IfWritten, &[]),
    form("out_of_memory", On::Service, Carried::Always, &[("limit_percent", 35.0)]),
    form("wedged", On::Service, Carried::IfWritten, &[("minutes", 9.0)]),
    form("traffic_surge", On::Service, Carried::Never, &[("factor", 2.6)]),
    form("slow_query", On::Database, Carried::Never, &[("factor", 60.0)]),
    form("disk_full", On::Database, Carried::Never, &[("minutes", 14.0)]),
    form("replica_lag", On::Replica, Carried::Never, &[("per_minute", 25.0)]),
    form("certificate_expiry", On::Service, Carried::Never, &[]),
    form("dependency_outage", On::External, Carried::Never, &[("errors", 0.62), ("seconds", 1.4)]),
    form("node_loss", On::Host, Carried::Never, &[]),
    form("clock_skew", On::Host, Carried::Never, &[("seconds", 300.0)]),
    form("maintenance", On::Host, Carried::Never, &[]),
    form("dns_failure", On::NameServer, Carried::Never, &[("share", 0.45)]),
    form("queue_backlog", On::Queue, Carried::Never, &[("factor", 6.0)]),
    form("poison_message", On::Worker, Carried::Never, &[("share", 0.35)]),
    form("noisy_neighbour", On::Service, Carried::Never, &[("slowdown", 8.0)]),
    Form { two_ended: true, ..form("network", On::Service, Carried::Never, &[("loss", 0.3), ("seconds", 0.4)]) },
    form("quota", On::Service, Carried::Never, &[("lost", 2.0)]),
    form("unseen_errors", On::Service, Carried::Never, &[("share", 0.2)]),
];

/// Everywhere at once, and nothing says why.
const SLOWDOWN: Form = form("unseen_slowdown", On::Estate, Carried::Never, &[("seconds", 0.4)]);

impl FaultEntry {
    pub(super) fn fault(self, estate: &Estate, start: i64) -> Result<Fault, String> {
        let form = FORMS.iter().chain([&SLOWDOWN]).find(|form| form.kind == self.kind).ok_or_else(|| {
            let kinds: Vec<&str> = FORMS.iter().chain([&SLOWDOWN]).map(|form| form.kind).collect();
            format!("kind: no fault `{}`; there are {}", self.kind, kinds.join(", "))
        })?;
        let takes: Vec<&str> = form.numbers.iter().map(|(name, _)| *name).collect();
        if let Some(other) = self.numbers.keys().find(|name| !takes.contains(&name.as_str())) {
            let all = if takes.is_empty() { "no numbers".to_owned() } else { takes.join(", ") };
            return Err(format!("`{other}` does not belong to {}; it takes {all}", form.kind));
        }
        if self.short_of.is_some() && form.kind != "traffic_surge" {
            return Err("`short_of` belongs to traffic_surge".into());
        }
        let at = self.place(form, estate)?;
        let number = |name: &str| {
            let usual = form.numbers.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, usual)| *usual);
            self.numbers.get(name).copied().unwrap_or(usual)
        };
        let other_end = match (&self.to, form.two_ended) {
            (Some(to), true) => Some(self.callee(estate, at, to)?),
            (None, true) => return Err(format!("{} needs `to`: one that {} calls", form.kind, estate.nodes[at].name)),
            (Some(_), false) => return Err(format!("`to` does not belong to {}", form.kind)),
            (None, false) => None,
        };
        let kind = kind(form.kind, &number, other_end.unwrap_or(0), self.short_of);
        if matches!(kind, Kind::Flood { .. }) && estate.consumer_of(at).is_none() {
            return Err(format!("no worker calls {}; one must take its messages", estate.nodes[at].name));
        }
        let carrier = self.carrier(form, &kind, estate, at)?;
        Ok(Fault { kind, at, onset: start + self.at.0, until: self.until.map(|until| start + until.0), carrier })
    }

    fn place(&self, form: &Form, estate: &Estate) -> Result<usize, String> {
        match (form.on, &self.service, &self.host) {
            (On::Estate, None, None) => Ok(0),
            (On::Estate, _, _) => Err(format!("{} is everywhere; leave service and host away", form.kind)),
            (On::Host, None, Some(host)) => estate
                .hosts
                .iter()
                .position(|name| name == host)
                .ok_or_else(|| format!("there is no host `{host}`; there are {}", estate.hosts.join(", "))),
            (On::Host, _, _) => Err(format!("{} befalls a host: give `host` and no `service`", form.kind)),
            (_, Some(service), None) => {
                let at = find(estate, service)?;
                let node = &estate.nodes[at];
                let serves = matches!(node.role, Role::Gateway | Role::Service | Role::Worker);
                let fits = match form.on {
                    On::Service => serves,
                    On::Worker => node.role == Role::Worker,
                    On::Database => node.role == Role::Database,
                    On::Replica => node.replica_of.is_some(),
                    On::Queue => node.role == Role::Queue,
                    On::NameServer => node.role == Role::NameServer,
                    On::External => node.role == Role::External,
                    On::Host | On::Estate => false,
                };
                let wanted = match form.on {
                    On::Replica => "a database with replica_of".to_owned(),
                    on => format!("a {on:?}"),
                };
                fits.then_some(at)
                    .ok_or_else(|| format!("{} befalls {wanted}; {service} is a {:?}", form.kind, node.role))
            }
            (_, _, _) => Err(format!("{} befalls a {:?}: give `service` and no `host`", form.kind, form.on)),
        }
    }

    fn callee(&self, estate: &Estate, at: usize, to: &str) -> Result<usize, String> {
        let callee = find(estate, to)?;
        let called = estate.nodes[at].calls.iter().any(|call| call.to == callee);
        called.then_some(callee).ok_or_else(|| format!("to: {} does not call {to}", estate.nodes[at].name))
    }

    fn carrier(&self, form: &Form, kind: &Kind, estate: &Estate, at: usize) -> Result<Option<Carrier>, String> {
        if form.carried == Carried::Never {
            return match self.change {
                Some(_) => Err(format!("no rollout brings {}; leave `change` away", form.kind)),
                None => Ok(None),
            };
        }
        let node = &estate.nodes[at];
        if !is_deployment(node.role) {
            return Err(format!("{} cannot be rolled out", node.name));
        }
        let mut what = self.change.clone().unwrap_or_default();
        if let Kind::MemoryLimit { percent } = kind {
            what.memory = Some(node.memory_mib * percent / 100);
        }
        if let Kind::SmallPool { size } = kind {
            what.config.insert("db.pool.max".into(), size.to_string());
        }
        if what.is_empty() {
            if form.carried == Carried::IfWritten {
                return match self.change {
                    Some(_) => Err("change: it changes nothing; give image, config or env".into()),
                    None => Ok(None),
                };
            }
            usual_change(&mut what, kind);
        }
        Ok(Some(what.carrier(&node.name)))
    }
}

/// Where nobody wrote what was changed.
fn usual_change(what: &mut What, kind: &Kind) {
    let config = match kind {
        Kind::Leak { .. } => Some(("cache.entry_ttl", "never")),
        Kind::WrongHost { .. } => Some(("upstream.host", "svc.internal.old")),
        Kind::Exceptions { words: Words::Configuration, .. } => Some(("limits.per_request", "ten")),
        _ => None,
    };
    match (config, kind) {
        (Some((key, value)), _) => {
            what.config.insert(key.into(), value.into());
        }
        (None, Kind::Exceptions { words: Words::Flag, .. }) => {
            what.env.insert("FEATURE_PRICE_LIST".into(), "on".into());
        }
        (None, _) => what.image = Some("2.41.7".into()),
    }
}

fn kind(word: &str, number: &dyn Fn(&str) -> f64, other_end: usize, short_of: Option<ShortWord>) -> Kind {
    let share = |name: &str| number(name).clamp(0.0, 1.0);
    match word {
        "memory_leak" => Kind::Leak { memory: number("per_minute"), connections: 0.0 },
        "connection_leak" => Kind::Leak { memory: number("memory"), connections: number("per_minute") },
        "connection_pool" => Kind::SmallPool { size: number("size").max(1.0) },
        "bad_config" => Kind::Exceptions { share: share("errors"), words: Words::Configuration },
        "wrong_address" => Kind::WrongHost { callee: other_end },
        "bad_image" => Kind::Exceptions { share: share("errors"), words: Words::Code },
        "slow_release" => Kind::Slow { capacity: number("capacity").clamp(0.02, 1.0) },
        "bad_feature_flag" => Kind::Exceptions { share: share("errors"), words: Words::Flag },
        "image_pull" => Kind::ImagePull,
        "crash_loop" => Kind::CrashLoop,
        "out_of_memory" => Kind::MemoryLimit { percent: (number("limit_percent") as i64).clamp(1, 100) },
        "wedged" => Kind::Wedged { minutes: number("minutes").max(0.5) },
        "traffic_surge" => Kind::Surge {
            factor: number("factor").max(1.0),
            short: match short_of.unwrap_or(ShortWord::Cpu) {
                ShortWord::Pool => Short::Pool,
                ShortWord::Cpu => Short::Cpu,
                ShortWord::Nothing => Short::Nothing,
            },
        },
        "slow_query" => Kind::SlowStatement { factor: number("factor").max(1.0) },
        "disk_full" => Kind::VolumeFills { minutes: number("minutes").max(0.5) },
        "replica_lag" => Kind::ReplicaLag { per_minute: number("per_minute").max(0.0) },
        "certificate_expiry" => Kind::CertificateExpired,
        "dependency_outage" => Kind::Outage { errors: share("errors"), seconds: number("seconds").max(0.0) },
        "node_loss" => Kind::HostLost,
        "clock_skew" => Kind::ClockSkew { seconds: number("seconds") },
        "maintenance" => Kind::Maintenance,
        "dns_failure" => Kind::NamesFail { share: share("share") },
        "queue_backlog" => Kind::Flood { factor: number("factor").max(1.0) },
        "poison_message" => Kind::PoisonMessage { share: share("share") },
        "noisy_neighbour" => Kind::NoisyNeighbour { slowdown: number("slowdown").max(0.0) },
        "network" => Kind::Link { to: other_end, loss: share("loss"), seconds: number("seconds").max(0.0) },
        "quota" => Kind::Quota { lost: number("lost").max(1.0) as usize },
        "unseen_errors" => Kind::UnseenErrors { share: share("share") },
        _ => Kind::UnseenSlowdown { seconds: number("seconds").max(0.0) },
    }
}
