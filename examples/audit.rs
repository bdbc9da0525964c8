//! Keeps a record of each call of a client: in memory, and in a file whose lines are chained so
//! that a change is found.
//!
//! Output of `cargo run --example audit`:
//!
//! ```text
//! vault open: Allowed, complete, {"password":"[redacted]","room":7}
//! vault blow_up: Allowed, tool_error, null
//! the file is intact
//! after an edit: line 1 was changed: its hash does not fit
//! ```

use rmcp::{handler::server::wrapper::Parameters, tool, tool_router};
use rmcp_layers::{
    McpClient, ServiceBuilderExt, Upstream,
    audit::{self, ArgumentRules, AuditError, AuditFile, AuditLog},
};
use serde_json::{Map, Value};
use tower::ServiceBuilder;

#[derive(Clone)]
struct Vault;

#[tool_router(server_handler)]
impl Vault {
    #[tool(description = "Opens the vault")]
    fn open(&self, Parameters(_arguments): Parameters<Map<String, Value>>) -> String {
        "open".to_owned()
    }

    #[tool(description = "Fails")]
    fn blow_up(&self) -> Result<String, String> {
        Err("the vault is shut".to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("rmcp-layers-{}.jsonl", std::process::id()));
    let log = AuditLog::builder()
        .memory(100)
        .file(AuditFile::new(&path))
        .keep_arguments(ArgumentRules::new())
        .build()?;
    let records = log.handle();
    let stack = ServiceBuilder::new()
        .audit(log.layer())
        .service(Upstream::builder().name("vault").in_process(Vault));

    let client = McpClient::new(stack);
    let open = client.call_tool("open").argument("password", "sesame");
    open.argument("room", 7).await?;
    client.call_tool("blow_up").await?;

    // The latest is first.
    for record in records.recent(100).iter().rev() {
        let (upstream, tool) = (record.upstream.as_deref(), record.name.as_deref());
        println!(
            "{} {}: {:?}, {}, {}",
            upstream.unwrap_or("-"),
            tool.unwrap_or("-"),
            record.decision,
            record.ended.as_str(),
            record.arguments.clone().unwrap_or_default(),
        );
    }

    // Each line has a hash of itself and of the line before.
    records.flush().await?;
    audit::verify(&path)?;
    println!("the file is intact");
    let edited = std::fs::read_to_string(&path)?.replace("\"room\":7", "\"room\":8");
    std::fs::write(&path, edited)?;
    match audit::verify(&path) {
        Err(AuditError::Broken { line, reason, .. }) => {
            println!("after an edit: line {line} {reason}");
        }
        other => println!("{other:?}"),
    }
    std::fs::remove_file(&path)?;
    Ok(())
}
