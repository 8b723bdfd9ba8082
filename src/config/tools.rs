//! Tools beyond the built-in ones: the user's own commands and requests, probes, databases, MCP
//! servers, and where traces are.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BackendAccess, ConfigError, Secret};
use crate::domain::speciality::Speciality;
use crate::domain::tool_template::{self as template, Address, Template, Variable};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    pub kind: TraceKind,
    /// The query API: Jaeger's (port 16686), or Tempo's (port 3200).
    pub url: String,
    #[serde(default)]
    pub bearer_token: Secret,
    #[serde(default)]
    pub access: BackendAccess,
}

impl TracesConfig {
    /// A Jaeger that asks for no name.
    pub fn jaeger(url: &str) -> Self {
        let (bearer_token, access) = (Secret::default(), BackendAccess::default());
        Self { kind: TraceKind::Jaeger, url: url.to_owned(), bearer_token, access }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceKind {
    Jaeger,
    Tempo,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ToolsConfig {
    pub command: Vec<CommandConfig>,
    pub http: Vec<HttpConfig>,
    pub probe: ProbeConfig,
    pub postgres: Vec<DatabaseConfig>,
    pub mysql: Vec<DatabaseConfig>,
    pub mcp: Vec<McpConfig>,
}

/// A program with its arguments; there is no shell.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    pub name: String,
    pub description: String,
    pub argv: Vec<String>,
    /// Variables of midwatch's own environment that the program sees; all others it does not.
    #[serde(default = "default_environment")]
    pub env: Vec<String>,
    #[serde(default)]
    pub variable: Vec<VariableConfig>,
    #[serde(default = "ten_seconds")]
    pub timeout_seconds: u64,
    #[serde(default = "one_megabyte")]
    pub output_bytes: usize,
    #[serde(default)]
    pub effect: ToolEffect,
    #[serde(default = "everybody")]
    pub specialities: Vec<Speciality>,
    /// Must end with exit code 0 for `midwatch check` to be content, e.g. `["kubectl", "version"]`.
    #[serde(default)]
    pub check: Vec<String>,
}

/// One GET request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    pub name: String,
    pub description: String,
    /// Variables in segments of the path and in values of the query only.
    pub url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Private networks that the host may be in, e.g. `10.0.0.0/8`.
    #[serde(default)]
    pub networks: Vec<String>,
    #[serde(default)]
    pub variable: Vec<VariableConfig>,
    #[serde(default = "ten_seconds")]
    pub timeout_seconds: u64,
    #[serde(default = "one_megabyte")]
    pub output_bytes: usize,
    #[serde(default)]
    pub effect: ToolEffect,
    #[serde(default = "everybody")]
    pub specialities: Vec<Speciality>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableConfig {
    pub name: String,
    pub description: String,
    /// A regular expression for the whole value.
    #[serde(default = "plain")]
    pub pattern: String,
}

/// What people promise of their own tools: a model is given readers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ToolEffect {
    #[default]
    Read,
    Write,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    pub target: Vec<ProbeTarget>,
    /// As of the HTTP tools.
    pub networks: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeTarget {
    pub name: String,
    pub url: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// As the topology names it.
    pub name: String,
    /// `postgres://...`, of a role with `pg_monitor` and nothing else; `mysql://...`, of a user with
    /// `PROCESS`, `REPLICATION CLIENT` and `SELECT` on `performance_schema`.
    pub url: Secret,
    #[serde(default = "five_seconds")]
    pub statement_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpConfig {
    /// Prefix of its tools' names.
    pub name: String,
    /// A server beside midwatch that speaks over its standard input and output.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default = "default_environment")]
    pub env: Vec<String>,
    /// Or one that is reached over streamable HTTP.
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub bearer_token: Secret,
    /// The tools that are offered, by the server's names; what a server says of its tools' harmlessness
    /// is not asked.
    pub tools: Vec<String>,
    #[serde(default = "thirty_seconds")]
    pub timeout_seconds: u64,
    #[serde(default = "everybody")]
    pub specialities: Vec<Speciality>,
}

fn default_environment() -> Vec<String> {
    vec!["PATH".into()]
}
fn ten_seconds() -> u64 {
    10
}
fn five_seconds() -> u64 {
    5
}
fn thirty_seconds() -> u64 {
    30
}
fn one_megabyte() -> usize {
    1 << 20
}
fn everybody() -> Vec<Speciality> {
    Speciality::ALL.to_vec()
}
fn plain() -> String {
    template::PLAIN.into()
}

/// An investigation has four minutes (S17).
const MAX_SECONDS: u64 = 60;
const MAX_OUTPUT: usize = 16 << 20;

pub fn variables(of: &[VariableConfig]) -> Result<Vec<Variable>, String> {
    of.iter().map(|one| Variable::new(&one.name, &one.description, &one.pattern)).collect()
}

impl ToolsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for tool in &self.command {
            command(tool).map_err(|reason| wrong("tools.command", &tool.name, reason))?;
        }
        for tool in &self.http {
            http(tool).map_err(|reason| wrong("tools.http", &tool.name, reason))?;
        }
        for target in &self.probe.target {
            address(&target.url).map_err(|reason| wrong("tools.probe.target", &target.name, reason))?;
        }
        networks(&self.probe.networks).map_err(|reason| wrong("tools.probe.networks", "networks", reason))?;
        for database in &self.postgres {
            self::database(database, &["postgres", "postgresql"])
                .map_err(|reason| wrong("tools.postgres", &database.name, reason))?;
        }
        for database in &self.mysql {
            self::database(database, &["mysql", "mariadb"])
                .map_err(|reason| wrong("tools.mysql", &database.name, reason))?;
        }
        for server in &self.mcp {
            mcp(server).map_err(|reason| wrong("tools.mcp", &server.name, reason))?;
        }
        Ok(())
    }
}

impl TracesConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        address(&self.url).map_err(|reason| ConfigError::Value {
            key: "traces.url",
            reason,
            remedy: "Give for example http://jaeger:16686 or http://tempo:3200.",
        })
    }
}

