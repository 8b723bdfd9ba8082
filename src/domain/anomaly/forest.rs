//! Isolation Forest.
//!
//! Liu, Ting, Zhou: "Isolation Forest", ICDM 2008, and "Isolation-Based Anomaly Detection", TKDD
//! 2012. Scores are scikit-learn's `score_samples`: in [-1, 0], lower is more anomalous, -0.5 is
//! where an average point lies.
//!
//! A value that is missing (NaN, or a row that is too short) counts as its column's median: it says
//! nothing for or against the row. An infinite value counts as the largest finite one.

use serde::{Deserialize, Serialize};

use super::grow::{Grower, HEIGHT, LEAVES, average_path, key};
use super::matrix::Matrix;
use super::quantile;
use super::random::{SplitMix, Urn};

/// Sub-sample and number of trees of the paper's section 4.
pub const SUBSAMPLE: usize = 256;
pub const TREES: usize = 100;

/// Rows that pass a tree together: their keys stay in the first cache beside the tree, and a tree is
/// fetched once for all of them.
const BLOCK: usize = 64;
/// Rows that walk side by side: enough to hide the latency of a step, few enough for the registers.
const LANES: usize = 8;
/// Trees that one row walks side by side: enough that no step waits for the one before it, and a divisor
/// of `TREES`.
const ABREAST: usize = 10;
/// Rows up to this width lie at a fixed stride on the stack, where a step needs no bounds check.
const NARROW: usize = 64;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IsolationForest {
    /// Per column, the median of a sample. Values are kept as the distance to it: splitting does not
    /// depend on where zero is, and a large offset (bytes, epochs) would eat the 24 bits of an `f32`.
    centres: Vec<f64>,
    /// `LEAVES` nodes a tree, see `grow`.
    nodes: Vec<u64>,
    /// `LEAVES` path lengths a tree.
    leaves: Vec<f32>,
    /// Sum of path lengths over all trees to the exponent of the score.
    scale: f64,
}

impl IsolationForest {
    /// Fits on rows as long as the first; `None` when there is nothing to learn from.
    pub fn fit(rows: &[Vec<f64>], seed: u64) -> Option<Self> {
        let width = rows.first()?.len();
        grow_forest(rows.len(), width, seed, |row, column| rows[row].get(column).copied().unwrap_or(f64::NAN))
    }

    /// Fits on the rows of a matrix; `None` when it has fewer than two.
    pub fn fit_matrix(rows: Matrix<'_>, seed: u64) -> Option<Self> {
        grow_forest(rows.rows(), rows.width(), seed, |row, column| rows.row(row)[column])
    }

    /// In [-1, 0]: lower is more anomalous (scikit-learn's `score_samples`).
    pub fn score(&self, row: &[f64]) -> f64 {
        let width = self.centres.len();
        let mut total = [0.0];
        if width <= NARROW {
            let mut keys = [[0; NARROW]];
            self.encode(row, &mut keys[0][..width]);
            let (nodes, last) = self.nodes.as_chunks().0.as_chunks::<ABREAST>();
            let (leaves, last_leaves) = self.leaves.as_chunks().0.as_chunks::<ABREAST>();
            for (nodes, leaves) in nodes.iter().zip(leaves) {
                walk_abreast(nodes, leaves, &keys[0], &mut total[0]);
            }
            for (nodes, leaves) in last.iter().zip(last_leaves) {
                walk(nodes, leaves, &keys, &mut total);
            }
        } else {
            let mut keys = vec![0; width];
            self.encode(row, &mut keys);
            for (nodes, leaves) in self.trees() {
                walk_wide(nodes, leaves, &keys, width, &mut total);
            }
        }
        self.normalise(total[0])
    }

    /// The score of every row, in order; rows narrower than the forest miss their last columns.
    pub fn score_matrix(&self, rows: Matrix<'_>) -> Vec<f64> {
        let mut totals = vec![0.0; rows.rows()];
        if self.centres.len() <= NARROW {
            self.add_narrow(rows, &mut totals);
        } else {
            self.add_wide(rows, &mut totals);
        }
        for total in &mut totals {
            *total = self.normalise(*total);
        }
        totals
    }

