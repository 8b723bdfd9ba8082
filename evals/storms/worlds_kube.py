"""Worlds on Kubernetes: plain kube-prometheus, a service mesh with burn-rate alerts, and a deploy-heavy shop."""

from base import POD, ROLES, Style, World, chatter_table, place_shared, rule_table, token


def kube_pod(rng):
    def pod(service, stem, k):
        if service.kind in ("db", "queue", "cache"):
            return f"{service.name}-{k}"
        return f"{service.name}-{stem}-{token(rng, POD, 5)}"

    return pod


def kube_style(rng, vocabularies, **more):
    by_domain = rng.random() < 0.6
    aws = rng.random() < 0.5
    zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] if aws else ["zone-a", "zone-b"]

    def namespace(domain, env):
        space = domain if by_domain else ["shop", "core", "growth", "backoffice"][sum(map(ord, domain)) % 4]
        return space if env == "production" else space + "-staging"

    def node(k, env):
        if aws:
            return f"ip-10-{k % 40}-{k * 37 % 250}-{k * 91 % 250}.eu-west-1.compute.internal"
        return ("stg-" if env == "staging" else "") + f"worker-{k + 1:02d}"

    density = rng.uniform(5, 12)
    return Style(vocabularies, lambda domain, role, engine: f"{domain}-{engine if role == 'db' else role}", namespace,
                 lambda estate, r: place_shared(estate, r, node, kube_pod(r), zones, density), **more)


