//! The layer: order, rate, length and tokens of progress.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use rmcp::model::{
    CallToolResult, ClientResult, LoggingLevel, LoggingMessageNotification,
    LoggingMessageNotificationParam, ProgressNotification, ProgressNotificationParam,
    ProgressToken, ServerNotification, ServerRequest,
};
use rmcp_layers::{
    Caller, CallerSink, Error, McpRequest, McpResponse, ServiceBuilderExt,
    progress::{ProgressHandle, ProgressLayer},
};
use tokio::{sync::Semaphore, time::Instant};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::{
    common::{Stack, log::Log, recorder, token},
    messages, reported, values,
};

/// A stack that runs `work` for each call.
fn over<F, Fut>(layer: ProgressLayer, work: F) -> (impl Stack, ProgressHandle)
where
    F: Fn(Caller, Option<ProgressToken>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let handle = layer.handle();
    let stack =
        ServiceBuilder::new()
            .progress(layer)
            .service(service_fn(move |request: McpRequest| {
                let token = request.context.progress_token();
                let work = work(request.context.caller.clone(), token);
                async move {
                    work.await;
                    Ok::<_, Error>(McpResponse::new(CallToolResult::success(vec![])))
                }
            }));
    (stack, handle)
}

async fn report(caller: &Caller, token: &ProgressToken, progress: f64, message: &str) {
    let params = ProgressNotificationParam::new(token.clone(), progress);
    let params = params.with_message(message.to_owned());
    caller
        .notify(ProgressNotification::new(params).into())
        .await
        .unwrap();
}

