//! Two built processes on one store: everything happens once, whoever of them ends, falls silent or
//! wakes up again.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use midwatch::world::kubernetes::{KubeState, router};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::crash::chat::{self, Chat};
use crate::crash::run::{SERVICE, Scenario, cluster, tick, wall};
use crate::harness::{Running, alert, free_address, midwatch, real, run, serve, text};
use crate::real::fresh_database;

/// A takeover within it is promised.
const TAKEOVER: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(60);

/// What both processes stand in.
struct Estate {
    /// Of PostgreSQL; `None`: the embedded store, which then is one folder for both.
    store: Option<String>,
    folder: tempfile::TempDir,
    kube: String,
    cluster: Arc<Mutex<KubeState>>,
    ticking: tokio::task::JoinHandle<()>,
    chat: Chat,
    slack: String,
    http: reqwest::Client,
}

struct Twin {
    name: &'static str,
    api: String,
    console: String,
    child: Running,
    config: PathBuf,
}

impl Estate {
    async fn new(store: Option<String>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let state = Arc::new(Mutex::new(cluster()));
        let (chat, slack) = chat::router();
        Self {
            store,
            folder: tempfile::tempdir().unwrap(),
            kube: serve(router(state.clone(), Arc::new(wall))).await,
            ticking: tick(state.clone(), Scenario::Restarts),
            cluster: state,
            chat,
            slack: serve(slack).await + "/api",
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap(),
        }
    }