class Kube(World):
    name = "kube"
    fault_weights = {"crash": 3, "oom": 2, "cpu": 2, "db_slow": 1.5, "db_down": 1, "node_down": 1.5, "cache_down": 1,
                     "deploy": 1.5, "vendor": 1, "job": 1, "broker": 0.5, "noisy_neighbour": 0.7, "db_disk": 1}
    rules = rule_table("""
crash 0.1 KubePodCrashLooping warning 60 instance 0.95 | Pod {ns}/{pod} ({service}) is in waiting state (reason: "CrashLoopBackOff").
notready 0.1 KubePodNotReady warning 90 instance 0.9 | Pod {ns}/{pod} has been in a non-ready state.
replicas 0.3 KubeDeploymentReplicasMismatch warning 120 service 0.9 | Deployment {ns}/{service} has not matched the expected number of replicas.
down 0.5 ServiceDown critical 30 service 0.7 | No ready endpoints for service {service} in {ns}.
oom 0.1 ContainerOOMKilled warning 0 instance 0.7 | Container {service} in pod {pod} was OOMKilled.
mem 0.1 ContainerMemoryNearLimit warning 120 instance 0.5 | Container {service} of {pod} uses {pct}% of its memory limit.
throttle 0.1 CPUThrottlingHigh info 120 instance 0.8 | {pct}% throttling of CPU in namespace {ns} for container {service} in pod {pod}.
cpu 0.1 CPUThrottlingHigh info 60 instance 0.8 | {pct}% throttling of CPU in namespace {ns} for container {service} in pod {pod}.
hpa 0.1 KubeHpaMaxedOut warning 180 service 0.6 | HPA {ns}/{service} has been running at max replicas.
err 0.05 HTTPErrorRateHigh critical 60 service 0.75 | {service} returns {pct}% 5xx.
slow 0.2 HTTPLatencyHigh warning 90 service 0.7 | p99 latency of {service} is {secs}s.
inst_down 0.1 TargetDown warning 60 instance 0.8 | {pct}% of the {service} targets in {ns} namespace are down.
evicted 0.1 KubePodEvicted warning 0 instance 0.8 | Pod {ns}/{pod} was evicted: node was low on ephemeral-storage.
node_down 0.1 KubeNodeNotReady critical 60 node 1 | {node} has been unready.
node_load 0.1 NodeSystemSaturation warning 120 node 0.8 | System load per core on {node} above 2.
node_disk 0.1 NodeFilesystemAlmostOutOfSpace critical 30 node 0.9 | Filesystem on {node} has only 3% available space left.
node_net 0.1 NodeNetworkReceiveErrs warning 60 node 0.8 | {node} interface eth0 has encountered receive errors.
slowq 0.1 PostgresSlowQueries warning 60 service 0.7 | {service}: slow queries, {secs}s mean.
conns 0.1 PostgresTooManyConnections critical 60 service 0.7 | {service} uses {pct}% of its connections.
repl 0.1 PostgresReplicationLag warning 60 service 0.7 | replication of {service} lags {secs}s.
disk 0.1 KubePersistentVolumeFillingUp warning 60 instance 0.9 | The PersistentVolume claimed by data-{pod} in namespace {ns} is only {low}% free.
disk_full 0.1 KubePersistentVolumeFillingUp critical 20 instance 0.9 | The PersistentVolume claimed by data-{pod} in namespace {ns} is full.
under_replicated 0.1 KafkaUnderReplicatedPartitions critical 60 service 0.8 | {service} has under-replicated partitions.
lag 0.1 KafkaConsumerLag warning 90 service 0.8 | Consumer group {service} lags by {count} messages.
jobfail 0.1 KubeJobFailed warning 30 service 0.95 | Job {ns}/{service} failed to complete.
stale 0.1 DataStale warning 60 service 0.5 | Output of {service} is older than expected.
probe 0.2 BlackboxProbeFailed critical 30 service 0.7 | Probe of {service} failed.
pool 0.3 ConnectionPoolExhausted warning 45 service 0.5 | {service} waits for connections.
""")
    chatter = chatter_table("""
CPUThrottlingHigh info instance 300 3 | {pct}% throttling of CPU in namespace {ns} for container {service} in pod {pod}.
KubePodNotReady warning instance 120 0.7 | Pod {ns}/{pod} has been in a non-ready state.
HTTPLatencyHigh warning service 150 1 | p99 latency of {service} is {secs}s.
KubeHpaMaxedOut warning service 500 0.8 | HPA {ns}/{service} has been running at max replicas.
NodeSystemSaturation warning node 250 0.5 | System load per core on {node} above 2.
ContainerMemoryNearLimit warning instance 400 0.8 | Container {service} of {pod} uses {pct}% of its memory limit.
""")
    steady = chatter_table("""
Watchdog none cluster 0 1 | This is an alert meant to ensure that the entire alerting pipeline is functional.
InfoInhibitor none namespace 0 1 | This is an alert that is used to inhibit info alerts.
KubeQuotaAlmostFull info namespace 0 0.7 | Namespace {ns} is using {pct}% of its quota.
KubeClientCertificateExpiration warning cluster 0 0.4 | A client certificate expires in less than 7 days.
""")

    def __init__(self, rng):
        super().__init__(rng)
        self.service_label = rng.random() < 0.5  # whether the request alerts carry `service`
        self.team_label = rng.random() < 0.4
        self.cluster = rng.choice(["prod-eu1", "k8s-main", "prod"])
        self.pod_only = {r.name for r in self.rules if r.scope == "instance" and rng.random() < 0.7}

    def style(self):
        return kube_style(self.rng, ["retail", "bank", "media", "games"])

    def labels(self, rule, w):
        out = {"alertname": rule.name, "severity": rule.severity}
        if self.cluster != "prod":
            out["cluster"] = self.cluster
        if rule.scope == "node":
            return {**out, "node": w.node.name, "job": "node-exporter", "instance": f"{w.node.ip}:9100"}
        if rule.scope in ("cluster", "namespace"):
            if rule.scope == "namespace" and w.service:
                out["namespace"] = w.service.namespace
            return out
        s = w.service
        out["namespace"] = s.namespace
        if rule.scope == "instance":
            out.update(pod=w.instance.name, container=s.name)
            if rule.name.startswith("KubePersistentVolume"):
                del out["container"], out["pod"]
                out["persistentvolumeclaim"] = f"data-{w.instance.name}"
            elif rule.name == "TargetDown":
                out.pop("pod"), out.pop("container")
                out.update(job=s.name, service=s.name)
            elif rule.name not in self.pod_only and self.service_label:
                out["service"] = s.name
            if rule.name.startswith("Kube"):
                out["job"] = "kube-state-metrics"
        elif rule.name.startswith("KubeDeployment"):
            out.update(deployment=s.name, job="kube-state-metrics")
        elif rule.name.startswith("KubeHpa"):
            out.update(horizontalpodautoscaler=s.name, job="kube-state-metrics")
        elif rule.name == "KubeJobFailed":
            out.update(job_name=f"{s.name}-{28000000 + s.id * 1440}", job="kube-state-metrics")
        elif self.service_label:
            out.update(service=s.name, job=f"{s.namespace}/{s.name}")
        else:
            out["job"] = s.name
        if self.team_label:
            out["team"] = s.team
        return out

    def annotations(self, rule, w, facts):
        text = rule.text.format(**facts)
        if rule.name.startswith("Kube"):
            return {"description": text, "runbook_url": "https://runbooks.prometheus-operator.dev/runbooks/kubernetes/"
                    + rule.name.lower(), "summary": rule.name}
        return {"summary": text}


