#!/usr/bin/env python3
"""Labelled alert storms of small layered estates, written in an afternoon from the definitions of the measures.
usage: layers.py SEED OUTDIR   (stdlib only, deterministic by seed).

Written without sight of the correlator it measures. An alert that two faults would raise belongs to whichever
raises it first. Severity by what users lose and for how long, which no alert says.
"""
import heapq, json, os, random, sys
from datetime import datetime, timedelta, timezone

DOMAINS = ("orders payments catalog search cart users auth shipping inventory pricing promotions recommendations "
           "notifications billing reviews fraud loyalty media analytics invoices returns subscriptions geo tax chat").split()
FRONTS = [("web-storefront", 8), ("mobile-bff", 6), ("checkout-web", 4), ("partner-portal", 1.0), ("seller-console", .8), ("admin-portal", .2)]
APIS = "api-gateway checkout orders-api account-api search-api graphql cart-api partner-api".split()
EXTS = "stripe-api twilio sendgrid maps-api adyen ups-tracking".split()
CRITICAL = {"checkout", "payments", "auth", "cart", "orders"}        # business-critical journeys (by domain)
TEAMS = "storefront commerce fulfilment identity growth data platform finance".split()
REGIONS = ["eu-west-1", "us-east-1", "ap-south-1"]

