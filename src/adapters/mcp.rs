//! Tools of MCP servers (Model Context Protocol), over standard input and output or streamable HTTP.
//!
//! Invariants: only tools that the configuration names are offered, whatever the server says of
//! them (`readOnlyHint` is the server's word); their names carry the server's name, so that no server
//! can take the place of a tool of ours; what a server writes, descriptions included, is cleaned and
//! bounded; a server that has gone is connected again when it is next asked.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use process_wrap::tokio::{CommandWrap, KillOnDrop, ProcessGroup};
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock, Implementation,
    ResourceContents, Tool,
};
use rmcp::service::{Peer, RoleClient, RunningService, ServiceError, ServiceExt as _};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::config::McpConfig;
use crate::domain::evidence::{EvidenceKind, Taint};
use crate::domain::redact::strip;
use crate::ports::{Handling, Instrument, InstrumentError, Observation, ToolSchema};

const CONNECT: Duration = Duration::from_secs(10);
const MAX_DESCRIPTION: usize = 600;
/// A larger schema would cost more of every request than the tool is worth.
const MAX_SCHEMA: usize = 8_192;
const SHOWN: usize = 4_000;

type Session = RunningService<RoleClient, ClientConfig>;

pub struct McpServer {
    config: McpConfig,
    session: Mutex<Option<Session>>,
}

/// What a server has of what was asked for.
pub struct Offer {
    pub tools: Vec<Arc<dyn Instrument>>,
    /// Names in the configuration that the server does not know.
    pub missing: Vec<String>,
}

impl McpServer {
    pub fn new(config: &McpConfig) -> Arc<Self> {
        Arc::new(Self { config: config.clone(), session: Mutex::new(None) })
    }

    /// The tools that are allowed, as the server describes them now.
    pub async fn offer(self: &Arc<Self>) -> Result<Offer, InstrumentError> {
        let peer = self.peer().await?;
        let listed = tokio::time::timeout(CONNECT, peer.list_all_tools());
        let listed = listed.await.map_err(|_| self.unavailable("no list of tools within 10 s"))?;
        let listed = listed.map_err(|error| self.unavailable(&error.to_string()))?;
        let missing: Vec<String> =
            self.config.tools.iter().filter(|name| !listed.iter().any(|tool| tool.name == **name)).cloned().collect();
        let tools = listed
            .into_iter()
            .filter(|tool| self.config.tools.iter().any(|name| tool.name == *name))
            .map(|tool| -> Arc<dyn Instrument> { Arc::new(McpTool::new(self.clone(), &tool)) })
            .collect();
        Ok(Offer { tools, missing })
    }

    /// One line for `midwatch check`.
    pub async fn check(self: &Arc<Self>) -> Result<String, InstrumentError> {
        let offer = self.offer().await?;
        match offer.missing.is_empty() {
            true => Ok(format!("{} tools", offer.tools.len())),
            false => Err(self.unavailable(&format!("the server has no tool {}", offer.missing.join(", ")))),
        }
    }

    fn unavailable(&self, why: &str) -> InstrumentError {
        InstrumentError::Unavailable(format!("MCP server {}: {}", self.config.name, clip(why, 300)))
    }

    async fn peer(&self) -> Result<Peer<RoleClient>, InstrumentError> {
        let mut session = self.session.lock().await;
        if let Some(open) = session.as_ref().filter(|open| !open.is_closed() && !open.peer().is_transport_closed()) {
            return Ok(open.peer().clone());
        }
        let connected = tokio::time::timeout(CONNECT, self.connect())
            .await
            .map_err(|_| self.unavailable("no connection within 10 s"))??;
        let peer = connected.peer().clone();
        *session = Some(connected);
        Ok(peer)
    }

    async fn connect(&self) -> Result<Session, InstrumentError> {
        let us = ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("midwatch", env!("CARGO_PKG_VERSION")),
        );
        let session = match &self.config.url {
            Some(url) => {
                let http = reqwest::Client::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|error| self.unavailable(&error.to_string()))?;
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                if let Some(token) = self.config.bearer_token.reveal() {
                    config = config.auth_header(token);
                }
                us.serve(StreamableHttpClientTransport::with_client(http, config)).await
            }
            None => {
                let (program, words) =
                    self.config.command.split_first().ok_or_else(|| self.unavailable("no command is configured"))?;
                let mut command = CommandWrap::with_new(program, |command| {
                    command.args(words).env_clear();
                    command.envs(self.config.env.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
                });
                command.wrap(KillOnDrop).wrap(ProcessGroup::leader());
                let (process, _) = TokioChildProcess::builder(command)
                    .stderr(Stdio::null())
                    .spawn()
                    .map_err(|error| self.unavailable(&format!("{program}: {error}")))?;
                us.serve(process).await
            }
        };
        session.map_err(|error| self.unavailable(&error.to_string()))
    }
}

