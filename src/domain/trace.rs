//! What a trace says: where the time went, and where an error began.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

/// The spans of one request, in any order, perhaps not all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub id: String,
    pub spans: Vec<Span>,
}

/// Times in microseconds, on the clock of whoever made the span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub id: String,
    pub parent: Option<String>,
    pub service: String,
    pub operation: String,
    /// Since 1970.
    pub start_us: i64,
    pub duration_us: i64,
    /// What went wrong, in the application's words; `Some("")` when it only says that something did.
    pub error: Option<String>,
    /// The other end where it makes no spans of its own: a database, a queue, somebody else's API.
    pub peer: Option<String>,
}

impl Span {
    pub fn end_us(&self) -> i64 {
        self.start_us.saturating_add(self.duration_us.max(0))
    }

    pub fn place(&self) -> Place {
        let operation = match &self.peer {
            Some(peer) => format!("{} (to {peer})", self.operation),
            None => self.operation.clone(),
        };
        Place { service: self.service.clone(), operation }
    }
}

/// Where in the code time goes or an error begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub service: String,
    pub operation: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.service, self.operation)
    }
}

impl Trace {
    /// The span that nobody in the trace called, the earliest of them when there are several.
    pub fn root(&self) -> Option<&Span> {
        self.roots().first().map(|at| &self.spans[*at])
    }

    /// Of the root; a trace whose root is missing is as long as what is there.
    pub fn duration_us(&self) -> i64 {
        let start = self.spans.iter().map(|span| span.start_us).min().unwrap_or_default();
        match (self.roots().len(), self.root()) {
            (1, Some(root)) => root.duration_us,
            _ => self.spans.iter().map(Span::end_us).max().unwrap_or_default() - start,
        }
    }

    pub fn failed(&self) -> bool {
        self.spans.iter().any(|span| span.error.is_some())
    }

    /// Microseconds of each span's own time on the critical path: what the request would have been
    /// faster by, had the span taken no time. From the end of a span backwards, the child that ends
    /// last is what was waited for; before it began, the one that had ended last until then; the
    /// gaps are the span's own (Zhang et al., CRISP, USENIX ATC 2022).
    pub fn critical_path(&self) -> BTreeMap<usize, i64> {
        let children = self.children();
        let mut own = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut open: Vec<(usize, i64)> = self.roots().into_iter().take(1).map(|at| (at, i64::MAX)).collect();
        while let Some((at, bound)) = open.pop() {
            if !seen.insert(at) {
                continue;
            }
            let span = &self.spans[at];
            let mut until = span.end_us().min(bound);
            let mut called: Vec<usize> = children.get(&at).cloned().unwrap_or_default();
            called.sort_by_key(|child| std::cmp::Reverse((self.spans[*child].end_us(), *child)));
            let mut self_time = 0;
            for child in called {
                let child_span = &self.spans[child];
                // It went on after the parent, or beside what was waited for already.
                if child_span.start_us >= until {
                    continue;
                }
                let ended = child_span.end_us().min(until);
                if ended <= span.start_us {
                    break;
                }
                self_time += until - ended;
                open.push((child, ended));
                until = child_span.start_us.max(span.start_us);
            }
            self_time += (until - span.start_us).max(0);
            own.insert(at, self_time);
        }
        own
    }

    /// Failed spans none of whose children failed: further up they are only passed on.
    pub fn error_origins(&self) -> Vec<&Span> {
        let children = self.children();
        let failed = |at: &usize| self.spans[*at].error.is_some();
        (0..self.spans.len())
            .filter(failed)
            .filter(|at| !children.get(at).is_some_and(|children| children.iter().any(failed)))
            .map(|at| &self.spans[at])
            .collect()
    }

    /// Spans with their depth, parents before children, in the order of time.
    pub fn waterfall(&self) -> Vec<(usize, usize)> {
        let children = self.children();
        let mut rows = vec![];
        let mut seen = BTreeSet::new();
        let mut open: Vec<(usize, usize)> = self.roots().into_iter().rev().map(|at| (at, 0)).collect();
        while let Some((at, depth)) = open.pop() {
            if !seen.insert(at) {
                continue;
            }
            rows.push((at, depth));
            let mut called = children.get(&at).cloned().unwrap_or_default();
            called.sort_by_key(|child| std::cmp::Reverse((self.spans[*child].start_us, *child)));
            open.extend(called.into_iter().map(|child| (child, depth + 1)));
        }
        rows
    }

