#!/usr/bin/env python3
"""Labelled alert storms of large estates in several regions.
usage: regions.py SEED OUTDIR [--resends restamp|original]   (stdlib only, deterministic by seed).

Written without sight of the correlator it measures. Services, topics and vendors are one node each for all
regions; databases and hosts are of one region. Severity by the share of users whose journeys fail: SEV1 from a
fifth of a critical journey or 15 % of all traffic for ten minutes, SEV2 from 7 % or 4 %, SEV3 from 0.4 %, else SEV4.
"""
import sys, os, json, random, heapq, math, datetime
from collections import defaultdict

# ------------------------------------------------------------------ vocabulary
COMMON = {
 "identity": ["login", "session", "token", "mfa", "user-profile", "consent"],
 "notifications": ["email", "sms", "push", "template", "notification-preferences", "digest"],
 "support": ["ticket", "chat", "callback", "agent-routing", "knowledge-base", "complaint"],
 "analytics": ["clickstream", "event-collector", "attribution", "funnel", "experiment", "metrics-rollup"],
 "fraud": ["fraud-scoring", "device-fingerprint", "velocity", "chargeback", "risk-rules", "sanctions"],
 "billing": ["invoice", "tax", "dunning", "credit-note", "statement", "reconciliation"],
 "media": ["image-resize", "asset", "video-transcode", "upload", "cdn-purge", "watermark"],
 "crm": ["segment", "campaign", "customer-360", "referral", "survey", "lead"],
 "backoffice": ["case-review", "audit-trail", "approval", "report-export", "data-correction", "staff-directory"],
 "partner": ["partner-onboarding", "partner-feed", "webhook", "api-key", "settlement-report", "commission"],
}
ARCH = {
 "retail": {
  "checkout": ["cart", "basket-validation", "order-intake", "promo-apply", "gift-card", "delivery-slot"],
  "payments": ["payment-auth", "capture", "refund", "wallet", "payment-method", "psp-router"],
  "catalog": ["product", "category", "attribute", "variant", "brand", "bundle"],
  "search": ["query", "autocomplete", "facet", "ranking", "synonym", "spellcheck"],
  "pricing": ["price", "discount", "price-rule", "currency-rate", "markdown", "competitor-price"],
  "inventory": ["stock", "reservation", "replenishment", "warehouse-stock", "store-stock", "safety-stock"],
  "fulfilment": ["pick", "pack", "wave-planning", "order-routing", "manifest", "dock"],
  "shipping": ["label", "carrier-rate", "tracking", "shipment", "address-check", "customs"],
  "returns": ["return-request", "return-label", "inspection", "restock", "exchange", "warranty"],
  "recommendations": ["similar-items", "personalised-feed", "trending", "basket-addon", "embedding", "recently-viewed"],
  "loyalty": ["points", "tier", "reward", "voucher", "member-card", "stamp"],
  "marketplace": ["seller", "offer", "listing", "buybox", "seller-payout", "seller-rating"],
  "stores": ["pos-basket", "pos-sync", "click-collect", "till-config", "store-locator", "shelf-label"],
  "content": ["landing-page", "banner", "navigation", "seo", "review", "faq"],
 },
 "bank": {
  "checkout": ["transfer-initiation", "beneficiary", "payee-check", "limits", "standing-order", "scheduled-payment"],
  "payments": ["sepa-credit", "faster-payments", "swift-outbound", "card-auth", "payment-hub", "instant-settlement"],
  "accounts": ["account", "balance", "transaction-history", "account-opening", "overdraft", "savings-pot"],
  "ledger": ["posting", "journal", "gl-export", "eod-batch", "interest", "accrual"],
  "cards": ["card-issuing", "card-controls", "pin", "card-token", "dispute", "card-fulfilment"],
  "lending": ["loan-origination", "affordability", "loan-servicing", "collateral", "repayment", "arrears"],
  "mortgage": ["mortgage-application", "valuation", "product-switch", "broker-portal", "conveyancing", "rate-lock"],
  "kyc": ["id-verification", "document-ocr", "pep-screening", "address-proof", "kyc-case", "liveness"],
  "treasury": ["liquidity", "fx-quote", "fx-deal", "nostro", "hedging", "cash-forecast"],
  "openbanking": ["aisp", "pisp", "consent-grant", "tpp-directory", "account-aggregation", "vrp"],
  "investments": ["portfolio", "order-book", "market-data", "fund-price", "custody", "corporate-action"],
  "search": ["payee-search", "transaction-search", "merchant-enrichment", "categorisation", "spend-insight", "merchant-logo"],
  "branch": ["appointment", "cash-deposit", "atm-gateway", "atm-monitor", "queue-ticket", "teller"],
  "content": ["app-content", "banner", "branch-locator", "faq", "feature-tour", "legal-doc"],
 },
 "travel": {
  "checkout": ["booking", "passenger-details", "itinerary", "ancillary", "fare-hold", "seat-map"],
  "payments": ["payment-auth", "capture", "refund", "voucher-wallet", "psp-router", "instalment"],
  "flights": ["flight-offer", "fare-cache", "gds-adapter", "ndc-adapter", "schedule", "fare-rules"],
  "hotels": ["hotel-offer", "room-rate", "hotel-content", "hotel-mapping", "allotment", "hotel-booking"],
  "cars": ["car-offer", "car-booking", "car-supplier", "car-extras", "depot", "mileage"],
  "search": ["query", "autocomplete", "ranking", "geo-lookup", "availability", "flex-dates"],
  "pricing": ["price", "markup-rule", "currency-rate", "yield", "price-alert", "discount"],
  "ticketing": ["ticket-issue", "pnr", "void", "reissue", "emd", "queue-placement"],
  "disruption": ["flight-status", "rebooking", "compensation", "schedule-change", "traveller-alert", "lounge"],
  "loyalty": ["miles", "tier", "reward", "partner-accrual", "member-card", "statement-credit"],
  "checkin": ["boarding-pass", "api-data", "bag-tag", "check-in", "gate", "travel-doc"],
  "recommendations": ["destination-inspire", "similar-hotels", "personalised-feed", "bundle-offer", "trending", "embedding"],
  "suppliers": ["supplier-contract", "supplier-feed", "rate-loader", "channel-manager", "supplier-payout", "inventory-sync"],
  "content": ["destination-guide", "review", "photo", "landing-page", "seo", "banner"],
 },
}
# entry: (name, journey, weight, critical, internal, domains that matter most)
ENTRIES = {
 "retail": [("web-storefront-bff","browse-web",.26,0,0,["catalog","search","content","recommendations","pricing"]),
  ("mobile-app-bff","browse-app",.24,0,0,["catalog","search","recommendations","loyalty","pricing"]),
  ("checkout-web-bff","checkout",.20,1,0,["checkout","payments","inventory","pricing","shipping","fraud"]),
  ("account-web-bff","sign-in-account",.10,1,0,["identity","loyalty","returns","crm"]),
  ("pos-gateway","in-store-sale",.08,1,0,["stores","payments","pricing","loyalty"]),
  ("partner-api-gateway","partner-api",.05,0,0,["partner","marketplace","inventory"]),
  ("seller-portal-bff","seller-portal",.03,0,0,["marketplace","billing","shipping"]),
  ("order-tracking-web","track-order",.04,0,0,["shipping","fulfilment","returns"]),
  ("warehouse-console-bff","warehouse-ops",0,0,1,["fulfilment","inventory","shipping"]),
  ("support-console-bff","support-ops",0,0,1,["support","crm","backoffice","billing"])],
 "bank": [("mobile-banking-bff","mobile-banking",.34,1,0,["identity","accounts","checkout","cards","search"]),
  ("web-banking-bff","web-banking",.18,0,0,["identity","accounts","checkout","investments","content"]),
  ("card-scheme-gateway","card-purchase",.24,1,0,["cards","payments","fraud","accounts"]),
  ("payments-gateway","send-money",.10,1,0,["payments","checkout","ledger","fraud"]),
  ("openbanking-gateway","open-banking",.06,0,0,["openbanking","accounts","identity"]),
  ("atm-switch","cash-withdrawal",.04,0,0,["branch","accounts","cards"]),
  ("onboarding-bff","open-account",.02,0,0,["kyc","accounts","identity"]),
  ("lending-portal-bff","loans",.02,0,0,["lending","mortgage","billing"]),
  ("branch-desktop-bff","branch-ops",0,0,1,["branch","accounts","kyc"]),
  ("ops-console-bff","back-office-ops",0,0,1,["backoffice","support","ledger","treasury"])],
 "travel": [("web-site-bff","search-web",.28,0,0,["search","flights","hotels","content","pricing"]),
  ("mobile-app-bff","search-app",.26,0,0,["search","flights","hotels","recommendations","loyalty"]),
  ("booking-bff","book-and-pay",.20,1,0,["checkout","payments","flights","hotels","fraud","pricing"]),
  ("account-bff","sign-in-trips",.10,1,0,["identity","loyalty","crm","disruption"]),
  ("checkin-gateway","check-in",.08,1,0,["checkin","ticketing","disruption"]),
  ("affiliate-api-gateway","affiliate-api",.05,0,0,["partner","hotels","cars"]),
  ("supplier-extranet-bff","supplier-extranet",.03,0,0,["suppliers","billing","media"]),
  ("call-centre-bff","agent-desktop",0,0,1,["support","ticketing","crm"]),
  ("revenue-console-bff","revenue-ops",0,0,1,["pricing","suppliers","analytics"])],
}
SHARED = ["feature-flag-service","remote-config-service","api-token-introspection","geo-ip-service","currency-converter",
          "localisation-service","audit-log-ingest","rate-limit-service","id-generator","document-store-api","secrets-broker","policy-engine"]
EXTERNALS = [("stripe-api","payments"),("adyen-api","payments"),("twilio-sms","notifications"),("sendgrid-mail","notifications"),
 ("avalara-tax","billing"),("google-geocoding","shipping"),("experian-credit","fraud"),("salesforce-crm","crm"),("zendesk-api","support"),
 ("onfido-idcheck","kyc"),("dhl-express-api","shipping"),("fedex-ship-api","shipping"),("sabre-gds","flights"),("amadeus-gds","flights"),
 ("expedia-rapid","hotels"),("bloomberg-market-data","investments"),("visa-vts","cards"),("swift-alliance","payments"),("cloudinary-media","media"),
 ("algolia-search","search"),("okta-workforce","identity"),("firebase-fcm","notifications"),("klarna-api","checkout"),("plaid-api","openbanking"),
 ("segment-cdp","analytics"),("equifax-affordability","lending"),("maxmind-risk","fraud"),("contentful-cms","content")]
REG = [("eu-west-1","euw1"),("us-east-1","use1"),("ap-southeast-2","apse2"),("eu-central-1","euc1"),("us-west-2","usw2")]
ALNUM = "bcdfghjklmnpqrstvwxz2456789"

class Svc:
    __slots__ = ("id","domain","role","layer","regions","lang","team","style","slo","err","lat","podrules","deep","cb","dark","pods","pool",
                 "entry","handlers","repl","ns","port","hpa","topics_in","env")

def rid(rng, n): return "".join(rng.choice(ALNUM) for _ in range(n))

