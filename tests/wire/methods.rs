//! Every method of the specification, through the patterns that read the table of methods.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::model::{CacheScope, ClientRequest, ServerResult};
use rmcp_layers::{
    BoxStack, McpRequest, McpResponse, Principal,
    auth::{ApiKeys, AuthLayer, Rules, Scopes},
    cache::CacheLayer,
    gateway::Gateway,
    retry::{RetryLayer, RetryPolicy},
};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};

use crate::{
    common::{
        Stack,
        specification::{By, METHODS, Method, TASK},
    },
    peers::{Caller, LEGACY, MODERN, Road, Server},
};

const CAPABILITIES: &str = r#"{"tools":{},"prompts":{},"resources":{},"completions":{},"logging":{},"extensions":{"io.modelcontextprotocol/skills":{},"io.modelcontextprotocol/tasks":{}}}"#;

/// The requests that a server was sent, by method.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<BTreeMap<String, usize>>>);

impl Requests {
    /// Counts a request. Returns the number of requests of its method so far.
    fn count(&self, request: &Value) -> usize {
        let method = request["method"].as_str().unwrap_or_default();
        let mut all = self.0.lock().unwrap();
        let count = all.entry(method.to_owned()).or_default();
        *count += 1;
        *count
    }

    fn of(&self, method: &Method) -> usize {
        self.0
            .lock()
            .unwrap()
            .get(method.name)
            .copied()
            .unwrap_or_default()
    }
}

/// The methods that a client asks for after the handshake, and that are answered at once.
fn asked() -> impl Iterator<Item = &'static Method> {
    METHODS
        .iter()
        .filter(|method| !["initialize", "subscriptions/listen"].contains(&method.name))
}

/// An answer with a result of a method, and these members beside.
fn answer(method: &Method, more: &[&str]) -> String {
    let mut members = vec![r#""resultType":"complete""#];
    members.push(method.result);
    members.extend(more);
    members.retain(|members| !members.is_empty());
    if method.result.is_empty() {
        members.clear();
    }
    let result = members.join(",");
    format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{{{result}}}}}"#)
}

fn asks_for(request: &Value) -> &'static Method {
    let name = request["method"].as_str().unwrap_or_default();
    METHODS.iter().find(|method| method.name == name).unwrap()
}

fn revision(method: &Method) -> &'static str {
    if method.is_removed { LEGACY } else { MODERN }
}

/// The way into a stack: over lines, or directly for methods that revision 2026-07-28 removed. The
/// top of a stack answers those by its session.
enum Top {
    Lines(Caller),
    None(BoxStack),
}

impl Top {
    fn of(method: &Method, stack: impl Stack) -> Self {
        if method.is_removed {
            return Self::None(BoxStack::new(stack));
        }
        let capabilities = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        Self::Lines(Caller::modern_with(stack, capabilities))
    }

    async fn ask(&mut self, method: &Method) -> Value {
        self.ask_for(method.name, method.params).await
    }

