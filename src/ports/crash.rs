//! Where a test may end this process, as a power cut would: between any two steps whose order matters.
//!
//! `MIDWATCH_CRASH_AT=name` or `name:3` ends it with SIGKILL when the point is passed (for the third
//! time); `MIDWATCH_CRASH_LOG=FILE` appends the name of every point that is passed. Builds without
//! debug assertions have no such points.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Plan {
    at: Option<(String, u64)>,
    passed: AtomicU64,
    log: Option<PathBuf>,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

fn plan() -> Option<&'static Plan> {
    if !cfg!(debug_assertions) {
        return None;
    }
    PLAN.get_or_init(|| {
        let at = std::env::var("MIDWATCH_CRASH_AT").ok().filter(|at| !at.is_empty());
        let at = at.map(|at| match at.split_once(':') {
            Some((name, times)) => (name.to_owned(), times.parse().unwrap_or(1)),
            None => (at, 1),
        });
        let log = std::env::var_os("MIDWATCH_CRASH_LOG").map(PathBuf::from);
        (at.is_some() || log.is_some()).then(|| Plan { at, passed: AtomicU64::new(0), log })
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
    let Some((at, times)) = &plan.at else { return };
    if at == name && plan.passed.fetch_add(1, Ordering::SeqCst) + 1 == *times {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        // The signal is delivered before anything that this thread could still do is seen outside.
        loop {
            std::thread::park();
        }
    }
}
