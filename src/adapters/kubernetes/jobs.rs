//! The jobs of a CronJob, whoever made them.

use kube::Client;
use kube::api::DynamicObject;

use super::kinds::api;
use super::precheck::has_condition;
use super::read::{list, name_of};
use crate::domain::action::Target;
use crate::ports::ClusterError;

/// The CronJob's own status names only those that its controller made: one that was made by hand, or by us,
/// has it for an owner and not for a controller.
pub(super) async fn none_runs(client: &Client, cron_job: &Target) -> Result<(), ClusterError> {
    let jobs = list(&format!("jobs in {}", cron_job.namespace), api(client, "Job", &cron_job.namespace)?).await?;
    match jobs.iter().find(|job| is_of(job, cron_job) && !has_ended(job)) {
        Some(job) => Err(ClusterError::Refused(format!(
            "{cron_job} has a job that runs: {} is neither complete nor failed",
            name_of(&job.metadata)
        ))),
        None => Ok(()),
    }
}

fn is_of(job: &DynamicObject, cron_job: &Target) -> bool {
    job.metadata.owner_references.iter().flatten().any(|owner| owner.uid == cron_job.uid)
}

fn has_ended(job: &DynamicObject) -> bool {
    has_condition(job, "Complete") || has_condition(job, "Failed")
}
