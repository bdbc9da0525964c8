//! A server's malformed messages.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use super::callers::nested;
use crate::peers::{Caller, LEGACY, MODERN, Road, Server};

/// The time in which a call is answered. The timeout of requests is longer.
const SOON: Duration = Duration::from_secs(20);

/// The lines that a server sends in answer to a call, and the answer that the caller gets.
#[derive(Clone)]
struct Row {
    /// `$request_id` stands for the call's id, and `$ok` for a block of content.
    told: Vec<String>,
    expected: Expected,
    roads: &'static [Road],
    /// `true` if the lines can be the answer to any call.
    is_nameless: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// A result, with the readable block of content if the server sent one.
    Result,
    /// An error. Its message has this text.
    Error(&'static str),
}
use Expected::{Error as Fails, Result as Arrives};

const ALL: &[Road] = &[Road::Lines, Road::Json, Road::Events];
const HTTP: &[Road] = &[Road::Json, Road::Events];
/// Those where a call may be answered with several messages.
const STREAMS: &[Road] = &[Road::Lines, Road::Events];

const OK: &str = r#"{"type":"text","text":"ok"}"#;
const GOOD: &str =
    r#"{"jsonrpc":"2.0","id":$request_id,"result":{"resultType":"complete","content":[$ok]}}"#;

impl Row {
    fn of(told: impl Into<String>, expected: Expected) -> Self {
        Self {
            told: vec![told.into()],
            expected,
            roads: ALL,
            is_nameless: false,
        }
    }

    fn nameless(self) -> Self {
        Self {
            is_nameless: true,
            ..self
        }
    }

    fn by(self, roads: &'static [Road]) -> Self {
        Self { roads, ..self }
    }

    fn lines(&self) -> Vec<String> {
        let lines = self.told.iter().map(|line| line.replace("$ok", OK));
        lines.collect()
    }

