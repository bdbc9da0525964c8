//! Several versions of one tool.

use super::*;

#[tokio::test]
async fn the_newest_version_is_listed_and_a_call_may_pin_another() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    for version in ["1.9.0", "2.1.0", "2.0.0", "3.0.0-rc.1"] {
        let tool = RegisteredTool::builder("which")
            .version(version)
            .description("Says which")
            .handler(move |_: JsonObject, _| async move { Ok::<_, BoxError>(version.to_owned()) });
        registry.register(tool.build().unwrap()).unwrap();
    }
    let client = McpClient::new(layer.into_service(info()));
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(names(&tools), ["which"]);
    let meta = tools[0].meta.clone().unwrap();
    assert_eq!(
        meta[VERSION_META_KEY], "2.1.0",
        "a release comes before a pre-release"
    );
    assert_eq!(
        meta[VERSIONS_META_KEY],
        json!(["2.1.0", "2.0.0", "1.9.0", "3.0.0-rc.1"])
    );

    let ran = |result: CallToolResult| said(&result).to_owned();
    assert_eq!(ran(client.call_tool("which").await.unwrap()), "2.1.0");
    assert_eq!(ran(client.call_tool("which@1.9.0").await.unwrap()), "1.9.0");
    let pinned = client
        .call_tool("which")
        .meta(VERSION_META_KEY, "3.0.0-rc.1");
    assert_eq!(ran(pinned.await.unwrap()), "3.0.0-rc.1");
    let error = client.call_tool("which@4.0.0").await.unwrap_err();
    let error = error.as_protocol().unwrap();
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    assert!(
        error.message.starts_with("Unknown tool: which@4.0.0"),
        "{}",
        error.message
    );

    registry.deprecate("which@1.9.0", "use 2").unwrap();
    let old = client.call_tool("which@1.9.0").await.unwrap();
    assert_eq!(old.meta.unwrap()[DEPRECATED_META_KEY], "use 2");
    registry.deprecate("which", "use that").unwrap();
    let tools = client.list_all_tools().await.unwrap();
    let description = tools[0].description.as_deref();
    assert_eq!(description, Some("Deprecated: use that Says which"));
    registry.undeprecate("which").unwrap();
    assert_eq!(registry.unregister("which@2.1.0"), Ok(1));
    assert_eq!(ran(client.call_tool("which").await.unwrap()), "2.0.0");
    assert_eq!(registry.unregister("which"), Ok(3));
}
