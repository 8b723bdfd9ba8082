//! What the log of a service says that it did not say before, or says far more or less often.
//!
//! [`compare`] sets a window of an incident against a baseline; [`super::rates::Rates`] does the
//! same online. Both ask how surprising a count is under the rate of before: the likelihood ratio
//! statistic G of two Poisson rates (Dunning, "Accurate Methods for the Statistics of Surprise and
//! Coincidence", Computational Linguistics 19, 1993), divided by the dispersion of the counts,
//! because lines come in bursts (quasi-likelihood: McCullagh & Nelder, "Generalized Linear
//! Models", 1989, 4.5). A rate has to differ by a factor and a number of lines as well: with many
//! lines everything is significant.
//!
//! Invariants: the same lines give the same findings; the output is bounded; a baseline that was not
//! read (it ends where it begins) is never said to lack anything.

use std::collections::BTreeMap;

use super::{Miner, TemplateId};
use crate::domain::time::Timestamp;

/// Lines that are read of one window, the newest.
const MAX_LINES: usize = 20_000;
/// Findings that are told.
const MAX_FINDINGS: usize = 50;
/// Kept of an example; bytes.
const MAX_EXAMPLE: usize = 400;
/// Chance of one false rate among all templates that are compared.
const ALPHA: f64 = 0.01;
/// A rate that did not change by this factor is no finding.
pub(super) const FACTOR: f64 = 2.0;
/// Nor is one that rests on fewer lines.
pub(super) const FLOOR: usize = 5;
/// Parts of the baseline whose counts tell how bursty a template is.
const PARTS: usize = 12;

/// A line and when it was written.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub at: Timestamp,
    pub text: &'a str,
}

/// What was read of a log: the lines from `from` to `to`. If a limit cut the lines short, `from` is
/// where the oldest that was read stands.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a> {
    pub from: Timestamp,
    pub to: Timestamp,
    pub lines: &'a [Line<'a>],
}

/// In which way a template is news. In the order in which findings are told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Novelty {
    New,
    MoreOften,
    LessOften,
    Vanished,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    pub novelty: Novelty,
    pub template: String,
    /// Lines in the baseline and in the window.
    pub before: usize,
    pub now: usize,
    /// Of the window; of the baseline if it has vanished.
    pub first_at: Timestamp,
    pub example: String,
    /// How surprising, as G over dispersion; comparable within one kind of novelty.
    pub score: f64,
    /// `8.0 times as often: 40 lines in 20 min, 15 in the 60 min before`
    pub reason: String,
}

/// What is news in `window`, the most surprising first within each kind.
pub fn compare(baseline: Excerpt<'_>, window: Excerpt<'_>) -> Vec<Finding> {
    let minutes =
        [baseline, window].map(|excerpt| (excerpt.to.since(excerpt.from).as_secs_f64() / 60.0).max(1.0 / 60.0));
    let mut findings: Vec<Finding> = vec![];
    let seen = count(baseline, window);
    let read = baseline.from < baseline.to;
    let bar = bar(seen.len());
    for (template, tally) in seen {
        let Some(novelty) = judge(&tally, minutes, bar) else { continue };
        let Some(first) = tally.firsts[usize::from(novelty != Novelty::Vanished)] else { continue };
        findings.push(Finding {
            novelty,
            template,
            before: tally.counts[0],
            now: tally.counts[1],
            first_at: first.at,
            example: super::clip(first.text, MAX_EXAMPLE).to_owned(),
            score: tally.surprise(minutes),
            reason: if read { reason(novelty, tally.counts, minutes) } else { unread(tally.counts[1], minutes[1]) },
        });
    }
    findings.sort_by(|one, other| {
        let rank = one.novelty.cmp(&other.novelty).then(other.score.total_cmp(&one.score));
        rank.then(other.now.cmp(&one.now)).then_with(|| one.template.cmp(&other.template))
    });
    findings.truncate(MAX_FINDINGS);
    findings
}

/// What G must reach so that one of `templates` does by chance in [`ALPHA`] of all comparisons:
/// P(G > g) <= exp(-g / 2) for one degree of freedom, divided among the templates (Bonferroni).
fn bar(templates: usize) -> f64 {
    2.0 * (templates.max(1) as f64 / ALPHA).ln()
}

/// Lines of one template.
#[derive(Default)]
struct Tally<'a> {
    /// In the baseline and in the window.
    counts: [usize; 2],
    firsts: [Option<Line<'a>>; 2],
    parts: [usize; PARTS],
}

