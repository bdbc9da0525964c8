//! A caller's malformed messages over streamable HTTP.

use std::{sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use rmcp::transport::{
    StreamableHttpServerConfig, streamable_http_server::session::local::LocalSessionManager,
};
use rmcp_layers::{LenientHttpLayer, McpServer};
use serde_json::Value;

use super::{Answer, Holding, MODERN_META, Row, misfit, rows};
use crate::peers::{LEGACY, MODERN};

/// The time in which a message is answered.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn each_malformed_message_has_its_answer_over_http() {
    let holding = Holding::new();
    let door = Door::new(&holding).await;
    let mut wrong = Vec::new();
    for revision in [LEGACY, MODERN] {
        for row in rows() {
            let Some(message) = row.in_revision(revision) else {
                continue;
            };
            let answered = door.answer(revision, &row, message, &holding);
            let fault = match tokio::time::timeout(SOON, answered).await {
                Ok(fault) => fault,
                Err(_) => Some("no answer".to_owned()),
            };
            wrong.extend(fault.map(|fault| format!("{revision} {}: {fault}", row.name())));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A server over HTTP, and its client.
#[derive(Clone)]
struct Door {
    url: String,
    client: reqwest::Client,
}

/// A response: the messages that it has, or another text.
struct Response {
    status: u16,
    session: Option<String>,
    messages: Result<Vec<String>, String>,
}

impl Door {
    async fn new(holding: &Holding) -> Self {
        let server = McpServer::new(holding.stack());
        let service = server.http_service(
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default().with_json_response(true),
        );
        let router = axum::Router::new()
            .route_service("/mcp", service)
            .layer(LenientHttpLayer::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, client }
    }

    async fn post(&self, session: Option<&str>, body: Vec<u8>) -> Response {
        let mut post = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        post = match session {
            Some(session) => post.header("mcp-session-id", session),
            None => mirrored(&body)
                .into_iter()
                .fold(post, |post, (name, value)| post.header(name, value)),
        };
        let response = match post.body(body).send().await {
            Ok(response) => response,
            Err(error) => {
                let messages = Err(format!("{error:?}"));
                return Response {
                    status: 0,
                    session: None,
                    messages,
                };
            }
        };
        let header = |name| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (session, kind) = (header("mcp-session-id"), header("content-type"));
        let status = response.status().as_u16();
        let text = response.text().await.unwrap_or_default();
        let messages = match kind.as_deref() {
            Some("application/json") => Ok(vec![text]),
            Some("text/event-stream") => Ok(events(&text)),
            _ if text.is_empty() => Ok(Vec::new()),
            _ => Err(text),
        };
        Response {
            status,
            session,
            messages,
        }
    }

    /// Begins a session, if the revision has sessions.
    async fn session(&self, revision: &str) -> Option<String> {
        if revision == MODERN {
            return None;
        }
        let initialize = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{{}},"clientInfo":{{"name":"raw","version":"0"}}}}}}"#
        );
        let session = self.post(None, initialize.into_bytes()).await.session;
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let session = session.expect("a session");
        self.post(Some(&session), initialized.into()).await;
        Some(session)
    }

    /// Returns what is wrong with the answer to a message, or with the session after it.
    async fn answer(
        &self,
        revision: &str,
        row: &Row,
        message: Vec<u8>,
        holding: &Holding,
    ) -> Option<String> {
        let session = self.session(revision).await;
        let meta = if revision == MODERN { MODERN_META } else { "" };
        let request = |id: &str, method: &str, name: &str| {
            let params = format!(r#"{{"_meta":{{{meta}}}{name}}}"#);
            format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{params}}}"#)
                .into_bytes()
        };
        let held = tokio::spawn({
            let (door, session) = (self.clone(), session.clone());
            let hold = request("hold", "tools/call", r#","name":"hold""#);
            async move { door.post(session.as_deref(), hold).await }
        });
        let session = session.as_deref();
        let is_long = message.len() > 1024 * 1024;
        let response = self.post(session, message).await;
        let fault = response.misfit(&row.id, &row.http, is_long);
        let next = self.post(session, request("next", "tools/list", "")).await;
        if let Some(next) = next.misfit(r#""next""#, &Answer::Result, false) {
            return Some(format!("{} and then {next}", fault.unwrap_or_default()));
        }
        holding.release();
        let held = held.await.unwrap();
        if let Some(held) = held.misfit(r#""hold""#, &Answer::Result, false) {
            return Some(format!("another call is answered {held}"));
        }
        fault
    }
}

impl Response {
    fn misfit(&self, id: &str, expected: &Answer, is_long: bool) -> Option<String> {
        let status = self.status;
        let messages = match &self.messages {
            Ok(messages) => messages,
            Err(text) => return Some(format!("HTTP {status} {text}")),
        };
        let (answer, more) = match (messages.as_slice(), expected) {
            ([], Answer::None) => return (status != 202).then(|| format!("HTTP {status}")),
            ([error], Answer::None) => {
                let is_refused = status == 400 || (is_long && status == 413);
                let json: Value = serde_json::from_str(error).unwrap_or_default();
                let is_fine = is_refused && json.get("error").is_some();
                return (!is_fine).then(|| format!("HTTP {status} {error}"));
            }
            ([], _) => return Some(format!("HTTP {status} without a message")),
            ([answer, more @ ..], _) => (answer, more),
        };
        let status_fits = match (status, expected) {
            (413, _) => is_long,
            (200, Answer::Result) => true,
            (200 | 400 | 404, Answer::Error(..)) => true,
            _ => false,
        };
        if !status_fits || !more.is_empty() {
            return Some(format!("HTTP {status} {messages:?}"));
        }
        // The part that is not read may have the id.
        let id = if status == 413 { "" } else { id };
        misfit(answer, id, expected).map(|fault| format!("HTTP {status} {fault}"))
    }
}

/// The messages of an event stream.
fn events(text: &str) -> Vec<String> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let data = data.map(str::trim).filter(|data| !data.is_empty());
    data.map(str::to_owned).collect()
}

/// The headers that mirror a body of the current revision, as far as a client can know them.
fn mirrored(body: &[u8]) -> Vec<(&'static str, String)> {
    let text = String::from_utf8_lossy(&body[..body.len().min(256 * 1024)]);
    let method = member(&text, "method");
    if method == Some("initialize") {
        return Vec::new();
    }
    let version = member(&text, "io.modelcontextprotocol/protocolVersion");
    let mut headers = vec![("mcp-protocol-version", version.unwrap_or(MODERN).to_owned())];
    if let Some(method) = method {
        headers.push(("mcp-method", method.to_owned()));
    }
    let name = match method {
        Some("tools/call" | "prompts/get") => "name",
        Some("resources/read" | "resources/directory/read") => "uri",
        Some("tasks/get" | "tasks/update" | "tasks/cancel") => "taskId",
        _ => return headers,
    };
    let params = text
        .split_once(r#""params":"#)
        .map(|(_, params)| params.to_owned());
    // The client's own name is in `_meta`.
    let params = params.map(|params| params.replace(MODERN_META, ""));
    if let Some(name) = params.as_deref().and_then(|params| member(params, name)) {
        headers.push(("mcp-name", name.to_owned()));
    }
    headers
}

/// The text of a member, in JSON that may be malformed.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = text.split_once(&format!(r#""{name}":""#))?;
    let (value, _) = value.split_once('"')?;
    let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    // An escape stands for another character.
    match value {
        r"tools\/list" => Some("tools/list"),
        _ => (is_plain && !value.contains('\\')).then_some(value),
    }
}