fn wrong(key: &'static str, name: &str, reason: String) -> ConfigError {
    let reason = format!("{name:?}: {reason}");
    ConfigError::Value { key, reason, remedy: "See deploy/midwatch.example.toml for one that works." }
}

fn command(tool: &CommandConfig) -> Result<(), String> {
    ordinary(&tool.name, &tool.description, tool.effect, tool.timeout_seconds, tool.output_bytes)?;
    let program = tool.argv.first().filter(|program| !program.is_empty()).ok_or("argv names no program")?;
    if Template::parse(program)?.holes().next().is_some() {
        return Err("the program itself cannot be a variable".into());
    }
    let shells = ["sh", "bash", "dash", "zsh", "ksh", "fish"];
    let name = program.rsplit('/').next().unwrap_or(program);
    if shells.contains(&name) && tool.argv.iter().skip(1).any(|word| word.starts_with('-') && word.contains('c')) {
        return Err(format!("{name} -c would read a value as a program; name the program itself"));
    }
    let mut holes = vec![];
    for word in &tool.argv {
        holes.extend(Template::parse(word)?.holes().map(str::to_owned));
    }
    fits(&holes, &tool.variable)
}

fn http(tool: &HttpConfig) -> Result<(), String> {
    ordinary(&tool.name, &tool.description, tool.effect, tool.timeout_seconds, tool.output_bytes)?;
    let address = Address::parse(&tool.url)?;
    self::address(&address.origin)?;
    networks(&tool.networks)?;
    for name in tool.headers.keys() {
        http::HeaderName::try_from(name.as_str()).map_err(|why| format!("header {name:?}: {why}"))?;
    }
    fits(&address.holes().map(str::to_owned).collect::<Vec<_>>(), &tool.variable)
}

fn database(database: &DatabaseConfig, schemes: &[&str]) -> Result<(), String> {
    let url = database.url.reveal().unwrap_or_default();
    if !schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://"))) {
        return Err(format!("`url` is not a {}:// address", schemes[0]));
    }
    if !(1..=30).contains(&database.statement_seconds) {
        return Err("`statement_seconds` must be 1 to 30".into());
    }
    Ok(())
}

fn mcp(server: &McpConfig) -> Result<(), String> {
    if !template::is_name(&server.name) {
        return Err("the name must be lower-case letters, digits and _".into());
    }
    if server.command.is_empty() == server.url.is_none() {
        return Err("give either `command` or `url`".into());
    }
    if let Some(url) = &server.url {
        address(url)?;
    }
    if server.tools.is_empty() {
        return Err("`tools` names none of its tools, so none would be offered".into());
    }
    seconds(server.timeout_seconds)
}

fn ordinary(name: &str, description: &str, effect: ToolEffect, timeout: u64, output: usize) -> Result<(), String> {
    if !template::is_name(name) {
        return Err("the name must be lower-case letters, digits and _".into());
    }
    if description.trim().is_empty() {
        return Err("`description` is what the model chooses by; say what the tool shows".into());
    }
    if effect == ToolEffect::Write {
        return Err("a model is given no tool that writes: writes are typed actions with an approval".into());
    }
    if !(1..=MAX_OUTPUT).contains(&output) {
        return Err(format!("`output_bytes` must be 1 to {MAX_OUTPUT}"));
    }
    seconds(timeout)
}

