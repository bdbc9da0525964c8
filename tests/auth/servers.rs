//! Authorization servers that are asked, and upstreams that are shown credentials.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Router, body::Bytes, extract::Request, http::StatusCode, middleware, response::IntoResponse,
    routing::post,
};
use jsonwebtoken::Algorithm;
use rmcp::{
    ErrorData,
    transport::{
        StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_server::session::local::LocalSessionManager,
    },
};
use rmcp_layers::{
    Handler, HttpEndpoint, Lifecycle, McpRequest, McpServer, Principal, Upstream,
    auth::{
        AuthErrorKind, AuthLayer, BearerToken, CredentialLayer, Credentials, Introspection, Rules,
        Scopes, TOKEN_META_KEY, TokenExchange, Verifier,
    },
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::{
    common::{demo::Demo, soon},
    tokens::{AUDIENCE, Issuer, by_secret, now},
};

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(axum::serve(listener, router).into_future());
    format!("http://127.0.0.1:{port}")
}

/// A form (`application/x-www-form-urlencoded`).
fn form(body: &[u8]) -> HashMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = text.bytes();
        let decoded = std::iter::from_fn(|| match bytes.next()? {
            b'+' => Some(b' '),
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
            }
            plain => Some(plain),
        });
        String::from_utf8(decoded.collect()).unwrap()
    };
    let pairs = std::str::from_utf8(body).unwrap().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// An authorization server that answers what it is told, and notes what it is asked.
#[derive(Clone, Default)]
struct Authorizer {
    asked: Arc<Mutex<Vec<HashMap<String, String>>>>,
    account: Arc<Mutex<Option<String>>>,
    down: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
}

impl Authorizer {
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    async fn serve(&self, answer: fn(&HashMap<String, String>) -> Value) -> String {
        let this = self.clone();
        let handler = move |headers: axum::http::HeaderMap, body: Bytes| {
            let this = this.clone();
            async move {
                let form = form(&body);
                let answered = answer(&form).to_string();
                this.asked.lock().unwrap().push(form);
                let account = headers.get("authorization");
                let account = account.map(|account| account.to_str().unwrap().to_owned());
                *this.account.lock().unwrap() = account;
                if this.down.load(Ordering::SeqCst) {
                    return (StatusCode::BAD_GATEWAY, String::new());
                }
                if this.refuses.load(Ordering::SeqCst) {
                    return (
                        StatusCode::BAD_REQUEST,
                        "{\"error\":\"invalid_grant\"}".to_owned(),
                    );
                }
                (StatusCode::OK, answered)
            }
        };
        serve(Router::new().route("/", post(handler))).await
    }
}

fn introspected(form: &HashMap<String, String>) -> Value {
    let good = json!({
        "active": true, "sub": "alice", "scope": "a b", "aud": AUDIENCE, "exp": now() + 600,
    });
    let mut changed = good.clone();
    match &*form["token"] {
        "good" => {}
        "client" => {
            changed.as_object_mut().unwrap().shift_remove("sub");
            changed["client_id"] = "robot".into();
        }
        "other" => changed["aud"] = "https://other.example".into(),
        "past" => changed["exp"] = (now() - 100).into(),
        "truthy" => changed["active"] = "true".into(),
        "list" => return json!([good]),
        _ => return json!({ "active": false }),
    }
    changed
}

#[tokio::test]
async fn an_authorization_server_says_whose_a_token_is() {
    let server = Authorizer::default();
    let url = server.serve(introspected).await;
    let verifier = Introspection::builder(url)
        .client("mcp server", "se cret")
        .audience(AUDIENCE)
        .build()
        .unwrap();
    let good = verifier.verify("good").await.unwrap();
    assert_eq!(good.principal.subject(), "alice");
    assert_eq!(good.principal.scopes(), ["a", "b"]);
    assert!(
        server
            .account
            .lock()
            .unwrap()
            .as_deref()
            .unwrap()
            .starts_with("Basic ")
    );
    assert_eq!(
        verifier.verify("client").await.unwrap().principal.subject(),
        "robot"
    );
    for (token, kind) in [
        ("bad", AuthErrorKind::Invalid),
        ("truthy", AuthErrorKind::Invalid),
        ("other", AuthErrorKind::Invalid),
        ("past", AuthErrorKind::Expired),
        ("list", AuthErrorKind::Unavailable),
        (&*"x".repeat(9_000), AuthErrorKind::Invalid),
    ] {
        assert_eq!(
            verifier.verify(token).await.unwrap_err().kind(),
            kind,
            "{token:.9}"
        );
    }
    assert!(verifier.remembered("good").is_some());
    assert!(verifier.remembered("bad").is_none());
    server.down.store(true, Ordering::SeqCst);
    let error = verifier.verify("new").await.unwrap_err();
    assert_eq!(error.kind(), AuthErrorKind::Unavailable);
    assert!(!format!("{error:?} {verifier:?}").contains("se cret"));
}

