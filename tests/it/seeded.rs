//! Incidents that are in the store before the watch starts: with a plan that waits for people, as an
//! investigation would have left it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midwatch::domain::action::Action;
use midwatch::domain::alert::{Fingerprint, Severity};
use midwatch::domain::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use midwatch::domain::evidence::{Evidence, EvidenceKind, Taint};
use midwatch::domain::id::{Digest, IncidentId};
use midwatch::domain::incident::{Incident, IncidentEvent, JoinedAlert, Sev};
use midwatch::domain::plan::{BlastRadius, Plan, Surroundings, target};
use midwatch::domain::root_cause::Candidate;
use midwatch::domain::severity::Said;
use midwatch::domain::time::Timestamp;
use midwatch::flow::deliver::Effect;
use midwatch::store::{Batch, Draft, NewEffect, Store};

use crate::talking::Talking;

pub struct Seeded {
    pub approvals: usize,
    pub requester: Option<&'static str>,
    pub expires_in: Duration,
    pub severity: Sev,
}

impl Default for Seeded {
    fn default() -> Self {
        Self { approvals: 1, requester: None, expires_in: Duration::from_secs(280), severity: Sev::Two }
    }
}

pub fn now() -> Timestamp {
    Timestamp::from_millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
}

/// What the buttons of the card carry.
pub const CARD: &str = "INC-1.P1.0a1b2c3d4e5f";

/// Puts INC-1 about `pay` into the folder of a watch, and starts the watch again on it.
pub async fn with_plan(talking: &mut Talking, seeded: Seeded) {
    talking.stop();
    write(&talking.data(), seeded).await;
    talking.again().await;
}

async fn write(data: &Path, seeded: Seeded) {
    let store = Store::open(&data.join("midwatch.db").display().to_string()).await.unwrap();
    let (wall_now, id) = (now(), IncidentId::numbered(1));
    let action = Action::Scale { target: target("default", "shop", "Deployment", "pay", "uid-1"), from: 6, to: 2 };
    let plan = Plan {
        id: id.plan(1),
        tier: action.tier(),
        because: "pay has more pods than its database has connections".into(),
        service: "pay".into(),
        blast: BlastRadius::of("pay", &action, &Surroundings::default(), &Default::default()),
        diff: "-replicas: 6\n+replicas: 2".into(),
        undo: action.undo(),
        checks: vec![],
        evidence: vec![],
        digest: Digest::from_hex(format!("{}{}", CARD.rsplit('.').next().unwrap(), "0".repeat(52))),
        expires_at: wall_now + seeded.expires_in,
        approvals_needed: seeded.approvals,
        requester: seeded.requester.map(str::to_owned),
        action,
    };
    let diagnosis = Diagnosis {
        service: Some("pay".into()),
        change: None,
        mechanism: "too many connections".into(),
        verdict: Verdict::Likely,
        confidence: 0.7,
        claims: vec![Claim { text: "pay waits for connections".into(), evidence: vec![] }],
        ruled_out: vec![Claim { text: "the disk is well".into(), evidence: vec![] }],
        remedy: Remedy::Restart { service: "pay".into() },
        reasoner: "none".into(),
        dropped: vec![],
        needs: None,
        proofs: vec![],
        otherwise: None,
    };
    let candidate = Candidate {
        node: "pay-db".into(),
        change: None,
        score: 1.5,
        supports: vec![Claim { text: "its connections are used up".into(), evidence: vec![] }],
        contradicts: vec![Claim { text: "its statements are as fast as before".into(), evidence: vec![] }],
    };
    let alert = JoinedAlert {
        fingerprint: Fingerprint::of(&Default::default()),
        name: "Down".into(),
        subject: "pay".into(),
        severity: Severity::Critical,
        starts_at: wall_now,
        because: "critical".into(),
        again: false,
        still: false,
        said: Said::default(),
        score: None,
        elsewhere: Default::default(),
        namespaces: Default::default(),
    };
    let body = "Down about pay is critical";
    let seen = Evidence {
        id: id.evidence(1),
        incident: id.clone(),
        kind: EvidenceKind::Alert,
        source: "alerts".into(),
        query: "alerts of INC-1".into(),
        observed_at: wall_now,
        digest: Digest::of(body.as_bytes()),
        summary: "1 alert".into(),
        body: body.into(),
        series: vec![],
        taint: Taint::UserWritable,
        found: true,
    };
    let mut draft = Draft::of(Incident::blank(id.clone()));
    for event in [
        IncidentEvent::Opened {
            cluster: "default".into(),
            team: "payments".into(),
            title: "pay: Down".into(),
            severity: seeded.severity,
            because: "users feel it".into(),
            event_at: wall_now,
        },
        IncidentEvent::AlertsJoined { alerts: vec![alert] },
        IncidentEvent::InvestigationStarted { reasoner: "none".into(), because: "settled".into() },
        IncidentEvent::EvidenceStored {
            evidence: seen.id.clone(),
            digest: seen.digest.clone(),
            summary: seen.summary.clone(),
        },
        IncidentEvent::Ranked { candidates: vec![candidate] },
        IncidentEvent::Diagnosed { diagnosis },
        IncidentEvent::PlanProposed { plan: Box::new(plan), ruling: "high risk needs people".into() },
    ] {
        draft.record(event, wall_now).unwrap();
    }
    let effect = |key: &str, effect: Effect| NewEffect {
        key: format!("{id}/{key}"),
        incident: Some(id.to_string()),
        body: serde_json::to_string(&effect).unwrap(),
    };
    let effects = vec![effect("root", Effect::Root), effect("plan/INC-1.P1", Effect::Approval { plan: id.plan(1) })];
    store
        .commit(Batch { drafts: vec![draft], effects, evidence: vec![seen], ..Batch::default() }, wall_now)
        .await
        .unwrap();
    store.close().await;
}

/// People with tokens that are their names.
pub fn people(ids: &[&str]) -> String {
    ids.iter()
        .map(|id| {
            // Where two have one name, the second is told by its team, too.
            let name =
                id.strip_prefix("T1/").or(id.strip_prefix("local/")).map_or_else(|| id.replace('/', ""), str::to_owned);
            format!(
                "[[people]]\nid = \"{id}\"\nname = \"{name}\"\ntoken = \"{name}\"\nemail = \"{name}@example.com\"\n"
            )
        })
        .collect()
}
