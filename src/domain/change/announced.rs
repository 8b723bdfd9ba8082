//! Changes that other systems announce: deployments of GitHub and GitLab, Argo CD, Flux, feature
//! flags, and a plain form for everything else.
//!
//! Told apart by their content. What a sender says is other people's text.

use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use super::{Change, ChangeKind, Touched};
use crate::domain::time::Timestamp;

/// A rollout and its announcement within this time are one change.
const ONE_CHANGE: Duration = Duration::from_secs(15 * 60);
/// What is announced later than this explains nothing that begins now.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);
const MAX_AT_ONCE: usize = 500;
const MAX_TEXT: usize = 300;

#[derive(Debug, Clone, PartialEq)]
pub struct Announced {
    /// Names the change: a later announcement of one key is about the same change.
    pub key: String,
    pub change: Change,
}

/// What is in a payload. None at all is fine where a sender also tells of what changes nothing.
/// `service` is for senders that do not name one.
pub fn read(payload: &Value, service: Option<&str>, event_now: Timestamp) -> Result<Vec<Announced>, String> {
    let many = payload.as_array().or_else(|| payload.get("changes").and_then(Value::as_array));
    let mut found = vec![];
    match many {
        Some(many) if many.len() > MAX_AT_ONCE => {
            return Err(format!("{} changes at once; send at most {MAX_AT_ONCE}", many.len()));
        }
        Some(many) => {
            for one in many {
                found.extend(read_one(one, service, event_now)?);
            }
        }
        None => found.extend(read_one(payload, service, event_now)?),
    }
    for one in &mut found {
        one.change.at = one.change.at.min(event_now);
    }
    found.retain(|one| event_now.since(one.change.at) <= KEPT);
    Ok(found)
}

fn read_one(payload: &Value, service: Option<&str>, event_now: Timestamp) -> Result<Option<Announced>, String> {
    // A CloudEvent around any of the others.
    if payload.get("specversion").is_some() && payload["data"].is_object() {
        let mut inner = payload["data"].clone();
        if let Some(inner) = inner.as_object_mut() {
            for (outer, name) in [("time", "at"), ("id", "id")] {
                if let Some(value) = payload.get(outer) {
                    inner.entry(name).or_insert(value.clone());
                }
            }
        }
        return read_one(&inner, service, event_now);
    }
    let sender = Sender { service, event_now };
    if payload["deployment"].is_object() && payload["repository"].is_object() {
        return Ok(sender.github(payload));
    }
    if payload["object_kind"] == "deployment" {
        return Ok(sender.gitlab(payload));
    }
    if payload["involvedObject"].is_object() {
        return Ok(sender.flux(payload));
    }
    let application = payload.get("app").filter(|app| app["metadata"].is_object()).unwrap_or(payload);
    if application["status"]["operationState"].is_object() {
        return Ok(sender.argo_cd(application));
    }
    // GitHub greets a new webhook.
    if payload["zen"].is_string() {
        return Ok(None);
    }
    sender.plain(payload).map(Some)
}

struct Sender<'a> {
    service: Option<&'a str>,
    event_now: Timestamp,
}

