//! Which label of log streams names a service: no line may mean calm, or that nobody is called so.

/// What those that ship logs call it: Promtail and Alloy, OpenTelemetry, Kubernetes' recommended labels, the
/// container, the scrape's job. The first is the default of `signals.log_service_label`.
const USUAL: [&str; 5] = ["app", "service_name", "app_kubernetes_io_name", "container", "job"];

/// Whoever has set another label means that one.
pub fn candidates(configured: &str) -> Vec<&str> {
    if configured == USUAL[0] { USUAL.to_vec() } else { vec![configured] }
}

/// The name is text of others inside our own query: quoted, so that it cannot end the string.
pub fn selector(label: &str, service: &str) -> String {
    format!("{{{label}={}}}", quoted(service))
}

pub fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

pub fn none_of(configured: &str, service: &str) -> String {
    let others = candidates(configured)[1..].join(", ");
    let nor = if others.is_empty() { String::new() } else { format!(", nor one with {others}") };
    format!(
        "there is no stream of logs {configured}={}{nor}: its logs are not shipped, or are called otherwise \
         (signals.log_service_label)",
        quoted(service)
    )
}

/// One of a stream selector, such as `app="pay"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamMatcher<'a> {
    pub label: &'a str,
    pub operator: &'static str,
    pub value: String,
}

/// Those between the opening brace, behind which the text begins, and the closing one; `None`: malformed.
pub fn matchers_of(mut rest: &str) -> Option<Vec<StreamMatcher<'_>>> {
    let mut matchers = vec![];
    loop {
        rest = rest.trim_start();
        if rest.starts_with('}') {
            return Some(matchers);
        }
        let (label, after) = rest.split_at(rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?);
        rest = after.trim_start();
        let is_named = !label.is_empty();
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| is_named && rest.starts_with(operator))?;
        rest = rest[operator.len()..].trim_start();
        let (value, after) = string(rest)?;
        matchers.push(StreamMatcher { label, operator, value });
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn string(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let end = raw.find('`')?;
        return Some((raw[..end].to_owned(), &raw[end + 1..]));
    }
    let mut characters = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}
