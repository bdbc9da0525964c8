//! What a cache tells of an answer, and what a request tells a cache.

use std::time::Duration;

use rmcp::model::{MetaObject, RequestMetaObject, ServerResult};
use serde_json::{Value, json};

use crate::cache_status::CacheStatus;

/// The `_meta` key of a request's directives and, where the operator wants it, of an answer's status.
///
/// On a request its value is an object with any of these members, which mean what they mean in HTTP's
/// `Cache-Control` (RFC 9111, section 5.2.1):
///
/// - `"no-store": true`: the answer is not kept, not shared, and not taken from memory. (HTTP would take it from
///   memory; here one word keeps a call out of the cache altogether.)
/// - `"no-cache": true`: the answer is fetched anew, and then kept.
/// - `"max-age": SECONDS`: an older answer is fetched anew.
///
/// A value that is none of that counts as `no-store`. The directives go on inward with the request, for caches
/// further in.
pub const CACHE_META_KEY: &str = "rmcp-layers/cache";

/// Says it in the answer's `_meta`.
pub(super) fn report(status: CacheStatus, result: &mut ServerResult) {
    let Some(meta) = meta_of(result) else { return };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut says = json!({ "status": status.as_str() });
    if let CacheStatus::Hit { age, .. } | CacheStatus::Stale { age } = status {
        says["ageMs"] = millis(age).into();
    }
    if let CacheStatus::Hit { ttl, .. } = status {
        says["ttlMs"] = millis(ttl).into();
    }
    meta.get_or_insert_default()
        .insert(CACHE_META_KEY.to_owned(), says);
}

fn meta_of(result: &mut ServerResult) -> Option<&mut Option<MetaObject>> {
    Some(match result {
        ServerResult::CallToolResult(of) => &mut of.meta,
        ServerResult::GetPromptResult(of) => &mut of.meta,
        ServerResult::ReadResourceResult(of) => &mut of.meta,
        ServerResult::ListToolsResult(of) => &mut of.meta,
        ServerResult::ListPromptsResult(of) => &mut of.meta,
        ServerResult::ListResourcesResult(of) => &mut of.meta,
        ServerResult::ListResourceTemplatesResult(of) => &mut of.meta,
        ServerResult::DiscoverResult(of) => &mut of.meta,
        ServerResult::ListSkillsResult(of) => &mut of.meta,
        ServerResult::GetSkillResult(of) => &mut of.meta,
        _ => return None,
    })
}

/// What a request says of how it is to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub max_age: Option<Duration>,
}

impl Directives {
    pub fn of(meta: &RequestMetaObject) -> Self {
        match meta.get(CACHE_META_KEY) {
            None => Self::default(),
            Some(says) => Self::read(says).unwrap_or(Self {
                no_store: true,
                ..Self::default()
            }),
        }
    }

    fn read(says: &Value) -> Option<Self> {
        let says = says.as_object()?;
        let mut read = Self::default();
        for (directive, value) in says {
            match directive.as_str() {
                "no-store" => read.no_store = value.as_bool()?,
                "no-cache" => read.no_cache = value.as_bool()?,
                "max-age" => {
                    let seconds = value.as_f64()?;
                    read.max_age = Some(Duration::try_from_secs_f64(seconds).ok()?);
                }
                _ => {}
            }
        }
        Some(read)
    }
}
