//! The stream of a session, and the end of a connection without it.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, stream};
use rmcp::{
    RoleClient,
    model::{ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{Transport, common::client_side_sse::BoxedSseResponse},
};
use sse_stream::Sse;
use tokio::sync::watch;
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::{
    answer::{self, for_rmcp, is_heartbeat, put_back, take_text},
    client::RESUME_ATTEMPTS,
    event_stream::too_long,
};
use crate::{
    lines::LineError,
    upstream::route::Routes,
    util::lock,
    wire::{
        as_sent,
        envelope::{Envelope, Outcome},
    },
};

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

/// Returns the events of a stream that carries messages of any call, for rmcp's client.
/// Notifications have gone to their calls, and the results of calls go around rmcp.
///
/// An event that cannot be read becomes an error that names no request: it answers one of the calls
/// that wait for an answer on this stream.
pub(super) fn session_events(stream: BoxedSseResponse, routes: Arc<Routes>) -> BoxedSseResponse {
    let events = stream.flat_map(move |event| {
        let events = match event {
            Ok(event) => vec![Ok(read(event, &routes))],
            Err(error) => match too_long(&error) {
                Some(why) => {
                    let mut event = Sse::default();
                    replace(&mut event, None, answer::unreadable(why));
                    vec![Ok(event), Err(error)]
                }
                None => vec![Err(error)],
            },
        };
        stream::iter(events)
    });
    events.boxed()
}

fn read(mut event: Sse, routes: &Routes) -> Sse {
    let Some(text) = take_text(&mut event) else {
        return event;
    };
    let envelope = match Envelope::of(&text) {
        Ok(envelope) => envelope,
        Err(error) => {
            if !error.is_data() && !is_heartbeat(&text) {
                replace(
                    &mut event,
                    None,
                    answer::unreadable(LineError::from(&error)),
                );
            }
            return event;
        }
    };
    if !envelope.is_answer() {
        let message = envelope.other_in(&text);
        read_other(&mut event, text.clone(), message.ok(), routes);
        return event;
    }
    let expected = envelope
        .id()
        .and_then(|id| Some((routes.expected(&id)?, id)));
    match (envelope.outcome(), expected) {
        (Some(Outcome::Result(result)), Some((expected, id))) => {
            match expected.answer_in(&text, result) {
                Ok(answer) => {
                    let answer = for_rmcp(id, Ok(Box::new(answer)), Some(routes));
                    event.data = serde_json::to_string(&answer).ok();
                }
                Err(error) => {
                    let why = answer::unreadable(LineError::from(&error));
                    replace(&mut event, Some(id), why);
                }
            }
        }
        (None, Some((_, id))) => {
            replace(
                &mut event,
                Some(id),
                answer::unreadable(LineError::NoMessage),
            );
        }
        _ => put_back(&mut event, text),
    }
    event
}

fn read_other(
    event: &mut Sse,
    text: Bytes,
    message: Option<ServerJsonRpcMessage>,
    routes: &Routes,
) {
    let Some(message) = message else {
        return;
    };
    if let JsonRpcMessage::Notification(message) = message {
        if routes.deliver(message.notification).is_some() {
            put_back(event, text);
        }
    } else {
        event.data = as_sent::text_for_rmcp(message, text);
    }
}

/// Puts an error in the place of an event's message.
fn replace(event: &mut Sse, id: Option<RequestId>, error: ErrorData) {
    let message = ServerJsonRpcMessage::error(error, id);
    event.data = serde_json::to_string(&message).ok();
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
