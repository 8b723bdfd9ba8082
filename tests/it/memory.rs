//! The same behaviour on Qdrant in this process and on a Qdrant server.
//!
//! MIDWATCH_TEST_QDRANT names a real server (gRPC); without it the test server stands in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use midwatch::adapters::embedder::EmbedderChoice;
use midwatch::domain::time::Timestamp;
use midwatch::memory::{Chunk, Kind, Memory, MemoryConfig, MemoryError, Query, Recalled, Tenant, Trust, Vote};
use midwatch::ports::{EmbedError, Embedder};

use crate::fake_qdrant::FakeQdrant;

/// The quality choice when the same two variables as in the embedder's own test name its files.
fn embedder() -> Arc<dyn Embedder> {
    let place = |name| std::env::var_os(name).map(PathBuf::from);
    let choice = match (place("MIDWATCH_TEST_ONNX_RUNTIME"), place("MIDWATCH_TEST_ONNX_MODEL")) {
        (Some(onnx_runtime), Some(model_dir)) => EmbedderChoice::Fastembed { onnx_runtime, model_dir },
        _ => EmbedderChoice::Static,
    };
    choice.open().unwrap()
}

fn edge(dir: &Path) -> MemoryConfig {
    MemoryConfig::Edge { dir: dir.to_owned() }
}

fn server(url: &str, collection: &str) -> MemoryConfig {
    MemoryConfig::Server { url: url.into(), api_key: None, collection: collection.into() }
}

/// Runs one behaviour on each backend.
async fn on_both<F: AsyncFn(&Memory)>(name: &str, behaviour: F) {
    let dir = tempfile::tempdir().unwrap();
    behaviour(&Memory::open(&edge(dir.path()), embedder()).await.unwrap()).await;

    let fake;
    let url = match std::env::var("MIDWATCH_TEST_QDRANT") {
        Ok(url) => url,
        Err(_) => {
            fake = FakeQdrant::start().await;
            fake.url.clone()
        }
    };
    let collection = format!("midwatch-test-{name}-{}", std::process::id());
    behaviour(&Memory::open(&server(&url, &collection), embedder()).await.unwrap()).await;
}

pub fn chunk(doc: &str, heading: &str, text: &str) -> Chunk {
    Chunk {
        kind: Kind::Runbook,
        doc: doc.into(),
        title: doc.into(),
        heading: heading.into(),
        about: String::new(),
        text: text.into(),
        alerts: Vec::new(),
        advises: Vec::new(),
        tenant: Tenant::everyone(),
        service: None,
        incident: None,
        author: "platform".into(),
        trust: Trust::Curated,
        votes: 0,
        at: Timestamp::from_secs(1_790_000_000),
    }
}

fn post_mortem(doc: &str, title: &str, text: &str) -> Chunk {
    Chunk { kind: Kind::PostMortem, title: title.into(), ..chunk(doc, "What happened", text) }
}

fn ask(text: &str) -> Query {
    Query { text: text.into(), limit: 4, ..Query::default() }
}

/// A vote of somebody whom the policy knows.
fn vote(by: &str, occasion: &str, asked: &str, helpful: bool) -> Vote {
    Vote {
        by: by.into(),
        occasion: occasion.into(),
        asked: asked.into(),
        helpful,
        at: Timestamp::from_secs(1_790_000_000),
        trust: Trust::Verified,
    }
}

fn docs(recalled: &[Recalled]) -> Vec<&str> {
    recalled.iter().map(|recalled| recalled.chunk.doc.as_str()).collect()
}

