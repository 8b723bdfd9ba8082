"""Worlds around managed clouds, queues, a Zabbix-run data centre and data pipelines."""

import random

from base import HEX, ROLES, Style, World, chatter_table, place_dedicated, place_shared, rule_table, token


class Cloud(World):
    """Datadog monitors and CloudWatch alarms, no topology known."""

    name = "cloud"
    topology_share = 0.0
    fault_weights = {"deploy": 2, "crash": 2, "db_slow": 2, "db_conns": 1.5, "vendor": 2, "cpu": 1.5, "cache_down": 1,
                     "consumer": 1, "broker": 0.7, "db_disk": 0.7, "oom": 1, "node_down": 0.6, "job": 0.6, "cert": 0.5}
    rules = rule_table("""
err 0.05 [P1]_High_error_rate_on_{service} P1 60 service 0.75 | trace.http.request.errors {pct}% on {service}{cause}
slow 0.2 [P3]_p95_latency_on_{service} P3 60 service 0.75 | p95 {secs}s on {service}
down 0.5 [P1]_{service}_has_no_healthy_hosts P1 30 service 0.8 | HealthyHostCount = 0 for target group {service}
replicas 0.3 [P2]_{service}_running_tasks_below_desired P2 60 service 0.7 | ECS running tasks below desired for {service}
crash 0.1 [P2]_Container_restarts_on_{service} P2 45 instance 0.7 | {pod} exited with code 1
oom 0.1 [P2]_Container_out_of_memory_on_{service} P2 0 instance 0.7 | {pod} OutOfMemoryError: container killed
cpu 0.1 [P3]_CPU_utilization_on_{service} P3 90 service 0.8 | CPUUtilization {pct}% for {service}
mem 0.1 [P3]_Memory_utilization_on_{service} P3 90 service 0.7 | MemoryUtilization {pct}% for {service}
slowq 0.1 [P3]_RDS_read_latency_{service} P3 60 service 0.7 | ReadLatency {secs}s on DBInstanceIdentifier={service}
conns 0.1 [P2]_RDS_connections_{service} P2 60 service 0.8 | DatabaseConnections near limit on DBInstanceIdentifier={service}
repl 0.1 [P3]_RDS_replica_lag_{service} P3 60 service 0.7 | ReplicaLag {secs}s on DBInstanceIdentifier={service}
disk 0.1 [P3]_RDS_free_storage_{service} P3 60 service 0.8 | FreeStorageSpace {low}% on DBInstanceIdentifier={service}
disk_full 0.1 [P1]_RDS_storage_full_{service} P1 20 service 0.9 | storage-full on DBInstanceIdentifier={service}
inst_down 0.1 [P2]_Status_check_failed_{service} P2 60 instance 0.6 | StatusCheckFailed for {pod} on {node}
hitrate 0.1 [P3]_ElastiCache_hit_rate_{service} P3 60 service 0.7 | CacheHitRate {low}% on {service}
lag 0.1 [P2]_Queue_age_{service} P2 90 service 0.85 | ApproximateAgeOfOldestMessage {count}s, consumer {service}
backlog 0.1 [P3]_Queue_depth_{service} P3 60 service 0.8 | ApproximateNumberOfMessagesVisible {count} on {service}
dlq 0.1 [P2]_Dead_letters_{service} P2 0 service 0.8 | dead letters from {service}
probe 0.3 [P1]_Synthetic_test_{service} P1 60 service 0.7 | synthetic browser test of {service} failed in 3 of 3 locations
cert 0.1 [P2]_Certificate_{service} P2 0 service 0.6 | ACM certificate of {service} expired
pool 0.3 [P3]_Hikari_pending_threads_{service} P3 45 service 0.5 | {service}: threads wait for a connection{cause}
deploy 0.1 [P5]_Deployment_{service} P5 0 service 0.7 | {service} deployed
jobfail 0.1 [P3]_Scheduled_task_{service} P3 0 service 0.9 | scheduled task {service} failed
node_down 0.1 [P2]_EC2_status_check P2 60 node 0.9 | StatusCheckFailed_System on {node}
drop 0.3 [P3]_Traffic_anomaly_{service} P3 120 service 0.6 | requests on {service} below the forecast band
""")
    chatter = chatter_table("""
[P3]_p95_latency_on_{service} P3 service 130 3 | p95 {secs}s on {service}
[P5]_Deployment_{service} P5 service 1 3 | {service} deployed
[P3]_CPU_utilization_on_{service} P3 service 240 2 | CPUUtilization {pct}% for {service}
[P4]_Log_volume_anomaly_{service} P4 service 300 1.5 | log volume of {service} outside the forecast band
[P3]_Traffic_anomaly_{service} P3 service 200 0.8 | requests on {service} below the forecast band
""")
    steady = chatter_table("""
[P5]_Heartbeat_monitor P5 cluster 0 1 | ok
[P4]_Reserved_instances_expire P4 cluster 0 0.6 | reserved instances expire this month
""")
    strong = {"P1", "P2"}
    persistent = {"P3"}
    milliseconds = True
    repeats = [120, 300, 300, 180]

    def __init__(self, rng):
        super().__init__(rng)
        self.priority = rng.choice(["priority", "severity"])
        self.words = {"P1": "critical", "P2": "critical", "P3": "warning", "P4": "info", "P5": "info"}
        self.arn = rng.random() < 0.4
        self.causes = rng.random() < 0.6

    def style(self):
        glue = self.rng.choice(["-", "_"])

        def node(k, env):
            return "i-0" + token(random.Random(f"{glue}{k}{env}"), HEX, 16)

        return Style(["retail", "bank", "media", "logistics"],
                     lambda domain, role, engine: f"{domain}{glue}{engine if role == 'db' else role}",
                     lambda domain, env: env,
                     lambda e, r: place_shared(e, r, node, lambda s, stem, k: token(r, HEX, 12),
                                               ["us-east-1a", "us-east-1b", "us-east-1c"], 6),
                     brokers=["sqs", "kinesis"], queues=0.18, gateway=0.3)

    def labels(self, rule, w):
        s = w.service
        out = {"monitor": rule.name.format(service=s.name if s else ""), "source": "datadog"}
        out[self.priority] = rule.severity if self.priority == "priority" else self.words[rule.severity]
        if s is not None:
            out["env"] = "prod" if s.env == "production" else "staging"
            managed = any(word in rule.text for word in ("DBInstance", "Approximate", "ECS", "HealthyHost", "ACM"))
            if managed:
                out["source"] = "cloudwatch"
                if "DBInstance" in rule.text:
                    out["DBInstanceIdentifier"] = s.name
                elif self.arn:
                    out["arn"] = f"arn:aws:ecs:us-east-1:123456789012:service/{out['env']}/{s.name}"
                else:
                    out["service"] = s.name
            else:
                out.update(service=s.name, team=s.team)
            if w.instance:
                out.update(container_id=w.instance.name, host=w.instance.node.name)
        elif w.node:
            out.update(host=w.node.name, availability_zone=w.node.zone)
        return out

    def annotations(self, rule, w, facts):
        cause = f"; top error: {facts['via']}: {facts['phrase']}" if facts["via"] and self.causes else ""
        return {"message": rule.text.format(**{**facts, "cause": cause})}

    def severity_of(self, labels):
        word = labels[self.priority]
        return word if word.startswith("P") else {"critical": "P1", "warning": "P3", "info": "P5"}[word]


