//! A small team: triage says whose field it is, specialists look at the same time, a lead concludes.
//!
//! Like a single investigation it does no I/O and can be stored between any two steps. Invariants:
//! whoever fails is left out and said so, the others go on; the lead always concludes, with whatever
//! reports there are; a team of one (no triage, no specialists) is just its lead.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Brief, Cited, Conclusion, Investigation, Known, Limits, Mode, ModelError, ModelMessage, ModelReply, ModelRequest,
    Next, ToolCall, ToolResult, ToolSchema,
};
use crate::domain::id::IncidentId;
use crate::domain::redact::fence;
use crate::domain::speciality::Speciality;
use crate::domain::time::Timestamp;

pub const ASSIGN: &str = "assign";
/// More than three fields at once are nobody's field, and each specialist is paid for.
const MOST_SPECIALISTS: usize = 3;
/// Replies of one specialist and of the lead behind them.
const SPECIALIST_STEPS: u32 = 5;
const LEAD_STEPS: u32 = 4;
const TRIAGE_TOKENS: u32 = 400;
/// Specialists together may use this share of tokens, money and time; the rest is the lead's.
const SPECIALISTS_SHARE: f64 = 0.6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "member", content = "of", rename_all = "snake_case")]
pub enum Member {
    Triage,
    Specialist(Speciality),
    Lead,
}

impl Member {
    pub fn name(self) -> &'static str {
        match self {
            Self::Triage => "triage",
            Self::Specialist(Speciality::Kubernetes) => "kubernetes specialist",
            Self::Specialist(Speciality::Database) => "database specialist",
            Self::Specialist(Speciality::Network) => "network specialist",
            Self::Specialist(Speciality::Application) => "application specialist",
            Self::Lead => "lead",
        }
    }
}

/// What one member is opened with, beside the brief that all share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kit {
    pub system: String,
    pub tools: Vec<ToolSchema>,
}

/// What all members share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Common {
    pub incident: IncidentId,
    pub mode: Mode,
    /// The user message that each begins with.
    pub brief: String,
    /// The same in few words, for later steps.
    pub recap: String,
    pub known: Known,
    /// Of all together.
    pub limits: Limits,
    pub started: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Team {
    common: Common,
    triage: String,
    kits: BTreeMap<Speciality, Kit>,
    lead: Kit,
    stage: Stage,
    /// Why triage was not followed, or left out.
    pub remark: Option<String>,
    /// Triage has used its reply up before it said anything, and is asked once more.
    #[serde(default)]
    wider: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
enum Stage {
    Triage,
    Specialists { at_work: Vec<(Speciality, Investigation)> },
    Lead { investigation: Box<Investigation> },
}

/// One thing that the driver must do now.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    pub member: Member,
    pub next: Next,
    /// Of the member: later than this an answer is of no use.
    pub deadline: Timestamp,
}

impl Team {
    pub fn solo(common: Common, lead: Kit) -> Self {
        let investigation = Box::new(open(&common, &lead, common.brief.clone(), &common.recap, common.limits));
        let (triage, kits) = (String::new(), BTreeMap::new());
        Self { common, triage, kits, lead, stage: Stage::Lead { investigation }, remark: None, wider: false }
    }

    /// `triage` is the system message of whoever assigns; an empty set of kits makes a team of one.
    pub fn assemble(common: Common, triage: String, kits: BTreeMap<Speciality, Kit>, lead: Kit) -> Self {
        if kits.is_empty() {
            return Self::solo(common, lead);
        }
        Self { common, triage, kits, lead, stage: Stage::Triage, remark: None, wider: false }
    }

    /// All that is due; everything in it may run at the same time.
    pub fn due(&self, now: Timestamp) -> Vec<Due> {
        let of = |member, one: &Investigation| Due { member, next: one.next(now), deadline: one.limits.deadline };
        match &self.stage {
            Stage::Triage => {
                let (next, deadline) = (Next::AskModel(self.assignment()), self.common.limits.deadline);
                vec![Due { member: Member::Triage, next, deadline }]
            }
            Stage::Specialists { at_work } => at_work
                .iter()
                .map(|(field, one)| of(Member::Specialist(*field), one))
                .filter(|due| !matches!(due.next, Next::Conclude(_)))
                .collect(),
            Stage::Lead { investigation } => vec![of(Member::Lead, investigation)],
        }
    }