# ------------------------------------------------------------------ estate
class Estate:
    def __init__(s, rng):
        s.rng = rng
        s.arch = rng.choice(sorted(ARCH))
        s.company = {"retail":"northgate","bank":"meridian","travel":"wayfare"}[s.arch]
        nreg = rng.choice([2,3,3,4])
        s.regions = rng.sample(REG, nreg)
        raw = [rng.uniform(.5,1)*(1.6 if i==0 else 1) for i in range(nreg)]
        s.share = {s.regions[i][0]: raw[i]/sum(raw) for i in range(nreg)}
        s.short = dict(s.regions)
        s.rn = [r for r,_ in s.regions]
        s.home = s.rn[0]
        s.two_clusters = rng.random()<.5
        s.nodes, s.edges = {}, {}          # id->kind ; (from,to)->dict(w,async)
        s.callers, s.callees = defaultdict(set), defaultdict(set)
        s.svc, s.db, s.topic, s.host, s.ext = {}, {}, {}, {}, {}
        s.build()

    def edge(s, a, b, w, asy=False):
        if a==b or (a,b) in s.edges: return
        s.edges[(a,b)] = {"w":w,"asy":asy}; s.callers[b].add(a); s.callees[a].add(b)

    def cluster(s, sv, reg):
        sh = s.short[reg]
        return f"prod-{sh}-data" if s.two_clusters and sv.pool=="data" else f"prod-{sh}"

    def mk(s, name, domain, role, layer, entry=None):
        rng = s.rng
        if name in s.nodes: return None
        v = Svc(); v.id=name; v.domain=domain; v.role=role; v.layer=layer; v.entry=entry
        if layer==0 or domain=="platform": v.regions=list(s.rn)
        elif rng.random()<.72: v.regions=list(s.rn)
        elif rng.random()<.5: v.regions=[s.home]
        else: v.regions=sorted(rng.sample(s.rn, rng.randint(1,len(s.rn))), key=s.rn.index)
        v.lang = rng.choices(["jvm","go","node","python","dotnet"],[45,25,15,10,5])[0]
        v.team = s.team[domain]; v.style = s.style[domain]
        v.ns = domain if rng.random()<.9 else domain+"-internal"
        v.slo = layer==0 or rng.random()<(.75 if layer==1 else .45)
        v.err = rng.random()<.9; v.lat = rng.random()<.8
        v.podrules = rng.random()<.75; v.deep = rng.random()<.3; v.cb = v.lang in("jvm","dotnet") and rng.random()<.7
        v.dark = layer>0 and rng.random()<.05; v.hpa = rng.random()<.6
        v.pool = "edge" if layer==0 else ("pci" if domain in("payments","cards") else ("data" if role in("batch","async") and domain in("analytics","recommendations","search","media","ledger") else "general"))
        v.repl = {r:max(2,int(rng.lognormvariate(1.85 if layer>1 else 2.5,.55)*(0.6+s.share[r]*1.2))) for r in v.regions}
        v.handlers = rng.sample(["/v1/"+domain, "/v1/"+name.split("-")[0]+"s", "/v1/"+name.split("-")[0]+"s/{id}","/v2/search","/v1/batch","/internal/sync","/v1/quote","/v1/status"], rng.randint(2,5))
        v.port = rng.choice([8080,8080,9090,8443,3000]); v.pods={}; v.topics_in=[]
        s.svc[name]=v; s.nodes[name]="service"
        return v

    def build(s):
        rng = s.rng
        doms = dict(COMMON); doms.update(ARCH[s.arch])
        target = rng.randint(150,480)
        order = list(ARCH[s.arch]) + rng.sample(sorted(COMMON), len(COMMON))
        if target<220: # small estate: fewer common domains, keep the ones entries lean on
            keep = {d for e in ENTRIES[s.arch] for d in e[5]}
            order = [d for d in order if d in keep]
        s.order = order
        s.team = {d: rng.choice([d, d+"-squad", "team-"+d]) for d in order}; s.team["platform"]="platform-engineering"; s.team["edge"]="web-platform"
        s.style = {d: rng.choices("ABC",[60,25,15])[0] for d in order}; s.style["platform"]="A"; s.style["edge"]="A"
        suffix = {d: rng.choice(["-service","-service","-svc","-api",""]) for d in order}
        for n in rng.sample(SHARED, rng.randint(7,len(SHARED))): s.mk(n,"platform","sync",3)
        for e in ENTRIES[s.arch]: s.mk(e[0],"edge","sync",0,e)
        api, ent = {}, defaultdict(list)
        for d in order: api[d] = s.mk(f"{d}-api" if s.style[d]!="C" else f"{d}-gateway", d,"sync",1) or s.mk(f"{d}-core-api",d,"sync",1)
        # entity services, then satellites until the target is met
        pool = [(d,x) for d in order for x in doms[d]]; rng.shuffle(pool)
        for d in order:                      # at least three per domain
            for x in doms[d][:3]: pool.remove((d,x)); pool.insert(0,(d,x))
        for d,x in pool:
            if len(s.svc) >= target*.62: break
            v = s.mk(x+(suffix[d] or ""), d,"sync",2) or s.mk(f"{d}-{x}", d,"sync",2)
            if v: ent[d].append((v,x))
        sat = []
        while len(s.svc) < target:
            d = rng.choice(order)
            if not ent[d]: continue
            v0,x = rng.choice(ent[d])
            r,role = rng.choice([("consumer","async"),("worker","async"),("projector","async"),("indexer","async"),("scheduler","batch"),("exporter","batch"),("sync","batch"),("cache-warmer","batch"),("query","sync"),("admin","sync"),("events","async")])
            v = s.mk(f"{x}-{r}", d, role, 2)
            if v: sat.append((v,v0,x,d))
            elif rng.random()<.02: target -= 1
        # ---- call graph: DAG by domain order
        ordix = {d:i for i,d in enumerate(order)}
        def wt(hard): return rng.uniform(.6,.95) if rng.random()<hard else rng.uniform(.1,.38)
        shared = [v.id for v in s.svc.values() if v.domain=="platform"]
        for e in ENTRIES[s.arch]:
            for d in e[5]:
                if d in api: s.edge(e[0], api[d].id, wt(.8 if d in e[5][:3] else .35))
            for d in rng.sample(order, min(len(order), rng.randint(1,4))): s.edge(e[0], api[d].id, rng.uniform(.05,.2))
            for h in rng.sample(shared,2): s.edge(e[0],h,wt(.2))
            if "identity" in api: s.edge(e[0],api["identity"].id,wt(.35))
        dep_dom = {d: rng.sample([x for x in order if ordix[x]>ordix[d]], min(len(order)-1-ordix[d], rng.randint(1,3))) for d in order}
        for d in order:
            for v,x in ent[d]:
                if rng.random()<.75: s.edge(api[d].id, v.id, wt(.5))
            es=[v for v,_ in ent[d]]
            for i,v in enumerate(es):
                for w in es[i+1:]:
                    if rng.random()<.22: s.edge(v.id,w.id,wt(.5))
                if not s.callers[v.id]: s.edge(api[d].id, v.id, wt(.5))
                for od in dep_dom[d]:
                    if rng.random()<.22: s.edge(v.id, api[od].id, wt(.3))
                    elif rng.random()<.15 and ent[od]: s.edge(v.id, rng.choice(ent[od])[0].id, wt(.45))
                for h in rng.sample(shared, rng.choices([0,1,2],[50,35,15])[0]): s.edge(v.id,h,wt(.15))
            for od in dep_dom[d]:
                if rng.random()<.6: s.edge(api[d].id, api[od].id, wt(.3))
        # ---- databases, per region
        def mkdb(base, eng, users, w):
            for r in s.rn:
                us = [u for u in users if r in u.regions]
                if not us: continue
                n = f"{base}-{eng}-{s.short[r]}"
                if n in s.nodes: return
                s.nodes[n]="database"; s.db[n]={"eng":eng,"region":r,"base":base,"team":us[0].team,"ns":us[0].ns}
                for u in us: s.edge(u.id,n,rng.uniform(*w))
        for d in order:
            vs=[v for v,_ in ent[d]]
            dom_db = rng.random()<.6
            shared_users=[v for v in vs if rng.random()<.5]
            if dom_db and len(shared_users)>1: mkdb(d, rng.choice(["aurora","aurora","mysql"]), shared_users,(.8,1))
            for v,x in ent[d]:
                if dom_db and v in shared_users: pass
                elif rng.random()<.6: mkdb(x, rng.choices(["aurora","mysql","dynamodb","documentdb"],[50,20,20,10])[0],[v],(.8,1))
                if rng.random()<.22: mkdb(x,"redis",[v]+[w for w in vs if w is not v and rng.random()<.12],(.25,.55))
            if d=="search" or rng.random()<.15: mkdb(d,"opensearch",rng.sample(vs,min(len(vs),2)),(.7,.95))
        # ---- kafka and queues
        kaf = {r:f"kafka-core-{s.short[r]}" for r in s.rn}
        for r in s.rn: s.nodes[kaf[r]]="queue"
        s.kafka=kaf
        verbs=["created","updated","completed","requested","status-changed"]
        for d in order:
            for v,x in ent[d]:
                cons=[c for c,v0,_,_ in sat if v0 is v and c.role=="async"]
                if not cons and rng.random()<.75: continue
                sqs = rng.random()<.25
                t = f"{x}-{rng.choice(['jobs','tasks','requests'])}-queue" if sqs else f"{d}.{x}-{rng.choice(verbs)}.v{rng.randint(1,3)}"
                if t in s.nodes: continue
                s.nodes[t]="queue"; s.topic[t]={"sqs":sqs,"parts":rng.choice([6,12,12,24]),"cons":[],"prod":v.id,"team":v.team,"ns":v.ns}
                if not sqs:
                    for r in v.regions: s.edge(t,kaf[r],.9,False)
                s.edge(v.id,t,rng.uniform(.08,.25),True)
                other=[c for c,v0,_,dd in sat if c.role=="async" and v0 is not v and rng.random()<.02][:2]
                for c in cons+other:
                    s.edge(c.id,t,rng.uniform(.7,.95),True); c.topics_in.append(t); s.topic[t]["cons"].append(c.id)
        for v,v0,x,d in sat:
            dbs=[n for n in s.callees[v0.id] if n in s.db]
            if v.role=="sync":
                s.edge(v.id,v0.id,wt(.6)); s.edge(api[d].id,v.id,wt(.35))
            elif rng.random()<.6 or not dbs: s.edge(v.id,v0.id,wt(.7),True)
            for n in sorted(dbs):
                if rng.random()<.8 and s.db[n]["region"] in v.regions: s.edge(v.id,n,rng.uniform(.6,.95),True)
            if v.role=="async" and not v.topics_in and s.topic and rng.random()<.8:
                t=rng.choice(sorted(s.topic)); s.edge(v.id,t,.8,True); v.topics_in.append(t); s.topic[t]["cons"].append(v.id)
            if v.role=="batch": 
                od=rng.choice(order)
                if rng.random()<.3: s.edge(v.id,api[od].id,wt(.3),True)
        # ---- externals
        for n,d in EXTERNALS:
            if d in ent and ent[d] and rng.random()<.85:
                s.nodes[n]="external"; s.ext[n]=d
                for v,_ in rng.sample(ent[d], min(len(ent[d]), rng.randint(1,3))): s.edge(v.id,n,rng.uniform(.4,.9))
        # ---- coredns and hosts
        cd = s.mk("coredns","platform","sync",9); cd.ns="kube-system"; cd.repl={r:4 for r in s.rn}; cd.dark=False
        s.place()

    def place(s):
        rng=s.rng
        groups=defaultdict(list)
        for v in s.svc.values():
            for r in v.regions: groups[(r,v.pool,s.cluster(v,r))].append(v)
        for gi,((r,pool,cl),vs) in enumerate(sorted(groups.items(), key=lambda k:k[0])):
            n=sum(v.repl[r] for v in vs); nh=max(3, math.ceil(n/rng.randint(14,22)))
            hs=[]
            for i in range(nh):
                while True:
                    ip=f"10-{20+s.rn.index(r)*16+rng.randint(0,7)}-{rng.randint(0,255)}-{rng.randint(4,250)}"
                    h=f"ip-{ip}.{r}.compute.internal"
                    if h not in s.nodes: break
                s.nodes[h]="host"
                s.host[h]={"region":r,"zone":r+"abc"[i%3],"pool":pool,"cluster":cl,"pods":[],"ip":ip.replace("-",".")}
                hs.append(h)
            for v in vs:
                rs=rid(rng,rng.choice([9,10])); v.pods[r]=[]
                st=rng.randrange(nh); step=rng.choice([1,1,2,3])
                for k in range(v.repl[r]):
                    h=hs[(st+k*step)%nh]
                    p=(f"{v.id}-{rs}-{rid(rng,5)}",h); v.pods[r].append(p); s.host[h]["pods"].append((v.id,p[0]))
        for h,i in s.host.items():
            for sv in sorted({a for a,_ in i["pods"]}): s.edge(sv,h,0.0)

