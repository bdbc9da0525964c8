//! The lists that are known without waiting long for the members.

use std::{sync::Arc, time::Duration};

use crate::CallContext;
use crate::gateway::{
    active_members::ActiveMembers,
    lists::{
        list_item::ListItem,
        listed_member::{Age, ListedMember},
        merge::MergedList,
    },
    shared::Shared,
};

/// The time that an unknown name waits for lists that are not cached. After that it is answered
/// without them.
pub(in crate::gateway) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

impl Shared {
    /// Returns the merged list that is known. A member without a cached list is asked for one,
    /// briefly, and not again while a list would be valid. Unknown names therefore do not cause a
    /// request each.
    pub(super) async fn known_lists<T: ListItem>(
        &self,
        members: &ActiveMembers,
        context: &CallContext,
    ) -> Option<Arc<MergedList<T>>> {
        let key = members.list_key(context);
        let merged = T::of(&self.merged).get(&key);
        let (mut known, mut missing) = (Vec::new(), Vec::new());
        for member in &members.list {
            if member.cached::<T>(&member.list_key(context)).is_some() {
                known.push(member.clone());
            } else if member.begin_suggestion_fetch::<T>(context) {
                missing.push(member.clone());
            }
        }
        if missing.is_empty() && (merged.is_some() || known.is_empty()) {
            return merged;
        }
        // It is kept apart from the merged lists, by which calls are routed, because it may be
        // incomplete.
        let merge = |of: Vec<Arc<ListedMember>>| {
            let key = key.clone();
            async move {
                let gathered = self.gather_into::<T>(&self.partial, &of, key, context, Age::Any);
                gathered.await.merged
            }
        };
        if !missing.is_empty() {
            let all = missing.into_iter().chain(known.iter().cloned()).collect();
            let timeout = LOOKUP_TIMEOUT.min(self.rules.list_timeout);
            if let Ok(found) = tokio::time::timeout(timeout, merge(all)).await {
                return Some(found);
            }
        }
        match merged {
            Some(merged) => Some(merged),
            None => Some(merge(known).await),
        }
    }
}
