//! An incident that nobody was alerted to: somebody asked what is wrong with a service.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::Order;
use crate::domain::alert::{Fingerprint, Labels, Severity};
use crate::domain::correlate::Heard;
use crate::domain::incident::{Incident, IncidentEvent, JoinedAlert, ResolvedAlert, Sev};
use crate::domain::severity::Said;
use crate::domain::topology::Topology;
use crate::domain::triage::Triage;
use crate::flow::deliver::Effect;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::elsewhere;
use crate::store::{Batch, Draft, NewEffect, Scope};

/// The name under which a question stands among the alerts of its incident.
pub const ASKED: &str = "AskedByAPerson";

pub(super) struct Asked<'a> {
    pub service: &'a str,
    pub namespace: Option<&'a str>,
    pub seconds: u64,
}

/// Opens and investigates it at once: there is no storm that has to show its shape. Alerts about the
/// service that come later join it.
pub(super) async fn open(
    triage: &mut Triage,
    desk: &Desk,
    number: i64,
    order: &Order,
    asked: &Asked<'_>,
    topology: &Arc<Topology>,
) -> Result<(), FlowError> {
    // Asked twice while the first was still to be carried out: one incident is enough (P2).
    let open = desk.store.incidents(Scope::NotOver).await?;
    if let Some(known) = open.iter().find(|incident| incident.subjects().contains(asked.service)) {
        let told = format!("{} is about {} already", known.id, asked.service);
        let mut batch = Batch::default();
        batch.taught.regrouped.push((number, told));
        desk.store.commit(batch, desk.clock.wall_now()).await?;
        return Ok(());
    }
    let cluster = desk.config.kubernetes.as_ref().and_then(|kubernetes| kubernetes.cluster.as_deref());
    let cluster = cluster.unwrap_or("default");
    let mut labels = Labels::new();
    for (name, value) in [("alertname", Some(ASKED)), ("service", Some(asked.service)), ("namespace", asked.namespace)]
    {
        if let Some(value) = value {
            labels.insert(name.into(), value.to_owned());
        }
    }
    let fingerprint = Fingerprint::of(&labels);
    let (event_now, wall_now) = (desk.clock.event_now(), desk.clock.wall_now());
    let since = event_now - Duration::from_secs(asked.seconds);
    let id = triage.next_incident();
    let because = format!("{} asked for it; nothing has alerted", order.name);
    let mut draft = Draft::of(Incident::blank(id.clone()));
    let alert = JoinedAlert {
        fingerprint,
        name: ASKED.into(),
        subject: asked.service.to_owned(),
        severity: Severity::Warning,
        starts_at: since,
        because: because.clone(),
        again: false,
        still: false,
        said: Said::default(),
        score: None,
        elsewhere: Default::default(),
        namespaces: asked.namespace.iter().map(|name| (*name).to_owned()).collect(),
    };
    let ended = ResolvedAlert { fingerprint, name: ASKED.into(), subject: asked.service.to_owned() };
    for event in [
        IncidentEvent::Opened {
            cluster: cluster.to_owned(),
            team: String::new(),
            title: format!("{}: asked for by {}", asked.service, order.name),
            severity: Sev::Four,
            because: because.clone(),
            event_at: since,
        },
        IncidentEvent::AlertsJoined { alerts: vec![alert] },
        // A question is no symptom that lasts.
        IncidentEvent::AlertsResolved { alerts: vec![ended], event_at: event_now },
        // Whoever asks has it, so that no digest and no quiet hour keeps the answer back.
        IncidentEvent::Acknowledged { by: order.by.clone() },
        IncidentEvent::InvestigationStarted { reasoner: desk.reasoner_name(), because },
    ] {
        draft.record(event, wall_now)?;
    }
    let told = format!("{id} is opened for {}; the diagnosis follows in its thread", asked.service);
    let mut batch = Batch { drafts: vec![draft], ..Batch::default() };
    batch.effects.push(NewEffect {
        key: format!("{id}/root"),
        incident: Some(id.to_string()),
        body: serde_json::to_string(&Effect::Root).unwrap_or_default(),
    });
    batch.taught.regrouped.push((number, told.clone()));
    elsewhere::announce(desk, &mut batch, wall_now);
    desk.store.commit(batch, wall_now).await?;
    triage.correlator.opened(&id, event_now);
    let heard = Heard { cluster, subject: asked.service, fingerprint, name: ASKED, at: event_now, critical: false };
    triage.correlator.joined(&id, heard, topology);
    info!(order = number, by = order.by, told, "an incident was asked for");
    desk.bells.outbox.notify_one();
    desk.bells.incidents.notify_one();
    Ok(())
}
