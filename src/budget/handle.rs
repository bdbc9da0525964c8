use std::{fmt, sync::Arc};

use super::{
    ContextBudget, Conversation, DefinitionCost, counters, definitions::Definitions, state::Shared,
};
use crate::{McpRequest, store::StoreError};

/// Reads and changes budgets while a [`BudgetLayer`](super::BudgetLayer) serves. Cloning is one
/// reference count.
#[derive(Clone)]
pub struct BudgetHandle {
    pub(super) shared: Arc<Shared>,
}

/// Counters since the layer was made, and its current size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Tokens that conversations were charged.
    pub charged_tokens: u64,
    /// Tokens that cuts have saved.
    pub saved_tokens: u64,
    /// Results that were cut.
    pub cuts: u64,
    /// Calls that were refused, because the budget was used up or could not be read.
    pub refused: u64,
    /// Reads of kept results.
    pub reads: u64,
    /// Failures of the shared store.
    pub store_failures: u64,
    /// Conversations in the memory of this process.
    pub conversations: usize,
    /// Kept results in the memory of this process.
    pub kept_results: usize,
    /// Their bytes.
    pub kept_bytes: usize,
}

impl BudgetHandle {
    /// Returns the counters so far and the current size.
    pub fn stats(&self) -> BudgetStats {
        let shared = &self.shared;
        let of = counters::get;
        let kept = shared.kept.as_ref();
        let (kept_results, kept_bytes) = kept.map_or((0, 0), |kept| kept.usage());
        BudgetStats {
            charged_tokens: of(&shared.counters.charged),
            saved_tokens: of(&shared.counters.saved),
            cuts: of(&shared.counters.cuts),
            refused: of(&shared.counters.refused),
            reads: of(&shared.counters.reads),
            store_failures: of(&shared.counters.store_failures),
            conversations: shared.ledger.conversations(),
            kept_results,
            kept_bytes,
        }
    }

    /// Returns the conversation of a request, as it arrives at the layer. Returns `None` for a
    /// request of MCP 2026-07-28 over HTTP without a principal, unless
    /// [`conversation_by`](super::BudgetLayerBuilder::conversation_by) names one.
    pub fn conversation_of(&self, request: &McpRequest) -> Option<Conversation> {
        Conversation::of(request, self.shared.key.as_ref())
    }

    /// Returns the budget of a conversation. Tokens that calls in flight have reserved count as
    /// used.
    ///
    /// # Errors
    ///
    /// The store has failed. Without a store, there is no error.
    pub async fn budget(&self, conversation: &Conversation) -> Result<ContextBudget, StoreError> {
        self.shared.ledger.budget(conversation).await
    }

    /// Gives used tokens back, after a host has removed results from the model's context.
    ///
    /// # Errors
    ///
    /// The store has failed. Without a store, there is no error.
    pub async fn refund(&self, conversation: &Conversation, tokens: u64) -> Result<(), StoreError> {
        self.shared.ledger.refund(conversation, tokens).await
    }

    /// Begins a new window for a conversation, after a host has compacted it. Calls in flight are
    /// charged to the old window.
    ///
    /// # Errors
    ///
    /// The store has failed. Without a store, there is no error.
    pub async fn reset(&self, conversation: &Conversation) -> Result<(), StoreError> {
        self.shared.ledger.reset(conversation).await
    }

    /// Returns the costs of the definitions in the lists that have passed, the highest first. It is
    /// empty unless [definitions are counted](super::BudgetLayerBuilder::count_definitions).
    pub fn definitions(&self) -> Vec<DefinitionCost> {
        let definitions = self.shared.definitions.as_ref();
        definitions.map_or_else(Vec::new, Definitions::report)
    }
}

impl fmt::Debug for BudgetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
