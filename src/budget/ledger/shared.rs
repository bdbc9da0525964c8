use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use super::{
    super::{ContextBudget, Conversation},
    Balance, NotReserved, Request, crossed,
};
use crate::{
    store::{Increment, MAX_COUNT, Store, StoreError},
    util::backoff::Backoff,
};

/// The number of times that a reservation is tried while other processes reserve too. Each failure
/// means that another one has succeeded.
const MAX_TRIES: usize = 64;

/// The time for which a failed release is repeated.
const REPEATED: Duration = Duration::from_secs(600);
/// The delays between the repetitions of a release.
const REPEATS: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// The time for which a release is known to have been made. It is longer than the last repetition
/// takes.
const MARKED: Duration = REPEATED.saturating_mul(2);
/// Limit of releases that are repeated at a time. Further ones are tried once.
const MAX_REPEATED: usize = 1_024;

/// The settings of a ledger in a store.
#[derive(Clone)]
pub(in crate::budget) struct SharedSettings {
    pub store: Arc<dyn Store>,
    pub patience: Duration,
    /// The time after which a budget begins anew, from its first use.
    pub time_to_live: Option<Duration>,
}

/// A budget for each conversation, in a store. The counter of a budget includes the shares of calls
/// in flight.
///
/// | key | value |
/// |---|---|
/// | `budget:CONVERSATION` | the counter of the first window |
/// | `budget:CONVERSATION:window` | the name of the present window, after a reset |
/// | `budget:CONVERSATION:WINDOW` | its counter |
/// | `budget:…:part:DIGEST`, `budget:…:over:PERCENT` | a marker: the charge was made, the threshold was crossed |
/// | `budget:…:released:ID` | a marker: the share of a call was given back |
pub(in crate::budget) struct SharedLedger {
    fresh: ContextBudget,
    thresholds: Arc<[u8]>,
    settings: SharedSettings,
    /// Permits for the repetition of releases.
    repeats: Semaphore,
}

/// A counter, as one call uses it.
pub(super) struct SharedAccount {
    ledger: Arc<SharedLedger>,
    /// `None`: the call has a budget of its own, which no other call uses.
    counter: Option<Vec<u8>>,
    /// The time at which the counter expires. After it, a share has gone back by itself.
    expires: Option<Instant>,
}

/// A counter and its value.
struct Counter {
    key: Vec<u8>,
    value: u64,
}

impl SharedLedger {
    pub(in crate::budget) fn new(
        fresh: ContextBudget,
        thresholds: Arc<[u8]>,
        settings: SharedSettings,
    ) -> Self {
        Self {
            fresh,
            thresholds,
            settings,
            repeats: Semaphore::new(MAX_REPEATED),
        }
    }

    async fn ask<T>(
        &self,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let patience = self.settings.patience;
        timeout(patience, ask)
            .await
            .unwrap_or_else(|_| Err(StoreError::new(format!("no answer within {patience:?}"))))
    }

    /// Returns the counter of a conversation's present window.
    async fn counter(&self, conversation: &Conversation) -> Result<Counter, StoreError> {
        let first = first_counter(conversation);
        let window = window_key(&first);
        let keys = [first, window];
        let found = self.ask(self.settings.store.get(&keys)).await?;
        let [first, _] = keys;
        let mut found = found
            .into_iter()
            .map(|stored| stored.map(|stored| stored.value));
        let (counted, window) = (found.next().flatten(), found.next().flatten());
        let Some(window) = window else {
            let value = count(counted.as_deref())?;
            return Ok(Counter { key: first, value });
        };
        let key = [&*first, b":", &*window].concat();
        let found = self
            .ask(self.settings.store.get(std::slice::from_ref(&key)))
            .await?;
        let counted = found
            .into_iter()
            .next()
            .flatten()
            .map(|stored| stored.value);
        let value = count(counted.as_deref())?;
        Ok(Counter { key, value })
    }

