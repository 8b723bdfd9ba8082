//! What the model reads of an answer that is too long to be shown: its shape, what repeats in it,
//! its beginning and its end. The answer itself is kept, and `evidence_grep` and `evidence_page`
//! look into it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::log_template::template_of;

/// Lines longer than this are cut where they are shown.
pub const MAX_LINE: usize = 400;
/// Templates are counted over so many lines; a longer text repeats itself.
const COUNTED: usize = 20_000;
const TEMPLATES: usize = 12;
const KEYS: usize = 24;
const DEPTH: usize = 3;
/// A field with at most so many different values is told by them.
const VALUES: usize = 6;
const SAMPLE: usize = 1_000;

/// The text itself where there is room for it, else its digest.
pub fn of(body: &str, room: usize) -> String {
    if body.chars().count() <= room {
        return body.to_owned();
    }
    let lines: Vec<&str> = body.lines().collect();
    let head = format!(
        "[{} lines, {} characters: too long to be shown. The whole answer is kept under the mark above: look into it \
         with evidence_grep and evidence_page]",
        lines.len(),
        body.chars().count()
    );
    let room = room.saturating_sub(head.len() + 120);
    let digest = match json(body) {
        Some(value) => outline_of(&value, room),
        None => of_text(&lines, room),
    };
    format!("{head}\n{digest}")
}

/// JSON in one long line is laid out, so that it has lines to count, to find and to page in.
pub fn on_lines(body: String) -> String {
    let long = body.lines().any(|line| line.len() > 4 * MAX_LINE);
    match long.then(|| json(&body)).flatten() {
        Some(value) => serde_json::to_string_pretty(&value).unwrap_or(body),
        None => body,
    }
}

pub fn clip(line: &str, room: usize) -> String {
    let total = line.chars().count();
    if total <= room {
        return line.to_owned();
    }
    format!("{}… [{total} characters]", line.chars().take(room).collect::<String>())
}

fn json(body: &str) -> Option<Value> {
    let text = body.trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn of_text(lines: &[&str], room: usize) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines.iter().take(COUNTED).filter(|line| !line.trim().is_empty()) {
        *counts.entry(template_of(&clip(line, MAX_LINE))).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let kinds = counts.len();
    let frequent: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .take(TEMPLATES)
        .map(|(template, count)| format!("{count} x {}", clip(&template, 160)))
        .collect();
    let mut digest = String::new();
    if !frequent.is_empty() {
        let rest = kinds.saturating_sub(frequent.len());
        digest.push_str(&format!("what repeats (variable parts are <*>; {rest} other kinds of line):\n"));
        push_within(&mut digest, frequent.iter().map(String::as_str), room / 3);
    }
    digest.push_str("first lines:\n");
    let first = push_within(&mut digest, lines.iter().copied(), room / 3);
    digest.push_str("last lines:\n");
    let rest = &lines[first..];
    let mut used = 0;
    let last = rest
        .iter()
        .rev()
        .take_while(|line| {
            used += line.chars().count().min(MAX_LINE) + 24;
            used < room / 3
        })
        .count();
    push_within(&mut digest, rest[rest.len() - last..].iter().copied(), room / 2);
    digest
}

/// How many of the lines found room.
fn push_within<'a>(digest: &mut String, lines: impl Iterator<Item = &'a str>, room: usize) -> usize {
    let (mut used, mut count) = (0, 0);
    for line in lines {
        let line = clip(line, MAX_LINE);
        used += line.chars().count() + 1;
        if used > room {
            break;
        }
        digest.push_str(&line);
        digest.push('\n');
        count += 1;
    }
    count
}

fn outline_of(value: &Value, room: usize) -> String {
    let mut rows = vec![];
    outline("", value, 0, &mut rows);
    let mut digest = String::from("structure:\n");
    let shown = push_within(&mut digest, rows.iter().map(String::as_str), room);
    if shown < rows.len() {
        digest.push_str(&format!("[{} more rows]\n", rows.len() - shown));
    }
    digest
}

fn outline(path: &str, value: &Value, depth: usize, rows: &mut Vec<String>) {
    let at = if path.is_empty() { "." } else { path };
    match value {
        Value::Object(map) => {
            rows.push(format!("{at}: object of {} keys", map.len()));
            if depth >= DEPTH {
                return;
            }
            for (key, inner) in map.iter().take(KEYS) {
                outline(&format!("{path}.{key}"), inner, depth + 1, rows);
            }
            if map.len() > KEYS {
                rows.push(format!("{at}: [{} more keys]", map.len() - KEYS));
            }
        }
        Value::Array(items) => elements(at, items, depth, rows),
        other => rows.push(format!("{at}: {}", clip(&other.to_string(), 120))),
    }
}

