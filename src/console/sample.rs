//! A night's worth of sample data, and an inbox that answers, for the tests and for looking at the page.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::view::*;
use super::{Console, ConsoleStore, Pages, StoredMessage};
use crate::domain::card::{Block, Button, ButtonAction, ButtonStyle, Card, Field, Span, Tone};
use crate::domain::time::Timestamp;
use crate::ports::{Chat, Clock, FromPeople, Inbox, InboxFull, MessageRef, SystemClock};

#[derive(Default)]
pub struct Shelf(pub Mutex<Vec<StoredMessage>>);

#[async_trait]
impl ConsoleStore for Shelf {
    async fn save_message(&self, message: &StoredMessage) -> anyhow::Result<()> {
        let mut shelf = self.0.lock().unwrap();
        shelf.retain(|kept| (&kept.channel, &kept.ts) != (&message.channel, &message.ts));
        shelf.push(serde_json::from_str(&serde_json::to_string(message)?)?);
        Ok(())
    }

    async fn newest_messages(&self, most: usize) -> anyhow::Result<(Vec<StoredMessage>, i64)> {
        let mut newest = self.0.lock().unwrap().clone();
        let written = i64::try_from(newest.len())?;
        newest.sort_by_key(|message| std::cmp::Reverse(message.ts.clone()));
        newest.truncate(most);
        Ok((newest, written))
    }

    async fn messages_from(&self, _: i64) -> anyhow::Result<Vec<(StoredMessage, i64)>> {
        Ok(self.0.lock().unwrap().iter().cloned().zip(1..).collect())
    }
}

pub fn ago(minutes: u64) -> Timestamp {
    SystemClock.wall_now() - Duration::from_secs(minutes * 60)
}

fn button(action: ButtonAction, label: &str, style: ButtonStyle, confirm: Option<&str>) -> Button {
    Button { action, label: label.into(), value: "INC-214.P1.3f9a0c".into(), style, confirm: confirm.map(Into::into) }
}

fn evidence(mark: &str) -> Span {
    Span::Evidence { id: format!("INC-214.{mark}") }
}

fn field(label: &str, value: Span) -> Field {
    Field { label: label.into(), value: vec![value] }
}

pub fn root_card(state: &str, tone: Tone) -> Card {
    let plain = |label, action| button(action, label, ButtonStyle::Default, None);
    Card {
        fallback: format!("[SEV2] payments 5xx: {state}"),
        blocks: vec![
            Block::Header { text: format!("[SEV2] payments answers 5xx: {state}"), tone },
            Block::Fields {
                fields: vec![
                    field("Service", Span::code("payments")),
                    field("Environment", Span::plain("prod-eu")),
                    field("Since", Span::Date { at: ago(14) }),
                    field("Alerts", Span::plain("23, from 412 raw")),
                    field("Owner", Span::Person { id: "local/ada".into() }),
                    field("State", Span::bold(state)),
                ],
            },
            Block::Text {
                spans: vec![
                    Span::bold("Likely"),
                    Span::plain(": the rollout "),
                    Span::code("payments v2.31"),
                    Span::plain(" halved the connection pool and every request now waits for one "),
                    evidence("E1"),
                    Span::plain(" "),
                    evidence("E3"),
                ],
            },
            Block::Actions {
                buttons: vec![
                    button(ButtonAction::Acknowledge, "Acknowledge", ButtonStyle::Primary, None),
                    plain("Silence…", ButtonAction::Silence),
                    plain("Runbook", ButtonAction::Runbook),
                    plain("Dashboard", ButtonAction::Dashboard),
                ],
            },
            Block::Context {
                spans: vec![
                    Span::Link { text: "INC-214".into(), path: "/incident/INC-214".into() },
                    Span::plain(", v7"),
                ],
            },
        ],
    }
}

fn story_card() -> Card {
    let item = |spans: &[Span]| spans.to_vec();
    Card {
        fallback: "The pool is exhausted since v2.31".into(),
        blocks: vec![
            Block::Text {
                spans: vec![
                    Span::plain("Errors rise at "),
                    Span::Date { at: ago(14) },
                    Span::plain(", two minutes after the rollout finished "),
                    evidence("E1"),
                    Span::plain(". The pods say "),
                    Span::quoted("<b>timeout</b> acquiring connection from pool (size=10) @channel"),
                    Span::plain(" "),
                    evidence("E2"),
                    Span::plain("."),
                ],
            },
            Block::Picture {
                title: "5xx share of payments".into(),
                alt: "The share of 5xx answers rises from 0.2 % to 31 % at the onset".into(),
                path: "/picture/INC-214/E1".into(),
            },
            Block::Text { spans: vec![Span::bold("Ruled out")] },
            Block::List {
                items: vec![
                    item(&[Span::plain("The database: its latency is flat "), evidence("E4")]),
                    item(&[Span::plain("A node: the pods run on three nodes "), evidence("E5")]),
                ],
            },
            Block::Actions {
                buttons: vec![
                    button(ButtonAction::ThumbsUp, "Helpful", ButtonStyle::Default, None),
                    button(ButtonAction::ThumbsDown, "Wrong…", ButtonStyle::Default, None),
                ],
            },
        ],
    }
}

