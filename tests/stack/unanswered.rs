//! Messages that a stack never answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    model::*,
    service::{ClientLifecycleMode, ServiceError},
};
use rmcp_layers::{McpRequest, McpServer, Upstream, code};
use serde_json::json;
use tower::{ServiceExt, service_fn, util::BoxCloneService};

use crate::{
    Boxed,
    common::{Client, demo::Demo, soon, tool},
};

/// Counts what is alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn among(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A stack that never answers `method`, and counts the requests that wait in it.
fn stuck_at(method: &'static str, alive: &Arc<AtomicUsize>) -> Boxed {
    let (inner, alive) = (Upstream::in_process(Demo::default()), alive.clone());
    BoxCloneService::new(service_fn(move |request: McpRequest| {
        let (inner, alive) = (inner.clone(), alive.clone());
        async move {
            if request.method() == method {
                let _held = (Alive::among(&alive), request);
                std::future::pending::<()>().await;
                unreachable!()
            }
            inner.oneshot(request).await
        }
    }))
}

async fn none(alive: &AtomicUsize) {
    soon("the end of what was alive", async {
        while alive.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_listen_that_nobody_acknowledges_ends_with_its_session() {
    let alive = Arc::default();
    let server = McpServer::new(stuck_at("subscriptions/listen", &alive));
    let client = Client::of(&server, "ann", ClientLifecycleMode::Initialize).await;
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    client.peer.cancel().await.unwrap();
    none(&alive).await;
}

#[tokio::test(start_paused = true)]
async fn a_listen_that_nobody_acknowledges_is_not_waited_for_without_end() {
    let alive = Arc::default();
    let stack = stuck_at("subscriptions/listen", &alive);
    let client = Client::legacy("ann", stack).await;
    let asked = client
        .peer
        .subscribe(SubscribeRequestParams::new("demo://a"));
    let answer = tokio::time::timeout(Duration::from_secs(90), asked).await;
    let Ok(Err(ServiceError::McpError(error))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(error.code, code::TIMEOUT);
}

#[tokio::test]
async fn a_sessions_notifications_are_bounded_and_end_with_it() {
    let alive = Arc::default();
    let client = Client::legacy("ann", stuck_at("notifications/roots/list_changed", &alive)).await;
    for _ in 0..1_000 {
        client.peer.notify_roots_list_changed().await.unwrap();
    }
    client.call(tool("add", json!({}))).await;
    let count = alive.load(Ordering::SeqCst);
    assert!(count > 0 && count <= 64, "{count}");
    client.peer.cancel().await.unwrap();
    none(&alive).await;
}
