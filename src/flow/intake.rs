//! Durable inbox -> prefilter -> correlation -> incidents.
//!
//! One driver, that of whoever leads, folds alerts in order; its memory (what is firing, who waits) is
//! rebuilt from the ledger when it begins.

mod lapse;
mod merge;
mod outlast;
mod rebuild;
mod rows;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use rows::{ledger_row, read_again};

use super::desk::{Counters, Desk, FlowError};
use super::gate::Waiting;
use super::label;
use super::regroup;
use super::silence::SILENCES;
use crate::domain::alert::{Alert, Fingerprint, Severity, Status};
use crate::domain::anomaly::Audit;
use crate::domain::correlate::Merge;
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, JoinedAlert, ResolvedAlert, Sev};
use crate::domain::intake::Taken;
use crate::domain::intent::silence::{Silence, Silences};
use crate::domain::prefilter::Suppression;
use crate::domain::severity::Said;
use crate::domain::stands::Stands;
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage::{Gathered, Judged, Persisting, Triage};
use crate::ports::crash;
use crate::store::{AuditEntry, Batch, Draft, LedgerRow, Repeats, StoreError, ToldLate};

/// What is kept in memory between batches.
pub struct Watchkeeper {
    triage: Triage,
    /// As they are stored; read again when they differ.
    silences: String,
    firing: HashMap<Fingerprint, (String, String)>,
    /// What of it fired when its incident ended, such as by an action that helped.
    over_firing: HashMap<Fingerprint, IncidentId>,
    /// Those incidents, the one that ended first in front.
    ended: VecDeque<(Timestamp, IncidentId)>,
    /// Firings that were suppressed, and why: sent again, they are counted and not told again.
    quiet: HashMap<Fingerprint, (Timestamp, &'static str)>,
    /// Firings that end when nobody repeats them.
    stands: Stands,
    /// Which of the suppressed are shown to people all the same.
    audit: Audit,
    /// The store's revision of the labels that the prefilter is calibrated on.
    labels: u64,
    /// The store's revision of what is over.
    over: u64,
}

/// Beyond it all are forgotten, and stand in the ledger once more.
const MAX_QUIET: usize = 200_000;

/// Alerts that are judged and stored together: many under a storm, so that a transaction is worth
/// its flush; few enough that what is decided is soon told.
const BATCH: usize = 16_384;

/// When others keep changing the incidents that a batch touches.
const SMALL_BATCH: usize = 64;

/// What other processes have taken in is looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A warning that has waited for longer has lost its end, or its sender repeats it.
const WAITS_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Folds the inbox until the end.
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    desk.gate.begin(&desk).await?;
    let mut looked = Instant::now();
    let mut keeper = Watchkeeper::rebuild(&desk).await?;
    let mut most = BATCH;
    while !desk.stopping() {
        if let Err(failure) = regroup::carry_out(&mut keeper.triage, &desk).await {
            error!(error = %failure, "an order to merge or split is tried again");
            tokio::time::sleep(Duration::from_millis(500)).await;
            keeper = Watchkeeper::rebuild(&desk).await?;
            continue;
        }
        if looked.elapsed() >= LOOK_EVERY {
            desk.gate.recall(&desk).await?;
            looked = Instant::now();
        }
        let rows = desk.gate.oldest(most);
        if rows.is_empty() && !keeper.is_overdue(&desk) {
            desk.wait(&desk.bells.alerts, Duration::from_millis(500)).await;
            continue;
        }
        crash::point("intake.before_fold");
        let folded = keeper.fold(&desk, &rows).await;
        crash::point("intake.folded");
        match folded {
            Ok(()) => {
                desk.gate.judged(&rows.iter().map(|row| row.id).collect::<Vec<_>>());
                most = (most * 2).min(BATCH);
            }
            Err(failure @ FlowError::Store(StoreError::Fenced { .. })) => return Err(failure),
            Err(failure) => {
                error!(error = %failure, most, "alerts stay in the inbox and are tried again");
                // Fewer incidents at once are less likely to be changed by others meanwhile.
                most = (most / 4).max(SMALL_BATCH);
                // What was judged in memory is not what is stored: start again from the store.
                tokio::time::sleep(Duration::from_millis(500)).await;
                keeper = Watchkeeper::rebuild(&desk).await?;
            }
        }
    }
    Ok(())
}

