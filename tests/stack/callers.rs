//! Several callers of one server, each apart from the others.

use rmcp::{ErrorData, ServerHandler, model::*, service::ClientLifecycleMode};
use rmcp_layers::{Error, Handler, Lifecycle, McpRequest, McpResponse, McpServer, Upstream};
use serde_json::json;
use tower::{ServiceExt, service_fn, util::BoxCloneService};

use crate::{
    Boxed,
    common::{Client, Heard, demo::Demo, piped_legacy, soon, text, tool},
    except,
};

#[tokio::test]
async fn a_servers_request_goes_to_its_caller_or_to_nobody() {
    let demo = Demo::default();
    let server = McpServer::new(piped_legacy(&demo));
    let initialize = ClientLifecycleMode::Initialize;
    let mut ann = Client::of(&server, "Ann", initialize.clone()).await;

    // Alone, and with another call of its own in flight.
    assert_eq!(text(&ann.call(tool("sample", json!({}))).await), "I am Ann");
    let waiting = |client: &Client| {
        let peer = client.peer.peer().clone();
        tokio::spawn(async move { peer.call_tool_once(tool("wait", json!({}))).await })
    };
    let anns = waiting(&ann);
    demo.until("Ann's call", |seen| seen.waiting == 1).await;
    assert_eq!(text(&ann.call(tool("sample", json!({}))).await), "I am Ann");
    for _ in 0..2 {
        assert_eq!(ann.hear("the question").await, Heard::Asked("sampling"));
    }

    // With two who could be meant, neither is asked, with or without a call in flight.
    let mut bob = Client::of(&server, "Bob", initialize).await;
    let refused = bob.call(tool("sample", json!({}))).await;
    assert_eq!(refused.is_error, Some(true));
    assert!(text(&refused).contains("several callers"), "{refused:?}");
    anns.abort();
    demo.until("the end of Ann's call", |seen| seen.waiting == 0)
        .await;
    for client in [&ann, &bob] {
        let refused = client.call(tool("sample", json!({}))).await;
        assert!(text(&refused).contains("several callers"), "{refused:?}");
    }
    ann.hears_nothing().await;
    bob.hears_nothing().await;
}

#[tokio::test]
async fn a_request_of_a_server_in_this_process_or_a_handler_finds_its_caller() {
    let demo = Demo::default();
    let in_process = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .in_process(demo.clone());
    let stacks: [Boxed; 2] = [
        BoxCloneService::new(Handler::new(demo.clone())),
        BoxCloneService::new(in_process),
    ];
    for stack in stacks {
        let mut ann = Client::legacy("Ann", stack).await;
        assert_eq!(text(&ann.call(tool("sample", json!({}))).await), "I am Ann");
        assert_eq!(ann.hear("the question").await, Heard::Asked("sampling"));
    }
}

fn is_guest(request: &McpRequest) -> bool {
    let info = request.context.client_info();
    info.is_some_and(|info| info.name == "guest")
}

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover {
        preferred_versions: vec![ProtocolVersion::LATEST],
    }
}

fn tools_changes() -> SubscriptionFilter {
    SubscriptionFilter::builder().tools_list_changed().build()
}

#[tokio::test]
async fn a_listen_refused_to_one_caller_is_not_refused_to_another() {
    let stack = except(Upstream::in_process(Demo::default()), |request| {
        let refused = is_guest(request) && request.method() == "subscriptions/listen";
        refused
            .then(|| Err(ErrorData::method_not_found::<SubscriptionsListenRequestMethod>().into()))
    });
    let server = McpServer::new(stack);
    let guest = Client::of(&server, "guest", modern()).await;
    let ann = Client::of(&server, "ann", modern()).await;
    if let Ok(mut listen) = guest.peer.listen(tools_changes()).await {
        let _ = soon("the refusal", listen.next()).await;
    }
    // This session has heard that there is none.
    assert!(guest.peer.listen(tools_changes()).await.is_err());
    ann.peer.listen(tools_changes()).await.unwrap();
}

#[tokio::test]
async fn what_one_caller_is_told_decides_nothing_for_another() {
    let inner = Upstream::in_process(Demo::default());
    let stack = service_fn(move |request: McpRequest| {
        let inner = inner.clone();
        async move {
            let narrowed = is_guest(&request) && request.method() == "server/discover";
            let mut response = inner.oneshot(request).await?;
            if narrowed && let ServerResult::DiscoverResult(told) = &mut *response.result {
                told.capabilities.tools = None;
                told.capabilities.resources = None;
                told.supported_versions = vec![ProtocolVersion::LATEST];
            }
            Ok::<_, Error>(response)
        }
    });
    let server = McpServer::new(stack);
    let ann = Client::of(&server, "ann", modern()).await;
    let older = Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
    let before = ann.peer.listen(tools_changes()).await.unwrap();
    let guest = Client::of(&server, "guest", modern()).await;
    let after = ann.peer.listen(tools_changes()).await.unwrap();
    assert_eq!(*before.acknowledged(), tools_changes());
    assert_eq!(*after.acknowledged(), tools_changes());
    let guests = guest.peer.listen(tools_changes()).await.unwrap();
    assert_eq!(guests.acknowledged().tools_list_changed, None);
    ann.peer.list_tools(None).await.unwrap();
    ann.call(tool("add", json!({}))).await;
    let subscription = SubscribeRequestParams::new("demo://a");
    older.peer.subscribe(subscription).await.unwrap();
    // Nor is a handshake of the older kind refused, which only the guest was told is unknown.
    Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
}

#[tokio::test]
async fn one_callers_schema_does_not_check_another_callers_headers() {
    let stack = except(Upstream::in_process(Demo::default()), |request| {
        if request.method() != "tools/list" {
            return None;
        }
        let region = match is_guest(request) {
            true => json!({ "type": "string", "x-mcp-header": "Region" }),
            false => json!({ "type": "string" }),
        };
        let both = json!({ "type": "string", "x-mcp-header": "Shard" });
        let tools = json!([
            { "name": "differs", "inputSchema": { "type": "object", "properties": { "a": region } } },
            { "name": "same", "inputSchema": { "type": "object", "properties": { "a": both } } },
        ]);
        let tools = serde_json::from_value(tools).unwrap();
        Some(Ok(McpResponse::new(ListToolsResult::with_all_items(tools))))
    });
    let server = McpServer::new(stack);
    let guest = Client::of(&server, "guest", ClientLifecycleMode::Initialize).await;
    let ann = Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
    guest.peer.list_tools(None).await.unwrap();
    assert!(server.get_tool("differs").is_some());
    ann.peer.list_tools(None).await.unwrap();
    assert!(server.get_tool("differs").is_none());
    assert!(server.get_tool("same").is_some());
}
