//! The health of tools.

use super::*;

/// A tool whose check fails while `broken` is set, and how often the check ran.
fn checked(
    name: &str,
    policy: HealthPolicy,
) -> (RegisteredTool, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (broken, checks) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let check = {
        let (broken, checks) = (broken.clone(), checks.clone());
        move || {
            checks.fetch_add(1, Ordering::SeqCst);
            let answer = match broken.load(Ordering::SeqCst) {
                false => Ok(()),
                true => Err("the printer is on fire"),
            };
            async move { answer }
        }
    };
    let tool = RegisteredTool::builder(name)
        .handler(|_: JsonObject, _| async { Ok::<_, BoxError>("ok".to_owned()) })
        .health_check(check)
        .health(policy);
    (tool.build().unwrap(), broken, checks)
}

fn state(registry: &RegistryHandle, name: &str) -> HealthState {
    let tools = registry.tools();
    tools
        .iter()
        .find(|tool| tool.name == name)
        .unwrap()
        .health
        .state
}

#[tokio::test(start_paused = true)]
async fn a_tool_whose_checks_fail_leaves_the_list_says_why_and_comes_back() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let (tool, broken, checks) = checked("print", HealthPolicy::new());
    registry.register(tool).unwrap();
    assert_eq!(state(&registry, "print"), HealthState::Unknown);
    let (client, ears) = connect(layer.into_service(info())).await;
    tokio::time::sleep(in_seconds(1)).await;
    assert_eq!(
        checks.load(Ordering::SeqCst),
        1,
        "the first check is at once"
    );
    assert_eq!(state(&registry, "print"), HealthState::Healthy);
    // Past the changes that came with the connection.
    tokio::time::sleep(in_seconds(5)).await;
    let heard = ears.changes.load(Ordering::SeqCst);

    broken.store(true, Ordering::SeqCst);
    tokio::time::sleep(in_seconds(34)).await;
    assert_eq!(state(&registry, "print"), HealthState::Degraded);
    assert_eq!(
        client.list_all_tools().await.unwrap().len(),
        1,
        "degraded is still listed"
    );
    tokio::time::sleep(in_seconds(67)).await;
    assert_eq!(state(&registry, "print"), HealthState::Unhealthy);
    assert_eq!(client.list_all_tools().await.unwrap().len(), 0);
    assert_eq!(ears.changes.load(Ordering::SeqCst), heard + 1);
    let error = try_call(&client, "print", json!({})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    assert!(
        error
            .message
            .starts_with("Tool not found or unhealthy: print"),
        "{}",
        error.message
    );
    assert!(
        error.message.contains("the printer is on fire"),
        "{}",
        error.message
    );

    broken.store(false, Ordering::SeqCst);
    tokio::time::sleep(in_seconds(34)).await;
    assert_eq!(
        state(&registry, "print"),
        HealthState::Unhealthy,
        "one success is not enough"
    );
    tokio::time::sleep(in_seconds(34)).await;
    assert_eq!(state(&registry, "print"), HealthState::Healthy);
    assert_eq!(ears.changes.load(Ordering::SeqCst), heard + 2);
    assert_eq!(said(&call(&client, "print", json!({})).await), "ok");
}

#[tokio::test(start_paused = true)]
async fn checks_are_jittered_bounded_timed_out_and_may_panic() {
    let layer = RegistryLayer::builder()
        .max_concurrent_checks(2)
        .build()
        .unwrap();
    let registry = layer.handle();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for n in 0..6 {
        let (running, most) = (running.clone(), most.clone());
        let tool = RegisteredTool::builder(format!("slow-{n}"))
            .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(String::new()) })
            .health_check(move || {
                let (running, most) = (running.clone(), most.clone());
                async move {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    tokio::time::sleep(in_seconds(2)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, BoxError>(())
                }
            });
        registry.register(tool.build().unwrap()).unwrap();
    }
    tokio::time::sleep(in_seconds(7)).await;
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert!(
        registry
            .tools()
            .iter()
            .all(|tool| tool.health.state == HealthState::Healthy)
    );

    let once = HealthPolicy::new().fail_after(1);
    let hangs = RegisteredTool::builder("hangs")
        .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(String::new()) })
        .health(once.clone())
        .health_check(std::future::pending::<Result<(), BoxError>>);
    let panics = RegisteredTool::builder("panics")
        .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(String::new()) })
        .health(once)
        .health_check(|| -> std::future::Ready<Result<(), BoxError>> { panic!("no such check") });
    registry.register(hangs.build().unwrap()).unwrap();
    registry.register(panics.build().unwrap()).unwrap();
    tokio::time::sleep(in_seconds(20)).await;
    let why = |name: &str| {
        let tools = registry.tools();
        let tool = tools.iter().find(|tool| tool.name == name).unwrap();
        tool.health.reason.clone().unwrap().to_string()
    };
    assert_eq!(why("hangs"), "the check took longer than 5s");
    assert_eq!(why("panics"), "the check panicked");
}

