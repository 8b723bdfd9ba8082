//! An estate drawn from a seed: who is there, who calls whom, how much each can bear.

use serde::Deserialize;

use super::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Gateway,
    #[default]
    Service,
    Worker,
    Database,
    Queue,
    /// Everyone asks it for addresses; it is in nobody's call graph.
    NameServer,
    /// Run by somebody else: no pods, no telemetry of its own.
    External,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub namespace: String,
    pub role: Role,
    pub replicas: i64,
    /// Requests a second that one replica bears before it queues.
    pub capacity: f64,
    pub own_seconds: f64,
    pub memory_base: f64,
    pub memory_mib: i64,
    pub cpu_millis: i64,
    pub threads: f64,
    /// Connections of one pod's pool to a database.
    pub pool: f64,
    /// Of a database.
    pub max_connections: f64,
    pub calls: Vec<Call>,
    pub endpoints: Vec<String>,
    pub team: String,
    /// Where its autoscaler stops.
    pub most_replicas: Option<i64>,
    /// The database that it follows.
    pub replica_of: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub to: usize,
    /// Calls for each request.
    pub share: f64,
}

#[derive(Debug, Clone)]
pub struct Estate {
    pub cluster: String,
    /// Callers before callees.
    pub nodes: Vec<Node>,
    pub hosts: Vec<String>,
    /// Requests a second at the gateways, at the daily mean.
    pub traffic: f64,
}

