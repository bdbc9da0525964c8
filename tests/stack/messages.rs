//! Requests and notifications arrive with all that they carry.

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
use rmcp_layers::{CallContext, Handler, McpRequest, Upstream};
use serde_json::{Value, json};
use tower::{ServiceBuilder, ServiceExt};

use crate::{
    Boxed, bottoms,
    common::{Client, demo::Demo, piped, piped_legacy, said, soon, text, token, tool},
    echoed, served,
};

#[tokio::test]
async fn meta_reaches_the_server_and_each_hop_says_its_own() {
    for (bottom, stack) in bottoms(&Demo::default()) {
        let client = Client::modern("asker", stack).await;
        let mut meta = RequestMetaObject::new();
        meta.insert("traceparent".into(), "00-abc-def-01".into());
        meta.insert("tracestate".into(), "vendor=1".into());
        meta.insert("baggage".into(), "user=7".into());
        meta.insert("com.example/unheard-of".into(), json!({ "deep": [1, 2] }));
        let mut call = tool("echo", json!({}));
        call.meta = Some(meta);
        let echoed = echoed(&client.call(call).await);
        let meta = &echoed["meta"];
        assert_eq!(meta["traceparent"], "00-abc-def-01", "{bottom}");
        assert_eq!(meta["tracestate"], "vendor=1", "{bottom}");
        assert_eq!(meta["baggage"], "user=7", "{bottom}");
        assert_eq!(
            meta["com.example/unheard-of"],
            json!({ "deep": [1, 2] }),
            "{bottom}"
        );
        let client = match bottom {
            "handler" | "in-process" => "asker",
            _ => "rmcp-layers",
        };
        assert_eq!(echoed["client"]["name"], client, "{bottom}");
        let version = match bottom {
            "legacy pipe" => "2025-11-25",
            _ => "2026-07-28",
        };
        assert_eq!(echoed["version"], version, "{bottom}");
        if bottom != "legacy pipe" {
            let capabilities = &echoed["capabilities"];
            assert!(capabilities["sampling"].is_object(), "{bottom}: {echoed}");
        }
    }
}

#[tokio::test]
async fn a_server_hears_what_this_caller_can_do_and_not_what_another_can() {
    let upstream = piped(Upstream::builder(), &Demo::default());
    let mut call = McpRequest::call_tool("echo").progress_token(token("mine"));
    for key in ["protocolVersion", "clientInfo", "clientCapabilities"] {
        let key = format!("io.modelcontextprotocol/{key}");
        let theirs = match &*key {
            "io.modelcontextprotocol/protocolVersion" => json!("2026-07-28"),
            "io.modelcontextprotocol/clientInfo" => json!({ "name": "other hop", "version": "9" }),
            _ => json!({ "roots": {} }),
        };
        call = call.meta(key, theirs);
    }
    let echoed: Value =
        serde_json::from_str(&said(upstream.clone().oneshot(call.build()).await)).unwrap();
    assert_ne!(echoed["meta"]["progressToken"], "mine");
    assert_eq!(echoed["client"]["name"], "rmcp-layers");
    assert_eq!(echoed["capabilities"], json!({ "roots": {} }));

    let nothing = upstream
        .oneshot(McpRequest::call_tool("echo").build())
        .await;
    let echoed: Value = serde_json::from_str(&said(nothing)).unwrap();
    assert_eq!(echoed["capabilities"], json!({}));
}

#[tokio::test]
async fn ten_mebibytes_pass() {
    const BYTES: usize = 10 * 1024 * 1024;
    for (bottom, stack) in bottoms(&Demo::default()) {
        let call = McpRequest::call_tool("big").argument("bytes", BYTES);
        let answer = soon("a big answer", served(stack).oneshot(call.build())).await;
        assert_eq!(said(answer).len(), BYTES, "{bottom}");
    }
}

#[tokio::test]
async fn a_clients_notifications_reach_the_bottom() {
    for index in 0..bottoms(&Demo::default()).len() {
        let demo = Demo::default();
        let (bottom, stack) = bottoms(&demo).swap_remove(index);
        let client = Client::legacy("teller", stack).await;
        soon(bottom, client.peer.notify_roots_list_changed())
            .await
            .unwrap();
        let custom =
            CustomNotification::new("notifications/com.example/hello", Some(json!({ "n": 1 })));
        soon(bottom, client.peer.send_notification(custom.into()))
            .await
            .unwrap();
        demo.until(bottom, |seen| {
            let heard = |notice: &str| seen.notices.iter().any(|seen| seen == notice);
            heard("notifications/roots/list_changed")
                && heard(r#"notifications/com.example/hello {"n":1}"#)
        })
        .await;
    }
}

#[tokio::test]
async fn a_notification_taken_apart_and_put_together_is_one_still() {
    let demo = Demo::default();
    let context = CallContext::new(RequestId::Number(1));
    let told = McpRequest::notification(RootsListChangedNotification::default(), context);
    let (message, context) = told.into_parts();
    let again = McpRequest::from_parts(message, context.clone());
    assert!(again.as_notification().is_some());
    piped_legacy(&demo).oneshot(again).await.unwrap();
    demo.until("the notification", |seen| {
        seen.notices
            .iter()
            .any(|notice| notice == "notifications/roots/list_changed")
    })
    .await;
    // Another message with its context is what it is.
    let other = McpRequest::from_parts(ClientRequest::from(ListToolsRequest::default()), context);
    assert!(other.as_notification().is_none());
}

/// Says who calls it.
struct Who;

impl ServerHandler for Who {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = context.client_info().unwrap().name;
        let samples = context.client_capabilities().unwrap().sampling.is_some();
        let text = format!("{name} samples: {samples}");
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

#[tokio::test]
async fn a_handler_sees_who_calls_also_where_a_layer_wraps_the_caller() {
    let wrapped = ServiceBuilder::new()
        .map_request(|mut request: McpRequest| {
            request.context.caller = request.context.caller.filter_map_notifications(Some);
            request
        })
        .service(Handler::new(Who));
    for stack in [Boxed::new(Handler::new(Who)), Boxed::new(wrapped)] {
        let client = Client::modern("ann", stack).await;
        let said = client.call(tool("who", json!({}))).await;
        assert_eq!(text(&said), "ann samples: true");
    }
}
