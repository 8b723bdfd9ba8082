//! Silences through the API, in Alertmanager's shape; and the one that would mute everything.

use serde_json::{Value, json};

use crate::harness::{TOKEN, Watch, alert};
use crate::talking::Talking;

fn silence(name: &str, value: &str, regex: bool) -> Value {
    json!({
        "matchers": [{"name": name, "value": value, "isRegex": regex, "isEqual": true}],
        "startsAt": chrono::Utc::now().to_rfc3339(),
        "endsAt": (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339(),
        "createdBy": "a script", "comment": "load test",
    })
}

async fn call(watch: &Watch, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.request(method.parse().unwrap(), format!("{}{path}", watch.url));
    let answer = request.header("authorization", format!("Bearer {token}")).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn a_tool_silences_and_ends_it() {
    let watch = Watch::start("").await;
    let path = "/api/v1/silences";
    assert_eq!(call(&watch, "POST", path, "wrong", &silence("service", "noisy", false)).await.0, 401);
    let (status, made) = call(&watch, "POST", path, TOKEN, &silence("service", "noisy", false)).await;
    assert_eq!((status, &made["silenceID"]), (200, &json!("S1")), "{made}");
    watch.post(json!([alert("Down", "noisy"), alert("Down", "loud")]).to_string()).await;
    watch.incident("loud").await;
    assert!(!watch.incidents().await.iter().any(|incident| incident.to_string().contains("noisy")));

    assert_eq!(call(&watch, "DELETE", "/api/v1/silences/S1", "wrong", &Value::Null).await.0, 401);
    assert_eq!(call(&watch, "DELETE", "/api/v1/silences/S9", TOKEN, &Value::Null).await.0, 404);
    assert_eq!(call(&watch, "DELETE", "/api/v1/silences/S1", TOKEN, &Value::Null).await.0, 200);
    assert_eq!(call(&watch, "DELETE", "/api/v1/silences/S1", TOKEN, &Value::Null).await.0, 409);
    watch.post(json!([alert("Down", "noisy")]).to_string()).await;
    watch.incident("noisy").await;

    for (change, word) in [
        (json!({"comment": ""}), "comment"),
        (json!({"matchers": "all"}), "no silence"),
        (json!({"endsAt": "2020-01-01T00:00:00Z"}), "ends"),
        (json!({"endsAt": "2199-01-01T00:00:00Z"}), "30 days"),
        (json!({"id": "S1"}), "cannot be changed"),
    ] {
        let mut wrong = silence("service", "x", false);
        for (key, value) in change.as_object().unwrap() {
            wrong[key] = value.clone();
        }
        let (status, said) = call(&watch, "POST", path, TOKEN, &wrong).await;
        assert!(status == 400 && said["error"].as_str().unwrap().contains(word), "{word}: {status} {said}");
    }
}

#[tokio::test]
async fn one_that_mutes_everything_wants_to_be_confirmed() {
    let watch = Watch::start("").await;
    let path = "/api/v1/silences";
    let mut everything = silence("service", ".*", true);
    let (status, said) = call(&watch, "POST", path, TOKEN, &everything).await;
    assert_eq!(status, 409, "{said}");
    assert!(said["error"].as_str().unwrap().contains("nearly every alert would be silenced"), "{said}");
    assert!(said["remedy"].as_str().unwrap().contains("confirmed"), "{said}");
    assert_eq!(watch.get(path).await.1, "[]");
    everything["confirmed"] = json!(true);
    assert_eq!(call(&watch, "POST", path, TOKEN, &everything).await.0, 200);
    assert!(watch.get(path).await.1.contains("load test"));
}

#[tokio::test]
async fn the_confirmed_form_is_taken_in_chat_and_listed() {
    let talking = Talking::start("").await;
    let said = talking.asks("silence").await;
    assert!(said.contains("Nothing is silenced"), "{said}");
    let said = talking.asks("silence service=~\".*\" for 1h because quiet please").await;
    assert!(said.contains("end the command with `, confirmed`"), "{said}");
    let said = talking.asks("silence service=~\".*\" for 1h because quiet please, confirmed").await;
    assert!(said.contains("Silence S1"), "{said}");
    talking.fire("pay").await;
    talking
        .until("its verdict", async || talking.get("/api/v1/alerts/Down").await.contains("\"silenced\"").then_some(()))
        .await;
    assert_eq!(talking.incidents().await, Vec::<Value>::new());
    for command in ["silence", "silences"] {
        let said = talking.asks(command).await;
        assert!(said.contains("S1") && said.contains("quiet please"), "{said}");
    }
}

#[tokio::test]
async fn the_silence_of_an_incident_mutes_by_the_labels_that_its_alerts_have() {
    let talking = Talking::start("").await;
    let of_machine = |name: &str| {
        let mut alert = alert(name, "unused");
        alert["labels"].as_object_mut().unwrap().remove("service");
        alert["labels"]["instance"] = json!("db-7:9100");
        alert
    };
    talking.send(&[of_machine("HostDown")]).await;
    talking.incident("INC-1", |_| true).await;
    let said = talking.asks("silence INC-1 1h because a new disk").await;
    assert!(said.contains("Silence S1") && said.contains("instance=~") && said.contains("1 alerts heard"), "{said}");
    talking.send(&[of_machine("DiskFull")]).await;
    let muted = async || talking.get("/api/v1/alerts/DiskFull").await.contains("\"silenced\"").then_some(());
    talking.until("its verdict", muted).await;
}
