//! Results that say less, or other things, than their method's type.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::model::{JsonObject, ServerResult};
use rmcp_layers::{
    McpResponse,
    cache::CacheLayer,
    registry::{RegisteredTool, RegistryLayer},
};
use serde_json::{Value, json};
use tower::{BoxError, Layer, ServiceExt};

use crate::peers::{Caller, LEGACY, MODERN, ROADS, Road, Server};

/// A caller, and a server whose next result is set.
struct Pair {
    caller: Caller,
    result: Arc<Mutex<String>>,
}

impl Pair {
    async fn modern(revision: &'static str, road: Road) -> Self {
        let (server, result) = Self::server(revision);
        let caller = Caller::modern(server.by(road).await);
        Self { caller, result }
    }

    async fn legacy(revision: &'static str, road: Road) -> Self {
        let (server, result) = Self::server(revision);
        let caller = Caller::legacy(server.by(road).await).await;
        Self { caller, result }
    }

    fn server(revision: &'static str) -> (Server, Arc<Mutex<String>>) {
        let result = Arc::<Mutex<String>>::default();
        let next = result.clone();
        let (server, _) = Server::new(revision, move |_| {
            let result = next.lock().unwrap();
            vec![format!(
                r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#
            )]
        });
        (server, result)
    }

    /// What the caller is told when the server's result is this.
    async fn told(&mut self, (method, params): (&str, &str), result: &str) -> Value {
        serde_json::from_str(&self.text(method, params, result).await).unwrap()
    }

    async fn text(&mut self, method: &str, params: &str, result: &str) -> String {
        result.clone_into(&mut self.result.lock().unwrap());
        self.caller.ask(method, params).await
    }
}

