//! A request of a known method whose params do not fit the method.

use std::sync::{Arc, Mutex};

use rmcp::model::{CustomRequest, ErrorData};
use rmcp_layers::{
    Decision, Error, McpClient, McpRequest, McpResponse, McpServer, Upstream,
    audit::AuditLog,
    auth::{AuthLayer, Policy, PolicyDecision, Rules, Scopes},
    cache::CacheLayer,
    gateway::{Filter, Gateway, Member, NamespaceLayer},
    registry::{RegistryLayer, SearchMode},
    retry::{RetryLayer, breaker::CircuitBreakerLayer},
};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};

use crate::{
    common::{Http, Stack, script::scripted, soon},
    line::{Line, bearing},
    shop::token,
    tokens::by_secret,
};

type Boxed = BoxCloneService<McpRequest, rmcp_layers::McpResponse, Error>;

/// Every method that rmcp types, with params that do not fit it, the path of the misfit, and the target.
fn table() -> Vec<(&'static str, Value, &'static str, Option<&'static str>)> {
    let call = |field: &str, value: Value| {
        let mut params = json!({ "name": "guarded", "arguments": { "a": 1 } });
        params[field] = value;
        params
    };
    let read = |field: &str, value: Value| {
        let mut params = json!({ "uri": "shop://guarded" });
        params[field] = value;
        params
    };
    let uri = Some("shop://guarded");
    vec![
        (
            "tools/call",
            call("requestState", json!(5)),
            "params.requestState",
            Some("guarded"),
        ),
        (
            "tools/call",
            call("arguments", json!("x")),
            "params.arguments",
            Some("guarded"),
        ),
        (
            "tools/call",
            call("arguments", json!([1])),
            "params.arguments",
            Some("guarded"),
        ),
        (
            "tools/call",
            call("inputResponses", json!(true)),
            "params.inputResponses",
            Some("guarded"),
        ),
        ("tools/call", call("name", json!(5)), "params.name", None),
        ("tools/call", json!({ "arguments": {} }), "params", None),
        (
            "prompts/get",
            json!({ "name": "guarded", "arguments": 5 }),
            "params.arguments",
            Some("guarded"),
        ),
        (
            "prompts/get",
            json!({ "name": ["guarded"] }),
            "params.name",
            None,
        ),
        (
            "resources/read",
            read("requestState", json!({})),
            "params.requestState",
            uri,
        ),
        ("resources/read", json!({ "uri": 5 }), "params.uri", None),
        (
            "resources/directory/read",
            read("cursor", json!(5)),
            "params.cursor",
            uri,
        ),
        (
            "resources/subscribe",
            json!({ "uri": null }),
            "params.uri",
            None,
        ),
        (
            "resources/unsubscribe",
            json!({ "uri": {} }),
            "params.uri",
            None,
        ),
        ("skills/get", json!({ "uri": 1 }), "params.uri", None),
        ("tasks/get", json!({ "taskId": 7 }), "params.taskId", None),
        (
            "tasks/update",
            json!({ "taskId": "t", "inputResponses": 7 }),
            "params.inputResponses",
            Some("t"),
        ),
        (
            "tasks/cancel",
            json!({ "taskId": [] }),
            "params.taskId",
            None,
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "guarded" }, "argument": 5 }),
            "params.argument",
            Some("guarded"),
        ),
        (
            "completion/complete",
            json!({ "ref": 5, "argument": { "name": "a", "value": "b" } }),
            "params.ref",
            None,
        ),
        (
            "logging/setLevel",
            json!({ "level": "loud" }),
            "params.level",
            None,
        ),
        (
            "logging/setLevel",
            json!({ "level": 5 }),
            "params.level",
            None,
        ),
        (
            "subscriptions/listen",
            json!({ "notifications": 5 }),
            "params.notifications",
            None,
        ),
        (
            "subscriptions/listen",
            json!({ "notifications": { "toolsListChanged": "yes" } }),
            "params.notifications.toolsListChanged",
            None,
        ),
    ]
}

/// What reaches the servers, lists aside.
#[derive(Clone, Default)]
pub struct Reached(Arc<Mutex<Vec<Value>>>);

impl Reached {
    fn server(&self) -> Upstream {
        let reached = self.clone();
        scripted(Upstream::builder(), move |request| {
            let result = match request["method"].as_str() {
                Some("tools/list") => json!({
                    "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
                    "tools": [{ "name": "guarded", "inputSchema": { "type": "object" } }],
                }),
                // A session's own.
                Some("subscriptions/listen")
                    if request["params"]["notifications"]["promptsListChanged"] == true =>
                {
                    json!({ "resultType": "complete" })
                }
                _ => {
                    reached.0.lock().unwrap().push(request.clone());
                    json!({ "resultType": "complete", "content": [] })
                }
            };
            let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
            Some(vec![answer.to_string()])
        })
    }

