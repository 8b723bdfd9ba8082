"""What a fault does: the signals it raises where it sits, and how errors and slowness travel to the callers.

A signal is a level over an interval of time at one service, instance, node or rack. It is not yet an alert: whether
anyone alerts on it is the world's business (`worlds`). Times are seconds from the start of the set.
"""

from dataclasses import dataclass, field

from estate import Instance, Node, Service

# How a caller's client library words the failure of what it calls.
PHRASES = {
    "crash": "connection refused", "down": "connection refused", "deploy": "HTTP 500", "slow": "context deadline exceeded",
    "oom": "connection reset by peer", "cert": "x509: certificate has expired or is not yet valid",
    "dns": "no such host", "net": "i/o timeout", "vendor": "HTTP 503 Service Unavailable", "disk": "read-only file system",
}


@dataclass
class Signal:
    name: str
    level: float
    fault: "Fault"
    start: float
    end: float
    service: Service = None
    instance: Instance = None
    node: Node = None
    rack: str = ""
    via: Service = None  # the callee whose failure is seen here
    flaps: bool = False


@dataclass
class Impact:
    start: float
    end: float
    errors: float  # share of requests that fail
    slow: float  # share of requests beyond the latency objective
    via: Service = None


@dataclass(eq=False)
class Fault:
    id: str
    kind: str
    start: float
    end: float
    root: object  # Service, Node or rack name
    env: str = "production"
    phrase: str = "connection refused"
    signals: list = field(default_factory=list)
    impacts: dict = field(default_factory=dict)
    severity: str = ""

    @property
    def root_name(self):
        return self.root if isinstance(self.root, str) else self.root.name

    def touched(self):
        """Services on which this fault can raise an alert."""
        named = {s.service for s in self.signals if s.service is not None and s.name not in ("err", "slow")}
        return named | {s for s, i in self.impacts.items() if i.errors >= 0.03 or i.slow >= 0.15}


# fault kind -> kinds of service it can sit at ("node" and "rack" for infrastructure)
SEATS = {
    "crash": ("entry", "api", "mid", "worker", "shared"), "oom": ("entry", "api", "mid", "worker"),
    "deploy": ("entry", "api", "mid", "shared", "gateway"), "cpu": ("entry", "api", "mid", "shared"),
    "db_slow": ("db",), "db_down": ("db",), "db_disk": ("db",), "db_conns": ("db",), "repl": ("db",),
    "cache_down": ("cache",), "broker": ("queue",), "consumer": ("worker",), "vendor": ("external",),
    "cert": ("entry", "api", "mid", "gateway"), "dns": ("api",), "job": ("job",),
    "node_down": ("node",), "node_disk": ("node",), "node_net": ("node",), "rack": ("rack",),
    "noisy_neighbour": ("node",),
}


def play(fault, estate, rng, all_serve=False):
    """Fills the fault's signals, impacts and true severity. With `all_serve` stores and jobs show errors as well."""
    seeds = {}

    def signal(name, level, start=None, end=None, **where):
        fault.signals.append(Signal(name, level, fault, fault.start if start is None else start,
                                    fault.end if end is None else end, **where))

    if isinstance(fault.root, Service):
        _at_service(fault, estate, rng, signal, seeds)
    else:
        _at_infrastructure(fault, estate, rng, signal, seeds)
    fault.impacts = spread(estate, rng, seeds)
    for service, impact in fault.impacts.items():
        _symptoms(service, impact, rng, signal, root=service in seeds, all_serve=all_serve)
    _traffic_drop(fault, estate, rng, signal)
    fault.severity = severity(fault, estate)


def _pods(service, rng, signal, name, share, start, end, spacing, flaps=False):
    count = max(1, round(share * len(service.instances)))
    for order, pod in enumerate(rng.sample(service.instances, min(count, len(service.instances)))):
        signal(name, 1.0, start + order * rng.uniform(0, spacing), end, service=service, instance=pod, flaps=flaps)


