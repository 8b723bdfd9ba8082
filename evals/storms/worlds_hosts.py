"""Worlds of machines: a classic VM estate, and one where machines, racks and networks fail under the services."""

from base import Style, World, chatter_table, place_dedicated, place_shared, rule_table


class Vm(World):
    name = "vm"
    topology_share = 0.6
    fault_weights = {"db_slow": 2, "db_disk": 2.5, "repl": 1.5, "db_down": 1.5, "cpu": 2, "crash": 2, "node_down": 1.5,
                     "broker": 0.7, "vendor": 0.7, "cert": 0.7, "job": 1, "node_net": 1, "node_disk": 1, "cache_down": 1}
    rules = rule_table("""
inst_down 0.1 InstanceDown critical 60 instance 0.95 | {instance} of job {service} has been down for more than 1 minute.
crash 0.1 ProcessRestarting warning 60 instance 0.8 | systemd unit {service}.service on {node} restarts repeatedly.
notready 0.1 HealthcheckFailed warning 60 instance 0.7 | healthcheck of {instance} fails.
down 0.5 BackendDown critical 30 service 0.8 | haproxy: backend {service} has no server available
replicas 0.3 BackendDegraded warning 60 service 0.7 | haproxy: backend {service} lost servers
cpu 0.1 HighLoad warning 120 instance 0.9 | load on {node} is {few}{low}.
throttle 0.1 HighLoad warning 120 instance 0.9 | load on {node} is {few}{low}.
io 0.1 HighIOWait warning 90 instance 0.8 | iowait on {node} is {pct}%.
mem 0.1 HostOutOfMemory warning 120 instance 0.8 | {node} has {low}% memory left.
oom 0.1 HostOomKillDetected warning 0 instance 0.8 | OOM kill detected on {node}.
disk 0.1 NodeFilesystemSpaceFillingUp warning 120 instance 0.9 | Filesystem on /dev/sdb1 at {instance} has only {low}% available space left and is filling up.
disk_full 0.1 NodeFilesystemOutOfSpace critical 15 instance 0.9 | Filesystem on /dev/sdb1 at {instance} is full.
node_down 0.1 HostUnreachable critical 45 node 0.9 | {node} does not answer ping.
node_net 0.1 HostNetworkErrors warning 60 node 0.8 | eth0 on {node} drops packets.
node_disk 0.1 NodeFilesystemOutOfSpace critical 20 node 0.9 | Filesystem on /dev/sda1 at {node} is full.
node_io 0.1 HighIOWait warning 60 node 0.8 | iowait on {node} is {pct}%.
slowq 0.1 MySQLSlowQueries warning 60 service 0.8 | {service} has slow queries
conns 0.1 MySQLTooManyConnections critical 60 service 0.8 | {service} uses {pct}% of max_connections
repl 0.1 MySQLReplicationLag critical 60 service 0.85 | replica of {service} is {secs}s behind
err 0.05 HighHttpErrorRate critical 60 service 0.75 | {service}: {pct}% 5xx at the load balancer
slow 0.2 SlowResponses warning 90 service 0.7 | {service}: mean response time {secs}s
pool 0.3 ThreadPoolExhausted warning 60 service 0.6 | {service}: all worker threads busy
probe 0.2 EndpointDown critical 45 service 0.8 | https://{service}.example.com/health does not answer 200
cert 0.1 SSLCertExpired critical 0 service 0.7 | certificate of {service}.example.com expired
under_replicated 0.1 RabbitMQNodeDown critical 30 service 0.9 | {service} runs with fewer nodes
backlog 0.1 RabbitMQQueueGrowing warning 90 service 0.8 | {service}: {count} messages ready
lag 0.1 QueueConsumersSlow warning 90 service 0.7 | {service}: consumers fall behind
jobfail 0.1 CronJobFailed warning 0 service 0.95 | cron {service} exited with status 1
stale 0.1 BackupTooOld warning 60 service 0.4 | last run of {service} is too old
hitrate 0.1 RedisHitRateLow warning 60 service 0.6 | {service}: hit rate {low}%
""")
    chatter = chatter_table("""
HighLoad warning instance 260 3 | load on {node} is {few}{low}.
NodeClockSkewDetected warning instance 300 1 | clock on {node} is out of sync
HighIOWait warning instance 130 1.5 | iowait on {node} is {pct}%.
SlowResponses warning service 120 1 | {service}: mean response time {secs}s
NodeTextFileCollectorScrapeError info instance 500 0.7 | text file collector on {node} failed
MySQLSlowQueries warning service 100 0.6 | {service} has slow queries
""")
    steady = chatter_table("""
DeadMansSwitch none cluster 0 1 | alerting works
NodeFilesystemSpaceFillingUp warning instance 0 0.8 | Filesystem on /dev/sdc1 at {instance} has only {low}% available space left and is filling up.
RebootRequired info instance 0 1 | {node} needs a reboot
""")

    def __init__(self, rng):
        super().__init__(rng)
        self.dc = rng.choice(["", ".prod.example.com", ".fra1.internal"])
        self.job_is_service = rng.random() < 0.6
        self.short = rng.random() < 0.5

    def style(self):
        def host(service, k):
            stem = service.name.replace("_", "-")
            return ("stg-" if service.env == "staging" else "") + f"{stem}-{k + 1:02d}{self.dc}"

        def instance(service, node, k):
            return f"{node.name}:{9104 if service.kind == 'db' else 9100}"

        glue = "_" if self.short else "-"
        return Style(["bank", "logistics", "retail"],
                     lambda domain, role, engine: f"{domain}{glue}{engine if role == 'db' else role}",
                     lambda domain, env: domain, lambda e, r: place_dedicated(e, r, host, instance, ["fra1", "fra2"]),
                     replicas=[1, 2, 2, 3, 4], engines=["mysql", "mysql", "postgres"], brokers=["rabbitmq"])

    def labels(self, rule, w):
        out = {"alertname": rule.name, "severity": rule.severity}
        s = w.service
        if rule.scope == "node":
            out.update(instance=f"{w.node.name}:9100", job="node")
        elif rule.scope == "instance":
            out.update(instance=w.instance.name, job=s.name if self.job_is_service else "node")
        elif s is not None:
            out["job"] = s.name
            if rule.name in ("BackendDown", "BackendDegraded", "HighHttpErrorRate"):
                del out["job"]
                out.update(backend=s.name, job="haproxy")
            elif rule.name in ("EndpointDown", "SSLCertExpired"):
                out.update(job="blackbox", instance=f"https://{s.name.replace('_', '-')}.example.com/health")
            elif rule.name.startswith("MySQL") and s.instances:
                out.update(job="mysql", instance=s.instances[0].name)
        if "Filesystem" in rule.name:
            out.update(device="/dev/sdb1", mountpoint="/var/lib/mysql" if s and s.kind == "db" else "/var", fstype="ext4")
        if s is not None or w.node is not None:
            out["env"] = w.env
        return out


