//! Suite `series`: the streaming detector on time series, each row scored before later rows are seen.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::EvalError;
use super::instant::epoch;
use super::score::{auroc, average_precision};
use super::table::{Labels, Table, align, cell, csv_files, mean, stem};
use crate::domain::series::{Detector, THRESHOLD};

const TRAINING: &str = ".train.csv";

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
    /// Flagged rows a day of the series' own time.
    pub flagged_per_day: f64,
    /// Runs of flagged rows a day: how often a person would be called.
    pub alarms_per_day: f64,
    pub rows_per_s: f64,
}

/// Measures every `NAME.csv` of the folder: `timestamp,value[,more values...],label`, rows in time
/// order. `NAME.train.csv`, without labels, is learnt first where it is there.
pub fn run(data: &Path) -> Result<Report, EvalError> {
    let files = csv_files(data, |name| !name.ends_with(TRAINING))?;
    let files = files.iter().map(|path| measure(path)).collect::<Result<Vec<_>, _>>()?;
    let over = |of: fn(&Measures) -> Option<f64>| mean(files.iter().map(|file| of(&file.measures)));
    let mean = Measures {
        auroc: over(|it| it.auroc),
        ap: over(|it| it.ap),
        flagged_per_day: over(|it| Some(it.flagged_per_day)).unwrap_or(0.0),
        alarms_per_day: over(|it| Some(it.alarms_per_day)).unwrap_or(0.0),
        rows_per_s: over(|it| Some(it.rows_per_s)).unwrap_or(0.0),
    };
    Ok(Report { files, mean })
}

fn measure(path: &Path) -> Result<FileReport, EvalError> {
    let series = Series::read(path, Rows::Labelled)?;
    let mut detector = Detector::new(series.width());
    let training = path.with_file_name(format!("{}{TRAINING}", stem(path)));
    if training.is_file() {
        let past = Series::read(&training, Rows::Before(series.instants[0]))?;
        if past.width() != series.width() {
            let reason = format!("{} value columns where {} has {}", past.width(), path.display(), series.width());
            return Err(EvalError::line(&training, 1, reason));
        }
        for (at, values) in past.rows() {
            detector.learn(at, values);
        }
    }
    let started = Instant::now();
    let scores: Vec<f64> = series.rows().map(|(at, values)| detector.observe(at, values).score).collect();
    let seconds = started.elapsed().as_secs_f64().max(1e-9);

    let flagged: Vec<bool> = scores.iter().map(|score| *score <= THRESHOLD).collect();
    let alarms = flagged.iter().enumerate().filter(|(at, flag)| **flag && (*at == 0 || !flagged[at - 1])).count();
    let days = series.days();
    let anomalous: Vec<f64> = scores.iter().map(|score| -score).collect();
    Ok(FileReport {
        name: stem(path),
        measures: Measures {
            auroc: auroc(&anomalous, &series.table.labels),
            ap: average_precision(&anomalous, &series.table.labels),
            flagged_per_day: flagged.iter().filter(|flag| **flag).count() as f64 / days,
            alarms_per_day: alarms as f64 / days,
            rows_per_s: scores.len() as f64 / seconds,
        },
    })
}

/// Which rows a file is to have.
#[derive(Debug, Clone, Copy)]
enum Rows {
    Labelled,
    /// To learn from: all before the first row that is scored, in seconds since the Unix epoch.
    Before(i64),
}

/// Rows of a file with their instants.
struct Series {
    table: Table,
    /// Seconds since the Unix epoch, in the order of the rows.
    instants: Vec<i64>,
}

impl Series {
    fn read(path: &Path, rows: Rows) -> Result<Self, EvalError> {
        let (labels, before) = match rows {
            Rows::Labelled => (Labels::Last, i64::MAX),
            Rows::Before(first) => (Labels::Absent, first),
        };
        let mut instants: Vec<i64> = vec![];
        let mut unit = None;
        let table = Table::read_with(path, labels, Some("timestamp"), |text| {
            let (at, read_as) = epoch(text).ok_or_else(|| format!("`{text}` is not an instant"))?;
            if *unit.get_or_insert(read_as) != read_as {
                return Err(format!("`{text}` is not in the unit of the first timestamp"));
            }
            if instants.last().is_some_and(|last| *last > at) {
                return Err(format!("`{text}` is before the row above"));
            }
            if at >= before {
                return Err(format!(
                    "`{text}` is not before the first row that is scored; leave it out of what is learnt"
                ));
            }
            instants.push(at);
            Ok(())
        })?;
        Ok(Self { table, instants })
    }

    fn width(&self) -> usize {
        self.table.width
    }

    fn rows(&self) -> impl Iterator<Item = (i64, &[f64])> {
        self.instants.iter().copied().zip(self.table.values.chunks_exact(self.table.width))
    }

