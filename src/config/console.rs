//! The chat page, and by which names it is asked for.
//!
//! Invariant: a name of this machine itself is never a configured one. Whatever else runs here has it too, so
//! a page from there must not be taken for our own.

use serde::Deserialize;

use super::ConfigError;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleConfig {
    pub enabled: bool,
    pub listen: String,
    /// What people type into the browser; links in chat point here.
    pub public_url: Option<String>,
    /// Further names by which a proxy or a browser asks for it, without port.
    pub hosts: Vec<String>,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self { enabled: true, listen: "127.0.0.1:7717".into(), public_url: None, hosts: vec![] }
    }
}

impl ConsoleConfig {
    /// Names beside those of this machine.
    pub fn names(&self) -> Vec<String> {
        let public = self.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
        let public = public.as_ref().and_then(url::Url::host_str).map(str::to_owned);
        let names = public.into_iter().chain(self.hosts.iter().cloned());
        names.map(|name| host_of(&name).to_owned()).filter(|name| !is_loopback(name)).collect()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let value = |key, reason: String, remedy| Err(ConfigError::Value { key, reason, remedy });
        if let Some(url) = &self.public_url
            && !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        {
            let reason = format!("{url:?} is not an http(s) address");
            return value("console.public_url", reason, "Give for example https://midwatch.example.com.");
        }
        let is_name = |name: &str| {
            let bytes = name.bytes();
            let plain = !name.is_empty() && bytes.clone().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            plain || name.parse::<std::net::Ipv6Addr>().is_ok()
        };
        if let Some(name) = self.hosts.iter().find(|name| !is_name(name)) {
            let reason = format!("{name:?} is not the name of a host");
            return value("console.hosts", reason, "Give names without scheme, port and path: midwatch.example.com.");
        }
        Ok(())
    }
}

/// The host of `127.0.0.1:7717`, `[::1]:7717` or `watch.example`.
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None if authority.parse::<std::net::Ipv6Addr>().is_ok() => authority,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A name of this machine, or a configured one; any port.
pub fn is_ours(authority: &str, names: &[String]) -> bool {
    let host = host_of(authority);
    is_loopback(host) || is_named(host, names)
}

pub fn is_named(host: &str, names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(public_url: &str, hosts: &[&str]) -> ConsoleConfig {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        ConsoleConfig { public_url: Some(public_url.into()), hosts, ..ConsoleConfig::default() }
    }

    #[test]
    fn names_come_from_the_address_and_the_list_but_never_this_machine() {
        let named = config("https://Watch.example:8443/", &["ops.example", "localhost", "fd00::7"]);
        assert!(named.validate().is_ok());
        assert_eq!(named.names(), ["watch.example", "ops.example", "fd00::7"]);
        assert_eq!(config("http://127.0.0.1:7717", &[]).names(), Vec::<String>::new());
        assert_eq!(config("http://[::1]:7717", &[]).names(), Vec::<String>::new());
        assert!(is_ours("WATCH.example:443", &named.names()) && is_ours("[fd00::7]:443", &named.names()));
        assert!(is_ours("[::1]:7717", &[]) && !is_ours("watch.example", &[]) && !is_ours("127.0.0.1.evil", &[]));
    }

    #[test]
    fn what_is_no_address_and_no_name_is_refused_by_its_key() {
        for (wrong, key) in [
            (config("midwatch.example.com", &[]), "`console.public_url`"),
            (config("ftp://midwatch.example.com", &[]), "`console.public_url`"),
            (config("https://ok.example", &["https://midwatch.example.com"]), "`console.hosts`"),
            (config("https://ok.example", &["midwatch.example.com:443"]), "`console.hosts`"),
            (config("https://ok.example", &[""]), "`console.hosts`"),
        ] {
            let said = wrong.validate().expect_err("it is wrong").to_string();
            assert!(said.starts_with(key), "{said}");
        }
    }
}
