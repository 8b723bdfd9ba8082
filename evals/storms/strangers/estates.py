#!/usr/bin/env python3
"""Labelled alert-storm generator.  usage: estates.py SEED OUTDIR   (stdlib only, deterministic by seed).

Written without sight of the correlator it measures.
"""

import datetime as dt, hashlib, heapq, json, math, os, random, re, sys

# ------------------------------------------------------------------ estates
# line: name kind > callee ... or '= kind leaf leaf ...', separated by ';' or newline;  '~x' = soft dependency (fallback / async).  {a,b} expands; {a,b} in callees = all of them,
# '@' in a callee = the same variant as the caller's.
ESTATES = {
    "ecommerce": dict(
        ns="shop",
        org="acme",
        kpi="orders",
        vendors=["datadog", "cloudwatch", "synth", "log"],
        extra="wishlist reviews giftcard loyalty returns coupons tax-calc size-guide bundles affiliate recently-viewed cms store-locator",
        spec="""
cdn-edge edge > web-storefront mobile-bff ; web-storefront edge > catalog-api search-api cart-api checkout-api session-svc ~reco-svc
mobile-bff edge > catalog-api cart-api checkout-api session-svc ~reco-svc ; session-svc svc > session-redis auth-svc ; auth-svc svc > users-db
catalog-api svc > catalog-db catalog-redis pricing-svc ~media-svc ; search-api svc > product-search ~reco-svc ; reco-svc svc > reco-redis ~catalog-api
cart-api svc > cart-redis pricing-svc inventory-svc ; pricing-svc svc > pricing-db ~catalog-redis ; inventory-svc svc > inventory-db
checkout-api svc > payment-svc order-svc inventory-svc ~fraud-svc ; payment-svc svc > payments-db stripe-gateway ~fraud-svc ; fraud-svc svc > fraud-db
order-svc svc > orders-db order-events ; fulfilment-worker worker > order-events inventory-svc wms-connector ; notification-worker worker > order-events sendgrid
invoice-worker worker > order-events orders-db ; wms-connector svc > wms-partner ; media-svc svc > media-redis
= db product-search users-db catalog-db pricing-db inventory-db payments-db orders-db fraud-db ; = ext stripe-gateway wms-partner sendgrid ; = mq order-events
= cache session-redis catalog-redis reco-redis cart-redis media-redis""",
    ),
    "bank": dict(
        ns="pay",
        org="nordbank",
        kpi="transactions",
        vendors=["zabbix", "snmp", "synth", "log"],
        extra="standing-orders statements kyc-check fx-rates limits direct-debit card-controls disputes fee-engine archive cheque consent-mgr",
        spec="""
internet-banking edge > api-gateway ; mobile-banking edge > api-gateway ; pos-acquiring edge > card-switch
api-gateway svc > iam-svc accounts-svc payments-hub cards-svc fw-dmz ; iam-svc svc > iam-db hsm-cluster ; accounts-svc svc > core-ledger accounts-redis
payments-hub svc > sepa-adapter swift-adapter instant-adapter core-ledger sanctions-svc payments-mq ; cards-svc svc > cards-db ~tokenisation-svc
tokenisation-svc svc > hsm-cluster token-db ; card-switch svc > authorisation-svc scheme-link ; authorisation-svc svc > cards-db core-ledger hsm-cluster ~fraud-scoring
fraud-scoring svc > fraud-redis fraud-db ; sanctions-svc svc > sanctions-db ; core-ledger svc > ledger-db ; sepa-adapter svc > sepa-clearing
swift-adapter svc > swift-net fw-core ; instant-adapter svc > tips-clearing fw-core ; posting-worker worker > payments-mq core-ledger
reporting-worker worker > payments-mq dwh-db ; notify-worker worker > payments-mq ~sms-provider ; fw-dmz net > core-switch-1 ; fw-core net > core-switch-1
= ext sepa-clearing swift-net tips-clearing scheme-link sms-provider ; = mq payments-mq ; = svc hsm-cluster ; = net core-switch-1
= db ledger-db cards-db iam-db token-db fraud-db sanctions-db dwh-db ; = cache fraud-redis accounts-redis""",
    ),
    "telecom": dict(
        ns="core5g",
        org="telnova",
        kpi="sessions",
        vendors=["snmp", "zabbix", "synth"],
        extra="voicemail number-port lawful-tap roaming-steer ott-bundle sim-activation eir nwdaf bulk-sms loyalty-rt",
        spec="""
gnb-{north,south,east,west,harbour,airport,stadium,campus} cell > agg-rtr-{1,2} ; agg-rtr-1 net > core-rtr-1 ; agg-rtr-2 net > core-rtr-2
core-rtr-1 net > amf-{1,2} upf-{1,2} dwdm-ring-a ; core-rtr-2 net > amf-{1,2} upf-{1,2} dwdm-ring-a ; amf-{1,2} svc > ausf smf-{1,2} nrf
smf-{1,2} svc > upf-@ pcf nrf ~chf ; upf-{1,2} svc > peering-rtr ; ausf svc > udm ; udm svc > udr-db ; pcf svc > udr-db ~chf ; nrf svc > nrf-redis
chf svc > charging-db cdr-bus ; mediation-worker worker > cdr-bus billing-db ; rating-worker worker > cdr-bus charging-db ; ims-pcscf edge > ims-scscf
ims-scscf svc > hss ims-mgw ; hss svc > udr-db ; ims-mgw svc > peering-rtr ; smsc svc > hss ss7-interco ; selfcare-portal edge > crm-api
crm-api svc > crm-db order-mgmt billing-db ; order-mgmt svc > crm-db udm ; = net dwdm-ring-a peering-rtr ; = mq cdr-bus ; = ext ss7-interco
= db udr-db charging-db billing-db crm-db ; = cache nrf-redis""",
    ),
    "saas": dict(
        ns="app",
        org="collabo",
        kpi="active users",
        vendors=["datadog", "cloudwatch", "synth", "log"],
        extra="audit-log feature-flags templates import-csv sso-saml calendar-sync forms whiteboard mentions ai-assist usage-meter onboarding",
        spec="""
app-frontend edge > graphql-gw realtime-gw ; public-api edge > rate-limiter docs-svc tasks-svc identity-svc
graphql-gw svc > identity-svc docs-svc tasks-svc search-svc billing-svc ~presence-svc ; realtime-gw svc > presence-svc pubsub-redis identity-svc
rate-limiter svc > limits-redis ; identity-svc svc > identity-db token-redis ; docs-svc svc > docs-db blob-store permissions-svc events-kafka
tasks-svc svc > tasks-db permissions-svc events-kafka ; permissions-svc svc > permissions-db perms-redis ; presence-svc svc > pubsub-redis
search-svc svc > search-es permissions-svc ; billing-svc svc > billing-db ~stripe ; indexer-worker worker > events-kafka search-es
webhook-worker worker > events-kafka webhook-db ; email-worker worker > events-kafka mailgun ; export-worker worker > jobs-sqs docs-db blob-store
automation-worker worker > events-kafka tasks-svc ; reports-api svc > warehouse-db ~docs-svc
= db search-es identity-db docs-db tasks-db permissions-db billing-db webhook-db warehouse-db ; = ext stripe blob-store mailgun ; = mq events-kafka jobs-sqs
= cache token-redis pubsub-redis perms-redis limits-redis""",
    ),
    "game": dict(
        ns="live",
        org="ironforge",
        kpi="concurrent players",
        vendors=["datadog", "cloudwatch", "log"],
        extra="season-pass daily-quests mail-ingame guild-wars trade-house replay cosmetics referral tournament crafting",
        spec="""
login-gw-{eu,us,ap} edge > account-svc entitlement-svc ; lobby-{eu,us,ap} edge > matchmaker-@ party-svc presence-svc ~chat-svc
matchmaker-{eu,us,ap} svc > mm-redis-@ fleet-mgr-@ ~rating-svc ; fleet-mgr-{eu,us,ap} svc > gameserver-@
gameserver-{eu,us,ap} svc > inventory-svc telemetry-kinesis ~anticheat-svc ; account-svc svc > account-db steam-auth ; entitlement-svc svc > store-db
party-svc svc > social-redis ; presence-svc svc > social-redis ; chat-svc svc > chat-db social-redis ~moderation-svc ; rating-svc svc > rating-db
inventory-svc svc > inventory-db inv-redis ; store-svc edge > store-db inventory-svc xsolla entitlement-svc ; leaderboard-svc svc > rating-db lb-redis
anticheat-svc svc > anticheat-db ; stats-worker worker > telemetry-kinesis rating-db ; reward-worker worker > telemetry-kinesis inventory-svc
bans-worker worker > telemetry-kinesis anticheat-db ; = svc moderation-svc ; = mq telemetry-kinesis ; = cache mm-redis-{eu,us,ap} social-redis inv-redis lb-redis
= ext steam-auth xsolla ; = db account-db store-db chat-db rating-db inventory-db anticheat-db""",
    ),
    "video": dict(
        ns="stream",
        org="vidora",
        kpi="playback starts",
        vendors=["datadog", "cloudwatch", "synth"],
        extra="watchlist captions parental trailers skip-intro downloads live-chat ratings-svc profiles thumbnails epg ads-report",
        spec="""
tv-app-gw edge > playback-api browse-api login-api ; web-player edge > playback-api browse-api login-api ; cdn-{a,b} net > origin-shield
playback-api svc > drm-license manifest-svc entitlement-svc ~qoe-beacon ; manifest-svc svc > origin-shield manifest-redis ad-decision
ad-decision svc > ~adnet-partner ads-redis ; origin-shield svc > packager-{1,2} segment-store ; packager-{1,2} svc > segment-store
drm-license svc > drm-keys-db ~widevine-cloud ; entitlement-svc svc > subs-db ent-redis ; browse-api svc > catalog-svc reco-svc ~artwork-svc
catalog-svc svc > catalog-db catalog-redis ; reco-svc svc > feature-db reco-redis ; artwork-svc svc > segment-store ; login-api svc > accounts-db session-redis
billing-svc svc > subs-db adyen ; ingest-gw edge > transcode-q ; transcode-worker worker > transcode-q segment-store ; qc-worker worker > transcode-q
live-encoder svc > packager-{1,2} ; qoe-beacon svc > qoe-kafka ; qoe-agg-worker worker > qoe-kafka feature-db ; history-worker worker > qoe-kafka history-db
= db segment-store drm-keys-db subs-db catalog-db feature-db accounts-db history-db ; = mq transcode-q qoe-kafka ; = ext adnet-partner widevine-cloud adyen
= cache manifest-redis ads-redis ent-redis catalog-redis reco-redis session-redis""",
    ),
    "ridehail": dict(
        ns="rides",
        org="hopin",
        kpi="trips",
        vendors=["datadog", "zabbix", "synth", "log"],
        extra="tips referrals lost-found safety-kit driver-docs surge-map airport-queue scooters promos receipts heatmap",
        spec="""
rider-gw edge > trip-svc pricing-svc eta-svc user-svc ; driver-gw edge > location-svc dispatch-svc user-svc ; trip-svc svc > trips-db dispatch-svc payment-svc trip-kafka
dispatch-svc svc > location-svc eta-svc dispatch-redis ; location-svc svc > geo-redis gps-kafka ; eta-svc svc > routing-svc eta-redis
routing-svc svc > maps-provider tiles-db ; pricing-svc svc > surge-svc pricing-db ; surge-svc svc > geo-redis ~eta-svc ; user-svc svc > users-db users-redis
payment-svc svc > wallet-db braintree risk-svc ; risk-svc svc > risk-db ; gps-worker worker > gps-kafka tiles-db ; supply-worker worker > gps-kafka geo-redis
earnings-worker worker > trip-kafka wallet-db ; push-worker worker > trip-kafka fcm ; support-api svc > trips-db users-db ; = mq gps-kafka trip-kafka
= ext maps-provider braintree fcm ; = db trips-db tiles-db pricing-db users-db wallet-db risk-db ; = cache dispatch-redis geo-redis eta-redis users-redis""",
    ),
}

