//! What people label, what the prefilter makes of it, and the sample of what was muted.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};

use crate::harness::alert;
use crate::talking::Talking;

/// A warning about a service of its own.
fn warning(name: &str, service: &str, ago: Duration) -> Value {
    let mut warning = alert(name, service);
    warning["labels"]["severity"] = json!("warning");
    warning["startsAt"] = json!((Utc::now() - ago).to_rfc3339());
    warning
}

/// As many alerts as the forest wants to have seen, over some hours.
async fn past(talking: &Talking, count: u64) {
    let past: Vec<Value> = (0..count)
        .map(|at| warning("Slow", &format!("old-{}", at % 7), Duration::from_secs(6 * 3600 - at * 400)))
        .map(|mut alert| {
            alert["labels"]["pod"] = json!(alert["startsAt"]);
            alert
        })
        .collect();
    talking.send(&past).await;
    talking
        .until("the past", async || {
            let funnel = talking.json("/api/v1/funnel").await;
            (funnel["raw"].as_u64() >= Some(count)).then_some(())
        })
        .await;
}

const EASY: &str = "[prefilter]\nanomaly_min_history = 20\nmax_missed = 0.6\nconfidence = 0.5\naudit_share = 0.0\n";

#[tokio::test]
async fn labels_calibrate_the_prefilter_and_outlive_a_restart() {
    let mut talking = Talking::start(EASY).await;
    past(&talking, 40).await;
    talking.fire("pay").await;
    let incident = talking
        .until("an incident of pay", async || {
            talking.incidents().await.into_iter().find(|one| one["title"].as_str().unwrap().starts_with("pay"))
        })
        .await;
    let id = incident["id"].as_str().unwrap().to_owned();
    assert!(talking.asks("status").await.contains("shadow: 1 labelled incidents are missing"));

    // Somebody takes it: it was real.
    let card = talking.with_button("acknowledge", &id).await;
    talking.press(&card, "acknowledge", &id, None).await;
    let calibrated = talking
        .until("a threshold", async || {
            let report = talking.json("/api/v1/funnel").await;
            report["prefilter"]["threshold"].is_number().then_some(report)
        })
        .await;
    let mode = calibrated["prefilter"]["mode"].as_str().unwrap();
    assert!(mode.starts_with("calibrated: threshold -0."), "{mode}");
    assert!(mode.ends_with("at most 60 % missed at 50 %, from 1 labelled incidents"), "{mode}");

    talking.again().await;
    assert!(talking.asks("status").await.contains(mode), "after a restart");

    // A later word replaces the earlier one.
    let said = talking.asks(&format!("noise {id} because a test of ours")).await;
    assert!(said.contains(&format!("Kept: {id} was not an incident (a test of ours)")), "{said}");
    assert!(said.contains("learns from it (score -0."), "{said}");
    let report = talking.json("/api/v1/funnel").await;
    assert_eq!((&report["prefilter"]["threshold"], &report["prefilter"]["missing"]), (&Value::Null, &json!(1)));
    let root = talking
        .until("the word on the card", async || {
            let root = talking.messages().await.into_iter().find(|message| message["ts"] == card.as_str())?;
            root.to_string().contains("Not an incident, says").then_some(root)
        })
        .await;
    assert!(!root.to_string().contains("not_an_incident"), "it was pressed already: {root}");
    let said = talking.asks(&format!("noise {id}")).await;
    assert!(said.contains("noise needs a reason"), "{said}");
    let labels =
        talking.rows("SELECT key || ' ' || kind || ' ' || real || ' ' || person || ' ' || because FROM label").await;
    assert_eq!(labels, [format!("{id} incident 0 local/you a test of ours")]);
}

/// All that the forest can score is suppressed, and all of that is drawn.
const HARSH: &str = "[prefilter]\nanomaly_mode = \"fixed\"\nanomaly_threshold = -1.0\nanomaly_min_history = 20\n\
                     audit_share = 1.0\naudit_per_day = 3\n";

fn questions(messages: &[Value]) -> Vec<&Value> {
    messages
        .iter()
        .filter(|one| one["card"]["fallback"].as_str().unwrap().starts_with("Was this rightly muted?"))
        .collect()
}