struct McpTool {
    server: Arc<McpServer>,
    /// As the server names it.
    remote: String,
    schema: ToolSchema,
}

impl McpTool {
    fn new(server: Arc<McpServer>, tool: &Tool) -> Self {
        let said = tool.description.as_deref().unwrap_or("no description");
        let description = format!("(MCP server {}) {}", server.config.name, clip(&strip(said), MAX_DESCRIPTION));
        let parameters = Value::Object((*tool.input_schema).clone());
        let fits = parameters["type"] == "object" && parameters.to_string().len() <= MAX_SCHEMA;
        let parameters = if fits { parameters } else { json!({"type": "object"}) };
        let name = prefixed(&server.config.name, &tool.name);
        Self { remote: tool.name.to_string(), schema: ToolSchema { name, description, parameters }, server }
    }
}

#[async_trait]
impl Instrument for McpTool {
    fn schema(&self) -> ToolSchema {
        self.schema.clone()
    }

    fn handling(&self) -> Handling {
        Handling {
            source: "mcp",
            kind: EvidenceKind::Outside,
            // Connecting again may come before the call.
            timeout: Duration::from_secs(self.server.config.timeout_seconds) + CONNECT + Duration::from_secs(2),
            shown: SHOWN,
            specialities: self.server.config.specialities.clone(),
        }
    }

    async fn ask(&self, arguments: Value) -> Result<Observation, InstrumentError> {
        let query = format!("{} {arguments}", self.schema.name);
        let given = match arguments {
            Value::Object(map) => map,
            Value::Null => serde_json::Map::new(),
            _ => return Err(InstrumentError::Refused("the arguments must be an object".to_owned())),
        };
        let peer = self.server.peer().await?;
        let call = peer.call_tool(CallToolRequestParams::new(self.remote.clone()).with_arguments(given));
        let limit = Duration::from_secs(self.server.config.timeout_seconds);
        let answer = match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => answer,
            // The server understood us and said no: the model may ask better.
            Ok(Err(ServiceError::McpError(error))) => {
                return Err(InstrumentError::Refused(clip(&format!("refused by the server: {}", error.message), 500)));
            }
            Ok(Err(error)) => return Err(self.server.unavailable(&error.to_string())),
            Err(_) => return Err(self.server.unavailable(&format!("no answer within {} s", limit.as_secs()))),
        };
        let body = text_of(&answer);
        if answer.is_error == Some(true) {
            return Err(InstrumentError::Refused(clip(&format!("the tool failed: {body}"), 500)));
        }
        let summary = format!("{}: {} lines", self.schema.name, body.lines().count());
        Ok(Observation { query, summary, body, taint: Taint::UserWritable })
    }

    async fn check(&self) -> Result<String, InstrumentError> {
        self.server.check().await
    }
}

fn text_of(answer: &CallToolResult) -> String {
    let mut parts: Vec<String> = answer
        .content
        .iter()
        .map(|block| match block {
            ContentBlock::Text(text) => text.text.clone(),
            ContentBlock::Image(image) => format!("[an image, {}, is not shown]", image.mime_type),
            ContentBlock::Audio(audio) => format!("[sound, {}, is not shown]", audio.mime_type),
            ContentBlock::Resource(embedded) => match &embedded.resource {
                ResourceContents::TextResourceContents { uri, text, .. } => format!("{uri}\n{text}"),
                ResourceContents::BlobResourceContents { uri, .. } => format!("[{uri}: not text, not shown]"),
                _ => "[a resource of an unknown kind is not shown]".to_owned(),
            },
            ContentBlock::ResourceLink(link) => format!("[see {}]", link.uri),
            _ => "[content of an unknown kind is not shown]".to_owned(),
        })
        .collect();
    if let (true, Some(value)) = (parts.is_empty(), &answer.structured_content) {
        parts.push(value.to_string());
    }
    parts.join("\n")
}

