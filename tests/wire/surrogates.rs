//! Text that no Rust string holds.

use serde_json::Value;

use crate::peers::{Caller, LEGACY, MODERN, Road, Server};

/// What peers write, and what is read.
const TEXTS: [(&str, &str); 8] = [
    (r"cut \ud83d here", "cut \u{fffd} here"),
    (r"\uDC00 x", "\u{fffd} x"),
    (r"a\ud83d\u0041", "a\u{fffd}A"),
    (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
    (r"at the end \ud83d", "at the end \u{fffd}"),
    (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
    (r"\\ud83d \ud83d", "\\ud83d \u{fffd}"),
    (r"\\\ud83d \ud83d\ude00", "\\\u{fffd} \u{1f600}"),
];

fn texts() -> (String, Vec<&'static str>) {
    let written = TEXTS.map(|(text, _)| format!(r#"{{"type":"text","text":"{text}"}}"#));
    (written.join(","), TEXTS.map(|(_, read)| read).to_vec())
}

fn read(message: &str) -> Value {
    serde_json::from_str(message).unwrap()
}

async fn an_answer_by(revision: &'static str, road: Road) {
    let (content, expected) = texts();
    let result = format!(
        r#"{{"content":[{content}],"structuredContent":{{"\ud83d":"\ud83d"}},"resultType":"complete"}}"#
    );
    let (server, _) = Server::answering(revision, &result);
    let mut caller = Caller::modern(server.by(road).await);
    let answer = read(&caller.ask("tools/call", r#""name":"t""#).await);
    let result = &answer["result"];
    let texts: Vec<_> = (0..expected.len())
        .map(|index| result["content"][index]["text"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(texts, expected, "{revision} {road:?} {answer}");
    assert_eq!(result["structuredContent"]["\u{fffd}"], "\u{fffd}");
}

#[tokio::test]
async fn a_servers_lone_surrogate_becomes_the_replacement_character_over_lines() {
    for revision in [LEGACY, MODERN] {
        an_answer_by(revision, Road::Lines).await;
    }
}

#[tokio::test]
async fn a_servers_lone_surrogate_becomes_the_replacement_character_over_http() {
    for revision in [LEGACY, MODERN] {
        for road in [Road::Json, Road::Events] {
            an_answer_by(revision, road).await;
        }
    }
}

#[tokio::test]
async fn a_servers_notification_and_question_with_a_lone_surrogate_arrive() {
    let (server, mut seen) = Server::new(LEGACY, |message| {
        match message["method"].as_str() {
        Some("tools/call") => vec![
            r#"{"jsonrpc":"2.0","method":"x/told","params":{"text":"\ud83d"}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"\udc00?","requestedSchema":{"type":"object","properties":{}}}}"#.to_owned(),
        ],
        _ => Vec::new(),
    }
    });
    let upstream = server.by(Road::Lines).await;
    let mut caller = Caller::legacy_with(upstream, r#"{"elicitation":{}}"#).await;
    caller.send("tools/call", r#""name":"t""#).await;
    let told = read(&caller.hear("x/told").await);
    assert_eq!(told["params"]["text"], "\u{fffd}");
    let asked = read(&caller.hear("elicitation/create").await);
    assert_eq!(asked["params"]["message"], "\u{fffd}?");
    // The caller's answer is cut too.
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept","content":{{"a":"\ud83d"}}}}}}"#,
        asked["id"]
    );
    caller.write(&answer).await;
    let answered = loop {
        let message = read(&seen.any().await);
        if message["id"] == "q" {
            break message;
        }
    };
    assert_eq!(answered["result"]["content"]["a"], "\u{fffd}");
}

#[tokio::test]
async fn an_error_with_a_lone_surrogate_keeps_its_code() {
    let error =
        r#"{"jsonrpc":"2.0","id":$request_id,"error":{"code":-32042,"message":"cut \ud83d"}}"#;
    let (server, _) = Server::new(LEGACY, move |_| vec![error.to_owned()]);
    let mut caller = Caller::modern(server.by(Road::Lines).await);
    let answer = read(&caller.ask("tools/call", r#""name":"t""#).await);
    assert_eq!(answer["error"]["code"], -32042);
    assert_eq!(answer["error"]["message"], "cut \u{fffd}");
}

#[tokio::test]
async fn a_callers_lone_surrogate_becomes_the_replacement_character_over_lines() {
    let (server, mut seen) = Server::answering(LEGACY, r#"{"content":[]}"#);
    let mut caller = Caller::legacy(server.by(Road::Lines).await).await;
    for (text, meant) in TEXTS {
        let call = format!(r#""name":"t","arguments":{{"{text}":["{text}"]}}"#);
        let answer = read(&caller.ask("tools/call", &call).await);
        assert!(answer["result"].is_object(), "{answer}");
        let call = read(&seen.next("tools/call").await);
        assert_eq!(call["params"]["arguments"][meant][0], meant, "{call}");
    }
    caller
        .write(r#"{"jsonrpc":"2.0","method":"x/notice","params":{"text":"\uD83D"}}"#)
        .await;
    let notice = read(&seen.next("x/notice").await);
    assert_eq!(notice["params"]["text"], "\u{fffd}");
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_become_the_replacement_character() {
    let (server, mut seen) = Server::answering(LEGACY, r#"{"content":[]}"#);
    let mut caller = Caller::legacy(server.by(Road::Lines).await).await;
    caller
        .write_bytes(b"{\"jsonrpc\":\"2.0\",\"method\":\"x/notice\",\"params\":{\"a\":\"caf\xe9 \xf0\x9f\x98\"}}")
        .await;
    let notice = read(&seen.next("x/notice").await);
    assert_eq!(notice["params"]["a"], "caf\u{fffd} \u{fffd}");
}
