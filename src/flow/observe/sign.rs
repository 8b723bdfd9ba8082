//! What text from the estate says about who wrote it.

use std::collections::BTreeSet;

use super::Dossier;
use crate::domain::evidence::EvidenceKind;
use crate::domain::root_cause::{Picture, Sign, SignKind};
use crate::domain::topology::EdgeKind;
use crate::ports::Cluster;

/// What a line of log says about its writer. The words are those that common stacks use.
pub(super) fn sign_of(line: &str, other_nodes: &[String]) -> Option<SignKind> {
    let lower = line.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let names_other = other_nodes.iter().any(|name| lower.contains(&name.to_ascii_lowercase()));
    if says(&["no space left on device", "disk full", "disk quota exceeded"]) {
        return Some(if names_other { SignKind::DependencyError } else { SignKind::DiskFull });
    }
    if says(&["certificate has expired", "certificate is expired", "x509", "cert expired", "tls handshake"]) {
        return Some(if names_other { SignKind::DependencyError } else { SignKind::CertificateExpired });
    }
    if says(&["outofmemory", "out of memory", "heap space", "cannot allocate memory", "oom"]) {
        return Some(SignKind::OutOfMemory);
    }
    // A name that does not exist is a wrong name; one that gets no answer is the name server's trouble.
    let looked_up = says(&["lookup ", "name resolution", "getaddrinfo", "resolve host", "servfail"]);
    if looked_up && says(&["i/o timeout", "misbehaving", "servfail", "temporary failure", "try again", "timed out"]) {
        return Some(SignKind::NameLookup);
    }
    if says(&["used before issued", "not yet valid (iat)", "used too early", "issued in the future", "clock skew"]) {
        return Some(SignKind::ClockOff);
    }
    if says(&["redelivered", "poison message", "requeued", "delivery attempt"]) {
        return Some(SignKind::PoisonMessage);
    }
    if says(&["conflict with recovery", "replication lag", "replay lag", "seconds behind"]) {
        return Some(SignKind::ReplicaBehind);
    }
    if says(&["connection reset", "broken pipe", "no route to host", "network is unreachable"]) {
        return Some(SignKind::ConnectionsBreak);
    }
    if names_other || says(&["upstream"]) {
        return Some(SignKind::DependencyError);
    }
    if says(&["remaining connection slots", "too many connections", "too many clients"]) {
        return Some(SignKind::ConnectionsExhausted);
    }
    if says(&["acquire", "connection pool", "pool timeout"]) {
        return None;
    }
    says(&["panic", "fatal", "exception", "segfault", "deadlock", "invalid configuration", "misconfig", "unhandled"])
        .then_some(SignKind::OwnError)
}

/// Where lookups fail, the name server is a dependency of whoever complains, though no call graph shows it.
pub(super) async fn note_name_server(cluster: &dyn Cluster, dossier: &mut Dossier, picture: &mut Picture) {
    let complaining: BTreeSet<String> =
        (picture.signs.iter()).filter(|sign| sign.kind == SignKind::NameLookup).map(|sign| sign.node.clone()).collect();
    if complaining.is_empty() {
        return;
    }
    let workloads = match cluster.workloads().await {
        Ok(workloads) => workloads,
        Err(error) => return dossier.unread(EvidenceKind::Kubernetes, "kubernetes", "the workloads", &error),
    };
    // The label that the name server of every distribution carries, whatever it runs.
    let is_name_server =
        |labels: &crate::domain::alert::Labels| labels.get("k8s-app").is_some_and(|it| it == "kube-dns");
    for server in workloads.iter().filter(|workload| is_name_server(&workload.labels)) {
        for node in complaining.iter().filter(|node| **node != server.service) {
            picture.topology.add_edge(node, &server.service, EdgeKind::Calls);
        }
        if complaining.len() > 1 {
            picture.signs.push(Sign {
                node: server.service.clone(),
                kind: SignKind::NamesUnanswered,
                text: format!("lookups of names fail on {} services", complaining.len()),
                at: picture.signs.iter().filter(|it| it.kind == SignKind::NameLookup).filter_map(|it| it.at).min(),
                evidence: picture
                    .signs
                    .iter()
                    .find(|it| it.kind == SignKind::NameLookup)
                    .and_then(|it| it.evidence.clone()),
            });
        }
    }
}

/// The workload of an object that a controller made: `web-5d4f` is the ReplicaSet of `web`.
pub(super) fn owner_of(kind: &str, object: &str) -> String {
    match kind {
        "ReplicaSet" | "Job" => object.rsplit_once('-').map_or(object, |(name, _)| name).to_owned(),
        _ => object.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<SignKind>) {
        assert_eq!(sign_of(line, &["payments".into(), "orders-db".into()]), expected, "{line}");
    }

    /// Lines as CoreDNS, Go, glibc, PostgreSQL, RabbitMQ clients and JWT libraries write them.
    #[test]
    fn a_line_gives_its_writers_trouble_away() {
        check("dial tcp: lookup payments on 10.0.0.10:53: read udp: i/o timeout", Some(SignKind::NameLookup));
        check("getaddrinfo EAI_AGAIN payments: Temporary failure in name resolution", Some(SignKind::NameLookup));
        check("dial tcp: lookup pay.old: no such host: invalid configuration?", Some(SignKind::OwnError));
        check("jwt: token used before issued", Some(SignKind::ClockOff));
        check("ERROR: canceling statement due to conflict with recovery", Some(SignKind::ReplicaBehind));
        check("x509: certificate has expired or is not yet valid", Some(SignKind::CertificateExpired));
        check("basic.nack delivery_tag=7 redelivered=true error=parse", Some(SignKind::PoisonMessage));
        check("call to payments failed: connection reset by peer", Some(SignKind::ConnectionsBreak));
        check("call to payments failed: 503", Some(SignKind::DependencyError));
        check("request served in 3 ms", None);
    }

    #[test]
    fn a_set_belongs_to_its_workload() {
        assert_eq!(owner_of("ReplicaSet", "order-api-7d9c5b"), "order-api");
        assert_eq!(owner_of("StatefulSet", "orders-db"), "orders-db");
    }
}
