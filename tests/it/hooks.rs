//! Declared addresses as actions, asked for by one person and approved by another.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::crash::stored;
use crate::harness::{alert, serve};
use crate::seeded::people;
use crate::talking::Talking;

/// Method and path, idempotency key, authorization.
type Calls = Arc<Mutex<Vec<(String, String, String)>>>;

async fn cache(calls: Calls) -> String {
    let answer = move |method: Method, uri: axum::http::Uri, headers: HeaderMap| {
        let calls = calls.clone();
        async move {
            let word =
                |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let line = format!("{method} {}", uri.path());
            calls.lock().unwrap().push((line, word("idempotency-key"), word("authorization")));
            StatusCode::OK
        }
    };
    serve(Router::new().fallback(answer)).await
}

async fn says(talking: &Talking, token: &str, text: &str) -> String {
    let request = talking.http.post(format!("http://{}/api/v1/ops", talking.api)).bearer_auth(token);
    let request = request.header("content-type", "application/json").body(json!({"text": text}).to_string());
    request.send().await.unwrap().text().await.unwrap()
}

async fn plan(talking: &Talking) -> Option<Value> {
    stored(&talking.data()).await.first()?["plans"].as_array()?.last().cloned()
}

#[tokio::test]
async fn a_hook_is_called_once_by_two_people_with_its_evidence_before() {
    let calls = Calls::default();
    let url = cache(calls.clone()).await;
    let more = format!(
        "{}[investigation]\nsettle_seconds = 0\n[remediation]\nlook_seconds = 0.2\n\
         [[remediation.hook]]\nname = \"purge-cache\"\ndescription = \"Empties it.\"\nservice = \"catalog\"\n\
         url = \"{url}/purge\"\ncheck_url = \"{url}/health\"\nheaders = {{ authorization = \"secret-token\" }}\n\
         networks = [\"127.0.0.0/8\"]\n\
         [[remediation.hook]]\nname = \"not-reachable\"\ndescription = \"No network is named.\"\nurl = \"{url}/no\"\ncheck_url = \"{url}/no\"\n",
        people(&["T1/ann", "T1/bob"])
    );
    let talking = Talking::with_approvers("[\"T1/ann\", \"T1/bob\"]", &more).await;
    let fired = alert("Down", "catalog");
    talking.send(std::slice::from_ref(&fired)).await;
    talking
        .until("an incident in people's hands", async || {
            let incidents = stored(&talking.data()).await;
            (incidents.first()?["state"]["state"] == "handed_over").then_some(())
        })
        .await;
    let refused = says(&talking, "ann", "act INC-1 not-reachable").await;
    assert!(refused.contains("not a public address"), "{refused}");
    assert!(calls.lock().unwrap().is_empty(), "what may not be reached is not reached");
    let told = says(&talking, "ann", "act INC-1 purge-cache").await;
    assert!(told.contains("INC-1.P1"), "{told}");
    let proposed = plan(&talking).await.unwrap();
    assert_eq!((&proposed["plan"]["tier"], &proposed["plan"]["approvals_needed"]), (&json!("medium"), &json!(1)));
    assert!(!proposed.to_string().contains("secret-token"), "{proposed}");
    let value = format!("INC-1.P1.{}", &proposed["plan"]["digest"].as_str().unwrap()[..12]);
    // Who asked does not count.
    says(&talking, "ann", &format!("approve {value}")).await;
    assert_eq!(plan(&talking).await.unwrap()["outcome"]["outcome"], "proposed");
    says(&talking, "bob", &format!("approve {value}")).await;
    talking.until("the call", async || (plan(&talking).await?["outcome"]["outcome"] == "written").then_some(())).await;
    let mut ended = fired;
    ended["status"] = json!("resolved");
    ended["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
    talking.send(&[ended]).await;
    talking.until("proof", async || (plan(&talking).await?["outcome"]["outcome"] == "verified").then_some(())).await;
    let calls = calls.lock().unwrap().clone();
    let purges: Vec<_> = calls.iter().filter(|(line, ..)| line == "POST /purge").collect();
    let [(_, key, secret)] = purges.as_slice() else { panic!("{purges:?}") };
    assert_eq!(secret, "secret-token");
    // Another installation has an INC-1.P1 of its own: what is behind the address must tell them apart.
    assert_eq!((key.strip_prefix("INC-1.P1-").map(str::len), key.as_str()), (Some(16), mark(&talking).await.as_str()));
    assert!(calls.iter().any(|(line, key, _)| line == "GET /health" && key.is_empty()), "{calls:?}");
    let incident = stored(&talking.data()).await.remove(0);
    assert!(!incident["evidence"].as_array().unwrap().is_empty());
}

/// What the store says that the first plan was called by: there before the call was made.
async fn mark(talking: &Talking) -> String {
    plan(talking).await.unwrap()["mark"].as_str().unwrap_or_default().to_owned()
}

/// The outcome of the first plan of an incident.
async fn outcome(talking: &Talking, incident: usize) -> String {
    let plan = stored(&talking.data()).await[incident]["plans"][0].clone();
    plan["outcome"]["outcome"].as_str().unwrap_or_default().to_owned()
}

/// One person asks for a hook, and another approves it.
async fn decided(talking: &Talking, incident: usize, name: &str) {
    says(talking, "ann", &format!("act INC-{incident} {name}")).await;
    let plan = stored(&talking.data()).await[incident - 1]["plans"][0].clone();
    let digest = &plan["plan"]["digest"].as_str().unwrap()[..12];
    says(talking, "bob", &format!("approve INC-{incident}.P1.{digest}")).await;
    talking.until("the decision", async || (outcome(talking, incident - 1).await != "proposed").then_some(())).await;
}

#[tokio::test]
async fn one_that_waits_for_its_effect_holds_up_only_what_is_connected() {
    let url = cache(Calls::default()).await;
    let hook = |name: &str, service: &str| {
        format!(
            "[[remediation.hook]]\nname = \"{name}\"\ndescription = \"Does it.\"\nservice = \"{service}\"\n\
             url = \"{url}/{name}\"\ncheck_url = \"{url}/health\"\nnetworks = [\"127.0.0.0/8\"]\n"
        )
    };
    let more = format!(
        "{}[investigation]\nsettle_seconds = 0\n[remediation]\nlook_seconds = 0.2\n{}{}{}",
        people(&["T1/ann", "T1/bob"]),
        hook("purge", "catalog"),
        hook("flush", "billing"),
        hook("warm", "catalog"),
    );
    let talking = Talking::with_approvers("[\"T1/ann\", \"T1/bob\"]", &more).await;
    let fired = alert("Down", "catalog");
    for (at, alert) in [fired.clone(), alert("Down", "billing"), alert("Down", "search")].into_iter().enumerate() {
        talking.send(&[alert]).await;
        talking.incident(&format!("INC-{}", at + 1), |incident| incident["state"] == "handed_over").await;
    }
    decided(&talking, 1, "purge").await;
    talking.until("the first call", async || (outcome(&talking, 0).await == "written").then_some(())).await;
    decided(&talking, 3, "warm").await;
    // The first waits for fifteen minutes, since its alert fires on; what lives elsewhere need not.
    decided(&talking, 2, "flush").await;
    talking.until("the call elsewhere", async || (outcome(&talking, 1).await == "written").then_some(())).await;
    assert_eq!((outcome(&talking, 0).await, outcome(&talking, 2).await), ("written".into(), "approved".into()));
    let mut ended = fired;
    ended["status"] = json!("resolved");
    ended["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
    talking.send(&[ended]).await;
    talking.until("the call that waited", async || (outcome(&talking, 2).await == "written").then_some(())).await;
    assert_eq!(outcome(&talking, 0).await, "verified");
}

/// By what is measured INC-1 is well, although its alerts fire on.
async fn resolved_while_it_fires(fired: &[Value], more: &str) -> Talking {
    let well = json!({"status": "success", "data": {"resultType": "vector", "result": [
        {"metric": {"service": "catalog"}, "value": [0, "0"]},
    ]}});
    let nothing = json!({"status": "success", "data": {"resultType": "matrix", "result": []}});
    let prometheus = Router::new()
        .route("/api/v1/query", post(move || std::future::ready(Json(well.clone()))))
        .route("/api/v1/query_range", post(move || std::future::ready(Json(nothing.clone()))));
    let (prometheus, url) = (serve(prometheus).await, cache(Calls::default()).await);
    let more = format!(
        "{}[investigation]\nsettle_seconds = 0\n[signals]\nprometheus_url = \"{prometheus}\"\nwatch_logs = false\n\
         [remediation]\nlook_seconds = 0.1\n{more}\
         [[remediation.hook]]\nname = \"purge\"\ndescription = \"Empties it.\"\nservice = \"catalog\"\n\
         url = \"{url}/purge\"\ncheck_url = \"{url}/health\"\nnetworks = [\"127.0.0.0/8\"]\n\
         success = {{ query = \"errors\", label = \"service\", bound = 1, direction = \"at_most\", unit = \"%\" }}\n",
        people(&["T1/ann", "T1/bob"]),
    );
    let talking = Talking::with_approvers("[\"T1/ann\", \"T1/bob\"]", &more).await;
    talking.send(fired).await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    decided(&talking, 1, "purge").await;
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    talking
}

#[tokio::test]
async fn what_ends_after_its_incident_was_resolved_is_told_of_it() {
    let fired = alert("Down", "catalog");
    // The alert needs longer than the measures to notice that it is well.
    let talking = resolved_while_it_fires(std::slice::from_ref(&fired), "").await;
    let root = || async { talking.told("ops").await.remove(0) };
    assert!(root().await.contains("1 firing"), "{}", root().await);
    let mut ended = fired;
    ended["status"] = json!("resolved");
    ended["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
    talking.send(&[ended]).await;
    talking.until("its end", async || root().await.contains("0 firing").then_some(())).await;
    let page: Value = serde_json::from_str(&talking.page("/api/incidents/INC-1").await).unwrap();
    assert!(page["alerts"][0]["reason"].as_str().unwrap().ends_with("ended"), "{page}");
    // Nobody is told of an incident for it.
    assert_eq!(talking.incidents().await.len(), 1);
}

/// A critical alert and a warning of one incident, which is resolved while both fire.
async fn both_fire_on(more: &str) -> Talking {
    let (fired, mut warns) = (alert("Down", "catalog"), alert("Slow", "catalog"));
    warns["labels"]["severity"] = json!("warning");
    resolved_while_it_fires(&[fired, warns], more).await
}

/// The critical one is news: what was verified did not help.
async fn it_is_an_incident_again(talking: &Talking) {
    let again = talking.incident("INC-2", |incident| incident["state"] == "handed_over").await;
    assert_eq!(again["title"], "catalog: Down");
    let page: Value = serde_json::from_str(&talking.page("/api/incidents/INC-2").await).unwrap();
    let alerts = page["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1, "the warning is known: {page}");
    let reason = alerts[0]["reason"].as_str().unwrap();
    assert!(reason.contains("still fires") && reason.contains("after INC-1 was resolved"), "{page}");
    talking.until("the verdict", async || (outcome(talking, 0).await == "recurred").then_some(())).await;
    talking.in_thread("INC-1", "did not last: Down about catalog still fires after").await;
    // It counts once.
    let funnel = talking.json("/api/v1/funnel").await;
    assert_eq!(funnel["raw"], 2, "{funnel}");
}

#[tokio::test]
async fn what_fires_on_after_its_incident_was_resolved_is_an_incident_again() {
    let talking = both_fire_on("outlast_seconds = 1\n").await;
    it_is_an_incident_again(&talking).await;
}

#[tokio::test]
async fn what_fires_on_is_known_after_a_restart() {
    let mut talking = both_fire_on("outlast_seconds = 0\n").await;
    let path = talking.folder.path().join("midwatch.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("outlast_seconds = 0", "outlast_seconds = 1")).unwrap();
    talking.again().await;
    it_is_an_incident_again(&talking).await;
}
