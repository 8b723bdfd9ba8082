//! One night by a seed: trouble for some minutes, then calm until everything has come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::serve;
use axum::body::Body;
use axum::http::Request;
use midwatch::adapters::kubernetes::{Access, Bearer, KubernetesCluster};
use midwatch::api::DeskInbox;
use midwatch::config::Config;
use midwatch::domain::card::ButtonAction;
use midwatch::domain::id::PersonId;
use midwatch::domain::incident::{Incident, IncidentEvent, Outcome, State};
use midwatch::domain::plan::Plan;
use midwatch::domain::topology::Topology;
use midwatch::flow::authority::Authority;
use midwatch::flow::desk::{ChatSeat, FlowError};
use midwatch::flow::lead::{self, Term};
use midwatch::flow::{self, Desk};
use midwatch::ports::{Clock as _, FromPeople, Inbox as _, Person, Place};
use midwatch::prompt::Prompts;
use midwatch::store::{Batch, Draft, Scope, Store};
use midwatch::world::kubernetes::{DeploymentSpec, KubeState, PodHealth, router};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::around::{CHAT, Gossip, HOOKS, KillSwitch, Luck, Phones, Shaky, Turned, proven};
use super::truth;

#[derive(Debug, Default, Clone)]
pub struct Sums {
    pub alerts: usize,
    pub incidents: usize,
    pub plans: usize,
    pub writes: usize,
    pub calls: usize,
    pub verified: usize,
    pub undone: usize,
    pub failed: usize,
    pub rejected: usize,
    pub expired: usize,
    pub voided: usize,
    pub pauses: usize,
    pub crashes: usize,
    pub jumps: usize,
    pub faults: usize,
    pub messages: usize,
    pub taken_back: usize,
}

impl Sums {
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.alerts, other.alerts),
            (&mut self.incidents, other.incidents),
            (&mut self.plans, other.plans),
            (&mut self.writes, other.writes),
            (&mut self.calls, other.calls),
            (&mut self.verified, other.verified),
            (&mut self.undone, other.undone),
            (&mut self.failed, other.failed),
            (&mut self.rejected, other.rejected),
            (&mut self.expired, other.expired),
            (&mut self.voided, other.voided),
            (&mut self.pauses, other.pauses),
            (&mut self.crashes, other.crashes),
            (&mut self.jumps, other.jumps),
            (&mut self.faults, other.faults),
            (&mut self.messages, other.messages),
            (&mut self.taken_back, other.taken_back),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
    }
}

pub const SERVICES: [&str; 3] = ["web", "cart", "pay"];
const ANN: &str = "T1/ann";
const BOB: &str = "T1/bob";
const GUEST: &str = "T1/guest";
/// Event time in which things go wrong.
const TROUBLE: Duration = Duration::from_secs(150);
/// By then everything must have come to an end: the longest waits are those of an approval (40 s) and
/// of a verification (90 s: a rollout of two takes up to 50 s), twice.
const CALM: Duration = Duration::from_secs(900);

/// What the program's leader runs, as far as it matters here.
fn drivers(desk: Arc<Desk>) -> JoinSet<()> {
    let mut running = JoinSet::new();
    running.spawn(driven(desk.clone(), flow::intake::run));
    running.spawn(driven(desk.clone(), flow::investigate::run));
    running.spawn(driven(desk.clone(), flow::execute::run));
    running.spawn(driven(desk.clone(), flow::earn::run));
    running.spawn(driven(desk.clone(), flow::deliver::run));
    running.spawn(driven(desk.clone(), flow::respond::run));
    running.spawn(driven(desk.clone(), flow::approve::run_expiry));
    running.spawn(driven(desk, flow::escalate::run));
    running
}

