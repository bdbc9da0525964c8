use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::StoreError;

/// The maximum value of a [counter](Store::increment): 2^53 - 1, which Redis scripts count exactly.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// A key-value store of bytes with expiry, shared by all users of the same store.
///
/// Calls may be concurrent, and each takes effect at one moment for all users. A call may be
/// dropped at any time, and the caller limits its own wait. After a call that was dropped or that
/// failed, the change may or may not have happened.
///
/// A value that was written by [`set`](Self::set) may be evicted before it expires. A value that
/// was written by one of the conditional operations may not: a store without room for it returns an
/// error.
///
/// `None` as a time to live means no expiry. An expired value is the same as a missing one.
///
/// Several layers share one store as an `Arc<dyn Store>`, which is a store too.
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

    /// Stores a value, and replaces any other.
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

    /// Replaces the value under a key if it is equal to `expected`. Returns `false` and changes
    /// nothing if it is not.
    ///
    /// `None` stands for a missing value: as `expected`, the value is added only if there is none;
    /// as `value`, the expected one is removed.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be reached or has no room for the value.
    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Adds `change` to a counter, unless the sum would be more than `limit`.
    ///
    /// A missing counter is 0, and gets the time to live when it is first increased. Later
    /// increments do not extend it. A negative change is always accepted and ends at 0. The
    /// counter's value is its decimal number, which [`get`](Self::get) returns.
    ///
    /// Limit: [`MAX_COUNT`] for the sum.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be reached or has no room for the counter, or if the
    /// value under the key is not a counter.
    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>>;

    /// Subtracts `amount` from a counter, down to 0, and sets a marker, in one step. Returns `false`
    /// and changes nothing if the marker is there.
    ///
    /// So a call that has failed can be repeated with the same marker, as long as the marker lasts.
    /// A missing counter stays missing.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be reached or has no room for the marker, or if the
    /// value under the key is not a counter.
    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Adds a value if there is none under the key. Returns `false` and changes nothing if there
    /// is.
    ///
    /// # Errors
    ///
    /// Returns an error as [`compare_and_set`](Self::compare_and_set) does.
    fn add<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.compare_and_set(key, None, Some(value), time_to_live)
    }
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The value.
    pub value: Vec<u8>,
    /// The remaining time to live, or `None` without an expiry.
    pub remaining: Option<Duration>,
}

impl Stored {
    /// Creates a value with this remaining time to live.
    pub fn new(value: Vec<u8>, remaining: Option<Duration>) -> Self {
        Self { value, remaining }
    }
}

/// The result of [`Store::increment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Increment {
    /// `true` if the change was made.
    pub accepted: bool,
    /// The value of the counter after the call.
    pub value: u64,
    /// The remaining time to live of the counter, or `None` without an expiry. A refusal may tell
    /// its caller to try again after this time.
    pub remaining: Option<Duration>,
}

impl Increment {
    /// Creates the result of a change.
    pub fn new(accepted: bool, value: u64, remaining: Option<Duration>) -> Self {
        Self {
            accepted,
            value,
            remaining,
        }
    }
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn get<'a>(
        &'a self,
        keys: &'a [Vec<u8>],
    ) -> BoxFuture<'a, Result<Vec<Option<Stored>>, StoreError>> {
        (**self).get(keys)
    }

    fn set<'a>(
        &'a self,
        key: &'a [u8],
        value: Vec<u8>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).set(key, value, time_to_live)
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        (**self).remove(key)
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a [u8],
        expected: Option<&'a [u8]>,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        (**self).compare_and_set(key, expected, value, time_to_live)
    }

    fn increment<'a>(
        &'a self,
        key: &'a [u8],
        change: i64,
        limit: u64,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<Increment, StoreError>> {
        (**self).increment(key, change, limit, time_to_live)
    }

    fn decrement_once<'a>(
        &'a self,
        key: &'a [u8],
        amount: u64,
        marker: &'a [u8],
        time_to_live: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        (**self).decrement_once(key, amount, marker, time_to_live)
    }
}
