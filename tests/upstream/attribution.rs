//! Messages of a server that name no call: to the connection's only caller, or to none.

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceError,
    service::{Peer, RequestContext},
};
use rmcp_layers::{McpClient, McpRequest, Principal, cache::CacheLayer};

use super::*;
use crate::common::{Events, finished, logs_and_tools, question};
use crate::wire::{questions, tools, wired};

/// Begins a call of `name` in a task of its own.
fn begin(client: &Client, name: &'static str) -> tokio::task::JoinHandle<()> {
    let peer = client.peer.peer().clone();
    tokio::spawn(async move {
        peer.call_tool_once(tool(name, json!({}))).await.unwrap();
    })
}

/// Answers a call at once and goes on in the background, as a server may that queues its work.
#[derive(Clone, Default)]
struct Background {
    events: Events,
    peers: Arc<std::sync::Mutex<Vec<Peer<RoleServer>>>>,
}

impl Background {
    /// Says and asks everything there is, for the call that began it.
    async fn speak(&self, peer: Peer<RoleServer>) {
        self.events.until("speak").await;
        let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!("a secret"));
        peer.notify_logging_message(line).await.unwrap();
        let custom = CustomNotification::new("com.example/secret", Some(json!({})));
        peer.send_notification(custom.into()).await.unwrap();
        let asked = peer.create_message(question());
        self.outcome("sampling", asked.await.map(drop));
        self.outcome("roots", peer.list_roots().await.map(drop));
        let asked = ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: "Your password?".to_owned(),
            requested_schema: ElicitationSchema::builder().build().unwrap(),
        };
        self.outcome(
            "elicitation",
            peer.create_elicitation(asked).await.map(drop),
        );
        self.events.note("spoken");
    }

    fn outcome(&self, what: &str, outcome: Result<(), ServiceError>) {
        let how = match outcome {
            Err(ServiceError::McpError(error)) => {
                let remedy = "connection of its own";
                assert!(error.message.contains(remedy), "{error:?}");
                "refused"
            }
            Ok(()) => "answered",
            Err(_) => "failed",
        };
        self.events.note(format!("{what} {how}"));
    }
}

impl ServerHandler for Background {
    fn get_info(&self) -> ServerConfig {
        logs_and_tools()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.events.note(&*request.name);
        match &*request.name {
            "leave" => {
                self.peers.lock().unwrap().push(context.peer.clone());
                let (background, peer) = (self.clone(), context.peer);
                tokio::spawn(async move { background.speak(peer).await });
            }
            "stay" => self.events.until("end").await,
            _ => {}
        }
        finished("done")
    }
}

/// Bob's call is answered and its work goes on; then Alice has the only call in flight.
async fn crossing(server: &Background, upstream: Upstream) {
    let served = McpServer::new(upstream);
    let initialize = ClientLifecycleMode::Initialize;
    let mut bob = Client::of(&served, "Bob", initialize.clone()).await;
    let mut alice = Client::of(&served, "Alice", initialize).await;
    bob.call(tool("leave", json!({}))).await;
    let staying = begin(&alice, "stay");
    server.events.until("stay").await;
    server.events.note("speak");
    server.events.until("spoken").await;
    for what in ["sampling", "roots", "elicitation"] {
        server.events.until(&format!("{what} refused")).await;
    }
    server.events.note("end");
    soon("Alice's answer", staying).await.unwrap();
    alice.hears_nothing().await;
    bob.hears_nothing().await;
}

#[tokio::test]
async fn work_that_goes_on_after_its_answer_reaches_no_other_caller_over_a_pipe() {
    let server = Background::default();
    crossing(&server, common::piped_legacy(&server)).await;
}

#[tokio::test]
async fn work_that_goes_on_after_its_answer_reaches_no_other_caller_in_process() {
    let server = Background::default();
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    crossing(&server, builder.in_process(server.clone())).await;
}

#[tokio::test]
async fn work_that_goes_on_after_its_answer_reaches_no_other_caller_over_legacy_http() {
    let server = Background::default();
    let http = Http::serve(server.clone()).await;
    crossing(&server, legacy(&http)).await;
}

