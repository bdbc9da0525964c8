//! The log of calls.

use std::sync::{Arc, Mutex};

use rmcp_layers::metrics::MetricsLayer;
use serde_json::Value;

use crate::{call, served};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_call_is_a_line_of_json_and_the_documented_filter_shows_no_argument() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter("info,rmcp=warn,rmcp_layers=info")
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let layer = MetricsLayer::builder().log_calls(true).build().unwrap();
    let (stack, _) = served(&layer);
    let request = rmcp_layers::McpRequest::call_tool("echo")
        .argument("word", "sesame")
        .build();
    tower::ServiceExt::oneshot(stack.clone(), request)
        .await
        .unwrap();
    call(&stack, "reject").await;
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("sesame"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["method"] == "tools/call")
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["name"], "echo");
    assert_eq!(lines[0]["outcome"], "complete");
    assert_eq!(lines[0]["target"], "rmcp_layers::metrics");
    assert_eq!(lines[1]["code"], -32050);
    assert_ne!(lines[0]["request_id"], lines[1]["request_id"]);
}

#[tokio::test]
async fn an_id_that_a_caller_chose_makes_no_line_of_its_own() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("rmcp_layers::metrics=info")
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let layer = MetricsLayer::builder().log_calls(true).build().unwrap();
    let demo = crate::common::piped(
        rmcp_layers::Upstream::builder(),
        &crate::common::demo::Demo::default(),
    );
    let mut request = rmcp_layers::McpRequest::call_tool("add\nforged").build();
    request.context.id = rmcp::model::RequestId::String("one\nforged".into());
    let stack = tower::Layer::layer(&layer, demo);
    let _ = tower::ServiceExt::oneshot(stack, request).await;
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}
