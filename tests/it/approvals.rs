//! Who may decide on plans, how often, until when, and what those who come late are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::serve;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use midwatch::domain::incident::Sev;
use serde_json::{Value, json};

use crate::model::{Reply, Scripted};
use crate::seeded::{CARD, Seeded, people, with_plan};
use crate::talking::Talking;

const APPROVERS: &str = "[\"local/you\", \"local/ada\", \"local/bob\", \"local/rita\"]";

fn four() -> String {
    people(&["local/ada", "local/bob", "local/rita", "local/guest"])
}

#[tokio::test]
async fn two_people_decide_once_and_who_asked_does_not_count() {
    let mut talking = Talking::with_approvers(APPROVERS, &four()).await;
    let two = Seeded { approvals: 2, requester: Some("local/rita"), ..Seeded::default() };
    with_plan(&mut talking, two).await;
    let approve = format!("approve {CARD}");

    let said = talking.refused("guest", &approve).await;
    assert!(said.contains("policy.approvers does not name local/guest"), "{said}");
    let said = talking.refused("rita", &approve).await;
    assert!(said.contains("you asked for this plan") && said.contains("0 of 2"), "{said}");
    let said = talking.refused("ada", "approve INC-1.P1.ffffffffffff").await;
    assert!(said.contains("the plan has changed"), "{said}");

    // Fifty clicks of two people at once: two votes, one decision.
    let clicks = (0..50).map(|number| {
        let (who, approve, talking) = (if number % 2 == 0 { "ada" } else { "bob" }, approve.as_str(), &talking);
        async move { talking.order(who, approve).await }
    });
    let answers = futures::future::join_all(clicks).await;
    let count = |word: &str| answers.iter().filter(|(_, said)| said.to_string().contains(word)).count();
    assert_eq!((count("approved; it runs now"), count("your vote counts: 1 of 2: @")), (1, 1), "{answers:?}");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 2, "{answers:?}");
    assert_eq!(count("your vote is already counted") + count("already approved by"), 48, "{answers:?}");

    let said = talking.refused("rita", &approve).await;
    let by = said.contains("already approved by @ada, @bob ") || said.contains("already approved by @bob, @ada ");
    assert!(by && said.split_whitespace().any(|word| word.len() >= 5 && word.as_bytes()[2] == b':'), "{said}");
    let said = talking.refused("rita", &format!("reject {CARD} because too late")).await;
    assert!(said.contains("already approved by"), "{said}");

    let votes = talking.rows("SELECT person || ' ' || decision FROM vote ORDER BY person").await;
    assert_eq!(votes, ["local/ada approve", "local/bob approve"]);
    let decided = talking.rows("SELECT kind FROM incident_event WHERE kind IN ('plan_approved', 'voted')").await;
    assert_eq!(decided.iter().filter(|kind| *kind == "plan_approved").count(), 1, "{decided:?}");
    assert_eq!(decided.iter().filter(|kind| *kind == "voted").count(), 2, "{decided:?}");
    let refused = talking.rows("SELECT body FROM audit WHERE kind='approval.refused'").await;
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[tokio::test]
async fn whoever_has_approved_may_still_reject() {
    let mut talking = Talking::with_approvers(APPROVERS, &four()).await;
    with_plan(&mut talking, Seeded { approvals: 2, ..Seeded::default() }).await;
    let approve = format!("approve {CARD}");
    assert!(talking.ordered("bob", &approve).await.contains("your vote counts: 1 of 2"));
    assert!(talking.refused("bob", &approve).await.contains("your vote is already counted"), "an approval counts once");
    let said = talking.ordered("bob", &format!("reject {CARD} because wrong region")).await;
    assert!(said.contains("rejected; nothing will be changed"), "{said}");
    let said = talking.refused("ada", &approve).await;
    assert!(said.contains("already rejected by @bob") && said.contains("wrong region"), "{said}");
    let said = talking.ordered("ada", "audit INC-1").await;
    assert!(said.contains("wrong region"), "the reason is in the log: {said}");
    let votes = talking.rows("SELECT person || ' ' || decision FROM vote ORDER BY person").await;
    assert_eq!(votes, ["local/bob approve"], "one row a person: {votes:?}");
    let decided =
        talking.rows("SELECT kind FROM incident_event WHERE kind IN ('plan_approved', 'plan_rejected')").await;
    assert_eq!(decided, ["plan_rejected"]);
}

