//! A server over HTTP that answers what it is told to, byte by byte.

use std::{
    convert::Infallible,
    future::IntoFuture,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{self, HeaderMap, Method},
};
use rmcp_layers::{Lifecycle, Upstream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub type Response = http::Response<Body>;

/// Answers a request.
pub type Respond = fn(&Value) -> Response;

/// How the server and its upstream shake hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// `initialize`, and a session.
    Session,
    /// `initialize`, and no session.
    Sessionless,
    /// `server/discover`: 2026-07-28.
    Modern,
}

pub const ERAS: [Era; 3] = [Era::Session, Era::Sessionless, Era::Modern];

/// What one exchange brought.
pub struct Seen {
    pub method: Method,
    pub headers: HeaderMap,
    pub message: Value,
}

/// A running server.
pub struct Server {
    pub url: String,
    pub initialized: Arc<AtomicUsize>,
    pub posted: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// Answers handshakes; and requests, `GET` and later notifications as `answer` says.
    pub async fn serve<F>(era: Era, answer: F) -> Self
    where
        F: Fn(Seen) -> Response + Clone + Send + Sync + 'static,
    {
        let initialized = Arc::new(AtomicUsize::new(0));
        let posted = Arc::<Mutex<Vec<Value>>>::default();
        let (count, note) = (initialized.clone(), posted.clone());
        let handle = move |method: Method, headers: HeaderMap, body: String| async move {
            let message: Value = serde_json::from_str(&body).unwrap_or_default();
            let name = message["method"].as_str().unwrap_or_default().to_owned();
            match name.as_str() {
                "initialize" if era == Era::Modern => return status(400),
                "initialize" => {
                    let session = count.fetch_add(1, Ordering::SeqCst) + 1;
                    let mut response = json_body(200, &initialize(&message["id"]));
                    if era == Era::Session {
                        let session = format!("session-{session}").parse().unwrap();
                        response.headers_mut().insert("mcp-session-id", session);
                    }
                    return response;
                }
                "server/discover" if era == Era::Modern => {
                    return json_body(200, &discover(&message["id"]));
                }
                "server/discover" => return status(400),
                "notifications/initialized" => return status(202),
                _ => {}
            }
            if method == Method::DELETE {
                return status(200);
            }
            if !message.is_null() {
                note.lock().unwrap().push(message.clone());
            }
            answer(Seen {
                method,
                headers,
                message,
            })
        };
        let router = axum::Router::new().fallback(handle);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, router).into_future());
        Self {
            url,
            initialized,
            posted,
        }
    }

    /// An upstream that gives a silent server three seconds.
    pub fn upstream(&self, era: Era) -> Upstream {
        let lifecycle = match era {
            Era::Modern => Lifecycle::Discover,
            _ => Lifecycle::Initialize,
        };
        let builder = Upstream::builder()
            .name("scripted")
            .lifecycle(lifecycle)
            .request_timeout(Duration::from_secs(3));
        builder.http(self.url.as_str()).unwrap()
    }

    pub fn sessions(&self) -> usize {
        self.initialized.load(Ordering::SeqCst)
    }

    /// How often a request of this method came.
    pub fn count(&self, method: &str) -> usize {
        let posted = self.posted.lock().unwrap();
        posted.iter().filter(|it| it["method"] == method).count()
    }
}

fn initialize(id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": {
        "protocolVersion": "2025-11-25",
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "scripted", "version": "0" },
    }})
}

fn discover(id: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": { "tools": {} },
        "ttlMs": 0,
        "cacheScope": "private",
    }})
}

pub fn status(status: u16) -> Response {
    let response = http::Response::builder().status(status);
    response.body(Body::empty()).unwrap()
}

pub fn body(status: u16, kind: &str, body: impl Into<Body>) -> Response {
    let response = http::Response::builder().status(status);
    let response = response.header("content-type", kind);
    response.body(body.into()).unwrap()
}

pub fn json_body(status: u16, message: &Value) -> Response {
    body(status, "application/json", message.to_string())
}

/// One message in an event, on a stream that stays open.
pub fn open_stream(status: u16, message: &Value) -> Response {
    let event = format!("event: message\ndata: {message}\n\n");
    raw_stream(status, event.into_bytes())
}

/// These bytes, on a stream that stays open.
pub fn raw_stream(status: u16, bytes: Vec<u8>) -> Response {
    use futures::StreamExt;
    let first = futures::stream::once(std::future::ready(Ok::<_, Infallible>(bytes)));
    let stream = first.chain(futures::stream::pending());
    body(status, "text/event-stream", Body::from_stream(stream))
}

/// The events of a channel.
pub fn stream_of(events: mpsc::UnboundedReceiver<String>) -> Response {
    let events = futures::stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    body(200, "text/event-stream", Body::from_stream(events))
}

/// The result of a tool, or of `tools/list`.
pub fn done(request: &Value, text: &str) -> Value {
    let result = match request["method"].as_str() {
        Some("tools/list") => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "tools": [{ "name": text, "inputSchema": { "type": "object" } }],
        }),
        _ => json!({
            "resultType": "complete",
            "content": [{ "type": "text", "text": text }],
        }),
    };
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}
