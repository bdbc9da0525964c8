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
        let result: Result<ServerResult, Error> = match &request.message {
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

async fn told_of(gateway: &Gateway, told: &Told, name: &str) -> Option<ToolHints> {
    call(gateway, name).await.unwrap();
    told.lock().unwrap().pop().unwrap()
}

#[tokio::test]
async fn a_trusted_members_layers_are_told_what_a_known_list_says_of_the_tool() {
    let (member, told, lists) = member();
    let member = member.trust_annotations(true);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    // Nothing is known, and no list is fetched to know it.
    assert_eq!(told_of(&gateway, &told, "m__reads").await, None);
    assert_eq!(lists.load(Ordering::SeqCst), 0);

    listed(&gateway).await;
    let hints = told_of(&gateway, &told, "m__reads").await;
    assert_eq!(hints, Some(read_only()));
    let hints = told_of(&gateway, &told, "m__writes").await;
    assert_eq!(hints, Some(ToolHints::default()));
    // Nobody else's list speaks for a caller.
    let mut request = McpRequest::call_tool("m__reads").build();
    request.context.set_principal(Principal::new("alice"));
    gateway.clone().oneshot(request).await.unwrap();
    assert_eq!(told.lock().unwrap().pop(), Some(None));

    // Another member comes: what was merged is forgotten, the lists are not.
    gateway.handle().add(down("other")).unwrap();
    let hints = told_of(&gateway, &told, "m__reads").await;
    assert_eq!(hints, Some(read_only()));
    assert_eq!(lists.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_untrusted_members_layers_are_not_told_that_a_tool_is_harmless() {
    for (trusted, expected) in [(None, None), (Some(false), Some(ToolHints::default()))] {
        let (mut member, told, _) = member();
        if let Some(trusted) = trusted {
            member = member.trust_annotations(trusted);
        }
        let gateway = Gateway::builder().add_member(member).build().unwrap();
        assert_eq!(told_of(&gateway, &told, "m__reads").await, expected);
        // Clients see what the member says, whatever is made of it.
        let tools = McpClient::new(gateway.clone()).list_all_tools().await;
        let says = tools.unwrap()[0].annotations.clone().unwrap();
        assert_eq!(says.read_only_hint, Some(true));
        assert_eq!(told_of(&gateway, &told, "m__reads").await, expected);
    }
}

#[tokio::test]
async fn what_a_layer_outside_said_of_a_tool_stands_unless_the_member_is_distrusted() {
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
            let result: Result<ServerResult, Error> = match &request.message {
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
