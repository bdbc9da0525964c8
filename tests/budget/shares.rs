//! What calls reserve, spend and give back.

use std::sync::{Arc, Mutex};

use futures::future::join_all;
use proptest::prelude::*;
use rmcp::model::*;
use rmcp_layers::{
    McpRequest, Outcome,
    budget::{Charge, ResultKind, TokenCounter, Tokenizer},
    code,
};

use super::{
    common::{Client, Events, pipe_to, soon, tool},
    office::*,
};

#[tokio::test]
async fn a_result_is_charged_for_in_the_tokens_of_the_model() {
    let setup = Setup::new(layer().model("gpt-4o"));
    let response = setup.ask(call("lines", 20)).await.unwrap();
    let tokens = Tokenizer::for_model("gpt-4o").count(&lines(20)) as u64;
    let report = report(&response);
    assert_eq!((report.charged, report.saved), (tokens, 0));
    assert_eq!(report.left, USABLE - tokens);
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE - tokens);
    let says = serde_json::json!({ "charged": tokens, "saved": 0, "left": USABLE - tokens });
    assert_eq!(meta(&response), says);
    assert_eq!(first(&response), lines(20));
}

#[tokio::test]
async fn a_result_is_cut_to_a_fraction_of_what_is_left() {
    let setup = Setup::new(layer());
    let mut left = USABLE;
    for _ in 0..4 {
        let response = setup.ask(call("lines", 10_000)).await.unwrap();
        let share = left * 3 / 10;
        let report = report(&response);
        assert!(report.charged <= share, "{} of {share}", report.charged);
        assert!(report.charged > share / 2, "{} of {share}", report.charged);
        assert!(report.saved > 50_000);
        left -= report.charged;
        assert_eq!(report.left, left);
    }
}

#[tokio::test]
async fn fractions_are_those_of_a_tool_then_of_its_kind() {
    let builder = layer()
        .max_fraction(0.5)
        .max_fraction_of(ResultKind::Tool, 0.2)
        .max_fraction_of(ResultKind::Prompt, 0.1)
        .max_fraction_of_tool("li*", 0.05)
        .max_fraction_of_tool("lines", 1.0);
    let setup = Setup::new(builder);
    for (who, request, fraction) in [
        ("a", call("lines", 10_000), 0.05),
        ("b", call("json", 10_000), 0.2),
        ("c", McpRequest::get_prompt("story", JsonObject::new()), 0.1),
        ("d", McpRequest::read_resource("file:///big"), 0.5),
    ] {
        let response = setup.ask(by(who, request)).await.unwrap();
        let share = (USABLE as f64 * fraction) as u64;
        let charged = report(&response).charged;
        assert!(
            charged <= share && charged > share / 2,
            "{who}: {charged} of {share}"
        );
    }
}

#[tokio::test]
async fn calls_at_the_same_time_never_spend_more_than_there_is() {
    for fraction in [0.3, 1.0] {
        let setup = Setup::new(layer().max_fraction(fraction));
        setup.office.gate.send_replace(true);
        let calls = (0..40).map(|_| setup.ask(call("gated", 10_000)));
        let answers = join_all(calls).await;
        let charged: u64 = answers
            .iter()
            .map(|answer| answer.as_ref().unwrap())
            .filter(|response| !is_error(response))
            .map(|response| report(response).charged)
            .sum();
        assert!(charged <= USABLE, "{charged}");
        assert_eq!(setup.available(&call("gated", 1)).await, USABLE - charged);
    }
}

#[tokio::test]
async fn a_call_in_flight_holds_its_share() {
    let setup = Setup::new(layer().max_fraction(0.5));
    let first = tokio::spawn({
        let stack = setup.stack.clone();
        tower::ServiceExt::oneshot(stack, call("gated", 10))
    });
    setup.office.events.until("gated").await;
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE / 2);
    let second = setup.ask(call("lines", 10_000)).await.unwrap();
    assert!(report(&second).charged <= USABLE / 4);
    setup.office.gate.send_replace(true);
    let first = soon("the first call", first).await.unwrap().unwrap();
    // What it has not used is back.
    let spent = report(&first).charged + report(&second).charged;
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE - spent);
}

