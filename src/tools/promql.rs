//! What a query of the model may cost (S12). Ours have their own limits and do not pass here.

use std::time::Duration;

use promql_parser::label::{MatchOp, Matchers};
use promql_parser::parser::{self, AtModifier, Expr, Offset, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};

use super::{MAX_MINUTES, TellModel};

const MAX_LENGTH: usize = 1_000;
const MAX_RANGE: Duration = Duration::from_secs(MAX_MINUTES * 60);
/// A week back is a fair comparison.
const MAX_OFFSET: Duration = Duration::from_secs(8 * 24 * 3600);
pub const MAX_POINTS: u32 = 500;

/// Refuses what is malformed or could read everything.
pub fn judge_promql(query: &str) -> Result<(), TellModel> {
    if query.len() > MAX_LENGTH {
        return Err(TellModel(format!("the query is longer than {MAX_LENGTH} characters")));
    }
    let expression = parser::parse(query).map_err(|why| TellModel(format!("this is not valid PromQL: {why}")))?;
    walk_expr(&mut Cost { steps: vec![] }, &expression).map(|_| ())
}

struct Cost {
    /// Of the subqueries around an expression: it is evaluated at each step of each.
    steps: Vec<u64>,
}

impl ExprVisitor for Cost {
    type Error = TellModel;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, TellModel> {
        match expression {
            Expr::VectorSelector(selector) => judge_selector(selector)?,
            Expr::MatrixSelector(matrix) => {
                judge_range(matrix.range)?;
                judge_selector(&matrix.vs)?;
            }
            Expr::Subquery(subquery) => {
                judge_range(subquery.range)?;
                judge_offset(subquery.offset.as_ref())?;
                judge_at(subquery.at.as_ref())?;
                let step = subquery.step.unwrap_or(Duration::from_secs(60)).as_secs().max(1);
                self.steps.push((subquery.range.as_secs() / step).max(1));
                if self.steps.iter().fold(1, |all: u64, steps| all.saturating_mul(*steps)) > u64::from(MAX_POINTS) {
                    let inside = if self.steps.len() > 1 { ", one inside another multiplied" } else { "" };
                    return Err(TellModel(format!(
                        "a subquery may have at most {MAX_POINTS} steps{inside}; make it coarser"
                    )));
                }
            }
            // Which is not walked by itself.
            Expr::Aggregate(aggregate) => {
                if let Some(parameter) = &aggregate.param {
                    walk_expr(self, parameter)?;
                }
            }
            Expr::Unary(_)
            | Expr::Binary(_)
            | Expr::Paren(_)
            | Expr::NumberLiteral(_)
            | Expr::StringLiteral(_)
            | Expr::Call(_) => {}
            Expr::Extension(_) => return Err(TellModel("this kind of expression is not allowed".to_owned())),
        }
        Ok(true)
    }

    fn post_visit(&mut self, expression: &Expr) -> Result<bool, TellModel> {
        if let Expr::Subquery(_) = expression {
            self.steps.pop();
        }
        Ok(true)
    }
}

fn judge_at(at: Option<&AtModifier>) -> Result<(), TellModel> {
    match at {
        // Any instant, however long ago.
        Some(AtModifier::At(_)) => Err(TellModel("`@` with an instant is not allowed; ask at another time".to_owned())),
        Some(AtModifier::Start | AtModifier::End) | None => Ok(()),
    }
}

fn judge_selector(selector: &VectorSelector) -> Result<(), TellModel> {
    judge_offset(selector.offset.as_ref())?;
    judge_at(selector.at.as_ref())?;
    let Matchers { matchers, or_matchers } = &selector.matchers;
    let named = selector.name.as_ref().is_some_and(|name| !name.is_empty())
        || matchers.iter().any(|one| one.name == "__name__" && one.op == MatchOp::Equal && !one.value.is_empty());
    if !named || !or_matchers.is_empty() {
        return Err(TellModel(
            "every selector needs one metric name, such as http_requests_total{service=\"cart\"}; \
             a pattern over all metrics reads the whole database"
                .to_owned(),
        ));
    }
    Ok(())
}

fn judge_range(range: Duration) -> Result<(), TellModel> {
    if range > MAX_RANGE {
        return Err(TellModel(format!(
            "a range may be at most {} h; use `offset` to look further back",
            MAX_MINUTES / 60
        )));
    }
    Ok(())
}

fn judge_offset(offset: Option<&Offset>) -> Result<(), TellModel> {
    match offset {
        Some(Offset::Pos(span) | Offset::Neg(span)) if *span > MAX_OFFSET => {
            Err(TellModel("an offset may be at most 8 days".to_owned()))
        }
        Some(Offset::Pos(_) | Offset::Neg(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: expect_test::Expect) {
        expected.assert_eq(&judge_promql(query).err().map_or("allowed".to_owned(), |TellModel(why)| why));
    }

    #[test]
    fn ordinary_questions_pass() {
        let allowed = || expect_test::expect!["allowed"];
        check("sum by (service) (rate(http_requests_total{code=~\"5..\"}[5m])) / 2", allowed());
        check("histogram_quantile(0.99, sum by (le) (rate(h_bucket[5m])))", allowed());
        check("rate(a[5m]) > bool rate(a[5m] offset 1d)", allowed());
        check("max_over_time(rate(a[1m])[1h:1m])", allowed());
        check("{__name__=\"up\", job=\"x\"}", allowed());
        check("vector(1) + time()", allowed());
    }

    #[test]
    fn what_reads_everything_is_refused() {
        let everything = || {
            expect_test::expect![[
                r#"every selector needs one metric name, such as http_requests_total{service="cart"}; a pattern over all metrics reads the whole database"#
            ]]
        };
        check("{__name__=~\".+\"}", everything());
        check("count({job=\"x\"})", everything());
        check("rate({__name__!=\"\"}[5m])", everything());
        check(
            "sum_over_time(a[7h])",
            expect_test::expect!["a range may be at most 6 h; use `offset` to look further back"],
        );
        check(
            "max_over_time(a[6h:1s])",
            expect_test::expect!["a subquery may have at most 500 steps; make it coarser"],
        );
        check("a offset 30d", expect_test::expect!["an offset may be at most 8 days"]);
        check(
            "max_over_time(max_over_time(a[6h:1m])[1h:1m])",
            expect_test::expect![
                "a subquery may have at most 500 steps, one inside another multiplied; make it coarser"
            ],
        );
        check("max_over_time(a[6h:1m]) + max_over_time(b[6h:1m])", expect_test::expect!["allowed"]);
        check(
            "rate(a[6h] @ 1500000000)",
            expect_test::expect!["`@` with an instant is not allowed; ask at another time"],
        );
        check("topk(scalar(count({job=\"x\"})), a)", everything());
        assert!(judge_promql("rate(a[5m]").is_err_and(|TellModel(why)| why.starts_with("this is not valid PromQL")));
    }
}
