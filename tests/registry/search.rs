//! Search, and pins.

use super::*;

fn catalogue(registry: &RegistryHandle) {
    for (name, description, tag) in [
        ("read_file", "Reads what a file contains", "filesystem"),
        ("write_file", "Writes a file", "filesystem"),
        (
            "list_directory",
            "Lists the files in a directory",
            "filesystem",
        ),
        ("moveFile", "Renames", "filesystem"),
        ("file_info", "Size and time of change", "filesystem"),
        ("delete_file", "Removes a file for good", "filesystem"),
        ("send_mail", "Sends a letter to somebody", "post"),
    ] {
        let tool = RegisteredTool::builder(name)
            .description(description)
            .tag(tag)
            .handler(move |_: JsonObject, _| async move { Ok::<_, BoxError>(name.to_owned()) });
        registry.register(tool.build().unwrap()).unwrap();
    }
    registry.register(add()).unwrap();
}

fn found(result: &CallToolResult) -> Vec<String> {
    let tools = result.structured_content.as_ref().unwrap()["tools"].clone();
    let tools: Vec<Tool> = serde_json::from_value(tools).unwrap();
    tools.iter().map(|tool| tool.name.to_string()).collect()
}

#[tokio::test]
async fn search_ranks_names_before_descriptions_and_finds_inner_tools_too() {
    let layer = RegistryLayer::builder()
        .search(SearchMode::Beside)
        .build()
        .unwrap();
    let registry = layer.handle();
    catalogue(&registry);
    let client = McpClient::new(layer.layer(Handler::new(Inner::default())));
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(tools.len(), 11, "8 registered, 2 inner, and the search");
    assert!(names(&tools).contains(&SEARCH_TOOLS) && !names(&tools).contains(&CALL_TOOL));

    let search = |query: &str| client.call_tool(SEARCH_TOOLS).argument("query", query);
    let hits = found(&search("file").await.unwrap());
    assert!(hits.len() >= 5, "{hits:?}");
    assert!(
        hits.contains(&"moveFile".to_owned()),
        "camel case is two words: {hits:?}"
    );
    assert_eq!(
        found(&search("delete files").await.unwrap())[0],
        "delete_file"
    );
    assert_eq!(
        found(&search("post").await.unwrap()),
        ["send_mail"],
        "by a tag"
    );
    assert_eq!(
        found(&search("b").await.unwrap()),
        ["add"],
        "by an argument"
    );
    assert_eq!(
        found(&search("fails sometimes").await.unwrap()),
        ["fail"],
        "from page two"
    );
    assert!(found(&search("quantum").await.unwrap()).is_empty());
    let few = search("file").argument("limit", 2).await.unwrap();
    assert_eq!(found(&few).len(), 2);
    let wrong = search("file").argument("limit", 0).await.unwrap();
    assert!(wrong.is_error == Some(true) && said(&wrong).contains("at /limit"));

    registry.unregister("send_mail").unwrap();
    assert!(found(&search("post").await.unwrap()).is_empty());
    let reserved = registry.register(says(SEARCH_TOOLS, "mine"));
    assert!(matches!(reserved, Err(RegistryError::Reserved { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_catalogue_behind_search_lists_two_stable_tools_and_calls_every_other() {
    let layer = RegistryLayer::builder()
        .search(SearchMode::Only)
        .build()
        .unwrap();
    let registry = layer.handle();
    catalogue(&registry);
    let (client, ears) = connect(layer.layer(Handler::new(Inner::default()))).await;
    let before = client.list_all_tools().await.unwrap();
    assert_eq!(names(&before), [CALL_TOOL, SEARCH_TOOLS]);
    registry.unregister("moveFile").unwrap();
    assert_eq!(client.list_all_tools().await.unwrap(), before);
    tokio::time::sleep(in_seconds(5)).await;
    assert_eq!(
        ears.changes.load(Ordering::SeqCst),
        0,
        "there is no change to tell of"
    );

    let via = async |name: &str, arguments: Value| {
        let arguments = json!({ "name": name, "arguments": arguments });
        call(&client, CALL_TOOL, arguments).await
    };
    assert_eq!(said(&via("add", json!({ "a": 20, "b": 22 })).await), "42");
    assert_eq!(said(&via("echo", json!({})).await), "inner");
    let wrong = via("add", json!({ "a": "x" })).await;
    assert!(
        wrong.is_error == Some(true) && said(&wrong).contains("at /a"),
        "{}",
        said(&wrong)
    );
    assert_eq!(via(CALL_TOOL, json!({})).await.is_error, Some(true));
    assert_eq!(
        said(&call(&client, "send_mail", json!({})).await),
        "send_mail"
    );
}

#[tokio::test]
async fn a_changed_definition_is_held_back_until_somebody_approves_it() {
    let inner = Inner::default();
    let layer = RegistryLayer::builder().pin_inner_tools().build().unwrap();
    let registry = layer.handle();
    let client = McpClient::new(layer.layer(Handler::new(inner.clone())));
    assert_eq!(
        names(&client.list_all_tools().await.unwrap()),
        ["echo", "fail"]
    );
    assert!(registry.quarantined().is_empty());

    inner.changed.store(true, Ordering::SeqCst);
    assert_eq!(names(&client.list_all_tools().await.unwrap()), ["fail"]);
    let error = client.call_tool("echo").await.unwrap_err().to_string();
    assert!(error.contains("definition changed"), "{error}");
    let held = registry.quarantined();
    assert_eq!(held.len(), 1);
    assert_eq!(
        held[0].accepted.as_ref().unwrap().description.as_deref(),
        Some("Says it again")
    );
    assert!(
        held[0]
            .offered
            .description
            .as_deref()
            .unwrap()
            .starts_with("Ignore")
    );
    assert_ne!(Fingerprint::of(&held[0].offered), held[0].fingerprint);

    registry.approve("echo").unwrap();
    assert_eq!(client.list_all_tools().await.unwrap().len(), 2);
    assert_eq!(said(&client.call_tool("echo").await.unwrap()), "inner");
    assert!(registry.approve("echo").is_err());

    // A restart remembers what was accepted, and a definition that is again what it was is let through.
    let kept: Vec<(String, Fingerprint)> = registry
        .pins()
        .into_iter()
        .map(|(name, pin)| (name, pin.to_string().parse().unwrap()))
        .collect();
    inner.changed.store(false, Ordering::SeqCst);
    let layer = RegistryLayer::builder().pins(kept).build().unwrap();
    let client = McpClient::new(layer.layer(Handler::new(inner.clone())));
    assert_eq!(names(&client.list_all_tools().await.unwrap()), ["fail"]);
    inner.changed.store(true, Ordering::SeqCst);
    assert_eq!(
        names(&client.list_all_tools().await.unwrap()),
        ["echo", "fail"]
    );
}

#[tokio::test]
async fn a_call_through_call_tool_with_a_misfit_is_answered_as_one_of_the_tool_would_be() {
    let inner = Inner::default();
    let calls = inner.calls.clone();
    let layer = RegistryLayer::builder()
        .search(SearchMode::Only)
        .build()
        .unwrap();
    layer.handle().register(add()).unwrap();
    let (client, _) = connect(layer.layer(Upstream::in_process(inner))).await;
    for (arguments, path) in [
        (json!({ "name": 5 }), "params.arguments.name"),
        (json!({ "name": ["echo"] }), "params.arguments.name"),
        (
            json!({ "name": null, "arguments": {} }),
            "params.arguments.name",
        ),
        (
            json!({ "name": "echo", "arguments": "x" }),
            "params.arguments.arguments",
        ),
        (
            json!({ "name": "add", "arguments": [1] }),
            "params.arguments.arguments",
        ),
        (
            json!({ "name": "echo", "arguments": null }),
            "params.arguments.arguments",
        ),
    ] {
        let error = try_call(&client, CALL_TOOL, arguments).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS, "{error}");
        assert!(error.message.contains(path), "{error}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}
