//! What the guard lets through, and what it takes off on the way in and out.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use jsonwebtoken::Algorithm;
use rmcp::model::*;
use rmcp_layers::{
    Audience, CallContext, Error, Handler, McpRequest, McpResponse, Principal,
    auth::{
        AuthError, AuthLayer, AuthLayerBuilder, Decision, Item, Policy, Rules, RulesBuilder,
        Scopes, TOKEN_META_KEY, Verified, Verifier,
    },
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceExt};

use crate::{
    common::{Client, Heard, demo::Demo, recorder, soon, tool},
    line::{Line, bearing},
    tokens::{Issuer, by_secret, claims, now},
};

/// The bottom of a stack: notes what reaches it, and answers by the method.
#[derive(Clone, Default)]
struct Shop {
    seen: Arc<Mutex<Vec<McpRequest>>>,
    answers: Arc<Mutex<Vec<Result<ServerResult, ErrorData>>>>,
}

impl Shop {
    fn last(&self) -> McpRequest {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Answers the next call with this.
    fn will_say(&self, answer: Result<ServerResult, ErrorData>) {
        self.answers.lock().unwrap().push(answer);
    }

    fn answer(&self, request: &McpRequest) -> Result<ServerResult, ErrorData> {
        if let Some(answer) = self.answers.lock().unwrap().pop() {
            return answer;
        }
        let names = ["zebra", "db__read", "db__drop", "ant", "secret"];
        let uri = |name: &str| format!("file:///{name}");
        Ok(match request.method() {
            "tools/list" => {
                let tools = names.map(|name| Tool::new(name, "", Arc::new(JsonObject::new())));
                let mut listed = ListToolsResult::with_all_items(tools.into());
                listed.next_cursor = Some("more".into());
                listed.into()
            }
            "prompts/list" => {
                let prompts = names.map(|name| Prompt::new(name, None::<String>, None));
                ListPromptsResult::with_all_items(prompts.into()).into()
            }
            "resources/list" | "resources/directory/read" => {
                let resources = names.map(|name| Resource::new(uri(name), name));
                ListResourcesResult::with_all_items(resources.into()).into()
            }
            "resources/templates/list" => {
                let templates = names.map(|name| ResourceTemplate::new(uri(name), name));
                ListResourceTemplatesResult::with_all_items(templates.into()).into()
            }
            "tools/call" => CallToolResult::success(vec![ContentBlock::text("done")]).into(),
            _ => ServerResult::empty(()),
        })
    }
}

impl Service<McpRequest> for Shop {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        let answer = self.answer(&request);
        self.seen.lock().unwrap().push(request);
        Box::pin(std::future::ready(
            answer.map(McpResponse::new).map_err(Error::protocol),
        ))
    }
}

fn token(scope: &str) -> String {
    Issuer::secret(Algorithm::HS256).token("alice", scope)
}

fn rules() -> RulesBuilder {
    Rules::builder()
        .tool("db__drop", Scopes::all_of(["db:write", "db:owner"]))
        .tool("db__*", Scopes::any_of(["db:read", "db:write"]))
        .tool("ant", Scopes::none())
        .prompt("db__*", "db:read")
        .resource("file:///db__read", "db:read")
        .resource("file:///public/*", Scopes::none())
}

fn layer(rules: RulesBuilder) -> AuthLayerBuilder {
    AuthLayer::builder(by_secret()).rules(rules.build().unwrap())
}

fn guarded(shop: &Shop, rules: RulesBuilder) -> rmcp_layers::auth::Auth<Shop> {
    layer(rules).build().unwrap().layer(shop.clone())
}

/// A request with a token in `_meta`.
fn shown(request: impl Into<ClientRequest>, scope: &str) -> McpRequest {
    let mut request = McpRequest::new(request);
    let token = token(scope).into();
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), token);
    request
}

fn call(name: &'static str, scope: &str) -> McpRequest {
    shown(CallToolRequest::new(tool(name, json!({}))), scope)
}

/// A request that came over HTTP with these headers.
fn over_http(uri: &str, headers: &[(&str, &str)]) -> McpRequest {
    let mut builder = http::Request::builder().method("POST").uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    let mut request = McpRequest::call_tool("ant").build();
    request.context.extensions.insert(parts);
    request
}

