//! Pagers, trackers, other chats and webhooks, played by small servers; and where incidents are told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};

use crate::harness::alert;
use crate::seeded::{Seeded, people, with_plan};
use crate::talking::Talking;

struct Heard {
    at: Instant,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Rule = Box<dyn Fn(&Heard, usize) -> Response + Send>;

/// A server that keeps what it hears and answers by a rule; the number counts the requests.
#[derive(Clone)]
struct Other {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

struct Playing {
    rule: Rule,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Other {
    async fn start(rule: impl Fn(&Heard, usize) -> Response + Send + 'static) -> Self {
        Self::listening("127.0.0.1:0", rule).await
    }

    async fn listening(at: &str, rule: impl Fn(&Heard, usize) -> Response + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let playing = Arc::new(Mutex::new(Playing { rule: Box::new(rule), heard: heard.clone() }));
        let router = Router::new().fallback(hear).with_state(playing);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, heard }
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// Asks what was heard until there is an answer.
    async fn until<T>(&self, talking: &Talking, what: &str, ask: impl Fn(&[Heard]) -> Option<T>) -> T {
        talking.until(what, async || ask(&self.heard.lock().unwrap())).await
    }
}

async fn hear(
    State(playing): State<Arc<Mutex<Playing>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let playing = playing.lock().unwrap();
    let heard = Heard { at: Instant::now(), method, path: uri.to_string(), headers, body: body.to_vec() };
    let mut all = playing.heard.lock().unwrap();
    let answer = (playing.rule)(&heard, all.len());
    all.push(heard);
    answer
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, "{}").into_response()
}

fn answers(body: Value) -> Response {
    axum::Json(body).into_response()
}

/// An incident that nobody can help closes when its alert ends.
const AT_ONCE: &str = "[investigation]\nsettle_seconds = 0\n";

async fn come_and_go(talking: &Talking) {
    talking.fire("pay").await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    let ts = talking.root("ops", "INC-1").await;
    talking.press(&ts, "acknowledge", "INC-1", None).await;
    talking
        .until("an owner", async || {
            talking.told("ops").await.iter().any(|card| card.contains("local/you")).then_some(())
        })
        .await;
    let mut ended = alert("Down", "pay");
    ended["status"] = json!("resolved");
    ended["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
    talking.send(&[ended]).await;
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
}

#[tokio::test]
async fn a_pager_hears_of_it_in_order_under_one_key_and_waits_when_it_is_told_to() {
    // Notes go another way and wait for nothing of this.
    let events = std::sync::atomic::AtomicUsize::new(0);
    let pager = Other::start(move |heard, number| match (heard.path.as_str(), number) {
        ("/v2/enqueue", _) => match events.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "2")], "slow down").into_response(),
            1 => StatusCode::BAD_GATEWAY.into_response(),
            _ => accepted(),
        },
        (path, _) if path.starts_with("/incidents?") => answers(json!({"incidents": [{"id": "PINC"}]})),
        ("/incidents/PINC/notes", _) => answers(json!({"notes": []})),
        (other, _) => panic!("{other}"),
    })
    .await;
    let more = format!(
        "{AT_ONCE}[elsewhere]\nsource = \"here\"\n[[elsewhere.pagerduty]]\nrouting_key = \"R0\"\nevents_url = {0:?}\n\
         api_url = {0:?}\napi_token = \"t0k\"\nfrom_email = \"watch@example.com\"\nwants = {{ from = \"SEV4\" }}\n",
        pager.url
    );
    let talking = Talking::start(&more).await;
    come_and_go(&talking).await;
    let actions = |heard: &[Heard]| -> Vec<String> {
        let events = heard.iter().filter(|one| one.path == "/v2/enqueue");
        events.map(|one| one.json()["event_action"].as_str().unwrap().to_owned()).collect()
    };
    pager.until(&talking, "a resolve", |heard| actions(heard).contains(&"resolve".to_owned()).then_some(())).await;
    let is_note = |one: &Heard| one.method == Method::POST && one.path.ends_with("/notes");
    pager.until(&talking, "a note", |heard| heard.iter().any(is_note).then_some(())).await;
    let heard = pager.heard.lock().unwrap();
    let mut order = actions(&heard);
    order.dedup();
    assert_eq!(order, ["trigger", "acknowledge", "resolve"], "tried again until it is taken, and never overtaken");
    let events: Vec<&Heard> = heard.iter().filter(|one| one.path == "/v2/enqueue").collect();
    let waited = events[1].at.duration_since(events[0].at);
    assert!(waited >= Duration::from_millis(1_950), "Retry-After holds: {waited:?}");
    for event in &events {
        let event = event.json();
        assert_eq!((&event["dedup_key"], &event["routing_key"]), (&json!("here/INC-1"), &json!("R0")));
    }
    let trigger = events[2].json();
    let payload = &trigger["payload"];
    assert!(payload["summary"].as_str().unwrap().contains("pay: Down"), "{trigger}");
    assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()), "{trigger}");
    let note = heard.iter().find(|one| is_note(one)).expect("a note");
    assert_eq!((note.header("from"), note.header("authorization")), ("watch@example.com", "Token token=t0k"));
    assert!(!note.json()["note"]["content"].as_str().unwrap().is_empty());
}

