//! `midwatch check --kubernetes`: the rights that our two identities have, beside those they need.

use std::collections::BTreeSet;

use super::Findings;
use crate::app;
use crate::config::Config;
use crate::domain::action::{ActionKind, Right};
use crate::ports::{ClusterError, Identity};

const fn reads(group: &'static str, resource: &'static str, verb: &'static str, namespaced: bool) -> Right {
    Right { group, resource, verb, namespaced }
}

/// What looking needs, in the whole cluster.
const READING: [Right; 20] = [
    reads("", "pods", "list", false),
    reads("", "pods", "get", false),
    reads("", "pods/log", "get", false),
    reads("", "nodes", "list", false),
    reads("", "nodes", "get", false),
    reads("", "events", "list", false),
    reads("", "resourcequotas", "list", false),
    reads("", "configmaps", "list", false),
    reads("", "configmaps", "get", false),
    reads("apps", "deployments", "list", false),
    reads("apps", "deployments", "get", false),
    reads("apps", "statefulsets", "list", false),
    reads("apps", "daemonsets", "list", false),
    reads("apps", "daemonsets", "get", false),
    reads("apps", "replicasets", "list", false),
    reads("apps", "controllerrevisions", "list", false),
    reads("autoscaling", "horizontalpodautoscalers", "list", false),
    reads("policy", "poddisruptionbudgets", "list", false),
    reads("batch", "jobs", "get", false),
    reads("batch", "cronjobs", "get", false),
];

/// What neither identity may have (S7).
const TOO_MUCH: [Right; 12] = [
    reads("", "secrets", "get", false),
    reads("", "secrets", "list", false),
    reads("", "pods/exec", "create", false),
    reads("", "pods/attach", "create", false),
    reads("", "pods", "delete", false),
    reads("", "serviceaccounts/token", "create", false),
    reads("rbac.authorization.k8s.io", "clusterroles", "escalate", false),
    reads("rbac.authorization.k8s.io", "clusterroles", "bind", false),
    reads("", "users", "impersonate", false),
    reads("", "serviceaccounts", "impersonate", false),
    reads("apps", "deployments", "delete", false),
    reads("*", "*", "*", false),
];

pub async fn run(config: &Config, findings: &mut Findings) -> Result<(), ClusterError> {
    let cluster = match app::cluster(config).await {
        Ok(Some(cluster)) => cluster,
        Ok(None) => {
            findings.bad("kubernetes", "not configured (key: kubernetes)".into());
            return Ok(());
        }
        Err(error) => {
            findings.bad("kubernetes", format!("{error:#}"));
            return Ok(());
        }
    };
    let missing = |granted: Vec<crate::ports::Grant>| -> Vec<String> {
        granted.iter().filter(|grant| !grant.allowed).map(|grant| name(&grant.right, &grant.namespace)).collect()
    };
    let reading = missing(cluster.grants(Identity::Reader, &[], &READING).await?);
    match reading.is_empty() {
        true => findings.good("reader", format!("has the {} rights that looking needs", READING.len())),
        false => findings.bad("reader", format!("lacks {}", reading.join(", "))),
    }
    too_much(cluster.as_ref(), Identity::Reader, "reader", findings).await?;
    let namespaces: Vec<String> = config.policy.namespaces.iter().filter(|name| *name != "*").cloned().collect();
    // Everywhere: asked without a namespace, which means all of them.
    let places = if namespaces.is_empty() { vec![String::new()] } else { namespaces };
    for kind in ActionKind::ALL {
        let rights = kind.rights();
        if rights.is_empty() {
            continue;
        }
        let granted = match cluster.grants(Identity::Writer, &places, &rights).await {
            Ok(granted) => granted,
            Err(ClusterError::Forbidden(why)) => {
                findings.note("executor", &why);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let lacks: BTreeSet<String> = missing(granted.clone()).into_iter().collect();
        let all: BTreeSet<String> = granted.iter().map(|grant| name(&grant.right, &grant.namespace)).collect();
        match lacks.len() {
            0 => findings.good(kind.as_str(), "possible".into()),
            count if count == all.len() => findings.note(kind.as_str(), "not granted at all: it is never executed"),
            _ => findings.note(
                kind.as_str(),
                &format!("not possible, lacks {}", lacks.into_iter().collect::<Vec<_>>().join(", ")),
            ),
        }
    }
    too_much(cluster.as_ref(), Identity::Writer, "executor", findings).await
}

async fn too_much(
    cluster: &dyn crate::ports::Cluster,
    identity: Identity,
    who: &str,
    findings: &mut Findings,
) -> Result<(), ClusterError> {
    let granted = cluster.grants(identity, &[String::new()], &TOO_MUCH).await?;
    let over: Vec<String> =
        granted.iter().filter(|grant| grant.allowed).map(|grant| name(&grant.right, &grant.namespace)).collect();
    match over.is_empty() {
        true => findings.good(who, format!("has none of {} rights that it must not have", TOO_MUCH.len())),
        false => findings.bad(who, format!("has too much: {}", over.join(", "))),
    }
    Ok(())
}

fn name(right: &Right, namespace: &str) -> String {
    let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
    let place = if namespace.is_empty() { String::new() } else { format!(" in {namespace}") };
    format!("{} {}{group}{place}", right.verb, right.resource)
}
