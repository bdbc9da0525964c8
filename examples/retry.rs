//! Repeats calls that are safe to repeat, and stops calling a server that is down.
//!
//! Output of `cargo run --example retry`:
//!
//! ```text
//! search: attempt 1 failed, again in 10ms
//! search: attempt 2 failed, again in 20ms
//! search: found
//! pay: -32603 the server is busy
//! pay: the tool has run 1 time
//! the server goes down
//! search: attempt 1 failed, again in 10ms
//! search: attempt 2 failed, again in 20ms
//! search: attempt 3 failed, again in 40ms
//! breaker: search is open
//! search: -32603 the server is busy
//! search: refused by breaker
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU32, Ordering},
    },
    time::Duration,
};

use rmcp::{ErrorData, tool, tool_router};
use rmcp_layers::{
    Error, McpClient, ServiceBuilderExt, Stack, Upstream,
    retry::{
        Jitter, RetryLayer, RetryPolicy,
        breaker::{CircuitBreakerLayer, CircuitBreakerPolicy},
    },
};
use tower::ServiceBuilder;

/// A server that fails as often as it is told.
#[derive(Clone, Default)]
struct Shop {
    failures: Arc<AtomicI32>,
    payments: Arc<AtomicU32>,
}

impl Shop {
    fn serve(&self, answer: &str) -> Result<String, ErrorData> {
        if self.failures.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Err(ErrorData::internal_error("the server is busy", None));
        }
        Ok(answer.to_owned())
    }
}

#[tool_router(server_handler)]
impl Shop {
    #[tool(description = "Searches the shop")]
    fn search(&self) -> Result<String, ErrorData> {
        self.serve("found")
    }

    #[tool(description = "Pays")]
    fn pay(&self) -> Result<String, ErrorData> {
        self.payments.fetch_add(1, Ordering::Relaxed);
        self.serve("paid")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policy = RetryPolicy::new()
        .base_delay(Duration::from_millis(10))
        .jitter(Jitter::None);
    // Only what the operator names, or a trusted server calls safe, is sent twice.
    let retry = RetryLayer::builder()
        .tool("search", policy.clone().safe_to_repeat(true))
        .policy(policy)
        .on_retry(|event| {
            let tool = event.target.unwrap_or_default();
            println!(
                "{tool}: attempt {} failed, again in {:?}",
                event.attempt, event.delay
            );
        })
        .build()?;
    let breaker = CircuitBreakerLayer::builder()
        .policy(CircuitBreakerPolicy::new().consecutive_failures(4))
        .on_state_change(|change| println!("breaker: {} is {}", change.key, change.to.as_str()))
        .build()?;
    let shop = Shop::default();
    let stack = ServiceBuilder::new()
        .retry_calls(retry)
        .circuit_breaker(breaker)
        .service(Upstream::in_process(shop.clone()));
    let client = McpClient::new(stack);

    shop.failures.store(2, Ordering::Relaxed);
    call(&client, "search").await;
    shop.failures.store(1, Ordering::Relaxed);
    call(&client, "pay").await;
    println!(
        "pay: the tool has run {} time",
        shop.payments.load(Ordering::Relaxed)
    );

    println!("the server goes down");
    shop.failures.store(i32::MAX, Ordering::Relaxed);
    call(&client, "search").await;
    call(&client, "search").await;
    Ok(())
}

async fn call(client: &McpClient<impl Stack>, tool: &str) {
    match client.call_tool(tool).await {
        Ok(result) => {
            let text = result.content.first().and_then(|block| block.as_text());
            println!("{tool}: {}", text.map_or("", |text| &text.text));
        }
        Err(Error::Protocol(error)) => println!("{tool}: {} {}", error.code.0, error.message),
        Err(Error::Refused(refusal)) => println!("{tool}: refused by {}", refusal.layer()),
        Err(error) => println!("{tool}: {error}"),
    }
}
