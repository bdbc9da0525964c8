//! What scopes let a principal do, see, and hear of.

use rmcp::model::*;
use rmcp_layers::{
    McpRequest, Principal,
    auth::{Item, Policy, PolicyDecision, Scopes},
};
use serde_json::json;
use tower::Layer;

use crate::{
    common::tool,
    line::{Line, bearing},
    shop::{Shop, ask, call, guarded, layer, names, rules, shown, token},
};

#[tokio::test]
async fn scopes_are_demanded_by_name_and_by_glob_and_what_no_rule_names_is_for_admins() {
    let stack = guarded(&Shop::default(), rules().method("acme/*", "acme"));
    let rows = [
        ("db__read", "db:read", true),
        ("db__read", "db:write", true),
        ("db__read", "db:owner", false),
        ("db__drop", "db:read", false),
        ("db__drop", "db:write", false),
        ("db__drop", "db:write db:owner", true),
        ("db__drop@1.0.0", "db:read db:write", false),
        ("db__read@1.0.0", "db:read", true),
        ("ant", "", true),
        ("Ant", "", false),
        ("zebra", "db:read", false),
        ("zebra", "admin", true),
        ("zebra", "ADMIN", false),
    ];
    for (name, scope, allowed) in rows {
        let answer = ask(&stack, call(name, scope)).await;
        assert_eq!(answer.is_ok(), allowed, "{name} with `{scope}`: {answer:?}");
    }
    let read = |uri: &str| ReadResourceRequest::new(ReadResourceRequestParams::new(uri));
    let rows = [
        ("file:///db__read", "db:read", true),
        ("file:///db__read/../x", "db:read", false),
        ("file:///public/a/b", "", true),
        ("file:///public/../secret", "", false),
        ("file:///public/%2e%2E/secret", "", false),
        ("file:///public/..%2fsecret", "", false),
        ("file:///public/..\\secret", "", false),
        ("file:///public/a..b", "", true),
        ("file:///public/...", "", true),
        ("file:///secret", "", false),
    ];
    for (uri, scope, allowed) in rows {
        let answer = ask(&stack, shown(read(uri), scope)).await;
        assert_eq!(answer.is_ok(), allowed, "{uri} with `{scope}`: {answer:?}");
    }
    for (method, scope, allowed) in [
        ("acme/reindex", "acme", true),
        ("acme/reindex", "", false),
        ("other/thing", "acme", false),
        ("other/thing", "admin", true),
    ] {
        let answer = ask(&stack, shown(CustomRequest::new(method, None), scope)).await;
        assert_eq!(
            answer.is_ok(),
            allowed,
            "{method} with `{scope}`: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_known_method_with_params_that_are_not_its_own_is_refused_to_each_caller() {
    let stack = guarded(&Shop::default(), rules().method("tools/*", Scopes::none()));
    for (method, code) in [
        ("tools/list", -32602),
        ("tools/call", -32602),
        ("notifications/initialized", -32600),
        ("server/discover", -32602),
    ] {
        for scope in ["db:read", "admin"] {
            let odd = CustomRequest::new(method, Some(json!({ "cursor": 5 })));
            let answer = ask(&stack, shown(odd, scope)).await;
            assert_eq!(answer.unwrap_err().code.0, code, "{method} with `{scope}`");
        }
    }
}

#[tokio::test]
async fn lists_show_what_may_be_used_in_their_order_and_with_their_cursor() {
    let stack = guarded(&Shop::default(), rules());
    let rows: [(ClientRequest, &str, &[&str]); 8] = [
        (ListToolsRequest::default().into(), "", &["ant"]),
        (
            ListToolsRequest::default().into(),
            "db:read",
            &["db__read", "ant"],
        ),
        (
            ListToolsRequest::default().into(),
            "admin db:write db:owner",
            &["zebra", "db__read", "db__drop", "ant", "secret"],
        ),
        (
            ListPromptsRequest::default().into(),
            "db:read",
            &["db__read", "db__drop"],
        ),
        (
            ListResourcesRequest::default().into(),
            "db:read",
            &["db__read"],
        ),
        (
            ListResourceTemplatesRequest::default().into(),
            "db:read",
            &["db__read"],
        ),
        (ListResourceTemplatesRequest::default().into(), "", &[]),
        (ListPromptsRequest::default().into(), "", &[]),
    ];
    for (request, scope, shows) in rows {
        let method = request.method().to_owned();
        let listed = ask(&stack, shown(request, scope)).await.unwrap();
        assert_eq!(names(&listed), shows, "{method} with `{scope}`");
        if let ServerResult::ListToolsResult(listed) = listed {
            assert_eq!(listed.next_cursor.as_deref(), Some("more"));
        }
    }
}

#[tokio::test]
async fn what_is_shown_is_what_can_be_called() {
    let stack = guarded(&Shop::default(), rules());
    for scope in ["", "db:read", "db:write", "db:write db:owner", "admin", "x"] {
        let listed = ask(&stack, shown(ListToolsRequest::default(), scope))
            .await
            .unwrap();
        let shown = names(&listed);
        for name in ["zebra", "db__read", "db__drop", "ant", "secret"] {
            let answer = ask(&stack, call(name, scope)).await;
            let listed = shown.contains(&name.to_owned());
            assert_eq!(answer.is_ok(), listed, "{name} with `{scope}`");
        }
    }
}

#[tokio::test]
async fn a_forbidden_name_and_an_unknown_one_are_answered_alike() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let mut line = Line::to(stack);
    // In the servers' own words: this crate's gateway, its registry, rmcp, and the SDKs of other languages.
    let near = json!({ "name": "db__drob", "nearest": ["db__drop", "secret"] });
    let failed = |text: &str| Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into());
    let words = vec![
        Err(ErrorData::invalid_params(
            "Unknown tool: db__drob. Did you mean `db__drop` or `secret`?",
            Some(near),
        )),
        Err(ErrorData::invalid_params(
            "Unknown tool: db__drob (it has no versions)",
            None,
        )),
        Err(ErrorData::invalid_params("tool not found", None)),
        Err(ErrorData::internal_error("Tool db__drob not found", None)),
        failed("Unknown tool: db__drob"),
        failed("MCP error -32602: Tool db__drob not found"),
    ];
    // The name db__drop is there and forbidden; db__drob is not, but a glob would grant it.
    let reader = bearing(&token("db:read"));
    let forbidden = line
        .ask("tools/call", json!({ "name": "db__drop" }), reader.clone())
        .await;
    assert_eq!(shop.count(), 0, "what is forbidden reaches nobody");
    assert_eq!(forbidden["error"]["code"], -32602, "{forbidden}");
    for said in words {
        shop.will_say(said);
        let unknown = line
            .ask("tools/call", json!({ "name": "db__drob" }), reader.clone())
            .await;
        let as_forbidden = unknown["error"].to_string().replace("db__drob", "db__drop");
        assert_eq!(as_forbidden, forbidden["error"].to_string());
    }
    // A tool's own failure is its own.
    shop.will_say(Ok(CallToolResult::error(vec![ContentBlock::text(
        "row not found",
    )])
    .into()));
    let failed = line
        .ask("tools/call", json!({ "name": "db__read" }), reader.clone())
        .await;
    assert_eq!(failed["result"]["content"][0]["text"], "row not found");

    let denied = line
        .ask("prompts/get", json!({ "name": "secret" }), reader.clone())
        .await;
    assert_eq!(denied["error"]["message"], "Unknown prompt: secret");
    let read = json!({ "uri": "file:///secret" });
    let denied = line
        .ask("resources/read", read.clone(), reader.clone())
        .await;
    assert_eq!(
        denied["error"]["message"],
        "Resource not found: file:///secret"
    );
    shop.will_say(Err(ErrorData::resource_not_found("no such resource", None)));
    let unknown = line
        .ask("resources/read", read, bearing(&token("admin")))
        .await;
    assert_eq!(unknown["error"], denied["error"]);
}

