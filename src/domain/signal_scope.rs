//! Of which clusters metrics and logs are asked: where one Prometheus or one Loki serves several, a service of the
//! same name may run in each.
//!
//! Invariants: a query within a scope differs from what was written by one matcher in each selector; a selector
//! that has a matcher for that label already is left alone; what cannot be scoped surely is refused and never
//! asked of all.

use std::borrow::Cow;
use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::{self, BinModifier, Expr, LabelModifier, VectorMatchCardinality, token};

use super::log_stream::{self, matchers_of};

/// The default asks of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignalScope {
    metrics: Option<Matcher>,
    logs: Option<Matcher>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be asked of {of} alone: {why}")]
pub struct NotScoped {
    of: String,
    why: String,
}

impl SignalScope {
    /// `metrics` and `logs`: the labels that name the cluster, where they have one. Of no cluster is of all.
    pub fn of(metrics: Option<&str>, logs: Option<&str>, clusters: &BTreeSet<&str>) -> Self {
        let one_of = |label| one_of(label, clusters);
        Self { metrics: metrics.and_then(one_of), logs: logs.and_then(one_of) }
    }

    /// Of whatever names a cluster.
    pub fn of_any(metrics: Option<&str>, logs: Option<&str>) -> Self {
        let named = |label: &str| Matcher::new(MatchOp::NotEqual, label, "");
        Self { metrics: metrics.map(named), logs: logs.map(named) }
    }

    /// The PromQL to ask, and to keep as what was asked.
    pub fn promql(&self, query: &str) -> Result<String, NotScoped> {
        let Some(only) = &self.metrics else { return Ok(query.to_owned()) };
        let refuse = |why: String| NotScoped { of: only.to_string(), why };
        let read = parser::parse(&without_raw(query));
        let mut expression = read.map_err(|why| refuse(format!("this is not valid PromQL: {why}")))?;
        if !scope(&mut expression, only) {
            return Ok(query.to_owned());
        }
        let scoped = expression.to_string();
        match parser::parse(&scoped) {
            Ok(again) if again == expression => Ok(scoped),
            // It has not everything that a query may hold in its printed form, such as an instant before 1970.
            Ok(_) | Err(_) => Err(refuse(format!("written out with it, it would be another query: {scoped}"))),
        }
    }

    /// The LogQL to ask: a query of lines, which begins with its stream selector.
    pub fn logql(&self, query: &str) -> Result<String, NotScoped> {
        let Some(only) = &self.logs else { return Ok(query.to_owned()) };
        let inside = query.trim_start().strip_prefix('{');
        let read = inside.and_then(|inside| Some((inside, matchers_of(inside)?)));
        let Some((inside, matchers)) = read else {
            return Err(NotScoped { of: only.to_string(), why: "it begins with no stream selector".to_owned() });
        };
        if matchers.iter().any(|matcher| matcher.label == only.name) {
            return Ok(query.to_owned());
        }
        let comma = if matchers.is_empty() { "" } else { ", " };
        Ok(format!("{{{only}{comma}{}", inside.trim_start()))
    }

    /// The stream selector of a service.
    pub fn streams(&self, label: &str, service: &str) -> String {
        match &self.logs {
            Some(only) if only.name != label => {
                format!("{{{label}={}, {only}}}", log_stream::quoted(service))
            }
            Some(_) | None => log_stream::selector(label, service),
        }
    }

    /// Whether a line from this cluster (`None`: its stream names none) is asked for.
    pub fn hears(&self, cluster: Option<&str>) -> bool {
        self.logs.as_ref().is_none_or(|only| only.is_match(cluster.unwrap_or_default()))
    }

    /// `cluster="eu"`, where metrics are not asked of everything.
    pub fn of_metrics(&self) -> Option<String> {
        self.metrics.as_ref().map(Matcher::to_string)
    }

    /// As `of_metrics`.
    pub fn of_logs(&self) -> Option<String> {
        self.logs.as_ref().map(Matcher::to_string)
    }
}

fn one_of(label: &str, clusters: &BTreeSet<&str>) -> Option<Matcher> {
    let first = clusters.first()?;
    let equal = || Matcher::new(MatchOp::Equal, label, first);
    if clusters.len() == 1 {
        return Some(equal());
    }
    let all: Vec<String> = clusters.iter().map(|cluster| regex::escape(cluster)).collect();
    let any = Matcher::new_matcher(token::T_EQL_REGEX, label.to_owned(), all.join("|"));
    // Only a pattern of megabytes is none; then one of them is better than all that there are.
    Some(any.unwrap_or_else(|_| equal()))
}

