//! Cancelled calls and withdrawn questions concern no other caller.

use rmcp::{
    ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler, ServiceError,
    model::*,
    service::{
        ClientLifecycleMode, PeerRequestOptions, RequestContext, RequestHandle,
        serve_client_with_lifecycle,
    },
};
use rmcp_layers::McpServer;
use serde_json::json;

use crate::common::{
    Client, Events, finished, logs_and_tools, pipe_to, piped_legacy, question, soon, tool,
};

/// Begins a call that can be cancelled.
async fn begin(client: &Client, name: &'static str) -> RequestHandle<RoleClient> {
    let call = CallToolRequest::new(tool(name, json!({}))).into();
    let options = PeerRequestOptions::no_options();
    let sent = client.peer.send_cancellable_request(call, options);
    soon("sending a call", sent).await.unwrap()
}

/// Hears of a cancellation and works on, which the protocol allows.
#[derive(Clone, Default)]
struct Heedless(Events);

impl ServerHandler for Heedless {
    fn get_info(&self) -> ServerConfig {
        logs_and_tools()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Self(events) = self;
        events.note(&*request.name);
        match &*request.name {
            "asks" | "logs" => {
                context.ct.cancelled().await;
                events.note("cancelled");
                events.until("go on").await;
            }
            "lasts" => events.until("end").await,
            _ => {}
        }
        if request.name == "asks" {
            let answer = context.peer.create_message(question()).await;
            let refused = matches!(answer, Err(ServiceError::McpError(_)));
            events.note(if refused { "refused" } else { "answered" });
        }
        if request.name == "logs" {
            let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!("a secret"));
            let _ = context.peer.notify_logging_message(line).await;
            events.note("logged");
        }
        finished("done")
    }
}

/// Ann cancels a call of `name`, and the server goes on with it while Bob's is the only one in flight,
/// until it has come to `end`. Bob is to hear nothing.
async fn crossing(name: &'static str, end: &str) {
    let server = Heedless::default();
    let events = server.0.clone();
    let upstream = piped_legacy(&server);
    let ann = Client::legacy("ann", upstream.clone()).await;
    let mut bob = Client::legacy("bob", upstream).await;

    let call = begin(&ann, name).await;
    events.until(name).await;
    soon("cancelling", call.cancel(None)).await.unwrap();
    events.until("cancelled").await;
    let lasting = begin(&bob, "lasts").await;
    events.until("lasts").await;
    events.note("go on");
    events.until(end).await;
    events.note("end");
    soon("bob's answer", lasting.await_response())
        .await
        .unwrap();
    bob.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_asked_what_a_cancelled_call_asks() {
    crossing("asks", "refused").await;
}

#[tokio::test(start_paused = true)]
async fn nobody_else_hears_the_log_of_a_cancelled_call() {
    crossing("logs", "logged").await;
}

/// Asks its caller, withdraws the question, and waits for the caller's user to be rid of it.
#[derive(Clone, Default)]
struct Withdraws(Events);

impl ServerHandler for Withdraws {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let request = CreateMessageRequest::new(question()).into();
        let options = PeerRequestOptions::no_options();
        let asked = context.peer.send_cancellable_request(request, options);
        let asked = asked.await.unwrap();
        self.0.until("asked").await;
        asked.cancel(Some("never mind".into())).await.unwrap();
        self.0.until("withdrawn").await;
        finished("done")
    }
}

/// A user who does not answer, until there is no question any more.
struct Ponders(Events);

impl ClientHandler for Ponders {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_sampling().build();
        ClientConfig::new(capabilities, Implementation::new("ponders", "0"))
    }

    async fn create_message(
        &self,
        _params: CreateMessageRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.0.note("asked");
        context.ct.cancelled().await;
        self.0.note("withdrawn");
        Err(ErrorData::internal_error("withdrawn", None))
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_question_is_withdrawn_from_the_user() {
    let events = Events::default();
    let stack = McpServer::new(piped_legacy(&Withdraws(events.clone())));
    let user = Ponders(events.clone());
    let mode = ClientLifecycleMode::Initialize;
    let connecting = serve_client_with_lifecycle(user, pipe_to(stack), mode);
    let client = soon("connecting", connecting).await.unwrap();
    let call = client.call_tool_once(tool("any", json!({})));
    soon("an answer", call).await.unwrap();
    assert_eq!(events.count("withdrawn"), 1);
}
