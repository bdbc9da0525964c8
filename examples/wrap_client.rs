//! Puts layers around an rmcp client that the program already has.
//!
//! Calls made through the stack are retried and cached. Other parts of the program go on using the
//! rmcp client as before.
//!
//! Output of `cargo run --example wrap_client`:
//!
//! ```text
//! Oslo: 20 degrees (lookup 1)
//! Oslo: 20 degrees (lookup 1)
//! Rome: 20 degrees (lookup 2)
//! cache: 1 hit, 2 misses
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

use rmcp::{ServiceExt, handler::server::wrapper::Parameters, schemars, tool, tool_router};
use rmcp_layers::{McpClient, ServiceBuilderExt, Upstream, cache::CacheLayer, retry::RetryLayer};
use serde::Deserialize;
use tower::ServiceBuilder;

#[derive(Default)]
struct Weather {
    lookups: AtomicU32,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Place {
    city: String,
}

#[tool_router(server_handler)]
impl Weather {
    #[tool(description = "Returns the temperature in a city")]
    fn temperature(&self, Parameters(Place { city }): Parameters<Place>) -> String {
        let lookup = self.lookups.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{city}: 20 degrees (lookup {lookup})")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The client as the program had it: any rmcp transport, here a pipe to a server in this
    // process.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(Weather::default().serve(far));
    let client = ().serve(near).await?;
    let _server = server.await??;

    let cache = CacheLayer::builder().cache_tool("temperature").build()?;
    let cached = cache.handle();
    let stack = ServiceBuilder::new()
        .cache(cache)
        .retry_calls(RetryLayer::new())
        .service(Upstream::builder().name("weather").running(client));
    let weather = McpClient::new(stack);

    for city in ["Oslo", "Oslo", "Rome"] {
        let result = weather
            .call_tool("temperature")
            .argument("city", city)
            .await?;
        let text = result.content.first().and_then(|block| block.as_text());
        println!("{}", text.map_or("", |text| &text.text));
    }
    let stats = cached.stats();
    println!("cache: {} hit, {} misses", stats.hits, stats.misses);
    Ok(())
}