/// Raw strings as plain ones: the parser reads escapes in them, and Prometheus does not.
fn without_raw(query: &str) -> Cow<'_, str> {
    if !query.contains('`') {
        return Cow::Borrowed(query);
    }
    let (mut written, mut rest) = (String::with_capacity(query.len() + 8), query);
    while let Some(at) = rest.find(['`', '"', '\'', '#']) {
        let (before, from) = rest.split_at(at);
        written.push_str(before);
        rest = from;
        let inside = &from[1..];
        let length = match from.as_bytes()[0] {
            b'`' => {
                let Some(end) = inside.find('`') else { break };
                let escaped = inside[..end].replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                written.push_str(&format!("\"{escaped}\""));
                rest = &inside[end + 1..];
                continue;
            }
            b'#' => from.find('\n').unwrap_or(from.len()),
            quote => {
                let mut escaped = false;
                let end = inside.bytes().position(|byte| {
                    let ends = byte == quote && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    ends
                });
                end.map_or(from.len(), |end| end + 2)
            }
        };
        written.push_str(&from[..length]);
        rest = &from[length..];
    }
    written.push_str(rest);
    Cow::Owned(written)
}

/// Whether it was added to any selector. What is written out as nothing, because it means nothing, is left out, so
/// that what is written out reads as what it is.
fn scope(expression: &mut Expr, only: &Matcher) -> bool {
    match expression {
        Expr::VectorSelector(selector) => add(&mut selector.matchers, only),
        Expr::MatrixSelector(matrix) => add(&mut matrix.vs.matchers, only),
        Expr::Aggregate(aggregate) => {
            if matches!(&aggregate.modifier, Some(LabelModifier::Include(labels)) if labels.is_empty()) {
                aggregate.modifier = None;
            }
            let of_parameter = aggregate.param.as_mut().is_some_and(|parameter| scope(parameter, only));
            scope(&mut aggregate.expr, only) | of_parameter
        }
        Expr::Binary(binary) => {
            binary.modifier = binary.modifier.take().and_then(plain);
            scope(&mut binary.lhs, only) | scope(&mut binary.rhs, only)
        }
        Expr::Unary(unary) => scope(&mut unary.expr, only),
        Expr::Paren(paren) => scope(&mut paren.expr, only),
        Expr::Subquery(subquery) => scope(&mut subquery.expr, only),
        Expr::Call(call) => call.args.args.iter_mut().fold(false, |added, argument| scope(argument, only) | added),
        // The last is never read from text.
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => false,
    }
}

/// Without `ignoring ()`.
fn plain(mut modifier: BinModifier) -> Option<BinModifier> {
    let is_grouped =
        matches!(modifier.card, VectorMatchCardinality::ManyToOne(_) | VectorMatchCardinality::OneToMany(_));
    if !is_grouped && matches!(&modifier.matching, Some(LabelModifier::Exclude(labels)) if labels.is_empty()) {
        modifier.matching = None;
    }
    (modifier != BinModifier::default()).then_some(modifier)
}

