//! Tools that come and go, and what the inner stack has to do with it.

use super::*;

#[tokio::test]
async fn a_tool_comes_answers_and_goes_while_the_server_runs() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let (client, ears) = connect(layer.into_service(info())).await;
    assert_eq!(client.list_all_tools().await.unwrap(), []);

    registry.register(add()).unwrap();
    ears.heard.notified().await;
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(names(&tools), ["add"]);
    let sum = call(&client, "add", json!({ "a": 1, "b": 2 })).await;
    assert_eq!(said(&sum), "3");

    registry.unregister("add").unwrap();
    ears.heard.notified().await;
    assert_eq!(client.list_all_tools().await.unwrap(), []);
    let error = try_call(&client, "add", json!({})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    assert_eq!(error.message, "Unknown tool: add");
}

#[tokio::test]
async fn registered_tools_stand_before_the_inner_stacks_first_page_and_its_cursors_pass() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    registry.register(says("zeta", "own")).unwrap();
    registry.register(says("alpha", "own")).unwrap();
    let inner = Inner::default();
    let client = McpClient::new(layer.layer(Handler::new(inner)));

    let first = client.list_tools(None).await.unwrap();
    assert_eq!(names(&first.tools), ["alpha", "zeta", "echo"]);
    assert_eq!(first.next_cursor.as_deref(), Some("page-2"));
    let second = client.list_tools(first.next_cursor).await.unwrap();
    assert_eq!(names(&second.tools), ["fail"]);
    assert_eq!(second.next_cursor, None);
    assert_eq!(said(&client.call_tool("alpha").await.unwrap()), "own");
    assert_eq!(said(&client.call_tool("echo").await.unwrap()), "inner");
}

#[tokio::test]
async fn a_registered_tool_hides_an_inner_one_of_its_name_while_it_is_there() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let client = McpClient::new(layer.layer(Handler::new(Inner::default())));
    registry.register(says("echo", "own")).unwrap();
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!(names(&tools), ["echo", "fail"]);
    assert_eq!(said(&client.call_tool("echo").await.unwrap()), "own");
    registry.unregister("echo").unwrap();
    assert_eq!(said(&client.call_tool("echo").await.unwrap()), "inner");
}

#[tokio::test]
async fn a_stack_without_tools_of_its_own_has_those_that_are_registered() {
    struct Bare;
    impl ServerHandler for Bare {}
    let layer = RegistryLayer::new();
    layer.handle().register(add()).unwrap();
    let (client, _) = connect(layer.layer(Handler::new(Bare))).await;
    let capabilities = client.peer_info().unwrap().capabilities.clone();
    assert_eq!(capabilities.tools.unwrap().list_changed, Some(true));
    assert_eq!(names(&client.list_all_tools().await.unwrap()), ["add"]);
    let error = try_call(&client, "other", json!({})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
}

#[tokio::test]
async fn calls_in_flight_end_on_the_version_they_began_with() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (begun, go) = (begun.clone(), go.clone());
        RegisteredTool::builder("job").handler(move |_: JsonObject, _| {
            let (begun, go) = (begun.clone(), go.clone());
            async move {
                begun.notify_one();
                go.notified().await;
                Ok::<_, BoxError>("old".to_owned())
            }
        })
    };
    registry.register(slow.build().unwrap()).unwrap();
    let (client, _) = connect(layer.into_service(info())).await;
    let peer = client.peer().clone();
    let running = tokio::spawn(async move { call(&peer, "job", json!({})).await });
    begun.notified().await;

    let old = registry.replace(says("job", "new")).unwrap();
    assert_eq!(old.unwrap().name(), "job");
    assert_eq!(said(&call(&client, "job", json!({})).await), "new");
    registry.unregister("job").unwrap();
    go.notify_one();
    assert_eq!(said(&running.await.unwrap()), "old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost_while_the_tool_is_replaced() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    registry.register(says("job", "first")).unwrap();
    let (client, _) = connect(layer.into_service(info())).await;
    let replacing = tokio::spawn(async move {
        for _ in 0..500 {
            registry.replace(says("job", "later")).unwrap();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..200 {
        let result = call(&client, "job", json!({})).await;
        assert_eq!(result.is_error, Some(false));
    }
    replacing.await.unwrap();
    assert_eq!(said(&call(&client, "job", json!({})).await), "later");
}

#[tokio::test]
async fn what_is_not_about_tools_passes_and_a_busy_inner_stack_holds_up_no_registered_tool() {
    /// Keeps its permit for ever, so that a second request is never served.
    #[derive(Clone, Default)]
    struct Busy {
        heard: Arc<std::sync::Mutex<Vec<String>>>,
        begun: Arc<Notify>,
    }
    impl Service<McpRequest> for Busy {
        type Response = McpResponse;
        type Error = Error;
        type Future = std::future::Pending<Result<McpResponse, Error>>;

        fn poll_ready(
            &mut self,
            _cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Error>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: McpRequest) -> Self::Future {
            self.heard
                .lock()
                .unwrap()
                .push(format!("{:?}", request.message));
            self.begun.notify_one();
            std::future::pending()
        }
    }
    let inner = Busy::default();
    let limited = tower::limit::ConcurrencyLimit::new(inner.clone(), 1);
    let layer = RegistryLayer::new();
    layer.handle().register(add()).unwrap();
    let client = McpClient::new(layer.layer(limited));
    let other = client.clone();
    let params = json!({ "deep": [1, { "x": null }] });
    let custom = CustomRequest::new("vendor/method", Some(params));
    let asking = tokio::spawn(async move { other.custom_request(custom).await.map(|_| ()) });
    inner.begun.notified().await;
    let heard = inner.heard.lock().unwrap().clone();
    assert!(
        heard[0].contains("vendor/method") && heard[0].contains("deep"),
        "{heard:?}"
    );

    let sum = client
        .call_tool("add")
        .argument("a", 2)
        .argument("b", 2)
        .await
        .unwrap();
    assert_eq!(said(&sum), "4");
    asking.abort();
}
