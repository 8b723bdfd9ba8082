//! The four servers on loopback, and the task that moves the estate with its clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::clock::SimClock;
use super::description::World;
use super::jaeger;
use super::kubernetes;
use super::loki;
use super::prometheus;
use super::promql::SeriesStore;
use super::rules::{Alerting, Manner, quiet_history};
use super::sim::{DAY, MINUTE, NIGHT, Sim};
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, Copy)]
pub struct NightOptions {
    pub seed: u64,
    /// Firing notifications of the night, in all.
    pub storm: usize,
    pub quiet_days: u32,
    /// The last instant that an earlier night has left in the watch's store, if there was one.
    pub after: Option<Timestamp>,
}

impl NightOptions {
    /// 02:00 of the first week whose quiet days begin after everything that has been lived through.
    fn night(&self) -> i64 {
        const WEEK: i64 = 7 * DAY;
        let quiet = i64::from(self.quiet_days) * DAY;
        let lived = self.after.map_or(i64::MIN / 2, Timestamp::millis);
        let weeks = (lived + quiet + DAY - NIGHT).max(0).div_euclid(WEEK);
        NIGHT + if lived + quiet < NIGHT { 0 } else { (weeks + 1) * WEEK }
    }
}

/// What really happened, for the harness after the run.
#[derive(Debug, Clone, Serialize)]
pub struct Truth {
    pub service: String,
    pub change: Option<String>,
    pub cure: String,
}

/// A running estate. Dropping it stops its servers.
pub struct Estate {
    sim: Arc<Mutex<Sim>>,
    alerting: Arc<Mutex<Alerting>>,
    store: Arc<RwLock<SeriesStore>>,
    clock: SimClock,
    kubernetes: String,
    prometheus: String,
    loki: String,
    jaeger: String,
    quiet: Vec<Value>,
    stop: watch::Sender<bool>,
}

/// Draws the estate of a seed and lives through its quiet days.
fn draw(options: NightOptions) -> (Sim, SeriesStore, Vec<Value>) {
    let began = std::time::Instant::now();
    let mut sim = super::rules::draw(options.seed, options.night());
    let drawn = began.elapsed();
    let mut store = SeriesStore::new();
    sim.quiet(options.quiet_days, MINUTE, &mut store);
    tracing::debug!(?drawn, lived = ?began.elapsed(), "the estate has lived through its quiet days");
    let quiet = quiet_history(&sim, options.quiet_days);
    (sim, store, quiet)
}

/// Whether a described world's own rules give alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldRules {
    On,
    /// Only what the harness sends.
    Off,
}

impl Estate {
    /// Starts the estate at the beginning of its night (02:00), `clock` standing there.
    pub async fn serve(options: NightOptions) -> anyhow::Result<Self> {
        let (sim, store, quiet) = tokio::task::spawn_blocking(move || draw(options)).await?;
        let alerting = Alerting::new(options.seed, Manner::Storm(options.storm));
        Self::open(sim, store, quiet, alerting).await
    }

    /// Starts a described world at the beginning of its story, after `quiet_days`.
    pub async fn serve_world(world: World, quiet_days: u32, rules: WorldRules) -> anyhow::Result<Self> {
        let manner = match rules {
            WorldRules::On => Manner::Plain,
            WorldRules::Off => Manner::Silent,
        };
        let alerting = Alerting::new(world.seed, manner);
        let (sim, store) = tokio::task::spawn_blocking(move || {
            let mut sim = Sim::of(world.seed, world.start, world.estate, world.script);
            let mut store = SeriesStore::new();
            sim.quiet(quiet_days, MINUTE, &mut store);
            (sim, store)
        })
        .await?;
        Self::open(sim, store, vec![], alerting).await
    }

    async fn open(sim: Sim, store: SeriesStore, quiet: Vec<Value>, alerting: Alerting) -> anyhow::Result<Self> {
        let clock = SimClock::starting_at(Timestamp::from_millis(sim.night), 0.0);
        let (stop, _) = watch::channel(false);
        let sim = Arc::new(Mutex::new(sim));
        let store = Arc::new(RwLock::new(store));
        let ticking = clock.clone();
        let now: prometheus::Clock = Arc::new(move || ticking.event_now().millis());
        let mut estate = Self {
            sim: sim.clone(),
            alerting: Arc::new(Mutex::new(alerting)),
            store: store.clone(),
            clock,
            kubernetes: String::new(),
            prometheus: String::new(),
            loki: String::new(),
            jaeger: String::new(),
            quiet,
            stop,
        };
        estate.advance();
        let state = lock(&sim).kube.clone();
        let logs = sim.clone();
        let read_at = now.clone();
        lock(&state).set_logs(Arc::new(move |_, pod, _, tail| pod_log(&lock(&logs), pod, tail, read_at())));
        estate.kubernetes = estate.bind(kubernetes::router(state, now.clone())).await?;
        estate.prometheus = estate.bind(prometheus::router(store, now.clone())).await?;
        estate.loki = estate.bind(loki::router(sim.clone(), now.clone())).await?;
        estate.jaeger = estate.bind(jaeger::router(sim, now)).await?;
        Ok(estate)
    }

