//! Any JSON, in any place that a revision leaves open, leaves as it came. A layer that changes a
//! part changes that part alone.

mod json;
mod shapes;

use std::{
    cell::RefCell,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};
use rmcp::{
    ServiceExt,
    model::{JsonObject, ServerResult},
};
use rmcp_layers::{
    Error, Lifecycle, Lines, McpRequest, McpResponse, McpServer, Next, Principal, Upstream,
    audit::{AuditLayer, AuditLog},
    auth::{ApiKeys, AuthLayer, Rules, Scopes, TOKEN_META_KEY},
    cache::{CacheHandle, CacheLayer, CacheLayerBuilder},
    from_fn,
    gateway::NamespaceLayer,
    registry::{RegisteredTool, RegistryLayer, SearchMode},
    retry::{RetryLayer, breaker::CircuitBreakerLayer},
    store::MemoryStore,
};
use tokio::runtime::Runtime;
use tower::{BoxError, Layer, ServiceBuilder};

use self::{
    json::Json,
    shapes::{Exchange, calls, first_pages, lists, requests, results, tools},
};
use crate::{
    common::Stack,
    peers::{Caller, LEGACY, MODERN, Road, Seen, Server},
};

/// The ways to a server on which a result keeps its text.
const ROADS: [Road; 1] = [Road::Lines];

/// A caller, a stack, and a server whose next result is set.
struct World {
    runtime: Runtime,
    caller: Caller,
    result: Arc<Mutex<String>>,
    seen: Seen,
    asked: usize,
}

impl World {
    fn new<S: Stack>(revision: &'static str, road: Road, stack: impl Fn(Upstream) -> S) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let result = Arc::<Mutex<String>>::default();
        let next = result.clone();
        let (server, seen) = Server::new(revision, move |_| {
            let result = next.lock().unwrap();
            vec![format!(
                r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#
            )]
        });
        let caller = runtime.block_on(async {
            let stack = stack(server.by(road).await);
            match revision {
                MODERN => Caller::modern(stack),
                _ => Caller::legacy(stack).await,
            }
        });
        Self {
            runtime,
            caller,
            result,
            seen,
            asked: 0,
        }
    }

    /// The result that the caller gets when this is the server's.
    fn result(&mut self, exchange: &Exchange) -> Json {
        *self.result.lock().unwrap() = exchange.result.to_string();
        self.ask(exchange.method, exchange.params)
    }

    fn ask(&mut self, method: &str, params: &str) -> Json {
        self.asked += 1;
        let answer = self.runtime.block_on(self.caller.ask(method, params));
        let answer = Json::read(&answer);
        match answer.get("result") {
            Some(result) => result.clone(),
            None => answer,
        }
    }
}

fn for_each<T: std::fmt::Debug>(
    any: impl Strategy<Value = T>,
    check: impl Fn(T) -> Result<(), TestCaseError>,
) {
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    };
    TestRunner::new(config).run(&any, check).unwrap();
}

/// Takes any exchange of both revisions through a stack, on all roads. The result is `expected`.
fn each_result<S: Stack>(
    any: impl Fn(&str) -> BoxedStrategy<Exchange>,
    stack: impl Fn(Upstream) -> S,
    expected: impl Fn(&str, Json) -> Json,
) {
    for revision in [LEGACY, MODERN] {
        each_result_of(revision, &any, &stack, &expected);
    }
}

fn each_result_of<S: Stack>(
    revision: &'static str,
    any: impl Fn(&str) -> BoxedStrategy<Exchange>,
    stack: impl Fn(Upstream) -> S,
    expected: impl Fn(&str, Json) -> Json,
) {
    for road in ROADS {
        let world = RefCell::new(World::new(revision, road, &stack));
        for_each(any(revision), |exchange| {
            let told = world.borrow_mut().result(&exchange);
            let expected = expected(exchange.method, exchange.result).to_string();
            prop_assert_eq!(told.to_string(), expected, "{} {:?}", revision, road);
            Ok(())
        });
    }
}

async fn pass(request: McpRequest, next: Next) -> Result<McpResponse, Error> {
    next.run(request).await
}

/// Nine layers that change nothing.
fn nine(stack: Upstream) -> impl Stack {
    let audit = AuditLog::builder().memory(10).build().unwrap();
    ServiceBuilder::new()
        .layer(from_fn(pass))
        .layer(AuditLayer::new(audit))
        .layer(RegistryLayer::new())
        .layer(from_fn(pass))
        .layer(RetryLayer::new())
        .layer(CircuitBreakerLayer::new())
        .layer(from_fn(pass))
        .layer(from_fn(pass))
        .layer(from_fn(pass))
        .service(stack)
}

