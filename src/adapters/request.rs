//! The user's own HTTP requests as tools: GET, with variables in the path and the query only.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::declared;
use super::egress::{Egress, read, why};
use crate::config::{HttpConfig, networks, variables};
use crate::domain::evidence::Taint;
use crate::domain::tool_template::{Address, Variable, values};
use crate::ports::{Handling, Instrument, InstrumentError, Observation, ToolSchema};

pub struct HttpTool {
    config: HttpConfig,
    address: Address,
    variables: Vec<Variable>,
    egress: Egress,
}

impl HttpTool {
    pub fn new(config: &HttpConfig) -> Result<Self, String> {
        Ok(Self {
            address: Address::parse(&config.url)?,
            variables: variables(&config.variable)?,
            egress: Egress::new(networks(&config.networks)?),
            config: config.clone(),
        })
    }

    fn headers(&self) -> Result<HeaderMap, InstrumentError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.headers {
            let bad = |_| InstrumentError::Unavailable(format!("the header {name} cannot be sent"));
            let name = HeaderName::try_from(name.as_str()).map_err(|_| bad(()))?;
            let mut value = HeaderValue::from_str(value.reveal().unwrap_or_default()).map_err(|_| bad(()))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

#[async_trait]
impl Instrument for HttpTool {
    fn schema(&self) -> ToolSchema {
        declared::schema(&self.config.name, &self.config.description, &self.variables)
    }

    fn handling(&self) -> Handling {
        declared::handling("http", self.config.timeout_seconds, &self.config.specialities)
    }

    async fn ask(&self, arguments: Value) -> Result<Observation, InstrumentError> {
        let values = values(&self.variables, &arguments).map_err(InstrumentError::Refused)?;
        let text = self.address.fill(&values).map_err(InstrumentError::Refused)?;
        let url = text.parse().map_err(|why| InstrumentError::Refused(format!("{text}: {why}")))?;
        let pinned = self.egress.pin(url).await.map_err(InstrumentError::Unavailable)?;
        let client =
            pinned.client(Duration::from_secs(self.config.timeout_seconds)).map_err(InstrumentError::Unavailable)?;
        let unavailable = |error| InstrumentError::Unavailable(why(error));
        let response = client.get(pinned.url.clone()).headers(self.headers()?).send().await.map_err(unavailable)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(InstrumentError::Unavailable(format!(
                "the server redirects ({status}), which is not followed"
            )));
        }
        let (body, cut) = read(response, self.config.output_bytes).await.map_err(unavailable)?;
        let mut body = String::from_utf8_lossy(&body).into_owned();
        let length = body.len();
        if cut {
            body.push_str(&format!("\n[only the first {} bytes were read]", self.config.output_bytes));
        }
        let summary = format!("{}: {status}, {length} bytes", self.config.name);
        Ok(Observation { query: format!("GET {text}"), summary, body, taint: Taint::UserWritable })
    }

    /// That the host is found and may be reached; nothing is asked of it.
    async fn check(&self) -> Result<String, InstrumentError> {
        let origin = self.address.origin.clone();
        let url = origin.parse().map_err(|why| InstrumentError::Unavailable(format!("{origin}: {why}")))?;
        self.egress.pin(url).await.map_err(InstrumentError::Unavailable)?;
        Ok(format!("{origin} may be reached"))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;
    use serde_json::json;

    use super::*;

    async fn tool(networks: &str) -> HttpTool {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new()
            .route(
                "/v1/{region}/status",
                get(|uri: axum::http::Uri, headers: HeaderMap| async move {
                    format!("{uri} {}", headers["x-token"].to_str().unwrap())
                }),
            )
            .route("/v1/moved/status", get(|| async { Redirect::temporary("http://169.254.169.254/") }))
            .route("/v1/large/status", get(|| async { "x".repeat(5_000) }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let text = format!(
            "name = \"status\"\ndescription = \"d\"\nurl = \"http://localhost:{port}/v1/{{region}}/status?q={{q}}\"\n\
             networks = {networks}\noutput_bytes = 1000\nheaders = {{ x-token = \"s3cret\" }}\n\
             [[variable]]\nname = \"region\"\ndescription = \"d\"\n\
             [[variable]]\nname = \"q\"\ndescription = \"d\"\npattern = \".*\"\n"
        );
        HttpTool::new(&toml::from_str(&text).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn only_the_holes_are_the_models_to_fill() {
        let tool = tool("[\"127.0.0.0/8\", \"::1/128\"]").await;
        let seen = tool.ask(json!({"region": "eu-1", "q": "a&b=c"})).await.unwrap();
        assert_eq!(seen.body, "/v1/eu-1/status?q=a%26b%3Dc s3cret");
        assert!(tool.ask(json!({"region": "../admin", "q": ""})).await.unwrap_err().to_string().contains("must match"));
        let moved = tool.ask(json!({"region": "moved", "q": ""})).await.unwrap_err();
        assert!(moved.to_string().contains("redirects (307"), "{moved}");
        let large = tool.ask(json!({"region": "large", "q": ""})).await.unwrap();
        assert!(large.body.ends_with("[only the first 1000 bytes were read]"));
        assert!(!format!("{:?}", tool.config).contains("s3cret"));
    }

    #[tokio::test]
    async fn a_host_in_a_private_network_is_refused() {
        let tool = tool("[]").await;
        let refused = tool.ask(json!({"region": "eu-1", "q": ""})).await.unwrap_err();
        assert!(refused.to_string().contains("is not a public address"), "{refused}");
        assert!(tool.check().await.is_err());
    }
}
