//! What a trusted member's layers are told of the tool that is called.

use std::{sync::Arc, time::Duration};

use rmcp::model::Tool;

use super::{
    find::{Found, PATIENCE},
    hub::Hub,
    known::Age,
    listed::Listed,
    notices,
    seat::Seat,
};
use crate::{CallContext, ToolHints};

/// How often a list is fetched for its hints, after it has changed or where none came.
const AFTER_CHANGE: Duration = Duration::from_secs(1);
const AFTER_NONE: Duration = Duration::from_secs(5);

impl Hub {
    /// What the found tool says of itself. Where the member is trusted, that is by the member's list for this
    /// caller: whether a call may be repeated is decided when the member is gone, and cannot be asked then. So
    /// the first call has the list fetched, and waits for it briefly; one that has changed, or may have, is
    /// fetched beside the call and holds until the new one is there.
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
    ) -> Option<Arc<super::known::Known<Tool>>> {
        notices::watch_member(seat, context);
        let patience = PATIENCE.min(self.rules.deadline);
        let part = seat.part::<Tool>(context, Age::Walk, self.rules.deadline, &self.bell);
        tokio::time::timeout(patience, part).await.ok()?.list
    }
}