    /// How it ended, once it has.
    pub fn conclusion(&self, now: Timestamp) -> Option<Conclusion> {
        match &self.stage {
            Stage::Lead { investigation } => match investigation.next(now) {
                Next::Conclude(conclusion) => Some(conclusion),
                Next::AskModel(_) | Next::RunTools(_) => None,
            },
            Stage::Triage | Stage::Specialists { .. } => None,
        }
    }

    pub fn on_model(mut self, member: Member, reply: Result<ModelReply, ModelError>, now: Timestamp) -> Self {
        match (&mut self.stage, member) {
            (Stage::Triage, Member::Triage) => return self.assigned(reply),
            (Stage::Specialists { at_work }, Member::Specialist(field)) => {
                for (_, one) in at_work.iter_mut().filter(|(of, _)| *of == field) {
                    *one = one.clone().on_model(reply.clone(), now);
                }
            }
            (Stage::Lead { investigation }, Member::Lead) => {
                **investigation = investigation.as_ref().clone().on_model(reply, now);
            }
            // A late answer to a stage that is over changes nothing.
            (Stage::Triage | Stage::Specialists { .. } | Stage::Lead { .. }, _) => {}
        }
        self.settled(now)
    }

    pub fn on_tools(mut self, member: Member, results: Vec<ToolResult>, now: Timestamp) -> Self {
        match (&mut self.stage, member) {
            (Stage::Specialists { at_work }, Member::Specialist(field)) => {
                for (_, one) in at_work.iter_mut().filter(|(of, _)| *of == field) {
                    *one = one.clone().on_tools(results.clone(), now);
                }
            }
            (Stage::Lead { investigation }, Member::Lead) => {
                **investigation = investigation.as_ref().clone().on_tools(results, now);
            }
            (Stage::Triage | Stage::Specialists { .. } | Stage::Lead { .. }, _) => {}
        }
        self.settled(now)
    }

    /// Time may end specialists without a reply of theirs: look again.
    pub fn settled(self, now: Timestamp) -> Self {
        let Stage::Specialists { at_work } = &self.stage else { return self };
        let ended: Option<Vec<(Speciality, Conclusion)>> = at_work
            .iter()
            .map(|(field, one)| match one.next(now) {
                Next::Conclude(conclusion) => Some((*field, conclusion)),
                Next::AskModel(_) | Next::RunTools(_) => None,
            })
            .collect();
        let Some(ended) = ended else { return self };
        let spent = at_work.iter().map(|(_, one)| one.spent);
        let (tokens, cost, calls) =
            spent.fold((0, 0.0, 0), |sum, one| (sum.0 + one.tokens, sum.1 + one.cost, sum.2 + one.tool_calls));
        let whole = self.common.limits;
        let mut limits = whole;
        limits.steps = LEAD_STEPS.min(whole.steps);
        limits.tokens = whole.tokens.saturating_sub(tokens);
        limits.tool_calls = whole.tool_calls.saturating_sub(calls);
        if whole.cost > 0.0 {
            limits.cost = (whole.cost - cost).max(f64::MIN_POSITIVE);
        }
        let reports: Vec<String> = ended.iter().map(|(field, conclusion)| report(*field, conclusion)).collect();
        let with_reports = |brief: &str| {
            format!(
                "{brief}\n\n## Reports of your specialists (they looked at the same time; weigh them against each \
                 other)\n\n{}\n\nAsk only what is still open between them, then conclude.",
                reports.join("\n\n")
            )
        };
        // The specialists have read the whole brief: their lead needs what they made of it.
        let brief = if self.common.recap.is_empty() { &self.common.brief } else { &self.common.recap };
        let investigation = Box::new(open(&self.common, &self.lead, with_reports(brief), "", limits));
        Self { stage: Stage::Lead { investigation }, ..self }
    }

