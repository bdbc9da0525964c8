//! What the line transport promises of messages that cannot be read: who waits for one is told at once.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod nameless;
mod order;
mod requests;
mod sent_directly;

use std::sync::{Arc, Mutex};

use common::script::{scripted_lines, serve_stdio};
use rmcp_layers::Upstream;
use serde_json::{Value, json};

const CHILD: &str = "SERVE_AS_SCRIPT";

/// More than is read by default.
const LONG: usize = 17 * 1024 * 1024;

/// Not a test: the child process of one. It is this binary, started again with a variable set.
#[tokio::test]
async fn serve_as_script() {
    if std::env::var_os(CHILD).is_some() {
        serve_stdio(Script::default().answers()).await;
    }
}

fn ok(id: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "content": [], "resultType": "complete" } })
        .to_string()
}

fn long() -> String {
    "x".repeat(LONG)
}

/// The lines of a tool call's answer that cannot be read, by the tool's name.
fn broken(name: &str, id: &Value) -> Option<String> {
    Some(match name {
        "cut off" => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":["#),
        "no JSON" => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[tru]}}}}"#),
        "no message" => format!(r#"{{"jsonrpc":"1.0","id":{id},"result":{{}}}}"#),
        "no error" => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":"failed"}}"#),
        // As the servers of different SDKs write it.
        "too long" => {
            let content = json!([{ "type": "text", "text": long() }]);
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":{content}}}}}"#)
        }
        "too long, id last" => {
            let content = json!([{ "type": "text", "text": long(), "id": 99 }]);
            format!(r#"{{"result":{{"content":{content}}},"jsonrpc":"2.0","id":{id}}}"#)
        }
        "nameless" => r#"{"jsonrpc":"2.0","result":{"content":["#.to_owned(),
        "nameless, too long" => format!(r#"{{"jsonrpc":"2.0","result":{{"text":"{}"#, long()),
        _ => return None,
    })
}

/// A server that does as the tool's name says.
#[derive(Clone, Default)]
struct Script {
    /// The ids of the calls to `hold`, the oldest first.
    held: Arc<Mutex<Vec<Value>>>,
}

impl Script {
    fn answers(&self) -> impl Fn(Value) -> Option<Vec<String>> + Clone + Send + Sync + use<> {
        let held = self.held.clone();
        move |request| {
            let id = &request["id"];
            let mut held = held.lock().unwrap();
            Some(match request["params"]["name"].as_str()? {
                "hold" => {
                    held.push(id.clone());
                    Vec::new()
                }
                "release one" => vec![ok(&held.remove(0)), ok(id)],
                "log" => vec![
                    "handling a call".to_owned(),
                    r#"{"level":"info","id":1,"message":"handling a call"}"#.to_owned(),
                    long(),
                    String::new(),
                    ok(id),
                ],
                name => vec![broken(name, id).unwrap_or_else(|| ok(id))],
            })
        }
    }

    fn upstream(&self) -> Upstream {
        let builder = Upstream::builder().name("fickle");
        scripted_lines(builder, self.answers())
    }
}