async fn ask(
    stack: &rmcp_layers::auth::Auth<Shop>,
    request: McpRequest,
) -> Result<ServerResult, ErrorData> {
    let answer = stack.clone().oneshot(request).await;
    answer
        .map(McpResponse::into_result)
        .map_err(ErrorData::from)
}

fn names(result: &ServerResult) -> Vec<String> {
    let listed = serde_json::to_value(result).unwrap();
    let lists = ["tools", "prompts", "resources", "resourceTemplates"];
    let list = lists.iter().find_map(|list| listed[*list].as_array());
    list.unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token() {
    let shop = Shop::default();
    let mut line = Line::to(guarded(&shop, rules().unmatched(Scopes::none())));
    for method in [
        "tools/list",
        "tools/call",
        "server/discover",
        "acme/reindex",
    ] {
        let answer = line.ask(method, json!({ "name": "ant" }), json!({})).await;
        assert_eq!(answer["error"]["code"], -31401, "{method}: {answer}");
        assert_eq!(
            answer["error"]["message"],
            "refused by auth: a token is needed"
        );
    }
    assert_eq!(shop.count(), 0);
}

#[tokio::test]
async fn what_is_below_knows_who_it_is_and_never_sees_the_token() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let token = token("x");
    let bearer = format!("bearer   {token}");
    let mut request = over_http("/mcp", &[("authorization", &bearer), ("x-other", "stays")]);
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), token.clone().into());
    request.context.meta.insert("kept".to_owned(), 1.into());
    ask(&stack, request).await.unwrap();

    let seen = shop.last();
    let principal = seen.context.principal().unwrap();
    assert_eq!(principal.subject(), "alice");
    assert_eq!(principal.issuer(), Some(crate::tokens::ISSUER));
    assert_eq!(principal.scopes(), ["x"]);
    assert_eq!(principal.claims()["sub"], "alice");
    let parts = seen
        .context
        .extensions
        .get::<http::request::Parts>()
        .unwrap();
    assert!(!parts.headers.contains_key(AUTHORIZATION));
    assert_eq!(parts.headers["x-other"], "stays");
    assert!(seen.context.meta.get(TOKEN_META_KEY).is_none());
    assert_eq!(seen.context.meta.get("kept"), Some(&1.into()));
    let all = format!("{seen:?} {parts:?}");
    assert!(!all.contains(token.split('.').nth(2).unwrap()), "{all}");
}

#[tokio::test]
async fn a_token_that_is_not_looked_for_is_taken_off_all_the_same() {
    let shop = Shop::default();
    let stack = layer(rules())
        .token_from_http(false)
        .token_from_meta(false)
        .token_from(|_| Some(token("x")))
        .build()
        .unwrap()
        .layer(shop.clone());
    let mut request = over_http("/mcp", &[("authorization", "Basic YTpi")]);
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), "other".into());
    ask(&stack, request).await.unwrap();
    let seen = shop.last();
    let parts = seen
        .context
        .extensions
        .get::<http::request::Parts>()
        .unwrap();
    assert!(!parts.headers.contains_key(AUTHORIZATION));
    assert!(seen.context.meta.get(TOKEN_META_KEY).is_none());
}

#[tokio::test]
async fn a_token_in_a_wrong_place_or_in_two_is_refused() {
    let stack = guarded(&Shop::default(), rules());
    let good = format!("Bearer {}", token("x"));
    let other = format!("Bearer {}", token("admin"));
    let rows: [(&str, &str, Vec<(&str, &str)>); 8] = [
        (
            "in the query",
            "/mcp?access_token=abc",
            vec![("authorization", &good)],
        ),
        (
            "in the query, encoded",
            "/mcp?a=b&acces%73_token=abc",
            vec![("authorization", &good)],
        ),
        (
            "in the query, in capitals",
            "/mcp?ACCESS_TOKEN=abc",
            vec![("authorization", &good)],
        ),
        (
            "two headers",
            "/mcp",
            vec![("authorization", &good), ("authorization", &other)],
        ),
        (
            "the same twice",
            "/mcp",
            vec![("authorization", &good), ("authorization", &good)],
        ),
        (
            "another scheme",
            "/mcp",
            vec![("authorization", "Basic YTpi")],
        ),
        (
            "the scheme alone",
            "/mcp",
            vec![("authorization", "Bearer ")],
        ),
        (
            "no scheme",
            "/mcp",
            vec![("authorization", good.trim_start_matches("Bearer "))],
        ),
    ];
    for (how, uri, headers) in rows {
        let error = ask(&stack, over_http(uri, &headers)).await.unwrap_err();
        assert_eq!(error.code.0, -31401, "{how}: {error:?}");
    }
    let mut request = over_http("/mcp", &[("authorization", &good)]);
    let disagrees = token("admin").into();
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), disagrees);
    let error = ask(&stack, request).await.unwrap_err();
    assert_eq!(error.code.0, -31401);
    assert_eq!(error.data.unwrap()["reason"], "invalid_request");
}