class Mesh(World):
    name = "mesh"
    fault_weights = {"crash": 2, "deploy": 3, "cpu": 2, "vendor": 2, "db_slow": 2, "db_down": 1, "cache_down": 1.5,
                     "cert": 1, "db_conns": 1.5, "dns": 0.7, "oom": 1}
    rules = rule_table("""
err 0.3 SLOErrorBudgetBurn page 60 service 0.85 | {service} burns its availability budget {burn}x too fast. Top error: errors calling {via}: {phrase}
err 0.03 SLOErrorBudgetBurnSlow ticket 150 service 0.8 | {service} burns its availability budget {burn}x too fast.
err 0.08 ErrorRateHigh critical 45 service 0.7 | {service}: {pct}% of requests fail; errors calling {via}: {phrase}
slow 0.25 LatencyP99High warning 60 service 0.75 | {service}: p99 {secs}s; slowest upstream {via}
slow 0.4 SLOLatencyBudgetBurn page 120 service 0.5 | {service} burns its latency budget {burn}x too fast.
drop 0.3 RequestRateDropped warning 90 service 0.8 | {service}: request rate {pct}% below the same time last week.
down 0.5 NoHealthyUpstream critical 20 service 0.8 | envoy: no healthy upstream for {service}
notready 0.1 EndpointsNotReady warning 60 instance 0.5 | {pod} is not ready.
crash 0.1 PodRestarting warning 60 instance 0.7 | {pod} restarted {few} times.
oom 0.1 PodOOMKilled warning 0 instance 0.7 | {pod} was OOMKilled.
cpu 0.1 CPUSaturation warning 90 instance 0.5 | {pod} uses {pct}% of its CPU request.
pool 0.3 UpstreamPendingOverflow warning 45 service 0.8 | {service}: circuit breaker to {via} overflows.
slowq 0.1 DatabaseSlowQueries warning 60 service 0.7 | {service}: {secs}s mean query time.
conns 0.1 DatabaseConnectionsExhausted critical 45 service 0.8 | {service}: {pct}% of connections in use.
repl 0.1 DatabaseReplicaLag warning 60 service 0.6 | {service}: replica {secs}s behind.
hitrate 0.1 CacheHitRateLow warning 60 service 0.7 | {service}: hit rate dropped to {low}%.
cert 0.1 CertificateExpired critical 0 service 0.7 | certificate of {service} expired.
dns 0.1 CoreDNSErrorsHigh warning 60 service 0.3 | SERVFAIL answers to {service}.
probe 0.3 SyntheticCheckFailed page 60 service 0.7 | synthetic journey through {service} fails.
deploy 0.1 DeploymentStarted info 0 service 0.6 | {service} rolls out a new version.
lag 0.1 ConsumerLagHigh warning 90 service 0.7 | {service} lags {count} messages.
inst_down 0.1 TargetDown warning 60 instance 0.5 | {pod} cannot be scraped.
""")
    chatter = chatter_table("""
LatencyP99High warning service 140 3 | {service}: p99 {secs}s; slowest upstream {other}
ErrorRateHigh critical service 70 0.4 | {service}: {low}% of requests fail; errors calling {other}: HTTP 429
SLOErrorBudgetBurnSlow ticket service 700 1 | {service} burns its availability budget {burn}x too fast.
DeploymentStarted info service 1 2 | {service} rolls out a new version.
CPUSaturation warning instance 300 2 | {pod} uses {pct}% of its CPU request.
RequestRateDropped warning service 240 0.6 | {service}: request rate {pct}% below the same time last week.
""")
    steady = chatter_table("""
Watchdog none cluster 0 1 | always firing
ErrorBudgetExhausted ticket service 0 0.8 | {service} has no error budget left for this month.
""")
    strong = {"critical", "page"}
    persistent = {"warning", "ticket"}

    def __init__(self, rng):
        super().__init__(rng)
        self.key = rng.choice(["service", "destination_service", "app"])
        self.long = rng.random() < 0.5

    def style(self):
        return kube_style(self.rng, ["retail", "media", "bank", "games"], gateway=0.6, coverage=0.9)

    def labels(self, rule, w):
        out = {"alertname": rule.name, "severity": rule.severity}
        s = w.service
        if s is None:
            return out
        name = s.name
        if self.key == "destination_service":
            name = f"{s.name}.{s.namespace}.svc.cluster.local"
        out[self.key] = name
        out["namespace"] = s.namespace
        if rule.scope == "instance":
            del out[self.key]
            out["pod"] = w.instance.name
        if self.long and rule.name.startswith("SLO"):
            out.update(slo=f"{s.name}-availability", long_window="1h", short_window="5m")
        return out

    def annotations(self, rule, w, facts):
        out = {"summary": f"{rule.name} {facts['service']}", "description": rule.text.format(**facts)}
        if "{via}" in rule.text and not facts["via"]:
            out["description"] = out["description"].split("; ")[0].split(" Top error")[0].split(" to ")[0]
        return out