    pub fn gateway(&self, several: bool, read_only: bool, filter: Filter) -> Boxed {
        let member = |name: &str| Member::new(name, self.server()).filter(filter.clone());
        let mut gateway = Gateway::builder()
            .read_only(read_only)
            .add_member(member("one"));
        if several {
            gateway = gateway.add_member(member("two"));
        }
        BoxCloneService::new(gateway.build().unwrap())
    }

    pub fn nothing(&self) {
        let reached = self.0.lock().unwrap();
        assert!(reached.is_empty(), "reached a server: {reached:?}");
    }
}

pub fn audit() -> AuditLog {
    AuditLog::builder().memory(100).build().unwrap()
}

/// Asks every row of the table, and looks at the answer and at the record.
async fn refuses(what: &str, stack: impl Stack, audit: &AuditLog, reached: &Reached) {
    let mut line = Line::to(stack);
    for (method, params, path, target) in table() {
        let answer = line
            .ask(method, params.clone(), bearing(&token("all")))
            .await;
        let case = format!("{what}: {method} {params}");
        is_refused(&case, &answer, method, path);
        on_record(&case, audit, method, target).await;
        reached.nothing();
    }
}

pub fn is_refused(case: &str, answer: &Value, method: &str, path: &str) {
    assert_eq!(answer["error"]["code"], -32602, "{case}: {answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(method), "{case}: {message}");
    assert!(message.contains(&format!("{path}: ")), "{case}: {message}");
    assert_eq!(answer["error"]["data"]["path"], path, "{case}");
}

pub async fn on_record(case: &str, audit: &AuditLog, method: &str, target: Option<&str>) {
    audit.handle().flush().await.unwrap();
    let record = audit.handle().recent(1).pop().expect("a record");
    assert_eq!(record.method, method, "{case}");
    assert_eq!(record.name.as_deref(), target, "{case}");
    assert_eq!(record.code, Some(-32602), "{case}");
    assert_eq!(record.decision, Decision::Denied, "{case}");
    assert_eq!(record.ended.as_str(), "refused", "{case}");
    let reason = record.reason.as_deref().expect("a reason");
    assert!(reason.contains("params"), "{case}: {reason}");
}

fn rules() -> Rules {
    Rules::builder()
        .tool("*guarded", "owner")
        .unmatched("all")
        .method("*", Scopes::none())
        .build()
        .unwrap()
}

/// Denies what it sees of the guarded tool.
struct Guarded;

impl Policy for Guarded {
    fn decide(&self, request: &McpRequest, _principal: &rmcp_layers::Principal) -> PolicyDecision {
        match request
            .target()
            .is_some_and(|target| target.ends_with("guarded"))
        {
            true => PolicyDecision::deny("guarded"),
            false => PolicyDecision::Allow,
        }
    }
}

#[tokio::test]
async fn a_request_that_does_not_fit_its_method_reaches_no_server_past_any_layer() {
    for several in [false, true] {
        let (reached, audit) = (Reached::default(), audit());
        let bottom = || reached.gateway(several, false, Filter::new());
        let auth = |builder: rmcp_layers::auth::AuthLayerBuilder| {
            ServiceBuilder::new()
                .layer(audit.layer())
                .layer(builder.build().unwrap())
                .service(bottom())
        };
        let ruled = auth(AuthLayer::builder(by_secret()).rules(rules()));
        refuses("rules", ruled, &audit, &reached).await;
        let open = Rules::builder().unmatched(Scopes::none()).build().unwrap();
        let judged = auth(AuthLayer::builder(by_secret()).rules(open).policy(Guarded));
        refuses("policy", judged, &audit, &reached).await;

        let audited = |bottom: Boxed| ServiceBuilder::new().layer(audit.layer()).service(bottom);
        let denying = Filter::new().deny("*guarded");
        let filtered = audited(reached.gateway(several, false, denying));
        refuses("filter", filtered, &audit, &reached).await;
        let read_only = audited(reached.gateway(several, true, Filter::new()));
        refuses("read-only", read_only, &audit, &reached).await;
        refuses("audit", audited(bottom()), &audit, &reached).await;

        // The record is kept further in than the layer that decides.
        let cache = CacheLayer::builder()
            .never_cache("*guarded")
            .build()
            .unwrap();
        let cached = ServiceBuilder::new()
            .layer(cache)
            .layer(audit.layer())
            .service(bottom());
        refuses("never-set", cached, &audit, &reached).await;
        let layered = ServiceBuilder::new()
            .layer(
                RegistryLayer::builder()
                    .search(SearchMode::Only)
                    .build()
                    .unwrap(),
            )
            .layer(RetryLayer::new())
            .layer(CircuitBreakerLayer::new())
            .layer(audit.layer())
            .layer(NamespaceLayer::new("shop").unwrap())
            .service(bottom());
        refuses("registry, retry, breaker", layered, &audit, &reached).await;
    }
}

#[tokio::test]
async fn an_unreadable_request_that_is_dropped_was_not_allowed() {
    let audit = audit();
    let (began, begins) = tokio::sync::oneshot::channel();
    let began = Arc::new(Mutex::new(Some(began)));
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .service(service_fn(move |_request: McpRequest| {
            if let Some(began) = began.lock().unwrap().take() {
                began.send(()).unwrap();
            }
            std::future::pending::<Result<McpResponse, Error>>()
        }));
    let mut line = Line::to(stack);
    let mut params = json!({ "name": "guarded", "arguments": 5 });
    line.send("tools/call", &mut params, json!({})).await;
    soon("the call", begins).await.unwrap();
    drop(line);
    let record = soon("a record", async {
        loop {
            if let Some(record) = audit.handle().recent(1).pop() {
                return record;
            }
            tokio::task::yield_now().await;
        }
    });
    let record = record.await;
    assert_eq!(record.ended.as_str(), "cancelled");
    assert_eq!(record.decision, Decision::Undecided);
}

#[tokio::test]
async fn an_unreadable_request_is_refused_over_http_of_either_age() {
    let (reached, audit) = (Reached::default(), audit());
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .service(reached.gateway(false, false, Filter::new()));
    let http = Http::serve(McpServer::new(stack)).await;
    let client = Poster(&http.url);
    let (session, _) = client
        .post(
            &[],
            &json!({
                "jsonrpc": "2.0", "id": 1, "method": "initialize",
                "params": {
                    "protocolVersion": "2025-11-25", "capabilities": {},
                    "clientInfo": { "name": "t", "version": "0" },
                },
            }),
        )
        .await;
    let session = session.expect("a session");
    for (method, params, path, target) in table() {
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let headers = [
            ("mcp-session-id", session.as_str()),
            ("mcp-protocol-version", "2025-11-25"),
        ];
        let (_, answer) = client.post(&headers, &request).await;
        is_refused("session", &answer, method, path);
        on_record(method, &audit, method, target).await;

        let mut request = request;
        request["params"]["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "0" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let mut headers = vec![
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
        ];
        headers.extend(target.map(|target| ("mcp-name", target)));
        let (_, answer) = client.post(&headers, &request).await;
        is_refused("2026-07-28", &answer, method, path);
        on_record(method, &audit, method, target).await;
        reached.nothing();
    }
}

#[tokio::test]
async fn a_removed_method_without_params_is_not_found_on_2026_07_28() {
    let (reached, audit) = (Reached::default(), audit());
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .service(reached.gateway(false, false, Filter::new()));
    let http = Http::serve(McpServer::new(stack)).await;
    for method in [
        "initialize",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
    ] {
        let request = json!({
            "jsonrpc": "2.0", "id": 7, "method": method,
            "params": { "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "0" },
                "io.modelcontextprotocol/clientCapabilities": {},
            } },
        });
        let headers = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
        ];
        let (_, answer) = Poster(&http.url).post(&headers, &request).await;
        assert_eq!(answer["error"]["code"], -32601, "{method}: {answer}");
        reached.nothing();
    }
}

