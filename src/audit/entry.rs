use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use rmcp::model::JsonObject;
use tokio::time::Instant;

use super::{
    AuditRecord,
    log::Shared,
    queue::Place,
    record::{AuditPrincipal, MAX_SHORT, MAX_TEXT},
};
use crate::{
    Decision, DecisionSlot, Ended, Error, Item, McpRequest, McpResponse, Outcome, ServedBy,
    Visibility, arguments, code,
    context::bounded_id,
    protocol::{Unreadable, methods},
    util::{lock, text::cut},
};

/// The pending record of one call. If it is dropped before [`end`](Self::end), the record says that
/// the call was cancelled or panicked.
pub(super) struct Entry {
    shared: Arc<Shared>,
    record: AuditRecord,
    since: Instant,
    /// The reserved places in the first queues.
    places: Vec<Place>,
    /// Arguments that are too large to be hashed on this worker.
    large: Option<JsonObject>,
    /// The reason why the request cannot be read, if so.
    unreadable: Option<Arc<Unreadable>>,
    decision: DecisionSlot,
    served_by: ServedBy,
    called: Arc<CalledTool>,
    /// `true` while the call is being polled: a drop in this state is caused by a panic.
    polled: bool,
    written: bool,
}

/// The outward name of the tool that was called in the end, if an inner layer made that call from
/// another one.
#[derive(Default)]
struct CalledTool(Mutex<Option<String>>);

impl CalledTool {
    fn name(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.0)
    }
}

impl Visibility for CalledTool {
    fn sees(&self, _item: Item<'_>) -> bool {
        true
    }

    fn admits(&self, tool: &str, _call: &McpRequest) -> Result<(), Error> {
        *self.name() = Some(cut(tool, MAX_TEXT));
        Ok(())
    }
}

