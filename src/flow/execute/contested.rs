//! A write against controllers that write the status of the same object at the same time.
//!
//! Invariant: it is tried again only when it was certainly not written and what was approved is still
//! what is there (S4); an unknown result ends it.

use std::time::Duration;

use async_trait::async_trait;

use super::hands::Hands;
use crate::domain::action::Action;
use crate::ports::{Applied, ClusterError, DryRun};

/// A workload whose pods come and go is written many times a second.
const TRIES: u32 = 25;
/// Before the second try, then longer by as much each time.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(150);

/// How long an API server that is away is waited for, all tries together.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why it may not be written any more.
pub(super) type Withheld = String;

/// Why a further try is not made at this moment.
#[derive(Debug)]
pub(super) enum NotNow {
    Withheld(Withheld),
    /// What the rules need to know cannot be read: asked again before the next try.
    Unread(String),
    /// No further try can help.
    Over(ClusterError),
}

/// The rules and the kill switch as they are then, not as they were when it was begun.
#[async_trait]
pub(super) trait Permission: Sync {
    /// Before each further try. May take its time: the object is looked at after it.
    async fn by_policy(&self) -> Result<(), NotNow>;
    /// Directly before each write, the first one too, so quickly that nobody comes between.
    async fn by_kill_switch(&self) -> Result<(), NotNow>;
}

pub(super) async fn apply(
    hands: &Hands,
    action: &Action,
    version: &str,
    mark: &str,
    is_as_approved: impl Fn(&DryRun) -> bool,
    permission: &dyn Permission,
) -> Result<Result<Applied, Withheld>, ClusterError> {
    let (mut tries, began) = (1, tokio::time::Instant::now());
    let mut next = once(hands, action, version, mark, permission).await;
    loop {
        let ended = match next {
            Err(NotNow::Withheld(why)) => return Ok(Err(why)),
            Err(NotNow::Unread(why)) => Err(ClusterError::Unavailable(why)),
            Err(NotNow::Over(error)) => return Err(error),
            Ok(ended) => ended,
        };
        match ended {
            // Whoever answers that it is busy may have begun: what was called once is not called again.
            ended if matches!(action, Action::CallHook { .. }) => return ended.map(Ok),
            // It never arrived, or found another version there. What comes before the next try waits until
            // the cluster is back.
            Err(ClusterError::Conflict(_) | ClusterError::Unavailable(_))
                if tries < TRIES && began.elapsed() < PATIENCE => {}
            ended => return ended.map(Ok),
        }
        tokio::time::sleep((PAUSE * tries).min(LONGEST)).await;
        tries += 1;
        next = again(hands, action, mark, &is_as_approved, permission).await;
    }
}

/// The lease may have to be waited for, and somebody may pause meanwhile: it comes first, then the kill
/// switch, then the write at once.
async fn once(
    hands: &Hands,
    action: &Action,
    version: &str,
    mark: &str,
    permission: &dyn Permission,
) -> Result<Result<Applied, ClusterError>, NotNow> {
    for _ in 0..TRIES {
        hands.sure().await.map_err(NotNow::Over)?;
        permission.by_kill_switch().await?;
        // Reading the switch took so long that the lease would have to be waited for: that may take long enough
        // for somebody to throw it.
        if hands.is_sure() {
            return Ok(hands.apply(action, version, mark).await);
        }
    }
    Err(NotNow::Unread("the kill switch is read so slowly that it may be thrown before the write".into()))
}