#[tokio::test]
async fn a_session_over_stdio_has_its_token_from_the_environment_and_http_never_has() {
    /// Cargo sets the variable for every test.
    struct Host;
    impl Verifier for Host {
        fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
            assert_eq!(token, "rmcp-layers");
            let host = Principal::new("host").with_scopes(["db:read"]);
            Box::pin(std::future::ready(Ok(Verified::new(host))))
        }
    }
    let shop = Shop::default();
    let stack = AuthLayer::builder(Host)
        .rules(rules().build().unwrap())
        .token_from_env("CARGO_PKG_NAME")
        .build()
        .unwrap()
        .layer(shop.clone());
    let mut line = Line::to(stack.clone());
    let answer = line
        .ask("tools/call", json!({ "name": "db__read" }), json!({}))
        .await;
    assert_eq!(answer["result"]["content"][0]["text"], "done", "{answer}");
    assert_eq!(shop.last().context.principal().unwrap().subject(), "host");

    let error = ask(&stack, over_http("/mcp", &[])).await.unwrap_err();
    assert_eq!(error.data.unwrap()["reason"], "missing_token");
    let missing = AuthLayer::builder(by_secret())
        .token_from_env("NO_SUCH_VARIABLE")
        .build();
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("`NO_SUCH_VARIABLE`")
    );
}

