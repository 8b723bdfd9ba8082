//! The investigation as a value: a ReAct loop that does no I/O.
//!
//! `next` says what the driver must do, `on_model` and `on_tools` take what came back. Invariants:
//! the value between two steps can be stored, and the restored one goes on identically; every tool
//! call of the model is answered exactly once; it ends within its limits, and when a limit ends it,
//! it says so instead of pretending to a conclusion.

mod asking;
mod budget;
mod compact;
mod conclusion;
mod known;
mod react;
pub mod team;
mod todo;
mod wire;

#[cfg(test)]
mod tests;

pub use budget::{Limits, Prices, Spent, reply_tokens};
pub use conclusion::{Cited, Conclusion, Finding, ProposedRemedy, conclude_schema};
pub use known::Known;
pub use todo::{TODO, Todo};
pub use wire::{Carried, ModelError, ModelMessage, ModelReply, ModelRequest, ToolCall, ToolSchema};

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::id::{EvidenceId, IncidentId};
use super::redact::{redact, redact_json};
use super::time::Timestamp;

pub const CONCLUDE: &str = "conclude";
/// What is carried as plain text; of the rest a signature would be broken by a redaction.
const THOUGHTS: [&str; 2] = ["reasoning_content", "reasoning"];
/// Before the deadline there must be room for one last answer.
const CLOSING: Duration = Duration::from_secs(40);
/// Malformed conclusions and replies without any action; each costs a step as well.
const MAX_REPAIRS: u32 = 2;

/// Whether the model calls tools natively or writes ReAct text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Native,
    Text,
}

/// The two messages that open the conversation; in text mode the system message explains the form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    pub system: String,
    pub user: String,
    /// The brief in few words, once it has been read and answered; empty: the whole again.
    #[serde(default)]
    pub recap: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    Model {
        text: String,
        calls: Vec<ToolCall>,
        #[serde(default, skip_serializing_if = "Carried::is_empty")]
        carried: Carried,
    },
    /// One answer for each call of the step before.
    Tools { results: Vec<ToolResult> },
    /// The reply was no use; this tells the model why.
    Repair { text: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    pub call_id: String,
    /// For the model: fenced and redacted by the tool box.
    pub text: String,
    /// Where the answer is kept; `None` when nothing was observed.
    pub evidence: Option<EvidenceId>,
}

