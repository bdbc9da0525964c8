//! A member: any stack, under a name.

use std::{
    fmt,
    sync::{Mutex, atomic::AtomicBool},
    time::Duration,
};

use super::{
    options::Options,
    per_caller::{Factory, IDLE, MAX_STACKS, PerCaller, StackSource},
};
use crate::gateway::names::{filter::Filter, prefix::Prefix};
use crate::{BoxStack, CallContext, Error, Stack};

/// A stack under a name, and its exposure options; see
/// [`GatewayBuilder::member`](crate::gateway::GatewayBuilder::member).
///
/// ```
/// use rmcp_layers::{Upstream, gateway::{Filter, Member, Prefix}};
/// # struct Files;
/// # impl rmcp::ServerHandler for Files {}
///
/// let files = Member::new("files", Upstream::in_process(Files))
///     .prefix(Prefix::OnCollision)
///     .priority(10)
///     .filter(Filter::new().deny("*delete*"))
///     .rename("rd", "read_file");
/// # let _ = files;
/// ```
pub struct Member {
    pub(in crate::gateway) name: String,
    pub(in crate::gateway) prefix: Option<Prefix>,
    pub(in crate::gateway) priority: i32,
    pub(in crate::gateway) options: Options,
    pub(in crate::gateway) source: StackSource,
}

impl Member {
    /// Creates a member that all callers share.
    ///
    /// The name is a letter, then letters, digits, `_`, `-` and `.`. It must not contain the
    /// gateway's separator. The name of a member that is never prefixed may be any line of text.
    pub fn new(name: impl Into<String>, stack: impl Stack) -> Self {
        Self::of(name.into(), StackSource::Shared(BoxStack::new(stack)))
    }

    /// Creates a member with one stack for each principal or session, for upstreams that hold state
    /// of one user.
    ///
    /// `make` is called with the context of the first request. An error of `make` is the answer to
    /// that request.
    ///
    /// Answers of such a member are marked as private to their caller
    /// ([`mark_private`](crate::McpResponse::mark_private),
    /// [`mark_session_private`](crate::McpResponse::mark_session_private)). So are the lists and
    /// descriptions to which it contributes. A cache outside of the gateway therefore shares none
    /// of them.
    ///
    /// The gateway does not listen to such stacks on its own behalf, because it would keep one open
    /// for every caller that has ever called. A caller that listens receives its own stack's
    /// changes, and is then served the new lists. Without a listen, a list is kept for as long as
    /// the stack says (`ttlMs`), and is otherwise fetched again each time.
    ///
    /// - [`idle_timeout`](Self::idle_timeout): an unused stack is dropped. Default: 10 minutes.
    /// - [`max_stacks`](Self::max_stacks): the least recently used stack is dropped past it. Where
    ///   all are in use, the call is refused. Default: 1000.
    pub fn per_caller<S>(
        name: impl Into<String>,
        by: PerCaller,
        make: impl Fn(&CallContext) -> Result<S, Error> + Send + Sync + 'static,
    ) -> Self
    where
        S: Stack,
    {
        Self::of(
            name.into(),
            StackSource::PerCaller(Factory {
                by,
                make: Box::new(move |context| make(context).map(BoxStack::new)),
                max: MAX_STACKS,
                idle: IDLE,
                stacks: Mutex::default(),
                swept: AtomicBool::new(false),
            }),
        )
    }

    fn of(name: String, source: StackSource) -> Self {
        Self {
            name,
            prefix: None,
            priority: 0,
            options: Options::default(),
            source,
        }
    }

