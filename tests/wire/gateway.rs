//! What a gateway changes of a member's messages, and what it leaves as it came.

use rmcp_layers::{
    Upstream,
    gateway::{Filter, Gateway, Member, NamespaceLayer, Prefix},
};
use serde_json::Value;
use tower::ServiceBuilder;

use crate::peers::{Caller, LEGACY, MODERN, Road, Seen, Server};

/// Two tools with members that rmcp has no place for.
const TOOLS: &str = r#"{"ext":{"z":1,"a":2},"tools":[{"x/first":1e2,"name":"a","description":"A.","inputSchema":{"type":"object","x-order":["b","a"]},"execution":{"taskSupport":"optional"},"_meta":{"n":0.10,"ui":{"resourceUri":"ui://v/a","x":1}}},{"inputSchema":{"type":"object"},"name":"b","new":[{"k":null}]}],"_meta":{"t":1.0}}"#;

/// A server with these results, by method.
fn server(
    revision: &'static str,
    results: &'static [(&'static str, &'static str)],
) -> (Server, Seen) {
    Server::new(revision, move |message| {
        let method = message["method"].as_str().unwrap_or_default();
        if message.get("id").is_none() {
            return Vec::new();
        }
        let result = results.iter().find(|(of, _)| *of == method);
        vec![match result {
            Some((_, result)) => {
                format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#)
            }
            None => {
                r#"{"jsonrpc":"2.0","id":$request_id,"error":{"code":-32601,"message":"unknown"}}"#
                    .to_owned()
            }
        }]
    })
}

async fn member(
    revision: &'static str,
    results: &'static [(&'static str, &'static str)],
) -> Upstream {
    server(revision, results).0.by(Road::Lines).await
}

async fn caller(revision: &str, gateway: Gateway) -> Caller {
    match revision {
        LEGACY => Caller::legacy(gateway).await,
        _ => Caller::modern(gateway),
    }
}

