//! ReAct as text, for models without native tools (Yao et al. 2022, arXiv:2210.03629).

use serde_json::Value;

use super::ToolCall;

pub(super) struct Turn {
    /// What is kept of the reply: without an answer that the model made up itself.
    pub text: String,
    pub calls: Vec<ToolCall>,
}

/// `step` makes the ids of the calls unique within the investigation.
pub(super) fn read(reply: &str, step: u32) -> Turn {
    let text = before_invented_observation(&without_thinking(reply)).trim().to_owned();
    // A final answer ends the turn: an action after it would be one too many.
    let calls = if label_at(&text, "Final Answer").is_some() { vec![] } else { actions(&text, step) };
    Turn { text, calls }
}

/// Reasoning models put what they mull over between tags; it is neither action nor answer.
fn without_thinking(reply: &str) -> String {
    match (reply.find("<think>"), reply.rfind("</think>")) {
        (Some(start), Some(end)) if start < end => {
            format!("{}{}", &reply[..start], &reply[end + "</think>".len()..])
        }
        (None, Some(end)) => reply[end + "</think>".len()..].to_owned(),
        _ => reply.to_owned(),
    }
}

/// Many models go on to write the observation themselves. It must never be taken for one.
fn before_invented_observation(reply: &str) -> &str {
    label_at(reply, "Observation").map_or(reply, |(at, _)| &reply[..at])
}

/// Start of the line that begins with `label:`, and where its content starts. Tolerates Markdown
/// (`**Action:**`) around the label.
fn label_at(text: &str, label: &str) -> Option<(usize, usize)> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let stripped = line.trim_start_matches([' ', '\t', '*', '#', '>', '`']);
        let indent = line.len() - stripped.len();
        if let Some(rest) = stripped.strip_prefix(label) {
            let after = rest.trim_start_matches('*');
            if let Some(content) = after.strip_prefix(':') {
                let content = content.trim_start_matches('*');
                return Some((start, start + indent + (stripped.len() - content.len())));
            }
        }
        start += line.len();
    }
    None
}

fn actions(text: &str, step: u32) -> Vec<ToolCall> {
    let mut calls = vec![];
    let mut rest = text;
    while let Some((_, content)) = label_at(rest, "Action") {
        let after = &rest[content..];
        let name = after.lines().next().unwrap_or_default().trim().trim_matches(['`', '*', '"', '[', ']']).to_owned();
        let end = label_at(after, "Action").map_or(after.len(), |(at, _)| at);
        let section = &after[..end];
        let input = label_at(section, "Action Input").map_or("", |(_, at)| &section[at..]);
        calls.push(ToolCall { id: format!("t{step}_{}", calls.len()), name, arguments: arguments(input) });
        rest = &after[end..];
    }
    calls
}

fn arguments(input: &str) -> Value {
    let input = input.split("\nThought:").next().unwrap_or_default();
    let bare = input.trim().trim_start_matches("```json").trim_matches('`').trim();
    if bare.is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    // The first JSON value counts; models like to add an explanation after it.
    let first = serde_json::Deserializer::from_str(bare).into_iter::<Value>().next();
    first.and_then(Result::ok).unwrap_or_else(|| Value::String(bare.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &str, expected: expect_test::Expect) {
        let turn = read(reply, 3);
        let calls = turn.calls.iter().map(|call| format!("{} {} {}", call.id, call.name, call.arguments));
        expected.assert_eq(&calls.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn actions_are_read_in_the_shapes_that_models_write() {
        check(
            "Thought: look\nAction: metrics\nAction Input: {\"query\": \"up\"}\nObservation: up is 1\nAction: evil",
            expect_test::expect![[r#"t3_0 metrics {"query":"up"}"#]],
        );
        check(
            "**Action:** `logs`\n**Action Input:**\n```json\n{\"query\": \"{app=\\\"a\\\"}\"}\n```\nAction: topology\n",
            expect_test::expect![[r#"
                t3_0 logs {"query":"{app=\"a\"}"}
                t3_1 topology {}"#]],
        );
        check("Action: metrics\nAction Input: up{", expect_test::expect![[r#"t3_0 metrics "up{""#]]);
        check("<think>Action: x</think>Final Answer: {}\nAction: y", expect_test::expect![[""]]);
    }

    #[test]
    fn an_invented_observation_is_not_kept() {
        assert_eq!(
            read("Action: a\nAction Input: {}\nObservation: all is well", 1).text,
            "Action: a\nAction Input: {}"
        );
    }
}
