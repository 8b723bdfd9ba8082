//! Suite `anomaly`: the Isolation Forest on tables of numbers, unsupervised.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::EvalError;
use super::score::{auroc, average_precision};
use super::table::{Labels, Table, align, cell, csv_files, mean, stem};
use crate::domain::anomaly::{IsolationForest, Matrix};

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub files: Vec<FileReport>,
    pub mean: Measures,
}

#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    pub name: String,
    #[serde(flatten)]
    pub measures: Measures,
}

/// `auroc` and `ap` are absent when a file's labels are all alike.
#[derive(Debug, Clone, Serialize)]
pub struct Measures {
    pub auroc: Option<f64>,
    pub ap: Option<f64>,
    pub rows: f64,
    pub fit_ms: f64,
    pub score_ms: f64,
}

/// Measures every `*.csv` of the folder: numeric columns, the last one `label` (0 or 1). Any seed of the
/// forest would do; one makes runs comparable, several show its noise.
pub fn run(data: &Path, seed: u64) -> Result<Report, EvalError> {
    let files = csv_files(data, |_| true)?.iter().map(|path| measure(path, seed)).collect::<Result<Vec<_>, _>>()?;
    let over = |of: fn(&Measures) -> Option<f64>| mean(files.iter().map(|file| of(&file.measures)));
    let mean = Measures {
        auroc: over(|it| it.auroc),
        ap: over(|it| it.ap),
        rows: over(|it| Some(it.rows)).unwrap_or(0.0),
        fit_ms: over(|it| Some(it.fit_ms)).unwrap_or(0.0),
        score_ms: over(|it| Some(it.score_ms)).unwrap_or(0.0),
    };
    Ok(Report { files, mean })
}

fn measure(path: &Path, seed: u64) -> Result<FileReport, EvalError> {
    let table = Table::read(path, Labels::Last)?;
    let too_few = || EvalError::file(path, "an Isolation Forest needs at least two rows");
    let rows = Matrix::new(&table.values, table.width).ok_or_else(too_few)?;
    let started = Instant::now();
    let forest = IsolationForest::fit_matrix(rows, seed).ok_or_else(too_few)?;
    let fitted = Instant::now();
    let mut scores = forest.score_matrix(rows);
    let scored = Instant::now();
    scores.iter_mut().for_each(|score| *score = -*score);
    Ok(FileReport {
        name: stem(path),
        measures: Measures {
            auroc: auroc(&scores, &table.labels),
            ap: average_precision(&scores, &table.labels),
            rows: table.rows() as f64,
            fit_ms: (fitted - started).as_secs_f64() * 1e3,
            score_ms: (scored - fitted).as_secs_f64() * 1e3,
        },
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["file", "auroc", "ap", "rows", "fit ms", "score ms"];
        let mut lines = vec![head.map(String::from).to_vec()];
        let named = self.files.iter().map(|file| (file.name.as_str(), &file.measures));
        for (name, it) in named.chain([("mean", &self.mean)]) {
            lines.push(vec![
                name.to_owned(),
                cell(it.auroc),
                cell(it.ap),
                format!("{:.0}", it.rows),
                format!("{:.2}", it.fit_ms),
                format!("{:.2}", it.score_ms),
            ]);
        }
        f.write_str(&align(&lines))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("eval-anomaly-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn a_report_has_the_published_shape() {
        let data = folder("shape");
        let rows: String = (0..60).map(|at| format!("{},{},0\n", at % 7, at % 5)).collect();
        fs::write(data.join("small.csv"), format!("a,b,label\n{rows}90,-40,1\n")).expect("written");
        let report = run(&data, 0).expect("a report");
        fs::remove_dir_all(&data).expect("removed");
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["files"][0]["name"], "small");
        assert_eq!((&json["mean"]["auroc"], &json["mean"]["ap"]), (&1.0.into(), &1.0.into()));
        assert_eq!(json["files"][0]["rows"], 61.0);
        assert!(json["mean"]["fit_ms"].is_f64() && json["mean"]["score_ms"].is_f64());
        assert!(report.to_string().lines().count() == 3);
    }

    #[test]
    fn a_missing_value_says_nothing_and_stops_nobody() {
        let data = folder("missing");
        let rows: String = (0..60).map(|at| format!("{},{},0\n", at % 7, at % 5)).collect();
        fs::write(data.join("holes.csv"), format!("a,b,label\n{rows},2,0\n3,nan,0\n90,-40,1\n")).expect("written");
        let report = run(&data, 0).expect("a report");
        fs::remove_dir_all(&data).expect("removed");
        assert_eq!((report.mean.rows, report.mean.auroc), (63.0, Some(1.0)));
    }

    #[test]
    fn a_folder_that_is_not_there_or_empty_is_an_error() {
        assert!(run(Path::new("/nowhere/at/all"), 0).is_err());
        let data = folder("empty");
        let error = run(&data, 0).expect_err("nothing to read");
        fs::remove_dir_all(&data).expect("removed");
        assert!(error.to_string().ends_with("no *.csv file to read"), "{error}");
    }
}
