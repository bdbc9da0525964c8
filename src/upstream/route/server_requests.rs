//! Requests of a server: the caller that each goes to, and the limits on those that wait for an
//! answer.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rmcp::model::{
    ClientResult, ErrorCode, ErrorData, Extensions, GetExtensions, RequestId, ServerNotification,
    ServerRequest,
};
use rmcp::service::{InboundStreamOrigin, OriginatingRequestId};
use tokio::sync::{mpsc, oneshot};

use super::{Mail, Order, Routes, Table};

/// Limit of requests of a server that wait for an answer by way of one call.
pub(in crate::upstream) const MAX_FOR_ONE: usize = 64;
/// Limit of requests of a server that wait on one connection.
const MAX_ON_CONNECTION: usize = 1_024;
/// Limit of requests that wait until the connection's only caller can be reached.
const MAX_HELD: usize = 16;
/// Limit of the time that they wait.
const HELD_FOR: Duration = Duration::from_secs(60);
/// Limit of notifications that wait for the only caller.
const MAX_HELD_NOTIFICATIONS: usize = 64;

/// The number of requests of the server that wait for an answer.
#[derive(Default)]
pub(in crate::upstream) struct Questions(usize);

/// Messages that name no call, and came while the connection's only caller could not be reached.
#[derive(Default)]
pub(in crate::upstream) struct Held {
    pub(in crate::upstream) notifications: VecDeque<ServerNotification>,
    questions: VecDeque<oneshot::Sender<Reached>>,
}

impl Held {
    pub(in crate::upstream) fn is_empty(&self) -> bool {
        self.notifications.is_empty() && self.questions.is_empty()
    }

    /// Keeps a notification. Returns `false` if there is no room.
    pub(in crate::upstream) fn keep(&mut self, notification: ServerNotification) -> bool {
        let room = self.notifications.len() < MAX_HELD_NOTIFICATIONS;
        if room {
            self.notifications.push_back(notification);
        }
        room
    }

    fn hold(&mut self) -> Option<oneshot::Receiver<Reached>> {
        self.questions.retain(|waiting| !waiting.is_closed());
        let (sender, receiver) = oneshot::channel();
        (self.questions.len() < MAX_HELD).then(|| {
            self.questions.push_back(sender);
            receiver
        })
    }
}

/// The call or the listen at which a question is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum At {
    Connection,
    Call(RequestId),
    Listener(Order),
}

/// A question's place among those that may wait. Dropping it makes room for another.
pub(in crate::upstream) struct Place {
    routes: Arc<Routes>,
    at: At,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.routes.table();
        match &self.at {
            At::Connection => table.questions.0 = table.questions.0.saturating_sub(1),
            at => {
                if let Some(route) = table.route_at(at) {
                    route.let_go_of_question();
                }
            }
        }
    }
}

/// A caller's mailbox, and the question's place at it.
pub(in crate::upstream) struct Reached {
    mail: mpsc::Sender<Mail>,
    _place: Place,
}

enum Target {
    Reached(Reached),
    /// The connection's only caller, once it can be reached.
    OnlyCaller(oneshot::Receiver<Reached>),
}

/// A question that may be asked.
pub(in crate::upstream) struct Admission {
    target: Target,
    /// `true` if the transport says which call it belongs to.
    names_call: bool,
    _place: Place,
}

/// Returns the call that a message belongs to, if the transport says so.
fn named_call(extensions: &Extensions) -> Option<RequestId> {
    if let Some(InboundStreamOrigin::OutboundRequest(id)) = extensions.get() {
        return Some(id.clone());
    }
    let origin = extensions.get::<OriginatingRequestId>();
    origin.map(|origin| origin.0.clone())
}

impl Routes {
    /// Finds the caller that a request of the server is for.
    ///
    /// # Errors
    ///
    /// Returns the error for the server if there is no such caller, if there are several, or if
    /// there is no room.
    pub(in crate::upstream) fn admit(
        self: &Arc<Self>,
        request: &ServerRequest,
    ) -> Result<Admission, ErrorData> {
        let named = named_call(request.extensions());
        let names_call = named.is_some();
        let mut table = self.table();
        if table.questions.0 >= MAX_ON_CONNECTION {
            return Err(too_many(MAX_ON_CONNECTION, "on this connection"));
        }
        let found = match named {
            Some(id) => table.admit_to_call(id).map(Some),
            None => table.admit_to_only_caller(),
        };
        let target = match found? {
            Some((mail, at)) => Target::Reached(self.reached(mail, at)),
            None => Target::OnlyCaller(table.held.hold().ok_or_else(|| {
                too_many(MAX_HELD, "until the session of this connection has begun")
            })?),
        };
        table.questions.0 += 1;
        Ok(Admission {
            target,
            names_call,
            _place: self.place(At::Connection),
        })
    }

