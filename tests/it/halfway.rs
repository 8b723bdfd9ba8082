//! Writes whose end is not seen, or that come to half of it, and what people are told then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use midwatch::world::kubernetes::{DeploymentSpec, KubeState, PodHealth, TemplateChange, router};
use serde_json::Value;

use crate::crash::run::{Scenario, tick, wall};
use crate::crash::stored;
use crate::hands::{approved, decided, ended, fired, outcome, plan, watch};
use crate::harness::{alert, serve};
use crate::seeded::people;
use crate::talking::Talking;

const HOUR: i64 = 3_600_000;

/// `web` runs its second image since longer ago than a change is blamed for.
fn cluster() -> KubeState {
    let now = wall();
    let mut state = KubeState::new(7);
    state.add_node("node-1", 32, now - 40 * HOUR);
    let web = DeploymentSpec {
        namespace: "shop".into(),
        name: "web".into(),
        replicas: 2,
        image: "registry/web:1".into(),
        cpu_limit: "100m".into(),
        mem_limit: "64Mi".into(),
        ..DeploymentSpec::default()
    };
    state.add_deployment(&web, now - 40 * HOUR);
    state.step(now - 39 * HOUR, &mut |_| PodHealth::Ready);
    let change = TemplateChange { image: Some("registry/web:2".into()), cause: "bad".into(), ..Default::default() };
    state.roll_out("shop", "web", &change, now - 38 * HOUR).unwrap();
    for at in [now - 37 * HOUR, now - 36 * HOUR, now] {
        state.step(at, &mut |_| PodHealth::Ready);
    }
    state
}

/// Behind an API server whose answers to so many writes are lost.
async fn losing(state: &Arc<Mutex<KubeState>>, lost: Arc<AtomicUsize>) -> String {
    let app = router(state.clone(), Arc::new(wall));
    let app = app.layer(axum::middleware::from_fn(move |request: Request, next: Next| {
        let lost = lost.clone();
        async move {
            let dry_run = request.uri().query().unwrap_or_default().contains("dryRun");
            let writes = request.method() == Method::PATCH && !dry_run;
            let answer = next.run(request).await;
            let one_less = |left: usize| left.checked_sub(1);
            match writes && lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                true => (StatusCode::GATEWAY_TIMEOUT, "the answer was lost").into_response(),
                false => answer,
            }
        }
    }));
    serve(app).await
}

#[tokio::test]
async fn a_rollback_whose_answer_was_lost_is_found_and_not_turned_round() {
    let (state, lost) = (Arc::new(Mutex::new(cluster())), Arc::new(AtomicUsize::new(0)));
    let url = losing(&state, lost.clone()).await;
    let ticking = tick(state.clone(), Scenario::Helps);
    let talking = watch(&url, "verify_seconds = 60\n[remediation]\nlook_seconds = 0.2\n").await;
    let fired = fired(&talking, "web").await;
    lost.store(1, Ordering::SeqCst);
    decided(&talking, 1, "roll_back shop/web").await;
    outcome(&talking, 1, "written").await;
    assert_eq!(lost.load(Ordering::SeqCst), 0);
    talking.send(&[ended(fired)]).await;
    outcome(&talking, 1, "verified").await;
    let written = state.lock().unwrap().writes().into_iter().filter(|write| write.verb == "patch").count();
    assert_eq!(written, 1);
    let web = state.lock().unwrap().object("Deployment", "shop", "web").unwrap();
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], "registry/web:1", "{web:#}");
    ticking.abort();
}

/// Two addresses; the first answers that it failed as soon as it may.
struct Caches {
    calls: Arc<Mutex<Vec<String>>>,
    may_answer: Arc<AtomicUsize>,
    talking: Talking,
    fired: Value,
}