/// What the driver must do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    AskModel(ModelRequest),
    /// All at once; the order of the results does not matter.
    RunTools(Vec<ToolCall>),
    Conclude(Conclusion),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Asking,
    Running {
        calls: Vec<ToolCall>,
        /// Calls of the same reply that the machine answered itself.
        refused: Vec<ToolResult>,
    },
    Concluded {
        conclusion: Conclusion,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Investigation {
    pub incident: IncidentId,
    pub mode: Mode,
    pub brief: Brief,
    pub tools: Vec<ToolSchema>,
    pub limits: Limits,
    pub spent: Spent,
    pub transcript: Vec<Step>,
    /// Calls that were run, by name and arguments; a refused one may be made again.
    pub made: BTreeSet<String>,
    /// What the model wants to do yet, as it wrote it down.
    #[serde(default)]
    pub todo: Vec<Todo>,
    /// A conclusion must say what was ruled out: a specialist's most useful answer.
    #[serde(default)]
    pub must_rule_out: bool,
    /// What may be named as a cause; empty: anything, and the judge decides alone.
    #[serde(default)]
    pub known: Known,
    /// A reply was used up before it said anything: from then on each may be twice as long.
    #[serde(default)]
    pub wider: bool,
    /// The model could not read all that was said: from then on it is told in fewer words.
    #[serde(default)]
    pub tight: bool,
    pub state: State,
}

impl Investigation {
    pub fn open(incident: IncidentId, mode: Mode, brief: Brief, tools: Vec<ToolSchema>, limits: Limits) -> Self {
        let (spent, transcript, made) = (Spent::default(), vec![], BTreeSet::new());
        let (todo, known) = (vec![], Known::default());
        let (must_rule_out, wider, tight, state) = (false, false, false, State::Asking);
        Self {
            incident,
            mode,
            brief,
            tools,
            limits,
            spent,
            transcript,
            made,
            todo,
            must_rule_out,
            known,
            wider,
            tight,
            state,
        }
    }

    #[must_use]
    pub fn knowing(mut self, known: Known) -> Self {
        self.known = known;
        self
    }

    pub fn next(&self, now: Timestamp) -> Next {
        if let State::Concluded { conclusion } = &self.state {
            return Next::Conclude(conclusion.clone());
        }
        if let Some(why) = self.exhausted(now) {
            return Next::Conclude(self.partial(why));
        }
        match &self.state {
            State::Running { calls, .. } => Next::RunTools(calls.clone()),
            State::Asking | State::Concluded { .. } => Next::AskModel(self.request(now)),
        }
    }

    pub fn on_model(mut self, reply: Result<ModelReply, ModelError>, now: Timestamp) -> Self {
        // A reply to a question that is no longer open (a replay, a late answer) changes nothing.
        if self.state != State::Asking {
            return self;
        }
        let was_last = self.is_last_step(now);
        self.spent.steps += 1;
        let reply = match reply {
            Ok(reply) => reply,
            Err(ModelError::Garbage(why)) => {
                return self.repair(format!("Your last reply could not be read ({why}). Answer again, briefly."));
            }
            Err(ModelError::Empty { why, cut, tokens_in, tokens_out }) => {
                self.spent.pay(tokens_in, tokens_out, &self.limits.prices);
                if cut && !self.wider {
                    self.wider = true;
                    return self;
                }
                return self.repair(format!("Your last reply was empty ({why}). Answer again, briefly."));
            }
            Err(ModelError::TooLong(_)) if !self.tight => {
                self.tight = true;
                return self;
            }
            Err(
                error @ (ModelError::RateLimited(_)
                | ModelError::Later { .. }
                | ModelError::TooLong(_)
                | ModelError::Unavailable(_)
                | ModelError::Refused(_)
                | ModelError::TimedOut(_)),
            ) => {
                return self.end_partial(error.to_string());
            }
        };
        self.spent.pay(reply.tokens_in, reply.tokens_out, &self.limits.prices);
        let (is_cut, mut carried) = (reply.cut, reply.carried);
        for (_, thought) in carried.message.iter_mut().filter(|(name, _)| THOUGHTS.contains(&name.as_str())) {
            redact_json(thought);
        }
        let said = match self.mode {
            Mode::Native => Said { text: reply.text, calls: reply.calls },
            Mode::Text => {
                let turn = react::read(&reply.text, self.spent.steps);
                Said { text: turn.text, calls: turn.calls }
            }
        };
        if is_cut && !said.is_of_use() {
            return self.cut_off();
        }
        // What it is reminded of; what it calls is run as it said it.
        let mut kept = Said { text: redact(&said.text), calls: said.calls.clone() };
        kept.calls.iter_mut().for_each(|call| redact_json(&mut call.arguments));
        self.transcript.push(Step::Model { text: kept.text, calls: kept.calls, carried });
        if let Some(call) = said.calls.iter().find(|call| call.name == CONCLUDE) {
            let read = Finding::read(&call.arguments).and_then(|finding| match self.wanting(&finding) {
                // The last reply is taken as it is: the judge keeps what holds of it.
                Some(objection) if !was_last => Err(objection),
                _ => Ok(finding),
            });
            return match read {
                Ok(finding) => self.end(Conclusion::Found(finding)),
                Err(why) => self.answer_instead_of_running(&said.calls, &why),
            };
        }
        if said.calls.is_empty() {
            let found = conclusion::find(&said.text).map(|read| {
                read.and_then(|finding| match self.wanting(&finding) {
                    Some(objection) if !was_last => Err(objection),
                    _ => Ok(finding),
                })
            });
            return match found {
                Some(Ok(finding)) => self.end(Conclusion::Found(finding)),
                Some(Err(why)) => self.repair(format!("{why} Give the whole conclusion again.")),
                None => {
                    let how = self.how_to_act().to_owned();
                    self.repair(how)
                }
            };
        }
        if was_last {
            return self.answer_instead_of_running(&said.calls, "The budget for tools is used up: conclude now.");
        }
        self.sort_calls(said.calls)
    }

    /// Thoughts that never came to their end: nothing of them is kept, and the first time there is more room.
    fn cut_off(mut self) -> Self {
        let tokens = self.reply_tokens();
        let why = format!(
            "Your last reply was cut off after {tokens} tokens, before it called a tool or concluded. Think in few \
             words, then act."
        );
        if self.wider {
            return self.repair(why);
        }
        self.wider = true;
        self.transcript.push(Step::Repair { text: why });
        self
    }

    fn reply_tokens(&self) -> u32 {
        self.limits.reply_tokens.saturating_mul(if self.wider { 2 } else { 1 })
    }

    /// What a conclusion lacks, in words for the model.
    fn wanting(&self, finding: &Finding) -> Option<String> {
        let silent = self.must_rule_out && finding.ruled_out.is_empty();
        let ask = "Say in ruled_out what you have ruled out in your field, each with its evidence. Conclude again.";
        self.known.objection(finding).or_else(|| silent.then(|| ask.to_owned()))
    }

    /// Results of calls that were not asked for are dropped; a missing one is answered honestly.
    pub fn on_tools(mut self, mut results: Vec<ToolResult>, _now: Timestamp) -> Self {
        let State::Running { calls, refused } = std::mem::replace(&mut self.state, State::Asking) else {
            return self;
        };
        self.spent.tool_calls += calls.len() as u32;
        let mut answers = refused;
        for call in &calls {
            self.made.insert(key(call));
            let at = results.iter().position(|result| result.call_id == call.id);
            answers.push(at.map(|at| results.swap_remove(at)).unwrap_or_else(|| ToolResult {
                call_id: call.id.clone(),
                text: "the tool gave no answer".to_owned(),
                evidence: None,
            }));
        }
        self.push_answers(answers);
        self
    }

    /// All evidence that was seen so far, in the order of the answers.
    pub fn evidence(&self) -> Vec<EvidenceId> {
        let results = self.transcript.iter().flat_map(|step| match step {
            Step::Tools { results } => results.as_slice(),
            Step::Model { .. } | Step::Repair { .. } => &[],
        });
        results.filter_map(|result| result.evidence.clone()).collect()
    }

    fn sort_calls(mut self, calls: Vec<ToolCall>) -> Self {
        let mut seen = self.made.clone();
        let mut left = self.limits.tool_calls.saturating_sub(self.spent.tool_calls);
        let (mut runnable, mut refused) = (vec![], vec![]);
        for call in calls {
            if call.name == TODO {
                let text = match todo::read(&call.arguments) {
                    Ok(todo) => {
                        self.todo = todo;
                        "noted".to_owned()
                    }
                    Err(why) => why,
                };
                refused.push(ToolResult { call_id: call.id, text, evidence: None });
                continue;
            }
            match self.objection(&call, &seen, left) {
                None => {
                    seen.insert(key(&call));
                    left -= 1;
                    runnable.push(call);
                }
                Some(Objection::Bad(why)) => {
                    self.spent.bad_calls += 1;
                    if self.spent.bad_calls > 1 {
                        self.spent.tool_calls += 1;
                        left = left.saturating_sub(1);
                    }
                    refused.push(ToolResult { call_id: call.id, text: why, evidence: None });
                }
                Some(Objection::NotNow(why)) => {
                    refused.push(ToolResult { call_id: call.id, text: why, evidence: None });
                }
            }
        }
        if runnable.is_empty() {
            self.push_answers(refused);
        } else {
            self.state = State::Running { calls: runnable, refused };
        }
        self
    }

    fn objection(&self, call: &ToolCall, seen: &BTreeSet<String>, left: u32) -> Option<Objection> {
        if !self.tools.iter().any(|tool| tool.name == call.name) {
            let names: Vec<_> = self.tools.iter().map(|tool| tool.name.as_str()).collect();
            let why = format!("there is no tool {:?}; there are: {}, {CONCLUDE}", call.name, names.join(", "));
            return Some(Objection::Bad(why));
        }
        if !call.arguments.is_object() {
            return Some(Objection::Bad("the arguments are not a JSON object; write them again".to_owned()));
        }
        if seen.contains(&key(call)) {
            let why = "you made this very call before; read its answer above, or ask something else".to_owned();
            return Some(Objection::NotNow(why));
        }
        (left == 0).then(|| Objection::NotNow("not run: the budget of tool calls is used up".to_owned()))
    }

    /// The protocol wants an answer to every call, so a complaint travels as the answers.
    fn answer_instead_of_running(mut self, calls: &[ToolCall], why: &str) -> Self {
        let answer = |call: &ToolCall| ToolResult {
            call_id: call.id.clone(),
            text: if call.name == CONCLUDE { why.to_owned() } else { format!("not run. {why}") },
            evidence: None,
        };
        self.push_answers(calls.iter().map(answer).collect());
        self.count_repair(why)
    }

    fn repair(mut self, text: String) -> Self {
        self.transcript.push(Step::Repair { text: text.clone() });
        self.count_repair(&text)
    }

    fn count_repair(mut self, why: &str) -> Self {
        self.spent.repairs += 1;
        if self.spent.repairs > MAX_REPAIRS {
            return self.end_partial(format!("the model did not give a usable conclusion ({why})"));
        }
        self
    }

    fn push_answers(&mut self, results: Vec<ToolResult>) {
        self.transcript.push(Step::Tools { results });
        self.state = State::Asking;
    }

    fn end(mut self, conclusion: Conclusion) -> Self {
        self.state = State::Concluded { conclusion };
        self
    }

    fn end_partial(self, why: String) -> Self {
        let conclusion = self.partial(why);
        self.end(conclusion)
    }

    fn partial(&self, why: String) -> Conclusion {
        let last_thought = self.transcript.iter().rev().find_map(|step| match step {
            Step::Model { text, .. } if !text.trim().is_empty() => Some(cut(text.trim(), 400)),
            Step::Model { .. } | Step::Tools { .. } | Step::Repair { .. } => None,
        });
        Conclusion::Partial { why, seen: self.evidence(), last_thought }
    }

    fn exhausted(&self, now: Timestamp) -> Option<String> {
        if now >= self.limits.deadline {
            return Some("the time for the investigation ran out".to_owned());
        }
        // What is asked for already is still read.
        if matches!(self.state, State::Running { .. }) { None } else { self.limits.exceeded_by(&self.spent) }
    }

    fn is_last_step(&self, now: Timestamp) -> bool {
        self.limits.are_nearly_reached(&self.spent) || now + CLOSING >= self.limits.deadline
    }
}

struct Said {
    text: String,
    calls: Vec<ToolCall>,
}

impl Said {
    /// Whether it calls something, or concludes, as a whole.
    fn is_of_use(&self) -> bool {
        let calls = self.calls.iter().any(|call| call.arguments.is_object());
        calls || conclusion::find(&self.text).is_some_and(|found| found.is_ok())
    }
}

enum Objection {
    /// The model made a mistake of form; from the second on it pays for it.
    Bad(String),
    NotNow(String),
}

/// The same call whatever the order of its arguments.
fn key(call: &ToolCall) -> String {
    format!("{}({})", call.name, sorted(&call.arguments))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