    /// Sets whether the member's name is put in front of its names. Default: the gateway's setting.
    #[must_use]
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Sets the priority: a name that several members have belongs to the one with the highest.
    /// Among equals, the member that was added first has it. Lists are in the same order. Default:
    /// 0.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Exposes only the items that the filter allows.
    ///
    /// The filter is asked with outward names and, for resources and skills, with outward URIs. A
    /// hidden item can be neither listed nor used, in any version. A registry's search inside the
    /// member neither finds nor calls it ([`Visibility`](crate::Visibility)).
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.options.filter = filter;
        self
    }

    /// Exposes the member's tool `inner` as exactly `outward`: no prefix is put before it.
    #[must_use]
    pub fn rename(mut self, inner: impl Into<String>, outward: impl Into<String>) -> Self {
        self.options.tools.entry(inner.into()).or_default().name = Some(outward.into());
        self
    }

    /// Hides the member's tool `inner`, as a [filter](Self::filter) does: it can be neither listed
    /// nor called.
    #[must_use]
    pub fn hide(mut self, inner: impl Into<String>) -> Self {
        self.options.tools.entry(inner.into()).or_default().hidden = true;
        self
    }

    /// Replaces the description of the member's tool `inner`.
    #[must_use]
    pub fn describe(mut self, inner: impl Into<String>, description: impl Into<String>) -> Self {
        let tool = self.options.tools.entry(inner.into()).or_default();
        tool.description = Some(description.into());
        self
    }

    /// [Renames](Self::rename) a prompt.
    #[must_use]
    pub fn rename_prompt(mut self, inner: impl Into<String>, outward: impl Into<String>) -> Self {
        self.options.prompts.entry(inner.into()).or_default().name = Some(outward.into());
        self
    }

    /// [Hides](Self::hide) a prompt.
    #[must_use]
    pub fn hide_prompt(mut self, inner: impl Into<String>) -> Self {
        self.options.prompts.entry(inner.into()).or_default().hidden = true;
        self
    }

    /// [Describes](Self::describe) a prompt.
    #[must_use]
    pub fn describe_prompt(
        mut self,
        inner: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let prompt = self.options.prompts.entry(inner.into()).or_default();
        prompt.description = Some(description.into());
        self
    }

    /// Sets whether the annotations of the member's tools (`ToolAnnotations`) are believed. MCP
    /// 2026-07-28, Tools, has clients consider annotations untrusted unless they come from a
    /// trusted server. The setting governs:
    ///
    /// | | [read-only mode](crate::gateway::GatewayBuilder::read_only) | the member's own layers |
    /// |---|---|---|
    /// | not set (default) | exposes none of its tools | use their own settings |
    /// | `true` | exposes tools with `readOnlyHint` | receive the [`ToolHints`](crate::ToolHints) of the tool from the caller's list, unless an outer layer has set hints |
    /// | `false` | exposes none of its tools | receive no claim that a tool is harmless (only a `destructiveHint` is left), so that they neither cache nor repeat its calls on its word |
    ///
    /// Hints travel in a call's extensions. Each layer has its own setting for whether it acts on
    /// them.
    ///
    /// The list of a trusted member is fetched for its hints where none is known: the first call
    /// waits up to 1 s for it. A list is used until the next one has arrived. It is fetched again,
    /// concurrently with calls, when it has changed. Where the member does not announce changes, it
    /// is fetched every 60 s.
    ///
    /// Clients see the annotations in any case, as the member gives them. So do layers outside of
    /// the gateway, such as a cache or a retry layer over all members. Those layers have their own
    /// trust settings, by outward name.
    #[must_use]
    pub fn trust_annotations(mut self, trusted: bool) -> Self {
        self.options.trusted = Some(trusted);
        self
    }

    /// Sets whether tools and prompts that the member does not list can be called. Otherwise, once
    /// the gateway knows the member's list, such a name is answered with the nearest existing
    /// names. Default: `false`.
    #[must_use]
    pub fn call_unlisted(mut self, unlisted: bool) -> Self {
        self.options.unlisted = unlisted;
        self
    }

    /// Sets whether the member lists the same items to every caller. Otherwise, a list that is not
    /// marked public is kept for the principal for which it was fetched. Default: `false`.
    #[must_use]
    pub fn shared_lists(mut self, shared: bool) -> Self {
        self.options.shared_lists = shared;
        self
    }

    /// Sets the maximum number of stacks of a [per-caller](Self::per_caller) member. Default: 1000.
    #[must_use]
    pub fn max_stacks(mut self, max: usize) -> Self {
        if let StackSource::PerCaller(factory) = &mut self.source {
            factory.max = max.max(1);
        }
        self
    }

    /// Sets how long a [per-caller](Self::per_caller) member keeps an unused stack. Default: 10
    /// minutes.
    #[must_use]
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        if let StackSource::PerCaller(factory) = &mut self.source {
            factory.idle = idle;
        }
        self
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}
