//! The timeouts of the layer.

use std::time::Duration;

use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
        Implementation, SamplingMessage,
    },
    service::{ClientLifecycleMode, RequestContext, serve_client_with_lifecycle},
};
use rmcp_layers::{
    ErrorKind, Lifecycle, McpRequest, McpServer, ServiceBuilderExt, Upstream,
    progress::ProgressLayer,
};
use tokio::time::Instant;
use tower::{ServiceBuilder, ServiceExt};

use crate::common::{demo::Demo, pipe_to, piped, recorder, said, token, tool};

fn stack(layer: &ProgressLayer, demo: &Demo) -> impl crate::common::Stack {
    let upstream = piped(Upstream::builder().request_timeout(None), demo);
    ServiceBuilder::new()
        .progress(layer.clone())
        .service(upstream)
}

fn slow(rest: u64) -> rmcp_layers::ToolCallBuilder {
    McpRequest::call_tool("slow")
        .argument("count", 5)
        .argument("apart", 8_000)
        .argument("rest", rest)
}

#[tokio::test(start_paused = true)]
async fn the_idle_timeout_ends_a_silent_call_and_not_one_that_reports() {
    let limit = Duration::from_secs(10);
    let layer = ProgressLayer::builder()
        .idle_timeout(limit)
        .build()
        .unwrap();
    let stack = stack(&layer, &Demo::default());
    let (caller, _received) = recorder();
    for call in [
        slow(1).progress_token(token("mine")).caller(caller),
        // The layer asks for progress by itself.
        slow(1),
    ] {
        let answer = stack.clone().oneshot(call.build()).await;
        assert_eq!(
            said(answer.map_err(Into::<rmcp_layers::Error>::into)),
            "at last"
        );
    }
    let begun = Instant::now();
    let error = stack
        .oneshot(slow(60_000).build())
        .await
        .map_err(Into::into);
    let error: rmcp_layers::Error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(50) && took < Duration::from_secs(51));
    assert_eq!(layer.handle().stats().timeouts, 1);
}

#[tokio::test(start_paused = true)]
async fn progress_that_the_layer_asked_for_itself_stays_in_the_layer() {
    let layer = ProgressLayer::builder()
        .idle_timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let stack = stack(&layer, &Demo::default());
    let (caller, mut received) = recorder();
    let answer = stack.oneshot(slow(1).caller(caller).build()).await;
    assert!(answer.is_ok());
    assert!(received.try_recv().is_err());
    assert_eq!(layer.handle().stats().sent, 0);
    assert_eq!(layer.handle().stats().foreign, 0);
}

#[tokio::test(start_paused = true)]
async fn the_total_timeout_ends_a_call_that_reports_and_cancels_it_at_its_server() {
    let layer = ProgressLayer::builder()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    let demo = Demo::default();
    let stack = stack(&layer, &demo);
    let begun = Instant::now();
    let call = slow(1).progress_token(token("mine")).build();
    let error = stack.clone().oneshot(call).await.map_err(Into::into);
    let error: rmcp_layers::Error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), 20);
    let waiting = McpRequest::call_tool("wait").build();
    assert!(stack.oneshot(waiting).await.is_err());
    demo.until("the cancellation", |seen| seen.cancelled == 1)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_listen_is_never_timed() {
    let limit = Duration::from_secs(1);
    let layer = ProgressLayer::builder()
        .timeout(limit)
        .idle_timeout(limit)
        .build()
        .unwrap();
    let demo = Demo::default();
    let client = rmcp_layers::McpClient::new(stack(&layer, &demo));
    let mut filter = rmcp::model::SubscriptionFilter::default();
    filter.tools_list_changed = Some(true);
    let _listen = client.listen(filter).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(demo.seen().listening.len(), 1);
}

/// A client whose user takes a minute to answer.
struct Thoughtful;

impl ClientHandler for Thoughtful {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().build();
        ClientConfig::new(capabilities, Implementation::new("thoughtful", "0"))
    }

    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let text = SamplingMessage::assistant_text("well thought");
        Ok(CreateMessageResult::new(text, "none".to_owned()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_idle_while_its_server_waits_for_the_caller() {
    let layer = ProgressLayer::builder()
        .idle_timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .request_timeout(None);
    let stack = ServiceBuilder::new()
        .progress(layer.clone())
        .service(piped(upstream, &Demo::default()));
    let pipe = pipe_to(McpServer::new(stack));
    let lifecycle = ClientLifecycleMode::Initialize;
    let client = serve_client_with_lifecycle(Thoughtful, pipe, lifecycle)
        .await
        .unwrap();
    let sampled = client.call_tool_once(tool("sample", serde_json::json!({})));
    let answer = format!("{:?}", sampled.await.unwrap());
    assert!(answer.contains("well thought"), "{answer}");
    assert_eq!(layer.handle().stats().timeouts, 0);
}