async fn again(
    hands: &Hands,
    action: &Action,
    mark: &str,
    is_as_approved: impl Fn(&DryRun) -> bool,
    permission: &dyn Permission,
) -> Result<Result<Applied, ClusterError>, NotNow> {
    permission.by_policy().await?;
    let fresh = match hands.rehearse(action).await {
        Ok(fresh) => fresh,
        Err(error) => return Ok(Err(error)),
    };
    if !is_as_approved(&fresh) {
        return Err(NotNow::Over(ClusterError::Conflict("what was approved has changed meanwhile".into())));
    }
    once(hands, action, &fresh.resource_version, mark, permission).await
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;

    use super::*;
    use crate::domain::action::{Right, RiskTier, Target};
    use crate::domain::plan::Surroundings;
    use crate::flow::lead::Term;
    use crate::ports::{
        Cluster, ClusterEvent, DeclaredHook, Grant, Hooks, Identity, NodeState, PodLogs, PodState, Progress, Revision,
        Settled, Took, Wish, Workload,
    };

    /// An API server whose object somebody else writes so many times, each just before our write.
    #[derive(Default)]
    pub(in crate::flow::execute) struct Contested {
        others: u32,
        changes_spec: bool,
        is_away: bool,
        /// What an eviction in this namespace is answered.
        evicting: Option<(&'static str, ClusterError)>,
        /// Somebody has changed what the plan wrote.
        is_overruled: bool,
        writes: AtomicU32,
        dry_runs: AtomicU32,
    }

    impl Contested {
        pub fn overruled() -> Self {
            Self { is_overruled: true, ..Self::default() }
        }

        pub fn writes(&self) -> u32 {
            self.writes.load(Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl Cluster for Contested {
        async fn workloads(&self) -> Result<Vec<Workload>, ClusterError> {
            Ok(vec![])
        }
        async fn pods(&self, _: Option<&str>) -> Result<Vec<PodState>, ClusterError> {
            Ok(vec![])
        }
        async fn nodes(&self) -> Result<Vec<NodeState>, ClusterError> {
            Ok(vec![])
        }
        async fn events(&self, _: Option<&str>) -> Result<Vec<ClusterEvent>, ClusterError> {
            Ok(vec![])
        }
        async fn revisions(&self, _: &str, _: &str, _: &str) -> Result<Vec<Revision>, ClusterError> {
            Ok(vec![])
        }
        async fn pod_logs(&self, _: &str, _: &str, _: PodLogs, _: i64) -> Result<String, ClusterError> {
            Ok(String::new())
        }
        async fn dry_run(&self, action: &Action) -> Result<DryRun, ClusterError> {
            self.dry_runs.fetch_add(1, Ordering::SeqCst);
            if let (Action::EvictPod { target, .. }, Some((namespace, answer))) = (action, &self.evicting)
                && target.namespace == *namespace
            {
                return Err(answer.clone());
            }
            if let Action::Drain { .. } = action {
                let (before, after) = (json!({"unschedulable": false}), json!({"unschedulable": true}));
                return Ok(DryRun {
                    uid: "u".into(),
                    resource_version: "0".into(),
                    diff: String::new(),
                    before,
                    after,
                });
            }
            let version = self.writes.load(Ordering::SeqCst).min(self.others);
            let before = if self.changes_spec { json!("another image") } else { json!("old") };
            let resource_version = version.to_string();
            Ok(DryRun { uid: "u".into(), resource_version, diff: String::new(), before, after: json!("new") })
        }
        async fn prepare(&self, wish: &Wish) -> Result<Action, ClusterError> {
            Err(ClusterError::NotFound(wish.name.clone()))
        }
        async fn took_effect(&self, _: &Action, _: &str) -> Result<Took, ClusterError> {
            Ok(Took::No)
        }
        async fn settled(&self, _: &Action, _: &str) -> Result<Settled, ClusterError> {
            let progress = if self.is_overruled { Progress::Overruled } else { Progress::Done };
            Ok(Settled { progress, fact: "it has 3 replicas".into() })
        }
        async fn surroundings(&self, _: &Action) -> Result<Surroundings, ClusterError> {
            Ok(Surroundings::default())
        }
        async fn manifest(&self, _: &Target) -> Result<String, ClusterError> {
            Ok(String::new())
        }
        async fn config_data(&self, _: &str, _: &str) -> Result<BTreeMap<String, String>, ClusterError> {
            Ok(BTreeMap::new())
        }
        async fn grants(&self, _: Identity, _: &[String], _: &[Right]) -> Result<Vec<Grant>, ClusterError> {
            Ok(vec![])
        }
        async fn apply(&self, _: &Action, version: &str, _: &str) -> Result<Applied, ClusterError> {
            let tried = self.writes.fetch_add(1, Ordering::SeqCst);
            if self.is_away {
                return Err(ClusterError::Unavailable("connection refused".into()));
            }
            match tried < self.others || version != self.others.to_string() {
                true => Err(ClusterError::Conflict("the object has been modified".into())),
                false => Ok(Applied { resource_version: "next".into(), generation: 2 }),
            }
        }
        async fn check(&self) -> Result<String, ClusterError> {
            Ok(String::new())
        }
    }

    /// A hook that says that it is busy; whoever is called may have begun.
    struct Busy(AtomicU32);

    #[async_trait]
    impl Hooks for Busy {
        fn declared(&self) -> Vec<DeclaredHook> {
            vec![]
        }
        async fn rehearse(&self, _: &str) -> Result<String, ClusterError> {
            Ok(String::new())
        }
        async fn call(&self, _: &str, _: &str) -> Result<String, ClusterError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Err(ClusterError::Conflict("409".into()))
        }
        async fn dump(&self, _: &str) -> Option<Result<String, ClusterError>> {
            None
        }
    }

    pub(in crate::flow::execute) fn somewhere(kind: &str) -> Target {
        let [cluster, namespace, kind, name, uid] = ["c", "shop", kind, "pay", "u"].map(str::to_owned);
        Target { cluster, namespace, kind, name, uid }
    }

    /// `paused_after`: from the how many-th try on nothing may be written.
    async fn write(cluster: Contested, paused_after: u32) -> (Result<Result<Applied, Withheld>, ClusterError>, u32) {
        let cluster = Arc::new(cluster);
        let hands = Hands { cluster: Some(cluster.clone()), hooks: None, term: Term::endless() };
        let action = Action::Restart { target: somewhere("Deployment") };
        let permission = Until { cluster: cluster.clone(), paused_after };
        let ended = apply(&hands, &action, "0", "P", |now| now.before == json!("old"), &permission).await;
        (ended, cluster.writes.load(Ordering::SeqCst))
    }

    /// Of two pods, the second of which answers this.
    async fn drained(answer: ClusterError) -> (Result<DryRun, ClusterError>, u32) {
        let evicting = Some(("kube-system", answer));
        let cluster = Arc::new(Contested { evicting, ..Contested::default() });
        let hands = Hands { cluster: Some(cluster.clone()), hooks: None, term: Term::endless() };
        let pod = |namespace: &str| Target { namespace: namespace.into(), ..somewhere("Pod") };
        let node = Target { namespace: String::new(), ..somewhere("Node") };
        let drain = Action::Drain { target: node, pods: vec![pod("shop"), pod("kube-system")], was_cordoned: false };
        let tried = hands.rehearse(&drain).await;
        (tried, cluster.dry_runs.load(Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_rehearses_every_eviction() {
        let forbidden = ClusterError::Forbidden("cannot create resource \"pods/eviction\"".into());
        assert_eq!(drained(forbidden.clone()).await, (Err(forbidden), 2), "before the cordon is tried");
        // What waits for room, and what is gone, keeps nothing from being begun.
        for answer in [
            ClusterError::Budget("web-pdb".into()),
            ClusterError::NotFound("kube-system/pod/pay".into()),
            ClusterError::Refused("kube-system/pod/pay is being deleted".into()),
        ] {
            let (tried, dry_runs) = drained(answer.clone()).await;
            assert!(tried.is_ok() && dry_runs == 3, "{answer}: {tried:?}");
        }
    }

    struct Until {
        cluster: Arc<Contested>,
        paused_after: u32,
    }

    #[async_trait]
    impl Permission for Until {
        async fn by_policy(&self) -> Result<(), NotNow> {
            // Others go on writing while the rules are read.
            self.cluster.dry_runs.store(0, Ordering::SeqCst);
            Ok(())
        }
        async fn by_kill_switch(&self) -> Result<(), NotNow> {
            let tries = self.cluster.writes.load(Ordering::SeqCst);
            let looked = self.cluster.dry_runs.load(Ordering::SeqCst);
            assert_eq!(looked, u32::from(tries > 0), "the object was looked at after the rules");
            match self.cluster.writes.load(Ordering::SeqCst) >= self.paused_after {
                true => Err(NotNow::Withheld("paused".to_owned())),
                false => Ok(()),
            }
        }
    }

    pub(in crate::flow::execute) struct Always;

    #[async_trait]
    impl Permission for Always {
        async fn by_policy(&self) -> Result<(), NotNow> {
            Ok(())
        }
        async fn by_kill_switch(&self) -> Result<(), NotNow> {
            Ok(())
        }
    }

    /// The API server does not answer the first question of the rules.
    struct Blinking(AtomicU32);

    #[async_trait]
    impl Permission for Blinking {
        async fn by_policy(&self) -> Result<(), NotNow> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Err(NotNow::Unread("connection refused".into())),
                _ => Ok(()),
            }
        }
        async fn by_kill_switch(&self) -> Result<(), NotNow> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_rules_cannot_read_now_is_asked_again() {
        let cluster = Arc::new(written_by(2));
        let hands = Hands { cluster: Some(cluster.clone()), hooks: None, term: Term::endless() };
        let action = Action::Restart { target: somewhere("Deployment") };
        let ended = apply(&hands, &action, "0", "P", |_| true, &Blinking(AtomicU32::new(0))).await;
        assert!(matches!(ended, Ok(Ok(_))), "{ended:?}");
    }

    fn written_by(others: u32) -> Contested {
        Contested { others, ..Contested::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_writer_is_outlasted_and_a_change_of_what_was_approved_is_not() {
        assert!(matches!(write(written_by(0), 99).await, (Ok(Ok(_)), 1)));
        assert!(matches!(write(written_by(7), 99).await, (Ok(Ok(_)), 8)));
        let (ended, writes) = write(Contested { changes_spec: true, ..written_by(7) }, 99).await;
        assert_eq!(ended.unwrap_err(), ClusterError::Conflict("what was approved has changed meanwhile".into()));
        assert_eq!(writes, 1);
        let (ended, writes) = write(written_by(1_000), 99).await;
        assert!(matches!(ended, Err(ClusterError::Conflict(_))));
        assert_eq!(writes, TRIES, "it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn the_kill_switch_is_read_before_every_try() {
        assert_eq!(write(written_by(0), 0).await, (Ok(Err("paused".into())), 0));
        assert_eq!(write(written_by(7), 3).await, (Ok(Err("paused".into())), 3));
        let away = || Contested { is_away: true, ..Contested::default() };
        assert_eq!(write(away(), 1).await, (Ok(Err("paused".into())), 1));
        let (ended, writes) = write(away(), 99).await;
        assert!(matches!(ended, Err(ClusterError::Unavailable(_))) && writes <= TRIES, "{writes}");
    }

    /// Paused from that moment on.
    struct PausedAt(tokio::time::Instant);

    #[async_trait]
    impl Permission for PausedAt {
        async fn by_policy(&self) -> Result<(), NotNow> {
            Ok(())
        }
        async fn by_kill_switch(&self) -> Result<(), NotNow> {
            match tokio::time::Instant::now() < self.0 {
                true => Ok(()),
                false => Err(NotNow::Withheld("paused".to_owned())),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_pauses_while_the_lease_is_waited_for_is_heard() {
        for (paused_after_ms, written) in [(5_000, 1), (200, 0)] {
            let cluster = Arc::new(written_by(0));
            let term = Term::renewed_after(Duration::from_millis(400));
            let hands = Hands { cluster: Some(cluster.clone()), hooks: None, term };
            let action = Action::Restart { target: somewhere("Deployment") };
            let paused = PausedAt(tokio::time::Instant::now() + Duration::from_millis(paused_after_ms));
            let ended = apply(&hands, &action, "0", "P", |_| true, &paused).await;
            assert_eq!(cluster.writes.load(Ordering::SeqCst), written, "{ended:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_is_called_once_whatever_it_answers() {
        let busy = Arc::new(Busy(AtomicU32::new(0)));
        let hands = Hands { cluster: None, hooks: Some(busy.clone()), term: Term::endless() };
        let action = Action::CallHook { target: somewhere("Hook"), tier: RiskTier::Low, undo: None };
        let ended = apply(&hands, &action, "", "P", |_| true, &Always).await;
        assert_eq!((ended, busy.0.load(Ordering::SeqCst)), (Err(ClusterError::Conflict("409".into())), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_written_for_want_of_a_lease_is_left_to_whoever_leads() {
        let hands = Hands { cluster: Some(Arc::new(written_by(0))), hooks: None, term: Term::default() };
        let action = Action::Restart { target: somewhere("Deployment") };
        let ended = apply(&hands, &action, "0", "P", |_| true, &Always).await;
        assert!(matches!(ended, Err(ClusterError::Unknown(_))), "{ended:?}");
    }
}
