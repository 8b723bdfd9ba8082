//! Which cluster is watched, and as whom it is read and written.
//!
//! Invariant: what is given is used; a combination in which one key would be ignored is an error.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, Secret};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Kubernetes {
    /// Name of the cluster as alerts label it.
    pub cluster: Option<String>,
    /// API server; empty: kubeconfig or in-cluster, which also name the CA.
    pub url: Option<String>,
    /// PEM of the CA that signed the certificate of `url`; empty: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Read-only identity; empty: that of kubeconfig or pod.
    pub token: Secret,
    /// The same in a file that is read again when it changes.
    pub token_file: Option<PathBuf>,
    /// Remediation identity; empty: no action is ever executed.
    pub write_token: Secret,
    pub write_token_file: Option<PathBuf>,
    /// Context of the kubeconfig for remediation.
    pub write_context: Option<String>,
    pub context: Option<String>,
    /// How often the ConfigMaps that workloads refer to are looked at; 30 when left out.
    pub config_map_seconds: Option<f64>,
}

impl Kubernetes {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key, reason: &str, remedy| Err(ConfigError::Value { key, reason: reason.to_owned(), remedy });
        if let Some(seconds) = self.config_map_seconds
            && !(0.05..=3600.0).contains(&seconds)
        {
            let reason = format!("{seconds} is not between 0.05 and 3600");
            return wrong("kubernetes.config_map_seconds", &reason, "Give for example 30.");
        }
        for (key, token, file) in [
            ("kubernetes.token_file", &self.token, &self.token_file),
            ("kubernetes.write_token_file", &self.write_token, &self.write_token_file),
        ] {
            if token.reveal().is_some() && file.is_some() {
                return wrong(key, "the token itself is given too", "Give one of the two.");
            }
        }
        let writes_by_token = self.write_token.reveal().is_some() || self.write_token_file.is_some();
        if self.write_context.is_some() && writes_by_token {
            return wrong("kubernetes.write_context", "a token to write with is given too", "Give one of the two.");
        }
        match &self.url {
            Some(_) if self.context.is_some() || self.write_context.is_some() => wrong(
                "kubernetes.context",
                "contexts are those of a kubeconfig, which is not read when kubernetes.url is given",
                "Leave out kubernetes.url, or give tokens (kubernetes.token, kubernetes.write_token).",
            ),
            Some(url) if self.ca_file.is_some() && !url.starts_with("https://") => {
                wrong("kubernetes.ca_file", "kubernetes.url is not https", "Give https://, or leave it out.")
            }
            None if self.ca_file.is_some() => wrong(
                "kubernetes.ca_file",
                "without kubernetes.url the kubeconfig or the pod's service account names the CA",
                "Give kubernetes.url, or leave it out.",
            ),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let config: Kubernetes = toml::from_str(text).unwrap();
        let said = config.validate().map_or_else(|error| error.to_string(), |()| "good".to_owned());
        assert!(said.contains(expected), "{text}\n{said}\n does not contain\n{expected}");
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for good in [
            "",
            "token = \"r\"\nwrite_token = \"w\"",
            "context = \"read\"\ntoken_file = \"/r\"\nwrite_token_file = \"/w\"",
            "context = \"read\"\nwrite_context = \"write\"",
            "url = \"https://k:6443\"\nca_file = \"/ca.crt\"\ntoken_file = \"/r\"\nwrite_token = \"w\"",
        ] {
            check(good, "good");
        }
        check("token = \"r\"\ntoken_file = \"/r\"", "kubernetes.token_file");
        check("write_token = \"w\"\nwrite_token_file = \"/w\"", "kubernetes.write_token_file");
        check("write_token = \"w\"\nwrite_context = \"write\"", "kubernetes.write_context");
        check("url = \"https://k\"\nwrite_context = \"write\"", "kubernetes.context");
        check("ca_file = \"/ca.crt\"", "kubernetes.ca_file");
        check("url = \"http://k\"\nca_file = \"/ca.crt\"", "kubernetes.url is not https");
        check("config_map_seconds = 0", "kubernetes.config_map_seconds");
    }
}
