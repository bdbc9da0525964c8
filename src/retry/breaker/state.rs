//! The breakers of a layer, by key.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use serde_json::json;
use tokio::time::Instant;

use super::{
    CircuitBreakerPolicy, CircuitBreakerState, StateChange,
    machine::{Admission, Change, End, Machine},
    policy::Verdict,
};
use crate::{
    Error, McpRequest, McpResponse, Outcome, Refusal,
    util::{lock, metrics::count},
};

pub(super) type KeyFunction = Box<dyn Fn(&McpRequest) -> Option<String> + Send + Sync>;
pub(super) type OnChange = Box<dyn Fn(&StateChange<'_>) + Send + Sync>;

/// The key by which calls share a breaker.
pub(super) enum KeyBy {
    Tool,
    One(Arc<str>),
    Function(KeyFunction),
}

pub(super) struct Shared {
    pub(super) policy: CircuitBreakerPolicy,
    pub(super) key_by: KeyBy,
    pub(super) max_keys: usize,
    pub(super) on_change: Option<OnChange>,
    keys: Mutex<Keys>,
    /// The number of tracked keys. While it is 0, no lock is taken.
    tracked: AtomicUsize,
    /// The number of state changes of all breakers.
    changes: AtomicU64,
    pub(super) totals: Totals,
}

#[derive(Default)]
pub(super) struct Totals {
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) untracked: AtomicU64,
}

/// Tracked breakers. Closed ones may be evicted; the others may not, so that made-up names cannot
/// displace them.
struct Keys {
    closed: LruCache<Arc<str>, Machine>,
    tripped: HashMap<Arc<str>, Machine>,
    /// Time of the last search for unused breakers.
    swept: Option<Instant>,
}

impl Keys {
    fn len(&self) -> usize {
        self.closed.len() + self.tripped.len()
    }

    fn get(&self, key: &str) -> Option<&Machine> {
        self.tripped.get(key).or_else(|| self.closed.peek(key))
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut Machine> {
        match self.tripped.get_mut(key) {
            Some(machine) => Some(machine),
            None => self.closed.get_mut(key),
        }
    }

    /// Moves a breaker to the right map after a change.
    fn settle(&mut self, key: &Arc<str>) {
        let machine = self.tripped.remove(key).or_else(|| self.closed.pop(key));
        match machine {
            Some(machine) if machine.is_blank() => {}
            Some(machine) if machine.is_closed() => {
                self.closed.put(key.clone(), machine);
            }
            Some(machine) => {
                self.tripped.insert(key.clone(), machine);
            }
            None => {}
        }
    }

    /// Makes room for one more breaker. Returns `false` if there is none.
    fn make_room(&mut self, policy: &CircuitBreakerPolicy, max: usize, now: Instant) -> bool {
        if self.len() < max || self.closed.pop_lru().is_some() {
            return true;
        }
        // The search takes a while, so made-up names must not cause it each time.
        let due = |swept: Instant| now.saturating_duration_since(swept) >= Duration::from_secs(1);
        if self.swept.is_none_or(due) {
            self.swept = Some(now);
            let unused = policy.open_for;
            self.tripped.retain(|_, machine| {
                let idle = machine.idle_since();
                idle.is_none_or(|since| now.saturating_duration_since(since) < unused)
            });
        }
        self.len() < max
    }
}

impl Keys {
    /// Removes a breaker that is not forced: the operator's setting has precedence over counters.
    fn forget_counted(&mut self) -> bool {
        let counted = self
            .tripped
            .iter()
            .find(|(_, machine)| !machine.is_forced());
        let Some(key) = counted.map(|(key, _)| key.clone()) else {
            return false;
        };
        self.tripped.remove(&key).is_some()
    }
}

impl Shared {
    pub(super) fn new(
        policy: CircuitBreakerPolicy,
        key_by: KeyBy,
        max_keys: usize,
        on_change: Option<OnChange>,
    ) -> Arc<Self> {
        Arc::new(Self {
            policy,
            key_by,
            max_keys,
            on_change,
            keys: Mutex::new(Keys {
                closed: LruCache::unbounded(),
                tripped: HashMap::new(),
                swept: None,
            }),
            tracked: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            totals: Totals::default(),
        })
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        lock(&self.keys)
    }

