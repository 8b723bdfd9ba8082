//! What stands around a target: its workload, disruption budgets, quotas, autoscaler.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;

use super::effect::owner_of;
use super::extent::extent;
use super::kinds::{api, counts};
use super::reading;
use crate::domain::action::{Action, Bounds};
use crate::domain::plan::{Autoscaler, Budget, Quota, Surroundings};
use crate::ports::ClusterError;

/// Of a kind in one namespace.
const MOST_AROUND: u32 = 500;

pub(super) async fn surroundings(client: &Client, action: &Action) -> Result<Surroundings, ClusterError> {
    let target = action.target();
    let mut around = Surroundings::default();
    around.extent = Some(extent(client, action, &mut around.unknown).await?);
    if target.namespace.is_empty() {
        if let Action::Drain { pods, .. } = action {
            let mut namespaces: Vec<&str> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
            namespaces.sort_unstable();
            namespaces.dedup();
            for namespace in namespaces {
                // Which of them lie over the drained pods is not asked: the tightest is what counts.
                let budgets =
                    listed::<PodDisruptionBudget>(client, namespace, "poddisruptionbudgets", &mut around).await;
                around.budgets.extend(budgets.iter().map(budget));
            }
        }
        return Ok(around);
    }
    let owner = match action {
        Action::EvictPod { .. } => owner_of(client, target).await?,
        Action::SetBounds { .. } => scaled_by(client, &target.namespace, &target.name).await?,
        _ => Some((target.kind.clone(), target.name.clone())),
    };
    let (budgets, scalers, quotas) = {
        let namespace = target.namespace.as_str();
        let budgets = listed::<PodDisruptionBudget>(client, namespace, "poddisruptionbudgets", &mut around).await;
        let scalers =
            listed::<HorizontalPodAutoscaler>(client, namespace, "horizontalpodautoscalers", &mut around).await;
        let quotas = listed::<ResourceQuota>(client, namespace, "resourcequotas", &mut around).await;
        (budgets, scalers, quotas)
    };
    around.quotas = quotas.iter().filter_map(quota).collect();
    let is_workload = |kind: &str| matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet");
    let Some((kind, name)) = owner.filter(|(kind, _)| is_workload(kind)) else {
        return Ok(around);
    };
    let workload = match reading(&name, api(client, &kind, &target.namespace)?.get(&name)).await {
        // A role from before DaemonSets were read.
        Err(ClusterError::Forbidden(why)) if kind == "DaemonSet" => {
            around.unknown.push(why);
            return Ok(around);
        }
        answer => answer?,
    };
    let (replicas, ready) = counts(&kind, &workload);
    around.replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    around.ready = i32::try_from(ready).unwrap_or(i32::MAX);
    around.max_unavailable = max_unavailable(&workload, &kind, around.replicas);
    let labels: BTreeMap<String, String> = workload
        .data
        .pointer("/spec/template/metadata/labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default();
    let over = budgets.iter().filter(|one| {
        one.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| selects(selector, &labels))
    });
    around.budgets = over.map(budget).collect();
    around.autoscaler = scaler_of(&scalers, &kind, &name);
    Ok(around)
}

fn scaler_of(scalers: &[HorizontalPodAutoscaler], kind: &str, name: &str) -> Option<Autoscaler> {
    let is_its = |one: &&HorizontalPodAutoscaler| {
        one.spec.scale_target_ref.kind == kind && one.spec.scale_target_ref.name == name
    };
    scalers.iter().find(is_its).map(|one| Autoscaler {
        name: one.metadata.name.clone().unwrap_or_default(),
        bounds: Bounds { min: one.spec.min_replicas.unwrap_or(1), max: one.spec.max_replicas },
    })
}

