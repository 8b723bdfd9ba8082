//! PromQL over series in memory. Every node is evaluated once for the whole grid of steps, so a
//! selector is resolved once per query however many steps there are.

mod aggregate;
mod binary;
mod functions;
mod over_time;
mod store;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use promql_parser::parser::value::ValueType;
use promql_parser::parser::{AtModifier, Expr, MatrixSelector, Offset, SubqueryExpr, VectorSelector, parse};

pub use aggregate::number;
pub use store::{Labels, NAME, SeriesId, SeriesStore, StoredSeries};

/// How far back an instant selector looks for its sample.
pub const LOOKBACK: i64 = 5 * 60 * 1000;
const SUBQUERY_STEP: i64 = 60 * 1000;
/// More points than a range query may ask of one series.
const MAX_POINTS: i64 = 11_000;
/// Samples one query may hold, so that a careless subquery cannot take the process with it.
const MAX_SAMPLES: usize = 20_000_000;
const MAX_QUERY: usize = 8192;
const MAX_DEPTH: usize = 64;
/// Durations beyond this are cut, so that sums of times cannot overflow.
const FAR: i64 = 100_000_000_000_000;

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromError {
    /// The query or a parameter is malformed or uses what this evaluator lacks.
    #[error("{0}")]
    BadData(String),
    /// The query is well formed but cannot be carried out on these series.
    #[error("{0}")]
    Execution(String),
}

pub(crate) type Result<T> = std::result::Result<T, PromError>;

fn bad<T>(text: impl Into<String>) -> Result<T> {
    Err(PromError::BadData(text.into()))
}

fn failed<T>(text: impl Into<String>) -> Result<T> {
    Err(PromError::Execution(text.into()))
}

/// A sample's time in milliseconds and its value.
pub type Point = (i64, f64);

/// What a query answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Scalar(Point),
    Text(i64, String),
    Vector(Vec<(Labels, Point)>),
    Matrix(Vec<(Labels, Vec<Point>)>),
}

/// One series over the grid: a value or its absence per step.
#[derive(Debug, Clone)]
struct Series {
    labels: Labels,
    values: Vec<Option<f64>>,
}

enum Value {
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<Series>),
}

/// Raw points per series, and the window each step looks at.
struct Matrix {
    series: Vec<(Labels, Vec<Point>)>,
    window: Window,
}

#[derive(Clone, Copy)]
struct Window {
    range: i64,
    offset: i64,
    at: Option<i64>,
}

impl Window {
    fn end(&self, time: i64) -> i64 {
        self.at.unwrap_or(time) - self.offset
    }
}

#[derive(Clone, Copy)]
struct Ctx<'a> {
    store: &'a SeriesStore,
    now: i64,
    start: i64,
    step: i64,
    steps: usize,
    /// Where the query itself starts and ends, for `@ start()` and `@ end()`.
    bounds: (i64, i64),
    depth: usize,
    held: &'a Cell<usize>,
}

/// Evaluates at one time. Samples after `now` do not exist yet.
pub fn instant(store: &SeriesStore, query: &str, at: i64, now: i64) -> Result<Answer> {
    let expr = read(query)?;
    let held = Cell::new(0);
    let ctx = Ctx { store, now, start: at, step: 1, steps: 1, bounds: (at, at), depth: 0, held: &held };
    if expr.value_type() == ValueType::Matrix {
        let matrix = ctx.matrix(&expr)?;
        let (end, range) = (matrix.window.end(at), matrix.window.range);
        let mut series = matrix.series;
        for (_, points) in &mut series {
            points.retain(|(t, _)| *t > end - range && *t <= end);
        }
        series.retain(|(_, points)| !points.is_empty());
        return Ok(Answer::Matrix(series));
    }
    Ok(match ctx.eval(&expr)? {
        Value::Scalar(v) => Answer::Scalar((at, v.first().copied().unwrap_or(f64::NAN))),
        Value::Text(s) => Answer::Text(at, s),
        Value::Vector(series) => {
            let one = |s: Series| s.values.first().copied().flatten().map(|v| (s.labels, (at, v)));
            Answer::Vector(series.into_iter().filter_map(one).collect())
        }
    })
}

