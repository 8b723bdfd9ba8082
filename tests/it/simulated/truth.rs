//! What must be true of a night, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use midwatch::domain::action::{Action, Undo};
use midwatch::domain::incident::{Incident, Outcome, State};
use midwatch::world::kubernetes::Write;

use super::night::{Night, is_final};

/// P7: what has not come to an end.
pub async fn unfinished(night: &Night) -> Vec<String> {
    let mut open = vec![];
    for incident in night.incidents().await {
        for record in incident.plans.iter().filter(|record| !is_final(&record.outcome)) {
            open.push(format!("P7: {} stays {}", record.plan.id, record.outcome.word()));
        }
        if !matches!(incident.state, State::Resolved { .. } | State::HandedOver { .. } | State::Merged { .. }) {
            open.push(format!("P7: {} stays {:?}", incident.id, incident.state));
        }
    }
    let due = night.desk().store.outbox_due(midwatch::domain::time::Timestamp::from_millis(i64::MAX / 4), 100).await;
    let due = due.unwrap().len();
    if due > 0 {
        open.push(format!("{due} messages are still to be told"));
    }
    open
}

/// What a write did, as the cluster saw it: a deployment and its new number, or a restart.
fn effect(write: &Write) -> (String, Option<i64>) {
    (write.name.clone(), write.body.pointer("/spec/replicas").and_then(serde_json::Value::as_i64))
}

fn effect_of(action: &Action) -> Option<(String, Option<i64>)> {
    match action {
        Action::Scale { target, to, .. } => Some((target.name.clone(), Some(i64::from(*to)))),
        Action::Restart { target } => Some((target.name.clone(), None)),
        _ => None,
    }
}

/// What a violation is read with.
fn told(incidents: &[Incident]) -> String {
    let plans = incidents.iter().flat_map(|incident| &incident.plans);
    let line = |record: &midwatch::domain::incident::PlanRecord| {
        format!("\n    {} {} {:?} {:?}", record.plan.id, record.plan.action, record.outcome, record.facts)
    };
    plans.map(line).collect()
}

pub async fn check(night: &mut Night) -> Vec<String> {
    let mut broken = vec![];
    let incidents = night.incidents().await;
    alerts(night, &incidents, &mut broken);
    writes(night, &incidents, &mut broken);
    calls(night, &incidents, &mut broken);
    messages(night, &incidents, &mut broken);
    for what in night.switch.ignored.lock().unwrap().iter() {
        broken.push(format!("P6: {what} was begun while everything was paused{}", told(&incidents)));
    }
    let report = night.desk().store.verify_audit().await;
    match report {
        Ok(report) if report.fault.is_none() => {}
        other => broken.push(format!("P10: the audit chain: {other:?}")),
    }
    let sums = &mut night.sums;
    sums.incidents = incidents.len();
    for record in incidents.iter().flat_map(|incident| &incident.plans) {
        sums.plans += 1;
        match &record.outcome {
            Outcome::Verified | Outcome::Recurred => sums.verified += 1,
            Outcome::Undone => sums.undone += 1,
            Outcome::Failed { .. } => sums.failed += 1,
            Outcome::Rejected => sums.rejected += 1,
            Outcome::Expired => sums.expired += 1,
            Outcome::Voided { .. } => sums.voided += 1,
            _ => {}
        }
    }
    broken
}

/// P1, P2: what was acknowledged is in an incident, and in one open incident at most.
fn alerts(night: &Night, incidents: &[Incident], broken: &mut Vec<String>) {
    for service in &night.fired {
        if !incidents.iter().any(|incident| incident.subjects().iter().any(|subject| subject == service)) {
            broken.push(format!("P1: the alert about {service} was acknowledged and is in no incident"));
        }
    }
    let mut open: BTreeMap<&String, usize> = BTreeMap::new();
    for incident in incidents.iter().filter(|one| !matches!(one.state, State::Resolved { .. } | State::Merged { .. })) {
        for (name, _) in incident.alerts.iter().filter(|(_, group)| group.count > group.resolved) {
            *open.entry(name).or_default() += 1;
        }
    }
    for (name, count) in open.into_iter().filter(|(_, count)| *count > 1) {
        broken.push(format!("P2: {name} is in {count} open incidents"));
    }
}

