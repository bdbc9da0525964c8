//! What a tool may be, and what its calls end with.

use super::*;

#[test]
fn a_bad_tool_is_refused_with_what_and_why() {
    let with_schema = |schema: Value| {
        RegisteredTool::builder("bad")
            .input_schema(schema.as_object().cloned().unwrap())
            .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(String::new()) })
            .build()
            .unwrap_err()
            .to_string()
    };
    let error =
        with_schema(json!({ "type": "object", "properties": { "n": { "type": "nmber" } } }));
    assert!(error.contains("input schema of the tool bad"), "{error}");
    assert!(error.contains("/properties/n/type"), "{error}");
    let error = with_schema(json!({ "type": "string" }));
    assert!(error.contains("/type"), "{error}");
    // Nothing is fetched to resolve a schema, and an unresolved one is no permissive one.
    for reference in [
        "https://example.com/a.json",
        "file:///etc/hostname",
        "#/$defs/none",
    ] {
        let schema = json!({ "type": "object", "properties": { "n": { "$ref": reference } } });
        let error = with_schema(schema);
        assert!(error.contains("input schema"), "{error}");
    }
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "not": deep });
    }
    let error = with_schema(json!({ "type": "object", "properties": { "n": deep } }));
    assert!(error.contains("nested deeper"), "{error}");

    for name in [
        "",
        "two words",
        "a/b",
        "naïve",
        "pin@1.0.0",
        &"x".repeat(129),
    ] {
        let built = RegisteredTool::builder(name)
            .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(String::new()) })
            .build();
        assert!(
            matches!(built, Err(RegistryError::InvalidName { .. })),
            "{name}"
        );
    }
    let built = RegisteredTool::builder("v")
        .version("two")
        .handler(|_: Sum, _| async { Ok::<_, BoxError>(String::new()) });
    assert!(matches!(
        built.build(),
        Err(RegistryError::InvalidVersion { .. })
    ));
    let built = RegisteredTool::builder("none")
        .input_schema_of::<Sum>()
        .build();
    assert!(matches!(built, Err(RegistryError::NoHandler { .. })));

    let layer = RegistryLayer::builder().max_tools(1).build().unwrap();
    let registry = layer.handle();
    registry.register(add()).unwrap();
    let error = registry.register(add()).unwrap_err();
    assert!(
        error.to_string().contains("add is registered already"),
        "{error}"
    );
    assert_eq!(
        registry.register(says("b", "")),
        Err(RegistryError::Full { max: 1 })
    );
    let unknown = RegistryError::Unknown { tool: "b".into() };
    assert_eq!(registry.unregister("b"), Err(unknown));
}

#[tokio::test]
async fn arguments_are_checked_before_the_handler_and_what_fails_names_path_and_rule() {
    let ran = Arc::new(AtomicBool::new(false));
    let tool = {
        let ran = ran.clone();
        let schema = json!({
            "type": "object",
            "properties": { "age": { "type": "integer", "minimum": 18 }, "name": { "type": "string" } },
            "required": ["name"],
        });
        RegisteredTool::builder("join")
            .input_schema(schema.as_object().cloned().unwrap())
            .handler(move |_: JsonObject, _| {
                ran.store(true, Ordering::SeqCst);
                async { Ok::<_, BoxError>(String::new()) }
            })
    };
    let layer = RegistryLayer::new();
    layer.handle().register(tool.build().unwrap()).unwrap();
    let (client, _) = connect(layer.into_service(info())).await;

    let result = call(&client, "join", json!({ "age": 12 })).await;
    assert_eq!(result.is_error, Some(true));
    let text = said(&result);
    assert!(
        text.contains("at /age:") && text.contains("/properties/age/minimum"),
        "{text}"
    );
    assert!(text.contains("\"name\" is a required property"), "{text}");
    let result = call(
        &client,
        "join",
        json!({ "name": 7.5, "age": "x".repeat(100_000) }),
    )
    .await;
    assert!(said(&result).len() < 2_000, "a quoted value is cut short");
    assert!(!ran.load(Ordering::SeqCst));
}

