//! Budgets and kept results that processes share, here two layers over one store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use rmcp_layers::{
    McpRequest,
    budget::BudgetLayerBuilder,
    store::{MemoryStore, StoreError},
};
use serde_json::json;

use super::office::*;
use crate::faulty_store::{Fault, Faulty};

fn two(builder: impl Fn() -> BudgetLayerBuilder) -> (Setup, Setup, MemoryStore) {
    let store = MemoryStore::new();
    let setup = || Setup::new(builder().store(store.clone()));
    (setup(), setup(), store)
}

fn ann(request: McpRequest) -> McpRequest {
    by("ann", request)
}

#[tokio::test]
async fn two_processes_spend_one_budget() {
    let (one, two, _) = two(layer);
    let first = report(&one.ask(ann(call("lines", 100))).await.unwrap());
    let second = report(&two.ask(ann(call("lines", 100))).await.unwrap());
    assert_eq!(second.left, USABLE - first.charged - second.charged);
    assert_eq!(one.available(&ann(call("lines", 1))).await, second.left);
    assert_eq!(two.available(&by("ben", call("lines", 1))).await, USABLE);
}

#[tokio::test]
async fn processes_that_race_never_overspend() {
    for fraction in [0.3, 1.0] {
        let (one, two, _) = two(|| layer().max_fraction(fraction));
        for setup in [&one, &two] {
            setup.office.gate.send_replace(true);
        }
        let calls = (0..40).map(|number| {
            let setup = if number % 2 == 0 { &one } else { &two };
            setup.ask(ann(call("gated", 10_000)))
        });
        let charged: u64 = join_all(calls)
            .await
            .into_iter()
            .map(|answer| answer.unwrap())
            .filter(|response| !is_error(response))
            .map(|response| report(&response).charged)
            .sum();
        assert!(charged <= USABLE, "{charged}");
        assert_eq!(
            one.available(&ann(call("gated", 1))).await,
            USABLE - charged
        );
    }
}

#[tokio::test]
async fn a_cancelled_call_gives_its_share_back_in_the_store() {
    let (one, two, _) = two(layer);
    let held = tokio::spawn({
        let stack = one.stack.clone();
        tower::ServiceExt::oneshot(stack, ann(call("gated", 1)))
    });
    one.office.events.until("gated").await;
    assert!(two.available(&ann(call("lines", 1))).await < USABLE);
    held.abort();
    let _ = held.await;
    // It is given back by a task.
    for _ in 0..1_000 {
        if two.available(&ann(call("lines", 1))).await == USABLE {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the share is still reserved");
}

#[tokio::test]
async fn a_result_that_one_process_has_cut_the_other_reads() {
    let (one, two, _) = two(layer);
    let cut = one.ask(ann(call("lines", 3_000))).await.unwrap();
    let arguments = json!({ "id": kept_id(&cut), "search": "line 2999:" });
    let found = two.ask(ann(read(arguments.clone()))).await.unwrap();
    assert!(first(&found).contains("line 2999:"));
    let foreign = two.ask(by("ben", read(arguments))).await.unwrap();
    assert!(is_error(&foreign));
}

#[tokio::test]
async fn a_reset_holds_in_all_processes() {
    let (one, two, _) = two(layer);
    one.ask(ann(call("lines", 3_000))).await.unwrap();
    let conversation = one.budget.conversation_of(&ann(call("lines", 1))).unwrap();
    let held = tokio::spawn({
        let stack = one.stack.clone();
        tower::ServiceExt::oneshot(stack, ann(call("gated", 10)))
    });
    one.office.events.until("gated").await;
    two.budget.reset(&conversation).await.unwrap();
    assert_eq!(one.available(&ann(call("lines", 1))).await, USABLE);
    one.office.gate.send_replace(true);
    held.await.unwrap().unwrap();
    // A call in flight is charged to the old window.
    assert_eq!(one.available(&ann(call("lines", 1))).await, USABLE);
    let charged = report(&two.ask(ann(call("lines", 10))).await.unwrap()).charged;
    one.budget.refund(&conversation, 1).await.unwrap();
    assert_eq!(
        two.available(&ann(call("lines", 1))).await,
        USABLE - charged + 1
    );
}

#[tokio::test]
async fn thresholds_and_definitions_are_counted_once_for_all_processes() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (one, two, _) = two(|| {
        let tells = told.clone();
        let tell = move |crossed: &rmcp_layers::budget::ThresholdCrossed| {
            tells.lock().unwrap().push(crossed.percent);
        };
        layer()
            .max_fraction(0.2)
            .on_threshold(tell)
            .count_definitions(true)
    });
    let listed = one.ask(ann(McpRequest::list_tools())).await.unwrap();
    assert!(listed.report.budget.is_some());
    let again = two.ask(ann(McpRequest::list_tools())).await.unwrap();
    assert_eq!(again.report.budget, None);
    for _ in 0..20 {
        one.ask(ann(call("lines", 10_000))).await.unwrap();
        two.ask(ann(call("lines", 10_000))).await.unwrap();
    }
    assert_eq!(*told.lock().unwrap(), [50, 80, 95]);
}

/// A store that can be down, or lose its answers.
#[derive(Clone, Default)]
struct Moody {
    store: MemoryStore,
    is_down: Arc<AtomicBool>,
    loses_answers: Arc<AtomicBool>,
}

impl Fault for Moody {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        answer: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        if self.is_down.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::new("down")) });
        }
        let answered = answer(&self.store);
        if self.loses_answers.load(Ordering::Relaxed) {
            return Box::pin(async move {
                answered.await?;
                Err(StoreError::new("the answer is lost"))
            });
        }
        answered
    }
}

