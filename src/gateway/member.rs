//! A member: any stack, under a name.

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
use rmcp::model::ServerNotification;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt, util::BoxCloneService};

use super::{
    Filter, Prefix,
    lists::{Listed, Lists},
};
use crate::{
    Audience, CallContext, Error, McpRequest, McpResponse, Principal, Refusal, ToolHints,
    caller::Era, code,
};

/// A member's stack, whatever it is made of.
pub(super) type Stack = BoxCloneService<McpRequest, McpResponse, Error>;

/// How many stacks a per-caller member has at once, unless it says otherwise.
const MAX_STACKS: usize = 1_000;
/// How long a per-caller stack is kept that nobody uses, unless the member says otherwise.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// How often idle stacks are looked for.
const SHORTEST_SWEEP: Duration = Duration::from_millis(100);
const LONGEST_SWEEP: Duration = Duration::from_secs(60);

/// What a per-caller member makes a stack for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PerCaller {
    /// One for each [`Principal`](crate::Principal). A caller that nobody has authenticated is refused.
    Principal,
    /// One for each session ([`Caller::session_id`](crate::Caller::session_id)): each connection of a
    /// caller. Where requests come without sessions, as over stateless HTTP, that is one for each request.
    Session,
}

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
    /// outward URIs; what it keeps back can be neither listed nor used.
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

    /// Keeps the member's tool `inner` back: it can be neither listed nor called.
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
    /// | `true` | lets out what says `readOnlyHint` | are given the [`ToolHints`](crate::ToolHints) of a tool that a list of the caller's has shown, unless a layer outside has said something of it |
    /// | `false` | lets none of its tools out | are told that the tool says nothing of itself (`ToolHints::default()`), so that they neither keep nor repeat its calls on its word |
    ///
    /// Hints travel in a call's extensions; no list is fetched for them. Clients see the annotations in any
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

/// Where a member's stack comes from.
pub(super) enum Source {
    Shared(Mutex<Stack>),
    PerCaller(Factory),
}

type Make = Box<dyn Fn(&CallContext) -> Result<Stack, Error> + Send + Sync>;

pub(super) struct Factory {
    by: PerCaller,
    make: Make,
    max: usize,
    idle: Duration,
    stacks: Mutex<HashMap<CallerKey, Made>>,
    /// Something drops the stacks that nobody uses.
    swept: AtomicBool,
}

/// Who a per-caller stack is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum CallerKey {
    Principal(Option<String>, String),
    Session(Option<u64>),
}

struct Made {
    stack: Stack,
    used: Instant,
    in_use: Arc<()>,
}

impl Made {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.in_use) == 1
    }
}

impl Factory {
    fn key(&self, context: &CallContext) -> Result<CallerKey, Error> {
        match (self.by, context.principal()) {
            (PerCaller::Session, _) => Ok(CallerKey::Session(context.caller.session_id())),
            (PerCaller::Principal, Some(principal)) => {
                let (issuer, subject) = principal.identity();
                Ok(CallerKey::Principal(
                    issuer.map(str::to_owned),
                    subject.to_owned(),
                ))
            }
            (PerCaller::Principal, None) => {
                let message =
                    "this server is for authenticated callers, and nobody says who is calling";
                Err(Refusal::new("gateway", message)
                    .with_code(code::FORBIDDEN)
                    .into())
            }
        }
    }

    fn get(&self, context: &CallContext) -> Result<(Stack, Option<Arc<()>>), Error> {
        let key = self.key(context)?;
        if let Some(found) = self.find(&key) {
            return Ok(found);
        }
        // Outside the lock: what makes a stack is somebody else's code.
        let stack = (self.make)(context)?;
        self.keep(key, stack)
    }

    fn stacks(&self) -> MutexGuard<'_, HashMap<CallerKey, Made>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &CallerKey) -> Option<(Stack, Option<Arc<()>>)> {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let made = stacks.get_mut(key)?;
        made.used = now;
        Some((made.stack.clone(), Some(made.in_use.clone())))
    }

    /// Drops the stacks that were not used for too long.
    fn sweep(&self) {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let idle: Vec<CallerKey> = stacks
            .iter()
            .filter(|(_, made)| made.is_idle() && now - made.used >= self.idle)
            .map(|(key, _)| key.clone())
            .collect();
        let dropped: Vec<Made> = idle.iter().filter_map(|key| stacks.remove(key)).collect();
        drop(stacks);
        drop(dropped);
    }

    fn keep(&self, key: CallerKey, stack: Stack) -> Result<(Stack, Option<Arc<()>>), Error> {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let mut dropped: Vec<Made> = Vec::new();
        if stacks.len() >= self.max && !stacks.contains_key(&key) {
            let oldest = stacks
                .iter()
                .filter(|(_, made)| made.is_idle())
                .min_by_key(|(_, made)| made.used)
                .map(|(key, _)| key.clone());
            let Some(oldest) = oldest else {
                let message = "this server serves as many callers as it may; try again later";
                return Err(Refusal::new("gateway", message).into());
            };
            dropped.extend(stacks.remove(&oldest));
        }
        // Somebody else may have made one meanwhile: the first stays.
        let made = stacks.entry(key).or_insert_with(|| Made {
            stack,
            used: now,
            in_use: Arc::default(),
        });
        let kept = (made.stack.clone(), Some(made.in_use.clone()));
        drop(stacks);
        drop(dropped);
        Ok(kept)
    }
}

