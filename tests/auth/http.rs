//! What callers hear of the HTTP companion, over real HTTP in front of rmcp's service.

use std::{
    fmt::Write as _,
    future::IntoFuture,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::{FutureExt, future::BoxFuture};
use http::{StatusCode, header::AUTHORIZATION, request::Parts};
use rmcp::{
    ServiceExt as _,
    model::*,
    transport::{
        StreamableHttpClientTransport, StreamableHttpServerConfig,
        streamable_http_client::StreamableHttpClientTransportConfig,
        streamable_http_server::session::local::LocalSessionManager,
    },
};
use rmcp_layers::{
    Decision, Error, Handler, LenientHttpLayer, McpRequest, McpServer, Principal,
    audit::{AuditHandle, AuditLog},
    auth::{
        AuthError, AuthHandle, AuthLayer, Rules, RulesBuilder, Scopes, Verified, Verifier,
        http::{HttpAuthHandle, HttpAuthLayer, HttpAuthLayerBuilder, ProtectedResource},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::ServiceBuilder;

use crate::common::{demo::Demo, soon};

/// Knows tokens by a table. A token is `NAME`, or `NAME:SCOPE,SCOPE`.
#[derive(Clone, Default)]
struct Table {
    verified: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    lives: Option<Duration>,
}

impl Verifier for Table {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
        async move {
            self.verified.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(AuthError::unavailable("the issuer is down")
                    .with_retry_after(Duration::from_millis(1_500)));
            }
            let scopes: &[&str] = match token {
                "alice" => &["calls", "log"],
                "bob" => &["calls"],
                "nobody" => &[],
                "expired" => return Err(AuthError::expired()),
                _ => return Err(AuthError::invalid("the signature is wrong")),
            };
            let principal = Principal::new(token)
                .with_issuer("https://issuer.example")
                .with_scopes(scopes.iter().copied());
            let verified = Verified::new(principal);
            Ok(match self.lives {
                Some(lives) => verified.expires_at(SystemTime::now() + lives),
                None => verified,
            })
        }
        .boxed()
    }
}

fn rules() -> RulesBuilder {
    Rules::builder()
        .tool("add", "calls")
        .tool("echo", Scopes::all_of(["calls", "deep", "deeper"]))
        .tool("wait", "calls")
        .method("logging/setLevel", "log")
}

/// A guarded server.
struct Server {
    address: SocketAddr,
    table: Table,
    audit: AuditHandle,
    auth: AuthHandle,
    guard: HttpAuthHandle,
    demo: Demo,
    /// What reached the stack behind the layer.
    beneath: Arc<Mutex<Vec<McpRequest>>>,
}

impl Server {
    async fn new() -> Self {
        Self::with(rules(), Table::default(), |guard| guard).await
    }

    async fn revealing() -> Self {
        Self::with(rules().reveal_forbidden(true), Table::default(), |guard| {
            guard
        })
        .await
    }

    async fn with(
        rules: RulesBuilder,
        table: Table,
        settings: impl FnOnce(HttpAuthLayerBuilder) -> HttpAuthLayerBuilder,
    ) -> Self {
        Self::behind(None, rules, table, settings).await
    }

    /// Serves with a layer in front.
    async fn behind(
        front: Option<LenientHttpLayer>,
        rules: RulesBuilder,
        table: Table,
        settings: impl FnOnce(HttpAuthLayerBuilder) -> HttpAuthLayerBuilder,
    ) -> Self {
        let rules = rules.build().unwrap();
        let audit = AuditLog::builder().memory(100).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let resource = ProtectedResource::new(format!("http://{address}/mcp"))
            .unwrap()
            .authorization_server("https://issuer.example")
            .scopes_supported(["calls"]);
        let auth = AuthLayer::builder(table.clone())
            .rules(rules)
            .build()
            .unwrap();
        let handle = auth.handle();
        let guard = HttpAuthLayer::builder(table.clone())
            .resource(resource)
            .rules_of(handle.clone())
            .on_refusal(audit.clone());
        let guard = settings(guard).build().unwrap();
        let guard_handle = guard.handle();
        let beneath = Arc::<Mutex<Vec<McpRequest>>>::default();
        let seen = beneath.clone();
        let demo = Demo::default();
        let stack = ServiceBuilder::new()
            .layer(audit.layer())
            .layer(auth)
            .map_request(move |request: McpRequest| {
                seen.lock().unwrap().push(request.clone());
                request
            })
            .service(Handler::new(demo.clone()));
        let server = McpServer::new(stack);
        let service = server.http_service(
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default(),
        );
        let router = axum::Router::new()
            .route_service("/mcp", service)
            .layer(guard);
        let router = match front {
            Some(front) => router.layer(front),
            None => router,
        };
        tokio::spawn(axum::serve(listener, router).into_future());
        Self {
            address,
            table,
            audit: audit.handle(),
            auth: handle,
            guard: guard_handle,
            demo,
            beneath,
        }
    }

    /// Sends bytes, and reads the answer to its end, or its head if it is a stream that stays open.
    async fn raw(&self, head: &[u8], body: &[u8]) -> Reply {
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        // A server that refuses early may not read it all.
        let _ = tcp.write_all(&[head, body].concat()).await;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let read = soon("an answer", tcp.read(&mut chunk)).await.unwrap_or(0);
            bytes.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&bytes);
            let is_open = head.starts_with(b"GET /mcp")
                && text.contains("event-stream")
                && text.contains("\r\n\r\n");
            if read == 0 || is_open {
                let open = is_open.then_some(tcp);
                return Reply::read(&text, open);
            }
        }
    }

    async fn send(&self, request: Request<'_>) -> Reply {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            request.verb, request.path, self.address
        );
        head += "Connection: close\r\nAccept: application/json, text/event-stream\r\n";
        if !request.body.is_empty() {
            head += "Content-Type: application/json\r\n";
            write!(head, "Content-Length: {}\r\n", request.body.len()).unwrap();
        }
        for (name, value) in &request.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head += "\r\n";
        self.raw(head.as_bytes(), request.body.as_bytes()).await
    }

    /// Opens a session.
    async fn open(&self, token: &str) -> String {
        let reply = self.send(post(&initialize()).token(token)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let session = reply
            .header("mcp-session-id")
            .expect("a session")
            .to_owned();
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let reply = self
            .send(post(&initialized).token(token).session(&session))
            .await;
        assert_eq!(reply.status, 202, "{reply:?}");
        session
    }

    fn latest(&self) -> Arc<rmcp_layers::audit::AuditRecord> {
        self.audit.recent(1).pop().expect("a record")
    }
}

