//! Trace contexts of OpenTelemetry in `_meta`.

use std::sync::{Arc, OnceLock};

use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use rmcp::{
    ErrorData, RoleClient,
    model::{
        ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
        CustomNotification, GetMeta, Implementation, SamplingMessage,
    },
    service::{ClientLifecycleMode, RequestContext, serve_client_with_lifecycle},
};
use rmcp_layers::{
    CallContext, McpRequest, McpServer, ServiceBuilderExt, Upstream,
    metrics::{MetricsLayer, Side},
};
use serde_json::Value;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tracing::Instrument;
use tracing_subscriber::{Layer as _, layer::SubscriberExt};

use crate::{
    call,
    common::{Http, demo::Demo, pipe_to, piped, piped_legacy, recorder, said, soon, token, tool},
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Exported spans of this thread.
struct Exported {
    exporter: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Exported {
    fn keep() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        Self {
            exporter,
            _provider: provider,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// The exported spans of calls.
    fn calls(&self) -> Vec<SpanData> {
        let spans = self.exporter.get_finished_spans().unwrap();
        let is_call = |span: &SpanData| span.name.starts_with("tools/call");
        spans.into_iter().filter(is_call).collect()
    }
}

/// The `_meta` that a call brings to the server.
async fn echoed(stack: impl crate::common::Stack, call: McpRequest) -> Value {
    let said = said(
        soon("a call", stack.oneshot(call))
            .await
            .map_err(Into::into),
    );
    serde_json::from_str::<Value>(&said).unwrap()["meta"].take()
}

fn traced(tool: &str) -> McpRequest {
    McpRequest::call_tool(tool)
        .meta("traceparent", PARENT)
        .meta("tracestate", "a=1")
        .meta("baggage", "user=ann")
        .build()
}

#[tokio::test]
async fn the_context_in_meta_is_the_parent_and_the_next_hop_gets_the_spans_own() {
    let exported = Exported::keep();
    let stack = MetricsLayer::new().layer(piped(Upstream::builder(), &Demo::default()));
    let outer = piped(Upstream::builder(), &McpServer::new(stack));
    let meta = echoed(outer, traced("echo")).await;
    let [span] = &exported.calls()[..] else {
        panic!("{:?}", exported.calls())
    };
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    assert_eq!(span.parent_span_id.to_string(), SPAN);
    assert_eq!(span.span_kind, SpanKind::Server);
    assert_eq!(span.name, "tools/call echo");
    let own = span.span_context.span_id();
    assert_eq!(meta["traceparent"], format!("00-{TRACE}-{own}-01"));
    assert_eq!(meta["tracestate"], "a=1");
    assert_eq!(meta["baggage"], "user=ann");
}

#[tokio::test]
async fn each_call_of_a_session_without_a_context_is_a_trace_of_its_own_exported_at_once() {
    let exported = Exported::keep();
    let stack = MetricsLayer::new().layer(piped(Upstream::builder(), &Demo::default()));
    let outer = piped(Upstream::builder(), &McpServer::new(stack));
    for _ in 0..3 {
        call(&outer, "add").await;
    }
    // The session is still open.
    let calls = exported.calls();
    let mut traces: Vec<_> = calls.iter().map(|it| it.span_context.trace_id()).collect();
    traces.dedup();
    assert_eq!(traces.len(), 3);
    for span in &calls {
        assert_eq!(span.parent_span_id.to_string(), "0000000000000000");
    }
}

#[tokio::test]
async fn a_gateways_two_spans_are_one_trace_through_to_the_upstream() {
    let exported = Exported::keep();
    let client = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .metrics(client)
        .service(piped(Upstream::builder(), &Demo::default()));
    let outer = piped(Upstream::builder(), &McpServer::new(stack));
    let meta = echoed(outer, traced("echo")).await;
    let calls = exported.calls();
    let of = |kind| calls.iter().find(|span| span.span_kind == kind).unwrap();
    let (server, client) = (of(SpanKind::Server), of(SpanKind::Client));
    assert_eq!(server.parent_span_id.to_string(), SPAN);
    assert_eq!(client.parent_span_id, server.span_context.span_id());
    let own = client.span_context.span_id();
    assert_eq!(meta["traceparent"], format!("00-{TRACE}-{own}-01"));
}

#[tokio::test]
async fn a_failed_call_has_the_status_of_an_error() {
    let exported = Exported::keep();
    let stack = MetricsLayer::new().layer(piped(Upstream::builder(), &Demo::default()));
    for (tool, is_error) in [("add", false), ("fail", true), ("reject", true)] {
        let _ = soon(
            "a call",
            stack.clone().oneshot(McpRequest::call_tool(tool).build()),
        )
        .await;
        let last = exported.calls().pop().unwrap();
        assert_eq!(
            matches!(last.status, Status::Error { .. }),
            is_error,
            "{tool}"
        );
    }
}

#[tokio::test]
async fn the_context_of_the_http_request_is_linked_or_is_the_parent_if_there_is_no_other() {
    const HTTP: &str = "00-11111111111111111111111111111111-2222222222222222-01";
    let exported = Exported::keep();
    let stack = MetricsLayer::new().layer(piped(Upstream::builder(), &Demo::default()));
    let http = Http::serve(McpServer::new(stack)).await;
    let endpoint = rmcp_layers::HttpEndpoint::new(http.url.as_str()).header("traceparent", HTTP);
    let client = Upstream::builder().http(endpoint).unwrap();
    call(&client, "add").await;
    let of_http = exported.calls().pop().unwrap();
    assert_eq!(of_http.parent_span_id.to_string(), "2222222222222222");
    soon("a call", client.oneshot(traced("add"))).await.unwrap();
    let of_meta = exported.calls().pop().unwrap();
    assert_eq!(of_meta.parent_span_id.to_string(), SPAN);
    let linked = of_meta.links.links.iter();
    let linked: Vec<_> = linked
        .map(|it| it.span_context.span_id().to_string())
        .collect();
    assert!(
        linked.contains(&"2222222222222222".to_owned()),
        "{linked:?}"
    );
}

#[tokio::test]
async fn a_span_of_the_application_is_the_parent_of_a_clients_span() {
    let exported = Exported::keep();
    let layer = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let stack = layer.layer(piped(Upstream::builder(), &Demo::default()));
    let outer = tracing::info_span!("an agent's step");
    let answered = stack.oneshot(McpRequest::call_tool("add").build());
    soon("a call", answered.instrument(outer.clone()))
        .await
        .unwrap();
    drop(outer);
    let spans = exported.exporter.get_finished_spans().unwrap();
    let step = spans
        .iter()
        .find(|span| span.name == "an agent's step")
        .unwrap();
    let call = exported.calls().pop().unwrap();
    assert_eq!(call.parent_span_id, step.span_context.span_id());
}

#[tokio::test]
async fn a_span_that_a_filter_keeps_from_opentelemetry_hides_no_context() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let filter = tracing_subscriber::EnvFilter::new("off,rmcp_layers::metrics=info");
    let exported = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("test"))
        .with_filter(filter);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    let subscriber = tracing_subscriber::registry().with(log).with(exported);
    let _guard = tracing::subscriber::set_default(subscriber);
    let layer = MetricsLayer::builder().side(Side::Client).build().unwrap();
    let stack = layer.layer(piped(Upstream::builder(), &Demo::default()));
    let outer = tracing::info_span!("a step that only the log has");
    soon("a call", stack.oneshot(traced("add")).instrument(outer))
        .await
        .unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    let call = spans.iter().find(|span| span.name == "tools/call add");
    assert_eq!(call.unwrap().parent_span_id.to_string(), SPAN);
}

/// A client that notes the context of what a server asks it.
struct Asked(Arc<OnceLock<Option<String>>>);

impl rmcp::ClientHandler for Asked {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().build();
        ClientConfig::new(capabilities, Implementation::new("asked", "0"))
    }

    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let _ = self
            .0
            .set(context.meta.get_traceparent().map(str::to_owned));
        let text = SamplingMessage::assistant_text("asked");
        Ok(CreateMessageResult::new(text, "none".to_owned()))
    }
}

