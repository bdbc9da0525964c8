//! Reports of handlers, of tools and of layers.

use std::time::Duration;

use futures::future::join_all;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock},
    service::RequestContext,
};
use rmcp_layers::{
    Error, Handler, McpRequest, McpServer, ServiceBuilderExt, Upstream,
    progress::ProgressReporter,
    registry::{RegisteredTool, RegistryLayer},
};
use tower::{ServiceBuilder, ServiceExt};

use crate::{
    common::{demo::Demo, piped, recorder, soon, text, token},
    messages, reported, values,
};

/// A registry with one tool over the demo server.
fn with_tool<F, Fut>(handler: F) -> impl crate::common::Stack
where
    F: Fn(ProgressReporter) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = CallToolResult> + Send + 'static,
{
    let tool = RegisteredTool::builder("work")
        .handler(move |(), context| handler(context.progress()))
        .build()
        .unwrap();
    let layer = RegistryLayer::new();
    layer.handle().register(tool).unwrap();
    ServiceBuilder::new()
        .registry(layer)
        .service(Upstream::in_process(Demo::default()))
}

fn done() -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text("done")])
}

#[tokio::test(start_paused = true)]
async fn steps_are_reported_with_their_place_and_times_and_summed_up_in_the_result() {
    let stack = with_tool(|progress| async move {
        let mut steps = progress.steps(["Fetching dataset", "Training", "Saving"]);
        for millis in [1_200, 2_300, 500] {
            steps.begin_next().await;
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        // There is no fourth.
        steps.begin_next().await;
        steps.finish().add_to(done())
    });
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("work")
        .progress_token(token("mine"))
        .caller(caller);
    let answer = stack
        .oneshot(call.build())
        .await
        .map_err(Into::<Error>::into);
    let reports = reported(&mut received);
    assert_eq!(values(&reports), [0.0, 1.0, 2.0]);
    assert!(reports.iter().all(|report| report.total == Some(3.0)));
    assert_eq!(
        messages(&reports),
        [
            "Step 1 of 3: Fetching dataset",
            "Step 2 of 3: Training (Fetching dataset took 1.2 s)",
            "Step 3 of 3: Saving (Training took 2.3 s)",
        ]
    );
    let answer = answer.unwrap();
    let result = answer.as_tool_result().unwrap();
    let summary = &result.content[1].as_text().unwrap().text;
    assert_eq!(
        summary,
        "3 steps in 4.0 s: Fetching dataset 1.2 s, Training 2.3 s, Saving 0.5 s."
    );
}

#[tokio::test]
async fn nested_work_fills_its_part_of_the_whole() {
    let stack = with_tool(|progress| async move {
        let mut steps = progress.steps(["one", "two"]);
        let one = steps.begin_next().await;
        one.report(5.0, Some(10.0), "half of one").await;
        let two = steps.begin_next().await;
        let inner = two.part(2.0..4.0, 4.0);
        inner.report(1.0, Some(2.0), "three quarters of two").await;
        // Without a total the end is never reached.
        two.part(3.9..4.0, 4.0).report(1e9, None, "almost").await;
        done()
    });
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("work")
        .progress_token(token("mine"))
        .caller(caller);
    assert!(stack.oneshot(call.build()).await.is_ok());
    let reports = reported(&mut received);
    let values = values(&reports);
    assert_eq!((values[0], values[2]), (0.0, 1.0));
    for (value, expected) in [(values[1], 0.5), (values[3], 1.75), (values[4], 1.99)] {
        assert!((value - expected).abs() < 0.02, "{values:?}");
    }
}

#[tokio::test]
async fn progress_below_zero_is_the_begin_of_a_part() {
    let stack = with_tool(|progress| async move {
        let shares = progress.fan_out(2);
        shares[0].report(-2.0, None, None).await;
        shares[1].report(1.0, None, None).await;
        progress.part(2.0..4.0, 4.0).report(-2.0, None, None).await;
        done()
    });
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("work")
        .progress_token(token("mine"))
        .caller(caller);
    assert!(stack.oneshot(call.build()).await.is_ok());
    assert_eq!(values(&reported(&mut received)), [0.0, 0.5, 2.0]);
}

#[tokio::test]
async fn a_step_is_reported_after_all_of_the_one_before() {
    let stack = with_tool(|progress| async move {
        let mut steps = progress.steps(["one", "two"]);
        steps
            .begin_next()
            .await
            .report(10.0, Some(10.0), "all")
            .await;
        steps
            .begin_next()
            .await
            .report(10.0, Some(10.0), "all")
            .await;
        done()
    });
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("work")
        .progress_token(token("mine"))
        .caller(caller);
    assert!(stack.oneshot(call.build()).await.is_ok());
    let reports = reported(&mut received);
    assert_eq!(reports.len(), 4);
    assert!(messages(&reports)[2].starts_with("Step 2 of 2: two"));
}

#[tokio::test]
async fn reports_that_do_not_increase_or_are_no_number_are_dropped() {
    let stack = with_tool(|progress| async move {
        for value in [1.0, 1.0, 0.5, f64::NAN, f64::INFINITY, 2.0] {
            progress.report(value, Some(f64::NAN), None).await;
        }
        done()
    });
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("work")
        .progress_token(token("mine"))
        .caller(caller);
    assert!(stack.oneshot(call.build()).await.is_ok());
    let reports = reported(&mut received);
    assert_eq!(values(&reports), [1.0, 2.0]);
    assert!(reports.iter().all(|report| report.total.is_none()));
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_work_goes_on() {
    let stack = with_tool(|progress| async move {
        assert!(!progress.is_wanted());
        let mut steps = progress.steps(["one"]);
        steps.begin_next().await.report(1.0, None, "unheard").await;
        for share in progress.fan_out(3) {
            share.report(1.0, Some(1.0), None).await;
        }
        steps.finish().add_to(done())
    });
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("work").caller(caller).build();
    let answer = stack.oneshot(call).await.map_err(Into::<Error>::into);
    assert_eq!(answer.unwrap().as_tool_result().unwrap().content.len(), 2);
    assert_eq!(reported(&mut received), []);
}

#[tokio::test]
async fn work_that_runs_at_the_same_time_is_one_progress() {
    let stack = with_tool(|progress| async move {
        let shares = progress.fan_out(4);
        shares[0].report(1.0, Some(2.0), None).await;
        shares[1].report(10.0, Some(10.0), None).await;
        // It never goes back.
        shares[1].report(5.0, Some(10.0), None).await;
        shares[0].report(2.0, Some(2.0), None).await;
        join_all(
            shares
                .iter()
                .map(|share| share.report(1.0, Some(1.0), None)),
        )
        .await;
        done()
    });
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("work")
        .progress_token(token("mine"))
        .caller(caller);
    assert!(stack.oneshot(call.build()).await.is_ok());
    let reports = reported(&mut received);
    assert_eq!(values(&reports), [0.5, 1.5, 2.0, 3.0, 4.0]);
    assert!(reports.iter().all(|report| report.total == Some(4.0)));
}

#[tokio::test]
async fn calls_that_a_layer_makes_are_parts_of_its_own_call() {
    let demo = piped(Upstream::builder(), &Demo::default());
    let stack = ServiceBuilder::new()
        .wrap_fn(move |request, next| {
            let demo = demo.clone();
            async move {
                if request.target() != Some("both") {
                    return next.run(request).await;
                }
                let shares = request.context.progress().fan_out(2);
                let calls = shares.into_iter().map(|share| {
                    let mut call = McpRequest::call_tool("progress")
                        .argument("count", 4)
                        .build();
                    call.context.caller = request.context.caller.clone();
                    share.attach(&mut call.context);
                    demo.clone().oneshot(call)
                });
                let mut answers = join_all(calls).await;
                answers.remove(0)
            }
        })
        .service(Upstream::in_process(Demo::default()));
    let outer = piped(Upstream::builder(), &McpServer::new(stack));
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("both")
        .progress_token(token("mine"))
        .caller(caller);
    soon("the calls", outer.oneshot(call.build()))
        .await
        .unwrap();
    let reports = reported(&mut received);
    assert!(reports.iter().all(|it| it.progress_token == token("mine")));
    assert!(reports.iter().all(|it| it.total == Some(2.0)));
    assert_eq!(reports.last().unwrap().progress, 2.0);
    assert!(values(&reports).is_sorted_by(|a, b| a < b), "{reports:?}");
}

struct Trainer;

impl ServerHandler for Trainer {
    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut steps = ProgressReporter::of_handler(&context).steps(["one", "two"]);
        steps.begin_next().await;
        steps.begin_next().await;
        Ok(steps.finish().add_to(done()).into())
    }
}

#[tokio::test]
async fn a_handler_of_rmcp_reports_through_its_request_context() {
    let outer = piped(Upstream::builder(), &McpServer::new(Handler::new(Trainer)));
    let (caller, mut received) = recorder();
    let call = McpRequest::call_tool("train")
        .progress_token(token("mine"))
        .caller(caller);
    let answer = soon("a call", outer.oneshot(call.build())).await.unwrap();
    assert_eq!(text(answer.as_tool_result().unwrap()), "done");
    let reports = reported(&mut received);
    assert_eq!(messages(&reports)[0], "Step 1 of 2: one");
    assert_eq!(values(&reports), [0.0, 1.0]);
}
