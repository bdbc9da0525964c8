//! The owners of sessions.

use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::Audience;

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
    /// The number of sessions that are being opened, for which room is reserved.
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
pub(super) struct Full;

/// Room that is reserved for a session that is being opened.
pub(super) struct Room {
    sessions: Arc<Sessions>,
    who: Audience,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.sessions.state();
        state.reserved -= 1;
        state.uncount(&self.who);
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a guard if the session belongs to this principal. The session counts as used until
    /// the guard is dropped.
    pub(super) fn hold(&self, id: &str, who: &Audience) -> Option<Arc<()>> {
        let mut state = self.state();
        let session = state.sessions.get_mut(id)?;
        if session.owner != *who || session.is_idle(self.idle) {
            return None;
        }
        session.used = Instant::now();
        Some(session.held.clone())
    }

    /// Reserves room for another session of this principal.
    pub(super) fn reserve(self: &Arc<Self>, who: &Audience) -> Result<Room, Full> {
        let mut state = self.state();
        state.make_room(self, who)?;
        state.reserved += 1;
        *state.counts.entry(who.clone()).or_default() += 1;
        Ok(Room {
            sessions: self.clone(),
            who: who.clone(),
        })
    }

    /// Notes that this principal has opened this session. Uses `room` if it was reserved before.
    pub(super) fn opened(&self, id: &str, who: &Audience, room: Option<Room>) -> Result<(), Full> {
        if id.len() > MAX_ID {
            return Err(Full);
        }
        let mut state = self.state();
        if room.is_none() {
            state.make_room(self, who)?;
        }
        let session = Session {
            owner: who.clone(),
            used: Instant::now(),
            held: Arc::default(),
        };
        if let Some(before) = state.sessions.insert(id.into(), session) {
            state.uncount(&before.owner);
        }
        *state.counts.entry(who.clone()).or_default() += 1;
        // The drop of the room takes the lock again.
        drop(state);
        drop(room);
        Ok(())
    }

    /// Removes a session that has ended.
    pub(super) fn ended(&self, id: &str) {
        let mut state = self.state();
        if let Some(session) = state.sessions.remove(id) {
            state.uncount(&session.owner);
        }
    }
}

impl State {
    fn make_room(&mut self, limits: &Sessions, who: &Audience) -> Result<(), Full> {
        let is_full = |state: &Self| {
            state.sessions.len() + state.reserved >= limits.max
                || state
                    .counts
                    .get(who)
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
        if is_full(self) { Err(Full) } else { Ok(()) }
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