#[test]
fn a_result_leaves_nine_layers_as_it_came() {
    each_result(results, nine, |_, result| result);
}

#[test]
fn a_result_leaves_a_second_hop_as_it_came() {
    let hop = |lifecycle: Lifecycle, stack: Upstream| {
        let lines = move || {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let server = McpServer::new(stack.clone());
            tokio::spawn(async move {
                let far = Lines::from(tokio::io::split(far));
                let _ = server.serve(far).await.unwrap().waiting().await;
            });
            async move { Ok::<_, io::Error>(Lines::from(tokio::io::split(near))) }
        };
        Upstream::builder().lifecycle(lifecycle).lines(lines)
    };
    let as_it_came = |_: &str, result| result;
    let legacy = |stack| hop(Lifecycle::Initialize, stack);
    each_result_of(LEGACY, results, legacy, as_it_came);
    let modern = |stack| hop(Lifecycle::Discover, stack);
    each_result_of(MODERN, results, modern, as_it_came);
}

#[test]
fn a_request_leaves_nine_layers_as_it_came() {
    for revision in [LEGACY, MODERN] {
        let world = RefCell::new(World::new(revision, Road::Lines, nine));
        *world.borrow().result.lock().unwrap() = match revision {
            MODERN => r#"{"resultType":"complete"}"#.to_owned(),
            _ => "{}".to_owned(),
        };
        for_each(requests(), |(method, params)| {
            let mut world = world.borrow_mut();
            let members = params.to_string();
            world.ask(method, &members[1..members.len() - 1]);
            let World { runtime, seen, .. } = &mut *world;
            let sent = Json::read(&runtime.block_on(seen.next(method)));
            let sent = sent
                .get("params")
                .cloned()
                .unwrap_or_else(|| Json::Object(Vec::new()));
            let own = sent.filtered(|name| name != "_meta");
            prop_assert_eq!(own.to_string(), params.to_string(), "{}", revision);
            Ok(())
        });
    }
}

