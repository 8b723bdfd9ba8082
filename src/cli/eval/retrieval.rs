//! `midwatch eval retrieval`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::adapters::embedder::EmbedderChoice;
use crate::config::Config;
use crate::eval::retrieval;

#[derive(Debug, Args)]
pub struct RetrievalArgs {
    /// Markdown files, with or without front matter.
    #[arg(long, value_name = "DIR")]
    docs: PathBuf,
    /// JSON lines: `{"id", "text", "relevant": [path relative to DIR, ...]}`
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    #[command(flatten)]
    embedder: EmbedderArgs,
    /// Each question with its answers and why the first is there.
    #[arg(long)]
    explain: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct EmbedderArgs {
    /// Default: what the configuration says.
    #[arg(long, value_enum)]
    embedder: Option<EmbedderName>,
    /// For fastembed: `libonnxruntime.so`; default: `embedder.onnx_runtime`.
    #[arg(long, value_name = "FILE")]
    onnx_runtime: Option<PathBuf>,
    /// For fastembed: the folder of the model; default: `embedder.model_dir`.
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmbedderName {
    /// The model inside the program.
    Static,
    Fastembed,
}

impl EmbedderArgs {
    pub fn choice(&self, config: &Config) -> anyhow::Result<EmbedderChoice> {
        let onnx_runtime = self.onnx_runtime.clone().or_else(|| config.embedder.onnx_runtime.clone());
        let model_dir = self.model_dir.clone().or_else(|| config.embedder.model_dir.clone());
        match (self.embedder, onnx_runtime, model_dir) {
            (Some(EmbedderName::Static), _, _) => Ok(EmbedderChoice::Static),
            (_, Some(onnx_runtime), Some(model_dir)) => Ok(EmbedderChoice::Fastembed { onnx_runtime, model_dir }),
            (None, None, None) => Ok(EmbedderChoice::Static),
            (_, onnx_runtime, _) => {
                let missing = if onnx_runtime.is_some() { "--model-dir" } else { "--onnx-runtime" };
                anyhow::bail!("{missing}: fastembed needs the library and a model: give --onnx-runtime and --model-dir")
            }
        }
    }
}

pub async fn run(config: &Config, args: RetrievalArgs) -> anyhow::Result<ExitCode> {
    let library = retrieval::load(&args.docs, &args.queries)?;
    let choice = args.embedder.choice(config)?;
    let embedder = tokio::task::spawn_blocking(move || choice.open()).await??;
    let mut report = retrieval::run(&library, embedder).await?;
    if !args.explain {
        report.queries.clear();
    }
    super::print(&report, args.json)
}
