//! PromQL, answered as a digest: a model reads "rose from 0.01 to 0.37 at 02:17" better than 240 points.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::promql::{MAX_POINTS, judge_promql};
use super::{Backend, Draft, TellModel, Terms, Tool, ToolContext, arguments, confined, schema, window};
use crate::domain::evidence::{EvidenceKind, Series, Taint};
use crate::domain::time::Timestamp;
use crate::ports::{Signals, ToolSchema, Warned, Window};

const SHOWN: usize = 20;
/// Enough to see a shape; a finer step is of no use to a reader.
const POINTS: u64 = 240;
const MIN_STEP: u64 = 15;

pub struct MetricsRange;
pub struct MetricsNow;
pub struct GoldenSignals;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeArguments {
    query: String,
    minutes: Option<u64>,
    until: Option<Timestamp>,
}

#[async_trait]
impl Tool for MetricsRange {
    fn schema(&self) -> ToolSchema {
        schema(
            "metrics_range",
            "PromQL over a time window. Answers for each series: first, min, max, mean, last, and since when it \
             differs from the window's beginning. Use it to see when something began and what moved first.",
            json!({
                "query": {"type": "string", "description": "PromQL; every selector names one metric"},
                "minutes": {"type": "integer", "description": "length of the window, default 60"},
                "until": {"type": "string", "description": "end of the window, RFC 3339; default now"},
            }),
            &["query"],
        )
    }