fn plan_card(outcome: Option<&str>) -> Card {
    let mut blocks = vec![
        Block::Header { text: "Roll payments back to v2.30".into(), tone: Tone::Working },
        Block::Fields {
            fields: vec![
                field("Target", Span::code("deployment/payments")),
                field("UID", Span::code("6f1c2e0a-77d1")),
                field("Risk", Span::bold("medium")),
                field("Blast radius", Span::plain("6 pods, 18 % of checkout, PDB allows 1")),
                field("Undo", Span::plain("roll forward to revision 41")),
                field("Success check", Span::plain("5xx below 1 % for 3 min")),
                field("Expires", Span::Date { at: SystemClock.wall_now() + Duration::from_secs(840) }),
            ],
        },
        Block::Code { text: "--- live\n+++ dry run\n-  image: registry/payments:v2.31\n+  image: registry/payments:v2.30\n   replicas: 6\n".into() },
        Block::Text { spans: vec![Span::plain("Because "), evidence("E1"), Span::plain(" "), evidence("E3")] },
    ];
    match outcome {
        None => blocks.push(Block::Actions {
            buttons: vec![
                button(
                    ButtonAction::Approve,
                    "Approve",
                    ButtonStyle::Primary,
                    Some("Roll payments back to v2.30 in prod-eu? 6 pods restart, one at a time."),
                ),
                button(ButtonAction::Reject, "Reject…", ButtonStyle::Danger, None),
                button(ButtonAction::AskMore, "Ask more", ButtonStyle::Default, None),
            ],
        }),
        Some(outcome) => blocks.push(Block::Context { spans: vec![Span::plain(outcome)] }),
    }
    blocks.push(Block::Context { spans: vec![Span::plain("plan "), Span::code("3f9a0c71d2b4")] });
    Card { fallback: "Approval needed: roll payments back".into(), blocks }
}

fn note(text: &str) -> Card {
    Card { fallback: text.into(), blocks: vec![Block::Text { spans: vec![Span::plain(text)] }] }
}

/// Posts the night; returns the incident's root and the approval card.
pub async fn tell(console: &Console) -> (MessageRef, MessageRef) {
    let mut quiet = root_card("Resolved", Tone::Good);
    quiet.blocks.truncate(2);
    quiet.blocks[0] = Block::Header { text: "[SEV3] search latency: Resolved".into(), tone: Tone::Good };
    console.post("ops", None, "old", &quiet).await.unwrap();
    let root = console.post("ops", None, "root", &root_card("Investigating", Tone::Alarm)).await.unwrap();
    console.post("ops", Some(&root), "story", &story_card()).await.unwrap();
    let plan = console.post("ops", Some(&root), "plan", &plan_card(None)).await.unwrap();
    console.post("estate", None, "hello", &note("The watch has begun. Ask me about the estate.")).await.unwrap();
    (root, plan)
}

/// Keeps each act once; with a console it also answers, as the flow would.
#[derive(Default)]
pub struct Answering {
    pub seen: Mutex<HashSet<String>>,
    pub acts: Mutex<Vec<FromPeople>>,
    pub console: Option<Arc<Console>>,
}

