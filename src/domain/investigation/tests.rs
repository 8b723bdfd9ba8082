use proptest::prelude::*;
use serde_json::json;

use super::*;

const START: Timestamp = Timestamp::from_secs(1_000);

fn open(mode: Mode) -> Investigation {
    let schema = |name: &str| ToolSchema { name: name.into(), description: "d".into(), parameters: json!({}) };
    let brief = Brief { system: "watch".into(), user: "cart is slow".into(), recap: String::new() };
    let tools = vec![schema("metrics"), schema("logs")];
    Investigation::open(IncidentId::numbered(1), mode, brief, tools, Limits::standard(START))
}

fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments }
}

fn reply(text: &str, calls: Vec<ToolCall>) -> Result<ModelReply, ModelError> {
    Ok(ModelReply { text: text.into(), calls, tokens_in: 100, tokens_out: 10, ..ModelReply::default() })
}

fn conclusion() -> Value {
    json!({"service": "cart", "change": null, "mechanism": "pool exhausted", "remedy": "none",
        "claims": [{"text": "p99 is 2 s", "evidence": ["E1"]}], "ruled_out": [], "confidence": 80})
}

fn results(calls: &[ToolCall], first: usize) -> Vec<ToolResult> {
    let answer = |(at, call): (usize, &ToolCall)| ToolResult {
        call_id: call.id.clone(),
        text: "p99 is 2 s".into(),
        evidence: Some(IncidentId::numbered(1).evidence(first + at)),
    };
    calls.iter().enumerate().map(answer).collect()
}