# ------------------------------------------------------------------ alert rules
# source, kinds, signal, threshold, for(s), scope, severity, name, summary, (value low, high), unit
RULES = [tuple(p.strip() for p in l.split("|")) for l in """
prom|svc worker edge|err|.25|60|svc|critical|HighErrorRate|{e}: 5xx ratio {v}{u} over the last 5m|2,80|%
prom|svc edge|err|.38|240|svc|critical|ErrorBudgetBurn|{e} is burning its availability error budget {v}{u} too fast|6,60|x
prom|svc worker edge cell|lat|.3|120|svc|warning|HighLatencyP99|{e} p99 latency is {v}{u}|0.8,12|s
prom|svc edge|lat|.55|60|svc|critical|LatencySLOBreach|{e} latency SLO is breached, p95 {v}{u}|1.5,15|s
prom|svc worker edge|sat|.35|120|pod|warning|WorkerPoolSaturated|{i}: {v}{u} of worker threads are busy|85,100|%
prom|svc worker edge|sat|.45|180|svc|warning|KubeHpaMaxedOut|HPA of {e} is running at max replicas|1,1|
prom|svc worker edge|mem|.4|120|pod|warning|ContainerMemoryNearLimit|Container in {i} uses {v}{u} of its memory limit|85,99|%
prom|svc worker edge|mem|.75|30|pod|critical|ContainerOOMKilled|Container in {i} was OOMKilled|1,6|
prom|svc worker edge|down|.3|60|pod|critical|KubePodCrashLooping|Pod {i} is restarting {v}{u} / 10 minutes|2,9|x
prom|svc worker edge|down|.35|90|pod|warning|KubePodNotReady|Pod {i} has been in a non-ready state|1,1|
prom|svc worker edge|down|.5|120|svc|warning|KubeDeploymentReplicasMismatch|Deployment {e} has not matched the expected number of replicas|1,5|
prom|svc worker edge|cpu|.4|120|pod|warning|CPUThrottlingHigh|{v}{u} throttling of CPU in pod {i}|26,90|%
prom|svc worker edge|dep|.3|60|dep|warning|CircuitBreakerOpen|{e}: circuit breaker to {d} is open|1,1|
prom|svc worker edge|dep|.45|90|dep|warning|UpstreamTimeouts|{e} sees {v}{u} timeouts calling {d}|5,70|%
prom|svc edge|traf|.35|180|svc|warning|RequestRateAnomaly|{e} request rate is {v}{u} below the weekly baseline|30,90|%
prom|db|sat|.35|60|svc|critical|DatabaseConnectionsNearLimit|{e} uses {v}{u} of max_connections|85,100|%
prom|db|lat|.35|120|svc|warning|DatabaseSlowQueries|{e} mean query time is {v}{u}|300,9000|ms
prom|db|down|.35|30|inst|critical|DatabaseInstanceDown|Database instance {i} is down|0,0|
prom|db|lag|.35|120|inst|warning|ReplicationLagHigh|Replica {i} is {v}{u} behind the primary|30,1200|s
prom|db|disk|.5|60|svc|critical|VolumeAlmostFull|Volume of {e} is {v}{u} full|88,100|%
prom|cache|mem|.35|60|inst|warning|RedisMemoryHigh|{i} uses {v}{u} of maxmemory|90,100|%
prom|cache|down|.35|30|inst|critical|RedisDown|Redis instance {i} is down|0,0|
prom|cache|err|.3|120|svc|warning|CacheHitRateLow|{e} hit rate dropped to {v}{u}|10,70|%
prom|mq|lag|.3|180|grp|warning|ConsumerGroupLag|Consumer group {g} on {e} is {v}{u} behind|5000,900000| messages
prom|mq|down|.3|60|inst|critical|BrokerDown|Broker {i} is unreachable|0,0|
prom|mq|down|.3|90|svc|warning|UnderReplicatedPartitions|{e} has {v}{u} under-replicated partitions|3,120|
prom|ext|err|.35|120|svc|warning|ThirdPartyErrorRate|Calls to {e} fail at {v}{u}|5,95|%
prom|ext|lat|.4|120|svc|warning|ThirdPartySlow|Calls to {e} take {v}{u} at p95|2,20|s
prom|host|down|.4|60|svc|critical|KubeNodeNotReady|Node {e} has been unready|1,1|
prom|host|down|.4|30|svc|warning|TargetDown|node-exporter on {e} is down|0,0|
prom|host|net|.35|60|svc|warning|NodeNetworkErrors|{e} interface eth0 reports {v}{u} errors/s|15,900|
prom|host|cpu|.45|180|svc|warning|NodeCPUHigh|{e} CPU is at {v}{u}|90,100|%
datadog|svc worker edge|err|.28|120|svc|P1|[{env}] Error rate high on {e}|Error rate of {e} is {v}{u} (threshold 5%)|5,80|%
datadog|svc worker edge|lat|.35|180|svc|P2|[{env}] p95 latency anomaly on {e}|Anomalous p95 trace.http.request.duration on {e}: {v}{u}|0.7,14|s
datadog|svc worker edge|cpu|.45|120|pod|P3|[{env}] CPU high on {e} containers|container.cpu.usage of {i} at {v}{u}|85,100|%
datadog|svc worker edge|down|.4|60|pod|P2|[{env}] Container restarts on {e}|kubernetes.containers.restarts of {i}: {v}{u}|3,12|
datadog|db|lat|.4|120|svc|P2|[{env}] DBM query duration on {e}|postgresql.queries.duration on {e} is {v}{u}|200,9000|ms
datadog|cache|sat mem|.4|120|svc|P3|[{env}] Redis evictions on {e}|redis.keys.evicted on {e}: {v}{u}/s|50,4000|
datadog|svc worker edge|traf|.4|240|svc|P3|[{env}] Throughput drop on {e}|trace.http.request.hits of {e} {v}{u} under forecast|30,90|%
datadog|host|down net|.4|120|svc|P2|[{env}] Host not reporting|{e} stopped reporting for 2 minutes|0,0|
cloudwatch|db|cpu|.4|120|svc|ALARM|RDS CPUUtilization|Threshold Crossed: CPUUtilization {v}{u} > 85|86,100|%
cloudwatch|db|sat|.4|60|svc|ALARM|RDS DatabaseConnections|Threshold Crossed: DatabaseConnections {v}{u} > 800|800,2000|
cloudwatch|db|lat|.45|120|svc|ALARM|RDS ReadLatency|Threshold Crossed: ReadLatency {v}{u} > 0.05|0.06,2.5|s
cloudwatch|db|disk|.4|60|svc|ALARM|RDS FreeStorageSpace|Threshold Crossed: FreeStorageSpace {v}{u} < 10|0,9|GB
cloudwatch|cache|cpu sat|.4|120|inst|ALARM|ElastiCache EngineCPUUtilization|Threshold Crossed: EngineCPUUtilization {v}{u} > 90|90,100|%
cloudwatch|cache|mem|.4|60|inst|ALARM|ElastiCache Evictions|Threshold Crossed: Evictions {v}{u} > 1000|1000,60000|
cloudwatch|mq|lag|.3|300|svc|ALARM|SQS ApproximateAgeOfOldestMessage|Threshold Crossed: ApproximateAgeOfOldestMessage {v}{u} > 300|300,4000|s
cloudwatch|edge|err|.3|60|svc|ALARM|ApplicationELB HTTPCode_Target_5XX_Count|Threshold Crossed: HTTPCode_Target_5XX_Count {v}{u} > 100|100,9000|
cloudwatch|edge|lat|.4|120|svc|ALARM|ApplicationELB TargetResponseTime|Threshold Crossed: TargetResponseTime {v}{u} > 2|2,25|s
cloudwatch|svc edge|down|.4|60|svc|ALARM|ApplicationELB UnHealthyHostCount|Threshold Crossed: UnHealthyHostCount {v}{u} >= 1|1,6|
zabbix|db|lat cpu|.4|120|inst|Average|High CPU / load on database server|Load average on {i} is {v}{u}|12,90|
zabbix|db|disk|.4|60|inst|High|Free disk space is less than 5%|/var/lib/data on {i}: {v}{u} free|0,5|%
zabbix|db|down|.3|30|inst|Disaster|Database service is not running|{i}: process count is 0|0,0|
zabbix|host|down|.4|120|svc|High|Zabbix agent is unreachable|Zabbix agent on {e} is unreachable for 3 minutes|0,0|
zabbix|host|net|.35|60|svc|Average|High ICMP ping loss|{e}: packet loss {v}{u}|20,100|%
zabbix|net|err net|.35|60|svc|High|Interface error rate too high|{e}: input errors {v}{u}/s|20,900|
zabbix|svc edge|err|.45|60|svc|High|Web scenario failed|Healthcheck of {e} returned HTTP 50x|1,1|
zabbix|svc worker|sat|.45|120|pod|Average|JVM thread pool usage is high|{i}: {v}{u} of executor threads in use|90,100|%
snmp|net|down|.3|0|svc|critical|deviceUnreachable|{e} does not answer SNMP polls|0,0|
snmp|net cell|err net|.3|0|port|major|linkDown|{e} {p} operational state down|0,0|
snmp|net|err net lat|.35|30|peer|major|bgpBackwardTransition|{e}: BGP peer {d} left Established|0,0|
snmp|cell|err down|.35|30|svc|critical|cellOutOfService|{e}: cell out of service, heartbeat lost|0,0|
snmp|cell|lat err|.3|60|svc|minor|backhaulDegraded|{e}: backhaul jitter {v}{u}|30,400|ms
snmp|cell svc|err|.35|60|dep|major|n2AssociationLost|{e}: association with {d} lost|0,0|
synth|edge|err|.4|60|probe|DOWN|{e} user journey|{e} from {p}: HTTP 503 after {v}{u}|1,30|s
synth|edge|lat|.5|120|probe|SLOW|{e} user journey slow|{e} from {p}: response {v}{u}|5,30|s
synth|ext|err|.5|120|svc|DOWN|{e} endpoint|{e} endpoint check fails|0,0|
log|svc worker edge|dep|.3|0|dep|error|ConnectionError|{err}: {e} could not reach {d}|5,3000|
log|svc worker edge|err|.5|0|svc|error|UnhandledException|New spike of {v}{u} errors in {e}: {err}|40,9000|
prom|svc worker edge|info|1|0|svc|info|CertificateExpiringSoon|Certificate of {e} expires in {v}{u}|5,21| days
prom|svc worker edge|info|1|0|svc|warning|KubeJobFailed|Cron job of {e} failed to complete|1,1|
prom|db|info|1|0|svc|warning|BackupTooOld|Last backup of {e} is {v}{u} old|26,60|h
prom|host|info|1|0|svc|warning|NodeFilesystemFillsUpSoon|Filesystem on {e} will fill up within {v}{u}|4,24|h
prom|host|info|1|0|svc|info|NodeClockSkew|Clock on {e} is off by {v}{u}|0.05,0.9|s
datadog|svc worker edge|info|1|0|svc|P4|[{env}] Version drift on {e}|Version drift between replicas of {e}|1,3|
cloudwatch|db|info|1|0|svc|ALARM|RDS BurstBalance|Threshold Crossed: BurstBalance {v}{u} < 30|5,30|%
zabbix|host|info|1|0|svc|Warning|Software update pending|{e}: number of installed packages has been changed|1,9|
snmp|net cell|info|1|0|svc|warning|opticalPowerLow|{e}: rx power {v}{u}|-27,-19|dBm""".strip().splitlines()]
ERRS = [
    "java.net.SocketTimeoutException",
    "ECONNREFUSED",
    "context deadline exceeded",
    "UpstreamUnavailable",
    "PoolTimeout: no free connection",
]
STEP = 30


