//! The ledger: a budget for each conversation, and the calls that have reserved a share of it.

mod account;
mod local;
mod shared;

use std::sync::Arc;

use tokio::time::Instant;

use self::{account::Account, shared::SharedAccount};
use super::{ContextBudget, Conversation};
use crate::store::StoreError;

pub(super) use self::{
    local::{LocalLedger, LocalLimits},
    shared::{SharedLedger, SharedSettings},
};

/// A budget for each conversation, in this process or in a store.
pub(super) enum Ledger {
    Local(LocalLedger),
    Shared(Arc<SharedLedger>),
}

/// The share of a budget that a call asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// The greatest part of what is available.
    pub max_fraction: f64,
    /// The least number of tokens that a call is made with.
    pub min_to_call: u64,
}

impl Request {
    /// Returns the share of a call if so many tokens are available. Returns `None` if they are too
    /// few for a call.
    fn share_of(self, available: u64) -> Option<u64> {
        if available < self.min_to_call.max(1) {
            return None;
        }
        // A window has far fewer than 2^52 tokens, so the product is exact enough.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "the fraction is from 0 to 1"
        )]
        let share = (available as f64 * self.max_fraction) as u64;
        Some(share.max(self.min_to_call).clamp(1, available))
    }
}

/// The reason why a call has no reservation.
#[derive(Debug)]
pub(super) enum NotReserved {
    /// So many tokens are available, and a call needs more.
    Exhausted { available: u64 },
    /// All conversations that the ledger holds have calls in flight.
    TooManyConversations,
    /// The store has failed.
    Store(StoreError),
}

/// A part of a budget that one call holds. Dropped, it goes back.
pub(super) struct Reservation {
    share: u64,
    held: Option<Held>,
}

enum Held {
    Local(Arc<Account>),
    Shared(SharedAccount),
}

/// A conversation's budget after a charge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    pub usable: u64,
    pub used: u64,
    /// The tokens that are neither used nor reserved.
    pub available: u64,
    /// The highest threshold that this charge has crossed first.
    pub crossed: Option<u8>,
}

impl Ledger {
    /// Reserves a share for a call. Without a conversation, the call has a budget of its own.
    pub(super) async fn reserve(
        &self,
        conversation: Option<&Conversation>,
        request: Request,
    ) -> Result<Reservation, NotReserved> {
        match self {
            Self::Local(ledger) => {
                let now = Instant::now();
                let account = ledger.account(conversation, now)?;
                let share = account.reserve(request, now)?;
                let held = Some(Held::Local(account));
                Ok(Reservation { share, held })
            }
            Self::Shared(ledger) => {
                let (ledger, conversation) = (ledger.clone(), conversation.cloned());
                // A reservation that is made after the call was cancelled is dropped by the task.
                let reserved = tokio::spawn(async move {
                    let reserved = ledger.reserve(conversation.as_ref(), request).await;
                    reserved.map(|(share, account)| {
                        let held = Some(Held::Shared(account));
                        Reservation { share, held }
                    })
                });
                let ended = reserved.await;
                ended.unwrap_or_else(|error| Err(NotReserved::Store(did_not_end(error))))
            }
        }
    }

    /// Charges for a part of a catalogue, unless the conversation was charged for the same before.
    /// Returns `None` if it was.
    pub(super) async fn charge_once(
        &self,
        conversation: &Conversation,
        digest: u64,
        tokens: u64,
    ) -> Result<Option<Balance>, NotReserved> {
        match self {
            Self::Local(ledger) => Ok(ledger
                .account(Some(conversation), Instant::now())?
                .charge_once(digest, tokens)),
            Self::Shared(ledger) => {
                let (ledger, conversation) = (ledger.clone(), conversation.clone());
                // The charge is made to its end once it is noted, also for a call that is cancelled.
                let charged =
                    tokio::spawn(
                        async move { ledger.charge_once(&conversation, digest, tokens).await },
                    );
                let charged = charged
                    .await
                    .unwrap_or_else(|error| Err(did_not_end(error)));
                charged.map_err(NotReserved::Store)
            }
        }
    }

