//! Collection of the members' lists into a merged one.

use std::sync::Arc;

use futures::future::join_all;

use super::{
    fetch::Part,
    list_item::ListItem,
    list_key::ListKey,
    listed_member::{Age, ListedMember},
    merge::{ListRules, MergedList, MergedLists, merge, sources},
};
use crate::{CallContext, Error};

/// The members for which a merged list is not complete.
///
/// It is in the extensions of a list's response, and in its `_meta` under `rmcp-layers/stale` and
/// `rmcp-layers/missing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListReport {
    /// Members whose last known list was served, because they did not answer in time or failed.
    pub stale: Vec<Arc<str>>,
    /// Members without a known list: their items are left out.
    pub missing: Vec<Arc<str>>,
}

/// A merged list, and the members that are missing from it.
pub(in crate::gateway) struct Gathered<T> {
    pub(in crate::gateway) merged: Arc<MergedList<T>>,
    pub(in crate::gateway) report: ListReport,
    pub(in crate::gateway) errors: Vec<Error>,
}

/// Asks all members concurrently, and merges the lists that are known within the timeout.
pub(in crate::gateway) async fn gather<T: ListItem>(
    members: &[Arc<ListedMember>],
    key: ListKey,
    merged: &MergedLists,
    rules: &ListRules,
    context: &CallContext,
    age: Age,
) -> Gathered<T> {
    let timeout = rules.list_timeout;
    let parts = members
        .iter()
        .map(|member| member.list_part::<T>(context, age, timeout));
    let parts: Vec<Part<T>> = join_all(parts).await;
    let mut report = ListReport::default();
    for part in parts.iter().filter(|part| part.stale) {
        match part.list {
            Some(_) => report.stale.push(part.member.name.clone()),
            None => report.missing.push(part.member.name.clone()),
        }
    }
    let shareable = parts
        .iter()
        .flat_map(|part| &part.list)
        .all(|list| list.shareable);
    let cache = T::of(merged);
    let merged = cache
        .get(&key)
        .filter(|known| known.sources == sources(&parts))
        .unwrap_or_else(|| {
            let merged = Arc::new(merge(&parts, rules));
            for (name, winner, loser) in &merged.contested {
                tracing::warn!(name, %winner, %loser, "two members have one name");
            }
            if shareable {
                cache.set(key, merged.clone());
            }
            merged
        });
    Gathered {
        merged,
        report,
        errors: parts.into_iter().filter_map(|part| part.error).collect(),
    }
}