#[derive(Clone)]
struct Request<'a> {
    verb: &'a str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request<'_> {
    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn token(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    fn session(self, id: &str) -> Self {
        self.header("Mcp-Session-Id", id)
    }

    fn at(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }
}

fn request(verb: &str) -> Request<'_> {
    Request {
        verb,
        path: "/mcp".to_owned(),
        headers: Vec::new(),
        body: String::new(),
    }
}

fn post(body: &Value) -> Request<'static> {
    text(&body.to_string())
}

fn text(body: &str) -> Request<'static> {
    Request {
        body: body.to_owned(),
        ..request("POST")
    }
}

fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "test", "version": "0" },
        },
    })
}

/// A call of a revision with sessions.
fn call(tool: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": tool, "arguments": {} } })
}

/// A request of 2026-07-28, with the headers it needs.
fn modern(method: &str, mut params: Value) -> Request<'static> {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    post(&json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }))
        .header("MCP-Protocol-Version", "2026-07-28")
        .header("Mcp-Method", method)
}

fn modern_call(tool: &str) -> Request<'static> {
    modern("tools/call", json!({ "name": tool, "arguments": {} })).header("Mcp-Name", tool)
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    open: Option<TcpStream>,
}

impl Reply {
    fn read(text: &str, open: Option<TcpStream>) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let own = |(name, value): (&str, &str)| (name.to_lowercase(), value.to_owned());
        Self {
            status: status.unwrap_or_else(|| panic!("no answer: {text:?}")),
            headers: headers.map(own).collect(),
            body: body.to_owned(),
            open,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| &**value)
    }

    fn challenge(&self) -> &str {
        self.header("www-authenticate").unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Everything a caller can compare, but the time.
    fn looks(&self) -> (u16, Vec<(String, String)>, String) {
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| name != "date");
        (self.status, headers, self.body.clone())
    }
}

