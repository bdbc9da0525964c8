//! Changes, told to who listens.

use super::*;

pub(super) fn tool_changes() -> SubscriptionFilter {
    let mut filter = SubscriptionFilter::new();
    filter.tools_list_changed = Some(true);
    filter
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_told_as_one_to_each_who_listens_for_them() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let client = McpClient::new(layer.into_service(info()));
    let mut listening = client.listen(tool_changes()).await.unwrap();
    assert_eq!(listening.accepted(), &tool_changes());
    for n in 0..100 {
        registry.register(says(&format!("tool-{n}"), "")).unwrap();
    }
    let change = listening.next().await.unwrap().unwrap();
    assert!(matches!(
        change,
        ServerNotification::ToolListChangedNotification(_)
    ));
    let more = tokio::time::timeout(in_seconds(60), listening.next()).await;
    assert!(more.is_err(), "one change for all");
    registry.unregister("tool-1").unwrap();
    listening.next().await.unwrap().unwrap();

    let mut prompts = SubscriptionFilter::new();
    prompts.prompts_list_changed = Some(true);
    let error = client.listen(prompts).await.unwrap_err();
    assert_eq!(
        error.as_protocol().unwrap().code,
        ErrorCode::METHOD_NOT_FOUND
    );
}

#[tokio::test(start_paused = true)]
async fn a_listen_reaches_the_inner_stack_and_is_acknowledged_once_for_both() {
    let inner = Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Initialize);
    let inner = inner.in_process(Inner::default());
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let client = McpClient::new(layer.layer(inner));
    let mut asked = tool_changes();
    asked.prompts_list_changed = Some(true);
    asked.resources_list_changed = Some(true);
    let mut listening = client.listen(asked).await.unwrap();
    // The inner stack tells of prompts and of neither tools nor resources.
    let mut both = tool_changes();
    both.prompts_list_changed = Some(true);
    assert_eq!(listening.accepted(), &both);
    registry.register(add()).unwrap();
    let change = listening.next().await.unwrap().unwrap();
    assert!(matches!(
        change,
        ServerNotification::ToolListChangedNotification(_)
    ));
}

#[tokio::test]
async fn a_caller_without_a_handshake_hears_of_changes_under_its_subscription() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let served = Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Discover);
    let client = McpClient::new(served.in_process(McpServer::new(layer.into_service(info()))));
    let mut listening = client.listen(tool_changes()).await.unwrap();
    assert_eq!(listening.accepted(), &tool_changes());
    registry.register(add()).unwrap();
    let change = listening.next().await.unwrap().unwrap();
    assert!(matches!(
        change,
        ServerNotification::ToolListChangedNotification(_)
    ));
}
