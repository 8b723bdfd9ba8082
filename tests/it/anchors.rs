//! The head of the audit chain in the chat, where whoever can write the database cannot write.

use crate::harness::{run, text};
use crate::talking::Talking;

/// `1234:0a1b...` of a card.
fn anchor_of(card: &str) -> Option<String> {
    let behind = card.split("audit verify --anchor ").nth(1)?;
    Some(behind.chars().take_while(|one| one.is_ascii_alphanumeric() || *one == ':').collect())
}

#[tokio::test]
async fn the_audits_head_is_told_by_the_hour_and_found_again() {
    let more = "[investigation]\nsettle_seconds = 3600\n[routing]\nanchor_seconds = 1\n";
    let mut talking = Talking::start(more).await;
    talking.fire("pay").await;
    talking.incident("INC-1", |incident| incident["alerts"] == 1).await;
    let root = talking
        .until("the day's message", async || {
            talking.messages().await.into_iter().find(|one| one.to_string().contains("audit verify --anchor"))
        })
        .await;
    let first = anchor_of(&root.to_string()).unwrap();
    talking.fire("search").await;
    let ts = root["ts"].as_str().unwrap();
    let reply =
        talking.until("the next one in its thread", async || talking.replies("ops", ts).await.into_iter().next()).await;
    let second = anchor_of(&reply).unwrap();
    assert_ne!(first, second);
    // Without news there is none: what was told is the head still.
    let roots = talking.messages().await;
    assert_eq!(roots.iter().filter(|one| one.to_string().contains("--anchor")).count(), 1, "{roots:?}");
    talking.stop();
    let data = talking.data();
    let verify = |anchor: &str| run(["audit", "verify", "--data-dir", text(&data), "--anchor", anchor]);
    verify(&first).expect(0);
    verify(&second).expect(0);
    let (row, hash) = second.split_once(':').unwrap();
    let other = if hash.starts_with('0') { '1' } else { '0' };
    let said = verify(&format!("{row}:{other}{}", &hash[1..])).expect(1).stdout;
    assert!(said.contains(&format!("audit row {row} has the hash {hash}")), "{said}");
    let said = verify(&format!("999999:{hash}")).expect(1).stdout;
    assert!(said.contains("audit row 999999 is not there"), "{said}");
    let said = verify("12").expect(2).stderr;
    assert!(said.contains("is no anchor"), "{said}");
}