    fn roots(&self) -> Vec<usize> {
        let ids: BTreeSet<&str> = self.spans.iter().map(|span| span.id.as_str()).collect();
        let mut roots: Vec<usize> = (0..self.spans.len())
            .filter(|at| {
                let span = &self.spans[*at];
                span.parent.as_deref().is_none_or(|parent| parent == span.id || !ids.contains(parent))
            })
            .collect();
        roots.sort_by_key(|at| (self.spans[*at].start_us, std::cmp::Reverse(self.spans[*at].duration_us), *at));
        roots
    }

    fn children(&self) -> HashMap<usize, Vec<usize>> {
        let mut by_id: HashMap<&str, usize> = HashMap::new();
        for (at, span) in self.spans.iter().enumerate() {
            by_id.entry(&span.id).or_insert(at);
        }
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, span) in self.spans.iter().enumerate() {
            let parent = span.parent.as_deref().and_then(|parent| by_id.get(parent)).copied();
            if let Some(parent) = parent.filter(|parent| *parent != at) {
                children.entry(parent).or_default().push(at);
            }
        }
        children
    }
}

/// Where the time of several requests went and where their errors began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    pub traces: usize,
    pub failed: usize,
    /// Of the requests, in microseconds, ascending.
    pub durations: Vec<i64>,
    /// Own time on the critical path in microseconds, of all requests together.
    pub time: BTreeMap<Place, i64>,
    /// How often an error began there, and one of its messages.
    pub errors: BTreeMap<Place, (usize, String)>,
}

impl Profile {
    pub fn of(traces: &[Trace]) -> Self {
        let mut profile = Self { traces: traces.len(), ..Self::default() };
        for trace in traces {
            profile.durations.push(trace.duration_us());
            profile.failed += usize::from(trace.failed());
            for (at, own) in trace.critical_path() {
                *profile.time.entry(trace.spans[at].place()).or_default() += own;
            }
            for origin in trace.error_origins() {
                let entry = profile.errors.entry(origin.place()).or_default();
                entry.0 += 1;
                if entry.1.is_empty() {
                    entry.1 = origin.error.clone().unwrap_or_default();
                }
            }
        }
        profile.durations.sort_unstable();
        profile
    }

    /// Microseconds.
    pub fn median(&self) -> Option<i64> {
        self.durations.get(self.durations.len() / 2).copied()
    }

    /// Microseconds a request at each place, here and usually, what was added most first.
    pub fn added_to(&self, usual: &Self) -> Vec<(Place, i64, i64)> {
        let mean = |profile: &Self, place: &Place| match profile.traces {
            0 => 0,
            traces => profile.time.get(place).copied().unwrap_or_default() / traces as i64,
        };
        let mut added: Vec<_> =
            self.time.keys().map(|place| (place.clone(), mean(self, place), mean(usual, place))).collect();
        added.sort_by(|one, other| (other.1 - other.2).cmp(&(one.1 - one.2)).then_with(|| one.0.cmp(&other.0)));
        added
    }

    pub fn errors_by_count(&self) -> Vec<(&Place, usize, &str)> {
        let mut errors: Vec<_> =
            self.errors.iter().map(|(place, (count, text))| (place, *count, text.as_str())).collect();
        errors.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0)));
        errors
    }
}

/// What requests say of one service (or of something silent that services call): how many of them went
/// wrong there rather than further down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blame {
    pub node: String,
    /// Failing requests whose error begins there, and those in which it only passed one on.
    pub begins: usize,
    pub passes: usize,
    pub failing: usize,
    /// Microseconds a request that its own steps take more than usual, and what all steps take more.
    pub added_us: i64,
    pub added_in_all_us: i64,
}

/// Fewer failing requests say nothing of where errors come from.
const FAILING: usize = 3;
/// A request that takes less than this many times the usual is not slow.
const SLOW: i64 = 2;

impl Blame {
    /// 0 to 1: of the failing requests and of the time that was added, the larger share.
    pub fn share(&self) -> f64 {
        let of = |part: f64, whole: f64| if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
        let errors = if self.failing >= FAILING { of(self.begins as f64, self.failing as f64) } else { 0.0 };
        errors.max(of(self.added_us as f64, self.added_in_all_us as f64))
    }

    /// 0 to 1: failing requests whose error came to it from below.
    pub fn passed(&self) -> f64 {
        if self.failing >= FAILING { self.passes as f64 / self.failing as f64 } else { 0.0 }
    }
}