#[tokio::test]
async fn the_card_says_who_is_missing_and_the_page_that_anybody_may_be_is_no_second_person() {
    let mut talking = Talking::with_approvers(APPROVERS, &four()).await;
    with_plan(&mut talking, Seeded { approvals: 2, ..Seeded::default() }).await;
    talking.ordered("ada", &format!("approve {CARD}")).await;
    let card = talking.in_thread("INC-1", "\"1 of 2\"").await;
    assert!(card.contains("\"id\":\"local/ada\""), "{card}");
    assert!(card.contains(&format!("\"value\":\"{CARD}\"")), "{card}");
    let said = talking.ordered("bob", "explain INC-1.P1").await;
    assert!(said.contains("local/ada votes approve") && said.contains("high risk needs people"), "{said}");
    let ts = talking.root("ops", "INC-1").await;
    talking.press(&ts, "approve", CARD, None).await;
    // Whispered where it was pressed.
    let refused = async || {
        let mut told = talking.told("ops").await;
        told.extend(talking.replies("ops", &ts).await);
        told.into_iter().find(|card| card.contains("the chat page asks nobody who they are"))
    };
    talking.until("the refusal", refused).await;
    talking.ordered("bob", &format!("approve {CARD}")).await;
    talking.in_thread("INC-1", "Approved by ").await;
    let said = talking.ordered("bob", "audit INC-1").await;
    assert!(said.contains("approved by local/ada, local/bob") && said.contains("The audit chain is whole"), "{said}");
}

#[tokio::test]
async fn people_are_reminded_and_called_before_it_is_too_late() {
    let more = format!(
        "approval_seconds = 24\n{}[[escalation]]\nmatchers = 'team=\"payments\"'\nevery_seconds = 3\n\
         steps = [\"local/ada\", \"local/bob\"]\n",
        four()
    );
    let mut talking = Talking::with_approvers(APPROVERS, &more).await;
    with_plan(&mut talking, Seeded { expires_in: Duration::from_secs(24), ..Seeded::default() }).await;
    let called = talking.in_thread("INC-1", "step 1 of 2").await;
    assert!(called.contains("local/ada"), "{called}");
    let called = talking.in_thread("INC-1", "step 2 of 2").await;
    assert!(called.contains("local/bob"), "{called}");
    let reminder = talking.in_thread("INC-1", "runs out in").await;
    assert!(reminder.contains("0 of 1 given") && reminder.contains("local/"), "{reminder}");
    let over = talking.in_thread("INC-1", "Nobody decided in time. The incident is in").await;
    assert!(over.contains("local/bob"), "whom the path named last has it: {over}");
    let said = talking.refused("ada", &format!("approve {CARD}")).await;
    assert!(said.contains("too late: it expired ") && said.contains("handed to people"), "{said}");
    let kinds =
        talking.rows("SELECT kind FROM incident_event WHERE kind IN ('plan_reminded','plan_expired','called')").await;
    let count = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((count("plan_reminded"), count("plan_expired"), count("called")), (1, 1, 2), "{kinds:?}");
}

