//! Earned autonomy: what was done well is counted, a promotion is proposed, a failure demotes at once.
//!
//! Invariant: a mode goes up only by a person who may approve; down it goes by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::deliver::{Effect, Stage};
use super::desk::{Desk, FlowError};
use super::reach;
use crate::domain::action::{Action, ActionKind, RiskTier};
use crate::domain::alert::{DEFAULT_CLUSTER, Severity};
use crate::domain::autonomy::{Criteria, Diagnoses, Subject, TrackRecord, Verdict, demote, judge};
use crate::domain::card::{Card, Span, Tone};
use crate::domain::id::IncidentId;
use crate::domain::incident::{AlertGroup, Incident, IncidentEvent, Outcome};
use crate::domain::narrative::{self, answer};
use crate::domain::plan::Plan;
use crate::domain::policy::Autonomy;
use crate::domain::time::{Timestamp, spoken};
use crate::ports::Person;
use crate::store::{AuditEntry, Batch, NewEffect};

const EARNED: &str = "autonomy";
const PROPOSED: &str = "autonomy_proposed";
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What else may lie between the beginning of an action and its verification.
const A_WHILE: Duration = Duration::from_secs(3600);
/// The field's entry criterion looks at 60 days.
const DIAGNOSES_WITHIN: Duration = Duration::from_secs(60 * 24 * 3600);

/// What was decided for one service and action.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Earned {
    subject: Subject,
    mode: Autonomy,
    /// What the configuration said of its risk when it was earned; absent in what was decided before it was
    /// kept, and in what was taken back.
    #[serde(default)]
    configured: Option<Autonomy>,
    /// A person, or `midwatch` for a demotion.
    by: String,
    because: String,
    at: Timestamp,
}

impl Earned {
    /// What is left of it: whoever has lowered the configuration since wants no more than that.
    fn under(&self, configured: Autonomy) -> Autonomy {
        match self.configured {
            Some(then) if configured < then => self.mode.min(configured),
            Some(_) | None => self.mode,
        }
    }
}

async fn all_earned(desk: &Desk) -> Result<Vec<Earned>, FlowError> {
    let stored = desk.store.setting(EARNED).await?;
    Ok(of_one_name(read_earned(stored.as_deref())?, |cluster| reach::name_of(desk, cluster)))
}

fn read_earned(text: Option<&str>) -> Result<Vec<Earned>, FlowError> {
    let Some(text) = text else { return Ok(vec![]) };
    // Demotions stand here, too: what cannot be read must not pass for nothing.
    serde_json::from_str(text).map_err(|error| FlowError::Outside(format!("what was earned cannot be read: {error}")))
}

/// Older versions kept a line for each name of one cluster; of two the more careful one holds.
fn of_one_name(all: Vec<Earned>, name_of: impl Fn(&str) -> String) -> Vec<Earned> {
    let mut one_each: Vec<Earned> = vec![];
    for mut earned in all {
        earned.subject.cluster = name_of(&earned.subject.cluster);
        match one_each.iter_mut().find(|known| known.subject == earned.subject) {
            Some(known) if earned.mode < known.mode => *known = earned,
            Some(_) => {}
            None => one_each.push(earned),
        }
    }
    one_each
}

/// The mode that was earned; `None`: the configured one holds.
pub(super) async fn mode(desk: &Desk, subject: &Subject, tier: RiskTier) -> Result<Option<Autonomy>, FlowError> {
    let found = all_earned(desk).await?.into_iter().find(|one| one.subject == *subject);
    Ok(found.map(|one| one.under(desk.policy.configured(tier))))
}

