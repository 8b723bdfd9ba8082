//! Places in code, as stack frames and loggers write them.

use super::{Position, clipped};

/// Endings of files of code.
const CODE: [&str; 24] = [
    "c", "cc", "clj", "cpp", "cs", "erl", "ex", "exs", "go", "groovy", "java", "js", "jsx", "kt", "mjs", "php", "py",
    "rb", "rs", "scala", "swift", "ts", "tsx", "vb",
];

impl Position {
    pub(super) fn new(file: &str, line: Option<u32>, function: Option<&str>) -> Option<Self> {
        let some = |text: &str| (!text.is_empty()).then(|| clipped(text));
        let position = Self { file: some(file), line, function: function.and_then(some) };
        (position.file.is_some() || position.function.is_some()).then_some(position)
    }
}

/// `src/main.rs:10:5` as (file, line); the column is optional and dropped.
pub fn file_and_line(text: &str) -> Option<(&str, u32)> {
    let (rest, last) = text.rsplit_once(':')?;
    let last: u32 = last.parse().ok()?;
    if let Some((file, line)) = rest.rsplit_once(':')
        && let Ok(line) = line.parse()
        && !file.is_empty()
    {
        return Some((file, line));
    }
    (!rest.is_empty()).then_some((rest, last))
}

/// The first `name.go:12` in a line, as loggers print their caller.
pub fn mentioned(line: &str) -> Option<Position> {
    let delimiter =
        |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')' | '[' | ']' | '=' | ',' | ';' | '<' | '>');
    line.split(delimiter).map(|word| word.trim_end_matches([':', '.'])).find_map(|word| {
        let (file, number) = file_and_line(word)?;
        let (stem, ending) = file.rsplit_once('.')?;
        (!stem.is_empty() && CODE.contains(&ending)).then(|| Position::new(file, Some(number), None))?
    })
}

/// A frame of the Java, .NET or JavaScript kind: `at com.shop.Pool.take(Pool.java:88)`,
/// `at Shop.Pool.Take(Int32 n) in /src/Pool.cs:line 88`, `at take (/app/pool.js:8:3)`.
pub fn frame(line: &str) -> Option<(Frame, Position)> {
    let call = line.trim_start().strip_prefix("at ")?.trim();
    if let Some((function, place)) = call.rsplit_once(" in ")
        && let Some((file, number)) = place.rsplit_once(":line ")
    {
        let function = function.split('(').next();
        return Some((Frame::DotNet, Position::new(file, number.trim().parse().ok(), function)?));
    }
    if let Some(open) = call.strip_suffix(')').and_then(|call| call.rfind('(')) {
        let (function, inner) = (&call[..open], &call[open + 1..call.len() - 1]);
        let spaced = function.ends_with(' ');
        let function = function.trim_end().trim_start_matches("async ");
        return match file_and_line(inner) {
            Some((file, number)) if spaced => Some((Frame::Node, Position::new(file, Some(number), Some(function))?)),
            Some((file, number)) => Some((Frame::Java, Position::new(file, Some(number), Some(unmoduled(function)))?)),
            None if matches!(inner, "Native Method" | "Unknown Source") || inner.ends_with(".java") => {
                Some((Frame::Java, Position::new("", None, Some(unmoduled(function)))?))
            }
            None => Some((Frame::DotNet, Position::new("", None, Some(function))?)),
        };
    }
    let (file, number) = file_and_line(call.trim_start_matches("async "))?;
    Some((Frame::Node, Position::new(file, Some(number), None)?))
}

/// Whose frame it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    Java,
    DotNet,
    Node,
}

/// `java.base/java.lang.Thread.run` without its module.
fn unmoduled(function: &str) -> &str {
    function.rsplit_once('/').map_or(function, |(_, function)| function)
}

/// Whether a frame is of the runtime and not of the application.
pub fn is_of_runtime(position: &Position) -> bool {
    const FUNCTIONS: [&str; 8] =
        ["java.", "javax.", "jdk.", "sun.", "com.sun.", "System.", "Microsoft.", "org.springframework."];
    let function = position.function.as_deref().unwrap_or_default();
    let file = position.file.as_deref().unwrap_or_default();
    FUNCTIONS.iter().any(|start| function.starts_with(start))
        || ["node:", "internal/"].iter().any(|start| file.starts_with(start))
        || ["/node_modules/", "/site-packages/", "/go/src/runtime/", "/src/runtime/", "/src/net/", "/rustc/"]
            .iter()
            .any(|part| file.contains(part))
}
