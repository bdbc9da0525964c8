//! Lines that hold something beside one message.

use serde_json::{Value, json};

use crate::peers::{Caller, LEGACY, MODERN, Road, Server};

const ANSWER: &str =
    r#"{"jsonrpc":"2.0","id":$request_id,"result":{"content":[{"type":"text","text":"found"}]}}"#;

/// Comes on a line of its own after the one that is tested.
const LATER: &str =
    r#"{"jsonrpc":"2.0","id":$request_id,"result":{"content":[{"type":"text","text":"later"}]}}"#;

/// What is told of a call that is answered with this line.
async fn answered_with(line: &str) -> Value {
    let line = line.replace("$answer", ANSWER);
    let (server, _) = Server::new(LEGACY, move |_| vec![line.clone(), LATER.to_owned()]);
    let mut caller = Caller::modern(server.by(Road::Lines).await);
    serde_json::from_str(&caller.ask("tools/call", r#""name":"t""#).await).unwrap()
}

#[tokio::test]
async fn an_answer_is_found_beside_what_is_for_a_terminal() {
    for line in [
        "\u{1b}[0m$answer",
        "\u{1b}[2K\u{1b}[1G$answer",
        "\u{1b}]0;a \"title\"\u{7}$answer",
        "\u{1b}[?25h \u{1b}[32m$answer\u{1b}[0m",
        "Loading…\r$answer",
        "10 %\r50 %\r\u{1b}[K$answer",
        "loading \"model\" {1}\r$answer",
        "Enter the code: $answer",
        "{50%} $answer",
        "\u{feff}\u{0}$answer",
        "$answer done",
        "$answer\r",
        "$answer,",
        "\u{1b}[0m$answer \\ud83d",
    ] {
        let answer = answered_with(line).await;
        assert_eq!(
            answer["result"]["content"][0]["text"], "found",
            "{line:?} {answer}"
        );
    }
}

#[tokio::test]
async fn several_messages_on_a_line_are_read_one_after_another() {
    let told = r#"{"jsonrpc":"2.0","method":"x/told","params":{"n":$n}}"#;
    for between in ["", " ", "\r", "\u{1b}[0m", "{}", r#"{"level":"info"} "#] {
        let (one, two) = (told.replace("$n", "1"), told.replace("$n", "2"));
        let line = [&one, &two, ANSWER].map(String::from).join(between);
        let (server, _) = Server::new(LEGACY, move |_| vec![line.clone()]);
        let mut caller = Caller::legacy(server.by(Road::Lines).await).await;
        caller.send("tools/call", r#""name":"t""#).await;
        for n in [1, 2] {
            let told: Value = serde_json::from_str(&caller.line().await).unwrap();
            assert_eq!(told["params"]["n"], n, "{between:?} {told}");
        }
        let answer: Value = serde_json::from_str(&caller.line().await).unwrap();
        assert_eq!(
            answer["result"]["content"][0]["text"], "found",
            "{between:?}"
        );
    }
}

#[tokio::test]
async fn a_callers_requests_on_one_line_are_all_answered() {
    let (server, mut seen) = Server::answering(MODERN, r#"{"content":[],"resultType":"complete"}"#);
    let mut caller = Caller::legacy(server.by(Road::Lines).await).await;
    let call = r#"{"jsonrpc":"2.0","id":$request_id,"method":"tools/call","params":{"name":"$request_id"}}"#;
    let line = [11, 12, 13].map(|id| call.replace("$request_id", &id.to_string()));
    caller.write(&format!("\u{1b}[0m{}", line.join(" "))).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer: Value = serde_json::from_str(&caller.line().await).unwrap();
        assert!(answer["result"].is_object(), "{answer}");
        ids.push(answer["id"].as_u64().unwrap());
        seen.next("tools/call").await;
    }
    ids.sort_unstable();
    assert_eq!(ids, [11, 12, 13]);
}

#[tokio::test]
async fn what_stands_within_a_broken_message_is_not_taken_for_an_answer() {
    let planted = r#"{"jsonrpc":"2.0","id":$request_id,"result":{"content":[{"type":"text","text":"planted"}]}}"#;
    for line in [
        r#"{"jsonrpc":"2.0","id":99,"result":{"x":NaN,"y":$planted}}"#,
        r#"  "structuredContent": $planted"#,
        r#"], $planted"#,
        r#"[$planted, NaN]"#,
    ] {
        let broken = line.replace("$planted", planted);
        let (server, _) = Server::new(LEGACY, move |request| {
            match request["params"]["name"].as_str() {
                Some("broken") => vec![broken.clone()],
                _ => vec![ANSWER.to_owned()],
            }
        });
        let upstream = server.by(Road::Lines).await;
        let mut caller = Caller::modern(upstream);
        let id = caller.send("tools/call", r#""name":"broken""#).await;
        caller.ask("tools/call", r#""name":"t""#).await;
        caller
            .write(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }).to_string())
            .await;
        let last = caller.ask("tools/call", r#""name":"t""#).await;
        assert!(last.contains("found"), "{line} {last}");
        assert!(
            !caller.heard.iter().any(|line| line.contains("planted")),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_line_of_many_documents_takes_time_in_proportion_to_its_length() {
    let started = std::time::Instant::now();
    for piece in [
        "{",
        "{}",
        r#"{"a":"#,
        r#"{"jsonrpc":"2.0"}"#,
        "\u{1b}[0m",
        "\\ud83d",
        "{ \"",
        "x\r",
    ] {
        let line = format!("{}$answer", piece.repeat(1_000_000 / piece.len()));
        answered_with(&line).await;
    }
    let took = started.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
}
