//! The contents of each request, and the way of notifications and of server requests.

use std::sync::Arc;

use rmcp::model::*;
use rmcp_layers::{McpClient, McpRequest, McpResponse};
use serde_json::json;
use tower::util::BoxCloneService;

use crate::{Answer, Person, report, said, seconds, text};

fn log(data: &str) -> ServerNotification {
    let params = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(data));
    LoggingMessageNotification::new(params).into()
}

#[tokio::test]
async fn every_request_says_who_the_client_is() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        let context = &request.context;
        assert_eq!(
            context.protocol_version(),
            Some(ProtocolVersion::V_2026_07_28)
        );
        assert_eq!(context.client_info().unwrap().name, "person");
        assert!(context.client_capabilities().unwrap().supports_tasks());
        assert!(context.caller.session_id().is_some());
        assert!(context.deadline.is_some());
        let level = context.meta.log_level();
        Answer::Ok(text(format!(
            "{} {level:?}",
            context.meta.get("traceparent").unwrap_or(&json!(null))
        )))
    });
    let client = McpClient::builder(stack)
        .handler(Person::default())
        .total_timeout(seconds(5))
        .build();
    let call = || client.call_tool("any").meta("traceparent", "00-1");
    assert_eq!(said(&call().await.unwrap()), r#""00-1" None"#);
    client.set_level(LoggingLevel::Error).await.unwrap();
    assert_eq!(said(&call().await.unwrap()), r#""00-1" Some(Error)"#);

    let raw = McpRequest::call_tool("any")
        .meta("traceparent", "00-2")
        .build();
    let response = client.send(raw).await.unwrap();
    assert_eq!(
        said(response.as_tool_result().unwrap()),
        r#""00-2" Some(Error)"#
    );
}

#[tokio::test]
async fn notifications_reach_the_handler_in_order_and_its_peer_leads_down_the_stack() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        if request.method() == "tools/list" {
            let tool = Tool::new("found", "", JsonObject::new());
            return Answer::Ok(McpResponse::new(ListToolsResult::with_all_items(vec![
                tool,
            ])));
        }
        for n in 0..100 {
            request.context.caller.notify(log(&n.to_string())).await?;
        }
        report(&request.context, 7).await;
        request
            .context
            .caller
            .notify(ToolListChangedNotification::default().into())
            .await?;
        Ok(text("done"))
    });
    let person = Person::default();
    let client = McpClient::builder(stack).handler(person.clone()).build();
    client.call_tool("any").await.unwrap();
    let mut expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    expected.extend(["progress 7".to_owned(), "found".to_owned()]);
    assert_eq!(*person.heard.lock().unwrap(), expected);
}

#[tokio::test]
async fn without_a_handler_a_servers_request_is_method_not_found() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        request.context.caller.notify(log("dropped")).await?;
        request
            .context
            .caller
            .request(ServerRequest::PingRequest(Default::default()))
            .await?;
        let roots = ServerRequest::ListRootsRequest(Default::default());
        request.context.caller.request(roots).await?;
        Answer::Ok(text("unreachable"))
    });
    let error = McpClient::new(stack).call_tool("any").await.unwrap_err();
    assert_eq!(
        error.as_protocol().unwrap().code,
        ErrorCode::METHOD_NOT_FOUND
    );
}

#[tokio::test]
async fn one_client_serves_many_tasks_at_once_over_a_stack_that_is_not_sync() {
    let meet = Arc::new(tokio::sync::Barrier::new(32));
    let stack = BoxCloneService::new(tower::service_fn(move |request: McpRequest| {
        let meet = meet.clone();
        async move {
            meet.wait().await;
            Answer::Ok(text(request.target().unwrap()))
        }
    }));
    let client = Arc::new(McpClient::new(stack));
    let calls = (0..32).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { client.call_tool(format!("t{n}")).await.unwrap() })
    });
    for (n, call) in futures::future::join_all(calls)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(said(&call.unwrap()), format!("t{n}"));
    }
}
