//! The tools of the configuration, beside the built-in ones.

use std::sync::Arc;

use anyhow::anyhow;
use futures::future::join_all;
use tracing::warn;

use crate::adapters::command::CommandTool;
use crate::adapters::mcp::McpServer;
use crate::adapters::mysql_health::MysqlHealth;
use crate::adapters::probe::HttpProbe;
use crate::adapters::request::HttpTool;
use crate::adapters::signals::Endpoint;
use crate::adapters::sql_health::SqlHealth;
use crate::adapters::traces::{Backend, TraceClient};
use crate::config::{Config, TraceKind};
use crate::ports::{Instrument, Traces};
use crate::tools::{Backend as Asked, ToolBox};

/// Everything that a model may look at; what nobody could answer is not offered. A server of tools that is away is left out until the next
/// start, and said; what is wrong in the configuration stops the start.
pub async fn toolbox(config: &Config) -> anyhow::Result<ToolBox> {
    let mut instruments: Vec<Arc<dyn Instrument>> = own(config)?.into_iter().map(|(_, one)| one).collect();
    let servers: Vec<_> = config.tools.mcp.iter().map(McpServer::new).collect();
    for (server, offer) in config.tools.mcp.iter().zip(join_all(servers.iter().map(McpServer::offer)).await) {
        match offer {
            Ok(offer) => {
                for name in &offer.missing {
                    warn!(server = server.name, tool = name, "the MCP server has no such tool");
                }
                instruments.extend(offer.tools);
            }
            Err(error) => warn!(server = server.name, %error, "its tools are left out until the next start"),
        }
    }
    let mut answering = vec![Asked::Own];
    answering.extend(config.signals.as_ref().map(|_| Asked::Signals));
    answering.extend(config.traces.as_ref().map(|_| Asked::Traces));
    answering.extend(config.kubernetes.as_ref().map(|_| Asked::Cluster));
    ToolBox::default().answered_by(&answering).with(instruments).map_err(|error| anyhow!("{error} (key: tools)"))
}

/// With the key that each comes from, for `midwatch check`.
pub fn own(config: &Config) -> anyhow::Result<Vec<(String, Arc<dyn Instrument>)>> {
    let mut all: Vec<(String, Arc<dyn Instrument>)> = vec![];
    let tools = &config.tools;
    for one in &tools.command {
        let tool = CommandTool::new(one).map_err(|why| anyhow!("tools.command {}: {why}", one.name))?;
        all.push((format!("tools.command {}", one.name), Arc::new(tool)));
    }
    for one in &tools.http {
        let tool = HttpTool::new(one).map_err(|why| anyhow!("tools.http {}: {why}", one.name))?;
        all.push((format!("tools.http {}", one.name), Arc::new(tool)));
    }
    if !tools.probe.target.is_empty() {
        let tool = HttpProbe::new(&tools.probe).map_err(|why| anyhow!("tools.probe: {why}"))?;
        all.push(("tools.probe".to_owned(), Arc::new(tool)));
    }
    if !tools.postgres.is_empty() {
        let tool = SqlHealth::new(&tools.postgres).map_err(|why| anyhow!("tools.postgres: {why}"))?;
        all.push(("tools.postgres".to_owned(), Arc::new(tool)));
    }
    if !tools.mysql.is_empty() {
        let tool = MysqlHealth::new(&tools.mysql).map_err(|why| anyhow!("tools.mysql: {why}"))?;
        all.push(("tools.mysql".to_owned(), Arc::new(tool)));
    }
    Ok(all)
}

pub fn traces(config: &Config) -> anyhow::Result<Option<Arc<dyn Traces>>> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let endpoint = Endpoint::new(&traces.url, &traces.access, &traces.bearer_token)
        .map_err(|why| anyhow!("traces.access: {why}"))?;
    let backend = match traces.kind {
        TraceKind::Jaeger => Backend::Jaeger,
        TraceKind::Tempo => Backend::Tempo,
    };
    Ok(Some(Arc::new(TraceClient::new(backend, endpoint)?)))
}
