use std::time::Duration;

use super::context::FitContext;
use crate::delegate::{plan::PlanBounds, task_store::TaskStore};

/// The settings of an orchestrator.
pub(in crate::delegate) struct Settings {
    pub(super) bounds: PlanBounds,
    pub(super) max_depth: u32,
    pub(super) max_plans: usize,
    pub(super) max_plans_per_caller: usize,
    pub(super) max_finished: usize,
    pub(super) keep_finished: Duration,
    pub(super) max_context_bytes: usize,
    pub(super) fit_context: Option<FitContext>,
    pub(super) store: Option<TaskStore>,
}
