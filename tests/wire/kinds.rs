//! Results with members that no method asked for.

use serde_json::{Value, json};

use crate::{
    common::specification::{METHODS, Method},
    peers::{Caller, LEGACY, MODERN, Road, Server},
};

/// The methods of the current revision whose results have members of their own, and such a member.
fn methods() -> impl Iterator<Item = (&'static Method, String, Value)> {
    let typed = METHODS.iter().filter(|method| {
        let by_handshake = ["server/discover", "subscriptions/listen"].contains(&method.name);
        !method.is_removed && !method.result.is_empty() && !by_handshake
    });
    typed.map(|method| {
        let result: Value = serde_json::from_str(&format!("{{{}}}", method.result)).unwrap();
        let (member, value) = result.as_object().unwrap().iter().next().unwrap();
        (method, member.clone(), value.clone())
    })
}

/// What makes another type of a result.
fn strangers() -> Value {
    json!({
        "supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0, "cacheScope": "private",
        "protocolVersion": "2025-11-25", "serverInfo": { "name": "a", "version": "0" },
        "completion": { "values": [] }, "messages": [], "prompts": [], "resources": [],
        "resourceTemplates": [], "contents": [], "tools": [], "skills": [], "roots": [], "tasks": [],
        "skill": { "name": "s", "uri": "skill://s", "description": "s" },
        "action": "accept", "content": [], "isError": false, "structuredContent": {},
        "taskId": "t", "status": "working", "createdAt": "2026-01-01T00:00:00Z",
        "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttl": null,
        "_meta": { "io.modelcontextprotocol/subscriptionId": 1 },
        "resultType": "complete",
    })
}

/// How a server says it over one road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Answer,
    /// After a notification.
    Later,
    /// The id after the result, as a text.
    IdLast,
}

async fn told(revision: &'static str, road: Road, session: bool, way: Way) {
    let (server, _) = Server::new(revision, move |request| {
        let method = request["method"].as_str().unwrap_or_default();
        let Some((_, member, value)) = methods().find(|(known, ..)| known.name == method) else {
            return Vec::new();
        };
        let mut result = strangers();
        result[member] = value;
        let answer = match way {
            Way::IdLast => format!(r#"{{"result":{result},"jsonrpc":"2.0","id":"$request_id"}}"#),
            _ => format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#),
        };
        let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
        match way {
            Way::Later => vec![log.to_owned(), answer],
            _ => vec![answer],
        }
    });
    let server = if session {
        server.with_session()
    } else {
        server
    };
    let capabilities = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let mut caller = Caller::modern_with(server.by(road).await, capabilities);
    for (method, member, value) in methods() {
        let answer = caller.ask(method.name, method.params).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            answer["result"][member], value,
            "{revision} {road:?} session={session} {way:?} {method:?} {answer}"
        );
    }
}

#[tokio::test]
async fn an_answer_is_read_as_the_result_of_its_requests_method_whatever_else_is_in_it() {
    for revision in [LEGACY, MODERN] {
        for road in [Road::Lines, Road::Json, Road::Events] {
            for way in [Way::Answer, Way::Later, Way::IdLast] {
                if way != Way::Later || road != Road::Json {
                    told(revision, road, false, way).await;
                }
                if revision == LEGACY && road != Road::Lines && way != Way::Later {
                    told(revision, road, true, way).await;
                }
            }
        }
    }
    told(LEGACY, Road::Events, true, Way::Later).await;
}

#[tokio::test]
async fn a_handshake_is_read_as_one_whatever_else_is_in_it() {
    for road in [Road::Lines, Road::Json, Road::Events] {
        let (server, _) = Server::answering(LEGACY, r#"{"content":[]}"#);
        let capabilities = r#"{"tools":{}},"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":0,"cacheScope":"private","tools":[],"completion":{"values":[]}"#;
        // They end the capabilities, and go on with the result.
        let capabilities = format!("{capabilities},\"x\":{{}}");
        let server = server.with_capabilities(capabilities.leak());
        let mut caller = Caller::modern(server.by(road).await);
        let answer: Value =
            serde_json::from_str(&caller.ask("tools/call", r#""name":"t""#).await).unwrap();
        assert_eq!(answer["result"]["content"], json!([]), "{road:?} {answer}");
    }
}

#[tokio::test]
async fn a_custom_methods_result_keeps_all_its_members() {
    for road in [Road::Lines, Road::Json, Road::Events] {
        let result = r#"{"content":[{"type":"text","text":"x","n":1}],"tools":[],"x":2}"#;
        let (server, _) = Server::answering(LEGACY, result);
        let mut caller = Caller::legacy(server.by(road).await).await;
        let answer = caller.ask("x/custom", "").await;
        assert!(
            answer.ends_with(&format!(r#""result":{result}}}"#)),
            "{road:?} {answer}"
        );
    }
}