async fn keep(desk: &Desk, news: Vec<Earned>, kind: &str, effect: Option<(String, Effect)>) -> Result<(), FlowError> {
    let stored = desk.store.setting(EARNED).await?;
    let mut all = of_one_name(read_earned(stored.as_deref())?, |cluster| reach::name_of(desk, cluster));
    all.retain(|one| news.iter().all(|new| new.subject != one.subject));
    let audit = news.iter().map(|earned| {
        let Subject { cluster, service, action } = &earned.subject;
        AuditEntry {
            kind: kind.into(),
            subject: format!("{cluster}/{service} {}", action.as_str()),
            body: serde_json::json!({"mode": earned.mode, "by": earned.by, "because": earned.because}),
        }
    });
    let audit: Vec<AuditEntry> = audit.collect();
    all.extend(news);
    let effects = effect.into_iter().map(|(key, effect)| NewEffect {
        key,
        incident: None,
        body: serde_json::to_string(&effect).unwrap_or_default(),
    });
    let batch = Batch {
        settings: vec![(EARNED.into(), serde_json::to_string(&all).unwrap_or_default())],
        unless_changed: vec![(EARNED.into(), stored)],
        audit,
        effects: effects.collect(),
        ..Batch::default()
    };
    desk.store.commit(batch, desk.clock.wall_now()).await?;
    desk.bells.outbox.notify_one();
    Ok(())
}

/// An execution that did not help: its service and action wait for people from now on.
pub(super) async fn failed(desk: &Desk, plan: &Plan, why: &str) -> Result<(), FlowError> {
    let subject = subject_of(desk, plan);
    let current = desk.policy.mode(plan.tier, mode(desk, &subject, plan.tier).await?);
    let because = format!("{}: {why}", plan.id);
    let Some(Verdict::Demote { to, because }) = demote(current, &because) else { return Ok(()) };
    warn!(service = subject.service, action = subject.action.as_str(), because, "autonomy is taken back");
    let text = format!(
        "From now on {} of {} waits for people ({because}).",
        subject.action.as_str().replace('_', " "),
        subject.service
    );
    let effect = in_channel(desk, &text);
    let at = desk.clock.wall_now();
    let earned = Earned { subject, mode: to, configured: None, by: "midwatch".into(), because, at };
    keep(desk, vec![earned], "autonomy.demoted", effect.map(|effect| (format!("demoted/{}", plan.id), effect))).await
}

/// In the first chat's own channel, outside of any incident.
fn in_channel(desk: &Desk, text: &str) -> Option<Effect> {
    let seat = desk.chats.first()?;
    let place = crate::ports::Place { channel: seat.channel.clone(), thread: None, message: None, command: None };
    let (chat, card) = (seat.chat.name().to_owned(), narrative::note(text, Tone::Neutral));
    Some(Effect::Reply { chat, place, card, stage: Stage::Final })
}

fn subject_of(desk: &Desk, plan: &Plan) -> Subject {
    subject(desk, &plan.action, &plan.service)
}

/// Of an action on a service, under the one name of its cluster.
pub(super) fn subject(desk: &Desk, action: &Action, service: &str) -> Subject {
    let cluster = reach::name_of(desk, &action.target().cluster);
    Subject { cluster, service: service.to_owned(), action: action.kind() }
}

/// Records of every service and action that were ever acted on, with the risk as last proposed.
fn records(desk: &Desk, incidents: &[Incident]) -> BTreeMap<Subject, (TrackRecord, RiskTier)> {
    let mut records: BTreeMap<Subject, (TrackRecord, RiskTier)> = BTreeMap::new();

    for record in incidents.iter().flat_map(|incident| &incident.plans) {
        if record.plan.service.is_empty() {
            continue;
        }
        let entry = records.entry(subject_of(desk, &record.plan)).or_insert((TrackRecord::default(), record.plan.tier));
        entry.0.count(record);
        entry.1 = record.plan.tier;
    }
    records
}

/// What people said of the diagnoses of each service: a thumb is a word, and so is an approval of a plan that
/// then helped. What came to nothing says nothing of the diagnosis.
fn diagnoses(incidents: &[Incident], wall_since: Timestamp) -> BTreeMap<String, Diagnoses> {
    let mut found: BTreeMap<String, Diagnoses> = BTreeMap::new();
    for incident in incidents.iter().filter(|incident| incident.opened_at >= wall_since) {
        let Some(service) = incident.diagnosis.as_ref().and_then(|diagnosis| diagnosis.service.clone()) else {
            continue;
        };
        let (up, down) = incident.helpful.values().fold((0, 0), |(up, down), helpful| match helpful {
            true => (up + 1, down),
            false => (up, down + 1),
        });
        let approved = incident.plans.iter().any(|plan| !plan.approved_by.is_empty() && plan.has_helped());
        let rejected = incident.plans.iter().any(|plan| plan.rejected_by.is_some());
        if up + down == 0 && !approved && !rejected {
            continue;
        }
        let entry = found.entry(service).or_default();
        entry.judged += 1;
        // Somebody who says no outweighs somebody who says yes.
        entry.confirmed += usize::from(down == 0 && !rejected && (up > 0 || approved));
    }
    found
}

