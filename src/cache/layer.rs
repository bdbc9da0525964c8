use std::{fmt, sync::Arc, time::Duration};

use tower::Layer;

use super::{
    Cache, CacheHandle,
    memory::Memory,
    remote::Remote,
    rules::{Kind, Rules, VaryBy, is_never},
    state::Shared,
    status::CACHE_META_KEY,
};
use crate::{Error, McpRequest, Refusal, code, store::Store};

/// Answers from memory what the inner stack has answered already; see the [module](super).
///
/// Clones share one memory and one [`handle`](Self::handle). Each stack that the layer is laid over keeps its
/// answers apart from those of the others: two stacks may answer the same request differently.
#[derive(Clone)]
pub struct CacheLayer {
    shared: Arc<Shared>,
}

impl CacheLayer {
    /// A cache with every setting at its default.
    pub fn new() -> Self {
        CacheLayerBuilder::default().make()
    }

    /// Begins a cache with settings of its own.
    pub fn builder() -> CacheLayerBuilder {
        CacheLayerBuilder::default()
    }

    /// The handle that reads what the cache does, and empties it.
    pub fn handle(&self) -> CacheHandle {
        CacheHandle {
            shared: self.shared.clone(),
        }
    }
}

impl Default for CacheLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = Cache<S>;

    fn layer(&self, inner: S) -> Cache<S> {
        Cache::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for CacheLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer").finish_non_exhaustive()
    }
}

/// The tools that are never kept unless the operator says otherwise.
const NEVER: [&str; 4] = ["write_file", "send_email", "deploy", "delete"];

/// `_meta` keys that change nothing about an answer: how the call is traced and reported, and how it is repeated.
const IRRELEVANT_META: [&str; 9] = [
    "progressToken",
    "traceparent",
    "tracestate",
    "baggage",
    "io.modelcontextprotocol/logLevel",
    "idempotencyKey",
    "rmcp-layers/idempotency-key",
    "rmcp-layers/retry",
    CACHE_META_KEY,
];

/// Builds a [`CacheLayer`].
#[must_use = "call `build` to make the layer"]
pub struct CacheLayerBuilder {
    max_entries: usize,
    max_bytes: usize,
    max_item_bytes: usize,
    time_to_live: Duration,
    trust_annotations: bool,
    tools: Vec<(String, Option<Duration>)>,
    never: Vec<String>,
    methods: Vec<(String, Duration)>,
    zero_is_silence: bool,
    ignored_meta: Vec<String>,
    vary_by: Option<VaryBy>,
    share_errors: bool,
    follower_wait: Duration,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    watch_changes: bool,
    max_watched_resources: usize,
    report_in_meta: bool,
    store: Option<Arc<dyn Store>>,
    store_timeout: Duration,
}

impl Default for CacheLayerBuilder {
    fn default() -> Self {
        Self {
            max_entries: 1_000,
            max_bytes: 64 * 1024 * 1024,
            max_item_bytes: 1024 * 1024,
            time_to_live: Duration::from_secs(300),
            trust_annotations: false,
            tools: Vec::new(),
            never: NEVER.map(str::to_owned).to_vec(),
            methods: Vec::new(),
            zero_is_silence: false,
            ignored_meta: IRRELEVANT_META.map(str::to_owned).to_vec(),
            vary_by: None,
            share_errors: false,
            follower_wait: Duration::from_secs(30),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            watch_changes: true,
            max_watched_resources: 256,
            report_in_meta: false,
            store: None,
            store_timeout: Duration::from_millis(100),
        }
    }
}

impl CacheLayerBuilder {
    /// How many answers are kept at most: 1,000 by default. Beyond, those go that were not used for longest.
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// How many bytes they take at most: 64 MiB by default. An answer counts with the length of its JSON, its key,
    /// and 768 bytes for what is around it.
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// The longest answer that is kept, in bytes of its JSON: 1 MiB by default. A longer one is still shared with
    /// those who wait for it.
    pub fn max_item_bytes(mut self, max_item_bytes: usize) -> Self {
        self.max_item_bytes = max_item_bytes;
        self
    }