# ---------------------------------------------------------------- alert catalogue
# (name, base severity, per-pod?, unit/value range, summary)
T = {n: (n, s, p, v, m) for n, s, p, v, m in [
    ("HighErrorRate", "critical", 0, (.02, .6), "5xx ratio on {svc} above threshold"),
    ("HighLatencyP99", "warning", 0, (.8, 12), "p99 latency of {svc} is high"),
    ("SLOBurnRateFast", "critical", 0, (6, 40), "{svc} is burning its error budget too fast"),
    ("SLOBurnRateSlow", "warning", 0, (2, 6), "{svc} slow burn of error budget"),
    ("UpstreamTimeouts", "warning", 0, (5, 300), "{svc} sees timeouts calling {dep}"),
    ("CircuitBreakerOpen", "warning", 0, (1, 1), "Circuit breaker open in {svc} towards {dep}"),
    ("ThreadPoolSaturated", "warning", 1, (.9, 1), "Worker pool saturated on {svc}"),
    ("DBConnectionPoolExhausted", "critical", 1, (.95, 1), "Connection pool in {svc} exhausted"),
    ("PodNotReady", "warning", 1, (1, 1), "Pod of {svc} is not ready"),
    ("PodCrashLooping", "critical", 1, (2, 15), "Pod of {svc} restarts repeatedly"),
    ("ContainerOOMKilled", "critical", 1, (1, 4), "Container of {svc} was OOM killed"),
    ("CPUThrottlingHigh", "warning", 1, (.3, .9), "CPU throttling on {svc}"),
    ("MemoryUsageHigh", "warning", 1, (.85, .99), "Memory usage of {svc} above 85%"),
    ("TargetDown", "critical", 1, (0, 0), "Scrape target of {svc} is down"),
    ("TrafficDrop", "warning", 0, (.1, .6), "Request rate of {svc} dropped versus last week"),
    ("TrafficSurge", "warning", 0, (1.8, 6), "Request rate of {svc} far above baseline"),
    ("SyntheticCheckFailed", "critical", 0, (0, 0), "Synthetic probe of {svc} fails"),
    ("BusinessKPILow", "critical", 0, (.1, .7), "Conversions through {svc} below expected band"),
    ("DatabaseDown", "critical", 1, (0, 0), "{svc} does not answer"),
    ("SlowQueries", "warning", 1, (10, 400), "Slow queries on {svc}"),
    ("TooManyConnections", "critical", 1, (.9, 1), "{svc} close to max_connections"),
    ("ReplicationLag", "warning", 1, (20, 900), "Replica of {svc} lags behind primary"),
    ("DiskSpaceLow", "warning", 1, (.01, .12), "Volume of {svc} almost full"),
    ("CacheHitRatioLow", "warning", 0, (.1, .6), "Hit ratio of {svc} is low"),
    ("CacheEvictionsHigh", "warning", 1, (100, 9000), "Evictions on {svc}"),
    ("RedisDown", "critical", 1, (0, 0), "{svc} instance unreachable"),
    ("ConsumerLagHigh", "warning", 0, (1e3, 9e5), "Consumer lag on {svc} growing"),
    ("UnderReplicatedPartitions", "critical", 1, (1, 80), "Under-replicated partitions on {svc}"),
    ("BrokerDown", "critical", 1, (0, 0), "Broker of {svc} is down"),
    ("ExternalProbeFailed", "warning", 0, (0, 0), "Probe of third party {svc} fails"),
    ("NodeNotReady", "critical", 2, (0, 0), "Node {svc} is not ready"),
    ("NodeDiskPressure", "warning", 2, (.9, .99), "Node {svc} has disk pressure"),
    ("NodeHighLoad", "warning", 2, (12, 90), "Load on node {svc} is high"),
    ("NodeNetworkErrors", "warning", 2, (10, 900), "Packet errors on node {svc}"),
    ("CertificateExpiringSoon", "warning", 0, (3, 20), "Certificate of {svc} expires soon"),
    ("BackupJobFailed", "warning", 0, (1, 1), "Nightly backup for {svc} failed"),
    ("CronJobLate", "warning", 0, (1, 3), "Scheduled job of {svc} is late"),
    ("HPAMaxedOut", "warning", 0, (1, 1), "{svc} runs at max replicas"),
]}
# fault type -> (root alerts, strength range, pods affected share)
FAULTS = {
    "svc": {"bad_deploy": (["HighErrorRate", "PodCrashLooping", "PodNotReady", "SLOBurnRateFast"], (.5, 1)),
            "memory_leak": (["MemoryUsageHigh", "ContainerOOMKilled", "HighLatencyP99", "PodCrashLooping"], (.35, .8)),
            "cpu_saturation": (["CPUThrottlingHigh", "HighLatencyP99", "HPAMaxedOut", "ThreadPoolSaturated"], (.3, .7)),
            "runaway_client": (["TrafficSurge", "HPAMaxedOut", "CPUThrottlingHigh"], (.4, .8))},
    "db": {"down": (["DatabaseDown", "TargetDown", "ReplicationLag"], (.8, 1)),
           "slow_queries": (["SlowQueries", "TooManyConnections", "ReplicationLag"], (.4, .8)),
           "disk_full": (["DiskSpaceLow", "DatabaseDown", "SlowQueries"], (.6, 1)),
           "conn_exhausted": (["TooManyConnections", "SlowQueries"], (.5, .9))},
    "cache": {"down": (["RedisDown", "TargetDown", "CacheHitRatioLow"], (.7, 1)),
              "evictions": (["CacheEvictionsHigh", "CacheHitRatioLow", "MemoryUsageHigh"], (.4, .8))},
    "queue": {"broker_down": (["BrokerDown", "UnderReplicatedPartitions", "ConsumerLagHigh"], (.5, 1)),
              "lag": (["ConsumerLagHigh", "DiskSpaceLow"], (.4, .7))},
    "ext": {"third_party_outage": (["ExternalProbeFailed"], (.6, 1))},
    "host": {"node_down": (["NodeNotReady", "TargetDown"], (.9, 1)),
             "disk_pressure": (["NodeDiskPressure", "NodeHighLoad"], (.5, .8)),
             "network": (["NodeNetworkErrors", "NodeHighLoad", "NodeNotReady"], (.5, .9))}}
SYM = {"front": ["HighErrorRate", "HighLatencyP99", "SyntheticCheckFailed", "BusinessKPILow", "SLOBurnRateFast", "TrafficDrop"],
       "api": ["HighErrorRate", "HighLatencyP99", "UpstreamTimeouts", "CircuitBreakerOpen", "SLOBurnRateFast", "ThreadPoolSaturated"],
       "svc": ["HighErrorRate", "HighLatencyP99", "UpstreamTimeouts", "CircuitBreakerOpen", "ThreadPoolSaturated", "PodNotReady", "SLOBurnRateSlow"],
       "db": ["SlowQueries", "TooManyConnections", "ReplicationLag"], "cache": ["CacheHitRatioLow", "CacheEvictionsHigh"],
       "queue": ["ConsumerLagHigh", "UnderReplicatedPartitions"], "ext": ["ExternalProbeFailed"]}
