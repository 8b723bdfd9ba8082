//! What nobody may be told: secrets, and markup of others.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Poison;

/// Every string in it.
pub fn texts<'a>(value: &'a Value, see: &mut impl FnMut(&'a str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(all) => all.iter().for_each(|inner| texts(inner, see)),
        Value::Object(map) => map.values().for_each(|inner| texts(inner, see)),
        _ => {}
    }
}

/// The secrets of the corpus by their first bytes, so that many megabytes are searched in one pass.
pub struct Traps {
    by_start: BTreeMap<[u8; 8], Vec<(String, String)>>,
    /// Whether any begins with these two bytes.
    begins: Vec<bool>,
    pub count: usize,
}

impl Traps {
    pub fn of(corpus: &[Poison]) -> Self {
        let mut traps = Self { by_start: BTreeMap::new(), begins: vec![false; 1 << 16], count: 0 };
        for poison in corpus {
            for secret in &poison.secrets {
                let start: [u8; 8] = secret.as_bytes()[..8].try_into().expect("a secret has eight bytes");
                traps.begins[usize::from(start[0]) << 8 | usize::from(start[1])] = true;
                traps.by_start.entry(start).or_default().push((secret.clone(), format!("{} {secret}", poison.id)));
                traps.count += 1;
            }
        }
        traps
    }

    pub fn in_text(&self, text: &str) -> Vec<&str> {
        let bytes = text.as_bytes();
        let mut found = vec![];
        for at in 0..bytes.len().saturating_sub(7) {
            if !self.begins[usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])] {
                continue;
            }
            let Ok(start) = <[u8; 8]>::try_from(&bytes[at..at + 8]) else { continue };
            let rows = self.by_start.get(&start).into_iter().flatten();
            let here = rows.filter(|(secret, _)| bytes[at..].starts_with(secret.as_bytes()));
            found.extend(here.map(|(_, what)| what.as_str()));
        }
        found
    }
}

/// Markup of Slack's that is live: mentions and links other than to our own page, in text that Slack
/// reads as markup, and elements that are one by their type.
pub fn live(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
            if matches!(kind, "user" | "usergroup" | "broadcast" | "channel") {
                found.push(value.to_string());
            }
            if let Some(url) = map.get("url").and_then(Value::as_str)
                && !url.starts_with("http://127.0.0.1")
            {
                found.push(value.to_string());
            }
            if kind == "mrkdwn" {
                found.extend(marked(map["text"].as_str().unwrap_or_default()));
                if map.get("verbatim") != Some(&json!(true)) {
                    found.push(format!("not verbatim: {value}"));
                }
            }
            map.values().for_each(|inner| live(inner, found));
        }
        Value::Array(all) => all.iter().for_each(|inner| live(inner, found)),
        _ => {}
    }
}

/// `<!channel>`, `<@U1>`, `<#C1>`, `<http..>`; and addresses that clients make links of by themselves.
pub fn marked(text: &str) -> Vec<String> {
    let starts = ["<!", "<@", "<#", "<http", "<mailto", "http://", "https://", "slack://", "javascript:"];
    let own = ["<!date^", "<http://127.0.0.1", "http://127.0.0.1"];
    let mut found = vec![];
    for start in starts {
        for (at, _) in text.match_indices(start) {
            let from = at.saturating_sub(1);
            let ours = own.iter().any(|own| text[at..].starts_with(own))
                || text.get(from..).is_some_and(|text| own.iter().any(|own| text.starts_with(own)));
            if !ours {
                found.push(text[at..].chars().take(60).collect());
            }
        }
    }
    found
}
