#!/usr/bin/env python3
"""Alert storm generator: acceptance.py SEED OUTDIR -> OUTDIR/alerts.jsonl, OUTDIR/topology.json

Written without sight of the correlator it measures.

Lines are ordered by event time: startsAt for firing lines, endsAt for resolved ones.
A repeat (re-notification) is a firing line with the same labels and a newer startsAt.
Fairness rules:
 * the root of an incident is never a direct or indirect caller of another incident's root;
 * a service that could be a victim of two incidents names the failing callee (label + text);
 * noise never uses a (service, alertname) pair of an incident;
 * every alert names its service somewhere: label, pod/host name, URL or text.
"""

import json
import os
import random
import sys
from datetime import datetime, timedelta, timezone

DOMAINS = (
    "orders payments inventory catalog search cart pricing shipping users sessions reviews "
    "loyalty billing invoices fraud media email push recommend ledger tax returns "
    "warehouse partner analytics geo chat coupons profile wishlist"
).split()
# role of a service -> how often a domain has it; every domain has an api
ROLES = [("api", 1.0), ("db", 0.9), ("cache", 0.5), ("worker", 0.5), ("queue", 0.4)]

# alertname: (source style, severity, summary)
ALERTS = {
    "PostgresqlDown": ("prom", "critical", "Postgres is not accepting connections"),
    "PostgresqlTooManyConnections": ("prom", "warning", "Connections at {v}% of max_connections"),
    "PostgresqlReplicationLag": ("prom", "warning", "Replication lag {v}s"),
    "SlowQueries": ("prom", "warning", "{v} queries slower than 5s"),
    "RedisDown": ("prom", "critical", "Redis instance does not answer PING"),
    "RedisEvictionsHigh": ("prom", "warning", "{v} evictions per second"),
    "CacheHitRatioLow": ("prom", "warning", "Hit ratio dropped to {v}%"),
    "QueueBacklogGrowing": ("prom", "warning", "Backlog is {v}k messages and growing"),
    "ConsumerLagHigh": ("prom", "warning", "Consumer lag {v}k"),
    "BrokerUnderReplicated": ("prom", "critical", "{v} under replicated partitions"),
    "HighErrorRate": ("prom", "critical", "5xx ratio {v}%"),
    "HighLatencyP99": ("prom", "warning", "p99 latency {v}00ms"),
    "SLOBurnRateFast": ("prom", "critical", "Error budget burns at {v}x"),
    "ConnectionPoolExhausted": ("prom", "warning", "Pool usage {v}%"),
    "CircuitBreakerOpen": ("prom", "warning", "Circuit breaker open for {v}s"),
    "DependencyTimeouts": ("apm", "critical", "{v} timeouts per second"),
    "ApdexLow": ("apm", "warning", "Apdex 0.{v}"),
    "ErrorAnomaly": ("apm", "warning", "Error count {v} sigma above baseline"),
    "ThroughputDrop": ("apm", "warning", "Throughput fell by {v}%"),
    "KubePodCrashLooping": ("kube", "critical", "Container restarted {v} times in 10m"),
    "KubePodNotReady": ("kube", "warning", "Pod not ready for {v}m"),
    "KubeDeploymentReplicasMismatch": ("kube", "warning", "{v}% of the replicas available"),
    "ContainerOOMKilled": ("kube", "critical", "Container was OOM killed, {v} times"),
    "CPUThrottlingHigh": ("kube", "warning", "{v}% throttling of CPU"),
    "KubeNodeNotReady": ("node", "critical", "Node is not ready for {v}m"),
    "NodeNetworkErrors": ("node", "warning", "{v} receive errors per second"),
    "HostUnreachable": ("node", "critical", "PING CRITICAL - packet loss {v}%"),
    "DiskSpaceLow": ("host", "warning", "DISK WARNING - {v}% used on /var/lib"),
    "DiskFull": ("host", "critical", "DISK CRITICAL - {v}% used on /var/lib"),
    "HighIOWait": ("host", "warning", "iowait {v}%"),
    "HighLoad": ("host", "warning", "load average {v}"),
    "HighMemoryUsage": ("host", "warning", "memory usage {v}%"),
    "EndpointDown": ("probe", "critical", "HTTP probe failed {v} times"),
    "TLSCertificateExpired": ("probe", "critical", "x509: certificate has expired, {v} failed handshakes"),
    "ProbeSlow": ("probe", "warning", "HTTP probe took {v}00ms"),
    "CertificateExpiresSoon": ("probe", "warning", "Certificate expires in {v} days"),
    "CronJobFailed": ("kube", "warning", "Job failed {v} times"),
    "ClockSkew": ("host", "warning", "clock offset {v}ms"),
    "BackupTooOld": ("host", "warning", "last backup {v}h ago"),
    "LogErrorsIncreased": ("apm", "warning", "{v} error lines per minute"),
}
# fault: (roles it may hit, alerts on the root, does it spread to callers)
FAULTS = {
    "db_outage": (
        ["db"],
        ["PostgresqlDown", "PostgresqlTooManyConnections", "PostgresqlReplicationLag", "SlowQueries", "HighLoad"],
        True,
    ),
    "disk_full": (["db", "queue"], ["DiskFull", "DiskSpaceLow", "HighIOWait", "SlowQueries"], True),
    "cache_down": (["cache"], ["RedisDown", "RedisEvictionsHigh", "CacheHitRatioLow", "HighMemoryUsage"], True),
    "broker": (["queue"], ["BrokerUnderReplicated", "QueueBacklogGrowing", "HighIOWait", "HighLoad"], True),
    "bad_deploy": (
        ["api"],
        [
            "KubePodCrashLooping",
            "KubePodNotReady",
            "HighErrorRate",
            "EndpointDown",
            "KubeDeploymentReplicasMismatch",
            "ErrorAnomaly",
            "SLOBurnRateFast",
        ],
        True,
    ),
    "memory_leak": (
        ["api", "worker"],
        ["ContainerOOMKilled", "HighMemoryUsage", "KubePodCrashLooping", "HighLatencyP99", "CPUThrottlingHigh"],
        True,
    ),
    "cert_expired": (["api"], ["TLSCertificateExpired", "EndpointDown"], False),
    "stuck_worker": (["worker"], ["ConsumerLagHigh", "ThroughputDrop", "KubePodNotReady"], False),
}
VICTIM = {
    "api": [
        "HighErrorRate",
        "HighLatencyP99",
        "DependencyTimeouts",
        "ConnectionPoolExhausted",
        "CircuitBreakerOpen",
        "ApdexLow",
        "SLOBurnRateFast",
    ],
    "worker": ["ConsumerLagHigh", "DependencyTimeouts", "ThroughputDrop", "KubePodNotReady", "ErrorAnomaly"],
    "edge": ["HighErrorRate", "HighLatencyP99", "SLOBurnRateFast", "DependencyTimeouts", "ThroughputDrop"],
}
HOST_SYMPTOMS = ["KubePodNotReady", "KubeDeploymentReplicasMismatch", "KubePodCrashLooping"]
NODE_ALERTS = ["KubeNodeNotReady", "NodeNetworkErrors", "HostUnreachable"]
NOISE = [
    "CPUThrottlingHigh",
    "DiskSpaceLow",
    "HighMemoryUsage",
    "HighLatencyP99",
    "KubePodNotReady",
    "ProbeSlow",
    "CertificateExpiresSoon",
    "CronJobFailed",
    "ClockSkew",
    "BackupTooOld",
    "LogErrorsIncreased",
    "HighErrorRate",
    "ApdexLow",
    "HighLoad",
    "KubePodCrashLooping",
    "ConsumerLagHigh",
    "CacheHitRatioLow",
]
BENIGN = ["CertificateExpiresSoon", "CronJobFailed", "ClockSkew", "BackupTooOld"]
NOISE_ROLES = {
    "ConsumerLagHigh": ["worker", "queue"],
    "CacheHitRatioLow": ["cache"],
    "BackupTooOld": ["db"],
    "HighErrorRate": ["api", "edge"],
    "HighLatencyP99": ["api", "edge"],
    "ApdexLow": ["api", "edge"],
    "ProbeSlow": ["api", "edge"],
    "CertificateExpiresSoon": ["api", "edge"],
    "DiskSpaceLow": ["db", "queue"],
}