/// Who is to blame for what `now` does worse than `usual`, most first. A failed call of something that
/// makes no spans of its own is held against what was called. A caller that gave up waiting has failed,
/// but what it waited for is to blame: an error counts where most of the failed step's time went.
pub fn blames(now: &[Trace], usual: &[Trace]) -> Vec<Blame> {
    let failing = now.iter().filter(|trace| trace.failed()).count();
    let mut all: BTreeMap<String, (BTreeSet<usize>, BTreeSet<usize>)> = BTreeMap::new();
    for (number, trace) in now.iter().enumerate() {
        let begins: BTreeSet<&str> = trace.error_origins().into_iter().map(|span| trace.waited_for(span)).collect();
        let failed = trace.spans.iter().filter(|span| span.error.is_some());
        for service in failed.map(|span| span.service.as_str()).filter(|service| !begins.contains(service)) {
            all.entry(service.to_owned()).or_default().1.insert(number);
        }
        for node in begins {
            all.entry(node.to_owned()).or_default().0.insert(number);
        }
    }
    let added = added_by_node(now, usual);
    let in_all = added.values().filter(|added| **added > 0).sum();
    let nodes: BTreeSet<&String> = all.keys().chain(added.keys()).collect();
    let of = |node: &String| {
        let (begins, passes) = all.get(node).map_or((0, 0), |(begins, passes)| (begins.len(), passes.len()));
        let added_us = added.get(node).copied().unwrap_or_default().max(0);
        Blame { node: node.clone(), begins, passes, failing, added_us, added_in_all_us: in_all }
    };
    let mut blames: Vec<Blame> = nodes.into_iter().map(of).collect();
    blames.sort_by(|one, other| other.share().total_cmp(&one.share()).then_with(|| one.node.cmp(&other.node)));
    blames
}

/// Microseconds a request of own time on the critical path, more than usual; empty unless requests are
/// slow at all.
fn added_by_node(now: &[Trace], usual: &[Trace]) -> BTreeMap<String, i64> {
    let (later, before) = (Profile::of(now), Profile::of(usual));
    match (later.median(), before.median()) {
        (Some(median), Some(usual)) if median >= usual.saturating_mul(SLOW) && usual > 0 => {}
        _ => return BTreeMap::new(),
    }
    let mean = |traces: &[Trace]| {
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        for trace in traces {
            for (at, own) in trace.critical_path() {
                *sums.entry(trace.spans[at].answers().to_owned()).or_default() += own;
            }
        }
        sums.values_mut().for_each(|sum| *sum /= traces.len().max(1) as i64);
        sums
    };
    let usual = mean(usual);
    mean(now)
        .into_iter()
        .map(|(node, own)| (node.clone(), own - usual.get(&node).copied().unwrap_or_default()))
        .collect()
}

impl Span {
    /// Who answers for its own time and errors: what it calls, where that makes no spans.
    fn answers(&self) -> &str {
        self.peer.as_deref().unwrap_or(&self.service)
    }
}