async fn driven<F: Future<Output = Result<(), FlowError>>>(desk: Arc<Desk>, run: impl Fn(Arc<Desk>) -> F) {
    while !desk.stopping() {
        if run(desk.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Real time in which everything that can be done before the clock is turned must be done.
const REST: Duration = Duration::from_secs(60);

struct Alive {
    desk: Arc<Desk>,
    tasks: JoinSet<()>,
    _stop: tokio::sync::watch::Sender<bool>,
}

pub struct Night {
    random: StdRng,
    pub luck: Arc<Luck>,
    pub clock: Arc<Turned>,
    folder: tempfile::TempDir,
    pub state: Arc<Mutex<KubeState>>,
    url: String,
    under_way: Arc<AtomicU64>,
    pub switch: Arc<KillSwitch>,
    pub calls: Arc<Mutex<Vec<(String, String)>>>,
    pub chat: Arc<Gossip>,
    alive: Option<Alive>,
    /// Whether what is done to the cluster makes anything better.
    helps: bool,
    pub sums: Sums,
    acts: u64,
    /// What a 2xx promised to keep: services by what was last said of them.
    pub accepted: BTreeMap<&'static str, bool>,
    pub fired: BTreeSet<&'static str>,
}

/// In a world whose clock stands still.
fn with_night<T>(seed: u64, policy: &str, spend: impl AsyncFnOnce(&mut Night) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        // While a blocking task is under way the runtime does not skip ahead by itself.
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let holding = tokio::task::spawn_blocking(move || ended.recv().is_ok());
        let mut night = Night::new(seed, policy).await;
        let spent = spend(&mut night).await;
        night.alive = None;
        drop(end);
        holding.await.unwrap();
        spent
    })
}

pub fn play(seed: u64) -> (Vec<String>, Sums) {
    with_night(seed, "", async |night| (night.live().await, night.sums.clone()))
}

/// Scales with everybody's leave, dies as soon as it is written, and is away until long after the
/// deadline of its effect; how that ended.
pub fn away_after_the_write() -> (Outcome, String) {
    with_night(1, "", async |night| {
        night.luck.on.store(false, Ordering::SeqCst);
        night.helps = true;
        night.alert("web", true).await;
        night.until(|incident| matches!(incident.state, State::HandedOver { .. })).await;
        night.says(ANN, "act INC-1 scale web/web 4".into()).await;
        let plan = night.until(|incident| !incident.plans.is_empty()).await.plans.remove(0).plan;
        for who in [BOB, ANN] {
            let value = format!("{}.{}", plan.id, plan.digest.short());
            night.presses(who, ButtonAction::Approve, value).await;
        }
        night.until(|incident| incident.plans[0].outcome == Outcome::Written).await;
        night.die().await;
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(60)).await;
            night.step();
        }
        night.boot().await;
        night.alert("web", false).await;
        let record = night.until(|incident| is_final(&incident.plans[0].outcome)).await.plans.remove(0);
        (record.outcome, format!("{:?}", record.facts))
    })
}

