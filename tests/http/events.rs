//! Event streams are read as the WHATWG standard says, whatever else is in them.

use axum::{body::Body, http::Method};
use rmcp::model::ServerResult;
use rmcp_layers::{HttpEndpoint, Lifecycle, McpRequest, Upstream};
use serde_json::Value;
use tower::ServiceExt;

use crate::{
    common::{said, soon},
    server::{ERAS, Era, Seen, Server, body, done, raw_stream, status},
};

/// Streams with one answer in them. `ANSWER` stands for it, `HEAD` and `TAIL` for its two parts.
const STREAMS: [(&str, &[u8]); 24] = [
    ("plain", b"data: ANSWER\n\n"),
    ("no space", b"data:ANSWER\n\n"),
    ("an unknown field", b"foo: bar\ndata: ANSWER\n\n"),
    ("an unknown field alone", b"x-trace: 1\n\ndata: ANSWER\n\n"),
    ("a longer name", b"database: 5\ndata: ANSWER\n\n"),
    ("capitals", b"Data: 5\ndata: ANSWER\n\n"),
    ("a space before a name", b" data: 5\ndata: ANSWER\n\n"),
    ("a retry with a unit", b"retry: 5s\ndata: ANSWER\n\n"),
    ("a negative retry", b"retry: -1\ndata: ANSWER\n\n"),
    (
        "a retry beyond 64 bits",
        b"retry: 99999999999999999999999999\ndata: ANSWER\n\n",
    ),
    ("an empty retry", b"retry\ndata: ANSWER\n\n"),
    ("a line without a colon", b"hello there\ndata: ANSWER\n\n"),
    (
        "fields without a value",
        b"event\nid\ndata\ndata: ANSWER\n\n",
    ),
    ("a byte order mark", b"\xef\xbb\xbfdata: ANSWER\n\n"),
    ("carriage returns", b"event: message\rdata: ANSWER\r\r"),
    ("CRLF", b"event: message\r\ndata: ANSWER\r\n\r\n"),
    ("mixed ends", b": one\r\nevent: message\rdata: ANSWER\n\r\n"),
    ("comments", b": hello\n:\n:data: 5\ndata: ANSWER\n\n"),
    ("an id with NUL", b"id: a\x00b\ndata: ANSWER\n\n"),
    (
        "fields said twice",
        b"id: 1\nid: 2\nevent: other\nevent: message\nretry: 1\nretry: 2\ndata: ANSWER\n\n",
    ),
    (
        "other events",
        b"event: ping\ndata: {}\n\nevent: endpoint\ndata: /x\n\ndata: ANSWER\n\n",
    ),
    ("an empty event", b"id: 1\ndata:\n\ndata: ANSWER\n\n"),
    ("several data lines", b"data: HEAD\ndata: TAIL\n\n"),
    (
        "no UTF-8",
        b"\xff\xfe: 1\n: \xff\nevent: \xffx\n\ndata: ANSWER\n\n",
    ),
];

fn replaced(script: &[u8], name: &str, with: &str) -> Vec<u8> {
    let Some(at) = script
        .windows(name.len())
        .position(|part| part == name.as_bytes())
    else {
        return script.to_vec();
    };
    [&script[..at], with.as_bytes(), &script[at + name.len()..]].concat()
}

fn filled(script: &[u8], request: &Value) -> Vec<u8> {
    let answer = done(request, "heard").to_string();
    // Between two members a line may end.
    let (head, tail) = answer.split_at(answer.find(",\"").unwrap() + 1);
    let script = replaced(script, "ANSWER", &answer);
    replaced(&replaced(&script, "HEAD", head), "TAIL", tail)
}

/// Calls a tool and lists tools of a server that answers with this stream.
async fn heard(
    era: Era,
    what: &str,
    respond: impl Fn(&Value) -> crate::server::Response + Clone + Send + Sync + 'static,
) {
    let server = Server::serve(era, move |seen: Seen| match seen.method {
        Method::GET => status(405),
        _ => respond(&seen.message),
    })
    .await;
    let upstream = server.upstream(era);
    let call = McpRequest::call_tool("act").build();
    let answer = soon(what, upstream.clone().oneshot(call)).await;
    assert!(answer.is_ok(), "{era:?}, {what}: {answer:?}");
    assert_eq!(said(answer), "heard", "{era:?}, {what}");
    let list = soon(what, upstream.oneshot(McpRequest::list_tools())).await;
    assert!(list.is_ok(), "{era:?}, {what}: {list:?}");
}