def _at_service(fault, estate, rng, signal, seeds):
    root, kind, t0, t1 = fault.root, fault.kind, fault.start, fault.end

    def hurt(errors, slow, after=0.0):
        seeds[root] = Impact(t0 + after, t1, errors, slow)

    if kind == "crash":
        share = rng.choice([0.34, 0.67, 1.0, 1.0])
        fault.phrase = PHRASES["crash"]
        _pods(root, rng, signal, "crash", share, t0, t1, 60)
        _pods(root, rng, signal, "notready", share, t0 + 20, t1, 60)
        signal("replicas", share, t0 + 30, service=root)
        if share == 1.0:
            signal("down", 1.0, t0 + 40, service=root)
        hurt(1.0 if share == 1.0 else share * rng.uniform(0.2, 0.8), 0.2)
    elif kind == "oom":
        fault.phrase = PHRASES["oom"]
        _pods(root, rng, signal, "mem", 1.0, t0 - rng.uniform(60, 900), t1, 120)
        _pods(root, rng, signal, "oom", rng.uniform(0.4, 1.0), t0, t1, 240, flaps=True)
        signal("replicas", 0.4, t0 + 60, service=root, flaps=True)
        hurt(rng.uniform(0.1, 0.6), 0.3)
    elif kind == "deploy":
        fault.phrase = PHRASES["deploy"]
        signal("deploy", 1.0, t0 - rng.uniform(20, 120), t0 + 60, service=root)
        bad = rng.uniform(0.15, 0.95)
        if rng.random() < 0.5:
            _pods(root, rng, signal, "crash", bad, t0 + 20, t1, 90)
            signal("replicas", bad, t0 + 60, service=root)
            _pods(root, rng, signal, "notready", bad, t0 + 30, t1, 90)
        hurt(bad, rng.uniform(0, 0.4))
    elif kind == "cpu":
        fault.phrase = PHRASES["slow"]
        _pods(root, rng, signal, "cpu", 1.0, t0, t1, 90)
        _pods(root, rng, signal, "throttle", 0.8, t0 + 30, t1, 120)
        signal("hpa", 1.0, t0 + 120, service=root)
        hurt(rng.uniform(0.02, 0.3), rng.uniform(0.4, 0.9))
    elif kind in ("db_slow", "db_conns"):
        fault.phrase = PHRASES["slow"]
        signal("slowq" if kind == "db_slow" else "conns", rng.uniform(0.6, 1), service=root)
        _pods(root, rng, signal, "cpu", 0.5, t0, t1, 60)
        if kind == "db_slow":
            signal("conns", 0.8, t0 + rng.uniform(60, 240), service=root)
            signal("repl", 0.7, t0 + rng.uniform(30, 300), service=root)
        hurt(rng.uniform(0.05, 0.6), rng.uniform(0.5, 1.0))
    elif kind == "db_down":
        fault.phrase = PHRASES["down"]
        signal("down", 1.0, service=root)
        _pods(root, rng, signal, "inst_down", 1.0, t0, t1, 20)
        hurt(1.0, 0.0)
    elif kind == "db_disk":
        fault.phrase = PHRASES["disk"]
        early = t0 - rng.uniform(300, 1500)
        for pod in root.instances[:1]:
            signal("disk", 0.9, early, service=root, instance=pod)
            signal("disk_full", 1.0, service=root, instance=pod)
        hurt(rng.uniform(0.5, 1.0), 0.3, after=20)
    elif kind == "repl":
        signal("repl", 1.0, service=root)
        _pods(root, rng, signal, "cpu", 0.5, t0, t1, 60)
        _pods(root, rng, signal, "io", 0.7, t0, t1, 60)
        hurt(0.0, rng.uniform(0.05, 0.3), after=60)
    elif kind == "cache_down":
        signal("down", 1.0, service=root)
        signal("hitrate", 1.0, t0 + 30, service=root)
        _pods(root, rng, signal, "inst_down", 1.0, t0, t1, 30)
        hurt(1.0, 0.5)
        for edge in estate.called_by[root]:  # the load moves on to the callers' stores
            for other in estate.calls[edge.caller]:
                if other.callee.kind == "db":
                    signal("slowq", 0.7, t0 + rng.uniform(30, 200), service=other.callee)
                    seeds[other.callee] = Impact(t0 + 60, t1, 0.02, rng.uniform(0.3, 0.7))
    elif kind == "broker":
        signal("under_replicated", 1.0, service=root)
        _pods(root, rng, signal, "inst_down", 0.4, t0, t1, 30)
        signal("backlog", 0.9, t0 + rng.uniform(60, 180), service=root)
        for edge in estate.called_by[root]:
            if edge.caller.kind == "worker":
                signal("lag", 0.9, t0 + rng.uniform(60, 240), t1 + rng.uniform(120, 900), service=edge.caller)
        hurt(rng.uniform(0.3, 1.0), 0.5)
    elif kind == "consumer":
        signal("lag", 1.0, t0 + rng.uniform(20, 120), service=root)
        if rng.random() < 0.5:
            signal("dlq", 1.0, t0 + rng.uniform(60, 200), service=root)
        _pods(root, rng, signal, "crash" if rng.random() < 0.5 else "cpu", 0.7, t0, t1, 60)
        for edge in estate.calls[root]:
            if edge.callee.kind == "queue":
                signal("backlog", 0.9, t0 + rng.uniform(60, 300), service=edge.callee)
        signal("stale", 1.0, t0 + rng.uniform(120, 300), service=root)
        hurt(rng.uniform(0.2, 0.8), 0.5)
    elif kind == "vendor":
        fault.phrase = PHRASES["vendor"]
        hurt(rng.uniform(0.4, 1.0), rng.uniform(0.2, 0.8))
    elif kind == "cert":
        fault.phrase = PHRASES["cert"]
        signal("cert", 1.0, service=root)
        signal("probe", 1.0, t0 + 20, service=root)
        hurt(rng.uniform(0.9, 1.0), 0.0)
    elif kind == "dns":
        fault.phrase = PHRASES["dns"]
        for service in [s for s in estate.services if s.namespace == root.namespace and s.kind in ("api", "mid", "worker")]:
            signal("dns", 0.8, t0 + rng.uniform(0, 60), service=service)
            seeds[service] = Impact(t0 + rng.uniform(5, 60), t1, rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.7))
    elif kind == "job":
        signal("jobfail", 1.0, service=root)
        _pods(root, rng, signal, "crash", 1.0, t0, t1, 30)
        signal("stale", 1.0, t0 + rng.uniform(120, 600), service=root)
        seeds[root] = Impact(t0, t1, 1.0, 0.0)


