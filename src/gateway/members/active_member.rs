//! A member at its place in a gateway.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    changes::Changes,
    member::Member,
    options::Options,
    per_caller::{Factory, PerCaller, StackSource},
    state::{MemberState, State},
};
use crate::gateway::names::{prefix::Prefix, style::Style, uris::UriPrefix};
use crate::{
    Error, Item, McpRequest, McpResponse, Principal,
    caller::Era,
    protocol::unreadable_items::{LeftOut, Listing, UnreadableLog},
};

/// The interval at which idle stacks are dropped is clamped to these bounds.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

const LONGEST_SWEEP: Duration = Duration::from_secs(60);

/// A member at its place in a gateway.
pub(in crate::gateway) struct ActiveMember {
    pub(in crate::gateway) name: Arc<str>,
    pub(in crate::gateway) id: u64,
    /// The position among members of equal priority. A replacement keeps it.
    pub(in crate::gateway) place: u64,
    pub(in crate::gateway) priority: i32,
    pub(in crate::gateway) prefix: Prefix,
    pub(in crate::gateway) style: Arc<Style>,
    pub(in crate::gateway) uris: UriPrefix,
    pub(in crate::gateway) options: Options,
    source: StackSource,
    pub(in crate::gateway) changes: Changes,
    state: State,
    /// The items that were left out of the member's lists.
    pub(in crate::gateway) unreadable: UnreadableLog,
    /// Cancelled when the member is removed or replaced.
    pub(in crate::gateway) removed: CancellationToken,
    /// The same fact in a form that is cheap to read on every call.
    is_removed: AtomicBool,
}

impl ActiveMember {
    pub(in crate::gateway) fn new(
        member: Member,
        place: u64,
        prefix: Prefix,
        style: Arc<Style>,
        removed: CancellationToken,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name: Arc<str> = member.name.into();
        let prefix = member.prefix.unwrap_or(prefix);
        let prefixes_uris = prefix != Prefix::Never;
        Self {
            uris: UriPrefix::new(prefixes_uris.then(|| name.clone())),
            name,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            place,
            priority: member.priority,
            prefix,
            style,
            options: member.options,
            source: member.source,
            changes: Changes::default(),
            state: State::default(),
            unreadable: UnreadableLog::default(),
            removed,
            is_removed: AtomicBool::new(false),
        }
    }

    /// Marks the member as removed or replaced.
    pub(in crate::gateway) fn mark_removed(&self) {
        self.is_removed.store(true, Ordering::Release);
        self.removed.cancel();
    }

    pub(in crate::gateway) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// Returns `true` if the gateway changes nothing between this member and its callers.
    pub(in crate::gateway) fn is_transparent(&self) -> bool {
        self.prefix == Prefix::Never && self.options.change_nothing()
    }

    /// Returns the outward name or URI of an item. Where only the other members' lists decide
    /// between two names, the prefixed one comes first, and the name without a prefix second.
    pub(in crate::gateway) fn outward_names<'a>(
        &self,
        inner: Item<'a>,
    ) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
        let given = self.options.override_of(inner);
        if let Some(name) = given.and_then(|given| given.name.clone()) {
            return (name.into(), None);
        }
        let name = match inner {
            Item::Tool(name) | Item::Prompt(name) => name,
            Item::Resource(uri) | Item::ResourceTemplate(uri) | Item::Skill(uri) => {
                return (self.uris.outward(uri), None);
            }
        };
        let prefixed = || {
            let prefixed = self.style.prefixed(&self.name, name);
            Cow::Owned(self.style.fit(&prefixed, 0).into_owned())
        };
        match self.prefix {
            Prefix::Always => (prefixed(), None),
            Prefix::Never => (name.into(), None),
            Prefix::OnCollision => (prefixed(), Some(self.style.fit(name, 0))),
        }
    }

    pub(in crate::gateway) fn is_per_caller(&self) -> bool {
        matches!(self.source, StackSource::PerCaller(_))
    }

    /// Returns `true` if callers of this era have a stack for each session.
    pub(in crate::gateway) fn is_per_session(&self, era: Era) -> bool {
        matches!(&self.source, StackSource::PerCaller(factory) if factory.by.by_session(era))
    }

    /// Marks an answer of a per-caller member as private to its caller.
    pub(in crate::gateway) fn mark_private(
        &self,
        response: &mut McpResponse,
        principal: Option<&Principal>,
    ) {
        match (&self.source, principal) {
            (StackSource::PerCaller(factory), _) if factory.by != PerCaller::Principal => {
                response.mark_session_private();
            }
            (StackSource::PerCaller(_), Some(principal)) => response.mark_private(principal),
            _ => {}
        }
    }

    /// Sends a request down the member's stack.
    pub(in crate::gateway) fn call(
        self: &Arc<Self>,
        request: McpRequest,
    ) -> BoxFuture<'static, Result<McpResponse, Error>> {
        let member = self.clone();
        // A notification that the stack itself consumes, such as `notifications/initialized`, says
        // nothing about the member's state.
        let is_notification = request.as_notification().is_some();
        let listing = Listing::of(&request.message);
        Box::pin(async move {
            // `_used` tells the factory that the stack is not idle.
            let (stack, _used) = match &member.source {
                StackSource::Shared(stack) => (stack.clone(), None),
                StackSource::PerCaller(factory) => {
                    member.start_sweeper(factory);
                    factory.get(&request.context)?
                }
            };
            let answer = stack
                .oneshot(request)
                .await
                .map_err(|error| member.name_upstream(error));
            if answer.is_err() || !is_notification {
                member.record_outcome(answer.as_ref().err());
            }
            if let (Some(listing), Ok(list)) = (listing, &answer) {
                let left_out = list.extensions.get::<LeftOut>();
                let left_out = left_out.map_or(&[][..], |left_out| &left_out.0);
                member.unreadable.read(listing, left_out);
            }
            answer
        })
    }

    /// Starts, once, the task that drops idle stacks.
    fn start_sweeper(self: &Arc<Self>, factory: &Factory) {
        if factory.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let pause = (factory.idle / 4).clamp(SHORTEST_SWEEP, LONGEST_SWEEP);
        let (member, removed) = (Arc::downgrade(self), self.removed.clone());
        tokio::spawn(removed.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(pause).await;
                match member.upgrade().as_deref() {
                    Some(Self {
                        source: StackSource::PerCaller(factory),
                        ..
                    }) => factory.sweep(),
                    _ => return,
                }
            }
        }));
    }

    /// Adds the member's name to an error that names no upstream.
    fn name_upstream(&self, error: Error) -> Error {
        match error {
            Error::Transport(error) if error.upstream().is_none() => {
                error.with_upstream(self.name.clone()).into()
            }
            other => other,
        }
    }

    pub(in crate::gateway) fn state(&self) -> MemberState {
        match (self.state.get(), self.unreadable.summary()) {
            (MemberState::Connected, Some(reason)) => MemberState::Degraded {
                reason: reason.into(),
            },
            (state, _) => state,
        }
    }

    /// Updates the member's state with the outcome of a request.
    pub(in crate::gateway) fn record_outcome(&self, error: Option<&Error>) {
        self.state.record_outcome(error);
    }

    pub(in crate::gateway) fn mark_degraded(&self, reason: &str) {
        self.state.mark_degraded(reason);
    }
}

impl fmt::Debug for ActiveMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveMember")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
