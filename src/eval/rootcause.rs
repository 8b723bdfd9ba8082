//! Incidents whose cause is known, through the watch's own ranking.
//!
//! A case becomes the same picture that an investigation draws: readings, topology, changes and
//! where people suffer. The ranking and its confidence are the product's; beside them stand answers
//! that need no thought.

mod case;
mod plain;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::EvalError;
use super::table::{align, cell, mean};
use crate::domain::root_cause::{Candidate, NAMED, Picture, confidence, rank, survey};
use case::Case;

#[derive(Debug, Serialize)]
pub struct Report {
    pub count: usize,
    /// Share of the cases whose true service is the first, among the first three, the first five.
    pub top1: f64,
    pub top3: f64,
    pub top5: f64,
    /// Mean of one over the rank of the true service; 0 where it is not ranked.
    pub mrr: f64,
    /// Share of the cases without any candidate.
    pub empty: f64,
    /// Share of the cases in which the first candidate is named as the cause. In the others the
    /// answer is "not known", and the ranking is what to look at first.
    pub named: f64,
    /// Share of the named that are right.
    pub named_right: Option<f64>,
    /// Without reading the files.
    pub ms_per_case: f64,
    pub baselines: Baselines,
    pub calibration: Calibration,
    pub cases: Vec<Answer>,
}

