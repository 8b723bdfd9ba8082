//! Which signals find nothing: a query that fits no exporter is silent in every incident.

use std::time::Duration;

use futures::StreamExt as _;

use super::Findings;
use crate::config::Config;
use crate::domain::evidence::Series;
use crate::domain::log_stream::candidates;
use crate::domain::signal_scope::SignalScope;
use crate::domain::time::Timestamp;
use crate::ports::{Clock as _, SignalError, Signals, SystemClock};

/// Of which streams are counted: there may be many.
const RECENT: Duration = Duration::from_secs(5 * 60);

pub(super) async fn run(config: &Config, signals: &dyn Signals, findings: &mut Findings) {
    let Some(section) = &config.signals else { return };
    let scope = scope(section, config.kubernetes.as_ref().and_then(|kubernetes| kubernetes.cluster.as_deref()));
    let nodes = section.query.iter().map(|query| (query.name.as_str(), query.promql.as_str(), query.label.as_str()));
    let edges = section.edges.iter().map(|edge| (edge.name.as_str(), edge.promql.as_str(), "server"));
    let event_now = SystemClock.wall_now();
    if section.loki_url.is_some() {
        match streams(section, &scope, signals, event_now).await {
            Ok(line) => findings.good("signals", line),
            Err(line) => findings.note("signals", &line),
        }
    }
    let answers = answers(nodes.chain(edges), &scope, signals, event_now).await;
    for (name, error) in answers.iter().filter_map(|(name, answer)| Some((name, answer.as_ref().err()?))) {
        findings.bad(&format!("signals {name}"), error.to_string());
    }
    let silent: Vec<&str> =
        answers.iter().filter(|(_, answer)| answer == &Ok(Measured::Nothing)).map(|(name, _)| *name).collect();
    let measured = answers.iter().filter(|(_, answer)| answer == &Ok(Measured::Something)).count();
    if measured > 0 {
        findings.good("signals", format!("{measured} of {} signals are measured", answers.len()));
    }
    if !silent.is_empty() {
        findings.note("signals", &told(&silent, &scope));
    }
}

/// As an incident of the cluster that is watched would ask; where it has no name, of whatever names a cluster.
fn scope(section: &crate::config::Signals, here: Option<&str>) -> SignalScope {
    match here {
        Some(here) => section.scope(&[here].into()),
        None => SignalScope::of_any(section.cluster_label.as_deref(), section.log_cluster_label.as_deref()),
    }
}

/// Whether the logs of services can be found by the label that names them.
async fn streams(
    section: &crate::config::Signals,
    scope: &SignalScope,
    signals: &dyn Signals,
    event_now: Timestamp,
) -> Result<String, String> {
    const KEY: &str = "signals.log_service_label";
    let configured = section.log_service_label.as_str();
    let (of, key) = match scope.of_logs() {
        Some(of) => (format!(" where {of}"), format!("{KEY}, signals.log_cluster_label")),
        None => (String::new(), KEY.to_owned()),
    };
    for label in candidates(configured) {
        let selector = scope.logql(&format!("{{{label}=~\".+\"}}")).map_err(|refused| refused.to_string())?;
        match signals.streams(&selector, event_now - RECENT, event_now).await {
            Err(error) => return Err(format!("streams of logs cannot be counted: {error}")),
            Ok(0) => {}
            Ok(count) if label == configured => {
                return Ok(format!("{count} streams of logs have the label {label}{of}"));
            }
            Ok(count) => {
                return Err(format!(
                    "no stream of logs has the label {configured}{of}; {count} have {label}: set {KEY} = {label:?}, or the \
                     logs are not listened to while nothing is wrong"
                ));
            }
        }
    }
    Err(format!(
        "no stream of logs has the label {}{of}: logs of services are not found (key: {key})",
        candidates(configured).join(", or ")
    ))
}

#[derive(Debug, PartialEq, Eq)]
enum Measured {
    Something,
    /// No series, or none that says of whom it is.
    Nothing,
}

async fn answers<'a>(
    asked: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
    scope: &SignalScope,
    signals: &dyn Signals,
    event_now: Timestamp,
) -> Vec<(&'a str, Result<Measured, SignalError>)> {
    let asked = asked.map(|(name, promql, label)| async move {
        let is_named = |series: &Series| series.label(label).is_some_and(|of| !of.is_empty());
        let series = match scope.promql(promql) {
            Ok(promql) => signals.instant(&promql, event_now).await,
            Err(refused) => Err(refused.into()),
        };
        let answer = series.map(|series| match series.iter().any(is_named) {
            true => Measured::Something,
            false => Measured::Nothing,
        });
        (name, answer)
    });
    futures::stream::iter(asked).buffered(4).collect().await
}

