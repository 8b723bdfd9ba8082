//! What the name of an alert says of its kind: that a thing is broken in itself, or that others are served badly.
//!
//! General words of operations, in the name that the rule's author chose. A crash, a full disk or an
//! expired certificate begins where it is noticed; latency and errors travel.

use std::hash::Hasher as _;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};

/// What a name says, read once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its subject is broken in itself.
    pub cause: bool,
    /// Names are not resolved, for its subject or by it.
    pub of_dns: bool,
    /// Tells it from other names; 0 is none.
    pub number: u32,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    read: FxHashMap<Arc<str>, Kind>,
}

/// The same whenever the name is read. That of two names is equal once in thousands of millions.
fn number(name: &str) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    (hasher.finish() >> 32) as u32 | 1
}

/// Beyond it all are read anew.
const MAX_NAMES: usize = 5_000;

impl Names {
    /// The name, to be kept, and what it says.
    pub fn read(&mut self, name: &str) -> (Arc<str>, Kind) {
        if let Some((known, kind)) = self.read.get_key_value(name) {
            return (known.clone(), *kind);
        }
        if self.read.len() >= MAX_NAMES {
            self.read.clear();
        }
        let cause = is_cause(name);
        // What is out of order in zones and records is not that names are not resolved.
        let of_dns = is_of_dns(name) && !cause && !is_chore(name);
        let kind = Kind { cause, of_dns, number: number(name) };
        let known: Arc<str> = name.into();
        self.read.insert(known.clone(), kind);
        (known, kind)
    }
}

/// Beginnings of words for what begins where it is noticed. Connections are not among them: callers use them up.
const CAUSES: [&str; 34] = [
    "crash",
    "restart",
    "oom",
    "memory",
    "disk",
    "volume",
    "filesystem",
    "inode",
    "cert",
    "replica",
    "replication",
    "underreplicated",
    "steal",
    "throttl",
    "cpu",
    "load",
    "evict",
    "raid",
    "kernel",
    "quota",
    "unschedulable",
    "deadlock",
    "corrupt",
    "power",
    "temperature",
    "packet",
    "unreachable",
    "mismatch",
    "vacuum",
    "full",
    "notready",
    "reboot",
    "deploy",
    "rollout",
];
/// Beginnings of words for what users or callers notice. They count more: `MemoryErrors` are rare.
const EFFECTS: [&str; 17] = [
    "latency",
    "error",
    "slo",
    "sla",
    "budget",
    "burn",
    "probe",
    "synthetic",
    "timeout",
    "pending",
    "response",
    "journey",
    "5xx",
    "refused",
    "upstream",
    "retries",
    "availability",
];
/// Beginnings of words for what comes about over days and is dealt with by day.
const CHORES: [&str; 11] =
    ["expir", "renew", "backup", "clock", "ntp", "inode", "disk", "filesystem", "licen", "deprecat", "update"];
/// What is down by itself.
const MACHINES: [&str; 10] =
    ["host", "node", "instance", "target", "broker", "machine", "server", "switch", "link", "interface"];

/// The words of a name in camel case, or with separators.
pub(in crate::domain) fn words(name: &str) -> impl Iterator<Item = &str> {
    let bytes = name.as_bytes();
    let mut start = 0;
    let mut ends = (1..=bytes.len()).filter(move |at| {
        let (before, here) = (bytes[at - 1], bytes.get(*at).copied().unwrap_or(b' '));
        let after = bytes.get(at + 1).copied().unwrap_or(b' ');
        !here.is_ascii_alphanumeric()
            || !before.is_ascii_alphanumeric()
            || before.is_ascii_lowercase() && here.is_ascii_uppercase()
            || before.is_ascii_uppercase() && here.is_ascii_uppercase() && after.is_ascii_lowercase()
    });
    std::iter::from_fn(move || {
        let end = ends.next()?;
        let word = name.get(start..end);
        start = end;
        Some(word.unwrap_or_default())
    })
}

pub(in crate::domain) fn begins(word: &str, with: &str) -> bool {
    word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

/// Whether the name says that a machine is gone, with all that runs on it. A `RabbitMQNodeDown` is no machine.
pub fn is_machine_down(name: &str) -> bool {
    let (mut machine, mut of_software, mut not) = (false, false, false);
    words(name).filter(|word| word.starts_with(|first: char| first.is_ascii_alphanumeric())).any(|word| {
        let gone = machine
            && (["down", "unreachable", "lost"].iter().any(|gone| begins(word, gone)) || not && begins(word, "ready"));
        let node = begins(word, "node") && !of_software;
        machine |= node || ["host", "machine", "server", "hypervisor"].iter().any(|machine| begins(word, machine));
        of_software |= !begins(word, "kube");
        not |= word.eq_ignore_ascii_case("not");
        gone
    })
}

/// Whether the name says that it is about a machine.
pub fn is_of_machine(name: &str) -> bool {
    let mut words = words(name).filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()));
    let first = words.find(|word| !begins(word, "kube"));
    let machine =
        ["node", "host", "machine"].iter().any(|one| first.is_some_and(|word| word.eq_ignore_ascii_case(one)));
    // Node.js is no machine.
    machine && !words.next().is_some_and(|word| word.eq_ignore_ascii_case("js"))
}

