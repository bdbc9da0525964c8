use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use tokio::time::Instant;

use super::{live_plan::LivePlan, settings::Settings};
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
    /// The ended ones, with the times of their ends.
    ended: VecDeque<(Instant, Arc<str>)>,
}

/// The entry of a plan that runs. The plan counts as ended when it is dropped.
pub(super) struct Entry {
    table: Arc<PlanTable>,
    id: Arc<str>,
}

impl PlanTable {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            plans: Mutex::default(),
            settings,
        }
    }

    /// Adds a plan that runs, unless there are too many, or it is there already.
    pub(super) fn add(self: &Arc<Self>, plan: Arc<LivePlan>) -> Option<Entry> {
        let id = plan.id.clone();
        let mut plans = lock(&self.plans);
        self.evict(&mut plans);
        let runs_here = plans.by_id.get(&id).is_some_and(|plan| !plan.is_over());
        if plans.running >= self.settings.max_plans || runs_here {
            return None;
        }
        plans.ended.retain(|(_, ended)| *ended != id);
        plans.running += 1;
        plans.by_id.insert(id.clone(), plan);
        drop(plans);
        let table = self.clone();
        Some(Entry { table, id })
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
        plans.ended.push_back((Instant::now(), self.id.clone()));
        self.table.evict(&mut plans);
    }
}
