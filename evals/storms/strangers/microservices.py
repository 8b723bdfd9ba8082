#!/usr/bin/env python3
"""Labelled alert storms.  usage: microservices.py SEED OUTDIR   (stdlib only, deterministic by seed).

Written without sight of the correlator it measures.
"""

import heapq, json, os, random, re, sys
from datetime import datetime, timedelta, timezone

DOMAINS = {
    "checkout": "checkout cart pricing promotions tax basket-session order-validator coupon quote wishlist".split(),
    "orders": "orders order-history fulfilment returns invoicing order-events reservations order-router backorder".split(),
    "catalog": "catalog product-info categories media images inventory stock-sync attributes availability".split(),
    "search": "search query-parser ranking suggest indexer recommendations similar-items trending facets".split(),
    "payments": "payments ledger fraud payout refunds card-vault billing settlement wallet dunning".split(),
    "identity": "accounts profile sessions consent mfa address-book preferences registration gdpr-export".split(),
    "shipping": "shipping carriers tracking labels warehouse routing pickup slots customs geocoder".split(),
    "comms": "email sms push templates notifier campaigns webhooks digest unsubscribe".split(),
    "content": "cms articles comments reviews moderation translations banners seo sitemap".split(),
    "analytics": "events clickstream reports metrics-api exporter aggregator etl experiments audiences".split(),
}
PLATFORM = ["auth", "config", "feature-flags", "audit-log", "rate-limiter", "id-generator"]
EDGE = ["api-gateway", "web-frontend", "mobile-bff", "partner-api", "admin-ui"]
CODENAMES = (
    "falcon otter juniper basalt comet heron maple quartz raven saffron tundra umber viper walnut yarrow zephyr acorn "
    "badger cobalt dahlia ember fennel garnet hazel indigo jackal kestrel lotus marlin nimbus onyx puffin quince robin "
    "sable thistle urchin violet willow xenon yucca zinnia alder birch cedar dingo elm finch gecko hickory ibis jasper "
    "koala lynx mango narwhal opal panther quokka rowan sparrow tamarin ursa vole wren yak zebra agate bison coral "
    "drake egret fossil grouse harrier iris jade krill larch mink newt osprey pine quail rook stoat teal"
).split()
EXTERNALS = [
    "stripe",
    "twilio",
    "sendgrid",
    "maxmind",
    "fedex-api",
    "avalara",
    "auth0",
    "algolia",
    "openexchange",
    "adyen",
]
# id: (names, scope, severity, for seconds, impact threshold, (lo, hi, unit), summary, description)
R = {
    "err": (
        ("HighErrorRate", "ServiceErrorRateHigh", "HTTP5xxRateHigh"),
        "svc",
        "critical",
        120,
        0.42,
        (2, 65, "%"),
        "High error rate on {t}",
        "{t} is returning {v} 5xx responses (threshold 2%).",
    ),
    "lat": (
        ("HighRequestLatency", "LatencyP99High", "SlowResponses"),
        "svc",
        "warning",
        180,
        0.28,
        (800, 9500, "ms"),
        "p99 latency of {t} is high",
        "99th percentile latency for {t} is {v}, above 750ms.",
    ),
    "burnf": (
        ("ErrorBudgetBurnFast", "SLOBurnRateCritical", "SLOFastBurn"),
        "svc",
        "critical",
        120,
        0.55,
        (14, 90, "x"),
        "{t} is burning error budget quickly",
        "Burn rate of {t} over 5m/1h is {v}.",
    ),
    "burns": (
        ("ErrorBudgetBurnSlow", "SLOBurnRateWarning", "SLOBudgetLow"),
        "svc",
        "warning",
        600,
        0.3,
        (3, 13, "x"),
        "{t} is burning error budget",
        "Burn rate of {t} over 30m/6h is {v}.",
    ),
    "drop": (
        ("RequestRateDrop", "TrafficAnomalyLow", "LowThroughput"),
        "svc",
        "warning",
        300,
        0.6,
        (30, 95, "%"),
        "Traffic to {t} dropped",
        "Request rate for {t} is {v} below the same time last week.",
    ),
    "pool": (
        ("ConnectionPoolExhausted", "HikariPoolSaturated", "DBPoolUsageHigh"),
        "inst",
        "warning",
        60,
        0.45,
        (90, 100, "%"),
        "Connection pool nearly exhausted on {p}",
        "{p} uses {v} of its connection pool.",
    ),
    "threads": (
        ("ThreadPoolSaturated", "WorkerPoolExhausted", "TooManyInflightRequests"),
        "inst",
        "warning",
        120,
        0.48,
        (85, 100, "%"),
        "Worker threads saturated on {p}",
        "{p} has {v} of worker threads busy.",
    ),
    "dep": (
        ("DependencyErrors", "UpstreamFailures", "OutboundRequestErrors"),
        "dep",
        "warning",
        60,
        0.3,
        (5, 90, "%"),
        "{t} sees failing outbound calls",
        "{v} of outbound calls of {t}{d} fail.",
    ),
    "cb": (
        ("CircuitBreakerOpen", "CircuitOpen", "HystrixCircuitOpen"),
        "dep",
        "warning",
        30,
        0.5,
        (1, 6, " breakers"),
        "Circuit breaker open in {t}",
        "{t} has {v} open{d}.",
    ),
    "probe": (
        ("ProbeFailed", "BlackboxProbeFailed", "EndpointDown"),
        "probe",
        "critical",
        60,
        0.66,
        (0, 0, ""),
        "Probe failed for {t}",
        "HTTP probe of {t} has been failing for more than 1m.",
    ),
    "kpi": (
        ("BusinessKPILow", "ConversionDrop", "SuccessRatioLow"),
        "svc",
        "critical",
        300,
        0.4,
        (10, 70, "%"),
        "Key business metric below forecast ({t})",
        "Business metric reported by {t} is {v} below forecast.",
    ),
    "down": (
        ("TargetDown", "InstanceDown", "PrometheusTargetMissing"),
        "inst",
        "critical",
        60,
        0.8,
        (0, 0, ""),
        "Target {p} is down",
        "Prometheus could not scrape {p} for more than 1 minute.",
    ),
    "crash": (
        ("KubePodCrashLooping", "PodCrashLooping", "ContainerRestartLoop"),
        "ksm",
        "warning",
        300,
        0.9,
        (2, 12, " restarts"),
        "Pod {p} is crash looping",
        "Pod {n}/{p} restarted: {v} in 10 minutes.",
    ),
    "notready": (
        ("KubePodNotReady", "PodNotReady", "PodUnready"),
        "ksm",
        "warning",
        300,
        0.78,
        (0, 0, ""),
        "Pod {p} not ready",
        "Pod {n}/{p} has been in a non-ready state for longer than 5 minutes.",
    ),
    "oom": (
        ("ContainerOOMKilled", "PodOOMKilled", "OOMKill"),
        "ksm",
        "warning",
        0,
        2,
        (1, 6, " kills"),
        "Container OOM killed in {p}",
        "A container in {n}/{p} was OOM killed ({v} in 15m).",
    ),
    "mem": (
        ("ContainerMemoryHigh", "PodMemoryNearLimit", "HighMemoryUsage"),
        "inst",
        "warning",
        300,
        2,
        (85, 99, "%"),
        "Memory of {p} near its limit",
        "{p} uses {v} of its memory limit.",
    ),
    "cpu": (
        ("CPUThrottlingHigh", "PodCPUHigh", "HighCPUUsage"),
        "inst",
        "warning",
        300,
        0.75,
        (80, 100, "%"),
        "High CPU on {p}",
        "CPU of {p} is at {v}.",
    ),
    "gc": (
        ("JvmGcPauseHigh", "GCOverhead", "LongGCPauses"),
        "inst",
        "warning",
        120,
        2,
        (10, 60, "%"),
        "GC overhead on {p}",
        "{p} spends {v} of time in garbage collection.",
    ),
    "replicas": (
        ("KubeDeploymentReplicasMismatch", "DeploymentReplicasUnavailable", "ReplicasMismatch"),
        "ksmd",
        "warning",
        300,
        0.85,
        (1, 5, " replicas"),
        "Deployment {t} has missing replicas",
        "Deployment {n}/{k} misses {v} for longer than 5 minutes.",
    ),
    "rollout": (
        ("KubeDeploymentRolloutStuck", "DeploymentRolloutStuck", "RolloutNotProgressing"),
        "ksmd",
        "warning",
        600,
        2,
        (0, 0, ""),
        "Rollout of {t} is stuck",
        "Rollout of deployment {n}/{k} is not progressing.",
    ),
    "hpa": (
        ("KubeHpaMaxedOut", "HPAAtMaxReplicas", "AutoscalerMaxed"),
        "ksmd",
        "warning",
        300,
        0.7,
        (4, 20, " replicas"),
        "HPA of {t} at maximum",
        "HPA {n}/{k} has been running at max ({v}).",
    ),
    "tls": (
        ("TLSHandshakeErrors", "TLSErrorsHigh", "X509VerifyFailures"),
        "dep",
        "warning",
        60,
        2,
        (3, 80, "/s"),
        "TLS handshake failures in {t}",
        "{t} sees {v} TLS handshake errors{d}.",
    ),
    "dnsf": (
        ("DNSLookupFailures", "ResolverErrors", "NameResolutionErrors"),
        "svc",
        "warning",
        60,
        2,
        (2, 60, "/s"),
        "DNS lookups fail in {t}",
        "{t} logs {v} failed name lookups.",
    ),
    "stale": (
        ("ConsumerProcessingDelay", "StaleData", "EventProcessingLag"),
        "svc",
        "warning",
        180,
        2,
        (60, 2400, "s"),
        "{t} is processing old events",
        "Oldest unprocessed event in {t} is {v} old.",
    ),
    "db_conn": (
        ("TooManyConnections", "DatabaseConnectionsHigh", "PGConnectionsNearLimit"),
        "db",
        "warning",
        60,
        0.35,
        (85, 100, "%"),
        "{t} connections near limit",
        "{p} uses {v} of max_connections.",
    ),
    "db_slow": (
        ("SlowQueries", "QueryLatencyHigh", "LongRunningTransactions"),
        "db",
        "warning",
        120,
        0.4,
        (3, 140, "s"),
        "Slow queries on {t}",
        "Longest query on {p} has been running for {v}.",
    ),
    "db_cpu": (
        ("DatabaseCPUHigh", "DBHighLoad", "DBCPUUtilization"),
        "db",
        "warning",
        180,
        0.45,
        (85, 100, "%"),
        "CPU high on {t}",
        "CPU utilisation of {p} is {v}.",
    ),
    "db_lock": (
        ("DeadlocksDetected", "LockWaitsHigh", "DBLockContention"),
        "db",
        "warning",
        60,
        0.6,
        (5, 300, "/min"),
        "Lock contention on {t}",
        "{p} reports {v} lock waits.",
    ),
    "db_lag": (
        ("ReplicationLag", "ReplicaLagHigh", "ReplicationDelay"),
        "db",
        "critical",
        120,
        0.55,
        (30, 900, "s"),
        "Replication lag on {t}",
        "Replica {p} is {v} behind primary.",
    ),
    "db_down": (
        ("DatabaseDown", "DBInstanceDown", "DatabaseUnreachable"),
        "db",
        "critical",
        60,
        0.9,
        (0, 0, ""),
        "{t} is down",
        "Exporter cannot connect to {p}.",
    ),
    "c_down": (
        ("RedisDown", "CacheInstanceDown", "CacheUnreachable"),
        "db",
        "critical",
        60,
        0.85,
        (0, 0, ""),
        "{t} is down",
        "Cache instance {p} is unreachable.",
    ),
    "c_evict": (
        ("RedisEvictionsHigh", "CacheEvictions", "KeyEvictionRate"),
        "db",
        "warning",
        120,
        0.4,
        (100, 9000, "/s"),
        "Evictions on {t}",
        "{p} evicts {v} keys.",
    ),
    "c_mem": (
        ("RedisMemoryHigh", "CacheMemoryFull", "RedisOutOfMemory"),
        "db",
        "warning",
        120,
        0.5,
        (90, 100, "%"),
        "Memory of {t} nearly full",
        "{p} uses {v} of maxmemory.",
    ),
    "c_hit": (
        ("CacheHitRateLow", "LowHitRatio", "RedisHitRatioLow"),
        "db",
        "warning",
        300,
        0.35,
        (5, 60, "%"),
        "Hit rate low on {t}",
        "Hit rate of {t} is {v} (expected above 85%).",
    ),
    "q_lag": (
        ("KafkaConsumerGroupLag", "ConsumerLagHigh", "QueueBacklog"),
        "db",
        "warning",
        180,
        0.35,
        (5000, 900000, " messages"),
        "Consumer lag on {t}",
        "Lag on {t} is {v}.",
    ),
    "q_urp": (
        ("KafkaUnderReplicatedPartitions", "BrokerUnderReplicated", "QueueMirrorsOutOfSync"),
        "db",
        "critical",
        120,
        0.65,
        (1, 60, " partitions"),
        "Under-replicated partitions on {t}",
        "{p} has {v} under-replicated.",
    ),
    "q_disk": (
        ("BrokerDiskUsage", "QueueDiskAlarm", "KafkaLogDirFull"),
        "db",
        "warning",
        120,
        0.7,
        (85, 99, "%"),
        "Disk usage on {t}",
        "{p} log dir is {v} full.",
    ),
    "q_pub": (
        ("ProduceLatencyHigh", "PublishErrors", "BrokerRequestQueueHigh"),
        "db",
        "warning",
        120,
        0.55,
        (200, 8000, "ms"),
        "Produce latency on {t}",
        "Produce p99 on {p} is {v}.",
    ),
    "n_ready": (
        ("KubeNodeNotReady", "NodeNotReady", "HostUnhealthy"),
        "knode",
        "critical",
        120,
        2,
        (0, 0, ""),
        "Node {p} is not ready",
        "{p} has been unready for more than 2 minutes.",
    ),
    "n_down": (
        ("NodeExporterDown", "HostDown", "NodeUnreachable"),
        "node",
        "critical",
        60,
        2,
        (0, 0, ""),
        "Host {p} unreachable",
        "node-exporter on {p} is not answering.",
    ),
    "n_kubelet": (
        ("KubeletDown", "KubeNodeUnreachable", "KubeletTooManyErrors"),
        "knode",
        "critical",
        180,
        2,
        (0, 0, ""),
        "Kubelet on {p} unreachable",
        "Kubelet on {p} has disappeared.",
    ),
    "n_net": (
        ("NodeNetworkReceiveErrs", "HostNetworkErrors", "TCPRetransmitsHigh"),
        "node",
        "warning",
        60,
        2,
        (3, 45, "%"),
        "Network errors on {p}",
        "{p} sees {v} packet errors on eth0.",
    ),
    "n_cpu": (
        ("NodeCPUHigh", "HostHighCpuLoad", "NodeCPUUtilization"),
        "node",
        "warning",
        300,
        2,
        (85, 100, "%"),
        "CPU high on {p}",
        "CPU on {p} is {v}.",
    ),
    "n_disk": (
        ("NodeFilesystemSpaceFillingUp", "HostOutOfDiskSpace", "DiskSpaceLow"),
        "node",
        "warning",
        600,
        2,
        (80, 97, "%"),
        "Disk space on {p}",
        "Filesystem /var/lib on {p} is {v} full.",
    ),
    "n_mem": (
        ("NodeMemoryHighUtilization", "HostOutOfMemory", "NodeMemoryPressure"),
        "node",
        "warning",
        300,
        2,
        (88, 98, "%"),
        "Memory on {p}",
        "Memory on {p} is {v} used.",
    ),
    "n_clock": (
        ("NodeClockSkewDetected", "HostClockSkew", "NTPDrift"),
        "node",
        "warning",
        600,
        2,
        (1, 9, "s"),
        "Clock skew on {p}",
        "Clock on {p} is out of sync by {v}.",
    ),
    "d_err": (
        ("CoreDNSErrorsHigh", "DNSServfailRate", "CoreDNSServfail"),
        "dns",
        "critical",
        60,
        2,
        (3, 60, "%"),
        "CoreDNS is returning SERVFAIL",
        "CoreDNS {p} returns SERVFAIL for {v} of requests.",
    ),
    "d_lat": (
        ("CoreDNSLatencyHigh", "DNSLatency", "CoreDNSForwardLatencyHigh"),
        "dns",
        "warning",
        120,
        2,
        (200, 4800, "ms"),
        "CoreDNS latency high",
        "CoreDNS {p} has a p99 of {v}.",
    ),
    "x_fail": (
        ("ExternalProbeFailed", "ThirdPartyDown", "BlackboxProbeFailed"),
        "ext",
        "warning",
        120,
        2,
        (0, 0, ""),
        "External endpoint {t} failing",
        "Probe of {t} fails.",
    ),
    "x_slow": (
        ("ExternalProbeSlow", "ThirdPartyLatency", "BlackboxSlowProbe"),
        "ext",
        "warning",
        120,
        2,
        (2, 20, "s"),
        "External endpoint {t} slow",
        "Probe of {t} took {v}.",
    ),
    "cert_soon": (
        ("CertificateExpiringSoon", "SSLCertExpiry", "CertManagerCertExpirySoon"),
        "probe",
        "warning",
        3600,
        2,
        (5, 29, " days"),
        "Certificate of {t} expires soon",
        "Certificate for {t} expires in {v}.",
    ),
    "cert_exp": (
        ("CertificateExpired", "SSLCertExpired", "CertManagerCertNotReady"),
        "probe",
        "critical",
        60,
        2,
        (0, 0, ""),
        "Certificate of {t} is not valid",
        "Certificate presented by {t} is expired or not yet valid.",
    ),
    "job": (
        ("KubeJobFailed", "CronJobFailed", "BatchJobFailed"),
        "ksmd",
        "warning",
        900,
        2,
        (0, 0, ""),
        "Job of {t} failed",
        "Job {n}/{k}-nightly failed to complete.",
    ),
    "backup": (
        ("BackupTooOld", "BackupFailed", "SnapshotMissing"),
        "db",
        "warning",
        600,
        2,
        (25, 60, "h"),
        "Backup of {t} is old",
        "Last backup of {p} is {v} old.",
    ),
    "watchdog": (
        ("Watchdog", "DeadMansSwitch", "Watchdog"),
        "none",
        "none",
        0,
        2,
        (0, 0, ""),
        "Alerting pipeline is functional",
        "This alert is always firing.",
    ),
}
VMNAME = {
    "crash": "ServiceRestarting",
    "notready": "InstanceUnhealthy",
    "oom": "OOMKillDetected",
    "replicas": "InstancesBelowDesired",
    "rollout": "DeployFailed",
    "hpa": "ScalingGroupAtMax",
    "job": "BatchJobFailed",
    "n_ready": "HostUnhealthy",
    "n_kubelet": "AgentDown",
}
KINDRULES = {
    "db": ["db_conn", "db_slow", "db_cpu", "db_lock", "db_lag", "db_down"],
    "cache": ["c_down", "c_evict", "c_mem", "c_hit"],
    "queue": ["q_lag", "q_urp", "q_disk", "q_pub"],
}
RUNTIME = {"db": (5432, "postgres"), "cache": (6379, "redis"), "queue": (9092, "kafka")}