impl Tally<'_> {
    /// G of the two counts over the dispersion of the first.
    fn surprise(&self, minutes: [f64; 2]) -> f64 {
        let [before, now] = self.counts.map(|count| count as f64);
        let all = before + now;
        let share = minutes[1] / (minutes[0] + minutes[1]);
        let term = |count: f64, expected: f64| if count > 0.0 { count * (count / expected).ln() } else { 0.0 };
        let g = 2.0 * (term(now, all * share) + term(before, all * (1.0 - share)));
        g.max(0.0) / self.dispersion()
    }

    /// Variance over mean of the counts in the parts of the baseline; 1 for a Poisson process.
    fn dispersion(&self) -> f64 {
        let mean = self.counts[0] as f64 / PARTS as f64;
        if mean <= 0.0 {
            return 1.0;
        }
        let square = |count: &usize| (*count as f64 - mean).powi(2);
        let variance = self.parts.iter().map(square).sum::<f64>() / (PARTS - 1) as f64;
        (variance / mean).max(1.0)
    }
}

fn judge(tally: &Tally<'_>, minutes: [f64; 2], bar: f64) -> Option<Novelty> {
    let [before, now] = tally.counts;
    if before == 0 {
        return (now > 0).then_some(Novelty::New);
    }
    let ratio = (now as f64 / minutes[1]) / (before as f64 / minutes[0]);
    if tally.surprise(minutes) < bar {
        return None;
    }
    // What the busier window would have had in the length of the other counts as lines, too.
    let expected = before as f64 * minutes[1] / minutes[0];
    match ratio {
        _ if ratio >= FACTOR && now >= FLOOR => Some(Novelty::MoreOften),
        _ if ratio * FACTOR > 1.0 || expected < FLOOR as f64 => None,
        _ if now == 0 => Some(Novelty::Vanished),
        _ => Some(Novelty::LessOften),
    }
}

fn reason(novelty: Novelty, [before, now]: [usize; 2], minutes: [f64; 2]) -> String {
    let [past, recent] = minutes.map(span);
    let ratio = (now as f64 / minutes[1]) / (before as f64 / minutes[0]);
    let plural = |count: usize| if count == 1 { "line" } else { "lines" };
    match novelty {
        Novelty::New => format!("new: {now} {} in {recent}, none in the {past} before", plural(now)),
        Novelty::MoreOften => {
            format!("{ratio:.1} times as often: {now} {} in {recent}, {before} in the {past} before", plural(now))
        }
        Novelty::LessOften => {
            let times = 1.0 / ratio;
            format!("{times:.1} times as rare: {now} {} in {recent}, {before} in the {past} before", plural(now))
        }
        Novelty::Vanished => format!("vanished: none in {recent}, {before} {} in the {past} before", plural(before)),
    }
}

fn unread(now: usize, minutes: f64) -> String {
    format!("{now} in {}; what was before is not known", span(minutes))
}

/// `20 min`
fn span(minutes: f64) -> String {
    if minutes < 1.0 { format!("{:.0} s", minutes * 60.0) } else { format!("{minutes:.0} min") }
}

/// The lines of both, by template; one miner reads both so that they have the same templates.
fn count<'a>(baseline: Excerpt<'a>, window: Excerpt<'a>) -> BTreeMap<String, Tally<'a>> {
    let mut miner = Miner::new();
    let read: Vec<(usize, Line<'a>, TemplateId)> = [baseline, window]
        .iter()
        .enumerate()
        .flat_map(|(side, excerpt)| newest(excerpt.lines).into_iter().map(move |line| (side, line)))
        .map(|(side, line)| (side, line, miner.learn(line.text)))
        .collect();
    miner.consolidate();
    let mut tallies: BTreeMap<TemplateId, Tally<'a>> = BTreeMap::new();
    let length = baseline.to.since(baseline.from).as_millis().max(1);
    for (side, line, id) in read {
        let tally = tallies.entry(miner.resolve(id)).or_default();
        tally.counts[side] += 1;
        tally.firsts[side].get_or_insert(line);
        if side == 0 {
            let part = line.at.since(baseline.from).as_millis() * PARTS as u128 / length;
            tally.parts[(part as usize).min(PARTS - 1)] += 1;
        }
    }
    // Templates that only differ in what is not shown are told as one.
    let mut seen: BTreeMap<String, Tally<'a>> = BTreeMap::new();
    for (id, tally) in tallies {
        let Some(template) = miner.template(id) else { continue };
        let into = seen.entry(template).or_default();
        for side in 0..2 {
            into.counts[side] += tally.counts[side];
            let first = [into.firsts[side], tally.firsts[side]].into_iter().flatten().min_by_key(|line| line.at);
            into.firsts[side] = first;
        }
        for (sum, part) in into.parts.iter_mut().zip(tally.parts) {
            *sum += part;
        }
    }
    seen
}

/// The newest lines, oldest first.
fn newest<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let mut lines = lines.to_vec();
    lines.sort_by_key(|line| line.at);
    lines.split_off(lines.len().saturating_sub(MAX_LINES))
}

#[cfg(test)]
mod tests;
