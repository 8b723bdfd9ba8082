//! Exceptions and panics of runtimes: a head that names what was thrown, and frames.

use super::place::{self, Frame};
use super::{Found, Origin, Position};

/// `thread 'main' panicked at src/main.rs:10:5:` with the message on the next line (since Rust
/// 1.73), or `panicked at 'message', src/main.rs:10:5`.
pub fn rust<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    let (at, rest) = after(lines, "' panicked at ").or_else(|| after(lines, ") panicked at "))?;
    let (message, place) = match rest.strip_prefix('\'').and_then(|rest| rest.rsplit_once("', ")) {
        Some(parts) => parts,
        None => (lines.get(at + 1).copied().unwrap_or_default(), rest),
    };
    let position = place::file_and_line(place.trim_end_matches(':'))
        .and_then(|(file, line)| Position::new(file, Some(line), None));
    position.as_ref()?;
    Some(Found { origin: Origin::Rust, entity: "panic", position, message })
}

/// `panic: runtime error: index out of range [5] with length 3`, then goroutines.
pub fn go<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    let starts = |start: &str| lines.iter().enumerate().find_map(|(at, line)| Some((at, line.strip_prefix(start)?)));
    let (at, rest, entity) = match (starts("panic: "), starts("fatal error: ")) {
        (Some((at, rest)), _) => (at, rest, "panic"),
        (None, Some((at, rest))) if lines.iter().any(|line| line.starts_with("goroutine ")) => {
            (at, rest, "fatal error")
        }
        (None, _) => return None,
    };
    let (entity, message) = match rest.strip_prefix("runtime error: ") {
        Some(message) => ("runtime error", message),
        None => (entity, rest),
    };
    let mut places = lines.iter().enumerate().skip(at + 1).filter_map(|(at, line)| {
        let place = line.strip_prefix('\t').or_else(|| line.strip_prefix("    "))?.split(" +0x").next()?;
        let (file, number) = place::file_and_line(place.trim())?;
        let call = lines.get(at.wrapping_sub(1)).copied().unwrap_or_default();
        let function = call.strip_prefix("created by ").unwrap_or(call);
        let function = function.rfind('(').filter(|open| *open > 0).map_or(function, |open| &function[..open]);
        Position::new(file, Some(number), Some(function))
    });
    let first = places.next();
    let position = match first {
        Some(first) if place::is_of_runtime(&first) => places.find(|one| !place::is_of_runtime(one)).or(Some(first)),
        other => other,
    };
    Some(Found { origin: Origin::Go, entity, position, message })
}

/// `Traceback (most recent call last):`, frames, and the exception at the margin; of a chain the
/// last one, which is what was not handled.
pub fn python<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    after(lines, "Traceback (most recent call last)")?;
    let frame = |line: &str| {
        let (file, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let (number, function) = rest.split_once(", in ").unwrap_or((rest, ""));
        Position::new(file, number.trim().parse().ok(), Some(function))
    };
    let frames: Vec<(usize, Position)> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, frame(line)?))).collect();
    let (last, _) = frames.last()?;
    let head = lines.iter().skip(last + 1).find(|line| !line.starts_with([' ', '\t']))?;
    let (entity, message) = head.split_once(": ").unwrap_or((head.trim_end_matches(':'), ""));
    if !is_name(entity) {
        return None;
    }
    let own = frames.iter().rev().find(|(_, one)| !place::is_of_runtime(one)).or(frames.last());
    Some(Found { origin: Origin::Python, entity, position: own.map(|(_, one)| one.clone()), message })
}

/// `PHP Fatal error:  Uncaught TypeError: message in /var/www/a.php:12`, `... on line 12`.
pub fn php<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    const SEVERITIES: [&str; 6] =
        ["Fatal error: ", "Parse error: ", "Recoverable fatal error: ", "Warning: ", "Notice: ", "Deprecated: "];
    lines.iter().find_map(|line| {
        let (severity, rest) = match line.split_once("PHP ") {
            Some((_, said)) => SEVERITIES.iter().find_map(|one| Some((*one, said.strip_prefix(one)?)))?,
            None => SEVERITIES.iter().find_map(|one| Some((*one, line.strip_prefix(one)?)))?,
        };
        let rest = rest.trim_start();
        let (said, place) = rest
            .rmatch_indices(" in ")
            .map(|(at, _)| (&rest[..at], &rest[at + 4..]))
            .find(|(_, place)| place.starts_with('/') || place.get(1..3) == Some(":\\"))?;
        let (file, number) = match place.split_once(" on line ") {
            Some((file, number)) => (file, number.parse().ok()),
            None => place::file_and_line(place).map(|(file, line)| (file, Some(line)))?,
        };
        let uncaught = said.strip_prefix("Uncaught ").and_then(|said| said.split_once(": "));
        let (entity, message) =
            uncaught.filter(|(name, _)| is_name(name)).unwrap_or((severity.trim_end_matches(": "), said));
        Some(Found { origin: Origin::Php, entity, position: Position::new(file, number, None), message })
    })
}