    /// How long an answer is kept at most: 300 s by default. A server that gives a `ttlMs` may shorten it.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Whether what tools say of themselves is believed: `readOnlyHint: true` is then enough to keep a tool's
    /// answers. Not by default: a server that is wrong about it, or lies, has a call answered from memory that
    /// should have run, and MCP 2026-07-28, Tools, says that clients MUST consider tool annotations untrusted
    /// unless they come from trusted servers (`ToolAnnotations` in its schema: no decisions by those of others).
    /// `destructiveHint: true` is believed either way, because it only keeps a tool out.
    ///
    /// It goes for every server behind the cache. Where some are trusted and others not, name the tools
    /// ([`cache_tool`](Self::cache_tool)), or lay one cache over each. Tools of a trusted server whose answers change
    /// by themselves, a clock for instance, go into the [set that is never kept](Self::never_cache).
    ///
    /// Annotations are learned from the `tools/list` answers that pass, for each caller apart.
    pub fn trust_annotations(mut self, trusted: bool) -> Self {
        self.trust_annotations = trusted;
        self
    }

    /// Keeps the answers of the tools that this name or glob matches (`*` for any characters, `?` for one), though
    /// their servers say nothing of them, or are not trusted. Of several rules that match a tool the first counts.
    pub fn cache_tool(mut self, tool: impl Into<String>) -> Self {
        self.tools.push((tool.into(), None));
        self
    }

    /// The same for so long rather than [`time_to_live`](Self::time_to_live).
    pub fn cache_tool_for(mut self, tool: impl Into<String>, time_to_live: Duration) -> Self {
        self.tools.push((tool.into(), Some(time_to_live)));
        self
    }

    /// Never keeps the answers of tools that this name or glob matches, whatever else is said of them. It is compared
    /// with the whole name and with each end of it that leaves two characters or more in front: `deploy` is
    /// `ci__deploy` too, and `ci.deploy`, because a gateway puts a member's name and any separator in front of names.
    /// `redeploy` it is as well: too much is left out rather than too little. A name that a gateway has shortened or
    /// an operator has changed has to be given as it is outside.
    ///
    /// `write_file`, `send_email`, `deploy` and `delete` are in this set from the start.
    pub fn never_cache(mut self, tool: impl Into<String>) -> Self {
        self.never.push(tool.into());
        self
    }

    /// Takes everything out of the set of tools that are never kept, so that it can be made anew.
    pub fn clear_never_cache(mut self) -> Self {
        self.never.clear();
        self
    }

    /// Keeps answers of this method for so long where the server says nothing of it: servers before 2026-07-28, and
    /// `prompts/get` in any revision. A server that says `ttlMs: 0` has said something; see
    /// [`ignore_zero_ttl`](Self::ignore_zero_ttl).
    ///
    /// The methods are `resources/read`, `resources/list`, `resources/templates/list`, `prompts/get`,
    /// `prompts/list`, `tools/list`, `skills/list`, `skills/get` and `server/discover`. Without it, answers of these
    /// methods are kept by their servers' `ttlMs` alone. Such answers are kept for their caller alone, unless they
    /// say `cacheScope: "public"`.
    pub fn cache_method(mut self, method: impl Into<String>, time_to_live: Duration) -> Self {
        self.methods.push((method.into(), time_to_live));
        self
    }

    /// Takes `ttlMs: 0` for nothing said, so that [`cache_method`](Self::cache_method) applies: not by default. Servers
    /// of 2026-07-28 must say something, and SDKs, rmcp's among them, say this for those that do not.
    pub fn ignore_zero_ttl(mut self, ignore: bool) -> Self {
        self.zero_is_silence = ignore;
        self
    }

    /// Says that a `_meta` key of requests changes nothing about the answer. Any key that is not known to be so makes
    /// a request another one. Known are `progressToken`, `traceparent`, `tracestate`, `baggage`,
    /// `io.modelcontextprotocol/logLevel`, idempotency keys, and [`CACHE_META_KEY`].
    ///
    /// `io.modelcontextprotocol/clientInfo` here means that of a handshake too. Then the users of different clients
    /// share what is public.
    pub fn ignore_meta(mut self, key: impl Into<String>) -> Self {
        self.ignored_meta.push(key.into());
        self
    }

