//! Callers over streamable HTTP, behind the layer that mends messages.

use std::sync::Arc;

use axum::serve::ListenerExt;
use rmcp::transport::{
    StreamableHttpServerConfig, streamable_http_server::session::local::LocalSessionManager,
};
use rmcp_layers::{HttpService, LenientHttpLayer, McpServer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    common::{Stack, soon},
    peers::{LEGACY, Road, Server},
};

pub struct Door(std::net::SocketAddr);

impl Door {
    pub async fn to(stack: impl Stack + Sync) -> Self {
        let config = StreamableHttpServerConfig::default();
        Self::with(stack, config, LenientHttpLayer::new()).await
    }

    /// A door that answers callers of the current revision with JSON.
    pub async fn json(stack: impl Stack + Sync) -> Self {
        let config = StreamableHttpServerConfig::default().with_json_response(true);
        Self::with(stack, config, LenientHttpLayer::new()).await
    }

    pub async fn with(
        stack: impl Stack + Sync,
        config: StreamableHttpServerConfig,
        layer: LenientHttpLayer,
    ) -> Self {
        let server = McpServer::new(stack);
        let sessions = Arc::new(LocalSessionManager::default());
        Self::over(server.http_service(sessions, config), layer).await
    }

    pub async fn over(
        service: HttpService<impl Stack + Sync, LocalSessionManager>,
        layer: LenientHttpLayer,
    ) -> Self {
        let router = axum::Router::new()
            .route_service("/mcp", service)
            .layer(layer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self(address)
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.0)
    }

    /// Posts a body, a few bytes at a time, and returns the response as it comes.
    pub async fn post(&self, body: &[u8], session: Option<&str>) -> String {
        let session = session.map_or(String::new(), |id| format!("mcp-session-id: {id}\r\n"));
        self.post_with(body, &session).await
    }

    /// Posts a request of the current revision.
    pub async fn post_modern(&self, body: &str, method: &str, name: &str) -> String {
        let headers = format!(
            "mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\nmcp-name: {name}\r\n"
        );
        self.post_with(body.as_bytes(), &headers).await
    }

    async fn post_with(&self, body: &[u8], headers: &str) -> String {
        let mut tcp = self.begin(body, headers).await;
        let mut response = Vec::new();
        soon("a response", tcp.read_to_end(&mut response))
            .await
            .unwrap();
        String::from_utf8(response).unwrap()
    }

    /// Posts a body, and returns the connection that the response comes on.
    pub async fn begin(&self, body: &[u8], headers: &str) -> tokio::net::TcpStream {
        let own = "host: localhost\r\naccept: application/json, text/event-stream\r\n\
                   content-type: application/json\r\n";
        self.begin_with(body, &format!("{own}{headers}")).await
    }

    /// Posts a body with these headers and no others.
    pub async fn begin_with(&self, body: &[u8], headers: &str) -> tokio::net::TcpStream {
        let head = format!(
            "POST /mcp HTTP/1.1\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        let mut tcp = tokio::net::TcpStream::connect(self.0).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.write_all(head.as_bytes()).await.unwrap();
        for piece in body.chunks(7.max(body.len() / 100)) {
            // A body that is too long is not read to its end.
            if tcp.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        tcp
    }

    /// Posts a body in pieces, without a length.
    pub async fn post_chunked(&self, body: &[u8]) -> String {
        let mut text = b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n\
            accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
            connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
        for piece in body.chunks(100) {
            text.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            text.extend_from_slice(piece);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        let mut tcp = tokio::net::TcpStream::connect(self.0).await.unwrap();
        tcp.write_all(&text).await.unwrap();
        let mut response = Vec::new();
        soon("a response", tcp.read_to_end(&mut response))
            .await
            .unwrap();
        String::from_utf8(response).unwrap()
    }

    /// Opens the session's own stream.
    pub async fn listen(&self, session: &str) -> tokio::net::TcpStream {
        self.listen_from(session, "").await
    }

    /// Opens a stream with these headers more.
    pub async fn listen_from(&self, session: &str, headers: &str) -> tokio::net::TcpStream {
        let head = format!(
            "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\
             mcp-session-id: {session}\r\n{headers}\r\n"
        );
        let mut tcp = tokio::net::TcpStream::connect(self.0).await.unwrap();
        tcp.write_all(head.as_bytes()).await.unwrap();
        tcp
    }

    pub async fn session(&self) -> String {
        self.session_with("{}").await
    }

    /// Opens a session of a client with these capabilities.
    pub async fn session_with(&self, capabilities: &str) -> String {
        let initialize = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{capabilities},"clientInfo":{{"name":"raw","version":"0"}}}}}}"#
        );
        let response = self.post(initialize.as_bytes(), None).await;
        let id = response
            .lines()
            .find_map(|line| line.strip_prefix("mcp-session-id: "))
            .expect("a session")
            .to_owned();
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        self.post(initialized.as_bytes(), Some(&id)).await;
        id
    }
}