#[tokio::test]
async fn scopes_are_demanded_by_name_and_by_glob_and_what_no_rule_names_is_for_admins() {
    let stack = guarded(&Shop::default(), rules().method("acme/*", "acme"));
    let rows = [
        ("db__read", "db:read", true),
        ("db__read", "db:write", true),
        ("db__read", "db:owner", false),
        ("db__drop", "db:read", false),
        ("db__drop", "db:write", false),
        ("db__drop", "db:write db:owner", true),
        ("db__drop@1.0.0", "db:read db:write", false),
        ("db__read@1.0.0", "db:read", true),
        ("ant", "", true),
        ("Ant", "", false),
        ("zebra", "db:read", false),
        ("zebra", "admin", true),
        ("zebra", "ADMIN", false),
    ];
    for (name, scope, allowed) in rows {
        let answer = ask(&stack, call(name, scope)).await;
        assert_eq!(answer.is_ok(), allowed, "{name} with `{scope}`: {answer:?}");
    }
    let read = |uri: &str| ReadResourceRequest::new(ReadResourceRequestParams::new(uri));
    let rows = [
        ("file:///db__read", "db:read", true),
        ("file:///db__read/../x", "db:read", false),
        ("file:///public/a/b", "", true),
        ("file:///public/../secret", "", false),
        ("file:///public/%2e%2E/secret", "", false),
        ("file:///public/..%2fsecret", "", false),
        ("file:///public/..\\secret", "", false),
        ("file:///public/a..b", "", true),
        ("file:///public/...", "", true),
        ("file:///secret", "", false),
    ];
    for (uri, scope, allowed) in rows {
        let answer = ask(&stack, shown(read(uri), scope)).await;
        assert_eq!(answer.is_ok(), allowed, "{uri} with `{scope}`: {answer:?}");
    }
    for (method, scope, allowed) in [
        ("acme/reindex", "acme", true),
        ("acme/reindex", "", false),
        ("other/thing", "acme", false),
        ("other/thing", "admin", true),
    ] {
        let answer = ask(&stack, shown(CustomRequest::new(method, None), scope)).await;
        assert_eq!(
            answer.is_ok(),
            allowed,
            "{method} with `{scope}`: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_known_method_with_params_that_are_not_its_own_is_for_admins() {
    let stack = guarded(&Shop::default(), rules().method("tools/*", Scopes::none()));
    for method in [
        "tools/list",
        "tools/call",
        "notifications/initialized",
        "server/discover",
    ] {
        let odd = || CustomRequest::new(method, Some(json!({ "cursor": 5 })));
        let answer = ask(&stack, shown(odd(), "db:read")).await;
        assert_eq!(answer.unwrap_err().code.0, -31403, "{method}");
        ask(&stack, shown(odd(), "admin")).await.unwrap();
    }
}

#[tokio::test]
async fn lists_show_what_may_be_used_in_their_order_and_with_their_cursor() {
    let stack = guarded(&Shop::default(), rules());
    let rows: [(ClientRequest, &str, &[&str]); 8] = [
        (ListToolsRequest::default().into(), "", &["ant"]),
        (
            ListToolsRequest::default().into(),
            "db:read",
            &["db__read", "ant"],
        ),
        (
            ListToolsRequest::default().into(),
            "admin db:write db:owner",
            &["zebra", "db__read", "db__drop", "ant", "secret"],
        ),
        (
            ListPromptsRequest::default().into(),
            "db:read",
            &["db__read", "db__drop"],
        ),
        (
            ListResourcesRequest::default().into(),
            "db:read",
            &["db__read"],
        ),
        (
            ListResourceTemplatesRequest::default().into(),
            "db:read",
            &["db__read"],
        ),
        (ListResourceTemplatesRequest::default().into(), "", &[]),
        (ListPromptsRequest::default().into(), "", &[]),
    ];
    for (request, scope, shows) in rows {
        let method = request.method().to_owned();
        let listed = ask(&stack, shown(request, scope)).await.unwrap();
        assert_eq!(names(&listed), shows, "{method} with `{scope}`");
        if let ServerResult::ListToolsResult(listed) = listed {
            assert_eq!(listed.next_cursor.as_deref(), Some("more"));
        }
    }
}

#[tokio::test]
async fn what_is_shown_is_what_can_be_called() {
    let stack = guarded(&Shop::default(), rules());
    for scope in ["", "db:read", "db:write", "db:write db:owner", "admin", "x"] {
        let listed = ask(&stack, shown(ListToolsRequest::default(), scope))
            .await
            .unwrap();
        let shown = names(&listed);
        for name in ["zebra", "db__read", "db__drop", "ant", "secret"] {
            let answer = ask(&stack, call(name, scope)).await;
            let listed = shown.contains(&name.to_owned());
            assert_eq!(answer.is_ok(), listed, "{name} with `{scope}`");
        }
    }
}

#[tokio::test]
async fn a_forbidden_name_and_an_unknown_one_are_answered_alike() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let mut line = Line::to(stack);
    // In the servers' own words: this crate's gateway, its registry, rmcp, and the SDKs of other languages.
    let near = json!({ "name": "db__drob", "nearest": ["db__drop", "secret"] });
    let failed = |text: &str| Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into());
    let words = vec![
        Err(ErrorData::invalid_params(
            "Unknown tool: db__drob. Did you mean `db__drop` or `secret`?",
            Some(near),
        )),
        Err(ErrorData::invalid_params(
            "Unknown tool: db__drob (it has no versions)",
            None,
        )),
        Err(ErrorData::invalid_params("tool not found", None)),
        Err(ErrorData::internal_error("Tool db__drob not found", None)),
        failed("Unknown tool: db__drob"),
        failed("MCP error -32602: Tool db__drob not found"),
    ];
    // The name db__drop is there and forbidden; db__drob is not, but a glob would grant it.
    let reader = bearing(&token("db:read"));
    let forbidden = line
        .ask("tools/call", json!({ "name": "db__drop" }), reader.clone())
        .await;
    assert_eq!(shop.count(), 0, "what is forbidden reaches nobody");
    assert_eq!(forbidden["error"]["code"], -32602, "{forbidden}");
    for said in words {
        shop.will_say(said);
        let unknown = line
            .ask("tools/call", json!({ "name": "db__drob" }), reader.clone())
            .await;
        let as_forbidden = unknown["error"].to_string().replace("db__drob", "db__drop");
        assert_eq!(as_forbidden, forbidden["error"].to_string());
    }
    // A tool's own failure is its own.
    shop.will_say(Ok(CallToolResult::error(vec![ContentBlock::text(
        "row not found",
    )])
    .into()));
    let failed = line
        .ask("tools/call", json!({ "name": "db__read" }), reader.clone())
        .await;
    assert_eq!(failed["result"]["content"][0]["text"], "row not found");

    let denied = line
        .ask("prompts/get", json!({ "name": "secret" }), reader.clone())
        .await;
    assert_eq!(denied["error"]["message"], "Unknown prompt: secret");
    let read = json!({ "uri": "file:///secret" });
    let denied = line
        .ask("resources/read", read.clone(), reader.clone())
        .await;
    assert_eq!(
        denied["error"]["message"],
        "Resource not found: file:///secret"
    );
    shop.will_say(Err(ErrorData::resource_not_found("no such resource", None)));
    let unknown = line
        .ask("resources/read", read, bearing(&token("admin")))
        .await;
    assert_eq!(unknown["error"], denied["error"]);
}

