//! Lists with items that cannot be read, or that official clients refuse, and lists that do not end.

use rmcp_layers::{HttpEndpoint, UnreadableItem};
use serde_json::Value;

use super::{
    common::script::{scripted, scripted_http, scripted_lines},
    *,
};

/// A result with `items`, as revision 2026-07-28 has it.
fn list(key: &str, items: &Value) -> Value {
    json!({ key: items, "resultType": "complete" })
}

fn answered(request: &Value, result: Value) -> Option<Vec<String>> {
    let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    Some(vec![answer.to_string()])
}

/// A server, over lines, with this list of one kind, and nothing in any other.
fn lines_of(name: &str, method: &'static str, result: Value) -> Upstream {
    let builder = Upstream::builder().name(name);
    scripted_lines(builder, move |request| {
        answered(&request, result_of(&request, method, &result))
    })
}

fn result_of(request: &Value, method: &str, result: &Value) -> Value {
    match request["method"].as_str().unwrap_or_default() {
        asked if asked == method => result.clone(),
        "tools/list" => list("tools", &json!([])),
        "prompts/list" => list("prompts", &json!([])),
        "resources/list" => list("resources", &json!([])),
        "resources/templates/list" => list("resourceTemplates", &json!([])),
        "skills/list" => list("skills", &json!([])),
        _ => json!({ "content": [], "resultType": "complete" }),
    }
}

