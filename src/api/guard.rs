//! Who may ask where no token is asked for: programs of this place, and no page in a browser.
//!
//! - A page of another site can send a simple POST without being asked first. A browser says with `Origin`, or
//!   with `Sec-Fetch-Site`, that a page asks; programs that send alerts say neither.
//! - DNS rebinding makes a foreign name resolve to us, and its page our own page. Where we listen for this
//!   machine only, a foreign `Host` is therefore not answered.
//!
//! With a token every write is guarded by it, and a browser does not know it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;

use super::problem;
use crate::config::{Config, is_ours};

pub(super) enum Door {
    /// Whoever writes shows the token.
    Token,
    /// `names`: beside those of this machine, where only they are answered to.
    Open { names: Option<Vec<String>> },
}

struct Refused {
    status: StatusCode,
    what: String,
    remedy: &'static str,
}

impl Door {
    pub(super) fn of(config: &Config) -> Self {
        if config.server.webhook_token.reveal().is_some() {
            return Self::Token;
        }
        let listen = config.server.listen.parse::<std::net::SocketAddr>();
        let is_local = listen.is_ok_and(|address| address.ip().is_loopback());
        Self::Open { names: is_local.then(|| config.console.names()) }
    }

    fn judge(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let Self::Open { names } = self else { return Ok(()) };
        let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        // A browser always says whom it asks.
        let asked = text("host").or_else(|| uri.authority().map(|authority| authority.as_str().into()));
        if let (Some(asked), Some(names)) = (asked, names)
            && !is_ours(&asked, names)
        {
            let what = format!("the API does not answer to the host {asked:?} without a token");
            let remedy = "ask 127.0.0.1 or localhost, add the name to console.hosts, or set server.webhook_token";
            return Err(Refused { status: StatusCode::MISDIRECTED_REQUEST, what, remedy });
        }
        if method == Method::GET || method == Method::HEAD {
            return Ok(());
        }
        let what = match (text("origin"), text("sec-fetch-site").as_deref()) {
            (Some(origin), _) => format!("a page from {origin:?} asked, and pages may not write without a token"),
            (None, Some("cross-site" | "same-site")) => "another site's page asked".into(),
            (None, _) => return Ok(()),
        };
        let remedy = "set server.webhook_token and send it as Authorization: Bearer ..., or ask from a program";
        Err(Refused { status: StatusCode::FORBIDDEN, what, remedy })
    }
}

pub(super) async fn keep_out_pages(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.judge(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Refused { status, what, remedy }) => problem(status, &what, remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn door(token: &str, listen: &str) -> Door {
        let mut config = Config::default();
        config.server.webhook_token = Secret::new(token);
        config.server.listen = listen.into();
        config.console.public_url = Some("https://watch.example".into());
        Door::of(&config)
    }

    #[track_caller]
    fn check(door: &Door, method: Method, pairs: &[(&'static str, &str)], expected: u16) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        let verdict = door.judge(&method, &Uri::from_static("/api/v1/silences"), &headers);
        let status = verdict.map_or_else(|refused| refused.status.as_u16(), |()| 200);
        assert_eq!(status, expected, "{method} {pairs:?}");
    }

    #[test]
    fn a_page_cannot_write_and_a_program_can() {
        let door = door("", "127.0.0.1:8080");
        let host = ("host", "127.0.0.1:8080");
        check(&door, Method::POST, &[host], 200);
        check(&door, Method::POST, &[], 200);
        for origin in ["https://evil.example", "null", "http://127.0.0.1:8080"] {
            check(&door, Method::POST, &[host, ("origin", origin)], 403);
            check(&door, Method::DELETE, &[host, ("origin", origin)], 403);
        }
        check(&door, Method::POST, &[host, ("sec-fetch-site", "cross-site")], 403);
        check(&door, Method::GET, &[host, ("origin", "https://evil.example")], 200);
    }

    #[test]
    fn a_foreign_name_is_not_answered_on_the_loopback_address() {
        let local = door("", "[::1]:8080");
        for (host, expected) in [("evil.example:8080", 421), ("watch.example", 200), ("localhost:8080", 200)] {
            check(&local, Method::GET, &[("host", host)], expected);
            check(&local, Method::POST, &[("host", host)], expected);
        }
        check(&door("", "0.0.0.0:8080"), Method::POST, &[("host", "midwatch:8080")], 200);
        check(&door("", "0.0.0.0:8080"), Method::POST, &[("host", "midwatch"), ("origin", "http://midwatch")], 403);
    }

    #[test]
    fn with_a_token_the_token_decides() {
        let with = door("t0p", "127.0.0.1:8080");
        check(&with, Method::POST, &[("host", "evil.example"), ("origin", "https://evil.example")], 200);
    }
}