def expand(s):
    m = re.search(r"\{([^}]*)\}", s)
    return [s] if not m else [s[: m.start()] + v + s[m.end() :] for v in m.group(1).split(",")]


def hx(rng, n, alpha="bcdfghjklmnpqrstvwxz2456789"):
    return "".join(rng.choice(alpha) for _ in range(n))


class Estate:
    def __init__(self, rng, size, name):
        self.rng, self.name = rng, name
        c = self.cfg = ESTATES[self.name]
        self.kind, self.out, self.inn, self.edge = {}, {}, {}, {}
        raw = []
        for line in c["spec"].strip().replace("\n", ";").split(";"):
            left, _, right = line.partition(">")
            if left.split()[0] == "=":  # leaves: "= kind a b c"
                _, kind, *leaves = left.split()
                self.kind.update({n: kind for l in leaves for n in expand(l)})
                continue
            pat, kind = left.split()
            for n in expand(pat):
                self.kind[n] = kind
                var = n[len(pat.split("{")[0]) :] if "{" in pat else ""
                for callee in right.split():
                    opts = expand(callee.replace("@", var))
                    if kind == "cell":
                        opts = [rng.choice(opts)]
                    raw += [(n, o.lstrip("~"), o[0] == "~") for o in opts]
        core, edges = ([n for n, k in self.kind.items() if k == x] for x in ("svc", "edge"))
        for w in rng.sample(c["extra"].split(), rng.randint(3, len(c["extra"].split()))):  # long tail of small services
            n = w if w.endswith("svc") else w + rng.choice(["-svc", "-api", "-svc"])
            self.kind[n] = "svc"
            for callee in rng.sample(core, rng.choice([1, 1, 2])):
                raw.append((n, callee, rng.random() < 0.4))
            stores = [x for x, k in self.kind.items() if k in ("db", "cache")]
            if rng.random() < 0.5:
                raw.append((n, rng.choice(stores), False))
            else:
                self.kind[w + "-db"] = "db"
                raw.append((n, w + "-db", False))
            raw.append((rng.choice(edges), n, rng.random() < 0.6))
        for n in self.kind:
            self.out[n], self.inn[n] = [], []
        for a, b, soft in raw:
            if a == b or (a, b) in self.edge:
                continue
            self.edge[a, b] = dict(
                crit=rng.uniform(0.15, 0.4) if soft else rng.uniform(0.55, 0.98),
                retry=rng.random() < 0.45,
                delay=rng.choice([15, 30, 45, 90, 150]),
                soft=soft,
            )
            self.out[a].append(b)
            self.inn[b].append(a)
        # placement
        self.region = rng.choice(["eu-west-1", "us-east-1", "eu-central-1", "ap-south-1"])
        self.env, self.cluster = (
            rng.choice(["prod", "production", "prd"]),
            f"{c['org']}-{rng.choice(['prod', 'live', 'k8s'])}-{rng.randint(1, 4)}",
        )
        self.zones = [self.region + z for z in "abc"]
        scale = (
            rng.choice([1, 1, 1.5]) if size < 500 else rng.choice([2, 3, 4]) if size < 1200 else rng.choice([4, 6, 8])
        )
        self.hosts = {}
        for i in range(int(5 + 3 * scale) + rng.randint(0, 4)):
            z = self.zones[i % 3]
            self.hosts[
                (
                    f"ip-10-{rng.randint(0, 40)}-{rng.randint(1, 254)}-{rng.randint(1, 254)}"
                    if "cloudwatch" in c["vendors"]
                    else f"{c['org'][:4]}-node{i + 1:02d}"
                )
            ] = z
        self.inst = {}
        teams = ["platform", "payments", "growth", "core", "data", "mobile", "infra", "identity"]
        self.team = {n: rng.choice(teams) for n in self.kind}
        self.nsof = {n: c["ns"] if rng.random() < 0.6 else f"{c['ns']}-{self.team[n]}" for n in self.kind}
        hl = list(self.hosts)
        for n, k in self.kind.items():
            if k in ("svc", "worker", "edge"):
                h = hx(rng, 9)
                r = max(2, int(rng.choice([2, 2, 3, 4, 6]) * scale * (0.7 if k == "worker" else 1)))
                self.inst[n] = [(f"{n}-{h}-{hx(rng, 5)}", rng.choice(hl)) for _ in range(min(r, 40))]
            else:
                r = {"db": 2, "cache": rng.choice([1, 2, 3]), "mq": 3}.get(k, 1)
                self.inst[n] = [(f"{n}-{i}", None) for i in range(r)]
        for h in self.hosts:
            self.kind[h], self.inst[h], self.out[h], self.inn[h] = "host", [(h, h)], [], []
            self.team[h], self.nsof[h] = "infra", "kube-system"
        # monitoring set-up: which source watches which entity, which rules exist
        self.vendors = ["prom"] + c["vendors"]
        self.skew = {v: rng.gauss(0, 2 if v == "prom" else 12) for v in self.vendors}
        self.repeat = {
            v: (
                rng.choice(
                    [0, 600, 900, 1800]
                    if size < 500
                    else [0, 300, 600, 900, 1800] if size < 1200 else [180, 300, 600, 900]
                )
                if v != "log"
                else 300
            )
            for v in self.vendors
        }
        self.resolves = {v: rng.random() < 0.85 and v != "log" for v in self.vendors}
        self.status = {v: rng.random() < 0.7 for v in self.vendors}
        self.hasval = {v: rng.random() < 0.6 for v in self.vendors}
        self.prefix = rng.random() < 0.25  # estate names alerts per service (CheckoutApiHighErrorRate)
        self.svckey = rng.choice(["service", "service", "service", "app"])
        self.k8s_service = rng.random() < 0.6  # do kube-state alerts carry a service label?
        self.owner = {}
        vend2 = [v for v in c["vendors"] if v in ("datadog", "zabbix")]
        for n in self.kind:
            o = {"prom"} if rng.random() < 0.8 else set()
            for v in c["vendors"]:
                p = {"datadog": 0.4, "cloudwatch": 0.75, "zabbix": 0.5, "snmp": 0.95, "synth": 0.7, "log": 0.35}[v]
                if rng.random() < p:
                    o.add(v)
            if not o:
                o.add(rng.choice(["prom"] + vend2))
            if rng.random() < 0.05:
                o = set()  # blind spot: nobody monitors it
            self.owner[n] = o
        self.rules = {
            n: [r for r in RULES if r[0] in self.owner[n] and k in r[1].split() and rng.random() < 0.82]
            for n, k in self.kind.items()
        }

    def topology(self):
        """The catalogue as exported: a few edges unknown, a few stale."""
        r = self.rng
        keep = [e for e in self.edge if r.random() > 0.05]
        nodes = sorted(n for n, k in self.kind.items() if k != "host")
        svcs = [n for n in nodes if self.kind[n] == "svc"]
        for _ in range(r.randint(0, 3)):
            e = (r.choice(svcs), r.choice(svcs))
            if e[0] != e[1] and e not in self.edge:
                keep.append(e)
        return dict(nodes=nodes, edges=[{"from": a, "to": b} for a, b in sorted(set(keep))])

    def scopes(self, rule, n):
        """All (instance key, host, detail) a rule can fire on."""
        sc = rule[5]
        if sc in ("pod", "inst"):
            return [(i, h, None) for i, h in self.inst[n]]
        if sc == "probe":
            return [(None, None, p) for p in ("frankfurt", "london", "virginia", "singapore")]
        if sc == "port":
            return [(None, None, p) for p in ("xe-0/0/1", "xe-0/1/3")]
        if sc in ("dep", "peer"):
            return [(None, None, d) for d in (self.out[n] or self.inn[n])]
        if sc == "grp":
            return [(None, None, w) for w in self.inn[n] if self.kind[w] == "worker"]
        return [(None, None, None)]

    def render(self, rule, n, scope, lvl, rng):
        src, _, sig, _, _, sc, sev, name, text, vr, unit = rule
        inst, host, det = scope
        lo, hi = map(float, vr.split(","))
        v = lo + (hi - lo) * min(1, max(0, lvl + rng.uniform(-0.12, 0.12)))
        v = round(v, 2) if "." in vr or unit in ("s", "h") and hi < 30 else int(v)
        fm = dict(e=n, i=inst, d=det, p=det, g=f"{det}-cg", v=v, u=unit, env=self.env, err=rng.choice(ERRS))
        txt, camel = text.format(**fm), "".join(w.capitalize() for w in n.split("-"))
        k = self.kind[n]
        an = {}
        if src == "prom":
            L = {
                "alertname": camel + name if self.prefix and sc == "svc" and k != "host" else name,
                "severity": sev,
                "cluster": self.cluster,
            }
            if k == "host":
                L.update(node=n, instance=n + ":9100", job="node-exporter")
            else:
                L["namespace"] = self.nsof[n]
                kube = name.startswith(("Kube", "Container", "CPUThr"))
                if not kube or self.k8s_service:
                    L[self.svckey] = n
                if kube and sc == "svc":
                    L["deployment"] = n
                if sc == "pod":
                    L.update(pod=inst, container=n)
                    (L.update(node=host) if kube else None)
                if sc == "inst":
                    L["instance"] = f"{inst}.{self.nsof[n]}.svc:{ {'db': 9187, 'cache': 9121}.get(k, 9308) }"
                if sc == "dep":
                    L["upstream"] = det
                if sc == "grp":
                    L.update(topic=n, consumergroup=f"{det}-cg")
                if sc == "svc":
                    L["team"] = self.team[n]
            an = {"summary": txt, "runbook_url": f"https://runbooks.{self.cfg['org']}.io/{name.lower()}"}
        elif src == "datadog":
            L = {
                "source": "datadog",
                "alertname": name.format(**fm),
                "monitor_id": str(int(hashlib.md5((name + n).encode()).hexdigest()[:7], 16)),
                "env": self.env,
                "priority": sev,
                "team": self.team[n],
            }
            L.update({"host": n} if k == "host" else {"service": n})
            if sc == "pod":
                L.update(pod_name=inst, host=host)
            an = {"title": f"[Triggered] {L['alertname']}", "message": txt}
        elif src == "cloudwatch":
            ns, metric = name.split()
            L = {
                "source": "aws.cloudwatch",
                "alertname": f"{self.env}-{inst or n}-{metric}",
                "Namespace": "AWS/" + ns,
                "MetricName": metric,
                "region": self.region,
            }
            L[
                {"RDS": "DBInstanceIdentifier", "ElastiCache": "CacheClusterId", "SQS": "QueueName"}.get(
                    ns, "TargetGroup"
                )
            ] = (
                f"{self.env}-{inst or n}"
                if ns != "ApplicationELB"
                else f"targetgroup/{n}/{hashlib.md5(n.encode()).hexdigest()[:10]}"
            )
            an = {"description": txt}
        elif src == "zabbix":
            hostn = n if k in ("host", "net") else (inst or n) + f".{self.cfg['org']}.local"
            L = {
                "source": "zabbix",
                "alertname": name,
                "host": hostn,
                "severity": sev,
                "hostgroup": {"db": "Databases", "net": "Network", "host": "Linux servers"}.get(k, "Applications"),
            }
            an = {"opdata": txt}
        elif src == "snmp":
            L = {"source": "snmptrapd", "alertname": name, "device": n, "severity": sev}
            if sc == "port":
                L["ifName"] = det
            if sc in ("peer", "dep"):
                L["peer"] = det
            an = {"message": txt}
        elif src == "synth":
            L = {"source": "pingdom", "alertname": name.format(**fm), "check": n, "state": sev}
            if sc == "probe":
                L["probe_region"] = det
            an = {"message": txt}
        else:
            L = {"source": "sentry", "alertname": name, "project": n, "level": sev, "environment": self.env}
            if det:
                L["culprit"] = f"{n}.clients.{det.replace('-', '_')}"
            an = {"message": txt}
        return L, an, v