#[tokio::test]
async fn where_it_is_configured_a_forbidden_name_is_told_with_all_scopes_that_are_missing() {
    let shop = Shop::default();
    let mut line = Line::to(guarded(&shop, rules().reveal_forbidden(true)));
    let nobody = bearing(&token(""));
    let drop = line
        .ask("tools/call", json!({ "name": "db__drop" }), nobody.clone())
        .await;
    let error = json!({
        "code": -31403,
        "message": "refused by auth: insufficient scope: needs db:write db:owner",
        "data": {
            "kind": "refused",
            "layer": "auth",
            "reason": "insufficient_scope",
            "scopes": ["db:write", "db:owner"],
        },
    });
    assert_eq!(drop["error"], error);
    shop.will_say(Err(ErrorData::invalid_params(
        "Unknown tool: x. Did you mean `y`?",
        None,
    )));
    let unknown = line
        .ask("tools/call", json!({ "name": "ant" }), nobody)
        .await;
    assert_eq!(
        unknown["error"]["message"],
        "Unknown tool: x. Did you mean `y`?"
    );
}

#[tokio::test]
async fn a_policy_sees_the_arguments_and_hides_from_lists() {
    struct OwnRows;
    impl Policy for OwnRows {
        fn decide(&self, request: &McpRequest, principal: &Principal) -> PolicyDecision {
            let arguments = request
                .as_tool_call()
                .and_then(|call| call.arguments.as_ref());
            match arguments.and_then(|arguments| arguments.get("owner")) {
                Some(owner) if owner != principal.subject() => {
                    PolicyDecision::deny("another's row")
                }
                _ => PolicyDecision::Allow,
            }
        }

        fn shows(&self, item: Item<'_>, _principal: &Principal) -> bool {
            item != Item::Tool("db__drop")
        }
    }
    let layer = layer(rules()).policy(OwnRows).build().unwrap();
    let mut line = Line::to(layer.layer(Shop::default()));
    let admin = bearing(&token("admin db:read db:write db:owner"));
    let read = |owner: &str| json!({ "name": "db__read", "arguments": { "owner": owner } });
    let own = line.ask("tools/call", read("alice"), admin.clone()).await;
    assert_eq!(own["result"]["content"][0]["text"], "done", "{own}");
    let others = line.ask("tools/call", read("bob"), admin.clone()).await;
    assert_eq!(others["error"]["code"], -31403);
    assert_eq!(others["error"]["message"], "refused by auth: not allowed");
    let listed = line.ask("tools/list", json!({}), admin).await;
    assert!(!listed.to_string().contains("db__drop"), "{listed}");
}

