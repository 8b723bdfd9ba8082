//! Whether a sentence says what its evidence says: its numbers and names must occur there.
//!
//! Deliberately coarse. It catches the invented value, the wrong unit, the value of something else and the
//! invented component, which are what a person would act on; it does not judge the logic of a sentence.

use std::collections::BTreeSet;

use super::quantity::{Kind, Quantity, Unit, quantities};
use crate::domain::evidence::{Evidence, EvidenceKind, Series};

/// Why the claim does not hold, as one sentence; `None`: it does.
pub(super) fn objection(claim: &str, cited: &[&Evidence], known: &BTreeSet<String>) -> Option<String> {
    let named: Vec<&String> = known.iter().filter(|name| mentions(claim, name)).collect();
    let exhibits: Vec<Exhibit> = cited.iter().map(|item| Exhibit::of(item, claim, &named)).collect();
    for quantity in quantities(claim) {
        let standing = exhibits.iter().map(|exhibit| exhibit.standing_of(&quantity, known)).max();
        match standing.unwrap_or(Standing::Nowhere) {
            Standing::Here => {}
            Standing::Elsewhere => {
                return Some(format!("{quantity} stands beside something else in the evidence that is cited"));
            }
            Standing::Nowhere => return Some(format!("{quantity} does not occur in the evidence that is cited")),
        }
    }
    for name in named.into_iter().cloned().chain(identifiers(claim)) {
        if !names_in_evidence(cited, &name) {
            return Some(format!("{name:?} does not occur in the evidence that is cited"));
        }
    }
    None
}

/// Where a number of a claim stands in what it cites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Nowhere,
    /// Only beside names that the claim does not speak of.
    Elsewhere,
    Here,
}

/// A piece of evidence as one claim reads it.
struct Exhibit<'a> {
    lines: Vec<Line<'a>>,
    series: Vec<(&'a Series, Vec<Quantity>)>,
    /// Those names of the claim that stand in some of the lines and so tell them apart.
    names: Vec<&'a str>,
    /// The signals that the claim speaks of, likewise.
    signals: BTreeSet<&'a str>,
}

struct Line<'a> {
    text: &'a str,
    values: Vec<Quantity>,
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Self {
        let unit = signal_of(text).and_then(|(_, unit)| Unit::of_signal(unit));
        Self { text, values: quantities(text).into_iter().map(|value| value.or_unit(unit)).collect() }
    }

    fn shows(&self, quantity: &Quantity) -> bool {
        match quantity {
            Quantity::Clock(time) => self.text.contains(time.as_str()),
            Quantity::Number { .. } => self.values.iter().any(|value| value.agrees_with(quantity)),
        }
    }
}

impl<'a> Exhibit<'a> {
    fn of(item: &'a Evidence, claim: &str, named: &[&'a String]) -> Self {
        let lines: Vec<Line> = item.body.lines().chain([item.summary.as_str()]).map(Line::of).collect();
        let of_item = unit_of(item, &lines);
        let series = item.series.iter().map(|series| {
            let own = series.label("signal").and_then(|signal| {
                let line = lines.iter().find_map(|line| signal_of(line.text).filter(|(name, _)| *name == signal));
                Unit::of_signal(line?.1)
            });
            (series, ends_of(series).into_iter().map(|value| value.or_unit(own.or(of_item))).collect())
        });
        let series = series.collect();
        let (mut names, mut signals) = (vec![], BTreeSet::new());
        if has_subjects(item.kind) {
            names = named.iter().map(|name| name.as_str()).filter(|name| mentions(&item.body, name)).collect();
            let told = lines.iter().filter_map(|line| signal_of(line.text));
            signals = told.map(|(signal, _)| signal).filter(|signal| speaks_of_signal(claim, signal)).collect();
        }
        Self { lines, series, names, signals }
    }

    fn standing_of(&self, quantity: &Quantity, known: &BTreeSet<String>) -> Standing {
        let mut standing = Standing::Nowhere;
        for line in self.lines.iter().filter(|line| line.shows(quantity)) {
            // When something began is said of one signal; what is measured has its unit to tell it apart.
            let others = matches!(quantity, Quantity::Clock(_)) && self.is_of_other_signal(line.text);
            if !others && !self.is_of_others(|name| mentions(line.text, name), known) {
                return Standing::Here;
            }
            standing = Standing::Elsewhere;
        }
        for (series, values) in &self.series {
            if !values.iter().any(|value| value.agrees_with(quantity)) {
                continue;
            }
            if !self.is_of_others(|name| series.labels.values().any(|value| mentions(value, name)), known) {
                return Standing::Here;
            }
            standing = Standing::Elsewhere;
        }
        standing
    }

    /// Whether what speaks of these speaks of other services than the claim does.
    fn is_of_others(&self, speaks_of: impl Fn(&str) -> bool, known: &BTreeSet<String>) -> bool {
        !self.names.is_empty()
            && !self.names.iter().any(|name| speaks_of(name))
            && known.iter().any(|name| speaks_of(name))
    }

    fn is_of_other_signal(&self, line: &str) -> bool {
        !self.signals.is_empty() && signal_of(line).is_some_and(|(signal, _)| !self.signals.contains(signal))
    }
}

