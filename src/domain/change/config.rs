//! What differs between two states of a ConfigMap, line by line, so that one setting in a long file is
//! one difference.

use std::collections::BTreeMap;

use super::{ChangeKind, Touched};

/// More are counted, not told: nobody reads a file of differences at night.
const MOST: usize = 20;
const MAX_LINE: usize = 120;

/// Values as they may be shown. Empty when nothing differs.
pub fn compare_config(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Touched> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut details = vec![];
    for key in keys {
        match (before.get(key), after.get(key)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) if old.trim().contains('\n') || new.trim().contains('\n') => {
                details.extend(lines(old, new).into_iter().map(|detail| format!("{key}: {detail}")));
            }
            (Some(old), Some(new)) => details.push(format!("{key}: {} -> {}", brief(old), brief(new))),
            (Some(old), None) => details.push(format!("{key}: {} -> (none)", brief(old))),
            (None, Some(new)) => details.push(format!("{key}: (none) -> {}", brief(new))),
            (None, None) => {}
        }
    }
    let more = details.len().saturating_sub(MOST);
    details.truncate(MOST);
    if more > 0 {
        details.push(format!("{more} more differences"));
    }
    details.into_iter().map(|detail| Touched { what: ChangeKind::Configuration, detail }).collect()
}

/// Lines that only one side has; those of one setting, in their order, are told as one.
fn lines(old: &str, new: &str) -> Vec<String> {
    let mut count: BTreeMap<&str, i64> = BTreeMap::new();
    old.lines().for_each(|line| *count.entry(line.trim()).or_default() += 1);
    new.lines().for_each(|line| *count.entry(line.trim()).or_default() -= 1);
    let mut left = count.clone();
    let mut gone = surplus(old, &mut left, 1);
    let mut come = surplus(new, &mut count, -1);
    let mut told = vec![];
    gone.retain(|line| {
        let Some(name) = setting(line) else { return true };
        let Some(at) = come.iter().position(|other| setting(other) == Some(name)) else { return true };
        let other = come.remove(at);
        told.push(format!("{name}: {} -> {}", brief(value(line)), brief(value(other))));
        false
    });
    told.extend(gone.iter().map(|line| format!("without {}", brief(line))));
    told.extend(come.iter().map(|line| format!("with {}", brief(line))));
    if told.is_empty() && old != new {
        told.push("its lines stand in another order or with other spaces".into());
    }
    told
}

/// The lines of this text that the other has not, or has fewer of.
fn surplus<'a>(text: &'a str, left: &mut BTreeMap<&str, i64>, sign: i64) -> Vec<&'a str> {
    let mut found = vec![];
    for line in text.lines().map(str::trim) {
        if let Some(count) = left.get_mut(line)
            && *count * sign > 0
        {
            *count -= sign;
            if !line.is_empty() {
                found.push(line);
            }
        }
    }
    found
}

/// `pool.max` of `pool.max: 20`, `pool.max=20`, `"pool.max": 20,`
fn setting(line: &str) -> Option<&str> {
    let (name, _) = line.split_once([':', '='])?;
    let name = name.trim().trim_matches(['"', '\'']).trim_start_matches("- ");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

fn value(line: &str) -> &str {
    line.split_once([':', '=']).map_or(line, |(_, value)| value.trim().trim_end_matches(','))
}

fn brief(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_LINE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
        rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn told(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
        compare_config(&data(before), &data(after)).into_iter().map(|one| one.detail).collect()
    }

    #[test]
    fn one_setting_of_a_file_is_one_difference() {
        let old = "server:\n  port: 8080\npool:\n  max: 20\n  idle: 5\n";
        let new = "server:\n  port: 8080\npool:\n  max: 2\n  idle: 5\n  wait: 3s\n";
        assert_eq!(
            told(&[("app.yaml", old), ("a", "1")], &[("app.yaml", new), ("b", "2")]),
            ["a: 1 -> (none)", "app.yaml: max: 20 -> 2", "app.yaml: with wait: 3s", "b: (none) -> 2"]
        );
        assert_eq!(told(&[("f", "a=1\nb=2")], &[("f", "a=1\nb=3")]), ["f: b: 2 -> 3"]);
        assert_eq!(
            told(&[("f", "{\n \"a\": 1,\n \"b\": 2\n}")], &[("f", "{\n \"a\": 7,\n \"b\": 2\n}")]),
            ["f: a: 1 -> 7"]
        );
        assert_eq!(
            told(&[("f", "a\nb")], &[("f", "b\na")]),
            ["f: its lines stand in another order or with other spaces"]
        );
    }

    #[test]
    fn very_many_differences_are_counted() {
        let many = |value: &str| -> BTreeMap<String, String> {
            (0..50).map(|number| (format!("key{number:02}"), value.to_owned())).collect()
        };
        let found = compare_config(&many("1"), &many("2"));
        assert_eq!(found.len(), MOST + 1);
        assert_eq!(found[MOST].detail, "30 more differences");
    }

    proptest! {
        #[test]
        fn what_differs_is_told_and_what_does_not_is_not(
            before in proptest::collection::btree_map("[a-c]", "[a-c =:\n]{0,12}", 0..4),
            after in proptest::collection::btree_map("[a-c]", "[a-c =:\n]{0,12}", 0..4),
        ) {
            prop_assert_eq!(compare_config(&before, &after).is_empty(), before == after);
        }
    }
}