#[tokio::test]
async fn a_connections_only_caller_hears_what_names_no_call() {
    let server = Background::default();
    let http = Http::serve(server.clone()).await;
    let in_process = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .in_process(server.clone());
    for upstream in [common::piped_legacy(&server), in_process, legacy(&http)] {
        server.events.0.send_replace(Vec::new());
        let mut alice = Client::legacy("Alice", upstream).await;
        alice.call(tool("leave", json!({}))).await;
        let staying = begin(&alice, "stay");
        server.events.until("stay").await;
        server.events.note("speak");
        server.events.until("spoken").await;
        for what in ["sampling", "roots", "elicitation"] {
            server.events.until(&format!("{what} answered")).await;
        }
        server.events.note("end");
        soon("Alice's answer", staying).await.unwrap();
        let line = alice.hear("the line").await;
        assert_eq!(line, Heard::Log(json!("a secret")));
        assert_eq!(alice.hear("sampling").await, Heard::Asked("sampling"));
        assert_eq!(alice.hear("a form").await, Heard::Asked("elicitation"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answered_call_of_another_caller_is_enough_to_refuse_every_question() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let served = McpServer::new(upstream);
    let initialize = ClientLifecycleMode::Initialize;
    let (mut ann, mut wire) = tokio::join!(
        Client::of(&served, "Ann", initialize.clone()),
        wires.next(tools())
    );
    let mut bob = Client::of(&served, "Bob", initialize).await;
    let anns = begin(&ann, "first");
    let id = wire.called().await;
    wire.finish(&id).await;
    soon("Ann's answer", anns).await.unwrap();

    let bobs = begin(&bob, "second");
    let id = wire.called().await;
    wire.log("whose?").await;
    wire.notify("com.example/whose", json!({})).await;
    for (method, params) in questions() {
        let refused = wire.request(method, method, params).await;
        let why = refused["error"]["message"].as_str();
        assert!(
            why.is_some_and(|why| why.contains("several callers")),
            "{refused}"
        );
    }
    wire.finish(&id).await;
    soon("Bob's answer", bobs).await.unwrap();
    tokio::task::yield_now().await;
    assert!(ann.heard.try_recv().is_err(), "Ann heard something");
    assert!(bob.heard.try_recv().is_err(), "Bob heard something");
}

#[tokio::test(start_paused = true)]
async fn two_principals_in_one_session_are_two_callers() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let client = McpClient::new(upstream);
    let call = |who: &'static str| {
        let (client, (caller, heard)) = (client.clone(), recorder());
        let request = McpRequest::call_tool("x").principal(Principal::new(who));
        let request = request.caller(caller).build();
        (
            tokio::spawn(async move { client.send(request).await }),
            heard,
        )
    };
    let (answer, mut alices) = call("alice");
    let mut wire = wires.next(tools()).await;
    let id = wire.called().await;
    wire.log("for alice").await;
    wire.finish(&id).await;
    soon("an answer", answer).await.unwrap().unwrap();
    assert!(alices.try_recv().is_ok(), "the only caller hears the line");

    let (answer, mut bobs) = call("bob");
    let id = wire.called().await;
    wire.log("for whom?").await;
    let refused = wire.request("roots/list", "whose?", json!({})).await;
    assert!(refused["error"].is_object(), "{refused}");
    wire.finish(&id).await;
    soon("an answer", answer).await.unwrap().unwrap();
    assert!(bobs.try_recv().is_err(), "Bob heard something");
    assert!(alices.try_recv().is_err(), "Alice heard something");
}

#[tokio::test(start_paused = true)]
async fn calls_without_a_session_are_callers_of_their_own() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let call = || {
        let (caller, heard) = recorder();
        let request = McpRequest::call_tool("x").caller(caller).build();
        (tokio::spawn(upstream.clone().oneshot(request)), heard)
    };
    let (first, mut heard) = call();
    let mut wire = wires.next(tools()).await;
    let id = wire.called().await;
    wire.log("for the only caller").await;
    wire.finish(&id).await;
    soon("an answer", first).await.unwrap().unwrap();
    assert!(heard.try_recv().is_ok());

    let (second, mut heard) = call();
    let id = wire.called().await;
    wire.log("for which of them?").await;
    wire.finish(&id).await;
    soon("an answer", second).await.unwrap().unwrap();
    assert!(
        heard.try_recv().is_err(),
        "the second caller heard something"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_cache_fetches_anew_is_the_work_of_the_caller_that_it_is_fetched_for() {
    let second = Duration::from_secs(1);
    for same in [true, false] {
        let (upstream, mut wires) = wired(Upstream::builder());
        let cache = CacheLayer::builder()
            .cache_method("resources/read", second)
            .stale_while_revalidate(60 * second)
            .build()
            .unwrap();
        let stack = tower::ServiceBuilder::new().layer(cache).service(upstream);
        let (ann, bob) = (McpClient::new(stack.clone()), McpClient::new(stack.clone()));
        let read = |client: &McpClient<_>| {
            let (client, (caller, heard)) = (client.clone(), recorder());
            let params = ReadResourceRequestParams::new("memo://x");
            let mut request = McpRequest::new(ReadResourceRequest::new(params));
            request.context.caller = caller;
            (
                tokio::spawn(async move { client.send(request).await }),
                heard,
            )
        };
        let (answer, _heard) = read(&ann);
        let mut wire = wires.next(json!({ "resources": {} })).await;
        wire.contents().await;
        soon("an answer", answer).await.unwrap().unwrap();

        tokio::time::sleep(2 * second).await;
        let (answer, _heard) = read(if same { &ann } else { &bob });
        soon("an expired answer", answer).await.unwrap().unwrap();
        // The server may go on with this for whom it was read.
        wire.contents().await;
        let call = McpRequest::call_tool("x").caller(recorder().0).build();
        let call = tokio::spawn({
            let ann = ann.clone();
            async move { ann.send(call).await }
        });
        let id = wire.called().await;
        let asked = wire.request("roots/list", "whose?", json!({})).await;
        let several = asked["error"]["message"].as_str();
        let several = several.is_some_and(|why| why.contains("several callers"));
        assert_eq!(several, !same, "{asked}");
        wire.finish(&id).await;
        soon("an answer", call).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_has_had_no_caller_yet() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let served = McpServer::new(upstream);
    let initialize = ClientLifecycleMode::Initialize;
    let (ann, wire) = tokio::join!(
        Client::of(&served, "Ann", initialize.clone()),
        wires.next(tools())
    );
    let mut bob = Client::of(&served, "Bob", initialize).await;
    drop(ann.peer.cancel().await);
    drop(wire);

    let mut wire = wires.next(tools()).await;
    let bobs = begin(&bob, "second");
    let id = wire.called().await;
    let (method, params) = questions()[0].clone();
    let answered = wire.request(method, "bob?", params).await;
    assert_eq!(answered["result"]["content"]["text"], "I am Bob");
    wire.log("bob's").await;
    wire.finish(&id).await;
    soon("Bob's answer", bobs).await.unwrap();
    assert_eq!(bob.hear("the question").await, Heard::Asked("sampling"));
    assert_eq!(bob.hear("the line").await, Heard::Log(json!("bob's")));
}

#[tokio::test(start_paused = true)]
async fn progress_still_finds_its_call_among_several_callers() {
    let (upstream, mut wires) = wired(Upstream::builder());
    let call = |name: &'static str| {
        let (caller, heard) = recorder();
        let request = McpRequest::call_tool(name)
            .caller(caller)
            .progress_token(token(name));
        (
            tokio::spawn(upstream.clone().oneshot(request.build())),
            heard,
        )
    };
    let (first, mut firsts) = call("first");
    let mut wire = wires.next(tools()).await;
    let one = wire.read(|message| message["method"] == "tools/call").await;
    let (second, mut seconds) = call("second");
    let two = wire.read(|message| message["method"] == "tools/call").await;
    for call in [&two, &one] {
        let token = &call["params"]["_meta"]["progressToken"];
        let params = json!({ "progressToken": token, "progress": 1.0 });
        wire.notify("notifications/progress", params).await;
        wire.finish(&call["id"]).await;
    }
    soon("an answer", first).await.unwrap().unwrap();
    soon("an answer", second).await.unwrap().unwrap();
    assert_eq!(progress(&mut firsts), [(token("first"), 1.0)]);
    assert_eq!(progress(&mut seconds), [(token("second"), 1.0)]);
}
