//! What touching a service now would put at stake, from facts, each with its reason.

use super::action::RiskTier;

/// What is known of a service at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `None`: it is no workload that the cluster knows.
    pub stateful: Option<bool>,
    pub replicas: i32,
    pub ready: i32,
    /// A rollout of it has not ended.
    pub rolling_out: bool,
    /// Who needs it, however many steps away.
    pub dependents: usize,
    pub user_facing: bool,
    /// Open incidents about it.
    pub own_incidents: Vec<String>,
    /// Open incidents about what it needs or who needs it.
    pub near_incidents: Vec<String>,
    /// Changes of it within a day.
    pub changes: usize,
    /// Plans for it that wait, run or are verified.
    pub plans: Vec<String>,
    pub paused: Option<String>,
    pub image: Option<Image>,
}

/// An image somebody thinks of rolling out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// It is what runs.
    Runs,
    /// It ran in that revision.
    RanBefore {
        revision: i64,
    },
    New,
}

/// A service that so many need is everybody's.
const MANY: usize = 5;

/// The tier, and why; the gravest reason first.
pub fn assess(facts: &Facts) -> (RiskTier, Vec<String>) {
    let mut reasons: Vec<(RiskTier, String)> = vec![];
    let mut add = |tier, text: String| reasons.push((tier, text));
    if let Some(why) = &facts.paused {
        add(RiskTier::High, format!("changes by the watch are paused: {why}"));
    }
    if !facts.own_incidents.is_empty() {
        add(RiskTier::High, format!("an incident about it is open ({})", facts.own_incidents.join(", ")));
    }
    if !facts.plans.is_empty() {
        add(RiskTier::High, format!("a plan for it is open ({})", facts.plans.join(", ")));
    }
    if facts.stateful == Some(true) {
        add(RiskTier::High, "it keeps state of its own".to_owned());
    }
    if facts.rolling_out {
        add(RiskTier::High, "a rollout of it has not ended".to_owned());
    }
    if !facts.near_incidents.is_empty() {
        let near = facts.near_incidents.join(", ");
        add(RiskTier::Medium, format!("an incident is open next to it ({near})"));
    }
    match facts.dependents {
        0 => add(RiskTier::Low, "nothing that is known needs it".to_owned()),
        count if count >= MANY => add(RiskTier::Medium, format!("{count} others need it")),
        count => add(RiskTier::Low, format!("{count} others need it")),
    }
    if facts.user_facing {
        add(RiskTier::Medium, "people feel it directly".to_owned());
    }
    match (facts.stateful, facts.replicas, facts.ready) {
        (None, _, _) => add(RiskTier::Medium, "the cluster knows no workload of that name".to_owned()),
        (Some(_), replicas, ready) if ready < replicas => {
            add(RiskTier::Medium, format!("only {ready} of its {replicas} pods are ready"));
        }
        (Some(_), 1, _) => add(RiskTier::Medium, "it has one pod: a restart is felt".to_owned()),
        (Some(_), replicas, _) => add(RiskTier::Low, format!("all of its {replicas} pods are ready")),
    }
    match facts.changes {
        0 => add(RiskTier::Low, "it has not changed within a day".to_owned()),
        1 => add(RiskTier::Low, "it changed once within a day".to_owned()),
        count => add(RiskTier::Medium, format!("it changed {count} times within a day")),
    }
    match &facts.image {
        None => {}
        Some(Image::Runs) => add(RiskTier::Low, "the image is the one that runs".to_owned()),
        Some(Image::RanBefore { revision }) => {
            add(RiskTier::Low, format!("the image ran before, in revision {revision}"));
        }
        Some(Image::New) => add(RiskTier::Medium, "the image has not run here before".to_owned()),
    }
    let tier = reasons.iter().map(|(tier, _)| *tier).max().unwrap_or(RiskTier::Low);
    reasons.sort_by_key(|(tier, _)| std::cmp::Reverse(*tier));
    (tier, reasons.into_iter().map(|(_, text)| text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(facts: Facts, tier: RiskTier, first: &str) {
        let (found, reasons) = assess(&facts);
        assert_eq!((found, reasons[0].as_str()), (tier, first), "{reasons:?}");
    }

    #[test]
    fn the_gravest_reason_decides_and_is_said_first() {
        let quiet = Facts { stateful: Some(false), replicas: 3, ready: 3, ..Facts::default() };
        check(quiet.clone(), RiskTier::Low, "nothing that is known needs it");
        check(Facts { dependents: 7, ..quiet.clone() }, RiskTier::Medium, "7 others need it");
        check(Facts { stateful: Some(true), ..quiet.clone() }, RiskTier::High, "it keeps state of its own");
        let ill = Facts { own_incidents: vec!["INC-4".into()], changes: 3, ..quiet.clone() };
        check(ill, RiskTier::High, "an incident about it is open (INC-4)");
        check(Facts { ready: 1, ..quiet.clone() }, RiskTier::Medium, "only 1 of its 3 pods are ready");
        check(Facts { image: Some(Image::New), ..quiet }, RiskTier::Medium, "the image has not run here before");
    }
}
