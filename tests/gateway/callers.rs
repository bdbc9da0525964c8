//! What is one caller's own.

use rmcp_layers::cache::CacheLayer;

use super::*;

fn by_principal(principal: &str, name: &str) -> McpRequest {
    McpRequest::call_tool(name)
        .principal(Principal::new(principal))
        .build()
}

#[tokio::test]
async fn a_per_caller_member_has_a_stack_for_each_principal_within_its_bound() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let member = Member::per_caller("own", PerCaller::Principal, move |context| {
        count.fetch_add(1, Ordering::SeqCst);
        let subject = context.principal().unwrap().subject().to_owned();
        Ok(service_fn(move |request: McpRequest| {
            let subject = subject.clone();
            async move {
                if request.target() == Some("wait") {
                    std::future::pending::<()>().await;
                }
                let said = vec![ContentBlock::text(subject)];
                Ok::<_, Error>(McpResponse::new(CallToolResult::success(said)))
            }
        }))
    });
    let gateway = Gateway::builder()
        .add_member(member.max_stacks(2))
        .build()
        .unwrap();
    for who in ["alice", "bob", "alice", "bob"] {
        assert_eq!(
            said(gateway.clone().oneshot(by_principal(who, "own__who")).await),
            who
        );
    }
    assert_eq!(made.load(Ordering::SeqCst), 2);
    let nobody = call(&gateway, "own__who").await.unwrap_err();
    assert!(nobody.is_refused(), "{nobody}");

    // Both in use: a third has to wait its turn.
    let busy = ["alice", "bob"]
        .map(|who| tokio::spawn(gateway.clone().oneshot(by_principal(who, "own__wait"))));
    tokio::task::yield_now().await;
    let refused = gateway
        .clone()
        .oneshot(by_principal("carol", "own__who"))
        .await
        .unwrap_err();
    assert!(refused.is_refused(), "{refused}");
    for call in busy {
        call.abort();
        let _ = call.await;
    }
    assert_eq!(
        said(gateway.oneshot(by_principal("carol", "own__who")).await),
        "carol"
    );
    assert_eq!(made.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn an_unused_stack_is_dropped() {
    let alive = Arc::new(());
    let held = alive.clone();
    let member = Member::per_caller("own", PerCaller::Session, move |_| {
        let held = held.clone();
        Ok(service_fn(move |_request: McpRequest| {
            let _held = held.clone();
            std::future::ready(Ok::<_, Error>(McpResponse::new(EmptyResult {})))
        }))
    });
    let member = member.idle_timeout(Duration::from_secs(60));
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    call(&gateway, "own__x").await.unwrap();
    let before = Arc::strong_count(&alive);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(Arc::strong_count(&alive) < before);
    call(&gateway, "own__x").await.unwrap();
    assert_eq!(Arc::strong_count(&alive), before);
}

/// Each caller's answers to the same requests.
async fn answers(gateway: &Gateway, who: &str) -> Vec<McpResponse> {
    let discover = McpRequest::new(DiscoverRequest::default());
    let requests = [
        McpRequest::call_tool("own__a").build(),
        McpRequest::list_tools(),
        McpRequest::read_resource("own+file:///a"),
        discover,
    ];
    let mut answers = Vec::new();
    for mut request in requests {
        request.context.set_principal(Principal::new(who));
        answers.push(gateway.clone().oneshot(request).await.unwrap());
    }
    answers
}

#[tokio::test]
async fn answers_with_a_part_of_a_per_caller_member_are_private_to_the_caller() {
    let (alice, bob) = (Principal::new("alice"), Principal::new("bob"));
    let (alice, bob) = (Audience::principal(&alice), Audience::principal(&bob));
    for (by, for_alice) in [(PerCaller::Principal, true), (PerCaller::Session, false)] {
        let own = Member::per_caller("own", by, |_| Ok(Shop::with("own", &["a"]).piped()));
        let gateway = Gateway::builder()
            .add_member(own)
            .member("shared", Shop::with("shared", &["b"]).piped())
            .build()
            .unwrap();
        for answer in answers(&gateway, "alice").await {
            assert_eq!(answer.is_for(&alice), for_alice, "{by:?} {answer:?}");
            assert!(!answer.is_for(&bob), "{by:?} {answer:?}");
            assert!(!answer.is_for(&Audience::anonymous()), "{by:?} {answer:?}");
        }
        // The other members' own answers are anybody's.
        let shared = gateway.oneshot(by_principal("alice", "shared__b")).await;
        assert!(shared.unwrap().is_for(&Audience::anonymous()));
    }
}

#[tokio::test]
async fn a_caller_receives_its_own_stacks_changes_and_its_new_list() {
    let shops = ["alice", "bob"].map(|name| Shop::with(name, &["a"]));
    let [alice, bob] = shops.clone();
    let own = Member::per_caller("own", PerCaller::Principal, move |context| {
        let who = context.principal().unwrap().subject();
        Ok(shops[usize::from(who == "bob")].piped())
    });
    let gateway = Gateway::builder()
        .add_member(own)
        .member("shared", Shop::with("shared", &[]).piped())
        .build()
        .unwrap();
    let client = |who: &'static str| {
        let stack = ServiceBuilder::new()
            .map_request(move |mut request: McpRequest| {
                request.context.set_principal(Principal::new(who));
                request
            })
            .service(gateway.clone());
        McpClient::new(stack)
    };
    let filter = || SubscriptionFilter::builder().tools_list_changed().build();
    let (alices, bobs) = (client("alice"), client("bob"));
    let mut alice_hears = alices.listen(filter()).await.unwrap();
    let mut bob_hears = bobs.listen(filter()).await.unwrap();
    alice.until_listened_to(1).await;
    bob.until_listened_to(1).await;
    assert_eq!(names(&alices.list_all_tools().await.unwrap()), ["own__a"]);

    alice.stock(&["b"]).await;
    soon("alice's change", alice_hears.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(names(&alices.list_all_tools().await.unwrap()), ["own__b"]);
    assert_eq!(names(&bobs.list_all_tools().await.unwrap()), ["own__a"]);
    let nothing = tokio::time::timeout(Duration::from_millis(50), bob_hears.next());
    assert!(nothing.await.is_err());
    bob.stock(&["c"]).await;
    soon("bob's change", bob_hears.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(names(&bobs.list_all_tools().await.unwrap()), ["own__c"]);
}

#[tokio::test]
async fn a_session_of_an_older_revision_receives_its_own_stacks_changes() {
    let shops = ["alice", "bob"].map(|name| Shop::with(name, &["a"]));
    let [alice, bob] = shops.clone();
    for by in [PerCaller::Principal, PerCaller::Session] {
        let shops = shops.clone();
        let own = Member::per_caller("own", by, move |context| {
            let who = context.principal().unwrap().subject();
            Ok(shops[usize::from(who == "bob")].piped())
        });
        let gateway = Gateway::builder()
            .add_member(own)
            .member("shared", Shop::with("shared", &[]).piped())
            .build()
            .unwrap();
        let client = async |who: &'static str| {
            let stack = ServiceBuilder::new()
                .map_request(move |mut request: McpRequest| {
                    request.context.set_principal(Principal::new(who));
                    request
                })
                .service(gateway.clone());
            Client::legacy(who, stack).await
        };
        let (mut alices, mut bobs) = (client("alice").await, client("bob").await);
        let before = [&alice, &bob].map(|shop| shop.0.listens.lock().unwrap().len());
        for client in [&alices, &bobs] {
            let listed = client.peer.list_all_tools().await.unwrap();
            assert_eq!(names(&listed), ["own__a"]);
            let subscribe = SubscribeRequestParams::new("own+file:///a");
            soon("subscribing", client.peer.subscribe(subscribe))
                .await
                .unwrap();
        }
        alice.until_listened_to(before[0].max(1)).await;
        bob.until_listened_to(before[1].max(1)).await;

        alice.stock(&["b"]).await;
        let update = ResourceUpdatedNotificationParam::new("file:///a");
        alice.tell(ResourceUpdatedNotification::new(update)).await;
        assert_eq!(alices.hear("a change").await, Heard::Tools);
        let updated = Heard::Updated("own+file:///a".to_owned());
        assert_eq!(alices.hear("an update").await, updated);
        let listed = alices.peer.list_all_tools().await.unwrap();
        assert_eq!(names(&listed), ["own__b"]);
        let listed = bobs.peer.list_all_tools().await.unwrap();
        assert_eq!(names(&listed), ["own__a"]);
        assert!(bobs.heard.try_recv().is_err(), "what is alice's alone");
        alice.stock(&["a"]).await;
    }
}

#[tokio::test]
async fn a_cache_outside_keeps_no_answer_of_a_session_for_another() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let own = Member::per_caller("own", PerCaller::Session, move |_| {
        let session = count.fetch_add(1, Ordering::SeqCst);
        let said = vec![ContentBlock::text(format!("session {session}"))];
        Ok(service_fn(move |request: McpRequest| {
            let result = match request.as_tool_call() {
                Some(_) => Ok(McpResponse::new(CallToolResult::success(said.clone()))),
                None => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "no", None)),
            };
            std::future::ready(result.map_err(Error::from))
        }))
    });
    let gateway = Gateway::builder()
        .add_member(own)
        .member("shared", Shop::with("shared", &[]).piped())
        .build()
        .unwrap();
    let cache = CacheLayer::builder().cache_tool("*").build().unwrap();
    let stack = ServiceBuilder::new().layer(cache).service(gateway);
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let client = Client::legacy("l", stack.clone()).await;
        let call = async || text(&client.call(tool("own__who", json!({}))).await).to_owned();
        let answer = call().await;
        assert_eq!(call().await, answer);
        assert!(seen.insert(answer), "{seen:?}");
    }
}

