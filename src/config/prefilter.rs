//! `[prefilter]`: what is noise.

use serde::Deserialize;

use super::ConfigError;
use crate::domain::alert::Severity;
use crate::domain::anomaly::{AuditRules, Bound};
use crate::domain::prefilter::{AnomalyMode, Debounce, Rules};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrefilterConfig {
    pub severity_floor: Severity,
    pub flap_transitions: usize,
    pub anomaly_mode: AnomalyMode,
    pub anomaly_threshold: f64,
    pub anomaly_min_history: usize,
    pub max_missed: f64,
    pub confidence: f64,
    pub audit_share: f64,
    pub audit_per_day: usize,
    pub never_suppress: Vec<String>,
    pub debounce: Vec<Debounce>,
}

impl Default for PrefilterConfig {
    fn default() -> Self {
        let rules = Rules::default();
        Self {
            severity_floor: rules.severity_floor,
            flap_transitions: rules.flap_transitions,
            anomaly_mode: rules.anomaly_mode,
            anomaly_threshold: rules.anomaly_threshold,
            anomaly_min_history: rules.anomaly_min_history,
            max_missed: rules.bound.missed,
            confidence: rules.bound.confidence,
            audit_share: rules.audit.share,
            audit_per_day: rules.audit.per_day,
            never_suppress: rules.never_suppress,
            debounce: rules.debounce,
        }
    }
}

impl PrefilterConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let value = |key, reason: String, remedy| Err(ConfigError::Value { key, reason, remedy });
        if !(-1.0..=0.0).contains(&self.anomaly_threshold) {
            return value(
                "prefilter.anomaly_threshold",
                format!("{} is outside -1..0", self.anomaly_threshold),
                "Scores keep scikit-learn's convention: lower is more anomalous; -0.5 is usual.",
            );
        }
        for (key, share, remedy) in [
            ("prefilter.max_missed", self.max_missed, "Give for example 0.01, one incident in a hundred."),
            ("prefilter.confidence", self.confidence, "Give for example 0.95."),
        ] {
            if !(share > 0.0 && share < 1.0) {
                return value(key, format!("{share} is not between 0 and 1"), remedy);
            }
        }
        if !(0.0..=1.0).contains(&self.audit_share) {
            return value(
                "prefilter.audit_share",
                format!("{} is outside 0..1", self.audit_share),
                "It is the share of suppressed alerts that people are asked about; 0.01 is usual.",
            );
        }
        for entry in &self.debounce {
            if let Err(reason) = entry.check() {
                return value("prefilter.debounce", reason, "See deploy/midwatch.example.toml.");
            }
        }
        Ok(())
    }

    pub fn rules(&self) -> Rules {
        Rules {
            severity_floor: self.severity_floor,
            flap_transitions: self.flap_transitions,
            anomaly_threshold: self.anomaly_threshold,
            anomaly_mode: self.anomaly_mode,
            anomaly_min_history: self.anomaly_min_history,
            never_suppress: self.never_suppress.clone(),
            debounce: self.debounce.clone(),
            bound: Bound { missed: self.max_missed, confidence: self.confidence },
            audit: AuditRules { share: self.audit_share, per_day: self.audit_per_day, ..AuditRules::default() },
            ..Rules::default()
        }
    }
}