fn last_text(investigation: &Investigation) -> String {
    match investigation.next(START) {
        // What is left of the budget stands behind everything.
        Next::AskModel(request) => match request.messages.iter().rfind(|message| !is_budget(message)).unwrap() {
            ModelMessage::Tool { text, .. } | ModelMessage::User { text } => text.clone(),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

fn is_budget(message: &ModelMessage) -> bool {
    matches!(message, ModelMessage::User { text } if text.starts_with("Left: ") || text.starts_with("Your list:"))
}

#[test]
fn what_is_left_and_the_list_are_said_with_every_question() {
    let list =
        json!({"items": [{"text": "look at the pool", "done": true}, {"text": "ask who changed it", "done": false}]});
    let calls = vec![call("a", "metrics", json!({})), call("t", TODO, list)];
    let machine = open(Mode::Native).on_model(reply("", calls.clone()), START);
    assert_eq!(machine.next(START), Next::RunTools(calls[..1].to_vec()), "the list is no tool");
    let machine = machine.on_tools(results(&calls[..1], 1), START);
    let Next::AskModel(request) = machine.next(START) else { panic!("not asked") };
    let Some(ModelMessage::User { text }) = request.messages.last() else { panic!("nothing left") };
    assert_eq!(
        text,
        "Your list:\n[x] look at the pool\n[ ] ask who changed it\n\
         Left: 11 replies, 24 tool calls, 59890 tokens, 4 min."
    );
}

#[test]
fn money_ends_an_investigation_as_tokens_do() {
    let mut machine = open(Mode::Native);
    (machine.limits.cost, machine.limits.prices) = (0.001, Prices { input: 5.0, output: 15.0 });
    let first = vec![call("a", "metrics", json!({"q": 1}))];
    // 100 tokens in and 10 out: 0.00065 a reply.
    let machine = machine.on_model(reply("", first.clone()), START).on_tools(results(&first, 1), START);
    assert!((machine.spent.cost - 0.00065).abs() < 1e-9);
    let machine = machine.on_model(reply("", vec![call("b", "metrics", json!({"q": 2}))]), START);
    let machine = machine.on_tools(results(&[call("b", "metrics", json!({"q": 2}))], 2), START);
    let Next::Conclude(Conclusion::Partial { why, .. }) = machine.next(START) else { panic!("went on") };
    assert_eq!(why, "no conclusion within a cost of 0.00");
}

#[test]
fn parallel_calls_run_together_and_lead_to_a_conclusion() {
    let calls = vec![call("a", "metrics", json!({"q": 1})), call("b", "logs", json!({"q": 1}))];
    let machine = open(Mode::Native).on_model(reply("look", calls.clone()), START);
    assert_eq!(machine.next(START), Next::RunTools(calls.clone()));
    let machine = machine.on_tools(results(&calls, 1), START);
    assert!(last_text(&machine).starts_with("[E2]"));
    let machine = machine.on_model(reply("", vec![call("c", CONCLUDE, conclusion())]), START);
    let Next::Conclude(Conclusion::Found(finding)) = machine.next(START) else { panic!("not concluded") };
    assert_eq!((finding.service.as_deref(), finding.confidence), (Some("cart"), 0.8));
}

#[test]
fn a_repeated_call_is_refused_whatever_the_order_of_its_arguments() {
    let first = vec![call("a", "metrics", json!({"q": 1, "r": 2}))];
    let machine = open(Mode::Native).on_model(reply("", first.clone()), START).on_tools(results(&first, 1), START);
    let machine = machine.on_model(reply("", vec![call("b", "metrics", json!({"r": 2, "q": 1}))]), START);
    assert!(last_text(&machine).contains("this very call before"));
}

#[test]
fn the_first_bad_call_is_free_and_the_next_are_counted() {
    let machine = open(Mode::Native).on_model(reply("", vec![call("a", "shell", json!({}))]), START);
    assert!(last_text(&machine).contains("no tool \"shell\"; there are: metrics, logs, conclude"));
    assert_eq!(machine.spent.tool_calls, 0);
    let machine = machine.on_model(reply("", vec![call("b", "metrics", json!("{"))]), START);
    assert!(last_text(&machine).contains("not a JSON object"));
    assert_eq!(machine.spent.tool_calls, 1);
}

#[test]
fn an_endless_tool_loop_ends_in_an_honest_partial_report() {
    let mut machine = open(Mode::Native);
    let mut asked = 0;
    for at in 0.. {
        match machine.next(START) {
            Next::AskModel(request) => {
                asked += 1;
                let last = machine.spent.steps + 1 >= machine.limits.steps;
                assert!(!last || request.tools == vec![conclude_schema()], "tools offered on the last step");
                let calls = vec![call(&format!("c{at}"), "metrics", json!({"q": at}))];
                machine = machine.on_model(reply("again", calls), START);
            }
            Next::RunTools(calls) => machine = machine.on_tools(results(&calls, at), START),
            Next::Conclude(Conclusion::Partial { seen, last_thought, .. }) => {
                assert_eq!((seen.len(), last_thought.as_deref()), (11, Some("again")));
                break;
            }
            Next::Conclude(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(asked, 12);
}

#[test]
fn limits_of_calls_tokens_and_time_hold() {
    let many: Vec<_> = (0..40).map(|at| call(&format!("c{at}"), "metrics", json!({"q": at}))).collect();
    let machine = open(Mode::Native).on_model(reply("", many), START);
    let Next::RunTools(calls) = machine.next(START) else { panic!() };
    assert_eq!(calls.len(), 25);
    let mut machine = machine.on_tools(results(&calls, 1), START);
    assert!(last_text(&machine).contains("last reply"), "no calls left: conclude");
    machine.spent.tokens = 60_000;
    assert!(matches!(machine.next(START), Next::Conclude(Conclusion::Partial { .. })));
    let late = open(Mode::Native).next(START + Duration::from_secs(240));
    assert!(matches!(late, Next::Conclude(Conclusion::Partial { .. })));
}

#[test]
fn a_model_that_is_away_ends_it_and_garbage_is_repaired_twice() {
    let away = open(Mode::Native).on_model(Err(ModelError::Unavailable("503".into())), START);
    assert!(matches!(away.next(START), Next::Conclude(Conclusion::Partial { .. })));
    let mut machine = open(Mode::Native);
    for repairs in 1..=3 {
        assert!(matches!(machine.next(START), Next::AskModel(_)), "after {repairs}");
        machine = machine.on_model(Err(ModelError::Garbage("<html>".into())), START);
    }
    assert!(matches!(machine.next(START), Next::Conclude(Conclusion::Partial { .. })));
}

#[test]
fn text_mode_offers_no_tools_and_reads_the_final_answer() {
    let machine = open(Mode::Text);
    let Next::AskModel(request) = machine.next(START) else { panic!() };
    assert!(request.tools.is_empty());
    let machine = machine.on_model(reply("Thought: t\nAction: metrics\nAction Input: {\"q\": 1}", vec![]), START);
    let Next::RunTools(calls) = machine.next(START) else { panic!() };
    let machine = machine.on_tools(results(&calls, 1), START);
    assert!(last_text(&machine).starts_with("Observation: [E1]"));
    let answer = format!("Final Answer:\n```json\n{}\n```", conclusion());
    let machine = machine.on_model(reply(&answer, vec![]), START);
    assert!(matches!(machine.next(START), Next::Conclude(Conclusion::Found(_))));
}

#[test]
fn old_answers_are_shortened_and_fresh_ones_are_not() {
    let mut machine = open(Mode::Native);
    for at in 0..5 {
        let calls = vec![call(&format!("c{at}"), "metrics", json!({"q": at}))];
        let long = ToolResult { call_id: calls[0].id.clone(), text: "x".repeat(3_000), evidence: None };
        machine = machine.on_model(reply("", calls), START).on_tools(vec![long], START);
    }
    let Next::AskModel(request) = machine.next(START) else { panic!() };
    let lengths = request.messages.iter().filter_map(|message| match message {
        ModelMessage::Tool { text, .. } => Some(text.len() / 1_000),
        _ => None,
    });
    assert_eq!(lengths.collect::<Vec<_>>(), [0, 0, 0, 0, 1], "only the newest is more than a summary");
}

/// Whatever a model may answer.
fn any_reply() -> impl Strategy<Value = Result<ModelReply, ModelError>> {
    let name = prop_oneof![Just("metrics"), Just("logs"), Just("shell")];
    let arguments = prop_oneof![Just(json!({"q": 1})), Just(json!({"q": 2})), Just(json!("{"))];
    let calls = proptest::collection::vec((name, arguments), 0..4);
    prop_oneof![
        6 => (calls, 0_u64..4_000).prop_map(|(calls, tokens)| {
            let calls = calls.into_iter().enumerate().map(|(at, (name, args))| call(&format!("{tokens}-{at}"), name, args));
            let calls = calls.collect();
            Ok(ModelReply { text: "hm".into(), calls, tokens_in: tokens, tokens_out: 1, ..ModelReply::default() })
        }),
        2 => "Action: (metrics|logs)\nAction Input: \\{\"q\": [0-9]\\}".prop_map(|text| reply(&text, vec![])),
        1 => Just(reply("", vec![call("z", CONCLUDE, conclusion())])),
        1 => Just(reply("", vec![call("z", CONCLUDE, json!({"service": 3}))])),
        1 => Just(Err(ModelError::Garbage("x".into()))),
        1 => any::<bool>().prop_map(|cut| Err(empty(cut))),
    ]
}

proptest! {
    /// Stored and restored between any two steps, it goes on identically, and it always ends.
    #[test]
    fn a_restored_investigation_goes_on_identically(
        text_mode in any::<bool>(),
        replies in proptest::collection::vec(any_reply(), 40),
    ) {
        let mut machine = open(if text_mode { Mode::Text } else { Mode::Native });
        let mut replies = replies.into_iter();
        let mut now = START;
        for _ in 0..40 {
            let stored = serde_json::to_string(&machine).unwrap();
            let restored: Investigation = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(&restored, &machine);
            prop_assert_eq!(restored.next(now), machine.next(now));
            now = now + Duration::from_secs(3);
            match restored.next(now) {
                Next::AskModel(request) => {
                    check_protocol(&request)?;
                    let reply = replies.next().unwrap();
                    let one = machine.on_model(reply.clone(), now);
                    prop_assert_eq!(&restored.on_model(reply, now), &one);
                    machine = one;
                }
                Next::RunTools(calls) => {
                    let one = machine.on_tools(results(&calls, 1), now);
                    prop_assert_eq!(&restored.on_tools(results(&calls, 1), now), &one);
                    machine = one;
                }
                Next::Conclude(_) => return Ok(()),
            }
        }
        prop_assert!(false, "never ended");
    }
}

/// Every call is answered once, directly after the message that made it.
fn check_protocol(request: &ModelRequest) -> Result<(), TestCaseError> {
    let mut open: Vec<String> = vec![];
    for message in &request.messages {
        match message {
            ModelMessage::Assistant { calls, .. } => {
                prop_assert!(open.is_empty());
                open = calls.iter().map(|call| call.id.clone()).collect();
            }
            ModelMessage::Tool { call_id, .. } => {
                let at = open.iter().position(|id| id == call_id);
                prop_assert!(at.is_some());
                open.remove(at.unwrap());
            }
            ModelMessage::System { .. } | ModelMessage::User { .. } => prop_assert!(open.is_empty()),
        }
    }
    prop_assert!(open.is_empty());
    Ok(())
}

#[test]
fn a_misspelt_name_gets_a_second_try_with_the_names() {
    let known = Known { services: ["session".to_owned()].into(), changes: vec!["session revision 3".into()] };
    for (service, change, said) in [
        ("sessions", "session revision 3", "Services are: \"session\""),
        ("session", "session-3", "Ids of changes: \"session revision 3\""),
    ] {
        let finding = serde_json::json!({
            "service": service, "change": change, "mechanism": "m", "confidence": 0.9,
            "claims": [{"text": "p99 is 2 s", "evidence": ["E1"]}], "ruled_out": [], "remedy": "none"
        });
        let machine = open(Mode::Text).knowing(known.clone());
        let machine = machine.on_model(reply(&format!("Final Answer: {finding}"), vec![]), START);
        assert!(matches!(machine.next(START), Next::AskModel(_)), "{service} {change}");
        assert!(last_text(&machine).contains(said), "{}", last_text(&machine));
    }
}

fn empty(cut: bool) -> ModelError {
    ModelError::Empty { why: "length".into(), cut, tokens_in: 100, tokens_out: 2_000 }
}

fn room(investigation: &Investigation) -> u32 {
    match investigation.next(START) {
        Next::AskModel(request) => request.max_tokens,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reply_that_is_used_up_by_thinking_is_paid_for_and_asked_again_with_more_room() {
    let mut machine = open(Mode::Native);
    machine.limits.prices = Prices { input: 5.0, output: 15.0 };
    assert_eq!(room(&machine), 2_000);
    let machine = machine.on_model(Err(empty(true)), START);
    assert_eq!((machine.spent.tokens, machine.spent.repairs, machine.spent.steps), (2_100, 0, 1));
    assert!((machine.spent.cost - 0.0305).abs() < 1e-9, "{}", machine.spent.cost);
    assert_eq!(room(&machine), 4_000);
    // Once: the next one counts as a failure.
    let machine = machine.on_model(Err(empty(true)), START);
    assert_eq!((machine.spent.tokens, machine.spent.repairs), (4_200, 1));
    assert!(last_text(&machine).contains("Your last reply was empty (length)"), "{}", last_text(&machine));
    // What was not cut gets no more room by being empty.
    let other = open(Mode::Native).on_model(Err(empty(false)), START);
    assert_eq!((room(&other), other.spent.repairs), (2_000, 1));
}

#[test]
fn thinking_without_an_end_ends_by_the_budget() {
    let mut machine = open(Mode::Native);
    machine.limits.tokens = 4_000;
    for _ in 0..2 {
        machine = machine.on_model(Err(empty(true)), START);
    }
    let Next::Conclude(Conclusion::Partial { why, .. }) = machine.next(START) else { panic!("went on") };
    assert_eq!(why, "no conclusion within 4000 tokens");
}

#[test]
fn a_thought_that_was_cut_off_is_told_so_and_gets_more_room_once() {
    let cut = |text: &str, calls: Vec<ToolCall>| {
        reply(text, calls).map(|reply| ModelReply { cut: true, tokens_out: 2_000, ..reply })
    };
    let broken = call("a", CONCLUDE, json!("{\"mechanism\": \"the po"));
    for (text, calls) in [("<think>It may be that", vec![]), ("", vec![broken])] {
        let machine = open(Mode::Native).on_model(cut(text, calls.clone()), START);
        assert_eq!((room(&machine), machine.spent.repairs), (4_000, 0));
        assert!(last_text(&machine).contains("was cut off after 2000 tokens"), "{}", last_text(&machine));
        let machine = machine.on_model(cut(text, calls), START);
        assert_eq!(machine.spent.repairs, 1);
        assert!(last_text(&machine).contains("was cut off after 4000 tokens"), "{}", last_text(&machine));
    }
    // What was said whole counts, though the rest is missing.
    let machine = open(Mode::Native).on_model(cut("", vec![call("a", "metrics", json!({"q": 1}))]), START);
    assert!(matches!(machine.next(START), Next::RunTools(_)));
}

#[test]
fn what_is_too_long_for_a_model_is_told_once_in_fewer_words() {
    let calls = vec![call("a", "metrics", json!({"q": 1}))];
    let mut answers = results(&calls, 1);
    answers[0].text = "x".repeat(3_000);
    let machine = open(Mode::Native).on_model(reply("", calls), START).on_tools(answers, START);
    let length = |machine: &Investigation| match machine.next(START) {
        Next::AskModel(request) => serde_json::to_string(&request.messages).unwrap().len(),
        other => panic!("{other:?}"),
    };
    let too_long = || Err(ModelError::TooLong("400: 9000 tokens".into()));
    let before = length(&machine);
    let machine = machine.on_model(too_long(), START);
    assert!(length(&machine) + 800 < before, "{} {before}", length(&machine));
    let Next::Conclude(Conclusion::Partial { why, .. }) = machine.on_model(too_long(), START).next(START) else {
        panic!("went on")
    };
    assert_eq!(why, "model cannot read that much at once: 400: 9000 tokens");
}

/// Signatures come back as they were, and what an older version has stored is still read.
#[test]
fn what_a_provider_added_is_said_again() {
    let mut said = reply("", vec![call("a", "metrics", json!({"q": 1}))]).unwrap();
    said.carried.message.insert("reasoning_content".into(), json!("hm"));
    said.carried.calls.insert("a".into(), json!({"extra_content": {"s": "1"}}).as_object().unwrap().clone());
    let machine = open(Mode::Native).on_model(Ok(said.clone()), START).on_tools(results(&said.calls, 1), START);
    let Next::AskModel(request) = machine.next(START) else { panic!("not asked") };
    let carried = request.messages.iter().find_map(|message| match message {
        ModelMessage::Assistant { carried, .. } => Some(carried),
        _ => None,
    });
    assert_eq!(carried, Some(&said.carried));
    let old = json!({"step": "model", "text": "hm", "calls": []});
    assert_eq!(
        serde_json::from_value::<Step>(old).unwrap(),
        Step::Model { text: "hm".into(), calls: vec![], carried: Carried::default() }
    );
}
