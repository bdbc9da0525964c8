//! Subscriptions and log levels of sessions with an older server.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceError, ServiceExt as _, model::*,
    service::RequestContext,
};
use rmcp_layers::{Lifecycle, Upstream};
use serde_json::json;
use tokio::{task::AbortHandle, time::Instant};

use crate::common::{Client, Events, finished, logs_and_tools, soon, text, tool};

/// Does not answer a subscription, or refuses it after a while.
#[derive(Clone, Default)]
struct Library {
    refuses_after: Option<Duration>,
    events: Events,
}

impl ServerHandler for Library {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn subscribe(
        &self,
        _request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.events.note("subscribe");
        match self.refuses_after {
            Some(delay) => tokio::time::sleep(delay).await,
            None => std::future::pending().await,
        }
        Err(ErrorData::invalid_params("no such resource", None))
    }
}

async fn subscribe(client: &Client) -> Result<(), ServiceError> {
    let subscribing = client.peer.subscribe(SubscribeRequestParams::new("a:b"));
    soon("a subscription's end", subscribing).await
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_never_answered_ends_in_time() {
    let limit = Duration::from_secs(5);
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .request_timeout(limit)
        .in_process(Library::default());
    let client = Client::legacy("ann", upstream).await;
    let started = Instant::now();
    let ended = subscribe(&client).await;
    assert!(ended.is_err(), "{ended:?}");
    let took = started.elapsed();
    assert!(took >= limit && took < 2 * limit, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_subscription_hear_of_its_refusal() {
    let library = Library {
        refuses_after: Some(Duration::from_secs(1)),
        ..Library::default()
    };
    let events = library.events.clone();
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .in_process(library);
    let ann = Client::legacy("ann", upstream.clone()).await;
    let bob = Client::legacy("bob", upstream).await;
    // The clock stands still until both wait.
    let (anns, bobs) = tokio::join!(subscribe(&ann), subscribe(&bob));
    for outcome in [anns, bobs] {
        let refused = format!("{:?}", outcome.unwrap_err());
        assert!(refused.contains("no such resource"), "{refused}");
    }
    assert_eq!(events.count("subscribe"), 1, "they waited for the same");
}

/// Keeps the log level that it is told.
#[derive(Clone, Default)]
struct Levels(Events);

impl ServerHandler for Levels {
    fn get_info(&self) -> ServerConfig {
        logs_and_tools()
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.note(format!("{:?}", request.level));
        Ok(())
    }

    async fn call_tool(
        &self,
        _request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        finished("done")
    }
}

/// An upstream whose connection ends with the server's task.
fn mortal(server: Levels) -> (Upstream, Arc<Mutex<Option<AbortHandle>>>) {
    let alive = Arc::new(Mutex::new(None));
    let task = alive.clone();
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    let upstream = builder.transport(move || {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = server.clone();
        server.0.note("connection");
        let serving = tokio::spawn(async move {
            if let Ok(running) = server.serve(far).await {
                let _ = running.waiting().await;
            }
        });
        *task.lock().unwrap() = Some(serving.abort_handle());
        async move { Ok::<_, io::Error>(near) }
    });
    (upstream, alive)
}

#[tokio::test(start_paused = true)]
async fn the_log_level_is_set_again_on_the_next_connection() {
    let server = Levels::default();
    let events = server.0.clone();
    let (upstream, alive) = mortal(server);
    let client = Client::legacy("ann", upstream).await;
    let level = SetLevelRequestParams::new(LoggingLevel::Debug);
    soon("setting the level", client.peer.set_level(level))
        .await
        .unwrap();
    assert_eq!(events.count("Debug"), 1);

    let task = alive.lock().unwrap().take();
    task.unwrap().abort();
    events.until_times("connection", 2).await;
    let result = client.call(tool("any", json!({}))).await;
    assert_eq!(text(&result), "done");
    events.until_times("Debug", 2).await;
}
