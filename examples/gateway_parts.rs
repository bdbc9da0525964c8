//! A gateway built from the parts: two servers behind one, each with its own retries and breaker.
//!
//! `examples/gateway/` is the same with a configuration file, HTTP, authentication and more.
//!
//! Output of `cargo run --example gateway_parts`:
//!
//! ```text
//! tools: clock__now, notes__add, notes__read
//! clock__now: noon
//! notes__add: kept
//! notes__read: kept: 1
//! clock removed, tools: notes__add, notes__read
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

use rmcp::{RoleClient, ServiceExt, model::*, service::RunningService, tool, tool_router};
use rmcp_layers::{
    Lines, McpServer, ServiceBuilderExt, Stack, Upstream,
    cache::CacheLayer,
    gateway::Gateway,
    retry::{RetryLayer, breaker::CircuitBreakerLayer},
};
use tower::ServiceBuilder;

struct Clock;

#[tool_router(server_handler)]
impl Clock {
    #[tool(description = "Tells the time", annotations(read_only_hint = true))]
    fn now(&self) -> String {
        "noon".to_owned()
    }
}

#[derive(Default)]
struct Notes(AtomicU32);

#[tool_router(server_handler)]
impl Notes {
    #[tool(description = "Keeps a note")]
    fn add(&self) -> String {
        self.0.fetch_add(1, Ordering::Relaxed);
        "kept".to_owned()
    }

    #[tool(description = "Counts the notes", annotations(read_only_hint = true))]
    fn read(&self) -> String {
        format!("kept: {}", self.0.load(Ordering::Relaxed))
    }
}

/// The layers of one server. A server that is down stops no calls of the other.
fn member(upstream: Upstream) -> impl Stack {
    ServiceBuilder::new()
        .retry_calls(RetryLayer::new())
        .circuit_breaker(CircuitBreakerLayer::new())
        .service(upstream)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::builder()
        .member("clock", member(Upstream::in_process(Clock)))
        .member("notes", member(Upstream::in_process(Notes::default())))
        .build()?;
    let members = gateway.handle();
    let stack = ServiceBuilder::new()
        .except_listens(ServiceBuilder::new().load_shed().concurrency_limit(256))
        .cache(CacheLayer::new())
        .service(gateway);
    let server = McpServer::new(stack);

    // Over a pipe here. `stdio()` or rmcp's `StreamableHttpService` serve other processes.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(server.serve(Lines::from(tokio::io::split(far))));
    let client = ().serve(near).await?;
    let _server = serving.await??;

    println!("tools: {}", tools(&client).await?);
    for name in ["clock__now", "notes__add", "notes__read"] {
        let result = client.call_tool(CallToolRequestParams::new(name)).await?;
        let text = result.content.first().and_then(|block| block.as_text());
        println!("{name}: {}", text.map_or("", |text| &text.text));
    }
    members.remove("clock");
    println!("clock removed, tools: {}", tools(&client).await?);
    Ok(())
}

async fn tools(client: &RunningService<RoleClient, ()>) -> Result<String, rmcp::ServiceError> {
    let tools = client.list_all_tools().await?;
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    Ok(names.join(", "))
}
