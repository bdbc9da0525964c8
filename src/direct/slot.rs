use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rmcp::model::Extensions;

use super::DirectCalls;

/// The place where the server of a connection makes its stack known to the transport, in the
/// extensions of a message.
#[derive(Clone)]
pub(crate) struct DirectSlot(Arc<Registration>);

struct Registration {
    /// A server has seen the message. A server further down, in this process, sees the same
    /// extensions.
    is_taken: AtomicBool,
    register: Box<dyn Fn(Arc<dyn DirectCalls>) + Send + Sync>,
}

impl DirectSlot {
    pub(crate) fn new(register: impl Fn(Arc<dyn DirectCalls>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Registration {
            is_taken: AtomicBool::new(false),
            register: Box::new(register),
        }))
    }

    /// Makes a stack known to the transport that a message came from.
    pub(crate) fn register(extensions: &Extensions, calls: impl FnOnce() -> Arc<dyn DirectCalls>) {
        let slot = extensions.get::<Self>().or_else(|| {
            let head = extensions.get::<http::request::Parts>()?;
            head.extensions.get::<Self>()
        });
        if let Some(Self(slot)) = slot
            && !slot.is_taken.swap(true, Ordering::Relaxed)
        {
            (slot.register)(calls());
        }
    }
}

impl fmt::Debug for DirectSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectSlot").finish_non_exhaustive()
    }
}
