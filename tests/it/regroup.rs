//! People merge and split incidents: by command, by button, over a restart.

use serde_json::{Value, json};

use crate::harness::{alert, run, text};
use crate::talking::Talking;

/// Nothing is investigated before the test is over, however slow the machine.
const SETTLED_LATER: &str = "[investigation]\nsettle_seconds = 3600\n";

/// Two incidents that have nothing to do with each other.
async fn two(talking: &Talking) {
    talking.fire("pay").await;
    talking.incident("INC-1", |incident| incident["title"] == "pay: Down").await;
    talking.fire("search").await;
    talking.incident("INC-2", |incident| incident["title"] == "search: Down").await;
}

fn alerts(count: u64) -> impl Fn(&Value) -> bool {
    move |incident| incident["alerts"] == count && incident["state"] == "open"
}

#[tokio::test]
async fn a_merge_holds_teaches_and_can_be_split_again() {
    let mut talking = Talking::start(SETTLED_LATER).await;
    two(&talking).await;
    let said = talking.asks("merge INC-2 into INC-1 because one database").await;
    assert!(said.contains("INC-2 is part of INC-1 now (one database)"), "{said}");
    talking.incident("INC-1", alerts(2)).await;
    talking.incident("INC-2", |incident| incident["state"] == "merged").await;
    let said = talking.asks("merge INC-2 into INC-1 because twice").await;
    assert!(said.contains("INC-2 went into INC-1 already"), "{said}");

    // What comes later goes where the person put it, also after a restart.
    talking.send(&[alert("Slow", "search")]).await;
    talking.incident("INC-1", alerts(3)).await;
    talking.again().await;
    talking.send(&[alert("Errors", "search")]).await;
    talking.incident("INC-1", alerts(4)).await;

    let said = talking.asks("split INC-1 nobody because x").await;
    assert!(said.contains("INC-1 has no alert about nobody; it is about pay, search"), "{said}");
    let said = talking.asks("split INC-1 pay, search because x").await;
    assert!(said.contains("all of INC-1 would leave it"), "{said}");
    let said = talking.asks("split INC-1 search because its own bug").await;
    assert!(said.contains("search is INC-3 now, apart from INC-1 (its own bug)"), "{said}");
    talking.incident("INC-1", |incident| incident["alerts"] == 1 && incident["title"] == "pay: Down").await;
    talking.incident("INC-3", alerts(3)).await;
    talking.send(&[alert("Full", "search"), alert("Full", "pay")]).await;
    talking.incident("INC-3", alerts(4)).await;
    talking.incident("INC-1", alerts(2)).await;
    talking.again().await;
    talking.send(&[alert("Later", "search"), alert("Later", "pay")]).await;
    talking.incident("INC-3", alerts(5)).await;
    talking.incident("INC-1", alerts(3)).await;
    let open = talking.incidents().await.iter().filter(|one| one["state"] == "open").count();
    assert_eq!(open, 2, "{:?}", talking.incidents().await);

    // P2: a fingerprint is part of one open incident.
    let shared = talking
        .rows(
            "SELECT fingerprint FROM alert WHERE verdict='admit' GROUP BY fingerprint HAVING count(DISTINCT incident)>1",
        )
        .await;
    assert_eq!(shared, Vec::<String>::new());
    let lessons =
        talking.rows("SELECT kind || ' ' || a || ' ' || b || ' ' || person || ' ' || because FROM lesson").await;
    assert_eq!(lessons.len(), 2, "{lessons:?}");
    assert!(lessons[0].starts_with("together ") && lessons[0].ends_with("local/you one database"), "{lessons:?}");
    assert!(lessons[1].starts_with("apart ") && lessons[1].ends_with("local/you its own bug"), "{lessons:?}");
    assert!(lessons.iter().all(|one| one.contains(r#""subject":"search""#) && one.contains(r#""subject":"pay""#)));
    run(["audit", "verify", "--data-dir", text(&talking.data())]).expect(0);
}

#[tokio::test]
async fn the_buttons_of_the_card_do_the_same() {
    let talking = Talking::start(SETTLED_LATER).await;
    two(&talking).await;
    let card = talking.with_button("merge", "INC-2").await;
    talking.press(&card, "merge", "INC-2", Some("INC-1 because one database")).await;
    talking.incident("INC-1", alerts(2)).await;
    let card = talking.with_button("split", "INC-1").await;
    talking
        .until("the note about the merge", async || {
            let thread = talking.page(&format!("/api/thread?channel=ops&ts={card}")).await;
            thread.contains("you merged INC-2 into this: one database").then_some(())
        })
        .await;
    talking.press(&card, "split", "INC-1", Some("search because its own bug")).await;
    talking.incident("INC-3", alerts(1)).await;
    talking
        .until("the note about the split", async || {
            let thread = talking.page(&format!("/api/thread?channel=ops&ts={card}")).await;
            thread.contains("you split search off as INC-3: its own bug").then_some(())
        })
        .await;
    let page: Value = serde_json::from_str(&talking.page("/api/incidents/INC-3").await).unwrap();
    assert!(page["timeline"].to_string().contains("came from INC-1"), "{page}");
}

#[tokio::test]
async fn only_approvers_regroup() {
    let mut talking = Talking::with_approvers("[]", SETTLED_LATER).await;
    two(&talking).await;
    for order in ["merge INC-2 into INC-1 because x", "split INC-1 pay because x"] {
        let said = talking.asks(order).await;
        assert!(said.contains("policy.approvers"), "{said}");
    }
    talking.incident("INC-2", alerts(1)).await;
    talking.incident("INC-1", alerts(1)).await;
    assert_eq!(talking.rows("SELECT body FROM regroup").await, Vec::<String>::new());
    let refused = talking.rows("SELECT subject FROM audit WHERE kind='regroup.refused'").await;
    assert_eq!(json!(refused), json!(["local/you", "local/you"]));
}

#[tokio::test]
async fn one_service_in_two_clusters_is_one_incident_that_names_both() {
    let mut talking = Talking::start(SETTLED_LATER).await;
    let of = |cluster: &str, name: &str| {
        let mut alert = alert(name, "pay");
        alert["labels"]["cluster"] = json!(cluster);
        alert
    };
    talking.send(&[of("eu", "Down")]).await;
    talking.incident("INC-1", alerts(1)).await;
    talking.send(&[of("us", "Down")]).await;
    talking.incident("INC-1", alerts(2)).await;
    let both = |card: &String| card.contains("Environment") && card.contains("\"eu\"") && card.contains("\"us\"");
    talking.until("both clusters", async || talking.told("ops").await.into_iter().find(both)).await;
    // Also after a restart.
    talking.again().await;
    talking.send(&[of("us", "Slow")]).await;
    talking.incident("INC-1", alerts(3)).await;
    assert_eq!(talking.incidents().await.len(), 1, "{:?}", talking.incidents().await);
}

#[tokio::test]
async fn after_a_restart_it_is_known_which_cluster_is_in_which_region() {
    let mut talking = Talking::start(SETTLED_LATER).await;
    let labelled = |service: &str, labels: &[(&str, &str)]| {
        let mut alert = alert("Down", service);
        for (name, value) in labels {
            alert["labels"][*name] = json!(value);
        }
        alert
    };
    talking.send(&[labelled("search", &[("cluster", "eu"), ("region", "europe")])]).await;
    talking.incident("INC-1", alerts(1)).await;
    talking.send(&[labelled("pay", &[("cluster", "us"), ("region", "america")])]).await;
    talking.incident("INC-2", alerts(1)).await;
    talking.again().await;
    // The service has been heard of in the other cluster only, but the region says where it is.
    talking.send(&[labelled("search", &[("region", "america")])]).await;
    talking.incident("INC-1", alerts(2)).await;
    let both = |card: &String| {
        card.contains("INC-1, v") && card.contains("Environment") && card.contains("\"eu\"") && card.contains("\"us\"")
    };
    talking.until("both clusters", async || talking.told("ops").await.into_iter().find(both)).await;
}

#[tokio::test]
async fn what_only_warned_about_name_resolution_explains_nothing_after_a_restart() {
    let mut talking = Talking::start(SETTLED_LATER).await;
    talking.send(&[alert("Errors", "cart")]).await;
    talking.incident("INC-1", alerts(1)).await;
    let warnings = ["CoreDNSSlow", "CoreDNSErrors", "CoreDNSRetries"].map(|name| {
        let mut warning = alert(name, "coredns");
        warning["labels"]["severity"] = json!("warning");
        warning
    });
    talking.send(&warnings).await;
    talking.incident("INC-2", alerts(3)).await;
    talking.again().await;
    talking.send(&[alert("Errors", "ledger")]).await;
    talking.incident("INC-3", alerts(1)).await;
    // A critical alert about it does, also what fell ill just before, and says so.
    talking.send(&[alert("CoreDNSPanics", "coredns")]).await;
    talking.incident("INC-1", alerts(6)).await;
    talking.send(&[alert("OrdersFail", "shop")]).await;
    talking.incident("INC-1", alerts(7)).await;
    let why = talking.json("/api/v1/alerts/OrdersFail").await["verdicts"][0]["explanation"].to_string();
    assert!(why.contains("alerts about coredns say that names are not resolved in the cluster"), "{why}");
}
