use expect_test::{Expect, expect};

use super::*;
use crate::domain::card::ButtonAction;

fn check(name: &str, block: Block, expected: Expect) {
    let renderer = Renderer::new(Some("https://console.example/mw/"), Some("T1"));
    let card = Card { fallback: name.into(), blocks: vec![block] };
    let rendered = blocks(&renderer, &card, "k");
    expected.assert_eq(&serde_json::to_string_pretty(&rendered.blocks).unwrap());
}

const HOSTILE: &str = "<!channel> <@U0EVIL> `rm` <https://evil.test|ok> @here & \u{202e}x";

#[test]
fn hostile_words_in_text() {
    check(
        "text",
        Block::Text { spans: vec![Span::plain("log: "), Span::quoted(HOSTILE), Span::code(HOSTILE)] },
        expect![[]],
    );
}

#[test]
fn hostile_words_in_fields() {
    let value = vec![Span::quoted(HOSTILE), Span::code("a`b"), Span::Person { id: "T1/U7".into() }];
    let stranger = vec![Span::Person { id: "T2/U7".into() }, Span::Person { id: "T1/U7><!here".into() }];
    let fields = vec![
        Field { label: "Service *x*".into(), value },
        Field { label: "Owner".into(), value: stranger },
        Field { label: "Empty".into(), value: vec![] },
    ];
    check("fields", Block::Fields { fields }, expect![[]]);
}

#[test]
fn links_stay_below_the_console() {
    let link = |path: &str| Span::Link { text: "go".into(), path: path.into() };
    let spans = vec![
        link("/incidents/INC-1"),
        link("//evil.test/x"),
        link("../../admin"),
        link("https://evil.test/"),
        Span::Evidence { id: "INC-1.E3".into() },
        Span::Date { at: Timestamp::from_secs(1_700_000_000) },
    ];
    check("links", Block::Text { spans }, expect![[]]);
}

#[test]
fn context_keeps_strangers_words_apart() {
    let spans = vec![Span::plain("INC-214, v7, from "), Span::quoted("<!here>"), Span::plain(" at night")];
    check("context", Block::Context { spans }, expect![[]]);
}

#[test]
fn a_button_asks_and_a_second_of_its_kind_gets_its_own_row() {
    let approve = |value: &str| Button {
        action: ButtonAction::Approve,
        label: "Approve".into(),
        value: value.into(),
        style: ButtonStyle::Primary,
        confirm: Some("Roll back? ".repeat(60)),
    };
    check(
        "buttons",
        Block::Actions { buttons: vec![approve("1.aa"), approve("2.bb"), approve(&"x".repeat(2001))] },
        expect![[]],
    );
}

#[test]
fn what_is_too_much_is_cut_but_buttons_stay() {
    let line = || Block::Text { spans: vec![Span::quoted("z".repeat(9000))] };
    let mut parts: Vec<Block> = (0..80).map(|_| line()).collect();
    let button = Button {
        action: ButtonAction::Reject,
        label: "Reject".into(),
        value: "v".into(),
        style: ButtonStyle::Danger,
        confirm: None,
    };
    parts.push(Block::Actions { buttons: vec![button] });
    let rendered = blocks(&Renderer::default(), &Card { fallback: "f".repeat(9000), blocks: parts }, "k");
    assert_eq!(rendered.blocks.len(), BLOCKS);
    assert!(rendered.blocks.iter().any(|block| block["type"] == "actions"));
    assert!(units(&rendered.text) <= FALLBACK);
    assert!(serde_json::to_string(&rendered.blocks).unwrap().len() < 30_000);
}
