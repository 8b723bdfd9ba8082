//! What is asked about an incident of one of several clusters.

use serde_json::json;

use super::{SignalScope, context, run_in};

#[tokio::test]
async fn what_is_asked_is_asked_of_the_cluster_of_the_incident() {
    let (mut context, _folder) = context().await;
    context.scope = SignalScope::of(Some("cluster"), Some("cluster"), &["eu"].into());
    for (name, arguments, expected) in [
        ("metrics_now", json!({"query": "up"}), r#"up{cluster="eu"}"#),
        ("metrics_range", json!({"query": "sum(rate(a[5m]))"}), r#"sum(rate(a{cluster="eu"}[5m]))"#),
        ("golden_signals", json!({"service": "cart"}), r#"golden signals of cart where cluster="eu""#),
        ("logs", json!({"service": "cart"}), r#"{app="cart", cluster="eu"}"#),
        ("logs", json!({"query": "{app=\"cart\"} |= \"x\""}), r#"{cluster="eu", app="cart"} |= "x""#),
    ] {
        let output = run_in(&context, name, arguments).await;
        assert_eq!(output.evidence.unwrap().query, expected);
        assert!(output.text.contains("cluster=\"eu\""), "the model reads of what it is: {}", output.text);
    }
    // Another cluster is asked about only by its name.
    for (name, query) in [("metrics_now", "up{cluster=\"us\"}"), ("logs", "{app=\"cart\", cluster=~\"us|eu\"}")] {
        let output = run_in(&context, name, json!({"query": query})).await;
        assert_eq!(output.evidence.unwrap().query, query);
        assert!(!output.text.contains("with cluster="), "{}", output.text);
    }
    let why = run_in(&context, "logs", json!({"service": "nosuchthing"})).await.text;
    assert!(
        why.contains("there is no stream of logs app=\"nosuchthing\"") && why.contains("where cluster=\"eu\""),
        "{why}"
    );
}
