//! Reading labelled tables and printing measured ones.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::EvalError;

/// Numeric rows of one file.
pub(super) struct Table {
    columns: Vec<String>,
    /// Row-major: row `i` is `values[i * width..(i + 1) * width]`, without the label; NaN where one is missing.
    pub(super) values: Vec<f64>,
    pub(super) width: usize,
    pub(super) labels: Vec<bool>,
}

/// Whether the last column is `label`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    Last,
    Absent,
}

impl Table {
    pub(super) fn read(path: &Path, expected: Labels) -> Result<Self, EvalError> {
        Self::read_with(path, expected, None, |_| Ok(()))
    }

    /// Reads a table whose first column, `key`, is no number; each row's goes to `on_key`.
    pub(super) fn read_with(
        path: &Path,
        expected: Labels,
        key: Option<&str>,
        mut on_key: impl FnMut(&str) -> Result<(), String>,
    ) -> Result<Self, EvalError> {
        Self::parse(path, csv_text(path)?.as_slice(), expected, key, &mut on_key)
    }

    fn parse(
        path: &Path,
        text: impl Read,
        expected: Labels,
        key: Option<&str>,
        on_key: &mut dyn FnMut(&str) -> Result<(), String>,
    ) -> Result<Self, EvalError> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
        let header = reader.headers().map_err(|error| csv_error(path, &error))?;
        let columns = columns(header, expected, key).map_err(|reason| EvalError::line(path, 1, reason))?;
        let width = columns.len();
        let mut table = Self { columns, values: vec![], width, labels: vec![] };
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| csv_error(path, &error))? {
            let line = record.position().map_or(0, csv::Position::line);
            let skipped = usize::from(key.is_some());
            let read = if key.is_some() { on_key(record.get(0).unwrap_or("")) } else { Ok(()) };
            read.and_then(|()| table.push(&record, skipped, expected))
                .map_err(|reason| EvalError::line(path, line, reason))?;
        }
        if table.values.is_empty() {
            return Err(EvalError::file(path, "no rows"));
        }
        Ok(table)
    }

    fn push(&mut self, record: &csv::StringRecord, skipped: usize, expected: Labels) -> Result<(), String> {
        for (field, column) in record.iter().skip(skipped).zip(&self.columns) {
            self.values.push(value(field).map_err(|reason| format!("column `{column}`: `{field}` is {reason}"))?);
        }
        if expected == Labels::Last {
            self.labels.push(match record.get(skipped + self.width).unwrap_or("") {
                "0" | "0.0" => false,
                "1" | "1.0" => true,
                other => return Err(format!("label is `{other}`, not 0 or 1")),
            });
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.width
    }
}

/// NaN for what is missing, as it is written by pandas, R and JSON.
fn value(field: &str) -> Result<f64, &'static str> {
    const MISSING: [&str; 6] = ["", "nan", "na", "n/a", "null", "none"];
    if MISSING.iter().any(|word| field.eq_ignore_ascii_case(word)) {
        return Ok(f64::NAN);
    }
    let value: f64 = field.parse().map_err(|_| "not a number")?;
    if value.is_finite() { Ok(value) } else { Err("not finite") }
}

/// The names of the value columns.
fn columns(header: &csv::StringRecord, expected: Labels, key: Option<&str>) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = header.iter().map(String::from).collect();
    match (expected, names.last().map(String::as_str)) {
        (Labels::Last, Some("label")) => {
            names.pop();
        }
        (Labels::Last, _) => return Err("the last column is not `label`".into()),
        (Labels::Absent, Some("label")) => return Err("a training file has no `label` column".into()),
        (Labels::Absent, _) => {}
    }
    if let Some(key) = key {
        if names.first().map(String::as_str) != Some(key) {
            return Err(format!("the first column is not `{key}`"));
        }
        names.remove(0);
    }
    if names.is_empty() { Err("no value columns".into()) } else { Ok(names) }
}