#[tokio::test]
async fn whoever_takes_it_is_called_no_more() {
    let more = format!("{}[[escalation]]\nevery_seconds = 4\nsteps = [\"local/ada\", \"local/bob\"]\n", four());
    let mut talking = Talking::with_approvers(APPROVERS, &more).await;
    with_plan(&mut talking, Seeded { severity: Sev::One, ..Seeded::default() }).await;
    talking.in_thread("INC-1", "step 1 of 2").await;
    let said = talking.refused("guest", "handover INC-1 to @bob").await;
    assert!(said.contains("may not handover here"), "{said}");
    talking.ordered("ada", "handover INC-1 to @rita because my shift ends").await;
    talking.ordered("rita", "take INC-1").await;
    let note = talking.in_thread("INC-1", "my shift ends").await;
    assert!(note.contains("local/rita"), "{note}");
    for nobody in ["foo/bar", "@nobody", "<@U012AB3CD>"] {
        let said = talking.refused("ada", &format!("handover INC-1 to {nobody}")).await;
        assert!(said.contains(&format!("I don't know {nobody}; I know @ada (local/ada), @bob")), "{said}");
    }
    assert!(talking.ordered("rita", "incidents mine").await.contains("INC-1"));
    assert!(talking.ordered("bob", "incidents mine").await.contains("0 incidents of yours"));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let called = talking.rows("SELECT kind FROM incident_event WHERE kind='called'").await;
    assert_eq!(called.len(), 1, "nobody else is called once somebody has it");
}

#[tokio::test]
async fn whoever_was_asked_to_have_it_accepts_it_without_any_other_authority() {
    let more = format!("{}[[escalation]]\nevery_seconds = 300\nsteps = [\"local/ada\"]\n", four());
    let mut talking = Talking::with_approvers(APPROVERS, &more).await;
    with_plan(&mut talking, Seeded { severity: Sev::One, ..Seeded::default() }).await;
    assert!(talking.refused("guest", "take INC-1").await.contains("may not take here"));
    talking.ordered("ada", "handover INC-1 to @guest because they run it").await;
    assert!(talking.ordered("guest", "take INC-1").await.contains("INC-1 is yours now"));
    talking.incident("INC-1", |incident| incident["owner"] == "local/guest" && incident["accepted"] == true).await;
    assert!(talking.refused("guest", "close INC-1 because done").await.contains("may not close here"));
    talking.ordered("ada", "take INC-1").await;
    assert!(talking.refused("guest", "take INC-1").await.contains("may not take here"), "once");
}

/// INC-1 that was called for once, and that Ada has handed to Rita since.
async fn handed_to_rita(every_seconds: u64) -> Talking {
    let steps = "steps = [\"local/ada\", \"local/bob\"]";
    let more = format!("{}[[escalation]]\nevery_seconds = {every_seconds}\n{steps}\n", four());
    let mut talking = Talking::with_approvers(APPROVERS, &more).await;
    with_plan(&mut talking, Seeded { severity: Sev::One, ..Seeded::default() }).await;
    talking.in_thread("INC-1", "step 1 of 2").await;
    let said = talking.ordered("ada", "handover INC-1 to @rita because my shift ends").await;
    let otherwise =
        format!("once they accept it (Acknowledge, or /ops take INC-1); if they have not in {every_seconds} s");
    assert!(said.contains(&otherwise) && said.contains("calls go on"), "{said}");
    talking
}

#[tokio::test]
async fn a_hand_over_that_nobody_accepts_ends_no_calls() {
    let mut talking = handed_to_rita(10).await;
    let open = talking.incident("INC-1", |incident| incident["owner"] == "local/rita").await;
    assert_eq!(open["accepted"], false, "{open}");
    let said = talking.ordered("bob", "status").await;
    assert!(said.contains("INC-1: handed to @rita, who has not accepted it yet"), "{said}");
    let note = talking.in_thread("INC-1", "my shift ends").await;
    assert!(note.contains("local/rita") && note.contains("press Acknowledge or write /ops take INC-1"), "{note}");
    let root = async || talking.told("ops").await.into_iter().find(|card| card.contains("who has not accepted it yet"));
    let card = talking.until("the card that says so", root).await;
    assert!(card.contains("\"acknowledge\""), "{card}");
    let called = talking.in_thread("INC-1", "step 2 of 2").await;
    assert!(called.contains("local/bob") && called.contains("It was handed to "), "{called}");
    assert!(called.contains("who has not accepted it; press") && !called.contains("Nobody has it"), "{called}");
    // Nobody is left.
    let back = talking.in_thread("INC-1", "nobody has it, and the calls begin again").await;
    assert!(back.contains("local/ada") && back.contains("@rita has not accepted INC-1"), "{back}");
    talking.incident("INC-1", |incident| incident["owner"].is_null()).await;
    // Then the first of the path is called again.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let kinds = talking.rows("SELECT kind FROM incident_event WHERE kind IN ('called', 'not_accepted')").await;
    assert_eq!(kinds, ["called", "called", "not_accepted", "called"]);
}

