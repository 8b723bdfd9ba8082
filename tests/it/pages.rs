//! What the page and the API list: all that is open, however old, and each row for itself.

use serde_json::{Value, json};

use crate::seeded::{Seeded, with_plan};
use crate::talking::Talking;

/// Puts 299 incidents that are over beside INC-1; the body of the newest cannot be read.
const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i+1 FROM n WHERE i<300) \
     INSERT INTO incident(id,number,cluster,team,state,is_over,version,opened_at,body,severity,remembered) \
     SELECT 'INC-'||n.i, n.i, cluster, team, 'resolved', 1, version, opened_at, \
       CASE WHEN n.i=300 THEN '{' ELSE replace(body, 'INC-1', 'INC-'||n.i) END, severity, 1 \
     FROM incident JOIN n WHERE id='INC-1' RETURNING id";

#[tokio::test(flavor = "multi_thread")]
async fn an_old_open_incident_stays_first_and_a_broken_one_hides_no_other() {
    let mut talking = Talking::start("").await;
    with_plan(&mut talking, Seeded::default()).await;
    let root = talking.root("ops", "INC-1").await;
    assert_eq!(talking.rows(MANY).await.len(), 299);
    talking.again().await;

    // What was posted in the moment of the end is looked for after the start.
    let rows = talking
        .until("the place of the message", async || {
            let rows: Vec<Value> = serde_json::from_str(&talking.page("/api/incidents").await).unwrap();
            rows[0]["ts"].is_string().then_some(rows)
        })
        .await;
    assert_eq!(rows.len(), 201);
    assert_eq!((&rows[0]["id"], &rows[0]["ts"]), (&json!("INC-1"), &json!(root)), "{}", rows[0]);
    assert_eq!(rows[1]["id"], "INC-300");
    assert!(rows[1]["title"].as_str().unwrap().contains("cannot be read") && rows[1]["closed_at"].is_string());
    assert_eq!((&rows[2]["id"], &rows[2]["title"]), (&json!("INC-299"), &rows[0]["title"]));

    let listed = talking.incidents().await;
    assert_eq!(listed.len(), 201);
    assert_eq!((&listed[0]["id"], &listed[200]["id"]), (&json!("INC-1"), &json!("INC-300")));
    assert!(listed[200]["title"].as_str().unwrap().contains("cannot be read"), "{}", listed[200]);
    let count = async |over: &str| {
        talking.json(&format!("/api/v1/incidents?over={over}")).await["incidents"].as_array().map(Vec::len)
    };
    assert_eq!((count("0").await, count("250").await, count("5000").await), (Some(1), Some(251), Some(300)));
    let refused = talking.json("/api/v1/incidents?over=5001").await;
    assert!(refused["remedy"].as_str().unwrap().contains("5000"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_says_on_its_incident_why_it_is_there() {
    let talking = Talking::start("").await;
    talking.fire("pay").await;
    let alert = talking
        .until("the alert on its incident's page", async || {
            let id = talking.incidents().await.first()?["id"].as_str()?.to_owned();
            let page: Value = serde_json::from_str(&talking.page(&format!("/api/incidents/{id}")).await).ok()?;
            page["alerts"].as_array()?.first().cloned()
        })
        .await;
    let verdicts = talking.json("/api/v1/alerts/Down").await["verdicts"].clone();
    let explanation = verdicts[0]["explanation"].as_str().unwrap();
    assert!(!explanation.is_empty(), "{verdicts}");
    assert_eq!(alert["verdict"], "opened", "{alert}");
    assert_eq!(alert["reason"], format!("{explanation}; 1 still firing"), "{alert}");
}
