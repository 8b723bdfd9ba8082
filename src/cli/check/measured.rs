//! Which signals find nothing: a query that fits no exporter is silent in every incident.

use futures::StreamExt as _;

use super::Findings;
use crate::config::Config;
use crate::domain::evidence::Series;
use crate::domain::time::Timestamp;
use crate::ports::{Clock as _, SignalError, Signals, SystemClock};

pub(super) async fn run(config: &Config, signals: &dyn Signals, findings: &mut Findings) {
    let Some(section) = &config.signals else { return };
    let nodes = section.query.iter().map(|query| (query.name.as_str(), query.promql.as_str(), query.label.as_str()));
    let edges = section.edges.iter().map(|edge| (edge.name.as_str(), edge.promql.as_str(), "server"));
    let answers = answers(nodes.chain(edges), signals, SystemClock.wall_now()).await;
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
        findings.note("signals", &told(&silent));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Measured {
    Something,
    /// No series, or none that says of whom it is.
    Nothing,
}

async fn answers<'a>(
    asked: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
    signals: &dyn Signals,
    event_now: Timestamp,
) -> Vec<(&'a str, Result<Measured, SignalError>)> {
    let asked = asked.map(|(name, promql, label)| async move {
        let is_named = |series: &Series| series.label(label).is_some_and(|of| !of.is_empty());
        let answer = signals.instant(promql, event_now).await.map(|series| match series.iter().any(is_named) {
            true => Measured::Something,
            false => Measured::Nothing,
        });
        (name, answer)
    });
    futures::stream::iter(asked).buffered(4).collect().await
}

fn told(silent: &[&str]) -> String {
    format!(
        "nothing is measured as {}: no exporter writes such series, or their labels name no service \
         (keys: signals.query, signals.edges)",
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
                other => Err(SignalError::BadQuery(format!("parse error in {other}"))),
            }
        }
        async fn range(&self, _: &str, _: Window) -> Result<Vec<Series>, SignalError> {
            Ok(vec![])
        }
        async fn logs(&self, _: &str, _: Timestamp, _: Timestamp, _: usize) -> Result<Vec<LogLine>, SignalError> {
            Ok(vec![])
        }
        async fn check(&self) -> Result<String, SignalError> {
            Ok(String::new())
        }
    }

    #[tokio::test]
    async fn a_signal_without_a_service_measures_nothing() {
        let asked = ["errors", "pool", "queue", "typo"].map(|name| (name, name, "service"));
        let told: Vec<String> = answers(asked.into_iter(), &Backend, Timestamp::from_secs(1))
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
}