/// In what our own adapters wrote each line is about one thing; a log or a manifest goes over many lines.
fn has_subjects(kind: EvidenceKind) -> bool {
    match kind {
        EvidenceKind::Metric | EvidenceKind::Kubernetes | EvidenceKind::Change | EvidenceKind::Alert => true,
        EvidenceKind::Log | EvidenceKind::Trace | EvidenceKind::Database | EvidenceKind::Probe => false,
        EvidenceKind::Outside | EvidenceKind::Topology | EvidenceKind::Runbook | EvidenceKind::PastIncident => false,
    }
}

/// Name and unit of the signal that a line of a digest is about: `errors (ratio) first=0.01 ...`
fn signal_of(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(" (")?;
    let (unit, rest) = rest.split_once(')')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name && rest.starts_with(" first=")).then_some((name, unit))
}

/// `errors` of "its error ratio rose". Requests are what everything else is said of.
fn speaks_of_signal(claim: &str, signal: &str) -> bool {
    let claim = claim.to_lowercase();
    let words: Vec<&str> = claim.split(|c: char| !c.is_alphanumeric()).collect();
    let parts = signal.split('_').filter(|part| part.len() >= 3 && !matches!(*part, "requests" | "not"));
    parts.map(|part| part.trim_end_matches('s')).any(|part| words.iter().any(|word| word.starts_with(part)))
}

/// The unit of the series' bare numbers: the query tells it, or all that is said of them has one kind.
fn unit_of(item: &Evidence, lines: &[Line]) -> Option<Unit> {
    if item.query.contains("histogram_quantile") && item.query.contains("_seconds_bucket") {
        return Some(Unit::base(Kind::Time));
    }
    let units = lines.iter().flat_map(|line| &line.values).filter_map(|value| match value {
        Quantity::Number { unit, .. } => unit.map(|unit| unit.kind),
        Quantity::Clock(_) => None,
    });
    let kinds: BTreeSet<Kind> = units.filter(|kind| *kind != Kind::Many).collect();
    let only = kinds.first().copied()?;
    (kinds.len() == 1).then(|| Unit::base(only))
}

/// Whether the words stand in one of them, whatever the spaces and the case.
pub(super) fn is_quoted(quote: &str, cited: &[&Evidence]) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let quote = plain(quote);
    cited.iter().any(|item| plain(&item.body).contains(&quote) || plain(&item.summary).contains(&quote))
}

/// Longest stretch of lines that is named as the place of a claim.
const STRETCH: usize = 5;
const MAX_LINES: usize = 5_000;

