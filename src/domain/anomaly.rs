//! Isolation Forest and robust baselines.
//!
//! Liu, Ting, Zhou: "Isolation Forest", ICDM 2008. Scores keep scikit-learn's sign: lower is more
//! anomalous, -0.5 is where an average point lies.

use serde::{Deserialize, Serialize};

/// Sub-sample and number of trees of the paper's section 4.
pub const SUBSAMPLE: usize = 256;
pub const TREES: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IsolationForest {
    trees: Vec<Tree>,
    subsample: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Node {
    Split { feature: usize, at: f64, below: usize, above: usize },
    Leaf { rows: usize },
}

impl IsolationForest {
    /// Fits on rows of equal length; `None` when there is nothing to learn from.
    pub fn fit(rows: &[Vec<f64>], seed: u64) -> Option<Self> {
        let width = rows.first()?.len();
        if width == 0 || rows.len() < 2 {
            return None;
        }
        let subsample = SUBSAMPLE.min(rows.len());
        let height = (subsample as f64).log2().ceil() as usize;
        let mut random = SplitMix(seed);
        let trees = (0..TREES)
            .map(|_| {
                let mut picked = sample_without_replacement(rows.len(), subsample, &mut random);
                let mut nodes = vec![];
                grow(rows, &mut picked, 0, height, width, &mut random, &mut nodes);
                Tree { nodes }
            })
            .collect();
        Some(Self { trees, subsample })
    }

    /// In (-1, 0): lower is more anomalous (scikit-learn's `score_samples`).
    pub fn score(&self, row: &[f64]) -> f64 {
        let depth = self.trees.iter().map(|tree| tree.path_length(row)).sum::<f64>() / self.trees.len() as f64;
        -(2f64.powf(-depth / average_path(self.subsample)))
    }
}

impl Tree {
    fn path_length(&self, row: &[f64]) -> f64 {
        let (mut at, mut depth) = (0, 0.0);
        loop {
            match &self.nodes[at] {
                Node::Leaf { rows } => return depth + average_path(*rows),
                Node::Split { feature, at: split, below, above } => {
                    let value = row.get(*feature).copied().unwrap_or(0.0);
                    at = if value < *split { *below } else { *above };
                    depth += 1.0;
                }
            }
        }
    }
}

fn grow(
    rows: &[Vec<f64>],
    picked: &mut [usize],
    depth: usize,
    height: usize,
    width: usize,
    random: &mut SplitMix,
    nodes: &mut Vec<Node>,
) -> usize {
    let index = nodes.len();
    nodes.push(Node::Leaf { rows: picked.len() });
    if depth >= height || picked.len() <= 1 {
        return index;
    }
    // Features that are constant here cannot isolate anything.
    let spans: Vec<(usize, f64, f64)> = (0..width)
        .filter_map(|feature| {
            let (low, high) = picked.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), row| {
                (low.min(rows[*row][feature]), high.max(rows[*row][feature]))
            });
            (high > low).then_some((feature, low, high))
        })
        .collect();
    if spans.is_empty() {
        return index;
    }
    let (feature, low, high) = spans[random.below(spans.len())];
    let at = low + (high - low) * random.unit();
    let middle = partition(picked, |row| rows[row][feature] < at);
    if middle == 0 || middle == picked.len() {
        return index;
    }
    let (left, right) = picked.split_at_mut(middle);
    let below = grow(rows, left, depth + 1, height, width, random, nodes);
    let above = grow(rows, right, depth + 1, height, width, random, nodes);
    nodes[index] = Node::Split { feature, at, below, above };
    index
}

fn partition(picked: &mut [usize], goes_left: impl Fn(usize) -> bool) -> usize {
    let mut middle = 0;
    for at in 0..picked.len() {
        if goes_left(picked[at]) {
            picked.swap(at, middle);
            middle += 1;
        }
    }
    middle
}

/// Average path length of an unsuccessful search in a binary search tree of `n` points (equation 1).
fn average_path(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + 0.577_215_664_901_532_9) - 2.0 * (n - 1.0) / n
        }
    }
}

fn sample_without_replacement(from: usize, count: usize, random: &mut SplitMix) -> Vec<usize> {
    let mut all: Vec<usize> = (0..from).collect();
    for at in 0..count {
        let other = at + random.below(from - at);
        all.swap(at, other);
    }
    all.truncate(count);
    all
}

/// Steele, Lea, Flood 2014. The seed is an argument: the domain draws no randomness of its own.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What is normal for one series, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    pub median: f64,
    /// Scaled median absolute deviation: the standard deviation of a normal sample.
    pub spread: f64,
    pub low: f64,
    pub high: f64,
    pub samples: usize,
}

/// Median absolute deviation to standard deviation, for normal data (1 / Φ⁻¹(3/4)).
const MAD_TO_SIGMA: f64 = 1.4826;

impl Baseline {
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let median = quantile(&values, 0.5);
        let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        distances.sort_by(f64::total_cmp);
        Some(Self {
            median,
            spread: quantile(&distances, 0.5) * MAD_TO_SIGMA,
            low: quantile(&values, 0.01),
            high: quantile(&values, 0.99),
            samples: values.len(),
        })
    }

    /// Robust z-score beyond the band that was seen: 0 inside [low, high].
    ///
    /// `floor` is the smallest difference that matters in the series' unit, so that a series that
    /// never moved does not make the first ripple infinite.
    pub fn deviation(&self, value: f64, floor: f64) -> f64 {
        let scale = self.spread.max((self.high - self.low) / 4.0).max(floor);
        if value > self.high {
            (value - self.high) / scale
        } else if value < self.low {
            (value - self.low) / scale
        } else {
            0.0
        }
    }
}

/// Linear interpolation between order statistics; `sorted` is not empty.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_point_scores_lower_than_the_crowd() {
        let rows: Vec<Vec<f64>> = (0..400).map(|at| vec![f64::from(at % 20), f64::from((at * 7) % 13)]).collect();
        let forest = IsolationForest::fit(&rows, 7).expect("enough rows");
        let (inside, outside) = (forest.score(&[10.0, 6.0]), forest.score(&[80.0, -40.0]));
        assert!(inside > -0.5 && outside < -0.6, "inside {inside}, outside {outside}");
        assert_eq!(inside, IsolationForest::fit(&rows, 7).expect("same").score(&[10.0, 6.0]));
    }

    #[test]
    fn constant_rows_do_not_split() {
        let forest = IsolationForest::fit(&vec![vec![1.0]; 50], 1).expect("rows");
        assert_eq!(forest.score(&[1.0]), forest.score(&[99.0]));
    }

    #[test]
    fn deviation_is_zero_inside_the_band() {
        let baseline = Baseline::of((0..100).map(f64::from)).expect("values");
        assert_eq!(baseline.deviation(50.0, 1.0), 0.0);
        assert!(baseline.deviation(200.0, 1.0) > 2.0);
        assert!(baseline.deviation(-200.0, 1.0) < -2.0);
    }
}
