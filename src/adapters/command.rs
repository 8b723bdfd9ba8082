//! The user's own programs as tools.
//!
//! Invariants: no shell; the model sets values of variables and nothing else, and a value cannot
//! begin an option; the program sees only the environment that is allowed to it; it ends within its
//! time with everything that it started; its output is read up to a cap.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::declared;
use crate::config::{CommandConfig, variables};
use crate::domain::evidence::Taint;
use crate::domain::tool_template::{Template, Variable, values};
use crate::ports::{Handling, Instrument, InstrumentError, Observation, ToolSchema};

const MAX_ERRORS: usize = 8_192;

pub struct CommandTool {
    config: CommandConfig,
    argv: Vec<Template>,
    variables: Vec<Variable>,
}

impl CommandTool {
    pub fn new(config: &CommandConfig) -> Result<Self, String> {
        Ok(Self {
            argv: config.argv.iter().map(|word| Template::parse(word)).collect::<Result<_, _>>()?,
            variables: variables(&config.variable)?,
            config: config.clone(),
        })
    }

    fn argv(&self, arguments: &Value) -> Result<Vec<String>, InstrumentError> {
        let values = values(&self.variables, arguments).map_err(InstrumentError::Refused)?;
        self.argv
            .iter()
            .map(|word| {
                let filled = word.fill(&values, str::to_owned);
                match word.starts_with_hole() && filled.starts_with('-') {
                    false => Ok(filled),
                    true => Err(InstrumentError::Refused(format!("{filled:?} begins like an option"))),
                }
            })
            .collect()
    }
}

#[async_trait]
impl Instrument for CommandTool {
    fn schema(&self) -> ToolSchema {
        declared::schema(&self.config.name, &self.config.description, &self.variables)
    }

    fn handling(&self) -> Handling {
        declared::handling("command", self.config.timeout_seconds, &self.config.specialities)
    }

    async fn ask(&self, arguments: Value) -> Result<Observation, InstrumentError> {
        let argv = self.argv(&arguments)?;
        let limit = Duration::from_secs(self.config.timeout_seconds);
        let ended = run(&argv, &self.config.env, limit, self.config.output_bytes).await?;
        let cut = if ended.cut { ", cut" } else { "" };
        let summary = format!("{}: {}, {} lines{cut}", self.config.name, ended.how, ended.output.lines().count());
        let mut body = ended.output;
        if ended.cut {
            body.push_str(&format!("\n[only the first {} bytes were read]", self.config.output_bytes));
        }
        if !ended.errors.trim().is_empty() {
            body.push_str(&format!("\nstderr:\n{}", ended.errors));
        }
        Ok(Observation { query: argv.join(" "), summary, body, taint: Taint::UserWritable })
    }

    async fn check(&self) -> Result<String, InstrumentError> {
        let program = self.config.argv.first().map(String::as_str).unwrap_or_default();
        let found = find(program)
            .ok_or_else(|| InstrumentError::Unavailable(format!("there is no program {program:?} on the PATH")))?;
        if let Some(name) = self.config.env.iter().find(|name| std::env::var_os(name).is_none()) {
            return Err(InstrumentError::Unavailable(format!("the environment variable {name} is not set")));
        }
        if !self.config.check.is_empty() {
            let ended = run(&self.config.check, &self.config.env, Duration::from_secs(10), MAX_ERRORS).await?;
            if !ended.well {
                let said = format!("{}{}", ended.output, ended.errors);
                let said: String = said.trim().chars().take(200).collect();
                let asked = self.config.check.join(" ");
                return Err(InstrumentError::Unavailable(format!("{asked}: {}: {said}", ended.how)));
            }
        }
        Ok(found)
    }
}

struct Ended {
    how: String,
    well: bool,
    output: String,
    cut: bool,
    errors: String,
}

async fn run(argv: &[String], env: &[String], limit: Duration, most: usize) -> Result<Ended, InstrumentError> {
    let unavailable = |why: &dyn std::fmt::Display| InstrumentError::Unavailable(format!("{}: {why}", argv[0]));
    let mut command = CommandWrap::with_new(&argv[0], |command| {
        command.args(&argv[1..]).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(env.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    });
    let mut child = command.wrap(KillOnDrop).wrap(ProcessGroup::leader()).spawn().map_err(|why| unavailable(&why))?;
    let (out, err) = (child.stdout().take(), child.stderr().take());
    let reading = async {
        let (output, errors) = tokio::join!(read(out, most), read(err, MAX_ERRORS));
        // A program that writes on after the cap would wait for ever for a reader.
        if output.1 || errors.1 { (output, errors, None) } else { (output, errors, child.wait().await.ok()) }
    };
    let finished = tokio::time::timeout(limit, reading).await;
    let ended = match finished {
        Ok(((output, cut), (errors, _), status)) => Ended {
            how: match status {
                Some(status) => status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}")),
                None => "ended at its cap".to_owned(),
            },
            well: status.is_some_and(|status| status.success()),
            output: String::from_utf8_lossy(&output).into_owned(),
            cut,
            errors: String::from_utf8_lossy(&errors).into_owned(),
        },
        Err(_) => {
            end(child).await;
            return Err(unavailable(&format!("no end within {} s", limit.as_secs())));
        }
    };
    end(child).await;
    Ok(ended)
}

