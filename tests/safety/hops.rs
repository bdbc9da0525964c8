//! Notifications that speak of one connection stay on it, whether they can be read or not.

use std::convert::Infallible;

use axum::{body::Body, extract::State, http::Response, routing::post};
use rmcp_layers::{Handler, HttpEndpoint, Lifecycle, Upstream, gateway::Gateway};
use serde_json::{Value, json};
use tower::util::BoxCloneService;

use super::raw::{Noting, Raw};
use crate::common::{demo::Demo, soon};

/// Notifications of a client that are no other connection's business.
fn of_a_client() -> Vec<Value> {
    let mut all = Vec::new();
    for params in [
        json!({ "requestId": 1, "reason": 5 }),
        json!({ "requestId": 0, "reason": ["no"] }),
        json!({ "requestId": 2, "reason": "typed" }),
        json!({ "requestId": 1.5 }),
        json!({ "requestId": { "id": 1 } }),
        json!({}),
    ] {
        all.push(
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }),
        );
    }
    for params in [
        json!({ "progressToken": 1, "progress": "3" }),
        json!({ "progressToken": 1, "progress": 3 }),
        json!({ "progressToken": true, "progress": 3 }),
        json!({ "progress": 3 }),
    ] {
        all.push(json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }));
    }
    all.push(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled" }));
    all.push(json!({ "jsonrpc": "2.0", "method": "notifications/progress" }));
    let params = json!({ "subscriptionId": 1 });
    let method = "notifications/subscriptions/acknowledged";
    all.push(json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    all
}

#[tokio::test]
async fn a_clients_word_on_its_own_connection_reaches_no_server() {
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let server = Noting::default();
        let upstream = || server.behind(Upstream::builder().lifecycle(lifecycle));
        let gateway = |members: &[&str]| {
            let members = members.iter();
            let gateway = members.fold(Gateway::builder(), |gateway, name| {
                gateway.member(*name, upstream())
            });
            BoxCloneService::new(gateway.build().unwrap())
        };
        for stack in [
            BoxCloneService::new(upstream()),
            gateway(&["one"]),
            gateway(&["one", "two"]),
        ] {
            let mut client = Raw::legacy(stack).await;
            client.ask("tools/call", json!({ "name": "a" })).await;
            server.heard.lock().unwrap().clear();
            for notification in of_a_client() {
                client.send(notification).await;
            }
            client.tell("notifications/acme/hello", json!({})).await;
            server.until("notifications/acme/hello").await;
            let heard = server.methods();
            let of_a_hop = heard.iter().find(|method| {
                ["cancelled", "progress", "acknowledged"]
                    .iter()
                    .any(|name| method.contains(name))
            });
            assert_eq!(of_a_hop, None, "{lifecycle:?}");
        }
    }
}

#[tokio::test]
async fn a_clients_word_that_cannot_be_read_reaches_no_handler() {
    let demo = Demo::default();
    let mut client = Raw::legacy(Handler::new(demo.clone())).await;
    for notification in of_a_client() {
        client.send(notification).await;
    }
    client.tell("notifications/acme/hello", json!({})).await;
    demo.until("hello", |seen| {
        seen.notices
            .iter()
            .any(|notice| notice.contains("acme/hello"))
    })
    .await;
    let notices = demo.seen().notices.clone();
    let odd = notices.iter().find(|notice| {
        notice.contains("cancelled")
            || notice.contains("progress")
            || notice.contains("acknowledged")
    });
    assert_eq!(odd, None);
}

