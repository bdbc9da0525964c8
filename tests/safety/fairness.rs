//! No caller takes all the room.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rmcp::model::{CallToolResult, ServerResult};
use rmcp_layers::{
    CallerLimitLayer, Error, ExceptListensLayer, McpRequest, McpResponse, McpServer, Principal,
    Upstream,
};
use serde_json::json;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::raw::Raw;
use crate::common::{Stack, demo::Demo, soon};

/// Hangs on every call of `hang`, and answers all else.
fn server(hanging: &Arc<AtomicUsize>) -> impl Stack + use<> {
    let hanging = hanging.clone();
    let bottom = service_fn(move |request: McpRequest| {
        let hanging = hanging.clone();
        async move {
            match request.target() {
                Some("hang") => {
                    hanging.fetch_add(1, Ordering::SeqCst);
                    std::future::pending().await
                }
                Some(_) => Ok::<_, Error>(McpResponse::new(CallToolResult::success(Vec::new()))),
                None => {
                    let demo = Upstream::in_process(Demo::default());
                    demo.oneshot(request).await
                }
            }
        }
    });
    let common = ServiceBuilder::new().load_shed().concurrency_limit(100);
    ServiceBuilder::new()
        .layer(ExceptListensLayer::new(common))
        .layer(ExceptListensLayer::new(CallerLimitLayer::new(20)))
        .service(bottom)
}

#[tokio::test]
async fn a_caller_with_more_calls_than_it_may_have_is_refused_and_no_other_is() {
    let hanging = Arc::default();
    let server = McpServer::new(server(&hanging));
    let mut greedy = Raw::of(server.clone()).await;
    for id in 0..1_100 {
        let params = json!({ "name": "hang" });
        greedy
            .send(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }))
            .await;
    }
    for _ in 20..1_100 {
        let refused = greedy.hear().await;
        assert_eq!(refused["error"]["code"], -31503, "{refused}");
        assert_eq!(
            refused["error"]["data"]["layer"], "caller_limit",
            "{refused}"
        );
    }
    assert_eq!(hanging.load(Ordering::SeqCst), 20);
    let mut other = Raw::of(server).await;
    let answer = other.ask("tools/call", json!({ "name": "other" })).await;
    assert!(answer.get("result").is_some(), "{answer}");

    // A call that ends makes room for another.
    greedy
        .tell("notifications/cancelled", json!({ "requestId": 0 }))
        .await;
    let answered = async {
        loop {
            let params = json!({ "name": "other" });
            let again = greedy.ask("tools/call", params).await;
            if again.get("result").is_some() {
                return;
            }
            assert_eq!(again["error"]["code"], -31503, "{again}");
        }
    };
    soon("room", answered).await;
}

#[tokio::test]
async fn the_handle_of_a_caller_limit_counts_callers_their_calls_and_refusals() {
    let hanging = Arc::default();
    let limit = CallerLimitLayer::new(2);
    let handle = limit.handle();
    let stack = ExceptListensLayer::new(limit).layer(server(&hanging));
    let mut caller = Raw::of(McpServer::new(stack)).await;
    for id in 0..5 {
        let params = json!({ "name": "hang" });
        caller
            .send(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }))
            .await;
    }
    for _ in 2..5 {
        let refused = caller.hear().await;
        assert_eq!(refused["error"]["code"], -31503, "{refused}");
    }
    let stats = handle.stats();
    assert_eq!((stats.callers, stats.in_flight, stats.refused), (1, 2, 3));
    drop(caller);
    let ended = async {
        while handle.stats().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the calls", ended).await;
    assert_eq!(handle.stats().callers, 0);
}

#[tokio::test]
async fn what_is_above_the_common_limit_is_refused_and_does_not_wait() {
    let hanging = Arc::default();
    let server = McpServer::new(server(&hanging));
    let mut callers = Vec::new();
    for _ in 0..5 {
        let mut caller = Raw::of(server.clone()).await;
        for id in 0..20 {
            let params = json!({ "name": "hang" });
            let call =
                json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
            caller.send(call).await;
        }
        callers.push(caller);
    }
    let all = async {
        while hanging.load(Ordering::SeqCst) < 100 {
            tokio::task::yield_now().await;
        }
    };
    soon("the calls", all).await;
    let mut last = callers.pop().unwrap();
    let answer = last.ask("tools/call", json!({ "name": "other" })).await;
    assert_eq!(answer["error"]["code"], -31503, "{answer}");
    assert_eq!(answer["error"]["data"]["layer"], "load_shed", "{answer}");
}

#[tokio::test]
async fn a_principal_is_one_caller_whatever_session_it_comes_from() {
    let hanging = Arc::default();
    let mut stack = CallerLimitLayer::new(1).layer(server(&hanging));
    let of = |principal: &str, tool: &str| {
        let call = McpRequest::call_tool(tool).principal(Principal::new(principal));
        call.build()
    };
    let first = tokio::spawn(stack.ready().await.unwrap().call(of("alice", "hang")));
    let second = stack.clone().oneshot(of("alice", "other")).await;
    let refused = second.unwrap_err();
    assert!(
        refused.is_refused() && refused.is_not_delivered(),
        "{refused}"
    );
    let bobs = stack.clone().oneshot(of("bob", "other")).await.unwrap();
    assert!(matches!(*bobs.result, ServerResult::CallToolResult(_)));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    stack.oneshot(of("alice", "other")).await.unwrap();
}