fn criteria(desk: &Desk) -> Criteria {
    let config = &desk.config.remediation.autonomy;
    Criteria {
        lower_bound: config.lower_bound,
        confidence: config.confidence,
        confirmed_diagnoses: config.confirmed_diagnoses,
    }
}

struct Standing {
    subject: Subject,
    record: TrackRecord,
    mode: Autonomy,
    configured: Autonomy,
    verdict: Verdict,
}

async fn standings(desk: &Desk) -> Result<Vec<Standing>, FlowError> {
    let incidents = desk.store.tried_or_since(desk.clock.wall_now() - DIAGNOSES_WITHIN).await?;
    let diagnoses = diagnoses(&incidents, desk.clock.wall_now() - DIAGNOSES_WITHIN);
    let (earned, criteria) = (all_earned(desk).await?, criteria(desk));
    let records = records(desk, &incidents);
    let standings = records.into_iter().map(|(subject, (record, tier))| {
        let configured = desk.policy.configured(tier);
        let own = earned.iter().find(|one| one.subject == subject).map(|one| one.under(configured));
        let mode = desk.policy.mode(tier, own);
        let said = diagnoses.get(&subject.service).copied().unwrap_or_default();
        let verdict = match configured {
            // A promotion would change nothing.
            Autonomy::Suggest => Verdict::Keep { because: format!("policy.{tier} says suggest") },
            Autonomy::Approve | Autonomy::Automatic => judge(mode, tier, &record, &said, &criteria),
        };
        Standing { subject, record, mode, configured, verdict }
    });
    Ok(standings.collect())
}

/// `/ops autonomy`: who may do what by itself, and what it would take.
pub async fn show(desk: &Desk) -> Result<Card, FlowError> {
    let standings = standings(desk).await?;
    let confidence = desk.config.remediation.autonomy.confidence;
    let lines = standings.iter().map(|one| {
        let what = match &one.verdict {
            Verdict::Keep { because } => format!("stays: {because}"),
            Verdict::ProposePromotion { to, .. } => {
                let command = format!("/ops autonomy promote {} {}", one.subject.service, one.subject.action.as_str());
                format!("may become {} by {command}: {}", to.as_str(), one.record.in_words(confidence))
            }
            Verdict::Demote { to, because } => format!("goes back to {}: {because}", to.as_str()),
        };
        vec![
            Span::code(one.subject.service.clone()),
            Span::plain(format!(" {} is {}; {what}", one.subject.action.as_str().replace('_', " "), one.mode.as_str())),
        ]
    });
    let lines: Vec<Vec<Span>> = lines.collect();
    Ok(answer(&format!("{} services and actions have a track record", lines.len()), lines))
}

/// `/ops autonomy promote <service> <action>`: only as far as the record supports, and only by an approver.
pub async fn promote(desk: &Desk, by: &Person, words: &str) -> Result<Card, FlowError> {
    let (service, action) = words.split_once(' ').unwrap_or((words, ""));
    let action = ActionKind::parse(action).ok_or_else(|| {
        FlowError::Refused("promote needs a service and an action, such as: autonomy promote checkout restart".into())
    })?;
    desk.must_have_authority(by, "promote an action").await?;
    let standings = standings(desk).await?;
    let found = standings.into_iter().find(|one| one.subject.service == service && one.subject.action == action);
    let standing =
        found.ok_or_else(|| FlowError::Refused(format!("{} of {service} was never done", action.as_str())))?;
    match standing.verdict {
        Verdict::ProposePromotion { to, because } => {
            let text = format!("{} of {service} is {} from now on: {because}", action.as_str(), to.as_str());
            let at = desk.clock.wall_now();
            let (subject, configured) = (standing.subject, Some(standing.configured));
            let earned = Earned { subject, mode: to, configured, by: by.id.to_string(), because, at };
            keep(desk, vec![earned], "autonomy.promoted", None).await?;
            Ok(narrative::note(&text, Tone::Good))
        }
        Verdict::Keep { because } | Verdict::Demote { because, .. } => Err(FlowError::Refused(format!(
            "{} of {service} stays {}: {because}",
            action.as_str(),
            standing.mode.as_str()
        ))),
    }
}

