//! What is on record of calls, whatever becomes of them and of the log.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture, poll};
use rmcp::model::*;
use rmcp_layers::{
    Decision, Error, McpRequest, McpResponse, Next, Outcome, Principal, Refusal, TransportError,
    Upstream, audit::*, code, from_fn, gateway::Gateway,
};
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::common::demo::Demo;

/// A folder that is gone after the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rmcp-layers-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn in_memory() -> AuditLog {
    AuditLog::builder().memory(100).build().unwrap()
}

pub fn to_file(path: &Path) -> AuditLog {
    let file = AuditFile::new(path);
    AuditLog::builder().memory(100).file(file).build().unwrap()
}

/// A stack that does what the tool's name says.
pub fn stack(
    audit: &AuditLog,
) -> impl Service<McpRequest, Response = McpResponse, Error = Error, Future: Send> + Clone + use<> {
    ServiceBuilder::new()
        .layer(audit.layer())
        .service(service_fn(|request: McpRequest| async move {
            let name = request.target().unwrap_or_default().to_owned();
            let result = |result: CallToolResult| Ok::<_, Error>(McpResponse::new(result));
            let content = vec![ContentBlock::text("so")];
            match name.as_str() {
                "fail" => result(CallToolResult::error(content)),
                "reject" => Err(ErrorData::invalid_params("no", None).into()),
                "refuse" => Err(Refusal::new("budget", "too much").into()),
                "forbid" => Err(Refusal::new("auth", "no").with_code(code::FORBIDDEN).into()),
                "lose" => Err(TransportError::new("gone").with_upstream("far").into()),
                "late" => Err(Error::timeout(Duration::from_secs(1))),
                "hang" => std::future::pending().await,
                "panic" => panic!("the handler panics"),
                _ => result(CallToolResult::success(content)),
            }
        }))
}

pub fn call(name: &str) -> McpRequest {
    McpRequest::call_tool(name).build()
}

pub async fn calls(audit: &AuditLog, names: &[&str]) {
    for name in names {
        let _ = stack(audit).oneshot(call(name)).await;
    }
    audit.handle().flush().await.unwrap();
}

pub fn latest(audit: &AuditLog) -> Arc<AuditRecord> {
    audit.handle().recent(1).pop().expect("a record")
}

pub fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn every_call_is_on_record_with_how_it_ended() {
    let audit = in_memory();
    for (name, ended, code) in [
        ("work", "complete", None),
        ("fail", "tool_error", None),
        ("reject", "protocol_error", Some(-32602)),
        ("refuse", "refused", Some(-31503)),
        ("lose", "transport_failure", None),
        ("late", "timeout", None),
    ] {
        let _ = stack(&audit).oneshot(call(name)).await;
        let record = latest(&audit);
        assert_eq!(record.ended.as_str(), ended, "{name}");
        assert_eq!(record.code, code, "{name}");
        assert_eq!(record.decision, Decision::Allowed);
        assert_eq!(record.method, "tools/call");
        assert_eq!(record.name.as_deref(), Some(name));
    }
    let lost = audit.handle().recent(2).pop().unwrap();
    assert_eq!(lost.upstream.as_deref(), Some("far"));
    assert_eq!(audit.handle().recent(100).len(), 6);
}

#[tokio::test]
async fn what_somebody_further_in_decides_is_on_record() {
    let audit = in_memory();
    let _ = stack(&audit).oneshot(call("forbid")).await;
    assert_eq!(latest(&audit).decision, Decision::Denied);
    assert_eq!(latest(&audit).code, Some(-31403));
}

#[tokio::test]
async fn a_decision_that_an_inner_layer_states_is_on_record_with_its_principal_and_reason() {
    let audit = in_memory();
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .layer(from_fn(|request: McpRequest, next: Next| async move {
            let mallory = Principal::new("mallory");
            let context = &request.context;
            context.state_decision(Decision::Allowed, Some(&mallory), "");
            match request.target() {
                Some("vault") => {
                    context.state_decision(Decision::Concealed, None, "not hers");
                    Err(ErrorData::invalid_params("Unknown tool: vault", None).into())
                }
                _ => next.run(request).await,
            }
        }))
        .service(Upstream::in_process(Demo::default()));
    stack.clone().oneshot(call("add")).await.unwrap();
    let allowed = latest(&audit);
    assert_eq!(allowed.decision, Decision::Allowed);
    assert_eq!(allowed.reason, None);
    stack.oneshot(call("vault")).await.unwrap_err();
    let concealed = latest(&audit);
    assert_eq!(concealed.decision, Decision::Concealed);
    assert_eq!(concealed.reason.as_deref(), Some("not hers"));
    assert_eq!(concealed.code, Some(-32602));
    for record in [allowed, concealed] {
        assert_eq!(record.principal.as_ref().unwrap().subject, "mallory");
    }
}

