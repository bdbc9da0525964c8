//! What a member's layers are told of what its tools say of themselves.

use rmcp_layers::cache::CacheLayer;

use super::*;

/// What was told of each call.
type Told = Arc<Mutex<Vec<Option<ToolHints>>>>;

/// A member with a tool that says it only reads. Notes how often it is listed, and what its calls come with.
fn member() -> (Member, Told, Arc<AtomicUsize>) {
    let (told, lists) = (Told::default(), Arc::new(AtomicUsize::new(0)));
    let (noted, counted) = (told.clone(), lists.clone());
    let stack = service_fn(move |request: McpRequest| {
        let result: Result<ServerResult, Error> = match &*request.message {
            ClientRequest::ListToolsRequest(_) => {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut reads = named("reads");
                reads.annotations = Some(ToolAnnotations::new().read_only(true));
                let mut list = ListToolsResult::with_all_items(vec![reads, named("writes")]);
                list.ttl_ms = Some(60_000);
                Ok(list.into())
            }
            ClientRequest::CallToolRequest(_) => {
                let hints = request.context.extensions.get::<ToolHints>().copied();
                noted.lock().unwrap().push(hints);
                Ok(CallToolResult::success(Vec::new()).into())
            }
            _ => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "no", None).into()),
        };
        std::future::ready(result.map(McpResponse::new))
    });
    (Member::new("m", stack), told, lists)
}

fn read_only() -> ToolHints {
    let mut hints = ToolHints::default();
    hints.read_only = true;
    hints
}

async fn hints_of(gateway: &Gateway, told: &Told, name: &str) -> Option<ToolHints> {
    call(gateway, name).await.unwrap();
    told.lock().unwrap().pop().unwrap()
}

#[tokio::test]
async fn a_trusted_members_layers_receive_the_hints_of_its_list() {
    let (member, told, lists) = member();
    let member = member.trust_annotations(true);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    // The list is fetched once, by the first call.
    let hints = hints_of(&gateway, &told, "m__reads").await;
    assert_eq!(hints, Some(read_only()));
    assert_eq!(lists.load(Ordering::SeqCst), 1);

    listed(&gateway).await;
    let hints = hints_of(&gateway, &told, "m__reads").await;
    assert_eq!(hints, Some(read_only()));
    let hints = hints_of(&gateway, &told, "m__writes").await;
    assert_eq!(hints, Some(ToolHints::default()));
    // Nobody else's list speaks for a caller.
    assert_eq!(lists.load(Ordering::SeqCst), 1);
    let mut request = McpRequest::call_tool("m__reads").build();
    request.context.set_principal(Principal::new("alice"));
    gateway.clone().oneshot(request).await.unwrap();
    assert_eq!(told.lock().unwrap().pop(), Some(Some(read_only())));
    assert_eq!(lists.load(Ordering::SeqCst), 2);

    // Another member comes: what was merged is forgotten, the lists are not.
    gateway.handle().add(down("other")).unwrap();
    let hints = hints_of(&gateway, &told, "m__reads").await;
    assert_eq!(hints, Some(read_only()));
    assert_eq!(lists.load(Ordering::SeqCst), 2);
}

/// A member whose one tool is what `reads` says, and whose lists come when `lists` lets them.
fn changing(
    reads: Arc<std::sync::atomic::AtomicBool>,
    lists: Arc<tokio::sync::Semaphore>,
) -> (Member, Told, Arc<tokio::sync::Notify>) {
    let (told, change) = (Told::default(), Arc::new(tokio::sync::Notify::new()));
    let (noted, changed) = (told.clone(), change.clone());
    let stack = service_fn(move |request: McpRequest| {
        let (reads, lists, noted, changed) =
            (reads.clone(), lists.clone(), noted.clone(), changed.clone());
        async move {
            let result: Result<ServerResult, Error> = match &*request.message {
                ClientRequest::ListToolsRequest(_) => {
                    lists.acquire().await.unwrap().forget();
                    let reads = reads.load(Ordering::SeqCst);
                    let mut tool = named("tool");
                    tool.annotations = Some(ToolAnnotations::new().read_only(reads));
                    Ok(ListToolsResult::with_all_items(vec![tool]).into())
                }
                ClientRequest::CallToolRequest(_) => {
                    let hints = request.context.extensions.get::<ToolHints>().copied();
                    noted.lock().unwrap().push(hints);
                    Ok(CallToolResult::success(Vec::new()).into())
                }
                ClientRequest::SubscriptionsListenRequest(listen) => {
                    let accepted = listen.params.notifications.clone();
                    let params = SubscriptionsAcknowledgedNotificationParams::new(accepted);
                    let accepted = SubscriptionsAcknowledgedNotification::new(params);
                    request.context.caller.notify(accepted.into()).await?;
                    loop {
                        changed.notified().await;
                        let change = ToolListChangedNotification::default();
                        request.context.caller.notify(change.into()).await?;
                    }
                }
                _ => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "no", None).into()),
            };
            result.map(McpResponse::new)
        }
    });
    let member = Member::new("m", stack).trust_annotations(true);
    (member, told, change)
}

