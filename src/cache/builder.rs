use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::{
    CacheLayer,
    memory::Memory,
    remote::Remote,
    rules::{Group, Rules, VaryBy, is_never},
    state::Shared,
    status::CACHE_META_KEY,
};
use crate::{ConfigError, McpRequest, protocol::methods::Method, store::Store};

/// The tools that are never cached unless the operator clears this set.
const NEVER_CACHED: [&str; 4] = ["write_file", "send_email", "deploy", "delete"];

/// `_meta` keys that do not affect a response: tracing, reporting and retries of a call.
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
    ignore_zero_ttl: bool,
    ignored_meta: Vec<String>,
    vary_by: Option<VaryBy>,
    share_errors: bool,
    follower_wait: Option<Duration>,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
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
            never: NEVER_CACHED.map(str::to_owned).to_vec(),
            methods: Vec::new(),
            ignore_zero_ttl: false,
            ignored_meta: IRRELEVANT_META.map(str::to_owned).to_vec(),
            vary_by: None,
            share_errors: false,
            follower_wait: Some(Duration::from_secs(30)),
            stale_while_revalidate: None,
            stale_if_error: None,
            watch_changes: true,
            max_watched_resources: 256,
            report_in_meta: false,
            store: None,
            store_timeout: Duration::from_millis(100),
        }
    }
}