#[test]
fn the_meta_of_a_request_keeps_its_entries_and_their_order() {
    let world = RefCell::new(World::new(LEGACY, Road::Lines, nine));
    *world.borrow().result.lock().unwrap() = "{}".to_owned();
    for_each(json::object_of(json::json()), |meta| {
        let mut world = world.borrow_mut();
        world.ask("tools/call", &format!(r#""_meta":{meta},"name":"t""#));
        let World { runtime, seen, .. } = &mut *world;
        let sent = Json::read(&runtime.block_on(seen.next("tools/call")));
        let sent = sent.get("params").and_then(|params| params.get("_meta"));
        let sent = sent.cloned().unwrap_or_else(|| Json::Object(Vec::new()));
        let own = sent.filtered(|name| meta.get(name).is_some());
        prop_assert_eq!(own.to_string(), meta.to_string());
        Ok(())
    });
}

fn keeping_all() -> CacheLayerBuilder {
    let minute = Duration::from_secs(60);
    let methods = [
        "tools/list",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    ];
    let builder = CacheLayer::builder().watch_changes(false);
    let builder = builder.cache_tool_for("*", minute);
    methods.iter().fold(builder, |builder, method| {
        builder.cache_method(*method, minute)
    })
}

/// `ttlMs` aside, which is less by the age of the entry.
fn without_ttl(result: Json) -> String {
    result.filtered(|name| name != "ttlMs").to_string()
}

#[test]
fn a_result_leaves_the_cache_as_it_came() {
    let handle = RefCell::new(None::<CacheHandle>);
    for revision in [LEGACY, MODERN] {
        let world = RefCell::new(World::new(revision, Road::Lines, |stack| {
            let cache = keeping_all().build().unwrap();
            handle.replace(Some(cache.handle()));
            cache.layer(stack)
        }));
        let handle = handle.borrow().clone().unwrap();
        let any = prop_oneof![calls(revision), lists(revision)];
        for_each(any, |exchange| {
            handle.clear();
            let mut world = world.borrow_mut();
            let hits = handle.stats().hits;
            world.result(&exchange);
            let hit = world.ask(exchange.method, exchange.params);
            prop_assert_eq!(handle.stats().hits, hits + 1);
            prop_assert_eq!(without_ttl(hit), without_ttl(exchange.result));
            Ok(())
        });
    }
}

#[test]
fn a_result_leaves_the_store_of_another_process_as_it_came() {
    for revision in [LEGACY, MODERN] {
        let handles = RefCell::new(Vec::new());
        let store = MemoryStore::new();
        let stack = |stack| {
            let cache = keeping_all().store(store.clone()).build().unwrap();
            handles.borrow_mut().push(cache.handle());
            cache.layer(stack)
        };
        let first = RefCell::new(World::new(revision, Road::Lines, stack));
        let second = RefCell::new(World::new(revision, Road::Lines, stack));
        let handles = handles.borrow().clone();
        let any = prop_oneof![calls(revision), lists(revision)];
        for_each(any, |exchange| {
            let (mut first, mut second) = (first.borrow_mut(), second.borrow_mut());
            // A request that was not made before.
            let params = match exchange.method {
                "tools/call" => format!(r#""name":"t","arguments":{{"n":{}}}"#, first.asked),
                _ => format!(r#""cursor":"{}""#, first.asked),
            };
            *first.result.lock().unwrap() = exchange.result.to_string();
            first.ask(exchange.method, &params);
            let hits = handles[1].stats().store_hits;
            first
                .runtime
                .block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            let adopted = second.ask(exchange.method, &params);
            prop_assert_eq!(handles[1].stats().store_hits, hits + 1);
            prop_assert_eq!(without_ttl(adopted), without_ttl(exchange.result));
            Ok(())
        });
    }
}

const KEY: &str = "k-3f9a5c1e77d04b2a";

/// Guards a stack. Items whose names end in an even digit are hidden from the caller.
fn guarded(stack: Upstream) -> impl Stack {
    let user = Principal::new("ann").with_scopes(["use"]);
    let keys = ApiKeys::new().key(KEY, user).unwrap();
    let none = Scopes::none();
    let mut rules = Rules::builder().method("*", none.clone());
    for even in ["0", "2"] {
        rules = rules
            .tool(format!("*{even}"), "admin")
            .prompt(format!("*{even}"), "admin")
            .resource(format!("*{even}*"), "admin");
    }
    let rules = rules
        .tool("*", none.clone())
        .prompt("*", none.clone())
        .resource("*", none);
    let auth = AuthLayer::builder(keys).rules(rules.build().unwrap());
    ServiceBuilder::new()
        .map_request(|mut request: McpRequest| {
            let meta = &mut request.context.meta;
            meta.insert(TOKEN_META_KEY.to_owned(), KEY.into());
            request
        })
        .layer(auth.build().unwrap())
        .service(stack)
}

/// A list's member with the items.
fn items<'a>(method: &str, result: &'a mut Json) -> Option<&'a mut Vec<Json>> {
    let member = match method {
        "tools/list" => "tools",
        "prompts/list" => "prompts",
        "resources/list" => "resources",
        "resources/templates/list" => "resourceTemplates",
        _ => return None,
    };
    Some(result.get_mut(member)?.elements_mut())
}

#[test]
fn a_guard_hides_items_and_sets_the_scope_and_changes_nothing_else() {
    let any = |revision: &str| {
        let is_modern = revision == MODERN;
        lists(revision)
            .prop_flat_map(move |exchange| (Just(exchange), prop::bool::weighted(0.5)))
            .prop_map(move |(mut exchange, is_public)| {
                if let Some(scope) = exchange.result.get_mut("cacheScope")
                    && is_public
                    && is_modern
                {
                    *scope = Json::text("public");
                }
                exchange
            })
            .boxed()
    };
    each_result(any, guarded, |method, mut result| {
        if let Some(scope) = result.get_mut("cacheScope") {
            *scope = Json::text("private");
        }
        let is_hidden = |item: &Json| {
            let name = ["uri", "uriTemplate", "name"].map(|name| item.get(name));
            let name = name.into_iter().flatten().next().unwrap().to_string();
            name.contains(['0', '2'])
        };
        if let Some(items) = items(method, &mut result) {
            items.retain(|item| !is_hidden(item));
        }
        result
    });
}

#[test]
fn a_registry_adds_its_tools_and_changes_no_other() {
    let registered = |stack: Upstream| {
        let registry = RegistryLayer::new();
        for name in ["own", "t1"] {
            let tool = RegisteredTool::builder(name)
                .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(String::new()) });
            registry.handle().register(tool.build().unwrap()).unwrap();
        }
        registry.layer(stack)
    };
    let own = RefCell::new(None::<Vec<Json>>);
    each_result(tools, registered, |method, mut result| {
        // The registered tools, as they are listed beside none.
        let mut own = own.borrow_mut();
        let own = own.get_or_insert_with(|| {
            let mut world = World::new(MODERN, Road::Lines, registered);
            let none = Json::read(
                r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[]}"#,
            );
            let mut listed = world.result(&Exchange {
                method: "tools/list",
                params: "",
                result: none,
            });
            items("tools/list", &mut listed).unwrap().clone()
        });
        assert_eq!(own.len(), 2);
        let items = items(method, &mut result).unwrap();
        items.retain(|item| item.get("name") != Some(&Json::text("t1")));
        items.splice(0..0, own.clone());
        result
    });
}