#[tokio::test]
async fn a_callers_lone_surrogate_becomes_the_replacement_character_over_http() {
    let (server, mut seen) = Server::answering(LEGACY, r#"{"content":[]}"#);
    let door = Door::to(server.by(Road::Lines).await).await;
    let session = door.session().await;
    let arguments =
        b"{\"a\":\"cut \\ud83d here \\ud83d\\ude00 \\\\ud83d\",\"b\":\"\xe9\",\"\\uDC00\":1}";
    let call = [
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":"#,
        &arguments[..],
        b"}}",
    ]
    .concat();
    let response = door.post(&call, Some(&session)).await;
    assert!(
        response.contains(r#""result":{"content":[]}"#),
        "{response}"
    );
    let call: Value = serde_json::from_str(&seen.next("tools/call").await).unwrap();
    let arguments = &call["params"]["arguments"];
    assert_eq!(arguments["a"], "cut \u{fffd} here \u{1f600} \\ud83d");
    assert_eq!(arguments["b"], "\u{fffd}");
    assert_eq!(arguments["\u{fffd}"], 1);
}

#[tokio::test]
async fn a_body_that_is_not_the_text_of_json_is_left_as_it_is() {
    let echo = axum::routing::post(|body: axum::body::Bytes| async { body });
    let router = axum::Router::new()
        .route("/", echo)
        .layer(LenientHttpLayer::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let body = b"\x1f\x8b\xff \\ud83d \xe9\\";
    for (kind, encoding, kept) in [
        ("application/octet-stream", None, true),
        ("text/plain", None, true),
        ("application/json", Some("gzip"), true),
        ("application/json", None, false),
        ("Application/JSON; charset=utf-8", None, false),
    ] {
        let mut post = reqwest::Client::new()
            .post(&url)
            .header("content-type", kind)
            .body(&body[..]);
        if let Some(encoding) = encoding {
            post = post.header("content-encoding", encoding);
        }
        let echoed = soon("an echo", post.send()).await.unwrap();
        let echoed = echoed.bytes().await.unwrap();
        assert_eq!(echoed == body[..], kept, "{kind} {encoding:?} {echoed:?}");
    }
}

#[tokio::test]
async fn a_notification_without_params_is_written_without_over_http() {
    let (server, _) = Server::new(LEGACY, |_| {
        vec![
            r#"{"jsonrpc":"2.0","method":"x/told"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","method":"x/text","params":{"a":",\"params\":null}"}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":$request_id,"result":{"content":[]}}"#.to_owned(),
        ]
    });
    let door = Door::to(server.by(Road::Lines).await).await;
    let session = door.session().await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
    let mut stream = door.listen(&session).await;
    door.post(call.as_bytes(), Some(&session)).await;
    let mut heard = String::new();
    while !heard.contains("x/text") {
        let mut piece = vec![0; 4096];
        let read = soon("an event", stream.read(&mut piece)).await.unwrap();
        assert!(read > 0, "{heard}");
        heard.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    assert!(
        heard.contains("data: {\"jsonrpc\":\"2.0\",\"method\":\"x/told\"}\n"),
        "{heard}"
    );
    assert!(heard.contains(r#""a":",\"params\":null}"}}"#), "{heard}");
}