class Estate:
    def __init__(self, rng):
        self.rng = rng
        self.role, self.domain, self.edges = {}, {}, set()
        size = rng.choice([rng.randint(15, 30), rng.randint(25, 60), rng.randint(50, 120)])
        self.edge = ["edge-gateway", "web-frontend", "mobile-bff", "partner-gateway"][: 2 if size < 30 else 4]
        for e in self.edge:
            self.role[e], self.domain[e] = "edge", "edge"
        for e in self.edge[1:]:
            if rng.random() < 0.5:
                self.edges.add(("edge-gateway", e))
        domains = DOMAINS[:]
        rng.shuffle(domains)
        apis = []
        while len(self.role) < size:
            d = domains.pop() if domains else "svc%d" % len(self.role)
            for r, p in ROLES:
                if len(self.role) < size and rng.random() < p:
                    self.role[d + "-" + r], self.domain[d + "-" + r] = r, d
            has = lambda r: d + "-" + r in self.role
            for r in ("db", "cache", "queue"):
                if has(r):
                    self.edges.add((d + "-api", d + "-" + r))
            if has("worker"):
                for r in ("queue", "db"):
                    if has(r):
                        self.edges.add((d + "-worker", d + "-" + r))
                if not has("queue"):
                    self.edges.add((d + "-worker", d + "-api"))
            # apis call earlier apis only, so there are no cycles
            for a in rng.sample(apis, min(len(apis), rng.choice([0, 0, 1, 1, 2]))):
                self.edges.add((d + "-api", a))
            if rng.random() < 0.65 or not any(c == d + "-api" for _, c in self.edges):
                for e in rng.sample(self.edge, rng.choice([1, 1, 2])):
                    self.edges.add((e, d + "-api"))
            apis.append(d + "-api")
        self.nodes = list(self.role)
        self.callers = {s: sorted(a for a, b in self.edges if b == s) for s in self.nodes}
        self.callees = {s: sorted(b for a, b in self.edges if a == s) for s in self.nodes}
        self.hosts = ["worker-%02d" % i for i in range(1, max(4, size // 6) + 1)]
        self.pods = {}
        for s in self.nodes:
            tag = "%08x" % rng.getrandbits(32)
            self.pods[s] = [
                {
                    "pod": "%s-%s-%04x" % (s, tag, rng.getrandbits(16)),
                    "n": i + 1,
                    "node": rng.choice(self.hosts),
                    "ip": "10.%d.%d.%d" % (rng.randint(0, 9), rng.randint(0, 255), rng.randint(1, 254)),
                }
                for i in range(rng.randint(2, 5))
            ]

    def ancestors(self, s):
        seen, todo = set(), [s]
        while todo:
            for c in self.callers[todo.pop()]:
                if c not in seen:
                    seen.add(c)
                    todo.append(c)
        return seen


def pick_incidents(rng, est):
    """[{fault, root, reach: {service: (hop, via)}}]; None when the estate has too little room."""
    want = min(8, rng.randint(3, 4) + len(est.nodes) // 25)
    incs, tries = [], 0
    while len(incs) < want and tries < 300:
        tries += 1
        fault = rng.choice(list(FAULTS))
        roles, _, spreads = FAULTS[fault]
        roots = [s for s in est.nodes if est.role[s] in roles]
        if not roots or (not spreads and sum(not i["spreads"] for i in incs) >= 2):
            continue
        root = rng.choice(roots)
        if any(
            root == i["root"]
            or root in est.ancestors(i["root"])
            or i["root"] in est.ancestors(root)
            or est.domain[root] == est.domain[i["root"]]
            for i in incs
        ):
            continue
        hit = {
            (c, s)
            for s in sorted(est.ancestors(root) | {root})
            for c in est.callers[s]
            if rng.random() < (0.9 if s == root else 0.5)
        }
        cand = incs + [{"fault": fault, "root": root, "spreads": spreads, "hit": hit}]
        spread(est, cand)
        owners = [s for i in cand for s in i["reach"]]
        if all(sum(owners.count(s) == 1 for s in i["reach"]) >= 2 for i in cand if i["spreads"]):
            incs = cand
    if len(incs) < 3:
        return None
    spread(est, incs)
    return incs


def spread(est, incs):
    """Walk up the callers; a service hit by two incidents does not pass either of them on."""
    shared = set()
    for _ in range(2):
        for i in incs:
            i["reach"] = {i["root"]: (0, None)}
            todo = [i["root"]] if i["spreads"] else []
            while todo:
                s = todo.pop(0)
                hop = i["reach"][s][0]
                for c in est.callers[s]:
                    if (c, s) in i["hit"] and hop < 3 and c not in i["reach"]:
                        i["reach"][c] = (hop + 1, s)
                        if c not in shared:
                            todo.append(c)
        every = [s for i in incs for s in i["reach"]]
        shared = {s for s in every if every.count(s) > 1}


def add_host_incident(rng, est, incs):
    """A worker node dies; its pods belong to services that no other incident touches."""
    taken = {s for i in incs for s in i["reach"]}
    taken |= {c for i in incs for c in est.callees[i["root"]]}
    free = [s for s in est.nodes if s not in taken and est.role[s] in ("api", "worker")]
    if len(free) < 4:
        return
    node = rng.choice(est.hosts)
    chosen = rng.sample(free, rng.randint(3, min(6, len(free))))
    for s in est.nodes:  # the dead node carries the chosen services only
        for p in est.pods[s]:
            if p["node"] == node:
                p["node"] = rng.choice([h for h in est.hosts if h != node])
        if s in chosen:
            for p in rng.sample(est.pods[s], rng.randint(1, len(est.pods[s]) - 1)):
                p["node"] = node
    incs.append(
        {"fault": "node_down", "root": None, "node": node, "spreads": True, "reach": {s: (1, None) for s in chosen}}
    )


class Labeler:
    """Labels of a series are made once, then reused by its repeats and its resolve."""

    def __init__(self, rng, est):
        self.rng, self.est = rng, est
        self.cluster = rng.choice(["prod-eu1", "prod-us2", "live"])
        self.svc_label = {s: rng.choice(["service", "service", "job", "app"]) for s in est.nodes}

    def make(self, s, name, pod, via=None, force=False, node=None):
        rng, (style, sev, summary) = self.rng, ALERTS[name]
        lab, ann = {"alertname": name, "severity": sev}, {"summary": summary}
        if style == "node":
            lab.update(rng.choice([{"node": node}, {"host": node}, {"instance": node + ":9100"}]))
            lab["cluster"] = self.cluster
        elif style == "prom":
            lab.update({self.svc_label[s]: s, "namespace": self.est.domain[s], "cluster": self.cluster})
            how = rng.random()
            if how < 0.45:
                lab["instance"] = pod["pod"] + ":8080"
            elif how < 0.8:
                lab["instance"] = pod["ip"] + ":9090"
        elif style == "kube":
            lab.update({"namespace": self.est.domain[s], "deployment": s, "cluster": self.cluster})
            if name != "KubeDeploymentReplicasMismatch":
                lab.update({"pod": pod["pod"], "node": pod["node"]})
            if node and "node" not in lab:
                ann["description"] = "%s: pods on node %s are unavailable" % (s, node)
        elif style == "host":
            lab.update({"host": "%s-%02d" % (s, pod["n"]), "dc": self.cluster, "source": "nagios"})
        elif style == "apm":
            lab.update({"app": s, "env": "production", "priority": "P1" if sev == "critical" else "P3"})
            del lab["severity"]
            if rng.random() < 0.5:
                lab["host"] = pod["pod"]
        elif style == "probe":
            lab.update({"instance": "https://%s.internal.example.com/healthz" % s, "job": "blackbox"})
        if via:
            text = rng.choice(["%s: calls to %s fail", "%s gets errors from %s", "%s waits for upstream %s"]) % (s, via)
            if force:
                lab[rng.choice(["upstream", "dependency", "destination_service"])] = via
                ann["description"] = text
            elif rng.random() < 0.4:
                ann["description"] = text
        # missing labels; the service stays readable in another label or in the text
        for k, p in (("severity", 0.1), ("namespace", 0.15), ("cluster", 0.15), ("env", 0.2)):
            if rng.random() < p:
                lab.pop(k, None)
        key = self.svc_label[s] if s and style == "prom" else "deployment" if style == "kube" else None
        if key and rng.random() < 0.12:
            if not lab.get("pod", lab.get("instance", "")).startswith(s):
                ann["summary"] = "%s: %s" % (s, ann["summary"])
            lab.pop(key)
        return lab, ann


def event(rng, series, at, truth, resolved=False, started=None):
    labels, ann = series
    v = rng.randint(3, 97)
    e = {
        "labels": labels,
        "annotations": {k: t.replace("{v}", str(v)) for k, t in ann.items()},
        "startsAt": started if resolved else at,
    }
    e.update({"endsAt": at} if resolved else {})
    if resolved or labels.get("source") != "nagios":
        e["status"] = "resolved" if resolved else "firing"
    if not resolved and rng.random() < 0.7:
        e["value"] = v
    e["truth"] = truth
    return (at, e)


def incident_lines(rng, est, lab, inc, incs, quota, pairs):
    """Series in random order (some per service first), each with repeats and a resolve, up to quota."""
    cells = []
    for s, (hop, via) in inc["reach"].items():
        if inc["fault"] == "node_down":
            names, pods = HOST_SYMPTOMS, [p for p in est.pods[s] if p["node"] == inc["node"]]
        else:
            names = FAULTS[inc["fault"]][1] if hop == 0 else VICTIM[est.role[s]]
            pods = est.pods[s]
            if est.role[s] != "db" and inc["fault"] == "disk_full" and hop == 0:
                names = [n for n in names if n != "SlowQueries"]
        others = [o for o in incs if o is not inc]
        force = any(s in o["reach"] or any(c in o["reach"] for c in est.callees[s]) for o in others)
        names = rng.sample(names, min(len(names), rng.randint(3, 5)))
        if hop == 0 and FAULTS.get(inc["fault"]):
            first = FAULTS[inc["fault"]][1][0]
            names = [first] + [n for n in names if n != first]
        for k, n in enumerate(names):
            one = n == "KubeDeploymentReplicasMismatch" or ALERTS[n][0] == "probe"
            for j, p in enumerate(pods[:1] if one else pods):
                cells.append((0 if j == 0 and k == 0 else 1 + rng.random(), s, n, p, hop, via, force))
    if inc["fault"] == "node_down":
        cells += [(0, None, n, None, 0, None, False) for n in NODE_ALERTS]
    cells.sort(key=lambda c: c[0])
    out, spans = [], []
    for _, s, n, p, hop, via, force in cells:
        if len(out) >= quota:
            break
        pairs.add((s, n))
        series = lab.make(s, n, p, via, force or rng.random() < 0.15, inc.get("node"))
        # the detection delay is shuffled: symptoms are often seen before the cause
        start = inc["start"] + hop * rng.uniform(5, 70) + rng.expovariate(1 / 60.0) + rng.choice([0, 0, 0, 150])
        end = max(start + 60, inc["end"] + hop * rng.uniform(5, 60) + rng.expovariate(1 / 120.0))
        spans.append((series, start, end))
        out.append(event(rng, series, start, inc["id"]))
        last, every = start, rng.choice([240, 300, 420, 600])
        while last + every < end and rng.random() < 0.75:
            last += every + rng.uniform(-20, 20)
            out.append(event(rng, series, min(last, end), inc["id"]))
        if rng.random() < 0.85:
            out.append(event(rng, series, end, inc["id"], True, start))
    while len(out) < quota:  # re-notifications while it burns
        series, start, end = rng.choice(spans)
        out.append(event(rng, series, rng.uniform(start, end), inc["id"]))
    return out


def noise_lines(rng, est, lab, incs, quota, t_end, pairs):
    out, used, tries = [], set(), 0
    hit = {s for i in incs for s in i["reach"]}
    near = hit | {c for s in hit for c in est.callers[s] + est.callees[s]}
    while len(out) < quota:
        tries += 1
        n, s = rng.choice(NOISE), rng.choice(est.nodes)
        p = rng.choice(est.pods[s])
        if (
            est.role[s] not in NOISE_ROLES.get(n, [est.role[s]])
            or (s, n) in pairs
            or ((s, n, p["pod"]) in used and tries < 5000)
        ):
            continue
        used.add((s, n, p["pod"]))
        kind, via = rng.random(), None
        if kind >= 0.8 and s in near and n not in BENIGN:
            kind -= 0.5  # a blip here would look like a symptom
        calm = [c for c in est.callees[s] if c not in hit]
        if calm and n in VICTIM["api"] and rng.random() < 0.6:
            via = rng.choice(calm)
        series = lab.make(s, n, p, via, rng.random() < 0.5)
        if kind < 0.45:  # flapping, already before the incidents
            t, period = rng.uniform(0, 900), rng.uniform(120, 420)
            while t < t_end:
                up = rng.uniform(0.2, 0.7) * period
                out.append(event(rng, series, t, None))
                out.append(event(rng, series, t + up, None, True, t))
                t += max(up + 20, period * rng.uniform(0.8, 1.3))
        elif kind < 0.8:  # chronic warning that repeats and never resolves
            t, every = rng.uniform(0, 600), rng.choice([300, 600, 900])
            while t < t_end:
                out.append(event(rng, series, t, None))
                t += every + rng.uniform(-15, 15)
        else:  # lonely blip
            t = rng.uniform(0, t_end)
            out.append(event(rng, series, t, None))
            if rng.random() < 0.7:
                out.append(event(rng, series, t + rng.uniform(60, 400), None, True, t))
    return out[:quota]


def generate(seed):
    rng = random.Random(seed)
    incs = None
    while not incs:
        est = Estate(rng)
        incs = pick_incidents(rng, est)
    if rng.random() < 0.5:
        add_host_incident(rng, est, incs)
    lab = Labeler(rng, est)
    # several start within the same few minutes, the others while those burn
    first = rng.uniform(1200, 2100)
    for k, i in enumerate(incs):
        i["start"] = first + (rng.uniform(0, 180) if k < 2 or rng.random() < 0.5 else rng.uniform(120, 1200))
        i["end"] = i["start"] + rng.uniform(1200, 2700)
    ids = ["INC-%04d" % n for n in rng.sample(range(1000, 9999), len(incs))]
    for i, n in zip(incs, ids):
        i["id"] = n
    t_end = max(i["end"] for i in incs) + 600
    total = rng.randint(500, min(4000, 700 + 28 * len(est.nodes)))
    noise = int(total * rng.uniform(0.32, 0.58))
    weight = [rng.uniform(0.5, 2.0) * len(i["reach"]) for i in incs]
    small = [not i["spreads"] for i in incs]
    quota = [rng.randint(5, 14) if x else 0 for x in small]
    rest, wsum = total - noise - sum(quota), sum(w for w, x in zip(weight, small) if not x)
    pairs, lines = set(), []
    for i, q, w, x in zip(incs, quota, weight, small):
        lines += incident_lines(rng, est, lab, i, incs, q if x else max(20, int(rest * w / wsum)), pairs)
    lines += noise_lines(rng, est, lab, incs, noise, t_end, pairs)
    lines.sort(key=lambda x: x[0])
    base = datetime(2024, 3, 4, 6, 0, tzinfo=timezone.utc) + timedelta(minutes=rng.randint(0, 200000))
    stamp = lambda t: (base + timedelta(seconds=t)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    alerts = [{k: stamp(v) if k in ("startsAt", "endsAt") else v for k, v in e.items()} for _, e in lines]
    topo = {"nodes": sorted(est.nodes), "edges": [{"from": a, "to": b} for a, b in sorted(est.edges)]}
    return alerts, topo


def main():
    alerts, topo = generate(int(sys.argv[1]))
    os.makedirs(sys.argv[2], exist_ok=True)
    with open(os.path.join(sys.argv[2], "alerts.jsonl"), "w") as f:
        for a in alerts:
            f.write(json.dumps(a) + "\n")
    with open(os.path.join(sys.argv[2], "topology.json"), "w") as f:
        json.dump(topo, f, indent=1)


if __name__ == "__main__":
    main()