    async fn ask_for(&mut self, method: &str, params: &str) -> Value {
        let stack = match self {
            Self::Lines(caller) => {
                return serde_json::from_str(&caller.ask(method, params).await).unwrap();
            }
            Self::None(stack) => stack.clone(),
        };
        let request = format!(r#"{{"method":"{method}","params":{{{params}}}}}"#);
        let request: ClientRequest = serde_json::from_str(&request).unwrap();
        match stack.oneshot(McpRequest::new(request)).await {
            Ok(response) => json!({ "result": *response.result }),
            Err(error) => json!({ "error": error.to_string() }),
        }
    }
}

const PUBLIC: &str = r#""cacheScope":"public""#;
const TTL: &str = r#""ttlMs":60000"#;

/// A server whose results may be cached by all, as far as they can say so.
async fn public_server(method: &Method) -> (impl Stack, Requests) {
    let requests = Requests::default();
    let counted = requests.clone();
    let (server, _) = Server::new(revision(method), move |request| {
        counted.count(request);
        let method = asks_for(request);
        vec![match method.has_cache_hints {
            true => answer(method, &[TTL, PUBLIC]),
            false => answer(method, &[]),
        }]
    });
    let server = server.with_capabilities(CAPABILITIES).by(Road::Lines).await;
    // An upstream answers `server/discover` itself.
    let server = server.map_response(|mut response: McpResponse| {
        if let ServerResult::DiscoverResult(discovered) = &mut *response.result {
            (discovered.ttl_ms, discovered.cache_scope) = (60_000, CacheScope::Public);
        }
        response
    });
    (server, requests)
}

#[tokio::test]
async fn no_methods_result_is_public_behind_a_guard() {
    for method in asked() {
        let (server, _) = public_server(method).await;
        let mut open = Top::of(method, server);
        let answer = open.ask(method).await;
        let public = json!("public");
        let scope = answer["result"].get("cacheScope");
        assert!(answer["error"].is_null(), "{answer}");
        assert_eq!(
            scope,
            method.has_cache_hints.then_some(&public),
            "{method:?} {answer}"
        );

        let (server, _) = public_server(method).await;
        let key = "a-key-of-at-least-32-characters-00";
        let keys = ApiKeys::new()
            .key(key, Principal::new("ann").with_scopes(["admin"]))
            .unwrap();
        let rules = Rules::builder().unmatched(Scopes::none()).build().unwrap();
        let guard = AuthLayer::builder(keys)
            .rules(rules)
            .allow_unknown_tasks(true)
            .token_from(move |_| Some(key.to_owned()))
            .build()
            .unwrap();
        let mut guarded = Top::of(method, guard.layer(server));
        let answer = guarded.ask(method).await;
        let private = json!("private");
        let scope = answer["result"].get("cacheScope");
        assert!(answer["error"].is_null(), "{answer}");
        assert_eq!(
            scope,
            method.has_cache_hints.then_some(&private),
            "{method:?} {answer}"
        );
    }
}

#[tokio::test]
async fn a_result_is_cached_by_its_own_hints_where_the_method_has_them() {
    for method in asked().filter(|method| method.name != "server/discover") {
        let (server, requests) = public_server(method).await;
        let mut top = Top::of(method, CacheLayer::new().layer(server));
        let first = top.ask(method).await;
        let second = top.ask(method).await;
        assert!(first["error"].is_null(), "{method:?} {first}");
        // A directory is not cached.
        let is_cached = method.has_cache_hints && method.name != "resources/directory/read";
        let sent = 2 - usize::from(is_cached);
        assert_eq!(requests.of(method), sent, "{method:?} {first} {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_is_sent_again_where_its_method_is_safe_to_repeat() {
    for method in asked().filter(|method| method.name != "server/discover") {
        let requests = Requests::default();
        let counted = requests.clone();
        let (server, _) = Server::new(revision(method), move |request| {
            vec![match counted.count(request) {
                1 => {
                    r#"{"jsonrpc":"2.0","id":$request_id,"error":{"code":-32603,"message":"once"}}"#
                        .to_owned()
                }
                _ => answer(asks_for(request), &[]),
            }]
        });
        let server = server.with_capabilities(CAPABILITIES).by(Road::Lines).await;
        let policy = RetryPolicy::new().base_delay(Duration::from_millis(10));
        let retry = RetryLayer::builder().policy(policy).build().unwrap();
        let mut top = Top::of(method, retry.layer(server));
        let answer = top.ask(method).await;
        assert_eq!(
            answer["error"].is_null(),
            method.is_repeatable,
            "{method:?} {answer}"
        );
        let sent = 1 + usize::from(method.is_repeatable);
        assert_eq!(requests.of(method), sent, "{method:?}");
    }
}

/// A server behind a gateway. Its items are named `x`, and its resources and skills by its own
/// scheme.
async fn member(scheme: &'static str, revision: &'static str) -> (impl Stack, Requests) {
    let requests = Requests::default();
    let counted = requests.clone();
    let (server, _) = Server::new(revision, move |request| {
        counted.count(request);
        let method = asks_for(request);
        let asks_for_task = request["params"]["arguments"]["task"] == true;
        let answer = match asks_for_task {
            true => {
                format!(
                    r#"{{"jsonrpc":"2.0","id":$request_id,"result":{{"resultType":"task",{TASK}}}}}"#
                )
            }
            false => answer(method, &[]),
        };
        vec![answer.replace("x:", &format!("{scheme}:"))]
    });
    (
        server.with_capabilities(CAPABILITIES).by(Road::Lines).await,
        requests,
    )
}

#[tokio::test]
async fn a_gateway_sends_each_request_to_the_owner_of_its_target_or_to_all() {
    for method in asked() {
        let (one, of_one) = member("one", revision(method)).await;
        let (two, of_two) = member("two", revision(method)).await;
        let gateway = Gateway::builder()
            .member("a", one)
            .member("b", two)
            .build()
            .unwrap();
        let mut top = Top::of(method, gateway);
        let mut params = method.params.replace("x:", "b+two:");
        if method.name.starts_with("tasks/") {
            let task = r#""name":"b__x","arguments":{"task":true}"#;
            let created = top.ask_for("tools/call", task).await;
            let id = &created["result"]["taskId"];
            assert!(id.is_string(), "{created}");
            params = params.replace(r#""x""#, &id.to_string());
        }
        let params = params.replace(r#""name":"x""#, r#""name":"b__x""#);
        let answer = top.ask_for(method.name, &params).await;
        assert!(answer["error"].is_null(), "{method:?} {answer}");
        let sent = match method.handled_by {
            By::Owner => (0, 1),
            By::All => (1, 1),
            By::Gateway => (0, 0),
        };
        assert_eq!(
            (of_one.of(method), of_two.of(method)),
            sent,
            "{method:?} {answer}"
        );
        let Some(list) = answer["result"]
            .as_object()
            .filter(|_| method.handled_by == By::All)
        else {
            continue;
        };
        // A list has the items of both.
        let items = list.values().filter_map(Value::as_array);
        assert!(
            items.clone().all(|items| items.len() == 2),
            "{method:?} {answer}"
        );
        assert_eq!(
            items.count(),
            usize::from(method.has_cache_hints),
            "{method:?} {answer}"
        );
    }
}