#[tokio::test(start_paused = true)]
async fn real_calls_tell_of_health_and_a_tool_without_a_check_gets_a_trial() {
    let layer = RegistryLayer::new();
    let registry = layer.handle();
    let broken = Arc::new(AtomicBool::new(true));
    let tool = |name: &str, passive| {
        let broken = broken.clone();
        let tool = RegisteredTool::builder(name)
            .health(HealthPolicy::new().fail_after(2).passive(passive))
            .handler(move |_: JsonObject, _| {
                let answer = match broken.load(Ordering::SeqCst) {
                    true => Err("no paper"),
                    false => Ok("printed".to_owned()),
                };
                async move { answer }
            });
        tool.build().unwrap()
    };
    registry
        .register(tool("strict", Passive::ToolErrors))
        .unwrap();
    registry
        .register(tool("lenient", Passive::Failures))
        .unwrap();
    let client = McpClient::new(layer.into_service(info()));
    for _ in 0..2 {
        assert_eq!(
            client.call_tool("strict").await.unwrap().is_error,
            Some(true)
        );
        assert_eq!(
            client.call_tool("lenient").await.unwrap().is_error,
            Some(true)
        );
    }
    assert_eq!(
        state(&registry, "lenient"),
        HealthState::Healthy,
        "an answer is an answer"
    );
    assert_eq!(state(&registry, "strict"), HealthState::Unhealthy);
    assert_eq!(names(&client.list_all_tools().await.unwrap()), ["lenient"]);
    let error = client.call_tool("strict").await.unwrap_err().to_string();
    assert!(error.contains("its calls failed: tool_error"), "{error}");
    assert!(
        !error.contains("no paper"),
        "what one caller was told is not for another: {error}"
    );
    let reason = registry.tools()[1].health.reason.clone();
    assert_eq!(reason.as_deref(), Some("no paper"));

    tokio::time::sleep(in_seconds(31)).await;
    assert_eq!(state(&registry, "strict"), HealthState::Unknown);
    client.call_tool("strict").await.unwrap();
    assert_eq!(
        state(&registry, "strict"),
        HealthState::Unhealthy,
        "one failure ends the trial"
    );
    tokio::time::sleep(in_seconds(31)).await;
    broken.store(false, Ordering::SeqCst);
    assert_eq!(said(&client.call_tool("strict").await.unwrap()), "printed");
    assert_eq!(state(&registry, "strict"), HealthState::Healthy);
}

#[tokio::test(start_paused = true)]
async fn inner_tools_are_hidden_by_the_policy_of_their_group_or_each_by_itself() {
    let policy = HealthPolicy::new().fail_after(2);
    let check_fails = Arc::new(AtomicBool::new(false));
    let check = {
        let fails = check_fails.clone();
        move || {
            let answer = if fails.load(Ordering::SeqCst) {
                Err("down")
            } else {
                Ok(())
            };
            async move { answer }
        }
    };
    let inner = Inner::default();
    let each = RegistryLayer::builder().inner_health(InnerHealth::each("").policy(policy.clone()));
    let each = each.build().unwrap();
    let group = InnerHealth::group("").policy(policy).check(check);
    let group = RegistryLayer::builder()
        .inner_health(group)
        .build()
        .unwrap();
    let (one, all) = (each.handle(), group.handle());
    let each = McpClient::new(each.layer(Handler::new(inner.clone())));
    let group = McpClient::new(group.layer(Handler::new(inner.clone())));

    inner.broken.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(each.call_tool("fail").await.unwrap_err().is_protocol());
    }
    assert_eq!(names(&each.list_all_tools().await.unwrap()), ["echo"]);
    assert_eq!(
        one.inner_health("fail").unwrap().state,
        HealthState::Unhealthy
    );
    assert!(one.inner_health("echo").is_none());
    let calls = inner.calls.load(Ordering::SeqCst);
    let error = each.call_tool("fail").await.unwrap_err().to_string();
    assert!(
        error.contains("Tool not found or unhealthy: fail"),
        "{error}"
    );
    let reason = one.inner_health("fail").unwrap().reason.unwrap();
    assert!(reason.contains("out of order"), "{reason}");
    assert_eq!(
        inner.calls.load(Ordering::SeqCst),
        calls,
        "it is not called"
    );

    inner.broken.store(false, Ordering::SeqCst);
    assert_eq!(group.list_all_tools().await.unwrap().len(), 2);
    check_fails.store(true, Ordering::SeqCst);
    tokio::time::sleep(in_seconds(67)).await;
    assert_eq!(group.list_all_tools().await.unwrap().len(), 0);
    assert_eq!(
        all.inner_health("anything").unwrap().state,
        HealthState::Unhealthy
    );
    check_fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(in_seconds(67)).await;
    assert_eq!(group.list_all_tools().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn checks_end_when_the_last_layer_service_and_handle_are_gone() {
    let layer = RegistryLayer::new();
    let (tool, _, checks) = checked("t", HealthPolicy::new());
    layer.handle().register(tool).unwrap();
    let service = layer.clone().into_service(info());
    drop(layer);
    tokio::time::sleep(in_seconds(100)).await;
    let ran = checks.load(Ordering::SeqCst);
    assert!((3..=5).contains(&ran), "{ran} checks in 100 s");
    drop(service);
    tokio::time::sleep(in_seconds(100)).await;
    assert_eq!(checks.load(Ordering::SeqCst), ran);
    assert_eq!(
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        0
    );
}

#[test]
fn impossible_settings_are_refused_when_the_layer_is_built() {
    let refused = |builder: rmcp_layers::registry::RegistryLayerBuilder, option: &str| {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    };
    let builder = RegistryLayer::builder;
    refused(builder().max_tools(0), "max_tools");
    refused(builder().max_concurrent_checks(0), "max_concurrent_checks");
    refused(
        builder().health(HealthPolicy::new().fail_after(0)),
        "health",
    );
    refused(
        builder().health(HealthPolicy::new().timeout(in_seconds(30))),
        "health",
    );
    let each = InnerHealth::each("").check(|| async { Ok::<_, BoxError>(()) });
    refused(builder().inner_health(each), "inner_health");
}