#[tokio::test]
async fn a_cancelled_call_gives_its_share_back() {
    let setup = Setup::new(layer());
    let mut calls: Vec<_> = (0..3)
        .map(|_| {
            Box::pin(tower::ServiceExt::oneshot(
                setup.stack.clone(),
                call("gated", 1),
            ))
        })
        .collect();
    let all = join_all(calls.iter_mut());
    tokio::select! {
        _ = all => panic!("the gate is closed"),
        () = setup.office.events.until_times("gated", 3) => {}
    }
    assert!(setup.available(&call("lines", 1)).await < USABLE);
    drop(calls);
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE);
    setup.office.events.until_times("ended", 3).await;
}

#[tokio::test]
async fn a_failed_call_gives_its_share_back() {
    let setup = Setup::new(layer());
    assert!(setup.ask(call("broken", 1)).await.is_err());
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE);
}

#[tokio::test]
async fn a_call_without_room_is_refused_before_it_goes_upstream() {
    let setup = Setup::new(layer().max_fraction(1.0).min_to_call(2_000));
    setup.ask(call("lines", 10_000)).await.unwrap();
    let left = setup.available(&call("lines", 1)).await;
    assert!(left < 2_000, "{left}");
    let before = setup.office.events.count("lines");
    let answer = setup.ask(call("lines", 1)).await;
    // A model sees a tool's error, and knows what to do.
    assert_eq!(Outcome::of(&answer), Outcome::ToolError);
    let says = text(&answer.unwrap());
    assert!(says.contains(&format!("{left} tokens are left")), "{says}");
    assert!(says.contains("Do not call more tools"), "{says}");
    assert!(!says.contains("  "), "{says}");
    assert_eq!(setup.office.events.count("lines"), before);
    for request in [
        McpRequest::read_resource("file:///big"),
        McpRequest::get_prompt("story", JsonObject::new()),
    ] {
        let error = setup.ask(request).await.unwrap_err();
        let wire = ErrorData::from(error);
        assert_eq!(wire.code, code::TOO_LARGE);
        assert!(wire.message.contains("tokens are left"));
    }
    assert_eq!(setup.office.events.count("prompt"), 0);
    assert_eq!(setup.budget.stats().refused, 3);
}

#[tokio::test]
async fn results_that_are_never_cut_are_charged_for() {
    let setup = Setup::new(layer());
    let failed = setup.ask(call("fail", 1_000)).await.unwrap();
    assert_eq!(text(&failed), lines(1_000));
    let charged = report(&failed).charged;
    assert!(charged > USABLE / 3, "{charged}");
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE - charged);
    let answer = setup.ask(call("input", 1)).await;
    assert_eq!(Outcome::of(&answer), Outcome::InputRequired);
    let asked = answer.unwrap();
    let ServerResult::InputRequiredResult(asked) = &*asked.result else {
        panic!("not a round: {:?}", asked.result);
    };
    assert_eq!(
        asked.request_state.as_ref().map(|state| state.len()),
        Some(100_000)
    );
}

#[tokio::test]
async fn exempt_tools_app_views_and_other_methods_pass() {
    let setup = Setup::new(layer().exempt_tool("li*"));
    let response = setup.ask(call("lines", 10_000)).await.unwrap();
    assert_eq!(
        (response.report.budget, text(&response)),
        (None, lines(10_000))
    );
    let view = setup
        .ask(McpRequest::read_resource("ui://chart/view.html"))
        .await
        .unwrap();
    assert_eq!(view.report.budget, None);
    let ServerResult::ReadResourceResult(view) = view.into_result() else {
        panic!("not a resource");
    };
    let ResourceContents::TextResourceContents { text, .. } = &view.contents[0] else {
        panic!("not a text");
    };
    assert_eq!(*text, lines(5_000));
    assert_eq!(setup.available(&call("json", 1)).await, USABLE);
}

#[tokio::test]
async fn notifications_and_listens_pass_when_the_window_is_used_up() {
    let setup = Setup::new(layer().max_fraction(1.0));
    setup.ask(call("lines", 10_000)).await.unwrap();
    assert!(is_error(&setup.ask(call("lines", 1)).await.unwrap()));
    let changed = RootsListChangedNotification::default();
    let notified = McpRequest::notification(
        ClientNotification::RootsListChangedNotification(changed),
        rmcp_layers::CallContext::default(),
    );
    setup.ask(notified).await.unwrap();
    setup
        .ask(McpRequest::new(PingRequest::default()))
        .await
        .unwrap();
    setup
        .ask(McpRequest::new(DiscoverRequest::default()))
        .await
        .unwrap();
    let filter = SubscriptionFilter::default();
    let listen = SubscriptionsListenRequestParams::new(filter);
    let listen = McpRequest::new(SubscriptionsListenRequest::new(listen));
    // The server has no listens: its answer is its own.
    let error = setup.ask(listen).await.unwrap_err();
    assert_eq!(
        error.as_protocol().map(|error| error.code),
        Some(ErrorCode::METHOD_NOT_FOUND)
    );
}

