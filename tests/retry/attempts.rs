//! When attempts are made, and what they carry.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use rmcp::model::*;
use rmcp_layers::{
    Caller, CallerSink, Error, Lifecycle, McpRequest, McpResponse, Outcome, ServedBy,
    TransportError, Upstream,
    cache::CacheLayer,
    retry::{IDEMPOTENCY_META_KEY, Jitter, RetryBudget, RetryLayer, RetryPolicy, Strategy},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::{
    common::{progress, recorder, token},
    repeats::{call, layer, over, quick, tool},
    server::{Server, Step, fails},
};

/// A stack that always fails so, and notes when it is called.
fn down(
    error: impl Fn() -> Error + Clone + Send + Sync + 'static,
) -> (
    impl Service<McpRequest, Response = McpResponse, Error = Error, Future: Send> + Clone + Send,
    Arc<Mutex<Vec<Instant>>>,
) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let noted = calls.clone();
    let stack = service_fn(move |_: McpRequest| {
        noted.lock().unwrap().push(Instant::now());
        let error = error();
        async move { Err::<McpResponse, _>(error) }
    });
    (stack, calls)
}

fn gone() -> Error {
    TransportError::not_delivered("gone").into()
}

/// The waits between attempts of one call, in milliseconds.
async fn waits(
    policy: RetryPolicy,
    error: impl Fn() -> Error + Clone + Send + Sync + 'static,
) -> Vec<u64> {
    let (stack, calls) = down(error);
    let layer = RetryLayer::builder()
        .budget(None)
        .policy(policy)
        .build()
        .unwrap();
    layer.layer(stack).oneshot(tool("act")).await.unwrap_err();
    let calls = calls.lock().unwrap();
    let waits = calls
        .windows(2)
        .map(|two| (two[1] - two[0]).as_millis() as u64);
    waits.collect()
}

#[tokio::test(start_paused = true)]
async fn waits_grow_as_the_strategy_says() {
    let exact = || RetryPolicy::new().jitter(Jitter::None).max_retries(6);
    let waits = |policy| waits(policy, gone);
    assert_eq!(
        waits(exact()).await,
        [1000, 2000, 4000, 8000, 16_000, 30_000]
    );
    let linear = exact()
        .strategy(Strategy::Linear)
        .max_delay(Duration::from_secs(4));
    assert_eq!(waits(linear).await, [1000, 2000, 3000, 4000, 4000, 4000]);
    assert_eq!(waits(exact().strategy(Strategy::Immediate)).await, [0; 6]);
}

