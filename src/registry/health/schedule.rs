//! When checks run, and what is made of them and of real calls.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{self, AtomicBool},
    },
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Passive,
    monitor::{Failure, Monitor},
};
use crate::{Outcome, registry::state::Shared};

/// When which monitor is next to be looked at, and whether somebody does.
pub(in crate::registry) struct Schedule {
    due: Mutex<BinaryHeap<Due>>,
    wake: Arc<Notify>,
    running: Arc<AtomicBool>,
    /// Cancelled when the registry is gone.
    gone: CancellationToken,
    max_concurrent: usize,
}

struct Due {
    at: Instant,
    monitor: Weak<Monitor>,
}

impl Ord for Due {
    /// The earliest is the greatest: that is the end of the heap that can be looked at.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl Schedule {
    pub(in crate::registry) fn new(max_concurrent: usize) -> Self {
        Self {
            due: Mutex::default(),
            wake: Arc::default(),
            running: Arc::default(),
            gone: CancellationToken::new(),
            max_concurrent,
        }
    }

    fn due(&self) -> MutexGuard<'_, BinaryHeap<Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, at: Instant, monitor: &Arc<Monitor>) {
        let mut due = self.due();
        // Of tools that are gone, at most as many are kept as there are others.
        if due.len() == due.capacity() {
            due.retain(|entry| entry.monitor.strong_count() > 0);
        }
        due.push(Due {
            at,
            monitor: Arc::downgrade(monitor),
        });
    }

    /// What is due now, and otherwise when something will be.
    fn next(&self) -> Result<Arc<Monitor>, Option<Instant>> {
        let mut due = self.due();
        loop {
            let Some(first) = due.peek() else {
                return Err(None);
            };
            if first.at > Instant::now() {
                return Err(Some(first.at));
            }
            let monitor = due.pop().and_then(|first| first.monitor.upgrade());
            if let Some(monitor) = monitor {
                return Ok(monitor);
            }
        }
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Shared {
    /// Checks a monitor from now on, if it has a check.
    pub(in crate::registry) fn watch(self: &Arc<Self>, monitor: &Arc<Monitor>) {
        if monitor.has_check() {
            self.schedule.push(Instant::now(), monitor);
            self.reschedule();
        }
    }

    /// Looks at the schedule anew, because there is something new in it.
    fn reschedule(self: &Arc<Self>) {
        self.schedule.wake.notify_one();
        self.run_checks();
    }

    /// Sees to it that due checks are run, once there is a runtime to run them.
    pub(in crate::registry) fn run_checks(self: &Arc<Self>) {
        let schedule = &self.schedule;
        if schedule.running.load(atomic::Ordering::Acquire) || schedule.due().is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if schedule.running.swap(true, atomic::Ordering::AcqRel) {
            return;
        }
        runtime.spawn(run(
            Arc::downgrade(self),
            schedule.wake.clone(),
            schedule.gone.clone(),
            Running(schedule.running.clone()),
        ));
    }

    /// Takes note of how a call ended.
    pub(in crate::registry) fn observe(
        self: &Arc<Self>,
        monitor: &Arc<Monitor>,
        outcome: Outcome,
        reason: impl FnOnce() -> String,
    ) {
        match monitor.policy.judge(outcome) {
            Some(true) => self.note(monitor, Ok(()), false),
            Some(false) => {
                let reason = reason();
                let told = format!("its calls failed: {}", outcome.as_str());
                let failure = Failure {
                    reason: &reason,
                    told: &told,
                };
                self.note(monitor, Err(failure), false);
            }
            None => {}
        }
    }

    /// Takes note of a call that the tool itself failed at, whatever its outcome is to the caller.
    pub(in crate::registry) fn observe_failure(
        self: &Arc<Self>,
        monitor: &Arc<Monitor>,
        reason: &str,
        told: &str,
    ) {
        if monitor.policy.passive != Passive::Off {
            self.note(monitor, Err(Failure { reason, told }), false);
        }
    }

    fn note(
        self: &Arc<Self>,
        monitor: &Arc<Monitor>,
        result: Result<(), Failure<'_>>,
        checked: bool,
    ) {
        if !monitor.record(result, checked) {
            return;
        }
        if result.is_err() && !monitor.has_check() {
            let after = Instant::now() + monitor.policy.trial_after;
            self.schedule.push(after, monitor);
            self.reschedule();
        }
        self.changed();
    }
}

/// Says that the background task has ended, however it did: with its runtime, for one.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, atomic::Ordering::Release);
    }
}

/// Runs checks until the registry is gone. It keeps nothing of it alive.
async fn run(
    registry: Weak<Shared>,
    wake: Arc<Notify>,
    gone: CancellationToken,
    _running: Running,
) {
    let mut checks = FuturesUnordered::new();
    loop {
        let next = {
            let Some(shared) = registry.upgrade() else {
                return;
            };
            loop {
                if checks.len() >= shared.schedule.max_concurrent {
                    break None;
                }
                let monitor = match shared.schedule.next() {
                    Ok(monitor) => monitor,
                    Err(next) => break next,
                };
                let Some(check) = monitor.check.clone() else {
                    if monitor.begin_trial() {
                        shared.changed();
                    }
                    continue;
                };
                shared
                    .schedule
                    .push(Instant::now() + monitor.pause(), &monitor);
                let timeout = monitor.policy.timeout;
                let monitor = Arc::downgrade(&monitor);
                checks.push(async move { (monitor, check.run(timeout).await) });
            }
        };
        tokio::select! {
            () = gone.cancelled() => return,
            () = wake.notified() => {}
            Some((monitor, result)) = checks.next(), if !checks.is_empty() => {
                if let (Some(shared), Some(monitor)) = (registry.upgrade(), monitor.upgrade()) {
                    let result = match &result {
                        Ok(()) => Ok(()),
                        Err(reason) => Err(Failure {
                            reason,
                            told: reason,
                        }),
                    };
                    shared.note(&monitor, result, true);
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}