#[test]
fn a_layer_that_changes_a_part_of_a_result_changes_that_part_alone() {
    let changing = |stack: Upstream| {
        let layer = from_fn(|request: McpRequest, next: Next| async move {
            let mut response = next.run(request).await?;
            if let ServerResult::CallToolResult(result) = &mut *response.result {
                result.is_error = Some(true);
            }
            Ok(response)
        });
        layer.layer(stack)
    };
    each_result(calls, changing, |_, result| {
        let Json::Object(mut members) = result else {
            panic!("not an object");
        };
        let mut set = |name: &str, value: Json| match members.iter_mut().find(|(it, _)| it == name)
        {
            Some((_, it)) => *it = value,
            None => members.push((name.to_owned(), value)),
        };
        set("isError", Json::Word("true".to_owned()));
        Json::Object(members)
    });
}

#[test]
fn a_name_in_front_of_a_servers_items_changes_their_names_alone() {
    for revision in [LEGACY, MODERN] {
        for_each(first_pages(revision), |mut exchange| {
            // The layer keeps a list until it changes.
            let mut world = World::new(revision, Road::Lines, behind_name);
            let mut told = world.result(&exchange);
            for item in items(exchange.method, &mut told).into_iter().flatten() {
                if let Some(Json::Text(description)) = item.get_mut("description") {
                    *description = description.trim_start_matches("[m] ").to_owned();
                }
            }
            for item in items(exchange.method, &mut exchange.result).unwrap() {
                if let Some(Json::Text(name)) = item.get_mut("name")
                    && name != "n"
                {
                    name.insert_str(0, "m__");
                }
                *item = Json::read(&item.to_string().replace(r#""xres:"#, r#""m+xres:"#));
            }
            let told = items(exchange.method, &mut told).cloned();
            let came = items(exchange.method, &mut exchange.result).cloned();
            prop_assert_eq!(told, came, "{}", revision);
            Ok(())
        });
    }
}

fn behind_name(stack: Upstream) -> impl Stack {
    NamespaceLayer::new("m").unwrap().layer(stack)
}

#[test]
fn a_name_in_front_of_a_servers_tools_does_not_change_their_results() {
    let any = |revision: &str| {
        calls(revision)
            .prop_map(|exchange| Exchange {
                params: r#""name":"m__t""#,
                ..exchange
            })
            .boxed()
    };
    // The URIs of resources have the name in front of them.
    each_result(any, behind_name, |_, result| {
        Json::read(&result.to_string().replace(r#""xres:"#, r#""m+xres:"#))
    });
}

#[tokio::test(start_paused = true)]
async fn a_hit_has_a_lower_time_to_live_and_all_else_as_it_came() {
    let list = |ttl: u64| {
        format!(
            r#"{{"x":[1e400],"ttlMs":{ttl},"resultType":"complete","tools":[{{"x":2,"name":"t","inputSchema":{{"type":"object"}}}}],"cacheScope":"private"}}"#
        )
    };
    let (server, _) = Server::answering(MODERN, &list(60_000));
    let cache = keeping_all().build().unwrap();
    let handle = cache.handle();
    let mut caller = Caller::modern(cache.layer(server.by(Road::Lines).await));
    let mut told = async || {
        let answer = Json::read(&caller.ask("tools/list", "").await);
        answer.get("result").unwrap().to_string()
    };
    assert_eq!(told().await, list(60_000));
    assert!(handle.stats().bytes > 768 + 2 * list(60_000).len());
    tokio::time::advance(Duration::from_millis(1_500)).await;
    assert_eq!(told().await, list(58_500));
    tokio::time::advance(Duration::from_millis(55_000)).await;
    assert_eq!(told().await, list(3_500));
}

#[tokio::test]
async fn the_arguments_of_a_call_through_call_tool_leave_as_they_came() {
    let (server, mut seen) = Server::answering(LEGACY, r#"{"content":[]}"#);
    let registry = RegistryLayer::builder().search(SearchMode::Only);
    let registry = registry.build().unwrap();
    let mut caller = Caller::legacy(registry.layer(server.by(Road::Lines).await)).await;
    let arguments = r#"{"z":123456789012345678901234567890,"a":[0.10,{"y":1,"b":5.0}]}"#;
    let params = format!(
        r#""x":1,"arguments":{{"arguments":{arguments},"name":"t"}},"name":"call_tool","y":2"#
    );
    caller.ask("tools/call", &params).await;
    let sent = Json::read(&seen.next("tools/call").await);
    let sent = sent.get("params").unwrap().clone();
    assert_eq!(
        sent.filtered(|name| name != "_meta").to_string(),
        format!(r#"{{"x":1,"arguments":{arguments},"name":"t","y":2}}"#)
    );
}
