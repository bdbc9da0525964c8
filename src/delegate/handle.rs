use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::{Orchestrator, layer::Shared};

/// Reads the counters of a [`DelegateLayer`](super::DelegateLayer). Cloning is cheap.
#[derive(Clone)]
pub struct DelegateHandle {
    shared: Arc<Shared>,
}

/// Counters of a layer; see [`DelegateHandle::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DelegateStats {
    /// The number of calls of the layer's tools.
    pub calls: u64,
    /// The number of plans that began, delegations of single tasks included.
    pub plans: u64,
    /// The number of calls that were refused, such as for their arguments.
    pub refused: u64,
    /// The number of calls that returned before the end of their plan, to be asked again.
    pub handed_back: u64,
    /// The number of questions of agents that were passed up to the caller of a tool.
    pub passed_up: u64,
}

impl DelegateHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the counters.
    pub fn stats(&self) -> DelegateStats {
        let counters = &self.shared.counters;
        DelegateStats {
            calls: counters.calls.load(Ordering::Relaxed),
            plans: counters.plans.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            handed_back: counters.handed_back.load(Ordering::Relaxed),
            passed_up: counters.passed_up.load(Ordering::Relaxed),
        }
    }

    /// Returns the orchestrator of the layer.
    pub fn orchestrator(&self) -> &Orchestrator {
        &self.shared.orchestrator
    }
}

impl fmt::Debug for DelegateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelegateHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
