//! Commands and addresses with holes: the only thing that a model sets of a tool of the user's own.
//!
//! Invariants: a value is what its variable's pattern says, whole; it is put in as one piece of text
//! and is never read again as syntax; what has no hole cannot be changed.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value, json};

/// Names, ids, versions; nothing that a path, a query or a shell gives a meaning to.
pub const PLAIN: &str = "[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}";
const MAX_VALUE: usize = 256;

#[derive(Debug, Clone)]
pub struct Variable {
    pub name: String,
    pub description: String,
    pub pattern: String,
    compiled: Regex,
}

impl Variable {
    /// The pattern must match the whole value.
    pub fn new(name: &str, description: &str, pattern: &str) -> Result<Self, String> {
        if !is_name(name) {
            return Err(format!("variable {name:?} is not a name: lower-case letters, digits and _"));
        }
        let compiled = RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(1 << 20)
            .build()
            .map_err(|why| format!("the pattern of variable {name} is not a regular expression: {why}"))?;
        Ok(Self { name: name.into(), description: description.into(), pattern: pattern.into(), compiled })
    }

    fn accepts(&self, value: &str) -> bool {
        value.chars().count() <= MAX_VALUE && !value.chars().any(char::is_control) && self.compiled.is_match(value)
    }
}

/// What a tool, a variable or a server may be called.
pub fn is_name(text: &str) -> bool {
    text.len() <= 48
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The JSON schema of a call.
pub fn parameters(variables: &[Variable]) -> Value {
    let properties: Map<String, Value> = variables
        .iter()
        .map(|one| {
            let shape =
                json!({"type": "string", "description": one.description, "pattern": format!("^(?:{})$", one.pattern)});
            (one.name.clone(), shape)
        })
        .collect();
    let required: Vec<&str> = variables.iter().map(|one| one.name.as_str()).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The values of a call; the refusal says what would fit.
pub fn values(variables: &[Variable], arguments: &Value) -> Result<BTreeMap<String, String>, String> {
    let empty = Map::new();
    let given = match arguments {
        Value::Object(map) => map,
        Value::Null => &empty,
        _ => return Err("the arguments must be an object".to_owned()),
    };
    if let Some(extra) = given.keys().find(|key| !variables.iter().any(|one| one.name == **key)) {
        return Err(format!("there is no variable {extra:?}; there are {}", names(variables)));
    }
    let mut values = BTreeMap::new();
    for variable in variables {
        let value = match given.get(&variable.name) {
            Some(Value::String(text)) => text.clone(),
            Some(number @ Value::Number(_)) => number.to_string(),
            Some(_) => return Err(format!("`{}` must be text", variable.name)),
            None => return Err(format!("`{}` is missing", variable.name)),
        };
        if !variable.accepts(&value) {
            return Err(format!("`{}` must match {}", variable.name, variable.pattern));
        }
        values.insert(variable.name.clone(), value);
    }
    Ok(values)
}

fn names(variables: &[Variable]) -> String {
    match variables {
        [] => "none".to_owned(),
        some => some.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// Text with `{name}` holes; `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Hole(String),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = vec![];
        let mut literal = String::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '{' | '}' if rest.peek() == Some(&c) => {
                    rest.next();
                    literal.push(c);
                }
                '{' => {
                    let name: String = rest.by_ref().take_while(|c| *c != '}').collect();
                    if !is_name(&name) {
                        return Err(format!("{{{name}}} in {text:?} is not a variable; write {{{{ for a brace"));
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Hole(name));
                }
                '}' => return Err(format!("}} without {{ in {text:?}; write }}}} for a brace")),
                c => literal.push(c),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self(parts))
    }

    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Hole(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    pub fn starts_with_hole(&self) -> bool {
        matches!(self.0.first(), Some(Part::Hole(_)))
    }

    /// A hole without a value stays empty; `values` gives one to each.
    pub fn fill(&self, values: &BTreeMap<String, String>, encode: impl Fn(&str) -> String) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Hole(name) => values.get(name).map(|value| encode(value)).unwrap_or_default(),
            })
            .collect()
    }
}

