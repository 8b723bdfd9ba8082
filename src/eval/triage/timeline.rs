//! What happens to the alerts of a file in event time: each arrives, and a firing whose end is told beforehand
//! ends without a line of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Case;
use crate::domain::alert::Status;
use crate::domain::time::Timestamp;

/// Of the case with this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Arrives(usize),
    Ends(usize),
}

/// Time does not run backwards in it; at one instant ends stand before what arrives, except for the end of
/// what arrives after it.
pub fn timeline(cases: &[Case]) -> Vec<(Timestamp, Happening)> {
    let mut timeline = Vec::with_capacity(cases.len());
    let mut ends: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    for (number, case) in cases.iter().enumerate() {
        while let Some(Reverse((end, over))) = ends.peek().copied().filter(|next| next.0.0 <= case.at) {
            ends.pop();
            timeline.push((end, Happening::Ends(over)));
        }
        timeline.push((case.at, Happening::Arrives(number)));
        if let (Status::Firing, Some(end)) = (case.alert.status, case.alert.ends_at) {
            ends.push(Reverse((end.max(case.at), number)));
        }
    }
    while let Some(Reverse((end, over))) = ends.pop() {
        timeline.push((end, Happening::Ends(over)));
    }
    timeline
}
