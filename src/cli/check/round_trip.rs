//! Whether a model calls a tool and takes its answer: an endpoint that says OK may still refuse the second request of
//! every investigation.

use serde_json::json;

use crate::ports::{Model, ModelError, ModelMessage, ModelRequest, ToolSchema};

/// Enough for a model that thinks before it calls.
const TOKENS: u32 = 1_024;

/// `Ok(Err)`: the model can, and did not.
pub(super) async fn run(model: &dyn Model) -> Result<Result<String, String>, String> {
    let ask = "Which node is the watch on? Call the tool `which_node`, then answer in one word.";
    let mut messages = vec![ModelMessage::User { text: ask.into() }];
    let tools = vec![ToolSchema {
        name: "which_node".into(),
        description: "The node that the watch is on.".into(),
        parameters: json!({"type": "object", "properties": {}, "additionalProperties": false}),
    }];
    let request = |messages: &[ModelMessage]| ModelRequest {
        messages: messages.to_vec(),
        tools: tools.clone(),
        max_tokens: TOKENS,
    };
    let reply = match model.complete(request(&messages)).await {
        Ok(reply) if !reply.calls.is_empty() => reply,
        Ok(_) | Err(ModelError::Empty { .. }) => {
            return Ok(Err(
                "called no tool when it was asked to; where it never does, set model.mode = \"text\"".into()
            ));
        }
        Err(error) => {
            return Err(format!("{error}, when it was offered a tool (key: model.mode, \"text\" needs none)"));
        }
    };
    let answers: Vec<_> = (reply.calls.iter())
        .map(|call| ModelMessage::Tool { call_id: call.id.clone(), text: "node-1".into() })
        .collect();
    messages.push(ModelMessage::Assistant { text: reply.text, calls: reply.calls, carried: reply.carried });
    messages.extend(answers);
    match model.complete(request(&messages)).await {
        Ok(_) | Err(ModelError::Empty { .. }) => Ok(Ok("calls a tool and takes its answer".into())),
        Err(error) => Err(format!("{error}, when it was told what a tool answered (key: model.mode)")),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::ports::{ModelReply, ToolCall};

    struct Talks {
        calls: bool,
        listens: bool,
    }

    #[async_trait]
    impl Model for Talks {
        fn name(&self) -> &str {
            "talks"
        }
        async fn complete(&self, request: ModelRequest) -> Result<ModelReply, ModelError> {
            let call = ToolCall { id: "c1".into(), name: "which_node".into(), arguments: json!({}) };
            match request.messages.last() {
                Some(ModelMessage::Tool { call_id, .. }) if self.listens && call_id == "c1" => {
                    Ok(ModelReply::default())
                }
                Some(ModelMessage::Tool { .. }) => Err(ModelError::Refused("400 Bad Request: no signature".into())),
                _ => Ok(ModelReply { calls: if self.calls { vec![call] } else { vec![] }, ..ModelReply::default() }),
            }
        }
        async fn check(&self) -> Result<String, ModelError> {
            Ok(String::new())
        }
    }

    #[tokio::test]
    async fn what_answers_may_still_refuse_the_answer_of_a_tool() {
        assert!(run(&Talks { calls: true, listens: true }).await.unwrap().is_ok());
        assert!(run(&Talks { calls: false, listens: true }).await.unwrap().is_err());
        assert!(run(&Talks { calls: true, listens: false }).await.unwrap_err().contains("no signature"));
    }
}
