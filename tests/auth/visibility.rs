//! Names that are said further in than where it is decided who may know them.

use rmcp::model::*;
use rmcp_layers::{
    Handler, McpRequest,
    audit::AuditLog,
    auth::{Rules, RulesBuilder, Scopes},
    cache::CacheLayer,
    gateway::{Gateway, Member, NamespaceLayer, Prefix},
    registry::{RegisteredTool, RegistryLayer, SearchMode},
};
use serde_json::{Value, json};
use tower::{BoxError, Layer, ServiceExt, util::BoxCloneService};

use crate::{
    common::{Stack, demo::Demo},
    line::{Line, bearing},
    shop::{layer, token},
};

type Boxed = BoxCloneService<McpRequest, rmcp_layers::McpResponse, rmcp_layers::Error>;

fn boxed(stack: impl Stack) -> Boxed {
    stack.map_err(Into::into).boxed_clone()
}

/// A registry with a search and these tools, which say their names.
fn registry(mode: SearchMode, tools: impl IntoIterator<Item = (String, String)>) -> Boxed {
    let layer = RegistryLayer::builder().search(mode).build().unwrap();
    let registry = layer.handle();
    for (name, description) in tools {
        let says = name.clone();
        let tool = RegisteredTool::builder(name)
            .description(description)
            .version("1.0.0")
            .handler(move |_: JsonObject, _| {
                let says = says.clone();
                async move { Ok::<_, BoxError>(says) }
            });
        registry.register(tool.build().unwrap()).unwrap();
    }
    boxed(layer.layer(Handler::new(Demo::default())))
}

/// Fifteen tools of each kind; the secret ones fit a search for `report` best.
fn reports(with_secrets: bool) -> impl Iterator<Item = (String, String)> {
    let open = (0..15).map(|n| {
        let description = "writes the weekly report ".repeat(1 + n % 4);
        (format!("open_{n}"), format!("{description} {n}"))
    });
    let secret = (0..15).map(|n| (format!("secret_report_{n}"), "report".to_owned()));
    open.chain(secret.filter(move |_| with_secrets))
}

fn forbid(names: &[&str]) -> RulesBuilder {
    let rules = Rules::builder();
    let rules = names
        .iter()
        .fold(rules, |rules, name| rules.tool(*name, "admin"));
    rules.tool("*", Scopes::none()).prompt("*", Scopes::none())
}

fn guarded(rules: RulesBuilder, stack: Boxed) -> Boxed {
    boxed(layer(rules).build().unwrap().layer(stack))
}

async fn call(line: &mut Line, name: &str, arguments: Value, scope: &str) -> Value {
    let params = json!({ "name": name, "arguments": arguments });
    line.ask("tools/call", params, bearing(&token(scope))).await
}

async fn find(line: &mut Line, tool: &str, scope: &str) -> Vec<String> {
    find_by(line, tool, "report", scope).await
}