#[tokio::test]
async fn an_authorization_server_that_refuses_this_server_refuses_nobody_else() {
    let server = Authorizer::default();
    server.refuses.store(true, Ordering::SeqCst);
    let url = server.serve(introspected).await;
    let verifier = Introspection::builder(url).any_audience().build().unwrap();
    let error = verifier.verify("good").await.unwrap_err();
    assert_eq!(error.kind(), AuthErrorKind::Unavailable);
}

/// A server that says which `Authorization` its HTTP requests had.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<Option<String>>>>);

impl Shown {
    async fn serve(&self) -> String {
        let shown = self.clone();
        let server = McpServer::new(Handler::new(Demo::default()));
        let service = StreamableHttpService::new(
            move || Ok(server.clone()),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default(),
        );
        let note = move |request: Request, next: middleware::Next| {
            let shown = shown.clone();
            async move {
                let header = request.headers().get("authorization");
                let header = header.map(|header| header.to_str().unwrap().to_owned());
                shown.0.lock().unwrap().push(header);
                next.run(request).await
            }
        };
        let router = Router::new()
            .route_service("/mcp", service)
            .layer(middleware::from_fn(note));
        format!("{}/mcp", serve(router).await)
    }

    fn take(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn upstream(url: &str) -> Upstream {
    Upstream::builder()
        .lifecycle(Lifecycle::Discover)
        .http(HttpEndpoint::new(url).bearer("the-endpoints-own"))
        .unwrap()
}

fn add(token: Option<&str>) -> McpRequest {
    let mut request = McpRequest::call_tool("add")
        .argument("a", 1)
        .argument("b", 2);
    if let Some(token) = token {
        request = request.meta(TOKEN_META_KEY, token);
    }
    request.build()
}

#[tokio::test]
async fn a_call_shows_its_upstream_its_own_credential_and_no_other() {
    let shown = Shown::default();
    let upstream = upstream(&shown.serve().await);
    let stack = ServiceBuilder::new()
        .layer(CredentialLayer::new(
            Credentials::fixed("of-this-server").unwrap(),
        ))
        .service(upstream.clone());
    soon("a call", stack.clone().oneshot(add(None)))
        .await
        .unwrap();
    let first = shown.take();
    assert_eq!(
        first.first().unwrap().as_deref(),
        Some("Bearer the-endpoints-own")
    );
    assert_eq!(
        first.last().unwrap().as_deref(),
        Some("Bearer of-this-server")
    );
    // The next call over the same connection, without the layer.
    soon("a call", upstream.oneshot(add(None))).await.unwrap();
    assert_eq!(shown.take(), [Some("Bearer the-endpoints-own".to_owned())]);
}

/// A server that takes no HTTP request without this server's credential, and says which it got, each with its verb.
#[derive(Clone, Default)]
struct Demanding(Arc<Mutex<Vec<(String, String)>>>);

impl Demanding {
    async fn serve(&self) -> String {
        let (server, noted) = (McpServer::new(Handler::new(Demo::default())), self.clone());
        let service = StreamableHttpService::new(
            move || Ok(server.clone()),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default(),
        );
        let demand = move |request: Request, next: middleware::Next| {
            let noted = noted.clone();
            async move {
                let header = request.headers().get("authorization");
                let header = header.and_then(|header| header.to_str().ok());
                let Some(number) = header.and_then(|header| header.strip_prefix("Bearer own-"))
                else {
                    return StatusCode::UNAUTHORIZED.into_response();
                };
                let seen = (request.method().to_string(), number.to_owned());
                noted.0.lock().unwrap().push(seen);
                next.run(request).await
            }
        };
        let router = Router::new()
            .route_service("/mcp", service)
            .layer(middleware::from_fn(demand));
        format!("{}/mcp", serve(router).await)
    }

    async fn has(&self, verb: &str) {
        let came = || self.0.lock().unwrap().iter().any(|(seen, _)| seen == verb);
        soon(verb, async {
            while !came() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_upstream_that_demands_it_is_shown_the_credential_with_every_request() {
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let demanding = Demanding::default();
        let url = demanding.serve().await;
        let fetched = Arc::new(AtomicUsize::new(0));
        let refreshed = Credentials::refreshed({
            let fetched = fetched.clone();
            move || {
                let number = fetched.fetch_add(1, Ordering::SeqCst);
                async move {
                    // Each is about to expire.
                    let credential = BearerToken::new(format!("own-{number}"));
                    Ok(credential.expires_at(SystemTime::now() + Duration::from_secs(10)))
                }
            }
        });
        let connect = |credentials: &Credentials| {
            let endpoint =
                HttpEndpoint::new(&url).bearer_from(credentials.bearer_source().unwrap());
            let upstream = Upstream::builder().lifecycle(lifecycle);
            upstream.http(endpoint).unwrap()
        };
        let upstream = connect(&refreshed);
        soon("a call", upstream.clone().oneshot(add(None)))
            .await
            .unwrap();
        let is_legacy = matches!(lifecycle, Lifecycle::Initialize);
        if is_legacy {
            demanding.has("GET").await;
        }
        drop(upstream);
        if is_legacy {
            demanding.has("DELETE").await;
        }
        let seen = std::mem::take(&mut *demanding.0.lock().unwrap());
        let mut numbers: Vec<_> = seen.iter().map(|(_, number)| number.clone()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), seen.len(), "a fresh one each: {seen:?}");

        let fixed = connect(&Credentials::fixed("own-fixed").unwrap());
        soon("a call", fixed.oneshot(add(None))).await.unwrap();
        // With another's, and with none.
        let other = connect(&Credentials::fixed("others").unwrap());
        other.oneshot(add(None)).await.unwrap_err();
        let none = Credentials::refreshed(async || {
            Err(rmcp_layers::auth::AuthError::unavailable(
                "the vault is shut",
            ))
        });
        let error = connect(&none).oneshot(add(None)).await.unwrap_err();
        assert!(error.to_string().contains("no bearer token"), "{error}");
    }
    let each = Credentials::per_principal(async |_| Ok(BearerToken::new("own-each")));
    let error = each.bearer_source().map(|_| ());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("CredentialLayer"), "{error}");
}

#[tokio::test]
async fn a_call_does_not_wait_for_ever_for_a_bearer_token() {
    let url = Demanding::default().serve().await;
    let hangs = Arc::new(AtomicBool::new(false));
    let endpoint = HttpEndpoint::new(&url).bearer_from({
        let hangs = hangs.clone();
        move || {
            let hangs = hangs.load(Ordering::SeqCst);
            async move {
                match hangs {
                    true => std::future::pending().await,
                    false => Ok("own-token".to_owned()),
                }
            }
        }
    });
    let upstream = Upstream::builder().lifecycle(Lifecycle::Discover);
    let upstream = upstream.request_timeout(None).http(endpoint).unwrap();
    soon("a call", upstream.clone().oneshot(add(None)))
        .await
        .unwrap();
    hangs.store(true, Ordering::SeqCst);
    tokio::time::pause();
    let waited = tokio::time::timeout(Duration::from_secs(60), upstream.oneshot(add(None)));
    let error = waited.await.expect("it ends by itself").unwrap_err();
    assert!(error.to_string().contains("no bearer token"), "{error}");
}

#[tokio::test]
async fn a_bearer_token_that_no_header_can_have_is_said_to_be_so() {
    for lifecycle in [Lifecycle::Initialize, Lifecycle::Discover] {
        let url = Demanding::default().serve().await;
        let endpoint = HttpEndpoint::new(&url).bearer_from(async || Ok("own-token\n".to_owned()));
        let upstream = Upstream::builder().lifecycle(lifecycle);
        let upstream = upstream.http(endpoint).unwrap();
        let error = upstream.oneshot(add(None)).await.unwrap_err().to_string();
        assert!(error.contains("not a header value"), "{error}");
        assert!(!error.contains("own-token"), "{error}");
    }
}

#[tokio::test]
async fn principals_who_call_at_once_are_shown_each_by_their_own_credential() {
    let shown = Shown::default();
    let upstream = upstream(&shown.serve().await);
    let fetched = Arc::new(AtomicUsize::new(0));
    let credentials = Credentials::per_principal({
        let fetched = fetched.clone();
        move |principal: Principal| {
            fetched.fetch_add(1, Ordering::SeqCst);
            async move { Ok(BearerToken::new(format!("for-{}", principal.subject()))) }
        }
    });
    let stack = CredentialLayer::new(credentials).layer(upstream);
    let calls = (0..40).map(|number| {
        let mut request = add(None);
        request
            .context
            .set_principal(Principal::new(format!("user-{}", number % 4)));
        stack.clone().oneshot(request)
    });
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 4);
    let mut seen = HashMap::<_, usize>::new();
    for header in shown.take().into_iter().flatten() {
        *seen.entry(header).or_default() += 1;
    }
    seen.remove("Bearer the-endpoints-own");
    let expected = (0..4).map(|user| (format!("Bearer for-user-{user}"), 10));
    assert_eq!(seen, expected.collect());
    let nobody = stack.oneshot(add(None)).await.unwrap_err();
    assert!(nobody.to_string().contains("no principal"), "{nobody}");
}

#[tokio::test]
async fn a_principal_that_comes_back_with_less_is_not_shown_by_what_it_got_for_more() {
    let shown = Shown::default();
    let upstream = upstream(&shown.serve().await);
    let credentials = Credentials::per_principal(async |principal: Principal| {
        let tenant = principal.claims().get("tenant").and_then(Value::as_str);
        let made_of = [
            principal.scopes().join("+"),
            tenant.unwrap_or("-").to_owned(),
        ];
        Ok(BearerToken::new(made_of.join("/")))
    });
    let stack = CredentialLayer::new(credentials).layer(upstream);
    let call = async |scopes: &[&str], claims: Value| {
        let Value::Object(claims) = claims else {
            panic!("claims are an object");
        };
        let principal = Principal::new("ann").with_scopes(scopes.iter().copied());
        let mut request = add(None);
        request.context.set_principal(principal.with_claims(claims));
        stack.clone().oneshot(request).await.unwrap();
        shown.take().pop().flatten().unwrap()
    };
    for _ in 0..2 {
        assert_eq!(call(&["r", "w"], json!({})).await, "Bearer r+w/-");
        assert_eq!(call(&["r"], json!({})).await, "Bearer r/-");
        assert_eq!(call(&["r"], json!({"tenant": "a"})).await, "Bearer r/a");
        assert_eq!(call(&["r"], json!({"tenant": "b"})).await, "Bearer r/b");
    }
}

#[tokio::test]
async fn a_new_token_that_says_the_same_is_shown_by_the_same_credential() {
    let shown = Shown::default();
    let upstream = upstream(&shown.serve().await);
    let fetched = Arc::new(AtomicUsize::new(0));
    let credentials = Credentials::per_principal({
        let fetched = fetched.clone();
        move |_| {
            let number = fetched.fetch_add(1, Ordering::SeqCst);
            async move { Ok(BearerToken::new(format!("number-{number}"))) }
        }
    });
    let stack = CredentialLayer::new(credentials).layer(upstream);
    for time in 0..3 {
        let claims = json!({ "iat": time, "nbf": time, "exp": time, "jti": time, "tenant": "a" });
        let principal = Principal::new("ann").with_claims(claims.as_object().unwrap().clone());
        let mut request = add(None);
        request.context.set_principal(principal);
        stack.clone().oneshot(request).await.unwrap();
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_credential_is_replaced_before_it_expires_and_a_failure_is_nobodys() {
    let shown = Shown::default();
    let upstream = upstream(&shown.serve().await);
    let count = Arc::new(AtomicUsize::new(0));
    let credentials = Credentials::refreshed({
        let count = count.clone();
        move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            async move {
                match number {
                    0 => Err(rmcp_layers::auth::AuthError::unavailable("not yet")),
                    // Within the 30 s in which it is replaced, and far off.
                    1 => Ok(BearerToken::new("t1")
                        .expires_at(SystemTime::now() + Duration::from_secs(20))),
                    _ => Ok(BearerToken::new("t2")
                        .expires_at(SystemTime::now() + Duration::from_secs(600))),
                }
            }
        }
    });
    let stack = CredentialLayer::new(credentials).layer(upstream);
    assert!(stack.clone().oneshot(add(None)).await.is_err());
    for _ in 0..4 {
        stack.clone().oneshot(add(None)).await.unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let last: Vec<_> = shown.take().into_iter().flatten().rev().take(3).collect();
    assert_eq!(last, ["Bearer t2", "Bearer t2", "Bearer t2"]);
}

fn exchanged(form: &HashMap<String, String>) -> Value {
    let claims = form["subject_token"].split('.').nth(1).unwrap().to_owned();
    json!({
        "access_token": format!("for-{}", &claims[claims.len() - 8..]),
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 300,
    })
}

#[tokio::test]
async fn a_callers_token_is_exchanged_for_one_of_the_upstreams() {
    let server = Authorizer::default();
    let url = server.serve(exchanged).await;
    let shown = Shown::default();
    let upstream = upstream(&shown.serve().await);
    let credentials = TokenExchange::new(&url)
        .unwrap()
        .client("gateway", "secret")
        .resource("https://files.example/mcp")
        .into_credentials()
        .unwrap();
    let guard = |allows| {
        AuthLayer::builder(by_secret())
            .rules(
                Rules::builder()
                    .tool("add", Scopes::none())
                    .build()
                    .unwrap(),
            )
            .allow_token_exchange(allows)
            .build()
            .unwrap()
    };
    let inner = CredentialLayer::new(credentials).layer(upstream);
    let stack = guard(true).layer(inner.clone());
    let issuer = Issuer::secret(Algorithm::HS256);
    let tokens = ["ann", "bob"].map(|user| issuer.token(user, ""));
    for _ in 0..3 {
        for token in &tokens {
            stack.clone().oneshot(add(Some(token))).await.unwrap();
        }
    }
    assert_eq!(server.asked(), 2, "one exchange for each of them");
    let asked = server.asked.lock().unwrap()[0].clone();
    assert_eq!(
        asked["grant_type"],
        "urn:ietf:params:oauth:grant-type:token-exchange"
    );
    assert_eq!(asked["subject_token"], tokens[0]);
    assert_eq!(asked["resource"], "https://files.example/mcp");
    let headers: Vec<_> = shown.take().into_iter().flatten().collect();
    for token in &tokens {
        assert!(headers.iter().all(|header| !header.contains(&**token)));
    }

    // Nobody is shown to the upstream as somebody else when there is nothing to exchange, or it is refused.
    let error = guard(false)
        .layer(inner)
        .oneshot(add(Some(&tokens[0])))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("allow_token_exchange(true)"),
        "{error}"
    );
    server.refuses.store(true, Ordering::SeqCst);
    let cid = issuer.token("cid", "");
    let error = stack.clone().oneshot(add(Some(&cid))).await.unwrap_err();
    assert_eq!(ErrorData::from(error).code.0, -31403);
    server.refuses.store(false, Ordering::SeqCst);
    server.down.store(true, Ordering::SeqCst);
    let error = stack.oneshot(add(Some(&cid))).await.unwrap_err();
    assert_eq!(ErrorData::from(error).code.0, -31503);
    assert!(shown.take().is_empty());
}

#[tokio::test]
async fn an_upstream_in_this_process_is_shown_no_credential() {
    let stack = ServiceBuilder::new()
        .layer(CredentialLayer::new(
            Credentials::fixed("of-this-server").unwrap(),
        ))
        .service(Upstream::in_process(Demo::default()));
    let echoed = soon(
        "a call",
        stack.oneshot(McpRequest::call_tool("echo").build()),
    )
    .await;
    assert!(!crate::common::said(echoed).contains("of-this-server"));
}

#[tokio::test]
async fn a_fetch_that_panics_or_whose_caller_goes_away_is_no_others_trouble() {
    let shown = Shown::default();
    let upstream = upstream(&shown.serve().await);
    let count = Arc::new(AtomicUsize::new(0));
    let (open, gate) = tokio::sync::watch::channel(false);
    let credentials = Credentials::refreshed({
        let count = count.clone();
        move || {
            let number = count.fetch_add(1, Ordering::SeqCst);
            assert_ne!(number, 0, "the first cannot be begun");
            let mut gate = gate.clone();
            async move {
                assert_ne!(number, 1, "the second cannot be ended");
                let _ = gate.wait_for(|open| *open).await;
                Ok(BearerToken::new("good"))
            }
        }
    });
    let stack = CredentialLayer::new(credentials).layer(upstream);
    for _ in 0..2 {
        let refused = stack.clone().oneshot(add(None)).await.unwrap_err();
        assert!(refused.to_string().contains("try again"), "{refused}");
    }
    let mut gone = Box::pin(stack.clone().oneshot(add(None)));
    assert!(futures::poll!(&mut gone).is_pending());
    drop(gone);
    open.send(true).unwrap();
    while count.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    soon("a call", stack.oneshot(add(None))).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 3);
    assert_eq!(shown.take().pop().flatten().unwrap(), "Bearer good");
}
