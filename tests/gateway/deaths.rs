//! Children that die in the middle of calls, and what is still known of their tools then.

use std::path::PathBuf;

use rmcp_layers::{ChildProcess, retry::RetryLayer};
use serde_json::Value;

use super::{common::script::serve_stdio_as, *};

const COUNTER: &str = "RMCP_LAYERS_TEST_COUNTER";
const LEGACY: &str = "RMCP_LAYERS_TEST_LEGACY";

/// Not a test: the child process of some. It is this binary, started again with a variable set.
#[tokio::test]
async fn serve_as_mortal() {
    if let Some(counter) = std::env::var_os(COUNTER) {
        let legacy = std::env::var_os(LEGACY).is_some();
        serve_stdio_as(legacy, move |request| {
            mortal(&request, PathBuf::from(&counter))
        })
        .await;
    }
}

/// Dies over every other call of all its lives together.
fn mortal(request: &Value, counter: PathBuf) -> Option<Vec<String>> {
    let schema = json!({ "type": "object" });
    let result = match request["method"].as_str().unwrap_or_default() {
        "tools/list" => {
            let reads = json!({ "readOnlyHint": true });
            let tools = json!([
                { "name": "reads", "inputSchema": schema, "annotations": reads },
                { "name": "writes", "inputSchema": schema },
            ]);
            let result = json!({ "resultType": "complete", "tools": tools });
            let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
            // As servers do that register their tools one by one.
            let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
            return Some(vec![answer.to_string(), changed.to_string()]);
        }
        "tools/call" => {
            let calls = std::fs::read(&counter).map_or(0, |calls| calls.len()) + 1;
            std::fs::write(&counter, vec![b'.'; calls]).unwrap();
            if calls % 2 == 1 {
                return None;
            }
            let said = format!("call {calls}");
            json!({ "resultType": "complete", "content": [{ "type": "text", "text": said }] })
        }
        "subscriptions/listen" => {
            let id = &request["id"];
            let meta = json!({ "io.modelcontextprotocol/subscriptionId": id });
            let params =
                json!({ "_meta": meta, "notifications": request["params"]["notifications"] });
            let method = "notifications/subscriptions/acknowledged";
            let line = json!({ "jsonrpc": "2.0", "method": method, "params": params });
            return Some(vec![line.to_string()]);
        }
        _ => {
            let error = json!({ "code": -32601, "message": "Method not found" });
            let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
            return Some(vec![answer.to_string()]);
        }
    };
    let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    Some(vec![answer.to_string()])
}

/// The upstream, and how often it was called.
fn child(legacy: bool) -> (Upstream, impl Fn() -> usize) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "rmcp-layers-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::SeqCst)
    );
    let counter = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&counter);
    let mut child = ChildProcess::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "deaths::serve_as_mortal",
            "--nocapture",
            "--quiet",
        ])
        .env(COUNTER, &counter)
        .quiet();
    if legacy {
        child = child.env(LEGACY, "1");
    }
    let (first, most) = (Duration::from_millis(5), Duration::from_millis(50));
    let upstream = Upstream::builder()
        .name("mortal")
        .reconnect_backoff(first, most)
        .child_process(child);
    let calls = move || std::fs::read(&counter).map_or(0, |calls| calls.len());
    (upstream, calls)
}

fn retrying(upstream: &Upstream) -> impl common::Stack {
    let policy = rmcp_layers::retry::RetryPolicy::new()
        .max_retries(3)
        .base_delay(Duration::from_millis(300));
    let retry = RetryLayer::builder().trust_annotations(true).policy(policy);
    retry.build().unwrap().layer(upstream.clone())
}

#[tokio::test]
async fn a_read_only_call_is_repeated_whenever_its_child_dies_over_it() {
    // Callers that have listed the tools, and such that have not.
    for (legacy, prefix, lists) in [
        (false, Prefix::Always, true),
        (false, Prefix::Never, false),
        (true, Prefix::Always, false),
        (true, Prefix::Never, true),
    ] {
        let (upstream, calls) = child(legacy);
        let member = Member::new("m", retrying(&upstream)).trust_annotations(true);
        let gateway = Gateway::builder()
            .prefix(prefix)
            .add_member(member)
            .build()
            .unwrap();
        let name = |inner: &str| match prefix {
            Prefix::Always => format!("m__{inner}"),
            _ => inner.to_owned(),
        };
        let client = Client::legacy("l", gateway).await;
        if lists {
            client.peer.list_tools(None).await.unwrap();
        }
        for n in 1..=8 {
            let call = CallToolRequestParams::new(name("reads"));
            let what = format!("{prefix:?}, legacy: {legacy}, call {n}");
            let answer = soon(&what, client.peer.call_tool(call)).await;
            let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(text(&answer), format!("call {}", 2 * n), "{what}");
        }
        // What may have written is not.
        let call = CallToolRequestParams::new(name("writes"));
        let failed = soon("a call", client.peer.call_tool(call)).await;
        failed.unwrap_err();
        assert_eq!(calls(), 17);
        upstream.close().await;
    }
}
