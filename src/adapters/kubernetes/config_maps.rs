//! ConfigMaps: which a pod template refers to, and when the data of each was last written.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::ListParams;
use kube::{Api, Client};

use super::read::{MAX_PAGES, PAGE, instant, name_of};
use super::reading;
use crate::domain::time::Timestamp;
use crate::ports::{ClusterError, ConfigMapState};

pub(super) fn named_in(pod: Option<&PodSpec>) -> Vec<String> {
    let Some(pod) = pod else { return vec![] };
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for volume in pod.volumes.iter().flatten() {
        names.extend(volume.config_map.iter().map(|source| source.name.as_str()));
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        names.extend(projected.filter_map(|source| Some(source.config_map.as_ref()?.name.as_str())));
    }
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let whole = container.env_from.iter().flatten();
        names.extend(whole.filter_map(|source| Some(source.config_map_ref.as_ref()?.name.as_str())));
        let single = container.env.iter().flatten();
        names.extend(
            single
                .filter_map(|variable| Some(variable.value_from.as_ref()?.config_map_key_ref.as_ref()?.name.as_str())),
        );
    }
    names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Metadata only: the data of every ConfigMap of a large cluster is many megabytes.
pub(super) async fn list(client: &Client) -> Result<Vec<ConfigMapState>, ClusterError> {
    let api: Api<ConfigMap> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut found = vec![];
    for _ in 0..MAX_PAGES {
        let page = reading("configmaps", api.list_metadata(&params)).await?;
        found.extend(page.items.into_iter().map(|item| of_metadata(item.metadata)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
    // Half a list would say of the other half that it was deleted.
    Err(ClusterError::Refused(format!("there are more than {} ConfigMaps", found.len())))
}

fn of_metadata(meta: ObjectMeta) -> ConfigMapState {
    let written = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| owns_data(entry))
        .filter_map(|entry| Some((instant(entry.time.as_ref()?), entry.manager.clone().unwrap_or_default())));
    ConfigMapState {
        written: written.max(),
        name: name_of(&meta).to_owned(),
        created_at: meta.creation_timestamp.as_ref().map_or(Timestamp::default(), instant),
        namespace: meta.namespace.unwrap_or_default(),
        resource_version: meta.resource_version.unwrap_or_default(),
    }
}

/// Others write labels and annotations only
/// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
fn owns_data(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    fields.is_some_and(|fields| fields.get("f:data").is_some() || fields.get("f:binaryData").is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_of_referring_is_seen() {
        let pod: PodSpec = serde_json::from_value(json!({
            "volumes": [
                {"name": "a", "configMap": {"name": "mounted"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "projected"}}, {"secret": {"name": "no"}}]}},
                {"name": "c", "emptyDir": {}},
            ],
            "initContainers": [{"name": "init", "envFrom": [{"configMapRef": {"name": "at-start"}}]}],
            "containers": [{"name": "app", "env": [
                {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "single", "key": "x"}}},
                {"name": "Y", "value": "1"},
            ], "envFrom": [{"configMapRef": {"name": "mounted"}}, {"secretRef": {"name": "no"}}]}],
        }))
        .unwrap();
        assert_eq!(named_in(Some(&pod)), ["at-start", "mounted", "projected", "single"]);
        assert!(named_in(None).is_empty());
    }

    #[test]
    fn who_wrote_labels_did_not_write_data() {
        let entry = |manager: &str, minute: u32, field: &str| {
            json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                   "time": format!("2026-01-02T03:{minute:02}:00Z"), "fieldsV1": {field: {}}})
        };
        let meta: ObjectMeta = serde_json::from_value(json!({
            "name": "flags", "namespace": "shop", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [entry("helm", 1, "f:data"), entry("kubectl-edit", 4, "f:data"), entry("labeller", 9, "f:metadata")],
        }))
        .unwrap();
        let state = of_metadata(meta);
        let (at, by) = state.written.unwrap();
        assert_eq!((by.as_str(), at.hour_minute().as_str()), ("kubectl-edit", "03:04"));
    }
}
