//! Whether tools work: what checks say, and what real calls say.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{self, AtomicBool},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::{RegistryError, state::Shared};
use crate::Outcome;

/// How much of what went wrong is kept, in bytes.
const MAX_REASON_BYTES: usize = 400;

/// How a tool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// Nothing has been heard of it yet, or it is on trial after a failure. Listed.
    Unknown,
    /// It works. Listed.
    Healthy,
    /// It failed lately, less often in a row than makes it unhealthy. Listed.
    Degraded,
    /// It failed as often in a row as the policy allows. Not listed, and not called.
    Unhealthy,
}

impl HealthState {
    /// The state's name in error data, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What real calls say about a tool's health, beside its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Passive {
    /// Nothing.
    Off,
    /// A call counts as a failure if its [`Outcome`] [counts against](Outcome::counts_against) the server
    /// (an internal error, a lost connection, a timeout), if the handler panicked, or if the result did not
    /// fit the output schema. A result with `isError` is an answer.
    #[default]
    Failures,
    /// As [`Failures`](Self::Failures), and a result with `isError` too. Arguments that do not fit the schema
    /// are the caller's failure, never the tool's.
    ToolErrors,
}

/// How health is judged. The same policy holds for checks and for real calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    interval: Duration,
    timeout: Duration,
    fail_after: u32,
    recover_after: u32,
    trial_after: Duration,
    passive: Passive,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            fail_after: 3,
            recover_after: 2,
            trial_after: Duration::from_secs(30),
            passive: Passive::default(),
        }
    }
}

impl HealthPolicy {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long from the beginning of one check to the next, give or take a tenth, so that many tools are not
    /// checked at one moment. Default: 30 s.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long a check may take before it counts as failed. Less than the interval. Default: 5 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many failures in a row make a tool unhealthy. Default: 3, because one can be chance.
    #[must_use]
    pub fn fail_after(mut self, failures: u32) -> Self {
        self.fail_after = failures;
        self
    }

    /// How many successes in a row make a tool healthy again that was degraded or unhealthy. Default: 2.
    #[must_use]
    pub fn recover_after(mut self, successes: u32) -> Self {
        self.recover_after = successes;
        self
    }

    /// How long a tool without a check stays unhealthy. It is then `unknown`, so calls reach it again, and
    /// the first that fails makes it unhealthy once more. Default: 30 s.
    #[must_use]
    pub fn trial_after(mut self, after: Duration) -> Self {
        self.trial_after = after;
        self
    }

    /// What real calls say. Default: [`Passive::Failures`].
    #[must_use]
    pub fn passive(mut self, passive: Passive) -> Self {
        self.passive = passive;
        self
    }

    /// Whether the policy can work.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        let wrong = |reason: &str| {
            Err(RegistryError::InvalidOption {
                option: "health",
                reason: reason.to_owned(),
            })
        };
        if self.fail_after == 0 || self.recover_after == 0 {
            return wrong("a threshold is at least 1");
        }
        if self.timeout.is_zero() || self.trial_after.is_zero() {
            return wrong("a time is more than nothing");
        }
        if self.timeout >= self.interval {
            return wrong("a check has to end before the next one begins");
        }
        Ok(())
    }

    /// What an outcome says: whether the tool works, or nothing.
    fn judge(&self, outcome: Outcome) -> Option<bool> {
        match (self.passive, outcome) {
            (Passive::Off, _) => None,
            (_, outcome) if outcome.counts_against() => Some(false),
            (Passive::ToolErrors, Outcome::ToolError) => Some(false),
            (_, Outcome::ToolError) => Some(true),
            (_, outcome) if outcome.is_success() => Some(true),
            _ => None,
        }
    }
}

/// A health check.
#[derive(Clone)]
pub(super) struct Check(Arc<CheckFn>);

type CheckFn = dyn Fn() -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync;

impl Check {
    pub(super) fn new<F, Fut, E>(check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self(Arc::new(move || {
            Box::pin(check().map(|end| end.map_err(Into::into)))
        }))
    }