#[derive(Debug, Serialize)]
pub struct Baselines {
    /// By the largest deviation from the mean in standard deviations.
    pub largest_deviation: Tops,
    /// By distance from the symptom along calls, among services beyond three standard deviations.
    pub deepest_anomalous: Tops,
    /// Always the most frequent causes of these very cases: what knowing the answers without
    /// looking at any case would give.
    pub constant: Tops,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tops {
    pub top1: f64,
    pub top3: f64,
    pub top5: f64,
}

/// Whether confidence in the first candidate means what it says.
#[derive(Debug, Serialize)]
pub struct Calibration {
    /// Mean squared difference of confidence and outcome; `brier_constant` always says the share of
    /// right answers and knows nothing else.
    pub brier: f64,
    pub brier_constant: f64,
    /// Expected calibration error over the bins: mean distance of confidence and hit rate.
    pub ece: f64,
    pub bins: Vec<Bin>,
}

#[derive(Debug, Serialize)]
pub struct Bin {
    pub from: f64,
    pub to: f64,
    pub cases: usize,
    pub confidence: Option<f64>,
    pub right: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Answer {
    pub id: String,
    pub truth: String,
    /// From 1; absent when the true service is not ranked.
    pub rank: Option<usize>,
    /// 0 to 1, that the first candidate is the cause.
    pub confidence: f64,
    pub named: bool,
    pub ms: f64,
    pub ranking: Vec<Ranked>,
    #[serde(skip)]
    plain: [Option<usize>; 2],
}

#[derive(Debug, Serialize)]
pub struct Ranked {
    pub service: String,
    pub score: f64,
    pub change: Option<String>,
    pub supports: Vec<String>,
    pub contradicts: Vec<String>,
}

pub fn run(dir: &Path) -> Result<Report, EvalError> {
    let mut answers = vec![];
    for folder in case::folders(dir)? {
        answers.push(answer(&Case::load(&folder)?));
    }
    Ok(report(answers))
}

fn answer(case: &Case) -> Answer {
    let began = Instant::now();
    let readings = survey(&case.tracks, case.baseline, case.window, Some(&case.complaint));
    let picture = Picture {
        topology: case.topology.clone(),
        readings,
        changes: case.changes.clone(),
        alerts: BTreeMap::from([(case.complaint.node.clone(), (case.window.start, 1))]),
        since: case.window.start,
        complaint: Some(case.complaint.clone()),
        ..Picture::default()
    };
    let ranking = if picture.readings.is_empty() { vec![] } else { rank(&picture) };
    let confidence = if ranking.is_empty() { 0.0 } else { confidence(&picture, &ranking) };
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    let plain = plain::answers(case);
    let place = |order: &[String]| order.iter().position(|name| *name == case.truth).map(|at| at + 1);
    Answer {
        id: case.id.clone(),
        truth: case.truth.clone(),
        rank: ranking.iter().position(|candidate| candidate.node == case.truth).map(|at| at + 1),
        confidence,
        named: confidence >= NAMED,
        ms,
        ranking: ranking.into_iter().map(Ranked::from).collect(),
        plain: [place(&plain.largest_deviation), place(&plain.deepest_anomalous)],
    }
}

impl From<Candidate> for Ranked {
    fn from(candidate: Candidate) -> Self {
        Self {
            service: candidate.node,
            score: candidate.score,
            change: candidate.change,
            supports: candidate.supports.into_iter().map(|claim| claim.text).collect(),
            contradicts: candidate.contradicts.into_iter().map(|claim| claim.text).collect(),
        }
    }
}

fn report(answers: Vec<Answer>) -> Report {
    let count = answers.len();
    let share = |of: &dyn Fn(&Answer) -> bool| answers.iter().filter(|answer| of(answer)).count() as f64 / count as f64;
    let own = tops(answers.iter().map(|answer| answer.rank));
    let named: Vec<&Answer> = answers.iter().filter(|answer| answer.named).collect();
    let right = named.iter().filter(|answer| answer.rank == Some(1)).count();
    Report {
        count,
        top1: own.top1,
        top3: own.top3,
        top5: own.top5,
        mrr: answers.iter().filter_map(|answer| answer.rank).map(|rank| 1.0 / rank as f64).sum::<f64>() / count as f64,
        empty: share(&|answer| answer.ranking.is_empty()),
        named: share(&|answer| answer.named),
        named_right: (!named.is_empty()).then(|| right as f64 / named.len() as f64),
        ms_per_case: answers.iter().map(|answer| answer.ms).sum::<f64>() / count as f64,
        baselines: Baselines {
            largest_deviation: tops(answers.iter().map(|answer| answer.plain[0])),
            deepest_anomalous: tops(answers.iter().map(|answer| answer.plain[1])),
            constant: tops(constant(&answers).into_iter()),
        },
        calibration: calibration(&answers),
        cases: answers,
    }
}

fn tops(ranks: impl Iterator<Item = Option<usize>> + Clone) -> Tops {
    let within = |most: usize| {
        mean(ranks.clone().map(|rank| Some(if rank.is_some_and(|rank| rank <= most) { 1.0 } else { 0.0 })))
            .unwrap_or(0.0)
    };
    Tops { top1: within(1), top3: within(3), top5: within(5) }
}

/// The rank of each truth in the order of how often it is the truth.
fn constant(answers: &[Answer]) -> Vec<Option<usize>> {
    let mut often: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in answers {
        *often.entry(&answer.truth).or_default() += 1;
    }
    let mut order: Vec<(&str, usize)> = often.into_iter().collect();
    order.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
    answers.iter().map(|answer| order.iter().position(|(name, _)| *name == answer.truth).map(|at| at + 1)).collect()
}

const BINS: usize = 5;

fn calibration(answers: &[Answer]) -> Calibration {
    let outcomes: Vec<(f64, f64)> =
        answers.iter().map(|answer| (answer.confidence, if answer.rank == Some(1) { 1.0 } else { 0.0 })).collect();
    let average = |values: &mut dyn Iterator<Item = f64>| mean(values.map(Some));
    let right = average(&mut outcomes.iter().map(|(_, right)| *right)).unwrap_or(0.0);
    let bins: Vec<Bin> = (0..BINS)
        .map(|at| {
            let inside: Vec<&(f64, f64)> = outcomes
                .iter()
                .filter(|(confidence, _)| ((confidence * BINS as f64) as usize).min(BINS - 1) == at)
                .collect();
            Bin {
                from: at as f64 / BINS as f64,
                to: (at + 1) as f64 / BINS as f64,
                cases: inside.len(),
                confidence: average(&mut inside.iter().map(|(confidence, _)| *confidence)),
                right: average(&mut inside.iter().map(|(_, right)| *right)),
            }
        })
        .collect();
    let distance = |bin: &Bin| Some(bin.cases as f64 * (bin.confidence? - bin.right?).abs());
    let brier = |says: &dyn Fn(f64) -> f64| {
        average(&mut outcomes.iter().map(|(confidence, right)| (says(*confidence) - right).powi(2))).unwrap_or(0.0)
    };
    Calibration {
        brier: brier(&|confidence| confidence),
        brier_constant: brier(&|_| right),
        ece: bins.iter().filter_map(distance).sum::<f64>() / outcomes.len().max(1) as f64,
        bins,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut lines = vec![words(&["case", "truth", "rank", "confidence", "first"])];
        for answer in &self.cases {
            lines.push(vec![
                answer.id.clone(),
                answer.truth.clone(),
                answer.rank.map_or_else(|| "-".into(), |rank| rank.to_string()),
                format!("{:.2}", answer.confidence),
                answer.ranking.first().map_or_else(|| "-".into(), |first| first.service.clone()),
            ]);
        }
        writeln!(f, "{}", align(&lines))?;
        let row = |name: &str, tops: Tops| {
            vec![name.to_owned(), cell(Some(tops.top1)), cell(Some(tops.top3)), cell(Some(tops.top5))]
        };
        let lines = vec![
            words(&["", "top1", "top3", "top5"]),
            row("midwatch", Tops { top1: self.top1, top3: self.top3, top5: self.top5 }),
            row("largest deviation", self.baselines.largest_deviation),
            row("deepest anomalous", self.baselines.deepest_anomalous),
            row("constant answer", self.baselines.constant),
        ];
        writeln!(f, "{}", align(&lines))?;
        let mut lines = vec![words(&["confidence", "cases", "says", "right"])];
        for bin in &self.calibration.bins {
            lines.push(vec![
                format!("{:.1} to {:.1}", bin.from, bin.to),
                bin.cases.to_string(),
                cell(bin.confidence),
                cell(bin.right),
            ]);
        }
        writeln!(f, "{}", align(&lines))?;
        write!(
            f,
            "{} cases, mrr {:.3}, empty {:.3}, named {:.3} of which right {}, brier {:.3} (a constant {:.3}), \
             ece {:.3}, {:.1} ms a case",
            self.count,
            self.mrr,
            self.empty,
            self.named,
            cell(self.named_right),
            self.calibration.brier,
            self.calibration.brier_constant,
            self.calibration.ece,
            self.ms_per_case
        )
    }
}