    /// Starts one process and waits until it takes in.
    async fn start(&self, name: &'static str, environment: &[(&str, &str)]) -> Twin {
        let (api, console) = (free_address(), free_address());
        let own = if self.store.is_some() { name } else { "data" };
        let url = self.store.as_ref().map_or_else(String::new, |url| format!("url = {url:?}\n"));
        let words = format!(
            "[server]\nlisten = \"{api}\"\n[console]\nlisten = \"{console}\"\n[store]\ndata_dir = {:?}\n{url}\
             [kubernetes]\ncluster = \"default\"\nurl = \"{}\"\ntoken = \"r\"\nwrite_token = \"w\"\n\
             [slack]\nbot_token = \"xoxb-1\"\nsigning_secrets = [\"{}\"]\napi_base = \"{}\"\nteam_id = \"T1\"\nchannel = \"C1\"\n\
             [policy]\napprovers = [\"local/ada\", \"local/bob\"]\n\
             [[people]]\nid = \"local/ada\"\nname = \"ada\"\ntoken = \"ada\"\n\
             [[people]]\nid = \"local/bob\"\nname = \"bob\"\ntoken = \"bob\"\n\
             [investigation]\nsettle_seconds = 0\nverify_seconds = 60\n[remediation]\nlook_seconds = 0.2\n",
            self.folder.path().join(own),
            self.kube,
            chat::SECRET,
            self.slack,
        );
        let config = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&config, words).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.log_of(name)).unwrap();
        let mut command = midwatch();
        command.arg("serve").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log);
        command.envs(environment.iter().copied());
        let twin = Twin { name, api, console, child: Running(command.spawn().unwrap()), config };
        self.until(&format!("{name} ready"), PATIENCE, async || self.standing(&twin).await.map(drop)).await;
        twin
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_of(name)).unwrap_or_default()
    }

    async fn until<T>(&self, what: &str, patience: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            if Instant::now() > deadline {
                let logs = ["one", "two"].map(|name| format!("== {name}\n{}", self.said(name)));
                panic!("no {what} in {patience:?}\n{}", logs.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// `leads` or `stands by`.
    async fn standing(&self, twin: &Twin) -> Option<String> {
        let answer = self.http.get(format!("http://{}/readyz", twin.api)).send().await.ok()?;
        let said = answer.text().await.ok()?;
        said.strip_prefix("ready, ").map(|word| word.trim().to_owned())
    }

    async fn stands(&self, twin: &Twin, wanted: &str, patience: Duration) {
        self.until(&format!("{} {wanted}", twin.name), patience, async || {
            (self.standing(twin).await.as_deref() == Some(wanted)).then_some(())
        })
        .await;
    }

    async fn tell(&self, twin: &Twin, status: &str) -> u16 {
        let mut told = alert("Down", SERVICE);
        told["labels"]["namespace"] = json!("shop");
        told["startsAt"] = json!(self.since());
        if status == "resolved" {
            told["status"] = json!(status);
            told["endsAt"] = json!(chrono::Utc::now().to_rfc3339());
        }
        let request = self.http.post(format!("http://{}/webhooks/alertmanager", twin.api));
        let request = request.header("content-type", "application/json").body(json!([told]).to_string());
        request.send().await.map_or(0, |answer| answer.status().as_u16())
    }

    /// One firing, however often it is sent.
    fn since(&self) -> String {
        let made = std::fs::metadata(self.folder.path()).unwrap().created().unwrap();
        chrono::DateTime::<chrono::Utc>::from(made).to_rfc3339()
    }

    async fn order(&self, twin: &Twin, who: &str, text: &str) -> (u16, Value) {
        let request = self.http.post(format!("http://{}/api/v1/ops", twin.api)).json(&json!({"text": text}));
        let answer = request.bearer_auth(who).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn pool(&self) -> PgConnection {
        PgConnection::connect(self.store.as_deref().unwrap()).await.unwrap()
    }

    async fn column(&self, sql: &'static str) -> Vec<String> {
        let mut store = self.pool().await;
        let rows = sqlx::query_scalar(sql).fetch_all(&mut store).await.unwrap();
        store.close().await.unwrap();
        rows
    }

    async fn incidents(&self) -> Vec<Value> {
        let bodies = self.column("SELECT body FROM incident ORDER BY number").await;
        bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }

    /// The last plan's outcome, once it is one of these.
    async fn outcome(&self, wanted: &[&str], patience: Duration) -> String {
        self.until(&format!("{wanted:?}"), patience, async || {
            let incidents = self.incidents().await;
            let plan = incidents.first()?["plans"].as_array()?.last()?.clone();
            let outcome = plan["outcome"]["outcome"].as_str()?.to_owned();
            wanted.contains(&outcome.as_str()).then_some(outcome)
        })
        .await
    }

    /// The plan that was asked for, as the buttons of its card name it.
    async fn card(&self) -> String {
        let incident = self.incidents().await.remove(0);
        let plan = &incident["plans"].as_array().unwrap().last().unwrap()["plan"];
        format!("{}.{}", plan["id"].as_str().unwrap(), &plan["digest"].as_str().unwrap()[..12])
    }

    fn writes(&self) -> usize {
        self.cluster.lock().unwrap().writes().iter().filter(|write| write.status < 300).count()
    }

    /// Root messages in the chat.
    fn roots(&self) -> usize {
        let kept = self.chat.lock().unwrap();
        kept.messages.iter().filter(|message| message.key.ends_with("/root@slack")).count()
    }

    /// An incident that people have, a restart that somebody asked for, and its approval: each through
    /// the door that is named.
    async fn until_approved(&self, asks: &Twin, approves: &Twin) {
        assert_eq!(self.tell(asks, "firing").await, 202);
        self.until("an incident that people have", PATIENCE, async || {
            (self.incidents().await.first()?["state"]["state"] == "handed_over").then_some(())
        })
        .await;
        let (status, said) = self.order(asks, "ada", &format!("act INC-1 restart shop/{SERVICE}")).await;
        assert_eq!(status, 200, "{said}");
        self.outcome(&["proposed"], PATIENCE).await;
        let card = self.card().await;
        // Whoever asked does not count.
        let (status, said) = self.order(approves, "bob", &format!("approve {card}")).await;
        assert_eq!(status, 200, "{said}");
    }

    /// The chain is whole, and what must be there once is.
    async fn is_whole(&self, config: &Twin) {
        self.until("an inbox that is empty", PATIENCE, async || {
            self.column("SELECT source FROM inbox WHERE done_at IS NULL").await.is_empty().then_some(())
        })
        .await;
        assert_eq!(self.incidents().await.len(), 1);
        let path = config.config.clone();
        let verified = tokio::task::spawn_blocking(move || run(["audit", "verify", "--config", text(&path)]));
        let verified = verified.await.unwrap();
        assert!(verified.stdout.starts_with("audit ok"), "{}{}", verified.stdout, verified.stderr);
    }

    async fn end(self, twins: Vec<Twin>) {
        self.ticking.abort();
        drop(twins);
        let Some(url) = &self.store else { return };
        let mut url = url::Url::parse(url).unwrap();
        let name = url.path().trim_start_matches('/').to_owned();
        url.set_path("postgres");
        let mut server = PgConnection::connect(url.as_str()).await.unwrap();
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server).await.unwrap();
    }
}

impl Twin {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.0.id() as i32), signal).unwrap();
    }

    /// Stopped by SIGSTOP, its own or ours.
    fn is_stopped(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.child.0.id())).unwrap_or_default();
        status.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 't']))
    }
}