fn told(silent: &[&str], scope: &SignalScope) -> String {
    let (of, key) = match scope.of_metrics() {
        Some(of) => (format!(" where {of}"), ", signals.cluster_label"),
        None => (String::new(), ""),
    };
    format!(
        "nothing is measured as {}{of}: no exporter writes such series, or their labels name no service \
         (keys: signals.query, signals.edges{key})",
        silent.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::ports::{LogLine, Window};

    struct Backend;

    #[async_trait]
    impl Signals for Backend {
        async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<Series>, SignalError> {
            let labelled =
                |name: &str| Series { labels: [(name.to_owned(), "cart".to_owned())].into(), points: vec![(at, 0.0)] };
            match query {
                "errors" => Ok(vec![labelled("service")]),
                "pool" => Ok(vec![labelled("job")]),
                "queue" => Ok(vec![]),
                // In one cluster only.
                r#"lag{cluster!=""}"# | r#"lag{cluster="eu"}"# => Ok(vec![labelled("service")]),
                r#"lag{cluster="us"}"# => Ok(vec![]),
                other => Err(SignalError::BadQuery(format!("parse error in {other}"))),
            }
        }
        async fn range(&self, _: &str, _: Window) -> Result<Vec<Series>, SignalError> {
            Ok(vec![])
        }
        async fn logs(&self, _: &str, _: Timestamp, _: Timestamp, _: usize) -> Result<Vec<LogLine>, SignalError> {
            Ok(vec![])
        }
        async fn streams(&self, selector: &str, _: Timestamp, _: Timestamp) -> Result<usize, SignalError> {
            Ok(usize::from(selector.starts_with("{service_name=") || selector == "{cluster=\"eu\", app=~\".+\"}"))
        }
        async fn check(&self) -> Result<String, SignalError> {
            Ok(String::new())
        }
    }

    #[tokio::test]
    async fn a_label_that_no_stream_has_is_told_with_the_one_to_set() {
        let mut section = crate::config::Signals::of("http://prometheus", Some("http://loki"));
        let told = streams(&section, &SignalScope::default(), &Backend, Timestamp::from_secs(1_000)).await.unwrap_err();
        assert!(told.contains("no stream of logs has the label app; 1 have service_name"), "{told}");
        section.log_service_label = "service_name".into();
        let told = streams(&section, &SignalScope::default(), &Backend, Timestamp::from_secs(1_000)).await;
        assert_eq!(told.as_deref(), Ok("1 streams of logs have the label service_name"));
        section.log_service_label = "team".into();
        assert!(
            streams(&section, &SignalScope::default(), &Backend, Timestamp::from_secs(1_000))
                .await
                .unwrap_err()
                .contains("label team:")
        );
    }

    #[tokio::test]
    async fn a_signal_without_a_service_measures_nothing() {
        let asked = ["errors", "pool", "queue", "typo"].map(|name| (name, name, "service"));
        let told: Vec<String> = answers(asked.into_iter(), &SignalScope::default(), &Backend, Timestamp::from_secs(1))
            .await
            .into_iter()
            .map(|(name, answer)| format!("{name}: {answer:?}"))
            .collect();
        expect_test::expect![[r#"
            errors: Ok(Something)
            pool: Ok(Nothing)
            queue: Ok(Nothing)
            typo: Err(BadQuery("parse error in typo"))"#]]
        .assert_eq(&told.join("\n"));
    }

    #[tokio::test]
    async fn what_no_series_of_the_cluster_has_is_told_with_the_label() {
        let mut section = crate::config::Signals::of("http://prometheus", Some("http://loki"));
        section.cluster_label = Some("cluster".into());
        section.log_cluster_label = Some("cluster".into());
        let at = Timestamp::from_secs(1_000);
        for (here, expected) in [(None, true), (Some("eu"), true), (Some("us"), false)] {
            let scope = scope(&section, here);
            let answers = answers([("lag", "lag", "service")].into_iter(), &scope, &Backend, at).await;
            assert_eq!(answers[0].1 == Ok(Measured::Something), expected, "{here:?}");
        }
        let us = scope(&section, Some("us"));
        let told = told(&["lag"], &us);
        assert!(told.contains("as lag where cluster=\"us\": ") && told.contains("signals.cluster_label"), "{told}");
        let told = streams(&section, &us, &Backend, at).await.unwrap_err();
        assert!(told.contains(" where cluster=\"us\"") && told.contains("signals.log_cluster_label"), "{told}");
        let told = streams(&section, &scope(&section, Some("eu")), &Backend, at).await;
        assert_eq!(told.as_deref(), Ok("1 streams of logs have the label app where cluster=\"eu\""));
    }
}