#[async_trait]
impl Inbox for Answering {
    async fn accept(&self, dedupe: &str, act: FromPeople) -> Result<(), InboxFull> {
        if !self.seen.lock().unwrap().insert(dedupe.to_owned()) {
            return Ok(());
        }
        self.acts.lock().unwrap().push(act.clone());
        let Some(console) = self.console.clone() else { return Ok(()) };
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(250)).await;
            match act {
                FromPeople::Click { place, action: ButtonAction::Approve, .. } => {
                    let card = plan_card(Some("Approved by @you, digest 3f9a0c71d2b4. Verified: 5xx at 0.3 %."));
                    console.edit(&place.message.unwrap(), &card).await.unwrap();
                }
                FromPeople::Click { place, action: ButtonAction::Reject, reason, .. } => {
                    let card = plan_card(Some(&format!("Rejected by @you: {}", reason.unwrap_or_default())));
                    console.edit(&place.message.unwrap(), &card).await.unwrap();
                }
                FromPeople::Click { place, by, action, .. } => {
                    let card = note(&format!("Noted: {}.", action.as_str()));
                    console.whisper(&place, &by.id, &card).await.unwrap();
                }
                FromPeople::Command { place, by, text } => {
                    let card = note(&format!("You asked for {text}. Try /ops diagnose payments since=30m."));
                    console.whisper(&place, &by.id, &card).await.unwrap();
                }
                FromPeople::Mention { place, .. } => {
                    let thread = place.thread.or(place.message);
                    console.post(&place.channel, thread.as_ref(), "", &note("I am looking at it.")).await.unwrap();
                }
                FromPeople::Home { .. } => {}
            }
        });
        Ok(())
    }
}

#[derive(Default)]
pub struct Night {
    /// Where the conversation about the open incident is.
    pub root: Option<MessageRef>,
    /// Why the log cannot be read, when it cannot.
    pub failure: Option<&'static str>,
}

impl Night {
    fn reads(&self) -> anyhow::Result<()> {
        self.failure.map_or(Ok(()), |why| Err(anyhow::anyhow!(why)))
    }

    fn row(&self) -> IncidentRow {
        let root = self.root.clone();
        IncidentRow { channel: root.clone().map(|root| root.channel), ts: root.map(|root| root.ts), ..row() }
    }
}

#[async_trait]
impl Pages for Night {
    async fn hints(&self, text: &str) -> Vec<crate::domain::command::Hint> {
        crate::domain::command::hints(text, &crate::domain::command::Known::default())
    }

    async fn incidents(&self) -> anyhow::Result<Vec<IncidentRow>> {
        self.reads()?;
        let quiet = IncidentRow {
            id: "INC-213".into(),
            title: "search latency".into(),
            severity: "SEV3".into(),
            state: "Resolved".into(),
            service: "search".into(),
            opened_at: ago(190),
            closed_at: Some(ago(160)),
            alerts: 4,
            ..IncidentRow::default()
        };
        Ok(vec![self.row(), quiet])
    }

    async fn incident(&self, id: &str) -> anyhow::Result<Option<IncidentPage>> {
        self.reads()?;
        Ok((id == "INC-214").then(|| IncidentPage { row: self.row(), ..page() }))
    }

    async fn evidence(&self, id: &str) -> anyhow::Result<Option<EvidenceItem>> {
        self.reads()?;
        Ok(items().into_iter().find(|item| item.id == id))
    }

    async fn picture(&self, path: &str) -> anyhow::Result<Option<String>> {
        self.reads()?;
        Ok(graph(path))
    }

    async fn status(&self) -> anyhow::Result<StatusView> {
        self.reads()?;
        Ok(StatusView {
            version: "0.1.0".into(),
            model: "qwen3-32b".into(),
            open_incidents: 1,
            pending_approvals: 1,
            facts: vec![
                Fact { name: "Kafka lag".into(), value: "0".into() },
                Fact { name: "Audit anchor".into(), value: "9c41f0 at 02:00".into() },
            ],
            funnel: funnel(),
            ..StatusView::default()
        })
    }
}

fn graph(path: &str) -> Option<String> {
    let mark = path.strip_prefix("INC-214/")?;
    let item = items().into_iter().find(|item| item.mark == mark)?;
    let series = item.series.as_deref()?;
    let (title, unit) = (item.summary.as_str(), item.unit.as_str());
    let metric =
        super::Metric { title, unit, series, onset: item.onset, change: item.change.as_ref(), band: item.band };
    Some(super::metric_svg(&metric))
}

fn row() -> IncidentRow {
    IncidentRow {
        id: "INC-214".into(),
        title: "payments answers 5xx".into(),
        severity: "SEV2".into(),
        state: "Awaiting approval".into(),
        service: "payments".into(),
        opened_at: ago(14),
        alerts: 23,
        needs_you: true,
        ..IncidentRow::default()
    }
}

fn funnel() -> Funnel {
    let stage = |name: &str, count, left_out: &[(&str, u64)]| FunnelStage {
        name: name.into(),
        count,
        left_out: left_out.iter().map(|(reason, count)| LeftOut { reason: (*reason).into(), count: *count }).collect(),
    };
    Funnel {
        stages: vec![
            stage("raw", 4812, &[]),
            stage("unique", 412, &[("repeats", 4400)]),
            stage("admitted", 61, &[("silenced", 118), ("inhibited", 201), ("flapping", 32)]),
            stage("incidents", 4, &[("joined", 57)]),
            stage("notified", 2, &[("below SEV3", 2)]),
        ],
    }
}

