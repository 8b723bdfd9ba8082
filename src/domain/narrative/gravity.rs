//! What is broken, the gravest first and of those the earliest. The loudest are most often the victims of
//! something that alerts once.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::domain::alert::Severity;
use crate::domain::card::{Block, Card, Span};
use crate::domain::diagnosis::Verdict;
use crate::domain::incident::{AlertGroup, Incident};

/// Kinds of alert that a phone shows without scrolling.
const FIRST: usize = 3;

/// `db: PostgresDown`; of several subjects `db, cart and 3 more affected`.
pub fn title(incident: &Incident) -> String {
    let groups = gravest(incident);
    let mut seen = BTreeSet::new();
    let subjects: Vec<&str> =
        groups.iter().map(|group| group.subject.as_str()).filter(|subject| seen.insert(*subject)).collect();
    match subjects.as_slice() {
        [] => incident.title.clone(),
        [_] => groups.first().map_or_else(String::new, |group| format!("{}: {}", group.subject, group.name)),
        [one, other] => format!("{one}, {other} affected"),
        [one, other, more @ ..] => format!("{one}, {other} and {} more affected", more.len()),
    }
}

/// Said to whoever has it, when it has become what people get up for.
pub fn graver(incident: &Incident) -> Card {
    let text = format!("{} is {} now: {}", incident.id, incident.severity.as_str(), incident.severity_because);
    // Whoever has not accepted it may be asleep.
    let had_it = incident.handed.as_ref().map(|handed| &handed.by);
    let who = incident.owner.iter().chain(had_it);
    let mut spans: Vec<Span> = who.flat_map(|id| [Span::Person { id: id.clone() }, Span::plain(" ")]).collect();
    spans.push(Span::plain(text.clone()));
    Card { fallback: text, blocks: vec![Block::Text { spans }] }
}

/// `db: PostgresDown since 22:26, and 3 more subjects`, for whoever is woken by it.
pub fn headline(incident: &Incident) -> String {
    let groups = gravest(incident);
    let Some(first) = groups.iter().find(|group| fires(group)).or(groups.first()) else {
        return incident.title.clone();
    };
    let told = format!("{}: {} since {}", first.subject, first.name, first.first_at.hour_minute());
    match incident.subjects().len() {
        0 | 1 => told,
        2 => format!("{told}, and 1 more subject"),
        subjects => format!("{told}, and {} more subjects", subjects - 1),
    }
}

/// How kinds of alert are ordered.
pub fn by_gravity(one: &AlertGroup, other: &AlertGroup) -> Ordering {
    other
        .severity
        .cmp(&one.severity)
        .then(one.first_at.cmp(&other.first_at))
        .then_with(|| one.name.cmp(&other.name))
        .then_with(|| one.subject.cmp(&other.subject))
}

/// What the gravest alerts are that fire, as long as no cause says more than they do.
pub(super) fn what_is_broken(incident: &Incident) -> Option<Vec<Span>> {
    let broken = broken(incident);
    let word = match broken.first()?.severity {
        Severity::Critical => "First critical: ",
        Severity::Warning => "First warnings: ",
        Severity::Info => "First alerts: ",
    };
    let mut spans = vec![Span::bold(word)];
    for (at, group) in broken.iter().take(FIRST).enumerate() {
        if at > 0 {
            spans.push(Span::plain("; "));
        }
        spans.push(Span::quoted(group.name.clone()));
        spans.push(Span::plain(" about "));
        spans.push(Span::code(group.subject.clone()));
        spans.push(Span::plain(format!(", since {}", group.first_at.hour_minute())));
    }
    Some(spans)
}

/// The same for a notification, which has room for one.
pub(super) fn broken_first(incident: &Incident) -> Option<String> {
    let broken = broken(incident);
    let first = broken.first()?;
    Some(format!("first {} about {} since {}", first.name, first.subject, first.first_at.hour_minute()))
}

fn broken(incident: &Incident) -> Vec<&AlertGroup> {
    let found = incident.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.verdict != Verdict::Inconclusive);
    if found || incident.state.is_over() {
        return vec![];
    }
    let mut groups = gravest(incident);
    groups.retain(|group| fires(group));
    let worst = groups.first().map(|group| group.severity);
    groups.retain(|group| Some(group.severity) == worst);
    groups
}

fn gravest(incident: &Incident) -> Vec<&AlertGroup> {
    let mut groups: Vec<&AlertGroup> = incident.alerts.values().collect();
    groups.sort_by(|one, other| by_gravity(one, other));
    groups
}

fn fires(group: &AlertGroup) -> bool {
    group.count > group.resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::card::plain;
    use crate::domain::id::IncidentId;
    use crate::domain::time::Timestamp;

    /// Name, subject, severity, second of the first and how many.
    fn incident(alerts: &[(&str, &str, Severity, i64, usize)]) -> Incident {
        let mut incident = Incident::blank(IncidentId::numbered(2));
        for (name, subject, severity, second, count) in alerts {
            let at = Timestamp::from_secs(80_000 + second);
            let group = AlertGroup { count: *count, ..AlertGroup::new(name, subject, *severity, at) };
            incident.alerts.insert(format!("{name} {subject}"), group);
        }
        incident
    }

    #[test]
    fn what_is_graver_now_is_said_to_whoever_handed_it_over_until_it_is_accepted() {
        let mut incident = incident(&[]);
        incident.owner = Some("t/bob".into());
        let told = |incident: &Incident| serde_json::to_string(&graver(incident)).expect("a card");
        assert!(told(&incident).contains("t/bob") && !told(&incident).contains("t/ada"));
        incident.handed = Some(crate::domain::incident::Handed { by: "t/ada".into(), at: Timestamp::default() });
        assert!(told(&incident).contains("t/bob") && told(&incident).contains("t/ada"));
    }

    #[test]
    fn the_gravest_and_earliest_stands_first_however_loud_the_others_are() {
        use Severity::{Critical, Warning};
        let mut storm = incident(&[
            ("CPUThrottling", "web", Warning, 0, 40),
            ("HighErrorRate", "cart", Critical, 60, 20),
            ("PostgresDown", "db", Critical, 0, 1),
        ]);
        assert_eq!(title(&storm), "db, cart and 1 more affected");
        assert_eq!(headline(&storm), "db: PostgresDown since 22:13, and 2 more subjects");
        let broken = what_is_broken(&storm).expect("it fires");
        assert_eq!(
            plain(&broken),
            "First critical: PostgresDown about db, since 22:13; HighErrorRate about cart, since 22:14"
        );
        storm.alerts.retain(|_, group| group.subject != "web");
        assert_eq!(title(&storm), "db, cart affected");
        storm.alerts.retain(|_, group| group.subject == "db");
        assert_eq!(
            (title(&storm), headline(&storm)),
            ("db: PostgresDown".into(), "db: PostgresDown since 22:13".into())
        );
        storm.alerts.values_mut().for_each(|group| group.resolved = group.count);
        assert_eq!(what_is_broken(&storm), None, "it has ended");
    }
}
