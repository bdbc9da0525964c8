//! Results that require input, and the rounds of a call.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rmcp::model::*;
use rmcp_layers::{Error, McpClient, McpRequest, McpResponse};
use serde_json::json;
use tokio::time::Instant;

use crate::{Answer, Person, inputs, said};

/// Wants input for as many rounds, and checks that its state comes back as it was.
fn curious(
    rounds: usize,
) -> impl tower::Service<
    McpRequest,
    Response = McpResponse,
    Error = Error,
    Future = impl Future<Output = Answer> + Send,
> + Clone
+ Send
+ 'static {
    let asked = Arc::new(AtomicUsize::new(0));
    tower::service_fn(move |request: McpRequest| {
        let call = request.as_tool_call().unwrap();
        let n = asked.fetch_add(1, Ordering::SeqCst);
        let state = (n > 0).then(|| format!("state {n}\u{0}é"));
        assert_eq!(call.request_state, state);
        assert_eq!(call.input_responses.is_some(), n > 0);
        for answer in call.input_responses.iter().flatten() {
            assert_eq!(
                *answer.1,
                json!({ "action": "accept", "content": { "name": "Ada" } })
            );
        }
        assert_eq!(call.arguments.as_ref().unwrap()["a"], 1);
        let wants = InputRequiredResult::new(
            Some(inputs(&["x", "y"])),
            Some(format!("state {}\u{0}é", n + 1)),
        );
        let result: CallToolResponse = if n < rounds {
            wants.into()
        } else {
            CallToolResult::success(vec![ContentBlock::text(n.to_string())]).into()
        };
        std::future::ready(Answer::Ok(McpResponse::new(ServerResult::from(result))))
    })
}

#[tokio::test]
async fn an_input_request_is_answered_by_the_handler_and_the_call_goes_on() {
    let person = Person::default();
    let client = McpClient::builder(curious(3))
        .handler(person.clone())
        .build();
    let result = client.call_tool("any").argument("a", 1).await.unwrap();
    assert_eq!(said(&result), "3");
    assert_eq!(person.elicited.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_server_that_goes_on_asking_is_given_up_after_the_rounds_allowed() {
    let person = Person::default();
    let client = McpClient::builder(curious(99))
        .handler(person.clone())
        .mrtr_max_rounds(4)
        .build();
    let error = client.call_tool("any").argument("a", 1).await.unwrap_err();
    assert!(error.is_refused());
    assert!(error.to_string().contains("after 4 rounds"), "{error}");
    assert!(!error.is_not_delivered());
    assert_eq!(person.elicited.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn without_a_handler_input_is_an_error_that_says_what_to_do_and_once_gives_it_back() {
    let error = McpClient::new(curious(1))
        .call_tool("any")
        .argument("a", 1)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("handler"), "{error}");

    let client = McpClient::new(curious(1));
    let call = || client.call_tool("any").argument("a", 1);
    let CallToolResponse::InputRequired(wants) = call().once().await.unwrap() else {
        panic!("input was to be wanted");
    };
    let answer = json!({ "action": "accept", "content": { "name": "Ada" } });
    let answers = BTreeMap::from([("x".to_owned(), answer)]);
    assert_eq!(
        said(
            &call()
                .input(Some(answers), wants.request_state)
                .await
                .unwrap()
        ),
        "1"
    );
}

#[tokio::test(start_paused = true)]
async fn a_round_without_questions_is_waited_for_and_needs_no_handler() {
    let asked = Arc::new(AtomicUsize::new(0));
    let stack = tower::service_fn(move |_request: McpRequest| {
        let n = asked.fetch_add(1, Ordering::SeqCst);
        let result: CallToolResponse = if n < 2 {
            InputRequiredResult::from_request_state("s").into()
        } else {
            CallToolResult::success(vec![ContentBlock::text("done")]).into()
        };
        std::future::ready(Answer::Ok(McpResponse::new(ServerResult::from(result))))
    });
    let started = Instant::now();
    assert_eq!(
        said(&McpClient::new(stack).call_tool("any").await.unwrap()),
        "done"
    );
    // Twice, each between half and the whole of 50 and 100 ms.
    let waited = started.elapsed();
    assert!((75..=152).contains(&waited.as_millis()), "{waited:?}");
}
