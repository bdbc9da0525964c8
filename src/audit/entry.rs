use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rmcp::model::JsonObject;
use tokio::time::Instant;

use super::{
    AuditRecord, Decided, Ended, arguments,
    log::Shared,
    queue::Place,
    record::{self, MAX_SHORT, MAX_TEXT, Who},
};
use crate::{
    Error, Item, McpRequest, McpResponse, Outcome, Principal, ServedBy, Visibility,
    auth::AuthError, code, protocol,
};

/// The decision on a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'a> {
    /// The request goes on.
    Allowed,
    /// The principal may not make this request, or the request cannot be decided on. Contains the
    /// reason.
    Denied(&'a str),
    /// The caller is unknown. Contains the reason.
    Unauthenticated(&'a str),
}

/// The pending record of one call. If it is dropped before [`end`](Self::end), the record says that
/// the call was cancelled or panicked.
pub(crate) struct Entry {
    shared: Arc<Shared>,
    record: AuditRecord,
    since: Instant,
    /// The reserved places in the queues, once there are any.
    places: Vec<Place>,
    /// Arguments that are too large to be hashed on this worker.
    large: Option<JsonObject>,
    served_by: ServedBy,
    called: Arc<Called>,
    /// `true` while the call is being polled: a drop in this state is caused by a panic.
    polled: bool,
    written: bool,
}

/// The outward name of the tool that was called in the end, if an inner layer made that call from
/// another one.
#[derive(Default)]
struct Called(Mutex<Option<String>>);

impl Called {
    fn name(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visibility for Called {
    fn sees(&self, _item: Item<'_>) -> bool {
        true
    }

    fn admits(&self, tool: &str, _call: &McpRequest) -> Result<(), Error> {
        *self.name() = Some(record::cut(tool, MAX_TEXT));
        Ok(())
    }
}

/// Creates a record with only these fields filled in.
pub(super) fn blank(method: String, decision: Decided, time: SystemTime) -> AuditRecord {
    AuditRecord {
        time,
        request_id: None,
        principal: None,
        method,
        name: None,
        upstream: None,
        decision,
        reason: None,
        ended: Ended::With(Outcome::Cancelled),
        code: None,
        http_status: None,
        duration: Duration::ZERO,
        argument_hash: None,
        arguments: None,
    }
}

impl Entry {
    pub(super) fn new(shared: Arc<Shared>, request: &mut McpRequest) -> Self {
        let method = record::cut(request.method(), MAX_SHORT);
        let mut record = blank(method, Decided::Undecided, SystemTime::now());
        record.request_id = Some(record::bounded_id(&request.context.id));
        let unreadable = protocol::unreadable(request);
        let name = request
            .called_tool()
            .or_else(|| request.target())
            .or_else(|| unreadable.as_ref()?.target());
        record.name = name.map(|name| record::cut(name, MAX_TEXT));
        let mut large = None;
        if let Some(arguments) = arguments::of(&request.message) {
            record.arguments = shared.keep.as_ref().map(|rules| rules.keep(arguments));
            if shared.hash && arguments::are_large(arguments) {
                large = Some(arguments.clone());
            } else if shared.hash {
                record.argument_hash = arguments::hash(arguments);
            }
        }
        let served_by = ServedBy::slot(&mut request.context.extensions);
        let called = Arc::new(Called::default());
        if request.as_tool_call().is_some() {
            request.context.note_calls(called.clone());
        }
        Self {
            called,
            shared,
            record,
            since: Instant::now(),
            places: Vec::new(),
            large,
            served_by,
            polled: false,
            written: false,
        }
    }

    /// Records the decision, and the principal that it was about.
    pub(crate) fn decided(&mut self, principal: Option<&Principal>, verdict: Verdict<'_>) {
        let (decision, reason) = match verdict {
            Verdict::Allowed => (Decided::Allowed, None),
            Verdict::Denied(reason) => (Decided::Denied, Some(reason)),
            Verdict::Unauthenticated(reason) => (Decided::Unauthenticated, Some(reason)),
        };
        self.record.decision = decision;
        self.record.principal = principal.map(Who::of);
        self.record.reason = reason.map(|reason| record::cut(reason, MAX_TEXT));
    }

    /// Polls a future and marks the entry as polled meanwhile.
    pub(crate) async fn during<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.polled = true;
            let polled = future.as_mut().poll(cx);
            self.polled = false;
            polled
        })
        .await
    }

    /// Waits until there is room for the record, if the operator chose so. An error refuses the
    /// call, because it cannot be recorded and the operator chose to refuse such calls.
    pub(crate) async fn admitted(&mut self) -> Result<(), Error> {
        let mut places = Vec::with_capacity(self.shared.queues.len());
        for queue in &self.shared.queues {
            match queue.take().await {
                Ok(place) => places.push(place),
                // A request that is already refused is not refused again for lack of room.
                Err(_) if self.record.decision != Decided::Allowed => places.push(Place::None),
                Err(error) => {
                    self.places = places;
                    self.record.decision = Decided::Undecided;
                    self.record.reason = Some("there is no room to put it on record".to_owned());
                    self.finish(&Err(error.clone()));
                    return Err(error);
                }
            }
        }
        self.places = places;
        if let Some(arguments) = self.large.take() {
            let hashed = tokio::task::spawn_blocking(move || arguments::hash(&arguments));
            self.record.argument_hash = hashed.await.ok().flatten();
        }
        Ok(())
    }

    /// Runs the call and records its result.
    pub(crate) async fn watch<F, E>(
        mut self,
        call: impl FnOnce() -> F,
    ) -> Result<McpResponse, Error>
    where
        F: Future<Output = Result<McpResponse, E>>,
        E: Into<Error>,
    {
        let answer = self.during_call(call).await;
        self.end(&answer);
        answer
    }

    /// Runs the call.
    pub(crate) async fn during_call<F, E>(
        &mut self,
        call: impl FnOnce() -> F,
    ) -> Result<McpResponse, Error>
    where
        F: Future<Output = Result<McpResponse, E>>,
        E: Into<Error>,
    {
        self.polled = true;
        let call = call();
        self.polled = false;
        self.during(call).await.map_err(Into::into)
    }

    /// Records that the call was denied after the request had been let through: the tool that it
    /// calls in the end is forbidden.
    pub(crate) fn denied(&mut self, error: &AuthError) {
        self.record.decision = Decided::Denied;
        self.record.reason = Some(record::cut(error.reason(), MAX_TEXT));
    }

    /// Records the result of the call.
    pub(crate) fn end(mut self, answer: &Result<McpResponse, Error>) {
        self.finish(answer);
    }

    fn finish(&mut self, answer: &Result<McpResponse, Error>) {
        self.record.ended = Ended::With(Outcome::of(answer));
        match answer {
            Err(Error::Protocol(error)) => self.record.code = Some(error.code.0),
            Err(Error::Refused(refusal)) => {
                self.record.code = Some(refusal.code().0);
                // An inner auth layer decides too.
                if self.record.decision == Decided::Allowed && refusal.layer() == "auth" {
                    self.record.decision = match refusal.code() {
                        code::UNAUTHENTICATED => Decided::Unauthenticated,
                        code::FORBIDDEN => Decided::Denied,
                        _ => Decided::Allowed,
                    };
                }
            }
            Err(Error::Transport(error)) => {
                self.record.upstream = error.upstream().map(|name| record::cut(name, MAX_SHORT));
            }
            _ => {}
        }
        self.write();
    }

    fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        self.record.duration = self.since.elapsed();
        if let Some(called) = self.called.name().take() {
            self.record.name = Some(called);
        }
        if let Some(name) = self.served_by.name() {
            self.record.upstream = Some(record::cut(&name, MAX_SHORT));
        }
        let blank = blank(String::new(), Decided::Undecided, SystemTime::UNIX_EPOCH);
        let record = std::mem::replace(&mut self.record, blank);
        self.shared.write(record, std::mem::take(&mut self.places));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.polled {
            self.record.ended = Ended::Panicked;
        }
        self.write();
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}
