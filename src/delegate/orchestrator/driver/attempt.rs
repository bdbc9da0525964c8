use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{AbortHandle, Abortable},
};
use tokio::time::Instant;

use super::{Done, Driver, TaskRun, end::End, timers::Due};
use crate::{
    delegate::{
        agent::{Attempt, AttemptEnd, AttemptFailure, Resume},
        hops::Hops,
        orchestrator::{
            context::{DependencyResult, TaskContext},
            dispatcher::Slot,
            live_plan::{PlanData, TaskResult},
            reports::Reports,
            spending::{Grant, Used},
        },
        plan::{PlanState, Status},
        task_store::{Begun, EndRecord, NotWritten, Records, TaskRecord, now_ms},
    },
    util::{metrics::count, panics},
};

/// The end of an attempt, and the place at its agent.
pub(super) struct AttemptDone {
    task: u32,
    slot: Slot,
    /// `None` if it was aborted.
    end: Option<AttemptEnd>,
    used: Used,
}

impl Driver {
    /// Starts an attempt of a task at an agent.
    pub(super) fn start(&mut self, task: u32, slot: Slot) {
        let index = task as usize;
        let plan = self.plan.clone();
        let mut data = plan.data();
        let run = &mut self.runs[index];
        if data.schedule.status(task) != Status::Ready || run.is_ending {
            drop(data);
            self.freed.push(slot);
            return;
        }
        let (own, is_first) = (&plan.tasks[index], data.tasks[index].attempts == 0);
        let grant = match data.spending.grant(own, is_first, slot.agent.cost()) {
            Ok(grant) => grant,
            Err(reason) => {
                drop(data);
                self.freed.push(slot);
                self.stop_starting(reason.into());
                return;
            }
        };
        let is_started = data.schedule.start(task);
        debug_assert!(is_started);
        let resume = run.resume.take().map(|resume| *resume);
        run.grant = grant;
        let task_data = &mut data.tasks[index];
        task_data.agent = Some(slot.agent.name().clone());
        // An attempt of a process before this one goes on.
        if resume.is_none() {
            task_data.attempts += 1;
        }
        task_data.started = Some(Instant::now());
        data.changes.add(task);
        let number = data.tasks[index].attempts;
        let thread = self.thread(&data, task);
        drop(data);
        let attempt = Attempt {
            task: [&*plan.id, "/", &*own.id].concat().into(),
            description: own.description.clone(),
            context: self.context(task, grant),
            thread,
            hops: self.hops(task, &slot, grant),
            caller: plan.origin.caller.clone(),
            resume,
        };
        let reports = Reports {
            plan,
            task,
            attempt: number,
            records: self.records.clone(),
        };
        count!(delegate.attempts, 1_u64);
        let (abort, registration) = AbortHandle::new_pair();
        self.runs[index].abort = Some(abort);
        let attempt = Running {
            task,
            number,
            attempt,
            reports,
            grant,
        };
        let work = attempt.run(slot, registration);
        self.work.push(Box::pin(work));
    }

    /// Returns the context of a task: its own, and the results of its dependencies. The function
    /// that fits it is the application's, so no lock is held.
    fn context(&self, task: u32, grant: Grant) -> Option<String> {
        let own = &self.plan.tasks[task as usize];
        let dependencies = self.plan.graph.dependencies(task);
        if own.context.is_none() && dependencies.is_empty() {
            return None;
        }
        let results: Vec<_> = {
            let data = self.plan.data();
            let dependencies = dependencies.iter().map(|dependency| {
                let result = data.tasks[*dependency as usize].result.clone();
                (*dependency, data.schedule.status(*dependency), result)
            });
            dependencies.collect()
        };
        let results = results
            .iter()
            .map(|(dependency, status, result)| DependencyResult {
                task: &self.plan.tasks[*dependency as usize].id,
                status: *status,
                text: match result {
                    TaskResult::None => "",
                    TaskResult::Output(output) => &output.answer,
                    TaskResult::Error(error) => error,
                },
            });
        let context = TaskContext {
            task: &own.id,
            own: own.context.as_deref(),
            results: results.collect(),
            tokens: grant.tokens,
            max_bytes: self.settings.max_context_bytes,
        };
        Some(match &self.settings.fit_context {
            Some(fit) => fit(&context),
            None => context.to_text(),
        })
    }

