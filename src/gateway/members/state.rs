//! The state of a member, as far as requests have shown it.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Error, util::lock};

/// The state of a member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MemberState {
    /// The gateway has not received an answer from the member yet.
    Connecting,
    /// The last request was answered.
    Connected,
    /// The member answers, but not correctly: it answers a list too late, for example, or its list
    /// has an item that cannot be read.
    Degraded {
        /// The reason, for the operator.
        reason: Arc<str>,
    },
    /// The member cannot be reached.
    Failed {
        /// The reason, for the operator. For a child process that ended, it includes the last lines
        /// of its standard error.
        reason: Arc<str>,
        /// The time after `since` at which the member is tried again, if it is known.
        retry_after: Option<Duration>,
        /// The time at which the failure was noticed.
        since: Instant,
    },
}

/// The current [`MemberState`] of a member.
pub(super) struct State(Mutex<MemberState>);

impl Default for State {
    fn default() -> Self {
        Self(Mutex::new(MemberState::Connecting))
    }
}

impl State {
    pub(super) fn get(&self) -> MemberState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, MemberState> {
        lock(&self.0)
    }

    /// Updates the member's state with the outcome of a request.
    pub(super) fn record_outcome(&self, error: Option<&Error>) {
        let next = match error {
            Some(error @ Error::Transport(_)) => MemberState::Failed {
                reason: error.in_full().into(),
                retry_after: error.retry_after(),
                since: Instant::now(),
            },
            Some(error @ Error::Timeout(_)) if error.is_timeout() => {
                return self.mark_degraded(&error.to_string());
            }
            // Neither says anything about the member.
            Some(Error::Cancelled { .. } | Error::Refused(_)) => return,
            _ => MemberState::Connected,
        };
        let mut state = self.lock();
        if !matches!(
            (&*state, &next),
            (MemberState::Connected, MemberState::Connected)
        ) {
            *state = next;
        }
    }

    pub(super) fn mark_degraded(&self, reason: &str) {
        let mut state = self.lock();
        if !matches!(&*state, MemberState::Failed { .. }) {
            *state = MemberState::Degraded {
                reason: reason.into(),
            };
        }
    }
}