const TOOL: (&str, &str) = ("tools/call", r#""name":"t""#);

/// Methods, the member of their results, and its empty value.
fn methods() -> [(&'static str, &'static str, &'static str, Value); 8] {
    [
        ("tools/call", TOOL.1, "content", json!([])),
        ("prompts/get", r#""name":"p""#, "messages", json!([])),
        ("resources/read", r#""uri":"a:b""#, "contents", json!([])),
        (
            "completion/complete",
            r#""ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""}"#,
            "completion",
            json!({ "values": [] }),
        ),
        ("tools/list", "", "tools", json!([])),
        ("prompts/list", "", "prompts", json!([])),
        ("resources/list", "", "resources", json!([])),
        (
            "resources/templates/list",
            "",
            "resourceTemplates",
            json!([]),
        ),
    ]
}

#[tokio::test]
async fn null_and_an_empty_object_are_the_empty_result_of_a_known_method() {
    for revision in [LEGACY, MODERN] {
        for road in [Road::Lines, Road::Json] {
            let mut pair = Pair::modern(revision, road).await;
            for (method, params, member, empty) in methods() {
                for result in [
                    "null",
                    "{}",
                    r#"{"_meta":null}"#,
                    r#"{"resultType":"complete"}"#,
                ] {
                    let answer = pair.told((method, params), result).await;
                    assert_eq!(
                        answer["result"][member], empty,
                        "{revision} {road:?} {method} {result} {answer}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_result_that_is_empty_but_for_its_meta_keeps_it() {
    let mut pair = Pair::modern(LEGACY, Road::Lines).await;
    let answer = pair.told(TOOL, r#"{"_meta":{"x/y":1}}"#).await;
    assert_eq!(answer["result"]["content"], json!([]));
    assert_eq!(answer["result"]["_meta"]["x/y"], 1);
}

#[tokio::test]
async fn a_member_that_is_null_is_absent() {
    for revision in [LEGACY, MODERN] {
        let mut pair = Pair::modern(revision, Road::Lines).await;
        for (result, member) in [
            (r#"{"content":null}"#, "content"),
            (r#"{"content":null,"isError":null,"_meta":null}"#, "isError"),
            (r#"{"content":[],"_meta":null}"#, "_meta"),
            (r#"{"content":[],"isError":null}"#, "isError"),
        ] {
            let answer = pair.told(TOOL, result).await;
            assert_eq!(answer["result"]["content"], json!([]), "{result} {answer}");
            let absent = member == "content" || answer["result"].get(member).is_none();
            assert!(absent, "{result} {answer}");
        }
        let answer = pair.told(("tools/list", ""), r#"{"tools":null}"#).await;
        assert_eq!(answer["result"]["tools"], json!([]), "{answer}");
    }
}

#[tokio::test]
async fn structured_content_that_is_null_is_absent_before_2026_07_28() {
    let text = r#"[{"type":"text","text":"x"}]"#;
    let result =
        format!(r#"{{"content":{text},"structuredContent":null,"resultType":"complete"}}"#);
    let content: Value = serde_json::from_str(text).unwrap();
    for road in ROADS {
        let (server, _) = Server::answering(LEGACY, &result);
        let upstream = server.by(road).await;
        let mut older = Caller::legacy(upstream.clone()).await;
        let mut newer = Caller::modern(upstream);
        for caller in [&mut older, &mut newer] {
            let answer: Value = serde_json::from_str(&caller.ask(TOOL.0, TOOL.1).await).unwrap();
            assert_eq!(answer["result"]["content"], content, "{road:?} {answer}");
            assert!(
                answer["result"].get("structuredContent").is_none(),
                "{answer}"
            );
        }
        // Since then it is a value.
        let mut pair = Pair::modern(MODERN, road).await;
        let answer = pair.told(TOOL, &result).await;
        assert_eq!(
            answer["result"].get("structuredContent"),
            Some(&Value::Null)
        );
    }
}

#[tokio::test]
async fn null_is_an_answer_to_what_has_no_result() {
    for (method, params) in [
        ("logging/setLevel", r#""level":"info""#),
        ("resources/subscribe", r#""uri":"a:b""#),
        ("resources/unsubscribe", r#""uri":"a:b""#),
        ("ping", ""),
    ] {
        let (server, _) = Server::answering(LEGACY, "null");
        let server =
            server.with_capabilities(r#"{"resources":{"subscribe":true},"logging":{},"tools":{}}"#);
        let mut caller = Caller::legacy(server.by(Road::Lines).await).await;
        let answer: Value = serde_json::from_str(&caller.ask(method, params).await).unwrap();
        assert_eq!(answer["result"], json!({}), "{method} {answer}");
    }
}

#[tokio::test]
async fn a_custom_methods_result_is_carried_as_it_is() {
    for revision in [LEGACY, MODERN] {
        for road in [Road::Lines, Road::Json] {
            let mut pair = Pair::legacy(revision, road).await;
            for result in [
                "null",
                "{}",
                "7",
                r#"{"x":null,"a":1}"#,
                r#"{"content":[]}"#,
                r#"{"tools":[]}"#,
                r#"{"completion":{"values":[]}}"#,
                r#"{"messages":[]}"#,
                r#"{"_meta":{"a":1}}"#,
            ] {
                let answer = pair.text("x/custom", r#""a":1"#, result).await;
                let told = format!(r#""result":{result}}}"#);
                assert!(
                    answer.ends_with(&told),
                    "{revision} {road:?} {result} {answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_layer_that_removes_the_content_also_removes_content_that_is_no_list() {
    for content in [
        r#""secret""#,
        r#"{"type":"text","text":"secret"}"#,
        r#"{"x":"secret"}"#,
    ] {
        for revision in [LEGACY, MODERN] {
            let result = format!(r#"{{"content":{content},"resultType":"complete","x":1}}"#);
            let (server, _) = Server::answering(revision, &result);
            let stack = server.by(Road::Lines).await;
            let whole = Caller::modern(stack.clone()).ask(TOOL.0, TOOL.1).await;
            assert!(whole.contains(&result), "{whole}");
            let clearing = stack.map_response(|mut response: McpResponse| {
                if let ServerResult::CallToolResult(result) = &mut *response.result {
                    result.content.clear();
                }
                response
            });
            let cleared = Caller::modern(clearing).ask(TOOL.0, TOOL.1).await;
            assert!(cleared.contains(r#""content":[]"#), "{cleared}");
            assert!(cleared.contains(r#""x":1"#), "{cleared}");
            assert!(!cleared.contains("secret"), "{cleared}");
        }
    }
}

#[tokio::test]
async fn a_tool_is_hidden_in_each_of_two_lists_of_one_name() {
    let tool = |name: &str| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
    let (open, hidden) = (tool("open"), tool("hidden"));
    let result = format!(r#"{{"tools":[{hidden}],"tools":[{hidden},{open}]}}"#);
    let (server, _) = Server::answering(LEGACY, &result);
    let registry = RegistryLayer::new();
    // A registered tool stands in for the server's.
    let own = RegisteredTool::builder("hidden")
        .description("own")
        .handler(|_: JsonObject, _| async { Ok::<_, BoxError>(String::new()) });
    registry.handle().register(own.build().unwrap()).unwrap();
    let stack = registry.layer(server.by(Road::Lines).await);
    let listed = Caller::modern(stack).ask("tools/list", "").await;
    assert_eq!(listed.matches(r#""hidden""#).count(), 1, "{listed}");
    assert_eq!(listed.matches(r#""open""#).count(), 1, "{listed}");
}

#[tokio::test]
async fn requests_that_differ_in_the_last_digit_have_answers_of_their_own() {
    let count = Mutex::new(0);
    let (server, _) = Server::new(MODERN, move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        vec![format!(
            r#"{{"jsonrpc":"2.0","id":$request_id,"result":{{"resultType":"complete","content":[],"n":{count}}}}}"#
        )]
    });
    let cache = CacheLayer::builder()
        .cache_tool_for("t", Duration::from_secs(60))
        .build()
        .unwrap();
    let mut caller = Caller::modern(cache.layer(server.by(Road::Lines).await));
    for (argument, answer) in [
        ("9007199254740993", 1),
        ("9007199254740993", 1),
        ("0.30000000000000004", 2),
        ("0.30000000000000004", 2),
        ("100000000000000000000000001", 3),
        ("100000000000000000000000002", 4),
        ("0.10000000000000000001", 5),
        ("0.1", 6),
        ("0.1", 6),
    ] {
        let params = format!(r#""name":"t","arguments":{{"a":{argument}}}"#);
        let told = caller.ask("tools/call", &params).await;
        assert!(
            told.contains(&format!(r#""n":{answer}"#)),
            "{argument}: {told}"
        );
    }
}
