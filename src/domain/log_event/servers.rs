//! Errors of servers and of the operating system, which have codes instead of types.

use super::place;
use super::{Found, Origin, Position};

/// `Out of memory: Killed process 1234 (java)`, `Memory cgroup out of memory: Kill process ...`;
/// the process stands for the function.
pub fn kernel<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    lines.iter().find_map(|line| {
        let at = line.find("Out of memory: Kill").or_else(|| line.find("out of memory: Kill"))?;
        let message = &line[at..];
        let process = message.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(name, _)| name);
        Some(Found { origin: Origin::Kernel, entity: "oom-kill", position: Position::new("", None, process), message })
    })
}

/// `2026/01/02 03:04:05 [error] 31#31: *7 connect() failed (111: Connection refused) while ...`
pub fn nginx<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    const LEVELS: [&str; 4] = ["[error] ", "[crit] ", "[alert] ", "[emerg] "];
    lines.iter().find_map(|line| {
        let rest = LEVELS.iter().find_map(|level| Some(line.split_once(level)?.1))?;
        let (process, said) = rest.split_once(": ")?;
        if !process.contains('#') || !process.bytes().all(|byte| byte.is_ascii_digit() || byte == b'#') {
            return None;
        }
        let said = match said.strip_prefix('*').and_then(|said| said.split_once(' ')) {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
            Some(_) | None => said,
        };
        let message = said.split(", client: ").next().unwrap_or(said);
        let number = message.split('(').skip(1).find_map(|part| {
            let (number, text) = part.split_once(": ")?;
            number.parse::<u16>().ok().and(text.split_once(')')).map(|(text, _)| text)
        });
        let entity = number.and_then(errno).or(errno(message)).unwrap_or("nginx error");
        let function = message.split_once("()").map(|(name, _)| name).filter(|name| !name.contains(' '));
        Some(Found { origin: Origin::Nginx, entity, position: Position::new("", None, function), message })
    })
}

/// `ERROR:  duplicate key value violates unique constraint "orders_pkey"`, with the SQLSTATE where
/// `log_error_verbosity` or the prefix prints it, else by the message where it is certain.
pub fn postgresql<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    let (severity, (before, said)) = lines.iter().find_map(|line| {
        ["ERROR", "FATAL", "PANIC"].iter().find_map(|severity| {
            let (before, said) = line.split_once(severity)?;
            Some((*severity, (before, said.strip_prefix(":  ")?)))
        })
    })?;
    let (stated, message) = match said.split_once(": ") {
        Some((code, message)) if is_sqlstate(code) => (Some(code), message),
        Some(_) | None => (None, said),
    };
    let prefixed = before
        .split([' ', '[', ']', ':', ','])
        .find(|word| is_sqlstate(word) && word.bytes().all(|byte| byte.is_ascii_digit()));
    let absent = |what: &str| message.starts_with(what) && message.contains("does not exist");
    let known = match CONDITIONS.iter().find(|(part, _)| message.contains(part)) {
        Some((_, code)) => Some(*code),
        None if absent("relation ") => Some("42P01"),
        None if absent("column ") => Some("42703"),
        None => None,
    };
    let location = lines.iter().find_map(|line| {
        let (function, place) = line.split_once("LOCATION:  ")?.1.split_once(", ")?;
        let (file, number) = place::file_and_line(place)?;
        Position::new(file, Some(number), Some(function))
    });
    Some(Found {
        origin: Origin::PostgreSql,
        entity: stated.or(known).or(prefixed).unwrap_or(severity),
        position: location,
        message,
    })
}

/// A line that says that it is about an error, by its level, and names one of the operating system.
pub fn line<'a>(lines: &[&'a str]) -> Option<Found<'a>> {
    lines.iter().find_map(|line| {
        let level = level(line)?;
        let message = ["msg=\"", "message=\"", "\"msg\":\"", "\"message\":\""]
            .iter()
            .find_map(|key| line.split_once(key)?.1.split_once('"'))
            .map_or(*line, |(message, _)| message);
        Some(Found {
            origin: Origin::Line,
            entity: errno(line).unwrap_or(level),
            position: place::mentioned(line),
            message,
        })
    })
}

/// The level of a line, if it is that of an error.
fn level(line: &str) -> Option<&'static str> {
    const LEVELS: [(&str, &str); 8] = [
        ("error", "error"),
        ("err", "error"),
        ("severe", "error"),
        ("fatal", "fatal"),
        ("critical", "fatal"),
        ("crit", "fatal"),
        ("emerg", "fatal"),
        ("panic", "fatal"),
    ];
    // Where loggers put the level: among the first words.
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty()).take(24);
    let mut key = false;
    for (at, word) in words.enumerate() {
        let named = LEVELS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, level)| *level);
        // In capitals, behind a key, or as the very first word; `error` in a sentence is none.
        if named.is_some() && (key || at == 0 || word.bytes().all(|byte| byte.is_ascii_uppercase())) {
            return named;
        }
        key = ["level", "lvl", "severity", "loglevel", "log_level"].iter().any(|name| word.eq_ignore_ascii_case(name));
    }
    None
}

/// The name of an error of the operating system or of a resolver, by its name or its text (`strerror`).
fn errno(text: &str) -> Option<&'static str> {
    const ERRORS: [(&str, &str); 16] = [
        ("connection refused", "ECONNREFUSED"),
        ("connection reset", "ECONNRESET"),
        ("connection timed out", "ETIMEDOUT"),
        ("operation timed out", "ETIMEDOUT"),
        ("i/o timeout", "ETIMEDOUT"),
        ("no route to host", "EHOSTUNREACH"),
        ("network is unreachable", "ENETUNREACH"),
        ("broken pipe", "EPIPE"),
        ("no space left on device", "ENOSPC"),
        ("disk quota exceeded", "EDQUOT"),
        ("too many open files", "EMFILE"),
        ("cannot allocate memory", "ENOMEM"),
        ("permission denied", "EACCES"),
        ("no such file or directory", "ENOENT"),
        ("address already in use", "EADDRINUSE"),
        ("read-only file system", "EROFS"),
    ];
    let lower = text.to_ascii_lowercase();
    let named = |name: &str| lower.contains(&name.to_ascii_lowercase());
    ERRORS.iter().find(|(said, name)| lower.contains(said) || named(name)).map(|(_, name)| *name)
}

/// PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
const CONDITIONS: [(&str, &str); 22] = [
    ("violates unique constraint", "23505"),
    ("violates foreign key constraint", "23503"),
    ("violates not-null constraint", "23502"),
    ("violates check constraint", "23514"),
    ("violates exclusion constraint", "23P01"),
    ("deadlock detected", "40P01"),
    ("could not serialize access", "40001"),
    ("canceling statement due to", "57014"),
    ("due to administrator command", "57P01"),
    ("the database system is", "57P03"),
    ("too many clients already", "53300"),
    ("remaining connection slots", "53300"),
    ("too many connections for", "53300"),
    ("No space left on device", "53100"),
    ("out of memory", "53200"),
    ("out of shared memory", "53200"),
    ("password authentication failed", "28P01"),
    ("permission denied for", "42501"),
    ("current transaction is aborted", "25P02"),
    ("division by zero", "22012"),
    ("syntax error at", "42601"),
    ("value too long for type", "22001"),
];

/// Five digits or capitals, beginning with a class that exists: `23505`, `40P01`, `XX000`.
fn is_sqlstate(code: &str) -> bool {
    code.len() == 5
        && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        && code.bytes().any(|byte| byte.is_ascii_digit())
}