/// Evaluates from `start` to `end` every `step` milliseconds; steps after `now` are left out.
pub fn range(store: &SeriesStore, query: &str, start: i64, end: i64, step: i64, now: i64) -> Result<Answer> {
    if end < start {
        return bad("invalid parameter \"end\": end timestamp must not be before start time");
    }
    if step <= 0 {
        return bad(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        );
    }
    if (end - start) / step > MAX_POINTS {
        return bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        );
    }
    let expr = read(query)?;
    let kind = match expr.value_type() {
        ValueType::Matrix => Some("range vector"),
        ValueType::String => Some("string"),
        _ => None,
    };
    if let Some(kind) = kind {
        return bad(format!(
            "invalid parameter \"query\": invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector"
        ));
    }
    let last = end.min(now);
    if last < start {
        return Ok(Answer::Matrix(Vec::new()));
    }
    let steps = usize::try_from((last - start) / step + 1).unwrap_or(1);
    let held = Cell::new(0);
    let ctx = Ctx { store, now, start, step, steps, bounds: (start, end), depth: 0, held: &held };
    let series = match ctx.eval(&expr)? {
        Value::Scalar(v) => vec![Series { labels: Labels::default(), values: v.into_iter().map(Some).collect() }],
        Value::Vector(series) => series,
        Value::Text(_) => Vec::new(),
    };
    let mut rows: Vec<_> = series.into_iter().map(|s| (s.labels.clone(), ctx.points(&s))).collect();
    rows.retain(|(_, points)| !points.is_empty());
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Answer::Matrix(rows))
}

/// Reads one series selector, as `match[]` carries it.
pub fn selector(text: &str) -> Result<VectorSelector> {
    match read_as("match[]", text)? {
        Expr::VectorSelector(vs) => Ok(vs),
        _ => bad(format!("invalid parameter \"match[]\": expected a series selector, got {text:?}")),
    }
}

fn read(query: &str) -> Result<Expr> {
    read_as("query", query)
}

fn read_as(parameter: &str, text: &str) -> Result<Expr> {
    let fault = |e: &str| PromError::BadData(format!("invalid parameter \"{parameter}\": {e}"));
    if text.len() > MAX_QUERY {
        return Err(fault("query is too long"));
    }
    if text.trim().is_empty() {
        return Err(fault("unknown position: parse error: no expression found in input"));
    }
    parse(text).map_err(|e| fault(&format!("parse error: {e}")))
}

fn span(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(FAR).min(FAR)
}

fn shift(offset: Option<&Offset>) -> i64 {
    match offset {
        Some(Offset::Pos(d)) => span(*d),
        Some(Offset::Neg(d)) => -span(*d),
        None => 0,
    }
}

impl<'a> Ctx<'a> {
    fn time(&self, i: usize) -> i64 {
        self.start + self.step * i64::try_from(i).unwrap_or(0)
    }

    fn last(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    fn points(&self, series: &Series) -> Vec<Point> {
        series.values.iter().enumerate().filter_map(|(i, v)| v.map(|v| (self.time(i), v))).collect()
    }

    fn hold(&self, samples: usize) -> Result<()> {
        self.held.set(self.held.get().saturating_add(samples));
        if self.held.get() > MAX_SAMPLES {
            return failed("query processing would load too many samples into memory in query execution");
        }
        Ok(())
    }

    fn pin(&self, at: Option<&AtModifier>) -> Option<i64> {
        at.map(|at| match at {
            AtModifier::Start => self.bounds.0,
            AtModifier::End => self.bounds.1,
            AtModifier::At(t) => match t.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(d) => span(d),
                Err(e) => -span(e.duration()),
            },
        })
    }

    fn eval(&self, expr: &Expr) -> Result<Value> {
        if self.depth > MAX_DEPTH {
            return bad("invalid parameter \"query\": expression is nested too deeply");
        }
        let ctx = Ctx { depth: self.depth + 1, ..*self };
        match expr {
            Expr::Paren(p) => ctx.eval(&p.expr),
            Expr::NumberLiteral(n) => {
                ctx.hold(ctx.steps)?;
                Ok(Value::Scalar(vec![n.val; ctx.steps]))
            }
            Expr::StringLiteral(s) => Ok(Value::Text(s.val.clone())),
            Expr::VectorSelector(vs) => Ok(Value::Vector(ctx.instants(vs, |_, v| v)?)),
            Expr::Unary(u) => Ok(match ctx.eval(&u.expr)? {
                Value::Scalar(v) => Value::Scalar(v.into_iter().map(|x| -x).collect()),
                Value::Vector(series) => Value::Vector(map(series, |x| -x)?),
                Value::Text(_) => return bad("unary expression only allowed on expressions of type scalar or vector"),
            }),
            Expr::Binary(b) => ctx.binary(b),
            Expr::Aggregate(a) => Ok(Value::Vector(ctx.aggregate(a)?)),
            Expr::Call(c) => ctx.call(c),
            Expr::MatrixSelector(_) | Expr::Subquery(_) => {
                bad("a range vector is only allowed as a function's argument")
            }
            Expr::Extension(_) => bad("unsupported expression"),
        }
    }

