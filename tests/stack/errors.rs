//! Errors on the wire.

use std::time::Duration;

use rmcp::{model::*, service::ServiceError};
use rmcp_layers::{
    Error, Handler, McpClient, McpRequest, McpResponse, McpServer, Refusal, TransportError,
    Upstream, code,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tower::ServiceBuilder;

use crate::{
    bottoms,
    common::{Client, demo::Demo, pipe_to, soon, tool},
    except, failing_calls, served,
};

#[tokio::test]
async fn a_servers_error_arrives_as_it_was() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let clients = [
            Client::legacy("old", stack.clone()).await,
            Client::modern("new", served(stack)).await,
        ];
        for client in clients {
            let failed = client.peer.call_tool_once(tool("reject", json!({}))).await;
            let Err(ServiceError::McpError(error)) = failed else {
                panic!("{bottom}: {failed:?}");
            };
            assert_eq!(error.code.0, -32050, "{bottom}");
            assert_eq!(error.message, "not on a Sunday", "{bottom}");
            assert_eq!(
                error.data,
                Some(json!({ "day": "Sunday", "nested": [1, { "two": null }] })),
                "{bottom}"
            );
        }
    }
}

#[tokio::test]
async fn the_crates_own_errors_stay_outside_the_reserved_codes() {
    let own: [(Error, i32, Value); 5] = [
        (
            TransportError::new("gone").with_upstream("files").into(),
            -31502,
            json!({ "kind": "transport", "upstream": "files", "delivered": "unknown" }),
        ),
        (
            TransportError::not_delivered("gone")
                .with_retry_after(Duration::from_micros(1_499_001))
                .into(),
            -31502,
            json!({ "kind": "transport", "delivered": "no", "retryAfterMs": 1_500 }),
        ),
        (
            Error::timeout(Duration::from_secs(2)),
            -31504,
            json!({ "kind": "timeout", "afterMs": 2_000 }),
        ),
        (
            Error::cancelled("enough"),
            -31499,
            json!({ "kind": "cancelled" }),
        ),
        (
            Refusal::new("breaker", "open")
                .with_data(json!({ "tool": "add" }))
                .into(),
            -31503,
            json!({ "kind": "refused", "layer": "breaker", "tool": "add" }),
        ),
    ];
    for (error, code, data) in own {
        assert!(!(-32768..=-32000).contains(&code));
        let stack = failing_calls(Handler::new(Demo::default()), error);
        let client = Client::legacy("old", stack).await;
        let failed = client.peer.call_tool_once(tool("add", json!({}))).await;
        let Err(ServiceError::McpError(error)) = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(error.code.0, code);
        assert_eq!(error.data, Some(data));
    }
}

#[tokio::test]
async fn malformed_input_is_answered_and_does_not_end_the_session() {
    let pipe = pipe_to(McpServer::new(Handler::new(Demo::default())));
    let (read, mut write) = tokio::io::split(pipe);
    let mut lines = BufReader::new(read).lines();
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "raw", "version": "0" },
        },
    });
    let mut send = async |line: &str| {
        write.write_all(line.as_bytes()).await.unwrap();
        write.write_all(b"\n").await.unwrap();
    };
    let mut next = async || -> Value {
        let line = soon("a line", lines.next_line()).await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    send(&initialize.to_string()).await;
    assert_eq!(next().await["result"]["serverInfo"]["name"], "demo");
    send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;

    // No JSON: nobody could be answered, and nothing happens.
    send("this is no JSON").await;
    send(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","#).await;
    // JSON, but no message.
    send(r#"{"jsonrpc":"2.0","id":3,"method":7}"#).await;
    let answer = next().await;
    assert_eq!(answer["error"]["code"], -32600, "{answer}");
    // A message with the wrong params.
    send(r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"nome":"add"}}"#).await;
    let answer = next().await;
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    // And the session goes on.
    send(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"add","arguments":{"a":5}}}"#)
        .await;
    let answer = next().await;
    assert_eq!(answer["id"], 5);
    assert_eq!(answer["result"]["content"][0]["text"], "5");
}

#[tokio::test]
async fn what_the_top_refuses_it_refuses_in_its_own_name() {
    let stack = ServiceBuilder::new()
        .map_request(|mut request: McpRequest| {
            let caller = &request.context.caller;
            request.context.caller = caller.filter_map_notifications(|mut notification| {
                if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) =
                    &mut notification
                {
                    notice.params.notifications.resource_subscriptions = None;
                }
                Some(notification)
            });
            request
        })
        .service(Upstream::in_process(Demo::default()));
    let client = Client::legacy("ann", stack).await;
    let refused = client
        .peer
        .subscribe(SubscribeRequestParams::new("demo://a"))
        .await;
    let Err(ServiceError::McpError(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.code, code::FORBIDDEN);
    assert_eq!(error.data.unwrap()["layer"], "server");

    let misfit = except(Handler::new(Demo::default()), |request| {
        let lists = request.method() == "tools/list";
        lists.then(|| Ok(McpResponse::new(EmptyResult {})))
    });
    let error = McpClient::new(misfit).list_all_tools().await.unwrap_err();
    assert!(error.is_transport(), "{error}");
}
