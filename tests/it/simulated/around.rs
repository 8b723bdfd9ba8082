//! What stands around the watch: a clock that is turned, a cluster and a chat that fail by a seed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use midwatch::adapters::kubernetes::KubernetesCluster;
use midwatch::domain::action::{Action, Right, RiskTier, Target};
use midwatch::domain::card::Card;
use midwatch::domain::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use midwatch::domain::evidence::{Evidence, EvidenceKind, Taint};
use midwatch::domain::id::{Digest, PersonId};
use midwatch::domain::incident::Incident;
use midwatch::domain::plan::Surroundings;
use midwatch::domain::root_cause::Candidate;
use midwatch::domain::time::Timestamp;
use midwatch::ports::{
    Applied, Chat, ChatError, Clock, Cluster, ClusterError, ClusterEvent, DeclaredHook, DryRun, Grant, Hooks, Identity,
    MessageRef, NodeState, Place, PodLogs, PodState, Revision, Settled, Took, Wish, Workload,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub const START: i64 = 1_790_000_000_000;

/// Follows the runtime's clock, which only moves when the night turns it; wall time may jump.
pub struct Turned {
    began: tokio::time::Instant,
    pub jump_millis: AtomicI64,
}

impl Turned {
    pub fn new() -> Self {
        Self { began: tokio::time::Instant::now(), jump_millis: AtomicI64::new(0) }
    }

    pub fn true_millis(&self) -> i64 {
        START + self.began.elapsed().as_millis() as i64
    }
}

#[async_trait]
impl Clock for Turned {
    fn event_now(&self) -> Timestamp {
        Timestamp::from_millis(self.true_millis())
    }

    fn steady_now(&self) -> Timestamp {
        Timestamp::from_millis(self.true_millis())
    }

    fn wall_now(&self) -> Timestamp {
        Timestamp::from_millis(self.true_millis() + self.jump_millis.load(Ordering::SeqCst))
    }

    async fn sleep_event(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// One in so many calls goes wrong while `on`.
pub struct Luck {
    random: Mutex<StdRng>,
    pub on: std::sync::atomic::AtomicBool,
    pub faults: AtomicU64,
    /// Writes that find another version, whatever the luck.
    pub conflicts: AtomicU64,
}

impl Luck {
    pub fn of(seed: u64) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Self { random, on: true.into(), faults: AtomicU64::new(0), conflicts: AtomicU64::new(0) }
    }

    pub fn upto(&self, most: u64) -> u64 {
        self.random.lock().unwrap().random_range(0..most.max(1))
    }

    /// Which of so many faults, in one of `rarity` calls.
    fn fault(&self, kinds: u64, rarity: u64) -> Option<u64> {
        let hit = self.on.load(Ordering::SeqCst) && self.upto(rarity) == 0;
        hit.then(|| {
            self.faults.fetch_add(1, Ordering::SeqCst);
            self.upto(kinds)
        })
    }

    /// A call takes its time now and then.
    async fn dawdle(&self) {
        if self.on.load(Ordering::SeqCst) && self.upto(3) == 0 {
            tokio::time::sleep(Duration::from_millis(self.upto(2_500))).await;
        }
    }
}

/// The real adapter behind a network that loses requests and answers.
pub struct Shaky {
    pub inner: KubernetesCluster,
    pub luck: Arc<Luck>,
    /// Calls that wait for an answer of the API server.
    pub under_way: Arc<AtomicU64>,
    pub switch: Arc<KillSwitch>,
}

/// What was begun although the kill switch had been thrown before the clock was last turned.
#[derive(Default)]
pub struct KillSwitch {
    pub thrown: std::sync::atomic::AtomicBool,
    /// Somebody has said so, and it may not have been read yet.
    pub lifted: std::sync::atomic::AtomicBool,
    pub ignored: Mutex<Vec<String>>,
}

impl KillSwitch {
    fn sees(&self, what: String) {
        if self.thrown.load(Ordering::SeqCst) {
            self.ignored.lock().unwrap().push(what);
        }
    }
}

struct Under<'a>(&'a AtomicU64);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shaky {
    fn under(&self) -> Under<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Under(&self.under_way)
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T, ClusterError>>) -> Result<T, ClusterError> {
        if self.luck.fault(1, 14).is_some() {
            return Err(ClusterError::Unavailable("connection refused".into()));
        }
        let _under = self.under();
        call.await
    }
}

