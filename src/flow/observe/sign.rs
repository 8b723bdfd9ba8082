//! What text from the estate says about who wrote it.

use std::collections::BTreeSet;

use super::Dossier;
use crate::domain::evidence::EvidenceKind;
use crate::domain::judge::mentions;
use crate::domain::root_cause::{Picture, Sign, SignKind};
use crate::domain::topology::EdgeKind;
use crate::ports::Cluster;

/// What a line of log says about its writer. The words are those that common stacks use.
pub(super) fn sign_of(line: &str, writer: &str, other_nodes: &[String]) -> Option<SignKind> {
    let lower = line.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let writer = writer.to_ascii_lowercase();
    let names_other = other_nodes.iter().any(|name| names(&lower, &name.to_ascii_lowercase(), &writer));
    if says(&["no space left on device", "disk full", "disk quota exceeded"]) {
        return Some(if names_other { SignKind::DependencyError } else { SignKind::DiskFull });
    }
    if says(&EXPIRED) {
        return Some(if names_other { SignKind::DependencyError } else { SignKind::CertificateExpired });
    }
    if says(&["outofmemory", "out of memory", "heap space", "cannot allocate memory", "oomkill"])
        || mentions(&lower, "oom")
    {
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

/// Go, OpenSSL, Java, Node.js and rustls; a handshake and a chain of certificates fail for other reasons, too.
const EXPIRED: [&str; 8] = [
    "certificate has expired",
    "certificate is expired",
    "certificate expired",
    "certificate: expired",
    "cert expired",
    "cert_has_expired",
    "expired certificate",
    "certificateexpired",
];

/// What services are called and what also stands in lines that speak of none: counted only as an address.
const WORDS: [&str; 10] = ["api", "app", "client", "data", "database", "db", "default", "host", "server", "service"];

/// Whether the line names the node. Neither a piece of a longer name does that, nor a step of a path.
fn names(line: &str, node: &str, writer: &str) -> bool {
    !node.is_empty()
        && line.match_indices(node).any(|(at, found)| {
            let (before, after) = (&line[..at], &line[at + found.len()..]);
            let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
            let in_url = before.ends_with("//");
            let begins = !before.ends_with(is_inner) && (in_url || !before.ends_with('/'));
            let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
            // `web-api` writes its own name, and that is not a word of `web`.
            let is_writer = writer.len() > node.len() && line[at..].starts_with(writer);
            let is_address = in_url || before.ends_with('@') || after.starts_with([':', '.']);
            begins && ends && !is_writer && (is_address || !WORDS.contains(&node))
        })
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
        let others = ["payments", "orders-db", "api", "data", "web", "room-service"].map(str::to_owned);
        assert_eq!(sign_of(line, "web-api", &others), expected, "{line}");
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
    fn a_piece_of_a_word_is_not_the_word() {
        check("bathroom-service answered in 3 ms", None);
        check("call to room-service failed: 503", Some(SignKind::DependencyError));
        check("oom_score_adj: process killed by oom-killer", Some(SignKind::OutOfMemory));
        check("container was OOMKilled", Some(SignKind::OutOfMemory));
        check("zoom level is wrong", None);
        check("http: TLS handshake error from 10.0.0.1:51234: EOF", None);
        check("x509: certificate signed by unknown authority", None);
        check("https://payments/: x509: certificate signed by unknown authority", Some(SignKind::DependencyError));
        check("remote error: tls: expired certificate", Some(SignKind::CertificateExpired));
        check("invalid peer certificate: Expired", Some(SignKind::CertificateExpired));
        check("GET https://payments/: x509: certificate has expired", Some(SignKind::DependencyError));
    }

    #[test]
    fn a_path_and_the_writers_own_name_name_nobody_else() {
        check("write /data/x: no space left on device", Some(SignKind::DiskFull));
        check("web-api-7d9c5b-x2x: no space left on device", Some(SignKind::DiskFull));
        check("panic in api handler: unhandled", Some(SignKind::OwnError));
        check("GET /payments/7: unhandled exception", Some(SignKind::OwnError));
        check("com.example.payments.Handler: exception", Some(SignKind::OwnError));
        check("post http://api/v1 failed", Some(SignKind::DependencyError));
        check("dial tcp data:5432 failed", Some(SignKind::DependencyError));
        check("web: 502 from payments-7d9c5b-x2x", Some(SignKind::DependencyError));
    }

    #[test]
    fn a_set_belongs_to_its_workload() {
        assert_eq!(owner_of("ReplicaSet", "order-api-7d9c5b"), "order-api");
        assert_eq!(owner_of("StatefulSet", "orders-db"), "orders-db");
    }
}