/// ``app/models/user.rb:12:in `pay': undefined method `x' for nil (NoMethodError)``
pub fn ruby<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    lines.iter().find_map(|line| {
        let (place, rest) = line.split_once(":in ")?;
        let (file, number) = place::file_and_line(place.split_whitespace().last()?)?;
        if !file.ends_with(".rb") && !file.ends_with(".ru") {
            return None;
        }
        let (function, said) = rest.strip_prefix(['`', '\''])?.split_once("': ")?;
        let (message, entity) = said.strip_suffix(')')?.rsplit_once(" (")?;
        let position = Position::new(file, Some(number), Some(function));
        is_name(entity).then_some(Found { origin: Origin::Ruby, entity, position, message })
    })
}

/// Java, .NET and JavaScript: `Type: message`, frames that begin with `at`, and causes.
pub fn thrown<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    // The innermost cause is what went wrong; what wraps it says who was affected.
    let caused = lines.iter().rposition(|line| line.trim_start().starts_with("Caused by: "));
    let at = caused.or_else(|| lines.iter().position(|line| exception(line).is_some()))?;
    let (entity, mut message) = exception(lines[at])?;
    // .NET writes the innermost exception behind ` ---> `, in the head.
    let mut inner = entity;
    if let Some((_, rest)) = message.rsplit_once(" ---> ")
        && let Some((name, said)) = exception(rest)
    {
        (inner, message) = (name, said);
    }
    let frames: Vec<(Frame, Position)> = lines.iter().skip(at + 1).filter_map(|line| place::frame(line)).collect();
    let own = frames.iter().find(|(_, position)| !place::is_of_runtime(position)).or(frames.first());
    let origin = match own {
        Some((Frame::Java, _)) => Origin::Java,
        Some((Frame::DotNet, _)) => Origin::DotNet,
        Some((Frame::Node, _)) => Origin::Node,
        None => Origin::Line,
    };
    let position = own.map(|(_, position)| position.clone()).or_else(|| place::mentioned(lines[at]));
    Some(Found { origin, entity: inner, position, message })
}

/// The first word that is the name of an exception, and the message behind it.
fn exception(line: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    for word in
        line.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')' | '[' | ']' | '=' | ',' | ';'))
    {
        let start = from;
        from += word.len();
        // The character that ended the word.
        from += line[from..].chars().next().map_or(0, char::len_utf8);
        let name = word.find(':').map_or(word, |colon| &word[..colon]);
        let rest = &line[start + name.len()..];
        // `new TypeError('x')` is source text.
        if is_exception(name) && !rest.starts_with('(') {
            return Some((name, rest.strip_prefix(':').unwrap_or(rest).trim_start()));
        }
    }
    None
}

/// `NullPointerException`, `java.lang.OutOfMemoryError`, `App\Errors\PaymentError`, `RangeError`.
fn is_exception(name: &str) -> bool {
    let simple = name.rsplit(['.', '\\', '$', '/']).next().unwrap_or(name);
    let stem = ["Exception", "Error", "Throwable", "Fault"].iter().find_map(|ending| simple.strip_suffix(ending));
    let proper = simple.starts_with(|c: char| c.is_ascii_uppercase()) && is_name(name);
    let bare = matches!(name, "Exception" | "Throwable" | "Fault" | "Error");
    proper && !bare && stem.is_some_and(|stem| !stem.is_empty() || simple != name)
}

/// Dotted, slashed or nested identifiers.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '\\')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$' | b'\\' | b':' | b'/' | b'`'))
}

/// Whether `line` can only be read with the one before it.
pub fn continues(line: &str) -> bool {
    let inner = line.trim_start();
    let indented = inner.len() < line.len() && !inner.is_empty();
    indented
        || ["Caused by: ", "at ", "goroutine ", "created by ", "[signal ", "note: run with"]
            .iter()
            .any(|start| line.starts_with(start) && (*start != "at " || place::frame(line).is_some()))
}

/// Whether `line` begins with the name of what a Python trace tells of.
pub fn is_head(line: &str) -> bool {
    is_name(line.split(": ").next().unwrap_or_default().trim_end_matches(':'))
}

/// (line, what follows `mark` in it)
fn after<'a>(lines: &[&'a str], mark: &str) -> Option<(usize, &'a str)> {
    lines.iter().enumerate().find_map(|(at, line)| Some((at, line.split_once(mark)?.1)))
}
