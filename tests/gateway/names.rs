//! Names: outward, renamed, shortened, in conflict and unknown.

use super::*;

#[tokio::test]
async fn members_tools_are_listed_under_their_names_and_called_by_them() {
    let (_, _, gateway) = two();
    for client in [
        Client::modern("m", gateway.clone()).await,
        Client::legacy("l", gateway.clone()).await,
    ] {
        let tools = client.peer.list_tools(None).await.unwrap().tools;
        assert_eq!(
            names(&tools),
            ["one__a", "one__same", "other__b", "other__same"]
        );
        assert_eq!(tools[0].description.as_deref(), Some("[one] Does a."));
        for (name, answer) in [("one__same", "one: same"), ("other__same", "other: same")] {
            assert_eq!(text(&client.call(tool(name, json!({}))).await), answer);
        }
        let info = client.peer.peer_info().unwrap();
        assert!(info.instructions.as_deref().unwrap().contains("Use other."));
    }
}

#[tokio::test]
async fn two_members_with_one_tool_name_by_each_policy() {
    let (one, other) = (
        Shop::with("one", &["same"]),
        Shop::with("other", &["same", "b"]),
    );
    let gateway = |prefix| {
        Gateway::builder()
            .prefix(prefix)
            .member("one", one.piped())
            .add_member(Member::new("other", other.piped()).priority(1))
            .build()
            .unwrap()
    };
    let collided = gateway(Prefix::OnCollision);
    assert_eq!(listed(&collided).await, ["same", "b", "one__same"]);
    assert_eq!(said(call(&collided, "same").await), "other: same");
    assert_eq!(said(call(&collided, "one__same").await), "one: same");
    // By a gateway that has listed nothing.
    let collided = gateway(Prefix::OnCollision);
    assert_eq!(said(call(&collided, "one__same").await), "one: same");

    let never = gateway(Prefix::Never);
    let error = never.check().await.unwrap_err().to_string();
    assert!(
        error.contains("`other` and `one` both have a tool `same`"),
        "{error}"
    );
    assert_eq!(listed(&never).await, ["same", "b"]);
    assert_eq!(said(call(&never, "same").await), "other: same");
    assert_eq!(never.handle().members()[1].left_out[0], "same");

    gateway(Prefix::Always).check().await.unwrap();
}

