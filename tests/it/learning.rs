//! Votes and outcomes on some incidents move what is retrieved for others like them (SAFETY.md S16).
//!
//! The world is made: every fault has two runbooks that speak of the same symptoms and differ in
//! the cure; which of them is right here, only votes and outcomes can tell.

use std::sync::Arc;

use midwatch::adapters::embedder::EmbedderChoice;
use midwatch::domain::time::Timestamp;
use midwatch::memory::{Chunk, Memory, MemoryConfig, Query, Tenant, Trust, Vote};

use crate::memory::chunk;

/// Symptoms as the runbooks have them, then as incidents show them: some to learn from, some to ask.
const FAULTS: [(&str, [&str; 3], [&str; 3]); 8] = [
    (
        "Consumer lag grows on a topic while messages pile up",
        [
            "KafkaLag about orders, lag grows",
            "consumers of payments fall behind",
            "topic invoices: backlog of messages",
        ],
        ["lag on topic carts keeps growing", "messages of topic mails pile up", "consumer group of stock is behind"],
    ),
    (
        "Pods are OOMKilled because the working set climbs to the memory limit",
        ["checkout pods OOMKilled, memory climbs", "cart killed with exit code 137", "memory limit reached in search"],
        [
            "profile keeps running out of memory",
            "OOMKilled: pods of billing",
            "memory of catalog climbs until it is killed",
        ],
    ),
    (
        "The certificate of an endpoint expires and handshakes fail",
        ["certificate of shop expires soon", "x509 certificate has expired on api", "TLS handshakes with login fail"],
        [
            "cert of mail runs out",
            "expired certificate on the ingress of docs",
            "TLS of partner api: certificate expired",
        ],
    ),
    (
        "The filesystem of a node fills up",
        ["disk of node-3 nearly full", "no space left on device on node-9", "filesystem filling up on node-12"],
        ["node-20 is out of disk space", "disk usage of node-4 at 97 percent", "filesystem on node-7 is filling"],
    ),
    (
        "DNS lookups time out or answer SERVFAIL",
        ["DNS lookups time out in checkout", "SERVFAIL from coredns", "cart cannot resolve hostnames"],
        [
            "name resolution fails in billing",
            "coredns answers slowly, lookups time out",
            "nxdomain for services that exist",
        ],
    ),
    (
        "All connections of the database pool are in use",
        [
            "connection pool of orders exhausted",
            "cart waits for a database connection",
            "too many connections from search",
        ],
        [
            "billing gets no connection from the pool",
            "database pool of stock is exhausted",
            "waiting for a connection in mails",
        ],
    ),
    (
        "Readiness probes fail and pods get no traffic",
        ["readiness probe of login fails", "pods of docs not ready, no traffic", "health check of shop fails"],
        ["search pods are not ready", "probe fails for profile", "catalog has no ready endpoints"],
    ),
    (
        "Requests to a provider outside are answered with 429",
        ["maps provider answers 429", "rate limit of the mail provider hit", "too many requests to the bank"],
        [
            "we are rate limited by the sms provider",
            "429 from the geocoding partner",
            "provider of avatars throttles us",
        ],
    ),
];

fn runbook(fault: usize, variant: char, symptom: &str) -> Chunk {
    let cure = match variant {
        'a' => "Restart the workload one pod after the other and watch whether the signals recover.",
        _ => "Roll the last change back and watch whether the signals recover.",
    };
    let doc = format!("{fault}-{variant}.md");
    Chunk { title: symptom.into(), ..chunk(&doc, "Fix", &format!("{symptom}. {cure}")) }
}

/// Which of the two is right is no matter of how they are named.
fn right(fault: usize) -> String {
    format!("{fault}-{}.md", if fault.is_multiple_of(3) { 'a' } else { 'b' })
}

fn wrong(fault: usize) -> String {
    format!("{fault}-{}.md", if fault.is_multiple_of(3) { 'b' } else { 'a' })
}