    /// Time covered, the last row counting as long as an average one.
    fn days(&self) -> f64 {
        let (Some(first), Some(last)) = (self.instants.first(), self.instants.last()) else { return 1.0 };
        let rows = self.instants.len() as f64;
        let seconds = (last - first) as f64 * rows / (rows - 1.0).max(1.0);
        if seconds > 0.0 { seconds / 86_400.0 } else { 1.0 }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["file", "auroc", "ap", "flagged/day", "alarms/day", "rows/s"];
        let mut lines = vec![head.map(String::from).to_vec()];
        let named = self.files.iter().map(|file| (file.name.as_str(), &file.measures));
        for (name, it) in named.chain([("mean", &self.mean)]) {
            lines.push(vec![
                name.to_owned(),
                cell(it.auroc),
                cell(it.ap),
                format!("{:.2}", it.flagged_per_day),
                format!("{:.2}", it.alarms_per_day),
                format!("{:.0}", it.rows_per_s),
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
        let folder = std::env::temp_dir().join(format!("eval-series-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn wave(rows: std::ops::Range<i64>, label: bool) -> String {
        let head = if label { "timestamp,value,label\n" } else { "timestamp,value\n" };
        let rows = rows.map(|at| {
            let odd = label && at % 1_000 == 999;
            let value = if odd { 900.0 } else { 50.0 + ((at % 288) as f64 / 288.0 * std::f64::consts::TAU).sin() };
            if label { format!("{},{value},{}\n", at * 300, u8::from(odd)) } else { format!("{},{value}\n", at * 300) }
        });
        std::iter::once(head.to_owned()).chain(rows).collect()
    }

    #[test]
    fn a_report_has_the_published_shape() {
        let data = folder("shape");
        fs::write(data.join("web.train.csv"), wave(0..900, false)).expect("written");
        fs::write(data.join("web.csv"), wave(900..2_052, true)).expect("written");
        let report = run(&data).expect("a report");
        fs::remove_dir_all(&data).expect("removed");
        assert_eq!(report.files.len(), 1);
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["files"][0]["name"], "web");
        assert_eq!(json["mean"]["auroc"], 1.0);
        // Two odd rows in four days.
        assert_eq!(json["mean"]["flagged_per_day"], 0.5);
        assert!(json["files"][0]["rows_per_s"].as_f64().is_some_and(|rate| rate > 0.0));
    }

    #[test]
    fn what_is_wrong_with_a_series_is_said() {
        let data = folder("wrong");
        let file = data.join("web.csv");
        for (text, expected) in [
            ("time,value,label\n", "line 1: the first column is not `timestamp`"),
            ("timestamp,value,label\nnoon,1,0\n", "line 2: `noon` is not an instant"),
            ("timestamp,value,label\n600,1,0\n300,1,0\n", "line 3: `300` is before the row above"),
        ] {
            fs::write(&file, text).expect("written");
            let error = run(&data).expect_err("refused");
            assert_eq!(error.to_string(), format!("{}: {expected}", file.display()));
        }
        fs::write(&file, "timestamp,value,label\n600,1,0\n").expect("written");
        fs::write(data.join("web.train.csv"), "timestamp,a,b\n1,2,3\n").expect("written");
        let error = run(&data).expect_err("refused").to_string();
        assert!(error.contains("web.train.csv: line 1: 2 value columns"), "{error}");
        for late in [600, 900] {
            fs::write(data.join("web.train.csv"), format!("timestamp,value\n300,1\n{late},2\n")).expect("written");
            let error = run(&data).expect_err("refused").to_string();
            let expected = format!("web.train.csv: line 3: `{late}` is not before the first row that is scored");
            assert!(error.contains(&expected), "{error}");
        }
        fs::remove_dir_all(&data).expect("removed");
    }

    #[test]
    fn rows_a_second_apart_and_rows_that_are_counted_are_measured_with_holes_in_them() {
        let data = folder("fast");
        for (name, start) in [("seconds", 1_611_187_200), ("counted", 0)] {
            let row = |at: i64| match (at, at % 90) {
                (400, _) => format!("{},,0\n", start + at),
                (100.., 0) => format!("{},500,1\n", start + at),
                _ => format!("{},{},0\n", start + at, 50.0 + (at % 11) as f64 / 10.0),
            };
            let text: String = (0..1_000).map(row).collect();
            fs::write(data.join(format!("{name}.csv")), format!("timestamp,value,label\n{text}")).expect("written");
        }
        let report = run(&data).expect("a report");
        fs::remove_dir_all(&data).expect("removed");
        let found: Vec<Option<f64>> = report.files.iter().map(|file| file.measures.auroc).collect();
        assert_eq!(found, [Some(1.0); 2]);
    }
}
