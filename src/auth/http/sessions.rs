//! The owners of sessions.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Audience, util::lock};

/// Limit of a session id's length in bytes. The ids of rmcp are UUIDs.
const MAX_ID: usize = 128;

/// The known sessions and their owners.
pub(super) struct Sessions {
    max: usize,
    max_per_principal: usize,
    idle: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Arc<str>, Session>,
    /// The number of sessions that are being opened, for which places are reserved.
    reserved: usize,
    /// The number of sessions that each principal has or is opening.
    counts: HashMap<Audience, usize>,
}

struct Session {
    owner: Audience,
    used: Instant,
    /// Shared with every response that is still being sent.
    held: Arc<()>,
}

impl Session {
    fn is_idle(&self, idle: Duration) -> bool {
        Arc::strong_count(&self.held) == 1 && self.used.elapsed() >= idle
    }
}

/// The limit of sessions is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitReached;

/// A place that is reserved for a session that is being opened.
pub(super) struct Reservation {
    sessions: Arc<Sessions>,
    audience: Audience,
    /// The session that has lost its place. It still has to be closed.
    pub(super) evicted: Option<Arc<str>>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.sessions.state();
        state.reserved -= 1;
        state.uncount(&self.audience);
    }
}

impl Sessions {
    pub(super) fn new(max: usize, max_per_principal: usize, idle: Duration) -> Self {
        Self {
            max,
            max_per_principal,
            idle,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns the number of sessions.
    pub(super) fn count(&self) -> usize {
        self.state().sessions.len()
    }

    /// Returns a guard if the session belongs to this principal. The session counts as used until
    /// the guard is dropped.
    pub(super) fn hold(&self, id: &str, audience: &Audience) -> Option<Arc<()>> {
        let mut state = self.state();
        let session = state.sessions.get_mut(id)?;
        if session.owner != *audience || session.is_idle(self.idle) {
            return None;
        }
        session.used = Instant::now();
        Some(session.held.clone())
    }

    /// Reserves a place for another session of this principal. If the principal has its maximum of
    /// sessions, the one that is unused for longest loses its place.
    pub(super) fn reserve(
        self: &Arc<Self>,
        audience: &Audience,
    ) -> Result<Reservation, LimitReached> {
        let mut state = self.state();
        let evicted = match state.make_room(self, audience) {
            Ok(()) => None,
            Err(LimitReached) => Some(state.evict_own(self, audience)?),
        };
        state.reserved += 1;
        *state.counts.entry(audience.clone()).or_default() += 1;
        Ok(Reservation {
            sessions: self.clone(),
            audience: audience.clone(),
            evicted,
        })
    }

    /// Notes that this principal has opened this session. Uses `reservation` if a place was
    /// reserved before.
    pub(super) fn add(
        &self,
        id: &str,
        audience: &Audience,
        reservation: Option<Reservation>,
    ) -> Result<(), LimitReached> {
        if id.len() > MAX_ID {
            return Err(LimitReached);
        }
        let mut state = self.state();
        if reservation.is_none() {
            state.make_room(self, audience)?;
        }
        let session = Session {
            owner: audience.clone(),
            used: Instant::now(),
            held: Arc::default(),
        };
        if let Some(before) = state.sessions.insert(id.into(), session) {
            state.uncount(&before.owner);
        }
        *state.counts.entry(audience.clone()).or_default() += 1;
        // The drop of the reservation takes the lock again.
        drop(state);
        drop(reservation);
        Ok(())
    }

    /// Removes a session that has ended.
    pub(super) fn remove(&self, id: &str) {
        let mut state = self.state();
        if let Some(session) = state.sessions.remove(id) {
            state.uncount(&session.owner);
        }
    }
}

impl State {
    fn make_room(&mut self, limits: &Sessions, audience: &Audience) -> Result<(), LimitReached> {
        let is_full = |state: &Self| {
            state.sessions.len() + state.reserved >= limits.max
                || state
                    .counts
                    .get(audience)
                    .is_some_and(|&count| count >= limits.max_per_principal)
        };
        if is_full(self) {
            let idle: Vec<_> = self
                .sessions
                .extract_if(|_, session| session.is_idle(limits.idle))
                .collect();
            for (_, session) in idle {
                self.uncount(&session.owner);
            }
        }
        if is_full(self) {
            Err(LimitReached)
        } else {
            Ok(())
        }
    }

    /// Removes the session of this principal that is unused for longest, if the principal has its
    /// maximum. A session with an open stream is not removed.
    fn evict_own(
        &mut self,
        limits: &Sessions,
        audience: &Audience,
    ) -> Result<Arc<str>, LimitReached> {
        if self.counts.get(audience).copied().unwrap_or_default() < limits.max_per_principal {
            return Err(LimitReached);
        }
        let own = self.sessions.iter().filter(|(_, session)| {
            session.owner == *audience && Arc::strong_count(&session.held) == 1
        });
        let (id, _) = own
            .min_by_key(|(_, session)| session.used)
            .ok_or(LimitReached)?;
        let id = id.clone();
        self.sessions.remove(&id);
        self.uncount(audience);
        Ok(id)
    }

    fn uncount(&mut self, owner: &Audience) {
        if let hash_map::Entry::Occupied(mut count) = self.counts.entry(owner.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
