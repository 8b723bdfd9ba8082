//! How large an incident was when it was looked at: what nobody knew the cause of may be another one by now.

use serde::{Deserialize, Serialize};

use super::{Incident, Sev, State};
use crate::domain::diagnosis::Verdict;

/// Looks at one incident, the first one included: each asks the whole estate.
const MOST_LOOKS: u32 = 4;
/// Subjects that have come are another picture when they are as many as there were, and so many at least.
const FEW: usize = 3;

/// As it was when its newest investigation began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    pub times: u32,
    pub subjects: usize,
    pub severity: Sev,
}

impl Incident {
    pub(super) fn look(&mut self) {
        let times = self.looked.map_or(0, |looked| looked.times) + 1;
        self.looked = Some(Looked { times, subjects: self.subjects().len(), severity: self.severity });
    }

    /// Why it is to be looked at once more: its cause was not found in what it was then, and it is more now.
    pub fn outgrown(&self) -> Option<String> {
        let looked = self.looked.filter(|looked| looked.times < MOST_LOOKS)?;
        let is_unknown = self.diagnosis.as_ref().is_some_and(|known| known.verdict == Verdict::Inconclusive);
        if !matches!(self.state, State::HandedOver { .. }) || !is_unknown || !self.plans.is_empty() {
            return None;
        }
        let (before, now) = (looked.subjects, self.subjects().len());
        if self.severity > looked.severity {
            let (was, is) = (looked.severity.as_str(), self.severity.as_str());
            return Some(format!("it was {was} when its cause was not found, and is {is} now"));
        }
        (now >= 2 * before && now >= before + FEW)
            .then(|| format!("its cause was not found when {before} services were affected, and {now} are now"))
    }
}