    /// Runs the check to its end, whatever that is.
    async fn run(self, timeout: Duration) -> Result<(), String> {
        // The closure runs inside the future, so that its panics are caught as well.
        let checked = async move { (self.0)().await };
        let guarded = std::panic::AssertUnwindSafe(checked).catch_unwind();
        match tokio::time::timeout(timeout, guarded).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(panic)) => Err(format!("the check panicked: {}", panic_message(&*panic))),
            Err(_) => Err(format!("the check took longer than {timeout:?}")),
        }
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// How a tool, or a group of tools, is: a snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthReport {
    /// The state.
    pub state: HealthState,
    /// What the last failure said, while it matters.
    pub reason: Option<Arc<str>>,
    /// How many failures in a row there have been.
    pub failures: u32,
    /// Since when the state is what it is.
    pub since: Instant,
    /// When the last check ended.
    pub last_check: Option<Instant>,
}

/// Keeps the health of one tool, or of one group.
pub(super) struct Monitor {
    name: String,
    policy: HealthPolicy,
    check: Option<Check>,
    standing: Mutex<Standing>,
}

struct Standing {
    report: HealthReport,
    successes: u32,
}

impl Monitor {
    pub(super) fn new(name: String, policy: HealthPolicy, check: Option<Check>) -> Self {
        let report = HealthReport {
            state: HealthState::Unknown,
            reason: None,
            failures: 0,
            since: Instant::now(),
            last_check: None,
        };
        Self {
            name,
            policy,
            check,
            standing: Mutex::new(Standing {
                report,
                successes: 0,
            }),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has_check(&self) -> bool {
        self.check.is_some()
    }

    pub(super) fn report(&self) -> HealthReport {
        self.standing().report.clone()
    }

    /// Why the tool is not to be called, if it is not.
    pub(super) fn down(&self) -> Option<Arc<str>> {
        let standing = self.standing();
        (standing.report.state == HealthState::Unhealthy).then(|| {
            standing
                .report
                .reason
                .clone()
                .unwrap_or_else(|| "it failed".into())
        })
    }

    /// Takes note of a success or a failure. True if the tool has to appear or to disappear for it.
    fn record(&self, result: Result<(), &str>, checked: bool) -> bool {
        let mut standing = self.standing();
        let now = Instant::now();
        if checked {
            standing.report.last_check = Some(now);
        }
        let before = standing.report.state;
        match result {
            Ok(()) => {
                standing.report.failures = 0;
                standing.successes = standing.successes.saturating_add(1);
                let recovered = standing.successes >= self.policy.recover_after;
                if before == HealthState::Unknown || recovered {
                    standing.report.state = HealthState::Healthy;
                    standing.report.reason = None;
                }
            }
            Err(reason) => {
                standing.successes = 0;
                standing.report.failures = standing.report.failures.saturating_add(1);
                standing.report.reason = Some(shortened(reason).into());
                standing.report.state = if standing.report.failures >= self.policy.fail_after {
                    HealthState::Unhealthy
                } else if before == HealthState::Unhealthy {
                    before
                } else {
                    HealthState::Degraded
                };
            }
        }
        self.changed(&mut standing, before, now)
    }

    /// Lets calls through again to a tool that nothing but calls can tell of.
    fn begin_trial(&self) -> bool {
        let mut standing = self.standing();
        let before = standing.report.state;
        if before == HealthState::Unhealthy {
            standing.report.state = HealthState::Unknown;
            standing.report.failures = self.policy.fail_after.saturating_sub(1);
        }
        self.changed(&mut standing, before, Instant::now())
    }

    fn changed(&self, standing: &mut Standing, before: HealthState, now: Instant) -> bool {
        let state = standing.report.state;
        if state == before {
            return false;
        }
        standing.report.since = now;
        let reason = standing.report.reason.as_deref();
        tracing::info!(
            tool = self.name,
            from = before.as_str(),
            to = state.as_str(),
            reason,
            "a tool's health changed"
        );
        (state == HealthState::Unhealthy) != (before == HealthState::Unhealthy)
    }

    /// How long until the next check begins.
    fn pause(&self) -> Duration {
        let interval = self.policy.interval.mul_f64(rand::random_range(0.9..=1.1));
        interval.max(self.policy.timeout)
    }
}

fn shortened(reason: &str) -> String {
    if reason.len() <= MAX_REASON_BYTES {
        return reason.to_owned();
    }
    let end = (0..=MAX_REASON_BYTES)
        .rev()
        .find(|&at| reason.is_char_boundary(at));
    format!("{} …", &reason[..end.unwrap_or(0)])
}

/// A group of the inner stack's tools whose health the registry keeps; see
/// [`RegistryLayerBuilder::inner_health`](super::RegistryLayerBuilder::inner_health).
///
/// ```
/// use std::time::Duration;
///
/// use rmcp_layers::registry::{HealthPolicy, InnerHealth, RegistryLayer};
///
/// let layer = RegistryLayer::builder()
///     // One member of a gateway: its tools come and go together.
///     .inner_health(
///         InnerHealth::group("db__")
///             .policy(HealthPolicy::new().interval(Duration::from_secs(10)))
///             .check(|| async { Ok::<_, std::io::Error>(()) }),
///     )
///     // Every other tool by itself, by how its calls end.
///     .inner_health(InnerHealth::each(""))
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), rmcp_layers::registry::RegistryError>(())
/// ```
#[derive(Clone)]
#[must_use = "give it to `RegistryLayerBuilder::inner_health`"]
pub struct InnerHealth {
    pub(super) covers: Covers,
    pub(super) policy: Option<HealthPolicy>,
    pub(super) check: Option<Check>,
}

#[derive(Clone)]
pub(super) enum Covers {
    Tool(String),
    Group(String),
    Each(String),
}

impl InnerHealth {
    fn new(covers: Covers) -> Self {
        Self {
            covers,
            policy: None,
            check: None,
        }
    }