#[tokio::test]
async fn a_caller_with_a_token_is_served_and_verified_once() {
    let server = Server::new().await;
    let reply = server.send(modern_call("add").token("alice")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.body.contains(r#""text":"0""#), "{reply:?}");
    assert_eq!(server.table.verified.load(Ordering::SeqCst), 1);
    let record = server.latest();
    assert_eq!(record.decision, Decision::Allowed);
    assert_eq!(record.principal.as_ref().unwrap().subject, "alice");
}

#[tokio::test]
async fn a_refused_request_leaves_its_connection_fit_for_the_next() {
    let server = Server::new().await;
    // More than a server has read when it has the head, and more than it is willing to read away.
    for (length, goes_on) in [(60_000, true), (200_000, false)] {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n",
            server.address
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        let _ = tcp.write_all(&vec![b'x'; length]).await;
        let refused = answer(&mut tcp).await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        let closes = refused.to_lowercase().contains("\r\nconnection: close\r\n");
        assert_eq!(closes, !goes_on, "{refused}");
        if goes_on {
            let next = format!("GET /mcp HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
            tcp.write_all(next.as_bytes()).await.unwrap();
            let refused = answer(&mut tcp).await;
            assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
        }
    }
}

/// The next answer on a connection: its head and as much of its body as it says.
async fn answer(tcp: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse::<usize>())
            });
            if body.len() >= length.unwrap().unwrap() {
                return text;
            }
        }
        let read = soon("an answer", tcp.read(&mut chunk)).await.unwrap();
        assert_ne!(read, 0, "the connection is closed after {text:?}");
        text += std::str::from_utf8(&chunk[..read]).unwrap();
    }
}

#[tokio::test]
async fn no_token_passes_the_companion() {
    let server = Server::new().await;
    server.send(modern_call("add").token("alice")).await;
    let session = server.open("alice").await;
    server
        .send(post(&call("add")).token("alice").session(&session))
        .await;
    let beneath = server.beneath.lock().unwrap();
    assert!(beneath.len() >= 3, "{}", beneath.len());
    for request in beneath.iter() {
        assert_eq!(request.context.principal().unwrap().subject(), "alice");
        let parts = request
            .context
            .extensions
            .get::<Parts>()
            .expect("the HTTP parts");
        assert!(!parts.headers.contains_key(AUTHORIZATION));
        assert!(!format!("{:?}{:?}", parts.headers, request.context.meta).contains("alice"));
    }
}

#[tokio::test]
async fn who_has_no_token_is_told_where_to_get_one() {
    let server = Server::new().await;
    for request in [
        modern_call("add"),
        post(&initialize()),
        request("GET"),
        request("DELETE"),
        request("PUT"),
    ] {
        let reply = server.send(request).await;
        assert_eq!(reply.status, 401);
        let metadata = format!(
            "http://{}/.well-known/oauth-protected-resource/mcp",
            server.address
        );
        assert_eq!(
            reply.challenge(),
            format!(r#"Bearer resource_metadata="{metadata}", scope="calls""#)
        );
        assert_eq!(reply.json()["error"]["code"], -31401);
        assert_eq!(reply.json()["id"], Value::Null);
    }
    assert_eq!(server.latest().decision, Decision::Unauthenticated);
    assert_eq!(server.latest().http_status, Some(401));
    assert_eq!(server.latest().method, "http:PUT");
    assert!(server.beneath.lock().unwrap().is_empty());
}

#[tokio::test]
async fn attacks_are_refused_and_told_nothing() {
    let server = Server::new().await;
    let long = "x".repeat(9 * 1024);
    let body = modern_call("add");
    let with = |value: &str| body.clone().header("Authorization", value);
    let attacks = [
        ("a token nobody knows", with("Bearer mallory"), 401),
        ("an expired token", with("Bearer expired"), 401),
        ("an empty header", with(""), 401),
        ("the scheme alone", with("Bearer"), 401),
        ("the scheme and a space", with("Bearer  "), 401),
        ("another scheme", with("Basic YWxpY2U6"), 401),
        ("a scheme run together", with("Beareralice"), 401),
        ("a token with a space in it", with("Bearer alice bob"), 401),
        (
            "two tokens in one header",
            with("Bearer alice, Bearer bob"),
            401,
        ),
        ("a token with a quote", with("Bearer al\"ice"), 401),
        ("a token with a NUL's escape", with("Bearer alice%00"), 401),
        ("an oversized token", with(&format!("Bearer {long}")), 401),
        (
            "two headers that differ",
            with("Bearer alice").token("bob"),
            400,
        ),
        (
            "two headers alike",
            with("Bearer alice").token("alice"),
            400,
        ),
        (
            "a token in the query",
            body.clone().at("/mcp?access_token=alice"),
            400,
        ),
        (
            "a token in the query and the header",
            with("Bearer alice").at("/mcp?a=b&access_token=alice"),
            400,
        ),
        (
            "an escaped token in the query",
            body.clone().at("/mcp?%61ccess_token=alice"),
            400,
        ),
        (
            "a cookie",
            body.clone().header("Cookie", "access_token=alice"),
            401,
        ),
        (
            "another header",
            body.clone().header("X-Authorization", "Bearer alice"),
            401,
        ),
        (
            "a proxy's header",
            body.clone().header("Proxy-Authorization", "Bearer alice"),
            401,
        ),
        (
            "a token in `_meta` alone",
            {
                let body = json!({
                    "jsonrpc": "2.0", "id": 7, "method": "tools/call",
                    "params": { "name": "add", "_meta": { "rmcp-layers/token": "alice" } },
                });
                post(&body)
            },
            401,
        ),
    ];
    for (what, request, status) in attacks {
        let reply = server.send(request).await;
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        let says = format!("{} {}", reply.challenge(), reply.body);
        for secret in ["alice", "bob", "signature", "expired", "long", "character"] {
            assert!(!says.contains(secret), "{what}: {says}");
        }
        assert!(reply.challenge().starts_with("Bearer"), "{what}");
        let code = if status == 400 {
            "invalid_request"
        } else {
            "invalid_token"
        };
        let error = reply
            .challenge()
            .split_once("error=\"")
            .map(|(_, rest)| rest.split('"').next().unwrap());
        assert!(
            error.is_none_or(|error| error == code),
            "{what}: {}",
            reply.challenge()
        );
        let record = server.latest();
        assert_eq!(record.decision, Decision::Unauthenticated, "{what}");
        assert_eq!(record.http_status, Some(status), "{what}");
        assert!(!format!("{record:?}").contains("alice"), "{what}");
    }
    // What no text can say.
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n",
        server.address
    );
    for value in [
        &b"Bearer \xff\xfe"[..],
        b"Bearer \xc3\xa9",
        b"\xffearer alice",
        b"Bearer\talice",
    ] {
        let raw = [head.as_bytes(), b"Authorization: ", value, b"\r\n\r\n"].concat();
        let reply = server.raw(&raw, b"").await;
        assert_eq!(reply.status, 401, "{}", value.escape_ascii());
    }
    assert!(
        server.beneath.lock().unwrap().is_empty(),
        "nothing got through"
    );
}