/// An address whose holes are in segments of the path and in values of the query only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `https://host:port`
    pub origin: String,
    segments: Vec<Template>,
    query: Vec<(String, Template)>,
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("is not an address such as https://host/path")?;
        if !matches!(scheme, "http" | "https") {
            return Err(format!("{scheme} is neither http nor https"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.is_empty() || authority.contains(['{', '}', '@', '\\']) {
            return Err("the host must be fixed, without variables and credentials".to_owned());
        }
        if rest.contains('#') {
            return Err("a fragment is never sent".to_owned());
        }
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let path = path.strip_prefix('/').unwrap_or(path);
        let segments = path.split('/').map(Template::parse).collect::<Result<_, _>>()?;
        let mut pairs = vec![];
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.contains(['{', '}']) {
                return Err("names in the query must be fixed".to_owned());
            }
            pairs.push((name.to_owned(), Template::parse(value)?));
        }
        Ok(Self { origin: format!("{scheme}://{authority}"), segments, query: pairs })
    }

    pub fn holes(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().chain(self.query.iter().map(|(_, value)| value)).flat_map(Template::holes)
    }

    /// Refuses values that would make another path of it: `.` and `..` are steps, not names.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<String, String> {
        let mut path = String::new();
        for segment in &self.segments {
            let raw = segment.fill(values, str::to_owned);
            if segment.holes().next().is_some() && (raw.is_empty() || raw.chars().all(|c| c == '.')) {
                return Err(format!("{raw:?} cannot be a part of the path"));
            }
            path.push('/');
            path.push_str(&segment.fill(values, percent));
        }
        let query: Vec<_> =
            self.query.iter().map(|(name, value)| format!("{name}={}", value.fill(values, percent))).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        Ok(format!("{}{path}{query}", self.origin))
    }
}

/// Everything but RFC 3986's unreserved characters.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte as char),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(name: &str) -> Variable {
        Variable::new(name, "anything", "(?s).*").unwrap()
    }

    fn filled(address: &str, value: &str) -> Result<String, String> {
        let given = values(&[free("x")], &json!({"x": value}))?;
        Address::parse(address)?.fill(&given)
    }

    #[test]
    fn a_value_stays_where_its_hole_is() {
        assert_eq!(filled("https://a/{x}/b?q={x}", "v 1").unwrap(), "https://a/v%201/b?q=v%201");
        assert_eq!(
            filled("https://a/{x}/b", "../../admin?y=1#z@evil").unwrap(),
            "https://a/..%2F..%2Fadmin%3Fy%3D1%23z%40evil/b"
        );
        assert_eq!(filled("https://a/v{x}?q=1", "1&admin=true").unwrap(), "https://a/v1%26admin%3Dtrue?q=1");
        assert!(filled("https://a/{x}/b", "..").is_err());
        assert!(filled("https://a/.{x}", ".").is_err());
        assert!(filled("https://a/{x}", "").is_err());
        assert!(filled("https://a/{x}", "a\r\nHost: b").is_err());
    }

    #[test]
    fn hosts_and_names_have_no_holes() {
        for bad in ["https://{x}/", "https://a.{x}", "https://u:p@a/", "ftp://a/", "https://a/#{x}", "https://a?{x}=1"]
        {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert!(Address::parse("https://a/{X}").is_err());
        assert_eq!(Template::parse("{{a}}{b}").unwrap().holes().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_call_is_refused_in_words_that_help() {
        let pod = Variable::new("pod", "its name", PLAIN).unwrap();
        let check = |arguments: Value| values(std::slice::from_ref(&pod), &arguments).unwrap_err();
        assert_eq!(check(json!({"pod": "a b"})), format!("`pod` must match {PLAIN}"));
        assert_eq!(check(json!({"pod": "-rf"})), format!("`pod` must match {PLAIN}"));
        assert_eq!(check(json!({"pod": "x\ny"})), format!("`pod` must match {PLAIN}"));
        assert_eq!(check(json!({"pod": "x", "cmd": "y"})), "there is no variable \"cmd\"; there are pod");
        assert_eq!(check(json!({})), "`pod` is missing");
        assert_eq!(check(json!([])), "the arguments must be an object");
    }
}
