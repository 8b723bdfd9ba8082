//! `midwatch policy`: the rules that decide, and whether they decide what their user means.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use crate::config::Config;
use crate::domain::policy::{CORE, DEFAULT, SCHEMA, read_cases};
use crate::ports::{Clock as _, SystemClock};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Try cases of your own (`[[case]]` tables) on the configured rules; exit code 1 if one fails.
    Test {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the schema, the core that is always in force, and the rules beside it.
    Show,
}

pub fn run(config: &Config, command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Test { file } => test(config, file),
        PolicyCommand::Show => {
            println!("// Schema\n\n{SCHEMA}\n// Core\n\n{CORE}");
            match &config.policy.file {
                None => println!("// Default\n\n{DEFAULT}"),
                Some(own) => println!(
                    "// {}\n\n{}",
                    own.display(),
                    std::fs::read_to_string(own).with_context(|| own.display().to_string())?
                ),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn test(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    let policy = config.policy.policy()?;
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let cases = read_cases(&text).with_context(|| file.display().to_string())?;
    let now = SystemClock.wall_now();
    let results: Vec<_> = cases.iter().map(|case| case.try_on(&policy, now)).collect();
    for (case, result) in cases.iter().zip(&results) {
        let word = if result.holds { "ok  " } else { "FAIL" };
        let wanted = match result.holds {
            true => String::new(),
            false => format!(
                "; expected {:?}{}",
                case.expect,
                case.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"))
            ),
        };
        println!("{word} {}: {}{wanted}", result.name, result.said);
    }
    let failed = results.iter().filter(|result| !result.holds).count();
    println!("{} cases, {failed} failed (policy version {})", results.len(), policy.version());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