    /// Returns the key of a request, or `None` if it goes through no breaker.
    pub(super) fn key(&self, request: &McpRequest) -> Option<Arc<str>> {
        if request.is_listen() || request.as_notification().is_some() {
            return None;
        }
        match &self.key_by {
            KeyBy::Tool => Some(match request.as_tool_call() {
                Some(call) => Arc::from(&*call.name),
                None => Arc::from(request.method()),
            }),
            KeyBy::One(key) => Some(key.clone()),
            KeyBy::Function(key) => key(request).map(Arc::from),
        }
    }

    /// Admits or refuses a call.
    pub(super) fn admit(self: &Arc<Self>, key: Arc<str>) -> Result<Permit, Error> {
        let before = self.changes.load(Ordering::Acquire);
        let permit = |key, let_in, probe| Permit {
            shared: self.clone(),
            key,
            let_in,
            probe,
            ended: false,
        };
        if self.tracked.load(Ordering::Acquire) == 0 {
            return Ok(permit(key, before, None));
        }
        let (admission, state, change, let_in) = {
            let mut keys = self.keys();
            let Some(machine) = keys.tripped.get_mut(&key) else {
                drop(keys);
                return Ok(permit(key, before, None));
            };
            let (now, next) = (Instant::now(), self.next_change());
            let (admission, change) = machine.admit(&self.policy, now, next);
            if change.is_some() {
                self.changes.store(next, Ordering::Release);
            }
            let let_in = self.changes.load(Ordering::Acquire);
            (admission, machine.state(now), change, let_in)
        };
        let permit = match admission {
            Admission::Passed => permit(key.clone(), let_in, None),
            Admission::Probe(number) => permit(key.clone(), let_in, Some(number)),
            Admission::Refused(after) => {
                self.totals.refused.fetch_add(1, Ordering::Relaxed);
                return Err(refusal(&key, state, after));
            }
        };
        // If the hook panics, the permit is dropped.
        self.tell(&key, change);
        Ok(permit)
    }

    /// Returns the number of the next change. Changes are made under the lock.
    fn next_change(&self) -> u64 {
        self.changes.load(Ordering::Acquire) + 1
    }