#[tokio::test]
async fn messages_to_the_caller_carry_the_context_of_its_call() {
    let exported = Exported::keep();
    let layer = MetricsLayer::new();
    let server = || McpServer::new(layer.layer(piped_legacy(&Demo::default())));
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("progress")
        .argument("count", 1)
        .meta("baggage", "user=ann")
        .progress_token(token("mine"))
        .caller(caller)
        .build();
    let outer = piped(Upstream::builder(), &server());
    soon("a call", outer.oneshot(call)).await.unwrap();
    let own = exported.calls().pop().unwrap().span_context;
    let expected = format!("00-{}-{}-01", own.trace_id(), own.span_id());
    let progress = received.recv().await.unwrap();
    let meta = progress.get_meta();
    assert_eq!(meta.get("traceparent"), Some(&expected.into()));
    assert_eq!(meta.get("baggage"), None);

    let context = Arc::default();
    let client = serve_client_with_lifecycle(
        Asked(Arc::clone(&context)),
        pipe_to(server()),
        ClientLifecycleMode::Initialize,
    );
    let client = soon("connecting", client).await.unwrap();
    let sampled = client.call_tool_once(tool("sample", serde_json::json!({})));
    soon("a call", sampled).await.unwrap();
    let own = exported.calls().pop().unwrap().span_context;
    let expected = format!("00-{}-{}-01", own.trace_id(), own.span_id());
    assert_eq!(context.get(), Some(&Some(expected)));
}