fn call(caller: Caller) -> McpRequest {
    McpRequest::call_tool("work")
        .progress_token(token("mine"))
        .caller(caller)
        .build()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_notifications_in_a_second_cost_the_caller_ten() {
    let (stack, handle) = over(ProgressLayer::new(), |caller, token| async move {
        let token = token.unwrap();
        for n in 0..100_000_u32 {
            report(&caller, &token, f64::from(n), "").await;
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let (caller, mut received) = recorder();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    let reports = reported(&mut received);
    // One at the begin, ten in the second, and the last one.
    assert!((10..=12).contains(&reports.len()), "{}", reports.len());
    assert!(values(&reports).is_sorted_by(|a, b| a < b));
    assert_eq!(reports.last().unwrap().progress, 99_999.0);
    let stats = handle.stats();
    assert_eq!(stats.sent, reports.len() as u64);
    assert_eq!(stats.sent + stats.coalesced, 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_never_waits_is_heard_at_the_configured_rate() {
    let layer = ProgressLayer::builder().max_per_second(2).build().unwrap();
    let (stack, _) = over(layer, |caller, token| async move {
        let token = token.unwrap();
        for n in 0..10_000_u32 {
            report(&caller, &token, f64::from(n), "").await;
            if n == 5_000 {
                tokio::time::advance(Duration::from_millis(500)).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    });
    let (caller, mut received) = recorder();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    let values = values(&reported(&mut received));
    assert_eq!(values.len(), 3, "{values:?}");
    assert_eq!((values[0], values[2]), (0.0, 9_999.0));
}

#[tokio::test(start_paused = true)]
async fn progress_that_does_not_increase_is_dropped() {
    let (stack, handle) = over(ProgressLayer::new(), |caller, token| async move {
        let token = token.unwrap();
        for progress in [1.0, 3.0, 2.0, 3.0, f64::NAN, f64::INFINITY, 4.0] {
            report(&caller, &token, progress, "").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let (caller, mut received) = recorder();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    assert_eq!(values(&reported(&mut received)), [1.0, 3.0, 4.0]);
    assert_eq!(handle.stats().not_increasing, 4);
}

#[tokio::test(start_paused = true)]
async fn messages_are_cut_between_characters() {
    let layer = ProgressLayer::builder()
        .max_message_bytes(5)
        .build()
        .unwrap();
    let (stack, _) = over(layer, |caller, token| async move {
        let token = token.unwrap();
        report(&caller, &token, 1.0, "éééééé").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        report(&caller, &token, 2.0, "short").await;
    });
    let (caller, mut received) = recorder();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(messages(&reported(&mut received)), ["éé…", "short"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_not_lost_to_progress_without_one() {
    let (stack, _) = over(ProgressLayer::new(), |caller, token| async move {
        let token = token.unwrap();
        report(&caller, &token, 1.0, "first").await;
        report(&caller, &token, 2.0, "second").await;
        let bare = ProgressNotificationParam::new(token, 3.0);
        let bare = ProgressNotification::new(bare);
        caller.notify(bare.into()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    let (caller, mut received) = recorder();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    let reports = reported(&mut received);
    assert_eq!(values(&reports), [1.0, 3.0]);
    assert_eq!(messages(&reports), ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn foreign_tokens_are_dropped_and_logged_once_a_second() {
    let (log, _guard) = Log::of_warnings();
    let (stack, handle) = over(ProgressLayer::new(), |caller, _| async move {
        for n in 0..100_u32 {
            report(&caller, &token("another"), f64::from(n), "").await;
        }
    });
    let (caller, mut received) = recorder();
    let without = McpRequest::call_tool("work").caller(caller.clone()).build();
    assert!(stack.clone().oneshot(call(caller)).await.is_ok());
    assert!(stack.oneshot(without).await.is_ok());
    assert_eq!(reported(&mut received), []);
    assert_eq!(handle.stats().foreign, 200);
    assert_eq!(log.lines_with("token").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_notifications_pass_at_once() {
    let (stack, _) = over(ProgressLayer::new(), |caller, _| async move {
        for _ in 0..100 {
            let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, "line".into());
            let line = LoggingMessageNotification::new(line);
            caller.notify(line.into()).await.unwrap();
        }
    });
    let (caller, mut received) = recorder();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    let mut lines = 0;
    while received.try_recv().is_ok() {
        lines += 1;
    }
    assert_eq!(lines, 100);
}

/// A caller that takes a notification for each permit.
struct Stalled {
    takes: Arc<Semaphore>,
    taken: tokio::sync::mpsc::UnboundedSender<f64>,
}

impl CallerSink for Stalled {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.takes.acquire().await.unwrap().forget();
            if let ServerNotification::ProgressNotification(progress) = notification {
                let _ = self.taken.send(progress.params.progress);
            }
            Ok(())
        })
    }

    fn request(&self, _request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(std::future::ready(Err(Error::cancelled("asks nobody"))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_caller_slows_no_tool_and_has_one_notification_waiting() {
    let (stack, handle) = over(ProgressLayer::new(), |caller, token| async move {
        let token = token.unwrap();
        for n in 0..50_000_u32 {
            report(&caller, &token, f64::from(n), "").await;
            if n % 1_000 == 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let takes = Arc::new(Semaphore::new(0));
    let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let caller = Caller::new(Stalled {
        takes: takes.clone(),
        taken: sender,
    });
    let begun = Instant::now();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    // The work took 5 s, and the caller got its chance twice.
    assert!(
        begun.elapsed() < Duration::from_millis(7_100),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(taken.try_recv().ok(), None);
    assert!(handle.stats().coalesced >= 49_997, "{:?}", handle.stats());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_fill_the_silence_and_still_increase() {
    let layer = ProgressLayer::builder()
        .heartbeat(Duration::from_secs(10))
        .build()
        .unwrap();
    let (stack, handle) = over(layer, |caller, token| async move {
        tokio::time::sleep(Duration::from_secs(25)).await;
        report(&caller, &token.unwrap(), 1.0, "real").await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    });
    let (caller, mut received) = recorder();
    let silent = McpRequest::call_tool("work").caller(caller.clone());
    assert!(stack.clone().oneshot(call(caller)).await.is_ok());
    let reports = reported(&mut received);
    assert_eq!(
        messages(&reports),
        [
            "Still running (10 s)",
            "Still running (20 s)",
            "real",
            "Still running (35 s)"
        ]
    );
    assert!(values(&reports).is_sorted_by(|a, b| a < b), "{reports:?}");
    assert!(reports[3].progress < 1.001);
    assert_eq!(handle.stats().heartbeats, 3);
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn no_report_is_lost_to_the_heartbeats_before_it() {
    let layer = ProgressLayer::builder()
        .heartbeat(Duration::from_secs(10))
        .build()
        .unwrap();
    let (stack, handle) = over(layer, |caller, token| async move {
        let token = token.unwrap();
        tokio::time::sleep(Duration::from_secs(25)).await;
        report(&caller, &token, 0.0, "the first step").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        report(&caller, &token, 1.0, "the second step").await;
    });
    let (caller, mut received) = recorder();
    assert!(stack.oneshot(call(caller)).await.is_ok());
    let reports = reported(&mut received);
    assert_eq!(
        messages(&reports)[2..],
        ["the first step", "the second step"]
    );
    assert!(values(&reports).is_sorted_by(|a, b| a < b), "{reports:?}");
    assert_eq!(reports[3].progress, 1.0);
    assert_eq!(handle.stats().not_increasing, 0);
}

/// Fails if the test keeps its thread busy, so that the paused clock stands still.
fn without_spinning(test: impl Future<Output = ()> + Send + 'static) {
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(test);
        let _ = sender.send(());
    });
    let ended = ended.recv_timeout(Duration::from_secs(10));
    ended.expect("it ends without a spin or a panic");
}

#[test]
fn a_heartbeat_that_is_due_before_a_waiting_notification_waits_for_it() {
    without_spinning(async {
        let layer = ProgressLayer::builder()
            .max_per_second(1)
            .heartbeat(Duration::from_millis(300))
            .build()
            .unwrap();
        let (stack, _) = over(layer, |caller, token| async move {
            let token = token.unwrap();
            report(&caller, &token, 1.0, "one").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            report(&caller, &token, 2.0, "two").await;
            tokio::time::sleep(Duration::from_millis(2_200)).await;
        });
        let (caller, mut received) = recorder();
        assert!(stack.oneshot(call(caller)).await.is_ok());
        let reports = reported(&mut received);
        let expected = ["one", "two", "Still running (1 s)"];
        assert_eq!(messages(&reports)[..3], expected);
    });
}

#[test]
fn there_is_no_heartbeat_above_the_greatest_number() {
    without_spinning(async {
        let layer = ProgressLayer::builder()
            .heartbeat(Duration::from_secs(1))
            .build()
            .unwrap();
        let (stack, _) = over(layer, |caller, token| async move {
            report(&caller, &token.unwrap(), f64::MAX, "").await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        let (caller, mut received) = recorder();
        assert!(stack.oneshot(call(caller)).await.is_ok());
        assert_eq!(values(&reported(&mut received)), [f64::MAX]);
    });
}

#[test]
fn options_beyond_their_limits_are_refused_by_name() {
    let builder = ProgressLayer::builder;
    for (built, option) in [
        (builder().max_per_second(0).build(), "max_per_second"),
        (builder().max_per_second(2_000).build(), "max_per_second"),
        (builder().timeout(Duration::ZERO).build(), "timeout"),
        (
            builder().idle_timeout(Duration::ZERO).build(),
            "idle_timeout",
        ),
        (builder().heartbeat(Duration::ZERO).build(), "heartbeat"),
        (
            builder().result_gap(Duration::from_secs(2)).build(),
            "result_gap",
        ),
    ] {
        let error = built.unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
}
