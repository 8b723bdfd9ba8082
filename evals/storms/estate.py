"""The estate: services, their instances, the nodes these run on, and who calls whom.

Services come in business domains (checkout, search, ...), each with an entry, some inner services and data stores,
plus a few shared services that many domains call. Calls only go to a deeper tier or to a later service of the same
tier, so the call graph has no cycles and effects can be computed in one pass.
"""

from dataclasses import dataclass, field

VOCABULARIES = {
    "retail": "checkout catalog cart payments search pricing inventory orders shipping returns loyalty reviews "
    "recommend accounts giftcards promo wishlist tax fraud warehouse invoices stores media notify".split(),
    "bank": "login transfers cards ledger statements loans kyc aml fx payroll mortgages savings alerts branch "
    "brokerage limits disputes openbanking onboarding documents treasury reporting pensions atm".split(),
    "media": "playback manifest profiles billing discovery ads trailers subtitles drm transcode ingest search "
    "watchlist rating live chat push devices rights artwork geo metrics downloads household".split(),
    "logistics": "booking tracking routing fleet customs quotes depot manifests labels driver telematics claims "
    "yard scheduling capacity partners tariffs geocode eta pickup proof rail ocean air".split(),
    "games": "matchmaking lobby auth inventory shop leaderboard chat telemetry party presence patch anticheat "
    "guilds quests mail friends replay spectate economy seasons achievements voice crashes cloudsave".split(),
}
CORE = {"checkout", "payments", "login", "transfers", "cards", "playback", "manifest", "booking", "tracking",
        "matchmaking", "auth"}

# Names that say nothing of what a service does, as many organisations have them.
CODENAMES = ("hermes atlas falcon kraken zephyr orion nimbus quartz raven titan juniper cobalt mercury pelican saturn "
             "badger comet lynx onyx phoenix basalt cypress ember gecko heron iris jasper kestrel lotus marlin nova "
             "osprey puma quokka raptor sable tundra umbra viper walrus xenon yak zinc argon birch cedar drake elm").split()
TEAMS = ["team-" + t for t in "amber birch coral delta echo flint grove harbor indigo".split()]

TIER = {"gateway": 0, "entry": 1, "api": 2, "worker": 2, "mid": 3, "shared": 4, "queue": 5, "cache": 5, "db": 5,
        "external": 5, "job": 3}


@dataclass(eq=False)
class Node:
    name: str
    rack: str
    zone: str
    ip: str


@dataclass(eq=False)
class Instance:
    name: str
    node: Node
    ordinal: int


@dataclass(eq=False)
class Service:
    id: int
    name: str
    domain: str
    kind: str  # a key of TIER
    env: str  # "production" or "staging"
    namespace: str
    team: str
    core: bool
    replicas: int
    port: int
    covered: bool  # False: nobody wrote alerts for it
    deep_health: bool  # its readiness probe also checks what it calls
    engine: str = ""  # for stores: mysql, postgres, redis, kafka, ...
    weight: float = 0.0  # share of user requests that enter here
    instances: list = field(default_factory=list)

    @property
    def rank(self):
        return (TIER[self.kind], self.id)


@dataclass(eq=False)
class Edge:
    caller: Service
    callee: Service
    share: float  # share of the caller's requests that need the callee
    hard: bool  # False: the caller has a fallback


class Estate:
    """Services with their call graph; built by `build`."""

    def __init__(self):
        self.services, self.nodes, self.edges = [], [], []
        self.calls, self.called_by = {}, {}
        self.gateway = None
        self.residents = {}  # node -> [(service, instance)], filled once placed
        self.codenames, self.coded = [], 0.0  # names left to give, and the share of inner services that get one

    def add(self, service):
        self.services.append(service)
        self.calls[service], self.called_by[service] = [], []
        return service

    def connect(self, caller, callee, share, hard):
        if caller is callee or any(e.callee is callee for e in self.calls[caller]):
            return
        if caller.rank >= callee.rank:
            return
        edge = Edge(caller, callee, share, hard)
        self.edges.append(edge)
        self.calls[caller].append(edge)
        self.called_by[callee].append(edge)

    def of(self, *kinds, env=None):
        return [s for s in self.services if s.kind in kinds and (env is None or s.env == env)]

    def on_node(self, node):
        return self.residents.get(node, [])

    def callers_closure(self, service):
        seen, todo = set(), [service]
        while todo:
            for edge in self.called_by[todo.pop()]:
                if edge.caller not in seen:
                    seen.add(edge.caller)
                    todo.append(edge.caller)
        return seen


