//! Where a test may end or stop this process, as a power cut or a hypervisor would: between any two
//! steps whose order matters.
//!
//! `MIDWATCH_CRASH_AT=name` or `name:3` ends it with SIGKILL when the point is passed (for the third
//! time), `first>then` at the first `then` after a `first`; `MIDWATCH_STOP_AT` stops it there with
//! SIGSTOP, until somebody lets it go on;
//! `MIDWATCH_CRASH_LOG=FILE` appends the name of every point that is passed. Builds without debug
//! assertions have no such points.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;

struct Plan {
    crash: Option<At>,
    stop: Option<At>,
    log: Option<PathBuf>,
}

struct At {
    /// Counts only once this was passed.
    after: Option<String>,
    name: String,
    time: u64,
    passed: AtomicU64,
    armed: AtomicBool,
}

impl At {
    fn named_by(variable: &str) -> Option<Self> {
        let at = std::env::var(variable).ok().filter(|at| !at.is_empty())?;
        let (name, time) = match at.split_once(':') {
            Some((name, times)) => (name.to_owned(), times.parse().unwrap_or(1)),
            None => (at, 1),
        };
        let (after, name) = match name.split_once('>') {
            Some((after, name)) => (Some(after.to_owned()), name.to_owned()),
            None => (None, name),
        };
        let armed = AtomicBool::new(after.is_none());
        Some(Self { after, name, time, passed: AtomicU64::new(0), armed })
    }

    fn is_now(&self, name: &str) -> bool {
        if self.after.as_deref() == Some(name) {
            self.armed.store(true, Ordering::SeqCst);
        }
        self.armed.load(Ordering::SeqCst)
            && self.name == name
            && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.time
    }
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

fn plan() -> Option<&'static Plan> {
    if !cfg!(debug_assertions) {
        return None;
    }
    PLAN.get_or_init(|| {
        let (crash, stop) = (At::named_by("MIDWATCH_CRASH_AT"), At::named_by("MIDWATCH_STOP_AT"));
        let log = std::env::var_os("MIDWATCH_CRASH_LOG").map(PathBuf::from);
        (crash.is_some() || stop.is_some() || log.is_some()).then_some(Plan { crash, stop, log })
    })
    .as_ref()
}

/// Whether anybody listens: composing a name costs more than asking.
pub fn is_armed() -> bool {
    plan().is_some()
}

pub fn point(name: &str) {
    let Some(plan) = plan() else { return };
    if let Some(log) = &plan.log {
        let file = std::fs::File::options().create(true).append(true).open(log);
        // One write of one line: appends of several tasks do not mix.
        let _ = file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes()));
    }
    if plan.stop.as_ref().is_some_and(|at| at.is_now(name)) {
        // To this thread: sent to the process, another one might take it, and this one go on meanwhile.
        let _ = raise(Signal::SIGSTOP);
    }
    if plan.crash.as_ref().is_some_and(|at| at.is_now(name)) {
        let _ = kill(Pid::this(), Signal::SIGKILL);
        // The signal is delivered before anything that this thread could still do is seen outside.
        loop {
            std::thread::park();
        }
    }
}