/// How a member is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MemberState {
    /// Nothing has been heard of it.
    Connecting,
    /// It answered the last time.
    Connected,
    /// It answers, but not as it should: too late for a list, say.
    Degraded {
        /// What is amiss.
        reason: Arc<str>,
    },
    /// It cannot be reached.
    Failed {
        /// Why.
        reason: Arc<str>,
        /// How long after `since` it is tried again, where somebody said so.
        retry_after: Option<Duration>,
        /// When it was noticed.
        since: Instant,
    },
}

/// What lists a member's changes are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Tools,
    Prompts,
    Resources,
}

impl Change {
    pub(super) const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    pub(super) fn of(notification: &ServerNotification) -> Option<Self> {
        match notification {
            ServerNotification::ToolListChangedNotification(_) => Some(Self::Tools),
            ServerNotification::PromptListChangedNotification(_) => Some(Self::Prompts),
            ServerNotification::ResourceListChangedNotification(_) => Some(Self::Resources),
            _ => None,
        }
    }
}

/// Whose a list is. Two classes never see each other's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) era: Era,
    audience: Audience,
    session: Option<u64>,
}

impl Class {
    pub(super) fn of(context: &CallContext, by_session: bool) -> Self {
        Self {
            era: context.era(),
            audience: Audience::of(context),
            session: by_session.then(|| context.caller.session_id()).flatten(),
        }
    }

    /// The class of a caller that says nothing of itself.
    pub(super) fn anybody() -> Self {
        Self {
            era: Era::Modern,
            audience: Audience::anonymous(),
            session: None,
        }
    }

    /// The class of what is the same for everybody.
    pub(super) fn everybody(&self) -> Self {
        Self {
            era: self.era,
            audience: Audience::everybody(),
            session: None,
        }
    }

    /// Whether nothing tells its callers from the gateway itself.
    pub(super) fn is_anybody(&self) -> bool {
        self.audience == Audience::anonymous() && self.session.is_none()
    }
}

/// A member at its place in a gateway.
pub(super) struct Seat {
    pub(super) name: Arc<str>,
    pub(super) id: u64,
    /// The place among members of one priority; a replacement keeps it.
    pub(super) place: u64,
    pub(super) priority: i32,
    pub(super) prefix: Prefix,
    pub(super) options: Options,
    source: Source,
    pub(super) lists: Lists,
    changes: [AtomicU64; 3],
    /// Which changes the gateway is told of, by the generation of the protocol it listens in.
    live: Mutex<HashMap<Era, [bool; 3]>>,
    watched: Mutex<HashSet<Era>>,
    state: Mutex<MemberState>,
    /// Cancelled when the member is removed or replaced.
    pub(super) gone: CancellationToken,
    /// The same, to be read on every call.
    left: AtomicBool,
}

/// What a member's layers are told of a tool.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Believed(ToolHints),
    Distrusted,
}

impl Told {
    pub(super) fn put_into(self, context: &mut CallContext) {
        let extensions = &mut context.extensions;
        match self {
            Self::Believed(hints) if extensions.get::<ToolHints>().is_none() => {
                extensions.insert(hints);
            }
            // Whatever somebody outside made of what the tool says.
            Self::Distrusted => {
                extensions.insert(ToolHints::default());
            }
            Self::Believed(_) => {}
        }
    }
}

