//! The end of a gateway.

use rmcp_layers::code;

use super::*;

/// A gateway over a server with tools that take their time, and the server.
fn over_demo() -> (Demo, Gateway) {
    let demo = Demo::default();
    let member = Member::new("d", piped(Upstream::builder(), &demo)).call_unlisted(true);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    (demo, gateway)
}

async fn until_in_flight(gateway: &Gateway, calls: usize) {
    let counted = async {
        while gateway.handle().stats().calls != calls {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the calls", counted).await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_gateway_refuses_new_calls_and_lets_those_in_flight_end() {
    let (demo, gateway) = over_demo();
    let client = Client::legacy("l", gateway.clone()).await;
    client.peer.list_tools(None).await.unwrap();
    demo.until("the gateway's own listen", |seen| {
        !seen.listening.is_empty()
    })
    .await;
    let slow = tool("d__slow", json!({ "rest": 5_000 }));
    let peer = client.peer.peer().clone();
    let slow = tokio::spawn(async move { peer.call_tool(slow).await });
    until_in_flight(&gateway, 1).await;

    let handle = gateway.handle();
    let closing = tokio::spawn(async move { handle.drain(Duration::from_secs(60)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = client.peer.call_tool(tool("d__add", json!({}))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("the gateway is shutting down"),
        "{refused}"
    );
    assert!(!closing.is_finished());

    let answer = soon("the call", slow).await.unwrap().unwrap();
    assert_eq!(text(&answer), "at last");
    assert_eq!(soon("the end", closing).await.unwrap(), 0);
    demo.until("the end of the gateway's listen", |seen| {
        seen.listening.is_empty()
    })
    .await;
    let stats = gateway.handle().stats();
    assert_eq!((stats.members, stats.calls), (0, 0));
    // A member that comes later would never be used.
    let error = gateway.handle().add(down("late")).unwrap_err();
    assert!(error.reason().contains("closed"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_outlast_the_drain_are_cancelled() {
    let (demo, gateway) = over_demo();
    let stack = gateway.clone();
    let wait = tokio::spawn(async move { call(&stack, "d__wait").await });
    demo.until("the call", |seen| seen.waiting == 1).await;
    let began = tokio::time::Instant::now();
    assert_eq!(gateway.handle().drain(Duration::from_secs(2)).await, 1);
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    let error = soon("the answer", wait).await.unwrap().unwrap_err();
    assert_eq!(ErrorData::from(error).code, code::CANCELLED);
    demo.until("the cancellation", |seen| seen.waiting == 0)
        .await;
    // Closed again, it has nothing left to wait for.
    assert_eq!(gateway.handle().drain(Duration::from_secs(60)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_listen_ends_when_the_gateway_closes() {
    let (demo, gateway) = over_demo();
    let client = McpClient::new(gateway.clone());
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let mut changes = client.listen(filter).await.unwrap();
    assert_eq!(gateway.handle().stats().listens, 1);
    // A listen is not a call to wait for.
    assert_eq!(gateway.handle().drain(Duration::from_secs(60)).await, 0);
    let end = soon("the end", changes.next()).await;
    assert!(end.is_none_or(|end| end.is_err()));
    assert_eq!(gateway.handle().stats().listens, 0);
    demo.until("the end at the server", |seen| seen.listening.is_empty())
        .await;
}

#[tokio::test]
async fn a_closed_gateway_does_not_wait_for_calls() {
    let (demo, gateway) = over_demo();
    let stack = gateway.clone();
    let wait = tokio::spawn(async move { call(&stack, "d__wait").await });
    demo.until("the call", |seen| seen.waiting == 1).await;
    soon("the end", gateway.handle().close()).await;
    soon("the answer", wait).await.unwrap().unwrap_err();
    let refused = call(&gateway, "d__add").await.unwrap_err();
    assert!(refused.is_refused(), "{refused}");
}
