//! A look at one service now; for those who may ask for it, an investigation.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::card::{Card, Span};
use crate::domain::command::{Wrong, nearest};
use crate::domain::evidence::{Evidence, EvidenceKind};
use crate::domain::id::IncidentId;
use crate::domain::incident::{Incident, IncidentEvent, State};
use crate::domain::narrative::{answer, state_words};
use crate::domain::root_cause::{rank, say};
use crate::flow::deliver::Effect;
use crate::flow::desk::{Desk, FlowError};
use crate::flow::{observe, regroup};
use crate::ports::Person;
use crate::store::Scope;

/// How far back the onset is looked for, unless it is said.
const SINCE: Duration = Duration::from_secs(15 * 60);

pub(super) async fn diagnose(
    desk: &Arc<Desk>,
    by: &Person,
    service: &str,
    namespace: Option<&str>,
    since: Option<Duration>,
) -> Result<Card, FlowError> {
    let topology = desk.topology().await;
    if !topology.is_empty() && !topology.contains(service) {
        let better = nearest(service, topology.nodes().map(|(name, _)| name));
        return Ok(super::say_what_is_right(&Wrong {
            why: format!("I don't know a service {service:?}"),
            did_you_mean: better.map(|better| format!("diagnose {better}")),
            example: format!(
                "diagnose {}",
                better.or_else(|| topology.nodes().next().map(|(name, _)| name)).unwrap_or("checkout")
            ),
        }));
    }
    if let (Some(namespace), Some(cluster)) = (namespace, &desk.cluster) {
        let workloads = cluster.workloads().await.unwrap_or_default();
        let of: Vec<&str> = workloads
            .iter()
            .filter(|workload| workload.service == service || workload.name == service)
            .map(|workload| workload.namespace.as_str())
            .collect();
        if !of.is_empty() && !of.contains(&namespace) {
            return Ok(super::say_what_is_right(&Wrong {
                why: format!("{service} does not run in {namespace}"),
                did_you_mean: Some(format!("diagnose {service} ns={}", of[0])),
                example: format!("diagnose {service} ns={}", of[0]),
            }));
        }
    }
    let mut lines = look(desk, service, since.unwrap_or(SINCE)).await;
    lines.push(investigate(desk, by, service, namespace, since.unwrap_or(SINCE)).await?);
    Ok(answer(&format!("{service} now"), lines))
}

/// The same eyes as an investigation's, nothing stored.
async fn look(desk: &Desk, service: &str, since: Duration) -> Vec<Vec<Span>> {
    let event_now = desk.clock.event_now();
    let mut blank = Incident::blank(IncidentId::numbered(0));
    blank.since = event_now - since;
    let mut dossier = observe::Dossier::new(&blank);
    let picture = observe::picture(desk, &blank, &mut dossier).await;
    let odd = |node: &str| picture.of_node(node).filter(|reading| reading.deviation >= 1.0).count();
    let readings = picture.of_node(service).filter(|reading| reading.deviation >= 1.0);
    let mut lines: Vec<Vec<Span>> = readings.map(|reading| vec![Span::plain(say(reading))]).collect();
    if desk.signals.is_none() {
        lines.push(vec![Span::plain("no metrics are configured, so nothing is measured")]);
    } else if let Some(unread) = dossier.evidence.iter().find(|one| is_unread(one)) {
        lines.push(vec![Span::quoted(unread.summary.clone())]);
    } else if picture.of_node(service).next().is_none() {
        lines.push(vec![Span::plain(format!("nothing is measured of {service}"))]);
    } else if lines.is_empty() {
        lines.push(vec![Span::plain("every signal is in its usual band")]);
    }
    for callee in picture.topology.callees(service).filter(|callee| odd(callee) > 0) {
        lines.push(vec![Span::plain(format!("it calls {callee}, of which {} signals deviate", odd(callee)))]);
    }
    for change in picture.changes.iter().filter(|change| change.service == service).take(3) {
        lines.push(super::tell_change(change, event_now));
    }
    let ranking = rank(&picture);
    if let Some(first) = ranking.first().filter(|first| first.node != service) {
        lines.push(vec![Span::plain(format!("the strongest lead in the estate is {}", first.node))]);
    }
    lines
}

/// What was measured has its series; a query that was not answered has none.
fn is_unread(evidence: &Evidence) -> bool {
    evidence.kind == EvidenceKind::Metric && evidence.series.is_empty()
}

/// Begins an investigation, or points to the one that there is.
async fn investigate(
    desk: &Arc<Desk>,
    by: &Person,
    service: &str,
    namespace: Option<&str>,
    since: Duration,
) -> Result<Vec<Span>, FlowError> {
    let may = desk.authority_of(&by.id).await;
    let open = desk.store.incidents(Scope::NotOver).await?;
    let known = open.iter().rev().find(|incident| incident.subjects().contains(service));
    if let Some(incident) = known {
        let id = &incident.id;
        let link = Span::Link { text: id.to_string(), path: format!("/incident/{id}") };
        let again = matches!(incident.state, State::HandedOver { .. } | State::Diagnosed);
        if !again || may.is_err() {
            let state = format!(" is about it: {}", state_words(&incident.state).to_lowercase());
            return Ok(vec![link, Span::plain(state)]);
        }
        look_again(desk, id, &format!("{} asked for {service}", by.name)).await?;
        return Ok(vec![
            link,
            Span::plain(" is about it and is investigated again; the diagnosis follows in its thread"),
        ]);
    }
    if let Err(because) = may {
        return Ok(vec![Span::plain(format!("no investigation is begun: {because}"))]);
    }
    let wanted = regroup::Wanted::Open {
        service: service.to_owned(),
        namespace: namespace.map(str::to_owned),
        seconds: since.as_secs(),
    };
    let told = regroup::order(desk, by, wanted, "asked for".to_owned()).await?;
    Ok(vec![Span::plain(told.fallback)])
}

/// Sends the investigation of an incident back to work.
pub(in crate::flow) async fn look_again(desk: &Desk, id: &IncidentId, because: &str) -> Result<(), FlowError> {
    let reasoner = desk.reasoner_name();
    desk.change(id, |change| {
        let because = because.to_owned();
        change.record(IncidentEvent::InvestigationStarted { reasoner: reasoner.clone(), because })?;
        change.tell("root", &Effect::Root);
        Ok(())
    })
    .await?;
    Ok(())
}
