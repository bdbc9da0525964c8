//! Counts results in tokens, cuts what is too long for its share, and reads the rest page by page.
//!
//! Output of `cargo run --example budget`:
//!
//! ```text
//! the log: under 17k tokens, under 17k left: 1: a request was answered 2: a request was answere
//! a search: under 1k tokens, under 17k left: offset 253049: red 8761: a request was answered 87
//! page 3: under 7k tokens, under 11k left: 1598: a request was answered 1599: a request was a
//! page 4: under 6k tokens, under 6k left: 2378: a request was answered 2379: a request was a
//! page 5: under 3k tokens, under 3k left: 3158: a request was answered 3159: a request was a
//! page 6: under 2k tokens, under 1k left: 3938: a request was answered 3939: a request was a
//! page 7: The context budget of this conversation is used up
//! refused: 1
//! ```

use rmcp::{tool, tool_router};
use rmcp_layers::{
    Error, McpClient, McpRequest, McpResponse, ServiceBuilderExt, Upstream,
    budget::{BUDGET_META_KEY, BudgetLayer, ContextBudget},
};
use tower::ServiceBuilder;

struct Logs;

#[tool_router(server_handler)]
impl Logs {
    #[tool(description = "Returns the log of today")]
    fn log(&self) -> String {
        let lines = (1..=9_000).map(|line| format!("{line}: a request was answered\n"));
        lines.collect()
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    // One result may have half of what is left of this window.
    let budget = BudgetLayer::builder(ContextBudget::new(40_000))
        .model("gpt-5")
        .max_fraction(0.5)
        .page_tokens(6_000)
        .min_to_call(2_000)
        .build()?;
    let handle = budget.handle();
    let stack = ServiceBuilder::new()
        .budget(budget)
        .service(Upstream::in_process(Logs));
    let client = McpClient::new(stack);

    let log = client.send(McpRequest::call_tool("log").build()).await?;
    print("the log", &log);
    let meta = log.as_tool_result().and_then(|log| log.meta.clone());
    let id = meta.unwrap_or_default()[BUDGET_META_KEY]["cut"]["id"].clone();

    // What a model does with the note in the result.
    let read = || McpRequest::call_tool("read_result").argument("id", id.clone());
    let search = read().argument("search", "8765: ").build();
    print("a search", &client.send(search).await?);
    for page in 3..=7 {
        let read = read().argument("page", page).build();
        print(&format!("page {page}"), &client.send(read).await?);
    }
    println!("refused: {}", handle.stats().refused);
    Ok(())
}

fn print(what: &str, response: &McpResponse) {
    let result = response.as_tool_result();
    let text = result.and_then(|result| result.content.first()?.as_text());
    let text = text.map_or("", |text| &text.text).replace('\n', " ");
    let start: String = text.chars().take(50).collect();
    // Rounded, because the ids in the notes are random.
    let thousands = |tokens: u64| tokens.div_ceil(1_000);
    match response
        .report
        .budget
        .map(|budget| (thousands(budget.charged), thousands(budget.left)))
    {
        Some((charged, left)) => {
            println!("{what}: under {charged}k tokens, under {left}k left: {start}")
        }
        None => println!("{what}: {start}"),
    }
}