impl Sender<'_> {
    /// <https://docs.github.com/en/webhooks/webhook-events-and-payloads#deployment_status>
    fn github(&self, payload: &Value) -> Option<Announced> {
        let (deployment, status) = (&payload["deployment"], &payload["deployment_status"]);
        let state = status["state"].as_str().unwrap_or("created");
        // Waiting for its turn or put away: nothing has changed.
        if matches!(state, "queued" | "pending" | "waiting" | "inactive") {
            return None;
        }
        let repository = text(&payload["repository"]["full_name"])?;
        let name = repository.rsplit('/').next().unwrap_or(&repository).to_owned();
        let environment = text(&deployment["environment"]).unwrap_or_default();
        let commit: String = text(&deployment["sha"]).unwrap_or_default().chars().take(12).collect();
        let at = instant(&status["created_at"]).or_else(|| instant(&deployment["created_at"]));
        let id = deployment["id"].to_string();
        Some(self.announced(
            format!("github/{repository}/{id}"),
            format!("github {name} deployment {id}"),
            name,
            at,
            Touched { what: ChangeKind::Deployment, detail: format!("{environment}: commit {commit}, {state}") },
            text(&deployment["description"]),
        ))
    }

    /// <https://docs.gitlab.com/user/project/integrations/webhook_events/#deployment-events>
    fn gitlab(&self, payload: &Value) -> Option<Announced> {
        let state = payload["status"].as_str().unwrap_or_default();
        if !matches!(state, "running" | "success" | "failed") {
            return None;
        }
        let project = text(&payload["project"]["path_with_namespace"]).or_else(|| text(&payload["project"]["name"]))?;
        let name = project.rsplit('/').next().unwrap_or(&project).to_owned();
        let environment = text(&payload["environment"]).unwrap_or_default();
        let commit = text(&payload["short_sha"]).unwrap_or_default();
        let id = payload["deployment_id"].to_string();
        Some(self.announced(
            format!("gitlab/{project}/{id}"),
            format!("gitlab {name} deployment {id}"),
            name,
            instant(&payload["status_changed_at"]),
            Touched { what: ChangeKind::Deployment, detail: format!("{environment}: commit {commit}, {state}") },
            text(&payload["commit_title"]),
        ))
    }

    /// <https://fluxcd.io/flux/components/notification/events/>
    fn flux(&self, payload: &Value) -> Option<Announced> {
        if !payload["reason"].as_str().unwrap_or_default().ends_with("Succeeded") {
            return None;
        }
        let object = &payload["involvedObject"];
        let (name, namespace) = (text(&object["name"])?, text(&object["namespace"]).unwrap_or_default());
        let kind = text(&object["kind"]).unwrap_or_default();
        let revision = payload["metadata"]
            .as_object()
            .and_then(|all| all.iter().find(|(key, _)| key.rsplit('/').next() == Some("revision")))
            .and_then(|(_, value)| text(value))
            .unwrap_or_else(|| "unknown".to_owned());
        let mut announced = self.announced(
            format!("flux/{kind}/{namespace}/{name}/{revision}"),
            format!("flux {name} {revision}"),
            name,
            instant(&payload["timestamp"]),
            Touched { what: ChangeKind::Deployment, detail: format!("{kind} to {revision}") },
            text(&payload["message"]),
        );
        announced.change.namespace = namespace;
        Some(announced)
    }

    /// The Application, as a template of Argo CD's notifications can send it whole.
    fn argo_cd(&self, application: &Value) -> Option<Announced> {
        let operation = &application["status"]["operationState"];
        let state = operation["phase"].as_str().unwrap_or_default();
        if !matches!(state, "Running" | "Succeeded" | "Failed" | "Error") {
            return None;
        }
        let name = text(&application["metadata"]["name"])?;
        let revision = text(&operation["syncResult"]["revision"])
            .or_else(|| text(&operation["operation"]["sync"]["revision"]))
            .unwrap_or_else(|| "unknown".to_owned());
        let short: String = revision.chars().take(12).collect();
        let started = text(&operation["startedAt"]).unwrap_or_default();
        let mut announced = self.announced(
            format!("argocd/{name}/{revision}/{started}"),
            format!("argocd {name} {short}"),
            name,
            instant(&operation["startedAt"]).or_else(|| instant(&operation["finishedAt"])),
            Touched { what: ChangeKind::Deployment, detail: format!("sync to {revision}, {state}") },
            text(&operation["message"]),
        );
        announced.change.namespace = text(&application["spec"]["destination"]["namespace"]).unwrap_or_default();
        Some(announced)
    }

    /// `{"service": "cart", "kind": "flag", "what": "new_pricing", "from": "off", "to": "on",
    /// "at": "2025-11-22T02:00:00Z", "id": "...", "because": "...", "namespace": "..."}`; all but the
    /// service and one of `what`, `to` and `id` may be left out.
    fn plain(&self, payload: &Value) -> Result<Announced, String> {
        let field = |name: &str| payload.get(name).and_then(text);
        let service = self.service.map(str::to_owned).or_else(|| field("service")).ok_or(
            "this is no deployment of GitHub or GitLab, no event of Flux, no Application of Argo CD; as a plain \
             change it lacks `service`",
        )?;
        let kind = match field("kind").as_deref() {
            None | Some("deployment") => ChangeKind::Deployment,
            Some("flag") => ChangeKind::Flag,
            Some("image") => ChangeKind::Image,
            Some("environment") => ChangeKind::Environment,
            Some("configuration" | "config") => ChangeKind::Configuration,
            Some("resources") => ChangeKind::Resources,
            Some("other") => ChangeKind::Other,
            Some(unknown) => {
                return Err(format!(
                    "`kind` {unknown:?} is none of deployment, flag, image, environment, configuration, resources, other"
                ));
            }
        };
        let at = match payload.get("at") {
            None | Some(Value::Null) => None,
            Some(at) => Some(instant(at).ok_or("`at` is neither RFC 3339 nor milliseconds since 1970")?),
        };
        let what = field("what").or_else(|| field("to")).or_else(|| field("id")).ok_or(
            "a plain change needs one of `what` (the flag, the key), `to` (the new value or version) and `id`",
        )?;
        let detail = match (field("from"), field("to")) {
            (Some(from), Some(to)) => format!("{what}: {from} -> {to}"),
            (None, Some(to)) if to != what => format!("{what}: {to}"),
            _ => what.clone(),
        };
        let moment = at.unwrap_or(self.event_now).millis();
        let id = field("id").unwrap_or_else(|| format!("{what}/{moment}"));
        let word = kind.as_str();
        Ok(self.announced(
            format!("plain/{service}/{word}/{id}"),
            format!("{service} {word} {id}"),
            service,
            at,
            Touched { what: kind, detail },
            field("because"),
        ))
    }

    fn announced(
        &self,
        key: String,
        id: String,
        service: String,
        at: Option<Timestamp>,
        touched: Touched,
        cause: Option<String>,
    ) -> Announced {
        let service = self.service.map_or(service, str::to_owned);
        let change = Change {
            id: clip(&id),
            namespace: String::new(),
            workload: service.clone(),
            service,
            at: at.unwrap_or(self.event_now),
            from_revision: None,
            to_revision: 0,
            touched: vec![Touched { detail: clip(&touched.detail), ..touched }],
            cause: cause.map(|cause| clip(&cause)),
            current: true,
            put_back: false,
        };
        Announced { key: clip(&key), change }
    }
}

