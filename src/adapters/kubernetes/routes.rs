//! Who stands before whom, by the cluster's own objects: Services, Ingresses, NetworkPolicies.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, NetworkPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Api, Client};
use tracing::debug;

use super::read::{list, name_of, service_of_pod};
use crate::ports::{ClusterError, Route, RouteKind};

type PodLabels = BTreeMap<String, String>;

/// Pods of each namespace: labels, and the service that they are of.
type Pods = BTreeMap<String, Vec<(PodLabels, String)>>;

/// Read rights for these objects are younger than for the others: without them nothing is known here.
fn known<T>(listed: Result<Vec<T>, ClusterError>) -> Result<Vec<T>, ClusterError> {
    match listed {
        Err(error @ (ClusterError::Forbidden(_) | ClusterError::NotFound(_))) => {
            debug!(%error, "left out of the topology");
            Ok(vec![])
        }
        other => other,
    }
}

pub(super) async fn routes(client: &Client) -> Result<Vec<Route>, ClusterError> {
    let (pods, services, ingresses, policies) = tokio::join!(
        list::<Pod>("pods", Api::all(client.clone())),
        list::<Service>("services", Api::all(client.clone())),
        list::<Ingress>("ingresses", Api::all(client.clone())),
        list::<NetworkPolicy>("networkpolicies", Api::all(client.clone())),
    );
    let mut by_namespace = Pods::new();
    for pod in pods? {
        let service = service_of_pod(&pod);
        let labels = pod.metadata.labels.unwrap_or_default();
        by_namespace.entry(pod.metadata.namespace.unwrap_or_default()).or_default().push((labels, service));
    }
    Ok(derive(&by_namespace, known(services)?, known(ingresses)?, known(policies)?))
}

fn derive(pods: &Pods, services: Vec<Service>, ingresses: Vec<Ingress>, policies: Vec<NetworkPolicy>) -> Vec<Route> {
    let mut routes = BTreeSet::new();
    let mut add = |from: &str, to: &str, kind: RouteKind| {
        if from != to {
            routes.insert(Route { from: from.to_owned(), to: to.to_owned(), kind });
        }
    };
    let mut behind: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for service in services {
        let name = name_of(&service.metadata).to_owned();
        let namespace = service.metadata.namespace.unwrap_or_default();
        let spec = service.spec.unwrap_or_default();
        if let Some(host) = spec.external_name.filter(|host| !host.is_empty()) {
            add(&name, &host, RouteKind::External);
            behind.insert((namespace, name), BTreeSet::from([host]));
            continue;
        }
        // A Service without a selector has its endpoints from somewhere else.
        let wanted = spec.selector.unwrap_or_default();
        if wanted.is_empty() {
            continue;
        }
        let matches = |labels: &PodLabels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        let targets = of(pods, &namespace, matches);
        targets.iter().for_each(|target| add(&name, target, RouteKind::Service));
        behind.insert((namespace, name), targets);
    }
    for ingress in ingresses {
        let namespace = ingress.metadata.namespace.clone().unwrap_or_default();
        let own_name = format!("ingress/{}", name_of(&ingress.metadata));
        let spec = ingress.spec.unwrap_or_default();
        let rules = spec.rules.unwrap_or_default();
        let of_rules = rules.iter().flat_map(|rule| {
            let host = rule.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| own_name.clone());
            let paths = rule.http.iter().flat_map(|http| http.paths.iter());
            paths.map(move |path| (host.clone(), path.backend.clone()))
        });
        let default = spec.default_backend.clone().map(|backend| (own_name.clone(), backend));
        for (host, backend) in of_rules.chain(default) {
            let Some(service) = backend_of(&backend) else { continue };
            match behind.get(&(namespace.clone(), service.clone())) {
                Some(targets) => targets.iter().for_each(|target| add(&host, target, RouteKind::Ingress)),
                None => add(&host, &service, RouteKind::Ingress),
            }
        }
    }
    for policy in policies {
        let namespace = policy.metadata.namespace.unwrap_or_default();
        let Some(spec) = policy.spec else { continue };
        let targets = of(pods, &namespace, |labels| selects(spec.pod_selector.as_ref(), labels));
        for peer in spec.ingress.iter().flatten().flat_map(|rule| rule.from.iter().flatten()) {
            // Leave for a whole namespace or a block of addresses says nothing of who calls.
            let Some(selector) = peer.pod_selector.as_ref().filter(|one| !is_everything(one)) else { continue };
            let everywhere = peer.namespace_selector.is_some();
            let near = pods.iter().filter(|(name, _)| everywhere || **name == namespace);
            for (_, pods) in near {
                for (_, source) in pods.iter().filter(|(labels, _)| selects(Some(selector), labels)) {
                    targets.iter().for_each(|target| add(source, target, RouteKind::Allowed));
                }
            }
        }
    }
    routes.into_iter().collect()
}

