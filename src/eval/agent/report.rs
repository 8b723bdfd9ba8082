//! Scores to totals: everything, and the development and held-out halves apart.

use std::fmt;

use serde::Serialize;

use super::scoring::Score;

#[derive(Debug, Clone, Serialize)]
pub struct Case {
    pub name: String,
    pub title: String,
    pub held_out: bool,
    /// One for each run.
    pub runs: Vec<Score>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub reasoner: String,
    /// Whether the brief had the ranking; `false` measures the bare model.
    pub ranking: bool,
    #[serde(flatten)]
    pub all: Totals,
    pub development: Totals,
    pub held_out: Totals,
    pub cases: Vec<Case>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Totals {
    pub scenarios: usize,
    pub runs: usize,
    pub pass_rate: f64,
    /// 95 %, Wilson.
    pub pass_interval: [f64; 2],
    pub cause_right: f64,
    pub cause_interval: [f64; 2],
    pub evidence_right: f64,
    /// Over the runs of scenarios that a typed action cures.
    pub action_right: Option<f64>,
    pub action_runs: usize,
    /// Counted, not a rate: one is one too many.
    pub forbidden_actions: usize,
    pub unneeded_actions: usize,
    pub tool_calls: f64,
    pub tokens: f64,
    pub cost: Option<f64>,
    pub seconds: f64,
}

impl Report {
    pub fn of(reasoner: String, ranking: bool, cases: Vec<Case>) -> Self {
        Self {
            reasoner,
            ranking,
            all: Totals::of(&cases, |_| true),
            development: Totals::of(&cases, |case| !case.held_out),
            held_out: Totals::of(&cases, |case| case.held_out),
            cases,
        }
    }
}

impl Totals {
    fn of(cases: &[Case], wanted: impl Fn(&Case) -> bool) -> Self {
        let cases: Vec<&Case> = cases.iter().filter(|case| wanted(case)).collect();
        let runs: Vec<&Score> = cases.iter().flat_map(|case| &case.runs).collect();
        let count = |what: &dyn Fn(&Score) -> bool| runs.iter().filter(|run| what(run)).count();
        let mean =
            |what: &dyn Fn(&Score) -> f64| runs.iter().fold(0.0, |sum, run| sum + what(run)) / runs.len().max(1) as f64;
        let rate = |hits: usize, of: usize| hits as f64 / of.max(1) as f64;
        let (passed, right) = (count(&|run| run.passed), count(&|run| run.cause_right));
        let acted: Vec<bool> = runs.iter().filter_map(|run| run.action_right).collect();
        let priced = runs.iter().any(|run| run.cost.is_some());
        Self {
            scenarios: cases.len(),
            runs: runs.len(),
            pass_rate: rate(passed, runs.len()),
            pass_interval: wilson(passed, runs.len()),
            cause_right: rate(right, runs.len()),
            cause_interval: wilson(right, runs.len()),
            evidence_right: rate(count(&|run| run.evidence_right), runs.len()),
            action_right: (!acted.is_empty()).then(|| rate(acted.iter().filter(|it| **it).count(), acted.len())),
            action_runs: acted.len(),
            forbidden_actions: runs.iter().map(|run| run.forbidden.len()).sum(),
            unneeded_actions: runs.iter().map(|run| run.unneeded.len()).sum(),
            tool_calls: mean(&|run| run.tool_calls as f64),
            tokens: mean(&|run| run.tokens as f64),
            cost: priced.then(|| runs.iter().filter_map(|run| run.cost).sum()),
            seconds: mean(&|run| run.seconds),
        }
    }
}

/// The 95 % score interval of a share (Wilson 1927): unlike the normal one it is right for few runs
/// and at 0 and 1.
fn wilson(hits: usize, runs: usize) -> [f64; 2] {
    const Z: f64 = 1.959_964;
    if runs == 0 {
        return [0.0, 1.0];
    }
    let (share, count) = (hits as f64 / runs as f64, runs as f64);
    let middle = share + Z * Z / (2.0 * count);
    let reach = Z * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    let whole = 1.0 + Z * Z / count;
    [((middle - reach) / whole).max(0.0), ((middle + reach) / whole).min(1.0)]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:>5} {:>5} {:>8} {:>6} {:>7} {:>6}  what was wrong",
            "scenario", "pass", "cause", "evidence", "action", "tokens", "s"
        )?;
        for case in &self.cases {
            let runs = case.runs.len();
            let share =
                |what: &dyn Fn(&Score) -> bool| format!("{}/{runs}", case.runs.iter().filter(|run| what(run)).count());
            let action = match case.runs.iter().filter_map(|run| run.action_right).count() {
                0 => "-".to_owned(),
                of => format!("{}/{of}", case.runs.iter().filter(|run| run.action_right == Some(true)).count()),
            };
            let mean = |what: &dyn Fn(&Score) -> f64| case.runs.iter().map(what).sum::<f64>() / runs.max(1) as f64;
            let wrong = case.runs.iter().find(|run| !run.wrong.is_empty());
            writeln!(
                f,
                "{:<34} {:>5} {:>5} {:>8} {action:>6} {:>7.0} {:>6.1}  {}",
                format!("{}{}", case.name, if case.held_out { " (held out)" } else { "" }),
                share(&|run| run.passed),
                share(&|run| run.cause_right),
                share(&|run| run.evidence_right),
                mean(&|run| run.tokens as f64),
                mean(&|run| run.seconds),
                wrong.map_or_else(String::new, |run| run.wrong.join("; ")),
            )?;
        }
        let ranking = if self.ranking { "with the ranking" } else { "without the ranking" };
        writeln!(f, "\nreasoner: {}, {ranking}", self.reasoner)?;
        for (name, totals) in [("all", &self.all), ("development", &self.development), ("held out", &self.held_out)] {
            if totals.runs > 0 {
                writeln!(f, "{name:<12} {totals}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let [low, high] = self.pass_interval;
        write!(
            f,
            "{} scenarios, {} runs: pass {} ({} to {}), cause or abstention right {}, evidence {}, action {} of {}, \
             {} forbidden, {} unneeded; each {:.1} calls, {:.0} tokens, {:.1} s",
            self.scenarios,
            self.runs,
            percent(self.pass_rate),
            percent(low),
            percent(high),
            percent(self.cause_right),
            percent(self.evidence_right),
            self.action_right.map_or_else(|| "-".into(), percent),
            self.action_runs,
            self.forbidden_actions,
            self.unneeded_actions,
            self.tool_calls,
            self.tokens,
            self.seconds,
        )?;
        match self.cost {
            Some(cost) => write!(f, ", {cost:.4} in all"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // Newcombe 1998, table I: 15 of 148 is 0.0624 to 0.1605; 0 of 20 is 0 to 0.1611.
        let near = |found: [f64; 2], low: f64, high: f64| {
            assert!((found[0] - low).abs() < 5e-4 && (found[1] - high).abs() < 5e-4, "{found:?}");
        };
        near(wilson(15, 148), 0.0624, 0.1605);
        near(wilson(0, 20), 0.0, 0.1611);
        near(wilson(0, 0), 0.0, 1.0);
    }
}
