//! The answer format of the Prometheus HTTP API (`/api/v1/query`, `/api/v1/query_range`).

use serde::Deserialize;
use serde_json::Value;

use super::signals::Answer;
use crate::domain::alert::Labels;
use crate::domain::evidence::Series;
use crate::domain::time::Timestamp;
use crate::ports::SignalError;

#[derive(Deserialize)]
struct Envelope {
    status: String,
    data: Option<Data>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Row {
    metric: Labels,
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

pub(super) fn read(answer: &Answer) -> Result<Vec<Series>, SignalError> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&answer.body) else {
        let start: String = String::from_utf8_lossy(&answer.body).chars().take(120).collect();
        return Err(SignalError::Unavailable(format!("Prometheus answered {}: {start}", answer.status)));
    };
    if envelope.status != "success" {
        let message = envelope.error.unwrap_or_else(|| format!("status {}", answer.status));
        // `timeout` and `internal` say nothing against the query; `execution` does (too many samples).
        return Err(match envelope.error_type.as_deref() {
            Some("bad_data" | "execution") => SignalError::BadQuery(message),
            _ if answer.status.as_u16() == 422 => SignalError::BadQuery(message),
            _ => SignalError::Unavailable(message),
        });
    }
    let data = envelope.data.ok_or_else(|| unreadable("no data"))?;
    match data.result_type.as_str() {
        "vector" | "matrix" => {
            let rows: Vec<Row> = serde_json::from_value(data.result).map_err(unreadable)?;
            Ok(rows.into_iter().map(series).collect())
        }
        "scalar" => {
            let value: (f64, String) = serde_json::from_value(data.result).map_err(unreadable)?;
            Ok(vec![series(Row { metric: Labels::new(), value: Some(value), values: vec![] })])
        }
        other => Err(SignalError::BadQuery(format!("the query yields a {other}; ask for numbers"))),
    }
}

fn unreadable(why: impl std::fmt::Display) -> SignalError {
    SignalError::Unavailable(format!("Prometheus gave an unreadable answer: {why}"))
}

/// NaN and infinities become gaps: JSON cannot hold them, and evidence is kept as JSON.
fn series(row: Row) -> Series {
    let points = row.value.into_iter().chain(row.values).filter_map(|(at, text)| {
        let value: f64 = text.parse().ok()?;
        value.is_finite().then(|| (Timestamp::from_millis((at * 1000.0).round() as i64), value))
    });
    Series { points: points.collect(), labels: row.metric }
}