def kebab(s):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", s).replace("_", "-").lower()


class Ent:
    def __init__(self, name, kind, domain, layer):
        self.name, self.kind, self.domain, self.layer = name, kind, domain, layer
        self.rules, self.pods, self.tech, self.port = [], [], "", 8080


class Estate:
    def __init__(self, rng):
        self.rng, r = rng, rng
        self.ents, self.callers, self.callees = {}, {}, {}
        self.size = r.choice([r.randint(20, 32), r.randint(30, 55), r.randint(50, 80)])
        self.naming = r.choice(["plain", "service", "svc", "prefix", "code", "under", "role", "camel"])
        self.style = r.choice(["k8s", "k8s", "k8s", "app", "svc", "job", "mixed"])
        self.sev = r.choice(
            [
                None,
                None,
                None,
                {"critical": "page", "warning": "ticket"},
                {"critical": "P1", "warning": "P3"},
                {"critical": "critical", "warning": "major"},
            ]
        )
        self.names = r.choice([0, 0, 1, 2, "mix"])
        self.case = r.choice(["camel", "camel", "camel", "camel", "snake", "spaced"])
        self.external = r.choice(
            [
                {},
                {"cluster": "prod-eu1"},
                {"cluster": "prod", "region": "us-east-1"},
                {"env": "production"},
                {"prometheus": "monitoring/k8s"},
                {"datacenter": "fra2", "monitor": "prom-a"},
            ]
        )
        self.depkey = r.choice([None, None, "upstream", "dependency", "destination_service"])
        self.ksm_service, self.ns_domain = r.random() < 0.4, r.random() < 0.7
        self.db_flavour = r.choice(["exporter", "exporter", "managed", "service"])
        self.team = r.random() < 0.4
        self.anno = r.choice(["full", "full", "runbook", "message", "summary"])
        self.eval, self.scale, self.flappy = (
            r.choice([15, 30, 30, 60]),
            r.choice([1, 1, 1.5, 2.2]),
            r.choice([0.5, 1, 1, 2]),
        )
        self.forscale = r.choice([0.4, 0.6, 1, 1])
        self.host_instance = r.random() < 0.6
        self.domstyle, self.offset, self.namepick = {}, {}, {}
        for k in R:
            self.offset[k] = r.uniform(0, self.eval)
            self.namepick[k] = r.randrange(3) if self.names == "mix" else self.names
        self.build()

    def add(self, name, kind, domain, layer):
        base, i = name, 2
        while name in self.ents:
            name, i = "%s-%d" % (base, i), i + 1
        self.ents[name] = Ent(name, kind, domain, layer)
        self.callers[name], self.callees[name] = {}, {}
        return name

    def edge(self, a, b, w):
        if a != b and b not in self.callees[a]:
            self.callees[a][b] = w
            self.callers[b][a] = w

    def nm(self, word, domain):
        s = self.naming
        if s == "code":
            return self.codes.pop()
        if s == "service" or s == "svc":
            return word + "-" + s
        if s == "prefix":
            return word if word.startswith(domain) else domain[: self.plen] + "-" + word
        if s == "under":
            return word.replace("-", "_") + "_service"
        if s == "role":
            return word + self.rng.choice(["-api", "-api", "-worker", "-srv"])
        if s == "camel":
            return "".join(x.capitalize() for x in word.split("-")) + "Service"
        return word

    def build(self):
        r = self.rng
        self.codes = CODENAMES[:]
        r.shuffle(self.codes)
        self.plen = r.choice([3, 4, 20])
        nedge, nplat = r.randint(2, 4), r.randint(2, 4)
        rest = self.size - nedge - nplat
        ndom = max(3, min(10, round(rest / r.uniform(5, 8))))
        doms = r.sample(sorted(DOMAINS), ndom)
        self.domains = doms
        for d in doms + ["edge", "platform"]:
            self.domstyle[d] = self.style if self.style != "mixed" else r.choice(["k8s", "app", "svc", "job"])
        edge = [
            self.add(n if self.naming != "camel" else "".join(x.capitalize() for x in n.split("-")), "svc", "edge", 0)
            for n in EDGE[:nedge]
        ]
        plat = [self.add(self.nm(n, "platform"), "svc", "platform", 4) for n in r.sample(PLATFORM, nplat)]
        gw = edge[0]
        for f in edge[1:]:
            self.edge(f, gw, r.uniform(0.4, 0.8))
        by = {d: [] for d in doms}
        words = {d: DOMAINS[d][:] for d in doms}
        for i in range(rest):
            d = doms[i % ndom] if r.random() < 0.6 else r.choice(doms)
            w = (
                words[d].pop(0)
                if words[d]
                else r.choice(DOMAINS[d]) + "-" + r.choice(["worker", "sync", "cache-warmer", "v2"])
            )
            n = len(by[d])
            layer = 1 if n == 0 or (n > 4 and r.random() < 0.1) else (2 if n < 3 or r.random() < 0.5 else 3)
            by[d].append(self.add(self.nm(w, d), "svc", d, layer))
        for di, d in enumerate(doms):
            L = {k: [n for n in by[d] if self.ents[n].layer == k] for k in (1, 2, 3)}
            for n in L[1]:
                self.edge(gw if r.random() < 0.8 else r.choice(edge), n, r.uniform(0.15, 0.6))
            for n in L[2]:
                for p in r.sample(L[1], min(len(L[1]), 1 + (r.random() < 0.3))):
                    self.edge(p, n, r.uniform(0.35, 1))
            for n in L[3]:
                up = L[2] or L[1]
                for p in r.sample(up, min(len(up), r.randint(1, 2))):
                    self.edge(p, n, r.uniform(0.35, 1))
            for n in by[d]:  # cross-domain calls go to later domains only (DAG)
                if di + 1 < ndom and r.random() < 0.22:
                    t = by[r.choice(doms[di + 1 :])]
                    if t:
                        self.edge(n, r.choice(t), r.uniform(0.15, 0.75))
                if r.random() < 0.3:
                    self.edge(n, r.choice(plat), r.uniform(0.1, 0.45))
        for e in edge:
            self.edge(e, plat[0], r.uniform(0.2, 0.5))
        self.infra(by, plat, edge, doms)
        self.place()

    def infra(self, by, plat, edge, doms):
        r = self.rng
        sep = "_" if self.naming == "under" else "-"
        dbw = r.choice(["db", "postgres", "mysql", "pg"])
        pre = r.random() < 0.3
        mk = lambda base, suf: (suf + sep + base if pre else base + sep + suf)
        for d in doms + ["platform"]:
            svcs = by[d] if d in by else plat
            shared = self.add(mk(d, dbw), "db", d, 5) if svcs else None
            for n in svcs:
                x = r.random()
                base = re.sub(r"[-_]?(service|svc|api|worker|srv|Service)$", "", n).lower()
                if x < 0.3:
                    self.edge(n, self.add(mk(base, dbw), "db", d, 5), r.uniform(0.6, 1))
                elif x < 0.65:
                    self.edge(n, shared, r.uniform(0.5, 1))
                if r.random() < 0.2:
                    self.edge(n, self.add(mk(base, r.choice(["cache", "redis"])), "cache", d, 5), r.uniform(0.3, 0.8))
            if not self.callers[shared]:
                self.edge(svcs[0], shared, r.uniform(0.5, 1))
        sess = self.add(mk("session", "redis"), "cache", "platform", 5)
        for n in edge + plat[:1]:
            if r.random() < 0.6:
                self.edge(n, sess, r.uniform(0.2, 0.6))
        for d in r.sample(doms, min(len(doms), r.randint(2, 5))):
            q = self.add(mk(d, r.choice(["kafka", "queue", "rabbitmq"])), "queue", d, 5)
            allsvc = by[d] + [n for x in doms if x != d for n in by[x] if r.random() < 0.08]
            for n in r.sample(allsvc, min(len(allsvc), r.randint(3, 6))):
                self.edge(n, q, r.choice([r.uniform(0.2, 0.45), r.uniform(0.6, 0.9)]))
        inner = [n for d in doms for n in by[d]]
        for x in r.sample(EXTERNALS, r.randint(2, 4)):
            e = self.add(x, "ext", "external", 6)
            for n in r.sample(inner, r.randint(1, 2)):
                self.edge(n, e, r.uniform(0.6, 0.95))
        for n in [n for n in self.ents if self.ents[n].layer > 2 or self.ents[n].layer == 0]:
            if not self.callers[n] and self.ents[n].kind in ("cache", "queue"):
                self.edge(r.choice(inner), n, r.uniform(0.4, 0.9))

    def place(self):
        r = self.rng
        total = 0
        pool = [
            "err",
            "lat",
            "burnf",
            "burns",
            "drop",
            "pool",
            "threads",
            "dep",
            "cb",
            "probe",
            "down",
            "crash",
            "notready",
            "cpu",
            "replicas",
            "hpa",
        ]
        domrules = {d: r.sample(pool, r.randint(8, 13)) for d in sorted(self.domstyle)}
        for n, e in self.ents.items():
            if e.kind == "svc":
                base = domrules[e.domain]
                e.rules = sorted(set(["err", "lat"] + [x for x in base if r.random() < 0.8]))
                if e.layer <= 1 and r.random() < 0.35:
                    e.rules.append("kpi")
                e.nrep, e.port = round(r.randint(2, 5 if e.layer else 6) * self.scale), r.choice(
                    [8080, 8080, 9090, 3000, 8443]
                )
            elif e.kind in KINDRULES:
                e.rules = [x for x in KINDRULES[e.kind] if r.random() < 0.85] or KINDRULES[e.kind][:1]
                e.nrep, (e.port, e.tech) = r.randint(1, 3), RUNTIME[e.kind]
                e.tech = "mysqld" if "mysql" in n else "rabbitmq" if "rabbit" in n else e.tech
            else:
                e.nrep = 0
            total += e.nrep
        nn = max(5, round(total / r.uniform(7, 13)))
        fmt = r.choice(["ip-10-%d-%d-%d.ec2.internal", "node-%02d", "worker-%02d.prod", "gke-pool-%04x"])
        self.hosts = []
        for i in range(nn):
            a = (r.randint(0, 40), r.randint(0, 255), r.randint(2, 250))
            h = fmt % (a if fmt.count("%") == 3 else (i + 1) if "x" not in fmt else r.randint(4096, 65535))
            self.hosts.append({"name": h, "ip": "10.%d.%d.%d" % a, "zone": "abc"[i % 3]})
        for n, e in self.ents.items():
            spread = r.sample(range(nn), min(nn, max(1, e.nrep)))
            h = "%08x" % r.getrandbits(32)
            for i in range(e.nrep):
                st = e.kind != "svc"
                pod = (
                    "%s-%d" % (kebab(n), i)
                    if st
                    else "%s-%s-%s"
                    % (kebab(n), h[:9], "".join(r.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5)))
                )
                e.pods.append(
                    {
                        "pod": pod,
                        "host": spread[i % len(spread)],
                        "ip": "10.244.%d.%d" % (spread[i % len(spread)], r.randint(2, 250)),
                        "i": i,
                    }
                )
        self.dns = [
            {"pod": "coredns-%09x-%s" % (r.getrandbits(36), x), "ip": "10.244.%d.%d" % (k, r.randint(2, 250)), "i": k}
            for k, x in enumerate(["x7k2p", "q9w4z"])
        ]

    def topology(self):
        r = self.rng
        drop, stale = r.choice([0, 0, 0.03, 0.08]), r.choice([0, 0, 2])
        ext, hosts = r.random() < 0.6, r.random() < 0.3
        ok = [n for n, e in self.ents.items() if ext or e.kind != "ext"]
        edges = [{"from": a, "to": b} for a in ok for b in self.callees[a] if b in ok and r.random() >= drop]
        svcs = [n for n in ok if self.ents[n].kind == "svc"]
        for _ in range(stale):
            a, b = r.sample(svcs, 2)
            edges.append({"from": a, "to": b})
        if hosts:
            for n in ok[:]:
                for h in sorted({p["host"] for p in self.ents[n].pods}):
                    edges.append({"from": n, "to": self.hosts[h]["name"]})
            ok = ok + [h["name"] for h in self.hosts]
        r.shuffle(edges)
        return {"nodes": sorted(ok), "edges": edges}

    def alert(self, rng, rule, name=None, pod=None, host=None, dep=None, impact=0.5):
        names, scope, sev, _, _, (lo, hi, unit), summ, desc = R[rule]
        e = self.ents.get(name)
        style = self.domstyle.get(e.domain, "k8s") if e else (self.style if self.style != "mixed" else "k8s")
        an = names[self.namepick[rule]]
        vm = style == "job"
        if vm and rule in VMNAME:
            an = VMNAME[rule]
        if self.case == "snake":
            an = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", an).lower()
        elif self.case == "spaced":
            an = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", an)
        L = {"alertname": an, "severity": (self.sev or {}).get(sev, sev)}
        L.update(self.external)
        t, p, k, ns = name or "", "", kebab(name or ""), ""
        if e:
            ns = (e.domain if self.ns_domain else "prod") if e.kind != "ext" else "monitoring"
            if self.team and e.kind != "ext":
                L["team"] = e.domain
        if pod:
            vmhost = (
                self.hosts[pod["host"]]["name"]
                if self.host_instance and "host" in pod
                else "%s-%02d" % (k, pod["i"] + 1)
            )
            inst = (
                ("%s:%d" % (vmhost if e else pod["ip"], e.port if e else 9153))
                if vm
                else "%s:%d" % (pod["ip"], e.port if e else 9153)
            )
            p = inst if vm else pod["pod"]
        if scope in ("svc", "inst", "dep"):
            if vm:
                L["job"] = name
            elif style == "app":
                L.update({"app": name, "env": "prod"})
            elif style == "svc":
                L["service"] = name
                L["namespace"] = ns
            else:
                L.update({"namespace": ns, "service": name, "job": name})
            if pod:
                L["instance"] = inst
                if not vm and style != "svc":
                    L["pod"] = pod["pod"]
            if dep and self.depkey:
                L[self.depkey] = dep
        elif scope in ("ksm", "ksmd"):
            if vm:
                L["job"] = name
                if pod:
                    L["instance"] = inst
            else:
                L.update({"namespace": ns, "job": "kube-state-metrics", "container": k})
                if pod:
                    L["pod"] = pod["pod"]
                else:
                    L["deployment"] = k
                    del L["container"]
                if self.ksm_service or style == "app":
                    L["app" if style == "app" else "service"] = name
        elif scope == "db":
            pod = pod or e.pods[0]
            p = "%s-%d" % (k, pod["i"])
            if self.db_flavour == "managed" and e.kind != "queue":
                L.update(
                    {"job": "cloudwatch", ("dbinstance_identifier" if e.kind == "db" else "cache_cluster_id"): name}
                )
            elif self.db_flavour == "service":
                L.update({"service": name, "instance": "%s:%d" % (p, e.port), "job": e.tech})
            else:
                L.update({"job": e.tech + "-exporter", "instance": "%s.%s.svc:%d" % (p, ns, e.port)})
                if not vm:
                    L.update({"namespace": ns, "pod": p})
            if e.kind == "queue" and rule == "q_lag":
                L.update({"consumergroup": dep + "-consumer"} if dep else {})
        elif scope in ("node", "knode"):
            p = host["name"]
            if vm or scope == "node":
                L.update({"job": "node-exporter", "instance": ("%s:9100" % (p if self.host_instance else host["ip"]))})
                if not vm and not self.host_instance:
                    L["node"] = p
            else:
                L.update({"job": "kube-state-metrics", "node": p})
            if rule == "n_disk":
                L["mountpoint"] = "/var/lib"
        elif scope == "dns":
            L.update({"job": "coredns", "instance": inst})
            L.update({} if vm else {"namespace": "kube-system", "pod": pod["pod"]})
        elif scope == "ext":
            L.update(
                {"job": "blackbox", "instance": "https://api.%s.com/health" % name.replace("-api", ""), "target": name}
            )
        elif scope == "probe":
            L.update(
                {
                    "job": "blackbox",
                    "instance": "https://%s.%s.svc/healthz" % (k, ns) if not vm else "https://%s.internal/healthz" % k,
                }
            )
            if style == "app":
                L["app"] = name
        v = lo + (hi - lo) * min(1, max(0, rng.gauss(impact * 0.9, 0.15)))
        v = round(v, 1 if hi < 200 and unit[:1] != " " else 0)
        f = {
            "t": t,
            "p": p or t,
            "k": k,
            "n": ns,
            "v": ("%g" % v) + unit,
            "d": (" to " + dep) if dep and self.depkey else "",
        }
        A = {"summary": summ.format(**f), "description": desc.format(**f)}
        if self.anno == "message":
            A = {"message": desc.format(**f)}
        elif self.anno == "summary":
            A = {"summary": desc.format(**f)}
        elif self.anno == "runbook":
            A["runbook_url"] = "https://runbooks.example.com/" + names[0].lower()
        return {
            "L": L,
            "A": A,
            "v": v if unit else None,
            "rule": rule,
            "again": lambda: self.alert(rng, rule, name, pod, host, dep, impact),
        }


