//! Actions that people ask for by name: the same plan, rules, dry run and approval as the watch's own.
//!
//! Invariant: who asks does not approve; what is done is one of the catalogue, on an object that our
//! own adapters found.

use std::collections::BTreeMap;

use tracing::info;

use super::deliver::Effect;
use super::desk::{Desk, FlowError};
use super::draft::{Wanted, draft};
use super::execute::Hands;
use super::{back, escalate, reach};
use crate::config::JobConfig;
use crate::domain::action::{Action, ActionKind, Target};
use crate::domain::card::{Card, Span, Tone};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, State};
use crate::domain::narrative::{answer, note};
use crate::domain::plan::{Extent, SuccessCheck};
use crate::domain::policy::ANYBODY;
use crate::ports::{ClusterError, DeclaredJob, Person, Wish, Workload};

const USAGE: &str = "act INC-1 restart shop/checkout";

/// `/ops act`: what can be asked for here.
pub fn list(desk: &Desk) -> Card {
    let mut lines: Vec<Vec<Span>> = ActionKind::ALL
        .iter()
        .filter(|kind| !matches!(kind, ActionKind::RunJob | ActionKind::CallHook))
        .map(|kind| {
            vec![
                Span::code(kind.as_str()),
                Span::plain(format!(" if {}; done when {}", kind.precheck(), kind.success())),
            ]
        })
        .collect();
    for job in &desk.config.remediation.job {
        let what = format!(" {} (runs {}/{}, {} risk)", job.description, job.namespace, job.cron_job, job.tier);
        lines.push(vec![Span::code(job.name.clone()), Span::plain(what)]);
    }
    for hook in desk.hooks.iter().flat_map(|hooks| hooks.declared()) {
        let what = format!(" {} ({}, {} risk)", hook.description, hook.sends, hook.tier);
        lines.push(vec![Span::code(hook.name.clone()), Span::plain(what)]);
    }
    answer("Actions", lines)
}

/// `/ops act INC-1 ...`: makes a plan, or says why not.
pub async fn request(desk: &Desk, by: &Person, text: &str) -> Result<Card, FlowError> {
    let refused = |why: String| FlowError::Refused(why);
    let mut words = text.split_whitespace();
    let id = words.next().and_then(IncidentId::parse).ok_or_else(|| refused(format!("name an incident: {USAGE}")))?;
    let verb = words.next().ok_or_else(|| refused(format!("name an action: {USAGE}")))?;
    let (object, value) = (words.next().unwrap_or_default(), words.next().map(str::to_owned));
    desk.must_have_authority(by, "ask for an action").await?;
    if by.id.as_str() == ANYBODY && desk.policy.mixes_in_anybody() {
        return Err(refused(
            "the chat page asks nobody who they are, so nobody could be told from whoever asks here when it is \
             approved; ask from the chat or with a token of [[people]]"
                .to_owned(),
        ));
    }
    let incident = desk.store.incident(&id).await?.ok_or_else(|| FlowError::NoIncident(id.clone()))?;
    if !matches!(incident.state, State::Diagnosed | State::HandedOver { .. }) {
        return Err(refused(format!(
            "{id} is not in people's hands: {}",
            crate::domain::narrative::state_words(&incident.state)
        )));
    }
    let asked = concrete(desk, &incident, verb, object, value).await.map_err(refused)?;
    let topology = desk.topology().await;
    let wanted = Wanted {
        incident: &incident,
        service: &asked.service,
        action: asked.action,
        because: format!("{} asked for it", by.name),
        checks: asked.checks,
        evidence: vec![],
        requester: Some(by.id.to_string()),
    };
    let (plan, ruling) = draft(desk, &topology, wanted).await.map_err(refused)?;
    let who = escalate::who_is_asked(desk, &incident).await;
    desk.change(&id, |change| {
        if change.incident().plans.len() != incident.plans.len() {
            return Err(refused("another plan was made in the same moment; look at it first".into()));
        }
        change.record(IncidentEvent::PlanProposed {
            plan: Box::new(plan.clone()),
            ruling: ruling.because().to_owned(),
        })?;
        change.tell(&format!("plan/{}", plan.id), &Effect::Approval { plan: plan.id.clone() });
        change.tell("root", &Effect::Root);
        escalate::ask_for_decision(change, &plan, &who);
        Ok(())
    })
    .await?;
    info!(incident = %id, plan = %plan.id, action = %plan.action, by = %by.id, "plan asked for");
    Ok(note(&format!("{}: {} is proposed; its card is in the thread.", plan.id, plan.action), Tone::Working))
}

