//! How long it takes from a decision to the first write into the cluster.

use std::sync::Arc;

use midwatch::world::kubernetes::router;
use serde_json::json;

use crate::hands::{decided, fired, outcome, watch, web};
use crate::harness::serve;
use crate::seeded::now;

#[tokio::test]
async fn the_write_follows_the_decision_at_once_with_its_evidence_before_it() {
    let state = web();
    let app = router(state.clone(), Arc::new(|| now().millis()));
    let url = serve(app).await;
    let mut talking = watch(&url, "").await;
    fired(&talking, "web").await;
    decided(&talking, 1, "scale shop/web 5").await;
    outcome(&talking, 1, "written").await;
    let write = state.lock().unwrap().writes().into_iter().find(|write| write.status < 300).unwrap();
    assert_eq!(write.body.pointer("/spec/replicas"), Some(&json!(5)));
    let decided = talking.rows("SELECT CAST(at AS TEXT) FROM incident_event WHERE kind='plan_approved'").await;
    let kept = talking.rows("SELECT CAST(MAX(at) AS TEXT) FROM incident_event WHERE kind='evidence_stored'").await;
    let (decided, kept): (i64, i64) = (decided[0].parse().unwrap(), kept[0].parse().unwrap());
    println!(
        "from the decision to the first write: {} ms, evidence kept {} ms after it",
        write.at - decided,
        kept - decided
    );
    assert!((decided..=write.at).contains(&kept), "evidence at {kept}, write at {}", write.at);
    assert!(write.at - decided < 1_000, "{} ms", write.at - decided);
}