def _at_infrastructure(fault, estate, rng, signal, seeds):
    kind, t0, t1 = fault.kind, fault.start, fault.end
    fault.phrase = PHRASES["net"]
    nodes = [fault.root] if isinstance(fault.root, Node) else [n for n in estate.nodes if n.rack == fault.root]
    if kind == "rack":
        signal("switch", 1.0, rack=fault.root)
    gone = kind in ("node_down", "rack")
    lost = {}
    for node in nodes:
        at = t0 + rng.uniform(0, 30)
        own = {"node_down": ["node_down"], "rack": ["node_down"], "node_disk": ["node_disk", "node_io"],
               "node_net": ["node_net"], "noisy_neighbour": ["node_load"]}[kind]
        for name in own:
            signal(name, 1.0, at, node=node)
        for service, pod in estate.on_node(node):
            lost.setdefault(service, []).append(pod)
            part = rng.random() < 0.8
            if gone:
                signal("inst_down", 1.0, at + rng.uniform(5, 40), service=service, instance=pod)
                signal("notready", 1.0, at + rng.uniform(20, 60), service=service, instance=pod)
            elif part and kind == "node_disk":
                signal("evicted", 1.0, at + rng.uniform(30, 300), service=service, instance=pod)
            elif part and kind == "node_net":
                signal("inst_down", 1.0, at + rng.uniform(5, 120), service=service, instance=pod, flaps=True)
            elif part:
                signal("throttle", 1.0, at + rng.uniform(30, 200), service=service, instance=pod)
    for service, pods in lost.items():
        share = len(pods) / max(1, len(service.instances))
        delay = rng.uniform(10, 60)
        if gone and share < 1.0:  # redundancy: the balancer drops the dead ones within minutes
            signal("replicas", share, t0 + 60, service=service)
            seeds[service] = Impact(t0 + delay, min(t1, t0 + delay + rng.uniform(90, 300)), 0.3 * share, 0.4 * share)
        elif gone:
            signal("down", 1.0, t0 + 40, service=service)
            seeds[service] = Impact(t0 + delay, t1, 1.0, 0.0)
        elif kind == "node_net":
            seeds[service] = Impact(t0 + delay, t1, 0.4 * share, 0.6 * share)
        else:
            seeds[service] = Impact(t0 + delay, t1, 0.05 * share, 0.7 * share)