class Incident:
    """One fault: root alerts + graph propagation, collected as (start, end, alert)."""

    def __init__(self, est, rng, kind, root, t0):
        self.E, self.rng, self.kind, self.root, self.t0 = est, rng, kind, root, t0
        self.out, self.hit = [], {}
        self.flap = {"memory_leak": 0.45, "network_partition": 0.4, "third_party": 0.3}.get(kind, 0.15) * est.flappy
        slow = kind in ("memory_leak", "queue_backlog")
        self.end = t0 + rng.uniform(1500, 4200) if slow else t0 + rng.uniform(800, 3000)
        self.latency = {"db_saturation": 0.7, "cache_failure": 0.7, "third_party": 0.5, "queue_backlog": 0.6}.get(
            kind, 0.3
        )
        self.tls = kind == "certificate"
        self.skip_propagation = set()
        getattr(self, "f_" + kind)()

    def fire(self, rule, t, name=None, pod=None, host=None, dep=None, impact=0.7, end=None):
        E, r = self.E, self.rng
        hold = R[rule][3] * E.forscale + r.uniform(0, 50) * (1.3 - impact)
        s = t + hold
        s = s - (s - E.offset[rule]) % E.eval + E.eval
        e = (end or self.end) + r.uniform(20, 260)
        if s >= e - 60:
            return
        a = lambda: E.alert(r, rule, name, pod, host, dep, impact)
        if r.random() < self.flap and e - s > 600:
            c = s
            while c < e - 120:
                on = r.uniform(120, 600)
                self.out.append((c, min(e, c + on), a()))
                c += on + r.uniform(60, 400)
                c = c - (c - E.offset[rule]) % E.eval + E.eval
        else:
            self.out.append((s, e, a()))

    def spread(self, seeds, scale=1.0):
        """seeds: [(name, impact, t)].  Walk callers outwards with attenuation and delay."""
        E, r, hit = self.E, self.rng, self.hit
        heap = [(t, -i, n, None) for n, i, t in seeds]
        heapq.heapify(heap)
        while heap:
            t, ni, n, via = heapq.heappop(heap)
            imp = -ni
            if n in hit and hit[n][0] >= imp:
                continue
            hit[n] = (imp, min(t, hit[n][1]) if n in hit else t, via)
            if n in self.skip_propagation:
                continue
            for c, w in E.callers[n].items():
                if r.random() > 0.4 + 0.75 * w:
                    continue  # fallback, cached answer, unused path
                x = imp * (0.42 + 0.6 * w) * scale * r.uniform(0.8, 1.05)
                if x > 0.19:
                    heapq.heappush(heap, (t + r.uniform(5, 90), -x, c, n))
        for n in sorted(hit, key=lambda k: (hit[k][1], k)):  # retry storms press on stores below
            if E.ents[n].kind == "svc" and hit[n][0] > 0.5:
                for d in E.callees[n]:
                    if d not in hit and E.ents[d].kind in KINDRULES and r.random() < 0.1:
                        hit[d] = (r.uniform(0.4, 0.62), hit[n][1] + r.uniform(60, 240), None)

    def symptoms(self, skip=()):
        E, r = self.E, self.rng
        for n, (imp, t, via) in sorted(self.hit.items(), key=lambda kv: (kv[1][1], kv[0])):
            if n in skip:
                continue
            e = E.ents[n]
            for rule in e.rules:
                sc, th = R[rule][1], R[rule][4]
                b = (
                    1.15 - self.latency * 0.5
                    if rule in ("err", "burnf", "down", "crash", "notready")
                    else 0.7 + self.latency * 0.6
                )
                if rule in ("down", "crash", "notready", "replicas") and via:
                    b *= 0.75
                if imp * b < th * r.uniform(0.8, 1.2):
                    continue
                if sc in ("inst", "ksm", "db"):
                    for p in e.pods:
                        if r.random() < 0.3 + 0.6 * imp and not (
                            sc == "db" and p["i"] and rule not in ("db_lag", "db_cpu", "c_mem")
                        ):
                            self.fire(rule, t + r.uniform(0, 45), n, p, impact=imp)
                elif sc == "dep":
                    if via:
                        self.fire(rule, t + r.uniform(0, 30), n, dep=via, impact=imp)
                else:
                    self.fire(rule, t + r.uniform(0, 60), n, impact=imp)

    def f_bad_deploy(self):
        r, n = self.rng, self.root
        e = self.E.ents[n]
        crash = r.random() < 0.6
        h = "%09x" % r.getrandbits(36)
        for p in r.sample(e.pods, max(1, round(len(e.pods) * r.uniform(0.5, 1)))):
            np = dict(
                p, pod="%s-%s-%s" % (kebab(n), h, "".join(r.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5)))
            )
            if crash:
                for rule in ("crash", "notready"):
                    self.fire(rule, self.t0 + r.uniform(0, 90), n, np)
                if r.random() < 0.4:
                    self.fire("down", self.t0 + r.uniform(0, 60), n, np)
        if crash:
            self.fire("replicas", self.t0, n)
            self.fire("rollout", self.t0, n)
        self.spread([(n, r.uniform(0.75, 1), self.t0)])
        self.symptoms()

    def f_db_saturation(self):
        self.spread([(self.root, self.rng.uniform(0.75, 1), self.t0)])
        self.symptoms()
        self.ensure()

    def ensure(self):  # a store whose own rules stayed silent still has one basic rule in most shops
        e = self.E.ents[self.root]
        if not any(a["rule"] in KINDRULES.get(e.kind, []) for _, _, a in self.out) and self.rng.random() < 0.8:
            self.fire(KINDRULES[e.kind][0], self.t0, self.root, e.pods[0])

    def f_cache_failure(self):
        r, E = self.rng, self.E
        self.spread([(self.root, r.uniform(0.8, 1), self.t0)])
        for c in sorted(E.callers[self.root]):  # cold cache: load falls through to the database
            for d in sorted(E.callees[c]):
                if E.ents[d].kind == "db" and d not in self.hit and r.random() < 0.5:
                    self.hit[d] = (r.uniform(0.45, 0.75), self.t0 + r.uniform(60, 200), None)
        self.symptoms()
        self.ensure()

    def f_queue_backlog(self):
        r, E, q = self.rng, self.E, self.root
        self.latency = 0.6
        self.spread([(q, r.uniform(0.7, 0.95), self.t0)], 0.9)
        for c, w in sorted(E.callers[q].items()):
            if w > 0.5:
                self.fire("q_lag", self.t0 + r.uniform(0, 120), q, E.ents[q].pods[0], dep=kebab(c))
                self.fire("stale", self.t0 + r.uniform(60, 400), c)
        self.symptoms()
        self.ensure()

    def f_memory_leak(self):
        r, n = self.rng, self.root
        e = self.E.ents[n]
        for p in e.pods:
            t = self.t0 + r.uniform(0, 500)
            self.fire("mem", t, n, p)
            if r.random() < 0.5:
                self.fire("gc", t + r.uniform(60, 300), n, p)
            t += r.uniform(240, 700)
            while t < self.end:
                self.fire("oom", t, n, p, end=t + 200)
                if r.random() < 0.5:
                    self.fire("crash", t, n, p, end=t + 700)
                t += r.uniform(500, 1300)
        self.spread([(n, r.uniform(0.6, 0.9), self.t0 + r.uniform(300, 700))], 0.95)
        self.symptoms()

    def hostfault(self, hosts, hard):
        r, E = self.rng, self.E
        for h in hosts:
            H = E.hosts[h]
            for rule in (("n_down", "n_ready", "n_kubelet") if hard else ("n_net", "n_net", "n_ready")):
                if hard or rule == "n_net" or r.random() < 0.3:
                    self.fire(rule, self.t0 + r.uniform(0, 20), host=H)
        seeds = []
        for n, e in E.ents.items():
            lost = [p for p in e.pods if p["host"] in hosts]
            for p in lost:
                end = self.end if not hard else min(self.end, self.t0 + r.uniform(500, 1500))  # rescheduled
                if e.kind == "svc":
                    if "down" in e.rules and r.random() < (0.9 if hard else 0.5):
                        self.fire("down", self.t0 + r.uniform(0, 30), n, p, end=end)
                    if hard and r.random() < 0.7:
                        self.fire("notready", self.t0 + r.uniform(0, 60), n, p, end=end)
                elif e.kind in KINDRULES and r.random() < 0.7:
                    rule = {"db": "db_down", "cache": "c_down", "queue": "q_urp"}[e.kind]
                    self.fire(rule, self.t0 + r.uniform(0, 30), n, p, end=end)
            if lost:
                share = len(lost) / len(e.pods)
                imp = share * r.uniform(0.5, 0.95) * (1.1 if e.kind != "svc" else 1)
                if imp > 0.22:
                    seeds.append((n, min(1, imp), self.t0 + r.uniform(0, 40)))
        if seeds:
            self.spread(seeds, 0.8)
        self.symptoms()

    def f_node_failure(self):
        self.hostfault([self.root], True)

    def f_network_partition(self):
        z = self.E.hosts[self.root]["zone"]
        same = [i for i, h in enumerate(self.E.hosts) if h["zone"] == z]
        k = same.index(self.root)
        self.group = (same[k:] + same[:k])[: self.rng.choice([2, 2, 3])]
        self.latency = 0.6
        self.hostfault(self.group, False)

    def f_dns(self):
        r, E = self.rng, self.E
        for p in E.dns:
            self.fire("d_err", self.t0, pod=p)
            if r.random() < 0.6:
                self.fire("d_lat", self.t0, pod=p)
        svcs = [n for n, e in E.ents.items() if e.kind == "svc"]
        some = r.sample(svcs, max(5, round(len(svcs) * r.uniform(0.12, 0.28))))
        for n in some:
            if r.random() < 0.5:
                self.fire("dnsf", self.t0 + r.uniform(0, 120), n)
        self.spread([(n, r.uniform(0.4, 0.85), self.t0 + r.uniform(10, 200)) for n in some], 0.6)
        self.symptoms()

    def f_certificate(self):
        r, E, n = self.rng, self.E, self.root
        self.fire("cert_exp", self.t0, n)
        for c in sorted(E.callers[n]):
            self.fire("tls", self.t0 + r.uniform(0, 60), c, dep=n)
        self.spread([(n, r.uniform(0.8, 1), self.t0)])
        keep = self.hit.pop(n)
        self.symptoms()
        self.hit[n] = keep
        for rule in ("probe", "drop"):
            if rule in E.ents[n].rules or rule == "probe":
                self.fire(rule, self.t0, n)

    def f_third_party(self):
        r = self.rng
        if r.random() < 0.7:
            self.fire(r.choice(["x_fail", "x_slow"]), self.t0, self.root)
        self.spread([(self.root, r.uniform(0.85, 1), self.t0)], 1.05)
        self.symptoms()