fn signed(secret: &[u8], heard: &Heard) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).unwrap();
    let signed = format!("{}.{}.", heard.header("webhook-id"), heard.header("webhook-timestamp"));
    mac.update(signed.as_bytes());
    mac.update(&heard.body);
    format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn a_webhook_is_signed_keeps_its_order_and_outlives_an_outage_and_a_kill() {
    let at = crate::harness::free_address();
    let more = format!(
        "{AT_ONCE}[[elsewhere.webhook]]\nname = \"hook\"\nurl = \"http://{at}/in\"\nsecrets = [\"new\", \"whsec_b2xk\"]\n\
         wants = {{ from = \"SEV4\" }}\n"
    );
    let mut talking = Talking::start(&more).await;
    come_and_go(&talking).await;
    talking.again().await;
    // It comes back, and is broken once: the second try is the same delivery.
    let hook = Other::listening(&at, |_, number| match number {
        0 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => accepted(),
    })
    .await;
    let types = |heard: &[Heard]| -> Vec<String> {
        heard.iter().map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect()
    };
    hook.until(&talking, "the end", |heard| types(heard).contains(&"incident.reviewed".to_owned()).then_some(())).await;
    let heard = hook.heard.lock().unwrap();
    assert_eq!(heard[0].header("webhook-id"), heard[1].header("webhook-id"));
    let mut order = types(&heard);
    order.dedup();
    let wanted =
        ["opened", "diagnosed", "acknowledged", "resolved", "reviewed"].map(|phase| format!("incident.{phase}"));
    assert_eq!(order, wanted);
    let versions: Vec<i64> = heard.iter().skip(1).map(|one| one.json()["data"]["version"].as_i64().unwrap()).collect();
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order: {versions:?}");
    for one in heard.iter() {
        let signatures: Vec<&str> = one.header("webhook-signature").split(' ').collect();
        assert_eq!(signatures, [signed(b"new", one), signed(b"old", one)], "both secrets sign");
    }
}

#[tokio::test]
async fn a_follow_up_is_made_once_though_the_answer_was_lost_and_the_thread_learns_its_name() {
    let made: Arc<Mutex<Option<Value>>> = Arc::default();
    let known = made.clone();
    let tracker = Other::start(move |heard, _| {
        let mut made = known.lock().unwrap();
        match (heard.method.as_str(), made.as_ref()) {
            ("POST", None) => {
                *made = Some(heard.json()["fields"].clone());
                // It is made, and its answer is lost.
                StatusCode::BAD_GATEWAY.into_response()
            }
            ("POST", Some(_)) => panic!("made twice"),
            (_, Some(fields)) => {
                let label = fields["labels"][1].as_str().unwrap();
                assert!(
                    heard.path.contains(label) && heard.path.starts_with("/rest/api/3/search/jql?"),
                    "{}",
                    heard.path
                );
                answers(json!({"issues": [{"key": "OPS-12"}]}))
            }
            (_, None) => answers(json!({"issues": []})),
        }
    })
    .await;
    let more = format!(
        "{}[elsewhere.jira]\nurl = {:?}\nemail = \"watch@example.com\"\ntoken = \"t\"\nproject = \"OPS\"\n",
        people(&["local/you"]),
        tracker.url
    );
    let mut talking = Talking::start(&more).await;
    with_plan(&mut talking, Seeded::default()).await;
    let said = talking.ordered("you", "followup INC-1 give the pool a limit").await;
    assert!(said.contains("it goes to jira"), "{said}");
    talking.in_thread("INC-1", "OPS-12").await;
    let fields = made.lock().unwrap().clone().unwrap();
    assert_eq!(fields["summary"], "INC-1: give the pool a limit");
    assert_eq!(fields["project"]["key"], "OPS");
    assert!(fields["description"].as_str().unwrap().contains("you (local/you)"), "{fields}");
}