    fn thread(&self, data: &PlanData, task: u32) -> Option<String> {
        let own = &self.plan.tasks[task as usize];
        let earlier = own.follows.as_ref().and_then(|id| self.plan.graph.find(id));
        match earlier.map(|earlier| &data.tasks[earlier as usize].result) {
            Some(TaskResult::Output(output)) => output.thread.clone(),
            _ => own.thread.as_deref().map(str::to_owned),
        }
    }

    /// Returns the limits that go with the call to an agent.
    fn hops(&self, task: u32, slot: &Slot, grant: Grant) -> Hops {
        let own = &self.plan.tasks[task as usize];
        let deadline = own
            .deadline
            .and_then(|own| self.plan.submitted.checked_add(own));
        let deadline = match (deadline, self.deadline) {
            (Some(task), Some(plan)) => Some(task.min(plan)),
            (task, plan) => task.or(plan),
        };
        let mut hops = self.plan.origin.hops.to_agent(slot.agent.name().clone());
        hops.remaining_time =
            deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        hops.remaining_tokens = grant.tokens;
        hops
    }

    pub(super) fn finish_attempt(&mut self, done: AttemptDone) {
        let AttemptDone {
            task,
            mut slot,
            end,
            used,
        } = done;
        let run = &mut self.runs[task as usize];
        run.abort = None;
        let grant = std::mem::take(&mut run.grant);
        {
            let mut data = self.plan.data();
            data.spending.settle(grant, used);
            data.tasks[task as usize].reported = None;
        }
        match end {
            Some(AttemptEnd::Complete(output)) => {
                slot.succeeded = Some(true);
                self.apply(task, End::Complete(Arc::new(output)));
            }
            Some(AttemptEnd::Rejected { reason }) => {
                count!(delegate.rejections, 1_u64);
                let run = &mut self.runs[task as usize];
                if let Err(place) = run.declined.binary_search(&slot.id) {
                    run.declined.insert(place, slot.id);
                }
                let agent = slot.agent.name();
                let reason = format!("agent `{agent}` has declined it: {reason}");
                self.put_back(task, reason.into(), None);
            }
            Some(AttemptEnd::Failed(failure)) => {
                slot.succeeded = Some(false);
                self.fail(task, slot.id, failure);
            }
            None => {
                let end = self.runs[task as usize].aborted_as.take();
                let end =
                    end.unwrap_or_else(|| End::Error(Status::Cancelled, "it was cancelled".into()));
                self.end(task, end);
            }
        }
        self.freed.push(slot);
    }

    fn fail(&mut self, task: u32, agent: u64, failure: AttemptFailure) {
        let own = &self.plan.tasks[task as usize];
        let run = &mut self.runs[task as usize];
        run.failed = run.failed.saturating_add(1);
        let is_safe = !failure.ambiguous || own.idempotent;
        let is_asked_for = run.aborted_as.is_none() && failure.may_retry && is_safe;
        let delay = is_asked_for
            .then(|| own.retries.delay(run.failed, failure.retry_after))
            .flatten();
        let error: Arc<str> = match failure.ambiguous && !own.idempotent {
            true => format!(
                "{}; the agent may have done the task, so it is not tried again",
                failure.error
            )
            .into(),
            false => failure.error,
        };
        match delay {
            Some(delay) => {
                run.avoid = Some(agent);
                count!(delegate.retries, 1_u64);
                self.put_back(task, error, Some(delay));
            }
            None => self.end(task, End::Error(Status::Failed, error)),
        }
    }

    /// Makes a task ready for another attempt, after a delay.
    fn put_back(&mut self, task: u32, error: Arc<str>, delay: Option<Duration>) {
        let aborted_as = self.runs[task as usize].aborted_as.take();
        let mut data = self.plan.data();
        if !matches!(data.state, PlanState::Running) || aborted_as.is_some() {
            drop(data);
            let end = aborted_as.unwrap_or(End::Error(Status::Failed, error));
            return self.end(task, end);
        }
        if !data.schedule.put_back(task) {
            return;
        }
        data.tasks[task as usize].result = TaskResult::Error(error);
        data.changes.add(task);
        drop(data);
        match delay.and_then(|delay| Instant::now().checked_add(delay)) {
            Some(at) => self.timers.add(at, Due::Retry(task)),
            None => self.to_request.push(task),
        }
    }
}