    fn add_narrow(&self, rows: Matrix<'_>, totals: &mut [f64]) {
        let width = self.centres.len();
        let mut keys = [[0; NARROW]; BLOCK];
        for (block, totals) in totals.chunks_mut(BLOCK).enumerate() {
            for at in 0..totals.len() {
                self.encode(rows.row(block * BLOCK + at), &mut keys[at][..width]);
            }
            // The last rows of a block that is not full walk along and are not looked at.
            let mut sums = [0.0; BLOCK];
            let walked = totals.len().next_multiple_of(LANES);
            for (nodes, leaves) in self.trees() {
                let lanes = keys[..walked].as_chunks::<LANES>().0;
                for (keys, sums) in lanes.iter().zip(sums.as_chunks_mut::<LANES>().0) {
                    walk(nodes, leaves, keys, sums);
                }
            }
            totals.copy_from_slice(&sums[..totals.len()]);
        }
    }

    fn add_wide(&self, rows: Matrix<'_>, totals: &mut [f64]) {
        let width = self.centres.len();
        let mut keys = vec![0; BLOCK * width];
        for (block, totals) in totals.chunks_mut(BLOCK).enumerate() {
            for at in 0..totals.len() {
                self.encode(rows.row(block * BLOCK + at), &mut keys[at * width..(at + 1) * width]);
            }
            for (nodes, leaves) in self.trees() {
                walk_wide(nodes, leaves, &keys, width, totals);
            }
        }
    }

    fn trees(&self) -> impl Iterator<Item = (&[u64; LEAVES], &[f32; LEAVES])> {
        self.nodes.as_chunks().0.iter().zip(self.leaves.as_chunks().0)
    }

    fn encode(&self, row: &[f64], keys: &mut [u32]) {
        let present = row.len().min(keys.len());
        for at in 0..present {
            keys[at] = key(centred(row[at], self.centres[at]));
        }
        keys[present..].fill(key(0.0));
    }

    fn normalise(&self, total: f64) -> f64 {
        -(total * self.scale).exp2().min(1.0)
    }
}

fn grow_forest(rows: usize, width: usize, seed: u64, value: impl Fn(usize, usize) -> f64) -> Option<IsolationForest> {
    if width == 0 || rows < 2 {
        return None;
    }
    let size = SUBSAMPLE.min(rows);
    let (mut random, mut urn) = (SplitMix::new(seed), Urn::new(rows));
    let picked = urn.draw(size, &mut random);
    let centres: Vec<f64> = (0..width).map(|column| median(picked.iter().map(|row| value(*row, column)))).collect();

    let mut grower = Grower::new(size, width);
    let mut nodes = vec![0; TREES * LEAVES];
    let mut leaves = vec![0.0; TREES * LEAVES];
    for (nodes, leaves) in nodes.chunks_exact_mut(LEAVES).zip(leaves.chunks_exact_mut(LEAVES)) {
        for (at, row) in urn.draw(size, &mut random).iter().enumerate() {
            for column in 0..width {
                grower.put(at, column, centred(value(*row, column), centres[column]));
            }
        }
        grower.grow(&mut random, nodes, leaves);
    }
    let scale = -1.0 / (TREES as f64 * average_path(size));
    Some(IsolationForest { centres, nodes, leaves, scale })
}

/// Distance to the centre as a finite `f32`.
#[inline]
fn centred(value: f64, centre: f64) -> f32 {
    let distance = value - centre;
    if distance.is_nan() { 0.0 } else { distance.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32 }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut finite: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    if finite.is_empty() {
        return 0.0;
    }
    finite.sort_unstable_by(f64::total_cmp);
    quantile(&finite, 0.5)
}

/// Adds the path length of `N` rows in one tree: `HEIGHT` steps side by side, without a branch that
/// depends on the data. The remainders never change a number; they show the compiler its bounds.
#[inline]
fn walk<const N: usize>(nodes: &[u64; LEAVES], leaves: &[f32; LEAVES], keys: &[[u32; NARROW]; N], sums: &mut [f64; N]) {
    let mut at = [1u32; N];
    for _ in 0..HEIGHT {
        for lane in 0..N {
            let node = nodes[at[lane] as usize % LEAVES];
            let above = keys[lane][node as usize % NARROW] > (node >> 32) as u32;
            at[lane] = (at[lane] << 1) | u32::from(above);
        }
    }
    for lane in 0..N {
        sums[lane] += f64::from(leaves[at[lane] as usize % LEAVES]);
    }
}

