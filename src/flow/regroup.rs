//! Merge and split by click. A person orders; the intake, which alone knows what belongs together,
//! carries it out between two batches. What was clicked is kept as a lesson.
//!
//! Invariants: an order is durable before it is carried out, and is carried out once; events, the
//! ledger, lessons and messages are written in one transaction; afterwards a fingerprint is part of
//! one open incident, as before.

mod asked;

pub(super) use asked::ASKED;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::info;

use super::assess::{close_when_quiet, graver, reassess, retitle};
use super::deliver::Effect;
use super::desk::{Desk, FlowError};
use super::{elsewhere, label};
use crate::domain::alert::{Fingerprint, Severity};
use crate::domain::card::{Block, Card, Span, Tone};
use crate::domain::correlate::{Kind, Lesson};
use crate::domain::diagnosis::{Diagnosis, Verdict};
use crate::domain::id::IncidentId;
use crate::domain::incident::{AlertGroup, Incident, IncidentEvent, MACHINE, Sev, State};
use crate::domain::narrative::{by_gravity, note};
use crate::domain::severity::Past;
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::domain::triage::Triage;
use crate::ports::Person;
use crate::store::{AuditEntry, Batch, Draft, LessonRow, MovedSubjects, NewEffect, StoreError};

/// How long the person waits for the answer; the order stands also when it takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
const TRIES: usize = 8;

/// What a person wants of the incidents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Wanted {
    Merge {
        from: IncidentId,
        into: IncidentId,
    },
    Split {
        from: IncidentId,
        subjects: Vec<String>,
    },
    /// Nothing has alerted, and somebody wants to know; `seconds`: how far back it may have begun.
    Open {
        service: String,
        namespace: Option<String>,
        seconds: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    #[serde(flatten)]
    wanted: Wanted,
    by: String,
    name: String,
    because: String,
}

/// Takes the order, waits for the intake to carry it out, and tells what became of it.
pub async fn order(desk: &Desk, by: &Person, wanted: Wanted, because: String) -> Result<Card, FlowError> {
    if let Err(because) = desk.authority_of(&by.id).await {
        let body = serde_json::json!({"wanted": wanted, "because": because});
        desk.audit("regroup.refused", by.id.as_str(), body).await?;
        let what = "incidents are merged and split by people whom policy.approvers names";
        return Err(FlowError::Refused(format!("{what}: {because}")));
    }
    let order = Order { wanted, by: by.id.to_string(), name: by.name.clone(), because };
    if let Err(why) = look_up(desk, &order).await? {
        return Err(FlowError::Refused(why));
    }
    if let Some(outcome) = carried_out(desk, &order).await? {
        return Ok(note(&outcome, Tone::Neutral));
    }
    Ok(note("Kept; it is done as soon as the alerts that came before it are judged.", Tone::Working))
}

/// Diagnosed alike within so long, two incidents are one: two faults of one thing are possible, but
/// rarer than one fault told twice.
const ONE_FAULT: Duration = Duration::from_secs(3600);