/// Whether the name says that its subject is broken in itself.
pub fn is_cause(name: &str) -> bool {
    let (mut cause, mut machine, mut not) = (false, false, false);
    for word in words(name) {
        if EFFECTS.iter().any(|effect| begins(word, effect)) {
            return false;
        }
        cause |= CAUSES.iter().any(|cause| begins(word, cause))
            // A pod is not ready when what it needs is not.
            || machine && (begins(word, "down") || not && begins(word, "ready"));
        machine |= MACHINES.iter().any(|machine| begins(word, machine));
        not |= word.eq_ignore_ascii_case("not");
    }
    cause
}

/// Whether the name says what came about over days: nobody needs a message for each of many.
pub fn is_chore(name: &str) -> bool {
    words(name).any(|word| CHORES.iter().any(|chore| begins(word, chore)))
}

/// Whether the name says that its subject works hard: it may do so because of others.
pub fn is_strain(name: &str) -> bool {
    words(name).any(|word| ["cpu", "throttl", "load"].iter().any(|strain| begins(word, strain)))
}

/// Whether the name says that its subject cannot be reached or is not there.
pub fn is_gone(name: &str) -> bool {
    const GONE: [&str; 8] =
        ["down", "unreachable", "missing", "lost", "absent", "disconnected", "partition", "offline"];
    words(name).any(|word| GONE.iter().any(|gone| word.eq_ignore_ascii_case(gone)))
}

/// Whether the name of a service says that it resolves names, and nothing else: `dns-admin` does not.
pub fn is_resolver(name: &str) -> bool {
    const RESOLVERS: [&str; 5] = ["dns", "coredns", "kubedns", "dnsmasq", "nodelocaldns"];
    const AND: [&str; 14] = [
        "kube",
        "core",
        "node",
        "local",
        "nodelocal",
        "cluster",
        "internal",
        "cache",
        "resolver",
        "recursor",
        "server",
        "service",
        "svc",
        "name",
    ];
    // Every new subject is asked, and hardly one is.
    if !name.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"dns")) {
        return false;
    }
    let within = |word: &str, list: &[&str]| list.iter().any(|one| word.eq_ignore_ascii_case(one));
    let mut said = words(name).filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()));
    let mut one = false;
    said.all(|word| {
        let resolver = within(word, &RESOLVERS);
        one |= resolver;
        resolver || within(word, &AND)
    }) && one
}

/// Whether the name is about looking up names. `external-dns` writes them for others.
pub fn is_of_dns(name: &str) -> bool {
    let mut before = "";
    words(name).filter(|word| word.starts_with(|first: char| first.is_ascii_alphanumeric())).any(|word| {
        let looks_up =
            before.eq_ignore_ascii_case("name") && ["resolution", "lookup"].iter().any(|one| begins(word, one));
        let dns = ["dns", "coredns", "kubedns"].iter().any(|one| word.eq_ignore_ascii_case(one));
        let written = before.eq_ignore_ascii_case("external");
        before = word;
        looks_up || dns && !written
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_once_and_the_memory_for_it_is_bounded() {
        let mut names = Names::default();
        let (first, again) = (names.read("DiskFull"), names.read("DiskFull"));
        assert!(Arc::ptr_eq(&first.0, &again.0) && first.1.cause && first.1 == again.1);
        for number in 0..2 * MAX_NAMES {
            assert!(!names.read(&format!("Slow{number}")).1.cause);
        }
        assert!(names.read.len() <= MAX_NAMES && names.read("DiskFull").1.cause);
        // Forgotten and read again, it is the same kind.
        assert_eq!(names.read("DiskFull").1, first.1);
    }

    #[test]
    fn names_of_name_resolution_are_known() {
        for name in [
            "CoreDNSErrorsHigh",
            "DNSLookupFailures",
            "coredns",
            "kube-dns",
            "NodeLocalDNSErrors",
            "NameResolutionFailing",
        ] {
            assert!(is_of_dns(name), "{name}");
        }
        for name in ["coredns", "kube-dns", "node-local-dns", "CoreDNS", "coredns-2"] {
            assert!(is_resolver(name), "{name}");
        }
        for name in ["dns-admin", "external-dns", "coredns-autoscaler", "name-service", "cluster", ""] {
            assert!(!is_resolver(name), "{name}");
        }
        for name in
            ["external-dns", "ExternalDNSSyncFailing", "ConflictResolutionSlow", "HighErrorRate", "name-service"]
        {
            assert!(!is_of_dns(name), "{name}");
        }
    }

    #[test]
    fn causes_and_effects_are_told_apart() {
        for name in
            ["KubePodCrashLooping", "ContainerOOMKilled", "ReplicationLag", "HostDown", "node not ready", "High_CPU"]
        {
            assert!(is_cause(name), "{name}");
        }
        for name in
            ["HighErrorRate", "ServiceDown", "SLOErrorBudgetBurn", "LatencyP99High", "ConsumerGroupLag", "RoomDown"]
        {
            assert!(!is_cause(name), "{name}");
        }
        assert!(
            is_machine_down("HostUnreachable")
                && is_machine_down("KubeNodeDown")
                && is_machine_down("KubeNodeNotReady")
                && !is_machine_down("RabbitMQNodeDown")
        );
        assert_eq!(words("KubePodOOMKilled on db").collect::<Vec<_>>().join("|"), "Kube|Pod|OOM|Killed| |on| |db");
    }
}
