//! Tool hints for a trusted member's own layers.

use std::{sync::Arc, time::Duration};

use rmcp::model::Tool;

use super::{
    active_member::Seat,
    listen,
    lists::{cached_list::Age, list_item::Listed},
    names::lookup::{Found, PATIENCE},
    shared::Hub,
};
use crate::{CallContext, ToolHints};

/// The intervals at which a list is fetched for its hints: after a change, and after no list came.
const AFTER_CHANGE: Duration = Duration::from_secs(1);
const AFTER_NONE: Duration = Duration::from_secs(5);

impl Hub {
    /// Returns the hints of the found tool. For a trusted member they are those of the member's
    /// list for this caller.
    ///
    /// A retry decision needs the hints when the member is already gone and cannot be asked. The
    /// first call therefore fetches the list and waits for it briefly. A list that has changed, or
    /// may have, is fetched concurrently with the call and is used until the new one arrives.
    pub(super) async fn says(&self, found: &Found, context: &CallContext) -> Option<ToolHints> {
        let seat = &found.seat;
        if seat.options.trusted != Some(true) {
            return found.says;
        }
        let class = seat.class(context);
        let list = match seat.known::<Tool>(&class) {
            Some((list, shared)) => {
                if !seat.is_fresh(&class, &list, shared, Age::Walk)
                    && seat.asks_for_hints(&class, AFTER_CHANGE)
                {
                    drop(seat.fetch::<Tool>(context, class, &self.bell));
                }
                list
            }
            None if seat.asks_for_hints(&class, AFTER_NONE) => self.first(seat, context).await?,
            None => return None,
        };
        let index = list.keys.get(&*found.inner)?;
        list.items.get(*index).and_then(Tool::hints)
    }

    async fn first(
        &self,
        seat: &Arc<Seat>,
        context: &CallContext,
    ) -> Option<Arc<super::lists::cached_list::Known<Tool>>> {
        listen::watch_member(seat, context);
        let patience = PATIENCE.min(self.rules.deadline);
        let part = seat.part::<Tool>(context, Age::Walk, self.rules.deadline, &self.bell);
        tokio::time::timeout(patience, part).await.ok()?.list
    }
}