/// The folder comes first, so that it goes last.
async fn library() -> (tempfile::TempDir, Memory) {
    let dir = tempfile::tempdir().unwrap();
    let embedder = EmbedderChoice::Static.open().unwrap();
    let config = MemoryConfig::Edge { dir: dir.path().to_owned() };
    let memory = Memory::open(&config, Arc::clone(&embedder)).await.unwrap();
    for (fault, (symptom, _, _)) in FAULTS.iter().enumerate() {
        memory.remember(vec![runbook(fault, 'a', symptom), runbook(fault, 'b', symptom)]).await.unwrap();
    }
    (dir, memory)
}

async fn first(memory: &Memory, text: &str) -> String {
    let query = Query { text: text.into(), limit: 5, ..Query::default() };
    memory.recall_documents(query).await.unwrap()[0].chunk.doc.clone()
}

/// Share of the incidents that nobody voted on whose first answer is right, over some faults.
async fn r1(memory: &Memory, faults: std::ops::Range<usize>) -> f64 {
    let (mut hits, mut asked) = (0.0, 0.0);
    for fault in faults {
        for text in FAULTS[fault].2 {
            asked += 1.0;
            hits += f64::from(u8::from(first(memory, text).await == right(fault)));
        }
    }
    hits / asked
}

async fn vote(memory: &Memory, by: &str, doc: &str, occasion: (usize, usize), helpful: bool, trust: Trust) {
    let (fault, number) = occasion;
    let vote = Vote {
        by: by.into(),
        occasion: format!("INC-{fault}{number}"),
        asked: FAULTS[fault].1[number].into(),
        helpful,
        at: Timestamp::from_secs(1_790_000_000 + number as i64),
        trust,
    };
    assert!(memory.vote(&Tenant::everyone(), doc, vote).await.unwrap());
}

/// Two people vote on each incident, and its remediation is verified or not.
async fn learn(memory: &Memory, faults: std::ops::Range<usize>) {
    for fault in faults {
        for number in 0..3 {
            for by in ["T/ann", "T/bob"] {
                vote(memory, by, &right(fault), (fault, number), true, Trust::Verified).await;
                vote(memory, by, &wrong(fault), (fault, number), false, Trust::Verified).await;
            }
            let outcome = format!("outcome of INC-{fault}{number}");
            vote(memory, &outcome, &right(fault), (fault, number), true, Trust::Verified).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_and_outcomes_help_the_next_incidents_like_them() {
    let (_dir, memory) = library().await;
    let untaught = 6..FAULTS.len();
    let before = r1(&memory, 0..6).await;
    let untaught_before = r1(&memory, untaught.clone()).await;
    learn(&memory, 0..6).await;
    let after = r1(&memory, 0..6).await;
    eprintln!("R@1 on incidents that nobody voted on: {before:.2} before, {after:.2} after");
    assert!(after >= before + 0.25 && after >= 0.8, "{before} {after}");
    // A vote is about a kind of incident, not a prize for a document.
    assert_eq!(r1(&memory, untaught).await, untaught_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_votes_do_no_harm() {
    let (_dir, memory) = library().await;
    learn(&memory, 0..FAULTS.len()).await;
    let all = 0..FAULTS.len();
    let before = r1(&memory, all.clone()).await;
    // Two hundred strangers, each with one vote: against what is right, or for what is wrong.
    for number in 0..200 {
        let fault = number / 2 % FAULTS.len();
        let stranger = format!("T/stranger{number}");
        let (doc, up) = if number % 2 == 0 { (right(fault), false) } else { (wrong(fault), true) };
        vote(&memory, &stranger, &doc, (fault, number % 3), up, Trust::Quarantined).await;
    }
    assert_eq!(r1(&memory, all.clone()).await, before);
    // One whom the policy names, on every incident, again and again.
    for number in 0..40 {
        let fault = number % FAULTS.len();
        vote(&memory, "T/mallory", &right(fault), (fault, number % 3), false, Trust::Verified).await;
        vote(&memory, "T/mallory", &wrong(fault), (fault, number % 3), true, Trust::Verified).await;
    }
    let after = r1(&memory, all).await;
    eprintln!("R@1 {before:.2} before, {after:.2} after the hostile votes");
    assert_eq!(after, before);
    // What is purged takes its votes with it.
    memory.forget(&Tenant::everyone(), &right(0)).await.unwrap();
    assert_eq!(first(&memory, FAULTS[0].2[0]).await, wrong(0));
}
