//! Who may import whom: read from the `use` lines and paths of the source.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A room and the rooms it may name. What is not listed may not be imported.
const ROOMS: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("ports", &["domain"]),
    ("prompt", &["domain"]),
    ("config", &["domain", "ports"]),
    ("store", &["domain", "ports", "config"]),
    ("memory", &["domain", "ports", "config"]),
    ("adapters", &["domain", "ports", "config"]),
    ("tools", &["domain", "ports", "prompt", "memory", "store"]),
    ("flow", &["domain", "ports", "prompt", "config", "store", "memory", "tools"]),
    ("telemetry", &[]),
    ("api", &["domain", "ports", "config", "store", "memory", "tools", "flow", "adapters", "telemetry"]),
    ("console", &["domain", "ports", "config", "store", "flow"]),
    ("world", &["domain", "ports"]),
    ("eval", &["domain", "ports", "config", "store", "memory", "tools", "flow", "world"]),
    ("app", &["domain", "ports", "prompt", "config", "store", "memory", "tools", "flow", "adapters", "api", "console"]),
    (
        "cli",
        &[
            "domain",
            "ports",
            "prompt",
            "config",
            "store",
            "memory",
            "flow",
            "app",
            "api",
            "eval",
            "world",
            "telemetry",
            "adapters",
        ],
    ),
];

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The rooms that a line names through `crate::`.
fn named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut rooms = vec![];
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && code.as_bytes()[at - 1] == b'$' {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let word: String = rest.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
        match rest.strip_prefix('{') {
            Some(list) => {
                rooms.extend(list.split(',').map(|item| item.trim().split("::").next().unwrap_or_default().to_owned()))
            }
            None => rooms.push(word),
        }
    }
    rooms
}

fn room_of(file: &Path, source: &Path) -> String {
    let first = file.strip_prefix(source).unwrap().components().next().unwrap();
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = vec![];
    files(&source, &mut all);
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    let mut wrong = vec![];
    for file in &all {
        let room = room_of(file, &source);
        if ["main", "lib"].contains(&room.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{}: the room {room} is not in the plan", file.display()));
            continue;
        };
        for (number, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
            for other in named(line) {
                if other != room && known.contains(other.as_str()) && !allowed.contains(&other.as_str()) {
                    wrong.push(format!("{}:{}: {room} may not import {other}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_domain_has_no_clock_no_chance_and_no_io() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = vec![];
    files(&source.join("domain"), &mut all);
    let forbidden =
        ["std::fs", "std::net", "std::process", "SystemTime", "Instant::now", "tokio::", "rand::", "reqwest", "sqlx"];
    let mut wrong = vec![];
    for file in &all {
        if file.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(file).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in product.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in forbidden.iter().filter(|word| code.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_scanner_sees_an_import() {
    assert_eq!(named("use crate::flow::desk::Desk;"), ["flow"]);
    assert_eq!(named("use crate::{store, memory::Memory};"), ["store", "memory"]);
    assert_eq!(named("// use crate::flow;"), Vec::<String>::new());
}
