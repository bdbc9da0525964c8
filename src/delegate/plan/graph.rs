use std::{collections::HashMap, sync::Arc};

use petgraph::{algo::tarjan_scc, graph::DiGraph};

use super::{MAX_ID_BYTES, Plan, PlanError, Task, retries};

/// The bounds of the plans of an orchestrator.
#[derive(Clone, Copy, Debug)]
pub(in crate::delegate) struct PlanBounds {
    pub(in crate::delegate) max_tasks: usize,
    /// Maximum number of tasks in a chain of dependencies.
    pub(in crate::delegate) max_chain: usize,
}

/// The dependencies of a valid plan. Tasks are named by their index.
#[derive(Clone, Debug)]
pub(in crate::delegate) struct Graph {
    index: HashMap<Arc<str>, u32>,
    /// The dependencies of all tasks, one task after another, and the place of the first of each.
    dependencies: Vec<u32>,
    dependencies_from: Vec<u32>,
    /// The same for the tasks that depend on each.
    dependents: Vec<u32>,
    dependents_from: Vec<u32>,
}

impl Graph {
    /// Validates a plan.
    pub(in crate::delegate) fn of(plan: &Plan, bounds: PlanBounds) -> Result<Self, PlanError> {
        let tasks = &plan.tasks;
        if tasks.is_empty() {
            return Err(PlanError::Empty);
        }
        let max = bounds.max_tasks.min(u32::MAX as usize);
        if tasks.len() > max {
            let given = tasks.len();
            return Err(PlanError::TooManyTasks { given, max });
        }
        let mut index = HashMap::with_capacity(tasks.len());
        for (number, task) in tasks.iter().enumerate() {
            check_options(task)?;
            if index.insert(task.id.clone(), number as u32).is_some() {
                let id = task.id.clone();
                return Err(PlanError::DuplicateId { id });
            }
        }
        check_limits(plan)?;
        let graph = Self::connect(tasks, index)?;
        graph.check_chains(tasks, bounds.max_chain)?;
        Ok(graph)
    }

    fn connect(tasks: &[Task], index: HashMap<Arc<str>, u32>) -> Result<Self, PlanError> {
        let mut dependencies = Vec::new();
        let mut dependencies_from = Vec::with_capacity(tasks.len() + 1);
        dependencies_from.push(0);
        let mut own = Vec::new();
        for task in tasks {
            own.clear();
            for dependency in task.dependencies() {
                let found = index.get(dependency);
                own.push(*found.ok_or_else(|| PlanError::UnknownDependency {
                    task: task.id.clone(),
                    dependency: dependency.clone(),
                })?);
            }
            // The same dependency may be given twice.
            own.sort_unstable();
            own.dedup();
            dependencies.extend_from_slice(&own);
            dependencies_from.push(dependencies.len() as u32);
        }
        let mut graph = Self {
            index,
            dependencies,
            dependencies_from,
            dependents: Vec::new(),
            dependents_from: Vec::new(),
        };
        graph.reverse(tasks.len());
        Ok(graph)
    }

    /// Computes the dependents from the dependencies.
    fn reverse(&mut self, count: usize) {
        let mut from = vec![0_u32; count + 1];
        for dependency in &self.dependencies {
            from[*dependency as usize + 1] += 1;
        }
        for task in 0..count {
            from[task + 1] += from[task];
        }
        let mut next = from.clone();
        self.dependents = vec![0; self.dependencies.len()];
        for task in 0..count as u32 {
            let dependencies = range(&self.dependencies_from, task);
            for dependency in &self.dependencies[dependencies] {
                let place = &mut next[*dependency as usize];
                self.dependents[*place as usize] = task;
                *place += 1;
            }
        }
        self.dependents_from = from;
    }

    /// Finds cycles and the longest chain.
    fn check_chains(&self, tasks: &[Task], max: usize) -> Result<(), PlanError> {
        let count = tasks.len();
        let mut waiting: Vec<usize> = (0..count as u32)
            .map(|task| self.dependencies(task).len())
            .collect();
        let mut depth = vec![1_usize; count];
        let mut done: Vec<u32> = (0..count as u32)
            .filter(|task| waiting[*task as usize] == 0)
            .collect();
        let mut next = 0;
        while let Some(&task) = done.get(next) {
            next += 1;
            let own = depth[task as usize];
            for &dependent in self.dependents(task) {
                let dependent = dependent as usize;
                depth[dependent] = depth[dependent].max(own + 1);
                waiting[dependent] -= 1;
                if waiting[dependent] == 0 {
                    done.push(dependent as u32);
                }
            }
        }
        if done.len() < count {
            return Err(self.cycle(tasks));
        }
        match depth.into_iter().max() {
            Some(depth) if depth > max => Err(PlanError::ChainTooLong { depth, max }),
            _ => Ok(()),
        }
    }

