//! Objects as a cluster would hold them, with the defaults the API server fills in.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{DeploymentSpec, WorkloadKind, set, stamp, text};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const CAUSE: &str = "kubernetes.io/change-cause";
pub(super) const TEMPLATE_HASH: &str = "pod-template-hash";
pub(super) const SET_HASH: &str = "controller-revision-hash";

pub(super) fn node(name: &str, index: usize, cpus: u32, at: i64) -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": stamp(at), "lastTransitionTime": stamp(at)})
    };
    let size = json!({"cpu": cpus.to_string(), "memory": format!("{}Gi", cpus * 4), "pods": "110", "ephemeral-storage": "100Gi"});
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64", "node.kubernetes.io/instance-type": format!("standard-{cpus}")}, "annotations": {}},
        "spec": {"podCIDR": format!("10.244.{index}.0/24")},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("10.0.0.{}", 10 + index)},
                          {"type": "Hostname", "address": name}],
            "capacity": size, "allocatable": size,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {"architecture": "amd64", "bootID": "", "containerRuntimeVersion": "containerd://2.1.4",
                "kernelVersion": "6.12.41", "kubeProxyVersion": "", "kubeletVersion": "v1.34.1", "machineID": "",
                "operatingSystem": "linux", "osImage": "Debian GNU/Linux 13", "systemUUID": ""}}
    })
}

pub(super) fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
           "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
}

pub(super) fn config_map(namespace: &str, name: &str, app: &str, data: &BTreeMap<String, String>) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "labels": {"app": app}}, "data": data})
}

pub(super) fn claim(namespace: &str, name: &str, app: &str, size: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
           "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
                    "storageClassName": "standard", "volumeMode": "Filesystem", "volumeName": format!("pvc-{name}")},
           "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}}})
}

pub(super) fn service(spec: &DeploymentSpec, index: usize) -> Value {
    json!({"metadata": {"namespace": spec.namespace, "name": spec.name, "labels": labels(spec)},
           "spec": {"type": "ClusterIP", "selector": {"app": spec.name}, "sessionAffinity": "None",
                    "clusterIP": format!("10.96.{}.{}", index / 250, 1 + index % 250),
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
           "status": {"loadBalancer": {}}})
}

fn labels(spec: &DeploymentSpec) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    labels.insert("app".into(), spec.name.clone());
    labels
}

pub(super) fn workload(spec: &DeploymentSpec) -> Value {
    let mut object = json!({
        "metadata": {"namespace": spec.namespace, "name": spec.name, "labels": labels(spec),
                     "annotations": {CAUSE: spec.change_cause}},
        "spec": {"replicas": spec.replicas, "revisionHistoryLimit": 10,
                 "selector": {"matchLabels": {"app": spec.name}}, "template": template(spec)}
    });
    match spec.kind {
        WorkloadKind::Deployment => {
            set(&mut object, &["spec", "minReadySeconds"], json!(5));
            set(&mut object, &["spec", "progressDeadlineSeconds"], json!(600));
            let rolling = json!({"type": "RollingUpdate",
                                 "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}});
            set(&mut object, &["spec", "strategy"], rolling);
        }
        WorkloadKind::StatefulSet => {
            set(&mut object, &["spec", "serviceName"], json!(spec.name));
            set(&mut object, &["spec", "podManagementPolicy"], json!("OrderedReady"));
            let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
            set(&mut object, &["spec", "updateStrategy"], rolling);
            if let Some(size) = &spec.pvc {
                let claim = json!([{"metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}}]);
                set(&mut object, &["spec", "volumeClaimTemplates"], claim);
            }
        }
    }
    object
}

fn template(spec: &DeploymentSpec) -> Value {
    let env: Vec<Value> = spec.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut container = json!({
        "name": spec.name, "image": spec.image, "imagePullPolicy": "IfNotPresent", "env": env,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"}, "initialDelaySeconds": 10,
                           "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
    });
    set_limits(&mut container, Some(&spec.cpu_limit), Some(&spec.mem_limit));
    let mut template = json!({
        "metadata": {"labels": labels(spec)},
        "spec": {"containers": [], "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "securityContext": {},
                 "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30}
    });
    if spec.pvc.is_some() {
        set(&mut container, &["volumeMounts"], json!([{"name": "data", "mountPath": "/data"}]));
        if spec.kind == WorkloadKind::Deployment {
            let claim =
                json!([{"name": "data", "persistentVolumeClaim": {"claimName": format!("{}-data", spec.name)}}]);
            set(&mut template, &["spec", "volumes"], claim);
        }
    }
    set(&mut template, &["spec", "containers"], json!([container]));
    if let Some((name, data)) = &spec.config_map {
        set_config(&mut template, name, data);
    }
    template
}

/// Points the template at a ConfigMap, and marks it with the data's checksum so that pods are replaced.
pub(super) fn set_config(template: &mut Value, name: &str, data: &BTreeMap<String, String>) {
    let text = serde_json::to_string(data).unwrap_or_default();
    let sum: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    set(template, &["metadata", "annotations", "checksum/config"], json!(sum));
    if let Some(container) = template.pointer_mut("/spec/containers/0") {
        set(container, &["envFrom"], json!([{"configMapRef": {"name": name}}]));
    }
}

/// Sets limits, and requests of half of them.
pub(super) fn set_limits(container: &mut Value, cpu: Option<&str>, memory: Option<&str>) {
    if let Some(cpu) = cpu.filter(|it| !it.is_empty()) {
        let half = (quantity(cpu) * 500.0).round() as i64;
        set(container, &["resources", "limits", "cpu"], json!(cpu));
        set(container, &["resources", "requests", "cpu"], json!(format!("{half}m")));
    }
    if let Some(memory) = memory.filter(|it| !it.is_empty()) {
        let half = (quantity(memory) / 2.0 / f64::from(1 << 20)).round() as i64;
        set(container, &["resources", "limits", "memory"], json!(memory));
        set(container, &["resources", "requests", "memory"], json!(format!("{half}Mi")));
    }
}

/// A Kubernetes quantity as a plain number: cores or bytes. What cannot be read counts as nothing.
pub(super) fn quantity(text: &str) -> f64 {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => 1.0,
    };
    digits.parse::<f64>().unwrap_or(0.0) * factor
}

pub(super) fn owner(owner: &Value, api_version: &str, kind: &str) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": text(owner, "/metadata/name"),
            "uid": text(owner, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true}])
}

/// A pod from a template, owned by a ReplicaSet or StatefulSet.
pub(super) fn pod(template: &Value, set_object: &Value, kind: &str, name: &str) -> Value {
    let mut pod = json!({"metadata": template.get("metadata").cloned().unwrap_or_default(),
                         "spec": template.get("spec").cloned().unwrap_or_default()});
    set(&mut pod, &["metadata", "namespace"], json!(text(set_object, "/metadata/namespace")));
    set(&mut pod, &["metadata", "name"], json!(name));
    if kind == "ReplicaSet" {
        set(&mut pod, &["metadata", "generateName"], json!(format!("{}-", text(set_object, "/metadata/name"))));
    }
    set(&mut pod, &["metadata", "ownerReferences"], owner(set_object, "apps/v1", kind));
    let tolerate = |key: &str| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute",
               "tolerationSeconds": 300})
    };
    set(&mut pod, &["spec", "tolerations"], json!([tolerate("not-ready"), tolerate("unreachable")]));
    set(&mut pod, &["spec", "serviceAccountName"], json!("default"));
    pod
}
