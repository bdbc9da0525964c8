use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::{live_plan::LivePlan, origin::Owner, settings::Settings};
use crate::util::lock;

/// The plans of this process, by id: those that run, and the last ones that have ended.
pub(super) struct PlanTable {
    plans: Mutex<Plans>,
    settings: Arc<Settings>,
}

#[derive(Default)]
struct Plans {
    by_id: HashMap<Arc<str>, Arc<LivePlan>>,
    running: usize,
    /// The number of running plans of each caller that has some.
    running_of: HashMap<Owner, usize>,
    /// The ended ones, with the times of their ends.
    ended: VecDeque<(Instant, Arc<str>)>,
}

/// The entry of a plan that runs. The plan counts as ended when it is dropped.
pub(super) struct Entry {
    table: Arc<PlanTable>,
    id: Arc<str>,
    /// The caller whose plans it is counted with.
    owner: Option<Owner>,
}

/// The reason why a plan cannot run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdded {
    /// It runs here already.
    Runs,
    TooMany,
    /// Its caller has too many.
    TooManyOfCaller,
}

impl PlanTable {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            plans: Mutex::default(),
            settings,
        }
    }

    /// Adds a plan that is submitted.
    pub(super) fn add(self: &Arc<Self>, plan: Arc<LivePlan>) -> Result<Entry, NotAdded> {
        self.insert(plan, true)
    }

    /// Adds a plan that is taken over. Its caller had a place for it before.
    pub(super) fn add_taken(self: &Arc<Self>, plan: Arc<LivePlan>) -> Result<Entry, NotAdded> {
        self.insert(plan, false)
    }

    fn insert(self: &Arc<Self>, plan: Arc<LivePlan>, is_new: bool) -> Result<Entry, NotAdded> {
        let id = plan.id.clone();
        let owner = (!plan.origin.is_process).then(|| plan.origin.owner.clone());
        let mut plans = lock(&self.plans);
        self.evict(&mut plans);
        if plans.by_id.get(&id).is_some_and(|plan| !plan.is_over()) {
            return Err(NotAdded::Runs);
        }
        if plans.running >= self.settings.max_plans {
            return Err(NotAdded::TooMany);
        }
        if let Some(owner) = &owner {
            let of_caller = plans.running_of.get(owner).copied().unwrap_or_default();
            if is_new && of_caller >= self.settings.max_plans_per_caller {
                return Err(NotAdded::TooManyOfCaller);
            }
            plans.running_of.insert(owner.clone(), of_caller + 1);
        }
        plans.ended.retain(|(_, ended)| *ended != id);
        plans.running += 1;
        plans.by_id.insert(id.clone(), plan);
        drop(plans);
        let table = self.clone();
        Ok(Entry { table, id, owner })
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<LivePlan>> {
        let mut plans = lock(&self.plans);
        self.evict(&mut plans);
        plans.by_id.get(id).cloned()
    }

    pub(super) fn runs(&self, id: &str) -> bool {
        let plans = lock(&self.plans);
        plans.by_id.get(id).is_some_and(|plan| !plan.is_over())
    }

    pub(super) fn all(&self) -> Vec<Arc<LivePlan>> {
        let mut plans = lock(&self.plans);
        self.evict(&mut plans);
        plans.by_id.values().cloned().collect()
    }

    /// Removes ended plans that are too many or too old.
    fn evict(&self, plans: &mut Plans) {
        let now = Instant::now();
        while let Some((ended, _)) = plans.ended.front() {
            let age = now.saturating_duration_since(*ended);
            let is_full = plans.ended.len() > self.settings.max_finished;
            if !is_full && age < self.settings.keep_finished {
                break;
            }
            // A plan that was released may have been taken over again, and run here.
            if let Some((_, id)) = plans.ended.pop_front()
                && plans.by_id.get(&id).is_some_and(|plan| plan.is_over())
            {
                plans.by_id.remove(&id);
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut plans = lock(&self.table.plans);
        plans.running = plans.running.saturating_sub(1);
        if let Some(owner) = &self.owner
            && let Some(running) = plans.running_of.get_mut(owner)
        {
            *running -= 1;
            if *running == 0 {
                plans.running_of.remove(owner);
            }
        }
        plans.ended.push_back((Instant::now(), self.id.clone()));
        self.table.evict(&mut plans);
    }
}
