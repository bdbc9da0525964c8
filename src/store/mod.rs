//! State that several processes share.
//!
//! State of this crate lives in the memory of its process. Where several processes must agree, a layer takes a
//! [`Store`] beside it: [`RedisStore`] (feature `redis`) for processes on any machine, [`MemoryStore`] for several
//! layers in one process and for tests, or your own.
//!
//! A store only holds bytes. What uses it says what they mean, checks what it reads, and works on without it: its
//! failure is nobody's failure.

mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
pub use memory::MemoryStore;
use tower::BoxError;

#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};

/// Values of bytes by keys of bytes, for a time, shared by whoever has the same store.
///
/// Calls may come at the same time and may be dropped at any moment. Whoever calls bounds how long it waits.
pub trait Store: Send + Sync + 'static {
    /// What is stored under these keys, in their order.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or does not answer as it should.
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>>;

    /// Stores a value in place of any other, for so long or without an end.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached, or does not take it.
    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Forgets what is stored under a key, if anything is.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached.
    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A value that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The value.
    pub value: Vec<u8>,
    /// For how long it still is, if not for ever.
    pub left: Option<Duration>,
}

impl Stored {
    /// A value that is stored for so long from now on.
    pub fn new(value: Vec<u8>, left: Option<Duration>) -> Self {
        Self { value, left }
    }
}

/// A store does not answer, or not as it should.
#[derive(Clone, Debug)]
pub struct StoreError {
    message: Cow<'static, str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A failure with this message.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// Keeps what caused it.
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