#[async_trait]
impl Cluster for Shaky {
    async fn workloads(&self) -> Result<Vec<Workload>, ClusterError> {
        self.read(self.inner.workloads()).await
    }
    async fn pods(&self, namespace: Option<&str>) -> Result<Vec<PodState>, ClusterError> {
        self.read(self.inner.pods(namespace)).await
    }
    async fn nodes(&self) -> Result<Vec<NodeState>, ClusterError> {
        self.read(self.inner.nodes()).await
    }
    async fn events(&self, namespace: Option<&str>) -> Result<Vec<ClusterEvent>, ClusterError> {
        self.read(self.inner.events(namespace)).await
    }
    async fn revisions(&self, kind: &str, namespace: &str, workload: &str) -> Result<Vec<Revision>, ClusterError> {
        self.read(self.inner.revisions(kind, namespace, workload)).await
    }
    async fn pod_logs(&self, namespace: &str, pod: &str, of: PodLogs, lines: i64) -> Result<String, ClusterError> {
        self.read(self.inner.pod_logs(namespace, pod, of, lines)).await
    }
    async fn prepare(&self, wish: &Wish) -> Result<Action, ClusterError> {
        self.read(self.inner.prepare(wish)).await
    }
    async fn dry_run(&self, action: &Action) -> Result<DryRun, ClusterError> {
        self.luck.dawdle().await;
        self.read(self.inner.dry_run(action)).await
    }
    async fn apply(&self, action: &Action, version: &str, mark: &str) -> Result<Applied, ClusterError> {
        self.switch.sees(format!("{mark}: {action}"));
        self.luck.dawdle().await;
        let one_less = |left: u64| left.checked_sub(1);
        if self.luck.conflicts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(ClusterError::Conflict("the object has been modified".into()));
        }
        let fault = self.luck.fault(5, 4);
        match fault {
            Some(0) => return Err(ClusterError::Unavailable("connection refused".into())),
            Some(1) => return Err(ClusterError::Unknown("the request may have been lost".into())),
            Some(2) => return Err(ClusterError::Conflict("the object has been modified".into())),
            _ => {}
        }
        let written = {
            let _under = self.under();
            self.inner.apply(action, version, mark).await
        };
        self.luck.dawdle().await;
        match fault {
            Some(3 | 4) => Err(ClusterError::Unknown("the answer was lost".into())),
            _ => written,
        }
    }
    async fn took_effect(&self, action: &Action, mark: &str) -> Result<Took, ClusterError> {
        self.read(self.inner.took_effect(action, mark)).await
    }
    async fn settled(&self, action: &Action, mark: &str) -> Result<Settled, ClusterError> {
        self.read(self.inner.settled(action, mark)).await
    }
    async fn surroundings(&self, action: &Action) -> Result<Surroundings, ClusterError> {
        self.read(self.inner.surroundings(action)).await
    }
    async fn manifest(&self, target: &Target) -> Result<String, ClusterError> {
        self.read(self.inner.manifest(target)).await
    }
    async fn config_data(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, ClusterError> {
        self.read(self.inner.config_data(namespace, name)).await
    }
    async fn grants(&self, who: Identity, namespaces: &[String], rights: &[Right]) -> Result<Vec<Grant>, ClusterError> {
        self.inner.grants(who, namespaces, rights).await
    }
    async fn check(&self) -> Result<String, ClusterError> {
        self.inner.check().await
    }
}

/// Two declared addresses, each of which undoes the other; they count who called.
pub struct Phones {
    pub luck: Arc<Luck>,
    pub switch: Arc<KillSwitch>,
    /// Of what arrived: the hook and the plan that it was called for.
    pub calls: Arc<Mutex<Vec<(String, String)>>>,
}

pub const HOOKS: [(&str, &str); 2] = [("purge", "fill"), ("fill", "purge")];

#[async_trait]
impl Hooks for Phones {
    fn declared(&self) -> Vec<DeclaredHook> {
        let of = |(name, undo): (&str, &str)| DeclaredHook {
            name: name.into(),
            description: "a cache".into(),
            service: "web".into(),
            tier: RiskTier::Medium,
            digest: format!("digest-of-{name}"),
            undo: Some(undo.into()),
            sends: format!("POST https://cache.example/{name}"),
            success: None,
        };
        HOOKS.map(of).to_vec()
    }
    async fn rehearse(&self, _: &str) -> Result<String, ClusterError> {
        self.luck.dawdle().await;
        match self.luck.fault(1, 14) {
            Some(_) => Err(ClusterError::Unavailable("connection refused".into())),
            None => Ok("reachable".into()),
        }
    }
    async fn call(&self, name: &str, mark: &str) -> Result<String, ClusterError> {
        self.switch.sees(format!("{mark}: call {name}"));
        self.luck.dawdle().await;
        let fault = self.luck.fault(5, 3);
        match fault {
            Some(0) => return Err(ClusterError::Unavailable("connection refused".into())),
            Some(1) => return Err(ClusterError::Unknown("the request may have been lost".into())),
            _ => {}
        }
        self.calls.lock().unwrap().push((name.to_owned(), mark.to_owned()));
        self.luck.dawdle().await;
        match fault {
            // It has begun, and says that it is busy.
            Some(2) => Err(ClusterError::Conflict("409".into())),
            Some(_) => Err(ClusterError::Unknown("the answer was lost".into())),
            None => Ok("200".into()),
        }
    }
    async fn dump(&self, _: &str) -> Option<Result<String, ClusterError>> {
        None
    }
}