/// P5, P6: a write for each plan at most, and one for its undo; none without two people's decision.
fn writes(night: &mut Night, incidents: &[Incident], broken: &mut Vec<String>) {
    let seen: Vec<Write> =
        night.state.lock().unwrap().writes().into_iter().filter(|write| write.status < 300).collect();
    night.sums.writes = seen.len();
    let mut may: BTreeMap<(String, Option<i64>), usize> = BTreeMap::new();
    let mut must: BTreeMap<(String, Option<i64>), usize> = BTreeMap::new();
    for record in incidents.iter().flat_map(|incident| &incident.plans) {
        let plan = &record.plan;
        let begun = matches!(
            record.outcome,
            Outcome::Started
                | Outcome::Written
                | Outcome::Verified
                | Outcome::NotVerified
                | Outcome::Undone
                | Outcome::NotUndone { .. }
                | Outcome::Recurred
                | Outcome::Overruled { .. }
                | Outcome::Failed { .. }
        );
        if begun && record.approved_by.is_empty() {
            broken.push(format!("P6: {} ran and nobody approved it", plan.id));
        }
        if record.approved_by.iter().any(|by| by.ends_with("/guest")) {
            broken.push(format!("P6: a guest approved {}", plan.id));
        }
        if plan.requester.as_ref().is_some_and(|asked| record.approved_by.iter().any(|by| by == asked.as_str())) {
            broken.push(format!("P6: who asked for {} approved it", plan.id));
        }
        let Some(effect) = effect_of(&plan.action) else { continue };
        let before = match &plan.action {
            Action::Scale { target, from, .. } => Some((target.name.clone(), Some(i64::from(*from)))),
            _ => None,
        };
        if begun {
            *may.entry(effect.clone()).or_default() += 1;
        }
        if matches!(record.outcome, Outcome::Verified | Outcome::Recurred | Outcome::Undone | Outcome::NotUndone { .. })
        {
            *must.entry(effect).or_default() += 1;
        }
        if let Some(before) = before.filter(|_| begun) {
            *may.entry(before.clone()).or_default() += 1;
            if record.outcome == Outcome::Undone {
                *must.entry(before).or_default() += 1;
            }
        }
    }
    let mut did: BTreeMap<(String, Option<i64>), usize> = BTreeMap::new();
    seen.iter().for_each(|write| *did.entry(effect(write)).or_default() += 1);
    for (effect, count) in &did {
        let most = may.get(effect).copied().unwrap_or(0);
        if *count > most {
            broken.push(format!("P5: {effect:?} was written {count} times; plans explain {most}{}", told(incidents)));
        }
    }
    for (effect, count) in &must {
        let seen = did.get(effect).copied().unwrap_or(0);
        if seen < *count {
            broken
                .push(format!("P5: {effect:?} is told {count} times and was written {seen} times{}", told(incidents)));
        }
    }
}

/// `INC-1.P1` or `INC-1.P1-undo`, without what was drawn for the execution.
fn of_plan(mark: &str) -> String {
    let (named, undo) = mark.strip_suffix("-undo").map_or((mark, ""), |named| (named, "-undo"));
    format!("{}{undo}", named.rsplit_once('-').map_or(named, |(plan, _)| plan))
}

/// P5, P6 of declared hooks: one call for a plan at most, and one of its undo.
fn calls(night: &mut Night, incidents: &[Incident], broken: &mut Vec<String>) {
    let calls = night.calls.lock().unwrap();
    night.sums.calls = calls.len();
    let plans: BTreeMap<String, _> =
        incidents.iter().flat_map(|one| &one.plans).map(|record| (record.plan.id.to_string(), record)).collect();
    let mut seen: BTreeMap<(&String, String), usize> = BTreeMap::new();
    // By plan: a second claim of one would draw another mark.
    calls.iter().for_each(|(hook, mark)| *seen.entry((hook, of_plan(mark))).or_default() += 1);
    for ((hook, mark), count) in seen {
        let record = plans.get(mark.trim_end_matches("-undo"));
        let Some(record) = record.filter(|record| !record.approved_by.is_empty()) else {
            broken.push(format!("P6: {hook} was called for {mark}, which nobody approved"));
            continue;
        };
        let undo = match &record.plan.undo {
            Undo::By(action) => Some(action.as_ref()),
            Undo::None(_) => None,
        };
        let meant = if mark.ends_with("-undo") { undo } else { Some(&record.plan.action) };
        if meant.is_none_or(|action| action.target().name != *hook) {
            broken.push(format!("P5: {mark} called {hook}: {}", record.plan.action));
        }
        if count > 1 {
            broken.push(format!("P5: {hook} was called {count} times for {mark}{}", told(incidents)));
        }
    }
}

/// P4: one message for each thing is left, roots before what lies below them, no card that still asks.
fn messages(night: &mut Night, incidents: &[Incident], broken: &mut Vec<String>) {
    let said = night.chat.said.lock().unwrap().clone();
    night.sums.messages = said.len();
    night.sums.taken_back = said.iter().filter(|one| one.removed).count();
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    said.iter().filter(|one| !one.removed).for_each(|one| *left.entry(one.key.as_str()).or_default() += 1);
    for (key, count) in left.iter().filter(|(_, count)| **count > 1) {
        let which = said.iter().filter(|one| one.key == *key);
        let which: Vec<String> =
            which.map(|one| format!("{} at {} ms {:?} {:?}", one.ts, one.at, one.thread, one.card.fallback)).collect();
        broken.push(format!("P4: {count} messages for {key}: {which:#?}"));
    }
    let mut all: BTreeMap<&str, usize> = BTreeMap::new();
    said.iter().for_each(|one| *all.entry(one.key.as_str()).or_default() += 1);
    let standing: BTreeSet<String> = said.iter().filter(|one| !one.removed).map(|one| one.ts.to_string()).collect();
    for one in said.iter().filter(|one| !one.removed) {
        if one.thread.as_ref().is_some_and(|root| !standing.contains(root)) {
            broken.push(format!("P4: {} lies below a message that is gone", one.key));
        }
    }
    for incident in incidents.iter().filter(|one| !matches!(one.state, State::Merged { .. })) {
        let root = format!("{}/root@", incident.id);
        if !said.iter().any(|one| one.key.starts_with(&root) && !one.removed) {
            broken.push(format!("P3: {} has no message", incident.id));
        }
    }
    for one in said.iter().filter(|one| !one.removed && one.key.contains("/plan/")) {
        if serde_json::to_string(&one.card).unwrap_or_default().contains("\"approve\"") {
            broken.push(format!("P7: the card {} still asks", one.key));
        }
    }
}