#[tokio::test]
async fn errors_and_panics_of_a_handler_are_results_and_the_connection_lives() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let fails = RegisteredTool::builder("fails")
        .handler(|_: JsonObject, _| async { Err::<String, _>("the disk is full") });
    let panics = RegisteredTool::builder("panics").handler(|arguments: JsonObject, _| {
        assert!(arguments.contains_key("late"), "at once");
        async {
            if true {
                panic!("too {}", "late");
            }
            Ok::<_, BoxError>(String::new())
        }
    });
    registry.register(fails.build().unwrap()).unwrap();
    registry.register(panics.build().unwrap()).unwrap();
    let (client, _) = connect(layer.into_service(info())).await;

    let result = call(&client, "fails", json!({})).await;
    assert_eq!(
        (said(&result), result.is_error),
        ("the disk is full", Some(true))
    );
    let result = call(&client, "panics", json!({})).await;
    assert_eq!(
        (said(&result), result.is_error),
        ("panics failed: its handler panicked", Some(true))
    );
    let result = call(&client, "panics", json!({ "late": 1 })).await;
    assert_eq!(said(&result), "panics failed: its handler panicked");
    assert_eq!(client.list_all_tools().await.unwrap().len(), 2);
}

#[derive(Serialize, JsonSchema)]
struct Answer {
    answer: u8,
}

#[tokio::test]
async fn a_result_that_does_not_fit_the_output_schema_is_a_tool_error() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let good = RegisteredTool::builder("good")
        .output_schema_of::<Answer>()
        .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(Json(Answer { answer: 42 })) });
    let bad = RegisteredTool::builder("bad")
        .output_schema_of::<Answer>()
        .handler(|_: JsonObject, _| async {
            Ok::<_, BoxError>(CallToolResult::structured(json!({ "answer": "no" })))
        });
    let none = RegisteredTool::builder("none")
        .output_schema_of::<Answer>()
        .handler(|_: JsonObject, _| async { Ok::<_, BoxError>("text".to_owned()) });
    for tool in [good, bad, none] {
        registry.register(tool.build().unwrap()).unwrap();
    }
    let (client, _) = connect(layer.into_service(info())).await;
    let result = call(&client, "good", json!({})).await;
    assert_eq!(result.structured_content, Some(json!({ "answer": 42 })));
    let result = call(&client, "bad", json!({})).await;
    assert!(result.is_error == Some(true) && said(&result).contains("at /answer"));
    let result = call(&client, "none", json!({})).await;
    assert!(result.is_error == Some(true) && said(&result).contains("no structured content"));
}

#[tokio::test]
async fn a_tool_with_unchecked_schemas_is_checked_by_its_handlers_type_alone() {
    let layer = RegistryLayer::new();
    let schema = json!({
        "type": "object",
        "properties": { "a": { "maximum": 1 } },
        "required": ["a", "b", "unknown"],
    });
    let lax = RegisteredTool::builder("lax")
        .input_schema(schema.as_object().cloned().unwrap())
        .output_schema_of::<Answer>()
        .unchecked_schemas()
        .handler(|Sum { a, b }, _| async move { Ok::<_, BoxError>((a + b).to_string()) });
    layer.handle().register(lax.build().unwrap()).unwrap();
    let (client, _) = connect(layer.into_service(info())).await;
    // The rules of its schemas do not hold, but callers see them.
    let result = call(&client, "lax", json!({ "a": 40, "b": 2 })).await;
    assert_eq!((result.is_error, said(&result)), (Some(false), "42"));
    let listed = client.list_all_tools().await.unwrap();
    assert_eq!(listed[0].input_schema["required"][2], "unknown");
    let result = call(&client, "lax", json!({ "a": "forty" })).await;
    assert!(result.is_error == Some(true) && said(&result).contains("Invalid arguments"));
}