    fn name(&self) -> String {
        let start: String = self.told[0].chars().take(160).collect();
        format!("{start:?}")
    }
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for part in [
        answers(),
        results(),
        nameless(),
        beside(),
        not_an_answer(),
        before_the_answer(),
    ] {
        rows.extend(part);
    }
    rows
}

fn with(members: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":$request_id,{members}}}"#)
}

/// Answers whose envelope is malformed.
fn answers() -> Vec<Row> {
    let result = r#""result":{"content":[$ok]}"#;
    let long = "x".repeat(17 * 1024 * 1024);
    let deep = nested(200);
    vec![
        Row::of(
            r#"{"jsonrpc":"2.0","id":$request_id,"result":{"content":["#,
            Fails("not JSON"),
        ),
        Row::of(
            r#"{"jsonrpc":"2.0","id":"$request_id","result":{"content":["#,
            Fails("not JSON"),
        ),
        Row::of(with(r#""result":{"content":[tru]}"#), Fails("not JSON")),
        Row::of(with(r#""result":{"content":[],}"#), Fails("not JSON")),
        Row::of(
            with("\"result\":{\"content\":[\"\u{1}\"]}"),
            Fails("not JSON"),
        ),
        Row::of(with(r#""result":{"a":01}"#), Fails("not JSON")),
        Row::of(with(r#""result":{"a":NaN}"#), Fails("not JSON")),
        Row::of(
            r#"{"jsonrpc":"1.0","id":$request_id,"result":{}}"#,
            Fails(""),
        ),
        Row::of(r#"{"id":$request_id,"result":{"content":[]}}"#, Fails("")),
        Row::of(r#"{"jsonrpc":"2.0","id":$request_id}"#, Fails("")),
        Row::of(
            with(r#""result":{},"error":{"code":-1,"message":"m"}"#),
            Fails(""),
        ),
        Row::of(with(r#""error":"failed""#), Fails("")),
        Row::of(with(r#""error":{"message":"m"}"#), Fails("")),
        Row::of(with(r#""error":{"code":-1}"#), Fails("")),
        Row::of(with(r#""error":{"code":"x","message":"m"}"#), Fails("")),
        Row::of(with(r#""error":{"code":-1,"message":5}"#), Fails("")),
        Row::of(with(r#""error":{"code":1e99,"message":"m"}"#), Fails("")),
        Row::of(with(r#""error":[]"#), Fails("")),
        Row::of(
            with(r#""error":{"code":-1,"message":"no more paper","data":[1]}"#),
            Fails("no more paper"),
        ),
        Row::of(
            with(r#""result":null,"error":{"code":-1,"message":"no more paper"}"#),
            Fails("no more paper"),
        ),
        Row::of(with(&format!(r#"{result},"error":null"#)), Arrives),
        Row::of(with(&format!(r#"{result},"x":1"#)), Arrives),
        Row::of(
            format!(r#"{{{result},"id":$request_id,"jsonrpc":"2.0"}}"#),
            Arrives,
        ),
        Row::of(
            format!(r#"{{"jsonrpc":"2.0","id":"$request_id",{result}}}"#),
            Arrives,
        ),
        Row::of(
            format!(r#"[{{"jsonrpc":"2.0","id":$request_id,{result}}}]"#),
            Arrives,
        ),
        Row::of(with(&format!(r#""id":$request_id,{result}"#)), Fails("")),
        Row::of(with(&format!("{result},{result}")), Fails("")),
        Row::of(
            with(&format!(
                r#""result":{{"content":[{{"type":"text","text":"{long}"}}]}}"#
            )),
            Fails("16777216"),
        ),
        Row::of(
            with(&format!(
                r#""result":{{"content":[],"structuredContent":{deep}}}"#
            )),
            Fails(""),
        ),
    ]
}

/// Results of a tool that are malformed in part.
fn results() -> Vec<Row> {
    let result = |members: &str| Row::of(with(&format!(r#""result":{members}"#)), Arrives);
    let mut rows: Vec<_> = [
        "null",
        "{}",
        r#"{"content":null}"#,
        r#"{"content":[]}"#,
        r#"{"content":[$ok],"isError":"yes"}"#,
        r#"{"content":[$ok],"isError":null}"#,
        r#"{"content":[$ok],"_meta":5}"#,
        r#"{"content":[$ok],"_meta":null}"#,
        r#"{"content":[$ok],"structuredContent":5}"#,
        r#"{"content":[$ok],"structuredContent":null}"#,
        r#"{"content":[$ok],"structuredContent":{"a":1e999,"b":18446744073709551616}}"#,
        r#"{"content":[$ok],"content":[$ok]}"#,
        r#"{"content":[$ok],"tools":[],"x":{"y":[]}}"#,
        r#"{"content":[$ok],"a":"cut \ud83d here"}"#,
        r#"{"content":[$ok],"a":"\u0000"}"#,
        r#"{"content":[$ok],"resultType":null}"#,
    ]
    .map(result)
    .into();
    for block in [
        "null",
        "5",
        r#""text""#,
        "[]",
        "{}",
        r#"{"type":"hologram","x":1}"#,
        r#"{"type":5}"#,
        r#"{"type":"text"}"#,
        r#"{"type":"text","text":5}"#,
        r#"{"type":"text","text":null}"#,
        r#"{"type":"text","text":"t","annotations":5}"#,
        r#"{"type":"text","text":"t","annotations":{"audience":["developer"],"priority":"high"}}"#,
        r#"{"type":"image","mimeType":"image/png"}"#,
        r#"{"type":"image","data":5,"mimeType":5}"#,
        r#"{"type":"resource","resource":{"uri":"u:u"}}"#,
        r#"{"type":"resource","resource":[]}"#,
        r#"{"type":"resource_link"}"#,
    ] {
        rows.push(result(&format!(r#"{{"content":[$ok,{block}]}}"#)));
    }
    for odd in ["5", "true", r#""text""#, "[]"] {
        rows.push(Row::of(with(&format!(r#""result":{odd}"#)), Fails("raw")));
    }
    for content in [r#""text""#, "5", "{}"] {
        rows.push(result(&format!(r#"{{"content":{content}}}"#)));
    }
    rows
}

/// Answers whose `id` cannot be read. They are those of the only call.
fn nameless() -> Vec<Row> {
    let result = r#""result":{"content":[$ok]}"#;
    [
        Row::of(format!(r#"{{"jsonrpc":"2.0",{result}}}"#), Fails("")),
        Row::of(
            format!(r#"{{"jsonrpc":"2.0","id":null,{result}}}"#),
            Fails(""),
        ),
        Row::of(
            format!(r#"{{"jsonrpc":"2.0","id":{{}},{result}}}"#),
            Fails(""),
        ),
        Row::of(
            format!(r#"{{"jsonrpc":"2.0","id":[$request_id],{result}}}"#),
            Fails(""),
        ),
        Row::of(
            format!(r#"{{"jsonrpc":"2.0","id":true,{result}}}"#),
            Fails(""),
        ),
        Row::of(
            format!(r#"{{"jsonrpc":"2.0","id":1.5,{result}}}"#),
            Fails(""),
        ),
        Row::of(
            format!(r#"{{"jsonrpc":"2.0","id":1e999,{result}}}"#),
            Fails(""),
        ),
        Row::of(
            r#"{"jsonrpc":"2.0","result":{"content":["#,
            Fails("not JSON"),
        ),
        Row::of(
            r#"{"jsonrpc":"2.0","error":{"code":-1,"message":"no more paper"}}"#,
            Fails("no more paper"),
        ),
        Row::of(
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no more paper"}}"#,
            Fails("no more paper"),
        ),
        Row::of(r#"{"jsonrpc":"2.0","id":null,"error":"failed"}"#, Fails("")),
    ]
    .map(Row::nameless)
    .into()
}

/// Text beside an answer, on its line.
fn beside() -> Vec<Row> {
    let lines = [
        format!("\u{feff}{GOOD}"),
        format!("\u{0}{GOOD}"),
        format!("\u{1b}[0m{GOOD}\u{1b}[0m"),
        format!("Loading\r{GOOD}"),
        format!("listening on :80 {GOOD}"),
        format!("{GOOD} done"),
        format!("{GOOD}}}"),
        format!(r#"{{"jsonrpc":"2.0","method":"x/told"}}{GOOD}"#),
        format!(r#"{{"level":"info"}} {GOOD}"#),
    ];
    let lines = lines.map(|line| Row::of(line, Arrives).by(&[Road::Lines]));
    let marked = Row::of(format!("\u{feff}{GOOD}"), Arrives).by(&[Road::Json]);
    lines.into_iter().chain([marked]).collect()
}

/// Bodies without an answer. Over HTTP, no answer comes after them.
fn not_an_answer() -> Vec<Row> {
    [
        "",
        " ",
        "null",
        "5",
        r#""text""#,
        "[]",
        "{}",
        "<html></html>",
        r#"{"jsonrpc":"2.0","method":"x/told"}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":99999,"result":{"content":[]}}"#,
        r#"{"jsonrpc":"2.0","id":99999,"error":{"code":-1,"message":"m"}}"#,
        r#"[{"jsonrpc":"2.0","method":"x/told"}]"#,
        "[[",
    ]
    .map(|body| Row::of(body, Fails("")).by(HTTP))
    .into()
}

/// Notifications and requests that cannot be read, before a good answer.
fn before_the_answer() -> Vec<Row> {
    let deep = nested(200);
    let told = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
    };
    let asked = |id: &str, method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    };
    let lines = [
        told(
            "notifications/progress",
            r#"{"progressToken":1,"progress":"3"}"#,
        ),
        told(
            "notifications/progress",
            r#"{"progressToken":{},"progress":3}"#,
        ),
        told("notifications/progress", "[]"),
        told("notifications/message", "{}"),
        told("notifications/message", r#"{"level":"loud","data":1}"#),
        told("notifications/cancelled", r#"{"requestId":{}}"#),
        told("notifications/cancelled", "null"),
        told("notifications/resources/updated", r#"{"uri":5}"#),
        told("notifications/tools/list_changed", "5"),
        told("x/told", &deep),
        told("", "{}"),
        told("tools/call", "{}"),
        r#"{"jsonrpc":"2.0","method":5}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":null,"params":{}}"#.to_owned(),
        r#"{"jsonrpc":"1.0","method":"x/told"}"#.to_owned(),
        asked("7", "sampling/createMessage", "5"),
        asked("7", "sampling/createMessage", r#"{"messages":5}"#),
        asked("7", "elicitation/create", "[]"),
        asked("7", "roots/list", &deep),
        asked("7", "x/unknown", "null"),
        asked("7", "", "{}"),
        asked("null", "ping", "{}"),
        asked("{}", "ping", "{}"),
        asked("1.5", "ping", "{}"),
        asked(r#""""#, "ping", "{}"),
        asked("$request_id", "ping", "{}"),
        asked(r#"7,"id":8"#, "ping", "{}"),
        r#"{"jsonrpc":"2.0","id":7,"method":5}"#.to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
    ];
    let row = |line| Row {
        told: vec![line, GOOD.to_owned()],
        expected: Arrives,
        roads: STREAMS,
        is_nameless: false,
    };
    // Over HTTP, what answers a call is on the response to it, readable or not.
    let of_others = [
        "hello".to_owned(),
        r#"{"jsonrpc":"2.0","method":"x/told","params":{"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":99999,"result":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":"x","result":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":99999,"error":"failed"}"#.to_owned(),
    ];
    let of_others = of_others.map(|line| row(line).by(&[Road::Lines]));
    lines.map(row).into_iter().chain(of_others).collect()
}

/// A server that answers the call of `row` with its lines, and the call of `hold` with that of
/// `release`.
fn server(revision: &'static str, row: &Row) -> Server {
    let lines = row.lines();
    let held = Arc::new(Mutex::new(Value::Null));
    let (server, _) = Server::new(revision, move |message| {
        let good = GOOD.replace("$ok", OK);
        match message["params"]["name"].as_str() {
            Some("row") => lines.clone(),
            Some("hold") => {
                *held.lock().unwrap() = message["id"].clone();
                Vec::new()
            }
            Some("release") => vec![
                good.replace("$request_id", &held.lock().unwrap().to_string()),
                good,
            ],
            Some(_) => vec![good],
            // The answer to a request of the server.
            None => Vec::new(),
        }
    });
    server
}

/// Returns what is wrong with the answer to a call, or with the calls beside and after it.
async fn fault(revision: &'static str, row: &Row, road: Road) -> Option<String> {
    let mut caller = Caller::modern(server(revision, row).by(road).await);
    // The connection is made, so that the others go over it in their order.
    caller.ask("tools/call", r#""name":"first""#).await;
    let holds = road == Road::Lines && !row.is_nameless;
    let held = match holds {
        true => Some(caller.send("tools/call", r#""name":"hold""#).await),
        false => None,
    };
    let call = caller.ask("tools/call", r#""name":"row""#);
    let Ok(answer) = tokio::time::timeout(SOON, call).await else {
        return Some("no answer".to_owned());
    };
    let shown: String = answer.chars().take(400).collect();
    let is_readable = row.told.iter().any(|line| line.contains("$ok"));
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    let is_expected = match row.expected {
        Arrives => answer.get("error").is_none() && (!is_readable || shown.contains(r#""ok""#)),
        Fails(why) => {
            let message = answer["error"]["message"].as_str();
            message.is_some_and(|message| message.contains(why))
        }
    };
    let other = match holds {
        true => r#""name":"release""#,
        false => r#""name":"other""#,
    };
    let call = caller.ask("tools/call", other);
    let Ok(next) = tokio::time::timeout(SOON, call).await else {
        return Some(format!("{shown}, and then no answer"));
    };
    if !next.contains(r#""ok""#) {
        return Some(format!("{shown}, and then {next}"));
    }
    if let Some(held) = held {
        let released = caller.heard.iter().any(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["id"] == held && line.get("result").is_some()
        });
        // It may come after the other answer.
        if !released && !caller.line().await.contains(r#""ok""#) {
            return Some(format!("{shown}, and another call fails"));
        }
    }
    (!is_expected).then_some(shown)
}

#[tokio::test]
async fn each_malformed_message_of_a_server_is_read_in_part_or_fails_its_call() {
    let mut wrong = Vec::new();
    for revision in [LEGACY, MODERN] {
        for row in rows() {
            for road in row.roads {
                let name = row.name();
                let (row, road) = (row.clone(), *road);
                let checked = tokio::spawn(async move { fault(revision, &row, road).await });
                let fault = checked.await;
                let fault = fault.unwrap_or_else(|panic| Some(panic.to_string()));
                wrong.extend(fault.map(|fault| format!("{revision} {road:?} {name}: {fault}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
