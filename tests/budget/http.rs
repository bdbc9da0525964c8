//! The budget of a server over streamable HTTP, with and without sessions.

use rmcp::{
    ServiceExt,
    model::*,
    service::{ClientLifecycleMode, RunningService, serve_client_with_lifecycle},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use rmcp_layers::{
    McpServer, Principal, ServiceBuilderExt, Upstream,
    auth::{ApiKeys, AuthLayer},
};
use serde_json::{Value, json};
use tower::ServiceBuilder;

use super::{
    common::{Http, soon, tool},
    office::*,
};

const ANN: &str = "k-3f9a5c1e77d04b2a-ann";
const BEN: &str = "k-3f9a5c1e77d04b2a-ben";

async fn connect(
    url: &str,
    key: Option<&str>,
    lifecycle: ClientLifecycleMode,
) -> RunningService<rmcp::RoleClient, ()> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(url);
    config.auth_header = key.map(str::to_owned);
    let transport = StreamableHttpClientTransport::from_config(config);
    let connected = serve_client_with_lifecycle((), transport, lifecycle);
    soon("connecting", connected).await.unwrap()
}

fn modern() -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::LATEST];
    ClientLifecycleMode::Discover { preferred_versions }
}

async fn call(
    client: &RunningService<rmcp::RoleClient, ()>,
    name: &'static str,
    arguments: Value,
) -> CallToolResult {
    let called = client.call_tool(tool(name, arguments));
    soon("a call", called).await.unwrap()
}

fn says(result: &CallToolResult) -> Value {
    result.meta.as_ref().unwrap()["rmcp-layers/budget"].clone()
}

async fn guarded() -> Http {
    let keys = ApiKeys::new()
        .key(ANN, Principal::new("ann").with_scopes(["admin"]))
        .and_then(|keys| keys.key(BEN, Principal::new("ben").with_scopes(["admin"])));
    let stack = ServiceBuilder::new()
        .auth(AuthLayer::builder(keys.unwrap()).build().unwrap())
        .budget(layer().build().unwrap())
        .service(Upstream::in_process(Office::default()));
    Http::serve(McpServer::new(stack)).await
}

#[tokio::test]
async fn a_principal_without_sessions_has_one_budget() {
    let http = guarded().await;
    let (ann, ben) = (
        connect(&http.url, Some(ANN), modern()).await,
        connect(&http.url, Some(BEN), modern()).await,
    );
    let first = call(&ann, "lines", json!({ "count": 100 })).await;
    let second = call(&ann, "lines", json!({ "count": 100 })).await;
    let charged = says(&first)["charged"].as_u64().unwrap();
    assert_eq!(says(&first)["left"], USABLE - charged);
    assert_eq!(says(&second)["left"], USABLE - 2 * charged);
    let other = call(&ben, "lines", json!({ "count": 100 })).await;
    assert_eq!(says(&other)["left"], USABLE - charged);
}

#[tokio::test]
async fn a_principal_reads_its_kept_results_in_another_session_and_another_principal_does_not() {
    let http = guarded().await;
    let legacy = ClientLifecycleMode::Initialize;
    let ann = connect(&http.url, Some(ANN), legacy.clone()).await;
    let cut = call(&ann, "lines", json!({ "count": 3_000 })).await;
    let id = says(&cut)["cut"]["id"].clone();
    let again = connect(&http.url, Some(ANN), legacy).await;
    let read = call(&again, "read_result", json!({ "id": id })).await;
    assert_eq!(read.is_error, Some(false));
    // A new session is a new conversation.
    let (left, charged) = (
        says(&read)["left"].as_u64(),
        says(&read)["charged"].as_u64(),
    );
    assert_eq!(
        left.zip(charged).map(|(left, charged)| left + charged),
        Some(USABLE)
    );
    let ben = connect(&http.url, Some(BEN), modern()).await;
    let foreign = call(&ben, "read_result", json!({ "id": id })).await;
    assert_eq!(foreign.is_error, Some(true));
}

#[tokio::test]
async fn callers_without_session_and_principal_share_no_budget_and_read_their_results() {
    let layer = layer().build().unwrap();
    let budget = layer.handle();
    let stack = ServiceBuilder::new()
        .budget(layer)
        .service(Upstream::in_process(Office::default()));
    let http = Http::serve(McpServer::new(stack)).await;
    let client = connect(&http.url, None, modern()).await;
    for _ in 0..8 {
        let cut = call(&client, "lines", json!({ "count": 3_000 })).await;
        assert!(says(&cut)["left"].as_u64() >= Some(USABLE * 7 / 10));
        let read = call(
            &client,
            "read_result",
            json!({ "id": says(&cut)["cut"]["id"] }),
        )
        .await;
        assert_eq!(read.is_error, Some(false));
    }
    assert_eq!(budget.stats().conversations, 0);
    let _ = ().serve(StreamableHttpClientTransport::from_uri(&*http.url)).await.unwrap();
}
