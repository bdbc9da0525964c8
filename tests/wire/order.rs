//! The order of an object's members.

use rmcp_layers::cache::CacheLayer;
use tower::Layer;

use crate::peers::{Caller, LEGACY, MODERN, ROADS, Road, Server};

/// An object whose members are in no order, at any depth.
const MIXED: &str = r#"{"z":1,"a":{"y":[{"q":1,"b":2}],"c":3},"m":null}"#;

#[tokio::test]
async fn a_results_members_keep_their_order() {
    for revision in [LEGACY, MODERN] {
        for road in ROADS {
            let result = format!(
                r#"{{"content":[],"structuredContent":{MIXED},"_meta":{{"z/z":{MIXED},"a/a":1}},"resultType":"complete"}}"#
            );
            let (server, _) = Server::answering(revision, &result);
            let mut caller = Caller::modern(server.by(road).await);
            let answer = caller.ask("tools/call", r#""name":"t""#).await;
            let structured = format!(r#""structuredContent":{MIXED}"#);
            assert!(answer.contains(&structured), "{road:?} {answer}");
            let meta = format!(r#""_meta":{{"z/z":{MIXED},"a/a":1}}"#);
            assert!(answer.contains(&meta), "{road:?} {answer}");
        }
    }
}

#[tokio::test]
async fn a_schemas_properties_keep_their_order() {
    let schema = r#"{"type":"object","properties":{"z":{"type":"string","description":"d","enum":["b","a"]},"a":{"type":"number"},"m":{}},"required":["z"],"$defs":{"y":{},"b":{}},"additionalProperties":false}"#;
    let result = format!(
        r#"{{"tools":[{{"name":"t","inputSchema":{schema},"outputSchema":{schema}}}],"resultType":"complete","ttlMs":0,"cacheScope":"private"}}"#
    );
    for revision in [LEGACY, MODERN] {
        let (server, _) = Server::answering(revision, &result);
        let mut caller = Caller::modern(server.by(Road::Lines).await);
        let answer = caller.ask("tools/list", "").await;
        for name in ["inputSchema", "outputSchema"] {
            let member = format!(r#""{name}":{schema}"#);
            assert!(answer.contains(&member), "{answer}");
        }
    }
}

#[tokio::test]
async fn arguments_and_meta_of_a_call_keep_their_order() {
    for revision in [LEGACY, MODERN] {
        for road in ROADS {
            let (server, mut seen) = Server::answering(revision, r#"{"content":[]}"#);
            let mut caller = Caller::legacy(server.by(road).await).await;
            let params = format!(
                r#""name":"t","arguments":{MIXED},"_meta":{{"x/z":1,"progressToken":"p","x/b":{MIXED},"x/y":2,"x/a":3}}"#
            );
            caller.ask("tools/call", &params).await;
            let call = seen.next("tools/call").await;
            let arguments = format!(r#""arguments":{MIXED}"#);
            assert!(call.contains(&arguments), "{road:?} {call}");
            // The hop's own entries aside.
            let places = ["\"x/z\"", "\"x/b\"", "\"x/y\"", "\"x/a\""].map(|key| call.find(key));
            assert!(places.is_sorted() && places[0].is_some(), "{road:?} {call}");
            assert!(call.contains(MIXED), "{road:?} {call}");
        }
    }
}

#[tokio::test]
async fn custom_methods_and_notifications_keep_their_order() {
    let (server, mut seen) = Server::new(LEGACY, |request| {
        let params = &request["params"];
        vec![
            format!(r#"{{"jsonrpc":"2.0","method":"x/told","params":{MIXED}}}"#),
            format!(
                r#"{{"jsonrpc":"2.0","id":$request_id,"result":{{"z":{params},"a":{MIXED}}}}}"#
            ),
        ]
    });
    let mut caller = Caller::legacy(server.by(Road::Lines).await).await;
    let members = MIXED.trim_start_matches('{').strip_suffix('}').unwrap();
    caller.send("x/asked", members).await;
    let told = caller.hear("x/told").await;
    assert!(told.contains(&format!(r#""params":{MIXED}"#)), "{told}");
    let answer = caller.line().await;
    assert!(answer.contains(&format!(r#""a":{MIXED}"#)), "{answer}");
    assert!(
        answer.find(r#""z":"#) < answer.find(r#""a":{"z""#),
        "{answer}"
    );
    let asked = seen.next("x/asked").await;
    assert!(asked.contains(members), "{asked}");
    let notice = format!(r#"{{"jsonrpc":"2.0","method":"x/notice","params":{MIXED}}}"#);
    caller.write(&notice).await;
    let notice = seen.next("x/notice").await;
    assert!(notice.contains(members), "{notice}");
}

#[tokio::test]
async fn an_elicitations_fields_and_its_answer_keep_their_order() {
    let form =
        r#""properties":{"z":{"type":"string"},"a":{"type":"boolean"},"m":{"type":"number"}}"#;
    let (server, mut seen) = Server::new(LEGACY, move |message| match message["id"].as_str() {
        Some("q") => Vec::new(),
        _ => vec![format!(
            r#"{{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{{"message":"m","requestedSchema":{{"type":"object",{form}}}}}}}"#
        )],
    });
    let upstream = server.by(Road::Lines).await;
    let mut caller = Caller::legacy_with(upstream, r#"{"elicitation":{}}"#).await;
    caller.send("tools/call", r#""name":"t""#).await;
    let asked = caller.hear("elicitation/create").await;
    assert!(asked.contains(form), "{asked}");
    let id = &serde_json::from_str::<serde_json::Value>(&asked).unwrap()["id"];
    let content = r#""content":{"z":"1","a":true,"m":3}"#;
    let answer =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"action":"accept",{content}}}}}"#);
    caller.write(&answer).await;
    let answered = loop {
        let text = seen.any().await;
        if text.contains("accept") {
            break text;
        }
    };
    assert!(answered.contains(content), "{answered}");
}

#[tokio::test]
async fn known_members_of_a_servers_messages_keep_their_order() {
    const ASKED: [(&str, &str); 3] = [
        (
            "elicitation/create",
            r#""params":{"requestedSchema":{"properties":{"a":{"title":"t","type":"string"}},"type":"object"},"message":"m"}"#,
        ),
        ("roots/list", r#""params":{}"#),
        // rmcp's types have no field of this type.
        (
            "elicitation/create",
            r#""params":{"message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"x"}}},"_meta":{"x/y":1}}"#,
        ),
    ];
    for road in [Road::Lines, Road::Events] {
        for (method, params) in ASKED {
            let (server, _) = Server::new(LEGACY, move |message| {
                if message["method"] != "tools/call" {
                    return Vec::new();
                }
                let token = &message["params"]["_meta"]["progressToken"];
                let progress = format!(r#"{{"total":3.5,"progress":1.5,"progressToken":{token}}}"#);
                vec![
                    format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{progress}}}"#
                    ),
                    r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{"z":1,"a":2},"level":"info"}}"#
                        .to_owned(),
                    format!(r#"{{"jsonrpc":"2.0","id":"q","method":"{method}",{params}}}"#),
                ]
            });
            let capabilities = r#"{"elicitation":{},"roots":{}}"#;
            let mut caller = Caller::legacy_with(server.by(road).await, capabilities).await;
            let call = r#""name":"t","_meta":{"progressToken":"p"}"#;
            caller.send("tools/call", call).await;
            let progress = caller.hear("notifications/progress").await;
            let members = r#"{"total":3.5,"progress":1.5,"progressToken":"p"}"#;
            assert!(progress.contains(members), "{road:?} {progress}");
            let log = caller.hear("notifications/message").await;
            let members = r#"{"data":{"z":1,"a":2},"level":"info"}"#;
            assert!(log.contains(members), "{road:?} {log}");
            let asked = caller.hear(method).await;
            assert!(asked.contains(params), "{road:?} {asked}");
        }
    }
}

#[tokio::test]
async fn a_servers_handshake_keeps_its_order() {
    for result in [
        r#"{"serverInfo":{"version":"1","name":"raw"},"instructions":"i","protocolVersion":"2025-11-25","capabilities":{"tools":{}}}"#,
        r#"{"capabilities":{"tools":{},"logging":{}},"protocolVersion":"2025-11-25","serverInfo":{"name":"raw","version":"1","x":1},"instructions":"i","_meta":{"x/y":1}}"#,
    ] {
        for road in [Road::Lines, Road::Json, Road::Events] {
            let (server, _) = Server::answering(LEGACY, "{}");
            let server = server.with_initialized(result);
            let caller = Caller::legacy(server.by(road).await).await;
            let answer = &caller.heard[0];
            assert!(answer.contains(result), "{road:?} {answer}");
        }
    }
}

#[tokio::test]
async fn the_order_of_arguments_and_meta_does_not_matter_to_the_cache() {
    let calls = [
        r#""name":"t","arguments":{"z":1,"a":{"c":[{"x":1,"b":2}],"b":3}},"_meta":{"x/z":1,"x/a":2}"#,
        r#""name":"t","_meta":{"x/a":2,"x/z":1},"arguments":{"a":{"b":3,"c":[{"b":2,"x":1}]},"z":1}"#,
    ];
    let result = format!(r#"{{"content":[],"structuredContent":{MIXED}}}"#);
    let (server, mut seen) = Server::answering(LEGACY, &result);
    let cache = CacheLayer::builder().cache_tool("t").build().unwrap();
    let stack = cache.layer(server.by(Road::Lines).await);
    let mut caller = Caller::legacy(stack).await;
    for call in calls {
        // The copy in the cache has the order too.
        let answer = caller.ask("tools/call", call).await;
        let structured = format!(r#""structuredContent":{MIXED}"#);
        assert!(answer.contains(&structured), "{answer}");
    }
    caller.ask("ping", "").await;
    caller.ask("x/last", "").await;
    seen.next("tools/call").await;
    let mut more = Vec::new();
    while let Some(method) = seen.method().await
        && method != "x/last"
    {
        more.push(method);
    }
    assert!(!more.contains(&"tools/call".to_owned()), "{more:?}");
}
