//! Lists, read item by item if they cannot be read whole.

use rmcp::model::ServerResult;
use serde::de::{DeserializeOwned, value::MapDeserializer};
use serde_json::{Map, Value, value::RawValue};
use tokio_util::bytes::Bytes;

use super::{
    lenient,
    members::{self, Members},
};
use crate::protocol::{
    lists::WithList,
    methods::Method,
    results::ResultRow,
    unreadable_items::{MAX_REPORTED, UnreadableItem, cut},
};

/// Limit of an item's fields, for the search of the field at fault: each field is tried alone.
const MAX_FIELDS: usize = 64;

/// The members that an item is read without, if they do not fit. Other members of another type than
/// the protocol's make official clients refuse the whole list.
const OPTIONAL: &[&str] = &["annotations", "execution", "icons"];

/// A list that was read without what cannot be read.
#[derive(Debug)]
pub(super) struct ReadList {
    pub(super) result: ServerResult,
    /// The items that were left out.
    pub(super) left_out: Vec<UnreadableItem>,
    /// The member with the items.
    items: &'static str,
    /// The indices of the items that were read.
    kept: Vec<usize>,
    /// The other members that were left out.
    members_left_out: Vec<String>,
}

/// Reads a list that does not fit its method. An item is read without members that it can do
/// without. Any other item that does not fit is left out. Returns `None` if the result is not a
/// list.
pub(super) fn read(method: Method, list: &Value) -> Option<ReadList> {
    let list = list.as_object()?;
    let kind = method.row().list?;
    kind.with_types(Page { method, list })
}

/// A page to read item by item.
struct Page<'a> {
    method: Method,
    list: &'a Map<String, Value>,
}

impl WithList for Page<'_> {
    type Output = Option<ReadList>;

    fn call<T: DeserializeOwned, L: ResultRow>(self, key: &'static str) -> Option<ReadList> {
        let method = self.method.name();
        let items = match self.list.get(key)? {
            Value::Array(items) => items.as_slice(),
            // Some languages serialize an empty list as null.
            Value::Null => &[],
            _ => return None,
        };
        let (mut readable, mut kept, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            match item_of::<T>(item) {
                Ok(item) => {
                    readable.push(item);
                    kept.push(index);
                }
                Err(error) if left_out.len() < MAX_REPORTED => {
                    left_out.push(unreadable::<T>(method, index, item, &error.to_string()));
                }
                Err(_) => {}
            }
        }
        let (mut page, mut members_left_out) = (Map::new(), Vec::new());
        let no_items = Value::Array(Vec::new());
        for (name, value) in self.list.iter().filter(|(name, _)| *name != key) {
            let alone = [(key, &no_items), (name, value)].into_iter();
            match L::deserialize(MapDeserializer::<_, serde_json::Error>::new(alone)) {
                Ok(_) => drop(page.insert(name.clone(), value.clone())),
                Err(error) => {
                    tracing::warn!(method, field = name, %error, "a field of a list is not read");
                    members_left_out.push(name.clone());
                }
            }
        }
        page.insert(key.to_owned(), Value::Array(readable));
        let result = L::deserialize(&Value::Object(page)).ok()?.into();
        Some(ReadList {
            result,
            left_out,
            items: key,
            kept,
            members_left_out,
        })
    }
}

/// Returns an item without the members that do not fit, if it can be read without them.
fn item_of<T: DeserializeOwned>(item: &Value) -> serde_json::Result<Value> {
    let whole = match T::deserialize(item) {
        Ok(_) => return Ok(item.clone()),
        Err(error) => error,
    };
    let mut item = item.clone();
    match lenient::read_without_members::<T>(&mut item, OPTIONAL) {
        Ok(_) => Ok(item),
        Err(_) => Err(whole),
    }
}

impl ReadList {
    /// Returns the text of the list without what was left out.
    pub(super) fn text(&self, came: &Bytes) -> Option<Bytes> {
        let members: Members<'_> = serde_json::from_slice(came).ok()?;
        let all: Option<Vec<&RawValue>> =
            serde_json::from_str(members.get(self.items)?.get()).ok()?;
        let mut items = vec![b'['];
        for (position, index) in self.kept.iter().enumerate() {
            if position > 0 {
                items.push(b',');
            }
            items.extend_from_slice(all.as_ref()?.get(*index)?.get().as_bytes());
        }
        items.push(b']');
        let items: &RawValue = serde_json::from_slice(&items).ok()?;
        let kept = members
            .0
            .iter()
            .filter(|(name, _)| !self.members_left_out.iter().any(|left| left == name));
        let kept = kept.map(|(name, value)| match name == self.items {
            true => (&**name, items),
            false => (&**name, *value),
        });
        let mut out = Vec::with_capacity(came.len());
        members::write(&mut out, kept).ok()?;
        Some(out.into())
    }
}

fn unreadable<T: DeserializeOwned>(
    method: &'static str,
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
        method,
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