/// The lines of the evidence, counted from 1, that carry most of what the claim says: its numbers,
/// its times and its words. `None`: nothing of it stands in one place.
pub(super) fn lines(claim: &str, item: &Evidence) -> Option<(usize, usize)> {
    let numbers = quantities(claim);
    let words: BTreeSet<String> = claim
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_' || c == '.'))
        .filter(|word| word.chars().count() >= 4)
        .map(str::to_lowercase)
        .collect();
    let weights: Vec<f64> = item
        .body
        .lines()
        .take(MAX_LINES)
        .map(|text| {
            let line = Line::of(text);
            let shown = numbers.iter().filter(|number| line.shows(number));
            let lower = text.to_lowercase();
            // A number says more than a word, which may stand anywhere.
            2.0 * shown.count() as f64 + words.iter().filter(|word| lower.contains(word.as_str())).count() as f64
        })
        .collect();
    let best = weights.iter().copied().fold(0.0, f64::max);
    if best < 2.0 {
        return None;
    }
    let first = weights.iter().position(|weight| *weight >= best)?;
    // Neighbours that say nearly as much belong to it.
    let belongs = |at: usize| weights.get(at).is_some_and(|weight| *weight >= best * 0.75);
    let last = (first..first + STRETCH).take_while(|at| belongs(*at)).last().unwrap_or(first);
    Some((first + 1, last + 1))
}

/// The query counts for names (it is the scope of the answer), never for numbers.
pub(super) fn names_in_evidence(cited: &[&Evidence], name: &str) -> bool {
    cited.iter().any(|item| {
        mentions(&item.summary, name)
            || mentions(&item.body, name)
            || mentions(&item.query, name)
            || item.series.iter().any(|series| series.labels.values().any(|value| mentions(value, name)))
    })
}

/// As a whole word: `cart` is not in `cartoon`, but it is in `cart-7f9c`.
pub fn mentions(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    if name.is_empty() {
        return false;
    }
    let outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.match_indices(&name)
        .any(|(at, found)| outside(text[..at].chars().next_back()) && outside(text[at + found.len()..].chars().next()))
}

/// Words that can only be names of things: in backticks, with an underscore, or hyphenated with a
/// digit (`cart-7f9c`). Plain English with hyphens is not one of them.
fn identifiers(claim: &str) -> Vec<String> {
    let quoted = claim.split('`').skip(1).step_by(2).map(str::trim);
    let words = claim
        .split(|c: char| c.is_whitespace() || "`,;()[]\"'".contains(c))
        .map(|word| word.trim_matches(|c: char| ".:!?".contains(c)));
    let is_name = |word: &&str| {
        let starts_as_name = word.starts_with(|c: char| c.is_ascii_alphabetic());
        let hyphenated = word.contains('-') && word.contains(|c: char| c.is_ascii_digit());
        starts_as_name && (word.contains('_') || hyphenated)
    };
    let quoted = quoted.filter(|word| !word.is_empty() && quantities(word).is_empty());
    quoted.chain(words.filter(is_name)).map(str::to_owned).collect()
}

