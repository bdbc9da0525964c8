//! A short session against the gateway with rmcp's own client over HTTP, as any MCP client would
//! have it.

use std::time::{Duration, Instant};

use rmcp::{
    ClientHandler, RoleClient, ServiceError, ServiceExt,
    model::*,
    service::{NotificationContext, PeerRequestOptions, RequestContext, RunningService},
    transport::StreamableHttpClientTransport,
};

use crate::Result;

/// A client whose user answers every question with "blue".
#[derive(Clone)]
struct User;

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_elicitation().build();
        let mut config = ClientConfig::new(capabilities, Implementation::new("demo-client", "1"));
        config.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
        config
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        if let ElicitRequestParams::FormElicitationParams { message, .. } = &request {
            println!("   the user is asked: {message}");
        }
        let answer = serde_json::json!({ "answer": "blue" });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(answer))
    }

    async fn on_progress(
        &self,
        progress: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        println!("   progress: {}", progress.message.unwrap_or_default());
    }
}

fn text(result: &CallToolResult) -> String {
    let blocks = result.content.iter().filter_map(|block| block.as_text());
    blocks
        .map(|block| block.text.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs the session and prints its steps.
pub async fn drive(url: String) -> Result<()> {
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client = User.serve(transport).await?;
    let server = client.peer_info().and_then(|info| info.server_info.clone());
    println!(
        "\n1. connected to {}",
        server.map(|info| info.name).unwrap_or_default()
    );

    let tools = client.list_all_tools().await?;
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    println!("2. its tools: {}", names.join(", "));
    if !names.contains(&"add") {
        println!("   (not the demo server, so the session ends here)");
        client.cancel().await?;
        return Ok(());
    }

    call_tools(&client).await?;
    fail(&client).await?;
    cancel(&client).await?;

    let status = call(&client, crate::status::NAME, serde_json::json!({})).await?;
    println!("9. a tool of the gateway's own: {}", text(&status));

    client.cancel().await?;
    println!("10. done");
    Ok(())
}

type Client = RunningService<RoleClient, User>;

fn call(
    client: &Client,
    name: &'static str,
    arguments: serde_json::Value,
) -> impl Future<Output = Result<CallToolResult, ServiceError>> {
    let params = CallToolRequestParams::new(name).with_arguments(object(arguments));
    client.call_tool(params)
}

async fn call_tools(client: &Client) -> Result<()> {
    let call = |name, arguments| call(client, name, arguments);
    let sum = call("add", serde_json::json!({ "a": 2, "b": 40 })).await?;
    println!("3. add 2 and 40: {}", text(&sum));

    println!("4. count to 3, with progress:");
    let counted = call("count", serde_json::json!({ "steps": 3, "delay_ms": 20 })).await?;
    println!("   {}", text(&counted));

    println!("5. a tool that asks the user:");
    let answer = call(
        "ask",
        serde_json::json!({ "question": "your favourite colour?" }),
    )
    .await?;
    println!("   {}", text(&answer));

    Ok(())
}

async fn fail(client: &Client) -> Result<()> {
    let call = |name, arguments| call(client, name, arguments);
    let failed = call("fail", serde_json::json!({})).await?;
    println!(
        "6. a tool that fails: isError {}, {}",
        failed.is_error == Some(true),
        text(&failed)
    );

    match call("reject", serde_json::json!({})).await {
        Err(ServiceError::McpError(error)) => {
            println!(
                "7. a JSON-RPC error, as the server sent it: {} {}",
                error.code.0, error.message
            );
        }
        other => return Err(format!("`reject` was not rejected: {other:?}").into()),
    }

    Ok(())
}

async fn cancel(client: &Client) -> Result<()> {
    let started = Instant::now();
    let params = CallToolRequestParams::new("sleep")
        .with_arguments(object(serde_json::json!({ "ms": 60_000 })));
    let long = client
        .send_cancellable_request(
            CallToolRequest::new(params).into(),
            PeerRequestOptions::no_options(),
        )
        .await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    long.cancel(Some("not needed any more".to_owned())).await?;
    println!(
        "8. a call of a minute, cancelled after {} ms",
        started.elapsed().as_millis()
    );
    Ok(())
}
