use tower::ServiceExt as _;

use super::*;
use crate::common::Client;

fn dead() -> Upstream {
    Upstream::child_process("/nowhere/no-such-server")
}

#[tokio::test]
async fn registered_tools_are_served_while_the_inner_stack_cannot_be_reached() {
    let layer = RegistryLayer::new();
    layer.handle().register(says("status", "up")).unwrap();
    let stack = layer.layer(dead());
    for client in [
        Client::legacy("legacy", stack.clone()).await,
        Client::modern("modern", stack.clone()).await,
    ] {
        let listed = soon("the list", client.peer.list_all_tools()).await;
        let names: Vec<_> = listed.unwrap().into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["status"]);
        let called = client.call(common::tool("status", json!({}))).await;
        assert_eq!(said(&called), "up");
        let other = client.peer.call_tool(common::tool("other", json!({})));
        let error = soon("the error", other).await.unwrap_err();
        assert!(error.to_string().contains("cannot start"), "{error}");
    }
}

#[tokio::test]
async fn without_registered_tools_an_inner_stack_that_cannot_be_reached_is_an_error() {
    let stack = RegistryLayer::new().layer(dead());
    let listed = stack.oneshot(McpRequest::list_tools()).await;
    assert!(listed.unwrap_err().is_transport());
}
