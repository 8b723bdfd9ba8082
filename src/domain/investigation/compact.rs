//! Fewer words for what the model has read before. Every request is paid for whole, and a model that
//! has answered once needs a reminder of its tools rather than their manual.

use serde_json::{Map, Value};

use super::ToolSchema;

/// The first sentence of a description.
fn first_sentence(text: &str) -> &str {
    let ends = [". ", ": ", "; ", " ("].iter().filter_map(|end| text.find(end)).min();
    ends.map_or(text.trim_end_matches('.'), |end| &text[..end])
}

/// The schema without its explanations: what a call must look like still stands there.
pub(super) fn briefly(tool: &ToolSchema) -> ToolSchema {
    ToolSchema {
        name: tool.name.clone(),
        description: first_sentence(&tool.description).to_owned(),
        parameters: without_words(&tool.parameters),
    }
}

fn without_words(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let mut kept = Map::new();
    for (key, value) in map {
        match key.as_str() {
            "description" | "additionalProperties" | "minimum" | "maximum" | "default" | "minItems" | "maxItems" => {}
            // Names of properties are no keywords.
            "properties" => {
                let named = value.as_object().into_iter().flatten();
                let named = named.map(|(name, property)| (name.clone(), without_words(property)));
                kept.insert(key.clone(), Value::Object(named.collect()));
            }
            "items" => {
                kept.insert(key.clone(), without_words(value));
            }
            _ => {
                kept.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(kept)
}

/// An older answer: its first line is the summary that code wrote.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters).collect();
    let whole = kept.rfind('\n').filter(|at| *at > characters / 2).map_or(kept.as_str(), |at| &kept[..at]);
    format!("{whole}\n{}[shortened; the whole answer is kept]", open_fence(whole))
}

/// Text of the estate that was cut must not run on into what we say: its fence is closed again (S2).
fn open_fence(text: &str) -> String {
    let opened = text.rfind("<data ").map(|at| &text[at + "<data ".len()..]);
    let id = opened.and_then(|rest| rest.split([' ', '>']).next()).filter(|id| !id.is_empty());
    match id.map(|id| format!("</data {id}>")) {
        Some(close) if !text.contains(&close) => format!("{close}\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reminder_still_says_how_to_call() {
        let tool = ToolSchema {
            name: "logs".into(),
            description: "Lines of a log, as templates with counts. Use it early.".into(),
            parameters: json!({
                "type": "object", "additionalProperties": false, "required": ["service"],
                "properties": {
                    "service": {"type": "string", "description": "as the topology names it"},
                    "description": {"type": "string", "description": "a property of that name"},
                    "kind": {"type": "string", "enum": ["a", "b"]},
                },
            }),
        };
        let brief = briefly(&tool);
        assert_eq!(brief.description, "Lines of a log, as templates with counts");
        assert_eq!(
            brief.parameters,
            json!({
                "type": "object", "required": ["service"],
                "properties": {
                    "service": {"type": "string"}, "description": {"type": "string"},
                    "kind": {"type": "string", "enum": ["a", "b"]},
                },
            })
        );
    }

    #[test]
    fn an_old_answer_ends_with_a_whole_line() {
        let text = "the summary\nline one\nline two\nline three";
        assert_eq!(shortened(text, 28), "the summary\nline one\n[shortened; the whole answer is kept]");
        assert_eq!(shortened(text, 300), text);
    }

    #[test]
    fn a_fence_that_is_cut_is_closed() {
        let text = "the summary\n<data 5f3a from loki>\nline one\nline two\nline three\n</data 5f3a>";
        let cut = shortened(text, 45);
        assert_eq!(
            cut,
            "the summary\n<data 5f3a from loki>\nline one\n</data 5f3a>\n[shortened; the whole answer is kept]"
        );
    }
}