/// `/ops autonomy demote <service> <action>`: anybody may, as with pausing.
pub async fn take_back(desk: &Desk, by: &Person, words: &str) -> Result<Card, FlowError> {
    let (service, action) = words.split_once(' ').unwrap_or((words, ""));
    let action = ActionKind::parse(action).ok_or_else(|| {
        FlowError::Refused("demote needs a service and an action, such as: autonomy demote checkout restart".into())
    })?;
    let incidents = desk.store.tried_or_since(desk.clock.wall_now() - DIAGNOSES_WITHIN).await?;
    let done: BTreeSet<Subject> = records(desk, &incidents).into_keys().collect();
    let earned = all_earned(desk).await?;
    // Everywhere, also where it was never done: the configuration may let it run by itself there.
    let named = incidents.iter().flat_map(Incident::clusters).chain([DEFAULT_CLUSTER]);
    let mut clusters: BTreeSet<String> = named.map(|cluster| reach::name_of(desk, cluster)).collect();
    clusters.extend(done.iter().chain(earned.iter().map(|one| &one.subject)).map(|one| one.cluster.clone()));
    let at = desk.clock.wall_now();
    let mut was_done = false;
    let taken = clusters.into_iter().map(|cluster| {
        let subject = Subject { cluster, service: service.to_owned(), action };
        was_done |= done.contains(&subject);
        let own = earned.iter().find(|one| one.subject == subject).map_or(Autonomy::Approve, |one| one.mode);
        let (mode, by) = (Autonomy::Approve.min(own), by.id.to_string());
        Earned { subject, mode, configured: None, by, because: "a person took it back".into(), at }
    });
    let taken = taken.collect();
    keep(desk, taken, "autonomy.demoted", None).await?;
    let never = if was_done { "" } else { " It was never done here: make sure that the name is right." };
    let text = format!("{} of {service} waits for people from now on.{never}", action.as_str());
    Ok(narrative::note(&text, Tone::Neutral))
}

/// Alerts that came back, and records that are good enough.
pub async fn run(desk: Arc<Desk>) -> Result<(), FlowError> {
    // The record of all that ever was is read again when there is more of it.
    let mut read = None;
    while !desk.stopping() {
        let looked = async {
            look_back(&desk).await?;
            let revision = desk.store.over_revision();
            if read != Some(revision) {
                propose(&desk).await?;
                read = Some(revision);
            }
            Ok::<(), FlowError>(())
        };
        if let Err(failure) = looked.await {
            error!(error = %failure, "the track record could not be looked at");
        }
        desk.wait(&tokio::sync::Notify::new(), LOOK_EVERY).await;
    }
    Ok(())
}

/// What was verified lately: whether its alerts are back.
async fn look_back(desk: &Desk) -> Result<(), FlowError> {
    let verified_within = Duration::from_secs(desk.config.investigation.verify_seconds);
    let remediation = &desk.config.remediation;
    let outlast = remediation.outlast_seconds.saturating_mul(2);
    let looked = Duration::from_secs(remediation.recurrence_seconds.max(outlast));
    let within = looked + verified_within + A_WHILE;
    let begun = desk.store.executions_since(desk.clock.wall_now() - within).await?;
    let acted: BTreeSet<IncidentId> = begun.into_iter().map(|(_, incident, _)| IncidentId::new(incident)).collect();
    for id in acted {
        let Some(incident) = desk.store.incident(&id).await? else { continue };
        if let Some((plan, because)) = came_back(desk, &incident).await? {
            recurred(desk, &incident, &plan, &because).await?;
        }
    }
    Ok(())
}

