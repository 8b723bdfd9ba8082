//! Sentence embeddings: a small static model carried in the binary, or MiniLM through ONNX Runtime.
//!
//! The static one needs no file and no native library, so the watch has memory wherever it runs;
//! the other one is the quality choice of those who can install ONNX Runtime.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fastembed::{InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use model2vec_rs::model::StaticModel;

use crate::ports::{EmbedError, Embedder};

/// Configuration keys, as errors name them.
const KEY_RUNTIME: &str = "memory.embedder.onnx_runtime";
const KEY_MODEL: &str = "memory.embedder.model_dir";

/// ort 2.0.0-rc.15 with `api-24`: an older library has not the functions it calls.
const OLDEST_RUNTIME: &str = "1.24";

const FILES_OF_MODEL: &str = "a *.onnx graph, tokenizer.json, config.json, special_tokens_map.json, \
                              tokenizer_config.json, and model.safetensors when the graph keeps its weights outside";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EmbedderChoice {
    /// Carried in the binary: 128 dimensions, some 30 microseconds a text.
    #[default]
    Static,
    /// MiniLM or another sentence encoder from local files; nothing is downloaded.
    Fastembed {
        /// `libonnxruntime.so`, 1.24 or newer.
        onnx_runtime: PathBuf,
        model_dir: PathBuf,
    },
}

impl EmbedderChoice {
    /// Reads files and takes up to seconds: call it where blocking is allowed.
    pub fn open(&self) -> Result<Arc<dyn Embedder>, EmbedError> {
        Ok(match self {
            Self::Static => Arc::new(StaticEmbedder::new()?),
            Self::Fastembed { onnx_runtime, model_dir } => Arc::new(FastembedEmbedder::open(onnx_runtime, model_dir)?),
        })
    }
}

/// Token embeddings distilled from all-MiniLM-L6-v2; see the NOTICE beside the model's files.
pub struct StaticEmbedder {
    model: StaticModel,
}

impl StaticEmbedder {
    pub fn new() -> Result<Self, EmbedError> {
        let model = StaticModel::from_bytes(
            include_bytes!("../memory/model/static-minilm-128/tokenizer.json"),
            include_bytes!("../memory/model/static-minilm-128/model.safetensors"),
            include_bytes!("../memory/model/static-minilm-128/config.json"),
            None,
        )
        .map_err(|error| failed("static-minilm-128", &error))?;
        Ok(Self { model })
    }
}

impl Embedder for StaticEmbedder {
    fn name(&self) -> &str {
        "static-minilm-128"
    }

    fn dimension(&self) -> usize {
        self.model.dim()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        Ok(texts.iter().map(|text| self.model.encode_single(text)).collect())
    }
}

pub struct FastembedEmbedder {
    name: String,
    dimension: usize,
    /// The session is driven by one thread at a time; it uses the cores by itself.
    session: Mutex<TextEmbedding>,
}

impl FastembedEmbedder {
    pub fn open(onnx_runtime: &Path, model_dir: &Path) -> Result<Self, EmbedError> {
        load_runtime(onnx_runtime)?;
        let name = match model_dir.file_name() {
            Some(folder) => format!("fastembed:{}", folder.to_string_lossy()),
            None => "fastembed".to_owned(),
        };
        let mut session =
            TextEmbedding::try_new_from_user_defined(read_model(model_dir)?, InitOptionsUserDefined::new()).map_err(
                |error| EmbedError::Setup {
                    key: KEY_MODEL,
                    problem: format!("{} holds no model that ONNX Runtime accepts: {error}", model_dir.display()),
                    remedy: format!("put there {FILES_OF_MODEL}"),
                },
            )?;
        let dimension = session
            .embed(["dimension"], None)
            .map_err(|error| failed(&name, &error))?
            .first()
            .map_or(0, |vector| vector.len());
        Ok(Self { name, dimension, session: Mutex::new(session) })
    }
}

impl Embedder for FastembedEmbedder {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut vectors = Vec::with_capacity(texts.len());
        // A few at a time: a question in an incident must not wait until a library is indexed.
        for few in texts.chunks(4) {
            // A panic inside an earlier call leaves nothing half-written in a session: go on with it.
            let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            vectors.extend(session.embed(few, None).map_err(|error| failed(&self.name, &error))?);
        }
        Ok(vectors)
    }
}