#[tokio::test]
async fn an_impossible_configuration_is_refused_when_it_is_built() {
    let shop = Shop::with("s", &[]);
    let member = |name: &str| Member::new(name, shop.piped());
    let two_members = Gateway::builder()
        .add_member(member("a"))
        .add_member(member("a"));
    let two_tools = Gateway::builder()
        .add_member(member("a").rename("x", "z"))
        .add_member(member("b").rename("y", "z"));
    let illegal = member("a").rename_prompt("x", "no spaces");
    for (builder, option, reason) in [
        (two_members, "member", "a member `a` already"),
        (
            Gateway::builder().add_member(member("a__b")),
            "member",
            "use a name without \"__\"",
        ),
        (
            Gateway::builder().separator("/"),
            "separator",
            "use letters",
        ),
        (
            Gateway::builder().max_name_length(5),
            "max_name_length",
            "use 32 to 128",
        ),
        (
            two_tools,
            "rename",
            "renamed to `z`: one of `a`, one of `b`",
        ),
        (
            Gateway::builder().add_member(illegal),
            "rename_prompt",
            "`no spaces` is not a valid name",
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!((error.layer(), error.option()), ("gateway", option));
        assert!(error.reason().contains(reason), "{error}");
    }
    let error = NamespaceLayer::new("a__b").unwrap_err();
    assert_eq!((error.layer(), error.option()), ("namespace", "name"));
}

#[tokio::test]
async fn a_tool_name_of_200_characters_is_shortened_and_leads_back_after_a_restart() {
    let long = "n".repeat(200);
    let longer = format!("{}x", "n".repeat(199));
    let shop = Shop::with("s", &[&long, &longer, "has space"]);
    let gateway = || {
        Gateway::builder()
            .member("s", shop.piped())
            .build()
            .unwrap()
    };
    let outward = listed(&gateway()).await;
    assert!(
        outward
            .iter()
            .all(|name| name.len() <= 64 && !name.contains(' ')),
        "{outward:?}"
    );
    assert_eq!(outward.iter().collect::<HashSet<_>>().len(), 3);
    // A gateway that has listed nothing yet.
    let restarted = gateway();
    for (name, inner) in outward.iter().zip([&*long, &*longer, "has space"]) {
        assert_eq!(said(call(&restarted, name).await), format!("s: {inner}"));
    }
    assert_eq!(listed(&restarted).await, outward);
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_nearest_ones() {
    let (_, _, gateway) = two();
    listed(&gateway).await;
    for (name, nearest) in [
        ("one__sane", "one__same"),
        ("noe__same", "one__same"),
        ("other__bb", "other__b"),
    ] {
        let error = call(&gateway, name).await.unwrap_err();
        let error = error.as_protocol().unwrap();
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
        assert!(
            error.message.starts_with(&format!("Unknown tool: {name}")),
            "{error}"
        );
        assert!(error.message.contains(nearest), "{error}");
        assert_eq!(error.data.as_ref().unwrap()["name"], name);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_has_each_member_asked_once_for_similar_names() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let lost = Member::new(
        "lost",
        service_fn(move |request: McpRequest| {
            if request.method() == "tools/list" {
                count.fetch_add(1, Ordering::SeqCst);
            }
            std::future::ready(Err::<McpResponse, _>(Error::cancelled("not now")))
        }),
    );
    let (one, slow) = (Shop::with("one", &["same"]), Shop::with("slow", &["late"]));
    slow.is_slow(Duration::from_secs(3));
    let gateway = Gateway::builder()
        .add_member(lost)
        .member("one", one.piped())
        .member("slow", slow.piped())
        .build()
        .unwrap();
    let begun = tokio::time::Instant::now();
    let nearest = async |name: &str| {
        let error = call(&gateway, name).await.unwrap_err();
        let error = error.as_protocol().unwrap().clone();
        assert!(error.message.starts_with("Unknown tool: "), "{error}");
        error.data.unwrap()["nearest"].clone()
    };
    // The slow member is not waited for, and the list that it is about to send is there for the next.
    assert_eq!(nearest("slwo__late").await, json!([]));
    assert!(begun.elapsed() <= Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..20 {
        assert_eq!(nearest("oen__same").await, json!(["one__same"]));
    }
    let lists = [one.lists(), slow.lists(), asked.load(Ordering::SeqCst)];
    assert_eq!(lists, [1, 1, 1]);
    assert_eq!(nearest("slwo__late").await, json!(["slow__late"]));
    // What failed is tried again when a list would have grown old.
    tokio::time::sleep(Duration::from_secs(60)).await;
    nearest("oen__same").await;
    nearest("oen__same").await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn filters_overrides_and_read_only_mode_hold_for_lists_and_calls() {
    let mut reads = named("reads");
    reads.annotations = Some(ToolAnnotations::new().read_only(true));
    let shop = Shop::with("s", &["drop", "keep", "raw", "secret"]);
    shop.0.tools.lock().unwrap().push(reads);
    let member = || {
        Member::new("s", shop.piped())
            .filter(Filter::new().deny("s__d*").deny("s+file:///secret*"))
            .rename("raw", "cooked")
            .hide("secret")
            .describe("keep", "Keeps it.")
    };
    let gateway = Gateway::builder().add_member(member()).build().unwrap();
    // Before a list is known, and after.
    for _ in 0..2 {
        for name in ["s__drop", "s__raw", "s__secret"] {
            assert!(call(&gateway, name).await.is_err(), "{name}");
        }
        assert_eq!(said(call(&gateway, "cooked").await), "s: raw");
        assert_eq!(listed(&gateway).await, ["s__keep", "cooked", "s__reads"]);
    }
    let tools = McpClient::new(gateway.clone())
        .list_all_tools()
        .await
        .unwrap();
    assert_eq!(tools[0].description.as_deref(), Some("Keeps it."));
    assert!(
        gateway
            .clone()
            .oneshot(McpRequest::read_resource("s+file:///secret"))
            .await
            .is_err()
    );
    assert!(
        gateway
            .oneshot(McpRequest::read_resource("s+file:///a"))
            .await
            .is_ok()
    );

    for (trusted, names) in [(true, vec!["s__reads"]), (false, vec![])] {
        let member = member().trust_annotations(trusted);
        let gateway = Gateway::builder()
            .read_only(true)
            .add_member(member)
            .build()
            .unwrap();
        assert!(call(&gateway, "s__keep").await.is_err());
        assert_eq!(call(&gateway, "s__reads").await.is_ok(), trusted);
        assert_eq!(listed(&gateway).await, names);
    }
}

fn with_search(shop: &Shop, mode: SearchMode) -> impl common::Stack {
    let layer = RegistryLayer::builder().search(mode).build().unwrap();
    let own = RegisteredTool::builder("own").version("1.0.0");
    let own = own.handler(async |_: JsonObject, _| Ok::<_, BoxError>("own".to_owned()));
    layer.handle().register(own.build().unwrap()).unwrap();
    layer.layer(shop.piped())
}

#[tokio::test]
async fn hidden_items_are_neither_found_nor_called_by_a_members_own_search() {
    let shop = Shop::with("s", &["drop", "keep", "raw", "secret"]);
    for (prefix, before) in [
        (Prefix::Always, "s__"),
        (Prefix::OnCollision, ""),
        (Prefix::Never, ""),
    ] {
        let member = Member::new("s", with_search(&shop, SearchMode::Only))
            .prefix(prefix)
            .filter(
                Filter::new()
                    .deny(format!("{before}d*"))
                    .deny(format!("{before}own")),
            )
            .rename("raw", "cooked")
            .hide("secret");
        // Also a gateway further out, which keeps nothing back.
        let gateway = Gateway::builder().add_member(member).build().unwrap();
        let outer = Gateway::builder()
            .member("o", gateway.clone())
            .build()
            .unwrap();
        for (gateway, before) in [
            (gateway, before.to_owned()),
            (outer, format!("o__{before}")),
        ] {
            listed(&gateway).await;
            let search = McpRequest::call_tool(format!("{before}search_tools"))
                .argument("query", "drop keep raw secret own");
            let found = gateway.clone().oneshot(search.build()).await.unwrap();
            let found = found.as_tool_result().unwrap().structured_content.clone();
            let mut found: Vec<_> = found.unwrap()["tools"]
                .as_array()
                .unwrap()
                .iter()
                .map(|tool| tool["name"].as_str().unwrap().to_owned())
                .collect();
            found.sort_unstable();
            assert_eq!(found, ["keep", "raw"], "`{before}`");
            for (name, called) in [
                ("keep", true),
                ("raw", true),
                ("drop", false),
                ("secret", false),
                ("own", false),
                ("own@1.0.0", false),
            ] {
                let call = McpRequest::call_tool(format!("{before}call_tool"));
                let call = call.argument("name", name).build();
                match gateway.clone().oneshot(call).await {
                    Ok(answer) if called => {
                        assert_eq!(text(answer.as_tool_result().unwrap()), format!("s: {name}"))
                    }
                    Err(error) if !called => {
                        let unknown = format!("Unknown tool: {name}");
                        assert_eq!(error.as_protocol().unwrap().message, unknown);
                    }
                    other => panic!("`{before}` {name}: {other:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_tool_that_is_kept_back_is_so_in_all_its_versions() {
    let shop = Shop::with("s", &[]);
    let member = || Member::new("s", with_search(&shop, SearchMode::Beside)).call_unlisted(true);
    for (member, name) in [
        (member(), None),
        (
            member().filter(Filter::new().deny("s__own")),
            Some("s__own"),
        ),
        (member().hide("own"), Some("s__own")),
        (member().rename("own", "mine"), Some("s__own")),
    ] {
        let gateway = Gateway::builder().add_member(member).build().unwrap();
        for version in ["", "@1.0.0"] {
            let called = call(&gateway, &format!("s__own{version}")).await;
            assert_eq!(called.is_err(), name.is_some(), "{version} {called:?}");
        }
    }
}

#[tokio::test]
async fn an_only_member_without_a_prefix_is_passed_through() {
    let shop = Shop::of("solo", &["a", "b__c", "has space"], |state| state.page = 2);
    let member = Member::new("solo", shop.piped()).prefix(Prefix::Never);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    let (through, bare) = (
        McpClient::new(gateway.clone()),
        McpClient::new(shop.piped()),
    );
    let page = async |client: &McpClient<_>| client.list_tools(None).await.unwrap();
    assert_eq!(page(&through).await, {
        let page = bare.list_tools(None).await.unwrap();
        assert_eq!(page.next_cursor.as_deref(), Some("2"));
        page
    });
    assert_eq!(said(call(&gateway, "b__c").await), "solo: b__c");
    assert_eq!(said(call(&gateway, "unheard of").await), "solo: unheard of");
    let client = Client::legacy("l", gateway).await;
    let info = client.peer.peer_info().unwrap();
    assert_eq!(info.server_info.as_ref().unwrap().name, "solo");
    assert_eq!(info.instructions.as_deref(), Some("Use solo."));
}

#[tokio::test]
async fn a_namespace_names_one_stack_and_gateways_nest() {
    let shop = Shop::with("s", &["query"]);
    let stack = ServiceBuilder::new()
        .layer(NamespaceLayer::new("db").unwrap())
        .service(shop.piped());
    let gateway = Gateway::builder().member("outer", stack).build().unwrap();
    assert_eq!(listed(&gateway).await, ["outer__db__query"]);
    assert_eq!(said(call(&gateway, "outer__db__query").await), "s: query");
    let read = McpRequest::read_resource("outer+db+file:///a");
    assert!(gateway.oneshot(read).await.is_ok());
    assert!(NamespaceLayer::new("a__b").is_err());
}

#[tokio::test]
async fn members_with_one_name_and_no_prefix_do_not_connect() {
    let never = || Gateway::builder().prefix(Prefix::Never);
    let same = |name| Shop::with(name, &["same"]).piped();
    let collided = never()
        .member("one", same("one"))
        .add_member(down("dead"))
        .add_member(Member::new("other", same("other")).priority(1));
    let error = collided.connect().await.unwrap_err();
    assert_eq!((error.layer(), error.option()), ("gateway", "prefix"));
    assert!(Error::from(error.clone()).is_refused());
    let said = "`other` and `one` both have a tool `same`";
    assert!(error.to_string().contains(said), "{error}");

    // Prompts and URIs too.
    let collided = never()
        .add_member(Member::new("one", same("one")).rename("same", "mine"))
        .member("other", same("other"));
    let error = collided.connect().await.unwrap_err().to_string();
    assert!(error.contains("have a prompt `greet`"), "{error}");
    let collided = never()
        .member("one", routes::library("a"))
        .member("other", routes::library("a"));
    let error = collided.connect().await.unwrap_err().to_string();
    assert!(error.contains("have a resource `a:///listed`"), "{error}");
}

#[tokio::test]
async fn distinguishable_members_connect_though_one_is_down() {
    let own = Member::per_caller("own", PerCaller::Principal, |_| {
        Ok(Shop::with("own", &["same"]).piped())
    });
    let gateway = Gateway::builder()
        .prefix(Prefix::Never)
        .member("one", routes::library("a"))
        .member("other", routes::library("b"))
        .add_member(down("dead"))
        // What it has depends on who asks.
        .add_member(own)
        .connect()
        .await
        .unwrap();
    assert_eq!(gateway.handle().members().len(), 4);
    let shop = || Shop::with("s", &["same"]).piped();
    let prefixed = Gateway::builder()
        .member("one", shop())
        .member("other", shop())
        .connect()
        .await
        .unwrap();
    assert_eq!(listed(&prefixed).await, ["one__same", "other__same"]);
}

#[tokio::test]
async fn prompts_can_be_renamed_hidden_and_described() {
    let client = |change: fn(Member) -> Member| {
        let member = change(Member::new("s", Shop::with("s", &["greet"]).piped()));
        McpClient::new(Gateway::builder().add_member(member).build().unwrap())
    };
    let renamed = client(|member| {
        member
            .rename_prompt("greet", "hello")
            .describe_prompt("greet", "Says hello.")
    });
    let prompts = renamed.list_all_prompts().await.unwrap();
    assert_eq!(prompts[0].name, "hello");
    assert_eq!(prompts[0].description.as_deref(), Some("Says hello."));
    let no_arguments = JsonObject::new;
    let greeting = renamed.get_prompt("hello", no_arguments()).await.unwrap();
    assert_eq!(
        greeting.messages[0].content,
        ContentBlock::text("greet of s")
    );
    assert!(
        renamed
            .get_prompt("s__greet", no_arguments())
            .await
            .is_err()
    );
    // A tool of that name is another thing.
    assert_eq!(renamed.list_all_tools().await.unwrap()[0].name, "s__greet");

    let hidden = client(|member| member.hide_prompt("greet"));
    assert!(hidden.get_prompt("s__greet", no_arguments()).await.is_err());
    assert!(hidden.list_all_prompts().await.unwrap().is_empty());
    assert!(hidden.get_prompt("s__greet", no_arguments()).await.is_err());
}
