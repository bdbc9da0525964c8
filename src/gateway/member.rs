//! A member: any stack, under a name.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, atomic::AtomicBool},
    time::Duration,
};

use tower::{Service, ServiceExt, util::BoxCloneService};

use super::{
    Filter, PerCaller, Prefix,
    per_caller::{Factory, IDLE, MAX_STACKS, Source},
};
use crate::{CallContext, Error, McpRequest, McpResponse};

/// A member's stack, whatever it is made of.
pub(super) type Stack = BoxCloneService<McpRequest, McpResponse, Error>;

/// A stack under a name, and how it shows; see [`GatewayBuilder::member`](super::GatewayBuilder::member).
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
    pub(super) name: String,
    pub(super) prefix: Option<Prefix>,
    pub(super) priority: i32,
    pub(super) options: Options,
    pub(super) source: Source,
}

/// What an operator says of a member.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) tools: Overrides,
    pub(super) prompts: Overrides,
    pub(super) filter: Filter,
    /// What the operator says of the tools' annotations, if anything.
    pub(super) trusted: Option<bool>,
    pub(super) shared_lists: bool,
    pub(super) unlisted: bool,
}

/// What an operator says of single tools, or prompts, by the member's names for them.
pub(super) type Overrides = HashMap<String, Override>;

/// What an operator says of one tool, or prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct Override {
    pub(super) name: Option<String>,
    pub(super) hidden: bool,
    pub(super) description: Option<String>,
}

impl Member {
    /// A member that all callers share. Its name is a letter, then letters, digits, `_`, `-` and `.`; it
    /// must not hold the gateway's separator. One that is never a prefix may be any line of text.
    pub fn new<S>(name: impl Into<String>, stack: S) -> Self
    where
        S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
        S::Error: Into<Error>,
        S::Future: Send + 'static,
    {
        Self::of(name.into(), Source::Shared(Mutex::new(boxed(stack))))
    }

    /// A member whose stack is made for each principal or session, for upstreams that hold state of one
    /// user. `make` is called with the context of the first request; what it fails with is that request's
    /// answer.
    ///
    /// What such a member answers is marked as its caller's own
    /// ([`mark_private`](McpResponse::mark_private), [`mark_session_private`](McpResponse::mark_session_private)),
    /// and so are lists and descriptions that it has a part in: a cache outside of the gateway shares none of it.
    ///
    /// The gateway does not listen to such stacks on its own behalf, or it would keep one open for every caller
    /// that has ever called. A caller that listens hears what its own stack tells, and is then served the new
    /// lists. Where nobody listens, a list is kept for as long as the stack says (`ttlMs`), else asked for anew
    /// each time.
    ///
    /// A stack that was not used for 10 minutes is dropped ([`idle_timeout`](Self::idle_timeout)). At most
    /// 1000 are kept ([`max_stacks`](Self::max_stacks)): past it the longest unused is dropped, and where
    /// all are in use the call is refused.
    pub fn per_caller<S>(
        name: impl Into<String>,
        by: PerCaller,
        make: impl Fn(&CallContext) -> Result<S, Error> + Send + Sync + 'static,
    ) -> Self
    where
        S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
        S::Error: Into<Error>,
        S::Future: Send + 'static,
    {
        Self::of(
            name.into(),
            Source::PerCaller(Factory {
                by,
                make: Box::new(move |context| make(context).map(boxed)),
                max: MAX_STACKS,
                idle: IDLE,
                stacks: Mutex::default(),
                swept: AtomicBool::new(false),
            }),
        )
    }

    fn of(name: String, source: Source) -> Self {
        Self {
            name,
            prefix: None,
            priority: 0,
            options: Options::default(),
            source,
        }
    }

    /// Whether the member's name goes in front of its names; the gateway's setting by default.
    #[must_use]
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// Who has a name that several members have: the highest. 0 by default; of equals, the one that was
    /// added first. Lists are in the same order.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Lets out only what the filter does. It is asked with outward names and, of resources and skills, with
    /// outward URIs; what it keeps back can be neither listed nor used, in no version, and is neither found nor called
    /// by a registry's search in the member ([`Sight`](crate::Sight)).
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.options.filter = filter;
        self
    }

    /// Calls the member's tool `inner` by `outward`, as it stands: no prefix is put before it.
    #[must_use]
    pub fn rename(mut self, inner: impl Into<String>, outward: impl Into<String>) -> Self {
        self.options.tools.entry(inner.into()).or_default().name = Some(outward.into());
        self
    }

    /// Keeps the member's tool `inner` back, as a [filter](Self::filter) does: it can be neither listed nor called.
    #[must_use]
    pub fn hide(mut self, inner: impl Into<String>) -> Self {
        self.options.tools.entry(inner.into()).or_default().hidden = true;
        self
    }

    /// Describes the member's tool `inner` so, instead of as the member does.
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

    /// Whether what the member's tools say of themselves (`ToolAnnotations`) is believed. MCP 2026-07-28,
    /// Tools, has clients consider annotations untrusted unless they come from a trusted server. What it
    /// governs:
    ///
    /// | | [read-only mode](super::GatewayBuilder::read_only) | the member's own layers |
    /// |---|---|---|
    /// | nothing said, the default | lets none of its tools out | go by their own settings |
    /// | `true` | lets out what says `readOnlyHint` | are given the [`ToolHints`](crate::ToolHints) of the tool, by the list that the caller would be given, unless a layer outside has said something of it |
    /// | `false` | lets none of its tools out | are told that the tool does not say that it is harmless (only a `destructiveHint` is left), so that they neither keep nor repeat its calls on its word |
    ///
    /// Hints travel in a call's extensions, and whether a layer acts on them is still a setting of its own. The
    /// list of a trusted member is fetched for them where none is known: the first call waits up to 1 s for it. A
    /// list holds until the next one is there. It is fetched again, beside the calls, when it has changed, and
    /// where the member does not tell of changes, every 60 s. Clients see the annotations in any
    /// case, as the member gives them. So do layers outside of the gateway, a cache or a retry over all
    /// members: what they believe is a setting of theirs, by outward name.
    #[must_use]
    pub fn trust_annotations(mut self, trusted: bool) -> Self {
        self.options.trusted = Some(trusted);
        self
    }

    /// Whether tools and prompts can be called that the member does not list. Not by default, as long as the
    /// gateway knows its list: such a name is answered with the nearest ones that there are.
    #[must_use]
    pub fn call_unlisted(mut self, unlisted: bool) -> Self {
        self.options.unlisted = unlisted;
        self
    }

    /// Whether the member lists the same to everybody, whoever asks. Not by default: a list that is not
    /// marked public is kept for the principal it was made for.
    #[must_use]
    pub fn shared_lists(mut self, shared: bool) -> Self {
        self.options.shared_lists = shared;
        self
    }

    /// How many stacks a [per-caller](Self::per_caller) member keeps at once, 1000 by default.
    #[must_use]
    pub fn max_stacks(mut self, max: usize) -> Self {
        if let Source::PerCaller(factory) = &mut self.source {
            factory.max = max.max(1);
        }
        self
    }

    /// How long a [per-caller](Self::per_caller) member keeps a stack that nobody uses, 10 minutes by
    /// default.
    #[must_use]
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        if let Source::PerCaller(factory) = &mut self.source {
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

fn boxed<S>(stack: S) -> Stack
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send + 'static,
{
    BoxCloneService::new(stack.map_err(Into::into))
}