/// One list, oldest first: an announcement of what the cluster shows as a rollout is its reason, and
/// not a second suspect.
pub fn merge(mut rollouts: Vec<Change>, announced: Vec<Change>) -> Vec<Change> {
    let mut others = vec![];
    for one in announced {
        let deploys = one.touched.iter().any(|touched| touched.what == ChangeKind::Deployment);
        let rollout = rollouts
            .iter_mut()
            .filter(|rollout| deploys && rollout.service == one.service && rollout.at.abs_diff(one.at) <= ONE_CHANGE)
            .min_by_key(|rollout| rollout.at.abs_diff(one.at));
        match rollout {
            Some(rollout) => {
                let told = one.touched.iter().map(|touched| touched.detail.as_str()).collect::<Vec<_>>().join("; ");
                let told = format!("{} ({told})", one.id);
                rollout.cause = Some(match rollout.cause.take() {
                    Some(cause) => format!("{cause}; {told}"),
                    None => told,
                });
            }
            None => others.push(one),
        }
    }
    rollouts.extend(others);
    rollouts.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    rollouts
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// RFC 3339, GitLab's `2025-11-22 03:00:00 +0100`, or milliseconds.
fn instant(value: &Value) -> Option<Timestamp> {
    if let Some(millis) = value.as_i64() {
        return Some(Timestamp::from_millis(millis));
    }
    let text = value.as_str()?;
    Timestamp::parse(text).ok().or_else(|| {
        let numeric = text.replace("UTC", "+0000");
        let parsed = DateTime::parse_from_str(&numeric, "%Y-%m-%d %H:%M:%S %z").ok()?;
        Some(Timestamp::from_millis(parsed.timestamp_millis()))
    })
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2025-11-22T03:00:00Z").unwrap()
    }

    fn check(payload: Value, expected: &str) {
        let told = match read(&payload, None, now()) {
            Ok(found) => found
                .iter()
                .map(|one| {
                    let touched: Vec<_> =
                        one.change.touched.iter().map(|t| format!("{} {}", t.what.as_str(), t.detail)).collect();
                    let at = one.change.at.to_string().replace(".000Z", "Z");
                    format!("{at} {} [{}] {}", one.change.service, one.change.id, touched.join(", "))
                })
                .collect::<Vec<_>>()
                .join("\n"),
            Err(why) => why,
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn deployments_of_github_and_gitlab_are_read() {
        let github = |state: &str| {
            json!({"action": "created", "deployment_status": {"state": state, "created_at": "2025-11-22T02:10:00Z"},
                "deployment": {"id": 42, "sha": "0123456789abcdef", "environment": "production",
                    "created_at": "2025-11-22T02:09:00Z", "description": null},
                "repository": {"name": "cart", "full_name": "shop/cart"}})
        };
        check(
            github("success"),
            "2025-11-22T02:10:00Z cart [github cart deployment 42] deployment production: commit 0123456789ab, success",
        );
        check(github("queued"), "");
        check(json!({"zen": "Keep it logically awesome.", "hook_id": 1}), "");
        check(
            json!({"object_kind": "deployment", "status": "success", "status_changed_at": "2025-11-22 03:30:00 +0100",
                "deployment_id": 15, "environment": "prod", "short_sha": "279484c0", "commit_title": "Pool of 2",
                "project": {"name": "pay", "path_with_namespace": "shop/pay"}}),
            "2025-11-22T02:30:00Z pay [gitlab pay deployment 15] deployment prod: commit 279484c0, success",
        );
    }

    #[test]
    fn flux_and_argo_cd_are_read() {
        let flux = |reason: &str| {
            json!({"involvedObject": {"kind": "Kustomization", "name": "cart", "namespace": "shop"}, "severity": "info",
                "timestamp": "2025-11-22T02:20:00Z", "reason": reason, "message": "Deployment/shop/cart configured",
                "metadata": {"kustomize.toolkit.fluxcd.io/revision": "main@sha1:abc"}})
        };
        check(
            flux("ReconciliationSucceeded"),
            "2025-11-22T02:20:00Z cart [flux cart main@sha1:abc] deployment Kustomization to main@sha1:abc",
        );
        check(flux("Progressing"), "");
        check(
            json!({"app": {"metadata": {"name": "pay"}, "spec": {"destination": {"namespace": "shop"}},
                "status": {"operationState": {"phase": "Succeeded", "startedAt": "2025-11-22T02:00:00Z",
                    "syncResult": {"revision": "0123456789abcdef"}}}}}),
            "2025-11-22T02:00:00Z pay [argocd pay 0123456789ab] deployment sync to 0123456789abcdef, Succeeded",
        );
    }

    #[test]
    fn flags_and_everything_else_have_a_plain_form() {
        check(
            json!([{"service": "cart", "kind": "flag", "what": "new_pricing", "from": "off", "to": "on",
                "at": 1763776800000_i64, "id": "f1"}]),
            "2025-11-22T02:00:00Z cart [cart flag f1] flag new_pricing: off -> on",
        );
        check(
            json!({"specversion": "1.0", "id": "e7", "time": "2025-11-22T02:05:00Z", "source": "/cd", "type": "x",
                "data": {"service": "web", "to": "1.9"}}),
            "2025-11-22T02:05:00Z web [web deployment e7] deployment 1.9",
        );
        check(json!({"service": "web", "to": "2", "at": "2025-11-01T00:00:00Z"}), "");
        check(
            json!({"service": "web", "to": "2", "at": "2026-01-01T00:00:00Z", "id": "x"}),
            "2025-11-22T03:00:00Z web [web deployment x] deployment 2",
        );
        check(
            json!({"service": "web", "to": "2", "at": "soon"}),
            "`at` is neither RFC 3339 nor milliseconds since 1970",
        );
        check(
            json!({"hello": 1}),
            "this is no deployment of GitHub or GitLab, no event of Flux, no Application of Argo CD; as a plain change it lacks `service`",
        );
    }

    #[test]
    fn an_announcement_is_the_reason_of_its_rollout_and_no_second_suspect() {
        let change = |id: &str, service: &str, minutes: u64, what| Change {
            id: id.into(),
            namespace: String::new(),
            service: service.into(),
            workload: service.into(),
            at: now() - Duration::from_secs(minutes * 60),
            from_revision: None,
            to_revision: 0,
            touched: vec![Touched { what, detail: "d".into() }],
            cause: None,
            current: true,
            put_back: false,
        };
        let rollouts = vec![change("cart revision 7", "cart", 30, ChangeKind::Image)];
        let announced = vec![
            change("github cart deployment 42", "cart", 33, ChangeKind::Deployment),
            change("cart flag f", "cart", 31, ChangeKind::Flag),
            change("github pay deployment 1", "pay", 31, ChangeKind::Deployment),
            change("github cart deployment 41", "cart", 50, ChangeKind::Deployment),
        ];
        let merged = merge(rollouts, announced);
        let ids: Vec<_> = merged.iter().map(|change| change.id.as_str()).collect();
        assert_eq!(ids, ["github cart deployment 41", "cart flag f", "github pay deployment 1", "cart revision 7"]);
        assert_eq!(merged[3].cause.as_deref(), Some("github cart deployment 42 (d)"));
    }
}