#[derive(Debug, Clone)]
pub struct Said {
    pub ts: u64,
    /// Milliseconds of event time since the start of the night.
    pub at: i64,
    pub thread: Option<String>,
    pub key: String,
    pub card: Card,
    pub removed: bool,
}

/// A chat without idempotency, as Slack is.
pub struct Gossip {
    pub luck: Arc<Luck>,
    pub clock: Arc<Turned>,
    pub said: Mutex<Vec<Said>>,
}

pub const CHAT: &str = "slack";

impl Gossip {
    async fn before(&self) -> Result<bool, ChatError> {
        self.luck.dawdle().await;
        match self.luck.fault(4, 10) {
            Some(0) => Err(ChatError::RateLimited(Duration::from_millis(500 + self.luck.upto(4_000)))),
            Some(1) => Err(ChatError::Unavailable("503".into())),
            Some(2) => Err(ChatError::Unknown("the request may have been lost".into())),
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    async fn after<T>(&self, lost: bool, answer: T) -> Result<T, ChatError> {
        self.luck.dawdle().await;
        if lost { Err(ChatError::Unknown("the answer was lost".into())) } else { Ok(answer) }
    }
}

#[async_trait]
impl Chat for Gossip {
    fn name(&self) -> &str {
        CHAT
    }
    async fn post(
        &self,
        channel: &str,
        thread: Option<&MessageRef>,
        key: &str,
        card: &Card,
    ) -> Result<MessageRef, ChatError> {
        let lost = self.before().await?;
        let ts = {
            let mut said = self.said.lock().unwrap();
            let ts = said.len() as u64 + 1;
            let thread = thread.map(|root| root.ts.clone());
            let at = self.clock.true_millis() - START;
            said.push(Said { ts, at, thread, key: key.to_owned(), card: card.clone(), removed: false });
            ts
        };
        self.after(lost, MessageRef { channel: channel.to_owned(), ts: ts.to_string() }).await
    }
    async fn edit(&self, message: &MessageRef, card: &Card) -> Result<(), ChatError> {
        let lost = self.before().await?;
        let found = {
            let mut said = self.said.lock().unwrap();
            let one = said.iter_mut().find(|one| one.ts.to_string() == message.ts && !one.removed);
            one.map(|one| one.card = card.clone()).is_some()
        };
        if !found {
            return Err(ChatError::Refused("message_not_found".into()));
        }
        self.after(lost, ()).await
    }
    async fn find(&self, channel: &str, _: Option<&MessageRef>, key: &str) -> Result<Vec<MessageRef>, ChatError> {
        if self.luck.fault(1, 12).is_some() {
            return Err(ChatError::Unavailable("503".into()));
        }
        let said = self.said.lock().unwrap();
        let found = said.iter().filter(|one| one.key == key && !one.removed);
        Ok(found.map(|one| MessageRef { channel: channel.to_owned(), ts: one.ts.to_string() }).collect())
    }
    async fn remove(&self, message: &MessageRef) -> Result<(), ChatError> {
        let lost = self.before().await?;
        for one in self.said.lock().unwrap().iter_mut().filter(|one| one.ts.to_string() == message.ts) {
            one.removed = true;
        }
        self.after(lost, ()).await
    }
    async fn whisper(&self, _: &Place, _: &PersonId, _: &Card) -> Result<(), ChatError> {
        self.before().await.map(drop)
    }
    async fn check(&self) -> Result<String, ChatError> {
        Ok("well".into())
    }
}

/// A diagnosis that may be acted on without a person, and what it stands on: our own ranking and evidence.
pub fn proven(incident: &Incident) -> (Diagnosis, Candidate, Vec<Evidence>) {
    let seen = [(901, EvidenceKind::Metric, Taint::Observed), (902, EvidenceKind::Log, Taint::UserWritable)];
    let evidence = seen.map(|(number, kind, taint)| Evidence {
        id: incident.id.evidence(number),
        incident: incident.id.clone(),
        kind,
        source: "test".into(),
        query: String::new(),
        summary: String::new(),
        body: "web is wedged".into(),
        series: vec![],
        digest: Digest::of(b"web is wedged"),
        observed_at: incident.since,
        taint,
        found: true,
    });
    let claim = |one: &Evidence| Claim { text: "web is wedged".into(), evidence: vec![one.id.clone()] };
    let claims: Vec<Claim> = evidence.iter().map(claim).collect();
    let supports = claims.clone();
    let suspect = Candidate { node: "web".into(), score: 1.0, change: None, supports, contradicts: vec![] };
    let diagnosis = Diagnosis {
        service: Some("web".into()),
        change: None,
        mechanism: "web is wedged".into(),
        verdict: Verdict::Confirmed,
        confidence: 0.9,
        claims,
        ruled_out: vec![],
        remedy: Remedy::Restart { service: "web".into() },
        reasoner: "none".into(),
        dropped: vec![],
        needs: None,
        proofs: vec![],
        otherwise: None,
    };
    (diagnosis, suspect, evidence.into())
}
