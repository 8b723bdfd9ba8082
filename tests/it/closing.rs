//! A person ends an incident, with a reason.

use crate::harness::alert;
use crate::seeded::{CARD, Seeded, people, with_plan};
use crate::talking::Talking;

async fn watch(more: &str) -> Talking {
    let people = people(&["local/ada", "local/bob", "local/guest"]);
    Talking::with_approvers("[\"local/you\", \"local/ada\", \"local/bob\"]", &format!("{people}{more}")).await
}

#[tokio::test]
async fn what_fires_on_is_told_to_whoever_closes_it_and_is_an_incident_again_later() {
    let mut talking = watch("[investigation]\nsettle_seconds = 0\n[remediation]\noutlast_seconds = 3\n").await;
    talking.send(&[alert("Down", "pay")]).await;
    talking.incident("INC-1", |incident| incident["state"] == "handed_over").await;
    assert!(talking.refused("guest", "close INC-1 because I say so").await.contains("may not close here"));
    let (status, said) = talking.order("ada", "resolve INC-1").await;
    assert!(status == 422 && said.to_string().contains("to close an incident needs a reason"), "{status}: {said}");
    let said = talking.ordered("ada", "resolve INC-1 because mended by hand").await;
    assert!(said.contains("INC-1 is closed in your name: mended by hand"), "{said}");
    let then = "1 of its alerts still fires: Down about pay; it is told as an incident again if it fires on for 3 s, unless it is muted";
    assert!(said.contains(then), "{said}");
    let note = talking.in_thread("INC-1", "Closed by ").await;
    assert!(note.contains("local/ada") && note.contains("mended by hand") && note.contains("still fires"), "{note}");
    let closed = talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    assert_eq!(closed["alerts"], 1, "{closed}");
    let said = talking.refused("bob", "close INC-1 because done").await;
    assert!(said.contains("INC-1 is over since ") && said.ends_with(": local/ada closed it: mended by hand"), "{said}");
    let said = talking.ordered("bob", "audit INC-1").await;
    assert!(said.contains("closed by local/ada: mended by hand"), "{said}");
    // It fires on all the same.
    let again = talking.incident("INC-2", |_| true).await;
    assert_eq!(again["title"], "pay: Down");
    let written = async || talking.page("/api/incidents/INC-1").await.contains("post-mortem written").then_some(());
    talking.until("the post-mortem", written).await;
    let labels = talking.rows("SELECT key FROM label WHERE kind='incident'").await;
    assert!(labels.is_empty(), "it is neither noise nor real for that: {labels:?}");
}

#[tokio::test]
async fn a_plan_that_waits_is_void_when_its_incident_is_closed() {
    let mut talking = watch("").await;
    with_plan(&mut talking, Seeded::default()).await;
    let said = talking.ordered("ada", "close INC-1 because it was the cable").await;
    assert!(said.contains("INC-1.P1, which waited for a decision, is void; nothing was changed"), "{said}");
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
    let said = talking.refused("bob", &format!("approve {CARD}")).await;
    assert!(said.contains("too late: it is void") && said.contains("ada closed INC-1: it was the cable"), "{said}");
}

#[tokio::test]
async fn in_its_thread_it_needs_no_number() {
    let mut talking = watch("").await;
    with_plan(&mut talking, Seeded::default()).await;
    let root = talking.root("ops", "INC-1").await;
    let says = async |text: &str, wanted: &str| talking.says("ops", Some(&root), text, wanted).await;
    says("close this", "to close an incident needs a reason").await;
    says("close because it works again", "INC-1 is closed in your name: it works again").await;
    talking.incident("INC-1", |incident| incident["state"] == "resolved").await;
}