    /// Everybody's investigation that is known now.
    pub fn members(&self) -> Vec<(Member, &Investigation)> {
        match &self.stage {
            Stage::Triage => vec![],
            Stage::Specialists { at_work } => {
                at_work.iter().map(|(field, one)| (Member::Specialist(*field), one)).collect()
            }
            Stage::Lead { investigation } => vec![(Member::Lead, investigation)],
        }
    }

    fn assignment(&self) -> ModelRequest {
        let fields: Vec<&Speciality> = self.kits.keys().collect();
        ModelRequest {
            messages: vec![
                ModelMessage::System { text: self.triage.clone() },
                ModelMessage::User {
                    text: if self.common.recap.is_empty() { &self.common.brief } else { &self.common.recap }.clone(),
                },
            ],
            tools: match self.common.mode {
                Mode::Native => vec![assign_schema(&fields)],
                Mode::Text => vec![],
            },
            max_tokens: if self.wider { self.common.limits.reply_tokens.max(TRIAGE_TOKENS) } else { TRIAGE_TOKENS },
        }
    }

    fn assigned(mut self, reply: Result<ModelReply, ModelError>) -> Self {
        let (tokens_in, tokens_out) =
            reply.as_ref().map_or_else(ModelError::tokens, |reply| (reply.tokens_in, reply.tokens_out));
        let left = self.common.limits.tokens.saturating_sub(tokens_in + tokens_out);
        self.common.limits.tokens = left;
        if self.common.limits.cost > 0.0 {
            // At the lead's prices, which are no lower. Zero would be no limit.
            let cost = self.common.limits.prices.of(tokens_in, tokens_out);
            self.common.limits.cost = (self.common.limits.cost - cost).max(f64::MIN_POSITIVE);
        }
        let is_cut = match &reply {
            Err(ModelError::Empty { cut, .. }) => *cut,
            Ok(reply) => reply.cut && read_assignment(reply).is_err(),
            Err(_) => false,
        };
        if !self.wider && is_cut {
            self.wider = true;
            return self;
        }
        let wanted = reply.map_err(|error| error.to_string()).and_then(|reply| read_assignment(&reply));
        let mut chosen: Vec<(Speciality, String)> = match wanted {
            Ok(wanted) => wanted.into_iter().filter(|(field, _)| self.kits.contains_key(field)).collect(),
            Err(why) => {
                self.remark = Some(format!("triage gave no assignment ({why}); every field is looked at"));
                vec![]
            }
        };
        chosen.truncate(MOST_SPECIALISTS);
        if chosen.is_empty() {
            chosen = self.kits.keys().map(|field| (*field, String::new())).collect();
        }
        let count = chosen.len() as f64;
        let whole = self.common.limits;
        let share = |amount: f64| amount * SPECIALISTS_SHARE / count;
        let limits = Limits {
            steps: SPECIALIST_STEPS.min(whole.steps),
            tool_calls: (share(f64::from(whole.tool_calls)) as u32).max(1),
            tokens: share(whole.tokens as f64) as u64,
            cost: share(whole.cost),
            deadline: self.common.started
                + Duration::from_secs_f64(whole.deadline.since(self.common.started).as_secs_f64() * SPECIALISTS_SHARE),
            ..whole
        };
        let at_work = chosen
            .into_iter()
            .filter_map(|(field, question)| {
                let kit = self.kits.get(&field)?;
                let asked = |brief: &str| match question.trim() {
                    "" => brief.to_owned(),
                    question => format!("{brief}\n\nYour question: {question}"),
                };
                let Common { brief, recap, .. } = &self.common;
                let recap = if recap.is_empty() { String::new() } else { asked(recap) };
                let mut one = open(&self.common, kit, asked(brief), &recap, limits);
                one.must_rule_out = true;
                Some((field, one))
            })
            .collect();
        Self { stage: Stage::Specialists { at_work }, ..self }
    }
}

fn open(common: &Common, kit: &Kit, user: String, recap: &str, limits: Limits) -> Investigation {
    let brief = Brief { system: kit.system.clone(), user, recap: recap.to_owned() };
    Investigation::open(common.incident.clone(), common.mode, brief, kit.tools.clone(), limits)
        .knowing(common.known.clone())
}