fn wave(name: &str, base: f64, peak: f64) -> Series {
    let rise = |minute: u64| 1.0 / (1.0 + (-(minute as f64 - 32.0) / 1.4).exp());
    let wiggle = |minute: u64| 1.0 + 0.12 * ((minute * 7 % 11) as f64 / 11.0 - 0.5);
    let value = |minute| if minute == 20 { f64::NAN } else { (base + (peak - base) * rise(minute)) * wiggle(minute) };
    Series { name: name.into(), points: (0..46).map(|minute| (ago(46 - minute), value(minute))).collect() }
}

fn items() -> Vec<EvidenceItem> {
    let item = |mark: &str, kind, source: &str, summary: &str, query: &str, body: &str| EvidenceItem {
        id: format!("INC-214.{mark}"),
        mark: mark.into(),
        kind,
        source: source.into(),
        query: query.into(),
        summary: summary.into(),
        digest: "3f9a0c71d2b4e8a0".into(),
        at: ago(12),
        body: body.into(),
        ..EvidenceItem::default()
    };
    vec![
        EvidenceItem {
            series: Some(vec![wave("payments, v2.31", 0.2, 31.0), wave("payments, v2.30", 0.2, 0.3)]),
            unit: "%".into(),
            onset: Some(ago(14)),
            change: Some(ChangeMark { at: ago(16), label: "rollout v2.31".into() }),
            band: Some(Band { low: 0.0, high: 1.2 }),
            ..item(
                "E1",
                EvidenceKind::Metric,
                "prometheus",
                "5xx share rose from 0.2 % to 31 %",
                "sum by (version) (rate(http_requests_total{service=\"payments\",code=~\"5..\"}[2m]))",
                "",
            )
        },
        item(
            "E2",
            EvidenceKind::Log,
            "loki",
            "1,204 lines say the pool is exhausted",
            "{app=\"payments\"} |= \"pool\"",
            "02:03:11 ERROR <b>timeout</b> acquiring connection from pool (size=10)\n02:03:11 ERROR timeout acquiring connection from pool (size=10)\n02:03:12 WARN  retry 2/3 for /v1/charge\n",
        ),
        item(
            "E3",
            EvidenceKind::Change,
            "kubernetes",
            "Rollout payments v2.31 sets DB_POOL_SIZE 20 → 10",
            "rollouts of payments since 01:00",
            "-  DB_POOL_SIZE: \"20\"\n+  DB_POOL_SIZE: \"10\"\n",
        ),
        EvidenceItem {
            series: Some(vec![wave("p99", 4.0, 4.4)]),
            unit: "ms".into(),
            ..item(
                "E4",
                EvidenceKind::Metric,
                "prometheus",
                "Database latency is flat",
                "histogram_quantile(0.99, rate(pg_query_seconds_bucket[2m]))",
                "",
            )
        },
        item(
            "E5",
            EvidenceKind::Kubernetes,
            "kubernetes",
            "The 6 pods run on 3 nodes",
            "pods of payments",
            "payments-7c9d4-aaaaa  node-a\npayments-7c9d4-bbbbb  node-b\n",
        ),
    ]
}