#[tokio::test]
async fn a_handler_reaches_its_caller_and_is_dropped_when_the_caller_cancels() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let counts = RegisteredTool::builder("counts").handler(
        |_: JsonObject, context: CallContext| async move {
            let token = context.progress_token().ok_or("nobody wants to know")?;
            let progress = ProgressNotificationParam::new(token, 1.0);
            context
                .caller
                .notify(ProgressNotification::new(progress).into())
                .await?;
            Ok::<_, BoxError>("counted".to_owned())
        },
    );
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let hangs = {
        let (begun, dropped) = (begun.clone(), dropped.clone());
        RegisteredTool::builder("hangs").handler(move |_: JsonObject, _| {
            let (begun, guard) = (begun.clone(), Dropped(dropped.clone()));
            async move {
                let _guard = guard;
                begun.notify_one();
                std::future::pending::<Result<String, BoxError>>().await
            }
        })
    };
    registry.register(counts.build().unwrap()).unwrap();
    registry.register(hangs.build().unwrap()).unwrap();
    let served = Upstream::in_process(McpServer::new(layer.into_service(info())));
    let client = McpClient::new(served);

    let mut counting = client.call_tool("counts").with_progress();
    assert_eq!(counting.next().await.unwrap().progress, 1.0);
    assert_eq!(said(&counting.await.unwrap()), "counted");
    let other = client.clone();
    let hanging = tokio::spawn(async move { other.call_tool("hangs").await });
    begun.notified().await;
    hanging.abort();
    dropped.notified().await;
}

#[tokio::test]
async fn a_handler_asks_its_caller_and_reads_the_answer_in_the_next_round() {
    let layer = RegistryLayer::new();
    let asks = RegisteredTool::builder("asks").handler(|_: JsonObject, context: CallContext| {
        let round = context.extensions.get::<CallToolRequestParams>();
        let answer: CallToolResponse = match round.and_then(|round| round.request_state.clone()) {
            Some(state) => CallToolResult::success(vec![ContentBlock::text(state)]).into(),
            None => InputRequiredResult::from_request_state("half way").into(),
        };
        async move { Ok::<_, BoxError>(answer) }
    });
    layer.handle().register(asks.build().unwrap()).unwrap();
    let client = McpClient::new(layer.into_service(info()));
    let first = client.call_tool("asks").once().await.unwrap();
    let CallToolResponse::InputRequired(first) = first else {
        panic!("{first:?}");
    };
    let second = client.call_tool("asks").input(None, first.request_state);
    let CallToolResponse::Complete(second) = second.once().await.unwrap() else {
        panic!("not complete");
    };
    assert_eq!(said(&second), "half way");
}

#[tokio::test]
async fn a_tool_can_be_any_stack_and_its_errors_stay_what_they_are() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let stack = Upstream::in_process(Inner::default());
    for name in ["echo", "refused"] {
        let tool = RegisteredTool::builder(name)
            .input_schema_of::<JsonObject>()
            .service(stack.clone());
        registry.register(tool.build().unwrap()).unwrap();
    }
    let (client, _) = connect(layer.into_service(info())).await;
    assert_eq!(said(&call(&client, "echo", json!({})).await), "inner");
    let error = try_call(&client, "refused", json!({})).await.unwrap_err();
    assert_eq!(
        (error.code, error.data),
        (ErrorCode(-31999), Some(json!({ "why": "no" })))
    );
}

#[tokio::test]
async fn a_handler_may_take_no_arguments_and_may_not_fail() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let tools = [
        RegisteredTool::builder("text").handler(|(), _| async { "text" }),
        RegisteredTool::builder("nothing").handler(|(), _| async {}),
        RegisteredTool::builder("result")
            .handler(|(), _| async { CallToolResult::success(vec![ContentBlock::text("result")]) }),
        RegisteredTool::builder("sum")
            .handler(|Sum { a, b }, _| async move { (a + b).to_string() }),
        RegisteredTool::builder("fails").handler(|(), _| async { Err::<String, _>("it failed") }),
    ];
    for tool in tools {
        registry.register(tool.build().unwrap()).unwrap();
    }
    let (client, _) = connect(layer.into_service(info())).await;
    let peer = client.peer();
    for (name, arguments) in [("text", json!({})), ("result", json!(null))] {
        assert_eq!(said(&call(peer, name, arguments).await), name);
    }
    let nothing = call(peer, "nothing", json!({ "surplus": 1 })).await;
    assert!(nothing.content.is_empty() && nothing.is_error != Some(true));
    assert_eq!(
        said(&call(peer, "sum", json!({ "a": 2, "b": 40 })).await),
        "42"
    );
    let failed = call(peer, "fails", json!({})).await;
    assert_eq!((said(&failed), failed.is_error), ("it failed", Some(true)));
    let listed = peer.list_all_tools().await.unwrap();
    let text = listed.iter().find(|tool| tool.name == "text").unwrap();
    assert_eq!(text.input_schema["type"], "object");
}
