//! Binary operators: arithmetic, comparison and sets, with vector matching.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use promql_parser::parser::token::{self, TokenType};
use promql_parser::parser::{BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality};

use super::{Ctx, Labels, NAME, Result, Series, Value, bad, failed, merge, unnamed};

/// The result of one operation on numbers; None when a comparison filters it out.
fn apply(op: TokenType, a: f64, b: f64) -> Result<f64> {
    let truth = |t: bool| if t { 1.0 } else { 0.0 };
    Ok(match op.id() {
        token::T_ADD => a + b,
        token::T_SUB => a - b,
        token::T_MUL => a * b,
        token::T_DIV => a / b,
        token::T_MOD => a % b,
        token::T_POW => a.powf(b),
        token::T_ATAN2 => a.atan2(b),
        token::T_EQLC => truth(a == b),
        token::T_NEQ => truth(a != b),
        token::T_GTR => truth(a > b),
        token::T_GTE => truth(a >= b),
        token::T_LSS => truth(a < b),
        token::T_LTE => truth(a <= b),
        _ => return bad(format!("invalid parameter \"query\": unsupported operator {op}")),
    })
}

fn compares(op: TokenType) -> bool {
    let ids = [token::T_EQLC, token::T_NEQ, token::T_GTR, token::T_GTE, token::T_LSS, token::T_LTE];
    ids.contains(&op.id())
}

/// The labels two series must share to meet.
fn signature(labels: &Labels, matching: Option<&LabelModifier>) -> Labels {
    let keep = |key: &String| match matching {
        Some(LabelModifier::Include(on)) => on.labels.contains(key),
        Some(LabelModifier::Exclude(ignoring)) => key != NAME && !ignoring.labels.contains(key),
        None => key != NAME,
    };
    Arc::new(labels.iter().filter(|(k, _)| keep(k)).map(|(k, v)| (k.clone(), v.clone())).collect())
}