/// Restarts without anybody's leave, while a status writer comes between so many times.
pub fn restarted_by_itself(conflicts: u64) -> (Outcome, usize, String) {
    with_night(1, "low = \"automatic\"\n", async |night| {
        night.luck.on.store(false, Ordering::SeqCst);
        night.luck.conflicts.store(conflicts, Ordering::SeqCst);
        night.helps = true;
        night.alert("web", true).await;
        night.until(|incident| matches!(incident.state, State::HandedOver { .. })).await;
        night.says(ANN, "act INC-1 restart web/web".into()).await;
        let asked = night.until(|incident| !incident.plans.is_empty()).await.plans.remove(0).plan;
        night.presses(ANN, ButtonAction::Reject, format!("{}.{}", asked.id, asked.digest.short())).await;
        let incident = night.until(|incident| incident.plans[0].outcome == Outcome::Rejected).await;
        // The same, as a diagnosis proposes it, which nobody asked for.
        let plan = Plan { id: incident.id.plan(2), requester: None, approvals_needed: 0, ..asked };
        let approved = IncidentEvent::PlanApproved { plan: plan.id.clone(), by: vec![], digest: plan.digest.clone() };
        let proposed = IncidentEvent::PlanProposed { plan: Box::new(plan), ruling: "low risk".into() };
        let (diagnosis, suspect, evidence) = proven(&incident);
        let looks =
            IncidentEvent::InvestigationStarted { reasoner: "none".into(), because: "it is looked at again".into() };
        let (mut draft, wall_now) = (Draft::of(incident), night.clock.wall_now());
        draft.record(looks, wall_now).unwrap();
        draft.record(IncidentEvent::Ranked { candidates: vec![suspect] }, wall_now).unwrap();
        draft.record(IncidentEvent::Diagnosed { diagnosis }, wall_now).unwrap();
        draft.record(proposed, wall_now).unwrap();
        draft.record(approved, wall_now).unwrap();
        let batch = Batch { drafts: vec![draft], evidence, ..Batch::default() };
        night.desk().store.commit(batch, wall_now).await.unwrap();
        night.until(|incident| incident.plans[1].outcome != Outcome::Approved).await;
        night.alert("web", false).await;
        let record = night.until(|incident| is_final(&incident.plans[1].outcome)).await.plans.remove(1);
        let writes = night.state.lock().unwrap().writes();
        (record.outcome, writes.iter().filter(|write| write.status < 300).count(), format!("{:?}", record.facts))
    })
}

