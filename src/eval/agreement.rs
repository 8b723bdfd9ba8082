//! Agreement of two groupings.

use std::collections::BTreeMap;

/// Adjusted Rand index of Hubert and Arabie (1985): 1 for the same grouping, about 0 for chance.
pub fn adjusted_rand(pairs: &[(u64, u64)]) -> f64 {
    let choose2 = |n: u64| (n as f64) * (n.saturating_sub(1) as f64) / 2.0;
    let (mut cells, mut rows, mut columns) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for pair in pairs {
        *cells.entry(*pair).or_insert(0_u64) += 1;
        *rows.entry(pair.0).or_insert(0_u64) += 1;
        *columns.entry(pair.1).or_insert(0_u64) += 1;
    }
    let index: f64 = cells.values().map(|n| choose2(*n)).sum();
    let (in_rows, in_columns): (f64, f64) =
        (rows.values().map(|n| choose2(*n)).sum(), columns.values().map(|n| choose2(*n)).sum());
    let expected = in_rows * in_columns / choose2(pairs.len() as u64).max(1.0);
    let most = (in_rows + in_columns) / 2.0;
    // Both groupings trivial (all alone, or all together): they agree.
    if (most - expected).abs() < 1e-12 { 1.0 } else { (index - expected) / (most - expected) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_by_hand() {
        assert_eq!(adjusted_rand(&[(1, 7), (1, 7), (2, 8), (2, 8)]), 1.0);
        // scikit-learn: adjusted_rand_score([0, 0, 1, 2], [0, 0, 1, 1]) = 0.5714...
        assert!((adjusted_rand(&[(0, 0), (0, 0), (1, 1), (2, 1)]) - 0.571_428_571_4).abs() < 1e-9);
        // adjusted_rand_score([0, 0, 1, 1], [0, 1, 0, 1]) = -0.5
        assert!((adjusted_rand(&[(0, 0), (0, 1), (1, 0), (1, 1)]) + 0.5).abs() < 1e-9);
    }
}
