//! The request timeout and the total timeout of a call.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, future::pending};
use rmcp::model::*;
use rmcp_layers::{McpClient, McpRequest};
use tokio::time::Instant;

use crate::{Answer, Person, ask_name, report, said, seconds, text};

#[tokio::test(start_paused = true)]
async fn a_silent_server_times_out_and_the_stacks_future_is_dropped() {
    let token = Arc::new(Mutex::new(None));
    let stack = tower::service_fn({
        let token = token.clone();
        move |request: McpRequest| {
            *token.lock().unwrap() = Some(request.context.cancellation.clone());
            pending::<Answer>()
        }
    });
    let started = Instant::now();
    let error = McpClient::new(stack).call_tool("any").await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(started.elapsed(), seconds(60));
    assert!(token.lock().unwrap().as_ref().unwrap().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn progress_resets_the_request_timeout_but_not_the_total_one() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        for step in 1..=10 {
            tokio::time::sleep(seconds(9)).await;
            report(&request.context, step).await;
        }
        Answer::Ok(text("done"))
    });
    let client = McpClient::builder(stack)
        .request_timeout(seconds(10))
        .build();
    let started = Instant::now();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "done");
    assert_eq!(started.elapsed(), seconds(90));

    let started = Instant::now();
    let error = client
        .call_tool("any")
        .total_timeout(seconds(25))
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(started.elapsed(), seconds(25));

    let started = Instant::now();
    let error = client
        .call_tool("any")
        .request_timeout(seconds(8))
        .await
        .unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(started.elapsed(), seconds(8));

    let patient = client
        .call_tool("any")
        .request_timeout(None)
        .total_timeout(Duration::MAX);
    assert_eq!(said(&patient.await.unwrap()), "done");
}

#[tokio::test(start_paused = true)]
async fn the_request_timeout_stands_still_while_the_handler_is_at_work() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        let InputRequest::Elicitation(ask) = ask_name() else {
            unreachable!()
        };
        request
            .context
            .caller
            .request(ServerRequest::ElicitRequest(ask))
            .await?;
        tokio::time::sleep(seconds(9)).await;
        Answer::Ok(text("done"))
    });
    let person = Person {
        slow: Some(seconds(300)),
        ..Person::default()
    };
    let client = McpClient::builder(stack)
        .handler(person)
        .request_timeout(seconds(10))
        .build();
    let started = Instant::now();
    assert_eq!(said(&client.call_tool("any").await.unwrap()), "done");
    assert_eq!(started.elapsed(), seconds(309));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_progress_loses_none_of_it_and_is_not_timed_out() {
    let stack = tower::service_fn(|request: McpRequest| async move {
        for step in 1..=100 {
            report(&request.context, step).await;
        }
        Answer::Ok(text("done"))
    });
    let client = McpClient::builder(stack)
        .request_timeout(seconds(10))
        .build();
    let mut call = client.call_tool("any").with_progress();
    let mut steps = 0;
    while let Some(_progress) = call.next().await {
        tokio::time::sleep(seconds(20)).await;
        steps += 1;
    }
    assert_eq!(steps, 100);
    call.await.unwrap();
}