#[tokio::test]
async fn a_word_of_whoever_it_was_handed_to_accepts_it() {
    let mut talking = handed_to_rita(8).await;
    talking.ordered("rita", "followup INC-1 give the pool a limit").await;
    let taken = talking.incident("INC-1", |incident| incident["accepted"] == true).await;
    assert_eq!(taken["owner"], "local/rita", "{taken}");
    let said = talking.ordered("ada", "audit INC-1").await;
    assert!(said.contains("handed to local/rita, who has not accepted it yet, by local/ada"), "{said}");
    assert!(said.contains("accepted by local/rita"), "{said}");
    assert!(!talking.ordered("ada", "status").await.contains("who has not accepted it yet"));
    tokio::time::sleep(Duration::from_secs(9)).await;
    let kinds = talking.rows("SELECT kind FROM incident_event WHERE kind IN ('called', 'accepted')").await;
    assert_eq!(kinds, ["called", "accepted"], "nobody else is called");
}

#[tokio::test]
async fn a_rejection_without_a_model_goes_to_people_with_its_reason() {
    let mut talking = Talking::with_approvers(APPROVERS, &four()).await;
    with_plan(&mut talking, Seeded::default()).await;
    let said = talking.refused("guest", &format!("reject {CARD} because I say so")).await;
    assert!(said.contains("may not decide on plans"), "{said}");
    let said = talking.ordered("ada", &format!("reject {CARD} because the migration still runs")).await;
    assert!(said.contains("rejected; nothing will be changed"), "{said}");
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    let said = talking.refused("bob", &format!("approve {CARD}")).await;
    assert!(said.contains("already rejected by @ada ") && said.ends_with(": the migration still runs"), "{said}");
}

fn nothing_found() -> Reply {
    Reply::Calls(vec![(
        "conclude",
        json!({"service": null, "change": null, "mechanism": "not known", "remedy": "none", "claims": [],
               "ruled_out": [], "confidence": 0.1, "needs": "metrics"}),
    )])
}

#[tokio::test]
async fn the_model_reads_why_it_was_rejected_and_what_was_asked() {
    for (order, wanted) in [
        (format!("reject {CARD} because the migration still runs"), "the migration still runs"),
        (format!("ask {CARD} was it slow before the rollout?"), "was it slow before the rollout?"),
    ] {
        let model = Scripted::start(vec![nothing_found()]).await;
        let more = format!("{}[model]\nname = \"scripted\"\nbase_url = {:?}\n", four(), model.url);
        let mut talking = Talking::with_approvers(APPROVERS, &more).await;
        with_plan(&mut talking, Seeded::default()).await;
        assert!(talking.refused("guest", &order).await.contains("may not"));
        talking.ordered("ada", &order).await;
        talking.until("the model to be asked", async || (!model.asked().is_empty()).then_some(())).await;
        let brief = model.asked()[0]["messages"].to_string();
        assert!(brief.contains(wanted) && brief.contains("local/ada"), "{brief}");
        talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
        let said = talking.refused("bob", &format!("approve {CARD}")).await;
        assert!(said.contains("already rejected by @ada") || said.contains("too late: it is void"), "{said}");
    }
}