#[tokio::test]
async fn a_decision_without_a_principal_is_about_the_callers_principal() {
    let audit = in_memory();
    let stack = ServiceBuilder::new()
        .layer(from_fn(|mut request: McpRequest, next: Next| async move {
            request.context.set_principal(Principal::new("mallory"));
            next.run(request).await
        }))
        .layer(audit.layer())
        .layer(from_fn(|request: McpRequest, next: Next| async move {
            let context = &request.context;
            if request.target() == Some("vault") {
                context.state_decision(Decision::Denied, None, "not hers");
                return Err(Refusal::new("door", "closed").into());
            }
            next.run(request).await
        }))
        .service(Upstream::in_process(Demo::default()));
    let mut line = crate::line::Line::to(stack);
    for params in [
        json!({ "name": "vault" }),
        // A request that cannot be read, which the bottom refuses.
        json!({ "name": "add", "arguments": 5 }),
    ] {
        let name = params["name"].clone();
        let answer = line.ask("tools/call", params, json!({})).await;
        assert!(answer["error"].is_object(), "{answer}");
        let record = latest(&audit);
        assert_eq!(record.name.as_deref(), name.as_str());
        assert_eq!(record.decision, Decision::Denied);
        assert_eq!(record.principal.as_ref().unwrap().subject, "mallory");
    }
}

#[tokio::test]
async fn an_auth_layers_decisions_are_on_record_outside_of_it() {
    for reveals in [false, true] {
        let audit = in_memory();
        let rules = crate::shop::rules().reveal_forbidden(reveals);
        let auth = crate::shop::layer(rules).allow_unauthenticated(["ping"]);
        let auth = auth.build().unwrap();
        let handle = auth.handle();
        let stack = ServiceBuilder::new()
            .layer(audit.layer())
            .layer(auth)
            .service(crate::shop::Shop::default());
        let ask = |request| stack.clone().oneshot(request);
        let hidden = if reveals {
            Decision::Denied
        } else {
            Decision::Concealed
        };
        for (name, decision) in [("db__read", Decision::Allowed), ("secret", hidden)] {
            let _ = ask(crate::shop::call(name, "db:read")).await;
            let record = latest(&audit);
            assert_eq!(record.decision, decision, "{name}");
            assert_eq!(record.name.as_deref(), Some(name));
            assert_eq!(record.principal.as_ref().unwrap().subject, "alice");
            let is_reasoned = record.reason.is_some();
            assert_eq!(is_reasoned, decision != Decision::Allowed, "{record:?}");
        }
        // A principal that an outer layer has set is not the caller's.
        let mut nameless = call("db__read");
        nameless.context.set_principal(Principal::new("eve"));
        ask(nameless).await.unwrap_err();
        let record = latest(&audit);
        assert_eq!(record.decision, Decision::Unauthenticated);
        assert_eq!(record.principal, None);
        assert_eq!(record.reason.as_deref(), Some("there is no token"));
        ask(McpRequest::new(PingRequest::default())).await.unwrap();
        assert_eq!(latest(&audit).decision, Decision::Allowed);
        assert_eq!(latest(&audit).principal, None);
        let stats = handle.stats();
        assert_eq!((stats.allowed, stats.unauthenticated), (2, 1));
        let hidden = (stats.denied, stats.concealed);
        assert_eq!(hidden, if reveals { (1, 0) } else { (0, 1) });
    }
}

#[tokio::test]
async fn a_cancelled_call_is_on_record() {
    let audit = in_memory();
    let mut hanging = Box::pin(stack(&audit).oneshot(call("hang")));
    assert!(poll!(&mut hanging).is_pending());
    assert!(audit.handle().recent(1).is_empty(), "it has not ended");
    drop(hanging);
    assert_eq!(latest(&audit).ended, Ended::With(Outcome::Cancelled));
}