fn library() -> Vec<Chunk> {
    vec![
        chunk("memory", "Confirm", "Working set climbs until the container is OOMKilled with exit code 137."),
        chunk("memory", "Fix", "Roll back the configuration change that raised the cache size."),
        chunk("queue", "Confirm", "Kafka consumer lag grows; compare the offset with the end of the partition."),
        chunk("queue", "Fix", "Add consumers up to the number of partitions, or restart the stuck consumer."),
        chunk("disk", "Confirm", "The filesystem of the node is nearly full; find the directory that grew."),
        chunk("certificate", "Confirm", "The TLS certificate expires soon or has expired; handshakes fail."),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_found_by_meaning_and_by_words() {
    on_both("found", async |memory| {
        memory.remember(library()).await.unwrap();
        for (text, expected) in [
            ("pod was killed, out of memory", "memory"),
            ("consumers cannot keep up with the topic", "queue"),
            ("no space left on device, disk is full", "disk"),
            ("x509: certificate has expired", "certificate"),
        ] {
            let recalled = memory.recall_documents(ask(text)).await.unwrap();
            assert_eq!(docs(&recalled)[0], expected, "{text}: {recalled:#?}");
            assert!(recalled[0].why.contains("meaning"), "{}", recalled[0].why);
        }
        let recalled = memory.recall(ask("kafka lag")).await.unwrap();
        assert_eq!(recalled.len(), 4);
        assert_eq!(docs(&recalled)[..2], ["queue", "queue"]);
        assert_ne!(docs(&recalled)[2], "queue");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_replaced_as_a_whole_and_keeps_its_votes() {
    on_both("replace", async |memory| {
        let everyone = Tenant::everyone();
        memory.remember(library()).await.unwrap();
        memory.remember(library()).await.unwrap();
        for by in ["ann", "bob", "eve"] {
            assert!(memory.vote(&everyone, "queue", vote(by, "INC-1", "kafka lag", true)).await.unwrap());
        }
        assert_eq!(memory.document(&everyone, "queue").await.unwrap().len(), 2);

        memory.remember(vec![chunk("queue", "Fix", "Rebalance the group.")]).await.unwrap();
        let kept = memory.document(&everyone, "queue").await.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].text.as_str(), kept[0].votes), ("Rebalance the group.", 3));

        memory.forget(&everyone, "queue").await.unwrap();
        assert!(memory.document(&everyone, "queue").await.unwrap().is_empty());
        let left = memory.recall_documents(Query { limit: 10, ..ask("kafka consumer lag") }).await.unwrap();
        assert_eq!(left.len(), 3, "{left:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alert_names_and_services_lift_with_a_reason() {
    on_both("lift", async |memory| {
        let mut chunks = library();
        // Nothing in the text of this one resembles the question.
        let named = Chunk { alerts: vec!["CheckoutSlow".into()], ..chunk("pool", "Fix", "Shrink the pool.") };
        let same = Chunk { service: Some("checkout".into()), ..chunk("note", "Hint", "It was the cache again.") };
        chunks.extend([named, same]);
        memory.remember(chunks).await.unwrap();
        let query = Query {
            alerts: vec!["CheckoutSlow".into()],
            service: Some("checkout".into()),
            ..ask("requests take long")
        };
        let recalled = memory.recall_documents(query).await.unwrap();
        assert_eq!(recalled[0].chunk.doc, "pool", "{recalled:#?}");
        assert!(recalled[0].why.starts_with("names the alert CheckoutSlow"), "{}", recalled[0].why);
        let note = recalled.iter().find(|recalled| recalled.chunk.doc == "note").unwrap();
        assert!(note.why.contains("same service checkout"), "{}", note.why);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_move_within_bounds_and_never_lift_what_is_in_quarantine() {
    on_both("votes", async |memory| {
        let everyone = Tenant::everyone();
        let text = "Kafka consumer lag grows after a rebalance.";
        let note = |doc: &str, trust| Chunk { kind: Kind::Note, trust, title: "note".into(), ..chunk(doc, "", text) };
        memory.remember(vec![note("a", Trust::Curated), note("b", Trust::Curated)]).await.unwrap();
        assert!(!memory.vote(&everyone, "z", vote("ann", "INC-1", "lag", true)).await.unwrap(), "nothing to vote on");
        for by in ["ann", "bob", "eve"] {
            memory.vote(&everyone, "b", vote(by, "INC-1", "kafka consumer lag", true)).await.unwrap();
        }
        let recalled = memory.recall_documents(ask("kafka consumer lag")).await.unwrap();
        assert_eq!(docs(&recalled), ["b", "a"]);
        assert!(recalled[0].why.contains("helped in a case like this"), "{}", recalled[0].why);
        assert_eq!(recalled[0].chunk.votes, 3);

        let mut suspect = note("c", Trust::Quarantined);
        suspect.text = format!("{text} {text}");
        memory.remember(vec![suspect]).await.unwrap();
        for number in 0..20 {
            let by = format!("person {number}");
            memory.vote(&everyone, "c", vote(&by, "INC-1", "rebalance of kafka consumers", true)).await.unwrap();
            memory.vote(&everyone, "a", vote(&by, "INC-1", "rebalance of kafka consumers", false)).await.unwrap();
        }
        let recalled = memory.recall_documents(ask("rebalance of kafka consumers")).await.unwrap();
        assert_eq!(recalled.last().unwrap().chunk.doc, "c", "{recalled:#?}");
        assert!(recalled.last().unwrap().why.contains("in quarantine"));

        memory.set_trust(&everyone, "c", Trust::Verified).await.unwrap();
        let recalled = memory.recall_documents(ask("rebalance of kafka consumers")).await.unwrap();
        assert_ne!(recalled.last().unwrap().chunk.doc, "c", "{recalled:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_see_their_own_and_everyones() {
    on_both("tenants", async |memory| {
        let (ours, theirs) = (Tenant::new("eu-1", "pay"), Tenant::new("eu-1", "search"));
        let of = |tenant: &Tenant, text: &str| Chunk { tenant: tenant.clone(), ..chunk("queue", "Fix", text) };
        memory.remember(vec![of(&ours, "ours lag"), of(&theirs, "theirs lag")]).await.unwrap();
        memory.remember(vec![chunk("all", "Fix", "everyone's lag")]).await.unwrap();
        let recalled = memory.recall(Query { tenant: ours.clone(), ..ask("lag") }).await.unwrap();
        let mut texts: Vec<_> = recalled.iter().map(|recalled| recalled.chunk.text.as_str()).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["everyone's lag", "ours lag"]);
        memory.forget(&ours, "queue").await.unwrap();
        assert_eq!(memory.document(&theirs, "queue").await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_similar_incidents_are_recalled() {
    on_both("similar", async |memory| {
        let mut chunks = library();
        chunks.extend([
            post_mortem(
                "INC-7",
                "checkout ran out of memory after a cache setting",
                "Rollout 7 doubled the cache. Pods of checkout were OOMKilled every ten minutes. Rolled back.",
            ),
            post_mortem(
                "INC-9",
                "orders stuck behind a poison message",
                "The consumer of the orders topic crashed on one malformed message and lag grew for an hour.",
            ),
        ]);
        memory.remember(chunks).await.unwrap();
        let similar = |text: &'static str| async move {
            let found = memory.similar_incidents(ask(text)).await.unwrap();
            found.iter().map(|found| (found.chunk.doc.clone(), found.relevance, found.why.clone())).collect::<Vec<_>>()
        };
        let found = similar("checkout pods OOMKilled after rollout, memory grows").await;
        assert_eq!(found.iter().map(|found| found.0.as_str()).collect::<Vec<_>>(), ["INC-7"], "{found:?}");
        let found = similar("orders consumer lag grows, consumer crashes on a message").await;
        assert_eq!(found.iter().map(|found| found.0.as_str()).collect::<Vec<_>>(), ["INC-9"], "{found:?}");
        let found = similar("TLS certificate of the ingress expires in two days").await;
        assert!(found.is_empty(), "{found:?}");
        let found = similar("DNS lookups time out in one availability zone").await;
        assert!(found.is_empty(), "{found:?}");
    })
    .await;
}

const RUNBOOK: &str = "---\ntitle: TITLE\narea: queue\nalerts: [ALERT]\nsymptoms: [TITLE grows]\nactions: [none]\nrisk: low\nowner: platform\nreviewed: 2026-11-01\n---\n\n## Confirm\n\nLook at TITLE.\n";

fn write_runbook(dir: &Path, file: &str, title: &str) {
    std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
    std::fs::write(dir.join(file), RUNBOOK.replace("TITLE", title).replace("ALERT", "SomeAlert")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runbooks_are_kept_in_line_with_their_folder() {
    on_both("runbooks", async |memory| {
        let everyone = Tenant::everyone();
        let dir = tempfile::tempdir().unwrap();
        write_runbook(dir.path(), "queue/lag.md", "consumer lag");
        write_runbook(dir.path(), "disk/full.md", "disk usage");
        std::fs::write(dir.path().join("README.md"), "# Not a runbook").unwrap();
        let load = async || {
            let loaded = memory.load_runbooks(dir.path(), &everyone).await.unwrap();
            (loaded.indexed, loaded.unchanged, loaded.forgotten, loaded.bad.len())
        };
        assert_eq!(load().await, (2, 0, 0, 0));
        memory.vote(&everyone, "queue/lag.md", vote("ann", "INC-1", "lag", true)).await.unwrap();
        assert_eq!(load().await, (0, 2, 0, 0));
        write_runbook(dir.path(), "queue/lag.md", "partition lag");
        std::fs::write(dir.path().join("disk/full.md"), "no front matter").unwrap();
        assert_eq!(load().await, (1, 0, 0, 1));
        assert_eq!(memory.document(&everyone, "disk/full.md").await.unwrap().len(), 1, "a typo costs no runbook");
        std::fs::remove_file(dir.path().join("disk/full.md")).unwrap();
        assert_eq!(load().await, (0, 1, 1, 0));
        let recalled = memory.recall(ask("partition lag")).await.unwrap();
        assert_eq!((docs(&recalled), recalled[0].chunk.votes), (vec!["queue/lag.md"], 1));
        // A mount that is not there yet.
        std::fs::remove_file(dir.path().join("queue/lag.md")).unwrap();
        let refused = memory.load_runbooks(dir.path(), &everyone).await.unwrap_err().to_string();
        assert!(refused.contains("the 1 runbooks of before stay"), "{refused}");
        assert_eq!(memory.document(&everyone, "queue/lag.md").await.unwrap().len(), 1);
    })
    .await;
}

/// More points than one segment takes before it is put away, some of them written again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_away_is_found_replaced_and_voted_on_while_all_settles() {
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::open(&edge(dir.path()), embedder()).await.unwrap();
    let filler = |doc: usize| {
        let parts = (0..200).map(move |part| format!("{doc} {part}"));
        parts.map(move |part| chunk(&format!("filler {doc}"), &part, &format!("Of no interest, number {part}.")))
    };
    let written = |first: usize| (first..first + 13).flat_map(filler).collect::<Vec<_>>();
    memory.remember([library(), written(0)].concat()).await.unwrap();
    memory.remember([written(13), written(0)].concat()).await.unwrap();
    memory.remember(vec![chunk("queue", "Confirm", "Kafka consumer lag grows on one partition only.")]).await.unwrap();

    let lag = "consumer lag grows";
    let on_queue = vote("ann", "inc-1", lag, true);
    let everyone = Tenant::everyone();
    let (settled, voted) = tokio::join!(memory.settle(), memory.vote(&everyone, "queue", on_queue));
    settled.unwrap();
    assert!(voted.unwrap());
    for _ in 0..2 {
        let found = memory.recall(ask(lag)).await.unwrap();
        assert_eq!(docs(&found)[0], "queue");
        let kept = memory.document(&everyone, "queue").await.unwrap();
        assert_eq!(
            kept.iter().map(|chunk| (chunk.text.as_str(), chunk.votes)).collect::<Vec<_>>(),
            [("Kafka consumer lag grows on one partition only.", 1)]
        );
        assert_eq!(memory.document(&everyone, "filler 12").await.unwrap().len(), 200);
        memory.settle().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_process_and_survives_it() {
    let dir = tempfile::tempdir().unwrap();
    {
        let memory = Memory::open(&edge(dir.path()), embedder()).await.unwrap();
        memory.remember(library()).await.unwrap();
        let second = Memory::open(&edge(dir.path()), embedder()).await.err().unwrap();
        assert!(matches!(second, MemoryError::Held { .. }), "{second}");
        assert!(second.to_string().contains("memory.dir"), "{second}");
    }
    let memory = Memory::open(&edge(dir.path()), embedder()).await.unwrap();
    assert_eq!(docs(&memory.recall(ask("kafka lag")).await.unwrap())[0], "queue");
}

/// Another model: as many numbers as the letters of the alphabet.
struct Letters;

impl Embedder for Letters {
    fn name(&self) -> &str {
        "letters"
    }
    fn dimension(&self) -> usize {
        26
    }
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let count = |text: &str, letter: u8| text.bytes().filter(|byte| byte.to_ascii_lowercase() == letter).count();
        Ok(texts.iter().map(|text| (b'a'..=b'z').map(|letter| count(text, letter) as f32).collect()).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_embedder_makes_the_vectors_anew_but_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let everyone = Tenant::everyone();
    {
        let memory = Memory::open(&edge(dir.path()), embedder()).await.unwrap();
        memory.remember(library()).await.unwrap();
        memory.vote(&everyone, "queue", vote("ann", "INC-1", "kafka lag", true)).await.unwrap();
        memory.vote(&everyone, "queue", vote("bob", "INC-1", "kafka lag", true)).await.unwrap();
    }
    let memory = Memory::open(&edge(dir.path()), Arc::new(Letters)).await.unwrap();
    let kept = memory.document(&everyone, "queue").await.unwrap();
    assert_eq!((kept.len(), kept[0].heading.as_str(), kept[0].votes), (2, "Confirm", 2));
    assert_eq!(docs(&memory.recall(ask("kafka lag")).await.unwrap())[0], "queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_collection_is_not_emptied_for_another_embedder() {
    let fake = FakeQdrant::start().await;
    let config = server(&fake.url, "shared");
    Memory::open(&config, embedder()).await.unwrap().remember(library()).await.unwrap();
    let error = Memory::open(&config, Arc::new(Letters)).await.err().unwrap();
    assert!(matches!(error, MemoryError::OtherEmbedder { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_server_is_said_and_used_when_it_comes_back() {
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let memory = Memory::open(&server(&format!("http://{address}"), "late"), embedder()).await.unwrap();
    let error = memory.recall(ask("lag")).await.unwrap_err();
    assert!(error.is_passing() && error.to_string().starts_with("memory unavailable"), "{error}");
    let _fake = FakeQdrant::start_at(address).await;
    memory.remember(library()).await.unwrap();
    assert_eq!(docs(&memory.recall(ask("kafka lag")).await.unwrap())[0], "queue");
}

/// Where the runbooks lie; another folder may be measured instead.
fn runbooks() -> PathBuf {
    std::env::var("MIDWATCH_TEST_RUNBOOKS")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks"), PathBuf::from)
}

/// A development set: its questions were written with the runbooks' titles in sight, and settings
/// were chosen on it. It guards against getting worse, it proves no quality.
#[tokio::test(flavor = "multi_thread")]
async fn people_find_the_runbook_in_their_own_words() {
    #[derive(serde::Deserialize)]
    struct Asked {
        text: String,
        relevant: Vec<String>,
    }
    let runbooks = runbooks();
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory::open(&edge(dir.path()), embedder()).await.unwrap();
    if !runbooks.is_dir() {
        eprintln!("no runbooks here");
        return;
    }
    memory.load_runbooks(&runbooks, &Tenant::everyone()).await.unwrap();
    let (mut first, mut five, mut in_prompt, mut asked) = (0, 0, 0, 0);
    for line in include_str!("runbook_queries.jsonl").lines() {
        let Asked { text, relevant } = serde_json::from_str(line).unwrap();
        if !relevant.iter().any(|file| runbooks.join(file).is_file()) {
            continue;
        }
        asked += 1;
        let found = memory.recall_documents(Query { limit: 5, ..ask(&text) }).await.unwrap();
        let place = docs(&found).iter().position(|doc| relevant.iter().any(|file| file == doc));
        first += usize::from(place == Some(0));
        five += usize::from(place.is_some());
        let chunks = memory.recall(ask(&text)).await.unwrap();
        in_prompt += usize::from(docs(&chunks).iter().any(|doc| relevant.iter().any(|file| file == doc)));
        if place != Some(0) {
            eprintln!("{place:?} {text}: {:?}", docs(&found));
        }
    }
    eprintln!("{asked} questions: first {first}, among five {five}, among the four chunks of a prompt {in_prompt}");
    assert!(first * 100 >= asked * 75 && five * 100 >= asked * 90, "{first} and {five} of {asked}");
}

/// Prints what a start and a recall cost with the runbooks of this repository.
#[tokio::test(flavor = "multi_thread")]
async fn the_runbooks_of_this_repository_are_ready_at_once() {
    let runbooks = runbooks();
    if !runbooks.is_dir() {
        eprintln!("no runbooks here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let memory = Memory::open(&edge(dir.path()), embedder()).await.unwrap();
    let opened = started.elapsed();
    let loaded = memory.load_runbooks(&runbooks, &Tenant::everyone()).await.unwrap();
    eprintln!("open {opened:?}, with first indexing {:?}: {loaded:#?}", started.elapsed());
    assert_eq!(loaded.bad, []);
    drop(memory);

    let started = Instant::now();
    let memory = Memory::open(&edge(dir.path()), embedder()).await.unwrap();
    memory.load_runbooks(&runbooks, &Tenant::everyone()).await.unwrap();
    eprintln!("reopen with nothing changed {:?}", started.elapsed());

    let query = Query {
        alerts: vec!["KubePodOOMKilled".into(), "KubePodCrashLooping".into()],
        service: Some("checkout".into()),
        ..ask("checkout pods restart with exit code 137 since the rollout, memory climbs, database pool exhausted")
    };
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let recalled = memory.recall(query.clone()).await.unwrap();
        times.push(started.elapsed());
        assert!(!recalled.is_empty());
    }
    times.sort_unstable();
    eprintln!("recall p50 {:?}, max {:?}", times[10], times[19]);
    assert!(times[10].as_millis() < 200, "{times:?}");
    for recalled in memory.recall(query).await.unwrap() {
        let Recalled { chunk, score, relevance, why } = recalled;
        eprintln!("{score:.3} {relevance:.2} {} / {}: {why}", chunk.doc, chunk.heading);
    }
}
