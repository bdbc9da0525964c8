//! Lines of a caller, whatever bytes they are.
//!
//! The server answers in JSON, answers a good request after them, answers no call that goes on, and
//! takes bounded memory. Of an input the first byte says the revision, and whether the lines come
//! before the first request.
//!
//! ```console
//! cargo +nightly fuzz run caller fuzz/corpus/caller fuzz/seeds/caller -- -max_len=65536
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
};
use rmcp_layers::{Handler, Lines, McpServer};
use rmcp_layers_fuzz::{Counting, Peak, run};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[global_allocator]
static MEMORY: Counting = Counting;

#[derive(Clone)]
struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name == "hold" {
            std::future::pending::<()>().await;
        }
        Ok(CallToolResult::success(Vec::new()).into())
    }
}

const LEGACY: &str = r#"{"jsonrpc":"2.0","id":"begin","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"0"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
"#;
const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// Ids that an input may not name.
const IDS: [&str; 3] = ["begin", "a call that goes on", "the end"];

fn request(id: &str, method: &str, name: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":\"{id}\",\"method\":\"{method}\",\"params\":{{{META}{name}}}}}\n"
    )
}

fn text(is_legacy: bool, is_first: bool, input: &[u8]) -> Vec<u8> {
    let hold = request(IDS[1], "tools/call", r#","name":"hold""#);
    let begin = if is_legacy {
        LEGACY.to_owned()
    } else {
        request(IDS[0], "tools/list", "")
    };
    let before = format!("{begin}{hold}");
    let end = format!("\n{}", request(IDS[2], "tools/list", ""));
    match is_first {
        true => [input, b"\n", before.as_bytes(), end.as_bytes()].concat(),
        false => [before.as_bytes(), input, end.as_bytes()].concat(),
    }
}

fn has(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|window| window == part.as_bytes())
}

/// Serves a text, until its last request is answered. Returns the number of messages.
async fn serve(text: Vec<u8>) -> usize {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let lines = Lines::from(tokio::io::split(far)).max_message_bytes(64 * 1024);
    let serving = tokio::spawn(async move {
        if let Ok(running) = McpServer::new(Handler::new(Tools)).serve(lines).await {
            let _ = running.waiting().await;
        }
    });
    let (read, mut write) = tokio::io::split(near);
    let writing = tokio::spawn(async move {
        write.write_all(&text).await.expect("an open connection");
        write
    });
    let mut lines = BufReader::new(read).lines();
    let mut count = 0;
    loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("an open connection");
        let _: &RawValue = serde_json::from_str(&line).expect("a message");
        count += 1;
        assert!(!line.contains(IDS[1]), "a call that goes on is answered");
        if line.contains(IDS[2]) {
            break;
        }
    }
    drop(writing.await.expect("no panic"));
    serving.abort();
    if let Err(ended) = serving.await {
        assert!(!ended.is_panic(), "a panic");
    }
    count
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, input)) = data.split_first() else {
        return;
    };
    let (is_legacy, is_first) = (kind & 1 == 0, kind & 2 != 0);
    // A message that names these may well end them, or begin another session.
    let is_told = IDS.iter().any(|id| has(input, id)) || (is_first && has(input, "_meta"));
    let begins = has(input, "initialize") || has(input, "\\u");
    if is_told || begins {
        return;
    }
    let peak = Peak::start();
    let text = text(is_legacy, is_first, input);
    let count = run(serve(text));
    peak.check(input);
    // Each answer is to a part of its own.
    let parts = input.iter().filter(|byte| b"{\n".contains(byte)).count();
    assert!(count <= parts + 4, "{count} messages for {parts} parts");
});