/// The same for one row in `N` trees. Adds in the order of the trees, so that the sum is that of a batch.
#[inline]
fn walk_abreast<const N: usize>(
    nodes: &[[u64; LEAVES]; N],
    leaves: &[[f32; LEAVES]; N],
    keys: &[u32; NARROW],
    sum: &mut f64,
) {
    let mut at = [1u32; N];
    for _ in 0..HEIGHT {
        for tree in 0..N {
            let node = nodes[tree][at[tree] as usize % LEAVES];
            let above = keys[node as usize % NARROW] > (node >> 32) as u32;
            at[tree] = (at[tree] << 1) | u32::from(above);
        }
    }
    for tree in 0..N {
        *sum += f64::from(leaves[tree][at[tree] as usize % LEAVES]);
    }
}

/// The same for rows of any width, one after the other.
fn walk_wide(nodes: &[u64; LEAVES], leaves: &[f32; LEAVES], keys: &[u32], width: usize, sums: &mut [f64]) {
    for (row, sum) in sums.iter_mut().enumerate() {
        let keys = &keys[row * width..(row + 1) * width];
        let mut at = 1;
        for _ in 0..HEIGHT {
            let node = nodes[at % LEAVES];
            at = (at << 1) | usize::from(keys[node as u32 as usize] > (node >> 32) as u32);
        }
        *sum += f64::from(leaves[at % LEAVES]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crowd() -> Vec<Vec<f64>> {
        (0..400).map(|at| vec![f64::from(at % 20), f64::from((at * 7) % 13)]).collect()
    }

    #[test]
    fn a_far_point_scores_lower_than_the_crowd() {
        let rows = crowd();
        let forest = IsolationForest::fit(&rows, 7).expect("enough rows");
        let (inside, outside) = (forest.score(&[10.0, 6.0]), forest.score(&[80.0, -40.0]));
        assert!(inside > -0.5 && outside < -0.6, "inside {inside}, outside {outside}");
        assert_eq!(inside, IsolationForest::fit(&rows, 7).expect("same").score(&[10.0, 6.0]));
    }

    #[test]
    fn constant_rows_do_not_split() {
        let forest = IsolationForest::fit(&vec![vec![1.0]; 50], 1).expect("rows");
        assert_eq!(forest.score(&[1.0]), forest.score(&[99.0]));
        // Every row shares one leaf: the average path itself, as in scikit-learn.
        assert!((forest.score(&[1.0]) + 0.5).abs() < 1e-6);
    }

    #[test]
    fn nothing_to_learn_from_is_refused() {
        assert!(IsolationForest::fit(&[], 1).is_none());
        assert!(IsolationForest::fit(&[vec![1.0]], 1).is_none());
        assert!(IsolationForest::fit(&[vec![], vec![]], 1).is_none());
    }

    #[test]
    fn a_missing_value_says_nothing_and_an_infinite_one_is_far_out() {
        let forest = IsolationForest::fit(&crowd(), 7).expect("rows");
        let missing = forest.score(&[f64::NAN, 6.0]);
        assert_eq!(missing, forest.score(&[forest.centres[0], 6.0]));
        assert_eq!(forest.score(&[10.0]), forest.score(&[10.0, f64::NAN]));
        assert_eq!(forest.score(&[f64::INFINITY, 6.0]), forest.score(&[1e300, 6.0]));
        let mut rows = crowd();
        rows[3] = vec![f64::NAN, f64::NEG_INFINITY];
        let forest = IsolationForest::fit(&rows, 7).expect("rows");
        assert!(forest.score(&[10.0, 6.0]).is_finite());
    }

    #[test]
    fn an_offset_does_not_blur_small_differences() {
        let far: Vec<Vec<f64>> = crowd().iter().map(|row| vec![row[0] + 1.7e12, row[1]]).collect();
        let (near, far) = (IsolationForest::fit(&crowd(), 7), IsolationForest::fit(&far, 7));
        let (near, far) = (near.expect("rows"), far.expect("rows"));
        assert_eq!(near.score(&[30.0, 6.0]), far.score(&[1.7e12 + 30.0, 6.0]));
    }

    proptest! {
        #[test]
        fn one_by_one_and_in_a_batch_agree_and_stay_in_range(
            width in 1usize..90,
            seed in any::<u64>(),
            values in prop::collection::vec(-1e9f64..1e9, 180..900),
        ) {
            let values = &values[..values.len() / width * width];
            let rows = Matrix::new(values, width).expect("whole rows");
            let forest = IsolationForest::fit_matrix(rows, seed).expect("two rows at least");
            let scores = forest.score_matrix(rows);
            for (at, score) in scores.iter().enumerate() {
                prop_assert!((-1.0..=0.0).contains(score));
                prop_assert_eq!(*score, forest.score(rows.row(at)));
            }
        }
    }
}