#[tokio::test]
async fn two_principals_in_one_session_have_a_stack_each() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let member = Member::per_caller("own", PerCaller::Session, move |_| {
        let stack = count.fetch_add(1, Ordering::SeqCst);
        Ok(service_fn(move |_request: McpRequest| async move {
            let said = vec![ContentBlock::text(format!("stack {stack}"))];
            Ok::<_, Error>(McpResponse::new(CallToolResult::success(said)))
        }))
    });
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    let who = Arc::new(Mutex::new("alice"));
    let caller = who.clone();
    let stack = ServiceBuilder::new()
        .map_request(move |mut request: McpRequest| {
            let principal = Principal::new(*caller.lock().unwrap());
            request.context.set_principal(principal);
            request
        })
        .service(gateway);
    let client = McpClient::new(stack);
    let mut answers = Vec::new();
    for name in ["alice", "mallory", "alice"] {
        *who.lock().unwrap() = name;
        let answer = client.call_tool("own__x").await.unwrap();
        answers.push(text(&answer).to_owned());
    }
    assert_eq!(answers, ["stack 0", "stack 1", "stack 0"]);
}

#[tokio::test]
async fn each_older_session_has_a_stack_of_its_own_and_later_callers_share_theirs() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let shop = Shop::with("shop", &["a"]);
    let served = shop.clone();
    let member = Member::per_caller("shop", PerCaller::LegacySession, move |_context| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(served.piped())
    });
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    for sessions in 1..=3 {
        let client = Client::legacy("older", gateway.clone()).await;
        let tools = client.peer.list_tools(None).await.unwrap().tools;
        assert_eq!(names(&tools), ["shop__a"]);
        assert_eq!(made.load(Ordering::SeqCst), sessions);
    }
    for _ in 0..3 {
        let client = Client::modern("later", gateway.clone()).await;
        let tools = client.peer.list_tools(None).await.unwrap().tools;
        assert_eq!(names(&tools), ["shop__a"]);
    }
    assert_eq!(made.load(Ordering::SeqCst), 4);
    let by = |principal: &'static str| {
        let request = McpRequest::call_tool("shop__a").principal(Principal::new(principal));
        soon("a call", gateway.clone().oneshot(request.build()))
    };
    for principal in ["alice", "alice", "bob"] {
        by(principal).await.unwrap();
    }
    assert_eq!(made.load(Ordering::SeqCst), 6);
}
