//! Where alerts and changes come from by topic.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    pub brokers: String,
    #[serde(default = "default_topic")]
    pub topic: String,
    #[serde(default = "default_dead_letter")]
    pub dead_letter_topic: String,
    /// Changes are announced there; left out: by webhook only.
    #[serde(default)]
    pub changes_topic: Option<String>,
    #[serde(default = "default_group")]
    pub group: String,
    /// Passed through to librdkafka: TLS, SASL, timeouts.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

fn default_topic() -> String {
    "alerts".into()
}
fn default_dead_letter() -> String {
    "alerts.dead-letter".into()
}
fn default_group() -> String {
    "midwatch".into()
}