def spread(estate, rng, seeds):
    """Carries the seeds' errors and slowness to all callers, callees first.

    A caller that needs the callee for a share of its requests fails on that share; with a fallback it mostly gets
    slower. Several failing callees combine as independent causes.
    """
    impacts = dict(seeds)
    for service in sorted(estate.services, key=lambda s: s.rank, reverse=True):
        parts = []
        for edge in estate.calls[service]:
            below = impacts.get(edge.callee)
            if below is None or (service.kind in ("worker", "job") and edge.callee.kind != "queue" and not edge.hard):
                continue
            errors = below.errors * edge.share * (1.0 if edge.hard else 0.06)
            slow = edge.share * ((0.9 if edge.hard else 0.35) * below.slow + (0.2 if edge.hard else 0.3) * below.errors)
            if errors + slow < 0.01:
                continue
            delay = rng.uniform(5, 90) if rng.random() < 0.8 else rng.uniform(90, 300)
            parts.append((errors, slow, below.start + delay, below.end + rng.uniform(5, 90), edge.callee))
        if not parts:
            continue
        ok, fast = 1.0, 1.0
        for errors, slow, *_ in parts:
            ok, fast = ok * (1 - errors), fast * (1 - min(1.0, slow))
        via = max(parts, key=lambda p: p[0] + p[1])[4]
        made = Impact(min(p[2] for p in parts), max(p[3] for p in parts), 1 - ok, 1 - fast, via)
        own = impacts.get(service)
        if own is None:
            impacts[service] = made
        else:
            own.errors, own.slow = max(own.errors, made.errors), max(own.slow, made.slow)
    return impacts


def _symptoms(service, impact, rng, signal, root, all_serve):
    """What monitoring can see of an impact at one service."""
    # Stores, queues, jobs and consumers serve no requests: they show through their own signals only.
    serves = service.kind in ("gateway", "entry", "api", "mid", "shared") or all_serve
    span = dict(start=impact.start, end=impact.end, service=service, via=impact.via)
    if serves and impact.errors > 0.005:
        signal("err", impact.errors, **span)
    if serves and impact.slow > 0.02:
        signal("slow", impact.slow, **span)
    if service.kind in ("entry", "gateway") and impact.errors > 0.5:
        signal("probe", impact.errors, **{**span, "start": impact.start + 30})
    if service.kind == "worker" and not root and impact.errors + impact.slow > 0.3:
        signal("lag", 0.7, **{**span, "start": impact.start + rng.uniform(60, 240)})
    if service.kind == "job" and not root and impact.errors > 0.5:
        signal("jobfail", 1.0, **{**span, "start": impact.start + rng.uniform(60, 300)})
    if not root and service.deep_health and impact.errors > 0.5:
        for pod in service.instances:
            signal("notready", 1.0, impact.start + rng.uniform(20, 90), impact.end, service=service, instance=pod,
                   via=impact.via)
        signal("replicas", 1.0, impact.start + 60, impact.end, service=service, via=impact.via)
    if not root and impact.slow > 0.5 and service.kind in ("api", "mid", "entry"):
        signal("pool", impact.slow, **{**span, "start": impact.start + rng.uniform(10, 90)})


def _traffic_drop(fault, estate, rng, signal):
    """What a mostly failing service calls gets less traffic, and some teams alert on that."""
    for service, impact in list(fault.impacts.items()):
        if impact.errors < 0.8 or service.kind in ("db", "queue", "external"):
            continue
        for edge in estate.calls[service]:
            only = sum(e.share for e in estate.called_by[edge.callee]) <= edge.share * 1.5
            if only and edge.callee not in fault.impacts and rng.random() < 0.4:
                signal("drop", 0.8, impact.start + rng.uniform(60, 240), impact.end, service=edge.callee)


def severity(fault, estate):
    """The severity that follows from what users felt.

    `users` is the share of user requests that fail (a slow one counts a quarter), `core` the same for the worst core
    journey. SEV1: most users or a core journey down. SEV2: a substantial part. SEV3: few users, or only inner
    services. SEV4: no effect on users (staging, batch, redundancy). Under 8 minutes it counts one step less.
    """
    if fault.env != "production":
        return "SEV4"
    felt = {s: i.errors + 0.25 * i.slow for s, i in fault.impacts.items()
            if s.env == "production" and i.end - i.start >= 300}
    users = sum(s.weight * min(1.0, v) for s, v in felt.items())
    if estate.gateway in felt:
        users = max(users, felt[estate.gateway])
    core = max((v for s, v in felt.items() if s.core), default=0.0)
    inner = max((v for s, v in felt.items() if s.kind in ("api", "mid", "shared", "worker", "db")), default=0.0)
    if users >= 0.5 or core >= 0.6:
        level = 1
    elif users >= 0.1 or core >= 0.2:
        level = 2
    elif users >= 0.005 or core >= 0.03 or inner >= 0.2:
        level = 3
    else:
        level = 4
    if fault.end - fault.start < 480:
        level = min(4, level + 1)
    return f"SEV{level}"
