//! `midwatch ops <command>`: the commands of chat, carried out by the running watch.

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
    let base = base.trim_end_matches('/');
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
        println!("{body:#}");
    } else if args.hints {
        for hint in body["hints"].as_array().into_iter().flatten() {
            println!("{}", hint["text"].as_str().unwrap_or_default());
        }
    } else if let Some(text) = body["text"].as_str() {
        println!("{text}");
    } else {
        eprintln!(
            "{}",
            body["card"]
                .is_object()
                .then(|| body["remedy"].as_str())
                .flatten()
                .unwrap_or_else(|| { body["error"].as_str().unwrap_or("it did not work, and no reason was given") })
        );
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