#[tokio::test]
async fn notifications_of_a_client_carry_the_context_on() {
    let exported = Exported::keep();
    let seen = Arc::new(OnceLock::new());
    let noted = seen.clone();
    let stack = ServiceBuilder::new()
        .metrics(MetricsLayer::new())
        .service(tower::service_fn(move |request: McpRequest| {
            let meta = request.as_notification().unwrap().get_meta().clone();
            let _ = noted.set(meta.get_traceparent().map(str::to_owned));
            let empty = rmcp::model::ServerResult::empty(());
            std::future::ready(Ok::<_, rmcp_layers::Error>(empty.into()))
        }));
    let mut notification = CustomNotification::new("notifications/mine", None);
    notification.get_meta_mut().set_traceparent(PARENT);
    let request = McpRequest::notification(notification, CallContext::default());
    stack.oneshot(request).await.unwrap();
    let span = exported
        .exporter
        .get_finished_spans()
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(span.parent_span_id.to_string(), SPAN);
    let own = span.span_context.span_id();
    let sent = seen.get().unwrap().as_deref();
    assert_eq!(sent, Some(&*format!("00-{TRACE}-{own}-01")));
}

#[tokio::test]
async fn without_a_subscriber_of_opentelemetry_the_callers_context_passes_unchanged() {
    let stack = MetricsLayer::new().layer(piped(Upstream::builder(), &Demo::default()));
    let meta = echoed(stack, traced("echo")).await;
    assert_eq!(meta["traceparent"], PARENT);
    assert_eq!(meta["tracestate"], "a=1");
    assert_eq!(meta["baggage"], "user=ann");
}

#[tokio::test]
async fn a_context_that_is_malformed_passes_as_it_came_or_is_replaced_whole() {
    let malformed = || {
        McpRequest::call_tool("echo")
            .meta("traceparent", "not a context")
            .meta("tracestate", "a=1")
            .build()
    };
    let stack = MetricsLayer::new().layer(piped(Upstream::builder(), &Demo::default()));
    let meta = echoed(stack.clone(), malformed()).await;
    assert_eq!(meta["traceparent"], "not a context");
    let exported = Exported::keep();
    let meta = echoed(stack, malformed()).await;
    let own = exported.calls().pop().unwrap();
    let (trace, span) = (own.span_context.trace_id(), own.span_context.span_id());
    assert_eq!(meta["traceparent"], format!("00-{trace}-{span}-01"));
    assert_eq!(meta.get("tracestate"), None, "of another trace");
}