/// Slack's directory, played: who is in the group and what each account is.
#[derive(Default)]
struct Played {
    asked: usize,
    fails: bool,
}

const MEMBERS: [&str; 11] = ["U1", "U2", "U3", "U4", "U5", "U6", "U7", "U8", "U9", "USLACKBOT", "UGONE"];

fn account(user: &str) -> Option<Value> {
    let more = match user {
        "U1" | "U11" => json!({}),
        "U2" => json!({"is_admin": true}),
        "U3" => json!({"is_restricted": true}),
        "U4" => json!({"is_restricted": true, "is_ultra_restricted": true}),
        "U5" => json!({"is_bot": true}),
        "U6" => json!({"deleted": true}),
        "U7" => json!({"team_id": "T9"}),
        "U8" => json!({"is_stranger": true}),
        "U9" => json!({"is_invited_user": true}),
        "USLACKBOT" => json!({}),
        _ => return None,
    };
    let mut account = json!({"id": user, "team_id": "T1", "deleted": false, "is_bot": false});
    more.as_object().unwrap().iter().for_each(|(key, value)| account[key] = value.clone());
    Some(account)
}

async fn directory() -> (String, Arc<Mutex<Played>>) {
    type Asked = Query<BTreeMap<String, String>>;
    let played: Arc<Mutex<Played>> = Arc::default();
    async fn members(State(played): State<Arc<Mutex<Played>>>, Query(asked): Asked) -> Response {
        let mut played = played.lock().unwrap();
        played.asked += 1;
        if played.fails {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        assert_eq!(asked["usergroup"], "S1");
        Json(json!({"ok": true, "users": MEMBERS})).into_response()
    }
    async fn info(State(played): State<Arc<Mutex<Played>>>, Query(asked): Asked) -> Response {
        if played.lock().unwrap().fails {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        match account(&asked["user"]) {
            Some(user) => Json(json!({"ok": true, "user": user})).into_response(),
            None => Json(json!({"ok": false, "error": "user_not_found"})).into_response(),
        }
    }
    let router = Router::new()
        .route("/api/usergroups.users.list", get(members))
        .route("/api/users.info", get(info))
        .with_state(played.clone());
    let url = serve(router).await + "/api";
    (url, played)
}

#[tokio::test]
async fn a_group_lends_authority_to_its_full_members_only() {
    let (url, played) = directory().await;
    let mut ids: Vec<String> = MEMBERS.iter().map(|user| format!("T1/{user}")).collect();
    ids.extend(["T1/U11", "T2/U1", "local/ops", "local/nobody", "T1/ULATE"].map(str::to_owned));
    let people = people(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let more = format!(
        "groups = [\"T1/S1\"]\n{people}[slack]\nbot_token = \"xoxb-x\"\nsigning_secrets = [\"s\"]\nchannel = \"C1\"\n\
         api_base = {url:?}\nteam_id = \"T1\"\n"
    );
    let talking = Talking::with_approvers("[\"local/ops\", \"T1/U3\"]", &more).await;
    let table = [
        ("U1", None),
        ("U2", None),
        ("ops", None),
        ("U11", Some("neither policy.approvers nor a group in policy.groups names")),
        ("U3", Some("is a guest")),
        ("U4", Some("is a guest")),
        ("U5", Some("is a bot")),
        ("U6", Some("is deactivated")),
        ("U7", Some("is of another team")),
        ("U8", Some("is of another team")),
        ("U9", Some("is a guest")),
        ("USLACKBOT", Some("is a bot")),
        ("UGONE", Some("is of another team")),
        ("T2U1", Some("is of a team that neither")),
        ("nobody", Some("is of a team that neither")),
    ];
    for (who, why) in table {
        match why {
            None => drop(talking.ordered(who, "resume").await),
            Some(why) => {
                let said = talking.refused(who, "resume").await;
                assert!(said.contains(why), "{who}: {said}");
            }
        }
    }
    assert_eq!(played.lock().unwrap().asked, 1, "what was looked up counts for a minute");
    played.lock().unwrap().fails = true;
    let said = talking.refused("ULATE", "resume").await;
    assert!(said.contains("cannot be looked up now, so it counts as no"), "{said}");
    assert!(talking.ordered("U1", "resume").await.contains("Nothing was paused"), "what is known still counts");
}

#[tokio::test]
async fn who_is_on_call_is_asked_where_it_is_known() {
    async fn oncalls(Query(asked): Query<Vec<(String, String)>>) -> Json<Value> {
        assert!(asked.contains(&("schedule_ids[]".into(), "PABC".into())), "{asked:?}");
        let user = |name: &str, email: &str| json!({"name": name, "email": email});
        Json(json!({"oncalls": [
            {"escalation_level": 2, "user": user("Second", "second@example.com")},
            {"escalation_level": 1, "user": user("Bob", "BOB@example.com")},
        ]}))
    }
    async fn recipients(uri: axum::http::Uri) -> Json<Value> {
        assert!(uri.path().contains("/Payments%20team/"), "{uri}");
        Json(json!({"data": {"onCallRecipients": ["ada@example.com"]}}))
    }
    let router = Router::new().route("/oncalls", get(oncalls)).route("/v2/schedules/{name}/on-calls", get(recipients));
    let url = serve(router).await;
    let more = format!(
        "{}[oncall.pagerduty]\ntoken = \"t\"\nurl = {url:?}\n[oncall.opsgenie]\ntoken = \"t\"\nurl = {url:?}\n\
         [[escalation]]\nevery_seconds = 1\nsteps = [\"pagerduty:PABC\", \"opsgenie:Payments team\"]\n",
        four()
    );
    let mut talking = Talking::with_approvers(APPROVERS, &more).await;
    with_plan(&mut talking, Seeded::default()).await;
    let said = talking.ordered("guest", "oncall").await;
    assert!(said.contains("@bob Second") && said.contains("after 1 s") && said.contains("@ada"), "{said}");
    let called = talking.in_thread("INC-1", "step 1 of 2").await;
    assert!(called.contains("local/bob") && called.contains("Second"), "{called}");
    let called = talking.in_thread("INC-1", "step 2 of 2").await;
    assert!(called.contains("local/ada"), "{called}");
}

#[tokio::test]
async fn whoever_the_chat_does_not_know_was_not_called_and_the_next_is_at_once() {
    async fn oncalls() -> Json<Value> {
        let user = json!({"name": "Second", "email": "second@example.com"});
        Json(json!({"oncalls": [{"escalation_level": 1, "user": user}]}))
    }
    let url = serve(Router::new().route("/oncalls", get(oncalls))).await;
    let more = format!(
        "{}[oncall.pagerduty]\ntoken = \"t\"\nurl = {url:?}\n\
         [[escalation]]\nevery_seconds = 3600\nsteps = [\"pagerduty:PABC\", \"local/ada\"]\n",
        four()
    );
    let mut talking = Talking::with_approvers(APPROVERS, &more).await;
    with_plan(&mut talking, Seeded::default()).await;
    let passed = talking.in_thread("INC-1", "Second, whom the chat does not know").await;
    assert!(passed.contains("Next, at once: @ada (step 1 of 2)"), "{passed}");
    let called = talking.in_thread("INC-1", "step 2 of 2").await;
    assert!(called.contains("local/ada"), "{called}");
}

#[tokio::test]
async fn what_needs_a_person_is_for_whoever_is_called() {
    let more = format!(
        "{}[investigation]\nsettle_seconds = 0\n[[escalation]]\nfrom = \"SEV4\"\nsteps = [\"local/ada\"]\n",
        four()
    );
    let talking = Talking::with_approvers(APPROVERS, &more).await;
    talking.fire("pay").await;
    let said = talking.in_thread("INC-1", "This needs a person").await;
    assert!(said.contains("local/ada"), "{said}");
}
