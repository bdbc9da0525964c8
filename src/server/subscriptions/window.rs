//! Listens that rmcp has acknowledged before the stack receives them.

use std::sync::{Arc, Mutex, atomic::Ordering};

use rmcp::model::NotificationMetaObject;

use crate::{
    Caller,
    listen::{changes_in, with_subscription_id},
    server::Shared,
    util::lock,
};

/// The time window between the acknowledgement to a caller and the begin of the stack's listen. The
/// caller must also be notified of changes that other requests made in it.
pub(in crate::server) struct Window {
    shared: Arc<Shared>,
    since: Option<u64>,
}

impl Window {
    pub(super) fn new(shared: Arc<Shared>, since: Option<u64>) -> Self {
        Self { shared, since }
    }

    /// Returns `true` if a request in the window may have changed something.
    fn had_requests(&self) -> bool {
        self.since != Some(self.shared.dispatched.load(Ordering::Relaxed))
    }
}

/// Returns the caller for a listen that rmcp has already acknowledged.
pub(in crate::server) fn acknowledged(outer: Caller, window: Window) -> Caller {
    let window = Arc::new(Mutex::new(Some(window)));
    outer
        .refuse_requests()
        .take_acknowledgment(move |acknowledgment| {
            let (outer, window) = (outer.clone(), lock(&window).take());
            Box::pin(async move {
                if !window.is_some_and(|window| window.had_requests()) {
                    return Ok(());
                }
                let id = acknowledgment
                    .extensions
                    .get()
                    .and_then(NotificationMetaObject::subscription_id);
                for mut change in changes_in(&acknowledgment.params.notifications) {
                    if let Some(id) = &id {
                        change = with_subscription_id(change, id);
                    }
                    outer.notify(change).await?;
                }
                Ok(())
            })
        })
}
