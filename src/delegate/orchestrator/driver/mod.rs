//! The task that runs a plan: it asks for agents, makes attempts, and ends tasks.
//!
//! All attempts of a plan are polled by its one driver, which costs less than a task for each.
//! Dropping the driver drops the attempts, and so cancels them down to their agents.

mod attempt;
mod end;
mod recovery;
mod timers;

use std::{
    cmp::Reverse,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    StreamExt,
    future::{AbortHandle, BoxFuture, poll_fn},
    stream::FuturesUnordered,
};
use rmcp::model::InputResponses;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, Sleep},
};

use self::{
    attempt::AttemptDone,
    end::End,
    timers::{Due, Timers},
};
use super::{
    dispatcher::{AgentId, Class, Dispatcher, Need, Place, Requested, Slot},
    live_plan::{LivePlan, TaskResult},
    settings::Settings,
    spending::Grant,
};
use crate::delegate::{
    agent::{Question, Resume},
    plan::{PlanState, Status},
    schedule::Change,
    task_store::{NotWritten, Records},
};

/// Number of events after which the driver lets other tasks of the runtime run.
const EVENTS_AT_ONCE: usize = 128;

/// A message to the driver of a plan.
pub(super) enum Event {
    /// An agent has room for a task. `request` is the number of the task's request.
    Granted {
        task: u32,
        request: u32,
        slot: Slot,
    },
    /// There is no agent for the task any more.
    Unavailable(u32, u32),
    Cancel(u32),
    /// The plan is to stop, with its running attempts.
    Stop(Arc<str>),
    /// The answers to a question that was kept over a restart.
    Answered(u32, Box<Question>, InputResponses),
}

/// The end of a piece of work of the driver.
enum Done {
    Attempt(Box<AttemptDone>),
    /// The end of a task is in the store.
    Recorded(u32, End),
    /// A record of another kind is in the store.
    Written,
    Lost(NotWritten),
}

pub(super) struct Driver {
    plan: Arc<LivePlan>,
    settings: Arc<Settings>,
    dispatcher: Arc<Dispatcher>,
    inbox: UnboundedReceiver<Event>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    runs: Vec<TaskRun>,
    /// Tasks that need an agent.
    to_request: Vec<u32>,
    /// Places at agents that are given back when all ready tasks have asked for one.
    freed: Vec<Slot>,
    timers: Timers,
    sleep: Option<Pin<Box<Sleep>>>,
    changes: Vec<Change>,
    visited: Arc<[Arc<str>]>,
    deadline: Option<Instant>,
    records: Option<Arc<Records>>,
    lost: Option<NotWritten>,
}

/// The driver's own state of a task.
#[derive(Default)]
struct TaskRun {
    /// The number of requests for an agent. Events of earlier ones are out of date.
    request: u32,
    /// The place in the queue, while it waits there.
    place: Option<Place>,
    age: Option<u64>,
    /// Number of failed attempts.
    failed: u32,
    declined: Vec<AgentId>,
    /// The agent of the last failed attempt, if others can do the task.
    avoid: Option<AgentId>,
    abort: Option<AbortHandle>,
    /// The end that follows when the attempt has been aborted.
    aborted_as: Option<End>,
    /// `true` if its end is being recorded: nothing changes it any more.
    is_ending: bool,
    resume: Option<Box<Resume>>,
    grant: Grant,
}

impl Driver {
    pub(super) fn new(
        plan: Arc<LivePlan>,
        settings: Arc<Settings>,
        dispatcher: Arc<Dispatcher>,
        inbox: UnboundedReceiver<Event>,
        deadline: Option<Instant>,
    ) -> Self {
        let mut runs = Vec::new();
        runs.resize_with(plan.tasks.len(), TaskRun::default);
        Self {
            visited: plan.origin.hops.visited.clone().into(),
            plan,
            settings,
            dispatcher,
            inbox,
            work: FuturesUnordered::new(),
            runs,
            to_request: Vec::new(),
            freed: Vec::new(),
            timers: Timers::default(),
            sleep: None,
            changes: Vec::new(),
            deadline,
            records: None,
            lost: None,
        }
    }

    pub(super) fn plan(&self) -> &Arc<LivePlan> {
        &self.plan
    }

    pub(super) fn keep_records(&mut self, records: Arc<Records>) {
        self.records = Some(records);
    }