async fn on_postgres(what: &str) -> Option<Estate> {
    let server = real("MIDWATCH_TEST_POSTGRES")?;
    Some(Estate::new(Some(fresh_database(&server, what).await)).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_on_one_postgres_do_everything_once_and_take_over_at_once_when_told() {
    let Some(estate) = on_postgres("twice").await else { return };
    let one = estate.start("one", &[]).await;
    let two = estate.start("two", &[]).await;
    assert_eq!(estate.standing(&one).await.as_deref(), Some("leads"));
    assert_eq!(estate.standing(&two).await.as_deref(), Some("stands by"));
    // A sender that knows both tells both, again and again; a second firing comes to the standby alone.
    for _ in 0..10 {
        let told = futures::future::join_all([&one, &two].map(|twin| estate.tell(twin, "firing"))).await;
        assert_eq!(told, [202, 202]);
    }
    // Asked and approved where nobody leads: decided there, carried out by the other.
    estate.until_approved(&two, &two).await;
    estate.outcome(&["written", "verified"], PATIENCE).await;
    assert_eq!(estate.tell(&two, "resolved").await, 202);
    estate.outcome(&["verified"], PATIENCE).await;
    // Silences set at both doors in the same moment are all there.
    let silences = (0..12).map(|number| {
        let (twin, estate) = (if number % 2 == 0 { &one } else { &two }, &estate);
        async move { estate.order(twin, "ada", &format!("silence service=s{number} for 1h because of a test")).await }
    });
    let answers = futures::future::join_all(silences).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let kept = estate.column("SELECT value FROM setting WHERE name='silences'").await;
    let kept: Vec<Value> = serde_json::from_str(&kept[0]).unwrap();
    let ids: std::collections::BTreeSet<String> = kept.iter().map(|one| one["id"].to_string()).collect();
    assert_eq!((kept.len(), ids.len()), (12, 12), "{kept:?}");
    // The page of the standby shows what the leader has posted.
    estate
        .until("the incident on the other's page", PATIENCE, async || {
            let page = estate.http.get(format!("http://{}/api/messages?channel=ops", two.console)).send().await.ok()?;
            page.text().await.ok()?.contains("INC-1, v").then_some(())
        })
        .await;
    let (executions, roots) = (estate.column("SELECT plan FROM execution").await, estate.roots());
    assert_eq!((executions.len(), estate.writes(), roots), (1, 1, 1), "{executions:?}");
    estate.is_whole(&one).await;
    // An orderly end needs nobody to wait.
    let began = Instant::now();
    one.signal(Signal::SIGTERM);
    estate.stands(&two, "leads", TAKEOVER).await;
    eprintln!("taken over {} ms after SIGTERM", began.elapsed().as_millis());
    assert!(began.elapsed() < Duration::from_secs(8), "the lease was given back");
    estate.end(vec![one, two]).await;
}

/// The leader dies at a point of an execution.
async fn killed(what: &str, point: &str, expected: &str, writes: usize) {
    let Some(estate) = on_postgres(what).await else { return };
    let one = estate.start("one", &[("MIDWATCH_CRASH_AT", point)]).await;
    let two = estate.start("two", &[]).await;
    estate.until_approved(&one, &two).await;
    let mut one = one;
    estate.until("the kill", PATIENCE, async || one.child.0.try_wait().unwrap().map(drop)).await;
    let began = Instant::now();
    estate.stands(&two, "leads", TAKEOVER).await;
    let took = began.elapsed();
    // What comes meanwhile is not lost.
    assert_eq!(estate.tell(&two, "resolved").await, 202);
    estate.outcome(&[expected], PATIENCE).await;
    eprintln!("{point}: killed with SIGKILL, taken over after {} ms, {expected}", took.as_millis());
    let executions = estate.column("SELECT plan FROM execution").await;
    assert_eq!((executions.len(), estate.writes(), estate.roots()), (1, writes, 1), "{executions:?}");
    estate.is_whole(&two).await;
    estate.end(vec![one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_between_claim_and_write_is_not_repeated() {
    killed("claimed", "execute.claimed", "failed", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_after_the_write_is_finished_by_the_other() {
    killed("written", "execute.after_write", "verified", 1).await;
}

/// The leader is stopped at a point, overtaken, and wakes up.
async fn stopped(what: &str, point: &str, expected: &str, writes: usize) {
    let Some(estate) = on_postgres(what).await else { return };
    let one = estate.start("one", &[("MIDWATCH_STOP_AT", point)]).await;
    let two = estate.start("two", &[]).await;
    estate.until_approved(&two, &two).await;
    estate.until("the stop", PATIENCE, async || one.is_stopped().then_some(())).await;
    let began = Instant::now();
    estate.stands(&two, "leads", TAKEOVER).await;
    let took = began.elapsed();
    assert_eq!(estate.tell(&two, "resolved").await, 202);
    estate.outcome(&[expected], PATIENCE).await;
    one.signal(Signal::SIGCONT);
    estate.stands(&one, "stands by", TAKEOVER).await;
    // Long enough for whatever it might still do.
    tokio::time::sleep(Duration::from_secs(3)).await;
    eprintln!("{point}: stopped, taken over after {} ms, {expected}; awake it stands by", took.as_millis());
    let executions = estate.column("SELECT plan FROM execution").await;
    assert_eq!((executions.len(), estate.writes(), estate.roots()), (1, writes, 1), "{executions:?}");
    assert_eq!(estate.column("SELECT epoch::text FROM lease").await, ["2"]);
    assert_eq!(estate.standing(&two).await.as_deref(), Some("leads"));
    estate.is_whole(&two).await;
    // It is a full standby again.
    two.signal(Signal::SIGKILL);
    estate.stands(&one, "leads", TAKEOVER).await;
    estate.end(vec![one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sleeps_before_the_write_does_not_write_when_awake() {
    stopped("asleep", "execute.before_write", "failed", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sleeps_within_a_transaction_holds_nobody_up_and_commits_nothing() {
    stopped("halfway", "execute.after_write>tx.before_audit", "verified", 1).await;
}

/// A message that was begun and not posted by the one is posted by the other, and not again by the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sleeps_before_a_post_posts_nothing_when_awake() {
    let Some(estate) = on_postgres("silent").await else { return };
    let one = estate.start("one", &[("MIDWATCH_STOP_AT", "deliver.before_post")]).await;
    let two = estate.start("two", &[]).await;
    assert_eq!(estate.tell(&two, "firing").await, 202);
    estate.until("the stop", PATIENCE, async || one.is_stopped().then_some(())).await;
    estate.stands(&two, "leads", TAKEOVER).await;
    estate.until("the message", PATIENCE, async || (estate.roots() == 1).then_some(())).await;
    one.signal(Signal::SIGCONT);
    estate.stands(&one, "stands by", TAKEOVER).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(estate.roots(), 1);
    estate.is_whole(&two).await;
    estate.end(vec![one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_store_nobody_waits_for_the_dead() {
    let estate = Estate::new(None).await;
    let one = estate.start("one", &[]).await;
    let two = estate.start("two", &[]).await;
    assert_eq!(estate.standing(&one).await.as_deref(), Some("leads"));
    assert_eq!(estate.standing(&two).await.as_deref(), Some("stands by"));
    let began = Instant::now();
    one.signal(Signal::SIGKILL);
    estate.stands(&two, "leads", Duration::from_secs(5)).await;
    eprintln!("embedded: taken over {} ms after SIGKILL", began.elapsed().as_millis());
    // Stopped, it is waited for as any other.
    let three = estate.start("one", &[]).await;
    two.signal(Signal::SIGSTOP);
    let began = Instant::now();
    estate.stands(&three, "leads", TAKEOVER).await;
    eprintln!("embedded: taken over {} ms after SIGSTOP", began.elapsed().as_millis());
    two.signal(Signal::SIGCONT);
    estate.stands(&two, "stands by", TAKEOVER).await;
    estate.end(vec![one, two, three]).await;
}
