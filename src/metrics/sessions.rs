use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use ::metrics::Histogram;
use rmcp::model::ClientNotification;
use tokio::{runtime::Handle, time::Instant};

use super::{Side, convention::names};
use crate::{McpRequest, util::lock};

/// Limit of sessions that are measured at once. Further ones are not.
const MAX_SESSIONS: usize = 10_000;

/// The sessions of callers of revisions before 2026-07-28. Later revisions have no sessions.
pub(super) struct Sessions {
    /// `None` on the side of a client, whose requests have no session of their own.
    open: Option<Arc<Mutex<HashSet<u64>>>>,
}

impl Sessions {
    pub(super) fn new(side: Side) -> Self {
        let open = (side == Side::Server).then(Arc::default);
        Self { open }
    }

    /// Begins to measure a session, if this is the notification that ends its handshake. Its
    /// duration is recorded when it is closed.
    pub(super) fn begin(&self, request: &McpRequest) {
        let (Some(open), Some(ClientNotification::InitializedNotification(_))) =
            (&self.open, request.as_notification())
        else {
            return;
        };
        let caller = &request.context.caller;
        let (Some(session), Ok(runtime)) = (caller.session(), Handle::try_current()) else {
            return;
        };
        let id = session.id();
        let mut ids = lock(open);
        if ids.len() >= MAX_SESSIONS || !ids.insert(id) {
            return;
        }
        drop(ids);
        let version = request.context.protocol_version();
        let version = version.map_or_else(String::new, |version| version.as_str().to_owned());
        let (open, closed, since) = (open.clone(), session.closed().clone(), Instant::now());
        runtime.spawn(async move {
            closed.cancelled().await;
            lock(&open).remove(&id);
            histogram(&version).record(since.elapsed().as_secs_f64());
        });
    }
}

/// Returns the histogram of sessions of a revision. A handshake ends with a revision that the
/// server knows.
fn histogram(version: &str) -> Histogram {
    let name = names::SERVER_SESSION_DURATION;
    ::metrics::histogram!(name, "mcp.protocol.version" => version.to_owned())
}
