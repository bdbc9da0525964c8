//! Members with one stack for each caller.
//!
//! The gateway opens no listen of its own to such stacks. It would have to open one for each stack
//! and keep it from becoming idle, and no caller would hear of it.
//!
//! A caller that listens receives its own stack's changes by its own listen, which is forwarded
//! to that stack. The listen is a `subscriptions/listen`, or the one that the server end opens for
//! a session of an older revision. A stack with an open listen is in use and is kept.
//!
//! The cost is that the gateway does not know whether a list is still current. It fetches each list
//! of such a member again, unless the member gave a lifetime (`ttlMs`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Audience, BoxStack, CallContext, Error, Refusal, caller::Era, code, util::lock};

/// The default maximum number of stacks of a per-caller member.
pub(in crate::gateway) const MAX_STACKS: usize = 1_000;

/// The default time for which a per-caller member keeps an unused stack.
pub(in crate::gateway) const IDLE: Duration = Duration::from_secs(10 * 60);

/// The unit for which a per-caller member makes a stack.
///
/// A caller that listens (`subscriptions/listen`, or a session of a revision before 2026-07-28)
/// receives the changes of its own stack. A caller that does not listen receives none, and is
/// served the current list whenever it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PerCaller {
    /// One stack for each [`Principal`](crate::Principal). An unauthenticated caller is refused.
    Principal,
    /// One stack for each session ([`Caller::session_id`](crate::Caller::session_id)): each
    /// connection of a caller, and each [`Principal`](crate::Principal) that uses it.
    ///
    /// Requests without sessions, as over stateless HTTP, have a stack each. A listen there
    /// receives changes only of its own stack, which no other request uses.
    Session,
    /// One stack for each session that began with `initialize` (revisions before 2026-07-28),
    /// because its server may send it requests at any time.
    ///
    /// Requests of later revisions need no session. For them there is one stack for each
    /// [`Principal`](crate::Principal), and one for all callers without a principal. Use it for a
    /// server that is a process of its own, over HTTP as well as over stdio.
    LegacySession,
}

impl PerCaller {
    /// Returns `true` if callers of this era have a stack for each session.
    pub(in crate::gateway) fn by_session(self, era: Era) -> bool {
        match self {
            Self::Principal => false,
            Self::Session => true,
            Self::LegacySession => era == Era::Legacy,
        }
    }
}

/// The source of a member's stack.
pub(in crate::gateway) enum StackSource {
    Shared(BoxStack),
    PerCaller(Factory),
}

pub(in crate::gateway) type Make =
    Box<dyn Fn(&CallContext) -> Result<BoxStack, Error> + Send + Sync>;

pub(in crate::gateway) struct Factory {
    pub(in crate::gateway) by: PerCaller,
    pub(in crate::gateway) make: Make,
    pub(in crate::gateway) max: usize,
    pub(in crate::gateway) idle: Duration,
    pub(in crate::gateway) stacks: Mutex<HashMap<StackKey, Made>>,
    /// A task that drops idle stacks is running.
    pub(in crate::gateway) swept: AtomicBool,
}

/// The caller to which a per-caller stack belongs. A session's stack also belongs to its principal:
/// another principal with the same session has another stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::gateway) struct StackKey {
    audience: Audience,
    session: Option<u64>,
}

pub(in crate::gateway) struct Made {
    stack: BoxStack,
    used: Instant,
    in_use: Arc<()>,
}

impl Made {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.in_use) == 1
    }
}

impl Factory {
    fn key(&self, context: &CallContext) -> Result<StackKey, Error> {
        let principal = context.principal().map(Audience::principal);
        match (self.by, principal) {
            (PerCaller::Session | PerCaller::LegacySession, principal) => Ok(StackKey {
                audience: principal.unwrap_or(Audience::anonymous()),
                session: (self.by.by_session(context.era()))
                    .then(|| context.caller.session_id())
                    .flatten(),
            }),
            (PerCaller::Principal, Some(audience)) => Ok(StackKey {
                audience,
                session: None,
            }),
            (PerCaller::Principal, None) => {
                let message =
                    "this server is for authenticated callers, and the request has no principal";
                Err(Refusal::new("gateway", message)
                    .with_code(code::FORBIDDEN)
                    .into())
            }
        }
    }

    pub(in crate::gateway) fn get(
        &self,
        context: &CallContext,
    ) -> Result<(BoxStack, Option<Arc<()>>), Error> {
        let key = self.key(context)?;
        if let Some(found) = self.find(&key) {
            return Ok(found);
        }
        // Outside the lock: `make` is code of the application.
        let stack = (self.make)(context)?;
        self.keep(key, stack)
    }

    fn stacks(&self) -> MutexGuard<'_, HashMap<StackKey, Made>> {
        lock(&self.stacks)
    }

    fn find(&self, key: &StackKey) -> Option<(BoxStack, Option<Arc<()>>)> {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let made = stacks.get_mut(key)?;
        made.used = now;
        Some((made.stack.clone(), Some(made.in_use.clone())))
    }

    /// Drops the stacks that were idle for too long.
    pub(in crate::gateway) fn sweep(&self) {
        let now = Instant::now();
        let mut stacks = self.stacks();
        let idle: Vec<StackKey> = stacks
            .iter()
            .filter(|(_, made)| made.is_idle() && now - made.used >= self.idle)
            .map(|(key, _)| key.clone())
            .collect();
        let dropped: Vec<Made> = idle.iter().filter_map(|key| stacks.remove(key)).collect();
        drop(stacks);
        drop(dropped);
    }

    fn keep(&self, key: StackKey, stack: BoxStack) -> Result<(BoxStack, Option<Arc<()>>), Error> {
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
        // A concurrent request may have made one meanwhile: the first is kept.
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