impl Estate {
    pub fn draw(seed: u64, random: &mut Random) -> Self {
        let mut estate = if seed == 1 { shop(random) } else { any(random) };
        estate.size();
        estate
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    pub fn callers(&self, callee: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.nodes.iter().enumerate().flat_map(move |(at, node)| {
            node.calls.iter().filter(move |call| call.to == callee).map(move |call| (at, call.share))
        })
    }

    /// Mean requests a second at each node.
    pub fn mean_rates(&self) -> Vec<f64> {
        let gateways = self.nodes.iter().filter(|node| node.role == Role::Gateway).count().max(1) as f64;
        let mut rates = vec![0.0; self.nodes.len()];
        for at in 0..self.nodes.len() {
            if self.nodes[at].role == Role::Gateway {
                rates[at] += self.traffic / gateways;
            }
            if self.nodes[at].role == Role::NameServer {
                rates[at] += self.traffic;
            }
            if self.nodes[at].role == Role::Worker && self.callers(at).next().is_none() {
                rates[at] += self.traffic * 0.3;
            }
            for call in &self.nodes[at].calls {
                rates[call.to] += rates[at] * call.share;
            }
        }
        rates
    }

    /// The worker that takes the messages of a queue.
    pub fn consumer_of(&self, queue: usize) -> Option<usize> {
        self.callers(queue).map(|(caller, _)| caller).find(|caller| self.nodes[*caller].role == Role::Worker)
    }

    /// Gives everything the headroom that capacity planning would: about 30 % busy at the mean.
    pub fn size(&mut self) {
        let rates = self.mean_rates();
        let seconds: Vec<f64> = self.nodes.iter().map(|node| node.own_seconds).collect();
        let mut connections = vec![0.0; self.nodes.len()];
        for (at, rate) in rates.iter().enumerate() {
            let node = &mut self.nodes[at];
            node.capacity = (rate / node.replicas.max(1) as f64 / 0.28).max(4.0);
            node.threads = (node.capacity * 0.6).clamp(40.0, 400.0);
        }
        for at in 0..self.nodes.len() {
            let calls = self.nodes[at].calls.clone();
            for call in calls {
                if self.nodes[call.to].role == Role::Database {
                    let per_pod = rates[at] * call.share * seconds[call.to] / self.nodes[at].replicas.max(1) as f64;
                    self.nodes[at].pool = (per_pod * 6.0).ceil().clamp(16.0, 60.0);
                    connections[call.to] += self.nodes[at].pool * self.nodes[at].replicas as f64;
                }
            }
        }
        for (node, connections) in self.nodes.iter_mut().zip(connections) {
            if node.role == Role::Database {
                // Room for every pool when it is full, and a third of another round for scaling out.
                node.max_connections = (connections * 1.35 + 20.0).ceil();
            }
        }
    }
}

pub fn node(name: &str, role: Role, replicas: i64, namespace: &str, team: &str, random: &mut Random) -> Node {
    let own = match role {
        Role::Gateway => random.between(0.008, 0.02),
        Role::Service => random.between(0.015, 0.06),
        Role::Worker => random.between(0.05, 0.15),
        Role::Database => random.between(0.003, 0.008),
        Role::Queue => random.between(0.002, 0.004),
        Role::NameServer => random.between(0.001, 0.002),
        Role::External => random.between(0.08, 0.2),
    };
    let verbs = ["list", "get", "create", "update", "search", "batch", "status", "quote"];
    Node {
        name: name.into(),
        namespace: namespace.into(),
        role,
        replicas,
        capacity: 0.0,
        own_seconds: own,
        memory_base: random.between(0.38, 0.52),
        memory_mib: *random.pick(&[512, 768, 1024, 2048]),
        cpu_millis: *random.pick(&[500, 1000, 2000]),
        threads: 0.0,
        pool: 0.0,
        max_connections: 0.0,
        calls: vec![],
        endpoints: verbs.iter().map(|verb| format!("/v1/{name}/{verb}")).collect(),
        team: team.into(),
        most_replicas: None,
        replica_of: None,
    }
}

/// The estate of the first night, with a callers-before-callees order.
fn shop(random: &mut Random) -> Estate {
    use Role::{Database, External, Gateway, Queue, Service, Worker};
    let list: [(&str, Role, i64, &[(&str, f64)]); 17] = [
        (
            "storefront",
            Gateway,
            3,
            &[
                ("checkout", 0.25),
                ("catalog", 0.9),
                ("session", 0.8),
                ("recommendations", 0.4),
                ("authentication", 0.5),
            ],
        ),
        ("queue-worker", Worker, 3, &[("job-queue", 1.0), ("payments", 0.2), ("orders", 0.4), ("authentication", 0.5)]),
        (
            "checkout",
            Service,
            3,
            &[("payments", 0.8), ("orders", 1.0), ("authentication", 1.0), ("job-queue", 0.8), ("shipping", 0.5)],
        ),
        ("payments", Service, 3, &[("authentication", 0.7), ("payments-db", 1.0), ("card-network", 0.7)]),
        ("orders", Service, 3, &[("orders-db", 1.2), ("inventory", 0.6)]),
        ("recommendations", Service, 2, &[("catalog", 0.5)]),
        ("catalog", Service, 3, &[("catalog-db", 1.0), ("search", 0.4)]),
        ("search", Service, 2, &[]),
        ("inventory", Service, 2, &[("orders-db", 0.6)]),
        ("shipping", Service, 2, &[]),
        ("session", Service, 4, &[("accounts-db", 0.9)]),
        ("authentication", Service, 3, &[("accounts-db", 1.0)]),
        ("job-queue", Queue, 1, &[]),
        ("accounts-db", Database, 1, &[]),
        ("orders-db", Database, 1, &[]),
        ("payments-db", Database, 1, &[]),
        ("catalog-db", Database, 1, &[]),
    ];
    let mut nodes: Vec<Node> =
        list.iter().map(|(name, role, replicas, _)| node(name, *role, *replicas, "shop", "commerce", random)).collect();
    nodes.push(node("card-network", External, 0, "shop", "commerce", random));
    let find = |name: &str| list.iter().position(|one| one.0 == name).unwrap_or(list.len());
    for (at, (_, _, _, calls)) in list.iter().enumerate() {
        nodes[at].calls = calls.iter().map(|(to, share)| Call { to: find(to), share: *share }).collect();
    }
    Estate {
        cluster: "cluster-a".into(),
        nodes,
        hosts: (1..=5).map(|at| format!("node-{at}")).collect(),
        traffic: 160.0,
    }
}

const DOMAINS: [(&str, &[&str], &[&str], &[&str]); 5] = [
    (
        "bank",
        &["web-portal", "mobile-api", "partner-api"],
        &[
            "accounts",
            "transfers",
            "cards",
            "limits",
            "fraud",
            "statements",
            "identity",
            "notifications",
            "exchange",
            "loans",
            "consents",
            "ledger",
            "onboarding",
            "rewards",
        ],
        &["swift-gateway", "credit-bureau", "sms-provider"],
    ),
    (
        "logistics",
        &["tracking-site", "carrier-api", "driver-app"],
        &[
            "routing",
            "parcels",
            "labels",
            "customs",
            "fleet",
            "depots",
            "pricing",
            "slots",
            "addresses",
            "invoicing",
            "returns",
            "weights",
            "manifests",
            "claims",
        ],
        &["map-provider", "customs-office", "weather-api"],
    ),
    (
        "media",
        &["player-api", "site", "tv-gateway"],
        &[
            "catalogue",
            "playback",
            "licences",
            "profiles",
            "ratings",
            "subtitles",
            "thumbnails",
            "watchlist",
            "billing",
            "ads",
            "transcode",
            "entitlements",
            "trending",
            "devices",
        ],
        &["cdn-control", "payment-provider", "drm-vendor"],
    ),
    (
        "saas",
        &["app-gateway", "public-api", "admin-site"],
        &[
            "tenants",
            "projects",
            "documents",
            "comments",
            "permissions",
            "exports",
            "webhooks",
            "audit-trail",
            "usage",
            "plans",
            "members",
            "files",
            "previews",
            "reports",
        ],
        &["mail-provider", "identity-provider", "object-store"],
    ),
    (
        "travel",
        &["booking-site", "agency-api", "kiosk-api"],
        &[
            "offers",
            "seats",
            "fares",
            "passengers",
            "itineraries",
            "vouchers",
            "checkin",
            "bags",
            "loyalty",
            "upgrades",
            "schedules",
            "refunds",
            "bundles",
            "insurances",
        ],
        &["gds", "card-acquirer", "visa-service"],
    ),
];

fn any(random: &mut Random) -> Estate {
    let (domain, gateways, services, externals) = *random.pick(&DOMAINS);
    let namespaces = [domain.to_owned(), format!("{domain}-data")];
    let team = format!("{domain}-core");
    let mut nodes = vec![];
    let gateway_count = 1 + random.below(2);
    for name in gateways.iter().take(gateway_count) {
        let replicas = 2 + random.below(2) as i64;
        nodes.push(node(name, Role::Gateway, replicas, &namespaces[0], &team, random));
    }
    nodes.push(node(
        &format!("{domain}-worker"),
        Role::Worker,
        2 + random.below(2) as i64,
        &namespaces[0],
        &team,
        random,
    ));
    let mut names: Vec<&str> = services.to_vec();
    random.shuffle(&mut names);
    let service_count = 7 + random.below(6);
    let first_service = nodes.len();
    for name in names.iter().take(service_count) {
        let replicas = 2 + random.below(3) as i64;
        nodes.push(node(name, Role::Service, replicas, &namespaces[0], &team, random));
    }
    let last_service = nodes.len();
    let queue = nodes.len();
    nodes.push(node(&format!("{domain}-queue"), Role::Queue, 1, &namespaces[1], &team, random));
    let first_db = nodes.len();
    let db_count = 2 + random.below(2);
    for name in names.iter().take(db_count) {
        nodes.push(node(&format!("{name}-db"), Role::Database, 1, &namespaces[1], &team, random));
    }
    let first_external = nodes.len();
    let external_count = 1 + random.below(2);
    for name in externals.iter().take(external_count) {
        nodes.push(node(name, Role::External, 0, &namespaces[0], &team, random));
    }
    // Services call later services only: no cycles. Every service has a caller.
    let mut called = vec![false; nodes.len()];
    for at in first_service..last_service {
        for to in at + 1..last_service {
            let share = random.between(0.3, 1.0);
            if random.chance(0.22) {
                nodes[at].calls.push(Call { to, share });
                called[to] = true;
            }
        }
        if random.chance(0.7) {
            let to = first_db + random.below(db_count);
            let share = random.between(0.6, 1.2);
            nodes[at].calls.push(Call { to, share });
            called[to] = true;
        }
    }
    for to in first_db..first_external {
        if !called[to] {
            let at = first_service + random.below(last_service - first_service);
            nodes[at].calls.push(Call { to, share: 0.9 });
        }
    }
    for to in first_external..nodes.len() {
        let at = first_service + random.below(last_service - first_service);
        nodes[at].calls.push(Call { to, share: random.between(0.5, 0.9) });
    }
    for to in first_service..last_service {
        if !called[to] || random.chance(0.15) {
            let at = random.below(gateway_count);
            nodes[at].calls.push(Call { to, share: random.between(0.25, 0.8) });
        }
    }
    let worker = gateway_count;
    nodes[worker].calls.push(Call { to: queue, share: 1.0 });
    for _ in 0..2 {
        let to = first_service + random.below(last_service - first_service);
        if !nodes[worker].calls.iter().any(|call| call.to == to) {
            nodes[worker].calls.push(Call { to, share: random.between(0.2, 0.5) });
        }
    }
    let producer = first_service + random.below(last_service - first_service);
    nodes[producer].calls.push(Call { to: queue, share: 0.5 });
    let hosts = (1..=(4 + random.below(4))).map(|at| format!("{domain}-node-{at}")).collect();
    Estate { cluster: format!("{domain}-prod"), nodes, hosts, traffic: random.between(90.0, 220.0) }
}
