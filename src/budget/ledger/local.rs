use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lru::LruCache;
use tokio::time::Instant;

use super::{
    super::{ContextBudget, Conversation},
    Account, NotReserved,
};
use crate::util::lock;

/// The limits of a ledger in the memory of this process.
#[derive(Clone, Copy, Debug)]
pub(in crate::budget) struct LocalLimits {
    pub max_conversations: usize,
    pub idle_timeout: Option<Duration>,
}

/// A budget for each conversation, in the memory of this process.
pub(in crate::budget) struct LocalLedger {
    fresh: ContextBudget,
    thresholds: Arc<[u8]>,
    limits: LocalLimits,
    accounts: Mutex<LruCache<Conversation, Arc<Account>>>,
}

impl LocalLedger {
    pub(in crate::budget) fn new(
        fresh: ContextBudget,
        thresholds: Arc<[u8]>,
        limits: LocalLimits,
    ) -> Self {
        Self {
            fresh,
            thresholds,
            limits,
            accounts: Mutex::new(LruCache::unbounded()),
        }
    }

    fn accounts(&self) -> MutexGuard<'_, LruCache<Conversation, Arc<Account>>> {
        lock(&self.accounts)
    }

    fn fresh(&self) -> Arc<Account> {
        Arc::new(Account::new(self.fresh, self.thresholds.clone()))
    }

    /// Returns the account of a conversation. Without a conversation, it is a new one.
    pub(super) fn account(
        &self,
        conversation: Option<&Conversation>,
        now: Instant,
    ) -> Result<Arc<Account>, NotReserved> {
        let Some(conversation) = conversation else {
            return Ok(self.fresh());
        };
        let mut accounts = self.accounts();
        self.remove_idle(&mut accounts, now);
        if let Some(account) = accounts.get(conversation) {
            // It may be behind one that a call in flight has held for longer.
            if !self.is_idle(account, now) {
                return Ok(account.clone());
            }
            accounts.pop(conversation);
        }
        if accounts.len() >= self.limits.max_conversations {
            // The budget of a call in flight is held by the call too, and must not begin anew.
            let unused = accounts
                .iter()
                .rev()
                .find(|(_, account)| Arc::strong_count(account) == 1);
            let unused = unused.map(|(conversation, _)| conversation.clone());
            accounts.pop(&unused.ok_or(NotReserved::TooManyConversations)?);
        }
        let account = self.fresh();
        accounts.put(conversation.clone(), account.clone());
        Ok(account)
    }

    /// Removes the conversations that were last used too long ago. The least recently used is
    /// first.
    fn remove_idle(&self, accounts: &mut LruCache<Conversation, Arc<Account>>, now: Instant) {
        while let Some((_, account)) = accounts.peek_lru() {
            if !self.is_idle(account, now) {
                return;
            }
            accounts.pop_lru();
        }
    }

    fn is_idle(&self, account: &Arc<Account>, now: Instant) -> bool {
        let idle = now.saturating_duration_since(account.last_used());
        let is_over = self.limits.idle_timeout.is_some_and(|most| idle >= most);
        is_over && Arc::strong_count(account) == 1
    }

    pub(super) fn budget(&self, conversation: &Conversation) -> ContextBudget {
        let mut accounts = self.accounts();
        let now = Instant::now();
        self.remove_idle(&mut accounts, now);
        let account = accounts.peek(conversation);
        let account = account.filter(|account| !self.is_idle(account, now));
        account.map_or(self.fresh, |account| account.budget())
    }

    pub(super) fn refund(&self, conversation: &Conversation, tokens: u64) {
        if let Some(account) = self.accounts().peek(conversation) {
            account.refund(tokens);
        }
    }

    pub(super) fn reset(&self, conversation: &Conversation) {
        self.accounts().pop(conversation);
    }

    pub(super) fn len(&self) -> usize {
        self.accounts().len()
    }
}
