//! The answer format of the Prometheus HTTP API (`/api/v1/query`, `/api/v1/query_range`).

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::signals::Answer;
use crate::domain::alert::Labels;
use crate::domain::evidence::Series;
use crate::domain::time::Timestamp;
use crate::ports::{SignalError, Warned};

/// Read twice: what kind of answer it is, then its numbers as that kind. An answer may hold a million of
/// them, and a tree of values would cost more than all that is done with them.
#[derive(Deserialize)]
struct Envelope<R> {
    status: String,
    data: Option<Data<R>>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    /// Of an answer that is a part of the whole. What Prometheus calls `infos` speaks of the query only.
    warnings: Option<Vec<String>>,
    /// So says VictoriaMetrics.
    #[serde(rename = "isPartial")]
    is_partial: Option<bool>,
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

pub(super) fn read(answer: &Answer) -> Result<Warned, SignalError> {
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
    let series = match data.result_type.as_str() {
        "vector" | "matrix" => result::<Vec<Row>>(answer)?.into_iter().map(series).collect(),
        "scalar" => {
            let value: (f64, Sample) = result(answer)?;
            vec![series(Row { metric: Labels::new(), value: Some(value), values: vec![] })]
        }
        other => return Err(SignalError::BadQuery(format!("the query yields a {other}; ask for numbers"))),
    };
    let mut warnings = envelope.warnings.unwrap_or_default();
    if warnings.is_empty() && envelope.is_partial == Some(true) {
        warnings.push("some of its storage did not answer".to_owned());
    }
    Ok(Warned { series, warnings })
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

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn answer(body: &str) -> Result<Vec<Series>, SignalError> {
        Ok(warned(body)?.series)
    }

    fn warned(body: &str) -> Result<Warned, SignalError> {
        read(&Answer { status: StatusCode::OK, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn every_kind_of_answer_is_read_as_what_it_is() {
        let at = |seconds| Timestamp::from_secs(seconds);
        let matrix = r#"{"data":{"result":[{"metric":{"pod":"a"},"values":[[1,"0.5"],[2,"+Inf"],[3,"1e3"],[4,"x"]]}],
            "resultType":"matrix"},"status":"success","warnings":["partial"]}"#;
        let series = answer(matrix).unwrap();
        assert_eq!(series[0].points, [(at(1), 0.5), (at(3), 1_000.0)], "infinities and no numbers are gaps");
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[5,"\u0037"]}}"#;
        assert_eq!(answer(scalar).unwrap()[0].points, [(at(5), 7.0)]);
    }

    #[test]
    fn what_the_backend_warns_of_is_kept() {
        let partial = r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["store-2 is away"],
            "infos":["metric might not be a counter"]}"#;
        assert_eq!(warned(partial).unwrap().warnings, ["store-2 is away"]);
        let told = r#"{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(warned(told).unwrap().warnings.len(), 1);
        let whole =
            r#"{"status":"success","warnings":null,"isPartial":false,"data":{"resultType":"vector","result":[]}}"#;
        assert!(warned(whole).unwrap().warnings.is_empty());
    }

    #[test]
    fn what_is_no_answer_says_what_it_is() {
        let said = |body: &str| answer(body).unwrap_err().to_string();
        let number = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,2]}]}}"#;
        assert!(said(number).contains("a number as text"), "{}", said(number));
        let string = r#"{"status":"success","data":{"resultType":"string","result":[1,"hello"]}}"#;
        assert!(said(string).contains("yields a string"), "{}", said(string));
        assert!(said(r#"{"status":"success"}"#).contains("no data"));
        assert!(said("<html>").contains("answered 200 OK: <html>"), "{}", said("<html>"));
    }
}