    /// Runs the plan to its end.
    ///
    /// # Errors
    ///
    /// Fails if the plan cannot go on in this process.
    pub(super) async fn run(&mut self) -> Result<(), NotWritten> {
        self.begin();
        poll_fn(|context| self.poll(context)).await
    }

    fn begin(&mut self) {
        if let Some(deadline) = self.deadline {
            self.timers.add(deadline, Due::Plan);
        }
        let tasks = (0_u32..).zip(&self.plan.tasks);
        let deadlines = tasks.filter_map(|(task, own)| Some((task, own.deadline?)));
        for (task, deadline) in deadlines {
            if let Some(at) = self.plan.submitted.checked_add(deadline) {
                self.timers.add(at, Due::Deadline(task));
            }
        }
        let ready: Vec<u32> = self.plan.data().schedule.with(Status::Ready).collect();
        let is_waiting = |task: &u32| !self.runs[*task as usize].is_ending;
        self.to_request.extend(ready.into_iter().filter(is_waiting));
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), NotWritten>> {
        let mut left = EVENTS_AT_ONCE;
        loop {
            let mut is_idle = true;
            // First, because a task may have been cancelled before it starts.
            while left > 0
                && let Poll::Ready(Some(event)) = self.inbox.poll_recv(context)
            {
                self.receive(event);
                (left, is_idle) = (left - 1, false);
            }
            self.request_agents();
            if let Some(lost) = self.lost.take() {
                return Poll::Ready(Err(lost));
            }
            if left > 0
                && let Poll::Ready(Some(done)) = self.work.poll_next_unpin(context)
            {
                self.finish_work(done);
                (left, is_idle) = (left - 1, false);
            }
            is_idle &= !self.poll_timers(context);
            if is_idle {
                break;
            }
            if left == 0 {
                context.waker().wake_by_ref();
                break;
            }
        }
        self.request_agents();
        let is_ended = self.work.is_empty() && self.plan.data().schedule.unfinished() == 0;
        self.plan.publish();
        match is_ended {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Acts on timers that are due. Returns `true` if there was one.
    fn poll_timers(&mut self, context: &mut Context<'_>) -> bool {
        let Some(next) = self.timers.next() else {
            return false;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        if sleep.deadline() != next {
            sleep.as_mut().reset(next);
        }
        if sleep.as_mut().poll(context).is_pending() {
            return false;
        }
        let now = Instant::now();
        while let Some(due) = self.timers.take_due(now) {
            self.act_on(due);
        }
        true
    }

    fn act_on(&mut self, due: Due) {
        match due {
            Due::Plan => self.stop("the time of the plan is over".into()),
            Due::Deadline(task) => {
                let reason = "its deadline has passed; give the task more time".into();
                self.end_early(task, End::Error(Status::Failed, reason));
            }
            Due::Retry(task) => self.to_request.push(task),
        }
    }

    fn receive(&mut self, event: Event) {
        match event {
            Event::Granted {
                task,
                request,
                slot,
            } => {
                let run = &mut self.runs[task as usize];
                if run.request == request && run.place.take().is_some() {
                    self.start(task, slot);
                } else {
                    self.freed.push(slot);
                }
            }
            Event::Unavailable(task, request) => {
                let run = &mut self.runs[task as usize];
                if run.request == request && run.place.take().is_some() {
                    // The next request has the reason.
                    self.to_request.push(task);
                }
            }
            Event::Cancel(task) => {
                let reason = "it was cancelled".into();
                self.end_early(task, End::Error(Status::Cancelled, reason));
            }
            Event::Stop(reason) => self.stop(reason),
            Event::Answered(task, question, answers) => {
                self.resume_round(task, *question, answers);
            }
        }
    }

    /// Asks for an agent for each task that needs one, and gives places back.
    fn request_agents(&mut self) {
        loop {
            let mut batch = std::mem::take(&mut self.to_request);
            // Tasks that are ready at the same time ask in the order of the queue.
            batch.sort_by_key(|task| Reverse(self.plan.tasks[*task as usize].priority));
            for task in batch.drain(..) {
                let is_ready = self.plan.data().schedule.status(task) == Status::Ready;
                let run = &self.runs[task as usize];
                if is_ready && !run.is_ending && run.place.is_none() {
                    self.request(task);
                }
            }
            if !self.to_request.is_empty() {
                continue;
            }
            // The allocation is used again.
            self.to_request = batch;
            if self.freed.is_empty() {
                return;
            }
            // Tasks of this plan and of others that wait get these places.
            self.freed.clear();
        }
    }

    fn request(&mut self, task: u32) {
        let class = self.class(task);
        let own = &self.plan.tasks[task as usize];
        let run = &mut self.runs[task as usize];
        run.request = run.request.wrapping_add(1);
        let plan = (&self.plan.events, task, run.request);
        let (requested, age) = self.dispatcher.request(&class, own.priority, run.age, plan);
        run.age = Some(age);
        match requested {
            Requested::Granted(slot) => self.start(task, slot),
            Requested::Waiting(place) => run.place = Some(place),
            Requested::Unavailable(_) if run.avoid.take().is_some() => {
                self.to_request.push(task);
            }
            Requested::Unavailable(reason) => self.end_without_agent(task, reason),
            Requested::QueueFull(max) => {
                let reason = format!(
                    "all agents are busy and {max} tasks wait for them already; try again later"
                );
                self.end(task, End::Error(Status::Failed, reason.into()));
            }
        }
    }

    /// Ends a task that no agent can do. An agent that has declined it is the better reason.
    fn end_without_agent(&mut self, task: u32, reason: String) {
        let run = &mut self.runs[task as usize];
        let own = &self.plan.tasks[task as usize];
        if run.resume.take().is_some() {
            if own.idempotent {
                self.to_request.push(task);
                return;
            }
            let reason = format!("the agent that works on it cannot be asked for it: {reason}");
            self.end(task, End::Error(Status::Failed, reason.into()));
            return;
        }
        let end = match run.declined.is_empty() {
            true => End::Error(Status::Failed, reason.into()),
            false => {
                let said = match &self.plan.data().tasks[task as usize].result {
                    TaskResult::Error(error) => format!("{reason}: {error}"),
                    _ => reason,
                };
                End::Error(Status::Rejected, said.into())
            }
        };
        self.end(task, end);
    }

    /// Returns the agents that may do a task.
    fn class(&mut self, task: u32) -> Class {
        let own = &self.plan.tasks[task as usize];
        let run = &mut self.runs[task as usize];
        let data = self.plan.data();
        let agent_of = |task: u32| data.tasks[task as usize].agent.clone();
        let follows = own.follows.as_ref();
        let earlier = follows.and_then(|id| self.plan.graph.find(id));
        let need = if run.resume.is_some() {
            agent_of(task).map(Need::Agent)
        } else if let Some(agent) = &own.assigned_to {
            Some(Need::Agent(agent.clone()))
        } else if let Some(agent) = earlier.and_then(agent_of) {
            Some(Need::Agent(agent))
        } else {
            own.capability.clone().map(Need::Capability)
        };
        drop(data);
        let mut class = Class {
            need: need.unwrap_or(Need::Any),
            excluded: run.declined.clone(),
            visited: self.visited.clone(),
        };
        if let Some(avoid) = run.avoid
            && !class.excluded.contains(&avoid)
        {
            class.excluded.push(avoid);
            if self.dispatcher.has_candidate(&class) {
                class.excluded.sort_unstable();
            } else {
                class.excluded.pop();
                run.avoid = None;
            }
        }
        class
    }

    fn finish_work(&mut self, done: Done) {
        match done {
            Done::Attempt(done) => self.finish_attempt(*done),
            Done::Recorded(task, end) => self.apply(task, end),
            Done::Written => {}
            Done::Lost(lost) => self.lost = Some(lost),
        }
    }

    /// Takes a task out of the queue, if it is there.
    fn withdraw(&mut self, task: u32) {
        let Some(place) = self.runs[task as usize].place else {
            return;
        };
        let class = self.class(task);
        self.runs[task as usize].place = None;
        // If it is no longer there, a place is on its way, and is given back.
        self.dispatcher.withdraw(&class, place);
    }

    /// Leaves the plan as it is: this process no longer runs it.
    pub(super) fn release(&mut self, reason: &str) {
        self.withdraw_all();
        {
            let mut data = self.plan.data();
            data.state = PlanState::Released(reason.into());
            data.ended = Some(Instant::now());
            data.changes.count();
            for task in 0..self.plan.tasks.len() as u32 {
                data.drop_question(task);
            }
        }
        // The attempts see the state when they are dropped.
        self.work.clear();
        self.plan.publish();
    }

    fn withdraw_all(&mut self) {
        for task in 0..self.runs.len() as u32 {
            self.withdraw(task);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.plan.is_over() {
            self.release("its runtime has ended, or a function of the application has panicked");
        }
    }
}