#[tokio::test]
async fn a_budget_is_reset_and_refunded() {
    let setup = Setup::new(layer());
    let response = setup.ask(call("lines", 100)).await.unwrap();
    let charged = report(&response).charged;
    let conversation = setup.budget.conversation_of(&call("lines", 1)).unwrap();
    setup.budget.refund(&conversation, 10).await.unwrap();
    assert_eq!(
        setup.available(&call("lines", 1)).await,
        USABLE - charged + 10
    );
    setup.budget.reset(&conversation).await.unwrap();
    assert_eq!(setup.available(&call("lines", 1)).await, USABLE);
}

#[tokio::test]
async fn each_threshold_is_told_of_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = told.clone();
    let builder = layer().max_fraction(0.2).on_threshold(move |crossed| {
        tells.lock().unwrap().push(crossed.percent);
    });
    let setup = Setup::new(builder);
    for _ in 0..40 {
        setup.ask(call("lines", 10_000)).await.unwrap();
    }
    assert_eq!(*told.lock().unwrap(), [50, 80, 95]);
}

#[tokio::test]
async fn a_charge_by_estimate_counts_nothing() {
    struct Uncounted(Events);
    impl TokenCounter for Uncounted {
        fn count(&self, text: &str) -> usize {
            self.0.note("counted");
            text.len()
        }
    }
    let events = Events::default();
    let builder = layer()
        .charge(Charge::Estimate)
        .counter(Uncounted(events.clone()));
    let setup = Setup::new(builder);
    let response = setup.ask(call("lines", 10)).await.unwrap();
    let estimate = lines(10).len().div_ceil(3) as u64;
    assert_eq!(
        (report(&response).charged, events.count("counted")),
        (estimate, 0)
    );
}

#[tokio::test]
async fn sessions_are_conversations_of_their_own() {
    let setup = Setup::new(layer());
    let server = rmcp_layers::McpServer::new(setup.stack.clone());
    let legacy = || rmcp::service::ClientLifecycleMode::Initialize;
    let ann = Client::of(&server, "ann", legacy()).await;
    let ben = Client::of(&server, "ben", legacy()).await;
    let left = |result: &CallToolResult| {
        let meta = result.meta.as_ref().unwrap()["rmcp-layers/budget"].clone();
        meta["left"].as_u64().unwrap()
    };
    let lines = || tool("lines", serde_json::json!({ "count": 100 }));
    let first = left(&ann.call(lines()).await);
    let second = left(&ann.call(lines()).await);
    assert_eq!(USABLE - first, first - second);
    assert_eq!(left(&ben.call(lines()).await), first);
    assert_eq!(setup.budget.stats().conversations, 2);
    drop(pipe_to(server));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever calls, cancellations and failures cross, what is left and what was charged add up.
    #[test]
    fn budgets_balance(steps in proptest::collection::vec((0_u8..4, 1_u64..3_000), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let setup = Setup::new(layer());
            let mut charged = 0;
            let mut pending = Vec::new();
            for (kind, count) in steps {
                match kind {
                    0 => {
                        let mut held = Box::pin(setup.ask(call("gated", count)));
                        let _ = futures::poll!(held.as_mut());
                        pending.push(held);
                    }
                    1 => drop(pending.pop()),
                    2 => {
                        let answer = setup.ask(call("broken", count)).await;
                        assert!(answer.is_err() || is_error(&answer.unwrap()));
                    }
                    _ => {
                        let response = setup.ask(call("lines", count)).await.unwrap();
                        charged += response.report.budget.map_or(0, |report| report.charged);
                    }
                }
                assert!(charged <= USABLE);
            }
            drop(pending);
            assert_eq!(setup.available(&call("lines", 1)).await, USABLE - charged);
        });
    }
}