/// The least, the greatest and the last value: what is said of a series.
fn ends_of(series: &Series) -> Vec<Quantity> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in series.values() {
        (low, high) = (low.min(value), high.max(value));
    }
    let number = |value: f64| Quantity::Number { value, unit: None, decimals: 6 };
    [low, high].into_iter().chain(series.last()).filter(|value| value.is_finite()).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::evidence::Taint;
    use crate::domain::id::{Digest, IncidentId};
    use crate::domain::time::Timestamp;

    fn check(claim: &str, evidence: &str, expected: expect_test::Expect) {
        let line = Line::of(evidence);
        let lost = quantities(claim).into_iter().find(|quantity| !line.shows(quantity));
        expected.assert_eq(&lost.map_or("holds".to_owned(), |quantity| quantity.to_string()));
    }

    fn metric(summary: &str, body: &str, series: Vec<Series>) -> Evidence {
        let incident = IncidentId::numbered(1);
        Evidence {
            id: incident.evidence(1),
            incident,
            kind: EvidenceKind::Metric,
            source: "prometheus".into(),
            query: "golden signals of session".into(),
            summary: summary.into(),
            body: body.into(),
            series,
            digest: Digest::of(body.as_bytes()),
            observed_at: Timestamp::from_secs(1),
            taint: Taint::Observed,
            found: true,
        }
    }

    fn point(labels: &[(&str, &str)], value: f64) -> Series {
        let labels = labels.iter().map(|(name, of)| ((*name).to_owned(), (*of).to_owned())).collect();
        Series { labels, points: vec![(Timestamp::from_secs(1), value)] }
    }

    /// What a claim about this evidence meets; `-`: nothing.
    fn met(claims: &[&str], evidence: &Evidence) -> String {
        let known = ["authentication", "session"].map(str::to_owned).into();
        let one = |claim: &&str| objection(claim, &[evidence], &known).unwrap_or_else(|| "-".to_owned());
        claims.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_unit_that_is_not_that_of_the_evidence_is_found() {
        let last = |signal: &str, value: f64| point(&[("service", "session"), ("signal", signal)], value);
        let body = "latency_p99 (s) first=0.21 min=0.2 max=8.773 mean=4 last=8.773 differs since 02:03:10\n\
                    errors (ratio) first=0 min=0 max=0.7272 mean=0.3 last=0.7272 differs since 02:03:20\n\
                    memory (bytes) first=104857600 min=104857600 max=524288000 mean=2 last=524288000 differs since \
                    02:05:47";
        let golden = metric(
            "3 signals of session, 02:00 to 03:00",
            body,
            vec![last("latency_p99", 8.773), last("errors", 0.7272)],
        );
        let claims = [
            "latency of session is only 8.773 ms",
            "latency of session is 8.773 s, that is 8773 ms",
            "error ratio is 0.7272 %",
            "session fails 72.7 % of requests since 02:03:20",
            "session holds 500 MiB",
            "errors began at 02:05:47",
            "memory of session grows since 02:05:47",
        ];
        expect_test::expect![[r#"
            8.773 does not occur in the evidence that is cited
            -
            0.7272 does not occur in the evidence that is cited
            -
            -
            02:05:47 stands beside something else in the evidence that is cited
            -"#]]
        .assert_eq(&met(&claims, &golden));
    }

    #[test]
    fn a_number_of_another_service_is_found() {
        let body = "session latency_p99: 8.77 s (usual 210 ms), 40.1 deviations, since 02:03:10\n\
                    authentication latency_p99: 3.20 s (usual 180 ms), 12.0 deviations, since 02:04:30";
        let series = |service: &str, value: f64| point(&[("service", service)], value);
        let both = metric(
            "latency p99: session latency_p99: 8.77 s (usual 210 ms)",
            body,
            vec![series("session", 8.77), series("authentication", 3.2)],
        );
        let claims = [
            "authentication answers after 8.77 s",
            "authentication answers after 3.2 s since 02:04:30",
            "authentication was slow since 02:03:10",
            "session is at 8.77 s, authentication at 3.2 s",
            "session is at 8.77 ms",
        ];
        expect_test::expect![[r#"
            8.77 stands beside something else in the evidence that is cited
            -
            02:03:10 stands beside something else in the evidence that is cited
            -
            8.77 does not occur in the evidence that is cited"#]]
        .assert_eq(&met(&claims, &both));
    }

    #[test]
    fn people_round_and_change_units() {
        check("errors rose to 37 % at 02:17", "ratio max=0.3712 onset 02:17:30", expect_test::expect!["holds"]);
        check("p99 is 2.1 s", "p99 last=2.1349", expect_test::expect!["holds"]);
        check("p99 is 350 ms", "last=0.3502 s", expect_test::expect!["holds"]);
        check("1.5 GiB of heap", "last=1610612736", expect_test::expect!["holds"]);
        check("pool grew from 20 to 200", "DB_POOL_MAX: 20 -> 200", expect_test::expect!["holds"]);
        check("about 1,200 requests", "last=1203", expect_test::expect!["holds"]);
    }

    #[test]
    fn an_invented_number_is_found() {
        check("errors rose to 47 %", "ratio max=0.3712", expect_test::expect!["47"]);
        check("since 02:18", "onset 02:17:30", expect_test::expect!["02:18"]);
        check("revision 8", "session revision 7", expect_test::expect!["8"]);
    }

    #[test]
    fn names_of_things_are_told_from_plain_words() {
        assert_eq!(
            identifiers("`cart` on cart-7f9c lost http_requests, long-running"),
            ["cart", "cart-7f9c", "http_requests"]
        );
    }
}