async fn find_by(line: &mut Line, tool: &str, query: &str, scope: &str) -> Vec<String> {
    let answer = call(line, tool, json!({ "query": query }), scope).await;
    let found = answer["result"]["structuredContent"]["tools"].as_array();
    let found = found.unwrap_or_else(|| panic!("{answer}")).iter();
    found
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_search_finds_what_its_caller_may_know_of_as_if_there_were_nothing_else() {
    for mode in [SearchMode::Beside, SearchMode::Only] {
        let rules = || forbid(&["secret_*", "add"]);
        let mut line = Line::to(guarded(rules(), registry(mode, reports(true))));
        let mut without = Line::to(guarded(rules(), registry(mode, reports(false))));
        for query in ["report", "the report of the week", "weekly report 3"] {
            let found = find_by(&mut line, "search_tools", query, "").await;
            assert_eq!(found.len(), 10, "as many as it may have: {found:?}");
            let alone = find_by(&mut without, "search_tools", query, "").await;
            assert_eq!(found, alone);
        }
        let all = find(&mut line, "search_tools", "admin").await;
        assert!(all.iter().any(|name| name.starts_with("secret")), "{all:?}");
        let inner = json!({ "query": "add" });
        let inner = call(&mut line, "search_tools", inner, "").await;
        assert_eq!(inner["result"]["structuredContent"], json!({ "tools": [] }));
    }
}

#[tokio::test]
async fn two_guards_are_asked_and_both_have_to_show_a_tool() {
    let inner = guarded(
        forbid(&["open_1*"]),
        registry(SearchMode::Only, reports(true)),
    );
    // The token is taken off by the first.
    let again = tower::ServiceBuilder::new()
        .map_request(|mut request: McpRequest| {
            let token = token("").into();
            let key = rmcp_layers::auth::TOKEN_META_KEY.to_owned();
            request.context.meta.insert(key, token);
            request
        })
        .service(inner);
    let mut line = Line::to(guarded(forbid(&["secret_*"]), boxed(again)));
    let mut found = find(&mut line, "search_tools", "").await;
    found.sort();
    let both = ["0", "2", "3", "4", "5", "6", "7", "8", "9"];
    assert_eq!(found, both.map(|n| format!("open_{n}")));
}

/// Stacks with the same registry at different depths, and what is in front of its names outside.
fn depths() -> Vec<(&'static str, Boxed)> {
    let only = || registry(SearchMode::Only, reports(true));
    let gateway = |prefix| {
        let member = Member::new("m", only()).prefix(prefix);
        let other = registry(SearchMode::Beside, []);
        let builder = Gateway::builder().add_member(member).member("other", other);
        boxed(builder.build().unwrap())
    };
    let spaced = NamespaceLayer::new("db").unwrap().layer(only());
    let nested = Gateway::builder().member("outer", spaced).build().unwrap();
    vec![
        ("", only()),
        ("m__", gateway(Prefix::Always)),
        ("", gateway(Prefix::Never)),
        ("", gateway(Prefix::OnCollision)),
        ("outer__db__", boxed(nested)),
    ]
}

#[tokio::test]
async fn a_search_behind_a_gateway_asks_by_the_names_that_things_have_outside() {
    for (prefix, stack) in depths() {
        let forbidden = format!("{prefix}secret_*");
        let mut line = Line::to(guarded(forbid(&[&forbidden]), stack));
        line.ask("tools/list", json!({}), bearing(&token(""))).await;
        let search = format!("{prefix}search_tools");
        let found = find(&mut line, &search, "").await;
        assert_eq!(found.len(), 10, "`{prefix}` {found:?}");
        assert!(
            found.iter().all(|name| name.starts_with("open")),
            "{found:?}"
        );
        let all = find(&mut line, &search, "admin").await;
        assert!(all.iter().any(|name| name.starts_with("secret")), "{all:?}");
    }
}

#[tokio::test]
async fn a_tool_that_calls_others_behind_a_gateway_reaches_none_that_is_forbidden() {
    for (prefix, stack) in depths() {
        let forbidden = format!("{prefix}secret_*");
        let audit = AuditLog::builder().memory(1).build().unwrap();
        let rules = forbid(&[&forbidden]);
        let auth = layer(rules).build().unwrap();
        let mut line = Line::to(audit.layer().layer(auth.layer(stack.clone())));
        line.ask("tools/list", json!({}), bearing(&token(""))).await;
        let through = format!("{prefix}call_tool");
        let name = |name: &str| json!({ "name": name, "arguments": {} });
        let recorded = || {
            let record = audit.handle().recent(1)[0].clone();
            let record = serde_json::to_value(&*record).unwrap();
            (record["name"].clone(), record["decision"].clone())
        };

        for version in ["", "@1.0.0"] {
            let tool = format!("open_1{version}");
            let open = call(&mut line, &through, name(&tool), "").await;
            assert_eq!(open["result"]["content"][0]["text"], "open_1", "{open}");
            let outward = json!(format!("{prefix}{tool}"));
            assert_eq!(recorded(), (outward, json!("allowed")));

            let tool = format!("secret_report_1{version}");
            let denied = call(&mut line, &through, name(&tool), "").await;
            let outward = json!(format!("{prefix}{tool}"));
            assert_eq!(recorded(), (outward, json!("concealed")), "{denied}");
            let unknown = format!("sacred_report_1{version}");
            let unknown = call(&mut line, &through, name(&unknown), "").await;
            assert_eq!(denied["error"]["code"], -32602, "`{prefix}` {denied}");
            let alike = unknown["error"].to_string().replace("sacred", "secret");
            assert_eq!(denied["error"].to_string(), alike, "`{prefix}`");

            let granted = call(&mut line, &through, name(&tool), "admin").await;
            assert_eq!(granted["result"]["content"][0]["text"], "secret_report_1");
        }

        let revealing = forbid(&[&forbidden]).reveal_forbidden(true);
        let mut line = Line::to(guarded(revealing, stack));
        line.ask("tools/list", json!({}), bearing(&token(""))).await;
        let denied = call(&mut line, &through, name("secret_report_1"), "").await;
        assert_eq!(denied["error"]["code"], -31403, "`{prefix}` {denied}");
        assert_eq!(denied["error"]["data"]["scopes"], json!(["admin"]));
    }
}

#[tokio::test]
async fn a_record_of_an_audit_alone_names_the_tool_that_was_called_in_the_end() {
    for (prefix, stack) in depths() {
        let audit = AuditLog::builder().memory(1).build().unwrap();
        let mut line = Line::to(audit.layer().layer(stack));
        line.ask("tools/list", json!({}), json!({})).await;
        let through = format!("{prefix}call_tool");
        let called = call(&mut line, &through, json!({ "name": "open_2" }), "").await;
        assert_eq!(called["result"]["content"][0]["text"], "open_2", "{called}");
        let name = audit.handle().recent(1)[0].name.clone();
        assert_eq!(name, Some(format!("{prefix}open_2")));
    }
}

#[tokio::test]
async fn a_cache_further_in_never_answers_by_rules_that_hold_no_more() {
    let cache = CacheLayer::builder().cache_tool("*").build().unwrap();
    let member = Gateway::builder().member("m", registry(SearchMode::Only, reports(true)));
    let auth = layer(forbid(&[])).build().unwrap();
    let handle = auth.handle();
    let mut line = Line::to(auth.layer(cache.layer(member.build().unwrap())));
    let secret = json!({ "name": "secret_report_1" });
    let found = find(&mut line, "m__search_tools", "").await;
    assert!(
        found.iter().any(|name| name.starts_with("secret")),
        "{found:?}"
    );
    let answer = call(&mut line, "m__call_tool", secret.clone(), "").await;
    assert_eq!(answer["result"]["content"][0]["text"], "secret_report_1");

    handle.set_rules(forbid(&["m__secret_*"]).build().unwrap());
    let found = find(&mut line, "m__search_tools", "").await;
    assert!(
        found.iter().all(|name| name.starts_with("open")),
        "{found:?}"
    );
    let answer = call(&mut line, "m__call_tool", secret, "").await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn a_name_that_comes_near_is_told_to_those_alone_who_may_know_it() {
    for reveals in [true, false] {
        let tools = ["kill", "query", "quern"].map(|name| (name.to_owned(), String::new()));
        let member = registry(SearchMode::Beside, tools);
        let gateway = Gateway::builder().member("db", member).build().unwrap();
        let rules = forbid(&["db__kill", "db__query"]).reveal_forbidden(reveals);
        let mut line = Line::to(guarded(rules, boxed(gateway)));
        line.ask("tools/list", json!({}), bearing(&token(""))).await;
        // The last two take the words apart by which an answer says that a tool is unknown.
        for asked in ["db__quer", "dbx__query", "l", "ll", "tool", "unknown"] {
            let answer = call(&mut line, asked, json!({}), "").await;
            let said = answer["error"].to_string();
            assert!(
                !said.contains("kill") && !said.contains("db__query"),
                "{said}"
            );
            if !reveals {
                let alike = json!({
                    "code": -32602,
                    "message": format!("Unknown tool: {asked}"),
                    "data": { "name": asked },
                });
                assert_eq!(answer["error"], alike);
            }
        }
        let answer = call(&mut line, "db__quer", json!({}), "").await;
        let near = answer["error"].to_string().contains("db__quern");
        assert_eq!(near, reveals, "{answer}");
    }
}
