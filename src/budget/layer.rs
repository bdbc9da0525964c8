use std::{fmt, sync::Arc};

use tower::Layer;

use super::{Budget, BudgetHandle, BudgetLayerBuilder, ContextBudget, state::Shared};

/// Charges a conversation's context window for results, and cuts them to their share of it; see the
/// [module](super).
///
/// Clones, all stacks under them, and each [`handle`](Self::handle) share the budgets and the kept
/// results.
#[derive(Clone)]
pub struct BudgetLayer {
    pub(super) shared: Arc<Shared>,
}

impl BudgetLayer {
    /// Returns a builder with default settings, for windows of this size.
    pub fn builder(budget: ContextBudget) -> BudgetLayerBuilder {
        BudgetLayerBuilder::new(budget)
    }

    /// Returns a handle that reads and changes budgets.
    pub fn handle(&self) -> BudgetHandle {
        BudgetHandle {
            shared: self.shared.clone(),
        }
    }
}

impl<S> Layer<S> for BudgetLayer {
    type Service = Budget<S>;

    fn layer(&self, inner: S) -> Budget<S> {
        Budget::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for BudgetLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetLayer").finish_non_exhaustive()
    }
}
