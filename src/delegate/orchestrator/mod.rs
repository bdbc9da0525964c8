//! The orchestrator: agents, and the plans that they work on.

mod agent_status;
mod builder;
mod changes;
mod context;
mod dispatcher;
mod driver;
mod live_plan;
mod origin;
mod plan_handle;
mod plan_table;
mod reports;
mod request_reader;
mod requests;
mod settings;
mod spending;
mod start;

use std::{fmt, sync::Arc};

#[allow(unused_imports, reason = "the layer is to come")]
pub(in crate::delegate) use self::origin::Asker;
pub use self::{
    agent_status::{AgentStatus, RegisterError},
    builder::OrchestratorBuilder,
    context::{DependencyResult, TaskContext},
    plan_handle::{AnswerError, PlanHandle},
    requests::{Delivery, RequestError},
};
use self::{
    dispatcher::{Dispatcher, NotRegistered},
    plan_table::PlanTable,
    settings::Settings,
};
pub(in crate::delegate) use self::{
    origin::{Origin, Owner},
    plan_handle::CANCELLED,
    requests::{Kept, answer},
};
use super::{Agent, Plan, PlanError, PlanSnapshot, PlanState, Task, TaskSnapshot};
use crate::{CallContext, Error, store::StoreError};

/// Hands tasks to agents. Clones share their agents and plans.
///
/// A plan that was submitted goes on if all clones are dropped.
#[derive(Clone)]
pub struct Orchestrator {
    settings: Arc<Settings>,
    dispatcher: Arc<Dispatcher>,
    plans: Arc<PlanTable>,
}

impl Orchestrator {
    /// Returns a builder with the defaults.
    pub fn builder() -> OrchestratorBuilder {
        OrchestratorBuilder::default()
    }

    fn new(settings: Settings, max_agents: usize, max_waiting: usize) -> Self {
        let settings = Arc::new(settings);
        Self {
            dispatcher: Arc::new(Dispatcher::new(max_agents, max_waiting)),
            plans: Arc::new(PlanTable::new(settings.clone())),
            settings,
        }
    }

    /// Registers an agent, after a probe: it can be reached and has the tools of its mapping. The
    /// probe takes at most 60 s.
    ///
    /// Tasks that wait for such an agent go to it at once.
    ///
    /// # Errors
    ///
    /// Fails if the probe does, if the name is in use, or if there are too many agents.
    pub async fn register(&self, agent: Agent) -> Result<(), RegisterError> {
        if let Err(error) = agent.probe(&CallContext::background()).await {
            let name = agent.name().clone();
            return Err(RegisterError::Probe { name, error });
        }
        self.register_unprobed(agent)
    }

    /// Registers an agent without a probe, such as one that starts later.
    ///
    /// # Errors
    ///
    /// Fails if the name is in use, or if there are too many agents.
    pub fn register_unprobed(&self, agent: Agent) -> Result<(), RegisterError> {
        let name = agent.name().clone();
        self.dispatcher
            .register(agent)
            .map_err(|error| match error {
                NotRegistered::NameTaken => RegisterError::NameTaken { name },
                NotRegistered::TooMany(max) => RegisterError::TooMany { max },
            })
    }

    /// Removes an agent. Returns it if it was registered.
    ///
    /// Tasks that it works on go on to their end. Waiting tasks that no other agent can do fail.
    pub fn unregister(&self, name: &str) -> Option<Agent> {
        self.dispatcher.unregister(name)
    }

    /// Returns the registered agents, in the order of their registration.
    pub fn agents(&self) -> Vec<AgentStatus> {
        let agents = self.dispatcher.agents().into_iter();
        agents.map(AgentStatus::from).collect()
    }

    /// Returns the number of tasks of all plans that wait for an agent with room.
    pub fn waiting(&self) -> usize {
        self.dispatcher.waiting()
    }

    /// Runs a plan for the process itself.
    ///
    /// # Errors
    ///
    /// Fails if the plan is not valid, or if too many plans run.
    pub fn run_plan(&self, plan: Plan) -> Result<PlanHandle, PlanError> {
        self.submit(plan, Origin::of_process())
    }