/// Open incidents with the same cause become one, the oldest of them. Whether this one is part of
/// another now.
pub(super) async fn join_same_cause(
    desk: &Desk,
    incident: &Incident,
    diagnosis: &Diagnosis,
) -> Result<bool, FlowError> {
    let Some(cause) = diagnosis.service.as_deref().filter(|_| diagnosis.verdict != Verdict::Inconclusive) else {
        return Ok(false);
    };
    let mut candidates: BTreeSet<IncidentId> = BTreeSet::new();
    for (other, found) in desk.store.diagnosed_since(desk.clock.wall_now() - ONE_FAULT).await? {
        if other != incident.id && found.service.as_deref() == Some(cause) {
            candidates.insert(other);
        }
    }
    for other in candidates {
        let Some(other) = desk.store.incident(&other).await?.filter(|other| is_same(other, incident, diagnosis)) else {
            continue;
        };
        let (older, younger) = match (other.since, &other.id) < (incident.since, &incident.id) {
            true => (&other, incident),
            false => (incident, &other),
        };
        let wanted = Wanted::Merge { from: younger.id.clone(), into: older.id.clone() };
        let because = format!("both are caused by {cause}");
        let order = Order { wanted, by: MACHINE.into(), name: MACHINE.into(), because };
        if look_up(desk, &order).await?.is_err() {
            continue;
        }
        carried_out(desk, &order).await?;
        let now = desk.store.incident(&incident.id).await?;
        if now.is_some_and(|incident| matches!(incident.state, State::Merged { .. })) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what was found of the other is what was found here, at about the same time.
fn is_same(other: &Incident, incident: &Incident, diagnosis: &Diagnosis) -> bool {
    let found = other.diagnosis.as_ref().filter(|found| found.verdict != Verdict::Inconclusive);
    let a_person_split = |one: &Incident, two: &Incident| one.split_from.as_ref() == Some(&two.id);
    found.is_some_and(|found| found.service == diagnosis.service && found.change == diagnosis.change)
        && incident.since.abs_diff(other.since) <= ONE_FAULT
        && other.cluster == incident.cluster
        && !other.state.is_over()
        && !a_person_split(other, incident)
        && !a_person_split(incident, other)
}

/// Keeps the order and waits for the intake to carry it out; what became of it, if it is done in time.
async fn carried_out(desk: &Desk, order: &Order) -> Result<Option<String>, FlowError> {
    let body = serde_json::to_string(order).unwrap_or_default();
    let id = desk.store.order_regroup(&body, desk.clock.wall_now()).await?;
    desk.bells.alerts.notify_one();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline && !desk.stopping() {
        if let Some(outcome) = desk.store.regroup_outcome(id).await? {
            return Ok(Some(outcome));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(None)
}

/// The incidents of an order, or why it is not possible now.
async fn look_up(desk: &Desk, order: &Order) -> Result<Result<Vec<Incident>, String>, FlowError> {
    let wanted = &order.wanted;
    let ids = match wanted {
        Wanted::Merge { from, into } => vec![from, into],
        Wanted::Split { from, .. } => vec![from],
        Wanted::Open { .. } => vec![],
    };
    let mut found = vec![];
    for id in ids {
        match desk.store.incident(id).await? {
            Some(incident) => found.push(incident),
            None => return Ok(Err(format!("{id} does not exist; /ops incidents lists the open ones"))),
        }
    }
    Ok(possible(order, &found).map(|()| found))
}

fn possible(order: &Order, found: &[Incident]) -> Result<(), String> {
    let wanted = &order.wanted;
    for (at, incident) in found.iter().enumerate() {
        let id = &incident.id;
        match &incident.state {
            // What was decided about the cause holds for what joins it.
            State::Awaiting { .. } | State::Executing { .. } | State::Verifying { .. }
                if order.by == MACHINE && at == 1 => {}
            State::Open | State::Investigating | State::Diagnosed | State::HandedOver { .. } => {}
            State::Awaiting { .. } => {
                return Err(format!("{id} waits for a decision on its plan; decide on that first"));
            }
            State::Executing { .. } | State::Verifying { .. } => {
                return Err(format!("a remediation of {id} runs; wait until it is verified"));
            }
            State::Resolved { .. } => return Err(format!("{id} is resolved; only open incidents change")),
            State::Merged { into } => return Err(format!("{id} went into {into} already")),
        }
    }
    match (wanted, found) {
        (Wanted::Merge { .. }, [from, into]) if from.cluster != into.cluster => {
            Err(format!("{} is about cluster {}, {} about {}", from.id, from.cluster, into.id, into.cluster))
        }
        (Wanted::Split { from, subjects }, [incident]) => {
            let known = incident.subjects();
            if let Some(stranger) = subjects.iter().find(|name| !known.contains(name.as_str())) {
                let names = known.iter().take(12).copied().collect::<Vec<_>>().join(", ");
                return Err(format!("{from} has no alert about {stranger}; it is about {names}"));
            }
            match known.iter().all(|name| subjects.iter().any(|leaves| leaves == name)) {
                true => Err(format!("all of {from} would leave it; name only what is another fault")),
                false => Ok(()),
            }
        }
        (Wanted::Merge { .. } | Wanted::Split { .. } | Wanted::Open { .. }, _) => Ok(()),
    }
}

/// Carries out what people have ordered meanwhile. After an error nothing is written, but the
/// correlator may know more than the store: build it again.
pub(super) async fn carry_out(triage: &mut Triage, desk: &Desk) -> Result<(), FlowError> {
    for (id, body) in desk.store.open_regroups().await? {
        let outcome = match serde_json::from_str::<Order>(&body) {
            Ok(order) => one(triage, desk, id, &order).await?,
            Err(unreadable) => Err(format!("the order cannot be read: {unreadable}")),
        };
        if let Err(why) = outcome {
            let mut batch = Batch::default();
            batch.audit.push(AuditEntry {
                kind: "regroup.refused".into(),
                subject: format!("order {id}"),
                body: serde_json::json!({"order": body, "because": why}),
            });
            batch.taught.regrouped.push((id, format!("Not done: {why}.")));
            desk.store.commit(batch, desk.clock.wall_now()).await?;
        }
    }
    Ok(())
}

async fn one(triage: &mut Triage, desk: &Desk, id: i64, order: &Order) -> Result<Result<(), String>, FlowError> {
    let found = match look_up(desk, order).await? {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let topology = desk.topology().await;
    let past = desk.past().await?;
    let (new, lessons) = match &order.wanted {
        Wanted::Open { service, namespace, seconds } => {
            let asked = asked::Asked { service, namespace: namespace.as_deref(), seconds: *seconds };
            return asked::open(triage, desk, id, order, &asked, &topology).await.map(Ok);
        }
        Wanted::Merge { from, into } if order.by == MACHINE => {
            (None, triage.correlator.merge_by_cause(from, into).map(|()| vec![]))
        }
        Wanted::Merge { from, into } => (None, triage.correlator.merge_by_person(from, into)),
        Wanted::Split { from, subjects } => {
            let members = desk.store.members_of(from).await?;
            let leaving: Vec<Fingerprint> = members
                .iter()
                .filter(|(_, subject)| subjects.contains(subject))
                .filter_map(|(fingerprint, _)| Fingerprint::parse(fingerprint))
                .collect();
            let new = triage.next_incident();
            let lessons = triage.correlator.split_by_person(from, &leaving, &new);
            (Some(new), lessons)
        }
    };
    let Some(lessons) = lessons else {
        return Ok(Err("its alerts are not at hand any more".into()));
    };
    let mut found = found;
    for _ in 0..TRIES {
        let wall_now = desk.clock.wall_now();
        let mut batch = Batch::default();
        let told = match (&order.wanted, found.as_slice(), &new) {
            (Wanted::Merge { .. }, [from, into], _) => {
                merged(desk, order, from, into, &topology, &past, &mut batch, wall_now)?
            }
            (Wanted::Split { subjects, .. }, [from], Some(new)) => {
                split(desk, order, from, new, subjects, &topology, &past, &mut batch, wall_now)?
            }
            (Wanted::Merge { .. } | Wanted::Split { .. } | Wanted::Open { .. }, _, _) => {
                return Ok(Err("it names other incidents now".into()));
            }
        };
        batch.taught.lessons = lessons.iter().map(|lesson| row_of(lesson, order)).collect();
        batch.taught.regrouped.push((id, told.clone()));
        let over: Vec<IncidentId> = batch
            .drafts
            .iter()
            .filter(|draft| matches!(draft.incident.state, State::Resolved { .. }))
            .map(|draft| draft.incident.id.clone())
            .collect();
        elsewhere::announce(desk, &mut batch, wall_now);
        match desk.store.commit(batch, wall_now).await {
            Ok(_) => {
                desk.bells.elsewhere.notify_one();
                over.iter().for_each(|id| drop(triage.correlator.closed(id)));
                info!(order = id, by = order.by, told, "incidents regrouped");
                desk.bells.outbox.notify_one();
                desk.bells.incidents.notify_one();
                return Ok(Ok(()));
            }
            Err(StoreError::Stale(_)) => match look_up(desk, order).await? {
                Ok(newer) => found = newer,
                // The correlator has done it already: it must be built again, and the order refused then.
                Err(why) => return Err(FlowError::Refused(why)),
            },
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(FlowError::Store(StoreError::Stale(format!("order {id}"))))
}

#[allow(clippy::too_many_arguments)] // one call site; a struct would only rename the list
fn merged(
    desk: &Desk,
    order: &Order,
    from: &Incident,
    into: &Incident,
    topology: &Topology,
    past: &Past,
    batch: &mut Batch,
    wall_now: Timestamp,
) -> Result<String, FlowError> {
    let because = format!("{}: {}", order.name, order.because);
    let (mut gone, mut stays) = (Draft::of(from.clone()), Draft::of(into.clone()));
    let groups = from.carried();
    gone.record(IncidentEvent::Merged { into: into.id.clone(), because: because.clone() }, wall_now)?;
    stays.record(IncidentEvent::Absorbed { from: from.id.clone(), because, groups }, wall_now)?;
    if let Some(handing) = heir(from, into, &order.by) {
        stays.record(handing, wall_now)?;
        batch.effects.extend(tell_heir(&stays.incident, &from.id));
    }
    reassess(&mut stays, topology, past, wall_now)?;
    batch.effects.extend(graver(&stays.incident, into.severity));
    close_when_quiet(&mut stays, None, wall_now, desk.clock.event_now())?;
    batch.moved.push((from.id.clone(), into.id.clone()));
    let merge = format!("merged {} into it", from.id);
    if order.by != MACHINE {
        batch.taught.labels.push(label::of_incident(&stays.incident, true, &order.by, &merge));
    }
    for (incident, text) in [
        (&from.id, format!("{} merged this into {}: {}", order.name, into.id, order.because)),
        (&into.id, format!("{} merged {} into this: {}", order.name, from.id, order.because)),
    ] {
        tell(batch, incident, &format!("note/merged/{}", from.id), &text);
    }
    batch.drafts = vec![gone, stays];
    Ok(format!("{} is part of {} now ({}).", from.id, into.id, order.because))
}

#[allow(clippy::too_many_arguments)] // one call site; a struct would only rename the list
fn split(
    desk: &Desk,
    order: &Order,
    from: &Incident,
    new: &IncidentId,
    subjects: &[String],
    topology: &Topology,
    past: &Past,
    batch: &mut Batch,
    wall_now: Timestamp,
) -> Result<String, FlowError> {
    let because = format!("{} split it from {}: {}", order.name, from.id, order.because);
    let groups: Vec<AlertGroup> =
        from.alerts.values().filter(|group| subjects.contains(&group.subject)).cloned().collect();
    let (mut stays, mut leaves) = (Draft::of(from.clone()), Draft::of(Incident::blank(new.clone())));
    let critical = groups.iter().any(|group| group.severity == Severity::Critical);
    leaves.record(
        IncidentEvent::Opened {
            cluster: from.cluster.clone(),
            team: from.team.clone(),
            title: title(&groups),
            severity: if critical { Sev::Two } else { Sev::Three },
            because: because.clone(),
            event_at: groups.iter().map(|group| group.first_at).min().unwrap_or(from.since),
        },
        wall_now,
    )?;
    let came = IncidentEvent::CameFrom { from: from.id.clone(), groups, by: order.by.clone(), because };
    leaves.record(came, wall_now)?;
    reassess(&mut leaves, topology, past, wall_now)?;
    let gone = IncidentEvent::SplitOff {
        into: new.clone(),
        subjects: subjects.to_vec(),
        by: order.by.clone(),
        because: order.because.clone(),
    };
    stays.record(gone, wall_now)?;
    let named = stays.incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.clone());
    if named.is_some_and(|service| subjects.contains(&service)) {
        let because = format!("what it was blamed on is {new} now");
        stays.record(IncidentEvent::InvestigationStarted { reasoner: desk.reasoner_name(), because }, wall_now)?;
    }
    if stays.incident.subjects().len() > 1 {
        reassess(&mut stays, topology, past, wall_now)?;
    }
    // What has left must not go on standing in the title, whatever was found before.
    retitle(&mut stays, wall_now)?;
    close_when_quiet(&mut stays, None, wall_now, desk.clock.event_now())?;
    let subjects = subjects.to_vec();
    let names = subjects.join(", ");
    batch.taught.moved_subjects.push(MovedSubjects { from: from.id.clone(), into: new.clone(), subjects });
    for (incident, text) in [
        (&from.id, format!("{} split {names} off as {new}: {}", order.name, order.because)),
        (new, format!("{} split this from {}: {}", order.name, from.id, order.because)),
    ] {
        tell(batch, incident, &format!("note/split/{new}"), &text);
    }
    batch.drafts = vec![stays, leaves];
    Ok(format!("{names} is {new} now, apart from {} ({}).", from.id, order.because))
}

fn title(groups: &[AlertGroup]) -> String {
    let first = groups.iter().min_by(|one, other| by_gravity(one, other));
    first.map_or_else(|| "an incident".to_owned(), |group| format!("{}: {}", group.subject, group.name))
}

fn tell(batch: &mut Batch, incident: &IncidentId, key: &str, text: &str) {
    batch.effects.extend(with_root(incident, key, note(text, Tone::Neutral)));
}

fn with_root(incident: &IncidentId, key: &str, card: Card) -> [NewEffect; 2] {
    [("root", Effect::Root), (key, Effect::Note { card })].map(|(key, effect)| NewEffect {
        key: format!("{incident}/{key}"),
        incident: Some(incident.to_string()),
        body: serde_json::to_string(&effect).unwrap_or_default(),
    })
}

/// Whoever has taken the one has taken what it is part of now; but not what is graver than what they took:
/// for that people are called. What they have not accepted yet they have to accept here, from the same person.
pub(super) fn heir(gone: &Incident, stays: &Incident, by: &str) -> Option<IncidentEvent> {
    let asks_no_more = gone.severity >= stays.severity;
    // Whoever is at it goes before whoever was only asked.
    let is_free = stays.owner.is_none() || gone.is_taken() && !stays.is_taken();
    let to = gone.owner.clone().filter(|_| is_free && asks_no_more)?;
    Some(match &gone.handed {
        Some(handed) if to != by => {
            let because = Some(format!("had handed over {}", gone.id));
            IncidentEvent::HandedTo { to, by: handed.by.clone(), because, to_accept: true }
        }
        Some(_) | None => {
            let because = Some(format!("had taken {}", gone.id));
            IncidentEvent::HandedTo { to, by: by.to_owned(), because, to_accept: false }
        }
    })
}

/// They did not ask for it: it is said to them.
pub(super) fn tell_heir(stays: &Incident, gone: &IncidentId) -> [NewEffect; 2] {
    let (severity, id) = (stays.severity.as_str(), &stays.id);
    let text = match stays.is_taken() {
        true => format!(
            "{gone}, which you had taken, is part of this {severity} now, so that it is yours; /ops handover {id} \
             passes it on."
        ),
        false => format!(
            "{gone}, which was handed to you, is part of this {severity} now: press Acknowledge or write /ops take \
             {id} to accept it, or /ops handover {id} to pass it on."
        ),
    };
    let person = stays.owner.iter().flat_map(|owner| [Span::Person { id: owner.clone() }, Span::plain(" ")]);
    let spans = person.chain([Span::plain(text.clone())]).collect();
    let card = Card { fallback: text, blocks: vec![Block::Text { spans }] };
    with_root(&stays.id, &format!("note/handed/{gone}"), card)
}

/// Subject and name of one side of a lesson, as they are stored.
#[derive(Serialize, Deserialize)]
struct Side {
    subject: String,
    name: String,
}

fn row_of(lesson: &Lesson, order: &Order) -> LessonRow {
    let (kind, a, b) = match lesson {
        Lesson::Together { a, b } => ("together", a, b),
        Lesson::Apart { a, b } => ("apart", a, b),
    };
    let side = |kind: &Kind| {
        let side = Side { subject: kind.subject.clone(), name: kind.name.clone() };
        serde_json::to_string(&side).unwrap_or_default()
    };
    LessonRow {
        kind: kind.into(),
        cluster: a.cluster.clone(),
        a: side(a),
        b: side(b),
        person: order.by.clone(),
        because: order.because.clone(),
    }
}

/// A stored lesson as the correlator learns it.
pub(super) fn lesson_of(row: &LessonRow) -> Option<Lesson> {
    let side = |text: &str| {
        let Side { subject, name } = serde_json::from_str(text).ok()?;
        Some(Kind { cluster: row.cluster.clone(), subject, name })
    };
    let (a, b) = (side(&row.a)?, side(&row.b)?);
    match row.kind.as_str() {
        "together" => Some(Lesson::Together { a, b }),
        "apart" => Some(Lesson::Apart { a, b }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::Handed;

    #[test]
    fn nobody_inherits_what_is_graver_than_what_they_took() {
        let of = |severity: Sev, owner: Option<&str>| {
            let mut incident = Incident::blank(IncidentId::numbered(1));
            (incident.severity, incident.owner) = (severity, owner.map(str::to_owned));
            incident
        };
        let (light, grave) = (of(Sev::Four, Some("t/ada")), of(Sev::One, None));
        let to = |gone: &Incident, stays: &Incident| match heir(gone, stays, MACHINE) {
            Some(IncidentEvent::HandedTo { to, to_accept: false, .. }) => Some(to),
            Some(other) => panic!("{other:?}"),
            None => None,
        };
        assert_eq!(to(&light, &grave), None, "people are called for it");
        assert_eq!(to(&of(Sev::One, Some("t/bob")), &of(Sev::Three, None)).as_deref(), Some("t/bob"));
        assert_eq!(to(&of(Sev::Two, Some("t/bob")), &of(Sev::Two, None)).as_deref(), Some("t/bob"));
        assert_eq!(to(&of(Sev::One, Some("t/bob")), &of(Sev::Three, Some("t/cleo"))), None, "it has an owner");
        let handed = Some(Handed { by: "t/ada".into(), at: Timestamp::default() });
        let asked = Incident { handed, ..of(Sev::Three, Some("t/cleo")) };
        assert_eq!(to(&of(Sev::One, Some("t/bob")), &asked).as_deref(), Some("t/bob"), "Cleo was only asked");
        assert_eq!(to(&Incident { severity: Sev::One, ..asked.clone() }, &asked), None, "so was who comes");
        let told = tell_heir(&of(Sev::Two, Some("t/bob")), &IncidentId::numbered(9));
        assert!(told[1].body.contains(r#""id":"t/bob""#) && told[0].key == "INC-1/root", "{told:?}");
        assert!(told[1].body.contains("which you had taken"), "{told:?}");
    }

    #[test]
    fn what_was_not_accepted_is_not_accepted_by_a_merge() {
        let handed = Handed { by: "t/ada".into(), at: Timestamp::from_secs(1_000) };
        let of = |number: i64| Incident { severity: Sev::One, ..Incident::blank(IncidentId::numbered(number)) };
        let (mut gone, mut stays) = (of(2), of(1));
        (gone.owner, gone.handed) = (Some("t/bob".into()), Some(handed.clone()));
        let (to, because) = ("t/bob".to_owned(), Some("had handed over INC-2".to_owned()));
        let expected = IncidentEvent::HandedTo { to, by: "t/ada".into(), because, to_accept: true };
        assert_eq!(heir(&gone, &stays, MACHINE), Some(expected));
        let own = heir(&gone, &stays, "t/bob");
        assert!(matches!(own, Some(IncidentEvent::HandedTo { to_accept: false, .. })), "their own word: {own:?}");
        (stays.owner, stays.handed) = (Some("t/bob".into()), Some(handed));
        let told = tell_heir(&stays, &gone.id);
        assert!(told[1].body.contains("INC-2, which was handed to you, is part of this SEV1 now: press"), "{told:?}");
    }
}
