//! The answer formats of Loki: `/loki/api/v1/query_range` for log queries, and `/loki/api/v1/series`.

use serde::Deserialize;
use serde_json::Value;

use super::signals::Answer;
use crate::domain::alert::Labels;
use crate::domain::time::Timestamp;
use crate::ports::{LogLine, SignalError};

#[derive(Deserialize)]
struct Envelope {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    /// Null where there are none.
    data: Option<Vec<Labels>>,
}

#[derive(Deserialize)]
struct Stream {
    stream: Labels,
    /// (nanoseconds as text, line), and perhaps structured metadata as a third element.
    values: Vec<Vec<Value>>,
}

pub(super) fn nanoseconds(at: Timestamp) -> String {
    format!("{}000000", at.millis())
}

fn succeeded(answer: &Answer) -> Result<(), SignalError> {
    if answer.status.is_success() {
        return Ok(());
    }
    // Loki says errors as plain text.
    let message: String = String::from_utf8_lossy(&answer.body).trim().chars().take(300).collect();
    Err(match answer.status.as_u16() {
        400 | 422 => SignalError::BadQuery(message),
        _ => SignalError::Unavailable(format!("Loki answered {}: {message}", answer.status)),
    })
}

fn unreadable(why: serde_json::Error) -> SignalError {
    SignalError::Unavailable(format!("Loki gave an unreadable answer: {why}"))
}

/// How many streams there are.
pub(super) fn count(answer: &Answer) -> Result<usize, SignalError> {
    succeeded(answer)?;
    let series: Series = serde_json::from_slice(&answer.body).map_err(unreadable)?;
    Ok(series.data.unwrap_or_default().len())
}

/// The streams merged into one list, newest first, at most `limit`.
pub(super) fn read(answer: &Answer, limit: usize) -> Result<Vec<LogLine>, SignalError> {
    succeeded(answer)?;
    let envelope: Envelope = serde_json::from_slice(&answer.body).map_err(unreadable)?;
    if envelope.data.result_type != "streams" {
        return Err(SignalError::BadQuery("the query yields numbers, not lines; drop the aggregation".to_owned()));
    }
    let streams: Vec<Stream> = serde_json::from_value(envelope.data.result).map_err(unreadable)?;
    let mut lines: Vec<LogLine> = streams.into_iter().flat_map(lines_of).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.at));
    lines.truncate(limit);
    Ok(lines)
}

fn lines_of(stream: Stream) -> impl Iterator<Item = LogLine> {
    let labels = stream.stream;
    stream.values.into_iter().filter_map(move |pair| {
        let nanoseconds: i64 = pair.first()?.as_str()?.parse().ok()?;
        let line = pair.get(1)?.as_str()?.to_owned();
        Some(LogLine { at: Timestamp::from_millis(nanoseconds / 1_000_000), labels: labels.clone(), line })
    })
}
