//! What a server says on the response stream of a call over HTTP.

use axum::response::{IntoResponse, Response};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    service::{Peer, RequestContext},
};
use rmcp_layers::Caller;
use tokio::net::TcpListener;

use super::*;
use crate::common::{finished, logs_and_tools};

/// Says who called, in the middle of the call.
#[derive(Clone)]
struct Talks;

async fn say(peer: &Peer<RoleServer>, what: &str) {
    let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(what));
    let _ = peer.notify_logging_message(line).await;
}

impl ServerHandler for Talks {
    fn get_info(&self) -> ServerConfig {
        logs_and_tools()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(token) = context.meta.get_progress_token() {
            for step in 0..10_u32 {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step));
                let _ = context.peer.notify_progress(progress).await;
                say(&context.peer, &format!("{} {step}", request.name)).await;
            }
        }
        finished("done")
    }
}

/// Answers a message as an older server does that says all it has to say of a call on the call's
/// own stream.
async fn answer(body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap();
    let of = |result: Value| json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    let json = |message: Value| {
        ([("content-type", "application/json")], message.to_string()).into_response()
    };
    match message["method"].as_str() {
        Some("initialize") => json(of(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "tools": {}, "logging": {} },
            "serverInfo": { "name": "talks", "version": "1" },
        }))),
        Some("tools/call") => {
            let (name, token) = (&message["params"]["name"], &message["params"]["_meta"]);
            let mut stream = String::new();
            let mut event = |message: Value| {
                stream += &format!("event: message\ndata: {message}\n\n");
            };
            for step in 0..10 {
                let progress = json!({ "progressToken": token["progressToken"], "progress": step });
                event(notification("notifications/progress", progress));
                let line = format!("{} {step}", name.as_str().unwrap());
                let line = json!({ "level": "info", "data": line });
                event(notification("notifications/message", line));
            }
            event(of(
                json!({ "content": [{ "type": "text", "text": "done" }] }),
            ));
            ([("content-type", "text/event-stream")], stream).into_response()
        }
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

#[tokio::test]
async fn a_log_line_on_a_calls_own_stream_reaches_its_caller_among_several_in_order() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/mcp", axum::routing::post(answer));
    let served = tokio::spawn(axum::serve(listener, router).into_future());
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let upstream = builder.http(url.as_str()).unwrap();
    let mut calls = Vec::new();
    for name in ["ann", "bob", "eve"] {
        let (caller, heard): (Caller, _) = recorder();
        let call = McpRequest::call_tool(name)
            .caller(caller)
            .progress_token(token(name));
        calls.push((
            name,
            tokio::spawn(upstream.clone().oneshot(call.build())),
            heard,
        ));
    }
    for (name, call, mut heard) in calls {
        soon("an answer", call).await.unwrap().unwrap();
        for step in 0..10_u32 {
            let progress = heard.try_recv().unwrap();
            let ServerNotification::ProgressNotification(progress) = progress else {
                panic!("not progress: {progress:?}");
            };
            assert_eq!(progress.params.progress, f64::from(step));
            let line = heard.try_recv().unwrap();
            let ServerNotification::LoggingMessageNotification(line) = line else {
                panic!("not a log line: {line:?}");
            };
            assert_eq!(line.params.data, json!(format!("{name} {step}")));
        }
    }
    assert_eq!(upstream.stats().unattributed_notifications, 0);
    served.abort();
}

#[tokio::test]
async fn a_log_line_of_a_handler_behind_a_layer_reaches_its_session_among_several() {
    // A layer that wraps the caller has the handler reached over an in-process connection.
    let wraps = |mut request: McpRequest| {
        request.context.caller = request.context.caller.filter_map_notifications(Some);
        request
    };
    let stack = tower::ServiceBuilder::new()
        .map_request(wraps)
        .service(rmcp_layers::Handler::new(Talks));
    let server = McpServer::new(stack);
    for lifecycle in [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::LATEST],
        },
    ] {
        let mut ann = Client::of(&server, "Ann", lifecycle.clone()).await;
        let mut bob = Client::of(&server, "Bob", lifecycle).await;
        for (client, name) in [(&mut ann, "ann"), (&mut bob, "bob")] {
            client.call(tool(name, json!({}))).await;
            let mut lines = Vec::new();
            while lines.len() < 10 {
                if let Heard::Log(line) = client.hear("a line").await {
                    lines.push(line);
                }
            }
            lines.sort_by_key(ToString::to_string);
            let wanted: Vec<_> = (0..10)
                .map(|step| json!(format!("{name} {step}")))
                .collect();
            assert_eq!(lines, wanted);
        }
    }
}
