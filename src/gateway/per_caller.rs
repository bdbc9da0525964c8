//! Stacks that are made for one caller each.
//!
//! The gateway opens no listen of its own to them: it would have to open one for each stack and keep it from growing
//! idle, and nobody would be told by it. A caller that listens is told of its own stack's changes by its own listen,
//! which goes there too: by a `subscriptions/listen`, or by what the server's end opens for a session of an older
//! revision. A stack that is listened to is in use, and stays. What the gateway does without is knowing that a list
//! still holds: it asks such a member again for each list, unless the member said for how long it does (`ttlMs`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::Instant;

use super::member::Stack;
use crate::{Audience, CallContext, Error, Refusal, caller::Era, code};

/// How many stacks a per-caller member has at once, unless it says otherwise.
pub(super) const MAX_STACKS: usize = 1_000;

/// How long a per-caller stack is kept that nobody uses, unless the member says otherwise.
pub(super) const IDLE: Duration = Duration::from_secs(10 * 60);

/// What a per-caller member makes a stack for.
///
/// A caller that listens (`subscriptions/listen`, or a session of a revision before 2026-07-28) hears of the changes of
/// its own stack. One that does not listen hears of none, and is served the list as it is whenever it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PerCaller {
    /// One for each [`Principal`](crate::Principal). A caller that nobody has authenticated is refused.
    Principal,
    /// One for each session ([`Caller::session_id`](crate::Caller::session_id)): each connection of a
    /// caller, and of each [`Principal`](crate::Principal) that uses it. Where
    /// requests come without sessions, as over stateless HTTP, that is one for each request: a listen there hears of
    /// its own stack alone, which no other request uses.
    Session,
    /// One for each session of a caller that began with `initialize` (revisions before 2026-07-28),
    /// whose server may ask it something at any time; and, for callers of later revisions, whose
    /// requests need no session, one for each [`Principal`](crate::Principal) and one for all
    /// without. For a server that is a process of its own, over HTTP as well as over stdio.
    LegacySession,
}

impl PerCaller {
    /// Whether callers of this era have a stack for each session.
    pub(super) fn by_session(self, era: Era) -> bool {
        match self {
            Self::Principal => false,
            Self::Session => true,
            Self::LegacySession => era == Era::Legacy,
        }
    }
}

/// Where a member's stack comes from.
pub(super) enum Source {
    Shared(Mutex<Stack>),
    PerCaller(Factory),
}

pub(super) type Make = Box<dyn Fn(&CallContext) -> Result<Stack, Error> + Send + Sync>;

pub(super) struct Factory {
    pub(super) by: PerCaller,
    pub(super) make: Make,
    pub(super) max: usize,
    pub(super) idle: Duration,
    pub(super) stacks: Mutex<HashMap<CallerKey, Made>>,
    /// Something drops the stacks that nobody uses.
    pub(super) swept: AtomicBool,
}

/// Who a per-caller stack is for. A session's stack is also its principal's: whoever else comes with that
/// session has another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallerKey {
    audience: Audience,
    session: Option<u64>,
}

pub(super) struct Made {
    stack: Stack,
    used: Instant,
    in_use: Arc<()>,
}

impl Made {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.in_use) == 1
    }
}

impl Factory {
    fn key(&self, context: &CallContext) -> Result<CallerKey, Error> {
        let principal = context.principal().map(Audience::principal);
        match (self.by, principal) {
            (PerCaller::Session | PerCaller::LegacySession, principal) => Ok(CallerKey {
                audience: principal.unwrap_or(Audience::anonymous()),
                session: (self.by.by_session(context.era()))
                    .then(|| context.caller.session_id())
                    .flatten(),
            }),
            (PerCaller::Principal, Some(audience)) => Ok(CallerKey {
                audience,
                session: None,
            }),
            (PerCaller::Principal, None) => {
                let message =
                    "this server is for authenticated callers, and nobody says who is calling";
                Err(Refusal::new("gateway", message)
                    .with_code(code::FORBIDDEN)
                    .into())
            }
        }
    }

    pub(super) fn get(&self, context: &CallContext) -> Result<(Stack, Option<Arc<()>>), Error> {
        let key = self.key(context)?;
        if let Some(found) = self.find(&key) {
            return Ok(found);
        }
        // Outside the lock: what makes a stack is somebody else's code.
        let stack = (self.make)(context)?;
        self.keep(key, stack)
    }

    fn stacks(&self) -> MutexGuard<'_, HashMap<CallerKey, Made>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &CallerKey) -> Option<(Stack, Option<Arc<()>>)> {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let made = stacks.get_mut(key)?;
        made.used = now;
        Some((made.stack.clone(), Some(made.in_use.clone())))
    }

    /// Drops the stacks that were not used for too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let idle: Vec<CallerKey> = stacks
            .iter()
            .filter(|(_, made)| made.is_idle() && now - made.used >= self.idle)
            .map(|(key, _)| key.clone())
            .collect();
        let dropped: Vec<Made> = idle.iter().filter_map(|key| stacks.remove(key)).collect();
        drop(stacks);
        drop(dropped);
    }

    fn keep(&self, key: CallerKey, stack: Stack) -> Result<(Stack, Option<Arc<()>>), Error> {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let mut dropped: Vec<Made> = Vec::new();
        if stacks.len() >= self.max && !stacks.contains_key(&key) {
            let oldest = stacks
                .iter()
                .filter(|(_, made)| made.is_idle())
                .min_by_key(|(_, made)| made.used)
                .map(|(key, _)| key.clone());
            let Some(oldest) = oldest else {
                let message = "this server serves as many callers as it may; try again later";
                return Err(Refusal::new("gateway", message).into());
            };
            dropped.extend(stacks.remove(&oldest));
        }
        // Somebody else may have made one meanwhile: the first stays.
        let made = stacks.entry(key).or_insert_with(|| Made {
            stack,
            used: now,
            in_use: Arc::default(),
        });
        let kept = (made.stack.clone(), Some(made.in_use.clone()));
        drop(stacks);
        drop(dropped);
        Ok(kept)
    }
}
