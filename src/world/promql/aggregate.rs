//! Aggregation operators over the series of one instant vector.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use promql_parser::parser::{AggregateExpr, LabelModifier, token};

use super::over_time::{quantile, variance};
use super::{Ctx, Labels, NAME, PromError, Result, Series, Value, bad, merge};

/// The labels a group is known by.
fn group_labels(labels: &Labels, modifier: Option<&LabelModifier>) -> Labels {
    let keep = |key: &String| match modifier {
        None => false,
        Some(LabelModifier::Include(by)) => by.labels.contains(key),
        Some(LabelModifier::Exclude(without)) => key != NAME && !without.labels.contains(key),
    };
    Arc::new(labels.iter().filter(|(k, _)| keep(k)).map(|(k, v)| (k.clone(), v.clone())).collect())
}

impl Ctx<'_> {
    pub(super) fn aggregate(&self, a: &AggregateExpr) -> Result<Vec<Series>> {
        let param = match a.param.as_deref().map(|p| self.eval(p)).transpose()? {
            Some(Value::Text(label)) => return self.count_values(a, &label),
            Some(Value::Scalar(v)) => v,
            Some(Value::Vector(_)) => return bad("an aggregation's parameter must be a scalar or a string"),
            None => Vec::new(),
        };
        let groups = self.groups(a)?;
        let id = a.op.id();
        if id == token::T_TOPK || id == token::T_BOTTOMK {
            return Ok(self.top(groups, &param, id == token::T_TOPK));
        }
        let fold: fn(Vec<f64>, f64) -> f64 = match id {
            token::T_SUM => |v, _| v.iter().sum(),
            token::T_AVG => |v, _| v.iter().sum::<f64>() / v.len() as f64,
            token::T_MIN => |v, _| v.into_iter().reduce(f64::min).unwrap_or(f64::NAN),
            token::T_MAX => |v, _| v.into_iter().reduce(f64::max).unwrap_or(f64::NAN),
            token::T_COUNT => |v, _| v.len() as f64,
            token::T_GROUP => |_, _| 1.0,
            token::T_STDDEV => |v, _| variance(v.into_iter()).map_or(f64::NAN, f64::sqrt),
            token::T_STDVAR => |v, _| variance(v.into_iter()).unwrap_or(f64::NAN),
            token::T_QUANTILE => |v, q| quantile(q, v),
            _ => return bad(format!("invalid parameter \"query\": unsupported aggregation {}", a.op)),
        };
        let one = |(labels, members): (Labels, Vec<Series>)| {
            let at = |i: usize| {
                let present: Vec<f64> = members.iter().filter_map(|s| s.values.get(i).copied().flatten()).collect();
                (!present.is_empty()).then(|| fold(present, param.get(i).copied().unwrap_or(f64::NAN)))
            };
            Series { labels, values: (0..self.steps).map(at).collect() }
        };
        Ok(groups.into_iter().map(one).collect())
    }

    fn groups(&self, a: &AggregateExpr) -> Result<Vec<(Labels, Vec<Series>)>> {
        let mut groups: Vec<(Labels, Vec<Series>)> = Vec::new();
        let mut place: HashMap<Labels, usize> = HashMap::new();
        for series in self.vector(&a.expr)? {
            let key = group_labels(&series.labels, a.modifier.as_ref());
            let i = *place.entry(key.clone()).or_insert(groups.len());
            match groups.get_mut(i) {
                Some((_, members)) => members.push(series),
                None => groups.push((key, vec![series])),
            }
        }
        Ok(groups)
    }

    fn top(&self, groups: Vec<(Labels, Vec<Series>)>, param: &[f64], largest: bool) -> Vec<Series> {
        let mut out = Vec::new();
        for (_, members) in groups {
            let mut kept: Vec<Vec<Option<f64>>> = vec![vec![None; self.steps]; members.len()];
            let mut order = Vec::new();
            for (i, count) in param.iter().enumerate().take(self.steps) {
                let mut ranked: Vec<(usize, f64)> =
                    members.iter().enumerate().filter_map(|(m, s)| s.values[i].map(|v| (m, v))).collect();
                // NaN ranks last either way.
                ranked.sort_by(|(_, a), (_, b)| match (a.is_nan(), b.is_nan()) {
                    (false, false) if largest => b.total_cmp(a),
                    (false, false) => a.total_cmp(b),
                    (x, y) => x.cmp(&y),
                });
                // A negative or NaN count becomes zero.
                ranked.truncate(*count as usize);
                for (m, v) in &ranked {
                    kept[*m][i] = Some(*v);
                }
                order = ranked;
            }
            let mut rows: Vec<_> = members.into_iter().map(|s| s.labels).zip(kept).enumerate().collect();
            rows.sort_by_key(|(m, _)| order.iter().position(|(o, _)| o == m).unwrap_or(usize::MAX));
            rows.retain(|(_, (_, values))| values.iter().any(Option::is_some));
            out.extend(rows.into_iter().map(|(_, (labels, values))| Series { labels, values }));
        }
        out
    }

    fn count_values(&self, a: &AggregateExpr, label: &str) -> Result<Vec<Series>> {
        let mut counted: BTreeMap<Labels, Vec<Option<f64>>> = BTreeMap::new();
        for (key, members) in self.groups(a)? {
            for series in &members {
                for (i, value) in series.values.iter().enumerate() {
                    let Some(value) = value else { continue };
                    let mut labels = BTreeMap::clone(&key);
                    labels.insert(label.to_owned(), number(*value));
                    let fresh = !counted.contains_key(&labels);
                    if fresh {
                        self.hold(self.steps)?;
                    }
                    let row = counted.entry(Arc::new(labels)).or_insert_with(|| vec![None; self.steps]);
                    let slot = row.get_mut(i).ok_or_else(|| PromError::Execution("step out of range".into()))?;
                    *slot = Some(slot.unwrap_or(0.0) + 1.0);
                }
            }
        }
        merge(counted.into_iter().map(|(labels, values)| Series { labels, values }).collect())
    }
}

/// A value as Prometheus writes it.
pub fn number(v: f64) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let size = v.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        // Go writes the exponent with its sign and at least two digits.
        let text = format!("{v:e}");
        if let Some((mantissa, exponent)) = text.split_once('e') {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
            return format!("{mantissa}e{sign}{digits:0>2}");
        }
    }
    format!("{v}")
}