/// Posts raw bodies.
pub struct Poster<'a>(pub &'a str);

impl Poster<'_> {
    /// The session's id, and the message in the answer.
    pub async fn post(&self, headers: &[(&str, &str)], body: &Value) -> (Option<String>, Value) {
        self.post_text(headers, &body.to_string()).await
    }

    pub async fn post_text(&self, headers: &[(&str, &str)], body: &str) -> (Option<String>, Value) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let host = self
            .0
            .trim_start_matches("http://")
            .trim_end_matches("/mcp");
        let mut head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut tcp = tokio::net::TcpStream::connect(host).await.unwrap();
        tcp.write_all(format!("{head}\r\n{body}").as_bytes())
            .await
            .unwrap();
        let mut bytes = Vec::new();
        soon("an answer", tcp.read_to_end(&mut bytes))
            .await
            .unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let session = text
            .lines()
            .find_map(|line| line.strip_prefix("mcp-session-id: "))
            .map(str::to_owned);
        let message = text
            .lines()
            .map(|line| line.trim_start_matches("data: "))
            .find_map(|line| {
                serde_json::from_str::<Value>(line)
                    .ok()
                    .filter(Value::is_object)
            });
        (
            session,
            message.unwrap_or_else(|| panic!("no message: {text}")),
        )
    }
}

