//! Growing one isolation tree (Liu, Ting, Zhou 2008, algorithm 2) into fixed arrays.
//!
//! Invariant: every walk of `HEIGHT` steps from the root ends at a leaf that was written. Nodes lie
//! in breadth-first order (the children of `i` are `2i` and `2i + 1`, the root is 1), so that a step
//! is an addition and needs no child pointers. A branch that ends early is padded with `PASS`, which
//! sends every row to the left, down to the leftmost leaf below it.

use super::random::SplitMix;

/// Height limit ceil(log2(256)); a smaller sample stops earlier and is padded.
pub(super) const HEIGHT: usize = 8;
/// Leaves of a tree; nodes are as many, the one at 0 unused.
pub(super) const LEAVES: usize = 1 << HEIGHT;
/// No key is above `u32::MAX`: always to the left.
const PASS: u64 = (u32::MAX as u64) << 32;

/// The order of finite numbers as the order of unsigned integers: comparing two keys takes one
/// instruction and no register of the other kind.
#[inline]
pub(super) fn key(value: f32) -> u32 {
    // Adding zero makes -0 and 0 the same key.
    let bits = (value + 0.0).to_bits();
    // All ones for a negative number, the sign bit alone for a positive one.
    bits ^ ((((bits as i32) >> 31) as u32) | 0x8000_0000)
}

/// A node: the key of its threshold above, its column below. Rows at or below the threshold go left.
#[inline]
fn split(column: usize, threshold: f32) -> u64 {
    (u64::from(key(threshold)) << 32) | column as u64
}

/// Average path length of an unsuccessful search in a binary search tree of `n` points: the paper's
/// equation 1, with 0 and 1 for one and two points as in scikit-learn's `_average_path_length`.
pub(super) fn average_path(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + 0.577_215_664_901_532_9) - 2.0 * (n - 1.0) / n
        }
    }
}

/// What is reused from tree to tree.
pub(super) struct Grower {
    /// `average_path` of every size a leaf can have.
    average: Vec<f32>,
    limit: usize,
    /// The sample, column by column: value of row `i` in column `c` at `c * size + i`.
    sample: Vec<f32>,
    size: usize,
    columns: Vec<u32>,
    picked: Vec<u16>,
}

/// One node to be made: where it goes, which rows reach it, which columns may still vary.
struct Place {
    node: usize,
    depth: usize,
    from: usize,
    to: usize,
    /// Columns `columns[varying..]` were seen to be constant above and so are constant here.
    varying: usize,
}

impl Grower {
    /// `size` rows of `width` columns a tree; `size` is at most `LEAVES`.
    pub(super) fn new(size: usize, width: usize) -> Self {
        Self {
            average: (0..=size).map(|n| average_path(n) as f32).collect(),
            limit: (size.max(2) as f64).log2().ceil() as usize,
            sample: vec![0.0; size * width],
            size,
            columns: (0..width as u32).collect(),
            picked: Vec::with_capacity(size),
        }
    }

    /// Sets row `at` of the sample.
    pub(super) fn put(&mut self, at: usize, column: usize, value: f32) {
        self.sample[column * self.size + at] = value;
    }

    /// Grows a tree on the sample into `nodes` and `leaves`, both of length `LEAVES`.
    ///
    /// A leaf holds the path length it stands for: its depth and `average_path` of its rows.
    pub(super) fn grow(&mut self, random: &mut SplitMix, nodes: &mut [u64], leaves: &mut [f32]) {
        nodes.fill(PASS);
        self.picked.clear();
        self.picked.extend(0..self.size as u16);
        let root = Place { node: 1, depth: 0, from: 0, to: self.size, varying: self.columns.len() };
        self.branch(root, random, nodes, leaves);
    }