struct Asked {
    action: Action,
    service: String,
    checks: Vec<SuccessCheck>,
}

async fn concrete(
    desk: &Desk,
    incident: &Incident,
    verb: &str,
    object: &str,
    value: Option<String>,
) -> Result<Asked, String> {
    if let Some(job) = desk.config.remediation.job.iter().find(|job| job.name == verb) {
        return declared_job(desk, incident, job).await;
    }
    if let Some(asked) = declared_hook(desk, incident, verb) {
        return Ok(asked);
    }
    if let Some(why) = reach::beyond(desk, incident) {
        return Err(why);
    }
    let kind = ActionKind::parse(verb).filter(|kind| !matches!(kind, ActionKind::RunJob | ActionKind::CallHook));
    let kind = kind.ok_or_else(|| format!("I know no action {verb:?}; /ops act lists them"))?;
    // `namespace/name`, or `namespace/kind/name` where a name alone is not enough; a node is only a name.
    let parts: Vec<&str> = object.split('/').filter(|part| !part.is_empty()).collect();
    let (namespace, object_kind, name) = match parts.as_slice() {
        [name] => ("", "", *name),
        [namespace, name] => (*namespace, "", *name),
        [namespace, kind, name] => (*namespace, *kind, *name),
        _ => return Err(format!("{object:?} names no object; write namespace/name")),
    };
    let data = match kind {
        ActionKind::RestoreConfig => {
            let found = super::keep::earlier(desk, namespace, name).await.map_err(|error| error.to_string())?;
            Some(found.ok_or_else(|| {
                format!("no earlier data of {namespace}/{name} is remembered (key: remediation.config_maps)")
            })?)
        }
        _ => None,
    };
    let is_named = value.is_some();
    let wish = Wish {
        action: kind,
        cluster: incident.cluster.clone(),
        namespace: namespace.to_owned(),
        kind: object_kind.to_owned(),
        name: name.to_owned(),
        to: value.or_else(|| suspended_as(incident, kind, namespace, name)),
        data,
        declared: None,
    };
    let hands = Hands::of(desk);
    let cluster = hands.cluster().map_err(|error| error.to_string())?;
    let action = cluster.prepare(&wish).await.map_err(|error| error.to_string())?;
    if !is_named {
        back::must_not_return(desk, incident, &action).await?;
    }
    let service = service_of(desk, &action).await?;
    Ok(Asked { action, service, checks: vec![] })
}

/// How Argo CD synchronised before we suspended it.
fn suspended_as(incident: &Incident, kind: ActionKind, namespace: &str, name: &str) -> Option<String> {
    if kind != ActionKind::ResumeSync {
        return None;
    }
    incident.plans.iter().rev().find_map(|record| match &record.plan.action {
        Action::SuspendSync { target, automated } if target.namespace == namespace && target.name == name => {
            automated.clone()
        }
        _ => None,
    })
}

/// The service that alerts and metrics name, where the target is one of its workloads.
async fn service_of(desk: &Desk, action: &Action) -> Result<String, String> {
    let target = action.target();
    let Some(cluster) = &desk.cluster else { return Ok(target.name.clone()) };
    // A pause of the service must hold: whose it is, is not guessed.
    let unread = |error: ClusterError| format!("whose it is cannot be told now: {error}");
    let workloads = cluster.workloads().await.map_err(unread)?;
    let by_name = owner_of(target, &workloads).map_or(target.name.as_str(), |workload| workload.service.as_str());
    // These are named as people like; other objects say whose they are.
    if !matches!(target.kind.as_str(), "HorizontalPodAutoscaler" | "ConfigMap" | "Pod") {
        return Ok(by_name.to_owned());
    }
    let around = cluster.surroundings(action).await.map_err(unread)?;
    Ok(mainly_of(around.extent.as_ref(), by_name))
}

/// Of several services the one that the name fits, else the first; all of them stand in the plan.
fn mainly_of(extent: Option<&Extent>, by_name: &str) -> String {
    let Some(services) = extent.map(|extent| &extent.services).filter(|services| !services.contains(by_name)) else {
        return by_name.to_owned();
    };
    services.first().map_or_else(|| by_name.to_owned(), Clone::clone)
}