class Queues(World):
    name = "queues"
    fault_weights = {"consumer": 4, "broker": 2.5, "db_slow": 1.5, "db_down": 1, "vendor": 1, "crash": 1.5, "cpu": 0.7,
                     "job": 0.7, "db_disk": 0.7}
    rules = rule_table("""
lag 0.1 ConsumerGroupLag warning 60 service 0.95 | group {service} is {count} messages behind
lag 0.8 ConsumerGroupLagCritical critical 240 service 0.8 | group {service} is {count} messages behind and growing
backlog 0.1 TopicBacklogGrowing warning 60 service 0.8 | {service}: {count} messages wait
dlq 0.1 DeadLetterQueueNotEmpty warning 0 service 0.8 | dead letters from {service}
stale 0.1 ReadModelStale critical 60 service 0.7 | projection of {service} is {secs}s old
under_replicated 0.1 UnderReplicatedPartitions critical 45 service 0.9 | {service}: under-replicated partitions
inst_down 0.1 BrokerDown critical 30 instance 0.8 | {pod} is down
crash 0.1 ConsumerRestarting warning 45 instance 0.8 | {pod} restarts, group rebalances
cpu 0.1 ConsumerBusy warning 60 instance 0.6 | {pod} at {pct}% CPU
notready 0.1 PodNotReady warning 60 instance 0.6 | {pod} not ready
replicas 0.3 ReplicasMissing warning 90 service 0.8 | {service} runs with fewer replicas
down 0.5 ServiceUnavailable critical 30 service 0.85 | {service} is unavailable
err 0.05 ErrorsHigh critical 60 service 0.75 | {service}: {pct}% errors {cause}
slow 0.2 LatencyHigh warning 60 service 0.7 | {service}: {secs}s
pool 0.3 PublishTimeouts warning 45 service 0.5 | {service}: calls wait {cause}
slowq 0.1 SlowStatements warning 60 service 0.8 | {service}: slow statements
conns 0.1 ConnectionsExhausted critical 60 service 0.8 | {service}: connections exhausted
repl 0.1 ReplicaLag warning 60 service 0.7 | {service}: replica behind
disk 0.1 VolumeFilling warning 60 instance 0.9 | volume of {pod} {low}% free
disk_full 0.1 VolumeFull critical 20 instance 0.9 | volume of {pod} is full
jobfail 0.1 BatchFailed warning 0 service 0.95 | batch {service} failed
""")
    chatter = chatter_table("""
ConsumerGroupLag warning service 200 3 | group {service} is {count} messages behind
LatencyHigh warning service 120 1.5 | {service}: {secs}s
ConsumerRebalance info service 30 2 | group {service} rebalances
ConsumerBusy warning instance 240 1 | {pod} at {pct}% CPU
""")
    steady = chatter_table("""
Watchdog none cluster 0 1 | pipeline alive
DeadLetterQueueNotEmpty warning service 0 1 | dead letters from {service}
""")

    def __init__(self, rng):
        super().__init__(rng)
        self.group_key = rng.choice(["consumergroup", "group", "consumer_group"])

    def style(self):
        return Style(["retail", "logistics", "bank"],
                     lambda domain, role, engine: f"{domain}-{engine if role == 'db' else role}",
                     lambda domain, env: domain if env == "production" else domain + "-stg",
                     lambda e, r: place_shared(e, r, lambda k, env: ("stg-" if env == "staging" else "") + f"node-{k:03d}",
                                               lambda s, stem, k: f"{s.name}-{k}", ["a", "b", "c"], 8),
                     queues=0.35, roles={**ROLES, "worker": ["consumer", "projector", "dispatcher"]})

    def labels(self, rule, w):
        s = w.service
        out = {"alertname": rule.name, "severity": rule.severity}
        if s is None:
            return out
        out["env"] = s.env
        if rule.name.startswith("ConsumerGroup"):
            out[self.group_key] = s.name
            out["topic"] = f"{s.domain}-events"
        elif rule.name in ("TopicBacklogGrowing", "UnderReplicatedPartitions"):
            out["topic"] = s.name
        elif w.instance:
            out.update(namespace=s.namespace, pod=w.instance.name)
        else:
            out.update(service=s.name, namespace=s.namespace)
        return out

    def annotations(self, rule, w, facts):
        cause = f"(errors calling {facts['via']}: {facts['phrase']})" if facts["via"] else ""
        return {"description": rule.text.format(**{**facts, "cause": cause}).strip()}


