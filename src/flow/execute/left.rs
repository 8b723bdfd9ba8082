//! What people are told of a plan that came to no good end, and how they put back what it may have left.

use crate::domain::action::{Action, Undo};
use crate::domain::id::IncidentId;
use crate::domain::incident::Left;
use crate::domain::plan::Plan;
use crate::ports::ClusterError;

/// Of a first write that was answered with this error.
pub(super) fn after(action: &Action, error: &ClusterError) -> Left {
    match (action, error) {
        // Whoever answers that it is busy may have begun.
        (Action::CallHook { .. }, ClusterError::Conflict(_)) | (_, ClusterError::Unknown(_)) => Left::Unknown,
        (
            _,
            ClusterError::Conflict(_)
            | ClusterError::NotFound(_)
            | ClusterError::Forbidden(_)
            | ClusterError::Budget(_)
            | ClusterError::Refused(_)
            | ClusterError::Unavailable(_),
        ) => Left::Nothing,
    }
}

/// Why it is handed over.
pub(super) fn because(left: Left, why: &str) -> String {
    match left {
        Left::Nothing => why.to_owned(),
        Left::Part | Left::Unknown => format!("{}: {why}", left.words()),
    }
}

/// For the thread.
pub(super) fn told(id: &IncidentId, plan: &Plan, left: Left, why: &str) -> String {
    let (word, undo) = match left {
        Left::Nothing => return format!("Not carried out: {why}. A person must take over."),
        Left::Part => ("Partly carried out", "What was done stays as it is until somebody undoes it"),
        Left::Unknown => ("Perhaps carried out", "If it was, nothing undoes it by itself"),
    };
    let target = plan.action.target();
    let how = match &plan.undo {
        Undo::None(why) => format!("there is no undo ({why})"),
        Undo::By(action) => match action.as_asked() {
            Some(words) => format!("to {action}, ask for it: /ops act {id} {words}"),
            None => format!("the undo is to {action}, by hand"),
        },
    };
    format!("{word}: {why}. Look at {target}. {undo}: {how}. The incident stays open, and a person must take over.")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::domain::plan::target;

    #[track_caller]
    fn check(action: Action, left: Left, why: &str, expected: Expect) {
        expected.assert_eq(&told(&IncidentId::numbered(1), &Plan::first(action), left, why));
    }

    #[test]
    fn what_may_be_left_is_told_with_the_command_that_undoes_it() {
        let drain = Action::Drain { target: target("c", "", "Node", "node-1", "n"), pods: vec![] };
        check(
            drain,
            Left::Part,
            "evict shop/pod/web-1: held back by a disruption budget: web-pdb; 2 of 3 steps are done",
            expect![
                "Partly carried out: evict shop/pod/web-1: held back by a disruption budget: web-pdb; 2 of 3 steps are done. Look at node/node-1. What was done stays as it is until somebody undoes it: to uncordon node/node-1, ask for it: /ops act INC-1 uncordon node-1. The incident stays open, and a person must take over."
            ],
        );
        let web = || target("c", "shop", "Deployment", "web", "u");
        let why = "whether it was written is not known (no answer); it is not repeated";
        check(
            Action::Restart { target: web() },
            Left::Unknown,
            why,
            expect![
                "Perhaps carried out: whether it was written is not known (no answer); it is not repeated. Look at shop/deployment/web. If it was, nothing undoes it by itself: there is no undo (a restart changes no specification; there is nothing to put back). The incident stays open, and a person must take over."
            ],
        );
        check(
            Action::Scale { target: web(), from: 2, to: 4 },
            Left::Nothing,
            "forbidden: needs verb patch",
            expect!["Not carried out: forbidden: needs verb patch. A person must take over."],
        );
    }

    #[test]
    fn only_a_hook_that_is_busy_may_have_begun() {
        let busy = ClusterError::Conflict("409".into());
        let hook = Action::CallHook {
            target: target("c", "", "Hook", "purge", "d"),
            tier: crate::domain::action::RiskTier::Low,
            undo: None,
        };
        assert_eq!(after(&hook, &busy), Left::Unknown);
        assert_eq!(
            after(&Action::Restart { target: target("c", "shop", "Deployment", "web", "u") }, &busy),
            Left::Nothing
        );
        assert_eq!(after(&hook, &ClusterError::Refused("400".into())), Left::Nothing);
    }
}