# ------------------------------------------------------------------ storm
class Storm:
    def __init__(s, seed, resends="restamp"):
        s.rng=rng=random.Random(f"storm-{seed}")
        s.resends=resends
        s.e=Estate(rng)
        s.W=rng.uniform(3.5,6)*3600
        s.base=datetime.datetime(2025,rng.randint(1,12),rng.randint(1,28),rng.randint(0,20),rng.randint(0,59),tzinfo=datetime.timezone.utc)
        s.eps=[]; s.incs=[]
        s.eval=rng.choice([15,30,30,60])
        s.runbook=f"https://runbooks.{s.e.company}.internal/"
        # house rule names: each company has one convention, a few teams differ
        s.nm={"err":rng.choice(["HighErrorRate","ServiceErrorRateHigh","HTTP5xxRateHigh"]),"lat":rng.choice(["LatencyP99High","HighRequestLatency","SlowResponses"]),
              "poderr":rng.choice(["InstanceErrorRateHigh","PodHTTP5xxHigh"]),"lag":rng.choice(["KafkaConsumerLagHigh","KafkaConsumerGroupLag"])}
        s.contested=0
        s.pod2host={q:h for h,i in s.e.host.items() for _,q in i["pods"]}
        s.plan(); s.attribute()
        for i in s.incs: s.emit_incident(i)
        s.finish()

    # ---------- low level emission
    def ep(s, truth, labels, start, end, summary, value=None, desc=None, grain="svc", flap=0.0, rb=True):
        rng=s.rng
        start = math.ceil(start/s.eval)*s.eval + (hash_off(labels["alertname"])%s.eval) + rng.uniform(0,.9)
        if start>=s.W-30: return
        if end<start+60: end=start+rng.uniform(60,240)
        nm=labels["alertname"]
        # the same rule always carries the same label set and the same text, in an incident or in noise
        if nm in NODE_LABEL and "pod" in labels and "node" not in labels:
            labels=dict(labels); pn=labels["pod"]
            labels["node"]=s.pod2host.get(pn) or f"ip-10-{200+hash_off(pn)%50}-{hash_off(pn[-5:])%256}-{hash_off(pn[-8:])%250+2}.{s.e.home}.compute.internal"
        if nm in("DatabaseReplicaLagHigh","DatabaseReplicaDown"):
            labels=dict(labels); labels.setdefault("availability_zone",labels["region"]+rng.choice("abc")); labels.pop("replica",None)
        if nm in NO_VALUE: value=None
        ann={"summary":text_of(labels,summary)}
        if desc: ann["description"]=desc
        if rb: ann["runbook_url"]=s.runbook+labels["alertname"].lower()
        segs=[(start,end)]
        if flap and rng.random()<flap:
            segs=[]; t=start
            while t<end and len(segs)<8:
                on=rng.uniform(90,600); segs.append((t,min(end,t+on))); t+=on+rng.uniform(60,420)
        for a,b in segs: s.eps.append([a,b,labels,ann,value,truth,grain])

    def base_l(s, v, reg, name, sev, **kw):
        l={"alertname":name,"severity":sev,"cluster":s.e.cluster(v,reg),"namespace":v.ns}
        if v.style=="A": l["service"]=v.id; l["region"]=reg; l["team"]=v.team; l["env"]="prod"
        elif v.style=="B": l["app"]=v.id; l["environment"]="production"; l["team"]=v.team
        else: l["job"]=f"{v.ns}/{v.id}"; l["region"]=reg
        l.update(kw); return l
    def kube_l(s, v, reg, name, sev, **kw):
        l={"alertname":name,"severity":sev,"cluster":s.e.cluster(v,reg),"namespace":v.ns,"job":"kube-state-metrics","prometheus":"monitoring/k8s"}
        l.update(kw); return l
    def node_l(s, h, name, sev, **kw):
        i=s.e.host[h]
        l={"alertname":name,"severity":sev,"cluster":i["cluster"],"region":i["region"],"zone":i["zone"],"instance":i["ip"]+":9100","node":h,"job":"node-exporter"}
        l.update(kw); return l
    def db_l(s, n, name, sev, **kw):
        d=s.e.db[n]; key={"redis":"cache_cluster_id","dynamodb":"table_name","opensearch":"domain_name"}.get(d["eng"],"dbinstance_identifier")
        l={"alertname":name,"severity":sev,"region":d["region"],"job":"cloudwatch-exporter","team":d["team"],key:n}
        l.update(kw); return l

    # ---------- service symptoms (shared by incidents and by noise blips)
    def symptoms(s, truth, v, reg, st, t, end, mode, via=None, pods=None, maxpods=None, depth=1, quiet=1.0):
        """alerts of one service in one region suffering at strength st from t to end."""
        if v.dark: return
        rng=s.rng; N=s.nm; P=lambda p: rng.random()<p*quiet
        up=s.e.svc.get(via) if via else None
        allp=v.pods[reg] if pods is None else pods
        rec=lambda a=30,b=300: end+rng.uniform(a,b)
        pct=lambda x: round(min(99.,max(1.,100*x*rng.uniform(.7,1.2))),1)
        flap = .35 if st<.22 else .08
        sync = v.role=="sync"
        if sync:
            e_st = st if mode in("error","crash") else st*.5
            l_st = st if mode in("latency","sat") else st*.65
            if v.err and e_st>.1 and P(.92):
                s.ep(truth,s.base_l(v,reg,N["err"],"critical" if e_st>.3 else "warning"),t+rng.uniform(60,200),rec(),f"{v.id} error rate is {pct(e_st)}% in {reg}",pct(e_st),flap=flap)
                if len(v.handlers)>1 and e_st>.25:
                    for h in v.handlers:
                        if P(.5): s.ep(truth,s.base_l(v,reg,"EndpointErrorRateHigh","warning",handler=h,method=rng.choice(["GET","POST","GET"])),t+rng.uniform(90,300),rec(),f"{h} on {v.id} returns 5xx",pct(e_st),flap=flap)
            if v.lat and l_st>.1 and P(.85):
                for h in (v.handlers if l_st>.3 else v.handlers[:1]):
                    if P(.75): s.ep(truth,s.base_l(v,reg,N["lat"],"warning",handler=h,quantile="0.99"),t+rng.uniform(60,300),rec(),f"p99 latency of {v.id} {h} above objective",round(rng.uniform(.8,9)*(.5+l_st),2),flap=flap)
            if v.slo and e_st>.12:
                for lw,sw,thr,dl,sev in (("1h","5m",.22,(120,420),"critical"),("6h","30m",.12,(600,1800),"critical"),("1d","2h",.12,(2400,5400),"warning")):
                    if e_st>thr and t+dl[0]<end and P(.85): s.ep(truth,s.base_l(v,reg,"ErrorBudgetBurn",sev,slo=f"{v.id}-availability",long_window=lw,short_window=sw),t+rng.uniform(*dl),rec(120,1500),f"{v.id} is burning its error budget ({lw}/{sw})",round(e_st*rng.uniform(20,90),1))
            if v.podrules and e_st>.2:
                for p,h in allp:
                    if P(min(.95,.35+e_st)): s.ep(truth,s.base_l(v,reg,N["poderr"],"warning",pod=p,instance=f"{podip(p,s.e.host[h]['ip'])}:{v.port}"),t+rng.uniform(40,360),rec(),f"Instance {p} error ratio {pct(e_st)}%",pct(e_st),grain="pod",flap=flap)
            if v.podrules and l_st>.25:
                for p,h in allp:
                    if P(min(.8,.2+l_st)): s.ep(truth,s.base_l(v,reg,"InstanceLatencyHigh","warning",pod=p),t+rng.uniform(60,400),rec(),f"{p} slower than its objective",round(rng.uniform(.5,6),2),grain="pod",flap=flap)
            if v.cb and up is not None and st>.2:
                for p,h in allp:
                    if P(.3+st*.5): s.ep(truth,s.base_l(v,reg,"CircuitBreakerOpen","warning",pod=p,upstream=via),t+rng.uniform(20,240),rec(20,120),f"Circuit breaker to {via} is open",1,grain="pod",flap=flap*1.5)
            if v.lang in("jvm","dotnet") and l_st>.3:
                for p,h in allp:
                    if P(.4): s.ep(truth,s.base_l(v,reg,rng.choice(["ThreadPoolSaturated","ThreadPoolSaturated","JvmGcPauseHigh"]) if not(via in s.e.db) else "HikariPoolTimeouts","warning",pod=p),t+rng.uniform(60,420),rec(),f"Worker pool saturated on {p}",round(rng.uniform(90,100),1),grain="pod",flap=flap)
            if v.hpa and l_st>.35 and P(.5): s.ep(truth,s.kube_l(v,reg,"KubeHpaMaxedOut","warning",horizontalpodautoscaler=v.id),t+rng.uniform(600,1200),rec(300,1500),f"HPA {v.ns}/{v.id} runs at max replicas")
            if v.entry and st>.15:
                for loc in ("probe-frankfurt","probe-virginia","probe-sydney","probe-london"):
                    if P(.3+st*.6): s.ep(truth,{"alertname":"BlackboxProbeFailed","severity":"critical","job":"blackbox","instance":f"https://{v.id.replace('-bff','')}.{s.e.short[reg]}.{s.e.company}.com/healthz","probe":loc,"region":reg},t+rng.uniform(60,240),rec(),"Probe of public endpoint fails",0,flap=flap)
                if st>.2 and P(.85): s.ep(truth,{"alertname":"SyntheticJourneyFailing","severity":"critical","journey":v.entry[1],"region":reg,"job":"synthetics","team":"web-platform"},t+rng.uniform(120,420),rec(),f"Synthetic journey {v.entry[1]} fails in {reg}",pct(st))
                if st>.3 and P(.6): s.ep(truth,{"alertname":"BusinessTransactionsBelowForecast","severity":"critical","journey":v.entry[1],"region":reg,"source":"business-metrics"},t+rng.uniform(420,1200),rec(300,1200),f"{v.entry[1]} completions below forecast",round(100*(1-st)*rng.uniform(.8,1),1),rb=False)
        else:
            if v.role=="async":
                for tp in v.topics_in:
                    s.lag(truth,v,reg,tp,st,t,end,quiet)
                if st>.4 and P(.35): s.ep(truth,s.base_l(v,reg,"DeadLetterQueueGrowing","warning",queue=v.id+"-dlq"),t+rng.uniform(200,900),rec(200,1500),f"DLQ of {v.id} is growing",rng.randint(20,5000))
            elif st>.25 and P(.6):
                s.ep(truth,s.kube_l(v,reg,"KubeJobFailed","warning",job_name=f"{v.id}-{29000000+rng.randint(0,99999)}"),t+rng.uniform(200,1500),rec(900,3600),f"Job of {v.id} failed")
            if v.err and st>.2 and P(.6): s.ep(truth,s.base_l(v,reg,"MessageProcessingErrors" if v.role=="async" else "BatchRunErrors","warning"),t+rng.uniform(100,500),rec(60,400),f"{v.id} fails to process work items",pct(st),flap=flap)
            if v.podrules and st>.35:
                for p,h in allp:
                    if P(.3): s.ep(truth,s.base_l(v,reg,"WorkerErrorsHigh","warning",pod=p),t+rng.uniform(100,500),rec(),f"{p} error ratio high",pct(st),grain="pod",flap=flap)
        if v.deep and st>.4 and mode!="sat":
            k=0
            for p,h in allp:
                if P(st*.8): k+=1; s.ep(truth,s.kube_l(v,reg,"KubePodNotReady","warning",pod=p),t+rng.uniform(300,600),rec(60,400),f"Pod {v.ns}/{p} not ready",grain="pod")
            if k>1: s.ep(truth,s.kube_l(v,reg,"KubeDeploymentReplicasMismatch","warning",deployment=v.id),t+rng.uniform(600,960),rec(60,500),f"Deployment {v.ns}/{v.id} replicas mismatch",k)

    def lag(s, truth, v, reg, tp, st, t, end, quiet=1.0):
        rng=s.rng; T=s.e.topic[tp]
        if st<.15 or rng.random()>.85*quiet: return
        if T["sqs"]:
            s.ep(truth,{"alertname":"SQSOldestMessageAge","severity":"warning","queue_name":tp,"region":reg,"job":"cloudwatch-exporter","team":T["team"]},t+rng.uniform(240,700),end+rng.uniform(200,1800),f"Oldest message on {tp} too old",rng.randint(300,7200)); return
        g={"consumergroup":v.id,"topic":tp,"cluster":s.e.cluster(v,reg),"region":reg,"job":"kafka-exporter"}
        s.ep(truth,dict(g,alertname=s.nm["lag"],severity="critical" if st>.6 else "warning"),t+rng.uniform(180,540),end+rng.uniform(200,2400),f"Group {v.id} lags on {tp}",int(10**rng.uniform(4,6.5)))
        if st>.45:
            for p in range(T["parts"]):
                if rng.random()<.6*quiet: s.ep(truth,dict(g,alertname="KafkaPartitionLag",severity="warning",partition=str(p)),t+rng.uniform(180,700),end+rng.uniform(200,2000),f"Partition {p} of {tp} lags",int(10**rng.uniform(3,6)),grain="pod")

    # ---------- incident planning
    KINDS=[("bad_deploy",16),("db_failover",10),("conn_exhaustion",10),("node_failure",7),("zone_partition",6),("dns",4),("cert_expiry",8),
           ("third_party",10),("cache_stampede",8),("memory_leak",9),("consumer_lag",8),("noisy_neighbour",7),("config_change",8)]

    def plan(s):
        rng=s.rng; e=s.e
        n=rng.randint(4,10)
        kinds=[]; big=0
        while len(kinds)<n:
            k=rng.choices([a for a,_ in s.KINDS],[b for _,b in s.KINDS])[0]
            if k in("zone_partition","dns"):
                if big: continue
                big=1
            if kinds.count(k)>=2: continue
            kinds.append(k)
        t=rng.uniform(1200,2700); span=rng.uniform(2400,6600)
        starts=[t]+[t+rng.uniform(0,span) for _ in range(n-1)]
        if n>4 and rng.random()<.6: starts[-1]=starts[1]+rng.uniform(-90,90)     # two that begin almost together
        ids=rng.sample(range(1000,9999),n)
        order=sorted(range(n),key=lambda i:(kinds[i] not in("zone_partition","dns"),i))
        for i in order:
            best=None; wide=rng.random()<.55
            for tr in range(40):
                inc=s.make(kinds[i],starts[i])
                if not inc: continue
                s.propagate(inc)
                if not s.visible(inc) or (wide and tr<30 and len(inc['imp'])<14): continue
                ov=s.overlap(inc)
                if best is None or ov<best[0]: best=(ov,inc)
                if ov<.2: break
            if not best: continue
            inc=best[1]; inc["id"]=f"INC-{ids[i]}"; inc["sev"],inc["impact"]=s.sev(inc)
            s.incs.append(inc)

    def visible(s,inc):
        k=sum(1 for (n,r),x in inc["imp"].items() if n in s.e.svc and not s.e.svc[n].dark and x["s"]>.15)
        lim={"node_failure":0,"noisy_neighbour":0,"memory_leak":1,"cert_expiry":1}.get(inc["kind"],2)
        return k>=lim

    def overlap(s,inc):
        a={k:x["s"] for k,x in inc["imp"].items()}
        worst=0
        for o in s.incs:
            if o["end"]<inc["start"]-600 or inc["end"]<o["start"]-600: continue
            # same root twice is never fair
            if set(o["roots"])&set(inc["roots"]): return 9
            c=sum(v for k,v in a.items() if k in o["imp"]); co=sum(x["s"] for k,x in o["imp"].items() if k in a)
            worst=max(worst,c/max(.01,sum(a.values())),co/max(.01,sum(x["s"] for x in o["imp"].values())))
        return worst

    def pick_svc(s, layers=(1,2), role=None, reach=True):
        vs=[v for v in s.e.svc.values() if v.layer in layers and not v.dark and (role is None or v.role==role)]
        return s.rng.choice(vs) if vs else None

    def make(s,kind,start):
        rng=s.rng; e=s.e
        inc={"kind":kind,"start":start,"seeds":[],"roots":[],"p":{}}
        dur=rng.uniform(1200,5400)
        add=lambda n,r,st,mode,dl=0: inc["seeds"].append((n,r,st,mode,dl))
        if kind=="bad_deploy":
            v=s.pick_svc((0,1,2,2,2,3)); regs=list(v.regions) if rng.random()<.35 else [rng.choice(v.regions)]
            mode=rng.choice(["crash","error","error","latency"]); inc["p"]={"v":v.id,"regs":regs,"mode":mode}
            for j,r in enumerate(regs): add(v.id,r,rng.uniform(.4,.9),mode,j*rng.uniform(60,600))
            inc["roots"]=[v.id]
        elif kind in("db_failover","conn_exhaustion"):
            c=[n for n,d in e.db.items() if d["eng"] in("aurora","mysql","documentdb")]
            if not c: return None
            n=rng.choice(sorted(c)); r=e.db[n]["region"]
            if kind=="db_failover": dur=rng.uniform(600,2400); add(n,r,rng.uniform(.7,1),"error")
            else: add(n,r,rng.uniform(.55,.95),rng.choice(["latency","error"]),rng.uniform(0,300)); us=sorted(x for x in e.callers[n] if x in e.svc); inc["p"]["culprit"]=rng.choice(us) if us else None
            inc["roots"]=[n]; inc["p"]["db"]=n
        elif kind=="node_failure" or kind=="noisy_neighbour":
            c=[h for h,i in e.host.items() if len(i["pods"])>=8 and not any(h in o["roots"] for o in s.incs)]
            if not c: return None
            h=rng.choice(sorted(c)); i=e.host[h]; r=i["region"]; inc["roots"]=[h]; inc["p"]={"h":h}
            dur=rng.uniform(900,3000) if kind=="node_failure" else rng.uniform(1800,6000)
            for sv in sorted({a for a,_ in i["pods"]}):
                v=e.svc[sv]; sh=sum(1 for p,hh in v.pods[r] if hh==h)/len(v.pods[r])
                add(sv,r,sh*rng.uniform(.45,1),"error" if kind=="node_failure" else "latency",rng.uniform(0,120))
        elif kind=="zone_partition":
            r=rng.choice(e.rn); z=r+rng.choice("abc"); inc["p"]={"z":z,"r":r}; dur=rng.uniform(1200,3600)
            inc["roots"]=[h for h,i in e.host.items() if i["zone"]==z]
            for v in list(e.svc.values()):
                if r in v.regions and v.layer!=9 and rng.random()<.5:
                    sh=sum(1 for p,h in v.pods[r] if e.host[h]["zone"]==z)/len(v.pods[r])
                    if sh: add(v.id,r,sh*rng.uniform(.3,.9),rng.choice(["error","latency"]),rng.uniform(0,150))
        elif kind=="dns":
            r=rng.choice(e.rn); cl=f"prod-{e.short[r]}"; inc["p"]={"r":r,"cl":cl}; inc["roots"]=["coredns"]; dur=rng.uniform(1200,3600)
            add("coredns",r,.9,"error")
            for v in list(e.svc.values()):
                if r in v.regions and v.layer!=9 and e.cluster(v,r)==cl and rng.random()<.33: add(v.id,r,rng.uniform(.12,.5),rng.choice(["error","latency"]),rng.uniform(0,400))
        elif kind=="cert_expiry":
            v=s.pick_svc((0,1,2,3),"sync"); regs=[rng.choice(v.regions)] if rng.random()<.7 else list(v.regions)
            for r in regs: add(v.id,r,rng.uniform(.7,1),"tls")
            inc["roots"]=[v.id]; inc["p"]={"v":v.id,"regs":regs}
        elif kind=="third_party":
            if not e.ext: return None
            x=rng.choice(sorted(e.ext)); dur=rng.uniform(1500,7200)
            for j,r in enumerate(e.rn): add(x,r,rng.uniform(.5,1),rng.choice(["error","latency"]),rng.uniform(0,90))
            inc["roots"]=[x]; inc["p"]={"x":x}
        elif kind=="cache_stampede":
            c=sorted(n for n,d in e.db.items() if d["eng"]=="redis")
            if not c: return None
            n=rng.choice(c); r=e.db[n]["region"]; us=sorted(u for u in e.callers[n] if u in e.svc)
            add(n,r,.9,"latency")
            dbs=sorted({d for u in us for d in e.callees[u] if d in e.db and e.db[d]["region"]==r and e.db[d]["eng"]!="redis"})
            for d in dbs: add(d,r,rng.uniform(.4,.8),"latency",rng.uniform(60,240))
            for u in us: add(u,r,rng.uniform(.35,.75),"latency",rng.uniform(30,180))
            inc["roots"]=[n]; inc["p"]={"n":n,"dbs":dbs,"us":us}
        elif kind=="memory_leak":
            v=s.pick_svc((1,2)); r=rng.choice(v.regions); dur=rng.uniform(5400,9000)
            inc["p"]={"v":v.id,"r":r,"late":dur*rng.uniform(.25,.5)}
            add(v.id,r,rng.uniform(.25,.6),"sat",inc["p"]["late"]); inc["roots"]=[v.id]
        elif kind=="consumer_lag":
            c=[v for v in e.svc.values() if v.role=="async" and v.topics_in]
            if not c: return None
            v=rng.choice(c); r=rng.choice(v.regions); dur=rng.uniform(2400,7200)
            add(v.id,r,rng.uniform(.6,.95),"sat"); inc["roots"]=[v.id]; inc["p"]={"v":v.id,"r":r}
            for u in sorted(x for n in e.callees[v.id] if n in e.svc or (n in e.db and e.db[n]["region"]==r) for x in (([n] if n in e.svc else [])+[c2 for c2 in e.callers[n] if n in e.db and c2 in e.svc])):
                if u!=v.id and r in e.svc[u].regions and rng.random()<.6: add(u,r,rng.uniform(.16,.35),"stale",rng.uniform(600,1500))
        elif kind=="config_change":
            d=rng.choice(e.order); vs=[v for v in e.svc.values() if v.domain==d and not v.dark]
            if len(vs)<3: return None
            vs=rng.sample(vs,min(len(vs),rng.randint(3,8))); glob=rng.random()<.6; r0=rng.choice(e.rn)
            for v in vs:
                for r in v.regions:
                    if glob or r==r0: add(v.id,r,rng.uniform(.25,.8),rng.choice(["error","error","latency"]),rng.uniform(0,60))
            if not inc["seeds"]: return None
            inc["roots"]=[v.id for v in vs]; inc["p"]={"vs":[v.id for v in vs],"domain":d}
        inc["dur"]=dur; inc["end"]=min(start+dur,s.W-300)
        return inc

    def propagate(s,inc):
        """best-strength-first walk from seeds to callers, region-aware, attenuated and delayed."""
        rng=s.rng; e=s.e; imp={}; hq=[]
        for i,(n,r,st,mode,dl) in enumerate(inc["seeds"]): heapq.heappush(hq,(-st,i,n,r,mode,dl,0,None))
        c=len(hq)
        while hq:
            ns,_,n,r,mode,dl,dep,via=heapq.heappop(hq); st=-ns
            if (n,r) in imp: continue
            imp[(n,r)]={"s":st,"dl":dl,"mode":mode,"dep":dep,"via":via}
            if dep>=6 or mode=="stale": continue
            if n in e.svc: mode2={"tls":"error","crash":"error","sat":"latency"}.get(mode,mode)
            else: mode2=mode
            for u in sorted(e.callers[n]):
                ed=e.edges[(u,n)]
                if n in e.topic and inc["kind"] not in("zone_partition",): continue
                if u in e.topic: continue
                if n in e.svc or n in e.ext or n in e.topic:
                    nreg=e.svc[n].regions if n in e.svc else e.rn
                    regs=[r] if r in e.svc[u].regions else []
                    if n in e.svc and r==nreg[0]: regs=regs+[q for q in e.svc[u].regions if q not in nreg]
                else: regs=[r] if u in e.svc and r in e.svc[u].regions else []
                w=ed["w"]*rng.uniform(.85,1.1)
                if mode2=="latency" and dep>0: w*=.9
                s2=min(st,st*w)
                if s2<.08: continue
                d2=dl+(rng.uniform(90,480) if ed["asy"] else 5+rng.expovariate(1/30))
                for q in regs:
                    if (u,q) not in imp:
                        c+=1; heapq.heappush(hq,(-s2,c,u,q,mode2 if rng.random()<.8 else "latency",d2,dep+1,n))
        inc["imp"]=imp

    def sev(s,inc):
        e=s.e; I=0; C=0; internal=0; ext=0; detail={}
        for v in e.svc.values():
            if not v.entry: continue
            _,j,w,crit,intern,_=v.entry
            f=sum(e.share[r]*inc["imp"][(v.id,r)]["s"]*(.5 if inc["imp"][(v.id,r)]["mode"] in("latency","sat","stale") else 1) for r in v.regions if (v.id,r) in inc["imp"])
            if f: detail[j]=round(f,4)
            if intern: internal=max(internal,f)
            else:
                I+=w*f; ext=max(ext,f)
                if crit: C=max(C,f)
        dur=inc["end"]-inc["start"]
        if C>=.20 or I>=.15: sv=1
        elif C>=.07 or I>=.04: sv=2
        elif I>=.004 or ext>=.05 or internal>=.08 or (inc["kind"]=="consumer_lag" and e.svc[inc["p"]["v"]].domain not in("analytics","crm","backoffice","media","treasury","recommendations")): sv=3
        else: sv=4
        if sv==1 and dur<600: sv=2
        return f"SEV{sv}",{"weighted":round(I,4),"critical":round(C,4),"internal":round(internal,4),"journeys":detail}

    def attribute(s):
        """where two live incidents hit the same (node, region), only the stronger one produces that node's symptoms."""
        by=defaultdict(list)
        for i in s.incs:
            i["own"]={}
            for k,x in i["imp"].items(): by[k].append((x["s"]+(2 if x["dep"]==0 and k[0] in i["roots"] else 0),i,x))
        for k,l in by.items():
            l.sort(key=lambda z:(-z[0],z[1]["id"])); kept=[]
            for st,i,x in l:
                if any(not(o["end"]+300<i["start"] or i["end"]+300<o["start"]) for o in kept): s.contested+=1; continue
                kept.append(i); i["own"][k]=x

    # ---------- incident emission
    def emit_incident(s,inc):
        rng=s.rng; e=s.e; T=inc["id"]; t0=inc["start"]; end=inc["end"]; k=inc["kind"]; p=inc["p"]
        U=rng.uniform; rec=lambda a=30,b=300:end+U(a,b)
        for (n,r),x in sorted(inc["own"].items()):
            if n in e.svc and e.svc[n].layer!=9:
                v=e.svc[n]; t=t0+x["dl"]; pods=None
                if x["mode"]=="stale":
                    if rng.random()<.7: s.ep(T,s.base_l(v,r,"ReadModelStale","warning"),t+U(60,600),rec(300,1800),f"Read model of {n} is behind its source",rng.randint(300,5000))
                    continue
                if x["dep"]==0 and k=="zone_partition": pods=[q for q in v.pods[r] if e.host[q[1]]["zone"]==p["z"]]
                if x["dep"]==0 and k in("node_failure","noisy_neighbour"): pods=[q for q in v.pods[r] if q[1]==p["h"]]
                if x["dep"]==0 and k=="bad_deploy":
                    rs=rid(rng,10); pods=[(f"{n}-{rs}-{rid(rng,5)}",h) for _,h in v.pods[r]]; x["pods"]=pods; s.pod2host.update(pods)
                mode="error" if x["mode"]=="tls" else x["mode"]
                st=x["s"]
                if pods is not None and k in("zone_partition","node_failure","noisy_neighbour"):
                    # affected pods suffer strongly, the service as a whole by st
                    for q,h in pods:
                        if v.podrules and rng.random()<.6: s.ep(T,s.base_l(v,r,s.nm["poderr"] if k!="noisy_neighbour" else "InstanceLatencyHigh","warning",pod=q,instance=f"{podip(q,e.host[h]['ip'])}:{v.port}"),t+U(40,300),rec(),f"Instance {q} unhealthy",round(U(20,100),1),grain="pod",flap=.15)
                    s.symptoms(T,v,r,st,t,end,mode,x["via"],pods=[])
                else: s.symptoms(T,v,r,st,t,end,mode,x["via"],pods=pods)
            elif n in e.db and x["dep"]>0 and x["s"]>.3: pass
        # callee-side traffic drop below a failing service
        for n,r,st,mode,dl in inc["seeds"]:
            if n in e.svc and st>.5 and k in("bad_deploy","cert_expiry","config_change"):
                for c in sorted(e.callees[n]):
                    if c in e.svc and e.edges[(n,c)]["w"]>.5 and r in e.svc[c].regions and rng.random()<.25 and not any((c,r) in o["own"] for o in s.incs):
                        s.ep(T,s.base_l(e.svc[c],r,"RequestRateDropped","warning"),t0+dl+U(200,600),rec(),f"Traffic to {c} is well below the same time last week",round(-U(30,80),1))
        def db_ep(n,name,sev,a,b,summ,val=None,**kw): s.ep(T,s.db_l(n,name,sev,**kw),t0+U(a,b),rec(),summ,val)
        if k=="bad_deploy":
            for r in p["regs"]:
                v=e.svc[p["v"]]; x=inc["imp"][(v.id,r)]; t=t0+x["dl"]
                if rng.random()<.6: s.ep(T,s.kube_l(v,r,"KubeDeploymentGenerationChanged" if rng.random()<.3 else "DeploymentRolledOut","info",deployment=v.id),t-U(20,200),t+U(300,900),f"New rollout of {v.ns}/{v.id}",rb=False)
                for q,h in x.get("pods",[]):
                    if p["mode"]=="crash" and rng.random()<.85:
                        s.ep(T,s.kube_l(v,r,"KubePodCrashLooping","warning",pod=q,container=v.id),t+U(180,700),rec(60,600),f"Pod {v.ns}/{q} is crash looping",grain="pod",flap=.3)
                if p["mode"]=="crash":
                    s.ep(T,s.kube_l(v,r,"KubeDeploymentReplicasMismatch","warning",deployment=v.id),t+U(300,900),rec(60,500),f"Deployment {v.ns}/{v.id} replicas mismatch")
                    s.ep(T,s.kube_l(v,r,"KubeDeploymentRolloutStuck","warning",deployment=v.id),t+U(600,1000),rec(60,500),f"Rollout of {v.id} is not progressing")
        elif k=="db_failover":
            n=p["db"]
            db_ep(n,"RDSFailoverStarted","info",0,40,f"Failover event on {n}")
            db_ep(n,"DatabaseDown","critical",20,120,f"No writer reachable on {n}",0)
            for q in ("-1","-2"):
                if rng.random()<.7: db_ep(n,"DatabaseReplicaLagHigh","warning",30,300,f"Replica lag on {n}",round(U(30,900)),replica=n+q)
            if rng.random()<.6: db_ep(n,"DatabaseCommitLatencyHigh","warning",60,400,f"Commit latency on {n}",round(U(50,900)))
        elif k=="conn_exhaustion":
            n=p["db"]
            s.ep(T,s.db_l(n,"DatabaseConnectionsHigh","warning"),t0-U(0,600),rec(),f"{n} uses over 90% of max_connections",round(U(90,99),1))
            db_ep(n,"DatabaseConnectionsExhausted","critical",60,300,f"{n} refuses connections",100)
            if rng.random()<.5: db_ep(n,"DatabaseCPUHigh","warning",100,600,f"CPU of {n} high",round(U(80,99),1))
            v=e.svc.get(p.get("culprit") or "")
            if v and e.db[n]["region"] in v.regions:
                for q,h in v.pods[e.db[n]["region"]]:
                    if rng.random()<.8: s.ep(T,s.base_l(v,e.db[n]["region"],"ConnectionPoolNearLimit","warning",pod=q,pool=n),t0+U(-300,200),rec(),f"Pool to {n} on {q} near its limit",round(U(90,100),1),grain="pod")
        elif k=="node_failure":
            h=p["h"]; i=e.host[h]
            s.ep(T,s.node_l(h,"KubeNodeNotReady","critical",job="kube-state-metrics"),t0+U(40,120),rec(),f"Node {h} not ready")
            s.ep(T,s.node_l(h,"NodeExporterDown","warning"),t0+U(60,200),rec(),f"node-exporter on {h} unreachable",0)
            if rng.random()<.7: s.ep(T,s.node_l(h,"KubeletDown","critical",job="kubelet"),t0+U(60,240),rec(),f"Kubelet on {h} disappeared")
            for sv,q in i["pods"]:
                v=e.svc[sv]
                if rng.random()<.8: s.ep(T,s.kube_l(v,i["region"],"KubePodNotReady","warning",pod=q,**({"node":h} if rng.random()<.5 else {})),t0+U(300,420),t0+U(600,2400),f"Pod {v.ns}/{q} not ready",grain="pod")
                if rng.random()<.35: s.ep(T,s.base_l(v,i["region"],"TargetDown","warning",pod=q),t0+U(120,400),t0+U(600,2000),f"Scrape target {q} down",grain="pod")
        elif k=="noisy_neighbour":
            h=p["h"]; i=e.host[h]
            for nm,pr in (("NodeCPUSaturation",.9),("NodeLoadHigh",.8),("NodeDiskIOSaturation",.6),("NodeMemoryMajorPagesFaults",.5),("NodePressureStall",.6)):
                if rng.random()<pr: s.ep(T,s.node_l(h,nm,"warning"),t0+U(60,700),rec(),f"{nm} on {h}",round(U(80,100),1),flap=.3)
            for sv,q in i["pods"]:
                v=e.svc[sv]
                if rng.random()<.75: s.ep(T,s.kube_l(v,i["region"],"CPUThrottlingHigh","info" if rng.random()<.6 else "warning",pod=q,container=v.id,node=h),t0+U(100,1200),rec(),f"{q} is throttled",round(U(25,90),1),grain="pod",flap=.4)
                if rng.random()<.35: s.ep(T,s.base_l(v,i["region"],"InstanceLatencyHigh","warning",pod=q,node=h),t0+U(100,1200),rec(),f"{q} slower than its peers",round(U(.5,5),2),grain="pod",flap=.4)
        elif k=="zone_partition":
            z=p["z"]; r=p["r"]
            for h,i in e.host.items():
                if i["zone"]!=z: continue
                for nm,pr,sv in (("NodeNetworkPacketLoss",.85,"warning"),("NodeExporterDown",.6,"warning"),("KubeNodeNotReady",.45,"critical"),("KubeletDown",.3,"critical")):
                    if rng.random()<pr: s.ep(T,s.node_l(h,nm,sv),t0+U(20,260),rec(),f"{nm} on {h}",round(U(5,60),1),flap=.25)
                for svn,q in i["pods"]:
                    if rng.random()<.22: s.ep(T,s.kube_l(e.svc[svn],r,"KubePodNotReady","warning",pod=q),t0+U(300,900),rec(),f"Pod {q} not ready",grain="pod")
                    elif rng.random()<.25: s.ep(T,s.base_l(e.svc[svn],r,"TargetDown","warning",pod=q),t0+U(120,500),rec(),f"Scrape target {q} down",grain="pod")
            for b in range(1,7):
                if rng.random()<.6: s.ep(T,{"alertname":"KafkaUnderReplicatedPartitions","severity":"critical","job":"kafka-exporter","kafka_cluster":e.kafka[r],"broker":str(b),"region":r},t0+U(40,240),rec(),f"Broker {b} of {e.kafka[r]} has under-replicated partitions",rng.randint(3,400))
            for n,d in sorted(e.db.items()):
                if d["region"]==r and rng.random()<.22: db_ep(n,rng.choice(["DatabaseReplicaLagHigh","DatabaseReplicaDown"]) if d["eng"] in("aurora","mysql","documentdb") else {"dynamodb":"DynamoDBThrottledRequests","redis":"RedisMemoryHigh"}.get(d["eng"],"OpenSearchClusterYellow"),"warning",60,500,f"Replica of {n} in trouble",**({"availability_zone":z} if d["eng"]!="dynamodb" else {}))
        elif k=="dns":
            r=p["r"]; v=e.svc["coredns"]
            for q,h in v.pods[r]:
                for nm,pr in (("CoreDNSErrorsHigh",.9),("CoreDNSLatencyHigh",.8),("CoreDNSForwardErrors",.5)):
                    if rng.random()<pr: s.ep(T,{"alertname":nm,"severity":"critical","cluster":p["cl"],"namespace":"kube-system","pod":q,"region":r,"job":"coredns"},t0+U(10,300),rec(),f"{nm} on {q}",round(U(5,70),1),grain="pod",flap=.2)
            for h,i in e.host.items():
                if i["cluster"]==p["cl"] and rng.random()<.5: s.ep(T,s.node_l(h,"NodeLocalDNSErrors","warning",job="node-local-dns",instance=i["ip"]+":9253"),t0+U(30,500),rec(),f"DNS SERVFAIL on {h}",round(U(3,60),1),flap=.3)
        elif k=="cert_expiry":
            v=e.svc[p["v"]]; host=f"{v.id}.{v.ns}.svc" if v.layer else f"{v.id.replace('-bff','')}.{e.company}.com"
            for r in p["regs"]:
                s.ep(T,{"alertname":"CertificateExpired","severity":"critical","job":"x509-exporter","cluster":e.cluster(v,r),"namespace":v.ns,"subject_CN":host,"secret_name":v.id+"-tls"},t0+U(0,300),rec(),f"Certificate {host} has expired",0)
                if rng.random()<.8: s.ep(T,{"alertname":"BlackboxTLSProbeFailed","severity":"critical","job":"blackbox","instance":f"https://{host}:443","region":r},t0+U(60,240),rec(),f"TLS probe of {host} fails",0)
                for u in sorted(e.callers[v.id]):
                    if u in e.svc and r in e.svc[u].regions:
                        for q,h in e.svc[u].pods[r]:
                            if rng.random()<.3: s.ep(T,s.base_l(e.svc[u],r,"TLSHandshakeErrors","warning",pod=q,upstream=v.id),t0+U(30,400),rec(),f"TLS handshakes from {q} to {v.id} fail",round(U(50,100),1),grain="pod")
        elif k=="third_party":
            x=p["x"]
            for u in sorted(e.callers[x]):
                for r in e.svc[u].regions:
                    for nm,pr in (("ExternalDependencyErrors",.85),("ExternalDependencySlow",.6)):
                        if rng.random()<pr: s.ep(T,s.base_l(e.svc[u],r,nm,"warning",dependency=x),t0+U(60,300),rec(),f"Calls from {u} to {x} fail or are slow",round(U(10,100),1),flap=.2)
            for loc in e.rn:
                if rng.random()<.6: s.ep(T,{"alertname":"BlackboxProbeFailed","severity":"warning","job":"blackbox-external","instance":f"https://{x}","target":x,"region":loc},t0+U(60,300),rec(),f"Probe of {x} fails",0,flap=.3)
            if rng.random()<.5: s.ep(T,{"alertname":"VendorStatusPageIncident","severity":"info","vendor":x,"source":"statuspage"},t0+U(600,2400),rec(600,3600),f"{x} reports degraded service",rb=False)
        elif k=="cache_stampede":
            n=p["n"]
            for nm,sv in (("RedisEvictionsHigh","warning"),("RedisHitRatioLow","warning"),("RedisCPUHigh","warning"),("RedisMemoryHigh","critical")):
                if rng.random()<.75: db_ep(n,nm,sv,10,300,f"{nm} on {n}",round(U(1,99),1))
            for d in p["dbs"]:
                for nm in ("DatabaseCPUHigh","DatabaseReadLatencyHigh","DatabaseConnectionsHigh"):
                    if rng.random()<.7: db_ep(d,nm,"warning",100,500,f"{nm} on {d}",round(U(70,99),1))
        elif k=="memory_leak":
            v=e.svc[p["v"]]; r=p["r"]
            for q,h in v.pods[r]:
                a=t0+U(0,p["late"]); s.ep(T,s.kube_l(v,r,"ContainerMemoryNearLimit","warning",pod=q,container=v.id),a,rec(),f"{q} uses over 90% of its memory limit",round(U(90,99),1),grain="pod",flap=.3)
                tt=a+U(900,2400)
                while tt<end:
                    if rng.random()<.7: s.ep(T,s.kube_l(v,r,"KubeContainerOOMKilled","warning",pod=q,container=v.id),tt,tt+U(300,900),f"Container in {q} was OOM killed",grain="pod")
                    tt+=U(1200,3000)
                if v.lang=="jvm" and rng.random()<.6: s.ep(T,s.base_l(v,r,"JvmHeapUsageHigh","warning",pod=q),a+U(-300,600),rec(),f"Heap on {q} high",round(U(88,99),1),grain="pod",flap=.3)
        elif k=="consumer_lag":
            v=e.svc[p["v"]]; r=p["r"]
            for tp in v.topics_in: s.lag(T,v,r,tp,.9,t0,end)
            if rng.random()<.6: s.ep(T,s.base_l(v,r,"KafkaConsumerRebalancing","warning"),t0+U(0,300),rec(),f"{v.id} keeps rebalancing",rng.randint(3,30),flap=.5)
            for q,h in v.pods[r]:
                if rng.random()<.5: s.ep(T,s.base_l(v,r,"MessageProcessingSlow","warning",pod=q),t0+U(60,600),rec(),f"{q} processes messages slowly",round(U(2,60),1),grain="pod",flap=.2)
        elif k=="config_change":
            for (n,r),x in sorted(inc["own"].items()):
                if x["dep"]==0 and n in e.svc and rng.random()<.45: s.ep(T,s.base_l(e.svc[n],r,"ConfigReloaded","info",source="remote-config"),t0+U(-60,60),t0+U(300,900),f"{n} loaded new remote config",rb=False)

    # ---------- noise
    def noise_unit(s):
        rng=s.rng; e=s.e; U=rng.uniform; W=s.W
        t=U(0,W-120); kind=rng.choices(["chronic","throttle","blip","job","disk","staging","deploy","info","dbwarn","lagblip","hpa","probe","spot","certsoon","quota","hostwarn","podrestart","synthetic","misc"],
                                       [14,8,11,6,4,8,6,6,7,6,5,4,3,2,3,5,6,2,13])[0]
        v=rng.choice(s.svclist); r=rng.choice(v.regions); q,h=rng.choice(v.pods[r])
        if kind=="chronic":
            nm,mk=rng.choice([("CPUThrottlingHigh",0),("ContainerMemoryNearLimit",0),(s.nm["lat"],1),("JvmGcPauseHigh",2),("NodeDiskIOSaturation",3),("KafkaRebalance",4),(s.nm["err"],1),("KubePodNotReady",0)])
            if mk==0: l=s.kube_l(v,r,nm,rng.choice(["info","warning"]) if nm!="KubePodNotReady" else "warning",pod=q,**({"container":v.id} if nm!="KubePodNotReady" else {}))
            elif mk==1: l=s.base_l(v,r,nm,"warning",**({"handler":rng.choice(v.handlers),"quantile":"0.99"} if nm==s.nm["lat"] else {}))
            elif mk==2: l=s.base_l(v,r,nm,"warning",pod=q)
            elif mk==3: l=s.node_l(h,nm,"warning")
            else: l=s.base_l(v,r,"KafkaConsumerRebalancing","warning")
            on=U(120,700); off=U(300,2400); a=U(0,off)
            while a<W:
                s.ep(None,l,a,a+on*U(.5,1.5),f"{nm}: {v.id}",round(U(1,100),1)); a+=on+off*U(.5,1.6)
        elif kind=="throttle":
            for q,h in rng.sample(v.pods[r],min(len(v.pods[r]),rng.randint(1,3))): s.ep(None,s.kube_l(v,r,"CPUThrottlingHigh","info",pod=q,container=v.id),t+U(0,300),t+U(600,3600),f"{q} is throttled",round(U(25,60),1),flap=.5)
        elif kind=="blip":
            s.symptoms(None,v,r,U(.13,.3),t,t+U(120,480),rng.choice(["error","latency"]),pods=rng.sample(v.pods[r],1),quiet=.5)
        elif kind=="job": s.ep(None,s.kube_l(v,r,"KubeJobFailed","warning",job_name=f"{v.id}-{rng.choice(['backup','cleanup','report','vacuum','reindex'])}-{29000000+rng.randint(0,99999)}"),t,t+U(1800,9000),f"Job in {v.ns} failed")
        elif kind=="disk": s.ep(None,s.node_l(h,rng.choice(["NodeFilesystemSpaceFillingUp","NodeFilesystemAlmostOutOfSpace","NodeClockSkewDetected"]),"warning",**({"mountpoint":rng.choice(["/","/var/lib/containerd"])})),t,t+U(1800,14000),f"Filesystem on {h}",round(U(3,15),1),flap=.2)
        elif kind=="staging":
            cl=f"{rng.choice(['staging','dev','perf'])}-{e.short[r]}"; rs=rid(rng,10)
            for _ in range(rng.randint(1,4)):
                nm=rng.choice(["KubePodCrashLooping","KubePodNotReady","ContainerMemoryNearLimit"])
                s.ep(None,{"alertname":nm,"severity":"warning","cluster":cl,"namespace":v.ns,"job":"kube-state-metrics","prometheus":"monitoring/k8s","pod":f"{v.id}-{rs}-{rid(rng,5)}",**({} if nm=="KubePodNotReady" else {"container":v.id})},t+U(0,400),t+U(900,9000),f"{nm} in {cl}",flap=.4)
            if rng.random()<.4: s.ep(None,{"alertname":"KubeDeploymentReplicasMismatch","severity":"warning","cluster":cl,"namespace":v.ns,"job":"kube-state-metrics","prometheus":"monitoring/k8s","deployment":v.id},t+U(300,900),t+U(1500,9000),f"Deployment {v.id} replicas mismatch in {cl}")
        elif kind=="deploy": s.ep(None,s.kube_l(v,r,"DeploymentRolledOut","info",deployment=v.id),t,t+U(300,900),f"New rollout of {v.ns}/{v.id}",rb=False)
        elif kind=="info":
            x=rng.choice(["ConfigReloaded","DeprecatedAPIUsed","ImageVulnerabilityFound","TracingSpansDropped","LogVolumeAnomaly","HelmReleaseDrift"])
            kw={"source":"remote-config"} if x=="ConfigReloaded" else {}
            s.ep(None,s.base_l(v,r,x,"info",**kw),t,t+U(300,5000),f"{x} on {v.id}",rb=False)
        elif kind=="dbwarn" and s.dblist:
            n=rng.choice(s.dblist); eng=e.db[n]["eng"]
            nm=rng.choice({"redis":["RedisEvictionsHigh","RedisMemoryHigh"],"dynamodb":["DynamoDBThrottledRequests"],"opensearch":["OpenSearchJVMPressure","OpenSearchClusterYellow"]}.get(eng,["DatabaseCPUHigh","DatabaseReplicaLagHigh","DatabaseConnectionsHigh","DatabaseFreeStorageLow","DatabaseLongRunningQuery"]))
            s.ep(None,s.db_l(n,nm,"warning",**({"replica":n+"-1"} if "Replica" in nm else {})),t,t+U(300,3600),f"{nm} on {n}",round(U(70,95),1),flap=.4)
        elif kind=="lagblip":
            if v.topics_in and v.role=="async": s.lag(None,v,r,rng.choice(v.topics_in),.3,t,t+U(200,900))
        elif kind=="hpa": s.ep(None,s.kube_l(v,r,"KubeHpaMaxedOut","warning",horizontalpodautoscaler=v.id),t,t+U(900,5000),f"HPA {v.ns}/{v.id} runs at max replicas",flap=.3)
        elif kind=="probe":
            en=rng.choice(s.entries); rr=rng.choice(en.regions)
            s.ep(None,{"alertname":"BlackboxProbeFailed","severity":"critical","job":"blackbox","instance":f"https://{en.id.replace('-bff','')}.{e.short[rr]}.{e.company}.com/healthz","probe":rng.choice(["probe-frankfurt","probe-virginia","probe-sydney","probe-london"]),"region":rr},t,t+U(60,240),"Probe of public endpoint fails",0,flap=.3)
        elif kind=="spot":
            s.ep(None,s.node_l(h,"SpotInterruptionNotice","info"),t,t+U(120,300),f"{h} will be reclaimed",rb=False)
            if rng.random()<.6: s.ep(None,s.node_l(h,"KubeNodeUnschedulable","info",job="kube-state-metrics"),t+U(20,80),t+U(300,900),f"{h} is cordoned")
        elif kind=="certsoon": s.ep(None,{"alertname":"CertificateExpiresSoon","severity":"warning","job":"x509-exporter","cluster":e.cluster(v,r),"namespace":v.ns,"subject_CN":f"{v.id}.{v.ns}.svc","secret_name":v.id+"-tls"},t*.2,W+1,f"Certificate of {v.id} expires within 21 days",rng.randint(5,20))
        elif kind=="quota": s.ep(None,s.kube_l(v,r,"KubeQuotaAlmostFull","info",resource=rng.choice(["requests.cpu","requests.memory"])),t*.5,t+U(3000,12000),f"Quota in {v.ns} almost full",round(U(.9,1),2))
        elif kind=="hostwarn": s.ep(None,s.node_l(h,rng.choice(["NodeLoadHigh","NodeCPUSaturation","NodeNetworkPacketLoss","NodeMemoryMajorPagesFaults","NodeExporterDown"]),"warning"),t,t+U(120,1500),f"Node {h} under pressure",round(U(60,100),1),flap=.3)
        elif kind=="podrestart": s.ep(None,s.kube_l(v,r,rng.choice(["KubePodCrashLooping","KubeContainerOOMKilled"]),"warning",pod=q,container=v.id),t,t+U(300,1200),f"Pod {v.ns}/{q} restarted",flap=.3)
        elif kind=="misc":          # small, short, unrelated-to-anything versions of the alerts incidents raise too
            ds=sorted(e.callees[v.id]); sv_=[x for x in ds if x in e.svc]; ex=[x for x in ds if x in e.ext]; db=[x for x in ds if x in e.db and e.db[x]["region"]==r]
            c=rng.choice(["cb","ext","tls","pool","ndns","dlq","msg","part","stale","pod","tgt","rr","nodeNR","urp","dns","xprobe","ep"]); b=t+U(90,900); k=rng.sample(v.pods[r],min(len(v.pods[r]),rng.choice([1,1,1,2,4]))); sm=lambda n:f"{n} on {v.id}"
            ps=lambda nm,**kw:[s.ep(None,s.base_l(v,r,nm,"warning",pod=q,**kw),t+U(0,200),b,sm(nm),round(U(1,60),1),flap=.2) for q,_ in k]
            if c=="cb" and sv_: ps("CircuitBreakerOpen",upstream=rng.choice(sv_))
            elif c=="tls" and sv_: ps("TLSHandshakeErrors",upstream=rng.choice(sv_))
            elif c=="ext":
                if not ex and e.ext: x=rng.choice(sorted(e.ext)); us=sorted(e.callers[x]); v=e.svc[rng.choice(us)] if us else v; r=rng.choice(v.regions); ex=[x] if us else []
                if ex: s.ep(None,s.base_l(v,r,rng.choice(["ExternalDependencyErrors","ExternalDependencySlow"]),"warning",dependency=ex[0]),t,b,sm("Dependency trouble"),round(U(5,30),1),flap=.4)
            elif c=="pool" and db: ps(rng.choice(["ConnectionPoolNearLimit"]),pool=rng.choice(db))
            elif c=="ndns": s.ep(None,s.node_l(h,"NodeLocalDNSErrors","warning",job="node-local-dns",instance=e.host[h]["ip"]+":9253"),t,b,f"DNS SERVFAIL on {h}",round(U(1,8),1),flap=.3)
            elif c=="dns": cq=rng.choice(e.svc["coredns"].pods[r])[0]; s.ep(None,{"alertname":"CoreDNSLatencyHigh","severity":"critical","cluster":f"prod-{e.short[r]}","namespace":"kube-system","pod":cq,"region":r,"job":"coredns"},t,t+U(60,200),f"CoreDNSLatencyHigh on {cq}",round(U(1,8),1))
            elif c=="dlq" and v.role=="async": s.ep(None,s.base_l(v,r,"DeadLetterQueueGrowing","warning",queue=v.id+"-dlq"),t,b+900,sm("DLQ"),rng.randint(1,60),flap=.3)
            elif c=="msg" and v.role=="async": ps("MessageProcessingSlow")
            elif c=="part" and v.topics_in:
                tp=rng.choice(v.topics_in)
                if not e.topic[tp]["sqs"]: s.ep(None,{"consumergroup":v.id,"topic":tp,"cluster":e.cluster(v,r),"region":r,"job":"kafka-exporter","alertname":"KafkaPartitionLag","severity":"warning","partition":str(rng.randrange(e.topic[tp]["parts"]))},t,b,f"Partition of {tp} lags",rng.randint(1000,40000),flap=.3)
            elif c=="stale" and v.role=="sync" and v.layer==2: s.ep(None,s.base_l(v,r,"ReadModelStale","warning"),t,b,f"Read model of {v.id} is behind its source",rng.randint(300,900))
            elif c=="pod" and v.podrules and v.role=="sync":
                for q,hh in k: s.ep(None,s.base_l(v,r,s.nm["poderr"],"warning",pod=q,instance=f"{podip(q,e.host[hh]['ip'])}:{v.port}"),t+U(0,120),b,f"Instance {q} error ratio high",round(U(3,25),1),flap=.3)
            elif c=="tgt": ps("TargetDown")
            elif c=="rr" and v.role=="sync": s.ep(None,s.base_l(v,r,"RequestRateDropped","warning"),t,b,f"Traffic to {v.id} is well below the same time last week",-round(U(20,50),1))
            elif c=="nodeNR": s.ep(None,s.node_l(h,"KubeNodeNotReady","critical",job="kube-state-metrics"),t,t+U(60,240),f"Node {h} not ready")
            elif c=="urp": s.ep(None,{"alertname":"KafkaUnderReplicatedPartitions","severity":"critical","job":"kafka-exporter","kafka_cluster":e.kafka[r],"broker":str(rng.randint(1,6)),"region":r},t,t+U(60,300),f"Broker of {e.kafka[r]} has under-replicated partitions",rng.randint(1,12))
            elif c=="xprobe" and e.ext: x=rng.choice(sorted(e.ext)); s.ep(None,{"alertname":"BlackboxProbeFailed","severity":"warning","job":"blackbox-external","instance":f"https://{x}","target":x,"region":rng.choice(e.rn)},t,t+U(60,300),f"Probe of {x} fails",0,flap=.4)
            elif c=="ep" and v.role=="sync" and v.err: s.ep(None,s.base_l(v,r,"EndpointErrorRateHigh","warning",handler=rng.choice(v.handlers),method="GET"),t,b,f"an endpoint of {v.id} returns 5xx",round(U(2,12),1),flap=.4)
        elif kind=="synthetic":
            en=rng.choice(s.entries); rr=rng.choice(en.regions)
            s.ep(None,{"alertname":"SyntheticJourneyFailing","severity":"critical","journey":en.entry[1],"region":rr,"job":"synthetics","team":"web-platform"},t,t+U(60,300),f"Synthetic journey {en.entry[1]} fails in {rr}",round(U(5,30),1))

    # ---------- dedupe, volume, output
    @staticmethod
    def fp(l): return tuple(sorted(l.items()))
    def clean(s,eps,busy):
        out=[]
        for x in sorted(eps,key=lambda z:z[0]):
            f=s.fp(x[2]); last=busy.get(f)
            if last and any(x[0]<b+30 and x[1]>a-30 for a,b in last): continue
            busy.setdefault(f,[]).append((x[0],x[1])); out.append(x)
        return out
    MULT={"critical":1,"warning":2,"info":4}
    def nlines(s,x,R):
        b=min(x[1],s.W); iv=R*s.MULT.get(x[2]["severity"],2)
        return 1+int((b-x[0])/iv)+(1 if x[1]<s.W else 0)

    def finish(s):
        rng=s.rng; T=rng.uniform(5000,19500) ; f=rng.uniform(.2,.6)
        busy={}; true=s.clean(s.eps,busy); target=T*(1-f)
        # cap: no incident above 45 % of the true episodes (thin its pod-grain alerts)
        if len(s.incs)>=4:
            for _ in range(6):
                cnt=defaultdict(int)
                for x in true: cnt[x[5]]+=1
                tot=len(true); w=max(cnt,key=cnt.get)
                if cnt[w]<=.45*tot: break
                if _>=3 and cnt[w]>.55*tot:                           # few pod-grain alerts left: thin every rule alike
                    k2=.5*(tot-cnt[w])/.5/cnt[w]; true=[x for x in true if x[5]!=w or rng.random()<max(k2,.35)]; continue
                keep=max(.3,.45*(tot-cnt[w])/.55/cnt[w]); true=[x for x in true if x[5]!=w or x[6]!="pod" or rng.random()<keep]
        L=lambda R,xs: sum(s.nlines(x,R) for x in xs)
        while L(7200,true)>target:
            pod=[x for x in true if x[6]=="pod"]
            if len(pod)<100: break
            true=[x for x in true if x[6]!="pod" or rng.random()<.8]
        lo,hi=60.,7200.
        for _ in range(30):
            m=math.sqrt(lo*hi)
            if L(m,true)>target: lo=m
            else: hi=m
        R=s.R=hi; nt=L(R,true)
        # noise until its share is met
        want=max(nt*f/(1-f), 0)
        s.svclist=sorted((v for v in s.e.svc.values()),key=lambda v:v.id); s.dblist=sorted(s.e.db); s.entries=[v for v in s.svclist if v.entry]
        wd=[]
        for c in sorted({s.e.cluster(v,r) for v in s.svclist for r in v.regions}):
            wd.append([rng.uniform(0,20),s.W+1,{"alertname":"Watchdog","severity":"none","cluster":c,"prometheus":"monitoring/k8s"},{"summary":"Alerting pipeline heartbeat"},None,None,"svc"])
        noise=s.clean(wd,busy); nn=L(R,noise); guard=0
        cap=min(max(want,5300-nt), 20000*.98-nt, nt*1.45)
        while nn<cap and guard<20000:
            guard+=1; s.eps=[]; s.noise_unit(); c=s.clean(s.eps,busy); noise+=c; nn+=L(R,c)
        sevof={i["id"]:i["sev"] for i in s.incs}
        lines=[]
        for x in true+noise:
            a,b,l,ann,val,truth,_=x
            def rec_(t,start,endt=None,status="firing"):
                o={"labels":l,"annotations":ann,"startsAt":s.ts(start)}
                if endt is not None: o["endsAt"]=s.ts(endt)
                o["status"]=status
                if val is not None: o["value"]=val if status=="firing" or not isinstance(val,(int,float)) else round(val*rng.uniform(0,.3),2)
                o["truth"]=truth
                if truth: o["severity_truth"]=sevof[truth]
                lines.append((t,len(lines),o))
            rec_(a,a)
            iv=R*s.MULT.get(l["severity"],2); t=a+iv
            while t<min(b,s.W): rec_(t,t if s.resends=="restamp" else a); t+=iv
            if b<s.W and rng.random()<.95: rec_(b,a,b,"resolved")
            if rng.random()<.03 and b-a>20:                       # HA Prometheus twin
                d=rng.uniform(1,15); rec_(a+d,a+d)
        lines.sort(key=lambda z:(z[0],z[1]))
        s.lines=[o for _,_,o in lines]; s.noise_share=sum(1 for o in s.lines if o["truth"] is None)/len(s.lines)
    def ts(s,t):
        d=s.base+datetime.timedelta(milliseconds=round(t*1000)); return d.strftime("%Y-%m-%dT%H:%M:%S.")+f"{d.microsecond//1000:03d}Z"

