//! Functions of instant vectors, scalars and strings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promql_parser::label::MatchOp;
use promql_parser::parser::{Call, Expr, VectorSelector};
use regex::Regex;

use super::{Ctx, Labels, NAME, Result, Series, Value, bad, map, merge, unnamed};

/// A histogram bucket's upper bound and its counts over the grid.
type Bucket = (f64, Vec<Option<f64>>);

impl Ctx<'_> {
    pub(super) fn call(&self, call: &Call) -> Result<Value> {
        if let Some(value) = self.over_time(call)? {
            return Ok(value);
        }
        let args = &call.args.args;
        let name = call.func.name;
        let arg = |i: usize| match args.get(i) {
            Some(arg) => Ok(arg.as_ref()),
            None => bad(format!("{name} lacks an argument")),
        };
        let seconds = |i: usize| self.time(i) as f64 / 1000.0;
        if let Some(f) = simple(name) {
            return Ok(Value::Vector(map(self.vector(arg(0)?)?, f)?));
        }
        Ok(match name {
            "time" => Value::Scalar((0..self.steps).map(seconds).collect()),
            "pi" => Value::Scalar(vec![std::f64::consts::PI; self.steps]),
            "vector" => {
                let values = self.scalar(arg(0)?)?.into_iter().map(Some).collect();
                Value::Vector(vec![Series { labels: Labels::default(), values }])
            }
            "scalar" => {
                let series = self.vector(arg(0)?)?;
                let only = |i: usize| {
                    let mut present = series.iter().filter_map(|s| s.values[i]);
                    match (present.next(), present.next()) {
                        (Some(v), None) => v,
                        _ => f64::NAN,
                    }
                };
                Value::Scalar((0..self.steps).map(only).collect())
            }
            "timestamp" => Value::Vector(self.timestamp(arg(0)?)?),
            "round" => {
                let to = if args.len() > 1 { self.scalar(arg(1)?)? } else { vec![1.0; self.steps] };
                let inverse: Vec<f64> = to.iter().map(|t| 1.0 / t).collect();
                self.zip(arg(0)?, |v, i| (v * inverse[i] + 0.5).floor() / inverse[i])?
            }
            "clamp" => {
                let (low, high) = (self.scalar(arg(1)?)?, self.scalar(arg(2)?)?);
                let mut series = self.vector(arg(0)?)?;
                for s in &mut series {
                    for (i, v) in s.values.iter_mut().enumerate() {
                        *v = v.filter(|_| low[i] <= high[i] || low[i].is_nan() || high[i].is_nan());
                    }
                }
                self.zip_series(series, |v, i| at_most(at_least(v, low[i]), high[i]))?
            }
            "clamp_min" => {
                let low = self.scalar(arg(1)?)?;
                self.zip(arg(0)?, |v, i| at_least(v, low[i]))?
            }
            "clamp_max" => {
                let high = self.scalar(arg(1)?)?;
                self.zip(arg(0)?, |v, i| at_most(v, high[i]))?
            }
            "sort" | "sort_desc" => {
                let mut series = self.vector(arg(0)?)?;
                if self.steps == 1 {
                    let key = |s: &Series| s.values.first().copied().flatten().unwrap_or(f64::NAN);
                    series.sort_by(|a, b| match (key(a), key(b)) {
                        (x, y) if x.is_nan() || y.is_nan() => x.is_nan().cmp(&y.is_nan()),
                        (x, y) if name == "sort" => x.total_cmp(&y),
                        (x, y) => y.total_cmp(&x),
                    });
                }
                Value::Vector(series)
            }
            "absent" => {
                let series = self.vector(arg(0)?)?;
                let seen = (0..self.steps).map(|i| series.iter().any(|s| s.values[i].is_some())).collect();
                absent(arg(0)?, seen)
            }
            "absent_over_time" => absent(arg(0)?, self.any_in_window(arg(0)?)?),
            "histogram_quantile" => {
                let q = self.scalar(arg(0)?)?;
                Value::Vector(self.histogram_quantile(&q, self.vector(arg(1)?)?)?)
            }
            "label_replace" => {
                let texts = args.iter().skip(1).map(|a| self.text(a)).collect::<Result<Vec<_>>>()?;
                let [target, template, source, pattern] = texts.as_slice() else {
                    return bad("label_replace takes a vector and four strings");
                };
                label_replace(self.vector(arg(0)?)?, target, template, source, pattern)?
            }
            "label_join" => {
                let texts = args.iter().skip(1).map(|a| self.text(a)).collect::<Result<Vec<_>>>()?;
                let [target, separator, sources @ ..] = texts.as_slice() else {
                    return bad("label_join takes a vector, a label, a separator and labels");
                };
                let mut series = self.vector(arg(0)?)?;
                for s in &mut series {
                    let parts: Vec<&str> = sources.iter().map(|k| s.labels.get(k).map_or("", String::as_str)).collect();
                    s.labels = with_label(&s.labels, target, parts.join(separator));
                }
                Value::Vector(merge(series)?)
            }
            _ => return bad(format!("invalid parameter \"query\": unsupported function {name:?}")),
        })
    }

    fn text(&self, expr: &Expr) -> Result<String> {
        match self.eval(expr)? {
            Value::Text(s) => Ok(s),
            _ => bad("expected a string"),
        }
    }

    fn zip(&self, expr: &Expr, f: impl Fn(f64, usize) -> f64) -> Result<Value> {
        self.zip_series(self.vector(expr)?, f)
    }

    fn zip_series(&self, mut series: Vec<Series>, f: impl Fn(f64, usize) -> f64) -> Result<Value> {
        for s in &mut series {
            s.labels = unnamed(&s.labels);
            for (i, v) in s.values.iter_mut().enumerate() {
                *v = v.map(|v| f(v, i));
            }
        }
        Ok(Value::Vector(merge(series)?))
    }

    /// A selector's own sample times; any other vector stands at the step's time.
    fn timestamp(&self, expr: &Expr) -> Result<Vec<Series>> {
        let mut inner = expr;
        while let Expr::Paren(p) = inner {
            inner = &p.expr;
        }
        let mut series = match inner {
            Expr::VectorSelector(vs) => self.instants(vs, |t, _| t as f64 / 1000.0)?,
            other => {
                let mut series = self.vector(other)?;
                for s in &mut series {
                    for (i, v) in s.values.iter_mut().enumerate() {
                        *v = v.map(|_| self.time(i) as f64 / 1000.0);
                    }
                }
                series
            }
        };
        for s in &mut series {
            s.labels = unnamed(&s.labels);
        }
        merge(series)
    }

    fn histogram_quantile(&self, q: &[f64], series: Vec<Series>) -> Result<Vec<Series>> {
        let mut groups: BTreeMap<Labels, Vec<Bucket>> = BTreeMap::new();
        for s in series {
            let Some(bound) = s.labels.get("le").and_then(|le| le.parse::<f64>().ok()) else { continue };
            let mut labels = BTreeMap::clone(&s.labels);
            labels.remove("le");
            labels.remove(NAME);
            groups.entry(Arc::new(labels)).or_default().push((bound, s.values));
        }
        let mut out = Vec::new();
        for (labels, mut buckets) in groups {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let at = |i: usize| {
                let present: Vec<(f64, f64)> =
                    buckets.iter().filter_map(|(bound, values)| values[i].map(|v| (*bound, v))).collect();
                (!present.is_empty()).then(|| bucket_quantile(q[i], present))
            };
            out.push(Series { labels, values: (0..self.steps).map(at).collect() });
        }
        Ok(out)
    }
}