# ------------------------------------------------------------------ faults and propagation
class Fault:
    def __init__(self, est, rng, idx, t0, dur, used):
        self.id, self.t0, self.dur, self.est, self.rng = f"INC-{idx}", t0, dur, est, rng
        self.reach = rng.choice([0.45, 0.6, 0.75, 0.9, 1.0])
        self.period = rng.choice([240, 360, 600]) if rng.random() < 0.22 else 0  # intermittent fault
        self.duty = rng.uniform(0.4, 0.7)
        kinds = {
            "svc": 5,
            "edge": 1,
            "worker": 1.2,
            "db": 4,
            "cache": 1.6,
            "mq": 1.4,
            "ext": 1.6,
            "net": 3,
            "cell": 0.5,
            "host": 0.9,
            "zone": 0.3,
        }
        pool = {}
        for n, k in est.kind.items():
            if n not in used:
                pool.setdefault(k, []).append(n)
        pool["zone"] = [z for z in est.zones if z not in used]
        ks = [k for k in sorted(kinds) if pool.get(k)]
        k = rng.choices(ks, [kinds[x] for x in ks])[0]
        self.root = rng.choice(pool[k])
        self.kind = k
        self.impacts, self.shape = [], rng.choice(["step", "step", "ramp"])
        self.run(k)

    def seeds(self, k):
        r, n, u = self.rng, self.root, self.rng.uniform
        if k in ("svc", "edge", "worker"):
            self.cause = c = r.choice(
                ["bad_deploy", "mem_leak", "cpu_hot", "deadlock", "crash_config", "expired_cert", "traffic_surge"]
            )
            if c == "mem_leak":
                self.shape = "ramp"
            return {
                "bad_deploy": [("err", u(0.5, 0.9), 0), ("cpu", u(0.2, 0.6), 60)],
                "mem_leak": [
                    ("mem", u(0.8, 1), 0),
                    ("down", u(0.4, 0.8), self.dur * 0.4),
                    ("err", u(0.3, 0.7), self.dur * 0.4),
                ],
                "cpu_hot": [("cpu", u(0.6, 0.95), 0), ("lat", u(0.5, 0.9), 60)],
                "deadlock": [("sat", u(0.6, 1), 0), ("lat", u(0.5, 0.9), 45)],
                "crash_config": [("down", u(0.7, 1), 0), ("err", u(0.6, 1), 30)],
                "expired_cert": [("err", u(0.8, 1), 0)],
                "traffic_surge": [("cpu", u(0.5, 0.8), 0), ("sat", u(0.5, 0.9), 60), ("lat", u(0.4, 0.7), 90)],
            }[c]
        table = {
            "db": {
                "conn_exhaustion": [("sat", u(0.7, 1), 0), ("err", u(0.4, 0.8), 60)],
                "slow_query": [("cpu", u(0.6, 0.95), 0), ("lat", u(0.6, 0.95), 60)],
                "disk_full": [("disk", u(0.7, 1), 0), ("err", u(0.6, 0.95), self.dur * 0.3)],
                "failover": [("down", u(0.7, 1), 0), ("lat", u(0.4, 0.7), 180), ("lag", 0.7, 200)],
                "lock_wait": [("lat", u(0.5, 0.9), 0), ("sat", u(0.5, 0.8), 120)],
            },
            "cache": {
                "evictions": [("mem", u(0.6, 1), 0), ("err", u(0.4, 0.7), 60)],
                "down": [("down", u(0.7, 1), 0), ("err", u(0.6, 0.9), 15)],
                "hot_key": [("sat", u(0.6, 0.9), 0), ("cpu", 0.8, 0)],
            },
            "mq": {
                "broker_loss": [("down", u(0.6, 1), 0), ("lag", u(0.5, 0.9), 150)],
                "poison_msg": [("lag", u(0.5, 0.95), 0)],
            },
            "ext": {"outage": [("err", u(0.7, 1), 0)], "slow": [("lat", u(0.6, 0.95), 0)]},
            "net": {
                "link_flap": [("err", u(0.5, 0.9), 0), ("net", u(0.5, 0.9), 0)],
                "device_down": [("down", 1, 0), ("err", u(0.8, 1), 5)],
                "congestion": [("lat", u(0.5, 0.9), 0), ("net", u(0.3, 0.6), 0)],
            },
            "cell": {"power": [("down", 1, 0), ("err", 0.9, 10)], "backhaul": [("lat", 0.7, 0), ("err", 0.5, 60)]},
        }[k]
        self.cause = r.choice(sorted(table))
        if self.cause == "link_flap":
            self.period = r.choice([180, 300, 420])
        if self.cause == "disk_full":
            self.shape = "ramp"
        return table[self.cause]

    def run(self, k):
        r, est, heap, best, seq = self.rng, self.est, [], {}, [0]
        end = self.t0 + self.dur

        def push(t, t1, ent, sig, lvl, hop, pods=None):
            if lvl < 0.16 or hop > 6 or t1 - t < 60:
                return
            seq[0] += 1
            heapq.heappush(heap, (t, seq[0], t1, ent, sig, lvl, hop, pods))

        if k in ("host", "zone"):
            hosts = {self.root} if k == "host" else {h for h, z in est.hosts.items() if z == self.root}
            self.cause = k + ("_down" if k == "host" else "_partition")
            for h in sorted(hosts):
                push(self.t0 + r.expovariate(1 / 20), end, h, "down" if k == "host" else "net", r.uniform(0.6, 1), 0)
            for n in est.inst:
                lost = {i for i, h in est.inst[n] if h in hosts}
                if not lost or est.kind[n] == "host":
                    continue
                share = len(lost) / len(est.inst[n])
                healed = min(end, self.t0 + r.uniform(240, 900))
                push(self.t0 + r.uniform(20, 90), healed, n, "down", r.uniform(0.6, 1), 1, frozenset(lost))
                if r.random() < 0.7:
                    push(self.t0 + r.uniform(20, 120), healed + 60, n, "err", min(0.9, share * r.uniform(0.7, 1.3)), 1)
                if r.random() < 0.5:
                    push(self.t0 + r.uniform(60, 240), healed + 120, n, "sat", min(0.9, share * 1.2), 1)
        else:
            for sig, lvl, d in self.seeds(k):
                push(self.t0 + d, end, self.root, sig, lvl, 0)
        while heap:
            t, _, t1, x, sig, L, hop, pods = heapq.heappop(heap)
            key = (x, sig, pods)
            if best.get(key, 0) >= L * 0.9:
                continue
            best[key] = max(best.get(key, 0), L)
            self.impacts.append((x, sig, t, t1, L, pods, hop))
            if pods:
                continue
            go = lambda p: r.random() < p * (self.reach if hop else 1)
            kx, late = est.kind[x], lambda m: r.expovariate(1 / m) + 5
            # inside the entity
            if sig == "sat" and go(0.85):
                push(t + late(40), t1, x, "lat", L * 0.85, hop)
            if sig == "cpu" and kx != "host" and go(0.6):
                push(t + late(40), t1, x, "lat", L * 0.7, hop)
            if sig == "lat" and L > 0.6 and kx in ("svc", "edge") and go(0.5):
                push(t + late(90), t1, x, "err", L * 0.6, hop)  # timeouts
            if sig == "sat" and L > 0.75 and kx == "svc" and go(0.25):
                push(t + late(150), t1, x, "down", L * 0.6, hop)  # failed liveness probes
            if kx == "worker" and sig in ("err", "down", "lat", "sat") and go(0.75):
                for q in est.out[x]:
                    if est.kind[q] == "mq":
                        push(t + late(120), t1 + late(300), q, "lag:" + x, min(1, L * 1.1), hop + 1)
            if kx == "mq" and sig == "lag":
                for w in est.inn[x]:
                    if est.kind[w] == "worker":
                        push(t, t1 + late(200), x, "lag:" + w, L * r.uniform(0.6, 1), hop)
            if kx == "edge" and sig == "err" and L > 0.45:
                for c in est.out[x]:
                    if go(0.3):
                        push(t + late(90), t1, c, "traf", L * r.uniform(0.5, 0.9), hop + 2)
            if kx == "cache" and sig in ("err", "down"):  # stampede onto the databases behind
                for c in est.inn[x]:
                    for d in est.out[c]:
                        if est.kind[d] == "db" and go(0.45):
                            push(t + late(60), t1 + late(60), d, "sat", L * 0.7, hop + 1)
            # towards the callers
            if sig not in ("err", "lat", "down"):
                continue
            for c in est.inn[x]:
                e = est.edge[c, x]
                if not go(min(1, e["crit"] * (0.55 + L))):
                    continue
                d, rec = late(e["delay"]), t1 + late(40)
                if go(0.9):
                    push(t + d * 0.7, rec, c, "dep:" + x, min(1, L * (0.5 + e["crit"] * 0.5)), hop + 1)
                a = e["crit"] * r.uniform(0.75, 1.05)
                if sig == "lat":
                    push(t + d, rec, c, "lat", L * a, hop + 1)
                    if L > 0.55 and not e["soft"] and go(0.5):
                        push(t + d + late(60), rec, c, "sat", L * a * 0.9, hop + 1)  # threads pile up
                else:
                    push(t + d, rec, c, "err", L * a, hop + 1)
                    if e["retry"]:
                        if go(0.5):
                            push(t + d, rec, c, "lat", L * a * 0.7, hop + 1)
                        if kx in ("svc", "db") and go(0.4):
                            push(t + d + late(60), rec, x, "sat", L * 0.75, hop + 1)  # retry storm

    def level(self, imp, t):
        x, sig, a, b, L, pods, hop = imp
        if not a <= t < b:
            return 0.0
        f = 1.0
        if self.shape == "ramp":
            f = min(1, 0.25 + 0.75 * (t - a) / max(60, 0.35 * (b - a))) if hop == 0 else min(1, 0.5 + (t - a) / 600)
        if (
            self.period
            and sig not in ("lag", "mem", "disk")
            and ((t - self.t0) % self.period) / self.period > self.duty
        ):
            f *= 0.35
        return L * f