async fn propose(desk: &Desk) -> Result<(), FlowError> {
    let known: BTreeSet<String> =
        desk.store.setting(PROPOSED).await?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    for standing in standings(desk).await? {
        let Verdict::ProposePromotion { to, because } = &standing.verdict else { continue };
        let (service, action) = (&standing.subject.service, standing.subject.action.as_str());
        // Once for every mode; after a demotion the record decides again.
        let key =
            format!("{}/{service}/{action}/{}/{}", standing.subject.cluster, to.as_str(), standing.record.verified);
        let again = format!("{}/{service}/{action}/{}/", standing.subject.cluster, to.as_str());
        if known.iter().any(|one| one.starts_with(&again)) {
            continue;
        }
        let text = format!(
            "{} of {service} has earned to be {}: {because}. A person decides: /ops autonomy promote {service} {action}",
            action.replace('_', " "),
            to.as_str()
        );
        let mut proposed = known.clone();
        proposed.insert(key.clone());
        let effects = in_channel(desk, &text).map(|effect| NewEffect {
            key: format!("promotion/{key}"),
            incident: None,
            body: serde_json::to_string(&effect).unwrap_or_default(),
        });
        let batch = Batch {
            settings: vec![(PROPOSED.into(), serde_json::to_string(&proposed).unwrap_or_default())],
            audit: vec![AuditEntry {
                kind: "autonomy.proposed".into(),
                subject: key,
                body: serde_json::json!({"to": to, "because": because}),
            }],
            effects: effects.into_iter().collect(),
            ..Batch::default()
        };
        desk.store.commit(batch, desk.clock.wall_now()).await?;
        desk.bells.outbox.notify_one();
        info!(service, action, to = to.as_str(), "a promotion is proposed");
        // One at a time: the next look sees what was proposed.
        return Ok(());
    }
    Ok(())
}

/// A verified plan whose critical alert fires on and on, or whose alert fires again within the hour: in its
/// own incident, or in a new one that began with the same alert about the same service.
async fn came_back(desk: &Desk, incident: &Incident) -> Result<Option<(Plan, String)>, FlowError> {
    let Some(record) = incident.plans.iter().find(|record| record.outcome == Outcome::Verified) else {
        return Ok(None);
    };
    let Some(resolved_at) = incident.resolved_at else { return Ok(None) };
    let (since, outlast) = (desk.clock.event_now().since(resolved_at), desk.config.remediation.outlast_seconds);
    let outlasts = |group: &&AlertGroup| group.severity == Severity::Critical && group.resolved < group.count;
    if outlast > 0
        && since >= Duration::from_secs(outlast)
        && let Some(group) = incident.alerts.values().find(outlasts)
    {
        let because = format!("{} about {} still fires after {}", group.name, group.subject, spoken(since));
        return Ok(Some((record.plan.clone(), because)));
    }
    let within = Duration::from_secs(desk.config.remediation.recurrence_seconds);
    if since > within {
        return Ok(None);
    }
    let kinds: BTreeSet<(&str, &str)> =
        incident.alerts.values().map(|group| (group.name.as_str(), group.subject.as_str())).collect();
    let open = desk.store.incidents(crate::store::Scope::NotOver).await?;
    let back =
        open.iter().filter(|other| other.id != incident.id && other.cluster == incident.cluster).find_map(|other| {
            let again = other.alerts.values().find(|group| {
                group.first_at >= resolved_at
                    && group.first_at.since(resolved_at) <= within
                    && kinds.contains(&(group.name.as_str(), group.subject.as_str()))
            })?;
            Some(format!("{} about {} fires again in {}", again.name, again.subject, other.id))
        });
    Ok(back.map(|because| (record.plan.clone(), because)))
}