#[tokio::test]
async fn an_expired_and_a_forged_token_are_told_the_same() {
    let server = Server::new().await;
    let forged = server.send(modern_call("add").token("mallory")).await;
    let expired = server.send(modern_call("add").token("expired")).await;
    assert_eq!(forged.looks(), expired.looks());
    assert!(forged.challenge().contains(r#"error="invalid_token""#));
}

#[tokio::test]
async fn the_scheme_is_read_in_any_case() {
    let server = Server::new().await;
    for scheme in ["bearer", "BEARER", "bEaReR "] {
        let header = format!("{scheme} alice");
        let reply = server
            .send(modern_call("add").header("authorization", header))
            .await;
        assert_eq!(reply.status, 200, "{scheme}: {reply:?}");
    }
}

#[tokio::test]
async fn a_token_in_meta_that_differs_from_the_header_is_refused() {
    let server = Server::new().await;
    let mut meta = modern_call("add");
    meta.body = meta
        .body
        .replace(r#""_meta":{"#, r#""_meta":{"rmcp-layers/token":"bob","#);
    let reply = server.send(meta.token("alice")).await;
    assert!(reply.body.contains("-31401"), "{reply:?}");
    assert!(server.beneath.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_issuer_that_is_down_is_said_with_when_to_come_again() {
    let server = Server::new().await;
    server.table.down.store(true, Ordering::SeqCst);
    let reply = server.send(modern_call("add").token("alice")).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("2"));
    assert_eq!(reply.challenge(), "");
    assert!(!reply.body.contains("issuer"), "{reply:?}");
    assert_eq!(
        server.latest().reason.as_deref(),
        Some("the issuer is down")
    );
}

#[tokio::test]
async fn what_is_missing_is_said_at_once_where_the_rules_reveal_it() {
    let server = Server::revealing().await;
    let reply = server.send(modern_call("echo").token("bob")).await;
    assert_eq!(reply.status, 403);
    let metadata = format!(
        "http://{}/.well-known/oauth-protected-resource/mcp",
        server.address
    );
    assert_eq!(
        reply.challenge(),
        format!(
            r#"Bearer error="insufficient_scope", resource_metadata="{metadata}", scope="calls deep deeper""#
        )
    );
    let json = reply.json();
    assert_eq!(
        (&json["id"], &json["error"]["code"]),
        (&json!(7), &json!(-31403))
    );
    assert_eq!(json["error"]["data"]["scopes"], json!(["deep", "deeper"]));
    let record = server.latest();
    assert_eq!(record.decision, Decision::Denied);
    assert_eq!(record.principal.as_ref().unwrap().subject, "bob");
    assert_eq!(
        (&*record.method, record.name.as_deref()),
        ("tools/call", Some("echo"))
    );
    // The same of a revision with sessions, by its body alone.
    let session = server.open("bob").await;
    let reply = server
        .send(post(&call("echo")).token("bob").session(&session))
        .await;
    assert_eq!(reply.status, 403, "{reply:?}");
    assert_eq!(
        server.send(modern_call("add").token("bob")).await.status,
        200
    );
}

#[tokio::test]
async fn rules_that_change_are_asked_as_they_are() {
    let server = Server::revealing().await;
    assert_eq!(
        server.send(modern_call("add").token("bob")).await.status,
        200
    );
    let closed = Rules::builder().tool("add", "more").reveal_forbidden(true);
    server.auth.set_rules(closed.build().unwrap());
    let reply = server.send(modern_call("add").token("bob")).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    assert!(reply.challenge().contains(r#"scope="more""#), "{reply:?}");
}

#[tokio::test]
async fn a_forbidden_name_and_one_that_nobody_has_look_alike_where_the_rules_hide() {
    let server = Server::new().await;
    // Of the same length, so that only the answer could tell.
    let forbidden = server.send(modern_call("echo").token("bob")).await;
    let unknown = server.send(modern_call("ohce").token("bob")).await;
    assert_eq!(forbidden.status, unknown.status);
    assert_eq!(forbidden.body.replace("echo", "ohce"), unknown.body);
    assert_eq!(forbidden.challenge(), "");
}

#[tokio::test]
async fn a_method_that_lacks_a_scope_is_challenged_though_names_are_hidden() {
    let server = Server::new().await;
    let session = server.open("bob").await;
    let level = json!({ "jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": { "level": "info" } });
    let reply = server
        .send(post(&level).token("bob").session(&session))
        .await;
    assert_eq!(reply.status, 403, "{reply:?}");
    assert!(reply.challenge().contains(r#"scope="log""#), "{reply:?}");
}

#[tokio::test]
async fn headers_that_say_something_else_than_the_body_are_refused() {
    let server = Server::new().await;
    let add = |version: &str| {
        let mut request = modern_call("add").token("alice");
        request
            .headers
            .retain(|(name, _)| !name.starts_with("Mcp-"));
        request.headers[0].1 = version.to_owned();
        request
    };
    for version in ["2026-07-28", "2025-11-25"] {
        for (what, request) in [
            (
                "another method",
                add(version)
                    .header("Mcp-Method", "tools/list")
                    .header("Mcp-Name", "add"),
            ),
            (
                "another name",
                add(version)
                    .header("Mcp-Method", "tools/call")
                    .header("Mcp-Name", "echo"),
            ),
            (
                "another name, encoded",
                add(version)
                    .header("Mcp-Method", "tools/call")
                    .header("Mcp-Name", "=?base64?ZWNobw==?="),
            ),
            (
                "no encoding",
                add(version)
                    .header("Mcp-Method", "tools/call")
                    .header("Mcp-Name", "=?base64?!?="),
            ),
            (
                "two methods",
                add(version)
                    .header("Mcp-Method", "tools/call")
                    .header("Mcp-Method", "tools/list")
                    .header("Mcp-Name", "add"),
            ),
            (
                "two names",
                add(version)
                    .header("Mcp-Method", "tools/call")
                    .header("Mcp-Name", "add")
                    .header("Mcp-Name", "echo"),
            ),
        ] {
            let reply = server.send(request).await;
            assert_eq!(reply.status, 400, "{what} {version}: {reply:?}");
            assert_eq!(reply.json()["error"]["code"], -32020, "{what} {version}");
            assert_eq!(server.latest().http_status, Some(400), "{what}");
        }
    }
    assert!(server.beneath.lock().unwrap().is_empty());
    let encoded = add("2026-07-28")
        .header("Mcp-Method", "tools/call")
        .header("Mcp-Name", "=?base64?YWRk?=");
    assert_eq!(server.send(encoded).await.status, 200);
}

#[tokio::test]
async fn a_body_that_says_two_things_is_refused() {
    let server = Server::revealing().await;
    for (body, code) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"echo"}}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","name":"echo"}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","Name":"echo"}}"#,
            -32602,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, -32600),
        ("7", -32600),
        ("[]", -32600),
    ] {
        let reply = server.send(text(body).token("bob")).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert_eq!(reply.json()["error"]["code"], code, "{body}");
    }
    for body in ["{", "hello", "", "\u{0}"] {
        let reply = server
            .send(
                text(body)
                    .header("Content-Type", "application/json")
                    .token("bob"),
            )
            .await;
        assert!((400..500).contains(&reply.status), "{body:?}: {reply:?}");
    }
    assert!(server.beneath.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_is_refused_whatever_its_messages_lack() {
    let server = Server::revealing().await;
    let batch = json!([call("add"), call("echo")]);
    let mirrored = post(&batch).header("Mcp-Method", "tools/call");
    for batch in [post(&batch), mirrored] {
        let reply = server.send(batch.token("bob")).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        let error = &reply.json()["error"];
        assert_eq!(error["code"], -32600, "{error}");
        assert!(
            error["message"].as_str().unwrap().contains("batch"),
            "{error}"
        );
    }
    assert!(server.beneath.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_decision_is_on_the_message_that_the_layer_in_front_has_read() {
    let front = LenientHttpLayer::new();
    let rules = rules().reveal_forbidden(true);
    let server = Server::behind(Some(front), rules, Table::default(), |guard| guard).await;
    let session = server.open("alice").await;
    let call = |id: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#)
    };
    let add = r#"{"name":"add","arguments":{"a":1,"b":2}}"#;
    let served = text(&call("1.5", add)).token("alice").session(&session);
    let served = server.send(served).await;
    assert_eq!(served.status, 200, "{served:?}");
    assert!(served.body.contains(r#""id":1.5,"#), "{served:?}");
    let echo = r#"{"name":"echo"}"#;
    let denied = server.send(text(&call("1e3", echo)).token("bob")).await;
    assert_eq!(denied.status, 403, "{denied:?}");
    assert!(denied.body.contains(r#""id":1e3,"#), "{denied:?}");
    let long = "x".repeat(5 << 20);
    let large = format!(r#"{{"name":"echo","arguments":{{"a":1,"x":"{long}"}}}}"#);
    let denied = server.send(text(&call("2", &large)).token("bob")).await;
    assert_eq!(denied.status, 403, "{denied:?}");
    server.beneath.lock().unwrap().clear();

    for (body, status, code) in [
        ("{".to_owned(), 400, -32700),
        (format!("[{}]", call("3", add)), 400, -32600),
        (call("null", add), 400, -32600),
        (call("3", r#"{"name":"add","name":"wait"}"#), 200, -32602),
        (call("3", r#"{"name":"add","requestState":5}"#), 200, -32602),
    ] {
        let refused = text(&body).token("alice").session(&session);
        let refused = server.send(refused).await;
        assert_eq!(refused.status, status, "{body}: {refused:?}");
        let code = format!(r#""code":{code}"#);
        assert!(refused.body.contains(&code), "{body}: {refused:?}");
        // The body of a caller without a token is not read.
        assert_eq!(server.send(text(&body)).await.status, 401, "{body}");
    }
    let beneath = server.beneath.lock().unwrap();
    assert!(
        beneath.iter().all(|request| request.target().is_none()),
        "{beneath:?}"
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let server = Server::with(rules(), Table::default(), |guard| {
        guard.max_body_bytes(1_000)
    })
    .await;
    let mut large = call("add");
    large["params"]["arguments"]["text"] = "x".repeat(10_000).into();
    let reply = server.send(post(&large).token("alice")).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    // In pieces, without a length.
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer alice\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    let piece = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let reply = server
        .raw(
            head.as_bytes(),
            format!("{}0\r\n\r\n", piece.repeat(3)).as_bytes(),
        )
        .await;
    assert_eq!(reply.status, 413, "{reply:?}");
}

#[tokio::test]
async fn a_session_serves_nobody_but_who_opened_it() {
    let server = Server::new().await;
    let session = server.open("alice").await;
    let nobodys = "00000000-0000-4000-8000-000000000000";
    let own = server
        .send(post(&call("add")).token("alice").session(&session))
        .await;
    assert_eq!(own.status, 200, "{own:?}");
    let before = server.beneath.lock().unwrap().len();
    for (what, make) in [
        ("a call", post(&call("add"))),
        (
            "a notification",
            post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })),
        ),
        (
            "an answer",
            post(&json!({ "jsonrpc": "2.0", "id": 1, "result": {} })),
        ),
        ("a stream", request("GET")),
        (
            "a stream resumed",
            request("GET").header("Last-Event-ID", "0/0"),
        ),
        ("the end", request("DELETE")),
        ("an initialize", post(&initialize())),
    ] {
        let foreign = server
            .send(make.clone().token("bob").session(&session))
            .await;
        let record = server.audit.recent(10);
        assert!(
            record
                .iter()
                .any(|record| record.decision == Decision::Denied
                    && record
                        .principal
                        .as_ref()
                        .is_some_and(|who| who.subject == "bob")),
            "{what} is on record"
        );
        let unknown = server.send(make.token("bob").session(nobodys)).await;
        assert_eq!(foreign.looks(), unknown.looks(), "{what}");
        assert!(
            what == "the end" || foreign.status == 404,
            "{what}: {foreign:?}"
        );
    }
    assert_eq!(
        server.beneath.lock().unwrap().len(),
        before,
        "nothing reached the stack"
    );
    let own = server
        .send(post(&call("add")).token("alice").session(&session))
        .await;
    assert_eq!(own.status, 200, "it is still there: {own:?}");
    let twice = post(&call("add"))
        .token("bob")
        .session(nobodys)
        .session(&session);
    assert_eq!(server.send(twice).await.status, 404);
}

#[tokio::test]
async fn a_session_that_was_ended_is_over_for_its_owner_too() {
    let server = Server::new().await;
    let session = server.open("alice").await;
    let ended = server
        .send(request("DELETE").token("alice").session(&session))
        .await;
    assert_eq!(ended.status, 202, "{ended:?}");
    let over = server
        .send(post(&call("add")).token("alice").session(&session))
        .await;
    assert_eq!(over.status, 404, "{over:?}");
}

#[tokio::test]
async fn a_session_without_its_owners_token_is_worth_nothing() {
    let server = Server::new().await;
    let session = server.open("alice").await;
    let reply = server.send(post(&call("add")).session(&session)).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn sessions_find_room_or_are_not_opened() {
    let server = Server::with(rules(), Table::default(), |guard| {
        guard
            .max_sessions(3)
            .max_sessions_per_principal(2)
            .idle_timeout(Duration::from_millis(300))
    })
    .await;
    // Above a principal's own limit, its session that is unused for longest is closed.
    let kept = server.open("alice").await;
    let closed = server.open("alice").await;
    let ask = async |session: &str| {
        let call = post(&call("add")).token("alice").session(session);
        server.send(call).await.status
    };
    assert_eq!(ask(&kept).await, 200);
    server.open("alice").await;
    assert_eq!((ask(&closed).await, ask(&kept).await), (404, 200));
    server.open("bob").await;
    let full = server.send(post(&initialize()).token("bob")).await;
    assert_eq!(full.status, 503, "{full:?}");
    assert!(full.header("retry-after").is_some() && full.header("mcp-session-id").is_none());
    let stats = server.guard.stats();
    // The call in the closed session was refused too.
    assert_eq!((stats.sessions, stats.refused), (3, 2));
    // An open stream keeps a session; the others are forgotten when there is need.
    let stream = server
        .send(request("GET").token("alice").session(&kept))
        .await;
    assert_eq!(stream.status, 200, "{stream:?}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.open("bob").await;
    let reply = server
        .send(post(&call("add")).token("alice").session(&kept))
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    drop(stream);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does() {
    let table = Table {
        lives: Some(Duration::from_millis(300)),
        ..Table::default()
    };
    let server = Server::with(rules(), table, |guard| guard).await;
    let session = server.open("alice").await;
    let stream = server
        .send(request("GET").token("alice").session(&session))
        .await;
    assert_eq!(stream.status, 200, "{stream:?}");
    let mut tcp = stream.open.expect("an open stream");
    let mut rest = Vec::new();
    soon("the stream's end", tcp.read_to_end(&mut rest))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_metadata_is_public() {
    let server = Server::new().await;
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
    ] {
        let reply = server.send(request("GET").at(path)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            reply.json(),
            json!({
                "resource": format!("http://{}/mcp", server.address),
                "authorization_servers": ["https://issuer.example"],
                "scopes_supported": ["calls"],
                "bearer_methods_supported": ["header"],
            })
        );
        let preflight = server.send(request("OPTIONS").at(path)).await;
        assert_eq!(preflight.status, 204);
        assert_eq!(server.send(request("POST").at(path)).await.status, 405);
    }
    let other = server
        .send(request("GET").at("/.well-known/oauth-protected-resource/other"))
        .await;
    assert_eq!(other.status, 401);
}

#[tokio::test]
async fn rmcps_own_client_is_served_with_either_handshake() {
    let server = Server::new().await;
    let url = format!("http://{}/mcp", server.address);
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header("alice");
    let transport = StreamableHttpClientTransport::from_config(config);
    let client = soon("connecting", ().serve(transport)).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["add"], "the list is filtered");
    let result = client
        .call_tool(CallToolRequestParams::new("add"))
        .await
        .unwrap();
    assert_eq!(result.is_error, Some(false));
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_is_on_record_as_cancelled() {
    let server = Server::new().await;
    let sending = server.send(modern_call("wait").token("alice"));
    let mut sending = Box::pin(sending);
    tokio::select! {
        reply = &mut sending => panic!("it waits: {reply:?}"),
        () = server.demo.until("the call", |seen| seen.waiting == 1) => {}
    }
    drop(sending);
    let recorded = async {
        while server.audit.recent(1).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the record", recorded).await;
    let record = server.latest();
    assert_eq!(
        (record.name.as_deref(), record.ended.as_str()),
        (Some("wait"), "cancelled")
    );
}

#[test]
fn settings_that_cannot_work_are_named() {
    for url in [
        "mcp.example/mcp",
        "/mcp",
        "ftp://mcp.example",
        "https://a/b?c",
        "https://a/b#c",
        "https://u:p@a/b",
        "",
    ] {
        let error = ProtectedResource::new(url).unwrap_err().to_string();
        assert!(error.contains("resource"), "{url}: {error}");
    }
    let resource = |scope: &str| {
        ProtectedResource::new("https://a/b")
            .unwrap()
            .scopes_supported([scope])
    };
    let guard = || HttpAuthLayer::builder(Table::default());
    for (guard, named) in [
        (guard().max_sessions(0), "max_sessions"),
        (guard().max_body_bytes(0), "max_body_bytes"),
        (guard().idle_timeout(Duration::ZERO), "idle_timeout"),
        (guard().resource(resource("a\"b")), "resource"),
    ] {
        let error = guard.build().unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let root = ProtectedResource::new("https://mcp.example/").unwrap();
    assert_eq!(
        root.metadata_url(),
        "https://mcp.example/.well-known/oauth-protected-resource"
    );
}

#[tokio::test]
async fn a_session_that_is_being_opened_has_its_room() {
    use http_body_util::Full;
    use tower::{Layer, ServiceExt};

    let (open, gate) = tokio::sync::watch::channel(false);
    let opened = Arc::new(AtomicUsize::new(0));
    let asked = opened.clone();
    let deleted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let closed = deleted.clone();
    let inner = tower::service_fn(move |request: http::Request<_>| {
        if request.method() == http::Method::DELETE {
            closed
                .lock()
                .unwrap()
                .push(request.headers()["mcp-session-id"].clone());
        }
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
            http::Response::builder()
                .header("mcp-session-id", format!("session-{number}"))
                .body(Full::<bytes::Bytes>::default())
        }
    });
    let guard = HttpAuthLayer::builder(Table::default()).max_sessions_per_principal(1);
    let guarded = guard.build().unwrap().layer(inner);
    let ask = || {
        let request = http::Request::post("/mcp").header(AUTHORIZATION, "Bearer alice");
        let body = Full::new(bytes::Bytes::from(initialize().to_string()));
        let answer = guarded.clone().oneshot(request.body(body).unwrap());
        answer.map(|answer| answer.unwrap().status())
    };
    let mut gone = Box::pin(ask());
    assert!(futures::poll!(&mut gone).is_pending());
    assert_eq!(ask().await, 503);
    drop(gone);
    let mut first = Box::pin(ask());
    assert!(futures::poll!(&mut first).is_pending());
    assert_eq!(ask().await, 503);
    assert_eq!(opened.load(Ordering::SeqCst), 2);
    open.send(true).unwrap();
    assert_eq!(first.await, 200);
    // A session that is open makes room, and is closed in the inner service too.
    assert_eq!(ask().await, 200);
    tokio::task::yield_now().await;
    assert_eq!(*deleted.lock().unwrap(), ["session-1"]);
}

#[test]
fn a_status_is_that_of_the_error() {
    let error = AuthError::insufficient_scope(["a"]);
    assert_eq!(error.status(), StatusCode::FORBIDDEN);
    let error: Error = error.into();
    assert_eq!(ErrorData::from(error).code.0, -31403);
}
