//! State that several processes share.
//!
//! By default, the state of this crate is in the memory of its process. If several processes must
//! share state, give the layer a [`Store`]:
//!
//! - [`RedisStore`] (feature `redis`) for processes on any machine;
//! - [`MemoryStore`] for several layers in one process and for tests;
//! - or your own implementation.
//!
//! A store only holds bytes. The layer that uses it defines their meaning, checks what it reads,
//! and works on without the store if it fails.

mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
pub use memory::MemoryStore;
use tower::BoxError;

#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};

/// A key-value store of bytes with expiry, shared by all users of the same store.
///
/// Calls may be concurrent, and may be dropped at any moment. The caller limits its own wait.
pub trait Store: Send + Sync + 'static {
    /// Returns the values under these keys, in their order.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be reached or its reply is invalid.
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>>;

    /// Stores a value, and replaces any other. `None` as `time_to_live` means no expiry.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be reached or does not accept the value.
    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes the value under a key, if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be reached.
    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The value.
    pub value: Vec<u8>,
    /// The remaining time to live, or `None` without an expiry.
    pub left: Option<Duration>,
}

impl Stored {
    /// Creates a value with this remaining time to live.
    pub fn new(value: Vec<u8>, left: Option<Duration>) -> Self {
        Self { value, left }
    }
}

/// A failure of a store: no reply, or an invalid one.
#[derive(Clone, Debug)]
pub struct StoreError {
    message: Cow<'static, str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// Creates an error with this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// Sets the cause of the error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{}: {source}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