    /// One tool.
    pub fn tool(name: impl Into<String>) -> Self {
        Self::new(Covers::Tool(name.into()))
    }

    /// All tools whose names begin with `prefix`, as one: a failure of any counts for all, and they leave
    /// and come back together. That is what a gateway's member is.
    pub fn group(prefix: impl Into<String>) -> Self {
        Self::new(Covers::Group(prefix.into()))
    }

    /// Each tool whose name begins with `prefix`, by itself, by how its calls end: there is no
    /// [`check`](Self::check) for these. Up to 10,000 tools that have failed are remembered; those beyond are
    /// passed on whatever their health.
    pub fn each(prefix: impl Into<String>) -> Self {
        Self::new(Covers::Each(prefix.into()))
    }

    /// Sets how health is judged. Default: the [registry's](super::RegistryLayerBuilder::health).
    pub fn policy(mut self, policy: HealthPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets how the registry asks whether the tools work. Default: none; then only real calls tell.
    pub fn check<F, Fut, E>(mut self, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.check = Some(Check::new(check));
        self
    }
}

impl fmt::Debug for InnerHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (covers, name) = match &self.covers {
            Covers::Tool(name) => ("tool", name),
            Covers::Group(prefix) => ("group", prefix),
            Covers::Each(prefix) => ("each", prefix),
        };
        f.debug_struct("InnerHealth")
            .field(covers, name)
            .field("policy", &self.policy)
            .field("check", &self.check.is_some())
            .finish()
    }
}

/// When which monitor is next to be looked at, and whether somebody does.
pub(super) struct Schedule {
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
    pub(super) fn new(max_concurrent: usize) -> Self {
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
    pub(super) fn watch(self: &Arc<Self>, monitor: &Arc<Monitor>) {
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
    pub(super) fn run_checks(self: &Arc<Self>) {
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
    pub(super) fn observe(
        self: &Arc<Self>,
        monitor: &Arc<Monitor>,
        outcome: Outcome,
        reason: impl FnOnce() -> String,
    ) {
        match monitor.policy.judge(outcome) {
            Some(true) => self.note(monitor, Ok(()), false),
            Some(false) => self.note(monitor, Err(&reason()), false),
            None => {}
        }
    }

    /// Takes note of a call that the tool itself failed at, whatever its outcome is to the caller.
    pub(super) fn observe_failure(self: &Arc<Self>, monitor: &Arc<Monitor>, reason: &str) {
        if monitor.policy.passive != Passive::Off {
            self.note(monitor, Err(reason), false);
        }
    }

    fn note(self: &Arc<Self>, monitor: &Arc<Monitor>, result: Result<(), &str>, checked: bool) {
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
                    let result = result.as_ref().map(|()| ()).map_err(String::as_str);
                    shared.note(&monitor, result, true);
                }
            }
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}
