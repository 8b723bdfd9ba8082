//! Label and field selectors.

use serde_json::Value;

/// One term of a label selector.
enum Term {
    Equals(String, String),
    Differs(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

/// A parsed label selector.
pub(super) struct Labels(Vec<Term>);

impl Labels {
    /// Reads `a=b,c!=d,e in (f,g),h,!i`; the error is the server's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        split(text).into_iter().filter(|it| !it.is_empty()).map(|it| term(&it)).collect::<Result<_, _>>().map(Self)
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.matches_labels(labels)
    }

    pub fn matches_labels(&self, labels: Option<&Value>) -> bool {
        let value = |key: &str| labels.and_then(|it| it.get(key)).and_then(Value::as_str);
        self.0.iter().all(|term| match term {
            Term::Equals(key, wanted) => value(key) == Some(wanted),
            Term::Differs(key, unwanted) => value(key) != Some(unwanted),
            Term::In(key, wanted) => value(key).is_some_and(|it| wanted.iter().any(|w| w == it)),
            Term::NotIn(key, unwanted) => !value(key).is_some_and(|it| unwanted.iter().any(|w| w == it)),
            Term::Exists(key) => value(key).is_some(),
            Term::Missing(key) => value(key).is_none(),
        })
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_i32);
    for letter in text.chars() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

fn term(text: &str) -> Result<Term, String> {
    let bad = || format!("unable to parse requirement: found '{text}'");
    if let Some(open) = text.find('(') {
        let list = text.get(open + 1..).and_then(|it| it.strip_suffix(')')).ok_or_else(bad)?;
        let values = list.split(',').map(|it| it.trim().to_owned()).collect();
        let words: Vec<&str> = text.get(..open).unwrap_or_default().split_whitespace().collect();
        return match words.as_slice() {
            [key, "in"] => Ok(Term::In((*key).to_owned(), values)),
            [key, "notin"] => Ok(Term::NotIn((*key).to_owned(), values)),
            _ => Err(bad()),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Term::Differs(key.trim().to_owned(), value.trim().to_owned()));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Term::Equals(key.trim().to_owned(), value.trim().to_owned()));
    }
    if text.contains(char::is_whitespace) {
        return Err(bad());
    }
    match text.strip_prefix('!') {
        Some(key) => Ok(Term::Missing(key.to_owned())),
        None => Ok(Term::Exists(text.to_owned())),
    }
}

/// A parsed field selector: pointer, whether equality is meant, and the value.
pub(super) struct Fields(Vec<(String, bool, String)>);

impl Fields {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in text.split(',').filter(|it| !it.is_empty()) {
            let (key, equal, value) = if let Some((key, value)) = part.split_once("!=") {
                (key, false, value)
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (key, true, value)
            } else {
                return Err(format!("invalid selector: '{part}'; can't understand '{part}'"));
            };
            terms.push((format!("/{}", key.trim().replace('.', "/")), equal, value.trim().to_owned()));
        }
        Ok(Self(terms))
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(pointer, equal, value)| (super::text(object, pointer) == value) == *equal)
    }
}
