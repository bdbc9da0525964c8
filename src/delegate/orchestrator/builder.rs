use std::{fmt, sync::Arc, time::Duration};

use super::{
    Orchestrator,
    context::{FitContext, TaskContext},
    settings::Settings,
};
use crate::{
    ConfigError,
    delegate::{plan::PlanBounds, task_store::TaskStore},
    store::Store,
};

/// Builds an [`Orchestrator`].
#[must_use = "call `build` to make the orchestrator"]
pub struct OrchestratorBuilder {
    max_agents: usize,
    max_waiting: usize,
    max_tasks: usize,
    max_chain: usize,
    max_depth: u32,
    max_plans: usize,
    max_plans_per_caller: usize,
    max_finished: usize,
    keep_finished: Duration,
    max_context_bytes: usize,
    fit_context: Option<FitContext>,
    store: Option<Arc<dyn Store>>,
    name: String,
    store_timeout: Duration,
    keep_stored: Duration,
    lease: Duration,
}

impl Default for OrchestratorBuilder {
    fn default() -> Self {
        Self {
            max_agents: 1_000,
            max_waiting: 100_000,
            max_tasks: 10_000,
            max_chain: 1_000,
            max_depth: 5,
            max_plans: 1_000,
            max_plans_per_caller: 100,
            max_finished: 1_000,
            keep_finished: Duration::from_secs(3_600),
            max_context_bytes: 256 * 1024,
            fit_context: None,
            store: None,
            name: "default".to_owned(),
            store_timeout: Duration::from_secs(1),
            keep_stored: Duration::from_secs(7 * 24 * 3_600),
            lease: Duration::from_secs(30),
        }
    }
}

impl OrchestratorBuilder {
    /// Sets the maximum number of registered agents. Default: 1,000.
    pub fn max_agents(mut self, agents: usize) -> Self {
        self.max_agents = agents;
        self
    }

    /// Sets the maximum number of tasks of all plans that wait for an agent. A further one fails.
    /// Default: 100,000.
    pub fn max_waiting(mut self, tasks: usize) -> Self {
        self.max_waiting = tasks;
        self
    }

    /// Sets the maximum number of tasks of a plan. Default: 10,000.
    pub fn max_tasks(mut self, tasks: usize) -> Self {
        self.max_tasks = tasks;
        self
    }

    /// Sets the maximum number of tasks in a chain of dependencies. Default: 1,000.
    pub fn max_chain(mut self, tasks: usize) -> Self {
        self.max_chain = tasks;
        self
    }

    /// Sets the maximum number of delegations in a row, from agent to agent. Default: 5.
    ///
    /// A request names the delegations that have led to it in `_meta`.
    pub fn max_depth(mut self, delegations: u32) -> Self {
        self.max_depth = delegations;
        self
    }

    /// Sets the maximum number of plans that run at the same time in this orchestrator, whichever
    /// others share its store. A further one is refused. Default: 1,000.
    pub fn max_plans(mut self, plans: usize) -> Self {
        self.max_plans = plans;
        self
    }

    /// Sets the maximum number of plans of one caller that run at the same time in this
    /// orchestrator, so that it leaves places for others. A further one is refused. Default: 100.
    ///
    /// Callers are told apart as in [`Orchestrator::find_plan`]. Plans of the process itself, such
    /// as by [`Orchestrator::run_plan`], are counted only by [`max_plans`](Self::max_plans).
    pub fn max_plans_per_caller(mut self, plans: usize) -> Self {
        self.max_plans_per_caller = plans;
        self
    }

    /// Sets the maximum number of plans that are kept after their end, for handles to be found. The
    /// one that ended first is forgotten first. Default: 1,000.
    pub fn max_finished(mut self, plans: usize) -> Self {
        self.max_finished = plans;
        self
    }

    /// Sets the time that a plan is kept after its end. Default: 1 h.
    pub fn keep_finished(mut self, time: Duration) -> Self {
        self.keep_finished = time;
        self
    }

    /// Sets the maximum length of the context that a task receives. Longer results of dependencies
    /// are cut to equal parts. Default: 256 KiB.
    pub fn max_context_bytes(mut self, bytes: usize) -> Self {
        self.max_context_bytes = bytes;
        self
    }

    /// Sets the function that makes the context of a task from the results of its dependencies, in
    /// place of [`TaskContext::to_text`]. It runs on the runtime's threads, so it must be short.
    pub fn fit_context(
        mut self,
        fit: impl Fn(&TaskContext<'_>) -> String + Send + Sync + 'static,
    ) -> Self {
        self.fit_context = Some(Arc::new(fit));
        self
    }

    /// Sets the store that plans are kept in, so that another process can take them over by
    /// [`Orchestrator::resume`]. Default: none; plans are in the memory of the process.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets the name of the orchestrators that share the plans of a store. Default: `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the maximum time for a reply of the store. Default: 1 s.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// Sets the time that a plan is kept in the store, from its submission on. A plan that runs for
    /// longer cannot be taken over. Default: 7 days.
    pub fn keep_stored(mut self, time: Duration) -> Self {
        self.keep_stored = time;
        self
    }

    /// Sets the time after which the plans of an orchestrator that has died can be taken over.
    /// Default: 30 s.
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = time;
        self
    }

    /// Returns the orchestrator.
    ///
    /// # Errors
    ///
    /// Fails if a limit is zero, or if the name is empty or contains a colon.
    pub fn build(self) -> Result<Orchestrator, ConfigError> {
        let error = |option, reason| Err(ConfigError::new("delegate", option, reason));
        let limits = [
            ("max_agents", self.max_agents),
            ("max_waiting", self.max_waiting),
            ("max_tasks", self.max_tasks),
            ("max_chain", self.max_chain),
            ("max_depth", self.max_depth as usize),
            ("max_plans", self.max_plans),
            ("max_plans_per_caller", self.max_plans_per_caller),
            ("max_context_bytes", self.max_context_bytes),
        ];
        if let Some((option, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return error(option, "it is zero; give at least 1");
        }
        if self.name.is_empty() || self.name.contains(':') {
            return error("name", "it is empty or contains a colon; give another one");
        }
        for (option, time) in [
            ("store_timeout", self.store_timeout),
            ("keep_stored", self.keep_stored),
        ] {
            if time.is_zero() {
                return error(option, "it is zero; give at least 1 ms");
            }
        }
        if self.lease < Duration::from_millis(100) {
            return error("lease", "it is too short; give at least 100 ms");
        }
        let name = self.name;
        let store = self.store.map(|store| TaskStore {
            store,
            name: name.into(),
            patience: self.store_timeout,
            keep: self.keep_stored,
            lease: self.lease,
        });
        let settings = Settings {
            bounds: PlanBounds {
                max_tasks: self.max_tasks,
                max_chain: self.max_chain,
            },
            max_depth: self.max_depth,
            max_plans: self.max_plans,
            max_plans_per_caller: self.max_plans_per_caller,
            max_finished: self.max_finished,
            keep_finished: self.keep_finished,
            max_context_bytes: self.max_context_bytes,
            fit_context: self.fit_context,
            store,
        };
        Ok(Orchestrator::new(
            settings,
            self.max_agents,
            self.max_waiting,
        ))
    }
}

impl fmt::Debug for OrchestratorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrchestratorBuilder")
            .finish_non_exhaustive()
    }
}
