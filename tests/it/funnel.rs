//! From noise to news: the same figures in the API, in chat, on the page and in the metrics.

use serde_json::{Value, json};

use crate::harness::alert;
use crate::talking::Talking;

async fn metric(talking: &Talking, name: &str) -> Option<f64> {
    let text = talking.get("/metrics").await;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn the_funnel_is_the_same_wherever_it_is_asked_for() {
    let talking = Talking::start("").await;
    let (down, mut quiet) = (alert("Down", "pay"), alert("Whisper", "pay"));
    quiet["labels"]["severity"] = json!("info");
    talking.send(&[down.clone(), quiet]).await;
    talking.send(&[down.clone(), down]).await;
    let funnel = talking
        .until("a message about the incident", async || {
            let funnel = talking.json("/api/v1/funnel?since=24h").await;
            (funnel["notified"] == 1 && funnel["raw"] == 4).then_some(funnel)
        })
        .await;
    assert_eq!((&funnel["unique"], &funnel["admitted"], &funnel["incidents"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(funnel["convergence"], 0.75, "{funnel}");
    let reasons = funnel["by_reason"].as_array().unwrap();
    let count = |reason: &str| reasons.iter().find(|one| one["reason"] == reason).map(|one| one["count"].clone());
    assert_eq!((count("duplicate"), count("below_severity_floor")), (Some(json!(2)), Some(json!(1))), "{funnel}");
    assert_eq!(talking.json("/api/v1/funnel").await["raw"], 4);
    assert!(talking.get("/api/v1/funnel?since=ages").await.contains("no span of time"));

    for (name, value) in [("raw_total", 4.0), ("unique_total", 2.0), ("admitted_total", 1.0), ("notified_total", 1.0)] {
        assert_eq!(metric(&talking, &format!("midwatch_funnel_{name}")).await, Some(value), "{name}");
    }
    assert_eq!(metric(&talking, "midwatch_funnel_convergence_ratio").await, Some(0.75));

    let status: Value = serde_json::from_str(&talking.page("/api/status").await).unwrap();
    let stages: Vec<(&str, u64)> = status["funnel"]["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| (stage["name"].as_str().unwrap(), stage["count"].as_u64().unwrap()))
        .collect();
    let wanted = [("raw", 4), ("unique", 2), ("admitted", 1), ("incidents", 1), ("notified", 1)];
    assert_eq!(stages, wanted, "{status}");
    assert!(status["facts"].to_string().contains("75.00 % fewer messages"), "{status}");
    assert!(talking.page("/watch/funnel.svg").await.contains("notified"));

    let said = talking.asks("status").await;
    for words in [
        "last 24 h: 4 alerts came in; 2 of them were news, 1 were admitted",
        "left out: 1 below severity floor",
        "told in 1 message: 75.00 % fewer than alerts",
        "shadow: 299 labelled incidents are missing until the forest may suppress",
        "no muted alert has been shown to people yet",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
}

#[tokio::test]
async fn each_alert_is_explained_with_its_reasons() {
    let talking = Talking::start("").await;
    let down = alert("Down", "pay");
    talking.send(std::slice::from_ref(&down)).await;
    let told = talking
        .until("a verdict", async || {
            let told = talking.json("/api/v1/alerts/Down").await;
            told["verdicts"].is_array().then_some(told)
        })
        .await;
    let verdict = &told["verdicts"][0];
    assert_eq!((&verdict["verdict"], &verdict["reason"]), (&json!("admit"), &json!("opened")), "{told}");
    assert_eq!((&verdict["incident"], &verdict["subject"]), (&json!("INC-1"), &json!("pay")), "{told}");
    assert!(!verdict["explanation"].as_str().unwrap().is_empty(), "{told}");

    talking.send(&[down.clone(), down]).await;
    let fingerprint = verdict["fingerprint"].as_str().unwrap();
    talking
        .until("repeats", async || {
            let told = talking.json(&format!("/api/v1/alerts/{fingerprint}")).await;
            (told["sent_again"]["times"] == 2).then_some(())
        })
        .await;
    assert!(talking.get("/api/v1/alerts/Nothing").await.contains("the ledger holds no alert"));
}
