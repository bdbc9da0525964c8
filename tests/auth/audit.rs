//! What is on record of calls, whatever becomes of them and of the log.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture, poll};
use rmcp::model::*;
use rmcp_layers::{
    Error, McpRequest, McpResponse, Outcome, Principal, Refusal, TransportError, Upstream,
    auth::audit::*, code, gateway::Gateway,
};
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::common::{demo::Demo, soon};

/// A folder that is gone after the test.
pub struct Folder(PathBuf);

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

fn in_memory() -> Audit {
    Audit::builder().memory(100).build().unwrap()
}

fn to_file(path: &Path) -> Audit {
    let file = AuditFile::new(path);
    Audit::builder().memory(100).file(file).build().unwrap()
}

/// A stack that does what the tool's name says.
fn stack(
    audit: &Audit,
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

fn call(name: &str) -> McpRequest {
    McpRequest::call_tool(name).build()
}

async fn calls(audit: &Audit, names: &[&str]) {
    for name in names {
        let _ = stack(audit).oneshot(call(name)).await;
    }
    audit.handle().flush().await.unwrap();
}

fn latest(audit: &Audit) -> Arc<AuditRecord> {
    audit.handle().recent(1).pop().expect("a record")
}

fn lines(path: &Path) -> Vec<Value> {
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
        assert_eq!(record.decision, Decided::Allowed);
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
    assert_eq!(latest(&audit).decision, Decided::Denied);
    assert_eq!(latest(&audit).code, Some(-31403));
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
    let audit = Audit::builder()
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
    let audit = Audit::builder().tracing().build().unwrap();
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
    let audit = Audit::builder().memory(2).build().unwrap();
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

#[tokio::test]
async fn a_log_goes_on_where_it_ended() {
    let folder = Folder::new();
    for run in 0..3_u64 {
        let audit = to_file(&folder.file());
        calls(&audit, &["one", "two"]).await;
        assert_eq!(audit.handle().counts()[0].written, 2);
        let log = verify(folder.file()).unwrap();
        assert_eq!(
            (log.lines, log.first_seq, log.last_seq),
            (2 * (run + 1), 1, 2 * (run + 1))
        );
        assert_eq!(log.follows, "0".repeat(64));
    }
}

#[tokio::test]
async fn what_waits_is_written_when_the_audit_is_dropped() {
    let folder = Folder::new();
    let audit = to_file(&folder.file());
    for _ in 0..100 {
        stack(&audit).oneshot(call("work")).await.unwrap();
    }
    drop(audit);
    let written = async {
        while verify(folder.file()).map_or(0, |log| log.lines) < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("all records", written).await;
}

#[tokio::test]
async fn a_line_that_was_tampered_with_is_named() {
    let folder = Folder::new();
    let audit = to_file(&folder.file());
    calls(&audit, &["one", "two", "three", "four"]).await;
    drop(audit);
    let whole = fs::read_to_string(folder.file()).unwrap();
    let line = |n: usize| whole.lines().nth(n - 1).unwrap();
    let joined = |numbers: &[usize]| -> String {
        numbers.iter().map(|&n| format!("{}\n", line(n))).collect()
    };
    let other = {
        let folder = Folder::new();
        let audit = to_file(&folder.file());
        calls(&audit, &["another", "another"]).await;
        fs::read_to_string(folder.file()).unwrap()
    };
    let put_in = format!(
        "{}\n{}\n{}\n",
        line(1),
        other.lines().nth(1).unwrap(),
        line(3)
    );
    for (what, text, broken) in [
        (
            "a name changed",
            whole.replace(r#""name":"two""#, r#""name":"own""#),
            2,
        ),
        (
            "the last line changed",
            whole.replace(r#""name":"four""#, r#""name":"five""#),
            4,
        ),
        (
            "a digit of a hash changed",
            whole.replacen(r#""hash":""#, r#""hash":"x"#, 1),
            1,
        ),
        ("a line removed", joined(&[1, 3, 4]), 2),
        ("the first line removed", joined(&[2, 3, 4]), 1),
        ("lines swapped", joined(&[1, 3, 2, 4]), 2),
        ("a line twice", joined(&[1, 2, 2, 3, 4]), 3),
        ("another log's line", put_in, 2),
        (
            "a line that is no record",
            whole.replacen('\n', "\nhello\n", 1),
            2,
        ),
        ("an empty line", whole.replacen('\n', "\n\n", 1), 2),
        ("not UTF-8", whole.replace("three", "thr\u{fffd}e"), 3),
        ("the end missing", whole[..whole.len() - 5].to_owned(), 4),
        ("nothing there", String::new(), 1),
    ] {
        fs::write(folder.file(), text).unwrap();
        // A log from its second line on is how a log goes on that was rotated.
        if what == "the first line removed" {
            let log = verify(folder.file()).unwrap();
            assert_eq!(log.first_seq, 2, "and it says so");
            continue;
        }
        match verify(folder.file()) {
            Err(AuditError::Broken { line, .. }) => assert_eq!(line, broken, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    fs::write(folder.file(), whole).unwrap();
    assert_eq!(verify(folder.file()).unwrap().lines, 4);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_short_is_cut_off_and_that_is_on_record() {
    let folder = Folder::new();
    calls(&to_file(&folder.file()), &["one", "two"]).await;
    let whole = fs::read(folder.file()).unwrap();
    for cut in [1, 10, 100] {
        fs::write(folder.file(), &whole[..whole.len() - cut]).unwrap();
        let audit = to_file(&folder.file());
        calls(&audit, &["three"]).await;
        let log = lines(&folder.file());
        assert_eq!(log[1]["event"], "recovered");
        assert!(log[1]["cut_bytes"].as_u64().unwrap() > 0);
        assert_eq!(log[2]["name"], "three");
        assert_eq!(verify(folder.file()).unwrap().lines, 3);
    }
}

#[tokio::test]
async fn a_file_that_is_no_log_is_not_written_to() {
    let folder = Folder::new();
    fs::write(folder.file(), "dear diary\n").unwrap();
    let opened = Audit::builder().file(AuditFile::new(folder.file())).build();
    let error = opened.unwrap_err().to_string();
    assert!(
        error.contains("audit.jsonl") && error.contains("move it away"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), "dear diary\n");
}

#[tokio::test]
async fn a_log_that_grows_large_goes_on_in_a_new_file() {
    let folder = Folder::new();
    let open = || {
        let file = AuditFile::new(folder.file()).max_bytes(4096);
        Audit::builder().memory(1).file(file).build().unwrap()
    };
    for _ in 0..2 {
        let audit = open();
        for _ in 0..40 {
            calls(&audit, &["work"]).await;
        }
    }
    let logs = verify_all(folder.file()).unwrap();
    assert!(logs.len() > 3, "{logs:?}");
    assert_eq!(logs.iter().map(|log| log.lines).sum::<u64>(), 80);
    for entry in fs::read_dir(&folder.0).unwrap() {
        assert!(entry.unwrap().metadata().unwrap().len() <= 4096);
    }
    // After a rotation that nothing followed, the log goes on from the file before.
    fs::remove_file(folder.file()).unwrap();
    let last = verify_all(folder.file()).unwrap().pop().unwrap().last_seq;
    calls(&open(), &["work"]).await;
    assert_eq!(
        verify_all(folder.file()).unwrap().pop().unwrap().first_seq,
        last + 1
    );
    // A file that is missing in between is found.
    let mut files: Vec<_> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    fs::remove_file(&files[2]).unwrap();
    assert!(matches!(
        verify_all(folder.file()),
        Err(AuditError::Broken { line: 1, .. })
    ));
}

#[tokio::test]
async fn two_processes_do_not_tangle_one_log() {
    let folder = Folder::new();
    let (first, second) = (to_file(&folder.file()), to_file(&folder.file()));
    calls(&first, &["one"]).await;
    let _ = stack(&second).oneshot(call("two")).await;
    let failing = async {
        while !second.handle().counts()[0].failing {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the second to notice", failing).await;
    let refused = stack(&second).oneshot(call("three")).await;
    assert_eq!(refused.unwrap_err().kind().as_str(), "refused");
    calls(&first, &["four"]).await;
    assert_eq!(verify(folder.file()).unwrap().lines, 2);
}

#[cfg(unix)]
#[tokio::test]
async fn others_cannot_read_a_log() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    calls(&to_file(&folder.file()), &["one"]).await;
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A sink that writes when it is let, and fails when it is told to.
struct Slow {
    let_go: mpsc::Receiver<()>,
    fails: Arc<AtomicBool>,
}

impl AuditSink for Slow {
    fn write(&mut self, _record: &AuditRecord) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is full"));
        }
        let _ = self.let_go.recv();
        Ok(())
    }
}

/// An audit with room for one record, the key to its door, and the switch that breaks it.
fn narrow(choice: WhenFull) -> (Audit, mpsc::Sender<()>, Arc<AtomicBool>) {
    let (key, let_go) = mpsc::channel();
    let fails = Arc::new(AtomicBool::new(false));
    let sink = Slow {
        let_go,
        fails: fails.clone(),
    };
    let options = SinkOptions::new().capacity(1).when_full(choice);
    let audit = Audit::builder()
        .memory(10)
        .sink("slow", sink, options)
        .build()
        .unwrap();
    (audit, key, fails)
}

#[tokio::test]
async fn a_full_sink_that_blocks_holds_calls_up_before_they_begin() {
    let (audit, key, _) = narrow(WhenFull::Block);
    let ran = Arc::new(AtomicU64::new(0));
    let count = ran.clone();
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .service(service_fn(move |_: McpRequest| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Error>(McpResponse::new(EmptyResult {})) }
        }));
    stack.clone().oneshot(call("one")).await.unwrap();
    let mut second: BoxFuture<_> = stack.clone().oneshot(call("two")).boxed();
    assert!(poll!(&mut second).is_pending());
    assert_eq!(ran.load(Ordering::SeqCst), 1, "the second has not begun");
    // One that gives up takes no place.
    let mut third: BoxFuture<_> = stack.clone().oneshot(call("three")).boxed();
    assert!(poll!(&mut third).is_pending());
    drop(third);
    key.send(()).unwrap();
    soon("the second call", second).await.unwrap();
    key.send(()).unwrap();
    drop(key);
    audit.handle().flush().await.unwrap();
    let counts = audit.handle().counts();
    assert_eq!(
        (counts[0].written, counts[0].dropped),
        (2, 1),
        "the one that gave up had no place"
    );
}

#[tokio::test]
async fn a_full_sink_that_drops_counts_what_it_drops() {
    let (audit, key, _) = narrow(WhenFull::Drop);
    for name in ["one", "two", "three"] {
        stack(&audit).oneshot(call(name)).await.unwrap();
    }
    assert_eq!(audit.handle().counts()[0].dropped, 2);
    assert_eq!(
        audit.handle().recent(10).len(),
        3,
        "another sink has them all"
    );
    drop(key);
    audit.handle().flush().await.unwrap();
    assert_eq!(audit.handle().counts()[0].written, 1);
}

#[tokio::test]
async fn a_full_sink_that_refuses_lets_no_call_through() {
    let (audit, key, _) = narrow(WhenFull::Refuse);
    stack(&audit).oneshot(call("one")).await.unwrap();
    let error = stack(&audit).oneshot(call("two")).await.unwrap_err();
    assert_eq!(
        Outcome::of_error(&error),
        Outcome::Refused {
            layer: "audit",
            not_delivered: true,
            code: -31503
        }
    );
    assert_eq!(ErrorData::from(error).code, code::UNAVAILABLE);
    assert_eq!(latest(&audit).decision, Decided::Undecided);
    key.send(()).unwrap();
    audit.handle().flush().await.unwrap();
    stack(&audit).oneshot(call("three")).await.unwrap();
}

#[tokio::test]
async fn a_failing_sink_that_refuses_lets_calls_through_again_once_it_writes() {
    let (audit, key, fails) = narrow(WhenFull::Refuse);
    fails.store(true, Ordering::SeqCst);
    stack(&audit).oneshot(call("one")).await.unwrap();
    let failing = async {
        while !audit.handle().counts()[0].failing {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the sink to fail", failing).await;
    assert!(stack(&audit).oneshot(call("two")).await.is_err());
    drop(key);
    fails.store(false, Ordering::SeqCst);
    audit.handle().flush().await.unwrap();
    stack(&audit).oneshot(call("three")).await.unwrap();
    audit.handle().flush().await.unwrap();
    let counts = &audit.handle().counts()[0];
    assert_eq!(
        (counts.written, counts.failing),
        (2, false),
        "no record of a call that ran is lost"
    );
    assert!(counts.failed > 0);
}

#[tokio::test]
async fn a_failing_sink_that_drops_lets_every_call_through() {
    let (audit, _key, fails) = narrow(WhenFull::Drop);
    fails.store(true, Ordering::SeqCst);
    stack(&audit).oneshot(call("one")).await.unwrap();
    audit.handle().flush().await.unwrap();
    let counts = &audit.handle().counts()[0];
    assert_eq!((counts.written, counts.dropped, counts.failed), (0, 1, 1));
}

#[tokio::test]
async fn a_sink_that_panics_refuses_calls_from_then_on() {
    struct Panics;
    impl AuditSink for Panics {
        fn write(&mut self, _record: &AuditRecord) -> io::Result<()> {
            panic!("the sink panics");
        }
    }
    for choice in [WhenFull::Refuse, WhenFull::Block] {
        let options = SinkOptions::new().when_full(choice);
        let audit = Audit::builder()
            .sink("panics", Panics, options)
            .build()
            .unwrap();
        stack(&audit).oneshot(call("one")).await.unwrap();
        assert!(audit.handle().flush().await.is_err());
        assert!(stack(&audit).oneshot(call("two")).await.is_err());
    }
}

#[tokio::test]
async fn a_full_disk_leaves_no_half_a_line() {
    // Writing to this device always fails for lack of room.
    let full = Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    let opened = Audit::builder()
        .memory(1)
        .file(AuditFile::new(full))
        .build();
    // It cannot be read as a log, or cannot be written to: either way nothing is let through.
    if let Ok(audit) = opened {
        let _ = stack(&audit).oneshot(call("one")).await;
        let failing = async {
            while !audit.handle().counts()[0].failing {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the disk to be full", failing).await;
        assert!(stack(&audit).oneshot(call("two")).await.is_err());
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let file = |max| AuditFile::new("/nowhere/at/all/audit.jsonl").max_bytes(max);
    for (builder, named) in [
        (Audit::builder(), "sinks"),
        (Audit::builder().memory(0), "memory"),
        (Audit::builder().file(file(1)), "max_bytes"),
        (Audit::builder().file(file(1 << 20)), "/nowhere/at/all"),
        (
            Audit::builder()
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
    let auth = rmcp_layers::auth::AuthLayer::builder(Stuck).audit(audit.clone());
    let stack = ServiceBuilder::new()
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
    assert_eq!(cancelled.decision, Decided::Undecided);
    assert_eq!(cancelled.name.as_deref(), Some("add"));
    assert!(tokio::spawn(ask("panic")).await.unwrap_err().is_panic());
    assert_eq!(latest(&audit).ended, Ended::Panicked);
    assert_eq!(audit.handle().recent(9).len(), 2);
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_whose_file_is_taken_away_goes_on_where_it_is_looked_for() {
    let folder = Folder::new();
    let path = folder.file();
    let audit = to_file(&path);
    calls(&audit, &["work"]).await;
    let before = verify(&path).unwrap();
    fs::rename(&path, path.with_extension("moved")).unwrap();
    calls(&audit, &["work", "fail"]).await;
    let after = verify(&path).unwrap();
    assert_eq!(after.follows, before.last_hash);
    assert_eq!((after.first_seq, after.last_seq), (2, 3));
    fs::remove_file(&path).unwrap();
    calls(&audit, &["work"]).await;
    let last = verify(&path).unwrap();
    assert_eq!((last.first_seq, last.follows), (4, after.last_hash));
}