#[tokio::test]
async fn a_tool_that_calls_others_reaches_none_that_is_forbidden() {
    use rmcp_layers::{
        Upstream,
        registry::{CALL_TOOL, RegistryLayer, SearchMode},
    };
    let registry = RegistryLayer::builder()
        .search(SearchMode::Only)
        .build()
        .unwrap();
    let inner = registry.layer(Upstream::in_process(crate::common::demo::Demo::default()));
    let rules = rmcp_layers::auth::Rules::builder()
        .tool("add", "admin")
        .tool("*", Scopes::none());
    /// Takes small numbers alone.
    struct Small;
    impl Policy for Small {
        fn decide(&self, request: &McpRequest, _: &Principal) -> PolicyDecision {
            let call = request.as_tool_call().filter(|call| call.name == "echo");
            match call.and_then(|call| call.arguments.as_ref()?.get("a")?.as_i64()) {
                Some(2..) => PolicyDecision::deny("too large"),
                _ => PolicyDecision::Allow,
            }
        }
    }
    let audit = rmcp_layers::audit::AuditLog::builder().memory(9);
    let audit = audit.build().unwrap();
    let auth = layer(rules).policy(Small).build().unwrap();
    let stack = audit.layer().layer(auth.layer(inner));
    let via = |name: &'static str, number: i32, scope: &str| {
        let arguments = json!({ "name": name, "arguments": { "a": number, "b": 2 } });
        let request = shown(CallToolRequest::new(tool(CALL_TOOL, arguments)), scope);
        let answer = tower::ServiceExt::oneshot(stack.clone(), request);
        async move { answer.await.map(|_| ()).map_err(|error| error.to_string()) }
    };
    assert_eq!(via("add", 1, "admin").await, Ok(()));
    let forbidden = via("add", 1, "x").await.unwrap_err();
    let unknown = via("odd", 1, "x").await.unwrap_err();
    assert_eq!(forbidden.replace("add", "odd"), unknown);
    assert_eq!(via("echo", 1, "x").await, Ok(()));
    let too_large = via("echo", 2, "x").await.unwrap_err();
    assert!(too_large.contains("not allowed"), "{too_large}");
    let recorded = audit.handle().recent(1);
    assert_eq!(recorded[0].name.as_deref(), Some("echo"));
    assert_eq!(recorded[0].decision, rmcp_layers::Decision::Denied);
    assert_eq!(recorded[0].reason.as_deref(), Some("too large"));
}

