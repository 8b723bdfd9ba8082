//! The patch formats of the API server.

use serde_json::{Map, Value};

/// RFC 7386: objects merge, null removes, everything else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    for (name, value) in fields {
        if value.is_null() {
            object.shift_remove(name);
        } else {
            merge(object.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// The fields whose lists merge by a key of their elements.
fn merge_keys(field: &str) -> &'static [&'static str] {
    match field {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets" => &["name"],
        "ports" => &["containerPort", "port"],
        "volumeMounts" => &["mountPath"],
        "conditions" => &["type"],
        "ownerReferences" => &["uid"],
        _ => &[],
    }
}

/// Strategic merge: like [`merge`], but lists of named things merge element by element.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if fields.get("$patch").and_then(Value::as_str) == Some("replace") || !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with('$')) {
        let keys = merge_keys(name);
        match value {
            Value::Null => {
                object.shift_remove(name);
            }
            Value::Array(elements) if !keys.is_empty() => {
                let list = object.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new()));
                if !list.is_array() {
                    *list = Value::Array(Vec::new());
                }
                if let Value::Array(list) = list {
                    merge_list(list, elements, keys);
                }
            }
            _ => strategic(object.entry(name.as_str()).or_insert(Value::Null), value),
        }
    }
}

fn merge_list(list: &mut Vec<Value>, elements: &[Value], keys: &[&str]) {
    let directive = |element: &Value| element.get("$patch").and_then(Value::as_str).unwrap_or_default().to_owned();
    if elements
        .iter()
        .any(|element| directive(element) == "replace" && element.as_object().is_some_and(|it| it.len() == 1))
    {
        list.clear();
    }
    for element in elements {
        let Some((key, wanted)) = keys.iter().find_map(|key| Some((*key, element.get(*key)?))) else {
            continue;
        };
        let found = list.iter().position(|it| it.get(key) == Some(wanted));
        match (found, directive(element).as_str()) {
            (Some(index), "delete") => {
                list.remove(index);
            }
            (None, "delete") => {}
            (Some(index), _) => {
                if let Some(known) = list.get_mut(index) {
                    strategic(known, element);
                }
            }
            (None, _) => {
                let mut fresh = Value::Null;
                strategic(&mut fresh, element);
                list.push(fresh);
            }
        }
    }
}

/// Why a JSON patch was not applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is no JSON patch.
    Malformed(String),
    /// It does not fit this object: a failed test, or a path that is not there.
    Unfit(String),
}

/// RFC 6902.
pub(super) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Failure> {
    let malformed = |what: &str| Failure::Malformed(format!("error decoding patch: {what}"));
    let Some(steps) = patch.as_array() else { return Err(malformed("not an array of operations")) };
    for step in steps {
        let word = |name: &str| step.get(name).and_then(Value::as_str);
        let (Some(op), Some(path)) = (word("op"), word("path")) else { return Err(malformed("op or path is missing")) };
        let value = || step.get("value").cloned().ok_or_else(|| malformed("value is missing"));
        let from = || word("from").ok_or_else(|| malformed("from is missing"));
        match op {
            "test" => {
                let wanted = step.get("value").cloned().unwrap_or_default();
                if target.pointer(path).cloned().unwrap_or_default() != wanted {
                    return Err(Failure::Unfit(format!("testing value {path} failed")));
                }
            }
            "add" => add(target, path, value()?)?,
            "replace" => {
                let value = value()?;
                *target.pointer_mut(path).ok_or_else(|| missing(op, path))? = value;
            }
            "remove" => {
                take(target, path)?;
            }
            "move" => {
                let value = take(target, from()?)?;
                add(target, path, value)?;
            }
            "copy" => {
                let value = target.pointer(from()?).cloned().ok_or_else(|| missing(op, path))?;
                add(target, path, value)?;
            }
            other => return Err(malformed(&format!("unknown operation {other}"))),
        }
    }
    Ok(())
}

fn missing(op: &str, path: &str) -> Failure {
    Failure::Unfit(format!("{op} operation does not apply: doc is missing path: {path}"))
}

fn parent<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((target.pointer_mut(parent)?, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Failure> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    match parent(target, path) {
        Some((Value::Object(object), name)) => {
            object.insert(name, value);
            Ok(())
        }
        Some((Value::Array(list), index)) => {
            let index = if index == "-" { Some(list.len()) } else { index.parse().ok() };
            let index = index.filter(|it| *it <= list.len()).ok_or_else(|| missing("add", path))?;
            list.insert(index, value);
            Ok(())
        }
        _ => Err(missing("add", path)),
    }
}

fn take(target: &mut Value, path: &str) -> Result<Value, Failure> {
    let gone = || missing("remove", path);
    match parent(target, path) {
        Some((Value::Object(object), name)) => object.shift_remove(&name).ok_or_else(gone),
        Some((Value::Array(list), index)) => {
            let index = index.parse::<usize>().ok().filter(|it| *it < list.len()).ok_or_else(gone)?;
            Ok(list.remove(index))
        }
        _ => Err(gone()),
    }
}
