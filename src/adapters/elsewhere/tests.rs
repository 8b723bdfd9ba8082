use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;

use super::*;
use crate::domain::card::{Block, Button, ButtonAction, ButtonStyle, Card, Span};
use crate::domain::id::IncidentId;
use crate::domain::incident::Incident;
use crate::domain::notice::Phase;
use crate::domain::time::Timestamp;

async fn answered(status: u16, headers: &'static [(&'static str, &'static str)]) -> Result<(), OutletError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let app = Router::new().route(
        "/",
        post(move || async move {
            let mut response = (StatusCode::from_u16(status).unwrap(), "no").into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            response
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    send(client().unwrap().post(url)).await.map(drop)
}

#[tokio::test]
async fn what_an_answer_means_for_the_next_try() {
    use OutletError::{Later, Refused, Unavailable};
    let seconds = |seconds| Err(Later(Duration::from_secs(seconds)));
    assert_eq!(answered(202, &[]).await, Ok(()));
    assert_eq!(answered(429, &[("retry-after", "7")]).await, seconds(7));
    assert_eq!(answered(429, &[]).await, seconds(5));
    assert_eq!(answered(503, &[("retry-after", "99999")]).await, seconds(3600));
    let dated = [("date", "Sat, 21 Nov 2026 10:00:00 GMT"), ("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT")];
    assert_eq!(answered(503, Box::leak(Box::new(dated))).await, seconds(30));
    assert!(matches!(answered(503, &[]).await, Err(Unavailable(_))));
    assert!(matches!(answered(502, &[]).await, Err(Unavailable(_))));
    assert!(matches!(answered(408, &[]).await, Err(Unavailable(_))));
    assert!(matches!(answered(400, &[]).await, Err(Refused(said)) if said == "400 Bad Request: no"));
    assert!(matches!(answered(307, &[("location", "http://169.254.169.254/")]).await, Err(Refused(_))));
    let gone = client().unwrap().post("http://127.0.0.1:9/");
    assert!(matches!(send(gone).await, Err(Unavailable(_))));
}

fn notice(card: Card) -> Notice {
    let incident = Incident::blank(IncidentId::numbered(3));
    let told = (Phase::Opened, "**bold** [x](http://evil)".to_owned(), None);
    let at = Timestamp::from_secs(1_763_776_800);
    Notice { card, ..Notice::of(&incident, told, at, "midwatch", "http://watch.example/") }
}

#[test]
fn foreign_text_is_no_markup_in_teams_and_nobody_can_click() {
    let evil = "<at>everyone</at> [click](http://evil.example) **x**";
    let card = Card {
        fallback: "f".into(),
        blocks: vec![
            Block::Text {
                spans: vec![Span::quoted(evil), Span::Link { text: "page".into(), path: "/incident/INC-3".into() }],
            },
            Block::Actions {
                buttons: vec![Button {
                    action: ButtonAction::Approve,
                    label: "Approve".into(),
                    value: "INC-3.P1.x".into(),
                    style: ButtonStyle::Primary,
                    confirm: None,
                }],
            },
        ],
    };
    let message = teams::message(&notice(card), "http://watch.example");
    let text = message.to_string();
    assert!(!text.contains("Approve") && !text.contains("INC-3.P1.x"), "{text}");
    let card = &message["attachments"][0]["content"];
    // Only elements that know no markup carry foreign text.
    for element in card["body"].as_array().unwrap() {
        assert_eq!(element["type"], "RichTextBlock", "{element}");
    }
    let urls: Vec<&str> = text.match_indices("\"url\":\"").map(|(at, _)| &text[at + 7..]).collect();
    assert_eq!(urls.len(), 2);
    assert!(urls.iter().all(|url| url.starts_with("http://watch.example/incident/INC-3\"")), "{urls:?}");
}

#[test]
fn a_long_card_stays_below_what_teams_takes() {
    let line = || vec![Span::quoted("é".repeat(5_000))];
    let card = Card { fallback: "x".repeat(9_000), blocks: (0..40).map(|_| Block::Text { spans: line() }).collect() };
    let text = teams::message(&notice(card), "http://watch.example").to_string();
    assert!(text.len() < 28_000 && text.contains("More is on the incident's page"), "{}", text.len());
}

#[test]
fn a_pager_is_acknowledged_only_by_a_person() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pager = PagerDuty::new(&toml::from_str("routing_key = \"R0\"").unwrap()).unwrap();
    let mut notice = notice(Card { fallback: String::new(), blocks: vec![] });
    (notice.phase, notice.severity) = (Phase::Acknowledged, crate::domain::incident::Sev::One);
    assert!(!pager.wants(&notice), "a merge has handed it over");
    notice.by = Some("t/ada".into());
    assert!(pager.wants(&notice));
}
