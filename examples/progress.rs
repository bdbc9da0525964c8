//! A tool that reports its steps, a layer that bounds how often, and a client that draws a progress
//! bar in the terminal.
//!
//! Output of `cargo run --example progress`, beside the bar on standard error:
//!
//! ```text
//! Step 1 of 3: Fetching dataset
//! Step 2 of 3: Training
//! Step 3 of 3: Saving
//! trained
//! 3 steps
//! ```

use std::time::Duration;

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use rmcp::{
    ErrorData, RoleServer,
    model::{CallToolResult, ContentBlock},
    service::RequestContext,
    tool, tool_router,
};
use rmcp_layers::{
    McpClient, ServiceBuilderExt, Upstream,
    progress::{ProgressLayer, ProgressReporter},
};
use tower::ServiceBuilder;

struct Trainer;

#[tool_router(server_handler)]
impl Trainer {
    #[tool(description = "Trains a model")]
    async fn train(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let progress = ProgressReporter::of_handler(&context);
        let mut steps = progress.steps(["Fetching dataset", "Training", "Saving"]);
        for _ in 0..3 {
            let step = steps.begin_next().await;
            for part in 1..=20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                step.report(f64::from(part), Some(20.0), None).await;
            }
        }
        // A model sees no progress, but the result.
        let result = CallToolResult::success(vec![ContentBlock::text("trained")]);
        Ok(steps.finish().add_to(result))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layer = ProgressLayer::builder()
        .max_per_second(20)
        .idle_timeout(Duration::from_secs(60))
        .build()?;
    let stack = ServiceBuilder::new()
        .progress(layer)
        .service(Upstream::in_process(Trainer));
    let mut call = McpClient::new(stack).call_tool("train").with_progress();

    // Without a terminal, the bar is not drawn.
    let bar = ProgressBar::new(1_000);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {percent:>3} % {msg}",
    )?);
    while let Some(report) = call.next().await {
        let part = report.progress / report.total.unwrap_or(1.0);
        bar.set_position((part * 1_000.0) as u64);
        if let Some(message) = report.message {
            // What the last step took is after it, in brackets.
            let step = message.split(" (").next().unwrap_or_default();
            bar.suspend(|| println!("{step}"));
            bar.set_message(step.to_owned());
        }
    }
    bar.finish_and_clear();
    let result = call.await?;
    let texts = result.content.iter().filter_map(|block| block.as_text());
    for text in texts {
        println!("{}", text.text.split(" in ").next().unwrap_or_default());
    }
    Ok(())
}