#[tokio::test]
async fn a_client_hears_what_does_not_fit_before_its_stack_is_asked() {
    let reached = Reached::default();
    let client = McpClient::new(reached.server());
    for (method, params, path, _) in table() {
        let asked = client.custom_request(CustomRequest::new(method, Some(params)));
        let error = ErrorData::from(asked.await.unwrap_err());
        is_refused("client", &json!({ "error": error }), method, path);
        reached.nothing();
    }
}

#[tokio::test]
async fn a_stack_without_a_top_refuses_what_does_not_fit() {
    let (reached, audit) = (Reached::default(), audit());
    let layer = AuthLayer::builder(by_secret())
        .rules(rules())
        .build()
        .unwrap();
    let guarded = ServiceBuilder::new()
        .layer(audit.layer())
        .layer(layer)
        .service(reached.server());
    let audited = ServiceBuilder::new()
        .layer(audit.layer())
        .service(reached.server());
    let bare = reached.server();
    let gateway = reached.gateway(true, false, Filter::new());
    let stacks: Vec<(bool, Boxed)> = vec![
        (true, BoxCloneService::new(guarded)),
        (true, BoxCloneService::new(audited)),
        (false, BoxCloneService::new(bare)),
        (false, BoxCloneService::new(gateway)),
    ];
    for (recorded, stack) in stacks {
        for (method, params, path, target) in table() {
            let mut request = McpRequest::new(CustomRequest::new(method, Some(params)));
            let token = token("all").into();
            let key = rmcp_layers::auth::TOKEN_META_KEY.to_owned();
            request.context.meta.insert(key, token);
            let error = ErrorData::from(stack.clone().oneshot(request).await.unwrap_err());
            assert_eq!(error.code.0, -32602, "{method}: {error}");
            assert!(error.message.contains(path), "{method}: {error}");
            if recorded {
                on_record(method, &audit, method, target).await;
            }
            reached.nothing();
        }
    }
}

#[tokio::test]
async fn a_caller_that_is_unknown_hears_so_and_no_more() {
    let (reached, audit) = (Reached::default(), audit());
    let layer = AuthLayer::builder(by_secret())
        .rules(rules())
        .build()
        .unwrap();
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .layer(layer)
        .service(reached.server());
    let mut line = Line::to(stack);
    for (method, params, ..) in table() {
        let answer = line.ask(method, params, json!({})).await;
        assert_eq!(answer["error"]["code"], -31401, "{method}: {answer}");
        assert_eq!(
            answer["error"]["message"],
            "refused by auth: a token is needed"
        );
        let record = audit.handle().recent(1).pop().expect("a record");
        assert_eq!(record.decision, Decision::Unauthenticated, "{method}");
        assert_eq!(record.method, method);
    }
    reached.nothing();
}

#[tokio::test]
async fn a_notifications_name_on_a_request_reaches_no_server() {
    let reached = Reached::default();
    let mut line = Line::to(reached.gateway(false, false, Filter::new()));
    for method in [
        "notifications/cancelled",
        "notifications/progress",
        "notifications/initialized",
        "notifications/roots/list_changed",
    ] {
        let params = json!({ "requestId": 1, "progressToken": 1, "progress": 1 });
        let answer = line.ask(method, params, json!({})).await;
        assert_eq!(answer["error"]["code"], -32600, "{method}: {answer}");
    }
    reached.nothing();
}

#[tokio::test]
async fn a_progress_token_that_is_none_is_refused_by_name() {
    let (reached, audit) = (Reached::default(), audit());
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .service(reached.server());
    let mut line = Line::to(stack);
    for token in [json!(1.5), json!(true), json!({}), json!(["a"])] {
        let meta = json!({ "progressToken": token });
        let answer = line
            .ask("tools/call", json!({ "name": "guarded" }), meta)
            .await;
        is_refused("token", &answer, "tools/call", "params._meta.progressToken");
        on_record("token", &audit, "tools/call", Some("guarded")).await;
    }
    reached.nothing();
}

#[tokio::test]
async fn methods_that_rmcp_does_not_type_pass_as_they_came() {
    let reached = Reached::default();
    let mut line = Line::to(reached.server());
    let methods = [
        "tasks/list",
        "tasks/result",
        "Tools/call",
        "tools/call ",
        "acme/do",
    ];
    for method in methods {
        let params = json!({ "name": 5, "uri": [], "taskId": "t" });
        let answer = line.ask(method, params, json!({})).await;
        assert!(answer.get("result").is_some(), "{method}: {answer}");
    }
    let reached = reached.0.lock().unwrap();
    assert_eq!(reached.len(), methods.len());
    for request in reached.iter() {
        assert_eq!(request["params"]["name"], 5, "{request}");
    }
}