    /// Runs a plan for the caller of a request, whose principal, deadline and hops it has. Only the
    /// same caller [finds](Self::find_plan) it.
    ///
    /// # Errors
    ///
    /// Fails as [`run_plan`](Self::run_plan) does, and if the request comes from too many
    /// delegations in a row, or its `_meta` cannot be read.
    pub fn run_plan_for(&self, plan: Plan, context: &CallContext) -> Result<PlanHandle, Error> {
        Ok(self.submit(plan, Origin::of(context)?)?)
    }

    /// Runs a task, and returns its end. If the future is dropped, the task is cancelled.
    ///
    /// # Errors
    ///
    /// Fails as [`run_plan`](Self::run_plan) does. A task that is not completed is no error.
    pub async fn delegate(&self, task: Task) -> Result<TaskSnapshot, PlanError> {
        let mut ends = self.run_parallel([task]).await?;
        ends.pop().ok_or(PlanError::Empty)
    }

    /// Runs tasks at the same time, and returns their ends in the same order. If the future is
    /// dropped, the tasks are cancelled.
    ///
    /// # Errors
    ///
    /// Fails as [`run_plan`](Self::run_plan) does. A task that is not completed is no error.
    pub async fn run_parallel(
        &self,
        tasks: impl IntoIterator<Item = Task>,
    ) -> Result<Vec<TaskSnapshot>, PlanError> {
        let abandoned = CancelOnDrop(self.run_plan(Plan::new(tasks))?);
        Ok(abandoned.0.wait().await.tasks)
    }

    /// Returns the plan with this id, if it was submitted for the same caller, and this process runs
    /// it or has run it of late.
    pub fn find_plan(&self, context: &CallContext, id: &str) -> Option<PlanHandle> {
        let plan = self.plans.find(id)?;
        (plan.origin.owner == Owner::of(context)).then(|| PlanHandle::new(plan))
    }

    /// Returns the plans of this caller that this process runs or has run of late.
    pub fn plans(&self, context: &CallContext) -> Vec<PlanHandle> {
        let owner = Owner::of(context);
        let plans = self.plans.all().into_iter();
        plans
            .filter(|plan| plan.origin.owner == owner)
            .map(PlanHandle::new)
            .collect()
    }

    /// Takes over the plans of orchestrators of the same [name](OrchestratorBuilder::name) that have
    /// died, and returns their handles. Without a [store](OrchestratorBuilder::store) there are none.
    ///
    /// Register the agents first. A plan can be taken over when the
    /// [lease](OrchestratorBuilder::lease) of its last orchestrator has expired, so call this again
    /// from time to time. Tasks that have ended stay ended. A task that an agent was working on goes
    /// on if the agent has given a handle of it, or waits for an answer; else it fails, unless it is
    /// [idempotent](Task::idempotent).
    ///
    /// # Errors
    ///
    /// Fails if the list of plans cannot be read. A single plan that cannot be taken over is logged
    /// and left.
    pub async fn resume(&self) -> Result<Vec<PlanHandle>, StoreError> {
        self.take_over().await
    }

    /// Returns the state of a plan of this caller: of this process, or else as it is in the store.
    ///
    /// # Errors
    ///
    /// Fails if the store does.
    pub async fn stored_snapshot(
        &self,
        context: &CallContext,
        id: &str,
    ) -> Result<Option<PlanSnapshot>, StoreError> {
        let here = self.find_plan(context, id).map(|plan| plan.snapshot());
        let is_released = |plan: &PlanSnapshot| matches!(plan.state, PlanState::Released(_));
        match here {
            Some(plan) if !is_released(&plan) => Ok(Some(plan)),
            // Another process may go on with it.
            released => {
                let stored = self.read_snapshot(&Owner::of(context), id).await?;
                Ok(stored.or(released))
            }
        }
    }
}

impl fmt::Debug for Orchestrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orchestrator").finish_non_exhaustive()
    }
}

/// Cancels a plan when it is dropped. A plan that is over is not changed by it.
struct CancelOnDrop(PlanHandle);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