class Zabbix(World):
    """A data centre watched by Zabbix: hosts, trigger names, no alertname."""

    name = "zabbix"
    topology_share = 0.7
    fault_weights = {"node_down": 2, "rack": 1.5, "db_slow": 1.5, "db_disk": 2, "repl": 1, "crash": 2, "cpu": 1.5,
                     "node_net": 1.5, "cert": 0.7, "db_down": 1, "vendor": 0.7, "job": 0.7, "broker": 0.6}
    rules = rule_table("""
node_down 0.1 Unavailable_by_ICMP_ping High 60 node 0.95 | {node} unavailable by ICMP ping
node_net 0.1 High_ICMP_ping_loss Warning 60 node 0.9 | {pct}% loss
node_disk 0.1 Disk_space_is_critically_low_on_/ Average 20 node 0.9 | {low}% left
node_io 0.1 Disk_read/write_request_responses_are_too_high Warning 90 node 0.6 | sda await
switch 0.1 Interface_Te1/0/1_link_down High 10 rack 0.7 | uplink of rack {rack}
inst_down 0.1 Zabbix_agent_is_not_available Average 90 instance 0.9 | agent on {node} silent
crash 0.1 Service_{service}_is_not_running High 60 instance 0.9 | state of {service} is not running
notready 0.1 HTTP_service_is_down_on_{service} Average 60 instance 0.7 | port check failed
replicas 0.3 Pool_{service}_has_lost_members Warning 60 service 0.7 | members down in pool
down 0.5 Pool_{service}_is_down Disaster 30 service 0.85 | no member up
cpu 0.1 High_CPU_utilization Warning 120 instance 0.9 | {pct}% on {node}
throttle 0.1 High_CPU_utilization Warning 120 instance 0.9 | {pct}% on {node}
io 0.1 Disk_read/write_request_responses_are_too_high Warning 90 instance 0.7 | sdb await
mem 0.1 High_memory_utilization Average 120 instance 0.8 | {pct}% on {node}
disk 0.1 Disk_space_is_low_on_/data Warning 60 instance 0.9 | {low}% left
disk_full 0.1 Disk_space_is_critically_low_on_/data Average 15 instance 0.95 | 0% left
slowq 0.1 Too_many_slow_queries Warning 60 service 0.8 | slow queries on {service}
conns 0.1 Connections_exhausted High 60 service 0.8 | {service}
repl 0.1 Replication_lag_is_too_high High 60 service 0.85 | {secs}s
err 0.05 Web_scenario_{service}_failed High 60 service 0.8 | {pct}% of steps failed
slow 0.2 Web_scenario_{service}_is_slow Warning 90 service 0.75 | {secs}s
probe 0.3 External_check_{service} Disaster 60 service 0.7 | no answer
cert 0.1 Certificate_of_{service}_has_expired High 0 service 0.8 | expired
under_replicated 0.1 Cluster_{service}_is_degraded High 30 service 0.9 | members missing
backlog 0.1 Too_many_messages_in_{service} Average 60 service 0.8 | {count}
lag 0.1 Too_many_messages_for_{service} Average 90 service 0.8 | {count}
jobfail 0.1 Job_{service}_failed Average 0 service 0.95 | exit 1
""")
    chatter = chatter_table("""
High_CPU_utilization Warning instance 260 3 | {pct}% on {node}
High_ICMP_ping_response_time Warning node 120 1.5 | {few} ms
Disk_read/write_request_responses_are_too_high Warning instance 150 1 | sdb await
Web_scenario_{service}_is_slow Warning service 150 1 | {secs}s
System_time_is_out_of_sync Warning node 400 1 | {secs}s
""")
    steady = chatter_table("""
Host_has_been_restarted Information node 0 0.8 | uptime < 10m
Operating_system_description_has_changed Information node 0 0.8 | new kernel
Disk_space_is_low_on_/backup Warning node 0 0.8 | {low}% left
""")
    strong = {"High", "Disaster"}
    persistent = {"Warning", "Average"}

    def __init__(self, rng):
        super().__init__(rng)
        self.site = rng.choice(["fra", "lon", "muc"])
        self.machines = rng.random() < 0.4

    def style(self):
        def host(service, k):
            return f"{self.site}{'t' if service.env == 'staging' else 'p'}-{service.name}-{k + 1:02d}"

        return Style(["bank", "logistics"], lambda domain, role, engine: f"{domain}-{engine if role == 'db' else role}",
                     lambda domain, env: domain, lambda e, r: place_dedicated(e, r, host, lambda s, n, k: n.name,
                                                                              [self.site + "1", self.site + "2"]),
                     replicas=[1, 2, 2, 3, 4], engines=["mysql", "oracle", "postgres"], brokers=["rabbitmq", "ibmmq"])

    def topology_nodes(self):
        return self.machines

    def labels(self, rule, w):
        s = w.service
        out = {"trigger": rule.name.format(service=s.name if s else ""), "severity": rule.severity}
        node = w.node or (w.instance.node if w.instance else None)
        if rule.scope == "rack":
            out.update(host=f"sw-{w.rack}", hostgroup="Network")
        elif node:
            out.update(host=node.name, hostgroup=(f"{s.domain.title()} servers" if s else "Linux servers"), rack=node.rack)
        elif s:
            out.update(host=f"lb-{self.site}-01" if "Pool" in rule.name or "Web" in rule.name else f"cl-{s.name}",
                       application=s.name, env=s.env)
        return out

    def annotations(self, rule, w, facts):
        return {"opdata": rule.text.format(**facts)}


