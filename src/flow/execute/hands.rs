//! What carries an action out: the cluster, or the declared hooks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::action::{Action, Target};
use crate::flow::desk::Desk;
use crate::flow::lead::{NotSure, Term};
use crate::ports::{Applied, Cluster, ClusterError, DryRun, Hooks, Progress, Settled, Took};

/// An API server that restarts is back within seconds; people who approved have no use for "not now".
const READS: u32 = 7;
/// Before the second, then longer by as much each time: half a minute together with the calls.
const BETWEEN_READS: Duration = Duration::from_millis(500);

/// Asks again while the cluster is away. For what only reads.
pub(in crate::flow) async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, ClusterError>
where
    F: Future<Output = Result<T, ClusterError>>,
{
    let mut tries = 1;
    loop {
        match ask().await {
            Err(ClusterError::Unavailable(_)) if tries < READS => {}
            ended => return ended,
        }
        tokio::time::sleep(BETWEEN_READS * tries).await;
        tries += 1;
    }
}

/// Of a pod that is to be evicted: it is not there any more, or goes by itself.
pub(super) fn is_gone(error: &ClusterError) -> bool {
    match error {
        ClusterError::NotFound(_) => true,
        // Another pod has its name: the one that was meant is gone.
        ClusterError::Conflict(why) => why.contains("taken the name"),
        ClusterError::Refused(why) => why.ends_with("is being deleted"),
        ClusterError::Forbidden(_)
        | ClusterError::Budget(_)
        | ClusterError::Unknown(_)
        | ClusterError::Unavailable(_) => false,
    }
}

#[derive(Clone)]
pub(in crate::flow) struct Hands {
    pub cluster: Option<Arc<dyn Cluster>>,
    pub hooks: Option<Arc<dyn Hooks>>,
    /// Without it nothing is written.
    pub term: Term,
}

impl Hands {
    pub fn of(desk: &Desk) -> Self {
        Self { cluster: desk.cluster.clone(), hooks: desk.hooks.clone(), term: desk.term.clone() }
    }

    pub fn cluster(&self) -> Result<&dyn Cluster, ClusterError> {
        let missing = || ClusterError::Refused("no cluster is configured (key: kubernetes)".to_owned());
        self.cluster.as_deref().ok_or_else(missing)
    }

    fn hooks(&self) -> Result<&dyn Hooks, ClusterError> {
        let missing = || ClusterError::Refused("no hook is declared (key: remediation.hook)".to_owned());
        self.hooks.as_deref().ok_or_else(missing)
    }

    /// What the action would change; nothing is written.
    pub async fn rehearse(&self, action: &Action) -> Result<DryRun, ClusterError> {
        match action {
            Action::CallHook { target, .. } => self.rehearse_hook(target).await,
            Action::Drain { pods, .. } => {
                // Before the cordon, whose version must be fresh when it is written.
                for step in action.follow_ups() {
                    self.try_eviction(&step).await?;
                }
                let mut tried = self.try_out(action).await?;
                let names: Vec<String> = pods.iter().map(ToString::to_string).collect();
                tried.before["pods"] = json!(names);
                tried.after["pods"] = json!([]);
                tried.diff.push_str(&names.iter().map(|name| format!("-{name}\n")).collect::<String>());
                Ok(tried)
            }
            other => self.try_out(other).await,
        }
    }

    async fn try_out(&self, action: &Action) -> Result<DryRun, ClusterError> {
        let cluster = self.cluster()?;
        patiently(|| cluster.dry_run(action)).await
    }

    /// What the API server would never let happen is known before the node is cordoned and other pods are gone.
    async fn try_eviction(&self, step: &Action) -> Result<(), ClusterError> {
        match self.try_out(step).await {
            // For room in a budget the eviction itself waits.
            Ok(_) | Err(ClusterError::Budget(_)) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn rehearse_hook(&self, target: &Target) -> Result<DryRun, ClusterError> {
        let hooks = self.hooks()?;
        let declared = hooks.declared().into_iter().find(|hook| hook.name == target.name);
        let declared = declared.ok_or_else(|| ClusterError::NotFound(format!("a declared hook {}", target.name)))?;
        if declared.digest != target.uid {
            return Err(ClusterError::Conflict(format!("the declaration of {target} has changed")));
        }
        let said = hooks.rehearse(&target.name).await?;
        Ok(DryRun {
            uid: declared.digest.clone(),
            resource_version: String::new(),
            diff: format!("{}\n{said}\n", declared.sends),
            before: Value::Null,
            after: json!({"called": declared.sends, "declared": declared.digest}),
        })
    }

    /// Waits until a write may begin; `apply` does not wait.
    pub async fn sure(&self) -> Result<(), ClusterError> {
        // It is not this process that may try again.
        self.term.sure().await.map_err(|lost| ClusterError::Unknown(lost.to_string()))
    }

    /// Whether that still holds, after whatever was asked since.
    pub fn is_sure(&self) -> bool {
        self.term.is_sure()
    }

    /// The first write of the action; for a drain that is the cordon. Not begun, and not gone on with, when
    /// somebody else may lead: whoever does reads the cluster.
    pub async fn apply(&self, action: &Action, version: &str, mark: &str) -> Result<Applied, ClusterError> {
        match self.term.write_now(self.carry_out(action, version, mark)).await {
            Ok(ended) => ended,
            // Also what was not begun: it is not this process that may try again.
            Err(lost @ (NotSure::Before | NotSure::Meanwhile)) => Err(ClusterError::Unknown(lost.to_string())),
        }
    }

    async fn carry_out(&self, action: &Action, version: &str, mark: &str) -> Result<Applied, ClusterError> {
        match action {
            Action::CallHook { target, .. } => {
                self.hooks()?.call(&target.name, mark).await?;
                Ok(Applied { resource_version: String::new(), generation: 0 })
            }
            other => self.cluster()?.apply(other, version, mark).await,
        }
    }

    pub async fn took_effect(&self, action: &Action, mark: &str) -> Result<Took, ClusterError> {
        match action {
            Action::CallHook { target, .. } => {
                Ok(Took::Unknown(format!("whether {target} was called cannot be read anywhere")))
            }
            Action::Drain { target, .. } => {
                let (cluster, cordon) = (self.cluster()?, Action::Cordon { target: target.clone() });
                patiently(|| cluster.took_effect(&cordon, mark)).await
            }
            other => {
                let cluster = self.cluster()?;
                patiently(|| cluster.took_effect(other, mark)).await
            }
        }
    }

    pub async fn settled(&self, action: &Action, mark: &str) -> Result<Settled, ClusterError> {
        match action {
            Action::CallHook { target, .. } => {
                let fact = format!("{target} answered well when it was called");
                Ok(Settled { progress: Progress::Done, fact })
            }
            other => self.cluster()?.settled(other, mark).await,
        }
    }
}