fn csv_error(path: &Path, error: &csv::Error) -> EvalError {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(pos), expected_len, len } => {
            EvalError::line(path, pos.line(), format!("{len} fields where the header has {expected_len}"))
        }
        _ => EvalError { line: error.position().map(csv::Position::line), ..EvalError::file(path, error) },
    }
}

/// A file's bytes with line feeds alone: of a line that ends otherwise the reader gives the number of the
/// one before.
pub(super) fn csv_text(path: &Path) -> Result<Vec<u8>, EvalError> {
    let mut text = fs::read(path).map_err(|error| EvalError::file(path, error))?;
    if text.windows(2).any(|pair| pair == b"\r\n") {
        let mut next = text.clone().into_iter().skip(1);
        text.retain(|byte| next.next() != Some(b'\n') || *byte != b'\r');
    }
    Ok(text)
}

/// The `*.csv` files of a folder that `wanted` names, sorted by name.
pub(super) fn csv_files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, EvalError> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).map_err(|error| EvalError::file(folder, error))? {
        let path = entry.map_err(|error| EvalError::file(folder, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.ends_with(".csv") && wanted(name) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(EvalError::file(folder, "no *.csv file to read"));
    }
    found.sort();
    Ok(found)
}

/// The file's name without its ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Mean of the values that are there; `None` when none is.
pub(super) fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (mut count, mut sum) = (0u32, 0.0);
    for value in values.flatten() {
        count += 1;
        sum += value;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// Names to the left, figures to the right, each column as wide as its widest cell.
pub(super) fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, width))| if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A measure that may be undefined (one class only).
pub(super) fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let read = Table::parse(Path::new("a.csv"), text.as_bytes(), Labels::Last, None, &mut |_| Ok(()));
        let got = match read {
            Ok(table) => {
                format!("{} x {}, {} odd", table.rows(), table.width, table.labels.iter().filter(|l| **l).count())
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn a_bad_file_names_itself_the_line_and_the_reason() {
        check("x,y,label\n1,2,0\n3, 4e1 ,1\n", "2 x 2, 1 odd");
        check("x,y,label\n1,2,0\n3,much,1\n", "a.csv: line 3: column `y`: `much` is not a number");
        check("x,y,label\n1,inf,0\n", "a.csv: line 2: column `y`: `inf` is not finite");
        check("x,y,label\n1,2,\n", "a.csv: line 2: label is ``, not 0 or 1");
        check("x,y,label\n1,2,yes\n", "a.csv: line 2: label is `yes`, not 0 or 1");
        check("x,y,label\n1,2,0\n1,0\n", "a.csv: line 3: 2 fields where the header has 3");
        check("x,y\n1,2\n", "a.csv: line 1: the last column is not `label`");
        check("label\n1\n", "a.csv: line 1: no value columns");
        check("x,label\n", "a.csv: no rows");
    }

    #[test]
    fn a_missing_value_is_read_as_none() {
        let text = "x,y,label\n1,2,0\n,2,0\nnan,NaN,1\nNA,null,0\n";
        let read = Table::parse(Path::new("a.csv"), text.as_bytes(), Labels::Last, None, &mut |_| Ok(()));
        let table = read.expect("a table");
        let missing: Vec<bool> = table.values.iter().map(|value| value.is_nan()).collect();
        assert_eq!(missing, [false, false, true, false, true, true, true, true]);
        assert_eq!(table.labels, [false, false, true, false]);
        check("x,y,label\n,-inf,0\n", "a.csv: line 2: column `y`: `-inf` is not finite");
    }

    #[test]
    fn figures_stand_under_each_other() {
        let lines = [vec!["a".into(), "1.5".into()], vec!["long".into(), "10.5".into()]];
        assert_eq!(align(&lines), "a      1.5\nlong  10.5\n");
    }

    #[test]
    fn a_measure_that_is_undefined_is_left_out_of_the_mean() {
        assert_eq!(mean([Some(1.0), None, Some(2.0)].into_iter()), Some(1.5));
        assert_eq!(mean([None].into_iter()), None);
    }
}
