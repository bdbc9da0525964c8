//! Answers of merged lists, page by page.

use rmcp::model::ErrorData;
use serde_json::Value;

use super::{
    gather::{Gathered, ListReport},
    list_item::{ListHead, ListItem},
    merge::{Entry, ListRules, MergedList},
    text,
};
use crate::{Error, McpResponse, caller::Era};

/// Answers one page of a merged list.
pub(in crate::gateway) fn page<T: ListItem>(
    gathered: Gathered<T>,
    cursor: Option<&str>,
    rules: &ListRules,
    era: Era,
) -> Result<McpResponse, Error> {
    let merged = gathered.merged;
    let start = match cursor {
        Some(cursor) => Cursor::read(cursor)?.position(&merged),
        None => 0,
    };
    let (mut count, mut next) = (0, None);
    let mut end = merged.entries.len();
    for (index, entry) in merged.entries.iter().enumerate().skip(start) {
        if !entry.shown {
            continue;
        }
        if count == rules.page_size {
            end = index;
            next = index
                .checked_sub(1)
                .and_then(|last| Cursor::at(&merged, last));
            break;
        }
        count += 1;
    }
    let mut meta = merged.meta.clone();
    let report = gathered.report;
    for (key, members) in [("stale", &report.stale), ("missing", &report.missing)] {
        if !members.is_empty() {
            let members = members.iter().map(|name| Value::from(&**name)).collect();
            let meta = meta.get_or_insert_default();
            meta.insert(format!("rmcp-layers/{key}"), Value::Array(members));
        }
    }
    // An incomplete list is not cached, so that the caller asks again soon.
    let ttl_ms = match report == ListReport::default() {
        true => merged.ttl_ms,
        false => merged.ttl_ms.map(|_| 0),
    };
    let head = ListHead {
        next_cursor: next,
        ttl_ms,
        cache_scope: merged.cache_scope,
        meta,
    };
    let mut response = text::response(&merged, &(start..end), head, era);
    response.extensions.insert(report);
    if let Some(private) = &merged.private {
        response.mark_private_to(private);
    }
    Ok(response)
}

/// A position in a merged list: after one item of one member. It needs no key and stays valid
/// across restarts and changes of other members.
struct Cursor {
    priority: i32,
    place: u64,
    /// The number of the member's items before the position.
    offset: usize,
    after: String,
}

impl Cursor {
    fn at<T: ListItem>(merged: &MergedList<T>, index: usize) -> Option<String> {
        let last = merged.entries.get(index)?;
        let first = merged
            .entries
            .iter()
            .position(|entry| entry.member.id == last.member.id)?;
        Some(format!(
            "{}:{}:{}:{}",
            last.member.priority,
            last.member.place,
            index + 1 - first,
            last.inner
        ))
    }

    fn read(cursor: &str) -> Result<Self, Error> {
        let mut parts = cursor.splitn(4, ':');
        let mut part = || parts.next();
        let read = (|| {
            Some(Self {
                priority: part()?.parse().ok()?,
                place: part()?.parse().ok()?,
                offset: part()?.parse().ok()?,
                after: part()?.to_owned(),
            })
        })();
        read.ok_or_else(|| ErrorData::invalid_params("Invalid cursor", None).into())
    }

    /// Returns the index at which the next page begins.
    fn position<T: ListItem>(&self, merged: &MergedList<T>) -> usize {
        let order =
            |entry: &Entry<T>| (std::cmp::Reverse(entry.member.priority), entry.member.place);
        let here = (std::cmp::Reverse(self.priority), self.place);
        let start = merged.entries.partition_point(|entry| order(entry) < here);
        let end = merged.entries.partition_point(|entry| order(entry) <= here);
        let own = merged.entries.get(start..end).unwrap_or_default();
        match own.iter().position(|entry| *entry.inner == *self.after) {
            Some(found) => start + found + 1,
            None => start + self.offset.min(own.len()),
        }
    }
}
