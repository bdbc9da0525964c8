//! Two principals never meet.

use rmcp::model::*;
use rmcp_layers::McpRequest;
use serde_json::json;

use super::office::*;

#[tokio::test]
async fn a_principal_spends_its_own_budget_only() {
    let setup = Setup::new(layer());
    setup.ask(by("ann", call("lines", 10_000))).await.unwrap();
    assert!(setup.available(&by("ann", call("lines", 1))).await < USABLE);
    assert_eq!(setup.available(&by("ben", call("lines", 1))).await, USABLE);
}

#[tokio::test]
async fn a_kept_result_is_not_found_by_another_principal() {
    let setup = Setup::new(layer());
    let cut = setup.ask(by("ann", call("lines", 5_000))).await.unwrap();
    let id = kept_id(&cut);
    let own = setup
        .ask(by("ann", read(json!({ "id": id }))))
        .await
        .unwrap();
    assert!(!is_error(&own));
    let unknown = "0".repeat(32);
    for stranger in [
        by("ben", read(json!({ "id": id }))),
        read(json!({ "id": id })),
    ] {
        let foreign = setup.ask(stranger).await.unwrap();
        // The same as for an id that does not exist.
        let none = setup
            .ask(by("cid", read(json!({ "id": unknown }))))
            .await
            .unwrap();
        assert!(is_error(&foreign));
        assert_eq!(text(&foreign), text(&none));
    }
    let uri = McpRequest::read_resource(format!("result://{id}"));
    let error = ErrorData::from(setup.ask(by("ben", uri)).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::RESOURCE_NOT_FOUND);
}

#[tokio::test]
async fn a_name_of_a_conversation_is_one_of_its_principal() {
    let builder = layer().conversation_by(|request| {
        let thread = request.context.meta.get("thread")?.as_str()?;
        Some(thread.to_owned())
    });
    let setup = Setup::new(builder);
    let threaded = |who: &str, thread: &str| {
        let mut request = by(who, call("lines", 100));
        let thread = thread.to_owned();
        request
            .context
            .meta
            .insert("thread".to_owned(), thread.into());
        request
    };
    setup.ask(threaded("ann", "a")).await.unwrap();
    assert!(setup.available(&threaded("ann", "a")).await < USABLE);
    for (who, thread) in [("ann", "b"), ("ben", "a")] {
        assert_eq!(setup.available(&threaded(who, thread)).await, USABLE);
    }
}

#[tokio::test]
async fn conversations_have_a_limit_that_active_ones_are_kept_from() {
    let setup = Setup::new(layer().max_conversations(3));
    let held = tokio::spawn({
        let stack = setup.stack.clone();
        tower::ServiceExt::oneshot(stack, by("held", call("gated", 1)))
    });
    setup.office.events.until("gated").await;
    for number in 0..10 {
        let who = format!("user {number}");
        setup.ask(by(&who, call("lines", 100))).await.unwrap();
    }
    assert_eq!(setup.budget.stats().conversations, 3);
    // The call in flight still holds its share, and the least recently used one began anew.
    assert!(setup.available(&by("held", call("lines", 1))).await < USABLE);
    assert_eq!(
        setup.available(&by("user 0", call("lines", 1))).await,
        USABLE
    );
    assert!(setup.available(&by("user 9", call("lines", 1))).await < USABLE);
    setup.office.gate.send_replace(true);
    held.await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_beyond_the_limit_of_active_conversations_are_refused() {
    let setup = Setup::new(layer().max_conversations(1));
    let held = tokio::spawn({
        let stack = setup.stack.clone();
        tower::ServiceExt::oneshot(stack, by("ann", call("gated", 1)))
    });
    setup.office.events.until("gated").await;
    let error = setup.ask(by("ben", call("lines", 1))).await.unwrap_err();
    assert!(
        error.to_string().contains("have calls in flight"),
        "{error}"
    );
    setup.office.gate.send_replace(true);
    held.await.unwrap().unwrap();
    setup.ask(by("ben", call("lines", 1))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_conversation_begins_anew() {
    let hour = std::time::Duration::from_secs(3_600);
    let setup = Setup::new(layer().idle_timeout(hour));
    setup.ask(by("ann", call("lines", 100))).await.unwrap();
    tokio::time::advance(hour / 2).await;
    setup.ask(by("ann", call("lines", 100))).await.unwrap();
    tokio::time::advance(hour / 2).await;
    assert!(setup.available(&by("ann", call("lines", 1))).await < USABLE);
    tokio::time::advance(hour / 2).await;
    assert_eq!(setup.available(&by("ann", call("lines", 1))).await, USABLE);
    assert_eq!(setup.budget.stats().conversations, 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_conversation_begins_anew_behind_one_with_a_long_call() {
    let (hour, minute) = (
        std::time::Duration::from_secs(3_600),
        std::time::Duration::from_secs(60),
    );
    let setup = Setup::new(layer().idle_timeout(hour));
    let ann = tokio::spawn(tower::ServiceExt::oneshot(
        setup.stack.clone(),
        by("ann", call("gated", 1)),
    ));
    setup.office.events.until("gated").await;
    let first = setup.ask(by("ben", call("lines", 100))).await.unwrap();
    let charged = report(&first).charged;
    tokio::time::advance(hour - minute).await;
    setup.office.gate.send_replace(true);
    ann.await.unwrap().unwrap();
    tokio::time::advance(2 * minute).await;
    assert_eq!(setup.available(&by("ben", call("lines", 1))).await, USABLE);
    let next = setup.ask(by("ben", call("lines", 100))).await.unwrap();
    assert_eq!(report(&next).left, USABLE - charged);
}
