//! Runs health checks when they are due, and records their outcomes and those of real calls.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
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
use crate::{Outcome, registry::state::Shared, util::lock};

/// The due times of all monitors, and the state of the background task.
pub(in crate::registry) struct Schedule {
    due: Mutex<BinaryHeap<Due>>,
    wake: Arc<Notify>,
    running: Arc<AtomicBool>,
    /// Cancelled when the registry is dropped.
    gone: CancellationToken,
    max_concurrent: usize,
}

struct Due {
    at: Instant,
    monitor: Weak<Monitor>,
}

impl Ord for Due {
    /// Reversed, because a heap's `peek` returns the greatest element.
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
        lock(&self.due)
    }

    fn push(&self, at: Instant, monitor: &Arc<Monitor>) {
        let mut due = self.due();
        // Entries of removed tools are cleaned up before the heap grows.
        if due.len() == due.capacity() {
            due.retain(|entry| entry.monitor.strong_count() > 0);
        }
        due.push(Due {
            at,
            monitor: Arc::downgrade(monitor),
        });
    }

    /// Returns the monitor that is due, or the time at which the next one will be.
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
    /// Schedules checks for a monitor, if it has a check.
    pub(in crate::registry) fn watch(self: &Arc<Self>, monitor: &Arc<Monitor>) {
        if monitor.has_check() {
            self.schedule.push(Instant::now(), monitor);
            self.reschedule();
        }
    }

    /// Wakes the background task after a change of the schedule.
    fn reschedule(self: &Arc<Self>) {
        self.schedule.wake.notify_one();
        self.run_checks();
    }

    /// Starts the background task, if checks are scheduled and a runtime is present.
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

    /// Records the outcome of a call.
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
                let public_reason = format!("its calls failed: {}", outcome.as_str());
                let failure = Failure {
                    reason: &reason,
                    public_reason: &public_reason,
                };
                self.note(monitor, Err(failure), false);
            }
            None => {}
        }
    }

    /// Records a failure of the tool itself, independent of the outcome for the caller.
    pub(in crate::registry) fn observe_failure(
        self: &Arc<Self>,
        monitor: &Arc<Monitor>,
        reason: &str,
        public_reason: &str,
    ) {
        if monitor.policy.passive != Passive::Off {
            self.note(
                monitor,
                Err(Failure {
                    reason,
                    public_reason,
                }),
                false,
            );
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

/// Marks the background task as ended on drop, for example when its runtime ends.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, atomic::Ordering::Release);
    }
}

/// Runs checks until the registry is dropped. The task does not keep the registry alive.
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
                            public_reason: reason,
                        }),
                    };
                    shared.note(&monitor, result, true);
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}