KINDS = (
    ["bad_deploy"] * 5
    + ["db_saturation"] * 4
    + ["node_failure"] * 3
    + ["network_partition"] * 2
    + ["cache_failure"] * 3
    + ["queue_backlog"] * 3
    + ["memory_leak"] * 3
    + ["dns", "certificate", "certificate"]
    + ["third_party"] * 2
)


def pick_root(E, rng, kind):
    if kind in ("node_failure", "network_partition"):
        return rng.randrange(len(E.hosts))
    if kind == "dns":
        return "coredns"
    want = {"db_saturation": "db", "cache_failure": "cache", "queue_backlog": "queue", "third_party": "ext"}.get(
        kind, "svc"
    )
    c = [n for n, e in E.ents.items() if e.kind == want and E.callers[n] and (want != "svc" or e.layer > 0)]
    return rng.choice(c) if c else None


def near(E, a, b):
    return a in E.callers.get(b, {}) or b in E.callers.get(a, {})


def incidents(E, rng, n):
    onsets, t = [], rng.uniform(900, 1800)
    for i in range(n):
        onsets.append(t)
        t += rng.uniform(0, 420) if rng.random() < 0.5 else rng.uniform(1200, 3000)
    done, roots, kinds = [], [], []
    limit = 0.45 * len(E.ents)
    for t0 in onsets:
        for _ in range(60):
            kind = rng.choice(KINDS)
            root = pick_root(E, rng, kind)
            if root is None or root in roots or kinds.count(kind) >= 2 or (kind == "dns" and kind in kinds):
                continue
            if kind in ("node_failure", "network_partition") and any(
                isinstance(x, int) and abs(x - root) in (0, 3, 6) for x in roots
            ):
                continue
            inc = Incident(E, random.Random(rng.getrandbits(64)), kind, root, t0)
            fp = set(inc.hit)
            if len(inc.out) < 8 or len(fp) < 3 or len(fp) > limit:
                continue
            bad = False
            for d in done:
                o = set(d.hit)
                if len(fp & o) / len(fp | o) > 0.2 or (isinstance(root, str) and (near(E, root, d.root) or root in o)):
                    bad = bad or rng.random() < 0.8
            if bad:
                continue
            done.append(inc)
            roots.append(root)
            kinds.append(kind)
            break
    return done


