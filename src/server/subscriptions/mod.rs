//! Change notifications of a session: one `subscriptions/listen` for a caller that only knows
//! `resources/subscribe`.

mod session;
mod session_peer;
mod window;

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use rmcp::{
    RoleServer,
    model::{ErrorData, Extensions},
    service::{Peer, RequestContext},
};
use tokio::sync::{mpsc, oneshot, watch};

pub(super) use self::window::acknowledged;
use self::{session::SessionListen, session_peer::SessionPeer, window::Window};
use super::{McpServer, Shared, handle::closing};
use crate::{Caller, Error, Stack, util::lock};

/// The maximum number of subscribe and unsubscribe requests that wait for the session's listen.
const PENDING_COMMANDS: usize = 64;
/// The time that a handshake waits for the session's listen to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);

/// The open subscriptions of a session.
#[derive(Default)]
pub(super) struct Subscriptions {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    /// The request count before the oldest acknowledgement whose listen has not begun.
    acknowledging: Mutex<Option<u64>>,
    /// `true` once the session's caller has finished its handshake.
    initialized: watch::Sender<bool>,
}

impl Subscriptions {
    /// Records that rmcp is about to acknowledge a listen before the stack receives it.
    pub(super) fn open_window(&self, shared: &Shared) {
        let mut oldest = lock(&self.acknowledging);
        oldest.get_or_insert_with(|| shared.dispatched.load(Ordering::Relaxed));
    }

    /// Returns the time window since that acknowledgement, and closes it.
    pub(super) fn take_window(&self, shared: &Arc<Shared>) -> Window {
        let since = lock(&self.acknowledging).take();
        Window::new(shared.clone(), since)
    }
}

struct Command {
    uri: String,
    subscribe: bool,
    extensions: Extensions,
    reply: oneshot::Sender<Option<Result<(), ErrorData>>>,
}

impl<S: Stack> McpServer<S> {
    /// Opens the session's listen for the list changes that the stack announces. It waits briefly
    /// for the listen to begin, so that the session misses no change.
    pub(super) async fn open_session_listen(&self, peer: Peer<RoleServer>, extensions: Extensions) {
        let Some(config) = super::lock(&self.description).config.clone() else {
            return;
        };
        let (sender, commands) = mpsc::channel(PENDING_COMMANDS);
        *lock(&self.subscriptions.commands) = Some(sender);
        let actor = SessionListen::new(
            self.connection.stack(),
            SessionPeer::new(
                Caller::from_peer(peer).in_form_of(&extensions),
                self.subscriptions.initialized.subscribe(),
            ),
            Arc::downgrade(&self.connection.session),
            extensions,
            &config.capabilities,
        );
        let (begun, begins) = oneshot::channel();
        let closed = self.connection.session.closed().clone();
        tokio::spawn(async move { closed.run_until_cancelled(actor.run(commands, begun)).await });
        let _ = tokio::time::timeout(BEGIN_WITHIN, begins).await;
    }

    /// Records that the session's caller has finished its handshake and may be notified.
    pub(super) fn session_initialized(&self) {
        self.subscriptions.initialized.send_replace(true);
    }

    /// Subscribes the session. Returns `None` if the stack does not support listens, or if there is
    /// no session to notify.
    pub(super) async fn subscribe_session(
        &self,
        uri: String,
        context: &RequestContext<RoleServer>,
    ) -> Option<Result<(), ErrorData>> {
        self.command(uri, true, context).await
    }

    pub(super) async fn unsubscribe_session(
        &self,
        uri: String,
        context: &RequestContext<RoleServer>,
    ) -> Option<Result<(), ErrorData>> {
        self.command(uri, false, context).await
    }

    async fn command(
        &self,
        uri: String,
        subscribe: bool,
        context: &RequestContext<RoleServer>,
    ) -> Option<Result<(), ErrorData>> {
        let commands = lock(&self.subscriptions.commands).clone()?;
        let Some(_in_flight) = self.connection.shared.in_flight.enter_call() else {
            return Some(Err(Error::from(closing()).into()));
        };
        let (reply, answer) = oneshot::channel();
        let extensions = context.extensions.clone();
        commands
            .send(Command {
                uri,
                subscribe,
                extensions,
                reply,
            })
            .await
            .ok()?;
        answer.await.ok().flatten()
    }
}