/// Incidents that this batch touches.
#[derive(Default)]
struct Touched {
    /// Those that it opens.
    drafts: BTreeMap<IncidentId, Draft>,
    joined: BTreeMap<IncidentId, Vec<JoinedAlert>>,
    resolved: BTreeMap<IncidentId, Vec<ResolvedAlert>>,
    /// Why the last of those has ended of which nobody said so.
    lapsed: BTreeMap<IncidentId, String>,
    /// In the order in which they became one.
    merges: Vec<Merge>,
    /// Rows of this batch whose alerts wait for company.
    waits: HashMap<Fingerprint, usize>,
    told: Told,
}

/// What is counted and logged once it is stored: what is judged once more was not so.
#[derive(Default)]
struct Told {
    received: u64,
    rejected: u64,
    /// Which, about whom, and why.
    opened: Vec<(IncidentId, String, String)>,
}

impl Told {
    fn tell(&self, desk: &Desk) {
        Counters::add(&desk.counters.alerts_received, self.received);
        if self.received > 0 {
            let seconds = desk.clock.wall_now().millis() / 1_000;
            desk.counters.last_alert_at.store(u64::try_from(seconds).unwrap_or_default(), Ordering::Relaxed);
        }
        Counters::add(&desk.counters.alerts_rejected, self.rejected);
        Counters::add(&desk.counters.incidents_opened, self.opened.len() as u64);
        for (incident, subject, because) in &self.opened {
            info!(%incident, %subject, because, "incident opened");
        }
    }
}