    fn terms(&self) -> Terms {
        Terms::asking(Backend::Signals)
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let RangeArguments { query, minutes, until } = arguments(value)?;
        judge_promql(&query)?;
        let query = context.scope.promql(&query)?;
        let (start, end) = window(minutes, until, context)?;
        let window = window_of(start, end);
        let Warned { series, warnings } = signals(context)?.range_warned(&query, window).await?;
        let mut digests: Vec<_> = series.iter().filter_map(|series| Digest::of(series, window)).collect();
        digests.sort_by(|one, other| other.moved.total_cmp(&one.moved));
        let lines: Vec<_> = digests.iter().map(|digest| digest.line.clone()).collect();
        let summary = match digests.first() {
            None => "no data: wrong name or labels, or nothing was measured".to_owned(),
            Some(first) => format!(
                "{} series, {} to {}; most moved: {}",
                series.len(),
                start.hour_minute(),
                end.hour_minute(),
                first.line
            ),
        };
        let of = confined(context.scope.of_metrics(), &query);
        let summary = format!("{}{of}{summary}", in_part(&warnings));
        let series = digests.iter().take(SHOWN).map(|digest| digest.series.clone()).collect();
        Ok(draft(query, summary, lines, series))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NowArguments {
    query: String,
    at: Option<Timestamp>,
}

#[async_trait]
impl Tool for MetricsNow {
    fn schema(&self) -> ToolSchema {
        schema(
            "metrics_now",
            "PromQL at one instant: the values of a metric now, or at the given time, largest first.",
            json!({
                "query": {"type": "string", "description": "PromQL; every selector names one metric"},
                "at": {"type": "string", "description": "RFC 3339; default now"},
            }),
            &["query"],
        )
    }

    fn terms(&self) -> Terms {
        Terms::asking(Backend::Signals)
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let NowArguments { query, at } = arguments(value)?;
        judge_promql(&query)?;
        let query = context.scope.promql(&query)?;
        let at = at.unwrap_or(context.event_now).min(context.event_now);
        let Warned { mut series, warnings } = signals(context)?.instant_warned(&query, at).await?;
        series.retain(|series| series.last().is_some());
        series.sort_by(|one, other| other.last().unwrap_or(0.0).total_cmp(&one.last().unwrap_or(0.0)));
        let lines: Vec<_> =
            series.iter().map(|one| format!("{} = {}", labels(one), number(one.last().unwrap_or(0.0)))).collect();
        let summary = match lines.first() {
            None => "no data: wrong name or labels, or nothing was measured".to_owned(),
            Some(first) => format!("{} series at {}; largest: {first}", lines.len(), at.clock_time()),
        };
        let of = confined(context.scope.of_metrics(), &query);
        let summary = format!("{}{of}{summary}", in_part(&warnings));
        Ok(draft(query, summary, lines, series))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenArguments {
    service: String,
    minutes: Option<u64>,
    until: Option<Timestamp>,
}

#[async_trait]
impl Tool for GoldenSignals {
    fn schema(&self) -> ToolSchema {
        schema(
            "golden_signals",
            "Everything that is measured of one service or node (errors, latency, traffic, memory, CPU, pools, \
             restarts ...), each as a digest with its onset. The best first look at any component.",
            json!({
                "service": {"type": "string", "description": "as the topology names it"},
                "minutes": {"type": "integer", "description": "default 60"},
                "until": {"type": "string", "description": "RFC 3339; default now"},
            }),
            &["service"],
        )
    }

    fn terms(&self) -> Terms {
        Terms::asking(Backend::Signals)
    }

    async fn call(&self, value: Value, context: &ToolContext) -> Result<Draft, TellModel> {
        let GoldenArguments { service, minutes, until } = arguments(value)?;
        if !context.topology.contains(&service) {
            return Err(TellModel(format!("nothing observed is called {service:?}; use the names of the topology")));
        }
        let (start, end) = window(minutes, until, context)?;
        let (signals, window) = (signals(context)?, window_of(start, end));
        let asked = context.measures.iter().map(|measure| async move {
            let answer = match context.scope.promql(&measure.promql) {
                Ok(promql) => signals.range_warned(&promql, window).await,
                Err(refused) => Err(refused.into()),
            };
            (measure, answer)
        });
        let (mut lines, mut kept, mut away, mut warned) = (vec![], vec![], 0, vec![]);
        for (measure, answer) in join_all(asked).await {
            let Ok(Warned { series, warnings }) = answer else {
                away += 1;
                continue;
            };
            warned.extend(warnings);
            let own = series.into_iter().filter(|series| series.label(&measure.label) == Some(service.as_str()));
            for mut series in own {
                series.labels.insert("signal".to_owned(), measure.name.clone());
                if let Some(digest) = Digest::of(&series, window) {
                    lines.push(format!("{} ({}) {}", measure.name, measure.unit, digest.shape));
                    kept.push(series);
                }
            }
        }
        if lines.is_empty() && away > 0 {
            return Err(TellModel("the metrics backend did not answer; use other evidence".to_owned()));
        }
        let of = context.scope.of_metrics().map(|of| format!(" where {of}")).unwrap_or_default();
        let summary = format!(
            "{}{} signals of {service}{of}, {} to {}{}",
            in_part(&warned),
            lines.len(),
            start.hour_minute(),
            end.hour_minute(),
            if away > 0 { format!("; {away} could not be read") } else { String::new() }
        );
        if lines.is_empty() {
            lines.push(format!("nothing is measured of {service}{of}"));
        }
        // That nothing is measured is said in a line of its own.
        let found = !kept.is_empty();
        Ok(Draft { found, ..draft(format!("golden signals of {service}{of}"), summary, lines, kept) })
    }
}

/// Said first, for a summary is cut at its end: values of a part may be less than those of the whole.
fn in_part(warnings: &[String]) -> String {
    let clip = |text: &String| text.chars().take(120).collect::<String>();
    warnings.first().map_or_else(String::new, |first| format!("perhaps not all ({}): ", clip(first)))
}

fn signals(context: &ToolContext) -> Result<&dyn Signals, TellModel> {
    context.signals.as_deref().ok_or_else(|| TellModel("no metrics backend is configured".to_owned()))
}

/// All lines are kept; the first of them are shown.
fn draft(query: String, summary: String, lines: Vec<String>, series: Vec<Series>) -> Draft {
    let more = lines.len().saturating_sub(SHOWN);
    let shown = (more > 0).then(|| {
        format!(
            "{}\n[{more} more series are kept: evidence_grep finds them; or aggregate with sum by (...) or topk]",
            lines[..SHOWN].join("\n")
        )
    });
    let (body, found) = (lines.join("\n"), !lines.is_empty());
    let (kind, source, taint) = (EvidenceKind::Metric, "prometheus", Taint::Observed);
    Draft { kind, source, query, summary, body, shown, series, taint, found }
}

fn window_of(start: Timestamp, end: Timestamp) -> Window {
    let seconds = end.since(start).as_secs();
    let step = (seconds / POINTS).max(MIN_STEP).max(seconds / u64::from(MAX_POINTS));
    Window { start, end, step: Duration::from_secs(step) }
}

struct Digest {
    series: Series,
    line: String,
    shape: String,
    /// How far it went from where it began, in units of its own size.
    moved: f64,
}

impl Digest {
    fn of(series: &Series, window: Window) -> Option<Self> {
        let values: Vec<f64> = series.values().collect();
        let (first, last) = (*values.first()?, *values.last()?);
        let (min, max) = values.iter().fold((first, first), |(min, max), value| (min.min(*value), max.max(*value)));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let usual = median(&values[..values.len().div_ceil(4)]);
        let moved = values.iter().map(|value| (value - usual).abs()).fold(0.0, f64::max) / (usual.abs() + 1e-9);
        let onset = onset(series).map_or("steady".to_owned(), |at| format!("differs since {}", at.clock_time()));
        let shape = format!(
            "first={} min={} max={} mean={} last={} {onset}{}",
            number(first),
            number(min),
            number(max),
            number(mean),
            number(last),
            ended(series, window).map_or_else(String::new, |at| format!(", ended {}", at.clock_time()))
        );
        Some(Self { line: format!("{} {shape}", labels(series)), shape, moved, series: series.clone() })
    }
}

/// When it stopped, if it is no longer measured: what does not run any more must not look calm.
fn ended(series: &Series, window: Window) -> Option<Timestamp> {
    let (last, _) = series.points.iter().rfind(|(_, value)| value.is_finite())?;
    (window.end.since(*last) > 2 * window.step).then_some(*last)
}

/// The first of three points in a row that lie outside what the window's first quarter does:
/// four robust deviations (median absolute deviation), and at least a tenth of the usual value.
fn onset(series: &Series) -> Option<Timestamp> {
    let points: Vec<_> = series.points.iter().filter(|(_, value)| value.is_finite()).collect();
    if points.len() < 8 {
        return None;
    }
    let begin: Vec<f64> = points[..points.len() / 4].iter().map(|(_, value)| *value).collect();
    let usual = median(&begin);
    let spread = median(&begin.iter().map(|value| (value - usual).abs()).collect::<Vec<_>>()) * 1.4826;
    let bound = (4.0 * spread).max(0.1 * usual.abs()).max(1e-9);
    let outside = |value: f64| (value - usual).abs() > bound;
    points.windows(3).find(|three| three.iter().all(|(_, value)| outside(*value))).map(|three| three[0].0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn labels(series: &Series) -> String {
    let pairs: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Four significant digits: what a person compares.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_dated_and_noise_is_not() {
        let at = |minute: i64| Timestamp::from_secs(7_200 + minute * 60);
        let noise = |minute: i64| 0.01 + 0.001 * (minute % 3) as f64;
        let series = |value: &dyn Fn(i64) -> f64| Series {
            labels: [("service".to_owned(), "cart".to_owned())].into(),
            points: (0..60).map(|minute| (at(minute), value(minute))).collect(),
        };
        let line = |series: &Series, end: i64| {
            let window = Window { start: at(0), end: at(end), step: Duration::from_secs(60) };
            Digest::of(series, window).unwrap().line
        };
        let step = series(&|minute| if minute < 40 { noise(minute) } else { 0.37 });
        expect_test::expect![
            "{service=cart} first=0.01 min=0.01 max=0.37 mean=0.1307 last=0.37 differs since 02:40:00"
        ]
        .assert_eq(&line(&step, 59));
        assert!(line(&series(&noise), 61).ends_with("steady"));
        assert!(line(&series(&noise), 62).ends_with("steady, ended 02:59:00"));
        assert_eq!(in_part(&["store-2 is away".into()]), "perhaps not all (store-2 is away): ");
        assert_eq!([number(1610612736.0), number(0.00012345), number(12.0)], ["1610612736", "0.0001234", "12"]);
    }
}