PODLOSS = {"front": "PodNotReady", "api": "PodNotReady", "svc": "PodNotReady", "db": "DatabaseDown", "cache": "RedisDown", "queue": "BrokerDown"}
NOISE = {"app": ["HighLatencyP99", "CPUThrottlingHigh", "MemoryUsageHigh", "PodNotReady", "HighErrorRate", "HPAMaxedOut", "CronJobLate",
                 "CertificateExpiringSoon", "SLOBurnRateSlow", "TrafficDrop", "UpstreamTimeouts"],
         "db": ["SlowQueries", "ReplicationLag", "BackupJobFailed", "DiskSpaceLow"], "cache": ["CacheEvictionsHigh", "CacheHitRatioLow"],
         "queue": ["ConsumerLagHigh", "DiskSpaceLow"], "ext": ["ExternalProbeFailed"], "host": ["NodeHighLoad", "NodeDiskPressure", "NodeNetworkErrors"]}


# ---------------------------------------------------------------- estate
def make_estate(R):
    E = {"kind": {}, "team": {}, "dom": {}, "ns": {}, "cover": {}, "pods": {}, "edges": {}, "traffic": {}}
    kind = E["kind"]
    n = R.randint(20, 60)
    suf, dbs, qs = R.choice(["", "-svc", "-service"]), R.choice(["{}-db", "pg-{}", "{}-postgres"]), R.choice(["kafka-{}", "rabbit-{}", "{}-queue"])
    doms = DOMAINS[:8] + DOMAINS[8:]; R.shuffle(doms)
    doms = sorted(doms, key=lambda d: d not in ("orders", "payments", "auth"))
    nf, na = max(2, min(5, round(n * .09))), max(3, min(8, round(n * .13)))
    nx = R.randint(1, 3); ndb = round(n * .2); nc = max(1, round(n * .1)); nq = max(1, round(n * .08))
    ncore = min(len(doms), n - nf - na - nx - ndb - nc - nq)
    def add(name, k, dom): kind[name] = k; E["dom"][name] = dom; return name
    fr = [add(x, "front", x.split("-")[0]) for x, _ in R.sample(FRONTS[:4], min(nf, 4))] + ([add("admin-portal", "front", "admin")] if nf > 4 else [])
    ap = [add(x, "api", x.split("-")[0]) for x in APIS[:2] + R.sample(APIS[2:], na - 2)]
    core = [add(d + suf if d + suf not in kind else d + "-core", "svc", d) for d in doms[:ncore]]
    db = [add(dbs.format(d), "db", d) for d in doms[:min(ndb, ncore)]]
    ca = [add("redis-" + d, "cache", d) for d in ["sessions"] + doms[1:nc]]
    qu = [add(qs.format(d), "queue", d) for d in ["orders", "events", "notifications", "payments", "audit"][:nq]]
    ex = [add(x, "ext", "external") for x in R.sample(EXTS, nx)]
    ed = E["edges"]                                            # (caller, callee) -> (coupling, delay seconds)
    def edge(a, b, lo, hi, dlo=15, dhi=120):
        if a != b and (a, b) not in ed: ed[(a, b)] = (R.uniform(lo, hi), R.uniform(dlo, dhi))
    for f in fr:
        edge(f, "api-gateway", .5, .95) if R.random() < .6 else None
        for a in R.sample(ap, min(len(ap), R.randint(2, 3))): edge(f, a, .2, .8)
    for a in ap:
        for c in R.sample(core, min(len(core), R.randint(2, 5))): edge(a, c, .2, .9)
        if a == "api-gateway":
            for x in R.sample(ap[1:], min(len(ap) - 1, 3)): edge(a, x, .3, .8)
    auth = next((c for c in core if E["dom"][c] == "auth"), core[0])
    for a in ap:
        if R.random() < .5: edge(a, auth, .5, .95)
    for c in core:
        if E["dom"][c] in ("orders", "payments"): edge("checkout", c, .7, .95)
    for i, c in enumerate(core):
        for d in R.sample(core[i + 1:], min(len(core) - i - 1, R.choice([0, 1, 1, 2]))): edge(c, d, .3, .8)
        own = [d for d in db if E["dom"][d] == E["dom"][c]]
        if own: edge(c, own[0], .7, 1, 5, 60)
        elif R.random() < .6: edge(c, R.choice(db), .5, .9, 5, 60)     # shared database
        if R.random() < .12: edge(c, R.choice(db), .3, .8, 5, 60)
        if R.random() < .35: edge(c, R.choice(ca), .15, .6, 10, 90)
        if R.random() < .35: edge(c, R.choice(qu), *R.choice([(.1, .3), (.55, .9)]), 60, 360)   # producer / consumer
        if R.random() < .12: edge(c, R.choice(ex), .3, .8)
    called = {b for _, b in ed}
    for x in list(kind):
        if x not in called and kind[x] != "front":
            k = kind[x]; src = fr if k == "api" else ap if k == "svc" else core
            edge(R.choice(src), x, .3, .8)
    # teams, namespaces, placement
    dteam = {}; tl = TEAMS[:]; R.shuffle(tl); nt = R.randint(4, 7)
    for x in kind:
        d = E["dom"][x]
        E["team"][x] = dteam.setdefault(d, R.choice(tl[:nt]))
        E["ns"][x] = E["team"][x] if R.random() < .5 else d
        E["cover"][x] = R.choice([.25, .7, .85, .95, 1])       # monitoring coverage
    if R.random() < .5:
        for x in kind:
            if kind[x] in ("db", "cache", "queue"): E["team"][x] = "platform"
    E["regions"] = R.sample(REGIONS, R.choice([1, 1, 2]))
    E["hosts"] = {}
    hp = R.choice(["node-{:02d}", "ip-10-0-{}-17", "worker{}"])
    for ri, r in enumerate(E["regions"]):
        hs = [hp.format(ri * 20 + i + 1) for i in range(max(4, len(kind) // R.randint(4, 7)))]
        for h in hs: E["hosts"][h] = r
        for x in kind:
            if kind[x] == "ext": E["pods"].setdefault(x, []); continue
            reps = 1 if kind[x] in ("db", "cache") and R.random() < .6 else R.randint(2, 4)
            tag = "".join(R.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(9))
            for i in range(reps):
                pod = f"{x}-{i}" if kind[x] in ("db", "cache", "queue") else f"{x}-{tag}-" + "".join(R.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))
                h = R.choice(hs)
                E["pods"].setdefault(x, []).append((pod, h, r, f"10.{ri+8}.{R.randint(0,31)}.{R.randint(2,250)}"))
    tot = dict(FRONTS); s = sum(tot[f] for f in fr)
    E["traffic"] = {f: tot[f] / s for f in fr}
    return E


def conventions(R):
    return dict(svc=R.choice(["service", "service", "service", "service", "app", "service_name", "job"]), inst=R.choice(["pod", "instance", "both"]),
                sev=R.choice([{"critical": "critical", "warning": "warning"}] * 3 + [{"critical": "page", "warning": "ticket"}, {"critical": "P1", "warning": "P3"},
                              {"critical": "error", "warning": "warn"}]), sevkey=R.choice(["severity"] * 4 + ["priority"]),
                own=R.choice([("namespace", "team"), ("team",), ("namespace",), ("namespace", "team")]), region=R.choice(["region", "region", "cluster"]),
                env=R.random() < .4, name=R.choice(["camel", "camel", "camel", "snake", "spaced"]), host_svc=R.random() < .5, nodelabel=R.random() < .6,
                deplabel=R.random() < .25, hosts_in_topo=R.random() < .7, stale=R.choice([0, 0, 0, .05, .1]), resolves=R.random() < .85,
                repeat=R.choice([0, 300, 300, 600, 900]), evalint=R.choice([1, 15, 30, 60]), value=R.random() < .8, suffix=R.random() < .3)


def build(R, E, C, tpl, svc, region, pod=None, dep=None, crit=None):
    """One alert identity: (labels, annotations, value). The SAME builder serves incidents and noise."""
    name, sev, per, v, msg = T[tpl]
    host = svc in E["hosts"]
    s = sev if crit is None else ("critical" if crit else "warning")
    nm = name
    if C["name"] != "camel":
        w = "".join(("_" if i and ch.isupper() and (not name[i-1].isupper()) else "") + ch for i, ch in enumerate(name))
        nm = w.lower() if C["name"] == "snake" else w.replace("_", " ")
    L = {"alertname": nm}
    if host:
        L["instance"] = svc + ":9100"
        if C["nodelabel"]: L["node"] = svc
        L[C["svc"]] = svc if C["host_svc"] else "node-exporter"
        if "team" in C["own"]: L["team"] = "platform"
    else:
        L[C["svc"]] = svc
        if "namespace" in C["own"]: L["namespace"] = E["ns"][svc]
        if "team" in C["own"]: L["team"] = E["team"][svc]
        if pod:
            if C["inst"] in ("pod", "both"): L["pod"] = pod[0]
            if C["inst"] in ("instance", "both"): L["instance"] = f"{pod[3]}:8080"
            if C["nodelabel"]: L["node"] = pod[1]
        elif name == "SyntheticCheckFailed": L["instance"] = f"https://{svc}.example.com/health"
        if dep and C["deplabel"]: L["upstream"] = dep
    L[C["sevkey"]] = C["sev"][s]
    L[C["region"]] = region if C["region"] == "region" else "prod-" + region
    if C["env"]: L["env"] = "prod"
    A = {"summary": msg.format(svc=svc, dep=dep or "a dependency")}
    if C["suffix"]: A["runbook_url"] = "https://runbooks.example.com/" + name.lower()
    return L, A, round(R.uniform(*v), 3)


# ---------------------------------------------------------------- incident simulation
def simulate(R, E, inc):
    """Latent damage per service: max-product path from the sources over reversed edges. -> {svc: (damage, t_offset, dep, hop)}"""
    callers = {}
    for (a, b), (c, d) in E["edges"].items(): callers.setdefault(b, []).append((a, c, d))
    src = {}
    root, st = inc["root"], inc["strength"]
    if inc["kind"] == "host":
        for x, pods in E["pods"].items():
            loc = [p for p in pods if p[2] == inc["regions"][0]]
            on = [p for p in loc if p[1] == root]
            if on:
                f = len(on) / len(loc)
                src[x] = (st if f == 1 else st * f * .45, R.uniform(10, 120), root, 0)
    else:
        src[root] = (st, 0., None, 0)
        if inc["fault"] == "runaway_client":                   # pushes its own dependencies over: forward edge, then back
            for (a, b), (c, d) in E["edges"].items():
                if a == root and E["kind"][b] in ("db", "svc", "cache") and R.random() < .6:
                    src[b] = (st * R.uniform(.5, .95), d + R.uniform(60, 200), root, 1)
    dmg, heap = {}, [(-v[0], k, v) for k, v in src.items()]
    heapq.heapify(heap)
    while heap:
        nd, x, v = heapq.heappop(heap)
        if x in dmg: continue
        dmg[x] = v
        for a, c, d in callers.get(x, []):
            if a in dmg or R.random() > inc["spread"]: continue
            z = v[0] * c
            if z >= .10: heapq.heappush(heap, (-z, a, (z, v[1] + d * R.uniform(.6, 1.6), x, v[3] + 1)))
    return dmg


def severity(E, inc, dmg):
    reg = len(inc["regions"]) / len(E["regions"])
    loss = sum(w * dmg[f][0] for f, w in E["traffic"].items() if f in dmg) * reg
    cj = max([v[0] for x, v in dmg.items() if E["dom"][x] in CRITICAL and E["kind"][x] in ("front", "api", "svc")] + [0]) * reg
    burn = loss * inc["dur"] / 60 / 43.2                         # share of a 30-day 99.9 % budget, all users
    blast = sum(1 for v in dmg.values() if v[0] >= .2)
    if loss >= .25 or burn >= .25 or (cj >= .6 and loss >= .10): s = "SEV1"
    elif loss >= .08 or burn >= .08 or (cj >= .4 and loss >= .02): s = "SEV2"
    elif loss >= .01 or blast >= 4: s = "SEV3"
    else: s = "SEV4"
    return s, dict(loss=round(loss, 3), burn=round(burn, 3), critical=round(cj, 2), blast=blast)


def episodes(R, E, C, inc, dmg):
    """Candidate alert episodes of one incident: (start, end, labels, annotations, value, inc id)"""
    out, t0, t1 = [], inc["start"], inc["start"] + inc["dur"]
    def emit(tpl, svc, reg, on, pods=None, dep=None, crit=None):
        per = T[tpl][2]
        for p in (pods if per == 1 else [None]):
            s = on + R.uniform(0, 45) * (per == 1)
            e = t1 + R.uniform(20, 400)
            if s >= t1 - 30: continue
            L, A, v = build(R, E, C, tpl, svc, reg, p, dep, crit)
            if inc["flap"] and R.random() < .7:
                while s < t1:
                    e2 = min(s + R.uniform(60, 240), e); out.append((s, e2, L, A, v, inc["id"])); s = e2 + R.uniform(60, 240)
            else: out.append((s, e, L, A, v, inc["id"]))
    for reg in inc["regions"]:
        shift = 0 if reg == inc["regions"][0] else R.uniform(0, 90)
        if not inc["silent"]:
            ra = FAULTS[inc["kind"] if inc["kind"] in FAULTS else "svc"][inc["fault"]][0]
            for tpl in [ra[0]] + [a for a in ra[1:] if R.random() < .65]:
                if inc["kind"] == "host" and T[tpl][2] != 2: continue
                pods = [p for p in E["pods"].get(inc["root"], []) if p[2] == reg]
                pods = R.sample(pods, max(1, round(len(pods) * R.uniform(.5, 1)))) if pods else []
                emit(tpl, inc["root"], reg, t0 + shift + R.uniform(15, 180), pods)
        if inc["fault"] == "bad_deploy" or inc["fault"] == "memory_leak":       # a failing consumer lets its queue fill up
            for (a, b), (c, _) in E["edges"].items():
                if a == inc["root"] and E["kind"][b] == "queue" and c > .5 and R.random() < .8:
                    emit("ConsumerLagHigh", b, reg, t0 + shift + R.uniform(200, 600))
        for x, (d, off, dep, hop) in dmg.items():
            if x == inc["root"]: continue
            pods = [p for p in E["pods"][x] if p[2] == reg]
            if inc["kind"] == "host" and hop == 0:
                lost = [p for p in pods if p[1] == inc["root"]]
                if inc["fault"] == "node_down":
                    for tpl in ["TargetDown", PODLOSS[E["kind"][x]]]:
                        if R.random() < .75: emit(tpl, x, reg, t0 + off + R.uniform(0, 60), lost)
                elif R.random() < .6: emit(R.choice(["CPUThrottlingHigh", PODLOSS[E["kind"][x]]]), x, reg, t0 + off + R.uniform(30, 240), lost)
                if d < .35: continue
            if R.random() > E["cover"][x] * min(1, .3 + 1.1 * d): continue
            sy = SYM[E["kind"][x]]
            for tpl in R.sample(sy, min(len(sy), 1 + (R.random() < .3 + d * .6) + (R.random() < d * .6))):
                some = R.sample(pods, max(1, round(len(pods) * min(1, d + .2)))) if pods else []
                emit(tpl, x, reg, t0 + shift + off + R.uniform(30, 240), some, dep if dep in E["kind"] else None, (d > .45) if R.random() < .7 else None)
    return out


def draw_incident(R, E, i, prev, start, mode, taken):
    kind = E["kind"]; inc = dict(id=f"INC-{i+1:02d}", start=start, dur=R.uniform(900, 4200), mode=mode, flap=mode == "flap", silent=mode == "silent",
                                 spread=R.uniform(.75, 1))
    names = [x for x in kind if x not in taken]
    if mode == "host":
        inc["root"] = R.choice([h for h in E["hosts"] if h not in taken]); inc["kind"] = "host"
        inc["regions"] = [E["hosts"][inc["root"]]]
        inc["silent"] = R.random() < .25
    else:
        pool = [x for x in names if kind[x] != "front" and (kind[x] != "ext" or R.random() < .5)]
        if mode == "near" and prev:
            adj = {}
            for a, b in E["edges"]: adj.setdefault(a, []).append(b); adj.setdefault(b, []).append(a)
            p = R.choice([q["root"] for q in prev if q["kind"] != "host"] or [pool[0]])
            n1 = adj.get(p, []); n2 = [y for x in n1 for y in adj.get(x, [])]
            pool = [x for x in pool if x in n1 or x in n2] or pool
        elif mode == "team" and prev:
            tm = {E["team"][q["root"]] for q in prev if q["kind"] != "host"}
            pool = [x for x in pool if E["team"][x] in tm] or pool
        elif mode == "silent": pool = [x for x in pool if kind[x] not in ("api",)] or pool
        inc["root"] = R.choice(pool); inc["kind"] = kind[inc["root"]]
        if inc["kind"] == "ext" and R.random() < .6: inc["silent"] = True
        inc["regions"] = E["regions"][:] if inc["kind"] == "ext" or R.random() < .35 else [R.choice(E["regions"])]
    fk = inc["kind"] if inc["kind"] in FAULTS else "svc"
    inc["fault"] = R.choice(list(FAULTS[fk])); inc["strength"] = R.uniform(*FAULTS[fk][inc["fault"]][1])
    return inc


def fp(L): return json.dumps(L, sort_keys=True)


def claim(cands, own):
    """First to fire owns the alert identity; later overlapping (10 min margin) claims by somebody else are suppressed."""
    kept = []
    for c in sorted(cands, key=lambda c: (c[0], fp(c[2]), c[1])):
        k = fp(c[2]); iv = own.setdefault(k, [])
        if all((o == c[5] and (c[0] > e or c[1] < s)) or c[0] > e + 600 or c[1] + 600 < s for s, e, o in iv):
            iv.append((c[0], c[1], c[5])); kept.append(c)
    return kept


def generate(seed):
    R = random.Random(f"storm-e-{seed}")
    E, C = make_estate(R), conventions(R)
    W = R.uniform(1800, 3600); n = R.randint(2, 6); lead = R.uniform(0, 900)
    starts = sorted(lead + R.uniform(0, W * .8) for _ in range(n))
    if R.random() < .3 and n > 2: starts[1] = starts[0] + R.uniform(0, 60)              # near-simultaneous onsets
    modes = ["plain"] + [R.choice(["plain", "plain", "silent", "host", "near", "near", "team", "flap"]) for _ in range(n - 1)]
    if R.random() < .4: modes[0] = R.choice(["silent", "host", "flap"])
    incs, cands, cur = [], [], []
    for i in range(n):
        for attempt in range(300):
            inc = draw_incident(R, E, i, incs, starts[i], modes[i] if attempt < 200 else "plain", {q["root"] for q in incs})
            dmg = simulate(R, E, inc)
            new = episodes(R, E, C, inc, dmg)
            kept = claim(cands + new, {})
            cnt = {q["id"]: set() for q in incs + [inc]}
            for c in kept: cnt[c[5]].add(fp(c[2]))
            if all(len(s) >= 3 for s in cnt.values()): break                             # every true incident owns >= 3 alerts
        else: continue
        inc["sev"], inc["impact"] = severity(E, inc, dmg); inc["dmg"] = dmg
        incs.append(inc); cands += new
    own = {}; eps = claim(cands, own)
    end = max(c[1] for c in eps)
    def lines_of(c):
        s, e = c[0], c[1]; q = lambda t: (int(t) // C["evalint"]) * C["evalint"] + (hash_off(c[2]["alertname"]) % C["evalint"])
        s0 = q(s); e0 = max(q(e), s0 + C["evalint"])
        out = [(s0, "firing", s0, None)]
        if C["repeat"]:
            t = s0 + C["repeat"]
            while t < e0: out.append((t, "firing", t, None)); t += C["repeat"]
        if C["resolves"]: out.append((e0, "resolved", s0, e0))
        return [(t, st, a, b, c) for t, st, a, b in out]
    lines = [l for c in eps for l in lines_of(c)]
    # ---- noise up to a drawn share of all lines
    share = R.uniform(.10, .40); target = len(lines) * share / (1 - share); nl = []
    allsvc = list(E["kind"]) + list(E["hosts"]); tries = 0
    while len(nl) < target and tries < 5000:
        tries += 1
        x = R.choice(allsvc); host = x in E["hosts"]; k = "host" if host else E["kind"][x]
        tpl = R.choice(NOISE.get(k, NOISE["app"])); reg = E["hosts"][x] if host else R.choice(E["regions"])
        pods = [] if host else [p for p in E["pods"][x] if p[2] == reg]
        deps = [b for a, b in E["edges"] if a == x]
        z = R.random(); t = R.uniform(0, end); per = T[tpl][2]; c = []
        crit = (R.random() < .15)
        def ident(tp=tpl, p=None):
            return build(R, E, C, tp, x, reg, p or (R.choice(pods) if pods and T[tp][2] == 1 else None), R.choice(deps) if deps and tp == "UpstreamTimeouts" else None, crit)
        if z < .68: I = ident(); c = [(t, t + R.uniform(60, 1200), *I, None)]                      # isolated blip
        elif z < .80:                                                                          # chronic flapper
            I = ident(); u = R.uniform(0, 900)
            for _ in range(R.randint(3, 7)):
                d = R.uniform(60, 300); c.append((u, u + d, *I, None)); u += d + R.uniform(120, 700)
        elif z < .90: I = ident(); c = [(R.uniform(0, 600), end + R.uniform(0, 900), *I, None)]     # long-standing, nobody cares
        elif pods and not host:                                                                # harmless rolling restart
            for p in pods: t += R.uniform(20, 90); c.append((t, t + R.uniform(60, 180), *ident("PodNotReady", p), None))
        if c and c[0][0] < end:
            # noise may not claim an identity that an incident owns (before, during or after)
            c = [q for q in claim(c, {}) if fp(q[2]) not in own]
            for q in c: nl += lines_of(q)
            for q in c: own.setdefault(fp(q[2]), []).append((q[0], q[1], None))
    lines += nl
    base = datetime(2024, 3, 4, tzinfo=timezone.utc) + timedelta(days=R.randint(0, 300), seconds=R.randint(0, 86399))
    iso = lambda t: (base + timedelta(seconds=t)).strftime("%Y-%m-%dT%H:%M:%SZ")
    sev = {q["id"]: q["sev"] for q in incs}
    lines.sort(key=lambda l: (l[0], hash_off(fp(l[4][2])), l[1], l[2]))
    rows = []
    for t, st, a, b, c in lines:
        r = {"labels": dict(sorted(c[2].items())), "annotations": c[3], "startsAt": iso(a), "status": st}
        if b is not None: r["endsAt"] = iso(b)
        if C["value"] and st == "firing": r["value"] = c[4]
        r["truth"] = c[5]
        if c[5]: r["severity_truth"] = sev[c[5]]
        rows.append(r)
    nodes = sorted(E["kind"]) + (sorted(E["hosts"]) if C["hosts_in_topo"] else [])
    edges = [{"from": a, "to": b} for a, b in sorted(E["edges"]) if R.random() >= C["stale"]]
    if C["hosts_in_topo"]:
        edges += [{"from": x, "to": h} for x, h in sorted({(x, p[1]) for x, ps in E["pods"].items() for p in ps})]
    return rows, {"nodes": nodes, "edges": edges}, dict(incidents=incs, conv=C, estate=E)


def hash_off(s):                                                    # stable (not salted) small hash
    h = 2166136261
    for ch in s: h = ((h ^ ord(ch)) * 16777619) & 0xffffffff
    return h


if __name__ == "__main__":
    if len(sys.argv) != 3: sys.exit(__doc__)
    rows, topo, _ = generate(int(sys.argv[1]))
    os.makedirs(sys.argv[2], exist_ok=True)
    with open(os.path.join(sys.argv[2], "alerts.jsonl"), "w") as f:
        for r in rows: f.write(json.dumps(r) + "\n")
    with open(os.path.join(sys.argv[2], "topology.json"), "w") as f: json.dump(topo, f, indent=1)
