//! The store goes away under the built program: at its start, in the middle, and while it ends.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::{Running, alert, free_address, midwatch, real};
use crate::real::fresh_database;

const PATIENCE: Duration = Duration::from_secs(180);

/// A wire to PostgreSQL that can hold what is sent, as a network does that is cut somewhere.
struct Wire(Arc<Mutex<watch::Sender<bool>>>);

impl Wire {
    async fn lay(from: &str, to: String) -> Self {
        let listener = TcpListener::bind(from).await.unwrap();
        let holds = Arc::new(Mutex::new(watch::channel(false).0));
        let held = holds.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&to).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                let holds = held.lock().unwrap().subscribe();
                tokio::spawn(pass(near_in, far_out, holds.clone()));
                tokio::spawn(pass(far_in, near_out, holds));
            }
        });
        Self(holds)
    }

    fn hold(&self, hold: bool) {
        self.0.lock().unwrap().send_replace(hold);
    }

    /// As when the server's machine is gone and another one has its name: what is connected hears nothing any
    /// more, not even an end.
    fn vanish(&self) {
        let old = std::mem::replace(&mut *self.0.lock().unwrap(), watch::channel(false).0);
        old.send_replace(true);
        std::mem::forget(old);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut holds: watch::Receiver<bool>) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if holds.wait_for(|holds| !holds).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

struct Standing {
    api: String,
    folder: tempfile::TempDir,
    http: reqwest::Client,
    child: Running,
}

impl Standing {
    fn start(url: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (folder, api) = (tempfile::tempdir().unwrap(), free_address());
        let config = folder.path().join("midwatch.toml");
        let words = format!(
            "[server]\nlisten = \"{api}\"\n[console]\nenabled = false\n[store]\ndata_dir = {:?}\nurl = {url:?}\n",
            folder.path().join("data")
        );
        std::fs::write(&config, words).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = midwatch();
        command.arg("serve").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log);
        let child = Running(command.spawn().unwrap());
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Self { api, folder, http, child }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.http.get(format!("http://{}{path}", self.api)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn until(&self, what: &str, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            last = self.get(path).await;
            if let Some((status, text)) = &last
                && wanted(*status, text)
            {
                return text.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {what}; {path} says {last:?}\n{}", self.said());
    }

    /// Whether an alert is taken in.
    async fn takes_in(&self, name: &str) -> bool {
        let post = self.http.post(format!("http://{}/webhooks/test", self.api));
        let body = serde_json::json!([alert(name, "checkout")]).to_string();
        let answer = post.header("content-type", "application/json").body(body).send().await;
        answer.is_ok_and(|answer| answer.status() == 202)
    }

    async fn takes_in_again(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.takes_in(what).await {
            assert!(Instant::now() < deadline, "nothing is taken in after {what}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.until("leader", "/readyz", |_, text| text == "ready, leads\n").await;
    }

    fn signal(&self) {
        kill(Pid::from_raw(self.child.0.id() as i32), Signal::SIGTERM).unwrap();
    }

    async fn ended_within(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < limit, "alive after {limit:?}\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_waited_for_and_one_that_hangs_holds_nobody_up() {
    let Some(server) = real("MIDWATCH_TEST_POSTGRES") else { return };
    let direct = fresh_database(&server, "outage").await;
    let (through, address, to) = by_wire(&direct);

    // Away at the start: it lives, takes nothing in, and stands the watch once the store answers.
    let mut standing = Standing::start(through.as_str());
    standing.until("sign of life", "/healthz", |status, _| status == 200).await;
    assert_eq!(standing.get("/readyz").await.unwrap().0, 503);
    let wire = Wire::lay(&address, to).await;
    standing.until("leader", "/readyz", |_, text| text == "ready, leads\n").await;
    assert!(standing.said().contains("the store is away"), "{}", standing.said());
    let told = standing.until("series", "/metrics", |_, text| text.contains("midwatch_store_up 1")).await;
    assert!(told.contains("\nmidwatch_leads 1") && told.contains("\nmidwatch_inbox_open 0"), "{told}");

    // Cut off: what is told stays quick and whole, and says neither that the store is up nor that it leads.
    wire.hold(true);
    let asked = Instant::now();
    let told = standing.get("/metrics").await.unwrap().1;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert!(told.contains("\nmidwatch_store_up 0") && told.contains("\nmidwatch_inbox_open 0"), "{told}");
    standing.until("doubt", "/metrics", |_, text| text.contains("\nmidwatch_leads 0")).await;
    standing.signal();
    let status = standing.ended_within(Duration::from_secs(25)).await;
    assert_eq!(status.code(), Some(0), "{}", standing.said());

    // Who asks twice does not want to wait.
    wire.hold(false);
    let mut standing = Standing::start(through.as_str());
    // Only who leads has something to give back that the cut holds up.
    standing.until("leader", "/readyz", |_, text| text == "ready, leads\n").await;
    wire.hold(true);
    standing.signal();
    tokio::time::sleep(Duration::from_millis(500)).await;
    standing.signal();
    let status = standing.ended_within(Duration::from_secs(3)).await;
    assert_eq!(status.code(), Some(130), "{}", standing.said());
    drop(wire);
    on_server(&server, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name_of(&direct))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_vanishes_in_the_middle_of_a_statement_is_left_for_the_next_one() {
    let Some(server) = real("MIDWATCH_TEST_POSTGRES") else { return };
    let direct = fresh_database(&server, "vanished").await;
    let (through, address, to) = by_wire(&direct);
    let wire = Wire::lay(&address, to).await;
    let standing = Standing::start(through.as_str());
    standing.until("leader", "/readyz", |_, text| text == "ready, leads\n").await;
    assert!(standing.takes_in("Before").await);

    let mut other = PgConnection::connect(&direct).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE inbox").execute(&mut other).await.unwrap();
    let (_, ()) = tokio::join!(standing.takes_in("Asked"), async {
        let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE relation='inbox'::regclass AND NOT granted)";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut other).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wire.vanish();
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    });
    standing.takes_in_again("it vanished").await;
    drop(standing);
    drop(wire);
    on_server(&server, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name_of(&direct))).await;
}

/// In a failover its name leads for a moment to one that only reads, and everybody has to connect anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_a_server_that_only_reads_are_not_kept() {
    let Some(server) = real("MIDWATCH_TEST_POSTGRES") else { return };
    let direct = fresh_database(&server, "reads_only").await;
    let name = name_of(&direct);
    let standing = Standing::start(&direct);
    standing.until("leader", "/readyz", |_, text| text == "ready, leads\n").await;
    assert!(standing.takes_in("Before").await);
    on_server(&server, format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{name}'");
    on_server(&server, end).await;
    // Whoever connects anew for the lease does so to this one.
    standing.until("doubt", "/readyz", |_, _| standing.said().contains("the lease could not be renewed")).await;
    assert!(!standing.takes_in("ReadOnly").await);
    on_server(&server, format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await;
    standing.takes_in_again("it took no writes").await;
    drop(standing);
    on_server(&server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
}

/// The address of a wire to it, where that begins, and where it leads.
fn by_wire(direct: &str) -> (url::Url, String, String) {
    let (mut through, address) = (url::Url::parse(direct).unwrap(), free_address());
    let to = format!("{}:{}", through.host_str().unwrap(), through.port().unwrap_or(5432));
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(address.rsplit(':').next().unwrap().parse().ok()).unwrap();
    (through, address, to)
}

fn name_of(database: &str) -> String {
    url::Url::parse(database).unwrap().path().trim_start_matches('/').to_owned()
}

async fn on_server(server: &str, sql: String) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}