#[tokio::test(start_paused = true)]
async fn the_hints_of_a_list_hold_until_the_new_one_arrives() {
    for prefix in [Prefix::Always, Prefix::Never] {
        let reads = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let lists = Arc::new(tokio::sync::Semaphore::new(1));
        let (member, told, change) = changing(reads.clone(), lists.clone());
        let gateway = Gateway::builder()
            .prefix(prefix)
            .add_member(member)
            .build()
            .unwrap();
        let name = match prefix {
            Prefix::Always => "m__tool",
            _ => "tool",
        };
        assert_eq!(hints_of(&gateway, &told, name).await, Some(read_only()));
        tokio::time::sleep(Duration::from_secs(10)).await;

        reads.store(false, Ordering::SeqCst);
        change.notify_one();
        tokio::time::sleep(Duration::from_secs(10)).await;
        // The new list is asked for by the first call, and no call waits for it.
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(hints_of(&gateway, &told, name).await, Some(read_only()));
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        lists.add_permits(10);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let hints = hints_of(&gateway, &told, name).await;
        assert_eq!(hints, Some(ToolHints::default()), "{prefix:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_does_not_come_holds_a_call_up_briefly_and_rarely() {
    let lists = Arc::new(tokio::sync::Semaphore::new(0));
    let (member, told, _change) = changing(Arc::default(), lists);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(hints_of(&gateway, &told, "m__tool").await, None);
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn an_untrusted_members_layers_receive_no_claim_that_a_tool_is_harmless() {
    for (trusted, expected) in [(None, None), (Some(false), Some(ToolHints::default()))] {
        let (mut member, told, _) = member();
        if let Some(trusted) = trusted {
            member = member.trust_annotations(trusted);
        }
        let gateway = Gateway::builder().add_member(member).build().unwrap();
        assert_eq!(hints_of(&gateway, &told, "m__reads").await, expected);
        // Clients see what the member says, whatever is made of it.
        let tools = McpClient::new(gateway.clone()).list_all_tools().await;
        let says = tools.unwrap()[0].annotations.clone().unwrap();
        assert_eq!(says.read_only_hint, Some(true));
        assert_eq!(hints_of(&gateway, &told, "m__reads").await, expected);
    }
}

#[tokio::test]
async fn hints_of_an_outer_layer_stay_unless_the_member_is_distrusted() {
    let mut destructive = ToolHints::default();
    destructive.destructive = true;
    let mut said = destructive;
    said.idempotent = true;
    for (trusted, expected) in [(true, said), (false, destructive)] {
        let (member, told, _) = member();
        let member = member.trust_annotations(trusted);
        let gateway = Gateway::builder().add_member(member).build().unwrap();
        listed(&gateway).await;
        let mut request = McpRequest::call_tool("m__reads").build();
        request.context.extensions.insert(said);
        gateway.oneshot(request).await.unwrap();
        assert_eq!(told.lock().unwrap().pop(), Some(Some(expected)));
    }
}

#[tokio::test]
async fn a_cache_inside_a_distrusted_member_keeps_nothing_on_its_word() {
    let trusting = CacheLayer::builder().trust_annotations(true);
    let trusting = trusting.build().unwrap();
    for (trusted, runs) in [(None, 1), (Some(true), 1), (Some(false), 3)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let server = service_fn(move |request: McpRequest| {
            let result: Result<ServerResult, Error> = match &*request.message {
                ClientRequest::ListToolsRequest(_) => {
                    let mut reads = named("reads");
                    reads.annotations = Some(ToolAnnotations::new().read_only(true));
                    Ok(ListToolsResult::with_all_items(vec![reads]).into())
                }
                ClientRequest::CallToolRequest(_) => {
                    count.fetch_add(1, Ordering::SeqCst);
                    Ok(CallToolResult::success(Vec::new()).into())
                }
                _ => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "no", None).into()),
            };
            std::future::ready(result.map(McpResponse::new))
        });
        let cached = ServiceBuilder::new()
            .layer(trusting.clone())
            .service(server);
        let mut member = Member::new("m", cached);
        if let Some(trusted) = trusted {
            member = member.trust_annotations(trusted);
        }
        let gateway = Gateway::builder().add_member(member).build().unwrap();
        listed(&gateway).await;
        for _ in 0..3 {
            call(&gateway, "m__reads").await.unwrap();
        }
        assert_eq!(calls.load(Ordering::SeqCst), runs, "{trusted:?}");
    }
}