#[tokio::test]
async fn where_it_is_configured_a_forbidden_name_is_told_with_all_scopes_that_are_missing() {
    let shop = Shop::default();
    let mut line = Line::to(guarded(&shop, rules().reveal_forbidden(true)));
    let nobody = bearing(&token(""));
    let drop = line
        .ask("tools/call", json!({ "name": "db__drop" }), nobody.clone())
        .await;
    let error = json!({
        "code": -31403,
        "message": "refused by auth: insufficient scope: needs db:write db:owner",
        "data": {
            "kind": "refused",
            "layer": "auth",
            "reason": "insufficient_scope",
            "scopes": ["db:write", "db:owner"],
        },
    });
    assert_eq!(drop["error"], error);
    shop.will_say(Err(ErrorData::invalid_params(
        "Unknown tool: x. Did you mean `y`?",
        None,
    )));
    let unknown = line
        .ask("tools/call", json!({ "name": "ant" }), nobody)
        .await;
    assert_eq!(
        unknown["error"]["message"],
        "Unknown tool: x. Did you mean `y`?"
    );
}

#[tokio::test]
async fn a_policy_sees_the_arguments_and_hides_from_lists() {
    struct OwnRows;
    impl Policy for OwnRows {
        fn decide(&self, request: &McpRequest, principal: &Principal) -> Decision {
            let arguments = request
                .as_tool_call()
                .and_then(|call| call.arguments.as_ref());
            match arguments.and_then(|arguments| arguments.get("owner")) {
                Some(owner) if owner != principal.subject() => Decision::deny("another's row"),
                _ => Decision::Allow,
            }
        }

        fn shows(&self, item: Item<'_>, _principal: &Principal) -> bool {
            item != Item::Tool("db__drop")
        }
    }
    let layer = layer(rules()).policy(OwnRows).build().unwrap();
    let mut line = Line::to(layer.layer(Shop::default()));
    let admin = bearing(&token("admin db:read db:write db:owner"));
    let read = |owner: &str| json!({ "name": "db__read", "arguments": { "owner": owner } });
    let own = line.ask("tools/call", read("alice"), admin.clone()).await;
    assert_eq!(own["result"]["content"][0]["text"], "done", "{own}");
    let others = line.ask("tools/call", read("bob"), admin.clone()).await;
    assert_eq!(others["error"]["code"], -31403);
    assert_eq!(others["error"]["message"], "refused by auth: not allowed");
    let listed = line.ask("tools/list", json!({}), admin).await;
    assert!(!listed.to_string().contains("db__drop"), "{listed}");
}

#[tokio::test]
async fn an_answer_is_marked_as_its_principals() {
    let stack = guarded(&Shop::default(), rules());
    let answer = stack.oneshot(call("ant", "")).await.unwrap();
    let of = |subject: &str| {
        Audience::principal(&Principal::new(subject).with_issuer(crate::tokens::ISSUER))
    };
    assert!(answer.is_for(&of("alice")));
    assert!(!answer.is_for(&of("bob")));
    assert!(!answer.is_for(&Audience::anonymous()));
    assert!(!answer.is_for(&Audience::everybody()));
}

