//! What the logs of everything affected say: now against before, and what was heard before anybody asked.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::sign::sign_of;
use super::{Dossier, Exhibit, RECENT, Scoped};
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::incident::Incident;
use crate::domain::log_digest::digest;
use crate::domain::log_stream::none_of;
use crate::domain::log_template::novelty::{Excerpt, Line, Novelty};
use crate::domain::root_cause::{Picture, Sign};
use crate::domain::signal_scope::SignalScope;
use crate::domain::time::Timestamp;
use crate::domain::topology::NodeKind;
use crate::flow::desk::Desk;
use crate::flow::listen::{LogNews, TROUBLE};
use crate::ports::{LogLine, SignalError, Signals};
use crate::tools::logs::label_of;

const LOG_WINDOW: Duration = Duration::from_secs(20 * 60);
const LOG_LINES: usize = 400;

/// Asks the logs of everything affected for errors that were not there, or rarer, an hour ago.
pub(super) async fn log_signs(
    signals: &dyn Signals,
    Scoped { config, scope }: Scoped<'_>,
    incident: &Incident,
    event_now: Timestamp,
    dossier: &mut Dossier,
    picture: &mut Picture,
) {
    let affected: BTreeSet<String> = picture
        .readings
        .iter()
        .filter(|reading| reading.deviation >= 1.0)
        .map(|reading| reading.node.clone())
        .chain(incident.subjects().into_iter().map(str::to_owned))
        .filter(|node| !matches!(picture.topology.kind(node), Some(NodeKind::Host | NodeKind::External)))
        .collect();
    let label = config.log_service_label.as_str();
    let start = (incident.since - LOG_WINDOW).min(event_now - LOG_WINDOW);
    /// Why there is nothing to read.
    type Missing = Option<String>;
    type Answer = (String, String, Lines, Lines, Missing);
    let before = start - Duration::from_secs(3600);
    let spans = [before, start, event_now];
    let asked: Vec<BoxFuture<'_, Answer>> = affected
        .into_iter()
        .map(|node| {
            async move {
                let (mut query, mut now, mut past) = read(signals, scope.streams(label, &node), spans).await;
                let mut missing = None;
                // Nothing was written, or nobody is called so.
                if [&now, &past].iter().all(|lines| lines.as_ref().is_ok_and(Vec::is_empty)) {
                    match label_of(signals, scope, label, &node, (before, event_now)).await {
                        Ok(None) => {
                            let of = scope.of_logs().map(|of| format!(" where {of}")).unwrap_or_default();
                            missing = Some(format!("{}{of}", none_of(label, &node)));
                        }
                        Ok(Some(other)) if other != label => {
                            (query, now, past) = read(signals, scope.streams(other, &node), spans).await
                        }
                        // Of a backend that cannot tell, an empty answer is all that there is.
                        Ok(Some(_)) | Err(_) => {}
                    }
                }
                (node, query, now, past, missing)
            }
            .boxed()
        })
        .collect();
    let mut answers: Vec<Answer> = futures::stream::iter(asked).buffer_unordered(4).collect().await;
    answers.sort_by(|one, other| one.0.cmp(&other.0));
    for (node, query, now, past, missing) in answers {
        if let Some(why) = missing {
            dossier.unread(EvidenceKind::Log, "loki", &format!("the logs of {node}"), &why);
            continue;
        }
        let now = match now {
            Ok(now) => now,
            Err(error) => {
                dossier.unread(EvidenceKind::Log, "loki", &format!("the logs of {node}"), &error);
                continue;
            }
        };
        // What could not be read is no sign of silence: such a baseline ends where it begins.
        let past_from = if past.is_ok() { before } else { start };
        let past = past.unwrap_or_else(|error| {
            dossier.unread(EvidenceKind::Log, "loki", &format!("the usual logs of {node}"), &error);
            vec![]
        });
        let (past_lines, now_lines) = (as_lines(&past), as_lines(&now));
        let baseline = excerpt(past_from, start, &past_lines);
        let Some(digest) = digest(&node, baseline, excerpt(start, event_now, &now_lines)) else { continue };
        let evidence = dossier.add(
            Exhibit {
                kind: EvidenceKind::Log,
                source: "loki",
                query: &query,
                summary: digest.summary(&node),
                body: digest.body(),
                series: vec![],
                taint: Taint::UserWritable,
            },
            event_now,
        );
        let others: Vec<String> =
            picture.topology.nodes().map(|(name, _)| name.to_owned()).filter(|name| *name != node).collect();
        for finding in digest.findings.iter().filter(|finding| finding.novelty == Novelty::New).take(8) {
            if let Some(kind) = sign_of(&finding.example, &node, &others) {
                picture.signs.push(Sign {
                    node: node.clone(),
                    kind,
                    text: format!("new in its log: {}", finding.template),
                    at: Some(finding.first_at),
                    evidence: Some(evidence.clone()),
                });
            }
        }
    }
}

type Lines = Result<Vec<LogLine>, SignalError>;

/// The query, the lines between the second and the third time, and those between the first and the second.
async fn read(signals: &dyn Signals, streams: String, spans: [Timestamp; 3]) -> (String, Lines, Lines) {
    let query = format!("{streams} |~ \"{TROUBLE}\"");
    let [before, start, end] = spans;
    let (now, past) =
        futures::join!(signals.logs(&query, start, end, LOG_LINES), signals.logs(&query, before, start, LOG_LINES));
    (query, now, past)
}

/// What the logs of everything affected said anew while nobody asked: it is there also when the lines
/// themselves are no longer, and says when it began.
pub(super) fn heard_before(
    desk: &Desk,
    incident: &Incident,
    scope: &SignalScope,
    event_now: Timestamp,
    dossier: &mut Dossier,
    picture: &mut Picture,
) {
    let affected: BTreeSet<&str> = incident.subjects().into_iter().chain(picture.anomalous()).collect();
    let is_of = |news: &LogNews| affected.contains(news.service.as_str()) && scope.hears(news.cluster.as_deref());
    let news = desk.ear.news(is_of, incident.since - RECENT);
    if news.is_empty() {
        return;
    }
    let body: Vec<String> = news.iter().map(LogNews::to_string).collect();
    let exhibit = Exhibit {
        kind: EvidenceKind::Log,
        source: "loki",
        query: "templates and their rates, listened to once a minute",
        summary: format!("{} log templates were news; the first: {}", news.len(), body[0]),
        body: body.join("\n"),
        series: vec![],
        taint: Taint::UserWritable,
    };
    dossier.add(exhibit, event_now);
}

fn as_lines(lines: &[LogLine]) -> Vec<Line<'_>> {
    lines.iter().map(|line| Line { at: line.at, text: &line.line }).collect()
}

/// The newest lines are read up to a limit: if it was reached, the excerpt begins at the oldest of them.
fn excerpt<'a>(from: Timestamp, to: Timestamp, lines: &'a [Line<'a>]) -> Excerpt<'a> {
    let oldest = lines.iter().map(|line| line.at).min().filter(|_| lines.len() >= LOG_LINES);
    Excerpt { from: oldest.unwrap_or(from).max(from), to, lines }
}