    async fn increment(
        &self,
        key: &[u8],
        change: i64,
        limit: u64,
    ) -> Result<Increment, StoreError> {
        let time_to_live = self.settings.time_to_live;
        self.ask(
            self.settings
                .store
                .increment(key, change, limit, time_to_live),
        )
        .await
    }

    pub(super) async fn reserve(
        self: &Arc<Self>,
        conversation: Option<&Conversation>,
        request: Request,
    ) -> Result<(u64, SharedAccount), NotReserved> {
        let usable = self.fresh.usable();
        let exhausted = |available| NotReserved::Exhausted { available };
        let Some(conversation) = conversation else {
            let share = request.share_of(usable).ok_or_else(|| exhausted(usable))?;
            let account = SharedAccount {
                ledger: self.clone(),
                counter: None,
                expires: None,
            };
            return Ok((share, account));
        };
        let mut counter = self
            .counter(conversation)
            .await
            .map_err(NotReserved::Store)?;
        for _ in 0..MAX_TRIES {
            let available = usable.saturating_sub(counter.value);
            let share = request
                .share_of(available)
                .ok_or_else(|| exhausted(available))?;
            let reserved = self
                .increment(&counter.key, signed(share), usable)
                .await
                .map_err(NotReserved::Store)?;
            if reserved.accepted {
                let now = Instant::now();
                let account = SharedAccount {
                    ledger: self.clone(),
                    counter: Some(counter.key),
                    expires: reserved.remaining.and_then(|left| now.checked_add(left)),
                };
                return Ok((share, account));
            }
            // Another call has reserved meanwhile.
            counter.value = reserved.value;
        }
        let busy = StoreError::new("other calls of the conversation keep changing its budget");
        Err(NotReserved::Store(busy))
    }

    pub(super) async fn charge_once(
        &self,
        conversation: &Conversation,
        digest: u64,
        tokens: u64,
    ) -> Result<Option<Balance>, StoreError> {
        let counter = self.counter(conversation).await?;
        let part = format!(":part:{digest:016x}");
        let marker = [&*counter.key, part.as_bytes()].concat();
        let time_to_live = self.settings.time_to_live;
        let marked = self.settings.store.add(&marker, Vec::new(), time_to_live);
        if !self.ask(marked).await? {
            return Ok(None);
        }
        let charged = self
            .increment(&counter.key, signed(tokens), MAX_COUNT)
            .await?;
        Ok(Some(self.balance(&counter.key, charged.value).await))
    }

    /// Returns the balance of a counter, and notes a threshold that it is the first to be over.
    async fn balance(&self, key: &[u8], value: u64) -> Balance {
        let usable = self.fresh.usable();
        let mut first = None;
        if let Some(percent) = crossed(&self.thresholds, usable, 0, value) {
            let marker = [key, format!(":over:{percent}").as_bytes()].concat();
            let time_to_live = self.settings.time_to_live;
            let marked = self.settings.store.add(&marker, Vec::new(), time_to_live);
            // The charge is made, whether or not the marker can be set.
            let is_first = self.ask(marked).await.unwrap_or_else(|error| {
                tracing::warn!(%error, percent, "a crossed threshold is not told of");
                false
            });
            first = is_first.then_some(percent);
        }
        Balance {
            usable,
            used: value,
            available: usable.saturating_sub(value),
            crossed: first,
        }
    }

    pub(super) async fn budget(
        &self,
        conversation: &Conversation,
    ) -> Result<ContextBudget, StoreError> {
        let counter = self.counter(conversation).await?;
        Ok(self.fresh.with_used(counter.value))
    }

    pub(super) async fn refund(
        &self,
        conversation: &Conversation,
        tokens: u64,
    ) -> Result<(), StoreError> {
        let counter = self.counter(conversation).await?;
        self.increment(&counter.key, -signed(tokens), MAX_COUNT)
            .await?;
        Ok(())
    }