def noise(E, rng, horizon, target):
    """Background alerts that belong to nothing; returns [(start, end, alert)] of roughly `target` intervals."""
    out = []
    svcs = [n for n, e in E.ents.items() if e.kind == "svc"]
    dbs = [n for n, e in E.ents.items() if e.kind in ("db", "cache")]

    def put(rule, s, e, **kw):
        if R[rule][1] == "dep":
            kw["dep"] = rng.choice(sorted(E.callees[kw["name"]]) or [None])
        if R[rule][1] == "dep" and not kw["dep"]:
            return
        s = s - (s - E.offset[rule]) % E.eval + E.eval
        out.append((s, max(e, s + 60), E.alert(rng, rule, impact=rng.uniform(0.2, 0.7), **kw)))

    if rng.random() < 0.7:
        put("watchdog", 0, horizon + 1e5)
    for _ in range(rng.randint(1, 4)):
        put("cert_soon", rng.uniform(0, horizon), horizon + 1e5, name=rng.choice(svcs))
    for _ in range(rng.randint(1, 4)):
        put("n_disk", rng.uniform(0, horizon), horizon + 1e5, host=rng.choice(E.hosts))
    flappers = []
    for _ in range(rng.randint(2, 6)):
        if rng.random() < 0.4:
            flappers.append(("n_cpu", dict(host=rng.choice(E.hosts))))
        else:
            n = rng.choice(svcs)
            flappers.append(("cpu", dict(name=n, pod=rng.choice(E.ents[n].pods))))
    share = rng.uniform(0.3, 0.6)
    for rule, kw in flappers:
        gap = max(240, horizon * len(flappers) / max(1, target * share))
        t = rng.uniform(0, gap)
        while t < horizon:
            on = rng.uniform(60, gap * 0.5)
            put(rule, t, t + on, **kw)
            t += on + rng.expovariate(1 / (gap * 0.6)) + 60
    while len(out) < target:
        t, x = rng.uniform(0, horizon), rng.random()
        if x < 0.5:  # a single warning of an ordinary rule
            n = rng.choice(svcs)
            rule = rng.choice([k for k in E.ents[n].rules if k != "kpi" or rng.random() < 0.3])
            pod = rng.choice(E.ents[n].pods) if R[rule][1] in ("inst", "ksm") else None
            put(rule, t, t + rng.uniform(60, 900), name=n, pod=pod)
            if rng.random() < 0.2:  # ... sometimes two
                put("lat", t + rng.uniform(0, 90), t + rng.uniform(200, 600), name=n)
        elif x < 0.65:
            n = rng.choice(dbs)
            put(
                rng.choice(E.ents[n].rules + (["backup"] if E.ents[n].kind == "db" else [])),
                t,
                t + rng.uniform(90, 1200),
                name=n,
            )
        elif x < 0.78:
            put(
                rng.choice(["n_mem", "n_cpu", "n_clock", "n_net"]),
                t,
                t + rng.uniform(120, 1500),
                host=rng.choice(E.hosts),
            )
        elif x < 0.9:
            put(rng.choice(["job", "hpa", "replicas"]), t, t + rng.uniform(300, 3000), name=rng.choice(svcs))
        elif x < 0.95:  # blips of rules that also open real incidents
            rule = rng.choice(
                ["tls", "stale", "dnsf", "rollout", "x_slow", "x_fail", "d_lat", "n_kubelet", "n_ready", "q_lag"]
            )
            pick = [
                n
                for n, e in E.ents.items()
                if e.kind == {"x": "ext", "q": "queue"}.get(rule[0] if rule[1] == "_" else "", "svc")
            ]
            kw = (
                {"host": rng.choice(E.hosts)}
                if rule[:2] == "n_"
                else {"pod": rng.choice(E.dns)} if rule == "d_lat" else {"name": rng.choice(pick)}
            )
            put(rule, t, t + rng.uniform(60, 600), **kw)
        else:
            n = rng.choice(svcs)
            put(
                rng.choice(["mem", "oom", "gc", "crash"]),
                t,
                t + rng.uniform(120, 900),
                name=n,
                pod=rng.choice(E.ents[n].pods),
            )
    return out