/// What it started and left behind is in its group and ends with it.
async fn end(mut child: Box<dyn ChildWrapper>) {
    let _ = child.start_kill();
    let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
}

async fn read(stream: Option<impl AsyncRead + Unpin>, most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let _ = stream.take(most as u64 + 1).read_to_end(&mut bytes).await;
    }
    let cut = bytes.len() > most;
    bytes.truncate(most);
    (bytes, cut)
}

fn find(program: &str) -> Option<String> {
    let is_file = |path: &Path| path.is_file();
    if program.contains('/') {
        return is_file(Path::new(program)).then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| is_file(path))
        .map(|path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(text: &str) -> CommandTool {
        CommandTool::new(&toml::from_str(&format!("name = \"x\"\ndescription = \"d\"\n{text}")).unwrap()).unwrap()
    }

    const WORD: &str = "\n[[variable]]\nname = \"word\"\ndescription = \"d\"\npattern = '.*'\n";

    #[tokio::test]
    async fn a_value_is_one_argument_and_never_syntax() {
        let echo = tool(&format!("argv = [\"printf\", \"<%s>\", \"{{word}}\"]{WORD}"));
        let seen = echo.ask(json!({"word": "a; rm -rf / $(id) `id` | x > y"})).await.unwrap();
        assert_eq!(seen.body, "<a; rm -rf / $(id) `id` | x > y>");
        assert_eq!(seen.summary, "x: exit code 0, 1 lines");
        let refused = echo.ask(json!({"word": "--version"})).await.unwrap_err();
        assert_eq!(refused.to_string(), "\"--version\" begins like an option");
    }

    #[tokio::test]
    async fn it_sees_the_environment_that_is_allowed_to_it() {
        let seen = tool("argv = [\"env\"]").ask(json!({})).await.unwrap();
        assert!(seen.body.starts_with("PATH=") && seen.body.lines().count() == 1, "{}", seen.body);
    }

    #[tokio::test]
    async fn it_ends_in_time_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("linger.py");
        let mark = folder.path().join("still-here");
        std::fs::write(
            &script,
            format!(
                "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', \"import time; time.sleep(2.5); \
                 open('{}', 'w')\"])\ntime.sleep(60)\n",
                mark.display()
            ),
        )
        .unwrap();
        let slow = tool(&format!("argv = [\"python3\", \"{}\"]\ntimeout_seconds = 1", script.display()));
        let began = std::time::Instant::now();
        assert_eq!(slow.ask(json!({})).await.unwrap_err().to_string(), "not available now: python3: no end within 1 s");
        assert!(began.elapsed() < Duration::from_secs(3));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!mark.exists(), "a child of the program lives on");
    }

    #[tokio::test]
    async fn endless_output_is_cut_at_the_cap() {
        let seen = tool("argv = [\"yes\"]\noutput_bytes = 1000").ask(json!({})).await.unwrap();
        assert_eq!(seen.summary, "x: ended at its cap, 500 lines, cut");
        assert!(seen.body.ends_with("[only the first 1000 bytes were read]"));
    }

    #[tokio::test]
    async fn prerequisites_are_checked() {
        let missing = tool("argv = [\"no-such-program\"]").check().await.unwrap_err();
        assert!(missing.to_string().contains("there is no program \"no-such-program\""), "{missing}");
        let unset = tool("argv = [\"true\"]\nenv = [\"MIDWATCH_NO_SUCH\"]").check().await.unwrap_err();
        assert!(unset.to_string().contains("MIDWATCH_NO_SUCH is not set"), "{unset}");
        let failing = tool("argv = [\"true\"]\ncheck = [\"false\"]").check().await.unwrap_err();
        assert!(failing.to_string().contains("false: exit code 1"), "{failing}");
        assert!(tool("argv = [\"true\"]").check().await.unwrap().ends_with("/true"));
    }
}