#[tokio::test]
async fn teams_gets_the_same_cards_to_read() {
    let teams = Other::start(|_, _| accepted()).await;
    let more =
        format!("{AT_ONCE}[[elsewhere.teams]]\nurl = \"{}/workflow\"\nwants = {{ from = \"SEV4\" }}\n", teams.url);
    let talking = Talking::start(&more).await;
    come_and_go(&talking).await;
    teams.until(&talking, "three cards", |heard| (heard.len() >= 3).then_some(())).await;
    let heard = teams.heard.lock().unwrap();
    for one in heard.iter() {
        let message = one.json();
        let attachment = &message["attachments"][0];
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        assert_eq!(attachment["content"]["type"], "AdaptiveCard");
        let text = message.to_string();
        assert!(!text.contains("Action.Submit") && !text.contains("Action.Execute") && !text.contains("Acknowledge"));
        assert!(text.contains("/incident/INC-1"), "{text}");
    }
    assert!(heard[0].json().to_string().contains("pay: Down"));
}

#[tokio::test]
async fn what_will_never_work_is_given_up_and_holds_nobody_up() {
    let broken = Other::start(|_, _| (StatusCode::BAD_REQUEST, "no such workflow").into_response()).await;
    let well = Other::start(|_, _| accepted()).await;
    let hook = |name: &str, url: &str| {
        format!(
            "[[elsewhere.webhook]]\nname = {name:?}\nurl = {url:?}\nsecrets = [\"s\"]\nwants = {{ from = \"SEV4\" }}\n"
        )
    };
    let more = format!("{AT_ONCE}{}{}", hook("broken", &broken.url), hook("well", &well.url));
    let mut talking = Talking::start(&more).await;
    come_and_go(&talking).await;
    well.until(&talking, "all that happened", |heard| (heard.len() >= 4).then_some(())).await;
    // The last of them may not be written down yet when it is stopped.
    talking.until("each to be tried", async || (broken.count() >= 5).then_some(())).await;
    let given_up = talking.rows("SELECT body FROM audit WHERE kind='delivery.failed'").await;
    assert!(given_up.len() >= 4 && given_up[0].contains("400 Bad Request: no such workflow"), "{given_up:?}");
}

#[tokio::test]
async fn what_one_incident_cannot_be_told_holds_no_other_up_and_is_said_in_the_chat() {
    let hook = Other::start(|heard, _| match heard.json()["data"]["incident"] == "INC-1" {
        true => (StatusCode::INTERNAL_SERVER_ERROR, "no such mapping").into_response(),
        false => accepted(),
    })
    .await;
    let more = format!(
        "{AT_ONCE}[[elsewhere.webhook]]\nname = \"hook\"\nurl = {:?}\nsecrets = [\"s\"]\nwants = {{ from = \"SEV4\" }}\n",
        hook.url
    );
    let talking = Talking::start(&more).await;
    talking.fire("pay").await;
    talking.in_thread("INC-1", "hook could not be told yet").await;
    talking.fire("search").await;
    talking.incident("INC-2", |incident| incident["state"] == "handed_over").await;
    let of_second = |heard: &[Heard]| heard.iter().any(|one| one.json()["data"]["incident"] == "INC-2").then_some(());
    hook.until(&talking, "the other incident", of_second).await;
}

