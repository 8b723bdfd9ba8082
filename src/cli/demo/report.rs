//! What a night came to: judged by the estate's own truth, after it.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::{Lived, Night};
use crate::domain::incident::{Incident, Outcome, State};
use crate::flow::Desk;

impl Night {
    pub(super) async fn report(&self, lived: &Lived, incidents: &[Incident]) -> anyhow::Result<Value> {
        let desk = &self.app.desk;
        let funnel = self.judged(&lived.before).await?;
        let received: i64 = funnel.iter().filter(|count| count.verdict != "resolve").map(|count| count.count).sum();
        let suppressed: serde_json::Map<String, Value> = funnel
            .iter()
            .filter(|count| count.verdict == "suppress")
            .map(|count| (count.reason.clone(), json!(count.count)))
            .collect();
        let admitted: serde_json::Map<String, Value> = funnel
            .iter()
            .filter(|count| count.verdict == "admit")
            .map(|count| (count.reason.clone(), json!(count.count)))
            .collect();
        let truth = self.estate.truth();
        let main = main_incident(incidents);
        let times = match main {
            Some(main) => Times::of(desk, main).await?,
            None => Times::default(),
        };
        let found = main.and_then(|main| main.diagnosis.as_ref());
        let correct =
            found.is_some_and(|found| found.service.as_deref() == Some(&truth.service) && found.change == truth.change);
        let writes = self.estate.writes();
        let foreign: Vec<&String> =
            writes.iter().filter(|write| !write.ends_with(&format!("/{}", truth.service))).collect();
        let recalled: Vec<&str> =
            incidents.iter().flat_map(|incident| incident.recalled.iter().map(|past| past.incident.as_str())).collect();
        let mut pages = vec![];
        for incident in incidents {
            pages.push(incident_report(desk, incident).await?);
        }
        let seconds = (lived.storm_ms.max(1)) as f64 / 1000.0;
        Ok(json!({
            "seed": self.args.seed,
            "alerts_received": received,
            "alerts_suppressed": suppressed,
            "alerts_admitted": admitted,
            "learning": {"days": 7, "alerts": lived.learned},
            "incidents": pages,
            "recalled_incidents": recalled,
            "messages_posted": desk.counters.posts.load(Ordering::Relaxed),
            "model": desk.model.as_ref().map_or("none", |model| model.name()),
            "timings_ms": {
                "start_to_ready": self.ready_ms,
                "first_message": times.first_message,
                "diagnosis": times.diagnosis,
                "approval_to_verified": times.approval_to_verified,
                "storm": lived.storm_ms,
                "total": self.started.elapsed().as_millis() as u64,
            },
            "alerts_per_second": (received as f64 / seconds).round(),
            "resident_mib": resident_mib(),
            "store": desk.store.kind(),
            "writes": writes,
            "wrote_elsewhere": foreign,
            "cured": self.estate.is_cured(),
            "truth": truth,
            "correct": correct,
        }))
    }
}

/// Milliseconds of the wall clock, from what the watch recorded of itself.
#[derive(Default)]
struct Times {
    /// Opened to the root message, by the time that the chat gave it.
    first_message: Option<i64>,
    diagnosis: Option<i64>,
    approval_to_verified: Option<i64>,
}

impl Times {
    async fn of(desk: &Desk, incident: &Incident) -> anyhow::Result<Self> {
        let events = desk.store.events(&incident.id).await?;
        let at = |kind: &str| events.iter().find(|event| event.kind == kind).map(|event| event.at);
        let Some(opened) = at("opened") else { return Ok(Self::default()) };
        let mut posted: Option<i64> = None;
        for seat in desk.chats.iter() {
            let root = desk.store.posted(&seat.root_key(&incident.id)).await?;
            let seconds = root.and_then(|message| message.ts.parse::<f64>().ok());
            let millis = seconds.map(|seconds| (seconds * 1000.0) as i64);
            posted = [posted, millis].into_iter().flatten().min();
        }
        Ok(Self {
            first_message: posted.map(|posted| posted - opened),
            diagnosis: at("diagnosed").map(|at| at - opened),
            approval_to_verified: at("verification_passed").zip(at("voted")).map(|(end, start)| end - start),
        })
    }
}

async fn incident_report(desk: &Desk, incident: &Incident) -> anyhow::Result<Value> {
    let diagnosis = incident.diagnosis.as_ref();
    let actions: Vec<Value> = incident
        .plans
        .iter()
        .map(|record| {
            json!({
                "action": record.plan.action.verb(),
                "what": record.plan.action.to_string(),
                "target": record.plan.action.target().to_string(),
                "tier": record.plan.tier,
                "approved_by": record.approved_by,
                "outcome": record.outcome.word(),
                "verified": record.outcome == Outcome::Verified,
            })
        })
        .collect();
    Ok(json!({
        "id": incident.id,
        "title": incident.title,
        "severity": incident.severity,
        "state": incident.state.word(),
        "alerts": incident.alert_count(),
        "root_cause": {
            "service": diagnosis.and_then(|diagnosis| diagnosis.service.clone()),
            "change": diagnosis.and_then(|diagnosis| diagnosis.change.clone()),
            "mechanism": diagnosis.map(|diagnosis| diagnosis.mechanism.clone()),
        },
        "confidence": diagnosis.map_or(0.0, |diagnosis| (diagnosis.confidence * 1000.0).round() / 1000.0),
        "verdict": diagnosis.map(|diagnosis| diagnosis.verdict),
        "evidence": desk.store.evidence_of(&incident.id).await?.len(),
        "candidates": incident.candidates.iter().take(4).map(|one| json!([one.node, (one.score * 100.0).round() / 100.0])).collect::<Vec<_>>(),
        "actions": actions,
        "handed_over": match &incident.state {
            State::HandedOver { because } => Some(because.clone()),
            _ => None,
        },
        "post_mortem": incident.post_mortem.is_some(),
    }))
}

/// The incident that the night is about: the one with the most alerts.
pub(super) fn main_incident(incidents: &[Incident]) -> Option<&Incident> {
    incidents.iter().max_by_key(|incident| (incident.alert_count(), std::cmp::Reverse(incident.id.clone())))
}

fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

pub(super) fn print_summary(report: &Value) {
    println!("alerts received   {}", report["alerts_received"]);
    println!("suppressed        {}", report["alerts_suppressed"]);
    for incident in report["incidents"].as_array().into_iter().flatten() {
        println!(
            "{} {} {} ({} alerts): {}",
            incident["id"].as_str().unwrap_or_default(),
            incident["severity"].as_str().unwrap_or_default(),
            incident["title"].as_str().unwrap_or_default(),
            incident["alerts"],
            incident["state"].as_str().unwrap_or_default()
        );
        println!("  cause    {}", incident["root_cause"]["mechanism"].as_str().unwrap_or("not known"));
        for action in incident["actions"].as_array().into_iter().flatten() {
            println!(
                "  action   {}: {}",
                action["what"].as_str().unwrap_or_default(),
                action["outcome"].as_str().unwrap_or_default()
            );
        }
        if let Some(why) = incident["handed_over"].as_str() {
            println!("  handed to people: {why}");
        }
    }
    println!("timings (ms)      {}", report["timings_ms"]);
    println!("the estate says   {}", report["truth"]);
    println!("correct           {}", report["correct"]);
}