#[tokio::test]
async fn a_sample_of_the_muted_is_shown_and_its_answers_are_the_miss_rate() {
    let mut talking = Talking::start(HARSH).await;
    // Just enough, so that none of it is suppressed itself.
    past(&talking, 20).await;
    let muted: Vec<Value> =
        (0..5).map(|at| warning(&format!("Odd{at}"), &format!("odd-{at}"), Duration::ZERO)).collect();
    talking.send(&muted).await;
    talking.until("questions", async || (questions(&talking.messages().await).len() == 3).then_some(())).await;
    // The limit of the day stands, also after a restart.
    talking.again().await;
    talking.send(&[warning("OddAgain", "odd-again", Duration::ZERO)]).await;
    talking
        .until("its verdict", async || {
            talking.get("/api/v1/alerts/OddAgain").await.contains("not_anomalous").then_some(())
        })
        .await;
    let messages = talking.messages().await;
    let asked = questions(&messages);
    assert_eq!(asked.len(), 3, "{asked:?}");
    let text = asked[0].to_string();
    assert!(text.contains("looks like a quiet day"), "the reason is there: {text}");

    let ts = |at: usize| asked[at]["ts"].as_str().unwrap().to_owned();
    let key = |at: usize| {
        let blocks = asked[at]["card"]["blocks"].as_array().unwrap();
        let buttons = blocks.iter().find_map(|block| block["buttons"].as_array()).unwrap();
        buttons[0]["value"].as_str().unwrap().to_owned()
    };
    talking.press(&ts(0), "rightly_muted", &key(0), None).await;
    talking.press(&ts(1), "should_have_woken", &key(1), None).await;
    let audit = talking
        .until("two answers", async || {
            let audit = talking.json("/api/v1/funnel").await["audit"].clone();
            (audit["answered"] == 2).then_some(audit)
        })
        .await;
    assert_eq!((&audit["shown"], &audit["missed"], &audit["rate"]), (&json!(3), &json!(1), &json!(0.5)), "{audit}");
    assert!(audit["upper"].as_f64().unwrap() > 0.9, "two answers prove little: {audit}");
    talking
        .until("the answer on the card", async || {
            let messages = talking.messages().await;
            let card = messages.iter().find(|one| one["ts"] == ts(1).as_str())?;
            card.to_string().contains("it should have woken us").then_some(())
        })
        .await;
    // What was whispered to a click before may come in between.
    talking
        .until("the miss rate in the status", async || {
            let said = talking.asks("status").await;
            said.contains("of 3 muted alerts that people were asked about they answered 2; 1 should").then_some(())
        })
        .await;
    let metrics = talking.get("/metrics").await;
    assert!(metrics.contains("midwatch_audit_missed_ratio 0.5\n"), "{metrics}");

    // People change their minds; the newest word counts.
    talking.press(&ts(1), "rightly_muted", &key(1), None).await;
    talking
        .until("a changed answer", async || {
            (talking.json("/api/v1/funnel").await["audit"]["missed"] == 0).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_kind_that_passes_by_itself_is_taken_less_seriously() {
    let talking = Talking::start("[investigation]\nsettle_seconds = 0\n").await;
    let newest = async || talking.incidents().await.into_iter().max_by_key(|one| one["id"].as_str().map(str::to_owned));
    for round in 0..6 {
        let mut firing = alert("Errors", "pay");
        // A firing of its own each time: the same start would be a repeat.
        firing["startsAt"] = json!((Utc::now() - Duration::from_secs(60 - round)).to_rfc3339());
        talking.send(std::slice::from_ref(&firing)).await;
        let opened = talking
            .until("an incident that nobody can act on", async || {
                newest().await.filter(|one| {
                    let number = one["id"].as_str().and_then(|id| id.strip_prefix("INC-")?.parse::<u64>().ok());
                    number == Some(round + 1) && one["state"] == "handed_over"
                })
            })
            .await;
        let (severity, because) = (opened["severity"].as_str().unwrap(), opened["severity_because"].to_string());
        match round {
            0..5 => assert_eq!(severity, "SEV3", "round {round}: {because}"),
            _ => assert_eq!(
                (severity, because.contains("5 of 5 such incidents ended by themselves")),
                ("SEV4", true),
                "{because}"
            ),
        }
        firing["status"] = json!("resolved");
        firing["endsAt"] = json!(Utc::now().to_rfc3339());
        talking.send(&[firing]).await;
        talking.until("its end", async || newest().await.filter(|one| one["state"] == "resolved")).await;
    }
}

#[tokio::test]
async fn what_waits_to_last_or_for_company_waits_on_after_a_restart() {
    let debounce = "[[prefilter.debounce]]\nmatchers = 'alertname=\"Brief\"'\nfor_seconds = 6\n";
    let mut talking = Talking::start(debounce).await;
    // Held back until it has fired for six seconds; a lone warning that has waited for nearly ten minutes;
    // and one of each that has ended by the time of the restart.
    let lasting = alert("Brief", "pay");
    let mut ended = alert("Brief", "cart");
    let lone = warning("Slow", "search", Duration::from_secs(596));
    let mut gone = warning("Slow", "mail", Duration::from_secs(596));
    talking.send(&[lasting, ended.clone(), lone, gone.clone()]).await;
    for end in [&mut ended, &mut gone] {
        end["status"] = json!("resolved");
        end["endsAt"] = json!(Utc::now().to_rfc3339());
    }
    talking.send(&[ended, gone]).await;
    talking.until("all verdicts", async || (talking.json("/api/v1/funnel").await["raw"] == 4).then_some(())).await;
    talking.again().await;
    let titles = talking
        .until("two incidents", async || {
            let incidents = talking.incidents().await;
            let mut titles: Vec<String> =
                incidents.iter().map(|one| one["title"].as_str().unwrap().to_owned()).collect();
            titles.sort();
            (titles.len() >= 2).then_some(titles)
        })
        .await;
    assert_eq!(titles, ["pay: Brief", "search: Slow"]);
}
