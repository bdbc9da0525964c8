//! Members of older revisions that declare less than the gateway lists.

use tokio::time::Instant;

use super::{wire::wired, *};

/// A member that answers what it declares, and leaves everything else unanswered.
fn taciturn(
    capabilities: serde_json::Value,
) -> (Upstream, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (upstream, mut wires) = wired(Upstream::builder());
    let (seen, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut wire = wires.next(capabilities).await;
        loop {
            let message = wire.read(|message| message.get("id").is_some()).await;
            let Some(method) = message["method"].as_str() else {
                continue;
            };
            let _ = seen.send(method.to_owned());
            if method == "tools/list" {
                let tool = json!({ "name": "a", "inputSchema": { "type": "object" } });
                wire.answer(&message["id"], json!({ "tools": [tool] }))
                    .await;
            }
        }
    });
    (upstream, asked)
}

async fn lists(gateway: &Gateway) -> Vec<String> {
    let client = McpClient::new(gateway.clone());
    let tools = client.list_all_tools().await.unwrap();
    client.list_all_prompts().await.unwrap();
    client.list_all_resources().await.unwrap();
    client.list_all_resource_templates().await.unwrap();
    names(&tools).into_iter().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn an_older_member_is_asked_only_for_the_lists_it_declares() {
    let (taciturn, mut asked) = taciturn(json!({ "tools": {} }));
    let shop = Shop::with("shop", &["b"]);
    let gateway = Gateway::builder()
        .member("taciturn", taciturn)
        .member("shop", shop.piped())
        .build()
        .unwrap();
    let begun = Instant::now();
    let tools = lists(&gateway).await;
    assert!(tools.contains(&"taciturn__a".to_owned()), "{tools:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let mut methods = Vec::new();
    while let Ok(method) = asked.try_recv() {
        methods.push(method);
    }
    assert_eq!(methods, ["tools/list"]);
}

#[tokio::test(start_paused = true)]
async fn an_older_member_that_declares_no_lists_at_all_is_asked_for_all() {
    let (silent, mut asked) = taciturn(json!({ "logging": {} }));
    let shop = Shop::with("shop", &["b"]);
    let gateway = Gateway::builder()
        .member("silent", silent)
        .member("shop", shop.piped())
        .build()
        .unwrap();
    let tools = lists(&gateway).await;
    assert!(tools.contains(&"silent__a".to_owned()), "{tools:?}");
    assert_eq!(asked.recv().await.as_deref(), Some("tools/list"));
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_request_reaches_an_only_server_with_any_capabilities() {
    let (taciturn, mut asked) = taciturn(json!({ "tools": {} }));
    let client = McpClient::new(taciturn);
    let listing = tokio::spawn(async move { client.list_all_prompts().await });
    let method = soon("a request", asked.recv()).await;
    assert_eq!(method.as_deref(), Some("prompts/list"));
    listing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_log_level_is_set_at_once_though_an_older_member_has_declared_no_logging() {
    let (taciturn, mut asked) = taciturn(json!({ "tools": {} }));
    let (upstream, mut wires) = wired(Upstream::builder());
    let gateway = Gateway::builder()
        .member("taciturn", taciturn)
        .member("logging", upstream)
        .build()
        .unwrap();
    let begun = Instant::now();
    let params = SetLevelRequestParams::new(LoggingLevel::Debug);
    let level = McpRequest::new(SetLevelRequest::new(params));
    let set = tokio::spawn(gateway.oneshot(level));
    let mut wire = wires.next(json!({ "tools": {}, "logging": {} })).await;
    let asked_for = wire
        .read(|message| message["method"] == "logging/setLevel")
        .await;
    assert_eq!(asked_for["params"]["level"], "debug");
    wire.answer(&asked_for["id"], json!({})).await;
    soon("an answer", set).await.unwrap().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "it was waited for"
    );
    while let Ok(method) = asked.try_recv() {
        assert_ne!(method, "logging/setLevel");
    }
}