fn page() -> IncidentPage {
    let event = |minutes, kind: &str, text: &str, marks: &[&str]| TimelineItem {
        at: ago(minutes),
        kind: kind.into(),
        text: text.into(),
        spans: vec![],
        evidence: marks.iter().map(|mark| format!("INC-214.{mark}")).collect(),
    };
    let node = |id: &str, kind: &str, state| Node { id: id.into(), kind: kind.into(), state };
    let edge = |from: &str, to: &str| Edge { from: from.into(), to: to.into() };
    let alert = |name: &str, subject: &str, verdict: &str, reason: &str, count| AlertRow {
        name: name.into(),
        subject: subject.into(),
        severity: "critical".into(),
        count,
        first_at: ago(14),
        last_at: ago(1),
        verdict: verdict.into(),
        reason: reason.into(),
    };
    let candidate = |rank, node: &str, score, supports: &[&str], against: &[&str]| Candidate {
        rank,
        node: node.into(),
        score,
        supports: supports.iter().map(|text| (*text).into()).collect(),
        against: against.iter().map(|text| (*text).into()).collect(),
    };
    IncidentPage {
        row: row(),
        owner: Some("ada".into()),
        confidence: Some(Confidence { word: "likely".into(), number: 0.82 }),
        root_cause: Some(RootCause { service: "payments".into(), change: Some("rollout v2.31".into()) }),
        summary: vec![
            Span::plain("The rollout "),
            Span::code("payments v2.31"),
            Span::plain(" halved the connection pool "),
            evidence("E3"),
            Span::plain(". Two minutes later one request in three failed while waiting for a connection "),
            evidence("E1"),
            Span::plain(" "),
            evidence("E2"),
            Span::plain("."),
        ],
        timeline: vec![
            event(16, "change", "Rollout payments v2.31 finished", &["E3"]),
            event(14, "alert", "23 alerts joined: same service, within 40 s", &[]),
            event(12, "finding", "The share of 5xx rose only on v2.31", &["E1"]),
            event(11, "finding", "The pods wait for connections", &["E2"]),
            event(10, "decision", "Proposed: roll back to v2.30, waiting for approval", &[]),
        ],
        candidates: vec![
            candidate(1, "payments", 0.82, &["changed 2 min before the onset", "errors only on v2.31"], &[]),
            candidate(2, "postgres", 0.31, &["payments waits for it"], &["its latency is flat"]),
            candidate(3, "node-b", 0.08, &["runs 2 of 6 pods"], &["other tenants are well"]),
        ],
        evidence: items(),
        alerts: vec![
            alert("HighErrorRate", "payments", "admitted", "opened the incident", 6),
            alert("LatencyP99", "checkout", "joined", "calls payments, 31 s later", 11),
            alert("PodNotReady", "payments-7c9d4-aaaaa", "muted", "inhibited by HighErrorRate", 395),
        ],
        plan: Some(PlanView {
            id: "INC-214.P1".into(),
            action: "Roll back".into(),
            target: "deployment/payments".into(),
            uid: "6f1c2e0a-77d1".into(),
            tier: "medium".into(),
            blast_radius: "6 pods, 18 % of checkout, PDB allows 1".into(),
            diff: "-  image: registry/payments:v2.31\n+  image: registry/payments:v2.30\n".into(),
            undo: "roll forward to revision 41".into(),
            success_check: "5xx below 1 % for 3 min".into(),
            digest: "3f9a0c71d2b4e8a0".into(),
            expires_at: Some(SystemClock.wall_now() + Duration::from_secs(840)),
            votes: vec![],
            state: "awaiting approval".into(),
        }),
        topology: Topology {
            nodes: vec![
                node("web", "service", NodeState::Ok),
                node("mobile-api", "service", NodeState::Affected),
                node("checkout", "service", NodeState::Affected),
                node("payments", "service", NodeState::Cause),
                node("ledger", "service", NodeState::Ok),
                node("postgres", "database", NodeState::Ok),
                node("search", "service", NodeState::Ok),
            ],
            edges: vec![
                edge("web", "checkout"),
                edge("mobile-api", "checkout"),
                edge("checkout", "payments"),
                edge("payments", "postgres"),
                edge("payments", "ledger"),
                edge("ledger", "postgres"),
                edge("web", "search"),
            ],
        },
        reasoning: Some(Reasoning {
            reasoner: "sample".into(),
            claims: vec![Reasoned { text: "the pool is 100 % of pool".into(), note: "E5 lines 2-3".into() }],
            ruled_out: vec![Reasoned { text: "the database is well".into(), note: "E7".into() }],
            dropped: vec![Reasoned {
                text: "42 % of requests fail".into(),
                note: "42 does not occur in the evidence that is cited".into(),
            }],
            needs: Some("traces of the failing calls".into()),
        }),
        transcript: vec![TranscriptStep {
            who: "lead".into(),
            cost: 0.0042,
            step: 1,
            thought: "Errors began after a rollout; compare the versions.".into(),
            tool: "metrics.range".into(),
            arguments: "{\"query\":\"rate(http_requests_total[2m])\"}".into(),
            observation_digest: "3f9a0c71d2b4e8a0".into(),
            evidence: Some("INC-214.E1".into()),
            ms: 412,
            tokens: 1830,
        }],
        post_mortem: Some("# payments 5xx\n\n## What happened\nA rollout **halved** the pool, see `DB_POOL_SIZE`.\n\n- detected after 40 s\n- mitigated after 6 min\n\n| When | What |\n|---|---|\n| 02:01 | rollout |\n| 02:03 | onset |\n".into()),
        funnel: None,
    }
}