NODE_LABEL={"CPUThrottlingHigh","InstanceLatencyHigh","KubePodNotReady"}
NO_VALUE={"KubePodNotReady","KubePodCrashLooping","CPUThrottlingHigh","KubeContainerOOMKilled","KubeDeploymentReplicasMismatch","KubeNodeNotReady","ContainerMemoryNearLimit","KafkaConsumerRebalancing","NodeExporterDown","TargetDown","ConfigReloaded"}
TEXT={"CPUThrottlingHigh":"{pod} is throttled","ContainerMemoryNearLimit":"{pod} uses over 90% of its memory limit","KubePodNotReady":"Pod {namespace}/{pod} not ready","KubePodCrashLooping":"Pod {namespace}/{pod} is crash looping",
"KubeContainerOOMKilled":"Container in {pod} was OOM killed","KubeJobFailed":"Job {job_name} in {namespace} failed","KubeDeploymentReplicasMismatch":"Deployment {namespace}/{deployment} replicas mismatch","BlackboxProbeFailed":"Probe of {instance} fails",
"InstanceLatencyHigh":"{pod} slower than its objective","InstanceErrorRateHigh":"Instance {pod} error ratio high","PodHTTP5xxHigh":"Instance {pod} error ratio high","DeploymentRolledOut":"New rollout of {namespace}/{deployment}"}
def who(l):
    for k in ("pod","service","app","dbinstance_identifier","cache_cluster_id","table_name","domain_name","queue_name","node","target"):
        if k in l: return l[k]
    return l.get("job","").split("/")[-1]