#[tokio::test]
async fn a_panicked_call_is_on_record() {
    let audit = in_memory();
    let panicking = tokio::spawn(stack(&audit).oneshot(call("panic")));
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(latest(&audit).ended, Ended::Panicked);
}

#[tokio::test]
async fn a_call_that_another_ones_panic_drops_is_cancelled() {
    let audit = in_memory();
    let mut hanging = Box::pin(stack(&audit).oneshot(call("hang")));
    assert!(poll!(&mut hanging).is_pending());
    let panicking = tokio::spawn(async move {
        let _held = hanging;
        panic!("for a reason of its own");
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(latest(&audit).ended, Ended::With(Outcome::Cancelled));
}

#[tokio::test]
async fn a_record_says_who_called_what_and_when() {
    let audit = in_memory();
    let principal = Principal::new("ada")
        .with_issuer("https://issuer.example")
        .with_scopes(["admin"])
        .with_claims(serde_json::from_value(json!({ "email": "ada@example" })).unwrap());
    let request = McpRequest::call_tool("work")
        .argument("b", 2)
        .argument("a", 1.0)
        .principal(principal)
        .build();
    let id = request.context.id.clone();
    let before = std::time::SystemTime::now();
    stack(&audit).oneshot(request).await.unwrap();
    let record = latest(&audit);
    assert_eq!(record.request_id, Some(id));
    let who = record.principal.as_ref().unwrap();
    assert_eq!(who.issuer.as_deref(), Some("https://issuer.example"));
    assert_eq!(who.subject, "ada");
    assert!(record.time >= before);
    // Of `{"a":1,"b":2}`, whatever the order and the spelling of numbers.
    assert_eq!(
        record.argument_hash,
        Some(sha256_digest(br#"{"a":1,"b":2}"#))
    );
    assert_eq!(record.arguments, None, "nobody asked for them");
    let json = serde_json::to_string(&*record).unwrap();
    assert!(!json.contains("email") && !json.contains("admin"), "{json}");
}

#[tokio::test]
async fn a_record_names_the_member_or_the_upstream_that_was_called() {
    let audit = in_memory();
    let gateway = Gateway::builder()
        .member(
            "db",
            Upstream::builder()
                .name("inner")
                .in_process(Demo::default()),
        )
        .member("other", Upstream::in_process(Demo::default()))
        .build()
        .unwrap();
    let stack = ServiceBuilder::new().layer(audit.layer()).service(gateway);
    stack.clone().oneshot(call("db__add")).await.unwrap();
    assert_eq!(latest(&audit).upstream.as_deref(), Some("db"));
    stack
        .clone()
        .oneshot(McpRequest::list_tools())
        .await
        .unwrap();
    assert_eq!(latest(&audit).upstream, None, "both serve it");
    let alone = Upstream::builder()
        .name("alone")
        .in_process(Demo::default());
    let stack = ServiceBuilder::new().layer(audit.layer()).service(alone);
    stack.oneshot(call("add")).await.unwrap();
    assert_eq!(latest(&audit).upstream.as_deref(), Some("alone"));
}

#[tokio::test]
async fn large_arguments_are_hashed_as_small_ones_are() {
    let audit = in_memory();
    let text = "x".repeat(1_000_000);
    let hash = sha256_digest(json!({ "text": text }).to_string().as_bytes());
    let request = McpRequest::call_tool("work").argument("text", text).build();
    stack(&audit).oneshot(request).await.unwrap();
    assert_eq!(latest(&audit).argument_hash, Some(hash));
}

#[tokio::test]
async fn arguments_are_kept_only_when_asked_for_and_without_secrets() {
    let folder = Folder::new();
    let audit = AuditLog::builder()
        .memory(1)
        .file(AuditFile::new(folder.file()))
        .keep_arguments(ArgumentRules::new().redact("iban"))
        .build()
        .unwrap();
    let request = McpRequest::call_tool("work")
        .argument("user", "ada")
        .argument(
            "login",
            json!({ "Password": "hunter2", "deeper": [{ "refresh_token": "hunter2" }] }),
        )
        .argument("IBAN", "hunter2")
        .build();
    stack(&audit).oneshot(request).await.unwrap();
    audit.handle().flush().await.unwrap();
    let text = fs::read_to_string(folder.file()).unwrap();
    assert!(text.contains(r#""user":"ada""#), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_token_in_the_http_parts_is_in_no_record() {
    let folder = Folder::new();
    let audit = to_file(&folder.file());
    let mut request = call("work");
    let (parts, ()) = http::Request::builder()
        .header("authorization", "Bearer hunter2")
        .body(())
        .unwrap()
        .into_parts();
    request.context.extensions.insert(parts);
    request
        .context
        .meta
        .insert("token".into(), json!("hunter2"));
    stack(&audit).oneshot(request).await.unwrap();
    audit.handle().flush().await.unwrap();
    let shown = format!(
        "{:?}{}",
        latest(&audit),
        fs::read_to_string(folder.file()).unwrap()
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_name_cannot_forge_a_line_nor_fill_the_log() {
    let folder = Folder::new();
    let audit = to_file(&folder.file());
    let forged = "a\n{\"seq\":2}\r\u{1b}[2J\u{202e}\u{2028}\u{7f}\0";
    let long = "é".repeat(1_000_000);
    calls(&audit, &[forged, &long]).await;
    let text = fs::read_to_string(folder.file()).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.len() < 4_000, "{} bytes", text.len());
    let unseen = |c: char| (c.is_control() && c != '\n') || ('\u{2028}'..='\u{202e}').contains(&c);
    assert!(!text.contains(unseen), "{text}");
    assert_eq!(
        lines(&folder.file())[0]["name"],
        forged,
        "nothing of it is lost"
    );
    assert_eq!(verify(folder.file()).unwrap().lines, 2);
}

#[tokio::test]
async fn tracing_says_a_record_on_one_line() {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let audit = AuditLog::builder().tracing().build().unwrap();
    let _ = stack(&audit).oneshot(call("a\nb\u{1b}[2J")).await;
    drop(guard);
    let said = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("rmcp_layers::audit") && said.contains(r"a\nb\u{1b}[2J"),
        "{said}"
    );
}

#[tokio::test]
async fn the_ring_keeps_the_latest() {
    let audit = AuditLog::builder().memory(2).build().unwrap();
    calls(&audit, &["one", "two", "three"]).await;
    let names = |limit| -> Vec<_> {
        let records = audit.handle().recent(limit);
        records
            .iter()
            .map(|record| record.name.clone().unwrap())
            .collect()
    };
    assert_eq!(names(10), ["three", "two"]);
    assert_eq!(names(1), ["three"]);
}

#[test]
fn settings_that_cannot_work_are_named() {
    let file = |max| AuditFile::new("/nowhere/at/all/audit.jsonl").max_bytes(max);
    for (builder, named) in [
        (AuditLog::builder(), "`sink`"),
        (AuditLog::builder().memory(0), "memory"),
        (AuditLog::builder().file(file(1)), "max_bytes"),
        (AuditLog::builder().file(file(1 << 20)), "/nowhere/at/all"),
        (
            AuditLog::builder()
                .memory(1)
                .keep_arguments(ArgumentRules::new().max_bytes(0)),
            "max_bytes",
        ),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// Knows nobody, and does what the token says.
struct Stuck;

impl rmcp_layers::auth::Verifier for Stuck {
    fn verify<'a>(
        &'a self,
        token: &'a str,
    ) -> BoxFuture<'a, Result<rmcp_layers::auth::Verified, rmcp_layers::auth::AuthError>> {
        async move {
            match token {
                "panic" => panic!("the verifier panics"),
                _ => std::future::pending().await,
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_call_that_ends_while_its_token_is_verified_is_on_record() {
    let audit = in_memory();
    let auth = rmcp_layers::auth::AuthLayer::builder(Stuck);
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .layer(auth.build().unwrap())
        .service(Upstream::in_process(Demo::default()));
    let ask = |token: &'static str| {
        let request = McpRequest::call_tool("add").meta(rmcp_layers::auth::TOKEN_META_KEY, token);
        stack.clone().oneshot(request.build())
    };
    let mut hanging = Box::pin(ask("hang"));
    assert!(poll!(&mut hanging).is_pending());
    drop(hanging);
    let cancelled = latest(&audit);
    assert_eq!(cancelled.ended, Ended::With(Outcome::Cancelled));
    assert_eq!(cancelled.decision, Decision::Undecided);
    assert_eq!(cancelled.name.as_deref(), Some("add"));
    assert!(tokio::spawn(ask("panic")).await.unwrap_err().is_panic());
    assert_eq!(latest(&audit).ended, Ended::Panicked);
    assert_eq!(audit.handle().recent(9).len(), 2);
}
