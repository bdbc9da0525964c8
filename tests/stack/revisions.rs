//! Callers and servers of different protocol revisions.

use rmcp::model::*;
use rmcp_layers::{Handler, Upstream};
use serde_json::json;
use tower::util::BoxCloneService;

use crate::{
    Boxed,
    common::{Client, Heard, demo::Demo, piped, piped_legacy, text, tool},
    echoed,
};

#[tokio::test]
async fn an_older_caller_is_asked_what_a_newer_server_wants_to_know() {
    let demo = Demo::default();
    for stack in [
        Boxed::new(Upstream::in_process(demo.clone())),
        Boxed::new(piped(Upstream::builder(), &demo)),
    ] {
        let mut client = Client::legacy("Ann", stack).await;
        let result = client.call(tool("ask", json!({}))).await;
        let answered = echoed(&result);
        assert_eq!(answered["state"], "round one");
        assert_eq!(answered["answers"]["name"]["content"]["name"], "Ann");
        assert_eq!(
            answered["answers"]["greeting"]["content"]["text"],
            "I am Ann"
        );
        let mut asked = [
            client.hear("a question").await,
            client.hear("a question").await,
        ];
        asked.sort_by_key(|heard| format!("{heard:?}"));
        assert_eq!(
            asked,
            [Heard::Asked("elicitation"), Heard::Asked("sampling")]
        );
    }
}

#[tokio::test]
async fn an_older_callers_log_level_goes_with_each_request_to_a_newer_server() {
    let mut client = Client::legacy("Ann", piped(Upstream::builder(), &Demo::default())).await;
    assert_eq!(text(&client.call(tool("log", json!({}))).await), "None");
    assert_eq!(client.hear("the line").await, Heard::Log(json!("line")));
    let level = SetLevelRequestParams::new(LoggingLevel::Warning);
    client.peer.set_level(level).await.unwrap();
    let logged = client.call(tool("log", json!({}))).await;
    assert_eq!(text(&logged), "Some(Warning)");
}

#[tokio::test]
async fn an_older_callers_log_level_reaches_an_older_server_and_a_handler() {
    for legacy in [true, false] {
        let demo = Demo::default();
        let stack: Boxed = match legacy {
            true => BoxCloneService::new(piped_legacy(&demo)),
            false => BoxCloneService::new(Handler::new(demo.clone())),
        };
        let mut client = Client::legacy("Ann", stack).await;
        let level = SetLevelRequestParams::new(LoggingLevel::Warning);
        client.peer.set_level(level).await.unwrap();
        assert_eq!(demo.seen().level, Some(LoggingLevel::Warning));
        client.call(tool("log", json!({}))).await;
        assert_eq!(client.hear("the line").await, Heard::Log(json!("line")));
    }
}
