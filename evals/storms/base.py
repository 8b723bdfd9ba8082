"""What all worlds share: rule tables, placement of instances on nodes, and the shape of a world."""

from dataclasses import dataclass, field

from estate import Instance, Node

HEX = "0123456789abcdef"
POD = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True)
class Rule:
    signal: str
    floor: float  # lowest signal level that fires
    name: str
    severity: str
    wait: int  # seconds the condition must hold ("for")
    scope: str  # service, instance, node or rack
    cover: float  # share of entities that have this rule
    text: str


@dataclass(frozen=True)
class Chatter:
    """A rule that fires without any fault: a warning that comes and goes."""

    name: str
    severity: str
    scope: str
    seconds: int  # mean length
    weight: float
    text: str


def rule_table(table):
    """Parses lines `signal floor name severity wait scope cover | text`; `_` in a name stands for a blank."""
    out = []
    for line in table.strip().splitlines():
        head, text = line.split("|", 1)
        signal, floor, name, severity, wait, scope, cover = head.split()
        out.append(Rule(signal, float(floor), name.replace("_", " "), severity, int(wait), scope, float(cover),
                        text.strip()))
    return out


def chatter_table(table):
    """Parses lines `name severity scope seconds weight | text`."""
    out = []
    for line in table.strip().splitlines():
        head, text = line.split("|", 1)
        name, severity, scope, seconds, weight = head.split()
        out.append(Chatter(name.replace("_", " "), severity, scope, int(seconds), float(weight), text.strip()))
    return out


ROLES = {
    "entry": ["web", "bff", "frontend"], "api": ["api", "service", "core"],
    "mid": ["rules", "engine", "resolver", "calc", "store", "history", "proxy", "validator", "planner", "lookup"],
    "worker": ["worker", "consumer", "processor"], "external": ["provider", "vendor", "partner"],
    "job": ["nightly", "export", "reconcile"], "shared": ["auth", "config", "flags", "audit", "sessions", "tokens"],
}


@dataclass
class Style:
    """Conventions of one organisation; `build` in estate.py asks it for names and numbers."""

    vocabularies: list
    name: object  # (domain, role, engine) -> service name
    namespace: object  # (domain, env) -> namespace or group
    place: object  # (estate, rng) -> None: makes instances and nodes
    replicas: list = field(default_factory=lambda: [2, 2, 3, 3, 4, 6])
    coverage: float = 0.85
    engines: list = field(default_factory=lambda: ["postgres", "mysql"])
    brokers: list = field(default_factory=lambda: ["kafka", "rabbitmq"])
    roles: dict = field(default_factory=lambda: ROLES)
    queues: float = 0.12
    gateway: float = 0.4
    staging: float = 0.5


@dataclass
class Where:
    service: object = None
    instance: object = None
    node: object = None
    rack: str = ""
    env: str = "production"


def token(rng, letters, length):
    return "".join(rng.choice(letters) for _ in range(length))


def make_node(rng, name, number, zones):
    zone = zones[number % len(zones)]
    return Node(name, f"{zone}-r{number // len(zones) % 6 + 1:02d}", zone,
                f"10.{rng.randint(0, 60)}.{rng.randint(0, 250)}.{rng.randint(2, 250)}")


def place_shared(estate, rng, node_name, pod_name, zones, density):
    """Pods on a pool of shared nodes, replicas on different nodes where possible; staging has its own pool."""
    for env in ("production", "staging"):
        services = [s for s in estate.services if s.env == env]
        total = sum(s.replicas for s in services)
        if not total:
            continue
        pool = [make_node(rng, node_name(k, env), k, zones) for k in range(max(3, round(total / density)))]
        estate.nodes.extend(pool)
        for service in services:
            nodes = rng.sample(pool, min(len(pool), service.replicas))
            stem = token(rng, HEX, rng.choice([9, 10]))
            for k in range(service.replicas):
                service.instances.append(Instance(pod_name(service, stem, k), nodes[k % len(nodes)], k))


def place_dedicated(estate, rng, host_name, instance_name, zones):
    """Every instance on its own machine, which a job of the same domain may share."""
    for service in estate.services:
        for k in range(service.replicas):
            node = make_node(rng, host_name(service, k), len(estate.nodes), zones)
            estate.nodes.append(node)
            service.instances.append(Instance(instance_name(service, node, k), node, k))


class World:
    """One kind of organisation and its monitoring. A subclass gives rules, chatter and label conventions."""

    name = ""
    topology_share = 0.8  # of the sets that carry a topology.json
    fault_weights = {}
    rules = []
    chatter = []
    steady = []  # rules that always fire: watchdogs, long-known warnings
    repeats = [60, 120, 180, 300]  # seconds between notifications of a firing alert, per rule
    resolves = 0.9  # share of alerts whose end is notified
    strong = {"critical", "page"}
    persistent = {"warning", "warn"}
    milliseconds = False
    all_serve = False  # whether stores and jobs are watched for errors and delay as services are

    def __init__(self, rng):
        self.rng = rng

    def style(self):
        raise NotImplementedError

    def labels(self, rule, where):
        raise NotImplementedError

    def annotations(self, rule, where, facts):
        return {"summary": rule.text.format(**facts)}

    def topology_name(self, service):
        return service.name

    def topology_nodes(self):
        """Whether the topology also lists machines (a service "calls" the machine it runs on)."""
        return False

    def severity_of(self, labels):
        return labels.get("severity", "")
