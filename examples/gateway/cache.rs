//! The `[cache]` section of `gateway.toml`: answers from memory, and from Redis if several gateways
//! share them.
//!
//! ```toml
//! [cache]
//! tools = { "search__*" = 60, "files__read_file" = 0 }  # seconds; 0 for `ttl_secs`
//! never = ["search__order_*"]
//! methods = { "resources/read" = 30 }                   # where the server does not say how long
//! trust_annotations = true                              # `readOnlyHint` is enough, if every server is trusted
//! redis = "redis://127.0.0.1:6379"
//! ```

use std::{collections::BTreeMap, time::Duration};

use rmcp_layers::{
    cache::{CacheLayer, CacheLayerBuilder},
    store::RedisStore,
};
use serde::Deserialize;

use crate::{Result, config::in_the_files_words};

/// Tools that change something, whatever their annotations say.
const NEVER: [&str; 4] = ["write_file", "send_email", "deploy", "delete"];

/// The `[cache]` section. A missing setting has the layer's default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    max_entries: Option<usize>,
    max_mib: Option<usize>,
    ttl_secs: Option<u64>,
    trust_annotations: bool,
    tools: BTreeMap<String, u64>,
    never: Vec<String>,
    methods: BTreeMap<String, u64>,
    ignore_zero_ttl: bool,
    stale_while_revalidate_secs: u64,
    stale_if_error_secs: u64,
    redis: Option<String>,
    redis_prefix: Option<String>,
}

impl Cache {
    /// Returns the URL of Redis.
    pub fn redis(&self) -> Option<&str> {
        self.redis.as_deref()
    }

    /// Returns the layer of the section, over all servers. `distrusted` is a server whose
    /// annotations are not trusted, if there is one.
    pub fn layer(&self, distrusted: Option<&str>) -> Result<CacheLayer> {
        if let (true, Some(server)) = (self.trust_annotations, distrusted) {
            return Err(format!(
                "[cache] trust_annotations is about every server behind the cache, and [servers.{server}] does not \
                 say trust_annotations = true: say it there too, or name the tools to keep in [cache] tools instead"
            )
            .into());
        }
        let names = [
            ("max_bytes", "max_mib"),
            ("time_to_live", "ttl_secs"),
            ("name tools by cache_tool", "name tools in `tools`"),
            ("cache_tool_for", "tools"),
            ("cache_tool", "tools"),
            ("cache_method", "methods"),
            (
                "call clear_never_cache first if that is wrong",
                "take it out of one of the two",
            ),
            ("leave the layer out", "leave the section out"),
        ];
        let layer = self.builder()?.build();
        Ok(layer.map_err(|error| in_the_files_words("cache", error, &names))?)
    }

    fn builder(&self) -> Result<CacheLayerBuilder> {
        let seconds = |seconds: u64| Duration::from_secs(seconds);
        let mut builder = CacheLayer::builder()
            .trust_annotations(self.trust_annotations)
            .ignore_zero_ttl(self.ignore_zero_ttl)
            .stale_while_revalidate(seconds(self.stale_while_revalidate_secs))
            .stale_if_error(seconds(self.stale_if_error_secs));
        if let Some(entries) = self.max_entries {
            builder = builder.max_entries(entries);
        }
        if let Some(mib) = self.max_mib {
            builder = builder.max_bytes(mib.saturating_mul(1024 * 1024));
        }
        if let Some(ttl) = self.ttl_secs {
            builder = builder.time_to_live(seconds(ttl));
        }
        for (tool, ttl) in &self.tools {
            builder = match ttl {
                0 => builder.cache_tool(tool),
                ttl => builder.cache_tool_for(tool, seconds(*ttl)),
            };
        }
        // The layer has these tools by their own names. Here, a server's name may stand in front.
        for tool in NEVER {
            if let Some(kept) = self
                .tools
                .keys()
                .find(|kept| kept.ends_with(&format!("__{tool}")))
            {
                let message = format!("[cache]: `{kept}` is never kept: take it out of `tools`");
                return Err(message.into());
            }
            builder = builder.never_cache(format!("*__{tool}"));
        }
        for tool in &self.never {
            builder = builder.never_cache(tool);
        }
        for (method, ttl) in &self.methods {
            builder = builder.cache_method(method, seconds(*ttl));
        }
        if self.redis.is_none() && self.redis_prefix.is_some() {
            return Err("[cache]: `redis_prefix` is for a Redis: give `redis` too".into());
        }
        if let Some(url) = &self.redis {
            let mut store = RedisStore::builder(url);
            if let Some(prefix) = &self.redis_prefix {
                store = store.prefix(prefix);
            }
            let store = store
                .build()
                .map_err(|error| format!("[cache] redis: {error}"))?;
            builder = builder.store(store);
        }
        Ok(builder)
    }
}