class Deploys(Kube):
    """The same cluster conventions where most trouble comes from changes, certificates and names."""

    name = "deploys"
    fault_weights = {"deploy": 5, "crash": 3, "cert": 2, "dns": 1.5, "oom": 1, "vendor": 0.5, "job": 0.7}
    rules = Kube.rules + rule_table("""
deploy 0.1 DeploymentStarted info 0 service 0.9 | {service} rolls out build {count}.
cert 0.1 CertificateExpired critical 0 service 0.8 | TLS certificate for {service} expired.
dns 0.1 DNSResolutionFailures warning 45 service 0.6 | {service}: lookups fail: no such host.
err 0.08 UpstreamErrors critical 45 service 0.6 | {service}: errors calling {via}: {phrase}
""")
    chatter = Kube.chatter + chatter_table("""
DeploymentStarted info service 1 4 | {service} rolls out build {count}.
CertificateExpiringSoon warning service 900 0.5 | TLS certificate for {service} expires in {low} days.
KubeDeploymentReplicasMismatch warning service 150 1.5 | Deployment {ns}/{service} has not matched the expected number of replicas.
""")

    def style(self):
        return kube_style(self.rng, ["retail", "games", "logistics"], replicas=[3, 4, 6, 8, 12], coverage=0.9,
                          roles={**ROLES, "entry": ["storefront", "gateway", "ui"]})

    def annotations(self, rule, w, facts):
        if "{via}" in rule.text and not facts["via"]:
            return {"summary": f"{facts['service']}: internal errors: {facts['phrase']}"}
        return super().annotations(rule, w, facts)
