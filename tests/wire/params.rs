//! Params and `_meta` that a peer did not send.

use serde_json::{Value, json};

use crate::peers::{Caller, LEGACY, MODERN, ROADS, Road, Server};

/// A server that tells its client of these before it answers.
fn telling(revision: &'static str, told: Vec<&'static str>) -> Server {
    let (server, _) = Server::new(revision, move |message| {
        let answer =
            r#"{"jsonrpc":"2.0","id":$request_id,"result":{"content":[],"resultType":"complete"}}"#;
        match message["method"].as_str() {
            Some("tools/call") => told
                .iter()
                .chain([&answer])
                .map(|it| (*it).to_owned())
                .collect(),
            Some("tools/list") => vec![answer.to_owned()],
            _ => Vec::new(),
        }
    });
    server
}

#[tokio::test]
async fn a_servers_custom_notification_without_params_arrives_without() {
    let told = &[r#"{"jsonrpc":"2.0","method":"x/told"}"#];
    for road in [Road::Lines, Road::Pipe] {
        let mut caller = Caller::legacy(telling(LEGACY, told.to_vec()).by(road).await).await;
        caller.send("tools/call", r#""name":"t""#).await;
        assert_eq!(caller.hear("x/told").await, told[0], "{road:?}");
    }
}

#[tokio::test]
async fn a_callers_custom_messages_without_params_arrive_without() {
    for road in [Road::Lines, Road::Json, Road::Events] {
        let (server, mut seen) = Server::answering(LEGACY, "{}");
        let mut caller = Caller::legacy(server.by(road).await).await;
        caller.ask("tools/list", "").await;
        caller
            .write(r#"{"jsonrpc":"2.0","method":"x/notice"}"#)
            .await;
        let notice = seen.next("x/notice").await;
        assert_eq!(
            notice, r#"{"jsonrpc":"2.0","method":"x/notice"}"#,
            "{road:?}"
        );
        caller
            .write(r#"{"jsonrpc":"2.0","id":77,"method":"x/ask"}"#)
            .await;
        let asked: Value = serde_json::from_str(&seen.next("x/ask").await).unwrap();
        assert_eq!(asked.get("params"), None, "{road:?} {asked}");
    }
}

#[tokio::test]
async fn a_change_without_meta_arrives_without() {
    for revision in [LEGACY] {
        for road in [Road::Lines, Road::Pipe] {
            let told = [
                r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
                r#"{"jsonrpc":"2.0","method":"x/told","params":{"a":1}}"#,
            ];
            let mut caller = Caller::legacy(telling(revision, told.to_vec()).by(road).await).await;
            caller.ask("tools/list", "").await;
            caller.send("tools/call", r#""name":"t""#).await;
            // Those that belong to the call come on another way than changes.
            for _ in told {
                let heard: Value = serde_json::from_str(&caller.message().await).unwrap();
                let sent = told.map(|text| serde_json::from_str::<Value>(text).unwrap());
                assert!(sent.contains(&heard), "{road:?} {heard}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_gets_no_progress_token_that_the_caller_did_not_give() {
    for revision in [LEGACY, MODERN] {
        for road in ROADS {
            let (server, mut seen) = Server::answering(revision, r#"{"resultType":"complete"}"#);
            let mut caller = Caller::legacy(server.by(road).await).await;
            for (method, params) in [
                ("tools/call", r#""name":"t""#),
                ("tools/list", ""),
                ("prompts/get", r#""name":"p""#),
                ("resources/read", r#""uri":"a:b""#),
                ("x/custom", r#""a":1"#),
            ] {
                caller.ask(method, params).await;
                let sent: Value = serde_json::from_str(&seen.next(method).await).unwrap();
                let token = sent["params"]["_meta"].get("progressToken");
                assert_eq!(token, None, "{revision} {road:?} {sent}");
                if revision == LEGACY {
                    assert_eq!(sent["params"].get("_meta"), None, "{road:?} {sent}");
                }
            }
            let given = format!(
                r#""name":"t","_meta":{}"#,
                json!({ "progressToken": "mine" })
            );
            caller.ask("tools/call", &given).await;
            let sent: Value = serde_json::from_str(&seen.next("tools/call").await).unwrap();
            let token = sent["params"]["_meta"].get("progressToken");
            assert!(token.is_some(), "{revision} {road:?} {sent}");
        }
    }
}

#[tokio::test]
async fn a_caller_gets_no_progress_token_that_the_server_did_not_give() {
    let ask = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"m","requestedSchema":{"type":"object","properties":{}}}}"#;
    for road in [Road::Lines, Road::Pipe] {
        let (server, _) = Server::new(LEGACY, move |message| match message["method"].as_str() {
            Some("tools/call") => vec![ask.to_owned()],
            _ => Vec::new(),
        });
        let upstream = server.by(road).await;
        let mut caller = Caller::legacy_with(upstream, r#"{"elicitation":{}}"#).await;
        caller.send("tools/call", r#""name":"t""#).await;
        let asked: Value = serde_json::from_str(&caller.hear("elicitation/create").await).unwrap();
        assert_eq!(asked["params"].get("_meta"), None, "{road:?} {asked}");
    }
}
