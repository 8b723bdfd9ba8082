//! Commands from the API, the command line and the page; and questions in words.

use serde_json::{Value, json};

use crate::harness::{midwatch, run_within};
use crate::model::{Reply, Scripted};
use crate::seeded::{CARD, Seeded, people, with_plan};
use crate::talking::Talking;

/// A cluster that is never reached: what is paused is not even tried.
const NOWHERE: &str = "[kubernetes]\nurl = \"http://127.0.0.1:9\"\ntoken = \"r\"\nwrite_token = \"w\"\n";

const APPROVERS: &str = "[\"local/you\", \"local/ada\"]";

async fn watch(more: &str) -> Talking {
    Talking::with_approvers(APPROVERS, &format!("{}{more}", people(&["local/ada", "local/guest"]))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_grammar_for_api_command_line_and_hints() {
    let talking = watch("").await;
    let (status, said) = talking.order("ada", "diagnoze checkout since=30m").await;
    assert_eq!(status, 422, "{said}");
    assert!(said["error"].as_str().unwrap().contains("did you mean diagnose checkout since=30m?"), "{said}");
    let (status, said) = talking.order("wrong", "status").await;
    assert_eq!(status, 401, "a token that is nobody's: {said}");
    let url = format!("http://{}/api/v1/ops", talking.api);
    let plain = talking.http.post(url).header("content-type", "text/plain").body("{\"text\": \"pause x\"}");
    assert_eq!(plain.send().await.unwrap().status(), 415, "what a page of another site can send is not taken");
    // Without a token it is nobody in particular: may look, may not instruct.
    assert!(talking.ordered("", "status").await.contains("0 open incidents"));
    assert!(talking.refused("", "resume").await.contains("policy.approvers does not name local/api"));
    let (status, said) = talking.order("ada", "audit INC-99").await;
    assert_eq!((status, said["error"].as_str()), (404, Some("INC-99 does not exist")));

    // Every example of the help is carried out, refused for a reason of the estate, or finds nothing: none
    // is misunderstood.
    let help = talking.json("/api/v1/ops").await;
    let commands = help["commands"].as_array().unwrap();
    assert!(commands.len() >= 20);
    for example in commands.iter().flat_map(|command| command["examples"].as_array().unwrap()) {
        let (status, said) = talking.order("ada", example.as_str().unwrap()).await;
        assert!([200, 403, 404].contains(&status), "{example}: {status} {said}");
    }
    let hints = talking.json("/api/v1/ops?text=incidents%20m").await;
    assert_eq!(hints["hints"][0]["text"], "incidents mine ");
    let page: Value = serde_json::from_str(&talking.page("/api/hints?text=unsil").await).unwrap();
    assert_eq!(page[0]["text"], "unsilence ", "{page}");

    let url = format!("http://{}", talking.api);
    let line = |words: &[&str]| {
        let mut command = midwatch();
        command.args(["ops", "--url", &url, "--token", "ada"]).args(words);
        tokio::task::block_in_place(|| run_within(command, std::time::Duration::from_secs(60)))
    };
    let ended = line(&["incidents", "mine"]).expect(0);
    assert!(ended.stdout.contains("incidents of yours"), "{}", ended.stdout);
    let ended = line(&["incidens"]).expect(1);
    assert!(ended.stderr.contains("did you mean incidents?"), "{}", ended.stderr);
    let ended = line(&["--hints", "paus"]).expect(0);
    assert_eq!(ended.stdout, "pause \n");
    let ended = line(&["--json", "status"]).expect(0);
    assert_eq!(ended.report()["by"], "local/ada");
    let ended = line(&["help", "silence"]).expect(0);
    assert!(ended.stdout.contains("Also called mute"), "{}", ended.stdout);
    let mut nowhere = midwatch();
    nowhere.args(["ops", "--url", "http://127.0.0.1:9", "status"]);
    let ended = tokio::task::block_in_place(|| run_within(nowhere, std::time::Duration::from_secs(60))).expect(2);
    assert!(ended.stderr.contains("does not answer; is the watch running?"), "{}", ended.stderr);
}

#[tokio::test]
async fn notes_have_an_author_stay_unverified_and_can_be_taken_back() {
    let mut talking = watch("").await;
    let note = "remember the zebra importer of the nightly batch makes cart slow until 03:00 service=cart";
    assert!(talking.refused("guest", note).await.contains("may not remember here"));
    let said = talking.ordered("ada", note).await;
    assert!(said.contains("Remembered as N1, unverified"), "{said}");
    let said = talking.ordered("guest", "runbook zebra importer nightly batch").await;
    assert!(said.contains("note of ada (local/ada), not verified: the zebra importer"), "{said}");
    talking.again().await;
    let said = talking.ordered("guest", "runbook zebra importer nightly batch").await;
    assert!(said.contains("the zebra importer"), "it outlives a restart: {said}");
    assert!(talking.refused("ada", "forget N7").await.contains("neither a note nor an incident; notes are N1"));
    assert!(talking.ordered("ada", "forget n1").await.contains("Forgotten: N1"));
    let said = talking.ordered("guest", "runbook zebra importer nightly batch").await;
    assert!(!said.contains("zebra"), "{said}");
    let trail = talking.rows("SELECT kind || ' ' || subject FROM audit WHERE kind LIKE 'note.%' ORDER BY seq").await;
    assert_eq!(trail, ["note.remembered local/ada", "note.forgotten local/ada"]);
}

#[tokio::test]
async fn a_pause_holds_where_it_was_set_and_stops_what_was_approved() {
    let mut talking = watch(NOWHERE).await;
    with_plan(&mut talking, Seeded::default()).await;
    // Anybody may stop it.
    let said = talking.ordered("guest", "pause ns=shop the migration runs").await;
    assert!(said.contains("PAUSED for ns=shop"), "{said}");
    let said = talking.ordered("guest", "pause service=\"pay-db\" stop the failover").await;
    assert!(said.contains("PAUSED for service=pay-db: nothing will be executed. Reason: stop the failover"), "{said}");
    let said = talking.ordered("ada", "status").await;
    assert!(said.contains("PAUSED (ns=shop): the migration runs (guest)"), "{said}");
    assert!(said.contains("PAUSED (service=pay-db)"), "{said}");
    assert!(talking.refused("guest", "resume ns=shop").await.contains("may not resume here"));
    talking.ordered("ada", &format!("approve {CARD}")).await;
    talking.in_thread("INC-1", "midwatch is paused: ns=shop: the migration runs (guest)").await;
    let said = talking.ordered("ada", "explain INC-1.P1").await;
    assert!(said.contains("voided") && said.contains("midwatch is paused: ns=shop"), "{said}");
    assert!(talking.ordered("ada", "resume").await.contains("Resumed"));
    assert!(talking.ordered("ada", "status").await.contains("not paused"), "resume all means all");
}

#[tokio::test]
async fn autonomy_is_taken_back_also_where_nothing_was_done_and_under_one_name_of_the_cluster() {
    let cluster =
        "[kubernetes]\ncluster = \"eu-1\"\nurl = \"http://127.0.0.1:9\"\ntoken = \"r\"\nwrite_token = \"w\"\n";
    let mut talking = watch(cluster).await;
    let said = talking.ordered("guest", "autonomy demote web restart").await;
    assert!(said.contains("restart of web waits for people from now on") && said.contains("never done here"), "{said}");
    let kept = talking.rows("SELECT value FROM setting WHERE name='autonomy'").await;
    let lines: serde_json::Value = serde_json::from_str(&kept[0]).unwrap();
    assert_eq!(lines.as_array().unwrap().len(), 1, "{lines}");
    assert_eq!((&lines[0]["subject"]["cluster"], &lines[0]["mode"]), (&"eu-1".into(), &"approve".into()), "{lines}");
}

#[tokio::test]
async fn a_pause_for_what_nothing_is_called_stops_everything() {
    let mut talking = watch(NOWHERE).await;
    with_plan(&mut talking, Seeded::default()).await;
    let said = talking.ordered("guest", "pause service=pya-db stop the failover").await;
    assert!(said.contains("PAUSED: nothing will be executed"), "{said}");
    assert!(said.contains("I know no service \"pya-db\", so everything is stopped"), "{said}");
    assert!(said.contains("/ops pause service=pay-db stop the failover"), "{said}");
    talking.ordered("ada", &format!("approve {CARD}")).await;
    talking.in_thread("INC-1", "midwatch is paused: stop the failover").await;
}

#[tokio::test]
async fn a_question_about_a_service_becomes_an_investigation() {
    let talking = watch("[investigation]\nsettle_seconds = 600\n").await;
    let said = talking.ordered("guest", "diagnose checkout").await;
    assert!(said.contains("no metrics are configured") && said.contains("no investigation is begun"), "{said}");
    assert!(talking.incidents().await.is_empty());
    let said = talking.ordered("ada", "diagnose checkout since=1h").await;
    assert!(said.contains("INC-1 is opened for checkout"), "{said}");
    // It is looked at at once, and closes with its answer: nothing has alerted.
    let page = talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    assert_eq!(page["title"], "checkout: asked for by ada");
    let said = talking.ordered("ada", "audit INC-1").await;
    assert!(said.contains("it was asked for, and is answered"), "{said}");
    // An incident that is open is pointed to instead.
    talking.fire("search").await;
    talking.incident("INC-2", |_| true).await;
    let said = talking.ordered("ada", "diagnose search").await;
    assert!(said.contains("INC-2 is about it"), "{said}");
    let said = talking.ordered("guest", "risk search").await;
    assert!(
        said.contains("Touching search now: high risk") && said.contains("an incident about it is open (INC-2)"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_kept_for_later_is_in_the_log() {
    let mut talking = watch("").await;
    with_plan(&mut talking, Seeded::default()).await;
    let said = talking.ordered("ada", "followup INC-1 give the pool a limit").await;
    assert!(said.contains("Follow-up 1 of INC-1: it is kept with the incident; no tracker is configured"), "{said}");
    talking.in_thread("INC-1", "give the pool a limit").await;
    let noted = talking.rows("SELECT body FROM incident_event WHERE kind='noted'").await;
    assert!(noted[0].contains("follow-up: give the pool a limit") && noted[0].contains("local/ada"), "{noted:?}");
}

#[tokio::test]
async fn an_incident_can_have_a_channel_of_its_own() {
    let mut talking = watch("").await;
    with_plan(&mut talking, Seeded::default()).await;
    talking.root("ops", "INC-1").await;
    assert!(talking.refused("guest", "channel INC-1").await.contains("may not channel here"));
    assert!(talking.refused("ada", "channel INC-1 archive").await.contains("has no channel to archive"));
    talking.ordered("ada", "channel INC-1").await;
    let own = "inc-1-pay-down";
    talking.root(own, "INC-1").await;
    talking.in_thread("INC-1", "has a channel of its own: #inc-1-pay-down").await;
    assert!(talking.ordered("ada", "channel INC-1").await.contains("has its channel already"));
    // What is said there is about the incident.
    talking.says(own, None, "why not pay-db?", "its connections are used up").await;
    talking.ordered("ada", "channel INC-1 invite @ada").await;
    talking.ordered("ada", "channel INC-1 archive").await;
    talking
        .until("the end of the channel", async || {
            talking.told(own).await.iter().any(|card| card.contains("is archived")).then_some(())
        })
        .await;
}

#[tokio::test]
async fn questions_in_a_thread_are_answered_without_a_model_and_words_decide_nothing() {
    let mut talking = watch("").await;
    with_plan(&mut talking, Seeded::default()).await;
    let root = talking.root("ops", "INC-1").await;
    let asks = async |text: &str, wanted: &str| talking.says("ops", Some(&root), text, wanted).await;
    asks("why not pay-db?", "its statements are as fast as before").await;
    asks("why not the database?", "against: ").await;
    asks("who approved this?", "INC-1.P1: scale").await;
    asks("which alerts?", "Down about pay").await;
    asks("status?", "Waiting for approval").await;
    asks("what changed in the last hour?", "What changed in the last 1 h").await;
    // Asked now, and not what was seen when it was investigated.
    asks("what changed?", "What changed in the last 6 h, asked at ").await;
    asks("who is on call?", "Nobody has it").await;
    asks("please approve the plan", "Words decide nothing here").await;
    asks("tell me a joke", "No model is configured").await;
    asks(&format!("approve {CARD}"), "Words decide nothing here").await;
    let still = talking.ordered("ada", "explain INC-1.P1").await;
    assert!(still.contains("(proposed, digest 0a1b2c3d4e5f)"), "{still}");
    // Elsewhere the same words are about the estate, and commands are understood without their mark.
    talking.says("ops", None, "what is going on?", "open incidents").await;
    talking.says("ops", None, "incidents", "INC-1").await;
}

#[tokio::test]
async fn orders_are_understood_in_a_thread_without_their_mark() {
    let mut talking = watch("").await;
    with_plan(&mut talking, Seeded::default()).await;
    let root = talking.root("ops", "INC-1").await;
    let says = async |text: &str, wanted: &str| talking.says("ops", Some(&root), text, wanted).await;
    says("pause everything", "PAUSED: nothing will be executed. Reason: no reason given").await;
    assert!(talking.ordered("ada", "status").await.contains("PAUSED"));
    says("resume everything", "Resumed").await;
    says("silence service=pay", "a silence needs a time").await;
    says("I have it", "INC-1 is yours now").await;
    talking.incident("INC-1", |incident| incident["owner"] == "local/you").await;
    says("handover INC-1 to ada, because my shift ends", "INC-1 is local/ada").await;
    talking.incident("INC-1", |incident| incident["owner"] == "local/ada").await;
}

#[tokio::test]
async fn a_model_answers_with_what_it_can_prove() {
    let conclusion = json!({
        "service": null, "change": null, "mechanism": "pay has nobody before it", "remedy": "none",
        "claims": [
            {"text": "the runbook looks at connections first", "evidence": ["E2"]},
            {"text": "pay alerts", "evidence": ["E1"]},
            {"text": "pay fails 97 % of requests", "evidence": ["E1", "E2"]},
            {"text": "the moon is full", "evidence": ["E9"]},
        ],
        "ruled_out": [], "confidence": 0.5, "needs": "metrics of pay",
    });
    let model = Scripted::start(vec![
        Reply::Calls(vec![("search_runbooks", json!({"query": "too many connections"}))]),
        Reply::Calls(vec![("conclude", conclusion)]),
    ])
    .await;
    let config = format!("[model]\nname = \"scripted\"\nbase_url = {:?}\n", model.url);
    let mut talking = watch(&config).await;
    with_plan(&mut talking, Seeded::default()).await;
    let root = talking.root("ops", "INC-1").await;
    let said = talking.says("ops", Some(&root), "compare pay with its neighbours for me", "answered by scripted").await;
    assert!(said.contains("the runbook looks at connections first") && said.contains("\"TALK-"), "{said}");
    // What the incident had already keeps its mark, and no other evidence has it.
    assert!(said.contains("pay alerts") && said.matches("INC-1.E1").count() == 1, "{said}");
    assert_eq!(said.matches("TALK-").count(), 1, "{said}");
    assert!(!said.contains("97 %") && !said.contains("moon"), "{said}");
    assert!(said.contains("2 claims were dropped") && said.contains("metrics of pay"), "{said}");
    let brief = model.asked()[0]["messages"].to_string();
    assert!(brief.contains("compare pay with its neighbours for me") && brief.contains("INC-1: pay: Down"), "{brief}");
    assert!(brief.contains("its connections are used up"), "the candidates are known: {brief}");
    let (evidence, steps) = (
        talking.rows("SELECT id FROM evidence WHERE incident LIKE 'TALK-%'").await,
        talking.rows("SELECT body FROM incident_event WHERE kind='reasoned'").await,
    );
    assert!(evidence.len() == 1 && evidence[0].ends_with(".E2"), "{evidence:?}");
    assert!(steps.iter().all(|step| step.contains("conversation with you")) && steps.len() == 3, "{steps:?}");
}

#[tokio::test]
async fn only_people_with_authority_make_a_model_work() {
    let model = Scripted::start(vec![Reply::Text("never asked")]).await;
    let config = format!("[model]\nname = \"scripted\"\nbase_url = {:?}\n", model.url);
    let talking = Talking::with_approvers("[\"local/ada\"]", &config).await;
    talking
        .says("ops", None, "tell me all about the estate", "Free questions are for people who may instruct me")
        .await;
    assert!(model.asked().is_empty());
    talking.says("ops", None, "look again", "say it in an incident").await;
}