/// Creates a record with only these fields filled in.
pub(super) fn blank(method: String, decision: Decision, time: SystemTime) -> AuditRecord {
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
    /// Begins the record of a call. `unreadable` is the reason why the request cannot be read, if
    /// so.
    pub(super) fn new(
        shared: Arc<Shared>,
        request: &mut McpRequest,
        unreadable: Option<Arc<Unreadable>>,
    ) -> Self {
        let method = cut(request.method(), MAX_SHORT);
        let mut record = blank(method, Decision::Undecided, SystemTime::now());
        record.request_id = Some(bounded_id(&request.context.id, MAX_SHORT));
        record.principal = request.context.principal().map(AuditPrincipal::of);
        let name = request
            .inner_tool()
            .or_else(|| request.target())
            .or_else(|| unreadable.as_ref()?.target());
        record.name = name.map(|name| cut(name, MAX_TEXT));
        let mut large = None;
        if let Some(arguments) = methods::arguments(&request.message).flatten() {
            record.arguments = shared.keep.as_ref().map(|rules| rules.keep(arguments));
            if shared.hash && arguments::are_large(arguments) {
                large = Some(arguments.clone());
            } else if shared.hash {
                record.argument_hash = arguments::hash(arguments);
            }
        }
        let called = Arc::new(CalledTool::default());
        if request.as_tool_call().is_some() {
            request.context.observe_inner_calls(called.clone());
        }
        let extensions = &mut request.context.extensions;
        Self {
            decision: DecisionSlot::slot(extensions),
            served_by: ServedBy::slot(extensions),
            called,
            shared,
            record,
            since: Instant::now(),
            places: Vec::new(),
            large,
            unreadable,
            polled: false,
            written: false,
        }
    }

    pub(super) fn is_of_unreadable(&self) -> bool {
        self.unreadable.is_some()
    }

    /// Reserves a place in each queue. Returns `None` if the call has to [wait](Self::reserve). An
    /// error refuses the call, because it cannot be recorded and the operator chose to refuse such
    /// calls.
    pub(super) fn try_reserve(&mut self) -> Option<Result<(), Error>> {
        while let Some(queue) = self.shared.queues.get(self.places.len()) {
            match queue.try_take()? {
                Ok(place) => self.places.push(place),
                Err(error) => return Some(Err(self.refuse(error))),
            }
        }
        self.large.is_none().then_some(Ok(()))
    }

    /// Waits for a place in each queue, as the operator chose, and for the hash of large arguments.
    pub(super) async fn reserve(&mut self) -> Result<(), Error> {
        while let Some(queue) = self.shared.queues.get(self.places.len()) {
            match queue.take().await {
                Ok(place) => self.places.push(place),
                Err(error) => return Err(self.refuse(error)),
            }
        }
        if let Some(arguments) = self.large.take() {
            let hashed = tokio::task::spawn_blocking(move || arguments::hash(&arguments));
            self.record.argument_hash = hashed.await.ok().flatten();
        }
        Ok(())
    }

    fn refuse(&mut self, error: Error) -> Error {
        self.record.reason = Some("there is no room to put it on record".to_owned());
        // A slot of an outer layer has what was decided further out.
        self.decision = DecisionSlot::default();
        self.set_end(&Err(error.clone()));
        self.write();
        error
    }

    /// Runs a step of the call, and marks the entry as polled meanwhile. From now on, the request
    /// counts as allowed until a layer states another decision, unless it cannot be read.
    pub(super) fn poll_call<T>(&mut self, step: impl FnOnce() -> T) -> T {
        if self.unreadable.is_none() {
            self.record.decision = Decision::Allowed;
        }
        self.polled = true;
        let polled = step();
        self.polled = false;
        polled
    }

    /// Records the answer of the call, and returns the one for the caller.
    pub(super) fn end(
        &mut self,
        mut answer: Result<McpResponse, Error>,
    ) -> Result<McpResponse, Error> {
        if let Some(unreadable) = self.unreadable.take() {
            // A stack that did not refuse the request has not seen its params.
            if answer.is_ok() {
                answer = Err(unreadable.refusal());
            }
            if !self.decision.decision().is_some_and(Decision::is_refusal) {
                self.record.decision = Decision::Denied;
                self.record.reason = Some(cut(unreadable.reason(), MAX_TEXT));
                self.decision = DecisionSlot::default();
            }
        }
        self.set_end(&answer);
        self.write();
        answer
    }

    fn set_end(&mut self, answer: &Result<McpResponse, Error>) {
        self.record.ended = Ended::With(Outcome::of(answer));
        match answer {
            Err(Error::Protocol(error)) => self.record.code = Some(error.code.0),
            Err(Error::Refused(refusal)) => {
                self.record.code = Some(refusal.code().0);
                // A layer that states no decision shows it by its refusal.
                if self.record.decision == Decision::Allowed {
                    self.record.decision = match refusal.code() {
                        code::UNAUTHENTICATED => Decision::Unauthenticated,
                        code::FORBIDDEN => Decision::Denied,
                        _ => Decision::Allowed,
                    };
                }
            }
            Err(Error::Transport(error)) => {
                self.record.upstream = error.upstream().map(|name| cut(name, MAX_SHORT));
            }
            _ => {}
        }
    }

    fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        self.record.duration = self.since.elapsed();
        if let Some(decision) = self.decision.decision() {
            self.record.decision = decision;
            // An authenticating layer replaces the principal of the layers outside of it.
            self.record.principal = self.decision.principal().as_ref().map(AuditPrincipal::of);
            let reason = self.decision.reason();
            self.record.reason = reason.map(|reason| cut(&reason, MAX_TEXT));
        }
        if let Some(called) = self.called.name().take() {
            self.record.name = Some(called);
        }
        if let Some(name) = self.served_by.name() {
            self.record.upstream = Some(cut(&name, MAX_SHORT));
        }
        let blank = blank(String::new(), Decision::Undecided, SystemTime::UNIX_EPOCH);
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