/// The workload that is the target, else the one whose name it carries: `web-api-7d9c5b-x2x` is of `web-api`,
/// also where there is a `web`.
fn owner_of<'a>(target: &Target, workloads: &'a [Workload]) -> Option<&'a Workload> {
    let near = || workloads.iter().filter(|workload| workload.namespace == target.namespace);
    let itself = near().find(|workload| workload.uid == target.uid);
    itself.or_else(|| {
        let carried = |workload: &&Workload| {
            let rest = target.name.strip_prefix(&workload.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        near().filter(carried).max_by_key(|workload| workload.name.len())
    })
}

async fn declared_job(desk: &Desk, incident: &Incident, job: &JobConfig) -> Result<Asked, String> {
    if let Some(why) = reach::beyond(desk, incident) {
        return Err(why);
    }
    // One name a plan: a second creation is refused by the API server. Names of objects are lower case.
    let number = incident.plans.len() + 1;
    let name = format!("midwatch-{}-p{number}-{}", incident.id, job.name).to_lowercase();
    let wish = Wish {
        action: ActionKind::RunJob,
        cluster: incident.cluster.clone(),
        namespace: job.namespace.clone(),
        kind: String::new(),
        name: job.cron_job.clone(),
        to: None,
        data: None,
        declared: Some(DeclaredJob {
            name: job.name.clone(),
            tier: job.tier,
            job: name.chars().take(63).collect::<String>().trim_end_matches('-').to_owned(),
        }),
    };
    let hands = Hands::of(desk);
    let cluster = hands.cluster().map_err(|error| error.to_string())?;
    let action = cluster.prepare(&wish).await.map_err(|error| error.to_string())?;
    let service = if job.service.is_empty() { job.name.clone() } else { job.service.clone() };
    let checks = job.success.iter().map(|success| success.check(&service)).collect();
    Ok(Asked { action, service, checks })
}

fn declared_hook(desk: &Desk, incident: &Incident, verb: &str) -> Option<Asked> {
    let declared = desk.hooks.as_ref()?.declared();
    let by_name: BTreeMap<&str, _> = declared.iter().map(|hook| (hook.name.as_str(), hook)).collect();
    let hook = by_name.get(verb)?;
    let target = |name: &str, digest: &str| Target {
        cluster: incident.cluster.clone(),
        namespace: String::new(),
        kind: "Hook".into(),
        name: name.to_owned(),
        uid: digest.to_owned(),
    };
    let undo = hook.undo.as_deref().and_then(|name| by_name.get(name));
    let action = Action::CallHook {
        target: target(&hook.name, &hook.digest),
        tier: hook.tier,
        undo: undo.map(|undo| Box::new(target(&undo.name, &undo.digest))),
    };
    let service = if hook.service.is_empty() { hook.name.clone() } else { hook.service.clone() };
    Some(Asked { action, service, checks: hook.success.iter().cloned().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(namespace: &str, name: &str) -> Workload {
        Workload {
            uid: format!("uid-of-{name}"),
            service: format!("{name}-service"),
            ..Workload::running("Deployment", namespace, name)
        }
    }

    #[track_caller]
    fn check(kind: &str, name: &str, uid: &str, expected: Option<&str>) {
        let names = ["web", "web-api", "web-api-v2", "db"];
        let mut workloads: Vec<_> = names.map(|name| workload("shop", name)).into();
        workloads.insert(0, workload("stage", "web-api-7d9c5b"));
        let target = Target {
            cluster: "default".into(),
            namespace: "shop".into(),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
        };
        assert_eq!(owner_of(&target, &workloads).map(|found| found.name.as_str()), expected, "{kind} {name}");
    }

    #[test]
    fn an_autoscaler_is_of_what_it_scales_whatever_its_name() {
        let of = |services: &[&str]| Extent {
            services: services.iter().map(|name| (*name).to_owned()).collect(),
            ..Extent::default()
        };
        assert_eq!(mainly_of(Some(&of(&["checkout"])), "hpa-checkout"), "checkout");
        assert_eq!(mainly_of(Some(&of(&["cart", "web"])), "web"), "web");
        assert_eq!(mainly_of(Some(&of(&["cart", "web"])), "app-config"), "cart");
        assert_eq!(mainly_of(Some(&of(&[])), "app-config"), "app-config");
        assert_eq!(mainly_of(None, "web"), "web");
    }

    #[test]
    fn a_pod_is_of_the_workload_with_the_longest_name_that_it_carries() {
        check("Pod", "web-api-7d9c5b-x2x", "p", Some("web-api"));
        check("Pod", "web-5d4f66-abc", "p", Some("web"));
        check("Pod", "web-api-v2-5d4f66-abc", "p", Some("web-api-v2"));
        check("Pod", "db-0", "p", Some("db"));
        check("Pod", "website-5d4f66-abc", "p", None);
        // Whatever the names: what it is says more.
        check("Deployment", "web-api", "uid-of-web", Some("web"));
    }
}