#[tokio::test]
async fn pages_go_out_while_only_the_notes_of_a_pager_fail() {
    let pager = Other::start(|heard, _| match heard.path.as_str() {
        "/v2/enqueue" => accepted(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
    .await;
    let more = format!(
        "{AT_ONCE}[elsewhere]\nsource = \"here\"\n[[elsewhere.pagerduty]]\nrouting_key = \"R0\"\nevents_url = {0:?}\n\
         api_url = {0:?}\napi_token = \"t0k\"\nfrom_email = \"watch@example.com\"\nwants = {{ from = \"SEV4\" }}\n",
        pager.url
    );
    let talking = Talking::start(&more).await;
    talking.fire("pay").await;
    let asked =
        |heard: &[Heard]| (heard.iter().filter(|one| one.path.starts_with("/incidents")).count() >= 3).then_some(());
    pager.until(&talking, "notes that fail", asked).await;
    let before = pager.count();
    talking.fire("search").await;
    let triggered = |heard: &[Heard]| {
        let mut later = heard[before..].iter().filter(|one| one.path == "/v2/enqueue").map(Heard::json);
        later.any(|event| event["event_action"] == "trigger" && event["dedup_key"] == "here/INC-2").then_some(())
    };
    pager.until(&talking, "the page of the other", triggered).await;
}

fn of_team(service: &str, team: &str, severity: &str) -> Value {
    let mut alert = alert("Down", service);
    alert["labels"]["team"] = json!(team);
    alert["labels"]["severity"] = json!(severity);
    alert
}

/// Of what nobody gets up for.
fn of_staging(service: &str, team: &str) -> Value {
    let mut alert = of_team(service, team, "critical");
    alert["labels"]["environment"] = json!("staging");
    alert
}

#[tokio::test]
async fn incidents_are_told_where_their_team_reads() {
    let more = "[investigation]\nsettle_seconds = 600\n[[routing.route]]\nmatchers = 'team=\"payments\"'\nchannel = \"#pay\"\n\
                [[routing.route]]\nmatchers = 'service=~\"se.*\"'\nchannel = \"#search\"\n";
    let talking = Talking::start(more).await;
    talking.send(&[of_team("pay", "payments", "critical"), of_team("search", "web", "critical")]).await;
    talking.send(&[of_team("cart", "web", "critical")]).await;
    for (service, channel) in [("pay", "pay"), ("search", "search"), ("cart", "ops")] {
        let incident = talking
            .until("the incident", async || {
                talking.incidents().await.into_iter().find(|one| one["title"].as_str().unwrap().starts_with(service))
            })
            .await;
        talking.root(channel, incident["id"].as_str().unwrap()).await;
    }
    assert_eq!(talking.told("ops").await.len(), 1);
}

#[tokio::test]
async fn quiet_hours_hold_light_incidents_back_until_they_end_or_somebody_asks() {
    let now = chrono::Utc::now();
    let (start, end) = (now - chrono::Duration::hours(1), now + chrono::Duration::seconds(45));
    let more = format!(
        "{}[investigation]\nsettle_seconds = 600\n[routing]\ndigest = \"off\"\n[[routing.quiet]]\n\
         schedule = {{ once = {{ start = \"{}\", end = \"{}\" }} }}\n",
        people(&["local/you"]),
        start.to_rfc3339(),
        end.to_rfc3339()
    );
    let talking = Talking::start(&more).await;
    talking.send(&[of_staging("pay", "a"), of_staging("search", "b")]).await;
    let ids: Vec<String> = talking
        .until("two incidents", async || {
            let incidents = talking.incidents().await;
            (incidents.len() == 2).then(|| incidents.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect())
        })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(talking.told("ops").await.is_empty(), "it is quiet");
    // Somebody takes one: that one is told.
    talking.ordered("you", &format!("handover {} to local/you", ids[0])).await;
    talking.root("ops", &ids[0]).await;
    assert!(chrono::Utc::now() < end, "this machine is too slow for the test");
    talking.root("ops", &ids[1]).await;
    assert!(chrono::Utc::now() >= end, "the other is told when the quiet hours are over");
}

#[tokio::test]
async fn light_incidents_are_told_together() {
    let more = "[investigation]\nsettle_seconds = 600\n[routing]\ndigest = \"SEV3\"\ndigest_minutes = 1\n";
    let talking = Talking::start(more).await;
    // The first digest begins with the watch; what comes now is in the next.
    talking
        .until("the first digest's time", async || {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Some(())
        })
        .await;
    talking.send(&[of_staging("pay", "a"), of_staging("search", "b")]).await;
    talking.until("two incidents", async || (talking.incidents().await.len() == 2).then_some(())).await;
    let deadline = Instant::now() + Duration::from_secs(100);
    let digest = loop {
        let told = talking.told("ops").await;
        if let Some(card) = told.first() {
            assert_eq!(told.len(), 1, "{told:?}");
            break card.clone();
        }
        assert!(Instant::now() < deadline, "no digest");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(digest.contains("2 light incidents since the last digest"), "{digest}");
    assert!(digest.contains("INC-1") && digest.contains("INC-2"), "{digest}");
}
