//! A member at its place in a gateway.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::{ServerNotification, Tool};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::gateway::{
    Member, PerCaller, Prefix,
    lists::list_item::{ListItem, Lists},
    members::member::{Options, Overrides},
    members::per_caller::{Factory, Source},
    names::{style::versioned, uris},
};
use crate::{
    CallContext, Error, McpRequest, McpResponse, Principal, ToolHints,
    caller::Era,
    protocol::unreadable_items::{LeftOut, Listing, UnreadableLog},
};

/// The interval at which idle stacks are dropped is clamped to these bounds.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);

const LONGEST_SWEEP: Duration = Duration::from_secs(60);

/// The state of a member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MemberState {
    /// The gateway has not received an answer from the member yet.
    Connecting,
    /// The last request was answered.
    Connected,
    /// The member answers, but not correctly: it answers a list too late, for example, or its list
    /// has an item that cannot be read.
    Degraded {
        /// The reason, for the operator.
        reason: Arc<str>,
    },
    /// The member cannot be reached.
    Failed {
        /// The reason, for the operator. For a child process that ended, it includes the last lines
        /// of its standard error.
        reason: Arc<str>,
        /// The time after `since` at which the member is tried again, if it is known.
        retry_after: Option<Duration>,
        /// The time at which the failure was noticed.
        since: Instant,
    },
}

/// The kinds of lists whose changes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Change {
    Tools,
    Prompts,
    Resources,
}

impl Change {
    pub(in crate::gateway) const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    pub(in crate::gateway) fn of(notification: &ServerNotification) -> Option<Self> {
        match notification {
            ServerNotification::ToolListChangedNotification(_) => Some(Self::Tools),
            ServerNotification::PromptListChangedNotification(_) => Some(Self::Prompts),
            ServerNotification::ResourceListChangedNotification(_) => Some(Self::Resources),
            _ => None,
        }
    }
}

/// A member at its place in a gateway.
pub(in crate::gateway) struct ActiveMember {
    pub(in crate::gateway) name: Arc<str>,
    pub(in crate::gateway) id: u64,
    /// The position among members of equal priority. A replacement keeps it.
    pub(in crate::gateway) place: u64,
    pub(in crate::gateway) priority: i32,
    pub(in crate::gateway) prefix: Prefix,
    pub(in crate::gateway) options: Options,
    source: Source,
    pub(in crate::gateway) lists: Lists,
    changes: [AtomicU64; 3],
    /// The changes that the gateway is told of, by the protocol generation of its own listen.
    announced: Mutex<HashMap<Era, [bool; 3]>>,
    watched: Mutex<HashSet<Era>>,
    state: Mutex<MemberState>,
    /// The items that were left out of the member's lists.
    pub(in crate::gateway) unreadable: UnreadableLog,
    /// Cancelled when the member is removed or replaced.
    pub(in crate::gateway) removed: CancellationToken,
    /// The same fact in a form that is cheap to read on every call.
    is_removed: AtomicBool,
}

/// The hints about a tool that the member's own layers receive.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) enum MemberHints {
    Believed(ToolHints),
    /// A claim that a tool may destroy something is believed even of an untrusted member.
    Distrusted {
        destructive: bool,
    },
}

impl MemberHints {
    pub(in crate::gateway) fn apply_to(self, context: &mut CallContext) {
        let extensions = &mut context.extensions;
        match self {
            Self::Believed(hints) if extensions.get::<ToolHints>().is_none() => {
                extensions.insert(hints);
            }
            // Replaces the hints of an outer layer, except a claim that the tool is destructive.
            Self::Distrusted { destructive } => {
                let before = extensions.get::<ToolHints>();
                let hints = ToolHints {
                    destructive: destructive || before.is_some_and(|hints| hints.destructive),
                    ..ToolHints::default()
                };
                extensions.insert(hints);
            }
            Self::Believed(_) => {}
        }
    }
}