/// Loads the library explicitly: left to itself, ort panics over a missing or old one.
fn load_runtime(library: &Path) -> Result<(), EmbedError> {
    let setup = |problem: String| EmbedError::Setup {
        key: KEY_RUNTIME,
        problem,
        remedy: format!(
            "point it to libonnxruntime.so {OLDEST_RUNTIME} or newer (the PyPI wheel onnxruntime carries one under \
             onnxruntime/capi), or set memory.embedder to static"
        ),
    };
    if !library.is_file() {
        return Err(setup(format!("{} is not a file", library.display())));
    }
    match ort::init_from(library) {
        // The library stays loaded; fastembed builds its environment upon it.
        Ok(_) => Ok(()),
        Err(error) => Err(setup(format!("{} does not serve: {error}", library.display()))),
    }
}

fn read_model(dir: &Path) -> Result<UserDefinedEmbeddingModel, EmbedError> {
    let read = |name: &str| read_file(&dir.join(name));
    let files = TokenizerFiles {
        tokenizer_file: read("tokenizer.json")?,
        config_file: read("config.json")?,
        special_tokens_map_file: read("special_tokens_map.json")?,
        tokenizer_config_file: read("tokenizer_config.json")?,
    };
    let model = UserDefinedEmbeddingModel::new(read_file(&find_graph(dir)?)?, files).with_pooling(Pooling::Mean);
    let weights = "model.safetensors";
    Ok(match dir.join(weights).is_file() {
        true => model.with_external_initializer(weights.to_owned(), read(weights)?),
        false => model,
    })
}

fn find_graph(dir: &Path) -> Result<PathBuf, EmbedError> {
    let mut graphs: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(|error| unreadable(dir, &error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    graphs.sort();
    match graphs.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(unreadable(dir, &"no *.onnx file in it")),
        _ => Err(unreadable(dir, &"more than one *.onnx file in it")),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, EmbedError> {
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, problem: &dyn std::fmt::Display) -> EmbedError {
    EmbedError::Setup {
        key: KEY_MODEL,
        problem: format!("{}: {problem}", path.display()),
        remedy: format!("point it to a folder with {FILES_OF_MODEL}"),
    }
}

fn failed(model: &str, problem: &dyn std::fmt::Display) -> EmbedError {
    EmbedError::Failed { model: model.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn related_texts_are_nearer_than_unrelated_ones() {
        let embedder = StaticEmbedder::new().unwrap();
        let texts = ["container killed, out of memory", "OOMKilled pod memory limit", "certificate expires tomorrow"];
        let vectors = embedder.embed(&texts).unwrap();
        assert_eq!(vectors[0].len(), embedder.dimension());
        assert!(cosine(&vectors[0], &vectors[1]) > cosine(&vectors[0], &vectors[2]) + 0.1);
    }

    #[test]
    fn a_text_without_known_words_is_no_error() {
        let vectors = StaticEmbedder::new().unwrap().embed(&["", "\u{1f980}"]).unwrap();
        assert!(vectors.iter().flatten().all(|value| value.is_finite()));
    }

    /// Needs MIDWATCH_TEST_ONNX_RUNTIME (the library) and MIDWATCH_TEST_ONNX_MODEL (a folder with
    /// all-MiniLM-L6-v2): neither is carried by this repository.
    #[test]
    fn the_quality_choice_answers_as_its_model_does() {
        let place = |name| std::env::var_os(name).map(PathBuf::from);
        let (Some(onnx_runtime), Some(model_dir)) =
            (place("MIDWATCH_TEST_ONNX_RUNTIME"), place("MIDWATCH_TEST_ONNX_MODEL"))
        else {
            eprintln!("no ONNX Runtime here");
            return;
        };
        let embedder = EmbedderChoice::Fastembed { onnx_runtime, model_dir }.open().unwrap();
        let vectors = embedder.embed(&["This is an example sentence"]).unwrap();
        assert_eq!(embedder.dimension(), 384);
        for (found, expected) in vectors[0].iter().zip([0.0676569, 0.0634959, 0.0487131, 0.0793049]) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }

    #[test]
    fn a_missing_runtime_names_the_key_and_the_remedy() {
        let choice = EmbedderChoice::Fastembed {
            onnx_runtime: "/nowhere/libonnxruntime.so".into(),
            model_dir: "/nowhere".into(),
        };
        let error = choice.open().err().unwrap().to_string();
        assert!(error.starts_with("memory.embedder.onnx_runtime: /nowhere/libonnxruntime.so is not a file"), "{error}");
        assert!(error.contains("1.24"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_runtime_is_refused_without_a_panic() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = load_runtime(file.path()).unwrap_err().to_string();
        assert!(error.contains("does not serve"), "{error}");
    }
}
