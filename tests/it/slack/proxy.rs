//! Between the watch and Slack: a proxy that breaks what it is told to break, and that measures how
//! long the watch takes to acknowledge what Slack delivers over its sockets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// 429, with a Retry-After of so many seconds; Slack never sees the call.
    Limited(u64),
    /// Slack never sees the call.
    Unavailable,
    /// Slack does it, and the reply is cut off.
    LostReply,
    /// Slack does it at once, the reply comes later.
    SlowReply(Duration),
    /// Slack does it late: a client that has given up meanwhile is wrong about it.
    Late(Duration),
    /// Answers that grow, which the emulator does not know: begun as a post, and taken in silence.
    Streams,
}

/// A call as it came in.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub at: Instant,
    pub body: String,
    pub fault: Fault,
}

type Script = Box<dyn FnMut(&str, usize) -> Fault + Send>;

pub struct Proxy {
    /// With `/api`, as `slack.api_base` wants it.
    pub base: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    tunnel: String,
    http: reqwest::Client,
    script: Mutex<Script>,
    calls: Mutex<Vec<Call>>,
    acks: Mutex<Vec<Duration>>,
    unacked: Mutex<HashMap<(usize, String), (Instant, Value)>>,
    heard: Mutex<Vec<Value>>,
    opened: Mutex<usize>,
    greeted: Mutex<usize>,
    cut: broadcast::Sender<()>,
}

impl Proxy {
    pub async fn before(upstream: &str) -> Self {
        let (api, sockets) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let base = format!("http://{}/api", api.local_addr().unwrap());
        let shared = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            tunnel: sockets.local_addr().unwrap().to_string(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            script: Mutex::new(Box::new(|_, _| Fault::None)),
            calls: Mutex::default(),
            acks: Mutex::default(),
            unacked: Mutex::default(),
            heard: Mutex::default(),
            opened: Mutex::new(0),
            greeted: Mutex::new(0),
            cut: broadcast::channel(8).0,
        });
        let router = Router::new().fallback(forward).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(api, router).await });
        let relay = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = sockets.accept().await {
                tokio::spawn(tunnel(relay.clone(), client));
            }
        });
        Self { base, shared }
    }

    /// `script(method, nth)` says what happens to each call.
    pub fn script(&self, script: impl FnMut(&str, usize) -> Fault + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Cuts every socket, as a network does.
    pub fn disconnect(&self) {
        let _ = self.shared.cut.send(());
    }

    /// Sockets that Slack has said hello on so far: from then on it delivers there.
    pub fn sockets(&self) -> usize {
        *self.shared.greeted.lock().unwrap()
    }

    /// How long each acknowledgement took, shortest first.
    pub fn acks(&self) -> Vec<Duration> {
        let mut acks = self.shared.acks.lock().unwrap().clone();
        acks.sort();
        acks
    }

    /// What was delivered over a socket and acknowledged there.
    pub fn heard(&self) -> Vec<Value> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Envelopes that were delivered and never acknowledged.
    pub fn unacked(&self) -> usize {
        self.shared.unacked.lock().unwrap().len()
    }
}

async fn forward(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let name = uri.path().trim_start_matches("/api/").to_owned();
    let fault = {
        let mut calls = shared.calls.lock().unwrap();
        let nth = calls.iter().filter(|call| call.method == name).count();
        let fault = (shared.script.lock().unwrap())(&name, nth);
        let body = String::from_utf8_lossy(&body).into_owned();
        calls.push(Call { method: name.clone(), at: Instant::now(), body, fault });
        fault
    };
    match fault {
        Fault::Limited(seconds) => {
            let said = json!({"ok": false, "error": "ratelimited"});
            return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())], axum::Json(said))
                .into_response();
        }
        Fault::Unavailable => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Fault::Late(after) => {
            // Whether or not the client still waits.
            let late = shared.clone();
            let sent = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                upstream(&late, method, &uri, &headers, body).await
            });
            return sent.await.unwrap();
        }
        Fault::Streams if name == "chat.startStream" => {
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let post =
                json!({"channel": asked["channel"], "thread_ts": asked["thread_ts"], "text": asked["markdown_text"]});
            let uri = Uri::from_static("/api/chat.postMessage");
            return upstream(&shared, method, &uri, &headers, post.to_string().into()).await;
        }
        Fault::Streams => return axum::Json(json!({"ok": true})).into_response(),
        Fault::None | Fault::LostReply | Fault::SlowReply(_) => {}
    }
    let answer = upstream(&shared, method, &uri, &headers, body).await;
    match fault {
        Fault::LostReply => {
            let cut = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
            Response::new(Body::from_stream(cut))
        }
        Fault::SlowReply(pause) => {
            tokio::time::sleep(pause).await;
            answer
        }
        Fault::None | Fault::Limited(_) | Fault::Unavailable | Fault::Late(_) | Fault::Streams => answer,
    }
}

