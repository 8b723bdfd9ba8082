//! What the model is told at each step.

use super::{
    Carried, Investigation, Mode, ModelMessage, ModelRequest, Step, ToolResult, compact, conclude_schema, cut, todo,
};
use crate::domain::time::Timestamp;

/// Answers of older rounds are cut to this many characters: what mattered was said in the thoughts,
/// and the whole history is paid for again at each step. The newest round is cut late.
const OLD_ANSWER: usize = 150;
const FRESH_ANSWER: usize = 1_300;
const FRESH_ROUNDS: usize = 1;
/// How many times shorter answers are told to a model that could not read them all.
const TIGHT: usize = 4;
/// Characters of its own older thoughts, for such a model.
const TIGHT_THOUGHT: usize = 200;
/// Tools of the box that page through what was cut.
const LOOKS_INTO_ANSWERS: [&str; 2] = ["evidence_grep", "evidence_page"];

impl Investigation {
    pub(super) fn request(&self, now: Timestamp) -> ModelRequest {
        let last = self.is_last_step(now);
        let mut messages = vec![
            ModelMessage::System { text: self.brief.system.clone() },
            ModelMessage::User { text: self.brief_now().to_owned() },
        ];
        let rounds = self.transcript.iter().filter(|step| matches!(step, Step::Tools { .. })).count();
        let mut round = 0;
        for step in &self.transcript {
            if matches!(step, Step::Tools { .. }) {
                round += 1;
            }
            let room = if round + FRESH_ROUNDS > rounds { FRESH_ANSWER } else { OLD_ANSWER };
            self.say(step, if self.tight { room / TIGHT } else { room }, &mut messages);
        }
        let left = if last { self.last_call() } else { self.limits.left(&self.spent, now) };
        // At the end, so that what stands before it is the same in each request and can be cached.
        if self.spent.steps > 0 || last {
            messages.push(ModelMessage::User { text: todo::with(&self.todo, left) });
        }
        let tools = match (self.mode, last) {
            (Mode::Text, _) => vec![],
            (Mode::Native, true) => vec![conclude_schema()],
            (Mode::Native, false) => {
                let offered = self.tools.iter().filter(|tool| self.is_of_use(&tool.name)).cloned();
                let all = offered.chain([todo::schema(), conclude_schema()]);
                match self.spent.steps {
                    0 => all.collect(),
                    _ => all.map(|tool| compact::briefly(&tool)).collect(),
                }
            }
        };
        ModelRequest { messages, tools, max_tokens: self.reply_tokens() }
    }

    /// What looks into long answers is of no use before there is one; an answer that was cut names it.
    fn is_of_use(&self, tool: &str) -> bool {
        let named = |step: &Step| match step {
            Step::Tools { results } => results.iter().any(|result| result.text.contains(tool)),
            Step::Model { .. } | Step::Repair { .. } => false,
        };
        !LOOKS_INTO_ANSWERS.contains(&tool) || self.transcript.iter().any(named)
    }

    /// Whole the first time, then in few words.
    fn brief_now(&self) -> &str {
        if self.spent.steps == 0 || self.brief.recap.is_empty() { &self.brief.user } else { &self.brief.recap }
    }

    fn say(&self, step: &Step, room: usize, messages: &mut Vec<ModelMessage>) {
        let answer = |result: &ToolResult| {
            let text = compact::shortened(&result.text, room);
            match &result.evidence {
                Some(id) => format!("[{}]\n{text}", id.mark()),
                None => text,
            }
        };
        match (self.mode, step) {
            (Mode::Native, Step::Model { text, calls, carried }) => {
                let (calls, carried) = (calls.clone(), carried.clone());
                let text = if self.tight { cut(text, TIGHT_THOUGHT) } else { text.clone() };
                messages.push(ModelMessage::Assistant { text, calls, carried });
            }
            (Mode::Text, Step::Model { text, .. }) => {
                let (text, carried) = (text.clone(), Carried::default());
                messages.push(ModelMessage::Assistant { text, calls: vec![], carried });
            }
            (Mode::Native, Step::Tools { results }) => messages.extend(
                results
                    .iter()
                    .map(|result| ModelMessage::Tool { call_id: result.call_id.clone(), text: answer(result) }),
            ),
            (Mode::Text, Step::Tools { results }) => {
                // Several actions run at once: each answer says which of them it belongs to.
                let many = results.len() > 1;
                let label =
                    |number: usize| if many { format!("Observation {}: ", number + 1) } else { "Observation: ".into() };
                let said = results.iter().enumerate();
                let text: Vec<String> = said.map(|(number, result)| label(number) + &answer(result)).collect();
                messages.push(ModelMessage::User { text: text.join("\n\n") });
            }
            (Mode::Native | Mode::Text, Step::Repair { text }) => {
                messages.push(ModelMessage::User { text: text.clone() });
            }
        }
    }

    fn last_call(&self) -> String {
        let form = match self.mode {
            Mode::Native => "Call `conclude` now.",
            Mode::Text => "Write `Final Answer:` and the JSON object now.",
        };
        format!(
            "This is your last reply: no more tools. {form} Claim only what the evidence above shows; \
             if it does not show the cause, leave service and change null and say what is missing in `needs`."
        )
    }

    pub(super) fn how_to_act(&self) -> &'static str {
        match self.mode {
            Mode::Native => "Your reply called no tool. Call a tool to gather evidence, or call `conclude`.",
            Mode::Text => {
                "Your reply held neither an Action nor a Final Answer. Write `Action:` and `Action Input:`, \
                 or `Final Answer:` followed by the JSON object."
            }
        }
    }
}
