use expect_test::{Expect, expect};

use super::*;
use crate::domain::card::ButtonAction;

fn check(name: &str, block: Block, expected: Expect) {
    let renderer = Renderer::new(Some("https://console.example/mw/"), Some("T1"));
    let card = Card { fallback: name.into(), blocks: vec![block] };
    let rendered = blocks(&renderer, &card, "k");
    // The joiner that breaks mentions and addresses is invisible; here it should be seen.
    let shown = serde_json::to_string_pretty(&rendered.blocks).unwrap().replace('\u{2060}', "[U+2060]");
    expected.assert_eq(&shown);
}

const HOSTILE: &str = "<!channel> <@U0EVIL> `rm` <https://evil.test|ok> @here & \u{202e}x";

#[test]
fn hostile_words_in_text() {
    check(
        "text",
        Block::Text { spans: vec![Span::plain("log: "), Span::quoted(HOSTILE), Span::code(HOSTILE)] },
        expect![[r#"
            [
              {
                "type": "rich_text",
                "elements": [
                  {
                    "type": "rich_text_section",
                    "elements": [
                      {
                        "type": "text",
                        "text": "log: "
                      },
                      {
                        "type": "text",
                        "text": "<!channel> <@U0EVIL> `rm` <https://evil.test|ok> @here & x",
                        "style": {
                          "italic": true
                        }
                      },
                      {
                        "type": "text",
                        "text": "<!channel> <@U0EVIL> `rm` <https://evil.test|ok> @here & x",
                        "style": {
                          "code": true
                        }
                      }
                    ]
                  }
                ],
                "block_id": "mw-8254c329a928-0"
              }
            ]"#]],
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
    check(
        "fields",
        Block::Fields { fields },
        expect![[r#"
            [
              {
                "type": "section",
                "fields": [
                  {
                    "type": "mrkdwn",
                    "verbatim": true,
                    "text": "*Service ∗x∗*\n&lt;!channel&gt; &lt;@[U+2060]U0EVIL&gt; ˋrmˋ &lt;https:[U+2060]//evil.test|ok&gt; @[U+2060]here &amp; x`aˋb`<@U7>"
                  },
                  {
                    "type": "mrkdwn",
                    "verbatim": true,
                    "text": "*Owner*\n@[U+2060]U7@[U+2060]U7&gt;&lt;!here"
                  },
                  {
                    "type": "mrkdwn",
                    "verbatim": true,
                    "text": "*Empty*\n–"
                  }
                ],
                "block_id": "mw-8254c329a928-0"
              }
            ]"#]],
    );
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
    check(
        "links",
        Block::Text { spans },
        expect![[r#"
        [
          {
            "type": "rich_text",
            "elements": [
              {
                "type": "rich_text_section",
                "elements": [
                  {
                    "type": "link",
                    "url": "https://console.example/mw/incidents/INC-1",
                    "text": "go"
                  },
                  {
                    "type": "link",
                    "url": "https://console.example/mw/evil.test/x",
                    "text": "go"
                  },
                  {
                    "type": "text",
                    "text": "go",
                    "style": {
                      "bold": true
                    }
                  },
                  {
                    "type": "link",
                    "url": "https://console.example/mw/https://evil.test/",
                    "text": "go"
                  },
                  {
                    "type": "link",
                    "url": "https://console.example/mw/evidence/INC-1.E3",
                    "text": "[E3]"
                  },
                  {
                    "type": "date",
                    "timestamp": 1700000000,
                    "format": "{date_short_pretty} {time_secs}",
                    "fallback": "2023-11-14T22:13:20.000Z"
                  }
                ]
              }
            ],
            "block_id": "mw-8254c329a928-0"
          }
        ]"#]],
    );
}

#[test]
fn context_keeps_strangers_words_apart() {
    let spans = vec![Span::plain("INC-214, v7, from "), Span::quoted("<!here>"), Span::plain(" at night")];
    check(
        "context",
        Block::Context { spans },
        expect![[r#"
        [
          {
            "type": "context",
            "elements": [
              {
                "type": "mrkdwn",
                "verbatim": true,
                "text": "INC-214, v7, from "
              },
              {
                "type": "plain_text",
                "text": "<!here>",
                "emoji": false
              },
              {
                "type": "mrkdwn",
                "verbatim": true,
                "text": " at night"
              }
            ],
            "block_id": "mw-8254c329a928-0"
          }
        ]"#]],
    );
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
        expect![[r#"
            [
              {
                "type": "actions",
                "elements": [
                  {
                    "type": "button",
                    "action_id": "approve",
                    "text": {
                      "type": "plain_text",
                      "text": "Approve",
                      "emoji": false
                    },
                    "value": "1.aa",
                    "style": "primary",
                    "confirm": {
                      "title": {
                        "type": "plain_text",
                        "text": "Sure?",
                        "emoji": false
                      },
                      "text": {
                        "type": "plain_text",
                        "text": "Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll ba… [cut]",
                        "emoji": false
                      },
                      "confirm": {
                        "type": "plain_text",
                        "text": "Approve",
                        "emoji": false
                      },
                      "deny": {
                        "type": "plain_text",
                        "text": "Not yet",
                        "emoji": false
                      }
                    }
                  }
                ],
                "block_id": "mw-8254c329a928-0"
              },
              {
                "type": "actions",
                "elements": [
                  {
                    "type": "button",
                    "action_id": "approve",
                    "text": {
                      "type": "plain_text",
                      "text": "Approve",
                      "emoji": false
                    },
                    "value": "2.bb",
                    "style": "primary",
                    "confirm": {
                      "title": {
                        "type": "plain_text",
                        "text": "Sure?",
                        "emoji": false
                      },
                      "text": {
                        "type": "plain_text",
                        "text": "Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll back? Roll ba… [cut]",
                        "emoji": false
                      },
                      "confirm": {
                        "type": "plain_text",
                        "text": "Approve",
                        "emoji": false
                      },
                      "deny": {
                        "type": "plain_text",
                        "text": "Not yet",
                        "emoji": false
                      }
                    }
                  }
                ],
                "block_id": "mw-8254c329a928-1"
              },
              {
                "type": "context",
                "elements": [
                  {
                    "type": "plain_text",
                    "text": "Not shown, because the value is too long for Slack: Approve",
                    "emoji": false
                  }
                ],
                "block_id": "mw-8254c329a928-2"
              }
            ]"#]],
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