def text_of(l,summary):
    nm=l["alertname"]
    if nm in TEXT: return TEXT[nm].format_map(defaultdict(str,l))
    if nm in KEEP_TEXT: return summary
    words="".join((" "+c.lower() if c.isupper() and i and not nm[i-1].isupper() else c) for i,c in enumerate(nm))
    tail="".join(f", {k} {l[k]}" for k in ("handler","upstream","dependency","consumergroup","topic","partition","pool") if k in l)
    return f"{words}: {who(l)}{tail}"
KEEP_TEXT={"ErrorBudgetBurn","SyntheticJourneyFailing","BusinessTransactionsBelowForecast","Watchdog","VendorStatusPageIncident","CertificateExpired","CertificateExpiresSoon","BlackboxTLSProbeFailed","KubeHpaMaxedOut","RDSFailoverStarted","DatabaseDown","DatabaseConnectionsExhausted","KafkaUnderReplicatedPartitions","KubeDeploymentRolloutStuck","KubeDeploymentGenerationChanged"}
def hash_off(x): return sum(ord(c)*(i+7) for i,c in enumerate(x))
def podip(p,hip):
    a=hip.split("."); h=hash_off(p); return f"{a[0]}.{a[1]}.{h%256}.{(h//7)%250+2}"

def main():
    args=[a for a in sys.argv[1:] if not a.startswith("--")]
    res="restamp"
    if "--resends" in sys.argv: res=sys.argv[sys.argv.index("--resends")+1]; args=[a for a in args if a!=res]
    seed,out=args[0],args[1]; os.makedirs(out,exist_ok=True)
    s=Storm(seed,res); e=s.e
    with open(os.path.join(out,"alerts.jsonl"),"w") as f:
        for o in s.lines: f.write(json.dumps(o,separators=(",",":"))+"\n")
    topo={"nodes":[{"id":n,"kind":k} for n,k in sorted(e.nodes.items())],"edges":[{"from":a,"to":b} for a,b in sorted(e.edges)]}
    with open(os.path.join(out,"topology.json"),"w") as f: json.dump(topo,f)
    # what happened; never shown to what is measured
    per=defaultdict(int)
    for o in s.lines: per[o["truth"]]+=1
    meta={"seed":seed,"company":e.company,"services":len(e.svc),"hosts":len(e.host),"regions":e.rn,"contested_node_regions":s.contested,"resend_base_s":round(s.R),
      "incidents":[{"id":i["id"],"kind":i["kind"],"roots":i["roots"],"also_hit":i["p"].get("dbs",[]),"regions":sorted({r for _,r,*_ in i["seeds"]}),"start":s.ts(i["start"]),"end":s.ts(i["end"]),"severity":i["sev"],"impact":i["impact"],
        "affected":len(i["imp"]),"lines":per[i["id"]]} for i in sorted(s.incs,key=lambda z:z["start"])]}
    with open(os.path.join(out,"meta.json"),"w") as f: json.dump(meta,f,indent=1)
if __name__=="__main__": main()