#[tokio::test(start_paused = true)]
async fn waits_are_drawn_within_their_bounds() {
    for (jitter, bounds) in [
        (Jitter::Half, [(500, 1500), (1000, 3000), (2000, 5000)]),
        (Jitter::Full, [(0, 1000), (0, 2000), (0, 4000)]),
        (
            Jitter::Decorrelated,
            [(1000, 3000), (1000, 5000), (1000, 5000)],
        ),
    ] {
        let mut seen = HashSet::new();
        for _ in 0..100 {
            let policy = RetryPolicy::new()
                .jitter(jitter)
                .max_delay(Duration::from_secs(5));
            let waits = waits(policy, gone).await;
            for (wait, (least, most)) in waits.iter().zip(bounds) {
                // A timer is a millisecond late at most.
                assert!((least..=most + 1).contains(wait), "{jitter:?}: {waits:?}");
            }
            seen.extend(waits);
        }
        assert!(seen.len() > 100, "{jitter:?} draws few waits");
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_that_the_server_asks_for_is_waited_out() {
    let asks = |after: Duration| {
        move || {
            TransportError::not_delivered("busy")
                .with_retry_after(after)
                .into()
        }
    };
    let exact = || RetryPolicy::new().jitter(Jitter::None);
    assert_eq!(
        waits(exact(), asks(Duration::from_secs(3))).await,
        [3000, 3000, 4000]
    );
    for wait in waits(RetryPolicy::new(), asks(Duration::from_secs(9))).await {
        assert!((9000..9502).contains(&wait), "{wait}");
    }
    // Nobody waits for longer than the longest wait: the caller is told, and may.
    assert_eq!(waits(exact(), asks(Duration::from_secs(31))).await, [0; 0]);
    let said = || {
        ErrorData::new(
            ErrorCode(-31503),
            "busy",
            Some(json!({ "retryAfter": 2.5 })),
        )
        .into()
    };
    assert_eq!(
        waits(exact().safe_to_repeat(true), said).await,
        [2500, 2500, 4000]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_tools_meta_may_ask_for_a_time() {
    let busy = || fails("too many requests", json!({ "retryAfterMs": 7_000 }));
    let server = Server::new([busy()]);
    let policy = quick()
        .jitter(Jitter::None)
        .safe_to_repeat(true)
        .retry_rate_limits();
    let stack = over(&server, layer().policy(policy));
    let begun = Instant::now();
    let response = call(&stack, tool("act")).await.unwrap();
    assert_eq!(response.report.attempts, 2);
    let waited = begun.elapsed().as_millis();
    assert!((7_000..7_010).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_past_the_callers_deadline() {
    let (stack, calls) = down(gone);
    let stack = RetryLayer::new().layer(stack);
    let begun = Instant::now();
    let request = McpRequest::call_tool("act").deadline(begun + Duration::from_millis(1_200));
    let policy = RetryPolicy::new().jitter(Jitter::None);
    let mut request = request.build();
    request.context.extensions.insert(policy);
    let error = stack.oneshot(request).await.unwrap_err();
    // The second wait would cross it, so the caller is told at once.
    assert!(error.is_not_delivered(), "{error}");
    assert_eq!(calls.lock().unwrap().len(), 2);
    assert!(begun.elapsed() < Duration::from_millis(1_100));
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_is_not_ready_in_time_is_not_waited_for() {
    let (stack, calls) = down(gone);
    let stack = ServiceBuilder::new().concurrency_limit(1).service(stack);
    // Somebody else takes the only place between the attempts.
    let taken = Arc::new(Mutex::new(None));
    let (place, other) = (taken.clone(), Mutex::new(stack.clone()));
    let layer = layer().on_retry(move |_| {
        let mut other = other.lock().unwrap().clone();
        let place = place.clone();
        tokio::spawn(async move {
            other.ready().await.unwrap();
            *place.lock().unwrap() = Some(other);
        });
    });
    let begun = Instant::now();
    let request = McpRequest::call_tool("act")
        .deadline(begun + Duration::from_secs(5))
        .build();
    let error = layer
        .build()
        .unwrap()
        .layer(stack)
        .oneshot(request)
        .await
        .unwrap_err();
    assert!(error.is_not_delivered(), "{error}");
    assert_eq!(calls.lock().unwrap().len(), 1);
    assert_eq!(begun.elapsed().as_secs(), 5);
    // And while it waited it held no place itself.
    assert!(taken.lock().unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_after_the_caller_has_cancelled() {
    let (stack, calls) = down(gone);
    let request = tool("act");
    let cancellation = request.context.cancellation.clone();
    let layer = RetryLayer::builder().on_retry(move |_| {
        let cancellation = cancellation.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancellation.cancel();
        });
    });
    let begun = Instant::now();
    let layer = layer.build().unwrap();
    let answer = layer.layer(stack).oneshot(request).await;
    assert_eq!(Outcome::of(&answer), Outcome::Cancelled);
    assert_eq!(calls.lock().unwrap().len(), 1);
    assert_eq!(begun.elapsed().as_millis(), 100);
    let stats = layer.handle().stats();
    assert_eq!((stats.retries, stats.given_up), (0, 1));

    let request = tool("act");
    request.context.cancellation.cancel();
    let (stack, calls) = down(gone);
    RetryLayer::new()
        .layer(stack)
        .oneshot(request)
        .await
        .unwrap_err();
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handle_counts_attempts_and_calls_that_are_given_up() {
    let server = Server::default();
    let layer = layer().build().unwrap();
    let (stack, handle) = (layer.layer(server.upstream()), layer.handle());
    let read = || McpRequest::read_resource("file:///a");
    call(&stack, tool("act")).await.unwrap();
    server.then(vec![Step::Hangup; 2]);
    call(&stack, read()).await.unwrap();
    let stats = handle.stats();
    assert_eq!((stats.attempts, stats.retries, stats.given_up), (4, 2, 0));
    // A tool that may not run twice, and a read that fails four times.
    server.then(vec![Step::Hangup; 5]);
    call(&stack, tool("act")).await.unwrap_err();
    call(&stack, read()).await.unwrap_err();
    let stats = handle.stats();
    assert_eq!((stats.attempts, stats.retries, stats.given_up), (9, 5, 2));
    // Ten a second, of which five were used; two successes have added less than one.
    assert_eq!(stats.budget_remaining, Some(95));
    assert_eq!(stats.out_of_budget, 0);
    // Used retries are there again after the time for which they count.
    tokio::time::advance(std::time::Duration::from_secs(12)).await;
    assert_eq!(handle.stats().budget_remaining, Some(100));
}

#[tokio::test(start_paused = true)]
async fn a_budget_stops_a_storm() {
    let (stack, calls) = down(gone);
    let budget = RetryBudget::new().min_per_second(1);
    let layer = layer().budget(budget).build().unwrap();
    let stack = layer.layer(stack);
    join_all((0..200).map(|_| stack.clone().oneshot(tool("act")))).await;
    // Two hundred first attempts, and ten retries where there could have been six hundred.
    let made = calls.lock().unwrap().len();
    assert!((209..=211).contains(&made), "{made}");

    let stats = layer.handle().stats();
    assert_eq!(
        (stats.attempts, stats.retries, stats.given_up),
        (210, 10, 200)
    );
    // Parts of a second count too.
    let budget = budget.min_per_second(10).keep(Duration::from_millis(1500));
    let short = crate::repeats::layer().budget(budget).build().unwrap();
    assert_eq!(short.handle().stats().budget_remaining, Some(15));
    assert_eq!(
        (stats.out_of_budget, stats.budget_remaining),
        (200, Some(0))
    );

    // Successes fill it again, by the ratio.
    let server = Server::default();
    let stack = over(
        &server,
        crate::repeats::layer().budget(RetryBudget::new().min_per_second(0)),
    );
    for _ in 0..10 {
        call(&stack, tool("act")).await.unwrap();
    }
    server.then(vec![Step::Hangup; 3]);
    let error = call(&stack, McpRequest::read_resource("file:///a"))
        .await
        .unwrap_err();
    assert!(error.is_transport(), "{error}");
    assert_eq!(server.count(), 10 + 3);
}

#[tokio::test(start_paused = true)]
async fn attempts_carry_one_key_and_ids_of_their_own() {
    let (server, ids) = (
        Server::new(vec![Step::Hangup; 2]),
        Arc::new(Mutex::new(Vec::new())),
    );
    let noted = ids.clone();
    let stack = ServiceBuilder::new()
        .layer(
            layer()
                .policy(quick().safe_to_repeat(true))
                .build()
                .unwrap(),
        )
        .map_request(move |request: McpRequest| {
            noted.lock().unwrap().push(request.context.id.clone());
            request
        })
        .service(server.upstream());
    let key = |request: &Value| request["params"]["_meta"][IDEMPOTENCY_META_KEY].clone();
    stack.clone().oneshot(tool("pay")).await.unwrap();
    let keys: Vec<_> = server.requests().iter().map(key).collect();
    let first = keys[0].as_str().expect("a key from the first attempt on");
    assert!(
        first.len() == 32 && first.chars().all(|c| c.is_ascii_hexdigit()),
        "{first}"
    );
    assert!(
        keys.len() == 3 && keys.iter().all(|key| *key == first),
        "{keys:?}"
    );
    assert_eq!(ids.lock().unwrap().iter().collect::<HashSet<_>>().len(), 3);

    // The next call has another one; a caller's own is kept; reads need none.
    stack.clone().oneshot(tool("pay")).await.unwrap();
    let own = McpRequest::call_tool("pay")
        .meta(IDEMPOTENCY_META_KEY, "mine")
        .build();
    stack.clone().oneshot(own).await.unwrap();
    server.then([Step::Result(
        json!({ "resultType": "complete", "contents": [] }),
    )]);
    stack
        .oneshot(McpRequest::read_resource("file:///a"))
        .await
        .unwrap();
    let keys: Vec<_> = server.requests().iter().skip(3).map(key).collect();
    assert_ne!(keys[0], first);
    assert_eq!(keys[1], "mine");
    assert_eq!(keys[2], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_hook_sees_each_retry_and_the_last_error_stays_as_it_was() {
    let error = |after| Step::Error(-32603, json!({ "retryAfterMs": after }));
    let server = Server::new([error(20), error(30), error(40), error(50)]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let hooked = layer()
        .policy(quick().jitter(Jitter::None).safe_to_repeat(true))
        .on_retry(move |event| {
            let line = (
                event.method.to_owned(),
                event.target.map(str::to_owned),
                event.attempt,
            );
            let why = (
                event.delay.as_millis(),
                event.outcome,
                event.error.map(ToString::to_string),
            );
            noted.lock().unwrap().push((line, why));
        });
    let failed = call(&over(&server, hooked), tool("act")).await.unwrap_err();
    let failed = failed.as_protocol().unwrap();
    assert_eq!((failed.code.0, &*failed.message), (-32603, "as told"));
    assert_eq!(failed.data, Some(json!({ "retryAfterMs": 50 })));
    let seen = seen.lock().unwrap();
    let attempts: Vec<_> = seen.iter().map(|((_, _, attempt), _)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let waits: Vec<_> = seen.iter().map(|(_, (wait, ..))| *wait).collect();
    assert_eq!(waits, [20, 30, 40]);
    let ((method, target, _), (_, outcome, error)) = &seen[0];
    assert_eq!((&**method, target.as_deref()), ("tools/call", Some("act")));
    assert_eq!(*outcome, Outcome::Protocol { code: -32603 });
    assert!(error.as_deref().unwrap().contains("as told"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn the_callers_progress_never_goes_back() {
    let server = Server::new([
        Step::Progress(&[1.0, 2.0, 5.0]),
        Step::Hangup,
        Step::Progress(&[1.0, 3.0, 5.0, 6.0, 7.0]),
        Step::Hangup,
        Step::Progress(&[2.0, 8.0]),
    ]);
    let stack = over(&server, layer().policy(quick().safe_to_repeat(true)));
    let (caller, mut heard) = recorder();
    let request = McpRequest::call_tool("act")
        .caller(caller)
        .progress_token(token("mine"));
    let response = call(&stack, request.build()).await.unwrap();
    assert_eq!(response.report.attempts, 3);
    let steps: Vec<_> = progress(&mut heard)
        .into_iter()
        .map(|(_, step)| step)
        .collect();
    assert_eq!(steps, [1.0, 2.0, 5.0, 6.0, 7.0, 8.0]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_a_cache_tells_of_no_attempts() {
    let server = Server::new([Step::Hangup]);
    let kept = CacheLayer::builder()
        .cache_tool("read")
        .watch_changes(false);
    let stack = ServiceBuilder::new()
        .layer(kept.build().unwrap())
        .layer(
            layer()
                .policy(quick().safe_to_repeat(true))
                .build()
                .unwrap(),
        )
        .service(server.upstream());
    let ask = async || {
        let mut request = tool("read");
        let served_by = ServedBy::slot(&mut request.context.extensions);
        let response = stack.clone().oneshot(request).await.unwrap();
        (response.report.attempts, served_by.name())
    };
    // Whoever waits for somebody else's call makes no attempt either.
    let (fetched, waited) = tokio::join!(ask(), ask());
    assert_eq!(fetched, (2, Some("scripted".into())));
    assert_eq!(waited, (1, None));
    assert_eq!(ask().await, (1, None));
    assert_eq!(server.count(), 2);
}

/// A person, who answers.
struct Person(Arc<AtomicUsize>);

impl CallerSink for Person {
    fn notify(
        &self,
        _notification: ServerNotification,
    ) -> futures::future::BoxFuture<'_, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn request(
        &self,
        _request: ServerRequest,
    ) -> futures::future::BoxFuture<'_, Result<ClientResult, Error>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let answer = ElicitResult::new(ElicitationAction::Decline);
        Box::pin(std::future::ready(Ok(ClientResult::ElicitResult(answer))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_person_who_was_asked_in_a_failed_attempt_is_not_asked_again() {
    for (question, count) in [("elicitation/create", 1), ("ping", 2)] {
        let server = Server::new([Step::Ask(question)]);
        let upstream = Upstream::builder().lifecycle(Lifecycle::Initialize);
        let policy = quick().safe_to_repeat(true);
        let layer = layer().policy(policy).build().unwrap();
        let stack = layer.layer(server.upstream_of(upstream));
        let asked = Arc::new(AtomicUsize::new(0));
        let capabilities = ClientCapabilities::builder().enable_elicitation().build();
        let request = McpRequest::call_tool("act")
            .caller(Caller::new(Person(asked.clone())))
            .meta("io.modelcontextprotocol/protocolVersion", "2025-11-25")
            .meta(
                "io.modelcontextprotocol/clientCapabilities",
                serde_json::to_value(capabilities).unwrap(),
            );
        let answer = call(&stack, request.build()).await;
        assert_eq!(answer.is_err(), count == 1, "{question}: {answer:?}");
        assert_eq!(
            asked.load(Ordering::SeqCst),
            usize::from(count == 1),
            "{question}: {answer:?}"
        );
        assert_eq!(server.count(), count, "{question}");
    }
}