impl Watchkeeper {
    async fn fold(&mut self, desk: &Desk, rows: &[Waiting]) -> Result<(), FlowError> {
        let wall_now = desk.clock.wall_now();
        let event_now = desk.clock.event_now();
        let topology = desk.topology().await;
        self.read_silences(desk).await?;
        if desk.store.labels_revision() != self.labels {
            self.read_labels(desk).await?;
        }
        self.read_endings(desk).await?;
        self.read_pins(desk).await?;
        let mut batch = Batch::default();
        let mut touched = Touched::default();
        for row in rows {
            batch.inbox_done.push(row.id);
            let taken = match &row.taken {
                Some(taken) => taken.clone(),
                None => match read_again(desk, row, event_now, wall_now).await {
                    Ok(frames) => vec![frames],
                    // It will not be readable the next time either, and others wait behind it.
                    Err(FlowError::Store(failure @ StoreError::Corrupt { .. })) => {
                        error!(inbox = row.id, error = %failure, "alerts that cannot be unpacked are set aside");
                        let body = serde_json::json!({"reason": failure.to_string(), "source": row.source});
                        let subject = format!("inbox {}", row.id);
                        batch.audit.push(AuditEntry { kind: "inbox.unreadable".into(), subject, body });
                        continue;
                    }
                    Err(failure) => return Err(failure),
                },
            };
            for (_, frame) in taken.iter().flat_map(|frames| frames.iter()) {
                self.fold_frame(desk, row, frame, event_now, &topology, &mut batch, &mut touched)?;
            }
        }
        for persisting in self.triage.overdue(event_now, &topology) {
            self.persist(desk, persisting, &mut batch, &mut touched)?;
        }
        // What waits in the inbox may repeat it.
        if rows.is_empty() {
            self.lapse(event_now, &topology, &mut batch, &mut touched);
        }
        self.outlasting(desk, event_now, &topology, &mut batch, &mut touched).await?;
        self.merge(desk, &mut batch, &mut touched).await?;
        let mut reasons: BTreeMap<&str, i64> = BTreeMap::new();
        for row in batch.ledger.iter().filter(|row| row.verdict == "suppress") {
            *reasons.entry(&row.reason).or_default() += 1;
        }
        for (reason, times) in &batch.repeats.by_reason {
            *reasons.entry(reason).or_default() += Repeats::count(times);
        }
        if !reasons.is_empty() {
            // One line for the batch: the ledger holds each alert with its reason.
            let body = serde_json::json!({"suppressed": reasons});
            let (first, last) = (rows.first().map_or(0, |row| row.id), rows.last().map_or(0, |row| row.id));
            let subject = format!("inbox {first}-{last}");
            batch.audit.push(AuditEntry { kind: "alerts.suppressed".into(), subject, body });
        }
        let told = std::mem::take(&mut touched.told);
        self.write(desk, batch, touched, &topology, wall_now, event_now).await?;
        told.tell(desk);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one call site; a struct would only rename the list
    fn fold_frame(
        &mut self,
        desk: &Desk,
        row: &Waiting,
        taken: &Taken,
        event_now: Timestamp,
        topology: &Arc<Topology>,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        for fact in &taken.knowledge {
            self.triage.know(fact);
        }
        self.triage.foresee(&taken.alerts, event_now);
        for alert in &taken.alerts {
            self.judge(desk, row, alert, event_now, topology, batch, touched)?;
        }
        for bad in &taken.refused {
            touched.told.rejected += 1;
            warn!(inbox = row.id, reason = %bad, "an alert was refused");
            batch.audit.push(AuditEntry {
                kind: "alert.refused".into(),
                subject: format!("inbox {}", row.id),
                body: serde_json::json!({"reason": bad.to_string(), "source": row.source}),
            });
        }
        for remark in &taken.remarks {
            if let Some(told) = remark.for_the_log() {
                warn!(inbox = row.id, "{told}");
            }
            batch.audit.push(AuditEntry {
                kind: "intake.remark".into(),
                subject: format!("inbox {}", row.id),
                body: serde_json::json!({"said": remark.to_string(), "source": row.source}),
            });
        }
        Ok(())
    }

    /// What people have labelled says how much the prefilter may suppress.
    async fn read_labels(&mut self, desk: &Desk) -> Result<(), FlowError> {
        // The number first: what is written meanwhile is read again.
        let revision = desk.store.labels_revision();
        let setting = label::setting(desk, &desk.config.prefilter.rules()).await?;
        self.triage.prefilter.calibrate(setting);
        self.labels = revision;
        Ok(())
    }

    /// What the investigation, an action or a person has ended: whatever fires again is news.
    async fn read_endings(&mut self, desk: &Desk) -> Result<(), FlowError> {
        // The number first: what ends meanwhile is read again.
        let revision = desk.store.over_revision();
        if revision != self.over {
            let open: HashSet<IncidentId> = desk.store.open_incidents().await?.into_iter().collect();
            for incident in self.triage.correlator.over(&open) {
                self.closed(&incident, desk.clock.event_now());
            }
            self.over = revision;
        }
        Ok(())
    }

    /// What people decide about or what is acted on.
    async fn read_pins(&mut self, desk: &Desk) -> Result<(), FlowError> {
        for incident in desk.store.pinned_incidents().await? {
            self.triage.correlator.pin(&incident);
        }
        Ok(())
    }

    /// People silence while the watch runs.
    async fn read_silences(&mut self, desk: &Desk) -> Result<(), FlowError> {
        let stored = desk.store.setting(SILENCES).await?.unwrap_or_default();
        if stored != self.silences {
            // Without them everything speaks, which is the safe side; but people must know.
            let silences = serde_json::from_str::<Vec<Silence>>(&stored).unwrap_or_else(|unreadable| {
                if !stored.is_empty() {
                    error!(error = %unreadable, "the stored silences cannot be read: nothing is silenced");
                }
                vec![]
            });
            self.triage.intent.silences = Silences::restore(silences);
            self.triage.mutes_changed();
            self.silences = stored;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one call site; a struct would only rename the list
    fn judge(
        &mut self,
        desk: &Desk,
        row: &Waiting,
        alert: &Alert,
        event_now: Timestamp,
        topology: &Arc<Topology>,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        touched.told.received += 1;
        self.stands.hear(alert, event_now);
        let judged = self.triage.judge(alert, event_now, topology);
        if let Judged::Suppressed { reason, .. } = &judged
            && self.is_repeat(alert, reason)
        {
            batch.repeats.add(row.id, alert.fingerprint, reason.name());
            return Ok(());
        }
        let mut ledger = ledger_row(row.id, alert, self.triage.correlator.about(alert));
        match judged {
            Judged::Suppressed { reason, incident } => {
                label::ask(&mut self.audit, &self.triage.prefilter, alert, &reason, batch);
                ledger.verdict = "suppress";
                ledger.reason = reason.name().into();
                ledger.explanation = reason.explain();
                ledger.incident = incident.map(|incident| incident.to_string());
                // It may be told of when it lasts or its mute ends, and it teaches the forest, also after a
                // restart.
                if alert.status == Status::Firing && !matches!(reason, Suppression::Stale { .. }) {
                    ledger.labels = Some(alert.labels.clone());
                }
            }
            Judged::Resolved { incident } => self.end(alert, incident, "the firing has ended", &mut ledger, touched),
            placed => self.enter(desk, placed, alert, "", &mut ledger, batch, touched)?,
        }
        batch.ledger.push(ledger);
        Ok(())
    }

    /// A firing that is over.
    fn end(
        &mut self,
        alert: &Alert,
        incident: Option<IncidentId>,
        because: &str,
        ledger: &mut LedgerRow,
        touched: &mut Touched,
    ) {
        ledger.verdict = "resolve";
        ledger.reason = "resolved".into();
        ledger.explanation = because.into();
        let incident = incident.or_else(|| self.over_firing.remove(&alert.fingerprint));
        if let (Some(incident), Some((name, subject))) = (incident, self.firing.remove(&alert.fingerprint)) {
            ledger.incident = Some(incident.to_string());
            let resolved = ResolvedAlert { fingerprint: alert.fingerprint, name, subject };
            touched.resolved.entry(incident).or_default().push(resolved);
        }
    }

    /// An alert that people are told of, or that waits for company; `lead` goes before the reason.
    #[allow(clippy::too_many_arguments)] // two call sites; a struct would only rename the list
    fn enter(
        &mut self,
        desk: &Desk,
        placed: Judged,
        alert: &Alert,
        lead: &str,
        ledger: &mut LedgerRow,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        ledger.labels = Some(alert.labels.clone());
        match placed {
            Judged::Suppressed { .. } | Judged::Resolved { .. } => {}
            Judged::Waits { because, why } => {
                ledger.reason = "waits".into();
                touched.waits.insert(alert.fingerprint, batch.ledger.len());
                ledger.explanation = format!("{lead}{because}; {why}");
            }
            Judged::Joined { incident, why, because, again } => {
                ledger.reason = "joined".into();
                ledger.incident = Some(incident.to_string());
                let why = format!("{lead}{why}");
                self.join(&incident, alert, &why, again, touched);
                ledger.explanation = format!("{because}; {why}");
            }
            Judged::Opened { incident, because, gathers } => {
                ledger.reason = "opened".into();
                ledger.incident = Some(incident.to_string());
                let because = format!("{lead}{because}");
                ledger.explanation.clone_from(&because);
                self.open(desk, &incident, alert, &because, touched)?;
                for gathered in gathers {
                    self.gather(&incident, gathered, "waited for company near it", false, batch, touched);
                }
            }
        }
        Ok(())
    }

    /// Whether the ledger has this alert with this verdict already.
    fn is_repeat(&mut self, alert: &Alert, reason: &Suppression) -> bool {
        if matches!(reason, Suppression::Duplicate { .. }) {
            return true;
        }
        if self.quiet.len() >= MAX_QUIET {
            self.quiet.clear();
        }
        let now = (alert.starts_at, reason.name());
        self.quiet.insert(alert.fingerprint, now) == Some(now)
    }

    fn open(
        &mut self,
        desk: &Desk,
        id: &IncidentId,
        alert: &Alert,
        because: &str,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        let subject = self.triage.correlator.about(alert);
        let mut draft = Draft::of(Incident::blank(id.clone()));
        draft.record(
            IncidentEvent::Opened {
                cluster: self.triage.correlator.cluster(alert),
                team: self.triage.intent.team_of(alert).unwrap_or("default").to_owned(),
                title: format!("{subject}: {}", alert.name()),
                severity: if alert.severity() == Severity::Critical { Sev::Three } else { Sev::Four },
                because: because.to_owned(),
                event_at: alert.starts_at,
            },
            desk.clock.wall_now(),
        )?;
        touched.told.opened.push((id.clone(), subject, because.to_owned()));
        touched.drafts.insert(id.clone(), draft);
        self.join(id, alert, because, false, touched);
        Ok(())
    }

    /// A warning that waited in vain and fires on.
    fn persist(
        &mut self,
        desk: &Desk,
        persisting: Persisting,
        batch: &mut Batch,
        touched: &mut Touched,
    ) -> Result<(), FlowError> {
        let Persisting { incident: id, opened, cluster, team, alert, because, again } = persisting;
        if !opened {
            self.gather(&id, alert, &because, again, batch, touched);
            return Ok(());
        }
        let mut draft = Draft::of(Incident::blank(id.clone()));
        draft.record(
            IncidentEvent::Opened {
                cluster,
                team: team.unwrap_or_else(|| "default".into()),
                title: format!("{}: {}", alert.subject, alert.name),
                severity: Sev::Four,
                because: because.clone(),
                event_at: alert.starts_at,
            },
            desk.clock.wall_now(),
        )?;
        touched.told.opened.push((id.clone(), alert.subject.clone(), because.clone()));
        touched.drafts.insert(id.clone(), draft);
        self.gather(&id, alert, &because, again, batch, touched);
        Ok(())
    }

    fn join(&mut self, incident: &IncidentId, alert: &Alert, because: &str, again: bool, touched: &mut Touched) {
        let subject = self.triage.correlator.about(alert);
        let before = self.firing.insert(alert.fingerprint, (alert.name().to_owned(), subject.clone()));
        self.over_firing.remove(&alert.fingerprint);
        // Ends are written behind what joins: one of this batch that came before this firing is undone by it.
        let ends = touched.resolved.get_mut(incident);
        let undone = ends.and_then(|ends| {
            let at = ends.iter().position(|end| end.fingerprint == alert.fingerprint)?;
            Some(ends.remove(at))
        });
        let still = before.is_some() || undone.is_some();
        touched.joined.entry(incident.clone()).or_default().push(JoinedAlert {
            fingerprint: alert.fingerprint,
            name: alert.name().to_owned(),
            subject,
            severity: alert.severity(),
            starts_at: alert.starts_at,
            because: because.to_owned(),
            again,
            still,
            score: self.triage.prefilter.scored(alert.fingerprint),
            said: Said::by(alert),
            elsewhere: self.triage.correlator.elsewhere(alert.fingerprint),
            namespaces: alert.namespaces(),
        });
    }

    /// A warning that waited for company has found it, or what was held back is told.
    #[allow(clippy::too_many_arguments)] // three call sites; a struct would only rename the list
    fn gather(
        &mut self,
        id: &IncidentId,
        gathered: Gathered,
        because: &str,
        again: bool,
        batch: &mut Batch,
        touched: &mut Touched,
    ) {
        let Gathered { fingerprint, name, subject, severity, starts_at, said, namespaces } = gathered;
        let still = self.firing.insert(fingerprint, (name.clone(), subject.clone())).is_some();
        self.over_firing.remove(&fingerprint);
        match touched.waits.remove(&fingerprint).and_then(|row| batch.ledger.get_mut(row)) {
            Some(row) => {
                row.incident = Some(id.to_string());
                row.subject.clone_from(&subject);
            }
            None => batch.told_late.push(ToldLate {
                fingerprint: fingerprint.to_string(),
                incident: id.clone(),
                subject: subject.clone(),
            }),
        }
        touched.joined.entry(id.clone()).or_default().push(JoinedAlert {
            fingerprint,
            name,
            subject,
            severity,
            starts_at,
            because: because.to_owned(),
            again,
            still,
            score: self.triage.prefilter.scored(fingerprint),
            said,
            elsewhere: self.triage.correlator.elsewhere(fingerprint),
            namespaces,
        });
    }
}
