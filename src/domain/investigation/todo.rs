//! The model's own list of what to look at: kept in the state, so that it survives a restart and
//! stays in sight when old answers are shortened. Writing it costs no tool call.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ToolSchema;

pub const TODO: &str = "todo";
const MAX_ITEMS: usize = 12;
const MAX_TEXT: usize = 160;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Todo {
    pub text: String,
    #[serde(default)]
    pub done: bool,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Todo>,
}

/// The new list; the error is a sentence that the model can act on.
pub(super) fn read(arguments: &Value) -> Result<Vec<Todo>, String> {
    let list: List = serde_json::from_value(arguments.clone())
        .map_err(|why| format!("the list was not understood ({why}); it needs items, each with text and done"))?;
    let short = |item: Todo| Todo { text: item.text.trim().chars().take(MAX_TEXT).collect(), done: item.done };
    Ok(list.items.into_iter().map(short).filter(|item| !item.text.is_empty()).take(MAX_ITEMS).collect())
}

/// The list before what else is said.
pub(super) fn with(items: &[Todo], said: String) -> String {
    let line = |item: &Todo| format!("[{}] {}", if item.done { "x" } else { " " }, item.text);
    let lines: Vec<String> = items.iter().map(line).collect();
    if lines.is_empty() { said } else { format!("Your list:\n{}\n{said}", lines.join("\n")) }
}

pub(super) fn schema() -> ToolSchema {
    ToolSchema {
        name: TODO.to_owned(),
        description: "Write down what you want to check, and what is done. Replaces the former list; free of charge. \
                      Call it together with other tools."
            .to_owned(),
        parameters: json!({
            "type": "object",
            "properties": {"items": {"type": "array", "items": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "done": {"type": "boolean"}},
                "required": ["text", "done"],
            }}},
            "required": ["items"],
        }),
    }
}