fn simple(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "exp" => f64::exp,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => |v| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v
            }
        },
        _ => return None,
    })
}

/// Go's Max and Min: NaN wins, unlike in Rust.
fn at_least(v: f64, low: f64) -> f64 {
    if v.is_nan() || low.is_nan() { f64::NAN } else { v.max(low) }
}

fn at_most(v: f64, high: f64) -> f64 {
    if v.is_nan() || high.is_nan() { f64::NAN } else { v.min(high) }
}

/// One series where nothing was seen, with the labels the selector pins down.
fn absent(expr: &Expr, seen: Vec<bool>) -> Value {
    let labels = selector_of(expr).map(pinned).unwrap_or_default();
    let values: Vec<Option<f64>> = seen.into_iter().map(|s| (!s).then_some(1.0)).collect();
    if values.iter().all(Option::is_none) {
        return Value::Vector(Vec::new());
    }
    Value::Vector(vec![Series { labels: Arc::new(labels), values }])
}

fn selector_of(expr: &Expr) -> Option<&VectorSelector> {
    match expr {
        Expr::Paren(p) => selector_of(&p.expr),
        Expr::VectorSelector(vs) => Some(vs),
        Expr::MatrixSelector(m) => Some(&m.vs),
        _ => None,
    }
}

fn pinned(vs: &VectorSelector) -> BTreeMap<String, String> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    for m in &vs.matchers.matchers {
        *count.entry(m.name.as_str()).or_default() += 1;
    }
    let once = |name: &str| count.get(name) == Some(&1);
    let equal = vs.matchers.matchers.iter().filter(|m| matches!(m.op, MatchOp::Equal) && m.name != NAME);
    equal.filter(|m| once(&m.name) && !m.value.is_empty()).map(|m| (m.name.clone(), m.value.clone())).collect()
}

fn with_label(labels: &Labels, key: &str, value: String) -> Labels {
    let mut map = BTreeMap::clone(labels);
    match value.is_empty() {
        true => map.remove(key),
        false => map.insert(key.to_owned(), value),
    };
    Arc::new(map)
}

fn label_replace(mut series: Vec<Series>, target: &str, template: &str, source: &str, pattern: &str) -> Result<Value> {
    let Ok(regex) = Regex::new(&format!("^(?s:{pattern})$")) else {
        return bad(format!("invalid regular expression in label_replace(): {pattern}"));
    };
    for s in &mut series {
        let value = s.labels.get(source).map_or("", String::as_str);
        let Some(found) = regex.captures(value) else { continue };
        let mut text = String::new();
        found.expand(template, &mut text);
        s.labels = with_label(&s.labels, target, text);
    }
    Ok(Value::Vector(merge(series)?))
}

/// Prometheus' estimate from cumulative buckets, linear within the bucket the rank falls in.
fn bucket_quantile(q: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let mut most = 0.0_f64;
    for (_, count) in &mut buckets {
        most = most.max(*count);
        *count = most;
    }
    let [first, .., last] = buckets.as_slice() else { return f64::NAN };
    if !(last.0.is_infinite() && last.0 > 0.0) || last.1 == 0.0 || last.1.is_nan() {
        return f64::NAN;
    }
    let rank = q * last.1;
    let at = buckets.iter().position(|(_, count)| *count >= rank).unwrap_or(buckets.len() - 1);
    if at == buckets.len() - 1 {
        return buckets[at - 1].0;
    }
    if at == 0 && first.0 <= 0.0 {
        return first.0;
    }
    let (low, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    let (high, count) = buckets[at];
    low + (high - low) * ((rank - below) / (count - below))
}