fn good(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

/// Fifty tools, of which one is not a tool.
fn fifty(bad: &Value) -> Value {
    let mut tools: Vec<_> = (0..50).map(|n| good(&format!("t{n}"))).collect();
    tools[7] = bad.clone();
    list("tools", &json!(tools))
}

/// Tools that cannot be read, with the field that is at fault.
fn bad_tools() -> Vec<(Value, &'static str)> {
    let schema = json!({ "type": "object" });
    vec![
        (json!({ "name": "bad", "inputSchema": null }), "inputSchema"),
        (json!({ "name": "bad", "inputSchema": [] }), "inputSchema"),
        (json!({ "name": "bad" }), "inputSchema"),
        (json!({ "inputSchema": schema }), "name"),
        (json!({ "name": 5, "inputSchema": schema }), "name"),
        (
            json!({ "name": "bad", "inputSchema": schema, "description": 5 }),
            "description",
        ),
        (
            json!({ "name": "bad", "inputSchema": schema, "outputSchema": "none" }),
            "outputSchema",
        ),
        (
            json!({ "name": "bad", "inputSchema": schema, "_meta": [] }),
            "_meta",
        ),
    ]
}

fn state_of(gateway: &Gateway, member: &str) -> MemberState {
    let members = gateway.handle().members();
    let member = members.into_iter().find(|one| &*one.name == member);
    member.unwrap().state
}

#[tokio::test]
async fn one_unreadable_tool_is_left_out_of_the_list_and_said() {
    for (bad, field) in bad_tools() {
        let gateway = Gateway::builder()
            .member("odd", lines_of("odd", "tools/list", fifty(&bad)))
            .member("even", Shop::with("even", &["a"]).piped())
            .build()
            .unwrap();
        let names = listed(&gateway).await;
        assert_eq!(names.len(), 50, "{bad}");
        assert!(names.contains(&"odd__t49".to_owned()), "{bad}");
        assert_eq!(said(call(&gateway, "even__a").await), "even: a");
        call(&gateway, "odd__t1").await.unwrap();
        let MemberState::Degraded { reason } = state_of(&gateway, "odd") else {
            panic!("{bad}: {:?}", state_of(&gateway, "odd"))
        };
        for said in ["tools/list", "7", field] {
            assert!(reason.contains(said), "{bad}: {reason}");
        }
        assert!(
            bad["name"] != "bad" || reason.contains("`bad`"),
            "{bad}: {reason}"
        );
        let even = state_of(&gateway, "even");
        assert!(matches!(even, MemberState::Connected), "{even:?}");
    }
}

#[tokio::test]
async fn an_unreadable_item_of_any_size_is_left_out_at_once() {
    let mut bad: serde_json::Map<_, _> = (0..50_000)
        .map(|number| (format!("f{number}"), Value::Null))
        .collect();
    bad.insert("inputSchema".to_owned(), Value::Null);
    bad.insert("name".to_owned(), "n".repeat(5_000).into());
    let mut list = fifty(&bad.into());
    for number in 0..50_000 {
        list[format!("f{number}")] = Value::Null;
    }
    let gateway = Gateway::builder()
        .member("odd", lines_of("odd", "tools/list", list))
        .member("even", Shop::with("even", &["a"]).piped())
        .build()
        .unwrap();
    assert_eq!(soon("a list", listed(&gateway)).await.len(), 50);
    let MemberState::Degraded { reason } = state_of(&gateway, "odd") else {
        panic!("{:?}", state_of(&gateway, "odd"))
    };
    assert!(reason.len() < 1_000, "{} bytes", reason.len());
}

#[tokio::test]
async fn an_unreadable_item_of_any_list_is_left_out_alone() {
    let prompts = json!([{ "name": "good" }, { "name": "bad", "arguments": {} }, 5]);
    let resources = json!([
        { "uri": "file:///bad" },
        { "uri": "file:///good", "name": "good" },
        { "uri": null, "name": "bad" },
    ]);
    let templates = json!([
        { "uriTemplate": 1, "name": "bad" },
        { "uriTemplate": "file:///{good}", "name": "good" },
    ]);
    let skills = json!([
        { "uri": "skill://bad/SKILL.md" },
        {
            "uri": "skill://good/SKILL.md",
            "frontmatter": { "name": "good", "description": "Does good." },
            "resources": "dynamic",
        },
    ]);
    for (method, key, items, left_out) in [
        ("prompts/list", "prompts", &prompts, vec![1, 2]),
        ("resources/list", "resources", &resources, vec![0, 2]),
        (
            "resources/templates/list",
            "resourceTemplates",
            &templates,
            vec![0],
        ),
        ("skills/list", "skills", &skills, vec![0]),
    ] {
        let result = list(key, items);
        let upstream = lines_of("odd", method, result.clone());
        let client = McpClient::new(upstream.clone());
        let keys: Vec<String> = match method {
            "prompts/list" => named_of(client.list_all_prompts().await.unwrap(), |it| it.name),
            "resources/list" => named_of(client.list_all_resources().await.unwrap(), |it| it.name),
            "skills/list" => named_of(client.list_all_skills().await.unwrap(), |it| it.uri),
            _ => named_of(client.list_all_resource_templates().await.unwrap(), |it| {
                it.name
            }),
        };
        assert_eq!(keys.len(), 1, "{method}: {keys:?}");
        assert!(keys[0].contains("good"), "{method}: {keys:?}");
        let indexes: Vec<_> = upstream.unreadable().iter().map(|it| it.index).collect();
        assert_eq!(indexes, left_out, "{method}");

        let gateway = Gateway::builder()
            .member("odd", lines_of("odd", method, result))
            .member("even", Shop::with("even", &["a"]).piped())
            .build()
            .unwrap();
        let client = McpClient::new(gateway.clone());
        let count = match method {
            "prompts/list" => client.list_all_prompts().await.unwrap().len(),
            "resources/list" => client.list_all_resources().await.unwrap().len(),
            "skills/list" => client.list_all_skills().await.unwrap().len() + 1,
            _ => client.list_all_resource_templates().await.unwrap().len(),
        };
        assert_eq!(count, 2, "{method}");
        let state = state_of(&gateway, "odd");
        assert!(matches!(state, MemberState::Degraded { .. }), "{state:?}");
    }
}

fn named_of<T>(items: Vec<T>, name: impl Fn(T) -> String) -> Vec<String> {
    items.into_iter().map(name).collect()
}

#[tokio::test]
async fn an_upstream_alone_says_which_item_it_left_out_over_every_transport() {
    let bad = json!({ "name": "bad", "inputSchema": null });
    let answer = move |request: &Value| result_of(request, "tools/list", &fifty(&bad));
    let direct = scripted_http(false, answer.clone()).await;
    let sessions = scripted_http(true, answer.clone()).await;
    let over_http = |url: String| {
        let builder = Upstream::builder().name("odd");
        builder.http(HttpEndpoint::new(url)).unwrap()
    };
    let script = move |request: Value| answered(&request, answer(&request));
    for (what, upstream) in [
        (
            "lines",
            scripted_lines(Upstream::builder().name("odd"), script.clone()),
        ),
        (
            "a transport",
            scripted(Upstream::builder().name("odd"), script),
        ),
        ("HTTP", over_http(direct)),
        ("HTTP with sessions", over_http(sessions)),
    ] {
        assert_eq!(upstream.unreadable(), []);
        let client = McpClient::new(upstream.clone());
        let tools = soon(what, client.list_all_tools()).await.unwrap();
        assert_eq!(tools.len(), 49, "{what}");
        let left_out = upstream.unreadable();
        let [
            UnreadableItem {
                method,
                index,
                name,
                field,
                ..
            },
        ] = left_out.as_slice()
        else {
            panic!("{what}: {left_out:?}")
        };
        assert_eq!((*method, *index), ("tools/list", 7), "{what}");
        assert_eq!(name.as_deref(), Some("bad"), "{what}");
        assert_eq!(field.as_deref(), Some("inputSchema"), "{what}");
    }
}

#[tokio::test]
async fn a_member_whose_list_is_mended_is_no_longer_degraded() {
    let mended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_mended = mended.clone();
    let bad = json!({ "name": "bad", "inputSchema": null });
    let odd = scripted_lines(Upstream::builder().name("odd"), move |request| {
        let tools = match is_mended.load(Ordering::SeqCst) {
            true => list("tools", &json!([good("t")])),
            false => fifty(&bad),
        };
        answered(&request, result_of(&request, "tools/list", &tools))
    });
    // Also a member that is alone, and whose lists pass through.
    for prefix in [Prefix::Always, Prefix::Never] {
        mended.store(false, Ordering::SeqCst);
        let gateway = Gateway::builder()
            .prefix(prefix)
            .member("odd", odd.clone())
            .build()
            .unwrap();
        assert_eq!(listed(&gateway).await.len(), 49);
        let state = state_of(&gateway, "odd");
        assert!(matches!(state, MemberState::Degraded { .. }), "{state:?}");
        mended.store(true, Ordering::SeqCst);
        assert_eq!(listed(&gateway).await.len(), 1);
        let state = state_of(&gateway, "odd");
        assert!(matches!(state, MemberState::Connected), "{state:?}");
        assert_eq!(odd.unreadable(), []);
    }
}

#[tokio::test]
async fn a_list_with_an_unreadable_field_beside_its_items_keeps_them() {
    for field in ["nextCursor", "ttlMs", "cacheScope", "_meta"] {
        let mut result = list("tools", &json!([good("a"), good("b")]));
        result[field] = json!([5]);
        let upstream = lines_of("odd", "tools/list", result);
        let tools = McpClient::new(upstream).list_all_tools().await.unwrap();
        assert_eq!(names(&tools), ["a", "b"], "{field}");
    }
    // As servers write an empty list whose language has null for it.
    let upstream = lines_of("odd", "tools/list", list("tools", &Value::Null));
    let client = McpClient::new(upstream);
    assert_eq!(client.list_all_tools().await.unwrap(), []);
    // What is no list at all is still an error.
    let upstream = lines_of("odd", "tools/list", list("tools", &json!("none")));
    let error = McpClient::new(upstream).list_all_tools().await.unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
}

#[tokio::test]
async fn a_tool_that_official_clients_refuse_is_completed_or_left_out() {
    let output = json!({ "properties": { "z": {}, "a": {} } });
    let tools = json!([
        good("fine"),
        { "name": "none", "inputSchema": {} },
        { "name": "some", "inputSchema": { "properties": { "z": {}, "a": {} } } },
        { "name": "null", "inputSchema": { "type": null, "properties": null, "required": null } },
        { "name": "either", "inputSchema": { "type": ["object", "null"] } },
        { "name": "array", "inputSchema": { "type": "object", "properties": [] } },
        { "name": "text", "inputSchema": { "type": "string" } },
        { "name": "list", "inputSchema": { "type": "object", "required": "all" } },
        { "name": "out", "inputSchema": { "type": "object" }, "outputSchema": output },
        {
            "name": "rows",
            "inputSchema": { "type": "object" },
            "outputSchema": { "type": "array" },
        },
    ]);
    let odd = || lines_of("odd", "tools/list", list("tools", &tools));
    let gateway = Gateway::builder()
        .member("odd", odd())
        .member("even", Shop::with("even", &["a"]).piped())
        .build()
        .unwrap();
    let registry = RegistryLayer::new().layer(odd());
    let of_gateway = McpClient::new(gateway.clone()).list_all_tools().await;
    let of_registry = McpClient::new(registry).list_all_tools().await;
    for tools in [of_gateway.unwrap(), of_registry.unwrap()] {
        for tool in &tools {
            assert_eq!(tool.input_schema["type"], "object", "{tool:?}");
        }
        let schema = |name: &str| {
            let tool = tools.iter().find(|tool| tool.name.ends_with(name));
            let tool = tool.unwrap_or_else(|| panic!("{name} is not there"));
            (json!(tool.input_schema), tool.output_schema.clone())
        };
        let properties = json!({ "z": {}, "a": {} });
        let completed = json!({ "type": "object", "properties": properties });
        assert_eq!(schema("some").0, completed);
        assert_eq!(schema("null").0, json!({ "type": "object" }));
        assert_eq!(schema("either").0, json!({ "type": "object" }));
        let no_properties = json!({ "type": "object", "properties": {} });
        assert_eq!(schema("array").0, no_properties);
        assert_eq!(json!(schema("out").1), completed);
        // Any schema is one of an output since 2026-07-28.
        assert_eq!(json!(schema("rows").1), json!({ "type": "array" }));
        for left_out in ["text", "list"] {
            assert!(tools.iter().all(|tool| !tool.name.ends_with(left_out)));
        }
    }
    let MemberState::Degraded { reason } = state_of(&gateway, "odd") else {
        panic!("{:?}", state_of(&gateway, "odd"))
    };
    assert!(
        reason.contains("`text`") && reason.contains("inputSchema"),
        "{reason}"
    );
}

/// A server whose list has these cursors, one after another, and then the last for ever; with a tool a page.
fn with_cursors(cursors: &'static [Value]) -> Upstream {
    let builder = Upstream::builder().name("odd");
    let pages = Arc::new(AtomicUsize::new(0));
    scripted_lines(builder, move |request| {
        if request["method"] != "tools/list" {
            return answered(&request, result_of(&request, "", &Value::Null));
        }
        if request["params"].get("cursor").is_none() {
            pages.store(0, Ordering::SeqCst);
        }
        let page = pages.fetch_add(1, Ordering::SeqCst);
        let mut result = list("tools", &json!([good(&format!("t{page}"))]));
        match cursors.get(page).or(cursors.last()).unwrap() {
            // Another each time.
            Value::Bool(_) => result["nextCursor"] = json!(format!("c{page}")),
            cursor => result["nextCursor"] = cursor.clone(),
        }
        answered(&request, result)
    })
}

#[tokio::test]
async fn a_list_with_endless_cursors_ends_with_the_pages_that_were_read() {
    use std::sync::LazyLock;
    static ENDS: LazyLock<[(&str, Vec<Value>, usize); 4]> = LazyLock::new(|| {
        [
            ("empty", vec![json!("a"), json!("")], 2),
            ("the same again", vec![json!("a"), json!("a")], 2),
            ("a circle", vec![json!("a"), json!("b"), json!("a")], 3),
            ("endless", vec![json!(true)], 1_000),
        ]
    });
    for (what, cursors, tools) in &*ENDS {
        let one = with_cursors(cursors);
        let alone = McpClient::new(one.clone()).list_all_tools().await.unwrap();
        assert_eq!(alone.len(), *tools, "{what}");
        let gateway = Gateway::builder()
            .member("odd", one.clone())
            .member("even", Shop::with("even", &["a"]).piped())
            .build()
            .unwrap();
        assert_eq!(listed(&gateway).await.len(), tools + 1, "{what}");
        let state = state_of(&gateway, "odd");
        assert!(matches!(state, MemberState::Connected), "{what}: {state:?}");
        let layer = RegistryLayer::builder().search(SearchMode::Beside);
        let registry = layer.build().unwrap().layer(one);
        let search = McpRequest::call_tool("search_tools").argument("query", "t1");
        let found = registry.oneshot(search.build()).await.unwrap();
        let found = json!(found.as_tool_result().unwrap().structured_content);
        assert_ne!(found["tools"], json!([]), "{what}");
    }
}
