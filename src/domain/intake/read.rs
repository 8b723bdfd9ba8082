//! Fields of untrusted JSON, read leniently where senders differ.

use serde_json::{Map, Value};

use crate::domain::alert::{BadAlert, Labels};

use super::draft::shown;

pub type Object = Map<String, Value>;

pub fn object<'v>(value: Option<&'v Value>, field: &'static str) -> Result<&'v Object, BadAlert> {
    match value {
        Some(Value::Object(object)) => Ok(object),
        None | Some(Value::Null) => Err(BadAlert::Missing(field, "an object")),
        Some(other) => Err(BadAlert::BadField(field, brief(other), "an object")),
    }
}

/// Text of a scalar; `None` for null, empty text, arrays and objects.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The first of these fields that holds a scalar. A template variable that its sender did not replace
/// (`$HOSTNAME`) is as good as absent.
pub fn first(object: &Object, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| object.get(*name).and_then(scalar)).filter(|text| !is_unfilled(text))
}

pub fn text<'v>(object: &'v Object, name: &str) -> Option<&'v str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

fn is_unfilled(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    })
}

/// A finite number, also in text (Prometheus writes `"1e+00"`).
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// Labels: an object of scalars; null is as good as absent, an array or object as value refuses it.
pub fn text_map(value: Option<&Value>, field: &'static str) -> Result<Labels, BadAlert> {
    match value {
        None | Some(Value::Null) => Ok(Labels::new()),
        Some(Value::Object(map)) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name.clone(), text.clone())),
                Value::Number(number) => Ok((name.clone(), number.to_string())),
                Value::Bool(flag) => Ok((name.clone(), flag.to_string())),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let name: String = name.chars().take(80).collect();
                    Err(BadAlert::BadField(field, format!("{name}: {}", brief(value)), "values that are strings"))
                }
            })
            .collect(),
        Some(other) => Err(BadAlert::BadField(field, brief(other), "an object of strings")),
    }
}

/// Annotations decorate: whatever they hold, they do not cost the alert. What is no text becomes its JSON.
pub fn notes(value: Option<&Value>) -> Labels {
    match value {
        None | Some(Value::Null) => Labels::new(),
        Some(Value::Object(map)) => {
            map.iter().filter_map(|(name, value)| Some((name.clone(), shown(value)?))).collect()
        }
        // An empty map as PHP writes it.
        Some(Value::Array(items)) if items.is_empty() => Labels::new(),
        Some(other) => shown(other).map(|text| ("annotations".to_owned(), text)).into_iter().collect(),
    }
}

/// At most 60 characters of the JSON text, without writing the rest of a large one first.
pub fn brief(value: &Value) -> String {
    const MAX: usize = 60;
    let text = match value {
        Value::String(text) => Value::from(text.chars().take(MAX + 1).collect::<String>()).to_string(),
        Value::Array(items) if items.len() > MAX => format!("an array of {} items", items.len()),
        Value::Object(map) if map.len() > MAX => format!("an object of {} fields", map.len()),
        other => other.to_string(),
    };
    if text.chars().count() > MAX { format!("{}...", text.chars().take(MAX).collect::<String>()) } else { text }
}
