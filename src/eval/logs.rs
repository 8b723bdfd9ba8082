//! `midwatch eval logs`: how well lines of log are grouped by the statement that printed them.
//!
//! Invariant: one configuration for all files, and a new miner for each, so that no file gains
//! from another.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::EvalError;
use super::table::csv_text;
use crate::domain::log_template::{Miner, TemplateId};

const SUFFIX: &str = "_structured.csv";
/// Each pass learns from nothing; the fastest is reported, for what slows a pass down is the machine.
/// A pass over a small file is over in a millisecond, so passes go on for a while.
const PASSES: usize = 3;
const TIMED: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize)]
pub struct Report {
    pub files: Vec<FileReport>,
    pub mean: Scores,
}

#[derive(Debug, Serialize)]
pub struct FileReport {
    pub name: String,
    pub lines: usize,
    /// Templates of the labels.
    pub templates: usize,
    /// Templates that were found.
    pub found: usize,
    #[serde(flatten)]
    pub scores: Scores,
}

#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize)]
pub struct Scores {
    /// Share of lines whose group is exactly a labelled group; Zhu et al., "Tools and Benchmarks
    /// for Automated Log Parsing" (ICSE-SEIP 2019).
    pub ga: f64,
    /// F1 of groups that are exactly right; Jiang et al., "A Large-Scale Evaluation for Log
    /// Parsing Techniques" (ISSTA 2024, LogPub).
    pub fga: f64,
    /// Share of lines whose template is the labelled one, wildcards normalised.
    pub pa: f64,
    /// Of one thread, with the final consolidation, reading the file not included.
    pub lines_per_s: f64,
}

/// A labelled line.
struct Labelled {
    content: String,
    event: String,
    template: String,
}

/// Measures every `*_structured.csv` in the folder `data`.
pub fn run(data: &Path) -> Result<Report, EvalError> {
    let mut files = vec![];
    for path in structured_files(data)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned();
        files.push(measure(name, &read(&path)?));
    }
    let mean = mean_of(&files);
    Ok(Report { files, mean })
}

fn structured_files(data: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let entries = std::fs::read_dir(data).map_err(|error| EvalError::file(data, error))?;
    let mut paths = vec![];
    for entry in entries {
        let path = entry.map_err(|error| EvalError::file(data, error))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(EvalError::file(data, format!("no *{SUFFIX} in this folder")));
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<Labelled>, EvalError> {
    let text = csv_text(path)?;
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let headers = reader.byte_headers().map_err(|error| EvalError::file(path, error))?.clone();
    let column = |name: &str| {
        let found =
            headers.iter().position(|header| header.strip_prefix(b"\xef\xbb\xbf").unwrap_or(header) == name.as_bytes());
        found.ok_or_else(|| EvalError::line(path, 1, format!("no column {name}")))
    };
    let (content, event, template) = (column("Content")?, column("EventId")?, column("EventTemplate")?);
    column("LineId")?;
    let mut lines = vec![];
    for record in reader.byte_records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            EvalError::line(path, line, error)
        })?;
        let text = |column: usize| String::from_utf8_lossy(record.get(column).unwrap_or_default()).into_owned();
        let labelled = Labelled { content: text(content), event: text(event), template: text(template) };
        if labelled.event.is_empty() {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(EvalError::line(path, line, "EventId is empty"));
        }
        lines.push(labelled);
    }
    if lines.is_empty() {
        return Err(EvalError::file(path, "no lines"));
    }
    Ok(lines)
}

