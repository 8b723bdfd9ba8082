//! Many people at many doors in the same moment: one decision each time, and one vote a person.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use midwatch::app::App;
use midwatch::config::Config;
use midwatch::domain::action::Action;
use midwatch::domain::id::{Digest, IncidentId, PersonId};
use midwatch::domain::incident::{Decision, Incident, IncidentEvent, Outcome, Sev};
use midwatch::domain::plan::{BlastRadius, Plan, Surroundings, target};
use midwatch::flow::approve::vote;
use midwatch::flow::{Desk, FlowError};
use midwatch::ports::{Person, SystemClock};
use midwatch::store::{Batch, Draft, Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::harness::{free_address, real};
use crate::real::fresh_database;
use crate::seeded::now;

/// `MIDWATCH_RACES=1000` plays a thousand, which takes some minutes.
fn rounds() -> i64 {
    std::env::var("MIDWATCH_RACES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(120)
}

const CLICKS: usize = 50;
const PEOPLE: [&str; 7] = ["ada", "bob", "eve", "ian", "joe", "kim", "rita"];
/// Asked for every third plan, so that her approvals of it do not count.
const ASKER: &str = "local/rita";

fn person(name: &str) -> Person {
    Person { id: PersonId::new(format!("local/{name}")), name: name.into() }
}

fn short() -> String {
    "0a1b2c3d4e5f".into()
}

/// An incident that waits for a decision: of one person, of two, or of two of whom one does not count.
fn waiting(number: i64) -> Draft {
    let (wall_now, id) = (now(), IncidentId::numbered(number));
    let action = Action::Scale { target: target("default", "shop", "Deployment", "pay", "uid-1"), from: 6, to: 2 };
    let plan = Plan {
        id: id.plan(1),
        tier: action.tier(),
        because: "pay has too many pods".into(),
        service: "pay".into(),
        blast: BlastRadius::of("pay", &action, &Surroundings::default(), &Default::default()),
        diff: "-replicas: 6\n+replicas: 2".into(),
        undo: action.undo(),
        checks: vec![],
        evidence: vec![],
        digest: Digest::from_hex(format!("{}{}", short(), "0".repeat(52))),
        expires_at: wall_now + Duration::from_secs(280),
        approvals_needed: if number % 3 == 0 { 1 } else { 2 },
        requester: (number % 3 == 2).then(|| ASKER.to_owned()),
        action,
    };
    let mut draft = Draft::of(Incident::blank(id));
    for event in [
        IncidentEvent::Opened {
            cluster: "default".into(),
            team: "payments".into(),
            title: "pay: Down".into(),
            severity: Sev::Two,
            because: "users feel it".into(),
            event_at: wall_now,
        },
        IncidentEvent::HandedOver { because: "people have it".into() },
        IncidentEvent::PlanProposed { plan: Box::new(plan), ruling: "people decide".into() },
    ] {
        draft.record(event, wall_now).unwrap();
    }
    draft
}

/// A small generator, so that every run clicks alike.
fn drawn(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[derive(Default)]
struct Counts {
    approved: usize,
    rejected: usize,
    by_two: usize,
    clicks: usize,
    votes: usize,
}

/// Fifty clicks at once, at the doors of two; what the store says of them afterwards.
async fn round(doors: &[Arc<Desk>; 2], number: i64) -> Counts {
    let id = IncidentId::numbered(number);
    let (value, mut seed) = (format!("{}.{}", id.plan(1), short()), number as u64);
    let clicks: Vec<(usize, Decision)> = (0..CLICKS)
        .map(|_| {
            let who = drawn(&mut seed) as usize % PEOPLE.len();
            // Most mean yes, so that many rounds end with two people's approval.
            (who, if drawn(&mut seed).is_multiple_of(24) { Decision::Reject } else { Decision::Approve })
        })
        .collect();
    let tasks: Vec<_> = clicks
        .iter()
        .enumerate()
        .map(|(at, (who, decision))| {
            let (desk, value, by, decision) = (doors[at % 2].clone(), value.clone(), person(PEOPLE[*who]), *decision);
            tokio::spawn(async move { vote(&desk, &value, &by, decision, None).await })
        })
        .collect();
    let mut decided = 0;
    let mut counted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(told) => {
                counted += 1;
                decided += usize::from(told.contains("it runs now") || told.starts_with("rejected"));
            }
            Err(FlowError::Refused(_)) => {}
            Err(failure) => panic!("{id}: {failure}"),
        }
    }
    let store = &doors[0].store;
    let votes = store.votes(id.plan(1).as_str()).await.unwrap();
    let people: BTreeSet<&String> = votes.iter().map(|(person, _)| person).collect();
    assert_eq!(people.len(), votes.len(), "{id}: {votes:?}");
    let incident = store.incident(&id).await.unwrap().unwrap();
    let record = &incident.plans[0];
    // Who has approved may still reject, and has one vote all the same.
    let has_approved = |who: &String| votes.iter().any(|(person, decision)| person == who && decision == "approve");
    let turned = record.rejected_by.as_ref().is_some_and(|(who, _)| has_approved(who));
    assert_eq!((counted, decided), (votes.len() + usize::from(turned), 1), "{id}: {votes:?}");
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for event in store.events(&id).await.unwrap() {
        *kinds.entry(event.kind).or_default() += 1;
    }
    let count = |kind: &str| kinds.get(kind).copied().unwrap_or(0);
    assert_eq!(count("voted"), votes.len() + usize::from(turned), "{id}: {kinds:?}");
    assert_eq!(count("plan_approved") + count("plan_rejected"), 1, "{id}: {kinds:?}");
    let said = |word: &str| votes.iter().filter(|(_, decision)| decision == word).count();
    // By what is written down: on a machine too slow for the lease a door leads meanwhile and begins.
    let approved = count("plan_approved") == 1;
    if approved {
        assert!(
            !matches!(record.outcome, Outcome::Proposed | Outcome::Expired | Outcome::Rejected),
            "{id}: {:?}",
            record.outcome
        );
        assert_eq!((said("approve"), said("reject")), (record.plan.approvals_needed, 0), "{id}: {votes:?}");
        let counts = |person: &String| record.plan.requester.as_ref() != Some(person);
        assert!(votes.iter().all(|(person, _)| counts(person)), "{id}: {votes:?}");
    } else {
        assert_eq!(record.outcome, Outcome::Rejected, "{id}");
        assert!(
            said("reject") == usize::from(!turned) && said("approve") < record.plan.approvals_needed,
            "{id}: {votes:?}"
        );
    }
    Counts {
        approved: usize::from(approved),
        rejected: usize::from(!approved),
        by_two: usize::from(approved && record.plan.approvals_needed == 2),
        clicks: clicks.len(),
        votes: votes.len(),
    }
}

/// Two doors of one store, behind which nobody works: the lease is ours.
async fn race(name: &str, url: Option<&str>, folder: &Path) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    let address = url.map_or_else(|| folder.join("midwatch.db").display().to_string(), str::to_owned);
    let store = Arc::new(Store::open(&address).await.unwrap());
    let held = store.take_lease(&store.lease().await.unwrap(), "the-test").await.unwrap().unwrap();
    let sign = store.show_life("the-test");
    let renewing = tokio::spawn({
        let store = store.clone();
        async move {
            while store.renew_lease(&held).await.unwrap() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let ids: Vec<String> = PEOPLE.iter().map(|name| format!("\"local/{name}\"")).collect();
    let mut apps = vec![];
    for door in ["one", "two"] {
        let own = if url.is_some() { folder.join(door) } else { folder.to_owned() };
        let url = url.map_or_else(String::new, |url| format!("url = {url:?}\n"));
        let config = folder.join(format!("{door}.toml"));
        let words = format!(
            "[server]\nlisten = \"{}\"\n[console]\nenabled = false\n[store]\ndata_dir = {own:?}\n{url}\
             [policy]\napprovers = [{}]\n",
            free_address(),
            ids.join(", ")
        );
        std::fs::write(&config, words).unwrap();
        let config = Config::load(Some(&config), &|_| None).unwrap();
        apps.push(App::start(config, Arc::new(SystemClock)).await.unwrap());
    }
    let doors = [apps[0].desk.clone(), apps[1].desk.clone()];
    assert!(doors.iter().all(|desk| !desk.leads.load(std::sync::atomic::Ordering::Acquire)));
    let mut all: Vec<Counts> = vec![];
    for first in (1..=rounds()).step_by(50) {
        // Proposed shortly before, so that none is decided by the clock.
        let numbers = first..=rounds().min(first + 49);
        let drafts = numbers.clone().map(waiting).collect();
        store.commit(Batch { drafts, ..Batch::default() }, now()).await.unwrap();
        all.extend(
            stream::iter(numbers).map(|number| round(&doors, number)).buffer_unordered(2).collect::<Vec<_>>().await,
        );
    }
    let sum = |of: fn(&Counts) -> usize| all.iter().map(of).sum::<usize>();
    let report = store.verify_audit().await.unwrap();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    eprintln!(
        "{name}: {} rounds, {} clicks at two doors: {} approved ({} by two people), {} rejected, {} votes; {:.1} s",
        all.len(),
        sum(|one| one.clicks),
        sum(|one| one.approved),
        sum(|one| one.by_two),
        sum(|one| one.rejected),
        sum(|one| one.votes),
        began.elapsed().as_secs_f64()
    );
    let few = all.len() / 10;
    assert!(sum(|one| one.by_two) > few && sum(|one| one.rejected) > few, "both kinds of end are tried");
    renewing.abort();
    drop(sign);
    for app in apps {
        app.shutdown().await;
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clicks_at_once_decide_once_on_the_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    race("sqlite", None, folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clicks_at_once_decide_once_on_postgres() {
    let Some(server) = real("MIDWATCH_TEST_POSTGRES") else { return };
    let (folder, url) = (tempfile::tempdir().unwrap(), fresh_database(&server, "races").await);
    race("postgres", Some(&url), folder.path()).await;
    let mut server = PgConnection::connect(&server).await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
        .execute(&mut server)
        .await
        .unwrap();
}
