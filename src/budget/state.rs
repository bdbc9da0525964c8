use std::sync::Arc;

use rmcp::model::Tool;

use super::{
    Conversation, ThresholdCrossed,
    conversation::ConversationKey,
    counters::{self, Counters},
    definitions::Definitions,
    fit::Fitter,
    kept::KeptResults,
    ledger::{Balance, Ledger, NotReserved, Request, Reservation},
    rules::Rules,
    tools::KnownTools,
};
use crate::{store::StoreError, util::metrics::count};

/// A function that is called when a threshold is crossed.
pub(super) type OnThreshold = Arc<dyn Fn(&ThresholdCrossed) + Send + Sync>;

/// The state of a layer, its services and its handles.
pub(super) struct Shared {
    pub ledger: Ledger,
    pub fitter: Fitter,
    pub rules: Rules,
    pub key: Option<ConversationKey>,
    /// `None`: results that were cut are not kept.
    pub kept: Option<KeptResults>,
    /// The tool that reads kept results.
    pub read_tool: Option<Tool>,
    pub page_tokens: u64,
    pub hides_output_schemas: bool,
    pub declared_result_size: Option<u64>,
    pub tools: KnownTools,
    /// `None`: definitions are not counted.
    pub definitions: Option<Definitions>,
    pub on_threshold: Option<OnThreshold>,
    pub reports_in_meta: bool,
    pub counters: Counters,
}

impl Shared {
    /// Reserves the share of a call.
    pub(super) async fn reserve(
        &self,
        conversation: Option<&Conversation>,
        request: Request,
    ) -> Result<Reservation, NotReserved> {
        let reserved = self.ledger.reserve(conversation, request).await;
        if let Err(reason) = &reserved {
            counters::add(&self.counters.refused, 1);
            let reason = match reason {
                NotReserved::Exhausted { .. } => "exhausted",
                NotReserved::TooManyConversations => "conversations",
                NotReserved::Store(error) => {
                    self.note_store_failure(error);
                    "store"
                }
            };
            count!(budget.refused, 1_u64, reason = reason);
        }
        reserved
    }

    /// Settles a reservation. Returns `None` if the store has failed; the whole share is charged
    /// then.
    pub(super) async fn settle(
        &self,
        conversation: Option<&Conversation>,
        reservation: Reservation,
        used: u64,
    ) -> Option<Balance> {
        let settled = reservation.settle(used).await;
        match settled {
            Ok(balance) => {
                self.note_charge(conversation, used, &balance);
                Some(balance)
            }
            Err(error) => {
                self.note_store_failure(&error);
                None
            }
        }
    }

    /// Counts a charge, and tells of a threshold that it has crossed.
    pub(super) fn note_charge(
        &self,
        conversation: Option<&Conversation>,
        tokens: u64,
        balance: &Balance,
    ) {
        counters::add(&self.counters.charged, tokens);
        count!(budget.charged_tokens, tokens);
        let Some(percent) = balance.crossed else {
            return;
        };
        let (used, usable) = (balance.used, balance.usable);
        let crossed = ThresholdCrossed {
            conversation: conversation.cloned(),
            percent,
            used,
            usable,
        };
        tracing::info!(
            conversation = ?conversation,
            percent,
            used,
            usable,
            "a conversation has used this part of its context window"
        );
        if let Some(on_threshold) = &self.on_threshold {
            on_threshold(&crossed);
        }
    }

    pub(super) fn note_store_failure(&self, error: &StoreError) {
        counters::add(&self.counters.store_failures, 1);
        count!(budget.store_failures, 1_u64);
        tracing::warn!(%error, "the store of the budgets failed");
    }
}