fn measure(name: String, lines: &[Labelled]) -> FileReport {
    let mut seconds = f64::INFINITY;
    let mut outcome = None;
    let mut passes = 0;
    let begin = Instant::now();
    while passes < PASSES || begin.elapsed() < TIMED {
        passes += 1;
        let start = Instant::now();
        let mut miner = Miner::new();
        let ids: Vec<TemplateId> = lines.iter().map(|line| miner.learn(&line.content)).collect();
        miner.consolidate();
        seconds = seconds.min(start.elapsed().as_secs_f64());
        outcome = Some((miner, ids));
    }
    let (miner, ids) = outcome.unwrap_or_default();
    let found: Vec<TemplateId> = ids.into_iter().map(|id| miner.resolve(id)).collect();
    let truth: Vec<&str> = lines.iter().map(|line| line.event.as_str()).collect();
    let groups = Groups::of(&truth, &found);
    let mut texts: HashMap<TemplateId, String> = HashMap::new();
    for id in &found {
        texts.entry(*id).or_insert_with(|| normalised(&miner.template(*id).unwrap_or_default()));
    }
    let parsed =
        lines.iter().zip(&found).filter(|(line, id)| texts.get(id) == Some(&normalised(&line.template))).count();
    FileReport {
        name,
        lines: lines.len(),
        templates: groups.truth,
        found: groups.found,
        scores: Scores {
            ga: groups.lines_right as f64 / lines.len() as f64,
            fga: groups.f1(),
            pa: parsed as f64 / lines.len() as f64,
            lines_per_s: lines.len() as f64 / seconds.max(1e-9),
        },
    }
}

fn mean_of(files: &[FileReport]) -> Scores {
    let mean =
        |score: fn(&Scores) -> f64| files.iter().map(|file| score(&file.scores)).sum::<f64>() / files.len() as f64;
    Scores {
        ga: mean(|scores| scores.ga),
        fga: mean(|scores| scores.fga),
        pa: mean(|scores| scores.pa),
        lines_per_s: mean(|scores| scores.lines_per_s),
    }
}

/// How two groupings of the same lines agree.
#[derive(PartialEq, Debug)]
struct Groups {
    truth: usize,
    found: usize,
    /// Groups with exactly the lines of a labelled group.
    right: usize,
    /// Lines in such groups.
    lines_right: usize,
}

impl Groups {
    fn of<T: Ord, F: Ord>(truth: &[T], found: &[F]) -> Self {
        let mut of_truth: BTreeMap<&T, usize> = BTreeMap::new();
        let mut of_found: BTreeMap<&F, usize> = BTreeMap::new();
        let mut of_both: BTreeMap<(&T, &F), usize> = BTreeMap::new();
        for (label, group) in truth.iter().zip(found) {
            *of_truth.entry(label).or_default() += 1;
            *of_found.entry(group).or_default() += 1;
            *of_both.entry((label, group)).or_default() += 1;
        }
        // Sets of lines are equal if neither has a line that the other lacks.
        let equal = |((label, group), shared): (&(&T, &F), &usize)| {
            (of_truth.get(label) == Some(shared) && of_found.get(group) == Some(shared)).then_some(*shared)
        };
        let right: Vec<usize> = of_both.iter().filter_map(equal).collect();
        Self { truth: of_truth.len(), found: of_found.len(), right: right.len(), lines_right: right.iter().sum() }
    }

    fn f1(&self) -> f64 {
        2.0 * self.right as f64 / (self.truth + self.found).max(1) as f64
    }
}

/// Labels differ in how they cut one value into wildcards (`<*>:<*>`, `<*> <*>`, `<*>.`): wildcards
/// that only white space or joining punctuation parts are one, and white space is one space.
fn normalised(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    for word in template.split_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    let mut parts = text.split("<*>");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let bare = part.trim_matches([' ', ',', '.', ':', '/', '-', '_', '+', '|', '@', '#']);
        if !joined.ends_with("<*>") {
            joined.push_str("<*>");
        }
        if !bare.is_empty() {
            joined.push_str(part);
        }
    }
    joined
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.files.iter().map(|file| file.name.len()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:width$}  {:>7}  {:>9}  {:>5}  {:>6}  {:>6}  {:>6}  {:>10}",
            "file", "lines", "templates", "found", "ga", "fga", "pa", "lines/s"
        )?;
        for file in &self.files {
            let FileReport { name, lines, templates, found, scores } = file;
            writeln!(f, "{name:width$}  {lines:>7}  {templates:>9}  {found:>5}  {scores}")?;
        }
        writeln!(f, "{:width$}  {:>7}  {:>9}  {:>5}  {}", "mean", "", "", "", self.mean)
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6.3}  {:>6.3}  {:>6.3}  {:>10.0}", self.ga, self.fga, self.pa, self.lines_per_s)
    }
}

#[cfg(test)]
mod tests;
