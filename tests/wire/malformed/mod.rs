//! Malformed messages, and the answer that each has by JSON-RPC 2.0 and MCP.

mod by_method;
mod callers;
mod http;
mod lines;
mod servers;

use std::sync::Arc;

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
use rmcp_layers::Handler;
use serde_json::{Value, value::RawValue};
use tokio::sync::Semaphore;

use crate::{common::finished, peers::MODERN};

/// A message of a caller, and its answer.
#[derive(Clone, Debug)]
struct Row {
    /// `$m` stands for a `_meta` of the revision, and `$i` for the members of one.
    message: Vec<u8>,
    /// The only revision that the message is sent in.
    only: Option<&'static str>,
    /// The `id` of the answer as JSON. An answer without `id` has an empty one here.
    id: String,
    lines: Answer,
    http: Answer,
}

/// The answer to a message.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Result,
    /// An error of this code. Its `data.path`, or else its message, has the text.
    Error(i64, String),
    /// There is none. Over HTTP the message is accepted, or refused with an error.
    None,
}

impl Row {
    fn new(message: impl Into<Vec<u8>>, id: impl Into<String>, answer: Answer) -> Self {
        Self {
            message: message.into(),
            only: None,
            id: id.into(),
            http: answer.clone(),
            lines: answer,
        }
    }

    fn http(self, http: Answer) -> Self {
        Self { http, ..self }
    }

    fn only(self, revision: &'static str) -> Self {
        Self {
            only: Some(revision),
            ..self
        }
    }

    /// Returns the message in a revision. Returns `None` if it is not sent in that.
    fn in_revision(&self, revision: &'static str) -> Option<Vec<u8>> {
        if self.only.is_some_and(|only| only != revision) {
            return None;
        }
        let members = match revision {
            MODERN => MODERN_META,
            _ => r#""x.y/z":1"#,
        };
        let meta = format!(r#""_meta":{{{members}}}"#);
        Some(replace(&replace(&self.message, "$m", &meta), "$i", members))
    }

    fn name(&self) -> String {
        let start = String::from_utf8_lossy(&self.message[..self.message.len().min(160)]);
        format!("{start:?}")
    }
}

const MODERN_META: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"0"},"io.modelcontextprotocol/clientCapabilities":{}"#;

fn replace(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    // Only one row is not UTF-8, and it is short.
    match std::str::from_utf8(text) {
        Ok(text) => text.replace(from, to).into_bytes(),
        Err(_) => {
            let pieces: Vec<_> = text.split(|byte| *byte == 0xff).collect();
            let replaced = pieces.iter().map(|piece| replace(piece, from, to));
            replaced.collect::<Vec<_>>().join(&0xff)
        }
    }
}

fn error(code: i64, path: &str) -> Answer {
    Answer::Error(code, path.to_owned())
}

/// Returns why a message is not this answer. `id` is JSON, or empty.
fn misfit(answer: &str, id: &str, expected: &Answer) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Message<'a> {
        // A number of any size.
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        result: Option<Value>,
        error: Option<Value>,
    }
    let told = |why: &str| Some(format!("{why}: {}", &answer[..answer.len().min(400)]));
    let Ok(message) = serde_json::from_str::<Message<'_>>(answer) else {
        return told("not JSON");
    };
    if message.id.map_or("", RawValue::get) != id {
        return told("another id");
    }
    match (expected, message.result, message.error) {
        (Answer::Result, Some(_), None) => None,
        (Answer::Error(code, path), None, Some(error)) if error["code"] == *code => {
            let message = error["message"].as_str().unwrap_or_default();
            let at = error["data"]["path"].as_str();
            let is_path = *code == -32602 && path.starts_with("params");
            let is_named = at == Some(path) || (!is_path && message.contains(path.as_str()));
            if is_named {
                None
            } else {
                told("it does not name the path")
            }
        }
        _ => told("another answer"),
    }
}

/// A server whose tool `hold` answers once it is let go.
#[derive(Clone)]
struct Holding(Arc<Semaphore>);

impl Holding {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    fn stack(&self) -> Handler<Self> {
        Handler::new(self.clone())
    }

    /// Lets one call go.
    fn release(&self) {
        self.0.add_permits(1);
    }
}

impl ServerHandler for Holding {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == "hold" {
            self.0.acquire().await.unwrap().forget();
        }
        finished("done")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::default())
    }
}

fn rows() -> Vec<Row> {
    let mut rows = callers::rows();
    rows.extend(by_method::rows());
    rows
}

#[test]
fn an_error_has_one_code_over_every_transport() {
    let rows = rows();
    assert!(rows.len() >= 100, "{}", rows.len());
    for row in rows {
        if let (Answer::Error(lines, _), Answer::Error(http, _)) = (&row.lines, &row.http) {
            assert_eq!(lines, http, "{}", row.name());
        }
    }
}