    pub(super) async fn reset(&self, conversation: &Conversation) -> Result<(), StoreError> {
        let window = window_key(&first_counter(conversation));
        let name = format!("{:032x}", rand::random::<u128>()).into_bytes();
        // It is a little longer there than the counter that it names.
        let time_to_live = self.settings.time_to_live;
        let time_to_live = time_to_live.map(|time| time.saturating_mul(2));
        // By a conditional change, because a value of `set` may be evicted.
        for _ in 0..MAX_TRIES {
            let keys = [window.clone()];
            let found = self.ask(self.settings.store.get(&keys)).await?;
            let now = found
                .into_iter()
                .next()
                .flatten()
                .map(|stored| stored.value);
            let store = &self.settings.store;
            let set =
                store.compare_and_set(&window, now.as_deref(), Some(name.clone()), time_to_live);
            if self.ask(set).await? {
                return Ok(());
            }
        }
        Err(StoreError::new("other processes keep resetting the budget"))
    }
}

impl SharedAccount {
    pub(super) async fn settle(self, share: u64, used: u64) -> Result<Balance, StoreError> {
        let ledger = &self.ledger;
        let Some(key) = &self.counter else {
            let usable = ledger.fresh.usable();
            return Ok(Balance {
                usable,
                used,
                available: usable.saturating_sub(used),
                crossed: crossed(&ledger.thresholds, usable, 0, used),
            });
        };
        let change = match self.is_expired() {
            true => signed(used),
            false => signed(used) - signed(share),
        };
        let settled = ledger.increment(key, change, MAX_COUNT).await?;
        Ok(ledger.balance(key, settled.value).await)
    }

    /// Gives the share back. While the store fails, the release is repeated.
    pub(super) async fn release(self, share: u64) {
        let Some(key) = self.counter.as_ref().filter(|_| !self.is_expired()) else {
            return;
        };
        // A release that has failed may have been made. The marker keeps it from being made twice.
        let id = format!(":released:{:032x}", rand::random::<u128>());
        let marker = [key, id.as_bytes()].concat();
        let store = &self.ledger.settings.store;
        let give_back = || {
            self.ledger
                .ask(store.decrement_once(key, share, &marker, MARKED))
        };
        let Err(error) = give_back().await else {
            // It is the only attempt. The marker expires if it cannot be removed.
            let _ = self.ledger.ask(store.remove(&marker)).await;
            return;
        };
        let Ok(_permit) = self.ledger.repeats.try_acquire() else {
            return warn_not_released(&error);
        };
        let (since, mut last, mut failures) = (Instant::now(), error, 0);
        while since.elapsed() < REPEATED {
            sleep(REPEATS.delay(failures)).await;
            if self.is_about_to_expire() {
                return;
            }
            match give_back().await {
                Ok(_) => return,
                Err(error) => last = error,
            }
            failures = failures.saturating_add(1);
        }
        warn_not_released(&last);
    }

    fn is_expired(&self) -> bool {
        self.expires_within(Duration::ZERO)
    }

    /// Returns `true` if a change may come after the end of the counter, to the next one.
    fn is_about_to_expire(&self) -> bool {
        self.expires_within(self.ledger.settings.patience)
    }

    fn expires_within(&self, time: Duration) -> bool {
        self.expires
            .is_some_and(|expires| expires.saturating_duration_since(Instant::now()) <= time)
    }
}

fn warn_not_released(error: &StoreError) {
    tracing::warn!(%error, "tokens of a dropped call stay charged");
}

fn first_counter(conversation: &Conversation) -> Vec<u8> {
    format!("budget:{}", conversation.to_key()).into_bytes()
}

fn window_key(first: &[u8]) -> Vec<u8> {
    [first, b":window"].concat()
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens.min(MAX_COUNT)).unwrap_or(i64::MAX)
}

/// Reads the value of a counter.
fn count(stored: Option<&[u8]>) -> Result<u64, StoreError> {
    let Some(stored) = stored else { return Ok(0) };
    std::str::from_utf8(stored)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| StoreError::new("the value under the key of a budget is not a counter"))
}
