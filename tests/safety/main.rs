//! What keeps callers apart, ends in time, and stays unsaid, whatever a server or another caller does.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod cancelled;
mod errors;
mod fairness;
mod hops;
mod http;
mod limits;
mod panics;
mod raw;
mod sessions;

use std::io;

use common::{pipe_to, soon};
use rmcp::{ErrorData, RoleServer, Service, model::*};
use rmcp_layers::{Lifecycle, Upstream};
use tokio::sync::watch;

/// What has happened, for tests and servers to wait on. Clones are the same.
#[derive(Clone, Default)]
struct Events(watch::Sender<Vec<String>>);

impl Events {
    fn note(&self, event: impl Into<String>) {
        self.0.send_modify(|events| events.push(event.into()));
    }

    fn count(&self, event: &str) -> usize {
        let events = self.0.borrow();
        events.iter().filter(|noted| *noted == event).count()
    }

    async fn until(&self, event: &str) {
        self.until_times(event, 1).await;
    }

    async fn until_times(&self, event: &str, times: usize) {
        let mut events = self.0.subscribe();
        let enough = |events: &Vec<String>| {
            let noted = events.iter().filter(|noted| *noted == event);
            noted.count() >= times
        };
        soon(event, events.wait_for(enough)).await.unwrap();
    }
}

/// An upstream over a pipe to a server of an older revision.
fn older<S: Service<RoleServer> + Clone>(server: S) -> Upstream {
    let builder = Upstream::builder().lifecycle(Lifecycle::Initialize);
    builder.transport(move || {
        let near = pipe_to(server.clone());
        async move { Ok::<_, io::Error>(near) }
    })
}

fn finished(text: &str) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn question() -> CreateMessageRequestParams {
    CreateMessageRequestParams::new(vec![SamplingMessage::user_text("Who are you?")], 10)
}