impl Trace {
    /// Below a failed span that itself only waited: where most of its time went.
    fn waited_for<'a>(&'a self, failed: &'a Span) -> &'a str {
        let path = self.critical_path();
        let children = self.children();
        let Some(mut at) = self.spans.iter().position(|span| span.id == failed.id) else { return failed.answers() };
        let mut seen = BTreeSet::new();
        while seen.insert(at) {
            let own = path.get(&at).copied().unwrap_or_default();
            let below = children.get(&at).into_iter().flatten().max_by_key(|child| self.spans[**child].duration_us);
            match below {
                Some(child) if self.spans[*child].duration_us / 2 > own => at = *child,
                _ => break,
            }
        }
        self.spans[at].answers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blame_goes_where_errors_begin_and_time_is_added() {
        let request = |db: i64, broken: bool| {
            let mut spans = vec![
                span("a", "", "web", 0, db + 30),
                span("b", "a", "cart", 5, db + 25),
                span("c", "b", "cart", 10, db + 10),
            ];
            spans[2].peer = Some("cart-db".into());
            if broken {
                spans.iter_mut().for_each(|span| span.error = Some("refused".into()));
            }
            Trace { id: "t".into(), spans }
        };
        let usual = vec![request(20, false); 5];
        let now: Vec<Trace> = (0..4).map(|_| request(20, true)).chain([request(20, false)]).collect();
        let told = |blames: Vec<Blame>| -> Vec<(String, usize, usize)> {
            blames.into_iter().map(|one| (one.node, one.begins, one.passes)).collect()
        };
        let blamed = blames(&now, &usual);
        assert_eq!((blamed[0].share(), blamed[0].passed()), (1.0, 0.0));
        let expected = [("cart-db".to_owned(), 4, 0), ("cart".to_owned(), 0, 4), ("web".to_owned(), 0, 4)];
        assert_eq!(told(blamed), expected);
        let slow = blames(&vec![request(900, false); 3], &usual);
        assert_eq!((slow[0].node.as_str(), slow[0].share()), ("cart-db", 1.0));
        assert!(blames(&usual, &usual).iter().all(|one| one.share() == 0.0), "nobody is blamed on a usual day");
    }

    #[test]
    fn who_gave_up_waiting_is_not_where_an_error_begins() {
        let mut gave_up = span("a", "", "web", 0, 1_000);
        gave_up.error = Some("deadline exceeded".into());
        let trace = Trace { id: "t".into(), spans: vec![gave_up, span("b", "a", "pay", 5, 995)] };
        assert_eq!(blames(&vec![trace; 3], &[])[0].node, "pay");
        let mut broke = span("a", "", "web", 0, 1_000);
        broke.error = Some("no such page".into());
        let trace = Trace { id: "t".into(), spans: vec![broke, span("b", "a", "pay", 5, 30)] };
        assert_eq!(blames(&vec![trace; 3], &[])[0].node, "web");
    }

    fn span(id: &str, parent: &str, service: &str, start: i64, end: i64) -> Span {
        Span {
            id: id.into(),
            parent: (!parent.is_empty()).then(|| parent.into()),
            service: service.into(),
            operation: "op".into(),
            start_us: start,
            duration_us: end - start,
            error: None,
            peer: None,
        }
    }

    fn check(spans: Vec<Span>, expected: &[(&str, i64)]) {
        let trace = Trace { id: "t".into(), spans };
        let own: Vec<_> =
            trace.critical_path().into_iter().map(|(at, own)| (trace.spans[at].id.as_str(), own)).collect();
        assert_eq!(own, expected);
    }

    #[test]
    fn what_ran_beside_the_slower_call_is_not_on_the_path() {
        check(
            vec![span("a", "", "web", 0, 100), span("b", "a", "cart", 10, 40), span("c", "a", "pay", 10, 90)],
            &[("a", 20), ("c", 80)],
        );
    }

    #[test]
    fn calls_one_after_the_other_are_both_on_it() {
        check(
            vec![span("a", "", "web", 0, 100), span("b", "a", "cart", 10, 40), span("c", "a", "pay", 50, 90)],
            &[("a", 30), ("b", 30), ("c", 40)],
        );
    }

    #[test]
    fn a_child_that_outlives_its_parent_counts_until_the_parent_ends() {
        check(vec![span("a", "", "web", 0, 50), span("b", "a", "mail", 40, 500)], &[("a", 40), ("b", 10)]);
        check(vec![span("a", "", "web", 0, 50), span("b", "a", "mail", 60, 500)], &[("a", 50)]);
    }

    #[test]
    fn the_path_adds_up_to_the_request() {
        let spans = vec![
            span("a", "", "web", 0, 1_000),
            span("b", "a", "cart", 5, 700),
            span("c", "b", "db", 100, 650),
            span("d", "a", "pay", 300, 990),
            span("e", "d", "bank", 310, 980),
        ];
        let trace = Trace { id: "t".into(), spans };
        assert_eq!(trace.critical_path().values().sum::<i64>(), trace.duration_us());
    }

    #[test]
    fn spans_in_a_circle_and_spans_without_parents_end() {
        let trace = Trace {
            id: "t".into(),
            spans: vec![span("a", "b", "x", 0, 10), span("b", "a", "y", 0, 10), span("c", "gone", "z", 0, 10)],
        };
        assert_eq!(trace.root().map(|span| span.id.as_str()), Some("c"));
        assert_eq!((trace.critical_path().len(), trace.waterfall().len()), (1, 1));
    }

    #[test]
    fn an_error_begins_where_no_child_failed() {
        let failed = |mut span: Span| {
            span.error = Some("refused".into());
            span
        };
        let spans = vec![
            failed(span("a", "", "web", 0, 9)),
            failed(span("b", "a", "cart", 1, 8)),
            failed(span("c", "b", "db", 2, 7)),
            span("d", "a", "pay", 1, 2),
        ];
        let trace = Trace { id: "t".into(), spans };
        assert_eq!(trace.error_origins().iter().map(|span| span.service.as_str()).collect::<Vec<_>>(), ["db"]);
        let profile = Profile::of(&[trace]);
        assert_eq!(profile.errors_by_count()[0].1, 1);
    }

    #[test]
    fn what_was_added_is_measured_against_what_is_usual() {
        let request = |db: i64| Trace {
            id: "t".into(),
            spans: vec![span("a", "", "web", 0, db + 20), span("b", "a", "db", 10, db + 10)],
        };
        let (now, usual) = (Profile::of(&[request(800), request(600)]), Profile::of(&[request(40)]));
        let added = now.added_to(&usual);
        assert_eq!((added[0].0.service.as_str(), added[0].1, added[0].2), ("db", 700, 40));
        assert_eq!((added[1].1, added[1].2), (20, 20));
    }
}
