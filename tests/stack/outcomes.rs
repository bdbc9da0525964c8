//! The outcome of a call, as an observing layer sees it.

use std::{io, time::Duration};

use rmcp::model::*;
use rmcp_layers::{Error, Handler, McpRequest, Outcome, Upstream, code};
use tower::{Service, ServiceBuilder, ServiceExt};

use crate::{
    Outcomes,
    common::{demo::Demo, piped, script::scripted},
    failing_calls, served, small,
};

#[tokio::test(start_paused = true)]
async fn a_call_ends_in_one_of_nine_ways() {
    let demo = Demo::default();
    let outcomes = Outcomes::default();
    let upstream = piped(
        Upstream::builder().request_timeout(Duration::from_secs(5)),
        &demo,
    );
    let stack = outcomes.over(ServiceBuilder::new().filter(small).service(upstream));
    let outer = served(stack);
    let tasks = ClientCapabilities::builder().enable_tasks().build();
    let call = |name: &str| {
        let call = McpRequest::call_tool(name).meta(
            "io.modelcontextprotocol/clientCapabilities",
            serde_json::to_value(&tasks).unwrap(),
        );
        let mut outer = outer.clone();
        async move { outer.ready().await.unwrap().call(call.build()).await }
    };
    let expected = [
        ("add", Outcome::Complete),
        ("fail", Outcome::ToolError),
        ("ask", Outcome::InputRequired),
        ("task", Outcome::Task),
        ("reject", Outcome::Protocol { code: -32050 }),
        ("wait", Outcome::Timeout),
        (
            "big",
            Outcome::Refused {
                layer: "layer",
                code: code::FORBIDDEN.0,
                not_delivered: true,
            },
        ),
    ];
    for (name, outcome) in expected {
        let answer = call(name).await;
        assert_eq!(outcomes.last(), outcome, "{name}");
        // The hop outside it reads results as they were, and all failures as the wire errors they are.
        let outside = Outcome::of(&answer);
        match outcome {
            Outcome::Timeout => assert_eq!(outside, Outcome::Protocol { code: -31504 }),
            Outcome::Refused { .. } => assert_eq!(outside, Outcome::Protocol { code: -31403 }),
            same => assert_eq!(outside, same, "{name}"),
        }
    }

    // A server that goes away, and one that is not there.
    let going = outcomes.over(scripted(Upstream::builder(), |_| None));
    going
        .oneshot(McpRequest::call_tool("add").build())
        .await
        .unwrap_err();
    let unknown = Outcome::Transport {
        not_delivered: false,
        status: None,
    };
    assert_eq!(outcomes.last(), unknown);
    let absent = Upstream::builder()
        .transport(|| async { Err::<tokio::io::DuplexStream, _>(io::Error::other("nobody")) });
    let absent = outcomes.over(absent);
    absent
        .oneshot(McpRequest::call_tool("add").build())
        .await
        .unwrap_err();
    let not_delivered = Outcome::Transport {
        not_delivered: true,
        status: None,
    };
    assert_eq!(outcomes.last(), not_delivered);

    // A layer that calls it off.
    let cancelled = failing_calls(Handler::new(demo), Error::cancelled("by a layer"));
    let cancelled = outcomes.over(cancelled);
    cancelled
        .oneshot(McpRequest::call_tool("add").build())
        .await
        .unwrap_err();
    assert_eq!(outcomes.last(), Outcome::Cancelled);
}