impl Ctx<'_> {
    pub(super) fn binary(&self, b: &BinaryExpr) -> Result<Value> {
        let plain = BinModifier::default();
        let modifier = b.modifier.as_ref().unwrap_or(&plain);
        if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
            return bad("invalid parameter \"query\": unsupported modifier fill");
        }
        let filter = compares(b.op) && !modifier.return_bool;
        match (self.eval(&b.lhs)?, self.eval(&b.rhs)?) {
            (Value::Scalar(l), Value::Scalar(r)) => {
                let each = l.into_iter().zip(r).map(|(x, y)| apply(b.op, x, y));
                Ok(Value::Scalar(each.collect::<Result<_>>()?))
            }
            (Value::Vector(l), Value::Scalar(r)) => with_scalar(l, &r, filter, |v, s| apply(b.op, v, s)),
            (Value::Scalar(l), Value::Vector(r)) => with_scalar(r, &l, filter, |v, s| apply(b.op, s, v)),
            (Value::Vector(l), Value::Vector(r)) => Ok(Value::Vector(match b.op.id() {
                token::T_LAND | token::T_LOR | token::T_LUNLESS => self.sets(b.op, modifier, l, r)?,
                _ => self.vectors(b.op, modifier, filter, l, r)?,
            })),
            _ => bad("binary expression must contain only scalar and instant vector types"),
        }
    }

    fn presence(&self, series: &[Series], modifier: &BinModifier) -> HashMap<Labels, Vec<bool>> {
        let mut out: HashMap<Labels, Vec<bool>> = HashMap::new();
        for s in series {
            let sig = signature(&s.labels, modifier.matching.as_ref());
            let row = out.entry(sig).or_insert_with(|| vec![false; self.steps]);
            for (seen, v) in row.iter_mut().zip(&s.values) {
                *seen |= v.is_some();
            }
        }
        out
    }

    fn sets(&self, op: TokenType, modifier: &BinModifier, l: Vec<Series>, r: Vec<Series>) -> Result<Vec<Series>> {
        let keep = |series: Vec<Series>, other: &HashMap<Labels, Vec<bool>>, wanted: bool| -> Vec<Series> {
            let mut out = Vec::new();
            for mut s in series {
                let row = other.get(&signature(&s.labels, modifier.matching.as_ref()));
                for (i, v) in s.values.iter_mut().enumerate() {
                    if row.is_some_and(|row| row[i]) != wanted {
                        *v = None;
                    }
                }
                if s.values.iter().any(Option::is_some) {
                    out.push(s);
                }
            }
            out
        };
        match op.id() {
            token::T_LAND => Ok(keep(l, &self.presence(&r, modifier), true)),
            token::T_LUNLESS => Ok(keep(l, &self.presence(&r, modifier), false)),
            _ => {
                let mut out = l;
                out.extend(keep(r, &self.presence(&out, modifier), false));
                merge(out)
            }
        }
    }

    fn vectors(
        &self,
        op: TokenType,
        modifier: &BinModifier,
        filter: bool,
        l: Vec<Series>,
        r: Vec<Series>,
    ) -> Result<Vec<Series>> {
        let (many, one, swapped, include) = match &modifier.card {
            VectorMatchCardinality::OneToOne => (l, r, false, None),
            VectorMatchCardinality::ManyToOne(extra) => (l, r, false, Some(extra)),
            VectorMatchCardinality::OneToMany(extra) => (r, l, true, Some(extra)),
            VectorMatchCardinality::ManyToMany => return bad("many-to-many only allowed for set operators"),
        };
        let mut partners: HashMap<Labels, Vec<&Series>> = HashMap::new();
        for s in &one {
            partners.entry(signature(&s.labels, modifier.matching.as_ref())).or_default().push(s);
        }
        for (sig, group) in &partners {
            if group.len() > 1 && (0..self.steps).any(|i| group.iter().filter(|s| s.values[i].is_some()).count() > 1) {
                let side = if swapped { "left" } else { "right" };
                return failed(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation;many-to-many matching not allowed: matching labels must be unique on one side",
                    braces(sig)
                ));
            }
        }
        let mut taken: HashSet<(Labels, usize)> = HashSet::new();
        let mut out = Vec::new();
        for m in &many {
            let sig = signature(&m.labels, modifier.matching.as_ref());
            for o in partners.get(&sig).into_iter().flatten() {
                let mut values = vec![None; self.steps];
                for (i, slot) in values.iter_mut().enumerate() {
                    let (Some(x), Some(y)) = (m.values[i], o.values[i]) else { continue };
                    let (x, y) = if swapped { (y, x) } else { (x, y) };
                    let result = apply(op, x, y)?;
                    if filter && result == 0.0 {
                        continue;
                    }
                    *slot = Some(if filter { x } else { result });
                    if include.is_none() && !taken.insert((sig.clone(), i)) {
                        return failed(
                            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                        );
                    }
                }
                if values.iter().any(Option::is_some) {
                    let labels = joined(m, o, modifier, include.map(|l| l.labels.as_slice()), filter);
                    out.push(Series { labels, values });
                }
            }
        }
        let many_kept = include.is_some();
        merge(out).or_else(|e| match many_kept {
            true => failed("multiple matches for labels: grouping labels must ensure unique matches"),
            false => Err(e),
        })
    }
}

fn joined(m: &Series, o: &Series, modifier: &BinModifier, include: Option<&[String]>, filter: bool) -> Labels {
    let mut labels = BTreeMap::clone(&m.labels);
    if !filter {
        labels.remove(NAME);
    }
    match include {
        None => match &modifier.matching {
            Some(LabelModifier::Include(on)) => labels.retain(|k, _| on.labels.contains(k)),
            Some(LabelModifier::Exclude(ignoring)) => labels.retain(|k, _| !ignoring.labels.contains(k)),
            None => {}
        },
        Some(extra) => {
            for key in extra {
                match o.labels.get(key) {
                    Some(v) => labels.insert(key.clone(), v.clone()),
                    None => labels.remove(key),
                };
            }
        }
    }
    Arc::new(labels)
}

fn with_scalar(
    series: Vec<Series>,
    scalar: &[f64],
    filter: bool,
    f: impl Fn(f64, f64) -> Result<f64>,
) -> Result<Value> {
    let mut out = Vec::with_capacity(series.len());
    for mut s in series {
        for (v, scalar) in s.values.iter_mut().zip(scalar) {
            let Some(x) = *v else { continue };
            let result = f(x, *scalar)?;
            *v = match filter {
                true => (result != 0.0).then_some(x),
                false => Some(result),
            };
        }
        if !filter {
            s.labels = unnamed(&s.labels);
        }
        if s.values.iter().any(Option::is_some) {
            out.push(s);
        }
    }
    Ok(Value::Vector(if filter { out } else { merge(out)? }))
}

fn braces(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}
