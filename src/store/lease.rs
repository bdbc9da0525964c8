use std::{fmt, future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{Store, StoreError};

/// The maximum time to live of a lease.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// An exclusive right under a key of a [`Store`], which one process holds at a time.
///
/// The holder renews the lease before its time to live ends, or else another process may acquire
/// it. Choose a time to live that is much longer than a reply of the store takes, such as 30 s: it
/// is also the time after which the work of a holder that has died is taken over. Limit: one day
/// (a longer time is shortened).
///
/// Dropping a lease releases it in the background, if this is possible; else it expires. See the
/// [module](super) for an example and for the limits of what a lease guarantees.
pub struct Lease {
    store: Arc<dyn Store>,
    key: Vec<u8>,
    token: String,
    time_to_live: Duration,
    /// The earliest time at which the lease expires, or `None` if it was lost or never held.
    until: Option<Instant>,
}

/// The error of a lease.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The lease has expired and may be held by another process.
    #[error("the lease was lost: it expired before it was renewed")]
    Lost,
    /// The store has failed. The lease may still be held until it expires.
    #[error("the lease's store failed: {0}")]
    Store(#[from] StoreError),
}

impl Lease {
    /// Acquires the lease under this key. Returns `None` if it is held, by this process or another.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails.
    pub async fn acquire(
        store: &Arc<dyn Store>,
        key: impl Into<Vec<u8>>,
        time_to_live: Duration,
    ) -> Result<Option<Self>, StoreError> {
        let (began, time_to_live) = (Instant::now(), time_to_live.min(LONGEST));
        // Made before the store replies, so that a call that is dropped releases the lease.
        let mut lease = Self {
            store: store.clone(),
            key: key.into(),
            token: format!("{:032x}", rand::random::<u128>()),
            time_to_live,
            until: began.checked_add(time_to_live),
        };
        let value = lease.token.clone().into_bytes();
        let added = lease.store.add(&lease.key, value, Some(time_to_live)).await;
        if matches!(added, Ok(false)) {
            lease.until = None;
        }
        Ok(added?.then_some(lease))
    }

    /// Returns the token of this holder. No two holders have the same.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Returns the time until which the lease is held for certain: 0 if it is lost.
    ///
    /// It is measured by this process from before the request to the store, so the store keeps the
    /// lease a little longer.
    pub fn remaining(&self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Extends the lease to its whole time to live from now on.
    ///
    /// # Errors
    ///
    /// Returns [`LeaseError::Lost`] if the lease has expired, and [`LeaseError::Store`] if the store
    /// fails. In the latter case the lease is held as long as [`remaining`](Self::remaining) says.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        if self.until.is_none() {
            return Err(LeaseError::Lost);
        }
        let began = Instant::now();
        let token = self.token.as_bytes();
        let (same, time) = (Some(token.to_vec()), Some(self.time_to_live));
        let renew = self
            .store
            .compare_and_set(&self.key, Some(token), same, time);
        let is_held = renew.await?;
        self.until = is_held
            .then(|| began.checked_add(self.time_to_live))
            .flatten();
        if is_held {
            Ok(())
        } else {
            Err(LeaseError::Lost)
        }
    }

    /// Releases the lease, so that another process can acquire it at once.
    ///
    /// # Errors
    ///
    /// Returns [`LeaseError::Lost`] if the lease has expired before, and [`LeaseError::Store`] if
    /// the store fails. In the latter case the lease expires by itself.
    pub async fn release(mut self) -> Result<(), LeaseError> {
        if self.until.is_none() {
            return Err(LeaseError::Lost);
        }
        let was_held = release(&*self.store, &self.key, &self.token).await?;
        self.until = None;
        if was_held {
            Ok(())
        } else {
            Err(LeaseError::Lost)
        }
    }

    /// Runs `work` while this process holds the lease, and releases the lease afterwards.
    ///
    /// The lease is renewed after each third of its time to live. If the store fails, renewal is
    /// tried again until the lease expires.
    ///
    /// # Errors
    ///
    /// Returns [`LeaseError::Lost`] if the lease is lost first. The work is dropped then.
    pub async fn hold<T>(mut self, work: impl Future<Output = T>) -> Result<T, LeaseError> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            error = self.renew_until_lost() => Err(error),
            output = &mut work => Ok(output),
        }
    }

    async fn renew_until_lost(&mut self) -> LeaseError {
        let mut pause = self.time_to_live / 3;
        while let Some(until) = self.until {
            let renewed = timeout_at(until, async {
                sleep(pause).await;
                self.renew().await
            });
            pause = match renewed.await {
                Ok(Ok(())) => self.time_to_live / 3,
                Ok(Err(LeaseError::Store(_))) => self.time_to_live / 10,
                Ok(Err(LeaseError::Lost)) | Err(_) => break,
            };
        }
        LeaseError::Lost
    }
}

/// Removes the lease if it is still the holder's.
async fn release(store: &dyn Store, key: &[u8], token: &str) -> Result<bool, StoreError> {
    let token = Some(token.as_bytes());
    store.compare_and_set(key, token, None, None).await
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(until), Ok(runtime)) = (self.until.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let (store, key) = (self.store.clone(), std::mem::take(&mut self.key));
        let token = std::mem::take(&mut self.token);
        runtime.spawn(async move {
            // After this time the lease has expired, so there is nothing to release.
            timeout_at(until, release(&*store, &key, &token)).await
        });
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