def merge(items):
    """One series cannot fire twice at once: a later interval that overlaps the open one is absorbed by it."""
    live, kept = {}, []
    for s, e, a, truth in sorted(items, key=lambda x: (x[0], json.dumps(x[2]["L"], sort_keys=True), x[3] or "")):
        k = json.dumps(a["L"], sort_keys=True)
        if k in live and s <= live[k][1] + 30:
            live[k][1] = max(live[k][1], e)
            continue
        live[k] = [s, e, a, truth]
        kept.append(live[k])
    return kept


def storm(seed):
    for attempt in range(200):
        rng = random.Random("storm-%s-%d" % (seed, attempt))
        E = Estate(rng)
        want = rng.choice([2, 3, 3, 4, 4, 5, 6])
        incs = incidents(E, rng, want)
        if len(incs) < want:
            continue
        horizon = max(i.end for i in incs) + 1200
        repeat = rng.choice([None, None, 1800, 900, 600, 300])
        resolves = rng.random() < 0.85
        n_inc = sum(len(i.out) for i in incs)
        frac = rng.uniform(0.12, 0.45)
        items = [(s, e, a, "INC-%d" % (k + 1)) for k, i in enumerate(incs) for s, e, a in i.out]
        items += [(s, e, a, None) for s, e, a in noise(E, rng, horizon, int(n_inc * frac / (1 - frac)))]
        kept = merge(items)
        base = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=rng.randrange(60 * 24 * 500))
        ms, withval, plain = rng.random() < 0.5, rng.random() < 0.6, not resolves and rng.random() < 0.5

        def ts(x):
            d = base + timedelta(seconds=x)
            return d.strftime("%Y-%m-%dT%H:%M:%S") + (".%03dZ" % (d.microsecond // 1000) if ms else "Z")

        rows = []
        for s, e, a, truth in kept:
            ev = {"labels": dict(sorted(a["L"].items())), "annotations": a["A"], "startsAt": ts(s)}
            if not plain:
                ev["status"] = "firing"
            if withval and a["v"] is not None:
                ev["value"] = a["v"]
            rows.append((s, dict(ev, truth=truth)))
            step = repeat or (3600 if a["rule"] == "watchdog" else None)
            t = s + step + rng.uniform(0, 30) if step else horizon
            while t < min(e, horizon):
                n = a["again"]()
                again = dict(ev, annotations=n["A"], startsAt=ts(t), truth=truth)
                rows.append((t, dict(again, value=n["v"]) if "value" in ev else again))
                t += step + rng.uniform(0, 30)
            if resolves and e < horizon and rng.random() < 0.97:
                rows.append((e, dict(ev, endsAt=ts(e), status="resolved", truth=truth)))
        firing = {}
        for _, x in rows:
            if x.get("status") != "resolved":
                firing[x["truth"]] = firing.get(x["truth"], 0) + 1
        if (
            not 300 <= len(rows) <= 3000
            or len([k for k in firing if k]) < want
            or min(firing[k] for k in firing if k) < 10
        ):
            continue
        rows.sort(key=lambda x: (x[0], json.dumps(x[1], sort_keys=True)))
        return [x for _, x in rows], E.topology(), incs, E
    raise SystemExit("no storm for seed %s" % seed)


def main():
    seed, out = sys.argv[1], sys.argv[2]
    rows, topo, incs, E = storm(seed)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "alerts.jsonl"), "w") as f:
        for x in rows:
            f.write(json.dumps(x) + "\n")
    with open(os.path.join(out, "topology.json"), "w") as f:
        json.dump(topo, f, indent=1)
    if os.environ.get("GEN_DEBUG"):
        print(
            seed,
            len(rows),
            E.size,
            E.naming,
            E.style,
            [(i.kind, i.root, round(i.t0), len(i.out), len(i.hit)) for i in incs],
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
