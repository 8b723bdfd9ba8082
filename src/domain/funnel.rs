//! From noise to news: how many alerts came in, and of how many incidents people were told.
//!
//! Invariant: each stage is counted where it is decided, none is derived from another; what was left
//! out on the way is there by reason.

use serde::Serialize;

/// Alerts that had one verdict for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// `admit` or `suppress`
    pub verdict: String,
    /// `duplicate`, `silenced`, `joined` and so on.
    pub reason: String,
    pub count: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Funnel {
    /// Notifications of firings that were judged.
    pub raw: u64,
    /// Without those that only repeat what is known.
    pub unique: u64,
    /// Worth an incident, or waiting for company.
    pub admitted: u64,
    /// Incidents opened.
    pub incidents: u64,
    /// Incidents of which people were told: their message is posted.
    pub notified: u64,
    /// 1 - notified / raw; absent while nothing has come in.
    pub convergence: Option<f64>,
    pub by_reason: Vec<Count>,
}

impl Funnel {
    /// Ends of firings (`resolve`) are no alerts that somebody could have been told of: they do not count.
    pub fn of(counts: impl IntoIterator<Item = Count>, incidents: u64, notified: u64) -> Self {
        let by_reason: Vec<Count> = counts.into_iter().filter(|count| count.verdict != "resolve").collect();
        let sum =
            |wanted: fn(&Count) -> bool| by_reason.iter().filter(|count| wanted(count)).map(|one| one.count).sum();
        let raw: u64 = sum(|_| true);
        let repeats: u64 = sum(|count| count.verdict == "suppress" && count.reason == "duplicate");
        Self {
            raw,
            unique: raw - repeats,
            admitted: sum(|count| count.verdict == "admit"),
            incidents,
            notified,
            convergence: (raw > 0).then(|| 1.0 - notified as f64 / raw as f64),
            by_reason,
        }
    }

    /// Why alerts were not admitted, the most frequent reason first; repeats are in `raw - unique`.
    pub fn left_out(&self) -> impl Iterator<Item = &Count> {
        let mut left: Vec<&Count> = self
            .by_reason
            .iter()
            .filter(|count| count.verdict == "suppress" && count.reason != "duplicate" && count.count > 0)
            .collect();
        left.sort_by(|one, other| other.count.cmp(&one.count).then(one.reason.cmp(&other.reason)));
        left.into_iter()
    }

    /// The report as lines for people.
    pub fn in_words(&self) -> Vec<String> {
        let Some(convergence) = self.convergence else { return vec!["no alert came in".into()] };
        let mut lines = vec![format!(
            "{} alerts came in; {} of them were news, {} were admitted",
            self.raw, self.unique, self.admitted
        )];
        let left: Vec<String> =
            self.left_out().map(|count| format!("{} {}", count.count, count.reason.replace('_', " "))).collect();
        if !left.is_empty() {
            lines.push(format!("left out: {}", left.join(", ")));
        }
        lines.push(format!(
            "{} incidents opened, told in {} message{}: {:.2} % fewer than alerts",
            self.incidents,
            self.notified,
            if self.notified == 1 { "" } else { "s" },
            convergence * 100.0
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(verdict: &str, reason: &str, count: u64) -> Count {
        Count { verdict: verdict.into(), reason: reason.into(), count }
    }

    #[test]
    fn each_stage_and_the_rate() {
        let counts = [
            count("admit", "joined", 60),
            count("admit", "opened", 2),
            count("suppress", "duplicate", 900),
            count("suppress", "flapping", 8),
            count("suppress", "silenced", 30),
            count("resolve", "resolved", 500),
        ];
        let funnel = Funnel::of(counts, 2, 1);
        assert_eq!((funnel.raw, funnel.unique, funnel.admitted), (1_000, 100, 62));
        assert_eq!((funnel.incidents, funnel.notified, funnel.convergence), (2, 1, Some(0.999)));
        assert_eq!(
            funnel.in_words(),
            [
                "1000 alerts came in; 100 of them were news, 62 were admitted",
                "left out: 30 silenced, 8 flapping",
                "2 incidents opened, told in 1 message: 99.90 % fewer than alerts",
            ]
        );
    }

    #[test]
    fn a_quiet_day_has_no_rate() {
        let funnel = Funnel::of([count("resolve", "resolved", 3)], 0, 0);
        assert_eq!((funnel.raw, funnel.convergence), (0, None));
        assert_eq!(funnel.in_words(), ["no alert came in"]);
    }
}
