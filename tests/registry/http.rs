//! Over streamable HTTP.

use rmcp::{
    service::{ClientLifecycleMode, serve_client_with_lifecycle},
    transport::StreamableHttpClientTransport,
};

use super::*;

async fn over_http(url: &str, lifecycle: ClientLifecycleMode) -> RunningService<RoleClient, Ears> {
    let transport = StreamableHttpClientTransport::from_uri(url);
    let connected = serve_client_with_lifecycle(Ears::default(), transport, lifecycle);
    soon("connecting", connected).await.unwrap()
}

#[tokio::test]
async fn a_tool_is_listed_called_replaced_and_heard_of_over_http() {
    let layer = RegistryLayer::builder()
        .coalesce(Duration::from_millis(1))
        .build()
        .unwrap();
    let registry = layer.handle();
    let inner = layer.layer(Handler::new(Inner::default()));
    let http = Http::serve(McpServer::new(inner)).await;
    let client = over_http(&http.url, ClientLifecycleMode::Initialize).await;
    let listed = async || names(&client.list_all_tools().await.unwrap()).join(" ");
    let heard = async |what| soon(what, client.service().heard.notified()).await;
    assert_eq!(listed().await, "echo fail");

    registry.register(says("greet", "hello")).unwrap();
    heard("the registration").await;
    assert_eq!(listed().await, "greet echo fail");
    assert_eq!(said(&call(&client, "greet", json!({})).await), "hello");

    let before = registry.replace(says("greet", "good day")).unwrap();
    assert_eq!(before.unwrap().name(), "greet");
    heard("the replacement").await;
    assert_eq!(said(&call(&client, "greet", json!({})).await), "good day");

    registry.unregister("greet").unwrap();
    heard("the removal").await;
    assert_eq!(listed().await, "echo fail");
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn callers_without_a_handshake_use_and_hear_of_tools_over_http() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let http = Http::serve(McpServer::new(layer.into_service(info()))).await;
    let upstream = Upstream::builder()
        .lifecycle(rmcp_layers::Lifecycle::Discover)
        .http(HttpEndpoint::new(&http.url))
        .unwrap();
    let client = McpClient::new(upstream);
    let mut listening = client.listen(listen::tool_changes()).await.unwrap();

    registry.register(says("greet", "hello")).unwrap();
    let change = soon("the registration", listening.next()).await;
    change.unwrap().unwrap();
    assert_eq!(names(&client.list_all_tools().await.unwrap()), ["greet"]);
    assert_eq!(said(&client.call_tool("greet").await.unwrap()), "hello");

    registry.replace(says("greet", "good day")).unwrap();
    let change = soon("the replacement", listening.next()).await;
    change.unwrap().unwrap();
    assert_eq!(said(&client.call_tool("greet").await.unwrap()), "good day");
    http.stop().await;
}