    fn place(self: &Arc<Self>, at: At) -> Place {
        Place {
            routes: self.clone(),
            at,
        }
    }

    pub(in crate::upstream) fn reached(
        self: &Arc<Self>,
        mail: mpsc::Sender<Mail>,
        at: At,
    ) -> Reached {
        Reached {
            mail,
            _place: self.place(at),
        }
    }
}

impl Table {
    fn admit_to_call(&mut self, id: RequestId) -> Result<(mpsc::Sender<Mail>, At), ErrorData> {
        let at = At::Call(id);
        let route = self.route_at(&at).ok_or_else(call_has_ended)?;
        if !route.take_question() {
            return Err(too_many(MAX_FOR_ONE, "for one call"));
        }
        Ok((route.mail.clone(), at))
    }

    /// Returns the mailbox of the connection's only caller. Returns `None` if the caller cannot be
    /// reached yet.
    fn admit_to_only_caller(&mut self) -> Result<Option<(mpsc::Sender<Mail>, At)>, ErrorData> {
        if self.callers.are_several() {
            return Err(several_callers());
        }
        let Some((at, route)) = self.asked() else {
            return Ok(None);
        };
        if !route.take_question() {
            return Err(too_many(MAX_FOR_ONE, "for one call"));
        }
        Ok(Some((route.mail.clone(), at)))
    }

    /// Assigns the held questions a place at the only caller.
    pub(in crate::upstream) fn hand_over_questions(
        &mut self,
    ) -> Vec<(oneshot::Sender<Reached>, mpsc::Sender<Mail>, At)> {
        let mut handed = Vec::new();
        while !self.held.questions.is_empty() {
            let Ok(Some((mail, at))) = self.admit_to_only_caller() else {
                break;
            };
            if let Some(waiting) = self.held.questions.pop_front() {
                handed.push((waiting, mail, at));
            }
        }
        handed
    }
}

impl Admission {
    /// Asks the question, and returns the caller's answer.
    pub(in crate::upstream) async fn ask(
        mut self,
        routes: &Arc<Routes>,
        mut request: ServerRequest,
    ) -> Result<ClientResult, ErrorData> {
        loop {
            let reached = match self.target {
                Target::Reached(reached) => reached,
                Target::OnlyCaller(waiting) => tokio::time::timeout(HELD_FOR, waiting)
                    .await
                    .map_err(|_| no_session())?
                    .map_err(|_| several_callers())?,
            };
            // A server asks for roots on its own account. So the request is not lost with the call
            // that it happened to come with.
            let again = match &request {
                ServerRequest::ListRootsRequest(_) if !self.names_call => Some(request.clone()),
                _ => None,
            };
            if let Some(answer) = reached.ask(request).await {
                return answer;
            }
            drop(reached);
            let Some(again) = again else {
                return Err(call_has_ended());
            };
            self = routes.admit(&again)?;
            request = again;
        }
    }
}

impl Reached {
    /// Puts a request into the mailbox, and returns the answer. Returns `None` if the call ends
    /// before the answer.
    async fn ask(&self, request: ServerRequest) -> Option<Result<ClientResult, ErrorData>> {
        let (reply, answer) = oneshot::channel();
        let mail = Mail::Request(Box::new(request), reply);
        self.mail.send(mail).await.ok()?;
        answer.await.ok()
    }
}

fn refuse(why: &str) -> ErrorData {
    ErrorData::invalid_request(format!("the request cannot be passed on: {why}"), None)
}

fn call_has_ended() -> ErrorData {
    refuse("its call has ended")
}

fn several_callers() -> ErrorData {
    refuse(
        "this connection has had several callers, and the transport does not say for which of them \
         the request is; give each session a connection of its own (a gateway member per session)",
    )
}

fn no_session() -> ErrorData {
    refuse("no session of a client has begun that it could be for")
}

fn too_many(limit: usize, which: &str) -> ErrorData {
    let message = format!(
        "the request cannot be passed on: {limit} requests wait for an answer {which}; wait for \
         those first"
    );
    ErrorData::new(ErrorCode::INVALID_REQUEST, message, None)
}