async fn upstream(shared: &Shared, method: Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Response {
    let mut request = shared.http.request(method, format!("{}{uri}", shared.upstream)).body(body);
    for name in ["authorization", "content-type"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let Ok(answer) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
    let mut body = answer.bytes().await.unwrap_or_default();
    if uri.path().ends_with("apps.connections.open")
        && let Ok(mut opened) = serde_json::from_slice::<Value>(&body)
        && let Some(url) = opened["url"].as_str()
    {
        let host = shared.upstream.trim_start_matches("http://");
        opened["url"] =
            json!(url.replace(host, &shared.tunnel).replace(&host.replace("127.0.0.1", "localhost"), &shared.tunnel));
        body = opened.to_string().into();
    }
    let mut response = (status, body).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    response
}

/// Relays one WebSocket and reads along.
async fn tunnel(shared: Arc<Shared>, mut client: TcpStream) {
    let host = shared.upstream.trim_start_matches("http://").to_owned();
    let Ok(mut server) = TcpStream::connect(host).await else { return };
    let nth = {
        let mut opened = shared.opened.lock().unwrap();
        *opened += 1;
        *opened
    };
    let mut cut = shared.cut.subscribe();
    let (mut from_server, mut from_client) = (Frames::default(), Frames::default());
    let (mut down, mut up) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            _ = cut.recv() => return,
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                for envelope in from_server.read(&down[..length]) {
                    if envelope["type"] == "hello" {
                        *shared.greeted.lock().unwrap() += 1;
                        continue;
                    }
                    shared.unacked.lock().unwrap().insert((nth, id_of(&envelope)), (Instant::now(), envelope));
                }
                if client.write_all(&down[..length]).await.is_err() { return }
            }
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                for envelope in from_client.read(&up[..length]) {
                    if let Some((sent, envelope)) = shared.unacked.lock().unwrap().remove(&(nth, id_of(&envelope))) {
                        shared.acks.lock().unwrap().push(sent.elapsed());
                        shared.heard.lock().unwrap().push(envelope);
                    }
                }
                if server.write_all(&up[..length]).await.is_err() { return }
            }
        }
    }
}

fn id_of(envelope: &Value) -> String {
    envelope["envelope_id"].as_str().unwrap_or_default().to_owned()
}

/// Greetings, envelopes and their acknowledgements in the text frames of one direction (RFC 6455, 5.2). Fragments are not joined:
/// neither side sends any.
#[derive(Default)]
struct Frames {
    kept: Vec<u8>,
    upgraded: bool,
}

impl Frames {
    fn read(&mut self, bytes: &[u8]) -> Vec<Value> {
        self.kept.extend(bytes);
        if !self.upgraded {
            let Some(end) = self.kept.windows(4).position(|four| four == b"\r\n\r\n") else { return vec![] };
            self.kept.drain(..end + 4);
            self.upgraded = true;
        }
        let mut found = vec![];
        while let Some((length, text)) = self.frame() {
            self.kept.drain(..length);
            let frame = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            found.extend(frame.filter(|frame| frame["envelope_id"].is_string() || frame["type"] == "hello"));
        }
        found
    }

    /// Length of the first whole frame, and its payload when it is text.
    fn frame(&self) -> Option<(usize, Option<Vec<u8>>)> {
        let (first, second) = (*self.kept.first()?, *self.kept.get(1)?);
        let (size, mut at) = match second & 0x7f {
            126 => (u16::from_be_bytes(self.kept.get(2..4)?.try_into().ok()?) as usize, 4),
            127 => (u64::from_be_bytes(self.kept.get(2..10)?.try_into().ok()?) as usize, 10),
            short => (short as usize, 2),
        };
        let mask = match second & 0x80 {
            0 => [0; 4],
            _ => {
                let mask: [u8; 4] = self.kept.get(at..at + 4)?.try_into().ok()?;
                at += 4;
                mask
            }
        };
        let payload = self.kept.get(at..at + size)?;
        let text = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        Some((at + size, (first & 0x0f == 1).then_some(text)))
    }
}