fn seconds(timeout: u64) -> Result<(), String> {
    match (1..=MAX_SECONDS).contains(&timeout) {
        true => Ok(()),
        false => Err(format!("`timeout_seconds` must be 1 to {MAX_SECONDS}")),
    }
}

fn fits(holes: &[String], variables: &[VariableConfig]) -> Result<(), String> {
    self::variables(variables)?;
    if let Some(hole) = holes.iter().find(|hole| !variables.iter().any(|one| one.name == **hole)) {
        return Err(format!("{{{hole}}} has no [[variable]]"));
    }
    match variables.iter().find(|one| !holes.contains(&one.name)) {
        Some(unused) => Err(format!("the variable {} is used nowhere", unused.name)),
        None => Ok(()),
    }
}

fn address(url: &str) -> Result<(), String> {
    let known = url::Url::parse(url).map_err(|why| format!("{url:?} is not an address: {why}"))?;
    match matches!(known.scheme(), "http" | "https") && known.host_str().is_some() {
        true => Ok(()),
        false => Err(format!("{url:?} is not an http(s) address")),
    }
}

pub fn networks(of: &[String]) -> Result<Vec<ipnet::IpNet>, String> {
    of.iter().map(|text| text.parse().map_err(|_| format!("{text:?} is not a network such as 10.0.0.0/8"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match toml::from_str::<ToolsConfig>(text) {
            Ok(config) => config.validate().map_or_else(|error| error.to_string(), |()| "good".to_owned()),
            Err(error) => error.message().to_owned(),
        };
        assert!(said.contains(expected), "{said}\n does not contain\n{expected}");
    }

    /// What people copy works: every tool in the example, without the marks that comment it out.
    #[test]
    fn the_tools_of_the_example_are_good() {
        let example = include_str!("../../deploy/midwatch.example.toml");
        let begin = example.find("# [[tools.command]]").unwrap();
        let end = begin + example[begin..].find("\n[model]\n").unwrap();
        let is_code = |line: &&str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| is_key(key));
        let code = example[begin..end].lines().filter_map(|line| line.strip_prefix("# ")).filter(is_code);
        let text = code.collect::<Vec<_>>().join("\n").replace("tools.", "");
        let config: ToolsConfig = toml::from_str(&text).unwrap();
        config.validate().unwrap();
        let counts = [config.command.len(), config.http.len(), config.probe.target.len(), config.postgres.len()];
        assert_eq!((counts, config.mcp.len()), ([1, 1, 1, 1], 2));
    }

    fn is_key(text: &str) -> bool {
        text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    }

    #[test]
    fn a_tool_is_judged_before_it_is_offered() {
        let pod = "[[command.variable]]\nname = \"pod\"\ndescription = \"d\"\n";
        let command = |argv: &str| format!("[[command]]\nname = \"x\"\ndescription = \"d\"\nargv = {argv}\n");
        check(&(command("[\"top\", \"{pod}\"]") + pod), "good");
        check(&command("[\"top\", \"{pod}\"]"), "{pod} has no [[variable]]");
        check(&(command("[\"top\"]") + pod), "the variable pod is used nowhere");
        check(&(command("[\"{pod}\"]") + pod), "the program itself cannot be a variable");
        check(&(command("[\"/bin/bash\", \"-lc\", \"{pod}\"]") + pod), "bash -c would read a value as a program");
        check(&(command("[\"top\"]") + "effect = \"write\"\n"), "a model is given no tool that writes");
        check(&(command("[\"top\"]") + "timeout_seconds = 600\n"), "must be 1 to 60");
        let http = |url: &str| format!("[[http]]\nname = \"x\"\ndescription = \"d\"\nurl = \"{url}\"\n");
        check(&http("https://status.example.com/v1"), "good");
        check(&http("https://{host}/v1"), "the host must be fixed");
        check(&(http("https://a/v1") + "networks = [\"10.1\"]\n"), "is not a network");
        check("[[mcp]]\nname = \"gh\"\ntools = [\"a\"]\n", "give either `command` or `url`");
        check("[[mcp]]\nname = \"gh\"\ncommand = [\"x\"]\ntools = []\n", "names none of its tools");
        check("[[postgres]]\nname = \"db\"\nurl = \"mysql://x\"\n", "is not a postgres:// address");
    }
}
