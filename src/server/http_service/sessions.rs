use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use http::HeaderValue;
use rmcp::model::RequestId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{direct::DirectCalls, util::lock};

/// The time after which a request of a session goes by rmcp, which ends sessions that are idle.
const RMCP_INTERVAL: Duration = Duration::from_secs(1);

/// The minimum number of sessions at which ended ones are removed.
const SWEEP_AT: usize = 64;

/// The sessions whose calls may be served directly.
#[derive(Default)]
pub(super) struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    sessions: HashMap<HeaderValue, Arc<DirectSession>>,
    sweep_at: usize,
}

pub(super) struct DirectSession {
    calls: Weak<dyn DirectCalls>,
    /// The time of the last request that has gone by rmcp.
    by_rmcp: Mutex<Instant>,
    in_flight: Mutex<HashMap<RequestId, CancellationToken>>,
}

impl Sessions {
    /// Returns a session, if it has not ended.
    pub(super) fn get(&self, id: &HeaderValue) -> Option<Arc<DirectSession>> {
        lock(&self.0).sessions.get(id).cloned()
    }

    /// Removes a session that has ended. Calls in flight may keep its stack.
    pub(super) fn remove(&self, id: &HeaderValue) {
        lock(&self.0).sessions.remove(id);
    }

    pub(super) fn add(&self, id: HeaderValue, calls: &Arc<dyn DirectCalls>) {
        let mut table = lock(&self.0);
        if table.sessions.len() >= table.sweep_at {
            let is_open = |session: &DirectSession| session.calls.strong_count() > 0;
            table.sessions.retain(|_, session| is_open(session));
            table.sweep_at = (2 * table.sessions.len()).max(SWEEP_AT);
        }
        let session = DirectSession {
            calls: Arc::downgrade(calls),
            by_rmcp: Mutex::new(Instant::now()),
            in_flight: Mutex::default(),
        };
        table.sessions.insert(id, Arc::new(session));
    }
}

impl DirectSession {
    /// Returns the stack of the session, if rmcp need not see the next request.
    pub(super) fn calls(&self) -> Option<Arc<dyn DirectCalls>> {
        let calls = self.calls.upgrade()?;
        let now = Instant::now();
        let mut by_rmcp = lock(&self.by_rmcp);
        if now.saturating_duration_since(*by_rmcp) >= RMCP_INTERVAL {
            *by_rmcp = now;
            return None;
        }
        Some(calls)
    }

    /// Returns `true` if the session has ended.
    pub(super) fn is_over(&self) -> bool {
        self.calls.strong_count() == 0
    }

    /// Enters a call until the guard is dropped. Returns `None` if another call has its id.
    pub(super) fn enter(
        self: Arc<Self>,
        id: &RequestId,
        cancellation: &CancellationToken,
    ) -> Option<CallInFlight> {
        match lock(&self.in_flight).entry(id.clone()) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(entry) => entry.insert(cancellation.clone()),
        };
        Some(CallInFlight {
            session: self,
            id: id.clone(),
        })
    }

    pub(super) fn cancel(&self, id: &RequestId) {
        if let Some(call) = lock(&self.in_flight).get(id) {
            call.cancel();
        }
    }
}

/// A call that rmcp does not know.
pub(super) struct CallInFlight {
    session: Arc<DirectSession>,
    id: RequestId,
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        lock(&self.session.in_flight).remove(&self.id);
    }
}
