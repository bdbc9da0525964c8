//! The cached lists of a member.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool},
};

use futures::future::{BoxFuture, Shared};
use rmcp::model::{CacheScope, MetaObject};
use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use super::{
    list_key::{ByListKey, ListKey},
    text::Listed,
};
use crate::{Error, context::audience::PrivateTo, util::lock};

/// A fetched list of a member.
pub(in crate::gateway) struct CachedList<T> {
    pub(in crate::gateway) items: Vec<Listed<T>>,
    /// The text of the first page, if it came from a text.
    pub(super) page: Option<Bytes>,
    /// The positions of the items, by the member's own names or URIs.
    pub(in crate::gateway) keys: HashMap<Box<str>, usize>,
    /// The member's options that match none of the items, by their positions.
    pub(super) unmatched: Box<[usize]>,
    /// The audience that an inner layer set, if it is narrower than the key.
    pub(in crate::gateway) private: Option<PrivateTo>,
    /// Other callers of the key may be shown it too.
    pub(in crate::gateway) shareable: bool,
    pub(in crate::gateway) stamp: u64,
    /// The list's change count when the fetch began.
    pub(in crate::gateway) change: u64,
    pub(in crate::gateway) fetched: Instant,
    pub(in crate::gateway) expires: Option<Instant>,
    pub(in crate::gateway) ttl_ms: Option<u64>,
    pub(in crate::gateway) cache_scope: Option<CacheScope>,
    pub(in crate::gateway) meta: Option<MetaObject>,
}

/// One list of a member, cached by key.
pub(in crate::gateway) struct ListCache<T> {
    pub(in crate::gateway) cached: ByListKey<Arc<CachedList<T>>>,
    pub(in crate::gateway) fetching: Mutex<HashMap<ListKey, SharedFetch<T>>>,
    /// The last fetch of the list that was made only to suggest names near an unknown one.
    pub(super) last_suggestion_fetch: ByListKey<Instant>,
    /// The last fetch of the list that was made only for its tool hints.
    pub(super) last_hint_fetch: ByListKey<Instant>,
    /// The warning that not all pages of the list are read was logged.
    pub(in crate::gateway) cut_short: AtomicBool,
}

impl<T> Default for ListCache<T> {
    fn default() -> Self {
        Self {
            cached: ByListKey::default(),
            fetching: Mutex::default(),
            last_suggestion_fetch: ByListKey::default(),
            last_hint_fetch: ByListKey::default(),
            cut_short: AtomicBool::new(false),
        }
    }
}

impl<T> ListCache<T> {
    pub(in crate::gateway) fn fetching(&self) -> MutexGuard<'_, HashMap<ListKey, SharedFetch<T>>> {
        lock(&self.fetching)
    }
}

pub(in crate::gateway) type FetchedList<T> = Result<Arc<CachedList<T>>, Error>;

/// A fetch that all callers of the list share.
#[derive(Clone)]
pub(in crate::gateway) struct SharedFetch<T> {
    pub(super) id: u64,
    pub(super) change: u64,
    pub(super) since: Instant,
    /// A caller was answered without this list.
    pub(super) late: Arc<AtomicBool>,
    pub(super) done: Shared<BoxFuture<'static, FetchedList<T>>>,
}
