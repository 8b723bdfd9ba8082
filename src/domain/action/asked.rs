//! An action in the words by which people ask for it.

use super::{Action, Target};

impl Action {
    /// What follows `/ops act INC-1`; `None`: words do not say all that it would write, or it is nothing
    /// that puts anything back.
    pub fn as_asked(&self) -> Option<String> {
        let value = match self {
            Self::Scale { to, .. } => to.to_string(),
            Self::RollBack { to_revision, .. } => to_revision.to_string(),
            Self::SetBounds { to, .. } => format!("{}..{}", to.min, to.max),
            // It would be taken for two words, or for none.
            Self::RollBackRelease { to, .. } if to.is_empty() || to.contains(char::is_whitespace) => return None,
            Self::RollBackRelease { to, .. } => to.clone(),
            Self::PauseRollout { .. }
            | Self::ResumeRollout { .. }
            | Self::Cordon { .. }
            | Self::Uncordon { .. }
            | Self::SuspendCronJob { .. }
            | Self::ResumeCronJob { .. }
            | Self::SuspendSync { .. }
            // How it was synchronised stands in the plan that suspended it.
            | Self::ResumeSync { .. } => String::new(),
            Self::CallHook { target, .. } => return Some(target.name.clone()),
            Self::Restart { .. }
            | Self::EvictPod { .. }
            | Self::Drain { .. }
            | Self::DeleteJob { .. }
            | Self::RestoreConfig { .. }
            | Self::RunJob { .. } => return None,
        };
        Some(format!("{} {} {value}", self.verb(), object(self.target())).trim_end().to_owned())
    }
}

/// `shop/deployment/web`; a node is only a name.
fn object(target: &Target) -> String {
    match target.namespace.is_empty() {
        true => target.name.clone(),
        false => target.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::{Bounds, RiskTier};
    use crate::domain::plan::target;

    #[track_caller]
    fn check(action: &Action, expected: Option<&str>) {
        assert_eq!(action.as_asked().as_deref(), expected, "{action}");
    }

    #[test]
    fn an_undo_is_said_in_words_that_can_be_typed() {
        let web = || target("c", "shop", "Deployment", "web", "u");
        let node = || target("c", "", "Node", "node-1", "n");
        check(&Action::Uncordon { target: node() }, Some("uncordon node-1"));
        check(&Action::Scale { target: web(), from: 4, to: 2 }, Some("scale shop/deployment/web 2"));
        let back = Action::RollBack { target: web(), from_revision: 2, to_revision: 3 };
        check(&back, Some("roll_back shop/deployment/web 3"));
        let bounds = Bounds { min: 3, max: 12 };
        let scaler = target("c", "shop", "HorizontalPodAutoscaler", "web", "h");
        let moved = Action::SetBounds { target: scaler, from: bounds, to: bounds };
        check(&moved, Some("set_bounds shop/horizontalpodautoscaler/web 3..12"));
        let hook = target("c", "", "Hook", "fill", "d");
        check(&Action::CallHook { target: hook, tier: RiskTier::Low, undo: None }, Some("fill"));
        check(&Action::RestoreConfig { target: web(), from: Default::default(), to: Default::default() }, None);
        let release = |to: &str| Action::RollBackRelease { target: web(), from: "1".into(), to: to.into() };
        check(&release(""), None);
        check(&release("1.3.0"), Some("roll_back_release shop/deployment/web 1.3.0"));
    }
}