/// Notifications of a server that no caller can make sense of.
fn of_a_server() -> Vec<Value> {
    let mut all = Vec::new();
    let mut say = |method: &str, params: Value| {
        let method = format!("notifications/{method}");
        all.push(json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    };
    say(
        "progress",
        json!({ "progressToken": "TOKEN", "progress": "3" }),
    );
    say(
        "progress",
        json!({ "progressToken": "TOKEN", "progress": 1, "total": "2" }),
    );
    say("progress", json!({ "progressToken": "TOKEN" }));
    say("progress", json!({ "progressToken": true, "progress": 3 }));
    say("cancelled", json!({ "requestId": 1, "reason": 5 }));
    say(
        "cancelled",
        json!({ "requestId": "tools/call", "reason": [] }),
    );
    say("initialized", json!({ "odd": 1 }));
    say("subscriptions/acknowledged", json!({ "notifications": 5 }));
    say("subscriptions/acknowledged", json!({ "notifications": {} }));
    say("resources/updated", json!({ "uri": 5 }));
    say("tasks", json!({ "taskId": 5 }));
    all
}

/// What a caller hears of a server that says all that, beside the answer.
fn heard(all: &[Value]) -> Vec<&str> {
    let methods = all.iter().filter_map(|message| message["method"].as_str());
    methods.collect()
}

#[tokio::test]
async fn a_servers_word_that_cannot_be_translated_reaches_no_caller() {
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let server = Noting::saying(of_a_server());
        let upstream = server.behind(Upstream::builder().lifecycle(lifecycle));
        for stack in [
            BoxCloneService::new(upstream.clone()),
            BoxCloneService::new(Gateway::builder().member("one", upstream).build().unwrap()),
        ] {
            let mut client = Raw::legacy(stack).await;
            for meta in [json!({}), json!({ "progressToken": "mine" })] {
                let params = json!({ "name": "a", "_meta": meta });
                let all = client.ask_and_hear("tools/call", params).await;
                assert_eq!(heard(&all), Vec::<&str>::new(), "{lifecycle:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_can_be_read_beside_it_still_reaches_the_caller() {
    let mut says = of_a_server();
    says.push(json!({
        "jsonrpc": "2.0", "method": "notifications/progress",
        "params": { "progressToken": "TOKEN", "progress": 4 },
    }));
    let server = Noting::saying(says);
    let mut client = Raw::legacy(server.behind(Upstream::builder())).await;
    let params = json!({ "name": "a", "_meta": { "progressToken": "mine" } });
    let all = client.ask_and_hear("tools/call", params).await;
    assert_eq!(heard(&all), ["notifications/progress"]);
    assert_eq!(all[0]["params"]["progressToken"], "mine");
}

/// The noting server over HTTP, as of 2026-07-28: a call is answered with a stream.
async fn over_http(server: Noting) -> String {
    async fn answer(State(server): State<Noting>, body: String) -> Response<Body> {
        let message: Value = serde_json::from_str(&body).unwrap();
        let answers = server.answers(&message);
        let response = Response::builder();
        if message["method"] != "tools/call" {
            let answer = answers.first().map(Value::to_string).unwrap_or_default();
            let json = response.header("content-type", "application/json");
            return json.body(Body::from(answer)).unwrap();
        }
        let events = answers
            .into_iter()
            .map(|answer| Ok::<_, Infallible>(format!("event: message\ndata: {answer}\n\n")));
        let stream = Body::from_stream(futures::stream::iter(events));
        let events = response.header("content-type", "text/event-stream");
        events.body(stream).unwrap()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new()
        .route("/mcp", post(answer))
        .with_state(server);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/mcp")
}

#[tokio::test]
async fn a_servers_word_in_the_stream_of_a_call_is_held_back_too() {
    let mut says = of_a_server();
    let params = json!({ "requestId": "tools/call", "reason": "typed" });
    says.push(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }));
    let url = over_http(Noting::saying(says)).await;
    let builder = Upstream::builder().lifecycle(Lifecycle::Discover);
    let upstream = builder.http(HttpEndpoint::new(url)).unwrap();
    soon("connecting", upstream.connect()).await.unwrap();
    let mut client = Raw::legacy(upstream).await;
    for meta in [json!({}), json!({ "progressToken": "mine" })] {
        let params = json!({ "name": "a", "_meta": meta });
        let all = client.ask_and_hear("tools/call", params).await;
        assert!(all.last().unwrap().get("result").is_some(), "{all:?}");
        assert_eq!(heard(&all), Vec::<&str>::new());
    }
}