#[tokio::test]
async fn while_the_store_is_down_calls_are_refused_and_nothing_is_lost() {
    let moody = Moody::default();
    let setup = Setup::new(layer().store(Faulty(moody.clone())));
    let held = tokio::spawn({
        let stack = setup.stack.clone();
        tower::ServiceExt::oneshot(stack, ann(call("gated", 10_000)))
    });
    setup.office.events.until("gated").await;
    moody.is_down.store(true, Ordering::Relaxed);
    let error = setup.ask(ann(call("lines", 1))).await.unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    // A result that is there is delivered, and promises no rest that is not kept.
    setup.office.gate.send_replace(true);
    let cut = held.await.unwrap().unwrap();
    assert!(
        !is_error(&cut) && !text(&cut).contains("read_result"),
        "{}",
        text(&cut)
    );
    moody.is_down.store(false, Ordering::Relaxed);
    // Its share counts as spent.
    let left = setup.available(&ann(call("lines", 1))).await;
    assert_eq!(left, USABLE - USABLE * 3 / 10);
    assert!(setup.budget.stats().store_failures >= 2);
    setup.ask(ann(call("lines", 1))).await.unwrap();
}

/// Begins two calls that hold a share each, and cancels the second one under a fault.
async fn cancelled_under(fault: impl Fn(&Moody) -> &AtomicBool) -> (Setup, u64) {
    let moody = Moody::default();
    let setup = Setup::new(layer().store(Faulty(moody.clone())));
    let left = async || setup.available(&ann(call("lines", 1))).await;
    let (mut held, mut before) = (Vec::new(), 0);
    for _ in 0..2 {
        before = left().await;
        let stack = setup.stack.clone();
        let call = tower::ServiceExt::oneshot(stack, ann(call("gated", 1)));
        held.push(tokio::spawn(call));
        while left().await == before {
            tokio::task::yield_now().await;
        }
    }
    let second = held.pop().unwrap();
    fault(&moody).store(true, Ordering::Relaxed);
    second.abort();
    let _ = second.await;
    // It fails several times.
    tokio::time::sleep(Duration::from_secs(60)).await;
    fault(&moody).store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(30)).await;
    (setup, before)
}

#[tokio::test(start_paused = true)]
async fn a_share_is_given_back_when_the_store_answers_again() {
    let (setup, left) = cancelled_under(|moody| &moody.is_down).await;
    assert_eq!(setup.available(&ann(call("lines", 1))).await, left);
}

#[tokio::test(start_paused = true)]
async fn a_share_is_given_back_once_however_many_answers_of_the_store_are_lost() {
    let (setup, left) = cancelled_under(|moody| &moody.loses_answers).await;
    assert_eq!(setup.available(&ann(call("lines", 1))).await, left);
}

#[tokio::test(start_paused = true)]
async fn a_window_in_a_store_ends_with_its_counter() {
    let hour = Duration::from_secs(3_600);
    let setup = Setup::new(layer().store(MemoryStore::new()).idle_timeout(hour));
    let held = tokio::spawn({
        let stack = setup.stack.clone();
        tower::ServiceExt::oneshot(stack, ann(call("gated", 10)))
    });
    setup.office.events.until("gated").await;
    tokio::time::advance(hour).await;
    let charged = report(&setup.ask(ann(call("lines", 10))).await.unwrap()).charged;
    setup.office.gate.send_replace(true);
    held.await.unwrap().unwrap();
    // The share that expired with its counter is not given back to the next one.
    assert!(setup.available(&ann(call("lines", 1))).await <= USABLE - charged);
}
