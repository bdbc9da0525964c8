//! When a breaker opens, whom it lets in, and when it closes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rmcp::model::*;
use rmcp_layers::{
    Error, McpRequest, McpResponse, Outcome, Principal, Refusal, TransportError, Upstream, code,
    retry::breaker::{
        CircuitBreaker, CircuitBreakerLayer, CircuitBreakerLayerBuilder, CircuitBreakerPolicy,
        CircuitBreakerState, RateWindow,
    },
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{
    repeats::tool,
    server::{Server, Step},
};

type Answer = Result<McpResponse, Error>;

/// A stack whose calls end when and as the test says.
#[derive(Clone, Default)]
pub struct Held {
    calls: Arc<Mutex<HashMap<String, Vec<oneshot::Sender<Answer>>>>>,
    pub count: Arc<AtomicUsize>,
}

impl Held {
    pub fn service(
        &self,
    ) -> impl Service<McpRequest, Response = McpResponse, Error = Error, Future: Send>
    + Clone
    + Send
    + use<> {
        let held = self.clone();
        service_fn(move |request: McpRequest| {
            let (sender, answer) = oneshot::channel();
            let name = request.target().unwrap_or_default().to_owned();
            held.calls
                .lock()
                .unwrap()
                .entry(name)
                .or_default()
                .push(sender);
            held.count.fetch_add(1, Ordering::SeqCst);
            async move {
                answer
                    .await
                    .unwrap_or_else(|_| Err(Error::cancelled("forgotten")))
            }
        })
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Ends the oldest call.
    pub fn end(&self, name: &str, answer: Answer) {
        let _ = self.take(name, 0).send(answer);
    }

    /// The end of the call that came after so many others that are in flight.
    pub fn take(&self, name: &str, at: usize) -> oneshot::Sender<Answer> {
        self.calls.lock().unwrap().get_mut(name).unwrap().remove(at)
    }
}

pub fn ok() -> Answer {
    Ok(McpResponse::new(CallToolResult::success(vec![])))
}

pub fn internal() -> Answer {
    Err(ErrorData::new(ErrorCode::INTERNAL_ERROR, "oh", None).into())
}

pub fn policy() -> CircuitBreakerPolicy {
    CircuitBreakerPolicy::new()
}

pub fn builder(policy: CircuitBreakerPolicy) -> CircuitBreakerLayerBuilder {
    CircuitBreakerLayer::builder().policy(policy)
}

/// A stack that answers a tool's calls with what is said here, one after another, and then well.
pub fn answers(
    layer: &CircuitBreakerLayer,
    answers: impl IntoIterator<Item = Answer>,
) -> impl AsyncFn(&str) -> Answer {
    let answers = Arc::new(Mutex::new(
        answers
            .into_iter()
            .collect::<std::collections::VecDeque<_>>(),
    ));
    let stack = layer.layer(service_fn(move |_: McpRequest| {
        let answer = answers.lock().unwrap().pop_front().unwrap_or_else(ok);
        async move { answer }
    }));
    async move |name: &str| stack.clone().oneshot(tool(name)).await
}

pub fn is_refused(answer: &Answer) -> bool {
    matches!(
        Outcome::of(answer),
        Outcome::Refused {
            layer: "breaker",
            ..
        }
    )
}

#[tokio::test(start_paused = true)]
async fn it_opens_on_a_dead_upstream_and_admits_exactly_one_probe_among_100_concurrent_callers() {
    let server = Server::new(vec![Step::Hangup; 5]);
    let layer = CircuitBreakerLayer::new();
    let stack: CircuitBreaker<Upstream> = layer.layer(server.upstream());
    for _ in 0..5 {
        let error = stack.clone().oneshot(tool("search")).await.unwrap_err();
        assert!(error.is_transport(), "{error}");
        // A connection that has just been lost is not made again at once.
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    // Open: refused at once, by name, with the time until the next probe.
    let begun = Instant::now();
    let error = stack.clone().oneshot(tool("search")).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(server.count(), 5);
    let after = error.retry_after().unwrap();
    assert!(
        after <= Duration::from_secs(55) && after > Duration::from_secs(50),
        "{after:?}"
    );
    let wire = ErrorData::from(error);
    assert_eq!(wire.code, code::UNAVAILABLE);
    assert!(wire.message.contains("`search`"), "{}", wire.message);
    let data = wire.data.unwrap();
    assert_eq!(
        (&data["layer"], &data["key"]),
        (&json!("breaker"), &json!("search"))
    );
    // Other tools are not concerned.
    stack.clone().oneshot(tool("other")).await.unwrap();

    tokio::time::advance(Duration::from_secs(60)).await;
    server.then([Step::Silence]);
    let callers = (0..100).map(|_| stack.clone().oneshot(tool("search")));
    let probed = tokio::time::timeout(Duration::from_secs(5), async {
        let mut callers = callers.map(Box::pin).collect::<Vec<_>>();
        // All but the probe end.
        for _ in 0..99 {
            let (answer, _, rest) = futures::future::select_all(callers).await;
            assert!(is_refused(&answer), "{answer:?}");
            assert!(answer.unwrap_err().retry_after().unwrap() <= Duration::from_secs(1));
            callers = rest;
        }
        callers
    });
    let mut probe = probed.await.unwrap().remove(0);
    let unanswered = tokio::time::timeout(Duration::from_millis(100), &mut probe);
    unanswered.await.unwrap_err();
    assert_eq!(server.count(), 7);
    assert_eq!(
        layer.handle().state("search"),
        CircuitBreakerState::HalfOpen
    );
    // The probe is cancelled, and gives its place back: the next caller is the next probe, and closes it.
    drop(probe);
    stack.clone().oneshot(tool("search")).await.unwrap();
    assert_eq!(layer.handle().state("search"), CircuitBreakerState::Closed);
    let passed = join_all((0..100).map(|_| stack.clone().oneshot(tool("search")))).await;
    assert!(passed.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn only_what_speaks_of_the_servers_health_counts() {
    let protocol = |code| Err(ErrorData::new(ErrorCode(code), "no", None).into());
    let status = |status| Err(TransportError::new("no").with_status(status).into());
    let failed = || {
        let content = vec![ContentBlock::text("disk full")];
        Ok(McpResponse::new(CallToolResult::error(content)))
    };
    let task = Task::new("1", TaskStatus::Working, "now", "now");
    let cases: Vec<(&str, Answer, bool)> = vec![
        ("internal error", internal(), true),
        ("lost", Err(TransportError::new("gone").into()), true),
        (
            "not there",
            Err(TransportError::not_delivered("gone").into()),
            true,
        ),
        ("timeout", Err(Error::timeout(Duration::from_secs(1))), true),
        ("503", status(503), true),
        ("another stack's timeout", protocol(-31504), true),
        ("bad input", protocol(-32602), false),
        ("unknown method", protocol(-32601), false),
        ("401", status(401), false),
        ("413", status(413), false),
        ("429", status(429), false),
        ("another stack's refusal", protocol(-31503), false),
        ("cancelled", Err(Error::cancelled("enough")), false),
        (
            "refused within",
            Err(Refusal::new("budget", "spent").into()),
            false,
        ),
        ("isError", failed(), false),
        (
            "task",
            Ok(McpResponse::new(CreateTaskResult::new(task))),
            false,
        ),
        (
            "round",
            Ok(McpResponse::new(InputRequiredResult::new(
                None,
                Some("s".into()),
            ))),
            false,
        ),
        ("answer", ok(), false),
    ];
    for (name, answer, counts) in cases {
        let layer = CircuitBreakerLayer::new();
        let call = answers(&layer, vec![answer; 20]);
        for _ in 0..20 {
            let _ = call("act").await;
        }
        let state = layer.handle().state("act");
        let expected = if counts {
            CircuitBreakerState::Open
        } else {
            CircuitBreakerState::Closed
        };
        assert_eq!(state, expected, "{name}");
        if !counts {
            // Names that somebody makes up leave nothing behind.
            assert_eq!(layer.handle().stats().keys, 0, "{name}");
        }
    }
    // A tool's own failures, by the operator's choice.
    let disk = |result: &CallToolResult| {
        result.content[0]
            .as_text()
            .is_some_and(|text| text.text.contains("disk"))
    };
    let layer = builder(policy().count_tool_errors(disk)).build().unwrap();
    let call = answers(&layer, vec![failed(); 5]);
    for _ in 0..5 {
        let _ = call("act").await;
    }
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_success_between_failures_begins_the_count_anew_and_bad_input_does_not() {
    let layer = CircuitBreakerLayer::new();
    let mut script = vec![internal(); 4];
    script.push(ok());
    script.extend(vec![internal(); 4]);
    script.push(Err(ErrorData::invalid_params("no", None).into()));
    let call = answers(&layer, script);
    for _ in 0..10 {
        let _ = call("act").await;
    }
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Closed);
    let status = &layer.handle().statuses()[0];
    assert_eq!((&*status.key, status.failures_in_a_row), ("act", 4));
}

#[tokio::test(start_paused = true)]
async fn one_users_bad_input_opens_nothing_for_another() {
    let server = Server::new(vec![Step::Error(-32602, Value::Null); 50]);
    let stack = CircuitBreakerLayer::new().layer(server.upstream());
    let by = |name: &str| {
        let mut request = tool("act");
        request.context.set_principal(Principal::new(name));
        request
    };
    for _ in 0..50 {
        stack.clone().oneshot(by("mallory")).await.unwrap_err();
    }
    stack.clone().oneshot(by("alice")).await.unwrap();
    // And with a key of their own, not even failures.
    let layer = CircuitBreakerLayer::builder()
        .key_by(|request| Some(request.context.principal()?.subject().to_owned()))
        .build()
        .unwrap();
    let server = Server::new(vec![Step::Error(-32603, Value::Null); 5]);
    let stack = layer.layer(server.upstream());
    for _ in 0..5 {
        stack.clone().oneshot(by("mallory")).await.unwrap_err();
    }
    assert!(is_refused(&stack.clone().oneshot(by("mallory")).await));
    stack.clone().oneshot(by("alice")).await.unwrap();
    // Whose key is none goes through none.
    stack.clone().oneshot(tool("act")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_failures_opens_it_over_a_time_or_over_calls() {
    for span in [
        RateWindow::Time(Duration::from_secs(10)),
        RateWindow::Calls(10),
    ] {
        let rates = policy()
            .consecutive_failures(None)
            .failure_rate(0.5)
            .min_calls(6)
            .rate_window(span);
        let layer = builder(rates).build().unwrap();
        // Two thirds fail, but five calls say nothing.
        let call = answers(
            &layer,
            (0..6).map(|n| if n % 3 == 0 { ok() } else { internal() }),
        );
        for _ in 0..5 {
            let _ = call("act").await;
        }
        assert_eq!(
            layer.handle().state("act"),
            CircuitBreakerState::Closed,
            "{span:?}"
        );
        let _ = call("act").await;
        assert_eq!(
            layer.handle().state("act"),
            CircuitBreakerState::Open,
            "{span:?}"
        );
    }
    // What is older than the time does not count.
    let rates = policy()
        .failure_rate(0.5)
        .min_calls(4)
        .rate_window(RateWindow::Time(Duration::from_secs(10)));
    let layer = builder(rates).build().unwrap();
    let call = answers(&layer, vec![internal(); 4]);
    for _ in 0..3 {
        let _ = call("act").await;
    }
    tokio::time::advance(Duration::from_secs(11)).await;
    let _ = call("act").await;
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Closed);
    assert_eq!(layer.handle().statuses()[0].calls, 1);
    // Nor what is further back than the calls.
    let rates = policy()
        .failure_rate(0.5)
        .min_calls(4)
        .rate_window(RateWindow::Calls(4));
    let layer = builder(rates).build().unwrap();
    let call = answers(&layer, [internal(), ok(), ok(), ok(), ok(), internal()]);
    for _ in 0..6 {
        let _ = call("act").await;
    }
    let status = &layer.handle().statuses()[0];
    assert_eq!((status.calls, status.failed), (4, 1));
    assert_eq!(status.state, CircuitBreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_and_a_slow_probe_opens_it_again() {
    let slow = policy()
        .slow_calls(Duration::from_secs(2), 0.5)
        .min_calls(4);
    let layer = builder(slow).build().unwrap();
    let stack = layer.layer(service_fn(|request: McpRequest| async move {
        let wait = request.target().unwrap_or_default().len() as u64;
        tokio::time::sleep(Duration::from_secs(wait)).await;
        ok()
    }));
    for _ in 0..8 {
        stack.clone().oneshot(tool("a")).await.unwrap();
    }
    assert_eq!(layer.handle().state("a"), CircuitBreakerState::Closed);
    for _ in 0..4 {
        stack.clone().oneshot(tool("aaa")).await.unwrap();
    }
    assert_eq!(layer.handle().state("aaa"), CircuitBreakerState::Open);
    tokio::time::advance(Duration::from_secs(60)).await;
    stack.clone().oneshot(tool("aaa")).await.unwrap();
    assert_eq!(layer.handle().state("aaa"), CircuitBreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn it_stays_open_longer_after_each_probe_that_fails_up_to_a_limit() {
    let growing = policy()
        .consecutive_failures(1)
        .open_for(Duration::from_secs(10))
        .grow_open_time(2.0, Duration::from_secs(35));
    let layer = builder(growing).build().unwrap();
    let mut script = vec![internal(); 4];
    script.push(ok());
    script.push(internal());
    let call = answers(&layer, script);
    let left = || layer.handle().statuses()[0].retry_after.unwrap().as_secs();
    for seconds in [10, 20, 35, 35] {
        let _ = call("act").await;
        assert_eq!(left(), seconds);
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }
    call("act").await.unwrap();
    let _ = call("act").await;
    assert_eq!(left(), 10);
}

#[tokio::test(start_paused = true)]
async fn as_many_probes_as_allowed_and_as_many_successes_as_asked_for() {
    let held = Held::default();
    let layer = builder(policy().consecutive_failures(1).probes(3).successes(2))
        .build()
        .unwrap();
    let stack = layer.layer(held.service());
    let call = || tokio::spawn(stack.clone().oneshot(tool("act")));
    let open = call();
    tokio::task::yield_now().await;
    held.end("act", internal());
    open.await.unwrap().unwrap_err();
    tokio::time::advance(Duration::from_secs(60)).await;
    let mut probes: Vec<_> = (0..5).map(|_| call()).collect();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(held.count(), 1 + 3);
    // Cancelled, refused within, or the caller's fault: the first two say nothing, the last is an answer.
    probes.remove(0).abort();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    probes.push(call());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(held.count(), 1 + 4);
    held.calls.lock().unwrap().get_mut("act").unwrap().remove(0);
    held.end("act", Err(Refusal::new("budget", "spent").into()));
    held.end("act", Err(ErrorData::invalid_params("no", None).into()));
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::HalfOpen);
    held.end("act", ok());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_was_let_in_before_it_opened_says_nothing_of_what_is_after() {
    let held = Held::default();
    let layer = builder(policy().consecutive_failures(5)).build().unwrap();
    let stack = layer.layer(held.service());
    let call = || tokio::spawn(stack.clone().oneshot(tool("act")));
    let yields = || async {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    };
    let old: Vec<_> = (0..20).map(|_| call()).collect();
    yields().await;
    for _ in 0..5 {
        held.end("act", internal());
    }
    yields().await;
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Open);
    // A late success does not close it.
    held.end("act", ok());
    yields().await;
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Open);
    tokio::time::advance(Duration::from_secs(60)).await;
    let probe = call();
    yields().await;
    // Nor does a late failure fail the probe.
    held.end("act", internal());
    yields().await;
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::HalfOpen);
    let last = held
        .calls
        .lock()
        .unwrap()
        .get_mut("act")
        .unwrap()
        .pop()
        .unwrap();
    last.send(ok()).unwrap();
    probe.await.unwrap().unwrap();
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Closed);
    // And those that time out at last do not open it again.
    for _ in 0..13 {
        held.end("act", internal());
    }
    join_all(old).await;
    assert_eq!(layer.handle().state("act"), CircuitBreakerState::Closed);
}
