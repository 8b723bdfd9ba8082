//! What an incident is worth: severity and title from what is affected, and its end when that is over.

use super::deliver::Effect;
use super::desk::{Decision, FlowError};
use crate::domain::diagnosis::Verdict;
use crate::domain::incident::{Incident, IncidentEvent, Sev, State};
use crate::domain::narrative;
use crate::domain::severity::{self, Past, Symptom};
use crate::domain::time::Timestamp;
use crate::domain::topology::Topology;
use crate::store::{Draft, NewEffect};

/// Severity from what is affected, with the reason; it only rises while alerts come in. A reason that is not
/// true any more is replaced though the severity stays.
pub(super) fn reassess(
    draft: &mut Draft,
    topology: &Topology,
    past: &Past,
    wall_now: Timestamp,
) -> Result<(), FlowError> {
    let groups = draft.incident.alerts.values();
    let symptoms: Vec<Symptom> = groups.map(Symptom::of_group).collect();
    let (sev, because) = severity::assess(&symptoms, topology, past.of(&draft.incident));
    // The severity that it is opened with is a guess from one alert.
    let differs = sev > draft.incident.severity || (draft.is_new() && sev != draft.incident.severity);
    if differs || (sev == draft.incident.severity && is_stale(&draft.incident, &because)) {
        draft.record(IncidentEvent::SeverityChanged { to: sev, because }, wall_now)?;
    }
    if draft.incident.subjects().len() > 1 && !is_explained(&draft.incident) {
        retitle(draft, wall_now)?;
    }
    Ok(())
}

/// Names what is affected now, the gravest first.
pub(super) fn retitle(draft: &mut Draft, wall_now: Timestamp) -> Result<(), FlowError> {
    let title = narrative::title(&draft.incident);
    if title != draft.incident.title {
        draft.record(IncidentEvent::Retitled { title }, wall_now)?;
    }
    Ok(())
}

/// Whether a diagnosis names what it is about better than a list of subjects.
fn is_explained(incident: &Incident) -> bool {
    incident.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.verdict != Verdict::Inconclusive)
}

/// What is said of one subject goes on being true while it is alone.
fn is_stale(incident: &Incident, because: &str) -> bool {
    incident.subjects().len() > 1 && is_news(&incident.severity_because, because)
}

/// Other words are news. Another count is none until it has doubled: a storm must not write an event for
/// each of its alerts.
fn is_news(old: &str, new: &str) -> bool {
    let (old_words, old_counts) = apart(old);
    let (new_words, new_counts) = apart(new);
    old_words != new_words || old_counts.iter().zip(&new_counts).any(|(old, new)| *new >= 2 * (*old).max(1))
}

fn apart(reason: &str) -> (Vec<&str>, Vec<u64>) {
    let (mut words, mut counts) = (vec![], vec![]);
    for token in reason.split_whitespace() {
        match token.parse() {
            Ok(count) => counts.push(count),
            Err(_) => words.push(token),
        }
    }
    (words, counts)
}

/// What is half done would be forgotten with its incident: the end of its alerts does not close it. A person
/// who says that it was none does.
fn is_kept_open(incident: &Incident) -> bool {
    incident.half_done().is_some() && incident.noise.is_none()
}

/// An incident that nobody acts on closes when its alerts have ended;
/// `lapsed` says why the last of its alerts has ended, when its sender did not say so.
pub(super) fn close_when_quiet(
    draft: &mut Draft,
    lapsed: Option<&str>,
    wall_now: Timestamp,
    event_now: Timestamp,
) -> Result<(), FlowError> {
    // An open one is looked at first: what ended by itself within a minute will be back.
    let idle = matches!(draft.incident.state, State::HandedOver { .. });
    if idle && draft.incident.firing() == 0 && !is_kept_open(&draft.incident) {
        let because = match lapsed {
            None => "all its alerts have ended".to_owned(),
            Some(because) => format!("all its alerts have ended, the last one without a word: {because}"),
        };
        draft.record(IncidentEvent::Resolved { because, event_at: event_now, by: None }, wall_now)?;
    }
    Ok(())
}

/// An incident whose alerts have ended while people were to decide is over with their decision: no later
/// alert would close it.
pub(super) fn close_when_over(change: &mut Decision<'_>, event_now: Timestamp) -> Result<(), FlowError> {
    if change.incident().firing() == 0 && !is_kept_open(change.incident()) {
        let because = "all its alerts had ended before anybody had to act".to_owned();
        change.record(IncidentEvent::Resolved { because, event_at: event_now, by: None })?;
    }
    Ok(())
}

/// An edit of the card wakes nobody: what people must get up for by now is said, to whoever has it.
pub(super) fn graver(incident: &Incident, before: Sev) -> Option<NewEffect> {
    let is_graver = incident.severity > before && incident.severity >= Sev::Two;
    let card = is_graver.then(|| narrative::graver(incident))?;
    Some(NewEffect {
        key: format!("{}/note/graver/{}", incident.id, incident.severity.as_str()),
        incident: Some(incident.id.to_string()),
        body: serde_json::to_string(&Effect::Note { card }).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::is_news;

    #[test]
    fn a_reason_is_news_when_its_words_change_or_its_count_doubles() {
        let opened = "a critical alert about mailer; nothing that it needs or that needs it alerts yet";
        let four = "4 services critical, none of them one that users reach directly";
        assert!(is_news(opened, four));
        assert!(!is_news(four, four));
        assert!(!is_news(four, &four.replace('4', "5")) && !is_news(four, &four.replace('4', "7")));
        assert!(is_news(four, &four.replace('4', "8")));
        assert!(is_news("4 services critical, and web suffers", four));
    }
}