/// The text of a result.
fn result(answer: &str) -> &str {
    let start = answer.find(r#""result":"#).expect(answer) + r#""result":"#.len();
    &answer[start..answer.len() - 1]
}

#[tokio::test]
async fn a_list_of_one_member_leaves_as_it_came_but_for_names_and_uris() {
    let stack = member(LEGACY, &[("tools/list", TOOLS)]).await;
    let gateway = Gateway::builder().member("m", stack).build().unwrap();
    let mut caller = Caller::legacy(gateway).await;
    let wanted = TOOLS
        .replace(r#""name":"a""#, r#""name":"m__a""#)
        .replace(r#""name":"b""#, r#""name":"m__b""#)
        .replace(r#""A.""#, r#""[m] A.""#)
        .replace("ui://v/a", "ui://m/v/a");
    for _ in 0..2 {
        let answer = caller.ask("tools/list", "").await;
        assert_eq!(result(&answer), wanted);
    }
}

#[tokio::test]
async fn a_namespace_changes_only_names_and_uris_of_a_list() {
    let stack = member(LEGACY, &[("tools/list", TOOLS)]).await;
    let stack = ServiceBuilder::new()
        .layer(NamespaceLayer::new("m").unwrap())
        .service(stack);
    let answer = Caller::legacy(stack).await.ask("tools/list", "").await;
    let wanted = TOOLS
        .replace(r#""name":"a""#, r#""name":"m__a""#)
        .replace(r#""name":"b""#, r#""name":"m__b""#)
        .replace(r#""A.""#, r#""[m] A.""#)
        .replace("ui://v/a", "ui://m/v/a");
    assert_eq!(result(&answer), wanted);
}

#[tokio::test]
async fn filters_and_overrides_change_only_what_they_name() {
    let stack = member(LEGACY, &[("tools/list", TOOLS)]).await;
    let member = Member::new("m", stack)
        .prefix(Prefix::Never)
        .describe("b", "B.")
        .filter(Filter::new().deny("a"));
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    let answer = Caller::legacy(gateway).await.ask("tools/list", "").await;
    assert_eq!(
        result(&answer),
        r#"{"ext":{"z":1,"a":2},"tools":[{"inputSchema":{"type":"object"},"name":"b","new":[{"k":null}],"description":"B."}],"_meta":{"t":1.0}}"#
    );
}

#[tokio::test]
async fn a_schema_that_is_completed_changes_nothing_else_of_its_tool() {
    const TOOLS: &str = r#"{"tools":[{"new":1,"name":"a","inputSchema":{"properties":{},"x":1.0},"execution":{}}]}"#;
    let stack = member(LEGACY, &[("tools/list", TOOLS)]).await;
    let gateway = Gateway::builder()
        .member("m", stack)
        .member("n", member(LEGACY, &[]).await)
        .build()
        .unwrap();
    let answer = Caller::legacy(gateway).await.ask("tools/list", "").await;
    let tool: Value = serde_json::from_str(result(&answer)).unwrap();
    let tool = &tool["tools"][0];
    assert_eq!(
        tool.to_string(),
        r#"{"new":1,"name":"m__a","inputSchema":{"properties":{},"x":1.0,"type":"object"},"execution":{}}"#
    );
}

#[tokio::test]
async fn lists_of_members_of_any_revision_are_merged_as_they_came() {
    const RESOURCES: &str = r#"{"resources":[{"new":1e2,"uri":"a:b","name":"r"}]}"#;
    const TEMPLATES: &str =
        r#"{"resourceTemplates":[{"uriTemplate":"a:{x}","new":{},"name":"t"}],"ttlMs":5}"#;
    const PROMPTS: &str = r#"{"prompts":[{"arguments":[{"name":"x","new":1}],"name":"p"}]}"#;
    const RESULTS: &[(&str, &str)] = &[
        ("resources/list", RESOURCES),
        ("resources/templates/list", TEMPLATES),
        ("prompts/list", PROMPTS),
    ];
    for revision in [LEGACY, MODERN] {
        let gateway = Gateway::builder()
            .member("m", member(LEGACY, RESULTS).await)
            .member("n", member(MODERN, RESULTS).await)
            .build()
            .unwrap();
        let mut caller = caller(revision, gateway).await;
        for (method, items) in [
            (
                "resources/list",
                r#""resources":[{"new":1e2,"uri":"m+a:b","name":"r"},{"new":1e2,"uri":"n+a:b","name":"r"}]"#,
            ),
            (
                "resources/templates/list",
                r#""resourceTemplates":[{"uriTemplate":"m+a:{x}","new":{},"name":"t"},{"uriTemplate":"n+a:{x}","new":{},"name":"t"}]"#,
            ),
            (
                "prompts/list",
                r#""prompts":[{"arguments":[{"name":"x","new":1}],"name":"m__p"},{"arguments":[{"name":"x","new":1}],"name":"n__p"}]"#,
            ),
        ] {
            let answer = caller.ask(method, "").await;
            assert!(answer.contains(items), "{revision} {answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let kind = (revision == MODERN).then_some("complete");
            assert_eq!(answer["result"]["resultType"].as_str(), kind);
        }
    }
}

#[tokio::test]
async fn pages_of_a_merged_list_have_the_texts_of_their_items() {
    let stack = member(LEGACY, &[("tools/list", TOOLS)]).await;
    let gateway = Gateway::builder()
        .page_size(1)
        .member("m", stack)
        .build()
        .unwrap();
    let mut caller = Caller::legacy(gateway).await;
    let mut members = String::new();
    let mut texts = Vec::new();
    for _ in 0..2 {
        let answer = caller.ask("tools/list", &members).await;
        let page: Value = serde_json::from_str(result(&answer)).unwrap();
        texts.push(page["tools"].to_string());
        members = format!(r#""cursor":{}"#, page["nextCursor"]);
        assert_eq!(page["ext"].to_string(), r#"{"z":1,"a":2}"#);
    }
    assert!(members.ends_with("null"), "{members}");
    assert!(texts[0].contains(r#""execution":{"taskSupport":"optional"}"#));
    assert_eq!(
        texts[1],
        r#"[{"inputSchema":{"type":"object"},"name":"m__b","new":[{"k":null}]}]"#
    );
}

#[tokio::test]
async fn a_result_without_uris_leaves_as_it_came() {
    const CALLED: &str = r#"{ "new": 1e3,"content":[{"type":"text","text":"t","x":1.0},{"type":"new","uri":"a:b"}],"structuredContent":{"b":1,"a":0.10} }"#;
    let stack = member(LEGACY, &[("tools/call", CALLED)]).await;
    let gateway = Gateway::builder().member("m", stack).build().unwrap();
    let mut caller = Caller::legacy(gateway).await;
    let answer = caller.ask("tools/call", r#""name":"m__a""#).await;
    assert_eq!(result(&answer), CALLED);
}

#[tokio::test]
async fn only_the_uris_of_a_result_change() {
    const CALLED: &str = r#"{"new":1e2,"content":[{"x":1,"type":"resource_link","uri":"a:b","name":"n","y":0.10,"_meta":{"u":"ui://v"}},{"type":"resource","resource":{"z":[1.0],"uri":"a:c","text":""}}]}"#;
    const READ: &str = r#"{"contents":[{"k":1.0,"uri":"a:b","text":"t","_meta":{"ui/resourceUri":"ui://v","q":1.0}},{"uri":"a:c","blob":"","j":2}],"l":3}"#;
    let stack = member(LEGACY, &[("tools/call", CALLED), ("resources/read", READ)]).await;
    let gateway = Gateway::builder().member("m", stack).build().unwrap();
    let mut caller = Caller::legacy(gateway).await;
    for (method, params, came) in [
        ("tools/call", r#""name":"m__a""#, CALLED),
        ("resources/read", r#""uri":"m+a:b""#, READ),
    ] {
        let answer = caller.ask(method, params).await;
        let wanted = came
            .replace(r#""uri":"a:"#, r#""uri":"m+a:"#)
            .replace("ui://v", "ui://m/v");
        assert_eq!(result(&answer), wanted);
    }
}

#[tokio::test]
async fn only_the_name_of_a_request_changes() {
    let (server, mut seen) = Server::answering(LEGACY, "{}");
    let gateway = Gateway::builder()
        .member("m", server.by(Road::Lines).await)
        .build()
        .unwrap();
    let mut caller = Caller::legacy(gateway).await;
    for (method, members) in [
        (
            "tools/call",
            r#""z":1e3,"name":"m__a","arguments":{"b":1.0,"a":[]},"new":{"x":0.10}"#,
        ),
        (
            "prompts/get",
            r#""z":1,"name":"m__a","arguments":{"b":"1"}"#,
        ),
        ("resources/read", r#""z":1.0,"uri":"m+a:b""#),
        (
            "completion/complete",
            r#""ref":{"z":1.0,"type":"ref/prompt","name":"m__a"},"argument":{"name":"x","value":"","n":1}"#,
        ),
    ] {
        caller.send(method, members).await;
        let sent = seen.next(method).await;
        let wanted = members.replace("m__a", "a").replace("m+a:b", "a:b");
        assert!(sent.contains(&wanted), "{sent}");
    }
}

#[tokio::test]
async fn a_reference_to_a_resource_is_known_by_its_uri_whatever_is_beside_it() {
    const COMPLETED: &[(&str, &str)] =
        &[("completion/complete", r#"{"completion":{"values":[]}}"#)];
    let (one, mut seen) = server(LEGACY, COMPLETED);
    let gateway = Gateway::builder()
        .member("one", one.by(Road::Lines).await)
        .member("two", member(LEGACY, COMPLETED).await)
        .build()
        .unwrap();
    let mut caller = Caller::legacy(gateway).await;
    let argument = r#""argument":{"name":"a","value":"v"}"#;
    for beside in [r#""name":"label","#, r#""name":"one+file:///a","#] {
        let reference =
            format!(r#""ref":{{"type":"ref/resource",{beside}"uri":"one+file:///a"}},{argument}"#);
        caller.ask("completion/complete", &reference).await;
        let asked = seen.next("completion/complete").await;
        let own = format!(r#""ref":{{"type":"ref/resource",{beside}"uri":"file:///a"}}"#);
        assert!(asked.contains(&own), "{asked}");
    }
}