#[tokio::test]
async fn a_rule_for_what_is_written_with_a_version_holds() {
    let rules = rmcp_layers::auth::Rules::builder()
        .tool("mail@0.*", "admin")
        .tool("*", Scopes::none());
    let stack = guarded(&Shop::default(), rules);
    for (name, allowed) in [("mail", true), ("mail@1.0", true), ("mail@0.9", false)] {
        assert_eq!(
            ask(&stack, call(name, "x")).await.is_ok(),
            allowed,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_failure_that_is_not_about_the_name_is_the_callers() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    for said in [
        "Error executing tool ant: file not found",
        "Error executing tool ant: unknown host `resource.example`",
        "Tool ant failed: no such table",
        "the tool ant found no tool for this screw",
    ] {
        let failed = CallToolResult::error(vec![ContentBlock::text(said)]);
        shop.will_say(Ok(failed.into()));
        let answer = ask(&stack, call("ant", "")).await;
        assert!(answer.is_ok(), "{said}: {answer:?}");
    }
    let said = "Invalid arguments for tool ant: unknown field `size`";
    shop.will_say(Err(ErrorData::invalid_params(said, None)));
    let answer = ask(&stack, call("ant", "")).await.unwrap_err();
    assert_eq!(answer.message, said);
}

#[tokio::test]
async fn what_is_read_behind_a_guard_is_never_public() {
    let shop = Shop::default();
    let hints = json!({ "resultType": "complete", "ttlMs": 60_000, "cacheScope": "public" });
    let uri = "skill://greet/SKILL.md";
    let skill = json!({
        "uri": uri,
        "frontmatter": { "name": "greet", "description": "Greets." },
        "resources": "dynamic",
    });
    let rows = [
        ("tools/list", json!({}), json!({ "tools": [] })),
        ("prompts/list", json!({}), json!({ "prompts": [] })),
        ("resources/list", json!({}), json!({ "resources": [] })),
        (
            "resources/templates/list",
            json!({}),
            json!({ "resourceTemplates": [] }),
        ),
        (
            "resources/read",
            json!({ "uri": "file:///a" }),
            json!({ "contents": [] }),
        ),
        ("skills/list", json!({}), json!({ "skills": [] })),
        (
            "skills/get",
            json!({ "uri": uri }),
            json!({ "skill": skill }),
        ),
    ];
    let mut line = Line::to(guarded(&shop, rules()));
    for (method, params, answer) in rows {
        let mut result = hints.clone();
        for (key, value) in answer.as_object().unwrap() {
            result[key] = value.clone();
        }
        let read: ServerResult = match method {
            "skills/get" => serde_json::from_value::<GetSkillResult>(result)
                .unwrap()
                .into(),
            _ => serde_json::from_value(result).unwrap(),
        };
        shop.will_say(Ok(read));
        let answer = line.ask(method, params, bearing(&token("admin"))).await;
        let scope = &answer["result"]["cacheScope"];
        assert_eq!(scope, "private", "{method}: {answer}");
    }
}
