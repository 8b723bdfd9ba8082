use serde_json::{Value, json};

use super::*;

fn event(event: Value) -> SlackPushEventCallback {
    serde_json::from_value(json!({
        "team_id": "T1", "api_app_id": "A1", "event_id": "Ev1", "event_time": 1_700_000_000, "event": event,
        "authorizations": [{"team_id": "T1", "user_id": "UBOT", "is_bot": true}],
    }))
    .unwrap()
}

fn check(raw: Value, expected: Result<&str, Refusal>) {
    let read = said(event(raw), None, Some("T1")).map(|delivery| match delivery.act {
        FromPeople::Mention { text, by, .. } => format!("{} {text}", by.id),
        other => format!("{other:?}"),
    });
    assert_eq!(read, expected.map(str::to_string));
}

#[test]
fn what_people_say_is_read_once_and_without_our_name() {
    let mention = |text: &str| json!({"type": "app_mention", "user": "U1", "text": text, "ts": "1.1", "channel": "C1"});
    check(mention("<@UBOT> why is <@U2> slow &amp; sad?"), Ok("T1/U1 why is <@U2> slow & sad?"));
    check(mention("please <@UBOT|midwatch> look"), Ok("T1/U1 please look"));
    let direct =
        json!({"type": "message", "channel_type": "im", "user": "U1", "text": "hi", "ts": "1.2", "channel": "D1"});
    check(direct.clone(), Ok("T1/U1 hi"));
    for (name, value, why) in [
        ("bot_id", json!("B1"), "a message of a bot"),
        ("user", json!("UBOT"), "our own message"),
        ("channel_type", json!("channel"), "a channel message that does not mention us"),
        ("subtype", json!("message_changed"), "an edit, a join or another kind of message"),
    ] {
        let mut other = direct.clone();
        other[name] = value;
        check(other, Err(Refusal::NotForUs(why)));
    }
}

#[test]
fn people_of_other_teams_and_forged_ids_are_refused() {
    assert_eq!(person("T2", "U1", None, Some("T1")), Err(Refusal::ForeignTeam("T2".into())));
    assert_eq!(person("T1", "U1/../U2", None, None), Err(Refusal::Nobody));
    assert_eq!(person("T1", "", None, None), Err(Refusal::Nobody));
    assert_eq!(person("T2", "U1", Some("ann"), None).map(|by| by.id.to_string()), Ok("T2/U1".into()));
}