impl ActiveMember {
    pub(in crate::gateway) fn new(
        member: Member,
        place: u64,
        prefix: Prefix,
        removed: CancellationToken,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            name: member.name.into(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            place,
            priority: member.priority,
            prefix: member.prefix.unwrap_or(prefix),
            options: member.options,
            source: member.source,
            lists: Lists::default(),
            changes: Default::default(),
            announced: Mutex::default(),
            watched: Mutex::default(),
            state: Mutex::new(MemberState::Connecting),
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

    /// Returns `true` if the member's name is put in front of its URIs.
    pub(in crate::gateway) fn prefixes_uris(&self) -> bool {
        self.prefix != Prefix::Never
    }

    /// Turns a URI of the member into the outward URI.
    pub(in crate::gateway) fn put_outward(&self, uri: &mut String) {
        if self.prefixes_uris() {
            *uri = uris::prefixed(&self.name, uri);
        }
    }

    /// Returns `true` if the gateway changes nothing between this member and its callers.
    pub(in crate::gateway) fn is_transparent(&self) -> bool {
        self.prefix == Prefix::Never
            && self.options.tools.is_empty()
            && self.options.prompts.is_empty()
            && self.options.filter.is_empty()
    }

    pub(in crate::gateway) fn is_per_caller(&self) -> bool {
        matches!(self.source, Source::PerCaller(_))
    }

    /// Returns `true` if callers of this era have a stack for each session.
    pub(in crate::gateway) fn is_per_session(&self, era: Era) -> bool {
        matches!(&self.source, Source::PerCaller(factory) if factory.by.by_session(era))
    }

    /// Returns `true` if the operator may have hidden some item of the member.
    pub(in crate::gateway) fn may_hide(&self) -> bool {
        let hides = |overrides: &Overrides| overrides.values().any(|one| one.hidden);
        let options = &self.options;
        !options.filter.is_empty() || hides(&options.tools) || hides(&options.prompts)
    }

    /// Returns `true` if the operator exposes this item under this outward name or URI. A hidden
    /// tool is hidden in all its versions, which calls append to its name.
    pub(in crate::gateway) fn exposes<T: ListItem>(&self, inner: &str, outward: &str) -> bool {
        let said = |inner: &str, outward: &str| {
            T::overrides(&self.options)
                .and_then(|overrides| overrides.get(inner))
                .is_none_or(|one| {
                    !one.hidden && one.name.as_deref().is_none_or(|name| name == outward)
                })
        };
        let filter = &self.options.filter;
        let exposes_all_versions = || match versioned(inner) {
            (_, "") => true,
            (tool, version) => outward
                .strip_suffix(version)
                .is_none_or(|outward| !filter.denies(outward) && said(tool, outward)),
        };
        filter.exposes(outward)
            && said(inner, outward)
            && (T::NOUN != Tool::NOUN || exposes_all_versions())
    }

    /// Returns the hints that the member's own layers receive, given the tool's annotations if they
    /// are known.
    pub(in crate::gateway) fn hints_for_layers(
        &self,
        hints: Option<ToolHints>,
    ) -> Option<MemberHints> {
        match self.options.trusted {
            None => None,
            Some(true) => hints.map(MemberHints::Believed),
            Some(false) => Some(MemberHints::Distrusted {
                destructive: hints.is_some_and(|hints| hints.destructive),
            }),
        }
    }

    /// Marks an answer of a per-caller member as private to its caller.
    pub(in crate::gateway) fn mark_private(
        &self,
        response: &mut McpResponse,
        principal: Option<&Principal>,
    ) {
        match (&self.source, principal) {
            (Source::PerCaller(factory), _) if factory.by != PerCaller::Principal => {
                response.mark_session_private();
            }
            (Source::PerCaller(_), Some(principal)) => response.mark_private(principal),
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
                Source::Shared(stack) => {
                    let stack = stack.lock().unwrap_or_else(PoisonError::into_inner);
                    (stack.clone(), None)
                }
                Source::PerCaller(factory) => {
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
                        source: Source::PerCaller(factory),
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

    fn state_mut(&self) -> MutexGuard<'_, MemberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::gateway) fn state(&self) -> MemberState {
        let state = self.state_mut().clone();
        match (&state, self.unreadable.summary()) {
            (MemberState::Connected, Some(reason)) => MemberState::Degraded {
                reason: reason.into(),
            },
            _ => state,
        }
    }

    /// Updates the member's state with the outcome of a request.
    pub(in crate::gateway) fn record_outcome(&self, error: Option<&Error>) {
        let next = match error {
            Some(error @ Error::Transport(_)) => MemberState::Failed {
                reason: error.in_full().into(),
                retry_after: error.retry_after(),
                since: Instant::now(),
            },
            Some(error @ Error::Timeout(_)) if error.is_timeout() => {
                return self.mark_degraded(&error.to_string());
            }
            // Neither says anything about the member.
            Some(Error::Cancelled { .. } | Error::Refused(_)) => return,
            _ => MemberState::Connected,
        };
        let mut state = self.state_mut();
        if !matches!(
            (&*state, &next),
            (MemberState::Connected, MemberState::Connected)
        ) {
            *state = next;
        }
    }

    pub(in crate::gateway) fn mark_degraded(&self, reason: &str) {
        let mut state = self.state_mut();
        if !matches!(&*state, MemberState::Failed { .. }) {
            *state = MemberState::Degraded {
                reason: reason.into(),
            };
        }
    }

    /// Returns how often these lists have changed, as far as the gateway knows.
    pub(in crate::gateway) fn changes(&self, change: Change) -> u64 {
        self.counter(change).load(Ordering::Acquire)
    }

    fn counter(&self, change: Change) -> &AtomicU64 {
        let [tools, prompts, resources] = &self.changes;
        match change {
            Change::Tools => tools,
            Change::Prompts => prompts,
            Change::Resources => resources,
        }
    }

    /// Invalidates what is known of these lists.
    pub(in crate::gateway) fn count_change(&self, change: Change) {
        self.counter(change).fetch_add(1, Ordering::AcqRel);
    }

    /// Returns `true` if the gateway is told when these lists change.
    pub(in crate::gateway) fn announces(&self, era: Era, change: Change) -> bool {
        let announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        announced
            .get(&era)
            .is_some_and(|[tools, prompts, resources]| match change {
                Change::Tools => *tools,
                Change::Prompts => *prompts,
                Change::Resources => *resources,
            })
    }

    pub(in crate::gateway) fn set_announced(&self, era: Era, told: [bool; 3]) {
        let mut announced = self
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        announced.insert(era, told);
    }

    /// Marks the member as watched in this era. Returns `true` if it was not watched before.
    pub(in crate::gateway) fn begin_watching(&self, era: Era) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(era)
    }
}

impl fmt::Debug for ActiveMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveMember")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
