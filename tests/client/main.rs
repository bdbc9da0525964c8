//! What `McpClient` promises, over stub stacks and over real handlers and upstreams.

#![expect(
    deprecated,
    reason = "callers and servers of older revisions are served too"
)]

mod input;
mod messages;
mod pages;
mod real_servers;
mod subscriptions;
mod tasks;
mod timeouts;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ClientHandler, RoleClient,
    model::*,
    service::{NotificationContext, RequestContext},
};
use rmcp_layers::{CallContext, Error, McpResponse};
use serde_json::json;

type Answer = Result<McpResponse, Error>;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn text(text: impl Into<String>) -> McpResponse {
    McpResponse::new(CallToolResult::success(vec![ContentBlock::text(text)]))
}

fn said(result: &CallToolResult) -> &str {
    &result.content[0].as_text().unwrap().text
}

async fn report(context: &CallContext, progress: u32) {
    let token = context.progress_token().unwrap();
    let params = ProgressNotificationParam::new(token, f64::from(progress));
    context
        .caller
        .notify(ProgressNotification::new(params).into())
        .await
        .unwrap();
}

fn ask_name() -> InputRequest {
    let schema = ElicitationSchema::builder()
        .required_string("name")
        .build()
        .unwrap();
    InputRequest::Elicitation(ElicitRequest::new(
        ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: "Who are you?".to_owned(),
            requested_schema: schema,
        },
    ))
}

fn inputs(keys: &[&str]) -> InputRequests {
    keys.iter()
        .map(|key| ((*key).to_owned(), ask_name()))
        .collect()
}

/// Answers everything, and remembers what it heard.
#[derive(Clone, Default)]
struct Person {
    heard: Arc<Mutex<Vec<String>>>,
    slow: Option<Duration>,
    elicited: Arc<AtomicUsize>,
}

impl ClientHandler for Person {
    async fn create_elicitation(
        &self,
        _request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.elicited.fetch_add(1, Ordering::SeqCst);
        if let Some(slow) = self.slow {
            tokio::time::sleep(slow).await;
        }
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({ "name": "Ada" })))
    }

    async fn list_roots(
        &self,
        _context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///srv")]))
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let data = params.data.as_str().unwrap_or_default().to_owned();
        self.heard.lock().unwrap().push(data);
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.heard
            .lock()
            .unwrap()
            .push(format!("progress {}", params.progress));
    }

    async fn on_tool_list_changed(&self, context: NotificationContext<RoleClient>) {
        let tools = context.peer.list_all_tools().await.unwrap();
        self.heard
            .lock()
            .unwrap()
            .extend(tools.iter().map(|tool| tool.name.to_string()));
    }

    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder()
            .enable_elicitation()
            .enable_roots()
            .enable_tasks()
            .build();
        ClientConfig::new(capabilities, Implementation::new("person", "1.2.3"))
    }
}

fn changes() -> SubscriptionFilter {
    SubscriptionFilter::builder().tools_list_changed().build()
}