    /// Returns the budget of a conversation, with reserved tokens as used ones.
    pub(super) async fn budget(
        &self,
        conversation: &Conversation,
    ) -> Result<ContextBudget, StoreError> {
        match self {
            Self::Local(ledger) => Ok(ledger.budget(conversation)),
            Self::Shared(ledger) => ledger.budget(conversation).await,
        }
    }

    /// Gives used tokens back.
    pub(super) async fn refund(
        &self,
        conversation: &Conversation,
        tokens: u64,
    ) -> Result<(), StoreError> {
        match self {
            Self::Local(ledger) => {
                ledger.refund(conversation, tokens);
                Ok(())
            }
            Self::Shared(ledger) => ledger.refund(conversation, tokens).await,
        }
    }

    /// Begins a new window. Calls in flight are charged to the old one.
    pub(super) async fn reset(&self, conversation: &Conversation) -> Result<(), StoreError> {
        match self {
            Self::Local(ledger) => {
                ledger.reset(conversation);
                Ok(())
            }
            Self::Shared(ledger) => ledger.reset(conversation).await,
        }
    }

    /// Returns the number of conversations in the memory of this process.
    pub(super) fn conversations(&self) -> usize {
        match self {
            Self::Local(ledger) => ledger.len(),
            Self::Shared(_) => 0,
        }
    }
}

impl Reservation {
    /// Returns the number of tokens that the call may use.
    pub(super) fn share(&self) -> u64 {
        self.share
    }

    /// Charges for the used tokens, and gives the rest of the share back. Without a store, it does
    /// not wait.
    pub(super) async fn settle(mut self, used: u64) -> Result<Balance, StoreError> {
        let share = self.share;
        match self.held.take() {
            Some(Held::Local(account)) => Ok(account.settle(share, used)),
            // The charge is made to its end, although the call may be cancelled meanwhile.
            Some(Held::Shared(account)) => {
                let settled = tokio::spawn(async move { account.settle(share, used).await });
                settled
                    .await
                    .unwrap_or_else(|error| Err(did_not_end(error)))
            }
            None => Err(StoreError::new("the reservation was settled before")),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let share = self.share;
        match self.held.take() {
            Some(Held::Local(account)) => account.release(share),
            Some(Held::Shared(account)) => {
                // Outside of a runtime it stays reserved until the counter expires.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move { account.release(share).await });
                }
            }
            None => {}
        }
    }
}

/// Returns the error of a task of the ledger that has panicked or was stopped with its runtime.
fn did_not_end(error: tokio::task::JoinError) -> StoreError {
    StoreError::new("a change of a budget did not end").with_source(error)
}

/// Returns the highest of these thresholds, in percent, between two numbers of used tokens.
fn crossed(thresholds: &[u8], usable: u64, before: u64, after: u64) -> Option<u8> {
    let reaches = |used: u64, percent: u8| {
        u128::from(used) * 100 >= u128::from(usable) * u128::from(percent) && usable > 0
    };
    let crossed = thresholds
        .iter()
        .filter(|percent| reaches(after, **percent) && !reaches(before, **percent));
    crossed.max().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_fraction_and_never_too_little_for_a_call() {
        let request = Request {
            max_fraction: 0.3,
            min_to_call: 500,
        };
        for (available, share) in [
            (100_000, Some(30_000)),
            (1_000, Some(500)),
            (500, Some(500)),
            (499, None),
            (0, None),
        ] {
            assert_eq!(request.share_of(available), share, "{available}");
        }
        let none = Request {
            max_fraction: 1.0,
            min_to_call: 0,
        };
        assert_eq!((none.share_of(0), none.share_of(7)), (None, Some(7)));
    }

    #[test]
    fn a_threshold_is_crossed_once() {
        let of = |before, after| crossed(&[50, 80, 95], 1_000, before, after);
        assert_eq!(of(0, 499), None);
        assert_eq!(of(499, 500), Some(50));
        assert_eq!(of(500, 799), None);
        assert_eq!(of(10, 2_000), Some(95));
        assert_eq!(crossed(&[50], 0, 0, 10), None);
    }
}
