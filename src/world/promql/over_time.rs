//! Functions of a range vector: one window of points in, one value out.

use promql_parser::parser::{Call, Expr};

use super::{Ctx, Point, Result, Series, Value, bad, merge, unnamed};

/// One step's window: its points, its bounds, the step's own time and the function's parameter.
struct View<'a> {
    points: &'a [Point],
    start: i64,
    end: i64,
    time: i64,
    param: f64,
}

type RangeFn = fn(&View) -> Option<f64>;

fn find(name: &str) -> Option<RangeFn> {
    Some(match name {
        "rate" => |v| extrapolated(v, true, true),
        "increase" => |v| extrapolated(v, true, false),
        "delta" => |v| extrapolated(v, false, false),
        "irate" => |v| last_two(v, true),
        "idelta" => |v| last_two(v, false),
        "deriv" => |v| regression(v.points, v.points.first()?.0).map(|(slope, _)| slope),
        "predict_linear" => |v| regression(v.points, v.time).map(|(slope, intercept)| slope * v.param + intercept),
        "changes" => |v| count_pairs(v, |a, b| a != b && !(a.is_nan() && b.is_nan())),
        "resets" => |v| count_pairs(v, |a, b| b < a),
        "avg_over_time" => |v| Some(sum(v.points) / v.points.len() as f64),
        "sum_over_time" => |v| Some(sum(v.points)),
        "min_over_time" => |v| v.points.iter().map(|p| p.1).reduce(f64::min),
        "max_over_time" => |v| v.points.iter().map(|p| p.1).reduce(f64::max),
        "count_over_time" => |v| Some(v.points.len() as f64),
        "last_over_time" => |v| v.points.last().map(|p| p.1),
        "present_over_time" => |_| Some(1.0),
        "stddev_over_time" => |v| variance(v.points.iter().map(|p| p.1)).map(f64::sqrt),
        "stdvar_over_time" => |v| variance(v.points.iter().map(|p| p.1)),
        "quantile_over_time" => |v| Some(quantile(v.param, v.points.iter().map(|p| p.1).collect())),
        _ => return None,
    })
}

impl Ctx<'_> {
    /// Evaluates a call whose argument is a range vector; None when the name is not one of these.
    pub(super) fn over_time(&self, call: &Call) -> Result<Option<Value>> {
        let Some(f) = find(call.func.name) else { return Ok(None) };
        let (mut range, mut param) = (None, None);
        for arg in &call.args.args {
            match arg.value_type() {
                promql_parser::parser::value::ValueType::Matrix => range = Some(arg),
                _ => param = Some(self.scalar(arg)?),
            }
        }
        let Some(range) = range else { return bad(format!("{} needs a range vector", call.func.name)) };
        let series = self.windows(range, param.as_deref(), f)?;
        if call.func.name == "last_over_time" {
            return Ok(Some(Value::Vector(series)));
        }
        let bare = |s: Series| Series { labels: unnamed(&s.labels), ..s };
        Ok(Some(Value::Vector(merge(series.into_iter().map(bare).collect())?)))
    }

    /// Whether any series has a point in each step's window.
    pub(super) fn any_in_window(&self, range: &Expr) -> Result<Vec<bool>> {
        let series = self.windows(range, None, |_| Some(1.0))?;
        Ok((0..self.steps).map(|i| series.iter().any(|s| s.values[i].is_some())).collect())
    }

    fn windows(&self, range: &Expr, param: Option<&[f64]>, f: RangeFn) -> Result<Vec<Series>> {
        let matrix = self.matrix(range)?;
        let window = matrix.window;
        let mut out = Vec::with_capacity(matrix.series.len());
        for (labels, points) in matrix.series {
            let (mut from, mut to) = (0, 0);
            let mut values = Vec::with_capacity(self.steps);
            for i in 0..self.steps {
                let time = self.time(i);
                let end = window.end(time);
                let start = end - window.range;
                while points.get(to).is_some_and(|p| p.0 <= end) {
                    to += 1;
                }
                while from < to && points[from].0 <= start {
                    from += 1;
                }
                let param = param.and_then(|p| p.get(i)).copied().unwrap_or(f64::NAN);
                let view = View { points: &points[from..to], start, end, time, param };
                values.push(if view.points.is_empty() { None } else { f(&view) });
            }
            if values.iter().any(Option::is_some) {
                out.push(Series { labels, values });
            }
        }
        Ok(out)
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn sum(points: &[Point]) -> f64 {
    points.iter().map(|p| p.1).sum()
}

/// Prometheus' extrapolation: the slope seen is stretched to the window's edges, but not past
/// half a sampling interval where a series begins or ends inside, nor below zero for a counter.
fn extrapolated(v: &View, counter: bool, per_second: bool) -> Option<f64> {
    let (first, last) = match v.points {
        [first, .., last] => (first, last),
        _ => return None,
    };
    let mut result = last.1 - first.1;
    if counter {
        result += v.points.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).sum::<f64>();
    }
    let mut to_start = seconds(first.0 - v.start);
    let mut to_end = seconds(v.end - last.0);
    let sampled = seconds(last.0 - first.0);
    let average = sampled / (v.points.len() - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if counter && result > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / result));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if per_second {
        factor /= seconds(v.end - v.start);
    }
    Some(result * factor)
}

fn last_two(v: &View, rate: bool) -> Option<f64> {
    let [.., a, b] = v.points else { return None };
    if !rate {
        return Some(b.1 - a.1);
    }
    let grown = if b.1 < a.1 { b.1 } else { b.1 - a.1 };
    Some(grown / seconds(b.0 - a.0))
}

fn count_pairs(v: &View, differs: impl Fn(f64, f64) -> bool) -> Option<f64> {
    Some(v.points.windows(2).filter(|w| differs(w[0].1, w[1].1)).count() as f64)
}

/// Least squares: slope per second, and the value at `origin`.
fn regression(points: &[Point], origin: i64) -> Option<(f64, f64)> {
    if points.len() < 2 {
        return None;
    }
    let first = points.first()?.1;
    if points.iter().all(|p| p.1 == first) {
        return if first.is_infinite() { Some((f64::NAN, f64::NAN)) } else { Some((0.0, first)) };
    }
    let n = points.len() as f64;
    let (mut sx, mut sy, mut sxy, mut sxx) = (0.0, 0.0, 0.0, 0.0);
    for (t, y) in points {
        let x = seconds(t - origin);
        sx += x;
        sy += y;
        sxy += x * y;
        sxx += x * x;
    }
    let slope = (sxy - sx * sy / n) / (sxx - sx * sx / n);
    Some((slope, sy / n - slope * sx / n))
}

/// Population variance, or None of nothing.
pub(super) fn variance(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut n, mut mean, mut square) = (0.0, 0.0, 0.0);
    for v in values {
        n += 1.0;
        let off = v - mean;
        mean += off / n;
        square += off * (v - mean);
    }
    (n > 0.0).then(|| square / n)
}

/// Prometheus' interpolated quantile.
pub(super) fn quantile(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    // NaN sorts first, as Prometheus has it.
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = q * (values.len() - 1) as f64;
    let low = rank.floor() as usize;
    let high = (low + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[low] * (1.0 - weight) + values[high] * weight
}