class Fabric(World):
    """Machines, racks and the network fail under unrelated services that share them."""

    name = "fabric"
    fault_weights = {"node_down": 3, "rack": 2, "node_net": 2, "node_disk": 2, "noisy_neighbour": 2, "db_slow": 1,
                     "crash": 1, "cpu": 1, "db_down": 0.7}
    rules = rule_table("""
node_down 0.1 HostDown critical 40 node 0.85 | host {node} ({rack}) unreachable
node_load 0.1 HostCpuSteal warning 90 node 0.8 | cpu steal on {node} is {pct}%
node_disk 0.1 HostDiskFull critical 20 node 0.9 | / on {node} is full
node_io 0.1 HostIOWait warning 60 node 0.8 | iowait on {node}
node_net 0.1 HostPacketLoss warning 45 node 0.8 | {pct}% packet loss to {node}
switch 0.1 SwitchPortsDown critical 20 rack 0.6 | top-of-rack switch of {rack}: ports down
inst_down 0.1 TargetDown warning 45 instance 0.9 | {service} on {node} cannot be scraped
notready 0.1 ReplicaUnhealthy warning 60 instance 0.7 | {pod} on {node} fails its health check
crash 0.1 ReplicaRestarting warning 45 instance 0.8 | {pod} restarts
evicted 0.1 ReplicaEvicted warning 0 instance 0.9 | {pod} moved away from {node}: disk pressure
throttle 0.1 ReplicaSlow warning 60 instance 0.8 | {pod} on {node} is slow
cpu 0.1 ReplicaSlow warning 60 instance 0.8 | {pod} on {node} is slow
replicas 0.2 ServiceDegraded warning 60 service 0.8 | {service} runs with fewer replicas
down 0.5 ServiceDown critical 30 service 0.9 | {service} has no healthy replica
err 0.06 ServiceErrors critical 60 service 0.75 | {service} fails {pct}% of its requests
slow 0.2 ServiceLatency warning 60 service 0.75 | {service} answers in {secs}s
slowq 0.1 DbSlow warning 60 service 0.8 | {service}: slow statements
conns 0.1 DbConnections critical 60 service 0.8 | {service}: connections exhausted
repl 0.1 DbReplicaBehind warning 60 service 0.6 | {service}: replica {secs}s behind
probe 0.3 EdgeProbeFailed critical 45 service 0.8 | probe to {service} fails
""")
    chatter = chatter_table("""
HostIOWait warning node 160 2 | iowait on {node}
HostPacketLoss warning node 60 1 | {low}% packet loss to {node}
ReplicaSlow warning instance 200 2 | {pod} on {node} is slow
ServiceLatency warning service 120 1 | {service} answers in {secs}s
HostTemperature info node 600 1 | {node} is warm
""")
    steady = chatter_table("""
Heartbeat none cluster 0 1 | monitoring is alive
RaidDegraded warning node 0 0.8 | RAID on {node} is degraded
FirmwareOutdated info node 0 1 | firmware on {node} is outdated
""")

    def __init__(self, rng):
        super().__init__(rng)
        self.rack_label = rng.random() < 0.6
        self.key = rng.choice(["node", "host", "hostname"])
        self.machines = rng.random() < 0.35

    def style(self):
        zones = self.rng.choice([["ams1", "ams2"], ["dc-north", "dc-south"], ["az1", "az2", "az3"]])
        density = self.rng.uniform(3, 7)
        return Style(["media", "logistics", "games", "bank"],
                     lambda domain, role, engine: f"{domain}-{engine if role == 'db' else role}",
                     lambda domain, env: domain,
                     lambda e, r: place_shared(e, r, lambda k, env: ("stg" if env == "staging" else "hv") + f"-{k + 1:03d}",
                                               lambda s, stem, k: f"{s.name}-{k}", zones, density),
                     gateway=0.2, staging=0.3)

    def topology_nodes(self):
        return self.machines

    def labels(self, rule, w):
        out = {"alertname": rule.name, "severity": rule.severity}
        if rule.scope == "rack":
            return {**out, "device": f"tor-{w.rack}", "rack": w.rack}
        node = w.node or (w.instance.node if w.instance else None)
        if w.service:
            out.update(service=w.service.name, env=w.env)
        if w.instance:
            out["replica"] = w.instance.name
        if node:
            out[self.key] = node.name
            out["zone"] = node.zone
            if self.rack_label:
                out["rack"] = node.rack
        return out