impl CacheLayerBuilder {
    /// Sets the maximum number of entries. Default: 1,000 (the least recently used is evicted).
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Sets the maximum size of all entries in bytes. Default: 64 MiB (the least recently used is
    /// evicted).
    ///
    /// An entry counts as the length of its JSON and its key, plus 768 bytes of overhead. The JSON
    /// of a response that was read from a transport counts twice, because it is kept with its text.
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the maximum size of one response in bytes of its JSON. Default: 1 MiB.
    ///
    /// A longer response is not cached, but still shared with the callers that wait for it.
    pub fn max_item_bytes(mut self, max_item_bytes: usize) -> Self {
        self.max_item_bytes = max_item_bytes;
        self
    }

    /// Sets the maximum time to live of an entry. Default: 300 s.
    ///
    /// A server's `ttlMs` may shorten it.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// Sets whether the tool annotations of servers are trusted. Default: `false`.
    ///
    /// If they are trusted, `readOnlyHint: true` is enough to cache a tool's responses. If a server
    /// is wrong about this hint, calls that should have run are answered from the cache. MCP
    /// 2026-07-28, Tools, says that clients MUST consider tool annotations untrusted unless they
    /// come from trusted servers. `ToolAnnotations` in its schema says not to base decisions on the
    /// annotations of untrusted servers. `destructiveHint: true` always counts, because it only
    /// excludes a tool.
    ///
    /// The setting covers every server behind the cache. If only some servers are trusted, name
    /// their tools with [`cache_tool`](Self::cache_tool), or use one cache per server. Exclude
    /// tools of a trusted server whose responses change over time, such as a clock, with
    /// [`never_cache`](Self::never_cache).
    ///
    /// The cache learns annotations from the `tools/list` responses that pass it, separately for
    /// each caller.
    pub fn trust_annotations(mut self, trusted: bool) -> Self {
        self.trust_annotations = trusted;
        self
    }

    /// Caches the responses of tools that match this name or glob (`*` for any characters, `?` for
    /// one). Annotations and trust in the server are not needed. The first rule that matches a tool
    /// applies.
    pub fn cache_tool(mut self, tool: impl Into<String>) -> Self {
        self.tools.push((tool.into(), None));
        self
    }

    /// Like [`cache_tool`](Self::cache_tool), with a time to live in place of
    /// [`time_to_live`](Self::time_to_live).
    pub fn cache_tool_for(mut self, tool: impl Into<String>, time_to_live: Duration) -> Self {
        self.tools.push((tool.into(), Some(time_to_live)));
        self
    }

    /// Excludes tools that match this name or glob from the cache; this overrides all other rules.
    /// Default: `write_file`, `send_email`, `deploy` and `delete`.
    ///
    /// The glob is compared with the whole name, and with every suffix of it that leaves at least
    /// two characters in front. A gateway prefixes names with its member's name and any separator,
    /// so `deploy` also matches `ci__deploy` and `ci.deploy`. It matches `redeploy` as well: the
    /// rule excludes too many tools rather than too few. If a gateway or the operator has shortened
    /// or changed a name, give it as callers see it.
    pub fn never_cache(mut self, tool: impl Into<String>) -> Self {
        self.never.push(tool.into());
        self
    }

    /// Empties the set of tools that are never cached, including its defaults.
    pub fn clear_never_cache(mut self) -> Self {
        self.never.clear();
        self
    }

    /// Sets a time to live for the responses of a method that carry no cache hints. Default: none,
    /// so such responses are not cached.
    ///
    /// Servers before 2026-07-28 send no cache hints, and `prompts/get` has none in any revision.
    /// `ttlMs: 0` counts as a hint; see [`ignore_zero_ttl`](Self::ignore_zero_ttl).
    ///
    /// The methods are `resources/read`, `resources/list`, `resources/templates/list`,
    /// `prompts/get`, `prompts/list`, `tools/list`, `skills/list`, `skills/get` and
    /// `server/discover`. Entries are private to their caller unless the response has
    /// `cacheScope: "public"`.
    pub fn cache_method(mut self, method: impl Into<String>, time_to_live: Duration) -> Self {
        self.methods.push((method.into(), time_to_live));
        self
    }

    /// Sets whether `ttlMs: 0` counts as no hint, so that [`cache_method`](Self::cache_method)
    /// applies. Default: `false`.
    ///
    /// Servers of 2026-07-28 must send a `ttlMs`. SDKs such as rmcp send 0 for servers that do not
    /// set one.
    pub fn ignore_zero_ttl(mut self, ignore: bool) -> Self {
        self.ignore_zero_ttl = ignore;
        self
    }

    /// Adds a `_meta` key of requests that does not affect the response. Any other key makes
    /// requests differ.
    ///
    /// Default: `progressToken`, `traceparent`, `tracestate`, `baggage`,
    /// `io.modelcontextprotocol/logLevel`, idempotency keys, `rmcp-layers/retry` and
    /// [`CACHE_META_KEY`].
    ///
    /// `io.modelcontextprotocol/clientInfo` also covers the client info of a handshake. With it,
    /// users of different clients share public entries.
    pub fn ignore_meta(mut self, key: impl Into<String>) -> Self {
        self.ignored_meta.push(key.into());
        self
    }

    /// Adds bytes to the cache key, for inner stacks whose responses depend on more than the
    /// message and the caller. Examples are a tenant's HTTP header or a setting in the request's
    /// extensions.
    ///
    /// `vary` appends bytes; requests with equal bytes may share a response.
    pub fn vary_by(
        mut self,
        vary: impl Fn(&McpRequest, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        self.vary_by = Some(Arc::new(vary));
        self
    }

    /// Sets whether callers that wait for a shared call also receive its failure, including an
    /// `isError` result. Default: `false`, so each of them makes its own call.
    ///
    /// Cancellations and timeouts are never shared.
    pub fn share_errors(mut self, share: bool) -> Self {
        self.share_errors = share;
        self
    }

    /// Sets the maximum time that a caller waits for the same call of another caller. Default: 30
    /// s.
    ///
    /// Few calls take that long, and it is much less than the 5 minutes of silence after which an
    /// [`Upstream`](crate::Upstream) gives up a call. A hanging call therefore delays each waiting
    /// caller by at most this time. The first caller whose wait ends replaces the hanging call for
    /// later callers; the others make their own calls.
    ///
    /// A caller's own deadline ends its wait earlier. With `None` the wait has no limit.
    pub fn follower_wait(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.follower_wait = time.into();
        self
    }

    /// Sets the time after expiry during which an entry is still returned while a new response is
    /// fetched in the background (RFC 5861, section 3). Default: `None` (off).
    ///
    /// The background fetch uses the request that found the expired entry, including its principal.
    /// Callers to which the server might send requests do not receive expired entries this way.
    pub fn stale_while_revalidate(mut self, grace: impl Into<Option<Duration>>) -> Self {
        self.stale_while_revalidate = grace.into();
        self
    }

    /// Sets the time after expiry during which an entry is still returned if the inner stack fails
    /// (RFC 5861, section 4). Default: `None` (off).
    ///
    /// Failures are a lost connection, a timeout, an internal error, or a refusal before any work
    /// was done.
    pub fn stale_if_error(mut self, grace: impl Into<Option<Duration>>) -> Self {
        self.stale_if_error = grace.into();
        self
    }

    /// Sets whether the cache opens its own `subscriptions/listen` for changes. Default: `true`.
    /// Otherwise it notices changes only while a caller listens through it.
    ///
    /// The first cache miss opens the listen. It covers the lists of the inner stack. It also
    /// covers the cached resources, if the stack has `resources.subscribe` in its capabilities.
    ///
    /// Changes between the first response and the acknowledgement of the listen are not noticed;
    /// such entries end by their time to live. After a lost connection, everything that the
    /// reopened listen covers counts as changed.
    ///
    /// The listen is one request that stays open. For a moment there are two, when it is reopened
    /// for another resource (at most four times a second). An upstream may have separate
    /// connections for callers of 2026-07-28 and of earlier revisions, so each kind of caller has
    /// its own listen. Inner layers see these requests: a concurrency limit counts them and a
    /// timeout ends them unless they stand in [`ExceptListensLayer`](crate::ExceptListensLayer).
    ///
    /// The listen has no principal. If the stack refuses it, the cache does not ask again, except
    /// after a lost connection, a timeout or a lack of room. Changes of a resource are not noticed
    /// if the stack refuses it to this caller or does not acknowledge it. A listen that ends is
    /// reopened after up to one second, and after up to 30 seconds if it ends repeatedly.
    pub fn watch_changes(mut self, watch: bool) -> Self {
        self.watch_changes = watch;
        self
    }

    /// Sets the maximum number of resources that the cache listens for. Default: 256; 0 turns it
    /// off.
    ///
    /// The cache listens for a resource until its last entry would have expired, and up to 30 s
    /// longer. Resources beyond the limit are cached as well, and expire by their time to live
    /// alone.
    pub fn max_watched_resources(mut self, resources: usize) -> Self {
        self.max_watched_resources = resources;
        self
    }

    /// Sets whether responses carry their cache status in `_meta` under [`CACHE_META_KEY`]
    /// (`status`, `ageMs`, `ttlMs`). Default: `false`.
    ///
    /// Outer layers can always read it as [`cache_status`](crate::CallReport::cache_status).
    pub fn report_in_meta(mut self, report: bool) -> Self {
        self.report_in_meta = report;
        self
    }

    /// Sets a store that shares entries with other processes, behind the memory of this one.
    /// Default: none.
    ///
    /// A cache miss looks in the store before it calls the inner stack, and writes the response to
    /// the store afterwards. An invalidation in one process makes the entries in the store outdated
    /// at once, and those in the memory of other processes within one second. It covers whole
    /// groups: all tools for one tool, everything for one principal. Of the response's extensions,
    /// the store keeps only the mark that a response is private.
    ///
    /// Processes that share a store must have the same servers behind their caches. If one layer
    /// wraps several stacks, they must be wrapped in the same order.
    ///
    /// A store that fails or returns invalid data counts as a miss. It logs a warning at most twice
    /// a minute. After a failure the store is not used for one second.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets the maximum time that a call waits for the shared store. Default: 100 ms.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if a limit, a time to live or the store timeout is 0, or if
    /// `max_item_bytes` is more than `max_bytes`. It also returns an error if a named tool is in
    /// the never-cache set, or if a named method cannot be cached.
    pub fn build(self) -> Result<CacheLayer, ConfigError> {
        self.check()?;
        Ok(self.make())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let zero = |option| {
            let reason = "it is 0, so no response would be cached; leave the layer out instead";
            Err(wrong(option, reason))
        };
        for (option, limit) in [
            ("max_entries", self.max_entries),
            ("max_bytes", self.max_bytes),
            ("max_item_bytes", self.max_item_bytes),
        ] {
            if limit == 0 {
                return zero(option);
            }
        }
        if self.max_item_bytes > self.max_bytes {
            let (item, all) = (self.max_item_bytes, self.max_bytes);
            let reason = format!("it is {item}, and max_bytes is {all}; raise max_bytes");
            return Err(wrong("max_item_bytes", reason));
        }
        if self.time_to_live.is_zero() {
            return zero("time_to_live");
        }
        if self.store.is_some() && self.store_timeout.is_zero() {
            return Err(wrong(
                "store_timeout",
                "it is 0; leave the store out instead",
            ));
        }
        for (tool, time_to_live) in &self.tools {
            if time_to_live.is_some_and(|time| time.is_zero()) {
                let reason = format!("the time to live of `{tool}` is 0; leave it out instead");
                return Err(wrong("cache_tool_for", reason));
            }
            // Other tools that match a glob may still be cached.
            let is_name = !tool.contains(['*', '?']);
            if self.never.contains(tool) || is_name && is_never(&self.never, tool) {
                let reason = format!(
                    "`{tool}` is in the set of tools that are never cached; call \
                     clear_never_cache first if that is wrong"
                );
                return Err(wrong("cache_tool", reason));
            }
        }
        self.checked_methods().map(drop)
    }

    fn checked_methods(&self) -> Result<Vec<(Method, Duration)>, ConfigError> {
        let is_cached =
            |method: &Method| Group::of(*method).is_some() && *method != Method::CallTool;
        let methods = self.methods.iter().map(|(name, time_to_live)| {
            if time_to_live.is_zero() {
                let reason = format!("the time to live of `{name}` is 0; leave it out instead");
                return Err(wrong("cache_method", reason));
            }
            match Method::named(name).filter(is_cached) {
                Some(method) => Ok((method, *time_to_live)),
                None => {
                    let all = Method::ALL.iter().filter(|method| is_cached(method));
                    let all: Vec<_> = all.map(|method| method.name()).collect();
                    let all = all.join(", ");
                    Err(wrong(
                        "cache_method",
                        format!("`{name}` is not one of {all}; name tools by cache_tool"),
                    ))
                }
            }
        });
        methods.collect()
    }

    /// Makes the layer from checked settings.
    pub(super) fn make(self) -> CacheLayer {
        let memory = Memory::new(self.max_entries, self.max_bytes, self.max_item_bytes);
        let rules = Rules {
            methods: self.checked_methods().unwrap_or_default(),
            time_to_live: self.time_to_live,
            tools: self.tools,
            never: self.never,
            trust_annotations: self.trust_annotations,
            ignore_zero_ttl: self.ignore_zero_ttl,
            ignored_meta: self.ignored_meta,
            vary_by: self.vary_by,
            share_errors: self.share_errors,
            follower_wait: self.follower_wait,
            stale_while_revalidate: self.stale_while_revalidate.unwrap_or_default(),
            stale_if_error: self.stale_if_error.unwrap_or_default(),
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

fn wrong(option: &'static str, reason: impl Into<Cow<'static, str>>) -> ConfigError {
    ConfigError::new("cache", option, reason)
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