impl Night {
    async fn new(seed: u64, policy: &str) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = Arc::new(Turned::new());
        let luck = Arc::new(Luck::of(seed ^ 0x5eed));
        let state = Arc::new(Mutex::new(cluster(clock.true_millis())));
        let of_clock = clock.clone();
        let app = router(state.clone(), Arc::new(move || of_clock.true_millis()));
        let url = serve(app).await;
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[store]\ndata_dir = {:?}\n[console]\nenabled = false\n[policy]\napprovers = [\"{ANN}\", \"{BOB}\"]\n\
             approval_seconds = 40\n{policy}[investigation]\nsettle_seconds = 1\nverify_seconds = 90\n\
             [remediation]\nlook_seconds = 3\n[kubernetes]\ncluster = \"c\"\nurl = \"{url}\"\n",
            folder.path().join("data"),
        );
        std::fs::write(folder.path().join("midwatch.toml"), text).unwrap();
        let helps = random.random_bool(0.6);
        let chat = Arc::new(Gossip { luck: luck.clone(), clock: clock.clone(), said: Mutex::default() });
        let mut night = Self {
            random,
            luck,
            clock,
            folder,
            state,
            url,
            under_way: Arc::default(),
            switch: Arc::default(),
            calls: Arc::default(),
            chat,
            alive: None,
            helps,
            sums: Sums::default(),
            acts: 0,
            accepted: BTreeMap::new(),
            fired: BTreeSet::new(),
        };
        night.boot().await;
        night
    }

    fn config(&self) -> Config {
        Config::load(Some(&self.folder.path().join("midwatch.toml")), &|_| None).unwrap()
    }

    /// The program's start, with the ports of this night.
    async fn boot(&mut self) {
        let config = self.config();
        std::fs::create_dir_all(&config.store.data_dir).unwrap();
        let store = Arc::new(Store::open(&config.store_address()).await.unwrap());
        let access = Access::at(&self.url, Bearer::Own);
        let inner = KubernetesCluster::connect(&access, Some(&access)).await.unwrap();
        let (luck, switch) = (self.luck.clone(), self.switch.clone());
        let hooks = Phones { luck: luck.clone(), switch: switch.clone(), calls: self.calls.clone() };
        let cluster = Shaky { inner, luck, under_way: self.under_way.clone(), switch };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let desk = Arc::new(Desk {
            store,
            started_at: self.clock.wall_now(),
            clock: self.clock.clone(),
            policy: Arc::new(config.policy.policy().unwrap()),
            authority: Arc::new(Authority::new(None)),
            signals: None,
            cluster: Some(Arc::new(cluster)),
            hooks: Some(Arc::new(hooks)),
            traces: None,
            tools: Arc::new(midwatch::app::toolbox(&config).await.unwrap()),
            model: None,
            small_model: None,
            breaker: Arc::default(),
            memory: None,
            shelved: tokio::sync::watch::channel(true).1,
            prompts: Arc::new(Prompts::load(None).unwrap()),
            chats: Arc::new(vec![ChatSeat { chat: self.chat.clone(), channel: "C1".into(), channels: None }]),
            artist: Arc::default(),
            routing: config.routing.routing(),
            outlets: vec![],
            rotas: vec![],
            topology: Arc::new(tokio::sync::RwLock::new(Arc::new(Topology::default()))),
            bells: Arc::default(),
            gate: Arc::default(),
            counters: Arc::default(),
            neighbours: Arc::default(),
            stop: stopped,
            leads: Arc::default(),
            term: Term::default(),
            silencing: Arc::default(),
            noting: Arc::default(),
            past: tokio::sync::Mutex::default(),
            ear: Arc::default(),
            mappings: config.mappings().unwrap(),
            rules: config.triage_rules().unwrap(),
            config: Arc::new(config),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(driven(desk.clone(), flow::gate::run));
        let (looked, known) = tokio::sync::oneshot::channel();
        tasks.spawn(lead::run(desk.clone(), drivers, looked));
        known.await.unwrap();
        self.alive = Some(Alive { desk, tasks, _stop: stop });
        self.settle().await;
    }

    pub fn desk(&self) -> Arc<Desk> {
        self.alive.as_ref().unwrap().desk.clone()
    }

    /// Until nobody has anything to do before the clock is turned.
    async fn settle(&self) {
        let (mut quiet, began) = (0, std::time::Instant::now());
        while quiet < 3 {
            assert!(began.elapsed() < REST, "it does not come to rest");
            for _ in 0..24 {
                tokio::task::yield_now().await;
            }
            // The store's threads and the sockets live in real time.
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_micros(120))).await.unwrap();
            let busy = self.alive.as_ref().is_some_and(|alive| alive.desk.store.is_busy());
            let waits = self.under_way.load(Ordering::SeqCst) > 0;
            quiet = if busy || waits { 0 } else { quiet + 1 };
        }
    }

    /// The one incident, once it is so.
    async fn until(&mut self, is_so: impl Fn(&Incident) -> bool) -> Incident {
        for _ in 0..600 {
            if let Some(incident) = self.incidents().await.into_iter().find(|incident| is_so(incident)) {
                return incident;
            }
            self.turn(Duration::from_millis(500)).await;
        }
        panic!("it does not come to that: {:#?}", self.incidents().await);
    }

    /// What controllers and pods do meanwhile.
    fn step(&mut self) {
        let (now, helps) = (self.clock.true_millis(), self.helps);
        let mut health =
            |pod: &midwatch::world::kubernetes::PodView| match !helps && pod.started_at > super::around::START {
                true => PodHealth::NotReady("not yet".into()),
                false => PodHealth::Ready,
            };
        self.state.lock().unwrap().step(now, &mut health);
    }

    async fn turn(&mut self, span: Duration) {
        // All that is begun from here on could have read it, unless its end is on the way.
        self.settle().await;
        let paused = self.desk().paused().await.is_some();
        if !paused {
            self.switch.lifted.store(false, Ordering::SeqCst);
        }
        self.switch.thrown.store(paused && !self.switch.lifted.load(Ordering::SeqCst), Ordering::SeqCst);
        tokio::time::advance(span).await;
        self.step();
        self.settle().await;
    }

    /// As `kill -9` would: wherever each task stands, it goes no further.
    async fn die(&mut self) {
        let Some(mut alive) = self.alive.take() else { return };
        alive.tasks.abort_all();
        while alive.tasks.join_next().await.is_some() {}
        drop(alive);
        self.under_way.store(0, Ordering::SeqCst);
    }

    async fn crash(&mut self) {
        self.die().await;
        self.sums.crashes += 1;
        self.boot().await;
    }

    async fn alert(&mut self, service: &'static str, firing: bool) {
        let now = self.desk().clock.event_now().to_string();
        let ends = if firing { "0001-01-01T00:00:00Z".to_owned() } else { now.clone() };
        let body = json!([{
            "status": if firing { "firing" } else { "resolved" },
            "labels": {"alertname": "Down", "service": service, "namespace": service, "severity": "critical"},
            "startsAt": now, "endsAt": ends,
        }]);
        let request = Request::post("/webhooks/alertmanager").header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = midwatch::api::router(self.desk()).oneshot(request).await.unwrap();
        if answer.status().is_success() {
            self.sums.alerts += 1;
            self.accepted.insert(service, firing);
            if firing {
                self.fired.insert(service);
            }
        }
    }

    /// Delivered until it is acknowledged, and now and then once more.
    async fn acts(&mut self, who: &str, act: impl Fn(Place, Person) -> FromPeople) {
        self.acts += 1;
        let place = Place { channel: "C1".into(), thread: None, message: None, command: None };
        let name = who.rsplit('/').next().unwrap_or_default().to_owned();
        let act = act(place, Person { id: PersonId::new(who), name });
        let times = 1 + usize::from(self.random.random_bool(0.2));
        for _ in 0..times {
            let inbox = DeskInbox { desk: self.desk(), chat: CHAT.into() };
            let _ = inbox.accept(&format!("act-{}", self.acts), act.clone()).await;
        }
    }

    async fn resume(&mut self) {
        self.switch.lifted.store(true, Ordering::SeqCst);
        self.switch.thrown.store(false, Ordering::SeqCst);
        self.says(ANN, "resume".into()).await;
    }

    async fn says(&mut self, who: &str, text: String) {
        self.acts(who, move |place, by| FromPeople::Command { place, by, text: text.clone() }).await;
    }

    async fn presses(&mut self, who: &str, action: ButtonAction, value: String) {
        let reason = (action == ButtonAction::Reject).then(|| "not now".to_owned());
        self.acts(who, move |place, by| FromPeople::Click {
            place,
            by,
            action,
            value: value.clone(),
            reason: reason.clone(),
        })
        .await;
    }

    pub async fn incidents(&self) -> Vec<Incident> {
        self.desk().store.incidents(Scope::All).await.unwrap()
    }

    /// What somebody does about one incident.
    async fn attend(&mut self, incident: &Incident) {
        let who = if self.random.random_bool(0.5) { ANN } else { BOB };
        match incident.plans.last() {
            Some(record) if record.outcome == Outcome::Proposed => {
                let value = format!("{}.{}", record.plan.id, record.plan.digest.short());
                match self.random.random_range(0..10) {
                    0..=4 => {
                        // Both at once, and somebody who may not.
                        self.presses(ANN, ButtonAction::Approve, value.clone()).await;
                        self.presses(GUEST, ButtonAction::Approve, value.clone()).await;
                        self.presses(BOB, ButtonAction::Approve, value).await;
                    }
                    5 => self.presses(who, ButtonAction::Reject, value).await,
                    6 => self.presses(GUEST, ButtonAction::Approve, value).await,
                    _ => {}
                }
            }
            Some(record) if !is_final(&record.outcome) => {}
            _ if matches!(incident.state, State::HandedOver { .. }) => {
                let Some(service) = incident.subjects().into_iter().next() else { return };
                let wish = match self.random.random_range(0..5) {
                    0 => format!("restart {service}/{service}"),
                    1 => HOOKS[self.random.random_range(0..2)].0.to_owned(),
                    _ => format!("scale {service}/{service} {}", self.random.random_range(3..7)),
                };
                self.says(who, format!("act {} {wish}", incident.id)).await;
            }
            _ => {}
        }
    }

    /// Monitoring sees what helped, where anything does.
    async fn watch(&mut self) {
        if !self.helps || !self.random.random_bool(0.5) {
            return;
        }
        let written: Vec<&'static str> = self
            .incidents()
            .await
            .iter()
            .filter(|incident| incident.plans.last().is_some_and(|record| record.outcome == Outcome::Written))
            .flat_map(|incident| SERVICES.into_iter().filter(|service| incident.subjects().contains(service)))
            .collect();
        for service in
            written.into_iter().filter(|service| self.accepted.get(service) == Some(&true)).collect::<Vec<_>>()
        {
            self.alert(service, false).await;
        }
    }

    async fn live(&mut self) -> Vec<String> {
        let began = tokio::time::Instant::now();
        while began.elapsed() < TROUBLE {
            let service = SERVICES[self.random.random_range(0..SERVICES.len())];
            match self.random.random_range(0..100) {
                0..=11 => self.alert(service, true).await,
                12..=14 => self.alert(service, false).await,
                15..=39 => {
                    let incidents = self.incidents().await;
                    if !incidents.is_empty() {
                        let one = incidents[self.random.random_range(0..incidents.len())].clone();
                        self.attend(&one).await;
                    }
                }
                40 => {
                    self.switch.lifted.store(false, Ordering::SeqCst);
                    self.says(GUEST, "pause because of the test".into()).await;
                    self.sums.pauses += 1;
                }
                41..=43 => self.resume().await,
                44..=46 => self.crash().await,
                47 => {
                    let hour = if self.random.random_bool(0.5) { 3_600_000 } else { -3_600_000 };
                    let jumped = self.clock.jump_millis.swap(hour, Ordering::SeqCst) != 0;
                    if jumped {
                        self.clock.jump_millis.store(0, Ordering::SeqCst);
                    }
                    self.sums.jumps += 1;
                }
                _ => {}
            }
            self.watch().await;
            let span = Duration::from_millis(self.random.random_range(300..4_000));
            self.turn(span).await;
        }
        self.luck.on.store(false, Ordering::SeqCst);
        self.clock.jump_millis.store(0, Ordering::SeqCst);
        self.resume().await;
        self.turn(Duration::from_secs(1)).await;
        let calm = tokio::time::Instant::now();
        let mut ends = vec![];
        while calm.elapsed() < CALM {
            self.turn(Duration::from_secs(4)).await;
            for service in SERVICES {
                if self.accepted.get(service) == Some(&true) {
                    self.alert(service, false).await;
                }
            }
            ends = truth::unfinished(self).await;
            if ends.is_empty() {
                break;
            }
        }
        // P4 gives a duplicate a minute.
        for _ in 0..16 {
            self.turn(Duration::from_secs(4)).await;
        }
        let mut violations: Vec<String> = ends;
        violations.extend(truth::check(self).await);
        self.sums.faults = self.luck.faults.load(Ordering::SeqCst) as usize;
        violations
    }
}

pub fn is_final(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Proposed | Outcome::Approved | Outcome::Started | Outcome::Written | Outcome::NotVerified
    )
}

fn cluster(now: i64) -> KubeState {
    let mut state = KubeState::new(7);
    state.add_node("node-1", 32, now - 900_000);
    for name in SERVICES {
        let spec = DeploymentSpec {
            namespace: name.into(),
            name: name.into(),
            replicas: 2,
            image: "registry/app:1".into(),
            cpu_limit: "100m".into(),
            mem_limit: "64Mi".into(),
            ..DeploymentSpec::default()
        };
        state.add_deployment(&spec, now - 900_000);
    }
    state.step(now - 600_000, &mut |_| PodHealth::Ready);
    state.step(now - 60_000, &mut |_| PodHealth::Ready);
    state
}
