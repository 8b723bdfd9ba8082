//! Errors in logs as events: what went wrong, where in the code, in which service.
//!
//! [`recognise`] reads one line or one stack trace as common runtimes and servers write it;
//! [`events`] puts the lines of a trace together again where a log backend has cut them apart.
//!
//! Invariants: no input makes it fail; time is linear in the input, and what is read of one trace
//! and what is kept of it are bounded; texts are as the log has them, so they are claims of whoever
//! wrote the log.

mod place;
mod servers;
mod traces;

use std::fmt;

use super::log_template::template_of;

/// Read of one trace; of a longer one the beginning and the end, where the names stand. Bytes.
const MAX_TRACE: usize = 32 * 1024;
/// Lines that are joined to one trace.
const MAX_LINES: usize = 256;
/// Kept of one name or message; bytes.
const MAX_TEXT: usize = 240;

/// What a service said about one failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorEvent {
    pub service: String,
    pub origin: Origin,
    /// The type of the exception, the errno, the SQLSTATE: `java.sql.SQLTimeoutException`, `ECONNREFUSED`, `23505`.
    pub entity: String,
    pub position: Option<Position>,
    /// The message with `<*>` for values.
    pub message: String,
}

/// Who wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    Java,
    Python,
    Go,
    Rust,
    Node,
    DotNet,
    Php,
    Ruby,
    PostgreSql,
    Nginx,
    Kernel,
    /// A line of an application that names an exception or an error of the operating system.
    Line,
}

/// Where in the code; at least one part is known.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Position {
    pub file: Option<String>,
    pub line: Option<u32>,
    pub function: Option<String>,
}

/// `Pool.java:88 in Pool.take`
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, function } = self;
        match (file, line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}")?,
            (Some(file), None) => write!(f, "{file}")?,
            (None, _) => {}
        }
        match (file, function) {
            (Some(_), Some(function)) => write!(f, " in {function}"),
            (None, Some(function)) => write!(f, "{function}"),
            (_, None) => Ok(()),
        }
    }
}

/// `TypeError at app.js:3 in pay: Cannot read <*>`
impl fmt::Display for ErrorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.entity)?;
        if let Some(position) = &self.position {
            write!(f, " at {position}")?;
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// What a recogniser found, as parts of the text.
struct Found<'a> {
    origin: Origin,
    entity: &'a str,
    position: Option<Position>,
    message: &'a str,
}

type Recogniser = for<'a, 'b> fn(&'b [&'a str]) -> Option<Found<'a>>;

/// The failure that `text`, a line or a stack trace, tells of.
pub fn recognise(service: &str, text: &str) -> Option<ErrorEvent> {
    let text = bounded(text);
    let lines: Vec<&str> =
        text.lines().take(MAX_TRACE / 16).map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let recognisers: [Recogniser; 10] = [
        traces::rust,
        traces::go,
        traces::python,
        traces::php,
        traces::ruby,
        servers::kernel,
        servers::nginx,
        servers::postgresql,
        traces::thrown,
        servers::line,
    ];
    let found = recognisers.iter().find_map(|recognise| recognise(&lines))?;
    Some(ErrorEvent {
        service: clipped(service),
        origin: found.origin,
        entity: clipped(found.entity),
        position: found.position,
        message: clipped(&template_of(head(found.message.trim(), MAX_TEXT))),
    })
}

/// The failures in the lines of one service, in their order; lines of one trace count as one.
pub fn events<'a>(service: &str, lines: impl IntoIterator<Item = &'a str>) -> Vec<ErrorEvent> {
    traces_of(lines).iter().filter_map(|text| recognise(service, text)).collect()
}

/// Lines with the lines that continue them.
fn traces_of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut texts: Vec<String> = vec![];
    let mut count = 0;
    let mut python = false;
    for line in lines {
        let continued = traces::continues(line);
        // The last line of a Python trace stands at the margin; it names the exception.
        let last = python && !continued && traces::is_head(line);
        match texts.last_mut() {
            Some(text) if (continued || last) && count < MAX_LINES && text.len() + line.len() < MAX_TRACE => {
                text.push('\n');
                text.push_str(line);
                count += 1;
                python &= !last;
            }
            Some(_) | None => {
                texts.push(line.to_owned());
                count = 1;
                python = line.contains("Traceback (most recent call last)");
            }
        }
    }
    texts
}

/// The beginning and the end of a long text.
fn bounded(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= MAX_TRACE {
        return text.into();
    }
    let front = head(text, MAX_TRACE / 2);
    let mut from = text.len() - MAX_TRACE / 2;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    format!("{front}\n{}", &text[from..]).into()
}

fn head(text: &str, mut length: usize) -> &str {
    if text.len() <= length {
        return text;
    }
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    &text[..length]
}

fn clipped(text: &str) -> String {
    head(text, MAX_TEXT).to_owned()
}

#[cfg(test)]
mod tests;
