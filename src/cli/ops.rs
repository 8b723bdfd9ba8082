//! `midwatch ops <command>`: the commands of chat, carried out by the running watch.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::config::Config;

/// Longer than a look at a large estate takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Args)]
pub struct OpsArgs {
    /// Where the watch's API answers; default: http:// and what the configuration listens on.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Your token of [[people]]; default: the webhook's token of the configuration.
    #[arg(long, env = "MIDWATCH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
    /// Say how the words can go on, one a line, instead of carrying them out.
    #[arg(long)]
    hints: bool,
    /// What would follow /ops in chat; `help` lists all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

/// Exit code 0: done; 1: refused, or not understood.
pub async fn run(config: &Config, args: OpsArgs) -> anyhow::Result<ExitCode> {
    let base = args.url.clone().unwrap_or_else(|| format!("http://{}", config.server.listen));
    let base = address(&base)?;
    let token = args.token.clone().or_else(|| config.server.webhook_token.reveal().map(str::to_owned));
    let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let text = args.words.join(" ");
    let request = match args.hints {
        true => http.get(format!("{base}/api/v1/ops")).query(&[("text", &text)]),
        false => http.post(format!("{base}/api/v1/ops")).json(&json!({"text": text})),
    };
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.send().await.map_err(reqwest::Error::without_url);
    let answer = answer.with_context(|| format!("{base} does not answer; is the watch running? (--url)"))?;
    let status = answer.status();
    let body: Value = answer.json().await.with_context(|| format!("{base} is no midwatch (it answered {status})"))?;
    if args.json {
        print(&format!("{body:#}"))?;
    } else if args.hints && body["hints"].is_array() {
        for hint in body["hints"].as_array().into_iter().flatten() {
            print(hint["text"].as_str().unwrap_or_default())?;
        }
    } else if let Some(text) = body["text"].as_str() {
        print(text)?;
    } else {
        eprintln!("{}", why_not(&body, base, status));
    }
    Ok(if status.is_success() && is_ours(&body) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What the client can be asked: with a scheme, and without what people copy along.
fn address(written: &str) -> anyhow::Result<&str> {
    let base = written.trim().trim_end_matches('/');
    let known = base.starts_with("http://") || base.starts_with("https://");
    if known && reqwest::Url::parse(base).is_ok() {
        return Ok(base);
    }
    let example = base.rsplit("://").next().filter(|rest| !rest.is_empty()).unwrap_or("127.0.0.1:8080");
    anyhow::bail!("--url {written:?} is no address of the watch; write for example --url http://{example}")
}

/// Whoever reads only the first lines has closed the pipe: that is an end, not a fault.
fn print(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(failure) if failure.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn is_ours(body: &Value) -> bool {
    body["text"].is_string() || body["hints"].is_array()
}

/// Also of a server that is not the watch's API, such as a page of the chat on another port.
fn why_not(body: &Value, base: &str, status: reqwest::StatusCode) -> String {
    let answer = body["card"].is_object().then(|| body["remedy"].as_str()).flatten();
    let said = [&body["error"], &body["error"]["what"], &body["error"]["message"], &body["message"]];
    match answer.or_else(|| said.into_iter().find_map(Value::as_str)) {
        Some(why) if is_refusal(body) => why.to_owned(),
        Some(why) => format!("{why} ({base} answered {status}; --url is to be where the watch's API listens)"),
        None => format!("{base} answered {status} and gave no reason; is --url where the watch's API listens?"),
    }
}

/// The watch says what is wrong and what to do about it.
fn is_refusal(body: &Value) -> bool {
    body["error"].is_string() && body["remedy"].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_its_scheme() {
        assert_eq!(address("http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080");
        for wrong in ["127.0.0.1:18080", "localhost:18080", "ftp://127.0.0.1:18080", ""] {
            let said = address(wrong).unwrap_err().to_string();
            assert!(said.contains("write for example --url http://"), "{said}");
        }
        let said = address("127.0.0.1:18080").unwrap_err().to_string();
        assert!(said.ends_with("--url http://127.0.0.1:18080"), "{said}");
    }

    #[test]
    fn every_refusal_says_why() {
        let why = |body: Value| why_not(&body, "http://here", reqwest::StatusCode::FORBIDDEN);
        assert_eq!(why(json!({"error": "you may not", "remedy": "ask"})), "you may not");
        assert_eq!(why(json!({"error": "what?", "remedy": "what? Try help", "card": {}})), "what? Try help");
        let other = why(json!({"error": {"what": "no such page"}}));
        assert!(other.starts_with("no such page (http://here answered 403"), "{other}");
        assert!(why(json!([])).contains("gave no reason"));
    }
}
