use std::{
    sync::{
        OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::task::AtomicWaker;
use rmcp::{RoleServer, service::Peer};
use tokio::sync::Notify;

use crate::util::shared_delay::{Delayed, SharedDelay};

/// The handover of a call from its transport to rmcp.
///
/// Either side may be first: the call asks for it when it has a message for its caller, and waits
/// for rmcp's peer. The transport may hand over a call that has asked for nothing.
#[derive(Default)]
pub(crate) struct Handover {
    is_wanted: AtomicBool,
    /// The task of the transport.
    transport: AtomicWaker,
    /// The peer of the caller. `None`: the call has ended without a handover.
    peer: OnceLock<Option<Peer<RoleServer>>>,
    done: Notify,
}

impl Handover {
    /// Asks for the handover, and waits for it. Returns `None` if the caller cannot be reached any
    /// more.
    pub(crate) async fn peer(&self) -> Option<&Peer<RoleServer>> {
        loop {
            let done = self.done.notified();
            if let Some(peer) = self.peer.get() {
                return peer.as_ref();
            }
            self.want();
            done.await;
        }
    }

    /// Returns the peer, if the call has been handed over.
    pub(crate) fn peer_now(&self) -> Option<&Peer<RoleServer>> {
        self.peer.get()?.as_ref()
    }

    /// Asks for the handover.
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
        self.transport.wake();
    }

    /// Returns `true` once the handover is asked for. The task is woken by then.
    pub(super) fn poll_wanted(&self, context: &std::task::Context<'_>) -> bool {
        self.transport.register(context.waker());
        self.is_wanted.load(Ordering::Acquire)
    }

    pub(super) fn complete(&self, peer: Option<Peer<RoleServer>>) {
        if self.peer.set(peer).is_ok() {
            self.done.notify_waiters();
        }
    }
}

/// The limits of the time that calls have without rmcp.
pub(crate) type TimeLimits = SharedDelay<Weak<Handover>>;

impl Delayed for Weak<Handover> {
    /// Until then, a response over HTTP has no head.
    const DELAY: Duration = Duration::from_millis(100);

    fn has_ended(&mut self) -> bool {
        self.strong_count() == 0
    }

    fn end(self) {
        if let Some(call) = self.upgrade() {
            call.want();
        }
    }
}