async fn recurred(desk: &Desk, incident: &Incident, plan: &Plan, because: &str) -> Result<(), FlowError> {
    failed(desk, plan, because).await?;
    desk.change(&incident.id, |change| {
        change.record(IncidentEvent::Recurred { plan: plan.id.clone(), because: because.to_owned() })?;
        change.tell(&format!("plan/{}", plan.id), &Effect::Approval { plan: plan.id.clone() });
        let text = format!("{} did not last: {because}. It counts as failed.", plan.action);
        change.tell(&format!("note/{}/recurred", plan.id), &Effect::Note { card: narrative::note(&text, Tone::Alarm) });
        Ok(())
    })
    .await?;
    warn!(incident = %incident.id, plan = %plan.id, because, "the alert came back");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Action;
    use crate::domain::diagnosis::{Diagnosis, Remedy, Verdict as Certainty};
    use crate::domain::incident::{Outset, PlanRecord};
    use crate::domain::plan::target;

    fn earned(cluster: &str, mode: Autonomy, configured: Option<Autonomy>) -> Earned {
        let subject = Subject { cluster: cluster.into(), service: "web".into(), action: ActionKind::Restart };
        Earned { subject, mode, configured, by: "T/U".into(), because: "well done".into(), at: Timestamp::default() }
    }

    #[test]
    fn of_two_lines_of_one_cluster_the_more_careful_one_holds() {
        use Autonomy::{Approve, Automatic};
        let name_of = |cluster: &str| if cluster == "default" { "eu-1".to_owned() } else { cluster.to_owned() };
        let held = |lines: &[(&str, Autonomy)]| {
            let lines = lines.iter().map(|(cluster, mode)| earned(cluster, *mode, None)).collect();
            let of = |one: Earned| format!("{} {}", one.subject.cluster, one.mode.as_str());
            of_one_name(lines, name_of).into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(held(&[("default", Approve), ("eu-1", Automatic)]), ["eu-1 approve"]);
        assert_eq!(
            held(&[("default", Automatic), ("us-1", Automatic), ("eu-1", Approve)]),
            ["eu-1 approve", "us-1 automatic"]
        );
    }

    #[test]
    fn a_configuration_that_was_lowered_takes_back_what_was_earned_above_it() {
        use Autonomy::{Approve, Automatic, Suggest};
        // Earned above what is configured: that is what a promotion is for.
        assert_eq!(earned("c", Automatic, Some(Approve)).under(Approve), Automatic);
        assert_eq!(earned("c", Automatic, Some(Automatic)).under(Approve), Approve);
        assert_eq!(earned("c", Automatic, Some(Approve)).under(Suggest), Suggest);
        assert_eq!(earned("c", Approve, None).under(Automatic), Approve);
        // Lines of older versions say nothing of it.
        let mut old = serde_json::to_value([earned("c", Automatic, None)]).unwrap();
        old[0].as_object_mut().unwrap().remove("configured");
        assert_eq!(read_earned(Some(&old.to_string())).unwrap()[0].under(Approve), Automatic);
    }

    #[track_caller]
    fn check(outcome: Outcome, outset: Outset, thumb: Option<bool>, expected: Option<(usize, usize)>) {
        let plan = Plan::first(Action::Restart { target: target("c", "shop", "Deployment", "web", "u") });
        let record =
            PlanRecord { outcome, outset, approved_by: vec!["t/ada".into()], ..PlanRecord::of(plan, String::new()) };
        let diagnosis = Diagnosis {
            service: Some("web".into()),
            mechanism: String::new(),
            verdict: Certainty::Likely,
            confidence: 0.7,
            remedy: Remedy::Restart { service: "web".into() },
            ..Diagnosis::blank()
        };
        let incident = Incident {
            plans: vec![record],
            diagnosis: Some(diagnosis),
            helpful: thumb.map(|thumb| ("t/ben".to_owned(), thumb)).into_iter().collect(),
            ..Incident::blank(IncidentId::numbered(1))
        };
        let said = diagnoses(&[incident], Timestamp::default());
        assert_eq!(said.get("web").map(|said| (said.confirmed, said.judged)), expected);
    }

    #[test]
    fn an_approval_confirms_a_diagnosis_only_when_the_plan_has_helped() {
        check(Outcome::Verified, Outset::Ill, None, Some((1, 1)));
        check(Outcome::Verified, Outset::Well, None, None);
        for outcome in [Outcome::Approved, Outcome::Undone, Outcome::Recurred] {
            check(outcome.clone(), Outset::Ill, None, None);
            check(outcome.clone(), Outset::Ill, Some(true), Some((1, 1)));
            check(outcome, Outset::Ill, Some(false), Some((0, 1)));
        }
    }
}