class Pipelines(World):
    """Scheduled data jobs, warehouse tables and dashboards: effects move along data, mostly inside the company."""

    name = "pipelines"
    topology_share = 0.7
    fault_weights = {"crash": 3, "db_slow": 2, "db_down": 1, "db_disk": 1.5, "vendor": 3, "job": 2, "deploy": 1.5,
                     "consumer": 1, "oom": 2, "node_down": 0.7}
    rules = rule_table("""
crash 0.1 task_failed error 0 instance 0.95 | task {pod} of dag {service} failed, retrying
oom 0.1 executor_lost error 0 instance 0.9 | ExecutorLostFailure in {service}: container killed by YARN for exceeding memory limits
mem 0.1 executor_memory_high warn 60 instance 0.6 | executor {pod} memory {pct}%
notready 0.1 task_stuck_queued warn 60 instance 0.7 | {pod} queued
down 0.5 dag_failed critical 30 service 0.9 | dag {service} failed
jobfail 0.1 dag_failed critical 20 service 0.9 | dag {service} failed
err 0.1 upstream_failed error 45 service 0.8 | {service}: upstream_failed because {via}
err 0.4 data_quality_test_failed error 60 service 0.6 | {service}: {count} rows fail not_null
slow 0.15 sla_miss warn 60 service 0.8 | dag {service} missed its SLA
stale 0.1 freshness_breach warn 60 service 0.8 | table {service} is stale
lag 0.1 ingest_lag warn 60 service 0.9 | stream {service} is {count} records behind
backlog 0.1 topic_backlog warn 60 service 0.8 | {service}: {count}
slowq 0.1 warehouse_queue_time warn 60 service 0.8 | {service}: queries wait {secs}s
conns 0.1 warehouse_slots_exhausted critical 60 service 0.8 | {service}: no free slot
down 0.5 warehouse_unreachable critical 20 service 0.3 | {service} unreachable
disk 0.1 storage_quota_warning warn 60 service 0.9 | {service}: {low}% left
disk_full 0.1 storage_quota_exceeded critical 20 service 0.95 | {service}: write failed, quota exceeded
inst_down 0.1 worker_lost error 45 instance 0.8 | worker of {service} on {node} lost
node_down 0.1 node_lost critical 45 node 0.9 | {node} lost
deploy 0.1 dag_version_changed info 0 service 0.8 | new version of {service}
drop 0.3 row_count_anomaly warn 60 service 0.8 | {service}: row count {pct}% below normal
replicas 0.3 workers_missing warn 60 service 0.6 | {service}: fewer workers
""")
    chatter = chatter_table("""
sla_miss warn service 240 3 | dag {service} missed its SLA
task_failed error instance 30 1 | task {pod} of dag {service} failed, retrying
row_count_anomaly warn service 400 2 | {service}: row count {pct}% below normal
warehouse_cost_anomaly info service 600 1 | {service}: credits above forecast
""")
    steady = chatter_table("""
scheduler_heartbeat none cluster 0 1 | scheduler alive
deprecated_operator info service 0 1 | {service} uses a deprecated operator
""")
    strong = {"critical", "error"}
    all_serve = True
    persistent = {"warn"}

    def __init__(self, rng):
        super().__init__(rng)
        self.key = rng.choice(["dag_id", "pipeline", "dataset"])

    def style(self):
        roles = {"entry": ["dashboard", "report"], "api": ["mart", "agg"],
                 "mid": ["stg", "clean", "joined", "dedup", "features", "snapshot", "raw", "enriched"],
                 "worker": ["loader", "ingest"], "external": ["feed", "sftp"], "job": ["backfill", "vacuum"],
                 "shared": ["calendar", "fxrates", "geo", "identity"]}
        return Style(["retail", "bank", "logistics", "media"],
                     lambda domain, role, engine: f"{domain}_{'wh' if role == 'db' else role}",
                     lambda domain, env: domain,
                     lambda e, r: place_shared(e, r, lambda k, env: f"spark-{env[:4]}-{k:02d}",
                                               lambda s, stem, k: f"{s.name}.part_{k}", ["a"], 8),
                     engines=["snowflake"], brokers=["kafka"], roles=roles, gateway=0.0, replicas=[1, 2, 3, 4])

    def labels(self, rule, w):
        out = {"event": rule.name, "level": rule.severity}
        if w.service:
            out.update({self.key: w.service.name, "env": w.env[:4], "owner": w.service.team})
        if w.instance:
            out["task_id"] = w.instance.name.split(".")[-1]
            out["worker"] = w.instance.node.name
        if w.node:
            out["worker"] = w.node.name
        return out

    def annotations(self, rule, w, facts):
        text = rule.text.format(**facts)
        return {"message": text if facts["via"] else text.split(" because ")[0]}

    def severity_of(self, labels):
        return labels.get("level", "")