impl Caches {
    async fn start() -> Self {
        let (calls, may_answer) = (Arc::new(Mutex::new(vec![])), Arc::new(AtomicUsize::new(0)));
        let (heard, may) = (calls.clone(), may_answer.clone());
        let answer = move |uri: axum::http::Uri| {
            let (heard, may) = (heard.clone(), may.clone());
            async move {
                heard.lock().unwrap().push(uri.path().to_owned());
                while uri.path() == "/purge" && may.load(Ordering::SeqCst) == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                if uri.path() == "/purge" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
            }
        };
        let url = serve(Router::new().fallback(answer)).await;
        let hook = |name: &str, undo: &str| {
            format!(
                "[[remediation.hook]]\nname = \"{name}\"\ndescription = \"Does it.\"\nservice = \"catalog\"\n\
                 url = \"{url}/{name}\"\nundo = \"{undo}\"\ntimeout_seconds = 60\nnetworks = [\"127.0.0.0/8\"]\n"
            )
        };
        let more = format!(
            "{}[investigation]\nsettle_seconds = 0\n[remediation]\nlook_seconds = 0.1\n{}{}",
            people(&["T1/ann", "T1/bob"]),
            hook("purge", "fill"),
            hook("fill", "purge"),
        );
        let talking = Talking::with_approvers("[\"T1/ann\", \"T1/bob\"]", &more).await;
        let fired = alert("Down", "catalog");
        talking.send(std::slice::from_ref(&fired)).await;
        talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
        Self { calls, may_answer, talking, fired }
    }

    async fn end(&self) {
        self.talking.send(&[ended(self.fired.clone())]).await;
        let ended = async || {
            let incident = stored(&self.talking.data()).await.into_iter().next()?;
            let groups = incident["alerts"].as_object()?.values().cloned().collect::<Vec<_>>();
            groups.iter().all(|group| group["count"] == group["resolved"]).then_some(())
        };
        self.talking.until("the end of the alert", ended).await;
    }
}

#[tokio::test]
async fn what_may_be_half_done_is_not_over_with_its_alerts_and_can_be_put_back() {
    let caches = Caches::start().await;
    let talking = &caches.talking;
    decided(talking, 1, "purge").await;
    outcome(talking, 1, "started").await;
    caches.end().await;
    caches.may_answer.store(1, Ordering::SeqCst);
    let failed = outcome(talking, 1, "failed").await;
    assert_eq!(failed["outcome"]["left"], "unknown", "{failed}");
    talking.in_thread("INC-1", "Perhaps carried out: whether it was written is not known").await;
    talking.in_thread("INC-1", "/ops act INC-1 fill").await;
    let incident = stored(&talking.data()).await.remove(0);
    assert_eq!(incident["state"]["state"], "handed_over", "{}", incident["state"]);
    // Nothing fires, and a person asks for it all the same.
    decided(talking, 2, "fill").await;
    let undone = outcome(talking, 2, "verified").await;
    assert_eq!(undone["outset"], "well", "it is no success to count: {undone}");
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    assert_eq!(*caches.calls.lock().unwrap(), ["/purge", "/fill"]);
}

#[tokio::test]
async fn nobody_closes_what_is_carried_out_and_what_it_may_have_left_is_named() {
    let caches = Caches::start().await;
    let talking = &caches.talking;
    decided(talking, 1, "purge").await;
    outcome(talking, 1, "started").await;
    let said = talking.refused("ann", "close INC-1 because I purge it by hand").await;
    assert_eq!(said, "INC-1.P1 is being carried out; close INC-1 when it has ended");
    caches.may_answer.store(1, Ordering::SeqCst);
    outcome(talking, 1, "failed").await;
    let said = talking.ordered("ann", "close INC-1 because I have looked, and it is purged").await;
    assert!(said.contains("1 of its alerts still fires: Down about catalog"), "{said}");
    assert!(said.contains("INC-1.P1 was perhaps carried out, and what it has left stays as it is"), "{said}");
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    assert_eq!(plan(talking, 1).await.unwrap()["outcome"]["outcome"], "failed", "it says nothing of the plan");
}

#[tokio::test]
async fn what_ended_by_itself_is_not_mended_any_more() {
    let caches = Caches::start().await;
    let talking = &caches.talking;
    let told = talking.ordered("ann", "act INC-1 fill").await;
    assert!(told.contains("INC-1.P1"), "{told}");
    caches.end().await;
    approved(talking, 1).await;
    let void = outcome(talking, 1, "voided").await;
    let because = void["outcome"]["because"].as_str().unwrap();
    assert_eq!(because, "no longer needed: nothing of INC-1 fires any more");
    talking.in_thread("INC-1", "Nothing was changed").await;
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    assert!(caches.calls.lock().unwrap().is_empty());
}