    /// Adds to what tells requests apart, for inner stacks that go by more than the message and the caller: an HTTP
    /// header of the tenant, a setting in the request's extensions. `vary` appends bytes; the same bytes mean the
    /// same answer.
    pub fn vary_by(
        mut self,
        vary: impl Fn(&McpRequest, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        self.vary_by = Some(Arc::new(vary));
        self
    }

    /// Whether those who wait for somebody else's call get its failure too, an `isError` result included: no by
    /// default, and each calls for itself then. Cancellations and timeouts are never passed on.
    pub fn share_errors(mut self, share: bool) -> Self {
        self.share_errors = share;
        self
    }

    /// How long anybody waits for somebody else's call before making the same one: 30 s by default, which few calls
    /// take, and a small part of the 5 minutes of silence after which an [`Upstream`](crate::Upstream) gives a call
    /// up. So one call that hangs holds up each of the others for that long at most. The first to lose patience
    /// takes the place of the one that hangs, for those who come after; the others call for themselves.
    ///
    /// A caller's own deadline ends its waiting sooner. [`Duration::MAX`] has everybody wait for as long as it takes.
    pub fn follower_wait(mut self, patience: Duration) -> Self {
        self.follower_wait = patience;
        self
    }

    /// For how long an expired answer may still be given while a new one is fetched in the background (RFC 5861,
    /// section 3): not at all by default. The new one is fetched with the request of whoever found the old one, its
    /// principal included. Callers whom the server might ask something are not answered so.
    pub fn stale_while_revalidate(mut self, grace: Duration) -> Self {
        self.stale_while_revalidate = grace;
        self
    }

    /// For how long an expired answer may still be given when the inner stack fails: connection lost, timeout,
    /// internal error, or refused before anything was done (RFC 5861, section 4). Not at all by default.
    pub fn stale_if_error(mut self, grace: Duration) -> Self {
        self.stale_if_error = grace;
        self
    }

    /// Whether the cache listens for changes itself (`subscriptions/listen`), from the first call that it has no
    /// answer for: for those of the inner stack's lists, and of the resources that it keeps something of, where the
    /// stack tells of them (`resources.subscribe` in its capabilities). Yes by default. Otherwise it hears of changes
    /// only while a caller listens through it.
    ///
    /// What changes between the first answer and the moment that the listen is open is noticed by its time alone.
    /// When the connection is lost and a listen is open again, all that it tells of counts as changed.
    ///
    /// It is one request that stays open, and for a moment two where it is opened anew for another resource (four
    /// times a second at most); and as many again where callers of both ways to speak call, those of 2026-07-28 and
    /// those before: an upstream may have a connection for each. Further in, a concurrency limit counts it and a
    /// timeout ends it, unless they stand in [`ExceptListens`](crate::ExceptListens). It is made without a principal: a
    /// stack that refuses it, and not for want of room alone, is not asked again, and of resources that it refuses
    /// this caller, or does not acknowledge, changes are not heard. One that ends is opened again: after a second, and
    /// after up to a minute where that happens again and again.
    pub fn watch_changes(mut self, watch: bool) -> Self {
        self.watch_changes = watch;
        self
    }

    /// How many resources it listens for at most: 256 by default, and 0 for none. A resource is listened for until
    /// the last answer that was kept of it would have expired, and for half a minute longer at most.
    /// Answers of resources that find no room are kept as well, and go by their time alone.
    pub fn max_watched_resources(mut self, resources: usize) -> Self {
        self.max_watched_resources = resources;
        self
    }

    /// Whether answers tell their callers how the cache came by them, in their `_meta` under [`CACHE_META_KEY`]
    /// (`status`, `ageMs`, `ttlMs`): no by default. Outer layers read it by [`CacheStatus::of`](super::CacheStatus::of) either way.
    pub fn report_in_meta(mut self, report: bool) -> Self {
        self.report_in_meta = report;
        self
    }

    /// Shares answers with other processes, behind the memory of this one; none by default.
    ///
    /// Whoever has to fetch an answer looks for it there first, and puts it there afterwards. What one process
    /// forgets the others find outdated in the store at once, and in their memories within a second: by groups, so
    /// that they forget more than was said (all tools for one tool, everything for one principal). Of what inner
    /// layers said in a response's extensions only whom it is for is kept there.
    ///
    /// Processes that share a store must have the same servers behind their caches, in the same order where one layer
    /// is laid over several.
    ///
    /// A store that fails, or has something else than was put there, is no answer and a warning, twice a minute at
    /// most. For a second after a failure nobody asks it.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// How long anybody waits for the shared store: 100 ms by default.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// If nothing could ever be kept, if a tool is to be kept that never is, if a method is named whose answers are
    /// not, or if nobody would wait for the store.
    pub fn build(self) -> Result<CacheLayer, Error> {
        self.check().map_err(impossible)?;
        Ok(self.make())
    }

    fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("max_entries", self.max_entries),
            ("max_bytes", self.max_bytes),
            ("max_item_bytes", self.max_item_bytes),
        ] {
            if value == 0 {
                return Err(format!(
                    "{name} is 0, so nothing would be kept: leave the layer out instead"
                ));
            }
        }
        if self.max_item_bytes > self.max_bytes {
            return Err(format!(
                "max_item_bytes ({}) is more than max_bytes ({}): raise the latter",
                self.max_item_bytes, self.max_bytes
            ));
        }
        let times = self
            .tools
            .iter()
            .filter_map(|(tool, ttl)| Some((tool, (*ttl)?)));
        let times = times.chain(self.methods.iter().map(|(method, ttl)| (method, *ttl)));
        for (of, ttl) in times {
            if ttl.is_zero() {
                return Err(format!("`{of}` is kept for no time: leave that out"));
            }
        }
        if self.time_to_live.is_zero() {
            return Err("time_to_live is 0, so nothing would be kept".to_owned());
        }
        if self.store.is_some() && self.store_timeout.is_zero() {
            return Err("store_timeout is 0, so the store would never be heard".to_owned());
        }
        for (tool, _) in &self.tools {
            // Of a glob some tools may still be kept.
            let is_name = !tool.contains(['*', '?']);
            if self.never.contains(tool) || is_name && is_never(&self.never, tool) {
                return Err(format!(
                    "`{tool}` is to be kept, and is in the set of tools that never are: call \
                     clear_never_cache first if that is wrong"
                ));
            }
        }
        self.kinds().map(drop)
    }

    fn kinds(&self) -> Result<Vec<(Kind, Duration)>, String> {
        let kinds = self.methods.iter().map(|(method, ttl)| {
            let known = |kind: &&Kind| kind.method() == method && **kind != Kind::CallTool;
            let kind = Kind::ALL.iter().find(known).ok_or_else(|| {
                let all = Kind::ALL.iter().filter(|kind| **kind != Kind::CallTool);
                let all: Vec<_> = all.map(|kind| kind.method()).collect();
                format!(
                    "answers of `{method}` are not kept by method; those of {} are, and tools by cache_tool",
                    all.join(", ")
                )
            })?;
            Ok((*kind, *ttl))
        });
        kinds.collect()
    }

    /// Makes what has been checked.
    fn make(self) -> CacheLayer {
        let memory = Memory::new(self.max_entries, self.max_bytes, self.max_item_bytes);
        let rules = Rules {
            methods: self.kinds().unwrap_or_default(),
            time_to_live: self.time_to_live,
            tools: self.tools,
            never: self.never,
            trust_annotations: self.trust_annotations,
            zero_is_silence: self.zero_is_silence,
            ignored_meta: self.ignored_meta,
            vary_by: self.vary_by,
            share_errors: self.share_errors,
            follower_wait: self.follower_wait,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            watch_changes: self.watch_changes,
            max_watched_resources: self.max_watched_resources,
            report_in_meta: self.report_in_meta,
            max_item_bytes: self.max_item_bytes,
        };
        let timeout = self.store_timeout;
        let remote = self.store.map(|store| Remote::new(store, timeout));
        CacheLayer {
            shared: Arc::new(Shared::new(rules, memory, remote)),
        }
    }
}

fn impossible(message: String) -> Error {
    Refusal::new("cache", message)
        .with_code(code::FORBIDDEN)
        .into()
}

impl fmt::Debug for CacheLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayerBuilder")
            .field("max_entries", &self.max_entries)
            .field("max_bytes", &self.max_bytes)
            .field("time_to_live", &self.time_to_live)
            .finish_non_exhaustive()
    }
}