/// Replicas that an autoscaler owns are not ours to change. Where autoscalers may not be listed, the card has
/// said so.
pub(super) async fn refuse_if_autoscaled(client: &Client, action: &Action) -> Result<(), ClusterError> {
    let Action::Scale { target, .. } = action else { return Ok(()) };
    let api = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), &target.namespace);
    let scalers = match reading("horizontalpodautoscalers", api.list(&ListParams::default().limit(MOST_AROUND))).await {
        Ok(found) => found.items,
        Err(ClusterError::Forbidden(_) | ClusterError::NotFound(_)) => vec![],
        Err(error) => return Err(error),
    };
    match scaler_of(&scalers, &target.kind, &target.name) {
        None => Ok(()),
        Some(scaler) => Err(ClusterError::Refused(format!(
            "the autoscaler {}/{} owns the replicas of {target}; move its bounds instead",
            target.namespace, scaler.name
        ))),
    }
}

/// Without the right to list them the card says so instead of failing.
async fn listed<K>(client: &Client, namespace: &str, what: &str, around: &mut Surroundings) -> Vec<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    match reading(what, api.list(&ListParams::default().limit(MOST_AROUND))).await {
        Ok(found) => {
            if found.metadata.continue_.is_some_and(|more| !more.is_empty()) {
                around.unknown.push(format!("there are more than {MOST_AROUND} {what} in {namespace}"));
            }
            found.items
        }
        Err(error) => {
            around.unknown.push(error.to_string());
            vec![]
        }
    }
}

async fn scaled_by(client: &Client, namespace: &str, scaler: &str) -> Result<Option<(String, String)>, ClusterError> {
    let found = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace);
    let found = reading(scaler, found.get(scaler)).await?;
    let of = found.spec.scale_target_ref;
    Ok(Some((of.kind, of.name)))
}

fn budget(one: &PodDisruptionBudget) -> Budget {
    Budget {
        name: one.metadata.name.clone().unwrap_or_default(),
        // A budget that its controller has not looked at yet allows nothing.
        allowed: one.status.as_ref().map_or(0, |status| status.disruptions_allowed.unwrap_or(0)),
    }
}

fn quota(one: &ResourceQuota) -> Option<Quota> {
    let status = one.status.as_ref()?;
    let count = |of: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        of.as_ref()?.get("pods")?.0.parse::<i32>().ok()
    };
    let name = one.metadata.name.clone().unwrap_or_default();
    Some(Quota { name, hard: count(&status.hard)?, used: count(&status.used).unwrap_or(0) })
}

/// How many pods the workload's own strategy lets go at once. Shares round down, as the Deployment
/// controller rounds `maxUnavailable`; 25 % where nothing is said. The DaemonSet controller rounds up, and takes 1.
fn max_unavailable(workload: &DynamicObject, kind: &str, replicas: i32) -> i32 {
    let text = |path: &str| workload.data.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if kind == "StatefulSet" {
        return i32::from(text("/spec/updateStrategy/type") != "OnDelete").min(replicas);
    }
    let at_once = |path: &str, rounded: fn(i32) -> i32, otherwise: i32| match workload.data.pointer(path) {
        Some(Value::Number(number)) => number.as_i64().and_then(|many| i32::try_from(many).ok()).unwrap_or(replicas),
        Some(Value::String(share)) => {
            let share = share.trim_end_matches('%').parse::<i32>();
            share.map_or(replicas, |share| rounded(replicas.saturating_mul(share)))
        }
        _ => otherwise,
    };
    if kind == "DaemonSet" {
        return match text("/spec/updateStrategy/type") {
            "OnDelete" => 0,
            _ => at_once("/spec/updateStrategy/rollingUpdate/maxUnavailable", |all| all.saturating_add(99) / 100, 1),
        }
        .min(replicas);
    }
    if text("/spec/strategy/type") == "Recreate" {
        return replicas;
    }
    at_once("/spec/strategy/rollingUpdate/maxUnavailable", |all| all / 100, replicas / 4)
}

/// An empty selector selects everything (policy/v1), a missing one nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|one| {
            let values = one.values.as_deref().unwrap_or_default();
            let value = labels.get(&one.key);
            match one.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
