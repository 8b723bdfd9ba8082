//! Who may ask at all. The console has no login: it trusts the machine it runs on, so a web page
//! from elsewhere must not be able to speak through the person's browser.
//!
//! - `Host` must be loopback or configured: DNS rebinding makes a foreign name resolve to us.
//! - `Origin`, when sent, must be the very host that was asked, or a configured one (a proxy that ends TLS may
//!   ask by another name than the browser did), and the fetch not cross-site.
//! - An act carries a header that a foreign page cannot set without a preflight, which we refuse.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::config::{host_of, is_named, is_ours};

/// Names one act of a person; made by the page, once per dialog or send.
pub const ACT_HEADER: &str = "x-midwatch-act";

const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// An error that says what, where and what to do.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub what: String,
    pub location: String,
    pub remedy: String,
}

impl Refusal {
    pub fn new(
        status: StatusCode,
        what: impl Into<String>,
        location: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status, what: what.into(), location: location.into(), remedy: remedy.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"what": self.what, "where": self.location, "what_to_do": self.remedy}});
        (self.status, axum::Json(body)).into_response()
    }
}

pub async fn keep_out_strangers(State(hosts): State<Vec<String>>, request: Request, next: Next) -> Response {
    match judge(request.method(), request.uri(), request.headers(), &hosts) {
        Ok(()) => with_strict_headers(next.run(request).await),
        Err(refusal) => with_strict_headers(refusal.into_response()),
    }
}

fn judge(method: &Method, uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Result<(), Refusal> {
    let asked = text(headers, "host").or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or("");
    if !is_ours(asked, hosts) {
        return Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("the console does not answer to the host {asked:?}"),
            "Host header",
            "open it as http://127.0.0.1 or http://localhost, or add the name to console.hosts",
        ));
    }
    if let Some(origin) = text(headers, "origin")
        && !origin.split_once("://").is_some_and(|(_, page)| page == asked || is_named(host_of(page), hosts))
    {
        return Err(foreign(format!("a page from {origin:?} asked"), "Origin header"));
    }
    if let Some("cross-site" | "same-site") = text(headers, "sec-fetch-site")
        && text(headers, "sec-fetch-mode") != Some("navigate")
    {
        return Err(foreign("another site's page asked".into(), "Sec-Fetch-Site header"));
    }
    if method != Method::GET && method != Method::HEAD && text(headers, ACT_HEADER).is_none_or(|act| !is_act_name(act))
    {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "an act needs a name of its own, so that it counts once",
            format!("{ACT_HEADER} header"),
            "send a fresh UUID in it, and the same one again when you retry",
        ));
    }
    Ok(())
}

fn foreign(what: String, location: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, what, location, "use the console's own page")
}

fn is_act_name(name: &str) -> bool {
    (8..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn with_strict_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(CONTENT_POLICY));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, pairs: &[(&'static str, &str)], expected: Result<(), StatusCode>) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let verdict = judge(&method, &Uri::from_static("/api/act"), &headers, &["watch.example".into()]);
        assert_eq!(verdict.map_err(|refusal| refusal.status), expected, "{method} {pairs:?}");
    }

    #[test]
    fn only_our_own_names_are_answered() {
        for host in ["127.0.0.1:7717", "localhost:1", "[::1]:7717", "watch.example", "WATCH.example:443"] {
            check(Method::GET, &[("host", host)], Ok(()));
        }
        for host in ["evil.example", "127.0.0.1.evil.example:7717", "", "localhost.evil"] {
            check(Method::GET, &[("host", host)], Err(StatusCode::MISDIRECTED_REQUEST));
        }
    }

    /// It ends TLS, and asks by the address that it was given.
    #[test]
    fn our_page_may_act_through_a_proxy() {
        let act = (ACT_HEADER, "0f8fad5b-d9cb-469f-a165-70867728950e");
        for host in ["127.0.0.1:7717", "watch.example"] {
            check(Method::POST, &[("host", host), act, ("origin", "https://watch.example")], Ok(()));
            let foreign = ("origin", "https://watch.example.evil");
            check(Method::POST, &[("host", host), act, foreign], Err(StatusCode::FORBIDDEN));
        }
    }

    #[test]
    fn a_foreign_page_cannot_act() {
        let host = ("host", "localhost:7717");
        let act = (ACT_HEADER, "0f8fad5b-d9cb-469f-a165-70867728950e");
        check(Method::POST, &[host, act], Ok(()));
        check(Method::POST, &[host, act, ("origin", "http://localhost:7717")], Ok(()));
        check(Method::POST, &[host], Err(StatusCode::FORBIDDEN));
        check(Method::POST, &[host, (ACT_HEADER, "x")], Err(StatusCode::FORBIDDEN));
        check(Method::POST, &[host, act, ("origin", "http://localhost:8000")], Err(StatusCode::FORBIDDEN));
        check(Method::POST, &[host, act, ("origin", "https://evil.example")], Err(StatusCode::FORBIDDEN));
        check(Method::POST, &[host, act, ("origin", "null")], Err(StatusCode::FORBIDDEN));
        check(Method::GET, &[host, ("sec-fetch-site", "cross-site")], Err(StatusCode::FORBIDDEN));
        check(Method::GET, &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], Ok(()));
    }
}
