//! Answers that do not say which call they are for.

use rmcp::{
    RoleClient,
    model::{ErrorCode, ErrorData, JsonRpcMessage, RequestId},
    service::RxJsonRpcMessage,
};

use super::{
    Route, Routes,
    table::{Order, Table},
};
use crate::{code, lines::LineError, wire::answers::number_in};

/// The number of such answers, and the newest call they may be for.
///
/// Each answers one of the calls that were in flight when it came. The call is known once the
/// others have been answered: no call fails for another's answer, and none waits for an answer that
/// has come.
#[derive(Default)]
pub(super) struct UnattributedAnswers {
    count: usize,
    /// The newest call that one of the answers may be for, and the last answer.
    last: Option<(Order, UnattributedAnswer)>,
}

/// An answer that does not say which call it is for.
#[derive(Clone)]
pub(super) enum UnattributedAnswer {
    Unreadable(LineError),
    /// A JSON-RPC error without an `id`.
    Error(Box<ErrorData>),
}

impl UnattributedAnswer {
    /// Returns the error that rmcp gets in place of the answer. A call that finds an unreadable
    /// answer has an error text of its own.
    pub(super) fn into_error(self) -> ErrorData {
        match self {
            Self::Unreadable(why) => {
                let message = format!("the server's answer cannot be read: {why}");
                ErrorData::new(code::TRANSPORT, message, None)
            }
            Self::Error(error) => *error,
        }
    }
}

impl UnattributedAnswers {
    pub(super) fn add(&mut self, until: Order, answer: UnattributedAnswer) {
        self.count += 1;
        let answer = match answer {
            // The call of each is unknown, and its text may be meant for another caller.
            UnattributedAnswer::Error(_) if self.count > 1 => {
                UnattributedAnswer::Unreadable(LineError::NoMessage)
            }
            answer => answer,
        };
        self.last = Some((until, answer));
    }

    /// Returns the newest call that one of the answers may be for, and the last answer, if there
    /// are any.
    pub(super) fn until(&self) -> Option<(Order, UnattributedAnswer)> {
        self.last.clone()
    }

    /// Returns `true` if the calls that are still unanswered are the calls that these answers were
    /// for.
    ///
    /// `left` is the number of unanswered calls, including cancelled calls. `over` is `true` if all
    /// of them are cancelled.
    pub(super) fn settle(&mut self, left: Option<usize>, over: bool) -> bool {
        let known = left.is_some_and(|left| left <= self.count);
        if known || over {
            *self = Self::default();
        }
        known
    }
}

impl Routes {
    /// Records an answer that cannot be read: the answer to this request, or to one of those in
    /// flight if no request has such an id.
    pub(in crate::upstream) fn unreadable(&self, id: Option<RequestId>, why: LineError) {
        let id = id.as_ref().and_then(number_in).map(RequestId::Number);
        self.record_unattributed(id, UnattributedAnswer::Unreadable(why));
    }

    fn record_unattributed(&self, id: Option<RequestId>, answer: UnattributedAnswer) {
        let mut table = self.table();
        let handshake = table.handshake.as_ref().map(|(id, _)| id.clone());
        match id.or(handshake) {
            Some(id) => table.fail(id, answer),
            None => {
                let until = table.next;
                table.unattributed.add(until, answer);
                table.settle_unattributed();
            }
        }
    }

    /// Withholds an error that names no request, which rmcp would drop. It answers one of the
    /// requests in flight.
    ///
    /// "Method not found" is an exception: a server that has read the method has read the `id` too,
    /// and some servers answer notifications so. Before the handshake has been answered, no
    /// notification has been sent.
    pub(in crate::upstream) fn withhold_unattributed(
        &self,
        message: RxJsonRpcMessage<RoleClient>,
    ) -> Option<RxJsonRpcMessage<RoleClient>> {
        match message {
            JsonRpcMessage::Error(error) if error.id.as_ref().and_then(number_in).is_none() => {
                let declines = error.error.code == ErrorCode::METHOD_NOT_FOUND;
                if declines && self.table().handshake.is_none() {
                    tracing::debug!("an error that names no request is taken for no answer");
                } else {
                    self.record_unattributed(
                        None,
                        UnattributedAnswer::Error(Box::new(error.error)),
                    );
                }
                None
            }
            message => Some(message),
        }
    }

    /// Returns the answer to a request that has failed, for rmcp.
    pub(in crate::upstream) fn next_failed(&self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let (id, answer) = self.table().failed.pop_front()?;
        Some(JsonRpcMessage::error(answer.into_error(), Some(id)))
    }
}

impl Table {
    /// Fails a call by an answer that rmcp has not seen.
    fn fail(&mut self, id: RequestId, answer: UnattributedAnswer) {
        match (self.routes.get_mut(&id), &answer) {
            (Some((_, route)), _) if route.answered => return,
            (Some((_, route)), UnattributedAnswer::Unreadable(why)) => {
                route.unreadable = Some(*why)
            }
            (Some(_), UnattributedAnswer::Error(_)) => {}
            (None, _) if self.handshake.as_ref().is_some_and(|(own, _)| *own == id) => {}
            (None, _) => {
                self.abandoned.remove(&id);
                return;
            }
        }
        self.failed.push_back((id, answer));
    }

    /// Fails the calls that answers without an `id` must have been for, once only as many calls are
    /// left as there are such answers. A listen is answered when it ends, so it does not count.
    pub(super) fn settle_unattributed(&mut self) {
        let Some((until, answer)) = self.unattributed.until() else {
            return;
        };
        self.abandoned.expire();
        let may_be_answered = |route: &Route| {
            let here = !self.has_responses || route.stream.is_accepted;
            here && !route.listens && !route.answered
        };
        let mut unanswered: Vec<_> = self
            .routes
            .iter()
            .filter(|(_, (order, route))| *order <= until && may_be_answered(route))
            .map(|(id, _)| id.clone())
            .collect();
        let left = self.abandoned.len().map(|gone| gone + unanswered.len());
        if !self.unattributed.settle(left, unanswered.is_empty()) {
            return;
        }
        for id in unanswered.drain(..) {
            self.fail(id, answer.clone());
        }
    }
}
