//! Markdown as people have it: front matter or none, any keys in it, any headings. Pure.
//!
//! Whatever is written there is taken as far as it is understood; nothing is refused.

use std::borrow::Cow;

use serde_yaml_ng::Value;

use crate::domain::runbook::{Section, sections};

/// Keys of front matters, as the usual tools have them, that say what a page is about.
const ABOUT: [&str; 9] =
    ["symptoms", "description", "summary", "tags", "keywords", "aliases", "category", "categories", "service"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub title: String,
    pub about: String,
    /// Names of alerts that it answers, when it lists them.
    pub alerts: Vec<String>,
    body: String,
}

impl Page {
    /// `file` is the path relative to the folder; its name is the title of a page that has none.
    pub fn read(file: &str, text: &str) -> Self {
        let text = text.trim_start_matches('\u{feff}');
        let (front, body) = split(text);
        let keys = serde_yaml_ng::from_str::<Value>(front).unwrap_or(Value::Null);
        let texts = |key: &str| keys.get(key).map(texts_of).unwrap_or_default();
        let title = texts("title").into_iter().next().or_else(|| first_heading(body)).or_else(|| spoken_name(file));
        let mut alerts = texts("alerts");
        alerts.extend(texts("alert"));
        alerts.extend(texts("alertname"));
        let about: Vec<String> = ABOUT.iter().flat_map(|key| texts(key)).chain(alerts.iter().cloned()).collect();
        Self { title: title.unwrap_or_default(), about: about.join(". "), alerts, body: body.trim().to_owned() }
    }

    /// At least one, so that a page with nothing but a title can be found by it.
    pub fn sections(&self) -> Vec<Section> {
        match sections(&demoted(&self.body)) {
            none if none.is_empty() => vec![Section { heading: String::new(), text: self.title.clone() }],
            some => some,
        }
    }
}

/// Front matter and the rest; no front matter when it does not end.
fn split(text: &str) -> (&str, &str) {
    let mut lines = text.split_inclusive('\n');
    let Some(first) = lines.next().filter(|line| line.trim_end() == "---") else { return ("", text) };
    let mut at = first.len();
    for line in lines {
        if line.trim_end() == "---" {
            let front = text.get(first.len()..at).unwrap_or_default();
            return (front, text.get(at + line.len()..).unwrap_or_default());
        }
        at += line.len();
    }
    ("", text)
}

/// A page with several titles has its parts there: each heading goes down by one.
fn demoted(body: &str) -> Cow<'_, str> {
    let mut fenced = false;
    let mut titles = 0;
    let mut lines = Vec::new();
    for line in body.lines() {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            fenced = !fenced;
        }
        titles += usize::from(!fenced && line.starts_with("# "));
        let heading = !fenced && line.trim_start_matches('#').starts_with(' ') && line.starts_with('#');
        lines.push(if heading { format!("#{line}") } else { line.to_owned() });
    }
    if titles < 2 { Cow::Borrowed(body) } else { Cow::Owned(lines.join("\n")) }
}

fn texts_of(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => vec![text.trim().to_owned()],
        Value::Number(number) => vec![number.to_string()],
        Value::Sequence(items) => items.iter().flat_map(texts_of).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Mapping(_) | Value::Tagged(_) => vec![],
    }
}

fn first_heading(body: &str) -> Option<String> {
    let heading = body.lines().find(|line| !line.trim().is_empty())?.strip_prefix("# ")?;
    let heading = heading.trim().trim_end_matches('#').trim_end();
    (!heading.is_empty()).then(|| heading.to_owned())
}

/// `queue/consumer-lag.md` is about consumer lag; a name of digits says nothing.
fn spoken_name(file: &str) -> Option<String> {
    let name = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".md");
    let says = !name.is_empty() && !name.chars().any(|letter| letter.is_ascii_digit());
    says.then(|| name.replace(['-', '_'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str, title: &str, about: &str, headings: &[&str]) {
        let page = Page::read(file, text);
        let found: Vec<String> = page.sections().into_iter().map(|section| section.heading).collect();
        assert_eq!((page.title.as_str(), page.about.as_str()), (title, about));
        assert_eq!(found, headings);
    }

    #[test]
    fn front_matter_is_taken_as_far_as_it_goes() {
        check(
            "a.md",
            "---\ntitle: Disk full\ntags: [disk, 7]\nweight: 20\nalerts: DiskFull\n---\n\n## Fix\n\nDelete.\n",
            "Disk full",
            "disk. 7. DiskFull",
            &["Fix"],
        );
        check("a.md", "---\n: : :\n---\n# Lag\n\nMore.", "Lag", "", &[""]);
    }

    #[test]
    fn several_titles_are_the_parts_of_a_page() {
        let words = vec!["word"; 60].join(" ");
        let text = format!("# Disk\n{words}\n# Memory\n{words}\n## Leak\n{words}\n```\n# no title\n```\n");
        check("a.md", &text, "Disk", "", &["Disk", "Memory"]);
    }

    #[test]
    fn a_page_without_front_matter_has_its_heading_or_its_name() {
        check("queue/consumer-lag.md", "Add consumers.", "consumer lag", "", &[""]);
        check("05dd603ff4d2.md", "## Meaning\n\nIt is late.", "", "", &["Meaning"]);
        check("a.md", "---\nno end", "a", "", &[""]);
        check("disk.md", "", "disk", "", &[""]);
    }
}