# ------------------------------------------------------------------ alert evaluation
def evaluate(est, faults, T, rng):
    """Evaluate every rule on the sum of all faults' effects; an episode belongs to the fault that contributes most when it fires."""
    by = {}
    for f in faults:
        for imp in f.impacts:
            by.setdefault(imp[0], []).append((f, imp))
    eps = []
    for n in sorted(by):
        for rule in est.rules[n]:
            sigs, thr, hold = rule[2].split(), float(rule[3]), int(rule[4])
            for sc in est.scopes(rule, n):
                inst, host, det = sc

                def match(sig, pods):
                    base, _, arg = sig.partition(":")
                    if base not in sigs or (pods and (rule[5] not in ("pod", "inst") or inst not in pods)):
                        return False
                    return not arg or arg == det or (base == "lag" and rule[5] == "svc")

                imps = [(f, i) for f, i in by[n] if match(i[1], i[5])]
                if "lag" in sigs and rule[5] == "grp":
                    imps = [x for x in imps if ":" in x[1][1]]
                if rule[5] in ("probe", "port", "peer"):
                    affin = rng.choice([0.55, 0.9, 1.1])  # only some vantage points see it
                elif rule[5] in ("pod", "inst"):
                    affin = rng.choice([0.6, 0.85, 1, 1.1])  # partial: not every replica suffers
                else:
                    affin = 1
                if not imps:
                    continue
                a, b = min(i[2] for _, i in imps), min(T, max(i[3] for _, i in imps)) + 120
                t, ar, since, on, off = a - a % STEP + STEP, 0.0, None, None, 0
                keep = rng.choice([0, 1, 2, 4])
                while t <= b:
                    ar = 0.6 * ar + rng.gauss(0, 0.09)
                    con, q = {}, 1.0
                    for f, i in imps:
                        l = f.level(i, t)
                        if l:
                            con[f.id] = max(con.get(f.id, 0), l)
                    for l in con.values():
                        q *= 1 - l
                    lvl = (1 - q) * affin * (1 + ar)
                    if lvl >= thr and con:
                        since = t if since is None else since
                        off = 0
                        if on is None and t - since >= hold:
                            on = (t, lvl, max(sorted(con), key=con.get))
                    else:
                        since = None
                        if on:
                            off += 1
                            if off > keep:
                                eps.append((n, rule, sc, on[0], t, on[1], on[2]))
                                on, off = None, 0
                    t += STEP
                if on:
                    eps.append((n, rule, sc, on[0], None, on[1], on[2]))
    return eps