    /// Names the first cycle.
    fn cycle(&self, tasks: &[Task]) -> PlanError {
        let edges = (0..tasks.len() as u32).flat_map(|task| {
            let dependencies = self.dependencies(task).iter();
            dependencies.map(move |dependency| (*dependency, task))
        });
        let graph = DiGraph::<(), (), u32>::from_edges(edges);
        let is_cycle = |members: &Vec<petgraph::graph::NodeIndex<u32>>| match members[..] {
            [only] => self
                .dependencies(only.index() as u32)
                .contains(&(only.index() as u32)),
            _ => true,
        };
        let mut members: Vec<usize> = tarjan_scc(&graph)
            .into_iter()
            .filter(is_cycle)
            .map(|members| members.into_iter().map(|member| member.index()).collect())
            .min_by_key(Vec::len)
            .unwrap_or_default();
        members.sort_unstable();
        PlanError::Cycle {
            tasks: members
                .into_iter()
                .filter_map(|member| Some(tasks.get(member)?.id.clone()))
                .collect(),
        }
    }

    /// Returns the number of tasks.
    pub(in crate::delegate) fn len(&self) -> usize {
        self.dependencies_from.len() - 1
    }

    pub(in crate::delegate) fn find(&self, id: &str) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// Returns the tasks that must end before this one starts, in the order of the plan.
    pub(in crate::delegate) fn dependencies(&self, task: u32) -> &[u32] {
        &self.dependencies[range(&self.dependencies_from, task)]
    }

    /// Returns the tasks that start after this one.
    pub(in crate::delegate) fn dependents(&self, task: u32) -> &[u32] {
        &self.dependents[range(&self.dependents_from, task)]
    }
}

fn range(from: &[u32], task: u32) -> std::ops::Range<usize> {
    let task = task as usize;
    from[task] as usize..from[task + 1] as usize
}

fn check_limits(plan: &Plan) -> Result<(), PlanError> {
    let invalid = |option, reason| Err(PlanError::InvalidLimit { option, reason });
    if plan.limits.max_time.is_some_and(|time| time.is_zero()) {
        return invalid("max_time", "is zero; give the plan some time");
    }
    if plan.limits.max_tokens == Some(0) {
        return invalid("max_tokens", "is zero; give the plan some tokens");
    }
    let is_cost = |cost: f64| cost.is_finite() && cost >= 0.0;
    if plan.limits.max_cost.is_some_and(|cost| !is_cost(cost)) {
        return invalid("max_cost", "is not a number from 0 on; give one");
    }
    let shares: f64 = plan.tasks.iter().filter_map(|task| task.budget_share).sum();
    if shares > 1.0 + 1e-9 {
        return invalid(
            "budget_share",
            "of all tasks together is more than 1; give smaller shares",
        );
    }
    Ok(())
}

fn check_options(task: &Task) -> Result<(), PlanError> {
    let invalid = |option, reason| {
        Err(PlanError::InvalidOption {
            task: task.id.clone(),
            option,
            reason,
        })
    };
    let is_name = |name: &str| (1..=MAX_ID_BYTES).contains(&name.len());
    let are_names = |name: &Option<Arc<str>>| name.as_deref().is_none_or(is_name);
    if !is_name(&task.id) || task.id.chars().any(char::is_control) {
        let reason = "must have 1 to 128 bytes and no control characters";
        return invalid("id", reason);
    }
    if task.description.trim().is_empty() {
        return invalid("description", "is empty; say what is to be done");
    }
    if !are_names(&task.capability) {
        return invalid("capability", "must have 1 to 128 bytes, or be left out");
    }
    if !are_names(&task.assigned_to) {
        return invalid("assigned_to", "must have 1 to 128 bytes, or be left out");
    }
    if task.deadline.is_some_and(|deadline| deadline.is_zero()) {
        return invalid("deadline", "is zero; give the task some time");
    }
    if task.retries.max > retries::MOST {
        return invalid("retries", "are too many; give at most 100");
    }
    if task
        .budget_share
        .is_some_and(|share| !(share > 0.0 && share <= 1.0))
    {
        return invalid("budget_share", "must be more than 0 and at most 1");
    }
    if task.thread.is_some() && task.assigned_to.is_none() {
        return invalid("thread", "belongs to one agent; name it by `assigned_to`");
    }
    if task.thread.is_some() && task.follows.is_some() {
        return invalid("thread", "and `follow_up_of` are both given; give one");
    }
    Ok(())
}
