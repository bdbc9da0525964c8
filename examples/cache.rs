//! Answers from memory, for each caller apart, and forgets what has changed.
//!
//! Output of `cargo run --example cache`:
//!
//! ```text
//! ann: report 1 (miss)
//! ann: report 1 (hit)
//! ben: report 2 (miss)
//! the report has changed
//! ann: report 3 (miss)
//! kept: 1, hits: 1, misses: 3
//! ```

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rmcp::{tool, tool_router};
use rmcp_layers::{
    CacheStatus, Error, McpClient, McpRequest, Principal, ServiceBuilderExt, Stack, Upstream,
    cache::CacheLayer,
};
use tower::ServiceBuilder;

#[derive(Default)]
struct Reports {
    made: AtomicU32,
}

#[tool_router(server_handler)]
impl Reports {
    #[tool(description = "Makes a report, which takes long")]
    fn report(&self) -> String {
        format!("report {}", self.made.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Answers of tools are kept only for tools that are named here, or that a trusted server calls
    // read-only. Those of lists and resources are kept for as long as the server says.
    let cache = CacheLayer::builder()
        .cache_tool_for("report", Duration::from_secs(60))
        .max_entries(10_000)
        .build()?;
    let handle = cache.handle();
    let stack = ServiceBuilder::new()
        .cache(cache)
        .service(Upstream::in_process(Reports::default()));
    let client = McpClient::new(stack);

    ask(&client, "ann").await?;
    ask(&client, "ann").await?;
    ask(&client, "ben").await?;
    // A change notification of the server would do the same.
    println!("the report has changed");
    handle.invalidate_tool("report");
    ask(&client, "ann").await?;
    let stats = handle.stats();
    println!(
        "kept: {}, hits: {}, misses: {}",
        stats.entries, stats.hits, stats.misses
    );
    Ok(())
}

/// Calls the tool for a user. Behind an `AuthLayer`, requests have their principal already.
async fn ask(client: &McpClient<impl Stack>, user: &str) -> Result<(), Error> {
    let call = McpRequest::call_tool("report")
        .principal(Principal::new(user))
        .build();
    let response = client.send(call).await?;
    let status = match response.report.cache_status {
        Some(CacheStatus::Hit { .. }) => "hit",
        Some(CacheStatus::Miss) => "miss",
        _ => "other",
    };
    let text = response
        .as_tool_result()
        .and_then(|result| result.content.first()?.as_text());
    println!("{user}: {} ({status})", text.map_or("", |text| &text.text));
    Ok(())
}
