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
