//! Two users never meet, wherever the guard stands.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture, future::join_all};
use jsonwebtoken::Algorithm;
use proptest::{prelude::*, sample::select};
use rmcp::model::*;
use rmcp_layers::{
    Error, McpRequest, McpResponse,
    auth::{AuthLayer, Rules, Scopes, TOKEN_META_KEY},
    cache::CacheLayer,
};
use serde_json::json;
use tower::{Layer, Service, ServiceExt, util::BoxCloneService};

use crate::{
    common::tool,
    tokens::{Issuer, by_secret},
};

const USERS: [&str; 4] = ["ann", "bob", "cid", "dot"];
const TOOLS: [&str; 4] = ["ann__inbox", "bob__inbox", "shared", "secret"];

type Stack = BoxCloneService<McpRequest, McpResponse, Error>;

/// Answers with whom it takes the caller for, what was asked, and that everybody may keep it.
#[derive(Clone, Default)]
struct Mirror(Arc<AtomicUsize>);

impl Service<McpRequest> for Mirror {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        // A cache listens for changes besides.
        if request.method() == "tools/call" {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        async move {
            // Long enough for others to ask the same meanwhile.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let subject = request
                .context
                .principal()
                .map_or("nobody", |principal| principal.subject());
            let result: ServerResult = match request.method() {
                "tools/list" => {
                    let tools = TOOLS.map(|name| {
                        Tool::new(name, "", Arc::new(JsonObject::new()))
                            .with_annotations(ToolAnnotations::new().read_only(true))
                    });
                    ListToolsResult::with_all_items(tools.into())
                        .with_cache_scope(CacheScope::Public)
                        .with_ttl_ms(60_000)
                        .into()
                }
                _ => {
                    let text = format!("{subject} {}", request.target().unwrap_or_default());
                    CallToolResult::success(vec![ContentBlock::text(text)]).into()
                }
            };
            Ok(McpResponse::new(result))
        }
        .boxed()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Guard,
    Cache,
}

fn guard() -> AuthLayer {
    let rules = USERS.into_iter().fold(Rules::builder(), |rules, user| {
        rules.tool(format!("{user}__*"), user)
    });
    let rules = rules.tool("shared", Scopes::none()).build().unwrap();
    AuthLayer::builder(by_secret())
        .rules(rules)
        .build()
        .unwrap()
}

/// A stack of these layers, the outermost first.
fn stack(parts: &[Part], mirror: &Mirror) -> Stack {
    let mut stack = BoxCloneService::new(mirror.clone());
    for part in parts.iter().rev() {
        stack = match part {
            // Each guard of a stack that has two takes the token for itself, so that only the outermost sees it:
            // the inner is the one that counts.
            Part::Guard => BoxCloneService::new(guard().layer(stack)),
            Part::Cache => {
                let cache = CacheLayer::builder()
                    .cache_tool_for("*", Duration::from_secs(600))
                    // The worst case: a cache that does not look at the token.
                    .ignore_meta(TOKEN_META_KEY)
                    .build()
                    .unwrap();
                BoxCloneService::new(cache.layer(stack))
            }
        };
    }
    stack
}

#[derive(Clone, Debug)]
struct Ask {
    user: Option<usize>,
    /// None for the list.
    tool: Option<&'static str>,
    over_http: bool,
}

impl Ask {
    fn request(&self, tokens: &HashMap<usize, String>) -> McpRequest {
        let mut request = match self.tool {
            Some(name) => McpRequest::new(CallToolRequest::new(tool(name, json!({})))),
            None => McpRequest::list_tools(),
        };
        let Some(token) = self.user.and_then(|user| tokens.get(&user)) else {
            return request;
        };
        if self.over_http {
            let (parts, ()) = http::Request::post("/mcp")
                .header("authorization", format!("Bearer {token}"))
                .body(())
                .unwrap()
                .into_parts();
            request.context.extensions.insert(parts);
        } else {
            request
                .context
                .meta
                .insert(TOKEN_META_KEY.to_owned(), token.clone().into());
        }
        request
    }

    /// What only this user may hear.
    fn check(&self, answer: Result<McpResponse, Error>) {
        let Some(user) = self.user.map(|user| USERS[user]) else {
            let error = ErrorData::from(answer.expect_err("nobody is let in"));
            assert_eq!(error.code.0, -31401, "{error:?}");
            return;
        };
        let may = |name: &str| name == "shared" || name.starts_with(&format!("{user}__"));
        match (self.tool, answer) {
            (Some(name), Ok(answer)) => {
                assert!(may(name), "{user} called {name}");
                let said = crate::common::said(Ok::<_, Error>(answer));
                assert_eq!(said, format!("{user} {name}"));
            }
            (Some(name), Err(error)) => {
                assert!(!may(name), "{user} was refused {name}: {error}");
            }
            (None, answer) => {
                let answer = answer.expect("a list");
                let ServerResult::ListToolsResult(listed) = answer.into_result() else {
                    panic!("no list");
                };
                assert_ne!(listed.cache_scope, Some(CacheScope::Public));
                let shown: Vec<_> = listed.tools.iter().map(|tool| &*tool.name).collect();
                let expected: Vec<_> = TOOLS.into_iter().filter(|name| may(name)).collect();
                assert_eq!(shown, expected, "{user}'s list");
            }
        }
    }
}

fn asks() -> impl Strategy<Value = Vec<Vec<Ask>>> {
    let tools: Vec<_> = TOOLS.into_iter().map(Some).chain([None]).collect();
    let ask = (
        prop::option::weighted(0.9, 0..USERS.len()),
        select(tools),
        any::<bool>(),
    );
    let ask = ask.prop_map(|(user, tool, over_http)| Ask {
        user,
        tool,
        over_http,
    });
    prop::collection::vec(prop::collection::vec(ask, 1..12), 1..6)
}

fn orders() -> impl Strategy<Value = Vec<Part>> {
    use Part::{Cache, Guard};
    select(vec![
        vec![Guard, Cache],
        vec![Cache, Guard],
        vec![Cache, Guard, Cache],
        vec![Cache, Cache, Guard],
        vec![Guard, Cache, Cache],
        vec![Guard],
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Waves of requests at once, of several users, for the same things.
    #[test]
    fn no_principal_hears_what_is_anothers_wherever_the_guard_stands(
        parts in orders(),
        waves in asks(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let issuer = Issuer::secret(Algorithm::HS256);
            let tokens: HashMap<_, _> = USERS
                .iter()
                .enumerate()
                .map(|(index, user)| (index, issuer.token(user, user)))
                .collect();
            let mirror = Mirror::default();
            let stack = stack(&parts, &mirror);
            for wave in waves {
                let answers = wave.iter().map(|ask| stack.clone().oneshot(ask.request(&tokens)));
                for (ask, answer) in wave.iter().zip(join_all(answers).await) {
                    ask.check(answer);
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_inside_of_the_guard_serves_each_principal_from_memory() {
    let mirror = Mirror::default();
    let stack = stack(&[Part::Guard, Part::Cache], &mirror);
    let issuer = Issuer::secret(Algorithm::HS256);
    let tokens: HashMap<_, _> = [
        (0, issuer.token("ann", "ann")),
        (1, issuer.token("bob", "bob")),
    ]
    .into();
    for _ in 0..5 {
        for user in [0, 1] {
            let ask = Ask {
                user: Some(user),
                tool: Some("shared"),
                over_http: false,
            };
            ask.check(stack.clone().oneshot(ask.request(&tokens)).await);
        }
    }
    assert_eq!(
        mirror.0.load(Ordering::SeqCst),
        2,
        "one call for each of them"
    );
}
