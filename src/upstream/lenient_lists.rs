//! Lists, read item by item if they cannot be read whole.

use rmcp::model::{ListToolsRequest, ServerResult};
use serde::de::{DeserializeOwned, value::MapDeserializer};
use serde_json::{Map, Value};

use crate::protocol::{
    lists::WithList,
    results::{self, ResultRow},
    unreadable_items::{Listing, MAX_REPORTED, UnreadableItem, cut},
};

/// Limit of an item's fields, for the search of the field at fault: each field is tried alone.
const MAX_FIELDS: usize = 64;

/// Reads a list that rmcp found no type for, without the items that cannot be read. Returns `None`
/// if it is not a list.
pub(super) fn read(
    listing: Listing,
    answer: &Value,
) -> Option<(ServerResult, Vec<UnreadableItem>)> {
    let answer = answer.as_object()?;
    listing.kind.with_types(Page { listing, answer })
}

/// Returns the tools in a list of tools that can be read.
pub(super) fn readable_tools(answer: &Value) -> Option<ServerResult> {
    let listing = Listing::of(&ListToolsRequest::default().into())?;
    read(listing, answer).map(|(tools, _)| tools)
}

/// A page to read item by item.
struct Page<'a> {
    listing: Listing,
    answer: &'a Map<String, Value>,
}

impl WithList for Page<'_> {
    type Output = Option<(ServerResult, Vec<UnreadableItem>)>;
    fn call<T: DeserializeOwned, L: ResultRow>(self, items: &'static str) -> Self::Output {
        page::<T, L>(self.listing, self.answer, items)
    }
}

fn page<T, L>(
    listing: Listing,
    answer: &Map<String, Value>,
    key: &str,
) -> Option<(ServerResult, Vec<UnreadableItem>)>
where
    T: DeserializeOwned,
    L: ResultRow,
{
    let items = match answer.get(key)? {
        Value::Array(items) => items.as_slice(),
        // Some languages serialize an empty list as null.
        Value::Null => &[],
        _ => return None,
    };
    let (mut kept, mut left_out) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.iter().enumerate() {
        match T::deserialize(item) {
            Ok(_) => kept.push(item.clone()),
            Err(error) if left_out.len() < MAX_REPORTED => {
                left_out.push(unreadable::<T>(listing, index, item, &error.to_string()));
            }
            Err(_) => {}
        }
    }
    let mut readable = Map::new();
    let no_items = Value::Array(Vec::new());
    for (name, value) in answer.iter().filter(|(name, _)| *name != key) {
        let alone = [(key, &no_items), (name, value)].into_iter();
        match L::deserialize(MapDeserializer::<_, serde_json::Error>::new(alone)) {
            Ok(_) => drop(readable.insert(name.clone(), value.clone())),
            Err(error) => {
                let method = listing.method;
                tracing::warn!(method, field = name, %error, "a field of a list is not read");
            }
        }
    }
    readable.insert(key.to_owned(), Value::Array(kept));
    let list = L::deserialize(&Value::Object(readable)).ok()?;
    let mut list = list.into();
    // A server of a revision before 2026-07-28 does not mark it.
    results::mark_complete(&mut list);
    Some((list, left_out))
}

fn unreadable<T: DeserializeOwned>(
    listing: Listing,
    index: usize,
    item: &Value,
    error: &str,
) -> UnreadableItem {
    let fields = item.as_object();
    let named = |fields: &Map<String, Value>| {
        let keys = ["name", "uri", "uriTemplate"];
        let mut names = keys.iter().filter_map(|key| fields.get(*key)?.as_str());
        names.next().map(str::to_owned)
    };
    UnreadableItem {
        method: listing.method,
        index,
        name: fields.and_then(named).map(cut),
        field: fields
            .and_then(|fields| field_at_fault::<T>(fields, error))
            .map(cut),
        reason: cut(error.to_owned()),
    }
}

/// Returns the field without which the item could be read, or would only lack that field.
fn field_at_fault<T: DeserializeOwned>(fields: &Map<String, Value>, error: &str) -> Option<String> {
    let missing = |error: &str| {
        let name = error.strip_prefix("missing field `")?;
        name.split_once('`').map(|(name, _)| name.to_owned())
    };
    if let Some(name) = missing(error) {
        return Some(name);
    }
    if fields.len() > MAX_FIELDS {
        return None;
    }
    let mut names = fields.keys().filter(|name| {
        let others = fields.iter().filter(|(other, _)| other != name);
        let others = others.map(|(name, value)| (name.as_str(), value));
        match T::deserialize(MapDeserializer::<_, serde_json::Error>::new(others)) {
            Ok(_) => true,
            Err(error) => missing(&error.to_string()).as_ref() == Some(*name),
        }
    });
    names.next().cloned()
}