def stamp(src, t, base):
    d = base + dt.timedelta(seconds=t)
    if src == "prom":
        return d.isoformat(timespec="milliseconds") + "Z"
    d = d.replace(microsecond=0)
    if src == "zabbix":
        return (d + dt.timedelta(hours=2)).isoformat() + "+02:00"
    return d.isoformat() + ("+00:00" if src == "cloudwatch" else "Z")


def emit(est, ep, base, T, rng, out, loss=0.03):
    n, rule, sc, a, b, lvl, truth = ep
    src = rule[0]
    jit = lambda: est.skew[src] + rng.uniform(0, STEP) + (rng.expovariate(1 / 40) if rng.random() < 0.08 else 0)

    def line(t, resolved=False, start=None, again=False):
        L, an, v = est.render(rule, n, sc, lvl, rng)
        if src == "datadog" and (again or resolved):
            an["title"] = an["title"].replace("[Triggered]", "[Recovered]" if resolved else "[Re-Triggered]")
        ev = {"labels": L, "annotations": an, "startsAt": stamp(src, start if resolved else t, base)}
        if resolved:
            ev["endsAt"] = stamp(src, t, base)
            ev["status"] = "resolved"
        elif est.status[src]:
            ev["status"] = "firing"
        if est.hasval[src] and not resolved and rule[9] not in ("0,0", "1,1"):
            ev["value"] = v
        ev["truth"] = truth
        if rng.random() > loss:
            out.append((t, len(out), ev))

    t0 = a + jit()
    line(t0)
    stop, rep = b if b else T, est.repeat[src]
    if rep:
        t = t0 + rep
        while t < stop:
            line(t + rng.uniform(0, 3), again=True)
            t += rep
    if b and est.resolves[src]:
        line(max(t0 + 1, b + jit()), True, t0)


