//! The mailbox of a call: the messages of the server that wait for it.

use std::sync::{Arc, Mutex};

use rmcp::model::{ClientResult, ErrorData, ServerNotification, ServerRequest};
use tokio::sync::{mpsc, oneshot};

use super::{CompletedCall, response_streams::StreamState, server_requests::MAX_PER_CALL};
use crate::{
    Caller,
    lines::LineError,
    upstream::stats::UpstreamCounters,
    util::lock,
    wire::answers::{Expected, ReadAnswer},
};

/// Limit of messages that wait for one call. A caller that takes them slower than the server sends
/// loses the newest progress and log messages. A listen that falls so far behind ends with an
/// error.
const MAILBOX_CAPACITY: usize = 4_096;

/// A message of the server to a call, besides its answer.
pub(in crate::upstream) enum CallMessage {
    Notification(Box<ServerNotification>),
    Request(Box<ServerRequest>, Reply),
    /// The caller's answer to a request of the server has not reached the server, which may wait
    /// for it.
    ReplyLost(String),
}

/// The sender for the answer to a request of the server.
pub(in crate::upstream) type Reply = oneshot::Sender<Result<ClientResult, ErrorData>>;

pub(in crate::upstream) type Mailbox = mpsc::Receiver<CallMessage>;

/// The answer to a request that rmcp's client loop does not know.
pub(in crate::upstream) type RoutedAnswer = Result<Box<ReadAnswer>, ErrorData>;

/// The mailbox of a call.
pub(in crate::upstream) struct Route {
    pub(super) sender: mpsc::Sender<CallMessage>,
    pub(super) listens: bool,
    /// `true` for a request that is quickly done, and whose server asks nothing.
    pub(super) is_quick: bool,
    /// `true` if the call takes only messages that name it.
    pub(super) quiet: bool,
    pub(super) answered: bool,
    /// The reason why the answer cannot be read, if it cannot.
    pub(super) unreadable: Option<LineError>,
    /// The receiver of the answer, if rmcp's client loop is not to have it.
    pub(super) answer: Option<oneshot::Sender<RoutedAnswer>>,
    /// The result type of the call.
    pub(super) expected: Option<Expected>,
    /// The number of requests of the server that wait for an answer by way of this call.
    pub(super) pending_requests: usize,
    pub(super) stream: StreamState,
}

impl Route {
    pub(in crate::upstream) fn new(caller: &Caller, listens: bool) -> (Self, Mailbox) {
        let (sender, mailbox) = mpsc::channel(MAILBOX_CAPACITY);
        (
            Self {
                sender,
                listens,
                is_quick: false,
                quiet: caller.is_quiet(),
                answered: false,
                unreadable: None,
                answer: None,
                expected: None,
                pending_requests: 0,
                stream: StreamState::default(),
            },
            mailbox,
        )
    }

    /// Sets whether the request is quickly done, so that its server asks nothing.
    pub(in crate::upstream) fn quick(mut self, is_quick: bool) -> Self {
        self.is_quick = is_quick;
        self
    }

    /// Sets the result type of the request.
    pub(in crate::upstream) fn expects(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    /// Keeps the answer from rmcp's client loop, and returns its receiver.
    pub(in crate::upstream) fn take_answer(&mut self) -> oneshot::Receiver<RoutedAnswer> {
        let (sender, answer) = oneshot::channel();
        self.answer = Some(sender);
        answer
    }

    /// Returns the outcome of the call, which has been answered.
    pub(super) fn completed(self) -> CompletedCall {
        CompletedCall {
            answer: self.stream.into_answer(),
            unreadable: self.unreadable,
        }
    }

    /// Returns `true` if messages that name no call may go to this one.
    pub(super) fn accepts_unattributed(&self) -> bool {
        !self.quiet && !self.sender.is_closed()
    }

    /// Counts one more request. Returns `false` if too many wait for an answer.
    pub(super) fn acquire_permit(&mut self) -> bool {
        let takes = self.pending_requests < MAX_PER_CALL;
        self.pending_requests += usize::from(takes);
        takes
    }

    pub(super) fn release_permit(&mut self) {
        self.pending_requests = self.pending_requests.saturating_sub(1);
    }
}

/// The route of a request on its way through rmcp, until the request's id is known.
#[derive(Clone)]
pub(in crate::upstream) struct RouteMark(Arc<Mutex<Option<Route>>>);

impl RouteMark {
    pub(in crate::upstream) fn new(route: Route) -> Self {
        Self(Arc::new(Mutex::new(Some(route))))
    }

    pub(super) fn take(&self) -> Option<Route> {
        lock(&self.0).take()
    }
}

/// Puts a notification into a mailbox, if there is room.
pub(super) fn send_or_drop(
    sender: &mpsc::Sender<CallMessage>,
    notification: ServerNotification,
    counters: &UpstreamCounters,
) -> bool {
    let posted = sender.try_send(CallMessage::Notification(Box::new(notification)));
    if let Err(mpsc::error::TrySendError::Full(_)) = &posted {
        counters.overflowed();
    }
    posted.is_ok()
}