/// An attempt that is about to be made.
struct Running {
    task: u32,
    number: u32,
    attempt: Attempt,
    reports: Reports,
    grant: Grant,
}

impl Running {
    async fn run(self, slot: Slot, registration: futures::future::AbortRegistration) -> Done {
        let (task, grant) = (self.task, self.grant);
        let (plan, records) = (self.reports.plan.clone(), self.reports.records.clone());
        let unfollowed = match &self.attempt.resume {
            Some(Resume::Remote(remote)) => Some(remote.clone()),
            _ => None,
        };
        let is_begun = AtomicBool::new(false);
        let made = Abortable::new(self.make(&slot, &is_begun), registration).await;
        let end = match made {
            Ok(Ok(end)) => Some(end),
            Ok(Err(lost)) => return Done::Lost(lost),
            Err(_) => None,
        };
        if let Some(remote) = unfollowed.filter(|_| !is_begun.load(Ordering::Relaxed)) {
            slot.agent.cancel(&remote, &plan.origin.caller);
        }
        let used = match &end {
            Some(AttemptEnd::Complete(output)) => Used::of(grant, Some(output)),
            Some(AttemptEnd::Rejected { .. }) => Used::default(),
            Some(AttemptEnd::Failed(_)) | None => Used::of(grant, None),
        };
        if let (Some(records), Some(end)) = (records, &end)
            && let Err(lost) = record(&records, task, end, used).await
        {
            return Done::Lost(lost);
        }
        Done::Attempt(Box::new(AttemptDone {
            task,
            slot,
            end,
            used,
        }))
    }

    async fn make(self, slot: &Slot, is_begun: &AtomicBool) -> Result<AttemptEnd, NotWritten> {
        if let Some(records) = &self.reports.records {
            let is_resumed = self.attempt.resume.is_some();
            let agent = slot.agent.name();
            let begun = records.begin(self.task, agent, self.number, is_resumed);
            if begun.await? == Begun::ByAnother {
                return Ok(failed(
                    "another orchestrator has begun the task and lost it",
                ));
            }
            self.reports.plan.data().record_answer(self.task);
        }
        // From here on the attempt cancels the agent's work when it is dropped.
        is_begun.store(true, Ordering::Relaxed);
        let reports = Arc::new(self.reports);
        // In one expression, so that there is room for the attempt only once.
        let end = AssertUnwindSafe(slot.agent.attempt(self.attempt, reports))
            .catch_unwind()
            .await;
        Ok(end.unwrap_or_else(|panic| {
            tracing::error!(
                panic = panics::message(&*panic),
                "an agent's stack panicked"
            );
            failed("the agent's stack failed unexpectedly; the log says more")
        }))
    }
}

fn failed(error: &str) -> AttemptEnd {
    AttemptEnd::Failed(AttemptFailure {
        error: error.into(),
        ambiguous: true,
        may_retry: true,
        retry_after: None,
    })
}

/// Writes the end of an attempt, before others learn of it.
async fn record(
    records: &Records,
    task: u32,
    end: &AttemptEnd,
    used: Used,
) -> Result<(), NotWritten> {
    let output = match end {
        AttemptEnd::Complete(output) => Some(Arc::new(output.clone())),
        _ => None,
    };
    let change = |record: &mut TaskRecord| {
        record.is_running = false;
        (record.remote, record.question) = (None, None);
        record.tokens = record.tokens.saturating_add(used.tokens);
        record.cost += used.cost;
        record.end = output.map(|output| EndRecord {
            status: Status::Complete,
            output: Some(output),
            error: None,
            at: now_ms(),
        });
    };
    records.change(task, change).await
}

impl TaskRun {
    /// Aborts the running attempt, whose task then ends so.
    pub(super) fn abort_as(&mut self, end: End) {
        if let Some(abort) = &self.abort {
            self.aborted_as.get_or_insert(end);
            abort.abort();
        }
    }
}