#[tokio::test]
async fn whoever_is_named_before_the_guard_counts_for_nothing() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let mut forged = McpRequest::call_tool("zebra").build();
    forged
        .context
        .set_principal(Principal::new("root").with_scopes(["admin"]));
    assert_eq!(ask(&stack, forged).await.unwrap_err().code.0, -31401);
    let mut both = call("ant", "");
    both.context
        .set_principal(Principal::new("root").with_scopes(["admin"]));
    ask(&stack, both).await.unwrap();
    assert_eq!(shop.last().context.principal().unwrap().subject(), "alice");
}

#[tokio::test]
async fn a_task_is_its_beginners_and_unknown_to_others() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let task = Task::new("task-1", TaskStatus::Working, "now", "now");
    shop.will_say(Ok(CreateTaskResult::new(task).into()));
    ask(&stack, call("ant", "")).await.unwrap();

    let get = || GetTaskRequest::new(GetTaskParams::new("task-1"));
    ask(&stack, shown(get(), "")).await.unwrap();
    let bob = Issuer::secret(Algorithm::HS256).token("bob", "admin");
    let mut request = McpRequest::new(get());
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), bob.into());
    let error = ask(&stack, request).await.unwrap_err();
    assert_eq!(error.message, "Unknown task: task-1");
}

#[tokio::test]
async fn rules_can_be_replaced_while_calls_come() {
    let layer = layer(rules()).build().unwrap();
    let handle = layer.handle();
    let stack = layer.layer(Shop::default());
    ask(&stack, call("ant", "")).await.unwrap();
    handle.set_rules(
        Rules::builder()
            .tool("zebra", Scopes::none())
            .build()
            .unwrap(),
    );
    ask(&stack, call("zebra", "")).await.unwrap();
    ask(&stack, call("ant", "")).await.unwrap_err();
    let listed = ask(&stack, shown(ListToolsRequest::default(), ""))
        .await
        .unwrap();
    assert_eq!(names(&listed), ["zebra"]);
}

#[tokio::test]
async fn an_older_client_shakes_hands_where_that_is_open_and_calls_with_its_token() {
    let layer = layer(Rules::builder().tool("add", Scopes::none()))
        .open(["server/discover", "notifications/*"])
        .build()
        .unwrap();
    let client = Client::legacy("old", layer.layer(Handler::new(Demo::default()))).await;
    let refused = client
        .peer
        .call_tool_once(tool("add", json!({ "a": 1 })))
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("a token is needed")
    );
    let mut params = tool("add", json!({ "a": 1, "b": 1 }));
    let meta = params.meta.get_or_insert_default();
    meta.insert(TOKEN_META_KEY.to_owned(), token("").into());
    assert_eq!(crate::common::text(&client.call(params).await), "2");

    let wrong = AuthLayer::builder(by_secret()).open(["tools/list"]).build();
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("`tools/list` cannot be open")
    );
}

/// A bottom that keeps listens open, and tells of what it is told to.
#[derive(Clone, Default)]
struct Crier(Arc<Mutex<Vec<CallContext>>>, Arc<AtomicUsize>);

impl Service<McpRequest> for Crier {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        if let ClientRequest::SubscriptionsListenRequest(listen) = &request.message {
            let asked = &listen.params.notifications.resource_subscriptions;
            let count = asked.as_ref().map_or(0, Vec::len);
            self.1.store(count, Ordering::SeqCst);
        }
        self.0.lock().unwrap().push(request.context.clone());
        Box::pin(std::future::pending())
    }
}

fn updated(uri: &str) -> ServerNotification {
    ResourceUpdatedNotification::new(ResourceUpdatedNotificationParam::new(uri)).into()
}

fn uris(heard: &mut mpsc::UnboundedReceiver<ServerNotification>) -> Vec<String> {
    let mut uris = Vec::new();
    while let Ok(notification) = heard.try_recv() {
        match notification {
            ServerNotification::ResourceUpdatedNotification(updated) => {
                uris.push(updated.params.uri);
            }
            other => uris.push(format!("{other:?}").chars().take(8).collect()),
        }
    }
    uris
}