    fn branch(&mut self, place: Place, random: &mut SplitMix, nodes: &mut [u64], leaves: &mut [f32]) {
        let Place { node, depth, from, to, varying } = place;
        let cut = if depth < self.limit && to - from > 1 { self.cut(from, to, varying, random) } else { None };
        let Some(Cut { column, threshold, middle, varying }) = cut else {
            leaves[(node << (HEIGHT - depth)) - LEAVES] = depth as f32 + self.average[to - from];
            return;
        };
        nodes[node] = split(column, threshold);
        let (left, right) = (2 * node, 2 * node + 1);
        self.branch(Place { node: left, depth: depth + 1, from, to: middle, varying }, random, nodes, leaves);
        self.branch(Place { node: right, depth: depth + 1, from: middle, to, varying }, random, nodes, leaves);
    }

    /// A random threshold in a random column among those that vary here; `None` when none does.
    ///
    /// Columns are drawn until one varies, which is uniform over the varying ones and reads no more
    /// columns than it must. scikit-learn calls a column constant below a span of 1e-7; here any
    /// span will do, because units differ and an error ratio may be small.
    fn cut(&mut self, from: usize, to: usize, mut varying: usize, random: &mut SplitMix) -> Option<Cut> {
        while varying > 0 {
            let drawn = random.below(varying);
            let column = self.columns[drawn] as usize;
            let values = &self.sample[column * self.size..(column + 1) * self.size];
            let picked = &mut self.picked[from..to];
            let (low, high) = span(values, picked);
            if low < high {
                let uniform = f64::from(low) + (f64::from(high) - f64::from(low)) * random.unit();
                // Rounding up to the top would leave the right side empty.
                let threshold = if (uniform as f32) < high { uniform as f32 } else { low };
                let middle = from + partition(values, picked, threshold);
                return Some(Cut { column, threshold, middle, varying });
            }
            varying -= 1;
            self.columns.swap(drawn, varying);
        }
        None
    }
}

struct Cut {
    column: usize,
    threshold: f32,
    middle: usize,
    varying: usize,
}

fn span(values: &[f32], picked: &[u16]) -> (f32, f32) {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for at in picked {
        let value = values[*at as usize];
        // Plain comparisons: the values are finite, and `min` and `max` would check again.
        low = if value < low { value } else { low };
        high = if value > high { value } else { high };
    }
    (low, high)
}

/// Moves the rows at or below the threshold to the front; returns how many they are.
fn partition(values: &[f32], picked: &mut [u16], threshold: f32) -> usize {
    let mut middle = 0;
    for at in 0..picked.len() {
        // Swapping always and advancing when it was right costs less than a branch that is a coin toss.
        picked.swap(at, middle);
        middle += usize::from(values[picked[middle] as usize] <= threshold);
    }
    middle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_numbers() {
        let values = [f32::MIN, -2.5, -1e-30, 0.0, 1e-30, 1.0, 7.25, f32::MAX];
        for pair in values.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
        assert_eq!(key(-0.0), key(0.0));
        assert!(key(f32::MAX) < u32::MAX);
    }

    #[test]
    fn average_path_is_the_published_one() {
        // scikit-learn 1.x, _average_path_length([1, 2, 5, 999]).
        for (n, expected) in [(1, 0.0), (2, 1.0), (5, 2.327_020_05), (256, 10.244_770_92), (999, 12.967_939_88)] {
            assert!((average_path(n) - expected).abs() < 1e-8, "{n}: {}", average_path(n));
        }
    }

    #[test]
    fn every_walk_ends_at_a_written_leaf() {
        let mut grower = Grower::new(100, 2);
        for at in 0..100 {
            grower.put(at, 0, (at * at) as f32);
            grower.put(at, 1, 1.0);
        }
        let (mut nodes, mut leaves) = (vec![0; LEAVES], vec![f32::NAN; LEAVES]);
        grower.grow(&mut SplitMix::new(1), &mut nodes, &mut leaves);
        for value in [-1.0, 0.0, 17.0, 400.0, 1e9] {
            let mut at = 1;
            for _ in 0..HEIGHT {
                at = 2 * at + usize::from(key(value) > (nodes[at] >> 32) as u32);
            }
            let length = leaves[at - LEAVES];
            assert!((1.0..=7.0 + 6.0).contains(&length), "{value}: {length}");
        }
    }
}