    fn record(&self, key: &Arc<str>, end: End, let_in: u64) {
        let nothing_new = match end.verdict {
            Verdict::Failure => false,
            Verdict::Success => !self.policy.has_rates(),
            Verdict::Answer | Verdict::Nothing => true,
        };
        if nothing_new && self.tracked.load(Ordering::Acquire) == 0 {
            return;
        }
        let now = Instant::now();
        let change = {
            let mut keys = self.keys();
            let next = self.next_change();
            if keys.get(key).is_none() {
                if nothing_new {
                    return;
                }
                if !keys.make_room(&self.policy, self.max_keys, now) {
                    self.totals.untracked.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                let machine = Machine::new(&self.policy, now);
                keys.closed.put(key.clone(), machine);
            }
            let Some(machine) = keys.get_mut(key) else {
                return;
            };
            let change = machine.record(&self.policy, end, let_in, now, next);
            if change.is_some() || machine.is_blank() {
                keys.settle(key);
            }
            if change.is_some() {
                self.changes.store(next, Ordering::Release);
            }
            self.tracked.store(keys.len(), Ordering::Release);
            change
        };
        self.tell(key, change);
    }

    /// Forces a key's breaker. Returns `false` if there is no room for it.
    pub(super) fn force(&self, key: &str, open: bool) -> bool {
        let key = Arc::<str>::from(key);
        let now = Instant::now();
        let change = {
            let mut keys = self.keys();
            if keys.get(&key).is_none() {
                if !keys.make_room(&self.policy, self.max_keys, now) && !keys.forget_counted() {
                    return false;
                }
                keys.closed
                    .put(key.clone(), Machine::new(&self.policy, now));
            }
            let next = self.next_change();
            let Some(machine) = keys.get_mut(&key) else {
                return false;
            };
            let change = machine.force(open, next);
            keys.settle(&key);
            self.changes.store(next, Ordering::Release);
            self.tracked.store(keys.len(), Ordering::Release);
            change
        };
        self.tell(&key, Some(change));
        true
    }

    /// Closes a key's breaker, or all, and restarts the counters.
    pub(super) fn reset(&self, key: Option<&str>) {
        let now = Instant::now();
        let changes: Vec<(Arc<str>, CircuitBreakerState)> = {
            let mut keys = self.keys();
            let next = self.next_change();
            let all: Vec<Arc<str>> = match key {
                Some(key) => vec![Arc::from(key)],
                None => {
                    let all = keys
                        .tripped
                        .keys()
                        .chain(keys.closed.iter().map(|(key, _)| key));
                    all.cloned().collect()
                }
            };
            let mut changes = Vec::new();
            for key in all {
                let Some(machine) = keys.get_mut(&key) else {
                    continue;
                };
                let from = machine.state(now);
                // Calls in flight do not count for the new phase.
                machine.reset(&self.policy, now, next);
                keys.settle(&key);
                changes.push((key, from));
            }
            self.changes.store(next, Ordering::Release);
            changes
        };
        for (key, from) in changes {
            let to = CircuitBreakerState::Closed;
            self.tell(&key, Some(Change { from, to }));
        }
    }

    /// Calls `look` with one key's breaker.
    pub(super) fn look<T>(&self, key: &str, look: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.keys().get(key).map(look)
    }

    /// Calls `look` with each breaker.
    pub(super) fn look_at_all<T>(&self, mut look: impl FnMut(&Arc<str>, &Machine) -> T) -> Vec<T> {
        let keys = self.keys();
        let all = keys.tripped.iter().chain(keys.closed.iter());
        all.map(|(key, machine)| look(key, machine)).collect()
    }

    pub(super) fn tracked(&self) -> usize {
        self.tracked.load(Ordering::Acquire)
    }

    fn tell(&self, key: &str, change: Option<Change>) {
        let Some(Change { from, to }) = change.filter(|change| change.from != change.to) else {
            return;
        };
        let total = match to {
            CircuitBreakerState::Open => Some(&self.totals.opened),
            CircuitBreakerState::Closed => Some(&self.totals.closed),
            _ => None,
        };
        if let Some(total) = total {
            total.fetch_add(1, Ordering::Relaxed);
        }
        let (before, after) = (from, to);
        let (from, to) = (before.as_str(), after.as_str());
        tracing::info!(key, from, to, "a circuit breaker changed its state");
        count!(breaker.changes, 1_u64, state = to);
        if let Some(hook) = &self.on_change {
            hook(&StateChange {
                key,
                from: before,
                to: after,
            });
        }
    }
}

fn refusal(key: &str, state: CircuitBreakerState, after: Option<Duration>) -> Error {
    count!(breaker.refused, 1_u64, state = state.as_str());
    let message = match state {
        CircuitBreakerState::HalfOpen => {
            format!("`{key}` has failed too often, and is just being tried again")
        }
        CircuitBreakerState::ForcedOpen => format!("`{key}` is switched off"),
        _ => format!("`{key}` has failed too often, and is not called for now"),
    };
    let mut refusal =
        Refusal::new("breaker", message).with_data(json!({ "key": key, "state": state.as_str() }));
    if let Some(after) = after {
        refusal = refusal.with_retry_after(after);
    }
    refusal.into()
}

/// An admitted call. A probe that is dropped without an end frees its place.
pub(super) struct Permit {
    shared: Arc<Shared>,
    key: Arc<str>,
    let_in: u64,
    probe: Option<u64>,
    ended: bool,
}

impl Permit {
    /// Returns `true` if the duration of the call is needed.
    pub(super) fn is_timed(&self) -> bool {
        self.shared.policy.slow.is_some()
    }

    /// Judges the server by the end of the call.
    pub(super) fn read(&self, outcome: Outcome, response: Option<&McpResponse>) -> Verdict {
        let whole_server = matches!(self.shared.key_by, KeyBy::One(_));
        self.shared.policy.read(outcome, response, whole_server)
    }

    pub(super) fn end(mut self, verdict: Verdict, took: Duration) {
        self.ended = true;
        self.record(verdict, took);
    }

    fn record(&self, verdict: Verdict, took: Duration) {
        let probe = self.probe;
        let end = End {
            verdict,
            took,
            probe,
        };
        self.shared.record(&self.key, end, self.let_in);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe.is_some() && !self.ended {
            self.record(Verdict::Nothing, Duration::ZERO);
        }
    }
}