impl Seat {
    pub(super) fn new(member: Member, place: u64, prefix: Prefix, gone: CancellationToken) -> Self {
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
            live: Mutex::default(),
            watched: Mutex::default(),
            state: Mutex::new(MemberState::Connecting),
            gone,
            left: AtomicBool::new(false),
        }
    }

    /// The member has been removed or replaced.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.gone.cancel();
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Whether the member's name goes in front of its URIs.
    pub(super) fn prefixes_uris(&self) -> bool {
        self.prefix != Prefix::Never
    }

    /// Whether nothing is changed between this member and its callers.
    pub(super) fn is_plain(&self) -> bool {
        self.prefix == Prefix::Never
            && self.options.tools.is_empty()
            && self.options.prompts.is_empty()
            && self.options.filter.is_empty()
    }

    pub(super) fn is_per_caller(&self) -> bool {
        matches!(self.source, Source::PerCaller(_))
    }

    pub(super) fn is_per_session(&self) -> bool {
        matches!(&self.source, Source::PerCaller(factory) if factory.by == PerCaller::Session)
    }

    /// Whether the operator lets this out under this name, or URI.
    pub(super) fn lets_out<T: Listed>(&self, inner: &str, outward: &str) -> bool {
        self.options.filter.lets_out(outward)
            && T::overrides(&self.options)
                .and_then(|overrides| overrides.get(inner))
                .is_none_or(|one| {
                    !one.hidden && one.name.as_deref().is_none_or(|name| name == outward)
                })
    }

    /// What the member's layers are told of a tool that says this of itself, as far as is known.
    pub(super) fn told_of(&self, says: Option<ToolHints>) -> Option<Told> {
        match self.options.trusted {
            None => None,
            Some(true) => says.map(Told::Believed),
            Some(false) => Some(Told::Distrusted),
        }
    }

    /// Marks an answer of a per-caller member as its caller's own.
    pub(super) fn mark(&self, response: &mut McpResponse, principal: Option<&Principal>) {
        match (&self.source, principal) {
            (Source::PerCaller(factory), _) if factory.by == PerCaller::Session => {
                response.mark_session_private();
            }
            (Source::PerCaller(_), Some(principal)) => response.mark_private(principal),
            _ => {}
        }
    }

    /// Sends a request down the member's stack.
    pub(super) fn call(
        self: &Arc<Self>,
        request: McpRequest,
    ) -> BoxFuture<'static, Result<McpResponse, Error>> {
        let seat = self.clone();
        Box::pin(async move {
            // `_used` tells the factory that the stack is not idle.
            let (stack, _used) = match &seat.source {
                Source::Shared(stack) => {
                    let stack = stack.lock().unwrap_or_else(PoisonError::into_inner);
                    (stack.clone(), None)
                }
                Source::PerCaller(factory) => {
                    seat.sweep_now_and_then(factory);
                    factory.get(&request.context)?
                }
            };
            let answer = stack
                .oneshot(request)
                .await
                .map_err(|error| seat.name(error));
            seat.heard(answer.as_ref().err());
            answer
        })
    }

    /// Begins, once, to drop the stacks that nobody uses.
    fn sweep_now_and_then(self: &Arc<Self>, factory: &Factory) {
        if factory.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let pause = (factory.idle / 4).clamp(SHORTEST_SWEEP, LONGEST_SWEEP);
        let (seat, gone) = (Arc::downgrade(self), self.gone.clone());
        tokio::spawn(gone.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(pause).await;
                match seat.upgrade().as_deref() {
                    Some(Self {
                        source: Source::PerCaller(factory),
                        ..
                    }) => factory.sweep(),
                    _ => return,
                }
            }
        }));
    }

    /// Names the member in an error that names nobody.
    fn name(&self, error: Error) -> Error {
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

    pub(super) fn state(&self) -> MemberState {
        self.state_mut().clone()
    }

    /// Takes note of how a request ended.
    pub(super) fn heard(&self, error: Option<&Error>) {
        let next = match error {
            Some(error @ Error::Transport(_)) => MemberState::Failed {
                reason: error.to_string().into(),
                retry_after: error.retry_after(),
                since: Instant::now(),
            },
            Some(error @ Error::Timeout(_)) if error.is_timeout() => {
                return self.degrade(&error.to_string());
            }
            // Neither says anything of the member.
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

    pub(super) fn degrade(&self, reason: &str) {
        let mut state = self.state_mut();
        if !matches!(&*state, MemberState::Failed { .. }) {
            *state = MemberState::Degraded {
                reason: reason.into(),
            };
        }
    }

    /// How often these lists have changed, as far as the gateway knows.
    pub(super) fn changes(&self, change: Change) -> u64 {
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

    /// What is known of these lists holds no more.
    pub(super) fn changed(&self, change: Change) {
        self.counter(change).fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the gateway is told when these lists change.
    pub(super) fn is_live(&self, era: Era, change: Change) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(&era)
            .is_some_and(|[tools, prompts, resources]| match change {
                Change::Tools => *tools,
                Change::Prompts => *prompts,
                Change::Resources => *resources,
            })
    }

    pub(super) fn set_live(&self, era: Era, told: [bool; 3]) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(era, told);
    }

    /// Whether it is for this caller to begin watching the member.
    pub(super) fn begin_watching(&self, era: Era) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.insert(era)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