    fn vector(&self, expr: &Expr) -> Result<Vec<Series>> {
        match self.eval(expr)? {
            Value::Vector(v) => Ok(v),
            _ => bad("expected an instant vector"),
        }
    }

    fn scalar(&self, expr: &Expr) -> Result<Vec<f64>> {
        match self.eval(expr)? {
            Value::Scalar(v) => Ok(v),
            _ => bad("expected a scalar"),
        }
    }

    /// The sample in force at each step, as `pick` reads it from its time and value.
    fn instants(&self, vs: &VectorSelector, pick: impl Fn(i64, f64) -> f64) -> Result<Vec<Series>> {
        let window = Window { range: LOOKBACK, offset: shift(vs.offset.as_ref()), at: self.pin(vs.at.as_ref()) };
        let mut out = Vec::new();
        for stored in self.store.select(vs.name.as_deref(), &vs.matchers) {
            self.hold(self.steps)?;
            let at = |i| {
                let end = window.end(self.time(i));
                stored.at(end.min(self.now)).filter(|(t, _)| *t > end - LOOKBACK).map(|(t, v)| pick(t, v))
            };
            let values: Vec<_> = (0..self.steps).map(at).collect();
            if values.iter().any(Option::is_some) {
                out.push(Series { labels: stored.labels.clone(), values });
            }
        }
        Ok(out)
    }

    fn matrix(&self, expr: &Expr) -> Result<Matrix> {
        match expr {
            Expr::Paren(p) => self.matrix(&p.expr),
            Expr::MatrixSelector(m) => self.raw(m),
            Expr::Subquery(s) => self.subquery(s),
            _ => bad("expected a range vector"),
        }
    }

    fn raw(&self, m: &MatrixSelector) -> Result<Matrix> {
        let window =
            Window { range: span(m.range), offset: shift(m.vs.offset.as_ref()), at: self.pin(m.vs.at.as_ref()) };
        let (after, until) = (window.end(self.start) - window.range, window.end(self.last()).min(self.now));
        let mut series = Vec::new();
        for stored in self.store.select(m.vs.name.as_deref(), &m.vs.matchers) {
            let points: Vec<Point> = stored.between(after, until).collect();
            self.hold(points.len() + self.steps)?;
            if !points.is_empty() {
                series.push((stored.labels.clone(), points));
            }
        }
        Ok(Matrix { series, window })
    }

    fn subquery(&self, s: &SubqueryExpr) -> Result<Matrix> {
        let window = Window { range: span(s.range), offset: shift(s.offset.as_ref()), at: self.pin(s.at.as_ref()) };
        let step = s.step.map_or(SUBQUERY_STEP, span).max(1);
        let after = window.end(self.start) - window.range;
        // Steps stand on multiples of the step, so that neighbouring windows share their points.
        let start = after.div_euclid(step) * step + step;
        let end = window.end(self.last()).min(self.now);
        if end < start {
            return Ok(Matrix { series: Vec::new(), window });
        }
        let steps = usize::try_from((end - start) / step + 1).unwrap_or(usize::MAX);
        self.hold(steps)?;
        let inner = Ctx { start, step, steps, depth: self.depth + 1, ..*self };
        let series = inner.vector(&s.expr)?;
        Ok(Matrix { series: series.iter().map(|s| (s.labels.clone(), inner.points(s))).collect(), window })
    }
}

fn unnamed(labels: &Labels) -> Labels {
    if !labels.contains_key(NAME) {
        return labels.clone();
    }
    let mut map = BTreeMap::clone(labels);
    map.remove(NAME);
    Arc::new(map)
}

/// Applies `f` to every value; the metric's name no longer fits and goes.
fn map(series: Vec<Series>, f: impl Fn(f64) -> f64) -> Result<Vec<Series>> {
    let each =
        |s: Series| Series { labels: unnamed(&s.labels), values: s.values.into_iter().map(|v| v.map(&f)).collect() };
    merge(series.into_iter().map(each).collect())
}

/// Joins series that became alike; two values at one step are an error, as in Prometheus.
fn merge(series: Vec<Series>) -> Result<Vec<Series>> {
    let mut place: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut out: Vec<Series> = Vec::with_capacity(series.len());
    for s in series {
        let Some(i) = place.get(&s.labels) else {
            place.insert(s.labels.clone(), out.len());
            out.push(s);
            continue;
        };
        for (held, new) in out[*i].values.iter_mut().zip(s.values) {
            match (held.is_some(), new) {
                (true, Some(_)) => return failed("vector cannot contain metrics with the same labelset"),
                (false, Some(_)) => *held = new,
                _ => {}
            }
        }
    }
    Ok(out)
}