def noise(est, want, incident_eps, base, T, rng):
    """Background with no incident: chronic flappers, lone transients, housekeeping, small rollout bursts."""
    busy = {}
    for n, rule, sc, a, b, *_ in incident_eps:
        busy.setdefault((n, rule[0], rule[7], sc), []).append((a - 60, (b or T) + 120))
    ents = [n for n in sorted(est.kind) if est.rules[n]]
    real = {n: [r for r in est.rules[n] if r[2] != "info"] for n in ents}
    info = [(n, r) for n in ents for r in est.rules[n] if r[2] == "info"]
    real = {n: [r for r in rs if est.scopes(r, n)] for n, rs in real.items()}
    ents = [n for n in ents if real[n]]
    pick = lambda n, r: (n, r, rng.choice(est.scopes(r, n)))
    flappers = []
    for _ in range(rng.randint(3, 8 + want // 60)):
        n = rng.choice(ents)
        flappers.append((pick(n, rng.choice(real[n])), rng.uniform(1, 4)))
    out, guard = [], 0

    def one(key, t, dur):
        n, r, sc = key
        k = (n, r[0], r[7], sc)
        if any(a < t + dur and t < b for a, b in busy.get(k, [])):
            return  # already firing because of an incident (or noise)
        busy.setdefault(k, []).append((t, t + dur))
        b = t + dur
        emit(est, (n, r, sc, t, b if b < T else None, rng.uniform(0.2, 0.7), None), base, T, rng, out)

    while len(out) < want and guard < want * 20:
        guard += 1
        t, u = rng.uniform(0, T), rng.random()
        if u < 0.4:
            one(rng.choices([f for f, _ in flappers], [w for _, w in flappers])[0], t, rng.uniform(60, 300))
        elif u < 0.75:
            n = rng.choice(ents)
            one(pick(n, rng.choice(real[n])), t, rng.lognormvariate(5.3, 0.7))
        elif u < 0.93 and info:
            n, r = rng.choice(info)
            one(pick(n, r), t, rng.uniform(900, 5400))
        else:  # rollout or drain: a few pods of one service
            n = rng.choice(ents)
            rs = [r for r in real[n] if r[5] in ("pod", "inst")]
            if rs:
                r = rng.choice(rs)
                for sc in rng.sample(est.scopes(r, n), min(len(est.inst[n]), rng.randint(2, 4))):
                    one((n, r, sc), t + rng.uniform(0, 120), rng.uniform(60, 200))
    return out[:want]


def build(seed, attempt):
    rng = random.Random(f"storm-b:{seed}:{attempt}")
    size = math.exp(
        random.Random(f"size-b:{seed}").uniform(math.log(200), math.log(2200))
    )  # wanted minimum of lines, fixed by seed
    est = Estate(rng, size, sorted(ESTATES)[int(seed) % len(ESTATES)])  # estates rotate with the seed
    base = dt.datetime(2025, 1, 6) + dt.timedelta(seconds=rng.randint(0, 86400 * 300))
    T = rng.choice([3600, 5400, 7200, 10800, 14400])
    k = min(8, 2 + int(7 * rng.random() ** (1.4 if size < 700 else 0.9)))
    faults, used, spans = [], set(), []
    for i in range(k):
        dur = min(max(rng.lognormvariate(7.4, 0.55), 480), T * 0.6)
        if not spans:
            t0 = rng.uniform(0.08, 0.3) * T
        else:  # starts while another incident is still open
            a, b = rng.choice(spans)
            t0 = rng.uniform(a, min(a + 0.85 * (b - a), T - 900))
        spans.append((t0, t0 + dur))
        f = Fault(est, rng, i + 1, t0, dur, used)
        used.add(f.root)
        faults.append(f)
    eps = evaluate(est, faults, T, rng)
    out = []
    for ep in eps:
        emit(est, ep, base, T, rng, out)
    count, keys = {}, {}
    for _, _, ev in out:
        count[ev["truth"]] = count.get(ev["truth"], 0) + 1
        keys.setdefault(ev["truth"], set()).add(json.dumps(ev["labels"], sort_keys=True))
    # an incident nobody could have seen is not a fair target: every incident needs >= 3 distinct alerts and >= 5 lines
    if any(count.get(f.id, 0) < 5 or len(keys[f.id]) < 3 for f in faults):
        return None
    frac = rng.uniform(0.1, 0.5)
    nz = noise(est, int(len(out) * frac / (1 - frac)), eps, base, T, rng)
    out += [(t, 10**6 + i, ev) for t, i, ev in nz]
    if not size <= len(out) <= min(5000, size * 3) or not 0.1 <= len(nz) / len(out) <= 0.5:
        return None
    evs = [e for _, _, e in out]
    when = lambda e: dt.datetime.fromisoformat((e.get("endsAt") or e["startsAt"]).replace("Z", "+00:00"))
    rng.shuffle(evs)
    evs.sort(key=when)
    ids = [f.id for f in faults]
    rng.shuffle(ids)  # ids say nothing about order
    new = {o: f"INC-{i + 1:02d}" for i, o in enumerate(ids)}
    for e in evs:
        e["truth"] = new.get(e["truth"])
    return est, faults, evs


def main():
    seed, outdir = sys.argv[1], sys.argv[2]
    est, faults, evs, attempt = next(r + (a,) for a in range(1000) for r in [build(seed, a)] if r)
    os.makedirs(outdir, exist_ok=True)
    with open(os.path.join(outdir, "alerts.jsonl"), "w") as fh:
        for e in evs:
            fh.write(json.dumps(e) + "\n")
    with open(os.path.join(outdir, "topology.json"), "w") as fh:
        json.dump(est.topology(), fh, indent=1)
    nn = sum(e["truth"] is None for e in evs)
    print(
        f"seed={seed} attempt={attempt} estate={est.name} incidents={len(faults)} lines={len(evs)} noise={nn / len(evs):.2f} "
        f"causes={','.join(f.cause + '@' + f.root for f in faults)}"
    )


if __name__ == "__main__":
    main()
