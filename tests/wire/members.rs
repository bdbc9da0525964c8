//! Params with members that a method does not have, or that two parsers may read differently.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp_layers::cache::CacheLayer;
use serde_json::Value;
use tower::Layer;

use crate::peers::{Caller, LEGACY, MODERN, Road, Server};

#[tokio::test]
async fn a_cached_answer_does_not_answer_params_with_other_members() {
    for revision in [LEGACY, MODERN] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let (server, _) = Server::new(revision, move |_| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let result = format!(
                r#"{{"resultType":"complete","content":[{{"type":"text","text":"{number}"}}]}}"#
            );
            vec![format!(
                r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#
            )]
        });
        let cache = CacheLayer::builder()
            .cache_tool_for("t", Duration::from_secs(60))
            .build()
            .unwrap();
        let mut caller = Caller::modern(cache.layer(server.by(Road::Lines).await));
        let mut texts = Vec::new();
        for params in [
            r#""name":"t""#,
            r#""name":"t""#,
            r#""name":"t","preview":true"#,
            r#""name":"t","preview":false"#,
            r#""name":"t","task":{}"#,
            r#""name":"t""#,
        ] {
            let answer: Value =
                serde_json::from_str(&caller.ask("tools/call", params).await).unwrap();
            texts.push(
                answer["result"]["content"][0]["text"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        }
        assert_eq!(texts, ["0", "0", "1", "2", "3", "0"], "{revision}");
    }
}

#[tokio::test]
async fn params_that_two_parsers_may_read_differently_reach_no_server() {
    let (server, mut seen) = Server::answering(LEGACY, r#"{"content":[]}"#);
    let mut caller = Caller::legacy(server.by(Road::Lines).await).await;
    for (method, params, path) in [
        ("tools/call", r#""name":"a","name":"b""#, "params"),
        (
            "tools/call",
            r#""name":"a","arguments":{"x":1,"x":2}"#,
            "params",
        ),
        ("tools/call", r#""name":"a","Name":"b""#, "params.Name"),
        (
            "tools/call",
            r#""name":"a","ARGUMENTS":{}"#,
            "params.ARGUMENTS",
        ),
        ("resources/read", r#""uri":"a:b","Uri":"a:c""#, "params.Uri"),
        (
            "prompts/get",
            r#""name":"a","argument\u017f":{}"#,
            "params.argumentſ",
        ),
        (
            "completion/complete",
            r#""ref":{"type":"ref/prompt","name":"a","Name":"b"},"argument":{"name":"a","value":""}"#,
            "params.ref.Name",
        ),
        ("x/custom", r#""a":{"b":1,"b":2}"#, "params"),
    ] {
        let answer: Value = serde_json::from_str(&caller.ask(method, params).await).unwrap();
        assert_eq!(
            answer["error"]["code"], -32602,
            "{method} {params} {answer}"
        );
        assert_eq!(answer["error"]["data"]["path"], path, "{params} {answer}");
    }
    let answer = caller.ask("tools/call", r#""name":"last""#).await;
    assert!(answer.contains("result"), "{answer}");
    let first = seen.next("tools/call").await;
    assert!(first.contains("last"), "{first}");
}