fn elements(at: &str, items: &[Value], depth: usize, rows: &mut Vec<String>) {
    let objects: Vec<_> = items.iter().filter_map(Value::as_object).collect();
    if objects.is_empty() {
        let kind = items.first().map_or("nothing", kind_of);
        rows.push(format!("{at}: array of {} ({kind}){}", items.len(), told(items.iter().collect())));
        if let Some(first @ Value::Array(_)) = items.first().filter(|_| depth < DEPTH) {
            outline(&format!("{at}[0]"), first, depth + 1, rows);
        }
        return;
    }
    rows.push(format!("{at}: array of {} objects", items.len()));
    let mut fields: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for object in &objects {
        for (key, value) in object.iter() {
            fields.entry(key).or_default().push(value);
        }
    }
    let total = fields.len();
    for (key, values) in fields.into_iter().take(KEYS) {
        let kind = values.first().map_or("nothing", |value| kind_of(value));
        let share = if values.len() < items.len() { format!(" in {}", values.len()) } else { String::new() };
        rows.push(format!("{at}[].{key}: {kind}{share}{}", told(values.clone())));
        if let Some(first) = values.first().filter(|first| depth + 1 < DEPTH && (first.is_object() || first.is_array()))
        {
            outline(&format!("{at}[0].{key}"), first, depth + 2, rows);
        }
    }
    if total > KEYS {
        rows.push(format!("{at}[]: [{} more keys]", total - KEYS));
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Few values are counted, numbers have a range, of many texts one is an example.
fn told(values: Vec<&Value>) -> String {
    let numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for value in values.iter().take(SAMPLE).filter(|value| !value.is_object() && !value.is_array()) {
        *counts.entry(clip(&value.to_string(), 60)).or_default() += 1;
    }
    if counts.is_empty() {
        return String::new();
    }
    if counts.len() <= VALUES {
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let counts: Vec<_> = counts.into_iter().map(|(value, count)| format!("{value} x{count}")).collect();
        let among = if values.len() > SAMPLE { format!(" (of the first {SAMPLE})") } else { String::new() };
        return format!(" = {}{among}", counts.join(", "));
    }
    if numbers.len() == values.len() {
        let (low, high) = numbers.iter().fold((f64::MAX, f64::MIN), |(low, high), one| (low.min(*one), high.max(*one)));
        return format!(" from {low} to {high}");
    }
    counts.into_iter().next().map(|(value, _)| format!(", e.g. {value}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_fits_is_shown_as_it_is() {
        assert_eq!(of("a\nb", 10), "a\nb");
    }

    #[test]
    fn a_long_text_is_told_by_what_repeats_its_beginning_and_its_end() {
        let mut lines: Vec<String> = (0..30_000).map(|at| format!("request {at} took {} ms", at % 97)).collect();
        lines[17_000] = "FATAL the one that matters".into();
        lines.push("the end".into());
        let digest = of(&lines.join("\n"), 2_000);
        assert!(digest.starts_with("[30001 lines, 7"), "{digest}");
        assert!(digest.contains("19999 x request <*> took <*>"), "{digest}");
        assert!(digest.contains("first lines:\nrequest 0 took 0 ms\n"), "{digest}");
        assert!(digest.ends_with("the end\n"), "{digest}");
        assert!(digest.chars().count() <= 2_000, "{}", digest.chars().count());
    }

    #[test]
    fn json_is_told_by_its_structure() {
        let items: Vec<_> = (0..900)
            .map(|at| json!({"id": at, "state": if at % 90 == 0 { "failed" } else { "ok" }, "tags": ["a"]}))
            .collect();
        let body = on_lines(json!({"items": items, "next": null}).to_string());
        assert!(body.lines().count() > 900, "it has lines to page in");
        let digest = of(&body, 1_000);
        expect_test::expect![[r#"
            structure:
            .: object of 2 keys
            .items: array of 900 objects
            .items[].id: number from 0 to 899
            .items[].state: text = "ok" x890, "failed" x10
            .items[].tags: array
            .items[0].tags: array of 1 (text) = "a" x1
            .next: null
        "#]]
        .assert_eq(digest.split_once('\n').unwrap().1);
    }

    #[test]
    fn one_endless_line_is_cut_and_says_so() {
        let digest = of(&"x".repeat(1_000_000), 4_000);
        assert!(digest.contains("… [1000000 characters]"), "{digest}");
        assert!(digest.chars().count() <= 4_000);
    }
}
