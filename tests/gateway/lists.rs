//! Lists: fetched together, remembered and merged.

use super::*;

#[tokio::test]
async fn all_pages_of_all_members_are_listed_and_cursors_outlive_members() {
    let many: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let paged = |name| Shop::of(name, &many, |state| state.page = 3);
    let gateway = Gateway::builder()
        .member("a", paged("a").piped())
        .member("b", paged("b").piped())
        .member("c", paged("c").piped())
        .page_size(7)
        .build()
        .unwrap();
    let client = McpClient::new(gateway.clone());
    assert_eq!(client.list_all_tools().await.unwrap().len(), 30);

    // Two pages: all of `a`, and the first four of `b`.
    let first = client.list_tools(None).await.unwrap();
    let second = client.list_tools(first.next_cursor).await.unwrap();
    assert_eq!(second.tools.last().unwrap().name, "b__t3");
    // One leaves before the cursor, one joins.
    gateway.handle().remove("a");
    gateway
        .handle()
        .add(Member::new("d", paged("d").piped()))
        .unwrap();
    let mut rest = Vec::new();
    let mut cursor = second.next_cursor.clone();
    while let Some(next) = cursor {
        let page = client.list_tools(Some(next)).await.unwrap();
        rest.extend(page.tools);
        cursor = page.next_cursor;
    }
    assert_eq!(rest.first().unwrap().name, "b__t4");
    assert_eq!(rest.last().unwrap().name, "d__t9");
    assert_eq!(rest.len(), 6 + 10 + 10);
    // The cursor's own member leaves.
    gateway.handle().remove("b");
    let page = client.list_tools(second.next_cursor).await.unwrap();
    assert_eq!(page.tools[0].name, "c__t0");

    let error = client
        .list_tools(Some("nonsense".to_owned()))
        .await
        .unwrap_err();
    assert_eq!(error.as_protocol().unwrap().code, ErrorCode::INVALID_PARAMS);
}