#[tokio::test]
async fn what_an_event_stream_holds_beside_its_answer_is_passed_over() {
    for era in ERAS {
        for (what, script) in STREAMS {
            heard(era, what, move |request| {
                raw_stream(200, filled(script, request))
            })
            .await;
        }
    }
}

#[tokio::test]
async fn an_event_stream_may_be_cut_anywhere() {
    for era in ERAS {
        for (what, script) in STREAMS {
            heard(era, what, move |request| {
                let bytes = filled(script, request);
                let pieces: Vec<_> = bytes
                    .chunks(1)
                    .map(|piece| Ok::<_, std::convert::Infallible>(piece.to_vec()))
                    .collect();
                let stream = futures::stream::iter(pieces);
                body(
                    200,
                    "text/event-stream; charset=utf-8",
                    Body::from_stream(stream),
                )
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_handshake_is_read_from_such_a_stream_too() {
    let router = axum::Router::new().fallback(|text: String| async move {
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        if message["method"] != "initialize" {
            return status(202);
        }
        let result = serde_json::json!({ "jsonrpc": "2.0", "id": message["id"], "result": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "serverInfo": { "name": "scripted", "version": "0" },
        }});
        let stream = format!("retry: soon\nx: y\n\ndata: {result}\n\n");
        raw_stream(200, stream.into_bytes())
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .http(url)
        .unwrap();
    soon("connecting", upstream.connect()).await.unwrap();
}

#[tokio::test]
async fn an_event_that_is_too_long_fails_its_call_and_says_so() {
    for era in ERAS {
        for with_id in [false, true] {
            let server = Server::serve(era, move |seen: Seen| {
                if seen.method == Method::GET {
                    let last = seen.headers.get("last-event-id");
                    if last.is_none() {
                        return status(405);
                    }
                }
                let long = done(&seen.message, &"x".repeat(5_000));
                let id = if with_id { "id: 1\ndata:\n\n" } else { "" };
                raw_stream(200, format!("{id}data: {long}\n\n").into_bytes())
            })
            .await;
            let lifecycle = match era {
                Era::Modern => Lifecycle::Discover,
                _ => Lifecycle::Initialize,
            };
            let endpoint = HttpEndpoint::new(server.url.as_str()).max_response_bytes(2_000);
            let builder = Upstream::builder().lifecycle(lifecycle);
            let upstream = builder.http(endpoint).unwrap();
            for request in [
                McpRequest::call_tool("act").build(),
                McpRequest::list_tools(),
            ] {
                let answer = soon("a failure", upstream.clone().oneshot(request)).await;
                let error = answer.unwrap_err();
                let at = format!("{era:?}, id: {with_id}: {error:?}");
                assert!(error.is_transport(), "{at}");
                assert!(error.to_string().contains("2000 bytes"), "{at}");
            }
        }
    }
}

#[tokio::test]
async fn many_data_lines_are_one_answer() {
    for era in ERAS {
        heard(era, "many lines", |request| {
            // One line a member, as a pretty printer writes them.
            let pretty = serde_json::to_string_pretty(&done(request, "heard")).unwrap();
            let lines: String = pretty
                .lines()
                .map(|line| format!("data: {line}\r\n"))
                .collect();
            raw_stream(200, format!("{lines}\r\n").into_bytes())
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_after_an_odd_event_is_taken_up_from_there() {
    for era in [Era::Session, Era::Modern] {
        let server = Server::serve(era, move |seen: Seen| {
            if seen.method == Method::GET {
                let last = seen
                    .headers
                    .get("last-event-id")
                    .map(|id| id.to_str().unwrap());
                let Some(last) = last else { return status(405) };
                assert_eq!(last, "seven");
                // The first id that a connection gives to a call.
                let id = 1_i64 << 30;
                let request = serde_json::json!({ "id": id, "method": "tools/call" });
                return raw_stream(200, filled(b"odd\ndata: ANSWER\n\n", &request));
            }
            body(
                200,
                "text/event-stream",
                "retry: 5s\nid: seven\nodd\ndata:\n\n",
            )
        })
        .await;
        let upstream = server.upstream(era);
        let call = McpRequest::call_tool("act").build();
        let answer = soon("the answer", upstream.oneshot(call)).await;
        assert!(
            matches!(&answer, Ok(response) if matches!(*response.result, ServerResult::CallToolResult(_))),
            "{era:?}: {answer:?}"
        );
    }
}