/// What model endpoints accept as a name: 64 letters, digits, `_` and `-`.
fn prefixed(server: &str, tool: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    format!("{server}_{tool}").chars().map(clean).take(64).collect()
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of the 2025-06-18 revision, written from its text and without a library.
    const SERVER: &str = r#"
import json, sys
TOOLS = [
    {"name": "search.issues", "description": "finds issues\u202e", "annotations": {"readOnlyHint": False},
     "inputSchema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}},
    {"name": "delete_repo", "description": "harmless", "annotations": {"readOnlyHint": True},
     "inputSchema": {"type": "object"}},
    {"name": "quit", "description": "ends", "inputSchema": {"type": "object"}},
]
def call(params):
    if params["name"] == "quit":
        sys.exit(0)
    q = params.get("arguments", {}).get("q", "")
    if q == "large":
        return {"content": [{"type": "text", "text": "\n".join("issue %d is open" % n for n in range(60000))}]}
    if q == "fail":
        return {"content": [{"type": "text", "text": "no such project"}], "isError": True}
    return {"content": [{"type": "text", "text": "found " + q}, {"type": "image", "data": "aa==", "mimeType": "image/png"}]}
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    method, answer = message["method"], {"jsonrpc": "2.0", "id": message["id"]}
    if method == "initialize":
        answer["result"] = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                            "serverInfo": {"name": "fake", "version": "1"}}
    elif method == "tools/list":
        page = int((message.get("params") or {}).get("cursor") or 0)
        answer["result"] = {"tools": TOOLS[page:page + 1]}
        if page + 1 < len(TOOLS):
            answer["result"]["nextCursor"] = str(page + 1)
    elif method == "tools/call":
        answer["result"] = call(message["params"])
    else:
        answer["error"] = {"code": -32601, "message": "method not found: " + method}
    print(json.dumps(answer), flush=True)
"#;

    fn server(tools: &str) -> (Arc<McpServer>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("server.py");
        std::fs::write(&script, SERVER).unwrap();
        let text = format!("name = \"tracker\"\ncommand = [\"python3\", \"{}\"]\ntools = {tools}", script.display());
        (McpServer::new(&toml::from_str(&text).unwrap()), folder)
    }

    #[tokio::test]
    async fn only_what_is_named_is_offered_under_the_servers_name() {
        let (server, _folder) = server("[\"search.issues\", \"gone\"]");
        let offer = server.offer().await.unwrap();
        let schemas: Vec<_> = offer.tools.iter().map(|tool| tool.schema()).collect();
        assert_eq!(schemas.len(), 1, "readOnlyHint offers nothing");
        assert_eq!(schemas[0].name, "tracker_search_issues");
        assert_eq!(schemas[0].description, "(MCP server tracker) finds issues");
        assert_eq!(schemas[0].parameters["required"], json!(["q"]));
        assert_eq!(offer.missing, ["gone"]);
        let said = server.check().await.unwrap_err().to_string();
        assert_eq!(said, "not available now: MCP server tracker: the server has no tool gone");
    }

    #[tokio::test]
    async fn answers_failures_and_large_outputs_come_back() {
        let (server, _folder) = server("[\"search.issues\"]");
        let tool = server.offer().await.unwrap().tools.remove(0);
        let seen = tool.ask(json!({"q": "pool"})).await.unwrap();
        assert_eq!(seen.body, "found pool\n[an image, image/png, is not shown]");
        assert_eq!((seen.query.as_str(), seen.taint), (r#"tracker_search_issues {"q":"pool"}"#, Taint::UserWritable));
        let failed = tool.ask(json!({"q": "fail"})).await.unwrap_err();
        assert_eq!(failed, InstrumentError::Refused("the tool failed: no such project".into()));
        assert_eq!(tool.ask(json!({"q": "large"})).await.unwrap().summary, "tracker_search_issues: 60000 lines");
    }

    #[tokio::test]
    async fn a_server_that_has_gone_is_connected_again() {
        let (server, _folder) = server("[\"quit\", \"search.issues\"]");
        let tools = server.offer().await.unwrap().tools;
        assert!(matches!(tools[1].ask(json!({})).await, Err(InstrumentError::Unavailable(_))));
        assert_eq!(tools[0].ask(json!({"q": "again"})).await.unwrap().body.lines().next(), Some("found again"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_said() {
        let text = "name = \"x\"\ncommand = [\"no-such-program\"]\ntools = [\"a\"]";
        let said = McpServer::new(&toml::from_str(text).unwrap()).check().await.unwrap_err().to_string();
        assert!(said.contains("MCP server x: no-such-program: No such file"), "{said}");
    }
}
