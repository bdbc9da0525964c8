//! What a server says reaches the caller as the server wrote it, in whole or in the part that can be read.

use serde_json::Value;

use crate::peers::{Caller, LEGACY, MODERN, Road, Server};

const TOOL: (&str, &str) = ("tools/call", r#""name":"t""#);
const PROMPT: (&str, &str) = ("prompts/get", r#""name":"p""#);
const RESOURCE: (&str, &str) = ("resources/read", r#""uri":"a:b""#);
const COMPLETE: (&str, &str) = (
    "completion/complete",
    r#""ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""}"#,
);

/// A request, and a result with parts that rmcp's types have no place for.
fn results() -> Vec<((&'static str, &'static str), String)> {
    let long = (0..150).map(|n| format!(r#""{n}""#)).collect::<Vec<_>>();
    let values = format!(
        r#"{{"completion":{{"values":[{}],"total":150.0,"x":1}}}}"#,
        long.join(",")
    );
    let tools = [
        r#"{"content":[{"x":1.50,"type":"text","text":"a"}],"future":{"q":null},"isError":false}"#,
        r#"{"content":[{"type":"text","text":"a","annotations":{"audience":["developer"],"priority":0.80}}]}"#,
        r#"{"content":[{"type":"text","text":"a","annotations":7,"_meta":5}]}"#,
        r#"{"content":[{"type":"hologram","z":[1e400,12345678901234567890123]}]}"#,
        r#"{"content":[{"type":"resource_link","uri":"a:b","name":"n","size":"many","icons":3}]}"#,
        r#"{"content":[{"type":"resource","resource":{"uri":"a:b","v":0}}]}"#,
        r#"{"content":[{"type":"image","data":5}]}"#,
        r#"{"content":[7,null,"text"]}"#,
        r#"{"content":[],"structuredContent":{"z":1e999,"a":0.10,"b":123456789012345678901234567890}}"#,
        r#"{"content":[],"isError":"yes"}"#,
        r#"{"content":[],"_meta":5}"#,
        r#"{"content":"text"}"#,
    ];
    let prompts = [
        r#"{"messages":[{"role":"system","content":{"type":"text","text":"a"}}]}"#,
        r#"{"messages":[{"role":"user","content":{"type":"hologram"},"x":1}],"description":5}"#,
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#,
    ];
    let resources = [
        r#"{"contents":[{"uri":"a:b"}]}"#,
        r#"{"contents":[{"uri":"a:b","text":"t","mimeType":5,"_meta":7,"x":1}]}"#,
        r#"{"contents":[{"uri":"a:b","stream":"s"},{"uri":"a:c","blob":"aGk="}]}"#,
    ];
    let completions = [
        r#"{"completion":{"values":[1,"a"]}}"#,
        r#"{"completion":{"values":["a"],"total":"many","hasMore":1}}"#,
        &values,
    ];
    let of = |request, results: &[&str]| {
        let results = results.iter().map(|result| (request, (*result).to_owned()));
        results.collect::<Vec<_>>()
    };
    [
        of(TOOL, &tools),
        of(PROMPT, &prompts),
        of(RESOURCE, &resources),
        of(COMPLETE, &completions),
    ]
    .concat()
}

/// A server, by each road that keeps the text.
fn roads() -> [(Road, bool); 5] {
    [
        (Road::Lines, false),
        (Road::Json, false),
        (Road::Json, true),
        (Road::Events, false),
        (Road::Events, true),
    ]
}

fn with_type(result: &str) -> String {
    result.replacen('{', r#"{"resultType":"complete","#, 1)
}

fn server(revision: &'static str, session: bool, answer: String) -> Server {
    let (server, _) = Server::new(revision, move |_| vec![answer.clone()]);
    match session {
        true => server.with_session(),
        false => server,
    }
}

#[tokio::test]
async fn a_result_arrives_as_its_server_wrote_it() {
    let mut wrong = Vec::new();
    for (request, result) in results() {
        for (road, session) in roads() {
            let answer = format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#);
            let server = server(LEGACY, session, answer);
            let mut caller = Caller::legacy(server.by(road).await).await;
            let told = caller.ask(request.0, request.1).await;
            if !told.ends_with(&format!(r#""result":{result}}}"#)) {
                wrong.push(format!("{road:?} session={session}: {result}\n  {told}"));
            }
        }
        for road in [Road::Json, Road::Events] {
            let result = with_type(&result);
            let answer = format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#);
            let mut caller = Caller::modern(server(MODERN, false, answer).by(road).await);
            let told = caller.ask(request.0, request.1).await;
            let hinted = format!(r#""result":{}"#, result.strip_suffix('}').unwrap());
            if !told.contains(&hinted) {
                wrong.push(format!("modern {road:?}: {result}\n  {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_batch_is_read_message_by_message() {
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"first"}}"#;
    let answer = r#"{"jsonrpc":"2.0","id":$request_id,"result":{"content":[],"x":1}}"#;
    for (road, session) in roads() {
        for (batch, logs) in [
            (format!("[{answer}]"), 0),
            (format!("[{log},{answer}]"), 1),
            (format!(" [ {log}, {log} , {answer} ] "), 2),
            (format!("[{{\"other\":1}},7,{answer}]"), 0),
        ] {
            let server = server(LEGACY, session, batch.clone());
            let mut caller = Caller::legacy(server.by(road).await).await;
            let told = caller.ask(TOOL.0, TOOL.1).await;
            let at = format!("{road:?} session={session} {batch}: {told}");
            assert!(told.contains(r#""result":{"content":[],"x":1}"#), "{at}");
            let heard = caller.heard.iter().filter(|line| line.contains("first"));
            assert_eq!(heard.count(), logs, "{at}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_json_fails_its_call_with_its_method_and_position() {
    for (road, session) in roads() {
        let lines = road == Road::Lines || road == Road::Events;
        let (text, position) = match lines {
            true => (
                r#"{"jsonrpc":"2.0","id":$request_id,"result":{x}}"#,
                "column ",
            ),
            false => (
                "{\"jsonrpc\":\"2.0\",\n\"id\":$request_id,\"result\":{x}}",
                "line 2, column ",
            ),
        };
        for text in [text.to_owned(), format!("[{text}]")] {
            for request in [TOOL, COMPLETE, ("x/custom", "")] {
                let server = server(LEGACY, session, text.clone());
                let mut caller = Caller::legacy(server.by(road).await).await;
                let told = caller.ask(request.0, request.1).await;
                let told: Value = serde_json::from_str(&told).unwrap();
                let message = told["error"]["message"].as_str().unwrap_or_default();
                for part in ["raw", &format!("`{}`", request.0), "not JSON", position] {
                    let at = format!("{road:?} session={session} {request:?} {text}");
                    assert!(message.contains(part), "{at}: {part}: {told}");
                }
            }
        }
    }
}

/// The capabilities of a server, and what else it says of itself after them.
const SAID: &str = r#"{"tools":{"x":1.50,"listChanged":true},"tasks":{"list":{},"requests":{"tools":{"call":{}}}},"logging":{},"odd":5},"instructions":"as they came","future":[1e400]"#;

#[tokio::test]
async fn what_a_server_says_of_itself_arrives_as_it_said_it() {
    for revision in [LEGACY, MODERN] {
        for (road, session) in roads() {
            if revision == MODERN && session {
                continue;
            }
            let (server, _) = Server::answering(revision, r#"{"content":[]}"#);
            let said = match revision {
                LEGACY => format!(r#"{SAID},"_meta":{{"com.example/a":1.0}}"#),
                _ => format!(
                    r#"{SAID},"_meta":{{"com.example/a":1.0,"io.modelcontextprotocol/serverInfo":{{"name":"raw","version":"1","future":1.0}}}}"#
                ),
            };
            let server = server.with_capabilities(said.leak());
            let server = match session {
                true => server.with_session(),
                false => server,
            };
            let upstream = server.by(road).await;
            let legacy = Caller::legacy(upstream.clone()).await;
            let mut modern = Caller::modern(upstream);
            let discovered = modern.ask("server/discover", "").await;
            for (told, of_era) in [
                (&legacy.heard[0], r#""_meta":{"com.example/a":1.0}"#),
                (
                    &discovered,
                    r#""_meta":{"com.example/a":1.0,"io.modelcontextprotocol/serverInfo":{"name":"raw","version":"1""#,
                ),
            ] {
                let at = format!("{revision} {road:?} session={session}: {told}");
                let (capabilities, rest) = SAID.split_once(r#","instructions""#).unwrap();
                assert!(told.contains(capabilities), "{at}");
                assert!(told.contains(rest), "{at}");
                assert!(told.contains(of_era), "{at}");
            }
            let info = match revision {
                LEGACY => r#""serverInfo":{"name":"raw","version":"1"}"#,
                _ => r#""serverInfo":{"name":"raw","version":"1","future":1.0}"#,
            };
            let told = &legacy.heard[0];
            assert!(told.contains(info), "{revision} {road:?}: {told}");
            assert!(!told.contains("supportedVersions"), "{told}");
        }
    }
}

#[tokio::test]
async fn a_server_whose_capabilities_cannot_be_read_is_reached() {
    for revision in [LEGACY, MODERN] {
        for road in [Road::Lines, Road::Json, Road::Events] {
            for capabilities in [
                "null",
                "[]",
                r#"{"tools":5,"prompts":{"listChanged":"yes"}}"#,
                r#"{"tools":{},"experimental":{"x":true}},"instructions":7,"_meta":5"#,
            ] {
                let (server, _) = Server::answering(revision, r#"{"content":[],"x":1}"#);
                let server = server.with_capabilities(capabilities);
                let mut caller = Caller::modern(server.by(road).await);
                let told = caller.ask(TOOL.0, TOOL.1).await;
                let at = format!("{revision} {road:?} {capabilities}: {told}");
                assert!(told.contains(r#""content":[],"x":1"#), "{at}");
            }
        }
    }
}

#[tokio::test]
async fn an_item_of_a_list_is_kept_whole_if_it_can_be_read_in_part() {
    let kept = [
        r#"{"name":"a","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":"yes","z":1.0},"execution":{"taskSupport":"optional"}}"#,
        r#"{"name":"b","inputSchema":{"type":"object","n":1e400},"icons":5}"#,
    ];
    let left_out = r#"{"name":"c","inputSchema":null}"#;
    let list = |items: &[&str]| {
        let items = items.join(",");
        format!(r#""x":1.0,"tools":[{items}],"y":{{"q":null}}"#)
    };
    for (road, session) in roads() {
        let result = format!("{{{}}}", list(&[kept[0], left_out, kept[1]]));
        let answer = format!(r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#);
        let upstream = server(LEGACY, session, answer).by(road).await;
        let mut caller = Caller::legacy(upstream.clone()).await;
        let told = caller.ask("tools/list", "").await;
        let at = format!("{road:?} session={session}: {told}");
        assert!(told.ends_with(&format!("{{{}}}}}", list(&kept))), "{at}");
        let unreadable = upstream.unreadable();
        let names: Vec<_> = unreadable.iter().map(|item| item.name.as_deref()).collect();
        assert_eq!(names, [Some("c")], "{at}");
        assert_eq!(unreadable[0].field.as_deref(), Some("inputSchema"), "{at}");
    }
}

const QUESTION: &str = r#""method":"sampling/createMessage","params":{"messages":[],"maxTokens":1,"temperature":0.7,"future":{"q":1.0}}"#;
const PROGRESS: &str = r#""method":"notifications/progress","params":{"progressToken":$token,"progress":1,"total":3.5,"future":1.0}"#;
const LOG: &str = r#""method":"notifications/message","params":{"level":"info","data":{"n":12345678901234567890},"future":1.0}"#;

/// A server over HTTP that sends these during a call, which it does not answer.
async fn busy() -> String {
    use axum::{body::Body, response::Response};
    use futures::StreamExt;
    let handle = |body: String| async move {
        let message: Value = serde_json::from_str(&body).unwrap();
        let id = &message["id"];
        let response = Response::builder().header("content-type", "text/event-stream");
        let initialized = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"{LEGACY}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"busy","version":"0"}}}}}}"#
        );
        let response = match message["method"].as_str() {
            Some("initialize") => response.body(Body::from(format!("data: {initialized}\n\n"))),
            Some("tools/call") => {
                let token = message["params"]["_meta"]["progressToken"].to_string();
                let progress = PROGRESS.replace("$token", &token);
                let events = [&progress, LOG, QUESTION].map(|members| {
                    let id = match members == QUESTION {
                        true => r#""id":"q","#,
                        false => "",
                    };
                    format!("data: {{\"jsonrpc\":\"2.0\",{id}{members}}}\n\n")
                });
                let events = futures::stream::iter(events).map(Ok::<_, std::convert::Infallible>);
                response.body(Body::from_stream(events.chain(futures::stream::pending())))
            }
            _ => Response::builder().status(202).body(Body::empty()),
        };
        response.unwrap()
    };
    let router = axum::Router::new().route("/mcp", axum::routing::post(handle));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn what_a_server_says_during_a_call_over_http_arrives_as_it_said_it() {
    let url = busy().await;
    let builder = rmcp_layers::Upstream::builder().lifecycle(rmcp_layers::Lifecycle::Initialize);
    let upstream = builder.http(url.as_str()).unwrap();
    let mut caller = Caller::legacy_with(upstream, r#"{"sampling":{}}"#).await;
    let meta = r#""_meta":{"progressToken":"mine"},"name":"t""#;
    caller.send("tools/call", meta).await;
    for said in [
        PROGRESS.replace("$token", r#""mine""#).as_str(),
        LOG,
        QUESTION,
    ] {
        let told = caller.message().await;
        assert!(told.contains(said), "{said}: {told}");
    }
}