/// What a specialist found, for the lead. A model wrote it about text of the estate: it is data.
fn report(field: Speciality, conclusion: &Conclusion) -> String {
    let name = Member::Specialist(field).name();
    let list = |items: &[Cited]| -> String {
        let line = |item: &Cited| format!("\n- {} [{}]", one_line(&item.text), item.evidence.join(", "));
        if items.is_empty() { " nothing".to_owned() } else { items.iter().take(6).map(line).collect() }
    };
    let text = match conclusion {
        Conclusion::Partial { why, last_thought, .. } => {
            let thought = last_thought
                .as_deref()
                .map_or(String::new(), |thought| format!("\nIts last thought: {}", one_line(thought)));
            format!("It came to no conclusion: {why}.{thought}")
        }
        Conclusion::Found(finding) => format!(
            "Blames {}{} (confidence {:.2}): {}\nFacts:{}\nRuled out:{}\nMissing: {}",
            finding.service.as_deref().unwrap_or("nothing in its field"),
            finding.change.as_deref().map_or(String::new(), |change| format!(", change {change:?}")),
            finding.confidence,
            one_line(&finding.mechanism),
            list(&finding.claims),
            list(&finding.ruled_out),
            one_line(finding.needs.as_deref().unwrap_or("nothing")),
        ),
    };
    format!("### The {name}\n{}", fence(&text, name))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

#[derive(Deserialize)]
struct Assignment {
    specialists: Vec<Assigned>,
}

#[derive(Deserialize)]
struct Assigned {
    speciality: Speciality,
    #[serde(default)]
    question: String,
}

fn read_assignment(reply: &ModelReply) -> Result<Vec<(Speciality, String)>, String> {
    let called = reply.calls.iter().find(|call: &&ToolCall| call.name == ASSIGN).map(|call| call.arguments.clone());
    let value = match called {
        Some(value) => value,
        None => {
            let (from, to) = (reply.text.find('{'), reply.text.rfind('}'));
            let object = from.zip(to).filter(|(from, to)| from < to).map(|(from, to)| &reply.text[from..=to]);
            serde_json::from_str(object.ok_or("it names nobody")?).map_err(|why| why.to_string())?
        }
    };
    let read: Assignment = serde_json::from_value(value).map_err(|why| why.to_string())?;
    let mut chosen: Vec<(Speciality, String)> = vec![];
    for one in read.specialists {
        if !chosen.iter().any(|(field, _)| *field == one.speciality) {
            chosen.push((one.speciality, one_line(&one.question)));
        }
    }
    Ok(chosen)
}

fn assign_schema(fields: &[&Speciality]) -> ToolSchema {
    let names: Vec<Value> = fields.iter().map(|field| json!(field)).collect();
    ToolSchema {
        name: ASSIGN.to_owned(),
        description: "Say which specialists look at the incident, the likeliest field first; one or two are usual."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {"specialists": {"type": "array", "minItems": 1, "maxItems": MOST_SPECIALISTS, "items": {
                "type": "object",
                "properties": {
                    "speciality": {"type": "string", "enum": names},
                    "question": {"type": "string", "description": "what exactly it shall confirm or refute"},
                },
                "required": ["speciality", "question"],
            }}},
            "required": ["specialists"],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::investigation::CONCLUDE;

    const START: Timestamp = Timestamp::from_secs(1_000);

    fn team() -> Team {
        let tool = |name: &str| ToolSchema { name: name.into(), description: "d".into(), parameters: json!({}) };
        let kit = |name: &str| Kit { system: name.into(), tools: vec![tool("metrics")] };
        let common = Common {
            incident: IncidentId::numbered(1),
            mode: Mode::Native,
            brief: "cart is slow".into(),
            recap: String::new(),
            known: Known::default(),
            limits: Limits::standard(START),
            started: START,
        };
        let kits = Speciality::ALL.into_iter().map(|field| (field, kit("specialist"))).collect();
        Team::assemble(common, "assign".into(), kits, kit("lead"))
    }

    fn call(name: &str, arguments: Value) -> Result<ModelReply, ModelError> {
        let call = ToolCall { id: "c".into(), name: name.into(), arguments };
        Ok(ModelReply { calls: vec![call], tokens_in: 100, tokens_out: 10, ..ModelReply::default() })
    }

    fn finding(ruled_out: Value) -> Value {
        json!({"service": "cart", "change": null, "mechanism": "pool exhausted", "remedy": "none",
            "claims": [{"text": "p99 is 2 s", "evidence": ["E1"]}], "ruled_out": ruled_out, "confidence": 0.8})
    }

    fn fields(team: &Team) -> Vec<Member> {
        team.due(START).iter().map(|due| due.member).collect()
    }

    #[test]
    fn triage_assigns_specialists_report_and_the_lead_concludes() {
        let team = team().on_model(
            Member::Triage,
            call(
                ASSIGN,
                json!({"specialists": [{"speciality": "database", "question": "is the pool empty?"},
                                               {"speciality": "network", "question": "?"}]}),
            ),
            START,
        );
        let (database, network) = (Member::Specialist(Speciality::Database), Member::Specialist(Speciality::Network));
        assert_eq!(fields(&team), [database, network]);
        // One that has ruled out nothing is asked again.
        let team = team.on_model(database, call(CONCLUDE, finding(json!([]))), START);
        assert_eq!(fields(&team), [database, network]);
        let said = json!([{"text": "disk is fine", "evidence": ["E2"]}]);
        let team = team.on_model(database, call(CONCLUDE, finding(said)), START);
        assert_eq!(fields(&team), [network]);
        // One that fails is left out, and said so.
        let team = team.on_model(network, Err(ModelError::Unavailable("gone".into())), START);
        assert_eq!(fields(&team), [Member::Lead]);
        let Next::AskModel(request) = &team.due(START)[0].next else { panic!("not asked") };
        let ModelMessage::User { text } = &request.messages[1] else { panic!("no brief") };
        assert!(text.contains("p99 is 2 s [E1]") && text.contains("disk is fine [E2]"), "{text}");
        assert!(text.contains("It came to no conclusion: model unavailable: gone"), "{text}");
        let kept: Team = serde_json::from_str(&serde_json::to_string(&team).unwrap()).unwrap();
        assert_eq!(kept, team, "it can be stored between two steps");
        let team = team.on_model(Member::Lead, call(CONCLUDE, finding(json!([]))), START);
        assert!(matches!(team.conclusion(START), Some(Conclusion::Found(_))));
    }

    #[test]
    fn without_an_assignment_every_field_is_looked_at() {
        for reply in [call(ASSIGN, json!({"specialists": "all"})), Err(ModelError::Garbage("{".into()))] {
            let team = team().on_model(Member::Triage, reply, START);
            assert_eq!(team.due(START).len(), 4);
            assert!(team.remark.as_deref().is_some_and(|why| why.starts_with("triage gave no assignment")));
        }
    }

    #[test]
    fn triage_that_thinks_its_reply_up_is_asked_once_more_with_more_room() {
        let cut = || Err(ModelError::Empty { why: "length".into(), cut: true, tokens_in: 100, tokens_out: 400 });
        let room = |team: &Team| match &team.due(START)[..] {
            [Due { member: Member::Triage, next: Next::AskModel(request), .. }] => Some(request.max_tokens),
            _ => None,
        };
        let team = team();
        assert_eq!(room(&team), Some(400));
        let team = team.on_model(Member::Triage, cut(), START);
        assert_eq!(room(&team), Some(2_000));
        let team = team.on_model(Member::Triage, cut(), START);
        assert_eq!(team.due(START).len(), 4);
        assert_eq!(team.common.limits.tokens, 59_000, "both are paid for");
    }

    #[test]
    fn time_that_runs_out_ends_the_specialists_and_leaves_some_for_the_lead() {
        let team = team().on_model(Member::Triage, Err(ModelError::Unavailable("gone".into())), START);
        let late = START + Duration::from_secs(150);
        let team = team.settled(late);
        assert_eq!(team.due(late).iter().map(|due| due.member).collect::<Vec<_>>(), [Member::Lead]);
        assert_eq!(team.conclusion(late), None);
    }
}