fn of(pods: &Pods, namespace: &str, wanted: impl Fn(&PodLabels) -> bool) -> BTreeSet<String> {
    let pods = pods.get(namespace).into_iter().flatten();
    pods.filter(|(labels, _)| wanted(labels)).map(|(_, service)| service.clone()).collect()
}

fn backend_of(backend: &IngressBackend) -> Option<String> {
    backend.service.as_ref().map(|service| service.name.clone())
}

fn is_everything(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Kubernetes' rules: all requirements hold; an empty selector selects everything, a missing one too
/// where the API says so (a policy's own `podSelector`).
fn selects(selector: Option<&LabelSelector>, labels: &PodLabels) -> bool {
    let Some(selector) = selector else { return true };
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|one| {
            let (value, values) = (labels.get(&one.key), one.values.as_deref().unwrap_or_default());
            let among = value.is_some_and(|value| values.contains(value));
            match one.operator.as_str() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pods() -> Pods {
        let pod = |app: &str, tier: &str| {
            let labels = [("app", app), ("tier", tier)].map(|(key, value)| (key.to_owned(), value.to_owned()));
            (BTreeMap::from(labels), app.to_owned())
        };
        BTreeMap::from([
            (
                "shop".to_owned(),
                vec![pod("web", "front"), pod("cart", "back"), pod("cart", "back"), pod("pay", "back")],
            ),
            ("other".to_owned(), vec![pod("probe", "front")]),
        ])
    }

    #[test]
    fn objects_of_the_cluster_tell_who_stands_before_whom() {
        let services: Vec<Service> = vec![
            read(json!({"metadata": {"name": "cart-svc", "namespace": "shop"}, "spec": {"selector": {"app": "cart"}}})),
            read(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": {"app": "web"}}})),
            read(json!({"metadata": {"name": "bank", "namespace": "shop"},
                        "spec": {"type": "ExternalName", "externalName": "api.bank.example"}})),
            read(json!({"metadata": {"name": "headless", "namespace": "shop"}, "spec": {}})),
        ];
        let path = |service: &str| json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}});
        let ingresses: Vec<Ingress> = vec![read(json!({
            "metadata": {"name": "front", "namespace": "shop"},
            "spec": {
                "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
                "rules": [{"host": "shop.example", "http": {"paths": [path("web"), path("cart-svc")]}},
                          {"http": {"paths": [path("gone")]}}],
            },
        }))];
        let policies: Vec<NetworkPolicy> = vec![
            read(json!({"metadata": {"name": "pay", "namespace": "shop"}, "spec": {
                "podSelector": {"matchLabels": {"app": "pay"}},
                "ingress": [{"from": [{"podSelector": {"matchExpressions": [
                                {"key": "app", "operator": "In", "values": ["cart", "web"]},
                                {"key": "tier", "operator": "NotIn", "values": ["front"]}]}},
                            {"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}})),
            read(json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"tier": "front"}}, "namespaceSelector": {}}]}]}})),
        ];
        let told: Vec<String> = derive(&pods(), services, ingresses, policies)
            .into_iter()
            .map(|route| format!("{} -> {} ({:?})", route.from, route.to, route.kind))
            .collect();
        assert_eq!(
            told,
            [
                "bank -> api.bank.example (External)",
                "cart -> pay (Allowed)",
                "cart-svc -> cart (Service)",
                "ingress/front -> gone (Ingress)",
                "ingress/front -> web (Ingress)",
                "probe -> web (Allowed)",
                "shop.example -> cart (Ingress)",
                "shop.example -> web (Ingress)",
            ]
        );
    }
}
