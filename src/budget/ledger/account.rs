use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard},
};

use tokio::time::Instant;

use super::{super::ContextBudget, Balance, NotReserved, Request, crossed};
use crate::util::lock;

/// The number of parts of catalogues whose charge is remembered. Further parts are charged for each
/// time.
const MAX_PARTS: usize = 256;

/// The budget of one conversation, in the memory of this process.
pub(super) struct Account {
    thresholds: std::sync::Arc<[u8]>,
    state: Mutex<State>,
}

struct State {
    budget: ContextBudget,
    /// The shares of the calls in flight.
    reserved: u64,
    charged_parts: HashSet<u64>,
    last_used: Instant,
}

impl State {
    fn available(&self) -> u64 {
        self.budget.available().saturating_sub(self.reserved)
    }

    fn charge(&mut self, tokens: u64, thresholds: &[u8]) -> Balance {
        let before = self.budget.used();
        self.budget.charge(tokens);
        self.last_used = Instant::now();
        let (usable, used) = (self.budget.usable(), self.budget.used());
        Balance {
            usable,
            used,
            available: self.available(),
            crossed: crossed(thresholds, usable, before, used),
        }
    }
}

impl Account {
    pub(super) fn new(budget: ContextBudget, thresholds: std::sync::Arc<[u8]>) -> Self {
        let state = State {
            budget,
            reserved: 0,
            charged_parts: HashSet::new(),
            last_used: Instant::now(),
        };
        Self {
            thresholds,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn reserve(&self, request: Request, now: Instant) -> Result<u64, NotReserved> {
        let mut state = self.state();
        let available = state.available();
        let share = request
            .share_of(available)
            .ok_or(NotReserved::Exhausted { available })?;
        state.reserved += share;
        state.last_used = now;
        Ok(share)
    }

    pub(super) fn release(&self, share: u64) {
        let mut state = self.state();
        state.reserved = state.reserved.saturating_sub(share);
    }

    pub(super) fn settle(&self, share: u64, used: u64) -> Balance {
        let mut state = self.state();
        state.reserved = state.reserved.saturating_sub(share);
        state.charge(used, &self.thresholds)
    }

    pub(super) fn charge_once(&self, part: u64, tokens: u64) -> Option<Balance> {
        let mut state = self.state();
        if state.charged_parts.contains(&part) {
            return None;
        }
        if state.charged_parts.len() < MAX_PARTS {
            state.charged_parts.insert(part);
        }
        Some(state.charge(tokens, &self.thresholds))
    }

    pub(super) fn refund(&self, tokens: u64) {
        self.state().budget.refund(tokens);
    }

    /// Returns the budget, with reserved tokens as used ones.
    pub(super) fn budget(&self) -> ContextBudget {
        let state = self.state();
        let used = state.budget.used().saturating_add(state.reserved);
        state.budget.with_used(used)
    }

    pub(super) fn last_used(&self) -> Instant {
        self.state().last_used
    }
}
