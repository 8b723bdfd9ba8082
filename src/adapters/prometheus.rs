//! The answer format of the Prometheus HTTP API (`/api/v1/query`, `/api/v1/query_range`).

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::signals::Answer;
use crate::domain::alert::Labels;
use crate::domain::evidence::Series;
use crate::domain::time::Timestamp;
use crate::ports::SignalError;

/// Read twice: what kind of answer it is, then its numbers as that kind. An answer may hold a million of
/// them, and a tree of values would cost more than all that is done with them.
#[derive(Deserialize)]
struct Envelope<R> {
    status: String,
    data: Option<Data<R>>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data<R> {
    #[serde(rename = "resultType")]
    result_type: String,
    result: R,
}

#[derive(Deserialize)]
struct Row {
    metric: Labels,
    value: Option<(f64, Sample)>,
    #[serde(default)]
    values: Vec<(f64, Sample)>,
}

/// Sent as text, because JSON has no NaN and no infinities; `None` for what is no number.
struct Sample(Option<f64>);

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Sample;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a number as text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Sample, E> {
                Ok(Sample(text.parse().ok()))
            }
        }
        from.deserialize_str(Text)
    }
}

pub(super) fn read(answer: &Answer) -> Result<Vec<Series>, SignalError> {
    let Ok(envelope) = serde_json::from_slice::<Envelope<IgnoredAny>>(&answer.body) else {
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
        "vector" | "matrix" => Ok(result::<Vec<Row>>(answer)?.into_iter().map(series).collect()),
        "scalar" => {
            let value: (f64, Sample) = result(answer)?;
            Ok(vec![series(Row { metric: Labels::new(), value: Some(value), values: vec![] })])
        }
        other => Err(SignalError::BadQuery(format!("the query yields a {other}; ask for numbers"))),
    }
}

fn result<R: DeserializeOwned>(answer: &Answer) -> Result<R, SignalError> {
    let envelope: Envelope<R> = serde_json::from_slice(&answer.body).map_err(unreadable)?;
    Ok(envelope.data.ok_or_else(|| unreadable("no data"))?.result)
}

fn unreadable(why: impl std::fmt::Display) -> SignalError {
    SignalError::Unavailable(format!("Prometheus gave an unreadable answer: {why}"))
}

/// NaN and infinities become gaps: JSON cannot hold them, and evidence is kept as JSON.
fn series(row: Row) -> Series {
    let points = row.value.into_iter().chain(row.values).filter_map(|(at, Sample(value))| {
        let value = value?;
        value.is_finite().then(|| (Timestamp::from_millis((at * 1000.0).round() as i64), value))
    });
    Series { points: points.collect(), labels: row.metric }
}
