//! The cache status of a response, and the cache directives of a request.

use std::time::Duration;

use rmcp::model::{RequestMetaObject, ServerResult};
use serde_json::{Value, json};

use crate::{CacheStatus, Lossless, protocol::results};

/// The `_meta` key for the cache directives of a request and, if the operator turns it on, for the
/// cache status of a response.
///
/// On a request, its value is an object with any of these members. They have the meaning of HTTP's
/// `Cache-Control` (RFC 9111, section 5.2.1):
///
/// - `"no-store": true`: the response is not cached, not shared, and not taken from the cache.
///   (HTTP would allow a cached response; here one directive bypasses the cache altogether.)
/// - `"no-cache": true`: the response is fetched anew, and then cached.
/// - `"max-age": SECONDS`: an older response is fetched anew.
///
/// Any other value counts as `no-store`. The directives stay in the request, for caches further in.
pub const CACHE_META_KEY: &str = "rmcp-layers/cache";

/// Writes the status to the `_meta` of a result.
pub(super) fn report(status: CacheStatus, result: &mut Lossless<ServerResult>) {
    if results::meta(result.as_read_mut()).is_none() {
        return;
    }
    let Some(meta) = results::meta(result) else {
        return;
    };
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

/// The cache directives of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub max_age: Option<Duration>,
}

impl Directives {
    pub(super) fn of(meta: &RequestMetaObject) -> Self {
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