fn add(selector: &mut Matchers, only: &Matcher) -> bool {
    // Between `or`, which VictoriaMetrics knows, each is a selector of its own.
    let is_one = selector.or_matchers.is_empty();
    let mut added = false;
    for matchers in selector.or_matchers.iter_mut().chain(is_one.then_some(&mut selector.matchers)) {
        if matchers.iter().all(|matcher| matcher.name != only.name) {
            matchers.push(only.clone());
            added = true;
        }
    }
    // As they are written out.
    selector.matchers.sort_by_cached_key(Matcher::to_string);
    added
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn eu() -> SignalScope {
        SignalScope::of(Some("cluster"), Some("cluster"), &["eu"].into())
    }

    #[track_caller]
    fn check(query: &str, expected: Expect) {
        expected.assert_eq(&eu().promql(query).unwrap_or_else(|refused| refused.to_string()));
    }

    #[test]
    fn every_selector_is_scoped_wherever_it_stands() {
        check("up", expect![[r#"up{cluster="eu"}"#]]);
        check("{job=\"x\"}", expect![[r#"{cluster="eu",job="x"}"#]]);
        check("{\"dotted.name\"}", expect![[r#"{__name__="dotted.name",cluster="eu"}"#]]);
        check("rate(a{b!=\"c\"}[5m] offset 1h)", expect![[r#"rate(a{b!="c",cluster="eu"}[5m] offset 1h)"#]]);
        check("a @ 1609746000 offset -5m", expect![[r#"a{cluster="eu"} @ 1609746000.000 offset -5m"#]]);
        check("a @ end() - -b", expect![[r#"a{cluster="eu"} @ end() - -b{cluster="eu"}"#]]);
        check(
            "max_over_time(rate(a[1m])[1h:30s] @ start())",
            expect![[r#"max_over_time(rate(a{cluster="eu"}[1m])[1h:30s] @ start())"#]],
        );
        check("min_over_time((a > 1)[10m:])", expect![[r#"min_over_time((a{cluster="eu"} > 1)[10m:])"#]]);
        check(
            "histogram_quantile(0.99, sum by (le, service) (rate(h_bucket[5m])))",
            expect![[r#"histogram_quantile(0.99, sum by (le, service) (rate(h_bucket{cluster="eu"}[5m])))"#]],
        );
        check(
            "sum(a) without (pod) / on (node) group_left (name) max by () (b) > bool 0.5",
            expect![[
                r#"sum without (pod) (a{cluster="eu"}) / on (node) group_left (name) max(b{cluster="eu"}) > bool 0.5"#
            ]],
        );
        check(
            "a or ignoring () b unless on () c and d",
            expect![[r#"a{cluster="eu"} or b{cluster="eu"} unless on () c{cluster="eu"} and d{cluster="eu"}"#]],
        );
        check(
            "topk by (x) (scalar(count(a)), b)",
            expect![[r#"topk by (x) (scalar(count(a{cluster="eu"})), b{cluster="eu"})"#]],
        );
        check(
            r#"label_replace(up, "service", "$1", "pod", "(.+)-\\d \"x\"")"#,
            expect![[r#"label_replace(up{cluster="eu"}, "service", "$1", "pod", "(.+)-\\d \"x\"")"#]],
        );
        check("absent(a{b=~\"c|d\", e!~`\\d+`,})", expect![[r#"absent(a{b=~"c|d",cluster="eu",e!~"\\d+"})"#]]);
        check("a{b=\"1\" or b=\"2\", cluster=\"us\"}", expect![[r#"a{b="1", cluster="eu" or b="2", cluster="us"}"#]]);
    }

    #[test]
    fn raw_strings_are_read_as_prometheus_reads_them() {
        let query = "a{b=~`\\d\"+`, c=\"`\\\"\"} # `x`\n / b{d='`'} + `";
        assert_eq!(without_raw(query), "a{b=~\"\\\\d\\\"+\", c=\"`\\\"\"} # `x`\n / b{d='`'} + `");
        assert_eq!(without_raw("a{b=\"1\"}"), "a{b=\"1\"}");
    }

    #[test]
    fn what_names_its_cluster_or_measures_nothing_is_asked_as_it_was_written() {
        for query in [
            "up{cluster=\"us\"}",
            "up{cluster=~\"us.*\"}",
            "up{cluster!~\"eu\"} ",
            "rate(a{ cluster != '' }[5m])",
            "vector(1) +  time()",
        ] {
            assert_eq!(eu().promql(query).as_deref(), Ok(query));
        }
        check("a{cluster=\"us\"} / b", expect![[r#"a{cluster="us"} / b{cluster="eu"}"#]]);
        let everything = SignalScope::default();
        assert_eq!(everything.promql("not PromQL(").as_deref(), Ok("not PromQL("));
        assert_eq!(SignalScope::of(Some("cluster"), None, &BTreeSet::new()), everything);
    }

    #[test]
    fn what_cannot_be_scoped_is_refused_and_not_asked_of_all() {
        let refused = |query| eu().promql(query).unwrap_err().to_string();
        let told = refused("rate(a[5m]");
        assert!(told.starts_with("it cannot be asked of cluster=\"eu\" alone: this is not valid PromQL: "), "{told}");
        let told = refused("a @ -5");
        assert!(told.ends_with("it would be another query: a{cluster=\"eu\"} @ 0.000"), "{told}");
        assert!(eu().logql("rate({app=\"pay\"}[5m])").is_err());
        assert!(eu().logql("{app=\"pay").is_err());
    }

    #[test]
    fn a_name_of_a_cluster_stays_a_name() {
        let odd = SignalScope::of(Some("cluster"), Some("cluster"), &["e\"u\\1\n"].into());
        assert_eq!(odd.promql("up").unwrap(), r#"up{cluster="e\"u\\1\n"}"#);
        assert_eq!(odd.logql("{app=\"pay\"}").unwrap(), r#"{cluster="e\"u\\1\n", app="pay"}"#);
        let several = SignalScope::of(Some("cluster"), Some("cluster"), &["us", "eu.1", "us"].into());
        assert_eq!(several.promql("up").unwrap(), r#"up{cluster=~"eu\\.1|us"}"#);
        assert!(several.hears(Some("eu.1")) && several.hears(Some("us")));
        assert!(!several.hears(Some("eu-1")) && !several.hears(Some("us2")) && !several.hears(None));
        assert!(SignalScope::default().hears(None));
    }

    #[test]
    fn streams_of_logs_are_scoped_by_their_selector() {
        let scoped = |query: &str| eu().logql(query).unwrap();
        assert_eq!(scoped(r#" { app="pay" } |= "}" | json"#), r#"{cluster="eu", app="pay" } |= "}" | json"#);
        assert_eq!(scoped("{app=`a}`, b=~\"c\"}"), "{cluster=\"eu\", app=`a}`, b=~\"c\"}");
        assert_eq!(scoped("{}"), "{cluster=\"eu\"}");
        for own in [r#"{app="pay", cluster="us"}"#, r#"{cluster=~"us|eu"} |= "x""#] {
            assert_eq!(scoped(own), own);
        }
        assert_eq!(eu().streams("app", "p\"ay"), r#"{app="p\"ay", cluster="eu"}"#);
        assert_eq!(SignalScope::default().streams("app", "pay"), r#"{app="pay"}"#);
        assert_eq!(SignalScope::of_any(None, Some("cluster")).streams("app", "pay"), r#"{app="pay", cluster!=""}"#);
    }

    /// Of every kind of node.
    fn promql() -> impl Strategy<Value = String> {
        let matcher = prop_oneof![
            Just(r#"job="x""#),
            Just(r#"a!="\"\\""#),
            Just("le=~\"1|2\""),
            Just("cluster=\"us\""),
            Just("cluster!~\"e.*\"")
        ];
        let selector = ("[a-d]{1,2}_total", prop::collection::vec(matcher, 0..3))
            .prop_map(|(name, matchers)| format!("{name}{{{}}}", matchers.join(",")));
        let time = prop_oneof![Just(""), Just(" offset 5m"), Just(" @ end()"), Just(" @ 1700000000 offset -1h30m")];
        let leaf = (selector, time, any::<bool>()).prop_map(|(selector, time, ranged)| match ranged {
            true => format!("rate({selector}[5m]{time})"),
            false => format!("{selector}{time}"),
        });
        leaf.prop_recursive(4, 24, 2, |inner| {
            let operator = prop_oneof![
                Just("+"),
                Just("/ on (job) group_left (x)"),
                Just("or"),
                Just("> bool"),
                Just("unless ignoring (x)"),
                Just("^")
            ];
            let around = prop_oneof![
                Just(("sum by (job) (", ")")),
                Just(("max without (job, x) (", ")")),
                Just(("topk(3, ", ")")),
                Just(("label_replace(", r#", "to", "$1", "from", "(.*)\\.\"x\"")"#)),
                Just(("max_over_time((", ")[1h:5m] offset 1d)")),
                Just(("histogram_quantile(0.9, ", ")")),
                Just(("-(", ")")),
            ];
            prop_oneof![
                (inner.clone(), operator, inner.clone())
                    .prop_map(|(left, by, right)| format!("({left}) {by} ({right})")),
                (around, inner).prop_map(|((before, after), inside)| format!("{before}{inside}{after}")),
            ]
        })
    }

    /// Takes the matcher out again.
    fn without(expression: &mut Expr, only: &Matcher) {
        let drop_from = |matchers: &mut Matchers| matchers.matchers.retain(|matcher| matcher != only);
        match expression {
            Expr::VectorSelector(selector) => drop_from(&mut selector.matchers),
            Expr::MatrixSelector(matrix) => drop_from(&mut matrix.vs.matchers),
            Expr::Aggregate(aggregate) => without(&mut aggregate.expr, only),
            Expr::Binary(binary) => {
                without(&mut binary.lhs, only);
                without(&mut binary.rhs, only);
            }
            Expr::Unary(unary) => without(&mut unary.expr, only),
            Expr::Paren(paren) => without(&mut paren.expr, only),
            Expr::Subquery(subquery) => without(&mut subquery.expr, only),
            Expr::Call(call) => call.args.args.iter_mut().for_each(|argument| without(argument, only)),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        }
    }

    proptest! {
        #[test]
        fn a_scoped_query_differs_by_the_matcher_alone(query in promql(), cluster in "[a-z\"\\\\.\n-]{1,6}") {
            let scope = SignalScope::of(Some("cluster"), None, &[cluster.as_str()].into());
            let only = Matcher::new(MatchOp::Equal, "cluster", &cluster);
            let scoped = scope.promql(&query).unwrap();
            prop_assert_eq!(scope.promql(&scoped).unwrap(), scoped.clone(), "scoped once");
            // Each selector names a cluster now: none is left to add to.
            let (mut before, mut after) = (parser::parse(&query).unwrap(), parser::parse(&scoped).unwrap());
            prop_assert!(!super::scope(&mut after, &only));
            without(&mut after, &only);
            // Their order says nothing.
            super::scope(&mut before, &only);
            without(&mut before, &only);
            prop_assert_eq!(before.to_string(), after.to_string());
        }
    }
}