    async fn bind(&self, router: axum::Router) -> anyhow::Result<String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut stop = self.stop.subscribe();
        tokio::spawn(async move {
            let ended = async move {
                let _ = stop.changed().await;
            };
            // An error here is the end of the demo's estate; its clients will say so.
            let _ = axum::serve(listener, router).with_graceful_shutdown(ended).await;
        });
        Ok(format!("http://{address}"))
    }

    /// Moves the estate to its clock's time.
    pub fn advance(&self) {
        let now = self.clock.event_now().millis();
        let mut sim = lock(&self.sim);
        let mut alerting = lock(&self.alerting);
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        sim.advance(now, &mut store, &mut |sim| alerting.evaluate(sim));
    }

    /// Keeps it moving until the estate is dropped.
    pub fn run(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let Some(estate) = weak.upgrade() else { return };
                if *estate.stop.borrow() {
                    return;
                }
                let moved = tokio::task::spawn_blocking(move || estate.advance()).await;
                if moved.is_err() {
                    return;
                }
            }
        });
    }

    pub fn clock(&self) -> &SimClock {
        &self.clock
    }
    pub fn kubernetes_url(&self) -> &str {
        &self.kubernetes
    }
    pub fn prometheus_url(&self) -> &str {
        &self.prometheus
    }
    pub fn loki_url(&self) -> &str {
        &self.loki
    }
    pub fn jaeger_url(&self) -> &str {
        &self.jaeger
    }
    pub fn cluster(&self) -> String {
        lock(&self.sim).estate.cluster.clone()
    }

    /// Notifications of the quiet days, in the order of time.
    pub fn quiet_alerts(&self) -> &[Value] {
        &self.quiet
    }

    /// Notifications since the last call.
    pub fn due_alerts(&self) -> Vec<Value> {
        lock(&self.alerting).take()
    }

    pub fn storm_began(&self) -> bool {
        lock(&self.alerting).storm_began().is_some()
    }

    pub fn storm_is_over(&self) -> bool {
        lock(&self.alerting).storm_is_over()
    }

    /// Of a drawn night, which has one fault.
    pub fn truth(&self) -> Truth {
        let sim = lock(&self.sim);
        let fault = sim.script.faults.first();
        Truth {
            service: fault.map(|fault| fault.culprit(&sim.estate)).unwrap_or_default(),
            change: sim.change_id.clone(),
            cure: fault.map(|fault| fault.cure(&sim.estate)).unwrap_or_default(),
        }
    }

    pub fn is_cured(&self) -> bool {
        lock(&self.sim).is_cured()
    }

    /// Writes that took effect, as `Deployment namespace/name`.
    pub fn writes(&self) -> Vec<String> {
        lock(&self.sim)
            .kube()
            .writes()
            .into_iter()
            .filter(|write| write.status < 300)
            .map(|write| format!("{} {}/{}", write.kind, write.namespace, write.name))
            .collect()
    }

    pub fn stop(&self) {
        // Nobody listening means that it has stopped already.
        let _ = self.stop.send(true);
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last lines of a pod, of the quarter of an hour that a kubelet keeps at hand.
fn pod_log(sim: &Sim, pod: &str, tail: usize, now: i64) -> String {
    let Some(index) = sim.estate.nodes.iter().position(|node| pod.starts_with(&format!("{}-", node.name))) else {
        return String::new();
    };
    let mut lines: Vec<String> = vec![];
    let mut at = now - 15 * MINUTE;
    at -= at.rem_euclid(15_000);
    while at <= now {
        let mut written = loki::written(sim, index, at);
        written.sort_by_key(|(offset, ..)| *offset);
        lines.extend(written.into_iter().map(|(_, _, line)| line));
        at += 15_000;
    }
    let from = lines.len().saturating_sub(tail);
    lines[from..].join("\n")
}
