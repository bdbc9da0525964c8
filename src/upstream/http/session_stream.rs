//! The stream of a session, and the end of a connection without it.

use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client::RESUME_ATTEMPTS;

use crate::util::lock;

/// The stream of a session for messages that belong to no request.
///
/// rmcp goes on when the stream is gone, and then no caller would hear of changes any more.
pub(super) struct SessionStream {
    /// The id of the last event on the stream, and the number of failed attempts in a row to resume
    /// after it.
    last: Mutex<(Option<String>, usize)>,
    /// The event before one that cannot be read. rmcp would resume the stream after it again and
    /// again.
    unreadable_after: Mutex<Option<String>>,
    /// `true` if the server has accepted requests that it is to answer on this stream.
    owes_answers: AtomicBool,
    state: watch::Sender<State>,
    /// Cancelled when the stream is gone.
    pub(super) gone: CancellationToken,
}

/// The state of the session's stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The server has not said yet.
    Unknown,
    Open,
    None,
}

impl SessionStream {
    pub(super) fn new(gone: CancellationToken) -> Self {
        Self {
            last: Mutex::default(),
            unreadable_after: Mutex::default(),
            owes_answers: AtomicBool::new(false),
            state: watch::Sender::new(State::Unknown),
            gone,
        }
    }

    /// Returns `true` if a stream that begins after this event is the session's. Events of two
    /// streams have different ids (MCP 2025-11-25, basic/transports, resumability).
    pub(super) fn is_mine(&self, after: Option<&str>) -> bool {
        let last = lock(&self.last);
        after.is_none() || last.0.as_deref() == after
    }

    pub(super) fn record_event(&self, id: &str) {
        let mut last = lock(&self.last);
        *last = (Some(id.to_owned()), 0);
    }

    pub(super) fn record_open(&self) {
        self.state.send_replace(State::Open);
    }

    /// Records a failed attempt to open the stream. `for_good` is `true` if no other attempt
    /// follows.
    pub(super) fn record_failure(&self, for_good: bool) {
        let mut last = lock(&self.last);
        last.1 += 1;
        let tried = last.1 >= RESUME_ATTEMPTS;
        let given_up = tried || for_good;
        if (last.0.is_some() && tried) || (given_up && self.owes_answers.load(Ordering::Relaxed)) {
            self.gone.cancel();
        }
        // If the first attempt fails, no other attempt follows.
        self.state.send_if_modified(|state| {
            let ends = given_up || *state == State::Unknown;
            ends && std::mem::replace(state, State::None) != State::None
        });
    }

    /// Waits until it is known whether the stream is open, and returns it. An open stream owes
    /// answers from now on.
    pub(super) async fn expect_answers(&self) -> bool {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| *state != State::Unknown).await;
        let open = known.is_ok_and(|state| *state == State::Open);
        self.owes_answers.fetch_or(open, Ordering::Relaxed);
        open
    }

    pub(super) fn unreadable(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.unreadable_after)
    }

    pub(super) fn can_be_read_after(&self, id: Option<&str>) -> bool {
        id.is_none() || self.unreadable().as_deref() != id
    }
}

/// A transport that ends when the session's own stream is gone.
pub(super) struct UntilGone<T> {
    pub(super) transport: T,
    pub(super) gone: CancellationToken,
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for UntilGone<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        self.transport.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        tokio::select! {
            biased;
            message = self.transport.receive() => message,
            () = self.gone.cancelled() => None,
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), T::Error>> + Send {
        self.transport.close()
    }
}