#[tokio::test]
async fn a_member_that_is_down_is_left_out_and_named() {
    let shop = Shop::with("up", &["a"]);
    let gateway = Gateway::builder()
        .add_member(down("dead"))
        .member("up", shop.piped())
        .build()
        .unwrap();
    let response = gateway
        .clone()
        .oneshot(McpRequest::list_tools())
        .await
        .unwrap();
    let report = response.extensions.get::<ListReport>().unwrap();
    assert_eq!(report.missing, [Arc::from("dead")]);
    let ServerResult::ListToolsResult(list) = &*response.result else {
        panic!("no list")
    };
    assert_eq!(names(&list.tools), ["up__a"]);
    assert_eq!(
        list.meta.as_ref().unwrap()["rmcp-layers/missing"],
        json!(["dead"])
    );

    let error = call(&gateway, "dead__x").await.unwrap_err();
    assert_eq!(error.to_string(), "upstream `dead`: connection refused");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    let members = gateway.handle().members();
    assert!(matches!(
        &members[0].state,
        MemberState::Failed {
            retry_after: Some(_),
            ..
        }
    ));
    assert!(matches!(&members[1].state, MemberState::Connected));

    // And a client can connect.
    let client = Client::legacy("l", gateway).await;
    assert_eq!(text(&client.call(tool("up__a", json!({}))).await), "up: a");
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_holds_no_list_up_and_its_last_list_is_served() {
    let fast = Shop::of("fast", &["a"], |state| state.announces = false);
    let slow = Shop::of("slow", &["b"], |state| state.announces = false);
    let gateway = Gateway::builder()
        .member("fast", fast.piped())
        .member("slow", slow.piped())
        .build()
        .unwrap();
    slow.is_slow(Duration::from_secs(20));
    let started = tokio::time::Instant::now();
    assert_eq!(listed(&gateway).await, ["fast__a"]);
    assert_eq!(started.elapsed().as_secs(), 5);
    // The fetch goes on. Who asks meanwhile does not wait again.
    assert_eq!(listed(&gateway).await, ["fast__a"]);
    assert_eq!(started.elapsed().as_secs(), 5);
    let state = gateway.handle().members()[1].state.clone();
    assert!(matches!(state, MemberState::Degraded { .. }), "{state:?}");
    tokio::time::sleep(Duration::from_secs(30)).await;

    // What came late is the last known list from now on.
    let asked = tokio::time::Instant::now();
    let response = gateway
        .clone()
        .oneshot(McpRequest::list_tools())
        .await
        .unwrap();
    assert_eq!(asked.elapsed().as_secs(), 5);
    let report = response.extensions.get::<ListReport>().unwrap();
    assert_eq!(report.stale, [Arc::from("slow")]);
    let ServerResult::ListToolsResult(list) = &*response.result else {
        panic!("no list")
    };
    assert_eq!(names(&list.tools), ["fast__a", "slow__b"]);
    // A call is not held up either.
    assert_eq!(said(call(&gateway, "slow__b").await), "slow: b");
}

#[tokio::test]
async fn a_known_list_costs_no_round_trip_until_it_changes() {
    let (one, other, gateway) = two();
    assert_eq!(listed(&gateway).await.len(), 4);
    one.until_listened_to(1).await;
    other.until_listened_to(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    listed(&gateway).await;
    let before = (one.lists(), other.lists());
    for _ in 0..10 {
        assert_eq!(listed(&gateway).await.len(), 4);
    }
    assert_eq!((one.lists(), other.lists()), before);
    one.stock(&["new"]).await;
    let changed = async {
        while listed(&gateway).await != ["one__new", "other__b", "other__same"] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the new list", changed).await;
    assert_eq!((one.lists(), other.lists()), (before.0 + 1, before.1));
}

#[tokio::test]
async fn a_private_list_is_never_shown_to_another_principal() {
    let member = service_fn(|request: McpRequest| async move {
        if !matches!(*request.message, ClientRequest::ListToolsRequest(_)) {
            return Err(Error::from(ErrorData::new(
                ErrorCode::METHOD_NOT_FOUND,
                "no",
                None,
            )));
        }
        let who = request
            .context
            .principal()
            .map_or("nobody", |p| p.subject());
        let mut list = ListToolsResult::with_all_items(vec![named(who)]);
        list.ttl_ms = Some(60_000);
        list.cache_scope = Some(CacheScope::Private);
        Ok(McpResponse::new(list))
    });
    let gateway = Gateway::builder().member("m", member).build().unwrap();
    assert_eq!(listed(&gateway).await, ["m__nobody"]);
    for who in ["alice", "bob", "alice"] {
        let mut request = McpRequest::list_tools();
        request.context.set_principal(Principal::new(who));
        let response = gateway
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_result();
        let ServerResult::ListToolsResult(list) = response else {
            panic!("no list")
        };
        assert_eq!(names(&list.tools), [format!("m__{who}")]);
        assert_eq!(list.cache_scope, Some(CacheScope::Private));
    }
    assert_eq!(listed(&gateway).await, ["m__nobody"]);
}

#[tokio::test]
async fn a_list_carries_the_strictest_hints_of_its_parts() {
    let scoped = |name, scope| Shop::of(name, &["a"], |state| state.scope = scope);
    for (other, scope, ttl) in [
        (
            Some(CacheScope::Public),
            Some(CacheScope::Public),
            Some(60_000),
        ),
        (
            Some(CacheScope::Private),
            Some(CacheScope::Private),
            Some(60_000),
        ),
    ] {
        let gateway = Gateway::builder()
            .member("a", scoped("a", Some(CacheScope::Public)).piped())
            .member("b", scoped("b", other).piped())
            .build()
            .unwrap();
        let list = McpClient::new(gateway).list_tools(None).await.unwrap();
        assert_eq!((list.cache_scope, list.ttl_ms), (scope, ttl));
    }
}

#[tokio::test(start_paused = true)]
async fn who_joins_the_fetch_of_anothers_list_is_not_given_it() {
    /// By what an inner layer knows a caller that nothing out here tells from others.
    #[derive(Clone)]
    struct Key(&'static str);
    let member = service_fn(|request: McpRequest| async move {
        if !matches!(*request.message, ClientRequest::ListToolsRequest(_)) {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "no", None).into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Key(who) = request.context.extensions.get::<Key>().unwrap().clone();
        let mut list = ListToolsResult::with_all_items(vec![named(who)]);
        list.ttl_ms = Some(60_000);
        let mut response = McpResponse::new(list);
        response.mark_private(&Principal::new(who));
        Ok::<_, Error>(response)
    });
    let gateway = Gateway::builder().member("m", member).build().unwrap();
    let list = async |who| {
        let mut request = McpRequest::list_tools();
        request.context.extensions.insert(Key(who));
        let response = gateway.clone().oneshot(request).await.unwrap();
        let ServerResult::ListToolsResult(list) = &*response.result else {
            panic!("no list")
        };
        let names = names(&list.tools).join(" ");
        let whose = |who| response.is_for(&Audience::principal(&Principal::new(who)));
        (names, whose("alice"), whose("bob"))
    };
    let (alice, bob) = (
        ("m__alice".to_owned(), true, false),
        ("m__bob".to_owned(), false, true),
    );
    assert_eq!(
        tokio::join!(list("alice"), list("bob")),
        (alice.clone(), bob.clone())
    );
    assert_eq!((list("bob").await, list("alice").await), (bob, alice));
}

#[tokio::test]
async fn a_list_that_an_inner_layer_marks_as_private_is_never_shared() {
    let member = service_fn(|request: McpRequest| async move {
        if !matches!(*request.message, ClientRequest::ListToolsRequest(_)) {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "no", None).into());
        }
        let principal = request.context.principal().unwrap().clone();
        let mut list = ListToolsResult::with_all_items(vec![named(principal.subject())]);
        list.ttl_ms = Some(60_000);
        list.cache_scope = Some(CacheScope::Public);
        let mut response = McpResponse::new(list);
        response.mark_private(&principal);
        Ok::<_, Error>(response)
    });
    let member = Member::new("m", member).shared_lists(true);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    for who in ["alice", "bob", "alice"] {
        let mut request = McpRequest::list_tools();
        request.context.set_principal(Principal::new(who));
        let response = gateway.clone().oneshot(request).await.unwrap();
        let ServerResult::ListToolsResult(list) = response.into_result() else {
            panic!("no list")
        };
        assert_eq!(names(&list.tools), [format!("m__{who}")]);
    }
}

#[tokio::test]
async fn a_member_that_panics_over_a_list_is_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let stack = service_fn(move |request: McpRequest| {
        let count = count.clone();
        async move {
            // Its changes are not heard of, so nothing else has the list fetched anew.
            if !matches!(*request.message, ClientRequest::ListToolsRequest(_)) {
                std::future::pending::<()>().await;
            }
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            assert!(!first, "a layer of the member's panics, on purpose");
            let list = ListToolsResult::with_all_items(vec![named("a")]);
            Ok::<_, Error>(McpResponse::new(list))
        }
    });
    let gateway = Gateway::builder().member("shop", stack).build().unwrap();
    let list = || gateway.clone().oneshot(McpRequest::list_tools());
    soon("an error", list()).await.unwrap_err();
    soon("a list", list()).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn fetches_without_a_waiting_caller_are_bounded() {
    let under_way = Arc::new(());
    let held = under_way.clone();
    let silent = service_fn(move |_request: McpRequest| {
        let held = held.clone();
        async move {
            let _held = held;
            std::future::pending::<Result<McpResponse, Error>>().await
        }
    });
    let gateway = Gateway::builder().member("silent", silent).build().unwrap();
    let before = Arc::strong_count(&under_way);
    let callers = (0..1_000).map(|caller| {
        let mut request = McpRequest::list_tools();
        let principal = Principal::new(format!("caller {caller}"));
        request.context.set_principal(principal);
        gateway.clone().oneshot(request)
    });
    for answer in futures::future::join_all(callers).await {
        assert!(answer.unwrap_err().is_timeout());
    }
    let left = Arc::strong_count(&under_way) - before;
    // The gateway's own listen is one of them.
    assert!(left <= 257, "{left} requests of callers that have left");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(Arc::strong_count(&under_way) - before <= 1);
}