#[tokio::test(start_paused = true)]
async fn a_listen_hears_nothing_of_forbidden_resources_and_ends_with_its_token() {
    let crier = Crier::default();
    let started = tokio::time::Instant::now();
    let begun = SystemTime::now();
    let clock = move || begun + started.elapsed();
    let verifier = crate::tokens::verifier()
        .secret(crate::tokens::SECRET)
        .clock(clock)
        .build()
        .unwrap();
    let layer = AuthLayer::builder(verifier)
        .rules(rules().build().unwrap())
        .clock(clock)
        .build()
        .unwrap();
    let handle = layer.handle();
    let (caller, mut heard) = recorder();
    let mut filter = SubscriptionFilter::new();
    filter.resource_subscriptions = Some(vec!["file:///db__read".into(), "file:///secret".into()]);
    let listen = SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
    let mut request = shown(listen, "db:read");
    request.context.caller = caller;
    let listening = tokio::spawn(layer.layer(crier.clone()).oneshot(request));
    tokio::task::yield_now().await;
    assert_eq!(
        crier.1.load(Ordering::SeqCst),
        1,
        "what is asked for is narrowed"
    );

    let below = crier.0.lock().unwrap()[0].caller.clone();
    below.notify(updated("file:///secret")).await.unwrap();
    below.notify(updated("file:///db__read")).await.unwrap();
    below
        .notify(ToolListChangedNotification::default().into())
        .await
        .unwrap();
    assert_eq!(uris(&mut heard), ["file:///db__read", "ToolList"]);
    handle.set_rules(Rules::builder().build().unwrap());
    below.notify(updated("file:///db__read")).await.unwrap();
    assert!(uris(&mut heard).is_empty());

    // Ten minutes, and the leeway.
    let ended = tokio::time::timeout(Duration::from_secs(700), listening).await;
    let error = ErrorData::from(ended.expect("an end").unwrap().unwrap_err());
    assert_eq!(error.code.0, -31401);
    assert!(started.elapsed() >= Duration::from_secs(600));
}

#[tokio::test]
async fn a_client_hears_of_the_resources_it_may_read() {
    let demo = Demo::default();
    let layer = layer(Rules::builder().resource("file:///a", Scopes::none()))
        .token_from(|_| Some(token("")))
        .build()
        .unwrap();
    let mut client = Client::legacy("reader", layer.layer(Handler::new(demo.clone()))).await;
    let subscribe = |uri: &str| client.peer.subscribe(SubscribeRequestParams::new(uri));
    soon("subscribing", subscribe("file:///a")).await.unwrap();
    demo.change(ResourceUpdatedNotification::new(
        ResourceUpdatedNotificationParam::new("file:///b"),
    ))
    .await;
    demo.change(ResourceUpdatedNotification::new(
        ResourceUpdatedNotificationParam::new("file:///a"),
    ))
    .await;
    assert_eq!(
        client.hear("an update").await,
        Heard::Updated("file:///a".into())
    );
}

#[tokio::test]
async fn a_remembered_token_ends_when_it_says() {
    let late = Arc::new(AtomicUsize::new(0));
    let clock = {
        let late = late.clone();
        move || SystemTime::now() + Duration::from_secs(late.load(Ordering::SeqCst) as u64)
    };
    let verifier = crate::tokens::verifier()
        .secret(crate::tokens::SECRET)
        .clock(clock)
        .build()
        .unwrap();
    let issuer = Issuer::secret(Algorithm::HS256);
    let mut short: Value = claims("alice", "x");
    short["exp"] = (now() + 10).into();
    let token = issuer.sign(&issuer.header(), &short);
    assert!(verifier.remembered(&token).is_none());
    verifier.verify(&token).await.unwrap();
    assert!(verifier.remembered(&token).is_some());
    assert!(verifier.remembered(&format!("{token}x")).is_none());
    late.store(39, Ordering::SeqCst);
    assert!(verifier.remembered(&token).is_some());
    late.store(41, Ordering::SeqCst);
    assert!(verifier.remembered(&token).is_none());
    let error = verifier.verify(&token).await.unwrap_err();
    assert_eq!(error.kind(), rmcp_layers::auth::AuthErrorKind::Expired);
}