def build(rng, size, style):
    """An estate of about `size` services in the given `style` (a `worlds.Style`)."""
    estate = Estate()
    estate.codenames, estate.coded = rng.sample(CODENAMES, len(CODENAMES)), rng.choice([0.0, 0.0, 0.3, 0.7])
    words = list(VOCABULARIES[rng.choice(style.vocabularies)])
    core_words = [w for w in words if w in CORE]
    rest = [w for w in words if w not in CORE]
    rng.shuffle(rest)
    pool = core_words[:2] + rest + core_words[2:]
    count = 0
    while len(estate.services) < size:
        domain = pool[count % len(pool)]
        if count >= len(pool):
            domain += "-" + ["eu", "us", "apac", "b2b", "legacy", "v2"][(count // len(pool) - 1) % 6]
        budget = min(size - len(estate.services), rng.randint(4, 10))
        _add_domain(estate, rng, style, domain, domain in core_words[:2], budget, "production")
        count += 1
    if style.gateway and rng.random() < style.gateway:
        _add_gateway(estate, rng, style)
    _add_shared(estate, rng, style)
    _connect_domains(estate, rng)
    _weigh_entries(estate, rng)
    if rng.random() < style.staging:
        domains = sorted({s.domain for s in estate.services if s.kind == "entry"})
        for domain in rng.sample(domains, min(2, len(domains))):
            _add_domain(estate, rng, style, domain, False, rng.randint(4, 7), "staging")
    style.place(estate, rng)
    for service in estate.services:
        for instance in service.instances:
            estate.residents.setdefault(instance.node, []).append((service, instance))
    return estate


def _service(estate, rng, style, domain, role, kind, env, core=False, engine=""):
    staging = env == "staging"
    replicas = 1 if staging or kind == "job" else rng.choice(style.replicas)
    if kind in ("db", "queue", "cache"):
        replicas = 1 if staging else rng.choice([1, 2, 3])
    if kind == "external":
        replicas = 0
    name = style.name(domain, role, engine)
    if estate.codenames and kind not in ("gateway", "entry", "external") and not staging and rng.random() < estate.coded:
        code = estate.codenames.pop()
        name = style.name(engine, code, "") if kind in ("db", "queue", "cache") else code
    covered = kind != "external" and rng.random() < style.coverage
    return estate.add(Service(
        id=len(estate.services), name=name, domain=domain, kind=kind, env=env,
        namespace=style.namespace(domain, env), team=TEAMS[sum(map(ord, domain)) % len(TEAMS)], core=core, replicas=replicas,
        port=rng.choice([8080, 8000, 9090, 3000, 8443]), covered=covered, deep_health=rng.random() < 0.3,
        engine=engine))


def _add_domain(estate, rng, style, domain, core, budget, env):
    def new(role, kind, engine=""):
        return _service(estate, rng, style, domain, role, kind, env, core and kind == "entry", engine)

    roles = style.roles
    entry = new(rng.choice(roles["entry"]), "entry")
    api = new(rng.choice(roles["api"]), "api")
    shared_stores = estate.of("db", env=env)
    if shared_stores and not core and rng.random() < 0.2:  # several domains on one database cluster
        store = rng.choice(shared_stores)
    else:
        store = new("db", "db", rng.choice(style.engines))
    estate.connect(entry, api, rng.uniform(0.7, 1.0), True)
    estate.connect(api, store, rng.uniform(0.6, 1.0), True)
    left, names = budget - 3, list(roles["mid"])
    rng.shuffle(names)
    mids = []
    while left > 0:
        left -= 1
        dice = rng.random()
        if dice < 0.45 and names:
            mid = new(names.pop(), "mid")
            estate.connect(rng.choice([api] + mids), mid, rng.uniform(0.3, 0.9), rng.random() < 0.75)
            if rng.random() < 0.5:
                estate.connect(mid, store, rng.uniform(0.5, 1.0), True)
            mids.append(mid)
        elif dice < 0.6 and not any(s.domain == domain and s.kind == "cache" and s.env == env for s in estate.services):
            cache = new("cache", "cache", "redis")
            estate.connect(rng.choice([api] + mids), cache, rng.uniform(0.5, 1.0), False)
        elif dice < 0.6 + style.queues and left >= 1 \
                and not any(s.domain == domain and s.kind == "queue" and s.env == env for s in estate.services):
            left -= 1
            queue = new("events", "queue", rng.choice(style.brokers))
            worker = new(rng.choice(roles["worker"]), "worker")
            estate.connect(api, queue, rng.uniform(0.1, 0.5), False)
            estate.connect(worker, queue, 1.0, True)
            estate.connect(worker, store, rng.uniform(0.3, 0.8), True)
        elif dice < 0.88 and env == "production" \
                and not any(s.domain == domain and s.kind == "external" for s in estate.services):
            vendor = new(rng.choice(roles["external"]), "external")
            estate.connect(rng.choice([api] + mids), vendor, rng.uniform(0.4, 0.9), True)
        elif not any(s.domain == domain and s.kind == "job" and s.env == env for s in estate.services):
            job = new(rng.choice(roles["job"]), "job")
            estate.connect(job, store, 1.0, True)


def _add_gateway(estate, rng, style):
    gateway = _service(estate, rng, style, "edge", "gateway", "gateway", "production")
    gateway.covered, gateway.replicas = True, 3
    estate.gateway = gateway


def _add_shared(estate, rng, style):
    count = 1 + len(estate.services) // 60
    for role in rng.sample(style.roles["shared"], min(count, len(style.roles["shared"]))):
        shared = _service(estate, rng, style, "platform", role, "shared", "production")
        for api in estate.of("api", env="production"):
            if rng.random() < 0.2:
                estate.connect(api, shared, rng.uniform(0.2, 0.7), rng.random() < 0.6)


def _connect_domains(estate, rng):
    apis = estate.of("api", env="production")
    for caller in apis:
        while rng.random() < 0.4 and len(apis) > 2:
            callee = rng.choice(apis)
            estate.connect(caller, callee, rng.uniform(0.1, 0.5), rng.random() < 0.6)


def _weigh_entries(estate, rng):
    entries = estate.of("entry", env="production")
    raw = {e: rng.uniform(0.3, 1.0) * (4.0 if e.core else 1.0) for e in entries}
    total = sum(raw.values())
    for entry in entries:
        entry.weight = raw[entry] / total
        if estate.gateway:
            estate.connect(estate.gateway, entry, entry.weight, True)
