//! How well a score ranks what is labelled 1 above what is labelled 0.
//!
//! Both measures see only the order of the scores, and treat equal scores as scikit-learn does.
//! Higher is taken to be more anomalous: negate scores that are lower for anomalies.

/// Area under the receiver operating characteristic: the chance that a random positive scores above
/// a random negative, ties counting half (Mann and Whitney 1947). `roc_auc_score` of scikit-learn.
///
/// `None` when one of the two classes is absent.
pub fn auroc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let (positives, negatives) = counts(labels);
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (mut above, mut wins) = (0u64, 0.0);
    for tie in ties(scores, labels) {
        // From the highest score down: the positives already seen beat the negatives of this tie.
        wins += tie.negatives as f64 * (above as f64 + tie.positives as f64 / 2.0);
        above += tie.positives;
    }
    Some(wins / (positives as f64 * negatives as f64))
}

/// Average precision: the sum over thresholds of the gain in recall times the precision there,
/// without interpolation. `average_precision_score` of scikit-learn.
///
/// `None` when nothing is positive.
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Option<f64> {
    let (positives, _) = counts(labels);
    if positives == 0 {
        return None;
    }
    let (mut found, mut taken, mut sum) = (0u64, 0u64, 0.0);
    for tie in ties(scores, labels) {
        found += tie.positives;
        taken += tie.positives + tie.negatives;
        sum += tie.positives as f64 * (found as f64 / taken as f64);
    }
    // Divided once, at the end: no term is above the whole number it counts, so rounding cannot
    // carry a perfect ranking over 1, as a sum of fractions does (1/9, nine times).
    Some(sum / positives as f64)
}

/// Rows of equal score.
struct Tie {
    positives: u64,
    negatives: u64,
}

fn counts(labels: &[bool]) -> (u64, u64) {
    let positives = labels.iter().filter(|label| **label).count() as u64;
    (positives, labels.len() as u64 - positives)
}

/// Groups of equal scores from the highest to the lowest.
fn ties(scores: &[f64], labels: &[bool]) -> Vec<Tie> {
    // Adding zero makes -0 equal to 0 in the total order.
    let mut order: Vec<(f64, bool)> = scores.iter().map(|score| score + 0.0).zip(labels.iter().copied()).collect();
    order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    order
        .chunk_by(|a, b| a.0 == b.0)
        .map(|tie| {
            let positives = tie.iter().filter(|(_, label)| *label).count() as u64;
            Tie { positives, negatives: tie.len() as u64 - positives }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(of: &[u8]) -> Vec<bool> {
        of.iter().map(|label| *label == 1).collect()
    }

    #[test]
    fn agrees_with_scikit_learn() {
        // roc_auc_score and average_precision_score of scikit-learn 1.9 on the same vectors.
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.05, 0.8];
        let truth = labels(&[0, 0, 1, 1, 1, 0, 0, 0]);
        assert!((auroc(&scores, &truth).expect("both classes") - 0.633_333_333_333_333_3).abs() < 1e-12);
        assert!((average_precision(&scores, &truth).expect("positives") - 0.466_666_666_666_666_7).abs() < 1e-12);
    }

    #[test]
    fn a_single_class_has_no_rank() {
        assert_eq!(auroc(&[0.1, 0.2], &[true, true]), None);
        assert_eq!(average_precision(&[0.1, 0.2], &[false, false]), None);
        assert_eq!(auroc(&[], &[]), None);
    }

    #[test]
    fn a_perfect_ranking_is_one_whole() {
        // Sums of rounded shares come to 0.9999999999999999 for six and 1.0000000000000002 for nine.
        for (size, tied) in [(6, 1), (9, 1), (49, 1), (11, 3)] {
            let scores: Vec<f64> = (0..size).map(|at| f64::from(at / tied)).collect();
            assert_eq!(average_precision(&scores, &vec![true; size as usize]), Some(1.0), "{size} by {tied}");
        }
    }

    fn rows() -> impl Strategy<Value = Vec<(i8, bool)>> {
        prop::collection::vec((-4i8..4, any::<bool>()), 1..60)
    }

    fn measure(rows: &[(i8, bool)]) -> (Option<f64>, Option<f64>) {
        let (scores, truth): (Vec<f64>, Vec<bool>) = rows.iter().map(|(s, l)| (f64::from(*s), *l)).unzip();
        (auroc(&scores, &truth), average_precision(&scores, &truth))
    }

    proptest! {
        #[test]
        fn the_order_of_rows_does_not_matter(rows in rows(), turn in 0usize..60) {
            let mut turned = rows.clone();
            turned.rotate_left(turn % rows.len());
            turned.reverse();
            prop_assert_eq!(measure(&rows), measure(&turned));
        }

        #[test]
        fn auroc_is_the_share_of_pairs_in_the_right_order(rows in rows()) {
            let pairs: Vec<f64> = rows.iter().filter(|row| row.1).flat_map(|up| {
                rows.iter().filter(|row| !row.1).map(|down| match up.0.cmp(&down.0) {
                    std::cmp::Ordering::Greater => 1.0,
                    std::cmp::Ordering::Equal => 0.5,
                    std::cmp::Ordering::Less => 0.0,
                })
            }).collect();
            let expected = (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64);
            match (measure(&rows).0, expected) {
                (Some(ours), Some(theirs)) => prop_assert!((ours - theirs).abs() < 1e-12),
                (ours, theirs) => prop_assert_eq!(ours, theirs),
            }
        }

        #[test]
        fn both_are_shares(rows in rows()) {
            let (auroc, ap) = measure(&rows);
            prop_assert!(auroc.is_none_or(|it| (0.0..=1.0).contains(&it)));
            prop_assert!(ap.is_none_or(|it| (0.0..=1.0).contains(&it)));
        }
    }
}
